use std::net::IpAddr;

use deepmarket_types::{PublicKey, SecretKey};
use libp2p::{Multiaddr, PeerId, identity, multiaddr::Protocol};
use zeroize::Zeroize;

use crate::NetError;

/// The most addresses of one peer that are tried.
const MAX_ADDRESSES: usize = 16;

/// A peer and where it may be reached. All addresses are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The peer's id, see [`peer_id_of`].
    pub peer_id: String,
    /// Multiaddresses, with or without `/p2p/<peer id>` at the end.
    pub addresses: Vec<String>,
}

impl PeerAddress {
    /// The peer that holds a key.
    pub fn of_key(key: &PublicKey, addresses: Vec<String>) -> Result<PeerAddress, NetError> {
        Ok(PeerAddress { peer_id: peer_id_of(key)?, addresses })
    }

    /// The parsed id and the addresses that can be dialled. Unusable addresses are left out: a peer's list comes from
    /// outside and may hold some that only others can use.
    pub(crate) fn parse(&self) -> Result<(PeerId, Vec<Multiaddr>), NetError> {
        let bad = |why: String| NetError::BadAddress { address: self.peer_id.chars().take(100).collect(), why };
        let peer: PeerId = self.peer_id.parse().map_err(|e| bad(format!("{e}")))?;
        let addresses: Vec<_> = self.addresses.iter().take(MAX_ADDRESSES).filter_map(|text| usable(text, &peer)).collect();
        Ok((peer, addresses))
    }
}

/// Can other machines be told this address? It must be a multiaddress of a host and a TCP port, with or without a peer id.
pub fn check_address(text: &str) -> Result<(), NetError> {
    let bad = |why: String| NetError::BadAddress { address: text.chars().take(100).collect(), why };
    let mut address: Multiaddr = text.parse().map_err(|e| bad(format!("{e}")))?;
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    match can_be_dialled(&address) {
        true => Ok(()),
        false => Err(bad("others can't dial it: it needs a host and a TCP port".into())),
    }
}

fn usable(text: &str, peer: &PeerId) -> Option<Multiaddr> {
    let mut address: Multiaddr = text.parse().ok()?;
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        if named != *peer {
            return None;
        }
        address.pop();
    }
    can_be_dialled(&address).then_some(address)
}

fn can_be_dialled(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host_fits = match parts.next() {
        Some(Protocol::Ip4(ip)) => !IpAddr::V4(ip).is_unspecified(),
        Some(Protocol::Ip6(ip)) => !IpAddr::V6(ip).is_unspecified(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    };
    host_fits && matches!(parts.next(), Some(Protocol::Tcp(_))) && parts.next().is_none()
}

/// The libp2p peer id of a public key: a machine's on the chain, or a gateway's.
pub fn peer_id_of(key: &PublicKey) -> Result<String, NetError> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&key.0).map_err(|_| NetError::BadKey)?;
    Ok(identity::PublicKey::from(key).to_peer_id().to_string())
}

/// The libp2p identity that goes with a secret key.
pub(crate) fn keypair_of(key: &SecretKey) -> Result<identity::Keypair, NetError> {
    let mut seed = key.seed();
    let keypair = identity::Keypair::ed25519_from_bytes(&mut seed).map_err(|_| NetError::BadKey);
    seed.zeroize();
    keypair
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_follows_from_the_public_key_alone() {
        let key = SecretKey::from_seed([5; 32]);
        let from_secret = keypair_of(&key).unwrap().public().to_peer_id().to_string();
        assert_eq!(peer_id_of(&key.public()).unwrap(), from_secret);
        assert!(from_secret.starts_with("12D3KooW"));
    }

    #[test]
    fn only_addresses_that_can_be_dialled_and_name_the_same_peer_are_used() {
        let [one, other] = [1, 2].map(|n| peer_id_of(&SecretKey::from_seed([n; 32]).public()).unwrap());
        let addresses = [
            "/ip4/127.0.0.1/tcp/4001".to_owned(),
            format!("/ip4/127.0.0.1/tcp/4002/p2p/{one}"),
            format!("/ip4/127.0.0.1/tcp/4003/p2p/{other}"),
            "/ip4/0.0.0.0/tcp/4004".to_owned(),
            "/ip4/127.0.0.1/udp/4005".to_owned(),
            "/unix/tmp".to_owned(),
            "nonsense".to_owned(),
        ];
        let peer = PeerAddress { peer_id: one, addresses: addresses.to_vec() };
        let (_, usable) = peer.parse().unwrap();
        assert_eq!(
            usable.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4002"]
        );
        assert!(PeerAddress { peer_id: "x".into(), addresses: vec![] }.parse().is_err());
        let fit: Vec<bool> = addresses.iter().map(|address| check_address(address).is_ok()).collect();
        assert_eq!(fit, [true, true, true, false, false, false, false]);
    }
}
