//! `make bench`: what one trainer, the workers of a job, the ledger and its matching do on this machine.
//!
//! Everything is measured in one run, so that ratios hold whatever else the machine does. Prints a table and writes the
//! same as JSON (`bench.json`, or the file named by `--out`). `--quick` takes smaller samples, `--only NAME` one part.

mod heterogeneous;
mod ledger;
mod limits;
mod matching;
mod quota;
mod scaling;
mod slow_link;
mod training;
mod workers;

use std::path::PathBuf;

use serde_json::{Value, json};

/// Measures one part, thoroughly or quickly.
type Part = fn(bool) -> Value;

/// What is measured, in this order: limits first, so that the rest can be read against them.
const PARTS: &[(&str, Part)] = &[
    ("limits", limits::measure),
    ("matching", matching::measure),
    ("ledger", ledger::measure),
    ("trainer", training::trainer),
    ("pytorch", training::pytorch),
    ("job_sync", training::job_sync),
    ("job_local", training::job_local),
    ("scaling", scaling::measure),
    ("heterogeneous", heterogeneous::measure),
    ("slow_link", slow_link::measure),
];

/// What was asked for on the command line.
struct Options {
    out: PathBuf,
    quick: bool,
    only: Option<String>,
}

fn main() {
    let mut options = Options { out: PathBuf::from("bench.json"), quick: false, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--out" => options.out = arguments.next().map(PathBuf::from).unwrap_or(options.out),
            "--only" => options.only = arguments.next().map(|name| name.replace('-', "_")),
            other => refuse(&format!("unknown argument {other}")),
        }
    }
    if let Some(only) = &options.only
        && !PARTS.iter().any(|(name, _)| name == only)
    {
        refuse(&format!("there is no part {only}"));
    }
    let mut report = serde_json::Map::new();
    for (name, measure) in PARTS.iter().filter(|(name, _)| options.only.as_ref().is_none_or(|only| name == only)) {
        eprintln!("measuring: {name}");
        report.insert((*name).to_owned(), measure(options.quick));
    }
    let mut report = Value::Object(report);
    if options.only.is_none() {
        report["trainer_to_pytorch"] = training::ratios(&report);
    }
    print_table("", &report);
    let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
    std::fs::write(&options.out, text).unwrap_or_else(|e| panic!("{}: {e}", options.out.display()));
    eprintln!("written: {}", options.out.display());
}

fn refuse(what: &str) -> ! {
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    eprintln!("{what}; usage: bench [--quick] [--out FILE] [--only PART], where PART is one of {}", names.join(", "));
    std::process::exit(1);
}

/// Prints every number with its path.
fn print_table(path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                print_table(&path, value);
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let digits = if number.fract() == 0.0 { 0 } else { 3 };
            println!("{path:<56} {number:>16.digits$}");
        }
        other => println!("{path:<56} {:>16}", other.to_string().trim_matches('"')),
    }
}

/// A value as JSON, or what went wrong as a text.
fn or_reason(value: Result<Value, String>) -> Value {
    value.unwrap_or_else(|reason| json!({ "not_measured": reason }))
}

/// Median and 99th percentile of some times, in milliseconds.
fn percentiles(mut times_ms: Vec<f64>) -> Value {
    times_ms.sort_by(f64::total_cmp);
    let at =
        |share: f64| times_ms.get(((times_ms.len().max(1) - 1) as f64 * share).round() as usize).copied().unwrap_or(f64::NAN);
    json!({ "samples": times_ms.len(), "median_ms": at(0.5), "p99_ms": at(0.99) })
}
