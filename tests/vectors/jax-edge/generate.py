"""Writes reference vectors computed by JAX for the edges of the wider op set: out-of-bounds indices, ties, NaN,
empty arrays, unequal padding, singular matrices, integer overflow, zero-trip loops and the like.

    pip install jax equinox optax numpyro
    python generate.py OUT_DIR [--seed 0] [--only edge_sort,edge_conv] [--full]
    python generate.py OUT_DIR --check          # recompute every case of OUT_DIR from its file, in f32 and in f64

`--full` adds the cases listed under EXTRA: more of the same kinds, twice as many in all.
The format is that of ../jax (its README.md); `--out OUT_DIR` is accepted too. Here a case is nothing
but an op, its parameters and its inputs: `OPS[op](*inputs, **params)` below is the JAX definition, complete.

Conventions of these groups:
  * `x64` among the parameters: JAX ran with 64-bit types enabled (f64, i64, u64 exist; other cases know 32 bits at most).
  * Files hold no bf16 or f16: such an op takes f32, rounds it to the dtype named in its parameters, computes there,
    and hands its result back as f32 (which is exact). Parameter `result_dtypes` tells the dtype of each result before that.
    XLA must then not skip roundings between operations, as it does by default (256 + 1 in bf16 would give 257).
  * Parameter `null` is Python's None; "inf" and "-inf" stand for those numbers.
"""
import argparse, ast, functools, glob, json, os, re
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_allow_excess_precision=false"
import numpy as np
import jax, jax.numpy as jnp, jax.random as jr
from jax import lax

ap = argparse.ArgumentParser()
ap.add_argument("out", nargs="?"); ap.add_argument("--out", dest="out_flag"); ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--only", help="comma-separated groups"); ap.add_argument("--full", action="store_true"); ap.add_argument("--check", action="store_true")
args = ap.parse_args()
OUT = args.out_flag or args.out or ap.error("OUT_DIR is missing")


def load_generate():
    """The functions of ../jax/generate.py, without running it."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "jax", "generate.py")
    tree = ast.parse(open(path).read())
    tree.body = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom, ast.FunctionDef))]
    scope = dict(SEED=args.seed, GROUPS={})
    exec(compile(tree, path, "exec"), scope)
    return argparse.Namespace(**{k: scope[k] for k in ("rng_for", "arr", "case", "shape", "GROUPS")})


base = load_generate()
rng_for = base.rng_for
OPS = {}
ALL, JVP, REV, VV, V = ("value", "jvp", "vjp", "vmap"), ("value", "jvp", "vmap"), ("value", "jvp", "vjp"), ("value", "vmap"), ("value",)
F32, BIT = dict(rtol=2e-5, atol=2e-6), dict(rtol=0, atol=0)
NP = {"f32": np.float32, "f64": np.float64, "bool": np.bool_, "i8": np.int8, "u8": np.uint8, "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64}
JAX = dict(NP, bf16=jnp.bfloat16, f16=jnp.float16)


def op(fn):
    """Registers fn(*inputs, **params) as the definition of the op of its name."""
    OPS[fn.__name__] = fn
    return fn


def ops(table):
    """Registers several one-line definitions: {name: fn}."""
    OPS.update(table)


def T(x):
    """Nested lists (as JSON has them) to tuples."""
    return tuple(map(T, x)) if isinstance(x, (list, tuple)) else x


def num(x):
    """A parameter that may be "inf" or "-inf"."""
    return float(x) if isinstance(x, str) else x


def bound(op, params):
    return lambda *xs: OPS[op](*[jnp.asarray(x) for x in xs], **{k: v for k, v in params.items() if k not in ("x64", "result_dtypes")})


def flat_of(op, params):
    fn = bound(op, params)
    return lambda *xs: [jnp.asarray(o) for o in jax.tree.leaves(fn(*xs))]


def arr(r, shape, dtype="f32", lo=-2.0, hi=2.0):
    """Uniform values: inside [lo, hi)  for floats, in lo..=hi for integers."""
    if dtype in ("f32", "f64"): return r.uniform(lo, hi, shape).astype(NP[dtype])
    if dtype == "bool": return r.integers(0, 2, shape).astype(bool)
    return r.integers(int(lo), int(hi), shape, endpoint=True, dtype=np.uint64 if dtype == "u64" else np.int64).astype(NP[dtype])


def apart(r, shape, gap=.125):
    """Values no two of which are nearer than gap/2: sorting and maxima have no near ties, finite differences work."""
    n = int(np.prod(shape))
    return ((r.permutation(n) - n / 2 + r.uniform(-.25, .25, n)) * gap).astype(np.float32).reshape(shape)


def pick(r, lo, hi):
    return int(r.integers(lo, hi, endpoint=True))


def case(group, name, op, inputs, params=None, check=ALL, rtol=2e-5, atol=2e-6, vmap_axes=None, batch=None):
    """base.case for OPS[op]; batch(r) -> list of inputs, where permuting an input's elements would make it invalid."""
    if not args.full and re.fullmatch(EXTRA[group], name): return
    params, axes = params or {}, vmap_axes if vmap_axes is not None else [0] * len(inputs)
    inputs = [np.asarray(x) for x in inputs]
    with jax.enable_x64(bool(params.get("x64"))):
        base.case(group, name, op, bound(op, params), inputs, params, [c for c in check if c != "vmap"], rtol, atol)
        if "vmap" not in check: return
        r = rng_for("vmap:" + name)
        if batch: more = [batch(r) for _ in range(2)]
        else: more = [[r.permutation(x.ravel()).reshape(x.shape) for x in inputs] for _ in range(2)]
        vin = [x if a is None else np.stack([x] + [m[i] for m in more], a) for i, (x, a) in enumerate(zip(inputs, axes))]
        vout = jax.jit(jax.vmap(flat_of(op, params), in_axes=tuple(axes)))(*vin)
    cases, A = base.GROUPS[group]
    cases[-1].update(check=list(check), vmap_axes=axes)
    A.update({f"{name}/vin{i}": x for i, x in enumerate(vin)}); A.update({f"{name}/vout{i}": np.asarray(x) for i, x in enumerate(vout)})


# ------------------------------------------------------------------ what only --full writes
EXTRA = dict(
    edge_indexing=r"gather_ints_fill_u32|gather_rows_oob_fill_value|gather_windows_swapped_map|gather_offset_first|scatter_(min|max)_duplicates_clip|scatter_add_none|take_(clip_1|fill_0|wrap_0|flat_2d_index)|at_get_(index_(i8|u32)|clip)|at_(min|divide|power|set_scalar|apply_square|slices_set|pairs_add|add_oob_clip)|getitem_(adjacent|grid|slices_[12]|ellipsis_newaxis)|dynamic_slice_(clamp_[12]|index_u32)|dynamic_index_in_dim|roll_(same_axis_twice|flat)|repeat_(axis|flat|zero|each_[47])|tile_fewer_axes|searchsorted_right|digitize|nonzero_3|segment_(min|prod)|one_hot_out_of_range_1|diagonal_[02]|diag_take|tril_1|triu_-2|meshgrid_ij_sparse|rot90|flip|pad_(edge|wrap|symmetric)|insert|ravel_multi_index_.*|bincount_.*|unravel_index|put_along_axis|gather_ints_fill_u8|scatter_min_duplicates_drop|take_clip_0|diag_build|tril_-2|getitem_static_mask|select_n|dynamic_slice_(clamp_0|index_i64)|scatter_add_bool_or_u8",
    edge_sort=r"argsort_nan_and_zeros|axis_(0|2|none)|descending_grad|argsort_axis0|sort_(u32|i8|u8|f16|key_val|tied_grad)|argsort_bool|length_one|ranks|top_k_(ties_[16]|u8|mask_grad)|lexsort_axis0|median_6|quantile_(lower_6|midpoint_6|nearest_6|linear_7)|nan(median|quantile|argmax|max_grad)|unique_3|argmin_of_.*|argmax_of_flat|min_tied_grad|isin|histogram_edges|partition",
    edge_cumulative=r"cumprod_one_zero_rev1|(cumsum|cumprod|cummin|cummax)_nonfinite_rev1|cummin_nonfinite_rev0|cummin_pair_tied_rev0|cummax_pair_tied_rev1|cumlogsumexp_(leading_minus_inf_rev0|far_rev1)|cumsum_axis(0_vmap0|1_vmap3|0_vmap2)|cumprod_axis(1_vmap0|2_vmap1|2_vmap3)|cummax_u8|cummin_i32|jnp_cumprod_u8|nancumprod|diff_2|trapezoid|affine_scan_f64|cumulative_sum_initial|jnp_cumsum_flat",
    edge_conv=r"1d_(negative_and_positive|kernel_longer_empty_result|NHC)|2d_(NHWC|VALID|1x1|whole_image|depthwise_NHWC)|vmap_(x_axis2|kernel_axis1)|spatial_zero_dims|i8_to_i32|lax_transpose_(explicit_dilated|stride_beyond_kernel)|eqx_conv1d_(REFLECT|REPLICATE)|eqx_conv2d_same|convolve_(same|valid)|correlate_short_first|convolve2d_same|patches",
    edge_window=r"min_(2d_asymmetric|3d|NCHW|NHWC|gaps|padding_only_windows|cumulative|negative_padding|nonfinite|base_dilation)|min_ties_(disjoint|padded)|max_(NCHW|gaps|one)|add_(1d_overlapping|NCHW|gaps|padding_only_windows|nonfinite|all|u8|u32)|max_u32|logsumexp_pool|lp_pool|eqx_(Max|Avg)_3d|eqx_Avg_(1d_ceil|adaptive_3d)|eqx_Max_(2d_padding|adaptive_1d)",
    edge_linalg=r"cholesky_(batched_upper0|1x1)|triangular_solve_singular|solve_vmap_b|inv_needs_pivoting|det_2x2|slogdet_f64|lu_(wide_batched|pivot_ties)|qr_(wide|r_only|f64)|eigh_(2x2|batched)|eigvalsh_diagonal|svd_values_(wide|f64|rank_deficient)|lstsq|pinv_rank_deficient|matrix_power_[01]|expm_small|vector_norm_(0|1|2|3|-inf|None)|matrix_norm_(fro|1|-1|2|-2|-inf)|norm1_zero_vector|safe_norm_above|global_norm_tree|cross|outer|multi_dot|tensordot_2|vdot|matmul_vector_batched|block_diag|toeplitz|vander|cov|corrcoef|gaussian_hessian|cho_solve|logdet_by_cholesky|triangular_solve_left0_lower(1_t0|0_t1)_unit0|triangular_solve_vmap_b|eigvalsh_f64|matrix_power_5|matrix_norm_inf|tensordot|solve_vector",
    edge_control=r"scan_trees_unroll2|scan_no_xs_1|scan_vmap_odd_axes|scan_gathers_by_batched_carry|grad_of_grad_of_scan|while_batched_limit|fori_bounds_[13]|fori_static_(plain|no_trip)|cond_captures_0|cond_nested|switch_index_(0|3)|map_rows_batch_None|associative_reverse_0|custom_linear_solve|cond_trees",
    edge_dtype=r"scalars_(u8|i8|u32|f16|f32)_x64_0|scalars_(u8|i32|bf16|f64)_x64_1|f32_to_u64|f64_to_i32|u32_to_f32|i64_to_(f32|u32)|bool_to_bf16|i8_to_u32|wrap_(i8|u32|u64)|div_(u8|i64|u64)|compare_(i32|u8|i64)|rem_(u32|i64)|floor_divide_(u32|i64)|remainder_(u32|i64|f32)|shifts_(i8|u32|u64)|bit_counts_(i8|u32|i64)|bitwise_(i32|u8|u32|i64|u64)|fmod_f32|divmod_f32|integer_power_i32_[023]|matmul_(f16|ones_f16|f32_result_f16|bf16)|sum_ones_f16|(exp|tanh|logistic|log1p|rsqrt|gelu|softmax|logsumexp|mean|var|layer_norm|grad)_f16|(exp|logistic|log1p|rsqrt|gelu|var)_bf16|rounding_(div_f16|mul_f16)|reductions_(i32|u8)_x64_[01]|reductions_u32_x64_0|true_divide_(u8|bool)|bitcast_(f64_u32|u8_f32|f32_i32)|copysign|signbit|modf|heaviside|round_decimals|clip_u8|gcd_lcm|mean_var_i32|linspace_one|arange_fraction|frexp|where_promotes|promote_(u32|f16|f32|i64)|nextafter|ldexp|floor_divide_i8|remainder_i8|rem_i8|div_u32|shifts_u8|bit_counts_u8|wrap_u8|compare_u32|scalars_(i64_x64_1|i32_x64_0)|f32_to_(bool|i8)|u64_to_f32_f64|convert_grad_f64|true_divide_bf16|bitcast_bf16|linspace_no_endpoint|grad_through_integers|rounding_mul_bf16|rounding_add_f16|(logsumexp|tanh|mean)_bf16|power_ints|reduce_precision|reductions_(bool|i8)_x64_1|promote_i32",
    edge_special=r"gammaln_f64|digamma_edge|polygamma_(0|f64)|zeta_1.5|igammac?_f64|igammac_edge|random_gamma_grad|bessel_i1e_edge|i0|betainc_(2.0_5.0|f64)|betaln_far_apart|beta_function|gamma_function|gammasgn|factorial|poch|entr|rel_entr(_edge)?|erfinv_edge|erfcx|ndtr|ndtri_edge|expn|spence|logsumexp_(keepdims|where)|logaddexp2|hypot_large|cbrt|power_(zero|negative)_base|arctan2_quadrants|log1mexp_edge|xlog1py_zero|xlogy_zero_grad|multigammaln|sinc_second_derivative_zero|logit|lgamma_hessian|kl_div|expit_edge",
    edge_random=r"split_(one|of_split)|fold_in_negative|bits_(scalar|empty)|randint_(5_i32|6_i32|8_i32|3_u8|x64_1)|(uniform|normal)_f16|normal_bf16|truncated_normal_tail|rademacher_f32|permutation_(columns|grad)|choice_(of_n_1|axis|scalar|1)|categorical_minus_inf|gumbel_high|cauchy|logistic_sample|maxwell|rayleigh|lognormal|double_sided_maxwell|generalized_normal|pareto|triangular|wald|chisquare|f_distribution|geometric|binomial_.*|multinomial|orthogonal_tall|ball_(1|3.5)|scan_splits_keys|loggamma_small|student_t|randint_9_i32|choice_of_n_0|weibull_min|dropout_grad|normal_f64|categorical_axis0",
    edge_nn=r"elu|selu|hard_sigmoid|sparse_sigmoid|leaky_relu|softplus_edge|mish_edge|selu_edge|softmax_axes|log_softmax_where|standardize_constant|logmeanexp|loss_(huber_at_delta|hinge|kl|kl_log_targets|convex_kl|cosine_distance|poly_cross_entropy|perceptron|smooth_labels|l2|binary_sparsemax|cross_entropy_labels_axis|triplet|ranking_softmax)|schedule_(linear_onecycle|warmup_constant|warmup_cosine_exponent|piecewise_constant)|init_(glorot_.*|lecun_.*|he_uniform_HWIO|orthogonal_3d|uniform)|attention_(bias|mask)|resize_(nearest|lanczos3)_up_down|scale_and_translate|map_coordinates_(constant|mirror)|interp_left_right|polyval|fftshift|rfft_cut|fft_odd|log_prob_(norm|laplace|cauchy|t|gamma|uniform_bounds|vonmises|nbinom|binom|dirichlet)|numpyro_(half_normal|log_normal|inverse_gamma|multinomial|categorical|lkj_cholesky)|ctc_grad|gumbel_softmax_hard|sparse_plus|schedule_cosine_exponent|init_truncated_normal|interp|resize_linear_no_antialias|log_prob_beta|numpyro_mvn_tril|loss_ntxent|standardize|fftn_ortho",
    edge_transform=r"custom_jvp_second|custom_vjp_unused_output|checkpoint_(everything_saveable|dots_saveable)|order_(4_exp_sin|5_integer_power|3_softplus|3_sqrt|3_gelu)|hessian_of_logsumexp|vmap_tree_axes|unused_input_grad|value_and_grad_aux|grad_of_jvp|same_input_twice|while_forward|grad_argnums_negative",
)


# ------------------------------------------------------------------ indexing
@op
def lax_gather(x, i, *, offset_dims, collapsed_slice_dims, start_index_map, slice_sizes, mode, operand_batching_dims=(), start_indices_batching_dims=(), fill_value=None):
    dn = lax.GatherDimensionNumbers(T(offset_dims), T(collapsed_slice_dims), T(start_index_map), T(operand_batching_dims), T(start_indices_batching_dims))
    return lax.gather(x, i, dn, T(slice_sizes), mode=mode, fill_value=fill_value)

@op
def lax_scatter(x, i, u, *, kind, update_window_dims, inserted_window_dims, scatter_dims_to_operand_dims, mode, operand_batching_dims=(), scatter_indices_batching_dims=(), unique_indices=False):
    f = dict(set=lax.scatter, add=lax.scatter_add, mul=lax.scatter_mul, min=lax.scatter_min, max=lax.scatter_max)[kind]
    dn = lax.ScatterDimensionNumbers(T(update_window_dims), T(inserted_window_dims), T(scatter_dims_to_operand_dims), T(operand_batching_dims), T(scatter_indices_batching_dims))
    return f(x, i, u, dn, unique_indices=unique_indices, mode=mode)

def slices(spec): return tuple(slice(*s) if isinstance(s, (list, tuple)) else s for s in spec)  # [start, stop, step] or an integer per axis

APPLY = dict(sin=jnp.sin, square=jnp.square, negative=jnp.negative)
ops({
    "jnp_take": lambda x, i, *, axis, mode, fill_value=None: jnp.take(x, i, axis=axis, mode=mode, fill_value=fill_value),
    "jnp_take_along_axis": lambda x, i, *, axis, mode=None, fill_value=None: jnp.take_along_axis(x, i, axis=axis, mode=mode, fill_value=fill_value),
    "put_along_axis": lambda x, i, u, *, axis: jnp.put_along_axis(x, i, u, axis=axis, inplace=False),
    "at_get": lambda x, i, *, mode=None, fill_value=None: x.at[i].get(mode=mode, fill_value=fill_value),  # negative indices count from the end, as in NumPy
    "at_update": lambda x, i, u, *, method, mode=None: getattr(x.at[i], method)(u, mode=mode),
    "at_apply": lambda x, i, *, fn: x.at[i].apply(APPLY[fn]),
    "at_slices_update": lambda x, u, *, index, method: getattr(x.at[slices(index)], method)(u),
    "at_static_mask_add": lambda x, u, *, mask: x.at[np.array(mask, bool)].add(u),  # u a scalar; a traced mask is an error
    "getitem_i_colon_j": lambda x, i, j: x[i, :, j],  # separated advanced indices: their axis comes first
    "getitem_colon_i_j": lambda x, i, j: x[:, i, j],
    "getitem_ellipsis_newaxis_i": lambda x, i: x[..., None, i],
    "getitem_grid": lambda x, i, j: x[jnp.ix_(i, j)],
    "getitem_slices": lambda x, *, index: x[slices(index)],
    "getitem_static_mask": lambda x, *, mask: x[np.array(mask, bool)],
    "at_pairs_add": lambda x, i, j, u: x.at[i, j].add(u),
    "where_mask": lambda m, x, y: jnp.where(m, x, y),
    "dynamic_slice": lambda x, *i, sizes: lax.dynamic_slice(x, i, T(sizes)),
    "dynamic_update_slice": lambda x, u, *i: lax.dynamic_update_slice(x, u, i),
    "dynamic_index_in_dim": lambda x, i, *, axis, keepdims: lax.dynamic_index_in_dim(x, i, axis, keepdims),
    "jnp_roll": lambda x, *, shift, axis: jnp.roll(x, T(shift), T(axis)),
    "roll_dynamic": lambda x, s, *, axis: jnp.roll(x, s, axis),
    "repeat": lambda x, *, repeats, axis: jnp.repeat(x, repeats, axis=axis),
    "repeat_each": lambda x, n, *, axis, total: jnp.repeat(x, n, axis=axis, total_repeat_length=total),  # cut or padded with the last element's to total
    "tile": lambda x, *, reps: jnp.tile(x, T(reps)),
    "searchsorted": lambda a, v, *, side: jnp.searchsorted(a, v, side=side),
    "digitize": lambda x, bins, *, right: jnp.digitize(x, bins, right=right),
    "nonzero": lambda x, *, size, fill_value: jnp.nonzero(x, size=size, fill_value=fill_value),
    "segment": lambda x, s, *, kind, num_segments: getattr(jax.ops, "segment_" + kind)(x, s, num_segments),
    "one_hot_of": lambda i, *, classes, axis: jax.nn.one_hot(i, classes, axis=axis),
    "diagonal": lambda x, *, offset, axis1, axis2: jnp.diagonal(x, offset, axis1, axis2),
    "diag": lambda x, *, k: jnp.diag(x, k),
    "jnp_tril": lambda x, *, k: jnp.tril(x, k), "jnp_triu": lambda x, *, k: jnp.triu(x, k),
    "meshgrid": lambda *xs, indexing, sparse: jnp.meshgrid(*xs, indexing=indexing, sparse=sparse),
    "block": lambda a, b, c, d: jnp.block([[a, b], [c, d]]),
    "rot90": lambda x, *, k: jnp.rot90(x, k), "flip": lambda x, *, axis: jnp.flip(x, T(axis)),
    "jnp_pad": lambda x, *, width, mode: jnp.pad(x, T(width), mode=mode),
    "jnp_insert": lambda x, v, *, at, axis: jnp.insert(x, at, v, axis=axis),
    "unravel_index": lambda i, *, shape: jnp.unravel_index(i, T(shape)),
    "ravel_multi_index": lambda *i, shape, mode: jnp.ravel_multi_index(i, T(shape), mode=mode),
    "select_n": lambda w, *xs: lax.select_n(w, *xs),
    "bincount": lambda x, *, length: jnp.bincount(x, length=length),
    "bincount_weights": lambda x, w, *, length: jnp.bincount(x, w, length=length),
})


def indexing():
    g = "edge_indexing"; r = rng_for(g); C = functools.partial(case, g)
    n, m = pick(r, 5, 8), pick(r, 3, 5); x = arr(r, (n, m)); I = lambda *v: np.array(v, np.int32)
    rows = dict(offset_dims=[1], collapsed_slice_dims=[0], start_index_map=[0], slice_sizes=[1, m])
    oob = I([-1], [0], [n], [2], [n - 1], [-n - 3], [2], [2 ** 31 - 1], [-2 ** 31])
    for mode in ("clip", "fill"): C(f"gather_rows_oob_{mode}", "lax_gather", [x, oob], dict(rows, mode=mode), vmap_axes=[0, None])
    C("gather_rows_oob_fill_value", "lax_gather", [x, oob], dict(rows, mode="fill", fill_value=-7.5), vmap_axes=[1, 0])
    C("gather_rows_promise", "lax_gather", [x, I([1], [n - 1], [1], [0])], dict(rows, mode="promise_in_bounds"), vmap_axes=[None, 0])
    C("gather_rows_none", "lax_gather", [x, np.zeros((0, 1), np.int32)], dict(rows, mode="clip"), REV)
    for dt in ("i32", "u32", "u8"):
        C(f"gather_ints_fill_{dt}", "lax_gather", [arr(r, (n, m), dt, 0, 9), oob], dict(rows, mode="fill"), VV, **BIT)
    win = dict(offset_dims=[1, 2], collapsed_slice_dims=[], start_index_map=[0, 1], slice_sizes=[2, 3])
    starts = I([0, 0], [n - 2, m - 3], [n - 1, 0], [1, -1], [n + 4, m + 4], [0, 1])
    for mode in ("clip", "fill"): C(f"gather_windows_{mode}", "lax_gather", [x, starts], dict(win, mode=mode), vmap_axes=[0, 0])
    C("gather_windows_swapped_map", "lax_gather", [x, I([0, 1], [m - 3, n - 2], [9, 9])], dict(win, start_index_map=[1, 0], mode="clip"), vmap_axes=[0, None])
    y = arr(r, (4, n, m))
    C("gather_offset_first", "lax_gather", [y, r.integers(0, n, (2, 5, 1)).astype(np.int32)], dict(offset_dims=[0, 3], collapsed_slice_dims=[1], start_index_map=[1], slice_sizes=[4, 1, m], mode="clip"), vmap_axes=[2, 1])
    C("gather_batching_dims", "lax_gather", [y, I(*[[[j % n], [n], [-1]] for j in range(4)])], dict(offset_dims=[2], collapsed_slice_dims=[1], start_index_map=[1], operand_batching_dims=[0], start_indices_batching_dims=[0], slice_sizes=[1, 1, m], mode="fill"), vmap_axes=[0, 1])
    C("gather_index_i64", "lax_gather", [arr(r, (n, m), "f64"), np.array([[-1], [2 ** 40], [1]], np.int64)], dict(rows, mode="clip", x64=True))
    su = dict(update_window_dims=[1], inserted_window_dims=[0], scatter_dims_to_operand_dims=[0]); dup = I([1], [-1], [0], [1], [n], [1], [n - 1])
    for kind in ("add", "min", "max"):
        for mode in ("clip", "drop"):
            C(f"scatter_{kind}_duplicates_{mode}", "lax_scatter", [x, dup, apart(r, (7, m))], dict(su, kind=kind, mode=mode), vmap_axes=[0, None, 0])
    C("scatter_mul_duplicates_drop", "lax_scatter", [x, dup, arr(r, (7, m))], dict(su, kind="mul", mode="drop"), VV, vmap_axes=[0, 0, 0])
    C("scatter_mul_unique", "lax_scatter", [x, I([1], [n - 1], [0]), arr(r, (3, m))], dict(su, kind="mul", mode="clip", unique_indices=True), vmap_axes=[None, None, 0])
    C("scatter_set_oob_drop", "lax_scatter", [x, I([n], [1], [-1], [0]), arr(r, (4, m))], dict(su, kind="set", mode="drop"), vmap_axes=[0, 0, 0])
    C("scatter_max_tied", "lax_scatter", [np.zeros((4,), np.float32), I([1], [2], [1], [3]), np.array([0., 2., 0., -1.], np.float32)], dict(update_window_dims=[], inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], kind="max", mode="clip"))
    sw = dict(update_window_dims=[1, 2], inserted_window_dims=[], scatter_dims_to_operand_dims=[0, 1])
    for mode in ("clip", "drop"): C(f"scatter_add_windows_{mode}", "lax_scatter", [x, starts, arr(r, (6, 2, 3))], dict(sw, kind="add", mode=mode), vmap_axes=[0, 0, 0])
    C("scatter_add_batching_dims", "lax_scatter", [y, r.integers(-1, n + 1, (4, 3, 1)).astype(np.int32), arr(r, (4, 3, m))], dict(update_window_dims=[2], inserted_window_dims=[1], scatter_dims_to_operand_dims=[1], operand_batching_dims=[0], scatter_indices_batching_dims=[0], kind="add", mode="drop"), vmap_axes=[0, 0, 0])
    C("scatter_add_none", "lax_scatter", [x, np.zeros((0, 1), np.int32), np.zeros((0, m), np.float32)], dict(su, kind="add", mode="clip"), REV)
    C("scatter_add_bool_or_u8", "lax_scatter", [arr(r, (n, m), "u8", 100, 255), dup, arr(r, (7, m), "u8", 100, 255)], dict(su, kind="add", mode="clip"), VV, **BIT)
    for mode in ("clip", "fill", "wrap"):
        for ax in (0, 1): C(f"take_{mode}_{ax}", "jnp_take", [x, I(-1, 0, 2, -m, 9, -9)], dict(axis=ax, mode=mode), vmap_axes=[0, None] if ax else [None, 0])
    C("take_flat_2d_index", "jnp_take", [x, r.integers(0, n * m, (2, 3)).astype(np.int32)], dict(axis=None, mode="fill"))
    C("take_along_axis_fill", "jnp_take_along_axis", [x, r.integers(-n - 2, n + 3, (4, m)).astype(np.int32)], dict(axis=0))
    C("take_along_axis_broadcast", "jnp_take_along_axis", [y, r.integers(0, m, (1, n, 2)).astype(np.int32)], dict(axis=-1, mode="clip"), vmap_axes=[1, None])
    C("put_along_axis", "put_along_axis", [x, np.stack([r.permutation(m)[:2] for _ in range(n)]).astype(np.int32), arr(r, (n, 2))], dict(axis=1), REV)
    C("at_get_default", "at_get", [x, I(-1, n - 1, -n, 0, 0)], {}, vmap_axes=[0, None])  # without a mode JAX presumes that indices are in bounds
    for mode in ("clip", "fill"): C("at_get_" + mode, "at_get", [x, I(-1, n, -n, -n - 1, 0)], dict(mode=mode), vmap_axes=[0, 0])
    for dt in ("u32", "u8", "i8"): C(f"at_get_index_{dt}", "at_get", [arr(r, (100, 2)), np.array([0, 99, 7, 101, 7] if dt != "i8" else [0, 99, -1, 101, -100], NP[dt])], dict(mode="clip"), vmap_axes=[None, 0])
    for me in ("add", "multiply", "min", "max", "divide", "power"):
        unique = me in ("multiply", "divide", "power"); i = I(-1, 2, 0) if unique else I(-1, 2, 2, n, 0)
        C(f"at_{me}", "at_update", [np.abs(x) + .5, i, np.abs(arr(r, (len(i), m))) + .25], dict(method=me), VV if unique else ALL, rtol=1e-4, atol=1e-5, vmap_axes=[0, None, 0])
    C("at_set_scalar", "at_update", [x, I(1, -2, 1), np.float32(4.5)], dict(method="set"), vmap_axes=[0, 0, None])
    C("at_add_oob_clip", "at_update", [x, I(n, n + 9, 0), arr(r, (3, m))], dict(method="add", mode="clip"), vmap_axes=[0, None, 0])
    for fn in ("sin", "square"): C(f"at_apply_{fn}", "at_apply", [x, I(-1, 1, 1)], dict(fn=fn), VV, vmap_axes=[0, None])
    C("at_slices_add", "at_slices_update", [x, arr(r, (3, m))], dict(index=[[4, None, -2], [None, None, -1]], method="add"))
    C("at_slices_set", "at_slices_update", [y, arr(r, (n,))], dict(index=[-1, [None, None, -1], 1], method="set"))
    C("at_static_mask_add", "at_static_mask_add", [x, np.float32(-3.5)], dict(mask=arr(r, (n, m), "bool").tolist()), vmap_axes=[0, None])
    z = arr(r, (4, 3, 5)); i, j = I(0, -1, 3, 0), I(4, 0, -2, 4)
    C("getitem_separated", "getitem_i_colon_j", [z, i, j], {}, vmap_axes=[0, None, 0])
    C("getitem_adjacent", "getitem_colon_i_j", [z, I([0, -1], [2, 0]), I(4, -1)], {}, vmap_axes=[0, 0, None])
    C("getitem_ellipsis_newaxis", "getitem_ellipsis_newaxis_i", [z, j], {}, vmap_axes=[1, 0])
    C("getitem_grid", "getitem_grid", [z, I(3, 0, 3), I(-1, 1)], {}, vmap_axes=[0, None, None])
    for k, ix in enumerate([[[None, None, -1], [2, None, -2], [-1, -6, -3]], [[-2, None, None], -1, [4, 0, -1]], [[3, 3, 1], [0, 9, 2], [None, None, None]]]):
        C(f"getitem_slices_{k}", "getitem_slices", [z], dict(index=ix))
    C("getitem_static_mask", "getitem_static_mask", [z], dict(mask=[True, False, False, True]))
    C("at_pairs_add", "at_pairs_add", [x, I([0], [-1]), I([0, 1, 1]), arr(r, (2, 3))], {}, vmap_axes=[0, None, 0, 0])
    C("where_mask_nan", "where_mask", [arr(r, (n, m), "bool"), x, np.full((n, m), np.nan, np.float32)], {})
    for k, s in enumerate([(-1, 2), (n, m), (-n - 5, -m), (2 ** 31 - 1, -2 ** 31)]):
        C(f"dynamic_slice_clamp_{k}", "dynamic_slice", [x, np.int32(s[0]), np.int32(s[1])], dict(sizes=[3, 2]), ALL, vmap_axes=[0, None, None])
    C("dynamic_slice_batched_start", "dynamic_slice", [x, np.int32(-1), np.int32(1)], dict(sizes=[2, 2]), VV, vmap_axes=[None, 0, 0], batch=lambda r: [x, np.int32(pick(r, -9, 9)), np.int32(pick(r, -9, 9))])
    for dt in ("u8", "u32"): C(f"dynamic_slice_index_{dt}", "dynamic_slice", [x, NP[dt](200), NP[dt](1)], dict(sizes=[2, 2]), REV)
    C("dynamic_slice_index_i64", "dynamic_slice", [arr(r, (n, m), "f64"), np.int64(2 ** 40), np.int64(-2 ** 40)], dict(sizes=[2, 2], x64=True), REV)
    C("dynamic_update_slice_overlap", "dynamic_update_slice", [x, arr(r, (3, 2)), np.int32(n - 1), np.int32(-5)], {}, vmap_axes=[0, 0, None, None])
    C("dynamic_update_slice_batched_start", "dynamic_update_slice", [x, arr(r, (3, 2)), np.int32(1), np.int32(0)], {}, VV, vmap_axes=[0, None, 0, 0], batch=lambda r: [arr(r, (n, m)), 0, np.int32(pick(r, -9, 9)), np.int32(pick(r, -9, 9))])
    C("dynamic_index_in_dim", "dynamic_index_in_dim", [z, np.int32(-1)], dict(axis=1, keepdims=False), REV)
    C("roll_many_axes", "jnp_roll", [z], dict(shift=[-7, 2], axis=[0, 2])); C("roll_same_axis_twice", "jnp_roll", [z], dict(shift=[1, 1], axis=[1, 1])); C("roll_flat", "jnp_roll", [z], dict(shift=13, axis=None))
    C("roll_dynamic", "roll_dynamic", [x, np.int32(-3)], dict(axis=0), VV, vmap_axes=[0, 0], batch=lambda r: [arr(r, (n, m)), np.int32(pick(r, -20, 20))])
    C("repeat_axis", "repeat", [x], dict(repeats=3, axis=1)); C("repeat_flat", "repeat", [x], dict(repeats=2, axis=None)); C("repeat_zero", "repeat", [x], dict(repeats=0, axis=0), REV)
    for tot in (4, 7, 12): C(f"repeat_each_{tot}", "repeat_each", [arr(r, (4, 3)), I(2, 0, 1, 4)], dict(axis=0, total=tot), vmap_axes=[0, None])
    C("tile_more_axes", "tile", [x], dict(reps=[2, 1, 3])); C("tile_fewer_axes", "tile", [z], dict(reps=[2]))
    a = np.array([-1, 0, 0, 0, 1.5, 2, 2, np.inf], np.float32); v = np.array([0, -np.inf, np.nan, 2, 1, np.inf, -0.0, -1], np.float32)
    for side in ("left", "right"): C(f"searchsorted_{side}", "searchsorted", [a, v], dict(side=side), VV, vmap_axes=[None, 0])
    C("digitize", "digitize", [v, np.array([3, 2, 0, -1], np.float32)], dict(right=True), V)
    for sz, fv in ((3, 0), (9, -1)): C(f"nonzero_{sz}", "nonzero", [np.array([[0, 3, 0], [1, 0, 2], [0, 0, 7]], np.int32)], dict(size=sz, fill_value=fv), VV, **BIT)
    seg = I(0, 2, -1, 2, 5, 0, 3, 2)
    for kind in ("sum", "max", "min", "prod"): C(f"segment_{kind}", "segment", [apart(r, (8, 2)) + .07, seg], dict(kind=kind, num_segments=5), VV if kind == "prod" else ALL, vmap_axes=[0, None])
    for k, ax in enumerate((-1, 0)): C(f"one_hot_out_of_range_{k}", "one_hot_of", [I([0, 4, -1], [5, 2, 99])], dict(classes=5, axis=ax), VV, **BIT)
    for off in (0, 2, -1): C(f"diagonal_{off}", "diagonal", [z], dict(offset=off, axis1=0, axis2=2), REV)
    C("diag_build", "diag", [arr(r, (4,))], dict(k=-2)); C("diag_take", "diag", [x], dict(k=1))
    for k in (-2, 1): C(f"tril_{k}", "jnp_tril", [z], dict(k=k)); C(f"triu_{k}", "jnp_triu", [z], dict(k=k), REV)
    C("meshgrid_xy", "meshgrid", [arr(r, (3,)), arr(r, (4,)), arr(r, (2,))], dict(indexing="xy", sparse=False)); C("meshgrid_ij_sparse", "meshgrid", [arr(r, (3,)), arr(r, (4,))], dict(indexing="ij", sparse=True))
    C("block_matrix", "block", [arr(r, (2, 3)), arr(r, (2, 1)), arr(r, (4, 3)), arr(r, (4, 1))], {}, vmap_axes=[0, None, None, 1])
    C("rot90", "rot90", [z], dict(k=3)); C("flip", "flip", [z], dict(axis=[0, -1]))
    for mode in ("reflect", "edge", "wrap", "symmetric"): C(f"pad_{mode}", "jnp_pad", [x], dict(width=[[2, 7], [0, 4]], mode=mode))
    C("insert", "jnp_insert", [x, arr(r, (m,))], dict(at=-2, axis=0), REV)
    C("unravel_index", "unravel_index", [I(0, 23, -1, 24, -25, 7)], dict(shape=[2, 3, 4]), VV, **BIT)
    for mode in ("clip", "wrap"): C(f"ravel_multi_index_{mode}", "ravel_multi_index", [I(0, 5, -1), I(1, 2, 9)], dict(shape=[3, 4], mode=mode), VV, **BIT)
    C("select_n", "select_n", [I([0, 2, 1], [1, 1, 2])] + [arr(r, (2, 3)) for _ in range(3)], {}, vmap_axes=[0, 0, None, 0])
    C("bincount_length", "bincount", [I(0, 3, 3, 9, -1, 1)], dict(length=5), V, **BIT); C("bincount_weights", "bincount_weights", [I(0, 3, 3, 9, 1), arr(r, (5,))], dict(length=5), REV)


# ------------------------------------------------------------------ sorting, order statistics
ops({
    "lax_sort": lambda *xs, dimension, is_stable, num_keys: lax.sort(xs, dimension=dimension, is_stable=is_stable, num_keys=num_keys),
    "jnp_sort": lambda x, *, axis, descending=False: jnp.sort(x, axis=axis, descending=descending, stable=True),
    "jnp_argsort": lambda x, *, axis, descending=False: jnp.argsort(x, axis=axis, descending=descending, stable=True),
    "sort_key_val": lambda k, v, *, axis: lax.sort_key_val(k, v, dimension=axis),
    "top_k": lambda x, *, k: lax.top_k(x, k),
    "lexsort": lambda *keys, axis: jnp.lexsort(keys, axis),
    "ranks": lambda x: jnp.argsort(jnp.argsort(x)),
    "argsort_weighted": lambda x: jnp.sum(jnp.argsort(x) * x),  # no gradient through argsort
    "sort_weighted": lambda x, w, *, descending: jnp.sum(jnp.sort(x, descending=descending) * w),
    "median": lambda x, *, axis: jnp.median(x, axis=axis), "nanmedian": lambda x, *, axis: jnp.nanmedian(x, axis=axis),
    "quantile": lambda x, *, q, axis, method: jnp.quantile(x, jnp.asarray(q, x.dtype), axis=axis, method=method),
    "nanquantile": lambda x, *, q, axis: jnp.nanquantile(x, jnp.asarray(q, x.dtype), axis=axis),
    "unique": lambda x, *, size, fill_value: jnp.unique(x, size=size, fill_value=fill_value, return_index=True, return_inverse=True, return_counts=True),
    "argmax_of": lambda x, *, axis: jnp.argmax(x, axis=axis), "argmin_of": lambda x, *, axis: jnp.argmin(x, axis=axis),
    "nanargmax": lambda x, *, axis: jnp.nanargmax(x, axis=axis), "nanmax": lambda x, *, axis: jnp.nanmax(x, axis=axis),
    "partition_values": lambda x, *, kth: jnp.sort(jnp.partition(x, kth)[..., :kth]),
    "max_of": lambda x, *, axis: jnp.max(x, axis=axis), "min_of": lambda x, *, axis: jnp.min(x, axis=axis),
    "isin": lambda x, t: jnp.isin(x, t),
    "histogram": lambda x, *, bins, lo, hi: jnp.histogram(x, bins=bins, range=(lo, hi))[0],
    "sort_dtype": lambda x, *, dtype: jnp.sort(x.astype(JAX[dtype])).astype(jnp.float32),
    "top_k_mask_grad": lambda x, *, k: jax.grad(lambda x: jnp.sum(lax.top_k(x, k)[0] ** 2))(x),
})


def sorting():
    g = "edge_sort"; r = rng_for(g); C = functools.partial(case, g); nan, inf = np.nan, np.inf
    e = np.array([nan, 1, -0.0, inf, 0.0, -inf, -nan, 2, -0.0, 0.0, -1, nan, 1], np.float32); iota = np.arange(len(e), dtype=np.int32)
    C("nan_and_zeros", "jnp_sort", [e], dict(axis=0), VV, **BIT); C("nan_and_zeros_descending", "jnp_sort", [e], dict(axis=0, descending=True), VV, **BIT)
    C("argsort_nan_and_zeros", "jnp_argsort", [e], dict(axis=0), VV, **BIT); C("argsort_nan_and_zeros_descending", "jnp_argsort", [e], dict(axis=0, descending=True), VV, **BIT)
    C("multi_operand_carry", "lax_sort", [e, iota, e[::-1].copy()], dict(dimension=0, is_stable=True, num_keys=1), VV, **BIT)
    s = base.shape(r, 3, 2, 5)
    for ax in (0, 1, 2, -2): C(f"axis_{ax}", "jnp_sort", [apart(r, s)], dict(axis=ax), vmap_axes=[1])
    C("axis_none", "jnp_sort", [apart(r, s)], dict(axis=None)); C("descending_grad", "jnp_sort", [apart(r, s)], dict(axis=1, descending=True))
    ties = r.integers(0, 3, (4, 9)).astype(np.int32)
    C("stable_ties_two_keys", "lax_sort", [ties, r.integers(0, 2, (4, 9)).astype(np.int32), arr(r, (4, 9))], dict(dimension=1, is_stable=True, num_keys=2))
    C("stable_ties_one_key", "lax_sort", [ties.astype(np.float32), arr(r, (4, 9)), np.tile(np.arange(9, dtype=np.int32), (4, 1))], dict(dimension=1, is_stable=True, num_keys=1))
    C("argsort_ties_descending", "jnp_argsort", [ties], dict(axis=1, descending=True), VV, **BIT); C("argsort_axis0", "jnp_argsort", [ties], dict(axis=0), VV, **BIT)
    for dt, lo, hi in (("i32", -2 ** 31, 2 ** 31 - 1), ("u32", 0, 2 ** 32 - 1), ("u8", 0, 255), ("i8", -128, 127), ("bool", 0, 1)):
        C(f"sort_{dt}", "jnp_sort", [np.append(arr(r, (8,), dt, lo, hi), np.array([lo, hi], NP[dt]))], dict(axis=0), VV, **BIT)
    C("argsort_bool", "jnp_argsort", [arr(r, (3, 8), "bool")], dict(axis=1), VV, **BIT)
    for dt, lo, hi in (("i64", -2 ** 62, 2 ** 62), ("u64", 0, 2 ** 64 - 1)): C(f"sort_{dt}", "jnp_argsort", [arr(r, (9,), dt, lo, hi)], dict(axis=0, x64=True), VV, **BIT)
    C("sort_f64", "jnp_sort", [1 + np.array([3e-16, 0, -2e-16, 5e-16, nan, -0.0])], dict(axis=0, x64=True), VV, **BIT)
    for dt in ("bf16", "f16"): C(f"sort_{dt}", "sort_dtype", [np.array([1.5, nan, -2, 1.5078125, inf, -inf, 0, 3], np.float32)], dict(dtype=dt), VV, **BIT)
    C("length_zero", "jnp_sort", [np.zeros((3, 0), np.float32)], dict(axis=1), V); C("length_one", "jnp_sort", [arr(r, (3, 1))], dict(axis=1))
    C("sort_key_val", "sort_key_val", [apart(r, (3, 6)), arr(r, (3, 6))], dict(axis=0))
    C("sort_tied_grad", "sort_weighted", [np.array([2, 1, 2, 0, 1, 2], np.float32), arr(r, (6,))], dict(descending=False))
    C("sort_tied_grad_descending", "sort_weighted", [np.array([2, 1, 2, 0, 1, 2], np.float32), arr(r, (6,))], dict(descending=True))
    C("argsort_no_grad", "argsort_weighted", [apart(r, (7,))]); C("ranks", "ranks", [apart(r, (9,))], {}, VV, **BIT)
    tie = np.array([[3, 5, 5, 1, 5, 3], [0, 0, 0, 0, 0, 0], [-1, 2, -1, 2, -1, 2]], np.float32)
    for k in (1, 3, 6): C(f"top_k_ties_{k}", "top_k", [tie], dict(k=k), vmap_axes=[1])
    C("top_k_nan", "top_k", [np.array([1, nan, -inf, inf, 2], np.float32)], dict(k=3), VV, **BIT)
    C("top_k_i32", "top_k", [np.array([5, -2 ** 31, 2 ** 31 - 1, 5, 0], np.int32)], dict(k=4), VV, **BIT); C("top_k_u8", "top_k", [arr(r, (3, 7), "u8", 0, 255)], dict(k=2), VV, **BIT)
    C("top_k_mask_grad", "top_k_mask_grad", [apart(r, (4, 6))], dict(k=2))
    C("lexsort", "lexsort", [ties[0], ties[1], ties[2]], dict(axis=-1), VV, **BIT); C("lexsort_axis0", "lexsort", [ties, ties[::-1].copy()], dict(axis=0), VV, **BIT)
    for n in (6, 7):
        C(f"median_{n}", "median", [apart(r, (3, n))], dict(axis=1))
        for me in ("linear", "lower", "higher", "midpoint", "nearest"):
            if n == 6 or me == "linear": C(f"quantile_{me}_{n}", "quantile", [apart(r, (3, n))], dict(q=[0., .13, .5, .77, 1.], axis=1, method=me))
    C("median_tied", "median", [np.array([1, 2, 2, 2, 3, 0], np.float32)], dict(axis=0)); C("median_nan", "median", [np.array([[1, nan, 2], [3, 1, 2]], np.float32)], dict(axis=1), VV)
    C("nanmedian", "nanmedian", [np.array([[1, nan, 2, 4], [3, 1, 2, nan], [nan] * 4], np.float32)], dict(axis=1), VV); C("nanquantile", "nanquantile", [np.array([[1, nan, 2, 4], [3, 1, 2, 5]], np.float32)], dict(q=[.25, .6], axis=1), VV)
    for sz in (3, 8): C(f"unique_{sz}", "unique", [np.array([3, 1, 3, 7, 0, 1, 9], np.int32)], dict(size=sz, fill_value=-5), V, **BIT)
    C("unique_nan", "unique", [np.array([nan, 1, -0.0, nan, 0.0, 1], np.float32)], dict(size=6, fill_value=9.), V, **BIT)
    for f in ("argmax_of", "argmin_of"):
        C(f + "_ties", f, [tie], dict(axis=1), VV, **BIT); C(f + "_nan", f, [np.array([[1, nan, 3, nan], [inf, 1, inf, -inf]], np.float32)], dict(axis=1), VV, **BIT); C(f + "_flat", f, [ties], dict(axis=None), VV, **BIT)
    C("nanargmax", "nanargmax", [np.array([[1, nan, 3], [nan, -2, -3]], np.float32)], dict(axis=1), VV, **BIT)
    C("nanmax_grad", "nanmax", [np.array([[1, nan, 3], [nan, -2, -3]], np.float32)], dict(axis=1), ("value", "vmap"))
    C("max_tied_grad", "max_of", [tie], dict(axis=1)); C("min_tied_grad", "min_of", [tie], dict(axis=0)); C("max_all_tied_grad", "max_of", [np.full((2, 3), 2, np.float32)], dict(axis=None), REV)
    C("partition", "partition_values", [apart(r, (3, 7))], dict(kth=3), VV); C("isin", "isin", [ties, np.array([2, 5], np.int32)], {}, VV, vmap_axes=[0, None], **BIT)
    C("histogram_edges", "histogram", [np.array([0, .5, 1, 1.5, 2, 3, -1, 2.0, .25], np.float32)], dict(bins=4, lo=0., hi=2.), V, **BIT)


# ------------------------------------------------------------------ cumulative
@op
def matrix_products(a, *, reverse):
    return lax.associative_scan(jnp.matmul, a, reverse=reverse)  # prefix products a0, a0 a1, ... (reverse: ..., a2 a1)

@op
def affine_scan(a, b, *, axis):  # h_t = a_t h_(t-1) + b_t, all at once
    return lax.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (a, b), axis=axis)

ops({
    "cumsum": lambda x, *, axis, reverse: lax.cumsum(x, axis=axis, reverse=reverse), "cumprod": lambda x, *, axis, reverse: lax.cumprod(x, axis=axis, reverse=reverse),
    "cummax": lambda x, *, axis, reverse: lax.cummax(x, axis=axis, reverse=reverse), "cummin": lambda x, *, axis, reverse: lax.cummin(x, axis=axis, reverse=reverse),
    "cumlogsumexp": lambda x, *, axis, reverse: lax.cumlogsumexp(x, axis=axis, reverse=reverse),
    "jnp_cumsum": lambda x, *, axis: jnp.cumsum(x, axis=axis), "jnp_cumprod": lambda x, *, axis: jnp.cumprod(x, axis=axis),
    "nancumsum": lambda x, *, axis: jnp.nancumsum(x, axis=axis), "nancumprod": lambda x, *, axis: jnp.nancumprod(x, axis=axis),
    "cumulative_sum": lambda x, *, axis, include_initial: jnp.cumulative_sum(x, axis=axis, include_initial=include_initial),
    "diff": lambda x, *, n, axis: jnp.diff(x, n=n, axis=axis), "trapezoid": lambda y, x, *, axis: jnp.trapezoid(y, x, axis=axis),
    "prod": lambda x, *, axis: jnp.prod(x, axis=axis), "prod_hessian": lambda x: jax.hessian(jnp.prod)(x),
    "scan_max_by_value": lambda v, i: lax.associative_scan(lambda p, q: (jnp.maximum(p[0], q[0]), jnp.where(q[0] > p[0], q[1], p[1])), (v, i)),
    "cumsum_second_derivative": lambda x: jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.cumsum(x) ** 3))(x) ** 2))(x),
})


def cumulative():
    g = "edge_cumulative"; r = rng_for(g); C = functools.partial(case, g); nan, inf = np.nan, np.inf
    z = arr(r, (3, 6), "f32", .5, 2); z1 = z.copy(); z1[0, 2] = 0; z1[1, 0] = 0; z1[2, 5] = 0; z2 = z1.copy(); z2[0, 4] = 0; z2[1, 1] = 0; z2[2, 5] = 0; z2[2, 1] = 0
    for rev in (False, True):
        t = f"rev{int(rev)}"
        C("cumprod_one_zero_" + t, "cumprod", [z1], dict(axis=1, reverse=rev)); C("cumprod_two_zeros_" + t, "cumprod", [z2], dict(axis=1, reverse=rev), vmap_axes=[1])
        for f in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"):
            C(f"{f}_nonfinite_{t}", f, [np.array([[1, inf, 2, -inf, 3], [1, nan, 2, 0, 5], [-inf, -inf, 1, 2, -inf]], np.float32)], dict(axis=1, reverse=rev), VV)
        for f in ("cummax", "cummin"): C(f"{f}_pair_tied_{t}", f, [np.array([[1, 3, 0, 3, 2], [2, 2, 5, -1, 6], [0, -1, -1, 4, 4]], np.float32)], dict(axis=1, reverse=rev))
        C("matrix_products_" + t, "matrix_products", [arr(r, (pick(r, 5, 9), 3, 3), "f32", -1, 1)], dict(reverse=rev), rtol=1e-4, atol=1e-5)
        C("cumlogsumexp_far_" + t, "cumlogsumexp", [np.array([[-1000, 0, 900, 905, -20], [88, 89, 90, 91, 92]], np.float32)], dict(axis=1, reverse=rev))
        C("cumlogsumexp_leading_minus_inf_" + t, "cumlogsumexp", [np.array([-inf, -inf, 1, 2, -inf], np.float32)], dict(axis=0, reverse=rev), V)
    s = base.shape(r, 3, 2, 5)
    for k, (ax, va) in enumerate([(0, 0), (1, 0), (2, 1), (0, 2), (1, 3), (2, 3)]):
        C(f"cumsum_axis{ax}_vmap{va}", "cumsum", [arr(r, s)], dict(axis=ax, reverse=bool(k % 2)), vmap_axes=[va]); C(f"cumprod_axis{ax}_vmap{va}", "cumprod", [arr(r, s, "f32", .5, 2)], dict(axis=ax, reverse=not k % 2), vmap_axes=[va])
    C("cumsum_i32_wraps", "cumsum", [np.array([2 ** 31 - 1, 5, -2 ** 31, -9, 2 ** 30], np.int32)], dict(axis=0, reverse=False), VV, **BIT); C("cumprod_u32_wraps", "cumprod", [np.array([65537, 65537, 3, 4000000000, 7], np.uint32)], dict(axis=0, reverse=False), VV, **BIT)
    C("cumsum_u8_wraps", "cumsum", [np.array([200, 100, 3, 255, 9], np.uint8)], dict(axis=0, reverse=True), VV, **BIT); C("cumsum_i64", "cumsum", [np.array([2 ** 62, 2 ** 62, 5, -2 ** 60], np.int64)], dict(axis=0, reverse=False, x64=True), VV, **BIT)
    C("cummax_u8", "cummax", [arr(r, (3, 5), "u8", 0, 255)], dict(axis=0, reverse=False), VV, **BIT); C("cummin_i32", "cummin", [arr(r, (3, 5), "i32", -99, 99)], dict(axis=1, reverse=True), VV, **BIT)
    C("jnp_cumsum_bool", "jnp_cumsum", [arr(r, (9,), "bool")], dict(axis=0), VV, **BIT); C("jnp_cumsum_i8", "jnp_cumsum", [arr(r, (9,), "i8", -128, 127)], dict(axis=0), VV, **BIT); C("jnp_cumsum_flat", "jnp_cumsum", [arr(r, s)], dict(axis=None)); C("jnp_cumprod_u8", "jnp_cumprod", [arr(r, (6,), "u8", 1, 255)], dict(axis=0), VV, **BIT)
    C("length_zero", "cumsum", [np.zeros((2, 0), np.float32)], dict(axis=1, reverse=False), V); C("length_one", "cumprod", [arr(r, (2, 1))], dict(axis=1, reverse=True)); C("long", "cumsum", [arr(r, (1025,), "f32", 0, 1)], dict(axis=0, reverse=False), ("value", "vjp"), rtol=2e-5, atol=2e-4)
    C("nancumsum", "nancumsum", [np.array([1, nan, 2, nan], np.float32)], dict(axis=0), VV); C("nancumprod", "nancumprod", [np.array([1, nan, 2, -3], np.float32)], dict(axis=0), VV)
    C("cumulative_sum_initial", "cumulative_sum", [arr(r, s)], dict(axis=1, include_initial=True)); C("diff_2", "diff", [arr(r, s)], dict(n=1, axis=-1)); C("diff_n2", "diff", [arr(r, (6,))], dict(n=2, axis=0)); C("trapezoid", "trapezoid", [arr(r, (3, 5)), np.sort(arr(r, (5,)))], dict(axis=1), vmap_axes=[0, None])
    C("affine_scan", "affine_scan", [arr(r, (3, 7), "f32", -1, 1), arr(r, (3, 7))], dict(axis=1), rtol=5e-5, atol=5e-6); C("affine_scan_f64", "affine_scan", [arr(r, (7, 2), "f64", -1, 1), arr(r, (7, 2), "f64")], dict(axis=0, x64=True), rtol=1e-12, atol=1e-13)
    C("scan_max_by_value", "scan_max_by_value", [np.array([3, 1, 3, 7, 7, 2, 9, 9, 0], np.float32), np.arange(9, dtype=np.int32)], {}, V, **BIT)
    C("prod_zeros_grad", "prod", [np.stack([z1[0], z2[0], z[0]])], dict(axis=1)); C("prod_hessian_zeros", "prod_hessian", [z2[0]], {}, ("value",)); C("cumsum_second_derivative", "cumsum_second_derivative", [arr(r, (5,), "f32", -1, 1)], {}, REV, rtol=2e-4, atol=2e-4)


# ------------------------------------------------------------------ convolution
@op
def conv_general_dilated(x, w, *, stride, padding, dimension_numbers, lhs_dilation=None, rhs_dilation=None, feature_groups=1, batch_groups=1, result=None):
    return lax.conv_general_dilated(x, w, T(stride), T(padding), T(lhs_dilation), T(rhs_dilation), T(dimension_numbers), feature_group_count=feature_groups,
                                    batch_group_count=batch_groups, preferred_element_type=JAX[result] if result else None)

@op
def conv_transpose(x, w, *, stride, padding, dimension_numbers, rhs_dilation=None, transpose_kernel=False):
    return lax.conv_transpose(x, w, T(stride), T(padding), T(rhs_dilation), T(dimension_numbers), transpose_kernel=transpose_kernel)

@op
def conv_grad_of_grad(x, w, **conv):  # second order: d/dw of sum sin(d/dx sum conv(x, w)^3)
    f = lambda x, w: jnp.sum(conv_general_dilated(x, w, **conv) ** 3)
    return jax.grad(lambda w: jnp.sum(jnp.sin(jax.grad(f)(x, w))))(w)

@op
def conv_hvp_x(x, w, v, **conv):  # Hessian of sum conv^3 in x, times v
    return jax.jvp(jax.grad(lambda x: jnp.sum(conv_general_dilated(x, w, **conv) ** 3)), (x,), (v,))[1]

def eqx_layer(kind, x, w, b, groups, **kw):
    import equinox as eqx
    transposed = kind.startswith("ConvTranspose")
    layer = getattr(eqx.nn, kind)(x.shape[0], w.shape[0], w.shape[2:], groups=groups, key=jr.PRNGKey(0), **{k: T(v) for k, v in kw.items()})
    return eqx.tree_at(lambda l: (l.weight, l.bias), layer, (w, b))(x)

ops({  # Equinox's layers, unbatched: x is (channels, *space), w is (out, in / groups, *kernel), b is (out, 1, ...)
    "eqx_conv": lambda x, w, b, *, kind, stride, padding, dilation, groups=1, padding_mode="ZEROS": eqx_layer(kind, x, w, b, groups, stride=stride, padding=padding, dilation=dilation, padding_mode=padding_mode),
    "eqx_conv_transpose": lambda x, w, b, *, kind, stride, padding, output_padding, dilation, groups=1: eqx_layer(kind, x, w, b, groups, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation),
    "convolve": lambda a, b, *, mode: jnp.convolve(a, b, mode=mode), "correlate": lambda a, b, *, mode: jnp.correlate(a, b, mode=mode),
    "convolve2d": lambda a, b, *, mode: jax.scipy.signal.convolve2d(a, b, mode=mode),
    "conv_patches": lambda x, *, filter, stride, padding, rhs_dilation: lax.conv_general_dilated_patches(x, T(filter), T(stride), T(padding), rhs_dilation=T(rhs_dilation)),  # NCHW
    "conv_dtype": lambda x, w, *, dtype, **conv: conv_general_dilated(x.astype(JAX[dtype]), w.astype(JAX[dtype]), **conv).astype(jnp.float32),
})


def conv():
    g = "edge_conv"; r = rng_for(g)
    N1, N2, N3 = ["NCH", "OIH", "NCH"], ["NCHW", "OIHW", "NCHW"], ["NCDHW", "OIDHW", "NCDHW"]; HWC = ["NHWC", "HWIO", "NHWC"]
    tol = dict(rtol=2e-5, atol=5e-5)
    def C(name, xs, ws, dn=N2, check=ALL, vmap_axes=None, dtype="f32", op="conv_general_dilated", extra=(), t=tol, stride=None, padding=None, **kw):
        n = len(dn[0]) - 2; lo, hi = (-2, 2) if dtype[0] == "f" else (-9, 9)
        p = dict(stride=stride or [1] * n, padding=padding if padding is not None else [[0, 0]] * n, dimension_numbers=dn, **kw)
        case(g, name, op, [arr(r, xs, dtype, lo, hi), arr(r, ws, dtype, lo, hi)] + [arr(r, s) for s in extra], p, check, vmap_axes=vmap_axes, **t)
    h, w = pick(r, 5, 8), pick(r, 5, 8)
    C("1d_asymmetric", (2, 3, h), (2, 3, 3), N1, padding=[[2, 0]]); C("1d_stride3", (1, 2, h + 4), (3, 2, 2), N1, stride=[3], padding=[[0, 1]])
    C("1d_negative_padding", (2, 2, h + 2), (2, 2, 3), N1, padding=[[-1, -2]]); C("1d_negative_and_positive", (2, 2, h), (2, 2, 3), N1, padding=[[-2, 3]], stride=[2])
    C("1d_padding_exceeds_kernel", (1, 1, 3), (2, 1, 2), N1, padding=[[5, 4]])
    C("1d_kernel_longer_than_input", (1, 2, 3), (2, 2, 5), N1, padding=[[2, 2]]); C("1d_kernel_longer_empty_result", (1, 2, 3), (2, 2, 5), N1, check=V)
    C("1d_lhs_dilation", (2, 2, 4), (3, 2, 3), N1, lhs_dilation=[3], padding=[[1, 2]]); C("1d_both_dilations_stride", (1, 2, h), (2, 2, 3), N1, lhs_dilation=[2], rhs_dilation=[3], stride=[2], padding=[[3, 1]])
    C("1d_lhs_dilation_negative_padding", (1, 2, h), (2, 2, 2), N1, lhs_dilation=[2], padding=[[-1, -2]], stride=[2])
    C("1d_NHC", (2, h, 3), (3, 3, 2), ["NHC", "HIO", "NHC"], padding=[[1, 1]]); C("1d_odd_layout", (3, h, 2), (3, 2, 3), ["CHN", "HOI", "HNC"], padding=[[1, 0]])
    C("2d_unequal", (2, 2, h, w), (3, 2, 3, 2), stride=[2, 1], padding=[[0, 2], [1, -1]], rhs_dilation=[1, 2]); C("2d_NHWC", (2, h, w, 2), (3, 3, 2, 3), HWC, padding=[[1, 1], [0, 2]])
    C("2d_NHWC_stride_dilated", (1, h, w, 2), (2, 3, 2, 3), HWC, stride=[2, 2], rhs_dilation=[2, 1], padding=[[1, 2], [1, 0]]); C("2d_mixed_layouts", (2, h, w, 2), (3, 2, 3, 2), ["NHWC", "OIHW", "NCHW"], padding=[[1, 1], [1, 1]])
    for p in ("SAME", "SAME_LOWER", "VALID"): C(f"2d_{p}", (1, 2, h, w), (2, 2, 2, 3), stride=[2, 2], padding=p)
    C("2d_1x1", (2, 3, 4, 3), (2, 3, 1, 1)); C("2d_1x1_stride_padding", (1, 2, 5, 4), (3, 2, 1, 1), stride=[2, 3], padding=[[1, 0], [0, 2]]); C("2d_whole_image", (2, 2, 4, 3), (3, 2, 4, 3))
    C("2d_feature_groups", (2, 4, h, w), (6, 2, 2, 3), feature_groups=2, padding=[[1, 0], [1, 1]]); C("2d_depthwise_multiplier", (1, 3, h, w), (6, 1, 3, 3), feature_groups=3, padding=[[1, 1], [1, 1]], stride=[2, 1])
    C("2d_depthwise_NHWC", (2, h, w, 3), (3, 3, 1, 3), HWC, feature_groups=3, padding=[[1, 1], [1, 1]])
    C("2d_batch_groups", (4, 2, h, 5), (4, 2, 2, 2), batch_groups=2, padding=[[1, 0], [0, 0]]); C("1d_batch_groups_stride", (6, 2, h), (3, 2, 2), N1, batch_groups=3, stride=[2])
    C("3d", (1, 2, 3, 4, 3), (2, 2, 2, 3, 2), N3, padding=[[1, 0], [0, 1], [-1, 1]], stride=[1, 2, 1]); C("3d_NDHWC_groups", (1, 3, 3, 4, 4), (2, 2, 2, 2, 4), ["NDHWC", "DHWIO", "NDHWC"], feature_groups=2, rhs_dilation=[1, 2, 1])
    for n, ax in dict(x=[0, None], kernel=[None, 0], both=[0, 0], x_axis2=[2, None], kernel_axis1=[None, 1], both_odd=[3, 4]).items():
        C("vmap_" + n, (2, 2, 5, 4), (3, 2, 2, 3), check=VV, vmap_axes=ax, padding=[[1, 0], [1, 1]], stride=[2, 1])
    C("vmap_kernel_groups", (1, 4, 5, 4), (4, 2, 2, 2), check=VV, vmap_axes=[None, 0], feature_groups=2); C("vmap_both_groups_NHWC", (1, 5, 4, 4), (2, 2, 2, 4), HWC, check=VV, vmap_axes=[1, 0], feature_groups=2)
    C("vmap_both_batch_groups", (4, 2, 5), (4, 2, 2), N1, check=VV, vmap_axes=[0, 0], batch_groups=2)
    C("spatial_zero_dims", (3, 4), (2, 4), ["NC", "OI", "NC"])
    C("f64", (2, 2, 5, 6), (2, 2, 3, 2), dtype="f64", t=dict(rtol=1e-12, atol=1e-12), x64=True, stride=[2, 1], padding=[[1, 1], [0, 1]], rhs_dilation=[1, 2]); C("i32", (1, 2, 5, 5), (2, 2, 2, 2), dtype="i32", check=VV, t=BIT); C("i8_to_i32", (1, 3, 5), (2, 3, 3), N1, dtype="i8", check=VV, t=BIT, result="i32")
    case(g, "bf16", "conv_dtype", [arr(r, (1, 2, 6)), arr(r, (2, 2, 3))], dict(dtype="bf16", result_dtypes=["bf16"], stride=[1], padding=[[1, 1]], dimension_numbers=N1), V, rtol=1.6e-2, atol=3e-2)
    case(g, "grad_of_grad", "conv_grad_of_grad", [arr(r, (1, 2, 4, 5), "f32", -.5, .5), arr(r, (2, 2, 2, 3), "f32", -.5, .5)], dict(stride=[2, 1], padding=[[1, 0], [1, 1]], dimension_numbers=N2), REV, rtol=2e-4, atol=2e-4)
    case(g, "hvp_groups_dilated", "conv_hvp_x", [arr(r, (1, 4, 6), "f32", -1, 1), arr(r, (2, 2, 2), "f32", -1, 1), arr(r, (1, 4, 6), "f32", -1, 1)], dict(stride=[1], padding=[[2, 1]], rhs_dilation=[2], feature_groups=2, dimension_numbers=N1), ALL, rtol=1e-4, atol=2e-4)
    t = lambda n, xs, ws, **kw: case(g, "lax_transpose_" + n, "conv_transpose", [arr(r, xs), arr(r, ws)], kw, **tol)
    t("same", (1, 4, 3, 2), (3, 3, 2, 3), stride=[2, 2], padding="SAME", dimension_numbers=HWC); t("valid_kernel_flag", (2, 4, 3), (3, 2, 3), stride=[3], padding="VALID", dimension_numbers=["NHC", "HIO", "NHC"], transpose_kernel=True); t("explicit_dilated", (1, 2, 5), (2, 3, 2), stride=[2], padding=[[2, 1]], rhs_dilation=[2], dimension_numbers=["NCH", "IOH", "NCH"])
    t("stride_beyond_kernel", (1, 2, 4), (2, 3, 2), stride=[4], padding="VALID", dimension_numbers=["NCH", "IOH", "NCH"])
    e = lambda n, op, xs, ws, **kw: case(g, "eqx_" + n, op, [arr(r, xs), arr(r, ws), arr(r, (ws[0],) + (1,) * (len(ws) - 2))], kw, **tol)
    e("transpose2d", "eqx_conv_transpose", (2, 3, 4), (3, 2, 3, 2), kind="ConvTranspose2d", stride=[2, 3], padding=[1, 0], output_padding=[1, 2], dilation=[1, 2]); e("transpose1d_groups", "eqx_conv_transpose", (4, 5), (6, 2, 3), kind="ConvTranspose1d", stride=2, padding=1, output_padding=0, dilation=1, groups=2)
    e("conv2d_uneven", "eqx_conv", (2, 5, 6), (3, 2, 3, 2), kind="Conv2d", stride=[2, 1], padding=[[0, 1], [2, 0]], dilation=[1, 2])
    for m in ("REFLECT", "REPLICATE", "CIRCULAR"): e("conv1d_" + m, "eqx_conv", (2, 6), (2, 2, 3), kind="Conv1d", stride=1, padding=2, dilation=1, padding_mode=m)
    e("conv2d_same", "eqx_conv", (2, 5, 6), (4, 1, 2, 3), kind="Conv2d", stride=1, padding="SAME", dilation=[2, 1], groups=2)
    for m in ("full", "same", "valid"): case(g, "convolve_" + m, "convolve", [arr(r, (h,)), arr(r, (4,))], dict(mode=m), ALL if m == "full" else REV, **tol)
    case(g, "correlate_short_first", "correlate", [arr(r, (3,)), arr(r, (h,))], dict(mode="full"), REV, **tol); case(g, "convolve2d_same", "convolve2d", [arr(r, (5, 4)), arr(r, (2, 3))], dict(mode="same"), ALL, **tol)
    case(g, "patches", "conv_patches", [arr(r, (1, 2, 5, 6))], dict(filter=[2, 3], stride=[1, 2], padding=[[1, 0], [0, 0]], rhs_dilation=[2, 1]), **tol)


# ------------------------------------------------------------------ windows, pooling
@op
def reduce_window(x, *, kind, window, stride, padding, base_dilation=None, window_dilation=None):
    low, high = (-np.inf, np.inf) if jnp.issubdtype(x.dtype, jnp.floating) else (jnp.iinfo(x.dtype).min, jnp.iinfo(x.dtype).max)
    f, init = dict(max=(lax.max, low), min=(lax.min, high), add=(lax.add, 0), mul=(lax.mul, 1))[kind]
    return lax.reduce_window(x, np.asarray(init, x.dtype), f, T(window), T(stride), T(padding), T(base_dilation), T(window_dilation))

@op
def avg_pool(x, *, window, stride, padding, count_include_pad):
    s = functools.partial(reduce_window, kind="add", window=window, stride=stride, padding=padding)
    return s(x) / (np.prod(window) if count_include_pad else s(jnp.ones_like(x)))

@op
def max_pool_second_derivative(x, **window):
    return jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(reduce_window(x, kind="max", **window) ** 3))(x) ** 2))(x)

def eqx_pool_of(kind, **kw):
    import equinox as eqx
    return getattr(eqx.nn, kind)(**{k: T(v) for k, v in kw.items()})

ops({
    "eqx_pool": lambda x, *, kind, kernel_size, stride, padding=0, use_ceil=False: eqx_pool_of(kind, kernel_size=kernel_size, stride=stride, padding=padding, use_ceil=use_ceil)(x),
    "eqx_adaptive_pool": lambda x, *, kind, target_shape: eqx_pool_of(kind, target_shape=target_shape)(x),
    "logsumexp_pool": lambda x, *, window, stride: jnp.log(reduce_window(jnp.exp(x), kind="add", window=window, stride=stride, padding=[[0, 0]] * x.ndim)),
    "lp_pool": lambda x, *, p, window, stride: reduce_window(jnp.abs(x) ** p, kind="add", window=window, stride=stride, padding=[[0, 0]] * x.ndim) ** (1 / p),
})


def window():
    g = "edge_window"; r = rng_for(g); nan = np.nan
    def C(name, x, kind, window, stride=None, padding=None, check=ALL, vmap_axes=None, t=dict(rtol=2e-5, atol=1e-5), **kw):
        n = len(window); case(g, name, "reduce_window", [x], dict(kind=kind, window=window, stride=stride or [1] * n, padding=padding or [[0, 0]] * n, **kw), check, vmap_axes=vmap_axes, **t)
    n = pick(r, 7, 9)
    for kind in ("max", "min", "add"):
        C(kind + "_1d_overlapping", apart(r, (n,)), kind, [3], [2], [[1, 1]]); C(kind + "_2d_asymmetric", apart(r, (n, 6)), kind, [3, 2], [2, 1], [[2, 0], [0, 1]])
        C(kind + "_3d", apart(r, (4, 5, 4)), kind, [2, 3, 2], [1, 2, 2], [[0, 1], [1, 1], [0, 0]]); C(kind + "_NCHW", apart(r, (2, 2, 5, 6)), kind, [1, 1, 2, 2], [1, 1, 2, 2], vmap_axes=[1]); C(kind + "_NHWC", apart(r, (2, 5, 6, 2)), kind, [1, 3, 3, 1], [1, 2, 2, 1], [[0, 0], [1, 1], [1, 1], [0, 0]], vmap_axes=[3])
        C(kind + "_window_dilation", apart(r, (9, 7)), kind, [3, 2], [1, 2], [[1, 0], [0, 2]], check=ALL if kind == "add" else JVP, window_dilation=[2, 3]); C(kind + "_base_dilation", apart(r, (5,)), kind, [3], [2], [[1, 2]], check=ALL if kind == "add" else VV, base_dilation=[2])
        C(kind + "_gaps", apart(r, (11,)), kind, [2], [3], [[1, 0]]); C(kind + "_padding_only_windows", apart(r, (3,)), kind, [2], [2], [[2, 3]], check=V); C(kind + "_cumulative", apart(r, (n, 3)), kind, [n, 1], [1, 1], [[n - 1, 0], [0, 0]])
        C(kind + "_negative_padding", apart(r, (n,)), kind, [2], [1], [[-1, -2]], check=ALL if kind == "add" else V)
    tied = np.array([[1, 1, 0, 2], [1, 1, 2, 2], [0, 2, 2, 2], [3, 3, 3, 0]], np.float32)
    for kind in ("max", "min"): C(kind + "_ties_disjoint", tied, kind, [2, 2], [2, 2]); C(kind + "_ties_overlapping", tied, kind, [2, 2], [1, 1]); C(kind + "_ties_padded", np.zeros((4,), np.float32), kind, [3], [2], [[1, 1]])
    v = np.array([1, nan, 2, 3, -np.inf, np.inf, 4, 4], np.float32)
    for kind in ("max", "min", "add"): C(kind + "_nonfinite", v, kind, [2], [1], [[1, 0]], check=VV)
    for dt, lo, hi in (("i32", -2 ** 31, 2 ** 31 - 1), ("u8", 0, 255), ("u32", 0, 2 ** 32 - 1)):
        for kind in ("max", "add"): C(f"{kind}_{dt}", arr(r, (4, 5), dt, lo, hi), kind, [2, 3], [1, 2], [[1, 0], [0, 1]], check=VV, t=BIT)
    C("mul", arr(r, (n,)), "mul", [3], [2], [[1, 1]], check=VV); C("max_f64", arr(r, (6, 5), "f64"), "max", [3, 2], [2, 2], [[1, 0], [0, 1]], x64=True); C("add_f64", arr(r, (6, 5), "f64"), "add", [3, 2], [1, 2], [[1, 0], [0, 1]], t=dict(rtol=1e-13, atol=1e-13), x64=True); C("add_all", arr(r, (5, 4)), "add", [5, 4]); C("max_one", apart(r, (5, 4)), "max", [1, 1], [2, 3])
    for inc in (True, False): case(g, f"avg_include_pad_{int(inc)}", "avg_pool", [arr(r, (2, 6, 5))], dict(window=[1, 3, 2], stride=[1, 2, 2], padding=[[0, 0], [1, 1], [0, 1]], count_include_pad=inc))
    case(g, "max_second_derivative", "max_pool_second_derivative", [apart(r, (7,))], dict(window=[3], stride=[2], padding=[[1, 1]]), V, rtol=2e-4, atol=2e-4)
    case(g, "logsumexp_pool", "logsumexp_pool", [arr(r, (5, 6))], dict(window=[2, 3], stride=[1, 2])); case(g, "lp_pool", "lp_pool", [apart(r, (3, 6)) + .06], dict(p=3, window=[1, 2], stride=[1, 2]), rtol=1e-4, atol=1e-5)
    E = lambda name, op, s, **kw: case(g, "eqx_" + name, op, [apart(r, s)], kw)
    for k in ("Max", "Avg"):
        E(k + "_1d_ceil", "eqx_pool", (2, 8), kind=k + "Pool1d", kernel_size=3, stride=2, padding=0, use_ceil=True); E(k + "_2d_padding", "eqx_pool", (2, 5, 6), kind=k + "Pool2d", kernel_size=[3, 2], stride=[2, 2], padding=[[1, 1], [0, 1]]); E(k + "_3d", "eqx_pool", (1, 4, 3, 4), kind=k + "Pool3d", kernel_size=2, stride=1)
        E(k + "_adaptive_1d", "eqx_adaptive_pool", (2, 7), kind=f"Adaptive{k}Pool1d", target_shape=3); E(k + "_adaptive_2d", "eqx_adaptive_pool", (2, 5, 7), kind=f"Adaptive{k}Pool2d", target_shape=[2, 5]); E(k + "_adaptive_3d", "eqx_adaptive_pool", (1, 4, 5, 3), kind=f"Adaptive{k}Pool3d", target_shape=[3, 1, 3])


# ------------------------------------------------------------------ small linear algebra
@op
def eigh_squares(a):  # eigenvalues ascending and the squares of the eigenvectors' components (their signs are arbitrary)
    w, v = jnp.linalg.eigh(a)
    return w, v * v

@op
def eigh_exp(a):  # exp of a symmetric matrix by its spectrum
    w, v = jnp.linalg.eigh(a)
    return (v * jnp.exp(w)[..., None, :]) @ jnp.swapaxes(v, -1, -2)

@op
def svd_rank(a, *, k):  # best approximation of rank k
    u, s, vt = jnp.linalg.svd(a, full_matrices=False)
    return (u[..., :k] * s[..., None, :k]) @ vt[..., :k, :]

L = jnp.linalg
ops({
    "jnp_cholesky": lambda a, *, upper: L.cholesky(a, upper=upper),  # symmetrises its input first, and so its gradient
    "jnp_triangular_solve": lambda a, b, *, left_side, lower, transpose_a, unit_diagonal: lax.linalg.triangular_solve(a, b, left_side=left_side, lower=lower, transpose_a=transpose_a, unit_diagonal=unit_diagonal),  # reads one triangle only
    "jnp_solve": lambda a, b: L.solve(a, b), "jnp_inv": lambda a: L.inv(a), "det": lambda a: L.det(a), "jnp_slogdet": lambda a: L.slogdet(a),
    "lax_lu": lambda a: lax.linalg.lu(a),  # packed LU, pivots, permutation
    "qr": lambda a, *, mode: L.qr(a, mode=mode),  # LAPACK's signs: Householder vectors with beta = -sign(alpha) |x|
    "eigvalsh_of": lambda a: L.eigvalsh(a), "svd_values": lambda a: L.svd(a, compute_uv=False),
    "lstsq": lambda a, b: L.lstsq(a, b)[0], "lstsq_qr": lambda a, b: (lambda q, r: jax.scipy.linalg.solve_triangular(r, q.T @ b))(*L.qr(a)), "pinv": lambda a: L.pinv(a),
    "matrix_power": lambda a, *, n: L.matrix_power(a, n), "expm": lambda a: jax.scipy.linalg.expm(a),
    "vector_norm": lambda x, *, ord, axis, keepdims=False: L.norm(x, ord=num(ord), axis=axis, keepdims=keepdims), "matrix_norm": lambda x, *, ord: L.norm(x, ord=num(ord) if ord in ("inf", "-inf") else ord, axis=(-2, -1)),
    "safe_norm": lambda x, *, min_norm: __import__("optax").safe_norm(x, min_norm), "global_norm": lambda a, b: __import__("optax").global_norm((a, b)),
    "kron": lambda a, b: jnp.kron(a, b), "trace": lambda a, *, offset: jnp.trace(a, offset), "cross": lambda a, b: jnp.cross(a, b), "outer": lambda a, b: jnp.outer(a, b),
    "multi_dot": lambda *xs: L.multi_dot(xs), "tensordot": lambda a, b, *, axes: jnp.tensordot(a, b, T(axes)), "vdot": lambda a, b: jnp.vdot(a, b), "vecmat": lambda a, b: jnp.matmul(a, b),
    "cho_solve": lambda a, b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b), "tridiagonal_solve": lambda dl, d, du, b: lax.linalg.tridiagonal_solve(dl, d, du, b),
    "block_diag": lambda a, b: jax.scipy.linalg.block_diag(a, b), "toeplitz": lambda c, r: jax.scipy.linalg.toeplitz(c, r), "vander": lambda x, *, n: jnp.vander(x, n), "cov": lambda x: jnp.cov(x), "corrcoef": lambda x: jnp.corrcoef(x),
    "logdet_by_cholesky": lambda a: 2 * jnp.sum(jnp.log(jnp.diagonal(L.cholesky(a), axis1=-2, axis2=-1)), -1),
    "gaussian_log_likelihood_hessian": lambda s, y: jax.hessian(lambda s: -.5 * y @ L.solve(s @ s.T + jnp.eye(len(y), dtype=s.dtype), y) - .5 * L.slogdet(s @ s.T + jnp.eye(len(y), dtype=s.dtype))[1])(s),
})


def linalg():
    g = "edge_linalg"; r = rng_for(g); t = dict(rtol=2e-4, atol=5e-5); d = dict(rtol=1e-10, atol=1e-11)
    def orth(r, n): return np.linalg.qr(r.normal(size=(n, n)))[0]
    def spd(r, n, lead=()):
        def one(): q = orth(r, n); return (q * np.linspace(1, 4, n)) @ q.T
        return np.array([one() for _ in range(int(np.prod(lead)))]).reshape(lead + (n, n)) if lead else one()
    def sym(r, n): q = orth(r, n); return (q * np.linspace(-2, 3, n)) @ q.T
    def gen(r, m, n):  # singular values 1 .. 3, well apart
        k = min(m, n); return (orth(r, m)[:, :k] * np.linspace(3, 1, k)) @ orth(r, n)[:k]
    def C(name, op, make, params=None, check=ALL, x64=False, tol=None, vmap_axes=None):
        dt = np.float64 if x64 else np.float32; mk = lambda r: [np.asarray(x, dt) for x in make(r)]
        case(g, name, op, mk(r), dict(params or {}, **({"x64": True} if x64 else {})), check, vmap_axes=vmap_axes, batch=mk, **(tol or (d if x64 else t)))
    n = pick(r, 3, 5)
    for up in (False, True): C(f"cholesky_upper{int(up)}", "jnp_cholesky", lambda r: [spd(r, n)], dict(upper=up)); C(f"cholesky_batched_upper{int(up)}", "jnp_cholesky", lambda r: [spd(r, 3, (2, 2))], dict(upper=up), vmap_axes=[2])
    C("cholesky_asymmetric_input", "jnp_cholesky", lambda r: [spd(r, 4) + np.triu(.3 * r.normal(size=(4, 4)), 1)], dict(upper=False)); C("cholesky_f64", "jnp_cholesky", lambda r: [spd(r, n)], dict(upper=False), x64=True)
    C("cholesky_not_positive", "jnp_cholesky", lambda r: [np.stack([np.eye(3), np.diag([1., -1, 2]), np.diag([-1., 1, 1])])], dict(upper=False), V); C("cholesky_1x1", "jnp_cholesky", lambda r: [np.array([[r.uniform(1, 9)]])], dict(upper=False))
    for left in (True, False):
        for low in (True, False):
            for tr in (True, False):
                unit = (left + low + tr) % 2 == 0; b = (n, 2) if left else (2, n)
                C(f"triangular_solve_left{int(left)}_lower{int(low)}_t{int(tr)}_unit{int(unit)}", "jnp_triangular_solve", lambda r: [r.uniform(-.5, .5, (n, n)) + 2 * np.eye(n), r.normal(size=b)], dict(left_side=left, lower=low, transpose_a=tr, unit_diagonal=unit))
    for k, ax in dict(a=[0, None], b=[None, 1]).items(): C("triangular_solve_vmap_" + k, "jnp_triangular_solve", lambda r: [r.uniform(-.5, .5, (n, n)) + 2 * np.eye(n), r.normal(size=(n, 3))], dict(left_side=True, lower=True, transpose_a=False, unit_diagonal=False), VV, vmap_axes=ax)
    C("triangular_solve_singular", "jnp_triangular_solve", lambda r: [np.array([[0, 0], [1., 2]]), np.array([[1.], [2]])], dict(left_side=True, lower=True, transpose_a=False, unit_diagonal=False), V)
    C("solve_vector", "jnp_solve", lambda r: [gen(r, n, n), r.normal(size=(n,))]); C("solve_batched", "jnp_solve", lambda r: [np.stack([gen(r, 3, 3), gen(r, 3, 3)]), r.normal(size=(2, 3, 2))]); C("solve_vmap_b", "jnp_solve", lambda r: [gen(r, n, n), r.normal(size=(n, 2))], {}, VV, vmap_axes=[None, 0]); C("solve_needs_pivoting", "jnp_solve", lambda r: [np.array([[0, 1., 2], [1, 0, 1], [2, 1, 0]]) + 0 * r.normal(), r.normal(size=(3, 1))]); C("solve_f64", "jnp_solve", lambda r: [gen(r, n, n), r.normal(size=(n, 2))], x64=True)
    C("inv_batched", "jnp_inv", lambda r: [np.stack([gen(r, 3, 3), gen(r, 3, 3)])]); C("inv_needs_pivoting", "jnp_inv", lambda r: [np.array([[0, 1.], [2, 0]])], {}, REV)
    C("det", "det", lambda r: [gen(r, n, n)]); C("det_2x2", "det", lambda r: [r.normal(size=(2, 2, 2))]); C("det_singular_grad", "det", lambda r: [np.array([[1., 2, 3], [4, 5, 6], [5, 7, 9]])], {}, REV, tol=dict(rtol=1e-3, atol=1e-4)); C("slogdet_batched_signs", "jnp_slogdet", lambda r: [np.stack([gen(r, 3, 3), gen(r, 3, 3)[::-1], -gen(r, 3, 3)])]); C("slogdet_singular", "jnp_slogdet", lambda r: [np.array([[1., 2], [2, 4]])], {}, V); C("slogdet_f64", "jnp_slogdet", lambda r: [gen(r, n, n)[::-1]], x64=True)
    C("lu_square", "lax_lu", lambda r: [gen(r, n, n)]); C("lu_tall", "lax_lu", lambda r: [gen(r, 5, 3)]); C("lu_wide_batched", "lax_lu", lambda r: [np.stack([gen(r, 2, 4), gen(r, 2, 4)])]); C("lu_pivot_ties", "lax_lu", lambda r: [np.array([[1., 2], [-1, 3], [1, 4]])], {}, V)
    C("qr_reduced_tall", "qr", lambda r: [gen(r, 5, 3)], dict(mode="reduced")); C("qr_square_batched", "qr", lambda r: [np.stack([gen(r, 3, 3), gen(r, 3, 3)])], dict(mode="reduced"), vmap_axes=[1]); C("qr_complete", "qr", lambda r: [gen(r, 4, 2)], dict(mode="complete"), VV); C("qr_wide", "qr", lambda r: [gen(r, 2, 4)], dict(mode="reduced"), VV); C("qr_r_only", "qr", lambda r: [gen(r, 4, 3)], dict(mode="r")); C("qr_f64", "qr", lambda r: [gen(r, 5, 3)], dict(mode="reduced"), x64=True)
    C("eigh", "eigh_squares", lambda r: [sym(r, n)], tol=dict(rtol=5e-4, atol=1e-4)); C("eigh_batched", "eigh_squares", lambda r: [np.stack([sym(r, 3), sym(r, 3)])], tol=dict(rtol=5e-4, atol=1e-4)); C("eigh_exp", "eigh_exp", lambda r: [sym(r, n)], tol=dict(rtol=5e-4, atol=2e-4)); C("eigvalsh_f64", "eigvalsh_of", lambda r: [sym(r, n)], x64=True); C("eigh_2x2", "eigh_squares", lambda r: [sym(r, 2)]); C("eigvalsh_diagonal", "eigvalsh_of", lambda r: [np.diag([3., -1, 2])], {}, REV)
    C("svd_values_tall", "svd_values", lambda r: [gen(r, 5, 3)]); C("svd_values_wide", "svd_values", lambda r: [gen(r, 2, 4)]); C("svd_rank_2", "svd_rank", lambda r: [gen(r, 4, 3)], dict(k=2), tol=dict(rtol=5e-4, atol=1e-4)); C("svd_values_f64", "svd_values", lambda r: [gen(r, 4, 4)], x64=True); C("svd_values_rank_deficient", "svd_values", lambda r: [gen(r, 4, 2) @ gen(r, 2, 3)], {}, V)
    C("lstsq", "lstsq", lambda r: [gen(r, 6, 3), r.normal(size=(6, 2))], {}, VV); C("lstsq_qr", "lstsq_qr", lambda r: [gen(r, 6, 3), r.normal(size=(6,))]); C("pinv_tall", "pinv", lambda r: [gen(r, 5, 3)]); C("pinv_rank_deficient", "pinv", lambda r: [gen(r, 4, 2) @ gen(r, 2, 3)], {}, V, tol=dict(rtol=1e-3, atol=1e-4))
    for k in (-2, 0, 1, 5): C(f"matrix_power_{k}", "matrix_power", lambda r: [gen(r, 3, 3) / 2], dict(n=k), ALL if k else V)
    for k, s in dict(small=.1, one=1., large=6.).items(): C("expm_" + k, "expm", lambda r: [r.normal(size=(3, 3)) * s / 2], tol=dict(rtol=1e-3, atol=1e-4 * max(1, s ** 3)))
    for o in (None, 0, 1, 2, 3, .5, "inf", "-inf"): C(f"vector_norm_{o}", "vector_norm", lambda r: [r.choice([-1, 1], (3, 5)) * r.permutation(np.linspace(.3, 2, 15)).reshape(3, 5)], dict(ord=o, axis=1), V if o == 0 else ALL)
    for o in ("fro", "nuc", 1, -1, 2, -2, "inf", "-inf"): C(f"matrix_norm_{o}", "matrix_norm", lambda r: [gen(r, 4, 3)], dict(ord=o))
    C("norm_zero_vector", "vector_norm", lambda r: [np.array([[0., 0], [3, 4]])], dict(ord=None, axis=1, keepdims=True), REV); C("norm1_zero_vector", "vector_norm", lambda r: [np.array([[0., 0], [3, -4]])], dict(ord=1, axis=1), REV); C("norm_inf_tied", "vector_norm", lambda r: [np.array([[2., -2, 1], [0, 0, 0]])], dict(ord="inf", axis=1), REV)
    C("safe_norm_zero", "safe_norm", lambda r: [np.zeros(3)], dict(min_norm=1e-3), REV); C("safe_norm_above", "safe_norm", lambda r: [r.normal(size=3) + 3], dict(min_norm=1e-3)); C("global_norm_tree", "global_norm", lambda r: [r.normal(size=(3,)), r.normal(size=(2, 2))]); C("global_norm_zero", "global_norm", lambda r: [np.zeros(2), np.zeros((1, 2))], {}, REV)
    R = lambda *s: (lambda r: [r.uniform(-2, 2, x) for x in s])
    C("kron", "kron", R((2, 3), (3, 2)), vmap_axes=[None, 0]); C("trace_offset", "trace", R((3, 5)), dict(offset=-1)); C("cross", "cross", R((4, 3), (4, 3))); C("outer", "outer", R((3,), (2, 2))); C("multi_dot", "multi_dot", R((2, 4), (4, 3), (3, 5))); C("tensordot", "tensordot", R((2, 3, 4), (4, 3, 2)), dict(axes=[[1, 2], [1, 0]])); C("tensordot_2", "tensordot", R((2, 3, 4), (3, 4, 2)), dict(axes=2)); C("vdot", "vdot", R((2, 3), (2, 3)))
    C("matmul_vector_batched", "vecmat", R((3,), (2, 3, 4)), vmap_axes=[0, None]); C("matmul_broadcast_batch", "vecmat", R((2, 1, 3, 4), (5, 4, 2))); C("matmul_inner_zero", "vecmat", R((3, 0), (0, 2)), {}, REV)
    C("cho_solve", "cho_solve", lambda r: [spd(r, n), r.normal(size=(n, 2))]); C("tridiagonal", "tridiagonal_solve", lambda r: [np.concatenate([[0], r.uniform(-1, 1, 4)]), r.uniform(3, 4, 5), np.concatenate([r.uniform(-1, 1, 4), [0]]), r.normal(size=(5, 2))], {}, REV)
    C("block_diag", "block_diag", R((2, 3), (1, 2))); C("toeplitz", "toeplitz", R((3,), (4,)), {}, REV); C("vander", "vander", R((4,)), dict(n=4)); C("cov", "cov", R((3, 6))); C("corrcoef", "corrcoef", R((3, 6)))
    C("logdet_by_cholesky", "logdet_by_cholesky", lambda r: [spd(r, n)]); C("gaussian_hessian", "gaussian_log_likelihood_hessian", lambda r: [r.uniform(-1, 1, (3, 2)), r.normal(size=3)], {}, V, tol=dict(rtol=1e-3, atol=2e-4))


# ------------------------------------------------------------------ control flow
@op
def scan_trees(c, xs, w, *, reverse=False, unroll=1, length=None):  # carry {h, n, on}: f32 vector, i32 counter, bool; w is captured
    def f(c, x):
        h, n, on = c
        h = jnp.where(on, jnp.tanh(w @ h + x["a"]), h * x["b"])
        return (h, n + 1, ~on), {"s": jnp.sum(h), "n": n * n, "h": h}
    return lax.scan(f, (c, jnp.int32(3), jnp.array(True)), {"a": xs, "b": jnp.sum(xs, 1)}, length=length, reverse=reverse, unroll=unroll)

@op
def scan_no_xs(c, a, *, length):
    return lax.scan(lambda c, _: (c * a + 1, jnp.sin(c)), c, None, length=length)

@op
def scan_no_ys(xs, w):
    return lax.scan(lambda c, x: (c @ w + x, None), jnp.zeros_like(xs[0]), xs)[0]

@op
def scan_carry_passes_through(c, xs):  # one carry never changes, one is a copy of the other
    return lax.scan(lambda c, x: ((c[0], c[2], c[1] * x + c[0]), c[1]), (c, c, jnp.cos(c)), xs)

@op
def scan_nested(xs, w):  # rows of xs outside, columns inside; both close over w
    def row(c, x):
        d, ys = lax.scan(lambda d, v: (jnp.sin(d * w[0] + v), d * v), c, x)
        return d * w[1], ys.sum() + d
    return lax.scan(row, w[2], xs)

@op
def scan_integer_carry(xs):  # collatz steps and a running gcd: no floats at all
    def f(c, x):
        a, b = c
        a = jnp.where(a % 2 == 0, a // 2, 3 * a + 1)
        return (a, jnp.gcd(b, x)), a
    return lax.scan(f, (jnp.int32(27), xs[0]), xs)

@op
def scan_gathers_by_carry(table, c):  # the carry is an index into a captured table
    def f(i, _): return (i * 5 + 2) % table.shape[0], table[i]
    return lax.scan(f, c, None, length=6)

@op
def scan_writes_buffer(x):  # a carry array written at a running index
    def f(c, v): buf, i = c; return (buf.at[i].set(v * jnp.sum(buf)), i + 1), i
    return lax.scan(f, (jnp.full_like(x, .25), 0), x)

@op
def scan_many_carries(c, xs):  # as many scalar carries as c has elements; each looks at its neighbour
    def f(cs, x):
        n = len(cs)
        return tuple(jnp.sin(cs[i] + .5 * cs[(i + 1) % n] * x) for i in range(n)), cs[0]
    cs, ys = lax.scan(f, tuple(c[i] for i in range(c.shape[0])), xs)
    return jnp.stack(cs), ys

def rnn_loss(w, xs, h):
    return jnp.sum(lax.scan(lambda h, x: (jnp.tanh(w @ h + x), None), h, xs)[0] ** 2)

@op
def grad_of_scan_per_example(w, xs, h):  # vmap of grad of scan: xs and h batched, w shared
    return jax.vmap(jax.grad(rnn_loss), in_axes=(None, 0, 0))(w, xs, h)

@op
def hessian_of_scan(w, xs, h):
    return jax.hessian(lambda h: rnn_loss(w, xs, h))(h)

@op
def grad_of_grad_of_scan(w, xs, h):
    return jax.grad(lambda w: jnp.sum(jax.grad(rnn_loss, 2)(w, xs, h) ** 2))(w)

@op
def checkpointed_scan_grad(w, xs, h):
    return jax.grad(lambda w: jnp.sum(lax.scan(jax.checkpoint(lambda h, x: (jnp.tanh(w @ h + x), None)), h, xs)[0] ** 2))(w)

@op
def cond_in_scan_grad(w, xs):  # which branch runs depends on the data
    def f(c, x):
        c = lax.cond(x > 0, lambda c: jnp.sin(c) * w[0], lambda c: c * c * w[1] - x, c)
        return c, c
    return jax.grad(lambda w_xs: jnp.sum(lax.scan(f, w_xs[0][2], w_xs[1])[1]) + 0 * w_xs[0].sum())((w, xs))

@op
def while_in_scan(xs, *, cap):  # the number of inner trips differs from step to step
    def f(c, x):
        y, n = lax.while_loop(lambda s: (s[0] < 3) & (s[1] < cap), lambda s: (s[0] * 1.5 + .1, s[1] + 1), (jnp.abs(x) + .1, 0))
        return c + y, n
    return lax.scan(f, jnp.zeros_like(xs[0]), xs)

@op
def while_doubling(x, limit):  # zero trips where x is at or above limit; batched predicates stop lane by lane
    return lax.while_loop(lambda s: s[0] < limit, lambda s: (s[0] * 2, s[1] + 1), (x, 0))

@op
def while_captures(x, a, *, trips):  # differentiable forward; closes over a in body and condition
    return lax.while_loop(lambda s: (s[1] < trips) & (s[0] > -a * 1e3), lambda s: (jnp.sin(s[0]) * a, s[1] + 1), (x, 0))[0]

@op
def while_gcd(a, b):
    return lax.while_loop(lambda s: s[1] != 0, lambda s: (s[1], s[0] % s[1]), (a, b))[0]

@op
def while_swaps(a, b, n):  # carries exchange places every trip
    return lax.while_loop(lambda s: s[2] > 0, lambda s: (s[1] + 1, s[0] * 2, s[2] - 1), (a, b, n))

@op
def while_array_predicate(x):  # the predicate reduces over a whole array
    return lax.while_loop(lambda s: jnp.any(jnp.abs(s) > 1), lambda s: jnp.where(jnp.abs(s) > 1, s / 2, s), x)

@op
def fori_bounds(lo, hi, x):  # bounds are data; no trip if hi <= lo
    return lax.fori_loop(lo, hi, lambda i, c: c * .5 + i, x)

@op
def fori_static(x, *, lo, hi, unroll=None):  # static bounds: reverse-differentiable
    return lax.fori_loop(lo, hi, lambda i, c: jnp.sin(c) * (i + 1), x, unroll=unroll)

@op
def cond_captures(p, x, y, z):  # the branches capture different variables
    return lax.cond(p, lambda: x * jnp.sin(y), lambda: z ** 2 + x)

@op
def cond_trees(p, x):
    return lax.cond(p, lambda t: {"a": t["b"] * 2, "b": t["a"]}, lambda t: {"a": t["a"], "b": jnp.cos(t["b"])}, {"a": x, "b": x[::-1]})

@op
def cond_constant_branch(p, x):  # one branch does not depend on the input
    return lax.cond(p, lambda x: jnp.exp(x), lambda x: jnp.ones_like(x), x)

@op
def cond_guards_nan(x):  # cond keeps sqrt's derivative away from x <= 0
    return lax.cond(x > 0, lambda x: jnp.sqrt(x), lambda x: 0. * x, x)

@op
def cond_nested(p, q, x):
    return lax.cond(p, lambda x: lax.cond(q, jnp.sin, jnp.cos, x), lambda x: lax.cond(q, jnp.exp, lambda x: x ** 3, x), x)

@op
def switch_five(i, x):
    return lax.switch(i, [jnp.sin, lambda x: x * 2, jnp.ones_like, lambda x: x ** 3, lambda x: -x], x)  # the index is clamped

@op
def switch_captures(i, x, a, b):
    return lax.switch(i, [lambda: x * a, lambda: x + b * b, lambda: a * b])

@op
def map_rows(x, w, *, batch_size=None):
    return lax.map(lambda r: (jnp.sort(r * w)[0], jnp.sum(r) * w), x, batch_size=batch_size)

@op
def associative_sum_of_squares(x, *, reverse, axis):
    return lax.associative_scan(lambda a, b: jnp.sqrt(a * a + b * b), x, reverse=reverse, axis=axis)

@op
def newton_by_while_implicit(a):  # forward loop, gradient by the implicit function theorem
    solve = lambda f, x0: lax.while_loop(lambda s: (jnp.abs(f(s)) > 1e-6 * a) , lambda s: s - f(s) / (2 * s), x0)
    return lax.custom_root(lambda x: x * x - a, a, solve, lambda g, y: y / g(jnp.ones_like(y)))

@op
def linear_solve_cg(m, b):
    A = m @ m.T + 2 * jnp.eye(b.shape[0], dtype=b.dtype)
    return lax.custom_linear_solve(lambda x: A @ x, b, lambda mv, b: jnp.linalg.solve(A, b), symmetric=True)


def control():
    g = "edge_control"; r = rng_for(g); C = functools.partial(case, g); t = dict(rtol=1e-4, atol=1e-5); F = lambda *s: arr(r, s, "f32", -1, 1)
    n = pick(r, 4, 6); W = F(3, 3)
    for k, kw in dict(plain={}, reverse=dict(reverse=True), unroll2=dict(unroll=2), unroll_all_reverse=dict(unroll=9, reverse=True)).items(): C("scan_trees_" + k, "scan_trees", [F(3), F(n, 3), W], kw, vmap_axes=[0, 0, None] if kw else [None, 0, 0], **t)
    C("scan_length_0", "scan_trees", [F(3), np.zeros((0, 3), np.float32), W], {}, REV); C("scan_length_1", "scan_trees", [F(3), F(1, 3), W], {}, vmap_axes=[None, None, 0], **t)
    C("scan_vmap_init_only", "scan_trees", [F(3), F(n, 3), W], {}, VV, vmap_axes=[0, None, None], **t); C("scan_vmap_odd_axes", "scan_trees", [F(3), F(n, 3), W], {}, VV, vmap_axes=[None, 2, None], **t)
    for l in (0, 1, 5): C(f"scan_no_xs_{l}", "scan_no_xs", [F(2), np.float32(.7)], dict(length=l), vmap_axes=[None, 0], **t)
    C("scan_no_ys", "scan_no_ys", [F(n, 3), W], {}, vmap_axes=[0, None], **t); C("scan_carry_passes_through", "scan_carry_passes_through", [F(2), F(n, 2)], {}, vmap_axes=[None, 0], **t)
    C("scan_nested", "scan_nested", [F(3, 4), F(3)], {}, vmap_axes=[0, None], **t); C("scan_integer_carry", "scan_integer_carry", [np.array([84, 36, 120, 18, 7], np.int32)], {}, VV, **BIT)
    C("scan_gathers_by_carry", "scan_gathers_by_carry", [F(7, 2), np.int32(3)], {}, vmap_axes=[0, None]); C("scan_gathers_by_batched_carry", "scan_gathers_by_carry", [F(7, 2), np.int32(3)], {}, VV, vmap_axes=[None, 0], batch=lambda r: [0, np.int32(pick(r, 0, 6))])
    C("scan_writes_buffer", "scan_writes_buffer", [F(5)], {}, **t); C("scan_60_carries", "scan_many_carries", [F(60), F(3)], {}, vmap_axes=[0, None], **t)
    C("grad_of_scan_per_example", "grad_of_scan_per_example", [W, F(3, n, 3), F(3, 3)], {}, REV, **t); C("hessian_of_scan", "hessian_of_scan", [W, F(n, 3), F(3)], {}, V, rtol=5e-4, atol=5e-5); C("grad_of_grad_of_scan", "grad_of_grad_of_scan", [W, F(n, 3), F(3)], {}, REV, rtol=5e-4, atol=5e-5); C("checkpointed_scan_grad", "checkpointed_scan_grad", [W, F(n, 3), F(3)], {}, REV, **t)
    C("cond_in_scan_grad", "cond_in_scan_grad", [F(3), np.array([.5, -.3, .2, -.8, .9], np.float32)], {}, ("value", "vmap"), **t); C("while_in_scan", "while_in_scan", [F(6)], dict(cap=20), ("value", "jvp", "vmap"), **t)
    d = np.array([.3, 5, 9, 40, 1], np.float32)
    C("while_batched_predicate", "while_doubling", [np.float32(.3), np.float32(8)], {}, JVP, vmap_axes=[0, None], batch=lambda r: [arr(r, (), "f32", .1, 20), np.float32(8)]); C("while_batched_limit", "while_doubling", [np.float32(.3), np.float32(8)], {}, VV, vmap_axes=[None, 0], batch=lambda r: [np.float32(.3), arr(r, (), "f32", .1, 20)])
    C("while_zero_trips", "while_doubling", [np.float32(9), np.float32(8)], {}, ("value", "jvp")); C("while_captures_jvp", "while_captures", [F(3)[0], np.float32(1.3)], dict(trips=7), JVP, vmap_axes=[0, 0], batch=lambda r: [arr(r, (), "f32", .2, 1), arr(r, (), "f32", .5, 1.5)], **t)
    C("while_gcd", "while_gcd", [np.int32(84), np.int32(36)], {}, VV, vmap_axes=[0, 0], batch=lambda r: [np.int32(pick(r, 1, 999)), np.int32(pick(r, 0, 99))], **BIT); C("while_swaps", "while_swaps", [F(2), F(2), np.int32(3)], {}, JVP, vmap_axes=[0, None, 0], batch=lambda r: [arr(r, (2,)), 0, np.int32(pick(r, 0, 5))]); C("while_array_predicate", "while_array_predicate", [arr(r, (5,), "f32", -20, 20)], {}, JVP)
    for k, (lo, hi) in enumerate([(0, 5), (3, 3), (5, 2), (-2, 2)]): C(f"fori_bounds_{k}", "fori_bounds", [np.int32(lo), np.int32(hi), F(2)], {}, JVP, vmap_axes=[None, 0, None], batch=lambda r: [0, np.int32(pick(r, -3, 7)), 0])
    for k, kw in dict(plain=dict(lo=0, hi=4), negative_start=dict(lo=-2, hi=2), unrolled=dict(lo=1, hi=6, unroll=2), no_trip=dict(lo=4, hi=1)).items(): C("fori_static_" + k, "fori_static", [F(3)], kw, **t)
    for p in (True, False): C(f"cond_captures_{int(p)}", "cond_captures", [np.bool_(p), F(3), F(3), F(3)], {}, vmap_axes=[None, 0, None, 0])
    pr = lambda n, *s: dict(batch=lambda r: [np.bool_(r.integers(2))] * n + [arr(r, q) for q in s])
    C("cond_batched_predicate", "cond_captures", [np.bool_(True), F(3), F(3), F(3)], {}, VV, vmap_axes=[0, None, 0, None], batch=lambda r: [np.bool_(False)] + [arr(r, (3,)) for _ in range(3)])
    C("cond_trees", "cond_trees", [np.bool_(False), F(4)], {}, vmap_axes=[0, 0], batch=lambda r: [np.bool_(True), arr(r, (4,))]); C("cond_constant_branch", "cond_constant_branch", [np.bool_(False), F(4)], {}, vmap_axes=[0, 0], batch=lambda r: [np.bool_(True), arr(r, (4,))])
    C("cond_guards_nan", "cond_guards_nan", [np.float32(-1)], {}, REV); C("cond_nested", "cond_nested", [np.bool_(True), np.bool_(False), F(3)], {}, vmap_axes=[0, 0, 0], batch=lambda r: [np.bool_(False), np.bool_(True), arr(r, (3,))])
    for i in (-7, 0, 3, 99): C(f"switch_index_{i}", "switch_five", [np.int32(i), F(3)], {}, vmap_axes=[0, None], batch=lambda r: [np.int32(pick(r, -3, 8)), 0])
    C("switch_captures", "switch_captures", [np.int32(1), F(2), F(2), F(2)], {}, vmap_axes=[0, 0, None, None], batch=lambda r: [np.int32(2), arr(r, (2,)), 0, 0])
    for b in (None, 2): C(f"map_rows_batch_{b}", "map_rows", [F(5, 3), np.float32(.8)], dict(batch_size=b), vmap_axes=[0, None])
    for ax in (0, 1): C(f"associative_reverse_{ax}", "associative_sum_of_squares", [arr(r, (5, 4), "f32", .5, 2)], dict(reverse=bool(ax), axis=ax), **t)
    C("implicit_root", "newton_by_while_implicit", [np.float32(7.3)], {}, ALL, batch=lambda r: [arr(r, (), "f32", 1, 9)], rtol=1e-5); C("custom_linear_solve", "linear_solve_cg", [F(3, 3), F(3)], {}, ALL, vmap_axes=[None, 0], **t)


# ------------------------------------------------------------------ dtypes
def in_dtype(dtype, *xs): return [x.astype(JAX[dtype]) for x in xs]
def out(*ys): return [y.astype(jnp.float32) if y.dtype in (jnp.bfloat16, jnp.float16) else y for y in ys]  # what a file can hold

PROMOTED = ["bool", "u8", "i8", "i32", "u32", "i64", "u64", "bf16", "f16", "f32", "f64"]

@op
def promote_add_row(x, *ys, left, rights): return out(*[jnp.add(x.astype(JAX[left]), y.astype(JAX[d])) for d, y in zip(rights, ys)])

@op
def promote_python_scalars(x, *, dtype, scalars):  # x + True, x + 3, x + 2.5: weakly typed
    return out(*[x.astype(JAX[dtype]) + s for s in scalars])

@op
def promote_divide(x, *, dtype):  # true division of a dtype by itself
    return out(jnp.true_divide(*in_dtype(dtype, x, x + x.astype(x.dtype))))

@op
def reduction_dtypes(x, *, dtype): return out(*[f(x.astype(JAX[dtype])) for f in (jnp.sum, jnp.prod, jnp.mean, jnp.max, jnp.cumsum, jnp.argmax)])

@op
def matmul_dtype(a, b, *, dtype, result=None):
    return out(jnp.matmul(*in_dtype(dtype, a, b), preferred_element_type=JAX[result] if result else None))[0]

UN = dict(exp=jnp.exp, tanh=jnp.tanh, logistic=jax.nn.sigmoid, log1p=jnp.log1p, sqrt=jnp.sqrt, rsqrt=lax.rsqrt, softmax=jax.nn.softmax, logsumexp=jax.nn.logsumexp, mean=jnp.mean, var=jnp.var, sum=jnp.sum, gelu=jax.nn.gelu, double=lambda x: x + x, square=jnp.square)
ops({
    "convert_to": lambda x, *, to, via=None: out((x.astype(JAX[via]) if via else x).astype(JAX[to]))[0],
    "unary_dtype": lambda x, *, dtype, fn: out(UN[fn](x.astype(JAX[dtype])))[0],
    "binary_dtype": lambda x, y, *, dtype, fn: out(dict(add=lax.add, mul=lax.mul, div=lax.div, pow=lax.pow, max=lax.max)[fn](*in_dtype(dtype, x, y)))[0],
    "layer_norm_dtype": lambda x, *, dtype: (lambda h: out((h - h.mean(-1, keepdims=True)) * lax.rsqrt(h.var(-1, keepdims=True) + jnp.asarray(1e-5, h.dtype)))[0])(x.astype(JAX[dtype])),
    "lax_div": lambda x, y: lax.div(x, y), "lax_rem": lambda x, y: lax.rem(x, y),  # integers: towards zero
    "floor_divide": lambda x, y: jnp.floor_divide(x, y), "remainder": lambda x, y: jnp.remainder(x, y), "fmod": lambda x, y: jnp.fmod(x, y), "divmod": lambda x, y: jnp.divmod(x, y),
    "wrapping": lambda x, y: [x + y, x - y, x * y, -x, jnp.abs(x)], "integer_power": lambda x, *, n: lax.integer_pow(x, n), "power_ints": lambda x, y: jnp.power(x, y),
    "shifts": lambda x, s: [lax.shift_left(x, s), lax.shift_right_logical(x, s), lax.shift_right_arithmetic(x, s)],
    "bit_counts": lambda x: [lax.population_count(x), lax.clz(x)], "bitwise": lambda x, y: [x & y, x | y, x ^ y, ~x],
    "bitcast_to": lambda x, *, to: lax.bitcast_convert_type(x, JAX[to]), "bitcast_bf16": lambda x: lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16).astype(jnp.int32),
    "compare_all": lambda x, y: [x < y, x <= y, x == y, x != y, jnp.maximum(x, y), jnp.minimum(x, y), jnp.sign(x)],
    "nan_to_num": lambda x: jnp.nan_to_num(x), "copysign": lambda x, y: jnp.copysign(x, y), "signbit": lambda x: jnp.signbit(x), "nextafter": lambda x, y: lax.nextafter(x, y), "frexp": lambda x: jnp.frexp(x), "ldexp": lambda x, e: jnp.ldexp(x, e), "modf": lambda x: jnp.modf(x), "heaviside": lambda x, y: jnp.heaviside(x, y),
    "round_half": lambda x: [jnp.round(x), lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), jnp.trunc(x)],
    "round_decimals": lambda x, *, decimals: jnp.round(x, decimals), "reduce_precision": lambda x, *, exponent, mantissa: lax.reduce_precision(x, exponent, mantissa), "clip_ints": lambda x, *, lo, hi: jnp.clip(x, lo, hi),
    "gcd_lcm": lambda x, y: [jnp.gcd(x, y), jnp.lcm(x, y)], "where_promotes": lambda m, x, y: jnp.where(m, x, y), "mean_var_ints": lambda x: [jnp.mean(x), jnp.var(x), jnp.std(x)], "linspace": lambda a, b, *, n, endpoint: jnp.linspace(a, b, n, endpoint=endpoint), "arange_f32": lambda x, *, start, stop, step: x + jnp.arange(start, stop, step, jnp.float32),
    "grad_through_integers": lambda x: jax.grad(lambda x: jnp.sum(x * x.astype(jnp.int32).astype(x.dtype)))(x), "mixed_precision_grad": lambda w, x: jax.grad(lambda w: jnp.sum(jnp.tanh(w.astype(jnp.bfloat16) @ x.astype(jnp.bfloat16)).astype(jnp.float32) ** 2))(w),
})


def dtypes():
    g = "edge_dtype"; r = rng_for(g); C = functools.partial(case, g); nan, inf = np.nan, np.inf
    vals = lambda d: arr(r, (3,), d if d in NP else "f32", *((0, 1) if d == "bool" else (0, 40) if d[0] == "u" else (-40, 40) if d[0] == "i" else (-4, 4))).astype(NP.get(d, np.float32))
    half = lambda x: np.round(np.asarray(x) * 8) / 8  # exact in bf16 and f16
    def stored(d): v = vals(d); return half(v).astype(v.dtype) if v.dtype.kind == "f" else v
    with jax.enable_x64(True): table = {a: {b: str(jnp.promote_types(JAX[a], JAX[b])) for b in PROMOTED} for a in PROMOTED}
    short = lambda d: {"bfloat16": "bf16", "float16": "f16", "float32": "f32", "float64": "f64", "bool": "bool"}.get(str(d), str(d).replace("uint", "u").replace("int", "i"))
    for a in PROMOTED:
        R = [b for b in PROMOTED if table[a][b] != "int16"]  # u8 with i8 gives i16
        C("promote_" + a, "promote_add_row", [stored(a)] + [stored(b) for b in R], dict(left=a, rights=R, result_dtypes=[short(table[a][b]) for b in R], x64=True), V, rtol=8e-3, atol=1e-6)
    for x64 in (False, True):
        for a in PROMOTED:
            if not x64 and a[-2:] == "64" or x64 and a not in ("bool", "u8", "i32", "i64", "bf16", "f64"): continue
            with jax.enable_x64(x64): res = [short((jnp.zeros((), JAX[a]) + s).dtype) for s in (True, 3, 2.5)]
            C(f"scalars_{a}_x64_{int(x64)}", "promote_python_scalars", [stored(a)], dict(dtype=a, scalars=[True, 3, 2.5], result_dtypes=res, **({"x64": True} if x64 else {})), V, rtol=8e-3, atol=1e-6)
    f = np.array([0., -0., .5, -.5, 1.5, 2.5, -1.5, 127.9, 255.6, 16777217., 3e9, -3e9, 5e9, 1e30, -1e30, inf, -inf, nan], np.float32)
    for to in ("i32", "u32", "u8", "i8", "bool"): C("f32_to_" + to, "convert_to", [f], dict(to=to), V, **BIT)
    C("f32_to_i64", "convert_to", [f], dict(to="i64", x64=True), V, **BIT); C("f32_to_u64", "convert_to", [f], dict(to="u64", x64=True), V, **BIT)
    C("f64_to_f32", "convert_to", [np.array([1 + 2 ** -24, 1 + 3 * 2 ** -24, 1e39, -1e39, .1, nan, 16777217.])], dict(to="f32", x64=True), V, **BIT); C("f64_to_i32", "convert_to", [np.array([2147483647.9, -2147483648.9, 1e18, nan, -.99])], dict(to="i32", x64=True), V, **BIT)
    for to in ("bf16", "f16"): C("f32_to_" + to, "convert_to", [np.array([1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519, 65520, 3.4e38, -3.4e38, .1, nan, -inf, -0.0, 257, 259], np.float32)], dict(to=to, result_dtypes=[to]), V, **BIT)
    C("i32_to_f32", "convert_to", [np.array([16777217, 16777219, -16777217, 2 ** 31 - 1, -2 ** 31, 33554435], np.int32)], dict(to="f32"), V, **BIT); C("u32_to_f32", "convert_to", [np.array([2 ** 32 - 1, 2 ** 31 + 129, 16777217], np.uint32)], dict(to="f32"), V, **BIT); C("u64_to_f32_f64", "convert_to", [np.array([2 ** 64 - 1, 2 ** 63 + 1, 2 ** 53 + 1], np.uint64)], dict(to="f64", x64=True), V, **BIT); C("i64_to_f32", "convert_to", [np.array([2 ** 63 - 1, -2 ** 63, 2 ** 40 + 2 ** 15 + 1], np.int64)], dict(to="f32", x64=True), V, **BIT)
    C("i32_to_u8_i8", "convert_to", [np.array([-1, 255, 256, 300, -129, 128, 2 ** 31 - 1], np.int32)], dict(to="i8", via="u8"), V, **BIT); C("i64_to_u32", "convert_to", [np.array([-1, 2 ** 40 + 7, 2 ** 63 - 1], np.int64)], dict(to="u32", x64=True), V, **BIT); C("i8_to_u32", "convert_to", [np.array([-1, -128, 127], np.int8)], dict(to="u32"), V, **BIT); C("bool_to_bf16", "convert_to", [np.array([True, False])], dict(to="bf16", result_dtypes=["bf16"]), V, **BIT)
    C("convert_grad_f64", "convert_to", [arr(r, (5,))], dict(to="f64", x64=True), rtol=1e-6, atol=0)
    lim = {"i32": (-2 ** 31, 2 ** 31 - 1), "i8": (-128, 127), "u8": (0, 255), "u32": (0, 2 ** 32 - 1), "i64": (-2 ** 63, 2 ** 63 - 1), "u64": (0, 2 ** 64 - 1)}
    def edge(d): lo, hi = lim[d]; e = sorted({lo, lo + 1, lo // 2, -7, -2, -1, 0, 1, 2, 3, 7, hi // 2 + 1, hi} & set(range(lo, hi + 1)) if hi < 300 else {v for v in (lo, lo + 1, -7, -2, -1, 0, 1, 2, 7, hi // 2 + 1, hi) if lo <= v <= hi}); return np.array(e, NP[d])
    def pairs(d): e = edge(d); a, b = np.meshgrid(e, e); return [a.ravel().copy(), b.ravel().copy()]
    x64 = lambda d, **kw: dict(kw, x64=True) if d[1:] == "64" else kw
    for d in ("i32", "u8", "i8", "u32", "i64", "u64"):
        C("wrap_" + d, "wrapping", pairs(d), x64(d), V, **BIT); C("div_" + d, "lax_div", pairs(d), x64(d), V, **BIT); C("compare_" + d, "compare_all", pairs(d), x64(d), V, **BIT)
        if d in ("i32", "i8", "u32", "i64"):
            C("rem_" + d, "lax_rem", pairs(d), x64(d), V, **BIT); a, b = pairs(d); ok = (b != 0) & ~((b == -1 if d[0] == "i" else False) & (a == lim[d][0]))
            C("floor_divide_" + d, "floor_divide", [a[ok], b[ok]], x64(d), V, **BIT); C("remainder_" + d, "remainder", [a[ok], b[ok]], x64(d), V, **BIT)
        w = np.iinfo(NP[d]).bits; s = np.array([0, 1, w // 2, w - 1, w, w + 1], NP[d]); e = edge(d); C("shifts_" + d, "shifts", [np.repeat(e, len(s)), np.tile(s, len(e))], x64(d), V, **BIT); C("bit_counts_" + d, "bit_counts", [e], x64(d), V, **BIT); C("bitwise_" + d, "bitwise", pairs(d), x64(d), V, **BIT)
    fp = np.array([0., -0., 1, -1, 2.5, -2.5, 7, -7, inf, -inf, nan, 1e30], np.float32); a, b = [v.ravel().copy() for v in np.meshgrid(fp, fp)]
    for o in ("remainder", "fmod", "floor_divide"): C(o + "_f32", o, [a, b], {}, V, rtol=1e-6, atol=0)
    C("remainder_grad", "remainder", [np.array([5.3, -5.3, 7.1, -.4], np.float32), np.array([2., 2, -3, -3], np.float32)], {}); C("divmod_f32", "divmod", [np.array([5.3, -5.3, 7.1, -.4], np.float32), np.array([2., 2, -3, -3], np.float32)], {}, VV)
    for n in (0, 2, 3, 31): C(f"integer_power_i32_{n}", "integer_power", [np.array([-3, -1, 0, 2, 7, 46341], np.int32)], dict(n=n), VV, **BIT)
    C("power_ints", "power_ints", [np.array([-3, 2, 0, 7, 10], np.int32), np.array([3, 31, 0, 11, 5], np.int32)], {}, VV, **BIT)
    K = 600
    for d in ("bf16", "f16"):
        C(f"matmul_ones_{d}", "matmul_dtype", [np.ones((2, K), np.float32), np.ones((K, 2), np.float32)], dict(dtype=d, result_dtypes=[d]), V, **BIT); C(f"matmul_{d}", "matmul_dtype", [half(arr(r, (3, 40))).astype(np.float32), half(arr(r, (40, 2))).astype(np.float32)], dict(dtype=d, result_dtypes=[d]), V, rtol=8e-3 if d == "bf16" else 1e-3, atol=1e-3)
        C(f"matmul_f32_result_{d}", "matmul_dtype", [arr(r, (3, 40)), arr(r, (40, 2))], dict(dtype=d, result="f32"), V, rtol=1e-5, atol=2e-5); C(f"sum_ones_{d}", "unary_dtype", [np.ones((K,), np.float32)], dict(dtype=d, fn="sum", result_dtypes=[d]), V, **BIT)
        e = 8e-3 if d == "bf16" else 1e-3
        for fn in ("exp", "tanh", "logistic", "log1p", "rsqrt", "gelu", "softmax", "logsumexp", "mean", "var"): C(f"{fn}_{d}", "unary_dtype", [arr(r, (2, 7), "f32", .25, 3)], dict(dtype=d, fn=fn, result_dtypes=[d]), V, rtol=2 * e, atol=e)
        C(f"layer_norm_{d}", "layer_norm_dtype", [arr(r, (3, 8))], dict(dtype=d, result_dtypes=[d]), V, rtol=4 * e, atol=4 * e); C(f"rounding_add_{d}", "binary_dtype", [np.array([256, 1, 2048, 1, 60000, 3e4], np.float32), np.array([1, 2 ** -8, 1, 2 ** -11, 6e4, 3e4], np.float32)], dict(dtype=d, fn="add", result_dtypes=[d]), V, **BIT)
        for fn in ("mul", "div"): C(f"rounding_{fn}_{d}", "binary_dtype", [arr(r, (12,), "f32", .5, 4), arr(r, (12,), "f32", .5, 4)], dict(dtype=d, fn=fn, result_dtypes=[d]), V, **BIT)
        C(f"grad_{d}", "unary_dtype", [half(arr(r, (6,))).astype(np.float32)], dict(dtype=d, fn="tanh", result_dtypes=[d]), REV, rtol=2 * e, atol=2 * e)
    for x, d in ((np.array([100, 100, 100], np.int8), "i8"), (np.array([200, 200, 3], np.uint8), "u8"), (np.array([True, True, False]), "bool"), (np.array([2 ** 31 - 1, 9, -5], np.int32), "i32"), (np.array([2 ** 32 - 1, 9, 2], np.uint32), "u32"), (np.array([1.5, 2, 3], np.float32), "bf16")):
        for w in (False, True) if d in ("i8", "u8", "bool", "i32") else (False,):
            with jax.enable_x64(w): res = [short(o.dtype) for o in (jnp.sum(x.astype(JAX[d])), jnp.prod(x.astype(JAX[d])), jnp.mean(x.astype(JAX[d])), jnp.max(x.astype(JAX[d])), jnp.cumsum(x.astype(JAX[d])), jnp.argmax(x))]
            C(f"reductions_{d}_x64_{int(w)}", "reduction_dtypes", [x], dict(dtype=d, result_dtypes=res, **({"x64": True} if w else {})), V, rtol=1e-2 if d == "bf16" else 1e-6, atol=0)
    for d in ("i32", "u8", "bool", "bf16"): C("true_divide_" + d, "promote_divide", [np.array([1, 7, 3], {"bf16": np.float32}.get(d, NP.get(d)))], dict(dtype=d, result_dtypes=["bf16" if d == "bf16" else "f32"]), V, rtol=1e-6, atol=0)
    C("bitcast_f32_i32", "bitcast_to", [fp], dict(to="i32"), V, **BIT); C("bitcast_f32_u8", "bitcast_to", [arr(r, (3,))], dict(to="u8"), V, **BIT); C("bitcast_u8_f32", "bitcast_to", [np.array([[0, 0, 128, 63], [1, 2, 3, 64]], np.uint8)], dict(to="f32"), V, **BIT); C("bitcast_f64_u32", "bitcast_to", [arr(r, (2,), "f64")], dict(to="u32", x64=True), V, **BIT); C("bitcast_i64_f64", "bitcast_to", [np.array([4607182418800017408, -4616189618054758400], np.int64)], dict(to="f64", x64=True), V, **BIT); C("bitcast_bf16", "bitcast_bf16", [np.array([1.5, -2, 3.140625], np.float32)], {}, V, **BIT)
    C("nan_to_num", "nan_to_num", [fp], {}, ALL); C("copysign", "copysign", [a, b], {}, V, **BIT); C("signbit", "signbit", [np.array([0., -0., 1, -1, inf, -inf], np.float32)], {}, V, **BIT); C("nextafter", "nextafter", [np.array([1, 1, 2, -1, 1e30, inf], np.float32), np.array([2, 0, 1, 0, inf, 0], np.float32)], {}, V, **BIT); C("frexp", "frexp", [np.array([1, 3.5, -.3, 1e20, 0], np.float32)], {}, V, **BIT); C("ldexp", "ldexp", [np.array([1.5, -.3, 1, 7], np.float32), np.array([3, -5, 120, 0], np.int32)], {}, REV); C("modf", "modf", [np.array([1.5, -2.25, -.5, 7], np.float32)], {}, V, **BIT); C("heaviside", "heaviside", [np.array([-1, 0, -0., 2, nan], np.float32), np.full((5,), .25, np.float32)], {}, V, **BIT)
    C("round_half", "round_half", [np.array([.5, 1.5, -.5, -2.5, 2.4999998, 8388609., nan, inf], np.float32)], {}, V, **BIT); C("round_decimals", "round_decimals", [np.array([1.25, -1.35, 123.456], np.float32)], dict(decimals=1), V, rtol=1e-6, atol=0); C("reduce_precision", "reduce_precision", [np.array([1.2345, 3e38, -7.7, nan, 65519, 65520], np.float32)], dict(exponent=5, mantissa=10), V, **BIT); C("clip_u8", "clip_ints", [arr(r, (6,), "u8", 0, 255)], dict(lo=10, hi=200), VV, **BIT)
    C("gcd_lcm", "gcd_lcm", [np.array([12, -8, 0, 0, 7], np.int32), np.array([18, 12, 5, 0, -7], np.int32)], {}, VV, **BIT); C("mean_var_i32", "mean_var_ints", [np.array([2 ** 30, 5, -7, 2 ** 30], np.int32)], {}, V, rtol=1e-5); C("linspace_no_endpoint", "linspace", [np.float32(-1), np.float32(2)], dict(n=5, endpoint=False)); C("linspace_one", "linspace", [np.float32(-1), np.float32(2)], dict(n=1, endpoint=True), REV); C("arange_fraction", "arange_f32", [np.float32(0)], dict(start=1., stop=2., step=.3), V)
    C("grad_through_integers", "grad_through_integers", [np.array([1.7, -2.3, 3.5], np.float32)], {}, V); C("mixed_precision_grad", "mixed_precision_grad", [half(arr(r, (3, 4))).astype(np.float32), half(arr(r, (4, 2))).astype(np.float32)], {}, V, rtol=3e-2, atol=3e-2); C("where_promotes", "where_promotes", [arr(r, (4,), "bool"), arr(r, (4,), "i32"), arr(r, (4,))], {}, VV)


# ------------------------------------------------------------------ special functions
S = jax.scipy.special
ops({
    "gammaln": lambda x: S.gammaln(x), "psi": lambda x: S.digamma(x), "polygamma": lambda x, *, n: S.polygamma(n, x), "hurwitz_zeta": lambda q, *, s: S.zeta(jnp.asarray(s, q.dtype), q),
    "igamma": lambda a, x: S.gammainc(a, x), "igammac": lambda a, x: S.gammaincc(a, x), "igamma_grad_a": lambda a, x: lax.igamma_grad_a(a, x), "random_gamma_grad": lambda a, x: lax.random_gamma_grad(a, x),
    "bessel_i0e": lambda x: lax.bessel_i0e(x), "bessel_i1e": lambda x: lax.bessel_i1e(x), "i0": lambda x: S.i0(x), "i1": lambda x: S.i1(x), "betainc": lambda x, *, a, b: S.betainc(jnp.asarray(a, x.dtype), jnp.asarray(b, x.dtype), x), "betainc_values": lambda a, b, x: S.betainc(a, b, x),
    "betaln": lambda a, b: S.betaln(a, b), "beta_function": lambda a, b: S.beta(a, b), "gamma_function": lambda x: S.gamma(x), "gammasgn": lambda x: S.gammasgn(x), "factorial": lambda n: S.factorial(n), "multigammaln": lambda a, *, d: S.multigammaln(a, d), "poch": lambda z, m: S.poch(z, m),
    "logit": lambda x: S.logit(x), "expit": lambda x: S.expit(x), "xlogy": lambda x, y: S.xlogy(x, y), "xlog1py": lambda x, y: S.xlog1py(x, y), "entr": lambda x: S.entr(x), "kl_div": lambda p, q: S.kl_div(p, q), "rel_entr": lambda p, q: S.rel_entr(p, q),
    "erfinv": lambda x: S.erfinv(x), "erfc_tail": lambda x: S.erfc(x), "erfcx": lambda x: S.erfcx(x), "ndtr": lambda x: S.ndtr(x), "log_ndtr": lambda x: S.log_ndtr(x), "ndtri": lambda p: S.ndtri(p), "expi": lambda x: S.expi(x), "exp1": lambda x: S.exp1(x), "expn": lambda x, *, n: S.expn(n, x), "spence": lambda x: S.spence(x), "sinc": lambda x: jnp.sinc(x), "sinc_second_derivative": lambda x: jax.vmap(jax.grad(jax.grad(jnp.sinc)))(x),
    "logsumexp_of": lambda x, *, axis, keepdims=False: S.logsumexp(x, axis=T(axis), keepdims=keepdims), "logsumexp_weighted": lambda x, b, *, axis: S.logsumexp(x, axis=axis, b=b, return_sign=True), "logsumexp_where": lambda x, m, *, axis: S.logsumexp(x, axis=axis, where=m),
    "logaddexp": lambda x, y: jnp.logaddexp(x, y), "logaddexp2": lambda x, y: jnp.logaddexp2(x, y), "hypot": lambda x, y: jnp.hypot(x, y), "cbrt_of": lambda x: jnp.cbrt(x), "log1mexp": lambda x: jax.nn.log1mexp(x), "softplus_of": lambda x: jax.nn.softplus(x),
    "safe_log_double_where": lambda x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.)), 0.), "power_of": lambda x, y: jnp.power(x, y), "arctan2_of": lambda y, x: jnp.arctan2(y, x), "lgamma_hessian": lambda x: jax.vmap(jax.grad(jax.grad(S.gammaln)))(x), "log_beta_hessian": lambda ab: jax.hessian(lambda ab: S.betaln(ab[0], ab[1]))(ab),
})


def special():
    g = "edge_special"; r = rng_for(g); nan, inf = np.nan, np.inf; A = lambda *v: np.array(v, np.float32)
    def C(name, op, xs, params=None, check=ALL, rtol=1e-4, atol=1e-5, **kw): case(g, name, op, xs, params, check, rtol, atol, **kw)
    U = lambda lo, hi, *s: arr(r, s or (8,), "f32", lo, hi)
    C("gammaln", "gammaln", [U(.05, 30)]); C("gammaln_negative", "gammaln", [np.floor(U(-6, 0)) + U(.15, .85)], atol=1e-4); C("gammaln_edge", "gammaln", [A(0, -0., 1, 2, -1, -2, inf, -inf, nan, 1e-30, 1e30)], {}, V); C("gammaln_f64", "gammaln", [arr(r, (6,), "f64", .1, 30)], dict(x64=True), rtol=1e-11, atol=1e-12); C("lgamma_hessian", "lgamma_hessian", [U(.3, 9)], {}, V)
    C("digamma", "psi", [U(.1, 30)]); C("digamma_negative", "psi", [np.floor(U(-5, 0)) + U(.2, .8)], rtol=5e-4, atol=1e-4); C("digamma_edge", "psi", [A(1, -1, -2, inf, nan, 1e30)], {}, V)
    for n in (0, 1, 3): C(f"polygamma_{n}", "polygamma", [U(.4, 9)], dict(n=n), rtol=3e-4)
    C("polygamma_f64", "polygamma", [arr(r, (5,), "f64", .4, 9)], dict(n=2, x64=True), rtol=1e-10, atol=1e-11)
    for s in (1.5, 3., 8.): C(f"zeta_{s}", "hurwitz_zeta", [U(.5, 9)], dict(s=s), rtol=3e-4)
    for f in ("igamma", "igammac"):
        C(f, f, [U(.3, 6), U(.2, 9)], {}, rtol=1e-3, atol=1e-4); C(f + "_edge", f, [A(1, 1, 2, .5, 30, 1e-3, 3, nan, 2), A(0, inf, 1e-6, 1e2, 30, .5, 3, 1, nan)], {}, V, atol=1e-5); C(f + "_f64", f, [arr(r, (5,), "f64", .3, 6), arr(r, (5,), "f64", .2, 9)], dict(x64=True), V, rtol=1e-10, atol=1e-12)
    C("igamma_grad_a", "igamma_grad_a", [U(.5, 6), U(.4, 9)], {}, VV, rtol=1e-3, atol=1e-4); C("random_gamma_grad", "random_gamma_grad", [U(.5, 6), U(.4, 5)], {}, VV, rtol=1e-3, atol=1e-4)
    for f in ("bessel_i0e", "bessel_i1e"): C(f, f, [U(-20, 20)]); C(f + "_edge", f, [A(0, -0., 8, -8, 1e-5, 1e4, inf, -inf, nan)], {}, V)
    C("i0", "i0", [U(-6, 6)]); C("i1", "i1", [U(-6, 6)])
    for a, b in ((.5, .5), (2., 5.), (20., 3.)): C(f"betainc_{a}_{b}", "betainc", [U(.03, .97)], dict(a=a, b=b), rtol=5e-4, atol=2e-5)
    C("betainc_edge", "betainc_values", [A(2, 2, 1, .5, 3, 2), A(3, 3, 1, .5, nan, 3), A(0, 1, .25, .5, .5, .999)], {}, V, rtol=3e-4); C("betainc_f64", "betainc", [arr(r, (5,), "f64", .1, .9)], dict(a=2.5, b=.7, x64=True), rtol=1e-9, atol=1e-11)
    C("betaln", "betaln", [U(.2, 9), U(.2, 9)], rtol=3e-4); C("betaln_far_apart", "betaln", [A(1e6, 3), A(.5, 1e8)], {}, V, rtol=1e-3); C("log_beta_hessian", "log_beta_hessian", [U(.5, 5, 2)], {}, V, rtol=3e-4, atol=1e-4); C("beta_function", "beta_function", [U(.5, 4), U(.5, 4)], rtol=3e-4)
    C("gamma_function", "gamma_function", [np.append(U(.3, 6), A(-.5, -1.5, -2.4))], rtol=3e-4); C("gammasgn", "gammasgn", [A(.5, -.5, -1.5, -2.5, 3)], {}, V); C("factorial", "factorial", [A(0, 1, 2, 5, 10)], {}, V); C("multigammaln", "multigammaln", [U(2, 9)], dict(d=3), rtol=3e-4); C("poch", "poch", [U(1, 4), U(.5, 3)], {}, VV, rtol=5e-4)
    C("logit", "logit", [U(.02, .98)]); C("logit_edge", "logit", [A(0, 1, -.5, 1.5, nan, 1e-30)], {}, V); C("expit_edge", "expit", [A(-inf, inf, -80, 80, 0, nan, 17)], {}, V, atol=1e-7); C("log1mexp", "log1mexp", [U(.05, 9)]); C("log1mexp_edge", "log1mexp", [A(1e-6, .693, .694, 50, 1e-2)], {}, V)
    C("xlogy_zero", "xlogy", [A(0, 0, 0, 2, 1.5, 0), A(0, 1, 3, 2, .5, nan)], {}, V); C("xlogy_zero_grad", "xlogy", [A(0, 2, 1.5), A(3, 2, .5)], {}, ALL); C("xlog1py_zero", "xlog1py", [A(0, 0, 2, -3), A(-1, 3, .5, 1e-6)], {}, V); C("xlog1py", "xlog1py", [U(-2, 2), U(-.8, 3)])
    C("entr", "entr", [U(.05, 2)]); C("entr_edge", "entr", [A(0, 1, -1, inf, nan)], {}, V)
    for f in ("kl_div", "rel_entr"): C(f, f, [U(.1, 3), U(.1, 3)]); C(f + "_edge", f, [A(0, 0, 1, -1, 2), A(0, 1, 0, 1, 2)], {}, V)
    C("erfinv_edge", "erfinv", [A(1, -1, 0, -0., .9999999, 1.5, nan, .999)], {}, V); C("erfinv_tails", "erfinv", [A(.99, -.999, .9995, -.98)], rtol=1e-3); C("erfc_tail", "erfc_tail", [A(3, 5, 8, -3, -8, .4, 1.1)], rtol=3e-4, atol=0); C("erfcx", "erfcx", [U(-1, 6)], {}, V, rtol=3e-4)
    C("log_ndtr", "log_ndtr", [A(-40, -20.5, -12, -5, -1, 0, 3, 8)], rtol=1e-4, atol=1e-7); C("ndtr", "ndtr", [A(-8, -3, -.5, 0, .5, 3, 8)], rtol=3e-4, atol=1e-7); C("ndtri", "ndtri", [A(1e-6, .01, .3, .5, .9, .999)], rtol=1e-3); C("ndtri_edge", "ndtri", [A(0, 1, -.5, 1.5, nan)], {}, V)
    C("expi", "expi", [A(-5, -1, -.1, .2, 1, 5, 12)], {}, VV, rtol=3e-4, atol=1e-5); C("exp1", "exp1", [U(.1, 8)], {}, VV, rtol=3e-4); C("expn", "expn", [U(.2, 6)], dict(n=3), VV, rtol=3e-4); C("spence", "spence", [U(.1, 5)], {}, VV, rtol=3e-4, atol=2e-5); C("sinc_zero", "sinc", [A(0, -0., .5, 1, -2.3, .3)], rtol=1e-4, atol=2e-5); C("sinc_second_derivative_zero", "sinc_second_derivative", [A(0, .5, 1.3)], {}, V, rtol=1e-3, atol=1e-4)
    C("logsumexp_extremes", "logsumexp_of", [np.array([[-inf, -inf, -inf], [inf, 1, 2], [1000, 1000, -1000], [-inf, 0, 1], [nan, 0, 1]], np.float32)], dict(axis=[1]), V); C("logsumexp_minus_inf_grad", "logsumexp_of", [np.array([[-inf, 0, 1], [3, -inf, -inf]], np.float32)], dict(axis=[1]), REV); C("logsumexp_keepdims", "logsumexp_of", [U(-300, 300, 2, 3, 4)], dict(axis=[0, 2], keepdims=True)); C("logsumexp_weighted_signs", "logsumexp_weighted", [U(-3, 3, 3, 4), np.array([[1, -2, 0, .5], [-1, -1, -1, -1], [0, 0, 0, 0]], np.float32)], dict(axis=1), V); C("logsumexp_where", "logsumexp_where", [U(-3, 3, 2, 4), np.array([[1, 0, 1, 0], [0, 0, 1, 1]], bool)], dict(axis=1), ALL, vmap_axes=[0, None])
    C("logaddexp_edge", "logaddexp", [A(-inf, inf, -inf, 0, 1000, nan, inf), A(-inf, inf, 0, -inf, 999, 0, -inf)], {}, V); C("logaddexp_equal_grad", "logaddexp", [A(1, -300, 5, 80), A(1, -300, 900, 79)]); C("logaddexp2", "logaddexp2", [U(-30, 30), U(-30, 30)]); C("hypot_large", "hypot", [A(1e30, 3, 0, -5e-20), A(1e30, 4, 2, 12e-20)], {}, V); C("cbrt", "cbrt_of", [A(-27, -.001, 8, 1e30)], {}, V); C("softplus_extremes", "softplus_of", [A(-90, -20, 0, 20, 200)])
    C("double_where_grad", "safe_log_double_where", [A(-1, 0, .5, 3)], {}, REV); C("power_zero_base", "power_of", [A(0, 0, 2, 3), A(2, 3, 0, 1)], {}, REV); C("power_negative_base", "power_of", [A(-2, -2, -1, -.5), A(2, 3, -1, .5)], {}, V); C("arctan2_quadrants", "arctan2_of", [A(1, -1, 1, -1, .5), A(1, 1, -1, -1, -2)])


# ------------------------------------------------------------------ random: keys are raw uint32[2], threefry2x32, partitionable
def sampler(name): return lambda k, *a, shape, dtype="f32": getattr(jr, name)(k, *a, shape=T(shape), dtype=JAX[dtype])

ops({
    "keys_of_seeds": lambda *, seeds: jnp.stack([jr.PRNGKey(s) for s in seeds]), "split_shape": lambda k, *, shape: jr.split(k, T(shape)), "fold_in_each": lambda k, d: jax.vmap(jr.fold_in, (None, 0))(k, d), "split_of_split": lambda k: jax.vmap(lambda k: jr.split(k, 3))(jr.split(k)),
    "bits_dtype": lambda k, *, shape, dtype: jr.bits(k, T(shape), JAX[dtype]), "randint_dtype": lambda k, *, shape, lo, hi, dtype: jr.randint(k, T(shape), np.uint32(lo) if dtype == "u32" else lo, np.uint32(hi) if dtype == "u32" else hi, JAX[dtype]), "randint_bounds": lambda k, lo, hi, *, shape: jr.randint(k, T(shape), lo, hi, jnp.int32),
    "uniform_dtype": lambda k, *, shape, lo, hi, dtype: out(jr.uniform(k, T(shape), JAX[dtype], lo, hi))[0], "normal_dtype": lambda k, *, shape, dtype: out(jr.normal(k, T(shape), JAX[dtype]))[0], "uniform_bounds": lambda k, lo, hi, *, shape: jr.uniform(k, T(shape), jnp.float32, lo, hi),
    "bernoulli_p": lambda k, p, *, shape: jr.bernoulli(k, p, T(shape)), "rademacher": lambda k, *, shape, dtype: jr.rademacher(k, T(shape), JAX[dtype]), "permutation_axis": lambda k, x, *, axis, independent: jr.permutation(k, x, axis=axis, independent=independent),
    "choice": lambda k, a, *, shape, replace, axis=0: jr.choice(k, a, T(shape), replace, axis=axis), "choice_p": lambda k, a, p, *, shape, replace: jr.choice(k, a, T(shape), replace, p), "choice_of_n": lambda k, *, n, shape, replace: jr.choice(k, n, T(shape), replace),
    "categorical_of": lambda k, l, *, axis, shape=None, replace=True: jr.categorical(k, l, axis, T(shape), replace), "gumbel_of": lambda k, *, shape, mode: jr.gumbel(k, T(shape), jnp.float32, mode), "truncated_normal_bounds": lambda k, lo, hi, *, shape: jr.truncated_normal(k, lo, hi, T(shape), jnp.float32),
    **{n: sampler(n) for n in ("laplace", "cauchy", "exponential", "maxwell")}, "logistic_sample": sampler("logistic"), "rayleigh": lambda k, s, *, shape: jr.rayleigh(k, s, T(shape), jnp.float32), "weibull_min": lambda k, s, c, *, shape: jr.weibull_min(k, s, c, T(shape), jnp.float32), "lognormal": lambda k, s, *, shape: jr.lognormal(k, s, T(shape), jnp.float32),
    "double_sided_maxwell": lambda k, m, s, *, shape: jr.double_sided_maxwell(k, m, s, T(shape), jnp.float32), "generalized_normal": lambda k, *, p, shape: jr.generalized_normal(k, p, T(shape), jnp.float32), "pareto": lambda k, b, *, shape: jr.pareto(k, b, T(shape), jnp.float32), "triangular": lambda k, a, m, b, *, shape: jr.triangular(k, a, m, b, T(shape), jnp.float32), "wald": lambda k, m, *, shape: jr.wald(k, m, T(shape), jnp.float32),
    "gamma": lambda k, a, *, shape: jr.gamma(k, a, T(shape), jnp.float32), "loggamma": lambda k, a, *, shape: jr.loggamma(k, a, T(shape), jnp.float32), "beta": lambda k, a, b, *, shape: jr.beta(k, a, b, T(shape), jnp.float32), "dirichlet": lambda k, a, *, shape: jr.dirichlet(k, a, T(shape), jnp.float32), "student_t": lambda k, df, *, shape: jr.t(k, df, T(shape), jnp.float32), "chisquare": lambda k, df, *, shape: jr.chisquare(k, df, T(shape), jnp.float32), "f_distribution": lambda k, a, b, *, shape: jr.f(k, a, b, T(shape), jnp.float32),
    "poisson": lambda k, l, *, shape: jr.poisson(k, l, T(shape), jnp.int32), "geometric": lambda k, p, *, shape: jr.geometric(k, p, T(shape), jnp.int32), "binomial": lambda k, n, p, *, shape: jr.binomial(k, n, p, T(shape), jnp.float32), "multinomial": lambda k, n, p, *, shape: jr.multinomial(k, n, p, shape=T(shape), dtype=jnp.float32),
    "orthogonal": lambda k, *, n, shape, m=None: jr.orthogonal(k, n, T(shape), jnp.float32, m), "multivariate_normal": lambda k, m, c, *, shape: jr.multivariate_normal(k, m, c, T(shape), jnp.float32), "ball": lambda k, *, d, p, shape: jr.ball(k, d, p, T(shape), jnp.float32),
    "normal_per_key": lambda ks, *, shape: jax.vmap(lambda k: jr.normal(k, T(shape), jnp.float32))(ks), "scan_splits_keys": lambda k, *, steps: lax.scan(lambda k, _: (lambda a, b: (a, jr.normal(b, (2,), jnp.float32)))(*jr.split(k)), k, None, length=steps), "dropout_grad": lambda k, x, *, rate: jax.grad(lambda x: jnp.sum(jnp.where(jr.bernoulli(k, 1 - rate, x.shape), x / (1 - rate), 0.) ** 2))(x),
})


def random():
    g = "edge_random"; r = rng_for(g); n = [0]
    def C(name, op, xs, params=None, check=V, rtol=1e-4, atol=1e-5, key=True, **kw):
        n[0] += 1; k = [np.asarray(jr.PRNGKey(args.seed * 1000 + n[0]))] if key else []
        kw.setdefault("vmap_axes", [0] * len(k) + [None] * len(xs)); case(g, name, op, k + xs, params, check, rtol, atol, **kw)
    A = lambda *v: np.array(v, np.float32); X = lambda name, op, xs, params=None, check=VV, **kw: C(name, op, xs, params, check, 0, 0, **kw)
    X("seeds", "keys_of_seeds", [], dict(seeds=[0, 1, -1, 2 ** 31 - 1, -2 ** 31, args.seed + 7]), V, key=False); X("seeds_x64", "keys_of_seeds", [], dict(seeds=[0, -1, 2 ** 32 + 5, 2 ** 63 - 1, -2 ** 40], x64=True), V, key=False)
    X("split_shape", "split_shape", [], dict(shape=[2, 3])); X("split_one", "split_shape", [], dict(shape=[1])); X("split_of_split", "split_of_split", []); X("fold_in_each", "fold_in_each", [np.array([0, 1, 2 ** 31, 2 ** 32 - 1], np.uint32)]); X("fold_in_negative", "fold_in_each", [np.array([-1, -2 ** 31, 5], np.int32)])
    for d in ("u8", "u32"): X("bits_" + d, "bits_dtype", [], dict(shape=[7, 3], dtype=d))
    X("bits_u64", "bits_dtype", [], dict(shape=[5], dtype="u64", x64=True)); X("bits_scalar", "bits_dtype", [], dict(shape=[], dtype="u32")); X("bits_empty", "bits_dtype", [], dict(shape=[0, 3], dtype="u32"), V)
    for i, (lo, hi, d) in enumerate([(-2 ** 31, 2 ** 31 - 1, "i32"), (0, 2 ** 32 - 1, "u32"), (0, 256, "u8"), (3, 250, "u8"), (-128, 128, "i8"), (0, 1, "i32"), (5, 5, "i32"), (7, -7, "i32"), (0, 65536 * 3, "i32"), (-10 ** 9, 10 ** 9, "i32")]): X(f"randint_{i}_{d}", "randint_dtype", [], dict(shape=[9], lo=lo, hi=hi, dtype=d))
    for i, (lo, hi, d) in enumerate([(-2 ** 40, 2 ** 40, "i64"), (-2 ** 63, 2 ** 63 - 1, "i64"), (0, 2 ** 63 - 1, "i64")]): X(f"randint_x64_{i}", "randint_dtype", [], dict(shape=[6], lo=lo, hi=hi, dtype=d, x64=True))
    X("randint_bounds", "randint_bounds", [np.array([0, -5, 100], np.int32), np.array([[10, 5, 101], [3, -4, 10 ** 6]], np.int32)], dict(shape=[2, 3]), vmap_axes=[None, 0, 0])
    for d, t in (("f32", 0), ("bf16", 0), ("f16", 0), ("f64", 0)):
        x = {"x64": True} if d == "f64" else {}; rd = dict(result_dtypes=[d]) if d in ("bf16", "f16") else {}
        X("uniform_" + d, "uniform_dtype", [], dict(shape=[9], lo=0., hi=1., dtype=d, **x, **rd)); C("normal_" + d, "normal_dtype", [], dict(shape=[9], dtype=d, **x, **rd), VV, rtol={"f64": 1e-12, "f32": 1e-5, "f16": 4e-3, "bf16": 3e-2}[d], atol={"f64": 1e-13, "f32": 1e-6, "f16": 1e-3, "bf16": 1e-2}[d])
    C("uniform_bounds", "uniform_bounds", [A(-1, 2, 5), A(1, 2.5, 9)], dict(shape=[3]), ALL, rtol=1e-6, atol=1e-6); C("truncated_normal_bounds", "truncated_normal_bounds", [A(-1, 1, -.5), A(1, 4, .5)], dict(shape=[4, 3]), ALL); C("truncated_normal_tail", "truncated_normal_bounds", [np.float32(2), np.float32(3)], dict(shape=[5]), ALL, rtol=3e-4)
    X("bernoulli_p", "bernoulli_p", [A(0, 1, .5, .01, .99)], dict(shape=[8, 5])); X("rademacher_i32", "rademacher", [], dict(shape=[9], dtype="i32")); X("rademacher_f32", "rademacher", [], dict(shape=[9], dtype="f32"))
    X("permutation_rows", "permutation_axis", [np.arange(12, dtype=np.int32).reshape(6, 2)], dict(axis=0, independent=False)); X("permutation_columns", "permutation_axis", [np.arange(10, dtype=np.int32).reshape(2, 5)], dict(axis=1, independent=False)); X("permutation_independent", "permutation_axis", [np.arange(12, dtype=np.int32).reshape(3, 4)], dict(axis=1, independent=True)); C("permutation_grad", "permutation_axis", [arr(r, (5, 2))], dict(axis=0, independent=False), ALL)
    pop = arr(r, (7,)); P = np.array([.1, .05, .2, .05, .3, .2, .1], np.float32)
    for rep in (True, False): X(f"choice_{int(rep)}", "choice", [pop], dict(shape=[5], replace=rep)); X(f"choice_p_{int(rep)}", "choice_p", [pop, P], dict(shape=[2, 3], replace=rep)); X(f"choice_of_n_{int(rep)}", "choice_of_n", [], dict(n=9, shape=[4], replace=rep))
    X("choice_axis", "choice", [arr(r, (3, 6))], dict(shape=[2], replace=False, axis=1)); X("choice_scalar", "choice", [pop], dict(shape=[], replace=True))
    lg = arr(r, (4, 5)); X("categorical_axis0", "categorical_of", [lg], dict(axis=0)); X("categorical_shape", "categorical_of", [lg], dict(axis=-1, shape=[3, 4])); X("categorical_no_replacement", "categorical_of", [lg], dict(axis=-1, shape=[3, 4], replace=False)); X("categorical_minus_inf", "categorical_of", [np.where(np.arange(5) % 2, -np.inf, lg).astype(np.float32)], dict(axis=-1))
    for m in ("low", "high"): C("gumbel_" + m, "gumbel_of", [], dict(shape=[9], mode=m), VV)
    for f in ("laplace", "cauchy", "logistic_sample", "exponential", "maxwell"): C(f, f, [], dict(shape=[9]), VV, rtol=3e-4 if f == "cauchy" else 1e-4)
    C("rayleigh", "rayleigh", [A(1, 3)], dict(shape=[4, 2]), ALL); C("weibull_min", "weibull_min", [A(1, 3), A(2, .7)], dict(shape=[4, 2]), ALL, rtol=3e-4); C("lognormal", "lognormal", [np.float32(.7)], dict(shape=[6]), ALL); C("double_sided_maxwell", "double_sided_maxwell", [np.float32(.5), np.float32(2)], dict(shape=[6])); C("generalized_normal", "generalized_normal", [], dict(p=1.5, shape=[5])); C("pareto", "pareto", [A(2, 3)], dict(shape=[4, 2]), ALL); C("triangular", "triangular", [np.float32(-1), np.float32(.5), np.float32(2)], dict(shape=[6])); C("wald", "wald", [np.float32(1.5)], dict(shape=[6]), rtol=1e-3)
    t = dict(rtol=1e-3, atol=1e-4); C("gamma", "gamma", [A(.3, 1, 2.5, 9)], dict(shape=[5, 4]), ALL, **t); C("loggamma_small", "loggamma", [A(1e-3, .02, .5)], dict(shape=[4, 3]), V, rtol=1e-3, atol=1e-3); C("beta", "beta", [A(.5, 2, 5), A(1, .7, 3)], dict(shape=[3, 3]), ("value", "jvp", "vjp"), **t); C("dirichlet", "dirichlet", [A(.3, 1, 4)], dict(shape=[3]), ALL, **t); C("student_t", "student_t", [np.float32(3.5)], dict(shape=[6]), REV, **t); C("chisquare", "chisquare", [A(1, 4)], dict(shape=[3, 2]), **t); C("f_distribution", "f_distribution", [np.float32(3), np.float32(7)], dict(shape=[5]), **t)
    X("poisson_small", "poisson", [A(0, .3, 2, 9)], dict(shape=[6, 4]), V); X("poisson_large", "poisson", [A(11, 50, 900)], dict(shape=[5, 3]), V); X("geometric", "geometric", [A(.2, .9, .5)], dict(shape=[5, 3]), V); X("binomial_small", "binomial", [A(5, 9, 1), A(.2, .5, .9)], dict(shape=[4, 3]), V); X("binomial_large", "binomial", [A(100, 60), A(.4, .7)], dict(shape=[4, 2]), V); X("multinomial", "multinomial", [np.float32(20), A(.2, .5, .3)], dict(shape=[3]), V)
    C("orthogonal", "orthogonal", [], dict(n=4, shape=[2]), VV, **t); C("orthogonal_tall", "orthogonal", [], dict(n=4, m=2, shape=[]), V, **t); L = np.array([[2, .5, 0], [.5, 1, .3], [0, .3, 1.5]], np.float32); C("multivariate_normal", "multivariate_normal", [A(1, -1, 0), L], dict(shape=[4]), ALL, rtol=3e-4, atol=3e-5)
    for p in (1, 2, 3.5): C(f"ball_{p}", "ball", [], dict(d=3, p=p, shape=[4]), VV, **t)
    C("normal_per_key", "normal_per_key", [np.asarray(jr.split(jr.PRNGKey(args.seed), 4))], dict(shape=[3]), VV, rtol=1e-5, key=False, vmap_axes=[1]); C("scan_splits_keys", "scan_splits_keys", [], dict(steps=4), VV, rtol=1e-5); C("dropout_grad", "dropout_grad", [arr(r, (4, 5))], dict(rate=.4), VV, vmap_axes=[0, None])


# ------------------------------------------------------------------ jax.nn, optax's losses and schedules, initialisers, attention, resizing, FFT, densities
N = jax.nn

@op
def activation(x, *, fn, **kw): return getattr(N, fn)(x, **kw)

@op
def activation_derivatives(x, *, fns):  # at kinks and extremes: one row per function
    return jnp.stack([jax.vmap(jax.grad(getattr(N, f)))(x) for f in fns])

@op
def loss(*xs, fn, **kw):
    import optax
    return getattr(optax.losses, fn)(*xs, **kw)

@op
def schedule_of(i, *, fn, **kw):
    import optax
    if fn == "join_schedules": s = optax.join_schedules([optax.linear_schedule(0., 1., 4), optax.exponential_decay(1., 2, .5), optax.constant_schedule(.25)], kw["boundaries"])
    else: s = getattr(optax, fn)(**{k: {int(a): b for a, b in v.items()} if isinstance(v, dict) else v for k, v in kw.items()})
    return jax.vmap(s)(i)

@op
def initializer(key, *, fn, shape, **kw):  # kw: the initialiser's own arguments
    kw = {k: T(v) for k, v in kw.items()}
    return (getattr(N.initializers, fn) if fn in ("zeros", "ones") else getattr(N.initializers, fn)(**kw))(key, T(shape), jnp.float32)

@op
def attention(q, k, v, bias=None, mask=None, **kw):  # (batch, time, heads, head size); fewer key heads than query heads: grouped
    return N.dot_product_attention(q, k, v, bias, mask, **{a: T(b) for a, b in kw.items()})

@op
def attention_masked(q, k, v, mask): return N.dot_product_attention(q, k, v, mask=mask)

@op
def attention_lengths(q, k, v, lq, lk): return N.dot_product_attention(q, k, v, query_seq_lengths=lq, key_value_seq_lengths=lk)

@op
def rotary_embedding(x, pos, *, theta):  # pairs are (i, i + half)
    half = x.shape[-1] // 2; a = pos[:, None] * theta ** (-jnp.arange(half, dtype=x.dtype) / half)
    c, s = jnp.cos(a), jnp.sin(a); x1, x2 = x[..., :half], x[..., half:]
    return jnp.concatenate([x1 * c - x2 * s, x2 * c + x1 * s], -1)

@op
def fft(re, im, *, kind, axes=(-1,), n=None, norm=None):  # complex numbers as a pair of real arrays
    x = re + 1j * im
    y = {"fft": lambda: jnp.fft.fft(x, n, axes[0], norm), "ifft": lambda: jnp.fft.ifft(x, n, axes[0], norm), "fftn": lambda: jnp.fft.fftn(x, n, T(axes), norm), "irfft": lambda: jnp.fft.irfft(x, n, axes[0], norm)}[kind]()
    return (y.real, y.imag) if jnp.iscomplexobj(y) else y

@op
def log_prob(x, *p, dist, fn="logpdf"): return getattr(getattr(jax.scipy.stats, dist), fn)(x, *p)

@op
def numpyro_log_prob(x, *p, dist, names, **kw):
    import numpyro.distributions as D
    return getattr(D, dist)(**dict(zip(names, p)), **kw).log_prob(x)

ops({
    "rfft": lambda x, *, n=None, axis=-1: (lambda y: (y.real, y.imag))(jnp.fft.rfft(x, n, axis)), "fftshift": lambda x, *, axes: jnp.fft.fftshift(x, T(axes)),
    "softmax_axes": lambda x, *, axis: N.softmax(x, T(axis)), "softmax_where": lambda x, m, *, axis: N.softmax(x, axis, where=m), "log_softmax_where": lambda x, m, *, axis: N.log_softmax(x, axis, where=m), "standardize": lambda x, *, axis, epsilon: N.standardize(x, T(axis), epsilon=epsilon), "glu": lambda x, *, axis: N.glu(x, axis), "logmeanexp": lambda x, *, axis: N.logmeanexp(x, axis),
    "ctc_loss": lambda l, lp, y, yp: __import__("optax").ctc_loss(l, lp, y, yp), "ctc_loss_grad": lambda l, lp, y, yp: jax.grad(lambda l: __import__("optax").ctc_loss(l, lp, y, yp).sum())(l),
    "image_resize": lambda x, *, shape, method, antialias=True: jax.image.resize(x, T(shape), method, antialias), "scale_and_translate": lambda x, s, t, *, shape, dims, method: jax.image.scale_and_translate(x, T(shape), T(dims), s, t, method), "map_coordinates": lambda x, a, b, *, order, mode: jax.scipy.ndimage.map_coordinates(x, [a, b], order, mode),
    "interp": lambda x, xp, fp, *, left=None, right=None, period=None: jnp.interp(x, xp, fp, left=left, right=right, period=period), "polyval": lambda p, x: jnp.polyval(p, x), "normal_kl": lambda m, s, m2, s2: (lambda D: D.kl_divergence(D.Normal(m, s), D.Normal(m2, s2)))(__import__("numpyro.distributions", fromlist=["x"])),
    "gumbel_softmax": lambda k, l, *, tau, hard: (lambda y: lax.stop_gradient(N.one_hot(jnp.argmax(y, -1), y.shape[-1]) - y) + y if hard else y)(N.softmax((l + jr.gumbel(k, l.shape, l.dtype)) / tau)),
})


def nn():
    g = "edge_nn"; r = rng_for(g); C = functools.partial(case, g); nan, inf = np.nan, np.inf; A = lambda *v: np.array(v, np.float32); U = lambda *s, lo=-2, hi=2: arr(r, s, "f32", lo, hi)
    t = dict(rtol=1e-4, atol=1e-5); fns = ["relu", "relu6", "hard_tanh", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "softplus", "log_sigmoid", "sigmoid", "mish", "hard_sigmoid", "hard_silu", "soft_sign", "squareplus", "sparse_plus", "sparse_sigmoid"]
    for f, kw in dict(celu=dict(alpha=.7), selu={}, elu=dict(alpha=1.7), hard_sigmoid={}, hard_silu={}, squareplus=dict(b=3.), sparse_plus={}, sparse_sigmoid={}, leaky_relu=dict(negative_slope=.2)).items(): C(f, "activation", [apart(r, (5, 6), .25) + .06], dict(fn=f, **kw), **t)
    kinks = A(-3, -1, 0, -0., 1, 3, 6, .5); C("derivatives_at_kinks", "activation_derivatives", [kinks], dict(fns=fns), V, **t); C("derivatives_at_extremes", "activation_derivatives", [A(-1e4, -90, 90, 1e4)], dict(fns=fns), V, rtol=1e-4, atol=1e-6)
    for f in ("silu", "softplus", "mish", "selu"): C(f + "_edge", "activation", [A(-inf, inf, nan, 0, -0., -1e4, 1e4)], dict(fn=f), V, **t)
    C("softmax_axes", "softmax_axes", [U(2, 3, 4)], dict(axis=[0, 2])); C("softmax_infinite", "softmax_axes", [np.array([[-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [1e30, 1e30, -1e30]], np.float32)], dict(axis=1), V)
    m = np.array([[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]], bool); C("softmax_where", "softmax_where", [U(3, 4), m], dict(axis=1), vmap_axes=[0, None]); C("log_softmax_where", "log_softmax_where", [U(3, 4), m], dict(axis=1), V); C("softmax_where_none", "softmax_where", [U(2, 3), np.zeros((2, 3), bool)], dict(axis=1), V)
    C("standardize", "standardize", [U(3, 4, 2)], dict(axis=[0, 2], epsilon=1e-5), rtol=3e-4, atol=3e-5); C("standardize_constant", "standardize", [np.full((2, 4), 3, np.float32)], dict(axis=[1], epsilon=1e-5), V); C("glu_axis0", "glu", [U(6, 3)], dict(axis=0)); C("logmeanexp", "logmeanexp", [U(3, 5, lo=-40, hi=40)], dict(axis=1))
    L = lambda n, fn, xs, check=ALL, tol=t, **kw: C("loss_" + n, "loss", xs, dict(fn=fn, **kw), check, **tol)
    y, p, q = U(4, 5), np.asarray(jax.nn.softmax(U(4, 5))), np.asarray(jax.nn.softmax(U(4, 5))); lab = r.integers(0, 5, 4).astype(np.int32); pm = np.where(r.integers(0, 2, (4, 5)), 1, -1).astype(np.float32)
    L("log_cosh", "log_cosh", [A(-90, -1, 0, .5, 90), A(1, 1, 0, 0, -90)]); L("huber_at_delta", "huber_loss", [A(0, 1, 1.5, -1, -3), A(0, 0, 0, 0, 0)], delta=1.); L("hinge", "hinge_loss", [y, pm]); L("kl", "kl_divergence", [np.log(p), q]); L("kl_zero_target", "kl_divergence", [np.log(p), np.where(np.arange(5) == 2, 0, q).astype(np.float32)], check=V); L("kl_log_targets", "kl_divergence_with_log_targets", [np.log(p), np.log(q)]); L("convex_kl", "convex_kl_divergence", [np.log(p), q])
    L("cosine_similarity_zero", "cosine_similarity", [np.array([[0, 0], [3, 4]], np.float32), np.array([[1, 2], [1, 0]], np.float32)], epsilon=1e-6, check=REV); L("cosine_distance", "cosine_distance", [y, U(4, 5)]); L("focal", "sigmoid_focal_loss", [U(4, 5, lo=-9, hi=9), r.integers(0, 2, (4, 5)).astype(np.float32)], alpha=.25, gamma=2.); L("poly_cross_entropy", "poly_loss_cross_entropy", [y, p], epsilon=2.); L("safe_cross_entropy_zero", "safe_softmax_cross_entropy", [np.array([[-inf, 0, 1]], np.float32), np.array([[0, .5, .5]], np.float32)], check=V)
    L("cross_entropy_labels_axis", "softmax_cross_entropy_with_integer_labels", [U(4, 5, lo=-90, hi=90), lab]); L("binary_extremes", "sigmoid_binary_cross_entropy", [A(-200, -30, 0, 30, 200), A(0, 1, .5, 0, 1)]); L("multiclass_hinge", "multiclass_hinge_loss", [apart(r, (4, 5)), lab]); L("perceptron", "multiclass_perceptron_loss", [apart(r, (4, 5)), lab]); L("sparsemax", "multiclass_sparsemax_loss", [U(4, 5), lab]); L("binary_sparsemax", "sparsemax_loss", [A(-3, -.5, .5, 2), np.array([0, 1, 1, 0], np.int32)]); L("smooth_labels", "smooth_labels", [p], alpha=.1); L("triplet", "triplet_margin_loss", [y, U(4, 5), U(4, 5)], margin=1.); L("ranking_softmax", "ranking_softmax_loss", [y, p]); L("ntxent", "ntxent", [U(4, 3), np.array([0, 1, 0, 1], np.int32)], temperature=.5, check=REV, tol=dict(rtol=3e-4, atol=3e-5)); L("l2", "l2_loss", [y])
    lp = np.zeros((2, 6), np.float32); lp[1, 4:] = 1; yl = np.array([[1, 1, 2], [3, 2, 0]], np.int32); yp = np.zeros((2, 3), np.float32); yp[1, 2] = 1
    C("ctc_repeats_and_padding", "ctc_loss", [U(2, 6, 4), lp, yl, yp], {}, V, **t); C("ctc_grad", "ctc_loss_grad", [U(2, 6, 4), lp, yl, yp], {}, V, rtol=3e-4, atol=3e-5)
    st = np.array([0, 1, 3, 4, 5, 8, 9, 10, 11, 25, 1000], np.int32); Sc = lambda n, fn, **kw: C("schedule_" + n, "schedule_of", [st], dict(fn=fn, **kw), V, rtol=1e-5, atol=1e-7)
    Sc("cosine_exponent", "cosine_decay_schedule", init_value=.3, decay_steps=10, alpha=.1, exponent=1.5); Sc("exponential_staircase", "exponential_decay", init_value=.3, transition_steps=4, decay_rate=.5, transition_begin=3, staircase=True, end_value=.05); Sc("polynomial_begin", "polynomial_schedule", init_value=.1, end_value=.01, power=3, transition_steps=6, transition_begin=4); Sc("linear_onecycle", "linear_onecycle_schedule", transition_steps=12, peak_value=.3, pct_start=.3, pct_final=.8); Sc("warmup_constant", "warmup_constant_schedule", init_value=0., peak_value=.2, warmup_steps=4); Sc("warmup_exponential", "warmup_exponential_decay_schedule", init_value=0., peak_value=.2, warmup_steps=4, transition_steps=3, decay_rate=.7, end_value=.01); Sc("warmup_cosine_exponent", "warmup_cosine_decay_schedule", init_value=.01, peak_value=.2, warmup_steps=4, decay_steps=11, end_value=.02, exponent=2.); Sc("piecewise_interpolate", "piecewise_interpolate_schedule", interpolate_type="cosine", init_value=.2, boundaries_and_scales={"3": .5, "9": .1}); Sc("piecewise_constant", "piecewise_constant_schedule", init_value=.2, boundaries_and_scales={"3": .5, "9": .1}); Sc("join", "join_schedules", boundaries=[4, 9])
    kx = np.asarray(jr.PRNGKey(args.seed + 11)); I = lambda n, fn, shape, tol=t, **kw: C("init_" + n, "initializer", [kx], dict(fn=fn, shape=shape, **kw), V, **tol)
    I("glorot_uniform", "glorot_uniform", [4, 3]); I("glorot_normal", "glorot_normal", [4, 3]); I("he_normal_conv_OIHW", "he_normal", [4, 2, 3, 3], in_axis=1, out_axis=0); I("he_uniform_HWIO", "he_uniform", [3, 3, 2, 4]); I("lecun_normal", "lecun_normal", [5, 4]); I("lecun_uniform", "lecun_uniform", [5, 4]); I("variance_scaling_batch", "variance_scaling", [2, 5, 3], scale=2., mode="fan_avg", distribution="truncated_normal", in_axis=-2, out_axis=-1, batch_axis=[0]); I("orthogonal_wide", "orthogonal", [3, 5], tol=dict(rtol=1e-3, atol=1e-4), scale=1.5); I("orthogonal_3d", "orthogonal", [2, 2, 3], tol=dict(rtol=1e-3, atol=1e-4), column_axis=-1); I("delta_orthogonal", "delta_orthogonal", [3, 3, 2, 4], tol=dict(rtol=1e-3, atol=1e-4)); I("truncated_normal", "truncated_normal", [6], stddev=.5, lower=-1., upper=2.); I("uniform", "uniform", [6], scale=.2)
    qkv = lambda T_=5, S_=6, h=4, kh=4: [U(2, T_, h, 3), U(2, S_, kh, 3), U(2, S_, kh, 3)]
    C("attention_causal_unequal", "attention", qkv(), dict(is_causal=True), **t); C("attention_grouped_scale", "attention", qkv(kh=2), dict(scale=.3), vmap_axes=[0, None, None], **t); C("attention_bias", "attention", qkv() + [U(2, 1, 5, 6)], {}, REV, **t); C("attention_window", "attention", qkv(6, 6), dict(local_window_size=[1, 2]), REV, **t)
    mk = r.integers(0, 2, (2, 1, 5, 6)).astype(bool); mk[..., 0] = True; C("attention_mask", "attention_masked", qkv() + [mk], {}, REV, **t); mk2 = mk.copy(); mk2[0, 0, 2] = False; C("attention_row_fully_masked", "attention_masked", qkv() + [mk2], {}, V, **t); C("attention_lengths", "attention_lengths", qkv() + [np.array([5, 3], np.int32), np.array([2, 6], np.int32)], {}, REV, **t); C("rotary_embedding", "rotary_embedding", [U(2, 5, 6), np.arange(5, dtype=np.float32)], dict(theta=100.), ("value", "jvp", "vjp"), **t)
    for me in ("nearest", "linear", "cubic", "lanczos3"): C(f"resize_{me}_up_down", "image_resize", [U(5, 4, 2)], dict(shape=[3, 9, 2], method=me), ALL if me in ("linear", "cubic") else VV, **t)
    C("resize_linear_no_antialias", "image_resize", [U(7, 4)], dict(shape=[3, 6], method="linear", antialias=False), **t); C("scale_and_translate", "scale_and_translate", [U(5, 4), A(1.3, .8), A(.4, -.3)], dict(shape=[6, 5], dims=[0, 1], method="linear"), V, **t)
    for mo in ("constant", "wrap", "mirror"): C("map_coordinates_" + mo, "map_coordinates", [U(4, 5), A(-1.3, .4, 2.7, 3.6, 9.2), A(.2, 4.6, -2.3, 1.1, 3.3)], dict(order=1, mode=mo), ("value", "vjp"), **t)
    xp, fp = A(-1, 0, .5, 2), A(3, -1, 2, 2.5); C("interp", "interp", [A(-3, -1, -.4, .2, 1.1, 1.9, 7), xp, fp], {}, ("value", "jvp", "vjp"), **t); C("interp_left_right", "interp", [A(-3, 0, 7), xp, fp], dict(left=-9., right=9.), V); C("interp_period", "interp", [A(-3, .2, 3.4, 7), xp, fp], dict(period=3.5), V, **t); C("polyval", "polyval", [U(4), U(3)], {}, vmap_axes=[None, 0])
    F = dict(rtol=1e-4, atol=3e-5); C("fft_odd", "fft", [U(2, 7), U(2, 7)], dict(kind="fft"), **F); C("ifft_padded_axis0", "fft", [U(5, 2), U(5, 2)], dict(kind="ifft", n=8, axes=[0]), **F); C("fftn_ortho", "fft", [U(3, 4), U(3, 4)], dict(kind="fftn", axes=[0, 1], norm="ortho"), **F); C("rfft_cut", "rfft", [U(2, 9)], dict(n=6), **F); C("irfft_odd", "fft", [U(2, 4), U(2, 4)], dict(kind="irfft", n=7), **F); C("fftshift", "fftshift", [U(4, 5)], dict(axes=[0, 1]))
    D = lambda n, xs, check=ALL, tol=dict(rtol=3e-4, atol=3e-5), **kw: C("log_prob_" + n, "log_prob", xs, dict(dist=kw.pop("dist", n), **kw), check, **tol)
    pos = lambda *s: U(*s, lo=.3, hi=3); D("norm", [U(4), U(4), pos(4)]); D("norm_logcdf_tail", [A(-30, -5, 2)], dist="norm", fn="logcdf"); D("laplace", [U(4), U(4), pos(4)]); D("cauchy", [U(4), U(4), pos(4)]); D("t", [U(4), pos(4), U(4), pos(4)]); D("gamma", [pos(4), pos(4)]); D("gamma_support", [A(-1, 0, 2), A(2, 2, 2)], V, dist="gamma"); D("beta", [U(4, lo=.1, hi=.9), pos(4), pos(4)]); D("beta_support", [A(-.1, 0, 1, 1.1), A(2, 2, 1, 2), A(2, 2, 2, 2)], V, dist="beta"); D("dirichlet", [np.array([.2, .3, .5], np.float32), pos(3)], V); D("multivariate_normal", [U(2, 3), U(3), np.array([[2, .5, 0], [.5, 1, .3], [0, .3, 1.5]], np.float32)], REV); D("uniform_bounds", [A(-.1, 0, .5, 1, 1.1)], V, dist="uniform"); D("truncnorm", [A(-2, -.5, .4, 3), A(-1, -1, -1, -1), A(2, 2, 2, 2)], V); D("vonmises", [U(4), pos(4)])
    D("poisson", [np.array([0, 3, -1, 7], np.int32), pos(4)], REV, fn="logpmf"); D("binom", [np.array([0, 5, 6, 2], np.int32), np.full((4,), 5, np.int32), U(4, lo=.1, hi=.9)], V, fn="logpmf"); D("nbinom", [np.array([0, 3, 7], np.int32), pos(3), U(3, lo=.2, hi=.8)], V, fn="logpmf")
    P = lambda n, dist, names, xs, check=REV, **kw: C("numpyro_" + n, "numpyro_log_prob", xs, dict(dist=dist, names=names, **kw), check, rtol=3e-4, atol=3e-5)
    P("bernoulli_extremes", "BernoulliLogits", ["logits"], [np.array([0, 1, 0, 1, 1], np.int32), A(-90, 90, 90, -90, 0)]); P("categorical", "CategoricalLogits", ["logits"], [lab, U(4, 5)]); P("half_normal", "HalfNormal", ["scale"], [pos(4), pos(4)]); P("log_normal", "LogNormal", ["loc", "scale"], [pos(4), U(4), pos(4)]); P("inverse_gamma", "InverseGamma", ["concentration", "rate"], [pos(4), pos(4), pos(4)]); P("lkj_cholesky", "LKJCholesky", ["concentration"], [np.array([[1, 0, 0], [.3, np.sqrt(.91), 0], [-.2, .4, np.sqrt(.8)]], np.float32), np.float32(1.7)], dimension=3, check=V); P("mvn_tril", "MultivariateNormal", ["loc", "scale_tril"], [U(2, 3), U(3), (np.tril(U(3, 3), -1) + np.diag(pos(3))).astype(np.float32)]); P("multinomial", "MultinomialLogits", ["logits"], [np.array([2, 0, 3], np.int32), U(3)], total_count=5)
    C("normal_kl", "normal_kl", [U(4), pos(4), U(4), pos(4)], {}, REV, **t); C("gumbel_softmax_hard", "gumbel_softmax", [kx, U(3, 4)], dict(tau=.5, hard=True), REV, **t)


# ------------------------------------------------------------------ transformations
@jax.custom_jvp
def _cj(x, y): return jnp.sin(x) * y
_cj.defjvp(lambda p, t: (_cj(*p), 3. * t[0] + p[0] * t[1]))  # a rule that is not the derivative, so that use of the rule shows

@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _cj_nondiff(n, x): return x ** n
_cj_nondiff.defjvp(lambda n, p, t: (_cj_nondiff(n, *p), 10. * n * t[0]))

@jax.custom_vjp
def _cv(x, y): return x * y
_cv.defvjp(lambda x, y: (x * y, (x, y)), lambda res, ct: (5. * ct, ct * res[0] ** 2))

@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _clip_grad(x, c): return x
_clip_grad.defvjp(lambda x, c: (x, None), lambda c, _, ct: (jnp.clip(ct, -c, c),))

@jax.custom_vjp
def _cv_tree(t): return {"s": t["a"] + t["b"], "p": t["a"] * t["b"]}
_cv_tree.defvjp(lambda t: (_cv_tree(t), t), lambda t, ct: ({"a": ct["s"] * 2, "b": ct["p"] * t["a"]},))

@jax.custom_jvp
def _log1pexp(x): return jnp.log(1. + jnp.exp(x))
_log1pexp.defjvp(lambda p, t: (_log1pexp(*p), (1 - 1 / (1 + jnp.exp(p[0]))) * t[0]))

mlp2 = lambda x, a, b: jnp.sum(jnp.tanh(jnp.sin(x @ a) @ b) ** 2)
POLICIES = jax.checkpoint_policies

@op
def checkpoint_policy_grad(x, a, b, *, policy):  # the same numbers under every policy
    from jax.ad_checkpoint import checkpoint_name
    f = lambda x, a, b: jnp.sum(jnp.tanh(checkpoint_name(jnp.sin(x @ a), "hidden") @ b) ** 2)
    p = POLICIES.save_only_these_names("hidden") if policy == "names" else getattr(POLICIES, policy)
    return jax.grad(jax.checkpoint(f, policy=p), (0, 1, 2))(x, a, b)

@op
def collectives_in_vmap(x):  # rows are the members of axis "i"
    def f(r): i = lax.axis_index("i"); return lax.psum(r, "i"), lax.pmean(r, "i"), lax.pmax(r, "i"), lax.ppermute(r, "i", [(k, (k + 1) % x.shape[0]) for k in range(x.shape[0])]), lax.all_gather(r, "i")[0] * i, r - lax.psum(r * r, "i")
    return jax.vmap(f, axis_name="i")(x)

@op
def grad_through_psum(x): return jax.grad(lambda x: jnp.sum(jax.vmap(lambda r: jnp.sin(r) * lax.psum(r * r, "i"), axis_name="i")(x)))(x)

@op
def custom_rule_in_scan(x): return jax.grad(lambda x: lax.scan(lambda c, v: (_cv(c, v), None), jnp.ones_like(x[0]), x)[0])(x)

def nth(f, n): return f if n == 0 else jax.grad(nth(f, n - 1))
DEEP = dict(tanh=jnp.tanh, sigmoid=N.sigmoid, exp_sin=lambda x: jnp.exp(jnp.sin(x)), rational=lambda x: 1 / (1 + x * x), power=lambda x: x ** 2.5, integer_power=lambda x: x ** 5, softplus=N.softplus, gelu=N.gelu, sqrt=lambda x: jnp.sqrt(1 + x * x))
TIES = dict(maximum=jnp.maximum, minimum=jnp.minimum, lax_max=lax.max, lax_min=lax.min, where_gt=lambda x, y: jnp.where(x > y, x, y), hypot=jnp.hypot, arctan2=jnp.arctan2, logaddexp=jnp.logaddexp, power=jnp.power)
KINK = dict(abs=jnp.abs, sign=jnp.sign, relu=N.relu, clip=lambda x: jnp.clip(x, -1, 1), clamp=lambda x: lax.clamp(jnp.asarray(-1, x.dtype), x, jnp.asarray(1, x.dtype)), square_root_of_square=lambda x: jnp.sqrt(x * x), floor=jnp.floor, round=jnp.round, norm=lambda x: jnp.linalg.norm(jnp.stack([x, x])), mod=lambda x: x % 1., cbrt=jnp.cbrt, max_self=lambda x: jnp.maximum(x, x), x_to_x=lambda x: jnp.where(x > 0, x, 1.) ** x)
ops({
    "custom_jvp_grad": lambda x, y: jax.grad(lambda x, y: jnp.sum(_cj(x, y) ** 2), (0, 1))(x, y), "custom_jvp_value": lambda x, y: _cj(x, y), "custom_jvp_second": lambda x: jax.vmap(jax.grad(jax.grad(lambda x: _cj(x, 2.) * x)))(x), "custom_jvp_nondiff": lambda x, *, n: _cj_nondiff(n, x), "custom_jvp_stable": lambda x: jax.vmap(jax.value_and_grad(_log1pexp))(x),
    "custom_vjp_grad": lambda x, y: jax.grad(lambda x, y: jnp.sum(_cv(jnp.sin(x), y)), (0, 1))(x, y), "custom_vjp_clip": lambda x, *, c: jax.grad(lambda x: jnp.sum(_clip_grad(x, c) ** 3))(x), "custom_vjp_tree": lambda a, b: jax.grad(lambda a, b: jnp.sum(_cv_tree({"a": a, "b": b})["s"]) + jnp.sum(jnp.cos(_cv_tree({"a": b, "b": a})["p"])), (0, 1))(a, b), "custom_vjp_vmap_grad": lambda x, y: jax.vmap(jax.grad(_cv, (0, 1)), in_axes=(0, None))(x, y), "custom_vjp_second": lambda x: jax.vmap(jax.grad(jax.grad(lambda x: _cv(x, jnp.sin(x)))))(x), "custom_vjp_unused_output": lambda x, y: jax.grad(lambda x: jnp.sum(x) + 0. * jnp.sum(lax.stop_gradient(_cv(x, y))))(x),
    "derivative_of_order": lambda x, *, fn, n: jax.vmap(nth(DEEP[fn], n))(x), "tie_gradients": lambda x, y, *, fns: [jnp.stack(jax.vmap(jax.grad(TIES[f], (0, 1)))(x, y)) for f in fns], "kink_derivatives": lambda x, *, fns: jnp.stack([jax.vmap(jax.grad(KINK[f]))(x) for f in fns]),
    "jacobian_of_sort_and_gather": lambda x, i: (jax.jacfwd(jnp.sort)(x), jax.jacrev(lambda x: x[i] * x[0])(x)), "hessian_of_logsumexp": lambda x: jax.hessian(N.logsumexp)(x), "hessian_of_softmax_entry": lambda x: jax.hessian(lambda x: N.softmax(x)[1])(x), "hessian_forward_over_reverse_tree": lambda a, b: jax.tree.leaves(jax.jacfwd(jax.grad(lambda p: jnp.sum(jnp.sin(p["a"] * p["b"][0]) + p["b"].sum() ** 2), ))({"a": a, "b": b})),
    "jvp_of_vjp": lambda x, v, a, b: jax.jvp(lambda x: jax.vjp(lambda x: mlp2(x, a, b), x)[1](jnp.ones((), x.dtype))[0], (x,), (v,)), "grad_of_jvp": lambda x, v, a, b: jax.grad(lambda x: jax.jvp(lambda x: mlp2(x, a, b), (x,), (v,))[1])(x), "linearize_twice": lambda x, v, w: (lambda y, f: (y, f(v), f(w)))(*jax.linearize(lambda x: jnp.sin(x) * jnp.cumsum(x), x)), "linear_transpose": lambda x, ct: jax.linear_transpose(lambda x: jnp.cumsum(x[::-1])[:3] * 2, x)(ct), "value_and_grad_aux": lambda x: jax.value_and_grad(lambda x: (jnp.sum(x ** 3), {"n": x * 2}), has_aux=True)(x), "grad_argnums_negative": lambda x, y: jax.grad(lambda x, y: jnp.sum(x * y ** 2), -1)(x, y), "vjp_of_integer_input": lambda x, i: jax.vjp(lambda x: x[i] * 2, x)[1](jnp.ones_like(x[i]))[0],
    "vmap_out_axes": lambda x, y: jax.vmap(lambda a, b: (a + b, jnp.sin(a), b.sum()), in_axes=(-1, None), out_axes=(1, -1, 0))(x, y), "vmap_nested_axes": lambda x, y: jax.vmap(jax.vmap(lambda a, b: a @ b, (None, 1)), (0, None))(x, y), "vmap_of_constant": lambda x: jax.vmap(lambda r: (jnp.float32(2), r), out_axes=(0, 1))(x), "vmap_tree_axes": lambda x, y: jax.vmap(lambda t: t["a"] * t["b"].sum(), in_axes=({"a": 1, "b": None},))({"a": x, "b": y}), "vmap_matmul_both": lambda x, y: jax.vmap(jnp.matmul, (2, 0), 1)(x, y), "vmap_random": lambda k: jax.vmap(lambda k: jr.normal(k, (2,), jnp.float32))(jr.split(k, 3)),
    "stop_gradient_straight_through": lambda x: jax.grad(lambda x: jnp.sum((x + lax.stop_gradient(jnp.round(x) - x)) ** 2))(x), "grad_stops_at_integers": lambda x: jax.grad(lambda x: jnp.sum(x * jnp.argmax(x)))(x), "unused_input_grad": lambda x, y: jax.grad(lambda x, y: jnp.sum(x), (0, 1))(x, y), "same_input_twice": lambda x: jax.grad(lambda x: jnp.sum((lambda a, b: a * a * b)(x, x)))(x), "grad_of_inner_minimum": lambda x: jax.grad(lambda x: jnp.sum(lax.fori_loop(0, 8, lambda i, y: y - .2 * jax.grad(lambda y: jnp.sum((y - x) ** 2 + .1 * y ** 4))(y), jnp.zeros_like(x)) ** 2))(x), "maml_grad": lambda w, x, y: jax.grad(lambda w: (lambda l: l(w - .1 * jax.grad(l)(w)))(lambda w: jnp.mean((jnp.tanh(x @ w) - y) ** 2)))(w), "grad_of_while_forward": lambda x: jax.jvp(lambda x: lax.while_loop(lambda s: jnp.sum(s) < 9, lambda s: s * s + .5, x), (x,), (jnp.ones_like(x),)),
})


def transforms():
    g = "edge_transform"; r = rng_for(g); C = functools.partial(case, g); A = lambda *v: np.array(v, np.float32); U = lambda *s, lo=-1, hi=1: arr(r, s, "f32", lo, hi); t = dict(rtol=1e-4, atol=1e-5); W = [U(4, 5), U(5, 3)]
    C("custom_jvp", "custom_jvp_value", [U(4), U(4)], {}, ALL, vmap_axes=[0, None], **t); C("custom_jvp_grad", "custom_jvp_grad", [U(4), U(4)], {}, REV, **t); C("custom_jvp_second", "custom_jvp_second", [U(4)], {}, V, **t); C("custom_jvp_nondiff", "custom_jvp_nondiff", [U(4, lo=.5, hi=2)], dict(n=3), **t); C("custom_jvp_stable", "custom_jvp_stable", [A(-90, 0, 3, 60)], {}, V, **t)
    C("custom_vjp_grad", "custom_vjp_grad", [U(4), U(4)], {}, V, **t); C("custom_vjp_clip", "custom_vjp_clip", [A(-2, -.1, .2, 5)], dict(c=.5), VV, **t); C("custom_vjp_tree", "custom_vjp_tree", [U(3), U(3)], {}, V, **t); C("custom_vjp_vmap_grad", "custom_vjp_vmap_grad", [U(4), U(1)[0]], {}, V, **t); C("custom_vjp_second", "custom_vjp_second", [U(4)], {}, V, **t); C("custom_vjp_unused_output", "custom_vjp_unused_output", [U(3), U(3)], {}, V, **t); C("custom_vjp_in_scan", "custom_rule_in_scan", [U(4)], {}, V, **t)
    for p in ("nothing_saveable", "everything_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable", "names"): C("checkpoint_" + p, "checkpoint_policy_grad", [U(2, 4)] + W, dict(policy=p), V if p != "names" else REV, **t)
    C("collectives", "collectives_in_vmap", [U(4, 3)], {}, V, **t); C("grad_through_psum", "grad_through_psum", [U(3, 2)], {}, REV, **t)
    for f, n in (("tanh", 5), ("sigmoid", 4), ("exp_sin", 4), ("rational", 4), ("power", 3), ("integer_power", 5), ("softplus", 3), ("gelu", 3), ("sqrt", 3)): C(f"order_{n}_{f}", "derivative_of_order", [U(5, lo=.3, hi=1.2)], dict(fn=f, n=n), V, rtol=1e-3, atol=1e-3)
    C("tie_gradients", "tie_gradients", [A(1, 2, 0, -1, 0), A(1, 1, 0, 3, -0.)], dict(fns=["maximum", "minimum", "lax_max", "lax_min", "where_gt", "logaddexp"]), V, **t); C("kink_derivatives", "kink_derivatives", [A(-1, 0, 1, -2.5, .5)], dict(fns=["abs", "sign", "relu", "clip", "clamp", "floor", "round", "norm", "mod", "max_self"]), V, **t)
    C("jacobian_of_sort_and_gather", "jacobian_of_sort_and_gather", [apart(r, (5,)), np.array([3, 0, 3, -1], np.int32)], {}, V, **t); C("hessian_of_logsumexp", "hessian_of_logsumexp", [U(4)], {}, V, **t); C("hessian_of_softmax", "hessian_of_softmax_entry", [U(4)], {}, REV, **t); C("hessian_of_tree", "hessian_forward_over_reverse_tree", [U(3), U(2)], {}, V, **t)
    C("jvp_of_vjp", "jvp_of_vjp", [U(4), U(4)] + W, {}, V, **t); C("grad_of_jvp", "grad_of_jvp", [U(4), U(4)] + W, {}, V, **t); C("linearize_twice", "linearize_twice", [U(4), U(4), U(4)], {}, V, **t); C("linear_transpose", "linear_transpose", [U(5), U(3)], {}, V, **t); C("value_and_grad_aux", "value_and_grad_aux", [U(4)], {}, ALL, **t); C("grad_argnums_negative", "grad_argnums_negative", [U(3), U(3)], {}, V, **t); C("vjp_of_integer_input", "vjp_of_integer_input", [U(4), np.array([1, 1, -1], np.int32)], {}, V)
    C("vmap_out_axes", "vmap_out_axes", [U(2, 3, 4), U(2, 3)], {}, ALL, **t); C("vmap_nested_axes", "vmap_nested_axes", [U(3, 4), U(4, 5)], {}, ALL, **t); C("vmap_of_constant", "vmap_of_constant", [U(3, 2)], {}, VV); C("vmap_tree_axes", "vmap_tree_axes", [U(2, 3), U(4)], {}, ALL, **t); C("vmap_matmul_both", "vmap_matmul_both", [U(3, 4, 2), U(2, 4, 5)], {}, ALL, **t); C("vmap_random", "vmap_random", [np.asarray(jr.PRNGKey(args.seed + 3))], {}, VV, rtol=1e-5)
    C("straight_through", "stop_gradient_straight_through", [U(4, lo=-3, hi=3)], {}, V, **t); C("grad_stops_at_integers", "grad_stops_at_integers", [apart(r, (4,))], {}, V, **t); C("unused_input_grad", "unused_input_grad", [U(3), U(2)], {}, V); C("same_input_twice", "same_input_twice", [U(3)], {}, ALL, **t); C("grad_through_inner_minimum", "grad_of_inner_minimum", [U(3)], {}, V, **t); C("maml_grad", "maml_grad", [U(3), U(5, 3), U(5)], {}, REV, **t); C("while_forward", "grad_of_while_forward", [A(1.1, .9)], {}, V, **t)


# ------------------------------------------------------------------ writing and checking
def recompute(c, A, dtype=None):
    """The case's results from its file alone; with dtype, f32 inputs and directions are taken in that dtype."""
    x64 = bool(c["params"].get("x64")) or dtype is not None; name = c["name"]
    cast = lambda x: x.astype(dtype) if dtype is not None and x.dtype == np.float32 else x
    get = lambda kind, i: cast(A[f"{name}/{kind}{i}"])
    R = {}
    with jax.enable_x64(x64):
        flat = flat_of(c["op"], c["params"]); xs = [get("in", i) for i in range(c["inputs"])]
        R.update({f"out{i}": o for i, o in enumerate(jax.jit(flat)(*xs))})
        def sub(fl, fo, *fx):
            ys = list(xs)
            for i, v in zip(fl, fx): ys[i] = v
            o = flat(*ys); return [o[i] for i in fo]
        if "jvp" in c["check"]:
            fl, fo = c["jvp_inputs"], c["jvp_outputs"]
            t = jax.jit(lambda a, b: jax.jvp(functools.partial(sub, fl, fo), a, b)[1])(tuple(xs[i] for i in fl), tuple(get("tan", i) for i in fl))
            R.update({f"jvp{i}": o for i, o in zip(fo, t)})
        if "vjp" in c["check"]:
            fl, fo = c["vjp_inputs"], c["vjp_outputs"]
            g = jax.jit(lambda a, ct: jax.vjp(functools.partial(sub, fl, fo), *a)[1](ct))(tuple(xs[i] for i in fl), [get("ct", i) for i in fo])
            R.update({f"vjp{i}": o for i, o in zip(fl, g)})
        if "vmap" in c["check"]:
            o = jax.jit(jax.vmap(flat, in_axes=tuple(c["vmap_axes"])))(*[get("vin", i) for i in range(c["inputs"])])
            R.update({f"vout{i}": x for i, x in enumerate(o)})
        return {k: np.asarray(v) for k, v in R.items()}


def distance(want, got, rtol, atol):
    """Error as a share of the tolerance: up to 1 passes; shape or NaN in different places: inf."""
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape: return np.inf
    if want.dtype.kind not in "f": return 0. if np.array_equal(want, got) else np.inf
    w, g = want.astype(np.float64), got.astype(np.float64)
    same = (w == g) | (np.isnan(w) & np.isnan(g))
    with np.errstate(all="ignore"): d = np.where(same, 0., np.abs(w - g) / np.maximum(atol + rtol * np.abs(w), 1e-300))
    return float(np.max(np.nan_to_num(d, nan=np.inf), initial=0.))


F32_ONLY = ("nan_to_num", "nextafter", "pinv", "gumbel_softmax")  # ops whose answer depends on the type (largest float, cut-off, draws)


def check(folder, only):
    """Every case again from its file alone, by JAX in f32 (must agree) and in f64 (how much of the tolerance f32 needs)."""
    bad = 0
    for path in sorted(glob.glob(f"{folder}/edge_*.json")):
        group = os.path.basename(path)[:-5]
        if only and group not in only: continue
        cases, A = json.load(open(path)), np.load(path[:-5] + ".npz")
        A = {k: A[k] for k in A.files}; worst = 0.; near = []; skipped = 0
        assert len({c["name"] for c in cases}) == len(cases), group + ": names repeat"
        for c in cases:
            keep = lambda R: {k: A[f"{c['name']}/{k}"] for k in R}
            R = recompute(c, A); W = keep(R)
            for k in R:
                if W[k].dtype != R[k].dtype or distance(W[k], R[k], c["rtol"], c["atol"]) > (1 if c["rtol"] or c["atol"] else 0): bad += 1; print("DIFFERS", group, c["name"], k)
            if c["params"].get("x64") or "dtype" in c["params"] or c["op"] in F32_ONLY or group == "edge_random" or not any(v.dtype == np.float32 for v in W.values()): continue
            try: R = recompute(c, A, np.float64)
            except Exception as e: skipped += 1; print("  no f64 run:", c["name"], str(e).split("\n")[0][:120]); continue
            for k in R:
                d = distance(R[k], W[k], c["rtol"], c["atol"]) if W[k].dtype == np.float32 else 0.
                worst = max(worst, d)
                if d > .4: near.append((round(d, 2), c["name"], k))
        print(f"{group}: {len(cases)} cases, f32 within {worst:.2f} of the tolerance of f64 ({skipped} without an f64 run)", *near, sep="\n    ", flush=True)
    print("differing arrays:", bad)
    return bad


FUNCTIONS = dict(edge_indexing="indexing", edge_sort="sorting", edge_cumulative="cumulative", edge_conv="conv", edge_window="window", edge_linalg="linalg",
                 edge_control="control", edge_dtype="dtypes", edge_special="special", edge_random="random", edge_nn="nn", edge_transform="transforms")
only = args.only.split(",") if args.only else None
if args.check: raise SystemExit(1 if check(OUT, only) else 0)
for group, fn in FUNCTIONS.items():
    if only and group not in only: continue
    globals()[fn](); print(group, len(base.GROUPS[group][0]), flush=True)
os.makedirs(OUT, exist_ok=True)
for group, (cases, A) in base.GROUPS.items():
    with open(f"{OUT}/{group}.json", "w") as fh: json.dump(cases, fh, indent=0, allow_nan=False, default=lambda o: o.tolist() if hasattr(o, "tolist") else list(o))
    np.savez_compressed(f"{OUT}/{group}.npz", **A)
print(sum(len(c) for c, _ in base.GROUPS.values()), "cases")
