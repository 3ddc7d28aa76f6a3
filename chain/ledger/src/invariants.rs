use std::collections::{BTreeMap, BTreeSet};

use deepmarket_types::{AccountId, AuditState, ChangeMode, Credits, JobId, JobState, LeaseId, LeaseState, MachineId, Resources};

use crate::{
    Audit, Job, Lease, Ledger, Machine, StateKey, Window,
    state::{Index, circumstances},
};

/// A broken rule, in words.
type Broken = String;

fn ensure(holds: bool, rule: impl FnOnce() -> Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(rule()) }
}

impl Ledger {
    /// What holds after every block of the entries that the block touched, and of the totals. Costs as much as the block.
    pub(crate) fn check_touched<'a>(&self, touched: impl Iterator<Item = &'a StateKey>) -> Result<(), Broken> {
        ensure(self.tip.totals.conserved(), || format!("credits were created or lost: {:?}", self.tip.totals))?;
        for key in touched {
            match key {
                StateKey::Job(id) => self.check_job(&self.jobs[id])?,
                StateKey::Machine(id) => self.check_machine(&self.machines[id])?,
                StateKey::Lease(id) => self.check_lease(&self.leases[id])?,
                StateKey::Account(_) | StateKey::Spec(_) | StateKey::Invite(_) => {}
                StateKey::Audit(id) => self.check_audit_entry(&self.audits[id])?,
                StateKey::Window(lease, sequence) => {
                    self.windows.get(&(*lease, *sequence)).map_or(Ok(()), |window| self.check_window(window))?;
                }
                StateKey::Beacon => {}
                StateKey::Constitution | StateKey::Tip | StateKey::Prices | StateKey::Statistics => {}
            }
        }
        Ok(())
    }

    /// Every invariant over the whole state. For loading and for tests: its cost grows with the state.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.params().check().map_err(|error| error.to_string())?;
        let totals = &self.tip.totals;
        ensure(totals.conserved(), || format!("credits were created or lost: {totals:?}"))?;
        let purses: Credits = self.accounts.values().flat_map(|a| [a.granted, a.earned]).sum();
        ensure(purses == totals.purses, || format!("the purses hold {purses}, the total says {}", totals.purses))?;
        let escrow: Credits = self.jobs.values().map(Job::escrow).sum();
        ensure(escrow == totals.escrow, || format!("the jobs' escrow is {escrow}, the total says {}", totals.escrow))?;

        self.check_audits()?;
        let mut open_jobs: BTreeMap<AccountId, u32> = BTreeMap::new();
        let mut paid: BTreeMap<JobId, Credits> = BTreeMap::new();
        let mut earned: BTreeMap<MachineId, Credits> = BTreeMap::new();
        for (id, job) in &self.jobs {
            ensure(job.id == *id && id.0 < self.tip.next_job, || format!("{id} has a wrong number"))?;
            ensure(self.accounts.contains_key(&job.owner), || format!("{id} has no owner"))?;
            ensure(self.specs.contains_key(id), || format!("{id} has no spec"))?;
            self.check_job(job)?;
            *open_jobs.entry(job.owner).or_default() += u32::from(!job.state.is_closed());
        }
        ensure(self.specs.len() == self.jobs.len(), || "there are specs without a job".into())?;
        for (id, lease) in &self.leases {
            ensure(lease.id == *id && id.0 < self.tip.next_lease, || format!("{id} has a wrong number"))?;
            let job = self.jobs.get(&lease.job).ok_or_else(|| format!("{id} has no job"))?;
            ensure(job.leases.get(lease.rank as usize) == Some(id), || format!("{id} is not its job's rank {}", lease.rank))?;
            ensure(job.active.contains(id) == lease.is_active(), || format!("{id} and its job disagree"))?;
            let machine = self.machines.get(&lease.machine).ok_or_else(|| format!("{id} has no machine"))?;
            ensure(machine.leases.contains(id) == lease.is_active(), || format!("{id} and its machine disagree"))?;
            self.check_lease(lease)?;
            let vested = lease.paid.saturating_sub(lease.held).saturating_sub(lease.forfeited);
            for (sum, part) in
                [(paid.entry(lease.job).or_default(), lease.paid), (earned.entry(lease.machine).or_default(), vested)]
            {
                *sum = [*sum, part].into_iter().sum();
            }
        }
        for (id, job) in &self.jobs {
            let sum = paid.get(id).copied().unwrap_or_default();
            ensure(job.paid == sum, || format!("{id} paid {}, its leases got {sum}", job.paid))?;
        }
        let mut machines: BTreeMap<AccountId, u32> = BTreeMap::new();
        for (id, machine) in &self.machines {
            ensure(machine.id == *id && MachineId::from_key(&machine.key) == *id, || format!("{id} has a wrong key"))?;
            let sum = earned.get(id).copied().unwrap_or_default();
            ensure(machine.earned == sum, || format!("{id} earned {}, its leases got {sum}", machine.earned))?;
            self.check_machine(machine)?;
            *machines.entry(machine.owner).or_default() += 1;
        }
        for (code, invite) in &self.invites {
            ensure(self.accounts.contains_key(&invite.owner), || format!("the invitation {code} has no owner"))?;
            ensure(invite.expires > self.tip.time, || format!("the invitation {code} is void and still there"))?;
        }
        for (id, account) in &self.accounts {
            ensure(account.id == *id, || format!("{id} has a wrong id"))?;
            ensure(account.reliability <= 1_000, || format!("{id} is reliable in {} thousandths", account.reliability))?;
            let counts = (open_jobs.get(id).copied().unwrap_or(0), machines.get(id).copied().unwrap_or(0));
            ensure((account.open_jobs, account.machines) == counts, || format!("{id} has wrong counts"))?;
        }
        self.check_index()
    }

    /// Windows and audits: what is held is in windows, and fees are in the treasury or were paid to auditors.
    fn check_audits(&self) -> Result<(), Broken> {
        let totals = &self.tip.totals;
        let mut held: BTreeMap<LeaseId, Credits> = BTreeMap::new();
        for ((lease, sequence), window) in &self.windows {
            ensure((window.lease, window.sequence) == (*lease, *sequence), || format!("a window of {lease} has a wrong name"))?;
            ensure(self.leases.contains_key(lease), || format!("{lease} has a window and doesn't exist"))?;
            self.check_window(window)?;
            let sum = held.entry(*lease).or_default();
            *sum = [*sum, window.pay].into_iter().sum();
        }
        let all: Credits = held.values().copied().sum();
        ensure(all == totals.held, || format!("windows hold {all}, the total says {}", totals.held))?;
        for (id, lease) in &self.leases {
            let sum = held.get(id).copied().unwrap_or_default();
            ensure(lease.held == sum, || format!("{} of {id} are held, its windows say {sum}", lease.held))?;
        }
        for (id, audit) in &self.audits {
            ensure(audit.id == *id && id.0 < self.tip.next_audit, || format!("{id} has a wrong number"))?;
            self.check_audit_entry(audit)?;
        }
        let fees: Credits = self.jobs.values().map(|job| job.fees).sum();
        let paid: Credits = self.audits.values().flat_map(|audit| &audit.auditors).map(|auditor| auditor.paid).sum();
        let spent: Credits = [paid, totals.treasury].into_iter().sum();
        ensure(fees == spent, || format!("fees of {fees} aren't the treasury and what auditors got: {spent}"))
    }

    /// Pay that may vest does.
    fn check_window(&self, window: &Window) -> Result<(), Broken> {
        let Window { lease, sequence, .. } = *window;
        let waits = self.vests(window) > self.tip.time || !window.is_drawn || self.is_audited_now(self.leases[&lease].machine);
        ensure(waits, || format!("receipt {sequence} of {lease} is held for no reason"))?;
        ensure(window.granted <= window.pay, || format!("receipt {sequence} of {lease} holds more starting credits than credits"))
    }

    fn check_audit_entry(&self, audit: &Audit) -> Result<(), Broken> {
        let id = audit.id;
        let closed = audit.closed.is_some();
        ensure(closed == audit.is_closed(), || format!("{id} has an end or is over, but not both"))?;
        let job = self.jobs.get(&audit.job).ok_or_else(|| format!("{id} has no job"))?;
        let known = self.leases.contains_key(&audit.lease) && self.machines.contains_key(&audit.machine);
        ensure(known, || format!("{id} has no lease or no machine"))?;
        let mut owners = BTreeSet::from([audit.lender, job.owner]);
        for auditor in &audit.auditors {
            let machine = self.machines.get(&auditor.machine).ok_or_else(|| format!("{id} has an auditor that doesn't exist"))?;
            let computes = machine.auditing.is_some_and(|(auditing, _)| auditing == id);
            ensure(computes == auditor.works(), || format!("{id} and its auditor {} disagree", machine.id))?;
            ensure(owners.insert(auditor.owner), || format!("{id} has two parties of {}", auditor.owner))?;
        }
        let works = audit.auditors.iter().any(|auditor| auditor.works());
        let disclosed = audit.disclosed.is_some();
        let fits = match audit.state {
            AuditState::Disclosing => !disclosed && audit.auditors.is_empty(),
            AuditState::Waiting => disclosed && !works && audit.wants_auditor(),
            AuditState::Computing => disclosed && (works || audit.canary_at.is_some()),
            AuditState::Revealing => disclosed && !works && audit.counting().any(|auditor| !auditor.has_shown()),
            AuditState::Tracing => disclosed && !works && audit.accuser().is_some(),
            AuditState::Judging => disclosed && !works && audit.disputed_step.is_some(),
            AuditState::Closed(_) => !works && audit.canary_at.is_none(),
        };
        ensure(fits, || format!("{id} {}, which its auditors contradict", audit.state))?;
        let late = audit.deadline(&self.params().audit).is_some_and(|deadline| deadline <= self.tip.time);
        ensure(!late, || format!("{id} waits for what is too late"))
    }

    fn check_index(&self) -> Result<(), Broken> {
        let index = self.rebuilt_index();
        ensure(index == self.index, || "an index differs from what the entries say".into())?;
        ensure(index.keys.len() == self.accounts.len(), || "two accounts have one key".into())?;
        ensure(index.identities.len() == self.accounts.len(), || "two accounts have one identity".into())
    }

    /// The index as the entries make it.
    pub(crate) fn rebuilt_index(&self) -> Index {
        let mut index = Index::default();
        let circumstances = circumstances(&self.constitution, &self.tip, &self.prices);
        self.accounts.values().for_each(|account| index.add_account(account));
        self.machines.values().for_each(|machine| index.add_machine(machine, &circumstances));
        self.jobs.values().for_each(|job| index.place_job(job, self.newcomers(job).next().is_some()));
        self.invites.iter().for_each(|(code, invite)| index.add_invite(*code, invite));
        for window in self.windows.values() {
            if let Some(lease) = self.leases.get(&window.lease) {
                index.windows.add(window, lease.machine, self.vests(window), self.tip.time);
            }
        }
        self.audits.values().for_each(|audit| index.audits.add(audit, &self.params().audit));
        index
    }

    fn check_job(&self, job: &Job) -> Result<(), Broken> {
        let id = job.id;
        let parts: Credits = [job.escrow(), job.paid, job.fees, job.refunded].into_iter().sum();
        ensure(parts == job.budget, || format!("{id}: budget {} isn't escrow, paid, fees and refunded: {parts}", job.budget))?;
        let mut joined = 0;
        for lease in &job.active {
            let lease = self.leases.get(lease).ok_or_else(|| format!("{id} is served by {lease}, which doesn't exist"))?;
            ensure(lease.is_active() && lease.job == id, || format!("{id} is served by {}, which isn't its own", lease.id))?;
            joined += usize::from(lease.joined.is_some());
        }
        let members: BTreeSet<LeaseId> = job.members.iter().copied().collect();
        let have_joined = |member: &LeaseId| self.leases.get(member).is_some_and(|lease| lease.joined.is_some());
        ensure(members.is_subset(&job.active), || format!("{id} has a member that isn't active"))?;
        ensure(members.iter().all(have_joined), || format!("{id} has a member that didn't join"))?;
        ensure((members.len(), joined) == (job.members.len(), members.len()), || format!("{id} has wrong members"))?;
        let (active, trains) = (!job.active.is_empty(), !members.is_empty());
        let trained = job.generation > 0;
        let fits = match job.state {
            JobState::Queued => !active && !trained,
            JobState::Matched => active && !trains && !trained,
            JobState::Running => trains && trained,
            JobState::Recovering => !trains && trained && job.finished.is_none(),
            JobState::Finished(_) | JobState::Cancelled | JobState::Panic(_) => !active,
        };
        let (state, count) = (job.state, job.active.len());
        ensure(fits, || format!("{id} is {state} with {count} active leases, {} members", members.len()))?;
        if job.state.is_closed() {
            ensure(job.escrow().is_zero(), || format!("{id} is closed and has escrow"))?;
            ensure(job.ended.is_some(), || format!("{id} is closed and has no end"))
        } else {
            ensure(job.failures <= job.restarts, || format!("{id} goes on after {} failures", job.failures))?;
            ensure(job.refunded.is_zero() && job.ended.is_none(), || format!("{id} is open and was settled"))
        }
    }

    fn check_machine(&self, machine: &Machine) -> Result<(), Broken> {
        let id = machine.id;
        let mut used = Resources::default();
        for lease in &machine.leases {
            let lease = self.leases.get(lease).ok_or_else(|| format!("{id} serves {lease}, which doesn't exist"))?;
            ensure(lease.is_active() && lease.machine == id, || format!("{id} serves {}, which isn't its own", lease.id))?;
            used = used.plus(&lease.resources);
        }
        ensure(used == machine.used, || format!("{id} uses {used:?}, its entry says {:?}", machine.used))?;
        let offered = machine.offer.map_or(Resources::default(), |offer| offer.resources);
        ensure(offered.covers(&used), || format!("{id} uses {used:?} of an offer of {offered:?}"))?;
        ensure(machine.config.resources.covers(&offered), || format!("{id} offers more than it has"))?;
        if let Some((audit, _)) = machine.auditing {
            let works = self.audits.get(&audit).is_some_and(|audit| audit.auditors.iter().any(|a| a.machine == id && a.works()));
            ensure(works, || format!("{id} keeps room for {audit}, which it doesn't compute"))?;
        }
        let owner = self.accounts.get(&machine.owner).ok_or_else(|| format!("{id} has no owner"))?;
        let barred = self.is_barred(owner);
        ensure(machine.barred == barred, || format!("{id} is barred, or its owner is, but not both"))?;
        ensure(machine.reliability <= 1_000, || format!("{id} is reliable in {} thousandths", machine.reliability))?;
        let circumstances = circumstances(&self.constitution, &self.tip, &self.prices);
        if let Some(offer) = machine.offer.filter(|offer| offer.at_close == ChangeMode::AtOnce) {
            let holds = offer.availability.holds(&circumstances.clock, circumstances.now);
            ensure(holds || machine.leases.is_empty(), || format!("{id} closes at once and serves leases outside its hours"))?;
        }
        ensure(machine.is_settled(&circumstances), || format!("{id} has the wrong state {}", machine.state))
    }

    fn check_lease(&self, lease: &Lease) -> Result<(), Broken> {
        let id = lease.id;
        ensure(lease.started <= lease.metered && lease.metered <= self.tip.time, || format!("{id} was metered outside it"))?;
        let lived_ms = lease.metered.since(lease.started);
        let rest = lease.paid.checked_sub(lease.held).and_then(|rest| rest.checked_sub(lease.forfeited));
        ensure(rest.is_some(), || format!("{id} was paid {}, less than what is held of it and lost", lease.paid))?;
        ensure(lease.paid_ms <= lived_ms, || format!("{id} was paid for {} of {lived_ms} ms", lease.paid_ms))?;
        let ready = lease.ready.is_some();
        ensure(ready == (lease.sequence > 0) && ready >= lease.joined.is_some(), || format!("{id} got ready without a receipt"))?;
        ensure(lease.from <= lease.rounds, || format!("{id} took part in rounds that weren't done"))?;
        let finished = lease.state == LeaseState::Finished;
        ensure(finished == lease.result.is_some(), || format!("{id} has a result or has finished, but not both"))
    }
}
