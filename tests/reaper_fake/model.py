"""What a REAPER project is made of: sources, takes, items, tracks, and one tab with its undo history."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

ITEM_DEFAULTS = {
    "D_VOL": 1.0,
    "C_BEATATTACHMODE": -1.0,
    "C_LANEPLAYS": 1.0,
    "F_FREEMODE_H": 1.0,
    "D_FADEINLEN_AUTO": -1.0,
    "D_FADEOUTLEN_AUTO": -1.0,
    "B_LOOPSRC": 1.0,
}
TAKE_DEFAULTS = {
    "D_VOL": 1.0,
    "D_PANLAW": -1.0,
    "D_PLAYRATE": 1.0,
    "B_PPITCH": 1.0,
    "I_PITCHMODE": -1.0,
    "F_STRETCHFADESIZE": 0.0025,
}
TRACK_DEFAULTS = {
    "D_VOL": 1.0,
    "D_WIDTH": 1.0,
    "D_PANLAW": -1.0,
    "I_NCHAN": 2.0,
    "I_FXEN": 1.0,
    "I_PANMODE": 3.0,
    "B_MAINSEND": 1.0,
    "C_BEATATTACHMODE": -1.0,
    "I_PLAY_OFFSET_FLAG": 1.0,
    "B_SHOWINMIXER": 1.0,
    "B_SHOWINTCP": 1.0,
}
"""What REAPER gives a new object; every other number is 0."""

Fx = tuple[str, float]
"""An effect that a test can see: ("gain", factor) or ("tanh", drive)."""


@dataclass(eq=False, slots=True)
class Source:
    """A media source: a file, or a section and perhaps the reverse of its parent.

    `length_s` is a section's own length; a file's length is `frames` at `rate`. A source that is no audio
    file (MIDI, CLICK, ...) has rate 0 and says its length itself.
    """

    kind: str
    path: str = ""
    rate: int = 0
    channels: int = 0
    frames: int = 0
    parent: Source | None = None
    offset_s: float = 0.0
    length_s: float = 0.0
    is_reversed: bool = False
    is_whole: bool = False
    is_in_beats: bool = False
    overlap_s: float = 0.01
    peaks_left: int = 2
    owner: Take | Source | None = None
    is_destroyed: bool = False

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.parent.owner = self

    @property
    def root(self) -> Source:
        """The file at the bottom of sections."""
        return self if self.parent is None else self.parent.root

    @property
    def exact_length_s(self) -> Fraction:
        """How long one turn of the source is, in seconds."""
        if self.parent is not None and self.is_whole:
            return self.parent.exact_length_s
        if self.parent is None and self.rate:
            return Fraction(self.frames, self.rate)
        return Fraction(self.length_s)

    def copy(self) -> Source:
        """Return the same source, owned by nobody."""
        return Source(
            self.kind,
            self.path,
            self.rate,
            self.channels,
            self.frames,
            self.parent.copy() if self.parent else None,
            self.offset_s,
            self.length_s,
            self.is_reversed,
            self.is_whole,
            self.is_in_beats,
            self.overlap_s,
            self.peaks_left,
        )


def section_of(
    parent: Source, offset_s: float = 0.0, length_s: float = 0.0, *, is_reversed: bool = False
) -> Source:
    """Return a section of `parent`; without a length the whole of it, as "toggle take reverse" makes it."""
    is_whole = length_s == 0.0
    return Source(
        "SECTION",
        parent=parent,
        offset_s=offset_s,
        length_s=float(parent.exact_length_s) if is_whole else length_s,
        is_reversed=is_reversed,
        is_whole=is_whole,
    )


@dataclass(eq=False, slots=True)
class Take:
    """One take of an item."""

    guid: str
    source: Source | None = None
    name: str = ""
    values: dict[str, float] = field(default_factory=lambda: dict(TAKE_DEFAULTS))
    ext: dict[str, str] = field(default_factory=dict)
    fx: list[Fx] = field(default_factory=list)
    envelopes: int = 0
    stretch_markers: int = 0
    spectral_edits: int = 0
    markers: list[tuple[float, str, int]] = field(default_factory=list)
    item: Item | None = None

    def set_source(self, source: Source | None) -> None:
        """Play `source`; the source of before belongs to nobody."""
        if self.source is not None:
            self.source.owner = None
        self.source = source
        if source is not None:
            source.owner = self

    def copy(self, guid: str | None = None) -> Take:
        """Return the take with a source of its own, in no item."""
        take = Take(
            guid or self.guid,
            None,
            self.name,
            dict(self.values),
            dict(self.ext),
            list(self.fx),
            self.envelopes,
            self.stretch_markers,
            self.spectral_edits,
            list(self.markers),
        )
        take.set_source(self.source.copy() if self.source else None)
        return take


@dataclass(eq=False, slots=True)
class Item:
    """One media item with its takes."""

    guid: str
    values: dict[str, float] = field(default_factory=lambda: dict(ITEM_DEFAULTS))
    notes: str = ""
    ext: dict[str, str] = field(default_factory=dict)
    takes: list[Take] = field(default_factory=list)
    track: Track | None = None

    @property
    def active_take(self) -> Take | None:
        """The take that plays."""
        return self.takes[int(self.values.get("I_CURTAKE", 0))] if self.takes else None

    @property
    def position_s(self) -> float:
        """Where the item begins."""
        return self.values.get("D_POSITION", 0.0)

    @property
    def length_s(self) -> float:
        """How long the item is."""
        return self.values.get("D_LENGTH", 0.0)

    def add_take(self, take: Take) -> Take:
        """Append `take`."""
        take.item = self
        self.takes.append(take)
        return take

    def remove_take(self, take: Take) -> None:
        """Take `take` out; which one plays then is left to chance in REAPER, and is the last one here."""
        self.takes.remove(take)
        take.item = None
        self.values["I_CURTAKE"] = float(max(len(self.takes) - 1, 0))

    def copy(self) -> Item:
        """Return the item with takes and sources of its own, on no track."""
        item = Item(self.guid, dict(self.values), self.notes, dict(self.ext))
        for take in self.takes:
            item.add_take(take.copy())
        return item


@dataclass(eq=False, slots=True)
class Track:
    """One track; `items` are in no particular order."""

    guid: str
    name: str = ""
    values: dict[str, float] = field(default_factory=lambda: dict(TRACK_DEFAULTS))
    texts: dict[str, str] = field(default_factory=dict)
    ext: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    fx: list[Fx] = field(default_factory=list)
    project: FakeProject | None = None

    @property
    def sorted_items(self) -> list[Item]:
        """The items from left to right, as REAPER counts them."""
        return sorted(self.items, key=lambda item: item.position_s)

    @property
    def folder_depth(self) -> int:
        """By how many folders the depth changes behind this track."""
        return int(self.values.get("I_FOLDERDEPTH", 0))

    def add_item(self, item: Item) -> Item:
        """Put `item` onto this track."""
        item.track = self
        self.items.append(item)
        return item

    def remove_item(self, item: Item) -> None:
        """Take `item` off."""
        self.items.remove(item)
        item.track = None

    def copy(self) -> Track:
        """Return the track with items of its own, in no project."""
        track = Track(
            self.guid, self.name, dict(self.values), dict(self.texts), dict(self.ext), fx=list(self.fx)
        )
        for item in self.items:
            track.add_item(item.copy())
        return track


@dataclass(eq=False, slots=True)
class FakeProject:
    """One project tab. `rate` and `pan_law` are the project's; `folder` is where its media goes."""

    name: str = ""
    folder: str = ""
    rate: int = 48000
    pan_law: float = 1.0
    tracks: list[Track] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    ext: dict[tuple[str, str], str] = field(default_factory=dict)
    cursor_s: float = 0.0
    time_selection: tuple[float, float] = (0.0, 0.0)
    loop: tuple[float, float] = (0.0, 0.0)
    play_state: int = 0
    time_offset_s: float = 0.0
    change_count: int = 0
    undo: list[tuple[str, list[Track]]] = field(default_factory=list)
    redo: list[tuple[str, list[Track]]] = field(default_factory=list)
    saved_at: int = 0
    block: list[Track] | None = None
    is_open: bool = True

    @property
    def items(self) -> list[Item]:
        """Every item, track by track, from left to right."""
        return list(itertools.chain.from_iterable(track.sorted_items for track in self.tracks))

    @property
    def selected_items(self) -> list[Item]:
        """The selected ones."""
        return [item for item in self.items if item.values.get("B_UISEL")]

    @property
    def length_s(self) -> float:
        """Where the last item ends."""
        return max((item.position_s + item.length_s for item in self.items), default=0.0)

    @property
    def is_dirty(self) -> bool:
        """Whether closing the tab would ask to save it: undoing everything makes it clean again."""
        return len(self.undo) != self.saved_at

    @property
    def render_rate(self) -> int:
        """The rate the project runs at."""
        return int(self.values.get("PROJECT_SRATE", 0)) if self.values.get("PROJECT_SRATE_USE") else self.rate

    def insert_track(self, index: int, track: Track) -> Track:
        """Put `track` at `index`, clamped to the tracks there are."""
        track.project = self
        self.tracks.insert(min(max(index, 0), len(self.tracks)), track)
        return track

    def remove_track(self, track: Track) -> None:
        """Take `track` out, with all it holds; the folders of the others stay as they are numbered."""
        self.tracks.remove(track)
        track.project = None

    def parents(self) -> Iterator[tuple[Track, Track | None]]:
        """Yield every track with the folder it lies in."""
        folders: list[Track] = []
        for track in self.tracks:
            yield track, folders[-1] if folders else None
            if track.folder_depth > 0:
                folders.append(track)
            elif track.folder_depth < 0:
                del folders[max(len(folders) + track.folder_depth, 0) :]

    def copy_tracks(self) -> list[Track]:
        """Return everything undo brings back, on its own."""
        return [track.copy() for track in self.tracks]

    def replace_tracks(self, tracks: list[Track]) -> list[Track]:
        """Return the tracks so far and hold `tracks` instead."""
        before = self.tracks
        for track in before:
            track.project = None
        for track in tracks:
            track.project = self
        self.tracks = tracks
        return before
