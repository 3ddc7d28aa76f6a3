use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{
    AccountId, AuditId, ChainId, Credits, Hash, Height, JobId, LeaseId, MachineId, PublicKey, SlotPrices, TimeMs, UnitPrices,
};

use crate::{
    Account, Audit, Beacon, GenesisState, Job, Lease, Machine, Params, StateKey, Window, Writes,
    audit::AuditIndex,
    invite::Invite,
    machine::{Circumstances, Rank, free_rank},
    statistics::{Flow, MachineFlow, Statistics},
    window::WindowIndex,
};

/// Where all credits are. `minted` is the sum of the others after every block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Totals {
    /// All that was ever minted.
    pub minted: Credits,
    /// In accounts' purses.
    pub purses: Credits,
    /// In jobs' escrow.
    pub escrow: Credits,
    /// Paid for work and held back until it vests.
    pub held: Credits,
    /// The treasury: fees that no audit was paid from yet.
    pub treasury: Credits,
    /// Gone for good: half of what false receipts lost.
    pub burned: Credits,
}

impl Totals {
    /// Is `minted` the sum of the others?
    pub fn conserved(&self) -> bool {
        let parts = [self.purses, self.escrow, self.held, self.treasury, self.burned];
        parts.iter().try_fold(Credits::ZERO, |sum, part| sum.checked_add(*part)) == Some(self.minted)
    }
}

/// What never changes after genesis.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Constitution {
    pub chain: ChainId,
    pub params: Params,
    pub validators: Vec<PublicKey>,
    pub registrars: Vec<PublicKey>,
}

/// The small state that every block changes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Tip {
    pub height: Height,
    pub time: TimeMs,
    /// Hash of the last block's header; the chain id at genesis.
    pub block: Hash,
    /// Milliseconds by the clock that contact is measured with, see [`Params::contact_step_ms`].
    pub contact_clock_ms: u64,
    pub next_job: u64,
    pub next_lease: u64,
    pub next_audit: u64,
    pub totals: Totals,
}

/// The prices of today and of the last day before it that had any.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Prices {
    pub today: Option<SlotPrices>,
    pub before: Option<SlotPrices>,
}

/// What follows from the entries and makes look-ups fast. Never stored; rebuilt on loading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub keys: BTreeMap<PublicKey, AccountId>,
    pub identities: BTreeSet<Hash>,
    pub machines_of: BTreeSet<(AccountId, MachineId)>,
    pub jobs_of: BTreeSet<(AccountId, JobId)>,
    /// Jobs that wait for machines, in order of submission.
    pub queued: BTreeSet<JobId>,
    /// Jobs that have active leases.
    pub served: BTreeSet<JobId>,
    /// Jobs that have ready leases which aren't members yet.
    pub joining: BTreeSet<JobId>,
    /// Machines that matching may use, best first.
    pub free: BTreeSet<Rank>,
    /// Offered machines in contact, by the contact clock's moment of their last sign of life.
    pub contact: BTreeSet<(u64, MachineId)>,
    /// Offers whose hours begin or end, or that end, by when.
    pub changes: BTreeSet<(TimeMs, MachineId)>,
    /// The place of a machine in `changes`.
    pub change_of: BTreeMap<MachineId, TimeMs>,
    /// Offered machines by their physical machine.
    pub hosts: BTreeSet<(Hash, MachineId)>,
    /// What is on offer, in use and waited for.
    pub flow: Flow,
    /// Open invitations of an account.
    pub invites_of: BTreeSet<(AccountId, PublicKey)>,
    /// Invitations by when they become void.
    pub invites_until: BTreeSet<(TimeMs, PublicKey)>,
    /// Offered machines by determinism class and owner.
    pub classes: BTreeSet<(String, AccountId, MachineId)>,
    /// Windows whose pay is held, and audits.
    pub windows: WindowIndex,
    pub audits: AuditIndex,
}

/// Where the index has a machine.
#[derive(Default)]
pub(crate) struct Places {
    host: Option<(Hash, MachineId)>,
    pub free: Option<Rank>,
    contact: Option<(u64, MachineId)>,
    flow: MachineFlow,
    pub class: Option<(String, AccountId, MachineId)>,
}

impl Places {
    pub fn of(machine: &Machine) -> Places {
        Places {
            host: machine.offer.map(|_| (machine.config.host, machine.id)),
            free: free_rank(machine),
            contact: machine.is_watched().then_some((machine.contact_ms, machine.id)),
            flow: MachineFlow::of(machine),
            class: machine.offer.filter(|_| !machine.barred).map(|_| (machine.config.trainer.clone(), machine.owner, machine.id)),
        }
    }
}

impl Index {
    pub fn add_account(&mut self, account: &Account) {
        self.keys.insert(account.key, account.id);
        self.identities.insert(account.identity);
    }

    pub fn add_machine(&mut self, machine: &Machine, circumstances: &Circumstances) {
        self.machines_of.insert((machine.owner, machine.id));
        self.move_machine(machine, Places::default(), circumstances);
    }

    /// Brings in line what a changed machine follows to; `before` are its places until now. Most changes move one of them.
    pub fn move_machine(&mut self, machine: &Machine, before: Places, circumstances: &Circumstances) {
        fn replace<T: Ord>(set: &mut BTreeSet<T>, before: Option<T>, after: Option<T>) {
            if before != after {
                if let Some(place) = before {
                    set.remove(&place);
                }
                set.extend(after);
            }
        }
        let after = Places::of(machine);
        self.flow.move_machine(before.flow, after.flow);
        replace(&mut self.hosts, before.host, after.host);
        replace(&mut self.free, before.free, after.free);
        replace(&mut self.contact, before.contact, after.contact);
        replace(&mut self.classes, before.class, after.class);
        let next_change = machine.next_change(&circumstances.clock, circumstances.now);
        let known = self.change_of.get(&machine.id).copied();
        if known != next_change {
            replace(&mut self.changes, known.map(|at| (at, machine.id)), next_change.map(|at| (at, machine.id)));
            match next_change {
                Some(at) => self.change_of.insert(machine.id, at),
                None => self.change_of.remove(&machine.id),
            };
        }
    }

    /// Puts a job where it belongs by its state and its active leases; `joining`: does it have ready ones that aren't members?
    pub fn place_job(&mut self, job: &Job, joining: bool) {
        fn set(set: &mut BTreeSet<JobId>, id: JobId, belongs: bool) -> bool {
            if belongs { set.insert(id) } else { set.remove(&id) }
        }
        self.jobs_of.insert((job.owner, job.id));
        let waits = job.is_waiting();
        if set(&mut self.queued, job.id, waits) {
            self.flow.set_queued(job, waits);
        }
        set(&mut self.served, job.id, !job.active.is_empty());
        set(&mut self.joining, job.id, joining);
    }

    pub fn add_invite(&mut self, code: PublicKey, invite: &Invite) {
        self.invites_of.insert((invite.owner, code));
        self.invites_until.insert((invite.expires, code));
    }

    pub fn remove_invite(&mut self, code: PublicKey, invite: &Invite) {
        self.invites_of.remove(&(invite.owner, code));
        self.invites_until.remove(&(invite.expires, code));
    }
}

/// What decides whether offers hold after the last block.
pub(crate) fn circumstances(constitution: &Constitution, tip: &Tip, prices: &Prices) -> Circumstances {
    let clock = constitution.params.slots;
    Circumstances { now: tip.time, clock, prices: prices.at(tip.time, constitution) }
}

impl Prices {
    /// The unit prices of a moment: those of its day, else of the last day before that had any (a chain that stood still over
    /// midnight), else the floor (before the first block).
    pub fn at(&self, time: TimeMs, constitution: &Constitution) -> UnitPrices {
        let (day, slot) = constitution.params.slots.slot_at(time);
        let of_day = self.today.filter(|today| today.day <= day);
        let prices = of_day.or(self.before).or(self.today);
        prices.map_or(constitution.params.price_floor, |prices| prices.slots[slot])
    }
}

/// The whole state after some block. See the crate's documentation for what goes in and what comes out.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) constitution: Arc<Constitution>,
    pub(crate) tip: Tip,
    pub(crate) prices: Prices,
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) machines: BTreeMap<MachineId, Machine>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) specs: BTreeMap<JobId, Arc<[u8]>>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) invites: BTreeMap<PublicKey, Invite>,
    pub(crate) audits: BTreeMap<AuditId, Audit>,
    pub(crate) windows: BTreeMap<(LeaseId, u32), Window>,
    pub(crate) beacon: Beacon,
    pub(crate) statistics: Statistics,
    pub(crate) index: Index,
    /// Something changed since the last matching that could let a worker begin. No part of the state: matching when
    /// nothing has changed changes nothing.
    pub(crate) rematch: bool,
    /// Something changed since audits were given to machines that could give one more. As little a part of the state.
    pub(crate) reassign: bool,
}

impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        // `rematch` and `reassign` only say whether work can be saved.
        self.constitution == other.constitution
            && self.tip == other.tip
            && self.prices == other.prices
            && self.accounts == other.accounts
            && self.machines == other.machines
            && self.jobs == other.jobs
            && self.specs == other.specs
            && self.leases == other.leases
            && self.invites == other.invites
            && self.audits == other.audits
            && self.windows == other.windows
            && self.beacon == other.beacon
            && self.statistics == other.statistics
            && self.index == other.index
    }
}

impl Eq for Ledger {}

impl Ledger {
    /// The state of height 0 and all its entries.
    pub fn genesis(genesis: &GenesisState) -> (Ledger, Writes) {
        let GenesisState { chain, time, params, validators, registrars } = genesis.clone();
        let tip = Tip {
            height: Height(0),
            time,
            block: chain,
            contact_clock_ms: 0,
            next_job: 1,
            next_lease: 1,
            next_audit: 1,
            totals: Totals::default(),
        };
        let constitution = Constitution { chain, params, validators, registrars };
        let ledger = Ledger::bare(constitution, tip);
        let writes = ledger.entries().map(|(key, bytes)| (key, Some(bytes))).collect();
        (ledger, writes)
    }

    pub(crate) fn bare(constitution: Constitution, tip: Tip) -> Ledger {
        Ledger {
            constitution: Arc::new(constitution),
            tip,
            prices: Prices::default(),
            accounts: BTreeMap::new(),
            machines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            specs: BTreeMap::new(),
            leases: BTreeMap::new(),
            invites: BTreeMap::new(),
            audits: BTreeMap::new(),
            windows: BTreeMap::new(),
            beacon: Beacon::default(),
            statistics: Statistics::default(),
            index: Index::default(),
            rematch: true,
            reassign: true,
        }
    }

    /// The chain.
    pub fn chain(&self) -> ChainId {
        self.constitution.chain
    }

    /// The rules' numbers.
    pub fn params(&self) -> &Params {
        &self.constitution.params
    }

    /// The keys that decide blocks, in the genesis document's order.
    pub fn validators(&self) -> &[PublicKey] {
        &self.constitution.validators
    }

    /// The keys whose vouchers open accounts.
    pub fn registrars(&self) -> &[PublicKey] {
        &self.constitution.registrars
    }

    /// The last applied block's height; 0 at genesis.
    pub fn height(&self) -> Height {
        self.tip.height
    }

    /// The last applied block's time.
    pub fn time(&self) -> TimeMs {
        self.tip.time
    }

    /// The last applied block's hash: the parent of the next one. At genesis the chain id.
    pub fn tip(&self) -> Hash {
        self.tip.block
    }

    /// Where all credits are.
    pub fn totals(&self) -> Totals {
        self.tip.totals
    }

    /// Today's prices; none before the first block.
    pub fn prices(&self) -> Option<&SlotPrices> {
        self.prices.today.as_ref()
    }

    /// The unit prices of the moment of the last block; the floor before the first.
    pub fn current_prices(&self) -> UnitPrices {
        self.unit_prices_at(self.tip.time)
    }

    /// An account by id.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// An account by its present key.
    pub fn account_of_key(&self, key: &PublicKey) -> Option<&Account> {
        self.accounts.get(self.index.keys.get(key)?)
    }

    /// All accounts by id.
    pub fn accounts(&self) -> impl ExactSizeIterator<Item = &Account> {
        self.accounts.values()
    }

    /// A machine by id.
    pub fn machine(&self, id: MachineId) -> Option<&Machine> {
        self.machines.get(&id)
    }

    /// A machine by its own key.
    pub fn machine_of_key(&self, key: &PublicKey) -> Option<&Machine> {
        self.machines.get(&MachineId::from_key(key))
    }

    /// All machines by id.
    pub fn machines(&self) -> impl ExactSizeIterator<Item = &Machine> {
        self.machines.values()
    }

    /// The machines of an account by id.
    pub fn machines_of(&self, owner: AccountId) -> impl DoubleEndedIterator<Item = &Machine> {
        let range = (owner, MachineId([0; 20]))..=(owner, MachineId([255; 20]));
        self.index.machines_of.range(range).map(|(_, id)| &self.machines[id])
    }

    /// The active leases of a machine by id.
    pub fn machine_leases(&self, id: MachineId) -> impl Iterator<Item = &Lease> {
        self.machines.get(&id).into_iter().flat_map(|machine| &machine.leases).map(|id| &self.leases[id])
    }

    /// A job by id.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// The canonical bytes of a job's spec.
    pub fn spec(&self, id: JobId) -> Option<&[u8]> {
        self.specs.get(&id).map(|spec| &**spec)
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> + DoubleEndedIterator {
        self.jobs.values()
    }

    /// The jobs of an account, oldest first.
    pub fn jobs_of(&self, owner: AccountId) -> impl DoubleEndedIterator<Item = &Job> {
        self.index.jobs_of.range((owner, JobId(0))..=(owner, JobId(u64::MAX))).map(|(_, id)| &self.jobs[id])
    }

    /// All leases that a job ever had, by rank.
    pub fn job_leases(&self, id: JobId) -> impl Iterator<Item = &Lease> {
        self.jobs.get(&id).into_iter().flat_map(|job| &job.leases).map(|id| &self.leases[id])
    }

    /// A lease by id.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases, oldest first.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = &Lease> + DoubleEndedIterator {
        self.leases.values()
    }

    /// What an account's open jobs hold in escrow.
    pub fn escrow_of(&self, owner: AccountId) -> Credits {
        self.jobs_of(owner).map(Job::escrow).sum()
    }

    /// Active leases of a job that can train and aren't members yet, by rank.
    pub(crate) fn newcomers(&self, job: &Job) -> impl Iterator<Item = &Lease> {
        let active = job.active.iter().filter_map(|id| self.leases.get(id));
        active.filter(|lease| lease.ready.is_some() && lease.joined.is_none())
    }

    /// How many workers a job began to train with: its schedule is made for so many.
    pub fn began_with(&self, job: &Job) -> u32 {
        self.job_leases(job.id).filter(|lease| Some(lease.started) == job.started).count() as u32
    }

    /// Brings the index in line with a job.
    pub(crate) fn index_job(&mut self, id: JobId) {
        let joining = self.newcomers(&self.jobs[&id]).next().is_some();
        self.index.place_job(&self.jobs[&id], joining);
    }

    /// Puts a machine into the index.
    pub(crate) fn index_machine(&mut self, machine: &Machine) {
        let circumstances = circumstances(&self.constitution, &self.tip, &self.prices);
        self.index.add_machine(machine, &circumstances);
    }

    /// The bytes of one entry, `None` where there is none.
    pub(crate) fn entry(&self, key: &StateKey) -> Option<Vec<u8>> {
        use deepmarket_types::encode;
        match key {
            StateKey::Constitution => Some(encode(&*self.constitution)),
            StateKey::Tip => Some(encode(&self.tip)),
            StateKey::Prices => Some(encode(&self.prices)),
            StateKey::Account(id) => self.accounts.get(id).map(encode),
            StateKey::Machine(id) => self.machines.get(id).map(encode),
            StateKey::Job(id) => self.jobs.get(id).map(encode),
            StateKey::Spec(id) => self.specs.get(id).map(|spec| encode(&spec.to_vec())),
            StateKey::Lease(id) => self.leases.get(id).map(encode),
            StateKey::Statistics => Some(encode(&self.statistics)),
            StateKey::Invite(code) => self.invites.get(code).map(encode),
            StateKey::Audit(id) => self.audits.get(id).map(encode),
            StateKey::Window(lease, sequence) => self.windows.get(&(*lease, *sequence)).map(encode),
            StateKey::Beacon => Some(encode(&self.beacon)),
        }
    }
}
