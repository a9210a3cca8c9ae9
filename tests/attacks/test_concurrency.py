"""Several people at the same moment, and power cuts: exactly one promotion wins, no signature is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nbkit.registry import Registry

if TYPE_CHECKING:
    from tests.attacks.conftest import World

NAME = "loan-denial"


def test_of_many_who_claim_the_same_thing_the_first_wins(world: World) -> None:
    start = threading.Barrier(6)

    def claim(number: int) -> str:
        registry = Registry(world.settings)
        start.wait()
        return registry.claim(NAME, key="move.test.1", value=f"value {number}")

    with ThreadPoolExecutor(6) as pool:
        held = list(pool.map(claim, range(6)))
    assert len(set(held)) == 1
    assert world.registry.claims(NAME)["move.test.1"] == held[0]
    assert world.registry.claim(NAME, key="move.test.1", value="later") == held[0]
    run = world.registry.versions(NAME)[-1].run_id
    assert world.registry.run(run).parameters == {"trees": "5"}
