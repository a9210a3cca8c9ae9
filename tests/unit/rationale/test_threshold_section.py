"""What the chapter on thresholds says about amounts that follow the row, wrong amounts, and the fairness floor."""

from decimal import Decimal
from types import SimpleNamespace

from nbkit.rationale._result_sections import _added, _amount, _firmness

SOURCE = SimpleNamespace(contract=SimpleNamespace(decision=SimpleNamespace(costs=SimpleNamespace(currency="USD"))))


def test_an_amount_that_follows_inputs_is_written_as_a_sum():
    assert (
        _amount(Decimal(15000), {"amount": Decimal("0.90"), "fees": Decimal(2)}) == "15,000 + 0.9 × amount + 2 × fees"
    )
    assert _amount(Decimal(12000), {}) == "12,000"


def test_a_function_is_named():
    assert _added(SimpleNamespace(function="mortgage-loss")) == ", and what the function mortgage-loss adds"
    assert _added(SimpleNamespace(function=None)) == ""


def test_the_largest_regret_and_the_price_of_the_floor_are_said():
    chosen = {
        "plus_minus_20": {
            "approve.positive -20%": {"refer": "0.1", "decline": "0.4", "regret": "3.5000"},
            "decline.negative +20%": {"refer": "0.1", "decline": "0.4", "regret": "1.0000"},
        },
        "limited_by": ["race black"],
        "cost_of_limits": 4.25,
    }
    (paragraph,) = _firmness(SOURCE, chosen)
    assert "at most 3.50 USD per case more than the best ones then (approve, if positive -20%)" in paragraph.text
    assert "The floor of the impact ratio of race black excludes a cheaper choice; it costs 4.25 USD" in paragraph.text


def test_thresholds_of_the_contract_have_nothing_to_say():
    assert _firmness(SOURCE, {"method": "fixed in the contract"}) == []
