//! A second, naive ledger to compare the real one with: plain lists, signed 128-bit money, no index, nothing remembered that
//! can be computed. It is written from the documentation of the rules and shares no code with the crate.

use deepmarket_job::JobSpec;
use deepmarket_ledger::Params;
use deepmarket_types::*;

#[derive(Clone)]
pub struct Person {
    pub key: PublicKey,
    pub identity: Hash,
    pub nonce: u64,
    pub granted: i128,
    pub earned: i128,
}

#[derive(Clone)]
pub struct Host {
    pub key: PublicKey,
    pub owner: usize,
    pub nonce: u64,
    pub config: MachineConfig,
    pub offer: Option<Offer>,
    pub leaving: bool,
    pub gone: bool,
    pub heard: bool,
    pub reachable: bool,
    pub seen: i128,
    pub good: i128,
    pub bad: i128,
}

#[derive(Clone)]
pub struct Task {
    pub owner: usize,
    pub spec: JobSpec,
    pub state: JobState,
    pub granted: i128,
    pub refunded: i128,
}

#[derive(Clone)]
pub struct Share {
    pub job: usize,
    pub rank: u32,
    pub host: usize,
    pub state: LeaseState,
    pub metered: i128,
    pub last: Option<Receipt>,
    pub model: Option<(Hash, Hash)>,
    pub paid: i128,
    pub paid_ms: i128,
}

pub struct Naive {
    params: Params,
    registrar: PublicKey,
    height: u64,
    pub time: i128,
    pub clock: i128,
    days: Vec<SlotPrices>,
    pub people: Vec<Person>,
    pub hosts: Vec<Host>,
    pub tasks: Vec<Task>,
    pub shares: Vec<Share>,
    /// All shares before this one have ended.
    first_live: usize,
}

const CORES: fn(&Resources) -> [i128; 4] = |r| [r.cores.into(), r.gpus.into(), r.ram_mib.into(), r.disk_mib.into()];

fn fits(small: [i128; 4], large: [i128; 4]) -> bool {
    small.iter().zip(large).all(|(small, large)| *small <= large)
}

fn times(resources: [i128; 4], factor: i128) -> [i128; 4] {
    resources.map(|quantity| quantity * factor)
}

impl Naive {
    pub fn new(params: Params, registrar: PublicKey, start: u64) -> Naive {
        Naive {
            params,
            registrar,
            height: 0,
            time: start.into(),
            clock: 0,
            days: vec![],
            people: vec![],
            hosts: vec![],
            tasks: vec![],
            shares: vec![],
            first_live: 0,
        }
    }

    pub fn block(&mut self, time: TimeMs, transactions: &[VerifiedTransaction]) -> Vec<u16> {
        let delta = i128::from(time.0) - self.time;
        assert!(delta > 0);
        self.height += 1;
        self.time += delta;
        self.clock += delta.min(self.params.contact_step_ms.into());
        let codes = transactions.iter().map(|transaction| self.one(transaction.body())).collect();

        let timeout = i128::from(self.params.contact_timeout_ms);
        let silent = |host: &Host| host.offer.is_some() && !host.gone && self.clock - host.seen > timeout;
        let mut lost: Vec<usize> = (0..self.hosts.len()).filter(|i| silent(&self.hosts[*i])).collect();
        lost.sort_by_key(|i| (self.hosts[*i].seen, MachineId::from_key(&self.hosts[*i].key)));
        for host in lost {
            (self.hosts[host].gone, self.hosts[host].heard) = (true, false);
            self.drop_work(host, LeaseState::Lost);
            self.settle();
        }
        for host in 0..self.hosts.len() {
            let over = |offer: &Offer| matches!(offer.availability, Availability::Until(t) if i128::from(t.0) <= self.time);
            if self.hosts[host].offer.as_ref().is_some_and(over) {
                self.hosts[host].leaving = true;
            }
        }
        self.settle();
        for job in 0..self.tasks.len() {
            let working = self.live().filter(|share| share.job == job).count() as i128;
            if working > 0 && self.escrow(job) < working * self.interval(job) {
                self.close(job, JobState::Panic(PanicReason::Budget));
            }
        }
        self.settle();
        self.start_jobs();
        while self.shares.get(self.first_live).is_some_and(|share| share.state != LeaseState::Active) {
            self.first_live += 1;
        }
        codes
    }

    fn live(&self) -> impl Iterator<Item = &Share> {
        self.shares[self.first_live..].iter().filter(|share| share.state == LeaseState::Active)
    }

    pub fn used(&self, host: usize) -> [i128; 4] {
        let mut used = [0; 4];
        for share in self.live().filter(|share| share.host == host) {
            let demand = CORES(&self.tasks[share.job].spec.demand());
            (0..4).for_each(|i| used[i] += demand[i]);
        }
        used
    }

    pub fn host_state(&self, host: usize) -> MachineState {
        let h = &self.hosts[host];
        match h.offer {
            None => MachineState::Withdrawn,
            Some(_) if h.gone => MachineState::Panic,
            Some(_) if h.leaving => MachineState::Draining,
            Some(_) if self.live().any(|share| share.host == host) => MachineState::InUse,
            Some(_) => MachineState::Idle,
        }
    }

    pub fn paid(&self, job: usize) -> i128 {
        self.shares.iter().filter(|share| share.job == job).map(|share| share.paid).sum()
    }

    pub fn escrow(&self, job: usize) -> i128 {
        if self.tasks[job].state.is_closed() {
            return 0;
        }
        i128::from(self.tasks[job].spec.budget.max.micro()) - self.paid(job)
    }

    fn unit_prices(&self, slot_number: i128) -> [i128; 4] {
        let (day, slot) = (slot_number / 4, (slot_number % 4) as usize);
        let day = self.days.iter().rev().find(|prices| i128::from(prices.day) <= day).unwrap_or(&self.days[0]);
        let p = &day.slots[slot];
        [p.core_hour, p.gpu_hour, p.ram_gib_hour, p.disk_gib_hour].map(|credits| i128::from(credits.micro()))
    }

    fn slot_number(&self, time: i128) -> i128 {
        (time + i128::from(self.params.slots.utc_offset_ms)) / i128::from(self.params.slots.slot_ms)
    }

    fn cost(&self, demand: [i128; 4], prices: [i128; 4], ms: i128) -> i128 {
        let per = [1, 1, 1024, 1024];
        (0..4).map(|i| demand[i] * prices[i] * ms / (3_600_000 * per[i])).sum()
    }

    fn interval(&self, job: usize) -> i128 {
        let demand = CORES(&self.tasks[job].spec.demand());
        self.cost(demand, self.unit_prices(self.slot_number(self.time)), self.params.receipt_ms.into())
    }

    /// Machines whose last lease has ended while they were leaving are withdrawn.
    fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            let idle = !self.live().any(|share| share.host == host);
            let h = &mut self.hosts[host];
            if h.offer.is_some() && h.leaving && idle {
                h.offer = None;
            }
            if h.offer.is_none() {
                (h.leaving, h.gone) = (false, false);
            }
        }
    }

    fn close(&mut self, job: usize, state: JobState) {
        let rest = self.escrow(job);
        let granted = (self.tasks[job].granted - self.paid(job)).max(0);
        for share in self.shares[self.first_live..].iter_mut().filter(|share| share.job == job) {
            if share.state == LeaseState::Active {
                share.state = LeaseState::Ended;
            }
        }
        let owner = &mut self.people[self.tasks[job].owner];
        owner.granted += granted;
        owner.earned += rest - granted;
        self.tasks[job].refunded = rest;
        self.tasks[job].state = state;
    }

    /// A machine drops its work: one job after the other, in order of leases.
    fn drop_work(&mut self, host: usize, state: LeaseState) -> i128 {
        let mut dropped = 0;
        loop {
            let first = self.live().find(|share| share.host == host).map(|share| share.job);
            let Some(job) = first else { return dropped };
            for share in self.shares[self.first_live..].iter_mut() {
                if share.job == job && share.host == host && share.state == LeaseState::Active {
                    share.state = state;
                    dropped += 1;
                    self.hosts[host].bad += i128::from(state == LeaseState::Lost);
                }
            }
            self.close(job, JobState::Panic(PanicReason::MachineLost));
        }
    }

    fn start_jobs(&mut self) {
        let slot = self.slot_number(self.time);
        let prices = self.unit_prices(slot);
        for job in 0..self.tasks.len() {
            let task = &self.tasks[job];
            let slots = &task.spec.budget.slots;
            if task.state != JobState::Queued || !(slots.is_empty() || slots.contains(&((slot % 4) as u8))) {
                continue;
            }
            let demand = CORES(&task.spec.demand());
            let ready = |i: &usize| {
                let host = &self.hosts[*i];
                host.offer.is_some_and(|offer| {
                    let open = match offer.availability {
                        Availability::Always => true,
                        Availability::Until(until) => self.time < i128::from(until.0),
                    };
                    open && prices[0] >= i128::from(offer.min_core_hour.micro())
                }) && host.heard
                    && host.reachable
                    && !host.gone
                    && !host.leaving
            };
            let mut hosts: Vec<usize> = (0..self.hosts.len()).filter(ready).collect();
            hosts.sort_by_key(|i| {
                let h = &self.hosts[*i];
                let reliability = 1000 * (h.good + 1) / (h.good + h.bad + 2);
                (-reliability, -i128::from(h.config.speed), MachineId::from_key(&h.key))
            });
            let free = |host: usize, used: [i128; 4]| {
                let offer = CORES(&self.hosts[host].offer.expect("it is ready").resources);
                [0, 1, 2, 3].map(|i| offer[i] - used[i])
            };
            let hosts: Vec<(usize, [i128; 4])> = hosts.into_iter().map(|host| (host, free(host, self.used(host)))).collect();
            let passes = if task.spec.workers.share_machine { i128::from(task.spec.workers.max) } else { 1 };
            let mut chosen = vec![];
            for pass in 1..=passes {
                chosen.extend(hosts.iter().filter(|(_, free)| fits(times(demand, pass), *free)).map(|(host, _)| *host));
            }
            let one = self.interval(job);
            let affordable = if one == 0 { i128::MAX } else { self.escrow(job) / one };
            chosen.truncate(affordable.min(task.spec.workers.max.into()) as usize);
            if chosen.len() < task.spec.workers.min as usize {
                continue;
            }
            self.tasks[job].state = JobState::Matched;
            for (rank, host) in (0..).zip(chosen) {
                self.shares.push(Share {
                    job,
                    rank,
                    host,
                    state: LeaseState::Active,
                    metered: self.time,
                    last: None,
                    model: None,
                    paid: 0,
                    paid_ms: 0,
                });
            }
        }
    }

    fn one(&mut self, body: &TransactionBody) -> u16 {
        if self.height > body.expires.0 {
            return 2001;
        }
        let host = self.hosts.iter().position(|host| host.key == body.signer);
        let person = self.people.iter().position(|person| person.key == body.signer);
        let code = match &body.action {
            Action::OpenAccount { .. } | Action::Receipt(_) | Action::Price(_) if body.nonce != 0 => 2005,
            Action::OpenAccount { voucher } => self.open(&body.signer, voucher),
            Action::Receipt(receipt) => self.receipt(host, receipt),
            Action::Price(prices) => {
                self.price(prices);
                0
            }
            Action::Heartbeat { addresses } => match host {
                None => 2037,
                Some(i) if body.nonce < self.hosts[i].nonce => 2003,
                Some(i) if body.nonce > self.hosts[i].nonce => 2004,
                Some(i) => {
                    let host = &mut self.hosts[i];
                    host.nonce += 1;
                    (host.seen, host.heard, host.gone) = (self.clock, true, false);
                    if let Some(addresses) = addresses {
                        host.reachable = !addresses.is_empty();
                    }
                    0
                }
            },
            action => match person {
                None => 2002,
                Some(i) if body.nonce < self.people[i].nonce => 2003,
                Some(i) if body.nonce > self.people[i].nonce => 2004,
                Some(i) => {
                    self.people[i].nonce += 1;
                    self.personal(i, action)
                }
            },
        };
        self.settle();
        code
    }

    fn price(&mut self, prices: &SlotPrices) {
        for slot in &prices.slots {
            let (low, high) = (&self.params.price_floor, &self.params.price_ceiling);
            assert!(low.core_hour <= slot.core_hour && slot.core_hour <= high.core_hour);
            assert!(low.gpu_hour <= slot.gpu_hour && slot.gpu_hour <= high.gpu_hour);
            assert!(low.ram_gib_hour <= slot.ram_gib_hour && slot.ram_gib_hour <= high.ram_gib_hour);
            assert!(low.disk_gib_hour <= slot.disk_gib_hour && slot.disk_gib_hour <= high.disk_gib_hour);
        }
        self.days.push(*prices);
    }

    fn open(&mut self, signer: &PublicKey, voucher: &Voucher) -> u16 {
        if self.people.iter().any(|person| person.key == *signer) {
            2010
        } else if voucher.key != *signer {
            2011
        } else if voucher.registrar != self.registrar {
            2012
        } else if i128::from(voucher.expires.0) <= self.time {
            2013
        } else if self.people.iter().any(|person| person.identity == voucher.identity) {
            2014
        } else {
            let granted = self.params.starting_credits.micro().into();
            self.people.push(Person { key: *signer, identity: voucher.identity, nonce: 0, granted, earned: 0 });
            0
        }
    }

    fn host_of(&self, id: MachineId) -> Option<usize> {
        self.hosts.iter().position(|host| MachineId::from_key(&host.key) == id)
    }

    fn personal(&mut self, me: usize, action: &Action) -> u16 {
        match action {
            Action::Transfer { to, amount } => {
                let receiver = self.people.iter().position(|person| AccountId::from_key(&person.key) == *to);
                let amount = i128::from(amount.micro());
                match receiver {
                    _ if amount == 0 => 2020,
                    Some(other) if other == me => 2021,
                    None => 2022,
                    Some(_) if self.people[me].earned < amount => 2023,
                    Some(other) => {
                        self.people[me].earned -= amount;
                        self.people[other].earned += amount;
                        0
                    }
                }
            }
            Action::RegisterMachine { machine_key, config, .. } => {
                let Some(host) = self.hosts.iter().position(|host| host.key == *machine_key) else {
                    let mine = self.hosts.iter().filter(|host| host.owner == me).count();
                    if mine >= self.params.max_machines_per_account as usize {
                        return 2032;
                    }
                    self.hosts.push(Host {
                        key: *machine_key,
                        owner: me,
                        nonce: 0,
                        config: config.clone(),
                        offer: None,
                        leaving: false,
                        gone: false,
                        heard: false,
                        reachable: false,
                        seen: self.clock,
                        good: 0,
                        bad: 0,
                    });
                    return 0;
                };
                let too_large = |offer: Offer| !fits(CORES(&offer.resources), CORES(&config.resources));
                if self.hosts[host].owner != me {
                    2030
                } else if self.live().any(|share| share.host == host) {
                    2031
                } else if self.hosts[host].offer.is_some_and(too_large) {
                    2033
                } else {
                    self.hosts[host].config = config.clone();
                    0
                }
            }
            Action::Lend { machine, offer } => {
                let Some(i) = self.host_of(*machine) else { return 2037 };
                let used = self.used(i);
                let (clock, timeout) = (self.clock, i128::from(self.params.contact_timeout_ms));
                let now = self.time;
                let host = &mut self.hosts[i];
                if host.owner != me {
                    2038
                } else if offer.resources.cores == 0 {
                    2034
                } else if !fits(CORES(&offer.resources), CORES(&host.config.resources)) {
                    2033
                } else if !fits(used, CORES(&offer.resources)) {
                    2035
                } else if matches!(offer.availability, Availability::Until(until) if i128::from(until.0) <= now) {
                    2036
                } else {
                    // A machine that isn't in contact has some time to say something.
                    if host.gone || clock - host.seen > timeout || (host.offer.is_none() && !host.heard) {
                        (host.seen, host.heard) = (clock, false);
                    }
                    (host.offer, host.gone, host.leaving) = (Some(*offer), false, false);
                    0
                }
            }
            Action::Withdraw { machine, mode } => {
                let Some(i) = self.host_of(*machine) else { return 2037 };
                if self.hosts[i].owner != me {
                    2038
                } else if self.hosts[i].offer.is_none() {
                    2039
                } else {
                    self.hosts[i].leaving = true;
                    if *mode == WithdrawMode::AtOnce {
                        self.hosts[i].bad += self.drop_work(i, LeaseState::Ended);
                    }
                    0
                }
            }
            Action::Borrow { spec } => {
                let Ok(spec) = JobSpec::from_bytes(spec) else { return 2050 };
                let open = self.tasks.iter().filter(|task| task.owner == me && !task.state.is_closed()).count();
                let queued = self.tasks.iter().filter(|task| task.state == JobState::Queued).count();
                let budget = i128::from(spec.budget.max.micro());
                let prices = self.unit_prices(self.slot_number(self.time));
                let one = self.cost(CORES(&spec.demand()), prices, self.params.receipt_ms.into());
                let person = &mut self.people[me];
                if open >= self.params.max_open_jobs_per_account as usize {
                    2054
                } else if queued >= self.params.max_queued_jobs as usize {
                    2055
                } else if budget < one * i128::from(spec.workers.min) {
                    2053
                } else if budget > person.granted + person.earned {
                    2052
                } else {
                    let granted = person.granted.min(budget);
                    person.granted -= granted;
                    person.earned -= budget - granted;
                    self.tasks.push(Task { owner: me, spec, state: JobState::Queued, granted, refunded: 0 });
                    0
                }
            }
            Action::Cancel { job } => {
                let Some(i) = (job.0 as usize).checked_sub(1).filter(|i| *i < self.tasks.len()) else { return 2056 };
                if self.tasks[i].owner != me {
                    2057
                } else if self.tasks[i].state.is_closed() {
                    2058
                } else {
                    self.close(i, JobState::Cancelled);
                    0
                }
            }
            _ => unreachable!("not an action of a person"),
        }
    }

    fn receipt(&mut self, host: Option<usize>, receipt: &Receipt) -> u16 {
        let Some(i) = (receipt.lease.0 as usize).checked_sub(1).filter(|i| *i < self.shares.len()) else { return 2070 };
        let share = self.shares[i].clone();
        let last = share.last;
        if host != Some(share.host) {
            return 2071;
        }
        if receipt.job.0 as usize != share.job + 1 || receipt.rank != share.rank {
            return 2072;
        }
        if receipt.sequence <= last.map_or(0, |last| last.sequence) {
            return match last {
                Some(last) if last == *receipt => 2073,
                Some(last) if last.sequence == receipt.sequence => 2074,
                _ => 2075,
            };
        }
        if share.state != LeaseState::Active {
            return 2077;
        }
        if last.is_some_and(|l| receipt.rounds < l.rounds || receipt.samples < l.samples || receipt.cpu_ms < l.cpu_ms) {
            return 2076;
        }
        let from = share.metered.max(self.time - i128::from(self.params.receipt_ms));
        let demand = CORES(&self.tasks[share.job].spec.demand());
        let (first, last) = (self.slot_number(from), self.slot_number(self.time));
        let slot_ms = i128::from(self.params.slots.slot_ms);
        let due: i128 = (first..=last)
            .map(|slot| {
                let begins = slot * slot_ms - i128::from(self.params.slots.utc_offset_ms);
                let ms = self.time.min(begins + slot_ms) - from.max(begins);
                self.cost(demand, self.unit_prices(slot), ms)
            })
            .sum();
        let payout = due.min(self.escrow(share.job));
        self.people[self.hosts[share.host].owner].earned += payout;
        let now = self.time;
        let share = &mut self.shares[i];
        share.paid += payout;
        share.paid_ms += now - from;
        share.metered = now;
        share.last = Some(*receipt);
        let (job, host) = (share.job, share.host);
        if self.tasks[job].state == JobState::Matched {
            self.tasks[job].state = JobState::Running;
        }
        match receipt.outcome {
            LeaseOutcome::Running => {}
            LeaseOutcome::Failed(reason) => {
                self.shares[i].state = LeaseState::Failed(reason);
                self.close(job, JobState::Panic(PanicReason::Failed(reason)));
            }
            LeaseOutcome::Finished(model) => {
                self.shares[i].state = LeaseState::Finished;
                self.shares[i].model = Some((model, receipt.parameters));
                self.hosts[host].good += 1;
                let all: Vec<&Share> = self.shares.iter().filter(|share| share.job == job).collect();
                let mut models: Vec<_> = all.iter().filter_map(|share| share.model).collect();
                let finished = models.len();
                models.dedup();
                if models.len() > 1 {
                    self.close(job, JobState::Panic(PanicReason::Disagreement));
                } else if finished == all.len() {
                    self.close(job, JobState::Finished(model));
                }
            }
        }
        0
    }
}
