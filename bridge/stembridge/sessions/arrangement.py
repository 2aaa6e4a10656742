"""Where everything of a result folder stands in a session, in frames; writers turn that into a DAW's words.

Every track holds one clip that plays its file as it is: at unity gain, without fades, unwarped. The stems
then sum to the original at its own samples, and the original beside them is muted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePath

from stembridge.audio_io import PcmHash, SourceInfo, probe, read_blocks
from stembridge.errors import SourceError
from stembridge.looks import GREY, Color, Look, Looks
from stembridge.manifest import Manifest, SourceEntry, StemEntry, source_name
from stembridge.types import Region

_CONTROL = re.compile("[\x00-\x1f\x7f]")

ORIGINAL = "Original"
"""Name of the track of what was split."""


@dataclass(frozen=True, slots=True)
class SessionTrack:
    """One track with one clip.

    Parameters
    ----------
    color : red, green, blue
    file : relative to the folder of the session, or absolute where the two have no folder in common
    position_frames : where in the session the clip begins
    offset_frames : where in the file the clip begins
    frames : length of the clip
    channels, subtype : of the file, the latter by libsndfile's names
    is_muted : the whole track is
    """

    name: str
    color: Color
    file: PurePath
    position_frames: int
    offset_frames: int
    frames: int
    channels: int
    subtype: str
    is_muted: bool = False

    @property
    def end_frames(self) -> int:
        """The first frame of the session behind the clip."""
        return self.position_frames + self.frames


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A session: stems in a folder of that name, and beside it, muted, what they sum to.

    Parameters
    ----------
    sample_rate : Hz, of the session and of every file in it
    channels : of every file in it
    frames : where the session ends
    tracks : in the order of the result, the closing file last
    original : the original, as decoded where it is lossy; the remix where ``tracks`` are its stems; None
        where there is nothing to compare with
    remarks : what a user should know of it, one line each
    """

    name: str
    sample_rate: int
    channels: int
    frames: int
    tracks: tuple[SessionTrack, ...]
    original: SessionTrack | None
    remarks: tuple[str, ...] = ()


def seconds(frames: int, sample_rate: int) -> str:
    """Return ``frames`` in seconds, with all digits of the nearest double: a DAW finds the same frame."""
    return format(Decimal(repr(frames / sample_rate)), "f")


def arrange(
    folder: Path,
    document: Manifest,
    *,
    name: str = "",
    home: Path | None = None,
    was_just_read: bool = False,
) -> Arrangement:
    """Return the session of the result folder that ``document`` describes.

    Clips stand where the region stood in its source, so that the session's time is the source's.

    Parameters
    ----------
    folder : where the files of the set lie
    name : of the session; '' means the source's, and behind it a remix's preset
    home : folder that the session will lie in; None means ``folder``
    was_just_read : the source was, for this very set: its samples need not be compared with what the set
        says of them

    Raises
    ------
    SourceError : a file of the set is missing, or is another one by now
    """
    source, remix = document.source, document.remix
    home = folder if home is None else home
    start = source.region.start if remix is None else remix.of_start

    def place(entry: StemEntry, look: Look, *, is_muted: bool = False) -> SessionTrack:
        path = folder / entry.file
        if not path.is_file():
            raise SourceError(f"{str(path)!r} is missing", "split the source again")
        found = _describe(probe(str(path)))
        if found != (source.sample_rate, source.channels, source.region.frames, entry.subtype):
            raise SourceError(f"{str(path)!r} is not what was written", "split the source again")
        return SessionTrack(
            name=look.name,
            color=look.color,
            file=_find_way(home, path),
            position_frames=start,
            offset_frames=0,
            frames=source.region.frames,
            channels=source.channels,
            subtype=entry.subtype,
            is_muted=is_muted,
        )

    level_db = document.residual.level_db
    tracks = tuple(place(entry, Looks().of(entry.name, level_db)) for entry in document.stems)
    original: SessionTrack | None = None
    remarks: tuple[str, ...] = ()
    if document.mixture is not None:
        look = Look(ORIGINAL, GREY) if remix is None else Looks().of(document.mixture.name)
        original = place(document.mixture, look, is_muted=True)
    elif remix is None:
        try:
            original = _place_source(source, home, was_just_read=was_just_read)
        except SourceError as error:
            remarks = (f"sessions hold no original: {error.message}",)
    return Arrangement(
        name=name or _name_song(document),
        sample_rate=source.sample_rate,
        channels=source.channels,
        frames=start + source.region.frames,
        tracks=tracks,
        original=original,
        remarks=remarks,
    )


def _name_song(document: Manifest) -> str:
    song = source_name(document.source.path)
    return song if document.remix is None else f"{song} - {document.remix.preset}"


def _place_source(source: SourceEntry, home: Path, *, was_just_read: bool) -> SessionTrack:
    """Return the muted track that plays the region out of the source itself.

    Raises
    ------
    SourceError : it cannot be read, is another file by now, has a name that no session can hold, or
        channels in another order than its stems
    """
    info = probe(source.path)
    if _describe(info) != (source.sample_rate, source.channels, source.frames, source.subtype):
        raise SourceError(f"{source.path!r} is not the original any more")
    if _CONTROL.search(source.path):
        raise SourceError(f"no session can name {source.path!r}: it holds control characters")
    if info.channel_order:
        raise SourceError(f"the channels of {source.path!r} lie in another order than those of its stems")
    region = Region(source.region.start, source.region.frames)
    if not was_just_read and _hash_samples(info, region) != source.sha256_pcm:
        raise SourceError(f"{source.path!r} is not the original any more")
    return SessionTrack(
        name=ORIGINAL,
        color=GREY,
        file=_find_way(home, Path(source.path)),
        position_frames=region.start,
        offset_frames=region.start,
        frames=region.frames,
        channels=info.channels,
        subtype=info.subtype,
        is_muted=True,
    )


def _describe(info: SourceInfo) -> tuple[int, int, int, str]:
    return info.sample_rate, info.channels, info.frames, info.subtype


def _hash_samples(info: SourceInfo, region: Region) -> str:
    """Return what `stembridge.manifest.SourceEntry.sha256_pcm` would be."""
    digest = PcmHash()
    for block in read_blocks(info, region):
        digest.update(block)
    return digest.hexdigest()


def _find_way(home: Path, file: Path) -> PurePath:
    """Return how a session in ``home`` finds ``file``, so that both can be moved together.

    Absolute where they have no more than a volume's root in common: then nobody moves both.
    """
    # A link that names the file keeps its name; '..' behind a linked folder would lead elsewhere.
    there = Path(os.path.realpath(file.parent)) / file.name
    here = Path(os.path.realpath(home))
    try:
        shared = os.path.commonpath([here, there])
    except ValueError:
        return there
    return there if shared == here.anchor else PurePath(os.path.relpath(there, here))
