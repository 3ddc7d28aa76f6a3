//! One request to one gateway, or to the first of many that answers. Everything that is read is bounded.

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Method, Response, StatusCode, Url, header};
use serde::de::DeserializeOwned;

use super::error::{ApiError, Attempt};
use crate::ErrorBody;

/// The most bytes of a JSON answer: 100 jobs with specs of 64 KiB and their leases stay below it.
const MAX_JSON_BYTES: usize = 16 * 1024 * 1024;
/// The most bytes of an error's body.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long a TCP connection may take to open.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection may stay silent.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a connection is kept for the next request: less than a gateway keeps it, so that no request meets its end.
pub const IDLE: Duration = Duration::from_secs(15);
/// How long an ordinary request may take in all.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// A request, independent of the gateway that will get it.
#[derive(Clone)]
pub(super) struct Ask {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, Bytes)>,
    timeout: Option<Duration>,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Ask {
        let timeout = Some(ANSWER);
        Ask { method, path: path.into(), query: Vec::new(), headers: Vec::new(), body: None, timeout }
    }

    pub(super) fn get(path: impl Into<String>) -> Ask {
        Ask::new(Method::GET, path)
    }

    pub(super) fn post_json<T: serde::Serialize>(path: impl Into<String>, value: &T) -> Ask {
        let json = serde_json::to_vec(value).expect("requests have no map keys that aren't texts");
        Ask::new(Method::POST, path).body("application/json", json.into())
    }

    pub(super) fn query(mut self, name: &'static str, value: impl ToString) -> Ask {
        self.query.push((name, value.to_string()));
        self
    }

    pub(super) fn maybe(self, name: &'static str, value: Option<impl ToString>) -> Ask {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Ask {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn body(mut self, content_type: &'static str, body: Bytes) -> Ask {
        self.body = Some((content_type, body));
        self
    }

    /// The longest that the whole exchange may take; `None`: as long as it isn't silent.
    pub(super) fn timeout(mut self, timeout: Option<Duration>) -> Ask {
        self.timeout = timeout;
        self
    }
}

/// The gateways, and which of them answered last.
pub(super) struct Transport {
    http: reqwest::Client,
    gateways: Vec<String>,
    good: AtomicUsize,
}

impl Transport {
    pub(super) fn new(gateways: Vec<String>) -> Result<Transport, ApiError> {
        let mut checked: Vec<String> = Vec::new();
        for address in gateways {
            let address = check_address(&address)?;
            if !checked.contains(&address) {
                checked.push(address);
            }
        }
        if checked.is_empty() {
            let why = "no gateway was named: give at least one, for example http://127.0.0.1:7700".into();
            return Err(ApiError::BadAddress { address: String::new(), why });
        }
        // Gateways are named by address; a proxy from the environment would be asked for 127.0.0.1, which is another
        // machine's. Redirects could lead a signed upload elsewhere.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("deepmarket/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| ApiError::BadAddress { address: checked.join(", "), why: describe(&e) })?;
        Ok(Transport { http, gateways: checked, good: AtomicUsize::new(0) })
    }

    pub(super) fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// The numbers of all gateways, beginning with the one that answered last.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, first) = (self.gateways.len(), self.good.load(Ordering::Relaxed));
        (0..count).map(move |i| (first + i) % count)
    }

    pub(super) fn answered(&self, gateway: usize) {
        self.good.store(gateway, Ordering::Relaxed);
    }

    /// Asks one gateway. An answer that isn't a success becomes [`ApiError::Status`].
    pub(super) async fn once(&self, gateway: usize, ask: &Ask) -> Result<Response, ApiError> {
        let address = &self.gateways[gateway];
        let mut request = self.http.request(ask.method.clone(), format!("{address}{}", ask.path));
        if !ask.query.is_empty() {
            request = request.query(&ask.query);
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some((content_type, body)) = &ask.body {
            request = request.header(header::CONTENT_TYPE, *content_type).body(body.clone());
        }
        if let Some(timeout) = ask.timeout {
            request = request.timeout(timeout);
        }
        let response = request.send().await.map_err(|e| self.unreachable(gateway, describe(&e)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(gateway, ask, response).await)
    }

    async fn refusal(&self, gateway: usize, ask: &Ask, response: Response) -> ApiError {
        let status = response.status();
        // A HEAD has no body to explain itself with.
        if ask.method == Method::HEAD {
            let (code, retryable) = (status.as_u16(), status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS);
            let name = if code == 404 { "not_found" } else { "refused" }.into();
            return ApiError::Status(ErrorBody { code, name, message: status.to_string(), hint: String::new(), retryable });
        }
        match self.bounded(gateway, response, MAX_ERROR_BYTES, &|_| {}).await {
            Err(error) => error,
            Ok(body) => match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) => ApiError::Status(body),
                Err(_) => self.bad_answer(gateway, format!("HTTP status {status} without an error body")),
            },
        }
    }

    /// Asks gateways in turn until one answers, or refuses for a reason that all would.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<(usize, Response), ApiError> {
        self.ask_unless(ask, ApiError::retryable).await
    }

    /// Like `ask`; `next` says which errors make the next gateway be asked.
    pub(super) async fn ask_unless(&self, ask: &Ask, next: fn(&ApiError) -> bool) -> Result<(usize, Response), ApiError> {
        let mut failures = Failures::default();
        for gateway in self.order() {
            match self.once(gateway, ask).await {
                Ok(response) => {
                    self.answered(gateway);
                    return Ok((gateway, response));
                }
                Err(error) if next(&error) => failures.push(error),
                Err(error) => {
                    self.answered(gateway);
                    return Err(error);
                }
            }
        }
        Err(failures.into_error())
    }

    /// Asks for JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, ApiError> {
        let (gateway, response) = self.ask(ask).await?;
        self.parse(gateway, response).await
    }

    /// Asks for JSON; what the gateway doesn't know is `None`.
    pub(super) async fn known<T: DeserializeOwned>(&self, ask: &Ask) -> Result<Option<T>, ApiError> {
        match self.json(ask).await {
            Ok(value) => Ok(Some(value)),
            Err(ApiError::Status(body)) if is_unknown(&body) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an answer as JSON.
    pub(super) async fn parse<T: DeserializeOwned>(&self, gateway: usize, response: Response) -> Result<T, ApiError> {
        let bytes = self.bounded(gateway, response, MAX_JSON_BYTES, &|_| {}).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.bad_answer(gateway, e.to_string()))
    }

    /// Reads an answer's body, at most `limit` bytes; `progress` hears the bytes read so far.
    pub(super) async fn bounded(
        &self,
        gateway: usize,
        mut response: Response,
        limit: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Bytes, ApiError> {
        let too_long = || self.bad_answer(gateway, format!("more than {limit} bytes"));
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_long());
        }
        // What is announced is not trusted with memory: at most 1 MiB is taken ahead of the data.
        let announced = response.content_length().unwrap_or(0).min(1 << 20) as usize;
        let mut body = Vec::with_capacity(announced);
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(gateway, describe(&e)))? {
            if body.len() + chunk.len() > limit {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
            progress(body.len() as u64);
        }
        Ok(body.into())
    }

    pub(super) fn unreachable(&self, gateway: usize, why: String) -> ApiError {
        ApiError::Unreachable { tried: vec![Attempt { address: self.gateways[gateway].clone(), why }] }
    }

    pub(super) fn bad_answer(&self, gateway: usize, why: String) -> ApiError {
        ApiError::BadAnswer { address: self.gateways[gateway].clone(), why }
    }
}

/// What gateways said that were asked in turn: all unreachable ones together, unless one gave a reason of its own.
#[derive(Default)]
pub(super) struct Failures {
    tried: Vec<Attempt>,
    told: Option<ApiError>,
}

impl Failures {
    pub(super) fn push(&mut self, error: ApiError) {
        match error {
            ApiError::Unreachable { tried } => self.tried.extend(tried),
            other => self.told = Some(other),
        }
    }

    pub(super) fn into_error(self) -> ApiError {
        self.told.unwrap_or(ApiError::Unreachable { tried: self.tried })
    }
}

/// Does the gateway say that what was asked for doesn't exist (and not, that the question doesn't)?
pub(super) fn is_unknown(body: &ErrorBody) -> bool {
    body.name == "not_found" || (body.name.starts_with("unknown_") && body.name != "unknown_route")
}

/// `http://host:port` without a path, or why not.
fn check_address(address: &str) -> Result<String, ApiError> {
    let refuse = |why: &str| Err(ApiError::BadAddress { address: address.chars().take(200).collect(), why: why.into() });
    let text = address.trim();
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let Ok(url) = Url::parse(&full) else {
        return refuse("it is not a URL; write it like http://127.0.0.1:7700");
    };
    match url.scheme() {
        "http" => {}
        "https" => {
            return refuse(
                "this release speaks plain http only; use an http:// address on a network that you trust, or a tunnel \
                 (ssh -L) or reverse proxy on this machine",
            );
        }
        _ => return refuse("it must begin with http://"),
    }
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return refuse("it must name a host and a port only, like http://127.0.0.1:7700");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The innermost cause of an HTTP error, which is what a person can act on.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_hosts_and_https_is_refused_with_a_way_out() {
        for (given, kept) in [
            ("http://127.0.0.1:7700", "http://127.0.0.1:7700"),
            ("http://127.0.0.1:7700/", "http://127.0.0.1:7700"),
            ("localhost:7700", "http://localhost:7700"),
            (" http://psu.example/market/ ", "http://psu.example/market"),
        ] {
            assert_eq!(check_address(given).unwrap(), kept);
        }
        let https = check_address("https://market.example").unwrap_err().to_string();
        assert!(https.contains("http://") && https.contains("tunnel"), "{https}");
        for bad in ["", "ftp://x", "http://", "http://user:pass@host", "http://host/?q", "http://a b"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
