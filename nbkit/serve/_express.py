"""From the parser to the lanes and back: a decision whose request arrived in one piece never becomes a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from nbkit.serve._answer import Answer
from nbkit.serve._app import Endpoint, Guard, check_head, traced
from nbkit.serve._guard import AccessGuard
from nbkit.serve._head import KnownHead
from nbkit.serve._http import RefusedError, Reply, json_reply, refusal_reply, too_large
from nbkit.serve._lane import Ask, Lane
from nbkit.serve._turn import Caller

__all__ = ["Express"]


class Express:
    """Knows the paths whose POST is one decision of the native protocol.

    Parameters
    ----------
    lanes : mapping of str to (Endpoint, Lane)
        By path.
    guard : callable
        Who may call.
    broken : callable
        Makes the reply where nbkit itself failed.
    """

    def __init__(
        self, lanes: Mapping[str, tuple[Endpoint, Lane]], *, guard: Guard, broken: Callable[[str, Exception], Reply]
    ) -> None:
        self._lanes = {path.encode("ascii"): (path, *found) for path, found in lanes.items()}
        self._guard = guard
        self._access = guard if isinstance(guard, AccessGuard) else None
        self._broken = broken

    @property
    def paths(self) -> Collection[bytes]:
        """Whose POST may come this way, as the request line has them; everything else is for the application."""
        return self._lanes.keys()

    def offer(
        self,
        url: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        *,
        arrived: float,
        reply: Callable[[Reply], None],
        head: KnownHead | None = None,
    ) -> None:
        """Decide a request; never raises.

        Parameters
        ----------
        url : bytes
            One of `paths`.
        headers : mapping of bytes to bytes
            Names in lower case; read at once, and not kept.
        body : bytes
            All of it.
        arrived : float
            When its last byte was there, on the clock of ``time.perf_counter``.
        reply : callable
            Called once, on the loop.
        head : KnownHead, optional
            Which holds the headers: who was let in with it comes in again.
        """
        path, endpoint, lane = self._lanes[url]
        try:
            admitted = head.admitted if head is not None else None
            if admitted is None or self._access is None or admitted[1] is not self._access.standing:
                admitted = self._admit(headers, endpoint, head=head)
            caller = admitted[0]
            if len(body) > endpoint.limit:
                raise too_large(endpoint.limit)
        except RefusedError as error:
            reply(refusal_reply(error))
        except Exception as error:  # noqa: BLE001 - a request ends here; its inputs must not reach a log or the caller
            reply(self._broken(path, error))
        else:
            lane.take(
                Ask(
                    body=body, caller=caller, arrived=arrived,
                    answered=partial(_answered, reply, caller), broken=partial(self._failed, reply, path),
                )
            )  # fmt: skip

    def _admit(
        self, headers: Mapping[bytes, bytes], endpoint: Endpoint, *, head: KnownHead | None
    ) -> tuple[Caller, object]:
        """Let in whom the guard knows, with a head that may come in; note where the same head needs no second look.

        What may differ in it, the length, is that of the body, which is looked at each time.
        """
        if self._access is None:
            admitted: tuple[Caller, object] = self._guard(headers, endpoint), None
        else:
            admitted = self._access.admit(headers, endpoint)
        check_head(headers, endpoint)
        if head is not None:
            head.admitted = admitted if admitted[1] is not None else None
        return admitted

    def _failed(self, reply: Callable[[Reply], None], path: str, error: Exception) -> None:
        reply(self._broken(path, error))


def _answered(reply: Callable[[Reply], None], caller: Caller, answer: Answer) -> None:
    made = json_reply(answer.body, status=answer.status, retry_after=answer.retry_after)
    reply(traced(made, caller) if caller.trace else made)
