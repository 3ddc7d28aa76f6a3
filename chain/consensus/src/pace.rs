//! When the next height begins. An idle market makes no blocks but a slow heartbeat: after a decision the engine is held back
//! until there is something to do.

use deepmarket_types::TimeMs;

/// How long after a block a validator that only heard a vote of a peer waits: a lying validator can't drive the others
/// faster than this.
pub const VOTE_WAKE_MS: u64 = 100;

/// A block older than this when it is decided was decided by others some time ago: this node is catching up.
pub const CATCHING_UP_MS: u64 = 3_000;

/// What is known when the question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// This node's clock.
    pub now: TimeMs,
    /// The last block's time.
    pub block: TimeMs,
    /// When the last height was decided here, by this node's clock.
    pub decided: TimeMs,
    /// `params.idle_block_ms`.
    pub idle_ms: u64,
    /// Does a transaction wait whose turn it is?
    pub transaction_ready: bool,
    /// Would a block at this time have to set the day's prices?
    pub price_due: bool,
    /// Was a valid proposal for the next height received?
    pub peer_proposed: bool,
    /// Was a validator's vote for a later height received?
    pub peer_voted: bool,
}

/// Should the next height begin now?
pub fn begins(moment: &Moment) -> bool {
    let since_block_ms = moment.now.since(moment.block);
    let catching_up = moment.decided.since(moment.block) > CATCHING_UP_MS;
    catching_up
        || moment.transaction_ready
        || moment.price_due
        || moment.peer_proposed
        || (moment.peer_voted && moment.now.since(moment.decided) >= VOTE_WAKE_MS)
        || since_block_ms >= moment.idle_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Moment = Moment {
        now: TimeMs(10_050),
        block: TimeMs(10_000),
        decided: TimeMs(10_020),
        idle_ms: 5_000,
        transaction_ready: false,
        price_due: false,
        peer_proposed: false,
        peer_voted: false,
    };

    #[test]
    fn an_idle_market_waits_for_its_heartbeat() {
        assert!(!begins(&IDLE));
        assert!(!begins(&Moment { now: TimeMs(14_999), ..IDLE }));
        assert!(begins(&Moment { now: TimeMs(15_000), ..IDLE }));
    }

    #[test]
    fn work_begins_the_next_height_at_once() {
        assert!(begins(&Moment { transaction_ready: true, ..IDLE }));
        assert!(begins(&Moment { price_due: true, ..IDLE }));
        assert!(begins(&Moment { peer_proposed: true, ..IDLE }));
    }

    #[test]
    fn votes_alone_wake_no_faster_than_the_limit() {
        let voted = Moment { peer_voted: true, ..IDLE };
        assert!(!begins(&voted));
        assert!(begins(&Moment { now: TimeMs(10_020 + VOTE_WAKE_MS), ..voted }));
    }

    #[test]
    fn a_node_that_catches_up_never_waits() {
        assert!(begins(&Moment { now: TimeMs(20_000), decided: TimeMs(20_000), idle_ms: 60_000, ..IDLE }));
        // Later it is no longer the decision that is late, only the clock that went on.
        assert!(!begins(&Moment { now: TimeMs(20_000), idle_ms: 60_000, ..IDLE }));
    }
}
