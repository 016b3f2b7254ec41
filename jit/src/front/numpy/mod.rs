//! Functions of `jax.numpy` that are composed of ops: of indices, of shapes, of order.
//!
//! A function of one tensor that matters more than others is a method, the rest are functions. What JAX computes from
//! data, such as the number of elements that are not 0, is a parameter here, as it is in JAX under `jit`.

mod bands;
mod bits;
mod differences;
mod find;
mod grids;
mod interpolate;
mod nan;
mod order;
mod padding;
mod rearrange;
mod segments;

pub use bands::{eye, tri, tril_indices, triu_indices};
pub use bits::{gcd, lcm};
pub use differences::{ediff1d, polyval, trapezoid};
pub use find::{Side, Unique, intersect1d, select_first, select_n, setdiff1d, union1d};
pub use grids::{Indexing, OutOfRange, ix_, linspace, meshgrid, ravel_multi_index, unravel_index};
pub use interpolate::{Beyond, Border, Interp, Order, interp, map_coordinates};
pub use order::{Quantile, lexsort};
pub use padding::PadMode;
pub use rearrange::{
    append, atleast_1d, atleast_2d, atleast_3d, block, column_stack, delete, dstack, hstack, insert, vstack,
};
pub use segments::{
    Bins, bincount, histogram, histogram_bin_edges, segment_max, segment_min, segment_prod, segment_sum,
};
