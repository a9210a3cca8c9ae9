"""The contract itself: its blocks, format 1, and its digest."""

from __future__ import annotations

import hashlib
from typing import Literal, Self

import rfc8785
from pydantic import Field, field_validator, model_validator

from nbkit.contract._columns import Input, Owner, Protected, Target
from nbkit.contract._decision import Budget, DecisionBlock, Serve
from nbkit.contract._judging import Data, Evaluate, Explain, Fairness, GateSpec
from nbkit.contract._operation import Audit, Monitor, Retrain, Review, Rollout
from nbkit.contract._telling import Notice
from nbkit.contract._types import Block, Name, Stage, Text

CONTRACT_FORMAT = 1


class Contract(Block):
    """What goes into and comes out of a model, who owns it, and what it must reach.

    Frozen; two contracts with the same digest are the same contract.
    """

    format: Literal[1]
    name: Name
    kind: Literal["tabular", "llm"]
    title: Text
    owner: Owner
    impact: Literal["low", "medium", "high"]
    purpose: Text
    jurisdictions: tuple[Text, ...] = Field(min_length=1)
    entity: Text = Field(description="the column that identifies a row")
    target: Target
    data: Data = Data()
    inputs: tuple[Input, ...] = Field(min_length=1)
    protected: tuple[Protected, ...] = ()
    decision: DecisionBlock
    serve: Serve = Serve()
    evaluate: Evaluate = Evaluate()
    gates: dict[Stage, tuple[GateSpec, ...]] = Field(default_factory=dict)
    required_reasons: tuple[Literal["architecture", "data", "feature", "threshold", "exclusion", "limit"], ...] = (
        "architecture",
        "data",
        "threshold",
    )
    explain: Explain = Explain()
    fairness: Fairness = Fairness()
    monitor: Monitor = Monitor()
    rollout: Rollout = Rollout()
    review: Review = Review()
    retrain: Retrain = Retrain()
    audit: Audit = Audit()
    budget: Budget = Budget()
    notice: Notice = Notice()

    @field_validator("format", mode="before")
    @classmethod
    def _format_is_a_number(cls, value: object) -> object:
        # To Python true equals 1.
        if isinstance(value, bool):
            raise ValueError(f"expected {CONTRACT_FORMAT}")
        return value

    @model_validator(mode="after")
    def _columns_play_one_role_each(self) -> Self:
        problems = []
        names = [column.name for column in self.inputs]
        problems += [f"inputs: {name!r} appears twice" for name in sorted({n for n in names if names.count(n) > 1})]
        protected = [column.name for column in self.protected]
        problems += [f"inputs: {name!r} is protected and can never be an input" for name in names if name in protected]
        problems += [
            f"protected: {name!r} appears twice" for name in sorted({n for n in protected if protected.count(n) > 1})
        ]
        problems += [f"entity: {self.entity!r} is the target"] if self.entity == self.target.column else []
        problems += [f"inputs: {name!r} is the target" for name in names if name == self.target.column]
        problems += [f"inputs: {name!r} is the entity" for name in names if name == self.entity]
        problems += [
            f"inputs: {column.name!r}: known_at needs target.decided_at"
            for column in self.inputs
            if column.known_at and self.target.decided_at is None
        ]
        unknown = [name for name in self.evaluate.slices if name not in names and name not in protected]
        problems += [f"evaluate.slices: {name!r} is neither an input nor protected" for name in unknown]
        problems += self._cost_problems()
        shown = self.explain.slices or ()
        outside = [name for name in shown if name not in self.evaluate.slices]
        problems += [f"explain.slices: {name!r} is not among evaluate.slices" for name in outside]
        reported = self.notice.bureau.inputs if self.notice.bureau else ()
        problems += [f"notice.bureau.inputs: {name!r} is not an input" for name in reported if name not in names]
        problems += [f"gates: {stage} is not in rollout.path" for stage in self.gates if stage not in self.rollout.path]
        problems += [f"gates: no gate for {stage}" for stage in self.rollout.path if not self.gates.get(stage)]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _cost_problems(self) -> list[str]:
        """Say which amounts follow something that cannot be counted on in every row."""
        columns = {column.name: column for column in self.inputs}
        problems = []
        for name in self.decision.costs.followed:
            column = columns.get(name)
            if column is None:
                problems.append(f"decision.costs: {name!r} is not an input")
            elif column.type not in ("number", "integer") or column.nullable:
                problems.append(f"decision.costs: {name!r} must be a number that is never null")
            elif column.minimum is None or column.minimum < 0:
                problems.append(
                    f"decision.costs: {name!r} needs a minimum of at least 0, because money lost is never below 0"
                )
        return problems

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the contract's canonical JSON (RFC 8785)."""
        return "sha256:" + hashlib.sha256(self.canonical()).hexdigest()

    @property
    def approvals_needed(self) -> int:
        """How many people other than the submitter must approve a move."""
        return 2 if self.impact == "high" else 1

    def canonical(self) -> bytes:
        """Return the contract as canonical JSON; ``Contract.model_validate_json`` reads it back.

        What stands at its default is left out: a key that a later nbkit adds changes no digest that was ever signed.
        So a default of one format never changes; another default is another format.
        """
        canonical: bytes = rfc8785.dumps(self.model_dump(mode="json", exclude_defaults=True))
        return canonical

    def input(self, name: str) -> Input:
        """Return the input of that name.

        Raises
        ------
        KeyError
            No such input.
        """
        for column in self.inputs:
            if column.name == name:
                return column
        raise KeyError(name)
