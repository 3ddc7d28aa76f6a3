//! Draws: which windows are audited, by whom, and which auditors are audited themselves. The beacon decides all of it.

use deepmarket_types::{AccountId, AuditId, AuditState, Credits, Event, Hash, LeaseId, MachineId};

use super::{Audit, Auditor};
use crate::{
    Ledger, StateKey, Window,
    beacon::{Draw, MIXES_LATER},
    change::Change,
};

/// The first and the second 8 bytes of a hash: a number that decides whether, and one that decides which.
fn numbers(hash: &Hash) -> (u64, u64) {
    let number = |from: usize| u64::from_le_bytes(hash.0[from..from + 8].try_into().expect("8 bytes"));
    (number(0), number(8))
}

/// The commitment that a draw asks for, where it audits a window at all: with `rate` of a thousand, one of those that the window
/// added.
pub(crate) fn drawn_index(value: &Hash, window: &Window, rate_permille: u32) -> Option<u64> {
    let parts: [&[u8]; 3] = [&value.0, &window.lease.0.to_le_bytes(), &window.sequence.to_le_bytes()];
    let (whether, which) = numbers(&Hash::tagged("deepmarket/v1/audit-draw", &parts));
    let (before, with) = window.committed;
    (with > before && whether % 1_000 < u64::from(rate_permille)).then(|| before + which % (with - before))
}

impl Ledger {
    /// So many of a thousand windows of a lease like that of this receipt are audited now: all of a lender's first ones and of a suspect lease; else what the
    /// job or the market asks for, or more while the lender has passed few audits: `2000 / (2 + passed)`, rounded down.
    pub fn audit_rate(&self, lease: LeaseId, sequence: u32) -> u32 {
        let Some(lease) = self.leases.get(&lease) else { return 0 };
        let (job, account) = (&self.jobs[&lease.job], &self.accounts[&lease.owner]);
        if job.audit_permille == 0 {
            return 0;
        }
        if lease.is_suspect(sequence) || account.windows < self.params().audit.first_windows {
            return 1_000;
        }
        job.audit_permille.max(2_000 / account.audits_passed.saturating_add(2))
    }

    /// The machine that audits next, and whether it is of the worker's class: the first in an order that nobody knew before.
    ///
    /// It takes work; its owner isn't the worker's, the borrower or another auditor's; it has what the lease has, free, and audits
    /// nothing else now. Another class only where nobody else offers a machine of the worker's.
    fn auditor_for(&self, audit: &Audit) -> Option<(MachineId, bool)> {
        let lease = &self.leases[&audit.lease];
        let borrower = self.jobs[&audit.job].owner;
        let is_strange =
            |owner| owner != audit.lender && owner != borrower && audit.auditors.iter().all(|auditor| auditor.owner != owner);
        let takes_it = |id: &MachineId| {
            let machine = &self.machines[id];
            let fits = machine.auditing.is_none() && machine.free().covers(&lease.resources);
            fits && is_strange(machine.owner)
        };
        let order =
            |id: &MachineId| Hash::tagged("deepmarket/v1/auditor", &[&self.beacon.mix.0, &audit.id.0.to_le_bytes(), &id.0]);
        let first = (lease.class.clone(), AccountId([0; 20]), MachineId([0; 20]));
        let of_class = || self.index.classes.range(first.clone()..).take_while(|(class, ..)| *class == lease.class);
        let same_class = of_class().any(|(_, owner, _)| is_strange(*owner));
        let is_of_class = |id: &MachineId| !same_class || self.machines[id].config.trainer == lease.class;
        let free = self.index.free.iter().map(|(.., id)| *id);
        let auditor = free.filter(is_of_class).filter(takes_it).min_by_key(order);
        auditor.map(|id| (id, same_class))
    }
}

impl Change<'_> {
    /// Draws the windows whose time has come, and the canaries.
    pub(super) fn draw(&mut self, draw: &Draw) {
        let Some(mixes) = draw.mixes.checked_sub(MIXES_LATER) else { return };
        let range = (mixes, LeaseId(0), 0)..=(mixes, LeaseId(u64::MAX), u32::MAX);
        let windows: Vec<(LeaseId, u32)> =
            self.ledger.index.windows.by_mixes.range(range).map(|(_, lease, sequence)| (*lease, *sequence)).collect();
        for (lease, sequence) in windows {
            self.draw_window(lease, sequence, &draw.value);
        }
        // Later mixes too: one may have come while the beacon stood still for the first time.
        let due = self.ledger.index.audits.canaries.range(..=(draw.mixes, AuditId(u64::MAX)));
        let audits: Vec<AuditId> = due.map(|(_, id)| *id).collect();
        let rate = u64::from(self.ledger.params().audit.canary_permille);
        for id in audits {
            let parts: [&[u8]; 2] = [&draw.value.0, &id.0.to_le_bytes()];
            let (whether, _) = numbers(&Hash::tagged("deepmarket/v1/canary-draw", &parts));
            self.decide_canary(id, whether % 1_000 < rate);
        }
    }

    /// A second auditor computes the round too, or the first one shows its answer.
    pub(super) fn decide_canary(&mut self, id: AuditId, is_canary: bool) {
        self.audit(id, |audit| {
            audit.canary_at = None;
            match is_canary {
                true => audit.wanted = 2,
                false => audit.state = AuditState::Revealing,
            }
        });
        self.advance(id);
    }

    fn draw_window(&mut self, lease_id: LeaseId, sequence: u32, value: &Hash) {
        let window = &self.ledger.windows[&(lease_id, sequence)];
        let rate = self.ledger.audit_rate(lease_id, sequence);
        let lease = &self.ledger.leases[&lease_id];
        let (machine, owner) = (lease.machine, lease.owner);
        let vests = self.ledger.vests(window);
        let is_new = self.ledger.audit_of(lease_id, sequence).is_none();
        let has_room = self.ledger.open_audits_of(machine, lease_id) < self.ledger.params().audit.max_open as usize;
        let index = drawn_index(value, window, rate).filter(|_| is_new && has_room);
        if let Some(index) = index {
            self.open_audit(window.clone(), index);
        }
        let window = self.ledger.windows.get_mut(&(lease_id, sequence)).expect("it was found above");
        let is_first_draw = !window.is_drawn;
        window.is_drawn = true;
        let is_empty = window.pay.is_zero();
        if is_first_draw {
            self.touch(StateKey::Window(lease_id, sequence));
            let account = self.account(owner);
            account.windows = account.windows.saturating_add(1);
            // Its time may have passed while the beacon stood still.
            if vests <= self.now() {
                self.released.insert(machine);
            }
        }
        if is_empty {
            self.release_window(lease_id, sequence);
        }
    }

    fn open_audit(&mut self, window: Window, index: u64) {
        let now = self.now();
        let id = AuditId(self.ledger.tip.next_audit);
        self.ledger.tip.next_audit += 1;
        let lease = self.lease(window.lease);
        if lease.is_suspect(window.sequence) {
            lease.suspect_from = None;
        }
        let audit = Audit {
            id,
            job: lease.job,
            lease: lease.id,
            machine: lease.machine,
            lender: lease.owner,
            sequence: window.sequence,
            window,
            index,
            drawn: now,
            state: AuditState::Disclosing,
            since: now,
            disclosed: None,
            auditors: Vec::new(),
            wanted: 1,
            canary_at: None,
            worker_trace: None,
            auditor_trace: None,
            disputed_step: None,
            judgements: Default::default(),
            closed: None,
        };
        let Audit { job, lease, machine, lender, state, .. } = audit;
        self.events.push(Event::Audit { audit: id, job, lease, machine, lender, state });
        let params = self.ledger.constitution.params.audit;
        self.ledger.index.audits.add(&audit, &params);
        self.ledger.audits.insert(id, audit);
        self.touch(StateKey::Audit(id));
    }

    /// At the block's end, before matching: audits that need a machine get one, the oldest first. Most blocks change nothing that
    /// could give one, and cost nothing here.
    pub fn give_audits(&mut self) {
        if !self.ledger.reassign {
            return;
        }
        let waiting: Vec<AuditId> = self.ledger.index.audits.waiting.iter().copied().collect();
        for id in waiting {
            while self.ledger.audits[&id].wants_auditor() {
                let Some((machine, same_class)) = self.ledger.auditor_for(&self.ledger.audits[&id]) else { break };
                self.give_audit(id, machine, same_class);
            }
        }
        self.ledger.reassign = false;
    }

    fn give_audit(&mut self, id: AuditId, machine: MachineId, same_class: bool) {
        let now = self.now();
        let (owner, lease) = (self.ledger.machines[&machine].owner, self.ledger.audits[&id].lease);
        let resources = self.ledger.leases[&lease].resources;
        self.machine(machine, |machine| machine.auditing = Some((id, resources)));
        self.audit(id, |audit| {
            audit.auditors.push(Auditor {
                machine,
                owner,
                since: now,
                same_class,
                finding: None,
                outcome: None,
                is_excused: false,
                is_false: false,
                paid: Credits::ZERO,
            });
            if !same_class {
                // One alone of another class can only say that it is close.
                audit.wanted = audit.wanted.max(2);
            }
            audit.state = AuditState::Computing;
        });
    }
}
