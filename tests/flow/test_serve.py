"""``nbkit serve``, ``nbkit audit`` and the command line's exit codes, as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from nbkit import lifecycle
from nbkit.errors import ReviewError, UsageError
from nbkit.evaluate import load_cases
from nbkit.review import labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.flow.conftest import Project


def _nbkit(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbkit", *arguments],
        cwd=project.directory,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def _post(port: int, body: object) -> tuple[int, dict[str, object]]:
    """Ask for a decision; a busy machine may need to be asked again, as a client would."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/mortgage/decisions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    for _ in range(20):
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:
                    return error.code, json.loads(error.read())
        time.sleep(0.2)
    raise AssertionError("no answer but 503")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(live: Project) -> Iterator[tuple[Project, int, list[dict[str, object]]]]:
    """The answers of a real ``nbkit serve`` to eleven applicants; it was told to stop and did."""
    port = _free_port()
    command = [sys.executable, "-m", "nbkit", "serve", "mortgage", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=live.directory, env=live.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port, process)
        contract = live.use_case.contract
        frame = load_cases(live.use_case.directory, contract=contract).frame.head(10)
        rows = [
            {c.name: None if row[c.name] != row[c.name] else row[c.name] for c in contract.inputs}
            for row in frame.to_dict("records")
        ]
        # The eleventh is one that policy leaves to a person.
        rows.append(rows[0] | {"unverifiable": 1})
        answers = []
        for number, row in enumerate(rows):
            status, answer = _post(port, {"request_id": f"r{number}", "inputs": row})
            assert status == 200, answer
            answers.append(answer)
        assert _post(port, {"request_id": "r0", "inputs": rows[0]})[1]["decision_id"] == answers[0]["decision_id"]
        _check_refusals(port, rows[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        yield live, port, answers
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], *, path: str = "/readyz") -> None:
    for _ in range(600):
        assert process.poll() is None, "it stopped"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("not ready within 60 s")


def _check_refusals(port: int, row: dict[str, object]) -> None:
    """A row that breaks the contract is refused with every problem at once."""
    missing = {name: value for name, value in row.items() if name != "obligations_ratio"}
    status, answer = _post(port, {"inputs": missing | {"mortgage_history": "on Mars", "loan_amount": -5}})
    assert status == 422
    text = json.dumps(answer)
    assert all(name in text for name in ("obligations_ratio", "mortgage_history", "loan_amount"))
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/mortgage/decisions",
        data=json.dumps({"inputs": row}).replace(str(row["loan_amount"]), "NaN", 1).encode(),
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310
    assert refused.value.code in (400, 422)
    refused.value.close()


def test_every_answer_is_in_the_ledger_and_replays_bit_for_bit(
    served: tuple[Project, int, list[dict[str, object]]],
) -> None:
    project, _, answers = served
    done = _nbkit(project, "audit", "verify", "mortgage", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == len(answers)
    costs = lifecycle.audit_costs("mortgage", settings=project.settings)
    assert (costs.answers.decisions, costs.answers.cost_usd, costs.problems) == (len(answers), "0", ())
    for answer in answers:
        replay = lifecycle.audit_replay(str(answer["decision_id"]), settings=project.settings)
        assert replay.succeeded, str(replay)
        assert replay.recorded_score == answer["score"]


def test_recorded_reasons_are_those_that_the_package_gives(
    served: tuple[Project, int, list[dict[str, object]]],
) -> None:
    project, _, answers = served
    done = _nbkit(project, "reasons", "check", "mortgage", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["ledger"]
    adverse = [answer for answer in answers if answer["decision"] != "approve"]
    assert (found["records"], found["adverse"]) == (len(answers), len(adverse))
    assert (found["same"] + sum(found["not_recomputed"].values()), found["differences"]) == (len(adverse), [])


def test_only_a_decline_gets_a_notice_and_its_gaps_are_an_exit_code(
    served: tuple[Project, int, list[dict[str, object]]],
) -> None:
    project, _, answers = served
    approved = next(answer for answer in answers if answer["decision"] == "approve")
    refused = _nbkit(project, "notice", str(approved["decision_id"]))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "which is not adverse" in refused.stderr
    for answer in answers:
        if answer["decision"] == "decline":
            made = _nbkit(project, "notice", str(answer["decision_id"]), "--html", "notice.html")
            assert made.returncode == 1
            assert "gap: notice.creditor is not set in contract.yaml" in made.stderr
            assert all(reason["text"] in made.stdout for reason in answer["reasons"])
            assert "send by: " in made.stderr
            assert (project.directory / "notice.html").read_text().startswith("<!doctype html>")


def test_a_decline_has_reasons(served: tuple[Project, int, list[dict[str, object]]]) -> None:
    for answer in served[2]:
        if answer["decision"] == "decline":
            assert answer["reasons"]
        assert answer["model_version"] == 1


def test_an_unknown_decision_cannot_be_replayed(served: tuple[Project, int, list[dict[str, object]]]) -> None:
    done = _nbkit(served[0], "audit", "replay", "no-such-decision")
    assert done.returncode == 1
    assert done.stderr.startswith("NotInLedgerError: no-such-decision")


def test_a_referral_waits_for_a_person_who_decides_it(served: tuple[Project, int, list[dict[str, object]]]) -> None:
    project, _, answers = served
    referred = answers[-1]
    assert (referred["decision"], referred["route"]) == ("refer", "rules:unverifiable")
    ticket = str(referred["ticket"])
    listed = _nbkit(project, "tickets", "list", "mortgage", "--json")
    assert ticket in {each["id"] for each in json.loads(listed.stdout)["tickets"]}
    known = {"settings": project.settings, "now": datetime.now(UTC)}
    with pytest.raises(ReviewError, match="take it first"):
        lifecycle.decide_ticket("mortgage", ticket=ticket, outcome="approve", reason="policy", who="ana", **known)
    taken = lifecycle.take_ticket("mortgage", ticket=ticket, who="ana", **known)
    assert "ana has it until" in str(taken)
    decided = lifecycle.decide_ticket("mortgage", ticket=ticket, outcome="approve", reason="policy", who="ana", **known)
    assert "approve, decided by ana (policy)" in str(decided)
    assert ticket not in str(lifecycle.tickets("mortgage", **known))
    closed = lifecycle.tickets("mortgage", every=True, **known)
    assert ticket in str(closed)
    assert [label.outcome for label in labels_of(closed.tickets)] == ["approve"]
    with pytest.raises(ReviewError, match="there is none of that id"):
        lifecycle.take_ticket("mortgage", ticket="t-nobody", who="ana", **known)
    with pytest.raises(UsageError, match="who takes it"):
        lifecycle.take_ticket("mortgage", ticket=ticket, who="", **known)


def test_an_edited_record_is_named(served: tuple[Project, int, list[dict[str, object]]]) -> None:
    project = served[0]
    path = lifecycle.ledger_path("mortgage", settings=project.settings)
    copy = path.read_bytes()
    try:
        connection = sqlite3.connect(path)
        connection.execute("DROP TRIGGER records_no_update")
        changed = connection.execute("UPDATE records SET body = CAST(body || x'20' AS BLOB) WHERE seq = 4")
        assert changed.rowcount == 1
        connection.commit()
        connection.close()
        done = _nbkit(project, "audit", "verify", "mortgage")
        assert done.returncode == 1
        assert "the ledger was changed" in done.stdout
        assert "4" in done.stdout
    finally:
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        path.write_bytes(copy)


@contextmanager
def _mlflow(project: Project, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a real MLflow server over the project's database, and what kills it."""
    port = _free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", project.settings.tracking_uri, "--artifacts-destination", str(folder / "files"),
    ]  # fmt: skip
    environment = project.environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=60)

    try:
        _wait(port, server, path="/health")
        yield f"http://127.0.0.1:{port}", kill
    finally:
        kill()


@contextmanager
def _serving(project: Project, environment: dict[str, str], told: Path) -> Iterator[int]:
    """The port of a real ``nbkit serve``, which is told to stop at the end and does."""
    port = _free_port()
    command = [sys.executable, "-m", "nbkit", "serve", "mortgage", "--port", str(port)]
    with told.open("wb") as log:
        process = subprocess.Popen(command, cwd=project.directory, env=environment, stdout=log, stderr=log)
    try:
        _wait(port, process)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, told.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_an_mlflow_that_is_gone_changes_nothing(
    served: tuple[Project, int, list[dict[str, object]]], tmp_path: Path
) -> None:
    project, _, _ = served
    contract = project.use_case.contract
    case = load_cases(project.use_case.directory, contract=contract).frame.to_dict("records")[0]
    row = {c.name: None if case[c.name] != case[c.name] else case[c.name] for c in contract.inputs}
    environment = project.environment() | {
        "NBKIT_STORE": str(tmp_path / "store"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "PYTHONUNBUFFERED": "1",
    }
    told = tmp_path / "serve.log"
    with _mlflow(project, tmp_path) as (address, kill):
        environment["MLFLOW_TRACKING_URI"] = address
        with _serving(project, environment, told) as port:
            first = _post(port, {"request_id": "m1", "inputs": row})[1]
            assert first["model_version"] == 1
            kill()
            until = time.monotonic() + 60
            while "production: refused" not in told.read_text():
                assert time.monotonic() < until, told.read_text()
                assert _post(port, {"inputs": row})[0] == 200
                time.sleep(0.1)
            assert _post(port, {"request_id": "m1", "inputs": row}) == (200, first)
        # A worker that starts while it is gone begins with the last version that verified.
        with _serving(project, environment, told) as port:
            assert "mortgage: refused" in told.read_text()
            assert _post(port, {"request_id": "m1", "inputs": row}) == (200, first)
