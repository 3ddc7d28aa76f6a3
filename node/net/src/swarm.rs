//! The swarm in its own task, and the handle to it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use deepmarket_types::{ChainId, Hash, SecretKey};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, connection_limits, identify, noise, ping,
    swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts, dial_opts::PeerCondition},
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{BlobStore, Group, GroupSpec, NetError, PeerAddress, blobs, hello, join, nearness::Nearness, peer::keypair_of};

/// How long reaching a peer may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long listening may take to begin.
const LISTEN_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection without streams is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// How often a peer is asked whether it lives, and how long its answer may take. A peer whose cable was pulled closes
/// nothing: two unanswered pings close the connection in its place.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
const PING_FAILURES: u32 = 2;
/// Bounds against strangers: connections in all, and from one peer.
const MAX_CONNECTIONS: u32 = 256;
const MAX_CONNECTIONS_PER_PEER: u32 = 4;

/// How a node takes part in the network.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The machine's or the gateway's key: the libp2p identity.
    pub key: SecretKey,
    /// Multiaddresses to listen on; empty: a free port on loopback.
    pub listen: Vec<String>,
    /// The folder of blobs.
    pub blobs: PathBuf,
    /// The chain that groups belong to: members of another chain are strangers.
    pub chain: ChainId,
}

/// A handle to this process's network. Clones share it; when the last one goes, the network ends.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub peer: PeerId,
    pub chain: ChainId,
    pub store: BlobStore,
    pub near: Nearness,
    pub groups: hello::Registry,
    addresses: Arc<RwLock<Vec<Multiaddr>>>,
    control: libp2p_stream::Control,
    commands: mpsc::Sender<Connect>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().expect("nobody panics while holding the list of tasks") {
            task.abort();
        }
    }
}

/// Asks the swarm's task for a connection.
struct Connect {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    reply: oneshot::Sender<Result<(), String>>,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

impl Net {
    /// Begins to listen and to serve blobs. Returns once the first addresses are known.
    pub async fn start(config: NetConfig) -> Result<Net, NetError> {
        let store = BlobStore::open(&config.blobs)?;
        let keypair = keypair_of(&config.key)?;
        let peer = keypair.public().to_peer_id();
        let mut swarm = build(&keypair);
        let mut control = swarm.behaviour().streams.new_control();
        let blob_streams = control.accept(blobs::PROTOCOL).expect("a new control has no protocols");
        let round_streams = control.accept(hello::PROTOCOL).expect("each protocol is registered once");

        listen(&mut swarm, &config.listen).await?;
        let addresses: Arc<RwLock<Vec<Multiaddr>>> = Arc::new(RwLock::new(swarm.listeners().cloned().collect()));
        let (commands, inbox) = mpsc::channel(64);
        let groups = hello::Registry::new(config.chain);
        let tasks = vec![
            tokio::spawn(drive(swarm, inbox, addresses.clone())),
            tokio::spawn(blobs::serve(blob_streams, store.clone())),
            tokio::spawn(hello::serve(round_streams, groups.clone())),
        ];
        let tasks = Mutex::new(tasks);
        tracing::info!(%peer, addresses = ?addresses.read().expect("not poisoned"), "network listens");
        let near = Nearness::default();
        let inner = Inner { peer, chain: config.chain, store, near, groups, addresses, control, commands, tasks };
        Ok(Net { inner: Arc::new(inner) })
    }

    /// This node's libp2p id.
    pub fn peer_id(&self) -> String {
        self.inner.peer.to_string()
    }

    /// The addresses that are listened on, with the peer id at their ends.
    pub fn addresses(&self) -> Vec<String> {
        let addresses = self.inner.addresses.read().expect("nobody panics while holding the addresses");
        addresses.iter().map(|a| format!("{a}/p2p/{}", self.inner.peer)).collect()
    }

    /// The blobs that are here.
    pub fn blobs(&self) -> &BlobStore {
        &self.inner.store
    }

    /// Fetches a blob of at most `limit` bytes from the nearest peer that gives it (in `from`'s order where nothing is known),
    /// checking each 16 KiB against the hash as it comes, and stores it here. A blob that is here already isn't fetched. Where a
    /// peer fails, the next goes on from there. `progress` gets the number of bytes that were received and checked so far.
    pub async fn fetch(
        &self,
        hash: &Hash,
        limit: u64,
        from: &[PeerAddress],
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Vec<u8>, NetError> {
        blobs::fetch(self, hash, limit, from, progress).await
    }

    /// Joins the other members of a job: returns when a stream to each of them stands. Waits for those that come later.
    pub async fn join(&self, spec: GroupSpec) -> Result<Group, NetError> {
        join::join(self, spec).await
    }

    /// Does a peer live and can it be reached, whatever it is busy with? Asks it something, and waits for an answer of any kind.
    pub async fn answers(&self, peer: &PeerAddress, limit: Duration) -> bool {
        join::answers(self, peer, limit).await
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Opens a stream to a peer, connecting first where needed.
    pub(crate) async fn open(&self, peer: PeerId, addresses: &[Multiaddr], protocol: StreamProtocol) -> Result<Stream, NetError> {
        let unreachable = |why: String| NetError::Unreachable { peer: peer.to_string(), why };
        let mut last = String::new();
        // A connection may close between the two steps: once more then.
        for _ in 0..2 {
            self.connect(peer, addresses).await?;
            let mut control = self.inner.control.clone();
            match timeout(CONNECT_WITHIN, control.open_stream(peer, protocol.clone())).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e @ libp2p_stream::OpenStreamError::UnsupportedProtocol(_))) => return Err(unreachable(e.to_string())),
                Ok(Err(e)) => last = e.to_string(),
                Err(_) => last = format!("no stream within {} s", CONNECT_WITHIN.as_secs()),
            }
        }
        Err(unreachable(last))
    }

    async fn connect(&self, peer: PeerId, addresses: &[Multiaddr]) -> Result<(), NetError> {
        let (reply, answer) = oneshot::channel();
        let command = Connect { peer, addresses: addresses.to_vec(), reply };
        self.inner.commands.send(command).await.map_err(|_| NetError::Closed)?;
        let unreachable = |why: String| NetError::Unreachable { peer: peer.to_string(), why };
        match timeout(CONNECT_WITHIN, answer).await {
            Ok(Ok(result)) => result.map_err(unreachable),
            Ok(Err(_)) => Err(NetError::Closed),
            Err(_) => Err(unreachable(format!("no connection within {} s", CONNECT_WITHIN.as_secs()))),
        }
    }
}

fn build(keypair: &libp2p::identity::Keypair) -> Swarm<Behaviour> {
    let behaviour = |key: &libp2p::identity::Keypair| {
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established(Some(MAX_CONNECTIONS))
            .with_max_pending_incoming(Some(MAX_CONNECTIONS))
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER));
        let agent = concat!("deepmarket/", env!("CARGO_PKG_VERSION")).to_owned();
        Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
            identify: identify::Behaviour::new(
                identify::Config::new("/deepmarket/1".to_owned(), key.public()).with_agent_version(agent),
            ),
            streams: libp2p_stream::Behaviour::new(),
        }
    };
    let with_tcp = || {
        SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux::Config::default)
            .expect("a keypair of ours makes a noise identity")
    };
    let idle = |config: libp2p::swarm::Config| config.with_idle_connection_timeout(IDLE_CONNECTION);
    // Names in addresses need the system's resolver; a machine without one still has numbers.
    match with_tcp().with_dns() {
        Ok(builder) => builder.with_behaviour(behaviour).expect("it can't fail").with_swarm_config(idle).build(),
        Err(e) => {
            tracing::warn!("no name resolution on this machine ({e}); only numeric addresses will be reached");
            with_tcp().with_behaviour(behaviour).expect("it can't fail").with_swarm_config(idle).build()
        }
    }
}

/// Listens on all addresses and waits until each has one that is real.
async fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[String]) -> Result<(), NetError> {
    let default = ["/ip4/127.0.0.1/tcp/0".to_owned()];
    let addresses = if addresses.is_empty() { &default } else { addresses };
    let mut waiting = HashMap::new();
    for address in addresses {
        let parsed: Multiaddr =
            address.parse().map_err(|e| NetError::BadAddress { address: address.clone(), why: format!("{e}") })?;
        let listener = swarm.listen_on(parsed).map_err(|e| NetError::Listen { address: address.clone(), why: e.to_string() })?;
        waiting.insert(listener, address.clone());
    }
    let wait = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waiting.remove(&listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(e), .. } if waiting.contains_key(&listener_id) => {
                    return Err(NetError::Listen { address: waiting[&listener_id].clone(), why: e.to_string() });
                }
                _ => {}
            }
        }
        Ok(())
    };
    let late = NetError::Timeout { what: "listening", after: LISTEN_WITHIN };
    timeout(LISTEN_WITHIN, wait).await.unwrap_or(Err(late))
}

/// The swarm's life: events of the network, and wishes for connections.
async fn drive(mut swarm: Swarm<Behaviour>, mut inbox: mpsc::Receiver<Connect>, addresses: Arc<RwLock<Vec<Multiaddr>>>) {
    let mut waiters: HashMap<PeerId, Vec<oneshot::Sender<Result<(), String>>>> = HashMap::new();
    let mut missed_pings: HashMap<ConnectionId, u32> = HashMap::new();
    loop {
        tokio::select! {
            command = inbox.recv() => {
                let Some(Connect { peer, addresses, reply }) = command else { return };
                if swarm.is_connected(&peer) {
                    reply.send(Ok(())).ok();
                    continue;
                }
                let options = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::DisconnectedAndNotDialing);
                match swarm.dial(options.build()) {
                    // Somebody dials already: wait with them.
                    Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => waiters.entry(peer).or_default().push(reply),
                    Err(e) => {
                        reply.send(Err(e.to_string())).ok();
                    }
                }
                waiters.retain(|_, list| {
                    list.retain(|reply| !reply.is_closed());
                    !list.is_empty()
                });
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    waiters.remove(&peer_id).into_iter().flatten().for_each(|reply| drop(reply.send(Ok(()))));
                }
                SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } if !swarm.is_connected(&peer) => {
                    let why = error.to_string();
                    waiters.remove(&peer).into_iter().flatten().for_each(|reply| drop(reply.send(Err(why.clone()))));
                }
                SwarmEvent::ConnectionClosed { connection_id, peer_id, cause, .. } => {
                    missed_pings.remove(&connection_id);
                    tracing::debug!(%peer_id, ?cause, "connection closed");
                }
                SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result })) => match result {
                    Ok(_) | Err(ping::Failure::Unsupported) => drop(missed_pings.remove(&connection)),
                    // A stream that couldn't be had among many others is not silence.
                    Err(ping::Failure::Other { error }) => tracing::debug!(%peer, %error, "a ping failed"),
                    Err(failure @ ping::Failure::Timeout) => {
                        let missed = missed_pings.entry(connection).or_default();
                        *missed += 1;
                        if *missed >= PING_FAILURES {
                            tracing::warn!(%peer, %failure, "the peer doesn't answer; closing the connection");
                            swarm.close_connection(connection);
                        }
                    }
                },
                SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                    *addresses.write().expect("nobody panics while holding the addresses") = swarm.listeners().cloned().collect();
                }
                _ => {}
            },
        }
    }
}
