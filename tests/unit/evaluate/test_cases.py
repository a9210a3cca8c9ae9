"""A case set is frozen once, found by its digest, and refused when it is not what was frozen."""

import json

import numpy as np
import pandas as pd
import pytest

import nbkit.evaluate
from nbkit.errors import CaseSetError
from nbkit.evaluate import freeze_cases, load_cases


@pytest.fixture
def freeze(rows, contract, tmp_path):
    def call(frame=rows, **changes):
        return freeze_cases(frame, **({"contract": contract, "directory": tmp_path, "share": 0.3, "seed": 0} | changes))

    return call


def test_every_exported_name_resolves():
    for name in nbkit.evaluate.__all__:
        assert getattr(nbkit.evaluate, name) is not None


class TestFreezing:
    def test_loading_gives_back_what_was_frozen(self, freeze, pinned, tmp_path):
        frozen = freeze()
        loaded = load_cases(tmp_path, contract=pinned(frozen))
        assert loaded.frame.equals(frozen.frame)
        assert (loaded.digest, loaded.reference, loaded.ids) == (frozen.digest, frozen.reference, frozen.ids)
        assert frozen.reference == f"cases/holdout.jsonl@{frozen.digest}"
        assert np.array_equal(loaded.labels, frozen.labels)

    def test_the_draw_depends_on_ids_not_on_the_order_of_rows(self, freeze, rows, tmp_path):
        first = freeze().digest
        again = freeze(rows.sample(frac=1, random_state=3), directory=tmp_path / "other")
        assert again.digest == first

    def test_another_seed_draws_other_rows(self, freeze):
        assert set(freeze(name="one", seed=1).ids) != set(freeze(name="two", seed=2).ids)

    def test_the_draw_is_stratified_by_the_target(self, freeze, rows):
        cases = freeze()
        assert len(cases) == pytest.approx(0.3 * len(rows), abs=1)
        assert cases.labels.mean() == pytest.approx((rows.bad == 1).mean(), abs=0.005)

    def test_rows_are_sorted_by_id_and_ids_keep_their_type(self, freeze, rows):
        cases = freeze()
        assert list(cases.ids) == sorted(cases.ids)
        assert rows.loan_id.isin(cases.ids).sum() == len(cases)

    def test_only_columns_of_the_contract_are_kept(self, freeze, contract):
        cases = freeze()
        assert cases.columns == ("loan_id", "risk", "income", "kind", "owner", "group", "bad")
        assert list(cases.rows.columns) == [column.name for column in contract.inputs]

    def test_sentinels_and_gaps_are_missing_and_numbers_are_float64(self, freeze, rows):
        cases = freeze()
        frame = cases.frame.set_index("loan_id")
        wanted = rows.set_index("loan_id").loc[list(cases.ids)]
        assert (frame.income.isna() == (wanted.income == -1)).all()
        assert (frame.kind.isna() == wanted.kind.isna()).all()
        assert str(frame.risk.dtype) == str(frame.owner.dtype) == str(frame.income.dtype) == "float64"

    def test_the_file_is_canonical_lines_after_a_header(self, freeze, tmp_path):
        freeze()
        lines = (tmp_path / "cases/holdout.jsonl").read_text().splitlines()
        header = json.loads(lines[0])
        assert (header["format"], header["kind"], header["cases"]) == (1, "nbkit.cases", len(lines) - 1)
        first = json.loads(lines[1])
        assert lines[1] == json.dumps(first, sort_keys=True, separators=(",", ":"))
        assert set(first) == {"id", "inputs", "label", "protected"}

    def test_freezing_the_same_again_changes_nothing(self, freeze):
        assert freeze().digest == freeze().digest

    def test_another_set_of_the_same_name_is_refused_unless_replaced(self, freeze):
        freeze()
        with pytest.raises(CaseSetError, match="another case set of that name is frozen"):
            freeze(seed=9)
        assert freeze(seed=9, replace=True)

    def test_labels_and_ids_may_be_text(self, freeze, rows, make_contract, tmp_path):
        frame = rows.assign(bad=rows.bad.map({1: "yes", 0: "no"}), loan_id="L" + rows.loan_id.astype(str))
        target = {"column": "bad", "positive": "yes", "meaning": "bad", "label_delay_days": 1}
        cases = freeze(frame, contract=make_contract(target=target))
        assert cases.ids[0].startswith("L")
        assert cases.labels.sum() == (cases.frame.bad == "yes").sum()

    def test_labels_may_be_booleans_and_whole_floats(self, freeze, rows):
        as_floats = freeze(rows.assign(bad=rows.bad.astype(float), loan_id=rows.loan_id.astype(float)), name="floats")
        as_booleans = freeze(rows.assign(bad=rows.bad.astype(bool)), name="booleans")
        assert as_floats.ids == as_booleans.ids
        assert all(isinstance(found, int) for found in as_floats.ids)
        assert np.array_equal(as_floats.labels, as_booleans.labels)

    def test_a_group_that_is_not_recorded_stays_unknown(self, freeze, rows):
        frame = rows.assign(group=rows.group.where(rows.loan_id % 7 > 0))
        cases = freeze(frame)
        assert cases.frame.group.isna().sum() == sum(found % 7 == 0 for found in cases.ids)

    def test_groups_that_are_numbers_become_text(self, freeze, rows):
        cases = freeze(rows.assign(group=np.where(rows.group == "b", 1.0, 0.0)))
        assert set(cases.frame.group) == {"0", "1"}

    def test_at_least_one_row_of_each_label_is_drawn(self, freeze, rows):
        frame = rows.assign(bad=(rows.index == 5).astype(int))
        assert freeze(frame, share=0.05).labels.sum() == 1


def test_a_write_that_fails_leaves_nothing_behind(freeze, tmp_path, monkeypatch):
    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        freeze()
    assert list((tmp_path / "cases").iterdir()) == []


class TestRefusingRows:
    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda f: f.drop(columns=["risk", "group"]), "2 problems: risk: missing; group: missing"),
            (lambda f: f.assign(risk=f.risk.where(f.index > 2)), r"\$\.risk: expected .* in row 0 and 2 more"),
            (lambda f: f.assign(kind="other"), r"\$\.kind: expected one of 'fixed', 'adjustable', got 'other'"),
            (lambda f: f.assign(risk=np.inf), r"\$\.risk: expected"),
            (lambda f: f.assign(loan_id=f.loan_id.replace(1003, 1002)), "row 3: id 1002 appears twice"),
            (lambda f: f.assign(loan_id=f.loan_id.where(f.index > 1)), "row 0: expected an id, got nan"),
            (lambda f: f.assign(loan_id=f.loan_id + 2**53), "too large for JSON; make it text"),
            (lambda f: f.assign(loan_id=[*f.loan_id[:-1], "x"]), "ids: expected all numbers or all text, got both"),
            (lambda f: f.assign(bad=f.bad.where(f.index > 2)), "column 'bad' has no label in 3 of 400 rows"),
            (lambda f: f.assign(bad=0), "0 of 400 cases have bad == 1: expected some of both labels"),
            (lambda f: f.assign(bad=f.bad.astype(str)), "0 of 400 cases have bad == 1"),
        ],
    )
    def test_rows_that_cannot_be_judged_are_refused(self, freeze, rows, change, text, tmp_path):
        with pytest.raises(CaseSetError, match=text):
            freeze(change(rows))
        assert not (tmp_path / "cases").exists()

    def test_a_column_that_appears_twice_is_refused(self, freeze, rows):
        with pytest.raises(CaseSetError, match="risk: appears twice"):
            freeze(pd.concat([rows, rows[["risk"]]], axis=1))

    @pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
    def test_the_share_must_be_a_share(self, freeze, share):
        with pytest.raises(CaseSetError, match="share: expected above 0 and at most 1"):
            freeze(share=share)

    @pytest.mark.parametrize("name", ["../x", ".hidden", "a/b"])
    def test_the_name_must_be_a_plain_file_name(self, freeze, name):
        with pytest.raises(CaseSetError, match="expected a plain file name"):
            freeze(name=name)


class TestLoading:
    def test_nothing_pinned_says_what_to_type(self, tmp_path, contract):
        with pytest.raises(CaseSetError, match=r"no case set is frozen\. Next: nbkit freeze NAME"):
            load_cases(tmp_path, contract=contract)

    def test_a_missing_file_is_named(self, freeze, pinned, tmp_path):
        frozen = freeze()
        (tmp_path / "cases/holdout.jsonl").unlink()
        with pytest.raises(CaseSetError, match=r"cases/holdout\.jsonl: cannot be read: No such file"):
            load_cases(tmp_path, contract=pinned(frozen))

    def test_one_edited_label_is_noticed(self, freeze, pinned, tmp_path):
        frozen = freeze()
        path = tmp_path / "cases/holdout.jsonl"
        path.write_text(path.read_text().replace('"label":1', '"label":0', 1))
        with pytest.raises(CaseSetError, match=r"edited after freezing: expected sha256:.*, got sha256:"):
            load_cases(tmp_path, contract=pinned(frozen))

    def test_an_input_added_to_the_contract_later_is_named(self, freeze, contract, tmp_path):
        frozen = freeze()
        later = contract.model_copy(
            update={
                "inputs": (*contract.inputs, contract.inputs[0].model_copy(update={"name": "new"})),
                "evaluate": contract.evaluate.model_copy(update={"case_set": frozen.reference}),
            }
        )
        with pytest.raises(CaseSetError, match="inputs: 'new' is in the contract but not in the cases"):
            load_cases(tmp_path, contract=later)

    def test_another_target_is_named(self, freeze, pinned, tmp_path):
        target = {"column": "bad", "positive": 0, "meaning": "paid back", "label_delay_days": 1}
        with pytest.raises(CaseSetError, match="positive: expected 0, got 1"):
            load_cases(tmp_path, contract=pinned(freeze(), target=target))

    def repin(self, path, text, pinned, cases):
        """Write another file and pin it by hand, as someone might who wants to pass."""
        from dataclasses import replace
        from hashlib import sha256

        path.write_text(text)
        digest = "sha256:" + sha256(text.encode()).hexdigest()
        return pinned(replace(cases, digest=digest, reference=f"cases/holdout.jsonl@{digest}"))

    @pytest.mark.parametrize(
        ("edit", "text"),
        [
            (lambda lines: [], "expected a header line, got an empty file"),
            (lambda lines: [lines[0], *lines[1:], lines[-1]], "cases: expected 121, got 120"),
            (lambda lines: [lines[0], lines[1], lines[1], *lines[3:]], "appears twice"),
            (
                lambda lines: [lines[0], lines[1].replace('"inputs"', '"extra":1,"inputs"'), *lines[2:]],
                "line 2: .*`extra`",
            ),
            (lambda lines: [lines[0], lines[1].replace('"risk"', '"rsk"'), *lines[2:]], "lacks risk"),
            (
                lambda lines: [lines[0], lines[1].replace('"owner":', '"owner":3,"x":'), *lines[2:]],
                "owner: expected true",
            ),
            (lambda lines: [lines[0], "not json", *lines[2:]], "line 2: JSON is malformed"),
            (lambda lines: [lines[0].replace('"format":1', '"format":9'), *lines[1:]], "format: expected 1, got 9"),
            (lambda lines: [line.replace('"label":1', '"label":0') for line in lines], "0 of 120 cases have bad == 1"),
        ],
    )
    def test_a_malformed_file_is_refused_even_when_it_is_pinned(self, freeze, pinned, tmp_path, edit, text):
        frozen = freeze()
        path = tmp_path / "cases/holdout.jsonl"
        lines = edit(path.read_text().splitlines())
        contract = self.repin(path, "".join(line + "\n" for line in lines), pinned, frozen)
        with pytest.raises(CaseSetError, match=text):
            load_cases(tmp_path, contract=contract)
