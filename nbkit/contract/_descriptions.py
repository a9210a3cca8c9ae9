"""What each key of ``contract.yaml`` means, for editors; ``docs/reference/contract.md`` says it at length."""

from __future__ import annotations

from collections.abc import Mapping

DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "Contract": {
        "format": "format number of this file",
        "name": "name of the model in the registry and of the use-case folder",
        "kind": "tabular, or llm",
        "title": "one line for people",
        "owner": "who answers for the model",
        "impact": "high impact needs two approvers for every move, otherwise one",
        "purpose": "what is decided about whom, and what the model is not for",
        "jurisdictions": "where decisions are made, as country codes",
        "target": "the column that is predicted",
        "data": "what nobody can read off the rows: source, window, exclusions, bias",
        "inputs": "the columns that the model is given, in order",
        "protected": "attributes that are never inputs and only measure fairness",
        "decision": "how a score becomes a decision",
        "serve": "how a decision is answered in time",
        "evaluate": "what every version is judged on",
        "gates": "checks before each stage of rollout.path",
        "required_reasons": "which kinds of reason people must have written",
        "explain": "how scores are explained to people",
        "fairness": "limits on how decisions may differ between groups",
        "monitor": "what is watched once the model decides",
        "rollout": "the stages that a version passes",
        "review": "what happens to a decision that waits for a person",
        "retrain": "how the model is made again",
        "audit": "what is recorded of every decision",
        "budget": "what decisions may cost",
        "notice": "what an adverse-action notice says besides the reasons",
    },
    "Owner": {
        "team": "the team that answers for the model",
        "primary": "the person who answers for it",
        "deputy": "another person, who answers when that one is gone",
    },
    "Target": {
        "column": "name of the column",
        "positive": "the value that the score is the probability of",
        "meaning": "what the positive class is, in words",
    },
    "Input": {
        "name": "name of the column",
        "type": "number, integer, boolean (true, false, 1, 0) or category (text)",
        "meaning": "what it is, in words",
        "unit": "unit of a number",
        "minimum": "lowest value that is accepted",
        "maximum": "highest value that is accepted",
        "categories": "every text that is accepted",
        "nullable": "whether the value may be missing",
        "pii": "personal data: values are never repeated in errors",
    },
    "Protected": {
        "name": "name of the column",
        "meaning": "what it is, in words",
    },
    "Thresholds": {
        "refer": "lowest score that a person looks at",
        "decline": "lowest score that is declined",
    },
    "Costs": {
        "currency": "ISO 4217 code",
        "approve": "what approving loses",
        "refer": "what asking a person loses",
        "decline": "what declining loses",
    },
    "DecisionBlock": {
        "thresholds": "optimize: chosen by lowest expected cost on validation rows; or fixed",
        "costs": "money lost per decision and label",
    },
    "Serve": {
        "deadline_ms": "milliseconds within which an answer is due",
        "fallback": "who answers instead of the model, in order",
        "default": "what the fallback 'default' answers",
        "rules": "decision table (GoRules JSON) in the use-case folder",
    },
    "Evaluate": {
        "golden": "folder of golden cases",
        "behaviours": "folder of behaviours: what must hold when a row is changed",
        "incidents": "folder of incidents: cases made from audit records of decisions that went wrong",
        "slices": "inputs or protected attributes by which results are broken down",
        "confidence": "level of every interval",
        "resamples": "bootstrap resamples",
    },
    "GateSpec": {
        "gate": "name of the gate",
        "metric": "which metric, for at_least and at_most",
        "value": "its floor or ceiling",
    },
    "Data": {
        "source": "where the rows come from",
        "window": "the period that they cover",
        "exclusions": "rows that were left out, and why, a sentence each",
        "known_bias": "how the rows differ from those that the model will meet, a sentence each",
        "selective_labels": "which rows have no label because of an earlier decision, and what was done about it",
    },
    "Explain": {
        "group_correlation": "inputs that correlate at least so much are reported as one group",
        "slices": "slices whose explanation is shown apart; by default all of evaluate.slices",
    },
    "Fairness": {
        "impact_ratio_floor": "lowest approval rate of a group over that of the reference group",
        "minimum_group": "smaller groups give no verdict",
    },
    "Monitor": {
        "psi_ceiling": "population stability index above which an input has drifted",
        "alert": "who is told",
    },
    "Rollout": {
        "path": "from staging to production, in order",
        "shadow_days": "days of scoring without answering",
        "canary_shares": "shares of traffic that a canary answers, one after another",
        "guardrails": "what a version must keep to in shadow and as a canary",
        "evidence_valid_days": "days after which a promotion must be renewed",
    },
    "Guardrails": {
        "minimum_decisions": "fewer decisions than this tell nothing",
        "error_share_ceiling": "highest share of decisions in which scoring failed",
        "fallback_share_ceiling": "highest share of decisions that a fallback answered",
        "disagreement_share_ceiling": "highest share of decisions that differ from the champion's",
        "p99_ms_ceiling": "highest 99th percentile of the answer's milliseconds; by default serve.deadline_ms",
    },
    "Review": {
        "sla_hours": "hours within which a person must have decided",
        "lease_minutes": "minutes that a ticket stays with whoever took it",
        "when_expired": "what a ticket becomes that nobody decided in time",
        "override_reasons": "codes that whoever decides a ticket chooses from",
    },
    "Retrain": {
        "notebook": "notebook that trains the model",
        "cadence": "how often, in words",
    },
    "Audit": {
        "retention_years": "years that records are kept",
        "payload": "full: inputs are recorded; none: they are not",
        "when_unavailable": "fail_closed: what cannot be recorded is not answered",
    },
    "Notice": {
        "creditor": "name of the creditor, as the notice gives it",
        "address": "the creditor's address",
        "phone": "where the person concerned may call",
        "languages": "languages that reasons are written in; the first is what the service answers",
        "bureau": "the consumer reporting agency whose report the decision rests on",
    },
    "Bureau": {
        "name": "its name",
        "address": "its address",
        "phone": "its telephone number, toll-free where it has one",
    },
    "Budget": {
        "per_decision_usd": "highest cost of one decision",
        "price_usd": "what asking the model once costs",
    },
}
