"""The figures of one version on one case set, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.evaluate._bootstrap import centred, from_resamples, mean_estimate, wilson
from nbkit.evaluate._calibration import calibration_error
from nbkit.evaluate._decide import APPROVE, DECLINE, REFER
from nbkit.evaluate._delong import Estimate, auc_estimate
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._resample import Ordered, Step, figures_of, resample, resample_count

# As scikit-learn clips: a score of exactly 0 or 1 that is wrong would otherwise lose infinitely much.
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure on the case set.

    Parameters
    ----------
    name : str
        As gates name it.
    value : float
        The figure.
    low, high : float or None
        Ends of its confidence interval; None where none can be computed.
    method : str
        How the interval was computed.
    n : int
        Number of cases.
    note : str
        What has to be known to read the figure: at which false positive rate, of how many, with which bias.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    method: str
    n: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one version did with every case.

    Parameters
    ----------
    scores : numpy.ndarray
        Shape (n,).
    labels : numpy.ndarray
        Whether each case turned out positive, shape (n,), bool.
    decisions : numpy.ndarray
        0 (approve), 1 (refer) or 2 (decline), shape (n,).
    costs : numpy.ndarray
        Money lost by each decision, given what turned out true; shape (n,).
    """

    scores: Floats
    labels: NDArray[np.bool_]
    decisions: NDArray[np.int64]
    costs: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """At what every figure is measured.

    Parameters
    ----------
    confidence : float
        Of every interval.
    resamples : int
        Bootstrap resamples; of very large sets fewer are drawn.
    review_capacity : float
        Share of cases that people can look at.
    false_positive_rate : float
        At which recall is measured.
    """

    confidence: float
    resamples: int
    review_capacity: float
    false_positive_rate: float

    @classmethod
    def of(cls, contract: Contract) -> Terms:
        return cls(
            confidence=contract.evaluate.confidence,
            resamples=contract.evaluate.resamples,
            review_capacity=contract.decision.review_capacity,
            false_positive_rate=contract.evaluate.false_positive_rate,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    estimate: Estimate
    method: str
    note: str = ""


def measure(judged: Judged, *, terms: Terms, rng: np.random.Generator, step: Step) -> tuple[Metric, ...]:
    """Compute every metric; ``step`` is told the share that is done."""
    found = {
        **_ranking(judged, terms=terms, rng=rng, step=step),
        **_probabilities(judged, terms=terms, rng=rng),
        **_decisions(judged, terms=terms, rng=rng),
    }
    return tuple(
        Metric(
            name=name,
            value=one.estimate.value,
            low=one.estimate.low,
            high=one.estimate.high,
            method=one.method,
            n=len(judged.scores),
            note=one.note,
        )
        for name, one in found.items()
    )


def squared_errors(judged: Judged) -> Floats:
    """Return each case's share of the Brier score."""
    errors: Floats = (judged.scores - judged.labels) ** 2
    return errors


def log_losses(judged: Judged) -> Floats:
    """Return each case's share of the log loss."""
    clipped = np.clip(judged.scores, _SMALLEST, 1 - _SMALLEST)
    losses: Floats = -np.where(judged.labels, np.log(clipped), np.log1p(-clipped))
    return losses


def _ranking(judged: Judged, *, terms: Terms, rng: np.random.Generator, step: Step) -> Mapping[str, _Found]:
    cases, share, rate = len(judged.scores), terms.review_capacity, terms.false_positive_rate
    area = auc_estimate(judged.scores, judged.labels, confidence=terms.confidence)
    low, high = (None if end is None else 2 * end - 1 for end in (area.low, area.high))
    scale = "DeLong, logit scale, Student's t"
    found = {
        "auc": _Found(estimate=area, method=scale),
        "gini": _Found(estimate=Estimate(value=2 * area.value - 1, low=low, high=high), method=scale),
    }
    ordered = Ordered.of(judged.scores, judged.labels)
    plain = figures_of(ordered, share=share, rate=rate)
    count = resample_count(terms.resamples, cases=cases)
    drawn = resample([ordered], share=share, rate=rate, resamples=count, rng=rng, step=step)
    reviewed = max(1, int(share * cases + 1e-9))
    notes = {
        "recall_at_fpr": f"at a false positive rate of at most {rate:g}",
        "precision_at_capacity": f"among the {reviewed:,} highest scores, {share:g} of all",
    }
    for name in ("average_precision", "ks", "recall_at_fpr", "precision_at_capacity"):
        interval = centred if name == "ks" else from_resamples
        estimate, method = interval(plain[name], drawn.of(name), confidence=terms.confidence)
        found[name] = _Found(estimate=estimate, method=method, note=notes.get(name, ""))
    return found


def _probabilities(judged: Judged, *, terms: Terms, rng: np.random.Generator) -> Mapping[str, _Found]:
    found = {}
    for name, amounts in (("brier", squared_errors(judged)), ("log_loss", log_losses(judged))):
        estimate, method = mean_estimate(amounts, confidence=terms.confidence, resamples=terms.resamples, rng=rng)
        found[name] = _Found(estimate=estimate, method=method)
    error = calibration_error(
        judged.scores, judged.labels, confidence=terms.confidence, resamples=terms.resamples, rng=rng
    )
    found["ece"] = _Found(
        estimate=error.raw,
        method=f"centred percentile bootstrap of the bins, {terms.resamples:,} resamples",
        note=f"{error.bins} bins; biased upwards: a perfectly calibrated score would show {error.noise:.4f} here",
    )
    found["ece_debiased"] = _Found(
        estimate=Estimate(value=error.debiased),
        method="none: gaps shrunk until chance explains the rest",
        note=f"{error.bins} bins",
    )
    return found


def _decisions(judged: Judged, *, terms: Terms, rng: np.random.Generator) -> Mapping[str, _Found]:
    estimate, method = mean_estimate(judged.costs, confidence=terms.confidence, resamples=terms.resamples, rng=rng)
    found = {"expected_cost": _Found(estimate=estimate, method=method)}
    for name, decision in (("approval_rate", APPROVE), ("refer_rate", REFER), ("decline_rate", DECLINE)):
        hits = int((judged.decisions == decision).sum())
        share = wilson(hits, of=len(judged.scores), confidence=terms.confidence)
        found[name] = _Found(estimate=share, method="Wilson")
    return found
