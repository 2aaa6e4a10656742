"""HTDemucs' fast forward gives the stems of the stock one, whatever it is built of; 16 bits nearly so."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn

from model_files import SIX, official_htdemucs, one_thread, small_demucs, small_htdemucs
from stembridge.synthesis import make_song
from stembridge.types import Precision
from stembridge_daemon.worker.forward import kernels
from stembridge_daemon.worker.forward.base import Forward, UnknownLayout
from stembridge_daemon.worker.forward.building import build_forward
from stembridge_daemon.worker.forward.dilated import DilatedBranch
from stembridge_daemon.worker.forward.htdemucs import FastHTDemucs
from stembridge_daemon.worker.forward.kernels import Numbers
from stembridge_daemon.worker.forward.precision import agreement_db, check_half
from stembridge_daemon.worker.forward.runner import Runner

CPU = torch.device("cpu")
FULL = Numbers(torch.float32, CPU)
HALF = Numbers(torch.bfloat16, CPU)
ALL = range(4)
FULL_DB, HALF_DB = 100, 30
SHORT = Fraction(1, 4)
"""A segment, in seconds, of models whose tests are many."""

BUILDS: dict[str, dict[str, Any]] = {
    "as released": {},
    "six sources, narrow": {"sources": SIX, "bottom_channels": 0},
    "branches in encoders alone": {"dconv_mode": 1},
    "branches in decoders alone": {"dconv_mode": 2},
    "no branches": {"dconv_mode": 0},
    "one deep branch": {"dconv_depth": 1, "dconv_comp": 4},
    "no transformer": {"t_layers": 0},
    "one layer": {"t_layers": 1},
    "five layers": {"t_layers": 5},
    "other branch first": {"t_cross_first": True},
    "no scales of layers": {"t_layer_scale": False},
    "other positions": {"t_max_period": 100.0, "t_weight_pos_embed": 0.5, "t_hidden_scale": 2.0},
    "no frequencies": {"freq_emb": 0},
    "frequencies left out": {"freq_emb": None},
    "mono": {"audio_channels": 1},
    "wide context": {"context": 2},
    "no context": {"context": 0},
    "three deep": {"depth": 3, "bottom_channels": 0},
    "shorter transform": {"nfft": 2048},
    "stride of two": {"stride": 2, "kernel_size": 4, "segment": Fraction(1, 5)},
    "odd length": {"segment": Fraction(10_007, 44_100)},
    "a frame more than whole strides": {"segment": Fraction(16_385, 44_100)},
    "a frame less": {"segment": Fraction(16_383, 44_100)},
    "nearly too short to be mirrored": {"segment": Fraction(2_561, 44_100)},
    "half a second": {"segment": Fraction(1, 2)},
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(params=["fused", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of kernels: what a CPU with oneDNN runs, and what any other device does."""
    name: str = request.param
    if name == "plain":
        monkeypatch.setattr(kernels, "has_onednn", lambda _: False)
    return name


def small(seed: int = 1, **more: Any) -> Any:
    return small_htdemucs(seed, **{"segment": SHORT, **more})


def draw(stock: Any, batch: int = 1, frames: int | None = None) -> Tensor:
    """Return noise that fills a segment, or ``frames`` of one."""
    frames = frames or int(stock.segment * stock.samplerate)
    shape = batch, stock.audio_channels, frames
    return torch.randn(shape, generator=torch.Generator().manual_seed(frames))


def run(forward: Callable[..., Tensor], *inputs: Any) -> Tensor:
    with torch.inference_mode():
        return forward(*inputs)


@pytest.mark.parametrize("options", BUILDS.values(), ids=BUILDS)
def test_stems_are_those_of_stock(path: str, options: dict[str, Any]) -> None:
    stock = small(**options)
    batch = draw(stock, 2)
    stems, fast = run(stock, batch), run(FastHTDemucs(stock, FULL), batch, range(len(stock.sources)))
    assert fast.shape == stems.shape and fast.dtype == torch.float32
    for one in range(2):
        for source in range(len(stock.sources)):
            assert agreement_db(stems[one, source], fast[one, source]) >= FULL_DB


@pytest.mark.parametrize("frames", [1500, 11_024, 11_025])
@pytest.mark.parametrize("batch", [1, 3])
def test_what_does_not_fill_a_segment_is_as_stock_has_it(path: str, frames: int, batch: int) -> None:
    stock = small(2)
    noise = draw(stock, batch, frames)
    assert agreement_db(run(stock, noise), run(FastHTDemucs(stock, FULL), noise, ALL)) >= FULL_DB


@pytest.mark.parametrize(
    ("seed", "options"),
    [(5, {}), (7, {}), (11, BUILDS["six sources, narrow"]), (3, {"dconv_mode": 1})],
    ids=str,
)
def test_half_precision_is_near_stock(path: str, seed: int, options: dict[str, Any]) -> None:
    stock = small(seed, **options)
    batch = draw(stock, 2)
    stems, half = run(stock, batch), run(FastHTDemucs(stock, HALF), batch, range(len(stock.sources)))
    assert half.dtype == torch.float32
    found = agreement_db(stems, half)
    print(f"{found:.1f} dB")
    assert HALF_DB <= found < FULL_DB


@pytest.mark.parametrize("seed", [2, 3, 8])
def test_half_precision_is_no_further_from_stock_than_stock_in_half_precision(path: str, seed: int) -> None:
    """Eight channels are few: what rounding comes to in them differs by 25 dB from one seed to the next."""
    stock = small(seed)
    batch = draw(stock)
    stems, half = run(stock, batch), run(FastHTDemucs(stock, HALF), batch, ALL)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(stock, batch)
    print(f"{agreement_db(stems, half):.1f} dB, {agreement_db(stems, rounded):.1f} dB in autocast")
    assert agreement_db(stems, half) >= agreement_db(stems, rounded) - 1


@pytest.mark.parametrize("numbers", [FULL, HALF], ids=["full", "half"])
def test_each_of_a_batch_is_as_it_is_alone(path: str, numbers: Numbers) -> None:
    stock = small(4)
    forward = FastHTDemucs(stock, numbers)
    loud = draw(stock, 3) * torch.tensor([1.0, 1e-3, 30.0])[:, None, None] + 0.1
    together = run(forward, loud, ALL)
    alone = torch.cat([run(forward, one[None], ALL) for one in loud])
    for one, other in zip(alone, together, strict=True):
        assert agreement_db(one, other) >= (FULL_DB if numbers is FULL else HALF_DB)


@pytest.mark.parametrize("numbers", [FULL, HALF], ids=["full", "half"])
def test_reruns_are_bit_equal_and_nothing_is_written_into_a_mixture(path: str, numbers: Numbers) -> None:
    stock = small(5)
    forward, again = FastHTDemucs(stock, numbers), FastHTDemucs(stock, numbers)
    for batch in (draw(stock), draw(stock, 2, 9000)):
        kept = batch.clone()
        stems = run(forward, batch, ALL)
        run(forward, draw(stock, 3, 700), ALL)
        assert torch.equal(run(forward, batch, ALL), stems)
        assert torch.equal(run(again, batch, ALL), stems)
        assert torch.equal(batch, kept)


@pytest.mark.parametrize(
    "wanted", [[0], [3], [2, 0], [3, 2, 1, 0], [5, 1, 4], [5, 4, 3, 2, 1, 0], list(range(6))], ids=str
)
def test_wanted_sources_come_in_the_order_asked_for(path: str, wanted: list[int]) -> None:
    stock = small(6, sources=SIX)
    forward, batch = FastHTDemucs(stock, FULL), draw(stock, 2)
    assert torch.equal(run(forward, batch, wanted), run(forward, batch, range(6))[:, wanted])


def test_silence_stays_silent(path: str) -> None:
    stock = small(7)
    for numbers in (FULL, HALF):
        stems = run(FastHTDemucs(stock, numbers), torch.zeros(1, 2, 11_025), ALL)
        assert float(stems.abs().max()) < 1e-4


def test_what_16_bits_do_not_hold_of_a_branch_goes_in_beside_it() -> None:
    stock = small(5).encoder[2].dconv
    hidden = 3 + torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(1))
    full, half = (DilatedBranch(stock, numbers)._layers[0] for numbers in (FULL, HALF))
    width = hidden.shape[-1] + 2
    wanted = run(full._normalise, hidden, torch.float32)[..., :width]
    first, second = run(half._normalise, hidden, torch.bfloat16)[..., : 2 * width].float().chunk(2, dim=-1)
    assert agreement_db(wanted, first) < 60
    assert agreement_db(wanted, first + second) > 90


OLDER = """
import torch
from model_files import small_htdemucs
from stembridge_daemon.worker.forward.dilated import DilatedBranch
from stembridge_daemon.worker.forward.htdemucs import FastHTDemucs
from stembridge_daemon.worker.forward.kernels import Numbers
from stembridge_daemon.worker.forward.precision import agreement_db, half_dtype

cpu, stock = torch.device("cpu"), small_htdemucs(5)
batch = torch.randn(2, 2, 44_100, generator=torch.Generator().manual_seed(1))
with torch.inference_mode():
    stems = stock(batch)
    for dtype in (torch.float32, torch.bfloat16):
        print(agreement_db(stems, FastHTDemucs(stock, Numbers(dtype, cpu))(batch, range(4))))
print(half_dtype(cpu))
"""


@pytest.mark.parametrize("instructions", ["AVX2", "SSE41"])
def test_an_older_cpu_computes_the_same_and_has_no_half_precision(instructions: str) -> None:
    """oneDNN is held to few instructions; it has fused operators for 32 bits alone then."""
    told = {
        "ONEDNN_MAX_CPU_ISA": instructions,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", OLDER], env=os.environ | told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    full, half, dtype = done.stdout.split()
    assert float(full) >= FULL_DB
    assert HALF_DB <= float(half) < FULL_DB
    assert dtype == "None"


def test_stock_stays_whole() -> None:
    stock = small(8)
    before = {name: value.clone() for name, value in stock.state_dict().items()}
    stems = run(stock, draw(stock))
    for numbers in (FULL, HALF):
        run(FastHTDemucs(stock, numbers), draw(stock), ALL)
    assert all(torch.equal(value, before[name]) for name, value in stock.state_dict().items())
    assert torch.equal(run(stock, draw(stock)), stems)


def impulse(frames: int) -> Tensor:
    """Return a lone sample in silence, normalised as a job's mixture is."""
    mixture = torch.zeros(1, 2, frames)
    mixture[..., frames // 3] = 1
    return (mixture - mixture.mean()) / mixture.std()


def test_the_official_size_agrees_on_a_song() -> None:
    stock = official_htdemucs()
    frames = int(stock.segment * stock.samplerate)
    mixture = torch.from_numpy(make_song(5, seconds=7.8).mixture.astype("float32"))[None, :, :frames]
    song = (mixture - mixture.mean()) / mixture.std()
    stems = run(stock, song)
    full, half = (run(FastHTDemucs(stock, numbers), song, ALL) for numbers in (FULL, HALF))
    print(f"full {agreement_db(stems, full):.1f} dB, half {agreement_db(stems, half):.1f} dB")
    assert agreement_db(stems, full) >= 100 and agreement_db(stems, half) >= 38


@pytest.fixture(scope="module")
def shortened() -> Any:
    """An official HTDemucs whose segments are a second."""
    stock = official_htdemucs()
    stock.segment = Fraction(1)
    return stock


def test_the_official_size_keeps_something_of_an_impulse(shortened: Any) -> None:
    lone = impulse(44_100)
    stems = run(shortened, lone)
    full, half = (run(FastHTDemucs(shortened, numbers), lone, ALL) for numbers in (FULL, HALF))
    print(f"full {agreement_db(stems, full):.1f} dB, half {agreement_db(stems, half):.1f} dB")
    assert agreement_db(stems, full) >= 50 and agreement_db(stems, half) > 0


def set_in(path: str, value: Any) -> Callable[[Any], None]:
    """Return what puts ``value`` at a dotted place of a module."""

    def change(stock: Any) -> None:
        *way, last = path.split(".")
        owner = stock
        for name in way:
            owner = owner[int(name)] if name.isdigit() else getattr(owner, name)
        if last.isdigit():
            owner[int(last)] = value
        else:
            setattr(owner, last, value)

    return change


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "norms in the outer layers": ({"norm_starts": 2}, "an encoder layer with norms"),
    "positions that move": ({"t_emb": "cape"}, "positions cape"),
    "positions that are learned": ({"t_emb": "scaled"}, "positions scaled"),
    "positions drawn by chance": ({"t_sin_random_shift": 3}, "shifted by up to 3"),
    "norms over all tokens": ({"t_group_norm": True}, "a norm MyGroupNorm in the transformer"),
    "no norm at first": ({"t_norm_in": False}, "a norm Identity in the transformer"),
    "a norm over all tokens at first": (
        {"t_norm_in": False, "t_norm_in_group": True},
        "a norm MyGroupNorm in the transformer",
    ),
    "norms behind": ({"t_norm_first": False}, "norms elsewhere"),
    "no norm at the end": ({"t_norm_out": False}, "norms elsewhere"),
    "a norm in groups at the end": ({"t_norm_out": 2}, "norms elsewhere"),
    "rectified": ({"t_gelu": False}, "activation"),
    "masks": ({"cac": False}, "cac False"),
    "any length": ({"use_train_segment": False}, "use_train_segment False"),
    "context in encoders": ({"context_enc": 1}, "without a 1 x 1 convolution"),
    "no second convolution": ({"rewrite": False}, "without a 1 x 1 convolution"),
    "kernels that overlap less": ({"kernel_size": 6}, "kernel_size 6"),
    "bands": ({"multi_freqs": [0.25, 0.5]}, "empty None"),
    "a layer for all frequencies": (
        {"depth": 5, "bottom_channels": 0, "norm_starts": 9},
        "kernel of 8, stride 4 and padding 0",
    ),
    "branches that merge": ({"depth": 6, "bottom_channels": 0}, "branches of different depth"),
    "shorter than what is mirrored": ({"segment": Fraction(2_000, 44_100)}, "segments of 2000 frames"),
}


def attention(**more: bool) -> nn.Module:
    return nn.MultiheadAttention(32, 2, batch_first=True, **more)


CHANGED: dict[str, tuple[Callable[[Any], None], str]] = {
    "hops": (set_in("hop_length", 512), "4096 points, 512 frames apart"),
    "a norm in a decoder": (set_in("decoder.1.norm2", nn.GroupNorm(4, 64)), "a decoder layer with norms"),
    "a decoder without gate": (set_in("tdecoder.0.rewrite", None), "rewrite None"),
    "another kernel in a decoder": (set_in("decoder.3.kernel_size", 6), "kernel_size 6"),
    "another padding in a decoder": (set_in("tdecoder.3.pad", 1), "pad 1"),
    "a band of a decoder": (set_in("decoder.2.context_freq", False), "context_freq False"),
    "a joint layer": (set_in("tdecoder.0.empty", True), "empty True"),
    "no decoder": (lambda stock: stock.decoder.__delitem__(0), "branches of different depth"),
    "a rectified branch": (set_in("encoder.0.dconv.layers.0.2", nn.ReLU()), "Conv1d, GroupNorm, ReLU"),
    "a branch in groups": (set_in("tencoder.1.dconv.layers.1.1", nn.GroupNorm(2, 2)), "with groups"),
    "a longer branch": (
        lambda stock: stock.encoder[0].dconv.layers[0].append(nn.Identity()),
        "LayerScale, Identity",
    ),
    "another norm": (set_in("crosstransformer.layers.1.norm3", nn.Identity()), "a norm Identity"),
    "another activation": (set_in("crosstransformer.layers_t.0.activation", nn.functional.silu), "silu"),
    "another attention": (set_in("crosstransformer.layers.2.self_attn", nn.Identity()), "attention Identity"),
    "keys of its own": (
        set_in("crosstransformer.layers.0.self_attn", attention(add_bias_kv=True)),
        "keys of its own",
    ),
    "attention without bias": (
        set_in("crosstransformer.layers.0.self_attn", attention(bias=False)),
        "without bias",
    ),
    "sparse attention": (set_in("crosstransformer.layers.1.sparse", True), "or sparse"),
}


@pytest.mark.parametrize(("options", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_built_in_another_way_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnknownLayout, match=reason):
        build_forward(small(9, **options), Precision.FULL, CPU)


@pytest.mark.parametrize(("change", "reason"), CHANGED.values(), ids=CHANGED)
def test_what_was_changed_is_refused(change: Callable[[Any], None], reason: str) -> None:
    stock = small(9)
    FastHTDemucs(stock, FULL)
    change(stock)
    with pytest.raises(UnknownLayout, match=reason):
        build_forward(stock, Precision.FULL, CPU)


def test_other_kinds_of_models_are_refused() -> None:
    class Other(HTDemucs):  # type: ignore[misc]
        def forward(self, mix: Tensor) -> Tensor:
            stems: Tensor = 2 * super().forward(mix)
            return stems

    other = small(9)
    other.__class__ = Other
    for module in (small_demucs(1), other):
        with pytest.raises(UnknownLayout, match=type(module).__name__):
            build_forward(module, Precision.FULL, CPU)


@pytest.mark.parametrize(
    "options", [{"norm_starts": 2}, {"t_emb": "cape"}, {"t_gelu": False}, {"cac": False}], ids=str
)
def test_a_model_that_is_not_known_runs_on_stock(options: dict[str, Any]) -> None:
    stock = small(9, **options)
    batch = draw(stock)
    runner = Runner(copy.deepcopy(stock), name="htdemucs", channels=2, sources=4)
    answer = runner.run(batch.numpy(), [2, 0], Precision.FULL)
    assert answer.remarks == () and answer.is_repeatable
    assert torch.equal(torch.from_numpy(answer.stems), run(stock, batch)[:, [2, 0]])
    assert "no half-precision path" in runner.refuse_half(batch.shape[-1])


def test_what_the_runner_gives_is_the_fast_forwards() -> None:
    stock = small(10)
    batch = draw(stock)
    runner = Runner(copy.deepcopy(stock), name="htdemucs", channels=2, sources=4)
    answer = runner.run(batch.numpy(), [3, 1], Precision.FULL)
    assert torch.equal(torch.from_numpy(answer.stems), run(FastHTDemucs(stock, FULL), batch, [3, 1]))
    assert not torch.equal(torch.from_numpy(answer.stems), run(stock, batch)[:, [3, 1]])


def test_agreement_is_the_level_over_that_of_the_difference() -> None:
    wanted = torch.tensor([3.0, -4.0])
    assert agreement_db(wanted, wanted * 1.1) == pytest.approx(20, abs=1e-4)
    assert agreement_db(wanted, wanted) == math.inf
    assert agreement_db(torch.zeros(2), wanted) == -math.inf
    assert agreement_db(torch.zeros(2), torch.zeros(2)) == math.inf
    for odd in (math.nan, math.inf):
        assert math.isnan(agreement_db(wanted, torch.tensor([3.0, odd])))
        assert math.isnan(agreement_db(torch.tensor([3.0, odd]), wanted))


def check(half: Forward, stock: Any) -> str:
    shape = torch.Size((1, 2, int(stock.segment * stock.samplerate)))
    with torch.inference_mode():
        return check_half(half, FastHTDemucs(stock, FULL), ALL, shape, CPU)


def test_a_good_half_passes_its_check() -> None:
    stock = small(11)
    assert check(FastHTDemucs(stock, HALF), stock) == ""
    assert check(FastHTDemucs(stock, FULL), stock) == ""


def test_the_official_size_passes_its_check(shortened: Any) -> None:
    assert check(FastHTDemucs(shortened, HALF), shortened) == ""


@pytest.mark.parametrize("place", ["layers.0", "layers.1", "layers_t.4"])
def test_a_transformers_layer_left_out_is_refused(shortened: Any, place: str) -> None:
    scales = [shortened.get_submodule(f"crosstransformer.{place}.gamma_{one}").scale for one in (1, 2)]
    kept = [scale.clone() for scale in scales]
    for scale in scales:
        scale.zero_()
    try:
        half = FastHTDemucs(shortened, HALF)
    finally:
        for scale, value in zip(scales, kept, strict=True):
            scale.copy_(value)
    assert "of a dense mixture, 35 dB are asked for" in check(half, shortened)


def test_a_wrong_half_is_refused() -> None:
    stock, wrong = small(11), small(11)
    wrong.freq_emb.embedding.weight.zero_()
    assert "of a dense mixture, 35 dB are asked for" in check(FastHTDemucs(wrong, HALF), stock)
    assert "of a dense mixture, 35 dB are asked for" in check(FastHTDemucs(small(12), HALF), stock)


def test_a_half_that_is_not_finite_or_fails_on_an_impulse_is_refused() -> None:
    stock = small(11)
    good = FastHTDemucs(stock, HALF)

    def spoil(batch: Tensor, sources: Sequence[int]) -> Tensor:
        stems = good(batch, sources)
        stems[0, 0, 0, 5] = math.nan
        return stems

    def is_sparse(batch: Tensor) -> bool:
        return bool((batch > 1).sum() < 10)

    def fail(batch: Tensor, sources: Sequence[int]) -> Tensor:
        return good(batch, sources) * (-1 if is_sparse(batch) else 1)

    assert "keeps nan dB of a dense mixture" in check(spoil, stock)
    assert "of a lone impulse, 0 dB are asked for" in check(fail, stock)
