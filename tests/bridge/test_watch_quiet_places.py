"""Whether files of settings may be believed, in invented time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stembridge.watch.dropped import sign
from stembridge.watch.quiet_places import QuietPlaces
from stembridge.watch.settling import SettleRules

NOON = 1_790_000_000.0
RULES = SettleRules(quiet_s=2.0, recheck_s=0.5)


class Desk:
    """A file of settings that somebody writes, and who asks whether it may be believed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.now = 100.0
        self.is_written: bool | None = False
        self.has_other_clock = False
        self.places = QuietPlaces(lambda _: self.is_written, lambda: NOON + self.now)

    def save(self, text: str, *, age_s: float = 0.0) -> None:
        self.place.write_text(text)
        at = NOON + self.now - age_s
        os.utime(self.place, (at, at))

    @property
    def wait_s(self) -> float:
        found = self.places.find_wait([self.place], RULES, self.now, has_other_clock=self.has_other_clock)
        return round(found, 3)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    # When the system noted a change cannot be invented.
    monkeypatch.setattr(
        "stembridge.watch.quiet_places.sign",
        lambda found: sign(found)._replace(ctime_ns=found.st_mtime_ns),
    )
    return Desk(tmp_path / "stembridge.toml")


def test_none_at_all_holds_nobody_up(desk: Desk) -> None:
    assert desk.wait_s == 0


def test_an_old_one_is_believed_at_once(desk: Desk) -> None:
    desk.save("seed = 1", age_s=2)
    assert desk.wait_s == 0


def test_a_young_one_is_believed_when_it_is_older(desk: Desk) -> None:
    desk.save("seed = 1", age_s=0.5)
    assert desk.wait_s == 1.5
    desk.now += 1.5
    assert desk.wait_s == 0
    desk.save("seed = 23")
    assert desk.wait_s == 2


def test_one_that_goes_on_changing_is_not_believed(desk: Desk) -> None:
    for length in range(5):
        desk.save("#" * length)
        assert desk.wait_s == 2
        desk.now += 1.9
    desk.now += 0.1
    assert desk.wait_s == 0


def test_one_that_is_gone_for_a_moment_is_waited_for(desk: Desk) -> None:
    desk.save("seed = 1", age_s=60)
    assert desk.wait_s == 0
    desk.place.unlink()
    assert desk.wait_s == 2
    desk.now += 2
    assert desk.wait_s == 0


@pytest.mark.parametrize("age_s", [-3600, 3600])
def test_another_machines_clock_is_not_asked(desk: Desk, age_s: float) -> None:
    desk.has_other_clock = True
    desk.save("seed = 1", age_s=age_s)
    assert desk.wait_s == 2
    desk.now += 2
    assert desk.wait_s == 0


def test_one_from_the_future_is_believed_once_it_was_left_alone(desk: Desk) -> None:
    desk.save("seed = 1", age_s=-3600)
    assert desk.wait_s == 2
    desk.now += 2
    assert desk.wait_s == 0


def test_one_that_somebody_has_open_is_not_believed_however_old(desk: Desk) -> None:
    desk.save("seed = 1", age_s=60)
    desk.is_written = True
    assert desk.wait_s == RULES.recheck_s
    desk.is_written = None
    assert desk.wait_s == 0


def test_one_that_is_kept_open_and_not_changed_is_believed_in_the_end(desk: Desk) -> None:
    desk.save("seed = 1", age_s=60)
    desk.is_written = True
    assert desk.wait_s == RULES.recheck_s
    desk.now += RULES.give_up_s
    assert desk.wait_s == 0
