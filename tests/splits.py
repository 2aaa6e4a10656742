"""Whole splits in this process, for tests that begin or end with a result folder."""

from __future__ import annotations

from itertools import permutations
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from signals import read_wav
from stembridge.manifest import Manifest, read_manifest
from stembridge.types import Progress, SplitRequest, SplitResult
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import Separator

Signal = NDArray[np.float64]


def make_request(source: Path, out: Path, **fields: Any) -> SplitRequest:
    return SplitRequest(str(source), str(out), "fake", **fields)


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
    """Return a result's manifest and the samples of its files by name, WAV read with struct alone."""
    manifest = read_manifest(Path(folder))
    files = {}
    for entry in manifest.stems:
        path = Path(folder) / entry.file
        if path.suffix == ".wav":
            files[entry.name], rate = read_wav(path)
        else:
            samples, rate = soundfile.read(path, always_2d=True, dtype="int32")
            files[entry.name] = samples.T / 2.0**31
        assert rate == manifest.source.sample_rate
        assert files[entry.name].shape == (manifest.source.channels, manifest.source.region.frames)
    return manifest, files


def assert_exact(files: dict[str, Signal], original: Signal, *, float32: bool) -> None:
    """Sum as real numbers, then in every order in 64 and, where claimed, in 32 bits."""
    values = list(files.values())
    step = max(1, original.shape[1] // 200)
    for index in np.ndindex(original[:, ::step].shape):
        assert fsum(value[:, ::step][index] for value in values) == original[:, ::step][index]
    narrow = [value.astype(np.float32) for value in values]
    for order in permutations(range(len(values))):
        assert np.array_equal(sum((values[i] for i in order[1:]), values[order[0]]), original)
        if float32:
            assert np.array_equal(
                sum((narrow[i] for i in order[1:]), narrow[order[0]]), original.astype(np.float32)
            )
