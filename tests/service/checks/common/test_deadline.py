import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, Clock, current_clock
from service.numerics.core.interrupts import OutOfTimeError, check_interrupt
from tests.service.checks.common.counting_clock import CountingClock, end_time_after_looks


def run_endlessly(looks=None):
    while True:
        check_interrupt()
        if looks is not None:
            looks.append(1)


def test_nothing_is_interrupted_before_the_deadline():
    with Clock(60).enforce_deadline():
        check_interrupt()
    check_interrupt()


def test_first_interrupt_check_after_the_deadline_ends_the_work():
    with end_time_after_looks(3) as ticking:
        looks = []
        for _ in range(2):
            with pytest.raises(OutOfTimeError):
                run_endlessly(looks)
    assert len(looks) == 3
    check_interrupt()
    assert ticking.look_count == 6


def get_refusal(clock, *told, remedy="Take less"):
    def track_steps():
        with clock.enforce_deadline(), clock.refuse_on_timeout(remedy, "model", "nodes"):
            for step in told:
                clock.track_progress()(*step)
            run_endlessly()

    with pytest.raises(InvalidRequestError) as error:
        track_steps()
    assert error.value.reason == "out-of-time"
    (entry,) = error.value.errors
    assert entry["pointer"] == "/model/nodes"
    return entry["detail"]


def test_timeout_names_the_progress():
    detail = get_refusal(Clock(9.5, CountingClock()), ("w1", 3, 10))
    assert detail == (
        "out of time: of the 10 evaluations for 'w1', 3 were done when the limit of 9.5 s was reached. Take less"
    )


def test_timeout_names_the_stage():
    clock = Clock(2, CountingClock())
    with clock.name_stage("the verdicts were being found"):
        detail = get_refusal(clock)
    assert detail == "out of time: the verdicts were being found when the limit of 2 s was reached. Take less"


def test_time_spent_earlier_counts_and_is_named_where_large():
    looks = []
    with Clock(10, CountingClock(), spent=7.5).enforce_deadline(), pytest.raises(OutOfTimeError):
        run_endlessly(looks)
    assert len(looks) == 2
    assert "limit of 10 s was reached, 7.5 s of it before the request was there. Take less" in get_refusal(
        Clock(10, CountingClock(), spent=7.5)
    )
    assert "limit of 10 s was reached. Take less" in get_refusal(Clock(10, CountingClock(), spent=1.0))


def test_a_remedy_is_looked_for_in_a_quarter_more_of_the_time():
    looks = []

    def suggest_nothing():
        with pytest.raises(OutOfTimeError):
            run_endlessly(looks)
        return "Take none"

    assert get_refusal(Clock(100, CountingClock()), remedy=suggest_nothing).endswith("Take none")
    assert 20 < len(looks) <= 25


def test_a_part_ends_before_the_whole():
    with end_time_after_looks(10) as ticking:
        with current_clock(0).limit_to_fraction(0.5), pytest.raises(OutOfTimeError):
            run_endlessly()
        assert ticking.look_count == 7
        check_interrupt()


def test_a_part_ends_no_later_than_the_whole():
    with end_time_after_looks(10) as ticking, current_clock(0).limit_to_fraction(2), pytest.raises(OutOfTimeError):
        run_endlessly()
    assert ticking.look_count == 12


def test_iteration_goes_on_within_the_deadline():
    told = []
    with end_time_after_looks(2):
        clock = current_clock(0)
        progress = clock.track_progress(lambda *step: told.append(step))
        progress("w1", 0, 10)
        progress("w1", 1, 10)
        with pytest.raises(OutOfTimeError):
            progress("w1", 2, 10)
    assert told == [("w1", 0, 10), ("w1", 1, 10)]
    assert clock.evaluations_done == 2


def test_the_clock_of_a_request_is_that_which_was_started_for_it():
    clock = Clock(60)
    with clock.enforce_deadline():
        assert current_clock(1) is clock
        with clock.enforce_deadline():
            check_interrupt()
        assert current_clock(1) is clock
    assert current_clock(1) is not clock


def test_a_remedy_that_takes_longer_than_its_quarter_is_a_general_one():
    assert get_refusal(Clock(100, CountingClock()), remedy=run_endlessly).endswith(SMALLER_MODEL_REMEDY)
