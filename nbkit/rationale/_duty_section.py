"""The chapter on what the law asks where the model decides, and what the contract visibly lacks."""

from __future__ import annotations

from nbkit.contract import duties_of, unmet
from nbkit.rationale._blocks import Block, Bullets, Paragraph, Section, Table
from nbkit.rationale._source import Source


def duties(source: Source) -> Section:
    """List the dated duties that the contract's jurisdictions choose."""
    contract = source.contract
    profiles = duties_of(contract)
    covered = {code for profile in profiles for code in profile.covers}
    without = [code for code in contract.jurisdictions if code not in covered]
    blocks: list[Block] = []
    if profiles:
        days = "; ".join(f"{profile.title} as of {profile.as_of.isoformat()}" for profile in profiles)
        blocks.append(
            Paragraph(
                text=f"Profiles: {days}. A list to check with counsel, no legal advice; later changes are not in it."
            )
        )
    lacking = [
        f"{duty.id}: {lack}"
        for profile in profiles
        for duty in profile.duties
        for lack in unmet(duty, contract=contract)
    ]
    if lacking:
        blocks += [Paragraph(text="What the contract visibly lacks:"), Bullets(items=tuple(lacking))]
    blocks += [
        Table(
            columns=("Duty", "Source", "What helps to meet it"),
            rows=tuple((duty.what, duty.source, duty.met_by) for duty in profile.duties),
            caption=profile.title,
        )
        for profile in profiles
    ]
    if without:
        blocks.append(Paragraph(text=f"No profile of duties is kept for {', '.join(without)}: ask counsel."))
    return Section(name="duties", title="Duties by jurisdiction", blocks=tuple(blocks))
