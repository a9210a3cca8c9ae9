"""The main job on real data, from an empty folder to a replayed decision."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from nbkit.contract import Outcome
from nbkit.errors import NbkitError, RefusedError
from nbkit.lifecycle._begin import new
from nbkit.lifecycle._gate import GateTable
from nbkit.lifecycle._keys import make_key
from nbkit.lifecycle._prove import Replayed, audit_replay, audit_verify
from nbkit.lifecycle._run import run
from nbkit.lifecycle._serve import sync, worker_command, worker_environment
from nbkit.lifecycle._usecase import UseCase, open_use_case
from nbkit.lifecycle._view import Progress, Result, Table, View
from nbkit.lifecycle._with_page import approve, gate, promote
from nbkit.registry import Registry
from nbkit.settings import Settings

_NAME = "mortgage"
_KEYS = {
    # May approve what others submit; what the demonstration shows is that it may not approve its own.
    "submitter": ("submitter", "approver"),
    "validator": ("approver",),
    "risk-officer": ("approver",),
    "operator": ("operator",),
}
_READY_WITHIN_SECONDS = 30.0
_ANSWER_WITHIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One real applicant's decision as the service answered it."""

    applicant: str
    decision: str
    score: float | None
    reasons: tuple[str, ...]
    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrated(Result):
    """Everything that the demonstration did, and how long each step took."""

    directory: Path
    version: int
    decisions: tuple[Answered, ...]
    replay: Replayed
    gates: GateTable
    seconds: Mapping[str, float]
    ledger: str
    self_approval: str
    run_link: str
    version_link: str
    ui_command: str

    @property
    def succeeded(self) -> bool:
        """Whether the replay was identical and every gate passed."""
        return self.replay.succeeded and self.gates.succeeded

    def view(self) -> View:
        """Return what a person is shown."""
        decisions = tuple(
            (a.applicant, a.decision, "-" if a.score is None else f"{a.score:.4f}", " | ".join(a.reasons) or "-")
            for a in self.decisions
        )
        steps = tuple((step, f"{seconds:.1f} s") for step, seconds in self.seconds.items())
        return View(
            headline=f"{_NAME}@{self.version} decides in production; total {sum(self.seconds.values()):.1f} s",
            facts=[
                ("replay", self.replay.view().headline),
                ("ledger", self.ledger),
                ("self-approval", self.self_approval),
                ("run in MLflow", self.run_link),
                ("version in MLflow", self.version_link),
            ],
            tables=[
                Table(title="Gates before production", columns=("gate", "verdict", "why"), rows=self.gates.rows()),
                Table(
                    title="Three real applicants",
                    columns=("application", "decision", "P(denied)", "reasons"),
                    rows=decisions,
                ),
                Table(title="How long each step took", columns=("step", "time"), rows=steps),
            ],
            next_step=self.ui_command,
        )


def demo(
    *, settings: Settings, directory: Path, report: Callable[[str], None], progress: Progress | None = None
) -> Demonstrated:
    """Do the main job on 1,989 real mortgage decisions: notebook, package, gates, approvals, service, replay.

    Keys are made for one submitter, two approvers and an operator on this one machine, as only a demonstration may.

    Parameters
    ----------
    settings : Settings
        Where MLflow and the store are; keys go to a folder of their own beside ``home``.
    directory : Path
        Where the use case is written; must not hold one of that name.
    report : callable
        Takes a line for each step.
    progress : callable, optional
        Takes fraction and message of the notebook's run.

    Returns
    -------
    Demonstrated
        Decisions, replay, gates, times and links.

    Raises
    ------
    NbkitError
        Whatever a step refused.
    """
    home = settings.home.with_name(f"{settings.home.name}-demo")
    # Its decisions are made up: they go into a ledger of its own, never into the one that others share.
    settings = dataclasses.replace(settings, home=home, identity="submitter", ledger="")
    steps = _Steps(report)
    step = steps.step
    with step("new use case and keys"):
        new(_NAME, template="credit", directory=directory)
        _make_keys(settings)
    use_case = open_use_case(_NAME, base=directory)
    with step("run: train, package, evaluate, explain, register"):
        ran = run(use_case, settings=settings, progress=progress)
    if not ran.succeeded or ran.version is None:
        raise NbkitError(str(ran))
    target = f"{_NAME}@{ran.version}"
    with step("gates, approvals, staging"):
        refusal = _self_approval(target, settings=settings)
        _climb(target, to="staging", settings=settings)
    with step("gates, approvals, production"):
        gates = gate(target, to="production", settings=settings, now=_now())
        _climb(target, to="production", settings=settings)
    with step("serve three applicants"):
        decisions = _decide_three(open_use_case(_NAME, base=directory), settings=settings)
    with step("verify the ledger, replay one decision"):
        ledger = audit_verify(_NAME, settings=settings)
        replay = audit_replay(decisions[0].decision_id, settings=settings)
    registry = Registry(settings)
    return Demonstrated(
        directory=directory,
        version=ran.version,
        decisions=decisions,
        replay=replay,
        gates=gates,
        seconds=steps.seconds,
        ledger=ledger.view().headline,
        self_approval=refusal,
        run_link=ran.run_link,
        version_link=registry.version_link(_NAME, ran.version),
        # The demonstration's keys are its own: without their home the next command would trust none of what it signed.
        ui_command=(
            f"cd {directory} && export NBKIT_HOME={home} && nbkit ui"
            "    (the MLflow UI; telemetry and job execution off)"
        ),
    )


class _Steps:
    """Says what is done, and keeps how long each step took."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self._report(f"{title} ...")
        started = time.perf_counter()
        yield
        self.seconds[title] = time.perf_counter() - started


def _make_keys(settings: Settings) -> None:
    for key, roles in _KEYS.items():
        if not (settings.keys / f"{key}.pem").exists():
            make_key(key, roles=roles, settings=settings, now=_now())


def _now() -> datetime:
    return datetime.now(UTC)


def _self_approval(target: str, *, settings: Settings) -> str:
    try:
        approve(target, to="staging", settings=settings, now=_now(), key="submitter")
    except NbkitError as error:
        return f"refused: {error.message}"
    raise RefusedError(f"{target}: the submitter's own approval was accepted")


def _climb(target: str, *, to: str, settings: Settings) -> None:
    for key in ("validator", "risk-officer"):
        approve(target, to=to, settings=settings, now=_now(), key=key)
    promote(target, to=to, settings=settings, now=_now())


def _decide_three(use_case: UseCase, *, settings: Settings) -> tuple[Answered, ...]:
    """Start a worker, ask for real applicants until each outcome was seen once, stop it."""
    sync(_NAME, settings=settings, now=_now())
    port = _free_port()
    command = worker_command(_NAME, settings=settings, host="127.0.0.1", port=port, log_level="warning", now=_now())
    worker = subprocess.Popen(command, env=worker_environment(settings))
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(f"{address}/readyz", worker=worker)
        return _one_of_each(use_case, address=f"{address}/v1/models/{_NAME}/decisions")
    finally:
        worker.terminate()
        worker.wait(timeout=30)


def _one_of_each(use_case: UseCase, *, address: str) -> tuple[Answered, ...]:
    from nbkit.evaluate import load_cases

    frame = load_cases(use_case.directory, contract=use_case.contract).frame
    names = [column.name for column in use_case.contract.inputs]
    seen: dict[str, Answered] = {}
    for row in frame.to_dict("records"):
        inputs = {name: None if row[name] != row[name] else row[name] for name in names}
        answer = _post(address, {"request_id": f"demo-{row[use_case.contract.entity]}", "inputs": inputs})
        reasons = answer.get("reasons")
        answered = Answered(
            applicant=str(row[use_case.contract.entity]),
            decision=str(answer["decision"]),
            score=answer["score"] if isinstance(answer["score"], float) else None,
            reasons=tuple(f"{r['code']} {r['text']}" for r in reasons) if isinstance(reasons, list) else (),
            decision_id=str(answer["decision_id"]),
        )
        seen.setdefault(answered.decision, answered)
        if len(seen) == len(Outcome):
            break
    return tuple(seen[outcome] for outcome in ("decline", "refer", "approve") if outcome in seen)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(address: str, *, worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if worker.poll() is not None:
            raise NbkitError(f"the worker stopped with exit code {worker.returncode}")
        try:
            with urllib.request.urlopen(address, timeout=1):  # noqa: S310  loopback, written above
                return
        except OSError:
            time.sleep(0.05)
    raise NbkitError(f"the worker was not ready within {_READY_WITHIN_SECONDS:.0f} s")


def _post(address: str, body: Mapping[str, object]) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310  loopback, written above
        address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    give_up = time.monotonic() + _ANSWER_WITHIN_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_SECONDS) as response:  # noqa: S310
                answer: dict[str, object] = json.loads(response.read())
                return answer
        except urllib.error.HTTPError as error:
            with error:
                # A busy machine missed the deadline and says so: ask again under the same request id.
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > give_up:
                    raise NbkitError(f"{address}: {error.code}: {error.read().decode()}") from error
            time.sleep(0.1)
