"""What the front checks before it accepts a request: names, ranges, rights. What is wrong inside a file is
the worker's to find, because reading audio needs libraries that the front does not load."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from stembridge import catalog, manifest, model_store, presets
from stembridge.delivery import (
    check_delivery,
    check_file_names,
    check_format,
    check_listen_from,
    check_practice,
    check_sessions,
)
from stembridge.effects.kinds import KINDS, File
from stembridge.errors import ModelError, OutputError, PresetError, RequestError, SourceError
from stembridge.model_store import ModelFiles
from stembridge.presets import Preset
from stembridge.quality import check_ranges
from stembridge.settings import Settings
from stembridge.source_file import check_source_file
from stembridge.types import JobRequest, Region, RemixRequest, SplitRequest

MAX_PATH_CHARS = 4096

_KEYS_OF_FILES = frozenset(
    ("path", "plugin", "state", "state_file"),
).union(entry.name for kind in KINDS.values() for entry in kind.parameters if isinstance(entry, File))
"""What names files in an effect, or goes into native code as it is."""


def admit(request: JobRequest, settings: Settings, origin: str) -> JobRequest:
    """Return ``request`` as `admit_split` or `admit_remix` does, or refuse it as `check_rights` does."""
    check_rights(request, origin)
    match request:
        case SplitRequest():
            return admit_split(request, settings)
        case RemixRequest():
            return admit_remix(request, settings)


def check_rights(request: JobRequest, origin: str) -> None:
    """Refuse what may be asked for from this machine alone, before any file that it names is looked at.

    Parameters
    ----------
    origin : 'local', or where else the request comes from

    Raises
    ------
    ModelError, PresetError
        It names a model's folder, a preset's path, or a file or plugin of an effect.
    """
    if origin == "local":
        return
    if isinstance(request, SplitRequest):
        if request.model_dir is not None:
            raise ModelError("a model folder was named from another machine", "set model_dirs there")
        return
    if _is_path(request.preset):
        raise PresetError(
            f"preset {request.preset[:80]!r} was named by its path from another machine",
            "give the name of one that is there",
        )
    for change in request.changes:
        place, _, value = change.partition("=")
        # A list or table could hold whole effects.
        if place.split(".")[-1].strip() in _KEYS_OF_FILES or value.strip()[:1] in ("[", "{"):
            raise PresetError(
                f"--set {change[:80]!r} names a file or a plugin from another machine",
                "put it into a preset there",
            )


def admit_split(request: SplitRequest, settings: Settings) -> SplitRequest:
    """Return ``request`` with its paths made plain, or refuse it.

    Raises
    ------
    RequestError, SourceError, ModelError, OutputError
        Naming the field, its value and the remedy.
    """
    source = _absolute(request.source, "source")
    out = _absolute(request.out, "out")
    check_source_file(str(source))
    _check_out(out)
    check_ranges(request.overlap, request.shifts)
    if request.region is not None and (request.region.start < 0 or request.region.frames < 1):
        raise RequestError(
            f"region of {request.region.frames} frames from frame {request.region.start}",
            "start at 0 or later, with at least 1 frame",
        )
    # How long the whole of a file is, its worker finds.
    check_listen_from(request.listen_from, request.region or Region(0, sys.maxsize))
    check_file_names(request.file_names)
    check_sessions(request.sessions)
    _check_model(request, settings)
    return replace(request, source=str(source), out=str(out))


def admit_remix(request: RemixRequest, settings: Settings) -> RemixRequest:
    """Return ``request`` with its paths made plain, or refuse it.

    Raises
    ------
    RequestError, SourceError, PresetError, OutputError
        Naming the field, its value and the remedy.
    """
    source = _absolute(request.source, "source")
    out = _absolute(request.out, "out")
    _check_out(out)
    check_format(request.format)
    check_practice(request.speed, request.pitch)
    check_file_names(request.file_names)
    check_sessions(request.sessions)
    stems = manifest.read_manifest(source).stems
    _read_preset(request, settings).check_stems([stem.name for stem in stems])
    return replace(request, source=str(source), out=str(out))


def _read_preset(request: RemixRequest, settings: Settings) -> Preset:
    """Return a preset as it is now; a path counts from the root on, because the daemon is in no folder."""
    if _is_path(request.preset):
        _absolute(request.preset, "preset")
    return presets.read_preset(presets.find_preset(request.preset, settings), request.changes)


def _is_path(preset: str) -> bool:
    return Path(preset).name != preset or preset.endswith(".toml")


def _check_out(out: Path) -> None:
    try:
        is_other = out.exists() and not out.is_dir()
    except OSError as error:
        raise OutputError(
            f"output folder {str(out)!r} cannot be used: {error.strerror}", "name another with --out"
        ) from error
    if is_other:
        raise OutputError(f"output folder {str(out)!r} is a file", "name a folder with --out")


def request_signature(request: JobRequest, settings: Settings) -> str:
    """Return what tells whether the files that a request names are still those that it was made for.

    Raises
    ------
    SourceError, PresetError
        One of them has gone, or cannot be read any more.
    """
    if isinstance(request, SplitRequest):
        return source_signature(request.source)
    source = source_signature(str(Path(request.source) / manifest.FILE_NAME))
    return f"{source} {_preset_signature(_read_preset(request, settings))}"


def check_unchanged(request: RemixRequest, signature: str, settings: Settings) -> None:
    """Refuse a remix whose set or preset is not the one that it was asked for with.

    Parameters
    ----------
    signature : what `request_signature` gave then

    Raises
    ------
    SourceError, PresetError
        One of them has changed or gone.
    """
    source, _, preset = request_signature(request, settings).partition(" ")
    source_then, _, preset_then = signature.partition(" ")
    if source != source_then:
        raise SourceError(f"{request.source!r} changed since it was asked for", "submit it again")
    if preset != preset_then:
        raise PresetError(f"preset {request.preset!r} changed since it was asked for", "submit it again")


def _preset_signature(preset: Preset) -> str:
    """Return the sha256 of what a preset says, and of size and time of the files that it names."""
    said = "\n".join([preset.text, *map(source_signature, preset.files)])
    return hashlib.sha256(said.encode()).hexdigest()


def source_signature(source: str) -> str:
    """Return size and time of a file: enough to see that it is no longer the one that was asked for.

    Raises
    ------
    SourceError
        The file has gone.
    """
    try:
        found = Path(source).stat()
    except (OSError, ValueError):
        raise SourceError(f"{source!r} does not exist", "check the path") from None
    return f"{found.st_size}-{found.st_mtime_ns}"


def request_digest(request: JobRequest, signature: str) -> str:
    """Return the sha256 by which a repeated submit is told from another request under the same id."""
    canonical = msgspec.json.encode([msgspec.to_builtins(request), signature])
    return hashlib.sha256(canonical).hexdigest()


def _absolute(text: str, field: str) -> Path:
    if "\0" in text or len(text) > MAX_PATH_CHARS:
        raise RequestError(f"{field} is no path: {text[:80]!r}", "give an absolute path")
    path = Path(text)
    if not path.is_absolute():
        raise RequestError(f"{field} {text!r} is not an absolute path", "give it from the root on")
    return Path(os.path.normpath(path))


def locate_model(name: str, model_dir: str | None, settings: Settings) -> ModelFiles:
    """Return the files of a model: from ``model_dir``, the settings' folders, or where demucs keeps its own.

    Raises
    ------
    ModelError
        An unknown name, or files that are not here.
    """
    model = catalog.find_model(name)
    found = model_store.locate(model, model_store.search_folders(model, settings.model_dirs, model_dir))
    if found is None:
        raise ModelError(
            f"model {name} is not on this machine (looked in {model_dir or settings.model_dirs[0]})",
            f"`stembridge models fetch {name}`, or --model-dir with its files, or the model `preview`",
        )
    return found


def _check_model(request: SplitRequest, settings: Settings) -> None:
    model = catalog.find_model(request.model)
    if request.two_stems is not None and request.stems:
        raise RequestError("stems and two_stems exclude each other", "give one of the two")
    delivered = catalog.check_stems(model, request.asked)
    check_delivery(
        file_format=request.format,
        residual=request.residual,
        mono=request.mono,
        stems=delivered,
        is_full=len(delivered) == len(model.sources) and request.two_stems is None,
    )
    if request.model_dir is not None:
        _absolute(request.model_dir, "model_dir")
    locate_model(request.model, request.model_dir, settings)
