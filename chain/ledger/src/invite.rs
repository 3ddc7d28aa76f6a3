use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, ChangeMode, MachineConfig, MachineId, Offer, PublicKey, TimeMs};

use crate::{Ledger, Params, Rejection, StateKey, change::Change};

/// An open invitation: whoever holds the code may bring one machine into the owner's account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Invite {
    /// Whose machine it will be.
    pub owner: AccountId,
    /// What is offered of it as soon as it joins.
    pub offer: Option<Offer>,
    /// The code is void from this moment on.
    pub expires: TimeMs,
}

impl Ledger {
    /// An open invitation by its code's public key.
    pub fn invite(&self, code: &PublicKey) -> Option<&Invite> {
        self.invites.get(code)
    }

    /// `Invite`: it ends after `now` and within a week; the code is new; machines and open invitations are within the account's
    /// limit; the account isn't barred
    /// from lending where something is offered; an offer has a core.
    pub(crate) fn check_invite(
        &self,
        owner: AccountId,
        code: &PublicKey,
        offer: &Option<Offer>,
        expires: TimeMs,
        now: TimeMs,
    ) -> Result<(), Rejection> {
        if expires <= now || expires > now.plus(Params::MAX_PERIOD_MS) {
            return Err(Rejection::InviteLifetime { expires, time: now, longest_ms: Params::MAX_PERIOD_MS });
        }
        if self.invites.contains_key(code) {
            return Err(Rejection::InviteExists);
        }
        let open = self.index.invites_of.range((owner, PublicKey([0; 32]))..=(owner, PublicKey([255; 32]))).count();
        let limit = self.params().max_machines_per_account;
        if self.accounts[&owner].machines as usize + open >= limit as usize {
            return Err(Rejection::TooManyMachines(limit));
        }
        if offer.is_some() {
            self.check_may_lend(owner)?;
        }
        match offer {
            Some(offer) if offer.resources.cores == 0 => Err(Rejection::OfferWithoutCores),
            _ => Ok(()),
        }
    }

    /// `Join`: the code is of an open invitation and not void at `now`; the machine is new, or the inviting account's own and
    /// free; the account has room; it isn't barred from lending where something is offered; what the invitation offers is what `Lend` would accept.
    pub(crate) fn check_join(
        &self,
        machine: &PublicKey,
        code: &PublicKey,
        config: &MachineConfig,
        now: TimeMs,
    ) -> Result<AccountId, Rejection> {
        let invite = self.invites.get(code).filter(|invite| now < invite.expires).ok_or(Rejection::InviteUnknown)?;
        self.check_register(invite.owner, machine, config)?;
        if let Some(offer) = &invite.offer {
            self.check_may_lend(invite.owner)?;
            self.check_offer(MachineId::from_key(machine), config, offer, now)?;
        }
        Ok(invite.owner)
    }
}

impl Change<'_> {
    /// Keeps an invitation until it is used or void.
    pub fn invite(&mut self, owner: AccountId, code: PublicKey, offer: Option<Offer>, expires: TimeMs) -> Result<(), Rejection> {
        self.ledger.check_invite(owner, &code, &offer, expires, self.now())?;

        let invite = Invite { owner, offer, expires };
        self.ledger.index.add_invite(code, &invite);
        self.ledger.invites.insert(code, invite);
        self.touch(StateKey::Invite(code));
        Ok(())
    }

    /// Brings a machine into the account that invited it, and offers of it what the invitation says.
    pub fn join(&mut self, machine: &PublicKey, code: PublicKey, config: &MachineConfig) -> Result<(), Rejection> {
        let owner = self.ledger.check_join(machine, &code, config, self.now())?;

        let invite = self.forget_invite(code);
        self.register(owner, machine, config).expect("checked just now");
        if let Some(offer) = invite.offer {
            self.set_offer(MachineId::from_key(machine), offer, ChangeMode::AfterLease);
        }
        Ok(())
    }

    /// At the block's end: invitations that nobody used in time go away.
    pub fn forget_void_invites(&mut self) {
        while let Some(&(expires, code)) = self.ledger.index.invites_until.first() {
            if expires > self.now() {
                return;
            }
            self.forget_invite(code);
        }
    }

    fn forget_invite(&mut self, code: PublicKey) -> Invite {
        let invite = self.ledger.invites.remove(&code).expect("an open invitation is forgotten once");
        self.ledger.index.remove_invite(code, &invite);
        self.touch(StateKey::Invite(code));
        invite
    }
}
