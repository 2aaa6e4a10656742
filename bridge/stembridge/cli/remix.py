"""`stembridge remix`: files or finished sets in, remixes out that differ only where it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from stembridge.cli.completion import complete_models
from stembridge.cli.conform import locate
from stembridge.cli.delivery_options import file_names_option, precision_option, session_option
from stembridge.cli.presets import complete_presets
from stembridge.errors import StembridgeError
from stembridge.mixdown.batch import (
    REMIXES_FOLDER,
    Batch,
    Output,
    Variant,
    list_places,
    locate_preset,
    plan_split,
)
from stembridge.presets import MATCHES, TAILS
from stembridge.quality import QUALITIES
from stembridge.recipes import USES, find_recipe
from stembridge.settings import load_settings
from stembridge.types import AUTO_FORMAT, FILE_FORMATS, Precision

_BESIDE_BATCH = ("batch_file", "as_json", "yes")
_OF_SPLITS = ("stems_dir", "model_name", "quality", "overlap", "shifts", "seed", "precision", "model_dir")


@click.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path), metavar="INPUT|DIR...")
@click.option(
    "--preset",
    "presets",
    multiple=True,
    shell_complete=complete_presets,
    help="Name or file of a preset; may come several times.",
)
@click.option(
    "--use",
    shell_complete=lambda _context, _parameter, start: [use for use in USES if use.startswith(start)],
    help="Model, stems and preset by what it is for: karaoke, acapella or practice:STEM; model and stems "
    "alone, for any --preset: remix or preview.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value in place of the preset's own, such as vocals.gain_db=-3; may come several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(REMIXES_FOLDER),
    show_default=True,
    help="Folder for results.",
)
@click.option("--stems-out", is_flag=True, help="Also every stem as it is heard; they sum to the remix.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice([AUTO_FORMAT, *FILE_FORMATS]),
    default=AUTO_FORMAT,
    show_default=True,
    help="Files; auto: as those of the set, wider where a sample does not fit.",
)
@click.option("--match", type=click.Choice(MATCHES), help="As loud as the original, by one gain on all.")
@click.option("--ceiling", "ceiling_dbtp", type=float, metavar="DBTP", help="True peak stays below: -1.")
@click.option(
    "--tail", type=click.Choice(TAILS), help="End where the original ends, or when all has died away."
)
@click.option("--mp3", is_flag=True, help="Add an MP3 of the remix to listen to.")
@click.option("--report", is_flag=True, help="Add report.html: what was changed, to look at.")
@click.option("--speed", type=float, default=1.0, help="Add a copy for practice: 0.8 is slower, same pitch.")
@click.option("--pitch", type=float, default=0.0, help="Semitones by which that copy is moved.")
@file_names_option
@session_option
@click.option(
    "--batch", "batch_file", type=click.Path(path_type=Path), metavar="FILE", help="See docs/remix.md."
)
@click.option(
    "--stems-dir",
    type=click.Path(path_type=Path),
    help="Where an INPUT's stems are or go; default: OUT, and found in ./stems and ./remixes too.",
)
@click.option(
    "--model",
    "model_name",
    shell_complete=complete_models,
    help="Model that splits an INPUT; see `stembridge models list`. Default: the settings' model.",
)
@click.option("--quality", type=click.Choice(list(QUALITIES)), help="As for `stembridge split`.")
@click.option("--overlap", type=float, help="As for `stembridge split`.")
@click.option("--shifts", type=int, help="As for `stembridge split`.")
@click.option("--seed", type=int, default=0, help="As for `stembridge split`.")
@precision_option
@click.option("--model-dir", type=click.Path(path_type=Path), help="As for `stembridge split`.")
@click.option("--yes", is_flag=True, help="Fetch a model that is not here without asking.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON lines on stdout.")
@click.pass_context
def remix(
    context: click.Context,
    inputs: tuple[Path, ...],
    presets: tuple[str, ...],
    use: str | None,
    changes: tuple[str, ...],
    out: Path,
    stems_out: bool,
    file_format: str,
    match: str | None,
    ceiling_dbtp: float | None,
    tail: str | None,
    mp3: bool,
    report: bool,
    speed: float,
    pitch: float,
    file_names: str | None,
    sessions: tuple[str, ...],
    batch_file: Path | None,
    stems_dir: Path | None,
    model_name: str | None,
    quality: str | None,
    overlap: float | None,
    shifts: int | None,
    seed: int,
    precision: str | None,
    model_dir: Path | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Remix audio files (INPUT) or finished sets of stems (DIR) with presets.

    What no effect touches stays as it is in the original, bit for bit. A DIR is rendered right here, without
    the daemon; an INPUT is split first, once for all presets, unless its stems are there already.

    Exit codes: 0 done, 1 failed, 2 usage, 3 some failed, 69 no daemon, 73 cannot write, 75 busy,
    130 cancelled.
    """
    from stembridge.cli.remixing import BatchRun, name_error, print_error
    from stembridge.local_job import ended_like_ctrl_c
    from stembridge.mixdown.batch_file import read_batch

    try:
        settings = load_settings()
        if batch_file is not None:
            _refuse_beside_batch(context)
            batch = read_batch(batch_file, settings.model, settings.file_names, settings.precision)
        else:
            if not inputs:
                raise click.UsageError("name audio files or folders with stems, or a --batch file")
            _refuse_beside_sets(context, inputs)
            recipe = find_recipe(use) if use is not None else None
            if recipe and recipe.preset and presets:
                raise click.UsageError(
                    f"--preset beside --use {recipe.use}, which brings the preset {recipe.preset}: "
                    "leave out --preset, or --use remix for model and stems alone"
                )
            names = (recipe.preset,) if recipe and recipe.preset else presets
            if not names:
                raise click.UsageError(
                    "name a --preset, `stembridge presets list` shows all, or a --use with one"
                )
            base = Path.cwd()
            output = Output(
                folder=locate(out),
                stems_out=stems_out,
                format=file_format,
                mp3=mp3,
                report=report,
                speed=speed,
                pitch=pitch,
                match=match,
                ceiling_dbtp=ceiling_dbtp,
                tail=tail,
                file_names=settings.file_names if file_names is None else file_names,
                sessions=tuple(dict.fromkeys(sessions)),
            )
            places = list_places(base, [output], locate(stems_dir) if stems_dir else None)
            batch = Batch(
                inputs=tuple(dict.fromkeys(locate(path) for path in inputs)),
                variants=tuple(Variant(locate_preset(name, base), changes) for name in dict.fromkeys(names)),
                outputs=(output,),
                split=plan_split(
                    places,
                    settings.model,
                    QUALITIES[quality] if quality else recipe.quality if recipe else None,
                    model=model_name,
                    overlap=overlap,
                    shifts=shifts,
                    seed=seed,
                    model_dir=locate(model_dir) if model_dir else None,
                    two_stems=recipe.two_stems if recipe else None,
                    file_names=output.file_names,
                    precision=settings.precision if precision is None else Precision(precision),
                ),
                sets=places,
                is_model_named=model_name is not None,
            )
        run = BatchRun(batch, settings, is_resumable=batch_file is not None, as_json=as_json, yes=yes)
        with ended_like_ctrl_c():
            return run.run()
    except (StembridgeError, OSError) as error:
        if not as_json:
            raise
        known = name_error(error)
        print_error(known)
        return known.exit_code


def _refuse_beside_batch(context: click.Context) -> None:
    """Refuse whatever a batch file says itself."""
    for name in context.params:
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and name not in _BESIDE_BATCH:
            raise click.UsageError(f"{name} beside --batch: the file says it")


def _refuse_beside_sets(context: click.Context, inputs: Sequence[Path]) -> None:
    """Refuse what says how to split where nothing is there to be split."""
    if not all(path.is_dir() for path in inputs):
        return
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_given and parameter.name in _OF_SPLITS:
            raise click.UsageError(f"{parameter.opts[0]} is for an INPUT to split; a DIR is split already")
