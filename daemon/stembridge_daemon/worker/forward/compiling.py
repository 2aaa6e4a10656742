"""torch.compile in the background, while the eager path serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import torch

from stembridge_daemon.worker.forward.base import Forward

logger = logging.getLogger(__name__)

Compile = Callable[[Forward], Forward]
"""Returns what computes as its argument does; it may take minutes, or its result may when first called."""

MOST_SHAPES = 8
"""torch's own limit of compiled versions of one function (``torch._dynamo.config.recompile_limit``); beyond
it a compiled function is an eager one."""

_LARGEST_DIFFERENCE = 0.05
"""Share of the eager stems' norm by which compiled ones may differ. Rounding in 16 bits comes to 0.01."""


def compile_forward(forward: Forward) -> Forward:
    """Return the forward through torch.compile, as one graph and for fixed shapes.

    A forward that falls into pieces is refused: each of the many would be compiled by itself, up to torch's
    limit of versions of one function, and might end up slower than it was. CUDA graphs of its own are left
    out: those of one thread cannot be used in another (pytorch issue 123177).
    """
    compiled: Forward = torch.compile(forward, fullgraph=True, dynamic=False)
    return compiled


class BackgroundForward:
    """A compiled forward that is made ready for one shape after the other by a thread of its own.

    Parameters
    ----------
    forward : the eager one
    sources : indices of all of them; all are computed, and the wanted ones are taken out behind it
    compile_ : makes the compiled one
    """

    def __init__(self, forward: Forward, sources: Sequence[int], compile_: Compile = compile_forward) -> None:
        self._forward = forward
        self._sources = tuple(sources)
        self._compile = compile_
        self._compiled: Forward | None = None
        self._lock = threading.Lock()
        self._asked: set[torch.Size] = set()
        self._ready: set[torch.Size] = set()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def is_ready(self, batch: torch.Tensor) -> bool:
        """Return whether this shape is compiled; if not, begin with it unless another is under way."""
        shape = batch.shape
        with self._lock:
            is_busy = self._thread is not None and self._thread.is_alive()
            is_open = not is_busy and not self._has_failed and len(self._asked) < MOST_SHAPES
            if shape not in self._asked and is_open:
                self._asked.add(shape)
                self._thread = threading.Thread(
                    target=self._make_ready, args=(shape, batch.device), name="compile", daemon=True
                )
                self._thread.start()
            return shape in self._ready

    def __call__(self, batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        """Return what the compiled forward makes of a shape that is ready."""
        assert self._compiled is not None
        return self._compiled(batch, self._sources)[:, list(sources)]

    def wait(self, timeout_s: float) -> bool:
        """Return whether no compilation is under way any more, after so long at most."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _make_ready(self, shape: torch.Size, device: torch.device) -> None:
        try:
            with torch.inference_mode():
                noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
                compiled = self._compiled or self._compile(self._forward)
                stems, expected = compiled(noise, self._sources), self._forward(noise, self._sources)
                difference = float((stems - expected).norm() / expected.norm())
            if not difference <= _LARGEST_DIFFERENCE:
                raise ArithmeticError(f"the compiled forward differs from the eager one by {difference:.3g}")
        except Exception:  # eager goes on, whatever a compiler or its C++ compiler ended in
            logger.warning("torch.compile failed for %s; the eager path stays", tuple(shape), exc_info=True)
            self._has_failed = True
            return
        with self._lock:
            self._compiled = compiled
            self._ready.add(shape)
        logger.info("compiled for %s", tuple(shape))
