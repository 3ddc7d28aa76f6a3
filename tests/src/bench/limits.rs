use std::{io::Write as _, time::Instant};

use deepmarket_types::{Domain, Hash, SecretKey};
use serde_json::{Value, json};

/// What no ledger on this machine can exceed: signature checks on one core, and synced writes.
pub fn measure(quick: bool) -> Value {
    let (checks, writes) = if quick { (500, 50) } else { (5_000, 500) };
    let (key, chain) = (SecretKey::from_seed([1; 32]), Hash::of(b"bench"));
    let content = [7; 200];
    let signature = key.sign(Domain::Transaction, &chain, &content);
    let began = Instant::now();
    for _ in 0..checks {
        key.public().verify(Domain::Transaction, &chain, &content, &signature).expect("a right signature");
    }
    let checks_per_s = f64::from(checks) / began.elapsed().as_secs_f64();

    let mut file = tempfile::tempfile().expect("a temporary file");
    let began = Instant::now();
    for _ in 0..writes {
        file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).expect("a synced write");
    }
    let fsyncs_per_s = f64::from(writes) / began.elapsed().as_secs_f64();
    json!({ "signature_checks_per_s": checks_per_s, "fsyncs_per_s": fsyncs_per_s })
}
