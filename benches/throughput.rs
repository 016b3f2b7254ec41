//! Elementwise functions, on arrays that fit into L1, into L2 and into neither: elements per nanosecond, and GB/s.
//!
//! `FULGURITE_THREADS=1 cargo bench --bench throughput [-- NAME …]` prints a table for one thread, the variable left
//! out one for all; `-- --json` one JSON object per function and size, which `compare.py --throughput` puts beside
//! PyTorch's.
//!
//! Each function is compiled as a separate step and writes over a donated array. What a call costs is in its time,
//! which is up to half of it where an array of the smallest size is only added to.

use fulgurite::prelude::*;
use fulgurite_benches::median_seconds;

/// A name, how many arrays it reads, and what it does with them.
type Function = (&'static str, usize, fn(&Tensor, &Tensor) -> Tensor);

const FUNCTIONS: &[Function] = &[
    ("exp", 1, |x, _| x.exp()),
    ("log", 1, |x, _| x.log()),
    ("tanh", 1, |x, _| x.tanh()),
    ("sigmoid", 1, |x, _| x.sigmoid()),
    ("sin", 1, |x, _| x.sin()),
    ("cos", 1, |x, _| x.cos()),
    ("erf", 1, |x, _| x.erf()),
    ("sqrt", 1, |x, _| x.sqrt()),
    ("gelu", 1, |x, _| gelu(x)),
    ("softplus", 1, |x, _| x.softplus()),
    ("add", 2, |x, y| x + y),
    ("mul", 2, |x, y| x * y),
    ("div", 2, |x, y| x / y),
    ("rsqrt", 1, |x, _| x.rsqrt()),
    ("pow", 2, |x, y| x.pow(y)),
];

/// Elements of an array, and the memory that a function's arrays fit into.
const SIZES: [(&str, usize); 3] = [("L1", 4_096), ("L2", 65_536), ("DRAM", 16_777_216)];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let json = args.iter().any(|a| a == "--json");
    let names: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    for (level, elements) in SIZES {
        // Every function is defined there, and none of them takes a short cut.
        let [x, y] = [0, 1].map(|seed| Key::new(seed).uniform(&[elements], 0.1, 4.0));
        for &(name, reads, f) in FUNCTIONS.iter().filter(|(f, ..)| names.is_empty() || names.iter().any(|n| n == f)) {
            // The result takes the place of the donated array, which is not read: no memory is made in the loop.
            let step = Jit::with_borrowed(name, move |_out: Tensor, (x, y): (Tensor, Tensor)| f(&x, &y));
            let mut out = Some(Tensor::zeros(&[elements]));
            let seconds = median_seconds(|| {
                let place = out.take().ok_or_else(|| Error::new("an earlier call failed"))?;
                out = Some(step.call_with(place, (x.clone(), y.clone()))?);
                Ok(())
            })?;
            let rate = elements as f64 / seconds / 1e9;
            // Each array is read once and the result is written once.
            let gbs = rate * (4 * (reads + 1)) as f64;
            if json {
                println!(
                    "{{\"name\":\"{name}\",\"level\":\"{level}\",\"elements\":{elements},\"reads\":{reads},\"us\":{:.3},\"per_ns\":{rate:.4},\"gbs\":{gbs:.2}}}",
                    seconds * 1e6
                );
            } else {
                println!("{name:10} {level:5} {:12.2} us {rate:8.3} elements/ns {gbs:8.1} GB/s", seconds * 1e6);
            }
        }
    }
    Ok(())
}
