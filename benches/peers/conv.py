"""The convolutions of `benches/conv.rs` in PyTorch or JAX, beside ours.

    cargo bench --bench conv -- --json > ours.jsonl
    python benches/peers/conv.py ours.jsonl [--peer torch|jax] [--threads N]

Prints a row per shape and pass: microseconds of both and how many times as fast ours is. The peer's time is the least
of nine groups, as ours is. Both should run on an idle machine, with as many threads.
"""
import argparse, json, os, time


def least(run):
    run(); t = time.perf_counter(); run(); one = max(time.perf_counter() - t, 1e-7)
    count = min(max(int(.02 / one), 1), 100000); best = float("inf")
    for _ in range(9):
        t = time.perf_counter()
        for _ in range(count): run()
        best = min(best, (time.perf_counter() - t) / count)
    return best * 1e6


def torch_run(r, results):
    import torch
    from torch.nn.grad import conv2d_input, conv2d_weight
    from torch.nn.functional import conv2d, conv_transpose2d
    (c, o), n, side, k = r["channels"], r["batch"], r["side"], r["kernel"]
    x = torch.randn(n, c, side, side); ct = torch.randn(n, o, results, results); w = torch.randn(o, c // r["groups"], k, k)
    if r["lhs_dilation"] > 1:  # the transposed convolution of PyTorch has its kernel as (in, out, ...), reversed
        pad = k - 1 - r["padding"]; kw = dict(stride=r["lhs_dilation"], padding=pad); wt = torch.randn(c, o, k, k)
        passes = {"forward": lambda: conv_transpose2d(x, wt, **kw), "input gradient": lambda: conv2d(ct, wt, **kw),
                  "kernel gradient": lambda: conv2d_weight(ct, wt.shape, x, **kw)}
    else:
        kw = dict(stride=r["stride"], padding=r["padding"], dilation=r["rhs_dilation"], groups=r["groups"])
        passes = {"forward": lambda: conv2d(x, w, **kw), "input gradient": lambda: conv2d_input(x.shape, w, ct, **kw),
                  "kernel gradient": lambda: conv2d_weight(x, w.shape, ct, **kw)}
    def run():
        with torch.no_grad(): passes[r["pass"]]()
    return run


def jax_run(r, results):
    import jax, jax.numpy as jnp
    (c, o), n, side, k, p = r["channels"], r["batch"], r["side"], r["kernel"], r["padding"]
    x, w, ct = jnp.ones((n, c, side, side)), jnp.ones((o, c // r["groups"], k, k)), jnp.ones((n, o, results, results))
    f = lambda x, w: jax.lax.conv_general_dilated(x, w, (r["stride"],) * 2, ((p, p),) * 2, (r["lhs_dilation"],) * 2, (r["rhs_dilation"],) * 2, feature_group_count=r["groups"])
    passes = {"forward": f, "input gradient": lambda x, w: jax.vjp(lambda x: f(x, w), x)[1](ct)[0],
              "kernel gradient": lambda x, w: jax.vjp(lambda w: f(x, w), w)[1](ct)[0]}
    g = jax.jit(passes[r["pass"]])
    return lambda: g(x, w).block_until_ready()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours"); parser.add_argument("--peer", choices=["torch", "jax"], default="torch"); parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.peer == "torch":
        import torch; torch.set_num_threads(args.threads)
    elif args.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    for line in open(args.ours):
        if not line.startswith("{"): continue
        r = json.loads(line)
        reach = (r["kernel"] - 1) * r["rhs_dilation"] + 1
        results = ((r["side"] - 1) * r["lhs_dilation"] + 1 + 2 * r["padding"] - reach) // r["stride"] + 1
        us = least({"torch": torch_run, "jax": jax_run}[args.peer](r, results))
        name = f"{r['name']} {r['channels'][0]}-{r['channels'][1]} {r['side']}"
        print(f"{name:24} {r['batch']:4} {r['pass']:16} {r['us']:12.1f} us {us:12.1f} us {us / r['us']:8.2f}", flush=True)


if __name__ == "__main__":
    main()
