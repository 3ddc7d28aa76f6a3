//! NumPy's `.npy` (one array) and `.npz` (a zip archive of them).

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use zip::ZipArchive;

use crate::{
    ImportError,
    arrays::{Array, Content, Kind},
    files,
    idx::fill,
};

/// The most bytes of an array's header.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// The array of a `.npy` file; its name is the file's.
pub(crate) fn npy(path: &Path) -> Result<Array, ImportError> {
    let name = files::name_of(path);
    let name = name.split(".npy").next().unwrap_or_default();
    let header = Header::read(&mut *files::open(path)?, path, name)?;
    let content = Content::File { offset: header.bytes };
    Ok(header.array(path, name, content))
}

/// The arrays of a `.npz` file.
pub(crate) fn npz(path: &Path) -> Result<Vec<Array>, ImportError> {
    let mut archive = archive(path)?;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|e| broken(path, &e))?;
        let file = member.name().to_owned();
        let Some(name) = file.strip_suffix(".npy") else { continue };
        let header = Header::read(&mut member, path, name)?;
        let content = Content::Member { member: file.clone(), offset: header.bytes };
        arrays.push(header.array(path, name, content));
    }
    Ok(arrays)
}

/// Opens a member of an archive and gives it to `read`.
pub(crate) fn member(
    path: &Path,
    name: &str,
    read: &mut dyn FnMut(&mut dyn Read) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let mut archive = archive(path)?;
    let member = archive.by_name(name).map_err(|e| broken(path, &e))?;
    read(&mut BufReader::with_capacity(1 << 17, member))
}

fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>, ImportError> {
    let file = File::open(path).map_err(ImportError::unreadable(path))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| broken(path, &e))
}

fn broken(path: &Path, error: &zip::result::ZipError) -> ImportError {
    ImportError::Malformed { path: path.to_owned(), why: format!("it isn't an archive of arrays: {error}") }
}

/// What an array's header says: `\x93NUMPY`, the version, its length, and a Python dictionary.
struct Header {
    kind: Kind,
    big_endian: bool,
    shape: Vec<u64>,
    /// Bytes until the values.
    bytes: u64,
}

impl Header {
    fn array(self, path: &Path, name: &str, content: Content) -> Array {
        let Header { kind, big_endian, shape, .. } = self;
        Array { path: path.to_owned(), name: name.to_owned(), kind, big_endian, shape, content }
    }

    fn read(reader: &mut dyn Read, path: &Path, name: &str) -> Result<Header, ImportError> {
        let bad = |why: &str, hint: &str| {
            let place = format!("array '{name}'");
            ImportError::Content { path: path.to_owned(), place, why: why.to_owned(), hint: hint.to_owned() }
        };
        let no_array = || bad("it doesn't begin like a NumPy array", "write it with numpy.save or numpy.savez");
        let mut next = |length: usize| -> Result<Vec<u8>, ImportError> {
            let mut bytes = vec![0; length];
            match fill(reader, &mut bytes).map_err(ImportError::unreadable(path))? == length {
                true => Ok(bytes),
                false => Err(no_array()),
            }
        };
        let start = next(8)?;
        if &start[..6] != b"\x93NUMPY" {
            return Err(no_array());
        }
        let (width, length) = match start[6] {
            1 => (2, next(2)?),
            _ => (4, next(4)?),
        };
        let length = length.iter().rev().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if length > MAX_HEADER_BYTES {
            return Err(no_array());
        }
        let text = String::from_utf8(next(length)?).map_err(|_| no_array())?;
        let of = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
        let (Some(descr), Some(order), Some(shape)) = (of("descr"), of("fortran_order"), of("shape")) else {
            return Err(no_array());
        };
        let shape = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
        let shape: Option<Vec<u64>> = shape.and_then(|text| {
            text.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.trim_end_matches('L').parse().ok()).collect()
        });
        let shape = shape.ok_or_else(no_array)?;
        if order.starts_with("True") && shape.len() > 1 {
            return Err(bad("it is stored column by column", "write it with numpy.ascontiguousarray"));
        }
        let descr = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(inside, _)| inside);
        let (kind, big_endian) = descr.and_then(kind_of).ok_or_else(|| {
            bad(&format!("its type is {}", descr.unwrap_or("a record")), "convert it to a number type such as float32 or uint8")
        })?;
        Ok(Header { kind, big_endian, shape, bytes: (8 + width + length) as u64 })
    }
}

/// `<f4`, `|u1`, `>i8` and so on.
fn kind_of(descr: &str) -> Option<(Kind, bool)> {
    let (order, rest) = descr.split_at_checked(1)?;
    let kind = match rest {
        "b1" => Kind::Bool,
        "u1" | "u2" | "u4" | "u8" => Kind::Unsigned(rest[1..].parse().ok()?),
        "i1" | "i2" | "i4" | "i8" => Kind::Signed(rest[1..].parse().ok()?),
        "f4" | "f8" => Kind::Float(rest[1..].parse().ok()?),
        _ => return None,
    };
    matches!(order, "<" | ">" | "|" | "=").then_some((kind, order == ">"))
}
