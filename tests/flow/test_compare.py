"""Two versions against each other, and one against everything else that could decide; on real MLflow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from nbkit import lifecycle
from nbkit.cli import cli
from nbkit.errors import RegistryError, UsageError
from nbkit.evaluate import CaseRecord
from nbkit.lifecycle import UseCase, Vendor, open_use_case
from nbkit.registry import Registry
from nbkit.settings import Settings

CONTRACT = {
    "format": 1,
    "name": "loans",
    "kind": "tabular",
    "title": "Loans that are not paid back",
    "owner": {"team": "Risk", "primary": "Ada", "deputy": "Sam"},
    "impact": "medium",
    "purpose": "test",
    "jurisdictions": ["US"],
    "entity": "loan_id",
    "target": {"column": "bad", "positive": 1, "meaning": "the loan is not paid back", "label_delay_days": 90},
    "inputs": [
        {"name": "risk", "type": "number", "minimum": -10, "maximum": 10, "direction": "increasing"},
        {"name": "noise", "type": "number", "minimum": -10, "maximum": 10},
        {"name": "owner", "type": "boolean"},
    ],
    "protected": [{"name": "group", "reference": "a"}],
    "decision": {
        "costs": {
            "approve": {"positive": "100", "negative": "0"},
            "refer": {"positive": "5", "negative": "5"},
            "decline": {"positive": "0", "negative": "20"},
        },
        "review_capacity": 0.3,
    },
    "evaluate": {"slices": ["owner"], "resamples": 200},
    "required_reasons": [],
    "gates": {"staging": [{"gate": "parity"}], "production": [{"gate": "parity"}]},
    "rollout": {"path": ["staging", "production"]},
}
RULE = {
    "nodes": [
        {"id": "in", "type": "inputNode", "name": "in", "position": {"x": 0, "y": 0}},
        {
            "id": "table",
            "type": "decisionTableNode",
            "name": "rules",
            "position": {"x": 1, "y": 0},
            "content": {
                "hitPolicy": "first",
                "inputs": [
                    {"id": "i1", "name": "phase", "field": "phase"},
                    {"id": "i2", "name": "risk", "field": "risk"},
                ],
                "outputs": [
                    {"id": "o1", "name": "decision", "field": "decision"},
                    {"id": "o2", "name": "rule", "field": "rule"},
                    {"id": "o3", "name": "reason", "field": "reason"},
                ],
                "rules": [
                    {
                        "_id": "r1",
                        "i1": '"fallback"',
                        "i2": "< -2",
                        "o1": '"approve"',
                        "o2": '"plainly-good"',
                        "o3": '""',
                    }
                ],
            },
        },
        {"id": "out", "type": "outputNode", "name": "out", "position": {"x": 2, "y": 0}},
    ],
    "edges": [
        {"id": "e1", "sourceId": "in", "targetId": "table", "type": "edge"},
        {"id": "e2", "sourceId": "table", "targetId": "out", "type": "edge"},
    ],
}


def now() -> datetime:
    return datetime.now(UTC)


def make_rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    risk = rng.normal(-1, 1.5, 900).clip(-9, 9)
    return pd.DataFrame(
        {
            "loan_id": np.arange(1000, 1900),
            "risk": risk,
            "noise": rng.normal(0, 2, 900).clip(-9, 9),
            "owner": (rng.random(900) < 0.5).astype(float),
            "group": np.where(rng.random(900) < 0.3, "b", "a"),
            "bad": (rng.random(900) < 1 / (1 + np.exp(-risk))).astype(int),
        }
    )


@dataclasses.dataclass(frozen=True)
class World:
    folder: Path
    settings: Settings
    rows: pd.DataFrame

    @property
    def use_case(self) -> UseCase:
        return open_use_case("loans", base=self.folder.parent)

    def build(self, weight: float) -> str:
        """Package a logistic regression whose labels follow risk and, by weight, noise; evaluate it."""
        cases = lifecycle.freeze(self.use_case, self.rows, share=0.5)
        free = self.rows[~self.rows.loan_id.isin(cases.ids)]
        inputs = ["risk", "noise", "owner"]
        columns = ColumnTransformer([("numbers", "passthrough", inputs)])
        model = Pipeline([("columns", columns), ("classifier", LogisticRegression())])
        model.fit(free[inputs], free.bad)
        model[-1].coef_ = np.array([[1.0, weight, 0.0]])
        model[-1].intercept_ = np.array([0.0])
        run_id = lifecycle.open_run(self.use_case, settings=self.settings, parameters={"weight": weight})
        lifecycle.package(
            self.use_case, model, training=free, validation=free, parameters={"weight": weight}, run_id=run_id,
            settings=self.settings, now=now(),
        )  # fmt: skip
        lifecycle.evaluate(self.use_case, settings=self.settings, now=now(), junit=self.folder / "junit.xml")
        return run_id

    def register(self) -> int:
        lifecycle.explain(self.use_case, settings=self.settings, now=now(), sample=20)
        return lifecycle.register(self.use_case, settings=self.settings, now=now(), key="alice").version


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 reads noise as much as risk; version 2 does not."""
    base = tmp_path_factory.mktemp("compare")
    folder = base / "loans"
    for name in ("golden", "behaviours"):
        (folder / "cases" / name).mkdir(parents=True)
    (folder / "contract.yaml").write_text(yaml.safe_dump(CONTRACT, sort_keys=False))
    (folder / "train.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    (folder / "rules.json").write_text(json.dumps(RULE))
    (folder / "cases/golden/safe.yaml").write_text(
        "format: 1\nid: safe\nwhy: w\ninputs: {risk: -6, noise: 0, owner: 1}\nexpect: {decision: approve}\n"
    )
    (folder / "cases/behaviours/noise.yaml").write_text(
        "format: 1\nid: noise\nwhy: It is noise.\nkind: invariance\nchange: {noise: {add: 1}}\nexpect: same_score\n"
    )
    settings = Settings.from_environment({"NBKIT_HOME": str(base / "home")}, directory=base)
    lifecycle.make_key("alice", roles=("submitter",), settings=settings, now=now())
    made = World(folder, settings, make_rows())
    for weight in (1.0, 0.0):
        made.build(weight)
        made.register()
    return made


@pytest.fixture
def cases(world: World) -> pd.DataFrame:
    shown = lifecycle.show_case_set(world.use_case).case_set
    assert shown is not None
    return shown.frame


def test_an_evaluation_leaves_tables_and_every_score_in_the_run(world: World) -> None:
    registry, run_id = Registry(world.settings), world.use_case.latest_build().run_id
    comparison = json.loads(registry.read_artifact(run_id, "tables/comparison.json"))
    assert [row[0] for row in comparison["data"]] == ["this version", "rules alone, the fallback"]
    assert {"slices", "behaviours"} <= {
        path.stem for path in (world.settings.artifact_root / "loans" / run_id / "artifacts" / "tables").glob("*.json")
    }
    evaluation = json.loads((world.use_case.latest_build().evaluation).read_text())
    digest = evaluation["result"]["record"]
    raw = registry.read_artifact(run_id, f"judged/judged-{digest.removeprefix('sha256:')[:12]}.json.gz")
    record = CaseRecord.from_bytes(raw)
    assert record.digest == digest
    assert len(record.ids) == evaluation["facts"]["case_set"]["cases"]


def test_the_fallback_is_evaluated_as_a_version_of_its_own(world: World, cases: pd.DataFrame) -> None:
    compared = lifecycle.compare(world.use_case, settings=world.settings, now=now())
    own, fallback = compared.contenders
    assert (own.kind, own.cost_difference, own.auc_difference) == ("version", None, None)
    approved = int((cases.risk < -2).sum())
    assert fallback.approved.value == pytest.approx(approved / len(cases))
    assert fallback.declined.value == 0
    assert fallback.note == (
        "what answers when the model cannot: rules then default (refer); "
        f"no rule answers {len(cases) - approved:,} cases"
    )
    positive = int(((cases.risk < -2) & (cases.bad == 1)).sum())
    assert fallback.cost.value == pytest.approx((100 * positive + 5 * (len(cases) - approved)) / len(cases))
    assert fallback.cost_difference is not None
    assert fallback.cost_difference.value == pytest.approx(fallback.cost.value - own.cost.value)
    assert "rules alone, the fallback" in world.use_case.latest_build().directory.joinpath("report.html").read_text()


def test_a_vendor_a_function_and_another_version_stand_in_the_same_table(world: World, cases: pd.DataFrame) -> None:
    vendor = cases[["loan_id"]].assign(points=(700 - 40 * cases.risk).round())
    vendor.to_csv(world.folder / "vendor.csv", index=False)
    compared = lifecycle.compare(
        world.use_case,
        settings=world.settings,
        now=now(),
        versions=[1],
        vendors={"points": Vendor(path=world.folder / "vendor.csv", column="points", falling=True)},
        objects={"guess": lambda frame: np.linspace(0, 1, len(frame)), "column": cases.set_index("loan_id").risk},
    )
    found = {one.name: one for one in compared.contenders}
    assert list(found) == ["this version", "version 1", "rules alone, the fallback", "points", "guess", "column"]
    own, points = found["this version"], found["points"]
    assert own.auc is not None
    assert points.auc is not None
    assert points.auc.value == pytest.approx(own.auc.value, abs=0.005)
    # It declines no more often than this version; equal scores are decided alike.
    assert points.declined.value <= own.declined.value
    assert found["column"].declined.value == own.declined.value
    assert found["column"].wrong == own.wrong
    guess = found["guess"]
    assert guess.auc_difference is not None
    assert guess.auc_difference.high is not None
    assert guess.auc_difference.high < 0
    # Version 1 refers nearly everybody: that is cheap on paper only.
    assert found["version 1"].cost.value < own.cost.value
    assert "version 1" not in {one.name for one in compared.workable}
    assert "refers more than people can look at" in str(compared)
    assert "version 1" not in str(compared).splitlines()[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda table: table.drop(columns="points"), "no column 'points'"),
        (lambda table: table.iloc[3:], r"3 of 450 cases have no score \(first ids: 1\d\d\d"),
        (lambda table: pd.concat([table, table.iloc[:1]]), r"id 1\d\d\d appears twice"),
    ],
)
def test_a_vendor_that_does_not_answer_for_every_case_is_refused(
    world: World, cases: pd.DataFrame, change: Callable[[pd.DataFrame], pd.DataFrame], problem: str
) -> None:
    change(cases[["loan_id"]].assign(points=1.0)).to_csv(world.folder / "broken.csv", index=False)
    vendors = lifecycle.vendors_of([f"{world.folder / 'broken.csv'}:points"], falling=False)
    with pytest.raises(UsageError, match=problem):
        lifecycle.compare(world.use_case, settings=world.settings, now=now(), vendors=vendors)


# Said of MLflow's own classes when it is imported; of a class of ours without a hint it is said whatever is filtered.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_a_model_in_mlflow_is_loaded_only_when_asked_for(world: World, tmp_path: Path) -> None:
    import mlflow.pyfunc

    class Model(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
            return (model_input["risk"].to_numpy() + 10) / 20

    class Labels(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
            return (model_input["risk"].to_numpy() > 0).astype(int)

    for name, model in (("scores", Model()), ("labels", Labels())):
        mlflow.pyfunc.save_model(tmp_path / name, python_model=model, pip_requirements=[])

    def compare(name: str, **given: bool) -> lifecycle.Result:
        uris = [str(tmp_path / name)]
        return lifecycle.compare(world.use_case, settings=world.settings, now=now(), model_uris=uris, **given)

    with pytest.raises(UsageError, match="runs code out of its files"):
        compare("scores")
    result = compare("scores", run_code=True)
    found = result.contenders[-1]  # type: ignore[attr-defined]
    assert found.kind == "mlflow"
    assert found.auc.value == pytest.approx(result.contenders[0].auc.value)  # type: ignore[attr-defined]
    with pytest.raises(RegistryError, match="returns labels and no scores"):
        compare("labels", run_code=True)
    with pytest.raises(RegistryError):
        compare("nothing", run_code=True)


def test_diff_says_what_changed_from_what_was_recorded(world: World) -> None:
    found = lifecycle.diff("loans@1", "loans@2", settings=world.settings, now=now())
    assert found.unverified == ()
    assert found.compared is not None
    assert found.compared.auc_difference.low is not None
    assert found.compared.auc_difference.low > 0
    assert found.compared.flipped >= len(found.compared.flips) > 0
    figures = {one.name: one for one in found.figures}
    left, right = figures["auc"].left, figures["auc"].right
    assert left is not None
    assert right is not None
    assert right.value - left.value == pytest.approx(found.compared.auc_difference.value)
    cost = figures["expected_cost"]
    assert cost.right is not None
    assert cost.left is not None
    assert cost.right.value - cost.left.value == pytest.approx(found.compared.cost_difference.value)
    assert [(c.left, c.right) for c in found.changes_of("parameter")] == [("1", "0")]
    assert found.changes_of("threshold")
    assert found.changes_of("input") == found.changes_of("data") == found.changes_of("contract") == ()
    assert {(one.column, one.level) for one in found.slices} == {("owner", "0"), ("owner", "1")}
    text = str(found)
    assert "Cases decided differently" in text
    assert "What was changed" in text
    json.dumps(found.as_json())


def test_results_on_other_cases_are_not_compared_until_both_are_judged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.folder / "cases" / "golden"
    (folder / "late.yaml").write_text((folder / "safe.yaml").read_text().replace("id: safe", "id: late"))
    lifecycle.add_cases(world.use_case, why="one more golden case")
    world.build(0.1)
    version = world.register()
    with pytest.raises(UsageError, match=r"@3 on [0-9a-f]{12}: their results are not comparable.*--re-evaluate"):
        lifecycle.diff("loans@1", f"loans@{version}", settings=world.settings, now=now())
    with pytest.raises(UsageError, match="needs the use case's folder"):
        lifecycle.diff("loans@1", "loans@3", settings=world.settings, now=now(), re_evaluate=True)
    monkeypatch.chdir(world.folder.parent)
    monkeypatch.setenv("NBKIT_HOME", str(world.settings.home))
    monkeypatch.delenv("NBKIT_STORE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(cli, ["diff", "loans@1", "loans@3", "--re-evaluate", "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.output)
    assert found["re_evaluated"] is True
    assert found["case_set"] == world.use_case.contract.evaluate.case_set
    assert found["compared"]["auc_difference"]["low"] > 0
    with pytest.raises(UsageError, match="expected two versions of one model"):
        lifecycle.diff("loans@1", "cards@1", settings=world.settings, now=now())


def test_ci_reads_the_same_as_junit(world: World) -> None:
    root = ET.fromstring((world.folder / "junit.xml").read_text())  # noqa: S314  our own file
    suites = {suite.get("name"): suite for suite in root}
    assert {"golden cases", "behaviours", "fairness"} <= set(suites)
    golden = {case.get("name"): case for case in suites["golden cases"].findall("testcase")}
    assert golden["safe"].find("failure") is None
    assert suites["behaviours"].get("tests") == "1"
    properties = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert str(properties["case_set"]).startswith("cases/holdout-")
