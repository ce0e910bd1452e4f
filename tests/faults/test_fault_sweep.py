"""A sample of the fault sweep, evenly spaced over scenarios, requests and faults; `make faults` is all of it."""

import subprocess
import sys

from faults.injection import FAULTS, Call
from faults.sweep import every
from moto_stack import ROOT

SPACING = 31  # a prime: each kind of fault has its turn; see scripts/sweep.py --every


def test_whatever_single_request_fails_all_is_well_in_the_end(capsys):
    """In a process of its own: the sweep forks, and other tests leave threads behind."""
    command = [sys.executable, str(ROOT / "scripts/sweep.py"), "--every", str(SPACING)]
    swept = subprocess.run(command, capture_output=True, text=True)
    with capsys.disabled():
        sys.stdout.write(f" {swept.stdout.splitlines()[-1] if swept.stdout else 'nothing was tried'} ")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    held = int(swept.stdout.splitlines()[-1].split()[0])
    assert held > 250


def test_the_sample_takes_every_fault_in_turn():
    wanted = every(SPACING)
    calls = [Call(position, "promote", "PutItem") for position in range(SPACING)]
    assert {fault for call in calls for fault in wanted(call)} == set(FAULTS)


def test_reads_meet_only_what_tells_them_apart():
    read, write = Call(0, "promote", "GetItem"), Call(0, "promote", "PutItem")
    assert set(write.faults) == set(FAULTS)
    assert {str(fault.kind) for fault in read.faults} == {
        "throttled",
        "error 500",
        "connection reset",
        "killed before",
    }
