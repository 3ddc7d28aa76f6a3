//! What a child uses, seen from outside.

use std::time::Duration;

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory that it holds now.
    pub resident_bytes: u64,
    /// The most that it held; what it holds now where the system doesn't tell.
    pub peak_bytes: u64,
    /// CPU time so far.
    pub cpu: Duration,
}

/// What a child of this process uses; none where there is no such child (any more): a process id may be given to another one.
#[cfg(target_os = "linux")]
pub fn usage_of_child(pid: u32) -> Option<Usage> {
    let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let (parent, resident_bytes, peak_bytes) = parse_status(&read("status")?)?;
    let cpu = parse_stat(&read("stat")?)?;
    (parent == std::process::id()).then_some(Usage { resident_bytes, peak_bytes, cpu })
}

/// The parent, the resident bytes and the most there were, in the text of `/proc/PID/status` (proc_pid_status(5)). A process that has ended holds none.
#[cfg(target_os = "linux")]
fn parse_status(status: &str) -> Option<(u32, u64, u64)> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    let bytes = |name| field(name).unwrap_or(0).checked_mul(1024);
    Some((u32::try_from(field("PPid:")?).ok()?, bytes("VmRSS:")?, bytes("VmHWM:")?))
}

/// The CPU time in the text of `/proc/PID/stat` (proc_pid_stat(5)), of all threads. The program's name may hold anything. Linux
/// tells programs of times in hundredths of a second on all architectures that this is written for.
#[cfg(target_os = "linux")]
fn parse_stat(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis((number(14)? + number(15)?).checked_mul(10)?))
}

/// What a child of this process uses; none where there is no such child (any more).
#[cfg(not(target_os = "linux"))]
pub fn usage_of_child(pid: u32) -> Option<Usage> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
    let pid = Pid::from_u32(pid);
    let mut system = System::new();
    let wanted = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
    let process = system.process(pid)?;
    let is_ours = process.parent() == Some(Pid::from_u32(std::process::id()));
    let cpu = Duration::from_millis(process.accumulated_cpu_time());
    is_ours.then(|| Usage { resident_bytes: process.memory(), peak_bytes: process.memory(), cpu })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_childs_usage_is_read_whatever_its_name_is() {
        let stat = "17 (a) b (c) S 9 17 17 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 1 0 77 9999 300 18446744073709551615 1 1";
        assert_eq!(parse_stat(stat), Some(Duration::from_secs(3)));
        assert_eq!((parse_stat("17 (a) S"), parse_stat("")), (None, None));
        assert_eq!(parse_status("PPid:\t9\nVmHWM:\t  500 kB\nVmRSS:\t  300 kB\n"), Some((9, 300 * 1024, 500 * 1024)));
        assert_eq!((parse_status("PPid:\t9\n"), parse_status("")), (Some((9, 0, 0)), None));
    }

    #[test]
    fn only_children_are_looked_at() {
        assert_eq!(usage_of_child(std::process::id()), None);
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        assert!(usage_of_child(child.id()).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(usage_of_child(child.id()), None);
    }
}
