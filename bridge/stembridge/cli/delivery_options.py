"""The options by which every command that makes a set is told how to deliver it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from stembridge.cli.completion import complete_stems
from stembridge.delivery import NAME_FIELDS
from stembridge.types import AUTO_FORMAT, FILE_FORMATS, FILE_NAMES, SESSIONS, Precision, ResidualPolicy

Command = TypeVar("Command", bound=Callable[..., int])

file_names_option = click.option(
    "--file-names",
    metavar="TEMPLATE",
    help=f"What stems are called, of {', '.join(f'{{{field}}}' for field in NAME_FIELDS)}; "
    f"default: the settings', {FILE_NAMES!r} at first.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice([precision.value for precision in Precision]),
    help="half computes in 16 bits where this machine can: faster, the sum as exact. "
    "Default: the settings', full at first.",
)
session_option = click.option(
    "--session",
    "sessions",
    multiple=True,
    type=click.Choice(SESSIONS),
    help="Add a session file that opens the set in a DAW; may come several times.",
)

_OPTIONS = (
    click.option(
        "--format",
        "file_format",
        type=click.Choice([AUTO_FORMAT, *FILE_FORMATS]),
        default=AUTO_FORMAT,
        show_default=True,
        help="Files of the stems; auto: 24-bit WAV where every sample fits, else 32-bit float WAV.",
    ),
    click.option(
        "--exact-float", is_flag=True, help="Close full-precision float sources with a 64-bit file."
    ),
    click.option(
        "--mp3", is_flag=True, help="Add an MP3 of each stem to listen to; it takes no part in the sum."
    ),
    click.option(
        "--residual",
        type=click.Choice([policy.value for policy in ResidualPolicy]),
        default=ResidualPolicy.OWN.value,
        show_default=True,
        help="Where the part goes that is in no stem: a file of its own, or into the stems.",
    ),
    click.option(
        "--mono", metavar="STEMS", shell_complete=complete_stems, help="Only the mid of these, by comma."
    ),
    file_names_option,
    session_option,
)


def delivery_options(command: Command) -> Command:
    """Give ``command`` one parameter per option of `_OPTIONS`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def out_option(help_text: str) -> Callable[[Command], Command]:
    """Return the option --out, the folder that gets result folders."""
    return click.option(
        "--out", type=click.Path(path_type=Path), default=Path("stems"), show_default=True, help=help_text
    )


def list_names(text: str | None) -> tuple[str, ...]:
    """Return the names that stand in ``text`` by comma."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
