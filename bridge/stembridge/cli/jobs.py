"""`stembridge jobs`: what the daemon has been asked to do, and what became of it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from stembridge.cli.job_line import job_json
from stembridge.client import Client
from stembridge.errors import JobNotFound, RequestError
from stembridge.progress import tell_early
from stembridge.text import one_line
from stembridge.types import Job


@click.group(invoke_without_command=True)
@click.option("-n", "--limit", default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def jobs(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List jobs with state, progress and time left; all others take ids or their beginnings."""
    if ctx.invoked_subcommand is not None:
        return
    with Client() as client:
        found = client.jobs(limit)
    if as_json:
        for job in found:
            print(job_json(job))
        return
    for job in found:
        print(_line(job))
    if not found:
        print("no jobs yet")


@jobs.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(job_id: str, as_json: bool) -> None:
    """Show one job and its story."""
    with Client() as client:
        job = client.get(_whole_id(client, job_id))
    if as_json:
        print(job_json(job))
        return
    print(_line(job))
    print(f"source {one_line(job.source)}")
    if job.remix is not None:
        print(" ".join(["preset", one_line(job.tool), *map(one_line, job.remix.changes)]))
    print(f"result {one_line(job.result.folder) if job.result else '-'}")
    if job.early is not None:
        print("\n".join(tell_early(job.early)))
    for line in job.story:
        print(f"{_clock_time(line.at)}  {one_line(line.text)}")
    if job.error is not None:
        print(f"{job.error.code}: {one_line(job.error.message)} ({one_line(job.error.hint)})")


@jobs.command()
@click.argument("job_id")
def cancel(job_id: str) -> None:
    """Cancel a job: at once where it waits, within one step where it runs."""
    with Client() as client:
        job = client.cancel(_whole_id(client, job_id))
    print(_line(job))


@jobs.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
def pause(job_ids: tuple[str, ...]) -> None:
    """Let jobs wait until they are resumed; other jobs go on meanwhile.

    A job that runs is put aside within one step, with all it has done so far. A pause outlives the daemon; a
    job whose daemon has ended begins anew when it is resumed.
    """
    with Client() as client:
        for job_id in [_whole_id(client, start) for start in job_ids]:
            print(_line(client.pause(job_id)))


@jobs.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
def resume(job_ids: tuple[str, ...]) -> None:
    """Let paused jobs go on where they stopped, as soon as the job that runs now has ended."""
    with Client() as client:
        for job_id in [_whole_id(client, start) for start in job_ids]:
            print(_line(client.resume(job_id)))


def _whole_id(client: Client, start: str) -> str:
    """Return the one id that begins with ``start``.

    Raises
    ------
    RequestError
        ``start`` is empty, or several jobs begin so: none of them is guessed.
    JobNotFound
        No job begins so.
    """
    found = client.jobs(limit=2, prefix=start) if start else ()
    if len(found) == 1:
        return found[0].id
    if start and not found:
        raise JobNotFound(f"no job {start[:80]!r}", "stembridge jobs lists them")
    raise RequestError(f"job id {start!r} may be any of several", "give more of its characters")


def _line(job: Job) -> str:
    progress = ""
    if job.progress is not None and not job.state.is_final:
        progress = f" {job.progress.stage} {job.progress.fraction:.0%}"
        if job.progress.eta_s is not None and not job.is_paused:
            progress += f", {job.progress.eta_s:.0f} s left"
    state = "paused" if job.is_paused else job.state
    name, tool = one_line(Path(job.source).name), one_line(Path(job.tool).name)
    return f"{job.id[:8]}  {_clock_time(job.created)}  {state}{progress}  {tool}  {name}"


def _clock_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
