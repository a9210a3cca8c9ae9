"""An MLflow server that refuses, early, what whoever loads a version would refuse anyway.

``mlflow server --app-name nbkit``. Checks sit below the routes: in the stores and in the artifact repositories that all
of them use, so REST, the browser's own API, GraphQL and the streaming uploads meet the same rules.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from nbkit.errors import NbkitError, RefusedError, RegistryError
from nbkit.registry._artifacts import Artifacts
from nbkit.registry._registry import Registry
from nbkit.registry._server_rules import WriteRules
from nbkit.settings import Settings

_MODEL = re.compile(r"m-[0-9a-f]{32}\Z")
_RUN = re.compile(r"[0-9a-f]{32}\Z")
# Below a run's artifacts: what was signed, and the signatures.
_KEPT = re.compile(r"evidence\Z|certificates\Z|version-[0-9]+\Z")
# At their top, once a version came out of the run: what a reviewer reads. `nbkit.lifecycle._documents` names the same.
_READ = re.compile(r"(?:report|rationale|notebook)\.html\Z|rationale\.pdf\Z|(?:evaluation|rationale)\.json\Z|tables\Z")
_PROXIED = "mlflow-artifacts:"


def create_app() -> object:
    """Return the server's application with the guard on; MLflow calls it once in every worker process.

    Returns
    -------
    object
        A FastAPI application under uvicorn, MLflow's Flask application under gunicorn and waitress.

    Raises
    ------
    RegistryError
        The server keeps runs and versions in different stores, or no runs at all.
    """
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    _guard(Settings.from_environment(os.environ, directory=Path.cwd()))
    if _MLFLOW_SGI_NAME.get() == "uvicorn":
        from mlflow.server.fastapi_app import app as fastapi_app

        return fastapi_app
    from mlflow.server import app as flask_app

    return flask_app


def create_app_with_login() -> object:
    """Return the same with MLflow's own users and permissions (its ``basic-auth``) before the guard.

    Returns
    -------
    object
        As `create_app`.

    Raises
    ------
    RegistryError
        As `create_app`.
    """
    from mlflow.server.auth import create_app as create_login

    settings = Settings.from_environment(os.environ, directory=Path.cwd())
    _guard(settings)
    # MLflow makes the database of users before it starts workers, but only for its own app: here each worker would.
    with _alone(settings.home / "login.lock"):
        return create_login()


class _ServerRegistry(Registry):
    """Reads the server's own database and files directly, not through its own address."""

    def __init__(self, settings: Settings, *, destination: str) -> None:
        super().__init__(settings)
        self._destination = destination

    def _artifacts(self, location: str) -> Artifacts:
        if location.startswith(_PROXIED):
            from mlflow.server.handlers import _get_proxied_run_artifact_destination_path as below
            from mlflow.utils.uri import append_to_uri_path

            location = append_to_uri_path(self._destination, below(location))
        return super()._artifacts(location)


class _GuardedRegistry:
    """Mixed into MLflow's model registry store."""

    nbkit_rules: WriteRules

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> object:
        with _refusals():
            self.nbkit_rules.set_alias(name, alias, int(version))
        return super().set_registered_model_alias(name, alias, version)  # type: ignore[misc]

    def delete_registered_model_alias(self, name: str, alias: str) -> object:
        with _refusals():
            self.nbkit_rules.delete_alias(name, alias)
        return super().delete_registered_model_alias(name, alias)  # type: ignore[misc]

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: object
    ) -> object:
        with _refusals():
            self.nbkit_rules.transition(name, int(version), stage)
        return super().transition_model_version_stage(name, version, stage, archive_existing_versions)  # type: ignore[misc]

    def set_model_version_tag(self, name: str, version: str, tag: object) -> object:
        with _refusals():
            self.nbkit_rules.set_tag(name, int(version), str(getattr(tag, "key", "")), str(getattr(tag, "value", "")))
        return super().set_model_version_tag(name, version, tag)  # type: ignore[misc]

    def delete_model_version_tag(self, name: str, version: str, key: str) -> object:
        with _refusals():
            self.nbkit_rules.delete_tag(name, int(version), key)
        return super().delete_model_version_tag(name, version, key)  # type: ignore[misc]

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, tags: object = None, **more: object
    ) -> object:
        # A list of entities from Python, a protobuf container from a route.
        entries = {str(tag.key): str(tag.value) for tag in tags or ()}  # type: ignore[attr-defined]
        with _refusals():
            self.nbkit_rules.new_version(name, entries)
        return super().create_model_version(name, source, run_id, tags, **more)  # type: ignore[misc]

    def delete_model_version(self, name: str, version: str) -> object:
        with _refusals():
            self.nbkit_rules.delete(name, int(version))
        return super().delete_model_version(name, version)  # type: ignore[misc]

    def delete_registered_model(self, name: str) -> object:
        with _refusals():
            self.nbkit_rules.delete(name)
        return super().delete_registered_model(name)  # type: ignore[misc]

    def rename_registered_model(self, name: str, new_name: str) -> object:
        with _refusals():
            self.nbkit_rules.delete(name)
        return super().rename_registered_model(name, new_name)  # type: ignore[misc]


class _GuardedTracking:
    """Mixed into MLflow's tracking store."""

    nbkit_rules: WriteRules

    def delete_run(self, run_id: str) -> object:
        with _refusals():
            self.nbkit_rules.delete_run(run_id)
        return super().delete_run(run_id)  # type: ignore[misc]

    def delete_experiment(self, experiment_id: str) -> object:
        with _refusals():
            self.nbkit_rules.delete_experiment(str(experiment_id))
        return super().delete_experiment(experiment_id)  # type: ignore[misc]

    def delete_logged_model(self, model_id: str) -> object:
        with _refusals():
            self.nbkit_rules.delete_model(model_id)
        return super().delete_logged_model(model_id)  # type: ignore[misc]


class _GuardedFiles:
    """Mixed into the artifact repositories that the server writes with."""

    nbkit_rules: WriteRules
    artifact_uri: str

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> object:
        self._refuse_change(artifact_path, local_file)
        return super().log_artifact(local_file, artifact_path)  # type: ignore[misc]

    def log_artifact_from_stream(
        self, stream: object, artifact_file_name: str, artifact_path: str | None = None
    ) -> object:
        self._refuse_change(artifact_path, artifact_file_name)
        return super().log_artifact_from_stream(stream, artifact_file_name, artifact_path)  # type: ignore[misc]

    async def log_artifact_from_async_stream(
        self, chunks: object, artifact_file_name: str, artifact_path: str | None = None
    ) -> object:
        await asyncio.to_thread(self._refuse_change, artifact_path, artifact_file_name)
        return await super().log_artifact_from_async_stream(chunks, artifact_file_name, artifact_path)  # type: ignore[misc]

    def create_multipart_upload(self, local_file: str, num_parts: int = 1, artifact_path: str | None = None) -> object:
        self._refuse_change(artifact_path, local_file)
        return super().create_multipart_upload(local_file, num_parts, artifact_path)  # type: ignore[misc]

    def complete_multipart_upload(
        self, local_file: str, upload_id: str, parts: object, artifact_path: str | None = None
    ) -> object:
        self._refuse_change(artifact_path, local_file)
        return super().complete_multipart_upload(local_file, upload_id, parts, artifact_path)  # type: ignore[misc]

    def create_presigned_upload_url(self, artifact_path: str, expiration: int = 900) -> object:
        self._refuse_change(artifact_path, "")
        return super().create_presigned_upload_url(artifact_path, expiration)  # type: ignore[misc]

    def delete_artifacts(self, artifact_path: str | None = None) -> object:
        listed = [entry.path for entry in self._iter_artifacts_recursive(artifact_path)]  # type: ignore[attr-defined]
        with _refusals():
            for path in (artifact_path or "", *listed):
                if self._model_in(path) or self._is_kept(path):
                    raise RefusedError(f"{path}: belongs to a registered version and is not deleted")
        return super().delete_artifacts(artifact_path)  # type: ignore[misc]

    def _refuse_change(self, folder: str | None, name: str) -> None:
        # Repositories differ in whether they keep the folders of a name: every place it could end at is checked.
        for path in {str(PurePosixPath(folder or "", end)) for end in (name.lstrip("/"), PurePosixPath(name).name)}:
            with _refusals():
                if self._model_in(path):
                    raise RefusedError(f"{path}: belongs to a registered version and does not change")
                if self._is_kept(path) and self._exists(path):
                    raise RefusedError(
                        f"{path}: was signed, is a signature or is read by reviewers, and is not overwritten"
                    )

    def _parts(self, path: str) -> tuple[str, ...]:
        return PurePosixPath(f"{urlsplit(self.artifact_uri).path}/{path}").parts

    def _model_in(self, path: str) -> bool:
        return any(self.nbkit_rules.is_registered(part) for part in self._parts(path) if _MODEL.match(part))

    def _is_kept(self, path: str) -> bool:
        parts = self._parts(path)
        return any(
            _RUN.match(run)
            and artifacts == "artifacts"
            and (_KEPT.match(top) or (_READ.match(top) and self.nbkit_rules.has_versions(run)))
            for run, artifacts, top in zip(parts, parts[1:], parts[2:], strict=False)
        )

    def _exists(self, path: str) -> bool:
        place = PurePosixPath(path)
        folder = "" if str(place.parent) == "." else str(place.parent)
        return any(PurePosixPath(entry.path).name == place.name for entry in self.list_artifacts(folder or None))  # type: ignore[attr-defined]


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer a refusal, and whatever could not be checked, as MLflow answers a forbidden request."""
    try:
        yield
    except NbkitError as error:
        raise MlflowException(f"nbkit: {error}", error_code=PERMISSION_DENIED) from error
    except OSError as error:
        raise MlflowException(f"nbkit: could not be checked: {error}", error_code=PERMISSION_DENIED) from error


def _guard(settings: Settings) -> None:
    """Put the rules in front of this process's stores; each keeps its class and gains the checks."""
    from mlflow.server import handlers

    registry = _own_registry(settings, environment=os.environ)
    rules = WriteRules(registry, trust_file=settings.trust_file, now=lambda: datetime.now(UTC))
    _mix_in(_GuardedRegistry, handlers._get_model_registry_store(), rules=rules)
    _mix_in(_GuardedTracking, handlers._get_tracking_store(), rules=rules)
    build: Callable[..., object] = handlers.get_artifact_repository

    def guarded(*arguments: object, **options: object) -> object:
        return _mix_in(_GuardedFiles, build(*arguments, **options), rules=rules)

    handlers.get_artifact_repository = guarded
    handlers._artifact_repo = None


def _mix_in(mixin: type, target: object, *, rules: WriteRules) -> object:
    kind = type(target)
    if not issubclass(kind, mixin):
        target.__class__ = type(f"Guarded{kind.__name__}", (mixin, kind), {"nbkit_rules": rules})
    return target


def _own_registry(settings: Settings, *, environment: Mapping[str, str]) -> Registry:
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
    from mlflow.server.constants import (
        ARTIFACTS_DESTINATION_ENV_VAR,
        ARTIFACTS_ONLY_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        REGISTRY_STORE_URI_ENV_VAR,
    )

    database = environment.get(BACKEND_STORE_URI_ENV_VAR, "")
    separate = environment.get(REGISTRY_STORE_URI_ENV_VAR, database)
    if not database or separate != database or environment.get(ARTIFACTS_ONLY_ENV_VAR) == "true":
        raise RegistryError("the guard needs one database for runs and versions: mlflow server --backend-store-uri URI")
    if MLFLOW_ENABLE_WORKSPACES.get():
        raise RegistryError("the guard knows no MLflow workspaces: unset MLFLOW_ENABLE_WORKSPACES")
    own = dataclasses.replace(settings, tracking_uri=database)
    return _ServerRegistry(own, destination=environment.get(ARTIFACTS_DESTINATION_ENV_VAR, ""))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time do what is inside."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
