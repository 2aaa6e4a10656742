"""How good `preview` is: SDR per stem on synthetic songs, beside mix/4 and beside a static equaliser.

The equaliser is the best there is: for each stem and frequency, in mid and side, the real gain of least
squared error over the songs of the tuning seeds. `preview` was tuned on the same seeds; both are judged on
others. SDR here is 10 log10(sum s^2 / sum (s - estimate)^2) over all frames and both channels of a song, in
dB, and a stem's figure is the mean over the songs. The songs are plainer than recordings: the figures say
that preview separates at all, not how it sounds on a record.

    python benchmarks/preview_quality.py [--seeds 100-119] [--seconds 20] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from report import write_report
from stembridge.synthesis import STEM_NAMES, make_song
from stembridge_daemon.worker.separators.base import SeparationPlan
from stembridge_daemon.worker.separators.preview import PreviewSeparator, Spectra, to_signals, to_spectra

TUNING_SEEDS = range(10)
METHODS = ("mix/4", "equaliser", "preview")


class SongReader:
    """A mixture in memory behind the pipeline's `MixtureReader`."""

    def __init__(self, mixture: NDArray[np.float32]) -> None:
        self._mixture = mixture
        self.channels, self.frames = mixture.shape
        mono = mixture.mean(axis=0, dtype=np.float64)
        self.mean, self.deviation = float(mono.mean()), float(mono.std(ddof=1))

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        block = np.zeros((self.channels, frames), dtype=np.float32)
        low, high = max(0, start), min(self.frames, start + frames)
        block[:, low - start : high - start] = self._mixture[:, low:high]
        return block


def song_stems(seed: int, seconds: float) -> NDArray[np.float32]:
    """Return the stems (4, 2, frames) of a song."""
    return np.stack(list(make_song(seed, seconds=seconds).stems.values())).astype(np.float32)


def mid_side_spectra(signal: NDArray[np.float32]) -> Spectra:
    return to_spectra(np.stack([signal[0] + signal[1], signal[0] - signal[1]]) * np.float32(0.5))


def fit_equaliser(seconds: float) -> NDArray[np.float32]:
    """Return the Wiener gains (4, 2, 1, bins) of each stem in mid and side over the tuning seeds."""
    shared: NDArray[np.float64] = np.zeros((4, 2, 1, 1))
    whole: NDArray[np.float64] = np.zeros((2, 1, 1))
    for seed in TUNING_SEEDS:
        stems = song_stems(seed, seconds)
        mixture = mid_side_spectra(stems.sum(axis=0))
        product = [(mid_side_spectra(stem) * mixture.conj()).real for stem in stems]
        shared = shared + np.stack(product).sum(axis=2, keepdims=True, dtype=np.float64)
        whole = whole + (np.abs(mixture) ** 2).sum(axis=1, keepdims=True, dtype=np.float64)
    return np.asarray(shared / (whole + 1e-12), dtype=np.float32)


def equalise(mixture: NDArray[np.float32], gains: NDArray[np.float32]) -> NDArray[np.float32]:
    mid, side = (gains * mid_side_spectra(mixture)).swapaxes(0, 1)
    return to_signals(np.stack([mid + side, mid - side], axis=1), mixture.shape[1])


def measure_sdr_db(stems: NDArray[np.float32], estimates: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the SDR of each stem in dB, (4,)."""
    signal = np.sum(stems.astype(np.float64) ** 2, axis=(1, 2))
    error = np.sum((stems.astype(np.float64) - estimates) ** 2, axis=(1, 2))
    return np.asarray(10 * np.log10(signal / error))


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of '100-119' or '7'."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> int:
    parser = argparse.ArgumentParser(description="SDR of preview beside mix/4 and a static equaliser.")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("100-119"), help="e.g. 100-119")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each song")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).parent / "results" / "preview_quality.json"
    )
    options = parser.parse_args()

    gains = fit_equaliser(options.seconds)
    separator, plan = PreviewSeparator(), SeparationPlan(STEM_NAMES)
    sdr_db = np.zeros((len(options.seeds), len(METHODS), len(STEM_NAMES)))
    spent_s = 0.0
    for row, seed in enumerate(options.seeds):
        stems = song_stems(seed, options.seconds)
        mixture = stems.sum(axis=0)
        began = time.perf_counter()
        blocks = list(separator.separate([SongReader(mixture)], plan))
        spent_s += time.perf_counter() - began
        split = np.concatenate([block.stems for block in blocks], axis=2)
        quarter = np.repeat(mixture[None] / 4, 4, axis=0)
        for column, estimates in enumerate((quarter, equalise(mixture, gains), split)):
            sdr_db[row, column] = measure_sdr_db(stems, estimates)
        print(f"seed {seed:4d}  preview {np.round(sdr_db[row, 2], 1)}", file=sys.stderr)

    means = sdr_db.mean(axis=0)
    print(f"SDR in dB, mean over {len(options.seeds)} songs of {options.seconds:g} s")
    print(f"{'':10}" + "".join(f"{name:>9}" for name in (*STEM_NAMES, "average")))
    for method, row_db in zip(METHODS, means, strict=True):
        print(f"{method:10}" + "".join(f"{value:9.2f}" for value in (*row_db, row_db.mean())))
    print(f"preview took {spent_s / (len(options.seeds) * options.seconds):.3f} s per second of audio here")

    above_quarter = sdr_db[:, 2] > sdr_db[:, 0]
    above_equaliser = sdr_db[:, 2].mean(axis=1) > sdr_db[:, 1].mean(axis=1)
    figures = {
        "unit": "SDR in dB, mean over songs",
        "seconds": options.seconds,
        "tuning_seeds": list(TUNING_SEEDS),
        "sdr_db": {
            method: {
                **dict(zip(STEM_NAMES, row_db.round(2).tolist(), strict=True)),
                "average": round(row_db.mean(), 2),
            }
            for method, row_db in zip(METHODS, means, strict=True)
        },
        "worst_song_db": dict(zip(STEM_NAMES, sdr_db[:, 2].min(axis=0).round(2).tolist(), strict=True)),
        "stems_above_mix4": f"{int(above_quarter.sum())} of {above_quarter.size}",
        "songs_above_equaliser": f"{int(above_equaliser.sum())} of {above_equaliser.size}",
    }
    write_report("preview_quality", sys.argv, options.seeds, figures, options.json)
    holds = bool((means[2] > means[0]).all() and means[2].mean() > means[1].mean())
    print("above mix/4 on every stem and above the equaliser on average: " + ("yes" if holds else "NO"))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
