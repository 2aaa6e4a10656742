"""The scripts' client inside Python embedded in a C program, in each of the ways REAPER may run a script."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from stembridge.transport import Connection, write_connection

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows: the scripts go by files there")

HOST = Path(__file__).with_name("embedding_host.c")
SCRIPTS = Path(__file__).parents[2] / "reaper_scripts" / "lib"
RUNS = 3
LIMIT_S = 60.0

SCRIPT = """
import sys, time
if {scripts!r} not in sys.path:
    sys.path.insert(0, {scripts!r})
kept = "stembridge_zmtp" in sys.modules
import stembridge_zmtp

client = stembridge_zmtp.Daemon({connection_file!r})
deadline = time.monotonic() + 20
for number in (1, 2):
    client.send({{"t": "echo", "number": number, "at": 0.1 + 0.2}}, b"body" * 20000)
    answer = None
    while answer is None:
        assert client.state != "lost", client.reason
        assert time.monotonic() < deadline, client.state
        answer = client.poll()
    assert answer == ({{"t": "echo", "number": number, "at": 0.1 + 0.2}}, b"body" * 20000), answer
client.close()
print("kept" if kept else "fresh", flush=True)
"""


def find_libpython() -> Path | None:
    """Return the shared library of the Python that runs the tests, or None where there is none."""
    told = sysconfig.get_config_vars()
    names = [str(told.get(name) or "") for name in ("INSTSONAME", "LDLIBRARY")]
    folders = [
        told.get("LIBDIR"),
        Path(sys.base_prefix) / "lib",
        Path("/usr/lib") / str(told.get("MULTIARCH") or ""),
        told.get("PYTHONFRAMEWORKPREFIX"),
    ]
    for folder in filter(None, folders):
        for name in names:
            path = Path(str(folder)) / name
            if name and not name.endswith(".a") and path.is_file():
                return path
    found = ctypes.util.find_library(f"python{told['LDVERSION']}")
    return Path(found) if found else None


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The compiled host and the libpython that it shall open."""
    library, compiler = find_libpython(), shutil.which("cc") or shutil.which("gcc")
    if library is None or compiler is None:
        pytest.skip(f"no libpython or compiler: {library}, {compiler}")
    program = tmp_path_factory.mktemp("host") / "host"
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", program, HOST, "-ldl"], check=True
    )
    return program, library


@pytest.fixture
def connection_file() -> Iterator[Path]:
    """Where a ROUTER answers every message with itself."""
    folder = Path(tempfile.mkdtemp(prefix="e"))
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.bind(f"ipc://{folder}/daemon.sock")
    is_over = threading.Event()

    def echo() -> None:
        while not is_over.is_set():
            if router.poll(20):
                router.send_multipart(router.recv_multipart())

    server = threading.Thread(target=echo)
    server.start()
    path = folder / "connection.json"
    write_connection(
        path, Connection(endpoint=f"ipc://{folder}/daemon.sock", pid=os.getpid(), version="0", protocol=1)
    )
    yield path
    is_over.set()
    server.join()
    router.close()
    context.term()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("mode", "modules"),
    [("O", ["fresh", "kept", "kept"]), ("S", ["fresh"] * RUNS), ("F", ["fresh"] * RUNS)],
    ids=["one interpreter", "an interpreter per run", "Python started per run"],
)
def test_three_runs_of_a_script_speak_to_the_daemon(
    host: tuple[Path, Path], connection_file: Path, tmp_path: Path, mode: str, modules: list[str]
) -> None:
    program, library = host
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(scripts=str(SCRIPTS), connection_file=str(connection_file)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        [program, library, script, mode, str(RUNS)],
        # An embedded Python guesses its home from the PATH, which may hold another one.
        env={
            **environment,
            "PYTHONHOME": f"{sys.base_prefix}{os.pathsep}{sys.base_exec_prefix}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == modules, "one module per interpreter, or the mode is not what it says"
