"""The reader is fed damaged files for a while; it may only give rows or refuse them.

REFIT_FUZZ_SECONDS sets how long (20), REFIT_FUZZ_SEED where it begins (0); both are printed with what failed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

MUTANTS = Path(__file__).with_name("mutants.py")
PEAK_MB = 600


def test_damaged_files_are_rows_or_a_refusal_in_bounded_memory_and_never_end_the_process(tmp_path):
    seconds = float(os.environ.get("REFIT_FUZZ_SECONDS", "20"))
    seed = os.environ.get("REFIT_FUZZ_SEED", "0")
    command = [sys.executable, str(MUTANTS), str(tmp_path), str(seconds), seed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    upload = tmp_path / "upload"
    kept = f"seed {seed}; the file that was read last is {upload}, {upload.stat().st_size} bytes"
    assert done.returncode == 0, f"{kept}\n{done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert found["peak_mb"] < PEAK_MB, f"{kept}\n{found}"
    assert found["ends"]["rows"] > 0 and found["ends"]["unreadable"] > 0, "some are still whole, most are not"
