"""The fixed-point grid on which stems are closed, so that they sum to the mixture sample for sample.

A float sum is exact in any order and any tree as long as every value is a multiple of one unit u and no
partial sum leaves the significand: with P the sum of the positive values at a sample and N that of the
negative ones, negated, every partial sum lies in [-N, P], so P, N <= 2^24 u is enough for float32 and
P, N <= 2^53 u for float64 (Sterbenz' argument carried over a sum; Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., ch. 4).

Blocks are (channels, frames), stacks (stems, channels, frames); integers are int64 on a stated grid: the
integer i on the grid of ``bits`` bits stands for the sample i / 2^bits.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stembridge.errors import ExactnessError

Signal = NDArray[np.float64]
Ints = NDArray[np.int64]
Width = TypeVar("Width", np.float32, np.float64)

STEM_BITS = 23
"""The finest grid of stems: float32 holds every multiple of 2^-23 up to 2.0 (+6 dBFS)."""

COARSEST_BITS = 15
"""The coarsest grid that is tried for 16-bit sources; there float32 holds 512.0 (+54 dBFS)."""

LOUDEST = 2.0**16
"""The largest magnitude of any sample, source or stem (+96 dBFS): keeps every int64 sum far from its end."""

QUIET = 2.0**-14
"""Below this a stem sample may be set to 0 where a full-precision source is finer than float64 can close."""

_FLOAT32_UNITS = 1 << 24
_FLOAT64_UNITS = 1 << 53
_ORDERS_SEED = 20


@dataclass(frozen=True, slots=True)
class ClosedBlock:
    """One block of a closed set.

    Parameters
    ----------
    files : (files, channels, frames): the stems, then the residual; of a fold the stems alone
    positive_max, negative_max : the largest P and N of any sample
    inexact_samples : samples of which float64 sums are not proven to be the mixture in any order
    max_error : the largest measured error of a float64 sum where there are such samples, full scale = 1
    """

    files: Signal
    positive_max: float
    negative_max: float
    inexact_samples: int = 0
    max_error: float = 0.0


def is_on_grid(signal: Signal, bits: int) -> bool:
    """Tell whether every sample is a multiple of 2^-bits."""
    scaled = signal * 2.0**bits
    return bool(np.array_equal(scaled, np.rint(scaled)))


def round_to_float32(values: Ints) -> Ints:
    """Return the nearest integers that float32 holds; up to 2^24 that is the argument itself."""
    if values.size == 0 or max(int(values.max()), -int(values.min())) <= _FLOAT32_UNITS:
        return values
    return values.astype(np.float32).astype(np.int64)


def quantise(signal: Signal, bits: int) -> Ints:
    """Return ``signal`` on the grid of ``bits`` bits, as integers that float32 holds.

    Halves go to even. Up to 2^(24 - bits) in amplitude no sample moves by more than half a unit.

    Raises
    ------
    ExactnessError : a sample is NaN, infinite or larger than `LOUDEST`
    """
    if signal.size == 0:
        return np.zeros(signal.shape, np.int64)
    scaled = signal * 2.0**bits
    np.rint(scaled, out=scaled)
    peak = _check_peak(scaled, bits)
    ints = scaled.astype(np.int64)
    return ints if peak <= _FLOAT32_UNITS else round_to_float32(ints)


def _check_peak(scaled: Signal, bits: int) -> float:
    """Return the peak of samples in units of the grid; raise where one is NaN, infinite or too large."""
    # NaN passes through max and min, so that one comparison finds it too.
    peak = max(float(scaled.max(initial=0.0)), -float(scaled.min(initial=0.0)))
    if not peak <= LOUDEST * 2.0**bits:
        raise ExactnessError(
            f"a sample of {peak / 2.0**bits:g} cannot be put on a fixed-point grid",
            f"samples must be finite and at most {LOUDEST:g}",
        )
    return peak


def close_integers(
    mixture: Ints, source_bits: int, stems: Signal, stem_bits: int, *, is_fold: bool = False
) -> ClosedBlock:
    """Quantise ``stems`` and close their sum in int64.

    Either a residual X 2^(k - ksrc) - sum q follows the stems, which move by no more than half a unit, or the
    stems of a fold, which sum to the mixture but for rounding, are moved by less than one unit to meet it.

    Parameters
    ----------
    mixture : (channels, frames) on the grid of ``source_bits`` bits
    stems : (stems, channels, frames), full scale = 1
    stem_bits : grid of the stems; the last file stands on the finer of the two grids

    Raises
    ------
    ExactnessError : a stem's sample is NaN, infinite or larger than `LOUDEST`
    """
    bits = max(source_bits, stem_bits)
    target = mixture << (bits - source_bits)
    lift = bits - stem_bits
    if is_fold:
        # Where the source is finer than the stems' grid, the last file takes the rest.
        whole = (target + (1 << lift >> 1)) >> lift
        ints = apportion(whole, stems, stem_bits) << lift
        ints[-1] += target - (whole << lift)
    else:
        quantised = quantise(stems, stem_bits) << lift
        ints = np.concatenate([quantised, (target - quantised.sum(axis=0))[np.newaxis]])
    positive = np.maximum(ints, 0).sum(axis=0)
    negative = positive - target
    unit = 2.0**-bits
    return ClosedBlock(
        files=ints.astype(np.float64) * unit,
        positive_max=int(positive.max(initial=0)) * unit,
        negative_max=int(negative.max(initial=0)) * unit,
    )


def apportion(target: Ints, stems: Signal, bits: int) -> Ints:
    """Return ``stems`` on the grid of ``bits`` bits so that they sum to ``target``, as integers.

    What rounding leaves over goes, a unit each, to the stems that it moved farthest the other way (the method
    of largest remainders), so that stems which sum to the target but for rounding move by less than one unit.

    Parameters
    ----------
    target : (channels, frames)
    stems : (stems, channels, frames), full scale = 1

    Raises
    ------
    ExactnessError : a sample is NaN, infinite or larger than `LOUDEST`
    """
    scaled = stems * 2.0**bits
    _check_peak(scaled, bits)
    rounded = np.rint(scaled)
    ints = rounded.astype(np.int64)
    missing = target - ints.sum(axis=0)
    share, extra = np.divmod(np.abs(missing), len(stems))
    sign = np.sign(missing)
    # Rank 0 is the stem that the extra unit brings nearest to what it was.
    order = np.argsort(-sign * (scaled - rounded), axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(stems)).reshape(-1, 1, 1), axis=0)
    ints += sign * (share + (rank < extra))
    return ints


def close_floats(mixture: Signal, stems: Signal, *, is_wide: bool, is_fold: bool = False) -> ClosedBlock:
    """Close a mixture at full float precision: stems on the grid of `STEM_BITS` bits, the last file beside.

    With ``is_wide`` the last file is a float64 one that takes all the rest. Where even that cannot close (the
    mixture's lowest bit is below 2^-53 of the part-sums) and every stem is below `QUIET`, the stems become 0
    and the last file is the mixture itself. Without ``is_wide`` the residual is rounded to float32, and the
    stems of a fold stay on their grid. What is not provably exact is counted and its error measured over
    `sum_orders`.

    Parameters
    ----------
    mixture : (channels, frames)
    stems : (stems, channels, frames), full scale = 1
    is_fold : the stems themselves sum to the mixture; there is no residual

    Raises
    ------
    ExactnessError : a stem's sample is NaN, infinite or larger than `LOUDEST`
    """
    unit = 2.0**-STEM_BITS
    if is_fold:
        target = np.rint(mixture / unit).astype(np.int64)
        files = apportion(target, stems, STEM_BITS).astype(np.float64) * unit
        if is_wide:
            files[-1] = mixture - files[:-1].sum(axis=0)
    else:
        quantised = quantise(stems, STEM_BITS)
        rest = mixture - quantised.sum(axis=0) * unit
        if not is_wide:
            rest = rest.astype(np.float32).astype(np.float64)
        files = np.concatenate([quantised.astype(np.float64) * unit, rest[np.newaxis]])
    positive, negative = part_sums(files)
    inexact = find_inexact(mixture, files, positive, negative)
    if is_wide and inexact.any():
        hushed = inexact & (np.abs(files[:-1]).max(axis=0, initial=0.0) < QUIET)
        if hushed.any():
            files[:-1, hushed] = 0.0
            files[-1, hushed] = mixture[hushed]
            positive, negative = part_sums(files)
            inexact = find_inexact(mixture, files, positive, negative)
    count = int(np.count_nonzero(inexact))
    return ClosedBlock(
        files=files,
        positive_max=float(positive.max(initial=0.0)),
        negative_max=float(negative.max(initial=0.0)),
        inexact_samples=count,
        max_error=measure_error(list(files), mixture) if count else 0.0,
    )


def fits_float32(signal: Signal) -> bool:
    """Tell whether every sample is a float32."""
    return bool(np.array_equal(signal.astype(np.float32), signal))


def part_sums(files: Signal | Sequence[Signal]) -> tuple[Signal, Signal]:
    """Return P and N per sample: the sums of the positive and of the negated negative values of all files.

    Exact for values on a grid; for others the float64 sums from the last file, then from the first on.
    """
    positive = np.maximum(files[-1], 0.0)
    negative = positive - files[-1]
    for values in files[:-1]:
        above = np.maximum(values, 0.0)
        positive += above
        above -= values
        negative += above
    return positive, negative


def find_inexact(
    mixture: Signal, files: Signal | Sequence[Signal], positive: Signal, negative: Signal
) -> NDArray[np.bool_]:
    """Return where float64 sums of ``files`` are not proven to be ``mixture`` in any order.

    All files but the last stand on the grid of `STEM_BITS` bits. The unit of a sample is the lowest bit set
    in the last file, or 2^-23 if that is finer; with P, N < 2^53 units no order can round, so one sum tells.
    """
    significand, exponent = np.frexp(files[-1])
    digits = (significand * _FLOAT64_UNITS).astype(np.int64)
    lowest = (digits & -digits).astype(np.float64)
    # A sample of 0 has no lowest bit; the stems' unit stands for it.
    unit = np.where(digits == 0, 2.0**-STEM_BITS, np.ldexp(lowest, exponent - 53))
    limit = np.minimum(unit, 2.0**-STEM_BITS) * float(_FLOAT64_UNITS)
    is_proven = np.maximum(positive, negative) < limit
    return np.asarray(~is_proven | (sum_in_order(files, range(len(files))) != mixture))


def claims_float64(bits: int, positive_max: float, negative_max: float) -> bool:
    """Tell whether float64 sums on the grid of ``bits`` bits are exact in any order."""
    return max(positive_max, negative_max) * 2.0**bits <= _FLOAT64_UNITS


def claims_float32(bits: int, positive_max: float, negative_max: float) -> bool:
    """Tell whether float32 sums on the grid of ``bits`` bits are exact in any order."""
    return max(positive_max, negative_max) * 2.0**bits <= _FLOAT32_UNITS


def fitting_bits(source_bits: int, positive_max: float, negative_max: float, stems: int) -> int:
    """Return the finest stem grid on which float32 sums are exact in any order, `STEM_BITS` if there is none.

    Parameters
    ----------
    source_bits : grid of the source; no grid coarser than this can carry it
    positive_max, negative_max : largest part-sums as found on the grid of `STEM_BITS` bits
    stems : number of stems, each of which moves the part-sums by at most two units of the coarser grid
    """
    if claims_float32(max(source_bits, STEM_BITS), positive_max, negative_max):
        return STEM_BITS
    for bits in range(STEM_BITS - 1, max(COARSEST_BITS, source_bits) - 1, -1):
        if max(positive_max, negative_max) * 2.0**bits + 2 * stems <= _FLOAT32_UNITS:
            return bits
    return STEM_BITS


def sum_orders(files: int, limit: int = 6) -> tuple[tuple[int, ...], ...]:
    """Return at most ``limit`` different orders in which ``files`` files are summed.

    As listed and reversed come first; all permutations where they are no more than ``limit``, else a seeded
    sample of them.
    """
    straight = tuple(range(files))
    orders = dict.fromkeys([straight, straight[::-1]])
    if factorial(files) <= limit:
        return tuple(dict.fromkeys([*orders, *permutations(straight)]))
    draw = random.Random(_ORDERS_SEED)
    while len(orders) < limit:
        orders[tuple(draw.sample(straight, files))] = None
    return tuple(orders)


def sum_in_order(values: NDArray[Width] | Sequence[NDArray[Width]], order: Sequence[int]) -> NDArray[Width]:
    """Return the sum of ``values`` from left to right in ``order``, in their own width."""
    total = values[order[0]].copy()
    for index in order[1:]:
        total += values[index]
    return total


def sum_pairwise(values: Sequence[NDArray[Width]]) -> NDArray[Width]:
    """Return the sum of ``values`` as a balanced tree adds them, in their own width."""
    if len(values) == 1:
        return values[0].copy()
    half = len(values) // 2
    total = sum_pairwise(values[:half])
    total += sum_pairwise(values[half:])
    return total


def sum_squares(signal: Signal) -> float:
    """Return the energy of (channels, frames)."""
    # Not np.dot: BLAS adds in an order that depends on its number of threads.
    return float(np.einsum("ij,ij->", signal, signal))


def measure_error(values: Sequence[Signal], mixture: Signal) -> float:
    """Return the largest error of the float64 sums of ``values`` over `sum_orders` and a balanced tree."""
    largest = 0.0
    for order in sum_orders(len(values)):
        largest = max(largest, float(np.abs(sum_in_order(values, order) - mixture).max(initial=0.0)))
    return max(largest, float(np.abs(sum_pairwise(values) - mixture).max(initial=0.0)))
