//! The client against gateways that fail on purpose.
//!
//! The servers here are stand-ins of a few lines: a real gateway can't be told to break off after half an answer, to lie
//! about a blob or to forget a transaction, and it lives in a crate that depends on this one. The client is tested against
//! the real one there.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use deepmarket_api::{
    AccountView, ApiError, BlockEvent, Client, ErrorBody, HistoryEntry, JobEvent, Progress, ProgressKind, Status,
    TransactionStatus,
};
use deepmarket_types::{
    AccountId, Action, Credits, Event, Hash, Height, JobId, JobState, SecretKey, TimeMs, Transaction, encode,
};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Serves a router on a free port until the test's runtime ends.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    format!("http://{address}")
}

fn client(gateways: &[&String]) -> Client {
    Client::new(gateways.iter().map(|g| (*g).clone()).collect()).unwrap()
}

fn refuse(status: StatusCode, code: u16, name: &str, retryable: bool) -> Response {
    let body = ErrorBody { code, name: name.into(), message: format!("{name} happened"), hint: "do this".into(), retryable };
    (status, Json(body)).into_response()
}

fn status(height: u64) -> Status {
    Status {
        name: "test".into(),
        chain: Hash::of(b"chain"),
        height: Height(height),
        time: TimeMs(1),
        block: Hash::of(b"block"),
        state_root: Hash::of(b"root"),
        validator: "v".into(),
        validators: 1,
        mempool: 0,
        version: "0".into(),
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn transfer(nonce: u64) -> Transaction {
    let action = Action::Transfer { to: AccountId::from_key(&key().public()), amount: Credits::from_credits(1) };
    Transaction::sign(&key(), &Hash::of(b"chain"), nonce, Height(10), action)
}

/// What a gateway says of a transaction; without a height it waits.
fn became(id: Hash, height: Option<u64>, code: u16) -> Response {
    let code = height.map(|_| code);
    let message = if code.unwrap_or(0) == 0 { String::new() } else { "too little credit".into() };
    let status = TransactionStatus { id, height: height.map(Height), index: Some(0), code, message, transaction: None };
    let http = if height.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    (http, Json(status)).into_response()
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_read_fails_over_and_the_gateway_that_answered_is_asked_first_from_then_on() {
    let broken_asked = Arc::new(AtomicUsize::new(0));
    let asked = broken_asked.clone();
    let broken = serve(Router::new().fallback(move || {
        asked.fetch_add(1, Ordering::SeqCst);
        async { refuse(StatusCode::SERVICE_UNAVAILABLE, 5005, "busy", true) }
    }))
    .await;
    let good = serve(Router::new().route("/v1/status", get(async || Json(status(7))))).await;
    let client = client(&[&nobody().await, &broken, &good]);
    for _ in 0..3 {
        assert_eq!(client.status().await.unwrap().height, Height(7));
    }
    assert_eq!(broken_asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn when_nobody_answers_the_error_names_each_gateway_and_says_how_to_start_a_market() {
    let (a, b) = (nobody().await, nobody().await);
    let error = client(&[&a, &b]).status().await.unwrap_err();
    assert!(error.retryable());
    assert_eq!(error.code(), 5902);
    let text = error.to_string();
    for part in [a.as_str(), b.as_str(), "refused", "deepmarket up"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn what_every_gateway_would_refuse_is_refused_at_once_and_what_is_unknown_is_none() {
    let refusing = serve(Router::new().fallback(async || refuse(StatusCode::BAD_REQUEST, 5001, "bad_request", false))).await;
    let unknown = serve(Router::new().fallback(async || refuse(StatusCode::NOT_FOUND, 5014, "unknown_job", false))).await;
    let no_route = serve(Router::new().fallback(async || refuse(StatusCode::NOT_FOUND, 5002, "unknown_route", false))).await;
    let foreign = serve(Router::new()).await;
    let error = client(&[&refusing, &unknown]).job(JobId(1)).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (5001, "bad_request happened; do this (code 5001)"));
    assert!(client(&[&unknown]).job(JobId(1)).await.unwrap().is_none());
    assert_eq!(client(&[&no_route]).job(JobId(1)).await.unwrap_err().code(), 5002);
    assert!(matches!(client(&[&foreign]).job(JobId(1)).await.unwrap_err(), ApiError::BadAnswer { .. }));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = serve(Router::new().fallback(async || {
        let spaces = futures::stream::repeat(Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 65536])));
        Body::from_stream(spaces)
    }))
    .await;
    let error = client(&[&endless]).status().await.unwrap_err();
    assert!(matches!(error, ApiError::BadAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_transaction_is_submitted_elsewhere_when_the_gateway_that_took_it_fails() {
    let id = transfer(0).id();
    let failing = Router::new()
        .route("/v1/transactions", post(async move || became(id, None, 0)))
        .route("/v1/transactions/{id}", get(async || refuse(StatusCode::SERVICE_UNAVAILABLE, 5008, "stopping", true)));
    let deciding = Router::new().route(
        "/v1/transactions",
        post(async move |body: Bytes| {
            assert_eq!(body, encode(&transfer(0)));
            became(id, Some(5), 0)
        }),
    );
    let client = client(&[&serve(failing).await, &serve(deciding).await]);
    assert_eq!(client.submit(&transfer(0), SOON).await.unwrap().height, Some(Height(5)));
}

#[tokio::test]
async fn a_transaction_that_was_decided_meanwhile_is_not_reported_as_refused() {
    let id = transfer(0).id();
    let failing = Router::new().route("/v1/transactions", post(async || StatusCode::BAD_GATEWAY));
    let knowing = Router::new()
        .route("/v1/transactions", post(async || refuse(StatusCode::UNPROCESSABLE_ENTITY, 2003, "nonce_used", false)))
        .route("/v1/transactions/{id}", get(async move || became(id, Some(9), 0)));
    let client = client(&[&serve(failing).await, &serve(knowing).await]);
    assert_eq!(client.submit(&transfer(0), SOON).await.unwrap().height, Some(Height(9)));
}

#[tokio::test]
async fn a_transaction_that_the_ledger_rejects_is_an_error_with_the_ledgers_code() {
    let id = transfer(0).id();
    let in_a_block = serve(Router::new().fallback(async move || became(id, Some(9), 2023))).await;
    match client(&[&in_a_block]).submit(&transfer(0), SOON).await.unwrap_err() {
        ApiError::Rejected { code: 2023, message, id: of, .. } => assert_eq!((message.as_str(), of), ("too little credit", id)),
        other => panic!("{other:?}"),
    }
    let before =
        serve(Router::new().fallback(async || refuse(StatusCode::UNPROCESSABLE_ENTITY, 2023, "not_enough_earned", false)));
    match client(&[&before.await]).submit(&transfer(0), SOON).await.unwrap_err() {
        ApiError::Rejected { code: 2023, name, hint, .. } => {
            assert_eq!((name.as_str(), hint.as_str()), ("not_enough_earned", "do this"))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_transaction_that_isnt_decided_in_time_says_so_and_without_waiting_it_is_enough_that_it_was_taken() {
    let id = transfer(0).id();
    let never = serve(Router::new().fallback(async move || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        became(id, None, 0)
    }))
    .await;
    let client = client(&[&never]);
    let error = client.submit(&transfer(0), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, ApiError::Undecided { .. }), "{error}");
    assert!(error.to_string().contains(&id.to_hex()));
    assert_eq!(client.submit(&transfer(0), Duration::ZERO).await.unwrap().height, None);
}

#[tokio::test]
async fn acting_takes_the_next_number_when_another_transaction_was_faster() {
    let nonce = Arc::new(AtomicUsize::new(3));
    let (reads, writes) = (nonce.clone(), nonce);
    let gateway = Router::new()
        .route("/v1/status", get(async || Json(status(7))))
        .route(
            "/v1/accounts/by-key/{key}",
            get(async move || {
                Json(AccountView {
                    id: AccountId::from_key(&key().public()),
                    key: key().public(),
                    nonce: reads.load(Ordering::SeqCst) as u64,
                    granted: Credits::ZERO,
                    earned: Credits::ZERO,
                    escrow: Credits::ZERO,
                    held: Credits::ZERO,
                    vests: None,
                    audits_passed: 0,
                    strikes: 0,
                    barred: false,
                    reliability: 500,
                    jobs: vec![],
                    machines: vec![],
                })
            }),
        )
        .route(
            "/v1/transactions",
            post(async move |body: Bytes| {
                let verified = Transaction::verify_bytes(&body, &Hash::of(b"chain")).unwrap();
                assert!(verified.body().expires > Height(7));
                // The first attempt meets another transaction that used the number.
                if writes.fetch_add(1, Ordering::SeqCst) == 3 {
                    assert_eq!(verified.body().nonce, 3);
                    return refuse(StatusCode::UNPROCESSABLE_ENTITY, 2003, "nonce_used", false);
                }
                assert_eq!(verified.body().nonce, 4);
                became(verified.id(), Some(8), 0)
            }),
        );
    let client = client(&[&serve(gateway).await]);
    let Action::Transfer { to, amount } = transfer(0).body.action else { unreachable!() };
    assert_eq!(client.act(&key(), Action::Transfer { to, amount }).await.unwrap().height, Some(Height(8)));
}

#[tokio::test]
async fn a_blob_is_stored_at_as_many_gateways_as_asked_and_one_that_lies_about_it_is_passed_over() {
    let stored = Arc::new(Mutex::new(0));
    let keeper = |content: &'static str, stored: Arc<Mutex<u32>>| {
        Router::new().route(
            "/v1/blobs/{hash}",
            put(async move || {
                *stored.lock().unwrap() += 1;
                StatusCode::CREATED
            })
            .get(async move || content)
            .head(async || StatusCode::NOT_FOUND),
        )
    };
    let missing = Router::new().fallback(async || refuse(StatusCode::NOT_FOUND, 5015, "unknown_blob", false));
    let missing = serve(missing).await;
    let liar = serve(keeper("other bytes", stored.clone())).await;
    let honest = serve(keeper("the bytes", stored.clone())).await;
    let third = serve(keeper("the bytes", stored.clone())).await;
    let both = client(&[&missing, &liar, &honest, &third]);
    let hash = both.put_blob(&key(), &Hash::of(b"chain"), "the bytes", 2).await.unwrap();
    assert_eq!((hash, *stored.lock().unwrap()), (Hash::of(b"the bytes"), 2));
    let heard = AtomicUsize::new(0);
    let progress = |bytes| heard.store(bytes as usize, Ordering::SeqCst);
    assert_eq!(both.get_blob(hash, &progress).await.unwrap(), "the bytes");
    assert_eq!(heard.load(Ordering::SeqCst), 9);
    assert_eq!(client(&[&missing]).get_blob(hash, &|_| {}).await.unwrap_err(), ApiError::NoSuchBlob(hash));
    assert!(!client(&[&missing]).has_blob(hash).await.unwrap());
    let holder = serve(Router::new().route("/v1/blobs/{hash}", get(async || "the bytes"))).await;
    assert!(client(&[&missing, &holder]).has_blob(hash).await.unwrap());
    // What is there isn't sent again: this one takes no upload at all.
    assert_eq!(client(&[&holder]).put_blob(&key(), &Hash::of(b"chain"), "the bytes", 1).await.unwrap(), hash);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_at_the_next_gateway() {
    let content: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let hash = Hash::of(&content);
    // Promises all, gives a part, and hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = format!("http://{}", listener.local_addr().unwrap());
    let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", &content[..60_000]].concat();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(&answer).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let rest = content.clone();
    let ranges = async move |headers: axum::http::HeaderMap| {
        let range = headers["range"].to_str().unwrap().to_owned();
        let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
        assert!(from > 0);
        (StatusCode::PARTIAL_CONTENT, rest[from..].to_vec())
    };
    let second = serve(Router::new().route("/v1/blobs/{hash}", get(ranges))).await;
    assert_eq!(client(&[&first, &second]).get_blob(hash, &|_| {}).await.unwrap(), content);

    // Into a file, in two runs: the second one finds what the first one left.
    let folder = tempfile::tempdir().unwrap();
    let (path, part) = (folder.path().join("model"), folder.path().join("model.part"));
    std::fs::write(&part, &content[..30_000]).unwrap();
    let begun = std::sync::Mutex::new(None);
    let progress = |bytes: u64| {
        begun.lock().unwrap().get_or_insert(bytes);
    };
    assert_eq!(client(&[&second]).download_blob(hash, &path, &progress).await.unwrap(), 100_000);
    assert!(begun.into_inner().unwrap() > Some(30_000) && !part.exists());
    assert_eq!(std::fs::read(&path).unwrap(), content);
    // It is there: nobody is asked.
    assert_eq!(client(&[&"http://127.0.0.1:9".to_owned()]).download_blob(hash, &path, &|_| {}).await.unwrap(), 100_000);
}

#[tokio::test]
async fn a_part_that_is_wrong_is_thrown_away() {
    let rest = async |headers: axum::http::HeaderMap| match headers.get("range") {
        Some(range) => {
            let from: usize = range.to_str().unwrap().strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
            (StatusCode::PARTIAL_CONTENT, &"the bytes"[from..])
        }
        None => (StatusCode::OK, "the bytes"),
    };
    let holder = serve(Router::new().route("/v1/blobs/{hash}", get(rest))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    std::fs::write(folder.path().join("model.part"), "XXX").unwrap();
    client(&[&holder]).download_blob(Hash::of(b"the bytes"), &path, &|_| {}).await.unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "the bytes");
}

fn entry(sequence: u64) -> Progress {
    Progress { time: TimeMs(1), rank: 0, sequence, kind: ProgressKind::Log { line: "x".into() } }
}

fn sent<T: serde::Serialize>(id: u64, value: &T) -> String {
    format!(": comment\nid: {id}\ndata: {}\n\n", serde_json::to_string(value).unwrap())
}

fn told(index: u64, sequence: u64) -> String {
    sent(index, &JobEvent::Progress { index, entry: entry(sequence) })
}

/// An event of the chain, without an id of its own, as gateways send it.
fn chain(height: u64, index: u32) -> String {
    let event = Event::Members { job: JobId(3), generation: 1, members: vec![] };
    let entry = HistoryEntry { height: Height(height), time: TimeMs(1), index, transaction: None, event };
    format!("data: {}\n\n", serde_json::to_string(&JobEvent::Chain { entry }).unwrap())
}

#[tokio::test]
async fn what_workers_reported_is_put_together_from_all_gateways() {
    let list = |sequences: &[u64]| {
        let entries: Vec<Progress> = sequences.iter().map(|s| Progress { time: TimeMs(*s), ..entry(*s) }).collect();
        Router::new().route("/v1/jobs/{id}/progress", get(async move || Json(entries)))
    };
    let (one, other) = (serve(list(&[1, 2, 4])).await, serve(list(&[2, 3])).await);
    let entries = client(&[&nobody().await, &one, &other]).all_progress(JobId(3)).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(client(&[&nobody().await]).all_progress(JobId(3)).await.unwrap_err().retryable());
}

#[derive(serde::Deserialize)]
struct After {
    after: Option<u64>,
}

#[tokio::test]
async fn a_jobs_stream_goes_on_where_it_broke_off_also_at_another_gateway_and_gives_nothing_twice() {
    // The first gateway gives one report at a time and then dies; the second one has them in another order.
    let dying = Router::new().route(
        "/v1/jobs/{id}/events",
        get(async |Path(id): Path<String>, Query(After { after }): Query<After>| {
            assert_eq!(id, "job-3");
            match after {
                None => chain(7, 0) + &told(1, 10) + "id: 2\ndata: {\"cut",
                Some(1) => told(2, 11),
                _ => return refuse(StatusCode::SERVICE_UNAVAILABLE, 5008, "stopping", true),
            }
            .into_response()
        }),
    );
    let other = Router::new().route(
        "/v1/jobs/{id}/events",
        get(async |Query(After { after }): Query<After>| {
            assert_eq!(after, None, "another gateway's numbers mean nothing here");
            let state = JobEvent::State { state: JobState::Cancelled, status: "cancelled".into() };
            chain(7, 0) + &chain(7, 2) + &told(1, 11) + &told(2, 12) + &told(3, 10) + &sent(4, &state) + &sent(5, &JobEvent::End)
        }),
    );
    let client = client(&[&serve(dying).await, &serve(other).await]);
    let events: Vec<JobEvent> =
        tokio::time::timeout(SOON, client.progress_stream(JobId(3)).map(Result::unwrap).collect()).await.unwrap();
    let sequences: Vec<u64> = events
        .iter()
        .filter_map(|event| if let JobEvent::Progress { entry, .. } = event { Some(entry.sequence) } else { None })
        .collect();
    assert_eq!(sequences, [10, 11, 12]);
    let places: Vec<(u64, u32)> = events
        .iter()
        .filter_map(|event| if let JobEvent::Chain { entry } = event { Some((entry.height.0, entry.index)) } else { None })
        .collect();
    assert_eq!(places, [(7, 0), (7, 2)], "the chain's events too, each once");
    assert!(matches!(events[5], JobEvent::State { state: JobState::Cancelled, .. }));
    assert_eq!(events.last(), Some(&JobEvent::End));
}

#[tokio::test]
async fn a_stream_tells_that_no_gateway_answers_and_ends_where_the_job_is_unknown() {
    let mut stream = client(&[&nobody().await]).progress_stream(JobId(1));
    for _ in 0..2 {
        assert!(stream.next().await.unwrap().unwrap_err().retryable());
    }
    let unknown = serve(Router::new().fallback(async || refuse(StatusCode::NOT_FOUND, 5014, "unknown_job", false))).await;
    let mut stream = client(&[&unknown]).progress_stream(JobId(1));
    assert_eq!(stream.next().await.unwrap().unwrap_err().code(), 5014);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn blocks_come_once_and_in_order_across_gateways() {
    let block = |height: u64| {
        let hash = Hash::of(&height.to_le_bytes());
        sent(height, &BlockEvent { height: Height(height), time: TimeMs(height), hash, transactions: 0, events: vec![] })
    };
    // Each connection gives two blocks after the one that was named, the second gateway begins one too early.
    let gateway = |early: u64| {
        Router::new().route(
            "/v1/events",
            get(async move |Query(After { after }): Query<After>| {
                let first = after.unwrap() + 1 - early;
                block(first) + &block(first + 1)
            }),
        )
    };
    let client = client(&[&serve(gateway(0)).await, &serve(gateway(1)).await]);
    let blocks = client.block_stream(Some(Height(4))).take(5).map(|block| block.unwrap().height.0).collect::<Vec<_>>();
    assert_eq!(tokio::time::timeout(SOON, blocks).await.unwrap(), [5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_client_of_one_market_signs_nothing_for_another_one() {
    let gateway = serve(Router::new().route("/v1/status", get(async || Json(status(7))))).await;
    let (chain, other) = (Hash::of(b"chain"), Hash::of(b"another chain"));
    let Action::Transfer { to, amount } = transfer(0).body.action else { unreachable!() };
    let act = async |expected| client(&[&gateway]).only(expected).act(&key(), Action::Transfer { to, amount }).await.unwrap_err();
    assert_eq!(act(other).await, ApiError::OtherMarket(chain));
    // Of the right one it goes on, to what this gateway doesn't know.
    assert!(!matches!(act(chain).await, ApiError::OtherMarket(_)));
}
