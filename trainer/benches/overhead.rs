//! What the trainer costs per step: the same step in bare loops over one batch, of calls and bound to its state, and
//! under [`Trainer::fit`] with data loader, metrics, logger, callbacks and (on a terminal) the progress bar.
//!
//! `cargo bench -p fulgurite-trainer --bench overhead`

use std::sync::{Arc, Mutex};
use std::time::Instant;

use fulgurite_autodiff::value_and_grad;
use fulgurite_jit::{Key, Result, Tensor, gelu};
use fulgurite_runtime::jit;
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::optim::{Adam, adam};
use fulgurite_trainer::{
    ArrayDataset, Callback, CsvLogger, DataLoader, EarlyStopping, HookCx, LightningModule, ModelCheckpoint, Optimizer,
    StepCx, Trainer, apply_updates,
};
use ndarray::Array2;

const ROUNDS: usize = 3;
const STEPS: usize = 40_000;
const CHUNK: usize = 500;
const BATCH: usize = 16;

#[derive(Clone)]
struct Small {
    width: usize,
}

impl Small {
    fn optimizer() -> Adam {
        adam(1e-3)
    }
}

impl LightningModule for Small {
    type Model = Mlp;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Mlp {
        Mlp::new(4, 1, self.width, 2, gelu, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        Small::optimizer()
    }

    fn training_step(&self, model: &Mlp, (x, y): &Self::Batch, _: &mut StepCx) -> Tensor {
        mse(&model.call(x), y)
    }
}

fn data() -> Result<DataLoader<(Tensor, Tensor)>> {
    let x = Array2::from_shape_fn((BATCH * 100, 4), |(i, j)| ((i * 5 + j) % 17) as f32 / 17.0);
    let y = Array2::from_shape_fn((BATCH * 100, 1), |(i, _)| (i % 7) as f32 / 7.0);
    Ok(DataLoader::new(ArrayDataset::new((x, y))?).batch_size(BATCH).shuffle(true))
}

/// Microseconds per step of a bare loop, in which the state goes round, or is bound to the step.
fn bare(width: usize, bound: bool) -> Result<f64> {
    let model = jit(move |key: Key| Mlp::new(4, 1, width, 2, gelu, key)).call(Key::new(0))?;
    let opt_state = Small::optimizer().init(&model);
    let step = fulgurite_runtime::Jit::with_borrowed("bare", |(model, state), (x, y): (Tensor, Tensor)| {
        let (loss, grads) = value_and_grad(|m: &Mlp| mse(&m.call(&x), &y))(&model);
        let (updates, state) = Small::optimizer().update(grads, state, &model);
        ((apply_updates(model, updates), state), loss)
    });
    let batch = data()?.iter()?.next().expect("a batch")?.0;
    if bound {
        let mut step = step.bind((model, opt_state));
        return least_time(|| step.call(batch.clone()).map(drop));
    }
    let mut state = Some((model, opt_state));
    least_time(|| {
        let given = state.take().expect("the state of the step before");
        state = Some(step.call_with(given, batch.clone())?.0);
        Ok(())
    })
}

/// Microseconds of a step, in the fastest of several loops.
fn least_time(mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..STEPS / CHUNK {
        let start = Instant::now();
        for _ in 0..CHUNK {
            step()?;
        }
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least * 1e6 / CHUNK as f64)
}

/// The least time of so many steps in a row, in seconds.
#[derive(Clone)]
struct Clock {
    start: Instant,
    least: Arc<Mutex<f64>>,
}

impl Callback for Clock {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        if run.step().is_multiple_of(CHUNK) {
            let mut least = self.least.lock().expect("one thread");
            *least = least.min(self.start.elapsed().as_secs_f64());
            self.start = Instant::now();
        }
        Ok(())
    }
}

/// Microseconds per step under the trainer: by default, with everything on, or with batches gathered ahead.
fn trained(width: usize, everything: bool, prefetch: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let least = Arc::new(Mutex::new(f64::INFINITY));
    let clock = Clock { start: Instant::now(), least: least.clone() };
    let mut trainer = Trainer::new().max_steps(STEPS).default_root_dir(folder.path()).callback(clock);
    if everything {
        trainer = trainer
            .logger(CsvLogger::new())
            .callback(ModelCheckpoint::last().every_n_train_steps(STEPS))
            .callback(EarlyStopping::new("loss").patience(usize::MAX));
    } else {
        trainer = trainer.enable_progress_bar(false);
    }
    trainer.fit(&Small { width }, &data()?.prefetch(prefetch))?;
    let least = *least.lock().expect("one thread");
    Ok(least * 1e6 / CHUNK as f64)
}

fn main() -> Result<()> {
    println!("per step, in the fastest {CHUNK} of {STEPS} steps in a row, {ROUNDS} times in turn; batch {BATCH}");
    println!(
        "{:>6} {:>9} {:>9} {:>11} {:>9} {:>11}   trainer of call",
        "width", "call µs", "bound µs", "trainer µs", "all on µs", "prefetch µs"
    );
    for width in [1, 32, 128] {
        let mut least = [f64::INFINITY; 5];
        // In turn, so that what else the machine does falls on all alike.
        for _ in 0..ROUNDS {
            let bare = [bare(width, false)?, bare(width, true)?];
            let round =
                [bare[0], bare[1], trained(width, false, 0)?, trained(width, true, 0)?, trained(width, false, 2)?];
            least.iter_mut().zip(round).for_each(|(least, took)| *least = least.min(took));
        }
        let [call, bound, trainer, all, ahead] = least;
        let share = (trainer / call - 1.0) * 100.0;
        println!("{width:>6} {call:>9.3} {bound:>9.3} {trainer:>11.3} {all:>9.3} {ahead:>11.3}   {share:+.1} %");
    }
    Ok(())
}
