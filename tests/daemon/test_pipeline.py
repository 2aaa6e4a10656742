"""One split from file to published folder, held from outside: files, sums, places, and what bad input gets.

A residual closes any sum, so the stems themselves are held too: `assert_stems` knows what each must be.
"""

from __future__ import annotations

import inspect
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import FakeSeparator, IdentitySeparator, ZeroSeparator
from signals import make_music, make_noise, to_ints, write_float, write_pcm
from splits import assert_exact, make_request, read_set, split_to_end
from stembridge import disk
from stembridge.dsp.resample import count_frames, resample_blocks
from stembridge.errors import ModelError, OutputError, RequestError, SourceError, StembridgeError
from stembridge.null_test import check_result
from stembridge.types import Region, ResidualPolicy
from stembridge_daemon.failpoints import VARIABLE
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import Block, MixtureReader, SeparationPlan, Separator

Signal = NDArray[np.float64]

MODEL_HZ = 44_100


class ArrayReader:
    """A mixture in memory, as `MixtureReader` promises it."""

    def __init__(self, signal: NDArray[np.float32]) -> None:
        self._signal = signal
        self.channels, self.frames = signal.shape
        average = signal.mean(axis=0, dtype=np.float64)
        self.mean, self.deviation = float(average.mean()), float(average.std(ddof=1))

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        out = np.zeros((self.channels, frames), np.float32)
        begin, end = max(start, 0), min(start + frames, self.frames)
        out[:, begin - start : end - start] = self._signal[:, begin:end]
        return out


def separate_directly(separator: Separator, mixture: Signal) -> dict[str, Signal]:
    """Return what the separator itself gives for a mixture at its own rate."""
    reader = ArrayReader(mixture.astype(np.float32))
    blocks = separator.separate([reader], SeparationPlan(separator.sources))
    stems = np.concatenate([block.stems for block in blocks], axis=2).astype(np.float64)
    return dict(zip(separator.sources, stems, strict=True))


def assert_stems(
    files: dict[str, Signal], wanted: dict[str, Signal], largest_error: float, edge: int = 0
) -> None:
    for name, stem in wanted.items():
        inside = slice(edge, stem.shape[1] - edge)
        error = np.abs(files[name] - stem)[:, inside].max()
        assert error <= largest_error, f"{name} is off by {error}"
        assert files[name][:, inside].any() == stem[:, inside].any()


def test_full_precision_doubles_state_their_error(tmp_path: Path) -> None:
    signal = make_noise(5_000, 2) / 3
    path = write_float(tmp_path / "x.wav", signal, MODEL_HZ, "DOUBLE")
    result, _ = split_to_end(make_request(path, tmp_path / "out", exact_float=True), FakeSeparator())
    manifest, files = read_set(result.folder)
    claims = manifest.claims
    assert not claims.exact_f64 and not claims.exact_f32_any_order
    assert manifest.grid.residual_bits is None and manifest.stems[-1].subtype == "DOUBLE"
    error = np.abs(sum(files.values(), np.zeros((2, 5_000))) - signal).max()
    assert 0 < error <= claims.max_error <= 2.0**-52
    assert f"exact but for {claims.inexact_samples} samples" in result.warnings[-1]


@pytest.mark.parametrize("is_loud_first", [True, False])
def test_the_error_that_is_stated_is_the_largest_wherever_it_is(tmp_path: Path, is_loud_first: bool) -> None:
    levels = [1.0, 1e-3, 1e-6, 0.0]
    signal = make_noise(80_000, 1) * np.repeat(levels if is_loud_first else levels[::-1], 20_000)
    path = write_float(tmp_path / "x.wav", signal, MODEL_HZ, "DOUBLE")
    result, _ = split_to_end(make_request(path, tmp_path / "out"), ZeroSeparator())
    manifest, files = read_set(result.folder)
    assert manifest.claims.max_error == np.abs(files["residual"] - signal).max() > 1e-9
    assert manifest.claims.inexact_samples == np.count_nonzero(files["residual"] != signal)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("channels", [1, 2])
def test_stems_at_the_models_rate_are_within_half_a_unit_at_their_sample(
    tmp_path: Path, bits: int, channels: int
) -> None:
    ints = to_ints(make_music(70_001, channels, MODEL_HZ), bits)
    mixture = ints / 2.0 ** (bits - 1)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, bits)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    _, files = read_set(result.folder)
    wanted = separate_directly(FakeSeparator(), np.repeat(mixture, 3 - channels, axis=0))
    if channels == 1:
        wanted = {name: stem.mean(axis=0, keepdims=True) for name, stem in wanted.items()}
    # A mono stem is a mean, which waits in float32: another half unit of a smaller one.
    assert_stems(files, wanted, 0.5 * 2.0**-23 * (1 if channels == 2 else 1.25))


@pytest.mark.parametrize("rate", [8_000, 22_050, 47_952, 48_000, 88_200, 96_000, 176_400, 192_000])
def test_stems_at_other_rates_are_aligned_and_an_identity_model_leaves_almost_nothing(
    tmp_path: Path, rate: int
) -> None:
    frames = 2 * rate + 1
    ints = to_ints(make_music(frames, 2, rate), 24)
    mixture = ints / 2.0**23
    path = write_pcm(tmp_path / "x.wav", ints, rate, 24)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), IdentitySeparator())
    _, files = read_set(result.folder)
    inside = slice(rate // 4, -rate // 4)
    assert estimate_delay(files["drums"][:, inside], mixture[:, inside]) <= 1e-3
    energies = [np.sum(x[:, inside] ** 2) for x in (files["residual"], mixture)]
    assert 10 * np.log10(energies[0] / energies[1]) <= -90
    assert_stems(files, {"drums": mixture, "bass": np.zeros_like(mixture)}, 1e-4, edge=rate // 4)


def estimate_delay(late: Signal, reference: Signal) -> float:
    """Return how many frames ``late`` is behind, to first order, sign dropped."""
    slope = np.gradient(reference, axis=1)
    return abs(float(np.sum(slope * (late - reference)) / np.sum(slope**2)))


def test_the_delay_estimate_sees_a_delay() -> None:
    signal = make_music(48_000, 1, 48_000, cutoff_hz=2_000)
    assert estimate_delay(signal[:, :-1], signal[:, 1:]) == pytest.approx(1.0, rel=0.1)


def test_an_identity_model_at_its_own_rate_leaves_nothing(tmp_path: Path) -> None:
    ints = to_ints(make_noise(50_001, 2, level=1.0), 24)
    path = write_pcm(tmp_path / "x.flac", ints, MODEL_HZ, 24, "FLAC")
    result, _ = split_to_end(make_request(path, tmp_path / "out"), IdentitySeparator())
    _, files = read_set(result.folder)
    assert np.array_equal(files["drums"] * 2**23, ints)
    assert not files["residual"].any() and result.residual_db is None


class SwappedSeparator(FakeSeparator):
    """Gives two stems under each other's names."""

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        return super().estimate(mixture, start)[[1, 0, 2, 3]]


@pytest.mark.parametrize("wrong", [SwappedSeparator(), ZeroSeparator()])
def test_wrong_stems_are_seen_though_their_sum_is_exact(tmp_path: Path, wrong: FakeSeparator) -> None:
    ints = to_ints(make_music(30_000, 2, MODEL_HZ), 16)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), wrong)
    _, files = read_set(result.folder)
    assert check_result(result.folder).holds
    with pytest.raises(AssertionError):
        assert_stems(files, separate_directly(FakeSeparator(), ints / 2.0**15), 0.5 * 2.0**-23)


def test_files_are_named_by_their_source_in_the_order_of_every_result(tmp_path: Path) -> None:
    sources = ("piano", "vocals", "drums")
    separator = FakeSeparator(sources=sources)
    ints = to_ints(make_music(30_000, 2, MODEL_HZ), 16)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), separator)
    manifest, files = read_set(result.folder)
    assert tuple(files) == ("drums", "vocals", "piano", "residual")
    assert_stems(files, separate_directly(separator, ints / 2.0**15), 0.5 * 2.0**-23)
    assert [entry.file for entry in manifest.stems] == [f"x - {name}.wav" for name in files]
    assert sorted(path.name for path in Path(result.folder).iterdir()) == sorted(
        [*(entry.file for entry in manifest.stems), "stems.json"]
    )


def test_chosen_stems_and_their_complement(tmp_path: Path) -> None:
    ints = to_ints(make_music(30_000, 2, MODEL_HZ), 16)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 16)
    wanted = separate_directly(FakeSeparator(), ints / 2.0**15)
    chosen, _ = split_to_end(make_request(path, tmp_path / "a", stems=("vocals", "drums")), FakeSeparator())
    _, files = read_set(chosen.folder)
    assert tuple(files) == ("drums", "vocals", "residual")
    assert_stems(files, {name: wanted[name] for name in ("drums", "vocals")}, 0.5 * 2.0**-23)
    assert chosen.warnings == () and chosen.residual_db is not None

    two, _ = split_to_end(make_request(path, tmp_path / "b", two_stems="vocals"), FakeSeparator())
    manifest, files = read_set(two.folder)
    assert tuple(files) == ("vocals", "no_vocals")
    assert two.residual_db is None and manifest.residual.policy == "complement"
    assert_stems(
        files, {"vocals": wanted["vocals"], "no_vocals": ints / 2.0**15 - wanted["vocals"]}, 2.0**-23
    )


def test_a_loud_residual_of_a_full_set_is_a_warning(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), ZeroSeparator())
    assert result.residual_db == 0.0
    assert "the residual is at 0.0 dB re mixture" in result.warnings[0]


class ContextSeparator(FakeSeparator):
    """Remembers what it could see beyond the item."""

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        [reader] = readers
        self.seen = reader.read(-3_000, reader.frames + 6_000)
        self.moments = (reader.mean, reader.deviation)
        yield from super().separate(readers, plan)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_region_is_separated_with_its_real_context(tmp_path: Path, rate: int) -> None:
    mixture = to_ints(make_music(60_000, 2, rate, cutoff_hz=8_000), 16)
    path = write_pcm(tmp_path / "x.wav", mixture, rate, 16)
    region = Region(2_500, 40_000)
    separator = ContextSeparator()
    result, _ = split_to_end(make_request(path, tmp_path / "out", region=region), separator)
    manifest, files = read_set(result.folder)
    assert (manifest.source.region.start, manifest.source.region.frames) == (2_500, 40_000)
    original = mixture[:, 2_500:42_500] / 2.0**15
    assert_exact(files, original, float32=True)

    # At its own rate the model gets the region; at another also what the way back needs, here all there is.
    before = 0 if rate == MODEL_HZ else 2_048
    time = 2_500 / rate + np.arange(-3_000 - before, separator.seen.shape[1] - 3_000 - before) / MODEL_HZ
    wanted = np.stack(
        [np.interp(time, np.arange(60_000) / rate, row / 2.0**15, left=0, right=0) for row in mixture]
    )
    real = (time > 200 / rate) & (time < 59_800 / rate)
    assert np.abs(separator.seen - wanted)[:, real].max() < (1e-7 if rate == MODEL_HZ else 0.05)
    assert not separator.seen[:, time < -1 / rate].any()

    item = separator.seen[:, 3_000 + before :].mean(axis=0, dtype=np.float64)
    item = item[: count_frames(40_000, rate, MODEL_HZ)]
    assert separator.moments == pytest.approx((item.mean(), item.std(ddof=1)), rel=1e-9)


@pytest.mark.parametrize("rate", [8_000, 48_000, 96_000])
def test_a_region_comes_out_of_resampling_as_it_stands_inside_the_whole(tmp_path: Path, rate: int) -> None:
    mixture = to_ints(make_music(rate, 2, rate, cutoff_hz=3_000), 24)
    path = write_pcm(tmp_path / "x.wav", mixture, rate, 24)
    region = Region(rate // 3, rate // 3)
    part, _ = split_to_end(make_request(path, tmp_path / "a", region=region), IdentitySeparator())
    whole, _ = split_to_end(make_request(path, tmp_path / "b"), IdentitySeparator())
    inside = read_set(whole.folder)[1]["drums"][:, region.start : region.start + region.frames]
    # Its first and last frames too: the source goes on beyond them, and so does what is resampled.
    assert np.abs(read_set(part.folder)[1]["drums"] - inside).max() <= 2.0**-20


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_the_mixture_that_a_model_sees_is_the_resampled_source(tmp_path: Path, rate: int) -> None:
    ints = to_ints(make_noise(20_000, 1), 16)
    separator = ContextSeparator()
    split_to_end(make_request(write_pcm(tmp_path / "x.wav", ints, rate, 16), tmp_path / "out"), separator)
    frames = count_frames(20_000, rate, MODEL_HZ)
    wanted = np.concatenate(list(resample_blocks([ints / 2.0**15], 1, rate, MODEL_HZ, frames=frames)), axis=1)
    assert separator.seen.shape[1] == frames + 6_000
    for channel in separator.seen:
        assert np.array_equal(channel[3_000:-3_000], wanted[0].astype(np.float32))


def test_progress_rises_from_0_to_1_and_names_its_stages(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100_000, 2), 16), MODEL_HZ, 16)
    _, told = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator(step_frames=10_000))
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    assert list(dict.fromkeys(p.stage for p in told)) == ["read", "separate", "close", "verify", "publish"]
    steps = [p for p in told if p.stage == "separate"]
    assert len(steps) == 10 and all(p.eta_s is not None and p.eta_s >= 0 for p in steps)


def test_the_same_job_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(50_000, 2), 24), 48_000, 24)
    folders = [
        Path(split_to_end(make_request(path, tmp_path / out), FakeSeparator())[0].folder)
        for out in ("a", "b")
    ]
    assert folders[0].name == folders[1].name
    for file in folders[0].glob("*.wav"):
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()


def test_a_result_that_is_already_there_is_returned_and_not_made_again(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out")
    first, _ = split_to_end(request, FakeSeparator())
    stamp = (Path(first.folder) / "stems.json").stat().st_mtime_ns
    second, told = split_to_end(request, FakeSeparator())
    assert not told and second == replace(first, separate_s=0.0, total_s=0.0)
    assert second.warnings and second.residual_db is not None
    assert (Path(first.folder) / "stems.json").stat().st_mtime_ns == stamp
    (Path(first.folder) / "x - drums.wav").unlink()
    with pytest.raises(OutputError, match="was changed"):
        split_to_end(request, FakeSeparator())


def test_a_foreign_folder_in_the_results_place_is_left_alone(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out")
    folder = Path(split_to_end(make_request(path, tmp_path / "other"), FakeSeparator())[0].folder)
    taken = tmp_path / "out" / folder.name
    taken.mkdir(parents=True)
    for content in ([], ["mine.txt"]):
        for name in content:
            (taken / name).touch()
        with pytest.raises(OutputError, match="exists"):
            split_to_end(request, FakeSeparator())
        assert [p.name for p in taken.iterdir()] == content
        assert list((tmp_path / "out").iterdir()) == [taken]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out")
    folder = Path(split_to_end(make_request(path, tmp_path / "other"), FakeSeparator())[0].folder)
    running = run_split("job", request, FakeSeparator())
    next(running)
    taken = tmp_path / "out" / folder.name
    taken.mkdir()
    stamp = taken.stat().st_ino
    with pytest.raises(OutputError, match="exists"):
        for _ in running:
            pass
    assert taken.stat().st_ino == stamp and list((tmp_path / "out").iterdir()) == [taken]


def test_the_result_of_another_job_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    request = make_request(path, tmp_path / "out")
    folder = Path(split_to_end(request, FakeSeparator())[0].folder)
    manifest = folder / "stems.json"
    manifest.write_text(manifest.read_text().replace('"job": "job"', '"job": "another"'))
    with pytest.raises(OutputError, match="another job"):
        split_to_end(request, FakeSeparator())


def test_the_result_of_another_source_of_that_name_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.wav" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        write_pcm(path, to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    split_to_end(make_request(paths[0], tmp_path / "out"), FakeSeparator())
    with pytest.raises(OutputError, match="another job"):
        split_to_end(make_request(paths[1], tmp_path / "out"), FakeSeparator())


NAMES = (
    "with space.wav",
    "it's.wav",
    'say "x".wav',
    "$HOME.wav",
    "two\nlines.wav",
    "日本語.wav",
    "あ" * 80 + ".wav",
    "CON.wav",
)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_gets_a_result(tmp_path: Path, name: str) -> None:
    path = write_pcm(tmp_path / name, to_ints(make_noise(500, 1), 16), MODEL_HZ, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    assert check_result(result.folder).holds
    assert "\n" not in result.folder


def bad_sources(root: Path) -> dict[str, Path]:
    """Files that cannot be split, by the words that say why."""
    good = write_pcm(root / "good.wav", to_ints(make_noise(5_000, 2), 16), MODEL_HZ, 16).read_bytes()
    holes = make_noise(70_000, 2)
    holes[1, 69_000] = np.nan
    loop = root / "loop"
    loop.symlink_to(loop)
    (root / "empty.wav").touch()
    (root / "cut.wav").write_bytes(good[:-1_000])
    (root / "text\n'\"$あ.wav").write_text("this is no audio\n" * 100)
    return {
        "does not exist": root / "missing.wav",
        "is a folder": root,
        "0 bytes": root / "empty.wav",
        "truncated": root / "cut.wav",
        "cannot be read as audio": root / "text\n'\"$あ.wav",
        "cannot be read: ": loop,
        "File name too long": root / ("x" * 300 + ".wav"),
        "nan at frame 69000 of channel 2": write_float(root / "nan.wav", holes, MODEL_HZ),
        "1 to 8 can be split": write_pcm(root / "nine.wav", to_ints(make_noise(9, 9), 16), MODEL_HZ, 16),
    }


BAD_SOURCES = (
    "does not exist",
    "is a folder",
    "0 bytes",
    "truncated",
    "cannot be read as audio",
    "cannot be read: ",
    "File name too long",
    "nan at frame 69000 of channel 2",
    "1 to 8 can be split",
)


@pytest.mark.parametrize("words", BAD_SOURCES)
def test_a_bad_source_gets_one_line_and_leaves_nothing(tmp_path: Path, words: str) -> None:
    root = tmp_path / "in"
    root.mkdir()
    source = bad_sources(root)[words]
    with pytest.raises(SourceError) as caught:
        split_to_end(make_request(source, tmp_path / "deep" / "out"), FakeSeparator())
    assert words in caught.value.message and "\n" not in str(caught.value) and caught.value.hint
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("out", ["file", "file/deeper", "/proc/no/where", "x" * 300])
def test_an_output_folder_that_cannot_be_gets_one_line(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("mine")
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(500, 2), 16), MODEL_HZ, 16)
    with pytest.raises(OutputError) as caught:
        split_to_end(make_request(path, tmp_path / out), FakeSeparator())
    assert "\n" not in str(caught.value) and caught.value.hint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.wav"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_disk_that_fills_up_gets_one_line_and_leaves_nothing(tmp_path: Path, share: float) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(60_000, 2), 16), MODEL_HZ, 16)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * 60_000 * 6), hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write into .*File too large"):
            split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out").exists()


def test_a_split_that_has_no_room_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(500, 2), 16), MODEL_HZ, 16)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk.MARGIN_BYTES))
    with pytest.raises(OutputError, match="MB free, the split needs"):
        split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    assert not (tmp_path / "out").exists()


def measure_tree(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("subtype", "container", "fields"),
    [
        ("PCM_16", "WAV", {"format": "wav32f"}),
        ("PCM_32", "WAV", {}),
        ("FLOAT", "WAV", {"exact_float": True}),
        ("VORBIS", "OGG", {}),
        ("PCM_24", "WAV", {"residual": ResidualPolicy.EQUAL}),
    ],
)
def test_a_disk_with_less_room_than_a_split_takes_is_refused_before_the_first_sample(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtype: str,
    container: str,
    fields: dict[str, str | bool | ResidualPolicy],
) -> None:
    path = write_float(tmp_path / "x", make_noise(200_000, 2), 48_000, subtype, container)
    request = make_request(path, tmp_path / "out", **fields)
    running = run_split("job", request, FakeSeparator())
    taken = max(measure_tree(tmp_path / "out") for _ in running)
    assert taken > 200_000 * 2 * 4 * 7
    free = taken + disk.MARGIN_BYTES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OutputError, match="MB free, the split needs"):
        next(run_split("another", request, FakeSeparator()))
    # Nor is much more asked for than is taken.
    free = taken * 3 // 2 + disk.MARGIN_BYTES
    split_to_end(request, FakeSeparator(), job_id="third")


def test_stems_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(500, 2), 16), MODEL_HZ, 16)
    with pytest.raises(ModelError, match=r"knows no stem 'kazoo' .it knows drums, bass, other, vocals"):
        split_to_end(make_request(path, tmp_path / "out", stems=("vocals", "kazoo")), FakeSeparator())
    with pytest.raises(RequestError, match="exclude each other"):
        split_to_end(
            make_request(path, tmp_path / "out", stems=("vocals",), two_stems="bass"), FakeSeparator()
        )


class WrongSeparator(FakeSeparator):
    """Breaks its promise in the way that ``fault`` names."""

    def __init__(self, fault: str) -> None:
        super().__init__(step_frames=1_000)
        self._fault = fault

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        for block in super().separate(readers, plan):
            if self._fault == "gap" and block.start:
                yield Block(block.start + 1, block.stems)
            elif self._fault == "fewer stems":
                yield Block(block.start, block.stems[:-1])
            elif self._fault == "NaN":
                yield Block(block.start, block.stems * np.float32(np.nan))
            elif self._fault == "short" and block.start:
                return
            else:
                yield block


@pytest.mark.parametrize("fault", ["gap", "fewer stems", "NaN", "short"])
def test_a_separator_that_breaks_its_promise_fails_the_job(tmp_path: Path, fault: str) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    with pytest.raises(ModelError, match="fake returned"):
        split_to_end(make_request(path, tmp_path / "out"), WrongSeparator(fault))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["read", "separate", "close", "verify", "publish"])
def test_closing_the_generator_cancels_and_leaves_nothing(tmp_path: Path, stage: str) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100_000, 2), 16), 48_000, 16)
    running = run_split("job", make_request(path, tmp_path / "deep" / "out"), FakeSeparator())
    for progress in running:
        if progress.stage == stage:
            break
    assert any(p.name.startswith(".stembridge-") for p in (tmp_path / "deep" / "out").iterdir())
    running.close()
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]


def rewrite_one_sample(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8_000])


@pytest.mark.parametrize("change", [rewrite_one_sample, cut, Path.unlink])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_source_that_changes_meanwhile_is_noticed(
    tmp_path: Path, change: Callable[[Path], None], subtype: str
) -> None:
    path = write_float(tmp_path / "x.wav", np.rint(make_noise(100_000, 2) * 2**15) / 2**15, MODEL_HZ, subtype)
    running = run_split("job", make_request(path, tmp_path / "out"), FakeSeparator())
    assert any(progress.stage == "separate" for progress in running)
    change(path)
    with pytest.raises(SourceError):
        for _ in running:
            pass
    assert not (tmp_path / "out").exists()


def test_files_that_were_damaged_while_they_were_written_are_not_published(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100_000, 2), 16), MODEL_HZ, 16)
    running = run_split("job", make_request(path, tmp_path / "out"), FakeSeparator())
    assert any(progress.stage == "verify" for progress in running)
    written = next((tmp_path / "out").glob(".stembridge-*/*bass.wav"))
    rewrite_one_sample(written)
    with pytest.raises(StembridgeError, match="do not hold what would be claimed"):
        for _ in running:
            pass
    assert not (tmp_path / "out").exists()


SPLIT = """
import sys
from pathlib import Path
from fakes import FakeSeparator
from splits import assert_exact, make_request, split_to_end
split_to_end(make_request(Path(sys.argv[1]), Path(sys.argv[2])), FakeSeparator())
"""


@pytest.mark.parametrize(
    ("name", "is_published"),
    [
        ("pipeline-read", False),
        ("pipeline-mid-write", False),
        ("pipeline-before-manifest", False),
        ("pipeline-before-rename", False),
        ("pipeline-after-rename", True),
    ],
)
def test_a_killed_split_runs_again_to_one_whole_result(tmp_path: Path, name: str, is_published: bool) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(50_000, 2), 16), 48_000, 16)
    out = tmp_path / "out"
    environment = {
        **os.environ,
        VARIABLE: f"{name}@{tmp_path / 'once'}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    killed = subprocess.run(
        [sys.executable, "-c", SPLIT, path, out], env=environment, check=False, timeout=60
    )
    assert killed.returncode == -9
    visible = [p for p in out.iterdir() if not p.name.startswith(".")]
    assert len(visible) == is_published
    result, told = split_to_end(make_request(path, out), FakeSeparator())
    assert bool(told) != is_published
    assert [p.name for p in out.iterdir()] == [Path(result.folder).name]
    assert check_result(result.folder).holds


class KeptSeparator(FakeSeparator):
    """Keeps hold of what it handed out, so that only a close can end it."""

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        self.running = super().separate(readers, plan)
        return self.running


def test_a_cancel_ends_the_separator(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100_000, 2), 16), MODEL_HZ, 16)
    separator = KeptSeparator()
    running = run_split("job", make_request(path, tmp_path / "out"), separator)
    assert any(progress.stage == "separate" for progress in running)
    running.close()
    assert inspect.getgeneratorstate(separator.running) == inspect.GEN_CLOSED  # type: ignore[arg-type]


def test_a_separator_of_one_channel_refuses_pairs_and_splits_mono(tmp_path: Path) -> None:
    separator = FakeSeparator()
    separator.channels = 1
    pair = write_pcm(tmp_path / "pair.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    with pytest.raises(SourceError, match=r"pair.wav' has pairs of channels, fake takes 1"):
        split_to_end(make_request(pair, tmp_path / "out"), separator)
    mono = write_pcm(tmp_path / "mono.wav", to_ints(make_noise(3_000, 1), 16), MODEL_HZ, 16)
    assert check_result(split_to_end(make_request(mono, tmp_path / "out"), separator)[0].folder).holds


@pytest.mark.parametrize("is_deterministic", [True, False])
def test_a_manifest_says_whether_another_run_gives_the_same_bytes(
    tmp_path: Path, is_deterministic: bool
) -> None:
    separator = FakeSeparator()
    separator.is_deterministic = is_deterministic
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(500, 1), 16), MODEL_HZ, 16)
    manifest, _ = read_set(split_to_end(make_request(path, tmp_path / "out"), separator)[0].folder)
    assert manifest.deterministic == is_deterministic


def test_each_group_of_channels_is_scaled_by_its_own_moments_over_the_region_alone(tmp_path: Path) -> None:
    class Moments(FakeSeparator):
        def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
            for reader in readers:
                seen.append((reader.mean, reader.deviation, reader.read(-1_000, reader.frames + 2_000)))
            return super().separate(readers, plan)

    seen: list[tuple[float, float, NDArray[np.float32]]] = []
    signal = make_noise(90_000, 5) * np.array([0.2, 0.4, 0.6, 0.8, 1.0])[:, None]
    signal[:, :10_000] *= 0.1
    signal[:, 50_000:] += 0.1 * np.arange(5)[:, None]
    ints = to_ints(signal, 24)
    path = write_pcm(tmp_path / "x.wav", ints, MODEL_HZ, 24, "WAVEX")
    region = Region(10_000, 70_000)
    separator = Moments(step_frames=50_000)
    result, _ = split_to_end(make_request(path, tmp_path / "out", region=region), separator)
    groups = read_set(result.folder)[0].source.groups
    assert groups == ((0, 1), (2,), (3, 4)) and len(seen) == 3
    for group, (mean, deviation, context) in zip(groups, seen, strict=True):
        wanted = ints[list(group), 9_000:81_000] / 2.0**23
        assert np.abs(context - wanted).max() <= 2.0**-24
        average = wanted[:, 1_000:-1_000].mean(axis=0)
        assert (mean, deviation) == pytest.approx((average.mean(), average.std(ddof=1)), rel=1e-6)


def test_two_jobs_into_one_folder_do_not_touch_each_other(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(30_000, 2), 16), MODEL_HZ, 16)
    out = tmp_path / "deep" / "out"
    first, second, third = (run_split(name, make_request(path, out), FakeSeparator()) for name in "abc")
    for running in (first, second, third):
        next(running)
    # The folder was made by the first, and is not taken away under the others.
    first.close()
    for _ in second:
        third.send(None)
    third.close()
    (published,) = out.iterdir()
    assert check_result(published).holds and read_set(published)[0].job == "b"


def test_a_link_that_leads_nowhere_in_the_results_place_is_left_alone(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), MODEL_HZ, 16)
    folder = Path(split_to_end(make_request(path, tmp_path / "other"), FakeSeparator())[0].folder)
    running = run_split("job", make_request(path, tmp_path / "out"), FakeSeparator())
    next(running)
    taken = tmp_path / "out" / folder.name
    taken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"fake__.*' exists"):
        for _ in running:
            pass
    assert taken.is_symlink() and list((tmp_path / "out").iterdir()) == [taken]


@pytest.mark.parametrize(
    ("stage", "size", "fields"),
    [
        ("separate", 1_000, {"format": "flac24"}),
        *(("verify", size, {"mp3": True}) for size in (0, 100, 5_000)),
    ],
)
def test_a_disk_that_is_full_when_a_compressed_file_ends_gets_one_line(
    tmp_path: Path, stage: str, size: int, fields: dict[str, str | bool]
) -> None:
    """What FLAC and MP3 hold back is written at the end, or at any other time of the library's choice."""
    frames = 100_000 if stage == "verify" else 1_000
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(frames, 1), 24), MODEL_HZ, 24)
    running = run_split("job", make_request(path, tmp_path / "out", **fields), FakeSeparator())
    assert any(progress.stage == stage for progress in running)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(OutputError, match="cannot write into"):
            for _ in running:
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out").exists()
