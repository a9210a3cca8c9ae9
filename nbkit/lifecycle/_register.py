"""Register a package as a new version, with what was measured and who submits it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import rfc8785

from nbkit.contract import Stage
from nbkit.errors import RefusedError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._documents import DOCUMENTS, LOGGED_MODEL, PAGES, digest_of
from nbkit.lifecycle._evidence import logged_model_digest, signing_key, statement_about, trusted
from nbkit.lifecycle._figures import FIGURES, show_figures
from nbkit.lifecycle._index import write_index
from nbkit.lifecycle._pages import is_settled, keep_documents, show_pages
from nbkit.lifecycle._usecase import Build, UseCase
from nbkit.lifecycle._version_page import identity_tags, show_candidate
from nbkit.lifecycle._view import Result, View
from nbkit.package import Package, load_package
from nbkit.registry import Action, Envelope, Registry, Role, Submitter
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(Result):
    """A new version in the registry."""

    name: str
    version: int
    run_id: str
    package_digest: str
    submitter: str
    run_link: str
    version_link: str

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}@{self.version}: registered as candidate",
            facts=[
                ("submitted by", self.submitter),
                ("package", self.package_digest),
                ("run", self.run_link),
                ("version", self.version_link),
            ],
            next_step=f"nbkit gate {self.name}@{self.version} --to staging",
        )


def register(use_case: UseCase, *, settings: Settings, now: datetime, run_id: str = "", key: str = "") -> Registered:
    """Register the latest package with its evaluation and rationale as a new version, and sign the submission.

    Raises
    ------
    RefusedError
        The package is not evaluated or not explained, or these belong to another package.
    UsageError
        There is no package, or no key to sign with.
    """
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    name = use_case.contract.name
    if not (build.package / "manifest.json").exists():
        raise UsageError(f"{name}: run {build.run_id} has no package yet", next_step="%nbkit package model")
    package = load_package(build.package)
    signer = signing_key(settings, key=key)
    owner = trusted(signer.key_id, role=Role.SUBMITTER, settings=settings, now=now).owner
    facts = _facts(build, package)
    registry = Registry(settings)
    settled = is_settled(registry, build.run_id)
    facts[FIGURES] = show_figures(registry, build.run_id, facts=facts, settled=settled)
    documents = {**_documents(build, facts=facts), **show_pages(registry, build, settled=settled)}
    rationale = (build.directory / "rationale.md").read_text(encoding="utf-8")
    version = registry.register(
        package,
        run_id=build.run_id,
        description=rationale,
        tags=identity_tags(package, submitter=owner) | {"nbkit.stage": Stage.CANDIDATE.value},
    )
    keep_documents(registry, build, version=version)
    # The version's other files (MLflow's own description of the model) are not the package's: they are pinned here.
    documents[LOGGED_MODEL] = logged_model_digest(name, version=version, settings=settings)
    statement = statement_about(
        package, version=version, stage=Stage.CANDIDATE, action=Action.SUBMIT, epoch=version, now=now,
        documents=documents, gates=(), submitter=Submitter(key_id=signer.key_id, owner=owner), run_id=build.run_id,
    )  # fmt: skip
    envelope = Envelope.of(statement).sign(signer)
    registry.save_envelope(name, version=version, stage=Stage.CANDIDATE, envelope=envelope, pending=False)
    write_index(build.run_id, registry=registry)
    registry.set_alias(name, stage=Stage.CANDIDATE, version=version)
    registry.set_run_tags(build.run_id, {"nbkit.version": str(version), "nbkit.stage": Stage.CANDIDATE.value})
    show_candidate(name, version=version, rationale=rationale, run_id=build.run_id, settings=settings)
    return Registered(
        name=name,
        version=version,
        run_id=build.run_id,
        package_digest=package.digest,
        submitter=owner,
        run_link=registry.run_link(build.run_id),
        version_link=registry.version_link(name, version),
    )


def _facts(build: Build, package: Package) -> dict[str, object]:
    """Return what gates will read, when evaluation and rationale are about this package."""
    from nbkit.rationale import read_rationale

    evaluation = build.read_json("evaluation.json")
    rationale = read_rationale(build.rationale.read_bytes()) if build.rationale.exists() else {}
    name = package.contract.name
    if not evaluation:
        raise RefusedError(f"{name}: not evaluated", next_step=f"nbkit evaluate {name}")
    if not rationale:
        raise RefusedError(f"{name}: no rationale document", next_step=f"nbkit explain {name}")
    for document, verb in ((evaluation, "evaluate"), (rationale, "explain")):
        if document.get("package_digest") != package.digest:
            raise RefusedError(
                f"{name}: {verb} was run on package {document.get('package_digest')}, not on {package.digest}",
                next_step=f"nbkit {verb} {name}",
            )
    recorded = evaluation.get("facts")
    facts = dict(recorded) if isinstance(recorded, dict) else {}
    facts["rationale"] = {"written": True, "missing": rationale.get("missing"), "stale": rationale.get("stale")}
    explanation = rationale["explanation"]
    if isinstance(explanation, dict) and explanation["stability"] is not None:
        facts["stability"] = explanation["stability"]
    return facts


def _documents(build: Build, *, facts: Mapping[str, object]) -> dict[str, str]:
    write_atomically(build.directory / "facts.json", content=rfc8785.dumps(json.loads(json.dumps(facts))))
    pages = [page for page in PAGES if (build.directory / page).exists()]
    return {document: digest_of((build.directory / document).read_bytes()) for document in (*DOCUMENTS, *pages)}
