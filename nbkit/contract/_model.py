"""The blocks of ``contract.yaml``, format 1."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

CONTRACT_FORMAT = 1

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_CASE_SET_REFERENCE = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}\Z")


class Stage(StrEnum):
    """Where a model version stands; carried by an MLflow alias of the same name."""

    CANDIDATE = "candidate"
    STAGING = "staging"
    SHADOW = "shadow"
    CANARY = "canary"
    PRODUCTION = "production"
    ARCHIVED = "archived"


class Outcome(StrEnum):
    """What is decided about one row."""

    APPROVE = "approve"
    REFER = "refer"
    DECLINE = "decline"


def _plain_name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("expected lower-case letters, digits, '-' and '_', beginning with a letter, at most 63")
    return value


def _relative_path(value: str) -> str:
    if value in {"", "."} or value.startswith("/") or ".." in value.split("/") or "\\" in value:
        raise ValueError("expected a path inside the use-case folder")
    return value


def _case_set_reference(value: str) -> str:
    if not _CASE_SET_REFERENCE.match(value):
        raise ValueError("expected 'path@sha256:<64 hex digits>'")
    _relative_path(value.split("@")[0])
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
RelativePath = Annotated[str, AfterValidator(_relative_path)]
CaseSetReference = Annotated[str, AfterValidator(_case_set_reference)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=0, le=1)]
# The ceiling keeps 1E+1000000, which is a valid decimal, from becoming a number that no sum survives.
Money = Annotated[Decimal, Field(ge=0, le=Decimal(10) ** 12)]
Text = Annotated[str, Field(min_length=1)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Owner(_Block):
    """Who answers for the model, and who does when that person is gone."""

    team: Text
    primary: Text
    deputy: Text

    @model_validator(mode="after")
    def _deputy_is_someone_else(self) -> Self:
        if self.primary == self.deputy:
            raise ValueError("deputy: expected another person than primary")
        return self


class Target(_Block):
    """The column that is predicted."""

    column: Text
    positive: int | str | bool
    meaning: Text
    label_delay_days: int = Field(ge=0, description="days until a label counts as matured")


class Input(_Block):
    """One column that the model is given."""

    name: Text
    type: Literal["number", "integer", "boolean", "category"]
    meaning: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    nullable: bool = False
    sentinels: tuple[float | str, ...] = Field(default=(), description="values that mean 'missing'")
    direction: Literal["increasing", "decreasing"] | None = Field(
        default=None, description="how the score of the positive class must move when this input rises"
    )
    pii: bool = False
    reason: str | None = Field(default=None, description="reason code in reasons.yaml")

    @model_validator(mode="after")
    def _limits_fit_type(self) -> Self:
        if self.type == "category":
            if not self.categories:
                raise ValueError("categories: expected at least one for type 'category'")
            if len(set(self.categories)) != len(self.categories):
                raise ValueError("categories: expected no duplicates")
            if self.minimum is not None or self.maximum is not None or self.direction is not None:
                raise ValueError("minimum, maximum, direction: not for type 'category'")
        elif self.categories:
            raise ValueError(f"categories: not for type {self.type!r}")
        if self.type == "boolean" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("minimum, maximum: not for type 'boolean'")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum: expected at most maximum {self.maximum}, got {self.minimum}")
        return self

    @model_validator(mode="after")
    def _sentinels_fit_type(self) -> Self:
        text = self.type == "category"
        if any(isinstance(value, str) is not text for value in self.sentinels):
            raise ValueError(f"sentinels: expected {'text' if text else 'numbers'} for type {self.type!r}")
        if both := sorted(set(self.categories) & set(self.sentinels)):
            raise ValueError(f"sentinels: {both[0]!r} is also a category")
        return self


class Protected(_Block):
    """An attribute that is never a model input; used only to measure fairness."""

    name: Text
    reference: Text = Field(description="the group that others are compared with")
    meaning: str = ""


class Thresholds(_Block):
    """Scores at which a decision changes: ``score >= decline`` declines, ``score >= refer`` refers."""

    refer: Score
    decline: Score

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.refer > self.decline:
            raise ValueError(f"refer: expected at most decline {self.decline}, got {self.refer}")
        return self


class CostRow(_Block):
    """Money lost by one decision, by what turned out true."""

    positive: Money = Field(description="the label is the positive class")
    negative: Money = Field(description="the label is not the positive class")


class Costs(_Block):
    """The cost matrix: money lost per decision and label."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    approve: CostRow
    refer: CostRow
    decline: CostRow


class DecisionBlock(_Block):
    """How a score becomes a decision."""

    thresholds: Literal["optimize"] | Thresholds = "optimize"
    costs: Costs
    review_capacity: Share = Field(default=0.1, description="share of decisions that people can review")


class Serve(_Block):
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


class Evaluate(_Block):
    """What every version is judged on."""

    case_set: CaseSetReference | None = Field(default=None, description="path@sha256:…; pinned by `nbkit freeze`")
    golden: RelativePath = "cases/golden"
    slices: tuple[Text, ...] = ()
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=2000, ge=100, le=100_000)


class GateSpec(_Block):
    """One check before a stage."""

    gate: Name
    metric: str | None = None
    value: float | None = None


class Fairness(_Block):
    """Limits on how decisions may differ between groups."""

    impact_ratio_floor: Share = 0.8
    minimum_group: int = Field(default=30, ge=2)


class Monitor(_Block):
    """What is watched once the model decides."""

    psi_ceiling: float = Field(default=0.2, gt=0)
    alert: Text = "owner"


class Rollout(_Block):
    """The stages a version passes, in order."""

    path: tuple[Stage, ...] = (Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION)
    shadow_days: int = Field(default=7, ge=0)
    canary_shares: tuple[Share, ...] = (0.01, 0.1, 0.5)
    evidence_valid_days: int = Field(default=365, ge=1, le=3660)

    @model_validator(mode="after")
    def _path_climbs_to_production(self) -> Self:
        order = [Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION]
        if not self.path or self.path[-1] is not Stage.PRODUCTION or self.path[0] is not Stage.STAGING:
            raise ValueError("path: expected to begin with staging and to end with production")
        if [s for s in order if s in self.path] != list(self.path):
            raise ValueError(f"path: expected an ordered selection of {', '.join(order)}")
        return self


class Retrain(_Block):
    """How the model is made again."""

    notebook: RelativePath = "train.ipynb"
    cadence: Text = "quarterly"


class Audit(_Block):
    """What is recorded of every decision, and for how long."""

    retention_years: float = Field(default=7, gt=0)
    payload: Literal["full", "none"] = "full"
    when_unavailable: Literal["fail_closed"] = "fail_closed"


class Budget(_Block):
    """What decisions may cost."""

    per_decision_usd: Money = Decimal("0.01")


class Contract(_Block):
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
    fairness: Fairness = Fairness()
    monitor: Monitor = Monitor()
    rollout: Rollout = Rollout()
    retrain: Retrain = Retrain()
    audit: Audit = Audit()
    budget: Budget = Budget()

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
        unknown = [name for name in self.evaluate.slices if name not in names and name not in protected]
        problems += [f"evaluate.slices: {name!r} is neither an input nor protected" for name in unknown]
        problems += [f"gates: {stage} is not in rollout.path" for stage in self.gates if stage not in self.rollout.path]
        problems += [f"gates: no gate for {stage}" for stage in self.rollout.path if not self.gates.get(stage)]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the contract's canonical JSON (RFC 8785)."""
        return "sha256:" + hashlib.sha256(self.canonical()).hexdigest()

    @property
    def approvals_needed(self) -> int:
        """How many people other than the submitter must approve a move."""
        return 2 if self.impact == "high" else 1

    def canonical(self) -> bytes:
        """Return the contract as canonical JSON; ``Contract.model_validate_json`` reads it back."""
        canonical: bytes = rfc8785.dumps(self.model_dump(mode="json"))
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
