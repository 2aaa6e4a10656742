"""Which files of one watched folder were found, and what became of them: sqlite that survives any kill."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import msgspec

from stembridge.errors import Busy, RequestError, StembridgeError
from stembridge.file_lock import FileLock, is_locked
from stembridge.manifest import sanitise_name
from stembridge.settings import Settings
from stembridge.watch.dropped import Signature
from stembridge.watch.life import FileRow, FileState

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE files (name BLOB PRIMARY KEY, signature TEXT NOT NULL, row BLOB NOT NULL);
CREATE TABLE delivered (sha256 BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE root (one INTEGER PRIMARY KEY, device TEXT NOT NULL);
"""
_MAX_LABEL_BYTES = 60
_NO_ROOM = "see that its disk has room, and that this user may write there"
_NOWHERE = Signature(0, 0, 0, 0, 0)


def ledger_path(settings: Settings, root: Path) -> Path:
    """Return where the ledger of a watched folder lies."""
    real = os.path.realpath(root)
    number = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    label = sanitise_name(Path(real).name, _MAX_LABEL_BYTES)
    return settings.state_dir / "watch" / f"{label}-{number}.sqlite"


def lock_folder(settings: Settings, root: Path) -> FileLock:
    """Return the lock of a watched folder, held: one process watches it, and none watches one inside it.

    Raises
    ------
    Busy
        Another process watches this folder.
    RequestError
        Another process watches a folder inside this one, or one that this one lies in.
    """
    lock = FileLock(ledger_path(settings, root).with_suffix(".lock"))
    if not lock.acquire(1.0):
        raise Busy(f"{str(root)!r} is watched already", "stembridge-status.json in it names the process")
    # Before the others are looked at: of two that begin at once, one at least sees the other.
    real = os.path.realpath(root)
    lock.write(json.dumps(real))
    try:
        for other in list_watched(settings):
            if str(other) != real:
                check_apart((root, other))
    except RequestError:
        lock.release()
        raise
    return lock


def list_watched(settings: Settings) -> list[Path]:
    """Return the folders that processes of this home watch now, by their real paths."""
    found = []
    for path in sorted((settings.state_dir / "watch").glob("*.lock")):
        if is_locked(path):
            # Just taken, and not written yet; or a system where what is locked cannot be read.
            with suppress(OSError, ValueError):
                found.append(Path(json.loads(path.read_text("ascii"))))
    return found


def check_apart(folders: Iterable[Path]) -> None:
    """Refuse folders of which one is, or lies in, another: each file would have two results.

    Raises
    ------
    RequestError
        Naming both.
    """
    for inner, outer in permutations(folders, 2):
        real_inner, real_outer = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
        if real_inner == real_outer or real_outer in real_inner.parents:
            raise RequestError(
                f"{str(inner)!r} lies in {str(outer)!r}, which is watched with all that is in it",
                "watch the outer one alone, or two that lie side by side",
            )


class Ledger:
    """The rows of one watched folder, by name. Nothing is durable before `commit` has returned ''.

    Where the disk is full the rows go on in memory, and the next commit tries again.

    Parameters
    ----------
    path : the database file; made where it is missing

    Attributes
    ----------
    root_device : number of the file system on which the folder lay when it was seen last; 0 before

    Raises
    ------
    StembridgeError
        The file is no ledger, or one of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root_device = 0
        self._has_new_device = False
        self._rows: dict[str, FileRow] = {}
        self._names: dict[FileState, dict[str, None]] = {state: {} for state in FileState}
        self._names_of_content: dict[str, dict[str, None]] = {}
        """Of files that are done."""
        self._unsaved: dict[str, FileRow | None] = {}
        self._undelivered: set[bytes] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level="DEFERRED")
        except (OSError, sqlite3.Error) as error:
            raise StembridgeError(f"ledger {path} cannot be opened: {error}", _NO_ROOM) from None
        try:
            self._open()
        except sqlite3.OperationalError as error:
            self._db.close()
            raise StembridgeError(f"ledger {path} cannot be used: {error}", _NO_ROOM) from None
        except (sqlite3.DatabaseError, msgspec.MsgspecError, TypeError, ValueError) as error:
            self._db.close()
            raise StembridgeError(
                f"ledger {path} cannot be used: {error}",
                "move that file away; every file of the folder is then looked at anew",
            ) from None
        except BaseException:
            self._db.close()
            raise

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str) -> FileRow | None:
        return self._rows.get(name)

    def newest(self) -> Iterator[FileRow]:
        """Yield all rows, the last that was saved first."""
        return reversed(self._rows.values())

    def count(self, *states: FileState) -> int:
        return sum(len(self._names[state]) for state in states)

    def names(self, *states: FileState) -> list[str]:
        """Return the names of the files in these states, in the order in which they came into them."""
        return [name for state in states for name in self._names[state]]

    def done_alike(self, sha256: str) -> Iterator[FileRow]:
        """Yield the rows of files with these bytes that are done, the last that was saved first."""
        for name in reversed(self._names_of_content.get(sha256, {})):
            yield self._rows[name]

    def is_delivered(self, sha256: str) -> bool:
        """Tell whether a file with these bytes was delivered here."""
        digest = bytes.fromhex(sha256)
        try:
            found = self._db.execute("SELECT 1 FROM delivered WHERE sha256 = ?", (digest,)).fetchone()
        except sqlite3.Error:
            found = None
        return digest in self._undelivered or found is not None

    def close(self) -> None:
        """Write the last changes, if there is room, and let go of the file."""
        self.commit()
        self._db.close()

    def save(self, row: FileRow) -> None:
        self._drop(row.name, keeps_place=row.state)
        self._keep(row)
        self._unsaved[row.name] = row

    def forget(self, name: str) -> None:
        self._drop(name)
        self._unsaved[name] = None

    def note_delivered(self, digests: Iterable[str]) -> None:
        """Keep the sha256 of files that are results, so that they are known wherever they are dropped."""
        self._undelivered |= set(map(bytes.fromhex, digests))

    def note_device(self, device: int) -> None:
        """Keep the number of the file system on which the folder lies."""
        if device != self.root_device:
            self.root_device = device
            self._has_new_device = True

    def commit(self) -> str:
        """Make all changes durable; return '', or why that was not possible this time."""
        if not self._unsaved and not self._undelivered and not self._has_new_device:
            return ""
        kept = [
            (_key(name), _spell(row.signature), _encode(row))
            for name, row in self._unsaved.items()
            if row is not None
        ]
        gone = [(_key(name),) for name, row in self._unsaved.items() if row is None]
        try:
            self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", kept)
            self._db.executemany("DELETE FROM files WHERE name = ?", gone)
            delivered = [(digest,) for digest in self._undelivered]
            self._db.executemany("INSERT OR IGNORE INTO delivered VALUES (?)", delivered)
            self._db.execute("INSERT OR REPLACE INTO root VALUES (0, ?)", (str(self.root_device),))
            self._db.commit()
        except sqlite3.Error as error:
            self._db.rollback()
            return f"the ledger {self.path} cannot be written: {error}"
        self._unsaved.clear()
        self._undelivered.clear()
        self._has_new_device = False
        return ""

    def _keep(self, row: FileRow) -> None:
        self._rows[row.name] = row
        self._names[row.state][row.name] = None
        if row.sha256 and row.state.is_done:
            self._names_of_content.setdefault(row.sha256, {})[row.name] = None

    def _drop(self, name: str, keeps_place: FileState | None = None) -> None:
        row = self._rows.pop(name, None)
        if row is None:
            return
        if row.state is not keeps_place:
            del self._names[row.state][name]
        alike = self._names_of_content.get(row.sha256, {})
        alike.pop(name, None)
        if not alike:
            self._names_of_content.pop(row.sha256, None)

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version > SCHEMA_VERSION:
            raise StembridgeError(
                f"ledger {self.path} has schema {version}, this one knows {SCHEMA_VERSION}",
                "pip install -U stembridge",
            )
        for (device,) in self._db.execute("SELECT device FROM root"):
            self.root_device = int(device)
        found = [
            replace(_decoder.decode(blob), name=os.fsdecode(key), signature=_read_signature(text))
            for key, text, blob in self._db.execute("SELECT name, signature, row FROM files")
        ]
        for row in sorted(found, key=lambda row: row.changed):
            self._keep(row)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(FileRow)


def _key(name: str) -> bytes:
    """Return a name as bytes: one that is no valid text can be kept only so."""
    return os.fsencode(name)


def _encode(row: FileRow) -> bytes:
    return _encoder.encode(replace(row, name="", signature=_NOWHERE))


def _spell(signature: Signature) -> str:
    """Return a signature as text: inodes have 128 bits on some systems, and years beyond 2554 are set."""
    return " ".join(map(str, signature))


def _read_signature(text: str) -> Signature:
    return Signature(*map(int, text.split()))
