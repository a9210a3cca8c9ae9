"""What is deployed: the manifest fits the Kubernetes schemas, and the Dockerfile names what exists."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

import nbkit
from nbkit.registry import TrustStore, load_key, new_key
from nbkit.serve import AccessFile
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
    assert WORKER["securityContext"]["runAsNonRoot"] is True
    for container in (*WORKER["initContainers"], *WORKER["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert WORKER["automountServiceAccountToken"] is False
    assert WORKER["terminationGracePeriodSeconds"] > 10


def test_every_option_of_the_manifest_exists() -> None:
    known = {option for parameter in main.params if isinstance(parameter, click.Option) for option in parameter.opts}
    given = {argument.partition("=")[0] for argument in WORKER["containers"][0]["args"]}
    assert given <= known
    variables = {variable["name"] for variable in WORKER["containers"][0]["env"]}
    options = [parameter for parameter in main.params if isinstance(parameter, click.Option) and parameter.required]
    assert {o for p in options if p.envvar not in variables for o in p.opts} <= given
    for container in (*WORKER["initContainers"], *WORKER["containers"]):
        assert container["image"].endswith(f":{nbkit.__version__}")


@pytest.fixture
def secret_volume() -> Iterator[Path]:
    """A folder with the files of a secret, as the kubelet mounts them for a pod with an fsGroup."""
    user = WORKER["securityContext"]["runAsUser"] if os.geteuid() == 0 else os.getuid()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "keys" / "..1").mkdir(parents=True)
        (home / "keys").chmod(0o1777)
        (home / "keys" / "..data").symlink_to("..1")
        new_key("ledger", directory=home / "made")
        TrustStore().save(home / "made" / "trust.json")
        AccessFile.begin().save(home / "made" / "apikeys.json")
        for name in ("ledger.pem", "trust.json", "apikeys.json"):
            place = home / "keys" / "..1" / name
            place.write_bytes((home / "made" / name).read_bytes())
            place.chmod(0o440)  # what 0400 becomes, so that the group can read
            os.chown(place, -1, WORKER["securityContext"]["fsGroup"] if os.geteuid() == 0 else -1)
            (home / "keys" / name).symlink_to(f"..data/{name}")
        (home / "private").mkdir()
        os.chown(home / "private", user, -1)
        yield home


def test_the_keys_of_the_manifest_can_be_read_by_the_worker(
    secret_volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copies,) = WORKER["initContainers"]
    command = [re.sub(r"\A/(keys|private)", rf"{secret_volume}/\1", word) for word in copies["command"]]
    pod = WORKER["securityContext"]
    as_pod = {"user": pod["runAsUser"], "group": pod["runAsGroup"], "extra_groups": [pod["fsGroup"]]}
    subprocess.run(command, check=True, **(as_pod if os.geteuid() == 0 else {}))
    told = dict(word.split("=") for word in WORKER["containers"][0]["args"] if "=" in word)
    places = {option: Path(f"{secret_volume}{place}") for option, place in told.items()}
    owner = places["--ledger-key"].stat().st_uid
    assert owner == (pod["runAsUser"] if os.geteuid() == 0 else os.getuid())
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    key = load_key(places["--ledger-key"].stem, directory=places["--ledger-key"].parent)
    assert key.name == "ledger"
    TrustStore.load(places["--trust"])
    AccessFile.load(places["--api-keys"])


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
