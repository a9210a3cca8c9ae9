"""What is signed before a version may move: an in-toto statement, format 1."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_serializer, model_validator

from nbkit.errors import EvidenceError
from nbkit.records import GateResult
from nbkit.registry._signed import LARGEST_INTEGER, read_signed, write_signed

EVIDENCE_FORMAT = 1
PREDICATE_TYPE = "urn:nbkit:evidence:1"

Digest = Annotated[str, Field(pattern=r"\Asha256:[0-9a-f]{64}\z")]
Name = Annotated[str, Field(pattern=r"\A[a-z][a-z0-9_-]{0,62}\z")]


def in_utc(moment: datetime) -> str:
    """Return the one spelling of a time that is signed."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Action(StrEnum):
    """What the statement asks for; only promote and rollback ever let a version be served."""

    SUBMIT = "submit"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class Submitter(BaseModel):
    """Who asks for the move: the operator in case of a rollback."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key_id: Digest
    owner: Annotated[str, Field(min_length=1)]


class Statement(BaseModel):
    """One move of one model version, with everything that was known when it was asked for.

    Parameters
    ----------
    model, version, stage : str, int, str
        What moves, and where to.
    action : Action
        Why.
    epoch : int
        Grows with every move of the model; a store never goes back to a lower one.
    issued_at, expires_at : datetime
        Between these the statement counts.
    package_digest, contract_digest : str
        ``sha256:<hex>`` of the package's manifest and of its contract.
    case_set_digest : str
        The frozen cases that the gates were measured on; empty when the contract pins none.
    documents : mapping of str to str
        Digest of each document that the approvers read, such as ``rationale.json``.
    gates : tuple of GateResult
        Results of every gate that the contract names for the stage.
    impact, approvals_needed : str, int
        As the contract says.
    submitter : Submitter
        Who asks; must sign.
    run_id : str
        The MLflow run that made the version.
    basis : mapping, optional
        Of a rollback: the envelope (as JSON) of the promotion that is gone back to.
    reason : str
        Of a rollback: why, in the operator's words.
    waivers : tuple of mapping
        The envelope (as JSON) of the waiver behind each gate result that is ``waived``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    model: Name
    version: Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
    stage: Name
    action: Action
    epoch: Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    package_digest: Digest
    contract_digest: Digest
    case_set_digest: Digest | Annotated[str, Field(pattern=r"\A\z")] = ""
    documents: Mapping[str, Digest] = Field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    impact: str
    approvals_needed: Annotated[int, Field(ge=0, le=100)]
    submitter: Submitter
    run_id: str = ""
    basis: Mapping[str, object] | None = None
    reason: str = ""
    waivers: tuple[Mapping[str, object], ...] = ()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.expires_at <= self.issued_at:
            raise ValueError("expires_at: expected later than issued_at")
        if (self.action is Action.ROLLBACK) != (self.basis is not None):
            raise ValueError("basis: expected the envelope of the promotion for a rollback, and nothing otherwise")
        return self

    @field_serializer("issued_at", "expires_at")
    def _in_utc(self, moment: datetime) -> str:
        return in_utc(moment)

    def payload(self) -> bytes:
        """Return the canonical bytes that are signed.

        Returns
        -------
        bytes
            An in-toto Statement v1 in canonical JSON (RFC 8785).

        Raises
        ------
        EvidenceError
            A text cannot be written as canonical JSON.
        """
        content = self.model_dump(mode="json")
        if not self.waivers:
            # Evidence from before there were waivers keeps its bytes, and its signatures.
            del content["waivers"]
        return write_signed(
            content,
            predicate_type=PREDICATE_TYPE,
            number=EVIDENCE_FORMAT,
            subject=f"{self.model}/{self.version}",
            digest=self.package_digest,
            what="statement",
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> Statement:
        """Read what was signed; the caller checks the signatures first.

        Parameters
        ----------
        payload : bytes
            As `payload` returns it, to the byte.

        Returns
        -------
        Statement
            What the payload says.

        Raises
        ------
        EvidenceError
            Not canonical, another type or format, unknown or duplicate keys, wrong values.
        """
        statement = read_signed(cls, payload, predicate_type=PREDICATE_TYPE, number=EVIDENCE_FORMAT, what="statement")
        # Whatever the checks above let through: only the one spelling that nbkit itself writes is accepted.
        if statement.payload() != payload:
            raise EvidenceError("statement: the subject or a value is not written as nbkit writes it")
        return statement
