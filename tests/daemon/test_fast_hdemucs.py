"""HDemucs with fast layers gives the stems of the stock one, whatever it is built of and however long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torchaudio.models import HDemucs as TorchaudioHDemucs

from model_files import FOUR, make_lively, one_thread, small_demucs, small_hdemucs, small_torchaudio
from stembridge.types import Precision
from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.building import build_forward
from stembridge_daemon.worker.forward.hdemucs import FastHDemucs
from stembridge_daemon.worker.forward.kernels import Numbers
from stembridge_daemon.worker.forward.precision import agreement_db

CPU = torch.device("cpu")
FULL = Numbers(torch.float32, CPU)
ALL = range(4)
LEAST_DB = 100
LAYERS = ("HEncLayer", "HDecLayer")
INNER = ["decoder.0", "decoder.1", "encoder.4", "encoder.5", "tdecoder.0", "tencoder.4"]
"""Where norms, LSTM and attention are, or only a convolution to the other branch."""
PLAIN: dict[str, Any] = {"norm_starts": 9, "dconv_lstm": 9, "dconv_attn": 9}


def draw(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 2, frames, generator=torch.Generator().manual_seed(frames))


def run_both(stock: Any, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with one_thread(), torch.inference_mode():
        return stock(batch), FastHDemucs(stock, FULL)(batch, ALL)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 1023, 2000, 8192, 11025])
def test_stems_are_those_of_stock(frames: int, batch: int) -> None:
    stems, fast = run_both(small_hdemucs(1), draw(frames, batch))
    assert fast.shape == (batch, 4, 2, frames)
    assert agreement_db(stems, fast) >= LEAST_DB


@pytest.mark.parametrize(
    "options",
    [
        {"hybrid_old": True},
        {"hybrid": False},
        {"cac": False},
        {"dconv_mode": 3},
        {"dconv_mode": 0},
        {"multi_freqs": [0.25, 0.5]},
        {"context_enc": 1},
        {"freq_emb": 0},
        {"channels_time": 6},
        PLAIN,
        {**PLAIN, "dconv_mode": 3},
    ],
    ids="-".join,
)
def test_other_ways_to_build_it_give_the_stems_of_stock(options: dict[str, Any]) -> None:
    stems, fast = run_both(small_hdemucs(2, **options), draw(9001, 2))
    assert agreement_db(stems, fast) >= LEAST_DB


@pytest.mark.parametrize("frames", [6000, 11025])
@pytest.mark.parametrize("options", [{}, {**PLAIN, "nfft": 2048}], ids=["released", "plain"])
def test_torchaudios_stems_are_those_of_stock(options: dict[str, Any], frames: int) -> None:
    def build() -> torch.nn.Module:
        module: torch.nn.Module = TorchaudioHDemucs(sources=list(FOUR), channels=8, **options)
        return module

    stems, fast = run_both(make_lively(build, 3), draw(frames, 2))
    assert agreement_db(stems, fast) >= LEAST_DB


@pytest.mark.parametrize("build", [small_hdemucs, small_torchaudio])
def test_stock_computes_the_inner_layers_alone(
    build: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = build(1)
    forward = FastHDemucs(stock, FULL)
    layers = {name: one for name, one in stock.named_modules() if type(one).__name__.lstrip("_") in LAYERS}
    names = {id(next(layer.parameters())): name for name, layer in layers.items()}
    computed: list[str] = []
    for kind in {type(layer) for layer in layers.values()}:

        def note(layer: Any, *inputs: Any, own: Any = kind.forward) -> Any:
            computed.append(names[id(next(layer.parameters()))])
            return own(layer, *inputs)

        monkeypatch.setattr(kind, "forward", note)
    with one_thread(), torch.inference_mode():
        forward(draw(6000), ALL)
    assert sorted(name.replace("freq_", "").replace("time_", "t") for name in computed) == INNER


def test_wanted_sources_come_in_the_order_asked_for_and_reruns_are_bit_equal() -> None:
    forward, batch = FastHDemucs(small_hdemucs(1), FULL), draw(7000)
    kept = batch.clone()
    with one_thread(), torch.inference_mode():
        stems = forward(batch, ALL)
        other = forward(draw(3000, 2), ALL)
        assert torch.equal(forward(batch, ALL), stems)
        assert torch.equal(forward(batch, [3, 1]), stems[:, [3, 1]])
    assert torch.equal(batch, kept) and other.shape == (2, 4, 2, 3000)


def test_stock_stays_whole_and_shares_what_is_not_replaced() -> None:
    for stock in (small_hdemucs(1), small_torchaudio(1)):
        names, batch = [name for name, _ in stock.named_modules()], draw(6000)
        with one_thread(), torch.inference_mode():
            stems = stock(batch)
            forward = FastHDemucs(stock, FULL)
            fast = forward(batch, ALL)
            assert [name for name, _ in stock.named_modules()] == names
            assert torch.equal(stock(batch), stems)
            for parameter in stock.parameters():
                if parameter.ndim == 2:  # of the LSTMs, in inner layers alone
                    parameter.zero_()
            assert not torch.equal(forward(batch, ALL), fast)


def test_it_is_what_hdemucs_is_built_as_in_full_precision_on_the_cpu() -> None:
    for stock in (small_hdemucs(1), small_torchaudio(1)):
        assert isinstance(build_forward(stock, Precision.FULL, CPU), FastHDemucs)
        with pytest.raises(UnknownLayout, match="HDemucs"):
            build_forward(stock, Precision.FULL, torch.device("cuda"))
    with pytest.raises(UnknownLayout):
        build_forward(small_demucs(1), Precision.FULL, CPU)


def test_unknown_layouts_are_left_to_stock() -> None:
    with pytest.raises(UnknownLayout, match="with norms"):
        FastHDemucs(small_hdemucs(1, norm_starts=0), FULL)
    with pytest.raises(UnknownLayout, match="without a 1 x 1 convolution"):
        FastHDemucs(small_hdemucs(1, rewrite=False), FULL)
    with pytest.raises(UnknownLayout, match="16 bits"):
        FastHDemucs(small_hdemucs(1), Numbers(torch.bfloat16, CPU))
