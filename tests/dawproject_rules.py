"""What a .dawproject has to be, in words of ours, after version 1.0 of github.com/bitwig/dawproject.

The tables hold what its schema asks of the elements that a session of plain audio clips is made of. What is
not in them counts as wrong. Behind the tables stand the rules that its reference gives in prose.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import soundfile

Check = Callable[[str], bool]


def _is_any(value: str) -> bool:
    return True


def _is_number(value: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", value) is not None


def _is_whole(value: str) -> bool:
    return re.fullmatch(r"-?\d{1,9}", value) is not None


def _is_name(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w.-]*", value) is not None


def _is_color(value: str) -> bool:
    return re.fullmatch(r"#[0-9a-fA-F]{6}", value) is not None


def _one_of(*words: str) -> Check:
    return lambda value: value in words


def _some_of(*words: str) -> Check:
    return lambda value: bool(value.split()) and set(value.split()) <= set(words)


_is_flag = _one_of("true", "false", "1", "0")
_is_unit = _one_of(
    "linear", "normalized", "percent", "decibel", "hertz", "semitones", "seconds", "beats", "bpm"
)
_is_time_unit = _one_of("beats", "seconds")
_is_content = _some_of("audio", "automation", "notes", "video", "markers", "tracks")
_is_role = _one_of("regular", "master", "effect", "submix", "vca")

_NAMED: dict[str, Check] = {"name": _is_any, "color": _is_color, "comment": _is_any}
_REFERRED = {**_NAMED, "id": _is_name}
_TIMELINE = {**_REFERRED, "timeUnit": _is_time_unit, "track": _is_name}
_CONTENT = ("Lanes", "Clips", "Audio")


@dataclass(frozen=True, slots=True)
class Rule:
    """What one element may hold.

    Parameters
    ----------
    attributes : what each value has to be
    needed : attributes that must stand there
    children : (names, fewest, most) in the order in which they must stand; most = 0 is any number
    """

    attributes: dict[str, Check]
    needed: tuple[str, ...] = ()
    children: tuple[tuple[tuple[str, ...], int, int], ...] = ()


_PARAMETER = {**_REFERRED, "parameterID": _is_whole}
_REAL = Rule(
    {**_PARAMETER, "max": _is_number, "min": _is_number, "unit": _is_unit, "value": _is_number}, ("unit",)
)

TEXTS = (
    "Title",
    "Artist",
    "Album",
    "OriginalArtist",
    "Composer",
    "Songwriter",
    "Producer",
    "Arranger",
    "Year",
    "Genre",
    "Copyright",
    "Website",
    "Comment",
)

RULES = {
    "Project": Rule(
        {"version": _one_of("1.0")},
        ("version",),
        (
            (("Application",), 1, 1),
            (("Transport",), 0, 1),
            (("Structure",), 0, 1),
            (("Arrangement",), 0, 1),
            (("Scenes",), 0, 1),
        ),
    ),
    "Application": Rule({"name": _is_any, "version": _is_any}, ("name", "version")),
    "Transport": Rule({}, (), ((("Tempo",), 0, 1), (("TimeSignature",), 0, 1))),
    "Tempo": _REAL,
    "TimeSignature": Rule(
        {**_PARAMETER, "numerator": _is_whole, "denominator": _is_whole}, ("numerator", "denominator")
    ),
    "Structure": Rule({}, (), ((("Track", "Channel"), 0, 0),)),
    "Track": Rule(
        {**_REFERRED, "contentType": _is_content, "loaded": _is_flag},
        (),
        ((("Channel",), 0, 1), (("Track",), 0, 0)),
    ),
    "Channel": Rule(
        {
            **_REFERRED,
            "audioChannels": _is_whole,
            "destination": _is_name,
            "role": _is_role,
            "solo": _is_flag,
        },
        (),
        ((("Mute",), 0, 1), (("Pan",), 0, 1), (("Volume",), 0, 1)),
    ),
    "Mute": Rule({**_PARAMETER, "value": _is_flag}),
    "Pan": _REAL,
    "Volume": _REAL,
    "Arrangement": Rule(_REFERRED, (), ((("Lanes",), 0, 1),)),
    "Lanes": Rule(_TIMELINE, (), ((_CONTENT, 0, 0),)),
    "Clips": Rule(_TIMELINE, (), ((("Clip",), 0, 0),)),
    "Clip": Rule(
        {
            **_NAMED,
            **dict.fromkeys(
                ("time", "duration", "playStart", "playStop", "loopStart", "loopEnd"), _is_number
            ),
            **dict.fromkeys(("contentTimeUnit", "fadeTimeUnit"), _is_time_unit),
            **dict.fromkeys(("fadeInTime", "fadeOutTime"), _is_number),
            "enable": _is_flag,
            "reference": _is_name,
        },
        ("time",),
        ((_CONTENT, 0, 1),),
    ),
    "Audio": Rule(
        {
            **_TIMELINE,
            "algorithm": _is_any,
            "channels": _is_whole,
            "duration": _is_number,
            "sampleRate": _is_whole,
        },
        ("channels", "duration", "sampleRate"),
        ((("File",), 1, 1),),
    ),
    "File": Rule({"path": _is_any}, ("path",)),
    "Scenes": Rule({}),
    "MetaData": Rule({}, (), tuple(((name,), 0, 1) for name in TEXTS)),
}


def find_faults(path: Path) -> list[str]:
    """Return all that is wrong with a .dawproject, one line each."""
    with ZipFile(path) as archive:
        faults = list(_check_container(path, archive))
        if faults:
            return faults
        metadata = ElementTree.fromstring(archive.read("metadata.xml"))
        project = ElementTree.fromstring(archive.read("project.xml"))
        faults = [*_check_root(metadata, "MetaData"), *_check_root(project, "Project")]
        return faults or [*_check_references(project), *_check_audio(project, archive)]


def _check_container(path: Path, archive: ZipFile) -> Iterator[str]:
    names = archive.namelist()
    for needed in ("project.xml", "metadata.xml"):
        if names.count(needed) != 1:
            yield f"the archive holds {needed} {names.count(needed)} times"
    if len({name.casefold() for name in names}) != len(names):
        yield "two files of the archive have the same name"
    with path.open("rb") as file:
        for entry in archive.infolist():
            yield from _check_entry(file, entry)
    if broken := archive.testzip():
        yield f"the checksum of {broken} is wrong"


def _check_entry(file: IO[bytes], entry: ZipInfo) -> Iterator[str]:
    place = PurePosixPath(entry.filename)
    if place.is_absolute() or ".." in place.parts or "\\" in entry.filename:
        yield f"{entry.filename} leads out of the archive"
    if entry.compress_type != ZIP_STORED:
        yield f"{entry.filename} is compressed"
    file.seek(entry.header_offset)
    _, _, flags, _, _, checksum = struct.unpack("<4sHHHIi", file.read(18))
    if flags & 8 or checksum % 2**32 != entry.CRC:
        yield f"the header in front of {entry.filename} lacks its checksum"


def _check_root(root: Element, name: str) -> Iterator[str]:
    if root.tag != name:
        yield f"the root is {root.tag}, not {name}"
    for element in root.iter():
        if element.tag in TEXTS and name == "MetaData":
            continue
        rule = RULES.get(element.tag)
        if rule is None:
            yield f"{element.tag} is unknown"
            continue
        for key, value in element.attrib.items():
            if key not in rule.attributes:
                yield f"{element.tag} has no {key}"
            elif not rule.attributes[key](value):
                yield f"{element.tag} {key} is {value!r}"
        yield from (f"{element.tag} lacks {key}" for key in rule.needed if key not in element.attrib)
        yield from _check_children(element, rule)


def _check_children(element: Element, rule: Rule) -> Iterator[str]:
    left = [child.tag for child in element]
    for names, fewest, most in rule.children:
        found = 0
        while left and left[0] in names and (most == 0 or found < most):
            left.pop(0)
            found += 1
        if found < fewest:
            yield f"{element.tag} lacks {' or '.join(names)}"
    if left:
        yield f"{left[0]} stands in {element.tag} where it must not"


def _check_references(project: Element) -> Iterator[str]:
    by_id: dict[str, Element] = {}
    for element in project.iter():
        own = element.get("id")
        if own in by_id:
            yield f"the id {own} is given twice"
        if own:
            by_id[own] = element
    for element in project.iter():
        for key, wanted in (("track", "Track"), ("destination", "Channel")):
            name = element.get(key)
            if name and (name not in by_id or by_id[name].tag != wanted):
                yield f"{key} {name} is no {wanted}"
    for channel in project.iter("Channel"):
        seen: list[Element] = []
        at: Element | None = channel
        while at is not None and at not in seen:
            seen.append(at)
            at = by_id.get(at.get("destination", ""))
        if seen[-1].get("role") != "master":
            yield f"the channel {channel.get('id')} ends nowhere"


def _check_audio(project: Element, archive: ZipFile) -> Iterator[str]:
    for clip in project.iter("Clip"):
        if len(clip) + ("reference" in clip.attrib) != 1:
            yield "a clip needs either content or a reference"
    for audio in project.iter("Audio"):
        if audio.get("timeUnit") != "seconds":
            yield "audio counts in seconds"
        file = next(iter(audio))
        place = file.attrib["path"]
        if place not in archive.namelist():
            yield f"{place} is not in the archive"
            continue
        info = soundfile.info(io.BytesIO(archive.read(place)))
        said = (int(audio.attrib["channels"]), int(audio.attrib["sampleRate"]))
        if said != (info.channels, info.samplerate):
            yield f"{place} has other channels or another rate"
        if round(float(audio.attrib["duration"]) * info.samplerate) != info.frames:
            yield f"{place} has another length"
