"""Train a version again from its record, compare, and sign what came out."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.errors import RefusedError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._evidence import signing_key, submission_of, trusted
from nbkit.lifecycle._gate import resolve
from nbkit.lifecycle._keys import make_key
from nbkit.lifecycle._run import run
from nbkit.lifecycle._usecase import UseCase, open_use_case
from nbkit.lifecycle._view import Progress, Result, View
from nbkit.package import Package, load_package
from nbkit.registry import (
    Certificate,
    CertificateKind,
    Envelope,
    Registry,
    Role,
    SigningKey,
    Statement,
    Submitter,
    roles_for,
)
from nbkit.retrain import notebook_parameters
from nbkit.settings import Settings

# Libraries and data move on: what could be made again half a year ago may not be any more.
CERTIFICATE_DAYS = 180
# What a package remembers of its use case; the copy is trained from these, not from what the folder holds today.
_SOURCES = ("rules.json", "reasons.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced(Result):
    """How a version that was trained again compares with the one in the registry."""

    name: str
    version: int
    identical: bool
    differs: tuple[str, ...]
    cases: int
    seconds: float
    by: str
    expires_at: datetime

    @property
    def succeeded(self) -> bool:
        """Whether it came out the same to the bit."""
        return self.identical

    def view(self) -> View:
        """Return what a person is shown."""
        target = f"{self.name}@{self.version}"
        verdict = "the same to the bit" if self.identical else f"not the same: {', '.join(self.differs)}"
        return View(
            headline=f"{target}: trained again from its record: {verdict}",
            facts=[
                ("compared", f"trees, data, thresholds, and the scores of {self.cases:,} cases"),
                ("notebook", f"{self.seconds:.1f} s"),
                ("signed by", f"{self.by}, valid until {self.expires_at.date()}"),
            ],
            next_step=f"nbkit gate {target} --to production",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found when the two packages were laid side by side."""

    differs: tuple[str, ...]
    cases: int
    seconds: float

    def says(self) -> dict[str, object]:
        """Return it as a certificate keeps it."""
        return {"identical": not self.differs, "differs": list(self.differs), "cases": self.cases}


def reproduce(
    target: str,
    *,
    base: Path,
    settings: Settings,
    now: datetime,
    key: str = "",
    progress: Progress | None = None,
) -> Reproduced:
    """Train a version again in a scratch folder from its recorded notebook and parameters, and sign the comparison.

    MLflow's real store, the use case's folder and all real keys stay out of it: the notebook runs on a copy, with a
    store and a key of its own.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    base : Path
        Folder of the use case, or the one it lies in: cases and data come from there.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.
    key : str
        Name of the key that signs the certificate.
    progress : callable, optional
        Takes fraction and message of the notebook's run.

    Returns
    -------
    Reproduced
        Same or not; either is signed.

    Raises
    ------
    RefusedError
        The notebook fails now, or the use case's contract is another than the version's.
    UsageError, NotInRegistryError, EvidenceError
        No such version, no key, or the key may not certify.
    """
    name, version = resolve(target, settings=settings)
    signer, owner = certifier(CertificateKind.REPRODUCTION, key=key, settings=settings, now=now)
    original = fetch(name, version=version, settings=settings)
    submission = submission_of(name, version=version, package=original, settings=settings, now=now)
    compared = train_again(original, submission, base=base, settings=settings, now=now, progress=progress)
    certificate = certify(
        submission, kind=CertificateKind.REPRODUCTION, says=compared.says(), signer=signer, owner=owner,
        settings=settings, now=now,
    )  # fmt: skip
    return Reproduced(
        name=name,
        version=version,
        identical=not compared.differs,
        differs=compared.differs,
        cases=compared.cases,
        seconds=compared.seconds,
        by=owner,
        expires_at=certificate.expires_at,
    )


def certifier(kind: CertificateKind, *, key: str, settings: Settings, now: datetime) -> tuple[SigningKey, str]:
    """Return the key that signs a certificate, and its owner, before any work is done."""
    signer = signing_key(settings, key=key)
    role = next((role for role in Role if role in roles_for(kind) and role in _roles(signer, settings)), Role.APPROVER)
    return signer, trusted(signer.key_id, role=role, settings=settings, now=now).owner


def _roles(signer: SigningKey, settings: Settings) -> tuple[Role, ...]:
    from nbkit.registry import TrustStore

    found = TrustStore.load(settings.trust_file).find(signer.key_id)
    return found.roles if found else ()


def certify(
    submission: Statement,
    *,
    kind: CertificateKind,
    says: Mapping[str, object],
    signer: SigningKey,
    owner: str,
    settings: Settings,
    now: datetime,
) -> Certificate:
    """Sign what was found about a version, and keep it with the version."""
    certificate = Certificate(
        kind=kind, model=submission.model, version=submission.version, package_digest=submission.package_digest,
        contract_digest=submission.contract_digest, issued_at=now, expires_at=now + timedelta(days=CERTIFICATE_DAYS),
        signer=Submitter(key_id=signer.key_id, owner=owner), says=dict(says),
    )  # fmt: skip
    Registry(settings).save_certificate(
        submission.model,
        version=submission.version,
        label=kind.value,
        envelope=Envelope.of(certificate).sign(signer),
    )
    return certificate


def train_again(
    original: Package,
    submission: Statement,
    *,
    base: Path,
    settings: Settings,
    now: datetime,
    progress: Progress | None = None,
) -> Comparison:
    """Run the recorded notebook on a copy of the use case, and lay the new package beside the original."""
    use_case = open_use_case(original.contract.name, base=base)
    if use_case.contract.digest != original.contract.digest:
        raise RefusedError(
            f"{submission.model}@{submission.version}: contract.yaml of {use_case.directory} is not the one that the"
            " version was packaged with",
            next_step="check out the commit that the manifest of the version names",
        )
    with tempfile.TemporaryDirectory(prefix="nbkit-reproduce-", ignore_cleanup_errors=True) as folder:
        copy = _copied(use_case, original, folder=Path(folder))
        scratch = _scratch_settings(settings, folder=Path(folder), now=now)
        declared = {parameter.name for parameter in notebook_parameters(copy.notebook)}
        recorded = Registry(settings).run(submission.run_id).parameters
        values = {name: value for name, value in recorded.items() if name in declared}
        ran = run(copy, settings=scratch, parameters=values, progress=progress)
        built = copy.build(ran.run_id).package
        # A notebook may stop after packaging for reasons of its own (no key, no champion): the model is there.
        if not (built / "manifest.json").exists():
            raise RefusedError(
                f"{submission.model}@{submission.version}: the notebook makes no package any more: {ran.problem}",
                next_step=f"nbkit run {submission.model}",
            )
        return _compared(original, load_package(built), use_case=copy, seconds=ran.seconds)


def _copied(use_case: UseCase, original: Package, *, folder: Path) -> UseCase:
    directory = folder / "project" / use_case.contract.name
    shutil.copytree(use_case.directory, directory, ignore=shutil.ignore_patterns(".nbkit", ".ipynb_checkpoints"))
    notebook = directory / use_case.contract.retrain.notebook
    listed = original.manifest["files"]
    recorded = {"notebook.ipynb": notebook} | {name: directory / name for name in _SOURCES}
    for name, path in recorded.items():
        if isinstance(listed, dict) and name in listed:
            write_atomically(path, content=original.read(name))
    if not notebook.is_file():
        raise UsageError(f"{use_case.contract.name}: neither the package nor the folder holds the notebook")
    return open_use_case(base=directory)


def _scratch_settings(settings: Settings, *, folder: Path, now: datetime) -> Settings:
    scratch = dataclasses.replace(
        settings,
        tracking_uri=f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}",
        artifact_root=folder / "mlruns" / "artifacts",
        home=folder / "home",
        store=folder / "store",
        identity="scratch",
    )
    make_key("scratch", roles=("submitter",), settings=scratch, now=now)
    return scratch


def _compared(original: Package, again: Package, *, use_case: UseCase, seconds: float) -> Comparison:
    from nbkit.evaluate import load_cases

    old, new = original.manifest, again.manifest
    parts = {
        "trees": (_part(old, "model_digest", "plan"), _part(new, "model_digest", "plan")),
        "training rows": (_part(old, "data", "digest"), _part(new, "data", "digest")),
        "scores of the training rows": (_part(old, "model_digest", "scores"), _part(new, "model_digest", "scores")),
        "thresholds": (old.get("thresholds"), new.get("thresholds")),
        "contract": (original.contract.digest, again.contract.digest),
    }
    differs = [what for what, (before, after) in parts.items() if before != after]
    frame = load_cases(use_case.directory, contract=original.contract).frame
    if original.score_frame(frame).tobytes() != again.score_frame(frame).tobytes():
        differs.append("scores of the cases")
    return Comparison(differs=tuple(differs), cases=len(frame), seconds=seconds)


def _part(manifest: Mapping[str, object], block: str, key: str) -> object:
    found = manifest.get(block)
    return found.get(key) if isinstance(found, dict) else None
