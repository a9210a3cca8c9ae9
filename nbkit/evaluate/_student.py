"""Student's t, for intervals and p values from few cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def t_quantile(probability: float, *, freedom: float) -> float:
    """Return the value below which t lies with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def p_above(ratio: float, *, freedom: float) -> float:
    """Return the chance that t lies above a ratio of estimate and standard error."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -ratio))


def p_above_each(ratios: NDArray[np.float64], *, freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `p_above` of each ratio with its own degrees of freedom."""
    from scipy.special import stdtr

    found: NDArray[np.float64] = stdtr(freedom, -ratios)
    return found
