//! Keys of the columns. Numbers are big-endian, so that RocksDB's order is theirs.

use std::io;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, Hash, Height, JobId, encode};

use crate::lines::{Cause, DayItem};

/// Column families.
pub mod column {
    /// Blocks and certificates.
    pub const BLOCKS: &str = "blocks";
    /// Where things are.
    pub const INDEX: &str = "index";
    /// The ledger's entries.
    pub const STATE: &str = "state";
    /// The tree over them.
    pub const TREE: &str = "tree";
    /// Proposals.
    pub const UNDECIDED: &str = "undecided";
    /// All but the default one.
    pub const ALL: [&str; 5] = [BLOCKS, INDEX, STATE, TREE, UNDECIDED];
}

/// In the default column: the tip.
pub const TIP: &[u8] = b"tip";
/// In the default column: the chain.
pub const CHAIN: &[u8] = b"chain";
/// In the default column: the disk format.
pub const FORMAT: &[u8] = b"format";

fn join<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    parts.concat()
}

/// A block.
pub fn block(height: Height) -> Vec<u8> {
    join([b"b", &height.0.to_be_bytes()])
}

/// A block's certificate.
pub fn certificate(height: Height) -> Vec<u8> {
    join([b"c", &height.0.to_be_bytes()])
}

/// Where a transaction is.
pub fn transaction(id: &Hash) -> Vec<u8> {
    join([b"t", &id.0])
}

/// The start of an account's history.
pub fn account(id: &AccountId) -> Vec<u8> {
    join([b"a", &id.0])
}

/// The start of a job's history.
pub fn job(id: JobId) -> Vec<u8> {
    join([b"j", &id.0.to_be_bytes()])
}

/// One event of a history.
pub fn event(prefix: &[u8], height: Height, index: u32) -> Vec<u8> {
    join([prefix, &height.0.to_be_bytes(), &index.to_be_bytes()])
}

/// Height and index of an event's key.
pub fn event_place(key: &[u8]) -> Option<(Height, u32)> {
    let (rest, index) = key.split_last_chunk::<4>()?;
    let (_, height) = rest.split_last_chunk::<8>()?;
    Some((Height(u64::from_be_bytes(*height)), u32::from_be_bytes(*index)))
}

/// The start of an account's sums by cause.
pub fn causes(id: &AccountId) -> Vec<u8> {
    join([b"s", &id.0])
}

/// An account's sum of one cause.
pub fn cause(id: &AccountId, cause: &Cause) -> Vec<u8> {
    join([&causes(id), &encode(cause)])
}

/// The start of an account's sums by day.
pub fn days(id: &AccountId) -> Vec<u8> {
    join([b"d", &id.0])
}

/// The start of an account's sums of one day.
pub fn day(id: &AccountId, day: u64) -> Vec<u8> {
    join([&days(id), &encode(&Day(day))])
}

/// An account's sum of one day and item.
pub fn day_item(id: &AccountId, on: u64, item: &DayItem) -> Vec<u8> {
    join([&day(id, on), &encode(item)])
}

/// A day in a key: big-endian.
pub struct Day(pub u64);

impl BorshSerialize for Day {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(&self.0.to_be_bytes())
    }
}

impl BorshDeserialize for Day {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let mut bytes = [0; 8];
        reader.read_exact(&mut bytes)?;
        Ok(Day(u64::from_be_bytes(bytes)))
    }
}

/// A proposed block's body.
pub fn body(height: Height, hash: &Hash) -> Vec<u8> {
    join([&height.0.to_be_bytes(), b"b", &hash.0])
}

/// What this validator proposed in a round.
pub fn proposed(height: Height, round: u32) -> Vec<u8> {
    join([&height.0.to_be_bytes(), b"p", &round.to_be_bytes()])
}
