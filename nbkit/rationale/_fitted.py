"""The fitted model's own answers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Input
from nbkit.package import Package
from nbkit.package._fitted import FrameShape, model_frame

Floats = NDArray[np.float64]
Scale = Literal["log-odds", "probability"]

_LIGHTGBM = "LGBMClassifier"
_XGBOOST = "XGBClassifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """The scikit-learn model of a package, asked for the numbers that explanations must add up to.

    Parameters
    ----------
    model : object
        The fitted estimator or Pipeline.
    inputs : tuple of Input
        The contract's inputs.
    shape : FrameShape
        What kind of DataFrame it expects.
    positive : int
        Position of the positive class.
    scale : {"log-odds", "probability"}
        What is explained.
    """

    model: Any
    inputs: tuple[Input, ...]
    shape: FrameShape
    positive: int
    scale: Scale

    @classmethod
    def of(cls, package: Package) -> Self:
        """Read the fitted model of a package."""
        signature: Any = package.manifest["signature"]
        return cls(
            model=package.fitted(),
            inputs=package.contract.inputs,
            shape=FrameShape(
                none_is_missing=signature["none_is_missing"],
                levels={name: tuple(levels) for name, levels in signature["levels"].items()},
            ),
            positive=int(signature["positive_class"]),
            # What is not compiled may answer 0 or 1, which have no log-odds.
            scale="log-odds" if package.plan and package.plan.link == "logit" else "probability",
        )

    @property
    def last(self) -> Any:
        """The predictor: the last step of a pipeline, else the model itself."""
        steps = getattr(self.model, "steps", None)
        return steps[-1][1] if steps else self.model

    @property
    def family(self) -> str:
        """Class name of the predictor."""
        return type(self.last).__name__

    @property
    def single_precision(self) -> bool:
        """Whether the model adds up float32 leaves in float32."""
        return self.family == _XGBOOST

    @property
    def parameters(self) -> dict[str, object]:
        """What the predictor was set to, where that is not its default."""
        settings: dict[str, object] = getattr(self.last, "get_params", dict)()
        defaults = {
            name: parameter.default for name, parameter in inspect.signature(type(self.last)).parameters.items()
        }
        return {
            name: value
            for name, value in sorted(settings.items())
            if isinstance(value, bool | int | float | str | list | tuple | None) and value != defaults.get(name)
        }

    def answers(self, frame: Mapping[str, Any]) -> Floats:
        """Return the model's log-odds of the positive class, or its probability where it has none, shape (rows,)."""
        made = model_frame(frame, inputs=self.inputs, shape=self.shape)
        names = getattr(self.model, "feature_names_in_", None)
        given = made.to_numpy() if names is None else made[list(names)]
        with warnings.catch_warnings():
            # LightGBM's wrapper names the columns of an array and then misses the names that it made up.
            warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
            if self.scale == "probability":
                return np.asarray(self.model.predict_proba(given)[:, self.positive], dtype=np.float64)
            margins = np.asarray(self._margins(given), dtype=np.float64)
        return margins if self.positive == 1 else -margins

    def _margins(self, given: Any) -> Any:
        if self.family == _LIGHTGBM:
            return self.model.predict(given, raw_score=True)
        if self.family == _XGBOOST:
            return self.model.predict(given, output_margin=True)
        return self.model.decision_function(given)
