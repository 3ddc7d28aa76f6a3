//! The network between machines: blobs by hash, and the exchange of updates between the members of a job.
//!
//! ```text
//!            Net (handle) ── commands ──▶ swarm task (tcp + noise + yamux, identify, ping)
//!   fetch ─▶ /deepmarket/blob/1   one request a stream; bytes are verified while they stream (bao over blake3)
//!   join  ─▶ /deepmarket/round/2  one long-lived stream for each pair of members; reduce-scatter and all-gather
//! ```
//!
//! A node's libp2p identity is the ed25519 key that it has anyway (a machine's or a gateway's), so a peer's id follows
//! from the public key that the chain knows, and nobody can pose as another member. Data enters from peers and is believed
//! only once its hash matched; it leaves as verified bytes and as averages that are the same to the bit on every member.
//!
//! This is the only crate that names libp2p. It never asks the chain anything, never looks into what a blob holds, and
//! never judges the numbers that it averages: what isn't finite passes through and is the trainer's to notice.

mod blobs;
mod encoding;
mod error;
mod exchange;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod hello;
mod join;
mod link;
mod nearness;
mod peer;
mod store;
mod swarm;
mod task;
mod wire;

pub use encoding::Encoding;
pub use error::{BlobFault, NetError};
pub use exchange::{Exchange, combine, part_hash, part_hashes, share_of};
pub use group::{Group, GroupSpec, MAX_NOTE_BYTES, MAX_STARTED};
pub use peer::{PeerAddress, check_address, peer_id_of};
pub use store::BlobStore;
pub use swarm::{Net, NetConfig};
