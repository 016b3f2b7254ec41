//! The order of the examples in an epoch, computed one place at a time: however many examples there are, it takes no
//! memory, and none of it is computed that is not asked for.
//!
//! A random order is a permutation by a Feistel network whose keys come from (seed, epoch): the bits of a number are
//! taken as two halves, and in each round one half is changed by a function of the other, which can be undone. The
//! network permutes a power of two that is less than twice the number of examples; a number that is not an example is
//! sent through again, until one is ("cycle walking": Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

/// The order of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    examples: u64,
    /// The rounds' keys; none where the examples come as they lie.
    keys: Option<[u64; ROUNDS]>,
    /// How many bits the lower half has, and the masks of both.
    low_bits: u32,
    low: u64,
    high: u64,
}

/// Four for each half: three are random enough to tell apart only by more looks than there are places (Luby & Rackoff
/// 1988).
const ROUNDS: usize = 8;

impl Order {
    /// The order of `examples` in an epoch: a pure function of the seed and the epoch.
    pub(super) fn new(examples: usize, shuffle: Option<u64>, epoch: usize) -> Order {
        let examples = examples as u64;
        let bits = u64::BITS - examples.saturating_sub(1).leading_zeros();
        let low_bits = bits.div_ceil(2);
        let keys = shuffle.map(|seed| {
            // Hashed twice, so that (seed, epoch + 1) is not (seed + 1, epoch).
            let state = mix(mix(seed).wrapping_add(epoch as u64));
            std::array::from_fn(|round| mix(state.wrapping_add(GOLDEN.wrapping_mul(round as u64 + 1))))
        });
        let mask = |bits: u32| (1u64 << bits) - 1;
        Order { examples, keys, low_bits, low: mask(low_bits), high: mask(bits - low_bits) }
    }

    /// The example at `place`, which is below their number.
    #[inline]
    pub(super) fn at(&self, place: usize) -> usize {
        let Some(keys) = &self.keys else { return place };
        let mut x = place as u64;
        loop {
            x = self.permuted(x, keys);
            if x < self.examples {
                return x as usize;
            }
        }
    }

    #[inline]
    fn permuted(&self, x: u64, keys: &[u64; ROUNDS]) -> u64 {
        let (mut low, mut high) = (x & self.low, x >> self.low_bits);
        for pair in keys.chunks_exact(2) {
            low ^= round(high, pair[0]) & self.low;
            high ^= round(low, pair[1]) & self.high;
        }
        high << self.low_bits | low
    }
}

/// Bits of `half` and `key`, of which the upper ones of a product are the most mixed.
#[inline]
fn round(half: u64, key: u64) -> u64 {
    let x = (half ^ key).wrapping_mul(GOLDEN);
    (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32
}

/// 2⁶⁴ / φ, the step of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_comes_once_an_epoch_and_the_orders_differ() {
        for n in [0, 1, 2, 3, 5, 8, 9, 100, 1000, 1024, 1025, 60_000] {
            let order = |seed, epoch| {
                let order = Order::new(n, Some(seed), epoch);
                (0..n).map(|place| order.at(place)).collect::<Vec<_>>()
            };
            let first = order(0, 0);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..n), "{n}");
            assert_eq!(first, order(0, 0));
            if n >= 100 {
                assert!(first != order(0, 1) && first != order(1, 0) && order(0, 1) != order(1, 0));
                let fixed = first.iter().enumerate().filter(|(place, example)| place == *example).count();
                assert!(fixed < 10, "{fixed} of {n} stay in their place");
            }
            assert!((0..n).all(|place| Order::new(n, None, 3).at(place) == place));
        }
    }

    #[test]
    fn each_order_of_few_is_as_frequent_as_the_others() {
        let mut counts = std::collections::BTreeMap::<Vec<usize>, usize>::new();
        for epoch in 0..24_000 {
            let order = Order::new(4, Some(7), epoch);
            *counts.entry((0..4).map(|place| order.at(place)).collect()).or_default() += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }

    #[test]
    fn billions_of_examples_take_neither_time_nor_memory() {
        let n = usize::MAX >> 2;
        let order = Order::new(n, Some(1), 5);
        let some: std::collections::BTreeSet<usize> = (0..1000).map(|i| order.at(i * (n / 1000))).collect();
        assert_eq!(some.len(), 1000);
        assert!(some.iter().all(|&example| example < n));
    }
}
