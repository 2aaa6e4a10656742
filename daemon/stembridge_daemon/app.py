"""`stembridged`: the composition root of the front. Reads settings, joins the parts, ends in order."""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from stembridge import __version__
from stembridge.daemon_process import EXIT_SECOND_DAEMON
from stembridge.errors import StembridgeError
from stembridge.file_lock import FileLock
from stembridge.processor import count_threads
from stembridge.settings import DEVICES, TRANSPORTS, Settings, load_settings
from stembridge.transport import Listener, remove_connection, secure_folder
from stembridge_daemon.errands import Errands
from stembridge_daemon.front_house import FrontHouse
from stembridge_daemon.jobstore import JobStore
from stembridge_daemon.lane import Lane
from stembridge_daemon.scheduler import JobKind
from stembridge_daemon.server import Events, Server
from stembridge_daemon.service import Service
from stembridge_daemon.supervisor import Supervisor, tuned_environment
from stembridge_daemon.watching import WatchChild
from stembridge_daemon.worker_messages import Role

if TYPE_CHECKING:
    from stembridge.reaper.desk import Desk

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 1.0
"""A client that looks for a daemon has the lock for an instant; another daemon has it for good."""


def main(
    argv: Sequence[str] | None = None,
    worker_command: Sequence[str] | None = None,
    render_command: Sequence[str] | None = None,
) -> int:
    """Run the daemon until it is told to leave; return the exit code.

    Parameters
    ----------
    argv : command line without the program's name; None means the process's own
    worker_command : command line of the worker that separates; a test brings its own
    render_command : that of the worker that renders remixes
    """
    options = _parser().parse_args(argv)
    try:
        settings = load_settings(
            home=options.home,
            environ={},
            device=options.device,
            transport=options.transport,
            keep_alive_s=options.keep_alive,
            model_dirs=tuple(path.absolute() for path in options.model_dir) or None,
            watch_dirs=tuple(path.absolute() for path in options.watch) or None,
        )
        commands = {
            Role.SEPARATE: worker_command or default_command(settings, Role.SEPARATE),
            Role.RENDER: render_command or default_command(settings, Role.RENDER),
        }
        return _serve(settings, commands, preload=options.preload)
    except StembridgeError as error:
        print(f"stembridged: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def default_command(settings: Settings, role: Role) -> list[str]:
    """Return the command line of the worker that this installation brings for ``role``."""
    command = [sys.executable, "-P", "-m", "stembridge_daemon.worker.main", "--role", role.value]
    command += ["--priority", settings.worker_priority]
    if role is Role.SEPARATE:
        command += ["--device", settings.device, "--threads", str(count_threads(settings.threads))]
        return [*command, "--compile"] if settings.compile else command
    return [*command, "--home", str(settings.home)] if settings.home is not None else command


def _serve(settings: Settings, commands: Mapping[Role, Sequence[str]], *, preload: bool) -> int:
    lock = FileLock(settings.lock_file)
    if not lock.acquire(LOCK_TIMEOUT_S):
        print("stembridged: a daemon of this user runs already (stembridge daemon status)", file=sys.stderr)  # noqa: T201
        return EXIT_SECOND_DAEMON
    secure_folder(settings.state_dir)
    _log_to(settings.log_file)
    logger.info("stembridged %s, pid %d, home %s", __version__, os.getpid(), settings.home or "system")
    remove_connection(settings.connection_file)
    store = JobStore(settings.job_table)
    context: zmq.Context[Any] = zmq.Context()
    is_low = settings.worker_priority == "low"
    separating = Supervisor(
        commands[Role.SEPARATE],
        tuned_environment(os.environ),
        settings.worker_log_file,
        context,
        is_low=is_low,
    )
    # Some steps of a remix are one long call. A plugin that hangs is noticed by its own host.
    rendering = Supervisor(
        commands[Role.RENDER],
        os.environ,
        settings.render_log_file,
        context,
        step_stage=None,
        is_low=is_low,
    )
    threads = count_threads(settings.threads)
    lanes = (
        Lane(JobKind.SPLIT, separating, device=settings.device, threads=threads),
        Lane(JobKind.REMIX, rendering),
    )
    listener = Listener(context, settings, __version__)
    events = Events()
    service = Service(settings, store, lanes, endpoint=listener.endpoint, on_change=events.note)
    errands = Errands(settings)
    watcher = WatchChild(settings.watch_dirs, settings)

    def open_desk() -> Desk:
        from stembridge.reaper.desk import Desk

        return Desk(FrontHouse(settings, service, errands, listener.origin))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.leave(settings.stop_grace_s))
    if preload:
        service.preload(settings.model)
    if settings.watch_dirs:
        watcher.start()
    try:
        Server(listener, service, events, open_desk).run()
    finally:
        # All are told before any is waited for.
        watcher.stop()
        separating.stop()
        rendering.stop()
        errands.close()
        watcher.close(timeout_s=5.0)
        separating.close(timeout_s=2.0)
        rendering.close(timeout_s=2.0)
        service.close()
        store.close()
        listener.close()
        context.term()
        lock.release()
    logger.info("stembridged has left")
    return 0


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=5_000_000, backupCount=5, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stembridged", description="The resident service of Stembridge.")
    parser.add_argument("--home", type=Path, help="root of all folders (default: the system's own places)")
    parser.add_argument("--device", choices=DEVICES, help="where models run (default: auto)")
    parser.add_argument("--transport", choices=TRANSPORTS, help="how clients connect (default: per system)")
    parser.add_argument("--keep-alive", type=float, metavar="SECONDS", help="idle time before unloading")
    parser.add_argument("--model-dir", type=Path, action="append", default=[], help="folder with model files")
    parser.add_argument(
        "--watch",
        type=Path,
        metavar="DIR",
        action="append",
        default=[],
        help="watch this folder (see watch_dirs)",
    )
    parser.add_argument("--preload", action="store_true", help="load the default model at once")
    parser.add_argument("--version", action="version", version=f"stembridged {__version__}")
    return parser


def run() -> None:
    """Entry point of the `stembridged` command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
