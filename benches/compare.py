#!/usr/bin/env python3
"""Times the same training steps in fulgurite, JAX and PyTorch: in turn, in one run, on one machine.

    python3 benches/compare.py --python PATH_TO_VENV/bin/python

builds `benches/step.rs` once, then runs each workload in alternating rounds (ours, JAX, PyTorch, ours, ...), and prints
Markdown: medians, ratios, the share of the roofline, compile times, and what it ran on. A run of all workloads is also
written to benches/results/<date>-<cpu>.md; a run of some (`compare.py bnn mlp`) only with `--write`.

What the steps are is in `peers.py` and `benches/workloads/mod.rs`, how to read the result in benches/README.md.
Needs Python 3.9 and nothing else; JAX and PyTorch are those of `--python`, and one that is missing is a missing column.
"""
import argparse
import datetime
import importlib.util
import json
import math
import os
import platform
import re
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# In the order of peers.py. What one side lacks is a dash in the table.
WORKLOADS = [
    "dispatch", "bnn", "mlp_tiny", "mlp", "adam_many", "cnn", "mixer", "mixer_b4", "elementwise", "elementwise_big",
]
TITLES = {"ours": "fulgurite", "jax": "JAX jit", "torch": "PyTorch eager", "compile": "torch.compile"}
# Thread pools of one contestant may spin for a while after its round; the next one starts when they sleep.
PAUSE_S = 0.3
TIMEOUT_S = 900


class Failed(Exception):
    """A contestant that is out of the race for one workload; the text is the reason."""


# ---- what runs in the peers' Python

def answers():
    """A way to answer the parent in lines of JSON. Whatever the libraries print goes to standard error."""
    file = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lambda **answer: print(json.dumps(answer), file=file, flush=True)


def worker(peer, peers_path, name):
    """Holds one workload of one peer: makes it, runs it once, then times it once for each line that comes in."""
    answer = answers()
    try:
        spec = importlib.util.spec_from_file_location("peers", peers_path)
        peers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(peers)
        workloads = peers.jax_workloads() if peer == "jax" else peers.torch_workloads(peer == "compile")
    except ImportError as error:
        return answer(missing=str(error))
    if name not in workloads:
        return answer(absent=True)
    try:
        run = workloads[name]()
        # What the first call of a step takes: tracing, compiling, one step. Making the parameters is not part of it.
        start = time.perf_counter()
        run()
        answer(first_s=time.perf_counter() - start, versions=versions(peer))
        for _ in sys.stdin:
            answer(us=peers.timeit(run))
    except Exception as error:  # The libraries raise whatever they like; the table says what.
        lines = str(error).strip().splitlines() or [""]
        answer(failed=f"{type(error).__name__}: {lines[0][:160]}")


def versions(peer):
    """The versions that matter, and the threads in use."""
    names = ["jax", "jaxlib", "optax"] if peer == "jax" else ["torch"]
    found = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    found["Python"] = platform.python_version()
    if peer != "jax":
        found["threads"] = sys.modules["torch"].get_num_threads()
    return found


def probe(sizes):
    """What one core can do: GFLOP/s of a matrix product in f32, and for each size GB/s of reading and writing it."""
    answer = answers()
    try:
        import numpy as np
    except ImportError as error:
        return answer(missing=str(error))

    def best(step, least_s=0.4):
        step()
        took, end = math.inf, time.perf_counter() + least_s
        while time.perf_counter() < end:
            start = time.perf_counter()
            step()
            took = min(took, time.perf_counter() - start)
        return took

    n = 1024
    x, y, out = (np.ones((n, n), np.float32) for _ in range(3))
    gflops = 2 * n**3 / best(lambda: np.matmul(x, y, out=out), 2.0) / 1e9

    def gbs(size):
        # `a += 1` reads and writes each byte once: half of the size is the array. The call itself is to vanish in it.
        a = np.zeros(max(size, 1 << 16) // 8, np.float32)
        return 2 * a.nbytes / best(lambda: np.add(a, np.float32(1), out=a)) / 1e9

    answer(gflops=gflops, gbs={str(size): gbs(size) for size in sizes}, numpy=np.__version__)


# ---- the contestants, seen from here

class Peer:
    """A workload of a peer in a process of its own, compiled once and kept from round to round."""

    def __init__(self, args, peer, name):
        self.errors = tempfile.TemporaryFile("w+")
        environment = dict(os.environ, JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="")
        command = [args.python, __file__, "--worker", peer, "--peers", str(args.peers), name]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment)
        except OSError as error:
            raise Failed(f"{args.python}: {error}") from error
        ready = self.answer()
        self.first_s, self.versions = ready["first_s"], ready["versions"]

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        line = self.process.stdout.readline() if ready else ""
        answer = json.loads(line) if line else {}
        if "us" in answer or "first_s" in answer:
            return answer
        self.close()
        if "missing" in answer or "absent" in answer:
            raise Failed("missing" if "missing" in answer else "absent", answer.get("missing", ""))
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or [f"exit code {self.process.returncode}"])[-1]
        raise Failed(answer.get("failed") or (last if ready else f"no answer in {TIMEOUT_S} s"))

    def time(self):
        """Microseconds per step in one round."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has died; its last words are read below.
        return self.answer()["us"]

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()


class Ours:
    """A workload of ours: compiled anew in each round, which takes milliseconds."""

    def __init__(self, binary, name):
        self.command = [str(binary), name, "--json"]
        self.firsts, self.facts = [], None

    def time(self):
        """Microseconds per step in one round."""
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(str(error)) from error
        if done.returncode != 0:
            raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        if not done.stdout.strip():
            raise Failed("absent")
        self.facts = json.loads(done.stdout)
        self.firsts.append(self.facts["first_ms"] / 1e3)
        return self.facts["us"]

    def close(self):
        """Nothing lives between rounds."""


def measure(args, binary, name, contestants):
    """All rounds of one workload: for each contestant its times in microseconds, its first call in seconds, notes."""
    racing, result = {}, {"name": name, "us": {}, "first_s": {}, "notes": {}, "facts": None, "versions": {}}
    for who in contestants:
        try:
            racing[who] = Ours(binary, name) if who == "ours" else Peer(args, who, name)
        except Failed as reason:
            result["notes"][who] = reason.args
    try:
        for turn in range(args.rounds):
            order = list(racing)
            # Each round starts with another one, so that no one is always behind the same.
            for who in order[turn % len(order):] + order[:turn % len(order)]:
                time.sleep(PAUSE_S)
                try:
                    result["us"].setdefault(who, []).append(racing[who].time())
                except Failed as reason:
                    result["notes"][who] = reason.args
                    result["us"].pop(who, None)
                    racing.pop(who).close()
            if not racing:
                break
        for who in racing:
            ours = who == "ours"
            result["first_s"][who] = statistics.median(racing[who].firsts) if ours else racing[who].first_s
            result["versions"][who] = {} if ours else racing[who].versions
        if "ours" in racing:
            result["facts"] = racing["ours"].facts
    finally:
        for contestant in racing.values():
            contestant.close()
    return result


# ---- what it ran on

def command_output(*command):
    """The first line of a command's output; empty when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


def cpu():
    """The name of the processor, and which vectors it has."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return command_output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine(), ""
    name = re.search(r"^model name\s*:\s*(.+)$", info, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.M)
    flags = flags[1].split() if flags else []
    vectors = next((title for flag, title in [("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")] if flag in flags), "")
    return name[1].strip() if name else platform.machine(), vectors


class Others:
    """What other processes took of the machine since this was made (Linux). The peers and ours are our children."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        """Seconds: of all that ran, of what we ran, of the clock."""
        try:
            fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal: neither idle nor waiting.
        busy = (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return busy, sum(u.ru_utime + u.ru_stime for u in used), time.monotonic()

    def describe(self):
        """As a sentence."""
        if self.start is None:
            return "What other processes took is unknown."
        busy, own, wall = (end - start for start, end in zip(self.start, self.now()))
        share = max(0.0, (busy - own) / (wall * os.cpu_count()))
        text = f"Other processes took {100 * share:.0f} % of the machine during the rounds"
        return f"**{text}: do not believe these numbers.**" if share > 0.05 else f"{text}."


def cores():
    """How many cores this process and its children may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def build():
    """Builds the benchmark and gives the path of its binary."""
    command = ["cargo", "bench", "--bench", "step", "--no-run", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("compare.py: the benchmark does not build (see above)")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == "step" and "bench" in message["target"]["kind"]:
            return message["executable"]
    sys.exit("compare.py: cargo names no binary for the benchmark `step`")


def run_probe(args, results):
    """GFLOP/s and GB/s of one core, for the workloads' sizes: measured, or as the flags say."""
    sizes = sorted({int(r["facts"]["bytes"]) for r in results if r["facts"]})
    if args.gflops and args.gbs:
        return {"gflops": args.gflops, "gbs": {str(size): args.gbs for size in sizes}, "by": "given by flags"}
    one = {name: "1" for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]}
    command = [args.python, __file__, "--probe", *map(str, sizes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=dict(os.environ, **one))
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    if "missing" in found:
        return None
    found["by"] = f"measured with NumPy {found['numpy']}"
    if args.gflops:
        found["gflops"], found["by"] = args.gflops, found["by"] + "; GFLOP/s given by a flag"
    if args.gbs:
        found["gbs"], found["by"] = {str(size): args.gbs for size in sizes}, found["by"] + "; GB/s given by a flag"
    return found


# ---- the report

def sig(x, digits=3):
    """`x` with three significant digits: 0.301, 16.4, 2,850."""
    if x == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(x)))
    return f"{round(x, places):,.{max(places, 0)}f}"


def short(x):
    """`x` with three digits and a prefix: 155 k, 9.91 G."""
    power = min(int(math.log10(max(x, 1)) // 3), 4)
    return f"{sig(x / 1000**power)} {' kMGT'[power]}" if power else f"{x:g}"


def count(x):
    """A whole number with at most three digits that are not 0: 4, 1,230."""
    return f"{round(x, -max(0, len(str(x)) - 3)):,}"


def table(head, rows):
    """Markdown; the first column is text."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(head), "|---|" + "---:|" * (len(head) - 1), *map(line, rows)]) + "\n"


def catch_up(ours, other):
    """After how many steps the other library is done first, from (seconds of the first call, seconds per step)."""
    (first, step), (other_first, other_step) = ours, other
    if other_step < step:
        return "from the first" if other_first <= first else count(math.ceil((other_first - first) / (step - other_step)))
    return "never" if other_first >= first else f"until {count(math.ceil((first - other_first) / max(other_step - step, 1e-12)))}"


def report(args, results, contestants, peak, started, others):
    """All that was found, as Markdown."""
    name, vectors = cpu()
    median = {(r["name"], who): statistics.median(us) for r in results for who, us in r["us"].items()}
    cell = lambda key, show=sig: show(median[key]) if key in median else "—"
    peers = [who for who in contestants if who != "ours"]

    rows, rounds, firsts, shares = [], [], [], []
    for r in results:
        w, ours = r["name"], median.get((r["name"], "ours"))
        ratio = lambda who: f"{ours / median[w, who]:.3f}" if ours and (w, who) in median else "—"
        fastest = min((median[w, who] for who in peers if (w, who) in median), default=None)
        times = f"**{sig(fastest / ours)}×**" if ours and fastest else "—"
        rows.append([w, *(cell((w, who)) for who in ["ours", *peers]), *map(ratio, peers), times])
        spread = lambda who: " ".join(map(sig, r["us"][who])) if who in r["us"] else "—"
        rounds.append([w, *map(spread, ["ours", *peers])])
        took = lambda who: sig(r["first_s"][who] * 1e3) if who in r["first_s"] else "—"
        pair = lambda who: (r["first_s"][who], median[w, who] / 1e6)
        caught = lambda who: catch_up(pair("ours"), pair(who)) if {who, "ours"} <= set(r["first_s"]) else "—"
        firsts.append([w, *map(took, ["ours", *peers]), *map(caught, peers)])
        if r["facts"] and peak:
            flops, size = r["facts"]["flops"], r["facts"]["bytes"]
            gbs = peak["gbs"][str(int(size))]
            floor = max(flops / peak["gflops"] / 1e3, size / gbs / 1e3)
            shares.append([w, short(flops), short(size), sig(gbs), sig(floor), f"{100 * floor / ours:.1f} %"])

    title = [TITLES[who] for who in peers]
    text = f"# The same training steps in {', '.join([TITLES['ours'], *title])}\n\n"
    commit = command_output("git", "rev-parse", "--short", "HEAD") or "unknown"
    dirty = " with uncommitted changes" if command_output("git", "status", "--porcelain") else ""
    facts = [
        f"Date: {started:%Y-%m-%d %H:%M} UTC.",
        f"Machine: {name}{f', {vectors}' if vectors else ''}, {cores()} cores in use, {platform.system()} {platform.release()}.",
        others,
        f"fulgurite: commit {commit}{dirty}, {command_output('rustc', '--version')}, 1 thread.",
    ]
    for who in peers:
        found = next((r["versions"][who] for r in results if who in r["versions"]), None)
        if found:
            threads = found.get("threads", f"{cores()} cores")
            facts.append(f"{TITLES[who]}: {', '.join(f'{k} {v}' for k, v in found.items() if k != 'threads')}; threads: {threads}.")
    facts.append(f"Each number is the median of {args.rounds} rounds in turn; a round is the median of 5 repetitions of 0.3 s.")
    text += "\n".join(f"- {fact}" for fact in facts) + "\n\n"
    text += "## Microseconds per step\n\nForward, backward and optimiser update; `ours ÷` below 1 is faster than the peer.\n\n"
    head = ["workload", TITLES["ours"], *title, *(f"ours ÷ {t}" for t in title), "times as fast as the fastest peer"]
    text += table(head, rows) + "\n"
    if shares:
        text += (f"## Share of the roofline\n\nOne core: {peak['gflops']:.0f} GFLOP/s in f32, and GB/s at each workload's own "
                 f"size ({peak['by']}).\nThe floor is the slower of computing the FLOPs and moving the bytes.\n\n")
        text += table(["workload", "FLOPs", "bytes", "GB/s", "floor µs", "ours"], shares) + "\n"
    text += ("## First call\n\nMilliseconds of the first call (tracing, compiling, one step), and after how many steps the "
             "peer would have caught up.\n`until n`: the peer is ahead for the first n steps.\n\n")
    text += table(["workload", TITLES["ours"], *title, *(f"{t} catches up" for t in title)], firsts) + "\n"
    text += "## Rounds\n\nMicroseconds per step of each round.\n\n" + table(["workload", TITLES["ours"], *title], rounds)
    notes = [f"{r['name']}, {TITLES[who]}: {' '.join(why)}" for r in results for who, why in r["notes"].items()
             if why[0] not in ("absent", "missing")]
    lacking = [r["name"] for r in results if r["notes"].get("ours", ("",))[0] == "absent"]
    if lacking:
        notes.append(f"fulgurite cannot express yet: {', '.join(lacking)}")
    missing = {who: " ".join(why[1:]) for r in results for who, why in r["notes"].items() if why[0] == "missing"}
    notes += [f"{TITLES[who]} is missing: {why} ({args.python})" for who, why in missing.items()]
    if notes:
        text += "\n## Notes\n\n" + "\n".join(f"- {note}." for note in notes) + "\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads; all unless given: {', '.join(WORKLOADS)}")
    parser.add_argument("--python", default="python3", help="the Python that has JAX and PyTorch (a venv's bin/python)")
    parser.add_argument("--peers", type=Path, default=ROOT / "../shared/peers/peers.py", help="the peers' workloads")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each workload (3)")
    parser.add_argument("--compile", action="store_true", help="also torch.compile; needs a C++ compiler and Python.h")
    parser.add_argument("--cores", type=int, help="bind everyone to this many cores (all, unless given; Linux)")
    parser.add_argument("--gflops", type=float, help="peak of one core in f32 GFLOP/s, instead of the probe")
    parser.add_argument("--gbs", type=float, help="memory bandwidth of one core in GB/s, instead of the probe")
    parser.add_argument("--binary", type=Path, help="a benchmark that is built already, instead of building it")
    parser.add_argument("--write", action="store_true", help="write the result even of some workloads")
    parser.add_argument("--worker", choices=["jax", "torch", "compile"], help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.peers, args.names[0])
    if args.probe:
        return probe([int(size) for size in args.names])

    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    unknown = [name for name in args.names if name not in WORKLOADS]
    if unknown:
        parser.error(f"there is no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if args.cores:
        if not hasattr(os, "sched_setaffinity"):
            parser.error("--cores needs Linux")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.cores])
    started = datetime.datetime.now(datetime.timezone.utc)
    binary = args.binary or build()
    contestants = ["ours", "jax", "torch"] + (["compile"] if args.compile else [])
    if not args.peers.exists():
        print(f"compare.py: there is no {args.peers}; timing ours alone", file=sys.stderr)
        contestants = ["ours"]
    results, others = [], Others()
    for name in args.names or WORKLOADS:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        results.append(measure(args, binary, name, contestants))
        seen = [f"{TITLES[who]} {sig(statistics.median(us))} us" for who, us in results[-1]["us"].items()]
        print(", ".join(seen), file=sys.stderr)
        # A library that is not there is not asked again.
        contestants = [who for who in contestants if results[-1]["notes"].get(who, ("",))[0] != "missing"]
    busy = others.describe()
    text = report(args, results, contestants, run_probe(args, results), started, busy)
    print(text)
    if args.write or not args.names:
        slug = re.sub(r"[^a-z0-9]+", "-", cpu()[0].lower()).strip("-")
        path = HERE / "results" / f"{started:%Y-%m-%d}-{slug}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(f"compare.py: wrote {os.path.relpath(path)}", file=sys.stderr)


if __name__ == "__main__":
    main()
