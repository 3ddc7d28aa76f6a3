//! What was lent holds under a program that wants more.

use std::{fs, path::PathBuf, thread, time::Duration};

use deepmarket_job::protocol::Request;
use deepmarket_sandbox::{Usage, usage_of_child};
use deepmarket_types::FailureReason;
use deepmarket_worker::{GuardName, GuardState, Means, TrainerLimits, TrainerProcess, guards};
use tokio::time::{Instant, sleep, timeout};

use super::scenarios::{Machine, PATIENCE};

/// What is lent in these tests.
const RAM_MIB: u64 = 256;
const MIB: u64 = 1024 * 1024;

/// A lease of one core.
pub fn one_core(means: Means) -> TrainerLimits {
    TrainerLimits { cores: Some(1), ram_mib: Some(RAM_MIB), means }
}

/// Has a process ended? One that nobody asked about yet has.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Waits for a process's end.
pub async fn gone(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "{pid} still runs");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks, and looks at what the process uses as often as possible meanwhile; the end's reason in words, and the most memory seen.
async fn watch_memory(mut trainer: TrainerProcess) -> (Option<FailureReason>, String, u64) {
    let pid = trainer.pid().unwrap();
    let looking = thread::spawn(move || {
        let mut most = 0;
        // A process that has ended is there until it was asked how, and holds nothing.
        while let Some(Usage { resident_bytes, .. }) = usage_of_child(pid) {
            most = most.max(resident_bytes);
            thread::sleep(Duration::from_millis(1));
        }
        most
    });
    let error = trainer.ask(&Request::Evaluate, PATIENCE).await.unwrap_err();
    let (reason, words) = (error.reason(), error.to_string());
    drop(trainer);
    let most = looking.join().unwrap();
    (Some(reason), words, most)
}

pub async fn memory(means: Means) {
    for attack in ["attack-heap", "attack-shared", "attack-stacks"] {
        let machine = Machine::new();
        let (reason, words, most) = watch_memory(machine.start(attack, &one_core(means))).await;
        println!("\n    {attack}, {means:?}: at most {} MiB of {RAM_MIB}; {words}", most / MIB);
        assert!(most <= RAM_MIB * MIB, "{attack} held {} MiB", most / MIB);
        match attack {
            "attack-heap" => {
                assert_eq!(reason, Some(FailureReason::OutOfMemory), "{words}");
                assert!(most > RAM_MIB * MIB / 2, "what was lent may be used");
            }
            "attack-shared" => assert!(words.contains("refused") && !words.contains("DONE"), "{words}"),
            _ => {}
        }
    }
}

/// As on a system that limits nothing.
pub async fn watched() {
    let machine = Machine::new();
    let limits = TrainerLimits { means: Means::WatchedOnly, ..one_core(Means::Best) };
    let (reason, words, most) = watch_memory(machine.start("attack-slowly", &limits)).await;
    println!("\n    ended at {} MiB of {RAM_MIB}; {words}", most / MIB);
    assert_eq!(reason, Some(FailureReason::OutOfMemory), "{words}");
    assert!(words.contains("more than was lent"), "{words}");
}

/// CPU time that all of this machine's cores spent idle.
fn idle() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> = stat.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
    Duration::from_millis((fields[3] + fields[4]) * 10)
}

/// Gives a trainer the machine, as if nobody else wanted it, so that only its limits hold it; is this user allowed to?
fn favour(pid: u32) -> bool {
    for group in groups() {
        for (file, weight) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
            if group.join(file).exists() {
                fs::write(group.join(file), weight).unwrap();
            }
        }
    }
    let group = rustix::process::Pid::from_raw(pid.cast_signed());
    rustix::process::setpriority_pgrp(group, -20).is_ok()
}

/// Four busy threads on one lent core: never more than a tenth above it, and not less than a tenth below it unless others had
/// the machine.
pub async fn cores(means: Means) {
    let machine = Machine::new();
    let mut trainer = machine.start("attack-busy", &one_core(means));
    let pid = trainer.pid().unwrap();
    timeout(Duration::from_millis(100), trainer.ask(&Request::Evaluate, PATIENCE)).await.unwrap_err();
    let deadline = Instant::now() + PATIENCE;
    while usage_of_child(pid).unwrap().cpu < Duration::from_millis(200) {
        assert!(Instant::now() < deadline, "it never began");
        sleep(Duration::from_millis(20)).await;
    }
    let is_favoured = favour(pid);
    for _ in 0..3 {
        let (before, idle_before, began) = (usage_of_child(pid).unwrap().cpu, idle(), Instant::now());
        sleep(Duration::from_secs(3)).await;
        let (used, idle, took) = (usage_of_child(pid).unwrap().cpu - before, idle() - idle_before, began.elapsed());
        let (share, free) = (used.as_secs_f64() / took.as_secs_f64(), idle.as_secs_f64() / took.as_secs_f64());
        println!("\n    {means:?}: {share:.3} cores of 1 lent, with {free:.3} cores idle");
        assert!(share <= 1.1, "{share:.3} cores were used");
        // A user who can't favour it shares with others: under a quota whichever core is free, pinned its own.
        let could_have_had_more = is_favoured || free > if means == Means::Best { 0.2 } else { 0.9 };
        assert!(share >= 0.9 || !could_have_had_more, "only {share:.3} cores were had, and {free:.3} were idle");
    }
}

/// Groups of this process's trainers.
fn groups() -> Vec<PathBuf> {
    let name = format!("deepmarket-{}-", std::process::id());
    let (mut folders, mut found) = (vec![PathBuf::from("/sys/fs/cgroup")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&name) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found
}

pub async fn groups_go() {
    let machine = Machine::new();
    let trainer = machine.start("attack-busy", &one_core(Means::Best));
    let has_group = trainer.guards().iter().any(|guard| guard.how.contains("cgroup v"));
    assert_eq!(!groups().is_empty(), has_group);
    drop(trainer);
    let deadline = Instant::now() + PATIENCE;
    while !groups().is_empty() {
        assert!(Instant::now() < deadline, "a group is left");
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn told() {
    let told = guards();
    let of = |name| told.iter().find(|guard| guard.name == name).unwrap();
    for name in
        [GuardName::Network, GuardName::Processes, GuardName::Privileges, GuardName::Memory, GuardName::Cores, GuardName::End]
    {
        assert_eq!(of(name).state, GuardState::Enforced, "{:?}", of(name));
    }
    assert!(told.iter().all(|guard| !guard.how.is_empty()));
    let machine = Machine::new();
    let without = machine.start("attack-spin", &one_core(Means::WithoutCgroups));
    assert!(without.guards().iter().all(|guard| !guard.how.contains("cgroup v")), "{:?}", without.guards());
}
