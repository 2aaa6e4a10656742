"""What a script has read from REAPER: raw values under REAPER's own names. docs/reaper-conversation.md."""

from __future__ import annotations

from typing import Any

import msgspec

from stembridge.errors import RequestError

ITEM_VALUES = (
    "D_POSITION", "D_LENGTH", "D_SNAPOFFSET", "D_VOL",
    "B_MUTE", "B_MUTE_ACTUAL", "B_LOOPSRC", "B_ALLTAKESPLAY",
    "C_BEATATTACHMODE", "C_AUTOSTRETCH", "C_LOCK", "I_GROUPID", "I_CURTAKE", "I_CUSTOMCOLOR", "C_LANEPLAYS",
    "D_FADEINLEN", "D_FADEINLEN_AUTO", "D_FADEINDIR", "C_FADEINSHAPE",
    "D_FADEOUTLEN", "D_FADEOUTLEN_AUTO", "D_FADEOUTDIR", "C_FADEOUTSHAPE", "I_FADELPF",
)  # fmt: skip
TAKE_VALUES = (
    "D_STARTOFFS", "D_PLAYRATE", "D_PITCH", "B_PPITCH", "I_PITCHMODE", "I_STRETCHFLAGS", "F_STRETCHFADESIZE",
    "I_CHANMODE", "D_VOL", "D_PAN", "D_PANLAW", "I_CUSTOMCOLOR", "IP_SPECEDIT:CNT",
)  # fmt: skip
TRACK_VALUES = (
    "IP_TRACKNUMBER", "I_FOLDERDEPTH", "I_NCHAN", "C_BEATATTACHMODE", "I_CUSTOMCOLOR",
    "D_VOL", "D_PAN", "D_PANLAW", "B_MUTE", "I_SOLO", "B_PHASE", "B_MAINSEND", "I_RECARM", "I_FREEMODE",
    "D_PLAY_OFFSET", "I_PLAY_OFFSET_FLAG",
)  # fmt: skip


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a take plays: a media file, or a section of one.

    ``section`` is (offset, length, is_reversed) in seconds of the file, where the take plays a section of it.
    ``length`` is what the take plays of, the section or the file; ``file_length`` that of the file.
    ``depth`` counts the wrappers around the file; ``chunk`` is the item's state chunk where there is one.
    """

    type: str
    path: str
    exists: bool
    rate: int
    channels: int
    length: float
    file_length: float
    length_in_beats: bool = False
    depth: int = 0
    section: tuple[float, float, bool] | None = None
    chunk: str = ""


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """The active take of an item. ``markers`` are (source position, name, colour)."""

    guid: str
    index: int
    name: str
    values: dict[str, float]
    source: Source | None
    is_midi: bool = False
    fx: int = 0
    envelopes: int = 0
    stretch_markers: int = 0
    markers: tuple[tuple[float, str, int], ...] = ()

    @property
    def media(self) -> Source:
        """The source, of a take that is known to have one."""
        assert self.source is not None
        return self.source


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One media item; ``take`` is None for an empty one."""

    guid: str
    track: str
    values: dict[str, float]
    take: Take | None = None
    is_selected: bool = False
    notes: str = ""
    tag: str = ""
    takes: int = 1

    @property
    def active(self) -> Take:
        """The active take, of an item that is known to have one."""
        assert self.take is not None
        return self.take

    @property
    def position(self) -> float:
        return self.values["D_POSITION"]

    @property
    def length(self) -> float:
        return self.values["D_LENGTH"]

    @property
    def end(self) -> float:
        return self.position + self.length

    @property
    def name(self) -> str:
        """The name by which a person knows the item."""
        return (
            self.take.name if self.take is not None and self.take.name else f"item at {self.position:.3f} s"
        )


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One track; ``fx`` counts its effects, ``items`` all items on it, collected or not."""

    guid: str
    name: str
    values: dict[str, float]
    tag: str = ""
    fx: int = 0
    items: int = 0

    @property
    def depth(self) -> int:
        """REAPER's folder depth: 1 opens a folder, -n closes n of them."""
        return int(self.values["I_FOLDERDEPTH"])


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """The project; ``media_dir`` is where its recordings go, REAPER's default place while it is unsaved."""

    name: str
    path: str
    media_dir: str
    is_saved: bool
    rate: float = 0
    reaper: str = ""
    os: str = ""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What REAPER is doing: ``play`` is &1 playing, &2 paused, &4 recording; ``cursor`` the edit cursor."""

    play: int = 0
    cursor: float = 0.0
    project: str = ""
    time_selection: tuple[float, float] = (0.0, 0.0)

    @property
    def is_playing(self) -> bool:
        return bool(self.play & 1)

    @property
    def is_recording(self) -> bool:
        return bool(self.play & 4)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was collected at one moment; ``tracks`` are all of the project's, in order."""

    project: Project
    host: Host
    tracks: tuple[Track, ...]
    items: tuple[Item, ...]

    def find_track(self, guid: str) -> Track | None:
        return next((track for track in self.tracks if track.guid == guid), None)

    def find_item(self, guid: str) -> Item | None:
        return next((item for item in self.items if item.guid == guid), None)


def read_snapshot(collected: Any) -> Snapshot:
    """Return the snapshot that a script has sent.

    Raises
    ------
    RequestError
        A value is missing or of the wrong kind.
    """
    try:
        snapshot = msgspec.convert(collected, Snapshot, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"the script's snapshot is not understood: {error}", "stembridge reaper install"
        ) from None
    for owner, values, wanted in _values(snapshot):
        missing = [name for name in wanted if name not in values]
        if missing:
            raise RequestError(
                f"the script's snapshot lacks {', '.join(missing)} of {owner}", "stembridge reaper install"
            )
    return snapshot


def _values(snapshot: Snapshot) -> list[tuple[str, dict[str, float], tuple[str, ...]]]:
    found: list[tuple[str, dict[str, float], tuple[str, ...]]] = []
    found += [(f"track {track.name!r}", track.values, TRACK_VALUES) for track in snapshot.tracks]
    for item in snapshot.items:
        found.append((f"{item.name!r}", item.values, ITEM_VALUES))
        if item.take is not None:
            found.append((f"take {item.take.name!r}", item.take.values, TAKE_VALUES))
    return found
