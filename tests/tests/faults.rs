//! Validators are killed; credits and jobs are not.

use std::{process::Stdio, time::Duration};

use deepmarket_tests::{Market, checkout, mnist, my_turn, wait_for};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

/// A market with a borrower's account and MNIST.
fn market_with_data(machines: u32) -> Market {
    let market = Market::up(machines);
    market.cli(&["account", "open", "--name", "bob", "--identity", "bob@pdx.example"]);
    market.cli(&["--account", "bob", "data", "add", mnist().to_str().unwrap(), "--name", "mnist"]);
    market
}

/// The block that a gateway holds at a height.
fn block(market: &Market, gateway: usize, height: u64) -> Option<Value> {
    market.get(gateway, &format!("/v1/blocks/{height}"))
}

#[test]
fn a_validator_killed_during_a_job_costs_nothing_and_catches_up_to_the_same_state() {
    let _turn = my_turn();
    let mut market = market_with_data(3);
    let job = market.home().join("two-epochs.toml");
    let example = std::fs::read_to_string(checkout().join("examples/mnist.toml")).unwrap();
    std::fs::write(&job, example.replace("epochs = 5", "epochs = 2")).unwrap();
    let submitted = market.cli(&["--account", "bob", "job", "submit", job.to_str().unwrap()]);
    let job = submitted["job"].as_str().unwrap().to_owned();
    wait_for("the first receipt", MINUTE, || {
        let leases = market.cli(&["job", "show", &job])["job"]["leases"].clone();
        leases.as_array()?.iter().any(|l| l["rounds"].as_u64() > Some(0)).then_some(())
    });
    market.kill("validator-2");
    let before = market.height(0).unwrap();
    let ended = market.wait_until_closed(&job, 5 * MINUTE);
    assert_eq!(ended["state"]["state"], "finished", "{ended}");

    market.restart_validator(2);
    let tip = market.height(0).unwrap();
    assert!(tip > before);
    wait_for("the killed validator to catch up", MINUTE, || (market.height(2)? >= tip).then_some(()));
    let (own, others) = (block(&market, 2, tip).unwrap(), block(&market, 0, tip).unwrap());
    assert_eq!(own["hash"], others["hash"]);
    // The header's root is of the state before the block: the next block's header holds that of the state after it.
    let next = tip + 1;
    let root = |gateway| wait_for("a later block", MINUTE, || block(&market, gateway, next))["header"]["state_root"].clone();
    assert_eq!(root(2), root(0));
    assert_eq!(market.cli(&["chain", "status"])["ledger"]["conserved"], true);
}

#[test]
fn with_two_of_four_validators_down_the_chain_stops_and_goes_on_with_nothing_lost() {
    let _turn = my_turn();
    let mut market = Market::up(0);
    let open = |name: &str| market.cli(&["account", "open", "--name", name, "--identity", &format!("{name}@pdx.example")]);
    let before = open("before");
    market.kill("validator-2");
    market.kill("validator-3");
    let stopped_at = market.height(0).unwrap();

    // An account can be asked for, but no block comes for it.
    let mut opening = market.command(&["account", "open", "--name", "after", "--identity", "after@pdx.example"]);
    let mut opening = opening.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let heartbeats = std::time::Instant::now() + Duration::from_secs(15);
    wait_for("three slow heartbeats to pass", MINUTE, || (std::time::Instant::now() > heartbeats).then_some(()));
    let height = market.height(0).unwrap();
    assert!(height <= stopped_at + 1, "no block is decided by two of four: {stopped_at} -> {height}");

    market.restart_validator(2);
    wait_for("the chain to go on", 2 * MINUTE, || (market.height(0)? > height + 1).then_some(()));
    let opened = wait_for("the waiting account to be opened", MINUTE, || opening.try_wait().unwrap());
    assert!(opened.success(), "what was asked for while the chain stood still is done when it goes on");
    assert_eq!(market.cli(&["account", "show", "after"])["granted"], 50_000_000);
    let id = before["id"].as_str().unwrap();
    assert_eq!(market.cli(&["account", "show", id])["granted"], before["granted"]);
    wait_for("the third validator to hold what was acknowledged", MINUTE, || {
        (market.get(2, &format!("/v1/accounts/{id}"))?["granted"] == before["granted"]).then_some(())
    });
    assert_eq!(market.cli(&["chain", "status"])["ledger"]["conserved"], true);
}
