"""The gfx window: what a script draws is kept as text, what the user does comes from the test."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reaper_fake.reaper import FakeReaper

_CHAR_W, _CHAR_H = 7, 14


class Window:
    """One gfx window. `keys` are the user's, `texts` what was drawn since the last gfx.update."""

    def __init__(self, reaper: FakeReaper) -> None:
        self._reaper = reaper
        self.is_open = False
        self.title = ""
        self.keys: deque[int] = deque()
        self.texts: list[str] = []
        self.shown_texts: list[str] = []
        self.variables: dict[str, float] = {"texth": _CHAR_H, "ext_retina": 0.0, "dest": -1.0}

    def close(self) -> None:
        """Close the window as the user does."""
        self.is_open = False

    def click(self, x: float, y: float, *, is_down: bool = True) -> None:
        """Put the mouse at `x`, `y`, with its left button down or up."""
        self.variables.update(mouse_x=x, mouse_y=y, mouse_cap=float(is_down))

    def init(self, name: str, w: float = 0, h: float = 0, dock: float = 0, x: float = 0, y: float = 0) -> int:
        """Open the window, or give the open one another title or size."""
        if name or not self.is_open:
            self.title = name
        self.is_open = True
        if w or h:
            self.variables.update(w=w, h=h)
        self.variables["dock"] = dock
        return 1

    def quit(self) -> None:
        """Close the window."""
        self.is_open = False

    def update(self) -> None:
        """Show what was drawn."""
        self.shown_texts, self.texts = self.texts, []

    def getchar(self, char: float = 0, unichar: float = 0) -> int:
        """Return the next key, 0 for none, -1 once the window is closed."""
        if not self.is_open:
            return -1
        if char == 65536:
            return 1 | 2
        return self.keys.popleft() if self.keys and not char else 0

    def setfont(self, index: float, face: str = "", size: float = 0, flags: float = 0) -> int:
        """Choose a font."""
        if size:
            self.variables["texth"] = size
        return 1

    def drawstr(self, text: str, flags: float = 0, right: float = 0, bottom: float = 0) -> int:
        """Draw `text`."""
        self.texts.append(str(text))
        self.variables["x"] = self.variables.get("x", 0) + len(str(text)) * _CHAR_W
        return 1

    def measurestr(self, text: str) -> tuple[int, int]:
        """Return how wide and high `text` is."""
        return len(str(text)) * _CHAR_W, int(self.variables["texth"])

    def rect(self, x: float, y: float, w: float, h: float, filled: float = 1) -> None:
        """Draw a rectangle."""

    def roundrect(self, x: float, y: float, w: float, h: float, radius: float, antialias: float = 1) -> None:
        """Draw a rectangle with round corners."""

    def line(self, x: float, y: float, x2: float, y2: float, antialias: float = 1) -> None:
        """Draw a line."""

    def set(self, r: float, *rest: float) -> None:
        """Set the colour: green and blue follow red where they are left out."""
        g, b, a = (*rest, *(r, r, 1.0)[len(rest) :])[:3]
        self.variables.update(r=r, g=g, b=b, a=a)

    def dock(self, state: float, *_place: float) -> int:
        """Return the dock state, and set it unless `state` is -1."""
        if state >= 0:
            self.variables["dock"] = state
        return int(self.variables.get("dock", 0))

    def showmenu(self, text: str) -> int:
        """Return which entry the user picks, 0 for none."""
        return int(self._reaper.ask("showmenu", text))

    def clienttoscreen(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the window on the screen."""
        return x + 100, y + 100

    def screentoclient(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the screen in the window."""
        return x - 100, y - 100
