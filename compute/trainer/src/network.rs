use std::ops::Range;

use burn::tensor::{
    Device, Tensor, TensorData, activation,
    module::{avg_pool2d, batch_norm, batch_norm_train, layer_norm, linear},
    ops::AvgPoolOptions,
};
use deepmarket_job::{Decimal, Layer, Model, SpecError, layer_shapes};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use crate::{
    batch::{Stage, stages},
    optimizer::float,
};

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
    /// The shapes of one sample before each layer and after the last.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// How a pass goes through the layers.
    pub(crate) stages: Vec<Stage>,
}

/// Activations of a batch: `[samples, features]` or `[samples, channels, height, width]`.
#[derive(Clone, Debug)]
pub(crate) enum Activations {
    Flat(Tensor<2>),
    Image(Tensor<4>),
}

/// A parameter tensor of one pass, gradients enabled or not.
#[derive(Debug)]
pub(crate) enum Leaf {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
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
            stages: Vec::new(),
            shapes: shapes.iter().map(|shape| shape.iter().map(|d| *d as usize).collect()).collect(),
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
        network.stages = stages(&network);
        Ok(network)
    }

    /// Some layers' parameters as tensors, in the order of the flat vector. On an autodiff device they get gradients.
    pub(crate) fn leaves(&self, layers: Range<usize>, values: &[f32], device: &Device) -> Vec<Leaf> {
        self.parameter_slots(layers)
            .map(|slot| {
                let data = TensorData::new(values[slot.range.clone()].to_vec(), slot.shape.clone());
                match slot.shape.len() {
                    1 => Leaf::Vector(tracked(Tensor::from_data(data, device), device)),
                    _ => Leaf::Matrix(tracked(Tensor::from_data(data, device), device)),
                }
            })
            .collect()
    }

    /// Some layers' trainable tensors, in order.
    pub(crate) fn parameter_slots(&self, layers: Range<usize>) -> impl Iterator<Item = &Slot> {
        let slots = self.slots[layers].iter().flat_map(|layer| &layer.slots);
        slots.filter(|slot| matches!(slot.role, Role::Weight | Role::Bias))
    }

    /// Some layers' outputs by burn. `leaves` are these layers' parameters in order. The spec's check made sure that all shapes
    /// fit.
    pub(crate) fn forward(
        &self,
        layers: Range<usize>,
        leaves: &[Leaf],
        statistics: &[f32],
        mut x: Activations,
        mut training: Option<&mut TrainingPass>,
    ) -> Activations {
        let mut leaves = leaves.iter();
        for (layer, slots) in self.layers[layers.clone()].iter().zip(&self.slots[layers]) {
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
                (Layer::AvgPool2d { kernel, stride, padding }, x) => {
                    let square = |side: u32| [side as usize; 2];
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
                (Layer::LayerNorm { epsilon }, x) => {
                    let (gamma, beta) = (vector(), vector());
                    Activations::Flat(layer_norm(x.flat(), gamma, Some(beta), float(epsilon)))
                }
                (Layer::BatchNorm { momentum, epsilon }, x) => {
                    let (gamma, beta) = (vector(), vector());
                    let norm = BatchNorm { gamma, beta, momentum, epsilon, places: slots.statistics(self.parameters) };
                    match (x, &mut training) {
                        (Activations::Flat(x), Some(pass)) => Activations::Flat(norm.train(x, pass.statistics)),
                        (Activations::Image(x), Some(pass)) => Activations::Image(norm.train(x, pass.statistics)),
                        (Activations::Flat(x), None) => Activations::Flat(norm.evaluate(x, statistics)),
                        (Activations::Image(x), None) => Activations::Image(norm.evaluate(x, statistics)),
                    }
                }
                (Layer::Conv2d { .. } | Layer::MaxPool2d { .. }, _) => unreachable!("these have stages of their own"),
            };
        }
        x
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

    pub(crate) fn flat(self) -> Tensor<2> {
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

pub(crate) fn tracked<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
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

/// One batch norm's tensors and options.
struct BatchNorm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
    momentum: Decimal,
    epsilon: Decimal,
    /// Where the running mean and variance lie among the statistics.
    places: (Range<usize>, Range<usize>),
}

impl BatchNorm {
    /// Normalises over the batch, and moves the running statistics towards it (the variance unbiased, as in PyTorch).
    fn train<const D: usize>(self, x: Tensor<D>, statistics: &mut [f32]) -> Tensor<D> {
        let dims = x.dims();
        let count = dims.iter().product::<usize>() / dims[1].max(1);
        let unbiased = count as f32 / (count.max(2) - 1) as f32;
        let result = batch_norm_train(x, self.gamma, self.beta, float(self.epsilon));
        let momentum = float(self.momentum) as f32;
        let mut update = |range: Range<usize>, batch: Tensor<1>, factor: f32| {
            for (running, batch) in statistics[range].iter_mut().zip(to_vec(batch)) {
                *running = (1.0 - momentum) * *running + momentum * (batch * factor);
            }
        };
        update(self.places.0, result.mean, 1.0);
        update(self.places.1, result.variance, unbiased);
        result.output
    }

    /// Normalises by the running statistics.
    fn evaluate<const D: usize>(self, x: Tensor<D>, statistics: &[f32]) -> Tensor<D> {
        let device = self.gamma.device();
        let vector = |range: Range<usize>| {
            let data = TensorData::new(statistics[range.clone()].to_vec(), [range.len()]);
            Tensor::<1>::from_data(data, &device)
        };
        let (mean, var) = (vector(self.places.0), vector(self.places.1));
        batch_norm(x, self.gamma, self.beta, mean, var, float(self.epsilon))
    }
}

/// A tensor's values in order.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_into_vec().expect("all tensors are f32")
}
