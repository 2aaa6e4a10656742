"""Chains at work on the stems of a set, on what is sent to returns, and on the remix as a whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge import disk
from stembridge.audio_io import BLOCK_FRAMES
from stembridge.dsp import grid
from stembridge.effects.chain import Chain
from stembridge.effects.kinds import chain_is_linear
from stembridge.effects.stream import OpenPlugin, run_chain
from stembridge.mixdown.mixing import Mix
from stembridge.mixdown.side_by_side import read_ahead, run_side_by_side
from stembridge.mixdown.source_set import SourceSet
from stembridge.mixdown.tracks import Track, Voice
from stembridge.plane_file import PlaneFile
from stembridge.plugins.hosted import make_opener
from stembridge.plugins.process import RunningPlugins
from stembridge.presets import MASTER_DELTA, Send
from stembridge.settings import Settings

Block = NDArray[np.float32]
Steps = Generator[float, None, None]


@dataclass(slots=True)
class Renderer:
    """Renders signals through chains onto the disk.

    Parameters
    ----------
    folder : where samples wait on the disk, until ``stack`` closes their files
    out : folder that is named where the disk does not take them
    stem_bits : grid of what is heard
    is_extended : signals go on until their tails have died away
    notes : gets what a listener should know of plugins
    """

    source: SourceSet
    settings: Settings
    folder: Path
    out: Path
    stack: ExitStack
    stem_bits: int
    is_extended: bool
    notes: list[str] = field(default_factory=list)
    _files: int = 0

    def render_tracks(self, tracks: Sequence[Track]) -> Generator[float, None, tuple[Voice, ...]]:
        """Return the tracks as they are with their chains, two of them rendered at a time."""
        voices: list[Voice] = []
        tasks: list[Callable[[OpenPlugin], Steps]] = []
        for track in tracks:
            planes = self._new_planes() if track.chain.effects else None
            voices.append(Voice(track.entry.name, track.entry, planes, self.source.frames, track.gain))
            if planes is not None:
                tasks.append(self._task(track.chain, self._read_file(track), self.source.frames, planes))
        yield from self._run(tasks)
        return tuple(map(_measure, voices))

    def render_sends(
        self, sends: Sequence[Send], voices: Sequence[Voice]
    ) -> Generator[float, None, tuple[Voice, ...]]:
        """Return the returns of all sends to which anything that is heard is sent.

        Parameters
        ----------
        voices : the stems that are heard, faders included
        """
        names = {voice.name for voice in voices}
        returns: list[Voice] = []
        tasks: list[Callable[[OpenPlugin], Steps]] = []
        for send in sends:
            if names.isdisjoint(send.levels_db):
                continue
            feeding = tuple(voice for voice in voices if voice.name in send.levels_db)
            frames = max(voice.frames for voice in feeding)
            planes = self._new_planes()
            returns.append(Voice(send.name, None, planes, frames, 10 ** (send.gain_db / 20)))
            tasks.append(self._task(send.chain, self._read_sent(send, feeding, frames), frames, planes))
        yield from self._run(tasks)
        return tuple(map(_measure, returns))

    def render_master(self, chain: Chain, mix: Mix) -> Generator[float, None, Mix]:
        """Return the mix with a master chain on it.

        A linear chain runs on every voice: the sum of what it makes of them is what it makes of the sum. Of
        any other one, what it adds to the remix becomes a voice of its own.
        """
        if chain_is_linear(chain):
            voices = [replace(voice, planes=self._new_planes(), gain=1.0) for voice in mix.voices]
            tasks = [
                self._task(chain, self._read_voice(mix, index), before.frames, after.planes)
                for index, (before, after) in enumerate(zip(mix.voices, voices, strict=True))
                if after.planes is not None
            ]
            yield from self._run(tasks)
            voices = list(map(_measure, voices))
            return replace(mix, voices=tuple(voices), frames=max(voice.frames for voice in voices))
        wet = self._new_planes()
        # The difference is to be on the grid of the stems, and the file that closes the sum the last.
        mix = replace(mix, is_on_grid=True)
        yield from self._run([self._task(chain, self._read_remix(mix), mix.frames, wet)])
        delta = self._new_planes()
        name = _find_free_name(MASTER_DELTA, {*self.source.names, *(voice.name for voice in mix.voices)})
        longer = replace(mix, frames=wet.frames)
        position = 0
        with closing(read_ahead(longer.read())) as blocks:
            for block in blocks:
                count = block.remix.shape[1]
                after = grid.quantise(wet.read(position, count).astype(np.float64), self.stem_bits)
                with disk.writing(self.out):
                    delta.append(after.astype(np.float64) * 2.0**-self.stem_bits - block.remix)
                position += count
                yield 1.0
        voice = Voice(name, None, delta, delta.frames)
        return replace(longer, voices=(*mix.voices[:-1], voice, mix.voices[-1]))

    def _new_planes(self) -> PlaneFile:
        self._files += 1
        with disk.writing(self.out):
            return self.stack.enter_context(
                PlaneFile(self.folder, f"signal-{self._files}", self.source.channels)
            )

    def _task(
        self, chain: Chain, blocks: Generator[Block, None, None], frames: int, planes: PlaneFile
    ) -> Callable[[OpenPlugin], Steps]:
        def run(open_plugin: OpenPlugin) -> Steps:
            with closing(blocks):
                rendering = run_chain(
                    chain,
                    blocks,
                    channels=self.source.channels,
                    sample_rate=self.source.sample_rate,
                    frames=frames,
                    groups=self.source.groups,
                    is_extended=self.is_extended,
                    open_plugin=open_plugin,
                )
                with closing(rendering):
                    for block in rendering:
                        with disk.writing(self.out):
                            planes.append(block)
                        yield min(1.0, planes.frames / frames)

        return run

    def _run(self, tasks: Sequence[Callable[[OpenPlugin], Steps]]) -> Steps:
        """Run the tasks side by side; what is said of plugins comes in their order, not in that of time."""
        if not tasks:
            return
        notes: list[list[str]] = [[] for _ in tasks]
        plugins = RunningPlugins()
        running = [
            task(make_opener(self.settings, said, running=plugins))
            for task, said in zip(tasks, notes, strict=True)
        ]
        yield from run_side_by_side(running, plugins.end)
        for note in (note for said in notes for note in said):
            if note not in self.notes:
                self.notes.append(note)

    def _read_file(self, track: Track) -> Generator[Block, None, None]:
        with self.source.open_file(track.entry) as file:
            for count in _cut(self.source.frames):
                yield file.read(count).astype(np.float32, copy=False)

    def _read_sent(self, send: Send, voices: tuple[Voice, ...], frames: int) -> Generator[Block, None, None]:
        levels = [10 ** (send.levels_db[voice.name] / 20) for voice in voices]
        mix = Mix(self.source, voices, self.stem_bits, frames, is_on_grid=True)
        with closing(mix.read()) as blocks:
            for block in blocks:
                sent = np.zeros_like(block.remix)
                for level, track in zip(levels, block.tracks, strict=True):
                    sent += level * track
                yield sent.astype(np.float32)

    def _read_voice(self, mix: Mix, index: int) -> Generator[Block, None, None]:
        voice = mix.voices[index]
        alone = replace(mix, voices=(voice,), frames=voice.frames, is_on_grid=True)
        with closing(alone.read()) as blocks:
            for block in blocks:
                yield block.tracks[0].astype(np.float32)

    def _read_remix(self, mix: Mix) -> Generator[Block, None, None]:
        with closing(mix.read()) as blocks:
            for block in blocks:
                yield block.remix.astype(np.float32)


def _measure(voice: Voice) -> Voice:
    return voice if voice.planes is None else replace(voice, frames=voice.planes.frames)


def _cut(frames: int) -> Iterator[int]:
    for start in range(0, frames, BLOCK_FRAMES):
        yield min(BLOCK_FRAMES, frames - start)


def _find_free_name(name: str, taken: set[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name} {number}", number + 1
    return found
