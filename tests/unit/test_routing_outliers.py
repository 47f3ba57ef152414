"""Who fails so much more often than the others that calls pass it by."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.routing.health import Health
from hanlin.routing.outliers import ejected


def called(good: float, bad: float, at: float = 0.0) -> Health:
    return Health(good=good, bad=bad, counted_s=at)


FINE, FAILING = called(10, 0), called(2, 8)


@pytest.mark.parametrize(
    ("healths", "expected"),
    [
        ([FINE, FAILING], {"1"}),
        ([FINE, FINE, FAILING], {"2"}),
        ([FAILING], set()),  # nobody to compare with, nobody to go to
        ([], set()),
        ([FAILING, FAILING], set()),  # it is not their fault
        ([FINE, called(6, 5)], set()),  # fails less than half
        ([FINE, called(5, 5)], set()),  # half is not more than half
        ([called(6, 4), called(2, 8)], {"1"}),  # 0.8 against 0.4
        ([called(5, 5), called(3, 7)], set()),  # 0.7 against 0.5: the times are bad for all
        ([FINE, called(1, 3)], set()),  # too few calls to tell
        ([called(1, 0), FAILING], set()),  # too few calls of the other to compare with
        ([FINE, called(1, 0), FAILING], {"2"}),  # one that was never called neither counts nor stands in the way
        ([FINE, FINE, FINE, called(4, 6), called(2, 8), called(3, 7)], {"3", "4", "5"}),
        ([FINE, called(2, 8), called(1, 9)], {"2"}),  # both stand out, but half at most may go: the worst
        ([FINE, called(1, 9), called(1, 9)], {"1"}),  # of two that are equally bad, always the same one
    ],
)
def test_an_outlier_fails_more_than_half_and_much_more_than_the_others(
    healths: list[Health], expected: set[str]
) -> None:
    """Such a deployment never fails three times in a row, so no breaker sees it."""
    assert ejected({str(at): health for at, health in enumerate(healths)}, now=0.0) == expected


def test_an_ejected_deployment_that_nobody_calls_is_tried_again() -> None:
    """It could not prove its recovery otherwise: what is counted fades until it is too little to judge by."""
    healths = {"fine": called(20, 0, at=180.0), "failing": called(2, 18)}

    assert ejected(healths, now=60.0) == {"failing"}
    assert ejected(healths, now=180.0) == set()


@given(st.dictionaries(st.text(max_size=3), st.builds(called, st.floats(0, 20), st.floats(0, 20)), max_size=8))
@settings(deadline=None)
def test_at_least_half_of_a_group_always_stays(healths: dict[str, Health]) -> None:
    """Whatever is counted, a group never ejects itself away, and the last one never goes."""
    out = ejected(healths, now=1.0)

    assert out <= set(healths)
    assert len(out) <= len(healths) // 2
