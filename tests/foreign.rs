//! What reads foreign bytes: text of graphs, checkpoints, IDX files, subscripts of einsum.
//!
//! The functions of `fuzz/src/lib.rs` run on the seeds in `fuzz/corpus/TARGET/` and on mutations of them. None may
//! panic, take seconds, or allocate far more than it reads. The mutations are the same in every run. An input that
//! fails is kept as a file, to be added to the corpus. Variables:
//! - `FULGURITE_FUZZ_SEED`: the first seed (0);
//! - `FULGURITE_FUZZ_INPUTS`: how many mutations for each target (10,000).

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a crate of its own elsewhere")]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use targets::{TARGETS, Target};

/// The longest that an input may take.
const LONGEST: Duration = Duration::from_secs(2);
/// The most bytes of one allocation: a compressed file may expand to 4 MiB.
const LARGEST: usize = 16 << 20;

/// The system's allocator; it knows the largest allocation of each thread.
struct Observed;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn observe(bytes: usize) {
    ALLOCATED.with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Observed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        observe(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        observe(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        observe(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Observed = Observed;

#[test]
fn graph() {
    check("graph");
}

#[test]
fn checkpoint() {
    check("checkpoint");
}

#[test]
fn idx() {
    check("idx");
}

#[test]
fn einsum() {
    check("einsum");
}

/// Runs a target on its seeds and on mutations of them.
fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.sort();
    let read = |file| std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let seeds: Vec<Vec<u8>> = files.iter().map(read).collect();
    assert!(!seeds.is_empty(), "{} holds seeds", folder.display());
    seeds.iter().for_each(|seed| run(target, seed));

    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
        Err(_) => default,
    };
    let first = number("FULGURITE_FUZZ_SEED", 0);
    for seed in first..first + number("FULGURITE_FUZZ_INPUTS", 10_000) {
        run(target, &Random(seed).mutated(&seeds, target.tokens));
    }
}

fn run(target: &Target, input: &[u8]) {
    ALLOCATED.set(0);
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let (took, allocated) = (start.elapsed(), ALLOCATED.get());
    let fault = match result {
        Err(_) => "it panicked, see above".to_string(),
        Ok(()) if took > LONGEST => format!("it took {took:?}"),
        Ok(()) if allocated > LARGEST => format!("it allocated {allocated} bytes at once"),
        Ok(()) => return,
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("foreign-{}", target.name));
    std::fs::write(&file, input).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    panic!("{}: {fault}\n{}\nadd {} to fuzz/corpus", target.name, input.escape_ascii(), file.display());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// A number below `n`, 0 if there is none.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % n.max(1)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A range of at most `longest` bytes.
    fn range(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + self.below(longest + 1)).min(length)
    }

    /// A seed after a few edits.
    fn mutated(&mut self, seeds: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
        const NUMBERS: [&str; 12] = [
            "0",
            "1",
            "-1",
            "2",
            "3",
            "16",
            "255",
            "65536",
            "2147483647",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
        ];
        let mut bytes = self.pick(seeds).clone();
        for _ in 0..=self.below(4) {
            let length = bytes.len();
            let at = self.below(length + 1);
            match self.below(10) {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
                1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.below(256) as u8),
                2 => drop(bytes.drain(self.range(length, 16))),
                3 => {
                    let copy = bytes[self.range(length, 64)].to_vec();
                    bytes.splice(at..at, copy);
                }
                4 | 5 => drop(bytes.splice(at..at, self.pick(tokens).bytes())),
                // The next number in the text becomes another.
                6 => {
                    let digit = |byte: &u8| byte.is_ascii_digit();
                    let Some(start) = bytes[at..].iter().position(digit).map(|i| at + i) else { continue };
                    let digits = bytes[start..].iter().take_while(|byte| digit(byte)).count();
                    bytes.splice(start..start + digits, self.pick(&NUMBERS).bytes());
                }
                // A line is repeated elsewhere.
                7 => {
                    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
                    let (from, to) = (self.below(lines.len()), self.below(lines.len()));
                    let mut all = lines.clone();
                    all.splice(to..to, lines.get(from).copied());
                    bytes = all.concat();
                }
                // The end of another seed.
                8 => {
                    let other = self.pick(seeds);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
                }
                _ => {
                    let number = [0, 1, 0x7f, 0xff][self.below(4)];
                    let range = self.range(length, 8);
                    bytes[range].fill(number);
                }
            }
        }
        bytes
    }
}
