"""Models that might discriminate less: the present one without an input, or with another parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

# Values that are tried for a parameter of this name, wherever in the model it is; others are left alone.
_GRID: Mapping[str, tuple[float, ...]] = {
    "C": (0.01, 0.1, 1.0, 10.0),
    "l2_regularization": (0.0, 1.0, 10.0),
    "learning_rate": (0.03, 0.1),
    "max_depth": (2, 3, 4, 6),
    "max_leaf_nodes": (3, 5, 15, 31),
    "min_child_samples": (10, 40, 80),
    "min_child_weight": (1, 5, 20),
    "min_samples_leaf": (10, 40, 80),
    "n_estimators": (50, 100, 200),
    "num_leaves": (3, 7, 15, 31),
    "reg_lambda": (0.0, 1.0, 10.0),
}
# How many of the strongest proxies are dropped together, beside each input alone.
_TOGETHER = (2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class LdaCandidate:
    """One model to try.

    Parameters
    ----------
    name : str
        What differs, in words; ``present`` for the model as it is.
    dropped : tuple of str
        Inputs that tell it nothing.
    parameters : mapping of str to float
        Parameters that differ, as ``set_params`` takes them.
    """

    name: str
    dropped: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)


def candidates_of(model: Any, *, inputs: Sequence[str], proxies: Sequence[str]) -> tuple[LdaCandidate, ...]:
    """List the present model, then everything that is tried, always in the same order."""
    found = [LdaCandidate(name="present")]
    if len(inputs) > 1:
        found += [LdaCandidate(name=f"without {name}", dropped=(name,)) for name in inputs]
    for count in _TOGETHER:
        if len(proxies) >= count and len(inputs) > count:
            names = tuple(proxies[:count])
            found.append(LdaCandidate(name=f"without {' and '.join(names)}", dropped=names))
    found += _parameters(model)
    return tuple(found)


def _parameters(model: Any) -> Iterator[LdaCandidate]:
    for key, present in sorted(model.get_params(deep=True).items()):
        name = key.rsplit("__", 1)[-1]
        for value in _GRID.get(name, ()):
            if isinstance(present, bool) or not isinstance(present, int | float | None) or value == present:
                continue
            kept: float = int(value) if isinstance(present, int) or (value == int(value) and name != "C") else value
            yield LdaCandidate(name=f"{name} {kept:g}", parameters={key: kept})


def prepared(model: Any, candidate: LdaCandidate, *, seed: int) -> Any:
    """Return an unfitted copy with the candidate's parameters; whatever draws, draws from the seed, in one thread."""
    from sklearn.base import clone

    made = clone(model)
    known = made.get_params(deep=True)
    fixed: dict[str, object] = {}
    for key, value in known.items():
        name = key.rsplit("__", 1)[-1]
        if name == "random_state" and value is None:
            fixed[key] = seed
        elif name == "n_jobs" and value not in (None, 1):
            fixed[key] = 1
    return made.set_params(**fixed, **candidate.parameters)


def silenced(frame: pd.DataFrame, *, dropped: Sequence[str]) -> pd.DataFrame:
    """Return the rows with one value in every dropped column, so that it tells a model nothing.

    A pipeline names its columns, so a column cannot simply be left out; one that never varies is the same.
    """
    constant = {}
    for name in dropped:
        known = frame[name].dropna()
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        constant[name] = (known.median() if numeric else known.mode().iloc[0]) if len(known) else frame[name].iloc[0]
    return frame.assign(**constant) if constant else frame
