"""Runs: who trained what, with which parameters, and which files came out."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from nbkit.errors import RegistryError
from nbkit.registry._artifacts import Artifacts
from nbkit.registry._entries import RunRecord
from nbkit.registry._mlflow_errors import ALREADY_THERE, translated
from nbkit.registry._store import check_reachable, connect, is_local

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from nbkit.settings import Settings

# MLflow's limit on one batch.
_BATCH = 100
# Parameters that nbkit itself writes to agree on who moves a model next: no parameters of the notebook.
CLAIM_PREFIX = "nbkit.claim."
_NOTE_TAG = "mlflow.note.content"
_TABLES_TAG = "mlflow.loggedArtifacts"
# The experiment's name is a folder below the artifact root.
_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}\Z")


class Runs:
    """Read and write runs; the half of `Registry` that knows nothing of versions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._uri = settings.tracking_uri
        # A run's experiment and the place of its files: MLflow never changes either.
        self._places: dict[str, tuple[str, str]] = {}

    @property
    def _client(self) -> MlflowClient:
        with translated("MLflow"):
            return connect(self._uri)

    def check_reachable(self) -> None:
        """Return when the store answers.

        Raises
        ------
        RegistryUnavailableError
            Nobody answers within five seconds: MLflow itself would go on trying for minutes.
        """
        check_reachable(self._uri)

    def create_run(
        self, experiment: str, *, name: str, tags: Mapping[str, str], parameters: Mapping[str, object]
    ) -> str:
        """Begin a run.

        Parameters
        ----------
        experiment : str
            Made when missing; its files lie below ``settings.artifact_root``.
        name : str
            Shown in MLflow.
        tags : mapping of str to str
            ``mlflow.source.*`` tags given here survive.
        parameters : mapping of str to object
            Logged as text.

        Returns
        -------
        str
            The run's id; its status is RUNNING until `finish_run`.

        Raises
        ------
        RegistryError
            MLflow refused or cannot be reached.
        """
        with translated(f"experiment {experiment!r}"):
            experiment_id = self._experiment(experiment)
            run = self._client.create_run(experiment_id, tags=dict(tags), run_name=name)
        run_id = str(run.info.run_id)
        self.log_parameters(run_id, parameters)
        return run_id

    def finish_run(self, run_id: str, *, succeeded: bool) -> None:
        """End a run as FINISHED or FAILED."""
        with translated(f"run {run_id}"):
            self._client.set_terminated(run_id, status="FINISHED" if succeeded else "FAILED")

    def run(self, run_id: str) -> RunRecord:
        """Return what MLflow knows of a run.

        Raises
        ------
        NotInRegistryError
            No such run.
        """
        with translated(f"run {run_id}"):
            found = self._client.get_run(run_id)
            experiment = self._client.get_experiment(found.info.experiment_id)
        return RunRecord(
            run_id=found.info.run_id,
            experiment_id=found.info.experiment_id,
            experiment=experiment.name,
            name=found.info.run_name or "",
            status=found.info.status,
            parameters={k: v for k, v in found.data.params.items() if not k.startswith(CLAIM_PREFIX)},
            metrics=dict(found.data.metrics),
            tags=dict(found.data.tags),
            description=found.data.tags.get(_NOTE_TAG, ""),
            started_at=moment(found.info.start_time),
            ended_at=moment(found.info.end_time) if found.info.end_time else None,
            artifact_location=found.info.artifact_uri,
        )

    def log_parameters(self, run_id: str, parameters: Mapping[str, object]) -> None:
        """Log parameters as text; a parameter that is logged already cannot change."""
        entries = [Param(name, str(value)) for name, value in parameters.items()]
        with translated(f"run {run_id}: parameters"):
            for start in range(0, len(entries), _BATCH):
                self._client.log_batch(run_id, params=entries[start : start + _BATCH])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics once, at step 0: MLflow's page of the model shows the first value only."""
        now = int(time.time() * 1000)
        with translated(f"run {run_id}: metrics"):
            self._client.log_batch(run_id, metrics=[Metric(k, float(v), now, 0) for k, v in metrics.items()])

    def set_run_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run; an existing one is replaced."""
        entries = [RunTag(name, value) for name, value in tags.items()]
        with translated(f"run {run_id}: tags"):
            for start in range(0, len(entries), _BATCH):
                self._client.log_batch(run_id, tags=entries[start : start + _BATCH])

    def describe_run(self, run_id: str, text: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Set the run's markdown description; MLflow clips it, so the verdict belongs into the first line.

        Parameters
        ----------
        run_id : str
            The run.
        text : str
            Markdown.
        tags : mapping of str to str, optional
            Set with it, in one step.
        """
        self.set_run_tags(run_id, {**(tags or {}), _NOTE_TAG: text})

    def log_file(self, run_id: str, path: Path, *, folder: str = "") -> None:
        """Copy a file into the run's artifacts, replacing one of the same name."""
        with translated(f"run {run_id}: {path.name}"):
            self._client.log_artifact(run_id, str(path), folder or None)

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], *, path: str) -> None:
        """Write a table that MLflow shows as one, replacing one of the same path.

        Parameters
        ----------
        run_id : str
            The run.
        columns : mapping of str to sequence
            All of one length; values that JSON does not know are written as text.
        path : str
            Ends in ``.json``.

        Raises
        ------
        RegistryError
            Columns of unequal length, another ending, or MLflow refused.
        """
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1 or not path.endswith(".json"):
            raise RegistryError(f"table {path}: expected a .json path and columns of one length, got {sorted(lengths)}")
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        content = json.dumps({"columns": list(columns), "data": _without_nan(rows)}, default=str, allow_nan=False)
        with translated(f"run {run_id}: {path}"):
            self._log_text(run_id, content, path)
            shown = json.loads(self._client.get_run(run_id).data.tags.get(_TABLES_TAG, "[]"))
            entry = {"path": path, "type": "table"}
            if entry not in shown:
                self._client.set_tag(run_id, _TABLES_TAG, json.dumps([*shown, entry]))

    def read_artifact(self, run_id: str, path: str) -> bytes:
        """Return the bytes of one of the run's artifacts.

        Raises
        ------
        NotInRegistryError
            No such run or artifact.
        RegistryError
            A path that leads outside.
        """
        with translated(f"run {run_id}: {path}"):
            return self._run_artifacts(run_id).read(path)

    def file_paths(self, run_id: str, *, folder: str = "") -> tuple[str, ...]:
        """Return the path of every artifact of a run below a folder, sorted; none where there is no such folder."""
        with translated(f"run {run_id}: {folder or 'artifacts'}"):
            return self._run_artifacts(run_id).paths(folder)

    def run_link(self, run_id: str) -> str:
        """Return the address of the run's page in the MLflow UI."""
        return f"{self._settings.ui_url.rstrip('/')}/{self.run_path(run_id)}"

    def run_path(self, run_id: str) -> str:
        """Return where the run's page is inside the MLflow UI, without the address of the UI."""
        with translated(f"run {run_id}"):
            experiment_id, _ = self._place(run_id)
        return f"#/experiments/{experiment_id}/runs/{run_id}"

    def _run_artifacts(self, run_id: str) -> Artifacts:
        return self._artifacts(self._place(run_id)[1])

    def _place(self, run_id: str) -> tuple[str, str]:
        if run_id not in self._places:
            found = self._client.get_run(run_id).info
            self._places[run_id] = (str(found.experiment_id), str(found.artifact_uri))
        return self._places[run_id]

    def _artifacts(self, location: str) -> Artifacts:
        return Artifacts(location, tracking_uri=self._uri)

    def _log_text(self, run_id: str, text: str, path: str) -> None:
        place = PurePosixPath(path)
        with tempfile.TemporaryDirectory(prefix="nbkit-") as folder:
            file = Path(folder) / place.name
            file.write_text(text, encoding="utf-8")
            self._client.log_artifact(run_id, str(file), str(place.parent) if len(place.parts) > 1 else None)

    def _experiment(self, name: str) -> str:
        if not _EXPERIMENT.match(name):
            raise RegistryError(f"experiment: expected letters, digits, spaces, '.', '-' and '_', got {name!r}")
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None
            if is_local(self._uri):
                location = (self._settings.artifact_root.resolve() / name).as_uri()
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code not in ALREADY_THERE:
                    raise
                # Another process made it in between.
                found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id)


def moment(milliseconds: int) -> datetime:
    """Return MLflow's time stamp as an aware time."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def _without_nan(value: object) -> object:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None if value != value else str(value)
    return value
