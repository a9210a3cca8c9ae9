from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from nbkit.contract import Contract
from nbkit.errors import PackageError
from nbkit.package import Package
from nbkit.package import _write as writing
from nbkit.package._parity import Parity

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]


@pytest.fixture(scope="module")
def hist(table: pd.DataFrame, prepared: Callable[..., Pipeline]) -> Pipeline:
    model = prepared(HistGradientBoostingClassifier(max_iter=10, early_stopping=False))
    return model.fit(table[INPUTS], table["denied"])


def document(package: Package, name: str) -> Any:
    return json.loads(package.read(name))


def test_a_package_holds_everything_that_is_asked_for_later(
    hist: Pipeline, write: Callable[..., Package], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text("{}")
    package = write(hist, sources={"rules.json": rules, "cases/a/rules.json": rules})
    found = {path.relative_to(package.directory).as_posix() for path in package.directory.rglob("*") if path.is_file()}
    assert found == {
        "background.json",
        "cases/a/rules.json",
        "contract.json",
        "environment.json",
        "fingerprint.json",
        "manifest.json",
        "model.skops",
        "plan.json",
        "profile.json",
        "requirements.txt",
        "rules.json",
        "trees.treelite",
    }
    assert package.read("cases/a/rules.json") == b"{}"


def test_the_manifest_tells_the_whole_story(
    hist: Pipeline, write: Callable[..., Package], contract: Contract, table: pd.DataFrame
) -> None:
    created = datetime(2026, 11, 23, 12, tzinfo=timezone(timedelta(hours=2)))
    facts = {"method": "search", "expected_cost": Decimal("1.50"), "curve": ((0.1, np.float64(2.0)), (0.2, 3.0))}
    manifest = write(
        hist,
        created_at=created,
        threshold_facts=facts,
        parameters={"day": datetime(2026, 1, 2, tzinfo=UTC), "depth": None, "folder": Path("a/b"), "flag": True},
        alternatives={"LogisticRegression": {"auc": 0.7}},
    ).manifest
    assert manifest["created_at"] == "2026-11-23T10:00:00+00:00"
    assert (manifest["name"], manifest["family"], manifest["compiled"], manifest["not_compiled_because"]) == (
        "loans",
        "HistGradientBoostingClassifier",
        True,
        "",
    )
    assert manifest["contract_digest"] == contract.digest
    assert manifest["git_commit"] == "c0ffee"
    assert manifest["thresholds"] == {"refer": 0.4, "decline": 0.7}
    assert manifest["threshold_facts"] == {
        "method": "search",
        "expected_cost": "1.50",
        "curve": [[0.1, 2], [0.2, 3]],
    }
    assert manifest["parameters"] == {
        "day": "2026-01-02 00:00:00+00:00",
        "depth": None,
        "folder": "a/b",
        "flag": True,
    }
    assert manifest["alternatives"] == {"LogisticRegression": {"auc": 0.7}}
    assert manifest["seeds"] == {"numpy": 7}
    parity: Any = manifest["parity"]
    assert parity["passed"] is True
    assert parity["max_abs"] <= parity["tolerance"] == 1e-12
    signature: Any = manifest["signature"]
    assert signature["inputs"][0] == {"name": "income", "type": "number", "nullable": True}
    assert (signature["none_is_missing"], signature["levels"], signature["positive_class"]) == (False, {}, 1)
    data: Any = manifest["data"]
    assert data["rows"] == len(table)


def test_the_same_inputs_give_the_same_manifest_but_for_time_and_skops(
    hist: Pipeline, write: Callable[..., Package], tmp_path: Path
) -> None:
    first, second = (dict(write(hist, directory=tmp_path / name).manifest) for name in ("one", "two"))
    later: Any = dict(write(hist, directory=tmp_path / "later", created_at=datetime(2027, 1, 1, tzinfo=UTC)).manifest)
    assert later.pop("created_at") != first.pop("created_at")
    second.pop("created_at")
    files: list[Any] = [manifest.pop("files") for manifest in (first, second, later)]
    assert first == second == later
    skops = [listed.pop("model.skops") for listed in files]
    assert files[0] == files[1] == files[2]
    assert len({item["sha256"] for item in skops}) == 3


def test_a_model_trained_again_has_the_same_model_digest_and_another_model_has_not(
    write: Callable[..., Package], prepared: Callable[..., Pipeline], table: pd.DataFrame, tmp_path: Path
) -> None:
    def digest(name: str, rounds: int) -> Any:
        model = prepared(HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False))
        model.fit(table[INPUTS], table["denied"])
        return write(model, directory=tmp_path / name).manifest["model_digest"]

    one, again, other = digest("one", 5), digest("again", 5), digest("other", 6)
    assert one == again
    assert one["plan"] != other["plan"]
    assert one["scores"] != other["scores"]


def test_a_plan_that_fails_parity_is_refused_and_the_reason_kept(
    hist: Pipeline,
    write: Callable[..., Package],
    prepared: Callable[..., Pipeline],
    table: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The plan of another model: no mock, but the mistake itself.
    other = prepared(HistGradientBoostingClassifier(max_iter=9, early_stopping=False))
    other.fit(table[INPUTS], table["denied"])
    compile_plan = writing.compile_plan
    monkeypatch.setattr(writing, "compile_plan", lambda model, **given: compile_plan(other, **given))
    package = write(hist)
    assert package.plan is None
    assert not (package.directory / "plan.json").exists()
    parity: Any = package.manifest["parity"]
    assert parity["passed"] is False
    assert package.manifest["not_compiled_because"] == Parity(**parity).reason
    np.testing.assert_array_equal(package.score_frame(table), hist.predict_proba(table[INPUTS])[:, 1])


def test_parity_is_measured_on_the_rows_that_are_given(
    hist: Pipeline, write: Callable[..., Package], table: pd.DataFrame, tmp_path: Path
) -> None:
    few: Any = write(hist, directory=tmp_path / "few", parity_frame=table.head(50)).manifest["parity"]
    assert few["rows"] == 50 + few["edge_rows"] + few["at_threshold_rows"] + few["split_rows"]


def test_a_long_table_is_compared_in_even_steps(table: pd.DataFrame) -> None:
    assert len(writing._spread(table)) == len(table)
    long = pd.DataFrame({"a": np.arange(50_001)})
    spread = writing._spread(long)
    assert len(spread) <= 20_000
    assert spread["a"].iloc[-1] == 50_001 - 1 - (50_000 % 3)
    assert len(writing._spread(table.head(0))) == 0


def test_the_background_depends_on_its_seed_alone(
    hist: Pipeline, write: Callable[..., Package], tmp_path: Path
) -> None:
    def background(name: str, seed: int) -> bytes:
        return write(hist, directory=tmp_path / name, background_seed=seed).read("background.json")

    assert background("one", 0) == background("two", 0) != background("three", 1)


def test_a_short_table_is_its_own_background(
    hist: Pipeline, write: Callable[..., Package], table: pd.DataFrame
) -> None:
    background = write(hist, training=table.head(20)).background()
    assert background is not None
    assert len(background) == 20


def test_no_file_names_a_person(hist: Pipeline, write: Callable[..., Package]) -> None:
    for path in write(hist).directory.iterdir():
        assert b"id399" not in path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"created_at": datetime(2026, 1, 1)}, "created_at: expected a time with a zone"),  # noqa: DTZ001
        ({"parameters": {"alpha": float("nan")}}, "manifest.json: something given is no JSON"),
        ({"parameters": {"model": object()}}, "manifest.json: something given is no JSON"),
        ({"seeds": {"numpy": 2**60}}, "manifest.json: something given is no JSON"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    changes: dict[str, Any], problem: str, hist: Pipeline, write: Callable[..., Package], tmp_path: Path
) -> None:
    with pytest.raises(PackageError, match=problem):
        write(hist, **changes)
    assert not (tmp_path / "package").exists()


def test_every_wrong_source_is_named(hist: Pipeline, write: Callable[..., Package], tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("x")
    sources = {"../a": good, "plan.json": good, "b": tmp_path / "absent"}
    with pytest.raises(PackageError, match="sources: 3 problems") as caught:
        write(hist, sources=sources)
    assert caught.value.problems == (
        "../a: leads out of the package",
        "plan.json: nbkit writes this file itself",
        f"b: no file {tmp_path / 'absent'}",
    )


def test_a_taken_directory_is_refused_and_an_empty_one_used(
    hist: Pipeline, write: Callable[..., Package], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write(hist, directory=empty).compiled
    with pytest.raises(PackageError, match="expected a new or empty directory"):
        write(hist, directory=empty)


def test_a_failure_leaves_nothing_behind(
    hist: Pipeline, write: Callable[..., Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        write(hist)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("positive", ["denied", 2])
def test_a_positive_class_that_the_model_does_not_know_is_refused(
    positive: Any, hist: Pipeline, write: Callable[..., Package], contract_with: Callable[..., Contract]
) -> None:
    target = {"column": "denied", "positive": positive, "meaning": "denied", "label_delay_days": 0}
    with pytest.raises(PackageError, match=rf"target\.positive is {positive!r}, the classes are \[0, 1\]"):
        write(hist, contract=contract_with(target=target))


def test_a_first_positive_class_is_scored_as_one(
    hist: Pipeline, write: Callable[..., Package], contract_with: Callable[..., Contract], table: pd.DataFrame
) -> None:
    target = {"column": "denied", "positive": 0, "meaning": "granted", "label_delay_days": 0}
    package = write(hist, contract=contract_with(target=target))
    assert package.compiled
    expected = hist.predict_proba(table[INPUTS])[:, 0]
    np.testing.assert_allclose(package.score_frame(table), expected, rtol=0, atol=1e-12)


def test_absent_inputs_are_named_before_anything_else(
    hist: Pipeline, write: Callable[..., Package], table: pd.DataFrame
) -> None:
    with pytest.raises(PackageError, match=r"the table: 2 problems: \$\.ratio: missing; \$\.region: missing"):
        write(hist, training=table.drop(columns=["ratio", "region"]))


class Own(StandardScaler):
    """A class from a notebook, which no server could load."""


def test_a_class_from_the_notebook_is_refused(
    write: Callable[..., Package],
    contract_with: Callable[..., Contract],
    table: pd.DataFrame,
) -> None:
    contract = contract_with(inputs=[{"name": "married", "type": "boolean"}])
    model = Pipeline([("own", Own()), ("model", LogisticRegression())]).fit(table[["married"]], table["denied"])
    with pytest.raises(PackageError, match=r"model\.skops holds types that nbkit does not trust: .*Own"):
        write(model, contract=contract)
