"""Whatever a plugin does, it is named with what it did, its process is gone, and the next one is served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from daemon_harness import wait_until
from plugins.fixture import FAULTS, build_plugin, needs_fixture
from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError
from stembridge.mixdown.side_by_side import run_side_by_side
from stembridge.plugins.hosted import make_opener
from stembridge.plugins.process import Deadlines, RunningPlugins
from stembridge.settings import Settings, load_settings

pytestmark = needs_fixture

RATE = 48_000
SHORT = Deadlines(open_s=60.0, answer_s=3.0)
"""A hang is seen soon, and a process may start as slowly as a busy machine lets it."""
SOUND = np.full((2, 16_384), 0.25, np.float32)
TRIGGER = np.full((2, 16_384), 2.0, np.float32)
"""What the fixture waits for when its faults are not to come at once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vst3")
    build_plugin(folder)
    for fault in ("abort", "crash", "hang"):
        build_plugin(folder, f"At load {fault}", at_load=fault)
    return folder


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, environ={}, plugin_dirs=(folder,))


def children_of(parent: int) -> set[int]:
    """Return every process whose parent that is, the dead that nobody waited for among them."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.add(int(stat.parent.name))
    return found


def marked_with(mark: str) -> set[int]:
    """Return every process that was started with ``mark`` in its environment."""
    found = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"STEMBRIDGE_TEST_MARK={mark}".encode() in environ.read_bytes():
                found.add(int(environ.parent.name))
    return found


def assert_next_job_is_served(settings: Settings) -> None:
    with closing(make_opener(settings, [])(PluginEffect("Fixture.vst3"), RATE, 2)) as hosted:
        assert np.array_equal(hosted.process(SOUND), SOUND)


PROCESSING = 'plugin "Fixture" {} while it processed audio'


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("crash", PROCESSING.format(r"crashed \(SIGSEGV\)")),
        ("abort", PROCESSING.format(r"crashed \(SIGABRT\)")),
        ("hang", PROCESSING.format("did not answer within 3 s")),
        ("nan", 'plugin "Fixture" gave NaN or infinity at frame 16640'),
    ],
)
def test_a_fault_in_the_middle_of_a_song_ends_the_plugin_alone(
    fault: str, said: str, settings: Settings
) -> None:
    before = children_of(os.getpid())
    effect = PluginEffect("Fixture.vst3", parameters={"fault": FAULTS[fault], "trigger": 1.0})
    with closing(make_opener(settings, [], SHORT)(effect, RATE, 2)) as hosted:
        assert np.array_equal(hosted.process(SOUND), SOUND)
        with pytest.raises(PluginError, match=said) as caught:
            hosted.process(TRIGGER)
    assert "\n" not in str(caught.value) and caught.value.hint
    assert children_of(os.getpid()) == before
    assert_next_job_is_served(settings)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("crash", r"crashed \(SIGSEGV\)"),
        ("abort", r"crashed \(SIGABRT\)"),
        ("hang", "did not answer within 2 s"),
    ],
)
def test_a_fault_while_it_is_loaded_is_named_as_such(
    fault: str, said: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children_of(os.getpid())
    monkeypatch.setenv("STEMBRIDGE_TEST_MARK", str(tmp_path))
    opener = make_opener(settings, [], Deadlines(2.0, 2.0) if fault == "hang" else SHORT)
    with pytest.raises(PluginError, match=f'plugin "At load {fault}" {said} while it was opened'):
        opener(PluginEffect(f"At load {fault}.vst3"), RATE, 2)
    assert children_of(os.getpid()) == before
    wait_until(lambda: not marked_with(str(tmp_path)), "every process of the plugin to end")
    assert_next_job_is_served(settings)


def test_a_fault_at_the_first_sample_is_met_by_the_probe(settings: Settings) -> None:
    before = children_of(os.getpid())
    effect = PluginEffect("Fixture.vst3", parameters={"fault": FAULTS["crash"]})
    with pytest.raises(PluginError, match=PROCESSING.format(r"crashed \(SIGSEGV\)")):
        make_opener(settings, [], SHORT)(effect, RATE, 2)
    assert children_of(os.getpid()) == before


def test_an_ended_plugin_stays_an_error_and_closing_twice_is_fine(settings: Settings) -> None:
    hosted = make_opener(settings, [], SHORT)(PluginEffect("Fixture.vst3"), RATE, 2)
    hosted.close()
    hosted.close()
    with pytest.raises(PluginError, match="crashed"):
        hosted.process(SOUND)


HOST = """
import sys
import numpy as np
from pathlib import Path
from stembridge.effects.chain import PluginEffect
from stembridge.plugins.hosted import HostedPlugin
from stembridge.plugins.process import Deadlines

effect = PluginEffect("", parameters={"fault": 0.6, "trigger": 1.0})
hosted = HostedPlugin(effect, Path(sys.argv[1]), 48000, 2, Deadlines(600.0, 600.0))
print("open", flush=True)
if sys.argv[2] == "hang":
    hosted.process(np.full((2, 16384), 2.0, np.float32))
sys.stdin.read()
"""


@pytest.mark.parametrize("doing", ["idle", "hang", "hang with a helper"])
def test_a_plugin_does_not_outlive_a_host_that_was_killed(doing: str, folder: Path, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    name = "At load hang" if doing == "hang with a helper" else "Fixture"
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(folder / f"{name}.vst3"), doing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "STEMBRIDGE_TEST_MARK": str(tmp_path), "STEMBRIDGE_TEST_HANGS": str(hangs)},
    )
    assert host.stdout is not None and host.stdin is not None
    try:
        if doing == "hang with a helper":
            # Host, plugin, its helper, and the watch.
            wait_until(lambda: len(marked_with(str(tmp_path))) == 4, "the plugin to start its helper", 60.0)
        else:
            assert host.stdout.readline() == b"open\n"
        if doing == "hang":
            wait_until(hangs.exists, "the plugin to hang", 60.0)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
        host.stdout.close()
        host.stdin.close()
    # Long before the limits that the dead host gave, and with all that was started.
    wait_until(lambda: not marked_with(str(tmp_path)), "every process of the plugin to end", 30.0)


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once a plugin hangs."""
    monkeypatch.setenv("STEMBRIDGE_TEST_HANGS", str(tmp_path / "hangs"))
    return tmp_path / "hangs"


def test_a_hang_is_ended_from_outside_when_another_stem_has_failed(settings: Settings, hangs: Path) -> None:
    plugins = RunningPlugins()
    opener = make_opener(settings, [], Deadlines(60.0, 30.0), plugins)

    def run(fault: str) -> Generator[float, None, None]:
        effect = PluginEffect("Fixture.vst3", parameters={"fault": FAULTS[fault], "trigger": 1.0})
        with closing(opener(effect, RATE, 2)) as hosted:
            yield 0.1
            if fault == "crash":
                wait_until(hangs.exists, "the other plugin to hang", 60.0)
            try:
                hosted.process(TRIGGER)
            except PluginError as error:
                said[fault] = error.message
                raise
        yield 0.9

    said: dict[str, str] = {}
    before = children_of(os.getpid())
    with pytest.raises(PluginError, match=r"crashed \(SIGSEGV\)"):
        list(run_side_by_side([run("hang"), run("crash")], plugins.end))
    assert children_of(os.getpid()) == before
    assert "SIGKILL" in said["hang"]
    with pytest.raises(PluginError, match="while it was opened"):
        opener(PluginEffect("Fixture.vst3"), RATE, 2)
    assert children_of(os.getpid()) == before


def test_a_hang_is_ended_from_outside_when_nobody_wants_it_any_more(settings: Settings, hangs: Path) -> None:
    plugins = RunningPlugins()
    opener = make_opener(settings, [], Deadlines(60.0, 30.0), plugins)

    def run() -> Generator[float, None, None]:
        effect = PluginEffect("Fixture.vst3", parameters={"fault": FAULTS["hang"], "trigger": 1.0})
        with closing(opener(effect, RATE, 2)) as hosted:
            with pytest.raises(PluginError, match="SIGKILL"):
                hosted.process(TRIGGER)
            said.append("ended from outside")
        yield 0.9

    said: list[str] = []
    before = children_of(os.getpid())
    running = run_side_by_side([run()], plugins.end)
    next(running)
    wait_until(hangs.exists, "the plugin to hang", 60.0)
    running.close()
    assert said == ["ended from outside"]
    assert children_of(os.getpid()) == before
