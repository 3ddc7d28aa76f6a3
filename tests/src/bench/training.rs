use std::process::Command;

use deepmarket_tests::{checkout, mnist, program, run};
use serde_json::{Value, json};

use crate::or_reason;

/// Runs a program that prints JSON.
fn measured(command: &mut Command) -> Result<Value, String> {
    let output = run(command.current_dir(checkout()));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(words.trim().lines().next_back().unwrap_or("it failed").to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{e}: {words}"))
}

/// How long each model is measured, in seconds.
fn seconds(quick: bool) -> &'static str {
    if quick { "2" } else { "10" }
}

/// Seconds per epoch and peak memory of one trainer on one core, for the demo's CNN and the classic 1.2 M-parameter one.
pub fn trainer(quick: bool) -> Value {
    let mut command = Command::new(program("deepmarket-trainer"));
    or_reason(measured(command.args(["bench", "--seconds", seconds(quick)])).map(by_model))
}

/// The same models by PyTorch on one core, where Python has it.
pub fn pytorch(quick: bool) -> Value {
    let python = std::env::var("PYTHON").unwrap_or("python3".into());
    let mut command = Command::new(python);
    command.arg(checkout().join("tests/pytorch/compare.py")).args(["--seconds", seconds(quick)]);
    or_reason(measured(&mut command).map(by_model))
}

/// Turns the list of models into fields named after them.
fn by_model(mut report: Value) -> Value {
    let models = report.as_object_mut().and_then(|fields| fields.remove("models"));
    for mut model in models.as_ref().and_then(Value::as_array).cloned().unwrap_or_default() {
        if let Some(Value::String(name)) = model.as_object_mut().and_then(|fields| fields.remove("model")) {
            report[name] = model;
        }
    }
    report
}

/// Our seconds per epoch divided by PyTorch's, where both were measured.
pub fn ratios(report: &Value) -> Value {
    let mut ratios = serde_json::Map::new();
    for model in ["mnist-cnn", "basic-mnist"] {
        let seconds = |who: &str| report[who][model]["seconds_per_epoch"].as_f64();
        if let (Some(ours), Some(theirs)) = (seconds("trainer"), seconds("pytorch")) {
            ratios.insert(model.to_owned(), json!(ours / theirs));
        }
    }
    Value::Object(ratios)
}

/// The demo's job with averaging at every step.
pub fn job_sync(_quick: bool) -> Value {
    or_reason(job("examples/mnist.toml"))
}

/// The demo's job with 64 local steps between averages.
pub fn job_local(_quick: bool) -> Value {
    or_reason(job("examples/mnist-local.toml"))
}

fn job(file: &str) -> Result<Value, String> {
    let mut command = Command::new(program("deepmarket"));
    let report = measured(command.args(["demo", "--json", "--job", file, "--dataset"]).arg(mnist()))?;
    let workers = report["workers"].as_array().cloned().unwrap_or_default();
    let sum = |field: &str| workers.iter().filter_map(|w| w[field].as_f64()).sum::<f64>();
    let busy = sum("compute_ms") + sum("exchange_ms") + sum("wait_ms");
    let rounds = report["job"]["leases"][0]["rounds"].as_f64().unwrap_or(f64::NAN);
    let peak = workers.iter().filter_map(|w| w["peak_ram_mib"].as_f64()).fold(0.0, f64::max);
    Ok(json!({
        "accuracy": report["accuracy"],
        "wall_s": report["wall_s"],
        "rounds": rounds,
        "share_computing": sum("compute_ms") / busy,
        "share_exchanging": sum("exchange_ms") / busy,
        "share_waiting": sum("wait_ms") / busy,
        "bytes_sent_per_round_and_worker": sum("sent_bytes") / rounds / workers.len().max(1) as f64,
        "trainer_peak_ram_mib": peak,
    }))
}
