from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import pytest

from nbkit.errors import PackageError
from nbkit.serve._batch import Batcher, OverloadedError

Columns = Mapping[str, Sequence[object]]


class Gate:
    """A model that holds its first batch until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, columns: Columns) -> list[float]:
        self.sizes.append(len(columns["x"]))
        self.begun.set()
        assert self.go.wait(5)
        if "bad" in columns["x"]:
            raise ValueError("bad row")
        return [float(value) / 100 for value in columns["x"]]  # type: ignore[arg-type]


def test_rows_that_wait_together_are_scored_together() -> None:
    model = Gate()
    batcher = Batcher(model)
    first = batcher.submit({"x": 1.0})
    assert model.begun.wait(5)
    others = [batcher.submit({"x": float(number)}) for number in range(2, 300)]
    model.go.set()
    assert first.result(5) == 0.01
    assert [future.result(5) for future in others] == [number / 100 for number in range(2, 300)]
    assert model.sizes == [1, 256, 42]
    batcher.close()


def test_a_row_that_the_model_refuses_fails_alone() -> None:
    model = Gate()
    batcher = Batcher(model)
    held = batcher.submit({"x": 1.0})
    assert model.begun.wait(5)
    good, bad, also_good = (batcher.submit({"x": value}) for value in (2.0, "bad", 3.0))
    model.go.set()
    assert (held.result(5), good.result(5), also_good.result(5)) == (0.01, 0.02, 0.03)
    with pytest.raises(ValueError, match="bad row"):
        bad.result(5)
    batcher.close()


def test_a_row_whose_caller_gave_up_is_not_scored() -> None:
    model = Gate()
    batcher = Batcher(model)
    batcher.submit({"x": 1.0})
    assert model.begun.wait(5)
    gone = batcher.submit({"x": 2.0})
    assert gone.cancel()
    last = batcher.submit({"x": 3.0})
    model.go.set()
    assert last.result(5) == 0.03
    assert model.sizes == [1, 1]
    batcher.close()


def test_more_rows_than_memory_is_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbkit.serve._batch._MOST_WAITING", 1024)
    model = Gate()
    batcher = Batcher(model)
    batcher.submit({"x": 1.0})
    assert model.begun.wait(5)
    waiting = [batcher.submit({"x": 1.0}) for _ in range(1024)]
    with pytest.raises(OverloadedError, match="1024 rows wait for the model"):
        batcher.submit({"x": 1.0})
    model.go.set()
    batcher.close()
    assert all(future.result(5) == 0.01 for future in waiting)


def test_a_model_that_answers_too_few_scores_is_refused() -> None:
    batcher = Batcher(lambda columns: [])
    with pytest.raises(PackageError, match="the model gave 0 scores for 1 rows"):
        batcher.submit({"x": 1.0}).result(5)
    batcher.close()


def test_a_row_behind_one_that_waits_too_long_is_turned_away() -> None:
    go = threading.Event()
    batcher = Batcher(lambda columns: (go.wait(10) and [0.5] * len(columns["x"])) or [])
    first = batcher.submit({"x": 1.0})
    while not first.running():
        time.sleep(0.001)
    assert batcher.queue_age == 0.0
    second = batcher.submit({"x": 2.0}, most_age=0.0)
    while not batcher.queue_age > 0.001:
        time.sleep(0.001)
    with pytest.raises(OverloadedError, match="1 rows wait for the model"):
        batcher.submit({"x": 3.0}, most_age=0.001)
    go.set()
    assert (first.result(5), second.result(5)) == (0.5, 0.5)
    batcher.close()


def test_a_thread_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbkit.serve._batch._HANGS_SECONDS", 0.01)
    go = threading.Event()

    def score(columns: Mapping[str, Sequence[object]]) -> list[float]:
        if columns["x"][0] == 0.0:
            go.wait(20)
        return [0.5] * len(columns["x"])

    batcher = Batcher(score)
    stuck = batcher.submit({"x": 0.0})
    while not stuck.running():
        time.sleep(0.001)
    time.sleep(0.02)
    assert batcher.submit({"x": 1.0}).result(5) == 0.5
    go.set()
    assert stuck.result(5) == 0.5
    assert batcher.submit({"x": 1.0}).result(5) == 0.5
    batcher.close()
