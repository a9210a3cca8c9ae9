"""Gate on the stability certificate: how often a row's top reason changes under harmless changes."""

from __future__ import annotations

from nbkit.gates._verdict import Facts, Gate, cannot_tell, failed, guarded, passed
from nbkit.records import GateResult

_EXPLAIN = "%nbkit explain NAME"
_CHANGES = {"background_share": "another background", "twin_share": "a correlated twin", "noise_share": "small noise"}


def require_stability(ceiling: float) -> Gate:
    """Require the top reason to change in few rows, whichever of the certificate's changes is worst.

    The whole interval must lie at or below the ceiling: an estimate below it from few rows is "cannot tell".

    Parameters
    ----------
    ceiling : float
        Largest share of rows whose top reason may change, 0..1.

    Returns
    -------
    Gate
        Named ``stability``.

    Examples
    --------
    >>> share = {"value": 0.02, "low": 0.01, "high": 0.05}
    >>> facts = {"rows": 200, "background_share": share, "twin_share": share, "noise_share": share}
    >>> require_stability(0.1)({"stability": {**facts, "worst_share": share}}).reason
    'the top reason changes in 2.0 % (1.0 % to 5.0 %) of 200 rows under another background, within the ceiling 10.0 %'
    """

    def judge(facts: Facts) -> GateResult:
        if isinstance(ceiling, bool) or not 0 <= ceiling < 1:
            reason = f"the ceiling is {ceiling!r}, not a share from 0 to below 1"
            return cannot_tell("stability", reason, next_step="correct gates in contract.yaml")
        rows = facts.count("stability.rows")
        value, low, high = (facts.number(f"stability.worst_share.{part}") for part in ("value", "low", "high"))
        if not rows or not 0 <= low <= value <= high <= 1:
            reason = f"{value:.3f} ({low:.3f} to {high:.3f}) of {rows} rows is not a share with its interval"
            return cannot_tell("stability", reason, next_step=_EXPLAIN)
        worst = max(_CHANGES, key=lambda name: facts.number(f"stability.{name}.value"))
        figures = (
            f"the top reason changes in {100 * value:.1f} % ({100 * low:.1f} % to {100 * high:.1f} %) of {rows:,} rows"
            f" under {_CHANGES[worst]}"
        )
        limit = f"the ceiling {100 * ceiling:.1f} %"
        if high <= ceiling:
            return passed("stability", f"{figures}, within {limit}")
        if low > ceiling:
            step = "group correlated inputs (explain.group_correlation), or drop one of them"
            return failed("stability", f"{figures}, above {limit}", next_step=step)
        return cannot_tell("stability", f"{figures}: too few rows to tell about {limit}", next_step="freeze more cases")

    return guarded("stability", judge, next_step=_EXPLAIN)
