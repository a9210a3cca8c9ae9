"""Write an evaluation as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nbkit.evaluate import _figures
from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._fair_measures import MEASURES
from nbkit.evaluate._metrics import Metric
from nbkit.evaluate._result import EvaluationResult
from nbkit.evaluate._svg import strip

_FOLDER = Path(__file__).parent / "report"
# Money is shown to the cent, ranks and rates to the third digit: more would be noise at a few hundred cases.
_MONEY_DIGITS, _DIGITS = 2, 3
_SHOWN_IDS = 40
_SHOWN_FLIPS = 30

MEANINGS = {
    "auc": ("AUC", "chance that a positive case scores above a negative one; 0.5 is guessing"),
    "gini": ("Gini", "the same, rescaled: 2 AUC − 1"),
    "average_precision": (
        "Average precision",
        "mean share of positives among the highest scores; guessing gives the base rate",
    ),
    "ks": ("KS", "largest distance between the score distributions of the two labels"),
    "brier": ("Brier score", "mean squared error of the score; lower is better"),
    "log_loss": ("Log loss", "penalty for confident mistakes; lower is better"),
    "ece": ("Calibration error", "mean gap between score and observed share, in ten groups; lower is better"),
    "ece_debiased": (
        "Calibration error, less chance",
        "the same without what chance alone would show; lower is better",
    ),
    "recall_at_fpr": ("Recall at a fixed false positive rate", "share of positives caught while few negatives are"),
    "precision_at_capacity": ("Precision at review capacity", "share of positives among what people can look at"),
    "expected_cost": ("Expected cost", "money lost per case at the chosen thresholds"),
    "approval_rate": ("Approved", "share below the refer threshold"),
    "refer_rate": ("Referred", "share that a person must look at"),
    "decline_rate": ("Declined", "share at or above the decline threshold"),
}
_VERDICT_KINDS = {"pass": "good", "better": "good", "no difference": "good", "fail": "bad", "worse": "bad"}
_SHARES = ("approval_rate", "refer_rate", "decline_rate")


def report_html(result: EvaluationResult) -> str:
    """Return the report."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        chance=chance, figure=figure, interval=interval, share=share, share_interval=share_interval
    )
    # Our own style sheet, not input.
    style = Markup((_FOLDER / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    return environment.get_template("report.html.j2").render(
        result=result,
        style=style,
        meaning=meaning_of,
        measure_meanings=MEASURES,
        shares=_SHARES,
        kinds=_VERDICT_KINDS,
        tiles=_tiles(result),
        pictures={
            "roc": _figures.roc(result),
            "precision_recall": _figures.precision_recall(result),
            "reliability": _figures.reliability(result),
            "scores": _figures.scores(result),
            "costs": _figures.costs(result),
        },
        slices=_slices(result),
        groups=_groups(result),
        contenders=_contenders(result),
        shown_ids=_SHOWN_IDS,
        shown_flips=_SHOWN_FLIPS,
        alternative_metrics=sorted({name for row in result.alternatives.values() for name in row}),
    )


def meaning_of(name: str) -> tuple[str, str]:
    """Return what people call a figure, and what it says; a plug-in's figure is called by its name."""
    return MEANINGS.get(name, (name.replace("_", " "), ""))


def figure(value: float | None, digits: int = _DIGITS) -> str:
    """Write a number, with thousands separated; nothing for None."""
    if value is None:
        return ""
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def chance(value: float) -> str:
    """Write a p value; one that rounds to zero is not zero."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def interval(estimate: Estimate | Metric | None, digits: int = _DIGITS) -> str:
    """Write the ends of an interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{figure(estimate.low, digits)} to {figure(estimate.high, digits)}"


def share(value: float | None) -> str:
    """Write a share as percent."""
    return "" if value is None else f"{100 * value:.1f} %"


def share_interval(estimate: Estimate | Metric) -> str:
    """Write the ends of an interval of shares as percent."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"


def _tiles(result: EvaluationResult) -> list[dict[str, str]]:
    tiles = []
    for name in ("auc", "expected_cost", "ece", "approval_rate"):
        metric = result.metric(name)
        money = name == "expected_cost"
        digits = _MONEY_DIGITS if money else _DIGITS
        value = share(metric.value) if name in _SHARES else figure(metric.value, digits)
        ends = share_interval(metric) if name in _SHARES else interval(metric, digits)
        label = f"Cost per case, {result.currency}" if money else MEANINGS[name][0]
        tiles.append({"label": label, "value": value, "interval": ends})
    return tiles


def _contenders(result: EvaluationResult) -> list[dict[str, object]]:
    if not result.contenders:
        return []
    own = result.contenders[0].cost.value
    scale = _scale([one.cost for one in result.contenders], also=[0.0], ends=(0.0, float("inf")))
    found: list[dict[str, object]] = []
    for one in result.contenders:
        kind, difference = "unsure", one.cost_difference
        if difference and difference.low is not None and difference.high is not None:
            kind = "good" if difference.low > 0 else "bad" if difference.high < 0 else "unsure"
        picture = strip(one.cost.value, one.cost.low, one.cost.high, scale=scale, reference=own, kind="main")
        beyond = one.referred.value > result.review_capacity
        found.append({"result": one, "strip": picture, "kind": kind, "beyond": beyond})
    return found


def _slices(result: EvaluationResult) -> list[dict[str, object]]:
    overall = result.metric("auc").value
    scale = _scale([one.auc for one in result.slices], also=[overall], ends=(0.0, 1.0))
    return [
        {
            "result": one,
            "strip": strip(
                one.auc.value if one.auc else None,
                one.auc.low if one.auc else None,
                one.auc.high if one.auc else None,
                scale=scale,
                reference=overall,
                kind="bad" if one.note.startswith("ranks worse") else "main",
            ),
        }
        for one in result.slices
    ]


def _groups(result: EvaluationResult) -> list[dict[str, object]]:
    floor = result.impact_ratio_floor
    scale = _scale([group.impact_ratio for group in result.groups], also=[floor, 1.0], ends=(0.0, 2.0))
    return [
        {
            "attribute": attribute,
            "rows": [
                {
                    "result": group,
                    "strip": strip(
                        group.impact_ratio.value if group.impact_ratio else None,
                        group.impact_ratio.low if group.impact_ratio else None,
                        group.impact_ratio.high if group.impact_ratio else None,
                        scale=scale,
                        reference=floor,
                        kind=_VERDICT_KINDS.get(group.verdict, "unsure"),
                    ),
                }
                for group in attribute.groups
            ],
        }
        for attribute in result.fairness
    ]


def _scale(
    estimates: Sequence[Estimate | None], *, also: Sequence[float], ends: tuple[float, float]
) -> tuple[float, float]:
    values = [v for e in estimates if e for v in (e.value, e.low, e.high) if v is not None] + list(also)
    low, high = max(ends[0], min(values) - 0.02), min(ends[1], max(values) + 0.02)
    return (low, high) if high > low else ends
