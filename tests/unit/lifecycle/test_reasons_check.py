"""``nbkit reasons check``: the book, the rules that name its codes, and the ledger against the packages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from nbkit import lifecycle
from nbkit.errors import PackageError, UsageError
from nbkit.lifecycle._reasons_check import reconcile
from nbkit.package import Package
from nbkit.records import AuditRecord
from nbkit.serve import Judge
from nbkit.settings import Settings
from tests.unit.serve import world

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    lifecycle.new("mortgage", template="credit", directory=tmp_path)
    return tmp_path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"NBKIT_HOME": str(tmp_path / "home")}, directory=tmp_path)


def test_the_templates_reasons_are_complete(case: Path, settings: Settings) -> None:
    found = lifecycle.check_reasons("mortgage", base=case, settings=settings)
    assert found.succeeded
    assert found.ledger is None
    assert "13 codes, complete" in str(found)


def test_a_file_is_checked_against_the_contract_beside_it(case: Path, settings: Settings) -> None:
    path = case / "mortgage" / "reasons.yaml"
    path.write_text(path.read_text().replace("[obligations_ratio]", "[obligation_ratio]"))
    found = lifecycle.check_reasons("mortgage/reasons.yaml", base=case, settings=settings)
    assert not found.succeeded
    assert found.problems == (
        "$.codes.R01.inputs: 'obligation_ratio' is not an input of the contract",
        "input 'obligations_ratio': no code covers it",
    )
    assert "2 problems" in str(found)


def test_a_file_without_a_contract_is_a_wrong_call(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "reasons.yaml").write_text("format: 2\n")
    with pytest.raises(UsageError, match=r"no contract\.yaml beside it"):
        lifecycle.check_reasons("reasons.yaml", base=tmp_path, settings=settings)


def test_a_code_that_only_rules_give_must_be_in_the_book(case: Path, settings: Settings) -> None:
    path = case / "mortgage" / "rules.json"
    path.write_text(path.read_text().replace("P01", "P99"))
    found = lifecycle.check_reasons("mortgage", base=case, settings=settings)
    assert found.problems == ("rules.json: reason 'P99' is in neither codes nor policies of reasons.yaml",)


def test_rules_that_cannot_be_read_are_for_another_command(case: Path, settings: Settings) -> None:
    (case / "mortgage" / "rules.json").write_text("[]")
    assert lifecycle.check_reasons("mortgage", base=case, settings=settings).succeeded


class Store:
    """Gives one package, whatever the digest."""

    def __init__(self, package: Package) -> None:
        self._package = package

    def package(self, digest: str) -> Package:
        if digest != self._package.digest:
            raise PackageError(f"{digest}: not in the store")
        return self._package


@pytest.fixture(scope="module")
def lender_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return world.make_package(tmp_path_factory.mktemp("package") / "one")


@pytest.fixture
def recorded(lender_package: Package):
    judge = Judge.of(lender_package)

    def record(row: dict[str, object], **changes: object) -> AuditRecord:
        early = judge.before(row)
        score = lender_package.score(row)
        judgement = early or judge.after(row, score)
        made = AuditRecord(
            id="d",
            request_id="d",
            model="loans",
            version=1,
            package_digest=lender_package.digest,
            contract_digest="c",
            evidence_digest="e",
            received_at=NOW,
            decided_at=NOW,
            subject="",
            inputs=row,
            score=None if early else score,
            decision=judgement.decision.decision,
            reasons=judgement.decision.reasons,
            tags={f"reason.{code}": text for code, text in judgement.texts.items()},
        )
        return replace(made, **changes)

    return record


def test_recorded_reasons_are_recomputed_and_differences_listed(recorded, lender_package) -> None:
    bad, good = world.BAD, world.GOOD
    ruled = bad | {"ratio": 1.0}
    edited = recorded(bad, id="edited", reasons=("R03",), tags={"reason.R03": "Purpose of the loan"})
    reworded = recorded(bad, id="reworded")
    reworded = replace(reworded, tags=dict.fromkeys(reworded.tags, "Other words"))
    records = (
        recorded(bad),
        recorded(ruled),
        recorded(good),
        edited,
        reworded,
        recorded(bad, inputs={}),
        recorded(bad, fallback="default"),
        recorded(bad, package_digest="sha256:gone"),
        recorded(bad, tags={"reasons_missing": "to follow"}, reasons=()),
    )
    found = reconcile(records, store=Store(lender_package))
    assert (found.records, found.adverse, found.same) == (9, 8, 2)
    assert [(one.id, one.recorded, one.why) for one in found.differences] == [
        ("edited", ("R03",), ""),
        ("reworded", ("R02", "R01"), "the same codes in other words"),
    ]
    assert found.differences[0].recomputed == ("R02", "R01")
    assert found.not_recomputed == {
        "PackageError: sha256:gone: not in the store": 1,
        "a fallback answered": 1,
        "the inputs were not kept": 1,
        "they were late, and follow from the record": 1,
    }
