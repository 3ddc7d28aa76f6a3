use serde_json::{Value, json};

use crate::{or_reason, workers::Bench};

/// What each machine may use of the processor, in cores: four machines and the market fit on two cores.
const CORES: f64 = 0.4;
const MACHINES: usize = 4;
/// How often each sample is used.
const EPOCHS: usize = 2;

/// How much faster more workers are: the same samples by one, two, three and four machines with 0.4 cores each. Efficiency is the
/// time of one divided by the number of workers and by their time.
pub fn measure(quick: bool) -> Value {
    or_reason(scaling(if quick { 3_000 } else { 8_000 }))
}

fn scaling(samples: usize) -> Result<Value, String> {
    let mut bench = Bench::up(&[CORES; MACHINES], samples)?;
    let local = format!("batch = 32\nepochs = {EPOCHS}\nmode = {{ local = {{ steps = 16 }} }}");
    let sync = format!("batch = 128\nepochs = {EPOCHS}\nmode = \"sync\"");
    let mut report = json!({ "cores_each": CORES, "samples": samples * EPOCHS });
    for (mode, training, counts) in [("local", local, [1, 2, 3, 4].as_slice()), ("sync", sync, &[1, 4])] {
        let mut alone = None;
        for &workers in counts {
            let ran = bench.train(workers, &training)?;
            let alone = alone.get_or_insert_with(|| ran.clone());
            let mut entry = ran.json();
            let efficiency = |one: f64, all: f64| json!(one / all / workers as f64);
            entry["efficiency"] = efficiency(alone.training_s, ran.training_s);
            entry["efficiency_with_start"] = efficiency(alone.wall_s, ran.wall_s);
            report[mode][format!("workers_{workers}")] = entry;
        }
    }
    Ok(report)
}
