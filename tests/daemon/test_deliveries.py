"""What a split can be asked for beside its stems: mono, MP3s, channels beyond two, a region's metadata."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from fakes import SOURCES, FakeSeparator, IdentitySeparator
from signals import make_music, make_noise, to_ints, write_float, write_pcm
from splits import assert_exact, make_request, read_set, split_to_end
from stembridge.errors import RequestError, SourceError
from stembridge.null_test import Reference, check_result
from stembridge.types import Region, ResidualPolicy

Signal = NDArray[np.float64]

MODEL_HZ = 44_100


class PairSeparator(FakeSeparator):
    """Tells its stems' channels apart from each other and from the other pairs' by what it was given."""

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        left, right = mixture
        stems = np.zeros((4, 2, mixture.shape[1]), np.float32)
        stems[0] = [0.5 * left, 0.25 * right]
        stems[1] = [0.5 * left - 0.25 * right, 0.5 * right - 0.25 * left]
        return stems


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("container", ["WAVEX", "FLAC"])
def test_channels_are_separated_by_their_pairs_and_stay_at_their_place(
    tmp_path: Path, channels: int, container: str
) -> None:
    ints = to_ints(make_noise(30_001, channels), 16)
    source = ints / 2.0**15
    path = write_pcm(tmp_path / "x", ints, MODEL_HZ, 16, container)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), PairSeparator())
    manifest, files = read_set(result.folder)
    groups = {
        1: [(0,)],
        2: [(0, 1)],
        3: [(0, 1), (2,)],
        4: [(0, 1), (2, 3)],
        5: [(0, 1), (2,), (3, 4)],
        6: [(0, 1), (2,), (3,), (4, 5)],
        7: [(0, 1), (2,), (3,), (4,), (5, 6)],
        8: [(0, 1), (2,), (3,), (4, 5), (6, 7)],
    }[channels]
    assert list(manifest.source.groups) == groups
    for group in groups:
        left, right = source[group[0]], source[group[-1]]
        drums = {group[0]: 0.5 * left, group[-1]: 0.25 * right}
        bass = {group[0]: 0.5 * left - 0.25 * right, group[-1]: 0.5 * right - 0.25 * left}
        if len(group) == 1:
            drums, bass = {group[0]: 0.375 * left}, {group[0]: 0.25 * left}
        for channel in group:
            assert np.abs(files["drums"][channel] - drums[channel]).max() <= 2.0**-23
            assert np.abs(files["bass"][channel] - bass[channel]).max() <= 2.0**-23
    assert_exact(files, source, float32=True)
    assert check_result(result.folder).holds


def test_a_multichannel_stem_says_where_its_speakers_stand(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 6), 24), 48_000, 24, "WAVEX")
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    for file in Path(result.folder).glob("*.wav"):
        header = file.read_bytes()[:120]
        at = header.index(b"fmt ") + 8
        assert header[at : at + 2] == b"\xfe\xff"
        # FL FR FC LFE BL BR, as libsndfile wrote it into the source; SL SR is the other 5.1.
        assert int.from_bytes(header[at + 20 : at + 24], "little") in (0x3F, 0x60F)


def test_a_mono_stem_is_its_mid_and_the_residual_takes_its_side(tmp_path: Path) -> None:
    ints = to_ints(make_music(30_000, 2, MODEL_HZ), 24)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 24)
    _, plain = read_set(split_to_end(make_request(path, tmp_path / "a"), FakeSeparator())[0].folder)
    result, _ = split_to_end(make_request(path, tmp_path / "b", mono=("vocals", "bass")), FakeSeparator())
    manifest, files = read_set(result.folder)
    assert manifest.mono == ("vocals", "bass")
    for name in ("vocals", "bass"):
        assert np.array_equal(files[name][0], files[name][1])
        assert np.abs(files[name][0] - plain[name].mean(axis=0)).max() <= 2.0**-23
    for name in ("drums", "other"):
        assert np.array_equal(files[name], plain[name])
    sides = sum(plain[name] - files[name] for name in ("vocals", "bass"))
    assert np.abs(files["residual"] - plain["residual"] - sides).max() <= 2.0**-22
    assert_exact(files, ints / 2.0**23, float32=True)


class NarrowSeparator(FakeSeparator):
    """Bass all but mono, drums as wide as the mixture."""

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        stems = np.zeros((4, *mixture.shape), np.float32)
        stems[0] = 0.5 * mixture
        stems[1] = 0.5 * mixture.mean(axis=0) + 0.004 * (mixture - mixture.mean(axis=0))
        return stems


def test_near_mono_stems_are_reported_unless_the_source_is_so_itself(tmp_path: Path) -> None:
    wide = make_noise(30_000, 2)
    path = write_pcm(tmp_path / "x.wav", to_ints(wide, 16), MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "a"), NarrowSeparator())
    assert read_set(result.folder)[0].near_mono == ("bass",)
    narrow = write_pcm(tmp_path / "y.wav", to_ints(np.repeat(wide[:1], 2, axis=0), 16), MODEL_HZ, 16)
    result, _ = split_to_end(make_request(narrow, tmp_path / "b"), NarrowSeparator())
    assert read_set(result.folder)[0].near_mono == ()


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_mp3s_are_for_listening_begin_at_frame_0_and_change_nothing_else(tmp_path: Path, rate: int) -> None:
    frames = rate
    ints = to_ints(make_music(frames, 2, rate, cutoff_hz=8_000), 16)
    path = write_pcm(tmp_path / "x.wav", ints, rate, 16)
    result, told = split_to_end(make_request(path, tmp_path / "out", mp3=True), IdentitySeparator())
    manifest, files = read_set(result.folder)
    assert "mp3" in {progress.stage for progress in told}
    assert [entry.name for entry in manifest.listening] == [*SOURCES, "residual"]
    heard, heard_rate = soundfile.read(Path(result.folder) / "mp3" / "x - drums.mp3", always_2d=True)
    assert heard_rate == min(rate, 48_000) and abs(len(heard) - frames * heard_rate / rate) < 1
    drums = files["drums"][0, :: rate // heard_rate]
    lags = np.arange(-3, 4)
    inside = slice(1_000, len(drums) - 1_000)
    scores = [np.dot(np.roll(heard[:, 0], lag)[inside], drums[inside]) for lag in lags]
    assert lags[int(np.argmax(scores))] == 0
    assert check_result(result.folder).holds
    (Path(result.folder) / "mp3" / "x - drums.mp3").unlink()
    assert check_result(result.folder).holds, "no claim speaks of the MP3s"


def test_mp3s_of_more_channels_than_mp3_holds_are_refused(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 3), 16), MODEL_HZ, 16)
    with pytest.raises(RequestError, match="MP3 copies of 3 channels"):
        split_to_end(make_request(path, tmp_path / "out", mp3=True), FakeSeparator())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"stems": ("vocals",)}, {"two_stems": "vocals"}])
def test_a_residual_of_some_of_the_stems_is_not_spread_over_them(
    tmp_path: Path, change: dict[str, tuple[str, ...] | str]
) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 2), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out", residual=ResidualPolicy.EQUAL, **change)
    with pytest.raises(RequestError, match="residual 'equal' with some of the stems"):
        split_to_end(request, FakeSeparator())


@pytest.mark.parametrize("policy", [policy for policy in ResidualPolicy if policy.is_fold])
def test_a_fold_states_the_level_of_what_it_spread(tmp_path: Path, policy: ResidualPolicy) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_music(60_000, 2, 48_000), 24), 48_000, 24)
    own, _ = split_to_end(make_request(path, tmp_path / "a"), FakeSeparator())
    fold, _ = split_to_end(make_request(path, tmp_path / "b", residual=policy), FakeSeparator())
    assert own.residual_db is not None and fold.residual_db == pytest.approx(own.residual_db, abs=0.01)
    manifest, files = read_set(fold.folder)
    assert tuple(files) == SOURCES and manifest.residual.policy == policy.value
    assert manifest.claims.exact_f64 and manifest.claims.exact_f32_any_order


@pytest.mark.parametrize(
    ("subtype", "file_format", "words"),
    [
        ("PCM_24", "wav16", "wav16 is coarser than the source"),
        ("FLOAT", "flac24", "flac24 is coarser than the source"),
    ],
)
def test_a_format_that_cannot_hold_the_set_gives_floats_and_says_why(
    tmp_path: Path, subtype: str, file_format: str, words: str
) -> None:
    path = write_float(tmp_path / "x.wav", make_noise(5_000, 2), MODEL_HZ, subtype)
    result, _ = split_to_end(make_request(path, tmp_path / "out", format=file_format), FakeSeparator())
    manifest, _ = read_set(result.folder)
    assert {entry.subtype for entry in manifest.stems} == {"FLOAT"}
    assert any(words in line and "32-bit float WAV" in line for line in result.warnings)


def test_a_stem_beyond_full_scale_takes_the_whole_set_to_floats(tmp_path: Path) -> None:
    class Loud(FakeSeparator):
        def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
            stems = super().estimate(mixture, start)
            if start >= 20_000:
                stems[0] += 1.0
            return stems

    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(50_000, 2), 16), MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "a", format="wav16"), Loud())
    manifest, files = read_set(result.folder)
    assert {entry.subtype for entry in manifest.stems} == {"FLOAT"} and files["drums"].max() > 1
    assert any("wav16 does not hold a peak of +" in line for line in result.warnings)
    auto, _ = split_to_end(make_request(path, tmp_path / "b"), Loud())
    assert {entry.subtype for entry in read_set(auto.folder)[0].stems} == {"FLOAT"}
    assert not any("wav" in line for line in auto.warnings)
    assert sorted(p.suffix for p in Path(auto.folder).iterdir()) == [".json"] + [".wav"] * 5


@pytest.mark.parametrize("frames", [1, 2, 3, 17, 1_001, 48_001])
@pytest.mark.parametrize("rate", [8_000, 44_100, 47_952, 192_000])
def test_every_length_comes_back_as_it_was(tmp_path: Path, rate: int, frames: int) -> None:
    ints = to_ints(make_noise(frames, 2), 24)
    path = write_pcm(tmp_path / "x.wav", ints, rate, 24)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), IdentitySeparator())
    _, files = read_set(result.folder)
    assert all(stem.shape == (2, frames) for stem in files.values())
    assert_exact(files, ints / 2.0**23, float32=True)
    if rate == MODEL_HZ:
        assert np.array_equal(files["drums"] * 2**23, ints) and not files["residual"].any()


def test_the_worst_signals_are_split_or_refused_by_name(tmp_path: Path) -> None:
    silence = np.zeros((2, 3_000))
    signals = {
        "silence": silence,
        "one value": silence + 0.5,
        "+12 dBFS": 4 * make_noise(3_000, 2, level=1.0),
        "denormals": make_noise(3_000, 2, level=1e-40),
    }
    for name, signal in signals.items():
        path = write_float(tmp_path / f"{name}.wav", signal, MODEL_HZ, "FLOAT")
        result, _ = split_to_end(
            make_request(path, tmp_path / "out", exact_float=True), FakeSeparator(), job_id=name
        )
        assert check_result(result.folder).holds
    signals["inf"] = silence.copy()
    signals["inf"][0, 2_999] = -np.inf
    path = write_float(tmp_path / "inf.wav", signals["inf"], MODEL_HZ, "DOUBLE")
    with pytest.raises(SourceError, match="-inf at frame 2999 of channel 1"):
        split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())


def test_a_region_moves_the_timestamp_of_every_stem_and_no_stem_of_another_file_gets_one(
    tmp_path: Path,
) -> None:
    ints = to_ints(make_noise(30_000, 2), 16)
    plain = write_pcm(tmp_path / "plain.wav", ints, MODEL_HZ, 16)
    bext = bytearray(602)
    bext[:5] = b"a mix"
    bext[338:346] = (3_600 * MODEL_HZ).to_bytes(8, "little")
    data = plain.read_bytes()
    chunk = b"bext" + len(bext).to_bytes(4, "little") + bext
    size = (len(data) - 8 + len(chunk)).to_bytes(4, "little")
    stamped = tmp_path / "stamped.wav"
    stamped.write_bytes(data[:4] + size + data[8:12] + chunk + data[12:])
    region = Region(1_000, 20_000)
    for path, wanted in ((stamped, 3_600 * MODEL_HZ + 1_000), (plain, None)):
        result, _ = split_to_end(make_request(path, tmp_path / "out", region=region), FakeSeparator())
        assert check_result(result.folder).holds
        for file in Path(result.folder).glob("*.wav"):
            header = file.read_bytes()[:4_000]
            assert (b"bext" in header) == (wanted is not None)
            if wanted is not None:
                at = header.index(b"bext") + 8
                assert int.from_bytes(header[at + 338 : at + 346], "little") == wanted
                assert header[at : at + 5] == b"a mix"


@pytest.mark.parametrize(
    ("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_16")]
)
def test_the_title_of_a_file_that_is_no_wave_is_in_every_stem(
    tmp_path: Path, container: str, subtype: str
) -> None:
    path = tmp_path / "x"
    with soundfile.SoundFile(path, "w", MODEL_HZ, 2, subtype=subtype, format=container) as file:
        file.title, file.artist = "Night Drive", "The Band"
        file.write(make_noise(3_000, 2).T)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    assert check_result(result.folder).holds
    for entry in read_set(result.folder)[0].stems:
        data = (Path(result.folder) / entry.file).read_bytes()
        assert f"Night Drive - {entry.name}\0".encode() in data and b"The Band\0" in data
        assert b"bext" not in data


def test_a_file_that_ffmpeg_decodes_is_split_whole_and_keeps_its_title(tmp_path: Path) -> None:
    ints = to_ints(make_noise(30_001, 2), 16)
    plain = write_pcm(tmp_path / "plain.wav", ints, 48_000, 16)
    path = tmp_path / "x.m4a"
    command = ["ffmpeg", "-v", "error", "-i", str(plain), "-c:a", "alac", "-metadata", "title=Night Drive"]
    subprocess.run([*command, str(path)], check=True)
    result, told = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    manifest, files = read_set(result.folder)
    assert "decode" in {progress.stage for progress in told}
    assert manifest.source.path == str(path) and manifest.source.subtype.startswith("ALAC")
    assert {entry.subtype for entry in manifest.stems} == {"PCM_24"}
    assert_exact(files, ints / 2.0**15, float32=True)
    assert b"Night Drive - drums\0" in (Path(result.folder) / "x - drums.wav").read_bytes()
    report = check_result(result.folder)
    assert report.holds and report.reference is Reference.HASH


@pytest.mark.parametrize("is_on_grid", [True, False])
def test_floats_that_ffmpeg_decodes_come_with_the_mixture_that_they_sum_to(
    tmp_path: Path, is_on_grid: bool
) -> None:
    signal = make_noise(30_001, 2)
    if is_on_grid:
        signal = np.rint(signal * 2**15) / 2**15
    plain = write_float(tmp_path / "plain.wav", signal, 48_000, "FLOAT")
    path = tmp_path / "x.wv"
    command = ["ffmpeg", "-v", "error", "-i", str(plain), "-c:a", "wavpack", "-sample_fmt", "fltp"]
    subprocess.run([*command, str(path)], check=True)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    manifest, files = read_set(result.folder)
    assert manifest.claims.exact_f64 == is_on_grid
    path.unlink()
    report = check_result(result.folder)
    assert report.holds and report.reference is Reference.MIXTURE
    error = np.abs(sum(files.values(), np.zeros_like(signal)) - signal.astype(np.float32)).max()
    assert error <= manifest.claims.max_error < 2.0**-25
