//! The BFT engine (malachite) as DeepMarket uses it: its types, its bytes, its signatures and its start.
//!
//! What the validators decide on is the 32-byte hash of a block. The block itself travels beside the engine's own messages
//! as signed parts of [`PART_BYTES`] and is kept by whoever hosts the engine (`deepmarket-consensus`): the engine's
//! write-ahead log knows only the hash.
//!
//! ```text
//!   host (deepmarket-consensus)  ── AppMsg / replies ──  engine: rounds, votes, log, value sync
//!        builds, checks, commits blocks                     │ libp2p, noise: only the genesis validators' peers
//!                                                           └── the other validators
//! ```
//!
//! All engine messages are borsh of the forms in [`wire`], read strictly: no trailing bytes, one spelling per value. Votes,
//! proposals and parts are signed with a domain tag and the chain id.
//!
//! This crate never looks into a block and never touches the ledger. Everything generic over the engine's `Context` is
//! instantiated here, once: a change here rebuilds the whole engine (minutes of CPU time).

mod context;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod start;
pub mod wire;

pub use context::{
    Address, BlockHeight, Market, Part, Proposal, Validator, Validators, Value, Vote, part_signing_bytes, timeouts,
};
pub use keys::{VoteSigner, VoteVerifier};
pub use start::{Engine, EngineConfig, EngineError, EnginePeer, start};

/// The most bytes of a block in one proposal part.
pub const PART_BYTES: usize = 256 * 1024;

/// What a log filter should say about the engine's own crates by default: they narrate every step.
pub const LOG_FILTER: &str = "arc_malachitebft=warn,ractor=warn,libp2p=warn";

/// The engine's own types with our context filled in, so that the host names no engine crate.
pub mod host {
    use crate::Market;

    /// What the engine asks of the host.
    pub type AppMsg = malachite_app::AppMsg<Market>;
    /// What the engine tells whoever listens.
    pub type Event = malachite_app::app::engine::util::events::Event<Market>;
    /// A signed vote or proposal as it was received.
    pub type SignedConsensusMsg = malachite_app::app::types::SignedConsensusMsg<Market>;
    /// What the host publishes.
    pub type NetworkMsg = malachite_app::NetworkMsg<Market>;
    /// The channels between engine and host.
    pub type Channels = malachite_app::Channels<Market>;
    /// A value with the host's verdict.
    pub type ProposedValue = malachite_app::app::types::ProposedValue<Market>;
    /// A value that this node proposes.
    pub type LocallyProposedValue = malachite_app::app::types::LocallyProposedValue<Market>;
    /// Proof that a quorum decided a value.
    pub type CommitCertificate = malachite_core_types::CommitCertificate<Market>;
    /// The same, as value sync carries it.
    pub type ExtendedCommitCertificate = malachite_core_types::ExtendedCommitCertificate<Market>;
    /// A decided value as value sync carries it.
    pub type RawDecidedValue = malachite_sync::RawDecidedValue<Market>;
    /// What became of a synced value.
    pub type SyncedValueOutcome = malachite_app::app::engine::host::SyncedValueOutcome<Market>;
    /// Validators and timeouts of a height.
    pub type HeightParams = malachite_core_types::HeightParams<Market>;
    /// What follows a decision.
    pub type Next = malachite_app::app::engine::host::Next<Market>;
    /// One message of a stream of parts.
    pub type StreamMessage = malachite_app::app::streaming::StreamMessage<crate::Part>;

    pub use malachite_app::Reply;
    pub use malachite_app::app::streaming::{StreamContent, StreamId};
    pub use malachite_app::app::types::PeerId;
    pub use malachite_core_types::{
        Height as EngineHeight, Proposal as EngineProposal, Round, Validity, Vote as EngineVote, VoteExtensions,
    };
}
