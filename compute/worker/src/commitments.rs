//! The commitments of all rounds so far, as one root (DESIGN section 7).
//!
//! A Merkle mountain range: perfect binary trees of descending height, one for each bit of the number of leaves. Adding a
//! round costs an amortised two hashes and the range keeps at most 64 of them, so a lease of a million rounds is as cheap as
//! one of ten.

use deepmarket_types::{ChainId, Hash, JobId, LeaseId, SecretKey};

/// A root over leaves that come one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountainRange {
    leaves: u64,
    /// The tree of 2^i leaves at index i, where there is one.
    peaks: Vec<Option<Hash>>,
}

impl MountainRange {
    pub fn push(&mut self, leaf: Hash) {
        self.leaves += 1;
        let mut carried = leaf;
        for peak in &mut self.peaks {
            match peak.take() {
                Some(left) => carried = Hash::tagged("deepmarket/v1/round-node", &[&left.0, &carried.0]),
                None => {
                    *peak = Some(carried);
                    return;
                }
            }
        }
        self.peaks.push(Some(carried));
    }

    /// The number of leaves and all peaks from the oldest on, in one hash.
    pub fn root(&self) -> Hash {
        let leaves = self.leaves.to_le_bytes();
        let peaks = self.peaks.iter().rev().flatten().map(|peak| peak.0.as_slice());
        let parts: Vec<&[u8]> = std::iter::once(leaves.as_slice()).chain(peaks).collect();
        Hash::tagged("deepmarket/v1/round-root", &parts)
    }
}

/// Makes the commitments of one lease's rounds: what the trainer committed to, bound to chain, job, rank and round, and
/// salted, so that another's commitment is of no use.
pub(crate) struct Committer {
    chain: ChainId,
    job: JobId,
    rank: u32,
    salt: Hash,
}

impl Committer {
    /// The salt follows from the machine's secret key, so that nobody guesses it and it needn't be stored to be revealed.
    pub fn new(chain: ChainId, job: JobId, lease: LeaseId, rank: u32, key: &SecretKey) -> Committer {
        let salt = Hash::tagged("deepmarket/v1/round-salt", &[&key.seed(), &chain.0, &lease.0.to_le_bytes()]);
        Committer { chain, job, rank, salt }
    }

    pub fn commit(&self, round: u64, trainers: &Hash) -> Hash {
        let (job, rank, round) = (self.job.0.to_le_bytes(), self.rank.to_le_bytes(), round.to_le_bytes());
        Hash::tagged("deepmarket/v1/round", &[&self.chain.0, &job, &rank, &round, &trainers.0, &self.salt.0])
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
    fn the_running_root_is_the_root_of_the_whole_range() {
        let mut range = MountainRange::default();
        let mut leaves = Vec::new();
        assert_eq!(range.root(), naive_root(&[]));
        for n in 0..300 {
            range.push(leaf(n));
            leaves.push(leaf(n));
            assert_eq!(range.root(), naive_root(&leaves), "{n} leaves");
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
    fn a_commitment_is_bound_to_its_place_and_to_the_machine() {
        let key = SecretKey::from_seed([1; 32]);
        let chain = Hash::of(b"chain");
        let committer = Committer::new(chain, JobId(1), LeaseId(2), 0, &key);
        let commitment = committer.commit(5, &leaf(9));
        assert_eq!(commitment, Committer::new(chain, JobId(1), LeaseId(2), 0, &key).commit(5, &leaf(9)));
        assert_ne!(commitment, committer.commit(6, &leaf(9)));
        assert_ne!(commitment, Committer::new(chain, JobId(1), LeaseId(2), 1, &key).commit(5, &leaf(9)));
        assert_ne!(commitment, Committer::new(chain, JobId(3), LeaseId(2), 0, &key).commit(5, &leaf(9)));
        let other = SecretKey::from_seed([2; 32]);
        assert_ne!(commitment, Committer::new(chain, JobId(1), LeaseId(2), 0, &other).commit(5, &leaf(9)));
    }
}
