"""A published set of stems as the planner needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stembridge import manifest
from stembridge.reaper.regions import REACH_S
from stembridge.types import Region


@dataclass(frozen=True, slots=True)
class StemFile:
    """One file of a set: the stem's name and an absolute path."""

    stem: str
    path: str


@dataclass(frozen=True, slots=True)
class StemSet:
    """What can be placed.

    Parameters
    ----------
    files : in the order of the result, the residual last
    frames, rate : of the whole source, at its own rate
    region : the part of it that the files hold
    residual_db : level of the residual re mixture; None where there is none, or no mixture to compare with
    """

    folder: str
    job: str
    model: str
    source_sha256: str
    files: tuple[StemFile, ...]
    frames: int
    rate: int
    region: Region
    residual_db: float | None

    @property
    def before_s(self) -> float:
        """Seconds of the source before the files begin: whole ones, or the set is of all of the source."""
        return self.region.start / self.rate

    @property
    def behind_s(self) -> float:
        """Seconds of the source after the files' end."""
        return (self.frames - self.region.start - self.region.frames) / self.rate

    @property
    def is_whole(self) -> bool:
        return self.region.frames == self.frames

    def covers(self, first_s: float, last_s: float) -> bool:
        """Tell whether the files hold what it takes to play the source from ``first_s`` to ``last_s``."""
        reach = REACH_S - 1e-9
        starts = self.region.start == 0 or first_s - reach >= self.before_s
        return starts and (self.behind_s == 0 or last_s + reach <= self.frames / self.rate - self.behind_s)


def read_stem_set(folder: str) -> StemSet:
    """Return the set in a result folder.

    Raises
    ------
    SourceError
        There is no result in that folder, or one that cannot be.
    """
    document = manifest.read_manifest(Path(folder))
    source = document.source
    return StemSet(
        folder=folder,
        job=document.job,
        model=document.model.name,
        source_sha256=source.sha256_pcm,
        files=tuple(StemFile(entry.name, str(Path(folder) / entry.file)) for entry in document.stems),
        frames=source.frames,
        rate=source.sample_rate,
        region=Region(source.region.start, source.region.frames),
        residual_db=document.residual.level_db,
    )
