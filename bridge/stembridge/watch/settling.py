"""When a file that was dropped is whole. The clock is an argument, and so is whatever looks at files."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from stembridge.watch.dropped import Dropped
from stembridge.watch.wholeness import Wholeness

BATCH = 256
"""Files that one call of `Settling.settle` looks into, so that nobody waits long for its end."""

SHARE_QUIET_S = 5.0
QUIET_S = 2.0
CLOSED_QUIET_S = 0.3


@dataclass(frozen=True, slots=True)
class SettleRules:
    """How long a file must be left alone.

    Parameters
    ----------
    quiet_s : without a change
    closed_quiet_s : the same once it was closed or moved in, where its header says how long it is
    give_up_s : quiet for so long, a file is taken although its header does not fit it; it will fail by name
    unsplittable_s : likewise beyond ``quiet_s``, where nothing that may still come could mend it
    recheck_s : between two looks at a file that is being written
    """

    quiet_s: float = QUIET_S
    closed_quiet_s: float = CLOSED_QUIET_S
    give_up_s: float = 60.0
    unsplittable_s: float = 5.0
    recheck_s: float = 0.5


def choose_rules(*, is_network: bool, quiet_s: float | None = None) -> SettleRules:
    """Return the rules for a folder; on network shares closing is not seen, and sizes and times come late.

    Parameters
    ----------
    quiet_s : what somebody has asked for, of closed files too; None leaves it to the kind of folder
    """
    if quiet_s is not None:
        return SettleRules(quiet_s, quiet_s)
    return SettleRules(SHARE_QUIET_S, SHARE_QUIET_S) if is_network else SettleRules()


@dataclass(frozen=True, slots=True)
class Settled:
    """A file to be taken now.

    Parameters
    ----------
    dropped : as it was looked at last; whoever reads it holds it against this signature again
    fault : why it cannot be whole, where it was given up waiting for the rest; '' else
    hint : what to do about that
    """

    dropped: Dropped
    fault: str
    hint: str = ""


@dataclass(slots=True)
class _Candidate:
    dropped: Dropped
    changed_at: float
    due_at: float
    reason: str = ""


class Settling:
    """Files of one watched folder that are seen and not yet taken.

    Parameters
    ----------
    look : what lies at a path now, None where nothing that could be taken; asked before and after all else
    is_written : whether somebody has the file open for writing; None where nobody can tell
    examine : whether a file holds what its header promises
    """

    def __init__(
        self,
        rules: SettleRules,
        look: Callable[[Path], Dropped | None],
        is_written: Callable[[Path], bool | None],
        examine: Callable[[Path], Wholeness],
    ) -> None:
        self._rules = rules
        self._look = look
        self._is_written = is_written
        self._examine = examine
        self._candidates: dict[Path, _Candidate] = {}

    def see(self, found: Dropped, now: float) -> None:
        """Take in a file as it was just found; a file that has changed begins to be quiet now."""
        known = self._candidates.get(found.path)
        if known is None or known.dropped.signature != found.signature:
            self._candidates[found.path] = _Candidate(found, now, now + self._rules.quiet_s)

    def hint(self, path: Path, is_closed: bool, now: float) -> None:
        """Take in that a file was changed, or closed after writing; one that was not seen stays unknown."""
        known = self._candidates.get(path)
        if known is None:
            return
        known.changed_at = now
        known.reason = ""
        known.due_at = now + (self._rules.closed_quiet_s if is_closed else self._rules.quiet_s)

    def forget_missing(self, present: Collection[Path]) -> None:
        """Forget the files that a scan of all has not found."""
        for path in self._candidates.keys() - set(present):
            del self._candidates[path]

    def forget(self, path: Path) -> None:
        """Forget one file, if it is known."""
        self._candidates.pop(path, None)

    def next_due(self, now: float) -> float | None:
        """Return when `settle` may have something to give, ``now`` at the earliest; None if never."""
        due = min((candidate.due_at for candidate in self._candidates.values()), default=None)
        return None if due is None else max(now, due)

    def settle(self, now: float, most: int = BATCH) -> list[Settled]:
        """Return files that are whole and leave them behind; at most ``most`` are looked into."""
        due = [path for path, candidate in self._candidates.items() if candidate.due_at <= now][:most]
        settled = []
        for path in due:
            taken = self._try_one(path, self._candidates[path], now)
            if taken is not None:
                del self._candidates[path]
                settled.append(taken)
        return settled

    def unsettled(self, now: float) -> dict[str, str]:
        """Return why each file is not taken yet, by its name."""
        quiet_s = self._rules.quiet_s
        return {
            one.dropped.name: one.reason
            or f"quiet for {min(quiet_s, now - one.changed_at):.1f} of {quiet_s:g} s"
            for one in self._candidates.values()
        }

    def _try_one(self, path: Path, candidate: _Candidate, now: float) -> Settled | None:
        if not self._is_unchanged(path, candidate, now):
            return None
        if self._is_written(path):
            candidate.reason = "being written"
            candidate.due_at = now + self._rules.recheck_s
            return None
        quiet_s = now - candidate.changed_at
        found = self._examine(path)
        patience_s = self._rules.give_up_s
        if found.is_final:
            patience_s = min(patience_s, self._rules.quiet_s + self._rules.unsplittable_s)
        if found.fault and quiet_s < patience_s:
            candidate.reason = found.fault
            candidate.due_at = min(
                now + max(self._rules.recheck_s, quiet_s / 2), candidate.changed_at + patience_s
            )
            return None
        if not found.is_length_stated and quiet_s < self._rules.quiet_s:
            candidate.due_at = candidate.changed_at + self._rules.quiet_s
            return None
        if not self._is_unchanged(path, candidate, now):
            return None
        return Settled(candidate.dropped, found.fault, found.hint)

    def _is_unchanged(self, path: Path, candidate: _Candidate, now: float) -> bool:
        found = self._look(path)
        if found is None:
            del self._candidates[path]
            return False
        self.see(found, now)
        return self._candidates[path] is candidate
