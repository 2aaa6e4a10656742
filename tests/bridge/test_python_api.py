"""`from stembridge import split`: arrays and paths in, arrays and a verdict out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from daemon_harness import DaemonHarness
from stembridge import split
from stembridge.errors import SourceError
from stembridge.synthesis import make_song


def test_an_array_comes_back_as_stems_that_sum_to_it(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.5)
    mixture = np.round(song.mixture * 2**15).astype(np.int16)
    stems = split(mixture, song.sample_rate, model="preview", progress=False)
    daemon.adopt()
    assert stems.names == ("drums", "bass", "other", "vocals", "residual")
    assert stems.null.holds and stems.null.error_f64 == 0.0
    assert stems.vocals.shape == mixture.shape and stems.sample_rate == 44100
    assert np.array_equal(sum(stems[name] for name in stems), mixture / 2**15)
    # A stem is more than a share of the mixture: drums look more like drums than like the song.
    drums, other = song.stems["drums"], song.stems["other"]
    assert np.vdot(stems.drums, drums) > np.vdot(stems.drums, other)
    assert len(stems) == 5 and "preview" in repr(stems)
    with pytest.raises(AttributeError, match=r"no stem 'kazoo'.*drums"):
        _ = stems.kazoo


def test_a_float_array_and_a_mono_one_are_taken_as_they_are(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.1)
    mono = song.mixture[0].astype(np.float32)
    stems = split(mono, 44100, model="preview", two_stems="drums", progress=False)
    daemon.adopt()
    assert stems.names == ("drums", "no_drums")
    assert stems.drums.shape == (1, mono.size)
    # A sample near zero has bits far below those that a sum of louder stems can hold: rare, and stated.
    assert stems.null.holds and stems.null.error_f64 == stems.manifest.claims.max_error <= 2**-53
    assert np.abs(stems.drums[0] + stems.no_drums[0] - mono).max() == stems.null.error_f64


def test_a_path_and_an_out_folder_keep_the_files(daemon: DaemonHarness, tmp_path: Path) -> None:

    song = make_song(9, seconds=1.1)
    soundfile.write(tmp_path / "song.wav", song.mixture.T, song.sample_rate, subtype="PCM_24")
    stems = split(tmp_path / "song.wav", out=tmp_path / "out", model="preview", progress=False)
    daemon.adopt()
    assert stems.folder.parent == tmp_path / "out" and (stems.folder / "stems.json").exists()


def test_without_an_out_folder_the_files_go_with_the_object(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.1)
    stems = split(song.mixture, 44100, model="preview", progress=False)
    daemon.adopt()
    folder = stems.folder
    assert folder.exists()
    del stems
    assert not folder.parent.exists()


def test_a_notebook_gets_players_and_waveforms(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.1)
    stems = split(song.mixture, 44100, model="preview", progress=False)
    daemon.adopt()
    page = stems._repr_html_()
    assert page.count("<audio controls") == 5 and page.count("<svg") == 5
    assert "preview quality" in page and "sums to the original exactly" in page


@pytest.mark.parametrize(
    ("source", "rate", "words"),
    [
        (np.zeros((2, 100)), None, "without its sample_rate"),
        (np.zeros((100, 2)), 44100, "shape"),
        (np.zeros((2, 100), np.complex128), 44100, "complex128"),
        ("song.wav", 44100, "beside a path"),
    ],
)
def test_what_is_no_audio_is_refused(source: object, rate: int | None, words: str, home: Path) -> None:
    with pytest.raises(SourceError, match=words):
        split(source, rate, model="preview", progress=False)  # type: ignore[arg-type]
