"""Everything that could decide instead of a version, made ready for one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.contract import Outcome, RowCheck
from nbkit.errors import UsageError
from nbkit.lifecycle._decisions import service_decisions
from nbkit.package import Package
from nbkit.serve import Rules

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from nbkit.evaluate import CaseSet, Contender


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A score that somebody sells, in a table beside the cases.

    Parameters
    ----------
    path : Path
        CSV or Parquet, with the contract's entity in a column of that name.
    column : str
        The score.
    falling : bool
        Whether a lower number is the higher risk.
    """

    path: Path
    column: str
    falling: bool = False


def without_the_model(package: Package, cases: CaseSet) -> tuple[Contender, ...]:
    """Return what answers without the model: rules alone, and the contract's fallback chain.

    Where the chain is the rules and then a referral, both are one line.
    """
    from nbkit.evaluate import by_answers

    contract, rules, check = package.contract, Rules.from_package(package), RowCheck(package.contract)

    def ruled(row: Mapping[str, float | str | None]) -> str | None:
        ruling = rules.judge(row, phase="before") or rules.judge(row, phase="fallback")
        return ruling.decision if ruling else None

    alone = by_answers("rules alone", ruled, cases=cases, check=check, kind="rules")
    chain = contract.serve.fallback
    asks_rules = "rules" in chain
    last = {"default": contract.serve.default.value, "retry": None}[chain[-1]]

    def fallen_back(row: Mapping[str, float | str | None]) -> str | None:
        # Rules that need no score answer before a model would be asked, so they answer when it is down too.
        ruling = rules.judge(row, phase="before") or (rules.judge(row, phase="fallback") if asks_rules else None)
        return ruling.decision if ruling else last

    note = f"what answers when the model cannot: {' then '.join(chain)}"
    if last is None:
        note += "; without an answer the caller must ask again"
    else:
        note += f" ({last})" if "default" in chain else ""
    back = by_answers("the fallback", fallen_back, cases=cases, check=check, kind="fallback", note=note)
    silent = int((alone.decisions < 0).sum())
    if asks_rules and last == Outcome.REFER:
        return (_named(back, "rules alone, the fallback", f"{note}; no rule answers {silent:,} cases"),)
    return (_named(alone, "rules alone", f"no rule answers {silent:,} cases; they count as referrals"), back)


def vendor_contender(name: str, vendor: Vendor, *, cases: CaseSet, entity: str, like: NDArray[np.int64]) -> Contender:
    """Return a vendor's score as a contender.

    Raises
    ------
    UsageError
        The table cannot be read, lacks a column, or lacks a score for a case.
    EvaluationError
        A score is no number.
    """
    from nbkit.evaluate import at_equal_rates

    table = _read(vendor.path)
    missing = [column for column in (entity, vendor.column) if column not in table.columns]
    if missing:
        raise UsageError(f"{vendor.path}", problems=[f"no column {column!r}" for column in missing])
    return at_equal_rates(
        name, scores_by_id(name, table.set_index(entity)[vendor.column], cases=cases), like=like, falling=vendor.falling
    )


def scores_by_id(name: str, scores: pd.Series, *, cases: CaseSet) -> NDArray[np.float64]:
    """Return a score for every case from a column that is indexed by the entity.

    Raises
    ------
    UsageError
        An id appears twice, or a case has no score.
    """
    import pandas as pd

    index = scores.index.astype(str)
    twice = sorted(set(index[index.duplicated()]))
    found = pd.Series(scores.to_numpy(), index=index)
    absent = [str(one) for one in cases.ids if str(one) not in found.index]
    problems = [f"id {one} appears twice" for one in twice[:3]]
    if absent:
        problems.append(f"{len(absent)} of {len(cases)} cases have no score (first ids: {', '.join(absent[:3])})")
    if problems:
        raise UsageError(f"{name}: not one score for every case", problems=problems)
    return pd.to_numeric(found[[str(one) for one in cases.ids]], errors="coerce").to_numpy(dtype="float64")


def object_contender(name: str, thing: object, *, cases: CaseSet, like: NDArray[np.int64]) -> Contender:
    """Return a live object as a contender: a Series by id, a fitted estimator, or a function of the inputs.

    Raises
    ------
    UsageError
        Something else, or it does not return one score a case.
    """
    import numpy as np
    import pandas as pd

    from nbkit.evaluate import at_equal_rates

    if isinstance(thing, pd.Series):
        return at_equal_rates(name, scores_by_id(name, thing, cases=cases), like=like, kind="column")
    if hasattr(thing, "predict_proba"):
        scores = np.asarray(thing.predict_proba(cases.rows))
        scores = scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores
    elif callable(thing):
        scores = np.asarray(thing(cases.rows))
    else:
        raise UsageError(
            f"{name}: expected a Series by id, a fitted estimator or a function, got {type(thing).__name__}"
        )
    if scores.shape != (len(cases),):
        raise UsageError(f"{name}: expected one score for each of {len(cases)} cases, got shape {scores.shape}")
    return at_equal_rates(name, scores, like=like, kind="callable")


def version_contender(version: int, package: Package, *, cases: CaseSet, name: str = "") -> Contender:
    """Return another version, decided as the service would: by its own thresholds and rules.

    Raises
    ------
    EvaluationError
        It cannot score these cases.
    """
    from nbkit.evaluate import by_scores, scores_of

    lacking = [column.name for column in package.contract.inputs if column.name not in cases.columns]
    if lacking:
        raise UsageError(f"version {version}: the cases lack its inputs {', '.join(lacking)}")
    scores = scores_of(package, cases)
    columns = {column.name: cases.frame[column.name].tolist() for column in package.contract.inputs}
    # As the version itself is judged: with its rules, and no decline without a reason.
    decided = service_decisions(package, rules=Rules.from_package(package))(columns, scores)
    plain = by_scores(
        name or f"version {version}", scores, kind="version", thresholds=package.thresholds, digest=package.digest
    )
    return replace(plain, decisions=decided)


def _named(contender: Contender, name: str, note: str) -> Contender:
    from nbkit.evaluate import Contender

    return Contender(
        name=name,
        kind=contender.kind,
        decisions=contender.decisions,
        scores=contender.scores,
        digest=contender.digest,
        note=note,
    )


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"{path}: cannot be read: {first}") from error


def names_are_plain(names: Sequence[str]) -> None:
    """Refuse two contenders of one name.

    Raises
    ------
    UsageError
        With every such name.
    """
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise UsageError("compare", problems=[f"{name!r} is given twice" for name in twice])


def vendors_of(words: Sequence[str], *, falling: bool) -> dict[str, Vendor]:
    """Return ``FILE:COLUMN`` options as vendors, named by their column.

    Raises
    ------
    UsageError
        Not of that form, or two columns of one name.
    """
    found: dict[str, Vendor] = {}
    for word in words:
        place, separator, column = word.rpartition(":")
        if not separator or not place or not column:
            raise UsageError(f"--vendor: expected FILE:COLUMN, got {word!r}")
        if column in found:
            raise UsageError(f"--vendor: two columns are called {column!r}")
        found[column] = Vendor(path=Path(place), column=column, falling=falling)
    return found
