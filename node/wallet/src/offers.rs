//! What is offered of machines: invitations by one-time codes, and the end of an offer.

use deepmarket_api::{ApiError, Client};
use deepmarket_types::{Action, ChangeMode, MachineId, Offer, SecretKey, TimeMs};

use crate::{failure::Outcome, invite_code::InviteCode};

/// The ledger's code for a one-time code that no open invitation has.
pub const INVITE_UNKNOWN: u16 = 2043;
/// The ledger's code for a machine of which nothing is offered.
const NOT_OFFERED: u16 = 2039;
/// How long an invitation holds that is used at once.
pub const AT_ONCE_MS: u64 = 10 * 60_000;

/// Makes a code and tells the market its public half, with what is offered of the machine as soon as it joins.
pub async fn post_invite(client: &Client, owner: &SecretKey, offer: Option<Offer>, expires: TimeMs) -> Outcome<InviteCode> {
    let code = InviteCode::generate();
    let chain = client.status().await?.chain;
    client.act(owner, Action::Invite { code: code.key(&chain).public(), offer, expires }).await?;
    Ok(code)
}

/// Ends an offer at once; one that has ended already (its time was up, or its owner ended it elsewhere) is fine.
pub async fn withdraw(client: &Client, owner: &SecretKey, machine: MachineId) -> Outcome {
    match client.act(owner, Action::Withdraw { machine, mode: ChangeMode::AtOnce }).await {
        Err(ApiError::Rejected { code: NOT_OFFERED, .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
