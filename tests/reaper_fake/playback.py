"""What is heard, in float64: the oracle of the planner, which shares no code with it.

Where REAPER's own curve is not documented (fade shapes, pan law, the fade's low pass, resampling) a fixed one
of ours stands in: whatever REAPER does there is the same for the original and for its stems, and linear in
the samples, so that equality here says equality there. Positions are exact fractions; what lies within a
millionth of a frame of a sample is that sample.

- A take at `t` seconds into its item plays its source at `D_STARTOFFS + t * D_PLAYRATE`. Before its begin
  and behind its end the source is silent, or turns over where B_LOOPSRC is set.
- A section plays its parent from `offset`; reversed, its frame k is the k-th frame before the section's end.
- Between two frames of the *file* the line between them is heard; outside the file there is silence. A stem
  of a section therefore needs one frame of the file either side of it.
- Channel modes: 0 all, 1 left and right swapped, 2 the mean of the first two, 3 left, 4 right, 5 to 66 one
  channel, 67 on two neighbouring ones. One channel is heard on both sides, a mono source in modes 0 to 4 too.
- Take: effects, then volume (its sign is the polarity), pan. Item: fades (the longer of manual and
  automatic), volume, mute, lane. Track: items and child tracks, effects, polarity, pan, volume, mute.
- A track plays its items, not those of its children, later by D_PLAY_OFFSET: seconds, or frames of the
  project where I_PLAY_OFFSET_FLAG has &2; on time where that has &1.
- Pitch, stretch markers, envelopes and spectral edits are not modelled: what has them is to be baked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from reaper_fake.model import FakeProject, Fx, Item, Source, Take, Track

Samples = npt.NDArray[np.float64]
"""(channels, frames)."""
Load = Callable[[str], Samples]
"""The samples of a file by its path."""

_SNAP = Fraction(1, 1_000_000)


def render_item(
    item: Item,
    load: Load,
    rate: int,
    *,
    pan_law: float = 1.0,
    start_s: Fraction | None = None,
    frames: int | None = None,
) -> Samples:
    """Return what `item` sounds like, two channels or more: all, or `frames` from project time `start_s`."""
    position = Fraction(item.position_s)
    start = position if start_s is None else start_s
    first = start - position
    count = count_frames(Fraction(item.length_s), rate) if frames is None else frames
    begin, end = _span_frames(first, Fraction(1, rate), count, Fraction(0), Fraction(item.length_s))
    if end <= begin or not is_heard(item):
        return np.zeros((2, count))
    takes = item.takes if item.values.get("B_ALLTAKESPLAY") else [item.active_take] if item.takes else []
    local = first + Fraction(begin, rate)
    heard = sum_channels(
        [
            render_take(take, load, rate, pan_law=pan_law, start_s=local, frames=end - begin)
            for take in takes
            if take
        ]
    )
    seconds = float(local) + np.arange(end - begin) / rate
    gain = item.values.get("D_VOL", 1.0) * fade_gains(item, seconds)
    whole = np.zeros((max(len(heard), 2), count))
    whole[: len(heard), begin:end] = heard * gain if heard.size else 0.0
    return whole


def render_take(
    take: Take,
    load: Load,
    rate: int,
    *,
    pan_law: float = 1.0,
    start_s: Fraction = Fraction(0),
    frames: int,
    with_fx: bool = True,
) -> Samples:
    """Return `frames` of `take` from `start_s` after its item's begin, without what the item does to it."""
    heard = render_dry_take(take, load, rate, start_s=start_s, frames=frames)
    if with_fx:
        heard = apply_fx(heard, take.fx)
    law = take.values.get("D_PANLAW", -1.0)
    gains = pan_gains(take.values.get("D_PAN", 0.0), pan_law if law < 0 else law)
    return heard * gains[np.arange(len(heard)) % 2, None] * take.values.get("D_VOL", 1.0)


def render_dry_take(take: Take, load: Load, rate: int, *, start_s: Fraction, frames: int) -> Samples:
    """Return the same in front of effects, volume and pan: offset, play rate, loop, section, channel mode."""
    source = take.source
    if source is None or not source.root.rate:
        return np.zeros((2, frames))
    speed = Fraction(take.values.get("D_PLAYRATE", 1.0))
    offset = Fraction(take.values.get("D_STARTOFFS", 0.0)) + start_s * speed
    is_looped = bool(take.item and take.item.values.get("B_LOOPSRC"))
    raw = read_source(source, load, offset, speed / rate, frames, is_looped=is_looped)
    return choose_channels(raw, int(take.values.get("I_CHANMODE", 0)))


def read_source(
    source: Source, load: Load, start_s: Fraction, step_s: Fraction, frames: int, *, is_looped: bool
) -> Samples:
    """Return `frames` of `source`, `step_s` apart, from its own time `start_s`."""
    samples = load(source.root.path)
    heard = np.zeros((len(samples), frames))
    length = source.exact_length_s
    if length <= 0:
        return heard
    begin = 0
    turn = math.floor(_snapped(start_s / length, _SNAP / (length * source.root.rate)))
    if not is_looped:
        turn = 0
    while begin < frames:
        first, end = _span_frames(
            start_s - turn * length, step_s, frames, Fraction(0), length, source.root.rate
        )
        first = max(first, begin)
        if first < end:
            at = start_s + first * step_s - turn * length
            heard[:, first:end] = _read_span(source, samples, at, step_s, end - first)
        if not is_looped:
            break
        begin, turn = max(end, begin), turn + 1
    return heard


def _read_span(source: Source, samples: Samples, at_s: Fraction, step_s: Fraction, frames: int) -> Samples:
    """Return `frames` of one turn, in which nothing wraps."""
    rate = source.root.rate
    position, step = at_s * rate, step_s * rate
    while source.parent is not None:
        offset = Fraction(0) if source.is_whole else Fraction(source.offset_s)
        if source.is_reversed:
            position = (offset + source.exact_length_s) * rate - 1 - position
            step = -step
        else:
            position += offset * rate
        source = source.parent
    position, step = _snapped(position, _SNAP), _snapped(step, Fraction(1, 10**9))
    whole = math.floor(position)
    if position.denominator == 1 and step.denominator == 1:
        return _take_frames(samples, whole + int(step) * np.arange(frames))
    offsets = float(position - whole) + float(step) * np.arange(frames)
    below = np.floor(offsets)
    part = offsets - below
    index = whole + below.astype(np.int64)
    heard: Samples = _take_frames(samples, index) * (1.0 - part) + _take_frames(samples, index + 1) * part
    return heard


def _take_frames(samples: Samples, index: npt.NDArray[np.int64]) -> Samples:
    """Return the samples at `index`, silence outside of the file."""
    is_inside = (index >= 0) & (index < samples.shape[1])
    found = np.zeros((len(samples), len(index)))
    found[:, is_inside] = samples[:, index[is_inside]]
    return found


def _span_frames(
    start: Fraction, step: Fraction, frames: int, low: Fraction, high: Fraction, rate: int | None = None
) -> tuple[int, int]:
    """Return which frames of `start + n * step` lie in [low, high), as (first, end) within 0 and `frames`."""
    slack = _SNAP / rate if rate else _SNAP * step
    first = math.ceil((low - slack - start) / step)
    end = math.ceil((high - slack - start) / step)
    return min(max(first, 0), frames), min(max(end, 0), frames)


def count_frames(seconds: Fraction, rate: int) -> int:
    """Return how many frames begin within `seconds`."""
    return math.ceil(seconds * rate - _SNAP)


def _snapped(value: Fraction, slack: Fraction) -> Fraction:
    """Return the whole number that `value` is but for rounding, or `value`."""
    nearest = Fraction(round(value))
    return nearest if abs(value - nearest) <= slack else value


def choose_channels(samples: Samples, mode: int) -> Samples:
    """Return two or more channels of `samples` as I_CHANMODE says."""
    count = len(samples)
    if mode >= 67:
        pair = [index if index < count else None for index in (mode - 67, mode - 66)]
        return np.stack([np.zeros(samples.shape[1]) if index is None else samples[index] for index in pair])
    if count == 1:
        one = samples[0] if mode <= 4 else np.zeros(samples.shape[1])
        return np.stack([one, one])
    if mode == 0:
        return samples
    if mode == 1:
        return np.concatenate([samples[1::-1], samples[2:]])
    if mode == 2:
        one = 0.5 * (samples[0] + samples[1])
    else:
        one = samples[mode - 3] if mode - 3 < count else np.zeros(samples.shape[1])
    return np.stack([one, one])


def pan_gains(pan: float, law: float) -> Samples:
    """Return the gains of left and right; `law` is the gain in the middle."""
    middle = float(law ** (1.0 - abs(pan)))
    return np.array([min(1.0, 1.0 - pan) * middle, min(1.0, 1.0 + pan) * middle])


def apply_fx(samples: Samples, chain: Sequence[Fx]) -> Samples:
    """Return `samples` behind the effects of `chain`."""
    for name, amount in chain:
        samples = samples * amount
        if name == "tanh":
            samples = np.tanh(samples)
    return samples


def fade_gains(item: Item, seconds: Samples) -> Samples:
    """Return the gain of both fades at each of `seconds` from the item's begin."""
    values = item.values
    lengths = [
        max(values.get(f"D_FADE{side}LEN", 0.0), values.get(f"D_FADE{side}LEN_AUTO", 0.0))
        for side in ("IN", "OUT")
    ]
    gains = np.ones_like(seconds)
    for side, length, inside, flag in (
        ("IN", lengths[0], seconds, 1),
        ("OUT", lengths[1], item.length_s - seconds, 2),
    ):
        if length > 0:
            has_low_pass = bool(int(values.get("I_FADELPF", 0)) & flag)
            gains = gains * _fade_curve(
                np.clip(inside / length, 0.0, 1.0),
                values.get(f"C_FADE{side}SHAPE", 0.0),
                values.get(f"D_FADE{side}DIR", 0.0),
                has_low_pass=has_low_pass,
            )
    return gains


def _fade_curve(part: Samples, shape: float, curvature: float, *, has_low_pass: bool) -> Samples:
    """Return a rising curve, another for every shape, curvature and low pass."""
    exponent = (1.0 + 0.5 * shape) * 2.0**curvature * (1.25 if has_low_pass else 1.0)
    return np.asarray(part**exponent, dtype=np.float64)


def is_heard(item: Item) -> bool:
    """Return whether the item plays at all: not muted, and on a lane that plays."""
    return not item.values.get("B_MUTE_ACTUAL") and item.values.get("C_LANEPLAYS", 1.0) > 0


def find_play_offset(track: Track, project: FakeProject) -> Fraction:
    """Return by how many seconds the track plays its items late."""
    flags = int(track.values.get("I_PLAY_OFFSET_FLAG", 0))
    offset = Fraction(track.values.get("D_PLAY_OFFSET", 0.0))
    if flags & 1:
        return Fraction(0)
    return offset / project.render_rate if flags & 2 else offset


def render_project(
    project: FakeProject, load: Load, rate: int, *, start_s: Fraction = Fraction(0), frames: int | None = None
) -> Samples:
    """Return the mix of all tracks: folders sum, mutes and solos hold."""
    count = count_frames(Fraction(project.length_s) - start_s, rate) if frames is None else frames
    parents = list(project.parents())
    top = [track for track, parent in parents if parent is None]
    children = {track.guid: [child for child, parent in parents if parent is track] for track, _ in parents}
    has_solo = any(track.values.get("I_SOLO") for track in project.tracks)
    return sum_channels(
        [
            render_track(
                project, track, load, rate, children, start_s, count, has_solo=has_solo, is_solo=False
            )
            for track in top
            if track.values.get("B_MAINSEND", 1.0)
        ],
        count,
    )


def render_track(
    project: FakeProject,
    track: Track,
    load: Load,
    rate: int,
    children: dict[str, list[Track]],
    start_s: Fraction,
    frames: int,
    *,
    has_solo: bool,
    is_solo: bool,
) -> Samples:
    """Return one track with its children, behind its fader."""
    if track.values.get("B_MUTE"):
        return np.zeros((2, frames))
    is_solo = is_solo or bool(track.values.get("I_SOLO"))
    parts = []
    if is_solo or not has_solo:
        first_s = start_s - find_play_offset(track, project)
        parts = [
            render_item(item, load, rate, pan_law=project.pan_law, start_s=first_s, frames=frames)
            for item in track.sorted_items
        ]
    parts += [
        render_track(
            project, child, load, rate, children, start_s, frames, has_solo=has_solo, is_solo=is_solo
        )
        for child in children[track.guid]
        if child.values.get("B_MAINSEND", 1.0)
    ]
    mix = sum_channels(parts, frames)[: max(int(track.values.get("I_NCHAN", 2)), 2)]
    if track.values.get("I_FXEN", 1.0):
        mix = apply_fx(mix, track.fx)
    law = track.values.get("D_PANLAW", -1.0)
    gains = pan_gains(track.values.get("D_PAN", 0.0), project.pan_law if law < 0 else law)
    polarity = -1.0 if track.values.get("B_PHASE") else 1.0
    return mix * gains[np.arange(len(mix)) % 2, None] * (polarity * track.values.get("D_VOL", 1.0))


def sum_channels(parts: Sequence[Samples], frames: int = 0) -> Samples:
    """Return the sum of `parts`, as wide as the widest."""
    if not parts:
        return np.zeros((2, frames))
    mix = np.zeros((max(len(part) for part in parts), parts[0].shape[1]))
    for part in parts:
        mix[: len(part)] += part
    return mix
