"""Sessions that come with a set: right where it is published, and never what a split fails of."""

from __future__ import annotations

import errno
import shutil
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

from fakes import FakeSeparator
from remixes import make_set
from rpp_projects import Session
from signals import make_music, to_ints, write_pcm
from splits import make_request, split_to_end
from stembridge.conform import Delivery, conform
from stembridge.errors import RequestError
from stembridge.manifest import read_manifest
from stembridge.null_test import check_result
from stembridge.sessions import arrangement, writing
from stembridge.sessions.arrangement import Arrangement, arrange
from stembridge.sessions.replacing import replace_file
from stembridge.sessions.writing import write_session
from stembridge.stages import run_to_end
from stembridge.types import SESSIONS
from stembridge_daemon.worker.pipeline import run_split

FRAMES = 3_001


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_pcm(tmp_path / "song.wav", to_ints(make_music(FRAMES, 2, 44_100), 16), 44_100, 16)


def read_song(song: Path) -> np.ndarray:
    import soundfile

    samples, _ = soundfile.read(song, always_2d=True)
    return np.asarray(samples.T)


def test_a_set_is_published_with_its_session(song: Path) -> None:
    result, told = split_to_end(make_request(song, song.parent / "out", sessions=("rpp",)), FakeSeparator())
    folder = Path(result.folder)
    np.testing.assert_array_equal(Session(folder / "song.rpp").play(), read_song(song))
    assert check_result(folder).holds
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert "session" in [progress.stage for progress in told]
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)


def test_a_source_that_was_just_read_is_not_read_again(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "read_blocks", None)
    result, _ = split_to_end(make_request(song, song.parent / "out", sessions=("rpp",)), FakeSeparator())
    session = Session(Path(result.folder) / "song.rpp")
    np.testing.assert_array_equal(session.play_alone("Original"), read_song(song))


def test_a_set_without_sessions_has_none(song: Path) -> None:
    result, told = split_to_end(make_request(song, song.parent / "out"), FakeSeparator())
    assert not list(Path(result.folder).glob("*.rpp"))
    assert "session" not in [progress.stage for progress in told]


def test_conformed_stems_come_with_their_session(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    stems = {name: made.folder / f"song - {name}.wav" for name in ("drums", "bass", "other", "vocals")}
    steps = conform(
        tmp_path / "song.wav", stems, tmp_path / "out", as_is=True, delivery=Delivery(sessions=("rpp",))
    )
    folder = Path(run_to_end(steps).folder)
    np.testing.assert_array_equal(Session(folder / "song.rpp").play(), made.original)


def test_every_kind_is_written(song: Path) -> None:
    request = make_request(song, song.parent / "out", sessions=SESSIONS, format="wav24")
    result, _ = split_to_end(request, FakeSeparator())
    folder = Path(result.folder)
    assert sorted(path.name for path in folder.glob("song.*")) == ["song.aaf", "song.dawproject", "song.rpp"]
    assert not list(folder.glob(".*"))
    assert not [warning for warning in result.warnings if "session" in warning]
    assert check_result(folder).holds


def test_a_session_that_cannot_be_written_fails_no_split(song: Path) -> None:
    odd = song.rename(song.with_name("all `three` \"quotes'.wav"))
    request = make_request(odd, song.parent / "out", sessions=("rpp", "dawproject"))
    result, _ = split_to_end(request, FakeSeparator())
    folder = Path(result.folder)
    (remark,) = [warning for warning in result.warnings if "session" in warning]
    assert remark.startswith("no rpp session was written: a REAPER project cannot name")
    assert remark in read_manifest(folder).warnings
    assert not list(folder.glob("*.rpp")) and not list(folder.glob(".*"))
    assert len(list(folder.glob("*.dawproject"))) == 1
    assert check_result(folder).holds


@pytest.mark.parametrize("step", ["arrange", "write_session"])
@pytest.mark.parametrize("error", [ValueError("two\nlines"), MemoryError(), OSError(5, "Input/output error")])
def test_no_fault_of_a_session_fails_a_split(
    song: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(writing, step, give_up)
    result, _ = split_to_end(make_request(song, song.parent / "out", sessions=("rpp",)), FakeSeparator())
    folder = Path(result.folder)
    (remark,) = [warning for warning in result.warnings if "session" in warning]
    assert type(error).__name__ in remark and "was written" in remark and "\n" not in remark
    assert remark in read_manifest(folder).warnings
    assert check_result(folder).holds


def test_a_session_leaves_room_for_the_rest_of_its_set(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_set(song.parent / "set", frames=100)
    usage = shutil.disk_usage(song.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
    (remark,) = run_to_end(
        writing.write_sessions(("rpp",), made.folder, made.manifest, name="mine", final=Path("seen"))
    )
    assert (
        remark.startswith("no rpp session was written: ")
        and "/seen' would have had 1000000 bytes left" in remark
    )
    assert not (made.folder / "mine.rpp").exists()


def test_a_full_disk_is_told_of_the_folder_that_will_be_there(
    song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_in_vain(arrangement: Arrangement, folder: Path, target: Path) -> None:
        with replace_file(target):
            raise OSError(errno.ENOSPC, "No space left on device")

    module = types.ModuleType("full")
    monkeypatch.setattr(module, "write", write_in_vain, raising=False)
    monkeypatch.setitem(sys.modules, "full", module)
    monkeypatch.setitem(writing._WRITERS, "rpp", ("full", "write"))
    result, _ = split_to_end(make_request(song, song.parent / "out", sessions=("rpp",)), FakeSeparator())
    (remark,) = [warning for warning in result.warnings if "session" in warning]
    shown = f"cannot write into '{result.folder}': No space left on device"
    assert remark.startswith(f"no rpp session was written: {shown} (")
    assert remark in read_manifest(Path(result.folder)).warnings


def test_an_original_that_no_session_can_name_is_told(song: Path) -> None:
    odd = song.rename(song.with_name("two\nlines.wav"))
    result, _ = split_to_end(make_request(odd, song.parent / "out", sessions=("rpp",)), FakeSeparator())
    folder = Path(result.folder)
    assert any("sessions hold no original" in warning for warning in result.warnings)
    session = Session(next(folder.glob("*.rpp")))
    assert "Original" not in [track.name for track in session.project.tracks]
    np.testing.assert_array_equal(session.play(), read_song(odd))


def test_a_session_is_right_wherever_the_set_and_its_source_go(song: Path, tmp_path: Path) -> None:
    result, _ = split_to_end(make_request(song, tmp_path / "stems", sessions=("rpp",)), FakeSeparator())
    original = read_song(song)
    (tmp_path / "moved").mkdir()
    for name in ("song.wav", "stems"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    session = Session(tmp_path / "moved" / "stems" / Path(result.folder).name / "song.rpp")
    np.testing.assert_array_equal(session.play(), original)
    np.testing.assert_array_equal(session.play_alone("Original"), original)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let no REAPER project be written before this is set."""
    may_end = threading.Event()

    def write_slowly(arrangement: Arrangement, folder: Path, target: Path) -> None:
        assert may_end.wait(10)
        target.write_text(arrangement.name)

    module = types.ModuleType("slow")
    monkeypatch.setattr(module, "write", write_slowly, raising=False)
    monkeypatch.setitem(sys.modules, "slow", module)
    monkeypatch.setitem(writing._WRITERS, "rpp", ("slow", "write"))
    monkeypatch.setattr(writing, "TELL_S", 0.001)
    return may_end


def test_a_session_that_takes_long_says_that_it_moves(song: Path, slow: threading.Event) -> None:
    made = make_set(song.parent / "set", frames=100)
    steps = writing.write_sessions(("rpp",), made.folder, made.manifest, name="mine", final=made.folder)
    assert [next(steps) for _ in range(3)] == [0.0, 0.0, 0.0]
    slow.set()
    assert run_to_end(steps) == ()
    assert (made.folder / "mine.rpp").read_text() == "mine"


def test_who_cancels_waits_for_the_session_and_finds_no_folder(song: Path, slow: threading.Event) -> None:
    running = run_split("job", make_request(song, song.parent / "out", sessions=("rpp",)), FakeSeparator())
    while next(running).stage != "session":
        pass
    threading.Timer(0.05, slow.set).start()
    running.close()
    assert slow.is_set()
    assert not (song.parent / "out").exists()


def test_an_unknown_kind_is_refused(song: Path) -> None:
    made = make_set(song.parent / "set", frames=100)
    with pytest.raises(RequestError, match="session 'als'"):
        write_session("als", arrange(made.folder, made.manifest), made.folder, made.folder / "song.als")
