use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use deepmarket_job::{Layer, Model, Positions, SpecError, layer_shapes};

use crate::batch::{Step, steps};

/// What a vector of values is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is trained.
    Parameter,
    RunningMean,
    RunningVar,
}

/// How a tensor's first values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// Uniform within ±`bound`.
    Uniform {
        bound: f32,
    },
    /// Normal with mean 0 and deviation 1.
    Normal,
    Zeros,
    Ones,
}

/// A tensor's place in the flat vector.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) role: Role,
    /// Its name in the PyTorch module that computes the same as its layer.
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    /// PyTorch has it the other way round: a linear layer's weight is `[in, out]` here and `[out, in]` there.
    pub(crate) is_transposed: bool,
    pub(crate) initial: Initial,
    pub(crate) range: Range<usize>,
}

/// Layers over one flat vector: trainable parameters first, then batch-norm statistics.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) layers: Vec<Layer>,
    /// Each layer's tensors.
    pub(crate) slots: Vec<Vec<Slot>>,
    /// Trainable parameters.
    pub(crate) parameters: usize,
    /// Parameters and statistics.
    pub(crate) floats: usize,
    /// The shapes of one sample before each layer and after the last.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// How a pass goes through the layers.
    pub(crate) steps: Vec<Step>,
}

/// A parameter tensor of one pass, gradients enabled or not.
#[derive(Debug)]
pub(crate) enum Leaf {
    Vector(Tensor<1>),
    /// Further dimensions are one with the second.
    Matrix(Tensor<2>),
}

impl Network {
    pub(crate) fn new(model: &Model) -> Result<Network, SpecError> {
        let shapes = layer_shapes(model)?;
        let shapes: Vec<Vec<usize>> = shapes.iter().map(|shape| shape.iter().map(|d| *d as usize).collect()).collect();
        let mut slots: Vec<Vec<Slot>> = model.layers.iter().zip(&shapes).map(|(layer, input)| slots_of(layer, input)).collect();
        let mut floats = 0;
        let mut parameters = 0;
        for trained in [true, false] {
            for slot in slots.iter_mut().flatten().filter(|slot| (slot.role == Role::Parameter) == trained) {
                let end = floats + slot.shape.iter().product::<usize>();
                slot.range = floats..end;
                floats = end;
            }
            if trained {
                parameters = floats;
            }
        }
        let steps = steps(model, &shapes);
        Ok(Network { layers: model.layers.clone(), slots, parameters, floats, shapes, steps })
    }

    /// Some layers' parameters as tensors, in the order of the flat vector. On an autodiff device they get gradients.
    pub(crate) fn leaves(&self, layers: Range<usize>, values: &[f32], device: &Device) -> Vec<Leaf> {
        self.parameter_slots(layers)
            .map(|slot| {
                let values = values[slot.range.clone()].to_vec();
                match slot.shape[..] {
                    [length] => Leaf::Vector(tracked(Tensor::from_data(TensorData::new(values, [length]), device), device)),
                    _ => {
                        let rows = slot.shape[0];
                        let data = TensorData::new(values, [rows, slot.range.len() / rows]);
                        Leaf::Matrix(tracked(Tensor::from_data(data, device), device))
                    }
                }
            })
            .collect()
    }

    /// Some layers' trainable tensors, in order.
    pub(crate) fn parameter_slots(&self, layers: Range<usize>) -> impl Iterator<Item = &Slot> {
        self.slots[layers].iter().flatten().filter(|slot| slot.role == Role::Parameter)
    }

    /// Where a batch norm's running mean and variance lie among the statistics.
    pub(crate) fn statistics_of(&self, layer: usize) -> (Range<usize>, Range<usize>) {
        let find = |role| {
            let range = &self.slots[layer].iter().find(|slot| slot.role == role).expect("a batch norm has statistics").range;
            range.start - self.parameters..range.end - self.parameters
        };
        (find(Role::RunningMean), find(Role::RunningVar))
    }
}

/// A layer's tensors, not placed yet: names, order of gates and initial values as in PyTorch.
fn slots_of(layer: &Layer, input: &[usize]) -> Vec<Slot> {
    let slot = |name, shape: Vec<usize>, initial| Slot {
        role: Role::Parameter,
        name,
        shape,
        is_transposed: false,
        initial,
        range: 0..0,
    };
    // Uniform within ±1/√fan-in: PyTorch's default (Kaiming uniform with a = √5).
    let default = |fan_in: usize| Initial::Uniform { bound: 1.0 / (fan_in.max(1) as f32).sqrt() };
    let (first, last) = (input[0], input[input.len() - 1]);
    let linear = |weight, bias, inputs: usize, out: usize| {
        let weight = Slot { is_transposed: true, ..slot(weight, vec![inputs, out], default(inputs)) };
        [weight, slot(bias, vec![out], default(inputs))]
    };
    let norm =
        |weight, bias, features: usize| [slot(weight, vec![features], Initial::Ones), slot(bias, vec![features], Initial::Zeros)];
    // Xavier uniform over the three projections together, and no biases, as `nn.MultiheadAttention` begins.
    let attention = |in_weight, in_bias, out_weight, out_bias| {
        let bound = (6.0 / (4 * last) as f32).sqrt();
        let [weight, bias] = linear(in_weight, in_bias, last, 3 * last);
        let [out, rest] = linear(out_weight, out_bias, last, last);
        let without = |slot| Slot { initial: Initial::Zeros, ..slot };
        [Slot { initial: Initial::Uniform { bound }, ..weight }, without(bias), out, without(rest)]
    };
    let recurrent = |gates: usize, hidden: usize| {
        let rows = gates * hidden;
        vec![
            slot("weight_ih_l0", vec![rows, last], default(hidden)),
            slot("weight_hh_l0", vec![rows, hidden], default(hidden)),
            slot("bias_ih_l0", vec![rows], default(hidden)),
            slot("bias_hh_l0", vec![rows], default(hidden)),
        ]
    };
    match layer {
        Layer::Linear { out } => linear("weight", "bias", last, *out as usize).to_vec(),
        Layer::Conv2d { out, kernel, .. } => {
            let (out, kernel) = (*out as usize, *kernel as usize);
            let initial = default(first * kernel * kernel);
            vec![slot("weight", vec![out, first, kernel, kernel], initial), slot("bias", vec![out], initial)]
        }
        Layer::Conv1d { out, kernel, .. } => {
            let (out, kernel) = (*out as usize, *kernel as usize);
            let initial = default(last * kernel);
            vec![slot("weight", vec![out, last, kernel], initial), slot("bias", vec![out], initial)]
        }
        Layer::BatchNorm { .. } => {
            let [weight, bias] = norm("weight", "bias", first);
            let mean = Slot { role: Role::RunningMean, ..slot("running_mean", vec![first], Initial::Zeros) };
            let var = Slot { role: Role::RunningVar, ..slot("running_var", vec![first], Initial::Ones) };
            vec![weight, bias, mean, var]
        }
        Layer::LayerNorm { .. } => norm("weight", "bias", last).to_vec(),
        Layer::Embedding { vocabulary, out } => {
            vec![slot("weight", vec![*vocabulary as usize, *out as usize], Initial::Normal)]
        }
        Layer::PositionEmbedding { kind: Positions::Learned } => vec![slot("weight", input.to_vec(), Initial::Normal)],
        Layer::Lstm { hidden, .. } => recurrent(4, *hidden as usize),
        Layer::Gru { hidden, .. } => recurrent(3, *hidden as usize),
        Layer::Attention { .. } => attention("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias").to_vec(),
        Layer::TransformerEncoder { feed_forward, .. } => {
            let inner = *feed_forward as usize;
            let mut slots = attention(
                "self_attn.in_proj_weight",
                "self_attn.in_proj_bias",
                "self_attn.out_proj.weight",
                "self_attn.out_proj.bias",
            )
            .to_vec();
            slots.extend(linear("linear1.weight", "linear1.bias", last, inner));
            slots.extend(linear("linear2.weight", "linear2.bias", inner, last));
            slots.extend(norm("norm1.weight", "norm1.bias", last));
            slots.extend(norm("norm2.weight", "norm2.bias", last));
            slots
        }
        _ => Vec::new(),
    }
}

pub(crate) fn tracked<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

/// A tensor's values in order.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_into_vec().expect("all tensors are f32")
}
