"""``%nbkit cases``: the same actions as the command, on DataFrames of the notebook."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbkit import lifecycle
from nbkit.errors import UsageError
from nbkit.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from nbkit.lifecycle import Result, UseCase

# How many names follow each action.
_SUBJECTS = {"freeze": (0, 0), "add": (0, 0), "show": (0, 1), "diff": (1, 2), "incident": (1, 1)}


def run_cases(
    use_case: UseCase, given: argparse.Namespace, *, frame: Callable[[str], pd.DataFrame], settings: Settings
) -> Result:
    """Do what a parsed line says.

    Raises
    ------
    UsageError
        Too many or too few names, or an option that is needed.
    """
    action, subjects = str(given.action), list(given.subjects)
    fewest, most = _SUBJECTS[action]
    if not fewest <= len(subjects) <= most:
        wanted = str(most) if fewest == most else f"{fewest} or {most}"
        raise UsageError(
            f"%nbkit cases {action}: expected {wanted} names, got {len(subjects)}", next_step="%nbkit cases --help"
        )
    rows = frame(given.source) if given.source else None
    if action == "freeze":
        return lifecycle.freeze_case_set(
            use_case, rows, share=given.share, seed=given.seed, replace=given.replace, why=given.why
        )
    if action == "add":
        return lifecycle.add_cases(use_case, rows, why=given.why)
    if action == "show":
        return lifecycle.show_case_set(use_case, reference=subjects[0] if subjects else "")
    if action == "diff":
        return lifecycle.diff_case_sets(use_case, *subjects)
    if not given.expect or not given.why:
        raise UsageError("%nbkit cases incident: --expect and --why are needed", next_step="%nbkit cases --help")
    return lifecycle.make_incident(
        use_case,
        subjects[0],
        expect=lifecycle.expectation_of(tuple(given.expect)),
        why=given.why,
        settings=settings,
        case_id=given.id,
        replacements=lifecycle.replacements_of(tuple(given.set)),
    )
