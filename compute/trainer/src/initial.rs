use deepmarket_job::Layer;
use deepmarket_types::Hash;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::network::{LayerSlots, Role};

/// The initial parameters and statistics of a model, drawn on the host: weights and biases uniform within ±1/√fan-in
/// (PyTorch's default, Kaiming uniform with a = √5), norms the identity.
pub(crate) fn initial_values(layers: &[Layer], slots: &[LayerSlots], seed: u64, floats: usize) -> Vec<f32> {
    let mut values = vec![0.0; floats];
    for (index, slots) in slots.iter().enumerate() {
        let key = Hash::tagged("deepmarket/v1/initial-parameters", &[&seed.to_le_bytes(), &(index as u64).to_le_bytes()]);
        let mut rng = ChaCha8Rng::from_seed(key.0);
        let bound = 1.0 / (slots.fan_in.max(1) as f32).sqrt();
        let normalises = matches!(layers[index], Layer::BatchNorm { .. } | Layer::LayerNorm { .. });
        for slot in &slots.slots {
            let values = &mut values[slot.range.clone()];
            match (slot.role, normalises) {
                (Role::Weight | Role::Bias, false) => values.fill_with(|| uniform(&mut rng) * bound),
                (Role::Weight | Role::RunningVar, _) => values.fill(1.0),
                (Role::Bias | Role::RunningMean, _) => values.fill(0.0),
            }
        }
    }
    values
}

/// A number from -1 to 1, exact in an f32: 24 random bits.
fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    let bits = (rng.next_u32() >> 8) as f32;
    bits * (2.0 / 16_777_216.0) - 1.0
}
