"""A worker that renders nothing: it waits at a gate, fails, or kills its process, whatever a test asks for.

Run as a program it takes the real worker's orders; only the render is a fake. A request's pitch chooses:
`POISON` kills the process, `GATED` waits in the middle until the file named on the command line is there,
`BROKEN` fails as an effect does, anything else publishes its one file at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

from fake_worker import note_pauses
from stembridge.errors import EffectError
from stembridge.manifest import work_folder
from stembridge.settings import Settings, load_settings
from stembridge.types import Progress, RemixRequest, SplitResult
from stembridge_daemon.worker.main import Worker, take_over_stdout
from stembridge_daemon.worker.rendering import Rendering

POISON, GATED, BROKEN = 6.0, 7.0, 8.0
STEPS = 8


def command(gate: Path) -> list[str]:
    """Return the command line of a worker whose gate opens when ``gate`` exists."""
    return [sys.executable, __file__, str(gate)]


class FakeRender:
    """Publishes a folder named after the job, with a file that says what was asked."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def __call__(
        self,
        request: RemixRequest,
        job_id: str,
        settings: Settings,
        *,
        before_each: Callable[[str], None],
    ) -> Generator[Progress, None, SplitResult]:
        work, final = work_folder(request.out, job_id), Path(request.out) / job_id
        result = SplitResult(str(final), 1.0, 0.0, 0.1, None)
        if final.exists():
            return result
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            for step in range(STEPS):
                if step == STEPS // 2:
                    self._stumble(request)
                yield Progress("render", step / STEPS)
            (work / "remix.txt").write_text(f"{request.preset} {' '.join(request.changes)}")
            before_each("rename")
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return result

    def _stumble(self, request: RemixRequest) -> None:
        if request.pitch == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        if request.pitch == BROKEN:
            raise EffectError("reverb on vocals gave NaN", "turn it down")
        while request.pitch == GATED and not self._gate.exists():
            time.sleep(0.005)


if __name__ == "__main__":
    craft = Rendering(FakeRender(Path(sys.argv[1])), load_settings())
    Worker(craft, note_pauses(sys.stdin.buffer, Path(sys.argv[1])), take_over_stdout()).run()
