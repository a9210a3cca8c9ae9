"""Versions on trial beside the champion: a canary answers its share, a shadow only says what it would have decided.

About a canary's rows the champion is asked afterwards, as a shadow is, so that the two can be compared. Both are asked
in a process of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from nbkit.records import AuditRecord
from nbkit.route import Split, split_key
from nbkit.serve._active import Active
from nbkit.serve._metrics import Metrics
from nbkit.serve._request import DecisionRequest
from nbkit.serve._shadows import Shadows
from nbkit.serve._turn import Caller, Choice, Turn

__all__ = ["OVERRIDE_SCOPE", "ROUTED_BY", "TRACE", "Trials"]

# Scope of a caller who may name the stage that answers.
OVERRIDE_SCOPE = "override"

# Tags of an audit record.
ROUTED_BY = "routed_by"
TRACE = "trace"

# Of a deadline: when answering took longer, nobody has time for shadows.
_LATE_SHARE = 0.25


@dataclass(slots=True)
class _Trial:
    active: Active
    split: Split


class Trials:
    """Routes requests between champion and canary, and lets a shadow follow; used from the event loop.

    Parameters
    ----------
    name : str
        The registered model.
    shadows : Shadows
        Asks those who answer nobody.
    secret : bytes
        Shared by all workers of the model; draws the canary's subjects.
    metrics : Metrics
        Counts shadows.
    busy : callable
        Whether requests wait: then shadows are shed first.
    """

    def __init__(
        self,
        name: str,
        *,
        shadows: Shadows,
        secret: bytes,
        metrics: Metrics,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._name = name
        self._shadows = shadows
        self._secret = secret
        self._metrics = metrics
        self._busy = busy
        self._canary: _Trial | None = None
        self._shadow: Active | None = None
        # Who would have answered instead of the canary.
        self._champion: Active | None = None

    @property
    def canary(self) -> Active | None:
        """The version that answers a share."""
        return self._canary.active if self._canary else None

    @property
    def shadow(self) -> Active | None:
        """The version that answers nobody."""
        return self._shadow

    def serve_canary(self, active: Active | None) -> None:
        """Let a version answer its share from now on.

        Parameters
        ----------
        active : Active or None
            Verified for the stage ``canary``; None ends the trial.
        """
        if active is None:
            self._canary = self._champion = None
            self._note()
            return
        key = split_key(self._secret, model=self._name, version=active.version)
        self._canary = _Trial(active, Split(share=active.share, key=key))
        self._note()

    def serve_shadow(self, active: Active | None) -> None:
        """Let a version follow what is answered from now on.

        Parameters
        ----------
        active : Active or None
            Verified for the stage ``shadow``; None ends the trial.
        """
        self._shadow = active
        self._note()

    def _note(self) -> None:
        self._shadows.want(any_trial=self._canary is not None or self._shadow is not None)

    def route(self, request: DecisionRequest, /, *, champion: Active, caller: Caller) -> Choice:
        """Choose the version that answers (a `Router`).

        Parameters
        ----------
        request : DecisionRequest
            The subject decides; a request without one, and without an id, is the champion's.
        champion : Active
            In production.
        caller : Caller
            One with the scope ``override`` may name the stage.

        Returns
        -------
        Choice
            The same for the same subject, however the share grows.
        """
        tags = {TRACE: caller.trace} if caller.trace else {}
        trial = self._canary
        self._champion = champion if trial else None
        if trial is None:
            return Choice(active=champion, tags=tags)
        overrides = bool(caller.wants) and OVERRIDE_SCOPE in caller.scopes
        entity = request.subject or request.request_id
        takes = caller.wants == trial.active.stage if overrides else bool(entity) and trial.split.takes(entity)
        if takes and trial.active.package.contract.inputs != champion.package.contract.inputs:
            # The row is one of the champion's inputs: a version that takes others cannot be tried this way.
            self._metrics.count("canary_skipped", label="cause", value="inputs")
            takes = False
        if overrides or takes:
            tags[ROUTED_BY] = f"override:{caller.name}" if overrides else f"share:{trial.split.share!r}"
        return Choice(active=trial.active if takes else champion, tags=tags)

    def follow(self, turn: Turn, record: AuditRecord) -> None:
        """Hand a decision to the shadow, a canary's to the champion (a `Follower`); never waits.

        Parameters
        ----------
        turn : Turn
            That was answered.
        record : AuditRecord
            Durable.
        """
        shadow = self._champion if record.stage == "canary" else self._shadow
        if shadow is None or record.stage not in ("production", "canary"):
            return
        # A request that took so long says that others wait: whatever is left belongs to them.
        late = time.perf_counter() - turn.started > turn.active.deadline_seconds * _LATE_SHARE
        if late or self._busy() or not self._shadows.take(turn, record, shadow):
            self._metrics.count("shed", label="queue", value="shadows")

    def close(self) -> None:
        """Stop; what waits is dropped."""
        self._canary = self._shadow = self._champion = None
        self._note()
