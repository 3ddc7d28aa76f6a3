//! Who trains together: what the chain says of it, and the group that they form.

use std::time::Duration;

use deepmarket_api::{Assignment, RankView};
use deepmarket_net::{Group, GroupSpec, Net, NetError, PeerAddress};
use deepmarket_types::{FailureReason, Hash, LeaseId};
use futures::future::join_all;
use tokio::sync::watch;

use crate::{
    data::MAX_STATE_BYTES,
    error::LeaseFailure,
    lease::Context,
    standing::{Note as _, Standing},
};

/// How long members wait for each other before they say that one is missing.
const JOIN_WITHIN: Duration = Duration::from_secs(4);
/// How long a member that doesn't come may take to show that it lives.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The tags under which members tell where they stand, and under which a state is named.
const STANDINGS: u64 = u64::MAX;
const STATE: u64 = u64::MAX - 1;

/// What the chain says of a lease's job, as it changes.
pub(crate) struct Membership {
    pub lease: LeaseId,
    news: watch::Receiver<Assignment>,
}

/// Why a team stopped working together.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The chain named other members: form the next team.
    Changed,
    /// A member could not be reached, or was too late.
    Peer {
        /// Who; none where that isn't clear.
        lease: Option<LeaseId>,
        why: String,
        /// It answers, but far too late: others should say so too.
        is_late: bool,
    },
    /// This worker can't go on.
    Own(LeaseFailure),
}

impl From<LeaseFailure> for Trouble {
    fn from(failure: LeaseFailure) -> Self {
        Trouble::Own(failure)
    }
}

impl From<crate::TrainerError> for Trouble {
    fn from(error: crate::TrainerError) -> Self {
        Trouble::Own(error.into())
    }
}

impl Membership {
    pub fn new(lease: LeaseId, news: watch::Receiver<Assignment>) -> Membership {
        Membership { lease, news }
    }

    /// What the chain says now.
    pub fn now(&self) -> Assignment {
        self.news.borrow().clone()
    }

    /// The latest generation that the chain told of.
    pub fn generation(&self) -> u32 {
        self.news.borrow().generation
    }

    /// Did the members change since a generation?
    pub fn is_past(&self, generation: u32) -> bool {
        self.generation() > generation
    }

    /// Waits until this lease is a member.
    pub async fn as_member(&mut self) -> Assignment {
        let lease = self.lease;
        let is_member = |assignment: &Assignment| assignment.members.iter().any(|member| member.lease == lease);
        if self.news.wait_for(is_member).await.is_err() {
            // The agent ends.
            std::future::pending::<()>().await;
        }
        self.now()
    }

    /// Waits until the members are others than in a generation.
    pub async fn changed_since(&mut self, generation: u32) {
        if self.news.wait_for(|assignment| assignment.generation > generation).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until one of a team's members is none any more: nothing that it owes will come.
    pub async fn one_is_gone(&mut self, team: &[RankView]) {
        let is_gone = |now: &Assignment| team.iter().any(|member| !now.members.iter().any(|other| other.lease == member.lease));
        if self.news.wait_for(is_gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The members of one generation, joined.
pub(crate) struct Team {
    pub group: Group,
    pub generation: u32,
    pub members: Vec<RankView>,
    /// Our own place among them.
    pub position: usize,
    /// A state that we gave to others; it needn't be kept longer than the team.
    gave: Option<GivenState>,
}

/// A state in this machine's store, for as long as this lives.
struct GivenState(Net, Hash);

impl Drop for GivenState {
    fn drop(&mut self) {
        self.0.blobs().remove(&self.1).ok();
    }
}

impl Team {
    /// Joins the members that the chain names.
    pub async fn join(context: &Context, assignment: &Assignment) -> Result<Team, Trouble> {
        let members = assignment.members.clone();
        let peers = peers_of(&members)?;
        let position = members.iter().position(|member| member.lease == assignment.lease).ok_or(Trouble::Changed)?;
        let mut parts = vec![assignment.job.0.to_le_bytes(), u64::from(assignment.generation).to_le_bytes()];
        parts.extend(members.iter().map(|member| member.lease.0.to_le_bytes()));
        let id = Hash::tagged("deepmarket/v1/group", &parts.iter().map(|part| part.as_slice()).collect::<Vec<_>>());
        let mut spec = GroupSpec::new(assignment.job, id, position as u32, peers);
        spec.join_within = JOIN_WITHIN;
        let peers = spec.peers.clone();
        match context.net.join(spec).await {
            Err(NetError::Missing { positions, why }) => {
                let asked = positions.iter().map(|position| context.net.answers(&peers[*position as usize], ANSWER_WITHIN));
                let answers = join_all(asked).await;
                let silent = positions.iter().zip(answers).find(|(_, answers)| !answers).map(|(position, _)| *position);
                // Who answers is on its way: the last team's round may take long.
                let lease = silent.map(|position| members[position as usize].lease);
                Err(Trouble::Peer { lease, why, is_late: false })
            }
            Ok(group) => Ok(Team { group, generation: assignment.generation, members, position, gave: None }),
            Err(error) => Err(trouble(&members, error)),
        }
    }

    pub fn world(&self) -> usize {
        self.members.len()
    }

    pub fn ranks(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.rank).collect()
    }

    /// What an error of the group means.
    pub fn trouble(&self, error: NetError) -> Trouble {
        trouble(&self.members, error)
    }
}

/// Where members are reached.
pub(crate) fn peers_of(members: &[RankView]) -> Result<Vec<PeerAddress>, Trouble> {
    let peer = |member: &RankView| PeerAddress::of_key(&member.key, member.addresses.clone());
    members.iter().map(peer).collect::<Result<_, _>>().map_err(|e| Trouble::Own(LeaseFailure::new(FailureReason::PeerLost, e)))
}

fn trouble(members: &[RankView], error: NetError) -> Trouble {
    let lease_at = |position: u32| members.get(position as usize).map(|member| member.lease);
    let (lease, is_late) = match &error {
        NetError::Late { position, .. } => (lease_at(*position), true),
        _ => (None, false),
    };
    Trouble::Peer { lease, why: error.to_string(), is_late }
}

/// Waits for an exchange, unless the chain says meanwhile that a member is gone.
pub(crate) async fn watched<T>(
    membership: &mut Membership,
    team: &mut Team,
    work: impl AsyncFnOnce(&mut Group) -> Result<T, NetError>,
) -> Result<T, Trouble> {
    let Team { group, members, .. } = team;
    let result = tokio::select! {
        biased;
        result = work(group) => result,
        () = membership.one_is_gone(members) => return Err(Trouble::Changed),
    };
    result.map_err(|error| team.trouble(error))
}

/// All members tell each other where they stand.
pub(crate) async fn exchange_standings(
    team: &mut Team,
    membership: &mut Membership,
    mut own: Standing,
) -> Result<Vec<Standing>, Trouble> {
    own.checkpoint = membership.now().checkpoint;
    let note = own.encoded();
    let notes = watched(membership, team, async |group| group.gather(STANDINGS, &note).await).await?;
    Standing::all(&notes).map_err(|e| team.trouble(e))
}

/// Members that are behind get the state of the giver, from its own store: `state`, which only the giver has. Returns it where we
/// are behind ourselves.
pub(crate) async fn hand_over(
    context: &Context,
    team: &mut Team,
    membership: &mut Membership,
    standings: &[Standing],
    giver: usize,
    state: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Trouble> {
    let mut note = Vec::new();
    if let Some(state) = state {
        let hash = context.net.blobs().put(&state).map_err(LeaseFailure::from)?;
        team.gave = Some(GivenState(context.net.clone(), hash));
        note = hash.0.to_vec();
    }
    let notes = watched(membership, team, async |group| group.gather(STATE, &note).await).await?;
    if standings[team.position].version == standings[giver].version {
        return Ok(None);
    }
    let hash = notes[giver].as_slice().try_into().map(Hash);
    let hash = hash.map_err(|_| team.trouble(NetError::OutOfStep { position: giver as u32, what: "it gave no state".into() }))?;
    let from = [peers_of(&team.members)?.swap_remove(giver)];
    let fetched = context.net.fetch(&hash, MAX_STATE_BYTES, &from, &|_| {}).await;
    // A giver that can't be reached is one that is lost.
    let state = fetched.map_err(|e| Trouble::Peer { lease: None, why: e.to_string(), is_late: false })?;
    // Its parameters are of use only now: the next state is another one.
    context.net.blobs().remove(&hash).ok();
    Ok(Some(state))
}
