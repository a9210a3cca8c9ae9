"""Principal reasons: which sentences of the book are true of one declined row, and moved its score most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nbkit.package._contributions import Attribution
from nbkit.package._reason_book import ReasonBook
from nbkit.package._reason_file import ReasonText
from nbkit.package._steps import Scalar, is_missing

__all__ = ["ReasonCode", "principal_reasons"]

# Contributions are exact to about 1e-13; what lies below this is rounding, not a reason.
_NOISE = 1e-9

# Regulation B, 12 CFR 1002.9(b)(2), comment 2: more than four reasons are not likely to help the applicant.
_MOST_REASONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCode:
    """A reason given for one decision.

    Parameters
    ----------
    code : str
        The code in ``reasons.yaml``.
    text : str
        What the person is told.
    inputs : tuple of str
        The inputs that pushed towards the decision, largest first.
    contribution : float
        Sum of the contributions of all inputs of the code; positive.
    """

    code: str
    text: str
    inputs: tuple[str, ...]
    contribution: float


def principal_reasons(
    attribution: Attribution,
    row: Mapping[str, Scalar],
    book: ReasonBook,
    *,
    most: int = _MOST_REASONS,
    special: Mapping[str, str] = MappingProxyType({}),
) -> tuple[ReasonCode, ...]:
    """Choose the reasons that moved a row's score most towards the positive class.

    Contributions are added up by code, so that no reason speaks of a category that the row does not have. Only codes
    whose sum pushed towards the decision are reasons: there may be fewer than ``most``, and none is added to fill up.
    An input that pushed while no text is true of its value counts for no code: a low debt is never excessive.

    Parameters
    ----------
    attribution : Attribution
        From `Contributions.explain` of the same row.
    row : mapping
        The inputs, as ``RowCheck.check`` returns them.
    book : ReasonBook
        Texts by input.
    most : int
        At least 1.
    special : mapping of str to str
        The sentinel that stood for an input's missing value, by input, as `sentinel_key` writes it.

    Returns
    -------
    tuple of ReasonCode
        Largest contribution first; empty when nothing that can be said pushed towards the decision.

    Raises
    ------
    RationaleError
        The book does not cover an input that pushed.
    """
    by_code: dict[str, tuple[ReasonText, list[tuple[float, str]]]] = {}
    for name, contribution in attribution.by_input.items():
        entry = book.entry_for(name, row.get(name)) if contribution else None
        if entry is not None:
            by_code.setdefault(entry.code, (entry, []))[1].append((contribution, name))
    pushing = []
    for code, (_, parts) in by_code.items():
        total = parts[0][0] if len(parts) == 1 else math.fsum([contribution for contribution, _ in parts])
        if total > _NOISE:
            # What differs by rounding only is alike, and goes by its code: the same reasons on every machine.
            pushing.append((-round(total / _NOISE), code, total))
    reasons = []
    for _, code, total in sorted(pushing)[: max(most, 1)]:
        entry, parts = by_code[code]
        pushed = tuple([name for contribution, name in sorted(parts, reverse=True) if contribution > 0])
        absent = all(is_missing(row.get(name)) for name in pushed)
        text = book.of_the_absent(entry, pushed, special=special) if absent else entry.text
        reasons.append(ReasonCode(code=code, text=text, inputs=pushed, contribution=total))
    return tuple(reasons)
