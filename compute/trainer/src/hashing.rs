use deepmarket_types::Hash;

use crate::optimizer::OptimizerState;

/// `Hash::tagged` over the little-endian bytes of floats, without a copy of them all.
pub(crate) fn hash_floats(tag: &str, floats: &[f32]) -> Hash {
    let mut hasher = tagged(tag);
    add_floats(&mut hasher, floats);
    Hash(*hasher.finalize().as_bytes())
}

/// Hash of parameters and statistics.
pub(crate) fn parameters_hash(values: &[f32]) -> Hash {
    hash_floats("deepmarket/v1/parameters", values)
}

/// The hash of all that a step changes: the optimizer's steps, parameters and statistics, the optimizer's vectors.
pub(crate) fn hash_state(values: &[f32], optimizer: &OptimizerState) -> Hash {
    let mut hasher = tagged("deepmarket/v1/state");
    add_part(&mut hasher, &optimizer.steps.to_le_bytes());
    for floats in [values, &optimizer.first, &optimizer.second] {
        add_floats(&mut hasher, floats);
    }
    Hash(*hasher.finalize().as_bytes())
}

impl OptimizerState {
    pub(crate) fn hash(&self) -> Hash {
        let parts = [hash_floats("first", &self.first), hash_floats("second", &self.second)];
        Hash::tagged("deepmarket/v1/optimizer", &[&self.steps.to_le_bytes(), &parts[0].0, &parts[1].0])
    }
}

fn tagged(tag: &str) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    add_part(&mut hasher, tag.as_bytes());
    hasher
}

fn add_part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn add_floats(hasher: &mut blake3::Hasher, floats: &[f32]) {
    hasher.update(&(floats.len() as u64 * 4).to_le_bytes());
    let mut bytes = [0; 16 * 1024];
    for floats in floats.chunks(bytes.len() / 4) {
        for (bytes, float) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(floats) {
            *bytes = float.to_le_bytes();
        }
        hasher.update(&bytes[..floats.len() * 4]);
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_job::protocol::floats_to_bytes;

    use super::*;

    #[test]
    fn floats_are_hashed_as_their_bytes() {
        for length in [0, 1, 4095, 4096, 4097, 10_000] {
            let floats: Vec<f32> = (0..length).map(|i| i as f32 * 0.1).collect();
            let bytes = floats_to_bytes(&floats);
            assert_eq!(hash_floats("tag", &floats), Hash::tagged("tag", &[&bytes]));
        }
    }

    #[test]
    fn a_states_hash_is_over_everything_that_a_step_changes() {
        let optimizer = OptimizerState { steps: 3, first: vec![1.0, 2.0], second: vec![3.0] };
        let values = [0.5, -0.0];
        let parts = [&values[..], &optimizer.first, &optimizer.second].map(floats_to_bytes);
        let parts: [&[u8]; 4] = [&3_u64.to_le_bytes(), &parts[0], &parts[1], &parts[2]];
        let hash = hash_state(&values, &optimizer);
        assert_eq!(hash, Hash::tagged("deepmarket/v1/state", &parts));
        assert_ne!(hash, hash_state(&[0.5, 0.0], &optimizer));
        assert_ne!(hash, hash_state(&values, &OptimizerState { steps: 4, ..optimizer.clone() }));
        assert_ne!(hash, hash_state(&values, &OptimizerState { first: vec![1.0], second: vec![2.0, 3.0], steps: 3 }));
    }
}
