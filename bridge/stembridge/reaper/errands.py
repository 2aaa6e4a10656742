"""What the desk has done by a process aside: decoding, measuring, fetching. One errand per process.

Arguments come as JSON on stdin, ``[kind, {argument: value}]``. Each line on stdout is a JSON object: how far
the errand is, ``{"text", "fraction"}``, and the last one what came of it, ``{"result"}`` or ``{"error"}``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stembridge.errors import SourceError, StembridgeError
from stembridge.settings import Settings, load_settings
from stembridge.types import ErrorInfo

Report = Callable[[str, float | None], None]
"""Says what is being done and how far it is, 0 to 1 or None."""

_SAME_DB = -40.0
"""Two decoders of one lossy stream differ by their rounding and dither; a frame's delay makes far more."""
_SILENT = 1e-4
_MIN_HEARD = 3
_MAX_STEMS = 32
"""So many files in one folder are a library, not the stems of a song."""
_AUDIO_SUFFIXES = frozenset(
    {
        ".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".caf", ".flac",
        ".mp3", ".m4a", ".ogg", ".oga", ".opus",
    }
)  # fmt: skip


def fetch_model(settings: Settings, report: Report, *, model: str) -> dict[str, Any]:
    """Fetch what the first model folder lacks of a model."""
    from stembridge import catalog, model_store

    into = settings.model_dirs[0]
    report(f"asking for {model}", None)
    plan = model_store.plan_fetch(catalog.find_model(model), into)

    def tell(done: int, total: int | None) -> None:
        report(f"{model}: {done / 1e6:.0f} MB fetched", done / total if total else None)

    paths = model_store.fetch(plan, tell)
    return {"files": [str(path) for path in paths]}


def measure_speed(_settings: Settings, _report: Report) -> dict[str, Any]:
    """Measure how fast this machine multiplies matrices, for models that never ran here."""
    from stembridge.matrix_speed import measure_gflops

    return {"gflops": measure_gflops()}


def compare_decoding(
    _settings: Settings,
    report: Report,
    *,
    path: str,
    rate: int,
    frames: int,
    start_s: float,
    samples: Sequence[int],
    section: tuple[float, float, bool] | None,
) -> dict[str, Any]:
    """Tell whether REAPER decodes a lossy file as we do: the same length, the same samples at the same place.

    Parameters
    ----------
    rate, frames : of the file, as REAPER has them
    start_s, samples : where in what the take plays REAPER has read its first channel, in units of 2^-23
    section : of the file that the take plays: offset, length, and whether backwards

    Returns
    -------
    dict
        ``frames``: the file's length, or 0 where REAPER hears another thing.
    """
    import tempfile

    import numpy as np

    from stembridge import audio_io, transcode
    from stembridge.types import Region

    report("comparing how REAPER reads the file", None)
    with tempfile.TemporaryDirectory() as folder:
        opening = transcode.open_source(path, Path(folder))
        while True:
            try:
                next(opening)
            except StopIteration as stop:
                info = stop.value
                break
        if (info.sample_rate, info.frames) != (rate, frames):
            return {"frames": 0, "ours": [info.sample_rate, info.frames]}
        heard = np.array(samples, dtype=np.float64) / 2**23
        start = start_s
        if section is not None:
            offset, length, is_reversed = section
            start = offset + length - start_s - len(heard) / rate if is_reversed else offset + start_s
            heard = heard[::-1] if is_reversed else heard
        first = min(max(0, round(start * rate)), info.frames - len(heard))
        if first < 0 or len(heard) < _MIN_HEARD:
            return {"frames": 0}
        blocks = audio_io.read_blocks(info, Region(first, len(heard)))
        ours = np.concatenate([block[0] for block in blocks])
    # One frame's delay of a bass note is below the limit: it shows in that another place fits better.
    lags = [slice(1 + lag, len(ours) - 1 + lag) for lag in (0, -1, 1)]
    error, *errors = [float(np.sqrt(np.mean((ours[lag] - heard[1:-1]) ** 2))) for lag in lags]
    level = float(np.sqrt(np.mean(ours**2)))
    is_same = error <= max(level, _SILENT) * 10 ** (_SAME_DB / 20) and error <= min(errors)
    return {"frames": info.frames if is_same else 0}


def conform_stems(
    _settings: Settings,
    report: Report,
    *,
    mixture: str,
    chosen: str,
    out: str,
    job: str,
    as_is: bool,
) -> dict[str, Any]:
    """Make the audio files beside ``chosen`` the stems of ``mixture``, and publish them as a set.

    Files of a set of ours that hold its residual or its mixture are passed over: what they hold is made anew.

    Returns
    -------
    dict
        ``folder``: of the result; ``stems``; ``residual_db``; ``remarks``.
    """
    from stembridge import conform, manifest

    source = Path(mixture)
    files = [path for path in _list_audio(Path(chosen).parent) if not path.samefile(source)]
    stems = conform.name_stems(source, [path for path in files if not conform.find_rest(path)])
    running = conform.conform(source, stems, Path(out), as_is=as_is, job_id=job)
    while True:
        try:
            progress = next(running)
        except StopIteration as stop:
            result = stop.value
            break
        report(f"stems from elsewhere: {progress.stage}", progress.fraction)
    document = manifest.read_manifest(Path(result.folder))
    return {
        "folder": result.folder,
        "stems": list(stems),
        "residual_db": result.residual_db,
        "remarks": list(document.warnings),
    }


def _list_audio(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _AUDIO_SUFFIXES)
    except OSError as error:
        raise SourceError(f"{str(folder)!r} cannot be read: {error.strerror}", "check its rights") from None
    found = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    if len(found) > _MAX_STEMS:
        raise SourceError(
            f"{str(folder)!r} holds {len(found)} audio files", "put the stems into a folder of their own"
        )
    return found


def measure_nulls(_settings: Settings, report: Report, *, sums: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Measure what is between the sum of stems and their original, for each of ``sums``."""
    from stembridge.reaper import selection_null

    return {"findings": selection_null.measure(report, sums)}


def check_material(_settings: Settings, report: Report, *, folder: str) -> dict[str, Any]:
    """Write what the scratch project of the check plays; ``song`` and ``mp3`` are the paths."""
    from stembridge.reaper.check_audio import write_material

    report("check: making something to play", None)
    return write_material(Path(folder))


def check_compare(
    _settings: Settings,
    report: Report,
    *,
    before: str,
    after: str,
    pieces: Sequence[tuple[str, float, float]],
    song: str,
    bake: str,
    offset_s: float,
    length_s: float,
    fade_s: float,
) -> dict[str, Any]:
    """Compare the renders with and without stems, and an item with what REAPER rendered of it.

    Returns
    -------
    dict
        ``differences`` as `compare_renders` and ``bake`` as `measure_bake` return them; ``bake`` is empty
        where nothing was rendered of the item.
    """
    from stembridge.reaper.check_audio import compare_renders, measure_bake

    report("check: comparing", None)
    return {
        "differences": compare_renders(before, after, pieces),
        "bake": measure_bake(song, bake, offset_s, length_s, fade_s) if bake else {},
    }


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "fetch_model": fetch_model,
    "null": measure_nulls,
    "measure_speed": measure_speed,
    "compare": compare_decoding,
    "conform": conform_stems,
    "check_material": check_material,
    "check_compare": check_compare,
}
"""Name of an errand -> what does it, with the settings, a way to report, and its arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do the errand that stands on stdin; return the exit code."""
    parser = argparse.ArgumentParser(prog="stembridge.reaper.errands")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--model-dir", type=Path, action="append", default=[])
    options = parser.parse_args(argv)
    kind, arguments = msgspec.json.decode(sys.stdin.buffer.read())
    try:
        model_dirs = tuple(options.model_dir) or None
        settings = load_settings(home=options.home, environ={}, model_dirs=model_dirs)
        _say(result=KINDS[kind](settings, lambda text, part: _say(text=text, fraction=part), **arguments))
    except StembridgeError as error:
        _say(error=ErrorInfo(error.code, error.message, error.hint))
    return 0


def _say(**fields: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(fields) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
