"""Golden cases: what cannot be checked is refused when it is written, not when it is too late."""

from types import MappingProxyType

import pytest

from nbkit.contract import Outcome
from nbkit.errors import CaseSetError
from nbkit.evaluate import GoldenCase, load_golden, write_golden


def case(**changes):
    given = {
        "id": "clean-file",
        "why": "Nothing speaks against it.",
        "inputs": {"risk": -3.0},
        "expect": {"decision": "approve"},
    }
    return GoldenCase(**(given | changes))


def test_what_is_written_is_read_back(tmp_path):
    one = case(
        inputs={"risk": -3.0, "kind": None, "owner": True}, expect={"decision": ["approve", "refer"], "score_max": 0.4}
    )
    two = case(id="another", expect={"reason_present": "R01", "reason_absent": ("R02",), "score_min": 0.5})
    for written in (one, two):
        write_golden(written, directory=tmp_path / "cases/golden")
    first, second = load_golden(tmp_path / "cases/golden")
    assert (first.id, second) == ("another", one)
    assert (first.reasons_present, first.reasons_absent, first.score_range) == (("R01",), ("R02",), (0.5, 1.0))
    assert (second.decisions, second.score_range) == (("approve", "refer"), (0.0, 0.4))


def test_outcomes_are_written_as_plain_text(tmp_path):
    path = write_golden(case(expect={"decision": Outcome.APPROVE}), directory=tmp_path)
    assert "decision: approve" in path.read_text()


def test_writing_again_replaces_the_case(tmp_path):
    write_golden(case(), directory=tmp_path)
    write_golden(case(why="Better said."), directory=tmp_path)
    assert [found.why for found in load_golden(tmp_path)] == ["Better said."]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_does_not_exist_holds_no_case(tmp_path):
    assert load_golden(tmp_path / "nowhere") == ()


def test_a_value_that_yaml_cannot_hold_is_refused(tmp_path):
    with pytest.raises(CaseSetError, match="expected plain numbers and text, got <object"):
        write_golden(case(inputs={"risk": object()}), directory=tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": "../x"}, "id: expected letters, digits"),
        ({"why": " "}, "why: expected a sentence"),
        ({"inputs": {}}, "inputs: expected a value for every input"),
        ({"expect": {}}, "expect: expected at least one of decision, score_min"),
        ({"expect": {"decison": "approve"}}, "expect.decison: unknown key"),
        ({"expect": {"decision": "deny"}}, "expect.decision: expected approve, refer, decline, got 'deny'"),
        ({"expect": {"decision": []}}, r"expect.decision: expected text or a list of text, got \[\]"),
        ({"expect": {"score_min": 1.5}}, "expect.score_min: expected a number 0..1, got 1.5"),
        ({"expect": {"score_min": True}}, "expect.score_min: expected a number 0..1, got True"),
        ({"expect": {"score_min": 0.6, "score_max": 0.4}}, "expect.score_min: expected at most score_max 0.4, got 0.6"),
        (
            {"expect": {"reason_present": "R1", "reason_absent": ["R1"]}},
            "reason 'R1' is expected to be present and absent",
        ),
    ],
)
def test_a_case_that_cannot_be_checked_is_refused(changes, text):
    with pytest.raises(CaseSetError, match=text):
        case(**changes)


def test_everything_wrong_in_any_file_is_said_at_once(tmp_path):
    write_golden(case(), directory=tmp_path)
    text = (tmp_path / "clean-file.yaml").read_text()
    (tmp_path / "copy.yaml").write_text(text)
    (tmp_path / "twice.yml").write_text(text + "why: again\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "keys.yaml").write_text(text.replace("why:", "reason:").replace("format: 1", "format: 3"))
    with pytest.raises(CaseSetError) as caught:
        load_golden(tmp_path)
    found = "\n".join(caught.value.problems)
    assert "broken.yaml: not YAML" in found
    assert "list.yaml: expected a mapping, got list" in found
    assert "twice.yml: key 'why' appears twice" in found
    assert "keys.yaml: why: missing" in found
    assert "keys.yaml: reason: unknown key" in found
    assert "keys.yaml: format: expected 1 or 2, got 3" in found
    assert "id 'clean-file' appears twice" in found


def test_any_mapping_will_do():
    assert case(expect=MappingProxyType({"decision": "refer"})).decisions == ("refer",)
