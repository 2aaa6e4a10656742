"""`stembridge demo`: a song out of nothing, split and proved."""

from __future__ import annotations

from pathlib import Path

import click

from stembridge import catalog, model_store
from stembridge.client import Client
from stembridge.errors import OutputError
from stembridge.settings import Settings, load_settings
from stembridge.types import SplitRequest


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("stembridge-demo"),
    show_default=True,
    help="Folder.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the song.")
@click.option("--seconds", type=click.FloatRange(1, 600), default=12.0, show_default=True, help="Its length.")
@click.option("--model", "model_name", help="Model; default: the settings' one if it is here, else preview.")
def demo(out: Path, seed: int, seconds: float, model_name: str | None) -> int:
    """Make a short song by synthesis, split it, and check the null on the written files."""
    from stembridge.cli.null import print_null
    from stembridge.cli.split import announce, run_splits

    settings = load_settings()
    out = out.absolute()
    source = out / f"demo-song-{seed}.wav"
    _write_song(source, seed, seconds)
    model = model_name or _model_that_is_here(settings)
    if model == "preview" and model_name is None:
        print(
            f"No files of {settings.model} here, so this demo uses `preview`: no model, the sound of a "
            f"sketch, the same exact sums. `stembridge models fetch {settings.model}` gets the real one."
        )
    with Client(settings) as client:
        request = SplitRequest(source=str(source), out=str(out), model=model, precision=settings.precision)
        announce([request], client)
        outcome = run_splits(client, [request])
    if outcome.exit_code:
        return outcome.exit_code
    (folder,) = outcome.folders
    print(f"\nthe null, re-read from disk (stembridge null {folder}):")
    return print_null(folder)


def _write_song(path: Path, seed: int, seconds: float) -> None:
    from stembridge.dsp import grid
    from stembridge.synthesis import make_song
    from stembridge.wavfile import write_wav

    song = make_song(seed, seconds=seconds)
    on_grid = grid.quantise(song.mixture, grid.STEM_BITS) * 2.0**-grid.STEM_BITS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            write_wav(path, on_grid, song.sample_rate)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{str(error.filename or path)!r} cannot be written: {error.strerror}",
            "choose another folder with --out",
        ) from error


def _model_that_is_here(settings: Settings) -> str:
    model = catalog.find_model(settings.model)
    folders = model_store.search_folders(model, settings.model_dirs)
    return settings.model if model_store.locate(model, folders) is not None else "preview"
