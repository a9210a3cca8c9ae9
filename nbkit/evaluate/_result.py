"""What an evaluation found: frozen, and readable as JSON."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import rfc8785

from nbkit.errors import EvaluationError
from nbkit.evaluate._behaviour_check import BehaviourResult
from nbkit.evaluate._champion import ChampionComparison
from nbkit.evaluate._contenders import ContenderResult
from nbkit.evaluate._curves import ConfusionRow, Curves
from nbkit.evaluate._facts import champion_facts, group_facts, measure_facts
from nbkit.evaluate._fair_measures import Disparities, GroupMeasure
from nbkit.evaluate._fairness import AttributeResult, GroupResult, nobody
from nbkit.evaluate._metrics import Metric
from nbkit.evaluate._search import SliceSearch
from nbkit.evaluate._slices import SliceResult

# Raising it: write a golden file of the new format in tests/unit/evaluate/formats, give every new field a default that
# says "not computed", and list the old format here.
EVALUATION_FORMAT = 2
_READABLE = (1, EVALUATION_FORMAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSetFacts:
    """Which cases judged the version.

    Parameters
    ----------
    reference : str
        ``path@sha256:…``.
    digest, pinned : str
        What was used, and what the package's contract pins (empty when nothing).
    cases, positives : int
        How many cases, and how many of them turned out positive.
    """

    reference: str
    digest: str
    pinned: str
    cases: int
    positives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """What the version answered to one golden case.

    Parameters
    ----------
    id, why : str
        The case's.
    expected : str
        What people agreed on, in words.
    decision : str
        What was answered; empty when the inputs break the contract.
    score : float or None
        None when a rule answered.
    problem : str
        How the answer differs from what was expected; empty when it does not.
    kind : str
        ``golden`` or ``incident``.
    """

    id: str
    why: str
    expected: str
    decision: str
    score: float | None
    problem: str
    kind: str = "golden"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """How one package did on a frozen case set.

    Parameters
    ----------
    model, title : str
        The contract's name and title.
    target : str
        What the score is the probability of, in words.
    package_digest, contract_digest : str
        What was judged.
    currency : str
        Of all costs.
    refer, decline : float
        The package's thresholds.
    review_capacity : float
        Share of decisions that people can review.
    confidence : float
        Of every interval.
    seed : int
        Of every resample.
    case_set : CaseSetFacts
        On what it was judged.
    metrics : tuple of Metric
        Each with its interval.
    confusion : tuple of ConfusionRow
        Decisions by label.
    curves : Curves
        What the figures are drawn from.
    slices : tuple of SliceResult
        The same on parts of the cases.
    golden : tuple of GoldenResult
        The golden cases.
    champion : ChampionComparison or None
        None when there is no champion yet.
    impact_ratio_floor : float
        From the contract.
    fairness : tuple of AttributeResult
        By protected attribute.
    alternatives : dict
        Figures of other models that were tried, by name.
    search : SliceSearch or None
        The slices that were looked for in addition to the declared ones; None when none were.
    decided_by : str
        How scores became decisions: ``thresholds``, or ``rules and thresholds`` as the service decides.
    ruled : int
        Cases that rules decided otherwise than the thresholds alone.
    behaviours : tuple of BehaviourResult
        How every behaviour held on the rows of the case set.
    unfrozen : tuple of str
        Golden cases and behaviours that the digest of the case set does not cover.
    disparities : Disparities or None
        What else differs between groups, intersections, proxies; None where it was not measured.
    contenders : tuple of ContenderResult
        This version and what else could decide, in one table: rules alone, the fallback, a vendor's score.
    record : str
        Digest of the record of every case's score and decision; empty when none is kept.
    """

    model: str
    title: str
    target: str
    package_digest: str
    contract_digest: str
    currency: str
    refer: float
    decline: float
    review_capacity: float
    confidence: float
    seed: int
    case_set: CaseSetFacts
    metrics: tuple[Metric, ...]
    confusion: tuple[ConfusionRow, ...]
    curves: Curves
    slices: tuple[SliceResult, ...]
    golden: tuple[GoldenResult, ...]
    champion: ChampionComparison | None
    impact_ratio_floor: float
    fairness: tuple[AttributeResult, ...]
    alternatives: dict[str, dict[str, float]]
    search: SliceSearch | None = None
    decided_by: str = "thresholds"
    ruled: int = 0
    behaviours: tuple[BehaviourResult, ...] = ()
    unfrozen: tuple[str, ...] = ()
    disparities: Disparities | None = None
    contenders: tuple[ContenderResult, ...] = ()
    record: str = ""

    def metric(self, name: str) -> Metric:
        """Return one metric.

        Parameters
        ----------
        name : str
            As gates name it.

        Returns
        -------
        Metric
            With its interval.

        Raises
        ------
        KeyError
            No metric of that name was computed.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    @property
    def objections(self) -> tuple[str, ...]:
        """What speaks against the version, as sentences."""
        failed = [case.id for case in self.golden if case.problem]
        found = [f"{len(failed)} of {len(self.golden)} golden cases failed ({', '.join(failed)})"] if failed else []
        broken = [one.id for one in self.behaviours if one.problem]
        if broken:
            found.append(f"{len(broken)} of {len(self.behaviours)} behaviours do not hold ({', '.join(broken)})")
        if self.champion and self.champion.verdict == "worse":
            found.append(f"worse than version {self.champion.version}: {self.champion.reason}")
        found += [_sentence(group) for group in self.groups if group.verdict == "fail"]
        found += [_measure_sentence(one) for one in self.measures if one.verdict == "fail"]
        return tuple(found)

    @property
    def open_questions(self) -> tuple[str, ...]:
        """What these cases cannot tell, as sentences."""
        found = [] if self.golden else ["no golden case exists"]
        found += [f"behaviour {one.id} fits no case" for one in self.behaviours if one.tried == 0]
        if self.champion and self.champion.verdict == "cannot tell":
            found.append(f"against version {self.champion.version}: {self.champion.reason}")
        found += [_sentence(group) for group in self.groups if group.verdict == "cannot tell"]
        found += [_measure_sentence(one) for one in self.measures if one.verdict == "cannot tell"]
        return tuple(found)

    @property
    def verdict(self) -> str:
        """``fail`` with an objection, ``cannot tell`` with an open question only, otherwise ``pass``."""
        if self.objections:
            return "fail"
        return "cannot tell" if self.open_questions else "pass"

    @property
    def groups(self) -> tuple[GroupResult, ...]:
        """Every protected group but the references, and intersections where the contract judges them.

        An attribute that no case tells anything about is there as a group of nobody, so that it never passes unseen.
        """
        more = self.disparities
        judged = (*self.fairness, *(more.intersections if more and more.intersections_judged else ()))
        return tuple(group for attribute in judged for group in attribute.groups or (nobody(attribute),))

    @property
    def measures(self) -> tuple[GroupMeasure, ...]:
        """Every other figure by group that the contract sets a limit to."""
        found = self.disparities.measures if self.disparities else ()
        return tuple(measure for measure in found if measure.limit is not None)

    @property
    def summary_line(self) -> str:
        """The verdict and the main figures in one line."""
        objections, questions = len(self.objections), len(self.open_questions)
        parts = [f"{objections} objection{'s' * (objections != 1)}" if objections else "no objection"]
        if questions:
            parts.append(f"{questions} open question{'s' * (questions != 1)}")
        area, cost = self.metric("auc"), self.metric("expected_cost")
        figures = f"AUC {_interval(area, digits=3)}, cost per case {_interval(cost, digits=2)} {self.currency}"
        against = "no champion yet"
        if self.champion:
            relation = {"better": "better than", "worse": "worse than", "no difference": "like"}
            against = f"{relation.get(self.champion.verdict, 'cannot tell against')} version {self.champion.version}"
        return f"{', '.join(parts)}: {figures} on {self.case_set.cases:,} cases; {against}"

    def facts(self) -> dict[str, object]:
        """Return what gates read, as plain JSON values.

        Returns
        -------
        dict
            ``case_set``, ``metrics``, ``golden``, ``behaviours``,
            ``champion``, ``fairness`` and ``thresholds``; parity, rationale,
            owner and scan are known elsewhere.
        """
        return {
            "case_set": msgspec.to_builtins(self.case_set),
            "metrics": {m.name: {"value": m.value, "low": m.low, "high": m.high} for m in self.metrics},
            "thresholds": {"refer": self.refer, "decline": self.decline},
            "golden": {
                "total": len(self.golden),
                "failed": [{"id": case.id, "problem": case.problem} for case in self.golden if case.problem],
            },
            "behaviours": {
                "total": len(self.behaviours),
                "tried": sum(one.tried for one in self.behaviours),
                "failed": [{"id": one.id, "problem": one.problem} for one in self.behaviours if one.problem],
                "untried": [one.id for one in self.behaviours if one.tried == 0],
            },
            "champion": None if self.champion is None else champion_facts(self.champion),
            "fairness": {
                "floor": self.impact_ratio_floor,
                "groups": [group_facts(group) for group in self.groups],
                "measures": [measure_facts(measure) for measure in self.measures],
            },
        }

    def to_json(self) -> str:
        """Return the result as canonical JSON, format 2.

        Returns
        -------
        str
            The facts for gates are part of it.
        """
        document = {
            "format": EVALUATION_FORMAT,
            "model": self.model,
            "package_digest": self.package_digest,
            "contract_digest": self.contract_digest,
            "case_set": self.case_set.reference,
            "verdict": self.verdict,
            "summary": self.summary_line,
            "facts": self.facts(),
            "result": msgspec.to_builtins(self),
        }
        return bytes(rfc8785.dumps(document)).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> EvaluationResult:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            JSON of any format that nbkit has written.

        Returns
        -------
        EvaluationResult
            Equal to the one that was written.

        Raises
        ------
        EvaluationError
            Not such JSON, or of a format that this nbkit does not know.
        """
        try:
            document = msgspec.json.decode(text, type=dict[str, object])
            if document.get("format") not in _READABLE:
                raise EvaluationError(
                    f"evaluation: format: expected at most {EVALUATION_FORMAT}, got {document.get('format')!r}",
                    next_step="nbkit evaluate NAME",
                )
            return msgspec.convert(document.get("result"), type=cls)
        except msgspec.DecodeError as error:
            raise EvaluationError(f"evaluation: {error}", next_step="nbkit evaluate NAME") from None

    def to_html(self) -> str:
        """Return the report as one self-contained HTML file.

        Returns
        -------
        str
            It needs no network and no script; pictures are inline.
        """
        from nbkit.evaluate._report import report_html

        return report_html(self)

    def to_junit(self) -> str:
        """Return the result as JUnit XML, for a CI server.

        Returns
        -------
        str
            A test case for every golden case, incident, behaviour, protected group, and for the champion.
        """
        from nbkit.evaluate._junit import junit_xml

        return junit_xml(self)

    def _repr_html_(self) -> str:
        return f"<p><b>{self.model}</b> {self.summary_line}</p>"


def _interval(metric: Metric, *, digits: int) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:,.{digits}f}"
    return f"{metric.value:,.{digits}f} ({metric.low:,.{digits}f} to {metric.high:,.{digits}f})"


def _sentence(group: GroupResult) -> str:
    told = f"; about {group.n_that_would_tell:,} cases of the group would tell" if group.n_that_would_tell else ""
    return f"approval of {group.attribute} {group.group!r} against {group.reference!r}: {group.reason}{told}"


def _measure_sentence(measure: GroupMeasure) -> str:
    told = f"; about {measure.n_that_would_tell:,} such cases would tell" if measure.n_that_would_tell else ""
    name = measure.measure.replace("_", " ")
    return f"{name} of {measure.attribute} {measure.group!r}: {measure.reason}{told}"
