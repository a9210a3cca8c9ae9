"""What one person signs about a version besides a move: it was reproduced, rehearsed, or a gate is waived."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_serializer, model_validator

from nbkit.errors import EvidenceError
from nbkit.registry._signed import LARGEST_INTEGER, read_signed, write_signed
from nbkit.registry._statement import Digest, Name, Submitter, in_utc

CERTIFICATE_FORMAT = 1
CERTIFICATE_TYPE = "urn:nbkit:certificate:1"


class CertificateKind(StrEnum):
    """What a certificate is about."""

    REPRODUCTION = "reproduction"
    REHEARSAL = "rehearsal"
    WAIVER = "waiver"
    REFUSAL = "refusal"
    WITHDRAWAL = "withdrawal"
    REMARK = "remark"


_NEED_A_REASON = (
    CertificateKind.WAIVER,
    CertificateKind.REFUSAL,
    CertificateKind.WITHDRAWAL,
    CertificateKind.REMARK,
)


class Certificate(BaseModel):
    """One finding about one version, signed by one person; it never moves a version by itself.

    Parameters
    ----------
    kind : CertificateKind
        What it is about.
    model, version, package_digest, contract_digest : str, int, str, str
        Which version, to the byte.
    issued_at, expires_at : datetime
        Between these it counts.
    signer : Submitter
        Key and owner of the one signature that counts.
    says : mapping
        What was found: plain JSON, its keys depend on the kind.
    reason : str
        Why, in the signer's words; a waiver needs one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    kind: CertificateKind
    model: Name
    version: Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
    package_digest: Digest
    contract_digest: Digest
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    signer: Submitter
    says: Mapping[str, object] = Field(default_factory=dict)
    reason: str = ""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.expires_at <= self.issued_at:
            raise ValueError("expires_at: expected later than issued_at")
        if self.kind in _NEED_A_REASON and not self.reason.strip():
            raise ValueError(f"reason: a {self.kind} needs one")
        return self

    @field_serializer("issued_at", "expires_at")
    def _in_utc(self, moment: datetime) -> str:
        return in_utc(moment)

    def payload(self) -> bytes:
        """Return the canonical bytes that are signed: an in-toto Statement v1 in canonical JSON (RFC 8785).

        Raises
        ------
        EvidenceError
            A value cannot be written as canonical JSON.
        """
        return write_signed(
            self.model_dump(mode="json"),
            predicate_type=CERTIFICATE_TYPE,
            number=CERTIFICATE_FORMAT,
            subject=f"{self.model}/{self.version}",
            digest=self.package_digest,
            what="certificate",
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> Certificate:
        """Read what was signed; the caller checks the signature first.

        Raises
        ------
        EvidenceError
            Not canonical, another type or format, unknown or duplicate keys, wrong values.
        """
        found = read_signed(
            cls, payload, predicate_type=CERTIFICATE_TYPE, number=CERTIFICATE_FORMAT, what="certificate"
        )
        if found.payload() != payload:
            raise EvidenceError("certificate: the subject or a value is not written as nbkit writes it")
        return found
