"""Runs one fuzzer, or all: `GNNFAST_FUZZ_SECONDS=600 python -m tests.datasets.fuzz npy csv`."""

import faulthandler
import sys
import traceback

from tests.datasets.fuzz.formats import FORMATS
from tests.datasets.fuzz.fuzzing import fuzz_long

faulthandler.enable()
for name in sys.argv[1:] or FORMATS:
    print(f"== {name}", flush=True)
    try:
        fuzz_long(FORMATS[name])
        print(f"{name}: nothing found", flush=True)
    except BaseException:
        traceback.print_exc()
        print(f"{name}: FOUND", flush=True)
