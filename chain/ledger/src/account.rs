use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{AccountId, Credits, Hash, Posting, PublicKey, Purse, TimeMs, Voucher};

use crate::{Ledger, Rejection, StateKey, change::Change};

/// An account: a key and two purses.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Account {
    /// Its id, derived from its first key.
    pub id: AccountId,
    /// The key that signs for it.
    pub key: PublicKey,
    /// The salted hash of the identity that was verified for it.
    pub identity: Hash,
    /// When it was opened.
    pub opened: TimeMs,
    /// The nonce that its next transaction must carry.
    pub nonce: u64,
    /// Starting credits left: can be spent on jobs, never transferred.
    pub granted: Credits,
    /// Earned credits.
    pub earned: Credits,
    /// How reliable its machines were in thousandths: what a new machine of it begins with.
    pub reliability: u32,
    /// How many machines it has.
    pub machines: u32,
    /// How many of its jobs are not closed.
    pub open_jobs: u32,
    /// Receipts of its machines that went through the draw of audits.
    pub windows: u32,
    /// Audits that found its machines' work right.
    pub audits_passed: u32,
    /// False receipts and answers of its machines. At [`AuditParams::strikes`](crate::AuditParams::strikes) it is barred from lending.
    pub strikes: u32,
}

impl Account {
    /// Both purses: what it can spend on jobs.
    pub fn spendable(&self) -> Credits {
        [self.granted, self.earned].into_iter().sum()
    }
}

impl Ledger {
    /// `OpenAccount`: the signer's key is new; the voucher is for this key, of a registrar, and not expired at `now`; the
    /// identity is new.
    pub(crate) fn check_open(&self, signer: &PublicKey, voucher: &Voucher, now: TimeMs) -> Result<(), Rejection> {
        let id = AccountId::from_key(signer);
        if self.index.keys.contains_key(signer) || self.accounts.contains_key(&id) {
            return Err(Rejection::KeyTaken(*self.index.keys.get(signer).unwrap_or(&id)));
        }
        if voucher.key != *signer {
            return Err(Rejection::VoucherOfAnotherKey);
        }
        if !self.constitution.registrars.contains(&voucher.registrar) {
            return Err(Rejection::UnknownRegistrar(voucher.registrar));
        }
        if voucher.expires <= now {
            return Err(Rejection::VoucherExpired { expires: voucher.expires, time: now });
        }
        if self.index.identities.contains(&voucher.identity) {
            return Err(Rejection::IdentityTaken);
        }
        Ok(())
    }

    /// `Transfer`: the amount is not zero; the receiver is another account, and exists; the earned purse covers it.
    pub(crate) fn check_transfer(&self, from: AccountId, to: AccountId, amount: Credits) -> Result<(), Rejection> {
        if amount.is_zero() {
            return Err(Rejection::ZeroAmount);
        }
        if to == from {
            return Err(Rejection::TransferToSelf);
        }
        if !self.accounts.contains_key(&to) {
            return Err(Rejection::UnknownReceiver(to));
        }
        let have = self.accounts[&from].earned;
        if have < amount {
            return Err(Rejection::NotEnoughEarned { have, need: amount });
        }
        Ok(())
    }
}

impl Change<'_> {
    /// Opens an account and mints its starting credits, once per verified identity.
    pub fn open(&mut self, signer: &PublicKey, voucher: &Voucher) -> Result<(), Rejection> {
        self.ledger.check_open(signer, voucher, self.now())?;

        let starting = self.ledger.params().starting_credits;
        let account = Account {
            id: AccountId::from_key(signer),
            key: *signer,
            identity: voucher.identity,
            opened: self.now(),
            nonce: 0,
            granted: Credits::ZERO,
            earned: Credits::ZERO,
            reliability: 500,
            machines: 0,
            open_jobs: 0,
            windows: 0,
            audits_passed: 0,
            strikes: 0,
        };
        let id = account.id;
        self.ledger.index.add_account(&account);
        self.ledger.accounts.insert(id, account);
        self.touch(StateKey::Account(id));
        let minted = &mut self.ledger.tip.totals.minted;
        *minted = minted.checked_add(starting).expect("all credits ever minted fit in 64 bits");
        self.credit(id, Purse::Granted, starting, Posting::StartingCredits);
        Ok(())
    }

    /// Moves earned credits. Starting credits never move: opening accounts must not be worth money.
    pub fn transfer(&mut self, from: AccountId, to: AccountId, amount: Credits) -> Result<(), Rejection> {
        self.ledger.check_transfer(from, to, amount)?;

        self.debit(from, Purse::Earned, amount, Posting::TransferTo(to));
        self.credit(to, Purse::Earned, amount, Posting::TransferFrom(from));
        Ok(())
    }
}
