"""A .dawproject as its reference says it sounds, played by the numpy model of `reaper_fake`."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from zipfile import ZipFile

import numpy as np
import soundfile
from numpy.typing import NDArray

from reaper_fake.media import Media, MediaShelf
from reaper_fake.model import FakeProject, Item, Source, Take, Track
from reaper_fake.playback import render_project

Signal = NDArray[np.float64]


class DawProject:
    """A file that was opened: its tracks, and what is heard of it.

    Parameters
    ----------
    xml : stands in place of the archive's project.xml
    """

    def __init__(self, path: Path, xml: str | None = None) -> None:
        with ZipFile(path) as archive:
            self._embedded = {name: archive.read(name) for name in archive.namelist()}
        self.root = ElementTree.fromstring(xml or self._embedded["project.xml"])
        self._tempo = float(self._find("Transport/Tempo").attrib["value"])
        self.shelf = MediaShelf()
        self.project = FakeProject()
        self._by_id: dict[str, Track] = {}
        structure = self._find("Structure")
        (self._master,) = (c for c in self.root.iter("Channel") if c.get("role") == "master")
        for element in structure:
            self._add_track(element, self._master)
        self._add_lanes(self._find("Arrangement/Lanes"), "beats", "")

    def track(self, name: str) -> Track:
        (found,) = [track for track in self.project.tracks if track.name == name]
        return found

    def play(self, frames: int | None = None) -> Signal:
        """Return what is heard from second 0 on at the rate of the files: (channels, frames)."""
        rate = self.project.render_rate
        return render_project(self.project, self.shelf.samples, rate, frames=frames)

    def play_alone(self, name: str) -> Signal:
        """Return what is heard if that track alone is not muted; silence lasts as long as all of it does."""
        frames = self.play().shape[1]
        before = [track.values["B_MUTE"] for track in self.project.tracks]
        for track in self.project.tracks:
            track.values["B_MUTE"] = float(track.name != name)
        heard = self.play(frames)
        for track, muted in zip(self.project.tracks, before, strict=True):
            track.values["B_MUTE"] = muted
        return heard

    def _find(self, way: str) -> Element:
        found = self.root.find(way)
        assert found is not None, way
        return found

    def _add_track(self, element: Element, parent: Element) -> None:
        (channel,) = element.findall("Channel")
        track = Track(guid=element.attrib["id"], name=element.get("name", ""))
        color = element.get("color", "#000000")
        track.values |= {
            "I_CUSTOMCOLOR": float(int(color[1:], 16)),
            "I_NCHAN": float(channel.get("audioChannels", "2")),
            "I_SOLO": float(channel.get("solo") == "true"),
            "B_MUTE": float(_value_of(channel, "Mute") == "true"),
            "D_VOL": float(_value_of(channel, "Volume")),
            "D_PAN": 2 * float(_value_of(channel, "Pan")) - 1,
        }
        if channel is self._master:
            assert (track.values["D_VOL"], track.values["D_PAN"], track.values["B_MUTE"]) == (1, 0, 0)
            return
        assert channel.get("destination") == parent.get("id")
        self._by_id[track.guid] = self.project.insert_track(len(self.project.tracks), track)
        children = element.findall("Track")
        for child in children:
            self._add_track(child, channel)
        if children:
            track.values["I_FOLDERDEPTH"] = 1.0
            self.project.tracks[-1].values["I_FOLDERDEPTH"] = -1.0

    def _add_lanes(self, element: Element, unit: str, track: str) -> None:
        unit, track = element.get("timeUnit", unit), element.get("track", track)
        for child in element:
            if child.tag == "Clip":
                self._by_id[track].add_item(self._read_clip(child, unit))
            else:
                assert child.tag in ("Lanes", "Clips"), child.tag
                self._add_lanes(child, unit, track)

    def _read_clip(self, clip: Element, unit: str) -> Item:
        inner = clip.get("contentTimeUnit", unit)
        assert "loopStart" not in clip.attrib
        (audio,) = clip
        assert audio.tag == "Audio" and audio.get("timeUnit", inner) == "seconds"
        start = self._seconds(clip, "playStart", inner)
        stop = self._seconds(clip, "playStop", inner, float(audio.attrib["duration"]))
        fade_unit = clip.get("fadeTimeUnit", unit)
        item = Item("{item}")
        item.values |= {
            "D_POSITION": self._seconds(clip, "time", unit),
            "D_LENGTH": self._seconds(clip, "duration", unit, stop - start),
            "D_FADEINLEN": self._seconds(clip, "fadeInTime", fade_unit),
            "D_FADEOUTLEN": self._seconds(clip, "fadeOutTime", fade_unit),
            "B_MUTE_ACTUAL": float(clip.get("enable") == "false"),
            "B_LOOPSRC": 0.0,
        }
        take = item.add_take(Take("{take}", name=clip.get("name", "")))
        take.values["D_STARTOFFS"] = start
        (file,) = audio
        take.set_source(self._open(file))
        return item

    def _open(self, file: Element) -> Source:
        name = file.attrib["path"]
        assert file.get("external", "false") == "false"
        samples, rate = soundfile.read(io.BytesIO(self._embedded[name]), dtype="float64", always_2d=True)
        self.project.values |= {"PROJECT_SRATE": float(rate), "PROJECT_SRATE_USE": 1.0}
        self.shelf.virtual[name] = Media(np.ascontiguousarray(samples.T), rate)
        source = self.shelf.source(name)
        assert source is not None
        return source

    def _seconds(self, element: Element, key: str, unit: str, default: float = 0.0) -> float:
        if key not in element.attrib:
            return default
        assert unit in ("seconds", "beats")
        return float(element.attrib[key]) * (1.0 if unit == "seconds" else 60.0 / self._tempo)


def _value_of(channel: Element, name: str) -> str:
    (parameter,) = channel.findall(name)
    return parameter.attrib["value"]
