"""Models and versions: register, list, describe, and let a stage point at one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from nbkit.errors import NotInRegistryError, RegistryError
from nbkit.registry._entries import VersionRecord
from nbkit.registry._mlflow_errors import ALREADY_THERE, translated
from nbkit.registry._runs import Runs, moment
from nbkit.registry._store import as_global_store

if TYPE_CHECKING:
    from nbkit.package import Package

# One spelling: MLflow lets `Production` and `production` stand beside each other, and a quote ends a search filter.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_PAGE = 200


class Versions(Runs):
    """Read and write models and versions; the half of `Registry` that knows nothing of evidence."""

    def register(self, package: Package, *, run_id: str, description: str, tags: Mapping[str, str]) -> int:
        """Log a package as a model of its run and register it as the next version.

        Parameters
        ----------
        package : Package
            As `nbkit.package.load_package` returned it: its files are those of the manifest.
        run_id : str
            The run that trained it.
        description : str
            Markdown; the version list shows its raw first line, so begin with a plain verdict.
        tags : mapping of str to str
            Shown on the version's page, beside the digests of package and contract.

        Returns
        -------
        int
            The version's number.

        Raises
        ------
        RegistryError
            MLflow refused or cannot be reached.
        PackageError
            The package has no requirements.
        """
        # MLflow's description of models takes a third of a second to load; only who registers needs it.
        from nbkit.registry._logged_model import log_package

        name = plain_name(package.contract.name)
        digests = {"nbkit.package_digest": package.digest, "nbkit.contract_digest": package.contract.digest}
        with translated(f"registering {name}"):
            self._model(name, title=package.contract.title)
            model_id = log_package(self._client, package, run_id=run_id)
            with as_global_store(self._uri):
                # The page of a version links its files only through a source of this form.
                created = self._client.create_model_version(
                    name,
                    source=f"models:/{model_id}",
                    run_id=run_id,
                    tags=digests | dict(tags),
                    description=description,
                    model_id=model_id,
                    await_creation_for=0,  # such a version is ready at once; waiting only prints that it waits
                )
            version = int(created.version)
            self._client.set_logged_model_tags(
                model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": str(version)}])}
            )
        return version

    def names(self) -> tuple[str, ...]:
        """Return the names of all registered models, sorted."""
        with translated("models"):
            found = [model.name for model in _all(self._client.search_registered_models)]
        return tuple(sorted(found))

    def version(self, name: str, *, version: int) -> VersionRecord:
        """Return one version.

        Raises
        ------
        NotInRegistryError
            No such model or version.
        """
        found = self._version(name, version)
        return _record(found, stages=tuple(sorted(found.aliases)))

    def versions(self, name: str, *, stages: bool = True) -> tuple[VersionRecord, ...]:
        """Return all versions of a model, newest first; none for a model that is not registered.

        Parameters
        ----------
        name : str
            The model.
        stages : bool
            Whether to ask which stages point at them; otherwise the records name none.
        """
        with translated(f"versions of {name}"):
            wanted = f"name='{plain_name(name)}'"
            found = _all(self._client.search_model_versions, filter_string=wanted)
            aliases = self._aliases(name) if found and stages else {}
        pointing: dict[int, list[str]] = {}
        for alias, number in sorted(aliases.items()):
            pointing.setdefault(number, []).append(alias)
        records = [_record(entry, stages=tuple(pointing.get(int(entry.version), ()))) for entry in found]
        return tuple(sorted(records, key=lambda record: -record.version))

    def registered_from(self, *, run_id: str = "", model_id: str = "") -> tuple[VersionRecord, ...]:
        """Return the versions that came out of a run, or whose files are those of a logged model; without stages."""
        wanted = f"run_id='{_hexadecimal(run_id)}'" if run_id else f"source_path='models:/{_hexadecimal(model_id)}'"
        with translated("versions"):
            found = _all(self._client.search_model_versions, filter_string=wanted)
        return tuple(_record(entry, stages=()) for entry in found)

    def set_alias(self, name: str, *, stage: str, version: int) -> None:
        """Let a stage point at a version. Evidence first: whoever loads the stage asks for it.

        Raises
        ------
        NotInRegistryError
            No such model or version.
        """
        with translated(f"{name}: alias {stage}"):
            self._client.set_registered_model_alias(plain_name(name), plain_name(stage), str(version))

    def version_at(self, name: str, *, stage: str) -> int | None:
        """Return the version that a stage points at, if any: a claim that only evidence makes true."""
        with translated(f"{name}: alias {stage}"):
            return self._aliases(plain_name(name)).get(plain_name(stage))

    def set_version_tags(self, name: str, *, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; an existing one is replaced, one that says so already is left alone."""
        with translated(f"{name}@{version}: tags"):
            # Each is a write of its own; most of what a move shows was shown before.
            known = self._version(name, version).tags if len(tags) > 1 else {}
            for key, value in tags.items():
                if known.get(key) != value:
                    self._client.set_model_version_tag(plain_name(name), str(version), key, value)

    def delete_version_tags(self, name: str, *, version: int, keys: Sequence[str]) -> None:
        """Delete tags of a version; each must be there."""
        with translated(f"{name}@{version}: tags"):
            for key in keys:
                self._client.delete_model_version_tag(plain_name(name), str(version), key)

    def describe_version(self, name: str, *, version: int, description: str) -> None:
        """Set a version's markdown description; begin with a plain verdict."""
        with translated(f"{name}@{version}: description"):
            self._client.update_model_version(plain_name(name), str(version), description=description)

    def version_link(self, name: str, version: int) -> str:
        """Return the address of the version's page in the MLflow UI."""
        return f"{self._settings.ui_url.rstrip('/')}/#/models/{quote(name, safe='')}/versions/{version}"

    def _model(self, name: str, *, title: str) -> None:
        try:
            self._client.create_registered_model(name, description=title)
        except MlflowException as error:
            if error.error_code not in ALREADY_THERE:
                raise

    def _aliases(self, name: str) -> dict[str, int]:
        try:
            with translated(name):
                found = self._client.get_registered_model(name)
        except NotInRegistryError:
            return {}
        return {alias: int(version) for alias, version in found.aliases.items()}

    def _version(self, name: str, version: int) -> ModelVersion:
        with translated(f"{name}@{version}"):
            return self._client.get_model_version(plain_name(name), str(version))


def is_plain_name(name: str) -> bool:
    return bool(_NAME.match(name))


def plain_name(name: str) -> str:
    if not is_plain_name(name):
        raise RegistryError(f"expected lower-case letters, digits, '-' and '_', beginning with a letter, got {name!r}")
    return str(name)


def _hexadecimal(identifier: str) -> str:
    # A quote would end the search filter.
    if not re.fullmatch(r"(?:m-)?[0-9a-f]{1,64}", identifier):
        raise RegistryError(f"expected the id of a run or of a logged model, got {identifier!r}")
    return identifier


def _all(search: Callable[..., PagedList], *, filter_string: str | None = None) -> PagedList:
    page = search(max_results=_PAGE, filter_string=filter_string)
    found = list(page)
    while page.token:
        page = search(max_results=_PAGE, filter_string=filter_string, page_token=page.token)
        found += page
    return found


def _record(entry: ModelVersion, *, stages: tuple[str, ...]) -> VersionRecord:
    return VersionRecord(
        model=entry.name,
        version=int(entry.version),
        run_id=entry.run_id or "",
        description=entry.description or "",
        stages=stages,
        tags=dict(entry.tags),
        created_at=moment(entry.creation_timestamp),
        source=entry.source or "",
        mlflow_stage=entry.current_stage or "None",
    )
