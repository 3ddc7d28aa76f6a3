use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, AuditId, ChainId, ChangeMode, Credits, Disclosure, Domain, Finding, FormError, Hash, Height, JobId, LeaseId,
    MAX_TRANSACTION_BYTES, MachineConfig, MachineId, Offer, PublicKey, RoundOutcome, RoundTrace, SecretKey, Signature,
    SlotPrices, TimeMs, decode, encode,
};

/// A registrar's word that the holder of a key proved an identity to it.
///
/// The identity itself never reaches the chain: only its salted hash does, and that hash is unique there, so that one
/// person opens one account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// Who vouches; one of the registrars in the genesis document.
    pub registrar: PublicKey,
    /// The salted hash of the verified identity.
    pub identity: Hash,
    /// The only key that may use the voucher.
    pub key: PublicKey,
    /// The voucher is void from this moment on.
    pub expires: TimeMs,
    /// The registrar's signature.
    pub signature: Signature,
}

impl Voucher {
    fn content(registrar: &PublicKey, identity: &Hash, key: &PublicKey, expires: TimeMs) -> Vec<u8> {
        encode(&(registrar, identity, key, expires))
    }

    /// Issues a voucher.
    pub fn sign(registrar: &SecretKey, chain: &ChainId, identity: Hash, key: PublicKey, expires: TimeMs) -> Voucher {
        let content = Self::content(&registrar.public(), &identity, &key, expires);
        let signature = registrar.sign(Domain::Voucher, chain, &content);
        Voucher { registrar: registrar.public(), identity, key, expires, signature }
    }

    /// Checks the registrar's signature.
    pub fn verify(&self, chain: &ChainId) -> Result<(), FormError> {
        let content = Self::content(&self.registrar, &self.identity, &self.key, self.expires);
        self.registrar.verify(Domain::Voucher, chain, &content, &self.signature)
    }
}

/// Signs a machine's consent to be registered by the account of an owner's key with a configuration.
pub fn machine_proof(machine: &SecretKey, chain: &ChainId, owner: &PublicKey, config: &MachineConfig) -> Signature {
    machine.sign(Domain::MachineProof, chain, &encode(&(owner, config)))
}

/// The key of a one-time code. A code has 80 bits: enough that nobody finds it from the public key in the days that it is
/// valid for. Capitals, spaces and dashes are how people type it, not part of it.
pub fn invite_key(chain: &ChainId, code: &str) -> SecretKey {
    let typed: String = code.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_uppercase()).collect();
    SecretKey::from_seed(Hash::tagged("deepmarket/v1/invite-code", &[&chain.0, typed.as_bytes()]).0)
}

/// Signs, with the key of a one-time code, that a machine with this configuration may join.
pub fn join_proof(code: &SecretKey, chain: &ChainId, machine: &PublicKey, config: &MachineConfig) -> Signature {
    code.sign(Domain::JoinProof, chain, &encode(&(machine, config)))
}

/// Why a lease failed on the lender's side. Signed by the machine: unpaid from then on and not punished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The job needed more memory than was lent.
    OutOfMemory,
    /// The trainer process ended unexpectedly.
    TrainerCrashed,
    /// Data of the job could not be fetched or did not match its hash.
    DataUnavailable,
    /// Another rank could not be reached.
    PeerLost,
    /// The ranks held different parameters after the same round.
    Disagreement,
    /// The owner took the machine back.
    OwnerReturned,
    /// Parameters or loss became infinite or not a number.
    Diverged,
    /// The machine's agent was started anew: what it was doing for the lease is gone.
    AgentRestarted,
}

impl FailureReason {
    /// Did the work end for a cause outside of it? Such an end is nobody's failure: the job goes on elsewhere.
    pub fn is_preemption(self) -> bool {
        matches!(self, FailureReason::OwnerReturned | FailureReason::AgentRestarted | FailureReason::PeerLost)
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureReason::OutOfMemory => "the job needed more memory than was lent",
            FailureReason::TrainerCrashed => "the trainer process ended unexpectedly",
            FailureReason::DataUnavailable => "data of the job could not be fetched or did not match its hash",
            FailureReason::PeerLost => "another worker of the job could not be reached",
            FailureReason::Disagreement => "the workers held different parameters after the same round",
            FailureReason::OwnerReturned => "the machine's owner took it back",
            FailureReason::Diverged => "the training diverged: parameters or loss are not finite any more",
            FailureReason::AgentRestarted => "the machine's agent was started anew",
        })
    }
}

/// How a lease stands, by its latest receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseOutcome {
    /// Work goes on.
    Running,
    /// All rounds are done; the result is the blob of this hash.
    Finished(Hash),
    /// The worker can't go on.
    Failed(FailureReason),
}

/// A job's state that was stored as a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The blob: a safetensors file of the model and the optimizer's state.
    pub state: Hash,
    /// Rounds of the job that are in it.
    pub rounds: u64,
}

/// A machine's signed statement of the work it did for one lease so far (cumulative: a lost one costs nothing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: LeaseId,
    /// The worker's rank in the job.
    pub rank: u32,
    /// Counts up from 1 for each lease; a gap is a receipt that was lost, which costs nothing.
    pub sequence: u32,
    /// The first round that this worker took part in, counted from 0 over the whole job; equal to `rounds` before it took part in
    /// any.
    pub from: u64,
    /// Rounds of the job that were done when this was written. The worker took part in all from `from` on.
    pub rounds: u64,
    /// Samples trained on since the lease began.
    pub samples: u64,
    /// CPU time of the trainer since the lease began, in milliseconds.
    pub cpu_ms: u64,
    /// Hash of the parameters after the last round.
    pub parameters: Hash,
    /// Merkle root of the commitments of all rounds so far, see [`MountainRange`](crate::MountainRange).
    pub commitments: Hash,
    /// How many rounds have a commitment: those that this worker computed.
    pub committed: u64,
    /// Mean training loss of the last round in millionths, saturating.
    pub loss_micro: u64,
    /// The last state that was stored on the way: the model, and all that is needed to go on from it. The job keeps what its first
    /// member names.
    pub checkpoint: Option<Checkpoint>,
    /// Another member of the job that this worker can't reach, or that is far behind the others.
    pub missing: Option<LeaseId>,
    /// How the lease stands.
    pub outcome: LeaseOutcome,
}

/// What a transaction does. The variants' order is part of the canonical bytes: append only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Opens the signer's account and mints its starting credits. Signed by the new key.
    OpenAccount {
        /// The registrar's word.
        voucher: Voucher,
    },
    /// Moves earned credits to another account.
    Transfer {
        /// Who receives.
        to: AccountId,
        /// How much.
        amount: Credits,
    },
    /// Makes the machine of a key belong to the signer's account. Registering it again renews its configuration.
    RegisterMachine {
        /// The machine's own key.
        machine_key: PublicKey,
        /// What was measured.
        config: MachineConfig,
        /// The machine's consent, see [`machine_proof`].
        proof: Signature,
    },
    /// Offers a registered machine, or changes its offer.
    Lend {
        /// Which machine.
        machine: MachineId,
        /// What is offered.
        offer: Offer,
        /// Where running leases are in the way: whether they end, or the change waits for them. They are where they use more
        /// than the new offer has, and where that closes at once and doesn't hold now.
        mode: ChangeMode,
    },
    /// Ends an offer.
    Withdraw {
        /// Which machine.
        machine: MachineId,
        /// Now or after the running lease.
        mode: ChangeMode,
    },
    /// Keeps an offer alive. Signed by the machine.
    Heartbeat {
        /// Where other workers reach this machine (libp2p multiaddresses); `None` keeps those it gave before.
        addresses: Option<Vec<String>>,
    },
    /// Submits a job and puts its budget into escrow.
    Borrow {
        /// Canonical bytes of the job spec (`deepmarket_job::JobSpec`).
        spec: Vec<u8>,
    },
    /// Stops a job of the signer.
    Cancel {
        /// Which job.
        job: JobId,
    },
    /// Reports work of one lease and releases its pay. Signed by the machine.
    Receipt(Receipt),
    /// Sets the prices of a day's four slots. Signed by the proposer of the block, which it must open.
    Price(SlotPrices),
    /// Prepares that a remote machine joins the signer's account by a one-time code, see [`invite_key`].
    Invite {
        /// The public key of the code.
        code: PublicKey,
        /// What is offered of the machine as soon as it joins; nothing where the owner wants to look at it first.
        offer: Option<Offer>,
        /// The code is void from this moment on.
        expires: TimeMs,
    },
    /// Makes the signing machine belong to the account that invited it. Signed by the machine; it uses the code up.
    Join {
        /// The public key of the code.
        code: PublicKey,
        /// What was measured.
        config: MachineConfig,
        /// The code's word for this machine and configuration, see [`join_proof`].
        proof: Signature,
    },
    /// Opens the commitment of a round that is audited. Signed by the worker's machine.
    Disclose(Disclosure),
    /// Gives an auditor's answer, hidden. Signed by its machine.
    Commit {
        /// The audit.
        audit: AuditId,
        /// What it found.
        finding: Finding,
    },
    /// Shows an auditor's answer. Signed by its machine.
    Reveal {
        /// The audit.
        audit: AuditId,
        /// What the round gave.
        outcome: RoundOutcome,
        /// The salt with which the answer was hidden.
        salt: Hash,
    },
    /// Shows the steps of a disputed round. Signed by the worker's machine or by the accusing auditor's.
    Trace {
        /// The audit.
        audit: AuditId,
        /// The steps.
        trace: RoundTrace,
        /// The auditor's: the blob of the state before the first step that is disputed, as the trainer saves it.
        state: Option<Hash>,
    },
    /// Says what the disputed step gives. Signed by a validator.
    Judge {
        /// The audit.
        audit: AuditId,
        /// Hash of the state after that step; none where it can't be computed.
        step: Option<Hash>,
    },
}

impl Action {
    /// A short name for people and indexes.
    pub fn name(&self) -> &'static str {
        match self {
            Action::OpenAccount { .. } => "open_account",
            Action::Transfer { .. } => "transfer",
            Action::RegisterMachine { .. } => "register_machine",
            Action::Lend { .. } => "lend",
            Action::Withdraw { .. } => "withdraw",
            Action::Heartbeat { .. } => "heartbeat",
            Action::Borrow { .. } => "borrow",
            Action::Cancel { .. } => "cancel",
            Action::Receipt(_) => "receipt",
            Action::Price(_) => "price",
            Action::Invite { .. } => "invite",
            Action::Join { .. } => "join",
            Action::Disclose(_) => "disclose",
            Action::Commit { .. } => "commit",
            Action::Reveal { .. } => "reveal",
            Action::Trace { .. } => "trace",
            Action::Judge { .. } => "judge",
        }
    }
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionBody {
    /// The key of the account, machine or proposer.
    pub signer: PublicKey,
    /// The next unused number of the signing account or machine, counted from 0. Receipts and prices, which carry a number
    /// of their own, the words of an audit, and the opening of an account have 0 here.
    pub nonce: u64,
    /// The last height at which the transaction may be applied.
    pub expires: Height,
    /// What to do.
    pub action: Action,
}

/// A signed transaction. Canonical bytes: version ‖ body ‖ signature.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// Format version, [`Transaction::VERSION`].
    pub version: u8,
    /// What is signed.
    pub body: TransactionBody,
    /// Over domain tag ‖ chain id ‖ version ‖ canonical body.
    pub signature: Signature,
}

/// A transaction whose form and signatures were checked for one chain. Only [`Transaction::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTransaction {
    transaction: Transaction,
    id: Hash,
    bytes: usize,
}

impl Transaction {
    /// The format version that this release writes and reads.
    pub const VERSION: u8 = 1;
    /// The most addresses of a heartbeat.
    pub const MAX_ADDRESSES: usize = 8;
    /// The most characters of one address.
    pub const MAX_ADDRESS_CHARS: usize = 160;

    fn content(version: u8, body: &TransactionBody) -> Vec<u8> {
        encode(&(version, body))
    }

    /// Signs a body.
    pub fn sign(key: &SecretKey, chain: &ChainId, nonce: u64, expires: Height, action: Action) -> Transaction {
        let body = TransactionBody { signer: key.public(), nonce, expires, action };
        let signature = key.sign(Domain::Transaction, chain, &Self::content(Self::VERSION, &body));
        Transaction { version: Self::VERSION, body, signature }
    }

    /// The transaction's id: the hash of its canonical bytes.
    pub fn id(&self) -> Hash {
        Hash::of(&encode(self))
    }

    /// Reads and checks bytes from outside: length, canonical form, version, text, signatures.
    pub fn verify_bytes(bytes: &[u8], chain: &ChainId) -> Result<VerifiedTransaction, FormError> {
        check_length(bytes.len())?;
        decode::<Transaction>(bytes)?.verify(chain)
    }

    /// Checks form and signatures (also those of an enclosed voucher or machine proof). Order: length, version, text,
    /// enclosed signatures, signature.
    pub fn verify(self, chain: &ChainId) -> Result<VerifiedTransaction, FormError> {
        let bytes = encode(&self);
        check_length(bytes.len())?;
        if self.version != Self::VERSION {
            return Err(FormError::UnknownVersion(self.version));
        }
        match &self.body.action {
            Action::OpenAccount { voucher } => {
                voucher.key.check()?;
                voucher.verify(chain)?;
            }
            Action::RegisterMachine { machine_key, config, proof } => {
                config.check()?;
                let content = encode(&(&self.body.signer, config));
                machine_key.verify(Domain::MachineProof, chain, &content, proof)?;
            }
            Action::Join { code, config, proof } => {
                config.check()?;
                code.verify(Domain::JoinProof, chain, &encode(&(&self.body.signer, config)), proof)?;
            }
            Action::Disclose(disclosure) => disclosure.check()?,
            Action::Trace { trace, .. } => trace.check()?,
            Action::Lend { offer, .. } => offer.availability.check()?,
            Action::Invite { code, offer, .. } => {
                // Nothing else uses it before a machine joins, and who reads the chain as JSON reads keys only.
                code.check()?;
                if let Some(offer) = offer {
                    offer.availability.check()?;
                }
            }
            Action::Heartbeat { addresses: Some(addresses) } => {
                let limit = Self::MAX_ADDRESSES;
                if addresses.len() > limit {
                    return Err(FormError::TooLong { what: "the list of addresses", bytes: addresses.len(), limit });
                }
                for address in addresses {
                    crate::canonical::check_text("address", address, Self::MAX_ADDRESS_CHARS)?;
                }
            }
            _ => {}
        }
        let content = Self::content(self.version, &self.body);
        self.body.signer.verify(Domain::Transaction, chain, &content, &self.signature)?;
        Ok(VerifiedTransaction { id: Hash::of(&bytes), bytes: bytes.len(), transaction: self })
    }
}

fn check_length(bytes: usize) -> Result<(), FormError> {
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(FormError::TooLong { what: "the transaction", bytes, limit: MAX_TRANSACTION_BYTES });
    }
    Ok(())
}

impl VerifiedTransaction {
    /// Takes a transaction for verified. For tests of the ledger's rules with millions of transactions only.
    #[doc(hidden)]
    #[cfg(feature = "test-utils")]
    pub fn assume_verified(transaction: Transaction) -> VerifiedTransaction {
        let bytes = encode(&transaction);
        VerifiedTransaction { id: Hash::of(&bytes), bytes: bytes.len(), transaction }
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// What is signed.
    pub fn body(&self) -> &TransactionBody {
        &self.transaction.body
    }

    /// The transaction's id.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// The length of the canonical bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// The transaction without the memory of having been checked.
    pub fn into_inner(self) -> Transaction {
        self.transaction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainId {
        Hash::of(b"test chain")
    }

    fn transfer(key: &SecretKey) -> Transaction {
        let to = AccountId::from_key(&SecretKey::from_seed([9; 32]).public());
        Transaction::sign(key, &chain(), 3, Height(10), Action::Transfer { to, amount: Credits::from_credits(1) })
    }

    #[test]
    fn a_signed_transaction_verifies_from_its_bytes_on_its_own_chain_only() {
        let transaction = transfer(&SecretKey::from_seed([1; 32]));
        let bytes = encode(&transaction);
        let verified = Transaction::verify_bytes(&bytes, &chain()).unwrap();
        assert_eq!((verified.transaction(), verified.byte_len()), (&transaction, bytes.len()));
        assert_eq!(Transaction::verify_bytes(&bytes, &Hash::of(b"other")).unwrap_err(), FormError::BadSignature);
    }

    #[test]
    fn every_flipped_bit_of_a_transaction_is_noticed() {
        let bytes = encode(&transfer(&SecretKey::from_seed([1; 32])));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Transaction::verify_bytes(&flipped, &chain()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn trailing_bytes_and_overlong_transactions_are_refused() {
        let key = SecretKey::from_seed([1; 32]);
        let mut bytes = encode(&transfer(&key));
        bytes.push(0);
        assert!(matches!(Transaction::verify_bytes(&bytes, &chain()), Err(FormError::NotCanonical(_))));
        let long = Transaction::sign(&key, &chain(), 0, Height(1), Action::Borrow { spec: vec![0; MAX_TRANSACTION_BYTES] });
        assert!(matches!(long.verify(&chain()), Err(FormError::TooLong { .. })));
    }

    #[test]
    fn a_forged_voucher_or_machine_proof_is_refused() {
        let (registrar, user, thief) =
            (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]), SecretKey::from_seed([3; 32]));
        let mut voucher = Voucher::sign(&registrar, &chain(), Hash::of(b"identity"), user.public(), TimeMs(5));
        let open = |v: &Voucher, key| Transaction::sign(key, &chain(), 0, Height(1), Action::OpenAccount { voucher: v.clone() });
        assert!(open(&voucher, &user).verify(&chain()).is_ok());
        voucher.key = thief.public();
        assert_eq!(open(&voucher, &thief).verify(&chain()).unwrap_err(), FormError::BadSignature);

        let machine = SecretKey::from_seed([4; 32]);
        let config = MachineConfig {
            name: "m".into(),
            platform: "linux x86_64".into(),
            cpu: "cpu".into(),
            gpu: String::new(),
            host: Hash::of(b"host"),
            resources: crate::Resources { cores: 2, ..Default::default() },
            speed: 1,
            trainer: "0".into(),
        };
        let proof = machine_proof(&machine, &chain(), &user.public(), &config);
        let register = |key| {
            let action = Action::RegisterMachine { machine_key: machine.public(), config: config.clone(), proof };
            Transaction::sign(key, &chain(), 0, Height(1), action)
        };
        assert!(register(&user).verify(&chain()).is_ok());
        assert_eq!(register(&thief).verify(&chain()).unwrap_err(), FormError::BadSignature);

        // The code's word is for one machine: who saw it pass by can't bring in another one.
        let code = invite_key(&chain(), "k7qd m2xp-aaaa BBBB");
        assert_eq!(code.public(), invite_key(&chain(), "K7QD-M2XP-AAAA-BBBB").public());
        assert_ne!(code.public(), invite_key(&chain(), "K7QD-M2XP-AAAA-BBBC").public());
        let proof = join_proof(&code, &chain(), &machine.public(), &config);
        let no_point = PublicKey([2; 32]);
        let invites = |code| Action::Invite { code, offer: None, expires: TimeMs(5) };
        let invite = |code| Transaction::sign(&user, &chain(), 0, Height(1), invites(code)).verify(&chain());
        assert_eq!(invite(no_point).unwrap_err(), FormError::BadPublicKey);
        assert!(invite(code.public()).is_ok());
        let voucher = Voucher::sign(&registrar, &chain(), Hash::of(b"identity"), no_point, TimeMs(5));
        assert_eq!(open(&voucher, &user).verify(&chain()).unwrap_err(), FormError::BadPublicKey);
        let join = |key| {
            let action = Action::Join { code: code.public(), config: config.clone(), proof };
            Transaction::sign(key, &chain(), 0, Height(1), action)
        };
        assert!(join(&machine).verify(&chain()).is_ok());
        assert_eq!(join(&thief).verify(&chain()).unwrap_err(), FormError::BadSignature);
    }
}
