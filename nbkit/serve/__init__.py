"""Answer one request inside its deadline, from a verified package, and record the answer before it is given.

``python -m nbkit.serve`` runs a worker; it loads neither mlflow, pandas, shap nor scikit-learn. Names are resolved when
they are first used, so that a worker loads what it serves with and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbkit.serve._access import SCOPES, AccessFile, ApiKey
    from nbkit.serve._decide import REASONS_FOLLOW, Judge, Judgement
    from nbkit.serve._explain import explanation_of
    from nbkit.serve._replay import decide, fallback_decision, replay_decision
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

_HOMES = {
    "_access": ("SCOPES", "AccessFile", "ApiKey"),
    "_decide": ("REASONS_FOLLOW", "Judge", "Judgement"),
    "_explain": ("explanation_of",),
    "_replay": ("decide", "fallback_decision", "replay_decision"),
    "_rules": ("Rules", "Ruling", "check_rules"),
    "_shadow": ("shadow_decision",),
    "_store": ("Installed", "PackageStore"),
    "_sync": ("CANARY_SHARE_TAG", "PackageSource", "SyncResult", "VersionTags", "sync_model"),
    "_worker": ("WorkerOptions", "run_worker"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found
