"""How many segments fit into a device at once, and how it says that they did not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

BATCH_SIZES = (1, 2, 4, 8, 16)
"""The only sizes that a graphics device gets: a batch between two of them is padded to the larger one, so
that few shapes occur and the same segments meet the same kernels."""

_SMALLEST_RESERVE_BYTES = 512 * 2**20
_RESERVE_SHARE = 0.1
"""What stays free for screens and other programs: this share of the device's memory, not less than the
above."""

_FULL_MEMORY_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "ALLOC_FAILED",
    # cuFFT has no room for its plan: pytorch issue 119420.
    "CUFFT_INTERNAL_ERROR",
)


@dataclass(frozen=True, slots=True)
class BatchNeed:
    """What a batch takes beside the weights: ``fixed_bytes``, and ``segment_bytes`` for each segment."""

    fixed_bytes: int
    segment_bytes: int

    def count_fitting(self, free_bytes: int) -> int:
        """Return the largest of `BATCH_SIZES` that fits, at least 1."""
        fitting = [size for size in BATCH_SIZES if self.fixed_bytes + size * self.segment_bytes <= free_bytes]
        return max(fitting, default=1)


def need_from_peaks(one_bytes: int, two_bytes: int) -> BatchNeed:
    """Return the need of which a batch of 1 and a batch of 2 took so much."""
    # A second segment that seems to cost less than half of the first met memory that was there already.
    segment = max(two_bytes - one_bytes, one_bytes // 2, 1)
    return BatchNeed(max(one_bytes - segment, 0), segment)


def measure_peak(compute: Callable[[], object], device: torch.device) -> int:
    """Return how many bytes of the device's memory ``compute`` takes at most, beside what was taken."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        compute()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # MPS keeps no peak; what its allocator holds after a call from an empty cache is one.
    torch.mps.empty_cache()
    before = torch.mps.driver_allocated_memory()
    compute()
    torch.mps.synchronize()
    return max(torch.mps.driver_allocated_memory() - before, 0)


def count_free_bytes(device: torch.device) -> int:
    """Return what batches may take of the device's memory: what is free, less the reserve.

    On CUDA half of it: a graph keeps its memory, and a compilation takes some, beside an eager batch.
    """
    empty_cache(device)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
    else:
        total = torch.mps.recommended_max_memory()
        free = total - torch.mps.driver_allocated_memory()
    usable = free - max(_SMALLEST_RESERVE_BYTES, int(_RESERVE_SHARE * total))
    return usable // 2 if device.type == "cuda" else usable


def empty_cache(device: torch.device) -> None:
    """Give back what the allocator keeps of the device's memory without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, in torch's words for any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _FULL_MEMORY_PHRASES)
