//! Ctrl-C, in a separate process.

mod common;

use std::time::Duration;

use common::{Curve, bytes, data, folder, loader, message, quiet};
use fulgurite_jit::{Error, Result};
use fulgurite_trainer::{Callback, HookCx, interrupt};

/// Asks for the end at a step, as the signal handler does.
#[derive(Clone)]
struct PressAt(usize);

impl Callback for PressAt {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        if run.step() == self.0 {
            interrupt::interrupt();
        }
        Ok(())
    }
}

/// One test, since the request goes to all runs of the process.
#[test]
fn ctrl_c_ends_a_run_that_can_go_on() -> Result<()> {
    let whole = folder();
    let expected = quiet(whole.path()).max_epochs(3).fit(&Curve, &data())?;
    for step in [1, 7, 10] {
        let folder = folder();
        let result = quiet(folder.path()).max_epochs(3).callback(PressAt(step)).fit(&Curve, &data())?;
        assert!(result.interrupted);
        // The request of step 10 comes before the validation of its epoch, which the resumed run does.
        assert_eq!((result.step, result.epoch), (step, (step - 1) / 5));
        let path = result.last_checkpoint.expect("a checkpoint is written without a callback");
        assert!(path.ends_with("test/version_0/checkpoints/last.safetensors"));
        let rest = quiet(folder.path()).max_epochs(3).ckpt_path(path).fit(&Curve, &data())?;
        assert!(!rest.interrupted);
        assert_eq!(bytes(&rest.model), bytes(&expected.model), "step {step}");
        assert_eq!(rest.metrics, expected.metrics);
    }
    #[cfg(unix)]
    a_real_signal()?;
    Ok(())
}

/// Sends this very process the signal, from a thread, while a run is on.
#[cfg(unix)]
fn a_real_signal() -> Result<()> {
    let folder = folder();
    let press = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(300));
        let id = std::process::id().to_string();
        std::process::Command::new("kill").args(["-INT", &id]).status()
    });
    let result = quiet(folder.path()).max_epochs(100_000_000).fit(&Curve, &loader())?;
    assert!(press.join().is_ok_and(|status| status.is_ok_and(|status| status.success())));
    assert!(result.interrupted && result.step > 0);
    assert!(result.last_checkpoint.is_some_and(|path| path.exists()));
    Ok(())
}

#[derive(Clone)]
struct Fails;

impl Callback for Fails {
    fn on_fit_end(&mut self, _: &mut HookCx<'_>) -> Result<()> {
        Err(Error::new("at the end"))
    }
}

#[test]
fn errors_of_hooks_end_the_run() {
    let folder = folder();
    assert_eq!(message(quiet(folder.path()).max_steps(1).callback(Fails).fit(&Curve, &data())), "at the end");
}
