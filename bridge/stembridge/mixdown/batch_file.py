"""`remix.toml`: a batch of remixes as a file.

::

    inputs = ["songs/*.wav", "stems/song__htdemucs__1a2b3c4d"]   # files, and folders of finished sets
    presets = ["karaoke", {preset = "vocals-up", set = ["vocals.gain_db=4"]}]

    [[outputs]]
    folder = "remixes"     # relative to this file, as all paths
    stems_out = true

    [split]                # of inputs that are not split yet
    model = "htdemucs"
"""

from __future__ import annotations

import glob
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from stembridge.delivery import check_file_names, check_sessions
from stembridge.errors import RequestError, SourceError
from stembridge.manifest import FILE_NAME, read_manifest
from stembridge.mixdown.batch import (
    Batch,
    Output,
    Variant,
    expand_home,
    list_places,
    locate_preset,
    plan_split,
)
from stembridge.presets import MATCHES, TAILS
from stembridge.quality import QUALITIES
from stembridge.recipes import USES, Recipe, find_recipe
from stembridge.small_file import read_small_file
from stembridge.toml_text import read_toml
from stembridge.types import AUTO_FORMAT, FILE_FORMATS, FILE_NAMES, Precision, SplitRequest

MAX_BATCH_BYTES = 16 << 20
"""What nobody writes by hand is not read."""


def read_batch(
    path: Path, model: str, file_names: str = FILE_NAMES, precision: Precision = Precision.FULL
) -> Batch:
    """Return what a batch file asks for; paths in it are relative to its own folder.

    Parameters
    ----------
    model : splits what is not split yet, where the file names none
    file_names : what files of splits are called, and those of remixes where an output says nothing else
    precision : of splits, where the file names none

    Raises
    ------
    RequestError
        It cannot be read, or a key or value is not one of ours; the key and the value are named.
    """
    try:
        table = read_toml(read_small_file(path, MAX_BATCH_BYTES).decode())
    except OSError as error:
        raise RequestError(
            f"batch {str(path)!r} cannot be read: {error.strerror or error}", "check the path"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RequestError(f"batch {str(path)!r}: {error}", "mend that line") from None
    return _Reader(path, file_names, precision).read(table, model)


class _Reader:
    """Reads the tables of one file; what is wrong is named with its key."""

    def __init__(self, path: Path, file_names: str, precision: Precision) -> None:
        self._path = path
        self._file_names = file_names
        self._precision = precision
        self._base = path.absolute().parent

    def read(self, table: Mapping[str, Any], model: str) -> Batch:
        self._check_keys(table, ("inputs", "presets", "use", "outputs", "stems_dir", "split"), "")
        inputs = self._read_list(table, "inputs")
        recipe = find_recipe(self._read_choice(table, "use", USES, "")) if "use" in table else None
        if recipe and recipe.preset and "presets" in table:
            hint = f'it brings the preset {recipe.preset}: leave out one of them, or say "remix" or "preview"'
            raise self._error("use", recipe.use, f"beside presets; {hint}")
        presets = [recipe.preset] if recipe and recipe.preset else self._read_list(table, "presets")
        outputs = tuple(
            self._read_output(entry, f"outputs.{at}.")
            for at, entry in enumerate(self._read_list(table, "outputs"))
        )
        stems_dir = self._read_folder(table, "stems_dir", "") if "stems_dir" in table else None
        places = list_places(self._base, outputs, stems_dir)
        split, is_named = self._read_split(table.get("split", {}), model, places, recipe)
        return Batch(
            inputs=self._find_inputs(inputs),
            variants=tuple(self._read_variant(entry, f"presets.{at}") for at, entry in enumerate(presets)),
            outputs=outputs,
            split=split,
            sets=places,
            is_model_named=is_named,
        )

    def _find_inputs(self, patterns: Sequence[Any]) -> tuple[Path, ...]:
        """Return the files and folders that are named or that a pattern finds, each once."""
        found: dict[Path, None] = {}
        for at, pattern in enumerate(patterns):
            if not isinstance(pattern, str) or not pattern:
                raise self._error(f"inputs.{at}", pattern, "a path, or a pattern such as songs/*.wav")
            named = self._base / self._expand(pattern, f"inputs.{at}")
            if not glob.has_magic(pattern) or named.exists():
                found[named] = None
                continue
            # Path.glob takes no absolute pattern, and finds what is hidden too: folders that jobs work in.
            expanded = str(self._expand(pattern, f"inputs.{at}"))
            names = sorted(glob.glob(expanded, root_dir=self._base, recursive=True))  # noqa: PTH207
            paths = [self._base / name for name in names]
            matching = [path for path in paths if path.is_file() or is_set(path)]
            if not matching:
                raise self._error(f"inputs.{at}", pattern, "no audio file and no finished set matches it")
            found |= dict.fromkeys(matching)
        return tuple(found)

    def _read_variant(self, entry: Any, place: str) -> Variant:
        if isinstance(entry, str):
            entry = {"preset": entry}
        if not isinstance(entry, dict):
            raise self._error(place, entry, "a preset's name or file, or {preset = ..., set = [...]}")
        self._check_keys(entry, ("preset", "set"), f"{place}.")
        changes = entry.get("set", [])
        if not isinstance(changes, list) or not all(isinstance(change, str) for change in changes):
            raise self._error(f"{place}.set", changes, 'a list such as ["vocals.gain_db=-3"]')
        return Variant(
            locate_preset(self._read_text(entry, "preset", f"{place}."), self._base), tuple(changes)
        )

    def _read_output(self, entry: Any, place: str) -> Output:
        if not isinstance(entry, dict):
            raise self._error(place.rstrip("."), entry, 'a table: [[outputs]] with folder = "..."')
        self._check_keys(entry, [field.name for field in fields(Output)], place)
        values: dict[str, Any] = {"folder": self._read_folder(entry, "folder", place)}
        for name in ("stems_out", "mp3", "report"):
            values[name] = entry.get(name, False)
            if not isinstance(values[name], bool):
                raise self._error(place + name, values[name], "true or false")
        for name in ("speed", "pitch", "ceiling_dbtp"):
            if name in entry:
                values[name] = self._read_number(entry, name, place)
        for name, allowed in (
            ("format", (AUTO_FORMAT, *FILE_FORMATS)),
            ("match", MATCHES),
            ("tail", TAILS),
        ):
            if name in entry:
                values[name] = self._read_choice(entry, name, allowed, place)
        values["file_names"] = self._file_names
        if "file_names" in entry:
            values["file_names"] = self._read_text(entry, "file_names", place)
            with self._placing(place):
                check_file_names(values["file_names"])
        values["sessions"] = self._read_sessions(entry.get("sessions", []), place)
        return Output(**values)

    def _read_sessions(self, kinds: Any, place: str) -> tuple[str, ...]:
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise self._error(f"{place}sessions", kinds, 'a list such as ["rpp"]')
        with self._placing(place):
            check_sessions(kinds)
        return tuple(dict.fromkeys(kinds))

    def _read_split(
        self, entry: Any, model: str, places: Sequence[Path], recipe: Recipe | None
    ) -> tuple[SplitRequest, bool]:
        """Return how files are split, and whether a model is named there."""
        if not isinstance(entry, dict):
            raise self._error("split", entry, "a table: [split]")
        place = "split."
        keys = ("model", "quality", "overlap", "shifts", "seed", "model_dir", "precision")
        self._check_keys(entry, keys, place)
        quality = recipe.quality if recipe else None
        if "quality" in entry:
            quality = QUALITIES[self._read_choice(entry, "quality", tuple(QUALITIES), place)]
        model_dir = self._read_folder(entry, "model_dir", place) if "model_dir" in entry else None
        named = self._read_text(entry, "model", place) if "model" in entry else None
        overlap = self._read_number(entry, "overlap", place) if "overlap" in entry else None
        shifts = self._read_whole(entry, "shifts", place) if "shifts" in entry else None
        seed = self._read_whole(entry, "seed", place) if "seed" in entry else 0
        precision = self._precision
        if "precision" in entry:
            precision = Precision(self._read_choice(entry, "precision", tuple(Precision), place))
        with self._placing("split: "):
            request = plan_split(
                places,
                model,
                quality,
                model=named,
                overlap=overlap,
                shifts=shifts,
                seed=seed,
                model_dir=model_dir,
                two_stems=recipe.two_stems if recipe else None,
                file_names=self._file_names,
                precision=precision,
            )
        return request, "model" in entry

    def _read_list(self, table: Mapping[str, Any], key: str) -> list[Any]:
        value = table.get(key)
        if not isinstance(value, list) or not value:
            raise self._error(key, value, "a list with at least one entry")
        return value

    def _read_text(self, table: Mapping[str, Any], key: str, place: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise self._error(place + key, value, "a text")
        return value

    def _read_folder(self, table: Mapping[str, Any], key: str, place: str) -> Path:
        """Return one folder as one path, however it is spelt: two batches that mean the same must see it."""
        text = self._read_text(table, key, place)
        try:
            return (self._base / self._expand(text, place + key)).resolve()
        except (OSError, RuntimeError) as error:
            raise self._error(place + key, text, f"a folder that can be found: {error}") from None

    def _expand(self, text: str, key: str) -> Path:
        try:
            return expand_home(text)
        except RequestError as error:
            raise self._error(key, text, error.hint) from None

    def _read_number(self, table: Mapping[str, Any], key: str, place: str) -> float:
        value = table[key]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._error(place + key, value, "a number")
        return value

    def _read_whole(self, table: Mapping[str, Any], key: str, place: str) -> int:
        value = table[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._error(place + key, value, "a whole number from 0 on")
        return value

    def _read_choice(self, table: Mapping[str, Any], key: str, allowed: Sequence[str], place: str) -> str:
        value = table[key]
        if value not in allowed:
            raise self._error(place + key, value, f"one of {', '.join(allowed)}")
        return str(value)

    def _check_keys(self, table: Mapping[str, Any], known: Collection[str], place: str) -> None:
        for key in table:
            if key not in known:
                raise RequestError(
                    f"batch {str(self._path)!r}: {place}{key} is no key", f"there are {', '.join(known)}"
                )

    @contextmanager
    def _placing(self, place: str) -> Iterator[None]:
        """Name the file and the place in it in an error of what is done inside."""
        try:
            yield
        except RequestError as error:
            raise RequestError(f"batch {str(self._path)!r}: {place}{error.message}", error.hint) from None

    def _error(self, key: str, value: Any, allowed: str) -> RequestError:
        given = "is not there" if value is None else f"= {value!r}"
        return RequestError(f"batch {str(self._path)!r}: {key} {given}", allowed)


def is_set(folder: Path) -> bool:
    """Tell whether ``folder`` holds a finished set that can be remixed; a remix is none."""
    if not (folder / FILE_NAME).is_file():
        return False
    try:
        return read_manifest(folder).remix is None
    except SourceError:
        return False
