//! What Prometheus scrapes: numbers of the chain, read from the ledger when they are asked for, and requests, counted as they
//! are answered. One look at every machine and at every open job is all that a scrape costs.

use std::{
    array,
    sync::{Mutex, atomic::AtomicU64},
};

use axum::http::{Method, StatusCode};
use deepmarket_ledger::Ledger;
use deepmarket_types::{AuditId, AuditState, AuditVerdict, Credits, JobId, JobState, MachineState, Resources, UnitPrices};
use prometheus_client::{
    encoding::{EncodeGaugeValue, text},
    metrics::{counter::Counter, family::Family, gauge},
    registry::Registry,
};

use crate::views::SLOT_NAMES;

/// Label names and values of a sample.
type Labels<const N: usize> = [(&'static str, &'static str); N];

const JOB_STATES: [&str; 7] = ["queued", "matched", "running", "recovering", "finished", "cancelled", "panic"];
const MACHINE_STATES: [&str; 6] = ["withdrawn", "idle", "in_use", "paused", "draining", "panic"];
const AUDIT_STATES: [&str; 10] =
    ["disclosing", "waiting", "computing", "revealing", "tracing", "judging", "passed", "false", "silent", "void"];
const UNITS: [&str; 4] = ["cores", "gpus", "ram_mib", "disk_mib"];
const PLACES: [&str; 5] = ["purses", "escrow", "held", "treasury", "burned"];
const PRICED_UNITS: [&str; 4] = ["core_hour", "gpu_hour", "ram_gib_hour", "disk_gib_hour"];

/// The path of requests that no route takes.
const NO_ROUTE: &str = "none";

/// What a gateway counts by itself.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Family<Vec<(&'static str, String)>, Counter>,
    closed: Mutex<ClosedJobs>,
    closed_audits: Mutex<ClosedAudits>,
}

/// How many audits ended in each way, of those before the oldest open one: a closed audit never changes either.
#[derive(Default)]
struct ClosedAudits {
    before: u64,
    by_state: [u64; AUDIT_STATES.len()],
}

/// How many jobs ended in each state, of those before the oldest open one: a closed job never changes, and so is counted once.
#[derive(Default)]
struct ClosedJobs {
    before: u64,
    by_state: [u64; JOB_STATES.len()],
}

impl Metrics {
    /// Counts an answered request. Labels come from small sets only, whatever is asked for.
    pub(crate) fn count(&self, method: &Method, route: Option<&str>, status: StatusCode) {
        let method = match *method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::OPTIONS => "options",
            _ => "other",
        };
        let class = format!("{}xx", status.as_u16() / 100);
        let labels = vec![("method", method.into()), ("route", route.unwrap_or(NO_ROUTE).into()), ("status", class)];
        self.requests.get_or_create(&labels).inc();
    }

    /// All numbers in the text format of OpenMetrics. `waiting`: transactions in the mempool.
    pub(crate) fn text(&self, chain: &ChainNumbers, waiting: u64) -> String {
        let mut registry = Registry::with_prefix("deepmarket");
        chain.register(&mut registry);
        gauge(&mut registry, "mempool_transactions", "Transactions that wait to be decided", waiting);
        registry.register("gateway_requests", "Requests that this gateway answered", self.requests.clone());
        let mut body = String::new();
        text::encode(&mut body, &registry).expect("writing to a text never fails");
        body
    }

    /// Reads the ledger.
    pub(crate) fn read(&self, ledger: &Ledger) -> ChainNumbers {
        let totals = ledger.totals();
        let mut numbers = ChainNumbers {
            height: ledger.height().0,
            time_s: ledger.time().0 as f64 / 1_000.0,
            validators: ledger.validators().len() as u64,
            accounts: ledger.accounts().len() as u64,
            jobs: self.jobs(ledger),
            audits: self.audits(ledger),
            machines: [0; MACHINE_STATES.len()],
            leases: 0,
            offered: [0; UNITS.len()],
            used: [0; UNITS.len()],
            prices: ledger.prices().map_or([ledger.params().price_floor; 4], |prices| prices.slots).map(prices),
            slot: ledger.params().slots.slot_at(ledger.time()).1 as u64,
            minted: totals.minted.micro(),
            places: [totals.purses, totals.escrow, totals.held, totals.treasury, totals.burned].map(Credits::micro),
            conserved: totals.conserved().into(),
        };
        for machine in ledger.machines() {
            numbers.machines[machine_state(machine.state)] += 1;
            numbers.leases += machine.leases.len() as u64;
            add(&mut numbers.used, &machine.used);
            let takes_work = matches!(machine.state, MachineState::Idle | MachineState::InUse) && machine.open;
            if let Some(offer) = machine.offer.filter(|_| takes_work) {
                add(&mut numbers.offered, &offer.resources);
            }
        }
        numbers
    }

    fn jobs(&self, ledger: &Ledger) -> [u64; JOB_STATES.len()] {
        let mut closed = self.closed.lock().expect("nobody panics while holding it");
        let first = JobId(closed.before);
        let mut newer: Vec<(JobId, JobState)> =
            ledger.jobs().rev().take_while(|job| job.id >= first).map(|job| (job.id, job.state)).collect();
        newer.reverse();
        let open = newer.iter().position(|(_, state)| !state.is_closed()).unwrap_or(newer.len());
        for (id, state) in &newer[..open] {
            closed.by_state[job_state(*state)] += 1;
            closed.before = id.0 + 1;
        }
        let mut jobs = closed.by_state;
        newer[open..].iter().for_each(|(_, state)| jobs[job_state(*state)] += 1);
        jobs
    }

    fn audits(&self, ledger: &Ledger) -> [u64; AUDIT_STATES.len()] {
        let mut closed = self.closed_audits.lock().expect("nobody panics while holding it");
        let first = AuditId(closed.before);
        let mut newer: Vec<(AuditId, AuditState)> =
            ledger.audits().rev().take_while(|audit| audit.id >= first).map(|audit| (audit.id, audit.state)).collect();
        newer.reverse();
        let is_closed = |state: &AuditState| matches!(state, AuditState::Closed(_));
        let open = newer.iter().position(|(_, state)| !is_closed(state)).unwrap_or(newer.len());
        for (id, state) in &newer[..open] {
            closed.by_state[audit_state(*state)] += 1;
            closed.before = id.0 + 1;
        }
        let mut audits = closed.by_state;
        newer[open..].iter().for_each(|(_, state)| audits[audit_state(*state)] += 1);
        audits
    }
}

/// The chain after one block, in numbers. Arrays are in the order of their names above.
#[derive(Debug, PartialEq)]
pub(crate) struct ChainNumbers {
    height: u64,
    time_s: f64,
    validators: u64,
    accounts: u64,
    jobs: [u64; JOB_STATES.len()],
    audits: [u64; AUDIT_STATES.len()],
    machines: [u64; MACHINE_STATES.len()],
    leases: u64,
    offered: [u64; UNITS.len()],
    used: [u64; UNITS.len()],
    prices: [[u64; PRICED_UNITS.len()]; 4],
    slot: u64,
    minted: u64,
    places: [u64; PLACES.len()],
    conserved: u64,
}

impl ChainNumbers {
    fn register(&self, registry: &mut Registry) {
        gauge(registry, "height", "The last decided block", self.height);
        let time = "That block's time, in seconds since 1970 in UTC";
        gauge(registry, "block_timestamp_seconds", time, self.time_s);
        gauge(registry, "validators", "Validators", self.validators);
        gauge(registry, "accounts", "Accounts", self.accounts);
        gauges(registry, "jobs", "Jobs by state", labelled("state", JOB_STATES, self.jobs));
        gauges(registry, "audits", "Audits by state; closed ones by verdict", labelled("state", AUDIT_STATES, self.audits));
        gauges(registry, "machines", "Registered machines by state", labelled("state", MACHINE_STATES, self.machines));
        gauge(registry, "leases", "Workers that run now", self.leases);
        let offered = "Resources of machines that take work now, by unit";
        gauges(registry, "offered", offered, labelled("unit", UNITS, self.offered));
        gauges(registry, "used", "Resources that leases use now, by unit", labelled("unit", UNITS, self.used));
        let prices = (0..4).flat_map(|slot| {
            array::from_fn::<_, 4, _>(|unit| {
                ([("slot", SLOT_NAMES[slot]), ("unit", PRICED_UNITS[unit])], self.prices[slot][unit])
            })
        });
        gauges(registry, "price_microcredits", "Today's unit prices by slot of the day", prices);
        gauge(registry, "current_slot", "The slot of the day, 0 to 3", self.slot);
        gauge(registry, "minted_microcredits", "All credits that were ever minted", self.minted);
        let places = labelled("place", PLACES, self.places);
        gauges(registry, "credits_microcredits", "Where all credits are", places);
        let conserved = "1 while all credits are what was minted";
        gauge(registry, "credits_conserved", conserved, self.conserved);
    }
}

fn labelled<const N: usize>(
    label: &'static str,
    names: [&'static str; N],
    numbers: [u64; N],
) -> impl Iterator<Item = (Labels<1>, u64)> {
    names.into_iter().zip(numbers).map(move |(name, number)| ([(label, name)], number))
}

/// Registers one number.
fn gauge<V>(registry: &mut Registry, name: &str, help: &str, value: V)
where
    AtomicU64: gauge::Atomic<V>,
    V: EncodeGaugeValue + Send + Sync + std::fmt::Debug + 'static,
{
    let gauge = gauge::Gauge::<V, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Registers samples of one name.
fn gauges<const N: usize>(registry: &mut Registry, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<N>, u64)>) {
    let family = Family::<Labels<N>, gauge::Gauge<u64, AtomicU64>>::default();
    for (labels, value) in samples {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

fn add(sum: &mut [u64; UNITS.len()], part: &Resources) {
    let Resources { cores, gpus, ram_mib, disk_mib } = *part;
    let part = [cores.into(), gpus.into(), ram_mib, disk_mib];
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum = sum.saturating_add(part));
}

fn prices(prices: UnitPrices) -> [u64; PRICED_UNITS.len()] {
    let UnitPrices { core_hour, gpu_hour, ram_gib_hour, disk_gib_hour } = prices;
    [core_hour, gpu_hour, ram_gib_hour, disk_gib_hour].map(Credits::micro)
}

/// The place of a state in [`JOB_STATES`].
fn job_state(state: JobState) -> usize {
    match state {
        JobState::Queued => 0,
        JobState::Matched => 1,
        JobState::Running => 2,
        JobState::Recovering => 3,
        JobState::Finished(_) => 4,
        JobState::Cancelled => 5,
        JobState::Panic(_) => 6,
    }
}

/// The place of a state in [`AUDIT_STATES`].
fn audit_state(state: AuditState) -> usize {
    match state {
        AuditState::Disclosing => 0,
        AuditState::Waiting => 1,
        AuditState::Computing => 2,
        AuditState::Revealing => 3,
        AuditState::Tracing => 4,
        AuditState::Judging => 5,
        AuditState::Closed(AuditVerdict::Passed) => 6,
        AuditState::Closed(AuditVerdict::False) => 7,
        AuditState::Closed(AuditVerdict::Silent) => 8,
        AuditState::Closed(AuditVerdict::Void) => 9,
    }
}

/// The place of a state in [`MACHINE_STATES`].
fn machine_state(state: MachineState) -> usize {
    match state {
        MachineState::Withdrawn => 0,
        MachineState::Idle => 1,
        MachineState::InUse => 2,
        MachineState::Paused => 3,
        MachineState::Draining => 4,
        MachineState::Panic => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_methods_and_paths_share_one_sample() {
        let metrics = Metrics::default();
        for strange in ["BREW", "PROPFIND", "X"] {
            metrics.count(&Method::from_bytes(strange.as_bytes()).unwrap(), None, StatusCode::NOT_FOUND);
        }
        metrics.count(&Method::GET, Some("/v1/status"), StatusCode::OK);
        let mut text = String::new();
        let mut registry = Registry::default();
        registry.register("requests", "", metrics.requests.clone());
        text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("requests_total{method=\"other\",route=\"none\",status=\"4xx\"} 3\n"), "{text}");
        assert!(text.contains("requests_total{method=\"get\",route=\"/v1/status\",status=\"2xx\"} 1\n"), "{text}");
    }
}
