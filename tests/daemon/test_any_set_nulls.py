"""Whatever is split, however it is written: the files sum to the source exactly as the manifest claims.

Stems come from a generator that knows nothing of the mixture; files are read by struct, not by our reader.
"""

from __future__ import annotations

import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import SOURCES, AdversarialSeparator, FakeSeparator
from signals import make_noise, read_wav, to_ints, write_float, write_pcm
from splits import assert_exact, make_request, read_set, split_to_end
from stembridge.manifest import Manifest
from stembridge.null_test import check_result
from stembridge.types import AUTO_FORMAT, FILE_FORMATS, ResidualPolicy, SplitResult

Signal = NDArray[np.float64]

MODEL_HZ = 44_100
FOLDS = [policy.value for policy in ResidualPolicy if policy.is_fold]
KINDS = (
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_24"),
    ("W64", "PCM_16"),
    ("CAF", "PCM_24"),
    ("AIFF", "PCM_16"),
    ("AIFF", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ON_GRID"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
)
RATES_HZ = (8_000, 22_050, 44_056, 44_100, 47_952, 48_000, 88_200, 96_000, 176_400, 192_000)
WAVE_ORDER_OF_VORBIS = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 5, 3, 4],
    7: [0, 2, 1, 6, 5, 3, 4],
    8: [0, 2, 1, 7, 5, 6, 3, 4],
}
"""Where WAVE's left, right, center, LFE, back and sides stand in Vorbis I, 4.3.9."""
MP3_HZ = (8_000, 22_050, 44_100, 48_000)
BITS = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ON_GRID": 16}


def write_source(path: Path, kind: tuple[str, str], signal: Signal, rate: int) -> None:
    container, subtype = kind
    if subtype == "ON_GRID":
        write_float(path, np.rint(signal * 2**15) / 2**15, rate, "FLOAT", container)
    elif subtype == "PCM_U8":
        words = (to_ints(signal, 8) << 24).astype(np.int32)
        soundfile.write(path, words.T, rate, subtype=subtype, format=container)
    elif subtype.startswith("PCM"):
        write_pcm(path, to_ints(signal, BITS[subtype]), rate, BITS[subtype], container)
    else:
        write_float(path, signal, rate, subtype, container)


def read_original(path: Path, folder: Path) -> Signal:
    """Return what the files must sum to: the source, or of a lossy one the mixture that was delivered."""
    mixtures = [found for found in folder.iterdir() if " - mixture." in found.name]
    if not mixtures:
        return np.asarray(soundfile.read(path, always_2d=True)[0].T)
    if mixtures[0].suffix == ".wav":
        original, _ = read_wav(mixtures[0])
    else:
        original = soundfile.read(mixtures[0], always_2d=True, dtype="int32")[0].T / 2.0**31
    # soundfile.read seeks first, after which an MP3 may decode to other samples.
    with soundfile.SoundFile(path) as file:
        decoded = file.read(always_2d=True).T
        if file.format == "OGG":
            decoded = decoded[WAVE_ORDER_OF_VORBIS.get(file.channels, slice(None))]
    assert np.abs(original - decoded).max(initial=0) <= 0.5 * 2.0**-23
    return original


def assert_inexact_as_claimed(
    manifest: Manifest, files: dict[str, Signal], original: Signal, *, exact_float: bool
) -> None:
    """A float finer than its files can hold: the error is measured, counted, and as small as promised."""
    claims = manifest.claims
    values = list(files.values())
    errors = [
        np.abs(sum((values[i] for i in order[1:]), values[order[0]]) - original)
        for order in permutations(range(len(values)))
    ]
    wrong = np.logical_or.reduce([error > 0 for error in errors])
    assert np.count_nonzero(wrong) <= claims.inexact_samples
    # The claim stands for some of the orders; another may round once more.
    hottest = max(claims.positive_max, claims.negative_max)
    assert max(error.max() for error in errors) <= claims.max_error + 2 * len(values) * hottest * 2.0**-53
    last = np.abs(values[-1]).max()
    if exact_float:
        assert claims.max_error <= 2 * len(values) * hottest * 2.0**-53
        if manifest.source.subtype == "FLOAT":
            assert claims.inexact_samples < 0.02 * original.size + 2
    elif manifest.residual.policy in FOLDS:
        assert claims.max_error <= 2.0**-24 + 2 * len(values) * hottest * 2.0**-53
    else:
        assert claims.max_error <= np.spacing(np.float32(last)) / 2 + 2 * len(values) * hottest * 2.0**-53


def assert_format(
    manifest: Manifest,
    result: SplitResult,
    files: dict[str, Signal],
    original: Signal,
    *,
    file_format: str,
    bits: int | None,
) -> None:
    """The format that was asked for where every sample fits it, else floats and, where one was asked, why."""
    subtypes = {entry.subtype for entry in manifest.stems}
    lossless = manifest.mixture is None
    # A mixture that is delivered has to fit as well.
    written = [*files.values(), *([] if lossless else [original])]
    low, high = min(x.min() for x in written), max(x.max() for x in written)
    if file_format == AUTO_FORMAT:
        fits = bits is not None and bits <= 24 and lossless and low >= -1 and high <= 1 - 2.0**-23
        assert subtypes == {"PCM_24"} if fits else subtypes <= {"FLOAT", "DOUBLE"}
        return
    asked = FILE_FORMATS[file_format]
    said = [line for line in result.warnings if "written as 32-bit float WAV" in line]
    if asked.subtype == "FLOAT":
        assert subtypes <= {"FLOAT", "DOUBLE"} and not said
        return
    width = int(asked.subtype[4:])
    if subtypes == {asked.subtype}:
        assert not said and low >= -1 and high <= 1 - 2.0 ** (1 - width)
        assert all(entry.file.endswith(asked.suffix) for entry in manifest.stems)
    else:
        assert subtypes <= {"FLOAT", "DOUBLE"} and len(said) == 1 and said[0].startswith(file_format)
        is_coarse = bits is None or bits > width
        assert is_coarse or low < -1 or high > 1 - 2.0 ** (1 - width) - 2.0**-width


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rate=st.sampled_from(RATES_HZ),
    channels=st.sampled_from((1, 2, 2, 3, 4, 5, 6, 7, 8)),
    frames=st.sampled_from((1, 2, 3, 17, 1_001, 5_003, 48_001)),
    level=st.sampled_from((0.0, 1e-4, 0.5, 1.0, 4.0)),
    gain=st.sampled_from((0.0, 0.05, 0.3, 1.0, 4.0)),
    policy=st.sampled_from((*ResidualPolicy, "two stems", "mono")),
    file_format=st.sampled_from((AUTO_FORMAT, AUTO_FORMAT, *FILE_FORMATS)),
    exact_float=st.booleans(),
    seed=st.integers(0, 2**32),
)
@example(("WAV", "PCM_16"), 44_100, 2, 48_001, 1.0, 4.0, "own", AUTO_FORMAT, False, 0)
@example(("WAV", "PCM_24"), 48_000, 2, 48_001, 1.0, 4.0, "equal", AUTO_FORMAT, False, 0)
@example(("WAV", "PCM_24"), 48_000, 6, 5_003, 0.5, 0.05, "own", AUTO_FORMAT, False, 0)
@example(("WAV", "PCM_32"), 44_100, 2, 5_003, 0.5, 0.05, "tf", AUTO_FORMAT, False, 0)
@example(("WAV", "PCM_16"), 44_100, 2, 5_003, 0.5, 0.05, "own", "wav16", False, 0)
@example(("FLAC", "PCM_24"), 96_000, 2, 5_003, 0.5, 0.05, "hf_envelope", "flac24", False, 0)
@example(("AIFF", "PCM_24"), 44_100, 1, 1_001, 0.5, 0.05, "other", "aiff24", False, 0)
@example(("WAV", "FLOAT"), 44_100, 2, 48_001, 4.0, 4.0, "own", AUTO_FORMAT, True, 0)
@example(("WAV", "FLOAT"), 48_000, 1, 1, 1e-4, 0.3, "two stems", AUTO_FORMAT, False, 0)
@example(("WAV", "FLOAT"), 44_100, 2, 5_003, 0.5, 0.3, "equal", AUTO_FORMAT, True, 0)
@example(("WAV", "FLOAT"), 44_100, 2, 5_003, 0.5, 0.3, "equal", AUTO_FORMAT, False, 0)
@example(("MP3", "MPEG_LAYER_III"), 44_100, 2, 48_001, 1.0, 1.0, "own", AUTO_FORMAT, False, 0)
@example(("OGG", "VORBIS"), 44_100, 2, 5_003, 0.5, 0.05, "own", "flac24", False, 0)
def test_any_source_and_any_stems_null_as_claimed(
    kind: tuple[str, str],
    rate: int,
    channels: int,
    frames: int,
    level: float,
    gain: float,
    policy: str,
    file_format: str,
    exact_float: bool,
    seed: int,
) -> None:
    container, subtype = kind
    if container == "MP3":
        rate = rate if rate in MP3_HZ else 44_100
        channels = min(channels, 2)
    fields = {"format": file_format, "exact_float": exact_float}
    names: tuple[str, ...] = (*SOURCES, "residual")
    if policy == "two stems":
        fields["two_stems"] = "bass"
        names = ("bass", "no_bass")
    elif policy == "mono":
        fields["mono"] = ("vocals", "drums")
    else:
        fields["residual"] = ResidualPolicy(policy)
        names = SOURCES if ResidualPolicy(policy).is_fold else names
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_source(root / "x", kind, make_noise(frames, channels, seed=seed, level=level), rate)
        separator = AdversarialSeparator(gain=gain, seed=seed % 1000)
        result, _ = split_to_end(make_request(root / "x", root / "out", **fields), separator)
        manifest, files = read_set(result.folder)
        assert tuple(files) == names
        original = read_original(root / "x", Path(result.folder))
        assert original.shape == (channels, frames)
        claims = manifest.claims
        bits = BITS.get(subtype, None if subtype in ("FLOAT", "DOUBLE") else 24)
        assert claims.exact_f64 or bits is None
        if claims.exact_f64:
            assert_exact(files, original, float32=claims.exact_f32_any_order)
        else:
            assert_inexact_as_claimed(manifest, files, original, exact_float=exact_float)
        sums = np.stack(list(files.values()))
        hottest = max(np.maximum(sums, 0).sum(axis=0).max(), np.maximum(-sums, 0).sum(axis=0).max())
        if bits is not None and bits <= 16:
            assert claims.exact_f32_any_order
        elif bits == 24:
            assert claims.exact_f32_any_order == (hottest <= 2.0)
        assert_format(
            manifest,
            result,
            files,
            original,
            file_format=file_format,
            bits=bits if subtype != "ON_GRID" or file_format != AUTO_FORMAT else None,
        )
        if policy == "mono":
            for group in manifest.source.groups:
                for stem in ("vocals", "drums"):
                    assert np.array_equal(files[stem][group[0]], files[stem][group[-1]])
        report = check_result(result.folder)
        assert report.holds, report.failures


@pytest.mark.parametrize(
    ("bits", "gain", "subtypes"),
    [
        (16, 4.0, ["FLOAT"] * 5),
        (24, 4.0, ["FLOAT"] * 4 + ["DOUBLE"]),
        (24, 0.1, ["PCM_24"] * 5),
        (32, 0.1, ["FLOAT"] * 4 + ["DOUBLE"]),
    ],
)
def test_a_file_is_64_bit_only_where_nothing_narrower_holds_it(
    tmp_path: Path, bits: int, gain: float, subtypes: list[str]
) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(5_000, 2), bits), MODEL_HZ, bits)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), AdversarialSeparator(gain=gain))
    manifest, _ = read_set(result.folder)
    assert [entry.subtype for entry in manifest.stems] == subtypes
    assert manifest.grid.stem_bits == (21 if bits == 16 else 23)
    assert ("32-bit mixing" in "".join(result.warnings)) == (subtypes[-1] == "DOUBLE")


@pytest.mark.parametrize("file_format", ["wav24", "aiff24", "flac24"])
def test_every_format_holds_the_same_samples(tmp_path: Path, file_format: str) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(5_000, 2), 24), MODEL_HZ, 24)
    _, floats = read_set(
        split_to_end(make_request(path, tmp_path / "a", format="wav32f"), FakeSeparator())[0].folder
    )
    _, files = read_set(
        split_to_end(make_request(path, tmp_path / "b", format=file_format), FakeSeparator())[0].folder
    )
    for name, stem in floats.items():
        assert np.array_equal(files[name], stem)
