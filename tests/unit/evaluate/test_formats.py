"""Every format that was ever written must still load."""

from hashlib import sha256
from pathlib import Path

import pytest

from nbkit.evaluate import EvaluationResult, load_cases, load_golden

FORMATS = sorted(path.name for path in (Path(__file__).parent / "formats").iterdir())


@pytest.fixture(params=FORMATS)
def folder(request):
    return Path(__file__).parent / "formats" / request.param


def test_case_sets_still_load(folder, make_contract):
    digest = sha256((folder / "cases/holdout.jsonl").read_bytes()).hexdigest()
    contract = make_contract(evaluate={"case_set": f"cases/holdout.jsonl@sha256:{digest}"})
    cases = load_cases(folder, contract=contract)
    assert (len(cases), cases.ids[0], cases.frame.income.isna().sum()) == (8, 1000, 2)


def test_evaluations_still_load_and_render(folder):
    result = EvaluationResult.from_json((folder / "evaluation.json").read_bytes())
    assert (result.model, result.case_set.cases, result.champion.version) == ("loans", 8, 1)
    assert result.to_html().endswith("</html>")


def test_golden_cases_still_load(folder):
    (case,) = load_golden(folder / "golden")
    assert (case.id, case.decisions, case.score_range) == ("safe", ("approve", "refer"), (0.0, 0.4))
