//! The attacks, and what was seen of them.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    pin::Pin,
    time::{Duration, Instant},
};

use deepmarket_job::protocol::{Reply, Request};
use deepmarket_types::FailureReason;
use deepmarket_worker::{Means, TrainerError, TrainerLimits, TrainerProcess};
use tempfile::TempDir;

use super::{attack, lent};

type Scenario = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// How long anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub fn main() {
    let this = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    if let Some(attack) = attack::of(&this) {
        return attack::run(attack, &this);
    }
    let scenarios: &[Scenario] = &[
        ("a_program_that_opens_sockets_gets_none", || Box::pin(opens_sockets())),
        ("a_program_that_reads_the_machines_key_or_other_files_gets_none", || Box::pin(reads_files())),
        ("a_program_that_writes_outside_leaves_nothing", || Box::pin(writes_files())),
        ("a_program_that_forks_or_starts_others_stays_alone", || Box::pin(forks())),
        ("a_program_that_reaches_for_other_processes_finds_them_closed", || Box::pin(reaches_out())),
        ("a_program_that_frees_itself_of_its_limits_stays_bound", || Box::pin(frees_itself())),
        ("a_program_that_spins_for_ever_is_ended_at_the_deadline", || Box::pin(spins())),
        ("a_program_dies_with_its_agent_whatever_it_does", || Box::pin(outlives())),
        ("memory_that_was_not_lent_is_not_had_in_a_control_group", || Box::pin(lent::memory(Means::Best))),
        ("memory_that_was_not_lent_is_not_had_without_control_groups", || Box::pin(lent::memory(Means::WithoutCgroups))),
        ("memory_above_what_was_lent_is_noticed_where_nothing_limits_it", || Box::pin(lent::watched())),
        ("cores_that_were_not_lent_are_not_had_in_a_control_group", || Box::pin(lent::cores(Means::Best))),
        ("cores_that_were_not_lent_are_not_had_without_control_groups", || Box::pin(lent::cores(Means::WithoutCgroups))),
        ("a_control_group_goes_with_its_trainer", || Box::pin(lent::groups_go())),
        ("what_is_enforced_is_told", || Box::pin(lent::told())),
        ("the_real_trainer_computes_confined", || Box::pin(computes())),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") {
        return scenarios.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    for (name, scenario) in scenarios.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str()))) {
        let began = Instant::now();
        print!("test {name} ... ");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // On a thread that stays: trainers die with the thread that started them.
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(300), scenario()).await.expect("in time") });
        println!("ok ({:.1} s)", began.elapsed().as_secs_f32());
    }
}

/// A machine's folder with its key, and the malicious program in the trainer's place.
pub struct Machine {
    pub folder: TempDir,
}

impl Machine {
    pub fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key.json"), "the machine's secret").unwrap();
        Machine { folder }
    }

    /// Starts an attack in the trainer's place.
    pub fn start(&self, attack: &str, limits: &TrainerLimits) -> TrainerProcess {
        let program = self.folder.path().join(attack);
        let this = std::env::current_exe().unwrap();
        if !program.exists() && fs::hard_link(&this, &program).is_err() {
            fs::copy(&this, &program).unwrap();
        }
        TrainerProcess::spawn(&program, limits).unwrap()
    }

    /// Runs an attack as a lease of one core would, in both ways; what it says of its attempts.
    async fn attack(&self, attack: &str) -> Vec<String> {
        let mut all = Vec::new();
        for means in [Means::Best, Means::WithoutCgroups] {
            let mut trainer = self.start(attack, &lent::one_core(means));
            let said = said(trainer.ask(&Request::Evaluate, PATIENCE).await.unwrap_err());
            println!("\n    {attack}, {means:?}: {said}");
            all.extend(said.split("; ").map(str::to_owned));
        }
        all
    }
}

/// What the program in the trainer's place says.
fn said(error: TrainerError) -> String {
    match error {
        TrainerError::Failed { message, .. } => message,
        other => panic!("{other}"),
    }
}

fn none_succeeded(attempts: &[String]) {
    assert!(attempts.len() > 2, "{attempts:?}");
    for attempt in attempts {
        assert!(attempt.contains("refused"), "{attempt}");
    }
}

async fn opens_sockets() {
    let machine = Machine::new();
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = std::os::unix::net::UnixListener::bind(machine.folder.path().join("socket")).unwrap();
    let addresses = format!("{} {}", tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    fs::write(machine.folder.path().join("addresses"), addresses).unwrap();
    none_succeeded(&machine.attack("attack-sockets").await);
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err() && udp.recv(&mut [0; 9]).is_err() && unix.accept().is_err(), "nothing arrived");
}

async fn reads_files() {
    none_succeeded(&Machine::new().attack("attack-files").await);
}

async fn writes_files() {
    let machine = Machine::new();
    let elsewhere = std::env::temp_dir().join(format!("deepmarket-hostile-{}", std::process::id()));
    none_succeeded(&machine.attack("attack-writes").await);
    assert!(!elsewhere.exists());
    let mut left: Vec<_> = fs::read_dir(machine.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["attack-writes", "key.json"], "nothing came, nothing went");
    assert_eq!(fs::read_to_string(machine.folder.path().join("key.json")).unwrap(), "the machine's secret");
}

async fn forks() {
    none_succeeded(&Machine::new().attack("attack-forks").await);
    // Threads are processes to the kernel, and limited as such.
    for means in [Means::Best, Means::WithoutCgroups] {
        let machine = Machine::new();
        let mut trainer = machine.start("attack-threads", &lent::one_core(means));
        let said = said(trainer.ask(&Request::Evaluate, PATIENCE).await.unwrap_err());
        println!("\n    {means:?}: {said}");
        let threads: u32 = said.split(' ').next().unwrap().parse().unwrap();
        assert!(threads < 64, "{said}");
    }
}

async fn reaches_out() {
    none_succeeded(&Machine::new().attack("attack-processes").await);
}

async fn frees_itself() {
    none_succeeded(&Machine::new().attack("attack-limits").await);
}

async fn spins() {
    let mut trainer = Machine::new().start("attack-spin", &lent::one_core(Means::Best));
    let pid = trainer.pid().unwrap();
    let error = trainer.ask(&Request::Evaluate, Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, TrainerError::Silent { .. }), "{error}");
    assert_eq!(error.reason(), FailureReason::TrainerCrashed);
    drop(trainer);
    lent::gone(pid).await;
}

/// The agent is another process here: one that is killed without being able to clean up.
async fn outlives() {
    let machine = Machine::new();
    let agent = machine.folder.path().join("attack-agent");
    fs::hard_link(std::env::current_exe().unwrap(), &agent)
        .or_else(|_| fs::copy(std::env::current_exe().unwrap(), &agent).map(|_| ()))
        .unwrap();
    let mut agent = std::process::Command::new(agent).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(agent.stdout.as_mut().unwrap()), &mut pid).unwrap();
    let pid: u32 = pid.trim().parse().unwrap();
    assert!(lent::is_alive(pid));
    agent.kill().unwrap();
    agent.wait().unwrap();
    lent::gone(pid).await;
}

/// The trainer's program is another crate's: it is there where that was built too, as it is for all tests of both.
async fn computes() {
    let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name("deepmarket-trainer");
    if !program.exists() {
        return println!("\n    skipped: {} isn't built", program.display());
    }
    for means in [Means::Best, Means::WithoutCgroups] {
        let mut trainer = TrainerProcess::spawn(&program, &lent::one_core(means)).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", trainer.pid().unwrap())).unwrap();
        let none = status.lines().filter(|line| line.starts_with("CapEff:") || line.starts_with("CapPrm:"));
        assert!(none.map(|line| line.split_whitespace().last().unwrap()).all(|set| set.chars().all(|digit| digit == '0')));
        let reply = trainer.ask(&Request::Measure { seed: 7 }, PATIENCE).await.unwrap();
        assert!(matches!(reply, Reply::Measured { mega_multiply_adds_per_s: 1.., .. }), "{reply:?}");
        trainer.stop().await;
    }
}
