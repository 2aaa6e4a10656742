"""Small models with seeded random weights, written as demucs, its hub export and torchaudio write theirs.

The weights are "lively": a fresh Demucs model starts with LayerScales of 1e-3 and norms of one, which hide
errors in whole branches. All weights are representable in half precision, as those of released models are.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

FOUR = ("drums", "bass", "other", "vocals")
SIX = (*FOUR, "guitar", "piano")
QUANTIZERS: dict[str, type] = {
    "DiffQuantizer": type("DiffQuantizer", (), {"__module__": "diffq.diffq"}),
    "UniformQuantizer": type("UniformQuantizer", (), {"__module__": "diffq.uniform"}),
}
"""Stand-ins that bear the names of diffq's classes: a packed state names one, and diffq is not needed."""
LIVELY = 0.3
"""Standard deviation of LayerScales and of norm weights around one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread: several that wait for each other crawl on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_lively(build: Callable[[], torch.nn.Module], seed: int) -> Any:
    """Return the module that ``build`` makes, its weights seeded, lively and rounded to half precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
        with torch.no_grad():
            for part in module.modules():
                if type(part).__name__.endswith("LayerScale"):
                    part.scale.normal_(0, LIVELY)  # type: ignore[operator]
                elif isinstance(part, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
                    part.weight.normal_(1, LIVELY)
                    part.bias.normal_(0, 0.1)
            for parameter in module.parameters():
                parameter.copy_(parameter.half().float())
    return module.eval().requires_grad_(False)


def official_htdemucs(seed: int = 0) -> Any:
    """Return an HTDemucs of the released size: 41,984,456 parameters, segments of 7.8 s."""
    return make_lively(
        lambda: HTDemucs(
            list(FOUR), depth=4, dconv_mode=3, bottom_channels=512, t_layers=5, t_dropout=0.02,
            segment=Fraction(39, 5),
        ),
        seed,
    )  # fmt: skip


def small_htdemucs(
    seed: int, sources: Sequence[str] = FOUR, segment: Fraction = Fraction(1), **more: Any
) -> Any:
    """Return an HTDemucs of the released shape, eight channels wide."""
    options = {"bottom_channels": 32, "dconv_mode": 3, "t_layers": 3, "t_heads": 2, "t_dropout": 0.02, **more}
    return make_lively(lambda: HTDemucs(list(sources), channels=8, segment=segment, **options), seed)


def small_hdemucs(seed: int, segment: float = 1, **more: Any) -> Any:
    return make_lively(lambda: HDemucs(list(FOUR), channels=8, segment=segment, **more), seed)


def small_demucs(seed: int, segment: float = 1) -> Any:
    return make_lively(lambda: Demucs(list(FOUR), channels=8, segment=segment), seed)


def small_torchaudio(seed: int) -> Any:
    from torchaudio.models import HDemucs as TorchaudioHDemucs

    return make_lively(lambda: TorchaudioHDemucs(sources=list(FOUR), channels=8), seed)


def package_of(module: Any, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what ``demucs.states.serialize_model`` puts into a file."""
    args, kwargs = module._init_args_kwargs
    half = {key: value.half() for key, value in module.state_dict().items()}
    return {
        "klass": type(module),
        "args": args,
        "kwargs": kwargs,
        "state": half if state is None else state,
        "training_args": {"dset": {"segment": 11, "shift": 1.0}, "epochs": 360, "name": "test"},
    }


def write_package(package: Any, folder: Path, signature: str, *, with_checksum: bool = True) -> Path:
    """Write ``<signature>-<checksum>.th`` as ``demucs.states.save_with_checksum`` does, or leave it out."""
    buffer = io.BytesIO()
    with _stand_ins_found(package):
        torch.save(package, buffer)
    checksum = f"-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}" if with_checksum else ""
    path = folder / f"{signature}{checksum}.th"
    path.write_bytes(buffer.getvalue())
    return path


@contextmanager
def _stand_ins_found(package: Any) -> Iterator[None]:
    """Let pickle, which looks a class up before it writes the name, find the stand-in that a state names."""
    state = package.get("state") if isinstance(package, dict) else None
    klass = state.get("meta", {}).get("klass") if isinstance(state, dict) else None
    if klass is None or klass not in QUANTIZERS.values():
        yield
        return
    names = ("diffq", klass.__module__)
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = ModuleType(name)
    setattr(sys.modules[klass.__module__], klass.__name__, klass)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


def write_th(module: Any, folder: Path, signature: str, *, with_checksum: bool = True) -> Path:
    return write_package(package_of(module), folder, signature, with_checksum=with_checksum)


def write_safetensors(
    module: Any, folder: Path, signature: str, *, state: dict[str, Any] | None = None, **metadata: str
) -> Path:
    """Write ``<signature>.safetensors`` as demucs' export to the hub does; ``metadata`` replaces keys."""
    from safetensors.torch import save_file

    package = package_of(module, state)
    header = {
        "klass": f"{type(module).__module__}.{type(module).__qualname__}",
        "args": json.dumps(package["args"], default=_encode),
        "kwargs": json.dumps(package["kwargs"], default=_encode),
    }
    tensors: dict[str, torch.Tensor] = {}
    if state is None:
        tensors = {key: value.contiguous() for key, value in package["state"].items()}
    else:
        header["structure"] = json.dumps(_flatten(state, "state", tensors))
    path = folder / f"{signature}.safetensors"
    save_file(tensors, path, metadata=header | metadata)
    return path


def _encode(value: Any) -> Any:
    assert isinstance(value, Fraction)
    return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Return the json tree of a packed state; its tensors go into ``tensors``."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value.clone().contiguous()
        return {"_tensor": path}
    if isinstance(value, dict):
        return {"_dict": [[key, _flatten(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = f"_{type(value).__name__}"
        return {kind: [_flatten(item, f"{path}.{place}", tensors) for place, item in enumerate(value)]}
    if isinstance(value, type):
        return {"_class": f"{value.__module__}.{value.__qualname__}"}
    return value


def pack_numbers(numbers: torch.Tensor, width: int, *, torch_pack: bool = False) -> torch.Tensor:
    """Return whole numbers below ``2**width`` as bit planes, in one of diffq's two layouts."""
    flat = numbers.flatten().long()
    place = torch.arange(len(flat))
    if torch_pack:
        words = math.ceil(len(flat) / 16)
        block, bit, word = torch.zeros_like(place), place // words, place % words
        planes = torch.zeros(1, width, words, dtype=torch.int64)
    else:
        block, bit, word = place // 2048, place % 2048 // 32, place % 32
        planes = torch.zeros(math.ceil(len(flat) / 2048), width, 32, dtype=torch.int64)
    for plane in range(width):
        index = (block, torch.full_like(place, plane), word)
        planes.index_put_(index, (flat >> plane & 1) << bit, accumulate=True)
    return planes[0].to(torch.int16) if torch_pack else planes


def quantized_state(
    module: Any,
    quantizer: str = "DiffQuantizer",
    *,
    packed: bool = True,
    torch_pack: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return a state packed as mdx_q and mdx_extra_q are, and the weights that it stands for.

    ``options`` are arguments of the quantizer; the bits of DiffQuantizer's groups are drawn from
    ``min_bits`` to ``max_bits``. The weights are reckoned in float64, so they agree to rounding alone.
    """
    state: dict[str, Any] = {"quantized": [], "float16": [], "others": [], "__quantized": True}
    weights: dict[str, torch.Tensor] = {}
    draw = torch.Generator().manual_seed(len(options))
    rest = "float16" if options.get("float16") else "others"
    for name, parameter in module.named_parameters():
        value = parameter.detach()
        excluded = name.endswith(tuple(one.strip("*") for one in options.get("exclude", ["nothing"])))
        if excluded or value.numel() * 4 <= options.get("min_size", 0.01) * 2**20:
            weights[name] = value.half().float() if rest == "float16" else value.clone()
            state[rest].append(value.half() if rest == "float16" else weights[name])
            continue
        if quantizer == "UniformQuantizer":
            size, least, bits = value.numel(), 0, torch.tensor([options.get("bits", 8)])
        else:
            size, least = options.get("group_size", 1), options.get("min_bits", 2)
            groups = (value.numel() // size,)
            bits = torch.randint(max(1, least), options.get("max_bits", 14) + 1, groups, generator=draw)
        low, high = value.min().item(), value.max().item()
        top = 2.0 ** bits.double()[:, None] - 1
        levels = ((value.double().view(-1, size) - low) / (high - low) * top).round()
        weights[name] = (low + (high - low) * levels / top).float().view(value.shape)
        scale, numbers = (low, high), levels.to(torch.int16)
        if quantizer == "UniformQuantizer":
            pack = pack_numbers(numbers, int(bits)) if packed else numbers.view(value.shape)
            state["quantized"].append((pack, scale))
        elif packed:
            packs = [
                pack_numbers(numbers[bits == width], width, torch_pack=torch_pack)
                if (bits == width).any()
                else None
                for width in range(1, 15)
            ]
            above = bits - least
            of_bits = pack_numbers(above, int(above.max()).bit_length(), torch_pack=torch_pack)
            state["quantized"].append((packs, scale, of_bits))
        else:
            state["quantized"].append((numbers, scale, bits.byte()))
    klass = QUANTIZERS[quantizer]
    state["meta"] = {"init_kwargs": options, "klass": klass, "packed": packed, "torch_pack": torch_pack}
    return state, weights


def write_bag(
    folder: Path,
    name: str,
    signatures: Sequence[str],
    *,
    weights: Sequence[Sequence[float]] | None = None,
    segment: float | None = None,
) -> Path:
    """Write ``<name>.yaml`` with the keys that the bags of demucs have."""
    listed: dict[str, Any] = {"models": list(signatures)}
    if weights is not None:
        listed["weights"] = [list(row) for row in weights]
    if segment is not None:
        listed["segment"] = segment
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(listed, default_flow_style=None), "utf-8")
    return path


def write_state(module: torch.nn.Module, path: Path) -> Path:
    """Write a plain state dict, as torchaudio's bundles hold one."""
    torch.save(module.state_dict(), path)
    return path
