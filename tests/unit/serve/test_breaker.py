from __future__ import annotations

from nbkit.serve._breaker import Breaker


def failing(breaker: Breaker, times: int = 5) -> None:
    for _ in range(times):
        breaker.failed()


def test_failures_in_a_row_open_it_and_answers_between_do_not() -> None:
    breaker = Breaker(clock=lambda: 0.0)
    failing(breaker, 4)
    breaker.succeeded()
    failing(breaker, 4)
    assert breaker.lets_through()
    breaker.failed()
    assert (breaker.state, breaker.lets_through()) == ("open", False)


def test_one_probe_at_a_time_closes_it_or_makes_the_pause_longer() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    failing(breaker)
    pauses = []
    for _ in range(9):
        begun = now[0]
        while not breaker.lets_through():
            now[0] += 0.25
        pauses.append(now[0] - begun)
        assert not breaker.lets_through()
        breaker.failed()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    now[0] += 30
    assert breaker.lets_through()
    breaker.succeeded()
    assert breaker.state == "closed"
    failing(breaker)
    now[0] += 0.5
    assert breaker.lets_through()


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    failing(breaker)
    now[0] = 0.5
    assert breaker.lets_through()
    now[0] = 1.0
    assert breaker.lets_through()
