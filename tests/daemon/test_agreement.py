"""Every kind of model, streamed through our engine, agrees with stock modules source by source.

A residual closes any sum, so the sum says nothing about the stems: here each named source is held against
stock before anything is closed, with normalisation, bag weights, overlap and shifts. The segments lie on a
grid of our own, which is written here once more: stock modules run on it, padded and trimmed by
``demucs.apply``. Where one segment is enough, all of it is stock's ``apply_model``.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demucs import apply
from numpy.typing import NDArray

from model_files import (
    SIX,
    one_thread,
    small_demucs,
    small_hdemucs,
    small_htdemucs,
    small_torchaudio,
    write_bag,
    write_safetensors,
    write_state,
    write_th,
)
from stembridge.catalog import find_model
from stembridge.errors import ModelError, RequestError
from stembridge.model_store import locate
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.separators import engine, torchaudio_hdemucs
from stembridge_daemon.worker.separators.base import Block, SeparationPlan, Separator

RATE = 44100
LONG = int(2.3 * RATE) + 17
SHORT = 20_011
AGREED_DB = 90.0
LONE_DB = 50.0
"""The same for a lone sample in silence, whose rounding a network enlarges: what the same model is away from
64 bits there is 69 dB."""
Audio = NDArray[np.float32]


class ArrayReader:
    """A mixture in memory; ``before`` and ``after`` are the source's own audio around the item."""

    def __init__(self, item: Audio, before: int = 0, after: int = 0) -> None:
        self._audio = item
        self._before = before
        self.channels = item.shape[0]
        self.frames = item.shape[1] - before - after
        middle = item[:, before : before + self.frames].mean(axis=0, dtype=np.float64)
        self.mean = float(middle.mean())
        self.deviation = float(middle.std(ddof=1)) if self.frames > 1 else math.nan
        self.most_read = 0

    def read(self, start: int, frames: int) -> Audio:
        self.most_read = max(self.most_read, frames)
        out = np.zeros((self.channels, frames), dtype=np.float32)
        first, end = max(0, start + self._before), min(self._audio.shape[1], start + self._before + frames)
        if end > first:
            out[:, first - start - self._before : end - start - self._before] = self._audio[:, first:end]
        return out


def make_mixture(frames: int, seed: int = 7) -> Audio:
    """Return stereo noise bursts and tones on a constant, which shows a mean lost or counted twice."""
    draw = np.random.default_rng(seed)
    time = np.arange(frames) / RATE
    bursts = draw.standard_normal((2, frames)) * np.exp(-8 * (time % 0.37))
    tones = np.sin(2 * np.pi * np.array([[220.0], [331.0]]) * time)
    return (0.08 * bursts + 0.1 * tones + 0.05).astype(np.float32)


class Kind:
    """One kind of model: its files in a folder, and the same model as stock builds it."""

    def __init__(self, name: str, folder: Path, stock: Any) -> None:
        self.name = name
        self.stock = stock
        files = locate(find_model(name), [folder])
        assert files is not None
        self.files = files

    def load(self, *stems: str) -> Separator:
        return load_separator(self.name, self.files, stems=stems)


def _htdemucs(folder: Path) -> Kind:
    module = small_htdemucs(1)
    write_th(module, folder, "955717e8")
    return Kind("htdemucs", folder, module)


def _fine_tuned(folder: Path) -> Kind:
    model = find_model("htdemucs_ft")
    modules = [small_htdemucs(10 + place, t_layers=1, dconv_mode=1) for place in range(4)]
    for module, member in zip(modules, model.members, strict=True):
        write_safetensors(module, folder, member.signature)
    return Kind("htdemucs_ft", folder, apply.BagOfModels(modules, model.weights))


def _six_sources(folder: Path) -> Kind:
    module = small_htdemucs(2, SIX, bottom_channels=0)
    write_safetensors(module, folder, "5c90dfd2")
    return Kind("htdemucs_6s", folder, module)


def _hdemucs(folder: Path) -> Kind:
    module = small_hdemucs(3, segment=40)
    write_th(module, folder, "75fc33f5")
    write_bag(folder, "hdemucs_mmi", ["75fc33f5"], segment=1.2)
    return Kind("hdemucs_mmi", folder, apply.BagOfModels([module], None, 1.2))


def _demucs(folder: Path) -> Kind:
    module = small_demucs(4)
    write_th(module, folder, "ab12cd34", with_checksum=False)
    write_bag(folder, "hdemucs_mmi", ["ab12cd34"])
    return Kind("hdemucs_mmi", folder, module)


def _mdx(folder: Path) -> Kind:
    """Members of both kinds and of two segment lengths, with the uneven weights of the real bag."""
    model = find_model("mdx")
    modules = [
        small_demucs(5),
        small_demucs(6),
        small_hdemucs(7, segment=0.7, hybrid_old=True),
        small_hdemucs(8),
    ]
    for module, member in zip(modules, model.members, strict=True):
        write_th(module, folder, member.signature)
    signatures = [member.signature for member in model.members]
    write_bag(folder, "mdx", signatures, weights=model.weights)
    return Kind("mdx", folder, apply.BagOfModels(modules, model.weights))


def _torchaudio(folder: Path) -> Kind:
    module = small_torchaudio(9)
    write_state(module, folder / "hdemucs_high_trained.pt")
    module.samplerate, module.segment = RATE, 1
    # Alone it fails at some lengths below 1281 frames (test_models.py), as stock then does.
    module.valid_length = torchaudio_hdemucs.input_frames
    return Kind("torchaudio:hdemucs_high_musdb_plus", folder, module)


MAKERS: dict[str, Callable[[Path], Kind]] = {
    "htdemucs": _htdemucs,
    "htdemucs_ft": _fine_tuned,
    "six sources": _six_sources,
    "hdemucs, segment of the bag": _hdemucs,
    "demucs, time domain": _demucs,
    "mdx": _mdx,
    "torchaudio": _torchaudio,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=MAKERS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchaudio_hdemucs, "SEGMENT_S", 1)
        yield MAKERS[request.param](tmp_path_factory.mktemp("models"))


Apply = Callable[[Any, torch.Tensor, SeparationPlan], torch.Tensor]


def apply_whole(stock: Any, mixture: torch.Tensor, plan: SeparationPlan) -> torch.Tensor:
    """Return what stock makes of a normalised mixture, on a grid of its own."""
    stems: torch.Tensor = apply.apply_model(stock, mixture, shifts=plan.shifts, overlap=plan.overlap)
    return stems


def apply_on_our_grid(stock: Any, mixture: torch.Tensor, plan: SeparationPlan) -> torch.Tensor:
    """Return what stock's modules make of a normalised mixture, segment by segment of our grid."""
    modules = list(getattr(stock, "models", [stock]))
    weights = torch.tensor(getattr(stock, "weights", [[1.0] * len(stock.sources)]))
    mean = (weights / weights.sum(dim=0))[:, None, :, None, None]
    stems = torch.stack([apply_shifted(module, mixture, plan) for module in modules])
    return (mean * stems).sum(dim=0)


def apply_shifted(module: Any, mixture: torch.Tensor, plan: SeparationPlan) -> torch.Tensor:
    frames, longest = mixture.shape[-1], int(0.5 * module.samplerate)
    padded = apply.TensorChunk(mixture).padded(frames + 2 * longest)
    offsets = [apply.random.randint(0, longest) for _ in range(plan.shifts)]
    if not offsets:
        return apply_segments(module, apply.TensorChunk(mixture), plan.overlap)
    found = [
        apply_segments(module, apply.TensorChunk(padded, at, frames + longest - at), plan.overlap)
        for at in offsets
    ]
    return torch.stack([each[..., -frames:] for each in found]).mean(dim=0)


def apply_segments(module: Any, mixture: Any, overlap: float) -> torch.Tensor:
    frames = mixture.shape[-1]
    segment = int(module.samplerate * module.segment)
    rising = torch.arange(1, segment // 2 + 1)
    triangle = torch.cat([rising, torch.arange(segment - segment // 2, 0, -1)])
    stems = torch.zeros(1, len(module.sources), 2, frames)
    weight = torch.zeros(frames)
    for start, end in lay_grid(frames, segment, overlap, getattr(module, "valid_length", int)):
        chunk = apply.TensorChunk(mixture, start, end - start)
        found = apply.apply_model(module, chunk, shifts=0, split=False)
        stems[..., start:end] += triangle[: end - start] * found
        weight[start:end] += triangle[: end - start]
    return stems / weight


def lay_grid(
    frames: int, segment: int, overlap: float, wanted: Callable[[int], int]
) -> list[tuple[int, int]]:
    """Return where the fewest segments begin and end, laid one after the other."""
    starts = [0]
    while starts[-1] + segment < frames:
        starts.append(starts[-1] + int((1 - overlap) * segment))
    if len(starts) > 1:
        last = frames - starts[-1]
        starts[-1] -= max(min(wanted(last), segment), last) - last
    return [(start, min(start + segment, frames)) for start in starts]


def separate_stock(
    stock: Any, reader: ArrayReader, plan: SeparationPlan, run: Apply = apply_on_our_grid
) -> dict[str, Audio]:
    """Return stock's stems, normalised as ``demucs.api`` does it.

    The shifts come from a generator of their own: the positions of HTDemucs' transformer draw from the
    global one in each forward pass, so that a global seed would not give the same shifts to both sides.
    """
    deviation = 0.0 if math.isnan(reader.deviation) else reader.deviation
    mixture = torch.from_numpy(reader.read(0, reader.frames))
    normal = (mixture - reader.mean) / (deviation + 1e-8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply, "random", random.Random(plan.seed))
        out = run(stock, normal[None], plan)
    stems = (out[0] * (deviation + 1e-8) + reader.mean).numpy()
    return dict(zip(stock.sources, stems, strict=True))


def separate_ours(separator: Separator, reader: ArrayReader, plan: SeparationPlan) -> dict[str, Audio]:
    """Return our stems; checks on the way that the blocks are as many as promised and in a row."""
    blocks = list(separator.separate([reader], plan))
    assert len(blocks) == separator.count_steps([reader.frames], plan)
    at = 0
    for block in blocks:
        assert block.start == at
        assert block.stems.dtype == np.float32
        assert block.stems.shape[:2] == (len(plan.sources), reader.channels)
        at += block.stems.shape[2]
    assert at == reader.frames
    return dict(zip(plan.sources, np.concatenate([block.stems for block in blocks], axis=2), strict=True))


def agreement_db(want: Audio, got: Audio) -> float:
    """Return the level of ``want`` without its constant over that of the difference, in dB."""
    exact = want.astype(np.float64)
    error = float(np.sum((exact - got) ** 2))
    level = float(np.sum((exact - exact.mean()) ** 2))
    return math.inf if error == 0 else 10 * math.log10(level / error)


def assert_agrees(want: dict[str, Audio], got: dict[str, Audio], least_db: float = AGREED_DB) -> None:
    found = {source: agreement_db(want[source], got[source]) for source in got}
    print({source: round(level, 1) for source, level in found.items()})
    assert all(level >= least_db for level in found.values()), found


@pytest.mark.parametrize(
    ("frames", "shifts", "overlap"),
    [(LONG, 0, 0.25), (LONG, 1, 0.25), (LONG, 2, 0.1), (SHORT, 2, 0.25)],
)
def test_each_source_agrees_with_stock(kind: Kind, frames: int, shifts: int, overlap: float) -> None:
    reader = ArrayReader(make_mixture(frames))
    plan = SeparationPlan(kind.load().sources, overlap=overlap, shifts=shifts, seed=11)
    assert_agrees(separate_stock(kind.stock, reader, plan), separate_ours(kind.load(), reader, plan))


@pytest.mark.parametrize(("frames", "shifts"), [(SHORT, 0), (900, 2), (1, 1)])
def test_what_one_segment_holds_is_as_stock_alone_makes_it(kind: Kind, frames: int, shifts: int) -> None:
    reader = ArrayReader(make_mixture(frames))
    plan = SeparationPlan(kind.load().sources, shifts=shifts, seed=11)
    want = separate_stock(kind.stock, reader, plan, apply_whole)
    assert_agrees(want, separate_ours(kind.load(), reader, plan), LONE_DB if frames == 1 else AGREED_DB)


@pytest.mark.parametrize(
    ("seconds", "ours", "stock"),
    [(5.0, 1, 1), (7.8, 1, 2), (8.0, 2, 2), (12.0, 2, 3), (30.0, 5, 6), (240.0, 41, 42)],
)
def test_there_are_fewer_segments_than_stock_has(seconds: float, ours: int, stock: int) -> None:
    frames, segment = int(seconds * RATE), int(7.8 * RATE)
    member = engine.EngineMember(_refuse, segment, lambda _: segment, (1.0,))
    wanted = engine.wanted_of(SeparationPlan(("drums",)), ("drums",))
    assert engine.count_steps([member], [frames], RATE, wanted) == ours
    assert len(lay_grid(frames, segment, 0.25, lambda _: segment)) == ours
    assert len(range(0, frames, int(0.75 * segment))) == stock


def _refuse(batch: Audio, sources: Sequence[int]) -> engine.Answer:
    raise AssertionError("nothing is to run")


@pytest.mark.parametrize("overlap", [0.0, 0.6, 0.9])
def test_any_overlap_agrees_with_stock(tmp_path: Path, overlap: float) -> None:
    kind = _demucs(tmp_path)
    reader = ArrayReader(make_mixture(LONG))
    plan = SeparationPlan(kind.load().sources, overlap=overlap)
    assert_agrees(separate_stock(kind.stock, reader, plan), separate_ours(kind.load(), reader, plan))


def test_a_stem_is_the_same_whichever_others_are_asked_for(kind: Kind) -> None:
    reader = ArrayReader(make_mixture(LONG))
    separator = kind.load()
    every = SeparationPlan(separator.sources, shifts=1, seed=3)
    all_of_them = separate_ours(separator, reader, every)
    for stems in (("vocals",), ("bass", "vocals")):
        few = SeparationPlan(stems, shifts=1, seed=3)
        got = separate_ours(kind.load(*stems), reader, few)
        for stem in stems:
            np.testing.assert_array_equal(got[stem], all_of_them[stem])


def test_what_is_heard_early_of_several_items_changes_no_sample(kind: Kind) -> None:
    readers = [ArrayReader(make_mixture(frames, frames)) for frames in (int(1.3 * RATE), SHORT)]
    separator = kind.load()
    plan = SeparationPlan(separator.sources, shifts=1, seed=3)
    heard = list(separator.separate(readers, replace(plan, listen_from=RATE)))
    [early] = (block for block in heard if block.is_early)
    assert heard[0] is early and early.item == 0
    assert early.start <= RATE < early.start + early.stems.shape[2]
    for item, reader in enumerate(readers):
        alone = separate_ours(separator, reader, plan)
        row = [block.stems for block in heard if block.item == item and not block.is_early]
        np.testing.assert_array_equal(np.concatenate(row, axis=2), np.stack(list(alone.values())))


def test_of_a_fine_tuned_bag_only_the_members_for_the_stems_run(tmp_path: Path) -> None:
    bag = _fine_tuned(tmp_path)
    whole = bag.load()
    steps = whole.count_steps([LONG], SeparationPlan(whole.sources))
    assert whole.count_steps([LONG], SeparationPlan(("vocals",))) == steps // 4
    with pytest.raises(ModelError, match="loaded without the member for drums"):
        bag.load("vocals").count_steps([LONG], SeparationPlan(("drums",)))


def test_the_same_plan_gives_the_same_samples_and_another_seed_gives_others(tmp_path: Path) -> None:
    separator = _htdemucs(tmp_path).load()
    reader = ArrayReader(make_mixture(SHORT))
    plan = SeparationPlan(separator.sources, shifts=1, seed=1)
    first = separate_ours(separator, reader, plan)
    again = separate_ours(separator, reader, plan)
    other = separate_ours(separator, reader, SeparationPlan(separator.sources, shifts=1, seed=2))
    for source in separator.sources:
        np.testing.assert_array_equal(first[source], again[source])
        assert not np.array_equal(first[source], other[source])


def test_audio_around_the_item_is_heard_and_not_counted(tmp_path: Path) -> None:
    separator = _htdemucs(tmp_path).load()
    audio = make_mixture(3 * SHORT)
    plan = SeparationPlan(separator.sources)
    within = separate_ours(separator, ArrayReader(audio, SHORT, SHORT), plan)
    alone = separate_ours(separator, ArrayReader(audio[:, SHORT : 2 * SHORT].copy()), plan)
    for source in separator.sources:
        assert within[source].shape == (2, SHORT)
        assert agreement_db(alone[source], within[source]) < 60


def test_no_step_looks_further_than_a_segment_and_silence_stays_finite(kind: Kind) -> None:
    separator = kind.load()
    reader = ArrayReader(np.zeros((2, LONG), dtype=np.float32))
    stems = separate_ours(separator, reader, SeparationPlan(separator.sources))
    assert reader.most_read <= separator.segment_frames
    assert all(np.isfinite(stem).all() for stem in stems.values())
    assert max(float(np.abs(stem).max()) for stem in stems.values()) < 1e-6


def test_the_first_block_comes_before_the_mixture_is_read_to_its_end(tmp_path: Path) -> None:
    separator = _htdemucs(tmp_path).load()

    class Watched(ArrayReader):
        furthest = 0

        def read(self, start: int, frames: int) -> Audio:
            self.furthest = max(self.furthest, start + frames)
            return super().read(start, frames)

    reader = Watched(make_mixture(LONG))
    blocks: Iterator[Block] = separator.separate([reader], SeparationPlan(separator.sources))
    assert next(blocks).stems.shape[2] == int(0.75 * RATE)
    assert reader.furthest <= RATE


@pytest.mark.parametrize(
    "plan",
    [
        SeparationPlan(("piano",)),
        SeparationPlan(("drums",), overlap=1.0),
        SeparationPlan(("drums",), overlap=-0.1),
        SeparationPlan(("drums",), overlap=0.999999),
        SeparationPlan(("drums",), shifts=-1),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, plan: SeparationPlan
) -> None:
    with pytest.raises(RequestError):
        _htdemucs(tmp_path).load().count_steps([LONG], plan)


def test_warm_up_and_what_a_separator_says_of_itself(kind: Kind) -> None:
    separator: Any = kind.load()
    separator.warm_up()
    assert (separator.sample_rate, separator.channels) == (RATE, 2)
    assert separator.is_deterministic
    assert len(separator.sha256) == 64
    assert separator.sha256 == kind.load("vocals").sha256


BLOCKED = """
import sys
sys.modules["torchaudio"] = None
from dataclasses import replace
from pathlib import Path
import numpy as np
from stembridge.catalog import find_model
from stembridge.model_store import locate
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.separators.base import SeparationPlan

class Silence:
    channels, frames, mean, deviation = 2, 1000, 0.0, 0.0
    def read(self, start, frames):
        return np.zeros((2, frames), dtype=np.float32)

separator = load_separator("htdemucs", locate(find_model("htdemucs"), [Path(sys.argv[1])]))
blocks = list(separator.separate([Silence()], SeparationPlan(separator.sources)))
print(sum(block.stems.shape[2] for block in blocks))
"""


def test_an_htdemucs_splits_without_torchaudio(tmp_path: Path) -> None:
    write_th(small_htdemucs(1), tmp_path, "955717e8")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "1000", done.stderr
