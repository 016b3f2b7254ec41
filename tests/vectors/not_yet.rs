//! What of the vectors waits for its op: one list, which is empty when every op of JAX is there.
//!
//! Each reason has its ops; where other cases of an op run, its cases, as `GROUP/CASE`. An entry that is stale fails a
//! test: an op that the harness knows, a case that passes, a name that no case has.

pub(crate) const NOT_YET: &[(&str, &[&str])] = &[
    // Of a start that is known when it compiles: `x[200:]` of a traced start is the last window there too.
    ("XLA takes a constant index of u8 for one of i8", &["edge_indexing/dynamic_slice_index_u8"]),
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
