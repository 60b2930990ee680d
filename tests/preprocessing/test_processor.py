"""Freed pages stay only as long as they are wanted."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from preprocessing.processor import freed_pages_kept

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

def faults_of(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(48 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = resident()
with freed_pages_kept():
    faults_of(1)
    kept, inside = resident() - before, faults_of(5)
print(kept, inside, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_freed_pages_stay_inside_and_go_at_the_end():
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, faults, left = map(int, told.stdout.split())
    assert kept >= 40  # the 48 MiB of the first array
    assert faults < 100  # of the 61440 pages that five arrays take
    assert left < 8
