"""A session as a .dawproject: Bitwig Studio, Studio One, Cubase and others open it.

The format is version 1.0 of github.com/bitwig/dawproject: a ZIP of two XML files and audio.
Audio is embedded. The format can refer to files outside, relative to the .dawproject; Bitwig's own tests do
so, but nobody says that Studio One or Cubase follow. What is embedded is found, and moves along. Where a
part of the original is heard, that part is embedded: the recording around a short region may last for hours.

Two things that the format leaves open are chosen for the readers there are:

- Sizes and checksums stand in front of every file in the ZIP, never behind it: Cubase 14 reads no others
  (bitwig/dawproject issue 101). Nothing is compressed.
- The tempo is 60, so that a beat is a second: a reader that takes the one for the other, as some have
  (bitwig/dawproject issue 23, git-moss/ProjectConverter 1.2.8 and 1.2.13), still finds every place.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePath
from typing import IO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement
from zipfile import ZipFile, ZipInfo

from stembridge import __version__
from stembridge.audio_io import SourceInfo, probe, read_blocks
from stembridge.looks import Color
from stembridge.manifest import sanitise_name
from stembridge.sessions.arrangement import Arrangement, SessionTrack, seconds
from stembridge.sessions.replacing import replace_file
from stembridge.types import Region
from stembridge.wavfile import WavWriter

BEATS_PER_MINUTE = 60
"""A beat is a second."""

_AUDIO_FOLDER = "audio"
_CHUNK_BYTES = 1 << 20
_MAX_SUFFIX_BYTES = 16
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a ZIP knows: the same session gives the same bytes."""
_UNIX, _FILE_RIGHTS = 3, 0o100644 << 16
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to say (section 2.2)."""


def write_dawproject(arrangement: Arrangement, folder: Path, target: Path) -> None:
    """Write the session; a file of that name is replaced once the new one is whole.

    Parameters
    ----------
    folder : where the tracks' relative files lie

    Raises
    ------
    SourceError : a file of a track is missing, or no audio
    OutputError : the file cannot be written
    """
    with replace_file(target) as hidden:
        if arrangement.original is not None:
            original = _cut_out(arrangement.original, folder, hidden.parent)
            arrangement = replace(arrangement, original=original)
        places = _name_embedded(track.file for track in _all_tracks(arrangement))
        project = _encode(_build_project(arrangement, folder, places))
        metadata = _encode(_build_metadata(arrangement))
        with ZipFile(hidden, "x") as archive:
            for name, content in (("metadata.xml", metadata), ("project.xml", project)):
                with _open_entry(archive, name, len(content)) as entry:
                    entry.write(content)
            for file, place in places.items():
                with (folder / file).open("rb") as source:
                    size = source.seek(0, 2)
                    source.seek(0)
                    with _open_entry(archive, place, size) as entry:
                        shutil.copyfileobj(source, entry, _CHUNK_BYTES)


def _cut_out(track: SessionTrack, folder: Path, work: Path) -> SessionTrack:
    """Return the track with a file of no more than what is heard, in ``work`` where its own holds more."""
    info = probe(str(folder / track.file))
    if track.frames == info.frames:
        return track
    path = work / f"{sanitise_name(track.file.stem)}.wav"
    writer = WavWriter(
        path,
        sample_rate=info.sample_rate,
        channels=info.channels,
        frames=track.frames,
        subtype=_find_room(info),
        channel_mask=info.channel_mask,
    )
    with writer:
        for block in read_blocks(info, Region(track.offset_frames, track.frames)):
            writer.write(block)
    return replace(track, file=path, offset_frames=0, subtype=writer.subtype)


def _find_room(info: SourceInfo) -> str:
    """Return the narrowest subtype of a WAVE file that holds every sample of a source."""
    if info.grid_bits is None:
        return info.subtype
    return "PCM_16" if info.grid_bits <= 15 else "PCM_24" if info.grid_bits <= 23 else "DOUBLE"


def _all_tracks(arrangement: Arrangement) -> tuple[SessionTrack, ...]:
    """Return all that has a clip: the original, where there is one, and the tracks."""
    return (*filter(None, (arrangement.original,)), *arrangement.tracks)


def _name_embedded(files: Iterable[PurePath]) -> dict[PurePath, str]:
    """Return each file's place in the archive; no two differ by upper and lower case alone."""
    places: dict[PurePath, str] = {}
    taken: set[str] = set()
    for file in dict.fromkeys(files):
        name = sanitise_name(_as_text(file.stem))
        # A name of its own may not begin with a point; an ending does.
        suffix = sanitise_name(_as_text(file.suffix), _MAX_SUFFIX_BYTES).lstrip("_") if file.suffix else ""
        endings = (suffix if number == 1 else f" ({number}){suffix}" for number in count(1))
        free = next(name + ending for ending in endings if (name + ending).casefold() not in taken)
        taken.add(free.casefold())
        places[file] = f"{_AUDIO_FOLDER}/{free}"
    return places


def _build_project(arrangement: Arrangement, folder: Path, places: Mapping[PurePath, str]) -> Element:
    """Return ``project.xml``: the original, a group of the tracks if there are several, the master."""
    ids = (f"id{number}" for number in count())
    root = Element("Project", version="1.0")
    SubElement(root, "Application", name="Stembridge", version=__version__)
    transport = SubElement(root, "Transport")
    _add_parameter(transport, ids, "Tempo", "bpm", "20", "666", str(BEATS_PER_MINUTE))
    SubElement(transport, "TimeSignature", id=next(ids), denominator="4", numerator="4")

    # A mono channel would bring in the pan law of the DAW, so that no mixer channel is one.
    channels = str(max(2, arrangement.channels))
    structure = SubElement(root, "Structure")
    master, output = _make_track(ids, "Master", "audio notes", "master", channels)
    group, bus = structure, output
    if len(arrangement.tracks) > 1:
        group, bus = _make_track(ids, arrangement.name, "tracks", "submix", channels, destination=output)
    lanes = Element("Lanes", id=next(ids), timeUnit="seconds")
    for track in _all_tracks(arrangement):
        is_stem = track is not arrangement.original
        element, _ = _make_track(
            ids,
            track.name,
            "audio",
            "regular",
            channels,
            destination=bus if is_stem else output,
            color=track.color,
            is_muted=track.is_muted,
        )
        (group if is_stem else structure).append(element)
        lane = SubElement(lanes, "Lanes", id=next(ids), timeUnit="seconds", track=element.attrib["id"])
        clips = SubElement(lane, "Clips", id=next(ids), timeUnit="seconds")
        audio = _add_clip(clips, ids, track, arrangement.sample_rate, folder)
        SubElement(audio, "File", path=places[track.file])
    if group is not structure:
        structure.append(group)
    structure.append(master)

    timeline = SubElement(root, "Arrangement", id=next(ids))
    timeline.append(lanes)
    SubElement(root, "Scenes")
    return root


def _make_track(
    ids: Iterator[str],
    name: str,
    content: str,
    role: str,
    channels: str,
    *,
    destination: str = "",
    color: Color | None = None,
    is_muted: bool = False,
) -> tuple[Element, str]:
    """Return a track at unity gain in the middle, and the id of its mixer channel."""
    track = Element("Track", id=next(ids), name=_as_text(name), contentType=content, loaded="true")
    if color is not None:
        track.set("color", _as_hex(color))
    own = next(ids)
    channel = SubElement(track, "Channel", id=own, audioChannels=channels, role=role, solo="false")
    if destination:
        channel.set("destination", destination)
    SubElement(channel, "Mute", id=next(ids), name="Mute", value="true" if is_muted else "false")
    _add_parameter(channel, ids, "Pan", "normalized", "0", "1", "0.5")
    _add_parameter(channel, ids, "Volume", "linear", "0", "2", "1")
    return track, own


def _add_parameter(
    parent: Element, ids: Iterator[str], name: str, unit: str, least: str, most: str, value: str
) -> None:
    SubElement(parent, name, id=next(ids), name=name, unit=unit, min=least, max=most, value=value)


def _add_clip(
    clips: Element, ids: Iterator[str], track: SessionTrack, sample_rate: int, folder: Path
) -> Element:
    """Add a clip that plays its part of the file as it is: no warp, loop or fade; return its audio."""
    info = probe(str(folder / track.file))
    clip = SubElement(
        clips,
        "Clip",
        name=_as_text(track.name),
        color=_as_hex(track.color),
        time=seconds(track.position_frames, sample_rate),
        duration=seconds(track.frames, sample_rate),
        contentTimeUnit="seconds",
        playStart=seconds(track.offset_frames, sample_rate),
        playStop=seconds(track.offset_frames + track.frames, sample_rate),
        fadeTimeUnit="seconds",
        fadeInTime="0",
        fadeOutTime="0",
    )
    return SubElement(
        clip,
        "Audio",
        id=next(ids),
        timeUnit="seconds",
        algorithm="raw",
        channels=str(info.channels),
        sampleRate=str(info.sample_rate),
        duration=seconds(info.frames, info.sample_rate),
    )


def _build_metadata(arrangement: Arrangement) -> Element:
    root = Element("MetaData")
    SubElement(root, "Title").text = _as_text(arrangement.name)
    return root


def _encode(root: Element) -> bytes:
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def _open_entry(archive: ZipFile, name: str, size: int) -> IO[bytes]:
    """Return a new file in the archive, to be written uncompressed; by ``size`` it needs ZIP64 or not."""
    entry = ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = _FILE_RIGHTS
    entry.file_size = size
    return archive.open(entry, "w")


def _as_hex(color: Color) -> str:
    return "#" + bytes(color).hex()


def _as_text(text: str) -> str:
    """Return ``text`` with '_' for what XML has no way to say."""
    return _NOT_IN_XML.sub("_", text)
