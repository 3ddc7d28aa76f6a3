//! A trainer that lies: it stands between an agent and the real trainer.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, PipeReader, PipeWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    thread::sleep,
    time::{Duration, Instant},
};

use deepmarket_job::{
    DatasetManifest, JobSpec, Mode, Schedule,
    protocol::{Part, Reply, Request, bytes_to_floats, floats_to_bytes, read_frame, write_frame},
};
use deepmarket_types::Hash;

/// Rounds for which a trainer with old parameters keeps them.
const KEPT_ROUNDS: u64 = 8;
/// How long another's result is waited for.
const COPY_WITHIN: Duration = Duration::from_secs(5);

/// How a trainer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Not at all.
    Honest,
    /// It reports rounds that it never computed (in `local` the real one computes them, so that it can follow the others, and what it
    /// gave is thrown away).
    Idle,
    /// It works on half of its shards: fewer steps in `local`, smaller batches otherwise.
    FewerSamples,
    /// It computes on parameters that it renews every [`KEPT_ROUNDS`] rounds only.
    OldParameters,
    /// It sends the update with its signs flipped.
    FlipSigns,
    /// It tells twice the samples.
    ClaimMore,
    /// It is honest, and leaves what it tells in a folder.
    Publish(PathBuf),
    /// It tells what another one left in a folder.
    Copy(PathBuf),
}

impl FromStr for Lie {
    type Err = String;

    fn from_str(name: &str) -> Result<Lie, String> {
        Ok(match name.split_once('=').unwrap_or((name, "")) {
            ("honest", _) => Lie::Honest,
            ("idle", _) => Lie::Idle,
            ("fewer-samples", _) => Lie::FewerSamples,
            ("old-parameters", _) => Lie::OldParameters,
            ("flip-signs", _) => Lie::FlipSigns,
            ("claim-more", _) => Lie::ClaimMore,
            ("publish", folder) => Lie::Publish(folder.into()),
            ("copy", folder) => Lie::Copy(folder.into()),
            _ => return Err(format!("no lie is called {name}")),
        })
    }
}

/// Serves an agent over stdin and stdout, lying, until it is told to stop. `start` gives the real trainer that it asks:
/// [`Real::program`], or [`Real::in_a_thread`] where this process is confined as a trainer is and may start none.
pub fn lying_trainer(lie: &Lie, start: impl Fn() -> io::Result<Real>) -> io::Result<()> {
    let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
    let mut liar = Liar {
        real: start()?,
        stale: matches!(lie, Lie::OldParameters).then(start).transpose()?,
        lie: lie.clone(),
        schedule: None,
        is_local: false,
        floats: 0,
        shards: 0,
        sizes: BTreeMap::new(),
        train: Vec::new(),
        applied: 0,
    };
    while let Some(request) = read_frame::<Request>(&mut from)? {
        let is_last = request == Request::Stop;
        let reply = liar.answer(request)?;
        write_frame(&mut to, &reply)?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// A real trainer.
pub struct Real {
    to: Box<dyn Write>,
    from: Box<dyn Read>,
    child: Option<Child>,
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Real {
    /// A program.
    pub fn program(path: &Path, arguments: &[String]) -> io::Result<Real> {
        let mut child = Command::new(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let missing = || io::Error::other("the process has no pipes");
        let (to, from) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
        Ok(Real { to: Box::new(to), from: Box::new(from), child: Some(child) })
    }

    /// A thread of this process: `serve` reads requests and writes replies until the pipe is closed, as the trainer's library does.
    pub fn in_a_thread(serve: impl FnOnce(PipeReader, PipeWriter) + Send + 'static) -> io::Result<Real> {
        let ((requests, to), (from, replies)) = (io::pipe()?, io::pipe()?);
        std::thread::spawn(move || serve(requests, replies));
        Ok(Real { to: Box::new(to), from: Box::new(from), child: None })
    }

    fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        write_frame(&mut self.to, request)?;
        read_frame(&mut self.from)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

struct Liar {
    real: Real,
    /// One that holds old parameters.
    stale: Option<Real>,
    lie: Lie,
    schedule: Option<Schedule>,
    is_local: bool,
    floats: u64,
    /// Shards of the whole training split, and the samples of those that were given.
    shards: u32,
    sizes: BTreeMap<u32, u64>,
    train: Vec<u32>,
    applied: u64,
}

impl Liar {
    fn answer(&mut self, request: Request) -> io::Result<Reply> {
        match &request {
            Request::Start { spec, world, train_samples, data, .. } => {
                if let (Ok(spec), Ok(manifest)) = (JobSpec::from_bytes(spec), DatasetManifest::from_bytes(data)) {
                    self.schedule = Some(Schedule::new(&spec, *train_samples, *world));
                    self.is_local = matches!(spec.training.mode, Mode::Local { .. });
                    self.shards = manifest.split(&spec.data.train).map_or(0, |split| split.shards.len() as u32);
                }
            }
            Request::Assign { train, validate } => {
                self.train.clone_from(train);
                if self.lie == Lie::FewerSamples {
                    let train = train[..train.len().div_ceil(2)].to_vec();
                    return self.real.ask(&Request::Assign { train, validate: validate.clone() });
                }
            }
            Request::Round { round } => return self.round(*round),
            Request::Apply { .. } => return self.apply(&request),
            _ => {}
        }
        let reply = self.real.ask(&request)?;
        match (&request, &reply) {
            (Request::Start { .. }, Reply::Started { floats, .. }) => self.floats = *floats,
            (Request::Shard { part: Part::Train, index, .. }, Reply::Loaded { samples }) => {
                self.sizes.insert(*index, *samples);
            }
            (Request::Restore { .. }, Reply::Restored { round, .. }) => self.applied = *round,
            _ => {}
        }
        let sets_up = matches!(
            request,
            Request::Start { .. }
                | Request::Shard { .. }
                | Request::Assign { .. }
                | Request::Restore { .. }
                | Request::LoadModel { .. }
        );
        if let Some(stale) = self.stale.as_mut().filter(|_| sets_up) {
            stale.ask(&request)?;
        }
        Ok(reply)
    }

    /// The samples that an honest worker gives to a round.
    fn samples(&self, round: u64) -> u64 {
        let Some(schedule) = &self.schedule else { return 0 };
        let of_shard = |shard: &u32| {
            let slice = schedule.slice(round, *shard, self.shards, self.sizes.get(shard).copied().unwrap_or(0));
            slice.end - slice.start
        };
        self.train.iter().map(of_shard).sum()
    }

    fn round(&mut self, round: u64) -> io::Result<Reply> {
        let (lie, due) = (self.lie.clone(), self.samples(round));
        if lie == Lie::Idle && !self.is_local {
            return Ok(self.made_up(round, due));
        }
        let mut reply = self.real.ask(&Request::Round { round })?;
        let Reply::Update { values, samples, inputs, steps, output, .. } = &mut reply else { return Ok(reply) };
        match &lie {
            Lie::Honest => {}
            Lie::Idle => return Ok(self.made_up(round, due)),
            Lie::FewerSamples => *samples = due,
            Lie::ClaimMore => *samples *= 2,
            Lie::FlipSigns => {
                let flipped: Vec<f32> = bytes_to_floats(values).unwrap_or_default().into_iter().map(|value| -value).collect();
                *values = floats_to_bytes(&flipped);
            }
            Lie::OldParameters => {
                let present = *inputs;
                if let Some(stale) = &mut self.stale
                    && let mut old @ Reply::Update { .. } = stale.ask(&Request::Round { round })?
                {
                    if let Reply::Update { inputs, .. } = &mut old {
                        *inputs = present;
                    }
                    return Ok(old);
                }
            }
            Lie::Publish(folder) => publish(folder, round, &reply)?,
            Lie::Copy(folder) => {
                if let Some(Reply::Update { values: v, steps: s, output: o, .. }) = copy(folder, round) {
                    (*values, *steps, *output) = (v, s, o);
                }
            }
        }
        Ok(reply)
    }

    fn made_up(&self, round: u64, samples: u64) -> Reply {
        let hash = |name: &[u8]| Hash::tagged("deepmarket/v1/made-up", &[name, &round.to_le_bytes()]);
        let noise = |n: u64| ((n.wrapping_mul(2_654_435_761).wrapping_add(round) % 1_000) as f32 - 500.0) * 1e-7;
        let values: Vec<f32> = (0..self.floats).map(noise).collect();
        Reply::Update {
            values: floats_to_bytes(&values),
            samples,
            loss_sum: (samples as f64).to_bits(),
            cpu_ms: 5,
            inputs: hash(b"inputs"),
            steps: hash(b"steps"),
            output: hash(b"output"),
            peak_ram_mib: 64,
        }
    }

    fn apply(&mut self, request: &Request) -> io::Result<Reply> {
        let reply = self.real.ask(request)?;
        self.applied += u64::from(matches!(reply, Reply::Applied { .. }));
        let Some(stale) = &mut self.stale else { return Ok(reply) };
        if self.applied.is_multiple_of(KEPT_ROUNDS) {
            if let Reply::Saved { state, .. } = self.real.ask(&Request::Save { trained: 0 })? {
                stale.ask(&Request::Restore { state })?;
            }
        } else {
            // A step along nothing: the round goes on, the parameters don't.
            stale.ask(&Request::Apply { values: vec![0; 4 * self.floats as usize] })?;
        }
        Ok(reply)
    }
}

fn published(folder: &Path, round: u64) -> PathBuf {
    folder.join(format!("round-{round}"))
}

fn publish(folder: &Path, round: u64, reply: &Reply) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (path, mut bytes) = (published(folder, round), Vec::new());
    write_frame(&mut bytes, reply)?;
    fs::write(path.with_extension("unfinished"), bytes)?;
    fs::rename(path.with_extension("unfinished"), path)
}

fn copy(folder: &Path, round: u64) -> Option<Reply> {
    let began = Instant::now();
    loop {
        if let Ok(bytes) = fs::read(published(folder, round)) {
            return read_frame(&mut bytes.as_slice()).ok().flatten();
        }
        if began.elapsed() > COPY_WITHIN {
            return None;
        }
        sleep(Duration::from_millis(5));
    }
}
