"""One loaded model on one device: the fastest way that works, and what goes on when it does not.

Ways are tried from the fastest on: a graph or a compiled forward, the eager one in the precision that was
asked for, the one in full precision, stock Demucs. A way that raises is left for good. Values that are not
finite send the batch to the next precision. Memory that runs out halves the batch, and at last leads to the
CPU. All of it is told: docs/decisions/0020-the-chain-of-forwards.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray

from stembridge.errors import ModelError
from stembridge.types import Precision
from stembridge_daemon.worker.forward import memory
from stembridge_daemon.worker.forward.base import Forward, UnknownLayout
from stembridge_daemon.worker.forward.building import build_forward
from stembridge_daemon.worker.forward.compiling import BackgroundForward, Compile
from stembridge_daemon.worker.forward.graphs import GraphedForward
from stembridge_daemon.worker.forward.precision import check_half
from stembridge_daemon.worker.forward.stock import StockForward
from stembridge_daemon.worker.separators.engine import Answer

logger = logging.getLogger(__name__)

Build = Callable[[torch.nn.Module, Precision, torch.device], Forward]
"""Makes the fast forward of a module in a precision, or raises `UnknownLayout`."""

Check = Callable[[Forward, Forward, Sequence[int], torch.Size, torch.device], str]
"""Holds a half-precision forward against the full one on mixtures of a shape (1, channels, frames); returns
why it must not be used, or ''."""


class _Grade(IntEnum):
    """How exact a way is. Each is the fallback of those before it."""

    HALF = 0
    FULL = 1
    STOCK = 2


_GRADES = {Precision.HALF: _Grade.HALF, Precision.FULL: _Grade.FULL}
_PRECISIONS = {grade: precision for precision, grade in _GRADES.items()}
_TITLES = {_Grade.HALF: "half precision", _Grade.FULL: "the fast path", _Grade.STOCK: "stock Demucs"}
_NEXT = {_Grade.HALF: "in full precision", _Grade.FULL: "by stock Demucs"}


@dataclass(frozen=True, slots=True)
class _Way:
    """``is_shortcut``: does what the eager way of the same grade does, only faster."""

    title: str
    grade: _Grade
    forward: Forward
    is_shortcut: bool = False


class Runner:
    """Computes batches with one module on one device.

    Parameters
    ----------
    module : takes (n, channels, frames) and returns (n, sources, channels, frames)
    name : of the model, for messages
    channels, sources : how many the module takes and gives
    device : 'cpu', 'cuda', 'cuda:1', 'mps'
    build : makes fast forwards
    check : says whether half precision is exact enough
    compile_ : as in `stembridge_daemon.worker.forward.compiling`; None where nothing is to be compiled
    is_graphing : CUDA graphs are used on a CUDA device where nothing is compiled
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        name: str,
        channels: int,
        sources: int,
        device: str = "cpu",
        build: Build = build_forward,
        check: Check = check_half,
        compile_: Compile | None = None,
        is_graphing: bool = True,
    ) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda":
            # Else convolutions round their input to 10 bits: that is no full precision.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
        self.module = module.to(self.device).eval().requires_grad_(False)
        self.name = name
        self._channels = channels
        self._sources = tuple(range(sources))
        self._build = build
        self._check = check
        self._half_reasons: dict[int, str] = {}
        self._compile = compile_
        self._is_graphing = is_graphing
        self._stock: Forward = StockForward(self.module)
        self._eager: dict[_Grade, Forward | None] = {}
        self._shortcuts: dict[_Grade, GraphedForward | BackgroundForward | None] = {}
        self._limits: dict[tuple[int, _Grade], int] = {}
        self._most = memory.BATCH_SIZES[-1]
        # What a fresh runner would have done otherwise, another run may do otherwise.
        self._is_repeatable = compile_ is None
        # Remarks from when there was no batch of a job to tell them with.
        self._untold: list[str] = []

    def refuse_half(self, frames: int) -> str:
        """Return why segments of ``frames`` frames cannot be computed in half precision, '' where they can.

        The first time it computes both ways and compares.
        """
        if frames in self._half_reasons:
            return self._half_reasons[frames]
        try:
            half, full = (self._find_eager(grade, self._untold) for grade in (_Grade.HALF, _Grade.FULL))
            if half is None or full is None:
                return f"{self.name} has no half-precision path on {self.device}"
            shape = torch.Size((1, self._channels, frames))
            with torch.inference_mode():
                reason = self._check(half, full, self._sources, shape, self.device)
        except Exception as error:
            logger.exception("%s: half precision could not be checked", self.name)
            return (
                f"{self.name} in half precision could not be checked on {self.device}: {_first_line(error)}"
            )
        self._half_reasons[frames] = reason
        return reason

    def batch_limit(self, frames: int, precision: Precision) -> int:
        """Return the most segments of ``frames`` frames that fit at once; measured when first asked for."""
        if self.device.type == "cpu":
            return 1
        grade = _GRADES[precision]
        if (frames, grade) not in self._limits:
            self._limits[frames, grade] = self._measure_limit(frames, precision)
        return min(self._limits[frames, grade], self._most)

    def warm_up(self, frames: int, precision: Precision = Precision.FULL) -> None:
        """Do for segments of ``frames`` frames what the first batches would otherwise wait for."""
        size = self.batch_limit(frames, precision)
        silence = np.zeros((size, self._channels, frames), dtype=np.float32)
        # A graph is captured when its shape comes for the second time.
        for _ in range(1 if self.device.type == "cpu" else 2):
            self._untold = list(self.run(silence, self._sources, precision).remarks)

    def run(self, batch: NDArray[np.float32], sources: Sequence[int], precision: Precision) -> Answer:
        """Return the stems of a batch, and what came in the way.

        Parameters
        ----------
        batch : normalised mixtures (n, channels, frames)
        sources : indices of the wanted ones among the module's
        precision : that of the fastest way that may be taken

        Raises
        ------
        ModelError : no memory for one segment, on the CPU too
        """
        parts: list[NDArray[np.float32]] = []
        remarks, self._untold = self._untold, []
        start = 0
        while start < len(batch):
            part = batch[start : start + self._most]
            stems = self._run_part(part, sources, precision, remarks)
            if stems is None:
                self._retreat(_padded_size(len(part)), remarks)
                continue
            parts.append(stems)
            start += len(part)
        stems = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Answer(stems, tuple(dict.fromkeys(remarks)), self._is_repeatable)

    def wait(self, timeout_s: float) -> bool:
        """Return whether nothing is being compiled any more, after so long at most for each precision."""
        background = [one for one in self._shortcuts.values() if isinstance(one, BackgroundForward)]
        return all(one.wait(timeout_s) for one in background)

    def _run_part(
        self, part: NDArray[np.float32], sources: Sequence[int], precision: Precision, remarks: list[str]
    ) -> NDArray[np.float32] | None:
        """Return the stems of what is small enough, or None where memory ran out nevertheless."""
        with torch.inference_mode():
            try:
                return self._fetch(self._compute(self._send(part), len(part), sources, precision, remarks))
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                logger.warning("%s: no memory for %d segments on %s", self.name, len(part), self.device)
        return None

    def _compute(
        self,
        batch: torch.Tensor,
        count: int,
        sources: Sequence[int],
        precision: Precision,
        remarks: list[str],
    ) -> torch.Tensor:
        """Return the first ``count`` stems of the batch by the first way that works."""
        for way in self._ways(_GRADES[precision], batch, remarks):
            try:
                stems = way.forward(batch, sources)[:count]
                if way.grade is _Grade.STOCK or _is_finite(stems):
                    return stems
            except Exception as error:
                if way.grade is _Grade.STOCK or (memory.is_out_of_memory(error) and not way.is_shortcut):
                    raise
                self._leave(way, error, remarks)
                continue
            if not way.is_shortcut:
                remarks.append(
                    f"{way.title} gave values that are not finite: segments were computed again "
                    f"{_NEXT[way.grade]}"
                )
        raise AssertionError("stock is the last way and either answers or raises")

    def _ways(self, first: _Grade, batch: torch.Tensor, remarks: list[str]) -> Iterator[_Way]:
        for grade in (_Grade.HALF, _Grade.FULL):
            if grade < first:
                continue
            eager = self._find_eager(grade, remarks)
            if eager is None:
                continue
            shortcut = self._find_shortcut(grade, eager)
            if isinstance(shortcut, GraphedForward):
                yield _Way("CUDA graphs", grade, shortcut, is_shortcut=True)
            elif shortcut is not None and shortcut.is_ready(batch):
                yield _Way("the compiled path", grade, shortcut, is_shortcut=True)
            yield _Way(_TITLES[grade], grade, eager)
        yield _Way(_TITLES[_Grade.STOCK], _Grade.STOCK, self._stock)

    def _find_eager(self, grade: _Grade, remarks: list[str]) -> Forward | None:
        if grade not in self._eager:
            self._eager[grade] = None
            try:
                self._eager[grade] = self._build(self.module, _PRECISIONS[grade], self.device)
            except UnknownLayout as reason:
                logger.info("%s: no %s: %s", self.name, _TITLES[grade], reason)
            except Exception as error:
                if memory.is_out_of_memory(error):
                    del self._eager[grade]
                    raise
                self._leave(_Way(_TITLES[grade], grade, self._stock), error, remarks)
        return self._eager[grade]

    def _find_shortcut(self, grade: _Grade, eager: Forward) -> GraphedForward | BackgroundForward | None:
        if grade not in self._shortcuts:
            if self._compile is not None:
                self._shortcuts[grade] = BackgroundForward(eager, self._sources, self._compile)
            else:
                is_graphing = self._is_graphing and self.device.type == "cuda"
                self._shortcuts[grade] = GraphedForward(eager, self._sources) if is_graphing else None
        return self._shortcuts[grade]

    def _leave(self, way: _Way, error: Exception, remarks: list[str]) -> None:
        """Do without a way from now on."""
        logger.error("%s: %s failed and is left", self.name, way.title, exc_info=error)
        (self._shortcuts if way.is_shortcut else self._eager)[way.grade] = None
        self._half_reasons.clear()
        self._is_repeatable = False
        remarks.append(f"{way.title} failed on {self.device} and is left: {_first_line(error)}")

    def _retreat(self, size: int, remarks: list[str]) -> None:
        """Go on with half of a size for which there was no memory, or on the CPU."""
        memory.empty_cache(self.device)
        self._is_repeatable = False
        if size > 1:
            self._most = size // 2
            remarks.append(
                f"{self.device} has no memory for {size} segments at once: {self._most} from here on"
            )
            return
        if self.device.type == "cpu":
            raise ModelError(
                f"no memory to compute one segment with {self.name}",
                "end other programs, or take a smaller model",
            )
        remarks.append(f"{self.device} has no memory for one segment of {self.name}: it goes on on the CPU")
        left, self.device = self.device, torch.device("cpu")
        self._eager.clear()
        self._shortcuts.clear()
        # Whether 16 bits serve here was asked of the other device.
        self._eager[_Grade.HALF] = None
        self._half_reasons.clear()
        self.module.to(self.device)
        memory.empty_cache(left)

    def _measure_limit(self, frames: int, precision: Precision) -> int:
        grade = _GRADES[precision]
        forward = (
            self._find_eager(grade, self._untold)
            or self._find_eager(_Grade.FULL, self._untold)
            or self._stock
        )
        silence = torch.zeros(2, self._channels, frames, device=self.device)
        try:
            with torch.inference_mode():
                # Tables and plans are made by the first call and stay: they are no batch's need.
                forward(silence[:1], self._sources)
                one = memory.measure_peak(lambda: forward(silence[:1], self._sources), self.device)
                two = memory.measure_peak(lambda: forward(silence, self._sources), self.device)
        except Exception:  # the batch itself will meet it, and knows what to do
            logger.warning(
                "%s: no batch sizes could be measured on %s", self.name, self.device, exc_info=True
            )
            return 1
        need = memory.need_from_peaks(one, two)
        limit = need.count_fitting(memory.count_free_bytes(self.device))
        logger.info("%s: %s, so batches of up to %d on %s", self.name, need, limit, self.device)
        return limit

    def _send(self, part: NDArray[np.float32]) -> torch.Tensor:
        """Return a batch on the device, padded with silence to the next of the batch sizes."""
        size = _padded_size(len(part))
        is_pinned = self.device.type == "cuda"
        if size == len(part) and not is_pinned:
            return torch.from_numpy(part).to(self.device)
        padded = torch.zeros((size, *part.shape[1:]), dtype=torch.float32, pin_memory=is_pinned)
        padded[: len(part)] = torch.from_numpy(part)
        return padded.to(self.device, non_blocking=is_pinned)

    def _fetch(self, stems: torch.Tensor) -> NDArray[np.float32]:
        if stems.device.type != "cuda":
            return np.ascontiguousarray(stems.cpu().numpy())
        # Torch keeps pinned memory for the next batch once the caller has done with this one.
        host = torch.empty(stems.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(stems, non_blocking=True)
        torch.cuda.current_stream(stems.device).synchronize()
        fetched: NDArray[np.float32] = host.numpy()
        return fetched


def _padded_size(segments: int) -> int:
    return min(size for size in memory.BATCH_SIZES if size >= segments)


def _is_finite(stems: torch.Tensor) -> bool:
    # One pass without a copy. No sum of float32 leaves the range of float64, which MPS does not have.
    if stems.device.type == "mps":
        return bool(torch.isfinite(stems).all())
    return bool(torch.isfinite(stems.sum(dtype=torch.float64)))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
