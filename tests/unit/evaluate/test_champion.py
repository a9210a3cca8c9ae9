"""The verdict on two versions: a loss that would matter is never called no difference."""

import pytest

from nbkit.evaluate._champion import _verdict
from nbkit.evaluate._delong import Estimate


def about(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("area", "money", "verdict", "reason"),
    [
        (about(0.01, 0.03), about(-9, -1), "better", "ranks better and costs less"),
        (about(-0.05, 0.01), about(-9, -1), "better", "costs less"),
        (about(0.01, 0.03), about(-9, 4), "better", "ranks better"),
        (about(0.01, 0.03), about(-9, 6), "cannot tell", "ranks better, but may cost up to 6.00 more per case"),
        (about(-0.03, -0.01), about(1, 9), "worse", "ranks worse and costs more"),
        (about(-0.03, -0.01), about(-1, 1), "worse", "ranks worse"),
        (about(0.01, 0.03), about(1, 2), "cannot tell", "ranks better, but costs more"),
        (about(-0.03, -0.01), about(-9, -1), "cannot tell", "costs less, but ranks worse"),
        (about(-0.01, 0.01), about(-4, 4), "no difference", "surely within 0.02 of AUC and 5% of cost"),
        (
            about(-0.03, 0.01),
            about(-4, 4),
            "cannot tell",
            "the intervals hold both a gain and a loss that would matter",
        ),
        (
            about(-0.01, 0.01),
            about(-4, 6),
            "cannot tell",
            "the intervals hold both a gain and a loss that would matter",
        ),
        (Estimate(value=0.1), about(-4, 4), "cannot tell", "a label occurs too rarely for an interval"),
    ],
)
def test_the_verdict_follows_from_the_intervals(area, money, verdict, reason):
    assert _verdict(area, money, cost_margin=5.0) == (verdict, reason)
