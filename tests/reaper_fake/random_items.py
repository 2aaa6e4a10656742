"""Seeded projects: media, items of every kind that can be sent directly, a user's edits, folder layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

import numpy as np

from reaper_fake.api import split_item
from reaper_fake.media import Media
from reaper_fake.model import Item, Source, Track, section_of
from reaper_fake.reaper import FakeReaper

RATES = (44100, 48000, 96000, 22050)
_GRID = 2.0**-23
"""Samples lie on this grid, so that stems of whole grid steps add up exactly."""


def fill_shelf(rng: Random, reaper: FakeReaper, count: int = 12, longest_s: float = 0.3) -> list[str]:
    """Return the paths of `count` new files of memory: noise, of several rates, kinds and channel counts."""
    noise = np.random.default_rng(rng.getrandbits(32))
    paths = []
    for number in range(count):
        kind, suffix = rng.choice((("WAVE", "wav"), ("AIFF", "aif"), ("FLAC", "flac")))
        rate = RATES[number % len(RATES)]
        channels = rng.choice((1, 2, 2, 2, 2, 4, 6))
        frames = rng.randint(1, int(longest_s * rate))
        samples = np.round(noise.uniform(-1, 1, (channels, frames)) / 4 / _GRID) * _GRID
        path = f"/media/{number:02}.{suffix}"
        reaper.shelf.virtual[path] = Media(samples, rate, kind)
        paths.append(path)
    return paths


def random_source(rng: Random, reaper: FakeReaper, paths: Sequence[str]) -> Source:
    """Return a file, or a section, a reversed section or the reverse of one."""
    source = reaper.shelf.source(rng.choice(list(paths)))
    assert source is not None
    length = float(source.exact_length_s)
    kind = rng.choice(("file", "file", "section", "reversed section", "reverse"))
    if kind == "file":
        return source
    if kind == "reverse":
        return section_of(source, is_reversed=True)
    offset = rng.choice((0.0, rng.uniform(0, length)))
    if rng.random() < 0.5:
        offset = round(offset * source.rate) / source.rate
    span = rng.choice((length - offset, rng.uniform(0, length - offset)))
    span = max(span, 4 / source.rate)
    return section_of(source, offset, span, is_reversed=kind == "reversed section")


def random_item(rng: Random, reaper: FakeReaper, track: Track, paths: Sequence[str]) -> Item:
    """Return a new item of one take on `track`, with anything that does not need a bake."""
    source = random_source(rng, reaper, paths)
    turn = float(source.exact_length_s)
    is_looped = rng.random() < 0.35
    play_rate = rng.choice((1.0, 1.0, 1.0, rng.uniform(0.5, 2.0), 2.0))
    start = rng.choice((0.0, 0.0, rng.uniform(0, turn), rng.uniform(-turn, 0), rng.uniform(turn, 1.5 * turn)))
    if rng.random() < 0.5:
        start = round(start * source.root.rate) / source.root.rate
    length = rng.uniform(0.001, turn * (3.0 if is_looped else 1.3)) / play_rate
    item = reaper.add_item(
        track,
        source,
        D_POSITION=rng.choice((0.0, rng.uniform(0, 20.0), float(rng.randint(0, 20)))),
        D_LENGTH=length,
        B_LOOPSRC=float(is_looped),
        take_D_STARTOFFS=start,
        take_D_PLAYRATE=play_rate,
    )
    _dress_item(rng, item, length)
    _dress_take(rng, item, source.root.channels, turn)
    if rng.random() < 0.2:
        take = item.takes[0]
        other = reaper.add_item(track, random_source(rng, reaper, paths))
        track.remove_item(other)
        extra = other.takes[0]
        if rng.random() < 0.5:
            item.add_take(extra)
        else:
            item.takes.insert(0, extra)
            extra.item = item
        item.values["I_CURTAKE"] = float(item.takes.index(take))
    return item


def _dress_item(rng: Random, item: Item, length: float) -> None:
    values = item.values
    values["D_VOL"] = rng.choice((1.0, rng.uniform(0.1, 2.0)))
    values["D_SNAPOFFSET"] = rng.choice((0.0, rng.uniform(0, length)))
    for side in ("IN", "OUT"):
        values[f"D_FADE{side}LEN"] = rng.choice((0.0, rng.uniform(0, length)))
        values[f"D_FADE{side}LEN_AUTO"] = rng.choice((-1.0, -1.0, rng.uniform(0, length)))
        values[f"D_FADE{side}DIR"] = rng.choice((0.0, rng.uniform(-1, 1)))
        values[f"C_FADE{side}SHAPE"] = float(rng.randint(0, 6))
    values["I_FADELPF"] = float(rng.choice((0, 0, 0, 1, 2, 3)))
    values["B_MUTE_ACTUAL"] = float(rng.random() < 0.05)
    values["C_LANEPLAYS"] = rng.choice((1.0,) * 17 + (2.0, 0.0))
    values["C_LOCK"] = float(rng.random() < 0.1)
    values["I_GROUPID"] = float(rng.choice((0, 0, 0, rng.randint(1, 9))))
    values["I_CUSTOMCOLOR"] = float(rng.choice((0, 0x1000000 | rng.getrandbits(24))))
    values["C_BEATATTACHMODE"] = float(rng.choice((-1, 0, 1, 2)))
    if rng.random() < 0.2:
        item.notes = "note: \"quoted\" 'single' ü\nsecond line"


def _dress_take(rng: Random, item: Item, channels: int, turn: float) -> None:
    take = item.takes[0]
    values = take.values
    take.name = rng.choice((take.name, "", 'Gitarre "links"', "日本語 / 100%"))
    values["D_VOL"] = rng.choice((1.0, -1.0, rng.uniform(-1.5, 1.5)))
    values["D_PAN"] = rng.choice((0.0, rng.uniform(-1, 1), 1.0))
    values["D_PANLAW"] = rng.choice((-1.0, -1.0, 0.5, 1.0, 2**-0.5))
    values["I_PITCHMODE"] = float(rng.choice((-1, 589824)))
    values["I_STRETCHFLAGS"] = float(rng.choice((0, 1, 4)))
    values["I_CUSTOMCOLOR"] = float(rng.choice((0, 0x1000000 | rng.getrandbits(24))))
    values["B_PPITCH"] = 0.0 if values["D_PLAYRATE"] != 1 else float(rng.random() < 0.5)
    modes = [0, 0, 0, 0, 1, 2, 3, 4]
    if channels > 2:
        modes = [2, 3, 4, 1 + channels, 67, 66 + channels - 1]
    values["I_CHANMODE"] = float(rng.choice(modes))
    if rng.random() < 0.2:
        take.markers = sorted(
            (rng.uniform(0, turn), f"marker {number}", 0x1000000 | rng.getrandbits(24)) for number in range(3)
        )


def random_edit(rng: Random, reaper: FakeReaper, item: Item) -> str:
    """Return what the user did to `item` between two ticks: one undo step of the user's own."""
    name = rng.choice(list(EDITS))
    with reaper.user_edit(f"user: {name}"):
        EDITS[name](rng, reaper, item)
    return name


def _move(rng: Random, reaper: FakeReaper, item: Item) -> None:
    item.values["D_POSITION"] = rng.uniform(0, 30)


def _trim_left(rng: Random, reaper: FakeReaper, item: Item) -> None:
    cut = rng.uniform(0, item.length_s * 0.9)
    item.values["D_POSITION"] = item.position_s + cut
    item.values["D_LENGTH"] = item.length_s - cut
    for take in item.takes:
        take.values["D_STARTOFFS"] = take.values.get("D_STARTOFFS", 0.0) + cut * take.values["D_PLAYRATE"]


def _trim_right(rng: Random, reaper: FakeReaper, item: Item) -> None:
    item.values["D_LENGTH"] = item.length_s * rng.uniform(0.1, 1.0)


def _fade(rng: Random, reaper: FakeReaper, item: Item) -> None:
    side = rng.choice(("IN", "OUT"))
    item.values[f"D_FADE{side}LEN"] = rng.uniform(0, item.length_s)
    item.values[f"C_FADE{side}SHAPE"] = float(rng.randint(0, 6))


def _volume(rng: Random, reaper: FakeReaper, item: Item) -> None:
    item.values["D_VOL"] = rng.uniform(0.1, 2.0)


def _split(rng: Random, reaper: FakeReaper, item: Item) -> None:
    split_item(reaper, item, item.position_s + item.length_s * rng.uniform(0.1, 0.9))


EDITS: Mapping[str, Callable[[Random, FakeReaper, Item], None]] = {
    "move": _move,
    "trim left": _trim_left,
    "trim right": _trim_right,
    "fade": _fade,
    "volume": _volume,
    "split": _split,
}


def random_depths(rng: Random, count: int) -> list[int]:
    """Return the I_FOLDERDEPTH of `count` tracks: nested, closed late, several at once or never."""
    depths, level = [], 0
    for number in range(count):
        kind = rng.choice(("plain", "plain", "folder", "close", "close all"))
        if kind == "folder" and number + 1 < count:
            change = 1
        elif kind == "close" and level:
            change = -rng.randint(1, level)
        elif kind == "close all" and level:
            change = -level
        else:
            change = 0
        depths.append(change)
        level += change
    return depths


def parents_of(depths: Sequence[int]) -> list[int | None]:
    """Return the index of every track's parent, found by looking back for the folder that is still open."""
    parents: list[int | None] = []
    for index in range(len(depths)):
        found, closed = None, 0
        for above in range(index - 1, -1, -1):
            closed += max(-depths[above], 0)
            if depths[above] > 0:
                if closed == 0:
                    found = above
                    break
                closed -= 1
        parents.append(found)
    return parents


def moved_tracks(
    before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]
) -> list[tuple[str, str | None, str | None]]:
    """Return which tracks of `before` have another parent in `after`, or are gone: (track, parent then, now).

    Both are (GUID, I_FOLDERDEPTH) from the top down.
    """

    def parents(tracks: Sequence[tuple[str, int]]) -> dict[str, str | None]:
        found = parents_of([depth for _, depth in tracks])
        return {
            guid: None if parent is None else tracks[parent][0]
            for (guid, _), parent in zip(tracks, found, strict=True)
        }

    then, now = parents(before), parents(after)
    return [(guid, then[guid], now.get(guid, "gone")) for guid in then if then[guid] != now.get(guid, "gone")]
