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
    stems : (stems, channels, frames), every value a float32 on the stems' grid
    residual : (channels, frames), the mixture minus the stems; of two stems it is the complement
    positive_max, negative_max : the largest P and N of any sample, stems and residual together
    residual_fits_float32 : every value of the residual is a float32
    inexact_samples : samples of which float64 sums are not proven exact in any order
    max_error : the largest measured error of a float64 sum at those samples, full scale = 1
    """

    stems: Signal
    residual: Signal
    positive_max: float
    negative_max: float
    residual_fits_float32: bool
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
    # NaN passes through max and min, so that one comparison finds it too.
    peak = max(float(scaled.max()), -float(scaled.min()))
    if not peak <= LOUDEST * 2.0**bits:
        raise ExactnessError(
            f"a sample of {peak / 2.0**bits:g} cannot be put on a fixed-point grid",
            f"samples must be finite and at most {LOUDEST:g}",
        )
    ints = scaled.astype(np.int64)
    return ints if peak <= _FLOAT32_UNITS else round_to_float32(ints)


def close_integers(mixture: Ints, source_bits: int, stems: Signal, stem_bits: int) -> ClosedBlock:
    """Quantise ``stems`` and return them with the residual X 2^(k - ksrc) - sum q, all computed in int64.

    Parameters
    ----------
    mixture : (channels, frames) on the grid of ``source_bits`` bits
    stems : (stems, channels, frames), full scale = 1
    stem_bits : grid of the stems; the residual stands on the finer of the two grids

    Raises
    ------
    ExactnessError : a stem's sample is NaN, infinite or larger than `LOUDEST`
    """
    bits = max(source_bits, stem_bits)
    quantised = quantise(stems, stem_bits)
    lifted = quantised << (bits - stem_bits) if bits > stem_bits else quantised
    residual = (mixture << (bits - source_bits)) - lifted.sum(axis=0)
    positive = np.maximum(lifted, 0).sum(axis=0) + np.maximum(residual, 0)
    negative = positive - (mixture << (bits - source_bits))
    unit = 2.0**-bits
    as_float = residual.astype(np.float64)
    return ClosedBlock(
        stems=quantised.astype(np.float64) * 2.0**-stem_bits,
        residual=as_float * unit,
        positive_max=int(positive.max(initial=0)) * unit,
        negative_max=int(negative.max(initial=0)) * unit,
        residual_fits_float32=bool(np.array_equal(as_float.astype(np.float32), as_float)),
    )


def close_floats(mixture: Signal, stems: Signal) -> ClosedBlock:
    """Quantise ``stems`` to the grid of `STEM_BITS` bits and return them with the float64 residual.

    For mixtures at full float precision. Where the mixture's lowest bit is below 2^-53 of the part-sums and
    every stem is below `QUIET`, the stems are set to 0, so that the residual is the mixture itself; what then
    is still not provably exact is counted and its error measured over `sum_orders`.

    Parameters
    ----------
    mixture : (channels, frames)
    stems : (stems, channels, frames), full scale = 1

    Raises
    ------
    ExactnessError : a stem's sample is NaN, infinite or larger than `LOUDEST`
    """
    quantised = quantise(stems, STEM_BITS)
    residual = mixture - quantised.sum(axis=0) * 2.0**-STEM_BITS
    values = quantised.astype(np.float64) * 2.0**-STEM_BITS
    positive, negative = part_sums(values, residual)
    inexact = find_inexact(mixture, positive, negative)
    if inexact.any():
        hushed = inexact & (np.abs(values).max(axis=0, initial=0.0) < QUIET)
        if hushed.any():
            values = np.where(hushed, 0.0, values)
            residual = np.where(hushed, mixture, residual)
            positive, negative = part_sums(values, residual)
            inexact = find_inexact(mixture, positive, negative)
    count = int(np.count_nonzero(inexact))
    return ClosedBlock(
        stems=values,
        residual=residual,
        positive_max=float(positive.max(initial=0.0)),
        negative_max=float(negative.max(initial=0.0)),
        residual_fits_float32=bool(np.array_equal(residual.astype(np.float32), residual)),
        inexact_samples=count,
        max_error=measure_error([*values, residual], mixture) if count else 0.0,
    )


def part_sums(stems: Signal | Sequence[Signal], residual: Signal) -> tuple[Signal, Signal]:
    """Return P and N per sample: the sums of the positive and of the negated negative values.

    Exact for values on a grid; for others the float64 sums from the first stem to the residual.
    """
    positive = np.maximum(residual, 0.0)
    negative = positive - residual
    for stem in stems:
        above = np.maximum(stem, 0.0)
        positive += above
        above -= stem
        negative += above
    return positive, negative


def find_inexact(mixture: Signal, positive: Signal, negative: Signal) -> NDArray[np.bool_]:
    """Return where a float64 sum of stems on the grid of `STEM_BITS` bits and a residual is not proven exact.

    The unit of a sample is its lowest bit set, or 2^-23 if that is finer; proven exact is what has
    P, N < 2^53 units. (At the bound itself a rounded residual could hide.)
    """
    significand, exponent = np.frexp(mixture)
    digits = (significand * _FLOAT64_UNITS).astype(np.int64)
    lowest = (digits & -digits).astype(np.float64)
    # A sample of 0 has no lowest bit; the stems' unit stands for it.
    unit = np.where(digits == 0, 2.0**-STEM_BITS, np.ldexp(lowest, exponent - 53))
    limit = np.minimum(unit, 2.0**-STEM_BITS) * float(_FLOAT64_UNITS)
    return np.asarray(np.maximum(positive, negative) >= limit)


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


def sum_in_order(values: Sequence[NDArray[Width]], order: Sequence[int]) -> NDArray[Width]:
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
