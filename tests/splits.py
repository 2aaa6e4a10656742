"""Whole splits in this process, for tests that begin or end with a result folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from signals import read_float_wav
from stembridge.manifest import Manifest, read_manifest
from stembridge.types import Progress, Region, SplitRequest, SplitResult
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import Separator

Signal = NDArray[np.float64]


def make_request(
    source: Path,
    out: Path,
    *,
    stems: tuple[str, ...] = (),
    two_stems: str | None = None,
    region: Region | None = None,
) -> SplitRequest:
    return SplitRequest(str(source), str(out), "fake", stems=stems, two_stems=two_stems, region=region)


def split_to_end(
    request: SplitRequest, separator: Separator, *, job_id: str = "job"
) -> tuple[SplitResult, list[Progress]]:
    """Return the result of a split and all that it told on the way."""
    running = run_split(job_id, request, separator)
    told: list[Progress] = []
    while True:
        try:
            told.append(next(running))
        except StopIteration as stop:
            result: SplitResult = stop.value
            return result, told


def read_set(folder: str | Path) -> tuple[Manifest, dict[str, Signal]]:
    """Return a result's manifest and the samples of its files by name, read with struct alone."""
    manifest = read_manifest(Path(folder))
    files = {}
    for entry in manifest.stems:
        files[entry.name], rate = read_float_wav(Path(folder) / entry.file)
        assert rate == manifest.source.sample_rate
        assert files[entry.name].shape == (manifest.source.channels, manifest.source.region.frames)
    return manifest, files
