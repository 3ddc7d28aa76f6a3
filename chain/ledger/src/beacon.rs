//! The beacon: randomness that comes after what it decides about, and that no single validator can bias.
//!
//! Each validator commits to a chain of hashes: its first link is only an anchor, and every later one is a hash's preimage, so that it
//! can show one value only. Each block shows its proposer's next link, which is mixed in:
//!
//! ```text
//!   mix(h) = H(mix(h-1), link of the proposer of h)          a window is drawn two mixes after its receipt
//! ```
//!
//! The proposer of the second of these blocks knows what it will draw, and nobody does before. All that it can do about it is to
//! hold the link back: by leaving its turn to the next validator, or by a zero link. That is seen, and remembered; its next block
//! must show the very same link, and then the draw that it would have made is made as well. So holding back can only add audits.
//! (A validator that never comes back has left; so many links can't be held back by fewer than all.)

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{ChainId, Hash, Header, PublicKey, SecretKey};

use crate::{BlockError, Ledger, StateKey, change::Change};

/// Links of one chain after its anchor. Then the validator commits to a new one.
pub const LINKS: u32 = 4_096;
/// The most turns that are remembered as held back; of more the oldest are forgotten.
const MAX_HELD_BACK: usize = 64;
/// A window is drawn with this many mixes after its receipt's block.
pub(crate) const MIXES_LATER: u64 = 2;

/// Where a validator's chain of hashes stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChainOfHashes {
    /// Counts the chains that it committed to, from 1.
    pub number: u32,
    /// Links that it showed of the present one, after the anchor.
    pub shown: u32,
    /// The last one (or the anchor): the hash of the next one.
    pub last: Hash,
}

/// A turn in which a validator held its link back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct HeldBack {
    pub validator: PublicKey,
    /// The mix before it, and how many mixes there were with the one that it would have made.
    pub before: Hash,
    pub mixes: u64,
}

/// The state of the beacon.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Beacon {
    /// The present value.
    pub mix: Hash,
    /// How many links are in it.
    pub mixes: u64,
    /// Each validator's chain.
    pub chains: BTreeMap<PublicKey, ChainOfHashes>,
    pub(crate) held_back: Vec<HeldBack>,
}

fn after(link: &Hash) -> Hash {
    Hash::tagged("deepmarket/v1/beacon-link", &[&link.0])
}

fn mixed(mix: &Hash, link: &Hash) -> Hash {
    Hash::tagged("deepmarket/v1/beacon", &[&mix.0, &link.0])
}

/// The link that a validator shows next. Follows from its secret key, so that nothing needs to be stored and a restarted or
/// restored validator goes on where it was.
pub fn next_link(key: &SecretKey, chain: &ChainId, at: Option<&ChainOfHashes>) -> Hash {
    let (number, shown) = match at {
        Some(at) if at.shown < LINKS => (at.number, at.shown + 1),
        at => (at.map_or(0, |at| at.number) + 1, 0),
    };
    let parts: [&[u8]; 3] = [&key.seed(), &chain.0, &number.to_le_bytes()];
    let seed = Hash::tagged("deepmarket/v1/beacon-seed", &parts);
    (shown..LINKS).fold(seed, |link, _| after(&link))
}

/// A draw that is due: windows whose second mix this is, and the value that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    /// How many mixes there are with this one.
    pub mixes: u64,
    pub value: Hash,
}

impl Ledger {
    /// The beacon.
    pub fn beacon(&self) -> &Beacon {
        &self.beacon
    }

    /// The link that a validator's next block has to show.
    pub fn next_link(&self, key: &SecretKey) -> Hash {
        next_link(key, &self.chain(), self.beacon.chains.get(&key.public()))
    }

    /// Whose turn a height is if no round fails: validators take turns in the order of their keys, as in the engine.
    fn turn_of(&self, header: &Header) -> PublicKey {
        let mut keys = self.validators().to_vec();
        keys.sort_unstable();
        keys.dedup();
        keys[(header.height.0 % keys.len() as u64) as usize]
    }

    /// A link is zero, or the preimage of the one before it.
    pub(crate) fn check_link(&self, header: &Header) -> Result<(), BlockError> {
        let known = self.beacon.chains.get(&header.proposer).filter(|chain| chain.shown < LINKS);
        match known {
            Some(chain) if header.link != Hash::default() && after(&header.link) != chain.last => {
                Err(BlockError::WrongLink(header.proposer))
            }
            _ => Ok(()),
        }
    }
}

impl Change<'_> {
    /// Mixes the block's link in. Returns the draws that are due now: the regular one, and those that were held back by this
    /// proposer before.
    pub fn mix_beacon(&mut self) -> Vec<Draw> {
        let header = self.header;
        let due = self.ledger.turn_of(header);
        let beacon = &mut self.ledger.beacon;
        let before = beacon.mix;
        let withheld = |validator| HeldBack { validator, before, mixes: beacon.mixes + 1 };
        let mut held_back = Vec::new();
        // Only a chain that is committed to can be held back.
        let is_committed = |validator: &PublicKey| beacon.chains.get(validator).is_some_and(|chain| chain.shown < LINKS);
        if due != header.proposer && is_committed(&due) {
            held_back.push(withheld(due));
        }
        let mut draws = Vec::new();
        if header.link == Hash::default() {
            if is_committed(&header.proposer) {
                held_back.push(withheld(header.proposer));
            }
        } else if is_committed(&header.proposer) {
            let chain = beacon.chains.get_mut(&header.proposer).expect("it is committed to");
            (chain.shown, chain.last) = (chain.shown + 1, header.link);
            beacon.mix = mixed(&before, &header.link);
            beacon.mixes += 1;
            draws.push(Draw { mixes: beacon.mixes, value: beacon.mix });
            beacon.held_back.retain(|held| {
                let is_shown = held.validator == header.proposer;
                if is_shown {
                    draws.push(Draw { mixes: held.mixes, value: mixed(&held.before, &header.link) });
                }
                !is_shown
            });
        } else {
            let number = beacon.chains.get(&header.proposer).map_or(0, |chain| chain.number) + 1;
            beacon.chains.insert(header.proposer, ChainOfHashes { number, shown: 0, last: header.link });
        }
        beacon.held_back.extend(held_back);
        let excess = beacon.held_back.len().saturating_sub(MAX_HELD_BACK);
        beacon.held_back.drain(..excess);
        self.touch(StateKey::Beacon);
        draws
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_is_the_preimage_of_the_one_before_and_a_used_up_chain_gives_way_to_a_new_one() {
        let (key, chain) = (SecretKey::from_seed([1; 32]), Hash::of(b"chain"));
        let anchor = next_link(&key, &chain, None);
        let mut at = ChainOfHashes { number: 1, shown: 0, last: anchor };
        for shown in 1..=LINKS {
            let link = next_link(&key, &chain, Some(&at));
            assert_eq!(after(&link), at.last, "link {shown}");
            at = ChainOfHashes { shown, last: link, ..at };
        }
        let next = next_link(&key, &chain, Some(&at));
        assert_ne!(after(&next), at.last);
        assert_eq!(next, next_link(&key, &chain, Some(&ChainOfHashes { number: 1, shown: LINKS, last: Hash::default() })));
        assert_ne!(next, anchor);
        assert_ne!(anchor, next_link(&SecretKey::from_seed([2; 32]), &chain, None));
        assert_ne!(anchor, next_link(&key, &Hash::of(b"another chain"), None));
    }
}
