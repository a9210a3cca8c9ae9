"""Model versions, stages and evidence; the only package that talks to MLflow.

Keys, trust and evidence load no MLflow: whoever serves a model verifies it with these. `Registry` loads MLflow when it
is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbkit.registry._certificate import CERTIFICATE_TYPE, Certificate, CertificateKind
from nbkit.registry._clock import SeenTime, Tick, read_tick
from nbkit.registry._entries import RunRecord, VersionRecord
from nbkit.registry._envelope import PAYLOAD_TYPE, Envelope, Signature
from nbkit.registry._keys import PublicKey, SigningKey, load_key, new_key
from nbkit.registry._lean import load_lean
from nbkit.registry._memory import MEMORY_FILE, Memory, Remembered
from nbkit.registry._statement import EVIDENCE_FORMAT, PREDICATE_TYPE, Action, Statement, Submitter
from nbkit.registry._trust import Role, TrustedKey, TrustStore, owner_identity
from nbkit.registry._verify import verify_evidence, verify_submission
from nbkit.registry._verify_certificate import roles_for, verify_certificate

if TYPE_CHECKING:
    from nbkit.registry._predict import score_model_uri
    from nbkit.registry._registry import Registry

__all__ = [
    "CERTIFICATE_TYPE",
    "EVIDENCE_FORMAT",
    "MEMORY_FILE",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "Action",
    "Certificate",
    "CertificateKind",
    "Envelope",
    "Memory",
    "PublicKey",
    "Registry",
    "Remembered",
    "Role",
    "RunRecord",
    "SeenTime",
    "Signature",
    "SigningKey",
    "Statement",
    "Submitter",
    "Tick",
    "TrustStore",
    "TrustedKey",
    "VersionRecord",
    "load_key",
    "load_lean",
    "new_key",
    "owner_identity",
    "read_tick",
    "roles_for",
    "score_model_uri",
    "verify_certificate",
    "verify_evidence",
    "verify_submission",
]


def __getattr__(name: str) -> object:
    if name == "Registry":
        from nbkit.registry._registry import Registry

        return Registry
    if name == "score_model_uri":
        from nbkit.registry._predict import score_model_uri

        return score_model_uri
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
