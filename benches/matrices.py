"""The functions of matrices.rs in JAX and PyTorch, on the same matrices: microseconds.

`taskset -c 0 VENV/bin/python benches/matrices.py [NAME …]` is for one thread.
"""
import sys
import time

import numpy as np

SHAPES = [(10_000, 2), (10_000, 3), (10_000, 4), (10_000, 8), (256, 16), (32, 32), (1, 128), (1, 512)]


def jax_functions():
    import jax
    import jax.numpy as jnp
    L = jnp.linalg
    f = dict(cholesky=lambda a, b: L.cholesky(a), solve=L.solve,
             solve_grad=jax.grad(lambda a, b: (L.solve(a, b) ** 2).sum()), inv=lambda a, b: L.inv(a),
             det=lambda a, b: L.det(a), qr=lambda a, b: L.qr(a)[0], eigh=lambda a, b: L.eigh(a)[1],
             svd=lambda a, b: L.svd(a, full_matrices=False)[0])
    return {k: (lambda g: lambda a, b: g(a, b).block_until_ready())(jax.jit(g)) for k, g in f.items()}, jnp.asarray


def torch_functions():
    import torch
    L = torch.linalg

    def solve_grad(a, b):
        a = a.detach().requires_grad_()
        return torch.autograd.grad((L.solve(a, b) ** 2).sum(), a)[0]
    f = dict(cholesky=lambda a, b: L.cholesky(a), solve=L.solve, solve_grad=solve_grad, inv=lambda a, b: L.inv(a),
             det=lambda a, b: L.det(a), qr=lambda a, b: L.qr(a)[0], eigh=lambda a, b: L.eigh(a)[1],
             svd=lambda a, b: L.svd(a, full_matrices=False)[0])
    return f, torch.from_numpy


def timed(run):
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


for peer, make in dict(jax=jax_functions, torch=torch_functions).items():
    try:
        functions, put = make()
    except ImportError:
        continue
    r = np.random.default_rng(0)
    for batch, n in SHAPES:
        x = r.normal(size=(batch, n, n)).astype(np.float32)
        a, b = put(x @ x.swapaxes(1, 2) + n * np.eye(n, dtype=np.float32)), put(r.normal(size=(batch, n, 1)).astype(np.float32))
        for name, f in functions.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                print(f"{peer:<6} {name:<12} {batch:>6} x {n:<4} {timed(lambda: f(a, b)):>12.2f} us", flush=True)
