"""The ops of benches/ops.rs in JAX and PyTorch, beside ours.

    cargo bench --bench ops > ours.txt
    python benches/peers/ops.py ours.txt

Prints a row per op: microseconds of each, and how many times as fast ours is as the fastest peer. All take the cores
that they are given (`taskset -c 0`, and FULGURITE_THREADS=1 for ours, compare one core with one core).
"""
import sys
import time

import numpy as np


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def indices(count, below):
    return np.random.default_rng(1).integers(0, below, count)


HEADS = [normal(8, 128, 4, 32)] * 3
INPUTS = {
    "gather rows 4096 of 10000x64": [normal(10_000, 64), indices(4096, 10_000)],
    "gather 100k of 1M": [normal(1_000_000), indices(100_000, 1_000_000)],
    "scatter-add rows 4096 to 10000x64": [normal(10_000, 64), indices(4096, 10_000), normal(4096, 64)],
    "segment_sum 100k to 1000": [normal(100_000), indices(100_000, 1000)],
    "sort 1000x1000": [normal(1000, 1000)], "sort 100k": [normal(100_000)],
    "sort pairs 256x256": [normal(256, 256), normal(256, 256)],
    "top_k 10 of 128x10000": [normal(128, 10_000)], "top_k 5 of 32x100": [normal(32, 100)],
    "cumsum 1M": [normal(1_000_000)], "cumsum 1000": [normal(1000)], "cumsum rows 1024x1024": [normal(1024, 1024)],
    "cumsum columns 1024x1024": [normal(1024, 1024)], "cumsum rows 32x64": [normal(32, 64)],
    "max_pool 2x2 16x32x64x64": [normal(16, 32, 64, 64)], "max_pool gradient": [normal(16, 32, 64, 64)],
    "fft 64x1024": [normal(64, 1024)], "fft 65536": [normal(65_536)], "fft 256x100": [normal(256, 100)],
    "attention 8x128x4x32": HEADS, "attention gradient": HEADS,
}


def jax_functions():
    import jax
    import jax.numpy as jnp
    from jax import lax
    pool = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    attention = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True)
    fft = lambda x: jnp.fft.fft(x).real
    f = {
        "gather rows 4096 of 10000x64": lambda x, i: jnp.take(x, i, 0), "gather 100k of 1M": lambda x, i: jnp.take(x, i, 0),
        "scatter-add rows 4096 to 10000x64": lambda x, i, u: x.at[i].add(u),
        "segment_sum 100k to 1000": lambda x, i: jax.ops.segment_sum(x, i, 1000),
        "sort 1000x1000": jnp.sort, "sort 100k": jnp.sort, "sort pairs 256x256": lambda x, y: lax.sort([x, y], num_keys=1)[1],
        "top_k 10 of 128x10000": lambda x: lax.top_k(x, 10)[0], "top_k 5 of 32x100": lambda x: lax.top_k(x, 5)[0],
        "cumsum 1M": jnp.cumsum, "cumsum 1000": jnp.cumsum, "cumsum rows 1024x1024": lambda x: jnp.cumsum(x, 1),
        "cumsum columns 1024x1024": lambda x: jnp.cumsum(x, 0), "cumsum rows 32x64": lambda x: jnp.cumsum(x, 1),
        "max_pool 2x2 16x32x64x64": pool, "max_pool gradient": jax.grad(lambda x: (pool(x) ** 2).sum()),
        "fft 64x1024": fft, "fft 65536": fft, "fft 256x100": fft,
        "attention 8x128x4x32": attention, "attention gradient": jax.grad(lambda q, k, v: (attention(q, k, v) ** 2).sum()),
    }
    return {k: (lambda g: lambda *x: jax.block_until_ready(g(*x)))(jax.jit(g)) for k, g in f.items()}, jnp.asarray


def torch_functions():
    import torch
    from torch.nn.functional import max_pool2d, scaled_dot_product_attention
    attention = lambda *x: scaled_dot_product_attention(*[y.transpose(1, 2) for y in x], is_causal=True)

    def gradient(f):
        def run(x, *rest):
            x = x.detach().requires_grad_()
            return torch.autograd.grad((f(x, *rest) ** 2).sum(), x)[0]
        return run
    pool = lambda x: max_pool2d(x, 2)
    fft = lambda x: torch.fft.fft(x).real
    take = lambda x, i: torch.index_select(x, 0, i)
    f = {
        "gather rows 4096 of 10000x64": take, "gather 100k of 1M": take,
        "scatter-add rows 4096 to 10000x64": lambda x, i, u: x.index_add(0, i, u),
        "segment_sum 100k to 1000": lambda x, i: torch.zeros(1000).index_add(0, i, x),
        "sort 1000x1000": torch.sort, "sort 100k": torch.sort,
        "sort pairs 256x256": lambda x, y: torch.gather(y, 1, torch.argsort(x, stable=True)),
        "top_k 10 of 128x10000": lambda x: torch.topk(x, 10), "top_k 5 of 32x100": lambda x: torch.topk(x, 5),
        "cumsum 1M": lambda x: x.cumsum(0), "cumsum 1000": lambda x: x.cumsum(0), "cumsum rows 1024x1024": lambda x: x.cumsum(1),
        "cumsum columns 1024x1024": lambda x: x.cumsum(0), "cumsum rows 32x64": lambda x: x.cumsum(1),
        "max_pool 2x2 16x32x64x64": pool, "max_pool gradient": gradient(pool),
        "fft 64x1024": fft, "fft 65536": fft, "fft 256x100": fft,
        "attention 8x128x4x32": attention, "attention gradient": gradient(attention),
    }
    return f, torch.from_numpy


def timed(run):
    """Microseconds: the median of nine groups, as ours is."""
    run()
    start = time.perf_counter()
    run()
    count = max(1, int(.02 / max(time.perf_counter() - start, 1e-6)))
    groups = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(count):
            run()
        groups.append((time.perf_counter() - start) / count)
    return sorted(groups)[4] * 1e6


def main():
    ours = dict((line[:36].strip(), float(line[36:].split()[0])) for line in open(sys.argv[1]) if line.rstrip().endswith("us"))
    peers = {}
    for peer, make in dict(jax=jax_functions, torch=torch_functions).items():
        try:
            peers[peer] = make()
        except ImportError:
            continue
    print(f"{'op':<36} {'ours':>10} " + " ".join(f"{peer:>10}" for peer in peers) + "  times as fast")
    for name, us in ours.items():
        found = []
        for functions, put in peers.values():
            x = [put(array) for array in INPUTS[name]]
            found.append(timed(lambda: functions[name](*x)))
        print(f"{name:<36} {us:>10.1f} " + " ".join(f"{t:>10.1f}" for t in found) + f"  {min(found) / us:.2f}", flush=True)


main()
