use std::{fmt, io, time::Duration};

use deepmarket_types::Hash;

/// Why one provider didn't give a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobFault {
    /// Not reached at any of its addresses.
    Unreachable(String),
    /// It doesn't have the blob.
    Unknown,
    /// It says that the blob has this many bytes: more than was asked for at most.
    TooLarge(u64),
    /// What it sent from this byte on doesn't match the hash: the provider is broken or lying. What came before is right.
    Corrupted {
        /// The first byte of the group that is wrong.
        offset: u64,
    },
    /// It serves others and kept saying so.
    Busy,
    /// It stopped sending.
    Stalled,
    /// It ended what it sent before the blob's end.
    Short,
    /// The connection broke off, or it spoke another protocol.
    Broken(String),
}

impl fmt::Display for BlobFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobFault::Unreachable(why) => write!(f, "not reached: {why}"),
            BlobFault::Unknown => f.write_str("doesn't have it"),
            BlobFault::TooLarge(bytes) => write!(f, "offers {bytes} bytes, which is more than this blob may have"),
            BlobFault::Corrupted { offset } => write!(f, "sent bytes that don't match the hash, from byte {offset} on"),
            BlobFault::Busy => f.write_str("is busy with others"),
            BlobFault::Stalled => f.write_str("stopped sending"),
            BlobFault::Short => f.write_str("ended too early"),
            BlobFault::Broken(why) => write!(f, "broke off: {why}"),
        }
    }
}

/// What can go wrong between machines. Codes 61xx: the worker's range.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A public key that is no ed25519 point.
    #[error("not a valid ed25519 public key")]
    BadKey,
    /// A peer id or multiaddress that can't be used.
    #[error("'{address}' can't be used as a network address: {why}; write for example /ip4/127.0.0.1/tcp/0")]
    BadAddress {
        /// The text.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// An address that can't be listened on.
    #[error("can't listen on {address}: {why}; is the port taken by another process?")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system says.
        why: String,
    },
    /// The folder of blobs can't be read or written.
    #[error("the blob store at {path} failed: {source}; check that the disk has room and is writable")]
    Store {
        /// The file or folder.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// A peer was not reached at any of its addresses.
    #[error("peer {peer} was not reached: {why}")]
    Unreachable {
        /// The peer's id.
        peer: String,
        /// The last attempt's error.
        why: String,
    },
    /// Nobody gave the blob. Every provider that was asked is named with its fault.
    #[error("blob {hash} could not be fetched from {} providers{}", .tries.len(), show_tries(.tries))]
    Unavailable {
        /// The blob.
        hash: Hash,
        /// Who was asked, in order, and what came of it.
        tries: Vec<(String, BlobFault)>,
    },
    /// A blob that is here is larger than it may be.
    #[error("blob {hash} has {bytes} bytes; at most {limit} are allowed here")]
    TooLarge {
        /// The blob.
        hash: Hash,
        /// Its length.
        bytes: u64,
        /// The most bytes allowed.
        limit: u64,
    },
    /// The description of a group makes no sense.
    #[error("this group can't be joined: {0}")]
    BadGroup(String),
    /// Members of the group didn't come in time.
    #[error("members {} are missing: {why}", show_positions(.positions))]
    Missing {
        /// All of them, in order.
        positions: Vec<u32>,
        /// What is known of each.
        why: String,
    },
    /// Another member went away without a word.
    #[error("member {position} is lost: {why}")]
    PeerLost {
        /// Its position.
        position: u32,
        /// How it was noticed.
        why: String,
    },
    /// Another member kept silent for too long.
    #[error("member {position} is late: it kept silent for {} s", .after.as_secs_f32())]
    Late {
        /// Its position.
        position: u32,
        /// How long it may.
        after: Duration,
    },
    /// Another member said good-bye: it ended, or its own exchange failed. Nobody is to blame, as far as this side can tell.
    #[error("member {position} left{}; join again", .because.map(|other| format!(" because of member {other}")).unwrap_or_default())]
    Left {
        /// Its position.
        position: u32,
        /// The member because of which it says it left: hearsay, for people to read.
        because: Option<u32>,
    },
    /// Another member refuses to exchange with us: it knows this group with other members.
    #[error("member {position} refused us: it knows the group with other members")]
    Refused {
        /// Its position.
        position: u32,
    },
    /// Another member sent something other than this round's part.
    #[error("member {position} is out of step: {what}")]
    OutOfStep {
        /// Its position.
        position: u32,
        /// What came, and what was expected.
        what: String,
    },
    /// An earlier exchange of this group failed half-way; its streams can't be used any more.
    #[error("an earlier exchange of this group failed; leave it and join again")]
    Broken,
    /// A note for the other members is too long.
    #[error("a note of {bytes} bytes is too long; at most {limit} are allowed")]
    NoteTooLong {
        /// Its length.
        bytes: usize,
        /// The most bytes allowed.
        limit: usize,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {} s", .after.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The network was shut down.
    #[error("the network of this process was shut down")]
    Closed,
}

impl NetError {
    /// The stable code that logs and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            NetError::BadKey => 6101,
            NetError::BadAddress { .. } => 6102,
            NetError::Listen { .. } => 6103,
            NetError::Store { .. } => 6104,
            NetError::Unreachable { .. } => 6105,
            NetError::Unavailable { .. } => 6106,
            NetError::TooLarge { .. } => 6107,
            NetError::BadGroup(_) => 6108,
            NetError::PeerLost { .. } => 6109,
            NetError::Refused { .. } => 6110,
            NetError::OutOfStep { .. } => 6111,
            NetError::Broken => 6112,
            NetError::NoteTooLong { .. } => 6113,
            NetError::Timeout { .. } => 6114,
            NetError::Closed => 6115,
            NetError::Missing { .. } => 6116,
            NetError::Late { .. } => 6117,
            NetError::Left { .. } => 6118,
        }
    }

    /// The position of the member that this side saw failing; the first one where several are missing. None where nobody in
    /// particular did: also where a member left in order ([`NetError::Left`]).
    pub fn position(&self) -> Option<u32> {
        match self {
            NetError::PeerLost { position, .. }
            | NetError::Late { position, .. }
            | NetError::Refused { position }
            | NetError::OutOfStep { position, .. } => Some(*position),
            NetError::Missing { positions, .. } => positions.first().copied(),
            _ => None,
        }
    }
}

fn show_tries(tries: &[(String, BlobFault)]) -> String {
    tries.iter().map(|(peer, fault)| format!("; {peer} {fault}")).collect()
}

fn show_positions(positions: &[u32]) -> String {
    positions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
