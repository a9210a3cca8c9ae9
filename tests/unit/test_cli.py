"""The command line: help, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nbkit.cli import cli, main

READING = ("new", "contract check", "run", "evaluate", "explain", "gate", "audit verify", "audit replay")


def _commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= _commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


@pytest.mark.parametrize("name", sorted(_commands(cli)))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [*name.split(), "--help"])
    assert result.exit_code == 0
    summary = (_commands(cli)[name].help or "").split("\n\n")[0]
    assert " ".join(summary.split()) in " ".join(result.output.split())


@pytest.mark.parametrize("name", READING)
def test_every_reading_command_speaks_json(name: str) -> None:
    assert "--json" in {option for p in _commands(cli)[name].params for option in p.opts}


def test_the_readme_names_every_step(request: pytest.FixtureRequest) -> None:
    readme = (request.config.rootpath / "README.md").read_text(encoding="utf-8")
    for name in ("new", "keys new", "run", "gate", "approve", "promote", "serve", "audit verify", "audit replay", "ui"):
        assert f"nbkit {name}" in readme


def test_a_wrong_contract_is_exit_code_1_with_all_problems(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text("format: 2\nnmae: x\n")
    result = CliRunner().invoke(cli, ["contract", "check", str(tmp_path), "--json"])
    assert result.exit_code == 1
    problems = json.loads(result.output)["problems"]
    assert any("did you mean 'name'" in problem for problem in problems)
    assert len(problems) > 5


def test_the_schema_is_json_schema() -> None:
    schema = json.loads(CliRunner().invoke(cli, ["contract", "schema"]).output)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "owner" in schema["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_NBKIT_COMPLETE" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["evaluate", "nothing-here"], 2, "UsageError: nothing-here: no use case here"),
        (["run", ".", "-p", "oops"], 2, "ParameterError: -p: expected KEY=VALUE, got 'oops'"),
        (["audit", "verify"], 2, "UsageError: no ledger under"),
        (["new", "Not A Name"], 2, "UsageError: 'Not A Name' cannot be the name of a use case"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    arguments: list[str],
    code: int,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["nbkit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    error = capsys.readouterr().err
    assert error.startswith(text)
    assert len(error.strip().splitlines()) == 1
