import pytest

from nbkit.contract import Contract, parse_contract

CONTRACT = """\
format: 1
name: credit
kind: tabular
title: Credit
owner: {team: risk, primary: Ada, deputy: Bo}   # who is called at night
impact: high
purpose: Decide on applications.
jurisdictions: [NO]
entity: application_id
target: {column: denied, positive: 1, meaning: denied, label_delay_days: 0}
inputs:
  - {name: amount, type: number, minimum: 0, maximum: 1e6}
  - {name: age_days, type: integer, nullable: true, sentinels: [666], minimum: 0}
  - {name: bankrupt, type: boolean, nullable: true}
  - {name: income, type: number, pii: true, maximum: 9.5}
  - {name: purpose, type: category, categories: [car, home], nullable: true, sentinels: [NA]}
protected:
  - {name: sex, reference: male}
decision:
  costs:
    approve: {positive: 12000, negative: 0}
    refer: {positive: 150, negative: 150}
    decline: {positive: 0, negative: 3000}
rollout: {path: [staging, production]}
gates:
  staging: [{gate: at_least, metric: auc, value: 0.7}]
  production: [{gate: parity}]
"""


@pytest.fixture
def contract_text() -> str:
    return CONTRACT


@pytest.fixture
def contract() -> Contract:
    return parse_contract(CONTRACT, source="contract.yaml")
