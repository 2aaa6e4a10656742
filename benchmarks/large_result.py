"""A result above 4 GiB: written as RF64, read back whole by our reader and by one that is not ours.

One stem and the residual of a stereo source at 192 kHz; each file is 4.4 GiB of 24-bit samples. The source is
as long, and is read as RF64 too.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

from report import write_report
from stembridge.manifest import read_manifest
from stembridge.null_test import check_result
from stembridge.types import SplitRequest
from stembridge.wavfile import WavWriter
from stembridge_daemon.worker.pipeline import run_split

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fakes import FakeSeparator

SEED = 5
RATE = 192_000
BLOCK = 1 << 20
RESULT = Path(__file__).parent / "results" / "large_result.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4.4)
    parser.add_argument("--folder", type=Path, help="where there is room: about six times as much")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stembridge-", dir=options.folder) as name:
        place = Path(name)
        frames = int(options.gib * 2**30 / 6)
        write_source(place / "x.wav", frames)
        request = SplitRequest(str(place / "x.wav"), str(place / "out"), "shares", stems=("vocals",))
        steps = run_split("job", request, FakeSeparator(step_frames=400_000))
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                folder = Path(stop.value.folder)
                break
        report = check_result(folder)
        assert report.holds, report.failures
        figures: dict[str, object] = {}
        for entry in read_manifest(folder).stems:
            magic, found, sha256 = read_data(folder / entry.file)
            assert magic == b"RF64" and found == frames * 6 and sha256 == entry.sha256
            size = (folder / entry.file).stat().st_size
            figures[f"{entry.name}: GiB written and read back"] = round(size / 2**30, 2)
    figures["frames per file"] = frames
    figures["64-bit sum, largest error"] = report.error_f64
    for label, value in figures.items():
        print(f"{value!s:>12}  {label}")
    write_report("large_result", sys.argv, SEED, figures, options.json)


def write_source(path: Path, frames: int) -> None:
    """Write noise on the 24-bit grid."""
    draw = np.random.default_rng(SEED)
    block = draw.integers(-(2**21), 2**21, (2, BLOCK)) / 2.0**23
    with WavWriter(path, sample_rate=RATE, channels=2, frames=frames, subtype="PCM_24") as writer:
        for start in range(0, frames, BLOCK):
            writer.write(np.roll(block, start // BLOCK)[:, : min(BLOCK, frames - start)])


def read_data(path: Path) -> tuple[bytes, int, str]:
    """Return a RIFF's magic, and length and sha256 of its audio data, found with nothing but struct."""
    with path.open("rb") as file:
        magic, _, _ = struct.unpack("<4sI4s", file.read(12))
        wide = 0
        while True:
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"ds64":
                wide = struct.unpack_from("<8xQ", file.read(length))[0]
            elif name == b"data":
                break
            else:
                file.seek(length + length % 2, 1)
        left = wide or length
        found, digest = 0, hashlib.sha256()
        while found < left and (data := file.read(min(1 << 20, left - found))):
            found += len(data)
            digest.update(data)
        return magic, found, digest.hexdigest()


if __name__ == "__main__":
    main()
