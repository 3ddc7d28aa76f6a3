//! What one address may ask of a gateway: each refusal is an error body that says when to come again, and nobody else notices.
//! Linux answers on all of 127.0.0.0/8, so that these tests come from several addresses.

mod market;

use std::time::Duration;

use deepmarket_api::ErrorBody;
use deepmarket_gateway::GatewayLimits;
use reqwest::{Response, header::RETRY_AFTER};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use market::{Market, SOON};

/// Somebody else than the market's own programs.
const STRANGER: [u8; 4] = [127, 0, 0, 2];

fn stranger() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(STRANGER)).build().unwrap()
}

/// The market's own address, which a proxy may share.
fn local() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn connect(market: &Market) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((STRANGER, 0).into()).unwrap();
    socket.connect(market.url.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap()
}

/// All that comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end, too.
    timeout(SOON, stream.read_to_end(&mut text)).await.expect("it is closed").ok();
    String::from_utf8(text).unwrap()
}

/// The seconds to wait, of a refusal that is as documented.
async fn refused(response: Response) -> u64 {
    assert_eq!(response.status(), 429);
    let seconds = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    let body: ErrorBody = response.json().await.unwrap();
    assert_eq!((body.code, body.name.as_str(), body.retryable), (5009, "too_many", true));
    assert!(body.message.contains("your address") && !body.hint.is_empty(), "{body:?}");
    seconds
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_again_and_nobody_else_is_held_up() {
    let limits =
        GatewayLimits { reads_per_second: 5, vouchers_per_minute: 2, streams_per_address: 2, ..GatewayLimits::default() };
    let market = Market::start_limited(true, vec![], limits).await;
    let (http, url) = (stranger(), format!("{}/v1/status", market.url));

    let mut answered = 0;
    let seconds = loop {
        let response = http.get(&url).send().await.unwrap();
        if !response.status().is_success() {
            break refused(response).await;
        }
        answered += 1;
        assert!(answered < 1_000, "it is never refused");
    };
    assert!(answered >= 20, "four seconds' worth may come at once, not {answered}");
    assert_eq!(seconds, 1);
    // The market's own address, and whom a proxy there speaks for: each for itself.
    for _ in 0..50 {
        market.client.status().await.unwrap();
    }
    let behind = |who: &str| local().get(&url).header("x-forwarded-for", who).send();
    assert!(behind("10.0.0.1").await.unwrap().status().is_success());
    let spoken_for = async {
        loop {
            let response = behind("127.0.0.2").await.unwrap();
            if !response.status().is_success() {
                return refused(response).await;
            }
        }
    };
    timeout(SOON, spoken_for).await.expect("the proxy's word counts as the address");
    // Time is all that is missing.
    let again = async {
        while !http.get(&url).send().await.unwrap().status().is_success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, again).await.unwrap();

    // Vouchers have a rate of their own, of which a minute's worth may come at once.
    let voucher = || http.post(format!("{}/v1/vouchers", market.url)).body("{}").send();
    for _ in 0..2 {
        assert_eq!(voucher().await.unwrap().status(), 400);
    }
    assert!((2..=30).contains(&refused(voucher().await.unwrap()).await));
    // Streams.
    let other = |path: &str| local().get(format!("{}{path}", market.url)).header("x-forwarded-for", "10.0.0.3").send();
    let first = other("/v1/events").await.unwrap();
    let second = other("/v1/events").await.unwrap();
    assert!(first.status().is_success() && second.status().is_success());
    refused(other("/v1/events").await.unwrap()).await;
    drop(first);
    let free = async {
        while !other("/v1/events").await.unwrap().status().is_success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, free).await.unwrap();
    market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_are_limited_and_slow_senders_lose_theirs() {
    let limits = GatewayLimits { connections_per_address: 3, header_timeout: Duration::from_secs(2), ..GatewayLimits::default() };
    let market = Market::start_limited(true, vec![], limits).await;
    let (mut idle, mut slow, mut body) = (connect(&market).await, connect(&market).await, connect(&market).await);
    slow.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: a").await.unwrap();
    let head = "POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nfew";
    body.write_all(head.as_bytes()).await.unwrap();

    let mut fourth = connect(&market).await;
    let answer = rest(&mut fourth).await;
    let (head, json) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
    let refusal: ErrorBody = serde_json::from_str(json).unwrap();
    assert_eq!((refusal.code, refusal.name.as_str(), refusal.retryable), (5009, "too_many", true));
    market.client.status().await.expect("others are served");

    // Without a head in time the connection is closed; a body that doesn't come gets an answer.
    assert_eq!((rest(&mut idle).await, rest(&mut slow).await), (String::new(), String::new()));
    let answer = rest(&mut body).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("5006") && answer.contains("retry-after: 1"), "{answer}");
    // Their places are free again.
    assert!(stranger().get(format!("{}/v1/status", market.url)).send().await.unwrap().status().is_success());
    market.end().await;
}
