"""`stembridge daemon`: start, stop, status, logs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from stembridge import daemon_process
from stembridge.client import Client
from stembridge.errors import DaemonUnavailable
from stembridge.protocol import DaemonStatus
from stembridge.settings import DEVICES, Settings, load_settings
from stembridge.text import one_line


@click.group()
def daemon() -> None:
    """Start, stop and look at the resident service."""


@daemon.command()
@click.option("--device", type=click.Choice(DEVICES), help="Where models run; default: settings, then auto.")
def start(device: str | None) -> None:
    """Start the daemon and load the default model; finds the one that runs already."""
    settings = load_settings()
    was_running = daemon_process.is_running(settings)
    flags = ["--preload", *(["--device", device] if device else [])]
    connection = daemon_process.find_or_start(settings, flags=flags)
    print(f"stembridged {'runs already' if was_running else 'started'}, pid {connection.pid}")


@daemon.command()
@click.option(
    "--grace", type=click.FloatRange(min=0), help="Seconds a running job may go on before it is requeued."
)
def stop(grace: float | None) -> None:
    """Stop the daemon: a running job is finished within the grace or requeued."""
    settings = load_settings()
    connection = daemon_process.find(settings)
    if connection is None:
        print("no daemon is running")
        return
    grace_s = settings.stop_grace_s if grace is None else grace
    with Client(settings, start=False) as client:
        status = client.status()
        if any(worker.job for worker in status.workers):
            print(f"a split is running: it gets {grace_s:g} s to finish, else it is queued again", flush=True)
        client.stop(grace_s)
    deadline = time.monotonic() + grace_s + settings.stop_grace_s + 10
    while daemon_process.is_running(settings):
        if time.monotonic() > deadline:
            raise DaemonUnavailable(
                f"stembridged (pid {connection.pid}) is still here after {grace_s:g} s",
                f"kill {connection.pid}; no accepted job is lost by it",
            )
        time.sleep(0.02)
    print(f"stembridged stopped, pid {connection.pid}")
    if status.jobs["running"] or status.jobs["queued"]:
        print("what waits is kept; the next command, or a client that waits for it, starts the daemon again")


@daemon.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(as_json: bool) -> None:
    """Show what the daemon does; exits 69 where none runs."""
    settings = load_settings()
    with Client(settings, start=False, deadline_s=5.0) as client:
        found = client.status()
    if as_json:
        import msgspec

        print(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        print("\n".join([*_status_lines(found), *_watch_lines(settings)]))


@daemon.command()
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="How many of the last lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option(
    "--worker",
    is_flag=False,
    flag_value="separate",
    type=click.Choice(["separate", "render"]),
    help="A worker's log instead of the daemon's: that of the one that splits, or that renders remixes.",
)
@click.option(
    "--watch", "is_watch", is_flag=True, help="The log of the watcher that the daemon keeps running."
)
def logs(lines: int, follow: bool, worker: str | None, is_watch: bool) -> None:
    """Show the daemon's log."""
    if is_watch and worker is not None:
        raise click.UsageError("one log at a time: --watch or --worker")
    settings = load_settings()
    paths = {
        None: settings.log_file,
        "separate": settings.worker_log_file,
        "render": settings.render_log_file,
    }
    path = settings.watch_log_file if is_watch else paths[worker]
    if not path.exists():
        remedy = (
            "set watch_dirs in settings.toml and start the daemon anew"
            if is_watch
            else "stembridge daemon start"
        )
        raise DaemonUnavailable(f"no log at {path}", remedy)
    for line in path.read_text("utf-8", "replace").splitlines()[-lines:]:
        print(line)
    if follow:
        for line in _new_lines(path):
            print(line, end="", flush=True)


def _status_lines(found: DaemonStatus) -> Iterator[str]:
    yield f"stembridged {found.version}, pid {found.pid}, up {found.uptime_s:.0f} s, {found.endpoint}"
    for worker in found.workers:
        models = f"; {', '.join(worker.models) or 'no model loaded'}" if worker.role == "separate" else ""
        at_work = f", job {worker.job}" if worker.job else ""
        aside = f", {len(worker.paused)} put aside" if worker.paused else ""
        pid = f", pid {worker.pid}" if worker.pid else ""
        threads = (
            f" with {worker.threads} threads" if worker.threads and worker.device in ("auto", "cpu") else ""
        )
        place = f"{worker.device}{threads}"
        yield f"worker ({worker.role}) on {place}: {worker.state}{pid}{at_work}{aside}{models}"
    paused = f"; {found.paused} paused" if found.paused else ""
    yield "jobs: " + ", ".join(f"{count} {state}" for state, count in found.jobs.items()) + paused
    for name, cost in sorted(found.speeds.items()):
        yield f"{name}: {1 / cost:.1f} times real time per pass"


def _watch_lines(settings: Settings) -> Iterator[str]:
    from stembridge.watch.ledger import list_watched
    from stembridge.watch.status import is_fresh, read_status

    known = {os.path.realpath(root) for root in settings.watch_dirs}
    others = [root for root in list_watched(settings) if str(root) not in known]
    for root in (*settings.watch_dirs, *others):
        status = read_status(root)
        if status is None:
            found = "no status yet"
        else:
            counts = [f"{count} {state}" for state, count in status.counts.items() if count]
            found = ", ".join(counts) or "no files yet"
            if not is_fresh(status):
                found += " (not watched now)"
        yield one_line(f"watches {root}: {found}")


def _new_lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, os.SEEK_END)
        while True:
            line = file.readline()
            if line:
                yield line
            else:
                time.sleep(0.2)
