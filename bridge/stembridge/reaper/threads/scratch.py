"""The scratch project of "Check this REAPER": its items, how they are made, and how it is rendered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stembridge.reaper import operations as do
from stembridge.reaper.item_chunk import SECTION, section_lines
from stembridge.reaper.operations import Operation
from stembridge.reaper.snapshot import Item, Snapshot

RATE = 44100
LENGTH_S = 2.0
EVERY_S = 3.0
BAKE = "rendering an item"
BAKE_OFFSET_S, BAKE_FADE_S, BAKE_VOLUME = 30.0, 0.5, 0.5
_FOLDER = "a folder"
_FLOAT_WAV = "ZXZhdyAAAQ=="
"""RENDER_FORMAT of WAV in 32-bit floats: the writer's mark "evaw" backwards, the bits, and its flags."""
_RENDER = {
    "RENDER_SETTINGS": 0, "RENDER_BOUNDSFLAG": 0, "RENDER_CHANNELS": 2, "RENDER_SRATE": RATE,
    "RENDER_TAILFLAG": 0, "RENDER_ADDTOPROJ": 0, "RENDER_DITHER": 0, "RENDER_NORMALIZE": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """One item.

    Parameters
    ----------
    offset_s : start offset of its take
    section : start and length of the part of the file that it plays
    is_reversed : turned round by REAPER's own action
    is_mp3 : plays the MP3
    is_inside : lies on a track in a folder
    values, take_values : what else is set, by REAPER's names
    """

    name: str
    offset_s: float
    section: tuple[float, float] | None = None
    is_reversed: bool = False
    is_mp3: bool = False
    is_inside: bool = False
    values: tuple[tuple[str, float], ...] = ()
    take_values: tuple[tuple[str, float], ...] = ()


PIECES = (
    Piece("plain", 16.53125, values=(("D_VOL", 0.8), ("D_FADEINLEN", 0.25))),
    Piece("reversed", 18.25, is_reversed=True),
    Piece("section", 0.5, section=(19.75, 3.0)),
    Piece("play rate 1.25", 20.0, take_values=(("D_PLAYRATE", 1.25), ("B_PPITCH", 0.0))),
    Piece("MP3", 3.125, is_mp3=True),
    Piece("in a folder", 17.75, is_inside=True),
    Piece(BAKE, BAKE_OFFSET_S, values=(("D_FADEINLEN", BAKE_FADE_S),), take_values=(("D_VOL", BAKE_VOLUME),)),
)


def span(number: int) -> tuple[float, float]:
    """Return where in the project piece ``number`` lies, in seconds."""
    return number * EVERY_S, number * EVERY_S + LENGTH_S


def build(song: str, mp3: str) -> list[Operation]:
    """Return what fills an empty project."""
    operations: list[Operation] = []
    for number, piece in enumerate(PIECES):
        track = f"$track {piece.name}"
        if piece.is_inside:
            folder = f"$track {_FOLDER}"
            operations += [do.append_track(folder), do.set_track_text(folder, "P_NAME", _FOLDER)]
            operations.append(do.set_track(folder, "I_FOLDERDEPTH", 1))
        operations += [do.append_track(track), do.set_track_text(track, "P_NAME", piece.name)]
        if piece.is_inside:
            operations.append(do.set_track(track, "I_FOLDERDEPTH", -1))
        operations += _add_item(piece, track, span(number), mp3 if piece.is_mp3 else song)
    operations.append(do.restore_selection())
    return operations


def set_rate() -> list[Operation]:
    """Return what gives the project the rate of its media, so that nothing is resampled."""
    return [do.project_value("PROJECT_SRATE", RATE), do.project_value("PROJECT_SRATE_USE", 1)]


def _add_item(piece: Piece, track: str, place: tuple[float, float], path: str) -> Iterator[Operation]:
    item = item_name(piece)
    yield do.add_item(item, track)
    yield do.add_take(take_name(piece), item)
    yield do.set_file(item, path)
    if piece.section is not None:
        yield do.wrap_section(item, section_lines(SECTION, *piece.section, "0.01"))
    yield do.set_take_text(item, "P_NAME", piece.name)
    for name, value in piece.take_values:
        yield do.set_take(item, name, value)
    yield do.set_take(item, "D_STARTOFFS", piece.offset_s)
    for name, value in (("D_POSITION", place[0]), ("D_LENGTH", LENGTH_S), *piece.values):
        yield do.set_item(item, name, value)
    if piece.is_reversed:
        yield do.select_only(item)
        yield do.command(do.TOGGLE_REVERSE)


def item_name(piece: Piece) -> str:
    """Return the name that stands for a piece's item while it is made."""
    return f"$item {piece.name}"


def take_name(piece: Piece) -> str:
    """Return the name that stands for the take of a piece's item while it is made."""
    return f"$take {piece.name}"


def render(folder: Path, name: str) -> list[Operation]:
    """Return what renders all of the project into ``folder``; `render_path` says into which file."""
    values = {**_RENDER, "RENDER_STARTPOS": 0.0, "RENDER_ENDPOS": len(PIECES) * EVERY_S}
    return [
        do.project_text("RENDER_FILE", str(folder)),
        do.project_text("RENDER_PATTERN", name),
        do.project_text("RENDER_FORMAT", _FLOAT_WAV),
        *(do.project_value(parm, float(value)) for parm, value in values.items()),
        do.command(do.RENDER_PROJECT),
    ]


def render_path(folder: Path, name: str) -> Path:
    """Return the file that a render leaves."""
    return folder / f"{name}.wav"


def find_piece(snapshot: Snapshot, piece: Piece) -> Item | None:
    """Return a piece's item."""
    return next((item for item in snapshot.items if item.take is not None and item.name == piece.name), None)


def tell_readings(snapshot: Snapshot) -> Iterator[str]:
    """Yield what REAPER says of each item, where that is not what was made."""
    for number, piece in enumerate(PIECES):
        item = find_piece(snapshot, piece)
        if item is None or item.take is None or item.take.source is None:
            yield f"{piece.name}: it is not there"
            continue
        found, take = item.values, item.take
        expected = {"D_POSITION": span(number)[0], "D_LENGTH": LENGTH_S, **dict(piece.values)}
        wrong = [f"{name} is {found[name]!r}" for name, value in expected.items() if found[name] != value]
        expected = dict(piece.take_values) if piece.is_reversed else {
            "D_STARTOFFS": piece.offset_s, **dict(piece.take_values)
        }  # fmt: skip
        wrong += [
            f"{name} is {take.values[name]!r}"
            for name, value in expected.items()
            if take.values[name] != value
        ]
        wanted = "MP3" if piece.is_mp3 else "WAVE"
        if take.media.type != wanted:
            wrong.append(f"its type is {take.media.type}")
        section = take.media.section
        if piece.section is not None and section != (*piece.section, False):
            wrong.append(f"its section is {section}")
        if piece.is_reversed and (section is None or not section[2]):
            wrong.append(f"its section is {section}, not a reversed one")
        if not piece.is_reversed and piece.section is None and section is not None:
            wrong.append(f"it plays a section: {section}")
        if found["B_MUTE"] or found["B_MUTE_ACTUAL"]:
            wrong.append("it is muted")
        if wrong:
            yield f"{piece.name}: {', '.join(wrong)}"


def tell_lanes(snapshot: Snapshot) -> str:
    """Return what REAPER says of lanes on tracks that have none."""
    modes = sorted({track.values["I_FREEMODE"] for track in snapshot.tracks})
    plays = sorted({item.values["C_LANEPLAYS"] for item in snapshot.items})
    return f"I_FREEMODE {_list(modes)}, C_LANEPLAYS {_list(plays)}"


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def tell_changes(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Yield what differs between two states of the project; the selection does not count."""
    if len(before.tracks) != len(after.tracks):
        yield f"there were {len(before.tracks)} tracks, there are {len(after.tracks)}"
    for track in before.tracks:
        now = after.find_track(track.guid)
        if now is None:
            yield f"track {track.name}: it is gone"
        elif now != track:
            yield f"track {track.name}: {_tell_values(track.values, now.values) or 'name or tag'}"
    if len(before.items) != len(after.items):
        yield f"there were {len(before.items)} items, there are {len(after.items)}"
    for item in before.items:
        other = after.find_item(item.guid)
        if other is None or other.take is None or item.take is None:
            yield f"{item.name}: it is gone"
            continue
        values = _tell_values(item.values, other.values) or _tell_values(item.take.values, other.take.values)
        is_same = (item.track, item.tag, item.take.media) == (other.track, other.tag, other.take.media)
        if values or not is_same:
            yield f"{item.name}: {values or 'track, tag or source'}"


def _tell_values(before: dict[str, float], after: dict[str, float]) -> str:
    return ", ".join(
        f"{name} was {value:g}, is {after[name]:g}" for name, value in before.items() if after[name] != value
    )
