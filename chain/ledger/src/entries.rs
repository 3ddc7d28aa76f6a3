use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, AuditId, FormError, JobId, LeaseId, MachineId, PublicKey, decode, encode};

use crate::{
    Ledger,
    state::{Constitution, Tip},
};

/// The name of a state entry. Its canonical bytes are the key in the store and in the authenticated tree: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum StateKey {
    /// Chain, parameters, validators, registrars.
    Constitution,
    /// Height, time, clocks, counters, totals.
    Tip,
    /// Today's prices and those before.
    Prices,
    /// An [`Account`](crate::Account).
    Account(AccountId),
    /// A [`Machine`](crate::Machine).
    Machine(MachineId),
    /// A [`Job`](crate::Job), without its spec: receipts change it often, and the spec may be long.
    Job(JobId),
    /// The bytes of a job's spec.
    Spec(JobId),
    /// A [`Lease`](crate::Lease).
    Lease(LeaseId),
    /// What the slots of the day saw of demand and supply.
    Statistics,
    /// An open invitation, by its code's public key.
    Invite(PublicKey),
    /// An [`Audit`](crate::Audit).
    Audit(AuditId),
    /// A [`Window`](crate::Window) whose pay is held, by lease and receipt.
    Window(LeaseId, u32),
    /// The beacon that draws audits.
    Beacon,
}

/// Changed entries by canonical key ([`StateKey`]): the new canonical bytes, or `None` where an entry was removed. What the
/// authenticated tree is over.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Stored entries that are no state of a ledger: the store is damaged or of another format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored ledger is corrupt: {0}; restore this validator's data folder from a copy, or start it empty to catch up")]
pub struct LedgerCorrupt(pub String);

impl From<FormError> for LedgerCorrupt {
    fn from(error: FormError) -> Self {
        LedgerCorrupt(error.to_string())
    }
}

impl Ledger {
    /// All entries of the state: what [`Ledger::from_entries`] restores it from.
    pub fn entries(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        [StateKey::Constitution, StateKey::Tip, StateKey::Prices, StateKey::Statistics, StateKey::Beacon]
            .into_iter()
            .chain(self.accounts.keys().copied().map(StateKey::Account))
            .chain(self.machines.keys().copied().map(StateKey::Machine))
            .chain(self.jobs.keys().copied().map(StateKey::Job))
            .chain(self.specs.keys().copied().map(StateKey::Spec))
            .chain(self.leases.keys().copied().map(StateKey::Lease))
            .chain(self.invites.keys().copied().map(StateKey::Invite))
            .chain(self.audits.keys().copied().map(StateKey::Audit))
            .chain(self.windows.keys().map(|(lease, sequence)| StateKey::Window(*lease, *sequence)))
            .map(|key| (encode(&key), self.entry(&key).expect("the keys are those of entries")))
    }

    /// Restores the state from all its entries, in any order, and checks every invariant.
    pub fn from_entries(entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Ledger, LedgerCorrupt> {
        let (mut constitution, mut tip, mut prices, mut statistics) = (None::<Constitution>, None::<Tip>, None, None);
        let mut beacon = None;
        let mut accounts = BTreeMap::new();
        let mut machines = BTreeMap::new();
        let mut jobs = BTreeMap::new();
        let mut specs = BTreeMap::new();
        let mut leases = BTreeMap::new();
        let mut invites = BTreeMap::new();
        let (mut audits, mut windows) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in entries {
            match decode::<StateKey>(&key)? {
                StateKey::Constitution => constitution = Some(decode(&value)?),
                StateKey::Tip => tip = Some(decode(&value)?),
                StateKey::Prices => prices = Some(decode(&value)?),
                StateKey::Account(id) => drop(accounts.insert(id, decode(&value)?)),
                StateKey::Machine(id) => drop(machines.insert(id, decode(&value)?)),
                StateKey::Job(id) => drop(jobs.insert(id, decode(&value)?)),
                StateKey::Spec(id) => drop(specs.insert(id, decode::<Vec<u8>>(&value)?.into())),
                StateKey::Lease(id) => drop(leases.insert(id, decode(&value)?)),
                StateKey::Statistics => statistics = Some(decode(&value)?),
                StateKey::Invite(code) => drop(invites.insert(code, decode(&value)?)),
                StateKey::Audit(id) => drop(audits.insert(id, decode(&value)?)),
                StateKey::Window(lease, sequence) => drop(windows.insert((lease, sequence), decode(&value)?)),
                StateKey::Beacon => beacon = Some(decode(&value)?),
            }
        }
        let missing = |what: &str| LedgerCorrupt(format!("the entry of the {what} is missing"));
        let constitution = constitution.ok_or_else(|| missing("constitution"))?;
        let mut ledger = Ledger::bare(constitution, tip.ok_or_else(|| missing("tip"))?);
        ledger.prices = prices.ok_or_else(|| missing("prices"))?;
        (ledger.accounts, ledger.machines, ledger.jobs) = (accounts, machines, jobs);
        (ledger.specs, ledger.leases, ledger.invites) = (specs, leases, invites);
        ledger.statistics = statistics.ok_or_else(|| missing("statistics"))?;
        (ledger.audits, ledger.windows) = (audits, windows);
        ledger.beacon = beacon.ok_or_else(|| missing("beacon"))?;
        ledger.index = ledger.rebuilt_index();
        ledger.check_invariants().map_err(LedgerCorrupt)?;
        Ok(ledger)
    }
}
