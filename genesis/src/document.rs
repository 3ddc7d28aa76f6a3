use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_ledger::{GenesisState, Params};
use deepmarket_types::{ChainId, Hash, PublicKey, TimeMs, encode};
use serde::{Deserialize, Serialize};

use crate::GenesisError;

/// The most bytes of a document: 100 validators have about 30 KiB.
const MAX_BYTES: usize = 256 * 1024;
/// The most validators: a certificate has a signature of each.
const MAX_VALIDATORS: usize = 100;
/// The most registrars.
const MAX_REGISTRARS: usize = 100;
/// The most characters of a name.
const MAX_NAME: usize = 40;
/// The most characters of an address.
const MAX_ADDRESS: usize = 160;
/// The year 10000.
const MAX_TIME: u64 = 253_402_300_800_000;

/// A genesis document.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The network's name.
    pub name: String,
    /// The time of height 0, in milliseconds since 1970 in UTC; 0 while it is open.
    #[serde(default)]
    pub time: TimeMs,
    /// The keys whose vouchers open accounts.
    #[serde(default)]
    pub registrars: Vec<PublicKey>,
    /// The rules' numbers.
    pub params: Params,
    /// Who decides blocks, each with one vote.
    #[serde(default)]
    pub validators: Vec<Validator>,
}

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Its name, for people.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// Where the other validators reach it, as a multiaddress: `/ip4/…/tcp/…`.
    pub consensus: String,
    /// The URL of its gateway, without a path: `http://…`.
    pub gateway: String,
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(allowed)
}

/// A multiaddress of TCP: `/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>`. Who listens there is known by its key.
fn is_tcp_multiaddress(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let ["", kind, host, "tcp", port] = parts[..] else { return false };
    let host = match kind {
        "ip4" => host.parse::<std::net::Ipv4Addr>().is_ok(),
        "ip6" => host.parse::<std::net::Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" => is_host(host),
        _ => false,
    };
    host && text.len() <= MAX_ADDRESS && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

/// `http://host:port` or `https://host`, without path, query or user.
fn is_gateway_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(allowed)) && text.len() <= MAX_ADDRESS
}

impl Genesis {
    /// Reads a document, complete or not, and checks what it has.
    pub fn from_toml(text: &str) -> Result<Genesis, GenesisError> {
        if text.len() > MAX_BYTES {
            return Err(GenesisError::TooLong { bytes: text.len(), limit: MAX_BYTES });
        }
        let genesis: Genesis = toml::from_str(text).map_err(|error| GenesisError::Syntax(error.to_string()))?;
        genesis.check_parts()?;
        Ok(genesis)
    }

    /// The document as TOML; reading it gives the same document.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a document has only texts and numbers below 2^63: checked when it was read")
    }

    /// Fills in what a network leaves open, and checks the result.
    pub fn complete(self, time: TimeMs, validators: Vec<Validator>, registrars: Vec<PublicKey>) -> Result<Genesis, GenesisError> {
        let genesis = Genesis { time, validators, registrars, ..self };
        genesis.check()?;
        Ok(genesis)
    }

    /// Checks everything: the document must be complete.
    pub fn check(&self) -> Result<(), GenesisError> {
        self.check_parts()?;
        if self.time.0 == 0 {
            return Err(GenesisError::Incomplete("time is"));
        }
        if self.validators.is_empty() {
            return Err(GenesisError::Incomplete("[[validators]] are"));
        }
        if self.registrars.is_empty() {
            return Err(GenesisError::Incomplete("registrars are"));
        }
        Ok(())
    }

    /// Checks what is there. Order: name, time, params, validators, registrars.
    fn check_parts(&self) -> Result<(), GenesisError> {
        if !is_name(&self.name) {
            return Err(GenesisError::BadName(self.name.chars().take(MAX_NAME + 1).collect()));
        }
        if self.time.0 >= MAX_TIME {
            return Err(GenesisError::BadTime(self.time.0));
        }
        self.params.check()?;
        for (what, count, limit) in
            [("validators", self.validators.len(), MAX_VALIDATORS), ("registrars", self.registrars.len(), MAX_REGISTRARS)]
        {
            if count > limit {
                return Err(GenesisError::TooMany { what, count, limit });
            }
        }
        for (index, validator) in self.validators.iter().enumerate() {
            let error = |field, problem: &str| Err(GenesisError::Validator { index, field, problem: problem.into() });
            let others = &self.validators[..index];
            if !is_name(&validator.name) {
                return error("name", "must be 1 to 40 of the characters a-z, 0-9 and -");
            }
            if others.iter().any(|other| other.name == validator.name) {
                return error("name", "two validators have this name");
            }
            if others.iter().any(|other| other.key == validator.key) {
                return error("key", "two validators have this key");
            }
            if !is_tcp_multiaddress(&validator.consensus) {
                return error("consensus", "must be a TCP multiaddress, for example /ip4/127.0.0.1/tcp/27000");
            }
            if others.iter().any(|other| other.consensus == validator.consensus) {
                return error("consensus", "two validators have this address");
            }
            if !is_gateway_url(&validator.gateway) {
                return error("gateway", "must be a URL without a path, for example http://127.0.0.1:8080");
            }
        }
        let twice = |index: &usize| self.registrars[..*index].contains(&self.registrars[*index]);
        match (0..self.registrars.len()).find(twice) {
            Some(index) => Err(GenesisError::Registrar { index }),
            None => Ok(()),
        }
    }

    /// The chain's id: the hash of the document's canonical bytes.
    pub fn chain_id(&self) -> ChainId {
        Hash::tagged("deepmarket/v1/genesis", &[&encode(self)])
    }

    /// What the ledger starts from.
    pub fn ledger_state(&self) -> GenesisState {
        GenesisState {
            chain: self.chain_id(),
            time: self.time,
            params: self.params.clone(),
            validators: self.validators.iter().map(|validator| validator.key).collect(),
            registrars: self.registrars.clone(),
        }
    }

    /// The validator of a key.
    pub fn validator(&self, key: &PublicKey) -> Option<&Validator> {
        self.validators.iter().find(|validator| validator.key == *key)
    }

    /// The URLs of all gateways.
    pub fn gateways(&self) -> Vec<String> {
        self.validators.iter().map(|validator| validator.gateway.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_ledger::{DynamicPricing, PricePolicy};
    use deepmarket_types::{Credits, Resources, SecretKey, UnitPrices};

    use super::*;
    use crate::{LOCAL, PSU};

    fn validators(count: u8) -> Vec<Validator> {
        let one = |i: u8| Validator {
            name: format!("validator-{i}"),
            key: SecretKey::from_seed([i; 32]).public(),
            consensus: format!("/ip4/127.0.0.1/tcp/{}", 27000 + u16::from(i)),
            gateway: format!("http://127.0.0.1:{}", 8080 + u16::from(i)),
        };
        (0..count).map(one).collect()
    }

    fn complete() -> Genesis {
        let registrars = vec![SecretKey::from_seed([9; 32]).public()];
        Genesis::from_toml(LOCAL).unwrap().complete(TimeMs(1_795_000_000_000), validators(4), registrars).unwrap()
    }

    #[test]
    fn both_networks_are_read_and_are_open_until_they_are_completed() {
        for text in [LOCAL, PSU] {
            let genesis = Genesis::from_toml(text).unwrap();
            assert_eq!(genesis.check(), Err(GenesisError::Incomplete("time is")));
            assert_eq!(genesis.params.starting_credits, Credits::from_credits(50));
            let worker = Resources { cores: 1, ram_mib: 1024, ..Resources::default() };
            assert_eq!(genesis.params.price_floor.cost(&worker, 3_600_000), Credits::from_micro(500_000));
            assert_eq!(genesis.params.price_ceiling.cost(&worker, 3_600_000), Credits::from_credits(2));
        }
        assert_eq!(complete().ledger_state().validators.len(), 4);
    }

    #[test]
    fn a_document_survives_its_toml_and_its_name_is_its_values() {
        let genesis = complete();
        let text = genesis.to_toml();
        let again = Genesis::from_toml(&text).unwrap();
        assert_eq!(again, genesis);
        assert_eq!(again.chain_id(), genesis.chain_id());
        let commented = format!("# a comment\n{text}");
        assert_eq!(Genesis::from_toml(&commented).unwrap().chain_id(), genesis.chain_id());
        let later = Genesis { time: genesis.time.plus(1), ..genesis.clone() };
        assert_ne!(later.chain_id(), genesis.chain_id());
    }

    #[test]
    fn the_chain_id_of_a_known_document_never_changes() {
        assert_eq!(complete().chain_id().to_hex(), "ec7db965fde16f08785419b42be8d5dc9156aadb4ef091b17e5b29c9e191f07a");
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused_with_their_line() {
        let error = Genesis::from_toml(&format!("colour = 1\n{LOCAL}")).unwrap_err();
        assert!(error.to_string().contains("line 1") && error.to_string().contains("colour"), "{error}");
        let error = Genesis::from_toml(&LOCAL.replace("receipt_ms = 10_000", "receipt_ms = \"ten\"")).unwrap_err();
        assert!(error.to_string().contains("receipt_ms") && error.code() == 1101, "{error}");
        let error = Genesis::from_toml(&LOCAL.replace("idle_block_ms", "idle_blocks_ms")).unwrap_err();
        assert!(error.to_string().contains("idle_blocks_ms"), "{error}");
        assert_eq!(Genesis::from_toml(&" ".repeat(MAX_BYTES + 1)).unwrap_err().code(), 1102);
    }

    #[test]
    fn numbers_that_make_no_market_are_refused_by_their_names() {
        let cases = [
            ("slot_ms = 21_600_000", "slot_ms = 0", "params.slots.slot_ms"),
            ("receipt_ms = 10_000", "receipt_ms = 0", "params.receipt_ms"),
            ("receipt_ms = 10_000", "receipt_ms = 21_600_001", "params.receipt_ms"),
            ("contact_timeout_ms = 5_900", "contact_timeout_ms = 2_000", "params.contact_timeout_ms"),
            ("contact_step_ms = 2_000", "contact_step_ms = 5_901", "params.contact_step_ms"),
            ("target_permille = 800", "target_permille = 2_001", "params.price_policy.dynamic.target_permille"),
            ("gain_permille = 200", "gain_permille = 10_001", "params.price_policy.dynamic.gain_permille"),
            ("weight_permille = 300", "weight_permille = 0", "params.price_policy.dynamic.weight_permille"),
            ("max_change_permille = 200", "max_change_permille = 1_001", "params.price_policy.dynamic.max_change_permille"),
            ("core_hour = 400_000", "core_hour = 1_500_001", "params.price_floor"),
            ("core_hour = 1_500_000", "core_hour = 9_000_000_000_000", "params.price_ceiling"),
            ("max_queued_jobs = 1_000", "max_queued_jobs = 0", "params.max_queued_jobs"),
            ("utc_offset_ms = -28_800_000", "utc_offset_ms = -99_800_000", "params.slots.utc_offset_ms"),
            ("starting_credits = 50_000_000", "starting_credits = 9_000_000_000_000_000", "params.starting_credits"),
            ("name = \"local\"", "name = \"Local Market\"", "name"),
            ("time = 0", "time = 999_999_999_999_999", "time"),
        ];
        for (from, to, field) in cases {
            assert!(LOCAL.contains(from), "{from}");
            let error = Genesis::from_toml(&LOCAL.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{field}: ")), "{to}: {error}");
        }
    }

    #[test]
    fn a_silent_machine_is_lost_within_ten_seconds_on_an_idle_local_network_and_hosts_are_unique_where_they_are_real() {
        let params = Genesis::from_toml(LOCAL).unwrap().params;
        // The clock of contact advances by a step with each block of an idle network, whose blocks may take a second longer.
        assert!(params.idle_block_ms >= params.contact_step_ms);
        let blocks = params.contact_timeout_ms / params.contact_step_ms + 1;
        assert!(blocks * (params.idle_block_ms + 1_000) < 10_000, "{blocks} blocks");
        assert!(params.contact_timeout_ms > 2 * params.heartbeat_ms, "one heartbeat may be lost");
        assert!(!params.unique_hosts && Genesis::from_toml(PSU).unwrap().params.unique_hosts);
    }

    #[test]
    fn dynamic_prices_are_the_default_and_may_begin_at_prices_within_their_bounds() {
        for text in [LOCAL, PSU] {
            let policy = Genesis::from_toml(text).unwrap().params.price_policy;
            let PricePolicy::Dynamic(pricing) = policy else { panic!("{policy:?}") };
            assert!(pricing.first.is_some_and(|[night, _, afternoon, _]| night.core_hour < afternoon.core_hour));
            let (target_permille, gain_permille, weight_permille, max_change_permille) = (800, 200, 300, 200);
            let first = pricing.first;
            let expected = DynamicPricing { target_permille, gain_permille, weight_permille, max_change_permille, first };
            assert_eq!(pricing, expected);
        }
        let with_first = |cores: [u64; 4]| {
            let mut genesis = Genesis::from_toml(LOCAL).unwrap();
            let PricePolicy::Dynamic(pricing) = &mut genesis.params.price_policy else { panic!("not dynamic") };
            let floor = genesis.params.price_floor;
            pricing.first = Some(cores.map(|micro| UnitPrices { core_hour: Credits::from_micro(micro), ..floor }));
            Genesis::from_toml(&genesis.to_toml())
        };
        let genesis = with_first([400_000, 500_000, 600_000, 1_500_000]).unwrap();
        let PricePolicy::Dynamic(DynamicPricing { first: Some(first), .. }) = genesis.params.price_policy else {
            panic!("{:?}", genesis.params.price_policy);
        };
        assert_eq!(first.map(|slot| slot.core_hour.micro()), [400_000, 500_000, 600_000, 1_500_000]);
        assert_eq!(Genesis::from_toml(&genesis.to_toml()).unwrap(), genesis);
        for outside in [399_999, 1_500_001] {
            let error = with_first([400_000, outside, 600_000, 700_000]).unwrap_err().to_string();
            assert!(error.starts_with("params.price_policy.dynamic.first: "), "{error}");
        }
        let random = Genesis { params: Params { price_policy: PricePolicy::Random, ..genesis.params.clone() }, ..genesis };
        assert_eq!(Genesis::from_toml(&random.to_toml()).unwrap(), random);
    }

    #[test]
    fn validators_and_registrars_are_checked_one_by_one() {
        let refused = |change: fn(&mut Genesis)| {
            let mut genesis = complete();
            change(&mut genesis);
            genesis.check().unwrap_err().to_string()
        };
        assert!(refused(|g| g.validators[1].name = g.validators[0].name.clone()).starts_with("validators[1].name: two"));
        assert!(refused(|g| g.validators[2].key = g.validators[0].key).starts_with("validators[2].key: two"));
        assert!(refused(|g| g.validators[3].name = "A".into()).starts_with("validators[3].name: must"));
        for bad in ["127.0.0.1:27000", "/ip4/127.0.0.1/tcp/0", "/ip4/300.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1", "/dns//tcp/1", ""]
        {
            let mut genesis = complete();
            genesis.validators[0].consensus = bad.into();
            assert!(genesis.check().unwrap_err().to_string().starts_with("validators[0].consensus: must"), "{bad}");
        }
        for bad in ["127.0.0.1:80", "ftp://x", "http://", "http://host/path", "http://user@host"] {
            let mut genesis = complete();
            genesis.validators[0].gateway = bad.into();
            assert!(genesis.check().unwrap_err().to_string().starts_with("validators[0].gateway: must"), "{bad}");
        }
        assert_eq!(refused(|g| g.registrars.push(g.registrars[0])), "registrars[1]: the key is in the list twice");
        assert!(refused(|g| g.validators.clear()).starts_with("[[validators]] are not filled in"));
        assert!(refused(|g| g.registrars.clear()).starts_with("registrars are not filled in"));
        assert!(
            refused(|g| g.registrars = (0..101).map(|i| SecretKey::from_seed([i; 32]).public()).collect()).contains("too many")
        );
    }
}
