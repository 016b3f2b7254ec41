//! Joins independent small kernels that run the same code on different buffers.
//!
//! Comes in: kernels, in order. Goes out: fewer kernels, some of them over several segments. An update of a hundred
//! parameters by an optimiser is one kernel, then: one function, one call in the driver, one range of work for the
//! threads. Kernels join if their bodies are equal but for their buffers, and for the extent of a flat kernel modulo
//! [`PARTIALS`](super::PARTIALS); and if they are on the same level of dependences, so that none depends on another,
//! directly or not. A segment computes what its kernel did.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::kernel::{BufferId, Kernel, Kernels, LoopKernel, Segment};
use crate::types::product;

/// The most elements of a kernel that joins others. The call of a longer one costs little beside its work, and its data
/// had better be read right after it was written.
const SMALL: usize = 4096;

/// For each kernel a list of other kernels.
type Others = Vec<SmallVec<[usize; 4]>>;

/// Joins kernels.
pub(super) fn join(mut kernels: Kernels) -> Kernels {
    let needs = dependences(&kernels.kernels);
    let mut levels: Vec<usize> = Vec::with_capacity(needs.len());
    for needs in &needs {
        levels.push(needs.iter().map(|&before| levels[before] + 1).max().unwrap_or(0));
    }
    // The members of each group, and the group of each kernel.
    let mut known: HashMap<(usize, LoopKernel), usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group_of: Vec<usize> = Vec::with_capacity(needs.len());
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        let group = match kernel {
            Kernel::Loop(kernel) if can_join(kernel) => {
                *known.entry((levels[k], kernel.canonical(true).0)).or_insert(groups.len())
            }
            _ => groups.len(),
        };
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(k);
        group_of.push(group);
    }
    if groups.len() == needs.len() {
        return kernels;
    }
    let mut taken: Vec<Option<Kernel>> = std::mem::take(&mut kernels.kernels).into_iter().map(Some).collect();
    for group in order(&groups, &group_of, &needs) {
        let members = groups[group].iter().filter_map(|&k| taken[k].take());
        kernels.kernels.extend(members.reduce(joined));
    }
    kernels
}

fn can_join(kernel: &LoopKernel) -> bool {
    !kernel.serial && !kernel.dims.is_empty() && product(kernel.extents()) <= SMALL
}

/// `kernel` with one more segment.
fn joined(kernel: Kernel, other: Kernel) -> Kernel {
    let (Kernel::Loop(mut kernel), Kernel::Loop(other)) = (kernel, other) else {
        unreachable!("only loop kernels share a group")
    };
    let segment = |kernel: &LoopKernel| Segment {
        extent: kernel.is_flat().then(|| kernel.dims[0].extent),
        buffers: kernel.buffers(),
    };
    if kernel.segments.is_empty() {
        kernel.segments.push(segment(&kernel));
    }
    kernel.segments.push(segment(&other));
    Kernel::Loop(kernel)
}

/// For each kernel the kernels that must run before it. Transitive dependences may be left out.
fn dependences(kernels: &[Kernel]) -> Others {
    let mut writer: HashMap<BufferId, usize> = HashMap::new();
    let mut readers: HashMap<BufferId, SmallVec<[usize; 4]>> = HashMap::new();
    let mut needs: Others = Vec::with_capacity(kernels.len());
    for (k, kernel) in kernels.iter().enumerate() {
        let (reads, writes) = (kernel.reads(), kernel.writes());
        let mut before: SmallVec<[usize; 4]> =
            reads.iter().chain(&writes).filter_map(|buffer| writer.get(buffer).copied()).collect();
        for buffer in &writes {
            before.extend(readers.remove(buffer).unwrap_or_default());
            writer.insert(*buffer, k);
        }
        for buffer in reads {
            readers.entry(buffer).or_default().push(k);
        }
        before.retain(|before| *before != k);
        before.sort_unstable();
        before.dedup();
        needs.push(before);
    }
    needs
}

/// The groups in an order that keeps dependences: each at the place of its last member, or before the first kernel that
/// needs one of its members.
fn order(groups: &[Vec<usize>], group_of: &[usize], needs: &Others) -> Vec<usize> {
    let mut order = Vec::with_capacity(groups.len());
    let mut started = vec![false; groups.len()];
    // Groups that wait for others, each with the groups that it needs and that are not started.
    let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
    let needed = |group: usize| groups[group].iter().flat_map(|&k| &needs[k]).map(|&k| group_of[k]).collect();
    for (k, &group) in group_of.iter().enumerate() {
        if groups[group].last() != Some(&k) || std::mem::replace(&mut started[group], true) {
            continue;
        }
        stack.push((group, needed(group)));
        while let Some((group, waiting)) = stack.last_mut() {
            match waiting.pop() {
                Some(before) if std::mem::replace(&mut started[before], true) => {}
                Some(before) => stack.push((before, needed(before))),
                None => {
                    order.push(*group);
                    stack.pop();
                }
            }
        }
    }
    order
}
