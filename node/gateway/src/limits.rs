//! What one address may ask of a gateway, and what all may together.
//!
//! The addresses of the market's own gateways are not limited by themselves: each forwards what its users send. That lets a local
//! market's programs alone, too, which all come from one address.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderMap, Method, header},
};
use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
};
use rustix::process::{Resource, getrlimit};
use tokio_util::sync::CancellationToken;

use crate::error::{Refusal, TooMany};

/// The limits of a gateway. An address is an IPv4 address or an IPv6 network of 64 bits: one connection of a household or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Connections at once, of all addresses. At most half of the files that the process may open.
    pub connections: u32,
    /// Connections at once of one address.
    pub connections_per_address: u32,
    /// Streams of events at once, of all addresses.
    pub streams: u32,
    /// Streams of events at once of one address.
    pub streams_per_address: u32,
    /// Requests that only read, of one address in a second. Four seconds' worth may come at once.
    pub reads_per_second: u32,
    /// Requests that bring something (transactions, reports, blobs), of one address in a second; a large body counts as several,
    /// one for each 64 KiB. Four seconds' worth may come at once.
    pub writes_per_second: u32,
    /// Vouchers that one address may ask for in a minute; as many may come at once.
    pub vouchers_per_minute: u32,
    /// How long a request's head may take, and how long a connection may stay idle between requests.
    pub header_timeout: Duration,
}

impl Default for GatewayLimits {
    fn default() -> GatewayLimits {
        GatewayLimits {
            connections: 4096,
            connections_per_address: 256,
            streams: 512,
            streams_per_address: 64,
            reads_per_second: 500,
            writes_per_second: 200,
            vouchers_per_minute: 20,
            header_timeout: Duration::from_secs(30),
        }
    }
}

/// The bytes of a body that count as one request.
const BODY_UNIT: u64 = 64 * 1024;
/// What a body counts that doesn't tell its length.
const UNKNOWN_BODY: u32 = 8;
/// Four seconds' worth of requests may come at once: a page loads many things.
const BURST: u32 = 4;
/// How often the addresses of the market's gateways are looked up, and limits that nobody meets any more are forgotten.
const REFRESH: Duration = Duration::from_secs(60);

/// Who asks: the other side of the connection, or whom a proxy on this very host says it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Guest(IpAddr);

impl Guest {
    pub(crate) fn new(address: IpAddr) -> Guest {
        Guest(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        })
    }

    /// A proxy (for TLS) on this host appends whom it speaks for. What others claim there is not believed.
    pub(crate) fn behind(self, headers: &HeaderMap) -> Guest {
        if !self.0.is_loopback() {
            return self;
        }
        let last = headers.get_all("x-forwarded-for").iter().next_back();
        let address = last.and_then(|text| text.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        address.map_or(self, Guest::new)
    }
}

type Rate = DefaultKeyedRateLimiter<Guest>;

/// Who is here, and who came how often.
pub(crate) struct Guests {
    limits: GatewayLimits,
    clock: DefaultClock,
    reads: Rate,
    writes: Rate,
    vouchers: Rate,
    connections: Count,
    streams: Count,
    /// The market's own gateways.
    own: RwLock<HashSet<Guest>>,
}

impl Guests {
    pub(crate) fn new(limits: GatewayLimits) -> Guests {
        let rate = |quota: fn(NonZeroU32) -> Quota, per: u32, burst: u32| {
            Rate::keyed(quota(at_least_one(per)).allow_burst(at_least_one(burst)))
        };
        let seconds = |per: u32| rate(Quota::per_second, per, per.saturating_mul(BURST));
        Guests {
            clock: DefaultClock::default(),
            reads: seconds(limits.reads_per_second),
            writes: seconds(limits.writes_per_second),
            vouchers: rate(Quota::per_minute, limits.vouchers_per_minute, limits.vouchers_per_minute),
            connections: Count::new(limits.connections.min(files()), limits.connections_per_address),
            streams: Count::new(limits.streams, limits.streams_per_address),
            own: RwLock::default(),
            limits,
        }
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        self.limits.header_timeout
    }

    /// Keeps the addresses of the market's own gateways, and forgets who wasn't here for long, until `stop`. Those that are named
    /// by their address are known when this returns.
    pub(crate) fn keep(self: &Arc<Self>, gateways: Vec<String>, stop: CancellationToken) {
        let hosts: Vec<String> = gateways.iter().map(|gateway| host_and_port(gateway).to_owned()).collect();
        let literal = hosts.iter().filter_map(|host| host.parse::<std::net::SocketAddr>().ok());
        self.set_own(literal.map(|address| Guest::new(address.ip())).collect());
        let guests = self.clone();
        tokio::spawn(async move {
            loop {
                let (mut own, mut complete) = (HashSet::new(), true);
                for host in &hosts {
                    match tokio::net::lookup_host(host).await {
                        Ok(found) => own.extend(found.map(|address| Guest::new(address.ip()))),
                        Err(error) => {
                            complete = false;
                            tracing::debug!(host, %error, "a gateway's address isn't known");
                        }
                    }
                }
                // A name server that is down makes nobody a stranger.
                if !complete {
                    own.extend(guests.own.read().unwrap_or_else(PoisonError::into_inner).iter().copied());
                }
                guests.set_own(own);
                [&guests.reads, &guests.writes, &guests.vouchers].into_iter().for_each(Rate::retain_recent);
                tokio::select! {
                    () = tokio::time::sleep(REFRESH) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    fn set_own(&self, own: HashSet<Guest>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    fn is_own(&self, guest: Guest) -> bool {
        self.own.read().unwrap_or_else(PoisonError::into_inner).contains(&guest)
    }

    /// A connection's place, until it is dropped.
    pub(crate) fn connect(&self, guest: Guest) -> Result<Place, Refusal> {
        self.take(&self.connections, guest, TooMany::Connections)
    }

    /// A stream's place, until it is dropped.
    pub(crate) fn stream(&self, guest: Guest) -> Result<Place, Refusal> {
        self.take(&self.streams, guest, TooMany::Streams)
    }

    fn take(&self, count: &Count, guest: Guest, what: fn(u32) -> TooMany) -> Result<Place, Refusal> {
        // Proxies and own programs come from this host: all together have room.
        let each = if self.is_own(guest) || guest.0 == IpAddr::from([127, 0, 0, 1]) { u32::MAX } else { count.each };
        count.take(guest, each).map_err(|full| match full {
            Full::All => Refusal::Busy,
            Full::Each => Refusal::TooMany(what(count.each), 1),
        })
    }

    /// Does the rate of a guest allow another request?
    pub(crate) fn admit(&self, guest: Guest, request: &Request) -> Result<(), Refusal> {
        if self.is_own(guest) {
            return Ok(());
        }
        let limits = &self.limits;
        let path = request.uri().path();
        let (rate, refused, weight, burst) = match *request.method() {
            Method::GET | Method::HEAD | Method::OPTIONS => {
                (&self.reads, TooMany::Reads(limits.reads_per_second), 1, limits.reads_per_second)
            }
            // They only compute.
            Method::POST if path == "/v1/quotes" || path == "/v1/evaluations" => {
                (&self.reads, TooMany::Reads(limits.reads_per_second), 1, limits.reads_per_second)
            }
            Method::POST if path == "/v1/vouchers" => {
                (&self.vouchers, TooMany::Vouchers(limits.vouchers_per_minute), 1, limits.vouchers_per_minute)
            }
            // A blob is signed by somebody whom the market knows, before its body is read.
            Method::PUT => (&self.writes, TooMany::Writes(limits.writes_per_second), 1, limits.writes_per_second),
            _ => (&self.writes, TooMany::Writes(limits.writes_per_second), weight(request.headers()), limits.writes_per_second),
        };
        let weight = at_least_one(weight.min(burst));
        match rate.check_key_n(&guest, weight) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(Refusal::TooMany(refused, wait.as_millis().div_ceil(1000).max(1) as u64))
            }
            // More than a burst: can't be, see above.
            Err(_) => Err(Refusal::TooMany(refused, 1)),
        }
    }
}

/// How many requests a body counts as.
fn weight(headers: &HeaderMap) -> u32 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.map_or(UNKNOWN_BODY, |bytes| u32::try_from(1 + bytes / BODY_UNIT).unwrap_or(u32::MAX))
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// `http://host:port/` without what is around host and port.
fn host_and_port(gateway: &str) -> &str {
    gateway.split_once("://").map_or(gateway, |(_, rest)| rest).trim_end_matches('/')
}

/// Half of the files that this process may open: the database, the peers and the blobs need some, whatever comes from outside.
fn files() -> u32 {
    getrlimit(Resource::Nofile).current.map_or(u32::MAX, |files| u32::try_from(files / 2).unwrap_or(u32::MAX))
}

enum Full {
    All,
    Each,
}

/// How many of a thing there are at once, in all and of each guest.
struct Count {
    all: u32,
    each: u32,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: u32,
    by: HashMap<Guest, u32>,
}

impl Count {
    fn new(all: u32, each: u32) -> Count {
        Count { all, each, taken: Arc::default() }
    }

    fn take(&self, guest: Guest, each: u32) -> Result<Place, Full> {
        let mut taken = hold(&self.taken);
        if taken.all >= self.all {
            return Err(Full::All);
        }
        let of_guest = taken.by.entry(guest).or_default();
        if *of_guest >= each {
            return Err(Full::Each);
        }
        *of_guest += 1;
        taken.all += 1;
        Ok(Place { guest, taken: self.taken.clone() })
    }
}

fn hold(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the things that are counted; free again when it is dropped.
pub(crate) struct Place {
    guest: Guest,
    taken: Arc<Mutex<Taken>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = hold(&self.taken);
        taken.all -= 1;
        if let Some(of_guest) = taken.by.get_mut(&self.guest) {
            *of_guest -= 1;
            if *of_guest == 0 {
                taken.by.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{HeaderName, HeaderValue},
    };

    use super::*;

    fn guest(address: &str) -> Guest {
        Guest::new(address.parse().unwrap())
    }

    fn request(method: &str, path: &str, length: Option<u64>) -> Request {
        let builder = Request::builder().method(method).uri(path);
        let builder = length.into_iter().fold(builder, |builder, length| builder.header(header::CONTENT_LENGTH, length));
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn an_address_is_a_host_or_a_network_and_a_proxy_speaks_for_others_only_from_this_host() {
        assert_eq!(guest("::ffff:10.0.0.1"), guest("10.0.0.1"));
        assert_eq!(guest("2001:db8:1:2::1"), guest("2001:db8:1:2:ffff::7"));
        assert_ne!(guest("2001:db8:1:2::1"), guest("2001:db8:1:3::1"));
        let headers = |text: &str| {
            HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_str(text).unwrap())])
        };
        let local = guest("127.0.0.1");
        assert_eq!(local.behind(&headers("1.1.1.1, 10.0.0.9")), guest("10.0.0.9"), "what the proxy itself appended");
        assert_eq!(local.behind(&headers("nonsense")), local);
        assert_eq!(local.behind(&HeaderMap::new()), local);
        assert_eq!(guest("10.0.0.1").behind(&headers("10.0.0.9")), guest("10.0.0.1"));
    }

    #[test]
    fn each_address_has_its_own_rate_and_large_bodies_count_more() {
        let limits =
            GatewayLimits { reads_per_second: 2, writes_per_second: 16, vouchers_per_minute: 3, ..GatewayLimits::default() };
        let guests = Guests::new(limits);
        let (one, other) = (guest("10.0.0.1"), guest("10.0.0.2"));
        let until_refused = |guest, request: &Request| (0..10_000).take_while(|_| guests.admit(guest, request).is_ok()).count();
        let read = request("GET", "/v1/status", None);
        // A burst of four seconds, and what comes back while this test runs.
        assert!((8..12).contains(&until_refused(one, &read)));
        assert!(guests.admit(other, &read).is_ok(), "another address isn't concerned");
        assert!(until_refused(one, &request("POST", "/v1/transactions", Some(300))) >= 64, "nor are writes");
        let large = until_refused(other, &request("POST", "/v1/transactions", Some(1024 * 1024)));
        assert!((4..6).contains(&large), "{large}: each counts as 16 at the most");
        assert!((3..5).contains(&until_refused(one, &request("POST", "/v1/vouchers", Some(100)))));
        let Err(Refusal::TooMany(TooMany::Vouchers(3), seconds)) = guests.admit(one, &request("POST", "/v1/vouchers", None))
        else {
            panic!("it was refused a moment ago");
        };
        assert!((1..=20).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn the_markets_own_gateways_are_not_limited() {
        let guests = Arc::new(Guests::new(GatewayLimits { reads_per_second: 1, ..GatewayLimits::default() }));
        guests.keep(vec!["http://10.1.2.3:8600/".into()], CancellationToken::new());
        let read = request("GET", "/v1/status", None);
        assert!((0..100).all(|_| guests.admit(guest("10.1.2.3"), &read).is_ok()));
        assert!((0..100).any(|_| guests.admit(guest("10.1.2.4"), &read).is_err()));
    }

    #[test]
    fn places_are_limited_in_all_and_for_each_address_and_come_back() {
        let guests = Guests::new(GatewayLimits { connections: 5, connections_per_address: 2, ..GatewayLimits::default() });
        let (one, other) = (guest("10.0.0.1"), guest("10.0.0.2"));
        let first = guests.connect(one).ok().unwrap();
        let _second = guests.connect(one).ok().unwrap();
        assert_eq!(guests.connect(one).err().unwrap(), Refusal::TooMany(TooMany::Connections(2), 1));
        drop(first);
        let _third = guests.connect(one).ok().unwrap();
        // From this host all may come: behind a proxy there is everybody.
        let local: Vec<Place> = (0..3).map(|_| guests.connect(guest("127.0.0.1")).ok().unwrap()).collect();
        assert_eq!(guests.connect(other).err().unwrap(), Refusal::Busy);
        drop(local);
        assert!(guests.connect(other).is_ok());
    }
}
