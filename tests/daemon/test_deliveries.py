"""What a split can be asked for beside its stems: mono, MP3s, channels beyond two, a region's metadata."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from fakes import SOURCES, FakeSeparator, IdentitySeparator
from signals import make_music, make_noise, read_wav, to_ints, write_float, write_pcm
from splits import assert_exact, make_request, read_set, split_to_end
from stembridge.errors import OutputError, RequestError, SourceError
from stembridge.manifest import job8, seal_text
from stembridge.null_test import Reference, check_result
from stembridge.types import Region, ResidualPolicy
from stembridge_daemon.worker.pipeline import run_split

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


@pytest.mark.parametrize("mask", [0x3F, 0x60F])
def test_a_multichannel_stem_says_where_its_speakers_stand(tmp_path: Path, mask: int) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 6), 24), 48_000, 24, "WAVEX")
    data = bytearray(path.read_bytes())
    # The two kinds of 5.1: back or side speakers behind FL FR FC LFE.
    at = data.index(b"fmt ") + 8 + 20
    data[at : at + 4] = mask.to_bytes(4, "little")
    path.write_bytes(data)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    for file in Path(result.folder).glob("*.wav"):
        header = file.read_bytes()[:120]
        at = header.index(b"fmt ") + 8
        assert header[at : at + 2] == b"\xfe\xff"
        assert int.from_bytes(header[at + 20 : at + 24], "little") == mask


@pytest.mark.parametrize(
    ("mask", "channels", "groups"),
    [
        (0x33, 4, ((0, 1), (2, 3))),
        (0x107, 4, ((0, 1), (2,), (3,))),
        (0x3F, 6, ((0, 1), (2,), (3,), (4, 5))),
        (0x60F, 6, ((0, 1), (2,), (3,), (4, 5))),
        (0x0F, 4, ((0, 1), (2,), (3,))),
    ],
)
def test_the_speakers_of_the_source_are_those_of_every_stem_and_mono_is_a_mid_of_each_pair(
    tmp_path: Path, mask: int, channels: int, groups: tuple[tuple[int, ...], ...]
) -> None:
    ints = to_ints(make_noise(3_000, channels), 16)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 16, "WAVEX")
    data = bytearray(path.read_bytes())
    at = data.index(b"fmt ") + 28
    data[at : at + 4] = mask.to_bytes(4, "little")
    path.write_bytes(data)
    result, _ = split_to_end(make_request(path, tmp_path / "out", mono=("drums",)), PairSeparator())
    manifest, files = read_set(result.folder)
    assert manifest.source.groups == groups
    for file in Path(result.folder).glob("*.wav"):
        header = file.read_bytes()[:120]
        at = header.index(b"fmt ") + 28
        assert int.from_bytes(header[at : at + 4], "little") == mask
    for group in groups:
        left, right = ints[group[0]] / 2.0**15, ints[group[-1]] / 2.0**15
        mid = 0.25 * left + 0.125 * right
        for channel in group:
            assert np.abs(files["drums"][channel] - mid).max() <= 2.0**-23
    assert_exact(files, ints / 2.0**15, float32=True)


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


class PeakSeparator(FakeSeparator):
    """One sample of the drums is ``peak``, and two other stems take it back."""

    def __init__(self, peak: float) -> None:
        super().__init__()
        self._peak = peak

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        stems = np.zeros((4, *mixture.shape), np.float32)
        stems[:3, 0, 40] = self._peak, -self._peak / 2, -self._peak / 2
        return stems


@pytest.mark.parametrize(
    ("file_format", "peak", "fits"),
    [
        ("auto", -1.0, True),
        ("auto", 1 - 2.0**-23, True),
        ("auto", 1.0, False),
        ("auto", -1 - 2.0**-23, False),
        ("flac24", -1.0, True),
        ("flac24", 1 - 2.0**-23, True),
        ("flac24", 1.0, False),
        ("wav16", -1.0, True),
        ("wav16", 1 - 2.0**-15, True),
        ("wav16", 1 - 2.0**-17, False),
        ("aiff16", -1 - 2.0**-15, False),
    ],
)
def test_integers_hold_all_of_their_range_and_nothing_beyond(
    tmp_path: Path, file_format: str, peak: float, fits: bool
) -> None:
    ints = to_ints(make_noise(50, 2), 16)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out", format=file_format), PeakSeparator(peak))
    manifest, files = read_set(result.folder)
    width = "PCM_16" if file_format.endswith("16") else "PCM_24"
    assert {entry.subtype for entry in manifest.stems} == {width if fits else "FLOAT"}
    assert files["drums"][0, 40] == peak
    assert_exact(files, ints / 2.0**15, float32=True)
    said = [line for line in result.warnings if "written as" in line]
    assert len(said) == (not fits and file_format != "auto")


def test_the_peak_that_did_not_fit_is_named_whatever_its_sign(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(50, 2), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out", format="flac16")
    result, _ = split_to_end(request, PeakSeparator(-1.5))
    assert "flac16 does not hold a peak of +3.5 dBFS: written as 32-bit float WAV" in result.warnings


@pytest.mark.parametrize("policy", [ResidualPolicy.OWN, ResidualPolicy.HF_ENVELOPE])
@pytest.mark.parametrize("rate", [48_000, 96_000])
def test_a_mono_stem_is_mono_whatever_becomes_of_the_residual(
    tmp_path: Path, policy: ResidualPolicy, rate: int
) -> None:
    ints = to_ints(make_noise(30_000, 4), 24)
    path = write_pcm(tmp_path / "x.wav", ints, rate, 24)
    request = make_request(path, tmp_path / "out", mono=("vocals",), residual=policy)
    result, _ = split_to_end(request, FakeSeparator())
    _, files = read_set(result.folder)
    vocals = files["vocals"]
    assert vocals.any() and np.array_equal(vocals[0], vocals[1]) and np.array_equal(vocals[2], vocals[3])
    assert not np.array_equal(vocals[0], vocals[2])
    assert_exact(files, ints / 2.0**23, float32=False)


def test_a_stem_that_is_not_mono_as_stated_is_found(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 24), MODEL_HZ, 24)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    document = Path(result.folder) / "stems.json"
    document.write_bytes(seal_text(document.read_bytes().replace(b'"mono": []', b'"mono": ["vocals"]')))
    assert check_result(result.folder).failures == ("'x - vocals.wav' is not mono as stated",)


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


class SideSeparator(FakeSeparator):
    """Bass whose side is ``side_db`` re its mid, of a mixture with as much side as mid."""

    def __init__(self, side_db: float) -> None:
        super().__init__()
        self._gain = 10.0 ** (side_db / 20.0)

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        stems = np.zeros((4, *mixture.shape), np.float32)
        mid = mixture.mean(axis=0)
        stems[1] = mid + self._gain * (mixture - mid)
        return stems


@pytest.mark.parametrize(
    ("side_db", "mono", "found"), [(-39.9, (), ()), (-40.1, (), ("bass",)), (-60, "bass", ())]
)
def test_a_stem_is_near_mono_from_40_db_on_unless_it_is_silent_or_mono(
    tmp_path: Path, side_db: float, mono: str | tuple[str, ...], found: tuple[str, ...]
) -> None:
    mid, side = make_noise(30_000, 1), make_noise(30_000, 1)[:, ::-1]
    path = write_pcm(tmp_path / "x.wav", to_ints(np.vstack([mid + side, mid - side]), 24), MODEL_HZ, 24)
    request = make_request(path, tmp_path / "out", mono=(mono,) if mono else ())
    result, _ = split_to_end(request, SideSeparator(side_db))
    assert read_set(result.folder)[0].near_mono == found


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
    peak_db = 20 * np.log10(max(np.abs(stem).max() for stem in files.values()))
    assert any(f"wav16 does not hold a peak of {peak_db:+.1f} dBFS" in line for line in result.warnings)
    auto, _ = split_to_end(make_request(path, tmp_path / "b"), Loud())
    assert {entry.subtype for entry in read_set(auto.folder)[0].stems} == {"FLOAT"}
    assert not any("written as" in line for line in auto.warnings)
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
    stamped = tmp_path / "stamped.wav"
    stamped.write_bytes(plain.read_bytes())
    with_chunks(stamped, (b"bext", bytes(bext)))
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


def with_chunks(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """Put chunks of even length before the first one of a WAV."""
    data = path.read_bytes()
    added = b"".join(name + len(content).to_bytes(4, "little") + content for name, content in chunks)
    size = (len(data) - 8 + len(added)).to_bytes(4, "little")
    path.write_bytes(data[:4] + size + data[8:12] + added + data[12:])
    return path


def find_chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """Return names and contents of all chunks of a WAV."""
    data, at, found = path.read_bytes(), 12, []
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def test_a_stem_has_one_title_and_the_cue_points_of_the_region(tmp_path: Path) -> None:
    title = b"INFOINAM" + (12).to_bytes(4, "little") + b"Night Drive\0"
    cues = [(1, 900), (2, 1_000), (3, 20_999), (4, 21_000)]
    cue = len(cues).to_bytes(4, "little") + b"".join(
        struct.pack("<II4sIII", name, frame, b"data", 0, 0, frame) for name, frame in cues
    )
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(30_000, 2), 16), MODEL_HZ, 16)
    with_chunks(path, (b"LIST", title), (b"cue ", cue))
    request = make_request(path, tmp_path / "out", region=Region(1_000, 20_000))
    result, _ = split_to_end(request, FakeSeparator())
    for file in Path(result.folder).glob("*.wav"):
        chunks = find_chunks(file)
        assert len([True for name, data in chunks if name == b"LIST" and data[:4] == b"INFO"]) == 1
        assert file.read_bytes().count(b"INAM") == 1 and file.read_bytes().count(b"Night Drive") == 1
        points = dict(chunks)[b"cue "]
        frames = [struct.unpack_from("<I", points, 4 + 24 * i + 20)[0] for i in range(len(points) // 24)]
        assert frames == [0, 19_999]
    assert check_result(result.folder).holds


@pytest.mark.parametrize(("file_format", "container"), [("flac16", "FLAC"), ("aiff16", "AIFF")])
def test_a_format_that_has_no_place_for_chunks_says_so_where_there_are_any(
    tmp_path: Path, file_format: str, container: str
) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 2), 16), MODEL_HZ, 16)
    words = f"{container} files carry texts alone: bext"
    plain, _ = split_to_end(make_request(path, tmp_path / "a", format=file_format), FakeSeparator())
    assert not any(words in line for line in plain.warnings)
    with_chunks(path, (b"bext", bytes(602)))
    result, _ = split_to_end(make_request(path, tmp_path / "b", format=file_format), FakeSeparator())
    assert len([line for line in result.warnings if words in line]) == 1


@pytest.mark.parametrize(("frames", "subtype"), [(1_000, "PCM_24"), (1_001, "FLOAT")])
def test_aiff_is_left_where_it_could_not_count_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, subtype: str
) -> None:
    monkeypatch.setattr("stembridge.closing._MAX_AIFF_BYTES", 3 * 2 * 1_000)
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(frames, 2), 16), MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out", format="aiff24"), FakeSeparator())
    assert {entry.subtype for entry in read_set(result.folder)[0].stems} == {subtype}
    said = "AIFF ends at 4 GiB: written as 32-bit float WAV" in result.warnings
    assert said == (subtype == "FLOAT")


def test_a_float_source_is_as_fine_as_its_finest_block(tmp_path: Path) -> None:
    signal = np.rint(make_noise(100_000, 1) * 2**15) / 2**15
    found = []
    for bits, begin in ((15, 0), (23, 40_000), (30, 80_000)):
        signal[:, begin:] += 2.0**-bits
        path = write_float(tmp_path / f"{bits}.wav", signal, MODEL_HZ, "DOUBLE")
        result, _ = split_to_end(make_request(path, tmp_path / "out", exact_float=True), FakeSeparator())
        manifest, files = read_set(result.folder)
        found.append((manifest.grid.residual_bits, manifest.stems[-1].subtype))
        assert manifest.claims.exact_f64
        assert_exact(files, signal, float32=bits < 30)
    assert found == [(23, "FLOAT"), (23, "FLOAT"), (None, "DOUBLE")]


def test_a_lossy_mixture_beyond_full_scale_is_delivered_as_it_was_decoded(tmp_path: Path) -> None:
    """Every stem would fit, and the sum they are held against would not."""
    path = write_float(tmp_path / "x.ogg", make_noise(20_000, 2, level=0.7), MODEL_HZ, "VORBIS", "OGG")
    decoded = soundfile.read(path, always_2d=True)[0].T
    assert 1.0 < np.abs(decoded).max() < 1.9
    result, _ = split_to_end(make_request(path, tmp_path / "out", format="wav24"), FakeSeparator())
    manifest, files = read_set(result.folder)
    assert max(np.abs(stem).max() for stem in files.values()) < 1.0
    assert {entry.subtype for entry in (*manifest.stems, manifest.mixture) if entry} == {"FLOAT"}
    mixture, _ = read_wav(Path(result.folder) / "x - mixture.wav")
    assert np.abs(mixture - decoded).max() <= 2.0**-24
    assert_exact(files, mixture, float32=manifest.claims.exact_f32_any_order)


@pytest.mark.parametrize("file_format", ["flac16", "aiff16"])
def test_texts_are_in_stems_that_are_no_wave_and_in_mp3s_and_losses_are_named(
    tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / "x.wav"
    with soundfile.SoundFile(path, "w", MODEL_HZ, 2, subtype="PCM_16") as file:
        file.title, file.artist = "Night Drive", "The Band"
        file.write(make_noise(3_000, 2).T)
    request = make_request(path, tmp_path / "a", format=file_format, mp3=True)
    result, _ = split_to_end(request, IdentitySeparator())
    folder = Path(result.folder)
    manifest, _ = read_set(folder)
    assert manifest.warnings == ()
    written = [(entry.name, entry.file) for entry in manifest.stems]
    written += [(entry.name, entry.file) for entry in manifest.listening]
    for name, file_name in written:
        with soundfile.SoundFile(folder / file_name) as stem:
            assert (stem.title, stem.artist) == (f"Night Drive - {name}", "The Band")
    data = path.read_bytes()
    extra = (
        b"bext" + (602).to_bytes(4, "little") + bytes(602) + b"acid" + (24).to_bytes(4, "little") + bytes(24)
    )
    path.write_bytes(data[:4] + (len(data) - 8 + len(extra)).to_bytes(4, "little") + data[8:] + extra)
    result, _ = split_to_end(make_request(path, tmp_path / "b", format=file_format), IdentitySeparator())
    container = file_format[:4].upper()
    assert result.warnings == (f"{container} files carry texts alone: bext, acid of the source is left out",)


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


def put_ffmpeg_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Return an M4A for which ``script`` stands in for ffmpeg; ``$last`` is the file that it is to write."""
    source, programs = tmp_path / "in", tmp_path / "bin"
    source.mkdir()
    programs.mkdir()
    plain = write_pcm(tmp_path / "plain.wav", to_ints(make_noise(30_000, 2), 16), 48_000, 16)
    path = source / "x.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(plain), "-c:a", "alac", str(path)], check=True)
    (programs / "ffprobe").symlink_to(str(shutil.which("ffprobe")))
    fake = programs / "ffmpeg"
    fake.write_text(f'#!/bin/sh\nfor last; do :; done\nlast="${{last#file:}}"\n{script}')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return path


def test_a_cancel_while_ffmpeg_decodes_ends_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = (
        f'echo $$ > {tmp_path}/pid\necho > "$last"\n'
        "echo out_time_us=N/A\necho out_time_us=500000\nexec /bin/sleep 1000\n"
    )
    path = put_ffmpeg_on_path(tmp_path, monkeypatch, endless)
    running = run_split("job", make_request(path, tmp_path / "deep" / "out"), FakeSeparator())
    assert next(running).stage == "decode"
    assert list((tmp_path / "deep").rglob("decoded.wav"))
    running.close()
    assert not (tmp_path / "deep").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_disk_that_fills_up_while_ffmpeg_decodes_gets_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = 'echo > "$last"\necho "av_interleaved_write_frame(): No space left on device" >&2\nexit 1\n'
    path = put_ffmpeg_on_path(tmp_path, monkeypatch, full)
    with pytest.raises(OutputError, match=r"cannot write into '[^']*/out': No space left on device"):
        split_to_end(make_request(path, tmp_path / "deep" / "out"), FakeSeparator())
    assert not (tmp_path / "deep").exists()


def test_what_a_user_should_know_of_the_file_is_a_warning_of_the_result(tmp_path: Path) -> None:
    path = tmp_path / "x.aac"
    plain = write_pcm(tmp_path / "plain.wav", to_ints(make_noise(30_000, 2), 16), 48_000, 16)
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(plain), "-f", "adts", str(path)], check=True)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    manifest, _ = read_set(result.folder)
    assert "AAC without a container" in result.warnings[0] and result.warnings == manifest.warnings


@pytest.mark.parametrize("exact_float", [False, True])
def test_doubles_that_ffmpeg_decodes_come_with_a_mixture_of_doubles(
    tmp_path: Path, exact_float: bool
) -> None:
    signal = make_noise(5_000, 2)
    plain, path = tmp_path / "plain.wav", tmp_path / "x.mov"
    write_float(plain, signal, MODEL_HZ, "DOUBLE")
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(plain), "-c:a", "pcm_f64le", str(path)], check=True)
    request = make_request(path, tmp_path / "out", exact_float=exact_float)
    result, _ = split_to_end(request, FakeSeparator())
    manifest, _ = read_set(result.folder)
    assert [entry.subtype for entry in manifest.stems] == ["FLOAT"] * 4 + [
        "DOUBLE" if exact_float else "FLOAT"
    ]
    assert manifest.mixture and manifest.mixture.subtype == "DOUBLE"
    assert np.array_equal(read_wav(Path(result.folder) / "x - mixture.wav")[0], signal)
    report = check_result(result.folder)
    assert report.holds and report.reference is Reference.MIXTURE


# --- what files are called ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ("drums", "bass", "other", "vocals", "residual")),
        ({"two_stems": "vocals"}, ("vocals", "no_vocals")),
        ({"residual": ResidualPolicy.EQUAL}, ("drums", "bass", "other", "vocals")),
        ({"stems": ("bass",), "mp3": True, "format": "flac24"}, ("bass", "residual")),
    ],
)
def test_every_file_of_a_set_is_named_by_the_template(
    tmp_path: Path, fields: dict[str, Any], names: tuple[str, ...]
) -> None:
    path = write_pcm(tmp_path / "söng.v2.wav", to_ints(make_music(MODEL_HZ, 2, MODEL_HZ), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out", file_names="{stem}, {name} {job8} {model}", **fields)
    result, _ = split_to_end(request, FakeSeparator())
    manifest, files = read_set(result.folder)
    assert tuple(files) == names
    suffix = ".flac" if "format" in fields else ".wav"
    wanted = [f"{name}, söng.v2 {job8('job')} fake" for name in names]
    assert [entry.file for entry in manifest.stems] == [f"{name}{suffix}" for name in wanted]
    assert [entry.file for entry in manifest.listening] == [
        f"mp3/{name}.mp3" for name in (wanted if fields.get("mp3") else ())
    ]
    assert check_result(result.folder).holds


def test_the_mixture_of_a_lossy_source_is_named_like_the_stems(tmp_path: Path) -> None:
    path = tmp_path / "song.ogg"
    soundfile.write(path, make_music(MODEL_HZ, 2, MODEL_HZ).T, MODEL_HZ)
    request = make_request(path, tmp_path / "out", file_names="{stem}")
    manifest, _ = read_set(split_to_end(request, FakeSeparator())[0].folder)
    assert manifest.mixture is not None and manifest.mixture.file == "mixture.wav"
    assert [entry.file for entry in manifest.stems] == [f"{entry.name}.wav" for entry in manifest.stems]
