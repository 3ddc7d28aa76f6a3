use burn::tensor::{Device, Tensor, TensorData, activation::log_softmax};
use deepmarket_job::Loss;

use crate::{
    network::{Leaf, Network, TrainingPass, to_vec},
    samples::Samples,
};

/// What one batch gave.
pub(crate) struct BatchResult {
    /// The mean loss over the batch.
    pub(crate) loss: f32,
    /// Gradients of the parameters, flat.
    pub(crate) gradients: Vec<f32>,
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
    let device = Device::flex().autodiff();
    let leaves = network.leaves(values, &device);
    let x = network.input(samples.features(indexes), indexes.len(), &device);
    let outputs = network.forward(&leaves, &values[network.parameters..], x, Some(pass));
    let loss = mean_loss(loss, outputs, samples.targets(indexes));
    let mut of_leaves = loss.backward();
    let mut gradients = Vec::with_capacity(network.parameters);
    for (leaf, slot) in leaves.iter().zip(network.parameter_slots()) {
        let gradient = match leaf {
            Leaf::Vector(tensor) => tensor.grad_remove(&mut of_leaves).map(to_vec),
            Leaf::Matrix(tensor) => tensor.grad_remove(&mut of_leaves).map(to_vec),
            Leaf::Kernel(tensor) => tensor.grad_remove(&mut of_leaves).map(to_vec),
        };
        // A layer whose output doesn't reach the loss has no gradient: it doesn't move.
        gradients.extend(gradient.unwrap_or_else(|| vec![0.0; slot.range.len()]));
    }
    BatchResult { loss: to_vec(loss)[0], gradients }
}

/// Outputs of a batch without gradients, row by row.
pub(crate) fn outputs(network: &Network, leaves: &[Leaf], statistics: &[f32], features: Vec<f32>, samples: usize) -> Tensor<2> {
    let x = network.input(features, samples, &Device::flex());
    network.forward(leaves, statistics, x, None)
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
