"""The conventions that no other tool checks: names, imports, docstrings, paths, commands and the lock."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
from numpydoc.validate import validate

import nbkit

ROOT = Path(nbkit.__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(path for path in (ROOT / "nbkit").rglob("*.py") if "templates" not in path.parts)
HEAVY = ("mlflow", "shap", "pandas", "sklearn", "skops", "scipy")
LIGHT = (
    "nbkit.serve",
    "nbkit.serve._worker",
    "nbkit.route",
    "nbkit.review",
    "nbkit.contract",
    "nbkit.audit",
    "nbkit.package",
    "nbkit.gates",
    "nbkit.records",
)
MEMBERS = (property, classmethod, staticmethod)
LONGEST_MODULE = 400
CHECKS = frozenset(PYPROJECT["tool"]["numpydoc_validation"]["checks"])
# A docstring of prose alone may do where names and types say the rest; one that lists parameters lists all of them, and
# what is returned.
COMPLETE = frozenset({"PR01", "RT01"})
SECTION = re.compile(r"^\s*Parameters\n\s*-{4,}", re.MULTILINE)


def public_modules() -> list[str]:
    found = (module.name for module in pkgutil.walk_packages(nbkit.__path__, "nbkit."))
    return ["nbkit", *(name for name in found if not any(part.startswith("_") for part in name.split(".")))]


def public_objects() -> Iterator[tuple[str, object]]:
    """Yield public functions and classes by dotted name, and the methods that a class defines itself."""
    seen: set[int] = set()
    for module in public_modules():
        names = importlib.import_module(module)
        for name in names.__all__:
            thing = getattr(names, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)) or id(thing) in seen:
                continue
            seen.add(id(thing))
            yield f"{module}.{name}", thing
            for member, value in vars(thing).items() if inspect.isclass(thing) else ():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, MEMBERS)):
                    yield f"{module}.{name}.{member}", value


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def make_targets() -> dict[str, str]:
    """Return the targets of the Makefile that a person may type, with their help."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {
        target: found.group(1) if (found := re.search(rf"^{target}:[^#\n]*## (\S.*)$", text, re.MULTILINE)) else ""
        for target in re.findall(r"^([a-z][a-z0-9-]*):(?!=)", text, re.MULTILINE)
    }


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_resolves_once(module):
    names = importlib.import_module(module)
    assert names.__all__
    assert len(set(names.__all__)) == len(names.__all__)
    assert [name for name in names.__all__ if not hasattr(names, name)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_and_is_short(path):
    source = path.read_text(encoding="utf-8")
    assert (ast.get_docstring(ast.parse(source)) or "").strip(), "no docstring"
    assert source.count("\n") <= LONGEST_MODULE, "more than one idea?"


def test_public_docstrings_are_valid_numpydoc():
    problems = []
    for name, thing in public_objects():
        report = validate(name)
        prose = not SECTION.search(report["docstring"] or "")
        problems += [
            f"{name}: {code}: {text}"
            for code, text in report["errors"]
            if code in CHECKS and not (code in COMPLETE and (prose or has_inherited_signature(thing)))
        ]
    assert problems == []


def has_inherited_signature(thing: object) -> bool:
    # What numpydoc reads there is the constructor of Enum, of the exception tree or of pydantic.
    return inspect.isclass(thing) and issubclass(thing, (enum.Enum, BaseException, pydantic.BaseModel))


def test_imports_go_down_only():
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    ran = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_what_decides_loads_no_heavy_library(module):
    command = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("", "")


def test_importing_nbkit_loads_nothing_of_it():
    command = "import sys, nbkit; print(*(name for name in sys.modules if name.startswith('nbkit.')))"
    ran = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    places = {f"{place}/".encode() for place in (ROOT, Path.home()) if len(place.parts) > 1}
    pattern = re.compile(b"|".join(map(re.escape, sorted(places))))
    named = {
        str(path.relative_to(ROOT)): found.group()
        for path in tracked_files()
        if (found := pattern.search(path.read_bytes()))
    }
    assert named == {}


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "CHANGELOG.md"])
def test_every_make_command_of_the_documents_exists(page):
    named = re.findall(
        r"\bmake ([a-z][a-z0-9-]+)(?=[`\s]*(?:$|[`#;,&]|  ))", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for name in named if name not in make_targets()] == []


def test_the_readme_begins_with_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make demo\b", text, re.MULTILINE)
    assert re.search(r"^make test\b", text, re.MULTILINE)


def test_every_make_target_has_a_line_of_help():
    assert [target for target, text in make_targets().items() if not text] == []
    assert {"demo", "test", "check", "lock", "lab"} <= set(make_targets())


def test_the_pipeline_runs_the_same_recipe_as_a_developer():
    assert re.search(r"^make check$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_changelog_has_an_entry_for_this_version():
    assert nbkit.__version__ == PYPROJECT["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert nbkit.__version__ in text or "Unreleased" in text


def test_the_lock_pins_every_package_by_hash_and_names_no_index():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(?:-i|--(?:extra-)?index-url|--find-links|--trusted-host|-e)\b", text, re.MULTILINE)
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) > 100
    assert [entry for entry in entries if not re.match(r"[A-Za-z0-9._-]+(?:\[[\w,-]+\])?==[^\s;]+", entry)] == []
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_an_installation_for_scoring_brings_no_notebook_library():
    names = {re.match(r"[\w-]+", requirement).group().lower() for requirement in PYPROJECT["project"]["dependencies"]}
    assert not names & {"mlflow", "pandas", "shap", "scikit-learn", "skops", "jupyterlab", "papermill", "matplotlib"}
