//! What a worker commits to, round by round, and what opens it later (DESIGN section 7).
//!
//! ```text
//!  re-execution ─▶ RoundOutcome ─ answer ─┐
//!                                salt ────┴─▶ seal ─┐
//!  round, samples ─────────────────────────────────┴─▶ leaf ─▶ MountainRange ─▶ root, in the receipt
//! ```
//!
//! The answer can only be known by computing the round (or from somebody who did). The seal hides it, so that an auditor who is
//! shown the leaf and the salt can check an answer and can't read it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{ChainId, Hash, JobId, LeaseId};

/// The most trees of a range: one for each bit of the number of leaves.
const MAX_PEAKS: usize = 64;

/// What computing a round again gives: equal to the bit inside a determinism class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundOutcome {
    /// Job seed, round, shards, and the hashes of parameters and optimizer state before the round.
    pub inputs: Hash,
    /// [`steps_root`] of the hashes of the state after each step.
    pub steps: Hash,
    /// The hash of the update.
    pub output: Hash,
    /// What was sent to each member of the team, see [`exchange_root`].
    pub exchange: Hash,
    /// Samples that the round used.
    pub samples: u64,
}

impl RoundOutcome {
    /// The answer to "what does this round give?".
    pub fn answer(&self) -> Hash {
        let samples = self.samples.to_le_bytes();
        let parts: [&[u8]; 5] = [&self.inputs.0, &self.steps.0, &self.output.0, &self.exchange.0, &samples];
        Hash::tagged("deepmarket/v1/answer", &parts)
    }
}

/// One hash over the hashes of the state after each step of a round.
pub fn steps_root(steps: &[Hash]) -> Hash {
    let parts: Vec<&[u8]> = steps.iter().map(|step| step.0.as_slice()).collect();
    Hash::tagged("deepmarket/v1/steps", &parts)
}

/// One hash over the hashes of the parts of an update, one for each member of the team in order: what that member sums.
pub fn exchange_root(parts: &[Hash]) -> Hash {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.0.as_slice()).collect();
    Hash::tagged("deepmarket/v1/exchange", &parts)
}

/// Hides an answer until it is known otherwise. Salted, so that equal answers of two machines look different.
pub fn seal(answer: &Hash, salt: &Hash) -> Hash {
    Hash::tagged("deepmarket/v1/seal", &[&answer.0, &salt.0])
}

/// Hides an auditor's answer until all auditors have given theirs; bound to the audit and to the auditor's machine key.
pub fn blind(audit: crate::AuditId, auditor: &crate::PublicKey, answer: &Hash, salt: &Hash) -> Hash {
    Hash::tagged("deepmarket/v1/blind", &[&audit.0.to_le_bytes(), &crate::encode(auditor), &answer.0, &salt.0])
}

/// Whose commitment it is: what makes another's of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentPlace {
    /// The chain.
    pub chain: ChainId,
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: LeaseId,
    /// The worker's rank.
    pub rank: u32,
}

/// A worker's commitment to one round: everything about it that may be known before its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundCommitment {
    /// The round, counted from 0 over the whole job.
    pub round: u64,
    /// Samples that the worker used in it.
    pub samples: u64,
    /// Samples since its lease began, with those of this round.
    pub total_samples: u64,
    /// The hidden answer, see [`seal`].
    pub sealed: Hash,
}

impl RoundCommitment {
    /// The leaf of the receipt's tree.
    pub fn leaf(&self, place: &CommitmentPlace) -> Hash {
        let CommitmentPlace { chain, job, lease, rank } = place;
        let numbers = [job.0, lease.0, u64::from(*rank), self.round, self.samples, self.total_samples];
        let numbers: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        Hash::tagged("deepmarket/v1/round", &[&chain.0, &numbers, &self.sealed.0])
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::tagged("deepmarket/v1/round-node", &[&left.0, &right.0])
}

/// The number of leaves and all peaks from the oldest on, in one hash.
fn range_root(leaves: u64, peaks: &[Hash]) -> Hash {
    let count = leaves.to_le_bytes();
    let parts: Vec<&[u8]> = std::iter::once(count.as_slice()).chain(peaks.iter().map(|peak| peak.0.as_slice())).collect();
    Hash::tagged("deepmarket/v1/round-root", &parts)
}

/// A root over leaves that come one by one: a Merkle mountain range, perfect binary trees of descending height, one for each bit of
/// the number of leaves. Adding a leaf costs an amortised two hashes; at most 64 are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountainRange {
    leaves: u64,
    /// The tree of 2^i leaves at index i, where there is one.
    peaks: Vec<Option<Hash>>,
}

impl MountainRange {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.leaves += 1;
        let mut carried = leaf;
        for peak in &mut self.peaks {
            match peak.take() {
                Some(left) => carried = node(&left, &carried),
                None => {
                    *peak = Some(carried);
                    return;
                }
            }
        }
        self.peaks.push(Some(carried));
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The number of leaves and all peaks from the oldest on, in one hash.
    pub fn root(&self) -> Hash {
        let peaks: Vec<Hash> = self.peaks.iter().rev().copied().flatten().collect();
        range_root(self.leaves, &peaks)
    }
}

/// Shows that a leaf is in a range of some number of leaves.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafProof {
    /// The hashes beside the way from the leaf up to its tree's peak.
    pub path: Vec<Hash>,
    /// The peaks of the other trees, from the oldest on.
    pub peaks: Vec<Hash>,
}

/// Where a leaf is: the tree (its place among the trees, its height) and the leaf's index in it.
fn locate(index: u64, leaves: u64) -> Option<(usize, u32, u64)> {
    let (mut first, mut tree) = (0, 0);
    for height in (0..64).rev().filter(|height| leaves >> height & 1 == 1) {
        let size = 1_u64 << height;
        if index < first + size {
            return Some((tree, height, index - first));
        }
        first += size;
        tree += 1;
    }
    None
}

impl LeafProof {
    /// The proof for one of all leaves; none where there is no such leaf.
    pub fn of(leaves: &[Hash], index: u64) -> Option<LeafProof> {
        let (at, ..) = locate(index, leaves.len() as u64)?;
        let (mut path, mut peaks) = (Vec::new(), Vec::new());
        let (mut rest, mut tree) = (leaves, 0);
        let mut first = 0;
        while !rest.is_empty() {
            let (mut layer, after) = {
                let (a, b) = rest.split_at(1 << rest.len().ilog2());
                (a.to_vec(), b)
            };
            let size = layer.len() as u64;
            let mut place = index.wrapping_sub(first) as usize;
            while layer.len() > 1 {
                if tree == at {
                    path.push(layer[place ^ 1]);
                    place /= 2;
                }
                layer = layer.as_chunks::<2>().0.iter().map(|[left, right]| node(left, right)).collect();
            }
            if tree != at {
                peaks.push(layer[0]);
            }
            (rest, tree, first) = (after, tree + 1, first + size);
        }
        Some(LeafProof { path, peaks })
    }

    /// The root of a range of `leaves` leaves in which `leaf` has this index; none where the proof has the wrong length.
    pub fn root(&self, leaf: &Hash, index: u64, leaves: u64) -> Option<Hash> {
        let (tree, height, mut place) = locate(index, leaves)?;
        let fits = self.path.len() == height as usize && self.peaks.len() + 1 == leaves.count_ones() as usize;
        if !fits || self.peaks.len() >= MAX_PEAKS {
            return None;
        }
        let mut peak = *leaf;
        for beside in &self.path {
            peak = if place & 1 == 0 { node(&peak, beside) } else { node(beside, &peak) };
            place /= 2;
        }
        let mut peaks = self.peaks.clone();
        peaks.insert(tree, peak);
        Some(range_root(leaves, &peaks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(n: u64) -> Hash {
        Hash::of(&n.to_le_bytes())
    }

    /// The definition, written down naively: perfect trees of the greatest power of two that fits, then of the next.
    fn naive_root(leaves: &[Hash]) -> Hash {
        fn tree(leaves: &[Hash]) -> Hash {
            match leaves {
                [leaf] => *leaf,
                _ => {
                    let (left, right) = leaves.split_at(leaves.len() / 2);
                    Hash::tagged("deepmarket/v1/round-node", &[&tree(left).0, &tree(right).0])
                }
            }
        }
        let mut peaks = Vec::new();
        let mut rest = leaves;
        while !rest.is_empty() {
            let (mountain, after) = rest.split_at(1 << rest.len().ilog2());
            peaks.push(tree(mountain));
            rest = after;
        }
        let count = (leaves.len() as u64).to_le_bytes();
        let parts: Vec<&[u8]> = std::iter::once(count.as_slice()).chain(peaks.iter().map(|p| p.0.as_slice())).collect();
        Hash::tagged("deepmarket/v1/round-root", &parts)
    }

    #[test]
    fn the_running_root_is_the_root_of_the_whole_range_and_every_leaf_can_be_shown_in_it() {
        let mut range = MountainRange::default();
        let mut leaves = Vec::new();
        assert_eq!(range.root(), naive_root(&[]));
        for n in 0..130 {
            range.push(leaf(n));
            leaves.push(leaf(n));
            assert_eq!(range.root(), naive_root(&leaves), "{n} leaves");
            let count = leaves.len() as u64;
            for index in 0..count {
                let proof = LeafProof::of(&leaves, index).unwrap();
                assert_eq!(proof.root(&leaf(index), index, count), Some(range.root()), "leaf {index} of {count}");
                assert_ne!(proof.root(&leaf(index), index ^ 1, count), Some(range.root()), "in another's place");
                assert_ne!(proof.root(&leaf(index + 1), index, count), Some(range.root()), "another leaf");
                assert_ne!(proof.root(&leaf(index), index, count + 1), Some(range.root()), "in a longer range");
            }
            assert_eq!(LeafProof::of(&leaves, count), None);
        }
        assert!(range.peaks.len() <= 9);
    }

    #[test]
    fn another_order_or_another_leaf_is_another_root() {
        let root = |leaves: &[u64]| {
            let mut range = MountainRange::default();
            leaves.iter().for_each(|n| range.push(leaf(*n)));
            range.root()
        };
        assert_ne!(root(&[1, 2, 3]), root(&[2, 1, 3]));
        assert_ne!(root(&[1, 2, 3]), root(&[1, 2, 4]));
        assert_ne!(root(&[1, 2, 3]), root(&[1, 2]));
    }

    #[test]
    fn a_commitment_is_bound_to_its_place_and_to_the_salt() {
        let place = CommitmentPlace { chain: leaf(1), job: JobId(1), lease: LeaseId(2), rank: 0 };
        let (answer, salt) = (leaf(9), leaf(10));
        let commitment = RoundCommitment { round: 5, samples: 64, total_samples: 320, sealed: seal(&answer, &salt) };
        let own = commitment.leaf(&place);
        assert_eq!(own, commitment.leaf(&place));
        for other in [
            CommitmentPlace { chain: leaf(2), ..place },
            CommitmentPlace { job: JobId(2), ..place },
            CommitmentPlace { lease: LeaseId(3), ..place },
            CommitmentPlace { rank: 1, ..place },
        ] {
            assert_ne!(own, commitment.leaf(&other));
        }
        for other in [
            RoundCommitment { round: 6, ..commitment },
            RoundCommitment { samples: 65, ..commitment },
            RoundCommitment { total_samples: 321, ..commitment },
            RoundCommitment { sealed: seal(&answer, &leaf(11)), ..commitment },
        ] {
            assert_ne!(own, other.leaf(&place));
        }
    }
}
