"""Packed states that diffq writes come out bit for bit as diffq restores them.

diffq is no dependency; ``conftest.py`` leaves this file out where it is not installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffq
import pytest
import torch
from demucs.states import set_state
from diffq import DiffQuantizer, UniformQuantizer, bitpack, torch_pack

from model_files import (
    one_thread,
    pack_numbers,
    package_of,
    small_demucs,
    small_hdemucs,
    write_bag,
    write_package,
    write_safetensors,
)
from stembridge.catalog import find_model
from stembridge.errors import ModelError
from stembridge.model_store import locate
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.packed_states import NamedClass, unpack_state

MODELS = {"Demucs": small_demucs, "HDemucs": small_hdemucs}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def diffq_state(
    module: Any, klass: Any, options: dict[str, Any], *, layout: str = "usual", logit: float | None = None
) -> dict[str, Any]:
    """Return diffq's own state; the bits of its groups are drawn, or all follow from ``logit``."""
    quantizer = klass(module, **options)
    draw = torch.Generator().manual_seed(3)
    for parameter in quantizer._qparams if klass is DiffQuantizer else ():
        values = 2 * torch.randn(parameter.logit.shape, generator=draw)
        parameter.logit.data[:] = values.clamp(-9, 3) if logit is None else logit
    state: dict[str, Any] = quantizer.get_quantized_state(
        packed=layout != "plain", torch_pack=layout == "torch"
    )
    assert state["quantized"]
    quantizer.detach()
    return state


def assert_agrees(name: str, klass: Any, options: dict[str, Any], layout: str) -> None:
    state = diffq_state(MODELS[name](20), klass, options, layout=layout)
    stock = MODELS[name](21)
    diffq.restore_quantized_state(stock, state)
    state["meta"]["klass"] = NamedClass(f"{klass.__module__}.{klass.__qualname__}")
    ours = MODELS[name](22)
    ours.load_state_dict(unpack_state(ours, state))
    assert list(ours.state_dict()) == list(stock.state_dict())
    for key, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


@pytest.mark.parametrize("layout", ["usual", "torch", "plain"])
@pytest.mark.parametrize(
    "options",
    [
        {"group_size": 8},
        {"min_size": 0.05},
        {"group_size": 4, "min_size": 0.002},
        {"group_size": 16, "min_size": 0.1, "min_bits": 4, "max_bits": 11},
        {"group_size": 2, "min_size": 0.02, "min_bits": 1, "max_bits": 9, "init_bits": 3, "float16": True},
        {"group_size": 8, "min_size": 0.01, "param": "noise", "exclude": ["*decoder.1.*", "weight_hh*"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", MODELS)
def test_diff_quantizer(name: str, options: dict[str, Any], layout: str) -> None:
    assert_agrees(name, DiffQuantizer, options, layout)


@pytest.mark.parametrize("layout", ["usual", "plain"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bits": 1},
        {"bits": 3, "min_size": 0.05},
        {"bits": 5.0, "float16": True},
        {"bits": 13, "min_size": 0.002, "exclude": ["*.bias"]},
        {"bits": 15},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", MODELS)
def test_uniform_quantizer(name: str, options: dict[str, Any], layout: str) -> None:
    """Its packs exist in the usual layout alone: diffq 0.2.4 fails to write the other."""
    assert_agrees(name, UniformQuantizer, options, layout)


@pytest.mark.parametrize("logit", [-20.0, 0.0])
@pytest.mark.parametrize("layout", ["usual", "torch"])
def test_groups_that_all_have_the_same_bits(layout: str, logit: float) -> None:
    """With the fewest bits, the pack of bits has no planes at all."""
    state = diffq_state(small_hdemucs(20), DiffQuantizer, {"group_size": 8}, layout=layout, logit=logit)
    stock = small_hdemucs(21)
    diffq.restore_quantized_state(stock, state)
    state["meta"]["klass"] = NamedClass("diffq.diffq.DiffQuantizer")
    for key, value in unpack_state(small_hdemucs(22), state).items():
        assert torch.equal(value, stock.state_dict()[key]), key


def test_groups_of_15_bits_whose_levels_diffq_does_not_write_are_refused() -> None:
    state = diffq_state(small_hdemucs(20), DiffQuantizer, {"group_size": 8}, logit=20.0)
    state["meta"]["klass"] = NamedClass("diffq.diffq.DiffQuantizer")
    with pytest.raises(ModelError, match="groups of 15 to 15 bits"):
        unpack_state(small_hdemucs(22), state)


@pytest.mark.parametrize("layout", ["th", "safetensors"])
def test_a_file_loads_as_stock_loads_it(tmp_path: Path, layout: str) -> None:
    module = small_hdemucs(20)
    state = diffq_state(module, DiffQuantizer, {"group_size": 4, "min_size": 0.05}) | {"__quantized": True}
    if layout == "th":
        write_package(package_of(module, state), tmp_path, "83fc094f")
    else:
        write_safetensors(module, tmp_path, "83fc094f", state=state)
    write_bag(tmp_path, "mdx_extra_q", ["83fc094f"])
    stock = small_hdemucs(0)
    set_state(stock, state)
    files = locate(find_model("mdx_extra_q"), [tmp_path])
    assert files is not None
    module = load_separator("mdx_extra_q", files)._runners[0].module  # type: ignore[attr-defined]
    assert list(module.state_dict()) == list(stock.state_dict())
    for key, value in stock.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key


@pytest.mark.parametrize("count", [1, 15, 16, 17, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("width", [1, 4, 14, 15])
def test_the_packs_of_the_other_tests_are_diffqs(count: int, width: int) -> None:
    numbers = torch.randint(0, 2**width, (count,), generator=torch.Generator().manual_seed(count))
    assert torch.equal(pack_numbers(numbers, width), bitpack.pack(numbers, width))
    assert torch.equal(pack_numbers(numbers, width, torch_pack=True), torch_pack.pack(numbers, width))
