"""What can be heard of a split before it is done: a segment's stems, as files in a hidden folder of the job.

They are what the model gave for that segment alone: not blended with its neighbours, and not closed to an
exact sum. They lie outside of every claim, and go with that folder when the set has been published.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io, disk
from stembridge.closing import COMPLEMENT, SetPlan
from stembridge.errors import ModelError
from stembridge.types import Early, EarlyStem, Region
from stembridge.wavfile import write_wav
from stembridge_daemon.worker.layout import Layout

Samples = NDArray[np.float32] | NDArray[np.float64]


class EarlyStems:
    """Gathers the early stems of all groups of channels, and writes them once they are all there.

    Parameters
    ----------
    listen_from : frame of the source that is to be heard; None means that nobody listens
    folder : where the files are to lie; made when there are any
    """

    def __init__(self, plan: SetPlan, layout: Layout, listen_from: int | None, folder: Path) -> None:
        self._plan = plan
        self._layout = layout
        self._folder = folder
        self._gathered: dict[int, tuple[int, Samples]] = {}
        self._is_told = False
        self.frame = None if listen_from is None else layout.locate(listen_from)
        """The frame that is to be heard, as the separator counts."""

    def add(self, item: int, start: int, stems: Samples) -> Early | None:
        """Take in the stems of one group of channels; return what can be heard once there are those of all.

        Parameters
        ----------
        item : number of the group
        start : their first frame, as the separator counts
        stems : (stems, channels of the group, frames), in the order of the set

        Raises
        ------
        ModelError : they are not of the segment that was asked for
        OutputError : they cannot be written
        """
        end = start + stems.shape[-1]
        others = [(first, each.shape[-1]) for first, each in self._gathered.values()]
        is_wanted = self.frame is not None and start <= self.frame < end and not self._is_told
        if not is_wanted or any(other != (start, end - start) for other in others):
            raise ModelError(
                f"{self._plan.model.name} returned early stems of frames {start} to {end}, "
                f"those around frame {self.frame} were due",
                "report this with the model's name",
            )
        self._gathered[item] = start, stems
        if len(self._gathered) < len(self._plan.info.groups):
            return None
        early = self._write(start)
        self._gathered.clear()
        self._is_told = True
        return early

    def _write(self, start: int) -> Early:
        plan = self._plan
        stems = self._resample(start)
        first, frames = self._layout.find_covered(start, self._gathered[0][1].shape[-1])
        place = Region(plan.region.start + first, frames)
        names = plan.stems
        if plan.policy == COMPLEMENT and plan.closing_name is not None:
            mixture = np.concatenate(list(audio_io.read_blocks(plan.info, place)), axis=1)
            stems = np.concatenate([stems, mixture[np.newaxis] - stems])
            names = (*names, plan.closing_name)
        written = []
        with disk.writing(plan.out):
            self._folder.mkdir()
            for number, (name, samples) in enumerate(zip(names, stems, strict=True), start=1):
                path = self._folder / f"early-{number:03d}.wav"
                unfinished = path.with_suffix(".part")
                write_wav(unfinished, samples, plan.info.sample_rate, channel_mask=plan.info.channel_mask)
                unfinished.rename(path)
                written.append(EarlyStem(name, str(path)))
        return Early(place.start, frames, plan.info.sample_rate, tuple(written))

    def _resample(self, start: int) -> NDArray[np.float64]:
        """Return (stems, channels, frames) at the source's own rate, the frames that the segment covers."""
        info = self._plan.info
        length = self._gathered[0][1].shape[-1]
        stems = np.empty((len(self._plan.stems), info.channels, length))
        for item, group in enumerate(info.groups):
            stems[:, list(group)] = self._gathered[item][1]
        flat = stems.reshape(-1, length)
        stream = self._layout.resample_stretch(len(flat), start, length)
        out = np.concatenate([stream.push(flat), stream.finish()], axis=1)
        return out.reshape(*stems.shape[:2], -1)
