"""Whether the files that say what is wished are left alone, or somebody is in the middle of saving one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stembridge.watch.dropped import Signature, sign
from stembridge.watch.settling import SettleRules


@dataclass(slots=True)
class _Seen:
    """A file as it was seen last; None where it was gone."""

    signature: Signature | None
    since: float
    is_quiet: bool = False


class QuietPlaces:
    """Tells of files of settings whether they may be believed: half of one is one too, and says other things.

    Parameters
    ----------
    is_written : whether somebody has the file open for writing; None where nobody can tell
    wall_clock : seconds since the epoch, as the system that keeps the files counts them
    """

    def __init__(self, is_written: Callable[[Path], bool | None], wall_clock: Callable[[], float]) -> None:
        self._is_written = is_written
        self._wall_clock = wall_clock
        self._seen: dict[Path, _Seen] = {}

    def find_wait(
        self, places: Iterable[Path], rules: SettleRules, now: float, *, has_other_clock: bool
    ) -> float:
        """Return for how many seconds at least the files are to be left alone; 0 where all may be believed.

        Parameters
        ----------
        places : whether or not there are such files
        now : monotonic seconds
        has_other_clock : another machine keeps the files, and says by its own clock when they have changed
        """
        return max(
            (self._find_wait(place, rules, now, has_other_clock=has_other_clock) for place in places),
            default=0.0,
        )

    def _find_wait(self, place: Path, rules: SettleRules, now: float, *, has_other_clock: bool) -> float:
        try:
            signature = sign(place.stat())
        except OSError:
            signature = None
        seen = self._seen.get(place)
        if seen is None and signature is None:
            return 0.0
        if seen is None or seen.signature != signature:
            seen = self._seen[place] = _Seen(signature, now)
        if seen.is_quiet:
            return 0.0
        left = rules.quiet_s - (now - seen.since)
        if signature is not None and not has_other_clock:
            age_s = self._wall_clock() - max(signature.mtime_ns, signature.ctime_ns) / 1e9
            # One from the future tells nothing.
            left = min(left, rules.quiet_s - age_s) if age_s >= 0 else left
        if left > 0:
            return left
        if signature is None:
            del self._seen[place]
        elif now - seen.since < rules.give_up_s and self._is_written(place):
            return rules.recheck_s
        seen.is_quiet = True
        return 0.0
