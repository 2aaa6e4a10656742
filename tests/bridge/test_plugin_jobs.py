"""A remix whose plugin fails is one failed job: daemon and worker go on, the next remix is right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile

from daemon_harness import DaemonHarness
from fakes import FakeSeparator
from plugins.fixture import FAULTS, build_plugin, needs_fixture
from signals import make_noise, to_ints, write_pcm
from splits import make_request, split_to_end
from stembridge.client import Client
from stembridge.errors import PluginError
from stembridge.manifest import read_manifest
from stembridge.null_test import check_result
from stembridge.types import JobState, RemixRequest

pytestmark = needs_fixture

PRESET = """
[preset]
name = "With a plugin"
use = "a test"
[[stems.vocals.effects]]
kind = "plugin"
path = "{name}.vst3"
parameters = {{ gain = {gain}, fault = {fault} }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vst3")
    build_plugin(folder)
    build_plugin(folder, "Broken", at_load="abort")
    build_plugin(folder, "Late", delay_frames=500, reported_frames=480)
    return folder


@pytest.fixture(scope="module")
def stem_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished set of a second's noise."""
    place = tmp_path_factory.mktemp("song")
    song = write_pcm(place / "song.wav", to_ints(make_noise(44_100, 2), 16), 44_100, 16)
    result, _ = split_to_end(make_request(song, place / "sets"), FakeSeparator())
    return Path(result.folder)


def order(
    tmp_path: Path, stem_set: Path, name: str, *, gain: float = 1.0, fault: str = "none"
) -> RemixRequest:
    """Return a remix in which a variant of the fixture stands on the vocals."""
    preset = tmp_path / f"{name} {gain} {fault}.toml"
    preset.write_text(PRESET.format(name=name, gain=gain, fault=FAULTS[fault]))
    return RemixRequest(str(stem_set), str(tmp_path / "out"), str(preset), stems_out=True)


def assert_remixed(client: Client, request: RemixRequest) -> Path:
    job = client.wait(client.submit(request).id, 120)
    assert job.state is JobState.DONE and job.result is not None
    folder = Path(job.result.folder)
    assert check_result(folder).failures == ()
    return folder


def test_plugin_faults_end_their_job_and_nothing_else(
    daemon: DaemonHarness, folder: Path, stem_set: Path, tmp_path: Path
) -> None:
    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text(f"plugin_dirs = [{json.dumps(str(folder))}]\n")
    front = daemon.start().pid
    faults = {
        "crash": ("Fixture", "crash", 'plugin "Fixture" crashed (SIGSEGV) while it processed audio'),
        "abort at load": ("Broken", "none", 'plugin "Broken" crashed (SIGABRT) while it was opened'),
        "NaN": ("Fixture", "nan", 'plugin "Fixture" gave NaN or infinity at frame 256'),
        "hang": ("Fixture", "hang", 'plugin "Fixture" did not answer within 10 s while it processed audio'),
    }
    with daemon.client() as client:
        whole = assert_remixed(client, order(tmp_path, stem_set, "Fixture", gain=0.5))
        worker = daemon.worker_pid("render")
        for name, fault, said in faults.values():
            failing = client.submit(order(tmp_path, stem_set, name, fault=fault))
            with pytest.raises(PluginError, match=re.escape(said)):
                client.wait(failing.id, 120)
            assert client.get(failing.id).state is JobState.FAILED
            assert sorted((tmp_path / "out").iterdir()) == [whole]
        again = assert_remixed(client, order(tmp_path, stem_set, "Fixture", gain=0.5))
        assert client.status().pid == front and daemon.worker_pid("render") == worker
    for entry in read_manifest(whole).stems:
        before, _ = soundfile.read(whole / entry.file, dtype="float64")
        after, _ = soundfile.read(again / entry.file, dtype="float64")
        assert (before == after).all()


def test_what_is_known_of_a_plugin_is_told_with_the_remix(
    daemon: DaemonHarness, folder: Path, stem_set: Path, tmp_path: Path
) -> None:
    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text(f"plugin_dirs = [{json.dumps(str(folder))}]\n")
    daemon.start()
    with daemon.client() as client:
        job = client.wait(client.submit(order(tmp_path, stem_set, "Late")).id, 120)
        daemon.adopt()
    assert job.state is JobState.DONE and job.result is not None
    said = "Late reports 480 frames of latency and has 500: its output is 20 frames late"
    assert any(said in warning for warning in job.result.warnings)
