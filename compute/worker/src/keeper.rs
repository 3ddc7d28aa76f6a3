//! Writes what is kept of rounds: in a thread of its own, so that rounds don't wait for the disk, and within a budget of bytes.
//!
//! ```text
//! rounds ── states, averages, commitments ──▶ [ at most 256 MiB wait ] ──▶ thread ──▶ <home>/audits
//!                                                                           └─ over the budget: the oldest segments go
//! ```
//!
//! Lenders' receipts are drawn two blocks after they came, so what is old won't be asked for: the budget only has to hold some
//! minutes of rounds. It stays after the lease's end, and after the agent's: whenever an agent runs, it opens what is drawn.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use deepmarket_job::protocol::floats_to_bytes;
use deepmarket_types::{LeaseId, RoundCommitment};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    WorkerError,
    archive::{Frame, Record, Setting, folder_of, rounds_path, segment_path, segments},
};

/// The most bytes on disk, and the part of what is free there at the start.
const BUDGET_BYTES: u64 = 8 << 30;
const BUDGET_OF_FREE: u64 = 4;
/// The most KiB that wait for the disk. Then rounds wait: what can't be shown when it is drawn isn't paid.
const WAITING_KIB: u32 = 256 * 1024;
/// Rounds between two states where averages lead from one to the next; and the fewest entries of a segment.
pub(crate) const STATE_EVERY: u64 = 16;
/// What is older than this is gone: no chain holds pay so long.
const KEEP: Duration = Duration::from_secs(14 * 24 * 3600);

enum Order {
    Record(LeaseId, Record),
    State(LeaseId, u64, Vec<u8>, OwnedSemaphorePermit),
    Average(LeaseId, u64, Vec<f32>, OwnedSemaphorePermit),
    Close(LeaseId),
    Flush(oneshot::Sender<()>),
}

/// What an agent keeps of its leases' rounds.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    pub folder: PathBuf,
    orders: mpsc::UnboundedSender<Order>,
    room: Arc<Semaphore>,
    has_written: Arc<AtomicBool>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl Archive {
    /// Opens the folder, throws away what is too old, and starts the thread that writes; it ends with the last handle.
    pub fn open(folder: PathBuf) -> Result<Archive, WorkerError> {
        fs::create_dir_all(&folder).map_err(WorkerError::home(&folder))?;
        let budget = BUDGET_BYTES.min(free_bytes(&folder) / BUDGET_OF_FREE);
        Self::with_budget(folder, budget)
    }

    fn with_budget(folder: PathBuf, budget: u64) -> Result<Archive, WorkerError> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let writer = Writer::new(folder.clone(), budget);
        std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || writer.run(inbox))
            .map_err(WorkerError::home(&folder))?;
        let room = Arc::new(Semaphore::new(WAITING_KIB as usize));
        Ok(Archive { folder, orders, room, has_written: Arc::default() })
    }

    /// Waits until all that was given is on the disk (in the operating system's hands).
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.orders.send(Order::Flush(done)).is_ok() {
            flushed.await.ok();
        }
    }

    /// Was anything kept in this life of the agent?
    pub fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }

    async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, WAITING_KIB);
        Arc::clone(&self.room).acquire_many_owned(kib).await.ok()
    }
}

/// Keeps the rounds of one lease.
pub(crate) struct Keeper {
    archive: Archive,
    lease: LeaseId,
    /// Is anything kept? Not where nobody will ask.
    is_on: bool,
    /// Must each round have a state of its own?
    is_local: bool,
    setting: Option<Setting>,
    /// The rounds after which the last state was kept.
    last_state: Option<u64>,
}

impl Keeper {
    pub fn new(archive: Archive, lease: LeaseId, is_local: bool, is_on: bool) -> Keeper {
        Keeper { archive, lease, is_on, is_local, setting: None, last_state: None }
    }

    /// Nothing more can be kept.
    pub fn give_up(&mut self) {
        self.is_on = false;
    }

    /// The trainer was taken elsewhere: averages don't lead there.
    pub fn jump(&mut self) {
        self.last_state = None;
    }

    /// Should the state after so many rounds be kept?
    pub fn wants_state(&self, applied: u64) -> bool {
        self.is_on && (self.is_local || self.last_state.is_none_or(|last| applied >= last + STATE_EVERY))
    }

    /// Keeps a state, and what is applied after it.
    pub async fn state(&mut self, applied: u64, state: Vec<u8>) {
        self.last_state = Some(applied);
        if let Some(room) = self.archive.room(state.len()).await {
            self.archive.orders.send(Order::State(self.lease, applied, state, room)).ok();
        }
    }

    /// Keeps what was applied after so many rounds.
    pub async fn average(&mut self, applied: u64, values: Vec<f32>) {
        if self.is_on
            && !self.is_local
            && let Some(room) = self.archive.room(4 * values.len()).await
        {
            self.archive.orders.send(Order::Average(self.lease, applied, values, room)).ok();
        }
    }

    /// Keeps a round's commitment, and how it was computed.
    pub fn round(&mut self, commitment: RoundCommitment, applied: u64, setting: Setting) {
        if !self.is_on {
            return;
        }
        self.archive.has_written.store(true, Ordering::Relaxed);
        if self.setting.as_ref() != Some(&setting) {
            self.setting = Some(setting.clone());
            self.archive.orders.send(Order::Record(self.lease, Record::Setting(setting))).ok();
        }
        self.archive.orders.send(Order::Record(self.lease, Record::Round { commitment, applied })).ok();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.archive.orders.send(Order::Close(self.lease)).ok();
    }
}

/// The files of a lease that is being written.
struct Open {
    folder: PathBuf,
    rounds: BufWriter<File>,
    segment: Option<Segment>,
}

struct Segment {
    file: BufWriter<File>,
    path: PathBuf,
    entries: u64,
    bytes: u64,
}

/// The thread's side.
struct Writer {
    folder: PathBuf,
    budget: u64,
    /// Bytes of all segments.
    bytes: u64,
    /// Those that are complete, the oldest first.
    complete: VecDeque<(PathBuf, u64)>,
    open: HashMap<LeaseId, Open>,
    failed: bool,
}

impl Writer {
    fn new(folder: PathBuf, budget: u64) -> Writer {
        let mut found: Vec<(SystemTime, u64, PathBuf, u64)> = Vec::new();
        for lease in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()) {
            let modified = fs::metadata(rounds_path(&lease)).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if modified.elapsed().is_ok_and(|age| age > KEEP) {
                fs::remove_dir_all(&lease).ok();
                continue;
            }
            for (begin, path) in segments(&lease) {
                let Ok(file) = fs::metadata(&path) else { continue };
                found.push((file.modified().unwrap_or(modified), begin, path, file.len()));
            }
        }
        found.sort();
        let bytes = found.iter().map(|(.., bytes)| bytes).sum();
        let complete = found.into_iter().map(|(_, _, path, bytes)| (path, bytes)).collect();
        Writer { folder, budget, bytes, complete, open: HashMap::new(), failed: false }
    }

    fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = inbox.blocking_recv() {
            let mut result = self.write(order);
            // What waits is written in one go; when nothing does, all goes to the operating system.
            while let Ok(order) = inbox.try_recv() {
                result = result.and_then(|()| self.write(order));
            }
            if let Err(e) = result.and_then(|()| self.flush())
                && !std::mem::replace(&mut self.failed, true)
            {
                tracing::error!(
                    folder = %self.folder.display(),
                    "what audits may ask for can't be kept, so that some work may not be paid: {e}; make room on the disk"
                );
            }
        }
    }

    fn write(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Record(lease, record) => record.write(&mut self.lease(lease)?.rounds),
            Order::State(lease, applied, state, _room) => {
                self.begin_segment(lease, applied)?;
                self.append(lease, Frame::State, applied, &state)
            }
            Order::Average(lease, applied, values, _room) => {
                self.append(lease, Frame::Average, applied, &floats_to_bytes(&values))
            }
            Order::Close(lease) => {
                self.flush()?;
                let segment = self.open.remove(&lease).and_then(|open| open.segment);
                self.complete.extend(segment.map(|segment| (segment.path, segment.bytes)));
                Ok(())
            }
            Order::Flush(done) => {
                self.flush()?;
                done.send(()).ok();
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        for open in self.open.values_mut() {
            // The segment first: a round whose commitment is there must have its inputs.
            if let Some(segment) = &mut open.segment {
                segment.file.flush()?;
            }
            open.rounds.flush()?;
        }
        Ok(())
    }

    fn lease(&mut self, lease: LeaseId) -> io::Result<&mut Open> {
        if !self.open.contains_key(&lease) {
            let folder = folder_of(&self.folder, lease);
            fs::create_dir_all(&folder)?;
            let rounds = BufWriter::new(append_to(&rounds_path(&folder))?);
            self.open.insert(lease, Open { folder, rounds, segment: None });
        }
        Ok(self.open.get_mut(&lease).expect("it was inserted"))
    }

    /// A state begins a segment, unless the present one has few entries.
    fn begin_segment(&mut self, lease: LeaseId, applied: u64) -> io::Result<()> {
        let open = self.lease(lease)?;
        if open.segment.as_ref().is_some_and(|segment| segment.entries < STATE_EVERY) {
            return Ok(());
        }
        let path = segment_path(&open.folder, applied);
        let file = BufWriter::new(append_to(&path)?);
        let before = open.segment.replace(Segment { file, path, entries: 0, bytes: 0 });
        if let Some(mut before) = before {
            before.file.flush()?;
            self.complete.push_back((before.path, before.bytes));
        }
        self.make_room();
        Ok(())
    }

    fn append(&mut self, lease: LeaseId, frame: Frame, applied: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(segment) = &mut self.lease(lease)?.segment else { return Ok(()) };
        let written = frame.write(&mut segment.file, applied, bytes)?;
        segment.entries += 1;
        segment.bytes += written;
        self.bytes += written;
        Ok(())
    }

    fn make_room(&mut self) {
        while self.bytes > self.budget
            && let Some((path, bytes)) = self.complete.pop_front()
        {
            fs::remove_file(&path).ok();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Bytes that are free on a folder's disk.
fn free_bytes(folder: &Path) -> u64 {
    #[cfg(unix)]
    return rustix::fs::statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(unix))]
    {
        let _ = folder;
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{CommitmentPlace, Hash, JobId, MountainRange};

    use super::*;
    use crate::archive::Kept;

    const LEASE: LeaseId = LeaseId(3);

    fn setting(shards: &[u32]) -> Setting {
        Setting { shards: shards.to_vec(), team: vec![0, 1] }
    }

    fn commitment(round: u64) -> RoundCommitment {
        RoundCommitment { round, samples: 4, total_samples: 4 * (round + 1), sealed: Hash::of(&round.to_le_bytes()) }
    }

    async fn keep(keeper: &mut Keeper, rounds: std::ops::Range<u64>, bytes: usize) {
        for round in rounds {
            if keeper.wants_state(round) {
                keeper.state(round, vec![round as u8; bytes]).await;
            }
            keeper.average(round, vec![round as f32; bytes / 4]).await;
            keeper.round(commitment(round), round, setting(if round < 20 { &[0, 1] } else { &[0] }));
        }
        keeper.archive.flush().await;
    }

    #[tokio::test]
    async fn the_inputs_of_every_round_are_found_again_also_after_a_restart_and_a_jump() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().to_owned()).unwrap();
        let mut keeper = Keeper::new(archive.clone(), LEASE, false, true);
        keep(&mut keeper, 5..40, 16).await;
        keeper.jump();
        keep(&mut keeper, 43..50, 16).await;
        // A killed agent's last entry is half written.
        let last = segments(&folder_of(folder.path(), LEASE)).pop().unwrap().1;
        append_to(&last).unwrap().write_all(&[AVERAGE_HALF]).unwrap();
        append_to(&rounds_path(&folder_of(folder.path(), LEASE))).unwrap().write_all(&[9, 0]).unwrap();

        let kept = Kept::read(folder.path(), LEASE).unwrap();
        let rounds: Vec<u64> = (5..40).chain(43..50).collect();
        let place = CommitmentPlace { chain: Hash::of(b"c"), job: JobId(1), lease: LEASE, rank: 1 };
        let mut range = MountainRange::default();
        rounds.iter().for_each(|round| range.push(commitment(*round).leaf(&place)));
        for (index, round) in (0..).zip(&rounds) {
            let (opened, proof) = kept.open(&place, index, rounds.len() as u64).unwrap();
            assert_eq!(opened, commitment(*round));
            assert_eq!(proof.root(&opened.leaf(&place), index, rounds.len() as u64), Some(range.root()));
            let evidence = kept.evidence(index).unwrap().unwrap();
            assert_eq!((evidence.round, evidence.applied), (*round, *round));
            let base = round - evidence.averages.len() as u64;
            assert!(evidence.averages.len() < 16 && evidence.state == vec![base as u8; 16], "round {round}");
            let averages: Vec<Vec<u8>> = (base..*round).map(|round| floats_to_bytes(&[round as f32; 4])).collect();
            assert_eq!(evidence.averages, averages);
            assert_eq!((evidence.shards.len(), evidence.team), (if *round < 20 { 2 } else { 1 }, vec![0, 1]));
        }
        assert!(kept.open(&place, 0, 1_000).is_none() && kept.evidence(1_000).unwrap().is_none());
    }

    const AVERAGE_HALF: u8 = 2;

    #[tokio::test]
    async fn in_local_each_round_has_a_state_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Archive::open(folder.path().to_owned()).unwrap(), LEASE, true, true);
        keep(&mut keeper, 0..40, 16).await;
        let kept = Kept::read(folder.path(), LEASE).unwrap();
        for round in 0..40 {
            let evidence = kept.evidence(round).unwrap().unwrap();
            assert!(evidence.averages.is_empty() && evidence.state == vec![round as u8; 16]);
        }
    }

    #[tokio::test]
    async fn over_the_budget_the_oldest_rounds_lose_their_inputs_and_keep_their_commitments() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::with_budget(folder.path().to_owned(), 100_000).unwrap();
        let mut keeper = Keeper::new(archive, LEASE, false, true);
        keep(&mut keeper, 0..100, 4_000).await;
        let kept = Kept::read(folder.path(), LEASE).unwrap();
        assert!(kept.evidence(0).unwrap().is_none() && kept.evidence(99).unwrap().is_some());
        let place = CommitmentPlace { chain: Hash::of(b"c"), job: JobId(1), lease: LEASE, rank: 1 };
        assert_eq!(kept.open(&place, 0, 100).unwrap().0, commitment(0));
        // Another life of the agent counts what is there.
        drop(keeper);
        let archive = Archive::with_budget(folder.path().to_owned(), 50_000).unwrap();
        let mut keeper = Keeper::new(archive, LeaseId(4), false, true);
        keep(&mut keeper, 0..1, 4_000).await;
        assert!(kept.evidence(60).unwrap().is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_where_nobody_will_ask() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Archive::open(folder.path().to_owned()).unwrap(), LEASE, false, false);
        keep(&mut keeper, 0..3, 16).await;
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
