"""Which model and which version answers a request, and what asking it costs."""

from __future__ import annotations

from nbkit.route._share import Split, canary_point, split_key
from nbkit.route._table import Route, RouteTable

__all__ = ["Route", "RouteTable", "Split", "canary_point", "split_key"]
