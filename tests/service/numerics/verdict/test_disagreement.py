"""Which two of three routes agree."""

import dataclasses

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.disagreement import Disagreement, Partition
from service.numerics.verdict.reference import Reference

A, T, D = "analytic", "autograd", "finite_difference"


def make_disagreement(by_hand: list[float], by_torch: list[float], bound: float = 1e-9, **more: object) -> Disagreement:
    """About a finite difference of 1, 2, 3."""
    value = np.array([1.0, 2.0, 3.0])
    reference = Reference(value, np.full(3, bound), np.full(3, 1e-12), PRECISIONS["FP64"], **more)  # type: ignore[arg-type]
    return Disagreement({A: np.array(by_hand), T: np.array(by_torch)}, reference)


@pytest.mark.parametrize(
    ("by_hand", "by_torch", "bound", "sides"),
    [
        ([1, 2, 3], [1, 2, 3], 1e-9, ()),
        ([1, 2.5, 3.5], [1, 2, 3], 1e-9, (Partition(2, (T, D), (A,)),)),
        ([1, 2, 3], [7, 2, 3], 1e-9, (Partition(1, (A, D), (T,)),)),
        ([5, 6, 7], [5, 6, 7], 1e-9, (Partition(3, (A, T), (D,)),)),
        ([5, 2, 3], [6, 2, 3], 1e-9, (Partition(1, (), (A, T, D)),)),
        ([1.1, 2, 3], [1, 2, 3], 1.0, (Partition(1, (), (A, T)),)),
        ([np.nan, 2, 3], [1, 2, 3], 1e-9, (Partition(1, (T, D), (A,)),)),
        ([1, np.inf, 3], [1, 2, 3], 1e-9, (Partition(1, (T, D), (A,)),)),
        ([5, 5, 3], [1, 2, 4], 1e-9, (Partition(2, (T, D), (A,)), Partition(1, (A, D), (T,)))),
    ],
)
def test_partition_names_agreeing_sources(
    by_hand: list[float], by_torch: list[float], bound: float, sides: tuple[Partition]
) -> None:
    disagreement = make_disagreement(by_hand, by_torch, bound)
    assert disagreement.partition_elements() == sides
    assert np.count_nonzero(disagreement.disputed_mask) == sum(side.element_count for side in sides)


@pytest.mark.parametrize(
    ("by_hand", "by_torch", "apart"),
    [
        (np.inf, np.inf, False),
        (-np.inf, -np.inf, False),
        (np.nan, np.nan, False),
        (np.nan, -np.inf, False),
        (np.inf, np.nan, False),
        (np.inf, -np.inf, True),
        (np.inf, 1.0, True),
        (np.nan, 1.0, True),
        (1.0, -np.inf, True),
        (1.0, 2.0, False),
    ],
)
def test_common_nan_is_no_disagreement(by_hand: float, by_torch: float, apart: bool) -> None:
    """Where the loss is not finite, and so there is no difference either."""
    nothing = np.array([np.nan])
    reference = Reference(nothing, np.array([np.inf]), nothing, PRECISIONS["FP64"])
    partition = Disagreement({A: np.array([by_hand]), T: np.array([by_torch])}, reference).partition_elements()
    assert partition == ((Partition(1, (), (A, T)),) if apart else ())


def test_unexamined_elements_are_no_disagreement() -> None:
    assert make_disagreement([1, 2, 9], [1, 2, 3]).partition_elements(np.array([0, 1])) == ()


def test_conventions_at_a_kink_are_no_disagreement() -> None:
    left, right = np.array([0.0, np.nan, np.nan]), np.array([1.0, np.nan, np.nan])
    assert (
        make_disagreement([0, 2, 3], [1, 2, 3], left_derivative=left, right_derivative=right).partition_elements() == ()
    )
    assert make_disagreement([0, 2, 3], [1, 2, 3]).partition_elements()


def test_out_of_range_values_are_no_disagreement() -> None:
    disagreement = make_disagreement([np.inf, 2, 7], [1, 5, 3])
    excused = dataclasses.replace(disagreement, excused_by_range=np.array([True, True, False]))
    assert np.count_nonzero(disagreement.disputed_mask) == 3
    assert excused.disputed_mask.tolist() == [False, False, True]
    assert excused.partition_elements() == (Partition(1, (T, D), (A,)),)


@pytest.mark.parametrize(
    ("gradients", "bound", "sides"),
    [
        ([1, 1, 1], 1e-9, ()),
        ([1, 1, 7], 1e-9, (Partition(1, (A, T, D), ("third",)),)),
        ([7, 1, 7], 1e-9, (Partition(1, (T, D), (A, "third")),)),
        ([7, 7, 7], 1e-9, (Partition(1, (A, T, "third"), (D,)),)),
        ([7, 8, 7], 1e-9, (Partition(1, (A, "third"), (T, D)),)),
        ([7, 8, 9], 1e-9, (Partition(1, (), (A, T, "third", D)),)),
        ([1.1, 1, 1], 1.0, (Partition(1, (T, "third"), (A,)),)),
        ([1.1, 1.2, 1], 1.0, (Partition(1, (), (A, T, "third")),)),
    ],
)
def test_three_sources_and_the_difference_split_into_those_that_agree_and_those_that_do_not(
    gradients: list[float], bound: float, sides: tuple[Partition]
) -> None:
    reference = Reference(np.ones(1), np.full(1, bound), np.full(1, 1e-12), PRECISIONS["FP64"])
    by_source = {name: np.array([float(value)]) for name, value in zip((A, T, "third"), gradients, strict=True)}
    assert Disagreement(by_source, reference).partition_elements() == sides
