"""What a scan of a watched folder finds and leaves out; a file looked at alone is seen as in a scan."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stembridge.stem_tag import CHUNK_NAME, StemTag
from stembridge.watch.dropped import Dropped
from stembridge.watch.scan import ScanNotes, is_own, look, scan

CONTENT = b"RIFF"
RESULTS = "stems"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


def drop(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)


def names_of(found: list[Dropped]) -> list[str]:
    return [file.name for file in found]


def look_everywhere(root: Path) -> Iterator[Dropped]:
    """Yield what is seen of each file below ``root`` when it is looked at alone."""
    for folder, _, files in os.walk(root):
        for name in files:
            found = look(root, RESULTS, Path(folder) / name)
            if found:
                yield found


def check(root: Path, *names: str) -> None:
    """Hold a scan, and a look at every single file, against the names of those that could be taken."""
    found = scan(root, RESULTS)
    assert names_of(found) == sorted(names)
    assert sorted(look_everywhere(root), key=lambda file: file.name) == found


def test_files_are_found_in_every_folder_with_their_names_and_signatures(root: Path) -> None:
    names = [
        "song.wav",
        "REAL.WAV",
        "karaoke/a.flac",
        "a/b/c/d/e.mp3",
        "Größe – 愛/x\ny.wav",
        "x" * 200 + ".aif",
    ]
    drop(root, *names)
    check(root, *names)
    first = next(file for file in scan(root, RESULTS) if file.name == "REAL.WAV")
    found = (root / "REAL.WAV").stat()
    assert first.path == root / "REAL.WAV" and first.path.is_absolute()
    assert first.signature == (
        *(found.st_dev, found.st_ino, len(CONTENT)),
        *(found.st_mtime_ns, found.st_ctime_ns),
    )


@pytest.mark.parametrize("name", ["grown", "written again", "replaced"])
def test_a_signature_tells_of_every_change(root: Path, name: str) -> None:
    drop(root, "song.wav")
    path = root / "song.wav"
    before = scan(root, RESULTS)[0]
    times = (before.signature.mtime_ns, before.signature.mtime_ns)
    if name == "grown":
        path.write_bytes(CONTENT * 2)
    elif name == "written again":
        path.write_bytes(bytes(len(CONTENT)))
    else:
        other = root / "other"
        other.write_bytes(bytes(len(CONTENT)))
        other.replace(path)
    # Whoever sets the time back cannot set back when that was done.
    os.utime(path, ns=times)
    assert scan(root, RESULTS)[0].signature != before.signature


def test_what_could_never_be_taken_is_left_out(root: Path) -> None:
    drop(root, "song.wav", ".hidden.wav", "._song.wav", "~song.wav", "song.wav.part", "notes.txt")
    drop(root, ".git/x.wav", "song.wav.download/song.wav", "stembridge.toml", "stembridge-status.json")
    (root / "empty.wav").touch()
    (root / "folder.wav").mkdir()
    drop(root, "folder.wav/inside.wav")
    check(root, "song.wav", "folder.wav/inside.wav")


def test_results_and_notes_never_come_back_in(root: Path) -> None:
    drop(root, "song.wav", "stems/song__m__0/song - drums.wav", "stems/loose.wav", "failed/song.wav")
    drop(root, "karaoke/stems/taken.wav", "karaoke/failed/taken.wav")
    check(root, "song.wav", "karaoke/stems/taken.wav", "karaoke/failed/taken.wav")
    drop(root, "moved/result/stems.json", "moved/result/song.wav", "moved/result/listening/song.mp3")
    check(root, "song.wav", "karaoke/stems/taken.wav", "karaoke/failed/taken.wav")


def test_results_may_lie_deeper_and_have_another_name(root: Path) -> None:
    drop(root, "out/done/x.wav", "out/y.wav", "stems/z.wav")
    assert names_of(scan(root, "out/done")) == ["out/y.wav", "stems/z.wav"]
    assert look(root, "out/done", root / "out/done/x.wav") is None
    assert look(root, "out/done", root / "out/y.wav") is not None


def test_a_result_folder_that_is_watched_says_so(root: Path) -> None:
    drop(root, "stems.json", "song - drums.wav", "deeper/x.wav")
    notes = ScanNotes()
    assert scan(root, RESULTS, notes) == []
    assert notes.problems == ["nothing is taken from a result folder: it holds stems.json"]
    assert look(root, RESULTS, root / "song - drums.wav") is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_files_are_followed_and_links_to_folders_are_not(root: Path, tmp_path: Path) -> None:
    drop(tmp_path, "elsewhere/real.wav", "elsewhere/real.bin")
    drop(root, "sub/song.wav")
    (root / "link.wav").symlink_to(tmp_path / "elsewhere/real.wav")
    (root / "renamed.wav").symlink_to(tmp_path / "elsewhere/real.bin")
    (root / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    (root / "self.wav").symlink_to("self.wav")
    (root / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (root / "folder.wav").symlink_to(tmp_path / "elsewhere")
    (root / "sub/loop").symlink_to(root)
    check(root, "link.wav", "renamed.wav", "sub/song.wav")
    assert look(root, RESULTS, root / "elsewhere/real.wav") is None
    assert look(root, RESULTS, root / "sub/loop/sub/song.wav") is None
    before = scan(root, RESULTS)[0]
    (tmp_path / "elsewhere/real.wav").write_bytes(CONTENT * 2)
    assert scan(root, RESULTS)[0].signature != before.signature


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a FIFO is of POSIX")
def test_a_fifo_is_left_out_and_nobody_waits_for_it(root: Path) -> None:
    os.mkfifo(root / "pipe.wav")
    check(root)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such names")
def test_a_name_that_is_no_utf8_is_found_by_it(root: Path) -> None:
    drop(root, os.fsdecode(b"caf\xe9.wav"))
    check(root, "caf\udce9.wav")


def test_a_path_that_is_not_below_the_folder_is_nothing(root: Path, tmp_path: Path) -> None:
    drop(tmp_path, "outside.wav")
    assert look(root, RESULTS, tmp_path / "outside.wav") is None
    assert look(root, RESULTS, root) is None
    assert look(root, RESULTS, root / "missing.wav") is None
    assert look(root, RESULTS, root / "missing/missing.wav") is None
    # What the system does not even look up, as it does with folders that may not be entered.
    assert look(root, RESULTS, root / ("x" * 300) / "missing.wav") is None


@contextmanager
def before_listing(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], None]) -> Iterator[None]:
    """Let ``act`` do something with the name of each folder just before it is listed."""
    listed: Any = os.scandir

    def scandir(folder: Any) -> Any:
        if isinstance(folder, Path):
            act(folder.name)
        return listed(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        yield


def test_a_folder_that_vanishes_meanwhile_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(root, "a/x.wav", "b/x.wav", "c/x.wav")
    notes = ScanNotes()
    with before_listing(monkeypatch, lambda name: shutil.rmtree(root / "b") if name == "b" else None):
        assert names_of(scan(root, RESULTS, notes)) == ["a/x.wav", "c/x.wav"]
    assert notes.problems == []


def test_a_folder_that_denies_is_named_and_the_others_are_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(root, "a/x.wav", "b/deeper/x.wav", "c/x.wav")

    def deny(name: str) -> None:
        if name == "deeper":
            raise PermissionError(13, "Permission denied")

    notes = ScanNotes()
    with before_listing(monkeypatch, deny):
        assert names_of(scan(root, RESULTS, notes)) == ["a/x.wav", "c/x.wav"]
    assert notes.problems == ["'b/deeper' cannot be listed: Permission denied"]


def test_a_missing_root_is_no_empty_one(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(root / "gone", RESULTS)


def test_a_relative_root_gives_absolute_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(root, "a/x.wav")
    monkeypatch.chdir(root.parent)
    found = scan(Path("drop"), RESULTS)
    assert [file.path for file in found] == [root / "a/x.wav"]
    assert look(Path("drop"), RESULTS, root / "a/x.wav") == found[0]


def test_a_stem_of_ours_is_known_by_its_tag(root: Path) -> None:
    tag = StemTag(job="0" * 32, stem="drums", source="ab" * 32, start=0, frames=7, rate=44_100)
    chunk = struct.pack("<4sI", CHUNK_NAME, len(tag.encode())) + tag.encode()
    body = chunk + bytes(len(chunk) % 2)
    (root / "ours.wav").write_bytes(struct.pack("<4sI4s", b"RIFF", len(body) + 4, b"WAVE") + body)
    drop(root, "theirs.wav")
    (root / "listed.wav").write_bytes(json.dumps({"schema": "stembridge.stem/1"}).encode())
    assert is_own(root / "ours.wav")
    assert not is_own(root / "theirs.wav")
    assert not is_own(root / "listed.wav")
    assert not is_own(root / "missing.wav")
