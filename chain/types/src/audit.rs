//! What is said in an audit: a worker opens its commitment, auditors answer, and in a dispute both show their steps.
//!
//! ```text
//!  draw ─▶ Disclose (worker) ─▶ Commit (auditor) ─▶ Reveal (auditor) ─▶ passed
//!                                  │ different           │ not equal
//!                                  └─▶ two more auditors ┴─▶ Trace (both sides) ─▶ Judge (validators) ─▶ false | passed
//! ```

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{AuditId, FormError, Hash, LeafProof, RoundCommitment, RoundOutcome};

/// A worker's opening of the round that is audited, and where its inputs are. Signed by the machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// The audit.
    pub audit: AuditId,
    /// The commitment of the audited round.
    pub commitment: RoundCommitment,
    /// The salt of its seal: lets the auditor check an answer without showing it.
    pub salt: Hash,
    /// Shows that it is in the receipt's tree.
    pub proof: LeafProof,
    /// The commitment of the last round that the receipt covers, where that is another one: its total of samples is the receipt's.
    pub last: Option<(RoundCommitment, LeafProof)>,
    /// The blob of the round's inputs (`deepmarket_job::Evidence`).
    pub evidence: Hash,
}

impl Disclosure {
    /// The most hashes of one proof.
    pub const MAX_PROOF: usize = 128;

    pub(crate) fn check(&self) -> Result<(), FormError> {
        let proofs = std::iter::once(&self.proof).chain(self.last.as_ref().map(|(_, proof)| proof));
        match proofs.map(|proof| proof.path.len() + proof.peaks.len()).max().unwrap_or(0) {
            hashes if hashes > Self::MAX_PROOF => {
                Err(FormError::TooLong { what: "the proof of a commitment", bytes: hashes * 32, limit: Self::MAX_PROOF * 32 })
            }
            _ => Ok(()),
        }
    }
}

/// What an auditor found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Its own answer is the worker's: it opens the seal.
    Equal {
        /// The hidden answer, see [`blind`](crate::blind).
        blinded: Hash,
    },
    /// Its own answer is another one.
    Different {
        /// The hidden answer.
        blinded: Hash,
    },
    /// The inputs aren't there, or can't be those of the round: they contradict what the chain says.
    Unusable,
    /// It can't say: the machine is taken back, out of memory, or its trainer crashed. Another auditor takes its place.
    Unable,
}

/// The hashes of the state after each step of a round: what finds the first step on which two disagree.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundTrace {
    /// The outcome whose answer was given; [`RoundOutcome::steps`] is over `steps`.
    pub outcome: RoundOutcome,
    /// After each step; the last one is the state that gives the update.
    pub steps: Vec<Hash>,
}

impl RoundTrace {
    /// The most steps of a round that can be disputed.
    pub const MAX_STEPS: usize = 1_024;

    pub(crate) fn check(&self) -> Result<(), FormError> {
        let (bytes, limit) = (self.steps.len() * 32, Self::MAX_STEPS * 32);
        if bytes > limit {
            return Err(FormError::TooLong { what: "the list of a round's steps", bytes, limit });
        }
        Ok(())
    }
}

/// How an audit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum AuditState {
    /// The worker has to open its commitment and to hand over the round's inputs.
    Disclosing,
    /// It waits for a free machine of the right class.
    Waiting,
    /// Auditors compute the round.
    Computing,
    /// All auditors have answered and show their answers.
    Revealing,
    /// They disagree: worker and auditor show their steps.
    Tracing,
    /// Validators compute the first step on which they disagree.
    Judging,
    /// It is over.
    Closed(AuditVerdict),
}

/// How an audit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditVerdict {
    /// The worker's answer is right.
    Passed,
    /// The worker's answer is wrong.
    False,
    /// The worker didn't open its commitment or hand over the inputs in time.
    Silent,
    /// Nobody could say: no auditor was free in time, or their answers all differ.
    Void,
}

impl fmt::Display for AuditState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            AuditState::Disclosing => "waits for the worker's inputs",
            AuditState::Waiting => "waits for an auditor",
            AuditState::Computing => "is being computed again",
            AuditState::Revealing => "auditors show their answers",
            AuditState::Tracing => "disputed: both sides show their steps",
            AuditState::Judging => "disputed: validators compute one step",
            AuditState::Closed(AuditVerdict::Passed) => "passed",
            AuditState::Closed(AuditVerdict::False) => "false: the work was not done as claimed",
            AuditState::Closed(AuditVerdict::Silent) => "silent: the worker didn't show its inputs in time",
            AuditState::Closed(AuditVerdict::Void) => "void: nobody could say",
        })
    }
}
