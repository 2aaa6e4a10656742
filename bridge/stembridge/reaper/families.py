"""Originals and the stems that stand for them, as they lie in a project, and what is not as it was placed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import copysign, log10
from pathlib import Path

from stembridge import stem_tag
from stembridge.errors import StembridgeError
from stembridge.reaper.fitting import FADES, TAKE_SPEED, TIMEBASE, fit_item, fit_section, fit_take
from stembridge.reaper.item_chunk import section_lines
from stembridge.reaper.playing import Way, find_form, judge
from stembridge.reaper.snapshot import Item, Snapshot, Track
from stembridge.reaper.stem_set import StemSet, read_stem_set
from stembridge.reaper.tags import OriginalTag, StemTag, TrackTag, read_tag
from stembridge.reaper.turn import Turn

_SAME = 1e-9
"""Seconds, or a share of a value: REAPER moves and cuts an original and its stems by sums of its own."""
HAS_STEMS = "its stems are there: split it again with another model, or remove them first"
LOCKED = 1
"""The bit of C_LOCK that keeps an item from being changed."""


class Kind(StrEnum):
    """What differs."""

    ORIGINAL = "original"
    MISSING = "missing"
    MUTED = "muted"
    PIECES = "pieces"
    TRIMMED = "trimmed"
    MOVED = "moved"
    SLIPPED = "slipped"
    TRACK = "track"
    FILE = "file"
    REMIX = "remix"
    SECTION = "section"
    EFFECTS = "effects"
    ITEM_VOLUME = "item volume"
    TAKE_VOLUME = "take volume"
    PAN = "pan"
    SPEED = "speed"
    CHANNELS = "channels"
    FADES = "fades"
    LOOP = "loop"
    TIMEBASE = "timebase"
    FADER = "fader"
    TRACK_SOUND = "track sound"


MADE_BY_HAND = frozenset(Kind) - {
    Kind.ORIGINAL, Kind.MISSING, Kind.MUTED, Kind.REMIX, Kind.FADER, Kind.TRACK_SOUND,
}  # fmt: skip
"""What a user has done to a stem's item, and would lose with it."""
OUT_OF_REACH = frozenset({Kind.PIECES, Kind.TRACK, Kind.FILE, Kind.SECTION, Kind.EFFECTS})
"""What cannot be undone by setting an item's or a take's values."""
MEASURED = frozenset(
    {
        Kind.MISSING, Kind.MUTED, Kind.PIECES, Kind.TRIMMED, Kind.MOVED, Kind.SLIPPED, Kind.FILE,
        Kind.REMIX, Kind.ITEM_VOLUME, Kind.TAKE_VOLUME, Kind.FADER,
    }
)  # fmt: skip
"""What a sum of files can show."""


@dataclass(frozen=True, slots=True)
class Stem:
    """An item that holds a stem, and what its tag says."""

    item: Item
    tag: StemTag

    @property
    def is_muted(self) -> bool:
        return bool(self.item.values["B_MUTE"])


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was placed; ``guid`` is the stem's item, '' where there is none."""

    kind: Kind
    stem: str
    text: str
    guid: str = ""

    def __str__(self) -> str:
        return f"{self.stem}: {self.text}"


@dataclass(frozen=True, slots=True)
class Family:
    """An original and its stems.

    Parameters
    ----------
    original : None where it is gone, or plays nothing any more
    stems : those of the last split, and what the remix that is set adds to them
    leftovers : those of splits before, which the last one has no stem for, and what other remixes add
    """

    id: str
    original: Item | None
    tag: OriginalTag | None
    stems: tuple[Stem, ...]
    leftovers: tuple[Stem, ...] = ()

    @property
    def name(self) -> str:
        """The name by which a person knows the original."""
        if self.original is not None:
            return self.original.name
        stem = self.stems[0]
        return stem.item.name.removesuffix(f" - {stem.tag.stem}")

    @property
    def items(self) -> tuple[Item, ...]:
        own = () if self.original is None else (self.original,)
        return (*own, *(stem.item for stem in (*self.stems, *self.leftovers)))

    @property
    def is_locked(self) -> bool:
        return any(int(item.values["C_LOCK"]) & LOCKED for item in self.items)

    @property
    def plays_stems(self) -> bool:
        """Tell whether the stems are heard, and the original is not."""
        is_silent = self.original is None or bool(self.original.values["B_MUTE"])
        return is_silent and any(not stem.is_muted for stem in self.stems)


def find_families(snapshot: Snapshot) -> list[Family]:
    """Return all families of the project, each original with its own stems, in the order of their items."""
    originals: dict[str, list[tuple[Item, OriginalTag]]] = {}
    stems: dict[str, list[Stem]] = {}
    for item in snapshot.items:
        tag = read_tag(item.tag)
        if isinstance(tag, OriginalTag) and item.take is not None and item.take.source is not None:
            originals.setdefault(tag.family, []).append((item, tag))
        elif isinstance(tag, StemTag):
            stems.setdefault(tag.family, []).append(Stem(item, tag))
    found = []
    folders = _find_folders(snapshot)
    for family in dict.fromkeys((*originals, *stems)):
        members = stems.get(family, [])
        copies = originals.get(family, [])
        if not copies:
            found.append(Family(family, None, None, tuple(members)))
        chosen = [_find_copy(snapshot, folders, stem, [item for item, _ in copies]) for stem in members]
        for original, tag in copies:
            own = [stem for stem, copy in zip(members, chosen, strict=True) if copy is original]
            found.append(
                Family(
                    family,
                    original,
                    tag,
                    tuple(stem for stem in own if stem.tag.job == tag.job),
                    tuple(stem for stem in own if stem.tag.job != tag.job),
                )
            )
    places = {item.guid: number for number, item in enumerate(snapshot.items)}
    return sorted(found, key=lambda family: places[family.items[0].guid])


def _find_folders(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    """Return for each track the folders in which it lies, however deep."""
    found: dict[str, frozenset[str]] = {}
    opened: list[str] = []
    for track in snapshot.tracks:
        found[track.guid] = frozenset(opened)
        opened += [track.guid] * max(track.depth, 0)
        del opened[len(opened) - min(max(-track.depth, 0), len(opened)) :]
    return found


def _find_copy(
    snapshot: Snapshot, folders: dict[str, frozenset[str]], stem: Stem, copies: Sequence[Item]
) -> Item | None:
    """Return which of several copies of an original a stem belongs to.

    Of a folder that was duplicated the stem tracks still name the track from which they were copied.
    """
    track = snapshot.find_track(stem.item.track)
    tag = read_tag(track.tag) if track is not None else None
    parent = tag.of if isinstance(tag, TrackTag) else ""
    around = folders.get(stem.item.track, frozenset())

    def closeness(copy: Item) -> tuple[bool, bool, float]:
        # Below 0 it is the distance between the two.
        overlap = min(copy.end, stem.item.end) - max(copy.position, stem.item.position)
        return copy.track in around, copy.track == parent, overlap

    return max(copies, key=closeness, default=None)


class Bonds:
    """What keeps originals and stems of a project from being split once more, as their families would break.

    Parameters
    ----------
    snapshot : with all items that carry a tag
    """

    def __init__(self, snapshot: Snapshot) -> None:
        tags = {track.guid: read_tag(track.tag) for track in snapshot.tracks}
        self._stem_tracks = {guid for guid, tag in tags.items() if isinstance(tag, TrackTag)}
        self._family_of = {item.guid: family for family in find_families(snapshot) for item in family.items}

    def find_refusal(self, item: Item) -> str:
        """Return why splitting ``item`` would break its family, or ''.

        An original has no stems of its own where they were deleted, or where it is a copy of one that has. A
        stem may go where its family has nobody else, or keeps the same stem on a stem track.
        """
        family = self._family_of.get(item.guid)
        if family is None:
            return ""
        if family.original is not None and family.original.guid == item.guid:
            return HAS_STEMS if family.stems or family.leftovers else ""
        others = [other for other in family.items if other.guid != item.guid]
        if not others or self._is_spare(item, family):
            return ""
        return f"it is a stem of {family.name}: copy it to a track of its own and split the copy"

    def _is_spare(self, item: Item, family: Family) -> bool:
        stems = (*family.stems, *family.leftovers)
        own = next(stem.tag.stem for stem in stems if stem.item.guid == item.guid)
        return item.track not in self._stem_tracks and any(
            stem.tag.stem == own
            and stem.item.track in self._stem_tracks
            and stem.item.position <= item.position + _SAME
            and stem.item.end >= item.end - _SAME
            for stem in stems
        )


def choose_families(turn: Turn, snapshot: Snapshot) -> list[Family]:
    """Return the families with a selected member, all where nothing is selected; say where there is none."""
    families = find_families(snapshot)
    has_selection = any(item.is_selected for item in snapshot.items)
    if has_selection:
        families = [family for family in families if any(item.is_selected for item in family.items)]
    if not families:
        turn.tell(
            "The selected items have no stems: split them first."
            if has_selection
            else "This project has no stems: select items and split them first.",
            is_error=True,
        )
    return families


class StemSets:
    """The result folders of families, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, StemSet | None] = {}

    def find(self, stem: Stem) -> StemSet | None:
        """Return the set a stem is of, from where it was or from beside the stem's file; None: it is gone."""
        source = stem.item.take.source if stem.item.take is not None else None
        beside = str(Path(source.path).parent) if source is not None and source.path else ""
        for folder in dict.fromkeys((stem.tag.folder, beside)):
            found = self._read(folder)
            if found is not None and found.job == stem.tag.job:
                return found
        return None

    def _read(self, folder: str) -> StemSet | None:
        if folder not in self._known:
            try:
                self._known[folder] = read_stem_set(folder) if folder else None
            except StembridgeError:
                self._known[folder] = None
        return self._known[folder]


def find_differences(family: Family, snapshot: Snapshot, sets: StemSets) -> list[Difference]:
    """Return what of a family is not as it would be if it were placed now, in the order of the stems."""
    original = family.original
    if original is None:
        return [Difference(Kind.ORIGINAL, "original", "it is gone")]
    found = list(_compare_original(family, original))
    by_stem: dict[str, list[Stem]] = {}
    for stem in family.stems:
        by_stem.setdefault(stem.tag.stem, []).append(stem)
    is_heard = any(not stem.is_muted for stem in family.stems)
    for name, pieces in by_stem.items():
        if len(pieces) > 1:
            found.append(Difference(Kind.PIECES, name, f"cut into {len(pieces)} pieces", pieces[0].item.guid))
        for stem in pieces:
            found += [
                Difference(kind, name, text, stem.item.guid)
                for kind, text in (
                    *_compare_file(stem, sets),
                    *_compare_place(stem, original, is_piece=len(pieces) > 1),
                    *_compare_item(stem, original, is_piece=len(pieces) > 1),
                    *_compare_take(stem, original),
                    *_compare_mute(stem, is_heard=is_heard),
                    *_compare_track(stem, original, snapshot),
                )
            ]
    found += [Difference(Kind.MISSING, name, "missing") for name in _find_missing(family, set(by_stem), sets)]
    return found


def _compare_original(family: Family, original: Item) -> Iterator[Difference]:
    if any(stem.tag.is_approximate or stem.tag.fit.rendered_from is not None for stem in family.stems):
        return
    verdict = judge(original)
    if verdict.way is Way.BAKED:
        yield Difference(Kind.ORIGINAL, "original", f"it has {', '.join(verdict.reasons)} now")
    elif verdict.way is Way.SKIPPED:
        yield Difference(Kind.ORIGINAL, "original", verdict.reasons[0])


def _find_missing(family: Family, present: set[str], sets: StemSets) -> list[str]:
    known = next((found for stem in family.stems if (found := sets.find(stem)) is not None), None)
    return [file.stem for file in known.files if file.stem not in present] if known is not None else []


def _compare_file(stem: Stem, sets: StemSets) -> Iterator[tuple[Kind, str]]:
    source = stem.item.take.source if stem.item.take is not None else None
    if source is None:
        yield Kind.FILE, "it plays nothing"
        return
    name = Path(source.path).name
    if not source.exists:
        yield Kind.FILE, f"its file is missing: {name}"
    elif not (job := find_job(stem, sets)):
        yield Kind.FILE, f"plays another file: {name}"
    elif job != stem.tag.job:
        yield Kind.REMIX, "plays a remix"


def find_job(stem: Stem, sets: StemSets) -> str:
    """Return the job that made what a stem's active take plays: of its split or of a remix; '' where none.

    Of a file that is gone it is known where the item's takes are those that were left there.
    """
    source = stem.item.take.source if stem.item.take is not None else None
    if source is None:
        return ""
    if _is_own_file(stem, source.path, sets):
        return stem.tag.job
    try:
        said = stem_tag.read_tag(Path(source.path))
    except OSError:
        index = stem.item.active.index if stem.item.takes == stem.tag.take_count else -1
        return next((job for job, at in stem.tag.takes.items() if at == index), "")
    if said is None or said.stem != stem.tag.stem or said.job not in stem.tag.takes:
        return ""
    return said.job


def _is_own_file(stem: Stem, path: str, sets: StemSets) -> bool:
    """Tell whether a file is the stem's, also where it was copied to another place."""
    known = sets.find(stem)
    if known is not None:
        for file in known.files:
            if file.stem == stem.tag.stem and os.path.normpath(file.path) == os.path.normpath(path):
                return True
    try:
        said = stem_tag.read_tag(Path(path))
    except OSError:
        return False
    return said is not None and (said.job, said.stem) == (stem.tag.job, stem.tag.stem)


def _compare_item(stem: Stem, original: Item, *, is_piece: bool) -> Iterator[tuple[Kind, str]]:
    now, wanted = stem.item.values, fit_item(original, stem.tag.fit)
    yield from _compare_volume(Kind.ITEM_VOLUME, "item volume", now["D_VOL"], wanted["D_VOL"])
    if is_piece:
        return
    if any(not _is_same(now[name], wanted[name]) for name in FADES):
        yield Kind.FADES, "its fades differ"
    if now["B_LOOPSRC"] != wanted["B_LOOPSRC"]:
        yield Kind.LOOP, "loops" if now["B_LOOPSRC"] else "does not loop"
    if any(now[name] != wanted[name] for name in TIMEBASE):
        yield Kind.TIMEBASE, "its time base differs"


def _compare_take(stem: Stem, original: Item) -> Iterator[tuple[Kind, str]]:
    take = stem.item.take
    if take is None:
        return
    now, wanted = take.values, fit_take(original, stem.tag.fit)
    yield from _compare_volume(Kind.TAKE_VOLUME, "take volume", now["D_VOL"], wanted["D_VOL"])
    if not _is_same(now["D_PAN"], wanted["D_PAN"]):
        yield Kind.PAN, f"take pan {_say_pan(now['D_PAN'])}"
    elif "D_PANLAW" in wanted and not _is_same(now["D_PANLAW"], wanted["D_PANLAW"]):
        yield Kind.PAN, "its pan law differs"
    if not _is_same(now["D_PLAYRATE"], wanted["D_PLAYRATE"]):
        yield Kind.SPEED, f"play rate {now['D_PLAYRATE']:.3f} instead of {wanted['D_PLAYRATE']:.3f}"
    elif not _is_same(now["D_PITCH"], wanted["D_PITCH"]):
        yield Kind.SPEED, f"pitch {now['D_PITCH']:+.2f} semitones instead of {wanted['D_PITCH']:+.2f}"
    elif any(now[name] != wanted[name] for name in TAKE_SPEED if name in wanted):
        yield Kind.SPEED, "its pitch mode differs"
    if now["I_CHANMODE"] != wanted["I_CHANMODE"]:
        yield Kind.CHANNELS, "its channel mode differs"
    if not _has_section(stem, original):
        yield Kind.SECTION, "plays another section of its file"
    for count, name in (
        (take.fx, "take effect"),
        (take.envelopes, "take envelope"),
        (take.stretch_markers, "stretch marker"),
        (int(now["IP_SPECEDIT:CNT"]), "spectral edit"),
    ):
        if count:
            yield Kind.EFFECTS, f"{count} {name}{'s' if count > 1 else ''}"


def find_delay(stem: Stem, original: Item) -> float:
    """Return by how many seconds of the project a stem sounds later than its original."""
    wanted = fit_take(original, stem.tag.fit)
    ahead = stem.item.active.values["D_STARTOFFS"] - wanted["D_STARTOFFS"]
    return stem.item.position - original.position - ahead / wanted["D_PLAYRATE"]


def _compare_place(stem: Stem, original: Item, *, is_piece: bool) -> Iterator[tuple[Kind, str]]:
    if stem.item.take is None:
        return
    delay = find_delay(stem, original)
    moved = stem.item.position - original.position
    if not _is_same(delay, 0.0):
        if _is_same(moved, 0.0):
            yield Kind.SLIPPED, f"its content lies {_say_delay(delay)}"
        else:
            yield Kind.MOVED, f"moved, it sounds {_say_delay(delay)}"
    if is_piece:
        return
    if not _is_same(stem.item.length, original.length):
        yield Kind.TRIMMED, f"trimmed to {stem.item.length:.3f} s of {original.length:.3f} s"
    elif _is_same(delay, 0.0) and not _is_same(moved, 0.0):
        yield Kind.TRIMMED, "shows another stretch than its original"


def _has_section(stem: Stem, original: Item) -> bool:
    lines = fit_section(original, stem.tag.fit)
    source = stem.item.active.source
    form = find_form(stem.item)
    if source is None or not lines:
        return source is None or source.section is None
    if form is None or source.section is None:
        return False
    start, length, _ = source.section
    wanted = [line.split() for line in lines]
    now = [line.split() for line in section_lines(form.mode, start, length, form.overlap)]
    return len(now) == len(wanted) and all(
        one[0] == other[0] and _is_same(float(one[1]), float(other[1]))
        for one, other in zip(now, wanted, strict=True)
    )


def _compare_mute(stem: Stem, *, is_heard: bool) -> Iterator[tuple[Kind, str]]:
    if is_heard and stem.is_muted:
        yield Kind.MUTED, "muted"


def _compare_track(stem: Stem, original: Item, snapshot: Snapshot) -> Iterator[tuple[Kind, str]]:
    track = snapshot.find_track(stem.item.track)
    if track is None:
        return
    tag = read_tag(track.tag)
    if not isinstance(tag, TrackTag) or (tag.stem, tag.of) != (stem.tag.stem, original.track):
        yield Kind.TRACK, f"on another track: {_name(track)}"
    if track.guid != original.track:
        yield from compare_track(track)


def compare_track(track: Track) -> Iterator[tuple[Kind, str]]:
    """Yield what a stem's track does to the stem's sound, so that all of them do not sum to the original."""
    values = track.values
    if values["B_MUTE"]:
        yield Kind.FADER, "its track is muted"
    yield from _compare_volume(Kind.FADER, "track volume", values["D_VOL"], 1.0)
    if values["B_PHASE"]:
        yield Kind.FADER, "its track's polarity is flipped"
    if not _is_same(values["D_PAN"], 0.0):
        yield Kind.TRACK_SOUND, f"track pan {_say_pan(values['D_PAN'])}"
    if not values["B_MAINSEND"]:
        yield Kind.TRACK_SOUND, "its track sends nothing to its folder"
    if track.fx:
        yield Kind.TRACK_SOUND, f"{track.fx} effect{'s' if track.fx > 1 else ''} on its track"


def _name(track: Track) -> str:
    return track.name or f"track {track.values['IP_TRACKNUMBER']:.0f}"


def _compare_volume(kind: Kind, what: str, now: float, wanted: float) -> Iterator[tuple[Kind, str]]:
    if _is_same(now, wanted):
        return
    if copysign(1, now) != copysign(1, wanted):
        yield kind, f"{what.removesuffix(' volume')} polarity flipped"
    if not _is_same(abs(now), abs(wanted)):
        yield kind, f"{what} {say_gain(now / wanted) if wanted else 'not off'}"


def say_gain(gain: float) -> str:
    """Return a factor as a fader shows it."""
    return f"{20 * log10(abs(gain)):+.1f} dB" if gain else "-inf dB"


def _say_pan(pan: float) -> str:
    return "center" if pan == 0 else f"{abs(pan) * 100:.0f}% {'left' if pan < 0 else 'right'}"


def _say_delay(seconds: float) -> str:
    return f"{abs(seconds):.3f} s too {'late' if seconds > 0 else 'early'}"


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(1.0, abs(one), abs(other))
