//! What a worker keeps of its rounds on disk, so that somebody else can compute any of them again (DESIGN section 7).
//!
//! ```text
//! <home>/audits/<lease>/rounds             settings and commitments, one after the other
//!                      /<applied>.segment  states, and the averages that were applied after them
//! ```
//!
//! The state before a round is the last one that was kept before it, with all averages from there on applied. In `local` the
//! optimizer's own steps are a part of the state, and each round has one.
//!
//! Both files only grow. What a killed agent left half-written at their ends is passed over.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_job::Evidence;
use deepmarket_types::{CommitmentPlace, Hash, LeafProof, LeaseId, RoundCommitment, decode, encode};

/// The most bytes of one entry of the list of rounds: it guards against a broken length.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// The most bytes of a state or an average.
const MAX_FRAME_BYTES: u64 = Evidence::MAX_BYTES as u64;
const STATE: u8 = 1;
const AVERAGE: u8 = 2;

/// An entry of the list of rounds.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Record {
    /// What the rounds from here on have in common.
    Setting(Setting),
    /// A round with its commitment.
    Round {
        commitment: RoundCommitment,
        /// Rounds that were applied when it was computed.
        applied: u64,
    },
}

/// Who worked on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Setting {
    /// The worker's training shards, ascending.
    pub shards: Vec<u32>,
    /// The ranks of the team, in order.
    pub team: Vec<u32>,
}

impl Record {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let bytes = encode(self);
        to.write_all(&(bytes.len() as u32).to_le_bytes())?;
        to.write_all(&bytes)
    }
}

/// A state after so many rounds, or an average that was applied after so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    State,
    Average,
}

impl Frame {
    /// Appends one; returns its bytes on disk.
    pub fn write(self, to: &mut impl Write, applied: u64, bytes: &[u8]) -> io::Result<u64> {
        let kind = match self {
            Frame::State => STATE,
            Frame::Average => AVERAGE,
        };
        to.write_all(&[kind])?;
        to.write_all(&applied.to_le_bytes())?;
        to.write_all(&(bytes.len() as u64).to_le_bytes())?;
        to.write_all(bytes)?;
        Ok(17 + bytes.len() as u64)
    }
}

/// The folder of a lease.
pub(crate) fn folder_of(archive: &Path, lease: LeaseId) -> PathBuf {
    archive.join(lease.to_string())
}

/// The list of rounds.
pub(crate) fn rounds_path(folder: &Path) -> PathBuf {
    folder.join("rounds")
}

/// The segment that begins with a state after so many rounds. Names sort as numbers do.
pub(crate) fn segment_path(folder: &Path, applied: u64) -> PathBuf {
    folder.join(format!("{applied:020}.segment"))
}

/// The first state's rounds, by a segment's path.
fn segment_begin(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".segment")?.parse().ok()
}

/// All segments of a lease, in order.
pub(crate) fn segments(folder: &Path) -> Vec<(u64, PathBuf)> {
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut segments: Vec<(u64, PathBuf)> = files.filter_map(|path| Some((segment_begin(&path)?, path))).collect();
    segments.sort();
    segments
}

/// A state that was kept, and what was applied after it.
type Base = (Vec<u8>, Vec<Vec<u8>>);

/// What is kept of one lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    folder: PathBuf,
    settings: Vec<Setting>,
    /// Commitment, applied rounds, and which setting.
    rounds: Vec<(RoundCommitment, u64, usize)>,
}

impl Kept {
    /// Reads a lease's list of rounds.
    pub fn read(archive: &Path, lease: LeaseId) -> io::Result<Kept> {
        let folder = folder_of(archive, lease);
        let mut file = io::BufReader::new(fs::File::open(rounds_path(&folder))?);
        let (mut settings, mut rounds) = (Vec::new(), Vec::new());
        while let Some(record) = next_record(&mut file)? {
            match record {
                Record::Setting(setting) => settings.push(setting),
                Record::Round { commitment, applied } if !settings.is_empty() => {
                    rounds.push((commitment, applied, settings.len() - 1));
                }
                Record::Round { .. } => return Err(io::Error::new(io::ErrorKind::InvalidData, "a round without a setting")),
            }
        }
        Ok(Kept { folder, settings, rounds })
    }

    /// A round's commitment with its proof, among the first `committed`.
    pub fn open(&self, place: &CommitmentPlace, index: u64, committed: u64) -> Option<(RoundCommitment, LeafProof)> {
        let rounds = self.rounds.get(..usize::try_from(committed).ok()?)?;
        let leaves: Vec<Hash> = rounds.iter().map(|(commitment, ..)| commitment.leaf(place)).collect();
        Some((rounds.get(index as usize)?.0, LeafProof::of(&leaves, index)?))
    }

    /// The inputs of a round; none where they were thrown away for want of room, or never came to the disk.
    pub fn evidence(&self, index: u64) -> io::Result<Option<Evidence>> {
        let Some((commitment, applied, setting)) = self.rounds.get(index as usize) else { return Ok(None) };
        let Setting { shards, team } = self.settings[*setting].clone();
        let Some((state, averages)) = self.state(*applied)? else { return Ok(None) };
        Ok(Some(Evidence {
            round: commitment.round,
            state,
            averages,
            applied: *applied,
            shards,
            team,
            update: None,
            steps: None,
        }))
    }

    /// The state after so many rounds: the last that was kept before it, and the averages since.
    fn state(&self, applied: u64) -> io::Result<Option<Base>> {
        let Some((_, path)) = segments(&self.folder).into_iter().rfind(|(begin, _)| *begin <= applied) else { return Ok(None) };
        let mut file = io::BufReader::new(fs::File::open(path)?);
        let (mut found, mut at) = (None, 0);
        while let Some((kind, place, bytes)) = next_frame(&mut file)? {
            match (kind, &mut found) {
                (Frame::State, _) if place <= applied => (found, at) = (Some((bytes, Vec::new())), place),
                (Frame::Average, Some((_, averages))) if place == at && place < applied => {
                    averages.push(bytes);
                    at += 1;
                }
                _ => {}
            }
        }
        Ok(found.filter(|_| at == applied))
    }
}

/// The next entry; none at the end, be it a clean one or not.
fn next_record(from: &mut impl Read) -> io::Result<Option<Record>> {
    let mut length = [0; 4];
    if !read_whole(from, &mut length)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_RECORD_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an entry of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    if !read_whole(from, &mut bytes)? {
        return Ok(None);
    }
    decode(&bytes).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
}

fn next_frame(from: &mut impl Read) -> io::Result<Option<(Frame, u64, Vec<u8>)>> {
    let mut header = [0; 17];
    if !read_whole(from, &mut header)? {
        return Ok(None);
    }
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let kind = match header[0] {
        STATE => Frame::State,
        AVERAGE => Frame::Average,
        _ => return Err(broken("neither a state nor an average")),
    };
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let (applied, length) = (number(1), number(9));
    if length > MAX_FRAME_BYTES {
        return Err(broken("it is longer than any state"));
    }
    let mut bytes = vec![0; length as usize];
    Ok(read_whole(from, &mut bytes)?.then_some((kind, applied, bytes)))
}

/// False where the file ends before.
fn read_whole(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
