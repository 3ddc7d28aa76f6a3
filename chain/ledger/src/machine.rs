use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{
    AccountId, Availability, Credits, Event, LeaseId, LeaseState, MachineConfig, MachineId, MachineState, Offer, PanicReason,
    PublicKey, Resources, TimeMs, WithdrawMode,
};

use crate::{Ledger, Rejection, StateKey, change::Change};

/// A registered machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Machine {
    /// Its id, derived from its key.
    pub id: MachineId,
    /// The account that registered it and is paid.
    pub owner: AccountId,
    /// Its own key.
    pub key: PublicKey,
    /// The nonce that its next heartbeat must carry.
    pub nonce: u64,
    /// What was measured.
    pub config: MachineConfig,
    /// What is offered; none while withdrawn.
    pub offer: Option<Offer>,
    /// How it stands. Follows from the other fields.
    pub state: MachineState,
    /// It takes no new lease and is withdrawn after its last one.
    pub draining: bool,
    /// Its heartbeats stopped.
    pub lost: bool,
    /// The contact clock's moment of its last sign of life: a heartbeat, or being offered.
    pub contact_ms: u64,
    /// A heartbeat came since it was offered or lost: only then is it given work.
    pub heard: bool,
    /// Where other workers reach it.
    pub addresses: Vec<String>,
    /// What its active leases use.
    pub used: Resources,
    /// Its active leases.
    pub leases: BTreeSet<LeaseId>,
    /// Leases served to the end.
    pub leases_finished: u32,
    /// Leases lost: contact broke off, or the owner withdrew it at once.
    pub leases_lost: u32,
    /// All that it ever earned.
    pub earned: Credits,
}

/// A machine's place in the order of matching: unreliability, slowness, id; the least is served first.
pub(crate) type Rank = (u32, u64, MachineId);

/// Where matching finds a machine; `None` where it can't take work at all.
pub(crate) fn free_rank(machine: &Machine) -> Option<Rank> {
    let offered = machine.offer.is_some() && !machine.lost && !machine.draining;
    let reachable = machine.heard && !machine.addresses.is_empty();
    let rank = (1_000 - machine.reliability(), u64::MAX - machine.config.speed, machine.id);
    (offered && reachable && machine.free().cores > 0).then_some(rank)
}

impl Machine {
    /// Served leases of a thousand, between none and all: `1000·(finished + 1) / (finished + lost + 2)`, rounded down. A new
    /// machine has 500: better than one that lost as many as it served, worse than one that proved itself.
    pub fn reliability(&self) -> u32 {
        let (finished, lost) = (u64::from(self.leases_finished), u64::from(self.leases_lost));
        u32::try_from(1_000 * (finished + 1) / (finished + lost + 2)).expect("at most 1000")
    }

    /// What is offered and not used.
    pub fn free(&self) -> Resources {
        let Some(offer) = &self.offer else { return Resources::default() };
        offer.resources.checked_sub(&self.used).expect("invariant: leases use no more than is offered")
    }

    /// Its state and the reason, in words.
    pub fn reason(&self) -> &'static str {
        match self.state {
            MachineState::Withdrawn => "not offered",
            MachineState::Idle if !self.heard => "offered; waiting for its first heartbeat",
            MachineState::Idle if self.addresses.is_empty() => "offered, but it gave no address where workers reach it",
            MachineState::Idle => "offered and in contact; nothing runs",
            MachineState::InUse => "works for at least one lease",
            MachineState::Paused => "its owner is using it",
            MachineState::Draining => "finishes its leases and takes no new one",
            MachineState::Panic => "offered, but its heartbeats stopped: start the worker again",
        }
    }

    /// Is loss of contact watched?
    pub(crate) fn is_watched(&self) -> bool {
        self.offer.is_some() && !self.lost
    }

    /// When its offer runs out; none for an offer without end, or one that takes no new lease anyway.
    pub(crate) fn open_until(&self) -> Option<TimeMs> {
        match self.offer?.availability {
            Availability::Until(until) if !self.draining => Some(until),
            Availability::Until(_) | Availability::Always => None,
        }
    }

    pub(crate) fn release(&mut self, lease: LeaseId, resources: &Resources) {
        assert!(self.leases.remove(&lease), "invariant broken: {} doesn't serve {lease}", self.id);
        self.used = self.used.checked_sub(resources).expect("invariant: a machine's use is the sum of its leases'");
    }

    /// Brings the derived fields in line with the others.
    pub(crate) fn settle_state(&mut self) {
        if self.draining && self.leases.is_empty() {
            self.offer = None;
        }
        if self.offer.is_none() {
            (self.draining, self.lost) = (false, false);
        }
        self.state = match (self.offer.is_some(), self.lost, self.draining, self.leases.is_empty()) {
            (false, ..) => MachineState::Withdrawn,
            (true, true, ..) => MachineState::Panic,
            (true, false, true, _) => MachineState::Draining,
            (true, false, false, false) => MachineState::InUse,
            (true, false, false, true) => MachineState::Idle,
        };
    }
}

impl Ledger {
    /// `RegisterMachine`: the machine isn't another account's. Registered before: it has no active lease, and its present
    /// offer is within the new configuration. New: the account has room for one more.
    pub(crate) fn check_register(&self, owner: AccountId, key: &PublicKey, config: &MachineConfig) -> Result<(), Rejection> {
        let id = MachineId::from_key(key);
        let Some(machine) = self.machines.get(&id) else {
            let limit = self.params().max_machines_per_account;
            let full = self.accounts[&owner].machines >= limit;
            return if full { Err(Rejection::TooManyMachines(limit)) } else { Ok(()) };
        };
        if machine.owner != owner {
            return Err(Rejection::MachineOfAnother { machine: id, owner: machine.owner });
        }
        if !machine.leases.is_empty() {
            return Err(Rejection::MachineBusy { machine: id, leases: machine.leases.len() as u32 });
        }
        if let Some(offer) = machine.offer.filter(|offer| !config.resources.covers(&offer.resources)) {
            return Err(Rejection::OfferTooLarge { offered: offer.resources, has: config.resources });
        }
        Ok(())
    }

    /// The machine exists and is the owner's.
    fn check_owned(&self, owner: AccountId, id: MachineId) -> Result<&Machine, Rejection> {
        let machine = self.machines.get(&id).ok_or(Rejection::UnknownMachine(id))?;
        if machine.owner != owner {
            return Err(Rejection::NotMachineOwner(id));
        }
        Ok(machine)
    }

    /// `Lend`: the machine exists and is the owner's; the offer has a core, is within the machine, covers what running leases
    /// use, and ends after `now`.
    pub(crate) fn check_lend(&self, owner: AccountId, id: MachineId, offer: &Offer, now: TimeMs) -> Result<(), Rejection> {
        let machine = self.check_owned(owner, id)?;
        if offer.resources.cores == 0 {
            return Err(Rejection::OfferWithoutCores);
        }
        if !machine.config.resources.covers(&offer.resources) {
            return Err(Rejection::OfferTooLarge { offered: offer.resources, has: machine.config.resources });
        }
        if !offer.resources.covers(&machine.used) {
            return Err(Rejection::OfferBelowUse { offered: offer.resources, used: machine.used });
        }
        match offer.availability {
            Availability::Until(until) if until <= now => Err(Rejection::OfferInThePast { until, time: now }),
            Availability::Until(_) | Availability::Always => Ok(()),
        }
    }

    /// `Withdraw`: the machine exists, is the owner's, and is offered.
    pub(crate) fn check_withdraw(&self, owner: AccountId, id: MachineId) -> Result<(), Rejection> {
        let machine = self.check_owned(owner, id)?;
        machine.offer.map(|_| ()).ok_or(Rejection::NotOffered(id))
    }
}

impl Change<'_> {
    /// Makes a machine the owner's, or renews its configuration.
    pub fn register(&mut self, owner: AccountId, key: &PublicKey, config: &MachineConfig) -> Result<(), Rejection> {
        self.ledger.check_register(owner, key, config)?;

        let id = MachineId::from_key(key);
        if self.ledger.machines.contains_key(&id) {
            self.machine(id, |machine| machine.config = config.clone());
            return Ok(());
        }
        let machine = Machine {
            id,
            owner,
            key: *key,
            nonce: 0,
            config: config.clone(),
            offer: None,
            state: MachineState::Withdrawn,
            draining: false,
            lost: false,
            contact_ms: self.ledger.tip.contact_clock_ms,
            heard: false,
            addresses: Vec::new(),
            used: Resources::default(),
            leases: BTreeSet::new(),
            leases_finished: 0,
            leases_lost: 0,
            earned: Credits::ZERO,
        };
        self.events.push(Event::Machine { machine: id, owner, state: machine.state });
        self.ledger.index.add_machine(&machine);
        self.ledger.machines.insert(id, machine);
        self.touch(StateKey::Machine(id));
        self.account(owner).machines += 1;
        Ok(())
    }

    /// Offers a machine, or changes its offer. A machine that was not heard of lately gets as long as the contact timeout to
    /// send its first heartbeat, and no work until then.
    pub fn lend(&mut self, owner: AccountId, id: MachineId, offer: Offer) -> Result<(), Rejection> {
        self.ledger.check_lend(owner, id, &offer, self.now())?;

        let clock_ms = self.ledger.tip.contact_clock_ms;
        let timeout_ms = self.ledger.params().contact_timeout_ms;
        self.machine(id, |machine| {
            let silent = machine.lost || clock_ms - machine.contact_ms > timeout_ms;
            if silent || (!machine.heard && machine.offer.is_none()) {
                (machine.heard, machine.contact_ms) = (false, clock_ms);
            }
            (machine.lost, machine.draining, machine.offer) = (false, false, Some(offer));
        });
        Ok(())
    }

    /// Ends an offer. At once: active leases end, and their jobs with them.
    pub fn withdraw(&mut self, owner: AccountId, id: MachineId, mode: WithdrawMode) -> Result<(), Rejection> {
        self.ledger.check_withdraw(owner, id)?;

        self.machine(id, |machine| machine.draining = true);
        if mode == WithdrawMode::AtOnce {
            let leases = self.ledger.machines[&id].leases.clone();
            self.break_leases(&leases, LeaseState::Ended);
            self.machine(id, |machine| machine.leases_lost = machine.leases_lost.saturating_add(leases.len() as u32));
        }
        Ok(())
    }

    /// Takes a machine's sign of life. One that was lost is back.
    pub fn heartbeat(&mut self, id: MachineId, addresses: Option<&[String]>) {
        let clock_ms = self.ledger.tip.contact_clock_ms;
        self.machine(id, |machine| {
            (machine.contact_ms, machine.heard, machine.lost) = (clock_ms, true, false);
            if let Some(addresses) = addresses {
                machine.addresses = addresses.to_vec();
            }
        });
    }

    /// At the block's end: machines whose heartbeats stopped are lost, with their leases and these leases' jobs. The longest
    /// silent one is first, then the order is by id: another worker of a job that already stopped counts as ended, not as lost.
    pub fn lose_silent_machines(&mut self) {
        let clock_ms = self.ledger.tip.contact_clock_ms;
        let timeout_ms = self.ledger.params().contact_timeout_ms;
        while let Some(&(contact_ms, id)) = self.ledger.index.contact.first() {
            if clock_ms - contact_ms <= timeout_ms {
                return;
            }
            self.machine(id, |machine| (machine.lost, machine.heard) = (true, false));
            let leases = self.ledger.machines[&id].leases.clone();
            self.break_leases(&leases, LeaseState::Lost);
        }
    }

    /// At the block's end: an offer that ran out takes no new lease; it doesn't break those that run.
    pub fn end_expired_offers(&mut self) {
        while let Some(&(until, id)) = self.ledger.index.until.first() {
            if until > self.now() {
                return;
            }
            self.machine(id, |machine| machine.draining = true);
        }
    }

    /// Ends leases that their machine can't serve any more, and their jobs.
    fn break_leases(&mut self, leases: &BTreeSet<LeaseId>, state: LeaseState) {
        for &id in leases {
            // Two leases may belong to one job: closing it ended the second one too.
            let lease = &self.ledger.leases[&id];
            if lease.is_active() {
                let job = lease.job;
                let own: Vec<LeaseId> = leases.iter().copied().filter(|id| self.ledger.leases[id].job == job).collect();
                own.into_iter().for_each(|id| self.end_lease(id, state));
                self.close_job(job, deepmarket_types::JobState::Panic(PanicReason::MachineLost));
            }
        }
    }
}
