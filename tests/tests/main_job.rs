//! The main job as a person runs it: `deepmarket demo` on real MNIST.

use std::process::{Command, Stdio};
use std::time::Duration;

use deepmarket_tests::{checkout, is_alive, json, mnist, my_turn, program, run, signal, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// Runs the demo with an example, for three epochs. The job may call the data as it likes.
fn demo(example: &str, more: &[&str]) -> Value {
    let text = std::fs::read_to_string(checkout().join("examples").join(example)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join(example);
    std::fs::write(&job, text.replace("epochs = 5", "epochs = 3").replace("\"mnist\"", "\"digits\"")).unwrap();
    let mut command = Command::new(program("deepmarket"));
    command.args(["demo", "--json", "--job"]).arg(&job).arg("--dataset").arg(mnist()).args(more).current_dir(checkout());
    let output = run(&mut command);
    assert!(output.status.success(), "the demo failed:\n{}", String::from_utf8_lossy(&output.stderr));
    json(&output)
}

fn check_money(report: &Value) {
    assert_eq!(report["conserved"], true);
    let number = |value: &Value| value.as_u64().unwrap();
    let (lenders, borrower): (Vec<&Value>, Vec<&Value>) =
        report["accounts"].as_array().unwrap().iter().partition(|a| a["name"].as_str().unwrap().starts_with("lender"));
    let sum = |part: &str| lenders.iter().map(|lender| number(&lender[part])).sum::<u64>();
    let paid: u64 = report["receipts"].as_array().unwrap().iter().map(|r| r["payout"].as_u64().unwrap()).sum();
    assert!(paid > 0, "work is paid");
    let starts_right = report["accounts"].as_array().unwrap().iter().all(|account| account["before"] == 50_000_000);
    assert!(starts_right, "everybody starts with 50 credits");
    let (held, treasury) = (number(&report["ledger"]["held"]), number(&report["ledger"]["treasury"]));
    let gained = sum("after") + held - sum("before");
    assert_eq!(gained, paid + sum("audits"), "the lenders have, or will have, what the receipts released, and what audits paid");
    let jobs = [&report["job"], &report["second"]];
    let fees: u64 = jobs.iter().filter(|job| !job.is_null()).map(|job| number(&job["fees"])).sum();
    assert_eq!(treasury + sum("audits"), fees, "audits are paid from the fees");
    let [borrower] = borrower[..] else { panic!("{borrower:?}") };
    assert_eq!(number(&borrower["after"]), 50_000_000 - paid - fees, "the borrower paid that and not more");
    assert_eq!(report["job"]["escrow"], 0, "a closed job has no escrow");
}

#[test]
fn three_machines_train_mnist_in_sync_to_98_5_percent_and_are_paid_exactly() {
    let _turn = my_turn();
    let report = demo("mnist.toml", &[]);
    let accuracy = report["accuracy"].as_f64().unwrap();
    assert!(accuracy >= 0.985, "accuracy {accuracy}");
    assert_eq!(report["job"]["leases"].as_array().unwrap().len(), 3);
    assert_eq!(report["curve"].as_array().unwrap().len(), 3);
    assert!(report["bytes_exchanged"].as_u64().unwrap() > 0);
    check_money(&report);
}

#[test]
fn three_machines_train_mnist_with_64_local_steps_to_98_percent() {
    let _turn = my_turn();
    let report = demo("mnist-local.toml", &["--once"]);
    let accuracy = report["accuracy"].as_f64().unwrap();
    assert!(accuracy >= 0.98, "accuracy {accuracy}");
    check_money(&report);
}

#[test]
fn ctrl_c_in_the_middle_of_the_demo_leaves_no_process_behind() {
    let _turn = my_turn();
    let folder = tempfile::tempdir().unwrap();
    let (market, words) = (folder.path().join("market"), folder.path().join("words"));
    let mut demo = Command::new(program("deepmarket"))
        .args(["demo", "--json", "--keep"])
        .arg(&market)
        .arg("--dataset")
        .arg(mnist())
        .current_dir(checkout())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&words).unwrap())
        .spawn()
        .unwrap();
    let pids = wait_for("all seven processes", Duration::from_secs(120), || {
        let ended = demo.try_wait().unwrap();
        assert!(ended.is_none(), "the demo ended ({ended:?}):\n{}", std::fs::read_to_string(&words).unwrap());
        let file: Value = serde_json::from_str(&std::fs::read_to_string(market.join("market.json")).ok()?).ok()?;
        let pids: Vec<u32> = file["parts"].as_array()?.iter().filter_map(|p| p["pid"].as_u64()).map(|p| p as u32).collect();
        (pids.len() == 7).then_some(pids)
    });
    signal(demo.id(), Signal::INT);
    let status = wait_for("the demo to end", Duration::from_secs(30), || demo.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    wait_for("its processes to end", Duration::from_secs(10), || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}
