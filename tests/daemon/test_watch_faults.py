"""Files, disks and folders that fail under a real watcher: each is named, and the watcher goes on."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_harness import DaemonHarness
from drop_folders import SETTINGS_FILE, DropFolder
from drop_writers import encode_noise
from stembridge.null_test import check_result

IMPATIENT = """
from stembridge.watch import settling
settling.choose_rules = lambda **kind: settling.SettleRules(quiet_s=0.3, give_up_s=1.5)
"""
"""Before a watcher's start: what never becomes whole is given up soon."""

PLAIN_RIGHTS = """
import ctypes
system = ctypes.CDLL(None)
head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert system.capget(head, sets) == 0
for index in (0, 1):
    sets[index] &= ~0b110
assert system.capset(head, sets) == 0
"""
"""Before a watcher's start: rights bind root as well: no CAP_DAC_OVERRIDE, no CAP_DAC_READ_SEARCH (Linux)."""


@pytest.fixture
def folder(daemon: DaemonHarness, tmp_path: Path) -> Iterator[DropFolder]:
    daemon.start()
    with DropFolder(daemon.settings, tmp_path / "drop", watch_table="scan_s = 0.5") as folder:
        yield folder


def drop(folder: DropFolder, name: str, seed: int) -> bytes:
    """Put a whole file into the folder by one rename, and return its bytes."""
    content, _ = encode_noise(seed, 9_000, "AIFF" if name.endswith(".aiff") else "WAV")
    put(folder, name, content)
    return content


def put(folder: DropFolder, name: str, content: bytes) -> None:
    hidden = folder.root / f".{name}"
    hidden.write_bytes(content)
    hidden.rename(folder.root / name)


def wait_for_result(folder: DropFolder, name: str) -> None:
    """Return once a file has a result that nulls."""
    folder.wait_until(lambda: folder.result_of(name) is not None, f"the result of {name}")
    result = folder.result_of(name)
    assert result is not None
    assert check_result(result).holds


def test_files_that_are_not_what_they_claim_are_named_and_the_next_one_is_split(folder: DropFolder) -> None:
    whole, _ = encode_noise(1, 9_000)
    silent_format = bytearray(whole)
    silent_format[22:24] = struct.pack("<H", 0)
    put(folder, "cut.wav", whole[:20_000])
    put(folder, "cut.aiff", encode_noise(2, 9_000, "AIFF")[0][:20_000])
    put(folder, "huge.wav", whole[:40] + struct.pack("<I", 0x7FFFFFF0) + whole[44:])
    put(folder, "no channels.wav", bytes(silent_format))
    put(folder, "letter.wav", b"Dear engineer,\nplease find attached\n" * 200)
    drop(folder, "locked.wav", 3)
    (folder.root / "locked.wav").chmod(0)
    put(folder, "empty.wav", b"")
    (folder.root / "folder.wav").mkdir()
    os.mkfifo(folder.root / "pipe.wav")
    drop(folder, "good.wav", 4)

    folder.start(seam=IMPATIENT + PLAIN_RIGHTS)
    wait_for_result(folder, "good.wav")
    faulty = ["cut.aiff", "cut.wav", "huge.wav", "letter.wav", "locked.wav", "no channels.wav"]
    folder.wait_until(lambda: folder.notes() == [f"{name}.txt" for name in faulty], "a note on each")
    for name in faulty:
        assert name in folder.note(name)
    assert "truncated" in folder.note("cut.wav")
    assert "truncated" in folder.note("cut.aiff")
    assert "truncated" in folder.note("huge.wav")
    assert "Permission denied" in folder.note("locked.wav")

    put(folder, "cut.wav", whole)
    (folder.root / "locked.wav").chmod(0o644)
    os.utime(folder.root / "locked.wav")
    drop(folder, "next.wav", 5)
    for name in ("cut.wav", "locked.wav", "next.wav"):
        wait_for_result(folder, name)
    folder.wait_until(
        lambda: folder.notes() == ["cut.aiff.txt", "huge.wav.txt", "letter.wav.txt", "no channels.wav.txt"],
        "the notes on what was mended to go",
    )
    assert len(folder.results()) == 4
    assert folder.stop() == 0


@pytest.mark.parametrize("is_same_folder", [True, False], ids=["moved away", "deleted and made anew"])
def test_a_folder_that_goes_and_comes_back_is_watched_again(
    folder: DropFolder, tmp_path: Path, is_same_folder: bool
) -> None:
    drop(folder, "before.wav", 1)
    folder.start()
    wait_for_result(folder, "before.wav")
    known = folder.results()
    away = tmp_path / "away"
    folder.root.rename(away)
    folder.wait_until(lambda: "gone" in folder.log_text(), "the watcher to say that its folder is gone")
    assert not folder.root.exists()
    if is_same_folder:
        (away / "while away.wav").write_bytes(encode_noise(2, 9_000)[0])
        away.rename(folder.root)
    else:
        folder.root.mkdir()
        (folder.root / SETTINGS_FILE).write_bytes((away / SETTINGS_FILE).read_bytes())
        drop(folder, "while away.wav", 2)
    wait_for_result(folder, "while away.wav")
    drop(folder, "after.wav", 3)
    wait_for_result(folder, "after.wav")
    assert len(folder.results()) == (len(known) if is_same_folder else 0) + 2
    assert folder.notes() == []
    assert folder.stop() == 0


# Left out where nobody may mount a disk: a skipped test is a failure.
if os.geteuid() == 0:

    @pytest.fixture
    def small_disk(tmp_path: Path) -> Iterator[Path]:
        """A disk of 32 MiB."""
        place = tmp_path / "disk"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", place], check=True)
        yield place
        subprocess.run(["umount", "--lazy", place], check=True)

    def test_a_full_disk_fails_a_file_by_name_and_room_mends_it(
        daemon: DaemonHarness, small_disk: Path
    ) -> None:
        daemon.start()
        with DropFolder(daemon.settings, small_disk / "drop", watch_table="scan_s = 0.5") as folder:
            folder.start()
            drop(folder, "first.wav", 1)
            wait_for_result(folder, "first.wav")
            ballast = small_disk / "ballast"
            hidden = folder.root / ".second.wav"
            hidden.write_bytes(encode_noise(2, 9_000)[0])
            fill(ballast)
            hidden.rename(folder.root / "second.wav")
            folder.wait_until(lambda: "second.wav: failed" in folder.log_text(), "the failure to be told")
            assert not folder.is_ended()
            ballast.unlink()
            folder.wait_until(lambda: folder.note("second.wav") != "", "the note, once there is room")
            assert "second.wav" in folder.note("second.wav")
            os.utime(folder.root / "second.wav")
            wait_for_result(folder, "second.wav")
            folder.wait_until(lambda: folder.notes() == [], "the note to go")
            assert len(folder.results()) == 2
            assert folder.stop() == 0

    def fill(path: Path) -> None:
        """Write until the disk is full."""
        with pytest.raises(OSError), path.open("wb", buffering=0) as file:
            while file.write(bytes(65_536)):
                pass
