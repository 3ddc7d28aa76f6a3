use std::{
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use deepmarket_job::{
    DatasetManifest, JobSpec,
    protocol::{Reply, Request, bytes_to_floats, floats_to_bytes, read_frame, write_frame},
};
use deepmarket_types::steps_root;

use crate::{Evaluation, Failure, Stepped, Trainer, Update, cpu_ms, determinism_class, measure, peak_ram_mib};

/// Answers requests until `Stop` or until the other side closes the pipe. A request that can't be done is answered with
/// `Failed` and changes nothing; only a broken pipe is an error.
pub fn serve(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    crate::fix_blocking();
    let mut trainer = None;
    while let Some(request) = read_frame::<Request>(from)? {
        let stop = request == Request::Stop;
        // The spec was checked, so burn's kernels have no reason to panic; if one does, the worker shall hear of it.
        let reply = match catch_unwind(AssertUnwindSafe(|| answer(&mut trainer, request))) {
            Ok(Ok(reply)) => reply,
            Ok(Err(failure)) => failed(failure),
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                failed(Failure::crashed(format!("the trainer panicked: {}", words.unwrap_or("no message"))))
            }
        };
        match write_frame(to, &reply) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => write_frame(to, &failed(Failure::crashed(e.to_string())))?,
            result => result?,
        }
        if stop {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(trainer: &mut Option<Trainer>, request: Request) -> Result<Reply, Failure> {
    let started = |trainer: &mut Option<Trainer>| trainer.take().ok_or_else(|| Failure::crashed("Start must come first"));
    match request {
        Request::Start { spec, seed, world, train_samples, data } => {
            let spec = JobSpec::from_bytes(&spec)?;
            let manifest = DatasetManifest::from_bytes(&data).map_err(|e| Failure::data(e.to_string()))?;
            let new = Trainer::new(spec, manifest, seed, world, train_samples)?;
            let reply = Reply::Started { floats: new.floats(), parameters: new.parameters_hash() };
            *trainer = Some(new);
            return Ok(reply);
        }
        Request::Measure { seed } => {
            let mega_multiply_adds_per_s = measure(seed);
            return Ok(Reply::Measured {
                mega_multiply_adds_per_s,
                cores: crate::sandbox::cores(),
                trainer: determinism_class(),
            });
        }
        Request::Probe => return Ok(Reply::Probed { class: determinism_class() }),
        Request::Stop => return Ok(Reply::Bye),
        _ => {}
    }
    let mut current = started(trainer)?;
    let reply = answer_started(&mut current, request);
    *trainer = Some(current);
    reply
}

fn answer_started(trainer: &mut Trainer, request: Request) -> Result<Reply, Failure> {
    match request {
        Request::Start { .. } | Request::Measure { .. } | Request::Probe | Request::Stop => {
            unreachable!("answered without a trainer")
        }
        Request::Shard { part, index, bytes } => Ok(Reply::Loaded { samples: trainer.add_shard(part, index, &bytes)? }),
        Request::Assign { train, validate } => {
            let (train_samples, validate_samples) = trainer.assign(&train, &validate)?;
            Ok(Reply::Assigned { train_samples, validate_samples })
        }
        Request::Round { round } => {
            let before = cpu_ms();
            let update = trainer.compute_round(round)?;
            Ok(Reply::Update {
                values: floats_to_bytes(&update.values),
                samples: update.samples,
                loss_sum: update.loss_sum.to_bits(),
                cpu_ms: cpu_ms() - before,
                inputs: update.inputs,
                steps: steps_root(&update.steps),
                output: update.output,
                peak_ram_mib: peak_ram_mib(),
            })
        }
        Request::Trace { round } => {
            let Update { inputs, output, samples, steps, .. } = trainer.compute_round(round)?;
            Ok(Reply::Traced { inputs, output, samples, steps })
        }
        Request::SaveStep { round, step } => {
            let (state, parameters) = trainer.save_step(round, step)?;
            Ok(Reply::Saved { state, parameters, round: trainer.round() })
        }
        Request::Step { round, step, state } => {
            let Stepped { inputs, before, after } = trainer.step(round, step, &state)?;
            Ok(Reply::Stepped { inputs, before, after })
        }
        Request::Apply { values } => {
            let average = bytes_to_floats(&values).ok_or_else(|| Failure::crashed("an average is a list of floats"))?;
            Ok(Reply::Applied { parameters: trainer.apply(&average)? })
        }
        Request::Evaluate => {
            let evaluation = trainer.evaluate();
            if !evaluation.loss_sum.is_finite() {
                return Err(Failure::diverged("the loss on the validation split is not finite"));
            }
            let loss_sum = evaluation.loss_sum.to_bits();
            Ok(Reply::Evaluated { samples: evaluation.samples, correct: evaluation.correct, loss_sum })
        }
        Request::Predict { index } => {
            let (outputs, shape, evaluation) = trainer.predict(index)?;
            if outputs.iter().any(|output| !output.is_finite()) {
                return Err(Failure::diverged(format!("the model's outputs for shard {index} are not finite")));
            }
            let Evaluation { samples, correct, loss_sum } = evaluation;
            Ok(Reply::Predicted { outputs: floats_to_bytes(&outputs), shape, samples, correct, loss_sum: loss_sum.to_bits() })
        }
        Request::Save { trained } => {
            Ok(Reply::Saved { state: trainer.save(trained), parameters: trainer.parameters_hash(), round: trainer.round() })
        }
        Request::Restore { state } => {
            let trained = trainer.restore(&state)?;
            Ok(Reply::Restored { parameters: trainer.parameters_hash(), round: trainer.round(), trained })
        }
        Request::Export => Ok(Reply::Model { safetensors: trainer.export() }),
        Request::LoadModel { safetensors } => {
            trainer.load_model(&safetensors)?;
            Ok(Reply::Restored { parameters: trainer.parameters_hash(), round: trainer.round(), trained: 0 })
        }
    }
}

fn failed(failure: Failure) -> Reply {
    Reply::Failed { reason: failure.reason, message: failure.message }
}
