//! The frame of a safetensors file: tensors are added to one, or taken out of it, without looking into them. Written by hand,
//! because equal tensors must give equal bytes, which the format's own crate doesn't promise for metadata.
//!
//! A job's saved state is its model's file with more tensors: those whose names begin with one of [`STATE_PREFIXES`].

use serde_json::{Map, Value, json};

/// How the names of tensors begin that belong to a saved state and not to the model.
pub const STATE_PREFIXES: [&str; 2] = ["optimizer.", "outer."];
/// The key under which a file keeps facts that are no tensors.
const METADATA: &str = "__metadata__";

/// The longest header, in bytes (DESIGN section 8). Read, it takes some thirty times as much memory, and it comes from a trainer
/// or a stranger.
const MAX_HEADER_BYTES: usize = 1024 * 1024;

/// The header's entries and the bytes after it; none where it is no safetensors file.
fn open(file: &[u8]) -> Option<(Map<String, Value>, &[u8])> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if length > rest.len().min(MAX_HEADER_BYTES) {
        return None;
    }
    let (header, data) = rest.split_at(length);
    match serde_json::from_slice(header).ok()? {
        Value::Object(entries) if entries.values().all(is_exact) => Some((entries, data)),
        _ => None,
    }
}

/// Fractions have no place in a header, and their last digit may change when they are read and written.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(entries) => entries.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// A file's beginning up to its data, with room for so many bytes of it.
fn begin(entries: Map<String, Value>, data_bytes: usize) -> Vec<u8> {
    let mut header = serde_json::to_vec(&Value::Object(entries)).expect("names and numbers");
    header.resize(header.len().next_multiple_of(8), b' ');
    // States are large: their memory is taken once.
    let mut file = Vec::with_capacity(8 + header.len() + data_bytes);
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(&header);
    file
}

/// A safetensors file with more `F32` vectors and more facts; none where it is no such file.
pub fn with_tensors(file: &[u8], vectors: &[(&str, &[f32])], facts: &[(&str, u64)]) -> Option<Vec<u8>> {
    let (mut entries, data) = open(file)?;
    let mut end = data.len();
    for (name, vector) in vectors {
        let start = end;
        end += vector.len() * 4;
        let entry = json!({ "dtype": "F32", "shape": [vector.len()], "data_offsets": [start, end] });
        entries.insert((*name).to_owned(), entry);
    }
    let metadata = entries.entry(METADATA).or_insert_with(|| json!({}));
    for (name, fact) in facts {
        metadata.as_object_mut()?.insert((*name).to_owned(), Value::String(fact.to_string()));
    }
    let mut file = begin(entries, end);
    file.extend_from_slice(data);
    let floats = vectors.iter().flat_map(|(_, vector)| vector.iter());
    floats.for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
    Some(file)
}

/// A safetensors file of one `F32` tensor.
pub fn of_tensor(name: &str, shape: &[u64], floats: &[u8]) -> Vec<u8> {
    let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, floats.len()] });
    let mut file = begin(Map::from_iter([(name.to_owned(), entry)]), floats.len());
    file.extend_from_slice(floats);
    file
}

/// A safetensors file without the tensors of a saved state: the model alone. None where it is no such file.
pub fn model_of(file: &[u8]) -> Option<Vec<u8>> {
    let (entries, data) = open(file)?;
    let mut kept = Vec::new();
    let mut model = Map::new();
    for (name, mut entry) in entries {
        if STATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        if name != METADATA {
            let offsets = entry.get("data_offsets")?.as_array()?;
            let at = |index: usize| usize::try_from(offsets.get(index)?.as_u64()?).ok();
            kept.push((at(0)?, at(1)?, name.clone()));
        } else if let Some(facts) = entry.as_object_mut() {
            facts.retain(|fact, _| !STATE_FACTS.contains(&fact.as_str()));
        }
        model.insert(name, entry);
    }
    kept.sort_unstable();
    let mut ends = 0;
    for (start, end, name) in &kept {
        let begins = ends;
        ends += data.get(*start..*end)?.len();
        model.get_mut(name)?.as_object_mut()?.insert("data_offsets".into(), json!([begins, ends]));
    }
    let mut file = begin(model, ends);
    kept.iter().for_each(|(start, end, _)| file.extend_from_slice(&data[*start..*end]));
    Some(file)
}

/// A fact that a state's file keeps: a number under a name.
pub fn fact_of(file: &[u8], name: &str) -> Option<u64> {
    let (entries, _) = open(file)?;
    entries.get(METADATA)?.get(name)?.as_str()?.parse().ok()
}

/// The facts of a saved state: the next round, steps of the optimizer, samples of the running epoch that were trained on.
pub const STATE_FACTS: [&str; 3] = ["deepmarket.round", "deepmarket.optimizer_steps", "deepmarket.trained"];

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Vec<u8> {
        let entries = json!({
            METADATA: { "format": "pt" },
            "0.weight": { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] },
        });
        let Value::Object(entries) = entries else { unreachable!() };
        let mut file = begin(entries, 4);
        file.extend_from_slice(&1.5_f32.to_le_bytes());
        file
    }

    #[test]
    fn what_a_state_adds_to_a_model_is_read_back_and_comes_off_again() {
        let model = model();
        let facts = [(STATE_FACTS[0], 7), (STATE_FACTS[2], 1 << 60)];
        let state = with_tensors(&model, &[("optimizer.first", &[1.0, 2.0]), ("outer.momentum", &[])], &facts).unwrap();
        assert_eq!((fact_of(&state, STATE_FACTS[0]), fact_of(&state, STATE_FACTS[2])), (Some(7), Some(1 << 60)));
        assert_eq!(fact_of(&state, STATE_FACTS[1]), None);
        assert!(String::from_utf8_lossy(&state).contains("optimizer.first"));
        assert_eq!(model_of(&state).unwrap(), model);
        assert_eq!(model_of(&model).unwrap(), model);
    }

    #[test]
    fn what_is_no_tensor_file_is_none() {
        for file in [&b""[..], &[1, 2, 3], &[255; 20], &[2, 0, 0, 0, 0, 0, 0, 0, b'[', b']']] {
            assert_eq!(model_of(file), None);
            assert_eq!(with_tensors(file, &[], &[]), None);
        }
        let header = |text: &str| [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat();
        assert!(model_of(&header(r#"{"__metadata__":{}}"#)).is_some());
        assert_eq!(model_of(&header(r#"{"__metadata__":{"a":[1,8.88888888888888888]}}"#)), None, "it would be written otherwise");
        let long = format!("{{}}{}", " ".repeat(MAX_HEADER_BYTES));
        assert_eq!(fact_of(&header(&long), STATE_FACTS[0]), None);
        let mut cut = model();
        cut.truncate(cut.len() - 1);
        assert_eq!(model_of(&cut), None);
    }
}
