"""Show what the law asks where a contract decides, and what the contract visibly lacks."""

from __future__ import annotations

from dataclasses import dataclass

from nbkit.contract import Contract, duties_of, unmet
from nbkit.lifecycle._view import Result, Table, View


@dataclass(frozen=True, slots=True, kw_only=True)
class DutiesShown(Result):
    """Duties by jurisdiction, and what the contract visibly lacks."""

    name: str
    duties: tuple[tuple[str, str, str, str, str], ...]
    as_of: tuple[tuple[str, str], ...]
    lacking: tuple[tuple[str, str], ...]
    without_profile: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether nothing visibly lacks, and every jurisdiction has a profile."""
        return not self.lacking and not self.without_profile

    def view(self) -> View:
        """Return what a person is shown."""
        facts = [(f"{code}, as of", day) for code, day in self.as_of]
        facts += [("no profile for", ", ".join(self.without_profile))] if self.without_profile else []
        tables = [
            Table(
                columns=("duty", "source", "what helps to meet it"),
                rows=tuple((duty, source, met) for _, duty, _, source, met in self.duties),
            )
        ]
        if self.lacking:
            tables.append(Table(columns=("duty", "the contract lacks"), rows=self.lacking))
        said = f"{len(self.duties)} duties, {len(self.lacking)} visibly not met by the contract"
        return View(
            headline=f"{self.name}: {said}; a list to check with counsel, no legal advice", facts=facts, tables=tables
        )


def contract_duties(contract: Contract) -> DutiesShown:
    """Compare a contract with the dated profiles of duties that its jurisdictions choose.

    Parameters
    ----------
    contract : Contract
        Whose jurisdictions choose.

    Returns
    -------
    DutiesShown
        Whether a duty is met is for people to say; what visibly lacks is named.
    """
    profiles = duties_of(contract)
    covered = {code for profile in profiles for code in profile.covers}
    return DutiesShown(
        name=contract.name,
        duties=tuple(
            (profile.jurisdiction, duty.id, duty.what, duty.source, duty.met_by)
            for profile in profiles
            for duty in profile.duties
        ),
        as_of=tuple((profile.jurisdiction, profile.as_of.isoformat()) for profile in profiles),
        lacking=tuple(
            (duty.id, lack)
            for profile in profiles
            for duty in profile.duties
            for lack in unmet(duty, contract=contract)
        ),
        without_profile=tuple(code for code in contract.jurisdictions if code not in covered),
    )
