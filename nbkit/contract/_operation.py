"""Blocks of the contract: what happens once a version decides."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nbkit.contract._types import Block, Name, RelativePath, Share, Stage, Text


class Monitor(Block):
    """What is watched once the model decides."""

    psi_ceiling: float = Field(default=0.2, gt=0)
    alert: Text = "owner"


class Guardrails(Block):
    """What a version must keep to in shadow and as a canary, on real traffic."""

    minimum_decisions: int = Field(default=200, ge=1)
    error_share_ceiling: Share = 0.01
    fallback_share_ceiling: Share = 0.05
    disagreement_share_ceiling: Share = 0.2
    p99_ms_ceiling: float | None = Field(default=None, gt=0)


class Rollout(Block):
    """The stages a version passes, in order."""

    path: tuple[Stage, ...] = (Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION)
    shadow_days: int = Field(default=7, ge=0)
    canary_shares: tuple[Share, ...] = (0.01, 0.1, 0.5)
    guardrails: Guardrails = Guardrails()
    evidence_valid_days: int = Field(default=365, ge=1, le=3660)

    @model_validator(mode="after")
    def _path_climbs_to_production(self) -> Self:
        order = [Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION]
        if not self.path or self.path[-1] is not Stage.PRODUCTION or self.path[0] is not Stage.STAGING:
            raise ValueError("path: expected to begin with staging and to end with production")
        if [s for s in order if s in self.path] != list(self.path):
            raise ValueError(f"path: expected an ordered selection of {', '.join(order)}")
        return self


class Review(Block):
    """What happens to a decision that waits for a person."""

    sla_hours: float = Field(default=24, gt=0, le=8760)
    lease_minutes: float = Field(default=30, gt=0, le=1440)
    when_expired: Literal["approve", "decline"] = "decline"
    override_reasons: tuple[Name, ...] = Field(
        default=("new-information", "data-error", "policy", "judgement"), min_length=1
    )


class Retrain(Block):
    """How the model is made again."""

    notebook: RelativePath = "train.ipynb"
    cadence: Text = "quarterly"


class Audit(Block):
    """What is recorded of every decision, and for how long."""

    retention_years: float = Field(default=7, gt=0)
    payload: Literal["full", "none"] = "full"
    when_unavailable: Literal["fail_closed", "journal"] = "fail_closed"
