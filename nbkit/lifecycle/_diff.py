"""What distinguishes two versions: figures, costs, slices, flips, data, parameters, inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from nbkit.contract import Contract
from nbkit.errors import EvidenceError, NotInRegistryError, UsageError
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._compare import shown
from nbkit.lifecycle._decisions import service_decisions
from nbkit.lifecycle._documents import digest_of, submitted_folder
from nbkit.lifecycle._evidence import submission_of
from nbkit.lifecycle._gate import resolve
from nbkit.lifecycle._outputs import RECORD_FOLDER, record_name
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, Table, View, plain
from nbkit.package import Package
from nbkit.registry import Registry
from nbkit.serve import Rules
from nbkit.settings import Settings

if TYPE_CHECKING:
    from nbkit.evaluate import CaseRecord, Estimate, EvaluationResult, RecordsCompared

_SHOWN_FLIPS = 10
# Compared under names of their own, or differing by construction.
_NOT_LISTED = ("inputs", "evaluate.case_set")


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureDiff:
    """One figure of two versions, with the intervals that were recorded."""

    name: str
    left: Estimate | None
    right: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDiff:
    """One slice of two versions."""

    column: str
    level: str
    cases: int
    left_auc: Estimate | None
    right_auc: Estimate | None
    left_cost: Estimate | None
    right_cost: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that is not the same in two versions; empty where it is absent."""

    kind: str
    name: str
    left: str
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff(Result):
    """What distinguishes two versions of a model."""

    name: str
    left: int
    right: int
    case_set: str
    re_evaluated: bool
    currency: str
    figures: tuple[FigureDiff, ...]
    slices: tuple[SliceDiff, ...]
    changes: tuple[Change, ...]
    unverified: tuple[str, ...]
    compared: RecordsCompared | None
    why_not_compared: str = ""
    evaluations: tuple[EvaluationResult, ...] = field(default=(), repr=False)

    def changes_of(self, kind: str) -> tuple[Change, ...]:
        """Return what changed of a kind: ``model``, ``threshold``, ``input``, ``data``, ``parameter``, ``contract``."""
        return tuple(change for change in self.changes if change.kind == kind)

    def view(self) -> View:
        """Return what a person is shown."""
        pair = f"{self.name}@{self.left} and @{self.right}"
        facts = [("unverified", problem) for problem in self.unverified]
        facts.append(("judged on", self.case_set + (" (scored again just now)" if self.re_evaluated else "")))
        headline = f"{pair}: {self.why_not_compared}"
        if self.compared is not None:
            money, test = self.compared.cost_difference, self.compared.mcnemar
            headline = f"{pair}: {_direction(money)}, {self.compared.flipped:,} cases decided differently"
            facts += [
                ("cost per case", f"{shown(money, digits=2, signed=True)} {self.currency}"),
                ("cost over all cases", f"{shown(self.compared.cost_total, digits=0, signed=True)} {self.currency}"),
                ("AUC", shown(self.compared.auc_difference, digits=4, signed=True)),
                ("newly wrong, newly right", f"{test.newly_wrong}, {test.newly_right} (McNemar p {test.p_value:.3f})"),
            ]
        columns = ("", f"version {self.left}", f"version {self.right}")
        rows = tuple((one.name, shown(one.left, digits=4), shown(one.right, digits=4)) for one in self.figures)
        tables = [Table(columns=columns, rows=rows, title="Figures")]
        if self.slices:
            tables.append(self._slice_table())
        if self.compared is not None and self.compared.flips:
            tables.append(self._flip_table(self.compared))
        if self.changes:
            changed = tuple((one.kind, one.name, one.left, one.right) for one in self.changes)
            tables.append(Table(columns=("changed", *columns), rows=changed, title="What was changed"))
        return View(headline=headline, facts=facts, tables=tables)

    def _slice_table(self) -> Table:
        rows = tuple(
            (
                f"{one.column} = {one.level}",
                f"{one.cases:,}",
                shown(one.left_auc, digits=3),
                shown(one.right_auc, digits=3),
                shown(one.left_cost, digits=2),
                shown(one.right_cost, digits=2),
            )
            for one in self.slices
        )
        left, right = f"@{self.left}", f"@{self.right}"
        columns = ("slice", "cases", f"AUC {left}", f"AUC {right}", f"cost {left}", f"cost {right}")
        return Table(columns=columns, rows=rows, title="Slices")

    def _flip_table(self, compared: RecordsCompared) -> Table:
        rows = tuple(
            (
                one.id,
                "positive" if one.positive else "negative",
                f"{one.champion} ({one.champion_score:.4f})",
                f"{one.challenger} ({one.challenger_score:.4f})",
                f"{one.cost_difference:+,.2f}",
                one.kind,
            )
            for one in compared.flips[:_SHOWN_FLIPS]
        )
        title = f"Cases decided differently: {len(rows)} of {compared.flipped:,}, the dearest first"
        columns = ("case", "turned out", f"@{self.left}", f"@{self.right}", "cost", "")
        return Table(columns=columns, rows=rows, title=title)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    version: int
    package: Package
    evaluation: EvaluationResult
    record: CaseRecord | None
    problems: tuple[str, ...]


def diff(
    left: str,
    right: str,
    *,
    settings: Settings,
    now: datetime,
    use_case: UseCase | None = None,
    re_evaluate: bool = False,
    fetched: Mapping[int, Package] | None = None,
) -> VersionDiff:
    """Say what distinguishes two versions, from what was recorded when each was judged.

    Parameters
    ----------
    left, right : str
        ``NAME@VERSION``; the earlier one first.
    settings : Settings
        Where MLflow and the trust file are.
    now : datetime
        Aware.
    use_case : UseCase, optional
        Whose frozen cases both are scored on again; needed for ``re_evaluate``.
    re_evaluate : bool
        Score both on the case set that the use case pins now, instead of comparing recorded results.
    fetched : mapping, optional
        Packages of the model that were fetched already, by version.

    Returns
    -------
    VersionDiff
        Differences are right less left.

    Raises
    ------
    UsageError
        They are versions of two models, or were judged on different case sets and ``re_evaluate`` is not asked for.
    NotInRegistryError
        There is no such version, or it was never judged.
    """
    name, other = (target.partition("@")[0] for target in (left, right))
    if name != other:
        raise UsageError(f"diff: expected two versions of one model, got {name} and {other}")
    (_, first), (_, second) = (resolve(target, settings=settings) for target in (left, right))
    known = fetched or {}
    sides = [
        _side(name, version, package=known.get(version), settings=settings, now=now) for version in (first, second)
    ]
    if re_evaluate:
        if use_case is None:
            raise UsageError("diff: --re-evaluate needs the use case's folder", next_step=f"cd to where {name}/ is")
        sides = [_again(side, use_case=use_case) for side in sides]
    one, two = sides
    if one.evaluation.case_set.digest != two.evaluation.case_set.digest:
        raise UsageError(
            f"{name}@{first} was judged on {_short(one)}, @{second} on {_short(two)}: their results are not comparable",
            next_step=f"score both on the present cases: nbkit diff {name}@{first} {name}@{second} --re-evaluate",
        )
    compared, why_not = _compared(one, two)
    return VersionDiff(
        name=name,
        left=first,
        right=second,
        case_set=two.evaluation.case_set.reference,
        re_evaluated=re_evaluate,
        currency=two.evaluation.currency,
        figures=_figures(one.evaluation, two.evaluation),
        slices=_slices(one.evaluation, two.evaluation),
        changes=_changes(one.package, two.package),
        unverified=tuple(problem for side in sides for problem in side.problems),
        compared=compared,
        why_not_compared=why_not,
        evaluations=(one.evaluation, two.evaluation),
    )


def _side(name: str, version: int, *, package: Package | None, settings: Settings, now: datetime) -> _Side:
    from nbkit.evaluate import CaseRecord, EvaluationResult

    registry = Registry(settings)
    package = package or fetch(name, version=version, settings=settings)
    run_id = registry.version(name, version=version).run_id
    raw = registry.read_artifact(run_id, f"{submitted_folder(version)}/evaluation.json")
    problems = []
    try:
        statement = submission_of(name, version=version, package=package, settings=settings, now=now)
        if statement.documents.get("evaluation.json") != digest_of(raw):
            problems.append(f"version {version}: its evaluation is not the one that was signed")
    except EvidenceError as error:
        problems.append(f"version {version}: {error}")
    evaluation = EvaluationResult.from_json(raw)
    record = None
    if evaluation.record:
        try:
            kept = registry.read_artifact(run_id, f"{RECORD_FOLDER}/{record_name(evaluation.record)}")
            if digest_of(kept) == evaluation.record:
                record = CaseRecord.from_bytes(kept)
            else:
                problems.append(f"version {version}: the record of its scores was changed")
        except NotInRegistryError:
            problems.append(f"version {version}: the record of its scores is missing")
    return _Side(version=version, package=package, evaluation=evaluation, record=record, problems=tuple(problems))


def _again(side: _Side, *, use_case: UseCase) -> _Side:
    """Judge a version on the cases that the use case pins now."""
    from nbkit.evaluate import evaluate_package, judge_cases, load_cases

    cases = load_cases(use_case.directory, contract=use_case.contract)
    package = _Rejudged(side.package, case_set=use_case.contract.evaluate.case_set)
    lacking = [column.name for column in package.contract.inputs if column.name not in cases.columns]
    if lacking:
        raise UsageError(f"version {side.version}: the cases lack its inputs {', '.join(lacking)}")
    decide_all = service_decisions(side.package, rules=Rules.from_package(side.package))
    result = evaluate_package(
        package, cases=cases, golden=(), champion=None, champion_version=None, decide_all=decide_all
    )
    record = judge_cases(package, cases=cases, decide_all=decide_all)
    return _Side(version=side.version, package=side.package, evaluation=result, record=record, problems=side.problems)


class _Rejudged:
    """A package under a contract that pins other cases: for a comparison only, never to be registered."""

    def __init__(self, package: Package, *, case_set: str | None) -> None:
        contract = package.contract
        evaluate = contract.evaluate.model_copy(update={"case_set": case_set})
        self.contract: Contract = contract.model_copy(update={"evaluate": evaluate})
        self.thresholds = package.thresholds
        self.digest = package.digest
        self.score_frame = package.score_frame


def _compared(one: _Side, two: _Side) -> tuple[RecordsCompared | None, str]:
    from nbkit.evaluate import compare_records

    missing = [str(side.version) for side in (one, two) if side.record is None]
    if missing or one.record is None or two.record is None:
        return None, f"no record of every case's score for version {' and '.join(missing)}: figures only"
    found = compare_records(one.record, two.record, confidence=two.package.contract.evaluate.confidence)
    return found, ""


def _figures(one: EvaluationResult, two: EvaluationResult) -> tuple[FigureDiff, ...]:
    from nbkit.evaluate import Estimate

    old, new = (
        {m.name: Estimate(value=m.value, low=m.low, high=m.high) for m in result.metrics} for result in (one, two)
    )
    return tuple(FigureDiff(name=name, left=old.get(name), right=new.get(name)) for name in dict.fromkeys([*new, *old]))


def _slices(one: EvaluationResult, two: EvaluationResult) -> tuple[SliceDiff, ...]:
    old, new = ({(part.column, part.level): part for part in result.slices} for result in (one, two))
    found = []
    for column, level in dict.fromkeys([*new, *old]):
        left, right = old.get((column, level)), new.get((column, level))
        found.append(
            SliceDiff(
                column=column,
                level=level,
                cases=right.n if right else left.n if left else 0,
                left_auc=left.auc if left else None,
                right_auc=right.auc if right else None,
                left_cost=left.cost if left else None,
                right_cost=right.cost if right else None,
            )
        )
    return tuple(found)


def _changes(one: Package, two: Package) -> tuple[Change, ...]:
    old, new = one.manifest, two.manifest
    sections: list[tuple[str, Mapping[str, object], Mapping[str, object]]] = [
        ("model", _model(one), _model(two)),
        ("threshold", one.thresholds.model_dump(), two.thresholds.model_dump()),
        ("input", _inputs(one), _inputs(two)),
        ("data", _mapping(old.get("data")), _mapping(new.get("data"))),
        ("parameter", _mapping(old.get("parameters")), _mapping(new.get("parameters"))),
        ("parameter", _mapping(old.get("seeds")), _mapping(new.get("seeds"))),
        ("contract", _flat(one.contract), _flat(two.contract)),
    ]
    return tuple(
        Change(kind=kind, name=name, left=_text(before.get(name)), right=_text(after.get(name)))
        for kind, before, after in sections
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    )


def _inputs(package: Package) -> Mapping[str, object]:
    return {column.name: _text(column.model_dump(exclude_defaults=True)) for column in package.contract.inputs}


def _model(package: Package) -> Mapping[str, object]:
    manifest = package.manifest
    return {key: manifest.get(key) for key in ("family", "compiled", "git_commit")}


def _flat(contract: Contract) -> Mapping[str, object]:
    """Return every value of a contract by its path, without what is compared elsewhere."""
    found: dict[str, object] = {}

    def walk(path: str, value: object) -> None:
        if path in _NOT_LISTED:
            return
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else str(key), inner)
        else:
            found[path] = value

    walk("", contract.model_dump(mode="json"))
    return found


def _mapping(value: object) -> Mapping[str, object]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if key != "name")
    return str(plain(value))


def _short(side: _Side) -> str:
    return side.evaluation.case_set.digest.removeprefix("sha256:")[:12]


def _direction(money: Estimate) -> str:
    if money.low is not None and money.high is not None:
        if money.high < 0:
            return "the later one surely costs less"
        if money.low > 0:
            return "the later one surely costs more"
    return "no sure difference in cost"
