"""`stembridge completion`: the line that switches tab completion on."""

from __future__ import annotations

import click

from stembridge.catalog import CATALOG
from stembridge.manifest import STEM_ORDER


def complete_models(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return the official model names that begin with ``start``."""
    return [model.name for model in CATALOG if model.name.startswith(start)]


def complete_stems(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return what ``start``, a list by comma, may go on to."""
    whole, comma, last = start.rpartition(",")
    return [whole + comma + stem for stem in STEM_ORDER if stem.startswith(last)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the tab completion for SHELL; add it to the shell's start-up file."""
    from click.shell_completion import get_completion_class

    from stembridge.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(cli, {}, "stembridge", "_STEMBRIDGE_COMPLETE").source())
