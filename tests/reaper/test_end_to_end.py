"""From a selected item to stems that null: a real daemon in another process, the scripts' own routes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from reaper_fake import Item
from stage import LANGUAGES, BehindDaemon, Stage
from stembridge import daemon_process, null_test
from stembridge.reaper.tags import StemTag, read_tag

RATE = 44_100


@pytest.fixture
def make_stage(tmp_path: Path, home: Path) -> Iterator[Callable[[Any], Stage]]:
    stages: list[Stage] = []

    def make(language: Any) -> Stage:
        stages.append(Stage(tmp_path, language, BehindDaemon(home)))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def write_song(path: Path, seconds: float) -> str:
    draw = np.random.default_rng(1)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 220 * time)
    soundfile.write(
        path, np.stack([tone, tone]).T + 0.05 * draw.standard_normal((len(time), 2)), RATE, "PCM_24"
    )
    return str(path)


def result_folders(stage: Stage) -> set[str]:
    """Return the result folders that the stem items in the project came from."""
    tags = [read_tag(item.ext.get("stembridge", "")) for item in stage.reaper.current.items]
    return {tag.folder for tag in tags if isinstance(tag, StemTag)}


def assert_sounds_as(stage: Stage, original: Any) -> None:
    heard = stage.hear(RATE)
    np.testing.assert_allclose(heard, original, rtol=0, atol=1e-12)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_selected_item_becomes_stems_that_null(
    language: Any, make_stage: Callable[[Any], Stage], tmp_path: Path
) -> None:
    stage = make_stage(language)
    reaper = stage.reaper
    track = reaper.add_track("Mix")
    item = reaper.add_item(
        track,
        write_song(tmp_path / "song.wav", 40),
        D_POSITION=3.5,
        D_LENGTH=5.0,
        take_D_STARTOFFS=12.3456789,
    )
    reaper.select(item)
    original = stage.hear(RATE)
    stage.run("split")
    assert [found.name for found in reaper.current.tracks[1:5]] == ["Drums", "Bass", "Other", "Vocals"]
    assert item.values["B_MUTE_ACTUAL"] == 1
    (folder,) = result_folders(stage)
    assert null_test.check_result(folder).holds
    assert_sounds_as(stage, original)
    assert reaper.current.undo[-1][0] == "Stembridge: split song"
    lengths = {soundfile.info(path).frames for path in Path(folder).glob("*.wav")}
    assert lengths == {8 * RATE}, (
        "five seconds and a handle on either side, from whole second to whole second"
    )


def test_a_preset_with_effects_comes_back_as_takes(
    make_stage: Callable[[Any], Stage], tmp_path: Path
) -> None:
    stage = make_stage("lua")
    reaper = stage.reaper
    song = reaper.add_item(reaper.add_track("Mix"), write_song(tmp_path / "song.wav", 4))
    reaper.select(song)
    stage.run("split")
    dry = stage.hear(RATE)
    reaper.answers.append(("GetUserInputs", "drum-punch"))
    stage.run("remix")
    reaper.answers.append(("GetUserInputs", "karaoke-backing-vocals"))
    stage.run("remix")
    stems = {item.takes[0].name: item for item in reaper.current.items}
    assert len(stems["song - vocals"].takes) == 2
    assert "song - punch" in stems
    remixes = [path for path in tmp_path.rglob("song__karaoke-backing-vocals__*") if path.is_dir()]
    (mix,) = [path for folder in remixes for path in folder.glob("* - karaoke-backing-vocals.wav")]
    samples, _ = soundfile.read(mix, always_2d=True)
    assert_sounds_as(stage, samples.T)
    assert np.abs(samples.T - dry).max() > 0.01
    assert reaper.current.undo[-1][0] == "Stembridge: remix karaoke-backing-vocals"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_queued_lands_though_the_daemon_is_killed_in_between(
    language: Any, make_stage: Callable[[Any], Stage], tmp_path: Path
) -> None:
    stage = make_stage(language)
    reaper = stage.reaper
    items: list[Item] = []
    for number in range(4):
        track = reaper.add_track(f"Track {number}")
        path = write_song(tmp_path / f"song {number}.wav", 8 if number else 24)
        items.append(reaper.add_item(track, path, D_POSITION=float(number)))
    original = stage.hear(RATE)
    reaper.select(items[0])
    stage.start("split")
    stage.run_until(lambda: running_job(stage) is not None, "the first job to run")
    for item in items[1:]:
        reaper.select(item)
        stage.start("split")
        stage.run_until(lambda: ("stembridge", "inbox") not in reaper.ext, "the action to be taken up")
    first = daemon_process.find(stage.behind.settings)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    stage.finish()
    second = daemon_process.find(stage.behind.settings)
    assert second is not None and second.pid != first.pid
    folders = result_folders(stage)
    assert len(folders) == 4
    assert all(null_test.check_result(folder).holds for folder in folders)
    assert [item.values["B_MUTE_ACTUAL"] for item in items] == [1, 1, 1, 1]
    assert [label for label, _ in reaper.current.undo] == [f"Stembridge: split song {n}" for n in range(4)]
    assert_sounds_as(stage, original)


def running_job(stage: Stage) -> str | None:
    behind = stage.behind
    assert isinstance(behind, BehindDaemon)
    if daemon_process.find(behind.settings) is None:
        return None
    with behind.daemon.client() as client:
        return next((job.id for job in client.jobs() if job.state == "running"), None)
