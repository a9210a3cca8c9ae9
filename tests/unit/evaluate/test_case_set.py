"""Rows, golden cases, incidents and behaviours under one digest."""

import json

import pytest
import yaml

from nbkit.errors import CaseSetError
from nbkit.evaluate import (
    Behaviour,
    GoldenCase,
    case_set_references,
    freeze_cases,
    freeze_rows,
    load_cases,
    load_expectations,
    read_expectations,
    write_case_set,
    write_golden,
)

ROW = {"risk": -3.0, "income": 2000.0, "kind": "fixed", "owner": True}


def golden(**changes):
    return GoldenCase(
        **({"id": "safe", "why": "It is safe.", "inputs": ROW, "expect": {"decision": "approve"}} | changes)
    )


def behaviour(**changes):
    given = {"id": "risk", "why": "w", "kind": "direction", "change": {"risk": {"add": 1}}, "expect": "not_lower"}
    return Behaviour(**(given | changes))


@pytest.fixture
def held_back(rows):
    return rows.iloc[:40]


@pytest.fixture
def freeze(rows, contract, make_contract, tmp_path):
    """Freeze what lies in the folder, as the verb does; return the contract that pins it."""
    cases = freeze_cases(rows.iloc[40:], contract=contract, directory=tmp_path, share=0.3, seed=0)

    def call(parts=cases.parts, **given):
        found, behaviours = read_expectations(tmp_path, contract=contract)
        reference = write_case_set(
            tmp_path, contract=contract, name="holdout", parts=parts, golden=found, behaviours=behaviours, **given
        )
        return make_contract(evaluate={"case_set": reference, "slices": ["kind"]})

    return call


@pytest.fixture
def written(tmp_path):
    """A golden case, an incident and a behaviour in the folder."""
    write_golden(golden(), directory=tmp_path / "cases/golden")
    write_golden(golden(id="wrong-once", record={"id": "r1", "version": 6}), directory=tmp_path / "cases/incidents")
    (tmp_path / "cases/behaviours").mkdir(parents=True)
    (tmp_path / "cases/behaviours/risk.yaml").write_text(yaml.safe_dump(behaviour().document()))
    return tmp_path


def test_a_set_holds_rows_and_every_kind_of_expectation(freeze, written):
    contract = freeze()
    cases = load_cases(written, contract=contract)
    assert len(cases) == pytest.approx(0.3 * 360, abs=1)
    assert [(case.kind, case.id) for case in cases.golden] == [("golden", "safe"), ("incident", "wrong-once")]
    assert [one.id for one in cases.behaviours] == ["risk"]
    assert cases.expectations_frozen
    assert cases.reference == contract.evaluate.case_set
    place, digest = cases.reference.split("@")
    assert place == f"cases/holdout-{digest.removeprefix('sha256:')[:12]}.json"
    assert load_expectations(written, contract=contract, cases=cases).unfrozen == ()


def test_the_digest_does_not_depend_on_order_or_layout_of_the_files(freeze, written):
    first = freeze().evaluate.case_set
    path = written / "cases/golden/safe.yaml"
    document = yaml.safe_load(path.read_text())
    path.write_text("# a comment\n" + yaml.safe_dump(dict(reversed(document.items())), default_flow_style=True))
    assert freeze().evaluate.case_set == first


@pytest.mark.parametrize(
    "place", ["cases/golden/safe.yaml", "cases/incidents/wrong-once.yaml", "cases/behaviours/risk.yaml"]
)
def test_whatever_is_edited_or_removed_after_freezing_is_named(freeze, written, place):
    contract = freeze()
    cases = load_cases(written, contract=contract)
    path = written / place
    path.write_text(path.read_text().replace("why: ", "why: not "))
    with pytest.raises(CaseSetError, match=rf"{place}: edited after freezing\. Next: restore them, or say why: nbkit"):
        load_expectations(written, contract=contract, cases=cases)
    path.unlink()
    with pytest.raises(CaseSetError, match=f"{place}: removed after freezing"):
        load_expectations(written, contract=contract, cases=cases)


def test_what_is_written_after_freezing_is_judged_and_said_to_be_unfrozen(freeze, written):
    contract = freeze()
    write_golden(golden(id="new"), directory=written / "cases/golden")
    expected = load_expectations(written, contract=contract, cases=load_cases(written, contract=contract))
    assert [case.id for case in expected.golden] == ["new", "safe", "wrong-once"]
    assert expected.unfrozen == ("cases/golden/new.yaml",)
    after = freeze(previous="sha256:1", why="one more")
    assert after.evaluate.case_set != contract.evaluate.case_set
    cases = load_cases(written, contract=after)
    assert (len(cases.golden), cases.previous, cases.why) == (3, "sha256:1", "one more")
    # The earlier set stays where it is, so versions that were judged on it can be judged again.
    assert {contract.evaluate.case_set, after.evaluate.case_set} <= set(case_set_references(written))


def test_rows_alone_freeze_no_expectation(rows, contract, pinned, written):
    cases = freeze_cases(rows, contract=contract, directory=written, share=0.3, seed=0)
    expected = load_expectations(written, contract=pinned(cases), cases=cases)
    assert (len(expected.golden), len(expected.behaviours), expected.unfrozen) == (2, 1, ())


def test_rows_are_added_as_one_more_file_and_nothing_is_stored_twice(freeze, held_back, contract, tmp_path):
    first = load_cases(tmp_path, contract=freeze())
    frauds = held_back[held_back.bad == 1]
    part = freeze_rows(frauds, contract=contract, directory=tmp_path, name="holdout-2", taken=first.ids)
    assert (part.cases, part.positives) == (len(frauds), len(frauds))
    both = load_cases(tmp_path, contract=freeze(parts=[*first.parts, part]))
    assert len(both) == len(first) + len(frauds)
    assert list(both.ids) == sorted(both.ids)
    assert both.labels.sum() == first.labels.sum() + len(frauds)
    assert both.digest != first.digest
    with pytest.raises(CaseSetError, match=rf"id {frauds.loan_id.iloc[0]} is in the case set already"):
        freeze_rows(frauds, contract=contract, directory=tmp_path, name="holdout-3", taken=both.ids)


def test_an_edited_file_of_rows_or_an_edited_set_is_named(freeze, tmp_path):
    contract = freeze()
    path = tmp_path / "cases/holdout.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"label":1', b'"label":0', 1))
    with pytest.raises(CaseSetError, match=r"cases/holdout\.jsonl: edited after freezing: expected sha256:"):
        load_cases(tmp_path, contract=contract)
    place = tmp_path / contract.evaluate.case_set.split("@")[0]
    place.write_bytes(place.read_bytes() + b" ")
    with pytest.raises(CaseSetError, match=r"cases/holdout-[0-9a-f]{12}\.json: edited after freezing"):
        load_cases(tmp_path, contract=contract)


def test_an_input_that_the_contract_dropped_stays_for_a_version_that_has_it(freeze, make_contract, contract, tmp_path):
    pin = freeze().evaluate.case_set
    fewer = [column.model_dump() for column in contract.inputs if column.name not in ("income", "kind")]
    cases = load_cases(tmp_path, contract=make_contract(inputs=fewer, evaluate={"case_set": pin}))
    assert cases.inputs == ("risk", "owner")
    assert cases.columns[-2:] == ("income", "kind")
    assert list(cases.rows.columns) == ["risk", "owner"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 3}, "format: expected 2, got 3"),
        ({"kind": "other"}, "kind: expected 'nbkit.case-set', got 'other'"),
        ({"rows": []}, "rows: expected at least one file"),
        ({"rows": [{"path": "../x", "digest": "d", "cases": 1, "positives": 0}]}, "rows: '../x' leads outside"),
        ({"extra": 1}, "Object contains unknown field `extra`"),
    ],
)
def test_a_file_that_is_no_case_set_is_refused(freeze, make_contract, tmp_path, change, problem):
    from hashlib import sha256

    place = freeze().evaluate.case_set.split("@")[0]
    body = json.dumps(json.loads((tmp_path / place).read_text()) | change).encode()
    (tmp_path / place).write_bytes(body)
    contract = make_contract(evaluate={"case_set": f"{place}@sha256:{sha256(body).hexdigest()}"})
    with pytest.raises(CaseSetError) as caught:
        load_cases(tmp_path, contract=contract)
    assert problem in str(caught.value)


def test_a_golden_case_and_an_incident_do_not_share_an_id(written, contract):
    write_golden(golden(id="safe", record={"id": "r2"}), directory=written / "cases/incidents")
    with pytest.raises(CaseSetError, match=r"id 'safe' appears in both\. Next: rename one of them"):
        read_expectations(written, contract=contract)


def test_a_column_that_neither_contract_nor_header_knows_is_an_error(rows, contract, pinned, tmp_path):
    from hashlib import sha256

    cases = freeze_cases(rows, contract=contract, directory=tmp_path, share=0.3, seed=0)
    path = tmp_path / "cases/holdout.jsonl"
    lines = path.read_text().splitlines()
    line = json.loads(lines[1])
    line["inputs"]["shoe_size"] = 43
    lines[1] = json.dumps(line)
    path.write_text("\n".join(lines) + "\n")
    from dataclasses import replace

    reference = f"cases/holdout.jsonl@sha256:{sha256(path.read_bytes()).hexdigest()}"
    with pytest.raises(CaseSetError, match="'shoe_size' is a column that neither contract nor header knows"):
        load_cases(tmp_path, contract=pinned(replace(cases, reference=reference)))
