"""The command line where its entry point is not on the path: ``python -m stembridge.cli``."""

from stembridge.cli import run

run()
