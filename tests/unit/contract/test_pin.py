import os
from pathlib import Path

import pytest

from nbkit.contract import Contract, load_contract, parse_contract, pin_case_set
from nbkit.errors import ContractError

REFERENCE = f"cases/holdout.jsonl@sha256:{'ab' * 32}"


def pinned(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    contract = pin_case_set(path, reference=REFERENCE)
    assert contract.evaluate.case_set == REFERENCE
    assert load_contract(path) == contract
    return path.read_bytes().decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "contract.yaml"


def with_evaluate(text: str, block: str) -> str:
    return text.replace("decision:\n", f"{block}\ndecision:\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("evaluate:\n  case_set:   # made by freeze", 'evaluate:\n  case_set: "REF"   # made by freeze'),
        ("evaluate:\n  case_set: null # none", 'evaluate:\n  case_set: "REF" # none'),
        (
            "evaluate:\n  case_set: 'OLD' # old\n  slices: [amount]",
            'evaluate:\n  case_set: "REF" # old\n  slices: [amount]',
        ),
        ("evaluate:\n  case_set: OLD", 'evaluate:\n  case_set: "REF"'),
        ("evaluate:\n  # how\n  slices: [amount]", 'evaluate:\n  # how\n  case_set: "REF"\n  slices: [amount]'),
        ("evaluate:\n    golden: g", 'evaluate:\n    case_set: "REF"\n    golden: g'),
        ("evaluate: {}", 'evaluate: {"case_set": "REF"}'),
        ("evaluate: { golden: g }", 'evaluate: {"case_set": "REF",  golden: g }'),
        ("evaluate: {golden: g, case_set: }", 'evaluate: {golden: g, case_set: "REF" }'),
    ],
)
def test_only_the_reference_changes(path: Path, contract_text: str, before: str, after: str) -> None:
    old = before.replace("OLD", f"cases/holdout.jsonl@sha256:{'0' * 64}")
    assert pinned(path, with_evaluate(contract_text, old)) == with_evaluate(
        contract_text, after.replace("REF", REFERENCE)
    )


def test_a_missing_block_is_appended(path: Path, contract_text: str) -> None:
    assert pinned(path, contract_text) == f'{contract_text}\nevaluate:\n  case_set: "{REFERENCE}"\n'
    without_end = contract_text.rstrip("\n")
    assert pinned(path, without_end) == f'{without_end}\n\nevaluate:\n  case_set: "{REFERENCE}"\n'


def test_windows_line_ends_stay(path: Path, contract_text: str) -> None:
    text = with_evaluate(contract_text, "evaluate:\n  golden: g").replace("\n", "\r\n")
    expected = text.replace("  golden", f'  case_set: "{REFERENCE}"\r\n  golden')
    assert pinned(path, text) == expected


def test_a_json_file_stays_json(path: Path, contract: Contract) -> None:
    data = contract.model_dump_json(exclude={"evaluate"})
    assert pinned(path, data) == f'{{"evaluate": {{"case_set": "{REFERENCE}"}}, {data[1:]}'


def test_pinning_twice_changes_nothing_more(path: Path, contract_text: str) -> None:
    once = pinned(path, contract_text)
    assert pinned(path, once) == once


def test_a_file_without_a_safe_place_is_left_alone(path: Path, contract_text: str) -> None:
    text = contract_text + "...\n"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        pin_case_set(path, reference=REFERENCE)
    assert path.read_text() == text
    assert "line 30" in str(caught.value)


def test_an_edit_that_would_change_another_key_is_refused(path: Path, contract_text: str) -> None:
    # The text of a literal block reaches to the end of the file, so what is appended would become part of it.
    text = contract_text.replace("purpose: Decide on applications.\n", "") + "purpose: |+\n  Decide.\n"
    path.write_text(text)
    with pytest.raises(ContractError, match=r"evaluate\.case_set has no safe place here\. Next: write it by hand"):
        pin_case_set(path, reference=REFERENCE)
    assert path.read_text() == text


def test_a_reference_that_is_none_is_refused_before_writing(path: Path, contract_text: str) -> None:
    path.write_text(contract_text)
    with pytest.raises(ContractError, match=r"\$\.evaluate\.case_set: expected 'path@sha256:<64 hex digits>'"):
        pin_case_set(path, reference="cases/holdout.jsonl")
    assert path.read_text() == contract_text


def test_mode_and_symbolic_link_survive(tmp_path: Path, path: Path, contract_text: str) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(contract_text)
    real.chmod(0o640)
    path.symlink_to(real)
    pin_case_set(path, reference=REFERENCE)
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["contract.yaml", "real.yaml"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(
    path: Path, contract_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(contract_text)

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        pin_case_set(path, reference=REFERENCE)
    assert path.read_text() == contract_text
    assert [file.name for file in path.parent.iterdir()] == ["contract.yaml"]


def test_a_path_with_letters_from_anywhere_can_be_pinned(path: Path, contract_text: str) -> None:
    reference = f"cases/prøve-🂡#1.jsonl@sha256:{'0' * 64}"
    path.write_text(contract_text)
    assert pin_case_set(path, reference=reference).evaluate.case_set == reference
    assert parse_contract(path.read_text(), source="x").evaluate.case_set == reference
