"""One watched folder: what is found in it, what is wished for it, and what its ledger says became of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from stembridge import catalog, manifest, model_store
from stembridge.errors import Busy, ModelError, RequestError, SourceError, StembridgeError
from stembridge.settings import Settings
from stembridge.stem_file import hash_file
from stembridge.types import ErrorInfo, Job, JobState, SplitRequest
from stembridge.watch.dropped import Dropped, Signature, sign
from stembridge.watch.failures import FAILED, remove_note, write_note
from stembridge.watch.hints import Hint
from stembridge.watch.ledger import Ledger, ledger_path, lock_folder
from stembridge.watch.life import (
    Begun,
    Event,
    FileRow,
    FileState,
    Found,
    Heard,
    Lost,
    Matched,
    ModelMissed,
    Noted,
    Order,
    Postponed,
    Readied,
    Refused,
    Rejected,
    Retried,
    advance,
    is_as_old,
    is_dropped_again,
    is_handled,
)
from stembridge.watch.parts import Parts
from stembridge.watch.quiet_places import QuietPlaces
from stembridge.watch.scan import ScanNotes, is_own, look, scan
from stembridge.watch.settling import Settled, SettleRules, Settling, choose_rules
from stembridge.watch.shares import is_network_share
from stembridge.watch.status import STATUS_FILE, find_other_watcher
from stembridge.watch.wish_file import FOLDER_FILE
from stembridge.watch.wishes import (
    FolderSettings,
    Wish,
    WishReader,
    list_places,
    read_folder_settings,
)

LOCAL_SCAN_S = 10.0
SHARE_SCAN_S = 5.0
REST_PER_SCAN = 100.0
"""So many times as long as a scan took nothing is scanned, whatever is set: the disk has other work too."""
HASH_S = 0.5
"""How long files are read before the loop looks at anything else."""
EXAMINED_AT_ONCE = 200
LOOKED_AT_AGAIN = 50
"""Files of whose wishes each scan asks whether they have changed."""
RETRY_S = 5.0
WISHES_S = 0.05
"""For so long at most, less than anybody may ask for as quiet, wishes that were read are taken for new."""
NOTES_IN_VAIN = 20
"""So many notes that cannot be written are tried at a time: the disk may be full, or their names too long."""


class WatchedFolder:
    """One watched folder, held by a lock; nothing in it is decided here, see `stembridge.watch.life`.

    Parameters
    ----------
    root : absolute
    tell : called with each file's row that is news to a person

    Raises
    ------
    Busy
        Another process or another machine watches it.
    RequestError
        Another process watches a folder inside this one, or one that this one lies in; or its name is not
        all UTF-8.
    """

    def __init__(
        self,
        root: Path,
        settings: Settings,
        parts: Parts,
        tell: Callable[[WatchedFolder, FileRow], None],
    ) -> None:
        self.root = root
        self.problems: tuple[str, ...] = ()
        self.away = ""
        self.wanted = FolderSettings()
        self.scan_due = 0.0
        self.to_submit: dict[str, bool] = {}
        """Files whose job the daemon is to be asked for; whether that is for the first time."""
        self._settings = settings
        self._parts = parts
        self._tell = tell
        check_name(str(root))
        self._lock = lock_folder(settings, root)
        try:
            other = find_other_watcher(root)
            if other:
                raise Busy(other, "end that one first, or wait a minute if it has ended already")
            self.ledger = Ledger(ledger_path(settings, root))
        except BaseException:
            self._lock.release()
            raise
        self._rules: SettleRules | None = None
        self._read_settings()
        self._quiet_places = QuietPlaces(parts.is_written, parts.wall_clock)
        self._held: dict[str, float] = {}
        """Files whose wishes somebody is just saving, and when to look at these again."""
        self._wishes = WishReader(root, settings)
        self._wishes_due = 0.0
        self._taken: dict[str, Settled] = {}
        self._own: dict[str, Signature] = {}
        self._missing_models: dict[str, ErrorInfo | None] = {}
        self._unexamined = dict.fromkeys(self.ledger.names(FileState.WAITING, FileState.WAITING_FOR_MODEL))
        self._unnoted = {
            name: None for name in self.ledger.names(FileState.FAILED) if not self._row(name).is_noted
        }
        self._notes_due = 0.0
        self._commit_due = 0.0
        self._commit_problem = ""
        self._looked_again = 0
        self.to_submit |= dict.fromkeys(self.ledger.names(FileState.SPLITTING, FileState.REMIXING), False)

    def close(self) -> None:
        self.ledger.close()
        self._lock.release()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do for what was found; files that wait for a model may be left."""
        return not (
            self.scan_due == 0.0
            or self._taken
            or self._unexamined
            or self._held
            or self.settling.next_due(0.0) is not None
            or self.ledger.count(FileState.WAITING, FileState.SPLITTING, FileState.REMIXING)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it beside how its files stand."""
        held = f"settings are just being saved; so many files wait for that: {len(self._held)}"
        return (*self.problems, *((held,) if self._held else ()))

    def next_due(self, now: float) -> float:
        """Return when there is something to do without any event, ``now`` at the earliest."""
        if self.away:
            return max(now, self.scan_due)
        if self._taken or self._unexamined:
            return now
        # What cannot be committed is not noted either.
        noted = self._notes_due if self._unnoted and not self._commit_problem else None
        committed = self._commit_due if self._commit_problem else None
        held = min(self._held.values(), default=None)
        dues = self.scan_due, self.settling.next_due(now), noted, committed, held
        return max(now, min(due for due in dues if due is not None))

    def scan(self, now: float) -> None:
        """Find everything that lies there; what is news begins to settle."""
        began = self._parts.clock()
        scan_s = SHARE_SCAN_S if self._is_share else LOCAL_SCAN_S
        self.scan_due = now + (self.wanted.scan_s or scan_s)
        self.away = self._find_away()
        if self.away:
            self.settling.forget_missing(())
            return
        wait_s = self._find_wait([self.root / FOLDER_FILE], now)
        if wait_s:
            self.scan_due = min(self.scan_due, now + wait_s)
        else:
            self._read_settings()
        notes = ScanNotes()
        try:
            found = scan(self.root, self.wanted.results, notes)
            self.ledger.note_device(self.root.stat().st_dev)
        except OSError as error:
            self.away = f"{str(self.root)!r} cannot be listed: {error.strerror or error}"
            return
        self.problems = (*self._faults, *notes.problems)
        for file in found:
            if self._is_news(file):
                self.settling.see(file, now)
        self.settling.forget_missing([file.path for file in found])
        self._forget_missing({file.name for file in found})
        self._look_again(now)
        self.scan_due = max(self.scan_due, now + REST_PER_SCAN * (self._parts.clock() - began))

    def hear(self, hint: Hint, now: float) -> None:
        """Take in that something happened to a file."""
        file = look(self.root, self.wanted.results, hint.path)
        if file is None:
            self.settling.forget(hint.path)
        elif self._is_news(file):
            self.settling.see(file, now)
            self.settling.hint(hint.path, hint.is_closed, now)

    def collect(self, now: float) -> None:
        """Read files that have settled, for `HASH_S` at most, and take them into the ledger."""
        until = self._parts.clock() + HASH_S
        for settled in self.settling.settle(now):
            self._taken[settled.dropped.name] = settled
        for name in list(self._taken):
            self._take(self._taken.pop(name), now)
            if self._parts.clock() >= until:
                break

    def examine(self, now: float) -> None:
        """Look at what is wished for files that were not looked at so far: mistakes show early.

        While files wait to be read, those come first.
        """
        for name in [name for name, due in self._held.items() if due <= now]:
            del self._held[name]
            self._unexamined[name] = None
        settling = self.settling.next_due(now)
        if self._taken or (settling is not None and settling <= now):
            return
        self._renew_wishes()
        for name in list(self._unexamined)[:EXAMINED_AT_ONCE]:
            del self._unexamined[name]
            row = self.ledger.get(name)
            if row is not None and row.state is FileState.FAILED and self._has_other_wish(row, now):
                self.apply(name, Retried())
                row = self._row(name)
            if row is not None and row.state.is_waiting:
                self._examine(row, now)

    def begin_next(self, now: float) -> bool:
        """Let the first file that waits have its turn, and tell whether there was one."""
        at_work = map(self._row, self.ledger.names(FileState.SPLITTING, FileState.REMIXING))
        running = {(row.sha256, row.digest) for row in at_work}
        self._renew_wishes()
        for name in self.ledger.names(FileState.WAITING):
            if name in self._held:
                continue
            row = self._row(name)
            if self.away:
                return False
            # Asked before anything is read, since it may be so for thousands of copies.
            if (row.sha256, row.digest) in running or not self.check_file(row, now):
                continue
            wish = self._examine(row, now)
            if wish is None or (row.sha256, wish.digest) in running:
                continue
            job_id = make_job_id(row, wish.digest)
            self.apply(name, Begun(wish.digest, job_id, wish.split, wish.remixes))
            return True
        return False

    def check_file(self, row: FileRow, now: float) -> bool:
        """Tell whether a file is still the one that was hashed; one that is not is forgotten, or settles.

        Where the whole folder has gone, its files wait.
        """
        file = self.find_file(row.name)
        if file is not None and is_handled(row, file.signature):
            return True
        self.away = self._find_away() if file is None else ""
        if self.away:
            self.apply(row.name, Postponed())
            return False
        self.apply(row.name, Lost())
        if file is not None:
            self.settling.see(file, now)
        return False

    def find_file(self, name: str) -> Dropped | None:
        return look(self.root, self.wanted.results, self.root.joinpath(*name.split("/")))

    def take_news(self, name: str, job: Job, now: float) -> None:
        """Take in what the daemon says of a file's job."""
        row = self._row(name)
        failed = job.state.is_final and job.state is not JobState.DONE
        if failed and row.state is FileState.SPLITTING and not self.check_file(row, now):
            return
        self.apply(name, Heard(job))
        if job.state is JobState.DONE and job.result is not None:
            self.ledger.note_delivered(list_delivered(Path(job.result.folder)))
        if job.state.is_final:
            self.hear(Hint(self.root.joinpath(*name.split("/")), is_closed=False), now)

    def refuse(self, row: FileRow, error: StembridgeError) -> None:
        """Take in why the daemon does not take a file's job."""
        info = ErrorInfo(error.code, error.message, error.hint)
        if isinstance(error, ModelError) and row.split is not None:
            self._missing_models.clear()
            if self._find_missing(row.split) is not None:
                self.apply(row.name, ModelMissed(info, row.digest, row.split))
                return
        self.apply(row.name, Rejected(info))

    def apply(self, name: str, event: Event) -> None:
        """Let a file live on through ``event``."""
        transition = advance(self.ledger.get(name), event, self._parts.wall_clock())
        row = transition.row
        for order in transition.orders:
            match order:
                case Order.FORGET:
                    self.ledger.forget(name)
                    self.to_submit.pop(name, None)
                    self._unnoted.pop(name, None)
                case Order.UNNOTE:
                    self._unnoted.pop(name, None)
                    remove_note(self.root, name)
                case Order.SAVE if row is not None:
                    self.ledger.save(row)
                case Order.SUBMIT:
                    self.to_submit[name] = isinstance(event, Begun)
                case Order.NOTE:
                    self._unnoted[name] = None
                    self._notes_due = 0.0
                case Order.TELL if row is not None:
                    self._tell(self, row)
                case Order.TELL_SAME if row is not None:
                    told = replace(row, state=FileState.SAME, same_as=row.same_as or row.name)
                    self._tell(self, told)

    def commit(self, now: float) -> str:
        """Make all that was decided durable, then write what failed; return why that could not be, or ''."""
        if self._commit_problem and now < self._commit_due:
            return self._commit_problem
        if not self._commit() and not self.away and self._unnoted and now >= self._notes_due:
            self._write_notes(now)
            self._commit()
        self._commit_due = now + RETRY_S
        return self._commit_problem

    def _commit(self) -> str:
        self._commit_problem = self.ledger.commit()
        return self._commit_problem

    def _write_notes(self, now: float) -> None:
        """Write down what failed; what cannot be written comes last the next time, and delays no other."""
        in_vain = 0
        for name in list(self._unnoted):
            row = self._row(name)
            assert row.error is not None
            lines = [f"The stems are there: {row.folder}"] if has_set(row.folder) else []
            del self._unnoted[name]
            if write_note(self.root, name, row.error, job=row.job, lines=lines, at=row.changed):
                self.apply(name, Noted())
                continue
            self._unnoted[name] = None
            self._notes_due = now + RETRY_S
            in_vain += 1
            if in_vain == NOTES_IN_VAIN:
                break

    def _row(self, name: str) -> FileRow:
        row = self.ledger.get(name)
        assert row is not None
        return row

    def _read_settings(self) -> None:
        """Read how the folder is to be watched; while that cannot be understood the last way goes on."""
        self._faults: tuple[str, ...] = ()
        try:
            self.wanted = read_folder_settings(self.root)
        except StembridgeError as error:
            self._faults = (str(error),)
        is_network = self.wanted.is_network
        self._is_share = is_network_share(self.root) if is_network is None else is_network
        rules = choose_rules(is_network=self._is_share, quiet_s=self.wanted.quiet_s)
        if rules != self._rules:
            self._rules = rules
            self.settling = Settling(rules, self._look, self._parts.is_written, self._parts.examine)

    def _look(self, path: Path) -> Dropped | None:
        return look(self.root, self.wanted.results, path)

    def _find_away(self) -> str:
        """Return why nothing is done here: the folder is gone, or an empty place where it was mounted."""
        try:
            device = self.root.stat().st_dev
            is_elsewhere = self.ledger.root_device not in (0, device) and len(self.ledger) > 0
            # What ended after the drive had gone may have made these anew.
            ours = {self.wanted.results.split("/")[0], FAILED, STATUS_FILE}
            if is_elsewhere and {path.name for path in self.root.iterdir()} <= ours:
                return f"{str(self.root)!r} is empty: its drive is not mounted"
        except OSError as error:
            return f"{str(self.root)!r} is gone: {error.strerror or error}"
        return ""

    def _is_news(self, file: Dropped) -> bool:
        if file.name in self._taken or self._own.get(file.name) == file.signature:
            return False
        row = self.ledger.get(file.name)
        return row is None or not (row.state.is_at_daemon or is_handled(row, file.signature))

    def _forget_missing(self, present: set[str]) -> None:
        states = FileState.WAITING, FileState.WAITING_FOR_MODEL, FileState.FAILED
        for name in self.ledger.names(*states):
            if name not in present and self.find_file(name) is None:
                self.apply(name, Lost())
        self._own = {name: signature for name, signature in self._own.items() if name in present}

    def _look_again(self, now: float) -> None:
        """See whether a model has come, or other settings help: for some files, and if so for all."""
        self._renew_wishes()
        self._missing_models.clear()
        for name in self.ledger.names(FileState.WAITING_FOR_MODEL):
            split = self._row(name).split
            if split is None or self._find_missing(split) is None:
                self._unexamined[name] = None
        names = self.ledger.names(FileState.FAILED, FileState.WAITING_FOR_MODEL)
        start, self._looked_again = self._looked_again, self._looked_again + LOOKED_AT_AGAIN
        some = [names[(start + place) % len(names)] for place in range(min(LOOKED_AT_AGAIN, len(names)))]
        if any(self._has_other_wish(self._row(name), now) for name in some):
            self._unexamined |= dict.fromkeys(names)

    def _has_other_wish(self, row: FileRow, now: float) -> bool:
        """Tell whether something else is wished for a file than when that was read last, if it was."""
        if not row.digest or self._read_wish(row.name).digest == row.digest:
            return False
        return not self._is_held(row.name, now)

    def _take(self, settled: Settled, now: float) -> None:
        file = settled.dropped
        try:
            check_name(file.name)
            if settled.fault:
                self._refuse_unread(file, ErrorInfo("bad_source", settled.fault, settled.hint))
                return
            if is_own(file.path):
                self._own[file.name] = file.signature
                return
            sha256 = hash_drop(file)
        except RequestError as error:
            self._refuse_unread(file, ErrorInfo(SourceError.code, error.message, error.hint))
            return
        except OSError as error:
            message = f"{file.name!r} cannot be read: {error.strerror or error}"
            self._refuse_unread(file, ErrorInfo("bad_source", message, "let this user read it"))
            return
        again = self._look(file.path)
        if not sha256 or again is None or again.signature != file.signature:
            if again is not None:
                self.settling.see(again, now)
            return
        row = self.ledger.get(file.name)
        if (row is None or row.sha256 != sha256) and self.ledger.is_delivered(sha256):
            self._own[file.name] = file.signature
            return
        has_result = row is not None and has_set(row.folder)
        is_done = row is not None and row.state.is_done and row.sha256 == sha256
        has_other_wish = False
        if row is not None and is_done and is_dropped_again(row, file.signature):
            has_other_wish = self._read_wish(file.name).digest != row.digest
            if self._find_wait(list_places(self.root, file.name), now):
                # Somebody is just saving what is wished for it.
                self.settling.see(file, now)
                return
        found = Found(file.name, file.signature, sha256, has_result=has_result, has_other_wish=has_other_wish)
        self.apply(file.name, found)
        self._unexamined[file.name] = None

    def _refuse_unread(self, file: Dropped, error: ErrorInfo) -> None:
        row = self.ledger.get(file.name)
        if row is not None and row.state.is_done and is_as_old(row, file.signature):
            # Its rights or its disk have changed, and it is done already: the next scan asks again.
            return
        self.apply(file.name, Found(file.name, file.signature, ""))
        self.apply(file.name, Refused(error))

    def _renew_wishes(self) -> None:
        self._wishes = WishReader(self.root, self._settings)
        self._wishes_due = self._parts.clock() + WISHES_S

    def _find_wait(self, places: Iterable[Path], now: float) -> float:
        assert self._rules is not None
        return self._quiet_places.find_wait(places, self._rules, now, has_other_clock=self._is_share)

    def _is_held(self, name: str, now: float) -> bool:
        """Tell whether somebody is saving what is wished for a file; then it is looked at again later.

        Asked after that was read: what is quiet now was so, and the same, when it was read.
        """
        wait_s = self._find_wait(list_places(self.root, name), now)
        if wait_s:
            self._held[name] = now + wait_s
        return wait_s > 0

    def _read_wish(self, name: str) -> Wish | _Mistake:
        if self._parts.clock() >= self._wishes_due:
            self._renew_wishes()
        try:
            return self._wishes.read(name)
        except RequestError as error:
            return _Mistake(ErrorInfo(error.code, error.message, error.hint))

    def _examine(self, row: FileRow, now: float) -> Wish | None:
        """Return what is wished for a file that waits, None where its job cannot be made."""
        wish = self._read_wish(row.name)
        if self._is_held(row.name, now):
            return None
        if isinstance(wish, _Mistake):
            self.apply(row.name, Refused(wish.error, wish.digest))
            return None
        twin = self._find_twin(row, wish.digest)
        if twin is not None:
            self.apply(row.name, Matched(twin))
            return None
        missing = self._find_missing(wish.split)
        if missing is not None:
            if wish.asks_for_model:
                missing = replace(missing, message=f"{missing.message}: {wish.asks_for_model} asks for it")
            self.apply(row.name, ModelMissed(missing, wish.digest, wish.split))
            return None
        self.apply(row.name, Readied(wish.digest))
        return wish

    def _find_twin(self, row: FileRow, digest: str) -> FileRow | None:
        """Return a file that is done, has these bytes and wishes, and whose result still lies there."""
        gone = set()
        for other in self.ledger.done_alike(row.sha256):
            if other.name != row.name and other.digest == digest and other.folder not in gone:
                if has_set(other.folder):
                    return other
                gone.add(other.folder)
        return None

    def _find_missing(self, split: SplitRequest) -> ErrorInfo | None:
        """Return what is to be done before the model can be used; None where it is on this machine."""
        if split.model not in self._missing_models:
            self._missing_models[split.model] = self._look_for_model(split)
        return self._missing_models[split.model]

    def _look_for_model(self, split: SplitRequest) -> ErrorInfo | None:
        try:
            model = catalog.find_model(split.model)
            folders = model_store.search_folders(model, self._settings.model_dirs, split.model_dir)
            if model_store.locate(model, folders) is not None:
                return None
        except ModelError as error:
            return ErrorInfo(error.code, error.message, error.hint)
        message = f"model {split.model} is not on this machine"
        return ErrorInfo("bad_model", message, f"stembridge models fetch {split.model}")


class _Mistake:
    """Wishes that cannot be fulfilled, told apart by their digest from others."""

    def __init__(self, error: ErrorInfo) -> None:
        self.error = error
        self.digest = "mistake-" + _sha256(error.message)


def make_job_id(row: FileRow, digest: str) -> str:
    """Return the id of a file's split: the same whenever it is asked for, as long as file and wishes are."""
    told = (row.name, *row.signature[1:], row.sha256, digest, row.attempt)
    return "w-" + _sha256("\n".join(map(str, told)))[:24]


def check_name(name: str) -> None:
    """Refuse a name that cannot be told to a daemon, nor be written down.

    Raises
    ------
    RequestError
        Naming it.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{name!a} is no valid name: not all of it is UTF-8", "rename it") from None


def list_delivered(folder: Path) -> Iterator[str]:
    """Yield the sha256 of each file of a finished set; that of MP3s to listen to is found here."""
    try:
        found = manifest.read_manifest(folder)
        stems = found.stems if found.mixture is None else (*found.stems, found.mixture)
        yield from (stem.sha256_file for stem in stems)
        for copy in found.listening:
            with (folder / copy.file).open("rb") as file:
                yield hash_file(file)
    except (SourceError, OSError):
        # Somebody has it in use, or has removed it: then what is dragged out of it is one more drop.
        return


def has_set(folder: str) -> bool:
    """Tell whether a finished set lies in ``folder``."""
    return bool(folder) and (Path(folder) / manifest.FILE_NAME).is_file()


def hash_drop(file: Dropped) -> str:
    """Return the sha256 of a file's bytes, '' where it is not, or not any more, the one that was looked at.

    Raises
    ------
    OSError : it cannot be read
    """
    try:
        with file.path.open("rb") as opened:
            if sign(os.fstat(opened.fileno())) != file.signature:
                return ""
            digest = hash_file(opened)
            return digest if sign(os.fstat(opened.fileno())) == file.signature else ""
    except FileNotFoundError:
        return ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
