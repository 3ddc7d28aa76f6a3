//! Windows: what one receipt adds, while its pay is held (DESIGN section 7).

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, AuditId, Credits, Hash, JobId, LeaseId, MachineId, Posting, Purse, TimeMs};

use crate::{Ledger, StateKey, change::Change};

/// What one receipt added to a lease, while its pay is held.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Window {
    /// The lease.
    pub lease: LeaseId,
    /// The receipt's number.
    pub sequence: u32,
    /// The block time of the receipt.
    pub time: TimeMs,
    /// Committed rounds before it, and with it.
    pub committed: (u64, u64),
    /// The root of the commitments with it.
    pub commitments: Hash,
    /// Rounds of the job that were done before it, and with it.
    pub rounds: (u64, u64),
    /// Hash of the parameters at the receipt before (none for the first one), and at this one.
    pub parameters: (Option<Hash>, Hash),
    /// Samples since the lease began, before it and with it.
    pub samples: (u64, u64),
    /// What is held.
    pub pay: Credits,
    /// The part of it that was paid out of starting credits: it stays that where it goes back to the borrower, or where the lender
    /// is the borrower.
    pub granted: Credits,
    /// How often the beacon had been mixed when it came. It is drawn from two mixes later.
    pub mixes: u64,
    /// It went through the draw.
    pub is_drawn: bool,
}

impl Window {
    /// Did it add commitments that an audit could ask for?
    pub fn has_commitments(&self) -> bool {
        self.committed.1 > self.committed.0
    }
}

/// Where windows are found. Follows from the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WindowIndex {
    /// Windows of a machine's leases.
    pub of_machine: BTreeSet<(MachineId, LeaseId, u32)>,
    /// By the number of beacon mixes at their receipt.
    pub by_mixes: BTreeSet<(u64, LeaseId, u32)>,
    /// By when their pay may vest, of those for which that is to come.
    pub vesting: BTreeSet<(TimeMs, LeaseId, u32)>,
}

impl WindowIndex {
    /// Adds a window of a machine whose pay may vest at `vests`.
    pub fn add(&mut self, window: &Window, machine: MachineId, vests: TimeMs, now: TimeMs) {
        let Window { lease, sequence, mixes, .. } = *window;
        self.of_machine.insert((machine, lease, sequence));
        self.by_mixes.insert((mixes, lease, sequence));
        if vests > now {
            self.vesting.insert((vests, lease, sequence));
        }
    }

    fn remove(&mut self, window: &Window, machine: MachineId, vests: TimeMs) {
        let Window { lease, sequence, mixes, .. } = *window;
        self.of_machine.remove(&(machine, lease, sequence));
        self.by_mixes.remove(&(mixes, lease, sequence));
        self.vesting.remove(&(vests, lease, sequence));
    }
}

impl Ledger {
    /// Windows whose pay is held, by lease and receipt.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.values()
    }

    /// Windows of a lease whose pay is held.
    pub fn lease_windows(&self, lease: LeaseId) -> impl Iterator<Item = &Window> {
        self.windows.range((lease, 0)..=(lease, u32::MAX)).map(|(_, window)| window)
    }

    /// Windows of a machine's leases whose pay is held, by lease and receipt.
    pub fn machine_windows(&self, machine: MachineId) -> impl Iterator<Item = &Window> {
        let range = (machine, LeaseId(0), 0)..=(machine, LeaseId(u64::MAX), u32::MAX);
        self.index.windows.of_machine.range(range).map(|(_, lease, sequence)| &self.windows[&(*lease, *sequence)])
    }

    /// What is held of the pay of a machine.
    pub fn held_of_machine(&self, machine: MachineId) -> Credits {
        self.machine_windows(machine).map(|window| window.pay).sum()
    }

    /// What is held of the pay of all machines of an account.
    pub fn held_of(&self, owner: AccountId) -> Credits {
        self.machines_of(owner).map(|machine| self.held_of_machine(machine.id)).sum()
    }

    /// When a window's pay may vest: its machine's open audits may hold it longer.
    pub fn vests(&self, window: &Window) -> TimeMs {
        window.time.plus(self.params().audit.vest_ms)
    }
}

/// A part of all credits grows.
pub(crate) fn grow(part: &mut Credits, by: Credits) {
    *part = part.checked_add(by).expect("all parts together were minted, which fits in 64 bits");
}

/// A part of all credits shrinks by what it was checked to have.
pub(crate) fn shrink(part: &mut Credits, by: Credits) {
    *part = part.checked_sub(by).expect("invariant: no more is taken than is there");
}

impl Change<'_> {
    /// Holds the pay of a receipt. What neither pays nor can be audited leaves no window.
    pub fn hold(&mut self, window: Window) {
        grow(&mut self.ledger.tip.totals.held, window.pay);
        let lease = self.lease(window.lease);
        grow(&mut lease.held, window.pay);
        let machine = lease.machine;
        if window.pay.is_zero() && window.is_drawn {
            return;
        }
        let (key, vests, now) = ((window.lease, window.sequence), self.ledger.vests(&window), self.now());
        self.ledger.index.windows.add(&window, machine, vests, now);
        self.ledger.windows.insert(key, window);
        self.touch(StateKey::Window(key.0, key.1));
    }

    /// Takes a window out: its pay is held no more, and the caller's to give.
    pub fn release_window(&mut self, lease: LeaseId, sequence: u32) -> Window {
        let window = self.ledger.windows.remove(&(lease, sequence)).expect("a held window was found before it is released");
        let vests = self.ledger.vests(&window);
        let of_lease = self.lease(lease);
        shrink(&mut of_lease.held, window.pay);
        let machine = of_lease.machine;
        self.ledger.index.windows.remove(&window, machine, vests);
        shrink(&mut self.ledger.tip.totals.held, window.pay);
        self.touch(StateKey::Window(lease, sequence));
        window
    }

    /// At the block's end: pay vests whose time has come, of windows that went through the draw and of machines of which no audit
    /// is open. Costs as much as what vests, or what an audit that ended held back.
    pub fn vest_windows(&mut self) {
        let now = self.now();
        let mut due = BTreeSet::new();
        while let Some(&first) = self.ledger.index.windows.vesting.first() {
            if first.0 > now {
                break;
            }
            self.ledger.index.windows.vesting.remove(&first);
            due.insert(first);
        }
        for machine in std::mem::take(&mut self.released) {
            let windows = self.ledger.machine_windows(machine);
            let late = windows.map(|window| (self.ledger.vests(window), window.lease, window.sequence));
            due.extend(late.filter(|(vests, ..)| *vests <= now));
        }
        for (_, lease, sequence) in due {
            let is_drawn = self.ledger.windows[&(lease, sequence)].is_drawn;
            if is_drawn && !self.ledger.is_audited_now(self.ledger.leases[&lease].machine) {
                self.vest(lease, sequence);
            }
        }
    }

    fn vest(&mut self, id: LeaseId, sequence: u32) {
        let window = self.release_window(id, sequence);
        self.pay_out(id, sequence, window.pay, window.granted);
    }

    /// Pays for a lease's receipt: earned credits, except of a job of the lender's own account. That gets back what it paid, into the
    /// purses that it came from: otherwise anybody could turn starting credits into earned ones by lending to oneself.
    pub fn pay_out(&mut self, id: LeaseId, sequence: u32, pay: Credits, granted: Credits) {
        let lease = &self.ledger.leases[&id];
        let (job, owner, machine) = (lease.job, lease.owner, lease.machine);
        if !pay.is_zero() {
            self.machine(machine, |machine| grow(&mut machine.earned, pay));
        }
        let cause = Posting::Payout { job, lease: id, machine, sequence };
        let is_own = owner == self.ledger.jobs[&job].owner;
        let granted = if is_own { granted } else { Credits::ZERO };
        self.credit(owner, Purse::Granted, granted, cause);
        self.credit(owner, Purse::Earned, pay.saturating_sub(granted), cause);
    }

    /// Gives what is held of a lease back to the borrower, into the purses that it came from.
    pub fn return_windows(&mut self, lease: LeaseId) {
        let job = self.ledger.leases[&lease].job;
        let windows: Vec<u32> = self.ledger.lease_windows(lease).map(|window| window.sequence).collect();
        let (mut granted, mut earned) = (Credits::ZERO, Credits::ZERO);
        for sequence in windows {
            let window = self.release_window(lease, sequence);
            grow(&mut self.lease(lease).forfeited, window.pay);
            grow(&mut granted, window.granted);
            grow(&mut earned, window.pay.saturating_sub(window.granted));
        }
        let owner = self.ledger.jobs[&job].owner;
        self.credit(owner, Purse::Granted, granted, Posting::Refund(job));
        self.credit(owner, Purse::Earned, earned, Posting::Refund(job));
    }

    /// Takes all held windows of a machine whose word was false. Half of it is burned; a quarter goes to the owner of the audited
    /// job, a quarter to the auditor who was right, if there is one. What halving and quartering leave is burned too, and so is the
    /// quarter of somebody who would get back what he lost himself.
    pub fn forfeit_windows(&mut self, machine: MachineId, job: JobId, finder: Option<AccountId>, audit: AuditId) {
        let loser = self.ledger.machines[&machine].owner;
        let windows: Vec<(LeaseId, u32)> =
            self.ledger.machine_windows(machine).map(|window| (window.lease, window.sequence)).collect();
        let mut lost = Credits::ZERO;
        for (lease, sequence) in windows {
            let window = self.release_window(lease, sequence);
            grow(&mut self.lease(lease).forfeited, window.pay);
            grow(&mut lost, window.pay);
        }
        let quarter = Credits::from_micro(lost.micro() / 4);
        let mut burned = lost;
        let borrower = self.ledger.jobs[&job].owner;
        for receiver in [Some(borrower), finder].into_iter().flatten().filter(|receiver| *receiver != loser) {
            self.credit(receiver, Purse::Earned, quarter, Posting::Forfeit(audit));
            shrink(&mut burned, quarter);
        }
        grow(&mut self.ledger.tip.totals.burned, burned);
    }
}
