"""What is wished for a file in a watched folder: settings by the place where it lies.

::

    settings.toml                       of this machine
    ROOT/stembridge.toml                of the watched folder, which alone may hold [watch]
    ROOT/karaoke/                       a folder called like a use or a preset says so by its name
    ROOT/karaoke/stembridge.toml        of that folder and of all below
    ROOT/karaoke/song.stembridge.toml   of song.wav and song.flac; song.wav.stembridge.toml wins over it

Later places win over earlier ones, key by key. What a use, a quality, a preset or a choice of stems implies
is set aside by a later one of its kind: `_set_aside` says what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from stembridge.catalog import check_stems, find_model
from stembridge.delivery import check_delivery
from stembridge.errors import ModelError, RequestError
from stembridge.mixdown.batch import Output, describe_preset, list_options, list_stems
from stembridge.presets import Preset, find_preset, find_presets, read_preset
from stembridge.quality import QUALITIES
from stembridge.recipes import USES, Recipe, find_recipe
from stembridge.settings import Settings
from stembridge.types import AUTO_FORMAT, RemixRequest, ResidualPolicy, SplitRequest
from stembridge.watch.wish_file import FOLDER_FILE, Said, located, read_watch_table, read_wish_file

SIDECAR_ENDING = ".stembridge.toml"

BUILT_IN_MODEL = next(field.default for field in fields(Settings) if field.name == "model")
"""Where the settings name another one, that counts as named; each use brings its own else."""

OF_REMIXES = frozenset(
    {
        "changes",
        "stems_out",
        "report",
        "match",
        "ceiling_dbtp",
        "tail",
        "remix_format",
        "remix_mp3",
        "speed",
        "pitch",
    }
)
"""Keys that say nothing about a split."""

_Read = TypeVar("_Read", "_Shared", "Wish")


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """How a folder is watched: the table [watch] of its ``stembridge.toml``.

    Parameters
    ----------
    results : name of the folder in it that gets result folders
    quiet_s : seconds without a change after which a file may be taken; None leaves it to the kind of disk
    is_network : whether it lies on another machine; None means that is found out
    notify : desktop notifications are wanted
    scan_s : seconds from one scan to the next; None leaves it to the kind of disk
    """

    results: str = "stems"
    quiet_s: float | None = None
    is_network: bool | None = None
    notify: bool = True
    scan_s: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made of one file.

    Parameters
    ----------
    split : with its paths, ready to be submitted
    remixes : what is to be made of the finished set; ``source``, its folder, is left ''
    digest : sha256 of all that was wished; the same for the same wish in whatever folder
    places : the files that were read for it, in their order
    asks_for_model : the place that the model comes from; '' where it is the one that is built in
    """

    split: SplitRequest
    remixes: tuple[RemixRequest, ...]
    digest: str
    places: tuple[Path, ...]
    asks_for_model: str = ""


def list_places(root: Path, name: str) -> tuple[Path, ...]:
    """Return all files that may say something of a file, whether or not they exist, later ones winning.

    Parameters
    ----------
    name : the file's path from ``root`` on, with '/'
    """
    parts = name.split("/")
    folders = [root.joinpath(*parts[:depth]) for depth in range(len(parts))]
    return (*(folder / FOLDER_FILE for folder in folders), *_list_sidecars(folders[-1] / parts[-1]))


def _list_sidecars(file: Path) -> tuple[Path, ...]:
    return tuple(
        dict.fromkeys((file.with_suffix(SIDECAR_ENDING), file.with_name(file.name + SIDECAR_ENDING)))
    )


def read_wish(root: Path, name: str, settings: Settings) -> Wish:
    """Return what is wished for a file of a watched folder; see `WishReader.read`."""
    return WishReader(root, settings).read(name)


class WishReader:
    """Reads what is wished for files of a watched folder; what many of them share, once.

    What was read is never read again: a change is seen by the next reader.

    Parameters
    ----------
    root : the watched folder
    """

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root = root
        self._settings = settings
        self._shared: dict[str, _Shared | RequestError] = {}
        self._plans: dict[Hashable, Wish | RequestError] = {}
        self._preset_names: Collection[str] | None = None
        self._out = ""
        of_machine = {}
        if settings.model != BUILT_IN_MODEL:
            of_machine["model"] = Said(settings.model, f"settings {str(settings.config_file)!r}")
        self._outermost = _Shared(of_machine, ())

    def read(self, name: str) -> Wish:
        """Return what is wished for a file, checked so far as can be without its audio.

        Whether the model's files are on this machine is left open: a file can wait for them.

        Parameters
        ----------
        name : the file's path from the watched folder on, with '/'

        Raises
        ------
        RequestError, PresetError, ModelError
            A key or a value that is not one of ours, or wishes that exclude each other; with file, line and
            key.
        """
        parts = name.split("/")
        shared = self._read_folders(parts[:-1])
        above = self._read_folders(parts[:-2]) if len(parts) > 1 else self._outermost
        for place in _list_sidecars(self._root.joinpath(*parts)):
            shared = shared.overlaid(read_wish_file(place, is_root=False), place)
        wish = self._plan(shared.said)
        if not wish.remixes:
            _check_no_remixes(shared.said, above.said)
        return replace(
            wish,
            split=replace(wish.split, source=str(self._root.absolute() / name)),
            places=shared.places,
            asks_for_model=_find_model_place(shared.said),
        )

    def _read_folders(self, names: Sequence[str]) -> _Shared:
        """Return what the watched folder says, and those in it on the way that ``names`` are."""
        shared = self._outermost
        for depth in range(len(names) + 1):
            key = "/".join(names[:depth])
            if key not in self._shared:
                try:
                    self._shared[key] = self._read_folder(self._root.joinpath(*names[:depth]), shared)
                except RequestError as error:
                    self._shared[key] = error
            shared = _unless_wrong(self._shared[key])
        return shared

    def _read_folder(self, folder: Path, above: _Shared) -> _Shared:
        is_root = folder == self._root
        named = above if is_root else above.overlaid(self._read_folder_name(folder))
        place = folder / FOLDER_FILE
        return named.overlaid(read_wish_file(place, is_root=is_root), place)

    def _read_folder_name(self, folder: Path) -> dict[str, Said]:
        """Return the use or the preset that a folder is called like: 'karaoke', 'Practice vocals'."""
        where = f"the folder {str(folder)!r}"
        plain = "-".join(folder.name.lower().split())
        for use in USES:
            if use.replace(":", "-") == plain:
                return {"use": Said(use, where)}
        if self._preset_names is None:
            self._preset_names = find_presets(self._settings).keys()
        return {"preset": Said(plain, where)} if plain in self._preset_names else {}

    def _plan(self, said: Mapping[str, Said]) -> Wish:
        """Return the wish of a file without a name of which all this is said."""
        plan = self._plans.get(values := frozenset((key, entry.value) for key, entry in said.items()))
        if plan is None:
            # A mistake names its place, which is another one for each that makes it.
            plan = self._plans.get(places := frozenset(said.items()))
            if plan is None:
                try:
                    plan = self._plans[values] = self._make_plan(said)
                except RequestError as error:
                    plan = self._plans[places] = error
        return _unless_wrong(plan)

    def _make_plan(self, said: Mapping[str, Said]) -> Wish:
        wished = _Wished(said, self._settings)
        self._out = self._out or str(self._root.absolute() / read_folder_settings(self._root).results)
        split = wished.plan_split("", self._out)
        remixes = wished.plan_remixes(split)
        presets = [preset for preset, _ in remixes]
        requests = tuple(request for _, request in remixes)
        return Wish(split, requests, _digest(split, presets, requests, self._settings), ())


@dataclass(frozen=True, slots=True)
class _Shared:
    """What places say together, and the files among them."""

    said: Mapping[str, Said]
    places: tuple[Path, ...]

    def overlaid(self, found: Mapping[str, Said] | None, place: Path | None = None) -> _Shared:
        """Return the same with what a later place says, None where there is nothing at ``place``."""
        if not found and (found is None or place is None):
            return self
        places = self.places if place is None else (*self.places, place)
        return _Shared(_overlay(self.said, found), places)


def _unless_wrong(read: _Read | RequestError) -> _Read:
    if isinstance(read, RequestError):
        raise read.with_traceback(None)
    return read


def read_folder_settings(root: Path) -> FolderSettings:
    """Return how a folder is to be watched.

    Raises
    ------
    RequestError
        Its ``stembridge.toml`` holds a key or a value that is not one of ours, or cannot be read.
    """
    said = {key: entry.value for key, entry in read_watch_table(root / FOLDER_FILE).items()}
    if "network" in said:
        said["is_network"] = said.pop("network")
    return FolderSettings(**said)


def _overlay(below: Mapping[str, Said], place: Mapping[str, Said]) -> dict[str, Said]:
    """Return what earlier places and a later one say together.

    Raises
    ------
    RequestError
        The later one contradicts itself.
    """
    for one, other in (("stems", "two_stems"), ("preset", "presets")):
        if one in place and other in place:
            raise RequestError(f"{place[other].where}: {other} beside {one}", "leave out one of the two")
    chosen = {"preset", "presets"} & place.keys()
    if chosen and "use" in place and (recipe := find_recipe(place["use"].value)).preset:
        raise RequestError(
            f"{place[chosen.pop()].where}: a preset beside use {recipe.use!r}, which brings one",
            f'leave out one of them; use = "remix" or "preview" bring none, this one {recipe.preset!r}',
        )
    kept = dict(below)
    for key, entry in place.items():
        for gone in _set_aside(key, entry.value, below):
            kept.pop(gone, None)
    kept.update(place)
    return kept


def _set_aside(key: str, value: Any, below: Mapping[str, Said]) -> tuple[str, ...]:
    """Return the keys of earlier places that a later one takes the meaning from.

    A quality is a model, an overlap and shifts; a use is a choice of stems and often a preset, and the model
    and the quality that an earlier place named stay. A residual and mono stems are wished for a set with all
    stems: where a later place wants some, they are not meant.
    """
    all_stems = ("mono", "residual")
    match key:
        case "use":
            recipe = find_recipe(value)
            preset = ("preset", "presets", "changes") if recipe.preset else ()
            narrowed = all_stems if recipe.two_stems else ()
            return ("stems", "two_stems", *_unfit_models(recipe, below), *preset, *narrowed)
        case "quality":
            return ("model", "overlap", "shifts")
        case "stems":
            return ("two_stems", *(all_stems if value else ()))
        case "two_stems":
            return ("stems", *all_stems)
        case "preset" | "presets":
            brings_one = "use" in below and bool(find_recipe(below["use"].value).preset)
            return ("preset", "presets", "changes", *(("use",) if brings_one else ()))
    return ()


def _unfit_models(recipe: Recipe, below: Mapping[str, Said]) -> tuple[str, ...]:
    """Return the keys of earlier places whose model cannot do what a use is for."""
    models = {key: below[key].value for key in ("model", "quality") if key in below}
    if "quality" in models:
        models["quality"] = QUALITIES[models["quality"]].model
    if recipe.quality.model == recipe.use:
        # A use that is called like a model is nothing without it.
        return tuple(models)
    if "model" in models and _knows(models["model"], recipe.two_stems):
        return ()
    return tuple(key for key, model in models.items() if not _knows(model, recipe.two_stems))


def _knows(model: str, stem: str | None) -> bool:
    if stem is None:
        return True
    try:
        return stem in find_model(model).sources
    except ModelError:
        # One of the machine's settings that is none: told of when the split is planned.
        return True


def _find_model_place(said: Mapping[str, Said]) -> str:
    """Return the place that the model of a split comes from; '' where none asks for one."""
    return next((said[key].where for key in ("model", "quality", "use") if key in said), "")


def _check_no_remixes(said: Mapping[str, Said], above: Mapping[str, Said]) -> None:
    """Refuse what only a remix could heed, in the folder of a file or beside it, where none is wished for.

    Further out it is meant for what has a preset, and ``presets = []`` says that there is to be none.

    Parameters
    ----------
    above : what is said further out than the folder of the file

    Raises
    ------
    RequestError : naming the key, its place and the remedy
    """
    if "presets" in said:
        return
    for key, entry in said.items():
        if key in OF_REMIXES and entry is not above.get(key) and entry.value is not False:
            raise RequestError(
                f"{entry.where}: {key} of no remix: no preset is named",
                'needs preset = "..." here or further out, or a use that brings one',
            )


class _Wished:
    """Requests out of what was said; what cannot be together is named with the place of one of them."""

    def __init__(self, said: Mapping[str, Said], settings: Settings) -> None:
        self._said = said
        self._settings = settings

    def plan_split(self, source: str, out: str) -> SplitRequest:
        recipe = self._recipe
        quality = recipe.quality if recipe else None
        if "quality" in self._said:
            quality = QUALITIES[self._get("quality")]
        usual = quality or QUALITIES["good"]
        two_stems = recipe.two_stems if recipe and "stems" not in self._said else None
        request = SplitRequest(
            source=source,
            out=out,
            model=self._get("model", quality.model if quality else self._settings.model),
            stems=self._get("stems", ()),
            two_stems=self._get("two_stems", two_stems),
            overlap=self._get("overlap", usual.overlap),
            shifts=self._get("shifts", usual.shifts),
            seed=self._get("seed", 0),
            format=self._get("format", AUTO_FORMAT),
            exact_float=self._get("exact_float", False),
            residual=self._get("residual", ResidualPolicy.OWN),
            mono=self._get("mono", ()),
            mp3=self._get("mp3", False),
            file_names=self._get("file_names", self._settings.file_names),
            sessions=self._get("sessions", ()),
            precision=self._get("precision", self._settings.precision),
        )
        self._check_split(request)
        return request

    def _check_split(self, request: SplitRequest) -> None:
        with self._blaming("model"):
            model = find_model(request.model)
        with self._blaming("stems", "two_stems", "use"):
            stems = check_stems(model, request.asked)
        is_full = len(stems) == len(model.sources) and request.two_stems is None
        for key, mono in (("residual", ()), ("mono", request.mono)):
            with self._blaming(key, "residual"):
                check_delivery(
                    file_format=request.format,
                    residual=request.residual,
                    mono=mono,
                    stems=stems,
                    is_full=is_full,
                )

    def plan_remixes(self, split: SplitRequest) -> list[tuple[Preset, RemixRequest]]:
        """Return the presets as they will be rendered, each with its request."""
        recipe = self._recipe
        presets = self._get("presets", (recipe.preset,) if recipe and recipe.preset else ())
        if "preset" in self._said:
            presets = (self._get("preset"),)
        output = Output(
            Path(split.out),
            match=self._get("match"),
            ceiling_dbtp=self._get("ceiling_dbtp"),
            tail=self._get("tail"),
        )
        changes = (*self._get("changes", ()), *output.changes)
        stems = list_stems(split)
        planned = []
        for preset in presets:
            request = RemixRequest(
                source="",
                out=split.out,
                preset=preset,
                changes=changes,
                stems_out=self._get("stems_out", False),
                format=self._get("remix_format", AUTO_FORMAT),
                mp3=self._get("remix_mp3", False),
                report=self._get("report", False),
                speed=self._get("speed", 1.0),
                pitch=self._get("pitch", 0.0),
                file_names=split.file_names,
                sessions=split.sessions,
            )
            planned.append((self._read_preset(preset, changes, stems), request))
        return planned

    def _read_preset(self, name: str, changes: Sequence[str], stems: Sequence[str]) -> Preset:
        with self._blaming("preset", "presets", "use"):
            path = find_preset(name, self._settings)
            preset = read_preset(path)
            preset.check_stems(stems)
        if not changes:
            return preset
        with self._blaming("changes", "match", "ceiling_dbtp", "tail"):
            changed = read_preset(path, changes)
            changed.check_stems(stems)
        return changed

    @property
    def _recipe(self) -> Recipe | None:
        return find_recipe(self._get("use")) if "use" in self._said else None

    def _get(self, key: str, otherwise: Any = None) -> Any:
        return self._said[key].value if key in self._said else otherwise

    @contextmanager
    def _blaming(self, *keys: str) -> Iterator[None]:
        """Name the place of the first of ``keys`` that was said, in an error of what is done inside."""
        try:
            yield
        except RequestError as error:
            for key in keys:
                if key in self._said:
                    raise located(error, self._said[key].where, key) from None
            raise located(error, f"settings {str(self._settings.config_file)!r}", keys[0]) from None


def _digest(
    split: SplitRequest, presets: Sequence[Preset], remixes: Sequence[RemixRequest], settings: Settings
) -> str:
    """Return the sha256 of a wish; a preset is what it says, wherever its file lies."""
    said = [list_options(replace(split, source="", out=""))]
    for preset, request in zip(presets, remixes, strict=True):
        options = asdict(replace(request, out="", preset=Path(request.preset).stem, changes=()))
        said.append({**options, "said": describe_preset(preset, settings)})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
