"""A real plug-in, installed with real entry points: found, conformant, and never loaded by what serves."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nbkit.contract import Contract, GateSpec
from nbkit.errors import EvaluationError, LeakError, UsageError
from nbkit.evaluate import evaluate_package, freeze_cases, refuse_leaks
from nbkit.gates import require_at_most, run_gates
from nbkit.plugins import find_plugins, load_plugin
from nbkit.records import GateResult, Verdict
from nbkit.testing import check_case_set, check_data_check, check_gate, check_metric
from tests.unit.evaluate.conftest import CONTRACT, FormulaPackage

ROOT = Path(__file__).parents[3]
FACTS = {"case_set": {"positives": 100}}
ENOUGH = GateSpec(gate="enough_positives", value=50)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the plug-in of this repository is installed by pip."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(target), str(ROOT / "plugins" / "nbkit-lending")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("nbkit_lending", None)


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    risk = rng.normal(-1, 1.5, 400).clip(-9, 9)
    return pd.DataFrame(
        {
            "loan_id": np.arange(1000, 1400),
            "risk": risk,
            "income": rng.lognormal(8, 0.5, 400),
            "kind": rng.choice(["fixed", "adjustable"], 400),
            "owner": rng.random(400) < 0.5,
            "group": np.where(rng.random(400) < 0.3, "b", "a"),
            "bad": (rng.random(400) < 1 / (1 + np.exp(-risk))).astype(int),
        }
    )


def make_contract(**evaluate: object) -> Contract:
    return Contract.model_validate(CONTRACT | {"evaluate": {"resamples": 200} | evaluate})


def test_it_is_found_without_being_loaded(installed: None) -> None:
    assert find_plugins("nbkit.metrics") == {"bad_rate_approved": "nbkit-lending 0.1.0"}
    assert "nbkit_lending" not in sys.modules
    plugin = load_plugin("nbkit.gates", "enough_positives")
    assert plugin is not None
    assert plugin.source == "nbkit-lending 0.1.0"
    assert load_plugin("nbkit.gates", "nothing") is None


def test_it_keeps_to_what_nbkit_expects(installed: None, rows: pd.DataFrame) -> None:
    lending = importlib.import_module("nbkit_lending")
    check_metric(lending.bad_rate_approved)
    check_data_check(lending.constant_inputs, clean=rows, bad=rows.assign(kind="fixed"), contract=make_contract())
    check_gate(
        lending.enough_positives,
        name="enough_positives",
        value=50,
        passing=FACTS,
        failing={"case_set": {"positives": 49}},
    )


def test_its_metric_is_a_figure_with_an_interval_that_gates_can_read(
    installed: None, rows: pd.DataFrame, tmp_path: Path
) -> None:
    cases = freeze_cases(rows, contract=make_contract(), directory=tmp_path, share=0.9, seed=0)
    contract = make_contract(case_set=cases.reference, metrics=["bad_rate_approved"])
    result = evaluate_package(
        FormulaPackage(contract=contract), cases=cases, golden=(), champion=None, champion_version=None
    )
    found, approved = result.metric("bad_rate_approved"), result.confusion[0]
    assert found.value == pytest.approx(approved.positive / (approved.positive + approved.negative))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.method == "percentile bootstrap, 200 resamples; nbkit-lending 0.1.0"
    assert require_at_most("bad_rate_approved", 0.5)(result.facts()).verdict is Verdict.PASS
    assert "bad rate approved" in result.to_html()


def test_its_check_stops_a_training_where_the_contract_names_it(installed: None, rows: pd.DataFrame) -> None:
    constant = rows.assign(owner=1.0)
    refuse_leaks(constant, contract=make_contract())
    with pytest.raises(LeakError, match="owner: has one value in all 400 rows"):
        refuse_leaks(constant, contract=make_contract(checks=["constant_inputs"]))


def test_its_gate_stands_among_the_others(installed: None) -> None:
    (result,) = run_gates([ENOUGH], facts=FACTS)
    assert (result.verdict, result.reason) == (Verdict.PASS, "100 positive cases, reaching 50")
    (result,) = run_gates([ENOUGH], facts={})
    assert result.verdict is Verdict.CANNOT_TELL


def test_what_is_not_installed_never_passes_and_is_named(rows: pd.DataFrame) -> None:
    assert entry_points(group="nbkit.gates", name="enough_positives") == ()
    (result,) = run_gates([ENOUGH], facts=FACTS)
    assert result.verdict is Verdict.CANNOT_TELL
    assert result.reason.startswith("no gate is called 'enough_positives'")
    with pytest.raises(EvaluationError, match=r"evaluate\.checks: 1 problem: 'constant_inputs' is not installed"):
        refuse_leaks(rows, contract=make_contract(checks=["constant_inputs"]))


def test_what_serves_loads_no_plug_in(site: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import nbkit.serve; "
        "print('nbkit_lending' in sys.modules, 'nbkit.plugins' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose plug-ins do what they must not."""
    (tmp_path / "strange_things.py").write_text(
        "from nbkit.records import GateResult, Verdict\n"
        "def boom(*_, **__): raise RuntimeError('out of ideas')\n"
        "def text(*_, **__): return 'fine'\n"
        "def nan(*_, **__): return float('nan')\n"
        "def raising(**_): return boom\n"
        "def chatty(**_): return text\n"
        "def greedy(**_):\n"
        "    def gate(facts):\n"
        "        facts['case_set']['positives'] = 10**6\n"
        "        return GateResult(gate='greedy', verdict=Verdict.PASS, reason='r')\n"
        "    return gate\n"
        "def posing(**_): return lambda facts: GateResult(gate='parity', verdict=Verdict.PASS, reason='r')\n"
    )
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nbkit.metrics]\nboom = strange_things:boom\ntext = strange_things:text\nnan = strange_things:nan\n"
        "gone = strange_things:gone\nauc = strange_things:nan\n"
        "[nbkit.checks]\nboom = strange_things:boom\ntext = strange_things:text\n"
        "[nbkit.gates]\nraising = strange_things:raising\nchatty = strange_things:chatty\n"
        "greedy = strange_things:greedy\nposing = strange_things:posing\nboom = strange_things:boom\n"
        "gone = strange_things:gone\nparity = strange_things:posing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("strange_things", None)


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("raising", "raising of strange 1.0 failed: RuntimeError: out of ideas"),
        ("boom", "boom of strange 1.0 failed: RuntimeError: out of ideas"),
        ("chatty", "chatty of strange 1.0 answered 'fine', not the result of this gate"),
        ("posing", "posing of strange 1.0 answered GateResult(gate='parity'"),
        ("gone", "nbkit.gates: 'gone' of strange 1.0 cannot be loaded"),
    ],
)
def test_a_gate_that_misbehaves_never_passes(strange: Path, gate: str, reason: str) -> None:
    (result,) = run_gates([GateSpec(gate=gate)], facts=FACTS)
    assert result.verdict is Verdict.CANNOT_TELL
    assert result.reason.startswith(reason)


def test_a_gate_cannot_change_the_facts_of_the_next_nor_take_the_name_of_nbkits_own(strange: Path) -> None:
    facts = {"case_set": {"positives": 1}}
    greedy, parity = run_gates([GateSpec(gate="greedy"), GateSpec(gate="parity")], facts=facts)
    assert greedy.verdict is Verdict.PASS
    assert facts == {"case_set": {"positives": 1}}
    assert (parity.verdict, parity.reason) == (Verdict.CANNOT_TELL, "parity.compiled is not among the facts")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["boom"], "'boom' of strange 1.0 failed: RuntimeError: out of ideas"),
        (["text"], "metric 'text' of strange 1.0: expected a number, got 'fine'"),
        (["nan"], "metric 'nan' of strange 1.0: these cases have no value"),
        (["auc"], "'auc' is a figure of nbkit itself"),
        (["none", "other"], "'none' is not installed; 'other' is not installed"),
    ],
)
def test_a_metric_that_misbehaves_is_named_with_its_package(
    strange: Path, rows: pd.DataFrame, tmp_path: Path, names: list[str], problem: str
) -> None:
    cases = freeze_cases(rows, contract=make_contract(), directory=tmp_path, share=0.5, seed=0)
    contract = make_contract(case_set=cases.reference, metrics=names)
    with pytest.raises(EvaluationError) as caught:
        evaluate_package(
            FormulaPackage(contract=contract), cases=cases, golden=(), champion=None, champion_version=None
        )
    assert problem in str(caught.value)


def test_a_check_that_misbehaves_is_named_with_its_package(strange: Path, rows: pd.DataFrame) -> None:
    for name, problem in (("boom", "'boom' of strange 1.0 failed"), ("text", "expected findings, got 'fine'")):
        with pytest.raises(EvaluationError, match=problem):
            refuse_leaks(rows, contract=make_contract(checks=[name]))


def test_two_packages_with_one_name_are_an_error(strange: Path, tmp_path: Path) -> None:
    info = tmp_path / "other-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[nbkit.metrics]\nboom = strange_things:nan\n")
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=r"'boom' is claimed by other 2\.0 and strange 1\.0"):
        load_plugin("nbkit.metrics", "boom")


def test_the_conformance_checks_say_everything_that_is_wrong(rows: pd.DataFrame) -> None:
    counter = iter(range(10_000))

    def restless(scores: object, labels: np.ndarray, decisions: np.ndarray, /) -> float:  # type: ignore[type-arg]
        decisions[:1] = 2
        if labels.all():
            raise ZeroDivisionError("no negatives")
        return float(next(counter))

    with pytest.raises(AssertionError) as caught:
        check_metric(restless)
    assert "two calls with the same cases differ" in str(caught.value)
    assert "changes its arguments" in str(caught.value)
    assert "no negative case: raises ZeroDivisionError: no negatives" in str(caught.value)
    with pytest.raises(AssertionError, match="depends on the order of the cases"):
        check_metric(lambda scores, labels, decisions, /: float(scores[0]))
    with pytest.raises(AssertionError, match="expected a finite number on ordinary cases, got 'x'"):
        check_metric(lambda scores, labels, decisions, /: "x")  # type: ignore[arg-type, return-value]
    with pytest.raises(AssertionError, match="finds nothing in bad rows"):
        check_data_check(lambda frame, *, contract: [], clean=rows, bad=rows, contract=make_contract())

    def lenient(**_: object) -> object:
        return lambda facts: GateResult(gate="x", verdict=Verdict.PASS, reason="")

    with pytest.raises(AssertionError) as caught:
        check_gate(lenient, name="lenient", passing=FACTS, failing={"case_set": {"positives": 1}})  # type: ignore[arg-type]
    for text in ("passes without any fact", "calls itself 'x', expected 'lenient'", "expected a reason", "said pass"):
        assert text in str(caught.value)


def test_a_case_set_is_checked_as_it_lies_in_the_folder(rows: pd.DataFrame, tmp_path: Path) -> None:
    import yaml

    from nbkit import lifecycle

    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(CONTRACT, sort_keys=False))
    lifecycle.freeze(lifecycle.open_use_case("", base=tmp_path), rows)
    check_case_set(tmp_path)
    golden = tmp_path / "cases/golden/late.yaml"
    golden.parent.mkdir(parents=True)
    golden.write_text(
        "format: 1\nid: late\nwhy: w\nexpect: {decision: refer}\n"
        "inputs: {risk: 0, income: null, kind: null, owner: true}\n"
    )
    with pytest.raises(AssertionError, match=r"not frozen: cases/golden/late\.yaml"):
        check_case_set(tmp_path)
    path = tmp_path / "cases/holdout.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(AssertionError, match=r"cases/holdout\.jsonl: edited after freezing"):
        check_case_set(tmp_path)
