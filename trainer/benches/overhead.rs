//! What the trainer costs per step: the same step in a bare loop over one batch, and under [`Trainer::fit`] with data
//! loader, metrics, logger, callbacks and (on a terminal) the progress bar.
//!
//! `cargo bench -p fulgurite-trainer --bench overhead`

use std::time::Instant;

use fulgurite_autodiff::value_and_grad;
use fulgurite_jit::{Key, Result, Tensor, gelu};
use fulgurite_runtime::jit;
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::optim::{Adam, adam};
use fulgurite_trainer::{
    ArrayDataset, CsvLogger, DataLoader, EarlyStopping, LightningModule, ModelCheckpoint, Optimizer, StepCx, Trainer,
    apply_updates,
};
use ndarray::Array2;

const STEPS: usize = 20_000;
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

/// Microseconds per step of a bare loop.
fn bare(width: usize) -> Result<f64> {
    let model = jit(move |key: Key| Mlp::new(4, 1, width, 2, gelu, key)).call(Key::new(0))?;
    let opt_state = Small::optimizer().init(&model);
    let mut state = Some((model, opt_state));
    let step = fulgurite_runtime::Jit::with_borrowed("bare", |(model, state), (x, y): (Tensor, Tensor)| {
        let (loss, grads) = value_and_grad(|m: &Mlp| mse(&m.call(&x), &y))(&model);
        let (updates, state) = Small::optimizer().update(grads, state, &model);
        ((apply_updates(model, updates), state), loss)
    });
    let batch = data()?.iter()?.next().expect("a batch")?.0;
    let mut run = |steps: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..steps {
            let given = state.take().expect("the state of the step before");
            state = Some(step.call_with(given, batch.clone())?.0);
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / steps as f64)
    };
    run(STEPS / 10)?;
    run(STEPS)
}

/// Microseconds per step under the trainer: the difference of a long and a short run, which both compile.
fn trained(width: usize, whole: bool) -> Result<f64> {
    let folder = tempfile::tempdir().map_err(fulgurite_jit::Error::from)?;
    let run = |steps: usize| -> Result<f64> {
        let mut trainer = Trainer::new().max_steps(steps).default_root_dir(folder.path());
        if whole {
            trainer = trainer
                .logger(CsvLogger::new())
                .callback(ModelCheckpoint::last().every_n_steps(STEPS))
                .callback(EarlyStopping::new("loss").patience(usize::MAX));
        } else {
            trainer = trainer.enable_progress_bar(false);
        }
        let start = Instant::now();
        trainer.fit(&Small { width }, &data()?)?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    Ok((run(STEPS + STEPS / 10)? - run(STEPS / 10)?) / STEPS as f64)
}

fn main() -> Result<()> {
    println!("{:>6} {:>12} {:>14} {:>14}", "width", "bare µs", "trainer µs", "all on µs");
    for width in [1, 32, 128] {
        println!("{width:>6} {:>12.3} {:>14.3} {:>14.3}", bare(width)?, trained(width, false)?, trained(width, true)?);
    }
    Ok(())
}
