"""Write a model package: everything that a decision, a review or a retraining will ask for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rfc8785
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from nbkit.contract import Contract, Thresholds
from nbkit.errors import NotCompilableError, PackageError
from nbkit.files import write_atomically
from nbkit.package._compile import compile_plan, none_is_missing, positive_place
from nbkit.package._environment import environment, requirements
from nbkit.package._files import canonical_json, sha256
from nbkit.package._fitted import FrameShape, dump_model, frame_shape, score_model
from nbkit.package._load import (
    BACKGROUND_FILE,
    CONTRACT_FILE,
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    MODEL_FILE,
    Package,
    is_inside,
    load_package,
)
from nbkit.package._parity import Parity, check_fitted, contract_rows, measure_parity
from nbkit.package._plan import PLAN_FILE, TREES_FILE, Plan
from nbkit.package._profile import build_profile, fingerprint

_BACKGROUND_ROWS = 100
# 20,000 rows take half a second to compare; more would prove the same.
_PARITY_ROWS = 20_000
_OWN_FILES = frozenset(
    {
        BACKGROUND_FILE,
        CONTRACT_FILE,
        MANIFEST_FILE,
        MODEL_FILE,
        PLAN_FILE,
        TREES_FILE,
        "environment.json",
        "fingerprint.json",
        "profile.json",
        "requirements.txt",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    plan: Plan | None
    parity: Parity | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """What is known of the model before anything is written."""

    model: Any
    contract: Contract
    training: pd.DataFrame
    compiled: _Compiled
    positive: int
    scores: NDArray[np.float64]
    data: Mapping[str, object]
    shape: FrameShape


def write_package(
    directory: Path,
    *,
    model: object,
    contract: Contract,
    training: pd.DataFrame,
    thresholds: Thresholds,
    threshold_facts: Mapping[str, object],
    sources: Mapping[str, Path],
    parameters: Mapping[str, object],
    seeds: Mapping[str, int],
    git_commit: str,
    created_at: datetime,
    parity_frame: pd.DataFrame | None = None,
    background_seed: int = 0,
    alternatives: Mapping[str, Mapping[str, float]] | None = None,
) -> Package:
    """Write a model package and load it back.

    The same inputs give the same manifest but for ``created_at`` and the digest of ``model.skops``, whose bytes differ
    at every dump; ``model_digest`` therefore certifies the plan and the scores of the training rows.

    Parameters
    ----------
    directory : Path
        Where to; must not exist or be empty. It appears whole or not at all.
    model : object
        A fitted binary classifier or Pipeline that takes the contract's inputs as a DataFrame.
    contract : Contract
        Names the inputs, the target and its positive class.
    training : pandas.DataFrame
        The rows that the model was fitted on; only counts and hashes of them, and a transformed sample, are kept.
    thresholds : Thresholds
        Scores at which a decision changes.
    threshold_facts : mapping
        How they were chosen.
    sources : mapping of str to Path
        Files to copy, by their path in the package.
    parameters : mapping
        The notebook's parameters.
    seeds : mapping of str to int
        Every seed that was used.
    git_commit : str
        The commit of the notebook.
    created_at : datetime
        With a time zone.
    parity_frame : pandas.DataFrame, optional
        Rows to compare plan and model on; the training rows when not given.
    background_seed : int
        Draws the background sample for explanations.
    alternatives : mapping of str to mapping, optional
        Metrics of the models that were tried and not chosen.

    Returns
    -------
    Package
        Loaded from the written files.

    Raises
    ------
    PackageError
        The model cannot score rows that the contract allows or holds types that nbkit does not trust; something given
        is no JSON or no file; or the directory is taken.
    """
    if created_at.tzinfo is None:
        raise PackageError("created_at: expected a time with a zone, got one without")
    if directory.exists() and any(directory.iterdir()):
        raise PackageError(f"{directory}: expected a new or empty directory")
    compared = training if parity_frame is None else parity_frame
    draft = _draft(model, contract=contract, training=training, compared=compared, thresholds=thresholds)
    files = _files(draft, background_seed=background_seed) | _sources(sources)
    given = {
        "created_at": created_at.astimezone(UTC).isoformat(),
        "thresholds": thresholds.model_dump(mode="json"),
        "threshold_facts": threshold_facts,
        "git_commit": git_commit,
        "parameters": parameters,
        "seeds": seeds,
        "alternatives": alternatives or {},
    }
    listed = {name: {"sha256": sha256(content), "bytes": len(content)} for name, content in files.items()}
    try:
        manifest = canonical_json(_plain({**_described(draft), **given, "files": listed}))
    except rfc8785.CanonicalizationError as error:
        raise PackageError(f"{MANIFEST_FILE}: something given is no JSON: {error}") from error
    _put(directory, files={**files, MANIFEST_FILE: manifest})
    return load_package(directory)


def _draft(
    model: Any, *, contract: Contract, training: pd.DataFrame, compared: pd.DataFrame, thresholds: Thresholds
) -> _Draft:
    for frame in (training, compared):
        contract_rows(frame.head(1), contract=contract)  # Names every absent input at once.
    try:
        positive = positive_place(model, positive=contract.target.positive)
        shape = frame_shape(training, none_is_missing=none_is_missing(model), inputs=contract.inputs)
    except NotCompilableError as error:
        # Not even the fitted model could be served.
        raise PackageError(error.message) from error
    compiled = _compile(model, contract=contract, frame=_spread(compared), thresholds=thresholds)
    inputs = [item.name for item in contract.inputs]
    return _Draft(
        model=model,
        contract=contract,
        training=training,
        compiled=compiled,
        positive=positive,
        scores=compiled.plan.score_columns(training)
        if compiled.plan
        else score_model(model, training[inputs], positive=positive),
        data=fingerprint(training),
        shape=shape,
    )


def _compile(model: Any, *, contract: Contract, frame: pd.DataFrame, thresholds: Thresholds) -> _Compiled:
    try:
        plan = compile_plan(model, inputs=contract.inputs, positive=contract.target.positive)
    except NotCompilableError as error:
        check_fitted(model, frame=frame, contract=contract)
        return _Compiled(plan=None, parity=None, because=str(error))
    parity = measure_parity(model, plan, frame=frame, contract=contract, thresholds=thresholds)
    if parity.passed:
        return _Compiled(plan=plan, parity=parity, because="")
    return _Compiled(plan=None, parity=parity, because=parity.reason)


def _spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most `_PARITY_ROWS` rows, evenly from the whole frame."""
    return frame.iloc[:: -(-len(frame) // _PARITY_ROWS) or 1]


def _files(draft: _Draft, *, background_seed: int) -> dict[str, bytes]:
    plan = draft.compiled.plan
    profile = build_profile(draft.training, contract=draft.contract, scores=draft.scores)
    files = {
        CONTRACT_FILE: draft.contract.canonical(),
        MODEL_FILE: dump_model(draft.model),
        "environment.json": canonical_json(environment()),
        "fingerprint.json": canonical_json(draft.data),
        "profile.json": canonical_json(profile),
        "requirements.txt": requirements(libraries=_libraries(draft.model)).encode(),
    }
    if plan is not None:
        files |= plan.to_files()
        files[BACKGROUND_FILE] = _background(plan, training=draft.training, seed=background_seed)
    return files


def _described(draft: _Draft) -> dict[str, object]:
    contract, compiled = draft.contract, draft.compiled
    inputs = [{"name": item.name, "type": item.type, "nullable": item.nullable} for item in contract.inputs]
    return {
        "format": MANIFEST_FORMAT,
        "name": contract.name,
        "family": type(_steps(draft.model)[-1]).__name__,
        "compiled": compiled.plan is not None,
        "not_compiled_because": compiled.because,
        "parity": compiled.parity.to_json() if compiled.parity else None,
        "contract_digest": contract.digest,
        "data": {"rows": draft.data["rows"], "digest": draft.data["digest"]},
        "model_digest": {
            "plan": compiled.plan.digest if compiled.plan else None,
            "scores": sha256(draft.scores.astype("<f8").tobytes()),
        },
        "signature": {
            "inputs": inputs,
            "output": {"name": "score", "type": "number"},
            "none_is_missing": draft.shape.none_is_missing,
            "levels": {name: list(levels) for name, levels in draft.shape.levels.items()},
            "positive_class": draft.positive,
        },
    }


def _steps(model: Any) -> list[Any]:
    return [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]


def _libraries(model: Any) -> set[str]:
    return {type(step).__module__.split(".")[0] for step in _steps(model)}


def _background(plan: Plan, *, training: pd.DataFrame, seed: int) -> bytes:
    count = min(_BACKGROUND_ROWS, len(training))
    chosen = np.sort(np.random.default_rng(seed).choice(len(training), size=count, replace=False))
    matrix = plan.transform_columns(training.iloc[chosen])
    rows = [[None if cell != cell else cell for cell in row] for row in matrix.tolist()]
    document = {
        "format": 1,
        "seed": seed,
        "columns": [{"source": column.source, "level": column.level} for column in plan.columns],
        "rows": rows,
        "digest": sha256(matrix.astype("<f8").tobytes()),
    }
    return canonical_json(document)


def _sources(sources: Mapping[str, Path]) -> dict[str, bytes]:
    problems = [f"{name}: leads out of the package" for name in sources if not is_inside(name)]
    problems += [f"{name}: nbkit writes this file itself" for name in sources if name in _OWN_FILES]
    problems += [f"{name}: no file {path}" for name, path in sources.items() if not path.is_file()]
    if problems:
        raise PackageError("sources", problems=problems)
    return {name: path.read_bytes() for name, path in sources.items()}


def _plain(value: object) -> object:
    """Return what JSON can hold; money keeps its digits as text."""
    match value:
        case np.generic():
            return value.item()
        case Decimal() | Path() | datetime():
            return str(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


def _put(directory: Path, *, files: Mapping[str, bytes]) -> None:
    """Write all files beside the directory, then move them there in one step."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(draft / name, content=content)
        draft.chmod(0o755)
        if directory.exists():
            directory.rmdir()
        draft.replace(directory)
    except BaseException:
        shutil.rmtree(draft)
        raise
