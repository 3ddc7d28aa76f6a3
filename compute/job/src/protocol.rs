//! What a worker and its trainer say to each other over pipes.
//!
//! A frame is the length as `u32` (little endian) and that many bytes of borsh. Vectors of floats travel as little-endian
//! `f32` bytes in the order in which the model's layers hold them, parameters first, then batch-norm statistics; sums of
//! losses as the bits of an `f64`. The worker asks, the trainer answers each request with exactly one reply, in order.
//!
//! ```text
//! worker                        trainer
//! Start ───────────────────────▶ builds the model      ─▶ Started
//! Shard ───────────────────────▶ keeps the samples     ─▶ Loaded       once for each shard that isn't there yet
//! Assign ──────────────────────▶ works on these        ─▶ Assigned     at the beginning, and when ranks come and go
//! Round(0) ────────────────────▶ computes              ─▶ Update
//! Apply(average over ranks) ───▶ steps, or takes over  ─▶ Applied
//! … Round(n), Apply, Evaluate, Save, Restore, Assign …
//! Trace(n), SaveStep(n, k), Step(n, k, state): the steps of a round, for who checks it
//! Export ──────────────────────▶                       ─▶ Model
//! Stop ────────────────────────▶                       ─▶ Bye
//! ```

use std::io::{self, Read, Write};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{FailureReason, Hash};

/// The most bytes of one frame: the state of the largest model (50 M parameters, Adam's two moments and an outer momentum: 800 MB)
/// fits.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024 * 1024;

/// The exit status of a trainer that could not allocate; the worker reports [`FailureReason::OutOfMemory`].
pub const EXIT_OUT_OF_MEMORY: i32 = 86;

/// Which part of the data a shard belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Part {
    /// Samples to train on.
    Train,
    /// Samples to evaluate on.
    Validate,
}

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Request {
    /// Builds the model with its initial parameters. The first request of all but `Measure`.
    Start {
        /// Canonical bytes of the [`JobSpec`](crate::JobSpec).
        spec: Vec<u8>,
        /// Fixed by the chain when the job was matched; decides the order of samples and dropout.
        seed: Hash,
        /// Ranks with which the job began: the schedule is made for so many.
        world: u32,
        /// Samples of the whole training split.
        train_samples: u64,
        /// Canonical bytes of the [`DatasetManifest`](crate::DatasetManifest).
        data: Vec<u8>,
    },
    /// Gives samples.
    Shard {
        /// Where they belong.
        part: Part,
        /// The shard's index in its split.
        index: u32,
        /// A safetensors file.
        bytes: Vec<u8>,
    },
    /// Says which shards to work on from now on; all must have been given. Others are forgotten.
    Assign {
        /// To train on; ascending.
        train: Vec<u32>,
        /// To evaluate on; ascending.
        validate: Vec<u32>,
    },
    /// Computes a round: the next one, or in `async` one of those that may be ahead. Asking again before `Apply` gives the same
    /// answer.
    Round {
        /// The round, counted from 0; rounds are applied in order.
        round: u64,
    },
    /// Computes a round as `Round` does and tells its steps. In a round of several steps the trainer can be asked for the state
    /// between them.
    Trace {
        /// The round.
        round: u64,
    },
    /// Asks for the state before a step of the next round: in `local` between its own steps, else as it is. Answered by `Saved`.
    SaveStep {
        /// The round: the next one, or in `async` one of those that may be ahead.
        round: u64,
        /// The step within the round; 0 in `sync` and `async`.
        step: u32,
    },
    /// Computes one step of a round from a state that `SaveStep` gave; where this trainer is in the schedule doesn't matter, and
    /// nothing changes. The shards that it works on must be those of the round.
    Step {
        /// The round.
        round: u64,
        /// The step within the round; 0 in `sync` and `async`.
        step: u32,
        /// What `SaveStep` answered.
        state: Vec<u8>,
    },
    /// Computes the probe: a fixed round whose result names the determinism class. Needs no `Start`.
    Probe,
    /// Takes over what the ranks averaged after a round.
    Apply {
        /// The average, as long as the update.
        values: Vec<u8>,
    },
    /// Evaluates the model on the validation shards.
    Evaluate,
    /// Computes the model's outputs for one of the validation shards.
    Predict {
        /// The shard's index in its split.
        index: u32,
    },
    /// Asks for the whole state: parameters, statistics, optimizer, next round.
    Save {
        /// Samples of the running epoch that all ranks trained on so far; kept with the state.
        trained: u64,
    },
    /// Goes back to a saved state.
    Restore {
        /// What `Save` answered.
        state: Vec<u8>,
    },
    /// Asks for the model as a safetensors file with PyTorch's names.
    Export,
    /// Loads a model that `Export` wrote.
    LoadModel {
        /// The safetensors file.
        safetensors: Vec<u8>,
    },
    /// Measures this machine's training speed for about a second. Needs no `Start`.
    Measure {
        /// Decides the benchmark's data.
        seed: u64,
    },
    /// Ends the trainer.
    Stop,
}

/// What a trainer answers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Reply {
    /// To `Start`.
    Started {
        /// Length of the update vector in floats: parameters and statistics.
        floats: u64,
        /// Hash of the initial parameters and statistics: equal on all ranks.
        parameters: Hash,
    },
    /// To `Shard`.
    Loaded {
        /// Samples of the shard.
        samples: u64,
    },
    /// To `Assign`.
    Assigned {
        /// Samples to train on.
        train_samples: u64,
        /// Samples to evaluate on.
        validate_samples: u64,
    },
    /// To `Round`.
    Update {
        /// Gradients (`sync`, `async`) or changes of the parameters (`local`), then changes of the statistics. To be averaged weighted
        /// by `samples`.
        values: Vec<u8>,
        /// Samples that the round used; may be 0 on a rank with little data (then `values` weigh nothing).
        samples: u64,
        /// Bits of the `f64` sum of the loss over these samples.
        loss_sum: u64,
        /// CPU time of the round in milliseconds.
        cpu_ms: u64,
        /// [`RoundOutcome::inputs`](deepmarket_types::RoundOutcome::inputs).
        inputs: Hash,
        /// [`RoundOutcome::steps`](deepmarket_types::RoundOutcome::steps).
        steps: Hash,
        /// [`RoundOutcome::output`](deepmarket_types::RoundOutcome::output).
        output: Hash,
        /// Peak memory of the trainer so far, in MiB.
        peak_ram_mib: u64,
    },
    /// To `Trace`.
    Traced {
        /// As in `Update`.
        inputs: Hash,
        /// As in `Update`.
        output: Hash,
        /// Samples that the round used.
        samples: u64,
        /// Hash of the state after each traced step: parameters and optimizer; of a round of one shared step, of the update. A traced
        /// step is a local one, or a few of them where a net has few operations for each parameter; at most
        /// [`RoundTrace::MAX_STEPS`](deepmarket_types::RoundTrace::MAX_STEPS).
        steps: Vec<Hash>,
    },
    /// To `Step`.
    Stepped {
        /// Of step 0, what `inputs` of the round must be, if this is the state that it was computed from.
        inputs: Option<Hash>,
        /// Hash of the state before the step: what `Traced` told of the step before.
        before: Hash,
        /// Hash of the state after it, or of the update of a shared step: what `Traced` tells of this step.
        after: Hash,
    },
    /// To `Probe`.
    Probed {
        /// The determinism class in words: the trainer's version, the instruction set, and a digest of the probe's bits.
        class: String,
    },
    /// To `Apply`.
    Applied {
        /// Hash of parameters and statistics: equal on all ranks.
        parameters: Hash,
    },
    /// To `Evaluate`.
    Evaluated {
        /// Samples evaluated; where each position of a sample has an answer (next-token prediction), positions.
        samples: u64,
        /// Right answers (datasets with classes).
        correct: Option<u64>,
        /// Bits of the `f64` sum of the loss.
        loss_sum: u64,
    },
    /// To `Predict`.
    Predicted {
        /// The outputs of the shard's samples, one after the other.
        outputs: Vec<u8>,
        /// The shape of one sample's outputs.
        shape: Vec<u32>,
        /// What the shard's targets say of them.
        samples: u64,
        /// Right answers (datasets with classes).
        correct: Option<u64>,
        /// Bits of the `f64` sum of the loss.
        loss_sum: u64,
    },
    /// To `Save`.
    Saved {
        /// The state: a safetensors file as `Export` gives it, with the optimizer's state in further tensors.
        state: Vec<u8>,
        /// Hash of parameters and statistics.
        parameters: Hash,
        /// The next round.
        round: u64,
    },
    /// To `Restore` and `LoadModel`.
    Restored {
        /// Hash of parameters and statistics.
        parameters: Hash,
        /// The next round.
        round: u64,
        /// What `Save` was given of the running epoch; 0 for a model.
        trained: u64,
    },
    /// To `Export`.
    Model {
        /// A safetensors file with PyTorch's names, the spec in its metadata.
        safetensors: Vec<u8>,
    },
    /// To `Measure`.
    Measured {
        /// Million multiply-adds a second of one core in training (forward and backward).
        mega_multiply_adds_per_s: u64,
        /// CPU cores that the trainer may use.
        cores: u32,
        /// The determinism class, as `Probed` tells it.
        trainer: String,
    },
    /// To any request: it can't be done.
    Failed {
        /// Why, as a receipt says it.
        reason: FailureReason,
        /// Why, in words.
        message: String,
    },
    /// To `Stop`.
    Bye,
}

/// Writes one frame and flushes. The message goes straight to the pipe: no copy of it is made.
pub fn write_frame<T: BorshSerialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let bytes = borsh::object_length(message)?;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME_BYTES).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {bytes} bytes is over {MAX_FRAME_BYTES}"))
    })?;
    to.write_all(&length.to_le_bytes())?;
    message.serialize(to)?;
    to.flush()
}

/// Reads one frame; `None` where the other side closed the pipe between frames. Memory grows as bytes arrive, not as the
/// length claims.
pub fn read_frame<T: BorshDeserialize>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        read => from.read_exact(&mut length[read..])?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is over {MAX_FRAME_BYTES}")));
    }
    let mut body = Vec::with_capacity(length.min(1024 * 1024));
    from.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode_body(&body).map(Some)
}

/// The message in a frame's body.
pub fn decode_body<T: BorshDeserialize>(body: &[u8]) -> io::Result<T> {
    T::try_from_slice(body)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not a message of this protocol: {e}")))
}

/// Floats as little-endian bytes.
pub fn floats_to_bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}

/// Floats from little-endian bytes; `None` where the length is no multiple of four.
pub fn bytes_to_floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (floats, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| floats.iter().map(|four| f32::from_le_bytes(*four)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_pipe_and_end_cleanly() {
        let (mut pipe, round) = (Vec::new(), Request::Round { round: 7 });
        write_frame(&mut pipe, &round).unwrap();
        write_frame(&mut pipe, &Request::Stop).unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(read_frame(&mut from).unwrap(), Some(round));
        assert_eq!(read_frame(&mut from).unwrap(), Some(Request::Stop));
        assert_eq!(read_frame::<Request>(&mut from).unwrap(), None);
    }

    #[test]
    fn broken_frames_are_errors() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, &Request::Round { round: 7 }).unwrap();
        assert!(read_frame::<Request>(&mut &pipe[..pipe.len() - 1]).is_err());
        assert!(read_frame::<Request>(&mut &pipe[..2]).is_err());
        assert!(read_frame::<Request>(&mut [255, 255, 255, 255, 0].as_slice()).is_err());
        assert!(read_frame::<Request>(&mut [1, 0, 0, 0, 200].as_slice()).is_err());
        pipe.push(0);
        pipe[0] += 1;
        assert!(read_frame::<Request>(&mut pipe.as_slice()).is_err(), "bytes after the message");
    }

    #[test]
    fn floats_survive_as_bytes() {
        let floats = [0.0, -1.5, f32::NAN, f32::MIN_POSITIVE];
        let back = bytes_to_floats(&floats_to_bytes(&floats)).unwrap();
        assert_eq!(back.map_bits(), floats.to_vec().map_bits());
        assert_eq!(bytes_to_floats(&[0; 5]), None);
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u32>;
    }
    impl Bits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|f| f.to_bits()).collect()
        }
    }
}
