//! The commitments of one lease's rounds (DESIGN section 7).

use deepmarket_types::{
    ChainId, CommitmentPlace, Hash, JobId, LeaseId, MountainRange, RoundCommitment, RoundOutcome, SecretKey, seal,
};

/// The salt of a round's seal. It follows from the machine's secret key, so that nobody guesses it and it needn't be stored to be
/// shown; and from the round, so that one that was shown tells nothing of the others.
pub fn round_salt(key: &SecretKey, chain: &ChainId, lease: LeaseId, round: u64) -> Hash {
    let numbers = [lease.0, round].map(u64::to_le_bytes).concat();
    Hash::tagged("deepmarket/v1/round-salt", &[&key.seed(), &chain.0, &numbers])
}

/// Makes the commitments, and keeps their root.
pub(crate) struct Committer {
    place: CommitmentPlace,
    key: SecretKey,
    range: MountainRange,
}

impl Committer {
    pub fn new(chain: ChainId, job: JobId, lease: LeaseId, rank: u32, key: &SecretKey) -> Committer {
        let place = CommitmentPlace { chain, job, lease, rank };
        Committer { place, key: key.clone(), range: MountainRange::default() }
    }

    /// Commits to a round's outcome; `total_samples` are the lease's with those of this round.
    pub fn commit(&mut self, round: u64, outcome: &RoundOutcome, total_samples: u64) -> RoundCommitment {
        let salt = round_salt(&self.key, &self.place.chain, self.place.lease, round);
        let sealed = seal(&outcome.answer(), &salt);
        let commitment = RoundCommitment { round, samples: outcome.samples, total_samples, sealed };
        self.range.push(commitment.leaf(&self.place));
        commitment
    }

    /// How many rounds have a commitment.
    pub fn committed(&self) -> u64 {
        self.range.leaves()
    }

    /// The root over all of them.
    pub fn root(&self) -> Hash {
        self.range.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_opens_with_its_own_salt_and_each_round_and_lease_has_another() {
        let key = SecretKey::from_seed([1; 32]);
        let chain = Hash::of(b"chain");
        let outcome = RoundOutcome {
            inputs: Hash::of(b"i"),
            steps: Hash::of(b"s"),
            output: Hash::of(b"o"),
            exchange: Hash::of(b"e"),
            samples: 8,
        };
        let mut committer = Committer::new(chain, JobId(1), LeaseId(2), 0, &key);
        let commitment = committer.commit(5, &outcome, 40);
        assert_eq!((commitment.samples, commitment.total_samples, committer.committed()), (8, 40, 1));
        assert_eq!(seal(&outcome.answer(), &round_salt(&key, &chain, LeaseId(2), 5)), commitment.sealed);
        let next = committer.commit(6, &outcome, 48);
        assert_ne!(next.sealed, commitment.sealed, "equal answers of two rounds look different");
        let other = SecretKey::from_seed([2; 32]);
        let salts = [
            round_salt(&key, &chain, LeaseId(2), 5),
            round_salt(&key, &chain, LeaseId(2), 6),
            round_salt(&key, &chain, LeaseId(3), 5),
            round_salt(&other, &chain, LeaseId(2), 5),
        ];
        assert!((0..4).all(|a| (0..a).all(|b| salts[a] != salts[b])));
    }
}
