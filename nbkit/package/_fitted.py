"""The fitted scikit-learn model itself: read with nbkit's own list of trusted types, and scored from contract rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from numpy.typing import NDArray

from nbkit.contract import Input
from nbkit.errors import ContractViolationError, PackageError
from nbkit.package._tables import Table, categories, numbers

# What a model file may hold beyond what skops trusts by itself. This list is nbkit's: what a file says about itself is
# never asked, because mlflow obeys such a list and loads os.getenv from it. `functools.partial` only wraps a function
# that must be on the list too.
TRUSTED_TYPES = (
    "collections.OrderedDict",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameShape:
    """What kind of DataFrame the fitted model expects.

    Parameters
    ----------
    none_is_missing : bool
        Whether a missing category is ``None`` (else NaN): scikit-learn tells the two apart.
    levels : mapping of str to tuple of str
        Columns of pandas' category type, and their levels in order.
    """

    none_is_missing: bool = False
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def dump_model(model: object) -> bytes:
    """Return the model as a skops file; two dumps of one model differ in their bytes.

    Parameters
    ----------
    model : object
        A fitted estimator.

    Returns
    -------
    bytes
        No pickle.

    Raises
    ------
    PackageError
        It holds types that nbkit does not trust, so that it could never be loaded.
    """
    content: bytes = skops.io.dumps(model)
    _refuse_untrusted(content)
    return content


def load_model(content: bytes) -> Any:
    """Read a skops file; only types of `TRUSTED_TYPES` are made.

    Parameters
    ----------
    content : bytes
        What `dump_model` returned.

    Returns
    -------
    object
        The fitted estimator.

    Raises
    ------
    PackageError
        It holds other types.
    """
    # Asked first, so that the refusal names every stranger.
    _refuse_untrusted(content)
    return skops.io.loads(content, trusted=list(TRUSTED_TYPES))


def _refuse_untrusted(content: bytes) -> None:
    strangers = [name for name in skops.io.get_untrusted_types(data=content) if name not in TRUSTED_TYPES]
    if strangers:
        raise PackageError(
            f"model.skops holds types that nbkit does not trust: {', '.join(strangers)}",
            next_step="build the model from scikit-learn, LightGBM or XGBoost classes only",
        )


def model_frame(columns: Table, *, inputs: Sequence[Input], shape: FrameShape) -> pd.DataFrame:
    """Return the DataFrame that the fitted model expects: float64 numbers and object categories.

    Parameters
    ----------
    columns : mapping
        Every input's values by name.
    inputs : sequence of Input
        The contract's inputs.
    shape : FrameShape
        How the model was fitted.

    Returns
    -------
    pandas.DataFrame
        The inputs, in the contract's order.

    Raises
    ------
    ContractViolationError
        A column holds something of another type, or is longer than another.
    """
    missing = None if shape.none_is_missing else np.nan
    made: dict[str, Any] = {}
    for item in inputs:
        if item.type != "category":
            made[item.name] = numbers(columns[item.name], name=item.name)
            continue
        texts = categories(columns[item.name], name=item.name)
        if item.name in shape.levels:
            levels = shape.levels[item.name]
            # pandas is about to refuse unknown levels; to the model they have always been missing.
            known = [text if text in levels else None for text in texts]
            made[item.name] = pd.Categorical(known, categories=list(levels))
        else:
            made[item.name] = np.array([missing if text is None else text for text in texts], dtype=object)
    lengths = {len(values) for values in made.values()}
    if len(lengths) > 1:
        raise ContractViolationError(f"$: expected columns of one length, got {sorted(lengths)}")
    # One index for all: pandas would make one for every column, and compare them.
    index = pd.RangeIndex(lengths.pop())
    return pd.DataFrame({name: _column(values, index=index) for name, values in made.items()}, index=index)


def _column(values: Any, *, index: pd.RangeIndex) -> Any:
    # pandas would make text of its own type from objects, in which None becomes NaN.
    return values if values.dtype == np.float64 else pd.Series(values, index=index, dtype=values.dtype)


def frame_shape(frame: pd.DataFrame, *, none_is_missing: bool, inputs: Sequence[Input]) -> FrameShape:
    """Return what kind of frame this is.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows that the model was fitted on.
    none_is_missing : bool
        As the fitted model says.
    inputs : sequence of Input
        The contract's inputs.

    Returns
    -------
    FrameShape
        To make such frames with `model_frame`.
    """
    kinds = {item.name: frame[item.name].dtype for item in inputs if item.type == "category"}
    levels = {
        name: tuple(map(str, kind.categories)) for name, kind in kinds.items() if isinstance(kind, pd.CategoricalDtype)
    }
    return FrameShape(none_is_missing=none_is_missing, levels=levels)


def score_model(model: Any, frame: pd.DataFrame, *, positive: int) -> NDArray[np.float64]:
    """Return the fitted model's probabilities of the positive class.

    Parameters
    ----------
    model : object
        The fitted classifier.
    frame : pandas.DataFrame
        The inputs, at least.
    positive : int
        Position of the positive class.

    Returns
    -------
    ndarray of float64
        Shape (rows,).
    """
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        given: object = frame.to_numpy()
    else:
        given = frame if list(frame.columns) == list(names) else frame[list(names)]
    return np.asarray(model.predict_proba(given)[:, positive], dtype=np.float64)
