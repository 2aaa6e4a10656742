"""Room on the disk, worked out before work starts, and renames brought to it. Standard library only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stembridge.errors import OutputError

MARGIN_BYTES = 16 << 20
"""Left free beside every result, so that no work takes the last byte of a disk."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes that a split or a remix needs: ``result_bytes`` stay, ``peak_bytes`` are taken while it runs."""

    result_bytes: int
    peak_bytes: int


def estimate_disk(
    *, frames: int, channels: int, stems: int, model_frames: int, double_residual: bool, width: int = 4
) -> DiskNeed:
    """Return what a split of one item needs.

    Parameters
    ----------
    frames, channels : the item at its own rate
    stems : stems beside the residual or complement
    model_frames : frames of the item and its context at the model's rate
    double_residual : the residual is a 64-bit file
    width : bytes per sample of the other files
    """
    samples = frames * channels
    result = samples * (width * stems + (8 if double_residual else width)) + (stems + 2) * 4096
    # While it runs: the mixture at the model's rate, and every stem once more in 32 bits before closure.
    return DiskNeed(result, result + 4 * samples * stems + 4 * model_frames * channels)


def check_free(folder: Path, need: DiskNeed, work: str = "split") -> None:
    """Refuse if the disk of ``folder``, which need not exist yet, has too little room.

    Parameters
    ----------
    work : what needs it, in a word

    Raises
    ------
    OutputError : not enough room; both figures are named
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < need.peak_bytes + MARGIN_BYTES:
        raise OutputError(
            f"{str(folder)!r} has {free / 1e6:.0f} MB free, the {work} needs {need.peak_bytes / 1e6:.0f} MB",
            "make room or choose another folder with --out",
        )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the system says about writing into an `OutputError` of one line that names ``folder``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write into {str(folder)!r}: {reason}",
            "check room and rights, or choose another with --out",
        ) from error


def sync_folder(folder: Path) -> None:
    """Bring a rename inside ``folder`` to the disk, on the systems and file systems that can."""
    if os.name != "posix":
        return
    with suppress(OSError):
        # Some network and FUSE mounts refuse to sync a folder; what was renamed is there all the same.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
