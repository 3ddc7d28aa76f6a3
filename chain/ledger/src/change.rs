use std::collections::BTreeSet;

use deepmarket_types::{
    AccountId, Credits, Event, Header, JobId, JobState, LeaseId, LeaseState, MachineId, Posting, Purse, TimeMs, encode,
};

use crate::{
    Account, Job, Lease, Ledger, Machine, StateKey, Writes,
    machine::free_rank,
    state::{Places, circumstances},
};

/// A block being applied: the ledger, and what has to be told about its change. Every mutation goes through here, so that no
/// entry is changed without being written and no purse without an event.
pub(crate) struct Change<'a> {
    pub ledger: &'a mut Ledger,
    pub header: &'a Header,
    pub events: Vec<Event>,
    /// Open jobs whose members changed, which begins a new generation at the block's end.
    pub regrouped: BTreeSet<JobId>,
    /// Open jobs in which a member may be outvoted now.
    pub accused: BTreeSet<JobId>,
    /// Machines that audit and won't be there any more.
    pub leaving: BTreeSet<MachineId>,
    /// Machines whose windows may vest at the block's end, though their time has passed already.
    pub released: BTreeSet<MachineId>,
    touched: BTreeSet<StateKey>,
}

impl<'a> Change<'a> {
    pub fn new(ledger: &'a mut Ledger, header: &'a Header) -> Self {
        Change {
            ledger,
            header,
            events: Vec::new(),
            regrouped: BTreeSet::new(),
            accused: BTreeSet::new(),
            leaving: BTreeSet::new(),
            released: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The block's time.
    pub fn now(&self) -> TimeMs {
        self.header.time
    }

    pub fn touch(&mut self, key: StateKey) {
        self.touched.insert(key);
    }

    /// The entries that were touched.
    pub fn touched(&self) -> impl Iterator<Item = &StateKey> {
        self.touched.iter()
    }

    pub fn finish(self) -> (Vec<Event>, Writes) {
        let writes = self.touched.iter().map(|key| (encode(key), self.ledger.entry(key))).collect();
        (self.events, writes)
    }

    pub fn account(&mut self, id: AccountId) -> &mut Account {
        self.touched.insert(StateKey::Account(id));
        self.ledger.accounts.get_mut(&id).expect("the account was found when the transaction was checked")
    }

    pub fn job(&mut self, id: JobId) -> &mut Job {
        self.touched.insert(StateKey::Job(id));
        self.ledger.jobs.get_mut(&id).expect("the job was found when the transaction was checked")
    }

    pub fn lease(&mut self, id: LeaseId) -> &mut Lease {
        self.touched.insert(StateKey::Lease(id));
        self.ledger.leases.get_mut(&id).expect("the lease was found when the transaction was checked")
    }

    /// Puts credits into a purse.
    pub fn credit(&mut self, account: AccountId, purse: Purse, amount: Credits, cause: Posting) {
        self.post(account, purse, amount, true, cause);
    }

    /// Takes credits out of a purse, which was checked to hold them.
    pub fn debit(&mut self, account: AccountId, purse: Purse, amount: Credits, cause: Posting) {
        self.post(account, purse, amount, false, cause);
    }

    fn post(&mut self, id: AccountId, purse: Purse, amount: Credits, incoming: bool, cause: Posting) {
        if amount.is_zero() {
            return;
        }
        let purses = self.ledger.tip.totals.purses;
        let account = self.account(id);
        let balance = match purse {
            Purse::Granted => &mut account.granted,
            Purse::Earned => &mut account.earned,
        };
        let change = |old: Credits| if incoming { old.checked_add(amount) } else { old.checked_sub(amount) };
        let (Some(new), Some(purses)) = (change(*balance), change(purses)) else {
            panic!("invariant broken: {cause:?} of {amount} can't be posted to the {purse:?} purse of {id}");
        };
        *balance = new;
        self.ledger.tip.totals.purses = purses;
        let balance = new;
        self.events.push(Event::Posted { account: id, purse, amount, balance, incoming, cause });
    }

    /// Changes a machine and all that follows: its derived state, the indexes, an event where the state changed.
    pub fn machine(&mut self, id: MachineId, change: impl FnOnce(&mut Machine)) {
        let ledger = &mut *self.ledger;
        let machine = ledger.machines.get_mut(&id).expect("the machine was found before it is changed");
        let circumstances = circumstances(&ledger.constitution, &ledger.tip, &ledger.prices);
        let before = Places::of(machine);
        let state = machine.state;
        let (class, could_take) = (before.class.clone(), (before.free, machine.free(), machine.offer));
        change(machine);
        machine.settle(&circumstances);
        ledger.index.move_machine(machine, before, &circumstances);
        let can_take = (free_rank(machine), machine.free(), machine.offer);
        // A machine that can take work and couldn't take the same before.
        let can_take_more = can_take.0.is_some() && can_take != could_take;
        ledger.rematch |= can_take_more;
        // Other classes audit a worker whose own nobody offers any more.
        ledger.reassign |= can_take_more || Places::of(machine).class != class;
        if state != machine.state {
            self.events.push(Event::Machine { machine: id, owner: machine.owner, state: machine.state });
        }
        // What it is auditing goes to another one.
        if machine.auditing.is_some() && (machine.offer.is_none() || machine.lost || machine.draining) {
            self.leaving.insert(id);
        }
        self.touched.insert(StateKey::Machine(id));
    }

    /// Gives a job a new state.
    pub fn set_job_state(&mut self, id: JobId, state: JobState) {
        let job = self.job(id);
        job.state = state;
        let owner = job.owner;
        self.events.push(Event::Job { job: id, owner, state });
        self.ledger.index_job(id);
    }

    /// Ends a lease and frees what it used. The caller draws the consequences for its job.
    pub fn end_lease(&mut self, id: LeaseId, state: LeaseState) {
        let lease = self.lease(id);
        assert!(lease.is_active(), "invariant broken: {id} ends twice");
        lease.state = state;
        let (job, rank, machine, resources) = (lease.job, lease.rank, lease.machine, lease.resources);
        self.events.push(Event::Lease { lease: id, job, rank, machine, state });
        let its_job = self.job(job);
        its_job.active.remove(&id);
        if let Some(place) = its_job.members.iter().position(|member| *member == id) {
            its_job.members.remove(place);
            self.regrouped.insert(job);
            self.accused.insert(job);
        }
        self.ledger.index_job(job);
        // Another machine may take its place, or this one may serve the job again.
        self.ledger.rematch = true;
        self.machine(machine, |machine| machine.release(id, &resources));
        match state {
            LeaseState::Finished => self.count_lease(machine, true),
            LeaseState::Lost => self.count_lease(machine, false),
            LeaseState::Active | LeaseState::Failed(_) | LeaseState::Ended => {}
        }
    }
}
