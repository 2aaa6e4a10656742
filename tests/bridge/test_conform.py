"""Stems of other programs: named by their files, placed, closed, and a set that nulls like any other."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner
from numpy.typing import NDArray

from daemon_harness import wait_until
from signals import write_float
from stembridge.cli.conform import conform as conform_command
from stembridge.cli.conform import format_alignment, locate, read_names
from stembridge.conform import Delivery, conform, name_stems
from stembridge.dsp.delay_line import make_reader
from stembridge.errors import AlignmentError, RequestError, SourceError, StembridgeError
from stembridge.manifest import AlignmentEntry, Manifest, job8, read_manifest
from stembridge.null_test import check_result
from stembridge.stem_file import read_stem, write_mp3
from stembridge.synthesis import make_song
from stembridge.types import ResidualPolicy, SplitResult

Signal = NDArray[np.float64]

RATE = 44_100


@cache
def song() -> dict[str, Signal]:
    return make_song(3, seconds=8.0, sample_rate=RATE).stems


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    path = tmp_path / "my song.wav"
    soundfile.write(path, np.sum(list(song().values()), axis=0).T, RATE, subtype="PCM_24")
    return path


def late(signal: Signal, frames: int, length: int | None = None) -> Signal:
    return make_reader(signal)(-frames, length or signal.shape[1])


def write_stems(
    folder: Path, delay: int = 0, polarity: float = 1.0, others: dict[str, Signal] | None = None
) -> dict[str, Path]:
    stems = {name: polarity * late(stem, delay) for name, stem in song().items()} | (others or {})
    return {name: write_float(folder / f"my song - {name}.wav", stem, RATE) for name, stem in stems.items()}


def run(mixture: Path, stems: dict[str, Path], out: Path, **options: object) -> tuple[SplitResult, Manifest]:
    """Return what `conform` returns; its progress must rise and its set must null."""
    steps = conform(mixture, stems, out, now=lambda: 0.0, **options)  # type: ignore[arg-type]
    fractions = [0.0]
    while True:
        try:
            fractions.append(next(steps).fraction)
        except StopIteration as stop:
            result: SplitResult = stop.value
            break
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1.0
    report = check_result(result.folder)
    assert report.holds, report.failures
    assert report.error_f64 == 0.0
    assert [path.name for path in out.iterdir()] == [Path(result.folder).name]
    return result, read_manifest(Path(result.folder))


def read_back(result: SplitResult, name: str) -> Signal:
    (path,) = Path(result.folder).glob(f"* - {name}.*")
    return read_stem(path)[0]


def by_name(manifest: Manifest) -> dict[str, AlignmentEntry]:
    return {entry.name: entry for entry in manifest.alignment}


def residual_db(manifest: Manifest) -> float:
    assert manifest.residual.level_db is not None
    return manifest.residual.level_db


# --- placed, cut, closed --------------------------------------------------------------------------------


def test_stems_in_their_place_come_through_sample_for_sample(mixture: Path, tmp_path: Path) -> None:
    stems = write_stems(tmp_path)
    result, manifest = run(mixture, stems, tmp_path / "out")
    assert [entry.name for entry in manifest.stems] == ["drums", "bass", "other", "vocals", "residual"]
    assert {entry.decision for entry in manifest.alignment} == {"aligned"}
    assert manifest.model.name == "conform"
    for name, path in stems.items():
        given, _ = soundfile.read(path, always_2d=True)
        assert np.abs(read_back(result, name) - given.T).max() <= 2.0**-24
    assert residual_db(manifest) < -120
    assert manifest.warnings == ()


@pytest.mark.parametrize(("delay", "polarity"), [(1_105, 1.0), (-800, -1.0)])
def test_displaced_stems_are_moved_back_and_told_of(
    mixture: Path, tmp_path: Path, delay: int, polarity: float
) -> None:
    result, manifest = run(mixture, write_stems(tmp_path, delay, polarity), tmp_path / "out")
    for name, entry in by_name(manifest).items():
        assert (entry.delay_frames, entry.polarity) == (float(delay), int(polarity))
        assert entry.decision in ("corrected", "inherited")
        inside = slice(0, -delay) if delay > 0 else slice(-delay, None)
        error = read_back(result, name)[:, inside] - song()[name][:, inside]
        assert np.abs(error).max() <= 2.0**-23
    if delay > 0:
        wanted = f"vocals: {delay} frames cut off at its start, {delay} frames of silence added at its end"
    else:
        wanted = f"vocals: {-delay} frames of silence added at its start, {-delay} frames cut off at its end"
    assert wanted in manifest.warnings
    assert wanted in result.warnings


def test_a_broken_delay_is_taken_out(mixture: Path, tmp_path: Path) -> None:
    """Half a frame leaves much of the drums behind; taken out, what lies above 0.45 of the rate."""
    size = 1 << 19
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size * 0.5)
    stems = {
        name: np.fft.irfft(np.fft.rfft(stem, size) * turn, size)[:, : stem.shape[1]]
        for name, stem in song().items()
    }
    paths = write_stems(tmp_path, others=stems)
    _, moved = run(mixture, paths, tmp_path / "out")
    _, left = run(mixture, paths, tmp_path / "left", as_is=True)
    assert residual_db(moved) < -38
    assert residual_db(left) > -20
    for entry in moved.alignment:
        assert abs(entry.delay_frames - 0.5) < 0.01


def test_another_rate_length_and_word_length(mixture: Path, tmp_path: Path) -> None:
    """As an editor at 48 kHz exports them: 16 bits, a second longer."""
    paths = {}
    for name, stem in song().items():
        longer = soxr.resample(late(stem, 0, stem.shape[1] + RATE).T, RATE, 48_000, quality="VHQ")
        paths[name] = tmp_path / f"my song - {name}.flac"
        soundfile.write(paths[name], longer, 48_000, subtype="PCM_16")
    result, manifest = run(mixture, paths, tmp_path / "out")
    assert {entry.decision for entry in manifest.alignment} == {"aligned"}
    assert any("frames cut off at its end" in warning for warning in manifest.warnings)
    rest = np.abs(np.fft.rfft(read_back(result, "residual")[:, 4_096:-4_096])) ** 2
    whole = np.abs(np.fft.rfft(np.sum(list(song().values()), axis=0)[:, 4_096:-4_096])) ** 2
    audible = slice(0, int(19_500 / RATE * (song()["vocals"].shape[1] - 8_192)))
    assert 10 * np.log10(rest[:, audible].sum() / whole.sum()) < -75
    assert read_back(result, "vocals").shape == song()["vocals"].shape


def test_the_last_frames_of_a_stem_at_another_rate_are_there(tmp_path: Path) -> None:
    def tone(rate: int) -> Signal:
        return np.asarray(0.5 * np.sin(2 * np.pi * 441 * np.arange(rate) / rate)[None])

    mixture = write_float(tmp_path / "song.wav", tone(RATE), RATE)
    stem = write_float(tmp_path / "tone.wav", tone(48_000), 48_000)
    result, manifest = run(mixture, {"tone": stem}, tmp_path / "out", as_is=True)
    assert np.abs(read_back(result, "residual")[:, -500:]).max() < 0.02
    assert residual_db(manifest) < -50


def test_an_mp3_round_trip_without_its_tag(mixture: Path, tmp_path: Path) -> None:
    """A decoder that passes over the tag of an MP3 gives 1105 frames before the first."""
    paths = {}
    for name, stem in song().items():
        mp3 = tmp_path / f"{name}.mp3"
        with mp3.open("xb") as file:
            deque(write_mp3(file, [stem], 2, RATE, stem.shape[1]), maxlen=0)
        decoded, _ = soundfile.read(mp3, always_2d=True)
        paths[name] = write_float(tmp_path / f"{name}.wav", late(decoded.T, 1_105), RATE)
    _, manifest = run(mixture, paths, tmp_path / "out")
    for entry in manifest.alignment:
        assert abs(entry.delay_frames - 1_105) < 0.01
        assert entry.decision in ("corrected", "inherited")
    assert residual_db(manifest) < -15


def test_a_lossy_mixture_and_its_tagged_stems(tmp_path: Path) -> None:
    mixture = np.sum(list(song().values()), axis=0)
    paths = {}
    for name, samples in ({"song": mixture} | song()).items():
        paths[name] = tmp_path / f"{name}.mp3"
        with paths[name].open("xb") as file:
            deque(write_mp3(file, [samples], 2, RATE, samples.shape[1]), maxlen=0)
    _, manifest = run(paths.pop("song"), paths, tmp_path / "out")
    assert manifest.mixture is not None
    assert {entry.decision for entry in manifest.alignment} == {"aligned"}


def test_a_mono_stem_stands_on_both_sides_of_a_stereo_mixture(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    voice = song()["vocals"].mean(axis=0, keepdims=True)
    band = song()["drums"] + 0.01 * draw.standard_normal(song()["drums"].shape)
    mixture = write_float(tmp_path / "song.wav", band + voice, RATE)
    paths = {
        "vocals": write_float(tmp_path / "vocals.wav", late(voice, 90), RATE),
        "band": write_float(tmp_path / "band.wav", late(band, 90), RATE),
    }
    result, manifest = run(mixture, paths, tmp_path / "out")
    left, right = read_back(result, "vocals")
    assert np.array_equal(left, right)
    assert residual_db(manifest) < -40


def test_stems_that_are_left_out_are_in_the_residual(mixture: Path, tmp_path: Path) -> None:
    stems = write_stems(tmp_path, 100)
    result, manifest = run(mixture, {"drums": stems["drums"], "vocals": stems["vocals"]}, tmp_path / "out")
    rest = song()["bass"] + song()["other"]
    assert np.abs(read_back(result, "residual")[:, 200:-200] - rest[:, 200:-200]).max() < 1e-5
    assert [entry.name for entry in manifest.alignment] == ["drums", "vocals"]


def test_a_silent_stem_does_not_stop_the_others(mixture: Path, tmp_path: Path) -> None:
    stems = write_stems(tmp_path, 40, others={"guitar": np.zeros_like(song()["drums"])})
    _, manifest = run(mixture, stems, tmp_path / "out")
    guitar = by_name(manifest)["guitar"]
    assert (guitar.decision, guitar.delay_frames, guitar.delay_se) == ("inherited", 40.0, None)


def test_formats_and_policies_are_those_of_a_split(mixture: Path, tmp_path: Path) -> None:
    delivery = Delivery("flac24", residual=ResidualPolicy.EQUAL, mp3=True)
    result, manifest = run(mixture, write_stems(tmp_path), tmp_path / "out", delivery=delivery)
    assert [entry.name for entry in manifest.stems] == ["drums", "bass", "other", "vocals"]
    assert {Path(entry.file).suffix for entry in manifest.stems} == {".flac"}
    assert len(list((Path(result.folder) / "mp3").iterdir())) == 4


def test_files_are_named_as_asked(mixture: Path, tmp_path: Path) -> None:
    delivery = Delivery(file_names="{stem} ({model}) {job8}")
    result, manifest = run(mixture, write_stems(tmp_path), tmp_path / "out", delivery=delivery, job_id="a")
    assert manifest.stems[0].file == f"drums (conform) {job8('a')}.wav"
    assert {entry.file for entry in manifest.stems} < {path.name for path in Path(result.folder).iterdir()}


@pytest.mark.parametrize(
    "delivery", [Delivery(file_names="{name}"), Delivery(sessions=("als",))], ids=["names", "sessions"]
)
def test_names_and_sessions_that_cannot_be_are_refused(
    delivery: Delivery, mixture: Path, tmp_path: Path
) -> None:
    error = fail(mixture, write_stems(tmp_path), tmp_path / "out", delivery=delivery)
    assert isinstance(error, RequestError) and error.hint


def test_the_same_job_gives_the_same_bytes(mixture: Path, tmp_path: Path) -> None:
    stems = write_stems(tmp_path, 33)
    sets = [run(mixture, stems, tmp_path / f"out {turn}", job_id="a")[1] for turn in range(2)]
    assert sets[0] == sets[1]


# --- refused --------------------------------------------------------------------------------------------


def fail(mixture: Path, stems: dict[str, Path], out: Path, **options: object) -> StembridgeError:
    """Return the error; nothing may be left behind."""
    with pytest.raises(StembridgeError) as caught:
        run(mixture, stems, out, **options)
    assert not out.exists()
    return caught.value


def test_a_stem_of_another_recording_is_refused_by_name_unless_taken_as_it_lies(
    mixture: Path, tmp_path: Path
) -> None:
    foreign = make_song(9, seconds=8.0, sample_rate=RATE).stems["vocals"]
    stems = write_stems(tmp_path, others={"vocals": foreign})
    error = fail(mixture, stems, tmp_path / "out")
    assert isinstance(error, AlignmentError)
    assert "vocals" in error.message
    assert str(stems["vocals"]) in error.message
    assert "too little of it is in the mixture" in error.message
    assert "--as-is" in error.hint
    result, manifest = run(mixture, stems, tmp_path / "out", as_is=True)
    assert manifest.alignment == ()
    assert np.abs(read_back(result, "vocals") - foreign).max() <= 2.0**-23


def test_all_stems_that_cannot_be_placed_are_named(mixture: Path, tmp_path: Path) -> None:
    foreign = make_song(9, seconds=8.0, sample_rate=RATE).stems
    error = fail(mixture, write_stems(tmp_path, others=foreign), tmp_path / "out")
    for name in song():
        assert f"{name} (" in error.message
    assert error.message.count("cannot be placed: ") == 4
    assert "the others" not in error.message


def stretched(signal: Signal) -> Signal:
    """Return ``signal`` slower by 0.2 %."""
    return late(soxr.resample(signal.T, RATE, RATE * 1.002).T, 0, signal.shape[1])


@pytest.mark.parametrize(("seed", "culprit"), [(5, "drums"), (7, "drums"), (1, "vocals")])
def test_a_stem_that_spoils_what_is_told_of_the_others_is_the_one_named(
    tmp_path: Path, seed: int, culprit: str
) -> None:
    """The others lie in place, bit for bit."""
    stems = dict(make_song(seed, seconds=8.0, sample_rate=RATE).stems)
    mixture = write_float(tmp_path / "my song.wav", np.sum(list(stems.values()), axis=0), RATE)
    stems[culprit] = stretched(stems[culprit])
    error = fail(mixture, write_stems(tmp_path, others=stems), tmp_path / "out")
    assert isinstance(error, AlignmentError)
    assert error.message.startswith(f"{culprit} (")
    assert error.message.endswith("; the others can be placed")
    assert [name for name in stems if f"{name} ('" in error.message] == [culprit]
    assert f"leave out {culprit};" in error.hint


def test_two_stems_of_another_recording_are_named_and_no_other(mixture: Path, tmp_path: Path) -> None:
    foreign = make_song(9, seconds=8.0, sample_rate=RATE).stems
    others = {name: foreign[name] for name in ("bass", "vocals")}
    error = fail(mixture, write_stems(tmp_path, others=others), tmp_path / "out")
    assert [name for name in song() if f"{name} (" in error.message] == ["bass", "vocals"]
    assert error.message.endswith("; the others can be placed")
    assert "leave out bass, vocals;" in error.hint or "leave out vocals, bass;" in error.hint


@pytest.mark.parametrize(("delay", "polarity"), [(0, 1.0), (250, -1.0)])
def test_two_files_of_the_same_content_are_told(
    mixture: Path, tmp_path: Path, delay: int, polarity: float
) -> None:
    twin = polarity * late(song()["vocals"], delay)
    error = fail(mixture, write_stems(tmp_path, others={"lead": twin}), tmp_path / "out")
    assert "hold the same thing" in error.message
    assert "cannot be placed" not in error.message
    assert error.message.endswith("; the others can be placed")
    assert "drums" not in error.message
    assert "vocals (" in error.message
    assert "lead (" in error.message


@pytest.mark.parametrize("delay", [88_200, -6_000])
def test_stems_far_off_are_moved_back(mixture: Path, tmp_path: Path, delay: int) -> None:
    _, manifest = run(mixture, write_stems(tmp_path, delay), tmp_path / "out")
    for entry in manifest.alignment:
        assert entry.delay_frames == delay, entry


@pytest.mark.parametrize(("channels", "mix_channels"), [(2, 1), (3, 2), (1, 4), (2, 4)])
def test_other_channels_than_the_mixtures_are_refused(
    tmp_path: Path, channels: int, mix_channels: int
) -> None:
    draw = np.random.default_rng(0)
    mixture = write_float(tmp_path / "mix.wav", 0.1 * draw.standard_normal((mix_channels, 9_000)), RATE)
    stem = write_float(tmp_path / "stem.wav", 0.1 * draw.standard_normal((channels, 9_000)), RATE)
    error = fail(mixture, {"stem": stem}, tmp_path / "out")
    assert isinstance(error, SourceError)
    assert f"has {channels} channels, the mixture {mix_channels}" in error.message


def test_a_bad_sample_is_named_with_its_file(mixture: Path, tmp_path: Path) -> None:
    bad = song()["bass"].copy()
    bad[1, 777] = np.nan
    error = fail(mixture, write_stems(tmp_path, others={"bass": bad}), tmp_path / "out")
    assert "bass.wav" in error.message
    assert "777" in error.message


def test_the_mixture_is_no_stem_of_itself(mixture: Path, tmp_path: Path) -> None:
    assert isinstance(fail(mixture, {"all": mixture}, tmp_path / "out"), RequestError)


def test_a_missing_file_is_named(mixture: Path, tmp_path: Path) -> None:
    assert "gone.wav" in fail(mixture, {"drums": tmp_path / "gone.wav"}, tmp_path / "out").message
    assert "gone.wav" in fail(tmp_path / "gone.wav", {"drums": mixture}, tmp_path / "out").message


def test_closing_the_generator_cancels_and_leaves_nothing(mixture: Path, tmp_path: Path) -> None:
    stems = write_stems(tmp_path)
    for stage in ("read", "close", "verify"):
        steps = conform(mixture, stems, tmp_path / "out")
        while next(steps).stage != stage:
            pass
        steps.close()
        assert not (tmp_path / "out").exists()


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("song_name", "files", "names"),
    [
        ("song.wav", ["song - vocals.wav", "song - drums.wav"], ["vocals", "drums"]),
        ("song.wav", ["vocals.wav"], ["vocals"]),
        ("song.wav", ["song_vocals.flac"], ["vocals"]),
        ("song.wav", ["1_song_(Vocals).wav", "1_song_(Instrumental).wav"], ["vocals", "instrumental"]),
        ("song.wav", ["1_song_(Vocals)_htdemucs.wav", "1_song_(Bass)_htdemucs.wav"], ["vocals", "bass"]),
        ("song (live).wav", ["song (live) - drums.wav", "song (live) - bass.wav"], ["drums", "bass"]),
        ("a mix.wav", ["take 3 Bass.wav", "take 3 Drums.wav"], ["bass", "drums"]),
        ("mix.wav", ["drums final.wav", "lead vox final.wav"], ["drums", "lead vox"]),
        ("mix.wav", ["01 Drums.wav", "02 Bass.wav"], ["drums", "bass"]),
        ("mix.wav", ["Drums.wav", "BASS.aiff"], ["drums", "bass"]),
        ("mix.wav", ["no_vocals.wav", "vocals.wav"], ["no_vocals", "vocals"]),
        ("song.wav", ["stems/song.wav", "vocals.wav"], ["song", "vocals"]),
        ("mix.wav", ["2.wav", "3.wav"], ["2", "3"]),
        ("曲.wav", ["曲 - ボーカル.wav", "曲 - ドラム.wav"], ["ボーカル", "ドラム"]),
    ],
)
def test_names_are_what_the_files_do_not_share(song_name: str, files: list[str], names: list[str]) -> None:
    assert list(name_stems(Path(song_name), [Path(file) for file in files])) == names


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        (["a/vocals.wav", "b/vocals.wav"], "both be the stem 'vocals'"),
        (["residual.wav"], "'residual'"),
        (["song - mixture.wav", "song - drums.wav"], "the set itself uses that name"),
        (["Mixture.wav"], "'mixture': the set itself uses that name"),
    ],
)
def test_names_that_cannot_be_are_refused_with_the_way_out(files: Sequence[str], wrong: str) -> None:
    with pytest.raises(RequestError, match="NAME=FILE") as caught:
        name_stems(Path("song.wav"), [Path(file) for file in files])
    assert wrong in caught.value.message


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        (
            "song - residual.wav",
            "leave it out where it comes from a set: what it holds is in the new residual",
        ),
        (
            "song - mixture.wav",
            "leave it out where it comes from a set: what it holds is what the stems sum to",
        ),
        ("other.wav", "name it otherwise"),
    ],
)
def test_a_name_of_the_set_itself_is_told_with_what_to_do(tmp_path: Path, file: str, advice: str) -> None:
    for name in ("mixture", "Residual"):
        with pytest.raises(RequestError) as caught:
            next(conform(tmp_path / "song.wav", {name: tmp_path / file}, tmp_path / "out"))
        assert f"cannot be the stem {name!r}: the set itself uses that name" in caught.value.message
        assert caught.value.hint.startswith(advice)


def test_paths_are_told_without_detours_and_links_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "vocals.wav").symlink_to("take.wav")
    monkeypatch.chdir(tmp_path / "a" / "b")
    here = tmp_path.resolve()
    named = read_names(Path("song.wav"), ["../vocals.wav", "lead=../../x/../c.wav", "drums.wav"])
    assert named == {
        "lead": here / "c.wav",
        "vocals": here / "a" / "vocals.wav",
        "drums": here / "a" / "b" / "drums.wav",
    }
    assert locate(Path("..")) == here / "a"
    assert locate(Path()) == here / "a" / "b"


def test_a_name_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.wav").touch()
    named = read_names(Path("song.wav"), ["lead=x/take1.wav", "song - drums.wav", "a=b.wav"])
    assert {name: path.name for name, path in named.items()} == {
        "lead": "take1.wav",
        "drums": "song - drums.wav",
        "a=b": "a=b.wav",
    }
    with pytest.raises(RequestError, match="twice"):
        read_names(Path("song.wav"), ["drums=x.wav", "drums=y.wav"])
    with pytest.raises(RequestError, match="twice"):
        read_names(Path("song.wav"), ["drums=x.wav", "drums.wav"])


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_prints_where_every_stem_was_and_the_set(mixture: Path, tmp_path: Path) -> None:
    paths = write_stems(tmp_path, 512, -1.0)
    out = tmp_path / "sets"
    told = CliRunner().invoke(conform_command, [str(mixture), *map(str, paths.values()), "--out", str(out)])
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert re.split("  +", lines[0]) == ["stem", "delay (frames)", "error (frames)", "polarity", "decision"]
    assert [line.split()[:2] for line in lines[1:5]] == [
        [name, "512.00"] for name in ("drums", "bass", "other", "vocals")
    ]
    assert all(line.split()[3] == "-" for line in lines[1:5])
    assert "residual" in told.stdout
    (folder,) = out.iterdir()
    assert str(folder) in told.stdout
    assert check_result(folder).holds


def test_the_command_takes_stems_as_they_lie(mixture: Path, tmp_path: Path) -> None:
    paths = write_stems(tmp_path, 512)
    arguments = [str(mixture), f"Lead={paths['vocals']}", "--as-is", "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(conform_command, [*arguments, "--format", "wav32f"])
    assert told.exit_code == 0, told.output
    assert "polarity" not in told.stdout
    (folder,) = (tmp_path / "out").iterdir()
    assert [entry.name for entry in read_manifest(folder).stems] == ["Lead", "residual"]


def test_the_command_makes_mono_stems_and_listening_copies(mixture: Path, tmp_path: Path) -> None:
    paths = write_stems(tmp_path)
    arguments = [str(mixture), *map(str, paths.values()), "--out", str(tmp_path / "out"), "--as-is", "--mp3"]
    told = CliRunner().invoke(conform_command, [*arguments, "--mono", "bass, vocals"])
    assert told.exit_code == 0, told.output
    (folder,) = (tmp_path / "out").iterdir()
    files = {entry.name: folder / entry.file for entry in read_manifest(folder).stems}
    signals = {name: read_stem(path)[0] for name, path in files.items()}
    assert [name for name, (left, right) in signals.items() if np.array_equal(left, right)] == [
        "bass",
        "vocals",
    ]
    assert len(list((folder / "mp3").iterdir())) >= 4
    assert check_result(folder).holds


def test_the_help_tells_the_reach() -> None:
    told = CliRunner().invoke(conform_command, ["--help"])
    assert "93 ms" in told.output
    assert "30 s" in told.output


def test_the_table_has_no_minus_nought() -> None:
    entry = AlignmentEntry(
        name="drums", delay_frames=-0.0001, delay_se=0.001, polarity=1, decision="aligned", reason=""
    )
    assert re.split("  +", format_alignment([entry])[1].strip())[1] == "0.00"


def test_one_frame_is_told_as_one(mixture: Path, tmp_path: Path) -> None:
    _, manifest = run(mixture, write_stems(tmp_path, 1), tmp_path / "out")
    assert "drums: 1 frame cut off at its start, 1 frame of silence added at its end" in manifest.warnings


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_however_the_command_is_ended_nothing_stays_behind(
    mixture: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / "out"
    arguments = ["conform", str(mixture), *map(str, write_stems(tmp_path, 100).values()), "--out", str(out)]
    program = f"import sys; from stembridge.cli import main; sys.exit(main({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    wait_until(lambda: any(out.glob(".stembridge-*/planes/*")), "the stems to be laid down")
    process.send_signal(signal.Signals[ending])
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and told.endswith(b"cancelled\n")
    assert not out.exists()
