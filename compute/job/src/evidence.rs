use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::Hash;

/// The format version that precedes canonical bytes.
const EVIDENCE_VERSION: u8 = 1;

/// All that is needed to compute one round of one worker again, beside what the chain and the dataset say: a blob that the worker
/// stores when the round is audited. Only inputs: what the round gave isn't in it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// The audited round.
    pub round: u64,
    /// What the trainer saved after `round - averages` rounds (in `async`: after `applied - averages` rounds).
    pub state: Vec<u8>,
    /// What was applied from there on, round after round, as the trainer was given it.
    pub averages: Vec<Vec<u8>>,
    /// Rounds that were applied when the audited one was computed: `round`, or a few less in `async`.
    pub applied: u64,
    /// The training shards that the worker worked on, ascending.
    pub shards: Vec<u32>,
    /// The leases of the team that exchanged the round, in order, by rank.
    pub team: Vec<u32>,
    /// The worker's update as it was, for an auditor whose machine computes other bits; none for one of the same class.
    pub update: Option<Vec<u8>>,
    /// With it, [`RoundOutcome::steps`](deepmarket_types::RoundOutcome::steps) by the worker's word: such an auditor can compare only
    /// where they lead.
    pub steps: Option<Hash>,
}

/// Bytes that are no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the inputs of the audited round can't be used: {0}")]
pub struct EvidenceError(pub String);

impl Evidence {
    /// The most bytes of an evidence's blob: the most that gateways store.
    pub const MAX_BYTES: usize = 256 * 1024 * 1024;

    /// Canonical bytes: version ‖ fields.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![EVIDENCE_VERSION];
        self.serialize(&mut bytes).expect("writing to memory can't fail");
        bytes
    }

    /// Reads bytes from outside; one value has one encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<Evidence, EvidenceError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(EvidenceError(format!("{} bytes are more than {}", bytes.len(), Self::MAX_BYTES)));
        }
        match bytes.split_first() {
            Some((&EVIDENCE_VERSION, fields)) => Evidence::try_from_slice(fields).map_err(|e| EvidenceError(e.to_string())),
            Some((version, _)) => Err(EvidenceError(format!("format version {version} is not known to this release"))),
            None => Err(EvidenceError("they are empty".into())),
        }
    }

    /// The blob's name.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_survives_its_bytes_and_nothing_else_is_evidence() {
        let evidence = Evidence {
            round: 7,
            state: vec![1; 9],
            averages: vec![vec![2; 8], vec![]],
            applied: 7,
            shards: vec![0, 3],
            team: vec![0, 2],
            update: None,
            steps: None,
        };
        let bytes = evidence.to_bytes();
        assert_eq!(Evidence::from_bytes(&bytes), Ok(evidence));
        assert!(Evidence::from_bytes(&[]).is_err() && Evidence::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(
            Evidence::from_bytes(&[&bytes[..], &[0]].concat()).is_err()
                && Evidence::from_bytes(&[&[9], &bytes[1..]].concat()).is_err()
        );
    }
}
