//! A control group of its own for each child: memory, CPU quota, number of tasks, as far as this user may create groups.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::hierarchy::{self, Hierarchy};
use crate::limits::{Limits, MIB, TASKS};

/// Groups of agents: `deepmarket-AGENT-NUMBER`, so that those of an agent that is gone can be told.
const PREFIX: &str = "deepmarket-";
/// The period of a CPU quota in microseconds.
const PERIOD_US: u64 = 100_000;
/// The weight of a lent core against the owner's programs, which have 1024 each (version 1) or 100 (version 2): a third, as the
/// priority of the child has it among its like.
const WEIGHT: (u64, u64) = (335, 33);
/// How long the processes of a group may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What a group can hold to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

/// A child's groups: one of version 2, or one for each controller of version 1. They are removed when this is dropped, with
/// whatever still runs in them.
#[derive(Debug)]
pub(crate) struct Group {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    folder: PathBuf,
    version: u8,
    holds: Vec<Controller>,
}

impl Group {
    /// As many of the limits as this user may have enforced; `None` where none.
    pub fn create(limits: &Limits) -> Option<Group> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut group = Group { parts: Vec::new() };
        for place in hierarchy::of_this_process() {
            let wanted: Vec<Controller> = [Controller::Memory, Controller::Cpu, Controller::Pids]
                .into_iter()
                .filter(|c| group.version(*c).is_none())
                .collect();
            group.parts.extend(part(&place, &name, limits, &wanted));
        }
        (!group.parts.is_empty()).then_some(group)
    }

    fn version(&self, controller: Controller) -> Option<u8> {
        self.parts.iter().find(|part| part.holds.contains(&controller)).map(|part| part.version)
    }

    /// The cgroup version that limits memory.
    pub fn memory(&self) -> Option<u8> {
        self.version(Controller::Memory)
    }

    /// The cgroup version that limits CPU time.
    pub fn cpu(&self) -> Option<u8> {
        self.version(Controller::Cpu)
    }

    /// The cgroup version that limits the number of processes and threads.
    pub fn tasks(&self) -> Option<u8> {
        self.version(Controller::Pids)
    }

    /// A process that writes "0" into each of these is in the group.
    pub fn entrances(&self) -> io::Result<Vec<File>> {
        self.parts.iter().map(|part| OpenOptions::new().write(true).open(part.folder.join("cgroup.procs"))).collect()
    }

    /// Did the kernel end a process of the group because the group's memory was used up?
    pub fn ran_out_of_memory(&self) -> bool {
        self.parts.iter().filter(|part| part.holds.contains(&Controller::Memory)).any(|part| {
            let file = if part.version == 1 { "memory.oom_control" } else { "memory.events" };
            oom_kills(&fs::read_to_string(part.folder.join(file)).unwrap_or_default()) > 0
        })
    }
}

fn oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

fn part(place: &Hierarchy, name: &str, limits: &Limits, wanted: &[Controller]) -> Option<Part> {
    match place {
        Hierarchy::One { controllers, folder } => {
            let has = |controller: &Controller| controllers.iter().any(|c| c == name_of(*controller));
            let wanted: Vec<Controller> = wanted.iter().copied().filter(has).collect();
            fill(folder, 1, name, limits, &wanted)
        }
        // Where this process is itself, a group is allowed only below the root or below a group that was handed over to it; its
        // parent may be its user's (of a session), and has no processes.
        Hierarchy::Two { folder } => {
            for controller in wanted {
                fs::write(folder.join("cgroup.subtree_control"), format!("+{}", name_of(*controller))).ok();
            }
            let parents = [Some(folder.as_path()), folder.parent().filter(|parent| parent.join("cgroup.procs").exists())];
            parents.into_iter().flatten().find_map(|parent| fill(parent, 2, name, limits, wanted))
        }
    }
}

fn name_of(controller: Controller) -> &'static str {
    match controller {
        Controller::Memory => "memory",
        Controller::Cpu => "cpu",
        Controller::Pids => "pids",
    }
}

/// Creates a group below `parent` and sets what it can of `wanted`; without any of it there is no group.
fn fill(parent: &Path, version: u8, name: &str, limits: &Limits, wanted: &[Controller]) -> Option<Part> {
    if wanted.is_empty() {
        return None;
    }
    sweep(parent);
    let folder = parent.join(name);
    fs::create_dir(&folder).ok()?;
    let holds: Vec<Controller> = wanted.iter().copied().filter(|wanted| set(&folder, version, *wanted, limits).is_ok()).collect();
    if holds.is_empty() || !folder.join("cgroup.procs").exists() {
        fs::remove_dir(&folder).ok();
        return None;
    }
    Some(Part { folder, version, holds })
}

/// Sets a limit; an error where the group has none of this kind, or none is wanted of it.
fn set(folder: &Path, version: u8, controller: Controller, limits: &Limits) -> io::Result<()> {
    // Control files are there or not; a new file would be a limit of nothing.
    let write = |file: &str, value: &str| {
        OpenOptions::new()
            .write(true)
            .open(folder.join(file))
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
    };
    let none = || io::Error::other("there is no such limit");
    match (controller, version) {
        (Controller::Memory, 1) => {
            let bytes = limits.ram_mib.ok_or_else(none)?.saturating_mul(MIB).to_string();
            write("memory.limit_in_bytes", &bytes)?;
            // Memory and swap together, where swap is counted.
            write("memory.memsw.limit_in_bytes", &bytes).ok();
            write("memory.swappiness", "0").ok();
        }
        (Controller::Memory, _) => {
            write("memory.max", &limits.ram_mib.ok_or_else(none)?.saturating_mul(MIB).to_string())?;
            write("memory.swap.max", "0").ok();
            write("memory.oom.group", "1").ok();
        }
        (Controller::Cpu, 1) => {
            let cores = u64::from(limits.cores.ok_or_else(none)?.max(1));
            write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", &(cores * PERIOD_US).to_string())?;
            write("cpu.shares", &(cores * WEIGHT.0).to_string()).ok();
        }
        (Controller::Cpu, _) => {
            let cores = u64::from(limits.cores.ok_or_else(none)?.max(1));
            write("cpu.max", &format!("{} {PERIOD_US}", cores * PERIOD_US))?;
            write("cpu.weight", &(cores * WEIGHT.1).min(100).to_string()).ok();
        }
        (Controller::Pids, _) => write("pids.max", &TASKS.to_string())?,
    }
    Ok(())
}

/// Removes the empty groups of agents that are gone.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let agent = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if agent.is_some_and(|agent| !Path::new(&format!("/proc/{agent}")).exists()) {
            fs::remove_dir(entry.path()).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let parts = std::mem::take(&mut self.parts);
        if !remove(&parts) {
            // A killed process needs a moment to give its memory back.
            thread::spawn(move || {
                let deadline = Instant::now() + GONE_WITHIN;
                while !remove(&parts) && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
    }
}

/// Ends what runs in the groups, and removes those that are empty; are all gone?
fn remove(parts: &[Part]) -> bool {
    parts.iter().fold(true, |gone, part| {
        let processes = fs::read_to_string(part.folder.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            kill_process(process, Signal::KILL).ok();
        }
        let is_gone = fs::remove_dir(&part.folder).map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |()| true);
        gone & is_gone
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a group to those who write into it.
    fn group(folder: &Path, files: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|file| fs::write(folder.join(file), "").unwrap());
    }

    #[test]
    fn limits_are_written_as_each_version_wants_them() {
        let limits = Limits { cores: Some(2), ram_mib: Some(3), ..Limits::default() };
        let folder = tempfile::tempdir().unwrap();
        group(folder.path(), &["memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares", "pids.max"]);
        group(folder.path(), &["memory.max", "memory.swap.max", "cpu.max", "cpu.weight"]);
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        for version in [1, 2] {
            for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
                set(folder.path(), version, controller, &limits).unwrap();
            }
        }
        assert_eq!((read("memory.limit_in_bytes"), read("cpu.cfs_quota_us")), ("3145728".into(), "200000".into()));
        assert_eq!((read("memory.max"), read("memory.swap.max")), ("3145728".into(), "0".into()));
        assert_eq!((read("cpu.max"), read("cpu.weight"), read("pids.max")), ("200000 100000".into(), "66".into(), "32".into()));
        assert!(set(folder.path(), 1, Controller::Memory, &Limits::default()).is_err(), "no limit was wanted");
        assert!(!folder.path().join("memory.swappiness").exists(), "no file is created");
    }

    #[test]
    fn a_group_without_its_control_files_is_no_group() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { cores: Some(1), ram_mib: Some(64), ..Limits::default() };
        assert!(fill(folder.path(), 2, "deepmarket-1-1", &limits, &[Controller::Memory]).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(fill(Path::new("/nowhere"), 1, "deepmarket-1-1", &limits, &[Controller::Memory]).is_none());
    }

    #[test]
    fn the_kernels_count_of_ended_processes_is_read() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 1\n"), 1);
        assert_eq!(oom_kills(""), 0);
    }

    #[test]
    fn groups_of_agents_that_are_gone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let here = format!("deepmarket-{}-0", std::process::id());
        for name in ["deepmarket-4000000000-1", here.as_str(), "other"] {
            group(&folder.path().join(name), &[]);
        }
        sweep(folder.path());
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [here, "other".to_owned()]);
    }
}
