use deepmarket_types::Hash;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::network::{Initial, Network};

/// The initial parameters and statistics of a model, drawn on the host. Only sums and products, so that they are the same on
/// every machine.
pub(crate) fn initial_values(network: &Network, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; network.floats];
    for (index, slots) in network.slots.iter().enumerate() {
        let key = Hash::tagged("deepmarket/v1/initial-parameters", &[&seed.to_le_bytes(), &(index as u64).to_le_bytes()]);
        let mut rng = ChaCha8Rng::from_seed(key.0);
        for slot in slots {
            let values = &mut values[slot.range.clone()];
            match slot.initial {
                Initial::Uniform { bound } => values.fill_with(|| uniform(&mut rng) * bound),
                Initial::Normal => values.fill_with(|| normal(&mut rng)),
                Initial::Zeros => values.fill(0.0),
                Initial::Ones => values.fill(1.0),
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

/// Nearly a normal deviate: the sum of twelve uniform numbers from -1/2 to 1/2 has deviation 1 (and lies within ±6).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| uniform(rng) * 0.5).sum()
}
