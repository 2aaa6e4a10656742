"""A session as REAPER's project file: text, blocks in angle brackets, one field per line.

The fields are those of ReaTeam/Doc, 'State Chunk Definitions', and of projects that REAPER has saved. What
could change a sample is written out, not left to anybody's defaults: the rate, the pan law, fades of no
length, no loop, unity gains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stembridge.errors import RequestError, SourceError
from stembridge.headers.kind import find_kind
from stembridge.looks import Color
from stembridge.sessions.arrangement import Arrangement, SessionTrack, seconds
from stembridge.sessions.replacing import replace_file

_CUSTOM_COLOR = 1 << 24
_QUOTES = "\"'`"
_NOT_IN_A_LINE = re.compile("[\0\n\r\ud800-\udfff]")


def write_rpp(arrangement: Arrangement, folder: Path, target: Path) -> None:
    """Write the session; a file of that name is replaced once the new one is whole.

    Parameters
    ----------
    folder : where the tracks' relative files lie

    Raises
    ------
    SourceError : a file of a track is missing
    RequestError : a name that a project file has no way to say
    OutputError : the file cannot be written
    """
    with replace_file(target) as hidden:
        text = "".join(f"{line}\n" for line in _project_lines(arrangement, folder))
        hidden.write_text(text, "utf-8", newline="\n")


def quote(text: str) -> str:
    """Return ``text`` in quotes that it does not hold; REAPER knows three of them, and no escapes.

    Raises
    ------
    RequestError : it holds all three, or what no line of text can hold
    """
    mark = next((mark for mark in _QUOTES if mark not in text), "")
    if not mark or _NOT_IN_A_LINE.search(text):
        raise RequestError(f"a REAPER project cannot name {text!r}", "rename it: letters, digits, spaces")
    return f"{mark}{text}{mark}"


def _project_lines(arrangement: Arrangement, folder: Path) -> Iterator[str]:
    rate = arrangement.sample_rate
    # REAPER's tracks have an even number of channels.
    channels = max(2, arrangement.channels + arrangement.channels % 2)
    yield '<REAPER_PROJECT 0.1 "6.0" 0'
    yield "  PANLAW 1"
    yield "  PANMODE 3"
    yield f"  SAMPLERATE {rate} 1 0"
    yield "  TIMELOCKMODE 0"
    yield "  TEMPO 120 4 4"
    yield "  PLAYRATE 1 0 0.25 4"
    yield f"  MASTER_NCH {channels} 2"
    yield "  MASTER_VOLUME 1 0 1 -1 1"
    if arrangement.original is not None:
        yield from _track_lines(arrangement.original, folder, rate, channels, "0 0")
    tracks = arrangement.tracks
    has_folder = len(tracks) > 1
    if has_folder:
        yield from _head_lines(arrangement.name, None, channels, "1 1", is_muted=False)
        yield "  >"
    for number, track in enumerate(tracks, 1):
        closes = has_folder and number == len(tracks)
        yield from _track_lines(track, folder, rate, channels, "2 -1" if closes else "0 0")
    yield ">"


def _head_lines(
    name: str, color: Color | None, channels: int, folder_state: str, *, is_muted: bool
) -> Iterator[str]:
    """Yield what a track begins with; the block is left open."""
    yield "  <TRACK"
    yield f"    NAME {quote(name)}"
    if color is not None:
        red, green, blue = color
        yield f"    PEAKCOL {_CUSTOM_COLOR | blue << 16 | green << 8 | red}"
    yield "    BEAT 0"
    yield "    VOLPAN 1 0 1 -1 1"
    yield f"    MUTESOLO {int(is_muted)} 0 0"
    yield "    IPHASE 0"
    yield f"    ISBUS {folder_state}"
    yield f"    NCHAN {channels}"
    yield "    MAINSEND 1 0"


def _track_lines(
    track: SessionTrack, folder: Path, rate: int, channels: int, folder_state: str
) -> Iterator[str]:
    yield from _head_lines(track.name, track.color, channels, folder_state, is_muted=track.is_muted)
    yield "    <ITEM"
    yield f"      POSITION {seconds(track.position_frames, rate)}"
    yield f"      LENGTH {seconds(track.frames, rate)}"
    yield "      LOOP 0"
    yield "      ALLTAKES 0"
    yield "      BEAT 0"
    yield "      FADEIN 0 0 0 0 0 0 0"
    yield "      FADEOUT 0 0 0 0 0 0 0"
    yield "      MUTE 0 0"
    yield f"      NAME {quote(track.file.stem)}"
    yield "      VOLPAN 1 0 1 1"
    yield f"      SOFFS {seconds(track.offset_frames, rate)}"
    yield "      PLAYRATE 1 1 0 -1 0 0.0025"
    yield "      CHANMODE 0"
    yield f"      <SOURCE {_name_decoder(folder / track.file)}"
    yield f"        FILE {quote(track.file.as_posix())}"
    yield "      >"
    yield "    >"
    yield "  >"


def _name_decoder(path: Path) -> str:
    """Return by which of REAPER's decoders a file is read; all that is no FLAC here goes by WAVE, AIFF too.

    Raises
    ------
    SourceError : there is no such file
    """
    try:
        kind = find_kind(str(path))
    except OSError as error:
        raise SourceError(
            f"{str(path)!r} cannot be read: {error.strerror or error}", "split the source again"
        ) from error
    return "FLAC" if kind is not None and kind.name == "FLAC" else "WAVE"
