use deepmarket_tests::proxy::Line;
use serde_json::{Value, json};

use crate::{or_reason, workers::Bench};

/// What each of three machines may use of the processor, in cores.
const CORES: f64 = 0.5;

/// What a slow line costs: three machines on loopback, then each pair over a line of its own with a round trip of 80 ms and
/// 20 Mbit/s each way (a delaying proxy). Ratios are the time on loopback divided by the time over the line.
pub fn measure(quick: bool) -> Value {
    or_reason(slow_link(if quick { 4_000 } else { 10_000 }))
}

fn slow_link(samples: usize) -> Result<Value, String> {
    let mut bench = Bench::up(&[CORES; 3], samples)?;
    let local = |more: &str| format!("batch = 64\nepochs = 3\nmode = {{ local = {{ steps = 32 }} }}\n{more}");
    let step = |mode: &str| format!("batch = 96\nepochs = 1\nmode = {mode}");
    let local_f32 = local("");
    let fast = [("local", bench.train(3, &local_f32)?), ("step", bench.train(3, &step("\"sync\""))?)];
    bench.set_line(Line::HOME);
    let mut report = json!({
        "line": { "round_trip_ms": 2 * Line::HOME.delay.as_millis() as u64, "mbit_per_s": Line::HOME.bits_per_s / 1_000_000 },
        "loopback_local": fast[0].1.json(),
        "loopback_sync": fast[1].1.json(),
    });
    for (name, on_loopback, training) in [
        ("local", 0, local_f32.clone()),
        ("local_int8", 0, local("updates = \"int8\"")),
        ("async", 1, step("{ async = { staleness = 3 } }")),
        ("async_int8", 1, step("{ async = { staleness = 3 } }\nupdates = \"int8\"")),
        ("sync", 1, step("\"sync\"")),
    ] {
        let ran = bench.train(3, &training)?;
        let mut entry = ran.json();
        entry["share_of_loopback_speed"] = json!(fast[on_loopback].1.training_s / ran.training_s);
        report[name] = entry;
    }
    Ok(report)
}
