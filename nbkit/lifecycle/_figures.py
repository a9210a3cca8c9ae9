"""The figures on a run's page: signed when a version comes out of the run, and compared with what is shown today.

MLflow shows the last value of a metric, and anybody who may write to the run can log another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite

from nbkit.errors import NotInRegistryError
from nbkit.lifecycle._documents import digest_of, place_of
from nbkit.registry import Registry, Statement

# Among the signed facts. Gates read none of it.
FIGURES = "run"
_FACTS = "facts.json"
# What MLflow itself measures of the machine while a run goes on.
_OF_THE_MACHINE = "system/"


def show_figures(
    registry: Registry, run_id: str, *, facts: Mapping[str, object], settled: bool
) -> Mapping[str, object]:
    """Let a run show what was measured, unless it is settled; return what is to be signed of what it shows.

    Parameters
    ----------
    registry : Registry
        Where the run is.
    run_id : str
        The run.
    facts : mapping
        Of the evaluation: its metrics are what nbkit measured, whatever became of them on the page since.
    settled : bool
        Whether a version came out of the run already.

    Returns
    -------
    mapping
        ``metrics`` and ``parameters`` by name, both as text: JSON knows no NaN.
    """
    shown = registry.run(run_id).metrics
    edited = {name: value for name, value in _measured(facts).items() if shown.get(name) != value}
    if edited and not settled:
        registry.log_metrics(run_id, edited)
    return _shown(registry, run_id)


def changed_figures(submission: Statement, registry: Registry) -> Iterator[tuple[str, str]]:
    """Yield each figure of the run's page that is not as it was signed: metric or parameter, and in what way.

    Parameters
    ----------
    submission : Statement
        Verified. Of one from before figures were signed, the metrics that its evaluation measured are compared.
    registry : Registry
        Where the run is.
    """
    facts = _signed_facts(submission, registry)
    today = _shown(registry, submission.run_id)
    signed = facts.get(FIGURES)
    if not isinstance(signed, dict):
        measured = {name: repr(value) for name, value in _measured(facts).items()}
        signed = {"metrics": {name: value for name, value in measured.items() if name in today["metrics"]}}
        today = {"metrics": {name: today["metrics"][name] for name in signed["metrics"]}}
    for kind, group in (("metric", "metrics"), ("parameter", "parameters")):
        then, now = signed.get(group, {}), today.get(group, {})
        for name in sorted({*then, *now}):
            if problem := _difference(f"{kind} {name}", then=then.get(name), now=now.get(name)):
                yield kind, problem


def _difference(what: str, *, then: object, now: object) -> str:
    if then == now:
        return ""
    if now is None:
        return f"{what} of the run is gone; submitted was {then}"
    if then is None:
        return f"{what} of the run says {now} and was not submitted"
    return f"{what} of the run says {now}; submitted was {then}"


def _shown(registry: Registry, run_id: str) -> dict[str, dict[str, str]]:
    run = registry.run(run_id)
    metrics = {name: repr(value) for name, value in run.metrics.items() if not name.startswith(_OF_THE_MACHINE)}
    return {"metrics": metrics, "parameters": dict(run.parameters)}


def _measured(facts: Mapping[str, object]) -> dict[str, float]:
    """Return the evaluation's metrics; MLflow cannot keep one that is infinite."""
    metrics = facts.get("metrics")
    values = {
        name: found.get("value") for name, found in metrics.items() if isinstance(found, dict)
    } if isinstance(metrics, dict) else {}  # fmt: skip
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float) and isfinite(value)}


def _signed_facts(submission: Statement, registry: Registry) -> Mapping[str, object]:
    try:
        raw = registry.read_artifact(submission.run_id, place_of(_FACTS, version=submission.version))
    except NotInRegistryError:
        return {}  # whoever asks for the documents is told that it is gone
    # Neither is a changed file what was signed.
    facts: object = json.loads(raw) if digest_of(raw) == submission.documents.get(_FACTS) else {}
    return facts if isinstance(facts, dict) else {}
