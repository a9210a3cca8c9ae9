"""The verbs: one function each, shared by the command line, the magics and Python.

Each returns a frozen result that shows itself (``str``, ``_repr_mimebundle_``) and reads as JSON (``as_json``).
Verbs that report never raise for a bad result; ``register``, ``approve``, ``promote`` and ``rollback`` always do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbkit.lifecycle._apikeys import api_keys, make_api_key, revoke_api_key
    from nbkit.lifecycle._begin import check_contract, check_leaks, new, templates
    from nbkit.lifecycle._canary import canary
    from nbkit.lifecycle._case_diff import diff_case_sets
    from nbkit.lifecycle._cases import add_cases, freeze, freeze_case_set, show_case_set
    from nbkit.lifecycle._clock import ClockMemory, ClockState, accept_clock, show_clock
    from nbkit.lifecycle._compare import compare
    from nbkit.lifecycle._contenders import Vendor, vendors_of
    from nbkit.lifecycle._costs import audit_costs, moment_of
    from nbkit.lifecycle._demo import demo
    from nbkit.lifecycle._diff import Change, FigureDiff, SliceDiff, VersionDiff, diff
    from nbkit.lifecycle._duties import contract_duties
    from nbkit.lifecycle._examine import examine
    from nbkit.lifecycle._explain import explain
    from nbkit.lifecycle._gate import known_targets
    from nbkit.lifecycle._incident import expectation_of, make_incident, replacements_of
    from nbkit.lifecycle._judge import evaluate, write_golden_case
    from nbkit.lifecycle._keys import list_keys, make_key, revoke_key, trust_key
    from nbkit.lifecycle._lda import seek_alternatives
    from nbkit.lifecycle._ledger_place import find_ledgers, ledger_path, ledger_place
    from nbkit.lifecycle._notice import notice
    from nbkit.lifecycle._package import close_run, open_run, package
    from nbkit.lifecycle._prove import audit_replay, audit_verify
    from nbkit.lifecycle._reasons import write_reason
    from nbkit.lifecycle._reasons_check import check_reasons
    from nbkit.lifecycle._register import register
    from nbkit.lifecycle._registry_audit import audit_registry
    from nbkit.lifecycle._rehearse import rehearse
    from nbkit.lifecycle._reproduce import reproduce
    from nbkit.lifecycle._review import answer_review, review, reviews
    from nbkit.lifecycle._rules import check_rules_of
    from nbkit.lifecycle._run import run
    from nbkit.lifecycle._serve import serve, sync, worker_command, worker_environment
    from nbkit.lifecycle._show_evidence import export_evidence, show_evidence
    from nbkit.lifecycle._tickets import decide_ticket, take_ticket, tickets
    from nbkit.lifecycle._ui import UI_ENVIRONMENT, open_ui, ui_command, waiting
    from nbkit.lifecycle._usecase import Build, UseCase, find_contract, open_use_case
    from nbkit.lifecycle._view import Result, Table, View, to_json
    from nbkit.lifecycle._waive import waive
    from nbkit.lifecycle._with_page import approve, gate, promote, rollback

__all__ = [
    "UI_ENVIRONMENT",
    "Build",
    "Change",
    "ClockMemory",
    "ClockState",
    "FigureDiff",
    "Result",
    "SliceDiff",
    "Table",
    "UseCase",
    "Vendor",
    "VersionDiff",
    "View",
    "accept_clock",
    "add_cases",
    "answer_review",
    "api_keys",
    "approve",
    "audit_costs",
    "audit_registry",
    "audit_replay",
    "audit_verify",
    "canary",
    "check_contract",
    "check_leaks",
    "check_reasons",
    "check_rules_of",
    "close_run",
    "compare",
    "contract_duties",
    "decide_ticket",
    "demo",
    "diff",
    "diff_case_sets",
    "evaluate",
    "examine",
    "expectation_of",
    "explain",
    "export_evidence",
    "find_contract",
    "find_ledgers",
    "freeze",
    "freeze_case_set",
    "gate",
    "known_targets",
    "ledger_path",
    "ledger_place",
    "list_keys",
    "make_api_key",
    "make_incident",
    "make_key",
    "moment_of",
    "new",
    "notice",
    "open_run",
    "open_ui",
    "open_use_case",
    "package",
    "promote",
    "register",
    "rehearse",
    "replacements_of",
    "reproduce",
    "review",
    "reviews",
    "revoke_api_key",
    "revoke_key",
    "rollback",
    "run",
    "seek_alternatives",
    "serve",
    "show_case_set",
    "show_clock",
    "show_evidence",
    "sync",
    "take_ticket",
    "templates",
    "tickets",
    "to_json",
    "trust_key",
    "ui_command",
    "vendors_of",
    "waiting",
    "waive",
    "worker_command",
    "worker_environment",
    "write_golden_case",
    "write_reason",
]

# A face shows help in a fraction of a second: what a verb needs is imported when it is called.
_HOMES = {
    "_apikeys": ("api_keys", "make_api_key", "revoke_api_key"),
    "_begin": ("check_contract", "check_leaks", "new", "templates"),
    "_canary": ("canary",),
    "_case_diff": ("diff_case_sets",),
    "_cases": ("add_cases", "freeze", "freeze_case_set", "show_case_set"),
    "_clock": ("ClockMemory", "ClockState", "accept_clock", "show_clock"),
    "_compare": ("compare",),
    "_contenders": ("Vendor", "vendors_of"),
    "_costs": ("audit_costs", "moment_of"),
    "_diff": ("Change", "FigureDiff", "SliceDiff", "VersionDiff", "diff"),
    "_demo": ("demo",),
    "_duties": ("contract_duties",),
    "_examine": ("examine",),
    "_gate": ("known_targets",),
    "_explain": ("explain",),
    "_incident": ("expectation_of", "make_incident", "replacements_of"),
    "_judge": ("evaluate", "write_golden_case"),
    "_keys": ("list_keys", "make_key", "revoke_key", "trust_key"),
    "_lda": ("seek_alternatives",),
    "_notice": ("notice",),
    "_package": ("close_run", "open_run", "package"),
    "_ledger_place": ("find_ledgers", "ledger_path", "ledger_place"),
    "_prove": ("audit_replay", "audit_verify"),
    "_reasons": ("write_reason",),
    "_reasons_check": ("check_reasons",),
    "_with_page": ("approve", "gate", "promote", "rollback"),
    "_register": ("register",),
    "_rehearse": ("rehearse",),
    "_reproduce": ("reproduce",),
    "_review": ("answer_review", "review", "reviews"),
    "_rules": ("check_rules_of",),
    "_run": ("run",),
    "_show_evidence": ("export_evidence", "show_evidence"),
    "_registry_audit": ("audit_registry",),
    "_serve": ("serve", "sync", "worker_command", "worker_environment"),
    "_tickets": ("decide_ticket", "take_ticket", "tickets"),
    "_ui": ("UI_ENVIRONMENT", "open_ui", "ui_command", "waiting"),
    "_usecase": ("Build", "UseCase", "find_contract", "open_use_case"),
    "_view": ("Result", "Table", "View", "to_json"),
    "_waive": ("waive",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nbkit.lifecycle.{_HOME_OF[name]}"), name)
