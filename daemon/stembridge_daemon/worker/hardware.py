"""What torch can use on this machine. Run as a module it prints that as JSON, for `stembridge doctor`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True, slots=True)
class Hardware:
    """``cuda_build`` is the CUDA version torch was built for, '' for a CPU build; ``device`` the best one."""

    torch: str
    cuda_build: str
    device: str
    device_name: str
    threads: int


def best_device() -> str:
    """Return the fastest device that torch can use here: 'cuda', 'mps' or 'cpu'."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def describe() -> Hardware:
    """Return what torch sees."""
    device = best_device()
    return Hardware(
        torch=torch.__version__,
        cuda_build=torch.version.cuda or "",
        device=device,
        device_name=torch.cuda.get_device_name() if device == "cuda" else device,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(describe())) + "\n")
