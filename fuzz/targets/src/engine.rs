//! What validators' consensus engines send to each other.

use deepmarket_engine::fuzzing::{KINDS, again};

/// An engine message; the first byte says of which kind. (The parts of a proposed block are put together in
/// `deepmarket-consensus`, whose store is too heavy for this.)
pub(crate) fn engine(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    if let Some(written) = again(kind % KINDS, data) {
        assert!(written == data, "one engine message has two encodings");
    }
}
