"""Inputs x presets x outputs: what remixes are wanted, and the ids by which finished ones are known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stembridge import __version__, catalog
from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError, RequestError
from stembridge.home_path import find_home
from stembridge.manifest import RESIDUAL, Manifest, source_name
from stembridge.presets import Preset
from stembridge.quality import QUALITIES, Quality, check_ranges
from stembridge.settings import Settings
from stembridge.types import AUTO_FORMAT, FILE_NAMES, Precision, RemixRequest, SplitRequest

STEMS_FOLDER = "stems"
"""Where `stembridge split` puts its sets if it is not told otherwise."""
REMIXES_FOLDER = "remixes"
"""Where `stembridge remix` puts remixes, and the sets of what it has split, if it is not told otherwise."""


_UNASKED = (("file_names", FILE_NAMES), ("sessions", ()))
"""What a remix has if nothing is said of it."""
_UNASKED_OF_SPLITS = (("precision", Precision.FULL), ("listen_from", None))
"""What a split has if nothing is said of it, of what could not always be asked for."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A preset, by its name or the absolute path of its file, and what is changed in it."""

    preset: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """Where remixes go, and in which form; the fields of the same names are `RemixRequest`'s.

    ``match``, ``ceiling_dbtp`` and ``tail`` stand in place of the preset's own; None leaves that as it is.
    """

    folder: Path
    stems_out: bool = False
    format: str = AUTO_FORMAT
    mp3: bool = False
    report: bool = False
    speed: float = 1.0
    pitch: float = 0.0
    match: str | None = None
    ceiling_dbtp: float | None = None
    tail: str | None = None
    file_names: str = FILE_NAMES
    sessions: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """What this output changes in every preset."""
        wanted = {"master.match": self.match, "master.ceiling_dbtp": self.ceiling_dbtp, "tail": self.tail}
        return tuple(f"{key}={value}" for key, value in wanted.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Batch:
    """Every input is remixed with every variant into every output.

    Parameters
    ----------
    inputs : audio files, and folders of finished sets
    split : how a file is split that is not yet; without source, and ``out`` is where its stems go
    sets : where finished sets of a file are looked for
    is_model_named : whether ``split.model`` was asked for by name
    """

    inputs: tuple[Path, ...]
    variants: tuple[Variant, ...]
    outputs: tuple[Output, ...]
    split: SplitRequest
    sets: tuple[Path, ...]
    is_model_named: bool = False


def plan_split(
    places: Sequence[Path],
    settings_model: str,
    quality: Quality | None,
    *,
    model: str | None = None,
    overlap: float | None = None,
    shifts: int | None = None,
    seed: int = 0,
    model_dir: Path | None = None,
    two_stems: str | None = None,
    file_names: str = FILE_NAMES,
    precision: Precision = Precision.FULL,
) -> SplitRequest:
    """Return how files are split, but for the source; what is named wins over ``quality``, that over all.

    Parameters
    ----------
    places : as `list_places` gives them
    settings_model : `stembridge.settings.Settings.model`

    Raises
    ------
    RequestError : overlap or shifts out of range
    """
    chosen = quality or QUALITIES["good"]
    request = SplitRequest(
        source="",
        out=str(places[0]),
        model=model or (settings_model if quality is None else chosen.model),
        two_stems=two_stems,
        overlap=chosen.overlap if overlap is None else overlap,
        shifts=chosen.shifts if shifts is None else shifts,
        seed=seed,
        model_dir=str(model_dir) if model_dir is not None else None,
        file_names=file_names,
        precision=precision,
    )
    check_ranges(request.overlap, request.shifts)
    return request


def list_places(base: Path, outputs: Sequence[Output], stems_dir: Path | None) -> tuple[Path, ...]:
    """Return where finished sets of a file are looked for; into the first of these splits go.

    Parameters
    ----------
    base : folder in which the work is done
    stems_dir : the one place, where somebody named it
    """
    if stems_dir is not None:
        return (stems_dir,)
    usual = (base / STEMS_FOLDER, base / REMIXES_FOLDER)
    return tuple(dict.fromkeys([*(output.folder for output in outputs), *usual]))


def list_stems(request: SplitRequest) -> tuple[str, ...]:
    """Return the names of the stems that a split of ``request`` gives.

    Raises
    ------
    ModelError : no such model, or a stem that it does not know
    """
    chosen = catalog.check_stems(catalog.find_model(request.model), request.asked)
    return (*chosen, RESIDUAL if request.two_stems is None else f"no_{request.two_stems}")


def locate_preset(text: str, base: Path) -> str:
    """Return a preset's name as it is, and its file's path made absolute from the folder ``base``."""
    is_path = text.endswith(".toml") or Path(text).name != text
    return str(base / expand_home(text)) if is_path else text


def expand_home(text: str) -> Path:
    """Return a path with the folder that a '~' at its beginning stands for.

    Raises
    ------
    RequestError : it is of somebody who has none here
    """
    path = find_home(Path(text))
    if str(path).startswith("~"):
        raise RequestError(f"{text!r} is in no folder of this machine", "~ alone is your own")
    return path


def make_request(folder: Path, variant: Variant, output: Output) -> RemixRequest:
    """Return the request that renders the set in ``folder``."""
    return RemixRequest(
        source=str(folder),
        out=str(output.folder),
        preset=variant.preset,
        changes=(*variant.changes, *output.changes),
        stems_out=output.stems_out,
        format=output.format,
        mp3=output.mp3,
        report=output.report,
        speed=output.speed,
        pitch=output.pitch,
        file_names=output.file_names,
        sessions=output.sessions,
    )


def describe_set(manifest: Manifest) -> str:
    """Return what tells a finished set from every other: its name and the samples of its stems."""
    stems = [[entry.name, entry.sha256] for entry in manifest.stems]
    return json.dumps([source_name(manifest.source.path), stems])


def describe_split(request: SplitRequest, sha256_pcm: str) -> str:
    """Return what tells the set that a split of ``request`` gives from every other, before it is made."""
    # What its files are called makes it no other set.
    asked = replace(
        request, source=source_name(request.source), out="", model_dir=None, file_names=FILE_NAMES
    )
    return json.dumps([sha256_pcm, list_options(asked)])


def list_options(request: SplitRequest) -> dict[str, Any]:
    """Return the fields of a request, but for those that were added later and of which nothing is said.

    So what was made of the same request before they could be asked for is found again.
    """
    return {key: value for key, value in asdict(request).items() if (key, value) not in _UNASKED_OF_SPLITS}


def describe_preset(preset: Preset, settings: Settings) -> str:
    """Return what tells a preset from every other: its text, and what is in the files that it names.

    Of a plugin that is when its files were changed and how large they are: another version is another plugin.

    Parameters
    ----------
    settings : says where plugins are
    """
    files = [_hash_bytes(Path(file)) for file in preset.files]
    plugins = [_stamp(effect, settings) for effect in preset.effects if isinstance(effect, PluginEffect)]
    return json.dumps([preset.text, files, plugins])


def derive_job_id(content: str, preset: str, request: RemixRequest) -> str:
    """Return the id of a remix: the same for the same samples, preset and options, in whatever folder.

    What names files and adds sessions counts where it is asked for.

    Parameters
    ----------
    content : as `describe_set` or `describe_split` gives it
    preset : as `describe_preset` gives it, changes included
    """
    options = asdict(replace(request, source="", out="", preset=Path(request.preset).stem, changes=()))
    # Remixes that were finished before these could be asked for are found again.
    options = {key: value for key, value in options.items() if (key, value) not in _UNASKED}
    text = json.dumps([__version__, content, preset, options], sort_keys=True)
    return f"remix-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _stamp(effect: PluginEffect, settings: Settings) -> str:
    """Return the stamp of a plugin's bundle; '' where it cannot be opened, which rendering tells better."""
    from stembridge.plugins.folders import resolve
    from stembridge.plugins.scan import stamp_bundle

    try:
        return stamp_bundle(resolve(effect.path, settings))
    except (PluginError, OSError):
        return ""


def _hash_bytes(path: Path) -> str:
    """Return the sha256 of a file; '' where it cannot be read, which rendering tells better."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
