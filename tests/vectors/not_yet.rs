//! What of the vectors waits for its op: one list, which is empty when every op of JAX is there.
//!
//! Each reason has its ops; where other cases of an op run, its cases, as `GROUP/CASE`. An entry that is stale fails a
//! test: an op that the harness knows, a case that passes, a name that no case has.

pub(crate) const NOT_YET: &[(&str, &[&str])] = &[
    (
        "no integers of 8 and 64 bits",
        &[
            "elementwise/convert_u8_f32",
            "promote_add_row",
            "edge_dtype/scalars_bool_x64_1",
            "edge_dtype/f32_to_u8",
            "edge_dtype/f32_to_i64",
            "edge_dtype/i32_to_u8_i8",
            "edge_dtype/div_i8",
            "edge_dtype/compare_i8",
            "edge_dtype/bitwise_i8",
            "edge_dtype/wrap_i64",
            "edge_dtype/shifts_i64",
            "edge_dtype/compare_u64",
            "edge_dtype/bitcast_f32_u8",
            "edge_dtype/bitcast_i64_f64",
            "edge_random/bits_u8",
            "edge_random/bits_u64",
            "edge_random/randint_2_u8",
            "edge_random/randint_4_i8",
            "edge_random/randint_x64_0",
            "edge_random/randint_x64_2",
            "edge_indexing/gather_index_i64",
            "edge_indexing/at_get_index_u8",
            "edge_indexing/dynamic_slice_index_u8",
            "edge_sort/sort_i64",
            "edge_sort/sort_u64",
            "edge_cumulative/cumsum_u8_wraps",
            "edge_cumulative/cumsum_i64",
            "edge_cumulative/jnp_cumsum_i8",
            "edge_window/max_u8",
            "edge_dtype/reductions_i8_x64_0",
        ],
    ),
    (
        "no floats of 16 bits",
        &[
            "edge_dtype/f32_to_bf16",
            "edge_dtype/f32_to_f16",
            "edge_dtype/scalars_bf16_x64_0",
            "unary_dtype",
            "binary_dtype",
            "matmul_dtype",
            "layer_norm_dtype",
            "mixed_precision_grad",
            "conv_dtype",
            "sort_dtype",
            "edge_random/uniform_bf16",
            "edge_dtype/reductions_bf16_x64_0",
        ],
    ),
    ("no counts of bits", &["bit_counts"]),
    ("no rounding of halves away from zero", &["round_half"]),
    ("no control flow", &["newton_by_while_implicit"]),
    ("no checkpointing", &["checkpoint_mlp", "checkpoint_policy_grad"]),
    (
        "no rules by the user",
        &[
            "custom_vjp",
            "custom_jvp_value",
            "custom_jvp_grad",
            "custom_jvp_nondiff",
            "custom_jvp_stable",
            "custom_vjp_grad",
            "custom_vjp_clip",
            "custom_vjp_tree",
            "custom_vjp_vmap_grad",
            "custom_vjp_second",
            "custom_rule_in_scan",
        ],
    ),
    ("no named axes", &["collectives_in_vmap", "grad_through_psum"]),
    (
        "no solvers",
        &[
            "fixed_euler",
            "fixed_heun",
            "fixed_midpoint",
            "fixed_bosh3",
            "fixed_tsit5",
            "fixed_dopri5",
            "fixed_dopri8",
            "adaptive_tsit5",
            "reverse_time_tsit5",
        ],
    ),
];

/// Why an op, or a case of a group, waits.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(_, names)| names.contains(&name)).map(|&(reason, _)| reason)
}
