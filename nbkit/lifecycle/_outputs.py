"""What an evaluation leaves in its MLflow run: figures once, tables that MLflow shows, files, every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.files import write_atomically
from nbkit.lifecycle._documents import TABLES
from nbkit.lifecycle._pages import is_settled
from nbkit.lifecycle._usecase import Build
from nbkit.registry import Registry

if TYPE_CHECKING:
    from nbkit.evaluate import (
        BehaviourResult,
        CaseRecord,
        ContenderResult,
        Estimate,
        EvaluationResult,
        SliceResult,
    )

RECORD_FOLDER = "judged"


def record_name(digest: str) -> str:
    """Return the name of the file that keeps every case's score; several versions of one run keep theirs apart."""
    return f"judged-{digest.removeprefix('sha256:')[:12]}.json.gz"


def keep_evaluation(result: EvaluationResult, record: CaseRecord | None, *, build: Build, registry: Registry) -> Path:
    """Write an evaluation to its build and to MLflow; return the report's path.

    Of a run that a version came out of, MLflow keeps figures, pages and tables: they were signed. Those of this
    evaluation are kept beside the version that is registered with it.
    """
    write_atomically(build.evaluation, content=result.to_json().encode())
    report = build.directory / "report.html"
    write_atomically(report, content=result.to_html().encode())
    if record is not None:
        path = build.directory / record_name(result.record)
        write_atomically(path, content=record.to_bytes())
        registry.log_file(build.run_id, path, folder=RECORD_FOLDER)
    if not is_settled(registry, build.run_id):
        registry.log_metrics(build.run_id, {metric.name: metric.value for metric in result.metrics})
        registry.log_file(build.run_id, report)
        registry.log_file(build.run_id, build.evaluation)
        for name, columns in tables_of(result).items():
            registry.log_table(build.run_id, columns, path=f"{TABLES}/{name}.json")
    tags = {"nbkit.case_set": result.case_set.digest, "nbkit.summary": result.summary_line}
    registry.set_run_tags(build.run_id, tags)
    return report


def tables_of(result: EvaluationResult) -> Mapping[str, Mapping[str, Sequence[object]]]:
    """Return what MLflow shows as tables: slices, flips, behaviours and the comparison; empty ones are left out."""
    flips = result.champion.flips if result.champion else ()
    found = {
        "slices": _columns([_slice_row(one) for one in result.slices]),
        "flips": _columns([{field.name: getattr(flip, field.name) for field in fields(flip)} for flip in flips]),
        "behaviours": _columns([_behaviour_row(one) for one in result.behaviours]),
        "comparison": _columns([_contender_row(one) for one in result.contenders]),
    }
    return {name: columns for name, columns in found.items() if columns}


def _slice_row(one: SliceResult) -> Mapping[str, object]:
    return {
        "slice": one.column,
        "value": one.level,
        "cases": one.n,
        "positive": one.positives,
        **_spread("auc", one.auc),
        **_spread("cost", one.cost),
        "declined": one.decline_rate,
        "note": one.note,
    }


def _behaviour_row(one: BehaviourResult) -> Mapping[str, object]:
    return {
        "behaviour": one.id,
        "expected": one.expected,
        "tried": one.tried,
        "skipped": one.skipped,
        "broken": one.broken,
        "worst": one.worst,
        "problem": one.problem,
    }


def _contender_row(one: ContenderResult) -> Mapping[str, object]:
    return {
        "name": one.name,
        "kind": one.kind,
        **_spread("auc", one.auc),
        **_spread("cost", one.cost),
        **_spread("cost_difference", one.cost_difference),
        "approved": one.approved.value,
        "referred": one.referred.value,
        "declined": one.declined.value,
        "wrong": one.wrong,
        "note": one.note,
    }


def _columns(rows: Sequence[Mapping[str, object]]) -> Mapping[str, Sequence[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _spread(name: str, estimate: Estimate | None) -> Mapping[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
