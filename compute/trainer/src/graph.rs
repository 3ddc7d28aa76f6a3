//! The layers that burn computes and differentiates.

use std::ops::Range;

use burn::tensor::{
    Device, Int, Tensor, TensorData, activation,
    module::{avg_pool2d, batch_norm, batch_norm_train, embedding, layer_norm, linear},
    ops::AvgPoolOptions,
    s,
};
use deepmarket_job::{Decimal, Layer, Positions};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use crate::{
    network::{Leaf, Network, to_vec},
    optimizer::float,
};

/// Activations of a batch: `[samples, features]`, `[samples, length, features]` or `[samples, channels, height, width]`.
#[derive(Clone, Debug)]
pub(crate) enum Activations {
    Flat(Tensor<2>),
    Sequence(Tensor<3>),
    Image(Tensor<4>),
}

/// What a training pass has beside an evaluating one.
pub(crate) struct TrainingPass<'a> {
    /// Decides dropout.
    pub(crate) rng: ChaCha8Rng,
    /// The running statistics, updated by the pass: the tail of the flat vector.
    pub(crate) statistics: &'a mut [f32],
}

/// The same for each shape.
macro_rules! each {
    ($activations:expr, $function:expr) => {
        match $activations {
            Activations::Flat(x) => Activations::Flat($function(x)),
            Activations::Sequence(x) => Activations::Sequence($function(x)),
            Activations::Image(x) => Activations::Image($function(x)),
        }
    };
}

/// Parameters in the order of their layers.
struct Leaves<'a>(std::slice::Iter<'a, Leaf>);

impl Leaves<'_> {
    fn vector(&mut self) -> Tensor<1> {
        match self.0.next() {
            Some(Leaf::Vector(tensor)) => tensor.clone(),
            other => unreachable!("a vector is next, not {other:?}"),
        }
    }

    fn matrix(&mut self) -> Tensor<2> {
        match self.0.next() {
            Some(Leaf::Matrix(tensor)) => tensor.clone(),
            other => unreachable!("a matrix is next, not {other:?}"),
        }
    }
}

impl Network {
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
        let mut leaves = Leaves(leaves.iter());
        for index in layers {
            x = match (&self.layers[index], x) {
                (Layer::Relu, x) => each!(x, activation::relu),
                (Layer::Gelu, x) => each!(x, activation::gelu),
                (Layer::Sigmoid, x) => each!(x, activation::sigmoid),
                (Layer::Tanh, x) => each!(x, activation::tanh),
                (Layer::Softmax, Activations::Sequence(x)) => Activations::Sequence(activation::softmax(x, 2)),
                (Layer::Softmax, x) => Activations::Flat(activation::softmax(x.flat(), 1)),
                (Layer::Flatten, x) => Activations::Flat(x.flat()),
                (Layer::Reshape { .. }, x) => x.reshaped(&self.shapes[index + 1]),
                (Layer::Dropout { rate }, x) => match &mut training {
                    Some(pass) => each!(x, |x| dropout(x, *rate, &mut pass.rng)),
                    None => x,
                },
                (Layer::AvgPool2d { kernel, stride, padding }, x) => {
                    let square = |side: &u32| [*side as usize; 2];
                    let options = AvgPoolOptions::new(square(kernel)).with_stride(square(stride)).with_padding(square(padding));
                    Activations::Image(avg_pool2d(x.image(), options))
                }
                (Layer::GlobalAvgPool, x) => Activations::Flat(x.positions().mean_dim(2).squeeze_dim(2)),
                (Layer::GlobalMaxPool, x) => Activations::Flat(x.positions().max_dim(2).squeeze_dim(2)),
                (Layer::Last, x) => {
                    let x = x.sequence();
                    let last = x.dims()[1] - 1;
                    Activations::Flat(x.slice(s![.., last..]).squeeze_dim(1))
                }
                (Layer::Linear { .. }, x) => {
                    let (weight, bias) = (leaves.matrix(), leaves.vector());
                    match x {
                        Activations::Sequence(x) => Activations::Sequence(linear_at_each(x, weight, bias)),
                        x => Activations::Flat(linear(x.flat(), weight, Some(bias))),
                    }
                }
                (Layer::Conv1d { kernel, stride, padding, .. }, x) => {
                    let [kernel, stride, padding] = [kernel, stride, padding].map(|n| *n as usize);
                    let (weight, bias) = (leaves.matrix(), leaves.vector());
                    let patches = patches(x.sequence(), kernel, stride, padding);
                    Activations::Sequence(linear_at_each(patches, weight.transpose(), bias))
                }
                (Layer::LayerNorm { epsilon }, x) => {
                    let (gamma, beta) = (leaves.vector(), leaves.vector());
                    let norm = LayerNorm { gamma, beta, epsilon: float(*epsilon) };
                    match x {
                        Activations::Sequence(x) => Activations::Sequence(norm.of(x)),
                        x => Activations::Flat(norm.of(x.flat())),
                    }
                }
                (Layer::BatchNorm { momentum, epsilon }, x) => {
                    let (gamma, beta, places) = (leaves.vector(), leaves.vector(), self.statistics_of(index));
                    let norm = BatchNorm { gamma, beta, momentum: *momentum, epsilon: *epsilon, places };
                    match &mut training {
                        Some(pass) => each!(x, |x| norm.train(x, pass.statistics)),
                        None => each!(x, |x| norm.evaluate(x, statistics)),
                    }
                }
                (Layer::Embedding { .. }, x) => {
                    let tokens: Tensor<2, Int> = x.flat().int();
                    Activations::Sequence(embedding(leaves.matrix(), tokens))
                }
                (Layer::PositionEmbedding { kind }, x) => {
                    let x = x.sequence();
                    let [_, length, features] = x.dims();
                    let positions = match kind {
                        Positions::Learned => leaves.matrix(),
                        Positions::Sinusoidal => {
                            Tensor::from_data(TensorData::new(sinusoids(length, features), [length, features]), &x.device())
                        }
                    };
                    Activations::Sequence(x + positions.unsqueeze_dim(0))
                }
                (Layer::Attention { heads, causal }, x) => {
                    let attention = Attention::next(&mut leaves, *heads, *causal);
                    Activations::Sequence(attention.forward(x.sequence()))
                }
                (Layer::TransformerEncoder { heads, causal, dropout: rate, .. }, x) => {
                    let attention = Attention::next(&mut leaves, *heads, *causal);
                    let [widen, narrow] = [0, 1].map(|_| (leaves.matrix(), leaves.vector()));
                    let norms = [0, 1].map(|_| LayerNorm { gamma: leaves.vector(), beta: leaves.vector(), epsilon: 1e-5 });
                    let mut dropped = |x: Tensor<3>| match &mut training {
                        Some(pass) => dropout(x, *rate, &mut pass.rng),
                        None => x,
                    };
                    let x = x.sequence();
                    let x = x.clone() + dropped(attention.forward(norms[0].of(x)));
                    let inner = activation::gelu(linear_at_each(norms[1].of(x.clone()), widen.0, widen.1));
                    let out = linear_at_each(dropped(inner), narrow.0, narrow.1);
                    Activations::Sequence(x + dropped(out))
                }
                (
                    Layer::Conv2d { .. }
                    | Layer::MaxPool2d { .. }
                    | Layer::Lstm { .. }
                    | Layer::Gru { .. }
                    | Layer::Add { .. }
                    | Layer::Concat { .. }
                    | Layer::Take { .. },
                    _,
                ) => unreachable!("these have steps of their own"),
            };
        }
        x
    }
}

impl Activations {
    /// `data` as it lies in memory, samples first.
    pub(crate) fn new(data: Vec<f32>, samples: usize, shape: &[usize], device: &Device) -> Activations {
        let dims: Vec<usize> = [samples].iter().chain(shape).copied().collect();
        let data = TensorData::new(data, dims);
        match shape.len() {
            1 => Activations::Flat(Tensor::from_data(data, device)),
            2 => Activations::Sequence(Tensor::from_data(data, device)),
            _ => Activations::Image(Tensor::from_data(data, device)),
        }
    }

    pub(crate) fn flat(self) -> Tensor<2> {
        match self {
            Activations::Flat(x) => x,
            Activations::Sequence(x) => x.flatten(1, 2),
            Activations::Image(x) => x.flatten(1, 3),
        }
    }

    /// A row for each thing that the loss compares: a sample, or a position of one.
    pub(crate) fn rows(self) -> Tensor<2> {
        match self {
            Activations::Sequence(x) => x.flatten(0, 1),
            x => x.flat(),
        }
    }

    fn reshaped(self, shape: &[usize]) -> Activations {
        let x = self.flat();
        let samples = x.dims()[0];
        match *shape {
            [features] => Activations::Flat(x.reshape([samples, features])),
            [length, features] => Activations::Sequence(x.reshape([samples, length, features])),
            _ => Activations::Image(x.reshape([samples, shape[0], shape[1], shape[2]])),
        }
    }

    fn sequence(self) -> Tensor<3> {
        match self {
            Activations::Sequence(x) => x,
            _ => unreachable!("the spec's check lets only sequences into sequence layers"),
        }
    }

    fn image(self) -> Tensor<4> {
        match self {
            Activations::Image(x) => x,
            _ => unreachable!("the spec's check lets only images into image layers"),
        }
    }

    /// `[samples, features (or channels), positions]`.
    fn positions(self) -> Tensor<3> {
        match self {
            Activations::Image(x) => x.flatten(2, 3),
            x => x.sequence().swap_dims(1, 2),
        }
    }
}

/// A linear layer at each position. In two dimensions: burn would sum a weight's gradient over samples only at the end.
fn linear_at_each(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    let ([samples, length, features], out) = (x.dims(), weight.dims()[1]);
    linear(x.reshape([samples * length, features]), weight, Some(bias)).reshape([samples, length, out])
}

/// What lies under a kernel at each of its positions: `[samples, length, features]` → `[samples, length', features · kernel]`.
fn patches(x: Tensor<3>, kernel: usize, stride: usize, padding: usize) -> Tensor<3> {
    let [samples, length, features] = x.dims();
    let zeros = || Tensor::zeros([samples, padding, features], &x.device());
    let padded = if padding > 0 { Tensor::cat(vec![zeros(), x.clone(), zeros()], 1) } else { x.clone() };
    let out = (length + 2 * padding - kernel) / stride + 1;
    let shifted = |shift: usize| {
        let step = stride as isize;
        padded.clone().slice(s![.., shift..shift + (out - 1) * stride + 1;step])
    };
    let patches: Tensor<4> = Tensor::stack((0..kernel).map(shifted).collect(), 3);
    patches.reshape([samples, out, features * kernel])
}

/// Sines and cosines for each position: feature 2i has sin(position / 10000^(2i / features)), 2i + 1 the cosine.
fn sinusoids(length: usize, features: usize) -> Vec<f32> {
    let value = |position: usize, feature: usize| {
        let angle = position as f64 / 10_000_f64.powf((feature / 2 * 2) as f64 / features as f64);
        (if feature.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    (0..length).flat_map(|position| (0..features).map(move |feature| value(position, feature))).collect()
}

/// Drops values and scales up the others, by a mask from the host's generator.
fn dropout<const D: usize>(x: Tensor<D>, rate: Decimal, rng: &mut ChaCha8Rng) -> Tensor<D> {
    if rate == Decimal::ZERO {
        return x;
    }
    let kept = 1.0 - float(rate);
    let threshold = (float(rate) * 65_536.0) as u16;
    let scale = (1.0 / kept) as f32;
    let (shape, device) = (x.dims().to_vec(), x.device());
    let mut mask = vec![0.0; shape.iter().product()];
    let mut random = [0; 4096];
    for values in mask.chunks_mut(random.len() / 2) {
        rng.fill_bytes(&mut random);
        for (value, two) in values.iter_mut().zip(random.as_chunks::<2>().0) {
            *value = if u16::from_le_bytes(*two) < threshold { 0.0 } else { scale };
        }
    }
    x * Tensor::from_data(TensorData::new(mask, shape), &device)
}

/// Multi-head self-attention (Vaswani et al. 2017, section 3.2), as `nn.MultiheadAttention` computes it.
struct Attention {
    /// Queries, keys and values from the input.
    project: (Tensor<2>, Tensor<1>),
    /// The output from all heads.
    merge: (Tensor<2>, Tensor<1>),
    heads: usize,
    is_causal: bool,
}

impl Attention {
    fn next(leaves: &mut Leaves, heads: u32, is_causal: bool) -> Attention {
        let project = (leaves.matrix(), leaves.vector());
        Attention { project, merge: (leaves.matrix(), leaves.vector()), heads: heads as usize, is_causal }
    }

    fn forward(self, x: Tensor<3>) -> Tensor<3> {
        let [samples, length, features] = x.dims();
        let (heads, width, device) = (self.heads, features / self.heads, x.device());
        let projected = linear_at_each(x, self.project.0, self.project.1);
        let [queries, keys, values] = [0, 1, 2].map(|part| {
            let part = projected.clone().slice(s![.., .., part * features..(part + 1) * features]);
            part.reshape([samples, length, heads, width]).swap_dims(1, 2)
        });
        let mut scores = (queries * (1.0 / (width as f64).sqrt())).matmul(keys.swap_dims(2, 3));
        if self.is_causal {
            let mask = (0..length).flat_map(|row| (0..length).map(move |column| if column > row { -1e30 } else { 0.0 }));
            let mask = TensorData::new(mask.collect::<Vec<f32>>(), [1, 1, length, length]);
            scores = scores + Tensor::from_data(mask, &device);
        }
        let heads = activation::softmax(scores, 3).matmul(values);
        linear_at_each(heads.swap_dims(1, 2).reshape([samples, length, features]), self.merge.0, self.merge.1)
    }
}

/// One layer norm's tensors and option.
struct LayerNorm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
}

impl LayerNorm {
    fn of<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        layer_norm(x, self.gamma.clone(), Some(self.beta.clone()), self.epsilon)
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
