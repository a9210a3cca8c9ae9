"""One table for everything that could decide: this version, others, rules alone, the fallback, a vendor, a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import rfc8785

from nbkit.contract import Contract
from nbkit.errors import UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._champion import fetch, verified_champion
from nbkit.lifecycle._contenders import (
    Vendor,
    names_are_plain,
    object_contender,
    vendor_contender,
    version_contender,
    without_the_model,
)
from nbkit.lifecycle._decisions import service_decisions
from nbkit.lifecycle._judge import packaged
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, Table, View, plain
from nbkit.registry import Registry
from nbkit.serve import Rules
from nbkit.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nbkit.evaluate import CaseSet, Contender, ContenderResult, Estimate, Judged
    from nbkit.package import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Result):
    """Everything that could decide, on the same cases."""

    name: str
    run_id: str
    case_set: str
    cases: int
    currency: str
    review_capacity: float
    contenders: tuple[ContenderResult, ...]

    @property
    def workable(self) -> tuple[ContenderResult, ...]:
        """Those that refer no more than people can look at, or than this version: others are cheap on paper only."""
        most = max(self.review_capacity, self.contenders[0].referred.value)
        return tuple(one for one in self.contenders if one.referred.value <= most)

    def view(self) -> View:
        """Return what a person is shown."""
        cheapest = min(self.workable, key=lambda one: one.cost.value)
        rows = tuple(
            (
                one.name,
                shown(one.auc, digits=3),
                shown(one.cost, digits=2),
                shown(one.cost_difference, digits=2, signed=True),
                f"{one.approved.value:.1%}",
                f"{one.referred.value:.1%}",
                f"{one.declined.value:.1%}",
                f"{one.wrong:,}",
                one.note if one in self.workable else f"refers more than people can look at; {one.note}",
            )
            for one in self.contenders
        )
        columns = ("", "AUC", "cost per case", "less this version", "approved", "referred", "declined", "wrong", "note")
        return View(
            headline=f"{self.name}: {cheapest.name} costs least, {cheapest.cost.value:,.2f} {self.currency} per case",
            facts=[("judged on", f"{self.cases:,} cases of {self.case_set}"), ("run", self.run_id)],
            tables=[Table(columns=columns, rows=rows)],
            next_step=f"nbkit evaluate {self.name}",
        )


def shown(estimate: Estimate | None, *, digits: int, signed: bool = False) -> str:
    """Write a figure with its interval; nothing for None."""
    if estimate is None:
        return ""
    sign = "+" if signed else ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{sign},.{digits}f}"
    ends = f"{estimate.low:{sign},.{digits}f} to {estimate.high:{sign},.{digits}f}"
    return f"{estimate.value:{sign},.{digits}f} ({ends})"


def compare(
    use_case: UseCase,
    *,
    settings: Settings,
    now: datetime,
    run_id: str = "",
    versions: Sequence[int] = (),
    vendors: Mapping[str, Vendor] | None = None,
    objects: Mapping[str, object] | None = None,
    model_uris: Sequence[str] = (),
    run_code: bool = False,
    seed: int = 0,
) -> Compared:
    """Put the latest package and everything else that could decide into one table, on the frozen cases.

    Parameters
    ----------
    use_case : UseCase
        Whose latest package.
    settings : Settings
        Where MLflow and the trust file are.
    now : datetime
        Aware.
    run_id : str
        Of another run than the latest.
    versions : sequence of int
        Registered versions; the champion is compared without being named.
    vendors : mapping, optional
        Scores that somebody sells, by name; each decides at this version's own rates.
    objects : mapping, optional
        A Series of scores by id, a fitted estimator or a function of the inputs, by name.
    model_uris : sequence of str
        MLflow models. Loading one runs code out of its files.
    run_code : bool
        Whether that is wanted.
    seed : int
        Of every resample.

    Returns
    -------
    Compared
        This version first; also written to the run as ``comparison.json``.

    Raises
    ------
    UsageError
        There is no package; a contender does not answer for every case; an MLflow model without ``run_code``.
    CaseSetError, EvaluationError, RegistryError
        The cases, a score or a model cannot be used.
    """
    from nbkit.evaluate import judge_cases, load_cases

    if model_uris and not run_code:
        raise UsageError(
            f"compare: loading {model_uris[0]} runs code out of its files", next_step="add --run-code if you trust them"
        )
    contract = use_case.contract
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    candidate = packaged(build, contract.name)
    cases = load_cases(use_case.directory, contract=contract)
    decide_all = service_decisions(candidate, rules=Rules.from_package(candidate))
    judged = judge_cases(candidate, cases=cases, decide_all=decide_all).judged
    names_are_plain([*(vendors or {}), *(objects or {}), *model_uris])
    found = _registered(contract.name, candidate, cases, versions=versions, settings=settings, now=now)
    found += without_the_model(candidate, cases)
    for name, vendor in (vendors or {}).items():
        found.append(vendor_contender(name, vendor, cases=cases, entity=contract.entity, like=judged.decisions))
    for name, thing in (objects or {}).items():
        found.append(object_contender(name, thing, cases=cases, like=judged.decisions))
    found += _loaded(model_uris, cases, like=judged.decisions, settings=settings)
    result = Compared(
        name=contract.name,
        run_id=build.run_id,
        case_set=cases.reference,
        cases=len(cases),
        currency=contract.decision.costs.currency,
        review_capacity=contract.decision.review_capacity,
        contenders=_contend(judged, found, digest=candidate.digest, cases=cases, contract=contract, seed=seed),
    )
    path = build.directory / "comparison.json"
    write_atomically(path, content=rfc8785.dumps(plain(result.as_json())))
    Registry(settings).log_file(build.run_id, path)
    return result


def _registered(
    name: str, candidate: Package, cases: CaseSet, *, versions: Sequence[int], settings: Settings, now: datetime
) -> list[Contender]:
    """Return the champion, unless it is this very package or named, and then the versions that are named."""
    found = []
    champion = verified_champion(name, settings=settings, now=now)
    if champion is not None and champion.package.digest != candidate.digest and champion.version not in versions:
        shown_as = f"version {champion.version}, the champion"
        found.append(version_contender(champion.version, champion.package, cases=cases, name=shown_as))
    for version in versions:
        other = fetch(name, version=version, settings=settings)
        found.append(version_contender(version, other, cases=cases))
    return found


def _loaded(
    model_uris: Sequence[str], cases: CaseSet, *, like: NDArray[np.int64], settings: Settings
) -> list[Contender]:
    """Return MLflow models, each deciding at the rates of ``like``; this runs code out of their files."""
    from nbkit.evaluate import at_equal_rates
    from nbkit.registry import score_model_uri

    return [
        at_equal_rates(uri, score_model_uri(uri, cases.rows, settings=settings), like=like, kind="mlflow")
        for uri in model_uris
    ]


def _contend(
    judged: Judged, contenders: Sequence[Contender], *, digest: str, cases: CaseSet, contract: Contract, seed: int
) -> tuple[ContenderResult, ...]:
    import numpy as np

    from nbkit.evaluate import case_money, contend

    return contend(
        judged,
        contenders,
        name="this version",
        digest=digest,
        money=case_money(cases, contract=contract),
        confidence=contract.evaluate.confidence,
        resamples=contract.evaluate.resamples,
        rng=np.random.default_rng(seed),
    )
