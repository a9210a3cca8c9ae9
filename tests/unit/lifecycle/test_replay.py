from __future__ import annotations

from nbkit.lifecycle._prove import Replayed


def replayed(**changes: object) -> Replayed:
    told: dict[str, object] = {
        "id": "d-1",
        "model": "loans",
        "version": 1,
        "recorded_score": 0.9,
        "replayed_score": 0.9,
        "recorded_decision": "decline",
        "replayed_decision": "decline",
        "recorded_reasons": (),
        "replayed_reasons": ("R02",),
        "fallback": "",
    }
    return Replayed(**(told | changes))  # type: ignore[arg-type]


def test_reasons_that_were_to_follow_are_those_of_the_replay() -> None:
    assert not replayed().succeeded
    assert replayed(reasons_follow=True).succeeded
    assert "to follow" in str(replayed(reasons_follow=True).view())
    assert not replayed(reasons_follow=True, replayed_decision="refer").succeeded
    told = {"recorded_reasons": ("R01",), "reasons_follow": True}
    assert replayed(**told, replayed_reasons=("R01", "R02")).succeeded
    assert not replayed(**told, replayed_reasons=("R02", "R01")).succeeded
