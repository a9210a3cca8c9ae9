"""What asking models has cost: counted when they decide, added up only when somebody looks."""

from __future__ import annotations

from decimal import Decimal

from nbkit.audit import total_cost
from nbkit.records import AuditRecord

__all__ = ["ROUTES", "Spending", "Tally", "route_of"]

# Who decides.
ROUTES = ("model", "rules", "fallback")

_LABELS = ("model", "version", "stage", "kind", "route")


def route_of(record: AuditRecord) -> str:
    """Return who decided, in few words.

    Parameters
    ----------
    record : AuditRecord
        Of any kind.

    Returns
    -------
    str
        ``model``, ``rules`` or ``fallback``: a rule's name is no label, because rules are many.
    """
    return "fallback" if record.fallback else record.route.partition(":")[0]


class Tally:
    """How many decisions cost the same."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times = 0


class Spending:
    """Counts decisions by what they cost; amounts are whole numbers of prices, so nothing is rounded on the way."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[tuple[str, ...], str], Tally] = {}

    def tally(self, record: AuditRecord) -> Tally:
        """Return where decisions like this one are counted, to be kept by whoever does so for every request.

        Parameters
        ----------
        record : AuditRecord
            The first of them.

        Returns
        -------
        Tally
            The same for the same model, version, stage, kind, route and cost.
        """
        return self._tally(record.model, record.version, record.stage, record.kind, route_of(record), record.cost_usd)

    def add_shadows(self, model: str, version: int, stage: str, *, route: str, cost: str, times: int) -> None:
        """Count what a version said that answered nobody.

        Parameters
        ----------
        model, version, stage : str, int, str
            Who was asked.
        route : str
            As `route_of` names it.
        cost : str
            Of each, in USD, as decimal text.
        times : int
            How many.
        """
        self._tally(model, version, stage, "shadow", route, cost).times += times

    def _tally(self, model: str, version: int, stage: str, kind: str, route: str, cost: str) -> Tally:
        return self._tallies.setdefault(((model, str(version), stage, kind, route), cost), Tally())

    def amounts(self) -> list[tuple[tuple[tuple[str, str], ...], Decimal]]:
        """Return what was spent.

        Returns
        -------
        list of (labels, Decimal)
            By model, version, stage, kind and route, in order; exact.
        """
        counts: dict[tuple[str, ...], dict[str, int]] = {}
        for (values, cost), tally in sorted(self._tallies.copy().items(), key=lambda item: item[0]):
            counts.setdefault(values, {})[cost] = tally.times
        return [(tuple(zip(_LABELS, values, strict=True)), total_cost(by_cost)) for values, by_cost in counts.items()]
