#!/usr/bin/env python3
"""Runs a program that was built for CUDA without a GPU, a driver or a CUDA library, and counts what it asks of them.

Nothing is computed, all results are zeros; but memory, launches and recordings are those of a real run, and a page-locked
buffer that is filled anew before its copy was read is found every time. Needs a C compiler.

    python3 benches/device/stand_in.py target/release/dmmi-cli bench --device cuda --mode train --batch 8 --dtype bf16 \\
        --warmup 4 --iters 1 --no-parts

The exit status is the program's, or 1 where a buffer was changed too early.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

NAMES = ["libcuda.so.1", "libcuda.so", "libcublas.so.13", "libcublas.so", "libcublasLt.so.13", "libcublasLt.so", "libcudnn.so.9",
         "libcudnn.so", "libcurand.so.10", "libcurand.so"]


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    source = pathlib.Path(__file__).with_name("stand_in.c")
    with tempfile.TemporaryDirectory(prefix="dmmi-stand-in-") as folder:
        library = pathlib.Path(folder) / "stand_in.so"
        subprocess.run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-w", "-o", library, source, "-lpthread"], check=True)
        for name in NAMES:
            (pathlib.Path(folder) / name).symlink_to(library)
        env = os.environ | {"LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
        done = subprocess.run(sys.argv[1:], env=env, stderr=subprocess.PIPE, text=True, errors="replace")
    sys.stderr.write(done.stderr)
    early = [line for line in done.stderr.splitlines() if line.startswith("stand-in:") and "page-locked" in line]
    sys.exit(done.returncode or int(not early or ", 0 of them" not in early[-1]))


if __name__ == "__main__":
    main()
