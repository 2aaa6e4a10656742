"""What a remix is delivered as: formats, names, what files carry, copies to listen to; what is refused."""

from __future__ import annotations

import filecmp
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
import pytest
import soundfile
from numpy.typing import NDArray

from fakes import AdversarialSeparator, FakeSeparator, IdentitySeparator
from remixes import (
    FRAMES,
    RATE_HZ,
    MadeRemix,
    MadeSet,
    factor,
    make_set,
    make_settings,
    remix,
    round_to,
    sum_all,
    write_preset,
)
from rpp_projects import Session
from signals import make_music, read_wav, to_ints, write_float, write_pcm
from splits import assert_exact, make_request, read_set, split_to_end
from stembridge import disk
from stembridge.effects.stream import BLOCK_FRAMES
from stembridge.errors import EffectError, OutputError, PresetError, RequestError, SourceError
from stembridge.manifest import FILE_NAME, seal_text
from stembridge.metadata import read_chunks
from stembridge.mixdown.render import render_remix
from stembridge.null_test import Reference, check_result
from stembridge.stages import run_to_end
from stembridge.stem_tag import read_tag
from stembridge.types import FILE_FORMATS, Progress, Region, RemixRequest, SplitResult

Signal = NDArray[np.float64]

QUIETER = "[stems.vocals]\ngain_db = -6.0\n"
FILTERED = f"{QUIETER}[[stems.vocals.effects]]\nkind = 'low_cut'\ncutoff_hz = 200.0\n"


def send(name: str, stem: str) -> str:
    return f"[[sends]]\nname = '{name}'\nlevels_db = {{ {stem} = 0.0 }}\n[[sends.effects]]\nkind = 'reverb'\n"


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    """A 16-bit set that no test may change."""
    return make_set(tmp_path_factory.mktemp("usual"))


def start(
    tmp: Path, made: MadeSet, text: str, *, job_id: str = "remix", **request: Any
) -> Generator[Progress, None, SplitResult]:
    preset = write_preset(tmp, text)
    asked = RemixRequest(str(made.folder), str(tmp / "remixes"), str(preset), **request)
    return render_remix(asked, job_id, make_settings(tmp))


def find_hints(result: SplitResult) -> list[str]:
    """Return the lines that say what keeps a remix below full scale."""
    return [line for line in result.warnings if line.endswith("; a ceiling (--ceiling -1) keeps it below")]


def list_left(tmp: Path) -> list[str]:
    folder = tmp / "remixes"
    return sorted(str(path) for path in folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize("asked", FILE_FORMATS)
@pytest.mark.parametrize("own", ["wav16", "wav24", "wav32f", "flac16", "aiff24"])
def test_a_remix_comes_in_any_format_that_holds_it_with_the_same_samples(
    tmp_path: Path, own: str, asked: str
) -> None:
    made = make_set(tmp_path, kind="pcm16", format=own)
    found = remix(tmp_path, made, QUIETER, format=asked, stems_out=True)
    file_format = FILE_FORMATS[asked]
    bits = {"PCM_16": 15, "PCM_24": 23, "FLOAT": 23}[file_format.subtype]
    is_word = made.manifest.stems[0].subtype == "PCM_16"
    if bits < made.manifest.grid.stem_bits:
        finer = asked.replace("16", "24")
        file_format = FILE_FORMATS[finer]
        said = f"{asked} is coarser than the set, whose samples have 24 bits: written as {finer}"
        assert f"{said}; for {asked} split with --format {asked} first" in found.result.warnings
    grid_bits = bits if is_word else made.manifest.grid.stem_bits
    assert np.array_equal(found.stems["vocals"], round_to(factor(-6.0) * made.stems["vocals"], grid_bits))
    for entry in (*found.manifest.stems, found.manifest.mixture):
        assert entry is not None
        assert (entry.subtype, Path(entry.file).suffix) == (file_format.subtype, file_format.suffix)
    for stem in ("drums", "bass", "other", "residual"):
        assert np.array_equal(found.stems[stem], made.stems[stem])
        own_file, new_file = (
            next(entry.file for entry in each.stems if entry.name == stem)
            for each in (made.manifest, found.manifest)
        )
        is_same = filecmp.cmp(made.folder / own_file, found.folder / new_file, shallow=False)
        assert is_same == (file_format == FILE_FORMATS[own])
    assert np.array_equal(found.samples, made.original - made.stems["vocals"] + found.stems["vocals"])


@pytest.mark.parametrize("own", ["wav16", "flac16", "aiff24", "wav24"])
def test_what_does_not_fit_is_never_clipped_but_becomes_a_float(tmp_path: Path, own: str) -> None:
    made = make_set(tmp_path, kind="pcm16", format=own)
    found = remix(tmp_path, made, "[stems.vocals]\ngain_db = 20.0\n", stems_out=True)
    vocals = round_to(factor(20.0) * made.stems["vocals"], made.manifest.grid.stem_bits)
    assert np.abs(vocals).max() > 1.0
    assert np.array_equal(found.stems["vocals"], vocals)
    assert np.array_equal(found.samples, made.original - made.stems["vocals"] + vocals)
    entries = {entry.name: entry for entry in found.manifest.stems}
    assert entries["vocals"].subtype == "FLOAT"
    assert entries["drums"].subtype == made.manifest.stems[0].subtype
    assert filecmp.cmp(
        made.folder / entries["drums"].file, found.folder / entries["drums"].file, shallow=False
    )
    peak_db = 20 * np.log10(np.abs(vocals).max())
    said = f"{own} does not hold vocals, which peaks at {peak_db:+.1f} dBFS: written as 32-bit float WAV"
    assert said in found.result.warnings
    hot = find_hints(found.result)
    assert len(hot) == 1 and hot[0].startswith(f"{own} does not hold mine, which peaks at +")
    assert len(list(found.folder.iterdir())) == 7


@pytest.mark.parametrize(
    ("kind", "gain_db", "asked"),
    [("float", 20.0, "auto"), ("ogg", 20.0, "auto"), ("pcm16", 20.0, "wav16"), ("pcm16", 20.0, "wav32f")],
)
@pytest.mark.parametrize("stems_out", [False, True])
def test_a_remix_above_full_scale_says_so_once(
    tmp_path: Path, kind: str, gain_db: float, asked: str, stems_out: bool
) -> None:
    made = make_set(tmp_path, kind=kind)
    text = f"[stems.vocals]\ngain_db = {gain_db}\n"
    found = remix(tmp_path, made, text, format=asked, stems_out=stems_out)
    peak_db = 20 * np.log10(np.abs(found.samples).max())
    assert peak_db > 1
    (hint,) = find_hints(found.result)
    assert f" peaks at {peak_db:+.1f} dBFS" in hint
    if kind != "pcm16" or asked == "wav32f":
        width = "64-bit" if kind == "float" else "32-bit"
        assert hint.startswith("'song - mine.wav' peaks at +") and f", kept in {width} float; " in hint
    ceiling = f"{text}[master]\nceiling_dbtp = -1.0\n"
    below = remix(tmp_path, made, ceiling, job_id="below", format=asked, stems_out=stems_out)
    assert find_hints(below.result) == []
    quiet = remix(tmp_path, made, QUIETER, job_id="quiet", format=asked, stems_out=stems_out)
    assert find_hints(quiet.result) == []


def test_a_remix_barely_above_full_scale_is_not_said_to_be_at_it(tmp_path: Path) -> None:
    level = 10 ** (0.003 / 20)
    signal = np.zeros((1, FRAMES))
    signal[0, 100] = -level
    made = make_set(tmp_path, kind="float", channels=1, level=1.0, signal=signal)
    found = remix(tmp_path, made, "[stems.vocals]\ngain_db = 0.0\n")
    (hint,) = find_hints(found.result)
    assert "peaks at +0.003 dBFS, kept in 32-bit float" in hint


@pytest.mark.parametrize(
    ("kind", "asked", "says"),
    [
        (
            "float",
            "wav24",
            "wav24 is coarser than the set, whose samples are floats: written as 32-bit float WAV",
        ),
        ("pcm24", "flac16", "flac16 is coarser than the set, whose samples have 24 bits: written as flac24"),
        (
            "pcm32",
            "aiff24",
            "aiff24 is coarser than the set, whose samples have 32 bits: written as 32-bit float WAV",
        ),
    ],
)
def test_a_format_too_coarse_for_the_original_has_no_remedy(
    tmp_path: Path, kind: str, asked: str, says: str
) -> None:
    made = make_set(tmp_path, kind=kind)
    found = remix(tmp_path, made, QUIETER, format=asked)
    assert says in found.result.warnings
    assert not any("split with" in line for line in found.result.warnings)


def test_a_set_that_is_coarse_because_it_is_loud_stays_on_its_grid(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="pcm16", separator=AdversarialSeparator())
    bits = made.manifest.grid.stem_bits
    assert bits < 23 and made.manifest.stems[0].subtype == "FLOAT"
    found = remix(tmp_path, made, QUIETER, format="wav24", stems_out=True)
    assert found.manifest.grid.stem_bits == bits
    assert np.array_equal(found.stems["vocals"], round_to(factor(-6.0) * made.stems["vocals"], bits))


def test_what_no_32_bit_float_holds_becomes_a_64_bit_one(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="pcm24", separator=AdversarialSeparator())
    text = "".join(f"[stems.{stem}]\ngain_db = {gain}\n" for stem, gain in (("drums", 7.3), ("bass", -20.0)))
    found = remix(tmp_path, made, text)
    assert np.abs(found.samples).max() > 2.0
    assert found.manifest.stems[0].subtype == "DOUBLE"
    bits = made.manifest.grid.stem_bits
    stems = dict(made.stems)
    for stem, gain_db in (("drums", 7.3), ("bass", -20.0)):
        stems[stem] = (
            np.rint(factor(gain_db) * stems[stem] * 2.0**bits).astype(np.float32).astype(np.float64)
            / 2.0**bits
        )
    assert np.array_equal(found.samples, sum_all(stems))


def test_files_are_named_after_the_song_and_the_preset_and_a_stem_keeps_its_own(
    usual: MadeSet, tmp_path: Path
) -> None:
    made = usual
    found = remix(tmp_path, made, QUIETER, name="Quiet: vocals", stems_out=True)
    assert found.folder.name.startswith("song__Quiet_ vocals__")
    assert found.manifest.mixture is not None
    assert found.manifest.mixture.file == "song - Quiet_ vocals.wav"
    clash = remix(tmp_path, made, QUIETER, name="VOCALS", job_id="clash", stems_out=True)
    assert clash.manifest.mixture is not None
    assert clash.manifest.mixture.file == "song - VOCALS remix.wav"
    assert sorted(path.name for path in clash.folder.iterdir()) == sorted(
        [*(entry.file for entry in made.manifest.stems), "song - VOCALS remix.wav", FILE_NAME]
    )
    alone = remix(tmp_path, made, QUIETER, name="vocals", job_id="alone")
    assert [entry.file for entry in alone.manifest.stems] == ["song - vocals.wav"]
    assert np.array_equal(alone.samples, clash.samples)
    long = remix(tmp_path, made, QUIETER, name="n" * 120, job_id="long")
    assert long.manifest.stems[0].file == f"song - {'n' * 26}.wav"


def list_files(made: MadeRemix) -> dict[str, str]:
    """Return the files of a remix by what they hold, its own under 'remix'."""
    files = {entry.name: entry.file for entry in made.manifest.stems}
    if made.manifest.mixture is not None:
        files["remix"] = made.manifest.mixture.file
    assert all((made.folder / file).is_file() for file in files.values())
    return files


def test_no_two_results_of_a_song_share_a_file_name_where_a_template_says_so(tmp_path: Path) -> None:
    names = "{name} - {stem} - {job8}"
    made = make_set(tmp_path, file_names=names)
    first, second = (
        remix(tmp_path, made, text, job_id=text, stems_out=True, mp3=True, speed=0.8, file_names=names)
        for text in (QUIETER, "[stems.drums]\ngain_db = -3.0\n")
    )
    taken = {entry.file for entry in made.manifest.stems}
    for found, changed in ((first, "vocals"), (second, "drums")):
        _, _, job8 = found.folder.name.rpartition("__")
        files = list_files(found)
        assert files == {
            name: f"song - {'mine' if name == 'remix' else name} - {job8}.wav"
            for name in (*made.stems, "remix")
        }
        heard = {Path(entry.file).name for entry in found.manifest.listening}
        assert heard == {f"song - mine - {job8}.mp3", f"song - mine - {job8} 0.80x.wav"}
        published = {path.name for path in found.folder.rglob("*") if path.is_file()} - {FILE_NAME}
        assert published == {*files.values(), *heard} and not published & taken
        taken |= published
        for entry in made.manifest.stems:
            is_same = filecmp.cmp(made.folder / entry.file, found.folder / files[entry.name], shallow=False)
            assert is_same == (entry.name != changed)


@pytest.mark.parametrize("asked", ["auto", "flac24"])
def test_a_template_names_the_preset_and_every_file_alike(usual: MadeSet, tmp_path: Path, asked: str) -> None:
    suffix = ".flac" if asked == "flac24" else ".wav"
    template = {"file_names": "{stem} ({model}) of {name}", "format": asked}
    found = remix(tmp_path, usual, QUIETER, name="Quiet: vocals", stems_out=True, **template)
    assert found.folder.name.startswith("song__Quiet_ vocals__")
    assert list_files(found) == {
        **{name: f"{name} (Quiet_ vocals) of song{suffix}" for name in usual.stems},
        "remix": f"Quiet_ vocals (Quiet_ vocals) of song{suffix}",
    }
    alone = remix(tmp_path, usual, QUIETER, job_id="alone", **template)
    assert [entry.file for entry in alone.manifest.stems] == [f"mine (mine) of song{suffix}"]


def test_files_of_a_set_with_names_of_its_own_are_all_called_alike(tmp_path: Path) -> None:
    made = make_set(tmp_path, file_names="{stem} by {model}")
    found = remix(tmp_path, made, QUIETER, stems_out=True)
    assert set(list_files(found).values()) == {f"song - {name}.wav" for name in (*made.stems, "mine")}


@pytest.mark.parametrize("has_stems", [False, True])
def test_a_remix_comes_with_its_sessions(usual: MadeSet, tmp_path: Path, has_stems: bool) -> None:
    found = remix(
        tmp_path,
        usual,
        QUIETER,
        stems_out=has_stems,
        report=True,
        file_names="{name} - {stem} - {job8}",
        sessions=("rpp", "dawproject"),
    )
    session = Session(found.folder / "song - mine.rpp")
    assert np.array_equal(session.play(), found.samples)
    assert {path.name for path in session.files.values()} == set(list_files(found).values())
    assert {path.name for path in found.folder.iterdir()} == {
        *list_files(found).values(),
        "song - mine.rpp",
        "song - mine.dawproject",
        "report.html",
        FILE_NAME,
    }
    assert found.manifest.warnings == ()
    plain = remix(tmp_path, usual, QUIETER, job_id="plain", stems_out=has_stems)
    assert not [path for path in plain.folder.iterdir() if path.suffix in (".rpp", ".dawproject")]


def test_a_session_that_cannot_be_written_is_a_warning_and_no_more(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="gridfloat")
    found = remix(tmp_path, made, QUIETER, stems_out=True, sessions=("aaf", "rpp"))
    (said,) = (line for line in found.result.warnings if "session" in line)
    assert said.startswith("no aaf session was written: ") and said in found.manifest.warnings
    assert np.array_equal(Session(found.folder / "song - mine.rpp").play(), found.samples)
    assert not list(found.folder.glob("*.aaf"))


def test_sessions_are_told_of_between_the_checks_and_the_end(usual: MadeSet, tmp_path: Path) -> None:
    told = list(start(tmp_path, usual, QUIETER, sessions=("rpp",)))
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages.index("verify") < stages.index("session") == len(stages) - 2
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)


def test_a_remix_says_what_it_is_made_of(usual: MadeSet, tmp_path: Path) -> None:
    made = usual
    found = remix(tmp_path, made, QUIETER, stems_out=True, changes=("vocals.gain_db=-7",))
    entry = found.manifest.remix
    assert entry is not None
    assert (entry.preset, entry.of_job, entry.of_frames) == ("mine", made.manifest.job, FRAMES)
    assert entry.of_sha256_pcm == made.manifest.source.sha256_pcm
    assert found.manifest.source.path == made.manifest.source.path
    assert found.manifest.model == made.manifest.model
    again = tmp_path / "again.toml"
    again.write_text(entry.text, encoding="utf-8")
    request = RemixRequest(str(made.folder), str(tmp_path / "again"), str(again), stems_out=True)
    result = run_to_end(render_remix(request, "again", make_settings(tmp_path)))
    assert read_set(result.folder)[0].source.sha256_pcm == found.manifest.source.sha256_pcm
    assert found.result.audio_s == FRAMES / RATE_HZ
    assert found.result.residual_db == found.manifest.residual.level_db
    residual = found.stems["residual"]
    level = 10 * np.log10(np.square(residual).sum() / np.square(found.samples).sum())
    assert found.manifest.residual.level_db == pytest.approx(level, abs=1e-6)


def test_a_remix_of_a_remix_is_one_of_its_set(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="float")
    text = f"{QUIETER}{send('room', 'vocals')}"
    first = remix(tmp_path, made, text, stems_out=True, job_id="first")
    again = MadeSet(first.folder, first.samples, first.manifest, first.stems)
    second = remix(tmp_path, again, "[stems.room]\nmute = true\n", stems_out=True, job_id="second")
    assert list(second.stems) == list(made.stems)
    assert np.abs(second.samples - (first.samples - first.stems["room"])).max() < 2.0**-50
    alone = remix(tmp_path, made, text, job_id="alone")
    lone = MadeSet(alone.folder, alone.samples, alone.manifest, {"mine": alone.samples})
    third = remix(tmp_path, lone, "[stems.mine]\ngain_db = 0.0\n", job_id="third")
    assert np.array_equal(third.samples, alone.samples)


def test_a_float_set_whose_original_is_gone_is_remixed_as_it_sums_and_says_so(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="float")
    (tmp_path / "song.wav").rename(tmp_path / "elsewhere.wav")
    found = remix(tmp_path, made, "[stems.vocals]\ngain_db = 0.0\n", stems_out=True)
    assert np.array_equal(found.samples, sum_all(made.stems))
    assert any(line.startswith("the original is not there any more") for line in found.result.warnings)
    write_float(tmp_path / "song.wav", 0.5 * made.original, RATE_HZ)
    other = remix(tmp_path, made, "[stems.vocals]\ngain_db = 0.0\n", job_id="other")
    assert np.array_equal(other.samples, sum_all(made.stems))


def test_a_region_of_a_float_file_is_remixed_where_it_lies(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="float", region=Region(7_001, 9_000))
    original = made.original[:, 7_001:16_001]
    found = remix(tmp_path, made, QUIETER, stems_out=True)
    vocals = round_to(factor(-6.0) * made.stems["vocals"], 23)
    assert np.array_equal(found.samples, original + (vocals - made.stems["vocals"]))
    tag = read_tag(found.folder / "song - vocals.wav")
    assert tag is not None
    assert (tag.start, tag.frames, tag.rate) == (7_001, 9_000, RATE_HZ)


def write_broadcast(path: Path) -> Path:
    """Write a WAV that says when it was recorded, has a marker, and a title."""
    write_pcm(path, to_ints(make_music(FRAMES, 2, RATE_HZ), 16), RATE_HZ, 16)
    bext = bytes(338) + struct.pack("<QH", 123_456_789, 1) + bytes(602 - 348) + b"A=PCM\r\n"
    cue = struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 777, b"data", 0, 0, 777)
    info = b"INFO" + struct.pack("<4sI", b"INAM", 8) + b"My song\0"
    data = path.read_bytes()
    for name, content in ((b"bext", bext), (b"cue ", cue), (b"LIST", info)):
        data += struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    return path


def test_time_markers_and_texts_go_on_into_the_remix(tmp_path: Path) -> None:
    source = write_broadcast(tmp_path / "song.wav")
    region = Region(300, 9_000)
    result, _ = split_to_end(make_request(source, tmp_path / "sets", region=region), FakeSeparator())
    folder = Path(result.folder)
    manifest, stems = read_set(folder)
    made = MadeSet(folder, sum_all(stems), manifest, stems)
    found = remix(tmp_path, made, QUIETER, stems_out=True)
    for stem in ("mine", "vocals"):
        path = found.folder / f"song - {stem}.wav"
        chunks = {chunk.name: chunk.data for chunk in read_chunks(str(path)).chunks}
        assert struct.unpack_from("<Q", chunks[b"bext"], 338)[0] == 123_456_789 + 300
        assert struct.unpack_from("<I", chunks[b"cue "], 4 + 20)[0] == 477
        assert f"My song - {stem}\0".encode() in chunks[b"LIST"]
        tag = read_tag(path)
        assert tag is not None
        assert (tag.job, tag.stem, tag.start) == ("remix", stem, 300)
        assert tag.source == made.manifest.source.sha256_pcm
    drums = read_tag(found.folder / "song - drums.wav")
    assert drums is not None and drums.job == "job", "an untouched stem is the split's own file"
    flac, _ = split_to_end(
        make_request(source, tmp_path / "flac", format="flac16"), FakeSeparator(), job_id="flac"
    )
    manifest, stems = read_set(flac.folder)
    made = MadeSet(Path(flac.folder), sum_all(stems), manifest, stems)
    found = remix(tmp_path, made, QUIETER, job_id="flac")
    with soundfile.SoundFile(found.folder / "song - mine.flac") as file:
        assert file.title == "My song - mine"


def test_an_mp3_and_a_practice_version_are_of_the_remix_alone_and_outside_of_every_claim(
    tmp_path: Path,
) -> None:
    made = make_set(tmp_path, frames=2 * RATE_HZ)
    found = remix(tmp_path, made, QUIETER, stems_out=True, mp3=True, speed=0.8, pitch=-2.0)
    assert [entry.file for entry in found.manifest.listening] == [
        "mp3/song - mine.mp3",
        "practice/song - mine 0.80x -2st.wav",
    ]
    heard, rate = soundfile.read(found.folder / "mp3" / "song - mine.mp3", always_2d=True)
    assert (heard.shape[0], rate) == (2 * RATE_HZ, RATE_HZ)
    assert np.corrcoef(heard[:, 0], found.samples[0])[0, 1] > 0.95
    slow, rate = read_wav(found.folder / "practice" / "song - mine 0.80x -2st.wav")
    assert (slow.shape, rate) == ((2, round(2 * RATE_HZ / 0.8)), RATE_HZ)
    assert "'practice/song - mine 0.80x -2st.wav' is outside the sum guarantee" in found.result.warnings
    assert found.manifest.remix is not None
    assert found.manifest.remix.notes == (
        "'practice/song - mine 0.80x -2st.wav' is outside the sum guarantee",
    )
    assert found.manifest.warnings == ()
    plain = remix(tmp_path, made, QUIETER, job_id="plain")
    assert np.array_equal(plain.samples, found.samples)
    assert not (plain.folder / "practice").exists()


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(("speed", "pitch"), [(0.5, 0.0), (1.0, 3.0), (2.0, 0.0)])
def test_a_practice_version_has_the_speed_and_the_pitch_that_were_asked_for(
    tmp_path: Path, channels: int, speed: float, pitch: float
) -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    tone = np.tile(0.3 * np.sin(2 * np.pi * 440.0 * time), (channels, 1))
    path = write_pcm(
        tmp_path / "song.wav", to_ints(tone, 16), RATE_HZ, 16, "WAVEX" if channels > 2 else "WAV"
    )
    result, _ = split_to_end(make_request(path, tmp_path / "sets"), IdentitySeparator())
    manifest, stems = read_set(result.folder)
    made = MadeSet(Path(result.folder), tone, manifest, stems)
    found = remix(tmp_path, made, "[stems.drums]\ngain_db = 0.0\n", speed=speed, pitch=pitch)
    (entry,) = found.manifest.listening
    heard, rate = read_wav(found.folder / entry.file)
    assert (heard.shape, rate) == ((channels, round(RATE_HZ / speed)), RATE_HZ)
    middle = heard[:, heard.shape[1] // 4 : -heard.shape[1] // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.shape[1])))
    peaks_hz = spectrum.argmax(axis=1) * RATE_HZ / middle.shape[1]
    assert np.abs(peaks_hz - 440.0 * 2 ** (pitch / 12)).max() < 6.0


def test_what_nothing_is_left_of_is_refused(usual: MadeSet, tmp_path: Path) -> None:
    made = usual
    mutes = "".join(f"[stems.{stem}]\nmute = true\n" for stem in made.stems)
    for text, message in {
        mutes: "mutes all of drums, bass, other, vocals, residual",
        "[stems.guitar]\nmute = true\n": "guitar",
        send("vocals", "drums"): "vocals",
        send("room", "piano"): "piano",
    }.items():
        with pytest.raises(PresetError, match=message):
            run_to_end(start(tmp_path, made, text))
    options: dict[str, dict[str, Any]] = {
        "mp4": {"format": "mp4"},
        "speed 0": {"speed": 0.0},
        "speed nan": {"speed": float("nan")},
        "pitch 25": {"pitch": 25.0},
        "pitch inf": {"pitch": float("inf")},
        "without {stem}": {"file_names": "{name}"},
        "session 'als'": {"sessions": ("als",)},
    }
    for message, fields in options.items():
        with pytest.raises(RequestError, match=message):
            run_to_end(start(tmp_path, made, QUIETER, **fields))
    with pytest.raises(PresetError, match="no preset"):
        run_to_end(
            render_remix(
                RemixRequest(str(made.folder), str(tmp_path / "remixes"), "karaoky"),
                "job",
                make_settings(tmp_path),
            )
        )
    assert list_left(tmp_path) == []


def damage_audio(folder: Path, name: str) -> None:
    path = folder / f"song - {name}.wav"
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 5_000
    data[at] ^= 1
    path.write_bytes(data)


def damage_tag(folder: Path) -> None:
    path = folder / "song - drums.wav"
    path.write_bytes(path.read_bytes().replace(b'"job":"split"', b'"job":"spilt"'))


def damage_length(folder: Path) -> None:
    path = folder / "song - bass.wav"
    samples, rate = soundfile.read(path, dtype="int32")
    soundfile.write(path, samples[:-1], rate, subtype="PCM_24")


def damage_text(folder: Path) -> None:
    path = folder / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"deterministic": true', b'"deterministic": false'))


def damage_nan(folder: Path) -> None:
    path = folder / "song - vocals.wav"
    samples, rate = soundfile.read(path)
    samples[20] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "untouched": (lambda folder: damage_audio(folder, "drums"), "'song - drums.wav' is not what was written"),
    "changed": (lambda folder: damage_audio(folder, "vocals"), "'song - vocals.wav' is not what was written"),
    "muted": (lambda folder: damage_audio(folder, "other"), "'song - other.wav' is not what was written"),
    "tag": (damage_tag, "'song - drums.wav' is not what was written: its sha256_file"),
    "length": (damage_length, "'song - bass.wav' is not what was written"),
    "nan": (damage_nan, "'song - vocals.wav' is not what was written"),
    "gone": (lambda folder: (folder / "song - bass.wav").unlink(), "song - bass.wav"),
    "manifest": (damage_text, "seal is broken"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("text", [QUIETER, FILTERED], ids=["gain", "effect"])
def test_a_set_that_is_not_what_was_written_is_refused_and_nothing_is_left(
    tmp_path: Path, name: str, text: str
) -> None:
    made = make_set(tmp_path)
    damage, message = BROKEN[name]
    damage(made.folder)
    with pytest.raises(SourceError, match=message):
        run_to_end(start(tmp_path, made, f"{text}[stems.other]\nmute = true\n", stems_out=True))
    assert list_left(tmp_path) == []


def test_a_chain_that_gives_what_must_not_be_delivered_publishes_nothing(
    usual: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = usual
    louder = f"{QUIETER}[[stems.vocals.effects]]\nkind = 'gain'\ngain_db = 3.0\n"
    monkeypatch.setattr(
        pedalboard.Gain,
        "process",
        lambda self, block, *args, **kwargs: np.full_like(block, np.nan),
    )
    with pytest.raises(EffectError, match="NaN"):
        run_to_end(start(tmp_path, made, louder, stems_out=True))
    assert list_left(tmp_path) == []


@pytest.mark.parametrize(
    "stage", ["effects", "sends", "master", "match", "ceiling", "close", "verify", "mp3"]
)
def test_closing_the_generator_cancels_and_leaves_nothing(tmp_path: Path, stage: str) -> None:
    made = make_set(tmp_path, frames=3 * BLOCK_FRAMES)
    text = f"""{FILTERED}
    [[sends]]
    name = "room"
    levels_db = {{ vocals = 0.0 }}
    [[sends.effects]]
    kind = "reverb"
    [master]
    match = "rms"
    ceiling_dbtp = -12.0
    [[master.effects]]
    kind = "compressor"
    """
    running = start(tmp_path, made, text, stems_out=True, mp3=True)
    told = []
    for progress in running:
        told.append(progress.fraction)
        if progress.stage == stage:
            break
    else:
        raise AssertionError(f"{stage} was never told")
    running.close()
    assert list_left(tmp_path) == []
    assert told == sorted(told)


def test_a_job_that_has_published_already_returns_its_result(usual: MadeSet, tmp_path: Path) -> None:
    made = usual
    first = remix(tmp_path, made, QUIETER, stems_out=True)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in first.folder.iterdir())
    again = run_to_end(start(tmp_path, made, QUIETER, stems_out=True))
    assert again.folder == str(first.folder)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in first.folder.iterdir()) == before
    (first.folder / "song - mine.wav").write_bytes(b"")
    with pytest.raises(OutputError, match="was changed"):
        run_to_end(start(tmp_path, made, QUIETER, stems_out=True))
    shutil.rmtree(first.folder)
    first.folder.mkdir()
    with pytest.raises(OutputError, match="is no result of this job"):
        run_to_end(start(tmp_path, made, QUIETER, stems_out=True))


def test_the_null_test_catches_a_damaged_remix_and_never_looks_for_the_original(
    usual: MadeSet, tmp_path: Path
) -> None:
    made = usual
    found = remix(tmp_path, made, QUIETER, stems_out=True)
    assert check_result(found.folder).reference is Reference.MIXTURE
    alone = remix(tmp_path, made, QUIETER, job_id="alone")
    assert check_result(alone.folder).reference is Reference.HASH
    damage_audio(found.folder, "mine")
    damage_audio(alone.folder, "mine")
    assert (
        "'song - mine.wav' is not the mixture: its sha256_pcm differs" in check_result(found.folder).failures
    )
    assert "the files do not sum to the remix: sha256_pcm differs" in check_result(alone.folder).failures
    claimed = (found.folder / FILE_NAME).read_bytes()
    assert seal_text(claimed) == claimed
    assert_exact(found.stems, found.samples, float32=True)


@pytest.mark.parametrize("frames", [1, 2, 3, 17])
def test_sets_of_a_few_frames_are_remixed_too(tmp_path: Path, frames: int) -> None:
    for channels in (1, 2, 6):
        made = make_set(tmp_path / str(channels), kind="pcm24", channels=channels, frames=frames)
        found = remix(tmp_path, made, FILTERED, job_id=str(channels), stems_out=True, speed=0.5)
        assert found.samples.shape == (channels, frames)
        slow, _ = read_wav(found.folder / found.manifest.listening[0].file)
        assert slow.shape == (channels, 2 * frames)
        assert np.array_equal(found.samples, made.original - made.stems["vocals"] + found.stems["vocals"])


def test_a_disk_without_room_is_told_before_anything_is_written(
    usual: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = usual
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
    with pytest.raises(OutputError, match="MB free, the remix needs"):
        run_to_end(start(tmp_path, made, QUIETER))
    assert list_left(tmp_path) == []


HUNGRY = """
tail = "extend"
[stems.vocals]
gain_db = -3.0
[[stems.vocals.effects]]
kind = "delay"
delay_ms = 900.0
feedback = 0.9
[[sends]]
name = "room"
levels_db = { vocals = -6.0 }
[[sends.effects]]
kind = "reverb"
[master]
ceiling_dbtp = -9.0
[[master.effects]]
kind = "clip"
threshold_db = -6.0
"""


@pytest.mark.parametrize("kind", ["pcm16", "float"])
def test_the_room_that_is_asked_for_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = make_set(tmp_path, kind=kind)
    needs: list[disk.DiskNeed] = []
    monkeypatch.setattr(disk, "check_free", lambda folder, need, work: needs.append(need))
    taken = 0
    for _ in start(tmp_path, made, HUNGRY, stems_out=True, mp3=True, speed=4.0):
        taken = max(taken, measure_taken(tmp_path / "remixes"))
    (need,) = needs
    left = measure_taken(tmp_path / "remixes")
    assert 0.6 * need.peak_bytes < taken < need.peak_bytes + disk.MARGIN_BYTES // 100
    assert 0.6 * need.result_bytes < left < need.result_bytes + disk.MARGIN_BYTES // 100


def measure_taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["ogg", "pcm32", "float"])
def test_a_remix_alone_is_told_nothing_of_sums(tmp_path: Path, kind: str) -> None:
    made = make_set(tmp_path, kind=kind)
    alone = remix(tmp_path, made, QUIETER, job_id="alone")
    assert not any("sums" in line or "mixing" in line for line in alone.result.warnings)
    beside = remix(tmp_path, made, QUIETER, job_id="beside", stems_out=True)
    assert any("64-bit mixing" in line for line in beside.result.warnings) == (
        not beside.manifest.claims.exact_f32_any_order
    )


def test_the_time_goes_to_what_takes_it(usual: MadeSet, tmp_path: Path) -> None:
    """A stage that is not asked for takes no share; a report takes about as much as the rest."""
    ends: list[dict[str, float]] = []
    for report in (False, True):
        running = start(tmp_path, usual, QUIETER, job_id=f"job-{report}", stems_out=True, report=report)
        ends.append({progress.stage: progress.fraction for progress in running})
    plain, reported = ends
    assert 0.4 < plain["close"] < 0.75 and 0.9 < plain["verify"] < 1.0
    assert 0.35 < reported["verify"] < 0.65 and 0.9 < reported["report"] < 1.0


def test_a_remix_needs_neither_torch_nor_the_daemon(usual: MadeSet, tmp_path: Path) -> None:
    preset = write_preset(tmp_path, FILTERED)
    program = """
import sys
from pathlib import Path
from stembridge.mixdown.render import render_remix
from stembridge.settings import load_settings
from stembridge.stages import run_to_end
from stembridge.types import RemixRequest

source, out, preset, home = sys.argv[1:]
request = RemixRequest(source, out, preset, report=True, speed=0.9)
run_to_end(render_remix(request, "job", load_settings(home=Path(home))))
print(*{"torch", "zmq", "stembridge_daemon", "stembridge.client"}.intersection(sys.modules))
"""
    places = [str(usual.folder), str(tmp_path / "out"), str(preset), str(tmp_path)]
    found = subprocess.run(
        [sys.executable, "-c", program, *places], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == ""
    assert len(list((tmp_path / "out").iterdir())) == 1
