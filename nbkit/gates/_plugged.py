"""Gates of other packages: looked up when a contract names one, and held to the rule that only a sure pass passes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import cast

from nbkit.contract import GateSpec
from nbkit.errors import UsageError
from nbkit.gates._verdict import Gate, cannot_tell
from nbkit.plugins import Plugin, load_plugin
from nbkit.records import GateResult

_CORRECT = "correct the plug-in, or gates in contract.yaml"


def plugged_gate(spec: GateSpec) -> Gate | None:
    """Return the gate that an installed package brings under this name; None when none does."""
    try:
        plugin = load_plugin("nbkit.gates", spec.gate)
    except UsageError as error:
        # An `except` clause forgets its name when it ends.
        reason = error.message

        def refuse(_: Mapping[str, object], /) -> GateResult:
            return cannot_tell(spec.gate, reason, next_step=_CORRECT)

        return refuse
    return None if plugin is None else _held(plugin, spec)


def _held(plugin: Plugin, spec: GateSpec) -> Gate:
    factory = cast("Callable[..., Gate]", plugin.thing)

    def judge(facts: Mapping[str, object], /) -> GateResult:
        whose = f"{spec.gate} of {plugin.source}"
        try:
            # A copy: what one gate does to the facts must not reach the next.
            result = factory(metric=spec.metric, value=spec.value)(copy.deepcopy(dict(facts)))
        except Exception as error:  # noqa: BLE001  a stranger's code may raise anything; none of it is a pass
            return cannot_tell(spec.gate, f"{whose} failed: {type(error).__name__}: {error}", next_step=_CORRECT)
        if not isinstance(result, GateResult) or result.gate != spec.gate:
            return cannot_tell(
                spec.gate, f"{whose} answered {result!r}, not the result of this gate", next_step=_CORRECT
            )
        return result

    return judge
