//! Blocks in parts: cutting a proposal into a stream of messages, and putting received streams together, bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};

use deepmarket_engine::{
    Address, BlockHeight, PART_BYTES, Part,
    host::{Round, StreamContent, StreamId, StreamMessage},
    part_signing_bytes,
};
use deepmarket_types::{ChainId, Domain, Height, PublicKey, SecretKey, Signature};

use crate::validate::MAX_BODY_BYTES;

/// The most messages of a stream: `Init`, the data, `Fin`.
const MAX_PARTS: u64 = MAX_BODY_BYTES.div_ceil(PART_BYTES) as u64 + 2;
/// The most unfinished streams of one publisher; the oldest makes room. An honest one has one at a time.
const STREAMS_PER_PUBLISHER: usize = 4;
/// The most publishers with unfinished streams: a genesis document has at most 100 validators.
const MAX_PUBLISHERS: usize = 128;

/// A proposed block as it came, nothing of it checked but the form of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    pub height: Height,
    pub round: Round,
    /// Set where the block is proposed again.
    pub valid_round: Round,
    /// Who proposes it in this round.
    pub proposer: PublicKey,
    pub bytes: Vec<u8>,
    pub signature: Signature,
}

impl Streamed {
    /// Did the named proposer sign these bytes for this height and round?
    pub fn is_signed(&self, chain: &ChainId) -> bool {
        let content = part_signing_bytes(self.height.0, self.round, self.valid_round, &self.proposer, &self.bytes);
        self.proposer.verify(Domain::ProposalPart, chain, &content, &self.signature).is_ok()
    }
}

/// The messages that carry a block. `stream` must be fresh: receivers forget a stream once it is whole.
pub fn split(
    key: &SecretKey,
    chain: &ChainId,
    (height, round, valid_round): (Height, Round, Round),
    bytes: &[u8],
    stream: [u8; 16],
) -> Vec<StreamMessage> {
    let proposer = key.public();
    let content = part_signing_bytes(height.0, round, valid_round, &proposer, bytes);
    let signature = key.sign(Domain::ProposalPart, chain, &content);
    let init = Part::Init { height: BlockHeight(height.0), round, valid_round, proposer: Address(proposer) };
    let data = bytes.chunks(PART_BYTES).map(|chunk| Part::Data(chunk.to_vec().into()));
    let parts = std::iter::once(init).chain(data).chain([Part::Fin { signature }]);
    let id = StreamId::new(stream.to_vec().into());
    let message = |(sequence, part)| StreamMessage::new(id.clone(), sequence, StreamContent::Data(part));
    (0..).zip(parts).map(message).collect()
}

/// Streams that aren't whole yet, by publisher (whoever relays a part, its stream is the publisher's).
#[derive(Default)]
pub struct Assembler {
    publishers: HashMap<Vec<u8>, VecDeque<Stream>>,
}

struct Stream {
    id: Vec<u8>,
    parts: BTreeMap<u64, Part>,
}

impl Assembler {
    /// Takes a message; gives the block where its stream is whole. Impossible messages drop their stream.
    pub fn insert(&mut self, publisher: &[u8], message: StreamMessage) -> Option<Streamed> {
        let part = message.content.into_data()?;
        if !self.publishers.contains_key(publisher) && self.publishers.len() >= MAX_PUBLISHERS {
            return None;
        }
        let streams = self.publishers.entry(publisher.to_vec()).or_default();
        let id = message.stream_id.to_bytes();
        let at = match streams.iter().position(|stream| stream.id == id) {
            Some(at) => at,
            None => {
                if streams.len() >= STREAMS_PER_PUBLISHER {
                    streams.pop_front();
                }
                streams.push_back(Stream { id: id.to_vec(), parts: BTreeMap::new() });
                streams.len() - 1
            }
        };
        let whole = streams[at].insert(message.sequence, part);
        if !matches!(whole, Progress::Unfinished) {
            streams.remove(at);
        }
        if streams.is_empty() {
            self.publishers.remove(publisher);
        }
        match whole {
            Progress::Whole(streamed) => Some(*streamed),
            Progress::Unfinished | Progress::Impossible => None,
        }
    }
}

enum Progress {
    Unfinished,
    Impossible,
    Whole(Box<Streamed>),
}

impl Stream {
    fn insert(&mut self, sequence: u64, part: Part) -> Progress {
        let fits = sequence < MAX_PARTS && (sequence == 0) == matches!(part, Part::Init { .. });
        if !fits || self.parts.insert(sequence, part).is_some() {
            return Progress::Impossible;
        }
        let Some((&last, Part::Fin { signature })) = self.parts.last_key_value() else {
            // Data after the end shows when the end comes: it is then not the last.
            let ended = self.parts.values().any(|part| matches!(part, Part::Fin { .. }));
            return if ended { Progress::Impossible } else { Progress::Unfinished };
        };
        if self.parts.len() as u64 != last + 1 {
            return Progress::Unfinished;
        }
        let signature = *signature;
        let Some(Part::Init { height, round, valid_round, proposer }) = self.parts.get(&0) else {
            return Progress::Impossible;
        };
        let mut bytes = Vec::new();
        for part in self.parts.values() {
            if let Part::Data(data) = part {
                bytes.extend_from_slice(data);
            }
        }
        if bytes.len() > MAX_BODY_BYTES {
            return Progress::Impossible;
        }
        Progress::Whole(Box::new(Streamed {
            height: Height(height.0),
            round: *round,
            valid_round: *valid_round,
            proposer: proposer.0,
            bytes,
            signature,
        }))
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::Hash;

    use super::*;

    fn messages(bytes: &[u8], stream: u8) -> (SecretKey, Vec<StreamMessage>) {
        let key = SecretKey::from_seed([7; 32]);
        let place = (Height(5), Round::new(1), Round::Nil);
        let messages = split(&key, &Hash::of(b"chain"), place, bytes, [stream; 16]);
        (key, messages)
    }

    #[test]
    fn a_block_survives_its_parts_in_any_order() {
        let bytes: Vec<u8> = (0..MAX_BODY_BYTES).map(|i| (i % 251) as u8).collect();
        let (key, mut messages) = messages(&bytes, 1);
        assert_eq!(messages.len() as u64, MAX_PARTS);
        messages.reverse();
        let mut assembler = Assembler::default();
        let last = messages.pop().unwrap();
        for message in messages {
            assert_eq!(assembler.insert(b"peer", message), None);
        }
        let streamed = assembler.insert(b"peer", last).unwrap();
        assert_eq!((streamed.height, streamed.round, streamed.proposer), (Height(5), Round::new(1), key.public()));
        assert_eq!(streamed.bytes, bytes);
        assert!(streamed.is_signed(&Hash::of(b"chain")) && !streamed.is_signed(&Hash::of(b"other")));
        assert!(!Streamed { round: Round::new(2), ..streamed }.is_signed(&Hash::of(b"chain")));
        assert!(assembler.publishers.is_empty());
    }

    #[test]
    fn parts_of_different_publishers_or_streams_do_not_mix() {
        let (_, messages) = messages(&[1; 10], 1);
        let mut assembler = Assembler::default();
        assert_eq!(assembler.insert(b"a", messages[0].clone()), None);
        assert_eq!(assembler.insert(b"b", messages[1].clone()), None);
        assert_eq!(assembler.insert(b"a", messages[2].clone()), None);
        assert!(assembler.insert(b"a", messages[1].clone()).is_some());
    }

    #[test]
    fn unfinished_and_impossible_streams_are_bounded() {
        let mut assembler = Assembler::default();
        for stream in 0..100 {
            let (_, messages) = messages(&[1; 10], stream);
            assert_eq!(assembler.insert(b"a", messages[0].clone()), None);
        }
        assert_eq!(assembler.publishers[&b"a"[..]].len(), STREAMS_PER_PUBLISHER);
        let (_, messages) = messages(&[1; 10], 99);
        let mut far = messages[1].clone();
        far.sequence = MAX_PARTS;
        assert_eq!(assembler.insert(b"a", far), None);
        assert_eq!(assembler.publishers[&b"a"[..]].len(), STREAMS_PER_PUBLISHER - 1);
        for publisher in 0..1_000_u32 {
            assembler.insert(&publisher.to_le_bytes(), messages[0].clone());
        }
        assert_eq!(assembler.publishers.len(), MAX_PUBLISHERS);
    }
}
