"""Songs by synthesis: the same for the same seed, another for another, and their stems add up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stembridge.errors import RequestError
from stembridge.synthesis import STEM_NAMES, make_song


def test_a_seed_makes_the_same_song_again() -> None:
    first, second = make_song(5, seconds=4.0), make_song(5, seconds=4.0)
    for name in STEM_NAMES:
        assert np.array_equal(first.stems[name], second.stems[name])


def test_seeds_make_different_songs() -> None:
    songs = [make_song(seed, seconds=4.0) for seed in range(3)]
    for one, other in itertools.combinations(songs, 2):
        for name in STEM_NAMES:
            a, b = one.stems[name].ravel(), other.stems[name].ravel()
            assert abs(np.vdot(a, b)) < 0.5 * np.linalg.norm(a) * np.linalg.norm(b), name


@pytest.mark.parametrize("seed", [0, 7, 104])
def test_stems_add_up_below_full_scale_and_all_sound(seed: int) -> None:
    song = make_song(seed, seconds=10.0)
    assert tuple(song.stems) == STEM_NAMES
    total = np.zeros((2, song.frames))
    for stem in song.stems.values():
        assert stem.shape == (2, 441_000)
        assert stem.dtype == np.float64
        assert stem.flags.c_contiguous
        assert 0.005 < np.sqrt(np.mean(stem**2)) < 0.3
        total += stem
    assert np.allclose(song.mixture, total, atol=1e-12)
    assert 0.69 < np.max(np.abs(song.mixture)) < 0.71
    assert np.max(np.abs(song.mixture[:, -1])) < 1e-3


def test_stems_lie_where_their_instruments_do() -> None:
    song = make_song(11, seconds=10.0)
    hz = np.fft.rfftfreq(song.frames, 1 / song.sample_rate)
    median_hz = {}
    for name, stem in song.stems.items():
        energy = np.cumsum(np.abs(np.fft.rfft(stem.mean(axis=0))) ** 2)
        median_hz[name] = float(hz[np.searchsorted(energy, energy[-1] / 2)])
    assert 30 < median_hz["bass"] < 200 < median_hz["other"] < 2000
    assert 90 < median_hz["vocals"] < 2000


def test_the_voice_rests_between_phrases() -> None:
    voice = make_song(2, seconds=12.0).stems["vocals"]
    blocks = voice[:, : voice.shape[1] // 4410 * 4410].reshape(2, -1, 4410)
    level = np.sqrt(np.mean(blocks**2, axis=(0, 2)))
    assert 0.05 < np.mean(level < 0.03 * level.max()) < 0.7


@pytest.mark.parametrize(
    ("seconds", "sample_rate"), [(1e-9, 44_100), (0.1, 44_100), (1.0, 8000), (2.5, 96_000)]
)
def test_any_length_and_rate(seconds: float, sample_rate: int) -> None:
    song = make_song(3, seconds=seconds, sample_rate=sample_rate)
    assert song.frames == max(1, round(seconds * sample_rate))
    assert np.isfinite(song.mixture).all()
    assert np.max(np.abs(song.mixture)) < 0.71


@pytest.mark.parametrize(
    ("seed", "seconds", "sample_rate"), [(-1, 1.0, 44_100), (0, 0.0, 44_100), (0, 1.0, 100)]
)
def test_what_is_no_song_is_refused(seed: int, seconds: float, sample_rate: int) -> None:
    with pytest.raises(RequestError, match=f"seed {seed}, {seconds} s at {sample_rate} Hz"):
        make_song(seed, seconds=seconds, sample_rate=sample_rate)
