//! A job is followed, and what it leaves is read: by the command line, by PyTorch and by TensorBoard.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use deepmarket_tests::{Market, checkout, mnist, my_turn, run, signal, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// The Python that is used: `DEEPMARKET_PYTHON`, or `python3`.
fn python() -> Command {
    Command::new(std::env::var("DEEPMARKET_PYTHON").unwrap_or_else(|_| "python3".into()))
}

/// Are these modules there? Says so where they aren't.
fn has(modules: &str) -> bool {
    let there = python().arg("-c").arg(format!("import {modules}")).output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: Python can't import {modules} (DEEPMARKET_PYTHON names another interpreter)");
    }
    there
}

/// What a Python program printed.
fn printed(command: &mut Command) -> String {
    let output = run(command);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}:\n{words}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Two images of 10,000: where two answers are as good as equally likely, the last bit of a sum decides.
fn is_the_same(accuracy: f64, other: f64) -> bool {
    (accuracy - other).abs() < 0.000_25
}

#[test]
fn a_job_is_followed_and_what_it_leaves_is_read_by_pytorch_and_tensorboard() {
    let _turn = my_turn();
    let market = Market::up(2);
    market.cli(&["account", "open", "--name", "alice", "--identity", "alice@pdx.example"]);
    market.cli(&["data", "add", mnist().to_str().unwrap(), "--name", "mnist"]);
    let example = fs::read_to_string(checkout().join("examples/mnist.toml")).unwrap();
    let file = market.home().join("job.toml");
    fs::write(&file, example.replace("max = 3", "max = 2").replace("epochs = 5", "epochs = 2")).unwrap();
    let job = &submitted_and_left(&market, file.to_str().unwrap());
    let ended = market.wait_until_closed(job, Duration::from_secs(180));
    assert_eq!(ended["state"]["state"], "finished", "{ended}");

    the_log_has_each_entry_once(&market, job);
    let accuracy = the_metrics_add_up(&market, job);
    let folder = market.home().join("result");
    let out = folder.to_str().unwrap();
    let result = market.cli(&["job", "result", job, "--out", out, "--evaluate"]);
    assert_eq!(result["accuracy"].as_f64(), Some(accuracy), "computed again, it is what the workers reported");
    for name in ["model.safetensors", "model.py", "spec.toml", "metrics.csv"] {
        assert!(folder.join(name).is_file(), "{name} is missing");
    }
    pytorch_finds_the_same(&folder, accuracy);
    tensorboard_reads_it(&folder, accuracy);
    evaluating_and_predicting_give_the_same(&market, job, &example, accuracy);
}

/// Submits a job, follows it until it trains, and leaves it with Ctrl-C; gives its id.
fn submitted_and_left(market: &Market, file: &str) -> String {
    let words = market.home().join("words");
    let mut command = market.command(&["--json", "job", "submit", file, "--follow"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&words).unwrap());
    let mut follower = command.spawn().unwrap();
    wait_for("the job to train", Duration::from_secs(60), || {
        let words = fs::read_to_string(&words).unwrap();
        assert!(follower.try_wait().unwrap().is_none(), "the follower ended:\n{words}");
        words.contains("to train").then_some(())
    });
    signal(follower.id(), Signal::INT);
    let output = follower.wait_with_output().unwrap();
    let job: Value = serde_json::from_str(&text(&output)).unwrap();
    job["job"].as_str().unwrap().to_owned()
}

/// The model of the job is used by two further ones.
fn evaluating_and_predicting_give_the_same(market: &Market, job: &str, example: &str, accuracy: f64) {
    let (head, _) = example.split_once("[training]").expect("a section [training]");
    let head = head.replace("[model]", &format!("[model]\nparameters = \"{job}\""));
    let fetched = |kind: &str, training: &str| {
        let file = market.home().join(format!("{kind}.toml"));
        let text = head.replace("kind = \"train\"", &format!("kind = \"{kind}\"")).replace("max = 3", "max = 2");
        fs::write(&file, text + training).unwrap();
        let ended = market.cli(&["job", "submit", file.to_str().unwrap(), "--follow"]);
        assert_eq!(ended["state"]["state"], "finished", "{ended}");
        let folder = market.home().join(kind);
        let result = market.cli(&["job", "result", ended["id"].as_str().unwrap(), "--out", folder.to_str().unwrap()]);
        (folder, result)
    };
    let (folder, result) = fetched("evaluate", "[training]\nloss = \"cross_entropy\"\n");
    assert_eq!((&result["evaluation"]["samples"], result["accuracy"].as_f64()), (&10_000.into(), Some(accuracy)), "{result}");
    assert!(folder.join("evaluation.json").is_file() && !folder.join("model.safetensors").exists());

    let (folder, result) = fetched("predict", "");
    assert_eq!((&result["samples"], &result["shape"]), (&10_000.into(), &vec![10].into()));
    let file = fs::read(folder.join("predictions.safetensors")).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let outputs: Vec<f32> = file[8 + header..].as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    let labels = fs::read(mnist().join("t10k-labels-idx1-ubyte")).unwrap();
    let best = |scores: &[f32]| (0..10_u8).max_by(|a, b| scores[usize::from(*a)].total_cmp(&scores[usize::from(*b)])).unwrap();
    assert_eq!(outputs.len(), 10 * 10_000);
    let right = outputs.chunks(10).zip(&labels[8..]).filter(|(scores, label)| best(scores) == **label).count();
    assert!(
        is_the_same(right as f64 / 10_000.0, accuracy),
        "{right} predictions are right, the workers' accuracy was {accuracy}"
    );
}

fn the_log_has_each_entry_once(market: &Market, job: &str) {
    // Whoever follows waits for the workers' totals, which come a little after the job's end.
    let followed = text(&run(&mut market.command(&["job", "logs", job, "--follow"])));
    let entries = market.cli(&["job", "logs", job]);
    let entries = entries.as_array().unwrap();
    let reports: Vec<(u64, u64)> = entries.iter().filter_map(|e| Some((e["rank"].as_u64()?, e["sequence"].as_u64()?))).collect();
    assert_eq!(reports.iter().collect::<BTreeSet<_>>().len(), reports.len());
    assert_eq!(reports.iter().map(|(rank, _)| rank).collect::<BTreeSet<_>>().len(), 2, "both workers reported");
    let times: Vec<u64> = entries.iter().map(|entry| entry["time"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
    let whole = text(&run(&mut market.command(&["job", "logs", job])));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    // Those that came last may stand elsewhere in the order of time.
    assert_eq!((lines(&whole), whole.lines().count()), (lines(&followed), followed.lines().count()));
    assert!(whole.contains("to train"), "{whole}");
}

/// Gives the accuracy that the workers reported last.
fn the_metrics_add_up(market: &Market, job: &str) -> f64 {
    let metrics = market.cli(&["job", "metrics", job]);
    let list = |name: &str| metrics[name].as_array().unwrap().clone();
    let (epochs, counted) = (list("epochs"), list("counted"));
    assert_eq!((epochs.len(), counted.len()), (2, 2), "{metrics}");
    for (epoch, counted) in epochs.iter().zip(&counted) {
        assert_eq!((&epoch["trained"], &counted["samples"]), (&60_000.into(), &60_000.into()), "each sample once");
        assert_eq!(counted["untold"], 0);
    }
    let times = list("workers");
    assert_eq!(times.len(), 2);
    assert!(times.iter().all(|worker| worker["complete"] == true && worker["compute_ms"].as_u64() > Some(0)), "{times:?}");
    let csv = text(&run(&mut market.command(&["job", "metrics", job, "--csv"])));
    assert!(csv.starts_with("time_ms,what,worker,"), "{csv}");
    assert_eq!(csv.lines().filter(|line| line.split(',').nth(1) == Some("epoch")).count(), 2);
    let shown = text(&run(&mut market.command(&["job", "show", job])));
    assert!(shown.contains("training loss, by round") && shown.contains("exchanging"), "{shown}");
    epochs[1]["accuracy"].as_f64().unwrap()
}

fn pytorch_finds_the_same(folder: &Path, accuracy: f64) {
    if !has("torch, safetensors") {
        return;
    }
    // The text that docs/jobs.md shows, in a folder where its paths lead to these files.
    let docs = fs::read_to_string(checkout().join("docs/jobs.md")).unwrap();
    let (_, rest) = docs.split_once("```python\n").expect("docs/jobs.md shows a piece of Python");
    let (snippet, _) = rest.split_once("```").unwrap();
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder, here.path().join("result")).unwrap();
    fs::create_dir(here.path().join("data")).unwrap();
    std::os::unix::fs::symlink(mnist(), here.path().join("data/mnist")).unwrap();
    let shown: f64 = printed(python().arg("-c").arg(snippet).current_dir(here.path())).parse().unwrap();
    assert!(is_the_same(shown, accuracy), "by the docs' text {shown}, by the workers {accuracy}");

    let script = checkout().join("tests/pytorch/beside.py");
    let beside: f64 = printed(python().arg(script).arg(folder).arg(mnist())).parse().unwrap();
    assert!(is_the_same(beside, accuracy), "by model.py {beside}, by the workers {accuracy}");
}

fn tensorboard_reads_it(folder: &Path, accuracy: f64) {
    let is_events = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().contains("tfevents");
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(is_events).count();
    assert_eq!(files, 1);
    if !has("tensorboard") {
        return;
    }
    let script = checkout().join("tests/pytorch/events.py");
    let scalars: Value = serde_json::from_str(&printed(python().arg(script).arg(folder))).unwrap();
    let last = scalars["validation/accuracy"].as_array().unwrap().last().unwrap();
    assert_eq!(last[0], 2);
    assert!((last[1].as_f64().unwrap() - accuracy).abs() < 1e-6, "{last}");
    assert!(scalars["train/loss"].as_array().unwrap().len() > 1);
}
