"""CUDA graphs: one launch instead of the hundreds that a forward makes, which a small batch waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stembridge_daemon.worker.forward.base import Forward

MOST_GRAPHS = 8
"""Shapes kept at once; a job meets two or three."""


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    batch: torch.Tensor
    stems: torch.Tensor


class GraphedForward:
    """Runs a forward eagerly the first time that it meets a shape, and as a graph from then on.

    The eager run is also what makes the plans and handles of cuBLAS, cuDNN and cuFFT, which cannot be made
    while a graph is captured.

    Parameters
    ----------
    forward : of a CUDA device; asked for all sources it makes no tensor from host memory and waits for
        nothing
    sources : indices of all of them; a graph computes all, and the wanted ones are taken out behind it
    """

    def __init__(self, forward: Forward, sources: Sequence[int]) -> None:
        self._forward = forward
        self._sources = tuple(sources)
        self._met: set[torch.Size] = set()
        self._captured: dict[torch.Size, _Captured] = {}
        # Graphs that never run at the same time may share their memory: it is that of the largest alone.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        shape = batch.shape
        if shape not in self._met:
            stems = self._forward(batch, self._sources)
            self._met.add(shape)
            return stems[:, list(sources)]
        captured = self._captured.pop(shape, None) or self._capture(batch)
        self._captured[shape] = captured
        captured.batch.copy_(batch)
        captured.graph.replay()
        # A copy, as always with a list of indices: the next replay writes over the graph's own stems.
        return captured.stems[:, list(sources)]

    def _capture(self, batch: torch.Tensor) -> _Captured:
        while len(self._captured) >= MOST_GRAPHS:
            del self._captured[next(iter(self._captured))]
        own = batch.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            stems = self._forward(own, self._sources)
        return _Captured(graph, own, stems)
