"""Judge a model version on frozen cases: figures with intervals, costs, slices, golden cases, champion, fairness."""

from nbkit.evaluate._behaviour_check import BehaviourExample, BehaviourResult, behaviour_results
from nbkit.evaluate._behaviours import Behaviour, load_behaviours
from nbkit.evaluate._bootstrap import wilson
from nbkit.evaluate._case_record import MOST_RECORDED, CaseRecord, scores_of
from nbkit.evaluate._case_set import (
    Expectations,
    case_set_references,
    load_cases,
    load_expectations,
    read_expectations,
    write_case_set,
)
from nbkit.evaluate._cases import CaseSet, RowsPart
from nbkit.evaluate._champion import ChampionComparison
from nbkit.evaluate._comparison import DecisionChange, Difference, Flip, McNemar, SliceComparison
from nbkit.evaluate._contenders import (
    Contender,
    ContenderResult,
    at_equal_rates,
    by_answers,
    by_scores,
    contend,
)
from nbkit.evaluate._costs import cost_functions, money_of
from nbkit.evaluate._curves import CalibrationBin, ConfusionRow, Curves, HistogramBin
from nbkit.evaluate._delong import Estimate, auc_difference, auc_estimate
from nbkit.evaluate._evaluate import evaluate_package
from nbkit.evaluate._fair_measures import Disparities, GroupMeasure
from nbkit.evaluate._fairness import AttributeResult, GroupResult, impact_ratio
from nbkit.evaluate._flips import mcnemar
from nbkit.evaluate._freeze import freeze_cases, freeze_rows
from nbkit.evaluate._golden import GoldenCase, load_golden, write_golden
from nbkit.evaluate._judge_cases import case_money, judge_cases
from nbkit.evaluate._lda import find_alternatives
from nbkit.evaluate._lda_ledger import LdaEntry, LdaGroup, LdaLedger
from nbkit.evaluate._leaks import Leak, find_leaks, refuse_leaks
from nbkit.evaluate._leaks_between import find_split_leaks, refuse_split_leaks
from nbkit.evaluate._metrics import Judged, Metric
from nbkit.evaluate._plugged import CaseMetric, DataCheck
from nbkit.evaluate._proxy import ProxyResult
from nbkit.evaluate._records_compared import RecordsCompared, compare_records
from nbkit.evaluate._result import CaseSetFacts, EvaluationResult, GoldenResult
from nbkit.evaluate._search import FoundSlice, SliceSearch
from nbkit.evaluate._slices import SliceResult
from nbkit.evaluate._split import Split, split
from nbkit.evaluate._threshold import GroupLimit, ThresholdChoice, choose_thresholds, group_limits

__all__ = [
    "MOST_RECORDED",
    "AttributeResult",
    "Behaviour",
    "BehaviourExample",
    "BehaviourResult",
    "CalibrationBin",
    "CaseMetric",
    "CaseRecord",
    "CaseSet",
    "CaseSetFacts",
    "ChampionComparison",
    "ConfusionRow",
    "Contender",
    "ContenderResult",
    "Curves",
    "DataCheck",
    "DecisionChange",
    "Difference",
    "Disparities",
    "Estimate",
    "EvaluationResult",
    "Expectations",
    "Flip",
    "FoundSlice",
    "GoldenCase",
    "GoldenResult",
    "GroupLimit",
    "GroupMeasure",
    "GroupResult",
    "HistogramBin",
    "Judged",
    "LdaEntry",
    "LdaGroup",
    "LdaLedger",
    "Leak",
    "McNemar",
    "Metric",
    "ProxyResult",
    "RecordsCompared",
    "RowsPart",
    "SliceComparison",
    "SliceResult",
    "SliceSearch",
    "Split",
    "ThresholdChoice",
    "at_equal_rates",
    "auc_difference",
    "auc_estimate",
    "behaviour_results",
    "by_answers",
    "by_scores",
    "case_money",
    "case_set_references",
    "choose_thresholds",
    "compare_records",
    "contend",
    "cost_functions",
    "evaluate_package",
    "find_alternatives",
    "find_leaks",
    "find_split_leaks",
    "freeze_cases",
    "freeze_rows",
    "group_limits",
    "impact_ratio",
    "judge_cases",
    "load_behaviours",
    "load_cases",
    "load_expectations",
    "load_golden",
    "mcnemar",
    "money_of",
    "read_expectations",
    "refuse_leaks",
    "refuse_split_leaks",
    "scores_of",
    "split",
    "wilson",
    "write_case_set",
    "write_golden",
]
