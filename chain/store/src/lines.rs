//! Sums that wallets show and that must not be found by scanning a history: what caused an account's balance, and what its
//! machines earned and its jobs cost on each day. Added up as blocks are committed.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, Credits, Event, JobId, MachineId, Posting};
use rocksdb::{Direction, IteratorMode, WriteBatch};

use crate::{
    Store, StoreError,
    keys::{self, column},
    open::stored,
};

/// What caused entries of an account's history. The variants' order is part of the keys: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Cause {
    /// The starting credits.
    StartingCredits,
    /// Transfers with another account.
    Account(AccountId),
    /// A job of the account: its escrow, and what came back of it.
    Job(JobId),
    /// Work of a machine of the account.
    Machine(MachineId),
    /// Audits: what its machines were paid for them, and its part of what false receipts lost.
    Audits,
}

/// The sum of all entries of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CauseSum {
    /// What came.
    pub incoming: Credits,
    /// What went.
    pub outgoing: Credits,
    /// Entries of the history.
    pub entries: u64,
}

/// Whose receipts a day's sum is of. The variants' order is part of the keys: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum DayItem {
    /// One of the account's machines, which earned.
    Profit(MachineId),
    /// One of the account's jobs, which cost.
    Cost(JobId),
}

/// The sum of a day's receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DaySum {
    /// Time that was paid for, in milliseconds, of all leases together.
    pub paid_ms: u64,
    /// Credits paid.
    pub credits: Credits,
    /// Receipts.
    pub receipts: u64,
}

fn add(sum: &mut Credits, amount: Credits) {
    *sum = sum.checked_add(amount).expect("sums of postings stay far below 64 bits: each is a part of what was minted");
}

fn cause_of(posting: &Posting) -> Cause {
    match *posting {
        Posting::StartingCredits => Cause::StartingCredits,
        Posting::TransferFrom(account) | Posting::TransferTo(account) => Cause::Account(account),
        Posting::Escrow(job) | Posting::Refund(job) => Cause::Job(job),
        Posting::Payout { machine, .. } => Cause::Machine(machine),
        Posting::Audit(_) | Posting::Forfeit(_) => Cause::Audits,
    }
}

impl Store {
    /// Puts the sums with one block's events added into a batch. `day` is the market's day of the block.
    pub(crate) fn put_sums(&self, batch: &mut WriteBatch, day: u64, events: &[Event]) -> Result<(), StoreError> {
        let mut causes: BTreeMap<Vec<u8>, CauseSum> = BTreeMap::new();
        let mut days: BTreeMap<Vec<u8>, DaySum> = BTreeMap::new();
        for event in events {
            match *event {
                Event::Posted { account, amount, incoming, cause, .. } => {
                    let key = keys::cause(&account, &cause_of(&cause));
                    let sum = self.sum(&mut causes, key)?;
                    add(if incoming { &mut sum.incoming } else { &mut sum.outgoing }, amount);
                    sum.entries += 1;
                }
                Event::Receipt { lender, borrower, machine, job, paid_ms, payout, .. } => {
                    for (account, item) in [(lender, DayItem::Profit(machine)), (borrower, DayItem::Cost(job))] {
                        let sum = self.sum(&mut days, keys::day_item(&account, day, &item))?;
                        add(&mut sum.credits, payout);
                        sum.paid_ms = sum.paid_ms.saturating_add(paid_ms);
                        sum.receipts += 1;
                    }
                }
                Event::Machine { .. } | Event::Job { .. } | Event::Lease { .. } | Event::Members { .. } => {}
                Event::Prices(_) | Event::Audit { .. } => {}
            }
        }
        let index = self.column(column::INDEX);
        causes.iter().for_each(|(key, sum)| batch.put_cf(index, key, deepmarket_types::encode(sum)));
        days.iter().for_each(|(key, sum)| batch.put_cf(index, key, deepmarket_types::encode(sum)));
        Ok(())
    }

    /// The sum of a key so far: in this block, or as it is stored.
    fn sum<'a, T: Default + BorshSerialize + BorshDeserialize>(
        &self,
        sums: &'a mut BTreeMap<Vec<u8>, T>,
        key: Vec<u8>,
    ) -> Result<&'a mut T, StoreError> {
        if !sums.contains_key(&key) {
            let before = self.db.get_pinned_cf(self.column(column::INDEX), &key)?;
            let before = before.map(|bytes| stored(&bytes, "a sum")).transpose()?.unwrap_or_default();
            sums.insert(key.clone(), before);
        }
        Ok(sums.get_mut(&key).expect("inserted above"))
    }

    /// What caused an account's balance: `incoming − outgoing` over all causes is what its purses hold.
    pub fn statement(&self, id: AccountId) -> Result<Vec<(Cause, CauseSum)>, StoreError> {
        self.sums(&keys::causes(&id), &keys::causes(&id), "a cause")
    }

    /// What an account's machines earned and its jobs cost on each day from a day on, oldest first.
    pub fn days(&self, id: AccountId, from_day: u64) -> Result<Vec<(u64, DayItem, DaySum)>, StoreError> {
        let sums = self.sums(&keys::days(&id), &keys::day(&id, from_day), "a day")?;
        Ok(sums.into_iter().map(|((keys::Day(day), item), sum)| (day, item, sum)).collect())
    }

    /// All sums under a prefix from a key on. The rest of each key is a `K`.
    fn sums<K, T>(&self, prefix: &[u8], from: &[u8], what: &str) -> Result<Vec<(K, T)>, StoreError>
    where
        K: BorshSerialize + BorshDeserialize,
        T: BorshSerialize + BorshDeserialize,
    {
        let mut sums = Vec::new();
        for entry in self.db.iterator_cf(self.column(column::INDEX), IteratorMode::From(from, Direction::Forward)) {
            let (key, value) = entry?;
            let Some(rest) = key.strip_prefix(prefix) else { break };
            sums.push((stored(rest, what)?, stored(&value, what)?));
        }
        Ok(sums)
    }
}
