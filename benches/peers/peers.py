"""Times one training step of each workload in JAX (jit), PyTorch (eager) and torch.compile on this CPU, or on a GPU.

    python -m venv .venv && .venv/bin/pip install jax optax equinox torch
    .venv/bin/python benches/peers/peers.py --jax --torch [WORKLOAD ...]     # default: all workloads
    .venv/bin/python benches/peers/peers.py --compile bnn mlp                # torch.compile
    python3 benches/peers/peers.py --device=cuda --jax --torch --compile --graph

`benches/compare.py` times the same steps beside ours, in turn; `benches/gpu.py` does on a GPU.
Prints a row per workload: microseconds per step (median), and compile seconds.
Each step is forward + backward + optimiser update, results fetched (block_until_ready). On a GPU nothing is fetched,
and the device is waited for at the end of each repetition. There `--compile` is torch.compile with CUDA graphs of the
forward and backward passes (reduce-overhead), and `--graph` one CUDA graph of the whole step, of torch.compile's code.
"""
import json, os, sys, time, functools
import numpy as np

def timeit(step, min_s=1.5, wait=lambda result: None):
    wait(step()); t0 = time.perf_counter(); wait(step()); one = time.perf_counter() - t0
    n = max(3, min(20000, int(min_s / 5 / max(one, 1e-7))))
    reps = []
    for _ in range(5):
        t0 = time.perf_counter()
        for _ in range(n): result = step()
        wait(result)
        reps.append((time.perf_counter() - t0) / n)
    return float(np.median(reps)) * 1e6

def waiter(peer, device):
    """What waits for a result, where a step does not."""
    if device == 'cpu': return lambda result: None
    if peer == 'jax':
        import jax
        return jax.block_until_ready
    import torch
    return lambda result: torch.cuda.synchronize()

# ---------------------------------------------------------------- JAX
def jax_workloads(device='cpu'):
    import jax, jax.numpy as jnp, optax, jax.random as jr
    # As ours and PyTorch's: products of f32 in f32, not in the tensor cores' shorter format.
    if device != 'cpu': jax.config.update('jax_default_matmul_precision', 'highest')
    hold = jax.block_until_ready if device == 'cpu' else (lambda result: result)
    W = {}
    def adam_step(loss_fn, params, lr=1e-3):
        opt = optax.adam(lr); st = opt.init(params)
        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(params, st, *batch):
            loss, g = jax.value_and_grad(loss_fn)(params, *batch)
            up, st = opt.update(g, st); return optax.apply_updates(params, up), st, loss
        return step, params, st
    def runner(step, params, st, batches):
        state = [params, st, 0]
        def run():
            p, s, l = step(state[0], state[1], *batches)
            hold(l); state[0], state[1], state[2] = p, s, l
            return l
        return run

    def dispatch():
        f = jax.jit(lambda x: x + 1.0); x = jnp.ones(4)
        return lambda: hold(f(x))
    W['dispatch'] = dispatch

    def bnn(B=16):
        def lin_init(k, i, o):
            a, b = jr.split(k)
            return dict(wm=jr.normal(a, (o, i)) / (i + o) ** .5, wr=jnp.full((o, i), -3.), bm=jr.normal(b, (o,)) * .1, br=jnp.full((o,), -3.))
        sizes = [1, 51, 51, 51, 51, 1]
        ks = jr.split(jr.PRNGKey(0), 5)
        params = [lin_init(k, i, o) for k, i, o in zip(ks, sizes, sizes[1:])]
        def lin(p, x, key):
            w = p['wm'] + jax.nn.softplus(p['wr']) * jr.normal(key, p['wm'].shape)
            b = p['bm'] + jax.nn.softplus(p['br']) * jr.normal(key, p['bm'].shape)
            return x @ w.T + b
        def net(ps, x, key):
            for n, p in enumerate(ps):
                x = lin(p, x, jr.fold_in(key, n))
                if n < 4: x = jax.nn.gelu(x)
            return x
        def kl(p):
            s = jax.nn.softplus(p['wr']); return (-jnp.log(s) + (s ** 2 + p['wm'] ** 2) / 2 - .5).sum()
        def loss(ps, x, y, keys):
            pred = jax.vmap(net, in_axes=(None, 0, 0))(ps, x, keys)
            std = jax.lax.stop_gradient(pred.std(axis=0))
            mse = (y - pred.mean(axis=0)) ** 2
            return (.5 * mse / std ** 2).sum() * 200 + sum(kl(p) for p in ps)
        step, p, s = adam_step(loss, params)
        x = jr.normal(jr.PRNGKey(1), (5, B, 1)); y = jr.normal(jr.PRNGKey(2), (B, 1)); keys = jr.split(jr.PRNGKey(3), 5)
        return runner(step, p, s, (x, y, keys))
    W['bnn'] = bnn

    def mlp(sizes=(784, 128, 64, 10), B=32):
        ks = jr.split(jr.PRNGKey(0), len(sizes))
        params = [(jr.normal(k, (i, o)) / i ** .5, jnp.zeros(o)) for k, i, o in zip(ks, sizes, sizes[1:])]
        def loss(ps, x, y):
            for n, (w, b) in enumerate(ps):
                x = x @ w + b
                if n < len(ps) - 1: x = jax.nn.gelu(x)
            return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
        step, p, s = adam_step(loss, params)
        return runner(step, p, s, (jr.normal(jr.PRNGKey(1), (B, sizes[0])), jr.randint(jr.PRNGKey(2), (B,), 0, 10)))
    W['mlp'] = mlp
    W['mlp_tiny'] = lambda B=16: mlp((8, 32, 32, 10), B)

    def mixer(B=64):
        sys.path.insert(0, os.path.dirname(__file__))
        C, P, H, PS = 64, 49, 512, 4
        k = iter(jr.split(jr.PRNGKey(0), 100))
        n = lambda *s: jr.normal(next(k), s) * .05
        params = dict(cin=n(C, 2, 4, 4), cinb=jnp.zeros((C, 1, 1)), cout=n(1, C, 4, 4), coutb=jnp.zeros((1, 1, 1)), ng=jnp.ones((C, P)), nb=jnp.zeros((C, P)),
            blocks=[dict(p1=n(P, H), pb1=jnp.zeros(H), p2=n(H, P), pb2=jnp.zeros(P), h1=n(C, H), hb1=jnp.zeros(H), h2=n(H, C), hb2=jnp.zeros(C),
                g1=jnp.ones((C, P)), b1=jnp.zeros((C, P)), g2=jnp.ones((P, C)), b2=jnp.zeros((P, C))) for _ in range(4)])
        def ln(x, g, b):
            m = x.mean(); v = x.var(); return (x - m) * jax.lax.rsqrt(v + 1e-5) * g + b
        def model(ps, t, y):
            t = jnp.broadcast_to(t / 10., (1, 28, 28)); y = jnp.concatenate([y, t])
            y = jax.lax.conv_general_dilated(y[None], ps['cin'], (4, 4), 'VALID')[0] + ps['cinb']
            y = y.reshape(C, P)
            for b in ps['blocks']:
                h = ln(y, b['g1'], b['b1']); y = y + jax.nn.relu(h @ b['p1'] + b['pb1']) @ b['p2'] + b['pb2']
                y = y.T
                h = ln(y, b['g2'], b['b2']); y = y + jax.nn.relu(h @ b['h1'] + b['hb1']) @ b['h2'] + b['hb2']
                y = y.T
            y = ln(y, ps['ng'], ps['nb']).reshape(C, 7, 7)
            y = jax.lax.conv_transpose(y[None], ps['cout'], (4, 4), 'VALID', dimension_numbers=('NCHW', 'OIHW', 'NCHW'))[0] + ps['coutb']
            return y
        def single(ps, data, t, key):
            mean = data * jnp.exp(-.5 * t); var = jnp.maximum(1 - jnp.exp(-t), 1e-5); std = jnp.sqrt(var)
            noise = jr.normal(key, data.shape); pred = model(ps, t, mean + std * noise)
            return (1 - jnp.exp(-t)) * jnp.mean((pred + noise / std) ** 2)
        def loss(ps, data, key):
            tk, lk = jr.split(key); t = jr.uniform(tk, (B,), maxval=10. / B) + (10. / B) * jnp.arange(B)
            return jnp.mean(jax.vmap(single, in_axes=(None, 0, 0, 0))(ps, data, t, jr.split(lk, B)))
        step, p, s = adam_step(loss, params, 3e-4)
        return runner(step, p, s, (jr.normal(jr.PRNGKey(1), (B, 1, 28, 28)), jr.PRNGKey(5)))
    W['mixer'] = mixer
    W['mixer_b4'] = lambda: mixer(4)

    def cnn(B=16, ch=(16, 32, 64), hw=32):
        k = iter(jr.split(jr.PRNGKey(0), 20)); params = []; cin = 3
        for c in ch:
            params.append((jr.normal(next(k), (c, cin, 3, 3)) / (9 * cin) ** .5, jnp.ones(c), jnp.zeros(c))); cin = c
        head = (jr.normal(next(k), (cin, 10)) / cin ** .5, jnp.zeros(10))
        def loss(ps, x, y):
            convs, (w, b) = ps
            for i, (kw, g, bb) in enumerate(convs):
                x = jax.lax.conv_general_dilated(x, kw, (1, 1) if i == 0 else (2, 2), 'SAME')
                m = x.mean((0, 2, 3), keepdims=True); v = x.var((0, 2, 3), keepdims=True)
                x = jax.nn.relu((x - m) * jax.lax.rsqrt(v + 1e-5) * g[None, :, None, None] + bb[None, :, None, None])
            x = x.mean((2, 3)) @ w + b
            return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
        step, p, s = adam_step(loss, (params, head))
        return runner(step, p, s, (jr.normal(jr.PRNGKey(1), (B, 3, hw, hw)), jr.randint(jr.PRNGKey(2), (B,), 0, 10)))
    W['cnn'] = cnn

    def mlp_f64(B=32):
        with jax.enable_x64(True):
            ks = jr.split(jr.PRNGKey(0), 4); sizes = (784, 128, 64, 10)
            params = [(jr.normal(k, (i, o), jnp.float64) / i ** .5, jnp.zeros(o, jnp.float64)) for k, i, o in zip(ks, sizes, sizes[1:])]
            def loss(ps, x, y):
                for n, (w, b) in enumerate(ps):
                    x = x @ w + b
                    if n < len(ps) - 1: x = jax.nn.gelu(x)
                return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
            step, p, s = adam_step(loss, params)
            inner = runner(step, p, s, (jr.normal(jr.PRNGKey(1), (B, sizes[0]), jnp.float64), jr.randint(jr.PRNGKey(2), (B,), 0, 10, jnp.int32)))
        def run():
            with jax.enable_x64(True): return inner()
        return run
    W['mlp_f64'] = mlp_f64

    def transformer(B=12, T=64, D=128, L=4, heads=4, letters=65):
        k = iter(jr.split(jr.PRNGKey(0), 100)); n = lambda i, o: jr.normal(next(k), (i, o)) / i ** .5
        norm = lambda: (jnp.ones(D), jnp.zeros(D))
        params = dict(letters=jr.normal(next(k), (letters, D)), positions=jr.normal(next(k), (T, D)) * .02, norm=norm(), out=(n(D, letters), jnp.zeros(letters)),
            blocks=[dict(n1=norm(), n2=norm(), q=n(D, D), k=n(D, D), v=n(D, D), o=n(D, D), h=(n(D, 4 * D), jnp.zeros(4 * D)), r=(n(4 * D, D), jnp.zeros(D))) for _ in range(L)])
        def ln(x, gb):
            m = x.mean(-1, keepdims=True); v = x.var(-1, keepdims=True); return (x - m) * jax.lax.rsqrt(v + 1e-5) * gb[0] + gb[1]
        past = jnp.tril(jnp.ones((T, T), bool))
        def model(ps, x):
            x = ps['letters'][x] + ps['positions']
            for b in ps['blocks']:
                s = ln(x, b['n1']); q, kk, v = ((s @ b[w]).reshape(B, T, heads, D // heads) for w in 'qkv')
                a = jnp.where(past, jnp.einsum('bshd,bShd->bhsS', q, kk) / (D // heads) ** .5, jnp.finfo(x.dtype).min)
                x = x + jnp.einsum('bhsS,bShd->bshd', jax.nn.softmax(a), v).reshape(B, T, D) @ b['o']
                x = x + jax.nn.gelu(ln(x, b['n2']) @ b['h'][0] + b['h'][1]) @ b['r'][0] + b['r'][1]
            return ln(x, ps['norm']) @ ps['out'][0] + ps['out'][1]
        def loss(ps, x, y): return optax.softmax_cross_entropy_with_integer_labels(model(ps, x), y).mean()
        step, p, s = adam_step(loss, params)
        return runner(step, p, s, tuple(jr.randint(jr.PRNGKey(i), (B, T), 0, letters) for i in (1, 2)))
    W['transformer'] = transformer

    def graph(nodes=256, edges=1024, graphs=16, F=32):
        k = iter(jr.split(jr.PRNGKey(0), 20)); n = lambda i, o: (jr.normal(next(k), (i, o)) / i ** .5, jnp.zeros(o))
        params = ([(n(2 * F, F), n(2 * F, F)) for _ in range(3)], n(F, 1))
        def loss(ps, x, src, dst, of, y):
            rounds, (w, b) = ps
            for (mw, mb), (uw, ub) in rounds:
                m = jax.nn.relu(jnp.concatenate([x[src], x[dst]], 1) @ mw + mb)
                x = jax.nn.relu(jnp.concatenate([x, jax.ops.segment_sum(m, dst, nodes)], 1) @ uw + ub)
            return ((jax.ops.segment_sum(x, of, graphs) @ w + b - y) ** 2).mean()
        step, p, s = adam_step(loss, params)
        ends = [jr.randint(jr.PRNGKey(i), (edges,), 0, nodes) for i in (1, 2)]
        return runner(step, p, s, (jr.normal(jr.PRNGKey(3), (nodes, F)), *ends, jnp.arange(nodes) // (nodes // graphs), jr.normal(jr.PRNGKey(4), (graphs, 1))))
    W['graph'] = graph

    def elementwise(B=64, columns=512):
        shape = (B, columns)
        def f(x, g, b):
            m = x.mean(-1, keepdims=True); v = x.var(-1, keepdims=True)
            y = (x - m) * jax.lax.rsqrt(v + 1e-5) * g + b
            y = jax.nn.gelu(y); y = jnp.tanh(y) + jax.nn.sigmoid(y) * y
            return jax.nn.softmax(y, -1)
        g = jax.jit(f); a = (jr.normal(jr.PRNGKey(0), shape), jnp.ones(shape[-1]), jnp.zeros(shape[-1]))
        return lambda: hold(g(*a))
    W['elementwise'] = elementwise
    W['elementwise_big'] = lambda B=4096: elementwise(B, 1024)

    def scan(length=1000, width=16):
        g = jax.jit(lambda h, w, xs: jax.lax.scan(lambda h, x: (jnp.tanh(h * w + x), None), h, xs)[0])
        a = (jnp.zeros(width), jnp.full(width, .9), jr.normal(jr.PRNGKey(0), (length, width)))
        return lambda: hold(g(*a))
    W['scan'] = scan

    def adam_many(n=100, size=1000):
        params = [jr.normal(jr.PRNGKey(i), (size,)) for i in range(n)]
        def loss(ps): return sum((p ** 2).sum() for p in ps)
        step, p, s = adam_step(loss, params)
        return runner(step, p, s, ())
    W['adam_many'] = adam_many

    return W

def jax_kernels():
    """Single kernels of a size, on a GPU."""
    import jax, jax.numpy as jnp, jax.random as jr
    K = {}
    def kernel(f, *shapes):
        g = jax.jit(f); a = [jr.normal(jr.PRNGKey(i), shape) for i, shape in enumerate(shapes)]
        return lambda: g(*a)
    K['product'] = lambda B: kernel(lambda x, y: x @ y, (B, B), (B, B))
    K['axpy'] = lambda B: kernel(lambda x, y: x * 2. + y, (B,), (B,))
    K['tanh'] = lambda B: kernel(jnp.tanh, (B,))
    K['row_sum'] = lambda B: kernel(lambda x: x.sum(-1), (B, 1024))
    K['column_sum'] = lambda B: kernel(lambda x: x.sum(0), (B, 1024))
    K['softmax'] = lambda B: kernel(lambda x: jax.nn.softmax(x, -1), (B, 1024))
    def layer_norm(x, g, b):
        m = x.mean(-1, keepdims=True); v = x.var(-1, keepdims=True)
        return (x - m) * jax.lax.rsqrt(v + 1e-5) * g + b
    K['layer_norm'] = lambda B: kernel(layer_norm, (B, 1024), (1024,), (1024,))
    return K

# ---------------------------------------------------------------- PyTorch
def torch_wrap(torch, compiled, device, graphed):
    """What makes a function one of torch.compile."""
    if not compiled: return lambda f: f
    if device == 'cpu': return torch.compile
    # `graph` tunes products where it is asked to, which takes minutes.
    mode = 'reduce-overhead' if not graphed else 'max-autotune-no-cudagraphs' if os.environ.get('FULGURITE_GPU_AUTOTUNE') else None
    return lambda f: torch.compile(f, mode=mode)

def captured(torch, step):
    """A step as one CUDA graph."""
    side = torch.cuda.Stream(); side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3): step()
    torch.cuda.current_stream().wait_stream(side); torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph): result = step()
    def run():
        graph.replay(); return result
    return run

def torch_on(torch, W, device, graphed):
    """The same workloads with their tensors on a GPU. They say where those of a step are; those made once are made there."""
    torch.backends.cudnn.allow_tf32 = False; torch.backends.cuda.matmul.allow_tf32 = False
    def on(make):
        def made(*args, **keywords):
            with torch.device(device): run = make(*args, **keywords)
            return captured(torch, run) if graphed else run
        return made
    return {name: on(make) for name, make in W.items()}

def torch_workloads(compiled=False, device='cpu', graphed=False):
    import torch, torch.nn as nn, torch.nn.functional as F
    torch.manual_seed(0)
    wrap = torch_wrap(torch, compiled, device, graphed)
    W = {}
    def trainer(model, lossf, lr=1e-3):
        # The fastest Adam that PyTorch has.
        opt = torch.optim.Adam(model.parameters(), lr=lr, fused=True, capturable=graphed)
        lf = wrap(lossf)
        marks = compiled and device != 'cpu' and not graphed
        def step():
            if marks: torch.compiler.cudagraph_mark_step_begin()
            opt.zero_grad(); l = lf(); l.backward(); opt.step(); return l.item() if device == 'cpu' else l
        return step
    def dispatch():
        x = torch.ones(4); f = wrap(lambda x: x + 1.0); return lambda: f(x)
    W['dispatch'] = dispatch
    class BL(nn.Module):
        def __init__(s, i, o):
            super().__init__(); s.wm = nn.Parameter(torch.randn(o, i) / (i + o) ** .5); s.wr = nn.Parameter(torch.full((o, i), -3.)); s.bm = nn.Parameter(torch.randn(o) * .1); s.br = nn.Parameter(torch.full((o,), -3.))
        def forward(s, x):  # x: [MC,B,F]; one weight sample per MC
            w = s.wm + F.softplus(s.wr) * torch.randn(x.shape[0], *s.wm.shape, device=x.device); b = s.bm + F.softplus(s.br) * torch.randn(x.shape[0], 1, s.bm.shape[0], device=x.device)
            return torch.bmm(x, w.transpose(1, 2)) + b
        def kl(s):
            sc = F.softplus(s.wr); return (-torch.log(sc) + (sc ** 2 + s.wm ** 2) / 2 - .5).sum()
    def bnn(B=16):
        sizes = [1, 51, 51, 51, 51, 1]; ls = nn.ModuleList([BL(i, o) for i, o in zip(sizes, sizes[1:])]); x = torch.randn(5, B, 1); y = torch.randn(B, 1)
        def loss():
            h = x
            for n, l in enumerate(ls):
                h = l(h)
                if n < 4: h = F.gelu(h, approximate='tanh')
            std = h.std(0, unbiased=False).detach(); mse = (y - h.mean(0)) ** 2
            return (.5 * mse / std ** 2).sum() * 200 + sum(l.kl() for l in ls)
        return trainer(ls, loss)
    W['bnn'] = bnn
    def mlp(sizes=(784, 128, 64, 10), B=32):
        m = nn.Sequential(*[z for n, (i, o) in enumerate(zip(sizes, sizes[1:])) for z in ([nn.Linear(i, o), nn.GELU('tanh')] if n < len(sizes) - 2 else [nn.Linear(i, o)])])
        x = torch.randn(B, sizes[0]); y = torch.randint(0, 10, (B,))
        return trainer(m, lambda: F.cross_entropy(m(x), y))
    W['mlp'] = mlp
    W['mlp_tiny'] = lambda B=16: mlp((8, 32, 32, 10), B)
    class MB(nn.Module):
        def __init__(s, C, P, H):
            super().__init__(); s.n1 = nn.LayerNorm((C, P)); s.n2 = nn.LayerNorm((P, C)); s.p = nn.Sequential(nn.Linear(P, H), nn.ReLU(), nn.Linear(H, P)); s.h = nn.Sequential(nn.Linear(C, H), nn.ReLU(), nn.Linear(H, C))
        def forward(s, y):
            y = y + s.p(s.n1(y)); y = y.transpose(1, 2); y = y + s.h(s.n2(y)); return y.transpose(1, 2)
    class Mixer(nn.Module):
        def __init__(s):
            super().__init__(); s.ci = nn.Conv2d(2, 64, 4, 4); s.co = nn.ConvTranspose2d(64, 1, 4, 4); s.b = nn.ModuleList([MB(64, 49, 512) for _ in range(4)]); s.n = nn.LayerNorm((64, 49))
        def forward(s, t, y):
            y = torch.cat([y, (t / 10).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)], 1); y = s.ci(y).flatten(2)
            for b in s.b: y = b(y)
            return s.co(s.n(y).view(-1, 64, 7, 7))
    def mixer(B=64):
        m = Mixer(); data = torch.randn(B, 1, 28, 28)
        def loss():
            t = torch.rand(B, device=data.device) * (10. / B) + (10. / B) * torch.arange(B, device=data.device); tt = t.view(-1, 1, 1, 1)
            std = (1 - torch.exp(-tt)).clamp_min(1e-5).sqrt(); noise = torch.randn_like(data); pred = m(t, data * torch.exp(-.5 * tt) + std * noise)
            return ((1 - torch.exp(-t)) * ((pred + noise / std) ** 2).mean((1, 2, 3))).mean()
        return trainer(m, loss, 3e-4)
    W['mixer'] = mixer
    W['mixer_b4'] = lambda: mixer(4)
    def cnn(B=16, ch=(16, 32, 64)):
        ls = []; ci = 3
        for i, c in enumerate(ch): ls += [nn.Conv2d(ci, c, 3, 1 if i == 0 else 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]; ci = c
        m = nn.Sequential(*ls, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(ci, 10)); x = torch.randn(B, 3, 32, 32); y = torch.randint(0, 10, (B,))
        return trainer(m, lambda: F.cross_entropy(m(x), y))
    W['cnn'] = cnn
    def mlp_f64(B=32):
        m = nn.Sequential(nn.Linear(784, 128), nn.GELU('tanh'), nn.Linear(128, 64), nn.GELU('tanh'), nn.Linear(64, 10)).double()
        x = torch.randn(B, 784, dtype=torch.float64); y = torch.randint(0, 10, (B,))
        return trainer(m, lambda: F.cross_entropy(m(x), y))
    W['mlp_f64'] = mlp_f64
    class TB(nn.Module):
        def __init__(s, D, heads):
            super().__init__(); s.heads = heads; s.n1 = nn.LayerNorm(D); s.n2 = nn.LayerNorm(D); s.qkv = nn.Linear(D, 3 * D, bias=False); s.o = nn.Linear(D, D, bias=False); s.h = nn.Linear(D, 4 * D); s.r = nn.Linear(4 * D, D)
        def forward(s, x):
            B, T, D = x.shape; q, k, v = s.qkv(s.n1(x)).view(B, T, 3, s.heads, D // s.heads).permute(2, 0, 3, 1, 4)
            x = x + s.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, D))
            return x + s.r(F.gelu(s.h(s.n2(x)), approximate='tanh'))
    class Transformer(nn.Module):
        def __init__(s, T, D, L, heads, letters):
            super().__init__(); s.e = nn.Embedding(letters, D); s.p = nn.Parameter(torch.randn(T, D) * .02); s.b = nn.Sequential(*[TB(D, heads) for _ in range(L)]); s.n = nn.LayerNorm(D); s.out = nn.Linear(D, letters)
        def forward(s, x): return s.out(s.n(s.b(s.e(x) + s.p)))
    def transformer(B=12, T=64, D=128, L=4, heads=4, letters=65):
        m = Transformer(T, D, L, heads, letters); x, y = (torch.randint(0, letters, (B, T)) for _ in range(2))
        return trainer(m, lambda: F.cross_entropy(m(x).view(-1, letters), y.view(-1)))
    W['transformer'] = transformer
    class GN(nn.Module):
        def __init__(s, f):
            super().__init__(); s.m = nn.ModuleList([nn.Linear(2 * f, f) for _ in range(3)]); s.u = nn.ModuleList([nn.Linear(2 * f, f) for _ in range(3)]); s.out = nn.Linear(f, 1)
        def forward(s, x, src, dst, of, graphs):
            for m, u in zip(s.m, s.u):
                h = F.relu(m(torch.cat([x[src], x[dst]], 1))); r = torch.zeros_like(x).index_add_(0, dst, h)
                x = F.relu(u(torch.cat([x, r], 1)))
            return s.out(torch.zeros(graphs, x.shape[1], device=x.device).index_add_(0, of, x))
    def graph(nodes=256, edges=1024, graphs=16, f=32):
        m = GN(f); x = torch.randn(nodes, f); src, dst = (torch.randint(0, nodes, (edges,)) for _ in range(2)); of = torch.arange(nodes) // (nodes // graphs); y = torch.randn(graphs, 1)
        return trainer(m, lambda: ((m(x, src, dst, of, graphs) - y) ** 2).mean())
    W['graph'] = graph
    def elementwise(B=64, columns=512):
        shape = (B, columns)
        x = torch.randn(shape); g = torch.ones(shape[-1]); b = torch.zeros(shape[-1])
        def f(x, g, b):
            y = F.layer_norm(x, (x.shape[-1],), g, b); y = F.gelu(y, approximate='tanh'); y = torch.tanh(y) + torch.sigmoid(y) * y; return torch.softmax(y, -1)
        ff = wrap(f)
        def run():
            with torch.no_grad(): return ff(x, g, b)
        return run
    W['elementwise'] = elementwise
    W['elementwise_big'] = lambda B=4096: elementwise(B, 1024)
    def scan(length=1000, width=16):
        h0 = torch.zeros(width); w = torch.full((width,), .9); xs = torch.randn(length, width)
        def f(h, w, xs):
            for x in xs: h = torch.tanh(h * w + x)
            return h
        def run():  # as it is: torch.compile would unroll the loop
            with torch.no_grad(): return f(h0, w, xs)
        return run
    W['scan'] = scan
    def adam_many(n=100, size=1000):
        ps = nn.ParameterList([nn.Parameter(torch.randn(size)) for _ in range(n)])
        return trainer(ps, lambda: sum((p ** 2).sum() for p in ps))
    W['adam_many'] = adam_many
    return W if device == 'cpu' else torch_on(torch, W, device, graphed)

def torch_kernels(compiled=False, device='cuda', graphed=False):
    """Single kernels of a size, on a GPU."""
    import torch, torch.nn.functional as F
    wrap = torch_wrap(torch, compiled, device, graphed)
    K = {}
    def kernel(f, *shapes):
        a = [torch.randn(shape) for shape in shapes]; f = wrap(f)
        def run():
            with torch.no_grad(): return f(*a)
        return run
    K['product'] = lambda B: kernel(torch.matmul, (B, B), (B, B))
    K['axpy'] = lambda B: kernel(lambda x, y: torch.add(y, x, alpha=2.), (B,), (B,))
    K['tanh'] = lambda B: kernel(torch.tanh, (B,))
    K['row_sum'] = lambda B: kernel(lambda x: x.sum(-1), (B, 1024))
    K['column_sum'] = lambda B: kernel(lambda x: x.sum(0), (B, 1024))
    K['softmax'] = lambda B: kernel(lambda x: torch.softmax(x, -1), (B, 1024))
    K['layer_norm'] = lambda B: kernel(lambda x, g, b: F.layer_norm(x, (1024,), g, b), (B, 1024), (1024,), (1024,))
    return torch_on(torch, K, device, graphed)

def workloads(peer, device='cpu'):
    """The workloads of `jax`, `torch`, `compile` or `graph`; on a GPU also single kernels, which take a size `B`."""
    if peer == 'jax':
        return {**jax_workloads(device), **(jax_kernels() if device != 'cpu' else {})}
    how = dict(compiled=peer != 'torch', device=device, graphed=peer == 'graph')
    return {**torch_workloads(**how), **(torch_kernels(**how) if device != 'cpu' else {})}

if __name__ == '__main__':
    device = next((a.split('=')[1] for a in sys.argv[1:] if a.startswith('--device=')), 'cpu')
    names = [a for a in sys.argv[1:] if not a.startswith('--')]
    which = [a[2:] for a in sys.argv[1:] if a.startswith('--') and '=' not in a] or ['jax', 'torch']
    rows = {}
    for w in which:
        W = workloads(w, device)
        for name in (names or (jax_workloads(device) if w == 'jax' else torch_workloads())):
            t0 = time.perf_counter()
            base, _, size = name.partition('@')
            try:
                run = W[base](B=int(size)) if size else W[base]()
                wait = waiter(w, device); wait(run()); c = time.perf_counter() - t0; us = timeit(run, wait=wait)
                rows.setdefault(name, {})[w] = us; print(f'{w:8s} {name:18s} {us:12.1f} us/step   first call {c:6.2f} s', flush=True)
            except Exception as e:
                print(f'{w:8s} {name:18s} failed: {type(e).__name__}: {str(e)[:200]}', flush=True)
    print(json.dumps(rows))
