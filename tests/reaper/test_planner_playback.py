"""Random items through planner and apply: stems play what the item played, together and one by one."""

from __future__ import annotations

from itertools import count

import pytest

from planner_cases import World, make_world, run_case

BLOCKS = 10
ITEMS_IN_A_BLOCK = 2000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_stems_play_what_the_item_played(world: World, block: int) -> None:
    checked = 0
    for seed in count(block * ITEMS_IN_A_BLOCK):
        checked += run_case(world, seed)
        if checked >= ITEMS_IN_A_BLOCK:
            return
