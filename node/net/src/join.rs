//! How the members of a group come together: the lower position calls, the higher one is called.
//!
//! A group may be joined again after it was left, at different moments by different members: a stream that ends while we wait for
//! others is replaced by the next one from or to the same member, and whoever holds a stream to a member that left notices at its
//! next exchange, leaves, and joins again. So all end up in one group as soon as all of them wait at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use deepmarket_types::{Hash, JobId};
use futures::{StreamExt as _, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::mpsc,
    time::{Instant as Deadline, sleep, timeout_at},
};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::{
    Group, GroupSpec, Net, NetError, PeerAddress,
    group::PATIENCE,
    hello::{HELLO_WITHIN, Hello, PROTOCOL, Welcome},
    link::{AnyPipe, Ended, Event, Link, LinkId, farewell},
    task::Task,
    wire::{receive, send, within},
};

/// The most members of a group.
const MAX_WORLD: usize = 256;
/// Pause before a member that isn't there yet is tried again.
const RETRY: Duration = Duration::from_millis(150);
/// What two members on one machine may have in flight between them.
const LOCAL_PIPE_BYTES: usize = 256 * 1024;
/// Events of all links that wait to be taken in.
const EVENTS: usize = 64;

type Member = (PeerId, Vec<Multiaddr>);

/// See [`Net::join`].
pub(crate) async fn join(net: &Net, spec: GroupSpec) -> Result<Group, NetError> {
    let members = parse_members(net, &spec)?;
    let peers: Vec<PeerId> = members.iter().map(|(peer, _)| *peer).collect();
    let joining = net.inner().groups.expect(spec.job, spec.id, spec.position, &peers);
    let Some((_expecting, mut arrivals)) = joining else {
        return Err(NetError::BadGroup("this member is joining it already".into()));
    };
    let (world, deadline) = (members.len() as u32, Deadline::now() + spec.join_within);
    let (tell, mut events) = mpsc::channel(EVENTS);
    let mut coming =
        Coming { spec: &spec, world, links: BTreeMap::new(), words: BTreeMap::new(), left: BTreeSet::new(), next: 0 };
    let call = |position: u32, pause| {
        let (job, group, chain) = (spec.job, spec.id, net.inner().chain);
        let hello = Hello { chain, group, job, world, from: spec.position, to: position };
        call_once(net, hello, &members[position as usize], pause)
    };
    let mut calls: FuturesUnordered<_> = (spec.position + 1..world).map(|to| call(to, Duration::ZERO)).collect();
    while coming.links.len() + 1 < members.len() {
        let step = async {
            tokio::select! {
                Some((from, pipe)) = arrivals.recv() => Step::Called(from, Called::Joined(pipe)),
                Some((position, called)) = calls.next() => Step::Called(position, called),
                Some((id, event)) = events.recv() => Step::Heard(id, event),
            }
        };
        match timeout_at(deadline, step).await {
            Ok(Step::Called(position, Called::Joined(pipe))) => coming.came(position, pipe, &tell),
            Ok(Step::Called(position, Called::Again(why))) => {
                coming.words.insert(position, why);
                calls.push(call(position, RETRY));
            }
            Ok(Step::Called(position, Called::Refused)) => return Err(NetError::Refused { position }),
            Ok(Step::Heard(id, event)) => {
                // Whoever we called is called again; whoever called us will call again.
                if let Some(gone) = coming.heard(id, event).filter(|gone| *gone > spec.position) {
                    calls.push(call(gone, RETRY));
                }
            }
            Err(_) => return Err(coming.give_up()),
        }
    }
    let links = coming.links.into_values().collect();
    Ok(Group::start_task(spec.position, world, |orders, failure| Task {
        position: spec.position,
        links,
        events,
        orders,
        patience: PATIENCE,
        failure,
        net: net.clone(),
    }))
}

/// What happens while we wait for the others.
enum Step {
    Called(u32, Called),
    Heard(LinkId, Event),
}

/// Who is there so far.
struct Coming<'a> {
    spec: &'a GroupSpec,
    world: u32,
    links: BTreeMap<u32, Link>,
    /// The last that is known of those that aren't there.
    words: BTreeMap<u32, String>,
    /// Who was there and left in order.
    left: BTreeSet<u32>,
    next: LinkId,
}

impl Coming<'_> {
    /// A stream to a member stands. It replaces an earlier one.
    fn came(&mut self, position: u32, pipe: AnyPipe, tell: &mpsc::Sender<(LinkId, Event)>) {
        self.next += 1;
        self.left.remove(&position);
        self.links.insert(position, Link::start(self.next, position, pipe, tell.clone()));
    }

    /// Takes in what came on a stream; gives the member whose stream ended.
    fn heard(&mut self, id: LinkId, event: Event) -> Option<u32> {
        let link = self.links.values_mut().find(|link| link.id == id)?;
        let position = link.position;
        let ended = match event {
            Event::Ended(ended) => ended,
            frame => {
                link.take_in(frame);
                return None;
            }
        };
        let why = match ended {
            Ended::Lost(why) | Ended::Nonsense(why) => why,
            Ended::Left(_) => {
                self.left.insert(position);
                "it left again".into()
            }
        };
        self.words.insert(position, format!("it was here, but {why}"));
        self.links.remove(&position);
        Some(position)
    }

    /// Tells who is missing, and says farewell to the others. Whoever left in order, because somebody was missing for it too, isn't
    /// counted beside those that never came.
    fn give_up(mut self) -> NetError {
        let absent = (0..self.world).filter(|p| *p != self.spec.position && !self.links.contains_key(p));
        let (left, never): (Vec<u32>, Vec<u32>) = absent.partition(|p| self.left.contains(p));
        let positions = if never.is_empty() { left } else { never };
        let words = positions.iter().map(|position| {
            let last = self.words.remove(position).unwrap_or_else(|| "it never called".into());
            format!("member {position}: {last}")
        });
        let why = format!("not here within {} s; {}", self.spec.join_within.as_secs_f32(), words.collect::<Vec<_>>().join("; "));
        let links = std::mem::take(&mut self.links).into_values().collect();
        tokio::spawn(farewell(self.spec.position, positions.first().copied(), links));
        NetError::Missing { positions, why }
    }
}

fn parse_members(net: &Net, spec: &GroupSpec) -> Result<Vec<Member>, NetError> {
    let (world, position) = (spec.peers.len(), spec.position);
    if world == 0 || world > MAX_WORLD || position as usize >= world {
        return Err(NetError::BadGroup(format!("position {position} of {world} members (at most {MAX_WORLD})")));
    }
    let members: Vec<Member> = spec.peers.iter().map(PeerAddress::parse).collect::<Result<_, _>>()?;
    if members[position as usize].0 != net.inner().peer {
        return Err(NetError::BadGroup(format!("position {position} is another peer than this process")));
    }
    Ok(members)
}

/// What came of calling another member once.
enum Called {
    Joined(AnyPipe),
    Again(String),
    Refused,
}

async fn call_once(net: &Net, hello: Hello, member: &Member, pause: Duration) -> (u32, Called) {
    sleep(pause).await;
    let position = hello.to;
    if member.0 == net.inner().peer {
        return (position, call_within_process(net, &hello));
    }
    let call = async {
        let mut stream = net.open(member.0, &member.1, PROTOCOL).await.map_err(|e| e.to_string())?;
        let greet = async {
            send(&mut stream, &hello).await?;
            receive::<Welcome>(&mut stream).await
        };
        let welcome = within(HELLO_WITHIN, greet).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((welcome, stream))
    };
    let called = match call.await {
        Ok((Welcome::Joined, stream)) => Called::Joined(Box::new(stream)),
        Ok((Welcome::NotYet, _)) => Called::Again("it doesn't know the group (yet)".into()),
        Ok((Welcome::Refused, _)) => Called::Refused,
        Err(why) => Called::Again(why),
    };
    (position, called)
}

/// See [`Net::answers`].
pub(crate) async fn answers(net: &Net, peer: &PeerAddress, limit: Duration) -> bool {
    let Ok((id, addresses)) = peer.parse() else { return false };
    if id == net.inner().peer {
        return true;
    }
    // No group has this name: whoever lives says that it doesn't know it.
    let hello = Hello { chain: net.inner().chain, group: Hash::default(), job: JobId(0), world: 0, from: 0, to: 0 };
    let ask = async {
        let mut stream = net.open(id, &addresses, PROTOCOL).await.ok()?;
        send(&mut stream, &hello).await.ok()?;
        receive::<Welcome>(&mut stream).await.ok()
    };
    matches!(tokio::time::timeout(limit, ask).await, Ok(Some(_)))
}

/// A member on the same machine has the same peer id, and libp2p doesn't call itself.
fn call_within_process(net: &Net, hello: &Hello) -> Called {
    match net.inner().groups.judge(net.inner().peer, hello) {
        Ok(arrivals) => {
            let (ours, theirs) = tokio::io::duplex(LOCAL_PIPE_BYTES);
            match arrivals.try_send((hello.from, Box::new(theirs.compat()))) {
                Ok(()) => Called::Joined(Box::new(ours.compat())),
                Err(_) => Called::Again("its queue is full".into()),
            }
        }
        Err(Welcome::Refused) => Called::Refused,
        Err(_) => Called::Again("it doesn't know the group (yet)".into()),
    }
}
