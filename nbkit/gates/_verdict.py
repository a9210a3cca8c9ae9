"""What every gate is made of: its protocol, its three answers, and a reader of facts that never guesses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from nbkit.records import GateResult, Verdict


class Gate(Protocol):
    """A check before a stage: facts in, verdict and reason out. It reads nothing else and changes nothing."""

    def __call__(self, facts: Mapping[str, object], /) -> GateResult:
        """Judge the facts; what is missing or is not a number never passes."""
        ...


class FactMissing(Exception):  # noqa: N818 -- never leaves this package: guarded() turns it into "cannot tell"
    """A fact is absent or is not of the kind that was expected."""


class Facts:
    """Read nested facts by dotted path; whatever is not there, or is of another kind, is said by its path."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def value(self, path: str) -> object:
        found: object = self._values
        for part in path.split("."):
            if not isinstance(found, Mapping) or part not in found:
                raise FactMissing(f"{path} is not among the facts")
            found = found[part]
        return found

    def has(self, path: str) -> bool:
        try:
            self.value(path)
        except FactMissing:
            return False
        return True

    def number(self, path: str) -> float:
        found = self.value(path)
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise FactMissing(f"{path} is {found!r}, not a finite number")
        return float(found)

    def count(self, path: str) -> int:
        found = self.value(path)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise FactMissing(f"{path} is {found!r}, not a count")
        return found

    def flag(self, path: str) -> bool:
        found = self.value(path)
        if not isinstance(found, bool):
            raise FactMissing(f"{path} is {found!r}, neither true nor false")
        return found

    def text(self, path: str) -> str:
        found = self.value(path)
        if not isinstance(found, str):
            raise FactMissing(f"{path} is {found!r}, not text")
        return found

    def texts(self, path: str) -> list[str]:
        found = self.value(path)
        if not isinstance(found, list | tuple) or not all(isinstance(item, str) for item in found):
            raise FactMissing(f"{path} is {found!r}, not a list of text")
        return list(found)

    def within(self, path: str) -> Facts:
        found = self.value(path)
        if not isinstance(found, Mapping):
            raise FactMissing(f"{path} is {found!r}, not a mapping")
        return Facts(found)

    def rows(self, path: str) -> list[Facts]:
        found = self.value(path)
        if not isinstance(found, list | tuple) or not all(isinstance(item, Mapping) for item in found):
            raise FactMissing(f"{path} is {found!r}, not a list of entries")
        return [Facts(item) for item in found]


def passed(gate: str, reason: str) -> GateResult:
    return GateResult(gate=gate, verdict=Verdict.PASS, reason=reason)


def failed(gate: str, reason: str, *, next_step: str) -> GateResult:
    return GateResult(gate=gate, verdict=Verdict.FAIL, reason=reason, next_step=next_step)


def cannot_tell(gate: str, reason: str, *, next_step: str) -> GateResult:
    return GateResult(gate=gate, verdict=Verdict.CANNOT_TELL, reason=reason, next_step=next_step)


def guarded(gate: str, judge: Callable[[Facts], GateResult], *, next_step: str) -> Gate:
    """Make a gate of a judgement: a fact that is missing or malformed is "cannot tell", with its path."""

    def check(facts: Mapping[str, object], /) -> GateResult:
        try:
            return judge(Facts(facts))
        except FactMissing as missing:
            return cannot_tell(gate, str(missing), next_step=next_step)

    return check


def listed(items: list[str], *, most: int = 3) -> str:
    """Join the first few items, and say how many more there are."""
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
