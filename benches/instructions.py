#!/usr/bin/env python3
"""Counts the instructions of our training steps, which no other process on the machine can change.

    python3 benches/instructions.py [NAME ...]

builds `benches/step.rs`, runs it under valgrind's callgrind with few and with more steps, and prints Markdown: the
difference, per step, and what the first call takes beyond that (tracing and compiling), both with the change against
`benches/results/instructions.json`, which `--write` brings up to date. Repeated, a count per step stays
the same within a thousandth, so it shows a change of one per cent that no clock on a busy machine would.

Valgrind knows no AVX-512 and tells programs so: what is counted is the code for AVX2, on one thread. Emulated `fma`s
make it some thousand times slower than the machine, which is why `mixer` is left out unless it is named.
"""
import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from compare import build, short, table  # noqa: E402: nothing is to be left beside the benchmarks

NAMES = ["dispatch", "bnn", "mlp_tiny", "mlp", "adam_many", "elementwise"]
STORED = Path(__file__).resolve().parent / "results" / "instructions.json"
# The first steps still meet buffers that are not there yet.
FEW, MORE = 2, 12


def instructions(binary, name, steps):
    """Instructions of a whole run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(binary), name, f"--steps={steps}"]
    environment = dict(os.environ, FULGURITE_THREADS="1")
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError as error:
        sys.exit(f"instructions.py: {error}")
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"instructions.py: valgrind failed on {name}:\n{done.stderr}")
    return int(found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads; unless given: {', '.join(NAMES)}")
    parser.add_argument("--binary", type=Path, help="a `step` that is built already, instead of building it")
    parser.add_argument("--write", action="store_true", help=f"store the counts in {STORED.name}")
    args = parser.parse_args()
    binary, rows = args.binary or build("step"), []
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}

    def change(name, i, count):
        return f"{100 * (count / stored[name][i] - 1):+.1f} %" if name in stored else "new"

    for name in args.names or NAMES:
        none, few, more = (instructions(binary, name, steps) for steps in (0, FEW, MORE))
        step = (more - few) / (MORE - FEW)
        if step < 100:  # Less than any call takes: nothing ran.
            sys.exit(f"instructions.py: there is no workload {name}")
        first = few - none - FEW * step
        rows.append([name, short(step), change(name, 0, step), short(first), change(name, 1, first)])
        if args.write:
            stored[name] = [round(step), round(first)]
    print(table(["workload", "instructions per step", "change", "of the first call beyond", "change"], rows))
    if args.write:
        STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
