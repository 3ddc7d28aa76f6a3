use std::time::Duration;

use clap::Args as ClapArgs;
use deepmarket_gateway::GatewayLimits;

/// What a gateway allows. An address is an IPv4 address or an IPv6 network of 64 bits; the addresses of the market's own gateways are
/// not limited, and one that a TLS proxy on this host names in `X-Forwarded-For` counts for itself. Who asks for more is refused with
/// HTTP status 429 (or 503, where the whole gateway is full) and the seconds after which to try again.
#[derive(Clone, Copy, ClapArgs)]
#[command(next_help_heading = "What the gateway allows")]
pub struct GatewayFlags {
    /// Connections at once; never more than half of the files that the process may open.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().connections)]
    max_connections: u32,
    /// Connections at once of one address.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().connections_per_address)]
    connections_per_address: u32,
    /// Streams of events at once.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().streams)]
    max_streams: u32,
    /// Streams of events at once of one address.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().streams_per_address)]
    streams_per_address: u32,
    /// Requests a second of one address that only read; four seconds' worth may come at once.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().reads_per_second)]
    reads_per_second: u32,
    /// Requests a second of one address that bring something; a body counts as one for each 64 KiB.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().writes_per_second)]
    writes_per_second: u32,
    /// Vouchers a minute for one address.
    #[arg(long, value_name = "N", default_value_t = GatewayLimits::default().vouchers_per_minute)]
    vouchers_per_minute: u32,
    /// Seconds in which a request's head must come, and after which an idle connection is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = GatewayLimits::default().header_timeout.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=600))]
    header_timeout: u64,
}

impl GatewayFlags {
    pub fn limits(&self) -> GatewayLimits {
        GatewayLimits {
            connections: self.max_connections,
            connections_per_address: self.connections_per_address,
            streams: self.max_streams,
            streams_per_address: self.streams_per_address,
            reads_per_second: self.reads_per_second,
            writes_per_second: self.writes_per_second,
            vouchers_per_minute: self.vouchers_per_minute,
            header_timeout: Duration::from_secs(self.header_timeout),
        }
    }
}
