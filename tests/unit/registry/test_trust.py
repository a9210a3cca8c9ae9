from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.errors import EvidenceError
from nbkit.registry import PublicKey, Role, TrustStore, owner_identity

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
YEAR = timedelta(days=365)
KEY = PublicKey(name="ana", raw=bytes(range(32)))


def store(**changes: object) -> TrustStore:
    content = {"owner": "Ana Diaz", "roles": ["approver"], "not_before": NOW, "not_after": NOW + YEAR}
    return TrustStore().add(KEY, **(content | changes))


def written(tmp_path: Path, change: object = None) -> Path:
    path = tmp_path / "trust.json"
    store().save(path)
    if change is not None:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_saved_store_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "home" / "trust.json"
    trust = store(roles=[Role.SUBMITTER, "approver"]).revoke(KEY.key_id, NOW + timedelta(days=2))
    trust.save(path)
    assert TrustStore.load(path) == trust
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["trust.json"]


def test_adding_returns_a_new_store_and_leaves_the_old_one(tmp_path: Path) -> None:
    empty = TrustStore()
    more = empty.add(KEY, owner="ana", roles=["approver"], not_before=NOW, not_after=NOW + YEAR)
    assert (len(empty.keys), len(more.keys)) == (0, 1)
    assert more.find(KEY.key_id) is more.keys[0]
    assert more.find("sha256:" + "0" * 64) is None


def test_the_same_key_cannot_be_trusted_as_two_people() -> None:
    with pytest.raises(EvidenceError, match="key 'ana': already trusted as 'ana' of Ana Diaz"):
        store().add(KEY, owner="Ben", roles=["approver"], not_before=NOW, not_after=NOW + YEAR)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roles": ["boss"]}, "roles: expected submitter, approver, operator, ledger, got 'boss'"),
        ({"roles": []}, "roles: expected at least one of"),
        ({"roles": ["approver", "approver"]}, "none twice"),
        ({"not_after": NOW}, "not_after: expected later than not_before"),
        ({"not_before": NOW.replace(tzinfo=None)}, "not_before"),
        ({"owner": "  "}, "expected printable text"),
        ({"owner": "ana\u202e"}, "expected printable text"),
        ({"owner": "ana "}, "without spaces around it"),
        ({"owner": "Jose\u0301"}, "in Unicode form NFC"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        store(**changes)


def test_a_key_counts_from_its_first_moment_until_just_before_its_last() -> None:
    key = store().keys[0]
    assert key.problem(signed_at=NOW, now=NOW) == ""
    assert "not yet valid at signing" in key.problem(signed_at=NOW - timedelta(seconds=1), now=NOW)
    assert "no longer valid now" in key.problem(signed_at=NOW, now=NOW + YEAR)
    assert key.problem(signed_at=NOW, now=NOW + YEAR - timedelta(seconds=1)) == ""


def test_a_revoked_key_counts_for_nothing_it_ever_signed() -> None:
    key = store().revoke(KEY.key_id, NOW + timedelta(days=2)).keys[0]
    assert key.problem(signed_at=NOW, now=NOW + timedelta(days=1)) == ""
    assert "was revoked at 2026-11-26" in key.problem(signed_at=NOW, now=NOW + timedelta(days=2))


def test_a_revocation_is_never_moved_to_later() -> None:
    once = store().revoke(KEY.key_id, NOW)
    assert once.revoke(KEY.key_id, NOW + YEAR) == once
    earlier = NOW - timedelta(days=1)
    assert once.revoke(KEY.key_id, earlier).keys[0].revoked_at == earlier


def test_revoking_an_unknown_key_is_an_error() -> None:
    with pytest.raises(EvidenceError, match="not in the trust file, so it cannot be revoked"):
        store().revoke("sha256:" + "0" * 64, NOW)


def test_a_missing_trust_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"no trust file, so no evidence counts\. Next: nbkit keys new NAME"):
        TrustStore.load(tmp_path / "trust.json")


def test_a_trust_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.chmod(0o664)
    with pytest.raises(EvidenceError, match=r"others can write it \(mode 0664\)\. Next: chmod 644"):
        TrustStore.load(path)


def test_a_trust_file_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = written(tmp_path)
    os.chown(path, 65534, -1)
    with pytest.raises(EvidenceError, match=r"trust\.json: belongs to another user"):
        TrustStore.load(path)


def test_a_directory_in_the_place_of_the_trust_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read: Is a directory"):
        TrustStore.load(tmp_path)


def test_a_device_in_the_place_of_the_trust_file_is_refused() -> None:
    with pytest.raises(EvidenceError, match="expected a regular file"):
        TrustStore.load(Path("/dev/null"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=2), r"\$\.format"),
        (lambda c: c.update(more=1), r"\$\.more"),
        (lambda c: c["keys"][0].update(admin=True), r"\$\.keys\.0\.admin"),
        (lambda c: c["keys"][0].pop("owner"), r"\$\.keys\.0\.owner"),
        (lambda c: c["keys"][0].update(key_id="sha256:" + "0" * 64), "expected the sha256 of public_key"),
        (lambda c: c["keys"][0].update(public_key="AAAA"), "public_key: expected 32 bytes in base64"),
        (lambda c: c["keys"][0].update(public_key="!" * 44), "public_key: expected base64"),
        (lambda c: c["keys"][0].update(not_after="2027-01-01T00:00:00"), r"\$\.keys\.0\.not_after"),
        (lambda c: c["keys"][0].update(roles=["Approver"]), r"\$\.keys\.0\.roles"),
        (lambda c: c["keys"].append(c["keys"][0]), "a key is listed twice, as 'ana'"),
    ],
)
def test_a_malformed_trust_file_is_refused(change: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=message):
        TrustStore.load(written(tmp_path, change))


def test_duplicate_json_keys_in_a_trust_file_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text('{"format": 1, "keys": [], "keys": []}', encoding="utf-8")
    with pytest.raises(EvidenceError, match="duplicate key 'keys'"):
        TrustStore.load(path)


def test_a_failed_save_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        store().save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["trust.json"]


def test_every_spelling_of_a_person_is_the_same_person() -> None:
    spellings = ["Ana Diaz", "ana diaz", "ANA\u00a0DIAZ", "Ana  Diaz", "Ａna Diaz", "Ana\u200b Diaz", "Ana D\u00edaz"]
    assert {owner_identity(spelling) for spelling in spellings} == {"ana diaz"}
    assert owner_identity("Ana Diez") != "ana diaz"


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_an_identity_is_its_own_identity(owner: str) -> None:
    assert owner_identity(owner_identity(owner)) == owner_identity(owner)
    assert owner_identity(f" {owner} ") == owner_identity(owner)
