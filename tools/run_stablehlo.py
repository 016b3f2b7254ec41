"""Runs programs in StableHLO on JAX's CPU compiler.

    python tools/run_stablehlo.py FOLDER

For each NAME.mlir of the folder there is NAME.json, the types of its arguments and results ([["f32", [2, 3]], …] under
"inputs" and "outputs"), and NAME.in, the arguments: the bytes of one after the other. Writes NAME.out, the results
likewise, or NAME.err, why there are none. A program that ends the process, as a trap in XLA's compiler does, ends a
worker; the others run in another one. Needs jax (0.10) and numpy.
"""
import glob, json, os, subprocess, sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What folds constants has other arithmetic than the code: it saturates sums of integers in a convolution, and traps at a
# remainder by 0.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_disable_hlo_passes=constant_folding"
import jax, numpy as np
from jax._src import xla_bridge
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jaxlib import _jax

jax.config.update("jax_enable_x64", True)
TYPES = dict(bool=np.bool_, i32=np.int32, u32=np.uint32, f32=np.float32, f64=np.float64, i64=np.int64, u64=np.uint64,
             i8=np.int8, u8=np.uint8, i16=np.int16, u16=np.uint16, bf16=jax.numpy.bfloat16, f16=np.float16)


def run(text, inputs):
    backend = xla_bridge.get_backend("cpu")
    device = backend.local_devices()[0]
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        module.operation.verify()
        options = _jax.CompileOptions()
        program = backend.compile_and_load(module, _jax.DeviceList((device,)), options)
    results = program.execute_sharded([jax.device_put(x, device) for x in inputs])
    return [np.asarray(shards[0]) for shards in results.disassemble_into_single_device_arrays()]


def work(folder):
    for path in sorted(glob.glob(f"{folder}/*.mlir")):
        base = path[: -len(".mlir")]
        if os.path.exists(base + ".out") or os.path.exists(base + ".err"):
            continue
        # Stays if the process ends here.
        open(base + ".err", "w").write("it ended JAX's process")
        try:
            types = json.load(open(base + ".json"))
            data, at, inputs = open(base + ".in", "rb").read(), 0, []
            for name, shape in types["inputs"]:
                dtype = np.dtype(TYPES[name])
                size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                inputs.append(np.frombuffer(data[at : at + size], dtype).reshape(shape))
                at += size
            results = run(open(path).read(), inputs)
            for (name, shape), x in zip(types["outputs"], results, strict=True):
                assert x.dtype == np.dtype(TYPES[name]) and list(x.shape) == shape, f"{x.dtype}{x.shape}, not {name}{shape}"
            open(base + ".out", "wb").write(b"".join(np.ascontiguousarray(x).tobytes() for x in results))
            os.remove(base + ".err")
        except Exception as error:
            open(base + ".err", "w").write(f"{type(error).__name__}: {error}")


def main(folder):
    while subprocess.run([sys.executable, __file__, "--worker", folder]).returncode != 0:
        pass


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        work(sys.argv[2])
    else:
        main(sys.argv[1])
