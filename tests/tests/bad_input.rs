//! What is wrong is refused in words that say what, why and what to do; nothing panics and nothing is lost.

use std::{fs, path::PathBuf};

use deepmarket_tests::{Market, checkout, mnist, my_turn, program, run};
use std::process::Command;

/// A job file like the demo's with one part replaced.
fn job_with(market: &Market, name: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(checkout().join("examples/mnist.toml")).unwrap();
    assert!(text.contains(from), "the example has no '{from}'");
    let path: PathBuf = market.home().join(format!("{name}.toml"));
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The line of the example that sets a key, for example `epochs = 5`.
fn line_of(key: &str) -> String {
    let text = fs::read_to_string(checkout().join("examples/mnist.toml")).unwrap();
    let line = text.lines().find(|l| l.trim_start().starts_with(&format!("{key} "))).unwrap_or_else(|| panic!("no {key}"));
    line.to_owned()
}

#[track_caller]
fn says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "'{part}' is not said in:\n{words}");
    }
}

#[test]
fn wrong_jobs_data_and_amounts_are_refused_with_what_to_do_and_cost_nothing() {
    let _turn = my_turn();
    let market = Market::up(0);
    let opened = market.cli(&["account", "open", "--name", "bob", "--identity", "bob@pdx.example"]);

    // A dataset that nobody added.
    says(&market.refused(1, &["job", "submit", "examples/mnist.toml"]), &["mnist", "data add"]);
    // A folder without a dataset.
    let empty = market.home().join("empty");
    fs::create_dir(&empty).unwrap();
    says(&market.refused(1, &["data", "add", empty.to_str().unwrap(), "--name", "x"]), &["train-images"]);
    // A truncated file.
    let broken = market.home().join("broken");
    fs::create_dir(&broken).unwrap();
    for entry in fs::read_dir(mnist()).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        fs::write(broken.join(entry.file_name()), &bytes[..bytes.len() - 100]).unwrap();
    }
    says(&market.refused(1, &["data", "add", broken.to_str().unwrap(), "--name", "x"]), &["bytes"]);

    market.cli(&["data", "add", mnist().to_str().unwrap(), "--name", "mnist"]);
    let submit = |file: &str| market.refused(1, &["job", "submit", file]);
    // A wrong spec: an unknown key, a wrong type, a shape that can't be, each with its line.
    let unknown = job_with(&market, "unknown", &line_of("epochs"), "epochz = 5");
    says(&submit(&unknown), &["epochz", "line"]);
    let wrong_type = job_with(&market, "type", &line_of("epochs"), "epochs = \"five\"");
    says(&submit(&wrong_type), &["epochs", "line"]);
    let shape = job_with(&market, "shape", &line_of("input"), "input = [1, 2, 2]");
    says(&submit(&shape), &["layer"]);
    // A model of 10 TB.
    let huge = job_with(&market, "huge", "linear = { out = 10 }", "linear = { out = 1600000000 }");
    let words = submit(&huge);
    assert!(words.contains("65536") || words.contains("65,536") || words.contains("parameters"), "{words}");
    // More credits than there are.
    let rich = job_with(&market, "rich", &line_of("max_credits"), "max_credits = 51");
    says(&submit(&rich), &["51", "50"]);
    // A budget that doesn't pay for anything.
    let poor = job_with(&market, "poor", &line_of("max_credits"), "max_credits = 0.000001");
    says(&submit(&poor), &["budget"]);
    // Granted credits can't be sent.
    says(&market.refused(1, &["account", "transfer", opened["id"].as_str().unwrap(), "1"]), &["hint"]);
    // One identity opens one account, whichever validator's registrar is asked.
    for gateway in market.gateways() {
        let again = ["--gateway", &gateway, "account", "open", "--name", "bob2", "--identity", "Bob@PDX.example"];
        says(&market.refused(1, &again), &["identity"]);
    }

    let after = market.cli(&["account", "show", "bob"]);
    assert_eq!((&after["granted"], &after["escrow"]), (&opened["granted"], &opened["escrow"]), "nothing was lost");
    assert_eq!(market.cli(&["chain", "status"])["ledger"]["conserved"], true);

    // What doesn't exist.
    says(&market.refused(1, &["job", "show", "job-99"]), &["job-99", "job ls"]);
    says(&market.refused(1, &["chain", "block", "999999"]), &["999999"]);
    says(&market.refused(1, &["account", "show", "nobody"]), &["nobody", "account ls"]);
}

#[test]
fn offers_that_can_not_be_and_wrong_codes_are_refused_with_what_to_do() {
    let _turn = my_turn();
    let market = Market::up(0);
    market.cli(&["account", "open", "--name", "bob", "--identity", "bob@pdx.example"]);
    let measured = market.cli(&["lend", "verify"]);
    let cores = measured["resources"]["cores"].as_u64().unwrap();

    for verb in ["evaluate", "start"] {
        let refused = |flags: &[&str]| market.refused(1, &[&["lend", verb], flags].concat());
        // More than the machine has, and nothing.
        says(&refused(&["--cores", "4096"]), &["4096 cores", &format!("the machine has {cores}"), "--cores"]);
        says(&refused(&["--ram-mib", "9999GiB"]), &["MiB of memory", "--ram-mib"]);
        says(&refused(&["--disk-mib", "99999999999"]), &["MiB of disk"]);
        says(&refused(&["--gpus", "4096"]), &["4096 GPUs", "--gpus"]);
        says(&refused(&["--cores", "0"]), &["at least one core"]);
        // No time, no day, no end to come.
        says(&refused(&["--hours", "25:00-08:00"]), &["25:00", "00:00 to 24:00"]);
        says(&refused(&["--hours", "08:00-08:00"]), &["end where they begin"]);
        says(&refused(&["--days", "mon-someday"]), &["someday", "mon-fri"]);
        says(&refused(&["--until", "2020-01-01"]), &["2020-01-02 00:00", "market's clock", "--until"]);
        says(&refused(&["--until", "2026-02-30"]), &["no day 2026-02-30"]);
        // No number.
        says(&refused(&["--min-price", "cheap"]), &["cheap", "12.5"]);
        says(&refused(&["--min-price=-1"]), &["-1", "12.5"]);
        says(&refused(&["--cores", "150%"]), &["150%", "1% to 100%"]);
        says(&refused(&["--when-closed", "never"]), &["never", "after-lease"]);
    }
    says(&market.refused(1, &["lend", "verify", "--machine", "../x"]), &["'../x'", "letters"]);
    says(&market.refused(1, &["lend", "change", "--machine", "nothing", "--cores", "1"]), &["'nothing'", "lend status"]);
    says(&market.refused(1, &["lend", "stop"]), &["lend start"]);

    // One-time codes: mistyped, never made; invitations that can't be.
    let join = |code: &str| market.refused(1, &["lend", "join", code, "--machine", "far"]);
    says(&join("K7QD-M2XP"), &["mistyped", "8 characters", "16"]);
    says(&join("K7QD-M2XP-9A0B-CDEU"), &["mistyped", "'U'"]);
    says(&join("K7QD-M2XP-9A0B-CDEF"), &["2043", "no open invitation", "lend invite"]);
    says(&market.refused(1, &["lend", "invite", "--cores", "50%"]), &["50%", "isn't known yet", "lend change"]);
    says(&market.refused(1, &["lend", "invite", "--expires", "8d"]), &["8d", "1m to 7d"]);
    says(&market.refused(1, &["lend", "invite", "--until", "1999-12-31"]), &["market's clock"]);
    assert_eq!(market.cli(&["lend", "status"]).as_array().unwrap().len(), 0, "nothing was lent");
}

#[test]
fn a_gateway_that_is_down_is_named_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("deepmarket"));
    command.arg("--home").arg(home.path()).args(["--gateway", "http://127.0.0.1:9", "prices"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2));
    says(&String::from_utf8_lossy(&output.stderr), &["127.0.0.1:9", "deepmarket up"]);

    let mut nowhere = Command::new(program("deepmarket"));
    nowhere.arg("--home").arg(home.path()).arg("prices").env_remove("DEEPMARKET_GATEWAY");
    let output = run(&mut nowhere);
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["--gateway", "deepmarket up"]);
}

#[test]
fn a_corrupted_shard_ends_the_job_with_its_reason_or_is_fetched_elsewhere_and_the_rest_of_the_escrow_returns() {
    let _turn = my_turn();
    let market = Market::up(3);
    let opened = market.cli(&["account", "open", "--name", "bob", "--identity", "bob@pdx.example"]);
    market.cli(&["--account", "bob", "data", "add", mnist().to_str().unwrap(), "--name", "mnist"]);
    // Every stored copy of one shard is damaged on disk, behind the gateways' backs.
    let mut damaged = 0;
    let mut victim = None;
    for validator in 0..4 {
        let folder = market.home().join(format!("market/validator-{validator}/blobs"));
        let mut blobs: Vec<PathBuf> = walk(&folder);
        blobs.retain(|path| fs::metadata(path).is_ok_and(|m| m.len() > 100_000));
        blobs.sort();
        for path in blobs {
            let name = path.file_name().unwrap().to_owned();
            if victim.get_or_insert(name.clone()) == &name {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 1, "a shard was stored");
    let job = market.cli(&["--account", "bob", "job", "submit", "examples/mlp.toml"])["job"].as_str().unwrap().to_owned();
    let ended = market.wait_until_closed(&job, std::time::Duration::from_secs(180));
    says(ended["status"].as_str().unwrap(), &["panic", "data"]);
    assert_eq!(ended["escrow"], 0);
    let after = market.cli(&["account", "show", "bob"]);
    let spent = opened["granted"].as_u64().unwrap() - after["granted"].as_u64().unwrap();
    let cost = ["paid", "fees"].map(|part| ended[part].as_u64().unwrap());
    assert_eq!(spent, cost.iter().sum::<u64>(), "only receipts were paid, and their audits");
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|e| e.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
