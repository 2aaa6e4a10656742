"""Errands: what they find out, and the processes aside that do them for the daemon's front."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from daemon_harness import is_alive, wait_until
from model_place import CONTENT, Place
from stembridge import model_store
from stembridge.errors import Busy, ModelError, SourceError
from stembridge.reaper.errands import KINDS, compare_decoding
from stembridge.reaper.house import Errand
from stembridge.settings import load_settings
from stembridge_daemon import errands as daemon_errands
from stembridge_daemon.errands import MAX_RUNNING, Errands

RATE = 44_100
FRAMES = 3 * RATE

ACTOR = f"""#!{sys.executable}
'''Does on stdout what its arguments say, in the place of the program that does errands.'''
import json, os, pathlib, sys, time
kind, told = json.load(sys.stdin)
with open(told["runs"], "a") as runs:
    print(os.getpid(), *sys.argv[1:], file=runs)
os.write(1, told["says"].encode())
while not pathlib.Path(told["gate"]).exists():
    time.sleep(0.005)
os.write(1, told["ends"].encode())
os.write(2, b"a trace of it")
sys.exit(told["code"])
"""


class Aside:
    """Errands whose processes say and do what a test asks for; `open` lets them go on."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = load_settings(home=folder / "home", environ={}, **settings)
        self.errands = Errands(self.settings)
        self.runs = folder / "runs"
        self.runs.touch()

    def start(self, kind: str = "compare", **told: Any) -> str:
        plain = {"says": "", "ends": '{"result": {"n": 1}}\n', "code": 0, "gate": str(self.folder / "gate")}
        return self.errands.start(kind, plain | {"runs": str(self.runs)} | told)

    def find(self, errand_id: str) -> Errand:
        found = self.errands.find(errand_id)
        assert found is not None
        return found

    def await_end(self, errand_id: str) -> Errand:
        wait_until(lambda: self.find(errand_id).is_over, "the errand to end")
        return self.find(errand_id)

    def open(self) -> None:
        (self.folder / "gate").touch()

    def pids(self, count: int) -> list[int]:
        """Return the processes there have been, once there are so many."""
        wait_until(lambda: len(self.runs.read_text().splitlines()) >= count, f"{count} processes")
        return [int(line.split()[0]) for line in self.runs.read_text().splitlines()]

    def left_behind(self) -> list[Path]:
        state = self.settings.state_dir
        return sorted(state.rglob("*")) if state.exists() else []


@pytest.fixture
def aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aside]:
    program = tmp_path / "actor"
    program.write_text(ACTOR)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    aside = Aside(tmp_path)
    yield aside
    aside.errands.close()


def test_an_errand_says_how_far_it_is_and_what_came_of_it(aside: Aside) -> None:
    errand_id = aside.start(says='{"text": "a", "fraction": 0.25}\n{"text": "b", "fraction": 0.5}\n{"te')
    wait_until(lambda: aside.find(errand_id).text != "", "the first word of it")
    assert aside.find(errand_id) == Errand(errand_id, "b", 0.5)
    aside.open()
    assert aside.await_end(errand_id).result is None, "the half line and the result are no line"


def test_what_a_library_prints_in_between_does_no_harm(aside: Aside) -> None:
    aside.open()
    said = 'loading...\n{"result": {"n": 2}}\nUserWarning: bye\n\n'
    assert aside.await_end(aside.start(ends=said)).result == {"n": 2}


def test_an_errand_that_fails_says_why(aside: Aside) -> None:
    aside.open()
    said = '{"text": "trying"}\n{"error": {"code": "bad_model", "message": "m", "hint": "h"}}\n'
    error = aside.await_end(aside.start(ends=said)).error
    assert error is not None and (error.code, error.message, error.hint) == ("bad_model", "m", "h")


def test_a_process_that_is_killed_fails_its_errand(aside: Aside) -> None:
    errand_id = aside.start(says='{"text": "on my way", "fraction": 0.9}\n')
    (pid,) = aside.pids(1)
    os.kill(pid, signal.SIGKILL)
    error = aside.await_end(errand_id).error
    assert error is not None and "-9" in error.message


def test_a_trace_is_in_the_log(aside: Aside, caplog: pytest.LogCaptureFixture) -> None:
    aside.open()
    with caplog.at_level(logging.ERROR):
        error = aside.await_end(aside.start(ends="", code=1)).error
    assert error is not None and error.hint == "stembridge daemon logs"
    assert "a trace of it" in caplog.text


def test_the_same_twice_is_one_process_and_what_has_failed_runs_again(aside: Aside) -> None:
    first, second, other = aside.start(), aside.start(), aside.start(says=" ")
    assert first == second != other
    aside.open()
    assert aside.await_end(first).result == {"n": 1}
    assert aside.start() == first and aside.find(first).result == {"n": 1}
    assert len(aside.pids(2)) == 2
    failing = aside.start(ends="", code=3)
    assert aside.await_end(failing).error is not None
    assert aside.start(ends="", code=3) == failing
    assert aside.await_end(failing).error is not None
    assert len(aside.pids(4)) == 4


def test_a_model_that_was_fetched_and_is_asked_for_again_is_fetched_again(aside: Aside) -> None:
    first = aside.start("fetch_model")
    assert aside.start("fetch_model") == first
    assert len(aside.pids(1)) == 1
    aside.open()
    aside.await_end(first)
    assert aside.start("fetch_model") == first
    assert len(set(aside.pids(2))) == 2
    aside.await_end(first)


def test_more_than_may_run_are_refused_until_one_is_over(aside: Aside) -> None:
    running = [aside.start(says=" " * number) for number in range(MAX_RUNNING)]
    with pytest.raises(Busy, match=str(MAX_RUNNING)):
        aside.start(says=" " * MAX_RUNNING)
    assert aside.start(says="") == running[0], "the same once more is no more"
    aside.open()
    for errand_id in running:
        aside.await_end(errand_id)
    assert aside.await_end(aside.start(says=" " * MAX_RUNNING)).result == {"n": 1}


def test_only_so_many_are_remembered_and_their_files_go(
    aside: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_errands, "MAX_KEPT", 3)
    aside.open()
    first = aside.start(says="")
    aside.await_end(first)
    for number in range(1, 4):
        aside.await_end(aside.start(says=" " * number))
    assert aside.errands.find(first) is None
    assert not [path for path in aside.left_behind() if path.name.startswith(first)]
    assert len({path.stem for path in aside.left_behind() if path.is_file()}) == 3


def test_closing_ends_what_runs_and_leaves_nothing(aside: Aside) -> None:
    for number in range(2):
        aside.start(says=" " * number)
    pids = aside.pids(2)
    assert aside.left_behind()
    aside.errands.close()
    assert not any(is_alive(pid) for pid in pids)
    assert not aside.left_behind()


def test_what_a_killed_daemon_has_left_is_removed(aside: Aside) -> None:
    stray = aside.settings.state_dir / "errands" / "0123.out"
    stray.parent.mkdir(parents=True)
    stray.touch()
    Errands(aside.settings).close()
    assert not stray.exists()
    assert aside.errands.find("0123") is None


def test_a_process_works_with_the_daemons_own_folders(aside: Aside, tmp_path: Path) -> None:
    settings = {"model_dirs": (tmp_path / "models here", tmp_path / "and there")}
    other = Aside(tmp_path, **settings)
    other.open()
    other.await_end(other.start())
    other.errands.close()
    said = other.runs.read_text()
    assert f"--home {tmp_path / 'home'}" in said
    assert f"--model-dir {tmp_path / 'models here'} --model-dir {tmp_path / 'and there'}" in said


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[Errands, Callable[[str], Errand]]]:
    """Errands as the daemon has them, and what waits for the end of one."""
    errands = Errands(
        load_settings(home=tmp_path / "home", environ={}, model_dirs=(tmp_path / "models here",))
    )

    def await_end(errand_id: str) -> Errand:
        wait_until(lambda: (found := errands.find(errand_id)) is not None and found.is_over, "the errand")
        found = errands.find(errand_id)
        assert found is not None
        return found

    yield errands, await_end
    errands.close()


def test_real_processes_measure_compare_and_refuse(
    real: tuple[Errands, Callable[[str], Errand]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errands, await_end = real
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    song = Song(tmp_path / "song.ogg")
    started = [
        errands.start("measure_speed", {}),
        errands.start("compare", song.arguments(1.0)),
        errands.start("fetch_model", {"model": "htdemucs"}),
        errands.start("no such kind", {}),
    ]
    speed, same, fetched, unknown = (await_end(errand_id) for errand_id in started)
    assert speed.result["gflops"] > 0
    assert same.result == {"frames": FRAMES}
    assert fetched.error is not None and fetched.error.code == "bad_model"
    assert str(tmp_path / "models here") in fetched.error.hint
    assert unknown.error is not None and unknown.error.code == "internal"


def test_a_model_is_fetched_into_the_first_folder(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float | None]] = []
    settings = load_settings(home=tmp_path, environ={}, model_dirs=(tmp_path / "a", tmp_path / "b"))
    planned = functools.partial(model_store.plan_fetch, origins=place.origins)
    monkeypatch.setattr(model_store, "plan_fetch", planned)
    fetch = KINDS["fetch_model"]
    result = fetch(settings, lambda text, part: told.append((text, part)), model="htdemucs")
    assert [Path(path).read_bytes() for path in result["files"]] == [CONTENT]
    assert Path(result["files"][0]).parent == tmp_path / "a"
    assert told[0] == ("asking for htdemucs", None)
    assert told[-1] == ("htdemucs: 3 MB fetched", 1.0)
    place.files.clear()
    assert fetch(settings, lambda *_: None, model="htdemucs")["files"] == []
    with pytest.raises(ModelError, match="404"):
        fetch(settings, lambda *_: None, model="htdemucs_6s")


class Song:
    """A lossy file, and what REAPER would hear of it if it decoded it as libsndfile does."""

    def __init__(self, path: Path, samples: NDArray[np.float64] | None = None) -> None:
        self.path = path
        if samples is None:
            draw = np.random.default_rng(3)
            samples = 0.2 * draw.standard_normal((FRAMES, 2))
        soundfile.write(path, samples, RATE)
        self.heard: NDArray[np.float64] = soundfile.read(path, always_2d=True)[0][:, 0]

    def arguments(
        self, start_s: float, frames: int = RATE // 2, shift: int = 0, **fields: Any
    ) -> dict[str, Any]:
        """Return what is asked where REAPER has read ``frames`` at ``start_s``, ``shift`` frames late."""
        first = round(start_s * RATE) - shift
        samples = [round(value * 2**23) for value in self.heard[first : first + frames]]
        asked = {"path": str(self.path), "rate": RATE, "frames": FRAMES, "start_s": start_s}
        return asked | {"samples": samples, "section": None} | fields


def compare(arguments: dict[str, Any]) -> int:
    """Return the frames that a comparison finds, 0 where REAPER hears another thing."""
    settings = load_settings(environ={"STEMBRIDGE_HOME": "/nowhere"})
    return int(compare_decoding(settings, lambda *_: None, **arguments)["frames"])


@pytest.mark.parametrize("ending", ["ogg", "mp3"])
def test_the_same_decoding_is_found_to_be_the_same(tmp_path: Path, ending: str) -> None:
    song = Song(tmp_path / f"song.{ending}")
    assert compare(song.arguments(1.25)) == FRAMES
    assert compare(song.arguments(0.0)) == FRAMES
    assert compare(song.arguments(2.5)) == FRAMES, "to the very end"


@pytest.mark.parametrize("ending", ["ogg", "mp3"])
@pytest.mark.parametrize("shift", [-1105, -1, 1, 529])
def test_a_decoder_that_is_late_is_found_out(tmp_path: Path, ending: str, shift: int) -> None:
    song = Song(tmp_path / f"song.{ending}")
    assert compare(song.arguments(1.25, shift=shift)) == 0


@pytest.mark.parametrize("shift", [-1, 1])
def test_one_frame_is_found_out_in_a_bass_note_too(tmp_path: Path, shift: int) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 41.2 * np.arange(FRAMES) / RATE)
    song = Song(tmp_path / "bass.ogg", np.stack([wave, wave], axis=1))
    assert compare(song.arguments(1.25)) == FRAMES
    assert compare(song.arguments(1.25, shift=shift)) == 0


def test_another_length_or_rate_is_another_decoding(tmp_path: Path) -> None:
    song = Song(tmp_path / "song.ogg")
    assert compare(song.arguments(1.0, frames=RATE // 2) | {"frames": FRAMES + 1}) == 0
    assert compare(song.arguments(1.0, frames=RATE // 2) | {"rate": 48_000}) == 0


def test_a_section_is_compared_where_it_lies(tmp_path: Path) -> None:
    song = Song(tmp_path / "song.ogg")
    arguments = song.arguments(1.75)
    assert compare(arguments | {"start_s": 0.5, "section": (1.25, 1.5, False)}) == FRAMES
    assert compare(arguments | {"start_s": 0.5, "section": (1.0, 1.5, False)}) == 0


def test_a_reversed_section_is_compared_backwards(tmp_path: Path) -> None:
    song = Song(tmp_path / "song.ogg")
    arguments = song.arguments(1.75)
    backwards = arguments["samples"][::-1]
    # The half second from 1.75 on is what is played from 0.5 on of the section's 1.5 s, backwards.
    section = (1.25, 1.5, True)
    assert compare(arguments | {"start_s": 0.5, "samples": backwards, "section": section}) == FRAMES
    assert compare(arguments | {"start_s": 0.5, "section": section}) == 0
    assert compare(arguments | {"start_s": 0.75, "samples": backwards, "section": section}) == 0


def test_rounding_is_no_difference_and_silence_says_nothing(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    samples = np.zeros((FRAMES, 2))
    samples[: RATE // 2] = 0.2 * draw.standard_normal((RATE // 2, 2))
    song = Song(tmp_path / "song.ogg", samples)
    silent = song.arguments(1.25)
    assert compare(silent) == FRAMES
    assert compare(silent | {"samples": [0] * len(silent["samples"])}) == FRAMES
    loud = song.arguments(0.1, frames=RATE // 4)
    in_16_bits = [sample // 256 * 256 for sample in loud["samples"]]
    assert compare(loud | {"samples": in_16_bits}) == FRAMES
    assert compare(loud | {"samples": [0] * len(in_16_bits)}) == 0


@pytest.mark.parametrize("count", [0, 1, FRAMES + 1])
def test_too_little_or_too_much_was_heard(tmp_path: Path, count: int) -> None:
    song = Song(tmp_path / "song.ogg")
    assert compare(song.arguments(0.0) | {"samples": [0] * count}) == 0


@pytest.mark.parametrize("content", [None, b"", b"OggS and no more"])
def test_a_file_that_cannot_be_decoded_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "song.ogg"
    if content is not None:
        path.write_bytes(content)
    asked = {"rate": RATE, "frames": FRAMES, "start_s": 0.0, "samples": [0] * 100, "section": None}
    with pytest.raises(SourceError, match=r"song\.ogg"):
        compare(asked | {"path": str(path)})
