//! What a process and its descendants use, by `/proc` (proc_pid_stat(5), proc_pid_status(5)). Elsewhere nothing is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Instant,
};

/// Linux counts CPU time in hundredths of a second for programs, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of each process when it was seen last.
#[derive(Default)]
pub struct Usage {
    ticks: BTreeMap<u32, u64>,
    seen: Option<Instant>,
}

impl Usage {
    /// CPU in percent of one core since the last call, and resident memory in MiB.
    pub fn of(&mut self, root: u32) -> (f64, u64) {
        let processes = processes();
        let tree = tree(root, &processes);
        let now = Instant::now();
        let ticks: BTreeMap<u32, u64> = tree.iter().filter_map(|pid| Some((*pid, processes.get(pid)?.ticks))).collect();
        // One that was not there before did all of its work since then.
        let spent: u64 = ticks.iter().map(|(pid, ticks)| ticks.saturating_sub(self.ticks.get(pid).copied().unwrap_or(0))).sum();
        let elapsed = self.seen.map(|seen| now.duration_since(seen).as_secs_f64());
        (self.ticks, self.seen) = (ticks, Some(now));
        let cpu =
            elapsed.filter(|elapsed| *elapsed > 0.1).map_or(0.0, |elapsed| spent as f64 / TICKS_PER_SECOND / elapsed * 100.0);
        let ram_kib: u64 = tree.iter().filter_map(|pid| resident_kib(*pid)).sum();
        ((cpu * 10.0).round() / 10.0, ram_kib / 1024)
    }
}

struct Process {
    parent: u32,
    ticks: u64,
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, process(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// Reads a line of `/proc/<pid>/stat`. The name in parentheses may hold anything, also parentheses.
fn process(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Field 4 is the parent, 14 and 15 are user and system time; the first two are cut off.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process { parent: u32::try_from(number(4)?).ok()?, ticks: number(14)? + number(15)? })
}

fn tree(root: u32, processes: &BTreeMap<u32, Process>) -> BTreeSet<u32> {
    let mut tree = BTreeSet::from([root]);
    loop {
        let children = processes.iter().filter(|(pid, process)| tree.contains(&process.parent) && !tree.contains(pid));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            return tree;
        }
        tree.extend(children);
    }
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let process = process("7 (a) b) (c) S 3 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1").unwrap();
        assert_eq!((process.parent, process.ticks), (3, 300));
    }

    #[test]
    fn descendants_belong_to_the_tree() {
        let of = |parent| Process { parent, ticks: 0 };
        let processes = BTreeMap::from([(1, of(0)), (2, of(1)), (3, of(2)), (4, of(1)), (9, of(8))]);
        assert_eq!(tree(2, &processes), BTreeSet::from([2, 3]));
        assert_eq!(tree(1, &processes), BTreeSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn this_process_uses_memory() {
        let mut usage = Usage::default();
        assert!(usage.of(std::process::id()).1 > 0);
    }
}
