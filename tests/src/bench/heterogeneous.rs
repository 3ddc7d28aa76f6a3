use serde_json::{Value, json};

use crate::{or_reason, workers::Bench};

/// What a fast machine may use of the processor, and the slow one, in cores.
const FAST: f64 = 0.5;
const SLOW: f64 = 0.25;

/// What a slow machine costs: three equal machines train, then one of them gets half its processor taken away (it still claims the
/// speed that it had) and the same job runs again. Ideal is what shares in proportion to the speeds would take, worst what equal
/// shares would.
pub fn measure(quick: bool) -> Value {
    or_reason(heterogeneous(if quick { 3_000 } else { 9_600 }))
}

fn heterogeneous(samples: usize) -> Result<Value, String> {
    let mut bench = Bench::up(&[FAST; 3], samples)?;
    let mut report = json!({ "cores": [FAST, FAST, SLOW], "samples": samples * 3 });
    for (mode, training) in [
        ("local", "batch = 32\nepochs = 3\nmode = { local = { steps = 16 } }"),
        ("sync", "batch = 96\nepochs = 3\nmode = \"sync\""),
    ] {
        bench.machines()[2].quota.set(FAST)?;
        let equal = bench.train(3, training)?;
        bench.machines()[2].quota.set(SLOW)?;
        let ran = bench.train(3, training)?;
        let ideal = equal.training_s * (3.0 * FAST) / (2.0 * FAST + SLOW);
        report[mode] = json!({
            "three_equal": equal.json(),
            "one_of_half_the_speed": ran.json(),
            "ideal_s": ideal,
            "equal_shares_s": equal.training_s * FAST / SLOW,
            "efficiency": ideal / ran.training_s,
        });
    }
    Ok(report)
}
