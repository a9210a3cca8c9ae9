"""Turn a decision that went wrong into a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbkit.contract import Contract, RowCheck
from nbkit.errors import ParameterError, UsageError
from nbkit.lifecycle._prove import find_record
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, View
from nbkit.records import AuditRecord
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentWritten(Result):
    """A case that was made from an audit record."""

    name: str
    id: str
    record_id: str
    path: Path
    answered: str
    expected: str
    replaced: tuple[str, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        facts = [("file", str(self.path)), ("answered then", self.answered), ("expected from now on", self.expected)]
        facts += [("replaced inputs", ", ".join(self.replaced))] if self.replaced else []
        return View(
            headline=f"{self.name}: decision {self.record_id} is now case {self.id}",
            facts=facts,
            next_step=f"nbkit cases add {self.name} --why TEXT",
        )


def make_incident(
    use_case: UseCase,
    record_id: str,
    *,
    expect: Mapping[str, object],
    why: str,
    settings: Settings,
    case_id: str = "",
    replacements: Mapping[str, object] | None = None,
) -> IncidentWritten:
    """Turn a decision that went wrong into a case that every later version must answer rightly.

    Parameters
    ----------
    use_case : UseCase
        The model that decided.
    record_id : str
        Id of the audit record.
    expect : mapping
        What would have been right, as in a golden case.
    why : str
        What went wrong.
    settings : Settings
        Where the ledger is.
    case_id : str
        Name of the case; made from the record's id by default.
    replacements : mapping, optional
        Other values for inputs that must not lie in a repository; needed for every input marked ``pii``.

    Returns
    -------
    IncidentWritten
        The file, and what was answered then.

    Raises
    ------
    NotInLedgerError
        No such record.
    UsageError
        The record is another model's, holds no inputs, or holds personal data that is not replaced.
    CaseSetError, ContractViolationError
        The expectation or the inputs cannot be a case of this contract.
    """
    from nbkit.evaluate import GoldenCase, write_golden

    contract, given = use_case.contract, dict(replacements or {})
    record = find_record(record_id, settings=settings)
    _check_record(record, contract=contract, given=given)
    inputs = RowCheck(contract).check({**record.inputs, **given})
    case = GoldenCase(
        id=case_id or f"incident-{record_id}"[:80],
        why=why,
        inputs=inputs,
        expect=dict(expect),
        record=_source_of(record, replaced=sorted(given)),
    )
    path = use_case.directory / contract.evaluate.incidents / f"{case.id}.yaml"
    if path.exists():
        raise UsageError(f"{path}: exists already", next_step="give it another name: --id NAME")
    write_golden(case, directory=path.parent)
    score = "" if record.score is None else f", score {record.score:.4f}"
    return IncidentWritten(
        name=contract.name,
        id=case.id,
        record_id=record.id,
        path=path,
        answered=f"{record.decision}{score} (version {record.version}, {record.fallback or record.route})",
        expected=", ".join(f"{key} {value}" for key, value in case.expect.items()),
        replaced=tuple(sorted(given)),
    )


def _check_record(record: AuditRecord, *, contract: Contract, given: Mapping[str, object]) -> None:
    """Refuse a record of another model, without inputs, or with personal data for which nothing else is given."""
    if record.model != contract.name:
        raise UsageError(f"{record.id}: decided by {record.model}, not by {contract.name}")
    if not record.inputs:
        raise UsageError(f"{record.id}: the record holds no inputs (audit.payload: none): write a golden case by hand")
    personal = [column.name for column in contract.inputs if column.pii and column.name not in given]
    if personal:
        raise UsageError(
            f"{record.id}: personal data must not lie in a repository",
            problems=[f"{name} is marked pii and not replaced" for name in personal],
            next_step=f"nbkit cases incident {record.id} ... --set {personal[0]}=VALUE",
        )
    unknown = [name for name in given if name not in record.inputs]
    if unknown:
        raise UsageError(f"{record.id}: --set", problems=[f"{name} is not an input of the record" for name in unknown])


def _source_of(record: AuditRecord, *, replaced: list[str]) -> dict[str, object]:
    """Return what the case keeps of the decision that it was made from."""
    return {
        "id": record.id,
        "model": record.model,
        "version": record.version,
        "package_digest": record.package_digest,
        "decided_at": record.decided_at.isoformat(),
        "decision": record.decision,
        "score": record.score,
        "reasons": list(record.reasons),
        "route": record.route,
        "fallback": record.fallback,
        "replaced": replaced,
    }


def expectation_of(pairs: tuple[str, ...]) -> dict[str, object]:
    """Return ``--expect`` options as the mapping of a golden case; a key given twice becomes a list.

    Raises
    ------
    ParameterError
        Not of the form ``KEY=VALUE``.

    Examples
    --------
    >>> expectation_of(("decision=refer", "decision=decline", "score_min=0.3"))
    {'decision': ['refer', 'decline'], 'score_min': 0.3}
    """
    found: dict[str, object] = {}
    for pair in pairs:
        key, value = _pair(pair, option="--expect")
        if key in found:
            before = found[key]
            found[key] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[key] = _value(value) if key in ("score_min", "score_max") else value
    return found


def replacements_of(pairs: tuple[str, ...]) -> dict[str, object]:
    """Return ``--set`` options as values: numbers where they are numbers, ``null`` for missing, otherwise text.

    Examples
    --------
    >>> replacements_of(("income=1200", "kind=fixed", "age=null"))
    {'income': 1200.0, 'kind': 'fixed', 'age': None}
    """
    return {key: _value(value) for key, value in (_pair(pair, option="--set") for pair in pairs)}


def _pair(pair: str, *, option: str) -> tuple[str, str]:
    key, separator, value = pair.partition("=")
    if not separator or not key:
        raise ParameterError(f"{option}: expected KEY=VALUE, got {pair!r}")
    return key, value


def _value(text: str) -> object:
    if text == "null":
        return None
    try:
        return float(text)
    except ValueError:
        return text
