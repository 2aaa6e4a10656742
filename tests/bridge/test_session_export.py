"""`stembridge export`, as a user types it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from remixes import MadeSet, make_set, remix
from rpp_projects import Session
from stembridge.cli import main
from stembridge.null_test import check_result
from stembridge.types import SESSIONS

FRAMES = 3_001


@pytest.fixture
def made(tmp_path: Path) -> MadeSet:
    return make_set(tmp_path, frames=FRAMES)


def test_a_result_folder_becomes_a_session_in_it(made: MadeSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(made.folder), "--to", "rpp"]) == 0
    written = made.folder / "song.rpp"
    assert capsys.readouterr().out == f"{written}\n"
    np.testing.assert_array_equal(Session(written).play(), made.original)
    assert check_result(made.folder).holds


def test_a_file_that_is_there_stays_unless_forced(made: MadeSet, capsys: pytest.CaptureFixture[str]) -> None:
    (made.folder / "song.rpp").write_text("a mix of one's own")
    assert main(["export", str(made.folder), "--to", "rpp"]) == 73
    assert "exists (replace it with --force" in capsys.readouterr().err
    assert (made.folder / "song.rpp").read_text() == "a mix of one's own"
    assert main(["export", str(made.folder), "--to", "rpp", "--force"]) == 0
    np.testing.assert_array_equal(Session(made.folder / "song.rpp").play(), made.original)


@pytest.mark.parametrize("target", ["sessions", "sessions/mine.rpp", "sessions/Mine.RPP"])
def test_a_session_goes_where_it_is_wanted(made: MadeSet, tmp_path: Path, target: str) -> None:
    (tmp_path / "sessions").mkdir()
    assert main(["export", str(made.folder), "--to", "rpp", "--out", str(tmp_path / target)]) == 0
    (written,) = (tmp_path / "sessions").iterdir()
    assert written.name == ("song.rpp" if target == "sessions" else Path(target).name)
    np.testing.assert_array_equal(Session(written).play(), made.original)


def test_a_relative_path_is_one_of_the_current_folder(
    made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder.parent)
    assert main(["export", made.folder.name, "--to", "rpp", "--out", "mine.rpp"]) == 0
    np.testing.assert_array_equal(Session(made.folder.parent / "mine.rpp").play(), made.original)


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    made = make_set(tmp_path, frames=FRAMES, format="wav24")
    target = tmp_path / "none" / f"mine.{kind}"
    assert main(["export", str(made.folder), "--to", kind, "--out", str(target)]) == 73
    said = capsys.readouterr().err
    assert (
        said == f"stembridge: {str(target.parent)!r} is no folder (make it, or choose another with --out)\n"
    )
    assert not target.parent.exists()


@pytest.mark.parametrize("name", ["exchange", "exchange/", "exchange.v2/", ""])
def test_a_name_without_an_ending_means_a_folder(
    made: MadeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = f"{tmp_path}/{name}" if name else ""
    assert main(["export", str(made.folder), "--to", "rpp", "--out", out]) == 73
    remedy = "make the folder first, or name a file that ends on .rpp"
    assert capsys.readouterr().err == f"stembridge: folder {out!r} does not exist ({remedy})\n"


def test_a_file_is_no_folder(made: MadeSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.rpp"
    mine.write_text("a mix of one's own")
    assert main(["export", str(made.folder), "--to", "rpp", "--out", f"{mine}/", "--force"]) == 73
    assert f"'{mine}/' is no folder" in capsys.readouterr().err
    assert main(["export", str(mine), "--to", "rpp"]) == 1
    assert f"'{mine}' is no folder (give a result folder" in capsys.readouterr().err
    assert mine.read_text() == "a mix of one's own"


@pytest.mark.parametrize("kind", SESSIONS)
def test_too_long_a_name_has_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, format="wav24")
    target = tmp_path / f"{'x' * 300}.{kind}"
    assert main(["export", str(made.folder), "--to", kind, "--out", str(target)]) == 73
    said = capsys.readouterr().err
    assert said == f"stembridge: '{target}' is too long a name (choose a shorter one with --out)\n"


def test_the_help_says_what_out_may_be_and_what_aaf_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--out FILE|FOLDER" in shown and 'pip install "stembridge[aaf]"' in " ".join(shown.split())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_what_a_killed_export_leaves_the_next_one_removes(made: MadeSet) -> None:
    before = {path.name for path in made.folder.iterdir()}
    code = f"""
import os, signal
from pathlib import Path
from stembridge.sessions.replacing import replace_file
with replace_file(Path({str(made.folder / "song.dawproject")!r})) as hidden:
    hidden.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    left = {path.name for path in made.folder.iterdir()} - before
    assert left and all(name.startswith(".") for name in left)
    assert check_result(made.folder).holds
    assert main(["export", str(made.folder), "--to", "rpp"]) == 0
    assert {path.name for path in made.folder.iterdir()} - before == {"song.rpp"}


def test_no_stem_is_overwritten_by_a_slip(made: MadeSet, capsys: pytest.CaptureFixture[str]) -> None:
    stem = made.folder / made.manifest.stems[0].file
    assert main(["export", str(made.folder), "--to", "rpp", "--out", str(stem), "--force"]) == 1
    assert "does not end on .rpp" in capsys.readouterr().err
    assert check_result(made.folder).holds


def test_a_remix_is_exported_like_a_set(made: MadeSet, tmp_path: Path) -> None:
    mixed = remix(tmp_path, made, "[stems.vocals]\ngain_db = -6", stems_out=True)
    assert main(["export", str(mixed.folder), "--to", "rpp"]) == 0
    np.testing.assert_array_equal(Session(mixed.folder / "song - mine.rpp").play(), mixed.samples)


def test_an_original_that_is_gone_is_told(made: MadeSet, capsys: pytest.CaptureFixture[str]) -> None:
    (made.folder.parents[1] / "song.wav").unlink()
    assert main(["export", str(made.folder), "--to", "rpp"]) == 0
    assert "warning: sessions hold no original: " in capsys.readouterr().err
    np.testing.assert_array_equal(Session(made.folder / "song.rpp").play(), made.original)


def test_what_is_no_result_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--to", "rpp"]) == 1
    assert "give a result folder" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["dawproject", "aaf"])
def test_every_kind_is_exported(tmp_path: Path, kind: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, format="wav24")
    assert main(["export", str(made.folder), "--to", kind]) == 0
    assert (made.folder / f"song.{kind}").stat().st_size > made.original.size * 3
    assert check_result(made.folder).holds
