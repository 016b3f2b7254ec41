//! Chains: a tuple of optimisers is an optimiser; each link gets the updates of the one before.

use fulgurite_jit::{Tensor, Tree};

use super::Optimizer;

/// One optimiser made of several, each of which gets the updates of the one before it.
///
/// It is a tuple: `chain![a, b]` is `(a, b)`, and its state is the tuple of their states.
///
/// ```
/// use fulgurite_trainer::chain;
/// use fulgurite_trainer::optim::{adam, clip_by_global_norm};
/// let optimizer = chain![clip_by_global_norm(1.0), adam(1e-3)];
/// ```
#[macro_export]
macro_rules! chain {
    ($($link:expr),+ $(,)?) => { ($($link,)+) };
}

macro_rules! tuples {
    ($(($($link:ident $i:tt),+);)+) => { $(
        impl<$($link: Optimizer),+> Optimizer for ($($link,)+) {
            type State<Params: Tree + Clone> = ($($link::State<Params>,)+);

            fn init<Params: Tree + Clone>(&self, params: &Params) -> Self::State<Params> {
                ($(self.$i.init(params),)+)
            }

            fn update<Params: Tree + Clone>(
                &self,
                grads: Params,
                state: Self::State<Params>,
                params: &Params,
            ) -> (Params, Self::State<Params>) {
                let updates = grads;
                // The names of the links' types serve as names of their new states.
                $(
                    #[allow(non_snake_case)]
                    let (updates, $link) = self.$i.update(updates, state.$i, params);
                )+
                (updates, ($($link,)+))
            }

            fn learning_rate<Params: Tree + Clone>(&self, state: &Self::State<Params>) -> Option<Tensor> {
                None$(.or_else(|| self.$i.learning_rate(&state.$i)))+
            }
        }
    )+ };
}
tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
}

/// The optimiser of a module that defines its whole step
/// ([`LightningModule::step`](crate::LightningModule::step)): it has no state, and its updates are the gradients.
pub fn manual() -> Manual {
    Manual
}

/// See [`manual`].
#[derive(Clone, Copy, Debug)]
pub struct Manual;

impl Optimizer for Manual {
    type State<P: Tree + Clone> = ();

    fn init<P: Tree + Clone>(&self, _: &P) {}

    fn update<P: Tree + Clone>(&self, grads: P, (): (), _: &P) -> (P, ()) {
        (grads, ())
    }
}
