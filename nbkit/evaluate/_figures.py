"""The pictures of an evaluation report."""

from __future__ import annotations

from markupsafe import Markup

from nbkit.evaluate._curves import HistogramBin, Points
from nbkit.evaluate._result import EvaluationResult
from nbkit.evaluate._svg import Chart

_HEADROOM = 1.12


def roc(result: EvaluationResult) -> Markup:
    """Draw the ROC curve, with the two thresholds on it."""
    chart = Chart(
        x=(0, 1),
        y=(0, 1),
        x_label="share of negatives caught by mistake",
        y_label="share of positives caught",
        title="ROC curve",
    )
    chart.line([(0, 0), (1, 1)], kind="faint")
    chart.area(result.curves.roc, kind="main")
    chart.line(result.curves.roc, kind="main")
    rows = {row.decision: row for row in result.confusion}
    positives, negatives = (sum(getattr(row, side) for row in result.confusion) for side in ("positive", "negative"))
    caught, mistaken = rows["decline"].positive, rows["decline"].negative
    points = [("decline", mistaken / negatives, caught / positives)]
    if rows["refer"].positive or rows["refer"].negative:
        both = (mistaken + rows["refer"].negative) / negatives, (caught + rows["refer"].positive) / positives
        points.append(("decline or refer", *both))
    for name, x, y in points:
        chart.dot((x, y), kind="chosen", size=4.5, tip=f"{name}: {x:.1%} of negatives, {y:.1%} of positives")
        chart.label((x + 0.03, y - 0.045), name)
    return chart.render()


def precision_recall(result: EvaluationResult) -> Markup:
    """Draw precision against recall, with the two thresholds on it; nothing for a result that was kept without it."""
    points = result.curves.precision_recall
    if not points:
        return Markup()
    chart = Chart(
        x=(0, 1),
        y=(0, 1),
        x_label="share of positives caught",
        y_label="share of positives among them",
        title="Precision and recall",
    )
    base = result.case_set.positives / result.case_set.cases
    chart.line([(0, base), (1, base)], kind="faint")
    chart.line(points, kind="main")
    rows = {row.decision: row for row in result.confusion}
    caught, mistaken = rows["decline"].positive, rows["decline"].negative
    for name, more in (("decline", 0), ("decline or refer", 1)):
        found, wrong = caught + more * rows["refer"].positive, mistaken + more * rows["refer"].negative
        if found + wrong and (not more or rows["refer"].positive or rows["refer"].negative):
            x, y = found / result.case_set.positives, found / (found + wrong)
            chart.dot((x, y), kind="chosen", size=4.5, tip=f"{name}: catches {x:.1%}, {y:.1%} of them positive")
            chart.label((min(x + 0.03, 0.75), min(y + 0.03, 0.95)), name)
    return chart.render()


def reliability(result: EvaluationResult) -> Markup:
    """Draw predicted against observed rates, with intervals."""
    bins = result.curves.reliability
    top = max(max(b.mean_score for b in bins), max(b.rate.high or b.rate.value for b in bins), 0.05)
    end = min(1.0, top * 1.05)
    chart = Chart(
        x=(0, end), y=(0, end), x_label="mean score", y_label="share that turned out positive", title="Calibration"
    )
    chart.line([(0, 0), (end, end)], kind="faint")
    for one in bins:
        chart.whisker(one.mean_score, one.rate.low or 0.0, min(end, one.rate.high or 0.0), kind="main")
    chart.line([(b.mean_score, b.rate.value) for b in bins], kind="thin")
    for one in bins:
        tip = f"{one.n} cases: mean score {one.mean_score:.3f}, {one.rate.value:.3f} turned out positive"
        chart.dot((one.mean_score, one.rate.value), kind="main", tip=tip)
    chart.label((end * 0.98, end * 0.84), "as predicted", kind="tick", anchor="end")
    return chart.render()


def costs(result: EvaluationResult) -> Markup:
    """Draw expected cost against each threshold while the other stays."""
    decline, refer = result.curves.decline_costs, result.curves.refer_costs
    top = max(cost for _, cost in (*decline, *refer)) * _HEADROOM or 1.0
    chart = Chart(
        x=(0, 1),
        y=(0, top),
        x_label="threshold",
        y_label=f"{result.currency} per case",
        title="Expected cost by threshold",
    )
    possible_decline = [point for point in decline if point[0] <= result.curves.highest_decline]
    possible_refer = [point for point in refer if point[0] >= result.curves.lowest_refer]
    for curve, possible, kind in ((decline, possible_decline, "main"), (refer, possible_refer, "second")):
        chart.line(curve, kind=f"{kind} beyond")
        chart.line(possible, kind=kind)
    for curve, threshold, kind in ((decline, result.decline, "main"), (refer, result.refer, "second")):
        cost = _nearest(curve, threshold)
        chart.dot((threshold, cost), kind=kind, size=4.5, tip=f"{threshold:g}: {cost:,.2f} {result.currency} per case")
    # The names stand on different lines, because the thresholds may be close together.
    chart.upright(result.refer, f"refer {result.refer:g}", kind="second", row=1)
    chart.upright(result.decline, f"decline {result.decline:g}", kind="main")
    return chart.render()


def scores(result: EvaluationResult) -> Markup:
    """Draw how the scores of each label are spread, and where decisions change."""
    bins = result.curves.histogram
    positives, negatives = sum(b.positive for b in bins), sum(b.negative for b in bins)
    top = max(max(b.positive / positives, b.negative / negatives) for b in bins) * _HEADROOM
    chart = Chart(
        x=(0, 1), y=(0, top), x_label="score", y_label="share of cases of that label", title="Scores by label"
    )
    for one in bins:
        negative, positive = one.negative / negatives, one.positive / positives
        chart.box((one.low, 0), (one.high, negative), kind="main", tip=_bin(one))
        chart.box((one.low, 0), (one.high, positive), kind="second", tip=_bin(one))
    chart.upright(result.refer, f"refer {result.refer:g}", kind="plain", row=1)
    chart.upright(result.decline, f"decline {result.decline:g}", kind="plain")
    return chart.render()


def _bin(one: HistogramBin) -> str:
    return f"score {one.low:.2f} to {one.high:.2f}: {one.positive} positive, {one.negative} negative"


def _nearest(curve: Points, threshold: float) -> float:
    return min(curve, key=lambda point: abs(point[0] - threshold))[1]
