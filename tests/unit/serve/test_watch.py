from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nbkit.package import Package
from nbkit.registry import MEMORY_FILE, Memory, Tick, TrustStore
from nbkit.serve import PackageStore
from nbkit.serve._active import Active, made_up_row
from nbkit.serve._watch import Watcher

MakeWatcher = Callable[..., Watcher]


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "store")


@pytest.fixture
def trust_file(tmp_path: Path, people: Any) -> Path:
    path = tmp_path / "trust.json"
    people.trust.save(path)
    return path


@pytest.fixture
def served() -> list[Active | None]:
    return []


@pytest.fixture
def clock() -> list[datetime]:
    return [datetime.now(UTC)]


@pytest.fixture
def passed() -> list[float]:
    """Seconds, on the clock that nobody sets."""
    return [1000.0]


@pytest.fixture
def watcher(
    store: PackageStore, trust_file: Path, served: list[Active | None], clock: list[datetime], passed: list[float]
) -> Watcher:
    return Watcher(
        name="loans",
        store=store,
        trust_file=trust_file,
        now=lambda: clock[0],
        serve=served.append,
        tick=lambda: Tick("boot", passed[0]),
    )


def look(watcher: Watcher) -> int | None:
    watcher.begin()
    return watcher.active.version if watcher.active else None


def alerts(store: PackageStore) -> list[str]:
    path = store.root / "alerts.jsonl"
    return [json.loads(line)["reason"] for line in path.read_text().splitlines()] if path.exists() else []


def test_nothing_installed_serves_nothing(watcher: Watcher, served: list[Active | None], store: PackageStore) -> None:
    assert look(watcher) is None
    assert served == []
    assert "nothing is installed" in alerts(store)[0]


def test_what_verifies_is_served_once_and_swapped_when_it_changes(
    watcher: Watcher,
    store: PackageStore,
    people: Any,
    package: Package,
    lender: Any,
    tmp_path: Path,
    served: list[Active | None],
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    assert look(watcher) == 1
    assert len(served) == 1
    people.install(lender.make_package(tmp_path / "two", iterations=12), store=store, version=2, epoch=2)
    assert look(watcher) == 2
    assert [active.version for active in served if active] == [1, 2]


def test_a_version_is_laid_out_for_its_reasons_once_the_server_is_up(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, trial: Package
) -> None:
    def prepared() -> int:
        active = watcher.active
        return active.version if active is not None and active.judge._contributions is not None else 0

    async def follow() -> None:
        following = asyncio.create_task(watcher.follow())
        for version in (1, 2):
            while prepared() != version:
                await asyncio.sleep(0.01)
            people.install(trial, store=store, version=2, epoch=2)
        following.cancel()

    people.install(package, store=store, version=1)
    assert look(watcher) == 1
    assert prepared() == 0
    asyncio.run(asyncio.wait_for(follow(), timeout=60))
    assert prepared() == 2


def test_edited_files_in_the_store_are_never_served(
    watcher: Watcher, store: PackageStore, people: Any, package: Package
) -> None:
    people.install(package, store=store)
    (store.root / "packages" / package.digest.split(":")[1] / "rules.json").write_text("{}")
    assert look(watcher) is None
    assert "TamperedPackageError" in alerts(store)[0]


def test_a_pointer_edited_by_hand_leaves_the_last_good_version(
    watcher: Watcher, store: PackageStore, people: Any, package: Package
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    path = store.pointer("loans")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 7}))
    assert look(watcher) == 1
    assert "version" in alerts(store)[-1]


def test_an_older_statement_put_back_into_the_store_is_refused(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, lender: Any, tmp_path: Path
) -> None:
    people.install(package, store=store)
    old = store.pointer("loans").read_text()
    people.install(lender.make_package(tmp_path / "two", iterations=12), store=store, version=2, epoch=2)
    assert look(watcher) == 2
    store.pointer("loans").write_text(old)
    assert look(watcher) == 2
    assert "epoch: expected at least 2, got 1" in alerts(store)[-1]


def test_a_revoked_key_ends_what_it_let_through(
    watcher: Watcher,
    store: PackageStore,
    people: Any,
    package: Package,
    trust_file: Path,
    served: list[Active | None],
    clock: list[datetime],
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    people.trust.revoke(people.keys["ben"].key_id, clock[0]).save(trust_file)
    assert look(watcher) is None
    assert served[-1] is None
    assert "not served any more" in alerts(store)[-1]
    people.trust.save(trust_file)
    assert look(watcher) == 1


def test_a_trust_file_that_cannot_be_read_changes_nothing_that_was_verified(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, trust_file: Path
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    trust_file.write_text("{")
    assert look(watcher) == 1
    assert "trust.json" in alerts(store)[-1]


def test_a_trust_file_that_knows_nobody_serves_nothing(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, trust_file: Path
) -> None:
    TrustStore().save(trust_file)
    people.install(package, store=store)
    assert look(watcher) is None


def test_evidence_that_expires_ends_the_service(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, clock: list[datetime]
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    clock[0] += timedelta(hours=13)
    assert look(watcher) is None
    assert "not served any more" in alerts(store)[-1]
    assert "expire" in alerts(store)[-1]
    assert look(watcher) is None


def test_rules_that_do_not_fit_keep_the_version_from_being_served(
    watcher: Watcher, store: PackageStore, people: Any, lender: Any, tmp_path: Path
) -> None:
    people.install(lender.make_package(tmp_path / "bad", rules="{"), store=store)
    assert look(watcher) is None
    assert "RuleError" in alerts(store)[0]


def test_a_made_up_row_fits_the_contract(lender: Any) -> None:
    contract = lender.make_contract(
        inputs=[
            {"name": "a", "type": "integer", "minimum": 2.5},
            {"name": "b", "type": "number", "maximum": -3},
            {"name": "c", "type": "category", "categories": ["x", "y"]},
            {"name": "d", "type": "boolean"},
        ]
    )
    assert made_up_row(contract) == {"a": 3.0, "b": -3.0, "c": "x", "d": 0.0}


def test_a_trial_is_followed_and_may_be_absent(
    store: PackageStore, people: Any, trust_file: Path, trial: Package, served: list[Active | None]
) -> None:
    watcher = Watcher(
        name="loans",
        store=store,
        trust_file=trust_file,
        now=lambda: datetime.now(UTC),
        serve=served.append,
        stage="canary",
    )
    assert look(watcher) is None
    assert alerts(store) == []
    people.install(trial, store=store, version=2, stage="canary", share=0.1)
    assert look(watcher) == 2
    assert watcher.active is not None
    assert (watcher.active.stage, watcher.active.share) == ("canary", 0.1)
    store.remove("loans", stage="canary")
    assert look(watcher) is None
    assert alerts(store) == []


def test_a_clock_that_is_set_back_brings_nothing_back(
    watcher: Watcher,
    store: PackageStore,
    people: Any,
    package: Package,
    trust_file: Path,
    clock: list[datetime],
    passed: list[float],
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    clock[0] += timedelta(hours=13)
    passed[0] += 13 * 3600
    assert look(watcher) is None
    clock[0] -= timedelta(hours=13)
    # Another file, so that it is loaded and verified again.
    trust_file.write_text(trust_file.read_text() + "\n")
    assert look(watcher) is None
    assert [reason for reason in alerts(store) if "the clock went back" in reason]
    assert "expire" in alerts(store)[-1]
    told = len(alerts(store))
    passed[0] += 60
    assert look(watcher) is None
    assert len(alerts(store)) == told


def test_a_jump_ahead_that_is_taken_back_ends_nothing(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, clock: list[datetime], passed: list[float]
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    clock[0] += timedelta(days=400)
    assert look(watcher) is None
    clock[0] += timedelta(minutes=20) - timedelta(days=400)
    passed[0] += 20 * 60
    assert look(watcher) == 1
    assert not [reason for reason in alerts(store) if "the clock went back" in reason]


def test_what_somebody_says_about_the_clock_is_taken_up_without_a_restart(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, clock: list[datetime], passed: list[float]
) -> None:
    memory = Memory(store.root / MEMORY_FILE, tick=lambda: Tick("boot", passed[0]))
    memory.check_clock(clock[0] + timedelta(days=400))
    people.install(package, store=store)
    assert look(watcher) is None
    assert "nbkit clock accept --reason WHY" in alerts(store)[0]
    memory.accept_clock(clock[0])
    assert look(watcher) == 1


def test_a_clock_that_was_set_back_while_nothing_ran_is_noticed_at_the_start(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, clock: list[datetime], passed: list[float]
) -> None:
    people.install(package, store=store)
    Memory(store.root / MEMORY_FILE, tick=lambda: Tick("boot", passed[0])).check_clock(clock[0] + timedelta(hours=13))
    assert look(watcher) is None
    assert "the clock went back" in alerts(store)[0]
    assert "expire" in alerts(store)[-1]


def test_what_was_refused_is_looked_at_again(
    watcher: Watcher,
    store: PackageStore,
    people: Any,
    package: Package,
    clock: list[datetime],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What kept it from being loaded may be over, without any file having changed."""
    people.install(package, store=store)

    def full(_: str) -> Package:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store, "package", full)
        assert look(watcher) is None
        clock[0] += timedelta(seconds=11)
        assert look(watcher) is None
    assert [reason for reason in alerts(store) if "Too many open files" in reason] == [alerts(store)[-1]]
    assert look(watcher) is None  # not at every look
    clock[0] += timedelta(seconds=11)
    assert look(watcher) == 1


def test_a_clock_that_is_a_little_behind_is_no_alarm(
    watcher: Watcher, store: PackageStore, people: Any, package: Package, clock: list[datetime]
) -> None:
    people.install(package, store=store)
    assert look(watcher) == 1
    clock[0] -= timedelta(minutes=4)
    assert look(watcher) == 1
    assert alerts(store) == []


def test_a_memory_that_cannot_be_read_is_told_and_stops_nothing(
    watcher: Watcher, store: PackageStore, people: Any, package: Package
) -> None:
    people.install(package, store=store)
    (store.root / MEMORY_FILE).write_text("{")
    assert look(watcher) == 1
    assert MEMORY_FILE in alerts(store)[0]
