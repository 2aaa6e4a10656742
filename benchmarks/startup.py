"""How long a client takes to start over bare Python, and how long the front takes to answer.

Every variant is started in turn, round after round, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import write_report
from stembridge.client import Client
from stembridge.settings import load_settings

RESULT = Path(__file__).parent / "results" / "startup.json"
VARIANTS = {
    "bare python": ["-c", "pass"],
    "import stembridge": ["-c", "import stembridge"],
    "client": ["-c", "from stembridge import Client"],
    "command line": ["-c", "import stembridge.cli"],
    "stembridge --version": ["-c", "from stembridge.cli import main; main(['--version'])"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    milliseconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, arguments in VARIANTS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            milliseconds[name].append((time.perf_counter() - started) * 1000)
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    bare = medians["bare python"]
    figures = {f"{name}, ms over bare python": round(value - bare, 1) for name, value in medians.items()}
    figures["bare python, ms"] = round(bare, 1)
    figures["front from spawn to first answer, ms"] = round(statistics.median(front_starts(5)), 1)
    for name, value in figures.items():
        print(f"{value:8.1f}  {name}")
    write_report("startup", sys.argv, None, figures, options.json)


def front_starts(rounds: int) -> list[float]:
    """Return milliseconds from spawning a daemon in a fresh home to its answer, once per round."""
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="stembridge-") as folder:
            settings = load_settings(home=Path(folder), environ={})
            with Client(settings) as client:
                started = time.perf_counter()
                client.ping()
                found.append((time.perf_counter() - started) * 1000)
                client.stop(0.0)
                while settings.connection_file.exists():
                    time.sleep(0.01)
    return found


if __name__ == "__main__":
    main()
