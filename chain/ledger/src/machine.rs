use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{
    AccountId, ChangeMode, Credits, Event, JobState, LeaseId, LeaseState, MachineConfig, MachineId, MachineReason, MachineState,
    Offer, PanicReason, PublicKey, Resources, SlotClock, TimeMs, UnitPrices,
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
    /// A changed offer that waits until the running leases are within it. No new lease begins until then.
    pub pending: Option<Offer>,
    /// Does the offer hold at the last block's time and prices: within its hours, before its end, at its minimum or above?
    pub open: bool,
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
    /// How reliable it is in thousandths, see [`weigh_reliability`]. A new machine begins with its owner's.
    pub reliability: u32,
    /// The speed that its finished leases showed, as [`MachineConfig::speed`] but of training with all that belongs to it:
    /// fetching data, waiting for other ranks, whatever else runs on the machine. 0 before the first.
    pub observed_speed: u64,
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
    let rank = (1_000 - machine.reliability, u64::MAX - machine.speed(), machine.id);
    (machine.takes_work() && machine.open && machine.free().cores > 0).then_some(rank)
}

/// Reliability after one more lease was served to the end or lost: `r' = r + (1000·served − r) / 8`, rounded down, so that a
/// lease of long ago weighs little. 500 is where everybody begins.
pub(crate) fn weigh_reliability(reliability: u32, served: bool) -> u32 {
    (7 * reliability + if served { 1_000 } else { 0 }) / 8
}

/// The moment and the prices that decide whether an offer holds.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances {
    pub now: TimeMs,
    pub clock: SlotClock,
    pub prices: UnitPrices,
}

impl Circumstances {
    pub fn hold(&self, offer: &Offer) -> bool {
        offer.availability.holds(&self.clock, self.now) && self.prices.reach(&offer.minimum, &offer.resources)
    }
}

impl Machine {
    /// What one of its cores is reckoned with, in million multiply-adds a second: observed, else as measured.
    pub fn speed(&self) -> u64 {
        if self.observed_speed > 0 { self.observed_speed } else { self.config.speed }
    }

    /// Is it offered, in contact and reachable, and not about to end or change?
    pub(crate) fn takes_work(&self) -> bool {
        let offered = self.offer.is_some() && !self.lost && !self.draining && self.pending.is_none();
        offered && self.heard && !self.addresses.is_empty()
    }

    /// What is offered and not used.
    pub fn free(&self) -> Resources {
        let Some(offer) = &self.offer else { return Resources::default() };
        offer.resources.checked_sub(&self.used).expect("invariant: leases use no more than is offered")
    }

    /// Why it stands where it does; `clock` and `now` tell when its hours begin.
    pub fn reason(&self, clock: &SlotClock, now: TimeMs) -> MachineReason {
        let Some(offer) = &self.offer else { return MachineReason::NotOffered };
        match self.state {
            MachineState::Panic => MachineReason::LostContact,
            MachineState::Draining if self.draining => MachineReason::Ending,
            MachineState::Draining => MachineReason::OfferChanging,
            MachineState::InUse => MachineReason::Serving,
            _ if !offer.availability.holds(clock, now) => {
                MachineReason::OutsideHours { opens: offer.availability.next_opening(clock, now) }
            }
            _ if !self.heard => MachineReason::NotHeardYet,
            _ if self.addresses.is_empty() => MachineReason::NoAddress,
            _ if !self.open => MachineReason::PriceBelowMinimum,
            _ => MachineReason::Ready,
        }
    }

    /// Is loss of contact watched?
    pub(crate) fn is_watched(&self) -> bool {
        self.offer.is_some() && !self.lost
    }

    /// When its offer next begins or stops to hold, or ends; none where that is never, or doesn't matter any more.
    pub(crate) fn next_change(&self, clock: &SlotClock, now: TimeMs) -> Option<TimeMs> {
        self.offer.filter(|_| !self.draining)?.availability.next_change(clock, now)
    }

    pub(crate) fn release(&mut self, lease: LeaseId, resources: &Resources) {
        assert!(self.leases.remove(&lease), "invariant broken: {} doesn't serve {lease}", self.id);
        self.used = self.used.checked_sub(resources).expect("invariant: a machine's use is the sum of its leases'");
    }

    /// Brings the derived fields in line with the others and with the circumstances.
    pub(crate) fn settle_state(&mut self, circumstances: &Circumstances) {
        if self.pending.is_some_and(|offer| offer.resources.covers(&self.used)) {
            self.offer = self.pending.take();
        }
        if self.draining && self.leases.is_empty() {
            self.offer = None;
        }
        if self.offer.is_none() {
            (self.draining, self.lost, self.pending) = (false, false, None);
        }
        self.open = self.offer.is_some_and(|offer| circumstances.hold(&offer));
        let ending = self.draining || self.pending.is_some();
        self.state = match (self.offer.is_some(), self.lost, ending, self.leases.is_empty()) {
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
        machine.offer.map_or(Ok(()), |_| self.check_host(id, config))
    }

    /// The physical machine isn't on offer under another key, where the market asks for that.
    pub(crate) fn check_host(&self, id: MachineId, config: &MachineConfig) -> Result<(), Rejection> {
        let first = MachineId([0; 20]);
        let mut others = self.index.hosts.range((config.host, first)..).take_while(|(host, _)| *host == config.host);
        match others.find(|(_, other)| *other != id) {
            Some(&(_, other)) if self.params().unique_hosts => Err(Rejection::HostOffered { machine: other }),
            _ => Ok(()),
        }
    }

    /// The machine exists and is the owner's.
    fn check_owned(&self, owner: AccountId, id: MachineId) -> Result<&Machine, Rejection> {
        let machine = self.machines.get(&id).ok_or(Rejection::UnknownMachine(id))?;
        if machine.owner != owner {
            return Err(Rejection::NotMachineOwner(id));
        }
        Ok(machine)
    }

    /// `Lend`: the machine exists and is the owner's; the offer has a core, is within the machine, and ends after `now`; the
    /// physical machine isn't offered under another key.
    pub(crate) fn check_lend(&self, owner: AccountId, id: MachineId, offer: &Offer, now: TimeMs) -> Result<(), Rejection> {
        let machine = self.check_owned(owner, id)?;
        self.check_offer(id, &machine.config, offer, now)
    }

    /// The offer has a core, is within the configuration, and ends after `now`; the physical machine isn't offered twice.
    pub(crate) fn check_offer(
        &self,
        id: MachineId,
        config: &MachineConfig,
        offer: &Offer,
        now: TimeMs,
    ) -> Result<(), Rejection> {
        if offer.resources.cores == 0 {
            return Err(Rejection::OfferWithoutCores);
        }
        if !config.resources.covers(&offer.resources) {
            return Err(Rejection::OfferTooLarge { offered: offer.resources, has: config.resources });
        }
        if let Some(until) = offer.availability.until.filter(|until| *until <= now) {
            return Err(Rejection::OfferInThePast { until, time: now });
        }
        self.check_host(id, config)
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
        self.add_machine(owner, *key, config.clone());
        Ok(())
    }

    /// Adds a machine that nothing is offered of yet.
    pub fn add_machine(&mut self, owner: AccountId, key: PublicKey, config: MachineConfig) -> MachineId {
        let id = MachineId::from_key(&key);
        let machine = Machine {
            id,
            owner,
            key,
            nonce: 0,
            config,
            offer: None,
            pending: None,
            open: false,
            state: MachineState::Withdrawn,
            draining: false,
            lost: false,
            contact_ms: self.ledger.tip.contact_clock_ms,
            heard: false,
            addresses: Vec::new(),
            used: Resources::default(),
            leases: BTreeSet::new(),
            reliability: self.ledger.accounts[&owner].reliability,
            observed_speed: 0,
            leases_finished: 0,
            leases_lost: 0,
            earned: Credits::ZERO,
        };
        self.events.push(Event::Machine { machine: id, owner, state: machine.state });
        self.ledger.index_machine(&machine);
        self.ledger.machines.insert(id, machine);
        self.touch(StateKey::Machine(id));
        self.account(owner).machines += 1;
        id
    }

    /// Offers a machine, or changes its offer. A machine that was not heard of lately gets as long as the contact timeout to
    /// send its first heartbeat, and no work until then.
    pub fn lend(&mut self, owner: AccountId, id: MachineId, offer: Offer, mode: ChangeMode) -> Result<(), Rejection> {
        self.ledger.check_lend(owner, id, &offer, self.now())?;

        self.set_offer(id, offer, mode);
        Ok(())
    }

    /// Where running leases use more than the new offer has, they end at once, or the offer waits for them.
    pub fn set_offer(&mut self, id: MachineId, offer: Offer, mode: ChangeMode) {
        if mode == ChangeMode::AtOnce && !offer.resources.covers(&self.ledger.machines[&id].used) {
            self.take_back(id);
        }
        let clock_ms = self.ledger.tip.contact_clock_ms;
        let timeout_ms = self.ledger.params().contact_timeout_ms;
        self.machine(id, |machine| {
            let silent = machine.lost || clock_ms - machine.contact_ms > timeout_ms;
            if silent || (!machine.heard && machine.offer.is_none()) {
                (machine.heard, machine.contact_ms) = (false, clock_ms);
            }
            (machine.lost, machine.draining) = (false, false);
            match offer.resources.covers(&machine.used) {
                true => (machine.offer, machine.pending) = (Some(offer), None),
                false => machine.pending = Some(offer),
            }
        });
    }

    /// Ends an offer. At once: active leases end, and their jobs with them.
    pub fn withdraw(&mut self, owner: AccountId, id: MachineId, mode: ChangeMode) -> Result<(), Rejection> {
        self.ledger.check_withdraw(owner, id)?;

        self.machine(id, |machine| machine.draining = true);
        if mode == ChangeMode::AtOnce {
            self.take_back(id);
        }
        Ok(())
    }

    /// The owner takes a machine out of its leases, unannounced: they count as lost.
    fn take_back(&mut self, id: MachineId) {
        let leases = self.ledger.machines[&id].leases.clone();
        self.break_leases(&leases, LeaseState::Ended, PanicReason::MachineWithdrawn);
        for _ in &leases {
            self.count_lease(id, false);
        }
    }

    /// Counts a lease that was served to the end, or lost, for the machine and its owner.
    pub fn count_lease(&mut self, id: MachineId, served: bool) {
        let owner = self.ledger.machines[&id].owner;
        self.machine(id, |machine| {
            machine.reliability = weigh_reliability(machine.reliability, served);
            let count = if served { &mut machine.leases_finished } else { &mut machine.leases_lost };
            *count = count.saturating_add(1);
        });
        let account = self.account(owner);
        account.reliability = weigh_reliability(account.reliability, served);
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
            self.break_leases(&leases, LeaseState::Lost, PanicReason::MachineLost);
        }
    }

    /// Offers begin and stop to hold with their hours, their end, and the prices. One that stops to hold
    /// takes no new lease; whether those that run end with it is the offer's own word. At the block's beginning for those whose
    /// hours began or ended; at its end for all, where it begins a slot and so has other prices.
    pub fn move_offers(&mut self, everything: bool) {
        let now = self.now();
        let due: Vec<MachineId> = match everything {
            true => self.ledger.machines.values().filter(|machine| machine.offer.is_some()).map(|machine| machine.id).collect(),
            false => self.ledger.index.changes.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect(),
        };
        for id in due {
            let clock = self.ledger.params().slots;
            let machine = &self.ledger.machines[&id];
            let Some(offer) = machine.offer else { continue };
            let ended = offer.availability.until.is_some_and(|until| until <= now);
            if offer.at_close == ChangeMode::AtOnce && !offer.availability.holds(&clock, now) {
                // Announced in the offer: nobody's reliability suffers.
                let leases = machine.leases.clone();
                self.break_leases(&leases, LeaseState::Ended, PanicReason::MachineWithdrawn);
            }
            self.machine(id, |machine| machine.draining |= ended);
        }
    }

    /// Ends leases that their machine can't serve any more, and their jobs.
    fn break_leases(&mut self, leases: &BTreeSet<LeaseId>, state: LeaseState, why: PanicReason) {
        for &id in leases {
            // Two leases may belong to one job: closing it ended the second one too.
            let lease = &self.ledger.leases[&id];
            if lease.is_active() {
                let job = lease.job;
                let own: Vec<LeaseId> = leases.iter().copied().filter(|id| self.ledger.leases[id].job == job).collect();
                own.into_iter().for_each(|id| self.end_lease(id, state));
                self.job(job).blamed = Some(id);
                self.close_job(job, JobState::Panic(why));
            }
        }
    }
}
