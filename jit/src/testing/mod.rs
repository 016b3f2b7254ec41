//! Random programs for tests, of every op of the table: from a seed comes a graph, with its inputs.
//!
//! A value is interpreted as soon as it is made, and taken if something can be said of how far a correct result may be
//! from it ([`bound`](mod@bound)). A program that fails is made small by [`shrink`].
//! The compiler's passes and compiled programs are tested on them (`opt/fuzz.rs`, `tests/fuzz/`).
//! Not part of the compiler: the feature `testing` adds it.

mod bound;
mod control;
mod conv;
mod draw;
mod indexing;
mod matrices;
mod program;
mod random;
mod shrink;

pub use bound::{Bound, close, interpreted};
pub use program::{Config, program};
pub use random::Random;
pub use shrink::shrink;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::graph::{Op, kinds, verify};
    use crate::types::DType;

    /// The names of the ops of the first programs.
    fn names(config: &Config, programs: u64) -> BTreeSet<&'static str> {
        let graphs = (0..programs).map(|seed| program(seed, config).0);
        graphs.flat_map(|graph| graph.nodes.into_iter().map(|node| node.op.name()).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn every_op_is_drawn() {
        let drawn = names(&Config { large: 0, ..Config::COMPILED }, 4000);
        let missing: Vec<_> = kinds().iter().map(Op::name).filter(|name| !drawn.contains(name)).collect();
        assert!(missing.is_empty(), "not among the programs: {missing:?}");
        // The others give floats that are rounded.
        let drawn = names(&Config::PASSES, 1200);
        let rounded = |op: &&Op| {
            matches!(op, Op::Unary(op) if op.cost() > 3)
                || ["atan2", "qr", "eigh", "svd", "cumlogsumexp"].contains(&op.name())
        };
        let missing: Vec<_> =
            kinds().iter().filter(|op| !rounded(op)).map(Op::name).filter(|name| !drawn.contains(name)).collect();
        assert!(missing.is_empty(), "not among the programs for passes: {missing:?}");
    }

    #[test]
    fn programs_reach_the_corners() {
        let mut seen = [0; 6];
        let mut dtypes = BTreeSet::new();
        for seed in 0..200 {
            let (graph, inputs) = program(seed, &Config::COMPILED);
            verify(&graph, "drawing it").unwrap();
            assert_eq!(graph.param_types(), inputs.iter().map(|x| x.ty().clone()).collect::<Vec<_>>());
            let any = |of: &dyn Fn(&crate::types::TensorType) -> bool| u32::from(graph.nodes.iter().any(|n| of(&n.ty)));
            seen[0] += any(&|ty| ty.elements() == 0);
            seen[1] += any(&|ty| ty.rank() == 0);
            seen[2] += any(&|ty| ty.rank() == 6);
            seen[3] += any(&|ty| ty.rank() == 8);
            seen[4] += any(&|ty| ty.elements() > 50_000);
            seen[5] += any(&|ty| ty.shape.contains(&1));
            dtypes.extend(graph.nodes.iter().map(|node| node.ty.dtype.name()));
        }
        assert!(seen.iter().all(|&n| n > 1), "{seen:?}");
        assert_eq!(dtypes, DType::ALL.iter().map(|dtype| dtype.name()).collect());
    }
}
