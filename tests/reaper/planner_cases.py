"""Random items through planner and apply, and what has to be heard then.

Sources are arrays of few frames and many seconds: a rate of some dozen Hz leaves whole seconds, regions and
handles what they are. A source has one split, drawn once: random stems and the residual that closes them. The
"result" of a job is the slice of each that its region names, so that a stem that is played at a wrong place,
rate or gain is heard as such; the sum alone would not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest

import interpreter
from reaper_fake import FakeProject, FakeReaper, Item, Media, render_item
from reaper_fake.model import Source
from reaper_fake.playback import Samples, find_play_offset
from reaper_fake.random_items import EDITS, random_item
from stembridge.looks import Looks
from stembridge.manifest import RESIDUAL
from stembridge.reaper import placing, regions, requests
from stembridge.reaper.placing import Lacking, Placed, Ticket, Unplaceable
from stembridge.reaper.playing import Way, judge
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.requests import Options
from stembridge.reaper.snapshot import Item as SnapItem
from stembridge.reaper.stem_set import StemFile, StemSet
from stembridge.reaper.tags import OriginalTag, StemTag, read_tag
from stembridge.settings import Settings, load_settings
from stembridge.types import Region

GRID = 2.0**-23
RATES = (24, 32, 45, 60)
"""Hz. Slow, so that a source of a minute costs nothing."""
PROJECT_RATE = 40
STEMS = ("vocals", RESIDUAL)
LENGTHS_S = (0.2, 3.0, 17.0, 25.0, 41.0, 60.0)
TOLERANCE = 1e-12

Window = tuple[float, float]


@dataclass
class World:
    """One REAPER with sources that can be split, and the whole stems of each by path."""

    reaper: FakeReaper
    settings: Settings
    paths: list[str]
    stems: dict[str, dict[str, Samples]] = field(default_factory=dict)

    def split(self, path: str) -> dict[str, Samples]:
        """Return the whole stems of a source: they sum to it exactly."""
        if path not in self.stems:
            samples = self.reaper.shelf.samples(path)
            noise = np.random.default_rng(len(self.stems))
            found = {
                name: np.round(noise.uniform(-0.25, 0.25, samples.shape) / GRID) * GRID for name in STEMS[:-1]
            }
            found[RESIDUAL] = samples - sum(found.values())
            self.stems[path] = found
        return self.stems[path]

    def load_stem(self, stem: str) -> Callable[[str], Samples]:
        """Return what reads the whole stem of a source where the source would be read."""
        return lambda path: self.split(path)[stem]

    def stem_set(self, path: str, region: Region | None, job: str = "job") -> StemSet:
        """Return a result of which every file is the region's slice of a whole stem."""
        media = self.reaper.shelf.open(path)
        assert media is not None
        frames = media.samples.shape[1]
        region = region or Region(0, frames)
        assert 0 <= region.start < region.start + region.frames <= frames
        folder = f"{path}#{region.start}+{region.frames}"
        for name, samples in self.split(path).items():
            held = samples[:, region.start : region.start + region.frames]
            self.reaper.shelf.virtual[f"{folder}/{name}.wav"] = Media(held, media.rate)
        files = tuple(StemFile(name, f"{folder}/{name}.wav") for name in STEMS)
        return StemSet(folder, job, "fake", "0" * 64, files, frames, media.rate, region, -36.0)


def make_world(seed: int = 0) -> World:
    """Return a world of some sources: mono to six channels, a fraction of a second to a minute."""
    rng = Random(seed)
    noise = np.random.default_rng(seed)
    reaper = FakeReaper(Path("resource"))
    paths = []
    for number in range(24):
        rate = RATES[number % len(RATES)]
        kind, suffix = rng.choice((("WAVE", "wav"), ("AIFF", "aif"), ("FLAC", "flac")))
        frames = round(LENGTHS_S[number % len(LENGTHS_S)] * rate) + rng.choice((0, rng.randint(0, rate)))
        shape = (rng.choice((1, 2, 2, 2, 4, 6)), frames)
        path = f"/media/{number:02}.{suffix}"
        samples = np.round(noise.uniform(-0.25, 0.25, shape) / GRID) * GRID
        reaper.shelf.virtual[path] = Media(samples, rate, kind)
        paths.append(path)
    return World(reaper, load_settings(home=Path("home"), environ={}), paths)


def extend_left(rng: Random, reaper: FakeReaper, item: Item) -> None:
    more = min(rng.uniform(0, 4), item.position_s)
    item.values["D_POSITION"] = item.position_s - more
    item.values["D_LENGTH"] = item.length_s + more
    for take in item.takes:
        take.values["D_STARTOFFS"] = take.values.get("D_STARTOFFS", 0.0) - more * take.values["D_PLAYRATE"]


def extend_right(rng: Random, reaper: FakeReaper, item: Item) -> None:
    item.values["D_LENGTH"] = item.length_s + rng.uniform(0, 4)


def slip(rng: Random, reaper: FakeReaper, item: Item) -> None:
    take = item.active_take
    assert take is not None
    take.values["D_STARTOFFS"] += rng.choice((rng.uniform(-3, 3), 1.0, -1.0))


def change_take(rng: Random, reaper: FakeReaper, item: Item) -> None:
    take = item.active_take
    assert take is not None
    take.values["D_PAN"] = rng.uniform(-1, 1)
    take.values["D_VOL"] = -take.values["D_VOL"]
    item.values["B_MUTE_ACTUAL"] = float(rng.random() < 0.2)


PLAIN_EDITS = [EDITS[name] for name in ("move", "trim left", "trim right", "volume")]
CUTTING_EDITS = [*EDITS.values(), change_take]
STRETCHING_EDITS = [*PLAIN_EDITS, extend_left, extend_right, slip, change_take]
"""What is cut and then drawn out again over its other part is told from a copy no more."""


@dataclass
class Case:
    """Some items of one project, split and placed."""

    world: World
    rng: Random
    project: FakeProject = field(init=False)
    handles_s: float = field(init=False)
    begins: dict[str, float] = field(default_factory=dict)
    checked: int = 0

    def __post_init__(self) -> None:
        reaper = self.world.reaper
        reaper.projects.clear()
        self.project = reaper.open_tab("case", Path("media"))
        self.project.pan_law = self.rng.choice((1.0, 1.0, 0.5))
        self.handles_s = self.rng.choice((0.0, 0.25, 1.0, 2.0))

    def run(self) -> int:
        """Return how many items were checked.

        Raises
        ------
        AssertionError
            Something is heard that should not be.
        """
        reaper, rng = self.world.reaper, self.rng
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            flags = rng.choice((0, 1, 2, 3))
            offset = rng.choice((0.0, 0.35, -1.3)) * (self.project.render_rate if flags & 2 else 1)
            track = reaper.add_track(
                "Mix", I_NCHAN=6.0, D_PLAY_OFFSET=offset, I_PLAY_OFFSET_FLAG=float(flags)
            )
            item = random_item(rng, reaper, track, self.world.paths)
            if item.values["C_LANEPLAYS"] == 0:
                track.values["I_FREEMODE"] = 2.0
            if rng.random() < 0.3:
                item.values["D_LENGTH"] = min(item.length_s, rng.uniform(0.05, 6.0))
        before = interpreter.take_snapshot(reaper, self.project)
        self.begins = {item.guid: begin_of(item) for item in self.project.items}
        chosen: list[SnapItem] = []
        windows: list[Window | None] = []
        for snap, item in zip(before.items, self.project.items, strict=True):
            self.checked += 1
            verdict = judge(snap)
            if verdict.way is Way.SKIPPED:
                assert find_span(item, 0.0, item.length_s) is None and is_silent(item), verdict.reasons
                continue
            assert verdict.way is Way.DIRECT, verdict
            chosen.append(snap)
            windows.append(self.choose_window(snap))
        wanted = requests.form_requests(
            chosen, Options(model="fake"), Preferences(handles_s=self.handles_s), self.world.settings,
            media_dir="media", baked={}, lengths={}, windows=windows,
        )  # fmt: skip
        assert sorted(number for one in wanted for number in one.items) == list(range(len(chosen)))
        for number, snap in enumerate(chosen):
            self.edit(snap, windows[number])
        kept = {item.guid: item for track in self.project.copy_tracks() for item in track.items}
        was = self.hear(self.project.items)
        for one in wanted:
            check_region(self.world, one.request.source, one.request.region)
            for number in one.items:
                self.place(chosen[number], windows[number], one.request.source, one.request.region)
        self.check(kept, was)
        return self.checked

    def choose_window(self, snap: SnapItem) -> Window | None:
        """Return no window, mostly, or the part of the item that a time selection covers."""
        if self.rng.random() < 0.85:
            return None
        ends = sorted(self.rng.uniform(-0.3, 1.3) for _ in range(2))
        start, end = (min(max(part, 0.0), 1.0) for part in ends)
        if end - start < 0.05:
            return None
        return snap.position + start * snap.length, snap.position + end * snap.length

    def edit(self, snap: SnapItem, window: Window | None) -> None:
        """Do what a user does while the job runs. Where a window will cut, there are no fades to cut."""
        reaper, rng = self.world.reaper, self.rng
        item = next(item for item in self.project.items if item.guid == snap.guid)
        edits = PLAIN_EDITS if window is not None else rng.choice((CUTTING_EDITS, STRETCHING_EDITS))
        for _ in range(rng.choice((0, 1, 1, 2))):
            rng.choice(edits)(rng, reaper, item)
        if window is not None:
            for side in ("IN", "OUT"):
                item.values[f"D_FADE{side}LEN"] = 0.0
                item.values[f"D_FADE{side}LEN_AUTO"] = -1.0

    def place(self, snap: SnapItem, window: Window | None, path: str, region: Region | None) -> None:
        ticket = Ticket(
            item=snap, job="job", window=window, mutes_locked=self.rng.random() < 0.5
        )  # fmt: skip
        needed = self.find_needed(snap, window)
        for _ in range(2):
            stems = self.world.stem_set(path, region)
            now = interpreter.take_snapshot(self.world.reaper, self.project)
            result = placing.place(ticket, stems, now, Looks())
            check_cover(stems, needed, is_lacking=isinstance(result, Lacking))
            if not isinstance(result, Lacking):
                break
            assert (result.first_s, result.last_s) == pytest.approx(needed, abs=1e-9)
            extent = regions.Extent(stems.frames, stems.rate)
            (region,) = regions.plan_regions([(result.first_s, result.last_s)], extent, self.handles_s)
            check_region(self.world, path, region)
        if isinstance(result, Unplaceable):
            assert not needed, result
            return
        assert isinstance(result, Placed), result
        assert needed, "silence was placed"
        interpreter.apply_operations(self.world.reaper, self.project, list(result.operations))
        assert self.find_needed(snap, window) is None, "a part was left as it was"

    def find_needed(self, snap: SnapItem, window: Window | None) -> tuple[float, float] | None:
        """Return the seconds of the file from which the item, what is left of it in its window, is played."""
        spans = []
        for item in self.project.items:
            assert item.track is not None
            if item.track.guid == snap.track and not item.ext:
                start, end = 0.0, item.length_s
                if window is not None:
                    moved = begin_of(item) - self.begins[snap.guid]
                    start = max(start, window[0] + moved - item.position_s)
                    end = min(end, window[1] + moved - item.position_s)
                span = find_span(item, start, end) if end - start > 1e-6 else None
                if span is not None:
                    spans.append(span)
        return (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None

    def hear(self, items: Sequence[Item], load: Callable[[str], Samples] | None = None) -> Samples:
        """Return the sum of what the items sound like."""
        end = max((item.position_s + item.length_s for item in self.project.items), default=0.0)
        frames = int(end * PROJECT_RATE) + 2
        mix = np.zeros((6, frames))
        for item in items:
            assert item.track is not None
            heard = render_item(
                item, load or self.world.reaper.shelf.samples, PROJECT_RATE, pan_law=self.project.pan_law,
                start_s=-find_play_offset(item.track, self.project), frames=frames,
            )  # fmt: skip
            mix[: len(heard)] += heard
        return mix

    def check(self, kept: dict[str, Item], was: Samples) -> None:
        """Compare what is heard with what was, all together and stem by stem."""
        originals: dict[str, Item] = {}
        stems: list[tuple[StemTag, Item]] = []
        for item in self.project.items:
            tag = read_tag(item.ext.get("stembridge", ""))
            if isinstance(tag, OriginalTag):
                assert tag.family not in originals
                originals[tag.family] = item
            elif isinstance(tag, StemTag):
                stems.append((tag, item))
        assert len(stems) == len(STEMS) * len(originals)
        peak = 0.1
        mix = np.zeros_like(was)
        for item in self.project.items:
            if not isinstance(read_tag(item.ext.get("stembridge", "")), StemTag):
                mix += self.hear([item])
        for tag, item in stems:
            original = originals[tag.family]
            heard = self.hear([as_heard(item)])
            expected = self.hear([as_heard(original)], self.world.load_stem(tag.stem))
            peak = max(peak, float(np.abs(expected).max()))
            assert np.abs(heard - expected).max() <= TOLERANCE * peak, f"{tag.stem} is not itself"
            check_likeness(original, item)
            if not item.values.get("B_MUTE_ACTUAL"):
                mix += heard
        assert np.abs(mix - was).max() <= TOLERANCE * peak * len(STEMS), "the sum is another"
        self.check_originals(kept)

    def check_originals(self, kept: dict[str, Item]) -> None:
        """Nothing but mutes and our tag is other than before, save what a window has cut."""
        for item in self.project.items:
            then = kept.get(item.guid)
            if then is None or item.length_s != then.length_s:
                continue
            for name in set(item.values) | set(then.values):
                if name not in ("B_MUTE_ACTUAL", "C_MUTE_SOLO") and not name.startswith("D_FADE"):
                    assert item.values.get(name) == then.values.get(name), name


def as_heard(item: Item) -> Item:
    """Return the item as it is when it is not muted and its lane plays."""
    copied = item.copy()
    copied.values.update(B_MUTE_ACTUAL=0.0, C_LANEPLAYS=1.0)
    copied.track = item.track
    return copied


def is_silent(item: Item) -> bool:
    """Tell whether the item plays nothing of its source, whatever is in that."""
    take = item.active_take
    assert take is not None
    assert take.source is not None
    root = take.source.root
    noise = np.ones((root.channels, root.frames))
    # One frame at either end belongs to what lies beside it too, where the line between two frames is heard.
    noise[:, :2] = noise[:, -2:] = 0.0
    return not render_item(as_heard(item), lambda path: noise, 200).any()


def begin_of(item: Item) -> float:
    """Return when in the project the take's source begins."""
    take = item.active_take
    assert take is not None
    return item.position_s - take.values.get("D_STARTOFFS", 0.0) / take.values["D_PLAYRATE"]


def find_span(item: Item, start: float, end: float) -> tuple[float, float] | None:
    """Return the seconds of the file that stems must hold to play the item from `start` to `end`, or None.

    A section is needed as a whole, where anything of it is heard at all; a loop that turns, too.
    """
    take = item.active_take
    assert take is not None and take.source is not None
    source, values = take.source, take.values
    length, file_length = float(source.exact_length_s), float(source.root.exact_length_s)
    first = values.get("D_STARTOFFS", 0.0) + start * values["D_PLAYRATE"]
    last = first + (end - start) * values["D_PLAYRATE"]
    if item.values["B_LOOPSRC"] and (first < 0 or last > length + 1e-9):
        first, last = 0.0, length
    first, last = max(first, 0.0), min(last, length)
    if first >= last:
        return None
    offset = 0.0 if source.is_whole else source.offset_s
    if source.is_reversed:
        first, last = length - last, length - first
    if max(first + offset, 0.0) >= min(last + offset, file_length):
        return None
    if source.parent is not None and not source.is_whole:
        first, last = 0.0, length
    return max(first + offset, 0.0), min(last + offset, file_length)


def check_cover(stems: StemSet, needed: tuple[float, float] | None, *, is_lacking: bool) -> None:
    """More is asked for exactly where what is needed, with what a resampler looks at, is not there."""
    if needed is None:
        assert not is_lacking
        return
    first, last = stems.region.start / stems.rate, (stems.region.start + stems.region.frames) / stems.rate
    reach = regions.REACH_S
    is_there = (stems.region.start == 0 or needed[0] - reach >= first - 1e-9) and (
        stems.region.start + stems.region.frames == stems.frames or needed[1] + reach <= last + 1e-9
    )
    assert is_lacking != is_there, f"{needed} of {first} to {last}"


def check_region(world: World, path: str, region: Region | None) -> None:
    """A region begins and ends a whole number of seconds from the source's ends."""
    if region is None:
        return
    media = world.reaper.shelf.open(path)
    assert media is not None
    assert region.start % media.rate == 0
    assert (media.samples.shape[1] - region.start - region.frames) % media.rate == 0


def check_likeness(original: Item, stem: Item) -> None:
    """What is not heard is like the original too: notes, group, snap offset, beats, markers, loops."""
    ours, theirs = stem.active_take, original.active_take
    assert ours is not None and theirs is not None and ours.source is not None and theirs.source is not None
    assert stem.notes == original.notes
    for name in ("I_GROUPID", "D_SNAPOFFSET", "C_BEATATTACHMODE", "D_POSITION", "D_LENGTH", "I_FADELPF"):
        assert stem.values.get(name, 0.0) == original.values.get(name, 0.0), name
    lost = Fraction(theirs.values["D_STARTOFFS"]) - Fraction(ours.values["D_STARTOFFS"])
    assert lost.denominator == 1, "the start offset has lost more than whole seconds"
    assert len(ours.markers) == len(theirs.markers)
    for (at, *looks), (before, *then) in zip(ours.markers, theirs.markers, strict=True):
        assert looks == then and abs(at + lost - before) < 1e-9
    is_part = exact_length(ours.source) < exact_length(theirs.source)
    assert stem.values["B_LOOPSRC"] == (0.0 if is_part else original.values["B_LOOPSRC"])


def exact_length(source: Source) -> Fraction:
    return source.exact_length_s


def run_case(world: World, seed: int) -> int:
    """Return how many items the case of that seed has checked; a failure names the seed."""
    try:
        return Case(world, Random(seed)).run()
    except (AssertionError, interpreter.Refused) as error:
        raise AssertionError(f"seed {seed}: {error}") from error
