"""Blocks of the contract: what every version is judged on."""

from __future__ import annotations

from pydantic import Field

from nbkit.contract._types import Block, CaseSetReference, Name, RelativePath, Share, Text


class Evaluate(Block):
    """What every version is judged on."""

    case_set: CaseSetReference | None = Field(default=None, description="path@sha256:…; pinned by `nbkit freeze`")
    golden: RelativePath = "cases/golden"
    behaviours: RelativePath = "cases/behaviours"
    incidents: RelativePath = "cases/incidents"
    metrics: tuple[Name, ...] = ()
    checks: tuple[Name, ...] = ()
    slices: tuple[Text, ...] = ()
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=2000, ge=100, le=100_000)
    false_positive_rate: float = Field(default=0.05, gt=0, lt=1, description="at which recall is measured")
    false_block_level: float = Field(
        default=0.05, gt=0, le=0.5, description="highest chance that a version which is no worse is called worse"
    )
    auc_margin: float = Field(default=0.02, gt=0, le=0.5, description="a loss of AUC below this does not matter")
    cost_margin: float = Field(default=0.05, gt=0, le=1, description="nor does a cost higher by less than this share")
    search_depth: int = Field(default=2, ge=0, le=2, description="how many features a found slice combines; 0: none")
    minimum_slice: int = Field(default=50, ge=10, description="fewest cases of a found slice")


class GateSpec(Block):
    """One check before a stage."""

    gate: Name
    metric: str | None = None
    value: float | None = None


class Fairness(Block):
    """Limits on how decisions may differ between groups."""

    impact_ratio_floor: Share = 0.8
    minimum_group: int = Field(default=30, ge=2)
    intersections: bool = False
    score_difference_ceiling: float | None = Field(default=None, ge=0)
    opportunity_ceiling: Share | None = None
    odds_ceiling: Share | None = None
    calibration_ceiling: Share | None = None
    alternative_cost_share: Share = 0.05


class Data(Block):
    """What nobody can read off the rows; the rationale says of each key that is not declared that it is not."""

    source: str = ""
    window: str = ""
    exclusions: tuple[Text, ...] = ()
    known_bias: tuple[Text, ...] = ()
    selective_labels: str = ""


class Explain(Block):
    """How the scores of a version are explained to people."""

    group_correlation: float = Field(default=0.7, gt=0, le=1)
    slices: tuple[Text, ...] | None = None
