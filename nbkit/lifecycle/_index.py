"""``evidence.json`` at the top of a run: what was signed about its versions, to read, and where to verify it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NotInRegistryError
from nbkit.registry import Envelope, Registry, VersionRecord

INDEX = "evidence.json"
# To raise it: add the new form here; the file is written anew at the next move, and nothing that decides reads it.
INDEX_FORMAT = 1
_NOTE = "A copy to read. It proves nothing: the signatures are in the files that it names, and these are verified."


def index_text(run_id: str, *, registry: Registry) -> str:
    """Return what a run's ``evidence.json`` says now; it follows from the evidence alone.

    Parameters
    ----------
    run_id : str
        The run; every version that came out of it is listed.
    registry : Registry
        Where the evidence lies.

    Returns
    -------
    str
        JSON: per version each signed move with its gates, its signatures, its file and the commands that verify it.
    """
    versions = sorted(registry.registered_from(run_id=run_id), key=lambda record: (record.model, record.version))
    content = {"format": INDEX_FORMAT, "note": _NOTE, "versions": [_version(one, registry) for one in versions]}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_index(run_id: str, *, registry: Registry) -> None:
    """Write a run's ``evidence.json`` anew; evidence from before runs were named has nowhere to put one."""
    if not run_id:
        return
    with tempfile.TemporaryDirectory(prefix="nbkit-") as folder:
        path = Path(folder) / INDEX
        path.write_text(index_text(run_id, registry=registry), encoding="utf-8")
        registry.log_file(run_id, path)


def index_problem(run_id: str, *, registry: Registry) -> str:
    """Return what is wrong with a run's ``evidence.json``; empty where nothing is, or where there is none."""
    try:
        found = registry.read_artifact(run_id, INDEX)
    except NotInRegistryError:
        return ""
    if found == index_text(run_id, registry=registry).encode("utf-8"):
        return ""
    return f"{INDEX} at the top of the run does not say what the evidence says"


def _version(record: VersionRecord, registry: Registry) -> dict[str, object]:
    moves: list[dict[str, object]] = []
    for stage in Stage:
        try:
            envelope = registry.envelope_of(record, stage=stage)
        except EvidenceError as error:
            moves.append({"stage": stage.value, "problem": str(error)})
            continue
        if envelope is not None:
            moves.append(_move(envelope, f"{record.model}@{record.version}", folder=f"{record.model}-{record.version}"))
    return {"version": f"{record.model}@{record.version}", "moves": moves}


def _move(envelope: Envelope, target: str, *, folder: str) -> dict[str, object]:
    statement = envelope.unverified_statement()
    away = f"{folder}-{statement.stage}"
    return {
        "stage": statement.stage,
        "action": statement.action.value,
        "submitter": statement.submitter.owner,
        "signatures": [signature.keyid for signature in envelope.signatures],
        "reason": statement.reason,
        "gates": [f"{gate.gate}: {gate.verdict.value}: {gate.reason}" for gate in statement.gates],
        "epoch": statement.epoch,
        "issued_at": statement.issued_at.isoformat(timespec="seconds"),
        "expires_at": statement.expires_at.isoformat(timespec="seconds"),
        "documents": dict(sorted(statement.documents.items())),
        "digest": envelope.digest,
        "file": f"evidence/{folder}/{statement.stage}-{envelope.digest.removeprefix('sha256:')[:16]}.dsse.json",
        "verify": [
            f"nbkit evidence export {target} --to {statement.stage} --directory {away}",
            f"nbkit evidence verify {away} --trust TRUST.json",
        ],
    }
