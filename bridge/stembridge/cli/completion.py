"""`stembridge completion`: the line that switches tab completion on."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the tab completion for SHELL; add it to the shell's start-up file."""
    from click.shell_completion import get_completion_class

    from stembridge.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(cli, {}, "stembridge", "_STEMBRIDGE_COMPLETE").source())
