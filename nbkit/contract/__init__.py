"""What goes into and comes out of a model, who owns it, and what it must reach."""

from __future__ import annotations

from nbkit.contract._columns import Input, Owner, Protected, Target, sentinel_key
from nbkit.contract._decision import Budget, CostRow, Costs, DecisionBlock, Serve, Thresholds
from nbkit.contract._duties import Duty, DutyProfile, duties_of, load_duties, unmet
from nbkit.contract._judging import Data, Evaluate, Explain, Fairness, GateSpec
from nbkit.contract._load import contract_schema, load_contract, parse_contract
from nbkit.contract._model import CONTRACT_FORMAT, Contract
from nbkit.contract._operation import Audit, Guardrails, Monitor, Retrain, Review, Rollout
from nbkit.contract._pin import pin_case_set
from nbkit.contract._rows import RowCheck
from nbkit.contract._telling import Bureau, Notice
from nbkit.contract._types import Outcome, Stage

__all__ = [
    "CONTRACT_FORMAT",
    "Audit",
    "Budget",
    "Bureau",
    "Contract",
    "CostRow",
    "Costs",
    "Data",
    "DecisionBlock",
    "Duty",
    "DutyProfile",
    "Evaluate",
    "Explain",
    "Fairness",
    "GateSpec",
    "Guardrails",
    "Input",
    "Monitor",
    "Notice",
    "Outcome",
    "Owner",
    "Protected",
    "Retrain",
    "Review",
    "Rollout",
    "RowCheck",
    "Serve",
    "Stage",
    "Target",
    "Thresholds",
    "contract_schema",
    "duties_of",
    "load_contract",
    "load_duties",
    "parse_contract",
    "pin_case_set",
    "sentinel_key",
    "unmet",
]
