#!/usr/bin/env python3
"""Times the same training steps in fulgurite, JAX and PyTorch: in turn, in one run, on one machine.

    python3 benches/compare.py --python PATH_TO_VENV/bin/python

builds `benches/step.rs` once, then runs each workload in alternating rounds (ours, JAX, PyTorch, ours, ...), and prints
Markdown: medians, ratios, the share of the roofline, compile times, and what it ran on. A run of all workloads is also
written to benches/results/<date>-<cpu>.md; a run of some (`compare.py bnn mlp`) only with `--write`.

    --rust-peers   also Candle and Burn, which it builds from benches/peers/
    --scaling      the step `mlp` with batches from 1 to 4,096 instead of the workloads
    --gemm         matrix products on one thread beside PyTorch's on one thread, GFLOP/s (benches/gemm.rs)
    --throughput   elementwise functions likewise, elements per ns and GB/s (benches/throughput.rs)

What the steps are is in `benches/peers/peers.py` and `benches/workloads/mod.rs`, how to read the result in benches/README.md.
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
    "scan", "mlp_f64", "transformer", "graph",
]
# The step `mlp` with other batches: what follows the @.
SCALING = [f"mlp@{batch}" for batch in (1, 4, 16, 64, 256, 1024, 4096)]
TITLES = {
    "ours": "fulgurite", "jax": "JAX jit", "torch": "PyTorch eager", "compile": "torch.compile", "candle": "Candle",
    "burn": "Burn (flex)",
}
# Peers that are programs, in benches/peers/, and the crate that gives each its version.
RUST_PEERS = {"candle": "candle-core", "burn": "burn"}
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
    base, _, batch = name.partition("@")
    if base not in workloads:
        return answer(absent=True)
    try:
        run = workloads[base](B=int(batch)) if batch else workloads[base]()
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


def torch_product(torch, case):
    """The product of one of our lines of JSON."""
    batch, m, n, k = case["shape"]
    first, second = case["transposed"]
    a = torch.rand(batch, k, m).transpose(1, 2) if first else torch.rand(batch, m, k)
    b = torch.rand(batch, n, k).transpose(1, 2) if second else torch.rand(batch, k, n)
    out = torch.empty(batch, m, n)
    if batch == 1:
        a, b, out = a[0], b[0], out[0]
    return lambda: torch.matmul(a, b, out=out)


def torch_function(torch, case):
    """The function of one of our lines of JSON."""
    args = [0.1 + 3.9 * torch.rand(case["elements"]) for _ in range(case["reads"])]
    out, name = torch.empty(case["elements"]), case["name"]
    # These two take `out=` only where PyTorch keeps what its public functions call.
    if name == "gelu":
        return lambda: torch._C._nn.gelu(*args, approximate="tanh", out=out)
    function = torch._C._nn.softplus if name == "softplus" else getattr(torch, name)
    return lambda: function(*args, out=out)


def torch_rates(bench):
    """Times in PyTorch, on one thread, the cases of a benchmark of ours, which come in as JSON."""
    answer = answers()
    try:
        import torch
    except ImportError as error:
        return answer(missing=str(error))
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    def microseconds(run):
        """As `time` in gemm.rs: the median of nine groups."""
        run()
        start = time.perf_counter()
        run()
        count = max(1, int(0.02 / max(time.perf_counter() - start, 1e-7)))
        groups = []
        for _ in range(9):
            start = time.perf_counter()
            for _ in range(count):
                run()
            groups.append((time.perf_counter() - start) / count)
        return statistics.median(groups) * 1e6

    make = torch_product if bench == "gemm" else torch_function
    answer(us=[microseconds(make(torch, case)) for case in json.load(sys.stdin)], versions=versions("torch"))


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


class Program:
    """A workload of a program (ours, or a peer in Rust), which starts and compiles anew in each round."""

    def __init__(self, binary, name, versions):
        self.command = [str(binary), name, "--json"]
        self.firsts, self.facts, self.versions = [], None, versions

    @property
    def first_s(self):
        """Seconds of the first call."""
        return statistics.median(self.firsts)

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


def measure(args, programs, name, contestants):
    """All rounds of one workload: for each contestant its times in microseconds, its first call in seconds, notes."""
    racing, result = {}, {"name": name, "us": {}, "first_s": {}, "notes": {}, "facts": None, "versions": {}}
    for who in contestants:
        try:
            racing[who] = Program(programs[who], name, pinned(who)) if who in programs else Peer(args, who, name)
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
            result["first_s"][who], result["versions"][who] = racing[who].first_s, racing[who].versions
        if "ours" in racing:
            result["facts"] = racing["ours"].facts
    finally:
        for contestant in racing.values():
            contestant.close()
    return result


def measure_rates(args, bench, binary):
    """All rounds of a benchmark of many short cases: the cases, for each its times in microseconds (ours, PyTorch's),
    PyTorch's versions or why it is missing."""
    one = {name: "1" for name in ["FULGURITE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]}
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES="", **one)

    def output(command, text=None):
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(f"compare.py: {command[0]} failed (see above)")
        return done.stdout

    ours, theirs = [], []
    for _ in range(args.rounds):
        cases = [json.loads(line) for line in output([str(binary), "--json", *args.names]).splitlines()]
        ours.append([case["us"] for case in cases])
        time.sleep(PAUSE_S)
        found = json.loads(output([args.python, __file__, "--worker", bench], json.dumps(cases)))
        theirs.append(found.get("us", [None] * len(cases)))
    medians = lambda rounds: [None if None in us else statistics.median(us) for us in zip(*rounds)]
    return cases, list(zip(medians(ours), medians(theirs))), found


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


def bind(count):
    """Binds this process and its children to so many cores, where the system can (Linux)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
        # Candle starts a thread for each core of the machine, bound or not, unless it is told.
        os.environ["RAYON_NUM_THREADS"] = str(count)


def cargo(command, target, **environment):
    """Builds with cargo, and gives the path of the binary of a target."""
    command = ["cargo", *command, "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ, **environment))
    if done.returncode != 0:
        sys.exit(f"compare.py: {target} does not build (see above)")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == target:
            return message["executable"]
    sys.exit(f"compare.py: cargo names no binary for {target}")


def build(bench):
    """Builds a benchmark of ours."""
    return cargo(["bench", "--bench", bench, "--no-run"], bench)


def build_peer(who):
    """Builds a peer in Rust. They choose their vectors when they are compiled, unlike everyone else here."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers"
    command = ["build", "--release", "--locked", "--manifest-path", str(HERE / "peers" / who / "Cargo.toml")]
    return cargo([*command, "--target-dir", str(folder)], f"peer-{who}", RUSTFLAGS="-C target-cpu=native")


def pinned(who):
    """The version of a peer in Rust, as its manifest pins it."""
    if who not in RUST_PEERS:
        return {}
    manifest = (HERE / "peers" / who / "Cargo.toml").read_text()
    return {RUST_PEERS[who]: re.search(rf'^{RUST_PEERS[who]} = .*?"=([^"]+)"', manifest, re.M)[1]}


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


def heading(title, started, others, threads, versions, how):
    """The title, and what the numbers were taken on."""
    name, vectors = cpu()
    commit = command_output("git", "rev-parse", "--short", "HEAD") or "unknown"
    dirty = " with uncommitted changes" if command_output("git", "status", "--porcelain") else ""
    facts = [
        f"Date: {started:%Y-%m-%d %H:%M} UTC.",
        f"Machine: {name}{f', {vectors}' if vectors else ''}, {cores()} of {os.cpu_count()} cores in use, {platform.system()} {platform.release()}.",
        others,
        f"fulgurite: commit {commit}{dirty}, {command_output('rustc', '--version')}; threads: {threads}.",
    ]
    for who, found in versions.items():
        used = found.get("threads", f"{cores()} cores")
        facts.append(f"{TITLES[who]}: {', '.join(f'{k} {v}' for k, v in found.items() if k != 'threads')}; threads: {used}.")
    return f"# {title}\n\n" + "\n".join(f"- {fact}" for fact in [*facts, how]) + "\n\n"


def steps_section(results, peers, median):
    """The comparison itself: microseconds, ratios, and when the fastest peer has made up for its first call."""
    rows = []
    for r in results:
        w, ours = r["name"], median.get((r["name"], "ours"))
        cell = lambda who: sig(median[w, who]) if (w, who) in median else "—"
        ratio = lambda who: f"{ours / median[w, who]:.3f}" if ours and (w, who) in median else "—"
        fastest = min((who for who in peers if (w, who) in median), key=lambda who: median[w, who], default=None)
        times = f"**{sig(median[w, fastest] / ours)}×**" if ours and fastest else "—"
        rows.append([w, *map(cell, ["ours", *peers]), *map(ratio, peers), times, caught(r, fastest, median)])
    titles = [TITLES[who] for who in peers]
    head = ["workload", TITLES["ours"], *titles, *(f"ours ÷ {t}" for t in titles), "times as fast as the fastest peer",
            "which catches up"]
    return ("## Microseconds per step\n\nForward, backward and optimiser update; `ours ÷` below 1 is faster than the peer.\n"
            "The last column is the number of steps after which the fastest peer, its first call included, has taken less "
            "time in total; `until n`: it is ahead for the first n steps alone.\n\n" + table(head, rows) + "\n")


def caught(result, who, median):
    """After how many steps a peer catches up with us in one workload."""
    if not {who, "ours"} <= set(result["first_s"]):
        return "—"
    pair = lambda one: (result["first_s"][one], median[result["name"], one] / 1e6)
    return catch_up(pair("ours"), pair(who))


def roofline_section(results, median, peak):
    """What the cores could do at best, and our share of it."""
    rows, count = [], cores()
    for r in results:
        if not r["facts"] or not peak:
            continue
        flops, size = r["facts"]["flops"], r["facts"]["bytes"]
        gbs = peak["gbs"][str(int(size))] * count
        floor = max(flops / (peak["gflops"] * count) / 1e3, size / gbs / 1e3)
        share = f"{100 * floor / median[r['name'], 'ours']:.1f} %"
        rows.append([r["name"], short(flops), short(size), sig(gbs), sig(floor), share])
    if not rows:
        return ""
    return (f"## Share of the roofline\n\nOne core: {peak['gflops']:.0f} GFLOP/s in f32, and GB/s at each workload's own "
            f"size ({peak['by']}); here times {count}.\nThe floor is the slower of computing the FLOPs and moving the "
            "bytes.\n\n"
            + table(["workload", "FLOPs", "bytes", "GB/s", "floor µs", "ours"], rows) + "\n")


def first_section(results, peers, median):
    """The first calls, and when each peer catches up."""
    rows = []
    for r in results:
        took = lambda who: sig(r["first_s"][who] * 1e3) if who in r["first_s"] else "—"
        rows.append([r["name"], *map(took, ["ours", *peers]), *(caught(r, who, median) for who in peers)])
    titles = [TITLES[who] for who in peers]
    return ("## First call\n\nMilliseconds of the first call (tracing, compiling, one step), and after how many steps the "
            "peer would have caught up.\n`until n`: the peer is ahead for the first n steps.\n\n"
            + table(["workload", TITLES["ours"], *titles, *(f"{t} catches up" for t in titles)], rows) + "\n")


def rounds_section(results, peers):
    """Every number that was taken."""
    spread = lambda r, who: " ".join(map(sig, r["us"][who])) if who in r["us"] else "—"
    rows = [[r["name"], *(spread(r, who) for who in ["ours", *peers])] for r in results]
    head = ["workload", TITLES["ours"], *(TITLES[who] for who in peers)]
    return "## Rounds\n\nMicroseconds per step of each round.\n\n" + table(head, rows)


def notes_section(results, python):
    """Who failed, and who is not there."""
    notes = [f"{r['name']}, {TITLES[who]}: {' '.join(why)}" for r in results for who, why in r["notes"].items()
             if why[0] not in ("absent", "missing")]
    lacking = [r["name"] for r in results if r["notes"].get("ours", ("",))[0] == "absent"]
    if lacking:
        notes.append(f"fulgurite cannot express yet: {', '.join(lacking)}")
    missing = {who: " ".join(why[1:]) for r in results for who, why in r["notes"].items() if why[0] == "missing"}
    notes += [f"{TITLES[who]} is missing: {why} ({python})" for who, why in missing.items()]
    return "\n## Notes\n\n" + "\n".join(f"- {note}." for note in notes) + "\n" if notes else ""


def report(args, results, contestants, peak, started, others):
    """All that was found, as Markdown."""
    median = {(r["name"], who): statistics.median(us) for r in results for who, us in r["us"].items()}
    peers = [who for who in contestants if who != "ours"]
    versions = {who: r["versions"][who] for r in results for who in peers if who in r["versions"]}
    threads = f"at most {os.environ.get('FULGURITE_THREADS', cores())}"
    title = f"The same training steps in {', '.join(TITLES[who] for who in contestants)}"
    how = f"Each number is the median of {args.rounds} rounds in turn; a round is the median of 5 repetitions of 0.3 s."
    return (heading(title, started, others, threads, versions, how) + steps_section(results, peers, median)
            + roofline_section(results, median, peak) + first_section(results, peers, median)
            + rounds_section(results, peers) + notes_section(results, args.python))


def rates_report(args, bench, measured, started, others):
    """Products or elementwise functions beside PyTorch's, as Markdown."""
    cases, times, found = measured
    versions = {"torch": found["versions"]} if "versions" in found else {}
    how = f"Each number is the median of {args.rounds} rounds in turn; a round is the median of 9 groups of 20 ms."
    ratio = lambda us: f"{sig(us[1] / us[0])}×" if us[1] else "—"
    rate = lambda work, us: sig(work / us / 1e3) if us else "—"
    rows = []
    for case, us in zip(cases, times):
        if bench == "gemm":
            flops = 2 * math.prod(case["shape"])
            transposed = "".join(f"{matrix}ᵀ" for matrix, is_so in zip("AB", case["transposed"]) if is_so)
            label = [case["name"], "×".join(map(str, case["shape"])), transposed]
            rows.append([*label, *(rate(flops, one) for one in us), ratio(us)])
        else:
            elements, size = case["elements"], 4 * (case["reads"] + 1) * case["elements"]
            label = [case["name"], f"{case['level']} ({elements:,})"]
            rows.append([*label, *(rate(work, one) for one in us for work in (elements, size)), ratio(us)])
    ours, torch = TITLES["ours"], "PyTorch"
    if bench == "gemm":
        title = "Matrix products, one thread"
        head = ["product", "batch×m×n×k", "transposed", f"{ours} GFLOP/s", f"{torch} GFLOP/s", f"times {torch}"]
    else:
        title = "Elementwise functions, one thread"
        head = ["function", "elements", *(f"{who} {unit}" for who in (ours, torch) for unit in ("elements/ns", "GB/s")),
                f"times {torch}"]
    missing = f"\nPyTorch is missing: {found['missing']} ({args.python}).\n" if "missing" in found else ""
    return heading(title, started, others, 1, versions, how) + table(head, rows) + missing


def save(text, started, kind=""):
    """Writes a result."""
    slug = re.sub(r"[^a-z0-9]+", "-", cpu()[0].lower()).strip("-")
    path = HERE / "results" / f"{started:%Y-%m-%d}-{slug}{kind}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(f"compare.py: wrote {os.path.relpath(path)}", file=sys.stderr)


def compare_rates(args, bench):
    """`--gemm` and `--throughput`."""
    started, binary = datetime.datetime.now(datetime.timezone.utc), args.binary or build(bench)
    # One thread for everyone, and always on the same core.
    bind(args.cores or 1)
    others = Others()
    measured = measure_rates(args, bench, binary)
    text = rates_report(args, bench, measured, started, others.describe())
    print(text)
    if args.write:
        save(text, started, f"-{bench}")


def compare_steps(args, names):
    """The workloads, or `--scaling`."""
    started = datetime.datetime.now(datetime.timezone.utc)
    programs = {"ours": args.binary or build("step")}
    contestants = ["ours", "jax", "torch"] + (["compile"] if args.compile else [])
    if not args.peers.exists():
        print(f"compare.py: there is no {args.peers}; JAX and PyTorch are left out", file=sys.stderr)
        contestants = ["ours"]
    if args.rust_peers:
        programs.update({who: build_peer(who) for who in RUST_PEERS})
        contestants += RUST_PEERS
    if args.cores:
        bind(args.cores)
    results, others = [], Others()
    for name in names:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        results.append(measure(args, programs, name, contestants))
        seen = [f"{TITLES[who]} {sig(statistics.median(us))} us" for who, us in results[-1]["us"].items()]
        print(", ".join(seen), file=sys.stderr)
        # A library that is not there is not asked again.
        contestants = [who for who in contestants if results[-1]["notes"].get(who, ("",))[0] != "missing"]
    busy = others.describe()
    text = report(args, results, contestants, run_probe(args, results), started, busy)
    print(text)
    if args.write or names == WORKLOADS:
        save(text, started, "-scaling" if args.scaling else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads (or shapes, or functions); all unless given: {', '.join(WORKLOADS)}")
    parser.add_argument("--python", default="python3", help="the Python that has JAX and PyTorch (a venv's bin/python)")
    parser.add_argument("--peers", type=Path, default=HERE / "peers/peers.py", help="the peers' workloads")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each workload (3)")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--gemm", action="store_true", help="matrix products beside PyTorch's, on one thread")
    kinds.add_argument("--throughput", action="store_true", help="elementwise functions beside PyTorch's, on one thread")
    kinds.add_argument("--scaling", action="store_true", help="the step mlp with batches from 1 to 4096")
    parser.add_argument("--rust-peers", action="store_true", help="also Candle and Burn, built from benches/peers/")
    parser.add_argument("--compile", action="store_true", help="also torch.compile; needs a C++ compiler and Python.h")
    parser.add_argument("--cores", type=int, help="bind everyone to this many cores (all, unless given; Linux)")
    parser.add_argument("--gflops", type=float, help="peak of one core in f32 GFLOP/s, instead of the probe")
    parser.add_argument("--gbs", type=float, help="memory bandwidth of one core in GB/s, instead of the probe")
    parser.add_argument("--binary", type=Path, help="a benchmark that is built already, instead of building it")
    parser.add_argument("--write", action="store_true", help="write the result even of some workloads")
    parser.add_argument("--worker", choices=["jax", "torch", "compile", "gemm", "throughput"], help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker in ("gemm", "throughput"):
        return torch_rates(args.worker)
    if args.worker:
        return worker(args.worker, args.peers, args.names[0])
    if args.probe:
        return probe([int(size) for size in args.names])

    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.cores and not hasattr(os, "sched_setaffinity"):
        parser.error("--cores needs Linux")
    if args.gemm or args.throughput:
        return compare_rates(args, "gemm" if args.gemm else "throughput")
    unknown = [name for name in args.names if name not in WORKLOADS + SCALING]
    if unknown:
        parser.error(f"there is no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS + SCALING)}")
    compare_steps(args, args.names or (SCALING if args.scaling else WORKLOADS))


if __name__ == "__main__":
    main()
