"""From the parser to the lanes and back: a decision whose request arrived in one piece never becomes a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nbkit.serve._answer import Answer
from nbkit.serve._app import Endpoint, Guard, check_head, traced
from nbkit.serve._http import ARRIVED, Call, RefusedError, Reply, Scope, json_reply, refusal_reply, too_large
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
        self._lanes = dict(lanes)
        self._guard = guard
        self._broken = broken

    def takes(self, scope: Scope) -> bool:
        """Say whether a request may come this way, by its head.

        Parameters
        ----------
        scope : mapping
            Of ASGI.

        Returns
        -------
        bool
            Everything else is for the application.
        """
        return scope["method"] == "POST" and scope["path"] in self._lanes

    def offer(self, scope: Scope, body: bytes, reply: Callable[[Reply], None]) -> None:
        """Decide a request; never raises.

        Parameters
        ----------
        scope : mapping
            Of ASGI, with `ARRIVED`.
        body : bytes
            All of it.
        reply : callable
            Called once, on the loop.
        """
        path = scope["path"]
        endpoint, lane = self._lanes[path]
        headers = dict(scope["headers"])
        call = Call(method="POST", path=path, query=scope["query_string"], headers=headers)
        try:
            caller = self._guard(call, endpoint)
            check_head(headers, endpoint)
            if len(body) > endpoint.limit:
                raise too_large(endpoint.limit)
        except RefusedError as error:
            reply(refusal_reply(error))
        except Exception as error:  # noqa: BLE001 - a request ends here; its inputs must not reach a log or the caller
            reply(self._broken(path, error))
        else:
            lane.take(
                Ask(
                    body=body, caller=caller, arrived=scope[ARRIVED],
                    answered=partial(_answered, reply, caller), broken=partial(self._failed, reply, path),
                )
            )  # fmt: skip

    def _failed(self, reply: Callable[[Reply], None], path: str, error: Exception) -> None:
        reply(self._broken(path, error))


def _answered(reply: Callable[[Reply], None], caller: Caller, answer: Answer) -> None:
    made = json_reply(answer.body, status=answer.status, retry_after=answer.retry_after)
    reply(traced(made, caller) if caller.trace else made)
