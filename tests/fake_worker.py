"""A worker whose separator is instant, waits at a gate, or kills its process: whatever a test asks for.

Run as a program it takes the real worker's orders; only the separator is a fake. A request's seed chooses:
`POISON` kills the process, `GATED` waits before its second step until the file named on the command line is
there, anything else quarters the mixture at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stembridge.model_store import ModelFiles
from stembridge.types import Precision
from stembridge_daemon.worker.main import Worker, take_over_stdout
from stembridge_daemon.worker.separating import Separating
from stembridge_daemon.worker.separators.base import (
    Block,
    MixtureReader,
    PrecisionChoice,
    SeparationPlan,
    Separator,
)
from stembridge_daemon.worker_messages import Models, PauseJob, order_decoder

POISON = 666
GATED = 7


def command(gate: Path) -> list[str]:
    """Return the command line of a fake worker whose gate opens when ``gate`` exists."""
    return [sys.executable, __file__, str(gate)]


class QuarterSeparator:
    """Every stem is a quarter of the mixture, second by second."""

    name = "preview"
    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    sample_rate = 44100
    channels = 2
    segment_frames = 44100
    sha256 = ""
    is_deterministic = True

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def warm_up(self) -> None:
        pass

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        return PrecisionChoice(asked)

    def count_steps(self, frames: Sequence[int], plan: SeparationPlan) -> int:
        return sum(-(-each // self.segment_frames) for each in frames)

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        if plan.listen_from is not None:
            second = plan.listen_from // self.segment_frames * self.segment_frames
            for item, reader in enumerate(readers):
                yield replace(self._separate_second(item, reader, plan, second), is_early=True)
        for item, reader in enumerate(readers):
            yield from self._separate_item(item, reader, plan)

    def _separate_item(self, item: int, reader: MixtureReader, plan: SeparationPlan) -> Iterator[Block]:
        if plan.seed == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        for start in range(0, reader.frames, self.segment_frames):
            if start and plan.seed == GATED:
                gate_file(self._gate).touch()
                while not self._gate.exists():
                    time.sleep(0.005)
            yield self._separate_second(item, reader, plan, start)

    def _separate_second(self, item: int, reader: MixtureReader, plan: SeparationPlan, start: int) -> Block:
        quarter = reader.read(start, min(self.segment_frames, reader.frames - start)) / np.float32(4)
        return Block(start, np.stack([quarter] * len(plan.sources)), item)


class QuarterSource:
    """Hands out one and the same separator."""

    def __init__(self, gate: Path) -> None:
        self._separator = QuarterSeparator(gate)
        self._loads = 0

    def get(self, files: ModelFiles, stems: Sequence[str]) -> Separator:
        self._loads = 1
        return self._separator

    def resident(self) -> Models:
        return Models(("preview",) * self._loads, self._loads, "cpu")


def note_pauses(orders: Iterable[bytes], gate: Path) -> Iterator[bytes]:
    """Yield ``orders``; when the worker has taken in that a job is paused, a file beside the gate tells."""
    for line in orders:
        yield line
        if isinstance(order_decoder.decode(line), PauseJob):
            pause_file(gate).touch()


def gate_file(gate: Path) -> Path:
    """Return the file that a gated job makes when it has come to the gate, within its second step."""
    return gate.with_name(f"{gate.name} reached")


def pause_file(gate: Path) -> Path:
    """Return the file that `note_pauses` makes; a gate that opens earlier may let the job end."""
    return gate.with_name(f"{gate.name} pauses")


if __name__ == "__main__":
    craft = Separating(QuarterSource(Path(sys.argv[1])))
    Worker(craft, note_pauses(sys.stdin.buffer, Path(sys.argv[1])), take_over_stdout()).run()
