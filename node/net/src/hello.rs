//! How two members find each other: `/deepmarket/round/2`.
//!
//! The lower position opens the stream and sends [`Hello`]; the other answers [`Welcome`]. Both sides know each other's key from
//! the chain, and noise has proved it: a `Hello` counts only from the peer that the group has at that position. Afterwards the
//! stream carries the frames of [`crate::frame`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{ChainId, Hash, JobId};
use futures::StreamExt as _;
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::mpsc;

use crate::{
    link::AnyPipe,
    wire::{receive, send, within},
};

/// The protocol's name and version.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/deepmarket/round/2");

/// How long a greeting may take.
pub(crate) const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Greetings that are being read at the same time.
const MAX_GREETINGS: usize = 64;

/// What the lower position says first.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Hello {
    /// The chain that the job is on.
    pub chain: ChainId,
    /// The group.
    pub group: Hash,
    /// The job.
    pub job: JobId,
    /// Number of members.
    pub world: u32,
    /// Who speaks.
    pub from: u32,
    /// Who is meant.
    pub to: u32,
}

/// What the higher position answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Welcome {
    /// The stream stands.
    Joined,
    /// The group isn't known here (yet): try again a little later.
    NotYet,
    /// The group is known here with another member at that position.
    Refused,
}

/// Streams of lower positions that were let in.
type Arrivals = mpsc::Sender<(u32, AnyPipe)>;

/// A group that waits for its lower positions to come.
struct Expected {
    hello: Hello,
    peers: Vec<PeerId>,
    arrivals: Arrivals,
}

/// The groups of this process, by name and own position, that still wait for members.
#[derive(Clone)]
pub(crate) struct Registry {
    chain: ChainId,
    groups: Arc<Mutex<HashMap<(Hash, u32), Expected>>>,
}

/// While it lives, the members of a group are let in.
pub(crate) struct Expecting {
    registry: Registry,
    key: (Hash, u32),
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key);
    }
}

impl Registry {
    pub fn new(chain: ChainId) -> Registry {
        Registry { chain, groups: Arc::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Hash, u32), Expected>> {
        self.groups.lock().expect("nobody panics while holding the groups")
    }

    /// Lets the lower positions of a group in. `None` where the group is being joined already.
    pub fn expect(
        &self,
        job: JobId,
        group: Hash,
        position: u32,
        peers: &[PeerId],
    ) -> Option<(Expecting, mpsc::Receiver<(u32, AnyPipe)>)> {
        let (arrivals, inbox) = mpsc::channel(peers.len().max(1));
        let hello = Hello { chain: self.chain, group, job, world: peers.len() as u32, from: 0, to: position };
        let mut groups = self.lock();
        let key = (group, position);
        if groups.contains_key(&key) {
            return None;
        }
        groups.insert(key, Expected { hello, peers: peers.to_vec(), arrivals });
        Some((Expecting { registry: self.clone(), key }, inbox))
    }

    /// Is this peer the one that the group expects to say this?
    pub fn judge(&self, peer: PeerId, hello: &Hello) -> Result<Arrivals, Welcome> {
        let groups = self.lock();
        let Some(expected) = groups.get(&(hello.group, hello.to)).filter(|_| hello.chain == self.chain) else {
            return Err(Welcome::NotYet);
        };
        let should = Hello { from: hello.from, ..expected.hello.clone() };
        let is_member = expected.peers.get(hello.from as usize) == Some(&peer);
        if *hello == should && is_member && hello.from < hello.to {
            return Ok(expected.arrivals.clone());
        }
        // Whoever isn't a member learns nothing, not even that the group exists.
        Err(if expected.peers.contains(&peer) { Welcome::Refused } else { Welcome::NotYet })
    }
}

/// Answers greetings until the network ends.
pub(crate) async fn serve(mut streams: libp2p_stream::IncomingStreams, registry: Registry) {
    let mut greetings = tokio::task::JoinSet::new();
    while let Some((peer, stream)) = streams.next().await {
        while greetings.try_join_next().is_some() {}
        if greetings.len() < MAX_GREETINGS {
            let registry = registry.clone();
            greetings.spawn(async move {
                if let Err(e) = greet(peer, stream, registry).await {
                    tracing::debug!(%peer, "a greeting failed: {e}");
                }
            });
        }
    }
}

async fn greet(peer: PeerId, mut stream: Stream, registry: Registry) -> std::io::Result<()> {
    let hello: Hello = within(HELLO_WITHIN, receive(&mut stream)).await?;
    match registry.judge(peer, &hello) {
        Ok(arrivals) => {
            within(HELLO_WITHIN, send(&mut stream, &Welcome::Joined)).await?;
            // A full or closed queue: the group has gone on without this stream, and dropping it tells the other side.
            arrivals.try_send((hello.from, Box::new(stream))).ok();
            Ok(())
        }
        Err(answer) => {
            if answer == Welcome::Refused {
                tracing::warn!(%peer, ?hello, "a member of the group greets with other facts; refused");
            }
            within(HELLO_WITHIN, send(&mut stream, &answer)).await?;
            within(HELLO_WITHIN, futures::AsyncWriteExt::close(&mut stream)).await
        }
    }
}
