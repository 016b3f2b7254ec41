//! The order of the examples in an epoch: a pure function of (seed, epoch) with bounded memory.
//!
//! A random order of at most [`TABLE`] examples is a list, shuffled when its epoch begins: two nanoseconds an example,
//! and all orders are equally likely. One of more examples is a permutation by a Feistel network whose keys come from
//! (seed, epoch), computed one place at a time, without memory. An order that is not random needs neither.
//!
//! The network takes a number as a pair of digits of two bases, and in each round adds to one digit a function of the
//! other, which can be undone. It permutes the numbers below the product of both bases, which is larger than the number
//! of examples by less than its root; a number that is not an example is sent through again, until one is ("generalized
//! Feistel" and "cycle walking": Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

/// The order of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Order {
    examples: usize,
    seed: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The order of the dataset.
    Plain,
    /// The example at each place.
    Table(Vec<u32>),
    /// A computed permutation.
    Network(Network),
}

/// The most examples whose random order is a list: 256 KiB.
pub(super) const TABLE: usize = 1 << 16;

impl Order {
    /// The order of `examples` in an epoch, shuffled where there is a seed.
    pub(super) fn new(examples: usize, shuffle: Option<u64>, epoch: usize) -> Order {
        let kind = match shuffle {
            None => Kind::Plain,
            Some(_) if examples <= TABLE => Kind::Table(Vec::with_capacity(examples)),
            Some(seed) => Kind::Network(Network::new(examples as u64, start(seed, epoch))),
        };
        let mut order = Order { examples, seed: shuffle.unwrap_or(0), kind };
        order.go_to(epoch);
        order
    }

    /// How many examples it orders.
    pub(super) fn examples(&self) -> usize {
        self.examples
    }

    /// Changes to another epoch.
    pub(super) fn go_to(&mut self, epoch: usize) {
        let state = start(self.seed, epoch);
        match &mut self.kind {
            Kind::Plain => {}
            Kind::Table(table) => {
                // In place: an epoch may be a few microseconds long.
                table.clear();
                table.extend(0..self.examples as u32);
                shuffle(table, state);
            }
            Kind::Network(network) => *network = Network::new(self.examples as u64, state),
        }
    }

    /// The example at `place`, which is below their number.
    ///
    /// # Panics
    /// Where it is not.
    #[inline]
    pub(super) fn at(&self, place: usize) -> usize {
        assert!(place < self.examples, "example {place} of {}", self.examples);
        match &self.kind {
            Kind::Plain => place,
            Kind::Table(table) => table[place] as usize,
            Kind::Network(network) => network.at(place as u64) as usize,
        }
    }
}

/// The start of the random numbers of (seed, epoch). Hashed twice, so that (seed, epoch + 1) is not (seed + 1,
/// epoch).
fn start(seed: u64, epoch: usize) -> u64 {
    mix(mix(seed).wrapping_add(epoch as u64))
}

/// Fisher and Yates' shuffle.
fn shuffle(order: &mut [u32], mut state: u64) {
    for i in (1..order.len()).rev() {
        state = state.wrapping_add(GOLDEN);
        // The high half of a product scales 64 random bits to 0..=i; the bias is below 2⁻³².
        let j = ((u128::from(mix(state)) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
}

/// A permutation of `0..numbers`.
#[derive(Clone, Copy, Debug)]
struct Network {
    numbers: u64,
    /// The bases of the digits, at most 2³² each.
    high: u64,
    low: u64,
    keys: [u64; ROUNDS],
}

/// Four for each digit; three are enough for a pseudorandom permutation (Luby & Rackoff 1988).
const ROUNDS: usize = 8;

impl Network {
    fn new(numbers: u64, state: u64) -> Network {
        let root = numbers.isqrt();
        let low = (if root * root < numbers { root + 1 } else { root }).max(1);
        let keys = std::array::from_fn(|round| mix(state.wrapping_add(GOLDEN.wrapping_mul(round as u64 + 1))));
        Network { numbers, high: numbers.div_ceil(low), low, keys }
    }

    #[inline]
    fn at(&self, place: u64) -> u64 {
        let mut x = place;
        loop {
            x = self.permuted(x);
            if x < self.numbers {
                return x;
            }
        }
    }

    #[inline]
    fn permuted(&self, x: u64) -> u64 {
        let (mut high, mut low) = (x / self.low, x % self.low);
        for pair in self.keys.chunks_exact(2) {
            low = added(low, digit(high, pair[0], self.low), self.low);
            high = added(high, digit(low, pair[1], self.high), self.high);
        }
        high * self.low + low
    }
}

/// A digit of `base` that depends on another one and on a key.
#[inline]
fn digit(other: u64, key: u64, base: u64) -> u64 {
    let x = (other ^ key).wrapping_mul(GOLDEN);
    let bits = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32;
    (bits * base) >> 32
}

/// The sum of two digits of one base, without the carry.
#[inline]
fn added(x: u64, y: u64, base: u64) -> u64 {
    let sum = x + y;
    if sum >= base { sum - base } else { sum }
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
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const SIZES: [usize; 16] = [0, 1, 2, 3, 5, 8, 9, 100, 1000, 1024, 1025, 60_000, TABLE, TABLE + 1, 70_000, 1 << 17];

    #[test]
    fn every_example_comes_once_an_epoch_and_the_orders_differ() {
        for n in SIZES {
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
            let mut moved = Order::new(n, Some(0), 7);
            moved.go_to(0);
            assert!((0..n).map(|place| moved.at(place)).eq(first), "{n}: from another epoch");
        }
    }

    /// The network alone, at sizes where lists are used: every number once.
    #[test]
    fn the_network_permutes_any_number_of_examples() {
        for n in (1..300).chain([1 << 16, 65_537, 99_999]) {
            let network = Network::new(n, mix(n));
            assert!(network.high * network.low >= n && network.high * network.low < n + network.low);
            let all: BTreeSet<u64> = (0..n).map(|place| network.at(place)).collect();
            assert!(all.len() as u64 == n && all.iter().all(|&x| x < n), "{n}");
        }
    }

    #[test]
    fn each_order_of_few_is_as_frequent_as_the_others() {
        for (n, orders) in [(2, 2), (3, 6), (4, 24), (5, 120), (6, 720)] {
            let mut counts = BTreeMap::<Vec<usize>, f64>::new();
            for epoch in 0..100 * orders {
                let order = Order::new(n, Some(7), epoch);
                *counts.entry((0..n).map(|place| order.at(place)).collect()).or_default() += 1.0;
            }
            assert_eq!(counts.len(), orders);
            assert_even(counts.into_values(), 100.0);
        }
    }

    /// Where an example comes, and what comes after it: all places and all distances are equally frequent.
    #[test]
    fn places_and_distances_of_the_network_are_even() {
        for n in [37, 64, 100] {
            let mut places = vec![0.0; (n * n) as usize];
            let mut distances = vec![0.0; n as usize - 1];
            for epoch in 0..20_000 {
                let network = Network::new(n, start(5, epoch));
                let order: Vec<u64> = (0..n).map(|place| network.at(place)).collect();
                for (place, example) in order.iter().enumerate() {
                    places[place * n as usize + *example as usize] += 1.0;
                }
                distances[((order[1] + n - order[0]) % n) as usize - 1] += 1.0;
            }
            assert_even(places, 20_000.0 / n as f64);
            assert_even(distances, 20_000.0 / (n - 1) as f64);
        }
    }

    /// Counts that are `expected` on average scatter as random ones do: χ² within five standard deviations.
    #[track_caller]
    fn assert_even(counts: impl IntoIterator<Item = f64>, expected: f64) {
        let terms: Vec<f64> = counts.into_iter().map(|count| (count - expected).powi(2) / expected).collect();
        let free = terms.len() as f64 - 1.0;
        let off = (terms.iter().sum::<f64>() - free) / (2.0 * free).sqrt();
        assert!(off < 5.0, "{off} standard deviations");
    }

    #[test]
    fn billions_of_examples_take_neither_time_nor_memory() {
        for n in [1 << 31, u32::MAX as usize, usize::MAX >> 2, usize::MAX] {
            let order = Order::new(n, Some(1), 5);
            let some: BTreeSet<usize> = (0..1000).map(|i| order.at(i * (n / 1000))).collect();
            assert_eq!(some.len(), 1000);
            assert!(some.iter().all(|&example| example < n));
            assert!(!matches!(order.kind, Kind::Table(_)));
            assert!(matches!(Order::new(n, None, 5).kind, Kind::Plain));
        }
    }
}
