//! Bytes are promises: one transaction of each kind and a block header, as the first release wrote them. A change here needs a
//! new format version; old lines stay and must still be read.

use deepmarket_types::*;

const VECTORS: &str = include_str!("vectors.txt");

fn chain() -> ChainId {
    Hash::of(b"vectors")
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// Name, id and canonical bytes.
fn vectors() -> Vec<(&'static str, Hash, Vec<u8>)> {
    let (owner, machine, registrar, validator) = (key(1), key(2), key(3), key(4));
    let resources = Resources { cores: 2, gpus: 0, ram_mib: 2048, disk_mib: 10_240 };
    let text = |text: &str| text.to_string();
    let (name, platform, cpu, trainer) = (text("lab-7"), text("linux x86_64"), text("some cpu"), text("0.1.0"));
    let (gpu, host) = (text("some gpu"), Hash::of(b"host"));
    let config = MachineConfig { name, platform, cpu, gpu, host, resources, speed: 1_500, trainer };
    let machine_key = machine.public();
    let consent = machine_proof(&machine, &chain(), &owner.public(), &config);
    let voucher = Voucher::sign(&registrar, &chain(), Hash::of(b"somebody"), owner.public(), TimeMs(1_800_000_000_000));
    let id = MachineId::from_key(&machine_key);
    let unit = |n| UnitPrices {
        core_hour: Credits::from_micro(n),
        gpu_hour: Credits::from_micro(n + 1),
        ram_gib_hour: Credits::from_micro(n + 2),
        disk_gib_hour: Credits::from_micro(n + 3),
    };
    let availability = Availability {
        hours: Some(DailyHours { from_minute: 1_080, to_minute: 480 }),
        weekdays: Weekdays(0b1_1111),
        until: Some(TimeMs(1_800_000_000_001)),
    };
    let offer = Offer { resources, availability, minimum: unit(400_000), at_close: ChangeMode::AtOnce };
    let receipt = Receipt {
        job: JobId(7),
        lease: LeaseId(9),
        rank: 1,
        sequence: 3,
        from: 20,
        rounds: 120,
        samples: 7_680,
        cpu_ms: 30_000,
        parameters: Hash::of(b"parameters"),
        commitments: Hash::of(b"commitments"),
        committed: 100,
        loss_micro: 123_456,
        checkpoint: Some(Checkpoint { state: Hash::of(b"checkpoint"), rounds: 110 }),
        missing: Some(LeaseId(8)),
        outcome: LeaseOutcome::Finished(Hash::of(b"model")),
    };
    let prices = SlotPrices { day: 20_780, slots: [unit(10), unit(20), unit(30), unit(40)] };
    let addresses = Some(vec![text("/ip4/10.0.0.7/tcp/4001")]);
    let to = AccountId::from_key(&key(5).public());
    let code = invite_key(&chain(), "k7qd-m2xp-aaaa-bbbb");
    let joins = join_proof(&code, &chain(), &machine.public(), &config);
    let invites = Action::Invite { code: code.public(), offer: Some(offer), expires: TimeMs(1_800_000_000_003) };
    let join = Action::Join { code: code.public(), config: config.clone(), proof: joins };
    let hash = |text: &str| Hash::of(text.as_bytes());
    let commitment = RoundCommitment { round: 25, samples: 64, total_samples: 384, sealed: seal(&hash("answer"), &hash("salt")) };
    let proof = LeafProof { path: vec![hash("left"), hash("right")], peaks: vec![hash("peak")] };
    let last = Some((RoundCommitment { round: 119, ..commitment }, proof.clone()));
    let (salt, evidence) = (hash("salt"), hash("evidence"));
    let disclosure = Disclosure { audit: AuditId(3), commitment, salt, proof, last, evidence };
    let (inputs, steps, output, exchange) = (hash("inputs"), steps_root(&[hash("step")]), hash("output"), exchange_root(&[]));
    let outcome = RoundOutcome { inputs, steps, output, exchange, samples: 64 };
    let finding = Finding::Different { blinded: blind(AuditId(3), &machine.public(), &outcome.answer(), &salt) };
    let trace = RoundTrace { outcome, steps: vec![hash("step")] };
    let (audit, state, step) = (AuditId(3), Some(hash("state")), Some(hash("step")));
    let actions = [
        (&owner, 0, Action::OpenAccount { voucher }),
        (&owner, 1, Action::Transfer { to, amount: Credits::from_micro(2_500_000) }),
        (&owner, 2, Action::RegisterMachine { machine_key, config, proof: consent }),
        (&owner, 3, Action::Lend { machine: id, offer, mode: ChangeMode::AfterLease }),
        (&owner, 4, Action::Withdraw { machine: id, mode: ChangeMode::AfterLease }),
        (&machine, 5, Action::Heartbeat { addresses }),
        (&owner, 6, Action::Borrow { spec: vec![1, 2, 3] }),
        (&owner, 7, Action::Cancel { job: JobId(7) }),
        (&machine, 0, Action::Receipt(receipt)),
        (&validator, 0, Action::Price(prices)),
        (&owner, 8, invites),
        (&machine, 0, join),
        (&machine, 0, Action::Disclose(disclosure)),
        (&machine, 0, Action::Commit { audit, finding }),
        (&machine, 0, Action::Reveal { audit, outcome, salt }),
        (&machine, 0, Action::Trace { audit, trace, state }),
        (&validator, 0, Action::Judge { audit, step }),
    ];
    let mut vectors = Vec::new();
    for (key, nonce, action) in actions {
        let transaction = Transaction::sign(key, &chain(), nonce, Height(1_000), action);
        vectors.push((transaction.body.action.name(), transaction.id(), encode(&transaction)));
    }
    let header = Header {
        version: Header::VERSION,
        chain: chain(),
        height: Height(42),
        time: TimeMs(1_800_000_000_002),
        parent: Hash::of(b"parent"),
        state_root: Hash::of(b"state"),
        transactions: Hash::tagged("deepmarket/v1/transactions", &[]),
        proposer: validator.public(),
        link: Hash::of(b"link"),
    };
    vectors.push(("header", header.hash(), encode(&header)));
    vectors
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_written_today_is_what_was_always_written() {
    let lines: Vec<String> =
        vectors().into_iter().map(|(name, id, bytes)| format!("{name} {} {}", id.to_hex(), hex(&bytes))).collect();
    let stored: Vec<&str> = VECTORS.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, stored, "the bytes of a released format changed: give it a new version instead\n{}", lines.join("\n"));
}

#[test]
fn what_was_written_is_still_read_and_its_signatures_hold() {
    let mut kinds = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let [name, id, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("not a vector: {line}") };
        let bytes: Vec<u8> =
            (0..bytes.len() / 2).map(|i| u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).expect("hex digits")).collect();
        let id: Hash = id.parse().expect("a hash");
        if name == "header" {
            assert_eq!(decode::<Header>(&bytes).expect("a header").hash(), id);
        } else {
            let verified = Transaction::verify_bytes(&bytes, &chain()).expect("a signed transaction");
            assert_eq!((verified.transaction().body.action.name(), verified.id()), (name, id));
            kinds += 1;
        }
    }
    assert_eq!(kinds, 17, "one of each kind");
}
