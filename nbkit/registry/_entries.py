"""What the registry answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["RunRecord", "VersionRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One MLflow run.

    Parameters
    ----------
    run_id, experiment_id, experiment, name : str
        How to find it.
    status : str
        RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
    parameters, metrics, tags : mapping
        As logged; the last value of each metric. MLflow's own ``mlflow.*`` tags are included.
    description : str
        Markdown that the run's page shows.
    started_at, ended_at : datetime, optional
        Aware, UTC.
    artifact_location : str
        Where its files lie.
    """

    run_id: str
    experiment_id: str
    experiment: str
    name: str
    status: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    artifact_location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One model version.

    Parameters
    ----------
    model, version : str, int
        Name and number in the registry.
    run_id : str
        The run that made it; empty when MLflow knows none.
    description : str
        Markdown that the version's page shows.
    stages : tuple of str
        The aliases that point at it: a claim, true only with evidence.
    tags : mapping
        As set at registration and later.
    created_at : datetime
        Aware, UTC.
    source : str
        Where MLflow says its files are: ``models:/<id>``.
    mlflow_stage : str
        MLflow's own, deprecated stage; ``None`` (the word) when it has none.
    """

    model: str
    version: int
    run_id: str
    description: str
    stages: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime
    source: str
    mlflow_stage: str = "None"
