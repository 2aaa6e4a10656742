"""A session as an AAF, for Pro Tools, Logic Pro and Media Composer; needs pyaaf2, the extra 'aaf'.

What other programs read of an AAF differs. This one keeps to what Pro Tools writes itself, as far as public
readers (agfline/LibAAF, pyaaf2) tell: mono clips, whole WAVE files embedded with their head as the summary,
one composition whose edit rate is the sample rate, a timecode track from 0.

- A channel is a track. Of two, the first is panned hard left and the second hard right; there every usual pan
  law is unity.
- AAF knows no mute that all programs keep. What is muted, so the original too, is therefore left out: heard
  beside its stems it would double them.
- Nor is there a colour that they keep, or a folder of tracks.
- Ids come from the samples, the date is a fixed one: the same session gives the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import numpy as np
from aaf2.auid import AUID
from aaf2.file import AAFFile
from aaf2.mobid import MobID
from aaf2.rational import AAFRational

from stembridge import __version__
from stembridge.audio_io import SourceInfo, check_region, probe, read_int_blocks
from stembridge.errors import RequestError
from stembridge.sessions.arrangement import Arrangement, SessionTrack
from stembridge.sessions.replacing import replace_file
from stembridge.stem_file import hash_file
from stembridge.types import Region
from stembridge.wavfile import WIDTH_OF_SUBTYPE, encode_header, pack_samples

TIMECODE_RATE = 25
"""Frames per second of the ruler; clips are placed in samples."""

_GRID_BITS = {"PCM_16": 15, "PCM_24": 23}
"""Samples are multiples of 2^-bits, by libsndfile's names of what can be embedded."""
_REMEDY = (
    "split with --format wav24; if that was asked for: export 24-bit from the DAW, not 32-bit float, and "
    "quieter if a stem is beyond full scale"
)
"""Why a set came out in float although 24 bits were asked for, a session cannot tell."""
_MAX_BYTES = 2**32 - 2**16
"""Of one embedded WAVE file, whose sizes have 32 bits."""
_EPOCH = datetime(2000, 1, 1)
_OURS = UUID("7f0c3c1e-5d0b-5a43-9d3f-3b1c0a8f6e21")
"""Namespace of all ids."""
_PAN = AUID("9d2ea893-0968-11d3-8a38-0050040ef7d2")
"""The operation 'mono audio pan' of the AAF Object Specification 1.1."""
_PAN_POSITION = AUID("e4962322-2267-11d3-8a4c-0050040ef7d2")
"""Its parameter: 0 is left, 1 is right."""
_NOT_IN_A_NAME = re.compile("[\0-\x1f\x7f\ud800-\udfff]")


class _Lane(NamedTuple):
    """One channel of a track's file: a mono track of the session.

    ``key`` is the samples' own, ``pan`` None for the middle.
    """

    name: str
    key: str
    channel: int
    pan: int | None


class _NewFile(AAFFile):  # type: ignore[misc]
    """An AAF to be written. pyaaf2 alone leaves it open where the disk does not take it."""

    def __init__(self, path: Path) -> None:
        try:
            # Without Avid's own classes: nothing here uses them, and other readers stumble over them.
            super().__init__(str(path), "w", extensions=False)
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        # What a full disk has not taken is written again here, in vain; the first error is the one to tell.
        with suppress(AttributeError, OSError):
            self.f.close()


def write_aaf(arrangement: Arrangement, folder: Path, target: Path) -> None:
    """Write the session with its audio; a file of that name is replaced once the new one is whole.

    Parameters
    ----------
    folder : where the tracks' relative files lie

    Raises
    ------
    RequestError : a file holds other samples than whole numbers of 16 or 24 bits, or too many
    SourceError : a file is missing, or no audio
    OutputError : the file cannot be written
    """
    tracks = [track for track in arrangement.tracks if not track.is_muted]
    with replace_file(target) as hidden:
        infos = [_check_file(folder, track) for track in tracks]
        with _NewFile(hidden) as file:
            composition = _add_composition(file, arrangement)
            pan = _define_pan(file)
            for number, (track, info) in enumerate(zip(tracks, infos, strict=True)):
                for lane in _split_channels(track, f"{_hash_path(Path(info.path))}/{number}"):
                    master = _add_material(file, lane, info, Region(track.offset_frames, track.frames))
                    _add_lane(file, composition, lane, master, track, pan)
            _sign(file, composition, arrangement)


def _check_file(folder: Path, track: SessionTrack) -> SourceInfo:
    """Return what the file of a track says of itself, if AAF holds such samples."""
    info = probe(str(folder / track.file))
    if info.subtype not in _GRID_BITS:
        raise RequestError(
            f"AAF holds whole numbers of 16 or 24 bits, and {track.file.name!r} is {info.subtype}",
            _REMEDY,
        )
    check_region(info, Region(track.offset_frames, track.frames))
    if track.frames * WIDTH_OF_SUBTYPE[info.subtype] > _MAX_BYTES:
        raise RequestError(
            f"{track.file.name!r} has {track.frames} frames, more than AAF holds", "split a region of it"
        )
    return info


def _split_channels(track: SessionTrack, key: str) -> Iterator[_Lane]:
    """Yield the channels of a track, the sides of a pair named as Pro Tools names them."""
    name = _as_name(track.name)
    if track.channels == 1:
        yield _Lane(name, key, 0, None)
    elif track.channels == 2:
        for channel, side in enumerate("LR"):
            yield _Lane(f"{name}.{side}", key, channel, pan=channel)
    else:
        for channel in range(track.channels):
            yield _Lane(f"{name}.{channel + 1}", key, channel, None)


def _add_composition(file: Any, arrangement: Arrangement) -> Any:
    """Return the composition of the session, with a ruler from 0 on."""
    composition = file.create.CompositionMob(_as_name(arrangement.name))
    composition.usage = "Usage_TopLevel"
    file.content.mobs.append(composition)
    ruler = composition.create_empty_sequence_slot(TIMECODE_RATE, media_kind="Timecode")
    ruler.name = "TC1"
    length = -(-arrangement.frames * TIMECODE_RATE // arrangement.sample_rate)
    ruler.segment.components.append(file.create.Timecode(TIMECODE_RATE, length=length))
    ruler.segment.length = length
    return composition


def _define_pan(file: Any) -> Any:
    """Return the operation that places a mono track between left and right."""
    position = file.create.ParameterDef(
        _PAN_POSITION, "Pan", "0 is left, 1 is right", file.dictionary.lookup_typedef("Rational")
    )
    file.dictionary.register_def(position)
    pan = file.create.OperationDef(_PAN, "Audio Pan", "")
    pan.media_kind = "sound"
    pan["NumberInputs"].value = 1
    pan["IsTimeWarp"].value = False
    pan["Bypass"].value = 0
    pan["OperationCategory"].value = "OperationCategory_Effect"
    file.dictionary.register_def(pan)
    pan.parameters.append(position)
    return pan


def _add_material(file: Any, lane: _Lane, info: SourceInfo, region: Region) -> Any:
    """Embed one channel as a mono WAVE file; return the master that stands for it."""
    rate, frames = info.sample_rate, region.frames
    head = encode_header(rate, 1, frames, info.subtype)
    source = file.create.SourceMob(lane.name)
    source.mob_id = _make_id(f"source/{lane.key}/{lane.channel}")
    file.content.mobs.append(source)
    essence, slot = source.create_essence(rate, "sound")
    slot.segment.length = frames
    descriptor = file.create.WAVEDescriptor()
    descriptor["SampleRate"].value = rate
    descriptor["Length"].value = frames
    descriptor["Summary"].value = bytearray(head)
    descriptor["ContainerFormat"].value = file.dictionary.lookup_containerdef("AAF")
    source.descriptor = descriptor
    stream = essence.open("w")
    stream.write(head)
    for data in _read_channel(info, region, lane.channel):
        stream.write(data)
    stream.write(bytes(frames * WIDTH_OF_SUBTYPE[info.subtype] % 2))

    master = file.create.MasterMob(lane.name)
    master.mob_id = _make_id(f"master/{lane.key}/{lane.channel}")
    file.content.mobs.append(master)
    place = master.create_timeline_slot(rate)
    place["PhysicalTrackNumber"].value = 1
    place.segment = source.create_source_clip(slot.slot_id, 0, frames, "sound")
    return master


def _read_channel(info: SourceInfo, region: Region, channel: int) -> Iterator[bytes]:
    """Yield the samples of one channel as WAVE stores them."""
    bits = _GRID_BITS[info.subtype]
    for block in read_int_blocks(info, region, bits):
        words = (block[channel] << (31 - bits)).astype(np.int32)
        yield bytes(pack_samples(words, info.subtype))


def _add_lane(file: Any, composition: Any, lane: _Lane, master: Any, track: SessionTrack, pan: Any) -> None:
    """Add a track of the session: silence up to the clip, and the clip."""
    place = master.slots[0]
    slot = composition.create_sound_slot(place.edit_rate)
    slot.name = lane.name
    slot["PhysicalTrackNumber"].value = len(composition.slots) - 1
    line = slot.segment
    if track.position_frames:
        line.components.append(file.create.Filler("sound", track.position_frames))
    line.components.append(master.create_source_clip(place.slot_id, 0, track.frames, "sound"))
    line.length = track.end_frames
    if lane.pan is not None:
        group = file.create.OperationGroup(pan, length=line.length, media_kind="sound")
        group.parameters.append(file.create.ConstantValue(_PAN_POSITION, AAFRational(lane.pan, 1)))
        slot.segment = group
        group.segments.append(line)


def _sign(file: Any, composition: Any, arrangement: Arrangement) -> None:
    """Replace what pyaaf2 draws by chance or takes from the clock, and say who has written the file."""
    names = (arrangement.name, *(f"{track.name}/{track.position_frames}" for track in arrangement.tracks))
    ids = sorted(str(mob.mob_id) for mob in file.content.mobs if mob is not composition)
    key = hashlib.sha256("\0".join(map(_as_name, (*names, *ids))).encode()).hexdigest()
    composition.mob_id = _make_id(f"composition/{key}")
    for mob in file.content.mobs:
        mob["CreationTime"].value = mob["LastModified"].value = _EPOCH
    file.header["LastModified"].value = _EPOCH
    for identification in file.header["IdentificationList"]:
        identification["CompanyName"].value = identification["ProductName"].value = "Stembridge"
        identification["ProductID"].value = AUID(str(_OURS))
        identification["ProductVersionString"].value = __version__
        identification["Date"].value = _EPOCH
        identification["GenerationAUID"].value = uuid5(_OURS, f"generation/{key}")


def _make_id(key: str) -> Any:
    """Return the id of a mob, always the same for the same key."""
    mob_id = MobID.new()
    mob_id.material = uuid5(_OURS, key)
    return mob_id


def _hash_path(path: Path) -> str:
    with path.open("rb") as file:
        return hash_file(file)


def _as_name(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text)
