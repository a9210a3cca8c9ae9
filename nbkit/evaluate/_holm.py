"""Keep the chance of any false alarm over many questions at one level."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float], *, shares: Sequence[float] | None = None) -> tuple[float, ...]:
    """Adjust p values so that all below a level are sure together (Holm; weighted as in Benjamini and Hochberg 1997).

    Parameters
    ----------
    p_values : sequence of float
        One for each question.
    shares : sequence of float or None
        How much of the level each question is given; their sum is the whole. Equal when None.

    Returns
    -------
    tuple of float
        In the same order, at most 1. Valid whatever the questions have to do with each other.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    given = list(shares) if shares is not None else [1.0] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i] / given[i])
    left, highest = sum(given), 0.0
    adjusted = [0.0] * len(p_values)
    for i in order:
        highest = min(1.0, max(highest, p_values[i] * left / given[i]))
        adjusted[i] = highest
        left -= given[i]
    return tuple(adjusted)
