//! Recurrent cells: one step of a sequence; `scan` runs them along one.

use fulgurite_jit::random::Key;
use fulgurite_jit::{DType, Tensor, Tree};

use super::linear::uniform;

/// A gated recurrent unit (Cho et al., arXiv 1406.1078), with the numbers that `eqx.nn.GRUCell` draws.
///
/// ```
/// use fulgurite_jit::{Key, Tensor, scan};
/// use fulgurite_trainer::nn::GruCell;
///
/// fn last_state(cell: &GruCell, xs: &Tensor) -> Tensor {
///     // [steps, in] to the state after the last step.
///     scan(|h: Tensor, x: Tensor| (cell.call(&x, &h), ()), Tensor::zeros(&[8]), xs.clone()).0
/// }
/// # assert_eq!(last_state(&GruCell::new(3, 8, Key::new(0)), &Tensor::ones(&[5, 3])).shape(), [8]);
/// ```
#[derive(Clone, Debug, Tree)]
pub struct GruCell {
    /// `[3 hidden, in]`: the rows of reset, update and new state.
    pub weight_ih: Tensor,
    /// `[3 hidden, hidden]`.
    pub weight_hh: Tensor,
    /// `[3 hidden]`.
    pub bias: Tensor,
    /// `[hidden]`, inside of the reset gate.
    pub bias_n: Tensor,
}

impl GruCell {
    /// From `inp` features and a state of `hidden`, f32, uniform in ±1/√hidden.
    #[track_caller]
    pub fn new(inp: usize, hidden: usize, key: Key) -> Self {
        let [ih, hh, b, bn] = key.split();
        let draw = |key: Key, shape: &[usize]| uniform(&key, shape, hidden, DType::F32);
        GruCell {
            weight_ih: draw(ih, &[3 * hidden, inp]),
            weight_hh: draw(hh, &[3 * hidden, hidden]),
            bias: draw(b, &[3 * hidden]),
            bias_n: draw(bn, &[hidden]),
        }
    }

    /// The next state `[hidden]`, from an input `[in]` and the state `[hidden]`.
    #[track_caller]
    pub fn call(&self, x: &Tensor, h: &Tensor) -> Tensor {
        let of_input = (self.weight_ih.matmul(x) + &self.bias).split(3, 0);
        let of_state = self.weight_hh.matmul(h).split(3, 0);
        let ([xr, xz, xn], [hr, hz, hn]) = (gates(&of_input), gates(&of_state));
        let (reset, update) = ((xr + hr).sigmoid(), (xz + hz).sigmoid());
        let new = (xn + reset * (hn + &self.bias_n)).tanh();
        &new + update * (h - &new)
    }
}

/// A cell of long short-term memory (Hochreiter and Schmidhuber, 1997), with the numbers that `eqx.nn.LSTMCell` draws.
#[derive(Clone, Debug, Tree)]
pub struct LstmCell {
    /// `[4 hidden, in]`: the rows of input, forget, cell and output gate.
    pub weight_ih: Tensor,
    /// `[4 hidden, hidden]`.
    pub weight_hh: Tensor,
    /// `[4 hidden]`.
    pub bias: Tensor,
}

impl LstmCell {
    /// From `inp` features and a state of `hidden`, f32, uniform in ±1/√hidden.
    #[track_caller]
    pub fn new(inp: usize, hidden: usize, key: Key) -> Self {
        let [ih, hh, b] = key.split();
        let draw = |key: Key, shape: &[usize]| uniform(&key, shape, hidden, DType::F32);
        LstmCell {
            weight_ih: draw(ih, &[4 * hidden, inp]),
            weight_hh: draw(hh, &[4 * hidden, hidden]),
            bias: draw(b, &[4 * hidden]),
        }
    }

    /// The next hidden state and cell state, each `[hidden]`, from an input `[in]` and those before.
    #[track_caller]
    pub fn call(&self, x: &Tensor, (h, c): (&Tensor, &Tensor)) -> (Tensor, Tensor) {
        let all = (self.weight_ih.matmul(x) + self.weight_hh.matmul(h) + &self.bias).split(4, 0);
        let [i, f, g, o] = gates(&all);
        let c = f.sigmoid() * c + i.sigmoid() * g.tanh();
        (o.sigmoid() * c.tanh(), c)
    }
}

/// The parts of a split, as many as there are gates.
fn gates<const N: usize>(parts: &[Tensor]) -> [&Tensor; N] {
    std::array::from_fn(|i| parts.get(i).unwrap_or(&parts[0]))
}
