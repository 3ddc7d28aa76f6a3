//! Training that survives its machines: three lent machines train MNIST while one is killed, another paused, the third cut off, and
//! at last all of them are killed. Real processes throughout.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use deepmarket_api::{Client, JobView, ProgressKind};
use deepmarket_tests::{Market, checkout, mnist, my_turn, program, signal, wait_for};
use deepmarket_types::{Event, JobId, JobState, LeaseState, MachineState};
use rustix::process::Signal;

const MINUTE: Duration = Duration::from_secs(60);
const JOB: JobId = JobId(1);

/// The agents of three machines, which this test starts and ends itself.
struct Machines {
    folders: Vec<PathBuf>,
    gateways: String,
    agents: Vec<Option<Child>>,
}

impl Machines {
    /// Takes over the machines of a market: their own agents are ended.
    fn of(market: &Market) -> Machines {
        let folders = (0..3).map(|n| market.home().join(format!("market/machine-{n}"))).collect();
        for number in 0..3 {
            market.kill(&format!("machine-{number}"));
        }
        let mut machines = Machines { folders, gateways: market.gateways().join(","), agents: vec![None, None, None] };
        (0..3).for_each(|number| machines.start(number));
        machines
    }

    fn start(&mut self, number: usize) {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.folders[number].join("output.log")).unwrap();
        // The last one belongs to a group of its own, by which the firewall knows it.
        let mut command = match number {
            2 => {
                let mut command = Command::new("setpriv");
                command.args(["--regid", &Line::GROUP.to_string(), "--clear-groups"]).arg(program("deepmarket"));
                command
            }
            _ => Command::new(program("deepmarket")),
        };
        let agent = command
            .args(["lend", "run", "--with-parent", "--gateway", &self.gateways, "--dir"])
            .arg(&self.folders[number])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        self.agents[number] = Some(agent);
    }

    fn pid(&self, number: usize) -> u32 {
        self.agents[number].as_ref().expect("it runs").id()
    }

    /// Ends an agent as a power cut would.
    fn kill(&mut self, number: usize) {
        let mut agent = self.agents[number].take().expect("it runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// The agent and its trainers.
    fn processes(&self, number: usize) -> Vec<u32> {
        let parent = self.pid(number);
        let is_child = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()) == Some(parent)
        };
        let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter(is_child).chain([parent]).collect()
    }

    fn send(&self, number: usize, what: Signal) {
        self.processes(number).into_iter().for_each(|pid| signal(pid, what));
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        // A paused one can't end by itself.
        for number in (0..3).filter(|number| self.agents[*number].is_some()).collect::<Vec<_>>() {
            if std::thread::panicking() {
                self.send(number, Signal::CONT);
            }
            self.kill(number);
        }
    }
}

/// A cable that can be pulled: the firewall drops what a group's processes send, on loopback too.
struct Line(String);

impl Line {
    const GROUP: u32 = 54_321;

    /// None where there is no firewall or no right to change it.
    fn new() -> Option<Line> {
        let table = format!("deepmarket_{}", std::process::id());
        let line = Line(table.clone());
        nft(&format!("add table inet {table}")).then_some(())?;
        nft(&format!("add chain inet {table} out {{ type filter hook output priority 0 ; }}")).then_some(line)
    }

    fn cut(&self) {
        assert!(nft(&format!("add rule inet {} out meta skgid {} drop", self.0, Line::GROUP)));
    }

    fn mend(&self) {
        assert!(nft(&format!("flush chain inet {} out", self.0)));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        nft(&format!("delete table inet {}", self.0));
    }
}

fn nft(rule: &str) -> bool {
    Command::new("nft").arg(rule).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// What the market says of the job, and of what happened to it.
struct Watch {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Watch {
    fn job(&self) -> JobView {
        wait_for("the job", MINUTE, || self.runtime.block_on(self.client.job(JOB)).ok().flatten())
    }

    /// Waits for a job in some state; shows the last one where it doesn't come.
    fn until(&self, what: &str, holds: impl Fn(&JobView) -> bool) -> JobView {
        let deadline = std::time::Instant::now() + 2 * MINUTE;
        loop {
            let job = self.job();
            if holds(&job) {
                return job;
            }
            assert!(!job.state.is_closed() && std::time::Instant::now() < deadline, "never came: {what}; {job:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn rounds(&self) -> u64 {
        self.job().leases.iter().filter(|lease| lease.state == LeaseState::Active).map(|lease| lease.rounds).max().unwrap_or(0)
    }

    /// Some more rounds are trained.
    fn goes_on(&self, rounds: u64) {
        let before = self.rounds();
        wait_for("the training to go on", 2 * MINUTE, || (self.rounds() >= before + rounds).then_some(()));
    }

    /// All three machines train together.
    fn all_train(&self) {
        self.until("three members", |job| job.members.len() == 3);
        self.goes_on(20);
    }

    /// The rank of the lease that a machine has.
    fn rank_of(&self, number: usize) -> u32 {
        let machines = self.runtime.block_on(self.client.machines(None)).expect("the gateway answers");
        let name = format!("machine-{number}");
        let machine = machines.iter().find(|machine| machine.config.name == name).expect("it is registered");
        let job = self.job();
        let lease = job.leases.iter().rfind(|lease| lease.machine == machine.id).expect("it works for the job");
        lease.rank
    }
}

#[test]
fn a_job_whose_machines_are_killed_paused_cut_off_and_all_lost_ends_with_98_percent_and_each_sample_counted_once_an_epoch() {
    let _turn = my_turn();
    let market = Market::up(3);
    let mut machines = Machines::of(&market);
    let line = Line::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let watch = Watch { runtime, client: Client::new(market.gateways()).unwrap() };
    market.cli(&["account", "open", "--name", "borrower", "--identity", "borrower@pdx.example"]);
    market.cli(&["data", "add", mnist().to_str().unwrap(), "--name", "mnist"]);
    let idle = |machine: &deepmarket_api::MachineView| machine.state == MachineState::Idle;
    wait_for("three machines", MINUTE, || {
        watch.runtime.block_on(watch.client.machines(None)).ok()?.iter().all(idle).then_some(())
    });

    let text = std::fs::read_to_string(checkout().join("examples/mnist.toml")).unwrap();
    let text = text.replace("min = 2", "min = 1").replace("checkpoint_rounds = 100", "checkpoint_rounds = 50");
    let spec = market.home().join("job.toml");
    std::fs::write(&spec, text).unwrap();
    market.cli(&["job", "submit", spec.to_str().unwrap()]);
    watch.all_train();

    // Killed: its streams close, the others go on, and it comes back.
    let rank = watch.rank_of(1);
    machines.kill(1);
    let lost = |job: &JobView, rank: u32| job.leases.iter().any(|l| l.rank == rank && l.state != LeaseState::Active);
    watch.until("the killed one is lost", |job| lost(job, rank));
    watch.goes_on(20);
    machines.start(1);
    watch.all_train();

    // Paused: its streams stay open, and nothing comes.
    let rank = watch.rank_of(0);
    machines.send(0, Signal::STOP);
    let paused = std::time::Instant::now();
    watch.until("the paused one is lost", |job| lost(job, rank));
    watch.goes_on(20);
    wait_for("twenty seconds of pause", MINUTE, || (paused.elapsed() > Duration::from_secs(20)).then_some(()));
    machines.send(0, Signal::CONT);
    watch.all_train();

    // Cut off: what it sends is lost, it can tell nobody.
    match &line {
        Some(line) => {
            let rank = watch.rank_of(2);
            line.cut();
            watch.until("the one that was cut off is lost", |job| lost(job, rank));
            watch.goes_on(20);
            line.mend();
            watch.all_train();
        }
        None => println!("no machine was cut off: nft can't be used here (Debian package nftables, as root)"),
    }

    // All lost: when they are back the job goes on from what was stored.
    watch.until("a checkpoint", |job| job.checkpoint.is_some());
    (0..3).for_each(|number| machines.kill(number));
    watch.until("the job waits for machines", |job| job.state == JobState::Recovering);
    (0..3).for_each(|number| machines.start(number));
    let job = market.wait_until_closed("job-1", 6 * MINUTE);
    assert_eq!(job["state"]["state"], "finished", "{job:#}");

    // The model.
    let out = market.home().join("result");
    let result = market.cli(&["job", "result", "job-1", "--out", out.to_str().unwrap(), "--evaluate"]);
    let accuracy =
        result["evaluation"]["accuracy"].as_f64().or(result["accuracy"].as_f64()).unwrap_or_else(|| panic!("{result:#}"));
    assert!(accuracy >= 0.98, "accuracy {accuracy}");

    each_sample_counted_once(&watch);
    every_payout_is_right(&market, &watch);
    nothing_is_stuck(&watch);
}

/// By the job's ledger of batches, in which a later entry replaces what an earlier one said of the same rounds.
fn each_sample_counted_once(watch: &Watch) {
    let progress = watch.runtime.block_on(watch.client.all_progress(JOB)).unwrap();
    let mut batches: Vec<(u64, u64, u64, u64)> = Vec::new();
    let mut told: Vec<u64> = Vec::new();
    for entry in progress {
        match entry.kind {
            ProgressKind::Trained { from, to, epoch, samples, .. } => {
                batches.retain(|(begin, ..)| *begin < from);
                batches.push((from, to, epoch, samples));
            }
            ProgressKind::Epoch { trained, .. } => told.push(trained),
            _ => {}
        }
    }
    assert!(told.len() >= 5 && told.iter().all(|trained| *trained == 60_000), "{told:?}");
    let last_epoch = batches.iter().map(|batch| batch.2).max().unwrap();
    for epoch in 0..=last_epoch {
        let of_epoch: Vec<_> = batches.iter().filter(|batch| batch.2 == epoch).collect();
        assert_eq!(of_epoch.iter().map(|batch| batch.3).sum::<u64>(), 60_000, "epoch {epoch}: {of_epoch:?}");
        assert!(of_epoch.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gap, no overlap: {of_epoch:?}");
    }
}

/// Each receipt released the price of the time that it was paid for, and all of them together are what was paid.
fn every_payout_is_right(market: &Market, watch: &Watch) {
    let job = watch.job();
    let prices = watch.runtime.block_on(watch.client.prices()).unwrap();
    let mut receipts = Vec::new();
    let mut before = None;
    loop {
        let page = watch.runtime.block_on(watch.client.job_history(JOB, before, 200)).unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.height, last.index));
        receipts.extend(page);
    }
    let slot = &prices.prices.slots[usize::from(prices.current_slot)];
    let resources = deepmarket_types::Resources { cores: 1, gpus: 0, ram_mib: 1024, disk_mib: 1024 };
    let mut paid = std::collections::BTreeMap::<u32, u64>::new();
    for entry in &receipts {
        if let Event::Receipt { rank, paid_ms, payout, .. } = &entry.event {
            *paid.entry(*rank).or_default() += payout.micro();
            // A receipt that spans two slots is split: only those of the present slot are reckoned again.
            if prices.slot_ends.0.saturating_sub(entry.time.0) < 6 * 3_600_000 - paid_ms {
                assert_eq!(*payout, slot.cost(&resources, *paid_ms), "worker {rank}, {paid_ms} ms");
            }
        }
    }
    assert!(job.leases.len() > 6, "machines came back: {:#?}", job.leases);
    for lease in &job.leases {
        assert_eq!(lease.paid.micro(), paid.get(&lease.rank).copied().unwrap_or(0), "worker {}", lease.rank);
    }
    let total: u64 = paid.values().sum();
    assert_eq!(job.paid.micro(), total);
    assert_eq!(job.escrow.micro(), 0);
    assert_eq!(market.cli(&["account", "show", "borrower"])["granted"], 50_000_000 - total - job.fees.micro());
    assert_eq!(market.cli(&["chain", "status"])["ledger"]["conserved"], true);
}

fn nothing_is_stuck(watch: &Watch) {
    let job = watch.job();
    assert!(job.leases.iter().all(|lease| lease.state != LeaseState::Active), "{:#?}", job.leases);
    wait_for("all machines to be idle", MINUTE, || {
        let machines = watch.runtime.block_on(watch.client.machines(None)).ok()?;
        machines.iter().all(|machine| machine.state == MachineState::Idle && machine.leases.is_empty()).then_some(())
    });
}
