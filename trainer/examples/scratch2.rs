//! x
use fulgurite_jit::*;
use fulgurite_trainer::data::MnistData;
use fulgurite_trainer::loss::*;
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::optim::*;
use fulgurite_trainer::*;
#[derive(Clone)]
struct Digits;
impl LightningModule for Digits {
    type Model = Mlp;
    type Batch = (Tensor, Tensor);
    fn init(&self, key: Key) -> Mlp {
        Mlp::new(784, 10, 128, 1, gelu, key)
    }
    fn configure_optimizers(&self) -> impl Optimizer {
        chain![clip_by_global_norm(1.0), adam(cosine_decay(1e-3, 5_000))]
    }
    fn training_step(&self, m: &Mlp, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let logits = m.call(x);
        cx.log("acc", accuracy(&logits, y));
        cross_entropy(&logits, y).mean()
    }
    fn validation_step(&self, m: &Mlp, (x, y): &Self::Batch, cx: &mut StepCx) {
        cx.log("val_acc", accuracy(&m.call(x), y));
        cx.log("val_loss", cross_entropy(&m.call(x), y).mean());
    }
}
fn main() -> Result<()> {
    let s = std::time::Instant::now();
    let r = Trainer::new()
        .max_epochs(20)
        .default_root_dir("/tmp/runs")
        .name("digits")
        .callback(ModelCheckpoint::best("val_acc"))
        .callback(EarlyStopping::new("val_loss"))
        .logger(CsvLogger::new())
        .fit(&Digits, &MnistData::new("/work/shared/data/mnist").batch_size(64))?;
    println!("{} {:?} {:?} {} {:?}", r.metrics, r.best_checkpoint, r.stopped, r.step, s.elapsed());
    Ok(())
}
