"""One durable record per decision: written before the answer, never changed, provable.

A ledger is a file of SQLite or a PostgreSQL database.
Its records are the leaves of an RFC 9162 Merkle tree; every commit signs the tree's root.
"""

from __future__ import annotations

from nbkit.audit._book import Place, is_address, shown
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._committer import Committer
from nbkit.audit._costs import CostLine, CostReport, sum_costs, total_cost
from nbkit.audit._entry import Entry, entry_of
from nbkit.audit._ledger import Ledger
from nbkit.audit._read import read_record, read_records
from nbkit.audit._remote import AnyLedger, RemoteLedger
from nbkit.audit._tree import Frontier, leaf_hash, node_hash, tree_root
from nbkit.audit._trial import (
    CANARY_DECISION,
    CANARY_VERSION,
    CHAMPION_DECISION,
    SHADOW_END,
    SHADOW_ID,
    trial_summary,
)
from nbkit.audit._verify import LedgerReport, verify_ledger
from nbkit.audit._writer import write_for

__all__ = [
    "CANARY_DECISION",
    "CANARY_VERSION",
    "CHAMPION_DECISION",
    "SHADOW_END",
    "SHADOW_ID",
    "AnyLedger",
    "Checkpoint",
    "Committer",
    "CostLine",
    "CostReport",
    "Entry",
    "Frontier",
    "Ledger",
    "LedgerReport",
    "Place",
    "RemoteLedger",
    "entry_of",
    "is_address",
    "leaf_hash",
    "node_hash",
    "read_record",
    "read_records",
    "shown",
    "sum_costs",
    "total_cost",
    "tree_root",
    "trial_summary",
    "verify_ledger",
    "write_for",
]
