"""The command line. Each command's module is imported when it is called; nothing heavy is imported here."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from stembridge import __version__
from stembridge.errors import OutputError, StembridgeError
from stembridge.text import one_line

_COMMANDS = {
    "demo": ("demo", "demo"),
    "split": ("split", "split"),
    "remix": ("remix", "remix"),
    "watch": ("watch", "watch"),
    "conform": ("conform", "conform"),
    "export": ("export", "export"),
    "reaper": ("reaper", "reaper_group"),
    "presets": ("presets", "presets_group"),
    "null": ("null", "null"),
    "jobs": ("jobs", "jobs"),
    "models": ("models", "models_group"),
    "plugins": ("plugins", "plugins_group"),
    "daemon": ("daemon", "daemon"),
    "doctor": ("doctor", "doctor"),
    "completion": ("completion", "completion"),
}
"""Command name -> module and attribute, in the order of the help page."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"stembridge.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stembridge")
def cli() -> None:
    """Split audio into stems that sum back to the original, sample for sample."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error of ours or of the system is one line on stderr."""
    try:
        code = cli.main(args=argv, prog_name="stembridge", standalone_mode=False)
    except click.exceptions.Abort:
        print("cancelled", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StembridgeError as error:
        print(f"stembridge: {one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"stembridge: {one_line(_sentence(error))}", file=sys.stderr)
        return OutputError.exit_code
    return code if isinstance(code, int) else 0


def run() -> None:
    """Entry point of the `stembridge` command."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is spelled out; it must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())


def _sentence(error: OSError) -> str:
    """Return what the system refused, with the path where it named one."""
    reason = error.strerror or str(error) or type(error).__name__
    path = error.filename if error.filename2 is None else error.filename2
    return reason if path is None else f"{os.fsdecode(path)!r}: {reason}"
