//! Invitations: one-time codes by which machines join an account.

use deepmarket_api::Client;
use deepmarket_types::{Action, Offer, SecretKey, TimeMs};

use crate::{failure::Outcome, invite_code::InviteCode};

/// Makes a code and tells the market its public half, with what is offered of the machine as soon as it joins.
pub async fn post_invite(client: &Client, owner: &SecretKey, offer: Option<Offer>, expires: TimeMs) -> Outcome<InviteCode> {
    let code = InviteCode::generate();
    let chain = client.status().await?.chain;
    client.act(owner, Action::Invite { code: code.key(&chain).public(), offer, expires }).await?;
    Ok(code)
}
