"""A package as an MLflow model: ``mlflow.pyfunc.load_model`` works, and nothing about it is inferred."""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from nbkit.errors import PackageError
from nbkit.registry._artifacts import DATA_FOLDER
from nbkit.registry._runs import CLAIM_PREFIX
from nbkit.registry._store import mlflow_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from nbkit.contract import Contract
    from nbkit.package import Package

# A name only: what joins package, evidence and trust lies above this package.
_LOADER = "nbkit.lifecycle._pyfunc"
_MODEL_TYPE = "nbkit package"
# MLflow's limit on one batch of metrics.
_BATCH = 1000


def log_package(client: MlflowClient, package: Package, *, run_id: str) -> str:
    """Log a package as a LoggedModel of the run and return the model's id.

    MLflow's own ``log_model`` would copy the files twice, infer requirements in a subprocess, pick up a ``uv.lock`` of
    the working folder and ask the process-wide tracking URI; this writes the same layout directly.
    """
    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=package.contract.name,
        source_run_id=run_id,
        params={k: v for k, v in run.data.params.items() if not k.startswith(CLAIM_PREFIX)},
        tags={"nbkit.package_digest": package.digest, "nbkit.contract_digest": package.contract.digest},
        model_type=_MODEL_TYPE,
    )
    model_id = str(model.model_id)
    try:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        _link_metrics(client, run.data.metrics, run_id=run_id, model_id=model_id)
        with tempfile.TemporaryDirectory(prefix="nbkit-") as folder:
            _write_model_files(
                Path(folder), package, model_id=model_id, run_id=run_id, location=model.artifact_location
            )
            client.log_model_artifacts(model_id, folder)
        client.log_model_artifacts(model_id, str(package.directory), DATA_FOLDER)
    except BaseException:
        # A half-written model must not look like one that can be registered by hand.
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    return model_id


def signature_of(contract: Contract) -> ModelSignature:
    """Return the MLflow signature: what the fitted model is given, and the score that it returns.

    Every number is a double, as in the frames that nbkit trains on: MLflow's integers and booleans are never missing.
    """
    inputs = [
        ColSpec(
            DataType.string if column.type == "category" else DataType.double,
            column.name,
            required=not column.nullable,
        )
        for column in contract.inputs
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.double)]))


def requirements_of(package: Package) -> list[str]:
    """Return the package's pinned requirements, with MLflow's own."""
    path = package.directory / "requirements.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise PackageError(f"{path}: cannot be read: {error.strerror}") from error
    pins = [line for line in lines if line and not line.startswith("#")]
    named = {re.split(r"[\s=<>!~\[;@]", pin, maxsplit=1)[0].lower() for pin in pins}
    return pins if "mlflow" in named else [f"mlflow=={mlflow_version()}", *pins]


def _write_model_files(folder: Path, package: Package, *, model_id: str, run_id: str, location: str) -> None:
    requirements = requirements_of(package)
    model = Model(artifact_path=location, run_id=run_id, model_uuid=model_id, model_id=model_id)
    model.signature = signature_of(package.contract)
    model.metadata = {"nbkit.package_digest": package.digest}
    # What mlflow.pyfunc.add_to_model writes; importing that package loads 600 modules more.
    model.add_flavor(
        "python_function",
        loader_module=_LOADER,
        python_version=platform.python_version(),
        data=DATA_FOLDER,
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    model.model_size_bytes = sum(path.stat().st_size for path in package.directory.rglob("*") if path.is_file())
    model.save(str(folder / "MLmodel"))
    python = platform.python_version()
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": requirements}],
    }
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), encoding="utf-8")
    (folder / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False), encoding="utf-8")


def _link_metrics(client: MlflowClient, names: Iterable[str], *, run_id: str, model_id: str) -> None:
    """Show the run's metrics on the model's page too: the same points, not new ones."""
    history = [point for name in names for point in client.get_metric_history(run_id, name)]
    entries = [Metric(p.key, p.value, p.timestamp, p.step, model_id=model_id, run_id=run_id) for p in history]
    for start in range(0, len(entries), _BATCH):
        client.log_batch(run_id, metrics=entries[start : start + _BATCH])
