"""The gate on the stability certificate passes only what is surely stable."""

import math

import pytest

from nbkit.contract import GateSpec
from nbkit.gates import gate_from_spec, require_stability
from nbkit.records import Verdict


def share(value, low, high):
    return {"value": value, "low": low, "high": high}


def facts(worst, rows=200):
    calm = share(0.01, 0.0, 0.03)
    return {
        "stability": {
            "rows": rows, "background_share": calm, "twin_share": worst, "noise_share": calm, "worst_share": worst,
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("worst", "verdict", "reason"),
    [
        (share(0.05, 0.03, 0.09), Verdict.PASS, "(3.0 % to 9.0 %) of 200 rows under a correlated twin, within the"),
        (share(0.2, 0.15, 0.26), Verdict.FAIL, "(15.0 % to 26.0 %) of 200 rows under a correlated twin, above the"),
        (share(0.08, 0.05, 0.12), Verdict.CANNOT_TELL, "under a correlated twin: too few rows to tell about the"),
        (share(0.12, 0.08, 0.17), Verdict.CANNOT_TELL, "too few rows to tell about the ceiling 10.0 %"),
    ],
)
def test_the_whole_interval_decides(worst, verdict, reason):
    result = gate_from_spec(GateSpec(gate="stability", value=0.1))(facts(worst))
    assert (result.gate, result.verdict) == ("stability", verdict)
    assert reason in result.reason


@pytest.mark.parametrize(
    ("worst", "rows"),
    [(share(0.05, 0.06, 0.09), 200), (share(0.05, 0.03, 1.2), 200), (share(0.0, 0.0, 0.0), 0)],
)
def test_what_is_no_share_with_an_interval_never_passes(worst, rows):
    result = require_stability(0.1)(facts(worst, rows=rows))
    assert (result.verdict, result.next_step) == (Verdict.CANNOT_TELL, "%nbkit explain NAME")
    assert "is not a share with its interval" in result.reason


@pytest.mark.parametrize("worst", [0.05, {"value": 0.05}, share(0.05, math.nan, 0.1)])
def test_a_share_without_an_interval_never_passes(worst):
    assert require_stability(0.1)(facts(worst)).verdict is Verdict.CANNOT_TELL


@pytest.mark.parametrize("ceiling", [True, 1.0, -0.1, math.nan])
def test_a_ceiling_that_is_no_share_never_passes(ceiling):
    result = require_stability(ceiling)(facts(share(0.0, 0.0, 0.01)))
    assert result.reason == f"the ceiling is {ceiling!r}, not a share from 0 to below 1"


@pytest.mark.parametrize("spec", [{}, {"value": 0.1, "metric": "auc"}, {"metric": "auc"}])
def test_the_gate_needs_its_value_and_nothing_else(spec):
    result = gate_from_spec(GateSpec(gate="stability", **spec))(facts(share(0.0, 0.0, 0.01)))
    assert (result.verdict, result.reason) == (Verdict.CANNOT_TELL, "stability needs a value and takes no metric")
