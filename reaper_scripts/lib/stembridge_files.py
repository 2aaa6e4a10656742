# @noindex
# Sends Stembridge's notes by files: a courier process carries them to the daemon and back.
"""`FileRoute`: for hosts whose Python cannot speak to the daemon's socket."""

import contextlib
import json
import os
import pathlib

from stembridge_api import reaper

VERSION = "0.1.0"

LOOK_EVERY_S = 0.05
GIVE_UP_S = 10.0
"""So long a courier may take before another one is started."""


def start_process(*words):
    """Start a program without waiting for it; REAPER passes the line to no shell."""
    reaper.ExecProcess(" ".join(words), -1)


def quote_word(word):
    return f'"{word}"'


class FileRoute:
    """One note at a time through ``<work_dir>/<session>/request.json`` and ``status.json``.

    Attributes
    ----------
    line : what the user should know of the way to the daemon; '' where all is well
    """

    def __init__(self, config):
        self.line = ""
        self._cli = config["cli"]
        self._folder = pathlib.Path(config["work_dir"], os.urandom(8).hex())
        self._number = 0
        self._note = None
        self._is_written = False
        self._is_started = False
        self._start_at = 0.0
        self._look_at = 0.0

    def send(self, note):
        """Take a note, as JSON; `poll` puts it where the courier finds it."""
        self._number += 1
        self._note = note
        self._is_written = False
        if self._is_started:
            self._start_at = reaper.time_precise() + GIVE_UP_S

    def poll(self):
        """Return the reply to the note, or None while there is none."""
        now = reaper.time_precise()
        if self._note is None or now < self._look_at:
            return None
        self._look_at = now + LOOK_EVERY_S
        if not self._is_written and not self._write():
            return None
        reply = self._read()
        if reply is not None:
            self._note = None
            self.line = ""
            return reply
        if now >= self._start_at:
            self._start_courier(now)
        return None

    def close(self):
        """Take the files away; a courier that still looks for them ends."""
        with contextlib.suppress(OSError):
            for name in ("request.json.tmp", "request.json", "status.json"):
                path = self._folder / name
                if path.exists():
                    path.unlink()
            self._folder.rmdir()

    def _write(self):
        target = self._folder / "request.json"
        draft = self._folder / "request.json.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(f'{{"n": {self._number}, "note": {self._note}}}'.encode())
            draft.replace(target)
        except OSError as error:
            self.line = f"{target} cannot be written ({error.strerror}): make room or give access"
            return False
        self._is_written = True
        return True

    def _read(self):
        try:
            said = json.loads((self._folder / "status.json").read_text(encoding="utf-8"))
            return said["reply"] if said["n"] == self._number else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _start_courier(self, now):
        if self._is_started:
            self.line = f"no answer from Stembridge for {GIVE_UP_S:.0f} s: trying again"
        self._is_started = True
        self._start_at = now + GIVE_UP_S
        request, status = self._folder / "request.json", self._folder / "status.json"
        start_process(
            quote_word(self._cli), "reaper", "run",
            "--request", quote_word(request), "--status", quote_word(status),
        )  # fmt: skip
