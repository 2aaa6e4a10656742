"""`stembridge conform`: stems that came from elsewhere, placed and closed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stembridge.cli.delivery_options import delivery_options, list_names, out_option
from stembridge.errors import RequestError
from stembridge.local_job import ended_like_ctrl_c, run_here
from stembridge.settings import load_settings
from stembridge.text import one_line
from stembridge.types import Job, JobState, ResidualPolicy, SplitRequest

if TYPE_CHECKING:
    from stembridge.manifest import AlignmentEntry

HEADER = ("stem", "delay (frames)", "error (frames)", "polarity", "decision")


@click.command()
@click.argument("mixture", type=click.Path(path_type=Path), metavar="MIX")
@click.argument("stems", nargs=-1, required=True, metavar="[NAME=]STEM...")
@out_option("Folder that gets the result folder.")
@click.option("--as-is", is_flag=True, help="Take the stems as they lie; only close the sum.")
@delivery_options
def conform(
    mixture: Path,
    stems: tuple[str, ...],
    out: Path,
    as_is: bool,
    file_format: str,
    exact_float: bool,
    residual: str,
    mono: str | None,
    mp3: bool,
    file_names: str | None,
    sessions: tuple[str, ...],
) -> int:
    """Make stems of another program a set that sums back to MIX, sample for sample.

    Finds each stem's delay and polarity, applies them or says why not, brings it to the mixture's rate and
    length and closes the sum. Stems are named as their files are; NAME=STEM names one otherwise.

    Found are stems up to 4096 frames late or early (93 ms at 44.1 kHz), and up to 30 s where no other place
    fits nearly as well; music that repeats is refused there.
    """
    from stembridge.cli.result_table import print_result
    from stembridge.conform import Delivery
    from stembridge.conform import conform as run_conform
    from stembridge.manifest import read_manifest
    from stembridge.progress import progress_shown

    steps = run_conform(
        locate(mixture),
        read_names(mixture, stems),
        locate(out),
        as_is=as_is,
        delivery=Delivery(
            file_format,
            exact_float,
            ResidualPolicy(residual),
            list_names(mono),
            mp3,
            file_names=load_settings().file_names if file_names is None else file_names,
            sessions=tuple(dict.fromkeys(sessions)),
        ),
    )
    request = SplitRequest(source=str(mixture), out=str(out), model="conform")
    job = Job("conform", request, JobState.QUEUED, created=0.0)
    with ended_like_ctrl_c(), progress_shown() as show:
        result = run_here(steps, job, show).result
    assert result is not None
    folder = Path(result.folder)
    for line in format_alignment(read_manifest(folder).alignment):
        print(line)
    print_result(folder, result.warnings)
    return 0


def locate(path: Path) -> Path:
    """Return the absolute path without '..'; a link that names a file keeps its own name."""
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


def read_names(mixture: Path, stems: Sequence[str]) -> dict[str, Path]:
    """Return absolute paths by stem name: as NAME=FILE says, else as the files' names tell.

    A file whose own name holds '=' is taken as a file.

    Raises
    ------
    RequestError : a name that stands twice or cannot be
    """
    from stembridge.conform import name_stems

    named: dict[str, Path] = {}
    bare: list[Path] = []
    for text in stems:
        name, sign, file = text.partition("=")
        if not sign or Path(text).exists():
            bare.append(locate(Path(text)))
        elif name in named:
            raise RequestError(f"stem {name!r} stands twice", "give each NAME once")
        else:
            named[name] = locate(Path(file))
    told = name_stems(mixture, bare) if bare else {}
    if twice := sorted(named.keys() & told.keys()):
        raise RequestError(
            f"stem {twice[0]!r} stands twice", f"name {str(told[twice[0]])!r} otherwise: NAME=FILE"
        )
    return named | told


def format_alignment(entries: Sequence[AlignmentEntry]) -> list[str]:
    """Return the lines of a table: where every stem was found and what was done."""
    if not entries:
        return []
    rows = [HEADER]
    for entry in entries:
        decision = f"{entry.decision}: {entry.reason}" if entry.reason else entry.decision
        rows.append(
            (
                one_line(entry.name),
                f"{round(entry.delay_frames, 2) + 0.0:.2f}",
                "-" if entry.delay_se is None else f"{entry.delay_se:.4f}",
                "+" if entry.polarity > 0 else "-",
                one_line(decision),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in (1, 2, 3)), row[4]])
        for row in rows
    ]
