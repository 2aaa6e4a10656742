"""REAPER's project files, parsed by the rpp package and played by the numpy model of `reaper_fake`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import rpp
from numpy.typing import NDArray

from reaper_fake.media import MediaShelf
from reaper_fake.model import FakeProject, Item, Take, Track
from reaper_fake.playback import count_frames, render_project

Signal = NDArray[np.float64]

_BY_WAVE = {"AIFF", "CAF", "W64"}
"""What REAPER's WAVE decoder reads too."""


class Session:
    """A project file that was opened: its tracks, and what is heard of it."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        root = rpp.loads(path.read_text("utf-8") if text is None else text)
        assert root.tag == "REAPER_PROJECT"
        self.shelf = MediaShelf()
        self.files: dict[str, Path] = {}
        self._folder = path.parent
        self.project = FakeProject(name=path.name, folder=str(path.parent))
        for part in root:
            if isinstance(part, rpp.Element):
                self.project.insert_track(len(self.project.tracks), self._read_track(part))
            else:
                self._read_field(part[0], part[1:])

    @property
    def rate(self) -> int:
        return self.project.render_rate

    def track(self, name: str) -> Track:
        (found,) = [track for track in self.project.tracks if track.name == name]
        return found

    def play(self, frames: int | None = None) -> Signal:
        """Return what is heard from second 0 on: (channels, frames), in 64 bits."""
        return render_project(self.project, self.shelf.samples, self.rate, frames=frames)

    def play_alone(self, name: str) -> Signal:
        """Return what is heard if that track alone is not muted."""
        before = [dict(track.values) for track in self.project.tracks]
        for track in self.project.tracks:
            track.values["B_MUTE"] = float(track.name != name)
        heard = self.play(self.frames)
        for track, values in zip(self.project.tracks, before, strict=True):
            track.values = values
        return heard

    @property
    def frames(self) -> int:
        return max(
            count_frames(Fraction(item.position_s + item.length_s), self.rate) for item in self.project.items
        )

    def _read_field(self, name: str, values: list[str]) -> None:
        if name == "SAMPLERATE":
            self.project.values |= {"PROJECT_SRATE": float(values[0]), "PROJECT_SRATE_USE": float(values[1])}
        elif name == "PANLAW":
            self.project.pan_law = float(values[0])
        elif name in ("PLAYRATE", "MASTER_VOLUME"):
            assert float(values[0]) == 1.0 and float(values[1]) == 0.0
        else:
            assert name in ("PANMODE", "TIMELOCKMODE", "TEMPO", "MASTER_NCH"), name

    def _read_track(self, element: rpp.Element) -> Track:
        track = Track(guid=f"{{{len(self.project.tracks)}}}")
        for part in element:
            if isinstance(part, rpp.Element):
                track.add_item(self._read_item(part))
                continue
            name, values = part[0], part[1:]
            if name == "NAME":
                track.name = values[0]
                continue
            numbers = [float(value) for value in values]
            keys = {
                "PEAKCOL": ("I_CUSTOMCOLOR",),
                "BEAT": ("C_BEATATTACHMODE",),
                "VOLPAN": ("D_VOL", "D_PAN", "D_PANLAW"),
                "MUTESOLO": ("B_MUTE", "I_SOLO"),
                "IPHASE": ("B_PHASE",),
                "ISBUS": ("", "I_FOLDERDEPTH"),
                "NCHAN": ("I_NCHAN",),
                "MAINSEND": ("B_MAINSEND",),
            }[name]
            track.values |= {key: number for key, number in zip(keys, numbers, strict=False) if key}
        return track

    def _read_item(self, element: rpp.Element) -> Item:
        item = Item("{item}")
        take = item.add_take(Take("{take}"))
        for part in element:
            if isinstance(part, rpp.Element):
                self._read_source(part, take)
                continue
            name, values = part[0], part[1:]
            if name == "NAME":
                take.name = values[0]
                continue
            numbers = [float(value) for value in values]
            keys = {
                "POSITION": ("D_POSITION",),
                "LENGTH": ("D_LENGTH",),
                "LOOP": ("B_LOOPSRC",),
                "ALLTAKES": ("B_ALLTAKESPLAY",),
                "BEAT": ("C_BEATATTACHMODE",),
                "FADEIN": ("C_FADEINSHAPE", "D_FADEINLEN", "D_FADEINLEN_AUTO"),
                "FADEOUT": ("C_FADEOUTSHAPE", "D_FADEOUTLEN", "D_FADEOUTLEN_AUTO"),
                "MUTE": ("B_MUTE_ACTUAL",),
                "VOLPAN": ("D_VOL",),
                "SOFFS": (),
                "PLAYRATE": (),
                "CHANMODE": (),
            }[name]
            item.values |= dict(zip(keys, numbers, strict=False))
            take_keys = {
                "VOLPAN": ("", "D_PAN", "D_VOL", "D_PANLAW"),
                "SOFFS": ("D_STARTOFFS",),
                "PLAYRATE": ("D_PLAYRATE", "B_PPITCH", "D_PITCH"),
                "CHANMODE": ("I_CHANMODE",),
            }.get(name, ())
            take.values |= {key: number for key, number in zip(take_keys, numbers, strict=False) if key}
        return item

    def _read_source(self, element: rpp.Element, take: Take) -> None:
        ((name, file),) = list(element)
        assert (element.tag, name) == ("SOURCE", "FILE")
        path = self._folder / file
        source = self.shelf.source(str(path))
        assert source is not None, f"{file} is not there"
        kind = "WAVE" if source.kind in _BY_WAVE else source.kind
        assert element.attrib == [kind], f"{file} is no {element.attrib}"
        take.set_source(source)
        self.files[take.name] = path
