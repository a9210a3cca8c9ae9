"""Profiles of duties: dated files with sources, chosen by jurisdiction, compared with a contract."""

from datetime import date
from pathlib import Path

import pytest

from nbkit.contract import Contract, Duty, duties_of, load_duties, parse_contract, unmet
from nbkit.errors import ContractError

FOLDER = Path(__file__).parents[3] / "nbkit" / "contract" / "duties"


@pytest.fixture
def make(contract_text: str):
    def made(jurisdictions: str, **changes: str) -> Contract:
        text = contract_text.replace("jurisdictions: [NO]", f"jurisdictions: [{jurisdictions}]")
        for old, new in changes.items():
            text = text.replace(old, new)
        return parse_contract(text, source="contract.yaml")

    return made


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_duty_is_dated_and_has_a_source(path: Path) -> None:
    profile = load_duties(path)
    assert date(2024, 1, 1) < profile.as_of < date(2026, 12, 31)
    assert profile.jurisdiction in profile.covers
    ids = [duty.id for duty in profile.duties]
    assert len(set(ids)) == len(ids)
    assert all(duty.id.startswith(f"{path.stem}-") and duty.source and duty.met_by for duty in profile.duties)


def test_jurisdictions_choose_profiles_each_once(make) -> None:
    assert [profile.jurisdiction for profile in duties_of(make("DE, US, FR"))] == ["EU", "US"]
    assert duties_of(make("NO")) == ()


def test_the_profile_of_the_united_states_gives_thirty_days(make) -> None:
    (profile,) = duties_of(make("US"))
    assert profile.days() == 30
    (other,) = duties_of(make("EU"))
    assert other.days() is None


def test_what_a_contract_visibly_lacks_is_named(make) -> None:
    contract = make("US")
    content = Duty(id="x", what="w", source="s", met_by="m", requires=("notice.creditor", "purpose"))
    assert unmet(content, contract=contract) == ("notice.creditor says nothing",)
    kept = Duty(id="x", what="w", source="s", met_by="m", retention_months=120)
    assert unmet(kept, contract=contract) == ("audit.retention_years keeps records 84 months, 120 are asked for",)
    assert unmet(Duty(id="x", what="w", source="s", met_by="m", retention_months=84), contract=contract) == ()
    low = Duty(id="x", what="w", source="s", met_by="m", impact="low")
    assert unmet(low, contract=contract) == ("impact is high, low is asked for",)
    assert unmet(Duty(id="x", what="w", source="s", met_by="m", impact="high"), contract=contract) == ()


def test_every_key_that_a_duty_requires_exists(make) -> None:
    keys = {path for profile in duties_of(make("US, EU, GB")) for duty in profile.duties for path in duty.requires}
    blocks = {path.partition(".")[0] for path in keys}
    assert {"protected", "notice", "evaluate"} <= blocks
    contract = make("US").model_dump()
    for path in keys:
        found = contract
        for step in path.split("."):
            assert step in found, f"{path}: the contract has no such key"
            found = found[step]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("format: 2", "$.format: input should be 1"),
        (
            "format: 1\njurisdiction: X\ntitle: X\nas_of: soon\ncovers: [X]\n"
            "duties: [{id: a, what: b, source: c, met_by: d}]",
            "$.as_of: expected a date, got 'soon'",
        ),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "xx.yaml"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        load_duties(path)
    assert problem in caught.value.problems
