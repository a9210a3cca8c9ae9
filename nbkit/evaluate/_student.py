"""Student's t, for intervals and p values from few cases."""

from __future__ import annotations


def t_quantile(probability: float, *, freedom: float) -> float:
    """Return the value below which t lies with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def p_above(ratio: float, *, freedom: float) -> float:
    """Return the chance that t lies above a ratio of estimate and standard error."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -ratio))
