//! The table of a program: the addresses that its drivers read by index, so that the code holds none. Each module, that
//! of the program and those of its regions, has a part of it.

use hashbrown::HashMap;

use super::{gemm, routine};
use crate::fuse::{BufferId, Source};
use crate::lower::Module;
use crate::lower::call::Call;
use crate::types::DType;

/// What an entry is the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Datum {
    /// The elements of a constant buffer.
    Constant(BufferId),
    /// The plan of the product, or the routine, that this kernel is.
    Plan(usize),
    /// The function that computes products of this element type.
    Product(DType),
    /// The function that runs routines.
    Routine,
}

/// What the entries of a module's part are.
pub(super) struct Table {
    /// Where the part begins.
    begin: usize,
    entries: Vec<Datum>,
    indices: HashMap<Datum, usize>,
    /// Words behind the entries, and for each kernel of several segments its first.
    words: Vec<usize>,
    segments: HashMap<usize, usize>,
}

impl Table {
    /// The part of a module, which begins at this index.
    pub(super) fn of(module: &Module, begin: usize) -> Table {
        let (entries, indices, words, segments) = Default::default();
        let mut table = Table { begin, entries, indices, words, segments };
        for (b, buffer) in (0..).zip(&module.kernels.buffers) {
            if let Source::Constant(_) = buffer.source {
                table.add(Datum::Constant(BufferId(b)));
            }
        }
        for (k, call) in module.calls.iter().enumerate() {
            let function = match call {
                Call::Loop { .. } | Call::Region(_) => continue,
                Call::Gemm { dtype, .. } => Datum::Product(*dtype),
                Call::Routine { .. } => Datum::Routine,
            };
            table.add(function);
            table.add(Datum::Plan(k));
        }
        table
    }

    fn add(&mut self, datum: Datum) {
        let next = self.entries.len();
        self.indices.entry(datum).or_insert_with(|| {
            self.entries.push(datum);
            next
        });
    }

    /// The index of an entry.
    pub(super) fn index(&self, datum: Datum) -> usize {
        self.begin + self.indices[&datum]
    }

    /// Adds words for a kernel of several segments.
    pub(super) fn add_words(&mut self, k: usize, words: Vec<usize>) {
        self.segments.insert(k, self.words.len());
        self.words.extend(words);
    }

    /// The index of the first of the words of a kernel.
    pub(super) fn words(&self, k: usize) -> usize {
        self.begin + self.entries.len() + self.segments[&k]
    }

    /// The addresses, and the words behind them. They are valid while `module` lives, which may be moved.
    pub(super) fn addresses(&self, module: &Module) -> Vec<*const u8> {
        let address = |datum: &Datum| match *datum {
            Datum::Constant(b) => match &module.kernels.buffers[b.index()].source {
                Source::Constant(array) => array.buffer().start().cast_const(),
                Source::Param(_) | Source::Computed | Source::Passed => unreachable!("only constants are listed"),
            },
            Datum::Plan(k) => match &module.calls[k] {
                Call::Gemm { gemm, .. } => std::ptr::from_ref(&**gemm).cast(),
                Call::Routine { routine, .. } => std::ptr::from_ref(&**routine).cast(),
                Call::Loop { .. } | Call::Region(_) => unreachable!("they have code of their own"),
            },
            Datum::Routine => routine::run_routine as *const u8,
            Datum::Product(DType::F64) => gemm::gemm_range_f64 as *const u8,
            Datum::Product(DType::F32) => gemm::gemm_range_f32 as *const u8,
            Datum::Product(dtype) => unreachable!("a product is of f32 or f64, not of {dtype}"),
        };
        let words = self.words.iter().map(|&word| std::ptr::without_provenance(word));
        self.entries.iter().map(address).chain(words).collect()
    }
}
