//! A second, naive ledger to compare the real one with: plain lists, signed 128-bit money, no index, nothing remembered that
//! can be computed. It is written from the documentation of the rules and shares no code with the crate.

use deepmarket_job::JobSpec;
use deepmarket_ledger::{DynamicPricing, Params, PricePolicy};
use deepmarket_types::*;

#[derive(Clone)]
pub struct Person {
    pub key: PublicKey,
    pub identity: Hash,
    pub nonce: u64,
    pub granted: i128,
    pub earned: i128,
    pub trust: i128,
}

#[derive(Clone)]
pub struct Host {
    pub key: PublicKey,
    pub owner: usize,
    pub nonce: u64,
    pub config: MachineConfig,
    pub offer: Option<Offer>,
    /// The offer that waits.
    pub next: Option<Offer>,
    pub leaving: bool,
    pub gone: bool,
    pub heard: bool,
    pub reachable: bool,
    pub seen: i128,
    pub good: i128,
    pub bad: i128,
    pub trust: i128,
    pub shown_speed: i128,
}

#[derive(Clone)]
pub struct Task {
    pub owner: usize,
    pub spec: JobSpec,
    pub state: JobState,
    pub granted: i128,
    pub refunded: i128,
    pub blamed: Option<usize>,
    pub failures: u32,
    /// The state that was kept on the way.
    pub kept: Option<Checkpoint>,
    /// When those began whose number the schedule is made for.
    pub began: Option<i128>,
    /// Model and parameters of the first worker that did all rounds.
    pub done: Option<(Hash, Hash)>,
    /// Who trained together after the last block, and how often that changed.
    crew: Vec<usize>,
    pub generation: u32,
}

#[derive(Clone)]
pub struct Share {
    pub job: usize,
    pub rank: u32,
    pub host: usize,
    pub least: [i128; 4],
    pub state: LeaseState,
    pub metered: i128,
    pub last: Option<Receipt>,
    /// When its first receipt came, and when it began to train with the others.
    pub ready: Option<i128>,
    pub joined: Option<i128>,
    /// Whom it misses.
    pub misses: Option<usize>,
    pub paid: i128,
    pub paid_ms: i128,
}

#[derive(Clone)]
pub struct Code {
    pub key: PublicKey,
    pub owner: usize,
    pub offer: Option<Offer>,
    pub expires: i128,
}

/// Supply, use and waiting of each unit, each times the milliseconds that it lasted.
#[derive(Clone, Copy, Default)]
struct Sight {
    supply: [i128; 4],
    used: [i128; 4],
    waiting: [i128; 4],
}

pub struct Naive {
    params: Params,
    registrar: PublicKey,
    height: u64,
    pub time: i128,
    pub clock: i128,
    days: Vec<SlotPrices>,
    /// What the slots of the last block's day saw.
    today: [Sight; 4],
    pressure: [[Option<i128>; 4]; 4],
    utilisation: [[Option<i128>; 4]; 4],
    pub people: Vec<Person>,
    pub hosts: Vec<Host>,
    pub tasks: Vec<Task>,
    pub shares: Vec<Share>,
    pub codes: Vec<Code>,
    /// All shares before this one have ended.
    first_live: usize,
}

const CORES: fn(&Resources) -> [i128; 4] = |r| [r.cores.into(), r.gpus.into(), r.ram_mib.into(), r.disk_mib.into()];
const MICRO: fn(&UnitPrices) -> [i128; 4] =
    |p| [p.core_hour, p.gpu_hour, p.ram_gib_hour, p.disk_gib_hour].map(|credits| credits.micro().into());

fn fits(small: [i128; 4], large: [i128; 4]) -> bool {
    small.iter().zip(large).all(|(small, large)| *small <= large)
}

fn times(resources: [i128; 4], factor: i128) -> [i128; 4] {
    resources.map(|quantity| quantity * factor)
}

fn plus(one: [i128; 4], other: [i128; 4]) -> [i128; 4] {
    [0, 1, 2, 3].map(|i| one[i] + other[i])
}

/// A part of a whole in thousandths, four times the whole at most; nothing of nothing is unknown.
fn thousandths(part: [i128; 4], whole: [i128; 4]) -> [Option<i128>; 4] {
    [0, 1, 2, 3].map(|i| match (part[i], whole[i]) {
        (0, 0) => None,
        (_, 0) => Some(4_000),
        (part, whole) => Some((part * 1_000 / whole).min(4_000)),
    })
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
            today: Default::default(),
            pressure: Default::default(),
            utilisation: Default::default(),
            people: vec![],
            hosts: vec![],
            tasks: vec![],
            shares: vec![],
            codes: vec![],
            first_live: 0,
        }
    }

    pub fn block(&mut self, time: TimeMs, transactions: &[VerifiedTransaction]) -> Vec<u16> {
        let delta = i128::from(time.0) - self.time;
        assert!(delta > 0);
        self.look(time.0.into());
        let mut due: Vec<(i128, MachineId, usize)> = (0..self.hosts.len())
            .filter_map(|host| Some((self.turned(host, time.0.into())?, MachineId::from_key(&self.hosts[host].key), host)))
            .collect();
        due.sort();
        self.height += 1;
        self.time += delta;
        self.clock += delta.min(self.params.contact_step_ms.into());
        let codes = transactions.iter().map(|transaction| self.one(transaction.body())).collect();

        for (_, _, host) in due {
            let Some(offer) = self.hosts[host].offer else { continue };
            if offer.at_close == ChangeMode::AtOnce && !self.within(&offer, self.time) {
                self.drop_work(host, LeaseState::Ended);
                self.settle();
            }
            let h = &mut self.hosts[host];
            let over = h.offer.is_some_and(|offer| offer.availability.until.is_some_and(|t| i128::from(t.0) <= self.time));
            h.leaving |= over && h.next.is_none();
            self.settle();
        }
        let timeout = i128::from(self.params.contact_timeout_ms);
        let silent = |naive: &Naive, i: &usize| {
            let host = &naive.hosts[*i];
            host.offer.is_some() && !host.gone && naive.clock - host.seen > timeout
        };
        let mut lost: Vec<usize> = (0..self.hosts.len()).filter(|i| silent(self, i)).collect();
        lost.sort_by_key(|i| (self.hosts[*i].seen, MachineId::from_key(&self.hosts[*i].key)));
        for host in lost {
            // The loss of another one may have ended its last lease, and with it its offer.
            if silent(self, &host) {
                (self.hosts[host].gone, self.hosts[host].heard) = (true, false);
                let lost = self.drop_work(host, LeaseState::Lost);
                self.count(host, lost, false);
                self.settle();
            }
        }
        for job in 0..self.tasks.len() {
            self.vote(job);
        }
        for job in 0..self.tasks.len() {
            self.gather(job);
        }
        self.codes.retain(|code| code.expires > self.time);
        let poor = |job: &usize| {
            let working = self.live().filter(|share| share.job == *job);
            let costs: Vec<i128> = working.map(|share| self.interval(share)).collect();
            !costs.is_empty() && self.escrow(*job) < costs.iter().sum()
        };
        let poor: Vec<usize> = (0..self.tasks.len()).filter(poor).collect();
        for job in poor {
            self.close(job, JobState::Panic(PanicReason::Budget), None);
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

    fn works(&self, host: usize) -> bool {
        self.live().any(|share| share.host == host)
    }

    pub fn used(&self, host: usize) -> [i128; 4] {
        let shares = self.live().filter(|share| share.host == host);
        shares.fold([0; 4], |used, share| plus(used, CORES(&self.tasks[share.job].spec.demand())))
    }

    pub fn host_state(&self, host: usize) -> MachineState {
        let h = &self.hosts[host];
        match h.offer {
            None => MachineState::Withdrawn,
            Some(_) if h.gone => MachineState::Panic,
            Some(_) if h.leaving || h.next.is_some() => MachineState::Draining,
            Some(_) if self.works(host) => MachineState::InUse,
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
        MICRO(&day.slots[slot])
    }

    fn prices_now(&self) -> [i128; 4] {
        if self.days.is_empty() {
            return MICRO(&self.params.price_floor);
        }
        self.unit_prices(self.slot_number(self.time))
    }

    fn slot_number(&self, time: i128) -> i128 {
        (time + i128::from(self.params.slots.utc_offset_ms)) / i128::from(self.params.slots.slot_ms)
    }

    fn slot_begins(&self, slot_number: i128) -> i128 {
        slot_number * i128::from(self.params.slots.slot_ms) - i128::from(self.params.slots.utc_offset_ms)
    }

    fn cost(&self, demand: [i128; 4], prices: [i128; 4], ms: i128) -> i128 {
        let per = [1, 1, 1024, 1024];
        (0..4).map(|i| demand[i] * prices[i] * ms / (3_600_000 * per[i])).sum()
    }

    /// What the next interval of a lease costs: at the present prices, or the least ones of its lender.
    fn interval(&self, share: &Share) -> i128 {
        let prices = self.prices_now();
        let prices = [0, 1, 2, 3].map(|i| prices[i].max(share.least[i]));
        self.cost(CORES(&self.tasks[share.job].spec.demand()), prices, self.params.receipt_ms.into())
    }

    /// Is a moment in the hours that began today or yesterday, on a day that counts? Day 4 was a Monday.
    fn in_hours(&self, availability: &Availability, time: i128) -> bool {
        let day_ms = 4 * i128::from(self.params.slots.slot_ms);
        let of_minute = |minute: u16| i128::from(minute) * day_ms / 1_440;
        let today = self.slot_number(time) / 4;
        [today, today - 1].into_iter().any(|day| {
            let begins = self.slot_begins(4 * day);
            let (from, to) = match availability.hours {
                None => (0, day_ms),
                Some(hours) if hours.to_minute < hours.from_minute => {
                    (of_minute(hours.from_minute), day_ms + of_minute(hours.to_minute))
                }
                Some(hours) => (of_minute(hours.from_minute), of_minute(hours.to_minute)),
            };
            let counts = availability.weekdays.0 & (1 << ((day - 4) % 7)) != 0;
            counts && begins + from <= time && time < begins + to
        })
    }

    fn within(&self, offer: &Offer, time: i128) -> bool {
        let ended = offer.availability.until.is_some_and(|until| i128::from(until.0) <= time);
        !ended && self.in_hours(&offer.availability, time)
    }

    /// Within its hours, and the prices are what its lender asks for all that is offered.
    pub fn open(&self, host: usize) -> bool {
        self.hosts[host].offer.is_some_and(|offer| {
            let (has, prices, least) = (CORES(&offer.resources), self.prices_now(), MICRO(&offer.minimum));
            self.within(&offer, self.time) && (0..4).all(|i| has[i] == 0 || prices[i] >= least[i])
        })
    }

    /// Could it be given work, if that fits?
    fn ready(&self, host: usize) -> bool {
        let h = &self.hosts[host];
        h.heard && h.reachable && !h.gone && !h.leaving && h.next.is_none() && self.open(host)
    }

    /// The first moment after the last block, up to `now`, at which a host's hours began or ended, or its offer ended. An end
    /// that nobody has seen to yet, because the offer waited until after it, is such a moment.
    fn turned(&self, host: usize, now: i128) -> Option<i128> {
        let h = &self.hosts[host];
        let availability = h.offer?.availability;
        let until = availability.until.map(|until| i128::from(until.0));
        if let Some(until) = until.filter(|until| *until <= self.time) {
            return (!h.leaving && h.next.is_none()).then_some(until);
        }
        let day_ms = 4 * i128::from(self.params.slots.slot_ms);
        let of_day = match availability.hours {
            Some(hours) => [0, day_ms * i128::from(hours.from_minute) / 1440, day_ms * i128::from(hours.to_minute) / 1440],
            None => [0; 3],
        };
        let midnights = (self.slot_number(self.time) / 4..=self.slot_number(now) / 4).map(|day| self.slot_begins(4 * day));
        let moments = midnights.flat_map(|midnight| of_day.map(|ms| midnight + ms));
        let turns = moments.filter(|at| {
            *at > self.time && *at <= now && self.in_hours(&availability, *at) != self.in_hours(&availability, *at - 1)
        });
        turns.chain(until.filter(|until| *until <= now)).min()
    }

    /// Adds what was to be seen from the last block up to now, or up to the end of the last block's day.
    fn look(&mut self, now: i128) {
        let mut supply = [0; 4];
        let mut used = [0; 4];
        for host in 0..self.hosts.len() {
            let works = self.used(host);
            used = plus(used, works);
            supply =
                plus(supply, if self.ready(host) { CORES(&self.hosts[host].offer.expect("ready").resources) } else { works });
        }
        let day = self.slot_number(self.time) / 4;
        for slot in 0..4_usize {
            let begins = self.slot_begins(4 * day + slot as i128);
            let ms = now.min(begins + i128::from(self.params.slots.slot_ms)) - self.time.max(begins);
            if ms <= 0 {
                continue;
            }
            let mut waiting = [0; 4];
            for task in (0..self.tasks.len()).filter(|job| self.waits(*job)).map(|job| &self.tasks[job]) {
                let slots = &task.spec.budget.slots;
                if slots.is_empty() || slots.contains(&(slot as u8)) {
                    waiting = plus(waiting, times(CORES(&task.spec.demand()), task.spec.workers.min.into()));
                }
            }
            let sight = &mut self.today[slot];
            sight.supply = plus(sight.supply, times(supply, ms));
            sight.used = plus(sight.used, times(used, ms));
            sight.waiting = plus(sight.waiting, times(waiting, ms));
        }
    }

    /// How much of the cores on offer is used in a slot of the day, in thousandths.
    pub fn core_use(&self, slot: usize) -> i128 {
        let today = thousandths(self.today[slot].used, self.today[slot].supply)[0];
        self.utilisation[slot][0].or(today).unwrap_or(0).min(1_000)
    }

    /// Offers that waited take the place of others that no lease needs any more; machines whose last lease has ended while they
    /// were leaving are withdrawn.
    fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            let (used, works) = (self.used(host), self.works(host));
            let h = &mut self.hosts[host];
            if let Some(next) = h.next
                && fits(used, CORES(&next.resources))
                && (!works || next.at_close == ChangeMode::AfterLease)
            {
                (h.offer, h.next) = (Some(next), None);
            }
            if h.offer.is_some() && h.leaving && !works {
                h.offer = None;
            }
            if h.offer.is_none() {
                (h.leaving, h.gone, h.next) = (false, false, None);
            }
        }
    }

    fn close(&mut self, job: usize, state: JobState, blamed: Option<usize>) {
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
        (self.tasks[job].refunded, self.tasks[job].blamed) = (rest, blamed);
        self.tasks[job].state = state;
    }

    /// A machine drops its work. Tells how many leases that were.
    fn drop_work(&mut self, host: usize, state: LeaseState) -> u32 {
        let mine: Vec<usize> = self.live_numbers().filter(|share| self.shares[*share].host == host).collect();
        let mut jobs: Vec<usize> = mine.iter().map(|share| self.shares[*share].job).collect();
        mine.iter().for_each(|share| self.shares[*share].state = state);
        jobs.sort();
        jobs.dedup();
        jobs.into_iter().for_each(|job| self.after_loss(job));
        mine.len() as u32
    }

    fn live_numbers(&self) -> impl Iterator<Item = usize> {
        (self.first_live..self.shares.len()).filter(|share| self.shares[*share].state == LeaseState::Active)
    }

    fn workers(&self, job: usize) -> Vec<usize> {
        self.live_numbers().filter(|share| self.shares[*share].job == job).collect()
    }

    /// Those that train together, the longest-serving first.
    pub fn members(&self, job: usize) -> Vec<usize> {
        let mut members: Vec<usize> =
            self.workers(job).into_iter().filter(|share| self.shares[*share].joined.is_some()).collect();
        members.sort_by_key(|share| (self.shares[*share].joined, *share));
        members
    }

    /// Workers of a job ended. Without members it is done, or has to recover, or never began.
    fn after_loss(&mut self, job: usize) {
        let nobody = self.workers(job).is_empty();
        let task = &self.tasks[job];
        if task.state.is_closed() || !self.members(job).is_empty() {
            return;
        }
        match task.done {
            Some((model, _)) => {
                self.observe(job);
                self.close(job, JobState::Finished(model), None);
            }
            None if task.state == JobState::Running => self.tasks[job].state = JobState::Recovering,
            None if nobody => self.tasks[job].state = if task.generation > 0 { JobState::Recovering } else { JobState::Queued },
            None => {}
        }
    }

    /// Members that the others can't work with are lost.
    fn vote(&mut self, job: usize) {
        loop {
            let members = self.members(job);
            let misses: Vec<usize> = members.iter().filter_map(|share| self.shares[*share].misses).collect();
            let votes = |share: usize| misses.iter().filter(|missed| **missed == share).count();
            let most = members.iter().map(|share| votes(*share)).max().unwrap_or(0);
            let all: usize = members.iter().map(|share| votes(*share)).sum();
            if most == 0 || (most * 2 <= members.len() && all < members.len()) {
                return;
            }
            let goes = *members.iter().rev().find(|share| votes(**share) == most).expect("somebody has the most");
            self.shares[goes].state = LeaseState::Lost;
            self.count(self.shares[goes].host, 1, false);
            self.after_loss(job);
            self.settle();
        }
    }

    /// Those that are ready join the others; the first ones wait for each other for a while.
    fn gather(&mut self, job: usize) {
        if self.tasks[job].state.is_closed() {
            return;
        }
        let workers = self.workers(job);
        let ready: Vec<i128> = workers.iter().filter_map(|share| self.shares[*share].ready).collect();
        let waiting = workers.iter().filter(|share| self.shares[**share].joined.is_none());
        let first = waiting.filter_map(|share| self.shares[*share].ready).min();
        let late = first.is_some_and(|first| self.time - first >= 4 * i128::from(self.params.receipt_ms));
        let is_time = !self.members(job).is_empty() || ready.len() == workers.len() || late;
        if is_time && self.tasks[job].done.is_none() {
            for share in workers {
                let share = &mut self.shares[share];
                if share.ready.is_some() && share.joined.is_none() {
                    (share.joined, share.misses) = (Some(self.time), None);
                }
            }
        }
        let members = self.members(job);
        if !members.is_empty() {
            self.tasks[job].state = JobState::Running;
        }
        if members != self.tasks[job].crew {
            self.tasks[job].crew = members;
            self.tasks[job].generation += 1;
        }
    }

    /// Leases that were served or lost, for the machine's good name and its owner's.
    fn count(&mut self, host: usize, leases: u32, served: bool) {
        let step = |trust: i128| (7 * trust + if served { 1_000 } else { 0 }) / 8;
        for _ in 0..leases {
            let h = &mut self.hosts[host];
            h.trust = step(h.trust);
            *(if served { &mut h.good } else { &mut h.bad }) += 1;
            self.people[h.owner].trust = step(self.people[h.owner].trust);
        }
    }

    /// Submitted or recovering, and without workers.
    pub fn waits(&self, job: usize) -> bool {
        matches!(self.tasks[job].state, JobState::Queued | JobState::Recovering) && self.workers(job).is_empty()
    }

    fn start_jobs(&mut self) {
        let slot = (self.slot_number(self.time) % 4) as u8;
        let its_slot = |naive: &Naive, job: usize| {
            let slots = &naive.tasks[job].spec.budget.slots;
            slots.is_empty() || slots.contains(&slot)
        };
        let affordable = |naive: &Naive, job: usize, credits: i128| {
            let demand = CORES(&naive.tasks[job].spec.demand());
            let one = naive.cost(demand, naive.prices_now(), naive.params.receipt_ms.into());
            if one == 0 { i128::MAX } else { credits.max(0) / one }
        };
        for job in 0..self.tasks.len() {
            if !self.waits(job) || !its_slot(self, job) {
                continue;
            }
            let workers = &self.tasks[job].spec.workers;
            let (least, most) = (workers.min as usize, affordable(self, job, self.escrow(job)).min(workers.max.into()));
            if most < least as i128 {
                continue;
            }
            let mut chosen = self.choose(job, &self.unwelcome(job), most);
            if chosen.len() < least {
                chosen = self.choose(job, &[], most);
            }
            if chosen.len() >= least {
                if self.tasks[job].state == JobState::Queued {
                    (self.tasks[job].state, self.tasks[job].began) = (JobState::Matched, Some(self.time));
                }
                self.begin(job, chosen);
            }
        }
        for job in 0..self.tasks.len() {
            let task = &self.tasks[job];
            if task.state.is_closed() || task.done.is_some() || !its_slot(self, job) {
                continue;
            }
            let workers = self.workers(job);
            if workers.is_empty() || workers.len() >= task.spec.workers.max as usize {
                continue;
            }
            let all: i128 = workers.iter().map(|share| self.interval(&self.shares[*share])).sum();
            let more = i128::from(task.spec.workers.max) - workers.len() as i128;
            let more = more.min(affordable(self, job, self.escrow(job) - all));
            if more > 0 {
                let chosen = self.choose(job, &self.unwelcome(job), more);
                self.begin(job, chosen);
            }
        }
    }

    /// Machines that won't do for more workers of a job.
    fn unwelcome(&self, job: usize) -> Vec<usize> {
        let shares: Vec<&Share> = self.shares.iter().filter(|share| share.job == job).collect();
        let shared = self.tasks[job].spec.workers.share_machine;
        let is_unwelcome = |host: &usize| {
            let here = || shares.iter().filter(|share| share.host == *host);
            let failed = |share: &Share| matches!(share.state, LeaseState::Failed(why) if !why.is_preemption());
            here().any(|share| failed(share) || (share.state == LeaseState::Active && !shared))
                || here().filter(|share| share.state == LeaseState::Lost).count() >= 3
        };
        (0..self.hosts.len()).filter(is_unwelcome).collect()
    }

    /// Machines for up to so many more workers.
    fn choose(&self, job: usize, unwelcome: &[usize], limit: i128) -> Vec<usize> {
        let task = &self.tasks[job];
        let demand = CORES(&task.spec.demand());
        let mut hosts: Vec<usize> = (0..self.hosts.len()).filter(|host| !unwelcome.contains(host) && self.ready(*host)).collect();
        hosts.sort_by_key(|i| {
            let h = &self.hosts[*i];
            let speed = if h.shown_speed > 0 { h.shown_speed } else { h.config.speed.into() };
            (-h.trust, -speed, MachineId::from_key(&h.key))
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
        chosen.truncate(limit as usize);
        chosen
    }

    fn begin(&mut self, job: usize, hosts: Vec<usize>) {
        for host in hosts {
            let least = MICRO(&self.hosts[host].offer.expect("it is ready").minimum);
            self.shares.push(Share {
                job,
                rank: self.shares.iter().filter(|share| share.job == job).count() as u32,
                host,
                least,
                state: LeaseState::Active,
                metered: self.time,
                last: None,
                ready: None,
                joined: None,
                misses: None,
                paid: 0,
                paid_ms: 0,
            });
        }
    }

    fn one(&mut self, body: &TransactionBody) -> u16 {
        if self.height > body.expires.0 {
            return 2001;
        }
        let host = self.hosts.iter().position(|host| host.key == body.signer);
        let person = self.people.iter().position(|person| person.key == body.signer);
        let code = match &body.action {
            Action::OpenAccount { .. } | Action::Receipt(_) | Action::Price(_) | Action::Join { .. } if body.nonce != 0 => 2005,
            Action::OpenAccount { voucher } => self.open_account(&body.signer, voucher),
            Action::Receipt(receipt) => self.receipt(host, receipt),
            Action::Join { code, config, .. } => self.join(&body.signer, code, config),
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

    /// Both policies keep floor and ceiling; the dynamic one's prices are exactly those that follow from what was seen.
    fn price(&mut self, prices: &SlotPrices) {
        let (low, high) = (MICRO(&self.params.price_floor), MICRO(&self.params.price_ceiling));
        for slot in &prices.slots {
            assert!(fits(low, MICRO(slot)) && fits(MICRO(slot), high));
        }
        let weight = match &self.params.price_policy {
            PricePolicy::Random => 300,
            PricePolicy::Dynamic(pricing) => pricing.weight_permille.into(),
        };
        let mean = |before: Option<i128>, day: Option<i128>| match (before, day) {
            (Some(before), Some(day)) => Some((before * (1_000 - weight) + day * weight) / 1_000),
            (None, day) => day,
            (before, None) => before,
        };
        for slot in 0..4 {
            let Sight { supply, used, waiting } = self.today[slot];
            let (pressure, usage) = (thousandths(plus(used, waiting), supply), thousandths(used, supply));
            for unit in 0..4 {
                let target = &mut self.pressure[slot][unit];
                *target = mean(*target, pressure[unit]);
                let target = &mut self.utilisation[slot][unit];
                *target = mean(*target, usage[unit]);
                if let PricePolicy::Dynamic(pricing) = &self.params.price_policy {
                    let expected = match self.days.last() {
                        None => pricing.first.map_or((low[unit] + high[unit]) / 2, |first| MICRO(&first[slot])[unit]),
                        Some(last) => {
                            let price = MICRO(&last.slots[slot])[unit];
                            let news = pressure[unit].and(self.pressure[slot][unit]);
                            moved(pricing, price, news).clamp(low[unit], high[unit])
                        }
                    };
                    assert_eq!(MICRO(&prices.slots[slot])[unit], expected, "slot {slot}, unit {unit}");
                }
            }
        }
        self.today = Default::default();
        self.days.push(*prices);
    }

    fn open_account(&mut self, signer: &PublicKey, voucher: &Voucher) -> u16 {
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
            self.people.push(Person { key: *signer, identity: voucher.identity, nonce: 0, granted, earned: 0, trust: 500 });
            0
        }
    }

    fn host_of(&self, id: MachineId) -> Option<usize> {
        self.hosts.iter().position(|host| MachineId::from_key(&host.key) == id)
    }

    /// Is a physical machine on offer under another key, where that is forbidden?
    fn taken(&self, key: &PublicKey, config: &MachineConfig) -> bool {
        let same = |host: &Host| host.offer.is_some() && host.key != *key && host.config.host == config.host;
        self.params.unique_hosts && self.hosts.iter().any(same)
    }

    /// Could a person register this machine with this configuration?
    fn registers(&self, me: usize, key: &PublicKey, config: &MachineConfig) -> u16 {
        let Some(i) = self.hosts.iter().position(|host| host.key == *key) else {
            let mine = self.hosts.iter().filter(|host| host.owner == me).count();
            return if mine >= self.params.max_machines_per_account as usize { 2032 } else { 0 };
        };
        let host = &self.hosts[i];
        if host.owner != me {
            2030
        } else if self.works(i) {
            2031
        } else if host.offer.is_some_and(|offer| !fits(CORES(&offer.resources), CORES(&config.resources))) {
            2033
        } else if host.offer.is_some() && self.taken(key, config) {
            2040
        } else {
            0
        }
    }

    fn register(&mut self, me: usize, key: &PublicKey, config: &MachineConfig) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.key == *key) {
            host.config = config.clone();
            return;
        }
        self.hosts.push(Host {
            key: *key,
            owner: me,
            nonce: 0,
            config: config.clone(),
            offer: None,
            next: None,
            leaving: false,
            gone: false,
            heard: false,
            reachable: false,
            seen: self.clock,
            good: 0,
            bad: 0,
            trust: self.people[me].trust,
            shown_speed: 0,
        });
    }

    /// Could this offer be made of a machine with this configuration?
    fn offers(&self, key: &PublicKey, config: &MachineConfig, offer: &Offer) -> u16 {
        if offer.resources.cores == 0 {
            2034
        } else if !fits(CORES(&offer.resources), CORES(&config.resources)) {
            2033
        } else if offer.availability.until.is_some_and(|until| i128::from(until.0) <= self.time) {
            2036
        } else if self.taken(key, config) {
            2040
        } else {
            0
        }
    }

    fn set_offer(&mut self, i: usize, offer: &Offer, mode: ChangeMode) {
        let in_the_way = |naive: &Naive| {
            let ends_them = offer.at_close == ChangeMode::AtOnce && !naive.within(offer, naive.time);
            naive.works(i) && (ends_them || !fits(naive.used(i), CORES(&offer.resources)))
        };
        if mode == ChangeMode::AtOnce && in_the_way(self) {
            let taken = self.drop_work(i, LeaseState::Ended);
            self.count(i, taken, false);
            self.settle();
        }
        let waits = in_the_way(self);
        let (clock, timeout) = (self.clock, i128::from(self.params.contact_timeout_ms));
        let host = &mut self.hosts[i];
        // A machine that isn't in contact has some time to say something.
        if host.gone || clock - host.seen > timeout || (host.offer.is_none() && !host.heard) {
            (host.seen, host.heard) = (clock, false);
        }
        (host.gone, host.leaving) = (false, false);
        if waits {
            host.next = Some(*offer);
        } else {
            (host.offer, host.next) = (Some(*offer), None);
        }
    }

    fn join(&mut self, machine: &PublicKey, key: &PublicKey, config: &MachineConfig) -> u16 {
        let open = |code: &Code| code.key == *key && self.time < code.expires;
        let Some(at) = self.codes.iter().position(open) else { return 2043 };
        let Code { owner, offer, .. } = self.codes[at].clone();
        let code = match (self.registers(owner, machine, config), &offer) {
            (0, Some(offer)) => self.offers(machine, config, offer),
            (code, _) => code,
        };
        if code == 0 {
            self.codes.remove(at);
            self.register(owner, machine, config);
            if let Some(offer) = offer {
                let host = self.host_of(MachineId::from_key(machine)).expect("it was registered just now");
                self.set_offer(host, &offer, ChangeMode::AfterLease);
            }
        }
        code
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
                let code = self.registers(me, machine_key, config);
                if code == 0 {
                    self.register(me, machine_key, config);
                }
                code
            }
            Action::Lend { machine, offer, mode } => {
                let Some(i) = self.host_of(*machine) else { return 2037 };
                if self.hosts[i].owner != me {
                    return 2038;
                }
                let code = self.offers(&self.hosts[i].key, &self.hosts[i].config, offer);
                if code == 0 {
                    self.set_offer(i, offer, *mode);
                }
                code
            }
            Action::Withdraw { machine, mode } => {
                let Some(i) = self.host_of(*machine) else { return 2037 };
                if self.hosts[i].owner != me {
                    2038
                } else if self.hosts[i].offer.is_none() {
                    2039
                } else {
                    (self.hosts[i].leaving, self.hosts[i].next) = (true, None);
                    if *mode == ChangeMode::AtOnce {
                        let taken = self.drop_work(i, LeaseState::Ended);
                        self.count(i, taken, false);
                    }
                    0
                }
            }
            Action::Invite { code, offer, expires } => {
                let (expires, week) = (i128::from(expires.0), 7 * 24 * 3_600_000);
                let open = self.codes.iter().filter(|code| code.owner == me).count();
                let mine = self.hosts.iter().filter(|host| host.owner == me).count();
                if expires <= self.time || expires > self.time + week {
                    2041
                } else if self.codes.iter().any(|other| other.key == *code) {
                    2042
                } else if mine + open >= self.params.max_machines_per_account as usize {
                    2032
                } else if offer.is_some_and(|offer| offer.resources.cores == 0) {
                    2034
                } else {
                    self.codes.push(Code { key: *code, owner: me, offer: *offer, expires });
                    0
                }
            }
            Action::Borrow { spec } => {
                let Ok(spec) = JobSpec::from_bytes(spec) else { return 2050 };
                let open = self.tasks.iter().filter(|task| task.owner == me && !task.state.is_closed()).count();
                let queued = (0..self.tasks.len()).filter(|job| self.waits(*job)).count();
                let budget = i128::from(spec.budget.max.micro());
                let one = |prices| self.cost(CORES(&spec.demand()), prices, self.params.receipt_ms.into());
                let today = self.days.last().expect("the first block sets prices");
                let slots = spec.budget.slots.iter().map(|slot| one(MICRO(&today.slots[usize::from(*slot)])));
                let one = slots.min().unwrap_or(one(self.prices_now()));
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
                    self.tasks.push(Task {
                        owner: me,
                        spec,
                        state: JobState::Queued,
                        granted,
                        refunded: 0,
                        blamed: None,
                        failures: 0,
                        kept: None,
                        began: None,
                        done: None,
                        crew: vec![],
                        generation: 0,
                    });
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
                    self.close(i, JobState::Cancelled, None);
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
        let trained = last.filter(|last| last.rounds > last.from);
        if last.is_some_and(|l| receipt.samples < l.samples || receipt.cpu_ms < l.cpu_ms)
            || trained.is_some_and(|last| receipt.rounds < last.rounds)
        {
            return 2076;
        }
        if receipt.from > receipt.rounds
            || trained.is_some_and(|last| receipt.from != last.from)
            || receipt.checkpoint.is_some_and(|kept| kept.rounds > receipt.rounds)
        {
            return 2079;
        }
        let missed = receipt.missing.map(|missed| (missed.0 as usize).wrapping_sub(1));
        if missed.is_some_and(|missed| missed == i || self.shares.get(missed).is_none_or(|other| other.job != share.job)) {
            return 2078;
        }
        if matches!(receipt.outcome, LeaseOutcome::Finished(_)) && share.joined.is_none() {
            return 2080;
        }
        let is_first = self.members(share.job).first() == Some(&i);
        let from = share.metered.max(self.time - i128::from(self.params.receipt_ms));
        let demand = CORES(&self.tasks[share.job].spec.demand());
        let (first, last) = (self.slot_number(from), self.slot_number(self.time));
        let slot_ms = i128::from(self.params.slots.slot_ms);
        let due: i128 = (first..=last)
            .map(|slot| {
                let begins = self.slot_begins(slot);
                let ms = self.time.min(begins + slot_ms) - from.max(begins);
                let prices = self.unit_prices(slot);
                self.cost(demand, [0, 1, 2, 3].map(|unit| prices[unit].max(share.least[unit])), ms)
            })
            .sum();
        let payout = due.min(self.escrow(share.job));
        // What one pays to oneself goes back to where it was: starting credits go first.
        let starting = payout.min((self.tasks[share.job].granted - self.paid(share.job)).max(0));
        let lender = self.hosts[share.host].owner;
        let back = if lender == self.tasks[share.job].owner { starting } else { 0 };
        self.people[lender].granted += back;
        self.people[lender].earned += payout - back;
        let now = self.time;
        let share = &mut self.shares[i];
        share.paid += payout;
        share.paid_ms += now - from;
        share.metered = now;
        (share.last, share.misses) = (Some(*receipt), missed);
        share.ready = share.ready.or(Some(now));
        let (job, host) = (share.job, share.host);
        let task = &mut self.tasks[job];
        if let Some(named) = receipt.checkpoint
            && is_first
            && task.kept.is_none_or(|kept| kept.rounds < named.rounds)
        {
            task.kept = Some(named);
        }
        match receipt.outcome {
            LeaseOutcome::Running => {}
            LeaseOutcome::Failed(reason) => {
                self.shares[i].state = LeaseState::Failed(reason);
                task.failures += u32::from(!reason.is_preemption());
                self.hosts[host].heard &= reason != FailureReason::OwnerReturned;
                let too_many = task.failures > task.spec.recovery.restarts;
                if too_many || reason == FailureReason::Diverged {
                    self.close(job, JobState::Panic(PanicReason::Failed(reason)), Some(i));
                } else {
                    self.after_loss(job);
                }
            }
            LeaseOutcome::Finished(model) => {
                self.shares[i].state = LeaseState::Finished;
                self.count(host, 1, true);
                let mine = (model, receipt.parameters);
                if *self.tasks[job].done.get_or_insert(mine) == mine {
                    self.after_loss(job);
                } else {
                    self.close(job, JobState::Panic(PanicReason::Disagreement), Some(i));
                }
            }
        }
        0
    }

    /// What the machines of a finished job were worth to it: training passes three times over each sample, and speeds are in
    /// millions a second. The mean of this and what each showed before.
    fn observe(&mut self, job: usize) {
        let multiply_adds = i128::from(self.tasks[job].spec.check().expect("it was accepted").multiply_adds);
        for share in self.shares.iter().filter(|share| share.job == job && share.state == LeaseState::Finished) {
            let samples = i128::from(share.last.expect("it reported its end").samples);
            let trained_ms = (share.metered - share.joined.expect("a member")).max(1);
            let speed = 3 * samples * multiply_adds / (trained_ms * 1_000);
            let shown = &mut self.hosts[share.host].shown_speed;
            *shown = match (*shown, speed) {
                (shown, 0) => shown,
                (0, speed) => speed,
                (shown, speed) => (shown + speed) / 2,
            };
        }
    }
}

/// The next day's price, before floor and ceiling, after a mean pressure; the same without news.
fn moved(pricing: &DynamicPricing, price: i128, pressure: Option<i128>) -> i128 {
    let Some(pressure) = pressure else { return price };
    let limit = i128::from(pricing.max_change_permille);
    let change = (pressure - i128::from(pricing.target_permille)) * i128::from(pricing.gain_permille) / 1_000;
    price * (1_000 + change.clamp(-limit, limit)) / 1_000
}
