"""Read nested facts: JSON that another part of nbkit wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Facts = Mapping[str, object]


def find(facts: object, path: str) -> object:
    """Return what lies at a dotted path, or None.

    Examples
    --------
    >>> find({"metrics": {"auc": {"value": 0.78}}}, "metrics.auc.value")
    0.78
    """
    for step in path.split("."):
        if not isinstance(facts, Mapping) or step not in facts:
            return None
        facts = facts[step]
    return facts


def mapping(facts: object, path: str) -> Facts:
    """Return the mapping at a path; an empty one where there is none."""
    found = find(facts, path)
    return found if isinstance(found, Mapping) else {}


def entries(facts: object, path: str) -> tuple[Facts, ...]:
    """Return the mappings in the list at a path; none where there is no list."""
    found = find(facts, path)
    if isinstance(found, str) or not isinstance(found, Sequence):
        return ()
    return tuple(item for item in found if isinstance(item, Mapping))


def number(facts: object, path: str) -> float | None:
    """Return the finite number at a path, or None."""
    found = find(facts, path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if math.isfinite(found) else None


def text(facts: object, path: str) -> str:
    """Return what lies at a path as text; empty where there is nothing."""
    found = find(facts, path)
    return "" if found is None else str(found)


def figure(value: object) -> str:
    """Write a number as a reader expects it: whole numbers grouped, others to about three digits.

    Examples
    --------
    >>> [figure(value) for value in (1989, 0.78149, 812.4, 0.000213, None)]
    ['1,989', '0.781', '812', '0.000213', 'not measured']
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "not measured" if value is None or isinstance(value, float) else str(value)
    if isinstance(value, int) or (value.is_integer() and (abs(value) >= 100 or value == 0)):
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if abs(value) < 0.001 else f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}"


def plain(value: float) -> str:
    """Write a declared number as it was declared.

    Examples
    --------
    >>> plain(50.0), plain(0.5)
    ('50', '0.5')
    """
    return f"{value:g}"


def percent(share: float, *, digits: int = 1) -> str:
    r"""Write a share in percent, with a space that does not break.

    Examples
    --------
    >>> percent(0.1234)
    '12.3\xa0%'
    """
    return f"{100 * share:.{digits}f}\u00a0%"


def size(value: float) -> str:
    r"""Write a tiny number by its power of ten, on one line.

    Examples
    --------
    >>> size(5.6e-16)
    '6e\u201116'
    """
    return f"{value:.0e}".replace("-", "\u2011")
