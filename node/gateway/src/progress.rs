//! What workers report about their jobs, off the chain: kept in order, each report once, on disk in one file of JSON lines
//! for each job. It is for people to watch; nothing is paid by it, and so it isn't synced.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use deepmarket_api::{Progress, ProgressKind};
use deepmarket_types::{JobId, TimeMs};
use tokio::sync::watch;

use crate::error::Refusal;

/// The most entries that are kept of one job: about 5 MB.
pub(crate) const MAX_ENTRIES: usize = 20_000;
/// Reports of rounds are at most so many of them: epochs, totals and the ledger of batches must have room, however long the job.
const MAX_ROUNDS: usize = MAX_ENTRIES / 2;
/// Of each worker's reports of rounds those are kept that are this part of the job's time so far apart, so that a long job fills its
/// part slowly: 500 of the first 500 seconds (workers report about once a second), 1,300 of the first hour.
const ROUNDS_APART: u64 = 500;
/// The most bytes of one entry's JSON.
const MAX_ENTRY_BYTES: usize = 4 * 1024;
/// Jobs whose entries are held in memory.
const OPEN_JOBS: usize = 64;

/// The reports of all jobs.
pub(crate) struct ProgressStore {
    folder: PathBuf,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    clock: u64,
    logs: HashMap<JobId, (u64, Arc<JobLog>)>,
}

impl ProgressStore {
    pub(crate) fn open(folder: PathBuf) -> io::Result<ProgressStore> {
        fs::create_dir_all(&folder)?;
        Ok(ProgressStore { folder, open: Mutex::default() })
    }

    /// The reports of one job. Blocks while it reads the file of a job that wasn't asked for lately.
    pub(crate) fn log(&self, job: JobId) -> Result<Arc<JobLog>, Refusal> {
        let mut open = lock(&self.open);
        open.clock += 1;
        let now = open.clock;
        if let Some((used, log)) = open.logs.get_mut(&job) {
            *used = now;
            return Ok(log.clone());
        }
        let log = Arc::new(JobLog::load(job, self.folder.join(format!("{job}.jsonl"))).map_err(internal)?);
        if open.logs.len() >= OPEN_JOBS {
            // One that somebody holds must stay, or there would be two writers of one file.
            let idle = open.logs.iter().filter(|(_, (_, log))| Arc::strong_count(log) == 1);
            if let Some(oldest) = idle.min_by_key(|(_, (used, _))| *used).map(|(job, _)| *job) {
                open.logs.remove(&oldest);
            }
        }
        open.logs.insert(job, (now, log.clone()));
        Ok(log)
    }
}

/// The reports of one job.
pub(crate) struct JobLog {
    job: JobId,
    path: PathBuf,
    entries: Mutex<Entries>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Entries {
    list: Vec<Progress>,
    known: HashSet<(u32, u64)>,
    done: HashSet<u32>,
    /// How many of `list` are of rounds, and when each worker's last one of them was.
    rounds: usize,
    last_round: HashMap<u32, TimeMs>,
}

impl Entries {
    fn add(&mut self, entry: Progress) -> bool {
        let is_round = matches!(entry.kind, ProgressKind::Round { .. });
        if self.list.len() >= MAX_ENTRIES || (is_round && !self.takes_round(&entry)) {
            return false;
        }
        let new = self.known.insert((entry.rank, entry.sequence));
        if new {
            if is_round {
                self.rounds += 1;
                self.last_round.insert(entry.rank, entry.time);
            }
            if matches!(entry.kind, ProgressKind::Done { .. }) {
                self.done.insert(entry.rank);
            }
            self.list.push(entry);
        }
        new
    }

    fn takes_round(&self, entry: &Progress) -> bool {
        let since_beginning = self.list.first().map_or(0, |first| entry.time.since(first.time));
        let last = self.last_round.get(&entry.rank);
        self.rounds < MAX_ROUNDS && last.is_none_or(|last| entry.time.since(*last) >= since_beginning / ROUNDS_APART)
    }
}

impl JobLog {
    fn load(job: JobId, path: PathBuf) -> io::Result<JobLog> {
        let mut entries = Entries::default();
        let text = read_whole_lines(&path)?;
        // A line that this release can't read is of another one: it is passed over.
        for entry in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            entries.add(entry);
        }
        let count = watch::Sender::new(entries.list.len());
        Ok(JobLog { job, path, entries: Mutex::new(entries), count })
    }

    /// Keeps entries that weren't known. Blocks while it writes.
    pub(crate) fn add(&self, batch: Vec<Progress>) -> Result<usize, Refusal> {
        let mut entries = lock(&self.entries);
        if entries.list.len() >= MAX_ENTRIES {
            return Err(Refusal::ProgressFull { job: self.job.to_string(), limit: MAX_ENTRIES });
        }
        let mut lines = Vec::new();
        let before = entries.list.len();
        for entry in batch {
            let line = serde_json::to_vec(&entry).map_err(internal)?;
            if line.len() > MAX_ENTRY_BYTES {
                return Err(Refusal::BadProgress(format!("an entry has more than {MAX_ENTRY_BYTES} bytes")));
            }
            if entries.add(entry) {
                lines.extend_from_slice(&line);
                lines.push(b'\n');
            }
        }
        let after = entries.list.len();
        if after > before {
            fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&self.path)
                .and_then(|mut file| file.write_all(&lines))
                .map_err(internal)?;
            self.count.send_replace(after);
        }
        Ok(after - before)
    }

    /// At most `limit` entries from number `after` on.
    pub(crate) fn after(&self, after: usize, limit: usize) -> Vec<Progress> {
        let entries = lock(&self.entries);
        entries.list.iter().skip(after).take(limit).cloned().collect()
    }

    /// Have these ranks reported their end?
    pub(crate) fn all_done(&self, ranks: impl IntoIterator<Item = u32>) -> bool {
        let entries = lock(&self.entries);
        ranks.into_iter().all(|rank| entries.done.contains(&rank))
    }

    /// The number of entries, and when it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

/// A file's whole lines. What a crash cut off is removed, so that the next line doesn't continue it.
fn read_whole_lines(path: &Path) -> io::Result<String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e),
    };
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    if whole < bytes.len() {
        fs::OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::Internal(format!("progress: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rank: u32, sequence: u64, line: &str) -> Progress {
        Progress { time: TimeMs(5), rank, sequence, kind: ProgressKind::Log { line: line.into() } }
    }

    #[test]
    fn each_report_is_kept_once_and_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobId(7);
        let all = [entry(0, 1, "a"), entry(1, 1, "b"), entry(0, 2, "c")];
        {
            let log = ProgressStore::open(folder.path().into()).unwrap().log(job).unwrap();
            assert_eq!(log.add(all[..2].to_vec()).unwrap(), 2);
            assert_eq!(log.add(all.to_vec()).unwrap(), 1);
            assert_eq!(log.after(0, 10), all);
            assert_eq!(*log.watch().borrow(), 3);
        }
        let path = folder.path().join("job-7.jsonl");
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"torn\":").unwrap();
        let log = ProgressStore::open(folder.path().into()).unwrap().log(job).unwrap();
        assert_eq!(log.after(1, 1), all[1..2]);
        assert_eq!(log.add(vec![entry(1, 2, "d")]).unwrap(), 1);
        let log = ProgressStore::open(folder.path().into()).unwrap().log(job).unwrap();
        assert_eq!(log.after(3, 10), [entry(1, 2, "d")]);
    }

    #[test]
    fn a_job_is_full_at_its_limit_and_an_overlong_entry_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let log = ProgressStore::open(folder.path().into()).unwrap().log(JobId(1)).unwrap();
        let overlong = entry(0, 1, &"x".repeat(MAX_ENTRY_BYTES));
        assert!(matches!(log.add(vec![overlong]), Err(Refusal::BadProgress(_))));
        let many = (0..MAX_ENTRIES as u64 + 5).map(|n| entry(0, n, "")).collect();
        assert_eq!(log.add(many).unwrap(), MAX_ENTRIES);
        assert!(matches!(log.add(vec![entry(1, 1, "")]), Err(Refusal::ProgressFull { .. })));
    }

    #[test]
    fn reports_of_rounds_thin_out_as_a_job_grows_old_and_never_take_the_room_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let log = ProgressStore::open(folder.path().into()).unwrap().log(JobId(1)).unwrap();
        let round = |second: u64| {
            let (compute_ms, exchange_ms, wait_ms, exchanged_bytes) = (0, 0, 0, 0);
            let (round, rounds, epoch, loss) = (second, 1 << 40, 0, 0.5);
            let kind = ProgressKind::Round { round, rounds, epoch, loss, compute_ms, exchange_ms, wait_ms, exchanged_bytes };
            Progress { time: TimeMs(second * 1000), kind, ..entry(0, second, "") }
        };
        assert_eq!(log.add((1..=500).map(round).collect()).unwrap(), 500, "all of the beginning");
        log.add((501..=3600).map(round).collect()).unwrap();
        assert!((1_250..1_350).contains(&log.after(0, MAX_ENTRIES).len()));
        let all = log.after(0, MAX_ENTRIES);
        drop(log);
        let log = ProgressStore::open(folder.path().into()).unwrap().log(JobId(1)).unwrap();
        assert_eq!(log.after(0, MAX_ENTRIES), all, "the same after a restart");
        let each_rank = |rank: u32| Progress { rank, ..round(3601) };
        log.add((1..=MAX_ENTRIES as u32).map(each_rank).collect()).unwrap();
        assert_eq!(log.after(0, MAX_ENTRIES).len(), MAX_ROUNDS);
        assert_eq!(log.add(vec![entry(0, 9_999, "there is room for others")]).unwrap(), 1);
    }

    #[test]
    fn the_end_of_all_ranks_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let log = ProgressStore::open(folder.path().into()).unwrap().log(JobId(1)).unwrap();
        let done = ProgressKind::Done {
            peak_ram_mib: 0,
            cpu_ms: 0,
            compute_ms: 0,
            exchange_ms: 0,
            wait_ms: 0,
            sent_bytes: 0,
            received_bytes: 0,
            fetched_bytes: 0,
        };
        log.add(vec![Progress { kind: done.clone(), ..entry(0, 1, "") }]).unwrap();
        assert!(log.all_done([0]) && !log.all_done([0, 1]));
        log.add(vec![Progress { kind: done, ..entry(1, 1, "") }]).unwrap();
        assert!(log.all_done([0, 1]));
    }

    #[test]
    fn only_so_many_jobs_stay_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let store = ProgressStore::open(folder.path().into()).unwrap();
        let held = store.log(JobId(0)).unwrap();
        for job in 1..200 {
            store.log(JobId(job)).unwrap().add(vec![entry(0, 1, "x")]).unwrap();
        }
        assert_eq!(lock(&store.open).logs.len(), OPEN_JOBS);
        assert!(Arc::ptr_eq(&held, &store.log(JobId(0)).unwrap()));
        assert_eq!(store.log(JobId(1)).unwrap().after(0, 10).len(), 1);
    }
}
