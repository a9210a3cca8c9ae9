"""Verify evidence that was taken away, with nothing but its files and a trust file: no MLflow, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NbkitError
from nbkit.lifecycle._documents import EXPORTED, called, digest_of
from nbkit.lifecycle._view import Result, Table, View
from nbkit.package import load_package
from nbkit.registry import Envelope, Statement, TrustStore, verify_evidence, verify_submission

ENVELOPE_FILE = "evidence.dsse.json"
PACKAGE_FOLDER = "package"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined(Result):
    """Whether evidence holds, by nothing but the files and a trust file."""

    directory: Path
    problems: tuple[str, ...]
    signed_by: tuple[str, ...]
    says: Mapping[str, object] = field(default_factory=dict)
    statement: Statement | None = field(default=None, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether it holds."""
        return not self.problems

    def view(self) -> View:
        """Return what a person is shown."""
        if self.statement is None or self.problems:
            rows = tuple((problem,) for problem in self.problems)
            return View(
                headline=f"{self.directory}: the evidence does not hold: {len(self.problems)} problem(s)",
                tables=[Table(columns=("problem",), rows=rows)],
            )
        found = self.statement
        gates = tuple((result.gate, result.verdict.value, result.reason) for result in found.gates)
        return View(
            headline=f"{found.model}@{found.version} -> {found.stage}: the evidence holds",
            facts=[
                ("signed by", ", ".join(self.signed_by)),
                ("epoch", str(found.epoch)),
                ("valid", f"{found.issued_at.isoformat()} to {found.expires_at.isoformat()}"),
                ("package", found.package_digest),
                ("contract", found.contract_digest),
                ("case set", found.case_set_digest or "none"),
            ],
            tables=[Table(title="Gates", columns=("gate", "verdict", "why"), rows=gates)],
        )


def examine(
    directory: Path,
    *,
    trust_file: Path,
    now: datetime,
    minimum_epoch: int = 0,
    model: str = "",
    version: int | None = None,
    stage: str = "",
) -> Examined:
    """Verify evidence that was exported: signatures, package, contract, documents. Needs no MLflow and no network.

    Parameters
    ----------
    directory : Path
        What `export_evidence` wrote.
    trust_file : Path
        Whose keys count: the examiner's own.
    now : datetime
        Aware.
    minimum_epoch : int
        Evidence with a lower one was replaced by what the examiner has already seen.
    model, version, stage : str, int, str
        What it has to be about; by default whatever it says.

    Returns
    -------
    Examined
        All problems at once; never raises for evidence that does not hold.
    """
    try:
        trust = TrustStore.load(trust_file)
        envelope = Envelope.from_json(_read(directory / ENVELOPE_FILE))
        package = load_package(directory / PACKAGE_FOLDER)
        said = envelope.unverified_statement()
        asked = stage or said.stage
        if asked == Stage.CANDIDATE.value:
            statement = verify_submission(
                envelope, trust=trust, now=now, model=model or said.model, version=version or said.version,
                package_digest=package.digest, contract=package.contract,
            )  # fmt: skip
        else:
            statement = verify_evidence(
                envelope, trust=trust, now=now, model=model or said.model, version=version or said.version,
                stage=asked, package_digest=package.digest, contract=package.contract, minimum_epoch=minimum_epoch,
            )  # fmt: skip
    except NbkitError as error:
        return Examined(directory=directory, problems=error.problems or (error.message,), signed_by=())
    return Examined(
        directory=directory,
        problems=tuple(_documents(directory, statement)),
        signed_by=signers_of(envelope, trust=trust),
        says=statement.model_dump(mode="json"),
        statement=statement,
    )


def _documents(directory: Path, statement: Statement) -> list[str]:
    """Compare the documents that lie beside the evidence with what was signed."""
    problems = []
    for name in EXPORTED:
        path = directory / name
        if path.exists() and digest_of(_read(path)) != statement.documents.get(name):
            problems.append(f"{called(name)}: not the file that was signed")
    return problems


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror}") from error


def signers_of(envelope: Envelope, *, trust: TrustStore) -> tuple[str, ...]:
    """Name who signed, by the trust file; a false signature is called so."""
    names = []
    for signature in envelope.signatures:
        key = trust.find(signature.keyid)
        if key is None:
            names.append(f"{signature.keyid[:19]}… (not trusted here)")
        elif not signature.fits(key.raw, payload=envelope.payload):
            names.append(f"{key.owner} (false)")
        else:
            names.append(key.owner)
    return tuple(names)
