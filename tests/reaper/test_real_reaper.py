"""In a real REAPER, where there is one: `REAPER_BIN=/path/to/reaper pytest tests/reaper/test_real_reaper.py`.

Nothing of the user's own REAPER is read or written: it runs on a resource folder of its own, without an audio
device, and ends by itself once "Check this REAPER" has written its report. Not run so far.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from daemon_harness import DaemonHarness, wait_until
from stage import write_cli
from stembridge import daemon_process
from stembridge.reaper.actions import file_stem
from stembridge.reaper.install import find_scripts, install
from stembridge.reaper.preferences import Preferences, write_preferences
from stembridge.reaper.threads.checking import UNATTENDED

REAPER = os.environ.get("REAPER_BIN", "")
LIMIT_S = 300.0
DUMMY_AUDIO = "[audioconfig]\nmode=2\n[reaper]\nlinux_audio_mode=2\nlinux_audio_srate=44100\nsaveopts=0\n"


@pytest.mark.skipif(not REAPER, reason="a real REAPER: set REAPER_BIN")
def test_this_reaper_passes_the_check(tmp_path: Path, home: Path) -> None:
    resource = tmp_path / "REAPER"
    resource.mkdir()
    (resource / "reaper.ini").write_text(DUMMY_AUDIO, "utf-8")
    # Nobody is there to answer the question that the check begins with.
    memory = json.dumps({UNATTENDED: "yes"})
    (resource / "reaper-extstate.ini").write_text(f"[stembridge]\nmemory={memory}\n", "utf-8")
    daemon = DaemonHarness(home)
    install(resource, daemon.settings, language="lua", cli=write_cli(tmp_path, home), scripts=find_scripts())
    write_preferences(daemon.settings.config_file.with_name("reaper.toml"), Preferences(model="preview"))
    script = resource / "Scripts" / "Stembridge" / "actions" / f"{file_stem('check')}.lua"
    command = [REAPER, "-cfgfile", str(resource / "reaper.ini"), "-newinst", "-nosplash", "-new", str(script)]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: bool(find_reports(daemon)), "the report", LIMIT_S)
        report = find_reports(daemon)[0].read_text("utf-8")
        print(report)
        assert "check passed" in report
    finally:
        process.kill()
        process.wait()
        if daemon_process.find(daemon.settings) is not None:
            daemon.adopt()
        daemon.close()


def find_reports(daemon: DaemonHarness) -> list[Path]:
    return list(daemon.settings.reaper_work_dir.glob("check-*/report.txt"))
