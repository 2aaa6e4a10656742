"""Each test of the scripts begins like a REAPER that was just started: none of their modules is there yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stage import forget_scripts


@pytest.fixture(autouse=True)
def fresh_interpreter() -> Iterator[None]:
    """Forget the scripts' modules, which are bound to the REAPER that has imported them."""
    forget_scripts()
    yield
    forget_scripts()
