#!/usr/bin/env python3
"""Times steps and kernels on an NVIDIA GPU in fulgurite, JAX and PyTorch: in turn, in one run.

    benches/gpu.sh compare [NAME ...]

runs this with the program that `benches/gpu.sh build` has made. It prints Markdown and writes it. Workloads run at their
own batch and at 16 times that, kernels at several sizes. Each peer is one process, which makes a workload when it is
asked to, so that a library is loaded once. What the steps are is in `peers/peers.py` and `workloads/`.
"""
import argparse
import datetime
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import TITLES, Failed, answers, command_output, cores, cpu, short, sig, table

HERE = Path(__file__).resolve().parent
STEPS = [
    "dispatch", "bnn", "mlp_tiny", "mlp", "adam_many", "mixer_b4", "mixer", "bnn@256", "mlp_tiny@256", "mlp@512",
    "mixer@1024", "elementwise", "elementwise@1024", "elementwise_big", "elementwise_big@65536", "scan",
]
KERNELS = [
    "product@256", "product@1024", "product@2048", "product@4096", "product@8192", "axpy@65536", "axpy@1048576",
    "axpy@67108864", "tanh@67108864", "row_sum@1024", "row_sum@65536", "column_sum@1024", "column_sum@65536",
    "softmax@1024", "softmax@65536", "layer_norm@1024", "layer_norm@65536",
]
GPU_TITLES = {
    "ours": TITLES["ours"], "jax": "JAX jit", "torch": "PyTorch eager", "compile": "torch.compile, reduce-overhead",
    "graph": "torch.compile in one CUDA graph",
}
# What the makers say: a part of the name, GB/s of the memory, TFLOP/s in f32 without tensor cores. The first that fits.
CARDS = [
    ("H100 PCIe", 2_039, 51.2), ("H100 NVL", 3_938, 60.0), ("H100", 3_350, 66.9), ("H200 NVL", 4_800, 60.0),
    ("H200", 4_800, 66.9), ("A100-SXM4-40GB", 1_555, 19.5), ("A100-PCIE-40GB", 1_555, 19.5),
    ("A100 80GB PCIe", 1_935, 19.5), ("A100", 2_039, 19.5), ("RTX 4090", 1_008, 82.6),
]
# A result of a peer is waited for at most this long: torch.compile takes a while.
TIMEOUT_S = 400 if os.environ.get("FULGURITE_GPU_AUTOTUNE") else 150


# ---- what runs in the peers' Python

def worker(peer, device, seconds):
    """Answers lines of JSON: makes a workload and runs it once, times it, forgets it."""
    answer = answers()
    sys.path.insert(0, str(HERE / "peers"))
    try:
        import peers
        made = peers.workloads(peer, device)
        wait = peers.waiter(peer, device)
        answer(versions=versions(peer, device))
    except Exception as error:  # A library that is missing, or finds no GPU.
        return answer(missing=f"{type(error).__name__}: {error}".split("\n")[0][:200])
    run = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "make" in asked:
                run = None
                base, _, size = asked["make"].partition("@")
                if base not in made:
                    answer(absent=True)
                    continue
                run = made[base](B=int(size)) if size else made[base]()
                start = time.perf_counter()
                wait(run())
                answer(first_s=time.perf_counter() - start)
            else:
                answer(us=peers.timeit(run, seconds, wait))
        except Exception as error:  # The libraries raise whatever they like; the table says what.
            lines = str(error).strip().splitlines() or [""]
            answer(failed=f"{type(error).__name__}: {lines[0][:160]}")


def versions(peer, device):
    """The versions that matter. No GPU is an error."""
    if peer == "jax":
        import jax
        import jaxlib
        if device != "cpu" and jax.default_backend() != "gpu":
            raise RuntimeError("JAX has found no GPU")
        return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
    import torch
    if device != "cpu" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch has found no GPU")
    found = {"torch": torch.__version__}
    if torch.version.cuda:
        found["its CUDA"] = torch.version.cuda
    return found


def probe():
    """GB/s of a copy within the device's memory, and TFLOP/s of a product in f32, by PyTorch."""
    answer = answers()
    try:
        import torch
        x = torch.ones(1 << 28, device="cuda")
        y = torch.empty_like(x)
        a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))

        def best(step):
            step()
            took = []
            for _ in range(10):
                torch.cuda.synchronize()
                start = time.perf_counter()
                step()
                torch.cuda.synchronize()
                took.append(time.perf_counter() - start)
            return min(took)

        answer(gbs=2 * 4 * x.numel() / best(lambda: y.copy_(x)) / 1e9, tflops=2 * 8192**3 / best(lambda: a @ b) / 1e12)
    except Exception as error:
        answer(missing=str(error).split("\n")[0])


# ---- the contestants, seen from here

class Peer:
    """A process of a peer, for all workloads."""

    def __init__(self, who, args):
        self.who, self.args = who, args
        self.start()

    def start(self):
        """Starts the process; its versions are the first answer."""
        self.errors = tempfile.TemporaryFile("w+")
        device = self.args.device
        environment = dict(
            os.environ, JAX_PLATFORMS="cpu" if device == "cpu" else "cuda", XLA_PYTHON_CLIENT_PREALLOCATE="false")
        command = [sys.executable, __file__, "--worker", self.who, "--device", device, "--seconds", str(self.args.seconds)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment)
        self.versions = None

    def ready(self):
        """Waits until the library is loaded."""
        if self.versions is None:
            self.versions = self.answer()["versions"]

    def ask(self, **asked):
        """Asks for something; `answer` waits for it."""
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has died; its last words are read with the answer.

    def answer(self):
        """The answer, or why there is none. A process that gives none is ended, and started again for the next."""
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        line = self.process.stdout.readline() if ready else ""
        found = json.loads(line) if line else {}
        if "missing" in found:
            raise Failed("missing", found["missing"])
        if "absent" in found:
            raise Failed("absent")
        if found and "failed" not in found:
            return found
        reason = found.get("failed")
        if reason is None:
            self.close()
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or [f"exit code {self.process.returncode}"])[-1]
            reason = last[:200] if ready else f"no answer in {TIMEOUT_S} s"
        # After an error the device may be lost for the process.
        self.close()
        self.start()
        raise Failed(reason)

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def ours(args, name):
    """A run of our program: what it says, as a dictionary."""
    command = [str(args.binary), name, "--json", f"--device={args.device}", f"--ms={round(1000 * args.seconds)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300])
    if not done.stdout.strip():
        raise Failed("absent")
    return json.loads(done.stdout)


def measure(args, peers, name):
    """All rounds of one workload."""
    result = {"name": name, "us": {}, "first_s": {}, "notes": {}, "facts": None}
    racing = []
    # Everyone compiles at once: the first calls are no measurements.
    for who, peer in peers.items():
        try:
            peer.ready()
            peer.ask(make=name)
            racing.append(who)
        except Failed as reason:
            result["notes"][who] = reason.args
    for who in list(racing):
        try:
            result["first_s"][who] = peers[who].answer()["first_s"]
        except Failed as reason:
            result["notes"][who] = reason.args
            racing.remove(who)
    racing.insert(0, "ours")
    for turn in range(args.rounds):
        for who in racing[turn % len(racing):] + racing[:turn % len(racing)] if racing else []:
            try:
                if who == "ours":
                    result["facts"] = ours(args, name)
                    us = result["facts"]["us"]
                    result["first_s"]["ours"] = result["facts"]["first_ms"] / 1e3
                else:
                    peers[who].ask(time=True)
                    us = peers[who].answer()["us"]
                result["us"].setdefault(who, []).append(us)
            except Failed as reason:
                result["notes"][who] = reason.args
                result["us"].pop(who, None)
                racing = [other for other in racing if other != who]
    return result


# ---- the report

def gpu():
    """Name, driver and memory of the card, and the version of CUDA that the driver is for."""
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory"
    fields = [field.strip() for field in command_output("nvidia-smi", query, "--format=csv,noheader").split(",")]
    if len(fields) != 5:
        return {"name": "no GPU", "facts": "nvidia-smi says nothing"}
    try:
        text = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        text = ""
    cuda = re.search(r"CUDA Version: *([0-9.]+)", text)
    facts = f"{fields[0]}, {fields[2]}, at most {fields[3]} (memory {fields[4]}); driver {fields[1]}"
    return {"name": fields[0], "facts": facts + (f", CUDA {cuda[1]}" if cuda else "")}


def card(name):
    """What the makers say of a card: GB/s and TFLOP/s, if it is in the table."""
    return next(((gbs, tflops) for part, gbs, tflops in CARDS if part in name), None)


def times_section(title, results, who, median):
    """Microseconds, and how they compare with the fastest peer."""
    rows = []
    for r in results:
        w, mine = r["name"], median.get((r["name"], "ours"))
        peers = [one for one in who if one != "ours" and (w, one) in median]
        fastest = min(peers, key=lambda one: median[w, one], default=None)
        ratio = f"**{mine / median[w, fastest]:.3f}**" if mine and fastest else "—"
        rows.append([w, *(sig(median[w, one]) if (w, one) in median else "—" for one in who), ratio,
                     GPU_TITLES[fastest] if fastest else "—"])
    head = ["workload", *(GPU_TITLES[one] for one in who), "ours ÷ fastest peer", "the fastest peer"]
    return f"## {title}\n\nMicroseconds.\n\n" + table(head, rows) + "\n" if rows else ""


def shares_section(results, median, peak):
    """Our share of what the card can do, and that of the fastest peer."""
    rows = []
    for r in results:
        mine = median.get((r["name"], "ours"))
        if not r["facts"] or not mine or not peak:
            continue
        flops, size = r["facts"]["flops"], r["facts"]["bytes"]
        best = min((us for (name, who), us in median.items() if name == r["name"] and who != "ours"), default=None)
        percent = lambda rate, full: f"{100 * rate / full:.1f} %"
        floor = max(size / peak[0] / 1e3, flops / peak[1] / 1e6)
        rows.append([
            r["name"], short(flops), short(size), sig(size / mine / 1e3), percent(size / mine / 1e3, peak[0]),
            sig(flops / mine / 1e6), percent(flops / mine / 1e6, peak[1]), sig(floor), percent(floor, mine),
            percent(floor, best) if best else "—"])
    if not rows:
        return ""
    head = ["workload", "FLOPs", "bytes", "GB/s", "of the bandwidth", "TFLOP/s", "of the f32 peak", "floor µs",
            "floor ÷ ours", "floor ÷ fastest peer"]
    return (f"## Shares\n\nOf {peak[0]:,} GB/s and {peak[1]} TFLOP/s in f32 without tensor cores (what the maker says). "
            "FLOPs and bytes are the least\nthat a step needs; what fits into the L2 cache can be above 100 %.\n\n"
            + table(head, rows) + "\n")


def report(args, results, who, peers, started, found, left):
    """All that was found, as Markdown."""
    median = {(r["name"], one): statistics.median(us) for r in results for one, us in r["us"].items()}
    device = gpu()
    manifest = HERE.parent / "target/gpu/manifest.txt"
    built = manifest.read_text().splitlines()[:2] if manifest.exists() else ["commit unknown"]
    facts = [
        f"Date: {started:%Y-%m-%d %H:%M} UTC.", f"GPU: {device['facts']}.", f"Processor: {cpu()[0]}, {cores()} cores.",
        f"fulgurite: {', '.join(built)}.",
    ]
    facts += [f"{GPU_TITLES[one]}: {', '.join(f'{k} {v}' for k, v in peers[one].versions.items())}." for one in who
              if one != "ours" and peers[one].versions]
    if found and "gbs" in found:
        facts.append(f"PyTorch copies {found['gbs']:,.0f} GB/s within the memory, bytes read and written counted, and "
                     f"multiplies at {found['tflops']:.1f} TFLOP/s in f32 (8192³).")
    facts.append(f"Each number is the median of {args.rounds} rounds in turn; a round is the median of five repetitions of "
                 "many steps with one wait at their end. Products are in f32 for everyone (no TF32).")
    bases = {name.split("@")[0] for name in KERNELS}
    is_kernel = lambda r: r["name"].split("@")[0] in bases
    peak = card(device["name"])
    first = [[r["name"], *(sig(r["first_s"][one] * 1e3) if one in r["first_s"] else "—" for one in who)] for r in results]
    rounds = [[r["name"], *(" ".join(map(sig, r["us"][one])) if one in r["us"] else "—" for one in who)] for r in results]
    head = ["workload", *(GPU_TITLES[one] for one in who)]
    notes = [f"{r['name']}, {GPU_TITLES[one]}: {': '.join(why)}" for r in results for one, why in r["notes"].items()]
    if left:
        notes.append(f"not run, as the time was up: `benches/gpu.sh compare {' '.join(left)}`")
    return (f"# Steps and kernels on {device['name']}\n\n" + "\n".join(f"- {fact}" for fact in facts) + "\n\n"
            + times_section("Steps", [r for r in results if not is_kernel(r)], who, median)
            + times_section("Kernels", [r for r in results if is_kernel(r)], who, median)
            + shares_section(results, median, peak)
            + "## First call\n\nMilliseconds; the peers compile at the same time, ours alone.\n\n" + table(head, first)
            + "\n## Rounds\n\nMicroseconds of each round.\n\n" + table(head, rounds)
            + ("\n## Notes\n\n" + "\n".join(f"- {note}." for note in notes) + "\n" if notes else ""))


def run_probe(args):
    """What the card does, as PyTorch sees it."""
    if args.device == "cpu":
        return None
    try:
        done = subprocess.run([sys.executable, __file__, "--probe"], capture_output=True, text=True, timeout=TIMEOUT_S)
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return None


def compare(args, names):
    """Measures and reports. The report is written after each workload, so that an end from outside loses nothing."""
    started, end = datetime.datetime.now(datetime.timezone.utc), time.monotonic() + args.limit
    try:
        ours(args, "dispatch")
    except Failed as why:
        sys.exit(f"gpu.py: {why}")
    found = run_probe(args)
    who = ["ours", *args.peers]
    peers = {one: Peer(one, args) for one in args.peers}
    slug = re.sub(r"[^a-z0-9]+", "-", gpu()["name"].lower()).strip("-")
    folder = Path(os.environ.get("OUT") or HERE / "results")
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{started:%Y-%m-%d}-{slug}"
    # A second part of a day's run is a second file.
    taken = [path.name for path in folder.iterdir()]
    path = folder / next(name for name in (f"{stem}{n}.md" for n in ["", *(f"-{i}" for i in range(2, 1000))]) if name not in taken)
    results, slowest = [], 0.0
    try:
        for i, name in enumerate(names):
            start = time.monotonic()
            # The last workloads are the largest: one begins only where the longest so far would end in time.
            left = names[i:] if start + slowest > end else []
            if left:
                break
            results.append(measure(args, peers, name))
            slowest = max(slowest, time.monotonic() - start)
            seen = [f"{GPU_TITLES[one]} {sig(statistics.median(us))} us" for one, us in results[-1]["us"].items()]
            print(f"{name}: {', '.join(seen)}", file=sys.stderr, flush=True)
            for one in [one for one, why in results[-1]["notes"].items() if why[0] == "missing"]:
                peers.pop(one).close()
                who.remove(one)
            path.write_text(report(args, results, who, peers, started, found, names[i + 1:]))
    finally:
        for peer in peers.values():
            peer.close()
    print(path.read_text())
    print(f"gpu.py: wrote {os.path.relpath(path)}", file=sys.stderr)
    if not any("ours" in r["us"] for r in results):
        sys.exit("gpu.py: nothing of ours has run, see the notes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads, all unless given: {', '.join(STEPS + KERNELS)}; `steps` or `kernels`; others with a size: mlp@64, product@512")
    parser.add_argument("--binary", type=Path, default=HERE.parent / "target/gpu/step", help="our program")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try this script")
    parser.add_argument("--peers", default="jax,torch,compile,graph", type=lambda text: [p for p in text.split(",") if p])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each workload (3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of a round (0.5)")
    parser.add_argument("--limit", type=float, default=540, help="seconds after which nothing begins (540)")
    parser.add_argument("--worker", choices=["jax", "torch", "compile", "graph"], help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.device, args.seconds)
    if args.probe:
        return probe()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    unknown = [one for one in args.peers if one not in GPU_TITLES]
    if unknown:
        parser.error(f"there is no peer {', '.join(unknown)}")
    groups = {"steps": STEPS, "kernels": KERNELS}
    compare(args, [name for given in args.names or ["steps", "kernels"] for name in groups.get(given, [given])])


if __name__ == "__main__":
    main()
