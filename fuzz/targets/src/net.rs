//! What peers send: frames of an exchange, small messages, blobs, addresses.

use std::sync::LazyLock;

use deepmarket_net::{Encoding, PeerAddress, check_address, fuzzing, peer_id_of};
use deepmarket_types::{Hash, SecretKey};

use crate::check::said;

/// The stream from another member of a group.
pub(crate) fn frame(data: &[u8]) {
    let mut place = 0;
    for (header, body) in fuzzing::frames(data, 1) {
        let sent = [header.as_slice(), &body].concat();
        assert!(data[place..].starts_with(&sent), "one frame has two encodings");
        place += sent.len();
    }
    // Values of a share, as the first bytes say.
    let [encoding, count, values @ ..] = data else { return };
    let encoding = Encoding::ALL[usize::from(*encoding) % Encoding::ALL.len()];
    if let Some((first, second)) = fuzzing::values(encoding, values, usize::from(*count) * 2) {
        // Blocks with a scale of their own may be rounded anew; what isn't a number stays none.
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(encoding == Encoding::Int8 || first.iter().zip(&second).all(|(a, b)| same(a, b)));
    }
}

/// A request for a blob, its answer, a greeting, its answer.
pub(crate) fn message(data: &[u8]) {
    for written in fuzzing::messages(data) {
        assert!(data.starts_with(&written), "one message has two encodings");
    }
}

/// A blob of three groups, and a part of a fourth.
static BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| (0..50_000_u32).map(|i| ((i * i) >> 7) as u8).collect());
static HASH: LazyLock<Hash> = LazyLock::new(|| Hash::of(&BLOB));

/// What a provider sends as a blob. Only the blob's own bytes may be believed. The first bytes say how long the provider says
/// that it is, and how much of it is there already.
pub(crate) fn blob(data: &[u8]) {
    let [kind, length, stream @ ..] = data else { return };
    let bytes = match kind % 4 {
        0 => BLOB.len() as u64,
        1 => u64::from(*length) * 200,
        // No more than anybody takes: what is said to be longer is refused before.
        2 => BLOB.len() as u64 ^ (1 << (length % 30)),
        _ => (1 << 30) >> (length % 30),
    };
    let have = BLOB[..usize::from(kind >> 2) % 4 * 16 * 1024].to_vec();
    if bytes <= have.len() as u64 {
        return; // Refused before anything is read.
    }
    let (blob, result) = fuzzing::received_blob(stream, &HASH, bytes, have);
    assert!(BLOB.starts_with(&blob) || result.is_err() || blob == *BLOB, "wrong bytes were believed");
    let whole_groups = blob.len() / 16_384 * 16_384;
    assert!(BLOB.starts_with(&blob[..whole_groups]), "wrong bytes were kept");
    match result {
        Ok(()) => assert!(blob == *BLOB, "a part was taken for the whole"),
        Err(fault) => said(&fault),
    }
}

/// Addresses of peers, as machines put them on the chain: one a line.
pub(crate) fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let own = peer_id_of(&SecretKey::from_seed([1; 32]).public()).expect("a key");
    let named = lines.clone().next().unwrap_or_default();
    for peer_id in [own.as_str(), named] {
        let peer = PeerAddress { peer_id: peer_id.into(), addresses: lines.clone().map(str::to_owned).collect() };
        match fuzzing::dialled(&peer) {
            Ok(addresses) => {
                assert!(addresses.len() <= 16, "{} addresses are dialled", addresses.len());
                addresses.iter().for_each(|address| check_address(address).expect("what is dialled can be dialled"));
            }
            Err(error) => said(&error),
        }
    }
    lines.by_ref().take(16).for_each(|line| {
        check_address(line).err().iter().for_each(said);
    });
}
