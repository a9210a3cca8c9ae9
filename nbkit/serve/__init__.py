"""Answer one request inside its deadline, from a verified package, and record the answer before it is given.

``python -m nbkit.serve`` runs a worker; it loads neither mlflow, pandas, shap nor scikit-learn.
"""

from __future__ import annotations

from nbkit.serve._access import SCOPES, AccessFile, ApiKey
from nbkit.serve._decide import REASONS_FOLLOW, Judge, Judgement, decide, fallback_decision
from nbkit.serve._explain import explanation_of
from nbkit.serve._replay import replay_decision
from nbkit.serve._rules import Rules, Ruling, check_rules
from nbkit.serve._shadow import shadow_decision
from nbkit.serve._store import Installed, PackageStore
from nbkit.serve._sync import CANARY_SHARE_TAG, PackageSource, SyncResult, VersionTags, sync_model
from nbkit.serve._worker import WorkerOptions, run_worker

__all__ = [
    "CANARY_SHARE_TAG",
    "REASONS_FOLLOW",
    "SCOPES",
    "AccessFile",
    "ApiKey",
    "Installed",
    "Judge",
    "Judgement",
    "PackageSource",
    "PackageStore",
    "Rules",
    "Ruling",
    "SyncResult",
    "VersionTags",
    "WorkerOptions",
    "check_rules",
    "decide",
    "explanation_of",
    "fallback_decision",
    "replay_decision",
    "run_worker",
    "shadow_decision",
    "sync_model",
]
