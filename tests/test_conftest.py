"""The fixtures that fail a test for what it leaves behind, on tests that leave something behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LEAKS = """
import socket, tempfile, threading, zmq

kept = []

def test_clean():
    with zmq.Context() as context, context.socket(zmq.DEALER) as one:
        one.connect("tcp://127.0.0.1:9")
    with socket.socket():
        pass
    with tempfile.TemporaryDirectory():
        pass

def test_thread(request):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, args=(8,), daemon=True)
    thread.start()

def test_socket():
    kept.append(socket.socket())

def test_zmq():
    context = zmq.Context()
    kept.extend([context, context.socket(zmq.DEALER)])

def test_file():
    tempfile.mkdtemp(prefix="stembridge-")
"""


def test_each_leak_fails_its_test_and_only_that(tmp_path: Path) -> None:
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-rE"),
            *("--basetemp", str(tmp_path / "base"), "test_leaks.py"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    report = done.stdout
    assert "5 passed, 4 errors" in report, report
    for test, words in (
        ("thread", "threads left running"),
        ("socket", "sockets left open"),
        ("zmq", "sockets left open"),
        ("file", "temporary files left: ['stembridge-"),
    ):
        (line,) = [line for line in report.splitlines() if f"ERROR test_leaks.py::test_{test}" in line]
        assert words in line
