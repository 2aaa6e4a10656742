"""What the front checks before it accepts a request: names, ranges, rights. What is wrong inside a file is
the worker's to find, because reading audio needs libraries that the front does not load."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import msgspec

from stembridge import catalog, manifest, model_store, presets
from stembridge.delivery import check_delivery, check_format, check_practice
from stembridge.errors import ModelError, OutputError, RequestError, SourceError
from stembridge.model_store import ModelFiles
from stembridge.settings import Settings
from stembridge.source_file import check_source_file
from stembridge.types import JobRequest, RemixRequest, SplitRequest

MAX_SHIFTS = 20
MAX_OVERLAP = 0.95
MAX_PATH_CHARS = 4096


def admit(request: JobRequest, settings: Settings, origin: str) -> JobRequest:
    """Return ``request`` as `admit_split` or `admit_remix` does, or refuse it as they do."""
    match request:
        case SplitRequest():
            return admit_split(request, settings, origin)
        case RemixRequest():
            return admit_remix(request, settings)


def admit_split(request: SplitRequest, settings: Settings, origin: str) -> SplitRequest:
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
    if not 0 <= request.overlap <= MAX_OVERLAP:
        raise RequestError(f"overlap {request.overlap:g}", f"between 0 and {MAX_OVERLAP:g}")
    if not 0 <= request.shifts <= MAX_SHIFTS:
        raise RequestError(f"shifts {request.shifts}", f"between 0 and {MAX_SHIFTS}")
    if request.region is not None and (request.region.start < 0 or request.region.frames < 1):
        raise RequestError(
            f"region of {request.region.frames} frames from frame {request.region.start}",
            "start at 0 or later, with at least 1 frame",
        )
    _check_model(request, settings, origin)
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
    stems = manifest.read_manifest(source).stems
    preset = presets.read_preset(_find_preset(request.preset, settings), request.changes)
    preset.check_stems([stem.name for stem in stems])
    return replace(request, source=str(source), out=str(out))


def _find_preset(preset: str, settings: Settings) -> Path:
    """Return where a preset lies; a path counts from the root on, because the daemon is in no folder."""
    if Path(preset).name != preset or preset.endswith(".toml"):
        _absolute(preset, "preset")
    return presets.find_preset(preset, settings)


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
        One of them has gone.
    """
    if isinstance(request, SplitRequest):
        return source_signature(request.source)
    read = Path(request.source) / manifest.FILE_NAME, _find_preset(request.preset, settings)
    return " ".join(source_signature(str(path)) for path in read)


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


def _check_model(request: SplitRequest, settings: Settings, origin: str) -> None:
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
        if origin != "local":
            raise ModelError("a model folder was named from another machine", "set model_dirs there")
        _absolute(request.model_dir, "model_dir")
    locate_model(request.model, request.model_dir, settings)
