//! What bytes from other validators reach first, for the fuzz targets in `fuzz/`: no part of this crate's interface.

use bytes::Bytes;
use malachite_app::app::{
    consensus::LivenessMsg,
    streaming::StreamMessage,
    types::{ProposedValue, SignedConsensusMsg},
};
use malachite_codec::Codec;
use malachite_core_types::{CommitCertificate, ExtendedCommitCertificate, ValidatorProof};
use malachite_sync::{Request, Response, Status};

use crate::{Market, Part, wire::MarketCodec};

/// Kinds of messages that [`again`] knows.
pub const KINDS: u8 = 10;

/// An engine message of a kind, read from bytes and written again; `None` where it is refused.
pub fn again(kind: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    fn one<T>(bytes: &[u8]) -> Option<Vec<u8>>
    where
        MarketCodec: Codec<T>,
    {
        let message: T = MarketCodec.decode(Bytes::copy_from_slice(bytes)).ok()?;
        Some(MarketCodec.encode(&message).ok()?.to_vec())
    }
    match kind {
        0 => one::<SignedConsensusMsg<Market>>(bytes),
        1 => one::<LivenessMsg<Market>>(bytes),
        2 => one::<StreamMessage<Part>>(bytes),
        3 => one::<ProposedValue<Market>>(bytes),
        4 => one::<CommitCertificate<Market>>(bytes),
        5 => one::<ExtendedCommitCertificate<Market>>(bytes),
        6 => one::<ValidatorProof<Market>>(bytes),
        7 => one::<Status<Market>>(bytes),
        8 => one::<Request<Market>>(bytes),
        _ => one::<Response<Market>>(bytes),
    }
}
