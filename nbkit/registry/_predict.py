"""Scores of any MLflow model, for a comparison that a data scientist asks for; never for a decision."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from nbkit.errors import RegistryError
from nbkit.registry._mlflow_errors import translated
from nbkit.registry._store import as_global_store, connect

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.pyfunc import PyFuncModel

    from nbkit.settings import Settings


def score_model_uri(uri: str, frame: pd.DataFrame, *, settings: Settings) -> NDArray[np.float64]:
    """Load an MLflow model and return its score of every row.

    Loading runs code out of the model's files, whatever flavour it is: ask for this only where you would run a notebook
    of the same origin. Nothing that serves or promotes calls it.

    Parameters
    ----------
    uri : str
        Such as ``models:/fraud/3``, ``runs:/<id>/model`` or a folder.
    frame : pandas.DataFrame
        The inputs.
    settings : Settings
        Which MLflow store the URI means.

    Returns
    -------
    numpy.ndarray
        Shape (rows,): the second column of ``predict_proba`` where the model has it, otherwise what ``predict`` gives.

    Raises
    ------
    RegistryError
        MLflow cannot load it, it fails on these rows, or it returns labels and no scores.
    """
    connect(settings.tracking_uri)
    with translated(f"model {uri}"), as_global_store(settings.tracking_uri):
        model = _load(uri)
    try:
        found = _predicted(model, frame)
    except (TypeError, ValueError, LookupError, AttributeError, MlflowException) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RegistryError(f"model {uri}: cannot score these cases: {first}") from error
    if found.ndim == 2 and found.shape[1] == 2:
        found = found[:, 1]
    if found.shape != (len(frame),):
        raise RegistryError(f"model {uri}: expected one score for each of {len(frame)} cases, got shape {found.shape}")
    if found.dtype.kind not in "fiu" or len(np.unique(found)) <= 2:
        raise RegistryError(
            f"model {uri}: returns labels and no scores",
            next_step="log it so that predict returns probabilities (pyfunc_predict_fn='predict_proba')",
        )
    return found.astype(np.float64)


def _load(uri: str) -> PyFuncModel:
    with warnings.catch_warnings():
        # MLflow's own modules warn about their own type hints when they are imported.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        from mlflow.pyfunc import load_model

        return load_model(uri)


def _predicted(model: PyFuncModel, frame: pd.DataFrame) -> NDArray[np.generic]:
    try:
        raw = model.get_raw_model()
    except NotImplementedError:
        raw = None
    if raw is not None and hasattr(raw, "predict_proba"):
        return np.asarray(raw.predict_proba(frame))
    return np.asarray(model.predict(frame))
