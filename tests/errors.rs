//! Mistakes of users: each comes back as an error that names the op, what it was given, and the user's line.
//!
//! Never a panic, and nothing is left behind: a good call right after a mistake works. `tests/golden/errors.txt` has
//! the messages.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fulgurite::compiler::graph::DotAxes;
use fulgurite::compiler::trace::tracing;
use fulgurite::prelude::*;
use fulgurite::trainer::data::MnistData;
use fulgurite::trainer::{FitResult, checkpoint, loss, nn};
use fulgurite::{Array, Element, TensorType, linalg, linearize, vmap_out};

/// A function with a mistake in it.
struct Mistake {
    name: &'static str,
    /// Where it is written.
    line: u32,
    args: fn() -> Vec<Tensor>,
    run: fn(&[Tensor]) -> Tensor,
}

/// A mistake: its name, and a function of tensors of these types.
macro_rules! mistake {
    ($name:literal, |$($x:ident: $t:ident[$($n:literal),*]),*| $body:expr) => {
        Mistake {
            name: $name,
            line: line!(),
            args: || vec![$(zeros::<$t>(&[$($n),*])),*],
            run: |args| {
                let [$($x),*] = args else { unreachable!("as many as there are types") };
                $body
            },
        }
    };
}

fn zeros<T: Element>(shape: &[usize]) -> Tensor {
    Array::zeros(&TensorType::new(T::DTYPE, shape)).expect("small").into()
}

fn dot(batch: &[(usize, usize)], contract: &[(usize, usize)]) -> DotAxes {
    DotAxes { batch: batch.iter().copied().collect(), contract: contract.iter().copied().collect() }
}

fn mistakes() -> Vec<Mistake> {
    vec![
        mistake!("add", |x: f32[2, 3], y: f32[2, 4]| x + y),
        mistake!("compare", |x: f32[2, 3], y: i32[4]| x.less(y)),
        mistake!("matmul: inner extents", |x: f32[2, 3], y: f32[4, 5]| x.matmul(y)),
        mistake!("matmul: a scalar", |x: f32[2, 3], y: f32[]| x.matmul(y)),
        mistake!("matmul: batches", |x: f32[2, 3, 4], y: f32[3, 4, 5]| x.matmul(y)),
        mistake!("matmul: integers", |x: i32[2, 3], y: i32[4, 5]| x.matmul(y)),
        mistake!("dot_general: extents", |x: f32[2, 3], y: f32[4, 2]| x.dot_general(y, dot(&[], &[(1, 0)]))),
        mistake!("dot_general: no axis", |x: f32[2, 3], y: f32[3, 2]| x.dot_general(y, dot(&[(2, 0)], &[]))),
        mistake!("dot_general: twice", |x: f32[3, 3], y: f32[3, 3]| x.dot_general(y, dot(&[(0, 0)], &[(0, 1)]))),
        mistake!("dot_general: types", |x: f32[2, 3], y: f64[3, 2]| x.dot_general(y, dot(&[], &[(1, 0)]))),
        mistake!("select: a float predicate", |x: f32[3], y: f32[3]| x.select(y, 0.0)),
        mistake!("select: shapes", |p: bool[4], x: f32[3], y: f32[3]| p.select(x, y)),
        mistake!("select: branches", |p: bool[3], x: f32[3], y: f32[2]| p.select(x, y)),
        mistake!("concat: shapes", |x: f32[2, 3], y: f32[2, 4]| Tensor::concat(&[x, y], 0)),
        mistake!("concat: element types", |x: f32[2, 3], y: i32[2, 3]| Tensor::concat(&[x, y], 0)),
        mistake!("concat: no axis", |x: f32[2, 3], y: f32[2, 3]| Tensor::concat(&[x, y], 2)),
        mistake!("stack", |x: f32[2, 3], y: f32[2]| Tensor::stack(&[x, y], 0)),
        mistake!("stack: no axis", |x: f32[2, 3]| Tensor::stack(&[x, x], 3)),
        mistake!("stack: nothing", |x: f32[2, 3]| x + Tensor::stack(&[], 0)),
        mistake!("split: into none", |x: f32[0, 3]| &x.split(0, 0)[0] + 1.0),
        mistake!("split", |x: f32[2, 7]| &x.split(3, 1)[0] + 1.0),
        mistake!("reshape", |x: f32[2, 3]| x.reshape(&[4, 2])),
        mistake!("broadcast_to", |x: f32[2, 3]| x.broadcast_to(&[3, 2])),
        mistake!("broadcast_to: fewer axes", |x: f32[2, 3]| x.broadcast_to(&[3])),
        mistake!("broadcast_in_dim", |x: f32[2, 3]| x.broadcast_in_dim(&[2, 3, 4], &[1, 0])),
        mistake!("expand_dims", |x: f32[2, 3]| x.expand_dims(3)),
        mistake!("squeeze: not a unit axis", |x: f32[2, 3]| x.squeeze(0)),
        mistake!("squeeze: no axis", |x: f32[2, 1]| x.squeeze(2)),
        mistake!("transpose", |x: f32[2, 3]| x.transpose(&[0, 0])),
        mistake!("move_axis", |x: f32[2, 3]| x.move_axis(0, 2)),
        mistake!("rev", |x: f32[2, 3]| x.rev(&[1, 1])),
        mistake!("roll", |x: f32[2, 3]| x.roll(1, 2)),
        mistake!("slice: beyond the end", |x: f32[2, 3]| x.slice(&[0, 1], &[2, 4], &[1, 1])),
        mistake!("slice: stride 0", |x: f32[2, 3]| x.slice(&[0, 0], &[2, 3], &[1, 0])),
        mistake!("slice: one axis of two", |x: f32[2, 3]| x.slice(&[0], &[1], &[1])),
        mistake!("slice_in_dim", |x: f32[2, 3]| x.slice_in_dim(2, 0..1)),
        mistake!("index_in_dim: beyond the end", |x: f32[2, 3]| x.index_in_dim(2, 0)),
        mistake!("index_in_dim: a scalar", |x: f32[]| x.index_in_dim(0, 0)),
        mistake!("pad: one axis of two", |x: f32[2, 3]| x.pad(0.0, &[1], &[1], &[0])),
        mistake!("pad: cut to nothing and more", |x: f32[3]| x.pad(0.0, &[-2], &[-2], &[0])),
        mistake!("pad: another element type", |x: i32[3]| x.pad(0.5, &[1], &[1], &[0])),
        mistake!("sum: no axis", |x: f32[2, 3]| x.sum_axes(2)),
        mistake!("max: an axis twice", |x: f32[2, 3]| x.max_axes([0, -2])),
        mistake!("mean: no axis", |x: f32[2, 3]| x.mean_axes(-3)),
        mistake!("var: no axis", |x: f32[2, 3]| x.var_keep(5)),
        mistake!("sub: truth values", |x: bool[3], y: bool[3]| x - y),
        mistake!("all: floats", |x: f32[3]| x.all()),
        mistake!("argmax: no axis", |x: f32[2, 3]| x.argmax(2)),
        mistake!("argmax: of nothing", |x: f32[2, 0]| x.argmax(1)),
        mistake!("softmax: no axis", |x: f32[2, 3]| softmax(x, 2)),
        mistake!("sin: integers", |x: i32[3]| x.sin()),
        mistake!("neg: truth values", |x: bool[3]| -x),
        mistake!("and: floats", |x: f32[3], y: f32[3]| x.and(y)),
        mistake!("shift: floats", |x: f32[3]| x.shift_left(2)),
        mistake!("shift: by a float", |x: i32[3]| x.shift_left(0.5)),
        mistake!("bitcast: size", |x: f32[3]| x.bitcast(DType::F64)),
        mistake!("iota: no axis", |x: f32[3]| Tensor::iota(DType::F32, x.shape(), 1)),
        mistake!("iota: truth values", |x: bool[3]| Tensor::iota(x.dtype(), &[2], 0)),
        mistake!("one_hot: truth values", |x: bool[3]| one_hot(x, 4)),
        mistake!("a key of three words", |x: f32[3]| Key::wrap_key_data(x.clone()).normal(&[2])),
        mistake!("cross_entropy: float labels", |x: f32[4, 3], y: f32[4]| cross_entropy(x, y)),
        mistake!("cross_entropy: too many labels", |x: f32[4, 3], y: i32[4, 3]| cross_entropy(x, y).mean()),
        mistake!("mse: shapes", |x: f32[4, 1], y: f32[4]| mse(x, y)),
        mistake!("huber: shapes", |x: f32[4, 1], y: f32[4]| loss::huber(x, y, 1.0).mean()),
        mistake!("a layer: features", |x: f32[2, 4]| nn::Linear::new(3, 5, Key::new(0)).call(x)),
        mistake!("grad: not a scalar", |x: f32[3]| grad(|x: &Tensor| x * 2.0)(x)),
        mistake!("grad: an integer", |x: i32[3]| grad(|x: &Tensor| x.sum())(x)),
        mistake!("grad: a mistake inside", |x: f32[3]| grad(|x: &Tensor| (x + Tensor::ones(&[4])).sum())(x)),
        mistake!("grad of grad: not a scalar", |x: f32[3]| grad(|x: &Tensor| grad(|x: &Tensor| x.sin())(x).sum())(x)),
        mistake!("jvp: tangent", |x: f32[3], dx: f32[2]| jvp(|x: &Tensor| x.sin(), x, dx).1),
        mistake!("vjp: cotangent", |x: f32[3], ct: f32[2]| vjp(|x: &Tensor| x.sin(), x).1(ct)),
        mistake!("linearize: tangent", |x: f32[3], dx: f32[2]| linearize(|x: &Tensor| x.sin(), x).1(dx)),
        mistake!("vmap: extents", |x: f32[2, 3], y: f32[4, 3]| {
            vmap(|(x, y): (Tensor, Tensor)| x + y, 0)((x.clone(), y.clone()))
        }),
        mistake!("vmap: no axis", |x: f32[2, 3]| vmap(|x: Tensor| x.sin(), 2)(x.clone())),
        mistake!("vmap: nothing mapped", |x: f32[2, 3]| vmap(|x: Tensor| x.sin(), None)(x.clone())),
        mistake!("vmap: more axes than parts", |x: f32[2, 3]| vmap(|x: Tensor| x.sin(), (0, 0))(x.clone())),
        mistake!("vmap: out_axes", |x: f32[2]| vmap_out(|x: Tensor| x.sin(), 0, 1)(x.clone())),
        mistake!("vmap: a mistake inside", |x: f32[2, 3]| vmap(|x: Tensor| x.matmul(&Tensor::ones(&[2])), 0)(x.clone())),
        mistake!("vmap of grad: a mistake inside", |x: f32[2, 3]| {
            vmap(|x: Tensor| grad(|x: &Tensor| x.reshape(&[2, 2]).sum())(&x), 0)(x.clone())
        }),
        mistake!("the first of two mistakes", |x: f32[2, 3]| x.reshape(&[7]) + x.sum_axes(9)),
        mistake!("cholesky: integers", |x: i32[3, 3]| linalg::cholesky(x)),
        mistake!("cholesky: bools", |x: bool[3, 3]| linalg::cholesky(x)),
        mistake!("cholesky: not square", |x: f32[2, 3, 4]| linalg::cholesky(x)),
        mistake!("cholesky: a vector", |x: f32[3]| linalg::cholesky(x)),
        mistake!("triangular_solve: integers", |a: i32[3, 3], b: i32[3, 2]| solve(a, b)),
        mistake!("triangular_solve: types", |a: f32[3, 3], b: f64[3, 2]| solve(a, b)),
        mistake!("triangular_solve: not square", |a: f32[3, 4], b: f32[3, 2]| solve(a, b)),
        mistake!("triangular_solve: order", |a: f32[3, 3], b: f32[4, 3]| solve(a, b)),
        mistake!("triangular_solve: one column", |a: f32[3, 3], b: f32[4]| solve(a, b)),
        mistake!("triangular_solve: batches", |a: f32[2, 3, 3], b: f32[4, 3, 2]| solve(a, b)),
        mistake!("triangular_solve: rank", |a: f32[3, 3], b: f32[4, 3, 2]| solve(a, b)),
        mistake!("triangular_solve: a vector and a scalar", |a: f32[3], b: f32[]| solve(a, b)),
    ]
}

#[track_caller]
fn solve(a: &Tensor, b: &Tensor) -> Tensor {
    let how = linalg::Triangular { left_side: true, lower: true, ..Default::default() };
    linalg::triangular_solve(a, b, how)
}

/// The error of a mistake: the same from a compiled function and from the result of an eager one.
fn error_of(mistake: &Mistake) -> Error {
    let (args, run) = ((mistake.args)(), mistake.run);
    let compiled = Jit::with_borrowed(mistake.name, move |(): (), args: Vec<Tensor>| run(&args));
    let name = mistake.name;
    let error = compiled.call_with((), args.clone()).err().unwrap_or_else(|| panic!("{name}: no error"));
    good_calls_work();
    let eager = run(&args).array().err().unwrap_or_else(|| panic!("{name}: no error of the eager result"));
    assert_eq!(eager, error, "{name}: eager and compiled");
    // A mistake is one every time, and an argument that is the result of one is that one again.
    assert_eq!(compiled.call_with((), args.clone()).err(), Some(error.clone()), "{name}");
    assert_eq!(jit(|x: Tensor| x + 1.0).call(run(&args)).err(), Some(error.clone()), "{name}");
    let at = error.location().unwrap_or_else(|| panic!("{name}: no line in `{error}`"));
    assert!(at.file().ends_with("errors.rs"), "{name}: {error}");
    assert!((mistake.line..mistake.line + 3).contains(&at.line()), "{name} is in line {}: {error}", mistake.line);
    error
}

#[track_caller]
fn good_calls_work() {
    assert!(!tracing(), "a trace is left behind");
    let sum = jit(|(x, y): (Tensor, Tensor)| grad(|x: &Tensor| (x * &y).sum())(&x));
    let args = (zeros::<f32>(&[2]), Tensor::ones(&[2]));
    let result = sum.call(args).and_then(|x| x.to_vec::<f32>());
    assert_eq!(result, Ok(vec![1.0, 1.0]));
    assert_eq!((Tensor::ones(&[2]) + 1.0).to_vec::<f32>(), Ok(vec![2.0, 2.0]));
}

#[test]
fn messages() {
    let mut text = String::new();
    let mut faults = Vec::new();
    for mistake in mistakes() {
        match catch_unwind(|| error_of(&mistake)) {
            Ok(error) => text += &format!("{}\n    {error}\n", mistake.name),
            Err(_) => faults.push(mistake.name),
        }
    }
    assert!(faults.is_empty(), "these did not end as they should, see above: {faults:#?}");
    for (name, error) in host_mistakes() {
        text += &format!("{name}\n    {error}\n");
        good_calls_work();
    }
    // Paths are written as on Unix, and without what differs between machines.
    let text = text.replace('\\', "/").replace(&env!("CARGO_TARGET_TMPDIR").replace('\\', "/"), "TMP");
    common::golden("errors.txt", &text);
}

// ---- mistakes outside of traced functions

/// A model that is one tensor, f32[3], and what is to be its training step.
#[derive(Clone)]
struct Fit(fn(&Tensor, &(Tensor, Tensor), &mut StepCx) -> Tensor);

impl LightningModule for Fit {
    type Model = Tensor;
    type Batch = (Tensor, Tensor);

    fn init(&self, _: Key) -> Tensor {
        Tensor::zeros(&[3])
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        sgd(0.1)
    }

    fn training_step(&self, model: &Tensor, batch: &Self::Batch, cx: &mut StepCx) -> Tensor {
        (self.0)(model, batch, cx)
    }
}

const GOOD: Fit = Fit(|model, (x, y), _| mse(&x.matmul(model), y));

fn dataset(rows: usize) -> ArrayDataset<(Tensor, Tensor)> {
    ArrayDataset::from_tree((zeros::<f32>(&[rows, 3]), zeros::<f32>(&[rows]))).expect("as many rows in both")
}

fn loader() -> DataLoader<(Tensor, Tensor)> {
    DataLoader::new(dataset(6)).batch_size(2)
}

fn trainer() -> Trainer {
    Trainer::new().default_root_dir(common::folder("errors")).max_steps(2).enable_progress_bar(false)
}

fn host_mistakes() -> Vec<(&'static str, Error)> {
    let mut all = Vec::new();
    let mut add =
        |name, result: Result<()>| all.push((name, result.err().unwrap_or_else(|| panic!("{name}: no error"))));
    let fit = |module: &Fit| trainer().fit(module, &loader()).map(|_: FitResult<Tensor>| ());
    assert_eq!(fit(&GOOD), Ok(()));
    add("a loss that is no scalar", fit(&Fit(|model, (x, y), _| x.matmul(model) - y)));
    add("an integer loss", fit(&Fit(|model, _, _| model.convert(DType::I32).sum())));
    add("a step with a mistake", fit(&Fit(|model, (x, _), _| model.matmul(x).sum())));
    add(
        "a logged tensor that is no scalar",
        fit(&Fit(|model, (x, y), cx| {
            cx.log("rows", x.matmul(model));
            mse(&x.matmul(model), y)
        })),
    );
    add(
        "a name logged twice",
        fit(&Fit(|model, (x, y), cx| {
            (0..2).for_each(|_| cx.log("mean", x.mean()));
            mse(&x.matmul(model), y)
        })),
    );
    add("a metric that does not exist", {
        let result =
            trainer().max_epochs(1).max_steps(9).callback(EarlyStopping::new("val_loss")).fit(&GOOD, &loader());
        result.map(drop)
    });
    add("log_every_n_steps 0", trainer().log_every_n_steps(0).fit(&GOOD, &loader()).map(drop));
    add("no batches", trainer().limit_train_batches(0).fit(&GOOD, &loader()).map(drop));
    add("batch size 0", trainer().fit(&GOOD, &loader().batch_size(0)).map(drop));
    add("an empty dataset", trainer().fit(&GOOD, &DataLoader::new(dataset(0))).map(drop));
    add("a batch that is never full", loader().batch_size(7).drop_last(true).iter().map(drop));
    let rows = (zeros::<f32>(&[4, 3]), zeros::<f32>(&[5]));
    add("arrays of different lengths", ArrayDataset::from_tree(rows).map(drop));
    add("an array of one number", ArrayDataset::from_tree(zeros::<f32>(&[])).map(drop));
    let digits = MnistData::new(common::folder("errors-data").join("mnist"));
    add("a folder that does not exist", trainer().fit(&GOOD, &digits).map(drop));

    let file = common::folder("errors-checkpoints").join("model.safetensors");
    let saved = (zeros::<f32>(&[2, 3]), zeros::<i32>(&[]));
    checkpoint::save(&file, &saved).expect("it can be written");
    add("a checkpoint of other shapes", checkpoint::load(&file, &(zeros::<f32>(&[3, 2]), zeros::<i32>(&[]))).map(drop));
    add("a checkpoint of more", checkpoint::load(&file, &(saved.0.clone(),)).map(drop));
    add("a checkpoint of less", checkpoint::load(&file, &(saved.clone(), saved.0.clone())).map(drop));
    add("a checkpoint of another model", trainer().ckpt_path(&file).fit(&GOOD, &loader()).map(drop));
    std::fs::write(&file, "not a checkpoint").expect("it can be written");
    add("a checkpoint that is none", checkpoint::load(&file, &saved).map(drop));

    add("too few elements", Tensor::from_vec(&[2, 3], vec![0.0f32; 5]).map(drop));
    add("read as another type", zeros::<f32>(&[3]).to_vec::<i32>().map(drop));
    add("item of three", zeros::<f32>(&[3]).item::<f32>().map(drop));
    all
}

// ---- traces

#[test]
fn a_traced_tensor_has_no_data() {
    let read = jit(|x: Tensor| match x.item::<f32>() {
        Ok(value) => Tensor::scalar(value),
        Err(error) => Tensor::failed(x.ty().clone(), error),
    });
    let error = read.call(Tensor::scalar(1.0f32)).expect_err("there is nothing to read yet");
    let expected = "item: a traced f32[] has no data yet: return it from the compiled function, and read it there; to \
                    choose by its value inside, use `select`";
    assert_eq!(error.message(), expected);
    good_calls_work();
}

#[test]
fn a_tensor_that_has_left_its_trace_is_an_error() {
    static LEAKED: Mutex<Option<Tensor>> = Mutex::new(None);
    let leak = jit(|x: Tensor| {
        *LEAKED.lock().expect("no other thread") = Some(&x + 1.0);
        x
    });
    leak.call(Tensor::ones(&[2])).expect("the leak itself is no mistake");
    fn leaked() -> Tensor {
        LEAKED.lock().expect("no other thread").clone().expect("a tensor has leaked")
    }

    let (here, eager) = (line!(), leaked() * 2.0);
    let eager = eager.to_vec::<f32>().expect_err("the trace has ended");
    let inside = jit(|x: Tensor| x + leaked()).call(Tensor::ones(&[2])).expect_err("the trace has ended");
    let returned = jit(|_: Tensor| leaked()).call(Tensor::ones(&[2])).expect_err("the trace has ended");
    let passed = jit(|x: Tensor| x).call(leaked()).expect_err("the trace has ended");
    let gradient = grad(|x: &Tensor| (x * leaked()).sum())(&Tensor::ones(&[2]));
    let gradient = gradient.to_vec::<f32>().expect_err("the trace has ended");
    for (error, line) in [(&eager, here), (&inside, here + 2), (&gradient, here + 5)] {
        let at = error.location().map(|at| (at.file().ends_with("errors.rs"), at.line()));
        assert_eq!(at, Some((true, line)), "{error}");
    }
    for error in [eager, inside, returned, passed, gradient] {
        assert!(error.to_string().contains("after the trace had ended"), "{error}");
    }
    good_calls_work();
}

/// The user's own panics pass through, and leave everything as it was.
#[test]
fn a_panic_in_a_traced_function_leaves_the_thread_usable() {
    fn panics() -> Tensor {
        panic!("the user's own")
    }
    let traced: [Box<dyn Fn()>; 4] = [
        Box::new(|| drop(jit(|_: Tensor| panics()).call(Tensor::ones(&[2])))),
        Box::new(|| drop(grad(|_: &Tensor| panics())(&Tensor::ones(&[2])))),
        Box::new(|| drop(vmap(|_: Tensor| panics(), 0)(Tensor::ones(&[2])))),
        Box::new(|| {
            drop(jit(|x: Tensor| vmap(|x: Tensor| grad(|_: &Tensor| panics())(&x), 0)(x)).call(Tensor::ones(&[2])))
        }),
    ];
    for run in traced {
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the panic passes through");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the user's own"));
        good_calls_work();
    }

    // Inside of another trace, which goes on.
    let outer = jit(|x: Tensor| {
        let caught = catch_unwind(AssertUnwindSafe(|| grad(|_: &Tensor| panics())(&x)));
        assert!(caught.is_err() && tracing());
        x + 1.0
    });
    assert_eq!(outer.call(Tensor::ones(&[1])).and_then(|x| x.item::<f32>()), Ok(2.0));

    // The function itself can be called again, from this thread and from others.
    static BAD: AtomicBool = AtomicBool::new(true);
    let moody = jit(|x: Tensor| if BAD.load(Relaxed) { panic!("not now") } else { x * 2.0 });
    assert!(catch_unwind(AssertUnwindSafe(|| moody.call(Tensor::ones(&[1])))).is_err());
    BAD.store(false, Relaxed);
    let call = || moody.call(Tensor::ones(&[1])).and_then(|x| x.item::<f32>());
    assert_eq!(call(), Ok(2.0));
    std::thread::scope(|scope| assert_eq!(scope.spawn(call).join().ok(), Some(Ok(2.0))));
    good_calls_work();
}
