use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use crate::{
    ImportError,
    arrays::{Array, Content, Kind},
    files,
    idx::fill,
};

/// The most bytes of a file's header.
const MAX_HEADER_BYTES: u64 = 8 * 1024 * 1024;

/// The arrays of a safetensors file.
pub(crate) fn tensors(path: &Path) -> Result<Vec<Array>, ImportError> {
    let malformed = |why: String| ImportError::Malformed { path: path.to_owned(), why };
    let mut reader = files::open(path)?;
    let mut length = [0; 8];
    let got = fill(&mut *reader, &mut length).map_err(ImportError::unreadable(path))?;
    let length = u64::from_le_bytes(length);
    if got < 8 || length > MAX_HEADER_BYTES {
        return Err(malformed("it doesn't begin like a safetensors file".into()));
    }
    let mut header = vec![0; length as usize];
    fill(&mut *reader, &mut header).map_err(ImportError::unreadable(path))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| malformed(format!("its header can't be read: {e}")))?;
    let mut arrays = Vec::new();
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).expect("the name comes from the header");
        let kind = match info.dtype {
            Dtype::BOOL => Kind::Bool,
            Dtype::U8 => Kind::Unsigned(1),
            Dtype::U16 => Kind::Unsigned(2),
            Dtype::U32 => Kind::Unsigned(4),
            Dtype::U64 => Kind::Unsigned(8),
            Dtype::I8 => Kind::Signed(1),
            Dtype::I16 => Kind::Signed(2),
            Dtype::I32 => Kind::Signed(4),
            Dtype::I64 => Kind::Signed(8),
            Dtype::F32 => Kind::Float(4),
            Dtype::F64 => Kind::Float(8),
            other => {
                let (place, why) = (format!("array '{name}'"), format!("its type is {other:?}"));
                let hint = "convert it to F32, or leave it out".to_owned();
                return Err(ImportError::Content { path: path.to_owned(), place, why, hint });
            }
        };
        let shape = info.shape.iter().map(|d| *d as u64).collect();
        let content = Content::File { offset: 8 + length + info.data_offsets.0 as u64 };
        arrays.push(Array { path: path.to_owned(), name, kind, big_endian: false, shape, content });
    }
    Ok(arrays)
}
