//! What a call of a compiled function does beside computing: it rejects reads of what is not there yet, returns one
//! `Result`, tells static floats apart, keeps a bounded number of programs, and comes to an end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fulgurite::compiler::trace::tracing;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Bits, Precision, hessian, linearize, lower, with_matmul_precision};

fn ones() -> Tensor {
    Tensor::ones(&[3])
}

/// Is this the error of a read in this file, in line `line`?
#[track_caller]
fn is_read(error: &Error, how: &str, line: u32) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{how}: a traced f32[")), "{text}");
    assert!(text.contains("has no data yet") && text.contains("`select`"), "{text}");
    let at = error.location().map(|at| (at.file().ends_with("calls.rs"), at.line()));
    assert_eq!(at, Some((true, line)), "{text}");
    assert!(!tracing(), "a trace is left behind");
}

// ---- reading

#[test]
fn a_condition_on_a_traced_value_is_an_error_of_the_call() {
    let line = line!() + 1;
    let f = |t: Tensor| if t.sum().item::<f32>().is_ok_and(|s| s > 0.0) { t * 10.0 } else { t * -10.0 };
    for _ in 0..2 {
        is_read(&jit(f).call(ones()).expect_err("read in the trace"), "item", line);
    }
    // Outside of a trace there is something to read.
    assert_eq!(f(ones()).to_vec::<f32>(), Ok(vec![10.0; 3]));
    // And this is what the message advises.
    let select = jit(|t: Tensor| t.sum().greater(0.0).select(&t * 10.0, &t * -10.0));
    assert_eq!(select.call(ones()).and_then(|x| x.to_vec::<f32>()), Ok(vec![10.0; 3]));
}

#[test]
fn every_way_of_reading_is_rejected() {
    /// Reads a tensor in one way.
    type Read = fn(Tensor);
    let ways: [(&str, u32, Read); 6] = [
        ("item", line!(), |x| drop(x.sum().item::<f32>())),
        ("to_vec", line!(), |x| drop(x.to_vec::<f32>())),
        ("array", line!(), |x| drop(x.array())),
        ("array", line!(), |x| drop(x.array().and_then(|x| x.view::<f32>().map(|x| x.sum())))),
        ("into_array", line!(), |x| drop(x.into_array())),
        ("into_ndarray", line!(), |x| drop(x.into_ndarray::<f32>())),
    ];
    for (how, line, read) in ways {
        let step = move |x: Tensor| {
            read(x.clone());
            x
        };
        is_read(&jit(step).call(ones()).expect_err(how), how, line);
        // Tensors of no elements, of one, and of no axes are no exception.
        for shape in [&[0][..], &[1], &[], &[1; 8]] {
            is_read(&jit(step).call(Tensor::ones(shape)).expect_err(how), how, line);
        }
    }
    // To ask is allowed, and to print.
    let ask = jit(|x: Tensor| {
        assert!(x.concrete().is_none() && x.error().is_none());
        assert!(format!("{x}").contains("traced"));
        x
    });
    assert!(ask.call(ones()).is_ok());
}

#[test]
fn a_read_in_a_transformed_function_is_rejected_compiled_and_eager() {
    fn loss(x: &Tensor) -> Tensor {
        let read = x.sum().item::<f32>(); // the line
        x.square().sum() * read.unwrap_or(1.0)
    }
    let line = line!() - 3;
    type Derived = fn(&Tensor) -> Tensor;
    let derived: [(&str, Derived); 7] = [
        ("grad", |x| grad(loss)(x)),
        ("value_and_grad", |x| value_and_grad(loss)(x).0),
        ("grad of grad", |x| grad(|x: &Tensor| grad(loss)(x).sum())(x)),
        ("jvp", |x| jvp(loss, x, x).1),
        ("linearize", |x| linearize(loss, x).0),
        ("vjp", |x| vjp(loss, x).0),
        ("hessian", |x| hessian(loss)(x)),
    ];
    for (name, f) in derived {
        is_read(&f(&ones()).array().expect_err(name), "item", line);
        is_read(&jit(move |x: Tensor| f(&x)).call(ones()).expect_err(name), "item", line);
    }
    let rows = |x: Tensor| vmap(|x: Tensor| loss(&x), 0)(x);
    is_read(&rows(Tensor::ones(&[4, 3])).array().expect_err("vmap"), "item", line);
    is_read(&jit(rows).call(Tensor::ones(&[4, 3])).expect_err("vmap"), "item", line);
    // A value from around a transformed function is read just as little.
    let line = line!() + 1;
    let around = jit(|x: Tensor| grad(|y: &Tensor| y.sum() * x.sum().item::<f32>().unwrap_or(2.0))(&x));
    is_read(&around.call(ones()).expect_err("read in the trace"), "item", line);
}

#[test]
fn a_read_whose_result_is_thrown_away_is_rejected() {
    let line = line!() + 2;
    let step = jit(|x: Tensor| {
        let _ = grad(|x: &Tensor| x.sum() * f32::from(u8::from(x.to_vec::<f32>().is_ok())))(&x);
        x
    });
    is_read(&step.call(ones()).expect_err("read in the trace"), "to_vec", line);
}

#[test]
fn the_unwrap_of_a_rejected_read_is_the_error_of_the_call() {
    let line = line!() + 1;
    let unwrap = jit(|x: Tensor| &x * x.sum().item::<f32>().unwrap());
    is_read(&unwrap.call(ones()).expect_err("read in the trace"), "item", line);
    let line = line!() + 1;
    let expect = jit(|x: Tensor| grad(|x: &Tensor| x.sum() * x.to_vec::<f32>().expect("numbers")[0])(&x));
    is_read(&expect.call(ones()).expect_err("read in the trace"), "to_vec", line);
    // So is that of a value that stands for a mistake: the call tells the mistake.
    let poisoned = jit(|x: Tensor| &x * (&x + Tensor::ones(&[4])).to_vec::<f32>().unwrap()[0]);
    let error = poisoned.call(ones()).expect_err("the shapes differ");
    assert!(error.to_string().starts_with("add: cannot broadcast"), "{error}");
    // A panic of another kind is the user's, even after a mistake.
    let other = jit(|x: Tensor| {
        let _ = x.item::<f32>();
        if x.rank() == 1 { panic!("the user's own") } else { x }
    });
    let panic = catch_unwind(AssertUnwindSafe(|| other.call(ones()))).expect_err("the panic passes through");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the user's own"));
    assert!(!tracing());
}

#[test]
fn a_training_step_that_reads_a_traced_value_ends_the_run() {
    #[derive(Clone)]
    struct Curious;
    impl LightningModule for Curious {
        type Model = Tensor;
        type Batch = Tensor;
        fn init(&self, _: Key) -> Tensor {
            Tensor::scalar(1.0f32)
        }
        fn configure_optimizers(&self) -> impl Optimizer {
            sgd(0.1)
        }
        fn training_step(&self, model: &Tensor, batch: &Tensor, _: &mut StepCx) -> Tensor {
            let loss = (model * batch).square().mean();
            if loss.item::<f32>().is_ok_and(|loss| loss > 1.0) { loss } else { loss * 2.0 } // the line
        }
    }
    let line = line!() - 3;
    let data = DataLoader::new(ArrayDataset::from_tree(Tensor::ones(&[8, 2])).expect("rows")).batch_size(4);
    let root = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("calls");
    let trainer = Trainer::new().default_root_dir(root).max_steps(2).enable_progress_bar(false);
    is_read(&trainer.fit(&Curious, &data).map(drop).expect_err("read in the trace"), "item", line);
}

#[test]
fn a_bound_step_refuses_a_traced_batch() {
    let step = || Jit::with_borrowed("sum", |total: Tensor, x: Tensor| (total + x.sum(), x));
    let call = jit(move |x: Tensor| step().bind(Tensor::scalar(0.0f32)).call(x.clone()).unwrap_or(x));
    let error = call.call(ones()).expect_err("a traced batch");
    assert!(error.to_string().contains("has no data yet"), "{error}");
}

// ---- panics

#[test]
fn a_trees_own_code_may_call_compiled_functions() {
    static DOUBLE: LazyLock<Jit<Tensor, (), Tensor>> = LazyLock::new(|| jit(|x: Tensor| x * 2.0));
    #[derive(Clone)]
    struct Lazy(Tensor);
    impl Tree for Lazy {
        fn visit<'t>(&'t self, visitor: &mut dyn fulgurite::Visitor<'t>) {
            if !tracing() {
                assert_eq!(DOUBLE.call(Tensor::scalar(2.0f32)).and_then(|x| x.item::<f32>()), Ok(4.0));
            }
            visitor.leaf(&self.0);
        }
        fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
            Lazy(f(&self.0))
        }
    }
    let step = jit(|x: Lazy| x.0 + 1.0);
    for _ in 0..3 {
        assert_eq!(step.call(Lazy(ones())).and_then(|x| x.to_vec::<f32>()), Ok(vec![2.0; 3]));
    }
    assert_eq!(step.traces(), 1);
}

/// A program of fewer `donated` flags than inputs: the planner looks for one that is not there.
#[test]
fn a_panic_of_the_compiler_is_an_error_and_leaves_it_usable() {
    let graph = lower(|x: Tensor| x.exp(), &ones()).expect("it lowers").graph;
    for _ in 0..2 {
        let error = Program::compile("short", &graph, &[]).err().expect("a flag is missing");
        assert!(!error.to_string().is_empty());
        let good = Program::compile("good", &graph, &[false]).and_then(|program| {
            let x = ones().into_array()?;
            Ok(program.run(vec![x])?.len())
        });
        assert_eq!(good, Ok(1));
    }
}

#[test]
fn a_tensor_used_on_another_thread_is_an_error() {
    let step = jit(|x: Tensor| std::thread::scope(|scope| scope.spawn(|| &x + 1.0).join().expect("no panic")));
    let error = step.call(ones()).expect_err("traces are a thread's own");
    assert!(error.to_string().contains("on another thread"), "{error}");
}

#[test]
fn powers_of_the_least_and_the_largest_exponent() {
    let x = Tensor::from_vec(&[4], vec![1.0f32, -1.0, 2.0, 0.5]).expect("four");
    for (n, expected) in [(i32::MIN, [1.0, 1.0, 0.0, f32::INFINITY]), (i32::MAX, [1.0, -1.0, f32::INFINITY, 0.0])] {
        assert_eq!(x.powi(n).to_vec::<f32>(), Ok(expected.to_vec()), "{n}");
        assert_eq!(
            jit(move |x: Tensor| x.powi(n)).call(x.clone()).and_then(|y| y.to_vec()),
            Ok(expected.to_vec()),
            "{n}"
        );
    }
    // JAX: n x^(n-1), as f32.
    let slope = grad(|x: &Tensor| x.powi(i32::MIN).sum())(&Tensor::ones(&[1]));
    assert_eq!(slope.item::<f32>(), Ok(i32::MIN as f32));
    for shape in [&[0][..], &[], &[1; 8]] {
        assert_eq!(Tensor::ones(shape).powi(i32::MIN).shape(), shape);
    }
}

// ---- functions that call themselves

#[jit]
fn without_end(x: Tensor) -> Result<Tensor> {
    without_end(x * 0.5)
}

#[jit]
fn back(x: &Tensor, #[jit(static)] n: usize) -> Result<Tensor> {
    forth(x, n + 1)
}

#[jit]
fn forth(x: &Tensor, #[jit(static)] n: usize) -> Result<Tensor> {
    let two = Tensor::concat(&[x, x], 0);
    back(&two.slice_in_dim(0, 0..1), n + 1)
}

/// Calls itself twice: were only the deepest call rejected, there would be 2^depth of them.
#[jit]
fn twice(x: &Tensor) -> Tensor {
    let (a, b) = (twice(x), twice(x));
    a.unwrap_or_else(|_| x.clone()) + b.unwrap_or_else(|_| x.clone())
}

#[jit]
fn power(x: &Tensor, #[jit(static)] n: u32) -> Result<Tensor> {
    Ok(if n == 0 { x.ones_like() } else { x * power(x, n - 1)? })
}

#[test]
fn a_function_that_calls_itself_without_end_is_an_error() {
    for _ in 0..2 {
        let error = without_end(ones()).expect_err("no end").to_string();
        assert!(error.contains("(without_end)") && error.contains("calls itself"), "{error}");
        let error = back(&ones(), 0).expect_err("no end").to_string();
        assert!(error.contains("(back, forth)") || error.contains("(forth, back)"), "{error}");
        let error = twice(&ones()).expect_err("no end").to_string();
        assert!(error.contains("(twice)"), "{error}");
        // Within a derivative too.
        let slope = grad(|x: &Tensor| without_end(x.clone()).map_or_else(|_| x.sum(), |y| y.sum()))(&ones());
        assert!(slope.array().expect_err("no end").to_string().contains("without_end"));
        assert!(!tracing());
    }
}

#[test]
fn a_recursion_with_an_end_is_unrolled() {
    let x = Tensor::from_vec(&[2], vec![1.0f32, -1.0]).expect("two");
    assert_eq!(power(&x, 41).and_then(|y| y.to_vec::<f32>()), Ok(vec![1.0, -1.0]));
    assert_eq!(power(&x, 0).and_then(|y| y.to_vec::<f32>()), Ok(vec![1.0, 1.0]));
}

// ---- results

#[jit]
fn checked(x: &Tensor, #[jit(static)] rows: usize) -> Result<Tensor> {
    if rows == 0 {
        return Err(Error::new("there are no rows"));
    }
    power(&x.reshape(&[rows, 2]).sum_axes(0), 2)
}

#[test]
fn a_function_that_gives_a_result_gives_one() {
    let x = Tensor::from_vec(&[4], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four");
    let result: Result<Tensor> = checked(&x, 2);
    assert_eq!(result.and_then(|y| y.to_vec::<f32>()), Ok(vec![16.0, 36.0]));
    assert_eq!(checked(&x, 0).err(), Some(Error::new("there are no rows")));
    // A mistake of an op comes before what the function makes of it.
    let error = checked(&x, 3).expect_err("4 elements are not 6");
    assert!(error.to_string().starts_with("reshape: "), "{error}");

    let closure = jit(|x: Tensor| -> Result<(Tensor, Tensor)> { Ok((checked(&x, 2)?, x)) });
    assert_eq!(closure.call(x.clone()).and_then(|(y, _)| y.to_vec::<f32>()), Ok(vec![16.0, 36.0]));
    let fails = jit(|x: Tensor| -> Result<Tensor> { checked(&x, 0) });
    for _ in 0..2 {
        assert_eq!(fails.call(x.clone()).err(), Some(Error::new("there are no rows")));
    }
    // Within a trace an error that is handled is none.
    let handled = jit(|x: Tensor| checked(&x, 0).unwrap_or(x));
    assert_eq!(handled.call(x.clone()).and_then(|y| y.to_vec::<f32>()), x.to_vec::<f32>());

    let mut bound = Jit::with_borrowed("sum", |total: Tensor, x: Tensor| -> Result<(Tensor, Tensor)> {
        if x.rank() > 1 {
            return Err(Error::new("one row at a time"));
        }
        Ok((&total + x.sum(), total))
    })
    .bind(Tensor::scalar(0.0f32));
    assert_eq!(bound.call(x.clone()).and_then(|x| x.item::<f32>()), Ok(0.0));
    assert_eq!(bound.call(Tensor::ones(&[2, 2])).err(), Some(Error::new("one row at a time")));
    assert_eq!(bound.call(x).and_then(|x| x.item::<f32>()), Ok(10.0));
    assert_eq!(bound.into_state().item::<f32>(), Ok(20.0));
}

// ---- static floats

#[derive(Tree, Clone)]
struct Scaled {
    weight: Tensor,
    #[tree(static)]
    rate: f64,
    #[tree(static)]
    betas: (f32, Option<[f64; 2]>),
}

#[jit]
fn scale(model: &Scaled, #[jit(static)] by: f32) -> Tensor {
    let (beta, more) = model.betas;
    &model.weight * (model.rate * f64::from(by) + f64::from(beta) + more.map_or(0.0, |[a, b]| a + b))
}

#[test]
fn static_floats_are_part_of_the_program() {
    let model = Scaled { weight: ones(), rate: 2.0, betas: (0.0, None) };
    let first = |model: &Scaled, by: f32| scale(model, by).and_then(|x| x.index_in_dim(0, 0).item::<f32>());
    assert_eq!(first(&model, 3.0), Ok(6.0));
    assert_eq!(first(&model, 0.5), Ok(1.0));
    assert_eq!(first(&Scaled { rate: 4.0, ..model.clone() }, 0.5), Ok(2.0));
    assert_eq!(first(&Scaled { betas: (1.0, Some([10.0, 100.0])), ..model.clone() }, 0.5), Ok(112.0));
    assert_eq!(first(&model, 3.0), Ok(6.0));

    let sign = jit(|(x, zero): (Tensor, Static<Bits<f64>>)| x * zero.0.0.signum());
    let of = |zero: f64| sign.call((ones(), Static(Bits(zero)))).and_then(|x| x.index_in_dim(0, 0).item::<f32>());
    assert_eq!([of(0.0), of(-0.0), of(0.0)], [Ok(1.0), Ok(-1.0), Ok(1.0)]);
    assert_eq!(sign.traces(), 2);
    for _ in 0..3 {
        assert!(of(f64::NAN).is_ok_and(f32::is_nan));
    }
    assert_eq!(sign.traces(), 3, "a NaN is one value");
}

#[test]
fn the_precision_of_contractions_is_part_of_the_program() -> Result<()> {
    let (x, y) = (Tensor::full(&[3, 3], 0.1, DType::F32), Tensor::full(&[3, 3], 0.3, DType::F32));
    let product = jit(|(x, y): (Tensor, Tensor)| x.matmul(&y));
    let call = || product.call((x.clone(), y.clone()))?.to_vec::<f32>();
    let exact = call()?;
    for _ in 0..2 {
        for precision in Precision::ALL {
            // A processor computes with all bits.
            assert_eq!(with_matmul_precision(precision, call)?, exact);
        }
        assert_eq!(with_matmul_precision(Precision::Bf16, || with_matmul_precision(Precision::Tf32, call))?, exact);
        assert_eq!(call()?, exact);
    }
    assert_eq!(product.traces(), 5);

    // So it is of a state that stays in place, and of the derivatives of a function.
    let step = |x: Tensor, y: Tensor| (x.matmul(&y), x.sum());
    let mut bound = Jit::with_borrowed("step", step).bind(x.clone());
    for precision in [Precision::Bf16, Precision::Tf32] {
        with_matmul_precision(precision, || bound.call(y.clone()))?;
    }
    assert_eq!(bound.traces(), 2);
    let gradient = |(x, y): (Tensor, Tensor)| grad(|x: &Tensor| x.matmul(&y).tanh().sum())(&x);
    let text = with_matmul_precision(Precision::F16, || lower(gradient, &(x, y)))?.graph.to_string();
    assert_eq!(text.matches("dot_general").count(), 2, "{text}");
    assert_eq!(text.matches("precision=f16").count(), 2, "{text}");
    Ok(())
}

// ---- programs kept

#[jit(programs = 2)]
fn counted(x: &Tensor) -> Tensor {
    TRACED.fetch_add(1, Relaxed);
    x.sum()
}

static TRACED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn programs_that_were_not_used_for_the_longest_time_are_dropped() {
    let sum = jit(|x: Tensor| x.sum()).keep_programs(3);
    let call = |n: usize| assert_eq!(sum.call(Tensor::ones(&[n])).and_then(|x| x.item::<f32>()), Ok(n as f32));
    for n in [0, 1, 2, 0, 0, 1] {
        call(n);
    }
    assert_eq!((sum.traces(), sum.programs()), (3, 3));
    call(3); // 2 goes
    for n in [0, 1, 3] {
        call(n);
    }
    assert_eq!((sum.traces(), sum.programs()), (4, 3));
    call(2);
    assert_eq!((sum.traces(), sum.programs()), (5, 3));
    for n in 0..200 {
        call(n);
    }
    assert_eq!(sum.programs(), 3);

    for n in [1, 2, 1, 3, 1, 2] {
        assert_eq!(counted(&Tensor::ones(&[n])).and_then(|x| x.item::<f32>()), Ok(n as f32));
    }
    assert_eq!(TRACED.load(Relaxed), 4);

    let one = jit(|x: Tensor| x.sum()).keep_programs(0);
    for _ in 0..3 {
        assert!(one.call(ones()).is_ok());
    }
    assert_eq!((one.traces(), one.programs()), (1, 1), "the last one is always kept");
    let default = jit(|x: Tensor| x.sum());
    for n in 0..70 {
        assert!(default.call(Tensor::ones(&[n])).is_ok());
    }
    assert_eq!(default.programs(), 64);
}

/// Another thread's program may have taken the place of one's own before it is called.
#[test]
fn threads_that_share_a_small_cache_all_get_results() {
    let sum = jit(|x: Tensor| x.sum()).keep_programs(1);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let sum = &sum;
            scope.spawn(move || {
                for call in 0..40 {
                    let n = 1 + (thread + call) % 5;
                    assert_eq!(sum.call(Tensor::ones(&[n])).and_then(|x| x.item::<f32>()), Ok(n as f32));
                }
            });
        }
    });
}

#[test]
fn a_bound_state_outlives_the_program_that_keeps_it() {
    let mut bound = Jit::with_borrowed("sum", |total: Tensor, x: Tensor| (total + x.sum(), x.sum()))
        .keep_programs(1)
        .bind(Tensor::scalar(0.0f32));
    for round in 0..3 {
        for n in [1, 5, 0] {
            assert_eq!(bound.call(Tensor::ones(&[n])).and_then(|x| x.item::<f32>()), Ok(n as f32), "{round}");
        }
    }
    assert_eq!(bound.state().item::<f32>(), Ok(18.0));
}
