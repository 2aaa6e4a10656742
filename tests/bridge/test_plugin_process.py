"""What comes from a plugin's process is checked before it is used."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from stembridge.errors import PluginError
from stembridge.plugins.process import Deadlines, PluginProcess

CHILD = """#!{python}
import json, sys
request = json.loads(sys.stdin.buffer.readline())
sys.stdin.buffer.read(request["bytes"])
sys.stdout.buffer.write({reply!r})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
@pytest.mark.parametrize(
    ("shape", "samples", "said"),
    [
        ((1, 64), 64, r'"Fake" gave 1 x 64 samples for 2 x 64'),
        ((2, 65), 130, r'"Fake" gave 2 x 65 samples for 2 x 64'),
        ((2, 64), 100, r'"Fake" crashed \(exit code 0\) while it processed audio'),
    ],
)
def test_another_shape_and_a_reply_that_breaks_off_are_refused(
    shape: tuple[int, int], samples: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 4 * shape[0] * shape[1]
    head = {"layout": "plain", "latency_frames": 0, "shape": shape, "bytes": length}
    child = tmp_path / "child"
    child.write_text(
        CHILD.format(python=sys.executable, reply=json.dumps(head).encode() + b"\n" + bytes(4 * samples))
    )
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    with (
        closing(PluginProcess(Path("Fake.vst3"), Deadlines(60.0, 60.0))) as process,
        pytest.raises(PluginError, match=said),
    ):
        process.process(np.zeros((2, 64), np.float32), 48_000, 512)
