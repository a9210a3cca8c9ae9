"""A cost function: what a mortgage that is not paid back loses, after the house is sold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# A house that is sold under pressure brings about three quarters of its price, and the sale costs a tenth of the loan.
_FORCED_SALE = 0.75
_SALE_COSTS = 0.10
# Inputs give the loan in thousands.
_THOUSAND = 1000.0


def mortgage_loss(columns: Mapping[str, NDArray[np.float64]], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return what approving each loan loses; registered as ``mortgage-loss`` under ``nbkit.costs``.

    Parameters
    ----------
    columns : mapping
        ``loan_amount`` in thousands and ``loan_to_price`` as a ratio.
    labels : numpy.ndarray
        Whether each loan turned out bad.

    Returns
    -------
    numpy.ndarray
        Shape (n, 3): approving a bad loan loses what the sale of the house leaves open; nothing else is added.

    Examples
    --------
    >>> columns = {"loan_amount": np.array([100.0, 100.0]), "loan_to_price": np.array([0.5, 1.0])}
    >>> mortgage_loss(columns, np.array([True, True]))[:, 0].tolist()
    [10000.0, 35000.0]
    """
    loan, ratio = columns["loan_amount"] * _THOUSAND, columns["loan_to_price"]
    brought = loan / np.maximum(ratio, np.finfo(np.float64).tiny) * _FORCED_SALE
    lost = np.maximum(0.0, loan - brought) + _SALE_COSTS * loan
    money = np.zeros((len(labels), 3))
    money[:, 0] = np.where(labels, lost, 0.0)
    return money
