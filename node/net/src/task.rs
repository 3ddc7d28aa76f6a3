//! The group's own task: everything that members exchange, in the order in which it was begun, while the caller computes.
//!
//! Members begin everything in the same order and streams keep theirs, so the n-th frame of a kind (values, mean, note) that comes
//! from a member belongs to the n-th exchange that waits for this kind. A frame's header says what its sender takes it for; if that
//! is something else the two are out of step.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep_until,
};

use crate::{
    Encoding, Exchange, MAX_NOTE_BYTES, Net, NetError, combine,
    frame::{FrameHeader, Part},
    link::{Ended, Event, Frame, Link, LinkId, Outgoing, farewell},
    part_hash, share_of,
};

/// The longest patience, and the pause of a task that waits for nobody.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// What the group's owner asks for.
pub(crate) enum Order {
    Average { round: u64, values: Vec<f32>, weight: u64, encoding: Encoding, reply: oneshot::Sender<Averaged> },
    Gather { tag: u64, note: Vec<u8>, reply: oneshot::Sender<Vec<Vec<u8>>> },
    Patience(Duration),
    Leave(oneshot::Sender<()>),
}

pub(crate) type Averaged = (Vec<f32>, Exchange);

/// Why the group broke, until somebody was told.
pub(crate) type Failure = Arc<Mutex<Option<NetError>>>;

/// The state of the group's task.
pub(crate) struct Task {
    pub position: u32,
    /// In order of position.
    pub links: Vec<Link>,
    pub events: mpsc::Receiver<(LinkId, Event)>,
    pub orders: mpsc::UnboundedReceiver<Order>,
    pub patience: Duration,
    pub failure: Failure,
    /// The streams live as long as the network does.
    pub net: Net,
}

/// What goes on.
struct State {
    position: u32,
    links: Vec<Link>,
    pending: VecDeque<Pending>,
    patience: Duration,
    /// What lossy encodings cut off: of our values (as long as the vector), and of our share's mean.
    kept_values: Vec<f32>,
    kept_mean: Vec<f32>,
}

/// An exchange that was begun.
struct Pending {
    /// What each other member owes us next: its frame has this header, but for the sender, the length, and in values the weight.
    due: FrameHeader,
    /// When we began to wait for it.
    since: Instant,
    /// What came, in order of the links.
    came: Vec<Option<Frame>>,
    work: Work,
}

enum Work {
    Average(Averaging),
    Gather { note: Vec<u8>, reply: oneshot::Sender<Vec<Vec<u8>>> },
}

struct Averaging {
    values: Vec<f32>,
    weight: u64,
    began: Instant,
    exchange: Exchange,
    reply: oneshot::Sender<Averaged>,
}

impl Task {
    /// Runs until the group's owner leaves or drops it, or until an exchange fails.
    pub async fn run(self) {
        let Task { position, links, mut events, mut orders, patience, failure, net } = self;
        let (kept_values, kept_mean) = (Vec::new(), Vec::new());
        let mut state = State { position, links, pending: VecDeque::new(), patience, kept_values, kept_mean };
        let (error, left) = loop {
            let deadline = state.deadline();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Average { round, values, weight, encoding, reply }) => {
                        state.begin_average(round, values, weight, encoding, reply);
                    }
                    Some(Order::Gather { tag, note, reply }) => state.begin_gather(tag, note, reply),
                    Some(Order::Patience(patience)) => state.patience = patience.min(NEVER),
                    Some(Order::Leave(reply)) => break (None, Some(reply)),
                    // Dropped without a word.
                    None => return,
                },
                Some((id, event)) = events.recv() => state.take_in(id, event),
                () = sleep_until(deadline.into()) => {}
            }
            if let Err(error) = state.advance() {
                break (Some(error), None);
            }
        };
        let because = error.as_ref().and_then(NetError::position);
        *failure.lock().expect("nobody panics while holding the failure") = error;
        // Whoever waits for a reply now looks for the failure.
        state.pending.clear();
        drop(orders);
        farewell(position, because, state.links).await;
        left.map(|reply| reply.send(()));
        drop(net);
    }
}

impl State {
    fn world(&self) -> u32 {
        self.links.len() as u32 + 1
    }

    fn begin_average(&mut self, round: u64, values: Vec<f32>, weight: u64, encoding: Encoding, reply: oneshot::Sender<Averaged>) {
        let (began, length, world) = (Instant::now(), values.len(), self.world());
        let own = share_of(length, world, self.position);
        let header = FrameHeader {
            part: Part::Values,
            encoding,
            from: self.position,
            tag: round,
            weight,
            floats: length as u32,
            bytes: 0,
        };
        if !encoding.is_exact() {
            self.kept_values.resize(length, 0.0);
            self.kept_mean.resize(own.len(), 0.0);
        }
        let mut sent = 0;
        for link in &self.links {
            let share = share_of(length, world, link.position);
            let mut frame = FrameHeader { bytes: encoding.bytes(share.len()) as u32, ..header }.encode().to_vec();
            // What no sample stands for doesn't count in the mean: what was kept waits for values that do.
            if encoding.is_exact() || weight == 0 {
                encoding.encode(&values[share], &mut frame);
            } else {
                encoding.encode_with_feedback(&values[share.clone()], &mut self.kept_values[share], &mut frame);
            }
            sent += frame.len() as u64;
            link.send(Outgoing::new(frame));
        }
        let exchange = Exchange {
            weights: vec![weight; world as usize],
            parts: vec![None; world as usize],
            sent,
            received: 0,
            waited: Duration::ZERO,
            exchanged: Duration::ZERO,
            behind: vec![Duration::ZERO; world as usize],
        };
        let due = FrameHeader { bytes: encoding.bytes(own.len()) as u32, ..header };
        self.push(due, Work::Average(Averaging { values, weight, began, exchange, reply }));
    }

    fn begin_gather(&mut self, tag: u64, note: Vec<u8>, reply: oneshot::Sender<Vec<Vec<u8>>>) {
        let due = FrameHeader::note(self.position, tag, note.len() as u32);
        let frame = Outgoing::new([due.encode().as_slice(), &note].concat());
        self.links.iter().for_each(|link| link.send(frame.clone()));
        self.push(due, Work::Gather { note, reply });
    }

    fn push(&mut self, due: FrameHeader, work: Work) {
        let came = self.links.iter().map(|_| None).collect();
        self.pending.push_back(Pending { due, since: Instant::now(), came, work });
    }

    fn take_in(&mut self, id: LinkId, event: Event) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
            link.take_in(event);
        }
    }

    /// Does all that can be done with what came; fails if the oldest exchange can't be finished any more.
    fn advance(&mut self) -> Result<(), NetError> {
        let mut index = 0;
        while index < self.pending.len() {
            self.take_frames(index)?;
            let pending = &mut self.pending[index];
            if pending.came.iter().any(Option::is_none) {
                index += 1;
                continue;
            }
            match (pending.due.part, &pending.work) {
                (Part::Values, _) => self.sum(index),
                _ => self.finish(index),
            }
        }
        match self.lost() {
            Some(error) => Err(error),
            None => match self.silent_since() {
                Some((since, position)) if since.elapsed() >= self.patience => {
                    Err(NetError::Late { position, after: self.patience })
                }
                _ => Ok(()),
            },
        }
    }

    /// The members that still owe the oldest exchange something.
    fn owing(&self) -> impl Iterator<Item = &Link> {
        let came = self.pending.front().map(|oldest| oldest.came.as_slice()).unwrap_or_default();
        self.links.iter().zip(came).filter(|(_, came)| came.is_none()).map(|(link, _)| link)
    }

    /// Why the oldest exchange can't be finished any more, if it can't.
    fn lost(&self) -> Option<NetError> {
        let waits_for = |position: u32| self.owing().any(|link| link.position == position && link.ended.is_none());
        let mut left = None;
        for link in self.owing() {
            let position = link.position;
            match &link.ended {
                Some(Ended::Lost(why)) => return Some(NetError::PeerLost { position, why: why.clone() }),
                Some(Ended::Nonsense(what)) => return Some(NetError::OutOfStep { position, what: what.clone() }),
                // It left because of one for which we wait too: our own patience shall judge that one.
                Some(Ended::Left(Some(other))) if waits_for(*other) => {}
                Some(Ended::Left(because)) => left = Some(NetError::Left { position, because: *because }),
                None => {}
            }
        }
        left
    }

    /// The member that the oldest exchange waits for and that has kept silent longest, and since when.
    fn silent_since(&self) -> Option<(Instant, u32)> {
        let oldest = self.pending.front()?;
        let waiting = self.owing().filter(|link| link.ended.is_none());
        waiting.map(|link| (link.moved_at().max(oldest.since), link.position)).min()
    }

    /// When somebody's silence becomes too long.
    fn deadline(&self) -> Instant {
        match self.silent_since() {
            Some((since, _)) => since + self.patience,
            None => Instant::now() + NEVER,
        }
    }

    /// Takes what came for an exchange.
    fn take_frames(&mut self, index: usize) -> Result<(), NetError> {
        let (world, pending) = (self.world(), &mut self.pending[index]);
        let due = pending.due;
        for (link, came) in self.links.iter_mut().zip(&mut pending.came).filter(|(_, came)| came.is_none()) {
            let Some(frame) = link.next(due.part) else { continue };
            let (position, bytes) = (
                link.position,
                match due.part {
                    Part::Mean => due.encoding.bytes(share_of(due.floats as usize, world, link.position).len()) as u32,
                    _ => due.bytes,
                },
            );
            check_header(&frame.header, &FrameHeader { from: position, bytes, ..due })
                .map_err(|what| NetError::OutOfStep { position, what })?;
            *came = Some(frame);
        }
        Ok(())
    }

    /// All values of our share are here: sums them, sends the mean, and waits for the other means.
    fn sum(&mut self, index: usize) {
        let (position, world) = (self.position, self.world());
        let Pending { due, since, came, work } = &mut self.pending[index];
        let Work::Average(Averaging { values, weight, began, exchange, .. }) = work else {
            unreachable!("only an averaging waits for values")
        };
        let own = share_of(values.len(), world, position);
        let mut parts: Vec<(Vec<f32>, u64)> = Vec::with_capacity(world as usize);
        for (link, frame) in self.links.iter().zip(came.iter_mut()) {
            let frame = frame.take().expect("all are here");
            let mut theirs = vec![0.0; own.len()];
            due.encoding.decode(&frame.body, &mut theirs);
            parts.push((theirs, frame.header.weight));
            // Without encoding the bytes on the stream are the values'.
            exchange.parts[link.position as usize] = due.encoding.is_exact().then(|| part_hash(&frame.body));
            exchange.received += (FrameHeader::BYTES + frame.body.len()) as u64;
            exchange.weights[link.position as usize] = frame.header.weight;
            exchange.behind[link.position as usize] = frame.came_at.saturating_duration_since(*began);
        }
        exchange.waited = exchange.behind.iter().max().copied().unwrap_or_default();
        let mut parts: Vec<(&[f32], u64)> = parts.iter().map(|(values, weight)| (values.as_slice(), *weight)).collect();
        parts.insert(position as usize, (&values[own.clone()], *weight));
        let mut mean = vec![0.0; own.len()];
        combine(&parts, &mut mean);

        if !self.links.is_empty() {
            let bytes = due.encoding.bytes(own.len()) as u32;
            let header = FrameHeader { part: Part::Mean, from: position, weight: 0, bytes, ..*due };
            let mut frame = header.encode().to_vec();
            if due.encoding.is_exact() {
                due.encoding.encode(&mean, &mut frame);
            } else {
                // We take what the others will read, so that all hold the same.
                mean = due.encoding.encode_with_feedback(&mean, &mut self.kept_mean, &mut frame);
            }
            exchange.sent += (frame.len() * self.links.len()) as u64;
            let frame = Outgoing::new(frame);
            self.links.iter().for_each(|link| link.send(frame.clone()));
        }
        values[own].copy_from_slice(&mean);
        *due = FrameHeader { part: Part::Mean, weight: 0, ..*due };
        *since = Instant::now();
    }

    /// Everything is here: hands it to whoever waits for it.
    fn finish(&mut self, index: usize) {
        let world = self.world();
        let Pending { due, came, work, .. } = self.pending.remove(index).expect("it is pending");
        let frames = self.links.iter().zip(came).map(|(link, frame)| (link.position, frame.expect("all are here")));
        match work {
            Work::Average(Averaging { mut values, began, mut exchange, reply, .. }) => {
                for (position, frame) in frames {
                    exchange.received += (FrameHeader::BYTES + frame.body.len()) as u64;
                    due.encoding.decode(&frame.body, &mut values[share_of(due.floats as usize, world, position)]);
                }
                exchange.exchanged = began.elapsed().saturating_sub(exchange.waited);
                reply.send((values, exchange)).ok();
            }
            Work::Gather { note, reply } => {
                let mut notes: Vec<Vec<u8>> = frames.map(|(_, frame)| frame.body).collect();
                notes.insert(self.position as usize, note);
                reply.send(notes).ok();
            }
        }
    }
}

/// Is it the frame that is due? The weight of values is the sender's to tell, and so is a note's length.
fn check_header(header: &FrameHeader, due: &FrameHeader) -> Result<(), String> {
    let mut should = *due;
    if header.part == Part::Values {
        should.weight = header.weight;
    }
    if header.part == Part::Note && header.bytes as usize <= MAX_NOTE_BYTES {
        should.bytes = header.bytes;
    }
    if *header == should { Ok(()) } else { Err(format!("it sent {header:?} where {should:?} was due")) }
}
