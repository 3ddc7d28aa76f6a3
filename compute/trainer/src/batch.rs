use std::{ops::Range, rc::Rc};

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, activation::log_softmax};
use deepmarket_job::{Layer, Loss, Model};

use crate::{
    convolution::Convolution,
    graph::{Activations, TrainingPass},
    network::{Leaf, Network, to_vec, tracked},
    pooling::MaxPooling,
    recurrent::{Cell, Memory, Recurrent, RecurrentWeights},
    samples::Samples,
};

/// A part of a pass: what it computes, and of which values. Value 0 is the model's input, *n* + 1 what step *n* puts out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) stage: Stage,
    /// Earlier values; the first of them is what came out last, or what a `take` went back to.
    pub(crate) inputs: Vec<usize>,
}

/// What a step computes. What burn's CPU backend is slow at is computed here on plain vectors, layer by layer; runs of all other
/// layers are graphs of burn's automatic differentiation. The chain rule between steps is to add the gradient of each use of a
/// value, and to hand the sum to the step that the value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Convolution(usize, Convolution),
    /// A ReLU right after one of the other stages on plain vectors.
    Relu,
    MaxPooling(MaxPooling),
    Recurrent(usize, Recurrent),
    /// The sum of its inputs.
    Add,
    /// Its inputs' features (or channels) side by side.
    Concat(Widths),
    Graph(Range<usize>),
}

/// How many values of each of its inputs a concatenation takes in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    /// Features, or values of an image.
    of_sample: Vec<usize>,
    /// Channels lie first, so that images of all samples are taken at once.
    are_images: bool,
}

/// What one batch gave.
pub(crate) struct BatchResult {
    /// The mean loss over the batch.
    pub(crate) loss: f32,
    /// Gradients of the parameters, flat.
    pub(crate) gradients: Vec<f32>,
}

/// What a stage's backward pass needs of its forward pass. Images are `[channels, samples, height, width]`, sequences
/// `[samples, length, features]`.
enum Kept {
    Convolution { input: Rc<Vec<f32>> },
    Relu { output: Rc<Vec<f32>> },
    MaxPooling { input: Rc<Vec<f32>>, output: Rc<Vec<f32>> },
    Recurrent(Memory),
    Nothing,
    Graph(Box<KeptGraph>),
}

/// A graph's own input, parameters and output.
struct KeptGraph {
    input: Activations,
    leaves: Vec<Leaf>,
    output: Activations,
}

/// The steps of a model whose layers have these shapes. The last one is always a graph: it ends with the outputs.
pub(crate) fn steps(model: &Model, shapes: &[Vec<usize>]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // The value that each layer puts out, and before them the model's input. Inside a graph it is none of its own yet.
    let mut values = vec![0];
    let mut running = 0;
    // May the last step, a graph, take in the next layer too?
    let mut is_open = false;
    for (index, layer) in model.layers.iter().enumerate() {
        let size = |shape: &[usize]| [shape[shape.len() - 2], shape[shape.len() - 1]];
        let (input, output) = (&shapes[index], &shapes[index + 1]);
        let named = |names: &[String]| -> Vec<usize> {
            let value = |name: &String| values[model.value_of(name).expect("the spec's check knows all names")];
            names.iter().map(value).collect()
        };
        let plain = |steps: &[Step]| {
            let last = steps.last().filter(|_| !is_open && running == steps.len());
            last.is_some_and(|step| !matches!(step.stage, Stage::Graph(_)))
        };
        let (stage, others) = match layer {
            Layer::Conv2d { out, kernel, stride, padding } => {
                let [out, kernel, stride, padding] = [out, kernel, stride, padding].map(|n| *n as usize);
                let (size, out_size) = (size(input), size(output));
                let convolution = Convolution { channels: input[0], size, out, out_size, kernel, stride, padding };
                (Some(Stage::Convolution(index, convolution)), Vec::new())
            }
            Layer::MaxPool2d { kernel, stride, padding } => {
                let [kernel, stride, padding] = [kernel, stride, padding].map(|n| *n as usize);
                let (size, out_size) = (size(input), size(output));
                (Some(Stage::MaxPooling(MaxPooling { size, out_size, kernel, stride, padding })), Vec::new())
            }
            Layer::Relu if plain(&steps) => (Some(Stage::Relu), Vec::new()),
            Layer::Lstm { hidden, sequence } | Layer::Gru { hidden, sequence } => {
                let cell = if matches!(layer, Layer::Lstm { .. }) { Cell::Lstm } else { Cell::Gru };
                let ([length, inputs], hidden) = (size(input), *hidden as usize);
                (Some(Stage::Recurrent(index, Recurrent { cell, length, inputs, hidden, sequence: *sequence })), Vec::new())
            }
            Layer::Add { with } => (Some(Stage::Add), named(with)),
            Layer::Concat { with } => {
                let width = |shape: &[usize]| match shape.len() {
                    3 => shape.iter().product(),
                    _ => shape[shape.len() - 1],
                };
                let others = with.iter().filter_map(|name| model.value_of(name)).map(|value| width(&shapes[value]));
                let of_sample = [width(input)].into_iter().chain(others).collect();
                (Some(Stage::Concat(Widths { of_sample, are_images: input.len() == 3 })), named(with))
            }
            Layer::Take { from } => {
                (running, is_open) = (named(std::slice::from_ref(from))[0], false);
                (None, Vec::new())
            }
            _ => {
                match steps.last_mut() {
                    Some(Step { stage: Stage::Graph(layers), .. }) if is_open => layers.end = index + 1,
                    _ => {
                        steps.push(Step { stage: Stage::Graph(index..index + 1), inputs: vec![running] });
                        running = steps.len();
                    }
                }
                is_open = true;
                (None, Vec::new())
            }
        };
        if let Some(stage) = stage {
            let inputs = [running].into_iter().chain(others).collect();
            steps.push(Step { stage, inputs });
            (running, is_open) = (steps.len(), false);
        }
        values.push(running);
        if model.name_of(index).is_some() {
            is_open = false;
        }
    }
    if !matches!(steps.last(), Some(Step { stage: Stage::Graph(_), .. })) || running != steps.len() {
        let end = model.layers.len();
        steps.push(Step { stage: Stage::Graph(end..end), inputs: vec![running] });
    }
    steps
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
    let mut kept = Vec::with_capacity(network.steps.len());
    forward(network, values, samples.features(indexes), count, Some(pass), |step| kept.push(step));

    let mut gradients = vec![0.0; network.parameters];
    let mut mean = 0.0;
    // The gradient of each value, summed over its uses so far. The last value has none: its step begins with the loss.
    let mut of_values: Vec<Option<Vec<f32>>> = vec![None; network.steps.len() + 1];
    for (number, (step, kept)) in network.steps.iter().zip(kept).enumerate().rev() {
        let gradient = of_values[number + 1].take();
        let output_gradient = || gradient.expect("what a step puts out is used");
        // Nothing before it is trained where it takes the model's input.
        let wants_input = step.inputs[0] > 0;
        let of_inputs: Vec<Vec<f32>> = match (&step.stage, kept) {
            (Stage::Convolution(layer, convolution), Kept::Convolution { input }) => {
                let [weight, bias] = [0, 1].map(|slot| network.slots[*layer][slot].range.clone());
                let of = convolution.backward(&values[weight.clone()], &input, &output_gradient(), count, wants_input);
                gradients[weight].copy_from_slice(&of.weight);
                gradients[bias].copy_from_slice(&of.bias);
                of.input.into_iter().collect()
            }
            (Stage::Relu, Kept::Relu { output }) => {
                let mut gradient = output_gradient();
                for (gradient, output) in gradient.iter_mut().zip(output.iter()) {
                    *gradient = if *output > 0.0 { *gradient } else { 0.0 };
                }
                vec![gradient]
            }
            (Stage::MaxPooling(pooling), Kept::MaxPooling { input, output }) => {
                vec![pooling.backward(&input, &output, &output_gradient())]
            }
            (Stage::Recurrent(layer, recurrent), Kept::Recurrent(memory)) => {
                let weights = recurrent_weights(network, *layer, values);
                let of = recurrent.backward(&weights, &memory, output_gradient(), count, wants_input);
                for (slot, of) in network.slots[*layer].iter().zip(of.weights) {
                    gradients[slot.range.clone()].copy_from_slice(&of);
                }
                of.input.into_iter().collect()
            }
            (Stage::Add, Kept::Nothing) => vec![output_gradient(); step.inputs.len()],
            (Stage::Concat(widths), Kept::Nothing) => split(&output_gradient(), &widths.of_batch(count)),
            (Stage::Graph(layers), Kept::Graph(graph)) => {
                let KeptGraph { input, leaves, output } = *graph;
                let is_last = number + 1 == network.steps.len();
                let of_loss = match is_last {
                    true => mean_loss(loss, output.rows(), samples, indexes),
                    false => weighted_sum(output, output_gradient(), count),
                };
                // Nothing to differentiate: a first step without parameters.
                let mut of_leaves = if of_loss.is_tracked() { Some(of_loss.backward()) } else { None };
                if is_last {
                    mean = to_vec(of_loss)[0];
                }
                for (leaf, slot) in leaves.iter().zip(network.parameter_slots(layers.clone())) {
                    if let Some(of_leaf) = of_leaves.as_mut().and_then(|of_leaves| leaf.gradient(of_leaves)) {
                        gradients[slot.range.clone()].copy_from_slice(&of_leaf);
                    }
                }
                match (wants_input, of_leaves) {
                    (true, Some(mut of_leaves)) => vec![input.gradient(&mut of_leaves, count)],
                    _ => Vec::new(),
                }
            }
            _ => unreachable!("each step keeps its own kind"),
        };
        for (value, of_input) in step.inputs.iter().zip(of_inputs) {
            match &mut of_values[*value] {
                _ if *value == 0 => {}
                Some(sum) => sum.iter_mut().zip(of_input).for_each(|(sum, more)| *sum += more),
                none => *none = Some(of_input),
            }
        }
    }
    BatchResult { loss: mean, gradients }
}

/// The outputs of a batch without gradients, a row for each sample, or for each position of each sample: `[rows, outputs]`.
pub(crate) fn outputs(network: &Network, values: &[f32], features: Vec<f32>, samples: usize) -> Tensor<2> {
    forward(network, values, features, samples, None, |_| {})
}

/// Runs all steps; in training, hands what the way back needs to `keep`. Returns the outputs as [`outputs`] does.
fn forward(
    network: &Network,
    values: &[f32],
    features: Vec<f32>,
    samples: usize,
    mut training: Option<&mut TrainingPass>,
    mut keep: impl FnMut(Kept),
) -> Tensor<2> {
    let device = if training.is_some() { Device::flex().autodiff() } else { Device::flex() };
    // Values that are still to be used, and how often.
    let mut uses = vec![0; network.steps.len() + 1];
    network.steps.iter().flat_map(|step| &step.inputs).for_each(|value| uses[*value] += 1);
    let mut known: Vec<Option<Rc<Vec<f32>>>> = vec![None; network.steps.len() + 1];
    known[0] = Some(Rc::new(match &network.shapes[0][..] {
        [channels, _, _] => swapped(&features, samples, *channels),
        _ => features,
    }));
    let mut last = None;
    for (number, step) in network.steps.iter().enumerate() {
        let mut inputs = step.inputs.iter().map(|value| {
            uses[*value] -= 1;
            let known = &mut known[*value];
            let input = if uses[*value] == 0 { known.take() } else { known.clone() };
            input.expect("values are known before they are used")
        });
        let mut x = inputs.next().expect("a step has an input");
        let output = match &step.stage {
            Stage::Convolution(layer, convolution) => {
                let slots = &network.slots[*layer];
                let (weight, bias) = (&values[slots[0].range.clone()], &values[slots[1].range.clone()]);
                let output = convolution.forward(weight, bias, &x, samples);
                keep(Kept::Convolution { input: x });
                Rc::new(output)
            }
            Stage::Relu => {
                // In place, where nobody else needs what came in.
                Rc::make_mut(&mut x).iter_mut().for_each(|value| *value = if *value > 0.0 { *value } else { 0.0 });
                keep(Kept::Relu { output: x.clone() });
                x
            }
            Stage::MaxPooling(pooling) => {
                let output = Rc::new(pooling.forward(&x));
                keep(Kept::MaxPooling { input: x, output: output.clone() });
                output
            }
            Stage::Recurrent(layer, recurrent) => {
                let (output, memory) = recurrent.forward(&recurrent_weights(network, *layer, values), &x, samples);
                keep(Kept::Recurrent(memory));
                Rc::new(output)
            }
            Stage::Add => {
                let sum = Rc::make_mut(&mut x);
                inputs.for_each(|other| sum.iter_mut().zip(other.iter()).for_each(|(sum, more)| *sum += more));
                keep(Kept::Nothing);
                x
            }
            Stage::Concat(widths) => {
                let parts: Vec<Rc<Vec<f32>>> = [x].into_iter().chain(inputs).collect();
                keep(Kept::Nothing);
                Rc::new(joined(&parts, &widths.of_batch(samples)))
            }
            Stage::Graph(layers) => {
                let shape = &network.shapes[layers.start];
                let data = match &shape[..] {
                    [channels, _, _] => swapped(&x, *channels, samples),
                    _ => Rc::unwrap_or_clone(x),
                };
                let mut input = Activations::new(data, samples, shape, &device);
                if training.is_some() && step.inputs[0] > 0 {
                    input = input.tracked(&device);
                }
                let leaves = network.leaves(layers.clone(), values, &device);
                let statistics = &values[network.parameters..];
                let output = network.forward(layers.clone(), &leaves, statistics, input.clone(), training.as_deref_mut());
                let next = match network.steps.get(number + 1) {
                    Some(_) => output.channels_first(samples),
                    None => Vec::new(),
                };
                last = Some(output.clone());
                keep(Kept::Graph(Box::new(KeptGraph { input, leaves, output })));
                Rc::new(next)
            }
        };
        known[number + 1] = Some(output);
    }
    last.expect("the last step is a graph").rows()
}

fn recurrent_weights<'a>(network: &Network, layer: usize, values: &'a [f32]) -> RecurrentWeights<'a> {
    let of = |slot: usize| &values[network.slots[layer][slot].range.clone()];
    RecurrentWeights { of_input: of(0), of_hidden: of(1), bias_of_input: of(2), bias_of_hidden: of(3) }
}

/// The mean loss over a batch (of all positions, where there is an output for each), of shape `[1]`. `outputs` are rows as
/// [`outputs`] gives them.
pub(crate) fn mean_loss(loss: Loss, outputs: Tensor<2>, samples: &Samples, indexes: &[u32]) -> Tensor<1> {
    let ([rows, width], device) = (outputs.dims(), outputs.device());
    match (loss, samples.labels(indexes)) {
        (Loss::CrossEntropy, Some(labels)) => {
            let labels = labels.iter().map(|label| i64::from(*label)).collect::<Vec<i64>>();
            let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [rows, 1]), &device);
            log_softmax(outputs, 1).gather(1, labels).sum() * (-1.0 / rows as f64)
        }
        _ => {
            let targets = TensorData::new(samples.targets(indexes), [rows, width]);
            let difference = outputs - Tensor::from_data(targets, &device);
            (difference.clone() * difference).sum() * (1.0 / (rows * width) as f64)
        }
    }
}

/// A number whose gradient by `output` is `gradient`: carries the chain rule into a graph.
fn weighted_sum(output: Activations, gradient: Vec<f32>, samples: usize) -> Tensor<1> {
    fn sum<const D: usize>(output: Tensor<D>, gradient: Vec<f32>) -> Tensor<1> {
        let (gradient, device) = (TensorData::new(gradient, output.dims()), output.device());
        (output * Tensor::from_data(gradient, &device)).sum()
    }
    match output {
        Activations::Flat(output) => sum(output, gradient),
        Activations::Sequence(output) => sum(output, gradient),
        Activations::Image(output) => {
            let gradient = swapped(&gradient, output.dims()[1], samples);
            sum(output, gradient)
        }
    }
}

impl Activations {
    fn tracked(self, device: &Device) -> Activations {
        match self {
            Activations::Flat(x) => Activations::Flat(tracked(x, device)),
            Activations::Sequence(x) => Activations::Sequence(tracked(x, device)),
            Activations::Image(x) => Activations::Image(tracked(x, device)),
        }
    }

    /// The values as steps hand them on: an image's channels first.
    fn channels_first(&self, samples: usize) -> Vec<f32> {
        match self {
            Activations::Flat(x) => to_vec(x.clone()),
            Activations::Sequence(x) => to_vec(x.clone()),
            Activations::Image(x) => swapped(&to_vec(x.clone()), samples, x.dims()[1]),
        }
    }

    /// The gradient of a graph's input, as steps hand it on.
    fn gradient(&self, gradients: &mut Gradients, samples: usize) -> Vec<f32> {
        match self {
            Activations::Flat(x) => x.grad_remove(gradients).map(to_vec).unwrap_or_default(),
            Activations::Sequence(x) => x.grad_remove(gradients).map(to_vec).unwrap_or_default(),
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
pub(crate) fn swapped(values: &[f32], a: usize, b: usize) -> Vec<f32> {
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

impl Widths {
    fn of_batch(&self, samples: usize) -> Vec<usize> {
        let times = if self.are_images { samples } else { 1 };
        self.of_sample.iter().map(|width| width * times).collect()
    }
}

/// Rows of all parts side by side.
fn joined(parts: &[Rc<Vec<f32>>], widths: &[usize]) -> Vec<f32> {
    let rows = parts[0].len() / widths[0];
    let mut result = Vec::with_capacity(rows * widths.iter().sum::<usize>());
    for row in 0..rows {
        for (part, width) in parts.iter().zip(widths) {
            result.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    result
}

/// The reverse of [`joined`].
fn split(values: &[f32], widths: &[usize]) -> Vec<Vec<f32>> {
    let mut parts: Vec<Vec<f32>> = vec![Vec::new(); widths.len()];
    let mut rest = values;
    while !rest.is_empty() {
        for (part, width) in parts.iter_mut().zip(widths) {
            let (own, others) = rest.split_at(*width);
            part.extend_from_slice(own);
            rest = others;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use deepmarket_job::DatasetManifest;
    use deepmarket_types::Hash;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{initial::initial_values, testing};

    /// A small net and what it is tried on.
    struct Case {
        network: Network,
        loss: Loss,
        samples: Samples,
        values: Vec<f32>,
    }

    impl Case {
        fn new((manifest, shard): (DatasetManifest, Vec<u8>), layers: &str, loss: Loss) -> Case {
            let training = "loss = \"mse\"\noptimizer = { sgd = { lr = 0.1 } }\nbatch = 8\nepochs = 1";
            let spec = testing::spec_of(&format!("{:?}", manifest.shape), layers, training);
            let mut samples = Samples::new(&manifest);
            samples.add(&manifest, 0, manifest.splits[0].shards[0].samples, &shard).unwrap();
            let network = Network::new(&spec.model).unwrap();
            let values = initial_values(&network, 3);
            Case { network, loss, samples, values }
        }

        /// The loss and gradient over some samples, with one parameter changed.
        fn run(&self, change: Option<(usize, f32)>) -> BatchResult {
            let mut values = self.values.clone();
            if let Some((index, change)) = change {
                values[index] += change;
            }
            let mut statistics = values[self.network.parameters..].to_vec();
            // The same dropout each time.
            let mut pass = TrainingPass { rng: ChaCha8Rng::from_seed(Hash::default().0), statistics: &mut statistics };
            train_batch(&self.network, self.loss, &values, &self.samples, &(0..12).collect::<Vec<u32>>(), &mut pass)
        }

        fn check_gradients(&self) {
            let gradients = self.run(None).gradients;
            let step = 1e-2;
            for (index, gradient) in gradients.iter().enumerate() {
                let slope = |step| (self.run(Some((index, step))).loss - self.run(Some((index, -step))).loss) / (2.0 * step);
                // Exact but for the fifth derivative.
                let difference = (4.0 * slope(step) - slope(2.0 * step)) / 3.0;
                let error = (difference - gradient).abs();
                let (loss, layers) = (self.loss, &self.network.layers);
                assert!(error < 5e-4 + 0.03 * gradient.abs(), "{loss:?} {index}: {difference} is not {gradient}: {layers:?}");
            }
            assert!(gradients.iter().any(|gradient| gradient.abs() > 1e-3));
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let layers = "{ conv2d = { out = 2, kernel = 3, padding = 1, stride = 2 } }, { batch_norm = {} }, \"tanh\", \
                      { avg_pool2d = { kernel = 2 } }, { dropout = { rate = 0.25 } }, \"flatten\", { linear = { out = 5 } }, \
                      { layer_norm = {} }, \"gelu\", { linear = { out = 4 } }, \"sigmoid\", { linear = { out = 2 } }";
        let softmax = format!("{layers}, \"softmax\"");
        for (layers, loss) in [(layers, Loss::CrossEntropy), (layers, Loss::Mse), (&softmax, Loss::Mse)] {
            Case::new(testing::dataset(), layers, loss).check_gradients();
        }
    }

    #[test]
    fn gradients_of_values_that_go_around_layers_agree_with_finite_differences() {
        let conv = |out, kernel| format!("{{ conv2d = {{ out = {out}, kernel = {kernel}, padding = {} }} }}", kernel / 2);
        let layers = format!(
            "{{ avg_pool2d = {{ kernel = 2 }} }}, {}, \"tanh\", {{ batch_norm = {{}}, name = \"a\" }}, {}, \"gelu\", \
             {{ add = {{ with = [\"a\", \"a\"] }}, name = \"b\" }}, {{ take = {{ from = \"a\" }} }}, {}, \"sigmoid\", \
             {{ concat = {{ with = [\"b\", \"a\"] }} }}, {}, {{ global_avg_pool = {{}}, name = \"c\" }}, {{ linear = {{ out = 3 }} }}, \
             {{ concat = {{ with = [\"c\"] }} }}, {{ linear = {{ out = 2 }} }}",
            conv(2, 3),
            conv(2, 3),
            conv(3, 1),
            conv(2, 1)
        );
        Case::new(testing::dataset(), &layers, Loss::CrossEntropy).check_gradients();
        let from_input = "{ conv2d = { out = 1, kernel = 3, padding = 1 } }, { add = { with = [\"input\"] }, name = \"a\" }, \
                          { take = { from = \"input\" } }, \"flatten\", { linear = { out = 2 }, name = \"b\" }, { take = { from = \"a\" } }, \
                          \"flatten\", { linear = { out = 2 } }, { add = { with = [\"b\"] } }";
        Case::new(testing::dataset(), from_input, Loss::Mse).check_gradients();
    }

    #[test]
    fn gradients_of_sequence_layers_agree_with_finite_differences() {
        let embed = "{ embedding = { vocabulary = 5, out = 4 } }";
        let next_token = ", { layer_norm = {} }, { linear = { out = 5 } }";
        for layers in [
            "{ position_embedding = {} }, { lstm = { hidden = 3 } }",
            "{ gru = { hidden = 3 } }, \"tanh\", { lstm = { hidden = 3 } }",
            "{ attention = { heads = 2, causal = true } }",
            "{ transformer_encoder = { heads = 2, feed_forward = 3, causal = true, dropout = 0.25 } }",
            "{ conv1d = { out = 3, kernel = 3, padding = 1 }, name = \"a\" }, \"gelu\", { concat = { with = [\"a\"] } }",
        ] {
            Case::new(testing::sequences(true), &format!("{embed}, {layers}{next_token}"), Loss::CrossEntropy).check_gradients();
        }
        for layers in [
            "{ position_embedding = { kind = \"sinusoidal\" } }, { gru = { hidden = 3, return_sequence = false } }",
            "{ lstm = { hidden = 3, return_sequence = false } }",
            "{ conv1d = { out = 3, kernel = 2, stride = 2, padding = 1 } }, \"flatten\"",
            "{ attention = { heads = 1 } }, { global_max_pool = {} }",
            "{ transformer_encoder = { heads = 4, feed_forward = 3 } }, \"last\"",
            "{ gru = { hidden = 3 } }, { softmax = {} }, { reshape = { to = [9, 2] } }, { global_avg_pool = {} }",
        ] {
            Case::new(testing::sequences(false), &format!("{embed}, {layers}, {{ linear = {{ out = 2 }} }}"), Loss::Mse)
                .check_gradients();
        }
    }

    #[test]
    fn a_causal_model_does_not_look_ahead() {
        let layers = "{ embedding = { vocabulary = 5, out = 4 } }, { attention = { heads = 2, causal = true } }, \
                      { transformer_encoder = { heads = 2, feed_forward = 3, causal = true } }, { lstm = { hidden = 3 } }";
        let case = Case::new(testing::sequences(true), layers, Loss::CrossEntropy);
        let run = |tokens: [f32; 6]| to_vec(outputs(&case.network, &case.values, tokens.to_vec(), 1));
        let (one, other) = (run([0.0, 1.0, 2.0, 3.0, 4.0, 0.0]), run([0.0, 1.0, 2.0, 1.0, 1.0, 1.0]));
        assert_eq!(one[..9], other[..9]);
        assert!(one[9..].iter().zip(&other[9..]).all(|(one, other)| one != other));
    }

    #[test]
    fn a_pass_has_fast_steps_in_graphs_and_outside_of_them_only_what_it_must() {
        let layers = "{ conv2d = { out = 2, kernel = 3, padding = 1 }, name = \"a\" }, \"relu\", { batch_norm = {} }, \"relu\", \
                      { add = { with = [\"a\"] } }, \"relu\", \"flatten\", { linear = { out = 2 } }";
        let case = Case::new(testing::dataset(), layers, Loss::CrossEntropy);
        let steps: Vec<(&str, &[usize])> = case
            .network
            .steps
            .iter()
            .map(|step| {
                let name = match &step.stage {
                    Stage::Convolution(..) => "convolution",
                    Stage::Relu => "relu",
                    Stage::Add => "add",
                    Stage::Graph(layers) if *layers == (2..4) => "norm and relu",
                    Stage::Graph(layers) if *layers == (6..8) => "head",
                    _ => "other",
                };
                (name, &step.inputs[..])
            })
            .collect();
        let expected: [(&str, &[usize]); 6] =
            [("convolution", &[0]), ("relu", &[1]), ("norm and relu", &[2]), ("add", &[3, 1]), ("relu", &[4]), ("head", &[5])];
        assert_eq!(steps, expected);
    }
}
