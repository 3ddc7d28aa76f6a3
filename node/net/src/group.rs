//! The ranks of one job, joined by streams between all pairs.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use deepmarket_types::{Hash, JobId};
use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _,
    future::{join_all, try_join, try_join_all},
    io::{ReadHalf, WriteHalf},
    stream::FuturesUnordered,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant as Deadline, sleep, timeout_at};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::{
    Exchange, Net, NetError, PeerAddress, combine,
    exchange::{FrameHeader, Part, append_floats, read_floats, share_of},
    hello::{HELLO_WITHIN, Hello, PROTOCOL, Welcome},
    wire::{receive, send, within},
};

/// The most bytes of one rank's note in [`Group::gather`].
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// The most ranks of a group.
const MAX_WORLD: usize = 256;
/// The longest vector that is averaged: 256 MiB.
const MAX_FLOATS: usize = 64 * 1024 * 1024;
/// Pause before a rank that isn't there yet is tried again.
const RETRY: Duration = Duration::from_millis(150);
/// How long saying good-bye may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// What two ranks on one machine may have in flight between them.
const LOCAL_PIPE_BYTES: usize = 256 * 1024;

/// Who exchanges with whom.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// The job.
    pub job: JobId,
    /// The group's name, equal on all ranks and used by no other group (a hash of the job and its leases).
    pub id: Hash,
    /// Our own rank.
    pub rank: u32,
    /// All ranks in order, ourselves included. Two ranks may be on one machine.
    pub peers: Vec<PeerAddress>,
    /// How long to wait for the others to come.
    pub join_within: Duration,
    /// How long another rank may keep silent in an exchange before it counts as lost. It contains the time by which the
    /// slowest rank computes longer than we do.
    pub round_within: Duration,
}

impl GroupSpec {
    /// A group with the usual deadlines: 60 s to come together, 30 s for a part of an exchange.
    pub fn new(job: JobId, id: Hash, rank: u32, peers: Vec<PeerAddress>) -> GroupSpec {
        GroupSpec { job, id, rank, peers, join_within: Duration::from_secs(60), round_within: Duration::from_secs(30) }
    }
}

/// A byte stream to another rank: over the network, or inside this process.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}
pub(crate) type AnyPipe = Box<dyn Pipe>;

/// The ranks of a job, joined. Every rank must call the same methods in the same order.
///
/// If a call fails or is dropped half-way the group is broken: leave it. Dropping a group tells the other ranks at once.
pub struct Group {
    rank: u32,
    links: Vec<Link>,
    round_within: Duration,
    broken: bool,
    outgoing: Vec<u8>,
    mean: Vec<f32>,
    // The streams live as long as the network does.
    _net: Net,
}

/// The stream to one other rank.
struct Link {
    rank: u32,
    reader: ReadHalf<AnyPipe>,
    writer: WriteHalf<AnyPipe>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    values: Vec<f32>,
}

/// See [`Net::join`].
pub(crate) async fn join(net: &Net, spec: GroupSpec) -> Result<Group, NetError> {
    let members = parse_members(net, &spec)?;
    let world = members.len() as u32;
    let peers: Vec<PeerId> = members.iter().map(|(peer, _)| *peer).collect();
    let joining = net.inner().groups.expect(spec.job, spec.id, spec.rank, &peers);
    let Some((_expecting, mut arrivals)) = joining else {
        return Err(NetError::BadGroup("this rank is joining it already".into()));
    };
    let hello = |to| Hello { chain: net.inner().chain, group: spec.id, job: spec.job, world, from: spec.rank, to };
    let deadline = Deadline::now() + spec.join_within;
    let mut last_errors = BTreeMap::new();
    let mut pipes: BTreeMap<u32, AnyPipe> = BTreeMap::new();
    let mut calls: FuturesUnordered<_> =
        (spec.rank + 1..world).map(|to| call_once(net, hello(to), &members[to as usize], Duration::ZERO)).collect();
    while pipes.len() + 1 < members.len() {
        let step = async {
            tokio::select! {
                Some((from, pipe)) = arrivals.recv() => (from, Called::Joined(pipe)),
                Some(called) = calls.next() => called,
            }
        };
        match timeout_at(deadline, step).await {
            Ok((rank, Called::Joined(pipe))) => {
                pipes.insert(rank, pipe);
            }
            Ok((rank, Called::Refused)) => return Err(NetError::Refused { rank }),
            Ok((rank, Called::Again(why))) => {
                last_errors.insert(rank, why);
                calls.push(call_once(net, hello(rank), &members[rank as usize], RETRY));
            }
            Err(_) => {
                let missing = (0..world).find(|rank| *rank != spec.rank && !pipes.contains_key(rank));
                let rank = missing.expect("somebody is missing, or the loop would have ended");
                let last = last_errors.remove(&rank).unwrap_or_else(|| "it never called".into());
                let why = format!("it didn't come within {} s ({last})", spec.join_within.as_secs());
                return Err(NetError::PeerLost { rank, why });
            }
        }
    }
    let links = pipes.into_iter().map(|(rank, pipe)| Link::new(rank, pipe)).collect();
    let (outgoing, mean) = (Vec::new(), Vec::new());
    Ok(Group { rank: spec.rank, links, round_within: spec.round_within, broken: false, outgoing, mean, _net: net.clone() })
}

type Member = (PeerId, Vec<Multiaddr>);

fn parse_members(net: &Net, spec: &GroupSpec) -> Result<Vec<Member>, NetError> {
    let world = spec.peers.len();
    if world == 0 || world > MAX_WORLD || spec.rank as usize >= world {
        return Err(NetError::BadGroup(format!("rank {} of {world} ranks (at most {MAX_WORLD})", spec.rank)));
    }
    let members: Vec<Member> = spec.peers.iter().map(PeerAddress::parse).collect::<Result<_, _>>()?;
    if members[spec.rank as usize].0 != net.inner().peer {
        return Err(NetError::BadGroup(format!("rank {} is another peer than this process", spec.rank)));
    }
    Ok(members)
}

/// What came of calling another rank once.
enum Called {
    Joined(AnyPipe),
    Again(String),
    Refused,
}

async fn call_once(net: &Net, hello: Hello, member: &Member, pause: Duration) -> (u32, Called) {
    sleep(pause).await;
    let rank = hello.to;
    if member.0 == net.inner().peer {
        return (rank, call_within_process(net, &hello));
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
        Ok((Welcome::NotYet, _)) => Called::Again("it doesn't know the group yet".into()),
        Ok((Welcome::Refused, _)) => Called::Refused,
        Err(why) => Called::Again(why),
    };
    (rank, called)
}

/// A rank on the same machine has the same peer id, and libp2p doesn't call itself.
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
        Err(_) => Called::Again("it doesn't know the group yet".into()),
    }
}

impl Group {
    /// Our own rank.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Number of ranks.
    pub fn world(&self) -> u32 {
        self.links.len() as u32 + 1
    }

    /// Replaces `values` on every rank by their mean, weighted by samples ([`combine`] says how, to the bit). Each rank sums
    /// one share of the vector and sends the result to the others, so that a rank's traffic stays about twice the vector
    /// whatever the number of ranks.
    pub async fn average(&mut self, round: u64, values: &mut [f32], weight: u64) -> Result<Exchange, NetError> {
        self.begin()?;
        if values.len() > MAX_FLOATS {
            return Err(NetError::BadGroup(format!("{} values can't be averaged; at most {MAX_FLOATS}", values.len())));
        }
        let (rank, world, limit) = (self.rank, self.world(), self.round_within);
        let (started, length) = (Instant::now(), values.len());
        let own = share_of(length, world, rank);
        let header = FrameHeader { part: Part::Values, from: rank, tag: round, weight, floats: length as u32, bytes: 0 };
        let (mut sent, mut received) = (0, 0);

        let scatter = self.links.iter_mut().map(|link| {
            let theirs = share_of(length, world, link.rank);
            let header = FrameHeader { bytes: (theirs.len() * 4) as u32, ..header };
            link.outgoing.clear();
            link.outgoing.extend_from_slice(&header.encode());
            append_floats(&mut link.outgoing, &values[theirs]);
            sent += link.outgoing.len() as u64;
            let expected = FrameHeader { from: link.rank, bytes: (own.len() * 4) as u32, ..header };
            link.swap_values(expected, limit)
        });
        let arrivals = try_join_all(scatter).await?;
        let last_header = arrivals.iter().map(|(_, at)| *at).max().unwrap_or(started);

        let mut weights: Vec<u64> = arrivals.iter().map(|(header, _)| header.weight).collect();
        weights.insert(rank as usize, weight);
        let mut parts: Vec<(&[f32], u64)> = Vec::with_capacity(world as usize);
        self.mean.resize(own.len(), 0.0);
        for link in &mut self.links {
            received += (FrameHeader::BYTES + link.incoming.len()) as u64;
            link.values.resize(own.len(), 0.0);
            read_floats(&link.incoming, &mut link.values);
        }
        parts.extend(self.links.iter().map(|link| link.values.as_slice()).zip(arrivals.iter().map(|(header, _)| header.weight)));
        parts.insert(rank as usize, (&values[own.clone()], weight));
        combine(&parts, &mut self.mean);
        values[own.clone()].copy_from_slice(&self.mean);

        let header = FrameHeader { part: Part::Mean, weight: 0, bytes: (own.len() * 4) as u32, ..header };
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&header.encode());
        append_floats(&mut self.outgoing, &self.mean);
        let outgoing = &self.outgoing;
        sent += (outgoing.len() * self.links.len()) as u64;
        let gather = self.links.iter_mut().map(|link| {
            let bytes = (share_of(length, world, link.rank).len() * 4) as u32;
            link.swap(outgoing, FrameHeader { from: link.rank, bytes, ..header }, limit)
        });
        try_join_all(gather).await?;
        for link in &self.links {
            received += (FrameHeader::BYTES + link.incoming.len()) as u64;
            read_floats(&link.incoming, &mut values[share_of(length, world, link.rank)]);
        }
        self.broken = false;
        let waited = last_header - started;
        Ok(Exchange { weights, sent, received, waited, exchanged: started.elapsed() - waited })
    }

    /// Gives every rank all ranks' notes, in rank order. The tag tells one gathering from another.
    pub async fn gather(&mut self, tag: u64, note: &[u8]) -> Result<Vec<Vec<u8>>, NetError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NetError::NoteTooLong { bytes: note.len(), limit: MAX_NOTE_BYTES });
        }
        self.begin()?;
        let bytes = note.len() as u32;
        let header = FrameHeader { part: Part::Note, from: self.rank, tag, weight: 0, floats: 0, bytes };
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&header.encode());
        self.outgoing.extend_from_slice(note);
        let (outgoing, limit) = (&self.outgoing, self.round_within);
        let swaps = self.links.iter_mut().map(|link| link.swap(outgoing, FrameHeader { from: link.rank, ..header }, limit));
        try_join_all(swaps).await?;
        let mut notes: Vec<Vec<u8>> = self.links.iter().map(|link| link.incoming.clone()).collect();
        notes.insert(self.rank as usize, note.to_vec());
        self.broken = false;
        Ok(notes)
    }

    /// Says good-bye: what was sent still arrives.
    pub async fn leave(mut self) {
        let closings = self.links.iter_mut().map(|link| within(LEAVE_WITHIN, link.writer.close()));
        for result in join_all(closings).await {
            if let Err(e) = result {
                tracing::debug!("leaving a group: {e}");
            }
        }
    }

    /// Marks the group as broken until the exchange has succeeded, also if its future is dropped half-way.
    fn begin(&mut self) -> Result<(), NetError> {
        match std::mem::replace(&mut self.broken, true) {
            true => Err(NetError::Broken),
            false => Ok(()),
        }
    }
}

impl Link {
    fn new(rank: u32, pipe: AnyPipe) -> Link {
        let (reader, writer) = pipe.split();
        Link { rank, reader, writer, outgoing: Vec::new(), incoming: Vec::new(), values: Vec::new() }
    }

    /// Sends what was prepared for this rank and receives its counterpart, see [`Link::swap`].
    async fn swap_values(&mut self, expected: FrameHeader, limit: Duration) -> Result<(FrameHeader, Instant), NetError> {
        let outgoing = std::mem::take(&mut self.outgoing);
        let result = self.swap(&outgoing, expected, limit).await;
        self.outgoing = outgoing;
        result
    }

    /// Sends a frame and receives one at the same time: if both sides only sent, both would wait for room for ever. Returns
    /// the header and when it came; the frame's bytes are in `incoming`.
    async fn swap(
        &mut self,
        outgoing: &[u8],
        expected: FrameHeader,
        limit: Duration,
    ) -> Result<(FrameHeader, Instant), NetError> {
        let (rank, reader, writer, incoming) = (self.rank, &mut self.reader, &mut self.writer, &mut self.incoming);
        let lost = |e: io::Error| NetError::PeerLost { rank, why: words_for(&e, limit) };
        let send = async {
            let write = async {
                writer.write_all(outgoing).await?;
                writer.flush().await
            };
            within(limit, write).await.map_err(lost)
        };
        let receive = async {
            let mut bytes = [0; FrameHeader::BYTES];
            within(limit, reader.read_exact(&mut bytes)).await.map_err(lost)?;
            let came_at = Instant::now();
            let header = check_header(&bytes, expected).map_err(|what| NetError::OutOfStep { rank, what })?;
            incoming.resize(header.bytes as usize, 0);
            within(limit, reader.read_exact(incoming)).await.map_err(lost)?;
            Ok((header, came_at))
        };
        let ((), arrival) = try_join(send, receive).await?;
        Ok(arrival)
    }
}

fn check_header(bytes: &[u8; FrameHeader::BYTES], expected: FrameHeader) -> Result<FrameHeader, String> {
    let header = FrameHeader::decode(bytes).ok_or("it sent something that is no frame")?;
    // The weight is the sender's to tell, and so is a note's length.
    let notes_fit = header.part == Part::Note && header.bytes as usize <= MAX_NOTE_BYTES;
    let should = FrameHeader { weight: header.weight, bytes: if notes_fit { header.bytes } else { expected.bytes }, ..expected };
    if header != should {
        return Err(format!("it sent {header:?} where {expected:?} was due"));
    }
    Ok(header)
}

fn words_for(error: &io::Error, limit: Duration) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("it kept silent for {} s", limit.as_secs_f32()),
        io::ErrorKind::UnexpectedEof => "it closed its stream".into(),
        _ => error.to_string(),
    }
}
