"""An AAF as pyaaf2 reads it, and what is heard of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aaf2
import numpy as np
import soundfile
from aaf2.components import Filler, OperationGroup, Sequence
from aaf2.mobs import MasterMob, SourceMob
from numpy.typing import NDArray

Signal = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lane:
    """A mono track: its name, where it is panned (None: nowhere), the rate it is edited at, its samples."""

    name: str
    pan: float | None
    rate: int
    samples: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Aaf:
    """A file that was opened.

    Parameters
    ----------
    ruler : start, length and frames per second of the timecode
    subtypes : of the embedded files, by libsndfile's names
    ids : of everything that has one
    dates : at which all that was made and changed
    """

    name: str
    lanes: tuple[Lane, ...]
    ruler: tuple[int, int, int]
    subtypes: tuple[str, ...]
    ids: tuple[str, ...]
    dates: frozenset[datetime]

    def play(self, channels: int) -> Signal:
        """Return what is heard, (channels, frames); beyond stereo a name's number says which channel."""
        frames = max(lane.samples.size for lane in self.lanes)
        heard = np.zeros((channels, frames))
        for lane in self.lanes:
            if channels == 1:
                to = [0]
            elif channels == 2:
                to = [0, 1] if lane.pan is None else [int(lane.pan)]
            else:
                to = [int(lane.name.rpartition(".")[2]) - 1]
            heard[to, : lane.samples.size] += lane.samples
        return heard


def read_aaf(path: Path) -> Aaf:
    """Return an AAF as a program would that follows its references."""
    with aaf2.open(str(path), "r") as file:
        (composition,) = file.content.toplevel()
        slots = list(composition.slots)
        (clock,) = slots[0].segment.components
        assert slots[0].media_kind == "Timecode" and int(slots[0].edit_rate) == clock.fps
        sources = [mob for mob in file.content.mobs if isinstance(mob, SourceMob)]
        return Aaf(
            name=composition.name,
            lanes=tuple(_read_lanes(slots[1:])),
            ruler=(clock.start, clock.length, clock.fps),
            subtypes=tuple(_open_essence(mob)[2] for mob in sources),
            ids=tuple(str(mob.mob_id) for mob in file.content.mobs),
            dates=frozenset(_read_dates(file)),
        )


def _read_dates(file: Any) -> Iterator[datetime]:
    for mob in file.content.mobs:
        yield mob["CreationTime"].value
        yield mob["LastModified"].value
    yield file.header["LastModified"].value
    for identification in file.header["IdentificationList"]:
        yield identification["Date"].value


def _read_lanes(slots: list[Any]) -> Iterator[Lane]:
    for number, slot in enumerate(slots, 1):
        assert slot.media_kind == "Sound" and slot["PhysicalTrackNumber"].value == number
        line, pan = slot.segment, None
        if isinstance(line, OperationGroup):
            assert line.operation.name == "Audio Pan"
            (place,) = line.parameters
            pan = float(place.value)
            (line,) = line.segments
        assert isinstance(line, Sequence)
        parts = [_read_part(part, int(slot.edit_rate)) for part in line.components]
        samples = np.concatenate(parts)
        assert samples.size == line.length == slot.length
        yield Lane(slot.name, pan, int(slot.edit_rate), samples)


def _read_part(part: Any, rate: int) -> NDArray[np.float64]:
    if isinstance(part, Filler):
        assert part.length > 0
        return np.zeros(part.length)
    master = part.mob
    assert isinstance(master, MasterMob)
    (place,) = master.slots
    source = place.segment.mob
    assert isinstance(source, SourceMob) and source.name == master.name
    samples, found, _ = _open_essence(source)
    assert found == rate == int(place.edit_rate) == int(source.descriptor["SampleRate"].value)
    assert samples.size == source.descriptor.length == place.segment.length
    return samples[part.start : part.start + part.length]


def _open_essence(source: Any) -> tuple[NDArray[np.float64], int, str]:
    data = source.essence.open("r").read()
    head = bytes(source.descriptor["Summary"].value)
    assert data.startswith(head) and head[-8:-4] == b"data"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8 and len(data) % 2 == 0
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert (file.format, file.channels) == ("WAV", 1)
        return file.read(dtype="float64"), file.samplerate, file.subtype
