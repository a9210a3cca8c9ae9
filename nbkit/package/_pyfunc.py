"""A package behind MLflow's interface: an object with ``predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbkit.package._tables import Table

if TYPE_CHECKING:
    from nbkit.package._load import Package


class ScoringModel:
    """A verified package behind MLflow's interface.

    Parameters
    ----------
    package : Package
        Verified.
    """

    def __init__(self, package: Package) -> None:
        self.package = package

    def predict(self, model_input: Table) -> NDArray[np.float64]:
        """Return the scores of a DataFrame's rows.

        Parameters
        ----------
        model_input : DataFrame
            The contract's inputs, by name.

        Returns
        -------
        ndarray of float64
            Probability of the positive class, shape (rows,).

        Raises
        ------
        ContractViolationError
            A column is absent, or holds something of another type.
        """
        return self.package.score_frame(model_input)
