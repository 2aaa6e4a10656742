"""Planners that are broken on purpose: the property that holds for the real one finds each of them."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

import msgspec
import pytest

from planner_cases import make_world, run_case
from stembridge.reaper import fitting, item_chunk, placing, playing, regions, requests
from stembridge.types import Region

MOST_ITEMS = 600
"""So many items are enough to find any of them."""

Patch = pytest.MonkeyPatch
Change = Callable[[dict[str, float]], dict[str, float]]


def _change_take(patch: Patch, change: Change) -> None:
    patch.setattr(placing, "fit_take", lambda original, fit: change(fitting.fit_take(original, fit)))


def _change_item(patch: Patch, change: Change) -> None:
    patch.setattr(placing, "fit_item", lambda original, fit: change(fitting.fit_item(original, fit)))


def _without(*names: str) -> Change:
    return lambda values: {name: value for name, value in values.items() if name not in names}


def _change_operations(patch: Patch, keeps: Callable[[list[Any]], bool]) -> None:
    real = placing.place

    def place(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        if isinstance(result, placing.Placed):
            return placing.Placed(result.label, tuple(filter(keeps, result.operations)))
        return result

    patch.setattr(placing, "place", place)


def ignore_reverse(patch: Patch) -> None:
    patch.setattr(placing, "fit_section", lambda original, fit: [
        line for line in fitting.fit_section(original, fit) if not line.startswith("MODE")
    ])  # fmt: skip


def take_a_reversed_file_for_a_section(patch: Patch) -> None:
    patch.setattr(fitting, "REVERSED_WHOLE", item_chunk.REVERSED_SECTION)


def leave_sections_where_they_are(patch: Patch) -> None:
    real = item_chunk.section_lines

    def section_lines(mode: int, start_s: float, length_s: float, overlap: str) -> list[str]:
        return real(mode, start_s + (start_s > 0), length_s, overlap)

    patch.setattr(fitting, "section_lines", section_lines)


def forget_section_start(patch: Patch) -> None:
    real = fitting.fit_section
    patch.setattr(
        placing, "fit_section", lambda original, fit: real(original, type(fit)(length_s=fit.length_s))
    )


def lose_a_frame(patch: Patch) -> None:
    _change_take(patch, lambda values: values | {"D_STARTOFFS": values["D_STARTOFFS"] + 1 / 60})


def lose_a_millionth(patch: Patch) -> None:
    _change_item(patch, lambda values: values | {"D_POSITION": round(values["D_POSITION"], 6)})


def keep_start_offset(patch: Patch) -> None:
    patch.setattr(fitting, "lost_offset", lambda original, fit: 0.0)
    patch.setattr(placing, "lost_offset", lambda original, fit: 0.0)


def count_reversed_offset_from_the_front(patch: Patch) -> None:
    patch.setattr(fitting, "lost_offset", lambda original, fit: fit.before_s)


def drop_auto_fade(patch: Patch) -> None:
    _change_item(patch, _without("D_FADEINLEN_AUTO"))


def drop_fade_curve(patch: Patch) -> None:
    _change_item(patch, _without("D_FADEOUTDIR"))


def drop_fade_shape(patch: Patch) -> None:
    _change_item(patch, _without("C_FADEINSHAPE"))


def forget_polarity(patch: Patch) -> None:
    _change_take(patch, lambda values: values | {"D_VOL": abs(values["D_VOL"])})


def forget_pan(patch: Patch) -> None:
    _change_take(patch, _without("D_PAN"))


def forget_pan_law(patch: Patch) -> None:
    _change_take(patch, _without("D_PANLAW"))


def forget_play_rate(patch: Patch) -> None:
    _change_take(patch, _without("D_PLAYRATE"))


def forget_channel_mode(patch: Patch) -> None:
    _change_take(patch, _without("I_CHANMODE"))


def apply_item_volume_twice(patch: Patch) -> None:
    _change_item(patch, lambda values: values | {"D_VOL": values["D_VOL"] ** 2})


def forget_loop(patch: Patch) -> None:
    _change_item(patch, lambda values: values | {"B_LOOPSRC": 0.0})


def loop_a_part(patch: Patch) -> None:
    def fit_item(original: Any, fit: Any) -> dict[str, float]:
        return fitting.fit_item(original, fit) | {"B_LOOPSRC": original.values["B_LOOPSRC"]}

    patch.setattr(placing, "fit_item", fit_item)


def separate_one_turn_of_no_loop(patch: Patch) -> None:
    real = playing.find_played

    def find_played(item: Any) -> Any:
        once = msgspec.structs.replace(item, values=item.values | {"B_LOOPSRC": 0.0})
        return real(once) or real(item)

    patch.setattr(playing, "find_played", find_played)


def separate_too_little(patch: Patch) -> None:
    patch.setattr(regions, "floor", lambda seconds: floor(seconds) + 1)


def begin_between_seconds(patch: Patch) -> None:
    patch.setattr(regions, "floor", lambda seconds: int(seconds * 2) / 2)
    patch.setattr(regions, "Region", lambda start, frames: Region(int(start), int(frames)))


def take_a_reversed_span_forwards(patch: Patch) -> None:
    real = playing.find_played

    def find_played(item: Any) -> Any:
        source = item.active.media
        section = source.section and (*source.section[:2], False)
        take = msgspec.structs.replace(item.active, source=msgspec.structs.replace(source, section=section))
        return real(msgspec.structs.replace(item, take=take))

    patch.setattr(playing, "find_played", find_played)


def leave_the_original_audible(patch: Patch) -> None:
    _change_operations(patch, lambda operation: operation[0] != "set_item" or operation[1][:1] == "$")


def play_stems_of_muted_items(patch: Patch) -> None:
    _change_operations(
        patch, lambda operation: operation[2:3] != ["B_MUTE"] or not str(operation[1]).startswith("$item")
    )


def place_the_first_part_alone(patch: Patch) -> None:
    real = placing.find_parts
    patch.setattr(placing, "find_parts", lambda ticket, snapshot: real(ticket, snapshot)[:1])


def place_what_was_snapshot(patch: Patch) -> None:
    patch.setattr(placing, "find_parts", lambda ticket, snapshot: [ticket.item])


def ignore_the_window(patch: Patch) -> None:
    real = requests.form_requests

    def form_requests(items: Any, *arguments: Any, **named: Any) -> Any:
        return real(items, *arguments, **named | {"windows": [None] * len(items)})

    patch.setattr(requests, "form_requests", form_requests)
    patch.setattr(placing, "_find_inside", lambda ticket, part: part if playing.find_played(part) else None)


def leave_the_window_behind(patch: Patch) -> None:
    patch.setattr(placing, "_origin", lambda item: 0.0)


def play_stems_without_the_tracks_offset(patch: Patch) -> None:
    _change_operations(patch, lambda operation: operation[2:3] != ["D_PLAY_OFFSET"])


def forget_the_unit_of_the_tracks_offset(patch: Patch) -> None:
    _change_operations(patch, lambda operation: operation[2:3] != ["I_PLAY_OFFSET_FLAG"])


def forget_markers(patch: Patch) -> None:
    _change_operations(patch, lambda operation: operation[0] != "mark_take")


MUTANTS = [
    ignore_reverse,
    take_a_reversed_file_for_a_section,
    leave_sections_where_they_are,
    forget_section_start,
    lose_a_frame,
    lose_a_millionth,
    keep_start_offset,
    count_reversed_offset_from_the_front,
    drop_auto_fade,
    drop_fade_curve,
    drop_fade_shape,
    forget_polarity,
    forget_pan,
    forget_pan_law,
    forget_play_rate,
    forget_channel_mode,
    apply_item_volume_twice,
    forget_loop,
    loop_a_part,
    separate_one_turn_of_no_loop,
    separate_too_little,
    begin_between_seconds,
    take_a_reversed_span_forwards,
    leave_the_original_audible,
    play_stems_of_muted_items,
    place_the_first_part_alone,
    place_what_was_snapshot,
    ignore_the_window,
    leave_the_window_behind,
    play_stems_without_the_tracks_offset,
    forget_the_unit_of_the_tracks_offset,
    forget_markers,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_planner_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    world = make_world()
    mutant(monkeypatch)
    checked = 0
    with pytest.raises(AssertionError, match=r"^seed \d+: "):
        for seed in range(MOST_ITEMS):
            if checked >= MOST_ITEMS:
                break
            checked += run_case(world, seed)
