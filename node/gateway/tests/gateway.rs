//! The gateway beside a real validator (the only one of its market), in this process, asked over HTTP.

mod market;

use std::path::Path;

use deepmarket_api::{
    ApiError, DayLine, ErrorBody, EvaluationRequest, JobEvent, KEY_HEADER, MAX_BLOB_BYTES, Progress, ProgressBatch, ProgressKind,
    QuoteRequest, SIGNATURE_HEADER, Statement, StatementCause, StatementLine, VoucherRequest, progress_content, upload_content,
};
use deepmarket_consensus::replay::Replay;
use deepmarket_genesis::Genesis;
use deepmarket_job::JobSpec;
use deepmarket_types::{
    Action, AuditId, Availability, ChainId, Credits, Domain, Event, Hash, Height, JobId, JobReason, JobState, LeaseOutcome,
    LeaseState, MachineId, MachineReason, MachineState, Offer, Posting, Resources, SecretKey, TimeMs, Transaction, Weekdays,
    encode, invite_key, join_proof,
};
use futures::StreamExt as _;
use market::{Market, RESOURCES, SOON, account_of, config, http, machine_of, offer, spec, validator_key};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_opened_with_a_voucher_and_everything_about_it_can_be_read_back() {
    let market = Market::start().await;
    let client = &market.client;
    let key = market.open_account(1).await;

    let account = client.account(account_of(&key)).await.unwrap().unwrap();
    assert_eq!((account.granted, account.earned, account.nonce), (Credits::from_credits(50), Credits::ZERO, 0));
    assert_eq!(client.account_by_key(&key.public()).await.unwrap().unwrap().id, account.id);
    let history = client.account_history(account.id, None, 10).await.unwrap();
    assert!(matches!(history[..], [ref entry] if matches!(entry.event, Event::Posted { incoming: true, .. })));
    let place = (history[0].height, history[0].index);
    assert!(client.account_history(account.id, Some(place), 10).await.unwrap().is_empty());

    let block = client.block(Some(history[0].height)).await.unwrap().unwrap();
    let opening = block.transactions.iter().find(|t| t.action == "open_account").unwrap();
    let known = client.transaction(opening.id).await.unwrap().unwrap();
    assert_eq!((known.height, known.code), (Some(block.header.height), Some(0)));
    assert_eq!(known.transaction.as_ref().unwrap().id(), opening.id);
    assert_eq!((block.hash, &block.signers), (block.header.hash(), &vec![validator_key().public()]));
    // Submitting it once more says what became of it.
    assert_eq!(client.submit(&known.transaction.clone().unwrap(), SOON).await.unwrap().height, known.height);

    let latest = client.block(None).await.unwrap().unwrap();
    assert!(latest.header.height >= block.header.height);
    let listed = client.blocks(Some(block.header.height.next()), 1).await.unwrap();
    assert_eq!(listed.iter().map(|b| b.header.height).collect::<Vec<_>>(), [block.header.height]);

    let (status, ledger) = (client.status().await.unwrap(), client.ledger().await.unwrap());
    assert_eq!((status.name.as_str(), status.chain, status.validators), ("local", market.chain, 1));
    assert!(ledger.conserved && ledger.minted == Credits::from_credits(50));
    assert_eq!(Genesis::from_toml(&client.genesis().await.unwrap()).unwrap(), market.genesis);
    let network = client.network().await.unwrap();
    assert_eq!((network.gateways, network.peer.addresses), (vec![market.url.clone()], market.net.addresses()));
    let prices = client.prices().await.unwrap();
    assert_eq!((prices.slot_names.len(), prices.prices.slots.len()), (4, 4));

    // The same person gets no second account.
    let again = VoucherRequest { identity: " USER1@pdx.edu".into(), key: SecretKey::from_seed([2; 32]).public() };
    let voucher = client.voucher(&again).await.unwrap();
    let error = client.act(&SecretKey::from_seed([2; 32]), Action::OpenAccount { voucher }).await.unwrap_err();
    assert_eq!(error.code(), 2014, "{error}");
    market.end().await;
}

/// Method, path and body; status, code and name of the refusal.
type Case = (&'static str, String, Vec<u8>, u16, u16, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_an_error_body_with_a_stable_code() {
    let market = Market::start_with(false, vec![]).await;
    let key = SecretKey::from_seed([1; 32]);
    let transfer = |chain: &ChainId| {
        let action = Action::Transfer { to: account_of(&validator_key()), amount: Credits::from_credits(1) };
        encode(&Transaction::sign(&key, chain, 0, Height(1_000), action))
    };
    let mut trailing = transfer(&market.chain);
    trailing.push(0);
    let hash = Hash::of(b"nothing").to_hex();
    let account = account_of(&key);
    let machine = MachineId::from_key(&key.public());
    let batch = json!({ "machine": machine, "entries": "[]", "signature": "00".repeat(64) }).to_string().into_bytes();
    let quote = json!({ "spec": "00", "train_samples": 1, "validate_samples": 1 }).to_string().into_bytes();
    let voucher = json!({ "identity": "a", "key": key.public() }).to_string().into_bytes();
    let never = Availability { weekdays: Weekdays(0), ..Availability::default() };
    let no_weekday = json!({ "offer": Offer { availability: never, ..offer() } }).to_string().into_bytes();
    let unprintable = json!({ "offer": offer(), "config": config("a\u{7}b") }).to_string().into_bytes();

    let cases: Vec<Case> = vec![
        ("POST", "/v1/transactions".into(), transfer(&Hash::of(b"other")), 400, 1005, "bad_signature"),
        ("POST", "/v1/transactions".into(), trailing, 400, 1001, "not_canonical"),
        ("POST", "/v1/transactions".into(), vec![0; 200_000], 413, 5004, "too_large"),
        ("POST", "/v1/transactions".into(), transfer(&market.chain), 422, 2002, "unknown_account"),
        ("POST", "/v1/transactions?wait_ms=soon".into(), vec![], 400, 5001, "bad_request"),
        ("GET", format!("/v1/transactions/{hash}"), vec![], 404, 5010, "unknown_transaction"),
        ("GET", "/v1/transactions/xyz".into(), vec![], 400, 5001, "bad_request"),
        ("GET", "/v1/blocks/999999".into(), vec![], 404, 5011, "unknown_block"),
        ("GET", "/v1/blocks/newest".into(), vec![], 400, 5001, "bad_request"),
        ("GET", "/v1/blocks?befor=3".into(), vec![], 400, 5001, "bad_request"),
        ("GET", format!("/v1/accounts/{account}"), vec![], 404, 5012, "unknown_account"),
        ("GET", format!("/v1/accounts/by-key/{}", key.public()), vec![], 404, 5012, "unknown_account"),
        ("GET", format!("/v1/accounts/{account}/history"), vec![], 404, 5012, "unknown_account"),
        ("GET", format!("/v1/accounts/{account}/history?before=3"), vec![], 400, 5001, "bad_request"),
        ("GET", format!("/v1/accounts/{account}/estimate"), vec![], 404, 5012, "unknown_account"),
        ("GET", format!("/v1/accounts/{account}/days"), vec![], 404, 5012, "unknown_account"),
        ("GET", format!("/v1/accounts/{account}/days?days=all"), vec![], 400, 5001, "bad_request"),
        ("GET", format!("/v1/accounts/{account}/statement"), vec![], 404, 5012, "unknown_account"),
        ("GET", "/v1/accounts?after=dm1".into(), vec![], 400, 5001, "bad_request"),
        ("GET", format!("/v1/invites/{}", key.public()), vec![], 404, 5016, "unknown_invite"),
        ("GET", "/v1/invites/K7QD-M2XP".into(), vec![], 400, 5001, "bad_request"),
        ("GET", format!("/v1/machines/{machine}"), vec![], 404, 5013, "unknown_machine"),
        ("GET", format!("/v1/machines/{machine}/leases"), vec![], 404, 5013, "unknown_machine"),
        ("GET", "/v1/jobs/job-7".into(), vec![], 404, 5014, "unknown_job"),
        ("GET", "/v1/jobs/job-7/history".into(), vec![], 404, 5014, "unknown_job"),
        ("GET", "/v1/jobs/job-7/progress".into(), vec![], 404, 5014, "unknown_job"),
        ("GET", "/v1/jobs/job-7/audits".into(), vec![], 404, 5014, "unknown_job"),
        ("GET", "/v1/jobs/job-7/receipts".into(), vec![], 404, 5014, "unknown_job"),
        ("GET", format!("/v1/machines/{machine}/audits"), vec![], 404, 5013, "unknown_machine"),
        ("GET", "/v1/audits/audit-7".into(), vec![], 404, 5018, "unknown_audit"),
        ("GET", "/v1/audits/some".into(), vec![], 400, 5001, "bad_request"),
        ("GET", "/v1/audits?state=some".into(), vec![], 400, 5001, "bad_request"),
        ("GET", "/v1/blocks/raw".into(), vec![], 400, 5001, "bad_request"),
        ("GET", "/v1/jobs/job-7/events".into(), vec![], 404, 5014, "unknown_job"),
        ("POST", "/v1/jobs/job-7/progress".into(), batch, 404, 5014, "unknown_job"),
        ("POST", "/v1/jobs/job-7/progress".into(), vec![b' '; 700_000], 413, 5004, "too_large"),
        ("GET", format!("/v1/blobs/{hash}"), vec![], 404, 5015, "unknown_blob"),
        ("PUT", format!("/v1/blobs/{hash}"), vec![1], 401, 5020, "missing_header"),
        ("POST", "/v1/quotes".into(), quote, 422, 3009, "bad_spec"),
        ("POST", "/v1/quotes".into(), b"{".to_vec(), 400, 5001, "bad_request"),
        ("POST", "/v1/evaluations".into(), b"{}".to_vec(), 400, 5001, "bad_request"),
        ("POST", "/v1/evaluations".into(), no_weekday, 400, 1007, "bad_availability"),
        ("POST", "/v1/evaluations".into(), unprintable, 400, 1006, "bad_text"),
        ("POST", "/v1/evaluations".into(), vec![b' '; 20_000], 413, 5004, "too_large"),
        ("POST", "/v1/vouchers".into(), voucher, 501, 5030, "no_registrar"),
        ("GET", "/v2/status".into(), vec![], 404, 5002, "unknown_route"),
        ("GET", "/explorer/main.css".into(), vec![], 404, 5017, "unknown_file"),
        ("POST", "/explorer".into(), vec![], 405, 5003, "bad_method"),
        ("DELETE", "/v1/status".into(), vec![], 405, 5003, "bad_method"),
    ];
    for (method, path, body, status, code, name) in cases {
        let (got, error) = market.refused(method, &path, body).await;
        assert_eq!((got, error.code, error.name.as_str()), (status, code, name), "{method} {path}: {}", error.message);
        assert!(!error.message.is_empty(), "{method} {path}");
    }
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_taken_from_known_keys_only_and_given_to_everybody() {
    let market = Market::start().await;
    let client = &market.client;
    let (known, stranger) = (market.open_account(1).await, SecretKey::from_seed([7; 32]));
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let hash = Hash::of(&content);

    assert!(!client.has_blob(hash).await.unwrap());
    let error = client.put_blob(&stranger, &market.chain, content.clone(), 1).await.unwrap_err();
    assert_eq!(error.code(), 5021, "{error}");
    let error = client.put_blob(&known, &Hash::of(b"other chain"), content.clone(), 1).await.unwrap_err();
    assert_eq!(error.code(), 1005, "{error}");
    assert_eq!(client.put_blob(&known, &market.chain, content.clone(), 3).await.unwrap(), hash);
    assert_eq!(client.put_blob(&known, &market.chain, content.clone(), 1).await.unwrap(), hash);
    assert!(client.has_blob(hash).await.unwrap());
    assert_eq!(client.get_blob(hash, &|_| {}).await.unwrap(), content);
    assert_eq!(market.net.blobs().get(&hash).unwrap().unwrap(), content);

    // Bytes that aren't what their name says, with a good signature.
    let named = Hash::of(b"another");
    let signature = known.sign(Domain::Request, &market.chain, &upload_content(&named, 5));
    let response = http()
        .put(format!("{}/v1/blobs/{}", market.url, named.to_hex()))
        .header(KEY_HEADER, known.public().to_string())
        .header(SIGNATURE_HEADER, signature.to_string())
        .body("bytes")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 422);
    assert_eq!(response.json::<ErrorBody>().await.unwrap().code, 5022);
    assert!(!client.has_blob(named).await.unwrap());
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_announced_as_too_long_is_refused_before_it_comes() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let market = Market::start().await;
    let mut stream = tokio::net::TcpStream::connect(market.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head =
        format!("PUT /v1/blobs/{} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", Hash::of(b"").to_hex(), MAX_BLOB_BYTES + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    market.end().await;
}

fn log(rank: u32, sequence: u64) -> Progress {
    Progress { time: TimeMs(1), rank, sequence, kind: ProgressKind::Log { line: format!("line {sequence}") } }
}

fn batch(key: &SecretKey, chain: &ChainId, job: JobId, entries: &[Progress]) -> ProgressBatch {
    let entries = serde_json::to_string(entries).unwrap();
    let signature = key.sign(Domain::Request, chain, &progress_content(job, &entries));
    ProgressBatch { machine: MachineId::from_key(&key.public()), entries, signature }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_quoted_submitted_watched_and_cancelled() {
    let mut market = Market::start().await;
    let (lender, borrower) = (market.open_account(1).await, market.open_account(2).await);
    let machine = market.lend(&lender, 3).await;
    let idle = market.lend(&lender, 4).await;
    let client = market.client.clone();
    let id_of = |key: &SecretKey| MachineId::from_key(&key.public());
    assert_eq!(client.machines(Some(account_of(&lender))).await.unwrap().len(), 2);
    assert_eq!(client.machines(Some(account_of(&borrower))).await.unwrap().len(), 0);
    assert_eq!(client.machine(id_of(&idle)).await.unwrap().unwrap().state, MachineState::Idle);

    let request = QuoteRequest { spec: hex::encode(spec().to_bytes()), train_samples: 60_000, validate_samples: 10_000 };
    let quote = client.quote(&request).await.unwrap();
    assert_eq!((quote.workers, quote.machines, quote.enough, quote.slots.len()), (1, 2, true, 4));

    let job = JobId(1);
    client.act(&borrower, Action::Borrow { spec: spec().to_bytes() }).await.unwrap();
    let view = client.job(job).await.unwrap().unwrap();
    assert_eq!((view.owner, view.leases.len(), view.state), (account_of(&borrower), 1, JobState::Matched));
    assert_eq!(JobSpec::from_toml(&view.spec, &|_| None).unwrap(), spec());
    assert_eq!(client.account(account_of(&borrower)).await.unwrap().unwrap().escrow, view.budget);
    assert_eq!(client.jobs(Some(account_of(&lender))).await.unwrap().len(), 0);
    assert_eq!(client.jobs(None).await.unwrap().len(), 1);
    assert!(!client.job_history(job, None, 100).await.unwrap().is_empty());
    // Machines are equal but for their ids, so either may have been chosen.
    let (worker, other) = if view.leases[0].machine == id_of(&machine) { (machine, idle) } else { (idle, machine) };
    let assigned = client.assignments(id_of(&worker)).await.unwrap();
    assert_eq!((assigned.len(), assigned[0].job, assigned[0].lease), (1, job, view.leases[0].id));
    assert_eq!((assigned[0].members.len(), assigned[0].generation, assigned[0].world), (0, 0, 1), "it is not ready yet");
    assert_eq!(JobSpec::from_bytes(&hex::decode(&assigned[0].spec).unwrap()).unwrap(), spec());
    assert!(client.assignments(id_of(&other)).await.unwrap().is_empty());

    let report = |key: &SecretKey, entries: &[Progress]| batch(key, &market.chain, job, entries);
    client.post_progress(job, &report(&worker, &[log(0, 1), log(0, 2)])).await.unwrap();
    client.post_progress(job, &report(&worker, &[log(0, 2), log(0, 3)])).await.unwrap();
    let refused = async |batch: ProgressBatch| client.post_progress(job, &batch).await.unwrap_err().code();
    assert_eq!(refused(report(&other, &[log(0, 4)])).await, 5023);
    assert_eq!(refused(report(&borrower, &[log(0, 4)])).await, 5023);
    assert_eq!(refused(report(&worker, &[log(1, 1)])).await, 5024);
    assert_eq!(refused(ProgressBatch { machine: id_of(&worker), ..report(&other, &[log(0, 4)]) }).await, 1005);
    assert_eq!(refused(batch(&worker, &market.chain, JobId(2), &[log(0, 4)])).await, 1005);
    assert_eq!(client.progress(job, 0).await.unwrap(), [log(0, 1), log(0, 2), log(0, 3)]);
    assert_eq!(client.progress(job, 2).await.unwrap(), [log(0, 3)]);

    // Somebody watches while the gateway is restarted, more is reported, and the job ends.
    let mut watched = client.progress_stream(job);
    let mut next = async || tokio::time::timeout(SOON, watched.next()).await.unwrap().unwrap();
    assert!(matches!(next().await.unwrap(), JobEvent::State { state: JobState::Matched, .. }));
    let JobEvent::Chain { entry } = next().await.unwrap() else { panic!("the lease's beginning is told") };
    assert!(matches!(entry.event, Event::Lease { rank: 0, state: LeaseState::Active, .. }), "{entry:?}");
    for sequence in 1..=3 {
        assert_eq!(next().await.unwrap(), JobEvent::Progress { index: sequence, entry: log(0, sequence) });
    }
    market.close_gateway().await;
    assert!(matches!(client.status().await.unwrap_err(), ApiError::Unreachable { .. }));
    market.open_gateway(true, vec![]).await;
    client.post_progress(job, &report_after(&market, &worker, job, 4)).await.unwrap();
    client.act(&borrower, Action::Cancel { job }).await.unwrap();
    let (mut rest, mut leases) = (Vec::new(), Vec::new());
    loop {
        match next().await {
            Ok(JobEvent::End) => break,
            Ok(JobEvent::Progress { entry, .. }) => rest.push(entry.sequence),
            Ok(JobEvent::Chain { entry }) => leases.extend(match entry.event {
                Event::Lease { state, .. } => Some(state),
                _ => None,
            }),
            Ok(JobEvent::State { .. }) => {}
            Err(error) => assert!(error.retryable(), "{error}"),
        }
    }
    assert_eq!(rest, [4], "nothing is told twice, nothing is missed");
    assert_eq!(leases, [LeaseState::Ended]);
    assert_eq!(client.job(job).await.unwrap().unwrap().state, JobState::Cancelled);
    assert!(client.ledger().await.unwrap().conserved);
    market.end().await;
}

fn report_after(market: &Market, worker: &SecretKey, job: JobId, sequence: u64) -> ProgressBatch {
    batch(worker, &market.chain, job, &[log(0, sequence)])
}

#[tokio::test(flavor = "multi_thread")]
async fn held_pay_receipts_and_the_whole_chain_can_be_read_back_and_checked() {
    let market = Market::start_with_audits().await;
    let (lender, borrower) = (market.open_account(1).await, market.open_account(2).await);
    let machine = market.lend(&lender, 3).await;
    let client = &market.client;
    client.act(&borrower, Action::Borrow { spec: spec().to_bytes() }).await.unwrap();
    market.report(&machine, 1, LeaseOutcome::Running).await;
    market.report(&machine, 2, LeaseOutcome::Running).await;
    market.report(&machine, 4, LeaseOutcome::Running).await;

    let job = client.job(JobId(1)).await.unwrap().unwrap();
    assert!(job.paid > Credits::ZERO && job.audit_permille == 250 && job.leases[0].held == job.paid, "{job:?}");
    let (account, view) =
        (client.account(account_of(&lender)).await.unwrap().unwrap(), client.machine(machine_of(&machine)).await);
    let view = view.unwrap().unwrap();
    assert_eq!((account.held, view.held, account.earned, account.barred), (job.paid, job.paid, Credits::ZERO, false));
    assert_eq!((account.vests, view.strikes, view.auditing), (view.vests, 0, None));
    let ledger = client.ledger().await.unwrap();
    assert_eq!((ledger.held, ledger.treasury, ledger.conserved), (job.paid, job.fees, true));

    let receipts = client.receipts(JobId(1)).await.unwrap();
    let told: Vec<_> = receipts.iter().map(|r| (r.sequence, r.rounds, r.samples, r.committed)).collect();
    assert_eq!(told, [(1, 1_000, 0, 0), (2, 2_000, 0, 0), (4, 4_000, 0, 0)]);
    assert_eq!(receipts.iter().map(|receipt| receipt.payout).sum::<Credits>(), job.paid);
    assert_eq!(receipts.iter().filter_map(|receipt| receipt.held).map(|held| held.pay).sum::<Credits>(), job.paid);
    let last = receipts.last().unwrap();
    assert_eq!(
        (last.lease, last.machine, last.parameters),
        (job.leases[0].id, machine_of(&machine), Hash::of(&4_u32.to_le_bytes()))
    );
    assert_eq!(last.held.unwrap().vests, last.time.plus(40_000));
    assert_eq!(client.transaction(last.transaction).await.unwrap().unwrap().height, Some(last.height));
    // Nothing was committed to, so nothing can be audited.
    assert!(client.audits(JobId(1)).await.unwrap().is_empty() && client.audit(AuditId(1)).await.unwrap().is_none());
    assert!(client.open_audits().await.unwrap().is_empty() && client.judging().await.unwrap().is_empty());
    assert!(client.duties(machine_of(&machine)).await.unwrap().is_empty());

    // All blocks, and no more trust than in the genesis document.
    let mut replay = Replay::new(&market.genesis).unwrap();
    let tip = client.block(None).await.unwrap().unwrap();
    while replay.ledger().height() < tip.header.height {
        let blocks = client.raw_blocks(replay.ledger().height().next()).await.unwrap();
        assert!(!blocks.is_empty());
        for raw in blocks.iter().take((tip.header.height.0 - replay.ledger().height().0) as usize) {
            replay.next(&raw.block, &raw.certificate).unwrap();
        }
    }
    assert_eq!(replay.ledger().tip(), tip.hash);
    assert_eq!(replay.ledger().job(JobId(1)).unwrap().paid, job.paid);
    assert!(client.raw_blocks(Height(1_000_000)).await.unwrap().is_empty());
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_earned_and_a_job_cost_adds_up_to_both_balances() {
    let market = Market::start().await;
    let (lender, borrower) = (market.open_account(1).await, market.open_account(2).await);
    let machine = market.lend(&lender, 3).await;
    let client = &market.client;
    let (lends, borrows) = (account_of(&lender), account_of(&borrower));
    client.act(&borrower, Action::Borrow { spec: spec().to_bytes() }).await.unwrap();
    let expected = client.estimate(lends).await.unwrap();
    assert!(expected.profit > Credits::ZERO && expected.cost.is_zero(), "{expected:?}");
    assert!(client.estimate(borrows).await.unwrap().cost > Credits::ZERO);
    market.report(&machine, 1, LeaseOutcome::Running).await;
    market.report(&machine, 2, LeaseOutcome::Finished(Hash::of(b"model"))).await;
    let job = client.job(JobId(1)).await.unwrap().unwrap();
    assert_eq!((job.why, job.state), (JobReason::Finished, JobState::Finished(Hash::of(b"model"))));
    assert!(job.paid > Credits::ZERO);

    let paid_ms = job.leases[0].paid_ms;
    let [profit] = &client.days(lends, 30).await.unwrap()[..] else { panic!("one machine, one day") };
    assert_eq!((profit.line, profit.name.as_str()), (DayLine::Profit(machine_of(&machine)), "machine 3"));
    assert_eq!((profit.credits, profit.receipts, profit.paid_ms), (job.paid, 2, paid_ms));
    let [cost] = &client.days(borrows, 1).await.unwrap()[..] else { panic!("one job, one day") };
    assert_eq!((cost.line, cost.credits, cost.name.as_str()), (DayLine::Cost(JobId(1)), job.paid, "mnist-mlp"));
    assert!(client.days(lends, 0).await.unwrap().is_empty());

    let start = (StatementCause::StartingCredits, Credits::from_credits(50), Credits::ZERO, 1);
    let lines = |statement: Statement| {
        assert!(statement.balanced);
        let line = |line: StatementLine| (line.cause, line.incoming, line.outgoing, line.entries);
        statement.lines.into_iter().map(line).collect::<Vec<_>>()
    };
    let statement = client.statement(lends).await.unwrap();
    assert_eq!((statement.granted, statement.earned), (Credits::from_credits(50), job.paid));
    assert_eq!(lines(statement), [start, (StatementCause::Machine(machine_of(&machine)), job.paid, Credits::ZERO, 2)]);
    let back = job.budget.checked_sub(job.paid).unwrap();
    assert_eq!(lines(client.statement(borrows).await.unwrap()), [start, (StatementCause::Job(JobId(1)), back, job.budget, 2)]);

    // Every entry names the transaction that caused it.
    let history = client.account_history(lends, None, 100).await.unwrap();
    let payout = history.iter().find(|entry| matches!(entry.event, Event::Posted { cause: Posting::Payout { .. }, .. })).unwrap();
    let caused_by = client.transaction(payout.transaction.unwrap()).await.unwrap().unwrap();
    assert_eq!(caused_by.height, Some(payout.height));
    assert!(matches!(caused_by.transaction.unwrap().body.action, Action::Receipt(_)));

    let listed = client.accounts(None, 1).await.unwrap();
    let after = client.accounts(Some(listed[0].id), 100).await.unwrap();
    let ids: Vec<_> = listed.iter().chain(&after).map(|account| account.id).collect();
    assert!(ids.is_sorted() && ids.len() == 2 && ids.contains(&lends) && ids.contains(&borrows));
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_read_page_by_page() {
    let market = Market::start().await;
    let owner = market.open_account(1).await;
    market.lend(&owner, 3).await;
    market.lend(&owner, 4).await;
    for _ in 0..3 {
        market.client.act(&owner, Action::Borrow { spec: spec().to_bytes() }).await.unwrap();
    }
    let ids = async |path: String| {
        let answer: Value = http().get(format!("{}/v1/{path}", market.url)).send().await.unwrap().json().await.unwrap();
        answer.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let account = account_of(&owner);
    for of in ["", &format!("&owner={account}")] {
        assert_eq!(ids(format!("jobs?limit=2{of}")).await, ["job-3", "job-2"]);
        assert_eq!(ids(format!("jobs?before=job-2{of}")).await, ["job-1"]);
        let machines = ids(format!("machines?limit=9{of}")).await;
        assert_eq!((machines.len(), machines.is_sorted_by_key(|id| id.parse::<MachineId>().unwrap())), (2, true));
        assert_eq!(ids(format!("machines?limit=1{of}")).await, machines[..1]);
        assert_eq!(ids(format!("machines?after={}{of}", machines[0])).await, machines[1..]);
    }
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_evaluated_and_a_machine_joins_by_invitation() {
    let market = Market::start().await;
    let owner = market.open_account(1).await;
    let client = &market.client;
    let asked = async |offer: Offer| client.evaluate(&EvaluationRequest { offer, config: Some(config("m")) }).await.unwrap();
    let fine = asked(offer()).await;
    assert_eq!((fine.refused, fine.slots.len()), (None, 4));
    let refused = asked(Offer { resources: Resources { cores: 9, ..RESOURCES }, ..offer() }).await.refused.unwrap();
    assert!(refused.contains("more than the machine has") && refused.contains("offer at most"), "{refused}");

    let code = invite_key(&market.chain, "K7QD-M2XP-AAAA-BBBB");
    assert_eq!(client.invite(&code.public()).await.unwrap(), None);
    let expires = client.status().await.unwrap().time.plus(3_600_000);
    client.act(&owner, Action::Invite { code: code.public(), offer: Some(offer()), expires }).await.unwrap();
    let invited = client.invite(&code.public()).await.unwrap().unwrap();
    assert_eq!((invited.owner, invited.offer, invited.expires), (account_of(&owner), Some(offer()), expires));

    let machine = SecretKey::from_seed([3; 32]);
    let proof = join_proof(&code, &market.chain, &machine.public(), &config("remote"));
    client.act(&machine, Action::Join { code: code.public(), config: config("remote"), proof }).await.unwrap();
    assert_eq!(client.invite(&code.public()).await.unwrap(), None);
    let joined = client.machine(machine_of(&machine)).await.unwrap().unwrap();
    assert_eq!((joined.owner, joined.offer, joined.why), (account_of(&owner), Some(offer()), MachineReason::NotHeardYet));
    assert!(joined.reason.contains("not heard of yet"), "{}", joined.reason);
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_the_chain_and_what_the_gateway_answered() {
    let market = Market::start().await;
    market.open_account(1).await;
    market.refused("GET", "/v1/jobs/job-7", vec![]).await;
    market.refused("GET", "/no/such/route", vec![]).await;
    let response = http().get(format!("{}/metrics", market.url)).send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let text = response.text().await.unwrap();
    for line in [
        "deepmarket_accounts 1",
        "deepmarket_validators 1",
        "deepmarket_jobs{state=\"running\"} 0",
        "deepmarket_minted_microcredits 50000000",
        "deepmarket_gateway_requests_total{method=\"get\",route=\"/v1/jobs/{id}\",status=\"4xx\"} 1",
        "deepmarket_gateway_requests_total{method=\"get\",route=\"none\",status=\"4xx\"} 1",
        "deepmarket_gateway_requests_total{method=\"post\",route=\"/v1/vouchers\",status=\"2xx\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorers_files_are_served_with_a_policy_that_runs_no_other_script() {
    let market = Market::start().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/explorer", "text/html; charset=utf-8"),
        ("/explorer/main.js", "text/javascript; charset=utf-8"),
        ("/explorer/style.css", "text/css; charset=utf-8"),
        ("/explorer/icon.svg", "image/svg+xml"),
    ] {
        let response = http().get(format!("{}{path}", market.url)).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &content_type.parse().unwrap()),
            "{path}"
        );
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_streamed_from_where_one_asks_with_what_they_changed() {
    let market = Market::start().await;
    let key = market.open_account(1).await;
    let mut stream = market.client.block_stream(Some(Height(0)));
    let mut heights = Vec::new();
    let opened = loop {
        let block = tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap();
        heights.push(block.height.0);
        if let Some(event) = block.events.iter().find(|event| event.account() == Some(account_of(&key))) {
            break event.clone();
        }
    };
    assert!(matches!(opened, Event::Posted { .. }));
    assert_eq!(heights, (1..=heights.len() as u64).collect::<Vec<_>>());
    // And goes on with new ones.
    let last = heights.len() as u64;
    let next = tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next.height, Height(last + 1));
    market.end().await;
}

/// The other gateway is a stand-in that counts what it gets: beside a real one, nobody could tell which of the two a
/// transaction came from.
#[tokio::test(flavor = "multi_thread")]
async fn what_users_submit_is_given_to_the_other_gateways_once() {
    let (got, mut given) = tokio::sync::mpsc::unbounded_channel();
    let stand_in = axum::Router::new().route(
        "/v1/transactions",
        axum::routing::post(async move |uri: axum::http::Uri, body: axum::body::Bytes| {
            got.send((uri.query().map(str::to_owned), body)).unwrap();
            "{}"
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, stand_in).await.unwrap() });

    let market = Market::start_with(true, vec![other]).await;
    let open = async |seed: u8| {
        let key = SecretKey::from_seed([seed; 32]);
        let request = VoucherRequest { identity: format!("{seed}"), key: key.public() };
        let voucher = market.client.voucher(&request).await.unwrap();
        market.client.prepare(&key, Action::OpenAccount { voucher }).await.unwrap()
    };
    let (forwarded, own) = (open(1).await, open(2).await);
    // One that came from another gateway isn't sent around again.
    let url = format!("{}/v1/transactions?forward=false&wait_ms=20000", market.url);
    let answer: Value = http().post(url).body(encode(&forwarded)).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["code"], 0, "{answer}");
    market.client.submit(&own, SOON).await.unwrap();
    let (query, body) = tokio::time::timeout(SOON, given.recv()).await.unwrap().unwrap();
    assert_eq!((query.as_deref(), body.as_ref()), (Some("forward=false"), encode(&own).as_slice()));
    assert!(given.try_recv().is_err());
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_that_is_served_is_the_committed_one_and_browsers_may_read() {
    let market = Market::start().await;
    let response = http().get(format!("{}/v1/openapi.json", market.url)).header("origin", "http://x").send().await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/openapi.json");
    assert!(response.text().await.unwrap() == std::fs::read_to_string(path).unwrap());
    market.end().await;
}
