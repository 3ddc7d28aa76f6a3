/// A shard of byte images with classes as a safetensors file: `x` U8 `[samples, shape…]`, `y` U8 `[samples]`. Written by
/// hand, so that equal samples give equal bytes on every version of every library.
pub fn shard_bytes(x: &[u8], y: &[u8], shape: &[u32]) -> Vec<u8> {
    let shape: String = shape.iter().map(|d| format!(",{d}")).collect();
    let (samples, x_end, y_end) = (y.len(), x.len(), x.len() + y.len());
    let mut header = format!(
        r#"{{"x":{{"dtype":"U8","shape":[{samples}{shape}],"data_offsets":[0,{x_end}]}},"y":{{"dtype":"U8","shape":[{samples}],"data_offsets":[{x_end},{y_end}]}}}}"#
    );
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut bytes = Vec::with_capacity(8 + header.len() + y_end);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(x);
    bytes.extend_from_slice(y);
    bytes
}
