"""The magic in a real IPython shell."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from IPython.core.interactiveshell import InteractiveShell

from nbkit import lifecycle
from nbkit.audit import Ledger
from nbkit.errors import RationaleError, UsageError
from nbkit.magics._magic import NbkitMagics, _complete, _help_on_question_mark
from nbkit.magics._parse import VERBS


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NBKIT_RUN_ID", raising=False)
    made = InteractiveShell()
    made.run_line_magic("load_ext", "nbkit")
    yield made
    made.history_manager.end_session()


def test_a_result_is_returned_or_kept(shell: InteractiveShell) -> None:
    shown = shell.run_line_magic("nbkit", "new mortgage")
    assert isinstance(shown, lifecycle.Result)
    assert shell.run_line_magic("nbkit", "new second >> kept") is None
    assert shell.user_ns["kept"].name == "second"


def test_the_contract_of_the_folder_is_checked(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.run_line_magic("nbkit", "new mortgage >> _")
    monkeypatch.chdir(tmp_path / "mortgage")
    report = shell.run_line_magic("nbkit", "contract check")
    assert report.succeeded
    contract = tmp_path / "mortgage" / "contract.yaml"
    contract.write_text(contract.read_text().replace("owner:", "owners:"))
    wrong = shell.run_line_magic("nbkit", "contract")
    assert not wrong.succeeded
    assert "did you mean 'owner'" in str(wrong)


def test_a_question_mark_shows_a_verbs_help() -> None:
    assert _help_on_question_mark(["%nbkit gate?\n"]) == ["%nbkit gate --help\n"]
    assert _help_on_question_mark(["%nbkit gate??"]) == ["%nbkit gate --help\n"]
    assert _help_on_question_mark(["x = 1\n", "print?\n"]) == ["x = 1\n", "print?\n"]


def test_help_in_a_cell_prints_and_returns_nothing(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = shell.run_cell("%nbkit gate?")
    assert result.success
    assert result.result is None
    assert "Show every gate" in capsys.readouterr().out


def test_an_error_is_one_clean_line(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = shell.run_cell("%nbkit freeze applications")
    assert isinstance(result.error_in_exec, UsageError)
    out = capsys.readouterr().out
    assert out.strip() == "UsageError: : no use case here".strip() or "no use case here" in out
    assert "Traceback" not in out
    assert len(out.strip().splitlines()) == 1


def test_variables_must_exist_and_be_of_their_kind(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.run_line_magic("nbkit", "new mortgage >> _")
    monkeypatch.chdir(tmp_path / "mortgage")
    with pytest.raises(UsageError, match="no variable 'applications' in this notebook"):
        shell.run_line_magic("nbkit", "leaks applications")
    shell.user_ns["applications"] = [1, 2]
    with pytest.raises(UsageError, match="applications: expected a pandas DataFrame, got list"):
        shell.run_line_magic("nbkit", "leaks applications")


def test_cell_verbs_and_line_verbs_are_told_apart(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="rationale: write it as %%nbkit rationale"):
        shell.run_line_magic("nbkit", "rationale threshold")
    with pytest.raises(UsageError, match="gate: write it as %nbkit gate"):
        shell.run_cell_magic("nbkit", "gate --to staging", "text")


def test_a_golden_case_is_written_from_yaml(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.run_line_magic("nbkit", "new mortgage >> _")
    folder = tmp_path / "mortgage"
    monkeypatch.chdir(folder)
    golden = folder / "cases" / "golden"
    existing = sorted(golden.glob("*.yaml"))[0].read_text()
    body = existing[existing.index("inputs:") :]
    case = shell.run_cell_magic("nbkit", "case broken-bank-feed --why 'an incident'", body)
    assert case.id == "broken-bank-feed"
    assert (golden / "broken-bank-feed.yaml").exists()
    with pytest.raises(ValueError, match="expected the two mappings"):
        shell.run_cell_magic("nbkit", "case other --why x", "inputs: {}")
    assert not (golden / "other.yaml").exists()


def test_an_unknown_kind_of_reason_is_refused(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.run_line_magic("nbkit", "new mortgage >> _")
    monkeypatch.chdir(tmp_path / "mortgage")
    monkeypatch.setenv("NBKIT_RUN_ID", "run1")
    shell.run_line_magic("reload_ext", "nbkit")
    with pytest.raises(RationaleError, match="treshold"):
        shell.run_cell_magic("nbkit", "rationale treshold", "because")


def test_every_verb_that_is_parsed_can_be_called_and_no_other(shell: InteractiveShell) -> None:
    magics, given = NbkitMagics(shell), Namespace()
    groups = (magics._building(given, ""), magics._judging(given), magics._moving(given), magics._asking(given))
    assert sorted(verb for group in groups for verb in group) == sorted(VERBS)


def test_costs_are_added_up_between_two_moments(shell: InteractiveShell, tmp_path: Path) -> None:
    path = tmp_path / ".nbkit" / "ledger" / "loans.db"
    path.parent.mkdir(parents=True)
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    with Ledger.open(path, key=Ed25519PrivateKey.generate(), now=lambda: noon):
        pass
    found = shell.run_line_magic("nbkit", "audit costs loans --since 2026-11-23 --until 2026-11-24")
    assert (found.answers.cost_usd, found.since, found.until) == (
        "0",
        datetime(2026, 11, 23, tzinfo=UTC),
        datetime(2026, 11, 24, tzinfo=UTC),
    )
    with pytest.raises(UsageError, match="--until: expected a day"):
        shell.run_line_magic("nbkit", "audit costs loans --until soon")


def test_completion_offers_verbs_options_stages_and_variables(shell: InteractiveShell) -> None:
    def complete(text: str) -> list[str]:
        return _complete(shell, SimpleNamespace(text_until_cursor=text, line=text))

    shell.user_ns["applications"] = 1
    assert "evaluate" in complete("%nbkit ev")
    assert complete("%nbkit gate mortgage --to ") == ["staging", "shadow", "canary", "production"]
    assert "--share" in complete("%nbkit freeze ")
    assert "applications" in complete("%nbkit freeze a")
    assert complete("%nbkit nothing ") == []
