"""Blocks of the contract: how a score becomes a decision, in time and at what cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nbkit.contract._types import Block, Money, Name, Outcome, RelativePath, Score, Share

# Costs of records are added up exactly, in these bounds (`nbkit.audit.sum_costs`).
_EXPONENTS = range(-30, 13)


class Thresholds(Block):
    """Scores at which a decision changes: ``score >= decline`` declines, ``score >= refer`` refers."""

    refer: Score
    decline: Score

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.refer > self.decline:
            raise ValueError(f"refer: expected at most decline {self.decline}, got {self.refer}")
        return self


class CostRow(Block):
    """Money lost by one decision, by what turned out true."""

    positive: Money = Field(description="the label is the positive class")
    negative: Money = Field(description="the label is not the positive class")
    positive_per: dict[str, Money] = Field(
        default_factory=dict, description="added to it: money for each unit of an input, by the input's name"
    )
    negative_per: dict[str, Money] = Field(
        default_factory=dict, description="added to it: money for each unit of an input, by the input's name"
    )


class Costs(Block):
    """The cost matrix: money lost per decision and label."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    approve: CostRow
    refer: CostRow
    decline: CostRow
    function: Name | None = Field(
        default=None, description="added to all of it: an installed function, by its entry point under nbkit.costs"
    )

    @property
    def constant(self) -> bool:
        """Whether every decision loses the same whatever the row is."""
        return self.function is None and not self.followed

    @property
    def followed(self) -> tuple[str, ...]:
        """The inputs that amounts follow, each once."""
        rows = (self.approve, self.refer, self.decline)
        return tuple(dict.fromkeys(name for row in rows for name in (*row.positive_per, *row.negative_per)))


class DecisionBlock(Block):
    """How a score becomes a decision."""

    thresholds: Literal["optimize"] | Thresholds = "optimize"
    costs: Costs
    review_capacity: Share = Field(default=0.1, description="share of decisions that people can review")


class Serve(Block):
    """How a decision is answered in time."""

    deadline_ms: float = Field(default=50, gt=0, le=60_000)
    fallback: tuple[Literal["rules", "default", "retry"], ...] = ("rules", "default")
    default: Outcome = Outcome.REFER
    rules: RelativePath = "rules.json"

    @model_validator(mode="after")
    def _fallback_ends(self) -> Self:
        if not self.fallback or len(set(self.fallback)) != len(self.fallback):
            raise ValueError("fallback: expected at least one of rules, default, retry, none twice")
        if self.fallback[-1] == "rules":
            raise ValueError("fallback: rules may match nothing; expected 'default' or 'retry' as the last entry")
        return self


class Budget(Block):
    """What decisions may cost."""

    per_decision_usd: Money = Decimal("0.01")
    price_usd: Money = Decimal(0)

    @model_validator(mode="after")
    def _price_within_budget(self) -> Self:
        if self.price_usd > self.per_decision_usd:
            raise ValueError(
                f"price_usd: expected at most per_decision_usd {self.per_decision_usd}, got {self.price_usd}"
            )
        if self.price_usd.as_tuple().exponent not in _EXPONENTS:
            raise ValueError(f"price_usd: expected at most 30 decimals, and at most E+12, got {self.price_usd}")
        return self
