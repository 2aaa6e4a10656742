"""What every separator is to the pipeline: a stream of stems from a mixture that can be read anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stembridge.types import Precision


class MixtureReader(Protocol):
    """The mixture at the model's sample rate, readable in any order.

    ``frames`` counts what is to be separated, which starts at frame 0: the region that was asked for, and
    beside it what resampling the stems will need. ``mean`` and ``deviation`` are those of the channel average
    over the region alone, or over the whole source where the segments lie on its grid (the deviation with
    N - 1 in the denominator, as torch.std has it), so that every model normalises by the same numbers.
    """

    channels: int
    frames: int
    mean: float
    deviation: float

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """Return samples (channels, frames) from ``start`` on, not normalised.

        ``start`` may be negative and the end may lie beyond the item: there stands the source's own audio
        where it has some, else zero.
        """
        ...


@dataclass(frozen=True, slots=True)
class SeparationPlan:
    """What to separate and how; ``sources`` is a subset of the separator's, in the separator's order.

    Segments and shifts are those of a whole that begins ``origin`` frames before the reader's frame 0 and
    ends ``beyond`` frames behind its last: of it only those run that touch the reader's frames, and they give
    the very samples that a run over the whole gives there.

    ``precision`` is one that the separator has (`Separator.choose_precision`). With ``listen_from``, a frame
    of the items, the segments that cover it run first, and their stems come as an early block of each item;
    all other blocks are what they are without it.
    """

    sources: tuple[str, ...]
    overlap: float = 0.25
    shifts: int = 0
    seed: int = 0
    origin: int = 0
    beyond: int = 0
    precision: Precision = Precision.FULL
    listen_from: int | None = None

    def whole_frames(self, frames: int) -> int:
        """Return the length of the whole of which a reader has ``frames`` frames."""
        return self.origin + frames + self.beyond


@dataclass(frozen=True, slots=True)
class Block:
    """One step's worth of finished stems: (sources, channels, frames) from frame ``start`` of an item on.

    Parameters
    ----------
    start : frame of the item
    stems : ``frames`` may be 0: the step is done, but no further frame is final yet
    item : which of the readers this is of
    is_early : stems of one segment for a listener, not part of the row and no step of its own
    remarks : what a user is to be told of this step: one line each
    is_repeatable : the step gives the same samples when it is done again on this machine
    """

    start: int
    stems: NDArray[np.float32]
    item: int = 0
    is_early: bool = False
    remarks: tuple[str, ...] = ()
    is_repeatable: bool = True


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """The precision that a separator will compute in, and why it is not the one that was asked for.

    Without a ``reason`` there is nothing to tell.
    """

    precision: Precision
    reason: str = ""


class Separator(Protocol):
    """A resident model (or the weightless preview).

    ``segment_frames`` is the longest stretch one step looks at; the pipeline keeps that much context ready
    around an item that is cut from a longer source.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate: int
    channels: int
    segment_frames: int
    sha256: str
    is_deterministic: bool

    def warm_up(self) -> None:
        """Do once what the first step would otherwise wait for."""
        ...

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        """Return what ``asked`` comes to here; may compute for seconds the first time that it is asked."""
        ...

    def count_steps(self, frames: Sequence[int], plan: SeparationPlan) -> int:
        """Return how many blocks `separate` will yield for such items; early ones do not count."""
        ...

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        """Yield blocks whose stems, put in a row for each item, cover its frames once and in order.

        Memory does not depend on the items' lengths. The caller may stop between any two blocks.
        """
        ...
