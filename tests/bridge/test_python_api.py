"""`from stembridge import Stems, split`: arrays and paths in, arrays and a verdict out."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness
from stembridge import Stems, split
from stembridge.errors import RequestError, SourceError
from stembridge.manifest import job8
from stembridge.settings import load_settings
from stembridge.synthesis import make_song
from stembridge.types import Early


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


@pytest.mark.parametrize("exact_float", [False, True])
def test_a_float_array_and_a_mono_one_are_taken_as_they_are(daemon: DaemonHarness, exact_float: bool) -> None:
    song = make_song(9, seconds=1.1)
    mono = song.mixture[0].astype(np.float32)
    stems = split(mono, 44100, model="preview", two_stems="drums", exact_float=exact_float, progress=False)
    daemon.adopt()
    assert stems.names == ("drums", "no_drums")
    assert stems.drums.shape == (1, mono.size)
    # With a 64-bit complement only samples near zero have bits below those that a sum of louder stems holds;
    # with a 32-bit one most have. Both are stated.
    largest = 2**-53 if exact_float else 2**-25
    assert stems.null.holds and stems.null.error_f64 == stems.manifest.claims.max_error <= largest
    assert np.abs(stems.drums[0] + stems.no_drums[0] - mono).max() == stems.null.error_f64


def test_who_listens_hears_one_segment_before_the_rest_is_done(daemon: DaemonHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    daemon.start(worker=fake_worker.command(gate))
    song = make_song(9, seconds=3.0)
    ints = np.rint(song.mixture * 2**15).astype(np.int16)
    heard: list[tuple[Early, np.ndarray]] = []

    def listen(early: Early) -> None:
        heard.append((early, soundfile.read(early.stems[-1].path)[0].T))
        gate.touch()

    stems = split(
        ints,
        44100,
        model="preview",
        seed=fake_worker.GATED,
        precision="half",
        listen_from=100_000,
        on_early=listen,
        progress=False,
    )
    daemon.worker_pid()
    [(early, vocals)] = heard
    assert (early.start, early.frames, early.stems[-1].name) == (88_200, 44_100, "vocals")
    assert np.abs(stems.vocals[:, 88_200:] - vocals).max() <= 2.0**-23
    assert stems.manifest.model.precision == "half" and stems.null.holds
    with pytest.raises(RequestError, match="listen_from 132300 lies outside of the 132300 frames"):
        split(ints, 44100, model="preview", listen_from=132_300, progress=False)
    with pytest.raises(RequestError, match=r"precision 'int8' \(one of full, half\)"):
        split(ints, 44100, model="preview", precision="int8", progress=False)


def test_files_are_named_as_asked_or_as_the_settings_say(daemon: DaemonHarness, tmp_path: Path) -> None:
    song = make_song(9, seconds=1.1)
    ints = np.rint(song.mixture * 2**15).astype(np.int16)
    settings = load_settings(file_names="{stem} of {name}")
    stems = split(ints, 44100, model="preview", out=tmp_path / "out", progress=False, settings=settings)
    daemon.adopt()
    assert stems.manifest.stems[0].file == "drums of array.wav"
    asked = {"model": "preview", "out": tmp_path / "out", "progress": False, "settings": settings}
    stems = split(ints, 44100, file_names="{job8} {stem}", **asked)  # type: ignore[arg-type]
    assert stems.manifest.stems[0].file == f"{job8(stems.manifest.job)} drums.wav"
    assert stems.null.holds and {"drums", "residual"} < set(stems)
    for wrong in ({"file_names": "{name}"}, {"sessions": ("als",)}):
        with pytest.raises(RequestError, match=r"without {stem}|session 'als'"):
            split(ints, 44100, **asked, **wrong)  # type: ignore[arg-type]


def test_what_the_command_line_can_ask_for_can_be_asked_for_here(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.1)
    ints = np.rint(song.mixture * 2**15).astype(np.int16)
    stems = split(
        ints, 44100, model="preview", region=(1_000, 20_000), residual="equal", format="wav24", progress=False
    )
    daemon.adopt()
    assert stems.names == ("drums", "bass", "other", "vocals")
    assert stems.drums.shape == (2, 20_000)
    assert {stem.subtype for stem in stems.manifest.stems} == {"PCM_24"}
    total = sum(stems[name] for name in stems)
    assert np.array_equal(total, ints[:, 1_000:21_000] / 2**15)
    with pytest.raises(RequestError, match="residual 'mine'"):
        split(ints, 44100, residual="mine", progress=False)


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


def test_a_copy_has_the_stems_and_keeps_their_files(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.1)
    stems = split(song.mixture, np.int64(44100), model="preview", progress=False)
    daemon.adopt()
    copies = [copy.copy(stems), copy.deepcopy(stems)]
    folder = stems.folder
    del stems
    for twin in copies:
        assert twin.drums.shape == song.mixture.shape and twin.null.holds
    del copies, twin
    assert not folder.parent.exists()


def test_a_set_that_is_just_being_made_has_no_stems_yet() -> None:
    # copy and multiprocessing make an object first and look for its methods before it has a state.
    assert not hasattr(Stems.__new__(Stems), "drums")


def test_a_notebook_gets_players_and_waveforms(daemon: DaemonHarness) -> None:
    song = make_song(9, seconds=1.1)
    stems = split(song.mixture, 44100, model="preview", progress=False)
    daemon.adopt()
    page = stems._repr_html_()
    assert page.count("<audio controls") == 5 and page.count("<svg") == 5
    assert "preview quality" in page and "sums back to the original" in page


@pytest.mark.parametrize(
    ("source", "rate", "words"),
    [
        (np.zeros((2, 100)), None, "without its sample_rate"),
        (np.zeros((100, 2)), 44100, "shape"),
        (np.zeros((2, 100), np.complex128), 44100, "complex128"),
        ("song.wav", 44100, "beside a path"),
        (np.zeros((2, 100)), 44100.0, r"sample_rate 44100\.0 .*give it as an int"),
        (np.zeros((2, 100)), np.float64(44100), r"sample_rate .*44100\.0"),
        (np.zeros((2, 100)), "44100", "sample_rate '44100'"),
        (np.zeros((2, 100)), True, "sample_rate True"),
        (np.zeros((2, 100)), 0, "sample_rate 0 .*8000 to 768000"),
        (np.zeros((2, 100)), -44100, "sample_rate -44100"),
        (np.zeros((2, 100)), 10**12, "sample_rate 1000000000000"),
    ],
)
def test_what_is_no_audio_is_refused(source: object, rate: object, words: str, home: Path) -> None:
    with pytest.raises(SourceError, match=words):
        split(source, rate, model="preview", progress=False)  # type: ignore[arg-type]
