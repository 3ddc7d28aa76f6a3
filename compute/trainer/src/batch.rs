use std::{ops::Range, rc::Rc};

use burn::tensor::{Device, Gradients, Tensor, TensorData, activation::log_softmax};
use deepmarket_job::{Layer, Loss};

use crate::{
    convolution::Convolution,
    network::{Activations, Leaf, Network, TrainingPass, to_vec, tracked},
    pooling::MaxPooling,
    samples::Samples,
};

/// A part of a pass. What burn's CPU backend is slow at is computed here on plain vectors, layer by layer; runs of all other
/// layers are graphs of burn's automatic differentiation. A model is a stack, so that the chain rule between stages is to
/// hand the gradient of a stage's output to the stage before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Convolution(usize, Convolution),
    /// A ReLU right after a convolution or a pooling.
    Relu,
    MaxPooling(MaxPooling),
    Graph(Range<usize>),
}

/// What one batch gave.
pub(crate) struct BatchResult {
    /// The mean loss over the batch.
    pub(crate) loss: f32,
    /// Gradients of the parameters, flat.
    pub(crate) gradients: Vec<f32>,
}

/// What a stage's backward pass needs of its forward pass. Images are `[channels, samples, height, width]`.
enum Kept {
    Convolution { input: Rc<Vec<f32>> },
    Relu { output: Rc<Vec<f32>> },
    MaxPooling { input: Rc<Vec<f32>>, output: Rc<Vec<f32>> },
    Graph(Box<KeptGraph>),
}

/// A graph's own input, parameters and output.
struct KeptGraph {
    input: Activations,
    leaves: Vec<Leaf>,
    output: Activations,
}

/// The stages of a network. The last one is always a graph: it ends with the outputs.
pub(crate) fn stages(network: &Network) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for (index, layer) in network.layers.iter().enumerate() {
        let size = |shape: &[usize]| [shape[shape.len() - 2], shape[shape.len() - 1]];
        let (input, output) = (&network.shapes[index], &network.shapes[index + 1]);
        match (layer, stages.last_mut()) {
            (Layer::Conv2d { out, kernel, stride, padding }, _) => {
                let [out, kernel, stride, padding] = [out, kernel, stride, padding].map(|n| *n as usize);
                let (size, out_size) = (size(input), size(output));
                let convolution = Convolution { channels: input[0], size, out, out_size, kernel, stride, padding };
                stages.push(Stage::Convolution(index, convolution));
            }
            (Layer::MaxPool2d { kernel, stride, padding }, _) => {
                let [kernel, stride, padding] = [kernel, stride, padding].map(|n| *n as usize);
                let (size, out_size) = (size(input), size(output));
                stages.push(Stage::MaxPooling(MaxPooling { size, out_size, kernel, stride, padding }));
            }
            (Layer::Relu, Some(Stage::Convolution(..) | Stage::MaxPooling(_))) => stages.push(Stage::Relu),
            (_, Some(Stage::Graph(layers))) => layers.end = index + 1,
            (_, _) => stages.push(Stage::Graph(index..index + 1)),
        }
    }
    if !matches!(stages.last(), Some(Stage::Graph(_))) {
        stages.push(Stage::Graph(network.layers.len()..network.layers.len()));
    }
    stages
}

/// Forward and backward over one batch: the mean gradient. `values` are parameters and statistics.
pub(crate) fn train_batch(
    network: &Network,
    loss: Loss,
    values: &[f32],
    samples: &Samples,
    indexes: &[u32],
    pass: &mut TrainingPass,
) -> BatchResult {
    let count = indexes.len();
    let mut kept = Vec::with_capacity(network.stages.len());
    forward(network, values, samples.features(indexes), count, Some(pass), |stage| kept.push(stage));

    let mut gradients = vec![0.0; network.parameters];
    let mut mean = 0.0;
    // The gradient of a stage's output; none for the last stage, which begins with the loss.
    let mut gradient: Option<Vec<f32>> = None;
    for (number, (stage, kept)) in network.stages.iter().zip(kept).enumerate().rev() {
        let wants_input = number > 0;
        gradient = match (stage, kept) {
            (Stage::Convolution(layer, convolution), Kept::Convolution { input }) => {
                let [weight, bias] = [0, 1].map(|slot| network.slots[*layer].slots[slot].range.clone());
                let output = gradient.expect("a graph comes after");
                let of = convolution.backward(&values[weight.clone()], &input, &output, count, wants_input);
                gradients[weight].copy_from_slice(&of.weight);
                gradients[bias].copy_from_slice(&of.bias);
                of.input
            }
            (Stage::Relu, Kept::Relu { output }) => {
                let mut gradient = gradient.expect("a graph comes after");
                for (gradient, output) in gradient.iter_mut().zip(output.iter()) {
                    *gradient = if *output > 0.0 { *gradient } else { 0.0 };
                }
                Some(gradient)
            }
            (Stage::MaxPooling(pooling), Kept::MaxPooling { input, output }) => {
                Some(pooling.backward(&input, &output, &gradient.expect("a graph comes after")))
            }
            (Stage::Graph(layers), Kept::Graph(graph)) => {
                let KeptGraph { input, leaves, output } = *graph;
                let of_loss = match gradient {
                    None => mean_loss(loss, output.flat(), samples.targets(indexes)),
                    Some(gradient) => weighted_sum(output, gradient, count),
                };
                // Nothing to differentiate: a first stage without parameters.
                let mut of_leaves = if of_loss.is_tracked() { Some(of_loss.backward()) } else { None };
                if number + 1 == network.stages.len() {
                    mean = to_vec(of_loss)[0];
                }
                for (leaf, slot) in leaves.iter().zip(network.parameter_slots(layers.clone())) {
                    if let Some(of_leaf) = of_leaves.as_mut().and_then(|of_leaves| leaf.gradient(of_leaves)) {
                        gradients[slot.range.clone()].copy_from_slice(&of_leaf);
                    }
                }
                match (wants_input, of_leaves) {
                    (true, Some(mut of_leaves)) => Some(input.gradient(&mut of_leaves, count)),
                    _ => None,
                }
            }
            _ => unreachable!("each stage keeps its own kind"),
        };
    }
    BatchResult { loss: mean, gradients }
}

/// The outputs of a batch without gradients: `[samples, outputs]`.
pub(crate) fn outputs(network: &Network, values: &[f32], features: Vec<f32>, samples: usize) -> Tensor<2> {
    forward(network, values, features, samples, None, |_| {})
}

/// Runs all stages; in training, hands what the way back needs to `keep`. Returns the outputs.
fn forward(
    network: &Network,
    values: &[f32],
    features: Vec<f32>,
    samples: usize,
    mut training: Option<&mut TrainingPass>,
    mut keep: impl FnMut(Kept),
) -> Tensor<2> {
    let device = if training.is_some() { Device::flex().autodiff() } else { Device::flex() };
    let shape = &network.shapes[0];
    // A graph takes samples first, the other stages channels first.
    let mut x = Rc::new(match network.stages[0] {
        Stage::Graph(_) => features,
        _ => swapped(&features, samples, shape[0]),
    });
    let mut channels_first = !matches!(network.stages[0], Stage::Graph(_));
    let mut last = None;
    for (number, stage) in network.stages.iter().enumerate() {
        x = match stage {
            Stage::Convolution(layer, convolution) => {
                let slots = &network.slots[*layer].slots;
                let (weight, bias) = (&values[slots[0].range.clone()], &values[slots[1].range.clone()]);
                let output = convolution.forward(weight, bias, &x, samples);
                keep(Kept::Convolution { input: x });
                Rc::new(output)
            }
            Stage::Relu => {
                // In place: nobody else needs a convolution's output.
                Rc::make_mut(&mut x).iter_mut().for_each(|value| *value = if *value > 0.0 { *value } else { 0.0 });
                keep(Kept::Relu { output: x.clone() });
                x
            }
            Stage::MaxPooling(pooling) => {
                let output = Rc::new(pooling.forward(&x));
                keep(Kept::MaxPooling { input: x, output: output.clone() });
                output
            }
            Stage::Graph(layers) => {
                let shape = &network.shapes[layers.start];
                let data = if channels_first { swapped(&x, shape[0], samples) } else { Rc::unwrap_or_clone(x) };
                let tracked_input = training.is_some() && number > 0;
                let input = Activations::new(data, samples, shape, &device, tracked_input);
                let leaves = network.leaves(layers.clone(), values, &device);
                let statistics = &values[network.parameters..];
                let output = network.forward(layers.clone(), &leaves, statistics, input.clone(), training.as_deref_mut());
                let next = match network.stages.get(number + 1) {
                    Some(_) => output.channels_first(samples),
                    None => Vec::new(),
                };
                let next = Rc::new(next);
                last = Some(output.clone());
                keep(Kept::Graph(Box::new(KeptGraph { input, leaves, output })));
                next
            }
        };
        channels_first = true;
    }
    last.expect("the last stage is a graph").flat()
}

/// The mean loss over a batch, of shape `[1]`.
pub(crate) fn mean_loss(loss: Loss, outputs: Tensor<2>, targets: Vec<f32>) -> Tensor<1> {
    let [samples, width] = outputs.dims();
    let targets = Tensor::<2>::from_data(TensorData::new(targets, [samples, width]), &outputs.device());
    match loss {
        Loss::CrossEntropy => (log_softmax(outputs, 1) * targets).sum() * (-1.0 / samples as f64),
        Loss::Mse => {
            let difference = outputs - targets;
            (difference.clone() * difference).sum() * (1.0 / (samples * width) as f64)
        }
    }
}

/// A number whose gradient by `output` is `gradient`: carries the chain rule into a graph.
fn weighted_sum(output: Activations, gradient: Vec<f32>, samples: usize) -> Tensor<1> {
    match output {
        Activations::Flat(output) => {
            let gradient = TensorData::new(gradient, output.dims());
            let device = output.device();
            (output * Tensor::from_data(gradient, &device)).sum()
        }
        Activations::Image(output) => {
            let dims = output.dims();
            let gradient = TensorData::new(swapped(&gradient, dims[1], samples), dims);
            let device = output.device();
            (output * Tensor::from_data(gradient, &device)).sum()
        }
    }
}

impl Activations {
    fn new(data: Vec<f32>, samples: usize, shape: &[usize], device: &Device, is_tracked: bool) -> Activations {
        let dims: Vec<usize> = [samples].iter().chain(shape).copied().collect();
        let data = TensorData::new(data, dims);
        match (shape.len(), is_tracked) {
            (1, true) => Activations::Flat(tracked(Tensor::from_data(data, device), device)),
            (1, false) => Activations::Flat(Tensor::from_data(data, device)),
            (_, true) => Activations::Image(tracked(Tensor::from_data(data, device), device)),
            (_, false) => Activations::Image(Tensor::from_data(data, device)),
        }
    }

    /// An image's values, channels first.
    fn channels_first(&self, samples: usize) -> Vec<f32> {
        match self {
            Activations::Flat(x) => to_vec(x.clone()),
            Activations::Image(x) => swapped(&to_vec(x.clone()), samples, x.dims()[1]),
        }
    }

    /// The gradient of a graph's input, channels first.
    fn gradient(&self, gradients: &mut Gradients, samples: usize) -> Vec<f32> {
        match self {
            Activations::Flat(x) => x.grad_remove(gradients).map(to_vec).unwrap_or_default(),
            Activations::Image(x) => {
                let channels = x.dims()[1];
                x.grad_remove(gradients).map(|gradient| swapped(&to_vec(gradient), samples, channels)).unwrap_or_default()
            }
        }
    }
}

impl Leaf {
    fn gradient(&self, gradients: &mut Gradients) -> Option<Vec<f32>> {
        match self {
            Leaf::Vector(tensor) => tensor.grad_remove(gradients).map(to_vec),
            Leaf::Matrix(tensor) => tensor.grad_remove(gradients).map(to_vec),
        }
    }
}

/// `[a, b, rest…]` → `[b, a, rest…]`.
fn swapped(values: &[f32], a: usize, b: usize) -> Vec<f32> {
    if a == 1 || b == 1 {
        return values.to_vec();
    }
    let rest = values.len() / (a * b);
    let mut result = Vec::with_capacity(values.len());
    for j in 0..b {
        for i in 0..a {
            result.extend_from_slice(&values[(i * b + j) * rest..][..rest]);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use deepmarket_types::Hash;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{initial::initial_values, testing};

    /// The loss and gradient of a small net over the whole small dataset.
    fn loss_and_gradient(layers: &str, loss: Loss, change: Option<(usize, f32)>) -> BatchResult {
        let training = "loss = \"mse\"\noptimizer = { sgd = { lr = 0.1 } }\nbatch = 8\nepochs = 1";
        let spec = testing::spec(layers, training);
        let (manifest, shard) = testing::dataset();
        let mut samples = Samples::new(&manifest);
        samples.add(&manifest, &shard).unwrap();
        let network = Network::new(&spec.model).unwrap();
        let mut values = initial_values(&network.layers, &network.slots, 3, network.floats);
        if let Some((index, change)) = change {
            values[index] += change;
        }
        let mut statistics = values[network.parameters..].to_vec();
        // The same dropout each time.
        let mut pass = TrainingPass { rng: ChaCha8Rng::from_seed(Hash::default().0), statistics: &mut statistics };
        train_batch(&network, loss, &values, &samples, &(0..12).collect::<Vec<u32>>(), &mut pass)
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let layers = "{ conv2d = { out = 2, kernel = 3, padding = 1, stride = 2 } }, { batch_norm = {} }, \"tanh\", \
                      { avg_pool2d = { kernel = 2 } }, { dropout = { rate = 0.25 } }, \"flatten\", { linear = { out = 5 } }, \
                      { layer_norm = {} }, \"gelu\", { linear = { out = 4 } }, \"sigmoid\", { linear = { out = 2 } }";
        for (layers, loss) in [
            (layers.to_owned(), Loss::CrossEntropy),
            (layers.to_owned(), Loss::Mse),
            (format!("{layers}, \"softmax\""), Loss::Mse),
        ] {
            let gradients = loss_and_gradient(&layers, loss, None).gradients;
            let step = 1e-2;
            for (index, gradient) in gradients.iter().enumerate() {
                let above = loss_and_gradient(&layers, loss, Some((index, step))).loss;
                let below = loss_and_gradient(&layers, loss, Some((index, -step))).loss;
                let difference = (above - below) / (2.0 * step);
                let error = (difference - gradient).abs();
                assert!(error < 5e-4 + 0.03 * gradient.abs(), "{loss:?} {index}: {difference} is not {gradient}");
            }
        }
    }
}
