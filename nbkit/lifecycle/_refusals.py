"""Refusals that stand, and remarks: read from the files of a version's run, and verified."""

from __future__ import annotations

from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NotInRegistryError
from nbkit.package import Package
from nbkit.records import GateResult, Verdict
from nbkit.registry import (
    Certificate,
    CertificateKind,
    Envelope,
    Registry,
    TrustStore,
    owner_identity,
    verify_certificate,
)
from nbkit.settings import Settings

_KINDS = (CertificateKind.REFUSAL, CertificateKind.WITHDRAWAL)


def remarks(
    name: str, *, version: int, stage: Stage, package: Package, settings: Settings, now: datetime
) -> tuple[tuple[str, str], ...]:
    """Return who remarked what about a move, in the order of signing; what does not verify is left out."""
    try:
        said = _said(name, version=version, stage=stage, package=package, settings=settings, now=now,
                     kinds=(CertificateKind.REMARK,))  # fmt: skip
    except EvidenceError:
        return ()
    return tuple((each.signer.owner, each.reason) for each in said)


def refusal_gates(
    name: str, *, version: int, stage: Stage, package: Package, settings: Settings, now: datetime
) -> tuple[GateResult, ...]:
    """Return a gate that fails for each refusal that stands; none where nobody refused."""
    try:
        standing = standing_refusals(name, version=version, stage=stage, package=package, settings=settings, now=now)
    except EvidenceError as error:
        step = f"register it again: nbkit run {name}"
        return (GateResult(gate="refusal", verdict=Verdict.CANNOT_TELL, reason=str(error), next_step=step),)
    return tuple(
        GateResult(
            gate="refusal",
            verdict=Verdict.FAIL,
            reason=f"{each.signer.owner} refused it on {each.issued_at.date().isoformat()}: {each.reason}",
            next_step=f"a new version, or {each.signer.owner}: nbkit review {name}@{version} --to {stage} --withdraw",
        )
        for each in standing
    )


def standing_refusals(
    name: str, *, version: int, stage: Stage, package: Package, settings: Settings, now: datetime
) -> tuple[Certificate, ...]:
    """Return each person's last word where it is a refusal; read from the files, since a tag is quickly deleted."""
    last: dict[str, Certificate] = {}
    for each in _said(name, version=version, stage=stage, package=package, settings=settings, now=now, kinds=_KINDS):
        last[owner_identity(each.signer.owner)] = each
    return tuple(found for found in last.values() if found.kind is CertificateKind.REFUSAL)


def _said(
    name: str,
    *,
    version: int,
    stage: Stage,
    package: Package,
    settings: Settings,
    now: datetime,
    kinds: tuple[CertificateKind, ...],
) -> list[Certificate]:
    """Return what people of the trust file signed about a move, verified, in the order of signing."""
    found: list[Certificate] = []
    trust = TrustStore.load(settings.trust_file)
    for envelope in _envelopes(name, version=version, stage=stage, kinds=kinds, settings=settings):
        known = ((trust.find(signature.keyid), signature) for signature in envelope.signatures)
        if not any(key is not None and signature.fits(key.raw, payload=envelope.payload) for key, signature in known):
            continue  # by nobody whom this machine knows
        claimed = envelope.unverified_certificate()
        if claimed.kind not in kinds or claimed.says.get("stage") != stage.value:
            continue
        # What was refused stays refused when the key has ended since; only new words need a key that counts today.
        moment = claimed.issued_at if claimed.kind is CertificateKind.REFUSAL else now
        verified = verify_certificate(
            envelope, trust=trust, now=moment, kind=claimed.kind, model=name, version=version,
            package_digest=package.digest, contract_digest=package.contract.digest,
        )  # fmt: skip
        found.append(verified)
    return sorted(found, key=lambda each: each.issued_at)


def _envelopes(
    name: str, *, version: int, stage: Stage, kinds: tuple[CertificateKind, ...], settings: Settings
) -> tuple[Envelope, ...]:
    registry = Registry(settings)
    run_id = registry.version(name, version=version).run_id
    folder = f"certificates/{name}-{version}/"
    try:
        paths = registry.file_paths(run_id, folder=folder.rstrip("/"))
    except NotInRegistryError:
        return ()
    wanted = [f"{folder}{kind.value}.{stage.value}-" for kind in kinds]
    found = [path for path in paths if path.startswith(tuple(wanted)) and path.endswith(".dsse.json")]
    return tuple(Envelope.from_json(registry.read_artifact(run_id, path)) for path in found)
