"""Rows like those of the HELOC challenge: over 10,000 of them no reason contradicts its direction."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from nbkit.contract import parse_contract
from nbkit.package import Contributions, ReasonBook, compile_plan, principal_reasons
from nbkit.package._profile import build_profile
from nbkit.package._reason_book import _typical

# Name, direction of the risk, sentinel. As in the challenge -9 is no bureau record, -8 nothing that could be used.
COLUMNS = {
    "risk_estimate": "decreasing",
    "months_since_oldest": "decreasing",
    "trades_satisfactory": "decreasing",
    "trades_delinquent": "increasing",
    "months_since_delinquency": "decreasing",
    "inquiries": "increasing",
    "utilization": "increasing",
    "trades_with_balance": None,
}
TEXTS = {"increasing": ("high", "Too much"), "decreasing": ("low", "Too little"), None: ("any", "Matter of")}


def contract_text() -> str:
    inputs = "\n".join(
        f"  - {{name: {name}, type: number, nullable: true, sentinels: [-9, -8]"
        + (f", direction: {direction}" if direction else "")
        + "}"
        for name, direction in COLUMNS.items()
    )
    return f"""\
format: 1
name: heloc
kind: tabular
title: HELOC
owner: {{team: risk, primary: Ada, deputy: Bo}}
impact: high
purpose: Decide.
jurisdictions: [US]
entity: id
target: {{column: bad, positive: 1, meaning: bad, label_delay_days: 0}}
inputs:
{inputs}
decision:
  costs:
    approve: {{positive: 10, negative: 0}}
    refer: {{positive: 1, negative: 1}}
    decline: {{positive: 0, negative: 3}}
rollout: {{path: [staging, production]}}
gates: {{staging: [{{gate: parity}}], production: [{{gate: parity}}]}}
"""


def reasons_text() -> str:
    lines = ["format: 2", "codes:"]
    for number, (name, direction) in enumerate(COLUMNS.items(), start=1):
        side, words = TEXTS[direction]
        special = f"{{'-9': No bureau record, '-8': 'No usable {name}'}}"
        lines.append(
            f"  H{number:02d}: {{inputs: [{name}], direction: {side}, text: '{words} {name}',"
            f" missing_text: 'No {name}', special: {special}}}"
        )
    return "\n".join(lines) + "\n"


def rows(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Correlated inputs: the estimate sums up the others, as a bureau's score does."""
    common = rng.normal(size=count)
    frame = pd.DataFrame(
        {
            "risk_estimate": np.round(70 - 9 * common + rng.normal(scale=4, size=count)),
            "months_since_oldest": np.round(np.exp(5 - 0.3 * common + rng.normal(scale=0.4, size=count))),
            "trades_satisfactory": np.round(np.clip(20 - 5 * common + rng.normal(scale=6, size=count), 0, None)),
            "trades_delinquent": rng.poisson(np.exp(0.8 * common - 0.5)).astype(float),
            "months_since_delinquency": np.round(np.exp(3 - 0.5 * common + rng.normal(scale=0.6, size=count))),
            "inquiries": rng.poisson(np.exp(0.5 * common)).astype(float),
            "utilization": np.round(np.clip(35 + 20 * common + rng.normal(scale=18, size=count), 0, 200)),
            "trades_with_balance": rng.poisson(6, count).astype(float),
        }
    )
    nothing = rng.random(count) < 0.05
    for name in COLUMNS:
        frame.loc[rng.random(count) < 0.04, name] = -8.0
        frame.loc[nothing, name] = -9.0
    frame["bad"] = (rng.random(count) < 1 / (1 + np.exp(-1.6 * common - 0.2))).astype(int)
    return frame


@pytest.fixture(scope="module")
def told():
    contract = parse_contract(contract_text(), source="contract.yaml")
    rng = np.random.default_rng(11)
    raw = {"training": rows(4000, rng), "applicants": rows(10_000, rng)}
    clean = {name: frame.mask(frame.isin([-9, -8])) for name, frame in raw.items()}
    names = list(COLUMNS)
    sign = {"increasing": 1, "decreasing": -1, None: 0}
    model = HistGradientBoostingClassifier(
        max_iter=40,
        max_leaf_nodes=12,
        learning_rate=0.15,
        early_stopping=False,
        random_state=0,
        monotonic_cst=[sign[direction] for direction in COLUMNS.values()],
    ).fit(clean["training"][names], raw["training"]["bad"])
    plan = compile_plan(model, inputs=contract.inputs)
    profile = build_profile(clean["training"], contract=contract, scores=np.zeros(4000))
    book = ReasonBook.parse(reasons_text(), contract=contract, typical=_typical(profile))
    found = Contributions.from_plan(plan, background=None).explain_columns(clean["applicants"][names])
    values = clean["applicants"][names].astype(object).where(clean["applicants"][names].notna(), None)
    records = values.to_dict("records")
    sentinels = [
        {name: f"{value:g}" for name, value in row.items() if value in (-9, -8)}
        for row in raw["applicants"][names].to_dict("records")
    ]
    return book, [
        (row, special, one, principal_reasons(one, row, book, special=special))
        for row, special, one in zip(records, sentinels, found, strict=True)
    ]


def test_no_reason_contradicts_the_direction_of_its_input(told):
    book, rows = told
    checked = 0
    for row, _, one, reasons in rows:
        for reason in reasons:
            for name in reason.inputs:
                assert one.by_input[name] > 0
                value, direction = row[name], COLUMNS[name]
                if value is not None and direction is not None:
                    assert (value > book.typical[name]) == (direction == "increasing"), (row, reason)
                    checked += 1
    assert len(rows) == 10_000
    assert checked > 5_000


def test_without_that_rule_some_reasons_would_contradict(told):
    """The test above would mean little if path-dependent contributions never spoke against a monotone direction."""
    book, rows = told
    against = sum(
        one.by_input[name] > 1e-9
        and row[name] is not None
        and (row[name] > book.typical[name]) != (way == "increasing")
        for row, _, one, _ in rows
        for name, way in COLUMNS.items()
        if way is not None
    )
    assert against > 0


def test_special_values_are_told_in_their_own_words(told):
    _, rows = told
    texts = {
        (special.get(reason.inputs[0]), reason.text.split(" ")[0:2] == ["No", "bureau"], "usable" in reason.text)
        for row, special, _, reasons in rows
        for reason in reasons
        if row[reason.inputs[0]] is None
    }
    assert texts == {("-9", True, False), ("-8", False, True)}


def test_nothing_is_padded(told):
    _, rows = told
    lengths = np.array([len(reasons) for *_, reasons in rows])
    assert lengths.max() == 4
    assert {0, 1, 2, 3} <= set(lengths.tolist())
