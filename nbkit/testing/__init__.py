"""Checks for users' own tests: does a plug-in keep to what nbkit expects, and is a case set what was frozen."""

from nbkit.testing._cases import check_case_set
from nbkit.testing._plugins import check_data_check, check_gate, check_metric

__all__ = ["check_case_set", "check_data_check", "check_gate", "check_metric"]
