use deepmarket_types::{Credits, Event, Hash, JobId, JobState, LeaseId, LeaseState, MachineId, Resources, TimeMs, UnitPrices};

use crate::{Job, Lease, Ledger, Machine, StateKey, change::Change};

/// What a job asks of machines. A harder demand can't be met where an easier one wasn't.
#[derive(Clone, Copy)]
struct Demand {
    resources: Resources,
    workers: u32,
    share_machine: bool,
}

impl Demand {
    fn is_at_least_as_hard_as(&self, other: &Demand) -> bool {
        self.resources.covers(&other.resources) && self.workers >= other.workers && (other.share_machine || !self.share_machine)
    }
}

/// Demands that are remembered as unmet while one block is matched; more would cost more than they save.
const MAX_UNMET: usize = 64;

/// The machines for up to `limit` workers, of machines in rank order with what they have. Where one may be shared, workers are
/// first spread over all of them, then each gets its second one, and so on.
pub(crate) fn spread<M: Copy>(
    machines: impl Iterator<Item = (M, Resources)>,
    demand: &Resources,
    limit: u32,
    share_machine: bool,
) -> Vec<M> {
    let limit = limit as usize;
    let mut picked = Vec::new();
    let mut rest = Vec::new();
    for (machine, has) in machines {
        if picked.len() == limit {
            return picked;
        }
        if let Some(left) = has.checked_sub(demand) {
            picked.push(machine);
            rest.push((machine, left));
        }
    }
    while share_machine && !rest.is_empty() {
        let mut next = Vec::new();
        for (machine, has) in rest {
            if picked.len() == limit {
                return picked;
            }
            if let Some(left) = has.checked_sub(demand) {
                picked.push(machine);
                next.push((machine, left));
            }
        }
        rest = next;
    }
    picked
}

impl Ledger {
    /// The machines for up to `limit` workers, in rank order: by reliability, then speed, then id.
    pub(crate) fn pick(&self, demand: &Resources, limit: u32, share_machine: bool) -> Vec<MachineId> {
        spread(self.free_machines(), demand, limit, share_machine)
    }

    /// Machines that can take work, in rank order, with what they have left.
    fn free_machines(&self) -> impl Iterator<Item = (MachineId, Resources)> {
        self.index.free.iter().map(|(.., id)| (*id, self.machines[id].free()))
    }

    /// The most workers whose first interval a job's escrow pays for at the prices of `now`.
    pub(crate) fn affordable_workers(&self, job: &Job, now: TimeMs) -> u32 {
        let one = self.interval_cost(&self.unit_prices_at(now), &job.demand, 1);
        match job.escrow().micro().checked_div(one.micro()) {
            Some(workers) => u32::try_from(workers).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }
}

impl Change<'_> {
    /// Gives machines to queued jobs, in order of submission. A job that can't start doesn't hold up those behind it. One
    /// starts with as many workers as there are machines for and its escrow pays for, between its minimum and its maximum.
    ///
    /// Most blocks change nothing that could let a queued job start, and cost nothing here.
    pub fn match_jobs(&mut self) {
        if !self.ledger.rematch {
            return;
        }
        let now = self.now();
        let (_, slot) = self.ledger.params().slots.slot_at(now);
        let mut unmet: Vec<Demand> = Vec::new();
        let queued = self.ledger.index.queued.iter().map(|id| &self.ledger.jobs[id]).filter(|job| job.may_start_in(slot));
        let affordable = queued.map(|job| (job.id, job.min_workers, self.ledger.affordable_workers(job, now)));
        let candidates: Vec<(JobId, u32)> =
            affordable.filter(|(_, least, workers)| workers >= least).map(|(id, _, workers)| (id, workers)).collect();
        if candidates.is_empty() {
            self.ledger.rematch = false;
            return;
        }
        // Side by side in memory: thousands of jobs look through thousands of machines.
        let mut free: Vec<(MachineId, Resources)> = self.ledger.free_machines().collect();
        for (id, affordable) in candidates {
            let job = &self.ledger.jobs[&id];
            let demand = Demand { resources: job.demand, workers: job.min_workers, share_machine: job.share_machine };
            if unmet.iter().any(|easier| demand.is_at_least_as_hard_as(easier)) {
                continue;
            }
            let places = free.iter().enumerate().map(|(place, (_, left))| (place, *left));
            let picked = spread(places, &job.demand, job.max_workers.min(affordable), job.share_machine);
            if picked.len() < job.min_workers as usize {
                if unmet.len() < MAX_UNMET {
                    unmet.push(demand);
                }
                continue;
            }
            for &place in &picked {
                let (_, left) = &mut free[place];
                *left = left.checked_sub(&demand.resources).expect("it was picked because it has that much left");
            }
            let machines: Vec<MachineId> = picked.into_iter().map(|place| free[place].0).collect();
            self.start_job(id, &machines);
        }
        // Jobs that were passed over stay unmet: those that started took machines and gave none.
        self.ledger.rematch = false;
    }

    /// Makes a lease on each machine, in rank order, and fixes the job's seed.
    fn start_job(&mut self, id: JobId, machines: &[MachineId]) {
        let now = self.now();
        let parent = self.header.parent;
        let job = self.job(id);
        let parts: [&[u8]; 3] = [&parent.0, &id.0.to_le_bytes(), &job.training_seed.to_le_bytes()];
        job.seed = Some(Hash::tagged("deepmarket/v1/job-seed", &parts));
        job.started = Some(now);
        let resources = job.demand;
        self.set_job_state(id, JobState::Matched);
        for (rank, &machine) in (0..).zip(machines) {
            let Machine { owner, offer, .. } = &self.ledger.machines[&machine];
            let lease = Lease {
                id: LeaseId(self.ledger.tip.next_lease),
                job: id,
                rank,
                machine,
                owner: *owner,
                resources,
                minimum: offer.map_or(UnitPrices::default(), |offer| offer.minimum),
                state: LeaseState::Active,
                started: now,
                metered: now,
                sequence: 0,
                receipt: None,
                rounds: 0,
                samples: 0,
                cpu_ms: 0,
                parameters: None,
                loss_micro: 0,
                result: None,
                paid: Credits::ZERO,
                paid_ms: 0,
            };
            let lease_id = lease.id;
            self.ledger.tip.next_lease += 1;
            self.events.push(Event::Lease { lease: lease_id, job: id, rank, machine, state: lease.state });
            self.ledger.leases.insert(lease_id, lease);
            self.touch(StateKey::Lease(lease_id));
            self.job(id).leases.push(lease_id);
            self.machine(machine, |machine| {
                machine.leases.insert(lease_id);
                machine.used = machine.used.plus(&resources);
            });
        }
    }
}
