"""What MLflow calls to load a registered version, in a batch or on Spark: verified like anything that decides.

MLflow calls it with a path alone, so this module reads the environment itself, as a face does: ``NBKIT_HOME`` for the
trust file, ``MLFLOW_TRACKING_URI`` for the evidence, ``NBKIT_STAGE`` for a back-test of what is not in production.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError
from nbkit.lifecycle._champion import claimed
from nbkit.package import Package, load_package
from nbkit.package._pyfunc import ScoringModel
from nbkit.registry import MEMORY_FILE, Memory, Registry, Statement, TrustStore, verify_evidence
from nbkit.settings import Settings

_STAGES = (Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION)


def _load_pyfunc(path: str) -> ScoringModel:
    settings = Settings.from_environment(os.environ, directory=Path.cwd())
    stage = os.environ.get("NBKIT_STAGE") or Stage.PRODUCTION.value
    package = load_package(Path(path))
    verify_for_batch(package, stage=stage, settings=settings, now=datetime.now(UTC))
    return ScoringModel(package)


def verify_for_batch(package: Package, *, stage: str, settings: Settings, now: datetime) -> Statement:
    """Accept a package that lies on this machine for a stage, or say what speaks against it.

    Parameters
    ----------
    package : Package
        Its files are those of its manifest.
    stage : str
        What it is loaded as.
    settings : Settings
        Where MLflow and the trust file are.
    now : datetime
        Aware.

    Returns
    -------
    Statement
        What was signed.

    Raises
    ------
    EvidenceError
        There is no evidence, it does not hold, another version was decided later, or the clock went back.
    """
    name = package.contract.name
    if stage not in [each.value for each in _STAGES]:
        raise EvidenceError(f"NBKIT_STAGE: expected one of {', '.join(_STAGES)}, got {stage!r}")
    memory = Memory(settings.home / MEMORY_FILE)
    memory.check_clock(now)
    trust = TrustStore.load(settings.trust_file)
    decided = claimed(name, stage=Stage(stage), settings=settings)
    last = max([memory.highest_epoch(name, stage=stage), *(each.statement.epoch for each in decided)])
    own = next((each for each in decided if each.statement.package_digest == package.digest), None)
    envelope = Registry(settings).envelope(name, version=own.version, stage=stage) if own is not None else None
    if own is None or envelope is None:
        raise EvidenceError(
            f"{name}: no evidence for {stage} of package {package.digest}", next_step=f"nbkit gate {name} --to {stage}"
        )
    statement = verify_evidence(
        envelope, trust=trust, now=now, model=name, version=own.version, stage=stage,
        package_digest=package.digest, contract=package.contract, minimum_epoch=last,
    )  # fmt: skip
    memory.accepted(name, stage=stage, epoch=statement.epoch, now=now)
    return statement
