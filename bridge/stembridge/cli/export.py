"""`stembridge export`: a result folder as a session that a DAW opens."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from stembridge.errors import OutputError, RequestError
from stembridge.text import one_line
from stembridge.types import SESSIONS


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RESULT_DIR")
@click.option("--to", "kind", type=click.Choice(SESSIONS), required=True, help="Kind of session.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where it goes; default: into RESULT_DIR, named after the source.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(folder: Path, kind: str, out: Path | None, force: bool) -> int:
    """Write RESULT_DIR as a session: stems at their place in the source, the original beside them, muted.

    REAPER opens rpp; Bitwig Studio, Studio One, Cubase and others dawproject; Pro Tools, Logic Pro and Media
    Composer aaf.
    """
    from stembridge.manifest import read_manifest
    from stembridge.sessions.arrangement import arrange
    from stembridge.sessions.writing import name_session, write_session

    document = read_manifest(folder)
    named = None if out is None or out.is_dir() else out
    home = named.parent if named else out or folder
    arrangement = arrange(folder, document, home=home)
    target = named or home / name_session(arrangement, kind)
    if target.suffix.lower() != f".{kind}":
        raise RequestError(f"{str(target)!r} does not end on .{kind}", "no DAW would know what it is")
    if os.path.lexists(target) and not force:
        raise OutputError(f"{str(target)!r} exists", "replace it with --force or choose another with --out")
    write_session(kind, arrangement, home, target)
    for remark in arrangement.remarks:
        print(f"warning: {one_line(remark)}", file=sys.stderr)
    print(one_line(str(target)))
    return 0
