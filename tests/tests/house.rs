//! The house keeps its shape: dependencies point one way, and heavy engines stay behind one crate each.

use std::{collections::BTreeMap, process::Command};

use deepmarket_tests::{checkout, json, run};

/// What each crate of ours may depend on among ours (chain → compute → node, as in the README's code map).
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("job", &["types"]),
    ("ledger", &["types", "job"]),
    ("genesis", &["types", "ledger"]),
    ("store", &["types", "ledger"]),
    ("engine", &["types"]),
    ("consensus", &["types", "ledger", "store", "engine", "genesis"]),
    ("dataset", &["types", "job"]),
    ("trainer", &["types", "job"]),
    ("net", &["types"]),
    ("api", &["types", "job"]),
    ("worker", &["types", "job", "net", "api"]),
    ("gateway", &["types", "ledger", "store", "consensus", "genesis", "job", "net", "api"]),
    ("wallet", &["types", "job", "dataset", "api"]),
    ("cli", &["types", "ledger", "genesis", "consensus", "gateway", "job", "dataset", "worker", "net", "api", "wallet"]),
    ("pluto", &["types", "genesis", "job", "api", "wallet"]),
    ("test-market", &[]),
    ("window-tests", &["test-market"]),
    ("tests", &["types", "job", "ledger", "genesis", "api", "test-market"]),
    ("fuzz-targets", &["types", "job", "genesis", "dataset", "trainer", "net", "api", "wallet", "engine"]),
];

/// The only crate of ours that may name an engine.
const ENGINES: &[(&str, &[&str])] = &[
    ("rocksdb", &["store"]),
    ("jmt", &["store"]),
    ("libp2p", &["net"]),
    ("libp2p-stream", &["net"]),
    ("burn", &["trainer"]),
    ("axum", &["gateway"]),
    ("reqwest", &["api", "gateway"]),
    ("tauri", &["pluto"]),
    ("arc-malachitebft-app-channel", &["engine", "consensus"]),
];

/// Dependencies of each of our crates, without those that only tests use.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(checkout());
    let metadata = json(&run(&mut command));
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap().strip_prefix("deepmarket-").unwrap().to_owned();
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let real = dependencies.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned());
        all.insert(name, real.collect());
    }
    all
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for (name, dependencies) in dependencies() {
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("say in this test what {name} may depend on"));
        for dependency in dependencies.iter().filter_map(|d| d.strip_prefix("deepmarket-")) {
            assert!(may.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn each_engine_is_known_to_its_crate_only() {
    let engines: BTreeMap<&str, &[&str]> = ENGINES.iter().copied().collect();
    for (name, dependencies) in dependencies() {
        for dependency in dependencies {
            if let Some(may) = engines.get(dependency.as_str()) {
                assert!(may.contains(&name.as_str()), "{name} must not depend on {dependency}");
            }
        }
    }
}
