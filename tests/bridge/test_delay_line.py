"""Signals moved by whole and broken numbers of frames."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals import make_noise
from stembridge.dsp.delay_line import TAPS, advance, design_interpolator, make_reader


@pytest.mark.parametrize("delay", [0.0, 1.0, -1.0, 1105.0, -2048.0, 9_000.0])
@pytest.mark.parametrize("polarity", [1, -1])
def test_whole_frames_are_copied_bit_for_bit(delay: float, polarity: int) -> None:
    signal = make_noise(5_000, 2)
    moved = advance(make_reader(signal), delay, polarity)(0, 5_000)
    wanted = np.zeros_like(signal)
    for frame in range(5_000):
        if 0 <= frame + delay < 5_000:
            wanted[:, frame] = polarity * signal[:, frame + int(delay)]
    assert np.array_equal(moved, wanted)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.77, 0.999])
def test_a_fraction_is_a_mere_delay_up_to_0_45_of_the_rate(fraction: float) -> None:
    cycles = np.linspace(0.0, 0.4535, 1_000)
    reach = TAPS // 2 - np.arange(TAPS)
    answer = np.exp(2j * np.pi * cycles[:, None] * reach) @ design_interpolator(fraction)
    error = np.abs(answer - np.exp(2j * np.pi * cycles * fraction))
    assert 20 * np.log10(error.max()) < -100


@pytest.mark.parametrize("delay", [7.37, -1105.25, 0.5])
def test_a_tone_comes_from_where_it_was(delay: float) -> None:
    def tone(frames: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(2 * np.pi * 0.441 * frames + 0.3))

    read = make_reader(tone(np.arange(8_000))[None])
    moved = advance(read, delay, -1)(2_000, 4_000)[0]
    assert np.abs(moved + tone(np.arange(2_000, 6_000) + delay)).max() < 1e-5


@given(
    delay=st.floats(-300, 300),
    cuts=st.lists(st.integers(1, 900), min_size=1, max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_where_reads_begin_and_end_changes_nothing(delay: float, cuts: list[int]) -> None:
    read = advance(make_reader(make_noise(1_500, 1, seed=3)), delay)
    edges = np.cumsum([-200, *cuts])
    parts = [read(int(begin), int(end - begin)) for begin, end in itertools.pairwise(edges)]
    whole = read(-200, int(edges[-1]) + 200)
    assert np.allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-14)


def test_nothing_is_read_before_and_after_a_signal() -> None:
    read = make_reader(np.ones((2, 3)))
    assert read(-2, 7).tolist() == [[0, 0, 1, 1, 1, 0, 0]] * 2
    assert not read(5, 4).any()
    assert not read(-9, 4).any()


def test_an_argument_is_not_written_to() -> None:
    signal = make_noise(500, 1)
    kept = signal.copy()
    block = advance(make_reader(signal), 0.0)(0, 500)
    block *= 2.0
    advance(make_reader(signal), 3.3, -1)(0, 500)
    assert np.array_equal(signal, kept)
