//! Ops of the group `edge_random` beyond keys, bits and numbers that `edge` has.

use fulgurite::{Key, Scan, Tensor, vmap};

use crate::op::Op::{self, Many, One};
use crate::op::key;

pub(crate) const OPS: &[(&str, Op)] = &[
    ("split_of_split", One(|_, x| vmap(|half: Tensor| Key::wrap_key_data(half).split_n(3), 0)(key(x).split_n(2)))),
    (
        "scan_splits_keys",
        Many(|p, x| {
            let draw = |key: Key, ()| {
                let [next, draw] = key.split();
                (next, draw.normal(&[2]))
            };
            let trips = Scan { length: Some(p.int("steps") as usize), ..Scan::default() };
            let (key, draws) = trips.run(draw, key(x), ());
            vec![key.key_data().clone(), draws]
        }),
    ),
    ("uniform_bounds", One(|p, x| key(x).uniform(&p.axes("shape"), &x[1], &x[2]))),
    ("truncated_normal_bounds", One(|p, x| key(x).truncated_normal(&p.axes("shape"), &x[1], &x[2]))),
    ("bernoulli_p", One(|p, x| key(x).bernoulli(&p.axes("shape"), &x[1]))),
    ("randint_bounds", One(|p, x| key(x).randint_within(&p.axes("shape"), &x[1], &x[2]))),
    ("rademacher", One(|p, x| key(x).rademacher_as(&p.axes("shape"), p.dtype("dtype")))),
    (
        "choice",
        One(|p, x| {
            let axis = if p.has("axis") { p.int("axis") } else { 0 };
            key(x).choice_with(&x[1], &p.axes("shape"), p.flag("replace"), None, axis)
        }),
    ),
    ("choice_p", One(|p, x| key(x).choice_with(&x[1], &p.axes("shape"), p.flag("replace"), Some(&x[2]), 0))),
    ("choice_of_n", One(|p, x| key(x).choice_of(p.int("n") as usize, &p.axes("shape"), p.flag("replace")))),
    (
        "categorical_of",
        One(|p, x| {
            let shape = if p.is_none("shape") { x[1].shape()[1..].into() } else { p.axes("shape") };
            let draws = if p.is_none("shape") { &[][..] } else { &shape[..shape.len() + 1 - x[1].rank()] };
            let replace = !p.has("replace") || p.flag("replace");
            key(x).categorical_with(&x[1], p.int("axis"), draws, replace)
        }),
    ),
    (
        "gumbel_of",
        One(|p, x| match p.text("mode") {
            "low" => key(x).gumbel(&p.axes("shape")),
            "high" => key(x).gumbel_high(&p.axes("shape")),
            other => panic!("no mode {other}"),
        }),
    ),
    ("laplace", One(|p, x| key(x).laplace(&p.axes("shape")))),
    ("cauchy", One(|p, x| key(x).cauchy(&p.axes("shape")))),
    ("exponential", One(|p, x| key(x).exponential(&p.axes("shape")))),
    ("logistic_sample", One(|p, x| key(x).logistic(&p.axes("shape")))),
    ("maxwell", One(|p, x| key(x).maxwell(&p.axes("shape")))),
    ("double_sided_maxwell", One(|p, x| key(x).double_sided_maxwell(&p.axes("shape"), &x[1], &x[2]))),
    ("rayleigh", One(|p, x| key(x).rayleigh(&p.axes("shape"), &x[1]))),
    ("weibull_min", One(|p, x| key(x).weibull_min(&p.axes("shape"), &x[1], &x[2]))),
    ("lognormal", One(|p, x| key(x).lognormal(&p.axes("shape"), &x[1]))),
    ("pareto", One(|p, x| key(x).pareto(&p.axes("shape"), &x[1]))),
    ("triangular", One(|p, x| key(x).triangular(&p.axes("shape"), &x[1], &x[2], &x[3]))),
    ("wald", One(|p, x| key(x).wald(&p.axes("shape"), &x[1]))),
    ("geometric", One(|p, x| key(x).geometric(&p.axes("shape"), &x[1]))),
    (
        "orthogonal",
        One(|p, x| {
            let n = p.int("n") as usize;
            key(x).orthogonal(&p.axes("shape"), n, if p.is_none("m") { n } else { p.int("m") as usize })
        }),
    ),
    ("gamma", One(|p, x| key(x).gamma(&p.axes("shape"), &x[1]))),
    ("loggamma", One(|p, x| key(x).loggamma(&p.axes("shape"), &x[1]))),
    ("beta", One(|p, x| key(x).beta(&p.axes("shape"), &x[1], &x[2]))),
    ("dirichlet", One(|p, x| key(x).dirichlet(&p.axes("shape"), &x[1]))),
    ("student_t", One(|p, x| key(x).t(&p.axes("shape"), &x[1]))),
    ("chisquare", One(|p, x| key(x).chisquare(&p.axes("shape"), &x[1]))),
    ("f_distribution", One(|p, x| key(x).f(&p.axes("shape"), &x[1], &x[2]))),
    ("generalized_normal", One(|p, x| key(x).generalized_normal(&p.axes("shape"), p.float("p")))),
    ("ball", One(|p, x| key(x).ball(&p.axes("shape"), p.int("d") as usize, p.float("p")))),
    ("poisson", One(|p, x| key(x).poisson(&p.axes("shape"), &x[1]))),
    ("binomial", One(|p, x| key(x).binomial(&p.axes("shape"), &x[1], &x[2]))),
    ("multinomial", One(|_, x| key(x).multinomial(&x[1], &x[2]))),
    ("multivariate_normal", One(|p, x| key(x).multivariate_normal(&p.axes("shape"), &x[1], &x[2]))),
];
