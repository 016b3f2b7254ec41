//! The devices that programs run on.

pub(crate) mod cpu;
