//! The trainer as a child process: started, asked, watched, ended.

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use deepmarket_job::protocol::{self, EXIT_OUT_OF_MEMORY, MAX_FRAME_BYTES, Part, Reply, Request};
use deepmarket_net::part_hashes;
use deepmarket_sandbox::{Confinement, Guard, Means};
use deepmarket_types::{FailureReason, Hash, Resources, RoundOutcome, exchange_root};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::watch::{Watch, end_group};

/// How long building a model or taking over a shard or a state may take.
const SETUP_WITHIN: Duration = Duration::from_secs(180);
/// How long a round, an evaluation or an export may take.
pub(crate) const ROUND_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long a trainer may take to end.
const END_WITHIN: Duration = Duration::from_secs(3);
/// How much of what a trainer prints is kept.
const LAST_WORDS_BYTES: usize = 4096;
/// Lines of it that an error shows.
const LAST_WORDS_LINES: usize = 6;

/// What a trainer may use.
pub use deepmarket_sandbox::Limits as TrainerLimits;

/// Why a trainer can't go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The program can't be started.
    #[error("the trainer {path} can't be started: {source}; build it, or set DEEPMARKET_TRAINER to its path")]
    Start {
        /// The program.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// It said that it can't do what was asked.
    #[error("{message}")]
    Failed {
        /// Why, as a receipt says it.
        reason: FailureReason,
        /// Why, in words.
        message: String,
    },
    /// It ended.
    #[error("the trainer ended ({how}){last_words}")]
    Ended {
        /// Why, as a receipt says it.
        reason: FailureReason,
        /// Its exit status in words.
        how: String,
        /// The last lines that it printed.
        last_words: String,
    },
    /// It didn't answer in time.
    #[error("the trainer took more than {} s for {asked} and was ended{last_words}", .after.as_secs())]
    Silent {
        /// What it was asked.
        asked: &'static str,
        /// The deadline.
        after: Duration,
        /// The last lines that it printed.
        last_words: String,
    },
    /// It answered something else than what it was asked.
    #[error("the trainer answered {asked} with {answer}: is it of another release?")]
    Confused {
        /// What it was asked.
        asked: &'static str,
        /// What it answered.
        answer: &'static str,
    },
}

impl TrainerError {
    /// The stable code that logs and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            TrainerError::Start { .. } => 6011,
            TrainerError::Failed { .. } => 6012,
            TrainerError::Ended { .. } => 6013,
            TrainerError::Silent { .. } => 6014,
            TrainerError::Confused { .. } => 6015,
        }
    }

    /// What a lease's last receipt says of it.
    pub fn reason(&self) -> FailureReason {
        match self {
            TrainerError::Failed { reason, .. } | TrainerError::Ended { reason, .. } => *reason,
            _ => FailureReason::TrainerCrashed,
        }
    }
}

/// The trainer's program, and how what is lent to it is enforced.
#[derive(Clone, Debug)]
pub struct TrainerProgram {
    /// Where it is.
    pub path: PathBuf,
    /// How its limits are enforced.
    pub means: Means,
}

impl From<PathBuf> for TrainerProgram {
    fn from(path: PathBuf) -> Self {
        TrainerProgram { path, means: Means::Best }
    }
}

impl TrainerProgram {
    /// Starts it with what a lease or an audit may use.
    pub(crate) fn start(&self, lent: &Resources) -> Result<TrainerProcess, TrainerError> {
        let limits = TrainerLimits { cores: Some(lent.cores), ram_mib: Some(lent.ram_mib), means: self.means };
        TrainerProcess::spawn(&self.path, &limits)
    }
}

/// A trainer in a process of its own, spoken to over pipes. It is killed when this is dropped.
///
/// A request whose future was dropped half-way leaves the pipes out of step: drop the process then.
#[derive(Debug)]
pub struct TrainerProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    listener: tokio::task::JoinHandle<()>,
    watch: Option<Watch>,
    confinement: Confinement,
}

/// What a round gave.
pub(crate) struct Update {
    pub values: Vec<f32>,
    pub samples: u64,
    pub loss_sum: f64,
    pub cpu_ms: u64,
    /// What the round was computed from, the states after its steps, and what it gave.
    pub inputs: Hash,
    pub steps: Hash,
    pub output: Hash,
    /// What each member of the team will be sent of it, by name, in order of position.
    pub parts: Vec<Hash>,
    pub peak_ram_mib: u64,
}

impl Update {
    /// What is committed to.
    pub fn outcome(&self) -> RoundOutcome {
        let Update { inputs, steps, output, samples, .. } = *self;
        RoundOutcome { inputs, steps, output, exchange: exchange_root(&self.parts), samples }
    }
}

/// Sums over the samples of validation shards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct EvaluationSums {
    pub samples: u64,
    pub correct: Option<u64>,
    pub loss_sum: f64,
}

/// What one step gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// Of a round's first step: what the round's inputs must be.
    pub inputs: Option<Hash>,
    /// The state before the step, and after it.
    pub before: Hash,
    pub after: Hash,
}

/// A model's outputs for one shard.
pub(crate) struct Prediction {
    /// Little-endian floats, sample by sample.
    pub outputs: Vec<u8>,
    /// The shape of one sample's outputs.
    pub shape: Vec<u32>,
    /// What the shard's targets say of them.
    pub sums: EvaluationSums,
}

impl TrainerProcess {
    /// Starts a trainer: confined before its program begins, in a process group of its own (a Ctrl-C in the terminal is the
    /// agent's to handle), with an almost empty environment.
    ///
    /// Call it on a thread of the runtime that stays: the kernel kills the trainer when the thread that started it ends.
    pub fn spawn(path: &Path, limits: &TrainerLimits) -> Result<TrainerProcess, TrainerError> {
        let start = |source| TrainerError::Start { path: path.display().to_string(), source };
        // A child starts in another folder.
        let program = path.canonicalize().map_err(start)?;
        let mut command = Command::new(program);
        if let Some(ram_mib) = limits.ram_mib {
            command.arg("--ram-mib").arg(ram_mib.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let confinement = Confinement::prepare(&mut command, limits).map_err(|e| start(io::Error::other(e)))?;
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(start)?;
        let missing = || io::Error::other("the process has no pipes");
        let stdin = child.stdin.take().ok_or_else(missing).map_err(start)?;
        let stdout = child.stdout.take().ok_or_else(missing).map_err(start)?;
        let stderr = child.stderr.take().ok_or_else(missing).map_err(start)?;
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let listener = tokio::spawn(listen(stderr, last_words.clone()));
        let pid = child.id();
        pid.inspect(|pid| confinement.started(*pid));
        let watch = pid.zip(limits.ram_mib).map(|(pid, ram_mib)| Watch::start(pid, ram_mib));
        Ok(TrainerProcess { child, stdin, stdout, last_words, listener, watch, confinement })
    }

    /// What is enforced of this trainer's confinement.
    pub fn guards(&self) -> &[Guard] {
        self.confinement.guards()
    }

    /// The process's id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a request and waits for its reply. [`Reply::Failed`], the process's end and silence are errors.
    pub async fn ask(&mut self, request: &Request, within: Duration) -> Result<Reply, TrainerError> {
        match timeout(within, self.exchange(request)).await {
            Ok(Ok(Reply::Failed { reason, message })) => Err(TrainerError::Failed { reason, message }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.find_out(error).await),
            Err(_) => {
                self.child.start_kill().ok();
                let last_words = self.last_words();
                Err(TrainerError::Silent { asked: name_of_request(request), after: within, last_words })
            }
        }
    }

    async fn exchange(&mut self, request: &Request) -> io::Result<Reply> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, format!("a frame is longer than {MAX_FRAME_BYTES} bytes"));
        let body = deepmarket_types::encode(request);
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME_BYTES).ok_or_else(too_long)?;
        self.stdin.write_all(&length.to_le_bytes()).await?;
        self.stdin.write_all(&body).await?;
        self.stdin.flush().await?;
        let length = self.stdout.read_u32_le().await? as usize;
        if length > MAX_FRAME_BYTES {
            return Err(too_long());
        }
        let mut body = Vec::with_capacity(length.min(1 << 20));
        (&mut self.stdout).take(length as u64).read_to_end(&mut body).await?;
        if body.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        protocol::decode_body(&body)
    }

    /// After the pipes broke: how did the process end?
    async fn find_out(&mut self, error: io::Error) -> TrainerError {
        let status = timeout(END_WITHIN, self.child.wait()).await;
        // What it printed last is still in the pipe.
        timeout(END_WITHIN, &mut self.listener).await.ok();
        let last_words = self.last_words();
        let (reason, how) = match status {
            Ok(Ok(status)) => self.verdict(status, &last_words),
            // It lives, but doesn't speak our protocol any more.
            _ => {
                self.child.start_kill().ok();
                (FailureReason::TrainerCrashed, error.to_string())
            }
        };
        TrainerError::Ended { reason, how, last_words }
    }

    /// What its end means.
    fn verdict(&self, status: ExitStatus, last_words: &str) -> (FailureReason, String) {
        if let Some(mib) = self.watch.as_ref().and_then(Watch::excess_mib) {
            return (FailureReason::OutOfMemory, format!("it held {mib} MiB, more than was lent, and was ended"));
        }
        if is_out_of_memory(status, last_words) || (status.code().is_none() && self.confinement.ran_out_of_memory()) {
            return (FailureReason::OutOfMemory, format!("{status}: the lent memory was used up"));
        }
        (FailureReason::TrainerCrashed, status.to_string())
    }

    fn last_words(&self) -> String {
        let bytes: Vec<u8> = self.last_words.lock().expect("nobody panics while printing").iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        match &lines[lines.len().saturating_sub(LAST_WORDS_LINES)..] {
            [] => String::new(),
            last => format!("; it printed: {}", last.join(" / ")),
        }
    }

    /// Asks it to end, and kills it if it doesn't.
    pub async fn stop(mut self) {
        let asked = self.ask(&Request::Stop, END_WITHIN).await;
        if asked.is_err() || timeout(END_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await.ok();
        }
    }

    /// Builds the model; returns the hash of its initial parameters.
    pub(crate) async fn start(&mut self, request: Request) -> Result<Hash, TrainerError> {
        match self.ask(&request, SETUP_WITHIN).await? {
            Reply::Started { parameters, .. } => Ok(parameters),
            other => Err(confused("Start", &other)),
        }
    }

    /// Gives a shard; returns its samples.
    pub(crate) async fn shard(&mut self, part: Part, index: u32, bytes: Vec<u8>) -> Result<u64, TrainerError> {
        match self.ask(&Request::Shard { part, index, bytes }, SETUP_WITHIN).await? {
            Reply::Loaded { samples } => Ok(samples),
            other => Err(confused("Shard", &other)),
        }
    }

    /// Says which shards to work on.
    pub(crate) async fn assign(&mut self, train: Vec<u32>, validate: Vec<u32>) -> Result<(), TrainerError> {
        match self.ask(&Request::Assign { train, validate }, SETUP_WITHIN).await? {
            Reply::Assigned { .. } => Ok(()),
            other => Err(confused("Assign", &other)),
        }
    }

    /// The model's outputs for a validation shard.
    pub(crate) async fn predict(&mut self, index: u32) -> Result<Prediction, TrainerError> {
        match self.ask(&Request::Predict { index }, ROUND_WITHIN).await? {
            Reply::Predicted { outputs, shape, samples, correct, loss_sum } => {
                let sums = EvaluationSums { samples, correct, loss_sum: f64::from_bits(loss_sum) };
                Ok(Prediction { outputs, shape, sums })
            }
            other => Err(confused("Predict", &other)),
        }
    }

    /// The whole state.
    pub(crate) async fn save(&mut self, trained: u64) -> Result<Vec<u8>, TrainerError> {
        match self.ask(&Request::Save { trained }, ROUND_WITHIN).await? {
            Reply::Saved { state, .. } => Ok(state),
            other => Err(confused("Save", &other)),
        }
    }

    /// Goes back to a saved state; returns the hash of its parameters, the next round, and the samples of the running epoch that
    /// were trained on.
    pub(crate) async fn restore(&mut self, state: Vec<u8>) -> Result<(Hash, u64, u64), TrainerError> {
        match self.ask(&Request::Restore { state }, SETUP_WITHIN).await? {
            Reply::Restored { parameters, round, trained } => Ok((parameters, round, trained)),
            other => Err(confused("Restore", &other)),
        }
    }

    /// Computes a round that a team of so many members will average.
    pub(crate) async fn round(&mut self, round: u64, members: usize) -> Result<Update, TrainerError> {
        match self.ask(&Request::Round { round }, ROUND_WITHIN).await? {
            Reply::Update { values, samples, loss_sum, cpu_ms, inputs, steps, output, peak_ram_mib } => {
                let broken = TrainerError::Confused { asked: "Round", answer: "an update that isn't floats" };
                let parts = part_hashes(&values, members as u32);
                let values = protocol::bytes_to_floats(&values).ok_or(broken)?;
                let loss_sum = f64::from_bits(loss_sum);
                // What is seen from outside counts too: a confined trainer may not be able to look.
                let peak_ram_mib = peak_ram_mib.max(self.watch.as_ref().map_or(0, Watch::peak_mib));
                Ok(Update { values, samples, loss_sum, cpu_ms, inputs, steps, output, parts, peak_ram_mib })
            }
            other => Err(confused("Round", &other)),
        }
    }

    /// The hashes of the states after the steps of a round.
    pub(crate) async fn trace(&mut self, round: u64) -> Result<Vec<Hash>, TrainerError> {
        match self.ask(&Request::Trace { round }, ROUND_WITHIN).await? {
            Reply::Traced { steps, .. } => Ok(steps),
            other => Err(confused("Trace", &other)),
        }
    }

    /// The state before a step of a round.
    pub(crate) async fn save_step(&mut self, round: u64, step: u32) -> Result<Vec<u8>, TrainerError> {
        match self.ask(&Request::SaveStep { round, step }, ROUND_WITHIN).await? {
            Reply::Saved { state, .. } => Ok(state),
            other => Err(confused("SaveStep", &other)),
        }
    }

    /// Computes one step of a round from the state before it.
    pub(crate) async fn step(&mut self, round: u64, step: u32, state: Vec<u8>) -> Result<Stepped, TrainerError> {
        match self.ask(&Request::Step { round, step, state }, ROUND_WITHIN).await? {
            Reply::Stepped { inputs, before, after } => Ok(Stepped { inputs, before, after }),
            other => Err(confused("Step", &other)),
        }
    }

    /// Takes over the average; returns the hash of the parameters after it.
    pub(crate) async fn apply(&mut self, values: &[f32]) -> Result<Hash, TrainerError> {
        match self.ask(&Request::Apply { values: protocol::floats_to_bytes(values) }, ROUND_WITHIN).await? {
            Reply::Applied { parameters } => Ok(parameters),
            other => Err(confused("Apply", &other)),
        }
    }

    /// Evaluates the model on the validation shards that were given.
    pub(crate) async fn evaluate(&mut self) -> Result<EvaluationSums, TrainerError> {
        match self.ask(&Request::Evaluate, ROUND_WITHIN).await? {
            Reply::Evaluated { samples, correct, loss_sum } => {
                Ok(EvaluationSums { samples, correct, loss_sum: f64::from_bits(loss_sum) })
            }
            other => Err(confused("Evaluate", &other)),
        }
    }

    /// Loads a model that an export wrote; returns the hash of its parameters.
    pub(crate) async fn load_model(&mut self, safetensors: Vec<u8>) -> Result<Hash, TrainerError> {
        match self.ask(&Request::LoadModel { safetensors }, SETUP_WITHIN).await? {
            Reply::Restored { parameters, .. } => Ok(parameters),
            other => Err(confused("LoadModel", &other)),
        }
    }

    /// The model as a safetensors file.
    pub(crate) async fn export(&mut self) -> Result<Vec<u8>, TrainerError> {
        match self.ask(&Request::Export, ROUND_WITHIN).await? {
            Reply::Model { safetensors } => Ok(safetensors),
            other => Err(confused("Export", &other)),
        }
    }
}

async fn listen(mut stderr: ChildStderr, last_words: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut words = last_words.lock().expect("nobody panics while printing");
        words.extend(&buffer[..read]);
        let excess = words.len().saturating_sub(LAST_WORDS_BYTES);
        words.drain(..excess);
    }
}

/// Whether a status and last words are those of a program without memory: Rust's allocator aborts after printing a line; a trainer
/// that caught the failed allocation exits with a status of its own.
fn is_out_of_memory(status: ExitStatus, last_words: &str) -> bool {
    status.code() == Some(EXIT_OUT_OF_MEMORY) || last_words.contains("memory allocation of")
}

impl Drop for TrainerProcess {
    fn drop(&mut self) {
        // Where a program could start others, they end with it.
        if let Some(pid) = self.child.id() {
            end_group(pid);
        }
    }
}

fn confused(asked: &'static str, answer: &Reply) -> TrainerError {
    TrainerError::Confused { asked, answer: name_of_reply(answer) }
}

fn name_of_request(request: &Request) -> &'static str {
    match request {
        Request::Start { .. } => "Start",
        Request::Shard { .. } => "Shard",
        Request::Round { .. } => "Round",
        Request::Trace { .. } => "Trace",
        Request::SaveStep { .. } => "SaveStep",
        Request::Step { .. } => "Step",
        Request::Probe => "Probe",
        Request::Apply { .. } => "Apply",
        Request::Evaluate => "Evaluate",
        Request::Save { .. } => "Save",
        Request::Assign { .. } => "Assign",
        Request::Predict { .. } => "Predict",
        Request::Restore { .. } => "Restore",
        Request::Export => "Export",
        Request::LoadModel { .. } => "LoadModel",
        Request::Measure { .. } => "Measure",
        Request::Stop => "Stop",
    }
}

fn name_of_reply(reply: &Reply) -> &'static str {
    match reply {
        Reply::Started { .. } => "Started",
        Reply::Loaded { .. } => "Loaded",
        Reply::Update { .. } => "Update",
        Reply::Traced { .. } => "Traced",
        Reply::Stepped { .. } => "Stepped",
        Reply::Probed { .. } => "Probed",
        Reply::Applied { .. } => "Applied",
        Reply::Evaluated { .. } => "Evaluated",
        Reply::Saved { .. } => "Saved",
        Reply::Assigned { .. } => "Assigned",
        Reply::Predicted { .. } => "Predicted",
        Reply::Restored { .. } => "Restored",
        Reply::Model { .. } => "Model",
        Reply::Measured { .. } => "Measured",
        Reply::Failed { .. } => "Failed",
        Reply::Bye => "Bye",
    }
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Update of {} values over {} samples", self.values.len(), self.samples)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use deepmarket_sandbox::Means;

    use super::*;

    /// A program that isn't a trainer: what it does is what can go wrong. A script needs other programs, which no confined one
    /// may start.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("trainer");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn ask(script: &str, within: Duration) -> TrainerError {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), script);
        let limits = TrainerLimits { ram_mib: Some(64), means: Means::WatchedOnly, ..TrainerLimits::default() };
        // Another test's fork may hold the file open for writing for a moment ("text file busy").
        let mut trainer = loop {
            match TrainerProcess::spawn(&path, &limits) {
                Err(TrainerError::Start { source, .. }) if source.kind() == io::ErrorKind::ExecutableFileBusy => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => break other.unwrap(),
            }
        };
        trainer.ask(&Request::Evaluate, within).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_trainer_that_is_not_there_is_an_error_that_says_so() {
        let error = TrainerProcess::spawn(Path::new("/nowhere/trainer"), &TrainerLimits::default()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/trainer"), "{error}");
        assert_eq!((error.code(), error.reason()), (6011, FailureReason::TrainerCrashed));
    }

    #[tokio::test]
    async fn how_a_trainer_ended_is_told_with_its_last_words() {
        let within = Duration::from_secs(20);
        let crash = ask("head -c 5 > /dev/null; echo out of ideas >&2; exit 3", within).await;
        assert_eq!(crash.reason(), FailureReason::TrainerCrashed);
        assert!(crash.to_string().contains("out of ideas") && crash.to_string().contains('3'), "{crash}");
        let killed = ask("kill -9 $$", within).await;
        assert_eq!(killed.reason(), FailureReason::TrainerCrashed);
        assert!(killed.to_string().contains("signal"), "{killed}");
        assert_eq!(ask("exit 86", within).await.reason(), FailureReason::OutOfMemory);
        let aborted = ask("echo memory allocation of 4096 bytes failed >&2; kill -6 $$", within).await;
        assert_eq!(aborted.reason(), FailureReason::OutOfMemory);
        // A frame of 4 GiB, and one that is no reply.
        assert!(matches!(ask("printf '\\377\\377\\377\\377'; sleep 9", within).await, TrainerError::Ended { .. }));
        assert!(matches!(ask("printf '\\001\\000\\000\\000\\310'; sleep 9", within).await, TrainerError::Ended { .. }));
    }

    #[tokio::test]
    async fn a_silent_trainer_is_ended_at_the_deadline() {
        let error = ask("sleep 30", Duration::from_millis(300)).await;
        assert!(matches!(error, TrainerError::Silent { asked: "Evaluate", .. }), "{error}");
    }
}
