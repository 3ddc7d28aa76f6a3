use burn::tensor::{Device, Tensor, TensorData};

use crate::{batch::swapped, network::to_vec};

/// What a recurrent layer computes at each position. Formulas and the order of gates are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Gates i, f, g, o: `c = f · c + i · g`, `h = o · tanh(c)`.
    Lstm,
    /// Gates r, z, n: `n = tanh(W x + b + r · (W' h + b'))`, `h = (1 - z) · n + z · h`.
    Gru,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// A recurrent layer over a batch of sequences, position by position on plain vectors; products of matrices by burn. As a graph
/// of burn's automatic differentiation each position would add zeros of the whole sequence's size on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    pub(crate) length: usize,
    pub(crate) inputs: usize,
    pub(crate) hidden: usize,
    /// Puts out all positions; else the last one.
    pub(crate) sequence: bool,
}

/// Its parameters: `[gates · hidden, inputs]`, `[gates · hidden, hidden]`, and two biases of `[gates · hidden]`.
pub(crate) struct RecurrentWeights<'a> {
    pub(crate) of_input: &'a [f32],
    pub(crate) of_hidden: &'a [f32],
    pub(crate) bias_of_input: &'a [f32],
    pub(crate) bias_of_hidden: &'a [f32],
}

/// What a backward pass needs of its forward pass, position by position: `[length, samples, …]`.
pub(crate) struct Memory {
    input: Vec<f32>,
    /// After their sigmoid or tanh.
    gates: Vec<f32>,
    /// LSTM: the cell's state. GRU: `W' h + b'` of gate n.
    inner: Vec<f32>,
    hidden: Vec<f32>,
}

/// What a backward pass gives.
pub(crate) struct RecurrentGradients {
    /// Of the four parameters, in their order.
    pub(crate) weights: [Vec<f32>; 4],
    /// As the input; none where nothing before it is trained.
    pub(crate) input: Option<Vec<f32>>,
}

impl Recurrent {
    /// `[samples, length, inputs]` → `[samples, length, hidden]`, or `[samples, hidden]`.
    pub(crate) fn forward(&self, weights: &RecurrentWeights, input: &[f32], samples: usize) -> (Vec<f32>, Memory) {
        let (rows, hidden) = (self.cell.gates() * self.hidden, samples * self.hidden);
        let of_input = matrix(weights.of_input, rows).transpose();
        let of_hidden = matrix(weights.of_hidden, rows).transpose();
        let mut memory = Memory {
            input: swapped(input, samples, self.length),
            gates: Vec::with_capacity(self.length * samples * rows),
            inner: Vec::with_capacity(self.length * hidden),
            hidden: Vec::with_capacity(self.length * hidden),
        };
        let zeros = vec![0.0; hidden];
        for position in 0..self.length {
            let before =
                |all: &[f32]| if position == 0 { zeros.clone() } else { at_position(all, position - 1, hidden).to_vec() };
            let (last, last_inner) = (before(&memory.hidden), before(&memory.inner));
            let x = at_position(&memory.input, position, samples * self.inputs);
            let mut of_input = to_vec(matrix(x, samples).matmul(of_input.clone()));
            let mut of_hidden = to_vec(matrix(&last, samples).matmul(of_hidden.clone()));
            add_bias(&mut of_input, weights.bias_of_input);
            add_bias(&mut of_hidden, weights.bias_of_hidden);
            for sample in 0..samples {
                let (of_input, of_hidden) = (&of_input[sample * rows..][..rows], &of_hidden[sample * rows..][..rows]);
                let own = sample * self.hidden..(sample + 1) * self.hidden;
                match self.cell {
                    Cell::Lstm => self.lstm(of_input, of_hidden, &last_inner[own], &mut memory),
                    Cell::Gru => self.gru(of_input, of_hidden, &last[own], &mut memory),
                }
            }
        }
        let output = match self.sequence {
            true => swapped(&memory.hidden, self.length, samples),
            false => memory.hidden[(self.length - 1) * hidden..].to_vec(),
        };
        (output, memory)
    }

    fn lstm(&self, of_input: &[f32], of_hidden: &[f32], last_cell: &[f32], memory: &mut Memory) {
        let n = self.hidden;
        let start = memory.gates.len();
        memory.gates.extend(of_input.iter().zip(of_hidden).enumerate().map(|(index, (a, b))| match index / n {
            2 => (a + b).tanh(),
            _ => sigmoid(a + b),
        }));
        let gates = &memory.gates[start..];
        for (j, last) in last_cell.iter().enumerate() {
            let cell = gates[n + j] * last + gates[j] * gates[2 * n + j];
            memory.inner.push(cell);
            memory.hidden.push(gates[3 * n + j] * cell.tanh());
        }
    }

    fn gru(&self, of_input: &[f32], of_hidden: &[f32], last: &[f32], memory: &mut Memory) {
        let n = self.hidden;
        let start = memory.gates.len();
        memory.gates.extend(of_input[..2 * n].iter().zip(&of_hidden[..2 * n]).map(|(a, b)| sigmoid(a + b)));
        for j in 0..n {
            let new = (of_input[2 * n + j] + memory.gates[start + j] * of_hidden[2 * n + j]).tanh();
            memory.gates.push(new);
        }
        memory.inner.extend_from_slice(&of_hidden[2 * n..]);
        let gates = &memory.gates[start..];
        for (j, last) in last.iter().enumerate() {
            let (update, new) = (gates[n + j], gates[2 * n + j]);
            memory.hidden.push((1.0 - update) * new + update * last);
        }
    }

    /// Gradients from the gradient of the output: backwards through all positions.
    pub(crate) fn backward(
        &self,
        weights: &RecurrentWeights,
        memory: &Memory,
        gradient: Vec<f32>,
        samples: usize,
        wants_input: bool,
    ) -> RecurrentGradients {
        let (rows, hidden) = (self.cell.gates() * self.hidden, samples * self.hidden);
        let (of_input, of_hidden) = (matrix(weights.of_input, rows), matrix(weights.of_hidden, rows));
        let gradient = if self.sequence { swapped(&gradient, samples, self.length) } else { gradient };
        let mut sums = [weights.of_input, weights.of_hidden, weights.bias_of_input, weights.bias_of_hidden]
            .map(|weights| vec![0.0; weights.len()]);
        let mut input = vec![0.0; if wants_input { memory.input.len() } else { 0 }];
        // By the hidden state and by the inner one, as later positions want them.
        let (mut of_last, mut of_last_inner) = (vec![0.0; hidden], vec![0.0; hidden]);
        let zeros = vec![0.0; hidden];
        for position in (0..self.length).rev() {
            if self.sequence || position + 1 == self.length {
                let start = if self.sequence { position * hidden } else { 0 };
                add_to(&mut of_last, &gradient[start..start + hidden]);
            }
            let gates = at_position(&memory.gates, position, samples * rows);
            let inner = at_position(&memory.inner, position, hidden);
            let x = at_position(&memory.input, position, samples * self.inputs);
            let before = |all| match position {
                0 => &zeros[..],
                _ => at_position(all, position - 1, hidden),
            };
            let (last, last_inner) = (before(&memory.hidden), before(&memory.inner));
            let (mut by_input, mut by_hidden) = (vec![0.0; samples * rows], vec![0.0; samples * rows]);
            for sample in 0..samples {
                let (own, all) = (sample * self.hidden..(sample + 1) * self.hidden, sample * rows..(sample + 1) * rows);
                let by = (&mut by_input[all.clone()], &mut by_hidden[all.clone()]);
                let of_last = &mut of_last[own.clone()];
                match self.cell {
                    Cell::Lstm => {
                        let cells = (&inner[own.clone()], &last_inner[own.clone()]);
                        self.lstm_backward(&gates[all], cells, of_last, &mut of_last_inner[own], by);
                    }
                    Cell::Gru => self.gru_backward(&gates[all], &inner[own.clone()], &last[own], of_last, by),
                }
            }
            let [by_input, by_hidden] = [by_input, by_hidden].map(|by| {
                let tensor = matrix(&by, samples);
                (by, tensor)
            });
            add_to(&mut sums[0], &to_vec(by_input.1.clone().transpose().matmul(matrix(x, samples))));
            add_to(&mut sums[1], &to_vec(by_hidden.1.clone().transpose().matmul(matrix(last, samples))));
            by_input.0.chunks_exact(rows).for_each(|row| add_to(&mut sums[2], row));
            by_hidden.0.chunks_exact(rows).for_each(|row| add_to(&mut sums[3], row));
            if wants_input {
                let width = samples * self.inputs;
                input[position * width..][..width].copy_from_slice(&to_vec(by_input.1.matmul(of_input.clone())));
            }
            add_to(&mut of_last, &to_vec(by_hidden.1.matmul(of_hidden.clone())));
        }
        RecurrentGradients { weights: sums, input: wants_input.then(|| swapped(&input, self.length, samples)) }
    }

    /// One sample's at one position. `of_hidden` comes as the gradient of this position's hidden state and leaves as what the
    /// position before gets beside the gates; `of_cell` likewise.
    fn lstm_backward(
        &self,
        gates: &[f32],
        (cells, last_cells): (&[f32], &[f32]),
        of_hidden: &mut [f32],
        of_cell: &mut [f32],
        (by_input, by_hidden): (&mut [f32], &mut [f32]),
    ) {
        let n = self.hidden;
        for j in 0..n {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * n + j]);
            let shown = cells[j].tanh();
            let of = of_cell[j] + of_hidden[j] * o * (1.0 - shown * shown);
            by_input[j] = of * g * i * (1.0 - i);
            by_input[n + j] = of * last_cells[j] * f * (1.0 - f);
            by_input[2 * n + j] = of * i * (1.0 - g * g);
            by_input[3 * n + j] = of_hidden[j] * shown * o * (1.0 - o);
            of_cell[j] = of * f;
            of_hidden[j] = 0.0;
        }
        by_hidden.copy_from_slice(by_input);
    }

    /// As [`Self::lstm_backward`].
    fn gru_backward(
        &self,
        gates: &[f32],
        inner: &[f32],
        last: &[f32],
        of_hidden: &mut [f32],
        (by_input, by_hidden): (&mut [f32], &mut [f32]),
    ) {
        let n = self.hidden;
        for j in 0..n {
            let [r, z, new] = [0, 1, 2].map(|gate| gates[gate * n + j]);
            let of_new = of_hidden[j] * (1.0 - z) * (1.0 - new * new);
            by_input[j] = of_new * inner[j] * r * (1.0 - r);
            by_input[n + j] = of_hidden[j] * (last[j] - new) * z * (1.0 - z);
            by_input[2 * n + j] = of_new;
            by_hidden[2 * n + j] = of_new * r;
            of_hidden[j] *= z;
        }
        by_hidden[..2 * n].copy_from_slice(&by_input[..2 * n]);
    }
}

fn at_position(all: &[f32], position: usize, width: usize) -> &[f32] {
    &all[position * width..(position + 1) * width]
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn add_bias(rows: &mut [f32], bias: &[f32]) {
    rows.chunks_exact_mut(bias.len()).for_each(|row| add_to(row, bias));
}

fn add_to(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

fn matrix(values: &[f32], rows: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), &Device::flex())
}
