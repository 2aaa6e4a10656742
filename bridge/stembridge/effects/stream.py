"""A chain at work: blocks in, blocks out at the same samples, in memory that no length makes grow."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.effects.kinds import KINDS, drop_neutral
from stembridge.effects.processors import Block, BlockProcessor, find_pause_s, open_builtin
from stembridge.errors import EffectError

OpenPlugin = Callable[[PluginEffect, int, int], BlockProcessor]
"""Opens a plugin for a sample rate and a count of channels."""

BLOCK_FRAMES = 8192
"""What every effect is given at a time, always: some sound different with another block."""

MAX_TAIL_S = 30.0
_TAIL_FADE_S = 1.0
_TAIL_FLOOR = 1e-5
"""-100 dBFS, where a tail ends."""
_MAX_HELD_S = 30.0
_LIVE_PEAK = 10 ** (-70 / 20)
_PAUSE_S = 0.5
"""A tail is over when nothing was heard for this long, and for as long as the chain's echoes take."""


class _Queue:
    """Samples that wait, given out in pieces of another length; a piece that fits is not copied."""

    def __init__(self, channels: int) -> None:
        self.frames = 0
        self._blocks: list[Block] = []
        self._channels = channels

    def add(self, block: Block) -> None:
        if block.shape[1]:
            self._blocks.append(block)
            self.frames += block.shape[1]

    def take(self, frames: int) -> Block:
        """Return the next ``frames`` samples, which must be there."""
        taken: list[Block] = []
        lacking = frames
        while lacking:
            block = self._blocks.pop(0)
            if block.shape[1] > lacking:
                self._blocks.insert(0, block[:, lacking:])
                block = block[:, :lacking]
            taken.append(block)
            lacking -= block.shape[1]
        self.frames -= frames
        if not taken:
            return np.zeros((self._channels, 0), np.float32)
        joined = taken[0] if len(taken) == 1 else np.concatenate(taken, axis=1)
        return np.ascontiguousarray(joined)


class _Group:
    """One effect on one group of channels."""

    def __init__(self, rows: Sequence[int], processor: BlockProcessor, is_silencing: bool) -> None:
        self.rows = list(rows)
        self.processor = processor
        self.out = _Queue(len(self.rows))
        self.held_frames = 0
        self.is_silencing = is_silencing
        self.has_live_input = self.has_output = False


class _Stage:
    """One effect on all channels: takes blocks of one length, hands on what is there of every group."""

    def __init__(
        self, label: str, groups: list[_Group], channels: int, sample_rate: int, block_frames: int
    ) -> None:
        self._label = label
        self._groups = groups
        self._channels = channels
        self._sample_rate = sample_rate
        self._block_frames = block_frames
        self._waiting = _Queue(channels)
        self._given = 0

    def push(self, block: Block) -> Iterator[Block]:
        """Hand out what comes of a block of any length."""
        self._waiting.add(block)
        while self._waiting.frames >= self._block_frames:
            out = self._process(self._waiting.take(self._block_frames))
            if out.shape[1]:
                yield out

    def _process(self, block: Block) -> Block:
        for group in self._groups:
            part = block if len(group.rows) == self._channels else np.ascontiguousarray(block[group.rows])
            group.out.add(self._run(group, part))
        frames = min(group.out.frames for group in self._groups)
        self._given += frames
        if len(self._groups) == 1:
            return self._groups[0].out.take(frames)
        joined = np.empty((self._channels, frames), np.float32)
        for group in self._groups:
            joined[group.rows] = group.out.take(frames)
        return joined

    def _run(self, group: _Group, part: Block) -> Block:
        out = group.processor.process(part)
        if out.ndim != 2 or out.shape[0] != len(group.rows):
            raise EffectError(
                f"{self._label} gave an array of {out.shape} for {len(group.rows)} channels",
                "leave it out of the chain",
            )
        group.held_frames += part.shape[1] - out.shape[1]
        if not 0 <= group.held_frames <= _MAX_HELD_S * self._sample_rate:
            how = "gave more samples than it got" if group.held_frames < 0 else "holds samples back for ever"
            raise EffectError(f"{self._label} {how}", "leave it out of the chain")
        peak = _find_peak(out)
        if not np.isfinite(peak):
            first = int(np.flatnonzero(~np.isfinite(out).all(axis=0))[0])
            at_s = (self._given + group.out.frames + first) / self._sample_rate
            raise EffectError(
                f"{self._label} gave NaN or infinity at {at_s:.3f} s", "change its values or leave it out"
            )
        group.has_live_input = group.has_live_input or _find_peak(part) > _LIVE_PEAK
        group.has_output |= peak > 0
        return out

    def check_output(self) -> None:
        """Raise `EffectError` where a live stem went in and nothing came out."""
        if any(
            group.has_live_input and not group.has_output and not group.is_silencing for group in self._groups
        ):
            raise EffectError(
                f"{self._label} turned a live stem into silence",
                "change its values, or mute the stem instead",
            )


def run_chain(
    chain: Chain,
    blocks: Iterator[NDArray[np.float32]],
    *,
    channels: int,
    sample_rate: int,
    frames: int,
    groups: Sequence[Sequence[int]],
    is_extended: bool,
    open_plugin: OpenPlugin,
) -> Generator[NDArray[np.float32]]:
    """Hand out a stem with its chain on it, block by block, at the samples where it was.

    Every effect is given blocks of one length, however the caller cuts them, and what it holds back is
    brought out with silence: the result depends on the samples alone.

    Parameters
    ----------
    blocks : (channels, any count), ``frames`` in all; none may be changed after it was handed in
    groups : channels that belong together, as pairs and singles; every channel in one of them
    is_extended : what comes out goes on until the tail is below -100 dBFS, at most 30 s
    open_plugin : opens what is not of the table

    Yields
    ------
    (channels, any count) ; ``frames`` in all, or more where it is extended

    Raises
    ------
    EffectError
        An effect cannot be opened, gives NaN, infinity or another count of channels, silence out of a live
        stem, or never gives what it holds back.
    """
    if sorted(row for rows in groups for row in rows) != list(range(channels)) or max(map(len, groups)) > 2:
        raise ValueError(f"{channels} channels in {groups}")
    chain = drop_neutral(chain)
    with ExitStack() as stack:
        stages = [
            _open_stage(number, effect, channels, sample_rate, groups, open_plugin, stack)
            for number, effect in enumerate(chain.effects, 1)
        ]
        source = _read_source(blocks, channels, sample_rate, frames)
        wet = _mix_dry(chain.wet, stages, source, channels) if stages else source
        pause_s = _PAUSE_S + find_pause_s(chain)
        last = None
        for block in _end(wet, channels, sample_rate, frames, pause_s if is_extended else None):
            if last is not None:
                yield last
            last = block
        for stage in stages:
            stage.check_output()
        if last is not None:
            yield last


def _open_stage(
    number: int,
    effect: Effect | PluginEffect,
    channels: int,
    sample_rate: int,
    groups: Sequence[Sequence[int]],
    open_plugin: OpenPlugin,
    stack: ExitStack,
) -> _Stage:
    opened = []
    block_frames = BLOCK_FRAMES
    for rows in groups:
        if isinstance(effect, Effect):
            processor = open_builtin(effect, sample_rate, len(rows))
        else:
            processor = open_plugin(effect, sample_rate, len(rows))
            block_frames = effect.block_frames * max(1, BLOCK_FRAMES // effect.block_frames)
        stack.callback(processor.close)
        is_silencing = isinstance(effect, Effect) and KINDS[effect.kind].is_silencing
        opened.append(_Group(rows, processor, is_silencing))
    what = "effect" if isinstance(effect, Effect) else "plugin"
    label = f"{what} {opened[0].processor.name} (number {number} of the chain)"
    return _Stage(label, opened, channels, sample_rate, block_frames)


def _read_source(
    blocks: Iterator[NDArray[np.float32]], channels: int, sample_rate: int, frames: int
) -> Generator[Block]:
    """Hand out the stem, then silence for as long as something may be held back."""
    read = 0
    for block in blocks:
        if block.shape[0] != channels:
            raise ValueError(f"a block of {block.shape} for {channels} channels")
        if not np.isfinite(_find_peak(block)):
            raise EffectError(
                f"the stem holds NaN or infinity after {read / sample_rate:.3f} s", "split again"
            )
        read += block.shape[1]
        if read > frames:
            raise ValueError(f"{read} frames or more of {frames}")
        yield block.astype(np.float32, copy=False)
    if read < frames:
        raise ValueError(f"{read} frames of {frames}")
    silence = np.zeros((channels, BLOCK_FRAMES), np.float32)
    while True:
        yield silence


def _mix_dry(
    wet: float, stages: Sequence[_Stage], source: Iterator[Block], channels: int
) -> Generator[Block]:
    """Hand out what the stages give, mixed with what was at the same sample before them."""
    dry = _Queue(channels)
    for block in source:
        dry.add(block)
        for out in _push_through(stages, block):
            before = dry.take(out.shape[1])
            if wet == 1:
                yield out
            else:
                mixed = wet * out.astype(np.float64) + (1 - wet) * before.astype(np.float64)
                yield mixed.astype(np.float32)


def _push_through(stages: Sequence[_Stage], block: Block) -> Iterator[Block]:
    if not stages:
        yield block
        return
    for out in stages[0].push(block):
        yield from _push_through(stages[1:], out)


def _end(
    wet: Iterator[Block], channels: int, sample_rate: int, frames: int, pause_s: float | None
) -> Generator[Block]:
    """Cut at ``frames``, or, with ``pause_s``, where no echo has come for that long."""
    limit = frames if pause_s is None else frames + round(MAX_TAIL_S * sample_rate)
    pause = 0 if pause_s is None else round(pause_s * sample_rate)
    held = _Queue(channels)
    read = handed = 0
    end = frames
    for out in wet:
        block = out[:, : limit - read]
        if read + block.shape[1] > frames:
            block = _fade_out(block, limit - read, round(_TAIL_FADE_S * sample_rate))
            heard = np.flatnonzero(np.abs(block).max(axis=0) >= _TAIL_FLOOR)
            end = max(end, read + int(heard[-1]) + 1) if heard.size else end
        held.add(block)
        read += block.shape[1]
        ready = min(read, end) - handed
        if ready:
            yield held.take(ready)
            handed += ready
        if read == limit or read - end >= pause:
            return


def _fade_out(block: Block, left: int, frames: int) -> Block:
    """Return the block, ``left`` samples from where it must end, faded over the last ``frames`` of them."""
    fade = np.clip((left - np.arange(block.shape[1])) / frames, 0, 1).astype(np.float32)
    return block * fade


def _find_peak(block: Block) -> float:
    """Return the largest magnitude; NaN where there is one."""
    return max(float(block.max()), -float(block.min())) if block.size else 0.0
