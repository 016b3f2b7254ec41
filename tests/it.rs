//! The tests that share a process, as one program. Each module says what it tests.

mod arithmetic;
mod calls;
mod common;
mod control;
mod devices;
mod draws;
mod dtypes;
mod factors;
mod filetests;
mod indexing;
mod large;
mod linalg;
mod long;
mod numpy;
mod ownership;
mod rounding;
mod scan;
mod sizes;
mod special;
mod stages;
mod sums;
mod ui;
