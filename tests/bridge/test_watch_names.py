"""Names that are taken for recordings, and those of files that are passing, foreign or hidden."""

from __future__ import annotations

import unicodedata

import pytest

from stembridge.headers.kind import FFMPEG_KINDS, LIBRARY_KINDS
from stembridge.watch.names import EXTENSIONS_OF_KIND, is_ignored_folder, is_ignored_name


def test_every_kind_that_is_read_has_endings() -> None:
    assert set(EXTENSIONS_OF_KIND) == {*LIBRARY_KINDS, *FFMPEG_KINDS} - {"ALAC in CAF"}


@pytest.mark.parametrize(
    "name",
    [
        *("song.wav", "REAL.WAV", "a.b.c.flac", "Mix 01.AIFF", "x.Opus", "x.m4a", "x.wv", "x.rf64", "x.w64"),
        *("the conflict.wav", "copy of song.wav", "song (1).wav", "part.wav", "tmp.wav", "song.part.wav"),
        *("Größe – 愛 🎧.wav", unicodedata.normalize("NFD", "Größe.wav"), "two\nlines.wav", "-rf.wav"),
        *("no utf-8 \udcff.wav", "x" * 200 + ".wav", " .wav", "$HOME `x` \"y\" 'z'.wav"),
    ],
)
def test_a_recording_is_taken(name: str) -> None:
    assert not is_ignored_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("song", "song.txt", "song.wav.txt", "wav", "song.", "song.wavx", "song.wav ", "stems.json", ""),
        *(".song.wav", "._song.wav", ".wav", "~song.wav", "~$song.wav", "~syncthing~song.wav.tmp"),
        *("song.wav.tmp", "song.wav.part", "song.wav.partial", "song.wav.crdownload", "song.wav.download"),
        *("song.wav.asd", "song.wav.reapeaks", "song.pkf", "song.wav.ovw", "SONG.WAV.PART"),
        "song (Anna's conflicted copy 2026-01-02).wav",
        "song (Conflicted Copy 2026-01-02 101112).WAV",
        "song.sync-conflict-20260102-101112-ABCDEFG.wav",
        "song (Case Conflict 1).wav",
        "song (Selective Sync Conflict).wav",
    ],
)
def test_what_is_passing_or_foreign_is_not(name: str) -> None:
    assert is_ignored_name(name)


@pytest.mark.parametrize("name", ["karaoke", "practice-vocals", "2026.01", "Ä", "stem.wav", "downloads"])
def test_folders_are_looked_into(name: str) -> None:
    assert not is_ignored_folder(name)


@pytest.mark.parametrize(
    "name",
    [
        ".stembridge-0a1b2c3d",
        ".git",
        "song.wav.download",
        "song.wav.PART",
        "~backup",
        "My Song.logicx",
        "x.band",
    ],
)
def test_folders_of_programs_are_not(name: str) -> None:
    assert is_ignored_folder(name)
