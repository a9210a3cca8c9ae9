"""Run a notebook as a job: typed parameters, a kernel of its own, a result that tells the truth, a page to read.

The only importer of papermill and nbconvert; both are loaded when a notebook is run or rendered, not before.
"""

from __future__ import annotations

from nbkit.retrain._annotation import Allowed
from nbkit.retrain._check import check_parameters
from nbkit.retrain._page import notebook_html
from nbkit.retrain._parameters import Parameter, notebook_parameters
from nbkit.retrain._run import NotebookResult, run_notebook

__all__ = [
    "Allowed",
    "NotebookResult",
    "Parameter",
    "check_parameters",
    "notebook_html",
    "notebook_parameters",
    "run_notebook",
]
