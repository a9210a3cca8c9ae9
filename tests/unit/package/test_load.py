from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from nbkit.contract import Contract, RowCheck
from nbkit.errors import PackageError, TamperedPackageError
from nbkit.package import Package, load_package
from nbkit.package._files import canonical_json, sha256

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]


@pytest.fixture
def written(write: Callable[..., Package], prepared: Callable[..., Pipeline], table: pd.DataFrame) -> Package:
    return write(prepared(LogisticRegression()).fit(table[INPUTS], table["denied"]))


def rewritten(package: Package, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the manifest; a real attacker would write it canonically too."""
    path = package.directory / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(canonical_json(manifest))
    return package.directory


def test_a_loaded_package_scores_as_the_written_one(written: Package, table: pd.DataFrame, rows_of: Any) -> None:
    loaded = load_package(written.directory)
    assert (loaded.digest, loaded.manifest) == (written.digest, written.manifest)
    assert loaded.compiled
    assert loaded.score_frame(table).tobytes() == written.score_frame(table).tobytes()
    assert [loaded.score(row) for row in rows_of(table)[:5]] == loaded.score_frame(table)[:5].tolist()
    assert loaded.score_rows(rows_of(table)[:5]) == loaded.score_frame(table)[:5].tolist()
    loaded.lay_out()  # a dot product has nothing to lay out
    assert loaded.score_rows(rows_of(table)[:5]) == loaded.score_frame(table)[:5].tolist()


def test_the_digest_is_that_of_the_manifest(written: Package) -> None:
    content = (written.directory / "manifest.json").read_bytes()
    assert written.digest == sha256(content)
    assert content == canonical_json(json.loads(content))


def test_a_package_says_what_it_is(written: Package, contract: Contract) -> None:
    assert repr(written).startswith("Package('loans', 'LogisticRegression', sha256:")
    assert written.contract == contract
    assert (written.thresholds.refer, written.thresholds.decline) == (0.4, 0.7)
    assert written.directory.name == "package"
    assert written.plan is not None


def test_a_checked_row_is_scored_as_it_is(written: Package, contract: Contract, table: pd.DataFrame) -> None:
    body = b'{"income":20.5,"ratio":0.5,"years":3,"married":true,"purpose":null,"region":"east"}'
    check = RowCheck(contract)
    score = written.score(check.check(check.decode(body)))
    plain = {"income": 20.5, "ratio": 0.5, "years": 3, "married": True, "purpose": None, "region": "east"}
    frame = pd.DataFrame({name: [value] for name, value in plain.items()})
    assert score == written.score_frame(frame)[0]
    assert 0 < score < 1


def test_the_fitted_model_is_read_once_and_agrees(written: Package, table: pd.DataFrame) -> None:
    fitted: Any = written.fitted()
    assert written.fitted() is fitted
    expected = fitted.predict_proba(table[INPUTS])[:, 1]
    np.testing.assert_allclose(written.score_frame(table), expected, rtol=0, atol=1e-12)


def test_every_changed_file_is_named_at_once(written: Package, tmp_path: Path) -> None:
    directory = written.directory
    (directory / "plan.json").write_bytes(b"{}")
    (directory / "profile.json").unlink()
    (directory / "extra.txt").write_text("hello")
    (directory / "deep").mkdir()
    (directory / "deep" / "er.txt").write_text("hello")
    shutil.move(directory / "contract.json", tmp_path / "contract.json")
    (directory / "contract.json").symlink_to(tmp_path / "contract.json")
    (directory / "link").symlink_to(tmp_path)
    with pytest.raises(TamperedPackageError, match="6 problems") as caught:
        load_package(directory)
    assert set(caught.value.problems) == {
        "contract.json: a link",
        "deep/er.txt: not in the manifest",
        "extra.txt: not in the manifest",
        "link: a link that the manifest does not list",
        "plan.json: edited",
        "profile.json: removed",
    }
    assert caught.value.next_step == "fetch the package again"


def test_one_flipped_bit_is_an_edit(written: Package) -> None:
    for path in sorted(written.directory.iterdir()):
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises((TamperedPackageError, PackageError), match=path.name.replace(".", r"\.")):
            load_package(written.directory)
        path.write_bytes(content)
    assert load_package(written.directory).digest == written.digest


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "a/../../b", "a\\b", "", "a\x00b"])
def test_a_path_that_leads_out_is_refused(name: str, written: Package, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    listed = {"sha256": sha256(b"secret"), "bytes": 6}
    directory = rewritten(written, lambda manifest: manifest["files"].update({name: listed}))
    with pytest.raises(TamperedPackageError, match="leads out of the package"):
        load_package(directory)


@pytest.mark.parametrize("listed", [{"sha256": "sha256:0", "bytes": 2}, {}, "sha256", None])
def test_a_file_listed_without_a_digest_is_refused(listed: object, written: Package) -> None:
    directory = rewritten(written, lambda manifest: manifest["files"].update({"plan.json": listed}))
    with pytest.raises(TamperedPackageError, match=r"plan\.json: listed without a digest"):
        load_package(directory)


def test_a_file_in_a_linked_folder_is_refused(written: Package, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_bytes(b"secret")
    (written.directory / "folder").symlink_to(tmp_path / "elsewhere")
    listed = {"sha256": sha256(b"secret"), "bytes": 6}
    directory = rewritten(written, lambda manifest: manifest["files"].update({"folder/a.txt": listed}))
    with pytest.raises(TamperedPackageError, match=r"folder/a\.txt: a link"):
        load_package(directory)


def test_a_pipe_is_no_file(written: Package) -> None:
    (written.directory / "plan.json").unlink()
    os.mkfifo(written.directory / "plan.json")
    with pytest.raises(TamperedPackageError, match=r"plan\.json: removed"):
        load_package(written.directory)


def test_a_manifest_that_names_a_key_twice_is_refused(written: Package) -> None:
    path = written.directory / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'{"alternatives"', b'{"format":1,"alternatives"', 1))
    with pytest.raises(TamperedPackageError, match=r"manifest\.json: key 'format' appears twice"):
        load_package(written.directory)


def test_a_linked_manifest_is_refused(written: Package, tmp_path: Path) -> None:
    shutil.move(written.directory / "manifest.json", tmp_path / "manifest.json")
    (written.directory / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(TamperedPackageError, match=r"manifest\.json: a link"):
        load_package(written.directory)


def test_another_contract_than_the_manifests_is_refused(written: Package) -> None:
    directory = rewritten(written, lambda manifest: manifest.update(contract_digest="sha256:" + "0" * 64))
    with pytest.raises(TamperedPackageError, match=r"contract\.json: not the contract of the manifest"):
        load_package(directory)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda manifest: manifest.update(format=99), "expected format 1, got 99"),
        (lambda manifest: manifest.update(thresholds={"refer": 2}), "no package that this version reads"),
        (lambda manifest: manifest.pop("compiled"), "no package that this version reads"),
        (lambda manifest: manifest.update(files=[]), "lists no files"),
    ],
)
def test_a_manifest_of_another_form_is_refused(change: Callable[[Any], Any], problem: str, written: Package) -> None:
    with pytest.raises(PackageError, match=problem):
        load_package(rewritten(written, change))


def test_what_is_no_package_is_said(tmp_path: Path, written: Package) -> None:
    with pytest.raises(PackageError, match=r"manifest\.json: No such file or directory\. Next: nbkit package"):
        load_package(tmp_path / "nothing")
    (written.directory / "manifest.json").write_bytes(b"[1]")
    with pytest.raises(PackageError, match=r"expected format 1, got \[1\]"):
        load_package(written.directory)


def test_a_file_changed_after_loading_is_noticed_when_it_is_read(written: Package) -> None:
    loaded = load_package(written.directory)
    (written.directory / "model.skops").write_bytes(b"other")
    with pytest.raises(TamperedPackageError, match=r"model\.skops: edited"):
        loaded.fitted()
    (written.directory / "background.json").unlink()
    with pytest.raises(TamperedPackageError, match=r"background\.json: No such file"):
        loaded.background()
    with pytest.raises(PackageError, match=r"the package of loans holds no secrets\.txt"):
        loaded.read("secrets.txt")


def test_the_background_is_a_pinned_sample_of_transformed_rows(written: Package, table: pd.DataFrame) -> None:
    background = written.background()
    assert background is not None
    assert written.plan is not None
    assert background.shape == (100, len(written.plan.columns))
    every = {row.tobytes() for row in written.plan.transform_columns(table)}
    assert all(row.tobytes() in every for row in background)
    document = json.loads(written.read("background.json"))
    assert document["digest"] == sha256(background.astype("<f8").tobytes())


@pytest.fixture
def uncompiled(write: Callable[..., Package], prepared: Callable[..., Pipeline], table: pd.DataFrame) -> Package:
    model = prepared(CalibratedClassifierCV(LogisticRegression(), cv=2)).fit(table[INPUTS], table["denied"])
    return write(model)


def test_a_model_without_a_plan_is_served_as_it_was_fitted(
    uncompiled: Package, table: pd.DataFrame, rows_of: Any
) -> None:
    assert not uncompiled.compiled
    assert uncompiled.background() is None
    assert uncompiled.manifest["not_compiled_because"] == (
        "model → model: no exact plan is known for CalibratedClassifierCV"
    )
    fitted: Any = uncompiled.fitted()
    expected = fitted.predict_proba(table[INPUTS])[:, 1]
    np.testing.assert_allclose(uncompiled.score_frame(table), expected, rtol=0, atol=1e-12)
    rows = rows_of(table)[:3]
    uncompiled.lay_out()
    assert uncompiled.score_rows(rows) == uncompiled.score_frame({n: [r[n] for r in rows] for n in rows[0]}).tolist()
    row = rows_of(table)[0]
    assert uncompiled.score(row) == pytest.approx(expected[0], abs=1e-12)


def test_pandas_categories_are_given_back_to_a_model_that_was_fitted_on_them(
    write: Callable[..., Package], table: pd.DataFrame
) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    typed = table.astype({"purpose": "category", "region": "category"})
    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(typed[INPUTS], typed["denied"])
    package = write(model, training=typed)
    assert not package.compiled
    expected = model.predict_proba(typed[INPUTS])[:, 1]
    np.testing.assert_array_equal(package.score_frame(table), expected)


def test_a_model_with_pandas_categories_that_compiles_is_served_compiled(
    write: Callable[..., Package], table: pd.DataFrame
) -> None:
    typed = table.astype({"purpose": "category", "region": "category"})
    model = make_pipeline(HistGradientBoostingClassifier(max_iter=5, early_stopping=False))
    package = write(model.fit(typed[INPUTS], typed["denied"]), training=typed)
    assert package.compiled
    np.testing.assert_allclose(package.score_frame(table), model.predict_proba(typed[INPUTS])[:, 1], rtol=0, atol=1e-12)
