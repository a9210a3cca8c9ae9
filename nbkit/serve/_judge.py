"""The steps between a routed request and its judgement: rules before, score, thresholds and rules after, reasons."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from nbkit.errors import ContractViolationError
from nbkit.serve._active import Active
from nbkit.serve._batch import LateError, OverloadedError
from nbkit.serve._decide import Judgement, Row, Weighed
from nbkit.serve._explain import Explainer
from nbkit.serve._turn import TryAgainError, Turn

__all__ = ["judge_at_once", "judge_turn"]

_LOG = logging.getLogger("nbkit.serve")

# The rest of the deadline belongs to the reasons, the fallback and the disk.
_MODEL_SHARE = 0.8
_REASONS_SHARE = 0.85

# Reasons in one turn of the loop; more are for the thread, or everybody else would wait for them.
_MOST_AT_ONCE = 4

# A row that comes behind one that has waited so long would be late.
_MOST_AGE_SHARE = 0.5


class _LeftAloneError(Exception):
    """The breaker is open."""


def judge_at_once(turns: Sequence[Turn]) -> list[Judgement | Weighed | None]:
    """Decide what needs neither a thread nor the fallback chain; rows of one version are one call of its model.

    Parameters
    ----------
    turns : sequence of Turn
        Routed.

    Returns
    -------
    list
        For each a judgement; or what was weighed, where its reasons take a thread; or None where `judge_turn` has to do
        it all, because there is no plan, the breaker is not closed, or something failed.
    """
    told: list[Judgement | Weighed | None] = [None] * len(turns)
    explains = _MOST_AT_ONCE
    scored: dict[int, list[int]] = {}
    for place, turn in enumerate(turns):
        active = turn.active
        if active.batcher is None and active.breaker.state == "closed":
            try:
                told[place] = active.judge.before(turn.request.row, special=turn.request.special)
            except Exception:  # noqa: BLE001, S112 - `judge_turn` meets the same, and knows what to say
                continue
            if told[place] is None:
                scored.setdefault(id(active), []).append(place)
    for places in scored.values():
        try:
            scores = turns[places[0]].active.package.score_rows([turns[place].request.row for place in places])
        except Exception:  # noqa: BLE001, S112 - as above
            continue
        for place, score in zip(places, scores, strict=True):
            try:
                told[place] = said = _weighed_at_once(turns[place], score, explains=explains > 0)
            except Exception:  # noqa: BLE001, S112 - as above
                continue
            explains -= isinstance(said, Judgement) and bool(said.decision.reasons)
    return told


def _weighed_at_once(turn: Turn, score: float, *, explains: bool) -> Judgement | Weighed:
    judge, request = turn.active.judge, turn.request
    plain = judge.plain(score)
    if plain is not None:
        turn.active.breaker.succeeded()
        return plain
    judge.check_score(score)
    weighed = judge.weigh(request.row, score, special=request.special)
    turn.active.breaker.succeeded()
    if not weighed.adverse:
        return judge.conclude(weighed)
    if explains and judge.explains_at_once:
        return judge.conclude(weighed, reasons=judge.reasons(request.row, request.special))
    return weighed


async def judge_turn(turn: Turn, *, explainer: Explainer, weighed: Weighed | None = None) -> tuple[Judgement, str]:
    """Decide by rules and model, or by the fallback chain.

    Parameters
    ----------
    turn : Turn
        Routed.
    explainer : Explainer
        Gives reasons off the event loop.
    weighed : Weighed, optional
        From `judge_at_once`: only its reasons are wanted.

    Returns
    -------
    judgement : Judgement
        What was decided.
    cause : str
        Why the model did not decide; empty when it did.

    Raises
    ------
    TryAgainError
        The contract's chain ends without an answer.
    """
    judge, row = turn.active.judge, turn.request.row
    try:
        if weighed is None:
            early = judge.before(row, special=turn.request.special)
            if early is not None:
                return early, ""
            score = await _score(turn.active, row, seconds=turn.left(share=_MODEL_SHARE))
            weighed = judge.weigh(row, score, special=turn.request.special)
        return await _told(turn, weighed, explainer=explainer), ""
    except (LateError, _LeftAloneError, OverloadedError) as error:
        cause = _CAUSES[type(error)]
    except Exception as error:  # noqa: BLE001 - a request ends here: the fallback answers, and its cause is recorded
        cause = f"error: {type(error).__name__}"
        # The message may quote an input; the place of the failure never does.
        _LOG.error("the model failed", extra={"fields": {"request_id": turn.id, "cause": cause, "at": place_of(error)}})
    judgement = judge.fallback(row, special=turn.request.special)
    if judgement is None:
        raise TryAgainError(f"request {turn.id!r}: the model did not answer ({cause})")
    return judgement, cause


_CAUSES: dict[type[Exception], str] = {
    LateError: "deadline",
    _LeftAloneError: "breaker open",
    OverloadedError: "overloaded",
}


async def _score(active: Active, row: Row, *, seconds: float) -> float:
    breaker = active.breaker
    if not breaker.lets_through():
        raise _LeftAloneError
    try:
        if active.batcher is None:
            score = await active.scorer.score(row)
        else:
            score = await active.batcher.score(row, seconds=seconds, most_age=active.deadline_seconds * _MOST_AGE_SHARE)
        active.judge.check_score(score)
    except (ContractViolationError, OverloadedError):
        raise  # the row's fault, and the queue's: they say nothing about the model
    except Exception:
        breaker.failed()
        raise
    breaker.succeeded()
    return score


async def _told(turn: Turn, weighed: Weighed, *, explainer: Explainer) -> Judgement:
    judge = turn.active.judge
    if not weighed.adverse:
        return judge.conclude(weighed)
    left = partial(turn.left, share=_REASONS_SHARE)
    if judge.explains_at_once:
        told = await explainer.at_once(judge, turn.request, left=left)
    else:
        told = await explainer.reasons(judge, turn.request, seconds=left())
    if told is None:
        # Without the inputs nobody could give them later, so they count as missing.
        return judge.conclude(weighed, follow=turn.active.keeps_inputs)
    return judge.conclude(weighed, reasons=told)


def place_of(error: BaseException) -> str:
    """Return file and line where an error was raised.

    Parameters
    ----------
    error : BaseException
        With its trace.

    Returns
    -------
    str
        Empty where it has none.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
