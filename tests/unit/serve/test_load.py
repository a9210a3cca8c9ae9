"""What the client of ``make bench-serve`` says is what happened: nothing is left out, and no wait is hidden."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbkit

LOAD = Path(nbkit.__file__).parents[1] / "benchmarks" / "serving" / "load.py"
COMPILER = shutil.which(shlex.split(os.environ.get("CC") or "cc")[0])

WHOLE = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%b"
ANSWERS = {
    b"good": WHOLE % (200, 14, b'{"fallback":""'),
    b"fallback": WHOLE % (200, 19, b'{"fallback":"rules"'),
    b"busy": WHOLE % (503, 0, b""),
    b"chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b'10\r\n{"fallback":"", \r\n3;x=y\r\n  }\r\n0\r\nlast: x\r\n\r\n',
    b"bye": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    b"endless": b'HTTP/1.1 200 OK\r\n\r\n{"fallback":""}',
    b"cut": b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf",
    b"nonsense": b"\r\n\r\n",
}
ENDING = (b"bye", b"endless", b"cut", b"nonsense")


class Callee:
    """Answers each connection in a thread of its own, in two pieces."""

    def __init__(self, *, answers: threading.Event) -> None:
        self.seen: Counter[bytes] = Counter()
        self.opened = 0
        self.asked = threading.Event()
        self.answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self.answers.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        # A client that has lost its patience leaves.
        with line, contextlib.suppress(OSError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := line.recv(65536):
                head, _, body = data.partition(b"\r\n\r\n")
                assert head.startswith(b"POST /decide HTTP/1.1\r\n")
                assert b"\r\ncontent-length: %d" % len(body) in head
                self.asked.set()
                self.answers.wait(30)
                self.seen[body] += 1
                line.sendall(ANSWERS[body][:30])
                line.sendall(ANSWERS[body][30:])
                if body in ENDING:
                    return


@pytest.fixture(scope="module")
def load() -> Any:
    if COMPILER is None:
        pytest.skip("no compiler")
    made = importlib.util.spec_from_file_location("bench_load", LOAD)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def client(load: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load.build(tmp_path_factory.mktemp("load"))


@pytest.fixture
def callee() -> Iterator[Callee]:
    answers = threading.Event()
    answers.set()
    made = Callee(answers=answers)
    yield made
    made.close()


def plan(callee: Callee, folder: Path, *bodies: bytes, **more: Any) -> dict[str, Any]:
    (folder / "bodies").write_bytes(b"\n".join(bodies))
    return {
        "port": callee.port, "path": "/decide", "bodies": str(folder / "bodies"), "marks": ['"fallback":""', "rules"],
        "connections": 4, "headers": {"authorization": "Bearer x"}, **more,
    }  # fmt: skip


def test_every_answer_is_counted_by_status_and_mark(load: Any, client: Path, callee: Callee, tmp_path: Path) -> None:
    asked = plan(callee, tmp_path, b"good", b"fallback", b"busy", b"chunked", phases=[[0.2, 200], [0.1, 400]])
    told = load.measure(client, {**asked, "timeline": True})
    assert (told["asked"], told["answers"], told["broken"], told["lost"]) == (80, 80, 0, 0)
    assert told["statuses"] == {"200": 60, "503": 20}
    assert told["kinds"] == {"0": 20, "1": 40, "2": 20}
    assert callee.seen == {b"good": 20, b"fallback": 20, b"busy": 20, b"chunked": 20}
    assert callee.opened == 4
    dues = [due for due, _, _ in told["timeline"]]
    assert dues == pytest.approx([number / 200 for number in range(40)] + [0.2 + n / 400 for n in range(40)])
    assert 0 < told["p50_ms"] <= told["p99_ms"] <= told["max_ms"]


def test_connections_that_end_are_counted_and_opened_again(
    load: Any, client: Path, callee: Callee, tmp_path: Path
) -> None:
    told = load.measure(client, plan(callee, tmp_path, *ENDING, b"good", phases=[[0.5, 100]]))
    # What ends after a whole answer has answered.
    assert (told["asked"], told["answers"], told["broken"], told["lost"]) == (50, 30, 20, 0)
    assert told["kinds"] == {"0": 10, "1": 20}
    assert callee.seen.total() == 50
    assert callee.opened >= 40


def test_what_waits_for_a_connection_waits_by_the_timetable(
    load: Any, client: Path, callee: Callee, tmp_path: Path
) -> None:
    callee.answers.clear()

    def release() -> None:
        callee.asked.wait(30)
        time.sleep(0.4)
        callee.answers.set()

    releasing = threading.Thread(target=release)
    releasing.start()
    told = load.measure(client, plan(callee, tmp_path, b"good", phases=[[0.4, 100]], timeline=True))
    releasing.join()
    assert (told["answers"], told["lost"]) == (40, 0)
    # Four were sent and 36 waited; nobody was answered sooner than 0.4 seconds after the first was due.
    assert all(due + took >= 0.4 for due, took, _ in told["timeline"])


def test_what_is_not_answered_within_the_patience_is_lost(
    load: Any, client: Path, callee: Callee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.2)
    callee.answers.clear()
    told = load.measure(client, plan(callee, tmp_path, b"good", phases=[[0.1, 100]]))
    assert (told["asked"], told["answers"], told["broken"], told["lost"]) == (10, 0, 0, 10)


def test_a_closed_loop_asks_again_when_answered(load: Any, client: Path, callee: Callee, tmp_path: Path) -> None:
    told = load.measure(client, plan(callee, tmp_path, b"good", b"busy", seconds=0.3))
    assert told["answers"] == told["asked"] == callee.seen.total() > 8
    assert told["per_second"] == pytest.approx(told["statuses"]["200"] / 0.3, abs=0.1)
    assert callee.opened == 4


def test_a_server_that_is_not_there_and_a_compiler_that_is_not_there_are_said(
    load: Any, client: Path, callee: Callee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan(callee, tmp_path, b"good", seconds=0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        asked["port"] = other.getsockname()[1]
    with pytest.raises(RuntimeError, match="connect: Connection refused"):
        load.measure(client, asked)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="needs a C compiler"):
        load.build(tmp_path)
