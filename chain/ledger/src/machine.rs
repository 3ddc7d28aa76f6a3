use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{
    AccountId, AuditId, ChangeMode, Credits, Event, JobId, LeaseId, LeaseState, MachineConfig, MachineId, MachineReason,
    MachineState, Offer, PublicKey, Resources, SlotClock, TimeMs, UnitPrices,
};

use crate::{Ledger, Rejection, StateKey, change::Change, state::circumstances};

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
    /// A changed offer that waits until no running lease is in its way, see `Machine::allows`. No new lease begins until then.
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
    /// A heartbeat came since it was offered, lost, or taken back by its owner: only then is it given work.
    pub heard: bool,
    /// Where other workers reach it.
    pub addresses: Vec<String>,
    /// What its active leases use.
    pub used: Resources,
    /// Its active leases.
    pub leases: BTreeSet<LeaseId>,
    /// The audit that it computes, and what is kept free for that.
    pub auditing: Option<(AuditId, Resources)>,
    /// Its owner may lend no more: too many false receipts or answers.
    pub barred: bool,
    /// How reliable it is in thousandths, see `weigh_reliability`. A new machine begins with its owner's.
    pub reliability: u32,
    /// The speed that its finished leases showed, as [`MachineConfig::speed`] but of training with all that belongs to it:
    /// fetching data, waiting for other ranks, whatever else runs on the machine. 0 before the first.
    pub observed_speed: u64,
    /// Leases served to the end.
    pub leases_finished: u32,
    /// Leases lost: contact broke off, or the owner withdrew it at once.
    pub leases_lost: u32,
    /// All that it ever earned, without what is held.
    pub earned: Credits,
}

/// A machine's place in the order of matching: unreliability, slowness, id; the least is served first.
pub(crate) type Rank = (u32, u64, MachineId);

/// Where matching finds a machine; `None` where it can't take work at all.
pub(crate) fn free_rank(machine: &Machine) -> Option<Rank> {
    (machine.takes_work() && machine.open && machine.free().cores > 0).then(|| machine.rank())
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

/// The fields of a machine that follow from the others.
#[derive(PartialEq, Eq)]
pub(crate) struct Settled {
    offer: Option<Offer>,
    pending: Option<Offer>,
    draining: bool,
    lost: bool,
    open: bool,
    state: MachineState,
}

impl Machine {
    /// What one of its cores is reckoned with, in million multiply-adds a second: observed, else as measured.
    pub fn speed(&self) -> u64 {
        if self.observed_speed > 0 { self.observed_speed } else { self.config.speed }
    }

    pub(crate) fn rank(&self) -> Rank {
        (1_000_u32.saturating_sub(self.reliability), u64::MAX - self.speed(), self.id)
    }

    /// Is it offered, in contact and reachable, and not about to end or change?
    pub(crate) fn takes_work(&self) -> bool {
        let offered = self.offer.is_some() && !self.lost && !self.draining && self.pending.is_none() && !self.barred;
        offered && self.heard && !self.addresses.is_empty()
    }

    /// What is offered and not used: neither by leases nor by an audit.
    pub fn free(&self) -> Resources {
        let Some(offer) = &self.offer else { return Resources::default() };
        let free = offer.resources.checked_sub(&self.used).expect("invariant: leases use no more than is offered");
        self.auditing.map_or(free, |(_, audit)| free.saturating_sub(&audit))
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
            _ if self.barred => MachineReason::Barred,
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

    /// When its offer next begins or stops to hold, or ends; none where that is never. A moment that has passed where the end
    /// wasn't seen to yet: a changed offer may have waited until after its own end.
    pub(crate) fn next_change(&self, clock: &SlotClock, now: TimeMs) -> Option<TimeMs> {
        let availability = self.offer?.availability;
        let ended = availability.until.filter(|until| *until <= now && !self.draining && self.pending.is_none());
        ended.or_else(|| availability.next_change(clock, now))
    }

    /// Can an offer take the place of the present one while its leases run? Not where they use more than it has, and not where
    /// it would end them: it closes at once, and does not hold now.
    fn allows(&self, offer: &Offer, holds: bool) -> bool {
        let goes_on = self.leases.is_empty() || offer.at_close == ChangeMode::AfterLease || holds;
        offer.resources.covers(&self.used) && goes_on
    }

    pub(crate) fn release(&mut self, lease: LeaseId, resources: &Resources) {
        assert!(self.leases.remove(&lease), "invariant broken: {} doesn't serve {lease}", self.id);
        self.used = self.used.checked_sub(resources).expect("invariant: a machine's use is the sum of its leases'");
    }

    /// What the derived fields are by the others and the circumstances.
    pub(crate) fn settled(&self, circumstances: &Circumstances) -> Settled {
        let Machine { mut offer, mut pending, mut draining, mut lost, .. } = *self;
        if pending.is_some_and(|pending| self.allows(&pending, false)) {
            offer = pending.take();
        }
        if draining && self.leases.is_empty() {
            offer = None;
        }
        if offer.is_none() {
            (draining, lost, pending) = (false, false, None);
        }
        let open = offer.is_some_and(|offer| circumstances.hold(&offer));
        let ending = draining || pending.is_some();
        let state = match (offer.is_some(), lost, ending, self.leases.is_empty()) {
            (false, ..) => MachineState::Withdrawn,
            (true, true, ..) => MachineState::Panic,
            (true, false, true, _) => MachineState::Draining,
            (true, false, false, false) => MachineState::InUse,
            (true, false, false, true) => MachineState::Idle,
        };
        Settled { offer, pending, draining, lost, open, state }
    }

    /// Brings the derived fields in line with the others and with the circumstances.
    pub(crate) fn settle(&mut self, circumstances: &Circumstances) {
        let Settled { offer, pending, draining, lost, open, state } = self.settled(circumstances);
        (self.offer, self.pending, self.draining, self.lost) = (offer, pending, draining, lost);
        (self.open, self.state) = (open, state);
    }

    /// Are the derived fields in line?
    pub(crate) fn is_settled(&self, circumstances: &Circumstances) -> bool {
        let Machine { offer, pending, draining, lost, open, state, .. } = *self;
        self.settled(circumstances) == Settled { offer, pending, draining, lost, open, state }
    }
}

/// The offer has a core, is within the configuration (where that is known), and ends after `now`.
pub(crate) fn judge_offer(offer: &Offer, config: Option<&MachineConfig>, now: TimeMs) -> Result<(), Rejection> {
    if offer.resources.cores == 0 {
        return Err(Rejection::OfferWithoutCores);
    }
    if let Some(config) = config.filter(|config| !config.resources.covers(&offer.resources)) {
        return Err(Rejection::OfferTooLarge { offered: offer.resources, has: config.resources });
    }
    match offer.availability.until.filter(|until| *until <= now) {
        Some(until) => Err(Rejection::OfferInThePast { until, time: now }),
        None => Ok(()),
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

    /// `Lend`: the machine exists and is the owner's, who isn't barred from lending; the offer has a core, is within the machine, and ends after `now`; the
    /// physical machine isn't offered under another key.
    pub(crate) fn check_lend(&self, owner: AccountId, id: MachineId, offer: &Offer, now: TimeMs) -> Result<(), Rejection> {
        let machine = self.check_owned(owner, id)?;
        self.check_may_lend(owner)?;
        self.check_offer(id, &machine.config, offer, now)
    }

    /// The offer has a core, is within the configuration, and ends after `now`; the physical machine isn't offered twice.
    pub(crate) fn check_offer(&self, id: MachineId, config: &MachineConfig, offer: &Offer, now: TimeMs) -> Result<(), Rejection> {
        judge_offer(offer, Some(config), now)?;
        self.check_host(id, config)
    }

    /// The account isn't barred from lending.
    pub(crate) fn check_may_lend(&self, owner: AccountId) -> Result<(), Rejection> {
        let account = &self.accounts[&owner];
        match self.is_barred(account) {
            true => Err(Rejection::Barred { strikes: account.strikes }),
            false => Ok(()),
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
            auditing: None,
            barred: self.ledger.is_barred(&self.ledger.accounts[&owner]),
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

    /// Where running leases are in the new offer's way, they end at once, or the offer waits for them.
    pub fn set_offer(&mut self, id: MachineId, offer: Offer, mode: ChangeMode) {
        let holds = offer.availability.holds(&self.ledger.params().slots, self.now());
        if mode == ChangeMode::AtOnce && !self.ledger.machines[&id].allows(&offer, holds) {
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
            match machine.allows(&offer, holds) {
                true => (machine.offer, machine.pending) = (Some(offer), None),
                false => machine.pending = Some(offer),
            }
        });
    }

    /// Ends an offer. At once: active leases end; their jobs go on without them.
    pub fn withdraw(&mut self, owner: AccountId, id: MachineId, mode: ChangeMode) -> Result<(), Rejection> {
        self.ledger.check_withdraw(owner, id)?;

        self.machine(id, |machine| (machine.draining, machine.pending) = (true, None));
        if mode == ChangeMode::AtOnce {
            self.take_back(id);
        }
        Ok(())
    }

    /// The owner takes a machine out of its leases, unannounced: they count as lost.
    fn take_back(&mut self, id: MachineId) {
        let leases = self.ledger.machines[&id].leases.clone();
        self.break_leases(&leases, LeaseState::Ended);
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

    /// At the block's end: machines whose heartbeats stopped are lost with their leases; these leases' jobs go on without them.
    /// The longest silent one is first, then the order is by id.
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

    /// Machines whose offers' hours began or ended since the last block, or that ended: the first to do so first, then by id.
    /// Asked for before the transactions, which look ahead from the block's time when they change a machine.
    pub fn due_offers(&self) -> Vec<MachineId> {
        let now = self.now();
        self.ledger.index.changes.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    /// At the block's end: offers begin and stop to hold with their hours and their end. One that stops to hold takes no new
    /// lease; whether those that run end with it is the offer's own word. After the transactions, so that a receipt of the
    /// block in which the hours end is still paid, and events that no transaction caused come last.
    pub fn move_offers(&mut self, due: &[MachineId]) {
        let (now, clock) = (self.now(), self.ledger.params().slots);
        for &id in due {
            let machine = &self.ledger.machines[&id];
            let Some(offer) = machine.offer else { continue };
            if offer.at_close == ChangeMode::AtOnce && !offer.availability.holds(&clock, now) {
                // Announced in the offer: nobody's reliability suffers.
                let leases = machine.leases.clone();
                self.break_leases(&leases, LeaseState::Ended);
            }
            self.machine(id, |machine| {
                let ended = machine.offer.is_some_and(|offer| offer.availability.until.is_some_and(|until| until <= now));
                machine.draining |= ended && machine.pending.is_none();
            });
        }
    }

    /// At the end of a block that begins a slot: its prices open and close offers.
    pub fn reprice_offers(&mut self) {
        let circumstances = circumstances(&self.ledger.constitution, &self.ledger.tip, &self.ledger.prices);
        let moved = |machine: &&Machine| machine.open != machine.offer.is_some_and(|offer| circumstances.hold(&offer));
        let moved: Vec<MachineId> = self.ledger.machines.values().filter(moved).map(|machine| machine.id).collect();
        for id in moved {
            self.machine(id, |_| {});
        }
    }

    /// Ends leases that their machine can't serve any more.
    fn break_leases(&mut self, leases: &BTreeSet<LeaseId>, state: LeaseState) {
        leases.iter().for_each(|id| self.end_lease(*id, state));
        // Not before all of them ended: the last one's end may finish their job, which ends those that are left.
        let jobs: BTreeSet<JobId> = leases.iter().map(|id| self.ledger.leases[id].job).collect();
        jobs.into_iter().for_each(|job| self.after_loss(job));
    }
}
