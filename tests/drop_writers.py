"""Files dropped as programs drop them: writers of many styles, whose samples are known before the first byte.

The styles are those of programs that a watched folder must not read too early: slow, opened again to append,
header patched last, renamed in place, moved in, preallocated, times set back, stalled while open, mapped. A
pause stands for a program that is busy. No style pauses for longer than a watcher must bear without knowing
who has a file open: short where nothing in the file tells that more will come, long where its header does.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import mmap
import os
import queue
import random
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

SAMPLE_RATE = 44_100
SHORT_PAUSE_S = 0.4
LONG_PAUSE_S = 3.2
_WAV_HEADER_BYTES = 44
_LONG_AGO_NS = 1_000_000_000 * 10**9

Pause = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Drop:
    """One file to come.

    Parameters
    ----------
    name : its path in the watched folder, with '/'
    style : a key of `STYLES`
    content : every byte of it
    sha256_pcm : of its samples, as a manifest states them
    seed : of its writer's pauses
    """

    name: str
    style: str
    content: bytes
    sha256_pcm: str
    seed: int


def make_drops(seed: int, count: int, styles: Sequence[str] = ()) -> list[Drop]:
    """Return ``count`` drops of all styles in turn, no two alike; every fifth has a name that is trouble."""
    chosen = tuple(styles) or tuple(STYLES)
    draw = random.Random(seed)
    drops = []
    for index in range(count):
        style = chosen[index % len(chosen)]
        container = _choose_container(style, draw)
        content, digest = encode_noise(seed * 1_000_003 + index, draw.randint(4_000, 13_000), container)
        name = _choose_name(index, draw, container)
        drops.append(Drop(name, style, content, digest, draw.getrandbits(32)))
    draw.shuffle(drops)
    return drops


def encode_noise(seed: int, frames: int, container: str = "WAV") -> tuple[bytes, str]:
    """Return a stereo file of 16-bit noise that no other seed gives, and the `sha256_pcm` of its samples."""
    words = np.random.default_rng(seed).integers(-6_000, 6_000, (frames, 2), dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, words, SAMPLE_RATE, subtype="PCM_16", format=container)
    return file.getvalue(), hashlib.sha256((words / 32_768.0).astype("<f8").tobytes()).hexdigest()


def _choose_container(style: str, draw: random.Random) -> str:
    """Return a container whose header a style can use: FLAC's does not tell of bytes that are to come."""
    if style in ("patched", "mapped"):
        return "WAV"
    return draw.choice(
        ("WAV", "WAV", "AIFF", "FLAC") if style in ("renamed", "moved") else ("WAV", "WAV", "AIFF")
    )


def _choose_name(index: int, draw: random.Random, container: str) -> str:
    suffix = "." + container.lower()
    if index % 5:
        name = draw.choice((f"take {index}{suffix}", f"Bounce {index}{suffix.upper()}"))
    else:
        kinds = (
            f"Ärger – Straßenlärm ☂ {index}",
            f"Cafe\u0301 no\u0308 {index}",
            f"曲 名前 {index}",
            f"🎧🥁 {index}",
            f"\u202eשיר {index}",
            f"two\nlines {index}",
            f"$HOME; `x` \"q\" 'r' %s {index}",
            f" led by a space {index}",
            f"-n --once {index}",
            f"[red]{{stem}}[bold] {index}",
            _fill(f"{index} ", "long ", 200 - len(suffix)),
            _fill(f"{index} ", "ü", 255 - len(suffix)),
        )
        name = draw.choice(kinds) + suffix
    folder = draw.choice(
        ("", "", "", "", f"day {index % 7}/", f"Ordner\n{index % 3}/a/b/c/", f"new {index}/")
    )
    return folder + name


def _fill(head: str, pattern: str, most_bytes: int) -> str:
    """Return ``head`` and as much of a repeated pattern as fits into ``most_bytes`` of UTF-8."""
    return (head + pattern * most_bytes).encode()[:most_bytes].decode(errors="ignore").rstrip()


def write_slowly(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    with target.open("wb") as file:
        for piece in _cut(drop.content, draw):
            file.write(piece)
            file.flush()
            pause(draw.uniform(0.02, 0.3))


def write_reopened(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Close after each piece; the header promises the whole from the start."""
    for piece in _cut(drop.content, draw, most=3):
        with target.open("ab") as file:
            file.write(piece)
        pause(draw.uniform(0.1, 1.2))


def write_patched(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Write lengths of 0, or of a stream without end, and the true ones last."""
    length = struct.pack("<I", draw.choice((0, 0xFFFFFFFF)))
    head = bytearray(drop.content[:_WAV_HEADER_BYTES])
    assert head[36:40] == b"data"
    head[4:8] = head[40:44] = length
    with target.open("wb") as file:
        file.write(head)
        for piece in _cut(drop.content[_WAV_HEADER_BYTES:], draw):
            file.write(piece)
            file.flush()
            pause(draw.uniform(0.02, SHORT_PAUSE_S))
        file.seek(0)
        file.write(drop.content[:_WAV_HEADER_BYTES])


def write_renamed(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Write under a name that programs give to unfinished files, in the same folder."""
    number = f"{drop.seed:08x}"
    name = draw.choice((f"{number}.wav.part", f"{number}.crdownload", f".{number}.wav", f"~{number}.wav"))
    with target.with_name(name).open("wb") as file:
        for piece in _cut(drop.content, draw, most=2):
            file.write(piece)
            file.flush()
            pause(draw.uniform(0.02, 0.8))
    target.with_name(name).rename(target)


def write_moved(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    finished = outside / f"{drop.seed:08x}"
    finished.write_bytes(drop.content)
    pause(draw.uniform(0.0, 0.2))
    finished.rename(target)


def write_preallocated(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Give the file its full size at once; its header is right when all else is silence."""
    _fill_preallocated(target, drop, pause, draw, is_set_back=False)


def write_set_back(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Preallocate, and set the time of the last change back after every piece, as copying tools do."""
    _fill_preallocated(target, drop, pause, draw, is_set_back=True)


def _fill_preallocated(
    target: Path, drop: Drop, pause: Pause, draw: random.Random, *, is_set_back: bool
) -> None:
    with target.open("wb") as file:
        file.truncate(len(drop.content))
        for piece in _cut(drop.content, draw, most=8):
            file.write(piece)
            file.flush()
            if is_set_back:
                os.utime(file.fileno(), ns=(_LONG_AGO_NS, _LONG_AGO_NS))
            pause(draw.uniform(0.2, SHORT_PAUSE_S))


def write_stalled(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Stop in the middle for longer than any quiet time, with the file open."""
    half = draw.randint(1, len(drop.content) - 1)
    with target.open("wb") as file:
        file.write(drop.content[:half])
        file.flush()
        pause(draw.uniform(1.0, LONG_PAUSE_S))
        file.write(drop.content[half:])


def write_mapped(target: Path, drop: Drop, outside: Path, pause: Pause, draw: random.Random) -> None:
    """Write through memory, of which no event tells; the header comes last."""
    with target.open("w+b") as file:
        file.truncate(len(drop.content))
        view = mmap.mmap(file.fileno(), len(drop.content))
    with view:
        at = _WAV_HEADER_BYTES
        for piece in _cut(drop.content[at:], draw):
            view[at : at + len(piece)] = piece
            at += len(piece)
            pause(draw.uniform(0.02, SHORT_PAUSE_S))
        view[:_WAV_HEADER_BYTES] = drop.content[:_WAV_HEADER_BYTES]


STYLES = {
    "slow": write_slowly,
    "reopened": write_reopened,
    "patched": write_patched,
    "renamed": write_renamed,
    "moved": write_moved,
    "preallocated": write_preallocated,
    "set back": write_set_back,
    "stalled": write_stalled,
    "mapped": write_mapped,
}


def _cut(content: bytes, draw: random.Random, *, most: int = 5) -> Iterator[bytes]:
    """Yield ``content`` in up to ``most`` pieces."""
    cuts = sorted({0, len(content), *(draw.randrange(1, len(content)) for _ in range(most - 1))})
    for begin, end in itertools.pairwise(cuts):
        yield content[begin:end]


class Writers:
    """Threads that write drops into a watched folder, each at its own pace.

    Parameters
    ----------
    root : the watched folder
    outside : a folder on the same volume, from which files are moved in
    """

    def __init__(self, root: Path, outside: Path, drops: Sequence[Drop], *, count: int = 8) -> None:
        self._root = root
        self._outside = outside
        self._queue: queue.SimpleQueue[Drop] = queue.SimpleQueue()
        for drop in drops:
            self._queue.put(drop)
        self._is_ended = threading.Event()
        self._errors: list[OSError] = []
        self._threads = [threading.Thread(target=self._write_all, name=f"writer {n}") for n in range(count)]
        outside.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def are_busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def finish(self, limit_s: float) -> None:
        """Return once every drop is written; raise what a writer ended with."""
        for thread in self._threads:
            thread.join(limit_s)
        if self._errors:
            raise self._errors[0]
        assert not self.are_busy, f"the writers are not done after {limit_s:.0f} s"

    def _write_all(self) -> None:
        while not self._is_ended.is_set():
            try:
                drop = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                target = self._root / drop.name
                target.parent.mkdir(parents=True, exist_ok=True)
                STYLES[drop.style](target, drop, self._outside, self._pause, random.Random(drop.seed))
            except OSError as error:
                self._errors.append(error)
                return

    def _pause(self, seconds: float) -> None:
        if self._is_ended.wait(seconds):
            raise InterruptedError("the writers were told to end")
