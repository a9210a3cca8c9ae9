"""A package and its frozen cases, scored once: what every part of an evaluation is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.evaluate._against import Against, against_champion
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._contenders import Contender, ContenderResult, contend
from nbkit.evaluate._curves import Curves, confusion_of, curves_of
from nbkit.evaluate._decide import Decide, DecideAll, Scored, decisions_of
from nbkit.evaluate._fair_measures import disparities_of
from nbkit.evaluate._fairness import AttributeResult, fairness_of
from nbkit.evaluate._golden import GoldenCase
from nbkit.evaluate._judge_cases import case_money, judge, pinned
from nbkit.evaluate._metrics import Judged, Metric, Terms, measure
from nbkit.evaluate._plugged import plugged_metrics
from nbkit.evaluate._result import CaseSetFacts, EvaluationResult, GoldenResult
from nbkit.evaluate._search import SliceSearch, search_slices
from nbkit.evaluate._slices import Part, SliceResult, parts_of, slice_results


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every part reads; one stream of random numbers, so the parts are computed in one order.

    Parameters
    ----------
    package : Scored
        What is judged.
    cases : CaseSet
        Those that the contract pins.
    judged : Judged
        Scores, labels, decisions and costs of the cases.
    money : numpy.ndarray
        What each decision on each case loses.
    terms : Terms
        Of the contract.
    parts : tuple of Part
        The declared slices.
    rng : numpy.random.Generator
        Of every resample.
    """

    package: Scored
    cases: CaseSet
    judged: Judged
    money: NDArray[np.float64]
    terms: Terms
    parts: tuple[Part, ...]
    rng: np.random.Generator

    @classmethod
    def of(cls, package: Scored, *, cases: CaseSet, decide_all: DecideAll | None, rng: np.random.Generator) -> Self:
        """Score and decide the cases."""
        contract = package.contract
        money = case_money(cases, contract=contract)
        return cls(
            package=package,
            cases=cases,
            judged=judge(package, cases, money=money, decide_all=decide_all),
            money=money,
            terms=Terms.of(contract),
            parts=parts_of(cases.frame, columns=contract.evaluate.slices),
            rng=rng,
        )

    @property
    def contract(self) -> Contract:
        """That of the package."""
        return self.package.contract

    def metrics(self, *, step: Callable[[float], None]) -> tuple[Metric, ...]:
        """Measure nbkit's figures, and those of plug-ins that the contract names."""
        metrics = measure(self.judged, terms=self.terms, rng=self.rng, step=step)
        return metrics + plugged_metrics(
            self.judged,
            names=self.contract.evaluate.metrics,
            taken=[metric.name for metric in metrics],
            confidence=self.terms.confidence,
            resamples=self.terms.resamples,
            rng=self.rng,
        )

    def alone(self) -> Against:
        """Return the comparison where there is no champion."""
        return Against(on_slices=(None,) * len(self.parts))

    def against(
        self,
        champion: Scored,
        *,
        version: int,
        golden: Sequence[GoldenCase],
        golden_failed: tuple[str, ...],
        decide: Decide | None,
        decide_all: DecideAll | None,
    ) -> Against:
        """Score the champion on the same cases, and compare."""
        return against_champion(
            self.judged,
            champion,
            version=version,
            cases=self.cases,
            contract=self.contract,
            parts=self.parts,
            golden=golden,
            golden_failed=golden_failed,
            money=self.money,
            terms=self.terms,
            rng=self.rng,
            decide=decide,
            decide_all=decide_all,
        )

    def result(
        self,
        *,
        metrics: tuple[Metric, ...],
        golden: tuple[GoldenResult, ...],
        against: Against,
        contenders: Sequence[Contender],
        seed: int,
    ) -> EvaluationResult:
        """Compute what is left, and put everything together."""
        contract, judged, limits = self.contract, self.judged, self.package.thresholds
        return EvaluationResult(
            model=contract.name,
            title=contract.title,
            target=contract.target.meaning,
            package_digest=self.package.digest,
            contract_digest=contract.digest,
            currency=contract.decision.costs.currency,
            refer=limits.refer,
            decline=limits.decline,
            review_capacity=contract.decision.review_capacity,
            confidence=self.terms.confidence,
            seed=seed,
            case_set=self._case_set(),
            metrics=metrics,
            confusion=confusion_of(judged.decisions, judged.labels),
            curves=self._curves(),
            slices=self._slices(against, metrics=metrics),
            golden=golden,
            champion=against.comparison,
            impact_ratio_floor=contract.fairness.impact_ratio_floor,
            fairness=self._fairness(),
            disparities=disparities_of(judged, self.cases.frame, contract=contract),
            search=self._search(champion=against.theirs),
            ruled=int((judged.decisions != decisions_of(judged.scores, thresholds=limits)).sum()),
            alternatives={},
            contenders=self._table(contenders) if contenders else (),
        )

    def _case_set(self) -> CaseSetFacts:
        return CaseSetFacts(
            reference=self.cases.reference,
            digest=self.cases.digest,
            pinned=pinned(self.contract),
            cases=len(self.cases),
            positives=int(self.cases.labels.sum()),
        )

    def _curves(self) -> Curves:
        return curves_of(
            self.judged.scores,
            self.judged.labels,
            thresholds=self.package.thresholds,
            money=self.money,
            review_capacity=self.contract.decision.review_capacity,
            confidence=self.terms.confidence,
        )

    def _slices(self, against: Against, *, metrics: Sequence[Metric]) -> tuple[SliceResult, ...]:
        area = next(metric.value for metric in metrics if metric.name == "auc")
        return slice_results(
            self.judged, self.parts, comparisons=against.on_slices, overall=area, terms=self.terms, rng=self.rng
        )

    def _fairness(self) -> tuple[AttributeResult, ...]:
        return fairness_of(
            self.judged,
            self.cases.frame,
            attributes=self.contract.protected,
            limits=self.contract.fairness,
            confidence=self.terms.confidence,
        )

    def _search(self, *, champion: Judged | None) -> SliceSearch | None:
        contract = self.contract
        return search_slices(
            self.judged,
            self.cases.frame,
            columns=[*(column.name for column in contract.inputs), *(column.name for column in contract.protected)],
            champion=champion,
            depth=contract.evaluate.search_depth,
            minimum=contract.evaluate.minimum_slice,
            confidence=contract.evaluate.confidence,
        )

    def _table(self, contenders: Sequence[Contender]) -> tuple[ContenderResult, ...]:
        return contend(
            self.judged,
            contenders,
            name="this version",
            digest=self.package.digest,
            money=self.money,
            confidence=self.terms.confidence,
            resamples=self.terms.resamples,
            rng=self.rng,
        )
