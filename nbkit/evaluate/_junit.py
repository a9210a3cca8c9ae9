"""An evaluation as JUnit XML, which every CI server shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from nbkit.evaluate._result import EvaluationResult

# XML 1.0 has no way to write these, not even escaped.
_UNWRITABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    suite: str
    name: str
    failure: str = ""
    unknown: str = ""
    detail: str = ""


def junit_xml(result: EvaluationResult) -> str:
    """Return one test case for every golden case, incident, behaviour, slice, protected group and the champion.

    What these cases cannot tell is *skipped* with its reason: it neither passes nor fails.
    """
    checks = list(_checks(result))
    root = ET.Element("testsuites", name=_plain(f"nbkit evaluate {result.model}"))
    for suite in dict.fromkeys(check.suite for check in checks):
        inside = [check for check in checks if check.suite == suite]
        element = ET.SubElement(
            root,
            "testsuite",
            name=suite,
            tests=str(len(inside)),
            failures=str(sum(bool(check.failure) for check in inside)),
            errors="0",
            skipped=str(sum(bool(check.unknown) and not check.failure for check in inside)),
        )
        for check in inside:
            case = ET.SubElement(
                element, "testcase", classname=_plain(f"{result.model}.{suite}"), name=_plain(check.name)
            )
            if check.failure:
                failure = ET.SubElement(case, "failure", message=_plain(check.failure))
                failure.text = _plain(check.detail or check.failure)
            elif check.unknown:
                ET.SubElement(case, "skipped", message=_plain(check.unknown))
    properties = ET.Element("properties")
    for name, value in (
        ("package", result.package_digest),
        ("contract", result.contract_digest),
        ("case_set", result.case_set.reference),
        ("summary", result.summary_line),
    ):
        ET.SubElement(properties, "property", name=name, value=_plain(value))
    if len(root):
        root[0].insert(0, properties)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _checks(result: EvaluationResult) -> Iterator[_Check]:
    for case in result.golden:
        yield _Check(
            suite=f"{case.kind} cases", name=case.id, failure=case.problem, detail=f"{case.problem}\n{case.why}"
        )
    if not result.golden:
        yield _Check(suite="golden cases", name="any", unknown="there is no golden case")
    for one in result.behaviours:
        rows = "\n".join(
            f"case {row.case}: {row.changed}: score {row.before:.4f} to {row.after:.4f}" for row in one.examples
        )
        unknown = "" if one.tried else "no case can be changed so"
        yield _Check(
            suite="behaviours", name=one.id, failure=one.problem, unknown=unknown, detail=f"{one.expected}\n{rows}"
        )
    if result.champion:
        verdict, reason = result.champion.verdict, result.champion.reason
        yield _Check(
            suite="champion",
            name=f"not worse than version {result.champion.version}",
            failure=reason if verdict == "worse" else "",
            unknown=reason if verdict == "cannot tell" else "",
        )
    for group in result.groups:
        yield _Check(
            suite="fairness",
            name=f"{group.attribute} {group.group} against {group.reference}",
            failure=group.reason if group.verdict == "fail" else "",
            unknown=group.reason if group.verdict == "cannot tell" else "",
        )


def _plain(text: str) -> str:
    return _UNWRITABLE.sub("?", text)
