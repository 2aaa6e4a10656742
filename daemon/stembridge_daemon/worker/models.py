"""Our own loader of model files: nothing in a file chooses what code runs.

demucs 4.1.0 unpickles ``.th`` files without restraint and imports and calls whatever class a safetensors
file names. Here a file may name a class only by one of the names in the tables below, and a name stands for
itself until it has been looked up there. Every file's sha256 is computed, and a checksum in its name checked.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import yaml
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from safetensors import SafetensorError, safe_open

from stembridge.catalog import CatalogModel, ModelKind, check_stems, find_model
from stembridge.errors import ModelError
from stembridge.model_store import LONGEST_BAG_BYTES, ModelFiles, checksum_in_name, file_sha256
from stembridge_daemon.worker.packed_states import QUANTIZERS, NamedClass, unpack_state
from stembridge_daemon.worker.separators import torchaudio_hdemucs
from stembridge_daemon.worker.separators.base import Separator
from stembridge_daemon.worker.separators.demucs import BagMember, DemucsSeparator

_log = logging.getLogger(__name__)

CLASSES: dict[str, type[torch.nn.Module]] = {
    "demucs.htdemucs.HTDemucs": HTDemucs,
    "demucs.hdemucs.HDemucs": HDemucs,
    "demucs.wdemucs.WDemucs": HDemucs,
    "demucs.demucs.Demucs": Demucs,
}
"""Model classes by the names that files give them; WDemucs is what HDemucs was called in 2021."""

_STORAGES = ("Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double", "Bool")
_PICKLED_NAMES = frozenset(
    {
        "collections.OrderedDict",
        "fractions.Fraction",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.Size",
        *(f"torch.{kind}Storage" for kind in _STORAGES),
        *CLASSES,
        *QUANTIZERS,
    }
)
"""All that a ``.th`` file may name. What is called of it builds a tensor, a dict or a fraction."""

_NAMING_OPCODES = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX"})
"""Pickle opcodes that find or make objects in ways that ``torch.save`` (protocol 2) has no need of."""

_BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building or filling a model from a file's values can end in."""


@dataclass(frozen=True, slots=True)
class _Package:
    """What a demucs model file holds."""

    klass: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Bag:
    """How the members of a bag are combined: see `stembridge.catalog.CatalogModel`."""

    weights: tuple[tuple[float, ...], ...]
    segment_s: float | None


def load_separator(
    name: str,
    files: ModelFiles,
    *,
    device: str = "cpu",
    stems: Sequence[str] = (),
    is_compiling: bool = False,
) -> Separator:
    """Return a model that is ready to separate.

    Parameters
    ----------
    name : official name
    files : where its files lie, from `stembridge.model_store.locate`
    device : 'cpu', 'cuda' or 'mps'
    stems : load only the members of an official bag that these need; none means all
    is_compiling : on CUDA, torch.compile works in the background while the eager path serves

    Raises
    ------
    ModelError
        A name, a checksum, a class, a shape, a bag that is not as it must be; a file that cannot be read.
    """
    model = find_model(name)
    if model.kind is ModelKind.PREVIEW:
        raise ModelError(f"{name} has no files to load")
    digests = [_checked_sha256(path) for path in files.members]
    bag = _read_bag(model, files)
    wanted = [model.sources.index(stem) for stem in check_stems(model, stems)]
    # A bag of one's own is loaded whole: who keeps the separator knows the catalog's weights alone.
    needed = [files.bag is not None or any(row[source] for source in wanted) for row in bag.weights]
    if model.kind is ModelKind.TORCHAUDIO:
        modules: list[Any] = [_load_torchaudio(path, model) for path in files.members]
        sample_rate, channels = model.sample_rate, 2
        segments = [torchaudio_hdemucs.SEGMENT_S * sample_rate]
        input_frames: list[Callable[[int], int]] = [torchaudio_hdemucs.input_frames]
    else:
        modules = [
            _load_demucs(path, bag.segment_s) if is_needed else None
            for path, is_needed in zip(files.members, needed, strict=True)
        ]
        sample_rate, channels = _agree(model, modules, files)
        segments = [int(sample_rate * one.segment) if one is not None else 1 for one in modules]
        # HTDemucs wants its training length, Demucs the next length without a rest, HDemucs any.
        input_frames = [getattr(one, "valid_length", int) for one in modules]
    members = [
        BagMember(*member) for member in zip(modules, segments, input_frames, bag.weights, strict=True)
    ]
    return DemucsSeparator(
        name=name,
        sources=model.sources,
        sample_rate=sample_rate,
        channels=channels,
        members=members,
        device=device,
        sha256=_identity(digests, bag, files),
        is_compiling=is_compiling,
    )


def _checked_sha256(path: Path) -> str:
    digest = file_sha256(path)
    promised = checksum_in_name(path)
    if not digest.startswith(promised):
        raise ModelError(
            f"{path} has sha256 {digest[: len(promised)]}..., its name says {promised}",
            "it is damaged or not what it says: remove it and fetch it again",
        )
    _log.info("model file %s sha256 %s", path, digest)
    return digest


def _identity(digests: Sequence[str], bag: _Bag, files: ModelFiles) -> str:
    """Return one sha256 for all: the file's own where there is one and no yaml."""
    if len(digests) == 1 and files.bag is None:
        return digests[0]
    parts = json.dumps([list(digests), bag.weights, bag.segment_s])
    return hashlib.sha256(parts.encode()).hexdigest()


def _read_bag(model: CatalogModel, files: ModelFiles) -> _Bag:
    """Return the bag's weights and segment from its yaml, or from the catalog where it has none."""
    weights: Any = model.weights
    segment: Any = model.segment_s
    where = f"catalog entry {model.name}"
    if files.bag is not None:
        where = str(files.bag)
        listed = _read_yaml(files.bag)
        weights, segment = listed.get("weights"), listed.get("segment")
        names = [path.stem.partition("-")[0] for path in files.members]
        if listed.get("models") != names:
            raise ModelError(f"{where} lists the models {listed.get('models')!r}, not {', '.join(names)}")
    count = len(files.members)
    if weights is None:
        weights = [[1.0] * len(model.sources)] * count
    rows = _weight_rows(weights, count, len(model.sources))
    if rows is None:
        raise ModelError(
            f"{where}: weights must be {count} rows of {len(model.sources)} numbers >= 0",
            "each source needs one above 0",
        )
    if segment is not None and not (_is_number(segment) and segment > 0):
        raise ModelError(f"{where}: segment {segment!r} must be a number of seconds above 0")
    return _Bag(rows, segment)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            listed = yaml.safe_load(file.read(LONGEST_BAG_BYTES))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ModelError(f"bag {path} cannot be read: {_one_line(error)}") from None
    if not isinstance(listed, dict):
        raise ModelError(f"bag {path} is not a table with the keys models, weights and segment")
    return listed


def _weight_rows(weights: Any, rows: int, columns: int) -> tuple[tuple[float, ...], ...] | None:
    """Return the weights as tuples, or None where they are not of that shape and kind."""
    if not isinstance(weights, (list, tuple)) or len(weights) != rows:
        return None
    for row in weights:
        if not isinstance(row, (list, tuple)) or len(row) != columns:
            return None
        if not all(_is_number(weight) and weight >= 0 for weight in row):
            return None
    if not all(sum(column) > 0 for column in zip(*weights, strict=True)):
        return None
    return tuple(tuple(float(weight) for weight in row) for row in weights)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _agree(model: CatalogModel, modules: Sequence[Any], files: ModelFiles) -> tuple[int, int]:
    """Return the sample rate and channels that all loaded members share."""
    found: tuple[int, int] | None = None
    for module, path in zip(modules, files.members, strict=True):
        if module is None:
            continue
        if tuple(module.sources) != model.sources:
            raise ModelError(
                f"{path} knows {', '.join(module.sources)}, but {model.name} is {', '.join(model.sources)}"
            )
        here = (int(module.samplerate), int(module.audio_channels))
        if found is not None and here != found:
            raise ModelError(
                f"{path} works at {here[0]} Hz with {here[1]} channels, "
                f"the other members of {model.name} at {found[0]} Hz with {found[1]}"
            )
        found = here
    if found is None:
        raise ModelError(f"{model.name} has no members")
    return found


def _load_demucs(path: Path, bag_segment_s: float | None) -> Any:
    """Return the module in one file, with the bag's segment where that applies."""
    package = _read_safetensors(path) if path.suffix == ".safetensors" else _read_th(path)
    module: Any = _build(package, path)
    _fill(module, package.state, path)
    # BagOfModels (demucs 4.1.0): a transformer's segment can be shortened, never lengthened.
    if bag_segment_s is not None and (not isinstance(module, HTDemucs) or bag_segment_s <= module.segment):
        module.segment = bag_segment_s
    # A random position per call belongs to training; with it, stems would differ from run to run.
    transformer = getattr(module, "crosstransformer", None)
    if transformer is not None:
        transformer.sin_random_shift = 0
    return module


def _load_torchaudio(path: Path, model: CatalogModel) -> torch.nn.Module:
    state = _read_pickle(path)
    if not isinstance(state, dict):
        raise _not_a_model(path, "no table of weights")
    module = torchaudio_hdemucs.build_module(_tensors(state, path), model.sources)
    _fill(module, state, path)
    return module


def _not_a_model(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path} is no model file of ours: {reason}", "remove it and fetch the model again")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _read_th(path: Path) -> _Package:
    package = _read_pickle(path)
    if not isinstance(package, dict):
        raise _not_a_model(path, "no table")
    klass = package.get("klass")
    if not isinstance(klass, NamedClass):
        raise _not_a_model(path, "it names no class")
    return _checked_package(
        path, klass.path, package.get("args"), package.get("kwargs"), package.get("state")
    )


def _read_pickle(path: Path) -> Any:
    """Return what ``torch.save`` wrote, with classes as names.

    Two nets: the names are read off the pickle before it is opened, and torch's weights-only unpickler
    resolves none but its own and the stand-ins given here.
    """
    _check_pickle(path)
    stand_ins: list[Any] = [(NamedClass(name), name) for name in (*CLASSES, *QUANTIZERS)]
    stand_ins.append((_make_fraction, "fractions.Fraction"))
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  a damaged pickle ends in any error, some from C++
        raise _not_a_model(path, _one_line(error)) from None


def _check_pickle(path: Path) -> None:
    """Refuse a file that is no plain ``torch.save`` archive or names anything beyond `_PICKLED_NAMES`."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1 or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise _not_a_model(path, "not an archive as torch.save writes it")
            for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
                named = str(argument).replace(" ", ".")
                if opcode.name in _NAMING_OPCODES or (
                    opcode.name == "GLOBAL" and named not in _PICKLED_NAMES
                ):
                    raise _not_a_model(
                        path, f"it asks for {named if opcode.name == 'GLOBAL' else opcode.name}"
                    )
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _not_a_model(path, f"damaged or cut off ({_one_line(error)})") from None


def _make_fraction(*parts: Any) -> Fraction:
    """Return a fraction as ``fractions.Fraction`` pickles itself: 'n/d', or n and d."""
    if len(parts) == 1:
        above, _, below = str(parts[0]).partition("/")
        parts = (above, below or "1")
    if len(parts) != 2 or any(len(str(part)) > 20 for part in parts):
        raise ValueError("a fraction is two numbers of at most 20 digits")
    return Fraction(int(parts[0]), int(parts[1]))


def _read_safetensors(path: Path) -> _Package:
    """Return what ``tools/export_hf.py`` of demucs 4.1.0 wrote: tensors, and json in the header."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise _not_a_model(path, f"damaged or cut off ({_one_line(error)})") from None
    try:
        args, kwargs = (_decode(json.loads(metadata[key])) for key in ("args", "kwargs"))
        structure = metadata.get("structure")
        state = tensors if structure is None else _unflatten(json.loads(structure), tensors)
        klass = metadata["klass"]
    except _BUILD_ERRORS as error:
        raise _not_a_model(path, f"its header lacks something or is wrong ({_one_line(error)})") from None
    return _checked_package(path, klass, args, kwargs, state)


def _decode(value: Any) -> Any:
    """Return json values with the fractions among them made whole."""
    if isinstance(value, dict):
        if value.get("_type") == "fraction":
            return Fraction(value["numerator"], value["denominator"])
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


def _unflatten(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the nested state that ``structure`` describes, with classes as names."""
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    match kind:
        case "_tensor":
            return tensors[value]
        case "_dict":
            return {key: _unflatten(item, tensors) for key, item in value}
        case "_list":
            return [_unflatten(item, tensors) for item in value]
        case "_tuple":
            return tuple(_unflatten(item, tensors) for item in value)
        case "_class":
            return NamedClass(str(value))
        case _:
            raise ValueError(f"unknown node {str(kind)[:40]!r}")


def _checked_package(path: Path, klass: Any, args: Any, kwargs: Any, state: Any) -> _Package:
    if klass not in CLASSES:
        raise _not_a_model(path, f"it names the class {str(klass)[:80]!r}, not one of Demucs")
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict) or not isinstance(state, dict):
        raise _not_a_model(path, "arguments or state are missing")
    if not (_is_plain(list(args)) and _is_plain(kwargs)):
        raise _not_a_model(path, "arguments are more than numbers and text")
    return _Package(klass, tuple(args), kwargs, state)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (str, int, float, bool, Fraction)


def _build(package: _Package, path: Path) -> torch.nn.Module:
    """Return the module with the file's arguments; as in stock, those that the class lacks are dropped."""
    klass = CLASSES[package.klass]
    known = inspect.signature(klass).parameters
    dropped = sorted(set(package.kwargs) - set(known))
    if dropped:
        _log.info("model file %s: arguments %s are not known here", path, ", ".join(dropped))
    kwargs = {key: value for key, value in package.kwargs.items() if key in known}
    try:
        module = klass(*package.args, **kwargs)
        sources: Any = module.sources
        segment: Any = module.segment
        if not all(isinstance(source, str) for source in sources) or not segment > 0:
            raise ValueError(f"sources {sources!r}, segment {segment!r}")
    except _BUILD_ERRORS as error:
        raise _not_a_model(path, f"no {klass.__name__} can be built ({_one_line(error)})") from None
    return module


def _tensors(state: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise _not_a_model(path, f"{str(key)[:80]!r} is no tensor")
        if not torch.isfinite(value).all():
            raise _not_a_model(path, f"{key} holds values that are not finite")
    return dict(state)


def _fill(module: torch.nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load the state strictly; half precision becomes the module's float32."""
    try:
        module.load_state_dict(_tensors(_plain_state(module, state, path), path))
    except _BUILD_ERRORS as error:
        raise _not_a_model(path, _one_line(error)) from None


def _plain_state(module: torch.nn.Module, state: dict[str, Any], path: Path) -> dict[str, Any]:
    if not state.get("__quantized"):
        return state
    try:
        return unpack_state(module, state)
    except ModelError as error:
        raise _not_a_model(path, error.message) from None
