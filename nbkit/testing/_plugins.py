"""Whether a metric, a check or a gate of another package keeps to what nbkit expects of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from nbkit.contract import Contract
from nbkit.evaluate import CaseMetric, DataCheck, Leak
from nbkit.gates import Gate
from nbkit.records import GateResult, Verdict

_CASES = 400


def check_metric(metric: CaseMetric) -> None:
    """Fail unless a metric can be computed, resampled and trusted.

    It must return a finite number on ordinary cases, the same one twice and in whatever order the cases come, leave its
    arguments alone, and return NaN or a number (never raise) where one label or one decision is absent.

    Parameters
    ----------
    metric : callable
        As an entry point of ``nbkit.metrics``.

    Raises
    ------
    AssertionError
        Everything that is wrong.
    """
    rng = np.random.default_rng(7)
    scores = rng.random(_CASES)
    labels = rng.random(_CASES) < scores
    decisions = (scores >= 0.3).astype(np.int64) + (scores >= 0.7)
    problems = []
    kept = (scores.copy(), labels.copy(), decisions.copy())
    value = metric(scores, labels, decisions)
    if not _is_number(value) or not math.isfinite(value):
        problems.append(f"expected a finite number on ordinary cases, got {value!r}")
    elif metric(scores, labels, decisions) != value:
        problems.append("two calls with the same cases differ")
    else:
        order = rng.permutation(_CASES)
        other = metric(scores[order], labels[order], decisions[order])
        if not math.isclose(other, value, rel_tol=1e-9, abs_tol=1e-12):
            problems.append(f"depends on the order of the cases: {value!r} and {other!r}")
    if not all(np.array_equal(a, b) for a, b in zip((scores, labels, decisions), kept, strict=True)):
        problems.append("changes its arguments")
    for name, rows in (
        ("no positive case", ~labels),
        ("no negative case", labels),
        *((f"only decision {number}", decisions == number) for number in range(3)),
    ):
        try:
            told = metric(scores[rows], labels[rows], decisions[rows])
        except Exception as error:  # noqa: BLE001  whatever it raises is what this check is about
            problems.append(f"{name}: raises {type(error).__name__}: {error}")
            continue
        if not _is_number(told):
            problems.append(f"{name}: expected a number or NaN, got {told!r}")
    _report("metric", problems)


def check_data_check(check: DataCheck, *, clean: pd.DataFrame, bad: pd.DataFrame, contract: Contract) -> None:
    """Fail unless a check finds nothing in clean rows, something in bad ones, and says it as a finding.

    Parameters
    ----------
    check : callable
        As an entry point of ``nbkit.checks``.
    clean, bad : pandas.DataFrame
        Rows of the contract without and with what it looks for.
    contract : Contract
        What the rows answer to.

    Raises
    ------
    AssertionError
        Everything that is wrong.
    """
    problems = []
    before = bad.copy()
    if found := list(check(clean, contract=contract)):
        problems.append(f"finds {len(found)} things in clean rows: {found[0]!r}")
    told = list(check(bad, contract=contract))
    if not told:
        problems.append("finds nothing in bad rows")
    problems += [f"expected a Leak, got {leak!r}" for leak in told if not isinstance(leak, Leak)]
    problems += ["a finding without a sentence" for leak in told if isinstance(leak, Leak) and not leak.text.strip()]
    if not bad.equals(before):
        problems.append("changes its rows")
    _report("check", problems)


def check_gate(
    factory: Callable[..., Gate],
    *,
    name: str,
    passing: Mapping[str, object],
    failing: Mapping[str, object],
    metric: str | None = None,
    value: float | None = None,
) -> None:
    """Fail unless a gate passes, fails, and never passes where a fact is missing.

    Parameters
    ----------
    factory : callable
        As an entry point of ``nbkit.gates``: called with ``metric`` and ``value``, returns the gate.
    name : str
        As the contract names it.
    passing, failing : mapping
        Facts on which it must pass, and on which it must fail.
    metric, value : str, float, optional
        What a contract gives it.

    Raises
    ------
    AssertionError
        Everything that is wrong.
    """
    gate = factory(metric=metric, value=value)
    problems = []
    for wanted, facts in ((Verdict.PASS, passing), (Verdict.FAIL, failing), (None, {})):
        kept = copy.deepcopy(dict(facts))
        label = "no fact at all" if wanted is None else f"the facts that should {wanted}"
        try:
            result, again = _answer(gate, facts), _answer(gate, facts)
        except Exception as error:  # noqa: BLE001  whatever it raises is what this check is about
            problems.append(f"{label}: raises {type(error).__name__}: {error}")
            continue
        if not isinstance(result, GateResult):
            problems.append(f"{label}: expected a GateResult, got {result!r}")
            continue
        if wanted is None and result.verdict is Verdict.PASS:
            problems.append("passes without any fact")
        elif wanted is not None and result.verdict is not wanted:
            problems.append(f"{label}: said {result.verdict}: {result.reason}")
        if result.gate != name:
            problems.append(f"{label}: calls itself {result.gate!r}, expected {name!r}")
        if not result.reason.strip() or (not result.passed and not result.next_step.strip()):
            problems.append(f"{label}: expected a reason, and a next step where it does not pass")
        if result != again:
            problems.append(f"{label}: two calls differ")
        if dict(facts) != kept:
            problems.append(f"{label}: changes the facts")
    _report(f"gate {name}", problems)


def _answer(gate: Gate, facts: Mapping[str, object]) -> object:
    """Ask a gate as if its type were not known: it is what is being checked."""
    return gate(facts)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)


def _report(what: str, problems: list[str]) -> None:
    if problems:
        raise AssertionError(f"{what}: {len(problems)} problem{'s' * (len(problems) > 1)}: {'; '.join(problems)}")
