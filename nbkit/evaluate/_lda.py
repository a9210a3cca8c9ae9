"""Search for less discriminatory alternatives, on rows apart from those that will judge the version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract, Thresholds
from nbkit.errors import EvaluationError
from nbkit.evaluate._bootstrap import mean_difference
from nbkit.evaluate._costs import money_of
from nbkit.evaluate._decide import APPROVE, costs_of, decisions_of
from nbkit.evaluate._delong import Estimate, auc
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._fairness import impact_ratio
from nbkit.evaluate._freeze import group_name
from nbkit.evaluate._lda_candidates import LdaCandidate, candidates_of, prepared, silenced
from nbkit.evaluate._lda_ledger import LdaEntry, LdaGroup, LdaLedger
from nbkit.evaluate._proxy import ProxyResult, proxies_of
from nbkit.evaluate._threshold import choose_thresholds

Progress = Callable[[float, str], None]

_FOLDS = 5
_RESAMPLES = 1000
# By how much of the rows approvals grow when the refer threshold is moved up from the cheapest.
_MORE_APPROVED = (0.02, 0.05, 0.10)
_CHEAPEST = "cheapest"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows of a search."""

    frame: pd.DataFrame
    labels: NDArray[np.bool_]
    fold: NDArray[np.intp]
    groups: tuple[tuple[str, str, NDArray[np.bool_], NDArray[np.bool_]], ...]


def find_alternatives(
    model: object,
    frame: pd.DataFrame,
    *,
    contract: Contract,
    cost_share: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LdaLedger:
    """Try models that might discriminate less, and write down every one.

    Tried are the present model without each input, without its strongest proxies, and with other values of its known
    parameters; each with its cheapest thresholds and with thresholds that approve some more. Candidates are
    deterministic: one whose first fold gives other scores when it is fitted again is rejected.

    Parameters
    ----------
    model : estimator or Pipeline
        Takes a DataFrame of the contract's inputs; only its parameters are used, it is fitted anew.
    frame : pandas.DataFrame
        Labelled rows with inputs, target and protected attributes; none of the frozen cases.
    contract : Contract
        Costs, protected attributes, ``fairness``.
    cost_share : float, optional
        How much dearer an alternative may be; default: ``fairness.alternative_cost_share``.
    seed : int
        Of folds, resamples and whatever the model draws.
    progress : callable or None
        Told ``(share done, what comes next)``.

    Returns
    -------
    LdaLedger
        Every candidate.

    Raises
    ------
    EvaluationError
        A column is missing, no attribute is protected, or a label is too rare for the folds.
    """
    rows = _rows_of(frame, contract=contract, seed=seed)
    allowed = contract.fairness.alternative_cost_share if cost_share is None else cost_share
    inputs = [column.name for column in contract.inputs]
    found = proxies_of(
        frame, attributes=contract.protected, inputs=tuple(inputs), confidence=contract.evaluate.confidence
    )
    tried = candidates_of(model, inputs=inputs, proxies=_by_strength(found))
    judge = _Judge(rows=rows, contract=contract, allowed=allowed, seed=seed)
    entries: list[LdaEntry] = []
    for place, candidate in enumerate(tried):
        if progress:
            progress(place / len(tried), candidate.name)
        entries += judge.entries(model, candidate)
    if progress:
        progress(1.0, "done")
    return LdaLedger(
        model=contract.name,
        contract_digest=contract.digest,
        currency=contract.decision.costs.currency,
        rows=len(frame),
        positives=int(rows.labels.sum()),
        folds=_FOLDS,
        seed=seed,
        confidence=contract.evaluate.confidence,
        cost_share=allowed,
        attribute=judge.worst[0] if judge.worst else "",
        group=judge.worst[1] if judge.worst else "",
        entries=tuple(entries),
    )


def _by_strength(found: tuple[ProxyResult, ...]) -> list[str]:
    """Return the inputs by how well they tell the group that they tell best."""
    strength: dict[str, float] = {}
    for proxy in found:
        for name, area in proxy.inputs:
            strength[name] = max(strength.get(name, 0.0), area.value)
    return sorted(strength, key=lambda name: (-strength[name], name))


def _rows_of(frame: pd.DataFrame, *, contract: Contract, seed: int) -> _Rows:
    wanted = [contract.target.column, *(c.name for c in contract.inputs), *(p.name for p in contract.protected)]
    problems = [f"{name}: missing" for name in wanted if name not in frame.columns]
    problems += [] if contract.protected else ["protected: the contract names no attribute"]
    if problems:
        raise EvaluationError("lda", problems=problems)
    labels = (frame[contract.target.column] == contract.target.positive).fillna(value=False).to_numpy(dtype=bool)
    if not _FOLDS <= labels.sum() <= len(labels) - _FOLDS:
        raise EvaluationError(f"lda: expected at least {_FOLDS} rows of each label, got {int(labels.sum())} positive")
    fold = np.zeros(len(labels), dtype=np.intp)
    rng = np.random.default_rng(seed)
    for kind in (True, False):
        members = np.flatnonzero(labels == kind)
        fold[rng.permutation(members)] = np.arange(len(members)) % _FOLDS
    groups = []
    for attribute in contract.protected:
        known = frame[attribute.name].notna().to_numpy(dtype=bool)
        names = np.array([str(group_name(value)) for value in frame[attribute.name].tolist()], dtype=object)
        reference = known & (names == attribute.reference)
        for name in sorted(set(names[known]) - {attribute.reference}):
            member = known & (names == name)
            if min(member.sum(), reference.sum()) >= contract.fairness.minimum_group:
                groups.append((attribute.name, str(name), member, reference))
    return _Rows(frame=frame.reset_index(drop=True), labels=labels, fold=fold, groups=tuple(groups))


class _Judge:
    """Fits, decides and compares candidates; the first one is the present model."""

    def __init__(self, *, rows: _Rows, contract: Contract, allowed: float, seed: int) -> None:
        self._rows, self._contract, self._allowed, self._seed = rows, contract, allowed, seed
        self._present: tuple[Floats, NDArray[np.bool_]] | None = None
        self.worst: tuple[str, str] | None = None

    def entries(self, model: Any, candidate: LdaCandidate) -> list[LdaEntry]:
        try:
            scores, same = self._scores(model, candidate)
        except (ValueError, TypeError, ArithmeticError) as error:
            return [self._unfitted(candidate, f"could not be fitted: {str(error).splitlines()[0]}")]
        if not same:
            return [self._unfitted(candidate, "not deterministic: two fits on the same rows give other scores")]
        return [self._entry(candidate, scores, more=more) for more in (0.0, *_MORE_APPROVED)]

    def _scores(self, model: Any, candidate: LdaCandidate) -> tuple[Floats, bool]:
        rows = self._rows
        table = silenced(rows.frame[[c.name for c in self._contract.inputs]], dropped=candidate.dropped)
        scores = np.zeros(len(rows.labels))
        same = True
        for one in range(_FOLDS):
            inside = rows.fold == one
            for again in range(2 if one == 0 else 1):
                made = prepared(model, candidate, seed=self._seed)
                made.fit(table[~inside], rows.labels[~inside].astype(np.int64))
                given = made.predict_proba(table[inside])[:, 1]
                same = same and (not again or bool(np.array_equal(given, scores[inside])))
                scores[inside] = given
        return scores, same

    def _entry(self, candidate: LdaCandidate, scores: Floats, *, more: float) -> LdaEntry:
        rows, contract = self._rows, self._contract
        decisions = self._decisions(scores, more=more)
        amounts = money_of(contract.decision.costs, labels=rows.labels, columns=self._columns(rows.frame))
        money = costs_of(decisions, amounts)
        approved = decisions == APPROVE
        present = self._present is None
        if self._present is None:
            self._present = (money, approved)
        rng = np.random.default_rng(self._seed)
        confidence = contract.evaluate.confidence
        groups = [self._group(group, approved, rng=rng) for group in rows.groups]
        cost, _ = mean_difference(money, confidence=confidence)
        change, _ = mean_difference(money - self._present[0], confidence=confidence)
        known = tuple(group for group in groups if group is not None)
        if present and known:
            low = min(known, key=lambda group: (group.impact_ratio.value, group.attribute, group.group))
            self.worst = (low.attribute, low.group)
        verdict, reason = ("present", "the model as it is") if present else self._verdict(known, change)
        return LdaEntry(
            name=candidate.name,
            thresholds=f"approving {100 * more:g} % more" if more else _CHEAPEST,
            dropped=candidate.dropped,
            parameters=dict(candidate.parameters),
            auc=auc(scores, rows.labels),
            cost=cost,
            cost_change=change,
            groups=known,
            verdict=verdict,
            reason=reason,
        )

    def _columns(self, frame: pd.DataFrame) -> dict[str, list[object]]:
        """Return the inputs that amounts of the cost matrix may follow."""
        costs = self._contract.decision.costs
        wanted = costs.followed if costs.function is None else [column.name for column in self._contract.inputs]
        return {name: frame[name].tolist() for name in wanted}

    def _decisions(self, scores: Floats, *, more: float) -> NDArray[np.int64]:
        """Decide each fold by thresholds that the other folds chose."""
        rows, block = self._rows, self._contract.decision
        decisions = np.zeros(len(scores), dtype=np.int64)
        for one in range(_FOLDS):
            inside = rows.fold == one
            if isinstance(block.thresholds, Thresholds):
                chosen = block.thresholds
            else:
                chosen = choose_thresholds(
                    scores[~inside],
                    rows.labels[~inside],
                    costs=block.costs,
                    review_capacity=block.review_capacity,
                    columns=self._columns(rows.frame[~inside]),
                ).thresholds
            if more:
                share = min(1.0, float((scores[~inside] < chosen.refer).mean()) + more)
                refer = float(np.quantile(scores[~inside], share))
                chosen = Thresholds(refer=max(refer, chosen.refer), decline=max(refer, chosen.refer, chosen.decline))
            decisions[inside] = decisions_of(scores[inside], thresholds=chosen)
        return decisions

    def _group(
        self,
        group: tuple[str, str, NDArray[np.bool_], NDArray[np.bool_]],
        approved: NDArray[np.bool_],
        *,
        rng: np.random.Generator,
    ) -> LdaGroup | None:
        attribute, name, member, reference = group
        confidence = self._contract.evaluate.confidence
        assert self._present is not None  # noqa: S101 -- set by the first entry
        before = self._present[1]
        if not approved[reference].any() or not before[reference].any():
            return None
        counts = (approved[member].sum(), member.sum(), approved[reference].sum(), reference.sum())
        ratio = impact_ratio(*(int(count) for count in counts), confidence=confidence)
        then = before[member].mean() / before[reference].mean()
        drawn = _ratios(approved, before, member, reference, rng=rng)
        low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        change = Estimate(value=ratio.value - float(then), low=float(low), high=float(high))
        return LdaGroup(attribute=attribute, group=name, n=int(member.sum()), impact_ratio=ratio, change=change)

    def _verdict(self, groups: tuple[LdaGroup, ...], change: Estimate) -> tuple[str, str]:
        assert self._present is not None  # noqa: S101 -- set by the first entry
        limit = self._allowed * float(self._present[0].mean())
        found = next((group for group in groups if (group.attribute, group.group) == self.worst), None)
        if found is None:
            return "rejected", "no group can be compared"
        gain = found.change
        if gain.value <= 0:
            return "rejected", f"not fairer to {found.group}: impact ratio {gain.value:+.3f}"
        if change.value > limit:
            return "rejected", f"too dear: {change.value:+.2f} per row, allowed {limit:+.2f}"
        worse = [group.group for group in groups if group.change.high is not None and group.change.high < 0]
        if worse:
            return "rejected", f"surely less fair to {', '.join(worse)}"
        sure = gain.low is not None and gain.low > 0 and change.high is not None and change.high <= limit
        told = f"impact ratio {gain.value:+.3f}, cost {change.value:+.2f} per row"
        return ("alternative", told) if sure else ("perhaps", f"{told}; these rows cannot assure both")

    def _unfitted(self, candidate: LdaCandidate, why: str) -> LdaEntry:
        if candidate.name == "present":
            raise EvaluationError(f"lda: the present model {why}")
        return LdaEntry(
            name=candidate.name,
            thresholds=_CHEAPEST,
            dropped=candidate.dropped,
            parameters=dict(candidate.parameters),
            auc=None,
            cost=None,
            cost_change=None,
            groups=(),
            verdict="rejected",
            reason=why,
        )


def _ratios(
    after: NDArray[np.bool_],
    before: NDArray[np.bool_],
    member: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    *,
    rng: np.random.Generator,
) -> Floats:
    """Draw differences of impact ratios: what both models did with a row is one of four cells, and cells are drawn."""
    drawn = []
    for inside in (member, reference):
        cells = np.bincount(2 * after[inside] + before[inside], minlength=4)
        size = int(cells.sum())
        counts = rng.multinomial(size, cells / size, size=_RESAMPLES) / size
        drawn.append((counts[:, 2] + counts[:, 3], counts[:, 1] + counts[:, 3]))
    (ours, ours_before), (theirs, theirs_before) = drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = ours / theirs - ours_before / theirs_before
    return np.where(np.isfinite(found), found, np.nan)
