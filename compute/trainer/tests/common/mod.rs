//! A trainer process at the end of a pipe, and the average that workers would compute.
#![allow(dead_code)] // Each test uses a part.

use std::{
    io::{BufReader, BufWriter},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use deepmarket_job::{
    DatasetManifest, JobSpec, Shard,
    protocol::{Part, Reply, Request, bytes_to_floats, floats_to_bytes, read_frame, write_frame},
    share_out,
};
use deepmarket_types::Hash;

/// A `deepmarket-trainer` process; killed when dropped.
pub struct Process {
    child: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(trainer: &Path, arguments: &[&str]) -> Process {
        let mut child = Command::new(trainer)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the trainer starts");
        let to = BufWriter::new(child.stdin.take().expect("piped"));
        let from = BufReader::new(child.stdout.take().expect("piped"));
        Process { child, to, from }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, request: &Request) {
        write_frame(&mut self.to, request).expect("the trainer reads");
    }

    pub fn reply(&mut self) -> Reply {
        read_frame(&mut self.from).expect("a frame").expect("the trainer answers")
    }

    pub fn ask(&mut self, request: &Request) -> Reply {
        self.send(request);
        self.reply()
    }

    /// The answer, or none where the trainer ended.
    pub fn try_ask(&mut self, request: &Request) -> Option<Reply> {
        write_frame(&mut self.to, request).ok()?;
        read_frame(&mut self.from).ok()?
    }

    /// Starts a rank and gives it its shards.
    pub fn join(&mut self, spec: &JobSpec, dataset: &Dataset, rank: u32, world: u32) -> Hash {
        let train_samples = dataset.manifest.split(&spec.data.train).expect("a split").samples;
        let data = dataset.manifest.to_bytes();
        let reply = self.ask(&Request::Start { spec: spec.to_bytes(), seed: Hash::of(b"job"), world, train_samples, data });
        let Reply::Started { parameters, .. } = reply else { panic!("{reply:?}") };
        for (part, split) in [(Part::Train, &spec.data.train), (Part::Validate, &spec.data.validate)] {
            let shards = &dataset.manifest.split(split).expect("a split").shards;
            for index in share(shards, rank, world) {
                let bytes = dataset.shard(&shards[index as usize].hash).to_vec();
                let reply = self.ask(&Request::Shard { part, index, bytes });
                assert!(matches!(reply, Reply::Loaded { .. }), "{reply:?}");
            }
        }
        parameters
    }

    /// Waits for the process after its pipe was closed.
    pub fn end(mut self) -> ExitStatus {
        self.child.wait().expect("the trainer ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a rank holds of a split where all are equally fast.
fn share(shards: &[Shard], rank: u32, world: u32) -> Vec<u32> {
    let samples: Vec<u64> = shards.iter().map(|shard| shard.samples).collect();
    share_out(&samples, &vec![1; world as usize], &vec![Vec::new(); world as usize])[rank as usize].clone()
}

/// A manifest and its shards.
pub struct Dataset {
    pub manifest: DatasetManifest,
    pub shards: Vec<(Hash, Vec<u8>)>,
}

impl Dataset {
    fn shard(&self, hash: &Hash) -> &[u8] {
        &self.shards.iter().find(|(h, _)| h == hash).expect("the manifest's shards are there").1
    }
}

/// What a round of all ranks gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    pub parameters: Hash,
    /// Inputs, steps and output of each rank.
    pub outcomes: Vec<[Hash; 3]>,
    pub loss: f64,
    /// What was applied.
    pub average: Vec<u8>,
    pub cpu_ms: u64,
    pub peak_ram_mib: u64,
}

/// One round of all ranks: updates averaged in rank order, weighted by samples, as the workers do over the network. All
/// ranks must hold the same parameters afterwards.
pub fn round(ranks: &mut [Process], round: u64) -> Round {
    ranks.iter_mut().for_each(|rank| rank.send(&Request::Round { round }));
    let (mut average, mut all_samples, mut all_loss) = (Vec::new(), 0, 0.0);
    let (mut outcomes, mut all_cpu_ms, mut peak) = (Vec::new(), 0, 0);
    for rank in ranks.iter_mut() {
        match rank.reply() {
            Reply::Update { values, samples, loss_sum, cpu_ms, inputs, steps, output, peak_ram_mib } => {
                let values = bytes_to_floats(&values).expect("floats");
                average.resize(values.len(), 0.0_f32);
                average.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value * samples as f32);
                all_samples += samples;
                all_loss += f64::from_bits(loss_sum);
                outcomes.push([inputs, steps, output]);
                all_cpu_ms += cpu_ms;
                peak = peak.max(peak_ram_mib);
            }
            other => panic!("{other:?}"),
        }
    }
    average.iter_mut().for_each(|sum| *sum /= all_samples as f32);
    let values = floats_to_bytes(&average);
    ranks.iter_mut().for_each(|rank| rank.send(&Request::Apply { values: values.clone() }));
    let mut hashes: Vec<Hash> = ranks
        .iter_mut()
        .map(|rank| match rank.reply() {
            Reply::Applied { parameters } => parameters,
            other => panic!("{other:?}"),
        })
        .collect();
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "the ranks hold different parameters");
    Round {
        parameters: hashes[0],
        average: values,
        outcomes,
        loss: all_loss / all_samples as f64,
        cpu_ms: all_cpu_ms,
        peak_ram_mib: peak,
    }
}

/// All ranks evaluate their validation shards; (samples, correct, mean loss) of the whole split.
pub fn evaluate(ranks: &mut [Process]) -> (u64, u64, f64) {
    ranks.iter_mut().for_each(|rank| rank.send(&Request::Evaluate));
    let (mut all, mut right, mut loss) = (0, 0, 0.0);
    for rank in ranks.iter_mut() {
        match rank.reply() {
            Reply::Evaluated { samples, correct, loss_sum } => {
                all += samples;
                right += correct.unwrap_or(0);
                loss += f64::from_bits(loss_sum);
            }
            other => panic!("{other:?}"),
        }
    }
    (all, right, loss / all as f64)
}
