//! The members of one job, joined by streams between all pairs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use deepmarket_types::{Hash, JobId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Encoding, Exchange, NetError, PeerAddress,
    frame::MAX_FLOATS,
    task::{Averaged, Failure, Order, Task},
};

/// The most bytes of one member's note in [`Group::gather`].
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// The most averagings that may go on at once.
pub const MAX_STARTED: usize = 64;
/// How long another member may keep silent, where [`Group::set_patience`] says nothing else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who exchanges with whom.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// The job.
    pub job: JobId,
    /// The group's name, equal on all members and used for no other set of members. It may be joined again after it was left, also
    /// while others still hold streams of an earlier attempt.
    pub id: Hash,
    /// Our own position among the members.
    pub position: u32,
    /// All members in order, ourselves included. Two members may be on one machine.
    pub peers: Vec<PeerAddress>,
    /// How long to wait for the others to come.
    pub join_within: Duration,
}

impl GroupSpec {
    /// A group whose members have the usual 60 s to come together.
    pub fn new(job: JobId, id: Hash, position: u32, peers: Vec<PeerAddress>) -> GroupSpec {
        GroupSpec { job, id, position, peers, join_within: Duration::from_secs(60) }
    }
}

/// The members of a job, joined. Every member must call the same methods in the same order.
///
/// Exchanges go on in a task of their own, in the order in which they were begun, also while nobody waits for them: a call that is
/// dropped half-way is still done for the others. When an exchange fails the first who asks gets the reason, everything else is
/// [`NetError::Broken`], and the others are told that this member left: leave the group then, and join again. Dropping a group
/// closes its streams at once, which the others notice as a loss; [`Group::leave`] says good-bye.
pub struct Group {
    position: u32,
    world: u32,
    orders: mpsc::UnboundedSender<Order>,
    running: BTreeMap<u64, oneshot::Receiver<Averaged>>,
    failure: Failure,
}

impl Group {
    pub(crate) fn start_task(
        position: u32,
        world: u32,
        task: impl FnOnce(mpsc::UnboundedReceiver<Order>, Failure) -> Task,
    ) -> Group {
        let (orders, inbox) = mpsc::unbounded_channel();
        let failure = Failure::default();
        tokio::spawn(task(inbox, Arc::clone(&failure)).run());
        Group { position, world, orders, running: BTreeMap::new(), failure }
    }

    /// Our own position.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Number of members.
    pub fn world(&self) -> u32 {
        self.world
    }

    /// How long another member may keep silent while we wait for it, from the moment at which we began this part of an exchange
    /// (its values, its mean, or its note), or since the last byte moved between us. It contains the time by which the slowest
    /// member computes longer than we do. Beyond it the exchange fails with [`NetError::Late`]. At first: 60 s.
    pub fn set_patience(&mut self, patience: Duration) {
        self.orders.send(Order::Patience(patience)).ok();
    }

    /// Replaces `values` on every member by their mean, weighted by samples ([`combine`](crate::combine) says how, to the bit). Each
    /// member sums one share of the vector and sends the result to the others, so that a member's traffic stays about twice the
    /// vector whatever the number of members.
    ///
    /// A lossy encoding is applied to what members send to a share's owner and to the mean that the owner sends back, each with
    /// error feedback (see [`Encoding`]); what is kept back lives as long as the group. The owner takes its own values as they are
    /// and the mean as the others read it, so all members hold the same bits. Values without a sample (`weight` 0) are sent without
    /// feedback: they don't count. What isn't finite is not finite for all.
    pub async fn average(
        &mut self,
        round: u64,
        values: &mut [f32],
        weight: u64,
        encoding: Encoding,
    ) -> Result<Exchange, NetError> {
        self.start(round, values.to_vec(), weight, encoding)?;
        let (mean, exchange) = self.finish(round).await?;
        values.copy_from_slice(&mean);
        Ok(exchange)
    }

    /// Begins [`Group::average`] and returns at once; several may go on at the same time. [`Group::finish`] gives the result.
    pub fn start(&mut self, round: u64, values: Vec<f32>, weight: u64, encoding: Encoding) -> Result<(), NetError> {
        if values.len() > MAX_FLOATS {
            return Err(NetError::BadGroup(format!("{} values can't be averaged; at most {MAX_FLOATS}", values.len())));
        }
        if self.running.contains_key(&round) || self.running.len() >= MAX_STARTED {
            let count = self.running.len();
            return Err(NetError::BadGroup(format!("round {round} can't be averaged beside {count} others; finish them first")));
        }
        let (reply, result) = oneshot::channel();
        self.order(Order::Average { round, values, weight, encoding, reply })?;
        self.running.insert(round, result);
        Ok(())
    }

    /// Waits for an averaging that was started: the mean, and what it cost.
    pub async fn finish(&mut self, round: u64) -> Result<(Vec<f32>, Exchange), NetError> {
        let Some(result) = self.running.get_mut(&round) else {
            return Err(NetError::BadGroup(format!("the averaging of round {round} was not started")));
        };
        let result = result.await;
        self.running.remove(&round);
        result.map_err(|_| self.reason())
    }

    /// Gives every member all members' notes, in order of position. The tag tells one gathering from another. Averagings that were
    /// started before go on meanwhile.
    pub async fn gather(&mut self, tag: u64, note: &[u8]) -> Result<Vec<Vec<u8>>, NetError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NetError::NoteTooLong { bytes: note.len(), limit: MAX_NOTE_BYTES });
        }
        let (reply, result) = oneshot::channel();
        self.order(Order::Gather { tag, note: note.to_vec(), reply })?;
        result.await.map_err(|_| self.reason())
    }

    /// Says good-bye: what was sent still arrives. Averagings that aren't finished are given up.
    pub async fn leave(self) {
        let (reply, left) = oneshot::channel();
        if self.orders.send(Order::Leave(reply)).is_ok() {
            left.await.ok();
        }
    }

    fn order(&self, order: Order) -> Result<(), NetError> {
        self.orders.send(order).map_err(|_| self.reason())
    }

    fn reason(&self) -> NetError {
        let failure = self.failure.lock().expect("nobody panics while holding the failure").take();
        failure.unwrap_or(NetError::Broken)
    }
}
