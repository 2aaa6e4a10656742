"""Sends and master chains on signals that several of them share, that go on longer, or that are finer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pedalboard
import pytest

from remixes import FRAMES, RATE_HZ, factor, make_set, make_settings, remix, round_to, write_preset
from stembridge.audio_io import BLOCK_FRAMES
from stembridge.mixdown.render import render_remix
from stembridge.types import RemixRequest

ECHO = """
[[stems.vocals.effects]]
kind = "delay"
delay_ms = 400.0
feedback = 0.3
"""
UNIT = 2.0**-23


def write_gain(place: str, gain_db: float) -> str:
    return f"[[{place}.effects]]\nkind = 'gain'\ngain_db = {gain_db}\n"


def write_send(name: str, levels: str) -> str:
    return f"[[sends]]\nname = '{name}'\nlevels_db = {{ {levels} }}\n{write_gain('sends', 0.0)}"


def test_sends_that_share_processed_stems_each_get_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small blocks: the threads of two sends meet at a shared file a thousand times.
    monkeypatch.setattr("stembridge.mixdown.mixing.BLOCK_FRAMES", 256)
    made = make_set(tmp_path, frames=3 * RATE_HZ)
    text = write_gain("stems.vocals", -3.0) + write_gain("stems.drums", -3.0)
    text += "".join(write_send(f"s{number}", f"vocals = -{number}.0, drums = 0.0") for number in range(6))
    found = remix(tmp_path, made, text, stems_out=True)
    for number in range(6):
        sent = factor(-float(number)) * found.stems["vocals"] + found.stems["drums"]
        # Its sum is rounded to float32, and then to the grid.
        assert np.abs(found.stems[f"s{number}"] - sent).max() <= 2 * UNIT


def test_what_is_sent_has_the_tail_of_the_stem_that_sends(tmp_path: Path) -> None:
    made = make_set(tmp_path)
    text = f"tail = 'extend'\n{ECHO}{write_send('twin', 'vocals = -6.0, bass = 0.0')}"
    found = remix(tmp_path, made, text, stems_out=True)
    frames = found.samples.shape[1]
    assert frames > FRAMES + RATE_HZ // 2
    sent = factor(-6.0) * found.stems["vocals"] + found.stems["bass"]
    assert np.abs(sent[:, FRAMES:]).max() > 0.001
    assert np.abs(found.stems["twin"] - sent).max() <= 2 * UNIT


def test_the_tail_of_a_non_linear_master_is_in_the_remix(tmp_path: Path) -> None:
    made = make_set(tmp_path)
    master = """
    [[master.effects]]
    kind = "clip"
    threshold_db = -9.0
    [[master.effects]]
    kind = "delay"
    delay_ms = 400.0
    feedback = 0.0
    mix = 1.0
    """
    found = remix(tmp_path, made, f"tail = 'extend'\n{master}", stems_out=True)
    late = int(0.4 * RATE_HZ)
    assert found.samples.shape[1] >= FRAMES + late
    board = pedalboard.Pedalboard([pedalboard.Clipping(-9.0)])
    wet = board(made.original.astype(np.float32), RATE_HZ, buffer_size=8192, reset=True)
    clipped = round_to(wet.astype(np.float64), 23)
    assert np.abs(found.samples[:, late : FRAMES + late] - clipped).max() <= 2 * UNIT
    assert not found.samples[:, :late].any()
    for stem, signal in made.stems.items():
        assert np.array_equal(found.stems[stem][:, :FRAMES], signal)
        assert not found.stems[stem][:, FRAMES:].any()


@pytest.mark.parametrize("kind", ["pcm32", "float"])
@pytest.mark.parametrize("place", ["sends", "master"])
def test_a_finer_closing_file_goes_to_sends_and_linear_masters_as_the_grid_has_it(
    tmp_path: Path, kind: str, place: str
) -> None:
    made = make_set(tmp_path, kind=kind)
    fine = made.stems["residual"]
    on_grid = round_to(fine, 23)
    assert (fine != on_grid).any()
    # Large enough that half a unit of the grid is heard as several of them.
    text = write_gain(place, 20.0)
    if place == "sends":
        text = f"[[sends]]\nname = 'twin'\nlevels_db = {{ residual = 0.0 }}\n{text}"
    found = remix(tmp_path, made, text, stems_out=True)
    wet = found.stems["twin" if place == "sends" else "residual"]
    assert np.abs(wet - factor(20.0) * on_grid).max() <= UNIT
    assert np.abs(wet - factor(20.0) * fine).max() > 3 * UNIT
    if place == "sends":
        assert np.array_equal(found.stems["residual"], fine)


def test_the_difference_of_a_master_is_told_block_by_block_and_can_be_cancelled(tmp_path: Path) -> None:
    blocks = 6
    made = make_set(tmp_path, frames=blocks * BLOCK_FRAMES)
    preset = write_preset(tmp_path, "[[master.effects]]\nkind = 'clip'\nthreshold_db = -9.0")
    out = tmp_path / "remixes"
    asked = RemixRequest(str(made.folder), str(out), str(preset))
    whole = render_remix(asked, "whole", make_settings(tmp_path))
    told = [progress.fraction for progress in whole if progress.stage == "master"]
    # The chain itself ends by telling that it is done, and the difference tells it of every block.
    assert told.count(told[-1]) >= 1 + blocks
    before = sorted(out.iterdir())
    running = render_remix(asked, "cancelled", make_settings(tmp_path))
    seen = 0
    for progress in running:
        seen += progress.fraction == told[-1]
        if seen == 3:
            break
    running.close()
    assert seen == 3
    assert sorted(out.iterdir()) == before
