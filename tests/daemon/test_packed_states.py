"""Packed states become the weights that they stand for, and what is wrong in one is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_files import quantized_state
from stembridge.errors import ModelError
from stembridge_daemon.worker.packed_states import NamedClass, unpack_state

SMALL: dict[str, Any] = {"min_size": 256 * 4 / 2**20}
"""Parameters of 256 values are small, those of 257 are not."""


def make_module(seed: int = 1) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.ModuleDict(
            {
                "first": torch.nn.Linear(16, 16),
                "second": torch.nn.ModuleList([torch.nn.Linear(72, 60), torch.nn.LSTM(24, 12)]),
                "own": torch.nn.Conv1d(4, 12, 8),
            }
        )


def as_read(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state as the loader gives it: the quantizer is a name."""
    klass = state["meta"]["klass"]
    return state | {"meta": {**state["meta"], "klass": NamedClass(f"{klass.__module__}.{klass.__name__}")}}


def assert_unpacks(module: torch.nn.Module, quantizer: str, **options: Any) -> None:
    state, weights = quantized_state(module, quantizer, **options)
    got = unpack_state(module, as_read(state))
    assert list(state["quantized"])
    assert set(got) == set(weights)
    for name, value in weights.items():
        assert torch.allclose(got[name].float(), value, rtol=0, atol=2e-6 * value.abs().max().item()), name


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("torch_pack", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group_size": 4},
        {"group_size": 8, "float16": True},
        {"group_size": 12, "min_bits": 1, "max_bits": 9},
        {"group_size": 4, "min_bits": 5, "max_bits": 5},
        {"group_size": 6, "exclude": ["*bias_hh_l0", "*weight_hh_l0"]},
    ],
)
def test_groups_of_any_bits(options: dict[str, Any], packed: bool, torch_pack: bool) -> None:
    assert_unpacks(make_module(), "DiffQuantizer", packed=packed, torch_pack=torch_pack, **SMALL, **options)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "options", [{}, *({"bits": bits} for bits in range(1, 16)), {"bits": 4.0, "float16": True}]
)
def test_one_number_of_bits_for_all(options: dict[str, Any], packed: bool) -> None:
    assert_unpacks(make_module(), "UniformQuantizer", packed=packed, **SMALL, **options)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(2, 1100),
    size=st.integers(1, 9),
    least=st.integers(1, 14),
    spread=st.integers(0, 13),
    torch_pack=st.booleans(),
)
def test_any_number_of_values(groups: int, size: int, least: int, spread: int, torch_pack: bool) -> None:
    module = torch.nn.Linear(groups, size, bias=False)
    torch.nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(groups))
    assert_unpacks(
        module,
        "DiffQuantizer",
        min_size=0,
        group_size=size,
        min_bits=least,
        max_bits=min(14, least + spread),
        torch_pack=torch_pack,
    )


@pytest.mark.parametrize("torch_pack", [True, False])
@pytest.mark.parametrize("groups", [15, 16, 17, 2047, 2048, 2049, 4096])
def test_numbers_of_values_around_those_that_fill_a_pack(groups: int, torch_pack: bool) -> None:
    module = torch.nn.Linear(groups, 1, bias=False)
    assert_unpacks(module, "DiffQuantizer", min_size=0, torch_pack=torch_pack, min_bits=6, max_bits=6)


@pytest.mark.parametrize(("options", "largest"), [(SMALL, 256), ({}, 2621)])
def test_the_size_that_divides_quantized_from_plain(options: dict[str, Any], largest: int) -> None:
    """diffq's default is 0.01 MiB, that is 2621 values."""
    module = torch.nn.ModuleList([torch.nn.Linear(largest + 1, 1), torch.nn.Linear(largest, 1)])
    state, _ = quantized_state(module, **options)
    assert len(state["quantized"]) == 1
    assert len(state["others"]) == 3
    assert torch.equal(unpack_state(module, as_read(state))["1.weight"], module.get_parameter("1.weight"))


Change = Callable[[dict[str, Any]], Any]


def first(change: Callable[[list[Any]], Any]) -> Change:
    """Return a change of the first quantized parameter, second.0.weight, as a list of its parts."""

    def apply(state: dict[str, Any]) -> None:
        parts = list(state["quantized"][0])
        parts[0] = list(parts[0])
        change(parts)
        state["quantized"][0] = tuple(parts)

    return apply


def option(**options: Any) -> Change:
    return lambda state: state["meta"]["init_kwargs"].update(options)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state["meta"].update(klass=NamedClass("os.system")), "a quantizer that is none"),
        (lambda state: state["meta"].update(klass="diffq.diffq.DiffQuantizer"), "a quantizer that is none"),
        (lambda state: state.pop("meta"), "a quantizer that is none"),
        (lambda state: state["meta"].pop("init_kwargs"), "arguments are missing"),
        (lambda state: state["quantized"].pop(), "quantized: no list of 4"),
        (lambda state: state["quantized"].append(None), "quantized: no list of 4"),
        (lambda state: state.update(quantized=None), "quantized: no list of 4"),
        (lambda state: state.pop("float16"), "float16: no list of 0"),
        (lambda state: state["others"].pop(0), "others: no list of 6"),
        (lambda state: state["others"].reverse(), "weights of first.weight: no torch.float32 of shape"),
        (lambda state: state["others"].__setitem__(0, 3.0), "weights of first.weight: no torch.float32"),
        (lambda state: state["others"].__setitem__(1, torch.zeros(16).int()), "weights of first.bias: no"),
        (lambda state: state["quantized"].reverse(), "weights of second.0.weight: a pack of torch.int64"),
        (option(min_size=0.5), "quantized: no list of 0"),
        (option(min_size=-1), "min_size is no number"),
        (option(min_size="0"), "min_size is no number"),
        (option(min_size=float("nan")), "min_size is no number"),
        (option(exclude="weight"), "exclude is no list"),
        (option(exclude=[3]), "exclude is no list"),
        (option(exclude=["own.wei*"]), "quantized: no list of 3"),
        (option(exclude=["weight"]), "quantized: no list of 2"),
        (option(float16=True), "float16: no list of 6"),
        (option(group_size=7), r"second\.0\.weight: 4320 values are no whole groups of 7"),
        (option(group_size=2), r"second\.0\.weight: a pack of torch.int64 of shape \(1, 4, 32\) for 2160"),
        (option(group_size=0), r"second\.0\.weight: group_size is no whole number"),
        (option(group_size=4.5), r"second\.0\.weight: group_size is no whole number"),
        (option(group_size=True), r"second\.0\.weight: group_size is no whole number"),
        (option(group_size=4321), r"second\.0\.weight: group_size is no whole number"),
        (option(min_bits=4), r"second\.0\.weight: groups of 4 to 16 bits"),
        (option(min_bits=3), r"second\.0\.weight: groups of 3 to 15 bits"),
        (option(min_bits=1), r"second\.0\.weight: (levels of|no tensor|a pack)"),
        (option(min_bits=0), r"second\.0\.weight: groups of 0 to 12"),
        (option(min_bits=-1), r"second\.0\.weight: min_bits is no whole number from 0"),
        (option(min_bits=float("inf")), r"second\.0\.weight: min_bits is no whole number"),
        (first(lambda parts: parts.pop()), r"second\.0\.weight: no list of 3"),
        (first(lambda parts: parts[0].pop()), r"second\.0\.weight: no list of 14"),
        (first(lambda parts: parts[0].__setitem__(4, None)), r"second\.0\.weight: no tensor"),
        (first(lambda parts: parts[0].__setitem__(0, parts[0][4])), r"levels of 1 bits, which no group has"),
        (first(lambda parts: parts[0].reverse()), r"second\.0\.weight: "),
        (first(lambda parts: parts[0].__setitem__(4, parts[0][4].int())), "a pack of torch.int32"),
        (first(lambda parts: parts[0].__setitem__(4, parts[0][4][:, :-1])), r"shape \(1, 4, 32\)"),
        (first(lambda parts: parts[0].__setitem__(4, parts[0][4][..., :-1])), r"shape \(1, 5, 31\)"),
        (first(lambda parts: parts[0].__setitem__(4, parts[0][4][0])), r"shape \(5, 32\)"),
        (first(lambda parts: parts.__setitem__(2, parts[2].repeat(2, 1, 1))), r"shape \(2, 4, 32\)"),
        (first(lambda parts: parts.__setitem__(2, parts[2].repeat(1, 2, 1))), r"shape \(1, 8, 32\)"),
        (first(lambda parts: parts.__setitem__(1, (1.0,))), r"second\.0\.weight: no list of 2"),
        (first(lambda parts: parts.__setitem__(1, (1.0, 0.0))), r"second\.0\.weight: its range"),
        (first(lambda parts: parts.__setitem__(1, (0.0, float("inf")))), r"second\.0\.weight: its range"),
        (first(lambda parts: parts.__setitem__(1, (float("nan"), 1.0))), r"second\.0\.weight: its range"),
        (first(lambda parts: parts.__setitem__(1, ("a", "b"))), r"second\.0\.weight: its range"),
        (lambda state: state["meta"].update(torch_pack=True), r"second\.0\.weight: a pack of torch.int64"),
        (lambda state: state["meta"].update(packed=False), r"second\.0\.weight: torch.int64 of shape"),
    ],
)
def test_what_is_wrong_in_a_packed_state_is_named(change: Change, match: str) -> None:
    module = make_module()
    state = as_read(quantized_state(module, group_size=4, **SMALL)[0])
    change(state)
    with pytest.raises(ModelError, match=match) as caught:
        unpack_state(module, state)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (option(bits=5), r"second\.0\.weight: a pack of torch.int64 of shape \(3, 6, 32\)"),
        (option(bits=6.5), r"second\.0\.weight: bits is no whole number"),
        (option(bits=16), r"second\.0\.weight: bits is no whole number"),
        (option(bits=0), r"second\.0\.weight: bits is no whole number"),
        (first(lambda parts: parts.append(None)), r"second\.0\.weight: no list of 2"),
        (lambda state: state["meta"].update(torch_pack=True), r"second\.0\.weight: a pack of torch.int64"),
    ],
)
def test_what_is_wrong_in_a_uniform_state_is_named(change: Change, match: str) -> None:
    module = make_module()
    state = as_read(quantized_state(module, "UniformQuantizer", bits=6, **SMALL)[0])
    change(state)
    with pytest.raises(ModelError, match=match):
        unpack_state(module, state)


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("number", [-1, 0, 16, 32767])
def test_numbers_beyond_their_bits_are_refused(place: int, number: int) -> None:
    """Plain tensors can hold what bit planes cannot."""
    module = make_module()
    state = as_read(quantized_state(module, packed=False, group_size=4, max_bits=4, **SMALL)[0])
    parts = list(state["quantized"][0])
    parts[place] = parts[place].to(torch.int16)
    parts[place].view(-1)[5] = number
    state["quantized"][0] = tuple(parts)
    if place == 0 and number == 0:
        assert unpack_state(module, state)["second.0.weight"].view(-1)[5] == parts[1][0]
        return
    with pytest.raises(ModelError, match=r"second\.0\.weight: bits beyond 1 to 15 or levels beyond"):
        unpack_state(module, state)
