"""The grid: stems move by half a unit at most, sums are exact, and what is claimed of them is right."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import fsum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from stembridge.dsp import grid
from stembridge.errors import ExactnessError

Signal = NDArray[np.float64]

LEVELS = st.sampled_from([1e-42, 1e-6, 0.1, 1.0, 4.0, 90.0])


@st.composite
def stacks(draw: st.DrawFn, channels: int = 2, frames: int = 9) -> Signal:
    """Stems that may be loud, opposing, tiny or all of it, (stems, channels, frames)."""
    count = draw(st.integers(1, 6))
    samples = arrays(np.float64, (count, channels, frames), elements=st.floats(-1, 1, width=32))
    levels = np.array([draw(LEVELS) for _ in range(count)])
    return np.asarray(draw(samples) * levels[:, None, None], np.float32).astype(np.float64)


@given(stacks(), st.sampled_from([7, 15, 23, 31]), st.integers(15, 23), st.integers(0, 2**32))
def test_integer_closure_is_exact_and_states_the_right_part_sums(
    stems: Signal, source_bits: int, stem_bits: int, seed: int
) -> None:
    limit = 2**source_bits
    mixture = np.random.default_rng(seed).integers(-limit, limit, stems.shape[1:])
    given_stems, given_mixture = stems.copy(), mixture.copy()
    stem_bits = max(stem_bits, min(source_bits, 23))
    closed = grid.close_integers(mixture, source_bits, stems, stem_bits)

    assert np.array_equal(stems, given_stems) and np.array_equal(mixture, given_mixture)
    files = list(closed.files)
    quantised = closed.files[:-1]
    for index in np.ndindex(mixture.shape):
        values = [Fraction(float(file[index])) for file in files]
        assert sum(values) == Fraction(int(mixture[index]), limit)
        assert sum(v for v in values if v > 0) <= Fraction(closed.positive_max)
        assert -sum(v for v in values if v < 0) <= Fraction(closed.negative_max)
    positive = np.maximum(files, 0).sum(axis=0)
    assert closed.positive_max == positive.max()
    assert closed.negative_max == np.maximum(np.negative(files), 0).sum(axis=0).max()
    assert len(quantised) == len(stems) and grid.fits_float32(quantised)
    for stem in quantised:
        assert grid.is_on_grid(stem, stem_bits)
    held = np.abs(stems) * 2.0**stem_bits <= 2**24
    assert np.abs(quantised - stems)[held].max(initial=0) <= 0.5 * 2.0**-stem_bits


def fold_equally(stems: Signal, mixture: Signal) -> Signal:
    return np.asarray(stems + (mixture - stems.sum(axis=0)) / len(stems))


@given(stacks(), st.sampled_from([7, 15, 23, 31]), st.integers(15, 23), st.integers(0, 2**32))
def test_a_fold_is_closed_by_moving_stems_by_less_than_a_unit(
    stems: Signal, source_bits: int, stem_bits: int, seed: int
) -> None:
    limit = 2**source_bits
    mixture = np.random.default_rng(seed).integers(-limit, limit, stems.shape[1:])
    stem_bits = max(stem_bits, min(source_bits, 23))
    folded = fold_equally(stems, mixture / limit)
    closed = grid.close_integers(mixture, source_bits, folded, stem_bits, is_fold=True)
    assert closed.files.shape == stems.shape
    for index in np.ndindex(mixture.shape):
        values = [Fraction(float(file[index])) for file in closed.files]
        assert sum(values) == Fraction(int(mixture[index]), limit)
    assert all(grid.is_on_grid(stem, stem_bits) for stem in closed.files[:-1])
    assert grid.is_on_grid(closed.files[-1], max(stem_bits, source_bits))
    assert closed.positive_max == np.maximum(closed.files, 0).sum(axis=0).max()
    assert closed.negative_max == np.maximum(-closed.files, 0).sum(axis=0).max()
    # The last file takes up to half a unit more where the source is finer than the stems' grid.
    unit, rest = 2.0**-stem_bits, 0.5 * 2.0**-stem_bits * (source_bits > stem_bits)
    assert np.abs(closed.files[:-1] - folded[:-1]).max(initial=0) < unit * (1 + 1e-6) + rest
    assert np.abs(closed.files[-1] - folded[-1]).max() < unit * (1 + 1e-6) + 2 * rest


def test_units_go_to_the_stems_that_rounding_moved_most() -> None:
    unit = 2.0**-23
    stems = np.array([0.4, 0.3, 0.45, 0.85]).reshape(4, 1, 1) * unit
    assert grid.apportion(np.array([[2]]), stems, 23).ravel().tolist() == [0, 0, 1, 1]
    assert grid.apportion(np.array([[-2]]), -stems, 23).ravel().tolist() == [0, 0, -1, -1]
    assert grid.apportion(np.array([[10]]), stems, 23).ravel().tolist() == [2, 2, 3, 3]


@given(stacks(frames=3), st.sampled_from([15, 23]), st.integers(0, 2**32))
def test_a_float32_claim_holds_in_every_order(stems: Signal, source_bits: int, seed: int) -> None:
    stems = stems[:4]
    limit = 2**source_bits
    mixture = np.random.default_rng(seed).integers(-limit, limit, stems.shape[1:])
    first = grid.close_integers(mixture, source_bits, stems, 23)
    bits = grid.fitting_bits(source_bits, first.positive_max, first.negative_max, len(stems))
    closed = grid.close_integers(mixture, source_bits, stems, bits)
    if source_bits == 15:
        assert grid.claims_float32(bits, closed.positive_max, closed.negative_max)
    if not grid.claims_float32(max(bits, source_bits), closed.positive_max, closed.negative_max):
        return
    files = closed.files.astype(np.float32)
    target = (mixture / limit).astype(np.float32)
    for order in permutations(range(len(files))):
        assert np.array_equal(grid.sum_in_order(list(files), order), target)
    assert np.array_equal(grid.sum_pairwise(list(files)), target)


def test_the_bound_of_the_claim_is_where_float32_begins_to_round() -> None:
    assert grid.claims_float32(23, 2.0, 2.0)
    assert not grid.claims_float32(23, 2.0 + 2.0**-23, 0.0)
    assert grid.claims_float64(31, 2.0**22, 0.0)
    assert not grid.claims_float64(31, 2.0**22 + 1, 0.0)
    assert np.float32(2.0) + np.float32(2.0**-23) == np.float32(2.0)


@pytest.mark.parametrize(
    ("peak", "bits"), [(1.9, 23), (2.1, 22), (3.9, 22), (4.1, 21), (500.0, 15), (600.0, 23)]
)
def test_the_grid_is_lowered_for_16_bit_sources_alone(peak: float, bits: int) -> None:
    assert grid.fitting_bits(15, peak, 0.1, 4) == bits
    assert grid.fitting_bits(23, peak, 0.1, 4) == 23


def test_halves_go_to_even_and_not_down() -> None:
    unit = 2.0**-23
    signal = np.array([[-0.49, 0.49, 0.5, 1.5, -0.5, -1.5, 2.4]]) * unit
    assert grid.quantise(signal, 23).tolist() == [[0, 0, 0, 2, 0, -2, 2]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
def test_what_no_grid_holds_is_refused(bad: float) -> None:
    with pytest.raises(ExactnessError, match="cannot be put"):
        grid.quantise(np.array([[0.0, bad]]), 23)


@st.composite
def float_mixtures(draw: st.DrawFn) -> Signal:
    narrow = st.floats(-4, 4, width=32) | st.floats(-(2.0**-40), 2.0**-40, width=32)
    wide = st.floats(-4, 4) | st.floats(-(2.0**-40), 2.0**-40)
    elements = draw(st.sampled_from([narrow, wide]))
    return np.asarray(draw(arrays(np.float64, (2, 9), elements=elements)), np.float64)


@given(float_mixtures(), stacks(), st.booleans(), st.booleans())
def test_what_is_called_exact_of_full_precision_floats_is_exact(
    mixture: Signal, stems: Signal, is_wide: bool, is_fold: bool
) -> None:
    if is_fold:
        stems = fold_equally(stems, mixture)
    closed = grid.close_floats(mixture, stems, is_wide=is_wide, is_fold=is_fold)
    files = list(closed.files)
    assert len(files) == len(stems) + (not is_fold)
    positive, negative = grid.part_sums(files)
    inexact = grid.find_inexact(mixture, files, positive, negative)
    assert int(inexact.sum()) == closed.inexact_samples
    if not is_fold:
        assert grid.fits_float32(closed.files[:-1]) and (is_wide or grid.fits_float32(closed.files[-1]))
    assert all(grid.is_on_grid(file, 23) for file in (files[:-1] if is_wide or not is_fold else files))
    # What no file can hold is as small as the width that was left: a float32 residual, or the grid.
    hottest = max(closed.positive_max, closed.negative_max)
    rounding = 2 * len(files) * hottest * 2.0**-53
    if not is_wide:
        rounding += 2.0**-24 if is_fold else float(np.spacing(np.float32(np.abs(files[-1]).max()))) / 2
    assert closed.max_error <= rounding
    for order in grid.sum_orders(len(files), 20):
        total = grid.sum_in_order(files, order)
        assert np.array_equal(total[~inexact], mixture[~inexact])
    for index in np.argwhere(~inexact):
        assert fsum(file[tuple(index)] for file in files) == mixture[tuple(index)]
    assert closed.max_error == (grid.measure_error(files, mixture) if inexact.any() else 0.0)


def test_a_fade_below_the_grid_is_closed_by_silencing_its_stems() -> None:
    mixture = np.array([[1e-30, -3e-38, 1e-45, 0.25]], np.float32).astype(np.float64)
    stems = np.full((2, 1, 4), 2.0**-20)
    closed = grid.close_floats(mixture, stems, is_wide=True)
    assert closed.files[:2, 0, :3].tolist() == [[0.0] * 3] * 2
    assert closed.files[0, 0, 3] == 2.0**-20
    assert closed.files[2, 0, :3].tolist() == mixture[0, :3].tolist()
    assert closed.inexact_samples == 0


def test_a_float_that_cannot_close_is_counted_and_measured() -> None:
    mixture = np.array([[2.0**-60, 0.5]])
    stems = np.array([[[0.5, 0.5]], [[-0.25, 0.25]]])
    closed = grid.close_floats(mixture, stems, is_wide=True)
    assert closed.inexact_samples == 1
    assert 0 < closed.max_error <= 2.0**-52


def test_a_residual_that_float32_rounds_is_never_called_exact() -> None:
    # Here every float64 sum is exact in any order, and yet it is not the mixture.
    mixture = np.array([[0.75 + 2.0**-30]])
    closed = grid.close_floats(mixture, np.array([[[0.25]]]), is_wide=False)
    assert closed.files.ravel().tolist() == [0.25, 0.5]
    assert closed.inexact_samples == 1 and closed.max_error == 2.0**-30


def test_float32_rounding_keeps_what_fits_and_the_grid() -> None:
    values = np.array([2**24, 2**24 + 1, -(2**25) - 3, 5])
    assert grid.round_to_float32(values).tolist() == [2**24, 2**24, -(2**25) - 4, 5]


@settings(max_examples=20)
@given(st.integers(1, 7), st.integers(2, 120))
def test_orders_are_different_permutations(files: int, limit: int) -> None:
    orders = grid.sum_orders(files, limit)
    assert len(set(orders)) == len(orders)
    assert all(sorted(order) == list(range(files)) for order in orders)
    assert orders[0] == tuple(range(files))
    assert tuple(reversed(range(files))) in orders


def test_120_orders_of_five_files_are_all_orders() -> None:
    assert set(grid.sum_orders(5, 120)) == set(permutations(range(5)))


def test_a_stem_above_2_is_rounded_to_what_float32_holds() -> None:
    unit = 2.0**-23
    closed = grid.close_integers(np.array([[5]]), 23, np.array([[[2.0 + unit]], [[-4.0 - 3 * unit]]]), 23)
    assert closed.files.ravel().tolist() == [2.0, -4.0 - 4 * unit, 5 * unit + 2.0 + 4 * unit]
    assert not grid.fits_float32(closed.files[2])


def test_what_is_finer_than_the_stems_of_a_fold_moves_none_of_them_farther_than_rounding() -> None:
    unit = 2.0**-23
    stems = np.array([230 / 256, 0.0]).reshape(2, 1, 1) * unit
    closed = grid.close_integers(np.array([[230]]), 31, stems, 23, is_fold=True)
    assert closed.files.ravel().tolist() == [unit, -26 / 256 * unit]


def test_a_coarser_grid_leaves_room_for_what_rounding_to_it_adds() -> None:
    """Halves of the coarser unit, all of which go up: exactly 4.0 becomes more than its grid may hold."""
    units = [2**22 - 1, 2**22 - 1, 2**22 - 1, 2**22 + 1]
    stems = (np.array(units).reshape(4, 1, 1) + 0.5) * 2.0**-22
    first = grid.close_integers(np.array([[0]]), 15, stems, 23)
    assert first.positive_max == first.negative_max == 4.0
    bits = grid.fitting_bits(15, first.positive_max, first.negative_max, 4)
    closed = grid.close_integers(np.array([[0]]), 15, stems, bits)
    assert bits == 21 and grid.claims_float32(bits, closed.positive_max, closed.negative_max)
    assert not grid.claims_float32(22, grid.close_integers(np.array([[0]]), 15, stems, 22).positive_max, 0.0)


def test_a_sum_that_is_right_as_listed_and_wrong_in_another_order_is_no_exact_one() -> None:
    closed = grid.close_floats(np.array([[2.0**-60]]), np.array([[[1.0]], [[-1.0]]]), is_wide=True)
    assert closed.files.ravel().tolist() == [1.0, -1.0, 2.0**-60]
    assert closed.inexact_samples == 1 and closed.max_error == 2.0**-60
