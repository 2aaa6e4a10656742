"""Samples on the disk: read back as they were appended, zeros beyond, and never less than was written."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge.plane_file import PlaneFile


@given(
    st.integers(1, 4),
    st.lists(st.integers(0, 50), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(-60, 220), st.integers(0, 120)), min_size=1, max_size=6),
    st.integers(0, 2**32),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_stretch_is_what_was_appended_and_zeros_around_it(
    tmp_path_factory: pytest.TempPathFactory,
    planes: int,
    lengths: list[int],
    stretches: list[tuple[int, int]],
    seed: int,
    dtype: type[np.float32] | type[np.float64],
) -> None:
    draw = np.random.default_rng(seed)
    whole = np.zeros((planes, 0), np.float32)
    with PlaneFile(tmp_path_factory.mktemp("planes"), "x", planes) as file:
        for length in lengths:
            block = draw.standard_normal((planes, length)).astype(np.float32)
            # A view whose rows are no stretches of memory, as a resampler may hand it over.
            file.append(np.asfortranarray(block.astype(dtype)))
            whole = np.concatenate([whole, block], axis=1)
            assert file.frames == whole.shape[1]
            padded = np.pad(whole, ((0, 0), (60, 400)))
            for start, frames in stretches:
                wanted = padded[:, 60 + start : 60 + start + frames]
                assert np.array_equal(file.read(start, frames), wanted)
                rows = [int(row) for row in draw.permutation(planes)[: draw.integers(1, planes + 1)]]
                assert np.array_equal(file.read(start, frames, rows), wanted[rows])


def test_a_file_that_lost_its_end_is_not_read_as_silence(tmp_path: Path) -> None:
    with PlaneFile(tmp_path, "x", 2) as file:
        file.append(np.ones((2, 100), np.float32))
        for size in (200, 0):
            with (tmp_path / "x-1.f32").open("rb+") as raw:
                raw.truncate(size)
            assert file.read(0, 50, [0]).all()
            with pytest.raises(OSError, match=r"x-1.f32' is shorter than it was written"):
                file.read(0, 100)


def test_a_disk_that_takes_only_a_part_is_noticed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with PlaneFile(tmp_path, "x", 1) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                file.append(np.ones((1, 1_000), np.float32))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_there_is_kept_and_nothing_stays_open(tmp_path: Path) -> None:
    (tmp_path / "x-1.f32").write_bytes(b"mine")
    before = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())
    with pytest.raises(FileExistsError):
        PlaneFile(tmp_path, "x", 3)
    assert (tmp_path / "x-1.f32").read_bytes() == b"mine"
    with PlaneFile(tmp_path, "y", 3) as file:
        file.append(np.zeros((3, 1)))
    assert sorted(entry.name for entry in Path("/proc/self/fd").iterdir()) == before
    assert sorted(path.name for path in tmp_path.glob("y*")) == ["y-0.f32", "y-1.f32", "y-2.f32"]


def test_threads_that_share_a_file_read_what_they_ask_for_while_it_grows(tmp_path: Path) -> None:
    step, blocks = 512, 512
    whole = np.arange(2 * step * blocks, dtype=np.float32).reshape(2, -1)
    half = step * blocks // 2
    together = Barrier(3)
    with PlaneFile(tmp_path, "x", 2) as file, ThreadPoolExecutor(2) as pool:
        file.append(whole[:, :half])

        def find_wrong(starts: range) -> list[int]:
            together.wait(30)
            return [
                start
                for _ in range(40)
                for start in starts
                if not np.array_equal(file.read(start, step), whole[:, start : start + step])
            ]

        forward, backward = range(0, half, step), range(half - step, -1, -step)
        readers = [pool.submit(find_wrong, starts) for starts in (forward, backward)]
        together.wait(30)
        for start in range(half, whole.shape[1], step):
            file.append(whole[:, start : start + step])
        assert [reader.result() for reader in readers] == [[], []]
        assert np.array_equal(file.read(0, whole.shape[1]), whole)
