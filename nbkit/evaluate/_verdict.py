"""From differences to a verdict: surely worse, surely not, or too few cases to tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nbkit.evaluate._comparison import Difference, SliceComparison
from nbkit.evaluate._holm import holm

AUC, COST = "auc", "expected_cost"
_WORSE = {AUC: "ranks worse", COST: "costs more"}
_BETTER = {AUC: "ranks better", COST: "costs less"}
# Half of the level belongs to all cases together, however many slices are declared; the slices share the other half.
_OVERALL_SHARE = 0.5
# More cases than this are not a plan.
_MOST_CASES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """What counts as a loss that matters, and how often a version that is no worse may be called worse."""

    auc: float
    cost: float
    level: float

    def of(self, name: str) -> float:
        return self.auc if name == AUC else self.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The verdict on all cases and slices together."""

    verdict: str
    reason: str
    n_that_would_tell: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All differences with their corrected p values, what they say of each slice, and of everything."""

    overall: tuple[Difference, ...]
    slices: tuple[SliceComparison, ...]
    ruling: Ruling
    questions: int


Pair = tuple[Difference | None, Difference]


def judge_all(overall: Pair, slices: Sequence[tuple[str, Pair]], *, margins: Margins) -> Judgement:
    """Judge ranking and cost of all cases and of every slice together."""
    first, rest = adjust(
        [one for one in overall if one is not None], [one for _, pair in slices for one in pair if one is not None]
    )
    first = [with_need(one, margins=margins) for one in first]
    left = iter([with_need(one, margins=margins) for one in rest])
    judged = tuple(
        judge_slice(next(left) if area is not None else None, next(left), margins=margins) for _, (area, _) in slices
    )
    named = [(name, found) for (name, _), found in zip(slices, judged, strict=True)]
    return Judgement(
        overall=tuple(first),
        slices=judged,
        ruling=rule(first, named, margins=margins),
        questions=sum(one.p_worse is not None for one in (*first, *rest)),
    )


def gain(difference: Difference) -> float:
    """Return the difference so that above 0 is better."""
    return difference.value if difference.name in (AUC, "average_precision") else -difference.value


def surely_gains(difference: Difference) -> bool:
    """Return whether the whole interval lies on the better side."""
    return _worst(difference) > 0


def adjust(overall: Sequence[Difference], slices: Sequence[Difference]) -> tuple[list[Difference], list[Difference]]:
    """Correct all p values together; half of the level is for all cases, the other half for the slices."""
    every = [*overall, *slices]
    judged = [i for i, one in enumerate(every) if one.p_worse is not None]
    first = sum(i < len(overall) for i in judged)
    rest = len(judged) - first
    shares = [_OVERALL_SHARE / first if i < len(overall) else (1 - _OVERALL_SHARE) / rest for i in judged]
    p_values = [p for p in (every[i].p_worse for i in judged) if p is not None]
    for i, adjusted in zip(judged, holm(p_values, shares=shares), strict=True):
        every[i] = replace(every[i], adjusted=adjusted)
    return every[: len(overall)], every[len(overall) :]


def with_need(difference: Difference, *, margins: Margins) -> Difference:
    """Say how many cases would tell whether a loss that matters is there."""
    margin, value, worst = margins.of(difference.name), gain(difference), _worst(difference)
    if math.isnan(worst) or worst >= -margin or _lost(difference, level=margins.level):
        return difference
    width = value - worst
    # Either the interval must end above the margin, or a loss must become sure: whichever needs fewer cases.
    reach = max(value + margin, -value)
    needed = difference.n * (width / reach) ** 2
    return replace(difference, n_that_would_tell=math.ceil(needed) if needed <= _MOST_CASES else None)


def rule(overall: Sequence[Difference], slices: Sequence[tuple[str, SliceComparison]], *, margins: Margins) -> Ruling:
    """Judge all cases first, then the slices: one that surely loses is enough."""
    if any(one.low is None for one in overall):
        return Ruling(verdict="cannot tell", reason="a label occurs too rarely for an interval")
    losses = [_WORSE[one.name] for one in overall if _lost(one, level=margins.level)]
    gains = [_BETTER[one.name] for one in overall if surely_gains(one)]
    bad = [f"{name}: {found.reason}" for name, found in slices if found.verdict == "worse"]
    if losses and gains:
        return Ruling(verdict="cannot tell", reason=f"{gains[0]}, but {losses[0]}")
    if losses or bad:
        return Ruling(verdict="worse", reason="; ".join(([" and ".join(losses)] if losses else []) + bad))
    open_ones = [one for one in overall if _worst(one) < -margins.of(one.name)]
    # Money decides: a surely better ranking is no gain while it may cost noticeably more, and a cheaper version may
    # rank a little worse.
    cost_open = any(one.name == COST for one in open_ones)
    if gains and not cost_open:
        return Ruling(verdict="better", reason=" and ".join(gains))
    needed = [one.n_that_would_tell for one in open_ones]
    enough = None if None in needed or not needed else max(n for n in needed if n is not None)
    if gains:
        dearest = next(-_worst(one) for one in open_ones if one.name == COST)
        reason = f"{gains[0]}, but may cost up to {dearest:.2f} more per case"
        return Ruling(verdict="cannot tell", reason=reason, n_that_would_tell=enough)
    if not open_ones:
        return Ruling(
            verdict="no difference",
            reason=f"surely within {margins.auc:g} of AUC and {margins.cost:.2f} of cost per case",
        )
    words = {AUC: f"a loss of {margins.auc:g} of AUC", COST: f"a cost higher by {margins.cost:.2f} per case"}
    reason = f"{' and '.join(words[one.name] for one in open_ones)} cannot be ruled out"
    return Ruling(verdict="cannot tell", reason=reason, n_that_would_tell=enough)


def judge_slice(auc: Difference | None, cost: Difference, *, margins: Margins) -> SliceComparison:
    """Judge one slice, whose differences are already corrected for all that is judged."""
    both = [one for one in (auc, cost) if one is not None]
    losses = [one for one in both if _lost(one, level=margins.level)]
    open_ones = [one for one in both if math.isnan(_worst(one)) or _worst(one) < -margins.of(one.name)]
    gains = [_BETTER[one.name] for one in both if surely_gains(one)]
    needed = [one.n_that_would_tell for one in open_ones]
    enough = None
    if losses:
        verdict, reason = "worse", " and ".join(f"{_WORSE[one.name]} (adjusted p {_p(one.adjusted)})" for one in losses)
    elif gains and cost not in open_ones:
        verdict, reason = "better", " and ".join(gains)
    elif not open_ones:
        verdict, reason = "no difference", "a loss that matters is ruled out"
    else:
        verdict, reason = "cannot tell", "a loss that matters cannot be ruled out"
        enough = None if None in needed else max(n for n in needed if n is not None)
    return SliceComparison(auc=auc, cost=cost, verdict=verdict, reason=reason, n_that_would_tell=enough)


def _worst(difference: Difference) -> float:
    """Return the end of the interval that is worst for the challenger, so that above 0 is better."""
    if difference.low is None or difference.high is None:
        return math.nan
    return difference.low if difference.name in (AUC, "average_precision") else -difference.high


def _lost(difference: Difference, *, level: float) -> bool:
    return difference.adjusted is not None and difference.adjusted < level


def _p(value: float | None) -> str:
    assert value is not None  # noqa: S101  only a corrected p value makes a loss
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
