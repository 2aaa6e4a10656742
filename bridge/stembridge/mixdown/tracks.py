"""What is heard in a remix: the stems that a preset leaves, each with its chain and its fader."""

from __future__ import annotations

from dataclasses import dataclass

from stembridge.effects.chain import Chain
from stembridge.effects.kinds import drop_neutral
from stembridge.errors import PresetError
from stembridge.manifest import Manifest, StemEntry
from stembridge.plane_file import PlaneFile
from stembridge.presets import Preset, StemChange


@dataclass(frozen=True, slots=True)
class Track:
    """A stem that is heard: its file in the set, its chain, and the factor behind that."""

    entry: StemEntry
    chain: Chain
    gain: float


@dataclass(frozen=True, slots=True)
class Voice:
    """A signal of the remix as it lies on the disk before the common gain.

    Parameters
    ----------
    name : of its file
    entry : the set's file that it is made of; None of what only the remix has
    planes : its samples; None where they are those of the set's file
    frames : how many there are; silence follows
    gain : factor that is still to be applied
    """

    name: str
    entry: StemEntry | None
    planes: PlaneFile | None
    frames: int
    gain: float = 1.0

    @property
    def is_untouched(self) -> bool:
        """Whether this is the set's file, sample for sample."""
        return self.entry is not None and self.planes is None and self.gain == 1.0


def plan_tracks(document: Manifest, preset: Preset) -> tuple[Track, ...]:
    """Return the stems of a set that are heard, in the set's order.

    Raises
    ------
    PresetError : the preset is for other stems, or leaves none
    """
    names = tuple(entry.name for entry in document.stems)
    preset.check_stems(names)
    levels = preset.levels(names)
    tracks = tuple(
        Track(
            entry,
            drop_neutral(preset.stems.get(entry.name, StemChange()).chain),
            levels[entry.name].gain,
        )
        for entry in document.stems
        if not levels[entry.name].is_muted
    )
    if not tracks:
        raise PresetError(
            f"preset {preset.name!r} mutes all of {', '.join(names)}",
            "leave at least one of them to be heard",
        )
    return tracks
