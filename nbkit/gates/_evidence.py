"""Gates on what belongs to a version besides its figures: parity, cases, golden cases, fairness, documents, people."""

from __future__ import annotations

from nbkit.gates._verdict import FactMissing, Facts, Gate, cannot_tell, failed, guarded, listed, passed
from nbkit.records import GateResult

_EVALUATE = "%nbkit evaluate NAME"
_PACKAGE = "%nbkit package NAME"
_RATIONALE = "%%nbkit rationale NAME"


def require_parity() -> Gate:
    """Require the compiled plan to score like the fitted model.

    A model without a plan passes when the package says why: the fitted model itself is then served.

    Returns
    -------
    Gate
        Named ``parity``.
    """

    def judge(facts: Facts) -> GateResult:
        if not facts.flag("parity.compiled"):
            why = facts.text("parity.reason").strip()
            if not why:
                reason = "the model is not compiled and the package does not say why"
                return cannot_tell("parity", reason, next_step=_PACKAGE)
            return passed("parity", f"not compiled ({why}); the fitted model itself is served in micro-batches")
        rows = facts.count("parity.rows")
        if rows == 0:
            return cannot_tell("parity", "plan and fitted model were compared on no row", next_step=_PACKAGE)
        worst, tolerance = facts.number("parity.max_abs"), facts.number("parity.tolerance")
        figures = f"plan and fitted model differ by at most {worst:.1e} on {rows:,} rows"
        if worst < 0 or tolerance < 0:
            return cannot_tell("parity", f"{figures}: a difference cannot be negative", next_step=_PACKAGE)
        if worst > tolerance:
            return failed("parity", f"{figures}, above the tolerance {tolerance:.1e}", next_step=_PACKAGE)
        return passed("parity", f"{figures}, within the tolerance {tolerance:.1e}")

    return guarded("parity", judge, next_step=_PACKAGE)


def require_cases() -> Gate:
    """Require the evaluation to have used the case set that the contract pins.

    Returns
    -------
    Gate
        Named ``cases``.
    """

    def judge(facts: Facts) -> GateResult:
        digest, pinned = facts.text("case_set.digest"), facts.text("case_set.pinned")
        cases, positives = facts.count("case_set.cases"), facts.count("case_set.positives")
        if not pinned or not digest:
            return cannot_tell("cases", "the contract pins no case set", next_step="nbkit freeze NAME")
        if digest != pinned:
            reason = f"evaluated on {_short(digest)}, but the contract pins {_short(pinned)}"
            return failed("cases", reason, next_step=_EVALUATE)
        if not 0 < positives < cases:
            reason = f"{positives:,} of {cases:,} cases are positive: both labels are needed"
            return cannot_tell("cases", reason, next_step="nbkit freeze NAME")
        return passed("cases", f"evaluated on {cases:,} cases ({positives:,} positive) of {_short(digest)}")

    return guarded("cases", judge, next_step=_EVALUATE)


def require_golden() -> Gate:
    """Require every golden case to be decided as expected; none at all is "cannot tell".

    Returns
    -------
    Gate
        Named ``golden``.
    """

    def judge(facts: Facts) -> GateResult:
        total, bad = facts.count("golden.total"), facts.rows("golden.failed")
        if bad:
            problems = listed([f"{case.text('id')}: {case.text('problem')}" for case in bad])
            reason = f"{len(bad)} of {total} golden cases failed: {problems}"
            return failed("golden", reason, next_step="correct the model, or the case with its reason")
        if total == 0:
            return cannot_tell("golden", "there is no golden case", next_step="%%nbkit case NAME")
        return passed("golden", f"all {total} golden cases are decided as expected")

    return guarded("golden", judge, next_step=_EVALUATE)


def require_behaviours() -> Gate:
    """Require every behaviour to hold on the rows of the case set; one that could not be tried is "cannot tell".

    Returns
    -------
    Gate
        Named ``behaviours``.
    """
    write = "write one in cases/behaviours"

    def judge(facts: Facts) -> GateResult:
        total, bad = facts.count("behaviours.total"), facts.rows("behaviours.failed")
        untried = facts.texts("behaviours.untried")
        if bad:
            problems = listed([f"{one.text('id')}: {one.text('problem')}" for one in bad])
            reason = f"{len(bad)} of {total} behaviours do not hold: {problems}"
            return failed("behaviours", reason, next_step="look at the rows listed in the report")
        if total == 0:
            return cannot_tell("behaviours", "there is no behaviour", next_step=write)
        if untried:
            reason = f"{len(untried)} of {total} behaviours fit no row of the case set: {listed(untried)}"
            return cannot_tell("behaviours", reason, next_step="correct their `where` or `change`, or add cases")
        return passed("behaviours", f"all {total} behaviours hold on {facts.count('behaviours.tried'):,} changed rows")

    return guarded("behaviours", judge, next_step=_EVALUATE)


def require_no_regression() -> Gate:
    """Require the version not to be worse than the champion on the same cases.

    Without a champion (``facts["champion"]`` is null) it passes and says so. A version that is no worse in AUC and
    cost, on all cases and on every declared slice, fails at most as often as ``evaluate.false_block_level`` says.

    Returns
    -------
    Gate
        Named ``regression``.
    """

    def judge(facts: Facts) -> GateResult:
        if facts.value("champion") is None:
            return passed("regression", "there is no champion yet: nothing to be worse than")
        version, verdict = facts.count("champion.version"), facts.text("champion.verdict")
        compared, judged = facts.text("champion.case_set"), facts.text("case_set.digest")
        if compared != judged:
            reason = f"version {version} was scored on {_short(compared)}, this one on {_short(judged)}"
            return cannot_tell("regression", reason, next_step=_EVALUATE)
        if verdict not in ("better", "no difference", "worse"):
            reason = f"whether it is worse than version {version} cannot be told: {_why(facts)}{_enough(facts)}"
            return cannot_tell("regression", reason, next_step="freeze a larger case set: nbkit freeze NAME")
        figures = f"{verdict} than version {version}" if verdict != "no difference" else f"like version {version}"
        sentence = f"{figures} on the same cases: {_differences(facts)}"
        if verdict == "worse":
            sentence = f"{sentence}; {_why(facts, otherwise='no reason is given')}{_level(facts)}"
            return failed("regression", sentence, next_step="compare the newly wrong cases in the report")
        return passed("regression", sentence)

    return guarded("regression", judge, next_step=_EVALUATE)


def require_fairness() -> Gate:
    """Require every group's impact ratio to be known to reach the floor, and other figures to keep to their limits.

    Returns
    -------
    Gate
        Named ``fairness``.
    """

    def judge(facts: Facts) -> GateResult:
        floor, groups = facts.number("fairness.floor"), facts.rows("fairness.groups")
        if not groups:
            reason = "no protected group was measured"
            return cannot_tell("fairness", reason, next_step="name protected attributes in contract.yaml")
        verdicts = [group.text("verdict") for group in groups]
        bad = [_group(group) for group, verdict in zip(groups, verdicts, strict=True) if verdict == "fail"]
        # Facts that were signed before other figures could have limits hold none.
        limited = facts.rows("fairness.measures") if facts.has("fairness.measures") else []
        beyond = [_measure(one) for one in limited if one.text("verdict") == "fail"]
        if bad or beyond:
            reasons = [f"approval of {listed(bad)}: surely below the floor {floor:.2f}"] if bad else []
            reason = "; ".join([*reasons, *beyond])
            return failed("fairness", reason, next_step="look for a less discriminatory alternative")
        unsure = [_group(group) for group, verdict in zip(groups, verdicts, strict=True) if verdict != "pass"]
        open_ones = [_measure(one) for one in limited if one.text("verdict") != "pass"]
        if unsure or open_ones:
            reasons = (
                [f"approval of {listed(unsure)}: too few cases to tell about the floor {floor:.2f}"] if unsure else []
            )
            reason = "; ".join([*reasons, *open_ones])
            return cannot_tell("fairness", reason, next_step="freeze more cases of these groups: nbkit freeze NAME")
        kept = f", and {len(limited)} other figures keep to their limits" if limited else ""
        return passed("fairness", f"approval of {len(groups)} groups is surely at or above the floor {floor:.2f}{kept}")

    return guarded("fairness", judge, next_step=_EVALUATE)


def require_rationale() -> Gate:
    """Require a rationale that has every required part and agrees with the figures.

    Returns
    -------
    Gate
        Named ``rationale``.
    """

    def judge(facts: Facts) -> GateResult:
        missing, stale = facts.texts("rationale.missing"), facts.texts("rationale.stale")
        if not facts.flag("rationale.written"):
            return failed("rationale", "no rationale is written", next_step=_RATIONALE)
        if missing:
            return failed("rationale", f"the rationale lacks: {listed(missing, most=6)}", next_step=_RATIONALE)
        if stale:
            return failed("rationale", f"no longer agrees with the figures: {listed(stale)}", next_step=_RATIONALE)
        return passed("rationale", "the rationale is complete and agrees with the figures")

    return guarded("rationale", judge, next_step=_RATIONALE)


def require_owner() -> Gate:
    """Require a team, a primary owner and a deputy who is someone else.

    Returns
    -------
    Gate
        Named ``ownership``.
    """
    step = "name owner.team, owner.primary and owner.deputy in contract.yaml"

    def judge(facts: Facts) -> GateResult:
        people = {name: facts.text(f"owner.{name}").strip() for name in ("team", "primary", "deputy")}
        missing = [name for name, person in people.items() if not person]
        if missing:
            return failed("ownership", f"nobody is named as {listed(missing)}", next_step=step)
        if people["primary"].casefold() == people["deputy"].casefold():
            return failed("ownership", f"{people['primary']} is primary and deputy", next_step=step)
        return passed("ownership", "{team}: {primary}, deputy {deputy}".format(**people))

    return guarded("ownership", judge, next_step=step)


def require_scan() -> Gate:
    """Require the scan of the package's files to have found nothing.

    Returns
    -------
    Gate
        Named ``scan``.
    """

    def judge(facts: Facts) -> GateResult:
        problems = facts.texts("scan.problems")
        if problems:
            return failed("scan", f"{len(problems)} found in the package: {listed(problems)}", next_step=_PACKAGE)
        return passed("scan", "the scan of the package found nothing")

    return guarded("scan", judge, next_step=_PACKAGE)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "nothing"


def _differences(facts: Facts) -> str:
    parts = []
    for label, name, digits in (("AUC", "auc_difference", 3), ("cost per case", "cost_difference", 2)):
        value, low, high = (facts.number(f"champion.{name}.{part}") for part in ("value", "low", "high"))
        parts.append(f"{label} {value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})")
    newly = f"{facts.count('champion.newly_wrong')} newly wrong, {facts.count('champion.newly_right')} newly right"
    return f"{', '.join(parts)}, {newly}"


def _why(facts: Facts, *, otherwise: str = "the intervals are too wide") -> str:
    try:
        return facts.text("champion.reason")
    except FactMissing:
        return otherwise


def _enough(facts: Facts) -> str:
    try:
        return f"; about {facts.count('champion.n_that_would_tell'):,} cases would tell"
    except FactMissing:
        return ""


def _level(facts: Facts) -> str:
    try:
        level, judged = facts.number("champion.false_block_level"), facts.count("champion.judged")
    except FactMissing:
        return ""
    return f" (false block at most {level:.0%} over {judged} comparisons)"


def _measure(measure: Facts) -> str:
    name = measure.text("measure").replace("_", " ")
    return f"{name} of {measure.text('attribute')} {measure.text('group')}: {measure.text('reason')}"


def _group(group: Facts) -> str:
    name = f"{group.text('attribute')} {group.text('group')}"
    ratio = group.value("impact_ratio")
    if ratio is None:
        return f"{name} (not measured)"
    interval = f"{group.number('low'):.2f} to {group.number('high'):.2f}"
    needed = group.value("n_that_would_tell")
    told = (
        f"; {needed:,} cases of the group would tell"
        if isinstance(needed, int) and group.text("verdict") != "fail"
        else ""
    )
    return f"{name} is {group.number('impact_ratio'):.2f} of {group.text('reference')}'s ({interval}{told})"
