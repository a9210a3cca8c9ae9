"""A certificate counts only when the person whom it names signed it, in a role that may, and it has not expired."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from nbkit.errors import EvidenceError
from nbkit.registry._certificate import Certificate, CertificateKind
from nbkit.registry._envelope import Envelope
from nbkit.registry._trust import Role, TrustedKey, TrustStore

# The clock of a verifying host may be a little behind the one that signed.
CLOCK_SKEW = timedelta(minutes=5)
# Whoever answers for a version may certify what they saw; only an approver may waive a gate.
_ROLES = {
    CertificateKind.REPRODUCTION: frozenset({Role.SUBMITTER, Role.APPROVER, Role.OPERATOR}),
    CertificateKind.REHEARSAL: frozenset({Role.SUBMITTER, Role.APPROVER, Role.OPERATOR}),
    CertificateKind.WAIVER: frozenset({Role.APPROVER}),
    CertificateKind.REFUSAL: frozenset({Role.APPROVER}),
    CertificateKind.WITHDRAWAL: frozenset({Role.APPROVER}),
    CertificateKind.REMARK: frozenset({Role.APPROVER}),
}


def fitting_keys(envelope: Envelope, *, trust: TrustStore) -> tuple[list[TrustedKey], list[str], list[str]]:
    """Return the trusted keys whose signatures fit the raw bytes, what is false, and what does not count."""
    fitting: list[TrustedKey] = []
    problems, notes = [], []
    for signature in envelope.signatures:
        key = trust.find(signature.keyid)
        if key is None:
            notes.append(f"the signature of {signature.keyid[:19]}… is by a key that is not trusted")
        elif signature.fits(key.raw, payload=envelope.payload):
            fitting.append(key)
        else:
            problems.append(f"the signature of key {key.name!r} of {key.owner} is false")
    return fitting, problems, notes


def roles_for(kind: CertificateKind) -> Collection[Role]:
    """Return the roles that may sign a certificate of that kind."""
    return _ROLES[kind]


def verify_certificate(
    envelope: Envelope,
    *,
    trust: TrustStore,
    now: datetime,
    kind: CertificateKind,
    model: str,
    version: int,
    package_digest: str,
    contract_digest: str,
) -> Certificate:
    """Accept a certificate about a version, or say everything that speaks against it.

    Parameters
    ----------
    envelope : Envelope
        As read: not trusted before its signature is checked.
    trust : TrustStore
        The verifier's own configuration.
    now : datetime
        Aware.
    kind : CertificateKind
        What it has to be about.
    model, version : str, int
        Which version.
    package_digest, contract_digest : str
        Of the package at hand, computed by the caller.

    Returns
    -------
    Certificate
        What was signed; true from here on.

    Raises
    ------
    EvidenceError
        Naming every reason for the refusal.
    """
    fitting, problems, notes = fitting_keys(envelope, trust=trust)
    if not fitting:
        raise EvidenceError(f"{kind}", problems=["no signature of a trusted key", *problems, *notes])
    found = envelope.unverified_certificate()
    expected: dict[str, tuple[object, object]] = {
        "kind": (found.kind, kind),
        "model": (found.model, model),
        "version": (found.version, version),
        "package digest": (found.package_digest, package_digest),
        "contract digest": (found.contract_digest, contract_digest),
    }
    problems += [f"{what}: expected {want}, got {got}" for what, (got, want) in expected.items() if got != want]
    if found.issued_at > now + CLOCK_SKEW:
        problems.append(f"issued at {found.issued_at.isoformat()}, which is in the future")
    if now >= found.expires_at:
        problems.append(f"expired at {found.expires_at.isoformat()}")
    problems += _signer(found, fitting=fitting, now=now)
    if problems:
        raise EvidenceError(f"{kind} of {model}@{version}", problems=[*problems, *notes])
    return found


def _signer(found: Certificate, *, fitting: list[TrustedKey], now: datetime) -> list[str]:
    key = next((key for key in fitting if key.key_id == found.signer.key_id), None)
    if key is None:
        return [f"signer: expected a signature of {found.signer.owner}, got none that is trusted"]
    problems = []
    if problem := key.problem(signed_at=found.issued_at, now=now):
        problems.append(problem)
    if not set(key.roles) & _ROLES[found.kind]:
        problems.append(f"key {key.name!r} of {key.owner} may not sign a {found.kind}")
    if key.owner != found.signer.owner:
        problems.append(f"signer: expected {key.owner}, got {found.signer.owner}")
    return problems
