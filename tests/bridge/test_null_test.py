"""The null test finds whatever does not hold: a flipped bit, a false claim, a missing or foreign file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import AdversarialSeparator, FakeSeparator, ZeroSeparator
from signals import make_noise, to_ints, write_float, write_pcm
from splits import make_request, split_to_end
from stembridge.errors import SourceError
from stembridge.manifest import seal_text
from stembridge.null_test import Reference, check_result, decibels
from stembridge.types import Region, ResidualPolicy

FRAMES = 3_000
RATE = 44_100
SEPARATOR = FakeSeparator(step_frames=1_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    source = write_pcm(root / "x.wav", to_ints(make_noise(FRAMES, 2), 24), RATE, 24)
    return Path(split_to_end(make_request(source, root / "out", format="wav32f"), SEPARATOR)[0].folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "set"))


def find_data(wav: bytes) -> slice:
    """Return from where to where the audio data are."""
    begin = wav.index(b"data", 60) + 8
    return slice(begin, begin + int.from_bytes(wav[begin - 4 : begin], "little"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "stems.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_bytes(seal_text(json.dumps(document).encode()))


def test_a_set_that_was_left_alone_holds(folder: Path) -> None:
    report = check_result(folder, orders=120)
    assert report.holds, report.failures
    assert report.reference is Reference.ORIGINAL
    assert (report.error_f64, report.error_f32) == (0.0, 0.0)
    assert (report.orders_f32, report.orders_f64) == (121, 2)
    assert report.claims and report.claims.exact_f64 and report.claims.exact_f32_any_order
    assert report.first_bad_frame is None
    assert len(report.files) == 5
    assert decibels(report.error_f64 or 0.0) == -np.inf


def test_without_the_original_the_null_is_proven_by_its_hash(copy: Path) -> None:
    edit(copy, lambda d: d["source"].update(path="/gone/x.wav"))
    report = check_result(copy)
    assert report.holds, report.failures
    assert report.reference is Reference.HASH and "does not exist" in report.remark


def test_another_file_in_the_originals_place_is_not_taken_for_it(copy: Path, tmp_path: Path) -> None:
    other = write_pcm(tmp_path / "y.wav", to_ints(make_noise(FRAMES, 2, seed=1), 24), RATE, 24)
    edit(copy, lambda d: d["source"].update(path=str(other)))
    report = check_result(copy)
    assert report.holds and report.reference is Reference.HASH
    assert "not the original any more" in report.remark


@pytest.mark.parametrize("has_original", [True, False])
@pytest.mark.parametrize("file_format", ["auto", "wav16", "wav32f", "aiff24", "flac24"])
def test_any_one_flipped_bit_is_found(tmp_path: Path, file_format: str, has_original: bool) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    copy = Path(split_to_end(make_request(source, tmp_path / "out", format=file_format), SEPARATOR)[0].folder)
    assert check_result(copy).holds
    if not has_original:
        source.unlink()
    draw = np.random.default_rng(0)
    for path in sorted(copy.iterdir()):
        good = path.read_bytes()
        places = [*range(0, min(200, len(good)), 7), *draw.integers(0, len(good), 8).tolist(), len(good) - 1]
        for place in places:
            bad = bytearray(good)
            bad[place] ^= 1 << int(draw.integers(8))
            path.write_bytes(bad)
            try:
                assert not check_result(copy).holds, (path.name, place)
            except SourceError:
                assert path.name == "stems.json"
        path.write_bytes(good)
    assert check_result(copy).holds


def test_the_first_bad_frame_and_the_size_of_the_error_are_named(copy: Path) -> None:
    path = next(copy.glob("*drums.wav"))
    data = bytearray(path.read_bytes())
    at = find_data(bytes(data)).start + 8 * 1_234
    data[at : at + 4] = (np.frombuffer(data[at : at + 4], "<f4") + np.float32(0.5)).tobytes()
    path.write_bytes(data)
    report = check_result(copy)
    assert report.first_bad_frame == 1_234
    assert report.error_f64 == pytest.approx(0.5) and report.error_f32 == pytest.approx(0.5)
    assert any("drums.wav' is not what was written" in line for line in report.failures)


def test_files_that_are_swapped_missing_longer_or_no_numbers_are_found(copy: Path) -> None:
    drums, bass = next(copy.glob("*drums.wav")), next(copy.glob("*bass.wav"))
    kept = drums.read_bytes()
    drums.write_bytes(bass.read_bytes())
    assert not check_result(copy).holds
    drums.write_bytes(kept + b"\0")
    assert not check_result(copy).holds
    noise = bytearray(kept)
    noise[find_data(kept)] = b"\xff" * len(kept[find_data(kept)])
    drums.write_bytes(noise)
    assert "NaN" in check_result(copy).failures[0]
    drums.unlink()
    assert "is missing" in check_result(copy).failures[0]


def test_samples_off_the_grid_are_found_though_sum_and_hashes_agree(copy: Path) -> None:
    """Two stems moved against each other by less than a unit, and a manifest that was made to fit."""
    paths = [copy / f"x - {name}.wav" for name in ("drums", "bass")]
    files = [bytearray(path.read_bytes()) for path in paths]
    samples = [np.frombuffer(file[find_data(bytes(file))], "<f4").copy() for file in files]
    place = int(np.argmax((np.abs(samples[0]) < 0.05) & (np.abs(samples[1]) < 0.05)))
    samples[0][place] += np.float32(2.0**-25)
    samples[1][place] -= np.float32(2.0**-25)
    for path, file, words in zip(paths, files, samples, strict=True):
        file[find_data(bytes(file))] = words.tobytes()
        path.write_bytes(file)
    hashes = [hashlib.sha256(words.tobytes()).hexdigest() for words in samples]
    file_hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    def change(document: dict[str, Any]) -> None:
        for entry, sha256, sha256_file in zip(document["stems"], hashes, file_hashes, strict=False):
            entry.update(sha256=sha256, sha256_file=sha256_file)

    edit(copy, change)
    report = check_result(copy)
    assert report.error_f64 == 0.0
    assert any("off the grid" in line for line in report.failures)
    assert report.claims and not report.claims.exact_f64 and not report.claims.exact_f32_any_order


@pytest.mark.parametrize("has_original", [True, False])
def test_one_unit_in_one_sample_is_found_though_every_hash_of_the_files_was_made_to_fit(
    copy: Path, has_original: bool
) -> None:
    path = copy / "x - bass.wav"
    data = bytearray(path.read_bytes())
    at = find_data(bytes(data)).start + 8 * 2_222
    data[at : at + 4] = (np.frombuffer(data[at : at + 4], "<f4") + np.float32(2.0**-23)).tobytes()
    path.write_bytes(data)

    def change(document: dict[str, Any]) -> None:
        document["stems"][1].update(
            sha256=hashlib.sha256(data[find_data(bytes(data))]).hexdigest(),
            sha256_file=hashlib.sha256(data).hexdigest(),
        )
        if not has_original:
            document["source"].update(path="/gone/x.wav")

    edit(copy, change)
    (failure, *others) = check_result(copy).failures
    if has_original:
        assert failure == "64-bit sums are off by up to -138.5 dBFS, first at frame 2222"
        assert others == ["32-bit sums are off by up to -138.5 dBFS"]
    else:
        assert failure == "the files do not sum to the original: sha256_pcm differs" and not others


CLAIMS: list[tuple[tuple[str, ...], Any]] = [
    (("claims", "exact_f64"), False),
    (("claims", "exact_f32_any_order"), False),
    (("claims", "positive_max"), 0.0),
    (("claims", "negative_max"), 1.5),
    (("claims", "max_error"), 1e-9),
    (("claims", "inexact_samples"), 1),
    (("residual", "level_db"), -20.0),
    (("residual", "level_db"), None),
    (("source", "sha256_pcm"), "0" * 64),
    (("source", "sample_rate"), 48_000),
    (("source", "channels"), 3),
    (("grid", "residual_bits"), None),
    (("stems", "0", "sha256"), "0" * 64),
    (("stems", "0", "sha256_file"), "0" * 64),
    (("stems", "0", "subtype"), "DOUBLE"),
    (("stems", "4", "file"), "no such.wav"),
]


@pytest.mark.parametrize(("keys", "value"), CLAIMS)
def test_a_claim_that_does_not_hold_is_reported(copy: Path, keys: tuple[str, ...], value: Any) -> None:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[int(key)] if isinstance(place, list) else place[key]
        assert place[keys[-1]] != value
        place[keys[-1]] = value

    edit(copy, change)
    report = check_result(copy)
    assert not report.holds
    assert all("\n" not in line for line in report.failures)


def test_an_edit_that_no_claim_speaks_of_is_found_by_the_seal(copy: Path) -> None:
    path = copy / "stems.json"
    path.write_bytes(path.read_bytes().replace(b'"name": "fake"', b'"name": "fade"'))
    report = check_result(copy)
    assert report.failures == ("'stems.json' is not what was written: its seal is broken",)


def test_a_stem_that_is_left_out_is_found(copy: Path) -> None:
    edit(copy, lambda d: d["stems"].pop(0))
    assert any(
        "do not sum to the original" in line or "claim" in line for line in check_result(copy).failures
    )


@pytest.mark.parametrize("true_claim", [True, False])
def test_a_hot_24_bit_set_claims_64_bit_alone(tmp_path: Path, true_claim: bool) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 2), 24), RATE, 24)
    folder = split_to_end(make_request(source, tmp_path / "out"), AdversarialSeparator(gain=4.0))[0].folder
    if not true_claim:
        edit(Path(folder), lambda d: d["claims"].update(exact_f32_any_order=True))
    report = check_result(folder, orders=120)
    assert report.holds == true_claim
    assert report.error_f64 == 0.0 and report.error_f32 and 0 < report.error_f32 < 1e-5


@pytest.mark.parametrize("exact_float", [True, False])
def test_an_inexact_set_needs_its_original(tmp_path: Path, exact_float: bool) -> None:
    source = write_float(tmp_path / "x.wav", make_noise(FRAMES, 2) / 3, RATE, "DOUBLE")
    folder = Path(
        split_to_end(make_request(source, tmp_path / "out", exact_float=exact_float), SEPARATOR)[0].folder
    )
    report = check_result(folder)
    assert report.holds, report.failures
    largest = 2.0**-52 if exact_float else 2.0**-27
    assert report.claims and not report.claims.exact_f64 and 0 < report.claims.max_error <= largest
    assert report.claims.inexact_samples > 0
    source.unlink()
    assert "cannot be proven without the original" in check_result(folder).failures[0]


def test_a_lossy_set_is_held_against_its_mixture_file(tmp_path: Path) -> None:
    source = write_float(tmp_path / "x.ogg", make_noise(FRAMES, 2), RATE, "VORBIS", "OGG")
    folder = Path(split_to_end(make_request(source, tmp_path / "out"), SEPARATOR)[0].folder)
    source.unlink()
    report = check_result(folder)
    assert report.holds and report.reference is Reference.MIXTURE
    path = folder / "x - mixture.wav"
    data = bytearray(path.read_bytes())
    data[find_data(bytes(data)).stop - 1] ^= 1
    path.write_bytes(data)
    assert any("mixture" in line for line in check_result(folder).failures)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("mixture", "sha256"), "x - mixture.wav' is not what was written: its sha256 differs"),
        (("mixture", "sha256_file"), "x - mixture.wav' is not what was written: its sha256_file differs"),
        (("source", "sha256_pcm"), "x - mixture.wav' is not the mixture: its sha256_pcm differs"),
    ],
)
def test_every_hash_of_a_mixture_file_is_held_against_it(
    tmp_path: Path, keys: tuple[str, str], words: str
) -> None:
    source = write_float(tmp_path / "x.ogg", make_noise(FRAMES, 2), RATE, "VORBIS", "OGG")
    folder = Path(split_to_end(make_request(source, tmp_path / "out"), SEPARATOR)[0].folder)
    edit(folder, lambda d: d[keys[0]].update({keys[1]: "0" * 64}))
    assert [line.replace("'", "", 1) for line in check_result(folder).failures] == [words]


def test_a_64_bit_file_is_no_part_of_a_32_bit_sum_however_quiet_it_is(tmp_path: Path) -> None:
    ints = to_ints(make_noise(FRAMES, 2, level=2.0**-11), 32)
    source = write_pcm(tmp_path / "x.wav", ints, RATE, 32)
    folder = Path(split_to_end(make_request(source, tmp_path / "out"), ZeroSeparator())[0].folder)
    report = check_result(folder)
    assert (
        report.holds and report.claims and max(report.claims.positive_max, report.claims.negative_max) < 0.001
    )
    assert report.claims.exact_f64 and not report.claims.exact_f32_any_order
    edit(folder, lambda d: d["claims"].update(exact_f32_any_order=True))
    assert check_result(folder).failures == (
        "claim exact_f32_any_order = True does not hold: False was found",
    )


@pytest.mark.parametrize("policy", [ResidualPolicy.OWN, ResidualPolicy.HF_ENVELOPE])
@pytest.mark.parametrize("level", [None, -3.0, 0.01])
def test_a_residual_as_loud_as_the_mixture_cannot_be_stated_away(
    tmp_path: Path, policy: ResidualPolicy, level: float | None
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    request = make_request(source, tmp_path / "out", residual=policy)
    folder = Path(split_to_end(request, ZeroSeparator())[0].folder)
    assert check_result(folder).holds
    edit(folder, lambda d: d["residual"].update(level_db=level))
    assert check_result(folder).failures == (f"residual level_db = {level} does not hold: 0.0 was found",)


def test_a_set_of_a_region_is_held_against_that_region(tmp_path: Path) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(90_000, 1), 16), RATE, 16)
    request = make_request(source, tmp_path / "out", region=Region(5_000, 80_000))
    folder = Path(split_to_end(request, SEPARATOR)[0].folder)
    report = check_result(folder)
    assert report.holds and report.reference is Reference.ORIGINAL
    path = folder / "x - bass.wav"
    data = bytearray(path.read_bytes())
    data[find_data(bytes(data)).stop - 3 * 10_000] ^= 1
    path.write_bytes(data)
    assert check_result(folder).first_bad_frame == 70_000
