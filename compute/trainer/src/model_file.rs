use std::collections::BTreeMap;

use deepmarket_job::{JobSpec, tensor_file::STATE_PREFIXES};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::{
    Failure,
    network::{Network, Slot},
};

/// Writes parameters and statistics as a safetensors file: names as in an `nn.Sequential` of PyTorch's modules
/// (`0.weight`; `docs/models.md` lists them), linear weights as `[out, in]`, the spec as TOML in the metadata. Written by hand, because equal models must give equal bytes (the
/// crate's writer orders metadata at random).
pub(crate) fn write(network: &Network, values: &[f32], spec: &JobSpec) -> Vec<u8> {
    let mut data = Vec::with_capacity(values.len() * 4);
    let mut header: BTreeMap<String, Value> = BTreeMap::new();
    header.insert("__metadata__".into(), json!({ "deepmarket.spec": spec.to_toml(), "format": "pt" }));
    for (name, slot) in named(network) {
        let start = data.len();
        for value in torch_order(slot, &values[slot.range.clone()]) {
            data.extend_from_slice(&value.to_le_bytes());
        }
        let offsets = [start, data.len()];
        header.insert(name, json!({ "dtype": "F32", "shape": torch_shape(slot), "data_offsets": offsets }));
    }
    let mut header = serde_json::to_vec(&header).expect("names and numbers");
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// Reads what [`write`] wrote, in the order of the flat vector. All names and shapes must match, and there must be no more.
pub(crate) fn read(network: &Network, file: &[u8]) -> Result<Vec<f32>, Failure> {
    let refuse = |why: String| Failure::data(format!("the model file can't be used: {why}"));
    let tensors = SafeTensors::deserialize(file).map_err(|e| refuse(e.to_string()))?;
    let mut values = vec![0.0; network.floats];
    let mut known = 0;
    for (name, slot) in named(network) {
        let tensor = tensors.tensor(&name).map_err(|e| refuse(format!("{name}: {e}")))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != torch_shape(slot) {
            let (dtype, shape, expected) = (tensor.dtype(), tensor.shape(), torch_shape(slot));
            return Err(refuse(format!("{name} is {dtype:?} {shape:?}, and the spec says F32 {expected:?}")));
        }
        let stored: Vec<f32> = tensor.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        values[slot.range.clone()].copy_from_slice(&own_order(slot, stored));
        known += 1;
    }
    // PyTorch counts batches in its batch norms; nothing here needs that number. A saved state has more than the model.
    let is_other =
        |name: &str| !name.ends_with(".num_batches_tracked") && !STATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let others = tensors.names().iter().filter(|name| is_other(name)).count() - known;
    if others > 0 {
        return Err(refuse(format!("it has {others} tensors that the spec's layers don't have")));
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(refuse("it has numbers that are not finite".into()));
    }
    Ok(values)
}

fn named(network: &Network) -> impl Iterator<Item = (String, &Slot)> {
    let layers = network.slots.iter().enumerate();
    layers.flat_map(|(index, slots)| slots.iter().map(move |slot| (format!("{index}.{}", slot.name), slot)))
}

fn torch_shape(slot: &Slot) -> Vec<usize> {
    let mut shape = slot.shape.clone();
    if slot.is_transposed {
        shape.reverse();
    }
    shape
}

fn torch_order(slot: &Slot, values: &[f32]) -> Vec<f32> {
    match slot.shape[..] {
        [rows, columns] if slot.is_transposed => transposed(values, rows, columns),
        _ => values.to_vec(),
    }
}

fn own_order(slot: &Slot, values: Vec<f32>) -> Vec<f32> {
    match slot.shape[..] {
        [rows, columns] if slot.is_transposed => transposed(&values, columns, rows),
        _ => values,
    }
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for column in 0..columns {
        result.extend((0..rows).map(|row| values[row * columns + column]));
    }
    result
}
