//! What travels between machines, gateways and wallets.

use deepmarket_dataset::shard_bytes;
use deepmarket_job::{
    protocol::{Request, write_frame},
    tensor_file,
};
use deepmarket_types::*;
use deepmarket_wallet::{
    invite_code::InviteCode,
    keys,
    vault::{Vault, words},
};
use serde_json::json;

use crate::{key, seed};

pub fn write() {
    peers();
    engine();
    rest();
    wallet();
    trainer();
}

fn peers() {
    for (name, message) in deepmarket_net::fuzzing::sent_messages() {
        seed("message", name, &message);
    }
    let header = |part: u8, bytes: u32| {
        let mut header = vec![part, 0, 0, 0, 1, 0, 0, 0];
        header.extend([7_u64, 64].iter().flat_map(|number| number.to_le_bytes()));
        header.extend([2_u32, bytes].iter().flat_map(|number| number.to_le_bytes()));
        header
    };
    let stream = [header(1, 8), vec![0; 8], header(2, 4), vec![1; 4], header(3, 5), b"notes".to_vec(), header(4, 0)].concat();
    seed("frame", "stream", &stream);
    seed("frame", "bf16", &[&[1, 3][..], &[0x80, 0x3f].repeat(6)].concat());
    seed("frame", "int8", &[&[2, 3][..], &0.5_f32.to_le_bytes(), &[1, 2, 3, 253, 254, 255]].concat());
    let blob: Vec<u8> = (0..50_000_u32).map(|i| ((i * i) >> 7) as u8).collect();
    let sent = |from: u64| deepmarket_net::fuzzing::sent_blob(&blob, from).expect("memory");
    // libFuzzer's inputs are short: what is there already makes the rest fit.
    seed("blob", "last-group", &[&[3 << 2, 0][..], &sent(3 * 16 * 1024)].concat());
    seed("blob", "last-two-groups", &[&[2 << 2, 0][..], &sent(2 * 16 * 1024)].concat());
    seed("blob", "another-length", &[&[3 << 2 | 2, 5][..], &sent(3 * 16 * 1024)].concat());
    let peer = deepmarket_net::peer_id_of(&key(1).public()).expect("a key");
    let addresses = format!("{peer}\n/ip4/127.0.0.1/tcp/4001\n/dns4/lab-7.example.edu/tcp/4001/p2p/{peer}\n/ip6/::1/tcp/1");
    seed("address", "peer", addresses.as_bytes());
}

fn engine() {
    let (hash, public, signature) = (Hash::of(b"block"), key(1).public(), Signature([7; 64]));
    let vote = (true, 7_u64, Some(2_u32), Some(hash), public);
    let proposal = (7_u64, Some(2_u32), hash, None::<u32>, public);
    let commit = (7_u64, Some(2_u32), hash, vec![(public, signature), (key(2).public(), signature)]);
    let skip = (7_u64, Some(2_u32), true, vec![(true, None::<Hash>, public, signature)]);
    let id = vec![1_u8; 8];
    let peer = [&[0, 36, 8, 1, 18, 32][..], &public.0].concat();
    let messages = [
        ("vote", 0, encode(&(0_u8, vote, signature))),
        ("proposal", 0, encode(&(1_u8, proposal, signature))),
        ("polka", 1, encode(&(1_u8, commit.clone()))),
        ("skip", 1, encode(&(2_u8, skip))),
        ("part-init", 2, encode(&(id.clone(), 0_u64, Some((0_u8, 7_u64, Some(0_u32), None::<u32>, public))))),
        ("part-data", 2, encode(&(id.clone(), 1_u64, Some((1_u8, vec![5_u8; 9]))))),
        ("part-fin", 2, encode(&(id.clone(), 2_u64, Some((2_u8, signature))))),
        ("stream-end", 2, encode(&(id, 3_u64, None::<u8>))),
        ("value", 3, encode(&(7_u64, Some(0_u32), None::<u32>, public, hash, true))),
        ("commit", 4, encode(&commit)),
        ("extended-commit", 5, encode(&commit)),
        ("validator", 6, encode(&(public.0.to_vec(), peer.clone(), signature))),
        ("status", 7, encode(&(peer, 9_u64, 1_u64))),
        ("request", 8, encode(&(1_u64, 9_u64))),
        ("response", 9, encode(&(1_u64, vec![(vec![3_u8; 5], commit)]))),
    ];
    for (name, kind, message) in messages {
        seed("engine", name, &[&[kind][..], &message].concat());
    }
}

fn rest() {
    let (account, machine) = (AccountId::from_key(&key(1).public()), MachineId::from_key(&key(2).public()));
    let (hash, public) = (Hash::of(b"blob"), key(1).public());
    let signature = key(1).sign(Domain::Request, &hash, b"content");
    let resources = json!({ "cores": 2, "gpus": 0, "ram_mib": 2048, "disk_mib": 4096 });
    let prices = json!({ "core_hour": 1, "gpu_hour": 2, "ram_gib_hour": 3, "disk_gib_hour": 4 });
    let availability =
        json!({ "hours": { "from_minute": 1080, "to_minute": 480 }, "weekdays": 31, "until": 1_800_000_000_001_u64 });
    let offer = json!({ "resources": resources, "availability": availability, "minimum": prices, "at_close": "at_once" });
    let config = json!({ "name": "lab-7", "platform": "linux x86_64", "cpu": "cpu", "gpu": "", "host": hash,
        "resources": resources, "speed": 1500, "trainer": "0.1.0" });
    let round = json!({ "time": 5, "rank": 0, "sequence": 1, "kind": "round", "round": 3, "rounds": 9, "epoch": 0, "loss": 0.125,
        "compute_ms": 1, "exchange_ms": 2, "wait_ms": 3, "exchanged_bytes": 4 });
    let log = json!({ "time": 5, "rank": 0, "sequence": 2, "kind": "log", "line": "a line\n\u{1}" });
    let trained = json!({ "time": 5, "rank": 0, "sequence": 3, "kind": "trained", "generation": 1, "from": 0, "to": 4, "epoch": 0,
        "samples": 256, "ranks": [0, 1] });
    let entries = json!([round, log, trained]);
    let bodies = [
        ("voucher", 0, json!({ "identity": "alice@example.edu", "key": public })),
        ("quote", 1, json!({ "spec": "0100", "train_samples": 60_000, "validate_samples": 10_000 })),
        ("evaluation", 2, json!({ "offer": offer, "config": config })),
        ("batch", 3, json!({ "machine": machine, "entries": entries.to_string(), "signature": signature })),
        ("progress", 4, entries),
    ];
    for (name, kind, body) in bodies {
        seed("rest_body", name, &[&[kind][..], body.to_string().as_bytes()].concat());
    }
    let entry = json!({ "height": 3, "time": 5, "index": 0, "transaction": hash, "event": sample_event() });
    let answers = [
        (
            "status",
            0,
            json!({ "name": "local", "chain": hash, "height": 1, "time": 2, "block": hash, "state_root": hash,
            "validator": "validator-1", "validators": 4, "mempool": 0, "version": "0.1.0" }),
        ),
        (
            "network",
            1,
            json!({ "peer": { "peer_id": "12D3KooW", "addresses": ["/ip4/127.0.0.1/tcp/1"] },
            "gateways": ["http://127.0.0.1:8080"], "heartbeat_ms": 1000, "receipt_ms": 10_000 }),
        ),
        ("transaction", 2, json!({ "id": hash, "height": 3, "index": 0, "code": 0, "message": "", "transaction": null })),
        (
            "account",
            4,
            json!({ "id": account, "key": public, "nonce": 1, "granted": 5, "earned": 6, "escrow": 7,
            "reliability": 900, "jobs": ["job-1"], "machines": [machine] }),
        ),
        ("history", 5, entry.clone()),
        (
            "assignment",
            8,
            json!({ "lease": "lease-1", "job": "job-1", "rank": 0, "sequence": 0, "spec": "01", "seed": hash,
            "resources": resources, "generation": 1, "members": [{ "rank": 0, "lease": "lease-1", "machine": machine,
            "key": public, "addresses": [], "speed": 5 }], "world": 1, "checkpoint": { "state": hash, "rounds": 3 } }),
        ),
        (
            "statement",
            10,
            json!({ "height": 1, "granted": 1, "earned": 2, "lines": [{ "cause": { "kind": "job", "id": "job-1" },
            "incoming": 1, "outgoing": 2, "entries": 3 }], "balanced": true }),
        ),
        ("job-event", 12, json!({ "type": "progress", "index": 1, "entry": round })),
        ("job-chain", 12, json!({ "type": "chain", "entry": entry })),
        ("block-event", 13, json!({ "height": 3, "time": 5, "hash": hash, "transactions": 1, "events": [sample_event()] })),
        ("error", 14, json!({ "code": 5001, "name": "unknown", "message": "m", "hint": "h", "retryable": false })),
    ];
    for (name, kind, answer) in answers {
        seed("rest_answer", name, &[&[kind][..], answer.to_string().as_bytes()].concat());
    }
    let stream = b": hello\r\nid: 3\r\nevent: block\ndata: {\"a\":\ndata: 1}\n\nid:4\ndata:x\n\n";
    seed("rest_answer", "stream", &[&[15, 3][..], stream].concat());
}

/// An event with most of what events hold.
pub fn sample_event() -> Event {
    let (account, job) = (AccountId::from_key(&key(1).public()), JobId(7));
    let cause = Posting::Refund(job);
    Event::Posted {
        account,
        purse: Purse::Earned,
        amount: Credits::from_micro(5),
        balance: Credits::from_micro(9),
        incoming: true,
        cause,
    }
}

fn wallet() {
    let key = key(7);
    let vault = Vault::seal("alice", &key, "correct horse").expect("a password");
    let text = String::from_utf8(vault.to_bytes().expect("JSON")).expect("text");
    seed("wallet", "vault", &[&[0][..], text.as_bytes()].concat());
    // One that opens in no time, whatever its checksum says.
    let light = text.replace("65536", "8").replace("\"passes\": 3", "\"passes\": 1");
    seed("wallet", "light-vault", &[&[1][..], light.as_bytes()].concat());
    let folder = tempfile::tempdir().expect("a folder");
    keys::write(&folder.path().join("key.json"), &key).expect("a file");
    let file = std::fs::read(folder.path().join("key.json")).expect("a file");
    seed("wallet", "key-file", &[&[2][..], &file].concat());
    seed("wallet", "words", &[&[3][..], words(&key).join(" ").as_bytes()].concat());
    let code: InviteCode = "K7QD-M2XP-9A0B-CDEF".parse().expect("a code");
    seed("wallet", "code", &[&[4][..], code.to_string().as_bytes()].concat());
}

fn trainer() {
    let shard = shard_bytes(&[1, 2, 3, 4], &[0, 2], &[2]);
    seed("trainer", "shard", &[&[0][..], &shard].concat());
    let model = tensor_file::of_tensor("0.weight", &[3, 2], &[0; 24]);
    seed("trainer", "model", &[&[1][..], &model].concat());
    seed("trainer", "state", &[&[2][..], &model].concat());
    seed("trainer", "average", &[&[3][..], &[0; 4 * 21]].concat());
    let mut frames = Vec::new();
    let requests = [
        Request::Assign { train: vec![0, 1], validate: vec![0] },
        Request::Round { round: 0 },
        Request::Apply { values: vec![0; 4 * 21] },
        Request::Predict { index: 0 },
        Request::Save { trained: 2 },
        Request::Export,
        Request::Round { round: u64::MAX },
        Request::Stop,
    ];
    requests.iter().for_each(|request| write_frame(&mut frames, request).expect("memory"));
    seed("trainer", "frames", &[&[4][..], &frames].concat());
}
