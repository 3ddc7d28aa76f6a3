/// A shard of byte images with classes as a safetensors file: `x` U8 `[samples, shape…]`, `y` U8 `[samples]`.
pub fn shard_bytes(x: &[u8], y: &[u8], shape: &[u32]) -> Vec<u8> {
    safetensors(y.len(), Tensor { dtype: "U8", shape, bytes: x }, Tensor { dtype: "U8", shape: &[], bytes: y })
}

/// One of a shard's two tensors.
pub(crate) struct Tensor<'a> {
    /// The type's name in safetensors.
    pub dtype: &'static str,
    /// The shape of one sample.
    pub shape: &'a [u32],
    /// All samples.
    pub bytes: &'a [u8],
}

/// A shard as a safetensors file. Written by hand, so that equal samples give equal bytes on every version of every library.
pub(crate) fn safetensors(samples: usize, x: Tensor<'_>, y: Tensor<'_>) -> Vec<u8> {
    let shape = |shape: &[u32]| shape.iter().map(|d| format!(",{d}")).collect::<String>();
    let (x_end, end) = (x.bytes.len(), x.bytes.len() + y.bytes.len());
    let mut header = format!(
        r#"{{"x":{{"dtype":"{}","shape":[{samples}{}],"data_offsets":[0,{x_end}]}},"y":{{"dtype":"{}","shape":[{samples}{}],"data_offsets":[{x_end},{end}]}}}}"#,
        x.dtype,
        shape(x.shape),
        y.dtype,
        shape(y.shape),
    );
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(x.bytes);
    bytes.extend_from_slice(y.bytes);
    bytes
}
