"""The sum of a remix, block by block, in numbers that do not round.

A remix is the original + sum(Y_i - S_i): S_i the stems as they lie in the set's files, Y_i what became of
them, rounded once to the set's grid. What nothing touches goes through as it is. On a grid the original is
sum(S_i), so that the remix is sum(Y_i). float64 holds all of it exactly: every value is a multiple of 2^-31
or more and at most `grid.LOUDEST`, so that 64 files stay below 2^53 units.

A set of floats at full precision stands on no grid: its closing file holds what float32 holds of the rest.
As long as nothing touches that file, the original itself is what the differences, which are on the grid, are
added to. A closing file that is touched joins the grid, and with it the remix.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stembridge.audio_io import BLOCK_FRAMES
from stembridge.dsp import grid
from stembridge.mixdown.source_set import SourceSet
from stembridge.mixdown.tracks import Voice
from stembridge.plane_file import PlaneFile

Signal = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MixBlock:
    """A stretch of a remix, (channels, frames) each.

    Parameters
    ----------
    tracks : what is heard, in the mix' order
    remix : the remix
    stems : the set's files that were read, by name
    original : what they sum to, where all of them were read
    """

    tracks: tuple[Signal, ...]
    remix: Signal
    stems: Mapping[str, Signal]
    original: Signal | None


@dataclass(frozen=True, slots=True)
class Mix:
    """Voices that sum to a remix.

    Parameters
    ----------
    voices : in the order of delivery; the set's closing file, where it is heard, comes last
    stem_bits : grid of everything that is touched
    frames : of the remix
    gain : factor on everything
    curve : a gain per frame on everything, None for none
    is_on_grid : the closing file joins the grid of the others even where nothing else touches it
    """

    source: SourceSet
    voices: tuple[Voice, ...]
    stem_bits: int
    frames: int
    gain: float = 1.0
    curve: PlaneFile | None = None
    is_on_grid: bool = False

    def is_untouched(self, voice: Voice) -> bool:
        """Tell whether the samples of ``voice`` are those of the set's file."""
        is_changed = self.gain != 1.0 or self.curve is not None
        is_closing = voice.entry == self.source.closing
        is_rounded = self.is_on_grid and is_closing and self._closing_is_finer
        return voice.is_untouched and not is_changed and not is_rounded

    @property
    def bits(self) -> int | None:
        """Grid of the remix and of the last voice; None where they are on none."""
        if not self.is_untouched(self.voices[-1]) or self.voices[-1].entry != self.source.closing:
            return self.stem_bits
        bits = self.source.document.grid.residual_bits
        return None if bits is None else max(bits, self.stem_bits)

    @property
    def _closing_is_finer(self) -> bool:
        grids = self.source.document.grid
        return grids.residual_bits != grids.stem_bits

    def read(self, *, is_compared: bool = False) -> Generator[MixBlock, None, None]:
        """Yield all of the remix from its first frame on.

        Parameters
        ----------
        is_compared : read the stems that are not heard too, for `MixBlock.original`

        Raises
        ------
        SourceError : a file of the set is not what was written
        ExactnessError : a sample is beyond the grid
        """
        document = self.source.document
        is_carried = self.bits is None
        wanted = {voice.name for voice in self.voices if voice.planes is None}
        with ExitStack() as stack:
            files = {
                entry.name: stack.enter_context(self.source.open_file(entry))
                for entry in document.stems
                if is_compared or is_carried or entry.name in wanted
            }
            originals = stack.enter_context(closing(self.source.read_original()))
            for start in range(0, self.frames, BLOCK_FRAMES):
                count = min(BLOCK_FRAMES, self.frames - start)
                stems = {name: file.read(count).astype(np.float64) for name, file in files.items()}
                curve = None if self.curve is None else self.curve.read(start, count)[0].astype(np.float64)
                tracks = tuple(self._hear(voice, stems, start, count, curve) for voice in self.voices)
                original = None
                if len(files) == len(document.stems):
                    original = grid.sum_in_order(list(stems.values()), range(len(stems)))
                    if self.source.original is not None:
                        original = np.zeros_like(original)
                        given = next(originals)[:, :count]
                        original[:, : given.shape[1]] = given
                remix = grid.sum_in_order(tracks, range(len(tracks)))
                if is_carried and original is not None:
                    remix = original + self.find_change(tracks, stems)
                yield MixBlock(tracks, remix, stems, original)

    def _hear(
        self, voice: Voice, stems: Mapping[str, Signal], start: int, count: int, curve: Signal | None
    ) -> Signal:
        if self.is_untouched(voice):
            return stems[voice.name]
        if voice.planes is None:
            signal = stems[voice.name]
        else:
            signal = voice.planes.read(start, count).astype(np.float64)
        gain = voice.gain * self.gain
        if gain != 1.0:
            signal = signal * gain
        if curve is not None:
            signal = signal * curve
        return grid.quantise(signal, self.stem_bits).astype(np.float64) * 2.0**-self.stem_bits

    def find_change(self, tracks: tuple[Signal, ...], stems: Mapping[str, Signal]) -> Signal:
        """Return sum(Y_i - S_i), exactly, since an untouched closing file has no part in it.

        Parameters
        ----------
        tracks : as in `MixBlock`
        stems : all files of the set
        """
        change = np.zeros_like(tracks[0])
        left = dict(stems)
        for voice, track in zip(self.voices, tracks, strict=True):
            before = left.pop(voice.name, None)
            if before is None:
                change += track
            elif before is not track:
                change += track - before
        for muted in left.values():
            change -= muted
        return change
