"""When a file is taken, in invented time: by the rule alone, and by every way of writing files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stembridge.watch.dropped import Dropped, Signature
from stembridge.watch.settling import Settled, SettleRules, Settling, choose_rules
from stembridge.watch.wholeness import Wholeness

ROOT = Path("/drop")
PATH = ROOT / "song.wav"
SIGNATURE = Signature(1, 1, 100, 0, 0)
WHOLE = Wholeness("", is_length_stated=True)
OPEN_ENDED = Wholeness("", is_length_stated=False)
NEVER = Wholeness("10 channels", is_length_stated=False, hint="split it", is_final=True)
SHORT = Wholeness("header promises more", is_length_stated=False)
LOCAL = choose_rules(is_network=False)


@dataclass
class FakeFile:
    """One file as the system and its header show it."""

    signature: Signature | None = SIGNATURE
    is_written: bool | None = False
    wholeness: Wholeness = WHOLE
    before_examined: Callable[[], None] = lambda: None

    def look(self, path: Path) -> Dropped | None:
        return None if self.signature is None else Dropped(path.name, path, self.signature)

    def change(self) -> None:
        assert self.signature is not None
        self.signature = self.signature._replace(ctime_ns=self.signature.ctime_ns + 1)

    def examine(self, path: Path) -> Wholeness:
        self.before_examined()
        return self.wholeness


def make(file: FakeFile, rules: SettleRules = LOCAL) -> Settling:
    return Settling(rules, file.look, lambda path: file.is_written, file.examine)


def see(settling: Settling, file: FakeFile, now: float) -> None:
    found = file.look(PATH)
    assert found is not None
    settling.see(found, now)


def taken_at(settling: Settling, now: float, until: float = 1000.0) -> tuple[float, str] | None:
    """Return when the file is taken if nothing else happens, and with which fault; None where it never is."""
    while True:
        due = settling.next_due(now)
        if due is None or due > until:
            return None
        assert due >= now
        taken = settling.settle(due)
        if taken:
            assert settling.next_due(due) is None
            return round(due, 6), taken[0].fault
        assert settling.next_due(due) != due, "it would be asked for ever"
        now = due


# The rule alone.


def test_a_quiet_file_is_taken_after_two_seconds_and_once() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 10.0)
    assert settling.settle(11.99) == []
    assert settling.settle(12.0) == [Settled(Dropped("song.wav", PATH, SIGNATURE), "")]
    assert settling.settle(100.0) == [] and settling.next_due(100.0) is None


@pytest.mark.parametrize("field_name", Signature._fields)
def test_a_change_of_any_mark_begins_again(field_name: str) -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    assert file.signature is not None
    file.signature = file.signature._replace(**{field_name: 77})
    see(settling, file, 1.9)
    assert taken_at(settling, 1.9) == (3.9, "")


def test_seeing_a_file_again_as_it_was_does_not_begin_again() -> None:
    file = FakeFile()
    settling = make(file)
    for now in (0.0, 0.7, 1.5):
        see(settling, file, now)
    assert taken_at(settling, 1.5) == (2.0, "")


def test_a_change_that_only_a_hint_tells_of_begins_again() -> None:
    """Samba shows the full size from the beginning on; the file's marks need not move while it is filled."""
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    settling.hint(PATH, is_closed=False, now=1.9)
    assert taken_at(settling, 1.9) == (3.9, "")


def test_closing_shortens_the_wait() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    settling.hint(PATH, is_closed=True, now=0.1)
    assert taken_at(settling, 0.1) == (0.4, "")


def test_closing_before_any_scan_has_seen_the_file_counts_once_it_is_seen() -> None:
    file = FakeFile()
    settling = make(file)
    settling.hint(PATH, is_closed=True, now=0.0)
    assert settling.next_due(0.0) is None
    see(settling, file, 0.1)
    assert taken_at(settling, 0.1) == (2.1, "")


def test_a_change_after_closing_takes_the_short_wait_away() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    settling.hint(PATH, is_closed=True, now=0.1)
    settling.hint(PATH, is_closed=False, now=0.2)
    assert taken_at(settling, 0.2) == (2.2, "")


def test_a_change_that_no_hint_told_of_takes_the_short_wait_away() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    settling.hint(PATH, is_closed=True, now=0.1)
    file.change()
    assert taken_at(settling, 0.1) == (2.4, "")


def test_closing_counts_for_nothing_where_a_missing_end_would_not_show() -> None:
    file = FakeFile(wholeness=OPEN_ENDED)
    settling = make(file)
    see(settling, file, 0.0)
    settling.hint(PATH, is_closed=True, now=0.1)
    assert taken_at(settling, 0.1) == (2.1, "")


def test_a_file_that_is_being_written_is_never_taken() -> None:
    file = FakeFile(is_written=True)
    settling = make(file)
    see(settling, file, 0.0)
    assert taken_at(settling, 0.0, until=500.0) is None
    assert settling.unsettled(500.0) == {"song.wav": "being written"}
    settling.hint(PATH, is_closed=False, now=500.0)
    assert settling.unsettled(501.0) == {"song.wav": "quiet for 1.0 of 2 s"}
    file.is_written = False
    assert taken_at(settling, 501.0) == (502.0, "")


def test_a_writer_that_nobody_can_tell_of_holds_nothing_up() -> None:
    file = FakeFile(is_written=None)
    settling = make(file)
    see(settling, file, 0.0)
    assert taken_at(settling, 0.0) == (2.0, "")


def test_a_header_that_does_not_fit_is_waited_for_and_then_given_up() -> None:
    file = FakeFile(wholeness=SHORT)
    settling = make(file)
    see(settling, file, 0.0)
    assert settling.settle(2.0) == []
    assert settling.unsettled(2.0) == {"song.wav": "header promises more"}
    assert taken_at(settling, 2.0) == (60.0, "header promises more")


def test_the_rest_that_comes_begins_the_wait_again() -> None:
    file = FakeFile(wholeness=SHORT)
    settling = make(file)
    see(settling, file, 0.0)
    assert taken_at(settling, 0.0, until=50.0) is None
    file.change()
    see(settling, file, 50.0)
    assert taken_at(settling, 50.0, until=100.0) is None
    file.wholeness = WHOLE
    file.change()
    taken = taken_at(settling, 100.0)
    assert taken is not None and taken[1] == ""


def test_a_broken_file_is_not_looked_into_all_the_time() -> None:
    looked = []
    file = FakeFile(wholeness=SHORT, before_examined=lambda: looked.append(1))
    settling = make(file)
    see(settling, file, 0.0)
    taken_at(settling, 0.0)
    assert len(looked) < 12


def test_a_file_that_changes_while_it_is_looked_into_is_not_taken() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    file.before_examined = file.change
    assert settling.settle(2.0) == []
    file.before_examined = lambda: None
    assert taken_at(settling, 2.0) == (4.0, "")


def test_a_file_that_changed_since_it_was_seen_is_not_taken() -> None:
    looked: list[int] = []
    file = FakeFile(before_examined=lambda: looked.append(1))
    settling = make(file)
    see(settling, file, 0.0)
    file.change()
    assert settling.settle(2.0) == [] and not looked
    assert taken_at(settling, 2.0) == (4.0, "")


@pytest.mark.parametrize("is_late", [False, True])
def test_a_file_that_vanishes_is_forgotten(is_late: bool) -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)

    def vanish() -> None:
        file.signature = None

    if is_late:
        file.before_examined = vanish
    else:
        vanish()
    assert settling.settle(2.0) == []
    assert settling.next_due(2.0) is None and settling.unsettled(2.0) == {}


def test_a_file_that_a_scan_no_longer_finds_is_forgotten() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    other = drop_of("b.wav")
    settling.see(other, 0.0)
    settling.forget_missing({other.path})
    assert list(settling.unsettled(1.0)) == ["b.wav"]
    settling.forget(other.path)
    settling.forget(other.path)
    assert settling.next_due(1.0) is None


def drop_of(name: str) -> Dropped:
    return Dropped(name, ROOT / name, SIGNATURE)


def test_the_reason_says_how_long_a_file_has_been_quiet() -> None:
    file = FakeFile()
    settling = make(file)
    see(settling, file, 0.0)
    assert settling.unsettled(1.2) == {"song.wav": "quiet for 1.2 of 2 s"}
    settling.hint(PATH, is_closed=False, now=1.5)
    assert settling.unsettled(1.5) == {"song.wav": "quiet for 0.0 of 2 s"}


def test_many_files_come_in_portions_and_all_come() -> None:
    file = FakeFile()
    settling = make(file)
    for index in range(1000):
        settling.see(drop_of(f"{index}.wav"), 0.0)
    taken = []
    while settling.next_due(2.0) == 2.0:
        portion = settling.settle(2.0, most=300)
        assert 0 < len(portion) <= 300
        taken += portion
    assert sorted(one.dropped.name for one in taken) == sorted(f"{index}.wav" for index in range(1000))
    assert settling.next_due(2.0) is None


def test_files_that_have_to_wait_hold_no_other_up() -> None:
    file = FakeFile()
    bad = {ROOT / f"{index}.wav" for index in range(20)}
    settling = Settling(LOCAL, file.look, lambda path: path in bad, file.examine)
    for path in sorted(bad):
        settling.see(drop_of(path.name), 0.0)
    see(settling, file, 0.0)
    now, taken = 2.0, list[Settled]()
    while not taken and now < 10.0:
        taken = settling.settle(now, most=5)
        now += 0.1
    assert [one.dropped.path for one in taken] == [PATH] and now < 3.0


@pytest.mark.parametrize(
    ("is_network", "quiet_s", "expected"),
    [
        (False, None, (2.0, 0.3)),
        (True, None, (5.0, 5.0)),
        (False, 10.0, (10.0, 10.0)),
        (False, 0.1, (0.1, 0.1)),
        (True, 8.0, (8.0, 8.0)),
        (True, 1.0, (1.0, 1.0)),
    ],
)
def test_rules_by_kind_of_folder(
    is_network: bool, quiet_s: float | None, expected: tuple[float, float]
) -> None:
    rules = choose_rules(is_network=is_network, quiet_s=quiet_s)
    assert (rules.quiet_s, rules.closed_quiet_s) == expected


def test_a_long_quiet_is_kept_even_where_it_is_longer_than_the_patience() -> None:
    file = FakeFile(wholeness=SHORT)
    settling = make(file, choose_rules(is_network=False, quiet_s=120.0))
    see(settling, file, 0.0)
    assert taken_at(settling, 0.0) == (120.0, "header promises more")


def test_what_nothing_can_mend_is_given_up_soon_and_what_may_still_come_is_not() -> None:
    file = FakeFile(wholeness=NEVER)
    settling = make(file)
    see(settling, file, 0.0)
    assert taken_at(settling, 0.0) == (7.0, "10 channels")
    file.wholeness = SHORT
    see(settling, file, 100.0)
    assert taken_at(settling, 100.0) == (160.0, "header promises more")


def test_what_nothing_can_mend_is_never_waited_for_longer_than_what_may_still_come() -> None:
    file = FakeFile(wholeness=NEVER)
    settling = make(file, choose_rules(is_network=False, quiet_s=58.0))
    see(settling, file, 0.0)
    assert taken_at(settling, 0.0) == (60.0, "10 channels")


def test_what_helps_against_a_fault_comes_with_the_file() -> None:
    file = FakeFile(wholeness=NEVER)
    settling = make(file)
    see(settling, file, 0.0)
    (taken,) = settling.settle(7.0)
    assert taken.hint == "split it"


def test_closing_a_file_does_not_shorten_a_quiet_that_somebody_has_asked_for() -> None:
    file = FakeFile()
    settling = make(file, choose_rules(is_network=False, quiet_s=2.0))
    see(settling, file, 0.0)
    settling.hint(PATH, is_closed=True, now=0.1)
    assert taken_at(settling, 0.1) == (2.1, "")


# Every way of writing a file. All of the audio is 100 units long.

AUDIO = 100


@dataclass
class Disk:
    """A file that grows by a script, and what of it shows.

    Parameters
    ----------
    filled : units of audio that have come, be it into the middle of a file that has its full size
    size : as the system shows it
    promised : as the header says
    version : counts what changes a signature
    """

    is_there: bool = True
    filled: int = 0
    size: int = 0
    promised: int = AUDIO
    version: int = 0
    is_open: bool = False
    hints: list[bool] = field(default_factory=list)

    def look(self, path: Path) -> Dropped | None:
        if not self.is_there or not self.size:
            return None
        return Dropped(path.name, path, Signature(1, 1, self.size, 0, self.version))

    def examine(self, path: Path) -> Wholeness:
        if self.promised > self.size:
            return Wholeness("header promises more", is_length_stated=False)
        if self.promised < self.size:
            return Wholeness("contradicts itself", is_length_stated=False)
        return WHOLE

    def touch(self) -> None:
        self.version += 1
        self.hints.append(False)

    def open(self) -> None:
        self.is_open = True

    def write(self, units: int) -> None:
        self.filled += units
        self.size = max(self.size, self.filled)
        self.touch()

    def allocate(self) -> None:
        self.size = AUDIO
        self.touch()

    def map_in(self, units: int) -> None:
        """Let audio come through a mapping: no mark moves, nobody is told."""
        self.filled += units

    def promise(self, units: int) -> None:
        self.promised = units
        self.touch()

    def close(self) -> None:
        self.is_open = False
        self.hints.append(True)

    def move_in(self) -> None:
        self.is_there = True
        self.filled = self.size = AUDIO
        self.version += 1
        self.hints.append(True)

    @property
    def is_whole(self) -> bool:
        return self.filled == self.promised == AUDIO


Step = tuple[float, Callable[[Disk], None]]


def _write(units: int) -> Callable[[Disk], None]:
    return lambda disk: disk.write(units)


def _map_in(units: int) -> Callable[[Disk], None]:
    return lambda disk: disk.map_in(units)


SLOW: list[Step] = [(0.5 * step, _write(10)) for step in range(1, 11)]

STYLES: dict[str, list[Step]] = {
    "slow": [(0.0, Disk.open), *SLOW, (5.1, Disk.close)],
    "reopened": [
        *[(0.0, Disk.open), (0.1, _write(40)), (0.2, Disk.close)],
        *[(1.7, Disk.open), (1.7, _write(60)), (1.8, Disk.close)],
    ],
    "reopened late": [
        *[(0.0, Disk.open), (0.1, _write(40)), (0.2, Disk.close)],
        *[(9.0, Disk.open), (9.0, _write(60)), (9.1, Disk.close)],
    ],
    "header last": [
        *[(0.0, Disk.open), (0.0, lambda disk: disk.promise(0)), *SLOW],
        *[(9.0, lambda disk: disk.promise(AUDIO)), (9.1, Disk.close)],
    ],
    "renamed in": [(0.0, lambda disk: setattr(disk, "is_there", False)), (3.0, Disk.move_in)],
    "preallocated": [(0.0, Disk.open), (0.0, Disk.allocate), *SLOW, (5.1, Disk.close)],
    "preallocated, stalled": [
        *[(0.0, Disk.open), (0.0, Disk.allocate), (0.5, _write(50)), (3.7, _write(50)), (3.8, Disk.close)],
    ],
    "set back": [(0.0, Disk.open), *SLOW, (5.1, Disk.close), (5.2, Disk.touch), (5.8, Disk.touch)],
    "stalled": [(0.0, Disk.open), (0.1, _write(50)), (3.3, _write(50)), (3.4, Disk.close)],
    "mapped": [
        *[(0.0, Disk.open), (0.0, Disk.allocate), *((1.0 * step, _map_in(10)) for step in range(1, 11))],
        (10.1, Disk.close),
    ],
}

TICK_S = 0.05


@dataclass(frozen=True)
class Guards:
    """What stands between a file and a partial read; each can be taken away."""

    has_hints: bool = True
    has_lease: bool = True
    has_header: bool = True
    rules: SettleRules = LOCAL


def play(steps: list[Step], guards: Guards) -> list[bool]:
    """Write a file by a script and return for each time that it was taken whether it was whole then.

    A scan comes every second. What was taken is not looked at again before it changes.
    """
    disk = Disk()
    handled: Signature | None = None
    settling = Settling(
        guards.rules,
        disk.look,
        lambda path: disk.is_open if guards.has_lease else None,
        disk.examine if guards.has_header else lambda path: WHOLE,
    )
    left, taken = sorted(steps, key=lambda step: step[0]), []
    for tick in range(int(100 / TICK_S)):
        now = tick * TICK_S
        while left and left[0][0] <= now:
            left.pop(0)[1](disk)
        told, disk.hints = disk.hints, []
        hints = told if guards.has_hints else []
        found = disk.look(PATH)
        if (hints or tick % 20 == 0) and found is not None and found.signature != handled:
            settling.see(found, now)
            for is_closed in hints:
                settling.hint(PATH, is_closed, now)
        due = settling.next_due(now)
        for one in settling.settle(now) if due == now else []:
            handled = one.dropped.signature
            taken.append(disk.is_whole)
    return taken


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("has_hints", [True, False])
def test_every_way_of_writing_ends_in_one_whole_read(style: str, has_hints: bool) -> None:
    assert play(STYLES[style], Guards(has_hints=has_hints)) == [True]


@pytest.mark.parametrize(
    "style", [style for style in STYLES if style not in ("mapped", "preallocated, stalled")]
)
@pytest.mark.parametrize("has_hints", [True, False])
def test_so_it_does_without_leases_where_the_header_tells(style: str, has_hints: bool) -> None:
    assert play(STYLES[style], Guards(has_hints=has_hints, has_lease=False)) == [True]


@pytest.mark.parametrize("style", STYLES)
def test_so_it_does_on_a_share_but_for_what_nobody_can_see(style: str) -> None:
    guards = Guards(has_hints=False, has_lease=False, rules=choose_rules(is_network=True))
    assert play(STYLES[style], guards) == ([False] if style == "mapped" else [True])


NO_QUIET = SettleRules(quiet_s=0.0, closed_quiet_s=0.0)
"""Taken on sight."""


@pytest.mark.parametrize(
    ("guards", "styles"),
    [
        (Guards(has_lease=False), ["mapped", "preallocated, stalled"]),
        (Guards(has_header=False), ["reopened", "reopened late"]),
        (Guards(has_lease=False, has_header=False), ["stalled", "header last", "reopened", "mapped"]),
        (Guards(has_lease=False, rules=NO_QUIET), ["preallocated"]),
        (Guards(has_header=False, rules=NO_QUIET), ["reopened"]),
        (Guards(has_lease=False, has_header=False, rules=NO_QUIET), ["slow", "set back"]),
    ],
)
def test_each_guard_is_needed(guards: Guards, styles: list[str]) -> None:
    """The styles above have power: whoever takes a guard away reads half a file."""
    assert all(False in play(STYLES[style], guards) for style in styles)
