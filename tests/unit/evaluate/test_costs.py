"""What a decision loses: the same for every row, following a column, or told by an installed function."""

from decimal import Decimal
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from nbkit.contract import CostRow, Costs
from nbkit.errors import ContractError, EvaluationError
from nbkit.evaluate import _costs, cost_functions, evaluate_package, freeze_cases, money_of

LABELS = np.array([True, False, True])


def row(positive=0, negative=0, **per):
    return CostRow(positive=Decimal(positive), negative=Decimal(negative), **per)


def costs(approve=None, function=None):
    return Costs(approve=approve or row(100), refer=row(5, 5), decline=row(0, 20), function=function)


@pytest.fixture
def install(monkeypatch):
    """Return a function that installs a cost function of this test under an entry point."""

    def put(function):
        class Told(EntryPoint):
            def load(self):
                return function

        entry = Told(name="ours", value="x:y", group="nbkit.costs")
        monkeypatch.setattr(_costs, "entry_points", lambda group: [entry] if group == "nbkit.costs" else [])

    return put


class TestConstant:
    def test_every_decision_has_a_column(self):
        assert money_of(costs(), labels=LABELS).tolist() == [[100, 5, 0], [0, 5, 20], [100, 5, 0]]
        assert costs().constant


class TestColumns:
    def test_money_for_each_unit_is_added(self):
        lose = row(15, 1, positive_per={"amount": Decimal("0.5"), "fees": Decimal(2)})
        matrix = costs(approve=lose)
        found = money_of(matrix, labels=LABELS, columns={"amount": [10.0, 10.0, 30.0], "fees": [1, 1, 0]})
        assert found[:, 0].tolist() == [22.0, 1.0, 30.0]
        assert (matrix.constant, matrix.followed) == (False, ("amount", "fees"))

    @pytest.mark.parametrize(("value", "told"), [(np.nan, "nan"), (np.inf, "inf"), (-1000.0, "-1000.0")])
    def test_an_amount_that_is_none_is_refused_with_its_row(self, value, told):
        matrix = costs(approve=row(negative_per={"amount": Decimal(1)}))
        with pytest.raises(EvaluationError, match=f"1 of 3 cases .* 1 problem: row 1, approve: {told}"):
            money_of(matrix, labels=LABELS, columns={"amount": [1.0, value, 1.0]})

    def test_a_column_that_is_absent_is_named(self):
        matrix = costs(approve=row(negative_per={"amount": Decimal(1)}))
        with pytest.raises(EvaluationError, match="costs: amount: no such column"):
            money_of(matrix, labels=LABELS)

    def test_an_evaluation_adds_up_the_amounts(self, rows, make_contract, package_class, tmp_path):
        decision = {
            "costs": {
                "approve": {"positive": "10", "negative": "0", "positive_per": {"loan": "0.25"}},
                "refer": {"positive": "5", "negative": "5"},
                "decline": {"positive": "0", "negative": "20"},
            },
        }
        inputs = [
            {"name": "risk", "type": "number"},
            {"name": "loan", "type": "number", "minimum": 0},
        ]
        frame = rows.assign(loan=np.arange(len(rows)) * 10.0)
        blocks = {"decision": decision, "inputs": inputs}
        contract = make_contract(**blocks, evaluate={"resamples": 100})
        cases = freeze_cases(frame, contract=contract, directory=tmp_path, share=1.0, seed=0)
        package = package_class(
            contract=make_contract(**blocks, evaluate={"case_set": cases.reference, "resamples": 100})
        )
        result = evaluate_package(package, cases=cases, golden=(), champion=None, champion_version=None)
        scores = package.score_frame(cases.frame)
        lost = np.select(
            [scores >= 0.7, scores >= 0.3],
            [np.where(cases.labels, 0, 20), 5],
            cases.labels * (10 + cases.frame.loan / 4),
        )
        assert result.metric("expected_cost").value == pytest.approx(lost.mean())
        assert dict(result.curves.decline_costs)[0.7] == pytest.approx(lost.mean())


class TestFunctions:
    def test_nbkit_brings_one(self):
        assert "mortgage-loss" in cost_functions()
        columns = {"loan_amount": [100.0] * 3, "loan_to_price": [0.5, 1.0, 1.0], "name": ["a", "b", "c"]}
        found = money_of(costs(function="mortgage-loss"), labels=LABELS, columns=columns)
        assert found[:, 0].tolist() == [100 + 10_000.0, 0.0, 100 + 35_000.0]

    def test_one_that_is_not_installed_is_named(self):
        with pytest.raises(EvaluationError, match=r"function 'other' is not installed; installed are: .*mortgage-loss"):
            money_of(costs(function="other"), labels=LABELS, columns={})

    def test_where_none_is_installed_that_is_said(self, monkeypatch):
        monkeypatch.setattr(_costs, "entry_points", lambda group: [])
        with pytest.raises(EvaluationError, match="installed are: none"):
            money_of(costs(function="other"), labels=LABELS, columns={})

    def test_one_of_another_shape_is_refused(self, install):
        install(lambda columns, labels: np.zeros(3))
        with pytest.raises(EvaluationError, match=r"expected shape \(3, 3\), got \(3,\)"):
            money_of(costs(function="ours"), labels=LABELS, columns={"amount": [1.0, 2.0, 3.0]})


class TestContract:
    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("loan", "decision.costs: 'loan' is not an input"),
            ("kind", "decision.costs: 'kind' must be a number that is never null"),
            ("income", "decision.costs: 'income' must be a number that is never null"),
            ("risk", "decision.costs: 'risk' needs a minimum of at least 0"),
        ],
    )
    def test_an_amount_follows_only_what_every_row_has(self, make_contract, name, problem):
        plain = {"positive": "5", "negative": "5"}
        decision = {"costs": {"approve": plain | {"positive_per": {name: "0.5"}}, "refer": plain, "decline": plain}}
        with pytest.raises((ContractError, ValueError), match=problem):
            make_contract(decision=decision)
