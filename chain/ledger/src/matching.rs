use std::collections::{BTreeMap, BTreeSet};

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

/// A machine on which so many leases of a job were lost isn't taken for it any more while it has other workers.
const MAX_LOSSES: u32 = 3;

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

/// How many workers a job needs and may have.
#[derive(Clone, Copy)]
pub(crate) struct Seats {
    /// So many at least, or it isn't served.
    pub least: u32,
    pub most: u32,
    pub share_machine: bool,
}

/// The machines for a job's workers, of machines in rank order with their determinism class and what they have: of one class, so
/// that they compute the same bits and audit each other. The class that the job has already (`present`), else the one of the best
/// machine, or of the next best, that has enough of them. Where none has, machines of all classes, no more than are needed: those of
/// the first class first.
pub(crate) fn spread_by_class<M: Copy, C: Copy + Ord>(
    machines: impl Iterator<Item = (M, C, Resources)> + Clone,
    demand: &Resources,
    seats: Seats,
    present: Option<C>,
) -> Vec<M> {
    let Seats { least, most, share_machine } = seats;
    let of_class = |class: C| {
        let machines = machines.clone().filter(move |(_, other, _)| *other == class);
        spread(machines.map(|(machine, _, has)| (machine, has)), demand, most, share_machine)
    };
    let best = || machines.clone().find(|(.., has)| has.covers(demand)).map(|(_, class, _)| class);
    let Some(first) = present.or_else(best) else { return Vec::new() };
    let picked = of_class(first);
    if picked.len() >= least as usize {
        return picked;
    }
    let mut classes: Vec<C> = Vec::new();
    if present.is_none() {
        let mut by_class: BTreeMap<C, usize> = BTreeMap::new();
        for (_, class, _) in machines.clone().filter(|(.., has)| has.covers(demand)) {
            let count = by_class.entry(class).or_default();
            if *count == 0 {
                classes.push(class);
            }
            *count += 1;
        }
        // Where a machine may be shared, few of them may be enough.
        classes.retain(|class| *class != first && (share_machine || by_class[class] >= least as usize));
    }
    let enough = classes.into_iter().map(of_class).find(|picked| picked.len() >= least as usize);
    enough.unwrap_or_else(|| {
        let all =
            machines.clone().filter(|(_, class, _)| *class == first).chain(machines.filter(|(_, class, _)| *class != first));
        spread(all.map(|(machine, _, has)| (machine, has)), demand, least.max(picked.len() as u32), share_machine)
    })
}

impl Ledger {
    /// The machines for a job's workers, in rank order: by reliability, then speed, then id. Fewer than it needs where there aren't
    /// enough.
    pub(crate) fn pick(&self, demand: &Resources, seats: Seats) -> Vec<MachineId> {
        let machines = self.index.free.iter().map(|(.., id)| {
            let machine = &self.machines[id];
            (*id, machine.config.trainer.as_str(), machine.free())
        });
        spread_by_class(machines, demand, seats, None)
    }

    /// Machines that can take work, in rank order, with what they have left. Classes are numbered.
    fn free_machines(&self) -> Free {
        let mut classes: BTreeMap<&str, u32> = BTreeMap::new();
        let machines = self.index.free.iter().map(|(.., id)| {
            let machine = &self.machines[id];
            let next = classes.len() as u32;
            (*id, *classes.entry(&machine.config.trainer).or_insert(next), machine.free())
        });
        let machines = machines.collect();
        Free { machines, classes: classes.into_iter().map(|(class, number)| (class.to_string(), number)).collect() }
    }

    /// The class of a job's workers: that of its first active lease.
    fn class_of<'a>(&'a self, job: &Job) -> Option<&'a str> {
        job.active.first().map(|lease| self.leases[lease].class.as_str())
    }

    /// Machines on which more workers of a job would do it no good: those that serve it already (unless it may share one), those
    /// on which one of its workers failed by itself or lost pay to an audit, and those on which several were lost.
    fn unwelcome(&self, job: &Job) -> BTreeSet<MachineId> {
        let mut unwelcome = BTreeSet::new();
        let mut losses: BTreeMap<MachineId, u32> = BTreeMap::new();
        for lease in self.job_leases(job.id) {
            let is_unwelcome = match lease.state {
                LeaseState::Active => !job.share_machine,
                LeaseState::Failed(reason) => !reason.is_preemption(),
                LeaseState::Lost => {
                    let losses = losses.entry(lease.machine).or_default();
                    *losses += 1;
                    *losses >= MAX_LOSSES
                }
                LeaseState::Finished | LeaseState::Ended => false,
            };
            if is_unwelcome || !lease.forfeited.is_zero() {
                unwelcome.insert(lease.machine);
            }
        }
        unwelcome
    }

    /// More workers that a job's escrow pays for at the present prices, beside one more interval of those that it has.
    fn affordable_more(&self, job: &Job) -> u32 {
        let one = self.interval_cost(&self.current_prices(), &job.demand, 1, self.fee_permille(job.audit_permille));
        let rest = job.escrow().saturating_sub(self.next_interval(job.id));
        match rest.micro().checked_div(one.micro()) {
            Some(workers) => u32::try_from(workers).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }

    /// The most workers whose first interval a job's escrow pays for at the prices of `now`.
    pub(crate) fn affordable_workers(&self, job: &Job, now: TimeMs) -> u32 {
        let one = self.interval_cost(&self.unit_prices_at(now), &job.demand, 1, self.fee_permille(job.audit_permille));
        match job.escrow().micro().checked_div(one.micro()) {
            Some(workers) => u32::try_from(workers).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }
}

/// Machines that can take work, in rank order, with what they have left. Side by side in memory: thousands of jobs look through
/// thousands of machines.
struct Free {
    machines: Vec<(MachineId, u32, Resources)>,
    classes: BTreeMap<String, u32>,
}

impl Free {
    /// Machines for so many more workers, of a class where the job has one, without `unwelcome` ones.
    fn places(&self, job: &Job, seats: Seats, class: Option<&str>, unwelcome: &BTreeSet<MachineId>) -> Vec<usize> {
        // A class of which no machine is free has no number.
        let class = class.map(|class| self.classes.get(class).copied().unwrap_or(u32::MAX));
        let welcome = self.machines.iter().enumerate().filter(|(_, (id, ..))| !unwelcome.contains(id));
        spread_by_class(welcome.map(|(place, (_, class, left))| (place, *class, *left)), &job.demand, seats, class)
    }

    fn take(&mut self, places: &[usize], demand: &Resources) -> Vec<MachineId> {
        for &place in places {
            let (.., left) = &mut self.machines[place];
            *left = left.checked_sub(demand).expect("it was picked because it has that much left");
        }
        places.iter().map(|place| self.machines[*place].0).collect()
    }
}

impl Change<'_> {
    /// Gives machines to jobs that wait, and then to jobs that could use more. In order of submission; a job that can't be served
    /// doesn't hold up those behind it. Workers begin only in the slots that their job names.
    ///
    /// Most blocks change nothing that could let a worker begin, and cost nothing here.
    pub fn match_jobs(&mut self) {
        if !self.ledger.rematch {
            return;
        }
        let (_, slot) = self.ledger.params().slots.slot_at(self.now());
        let jobs = |set: &BTreeSet<JobId>| -> Vec<JobId> {
            set.iter().copied().filter(|id| self.ledger.jobs[id].may_start_in(slot)).collect()
        };
        let waiting = jobs(&self.ledger.index.queued);
        let growing: Vec<JobId> =
            jobs(&self.ledger.index.served).into_iter().filter(|id| self.ledger.jobs[id].may_grow()).collect();
        if !(waiting.is_empty() && growing.is_empty()) {
            let mut free = self.ledger.free_machines();
            self.start_jobs(&waiting, &mut free);
            self.grow_jobs(&growing, &mut free);
        }
        // Jobs that were passed over stay so: those that were served took machines and gave none.
        self.ledger.rematch = false;
    }

    /// A job starts with as many workers as there are machines for and its escrow pays for, between its minimum and its maximum.
    /// One that lost all its workers avoids the machines that did it no good, if there are enough others.
    fn start_jobs(&mut self, waiting: &[JobId], free: &mut Free) {
        let now = self.now();
        let mut unmet: Vec<Demand> = Vec::new();
        for &id in waiting {
            let job = &self.ledger.jobs[&id];
            let affordable = self.ledger.affordable_workers(job, now);
            let demand = Demand { resources: job.demand, workers: job.min_workers, share_machine: job.share_machine };
            if affordable < job.min_workers || unmet.iter().any(|easier| demand.is_at_least_as_hard_as(easier)) {
                continue;
            }
            let most = job.max_workers.min(affordable);
            let seats = Seats { least: job.min_workers, most, share_machine: job.share_machine };
            let unwelcome = self.ledger.unwelcome(job);
            let mut places = free.places(job, seats, None, &unwelcome);
            if places.len() < job.min_workers as usize && !unwelcome.is_empty() {
                places = free.places(job, seats, None, &BTreeSet::new());
            }
            if places.len() < job.min_workers as usize {
                if unmet.len() < MAX_UNMET {
                    unmet.push(demand);
                }
                continue;
            }
            let machines = free.take(&places, &demand.resources);
            self.start_job(id, &machines);
        }
    }

    /// A job grows up to its maximum, as far as its escrow pays one more interval of all its workers.
    fn grow_jobs(&mut self, growing: &[JobId], free: &mut Free) {
        let mut unmet: Vec<Demand> = Vec::new();
        for &id in growing {
            let job = &self.ledger.jobs[&id];
            let demand = Demand { resources: job.demand, workers: 1, share_machine: true };
            let limit = self.ledger.affordable_more(job).min(job.max_workers - job.active.len() as u32);
            if limit == 0 || unmet.iter().any(|easier| demand.is_at_least_as_hard_as(easier)) {
                continue;
            }
            if !free.machines.iter().any(|(.., left)| left.covers(&demand.resources)) {
                if unmet.len() < MAX_UNMET {
                    unmet.push(demand);
                }
                continue;
            }
            let least = job.min_workers.saturating_sub(job.active.len() as u32).min(limit);
            let seats = Seats { least, most: limit, share_machine: job.share_machine };
            let places = free.places(job, seats, self.ledger.class_of(job), &self.ledger.unwelcome(job));
            if places.is_empty() {
                continue;
            }
            let machines = free.take(&places, &demand.resources);
            self.add_leases(id, &machines);
        }
    }

    /// Fixes a new job's seed, and gives it its first leases. One that recovers keeps what it has.
    fn start_job(&mut self, id: JobId, machines: &[MachineId]) {
        let now = self.now();
        let parent = self.header.parent;
        let job = self.job(id);
        if job.state == JobState::Queued {
            let parts: [&[u8]; 3] = [&parent.0, &id.0.to_le_bytes(), &job.training_seed.to_le_bytes()];
            job.seed.get_or_insert_with(|| Hash::tagged("deepmarket/v1/job-seed", &parts));
            job.started = Some(now);
            self.set_job_state(id, JobState::Matched);
        }
        self.add_leases(id, machines);
    }

    /// Makes a lease on each machine. Their ranks follow on those that the job ever had.
    fn add_leases(&mut self, id: JobId, machines: &[MachineId]) {
        let now = self.now();
        for &machine in machines {
            let Machine { owner, offer, config, .. } = &self.ledger.machines[&machine];
            let job = &self.ledger.jobs[&id];
            let (rank, resources) = (job.leases.len() as u32, job.demand);
            let lease = Lease {
                id: LeaseId(self.ledger.tip.next_lease),
                job: id,
                rank,
                machine,
                owner: *owner,
                resources,
                class: config.trainer.clone(),
                minimum: offer.map_or(UnitPrices::default(), |offer| offer.minimum),
                state: LeaseState::Active,
                started: now,
                metered: now,
                sequence: 0,
                receipt: None,
                ready: None,
                joined: None,
                from: 0,
                rounds: 0,
                samples: 0,
                cpu_ms: 0,
                committed: 0,
                parameters: None,
                loss_micro: 0,
                missing: None,
                result: None,
                paid: Credits::ZERO,
                held: Credits::ZERO,
                forfeited: Credits::ZERO,
                suspect_from: None,
                paid_ms: 0,
            };
            let lease_id = lease.id;
            self.ledger.tip.next_lease += 1;
            self.events.push(Event::Lease { lease: lease_id, job: id, rank, machine, state: lease.state });
            self.ledger.leases.insert(lease_id, lease);
            self.touch(StateKey::Lease(lease_id));
            let job = self.job(id);
            job.leases.push(lease_id);
            job.active.insert(lease_id);
            self.machine(machine, |machine| {
                machine.leases.insert(lease_id);
                machine.used = machine.used.plus(&resources);
            });
        }
        self.ledger.index_job(id);
    }
}
