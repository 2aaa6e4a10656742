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
    metavar="FILE|FOLDER",
    help="File, or folder that is there; default: into RESULT_DIR, named after the source.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(folder: Path, kind: str, out: str | None, force: bool) -> int:
    """Write RESULT_DIR as a session: stems at their place in the source, the original beside them, muted.

    REAPER opens rpp; Bitwig Studio, Studio One, Cubase and others dawproject; Pro Tools, Logic Pro and Media
    Composer aaf, which needs pip install "stembridge[aaf]".
    """
    from stembridge.manifest import read_manifest
    from stembridge.sessions.arrangement import arrange
    from stembridge.sessions.writing import name_session, write_session

    document = read_manifest(folder)
    named = None
    if out is not None and not os.path.isdir(out):  # noqa: PTH112 - Path.is_dir() raises where a name is too long
        named = _check_file(out, kind)
    home = named.parent if named else Path(out or folder)
    arrangement = arrange(folder, document, home=home)
    target = named or home / name_session(arrangement, kind)
    if os.path.lexists(target) and not force:
        raise OutputError(f"{str(target)!r} exists", "replace it with --force or choose another with --out")
    write_session(kind, arrangement, home, target)
    for remark in arrangement.remarks:
        print(f"warning: {one_line(remark)}", file=sys.stderr)
    print(one_line(str(target)))
    return 0


def _check_file(out: str, kind: str) -> Path:
    """Return ``out`` as a session file's path; refuse other names, and a folder that is not there."""
    is_folder = out.endswith(("/", os.sep))
    remedy = f"make the folder first, or name a file that ends on .{kind}"
    if os.path.lexists(out.rstrip("/" + os.sep)):
        if is_folder:
            raise OutputError(f"{out!r} is no folder", f"name one, or a file that ends on .{kind}")
    elif is_folder or not Path(out).suffix:
        raise OutputError(f"folder {out!r} does not exist", remedy)
    if Path(out).suffix.lower() != f".{kind}":
        raise RequestError(f"{out!r} does not end on .{kind}", f"DAWs know a session by that; {remedy}")
    return Path(out)
