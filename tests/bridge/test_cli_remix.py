"""`stembridge remix`: one split for all presets, nothing twice, and one failure that costs only itself."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Generator
from dataclasses import fields, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon_harness import DaemonHarness
from fakes import FakeSeparator
from signals import make_music, read_wav, to_ints, write_pcm
from splits import split_to_end
from stembridge.cli import main
from stembridge.cli.remix import remix
from stembridge.cli.remixing import lock_path
from stembridge.cli.split import Outcome
from stembridge.errors import JobCancelled, StembridgeError
from stembridge.file_lock import FileLock
from stembridge.manifest import read_manifest
from stembridge.mixdown.batch import Output
from stembridge.mixdown.batch_file import read_batch
from stembridge.presets import read_preset
from stembridge.settings import load_settings
from stembridge.types import Precision, Progress, RemixRequest, SplitRequest, SplitResult
from terminal import Terminal

RATE, FRAMES = 44_100, 30_000
Signal = NDArray[np.float64]


def write_song(path: Path, seed: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_pcm(path, to_ints(make_music(FRAMES, 2, RATE, seed=seed), 24), RATE, 24)


def split_song(song: Path, out: Path, model: str = "preview", *, job_id: str = "job", **fields: Any) -> Path:
    request = SplitRequest(str(song), str(out), model, **fields)
    return Path(split_to_end(request, FakeSeparator(), job_id=job_id)[0].folder)


def read_stems(folder: Path) -> dict[str, Signal]:
    return {entry.name: read_wav(folder / entry.file)[0] for entry in read_manifest(folder).stems}


def find_remixes(out: Path) -> dict[str, Path]:
    """Return the folders of the remixes in ``out`` by the name of their preset."""
    folders = [path.parent for path in out.glob("*/stems.json")]
    entries = {folder: read_manifest(folder).remix for folder in folders}
    return {Path(entry.preset).stem: folder for folder, entry in entries.items() if entry is not None}


def read_remix(folder: Path) -> Signal:
    """Return the remix itself, not what stands beside it."""
    manifest = read_manifest(folder)
    return read_wav(folder / (manifest.mixture or manifest.stems[0]).file)[0]


def write_preset(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('[preset]\nname = "Mine"\nuse = "a test"\n' + dedent(text))
    return path


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_song(tmp_path / "song.wav")


@pytest.fixture
def stems(song: Path, tmp_path: Path) -> Path:
    return split_song(song, tmp_path / "sets")


@pytest.fixture(autouse=True)
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder of one's own, with a home whose model is the preview."""
    monkeypatch.chdir(tmp_path)
    home.mkdir(parents=True)
    (home / "settings.toml").write_text('model = "preview"\n')
    return tmp_path


def test_a_set_is_remixed_without_a_daemon_and_only_where_it_was_asked_for(
    home: Path, song: Path, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["remix", str(stems), "--preset", "karaoke"]) == 0
    shown = capsys.readouterr()
    (folder,) = find_remixes(Path("remixes")).values()
    mixture, vocals = read_wav(song)[0], read_stems(stems)["vocals"]
    assert np.array_equal(read_remix(folder), mixture - vocals)
    lines = shown.out.splitlines()
    assert lines[:3] == [
        "song.wav, karaoke",
        "changed: vocals muted",
        "untouched, bit for bit: drums, bass, other, residual",
    ]
    assert "what the preset does not touch is the original's, sample for sample" in shown.out
    assert lines[-1] == str(folder.absolute()) and "LUFS" in shown.out
    assert not (home / "run").exists()
    assert main(["null", str(folder)]) == 0
    assert f"1 file of {FRAMES} frames in 2 channels, against the remix's hash" in capsys.readouterr().out


def test_a_preset_of_ones_own_is_told_from_the_shipped_one(
    home: Path, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_preset(home / "presets" / "karaoke.toml", "[stems.vocals]\ngain_db = -6\n")
    assert main(["remix", str(stems), "--preset", "karaoke"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "song.wav, karaoke (yours, in place of ours)"


def test_what_nobody_would_hear_is_refused_before_anything_is_rendered(
    stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["remix", str(stems), "--preset", "karaoke", "--set", "vocals.gain_db=-12"]) == 1
    assert "vocals is muted by this preset (add --set vocals.mute=false)" in capsys.readouterr().err
    assert not Path("remixes").exists()


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 9000, "0x" + "f" * 5000])
def test_a_batch_that_nobody_can_read_is_one_line(
    here: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "remix.toml").write_text(f"inputs = {value}\n")
    assert main(["remix", "--batch", "remix.toml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "remix.toml" in line and len(line) < 300


def test_one_split_serves_several_presets_and_those_that_come_later(
    daemon: DaemonHarness, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["remix", str(song), "--out", "out"]
    assert main([*command, "--preset", "karaoke", "--preset", "acapella"]) == 0
    daemon.adopt()
    assert sorted(find_remixes(Path("out"))) == ["acapella", "karaoke"]
    assert len(list(Path("out").iterdir())) == 3
    capsys.readouterr()
    moved = song.rename(song.with_name("moved.wav"))
    assert main(["remix", str(moved), "--out", "out", "--preset", "drumless"]) == 0
    assert "moved.wav: its stems are there already" in capsys.readouterr().out
    with daemon.client() as client:
        assert len(client.jobs()) == 1
    found = find_remixes(Path("out"))
    karaoke, acapella = read_remix(found["karaoke"]), read_remix(found["acapella"])
    assert np.array_equal(karaoke + acapella, read_wav(moved)[0])


def test_sets_of_stembridge_split_are_found_where_it_puts_them_and_need_no_model(
    home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = split_song(song, Path("stems").absolute(), "htdemucs")
    arguments = ["remix", str(song), "--model", "htdemucs", "--preset", "karaoke"]
    assert main(arguments) == 0
    assert f"its stems are there already, {folder}" in capsys.readouterr().out
    assert not (home / "run").exists()
    # In another place there is none, and then the model would be needed.
    assert main([*arguments, "--stems-dir", "elsewhere"]) == 1
    assert "model htdemucs is not on this machine" in capsys.readouterr().err


def test_what_it_is_for_chooses_model_stems_and_preset(
    home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Path("stems").absolute()
    pair = split_song(song, places, "htdemucs", job_id="pair", two_stems="vocals")
    command = ["remix", str(song), "--use"]
    assert main([*command, "karaoke"]) == 0
    assert str(pair) in capsys.readouterr().out
    assert list(find_remixes(Path("remixes"))) == ["karaoke"]
    # The pair has no bass; a set of all stems has it, and does for the voice too.
    assert main([*command, "practice:bass"]) == 1
    assert "model htdemucs is not on this machine" in capsys.readouterr().err
    full = split_song(song, places, "htdemucs", job_id="full")
    (pair / "stems.json").unlink()
    for use in ("practice:bass", "karaoke"):
        assert main([*command, use]) == 0
        assert str(full) in capsys.readouterr().out
    assert "practice-minus-bass" in find_remixes(Path("remixes"))
    # The best is another split.
    assert main([*command, "acapella"]) == 1
    assert "model htdemucs_ft is not on this machine" in capsys.readouterr().err
    assert main([*command, "acapella", "--model", "htdemucs", "--shifts", "0"]) == 0
    assert not (home / "run").exists()


def test_whoever_takes_the_preview_instead_is_asked_once_and_keeps_its_sets(
    daemon: DaemonHarness,
    home: Path,
    song: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[str, bool]] = []

    def take_preview(request: SplitRequest, *_: object, is_named: bool, **__: object) -> SplitRequest:
        asked.append((request.model, is_named))
        return replace(request, model="preview", shifts=0)

    monkeypatch.setattr("stembridge.cli.remixing.present_model", take_preview)
    (home / "settings.toml").write_text('model = "htdemucs"\n')
    known = split_song(song, Path("remixes").absolute())
    other = write_song(Path("other.wav"), seed=2)
    assert main(["remix", str(song), str(other), "--preset", "karaoke"]) == 0
    daemon.adopt()
    # The first file's set is found once its model is known; the second file is split with that model.
    assert asked == [("htdemucs", False), ("preview", True)]
    assert str(known) in capsys.readouterr().out
    with daemon.client() as client:
        (job,) = client.jobs()
    assert (Path(job.source).name, job.tool) == ("other.wav", "preview")


class Splits:
    """Stands in for `run_splits`: each split ends as it is told to."""

    def __init__(self, outcome: Outcome | StembridgeError) -> None:
        self.outcome = outcome
        self.sources: list[str] = []
        self.file_names: list[str] = []
        self.precisions: list[Precision] = []

    def __call__(self, _client: object, requests: list[SplitRequest], **_: object) -> Outcome:
        self.sources += [Path(request.source).name for request in requests]
        self.file_names += [request.file_names for request in requests]
        self.precisions += [request.precision for request in requests]
        if isinstance(self.outcome, StembridgeError):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "code", "tried"),
    [
        (Outcome((), 73), 73, ["song.wav", "other.wav"]),
        (JobCancelled("cancelled"), 130, ["song.wav"]),
    ],
)
def test_a_split_that_fails_costs_its_remixes_and_one_that_is_cancelled_all(
    outcome: Outcome | StembridgeError,
    code: int,
    tried: list[str],
    song: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = Splits(outcome)
    monkeypatch.setattr("stembridge.cli.remixing.run_splits", splits)
    monkeypatch.setattr("stembridge.cli.remixing.announce", lambda *_: None)
    other = write_song(Path("other.wav"), seed=2)
    assert main(["remix", str(song), str(other), "--preset", "karaoke"]) == code
    assert splits.sources == tried and not Path("remixes").exists()


def test_a_preset_for_the_complement_wants_a_set_that_has_one(
    home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_preset(home / "presets" / "karaoke.toml", "[stems.no_vocals]\nsolo = true\n")
    split_song(song, Path("stems").absolute(), "htdemucs", job_id="full")
    assert main(["remix", str(song), "--use", "karaoke"]) == 1
    assert "model htdemucs is not on this machine" in capsys.readouterr().err
    pair = split_song(song, Path("stems").absolute(), "htdemucs", job_id="pair", two_stems="vocals")
    assert main(["remix", str(song), "--use", "karaoke"]) == 0
    assert str(pair) in capsys.readouterr().out


def test_a_use_without_a_preset_leaves_room_for_those_that_are_named(
    song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = split_song(song, Path("stems").absolute())
    assert main(["remix", str(song), "--use", "preview", "--preset", "drumless"]) == 0
    assert str(full) in capsys.readouterr().out
    assert list(find_remixes(Path("remixes"))) == ["drumless"]


def test_a_set_beside_the_usual_remixes_does_for_another_out(
    home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = split_song(song, Path("remixes").absolute())
    assert main(["remix", str(song), "--preset", "karaoke", "--out", "elsewhere"]) == 0
    assert f"its stems are there already, {folder}" in capsys.readouterr().out
    assert list(find_remixes(Path("elsewhere"))) == ["karaoke"] and not (home / "run").exists()


def test_what_is_no_audio_is_told_before_a_model_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "notes.wav").write_text("these are notes")
    assert main(["remix", "notes.wav", "--model", "htdemucs", "--preset", "karaoke"]) == 1
    said = capsys.readouterr().err
    assert "notes.wav" in said and "htdemucs" not in said


def test_a_set_that_lacks_a_file_is_told_like_a_damaged_one(
    stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in read_manifest(stems).stems:
        data = (stems / entry.file).read_bytes()
        (stems / entry.file).unlink()
        assert main(["remix", str(stems), "--preset", "karaoke"]) == 1
        said = capsys.readouterr().err
        assert entry.file in said and "split the original again" in said
        (stems / entry.file).write_bytes(data)


def test_a_set_of_fewer_stems_than_would_be_split_does_not_do(
    song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split_song(song, Path("stems").absolute(), "htdemucs", stems=("vocals",))
    assert main(["remix", str(song), "--model", "htdemucs", "--preset", "karaoke"]) == 1
    assert "model htdemucs is not on this machine" in capsys.readouterr().err


def test_what_is_set_stands_in_place_of_the_presets_own(
    stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--set", "vocals.gain_db=-6", "--match", "rms", "--ceiling", "-3", "--tail", "extend"]
    assert main(["remix", str(stems), "--preset", "vocals-up", *arguments]) == 0
    (folder,) = find_remixes(Path("remixes")).values()
    entry = read_manifest(folder).remix
    assert entry is not None and entry.gain_db > 0
    shown = capsys.readouterr().out
    assert "no stem is as it was" in shown and "sample for sample" not in shown
    Path("again.toml").write_text(entry.text)
    preset = read_preset(Path("again.toml"))
    assert preset.stems["vocals"].gain_db == -6
    assert (preset.master.match, preset.master.ceiling_dbtp, preset.is_extended) == ("rms", -3.0, True)


def test_a_preset_of_ones_own_is_a_path_and_everything_that_was_asked_for_is_there(
    stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_preset(
        Path("mine/air.toml"),
        """
        [stems.vocals]
        gain_db = 2
        wet = 0.5
        [[stems.vocals.effects]]
        kind = "high_shelf"
        gain_db = 6
        [[sends]]
        name = "hall"
        levels_db = {drums = -6}
        [[sends.effects]]
        kind = "reverb"
        [master]
        match = "lufs"
        ceiling_dbtp = -1
        """,
    )
    options = ["--stems-out", "--format", "wav24", "--mp3", "--report", "--speed", "0.8", "--out", "my out"]
    assert main(["remix", str(stems), "--preset", "mine/air.toml", *options]) == 0
    shown = capsys.readouterr().out
    (folder,) = find_remixes(Path("my out")).values()
    manifest = read_manifest(folder)
    assert {entry.name for entry in manifest.stems} == {
        "drums", "bass", "other", "vocals", "hall", "residual",
    }  # fmt: skip
    assert np.array_equal(sum(read_stems(folder).values()), read_remix(folder))
    assert (folder / "report.html").is_file() and str(folder / "report.html") in shown
    assert len(manifest.listening) == 2
    for entry in manifest.listening:
        assert entry.file in shown
    assert shown.count("practice/") == 1 and "warning" not in shown
    assert "vocals high_shelf, 50% wet, +2 dB; hall: a stem of its own from drums: reverb" in shown
    assert "untouched, bit for bit: no stem" in shown
    assert " dB, to be as loud as the original" in shown
    assert "sums to the remix, 'song - " in shown
    assert main(["null", str(folder)]) == 0


def test_files_are_called_as_the_option_says_or_else_the_settings(
    home: Path, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--stems-out", "--session", "rpp", "--session", "rpp", "--file-names", "{stem} {job8}"]
    assert main(["remix", str(stems), "--preset", "karaoke", "--preset", "drumless", *options]) == 0
    folders = find_remixes(Path("remixes"))
    for preset, folder in folders.items():
        names = {path.stem for path in folder.glob("*.wav")}
        assert {f"{preset} {folder.name[-8:]}", f"bass {folder.name[-8:]}"} <= names
        assert all(name.endswith(f" {folder.name[-8:]}") for name in names)
        assert [path.name for path in folder.glob("*.rpp")] == [f"song - {preset}.rpp"]
    (home / "settings.toml").write_text('model = "preview"\nfile_names = "{stem} of {name}"\n')
    assert main(["remix", str(stems), "--preset", "acapella", "--out", "usual"]) == 0
    (folder,) = find_remixes(Path("usual")).values()
    assert [path.name for path in folder.glob("*.wav")] == ["acapella of song.wav"]
    assert not list(folder.glob("*.rpp"))


def test_a_split_for_a_remix_and_a_batch_are_named_by_the_settings_too(
    home: Path, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "settings.toml").write_text(
        'model = "preview"\nfile_names = "{stem} of {name}"\nprecision = "half"\n'
    )
    splits = Splits(Outcome((), 73))
    monkeypatch.setattr("stembridge.cli.remixing.run_splits", splits)
    monkeypatch.setattr("stembridge.cli.remixing.announce", lambda *_: None)
    Path("remix.toml").write_text(
        'inputs = ["song.wav"]\npresets = ["karaoke"]\noutputs = [{folder = "out"}]\n'
    )
    for arguments in (
        ["song.wav", "--preset", "karaoke"],
        ["song.wav", "--preset", "karaoke", "--file-names", "{job8} {stem}"],
        ["--batch", "remix.toml"],
        ["song.wav", "--preset", "karaoke", "--precision", "full"],
    ):
        assert main(["remix", *arguments]) == 73
    assert splits.file_names == ["{stem} of {name}", "{job8} {stem}", "{stem} of {name}", "{stem} of {name}"]
    assert splits.precisions == ["half", "half", "half", "full"]
    read = read_batch(Path("remix.toml"), "preview", load_settings().file_names)
    assert read.outputs[0].file_names == "{stem} of {name}"


def test_a_session_that_needs_what_is_not_here_is_told_before_anything_is_split(
    home: Path, song: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aaf2", None)
    splits = Splits(Outcome((), 73))
    monkeypatch.setattr("stembridge.cli.remixing.run_splits", splits)
    assert main(["remix", str(song), "--preset", "karaoke", "--session", "aaf"]) == 1
    assert 'pip install "stembridge[aaf]"' in capsys.readouterr().err
    assert not splits.sources and not Path("remixes").exists() and not (home / "run").exists()


def test_what_does_not_fit_one_set_is_rendered_from_the_other(
    song: Path, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = split_song(song, Path("pairs").absolute(), two_stems="vocals")
    arguments = ["remix", str(pair), str(stems), "--preset", "drumless", "--preset", "karaoke"]
    assert main(arguments) == 3
    shown = capsys.readouterr()
    (said,) = [line for line in shown.err.splitlines() if line.startswith("stembridge:")]
    assert pair.name in said and "drumless" in said and "no_vocals" in said
    assert len(list(Path("remixes").iterdir())) == 3
    assert "remixes: 3 rendered, 1 failed" in shown.out


def test_a_preset_that_no_split_could_serve_is_told_before_anything_is_split(
    home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["remix", str(song), "--preset", "practice-minus-piano"]) == 1
    assert "piano" in capsys.readouterr().err
    assert not (home / "run").exists() and not Path("remixes").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["STEMS"], 2, "name a --preset"),
        (["STEMS", "--use", "preview"], 2, "name a --preset"),
        (["STEMS", "--use", "karaoki"], 1, "did you mean karaoke"),
        (["STEMS", "--use", "karaoke", "--preset", "drumless"], 2, "leave out --preset, or --use remix"),
        (["STEMS", "--preset", "karaoke", "--model", "htdemucs"], 2, "--model is for an INPUT to split"),
        (["STEMS", "--preset", "karaoke", "--shifts", "1"], 2, "--shifts is for an INPUT to split"),
        (["STEMS", "song.wav", "--preset", "karaoke", "--model", "htdemuks"], 1, "htdemuks"),
        (["STEMS", "song.wav", "--preset", "karaoke", "--shifts", "900"], 1, "shifts 900"),
        (["STEMS", "song.wav", "--preset", "karaoke", "--overlap", "0.99"], 1, "overlap 0.99"),
        (["--batch", "/dev/zero"], 1, "no regular file"),
        (["--preset", "karaoke"], 2, "name audio files or folders"),
        (["STEMS", "--batch", "remix.toml"], 2, "inputs beside --batch"),
        (["--batch", "remix.toml", "--preset", "karaoke"], 2, "presets beside --batch"),
        (["--batch", "remix.toml"], 1, "remix.toml"),
        (["STEMS", "--preset", "karaok"], 1, "karaoke"),
        (["STEMS", "--preset", "nowhere.toml"], 1, "nowhere.toml"),
        (["STEMS", "--preset", "karaoke", "--set", "vocals.gain_db=loud"], 1, "vocals.gain_db=loud"),
        (["STEMS", "--preset", "karaoke", "--ceiling", "3"], 1, "ceiling_dbtp"),
        (["STEMS", "--preset", "karaoke", "--match", "loud"], 2, "loud"),
        (["STEMS", "--preset", "karaoke", "--speed", "0"], 1, "speed"),
        (["STEMS", "--preset", "karaoke", "--out", "song.wav"], 73, "song.wav"),
        (["song.wav", "--preset", "karaoke", "--pitch", "25"], 1, "pitch 25"),
        (["song.wav", "--preset", "karaoke", "--file-names", "{name}"], 1, "without {stem}"),
        (["STEMS", "--preset", "karaoke", "--session", "als"], 2, "als"),
        (["nowhere.wav", "--preset", "karaoke"], 1, "nowhere.wav"),
        ([".", "--preset", "karaoke"], 1, "stems.json"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    arguments: list[str], code: int, words: str, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(stems) if argument == "STEMS" else argument for argument in arguments]
    assert main(["remix", *given]) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    if code != 2:
        assert len([line for line in said.splitlines() if line.startswith("stembridge:")]) == 1
    assert not Path("remixes").exists()


def test_a_damaged_set_is_refused_and_nothing_is_left(
    stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bass = stems / "song - bass.wav"
    data = bytearray(bass.read_bytes())
    data[len(data) // 2] ^= 1
    bass.write_bytes(data)
    assert main(["remix", str(stems), "--preset", "karaoke"]) == 1
    assert "'song - bass.wav' is not what was written" in capsys.readouterr().err
    assert not Path("remixes").exists()


def test_on_a_terminal_the_bar_goes_and_the_result_stays(stems: Path) -> None:
    with Terminal(
        "remix", str(stems), "--preset", "karaoke", "--preset", "acapella", columns=100
    ) as terminal:
        code, _, screen = terminal.finish()
    assert code == 0 and "karaoke of song" in terminal.text
    lines = [line for line in screen if line.strip()]
    assert lines[0] == "song.wav, karaoke" and lines[-1] == "remixes: 2 rendered"
    assert not any("%" in line for line in lines)


Render = Callable[..., Generator[Progress, None, SplitResult]]


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_nothing_half_written(
    request: pytest.FixtureRequest,
    signal_: signal.Signals,
    stems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from stembridge.mixdown import render

    whole: Render = render.render_remix
    seen: list[bool] = []

    def interrupted(asked: RemixRequest, *rest: Any) -> Generator[Progress, None, SplitResult]:
        steps = whole(asked, *rest)
        if Path(asked.preset).stem == "karaoke":
            return (yield from steps)
        try:
            yield next(steps)
            seen.append(Path(asked.out).exists())
            signal.raise_signal(signal_)
            return (yield from steps)
        finally:
            steps.close()

    monkeypatch.setattr(render, "render_remix", interrupted)
    # A test run in the background is begun with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    assert main(["remix", str(stems), "--preset", "karaoke", "--preset", "acapella"]) == 130
    said = capfd.readouterr().err
    assert said.index("cancelling ...") < said.index("nothing half-written is left")
    assert seen == [True]
    assert [path.name for path in Path("remixes").iterdir()] == [
        folder.name for folder in find_remixes(Path("remixes")).values()
    ]


def test_what_the_system_refuses_costs_one_remix_alone(
    stems: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stembridge.mixdown import render

    whole: Render = render.render_remix

    def refused(request: RemixRequest, *rest: Any) -> Generator[Progress, None, SplitResult]:
        if request.preset == "karaoke":
            raise PermissionError(13, "Permission denied", "a place")
        return (yield from whole(request, *rest))

    monkeypatch.setattr(render, "render_remix", refused)
    assert main(["remix", str(stems), "--preset", "karaoke", "--preset", "acapella"]) == 3
    assert "'a place': Permission denied" in capsys.readouterr().err
    assert list(find_remixes(Path("remixes"))) == ["acapella"]


def test_the_files_of_a_remix_and_what_a_ceiling_takes_are_shown(
    stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["remix", str(stems), "--preset", "karaoke", "--ceiling", "-12", "--stems-out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"the ceiling takes off \d+\.\d dB at most", line) for line in lines)
    assert any(line.startswith("karaoke ") and "song - karaoke.wav" in line for line in lines)
    assert any(line.startswith("sums to the remix, 'song - karaoke.wav', exactly") for line in lines)


def test_what_is_named_twice_is_rendered_once(stems: Path) -> None:
    assert main(["remix", str(stems), str(stems), "--preset", "karaoke", "--preset", "karaoke"]) == 0
    assert len(list(Path("remixes").iterdir())) == 1


def test_every_result_and_every_error_is_a_line_of_json(
    song: Path, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = split_song(song, Path("pairs").absolute(), two_stems="vocals")
    assert main(["remix", str(stems), str(pair), "--preset", "drumless", "--json"]) == 3
    shown = capsys.readouterr()
    done, error = map(json.loads, shown.out.splitlines())
    assert done["state"] == "done" and done["remix"]["preset"] == "drumless"
    assert Path(done["result"]["folder"]).parent == Path("remixes").absolute()
    assert (error["source"], error["preset"], error["error"]) == (str(pair), "drumless", "bad_preset")
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["STEMS", "--preset", "karaok"], 1, "bad_preset"),
        (["STEMS", "--use", "karaoki"], 1, "bad_request"),
        (["song.wav", "--preset", "karaoke", "--shifts", "900"], 1, "bad_request"),
        (["--batch", "nowhere.toml"], 1, "bad_request"),
    ],
)
def test_an_error_before_anything_is_done_is_a_line_of_json_too(
    arguments: list[str], code: int, kind: str, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(stems) if argument == "STEMS" else argument for argument in arguments]
    assert main(["remix", *given, "--json"]) == code
    shown = capsys.readouterr()
    (line,) = map(json.loads, shown.out.splitlines())
    assert (line["source"], line["preset"], line["error"]) == (None, None, kind)
    assert line["message"] and line["hint"] and shown.err == ""


def test_the_end_of_all_by_ctrl_c_is_a_line_of_json(
    song: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stembridge.cli.remixing.run_splits", Splits(JobCancelled("cancelled")))
    assert main(["remix", str(song), "--preset", "karaoke", "--json"]) == 130
    shown = capsys.readouterr()
    (line,) = map(json.loads, shown.out.splitlines())
    assert (line["error"], line["message"]) == ("cancelled", "cancelled") and shown.err == ""


# --- batches --------------------------------------------------------------------------------------------


@pytest.fixture
def batch(song: Path, here: Path) -> Path:
    """Two songs with their sets, a preset of one's own, and two outputs."""
    other = write_song(here / "other.wav", seed=2)
    split_song(song, here / "stems", job_id="song")
    split_song(other, here / "stems", job_id="other")
    write_preset(here / "mine.toml", "[stems.bass]\ngain_db = 3\n")
    path = here / "remix.toml"
    path.write_text(
        dedent(
            """
            inputs = ["*.wav"]
            presets = ["karaoke", "mine.toml"]
            [[outputs]]
            folder = "one"
            [[outputs]]
            folder = "two"
            stems_out = true
            """
        )
    )
    return path


def run_batch(path: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["remix", "--batch", str(path)]) == code
    shown = capsys.readouterr()
    return shown.out, shown.err


def list_results(here: Path) -> dict[str, int]:
    """Return when each result was published."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for out in ("one", "two")
        for path in here.glob(f"{out}/*/*.json")
    }


def test_a_batch_renders_all_of_it_and_a_second_time_nothing(
    batch: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 8 rendered" in shown
    assert len(list((here / "one").iterdir())) == len(list((here / "two").iterdir())) == 4
    before = list_results(here)
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 8 there already" in shown and shown.count("there already, ") == 8
    assert list_results(here) == before


def test_a_batch_goes_on_where_it_was(batch: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_batch(batch, capsys)
    gone = sorted((here / "one").iterdir())[0]
    (gone / "stems.json").unlink()
    before = list_results(here)
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 1 rendered, 7 there already" in shown
    after = list_results(here)
    assert set(after) - set(before) == {gone.name} and before.items() <= after.items()


def test_what_was_changed_is_rendered_again(
    batch: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_batch(batch, capsys)
    write_preset(here / "mine.toml", "[stems.bass]\ngain_db = 4\n")
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 4 rendered, 4 there already" in shown
    write_song(here / "other.wav", seed=3)
    split_song(here / "other.wav", here / "stems", job_id="again")
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 4 rendered, 4 there already" in shown


def test_one_failure_stops_nothing(batch: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a bad one.wav").write_text("this is no audio")
    shown, said = run_batch(batch, capsys, code=3)
    assert "remixes: 8 rendered, 1 failed" in shown
    assert "a bad one.wav" in said


def test_a_finished_batch_needs_neither_sets_nor_daemon(
    batch: Path, here: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_batch(batch, capsys)
    for path in (here / "stems").glob("*/*"):
        path.unlink()
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 8 there already" in shown
    assert not (home / "run").exists()


def test_a_wrong_preset_ends_a_batch_before_it_begins(
    batch: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.toml").write_text("[preset]\nname = 3\n")
    _, said = run_batch(batch, capsys, code=1)
    assert "mine.toml" in said and not (here / "one").exists()


@pytest.mark.parametrize("spelling", ["one", "two", "stems/../two", "link"])
def test_two_batches_do_not_fill_one_folder(
    spelling: str, batch: Path, here: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "link").symlink_to(here / "two")
    lock = FileLock(lock_path(load_settings(home=home), here / spelling))
    assert lock.acquire()
    _, said = run_batch(batch, capsys, code=73)
    assert "is being filled by another batch" in said
    assert not (here / "one").exists() and not (here / "two").exists()
    lock.release()


def test_a_batch_locks_one_folder_once_however_its_outputs_spell_it(
    batch: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch.write_text(batch.read_text().replace('"one"', '"stems/../two"'))
    shown, _ = run_batch(batch, capsys)
    assert "remixes: 8 rendered" in shown and len(list((here / "two").iterdir())) == 8


def test_a_remix_that_was_changed_is_not_taken_for_what_was_rendered(
    batch: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_batch(batch, capsys)
    (file,) = (here / "one").glob("*karaoke*/song - karaoke.wav")
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    shown, said = run_batch(batch, capsys, code=3)
    assert "remixes: 7 there already, 1 failed" in shown
    assert "song.wav, karaoke: " in said and "exists and was changed" in said


def test_a_batch_splits_what_is_not_split(
    daemon: DaemonHarness, batch: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (here / "stems").glob("*/stems.json"):
        if "other" in path.parent.name:
            path.unlink()
    shown, _ = run_batch(batch, capsys)
    daemon.adopt()
    assert "remixes: 8 rendered" in shown
    with daemon.client() as client:
        (job,) = client.jobs()
    assert Path(job.source).name == "other.wav" and Path(job.out) == here / "one"


# --- docs/remix.md --------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "remix.md").read_text("utf-8")


def test_every_option_on_the_page_is_one_of_the_command() -> None:
    known = {name for parameter in remix.params for name in parameter.opts}
    told = set(re.findall(r"--[a-z][a-z0-9-]+", PAGE))
    assert told - known == set()
    untold = {"--yes", "--model-dir"}
    assert {name for name in known if name.startswith("--")} - told <= untold


def test_the_batch_file_on_the_page_can_be_read(here: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    write_song(here / "songs" / "a.wav")
    (here / "remix.toml").write_text(text)
    read = read_batch(here / "remix.toml", "preview")
    assert len(read.inputs) == 2 and len(read.variants) == 2 and len(read.outputs) == 2
    keys = {field.name for field in fields(Output)}
    assert all(f"`{key}`" in PAGE for key in keys)
