"""The command line: help, exit codes, JSON."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nbkit.cli import cli, main
from nbkit.cli._extras import EXTRAS

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


def test_a_command_that_the_light_core_cannot_do_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['mlflow'] = None; from nbkit.cli import main; main()"
    command = [sys.executable, "-c", program, "gate", "mortgage", "--to", "staging"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        "this needs mlflow, which the light core does not bring",
        "  next: pip install 'nbkit[notebook]'",
    ]


def test_every_library_beyond_the_core_belongs_to_an_extra(request: pytest.FixtureRequest) -> None:
    project = tomllib.loads((request.config.rootpath / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {_module(requirement) for requirement in project["dependencies"]}
    imported = set()
    for path in (request.config.rootpath / "nbkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    # pydantic and jinja2 bring these themselves.
    core |= {"pydantic_core", "markupsafe"}
    known = {module for modules in EXTRAS.values() for module in modules}
    assert imported - set(sys.stdlib_module_names) - core - known - {"nbkit"} == set()
    assert set(EXTRAS) == set(project["optional-dependencies"])


def _module(requirement: str) -> str:
    name = re.match(r"[\w-]+", requirement)
    assert name is not None
    return {"pyyaml": "yaml", "zen-engine": "zen", "pyjwt": "jwt"}.get(name.group(), name.group())
