use std::ops::Range;

use burn::tensor::{
    Device, Tensor, TensorData, activation,
    module::{avg_pool2d, batch_norm, batch_norm_train, conv2d, layer_norm, linear, max_pool2d},
    ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions},
};
use deepmarket_job::{Decimal, Layer, Model, SpecError, layer_shapes};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use crate::optimizer::float;

/// What a vector of values is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Weight,
    Bias,
    RunningMean,
    RunningVar,
}

impl Role {
    /// Its name in a PyTorch module.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Bias => "bias",
            Role::RunningMean => "running_mean",
            Role::RunningVar => "running_var",
        }
    }
}

/// A tensor's place in the flat vector.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) role: Role,
    /// As burn has it: a linear layer's weight is `[in, out]`, PyTorch's is `[out, in]`.
    pub(crate) shape: Vec<usize>,
    pub(crate) range: Range<usize>,
}

/// A layer's tensors, and how many inputs one of its outputs sums.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerSlots {
    pub(crate) slots: Vec<Slot>,
    pub(crate) fan_in: usize,
}

/// A stack of layers over one flat vector: trainable parameters first, then batch-norm statistics.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) layers: Vec<Layer>,
    pub(crate) slots: Vec<LayerSlots>,
    /// Trainable parameters.
    pub(crate) parameters: usize,
    /// Parameters and statistics.
    pub(crate) floats: usize,
    input: Vec<usize>,
}

/// Activations of a batch: `[samples, features]` or `[samples, channels, height, width]`.
#[derive(Clone, Debug)]
pub(crate) enum Activations {
    Flat(Tensor<2>),
    Image(Tensor<4>),
}

/// Tensors of one forward pass: the parameters of all layers in order, gradients enabled or not.
#[derive(Debug)]
pub(crate) enum Leaf {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
    Kernel(Tensor<4>),
}

/// What a training pass has beside an evaluating one.
pub(crate) struct TrainingPass<'a> {
    /// Decides dropout.
    pub(crate) rng: ChaCha8Rng,
    /// The running statistics, updated by the pass: the tail of the flat vector.
    pub(crate) statistics: &'a mut [f32],
}

impl Network {
    pub(crate) fn new(model: &Model) -> Result<Network, SpecError> {
        let shapes = layer_shapes(&model.input, &model.layers)?;
        let mut network = Network {
            layers: model.layers.clone(),
            slots: vec![LayerSlots::default(); model.layers.len()],
            parameters: 0,
            floats: 0,
            input: shapes[0].iter().map(|d| *d as usize).collect(),
        };
        for statistics in [false, true] {
            for (index, layer) in model.layers.iter().enumerate() {
                let inputs = shapes[index][0] as usize;
                let tensors = match (layer, statistics) {
                    (Layer::Linear { out }, false) => {
                        network.slots[index].fan_in = inputs;
                        vec![(Role::Weight, vec![inputs, *out as usize]), (Role::Bias, vec![*out as usize])]
                    }
                    (Layer::Conv2d { out, kernel, .. }, false) => {
                        let (out, kernel) = (*out as usize, *kernel as usize);
                        network.slots[index].fan_in = inputs * kernel * kernel;
                        vec![(Role::Weight, vec![out, inputs, kernel, kernel]), (Role::Bias, vec![out])]
                    }
                    (Layer::BatchNorm { .. } | Layer::LayerNorm { .. }, false) => {
                        vec![(Role::Weight, vec![inputs]), (Role::Bias, vec![inputs])]
                    }
                    (Layer::BatchNorm { .. }, true) => {
                        vec![(Role::RunningMean, vec![inputs]), (Role::RunningVar, vec![inputs])]
                    }
                    _ => Vec::new(),
                };
                for (role, shape) in tensors {
                    let end = network.floats + shape.iter().product::<usize>();
                    network.slots[index].slots.push(Slot { role, shape, range: network.floats..end });
                    network.floats = end;
                }
            }
            if !statistics {
                network.parameters = network.floats;
            }
        }
        Ok(network)
    }

    /// The parameters as tensors, in the order of the flat vector. On an autodiff device they get gradients.
    pub(crate) fn leaves(&self, values: &[f32], device: &Device) -> Vec<Leaf> {
        self.parameter_slots()
            .map(|slot| {
                let data = TensorData::new(values[slot.range.clone()].to_vec(), slot.shape.clone());
                match slot.shape.len() {
                    1 => Leaf::Vector(tracked(Tensor::from_data(data, device), device)),
                    2 => Leaf::Matrix(tracked(Tensor::from_data(data, device), device)),
                    _ => Leaf::Kernel(tracked(Tensor::from_data(data, device), device)),
                }
            })
            .collect()
    }

    pub(crate) fn parameter_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flat_map(|layer| &layer.slots).filter(|slot| matches!(slot.role, Role::Weight | Role::Bias))
    }

    /// A batch of inputs as a tensor.
    pub(crate) fn input(&self, features: Vec<f32>, samples: usize, device: &Device) -> Activations {
        let shape: Vec<usize> = [samples].into_iter().chain(self.input.iter().copied()).collect();
        let data = TensorData::new(features, shape);
        match self.input.len() {
            1 => Activations::Flat(Tensor::from_data(data, device)),
            _ => Activations::Image(Tensor::from_data(data, device)),
        }
    }

    /// The outputs of a batch: `[samples, outputs]`. The spec's check made sure that all shapes fit.
    pub(crate) fn forward(
        &self,
        leaves: &[Leaf],
        statistics: &[f32],
        mut x: Activations,
        mut training: Option<&mut TrainingPass>,
    ) -> Tensor<2> {
        let mut leaves = leaves.iter();
        for (layer, slots) in self.layers.iter().zip(&self.slots) {
            let mut vector = || match leaves.next() {
                Some(Leaf::Vector(tensor)) => tensor.clone(),
                other => unreachable!("a vector is next, not {other:?}"),
            };
            x = match (*layer, x) {
                (Layer::Relu, x) => x.map(activation::relu, activation::relu),
                (Layer::Gelu, x) => x.map(activation::gelu, activation::gelu),
                (Layer::Sigmoid, x) => x.map(activation::sigmoid, activation::sigmoid),
                (Layer::Tanh, x) => x.map(activation::tanh, activation::tanh),
                (Layer::Softmax, x) => Activations::Flat(activation::softmax(x.flat(), 1)),
                (Layer::Flatten, x) => Activations::Flat(x.flat()),
                (Layer::Dropout { rate }, x) => match &mut training {
                    Some(pass) => dropout(x, rate, &mut pass.rng),
                    None => x,
                },
                (Layer::MaxPool2d { kernel, stride, padding }, x) => {
                    let options = MaxPoolOptions::new(square(kernel)).with_stride(square(stride)).with_padding(square(padding));
                    Activations::Image(max_pool2d(x.image(), options))
                }
                (Layer::AvgPool2d { kernel, stride, padding }, x) => {
                    let options = AvgPoolOptions::new(square(kernel)).with_stride(square(stride)).with_padding(square(padding));
                    Activations::Image(avg_pool2d(x.image(), options))
                }
                (Layer::Linear { .. }, x) => {
                    let weight = match leaves.next() {
                        Some(Leaf::Matrix(tensor)) => tensor.clone(),
                        other => unreachable!("a matrix is next, not {other:?}"),
                    };
                    let bias = match leaves.next() {
                        Some(Leaf::Vector(tensor)) => tensor.clone(),
                        other => unreachable!("a vector is next, not {other:?}"),
                    };
                    Activations::Flat(linear(x.flat(), weight, Some(bias)))
                }
                (Layer::Conv2d { stride, padding, .. }, x) => {
                    let weight = match leaves.next() {
                        Some(Leaf::Kernel(tensor)) => tensor.clone(),
                        other => unreachable!("a kernel is next, not {other:?}"),
                    };
                    let bias = match leaves.next() {
                        Some(Leaf::Vector(tensor)) => tensor.clone(),
                        other => unreachable!("a vector is next, not {other:?}"),
                    };
                    let options = ConvOptions::new(square(stride), square(padding), [1, 1], 1);
                    Activations::Image(conv2d(x.image(), weight, Some(bias), options))
                }
                (Layer::LayerNorm { epsilon }, x) => {
                    let (gamma, beta) = (vector(), vector());
                    Activations::Flat(layer_norm(x.flat(), gamma, Some(beta), float(epsilon)))
                }
                (Layer::BatchNorm { momentum, epsilon }, x) => {
                    let (gamma, beta) = (vector(), vector());
                    let places = slots.statistics(self.parameters);
                    match &mut training {
                        Some(pass) => {
                            let statistics = &mut *pass.statistics;
                            match x {
                                Activations::Flat(x) => {
                                    Activations::Flat(normalise(x, gamma, beta, momentum, epsilon, places, statistics))
                                }
                                Activations::Image(x) => {
                                    Activations::Image(normalise(x, gamma, beta, momentum, epsilon, places, statistics))
                                }
                            }
                        }
                        None => {
                            let device = gamma.device();
                            let vector = |range: Range<usize>| {
                                let data = TensorData::new(statistics[range.clone()].to_vec(), [range.len()]);
                                Tensor::<1>::from_data(data, &device)
                            };
                            let (mean, var) = (vector(places.0), vector(places.1));
                            match x {
                                Activations::Flat(x) => Activations::Flat(batch_norm(x, gamma, beta, mean, var, float(epsilon))),
                                Activations::Image(x) => {
                                    Activations::Image(batch_norm(x, gamma, beta, mean, var, float(epsilon)))
                                }
                            }
                        }
                    }
                }
            };
        }
        x.flat()
    }
}

impl LayerSlots {
    /// Where a batch norm's running mean and variance lie among the statistics.
    fn statistics(&self, parameters: usize) -> (Range<usize>, Range<usize>) {
        let find = |role| {
            let range = &self.slots.iter().find(|slot| slot.role == role).expect("a batch norm has statistics").range;
            range.start - parameters..range.end - parameters
        };
        (find(Role::RunningMean), find(Role::RunningVar))
    }
}

impl Activations {
    fn map(self, flat: impl Fn(Tensor<2>) -> Tensor<2>, image: impl Fn(Tensor<4>) -> Tensor<4>) -> Activations {
        match self {
            Activations::Flat(x) => Activations::Flat(flat(x)),
            Activations::Image(x) => Activations::Image(image(x)),
        }
    }

    fn flat(self) -> Tensor<2> {
        match self {
            Activations::Flat(x) => x,
            Activations::Image(x) => x.flatten(1, 3),
        }
    }

    fn image(self) -> Tensor<4> {
        match self {
            Activations::Image(x) => x,
            Activations::Flat(_) => unreachable!("the spec's check lets images only into image layers"),
        }
    }
}

fn tracked<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

fn square(side: u32) -> [usize; 2] {
    [side as usize; 2]
}

/// Drops values and scales up the others, by a mask from the host's generator.
fn dropout(x: Activations, rate: Decimal, rng: &mut ChaCha8Rng) -> Activations {
    if rate == Decimal::ZERO {
        return x;
    }
    let kept = 1.0 - float(rate);
    let threshold = (float(rate) * 65_536.0) as u16;
    let scale = (1.0 / kept) as f32;
    let mask = |shape: Vec<usize>| {
        let mut mask = vec![0.0; shape.iter().product()];
        let mut random = [0; 4096];
        for values in mask.chunks_mut(random.len() / 2) {
            rng.fill_bytes(&mut random);
            for (value, two) in values.iter_mut().zip(random.as_chunks::<2>().0) {
                *value = if u16::from_le_bytes(*two) < threshold { 0.0 } else { scale };
            }
        }
        TensorData::new(mask, shape)
    };
    match x {
        Activations::Flat(x) => {
            let (shape, device) = (x.dims().to_vec(), x.device());
            let mut mask = mask;
            Activations::Flat(x * Tensor::from_data(mask(shape), &device))
        }
        Activations::Image(x) => {
            let (shape, device) = (x.dims().to_vec(), x.device());
            let mut mask = mask;
            Activations::Image(x * Tensor::from_data(mask(shape), &device))
        }
    }
}

/// Batch norm in training: normalises over the batch, and moves the running statistics towards it (the variance unbiased,
/// as in PyTorch).
fn normalise<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    momentum: Decimal,
    epsilon: Decimal,
    (mean_at, var_at): (Range<usize>, Range<usize>),
    statistics: &mut [f32],
) -> Tensor<D> {
    let dims = x.dims();
    let count = dims.iter().product::<usize>() / dims[1].max(1);
    let unbiased = count as f32 / (count.max(2) - 1) as f32;
    let result = batch_norm_train(x, gamma, beta, float(epsilon));
    let momentum = float(momentum) as f32;
    let mut update = |range: Range<usize>, batch: Tensor<1>, factor: f32| {
        for (running, batch) in statistics[range].iter_mut().zip(to_vec(batch)) {
            *running = (1.0 - momentum) * *running + momentum * (batch * factor);
        }
    };
    update(mean_at, result.mean, 1.0);
    update(var_at, result.variance, unbiased);
    result.output
}

/// A tensor's values in order.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_into_vec().expect("all tensors are f32")
}
