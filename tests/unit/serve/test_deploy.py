"""What is deployed: the manifest fits the Kubernetes schemas, and the Dockerfile names what exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

import nbkit
from nbkit.serve.__main__ import main

ROOT = Path(nbkit.__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DOCUMENTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
WORKER = DOCUMENTS[0]["spec"]["template"]["spec"]
LINES = [
    line
    for line in re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_the_manifest_fits_the_schemas(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_a_manifest_with_a_misspelt_key_would_be_found() -> None:
    broken = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text().split("\n---\n")[0])
    broken["spec"]["replcas"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_workers_have_no_privileges() -> None:
    (container,) = WORKER["containers"]
    assert WORKER["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert WORKER["automountServiceAccountToken"] is False
    assert WORKER["terminationGracePeriodSeconds"] > 10


def test_every_option_of_the_manifest_exists() -> None:
    known = {option for parameter in main.params if isinstance(parameter, click.Option) for option in parameter.opts}
    given = {argument.partition("=")[0] for argument in WORKER["containers"][0]["args"]}
    assert given <= known
    required = {o for p in main.params if isinstance(p, click.Option) and p.required for o in p.opts}
    assert required <= given
    assert WORKER["containers"][0]["image"].endswith(f":{nbkit.__version__}")


def test_the_dockerfile_is_made_of_instructions_and_copies_what_exists() -> None:
    assert {line.split()[0] for line in LINES} <= INSTRUCTIONS
    copied = [word for line in LINES if line.startswith("COPY") for word in line.split()[1:-1]]
    assert [word for word in copied if not (ROOT / word).exists()] == []
    # What the wheel is built from, as pyproject.toml says.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]} <= set(copied)


def test_the_image_runs_as_nobody_in_particular() -> None:
    users = [line.split()[1] for line in LINES if line.startswith("USER")]
    assert users == [f"{WORKER['securityContext']['runAsUser']}:{WORKER['securityContext']['runAsGroup']}"]
    assert LINES.index(f"USER {users[0]}") < next(i for i, line in enumerate(LINES) if line.startswith("ENTRYPOINT"))
    assert 'ENTRYPOINT ["python", "-m", "nbkit.serve"]' in LINES
