"""From one row to one decision: rules, score, thresholds, rules, reasons. Pure: the same when served and replayed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import msgspec

from nbkit.contract import Contract, Outcome
from nbkit.errors import NbkitError, PackageError, RuleError
from nbkit.package import Contributions, Package, ReasonBook, ReasonCode, principal_reasons
from nbkit.records import Decision
from nbkit.serve._rules import Row, Rules, Ruling

__all__ = ["REASONS_FOLLOW", "Judge", "Judgement", "Reasons", "Row", "Weighed"]

# What stands in ``reasons_missing`` when they were not ready in time and can be asked for afterwards.
REASONS_FOLLOW = "to follow"

# Reasons that take longer are for a thread of their own: hundreds of deep trees.
_AT_ONCE_SECONDS = 0.004

_NOTHING: Mapping[str, str] = MappingProxyType({})

# Reasons, and why there are none.
Reasons = tuple[tuple[ReasonCode, ...], str]


class Judgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A decision, and what the person concerned is told about it.

    Parameters
    ----------
    decision : Decision
        What was decided; its reasons are codes.
    texts : mapping of str to str
        The sentence behind each reason code.
    reasons_missing : str
        Why there are no reasons, or fewer than there should be; empty when all is said.
    """

    decision: Decision
    texts: Mapping[str, str] = msgspec.field(default_factory=dict)
    reasons_missing: str = ""


class Weighed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A score, what the thresholds say to it, and what the rules say.

    Parameters
    ----------
    score : float
        0..1.
    outcome : Outcome
        By the thresholds.
    ruling : Ruling or None
        By the rules after the model.
    told : str
        What the rules' reason says.
    """

    score: float
    outcome: Outcome
    ruling: Ruling | None
    told: str = ""

    @property
    def adverse(self) -> bool:
        """Whether the model speaks against the row, so that its reasons are wanted."""
        return self.outcome is not Outcome.APPROVE


class Judge:
    """All that decides for one package, made once and used for every row.

    Parameters
    ----------
    package : Package
        Verified.
    rules : Rules
        Those of the package.
    """

    def __init__(self, package: Package, *, rules: Rules) -> None:
        self._contract: Contract = package.contract
        self._thresholds = package.thresholds
        self._rules = rules
        self._book: ReasonBook | None = None
        self._contributions: Contributions | None = None
        self._unexplained = ""
        try:
            self._book = ReasonBook.from_package(package)
        except NbkitError as error:
            self._unexplained = f"{type(error).__name__}: {error}"
        if package.plan is None:
            self._unexplained = self._unexplained or "the model is not compiled, so its contributions are not exact"
        self._package = package
        self._preparing = threading.Lock()
        self._quickest = math.inf  # seconds that reasons have taken

    def prepare(self) -> None:
        """Lay out the model for its reasons: seconds for hundreds of trees, so readiness does not wait for it."""
        package = self._package
        with self._preparing:
            if self._contributions is not None or self._unexplained or package.plan is None:
                return
            try:
                self._contributions = Contributions.from_plan(package.plan, background=package.background())
            except NbkitError as error:
                self._unexplained = f"{type(error).__name__}: {error}"

    @classmethod
    def of(cls, package: Package) -> Self:
        """Make a judge with the package's own rules.

        Parameters
        ----------
        package : Package
            Verified.

        Returns
        -------
        Judge
            Ready.

        Raises
        ------
        RuleError
            The package's rules do not fit its contract.
        """
        return cls(package, rules=Rules.from_package(package))

    def before(self, row: Row, *, special: Mapping[str, str] = _NOTHING) -> Judgement | None:
        """Ask the rules that need no score.

        Parameters
        ----------
        row, special : mapping
            As for `after`.

        Returns
        -------
        Judgement or None
            None when the model is to decide.

        Raises
        ------
        RuleError
            The rules failed.
        """
        ruling = self._rules.judge(row, phase="before")
        return self._ruled(ruling, self._told(ruling, row, special), score=None) if ruling else None

    def after(self, row: Row, score: float, *, special: Mapping[str, str] = _NOTHING) -> Judgement:
        """Turn a score into a decision.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.
        score : float
            0..1, of this row.
        special : mapping of str to str
            Which inputs held a sentinel, as ``RowCheck.special`` returns it; they have texts of their own.

        Returns
        -------
        Judgement
            A decline has at least one reason; where none can be given it is a referral instead.

        Raises
        ------
        PackageError
            The score is not a probability.
        RuleError
            The rules failed.
        """
        self.check_score(score)
        weighed = self.weigh(row, score, special=special)
        return self.conclude(weighed, reasons=self.reasons(row, special) if weighed.adverse else ((), ""))

    def check_score(self, score: float) -> None:
        """Refuse what is no probability.

        Parameters
        ----------
        score : float
            Of the model.

        Raises
        ------
        PackageError
            It is not in 0..1.
        """
        if not 0.0 <= score <= 1.0:  # NaN is not either
            raise PackageError(f"score: expected 0..1, got {score!r}")

    def weigh(self, row: Row, score: float, *, special: Mapping[str, str] = _NOTHING) -> Weighed:
        """Compare a score with the thresholds, and ask the rules that follow the model.

        Parameters
        ----------
        row, score, special : mapping, float and mapping
            As for `after`.

        Returns
        -------
        Weighed
            For `conclude`.

        Raises
        ------
        RuleError
            The rules failed.
        """
        ruling = self._rules.judge(row, phase="after", score=score)
        told = self._told(ruling, row, special) if ruling else ""
        return Weighed(score=score, outcome=self._outcome(score), ruling=ruling, told=told)

    def plain(self, score: float) -> Judgement | None:
        """Return what `weigh` and `conclude` come to where nothing but the score approves; None where more is said."""
        if self._rules.speak("after") or not 0.0 <= score <= 1.0 or self._outcome(score) is not Outcome.APPROVE:
            return None
        return Judgement(decision=Decision(decision=Outcome.APPROVE.value, score=score))

    @property
    def explains_at_once(self) -> bool:
        """Whether reasons cost less than handing them to a thread, which takes the interpreter from everybody else."""
        if bool(self._unexplained) or self._package.plan is None or self._package.plan.linear:
            return True
        return self._quickest <= _AT_ONCE_SECONDS

    def reasons(self, row: Row, special: Mapping[str, str]) -> Reasons:
        """Return the model's principal reasons against a row.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.
        special : mapping of str to str
            Which inputs held a sentinel.

        Returns
        -------
        tuple
            The reasons, largest first, and why there are none where there are none.
        """
        self.prepare()
        if self._contributions is None or self._book is None:
            return (), self._unexplained
        begun = time.perf_counter()
        try:
            reasons = principal_reasons(self._contributions.explain(row), row, self._book, special=special)
        except NbkitError as error:
            return (), f"{type(error).__name__}: {error}"
        self._quickest = min(self._quickest, time.perf_counter() - begun)
        return reasons, "" if reasons else "no input of which a text is true pushed the score up"

    def conclude(self, weighed: Weighed, *, reasons: Reasons = ((), ""), follow: bool = False) -> Judgement:
        """Turn what was weighed into a decision.

        Parameters
        ----------
        weighed : Weighed
            From `weigh`.
        reasons : tuple
            From `reasons` where it is adverse. The model's reasons are true only where the model itself speaks
            against the row.
        follow : bool
            The reasons are late, and can be computed from the record afterwards.

        Returns
        -------
        Judgement
            A decline has at least one reason, or they follow; where none can be given it is a referral instead.
        """
        outcome, ruling, score = weighed.outcome, weighed.ruling, weighed.score
        if ruling is None and not weighed.adverse:
            return Judgement(decision=Decision(decision=outcome.value, score=score))
        given, missing = reasons
        if weighed.adverse and not given and not missing:
            missing = REASONS_FOLLOW if follow else "not ready in time"
        if ruling is not None:
            return self._ruled(ruling, weighed.told, score=score, reasons=given, missing=missing)
        decision = Decision(decision=outcome.value, score=score, reasons=tuple(reason.code for reason in given))
        if missing == REASONS_FOLLOW:
            return Judgement(decision=decision, reasons_missing=missing)
        return _reasoned(decision, texts={reason.code: reason.text for reason in given}, missing=missing)

    def bare(self, row: Row, score: float) -> Decision:
        """Turn a score into a decision without reasons, which nobody is told.

        Parameters
        ----------
        row : mapping
            As for `after`.
        score : float
            0..1, of this row.

        Returns
        -------
        Decision
            That of `conclude`, where its reasons follow.

        Raises
        ------
        PackageError
            The score is not a probability.
        RuleError
            The rules failed.
        """
        self.check_score(score)
        if self._rules.speak("after"):
            return self.conclude(self.weigh(row, score), follow=True).decision
        return Decision(decision=self._outcome(score).value, score=score)

    def fallback(self, row: Row, *, special: Mapping[str, str] = _NOTHING) -> Judgement | None:
        """Answer without the model, by the contract's fallback chain.

        Parameters
        ----------
        row, special : mapping
            As for `after`.

        Returns
        -------
        Judgement or None
            None when the chain says: ask again later.
        """
        for name in self._contract.serve.fallback:
            if name == "rules":
                try:
                    ruling = self._rules.judge(row, phase="fallback")
                except RuleError:
                    continue  # the chain goes on; the same rules failed loudly on the way here, or will at the next row
                if ruling is not None:
                    return self._ruled(ruling, self._told(ruling, row, special), score=None, fallback="rules")
            elif name == "default":
                default = self._contract.serve.default
                answer = Decision(decision=default.value, score=None, route="default", fallback=name)
                adverse = default is not Outcome.APPROVE
                return _reasoned(answer, missing="the default answered, which looks at nothing" if adverse else "")
        return None

    def _outcome(self, score: float) -> Outcome:
        if score >= self._thresholds.decline:
            return Outcome.DECLINE
        return Outcome.REFER if score >= self._thresholds.refer else Outcome.APPROVE

    def _ruled(
        self,
        ruling: Ruling,
        told: str,
        *,
        score: float | None,
        reasons: tuple[ReasonCode, ...] = (),
        missing: str = "",
        fallback: str = "",
    ) -> Judgement:
        route = f"rules:{ruling.rule}"
        if ruling.decision == Outcome.APPROVE:
            return Judgement(decision=Decision(decision=ruling.decision, score=score, route=route, fallback=fallback))
        # The rule decided, so its reason comes first; the model's follow.
        texts = {ruling.reason: told} if ruling.reason else {}
        texts |= {reason.code: reason.text for reason in reasons if reason.code != ruling.reason}
        decision = Decision(decision=ruling.decision, score=score, reasons=tuple(texts), route=route, fallback=fallback)
        return _reasoned(
            decision, texts=texts, missing=missing if ruling.reason else f"rule {ruling.rule!r} gives none"
        )

    def _told(self, ruling: Ruling, row: Row, special: Mapping[str, str]) -> str:
        return ruling.reason if self._book is None else self._book.sentence(ruling.reason, row, special=special)


def _reasoned(decision: Decision, *, texts: Mapping[str, str] | None = None, missing: str = "") -> Judgement:
    """Never decline without a reason: such a row is for a person to look at."""
    if decision.decision == Outcome.DECLINE and not decision.reasons:
        decision = Decision(
            decision=Outcome.REFER.value,
            score=decision.score,
            route=decision.route,
            fallback=decision.fallback,
        )
        missing = f"{missing}; referred instead of declined"
    return Judgement(decision=decision, texts=texts or {}, reasons_missing=missing)
