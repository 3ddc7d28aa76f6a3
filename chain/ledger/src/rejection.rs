use deepmarket_types::{
    AccountId, AuditId, AuditState, Credits, Height, JobId, JobState, LeaseId, MachineId, PublicKey, Resources, TimeMs,
};

/// Why the ledger refuses a transaction. The codes are stable: a retired number is never used again.
///
/// `Display` says what is wrong and why; [`Rejection::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The transaction's last height has passed.
    #[error("the transaction was valid up to height {expires}; the next block is {height}")]
    Expired {
        /// The last height at which it could be applied.
        expires: Height,
        /// The height at which it was judged.
        height: Height,
    },
    /// No account has this key.
    #[error("no account has the key {0}")]
    UnknownAccount(PublicKey),
    /// The nonce was used before.
    #[error("number {given} was already used; the next one is {expected}")]
    NonceUsed {
        /// The transaction's.
        given: u64,
        /// The signer's next.
        expected: u64,
    },
    /// The nonce's turn has not come.
    #[error("number {given} is too far ahead; the next one is {expected}")]
    NonceAhead {
        /// The transaction's.
        given: u64,
        /// The signer's next.
        expected: u64,
    },
    /// An action that carries no nonce has one.
    #[error("this kind of transaction carries no number of its own: it must be 0, not {0}")]
    NonceNotZero(u64),

    /// The key has an account.
    #[error("the key already has the account {0}")]
    KeyTaken(AccountId),
    /// The voucher names another key.
    #[error("the voucher was issued for another key")]
    VoucherOfAnotherKey,
    /// The voucher's issuer is no registrar of this market.
    #[error("{0} is not a registrar of this market")]
    UnknownRegistrar(PublicKey),
    /// The voucher is too old.
    #[error("the voucher expired at {} ms; the block's time is {} ms", expires.0, time.0)]
    VoucherExpired {
        /// The moment from which it is void.
        expires: TimeMs,
        /// The block's time.
        time: TimeMs,
    },
    /// The verified person has an account.
    #[error("the verified identity already has an account")]
    IdentityTaken,

    /// Nothing to transfer.
    #[error("the amount is zero")]
    ZeroAmount,
    /// Sender and receiver are the same.
    #[error("an account can't send credits to itself")]
    TransferToSelf,
    /// The receiver doesn't exist.
    #[error("there is no account {0}")]
    UnknownReceiver(AccountId),
    /// The earned purse has too little.
    #[error("{need} credits are to be sent, but only {have} are earned ones; starting credits can't be transferred")]
    NotEnoughEarned {
        /// What the earned purse has.
        have: Credits,
        /// What was to be sent.
        need: Credits,
    },

    /// The machine's key belongs to another account's machine.
    #[error("the machine {machine} belongs to the account {owner}")]
    MachineOfAnother {
        /// The machine.
        machine: MachineId,
        /// Its owner.
        owner: AccountId,
    },
    /// The machine works.
    #[error("the machine {machine} serves {leases} lease(s) now")]
    MachineBusy {
        /// The machine.
        machine: MachineId,
        /// Its active leases.
        leases: u32,
    },
    /// The account has as many machines as it may have.
    #[error("an account may have {0} machines at most")]
    TooManyMachines(u32),
    /// The machine doesn't have what is offered.
    #[error("the offer is more than the machine has: {offered}; it has {has}")]
    OfferTooLarge {
        /// What is offered.
        offered: Resources,
        /// What the machine has.
        has: Resources,
    },
    /// No core is offered.
    #[error("the offer has no core")]
    OfferWithoutCores,
    /// The offer's end has passed.
    #[error("the offer would end at {} ms; the block's time is {} ms", until.0, time.0)]
    OfferInThePast {
        /// The offer's end.
        until: TimeMs,
        /// The block's time.
        time: TimeMs,
    },
    /// The physical machine is on offer under another key.
    #[error("this physical machine is on offer already, as {machine}")]
    HostOffered {
        /// The machine that it is on offer as.
        machine: MachineId,
    },
    /// An invitation that is void at once, or for too long.
    #[error("the invitation would be void from {} ms on; the block's time is {} ms, and {longest_ms} ms are the longest", expires.0, time.0)]
    InviteLifetime {
        /// The moment from which it is void.
        expires: TimeMs,
        /// The block's time.
        time: TimeMs,
        /// The longest lifetime.
        longest_ms: u64,
    },
    /// The code is in use.
    #[error("there is an invitation with this code already")]
    InviteExists,
    /// No open invitation has this code.
    #[error("no open invitation has this code: it was used, is void, or was mistyped")]
    InviteUnknown,
    /// There is no such machine.
    #[error("there is no machine {0}")]
    UnknownMachine(MachineId),
    /// The signer doesn't own the machine.
    #[error("the machine {0} belongs to another account")]
    NotMachineOwner(MachineId),
    /// The machine isn't offered.
    #[error("the machine {0} is not offered")]
    NotOffered(MachineId),

    /// The spec can't be read or can't be run.
    #[error("the job spec is refused: {0}")]
    BadSpec(String),
    /// The purses have too little.
    #[error("the budget is {need} credits, but the account has {have}")]
    NotEnoughCredits {
        /// Both purses.
        have: Credits,
        /// The budget.
        need: Credits,
    },
    /// The budget doesn't cover the first interval.
    #[error(
        "a budget of {budget} credits is too small: one interval of {interval_ms} ms with {workers} worker(s) costs {minimum}"
    )]
    BudgetTooSmall {
        /// The budget.
        budget: Credits,
        /// The least budget at the current prices.
        minimum: Credits,
        /// The least number of workers.
        workers: u32,
        /// The interval that one receipt is paid for.
        interval_ms: u64,
    },
    /// The account has as many open jobs as it may have.
    #[error("an account may have {0} open jobs at most")]
    TooManyOpenJobs(u32),
    /// The queue is full.
    #[error("{0} jobs are waiting for machines; the queue is full")]
    QueueFull(u32),
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The signer doesn't own the job.
    #[error("{0} belongs to another account")]
    NotJobOwner(JobId),
    /// The job has ended.
    #[error("{job} has ended: {state}")]
    JobClosed {
        /// The job.
        job: JobId,
        /// How it ended.
        state: JobState,
    },

    /// There is no such lease.
    #[error("there is no lease {0}")]
    UnknownLease(LeaseId),
    /// The signer isn't the machine that serves the lease.
    #[error("{0} is served by another machine than the one that signed")]
    NotLeaseMachine(LeaseId),
    /// Job or rank aren't those of the lease.
    #[error("{lease} is rank {rank} of {job}, which the receipt doesn't say")]
    ReceiptMismatch {
        /// The lease.
        lease: LeaseId,
        /// Its job.
        job: JobId,
        /// Its rank.
        rank: u32,
    },
    /// The very same receipt was accepted before; it is paid once.
    #[error("receipt {sequence} of {lease} was accepted before")]
    ReceiptExists {
        /// The lease.
        lease: LeaseId,
        /// The receipt's number.
        sequence: u32,
    },
    /// Another receipt with the same number was accepted.
    #[error("another receipt {sequence} of {lease} was accepted before: a machine must not sign two of one number")]
    ReceiptEquivocates {
        /// The lease.
        lease: LeaseId,
        /// The receipt's number.
        sequence: u32,
    },
    /// A later receipt was accepted, or the number is 0.
    #[error("receipt {sequence} of {lease} comes too late: {last} was accepted")]
    ReceiptSuperseded {
        /// The lease.
        lease: LeaseId,
        /// The receipt's number.
        sequence: u32,
        /// The number of the latest.
        last: u32,
    },
    /// A cumulative number went down.
    #[error("the receipt states fewer {what} than the one before")]
    ReceiptShrinks {
        /// Which number.
        what: &'static str,
    },
    /// The lease has ended.
    #[error("{0} has ended")]
    LeaseClosed(LeaseId),
    /// A worker names another as missing that isn't another worker of its job.
    #[error("{lease} names {missing} as missing, which is no other lease of its job")]
    ReceiptBlamesStranger {
        /// The lease whose receipt it is.
        lease: LeaseId,
        /// The lease that it names.
        missing: LeaseId,
    },
    /// The receipt's numbers of rounds don't fit together.
    #[error("the receipt contradicts itself or the one before: {problem}")]
    ReceiptContradicts {
        /// How.
        problem: &'static str,
    },
    /// A worker that doesn't train with the others can't have done all rounds.
    #[error("{0} is none of the leases that train its job together, and can't have done all rounds")]
    NotMember(LeaseId),

    /// Prices are set by proposers in their own blocks.
    #[error("prices are set by the proposer of a day's first block")]
    PriceNotDue,

    /// No such audit.
    #[error("there is no {0}")]
    UnknownAudit(AuditId),
    /// The audit isn't, or is no more, where this is said.
    #[error("{audit} doesn't wait for this: it {state}")]
    AuditElsewhere {
        /// The audit.
        audit: AuditId,
        /// How it stands.
        state: AuditState,
    },
    /// The signer has no part in the audit, or not this one.
    #[error("the signer isn't the machine that {0} asks")]
    NotAuditParty(AuditId),
    /// It said so before: what was said can't be taken back.
    #[error("the signer has said this in {0} before")]
    AlreadySaid(AuditId),
    /// What the worker opened isn't what it committed to.
    #[error("this doesn't open the commitment that {audit} asks for: {problem}")]
    BadOpening {
        /// The audit.
        audit: AuditId,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The shown answer isn't the hidden one.
    #[error("this isn't the answer that the signer hid in {0}")]
    NotWhatWasHidden(AuditId),
    /// The shown steps aren't those of the answer.
    #[error("these aren't the steps that {audit} asks for: {problem}")]
    BadTrace {
        /// The audit.
        audit: AuditId,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// Only validators judge.
    #[error("{0} is not a validator")]
    NotValidator(PublicKey),
    /// Too many receipts or answers of the account's machines were false.
    #[error("this account may lend no more: receipts or answers of its machines were false {strikes} times")]
    Barred {
        /// How often.
        strikes: u32,
    },
}

impl Rejection {
    /// The stable code that results, REST and the CLI show.
    pub fn code(&self) -> u16 {
        self.entry().0
    }

    /// A stable short name.
    pub fn name(&self) -> &'static str {
        self.entry().1
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        self.entry().2
    }

    /// May the same transaction be accepted later, without being signed again?
    pub fn is_retryable(&self) -> bool {
        Self::retryable(self.code())
    }

    /// [`Rejection::is_retryable`] by code.
    pub fn retryable(code: u16) -> bool {
        matches!(code, 2002 | 2004 | 2055 | 2070 | 2080)
    }

    /// Name and hint of a code, for those who only hold a stored result.
    pub fn describe(code: u16) -> Option<(&'static str, &'static str)> {
        TABLE.iter().find(|entry| entry.0 == code).map(|entry| (entry.1, entry.2))
    }

    /// What was wrong and what to do, as it is stored with a transaction.
    pub fn message(&self) -> String {
        format!("{self}; {}", self.hint())
    }

    fn entry(&self) -> (u16, &'static str, &'static str) {
        let code = match self {
            Rejection::Expired { .. } => 2001,
            Rejection::UnknownAccount(_) => 2002,
            Rejection::NonceUsed { .. } => 2003,
            Rejection::NonceAhead { .. } => 2004,
            Rejection::NonceNotZero(_) => 2005,
            Rejection::KeyTaken(_) => 2010,
            Rejection::VoucherOfAnotherKey => 2011,
            Rejection::UnknownRegistrar(_) => 2012,
            Rejection::VoucherExpired { .. } => 2013,
            Rejection::IdentityTaken => 2014,
            Rejection::ZeroAmount => 2020,
            Rejection::TransferToSelf => 2021,
            Rejection::UnknownReceiver(_) => 2022,
            Rejection::NotEnoughEarned { .. } => 2023,
            Rejection::MachineOfAnother { .. } => 2030,
            Rejection::MachineBusy { .. } => 2031,
            Rejection::TooManyMachines(_) => 2032,
            Rejection::OfferTooLarge { .. } => 2033,
            Rejection::OfferWithoutCores => 2034,
            Rejection::OfferInThePast { .. } => 2036,
            Rejection::UnknownMachine(_) => 2037,
            Rejection::NotMachineOwner(_) => 2038,
            Rejection::NotOffered(_) => 2039,
            Rejection::HostOffered { .. } => 2040,
            Rejection::InviteLifetime { .. } => 2041,
            Rejection::InviteExists => 2042,
            Rejection::InviteUnknown => 2043,
            Rejection::BadSpec(_) => 2050,
            Rejection::NotEnoughCredits { .. } => 2052,
            Rejection::BudgetTooSmall { .. } => 2053,
            Rejection::TooManyOpenJobs(_) => 2054,
            Rejection::QueueFull(_) => 2055,
            Rejection::UnknownJob(_) => 2056,
            Rejection::NotJobOwner(_) => 2057,
            Rejection::JobClosed { .. } => 2058,
            Rejection::UnknownLease(_) => 2070,
            Rejection::NotLeaseMachine(_) => 2071,
            Rejection::ReceiptMismatch { .. } => 2072,
            Rejection::ReceiptExists { .. } => 2073,
            Rejection::ReceiptEquivocates { .. } => 2074,
            Rejection::ReceiptSuperseded { .. } => 2075,
            Rejection::ReceiptShrinks { .. } => 2076,
            Rejection::LeaseClosed(_) => 2077,
            Rejection::ReceiptBlamesStranger { .. } => 2078,
            Rejection::ReceiptContradicts { .. } => 2079,
            Rejection::NotMember(_) => 2080,
            Rejection::PriceNotDue => 2090,
            Rejection::UnknownAudit(_) => 2100,
            Rejection::AuditElsewhere { .. } => 2101,
            Rejection::NotAuditParty(_) => 2102,
            Rejection::AlreadySaid(_) => 2103,
            Rejection::BadOpening { .. } => 2104,
            Rejection::NotWhatWasHidden(_) => 2105,
            Rejection::BadTrace { .. } => 2106,
            Rejection::NotValidator(_) => 2107,
            Rejection::Barred { .. } => 2110,
        };
        *TABLE.iter().find(|entry| entry.0 == code).expect("every code has a line in the table")
    }
}

/// Code, name and hint of every rejection. Retired: 2035.
const TABLE: &[(u16, &str, &str)] = &[
    (2001, "expired", "sign it again with a later expiry"),
    (2002, "unknown_account", "open an account with this key first, or use the key of an account"),
    (2003, "nonce_used", "ask for the account's next number and sign again"),
    (2004, "nonce_ahead", "send the transactions before it first"),
    (2005, "nonce_not_zero", "sign it again with number 0"),
    (2010, "key_taken", "use the account that this key has"),
    (2011, "voucher_of_another_key", "ask a registrar for a voucher for this key"),
    (2012, "unknown_registrar", "ask one of the market's registrars for a voucher"),
    (2013, "voucher_expired", "ask a registrar for a new voucher"),
    (2014, "identity_taken", "use the account that was opened with this identity"),
    (2020, "zero_amount", "name an amount above zero"),
    (2021, "transfer_to_self", "name another account"),
    (2022, "unknown_receiver", "check the account id with its owner"),
    (2023, "not_enough_earned", "send less, or earn more by lending a machine"),
    (2030, "machine_of_another", "use the machine's owner's account, or a new machine key"),
    (2031, "machine_busy", "withdraw the machine or wait until its leases have ended"),
    (2032, "too_many_machines", "lend the machines that are registered"),
    (2033, "offer_too_large", "offer at most what was measured; measure the machine again if it has changed"),
    (2034, "offer_without_cores", "offer at least one core"),
    (2036, "offer_in_the_past", "name a later end"),
    (2037, "unknown_machine", "register the machine first"),
    (2038, "not_machine_owner", "use the key of the machine's owner"),
    (2039, "not_offered", "nothing is to be done: the machine takes no work"),
    (2040, "host_offered", "change the offer that it has, or withdraw that first"),
    (2041, "invite_lifetime", "name an end within a week from now"),
    (2042, "invite_exists", "make a new code"),
    (2043, "invite_unknown", "check what was typed, or ask the owner for a new code"),
    (2050, "bad_spec", "correct the spec; `deepmarket job quote` checks it without cost"),
    (2052, "not_enough_credits", "lower budget.max_credits, or earn more by lending a machine"),
    (2053, "budget_too_small", "raise budget.max_credits, or ask for fewer or smaller workers"),
    (2054, "too_many_open_jobs", "wait for a job to end or cancel one"),
    (2055, "queue_full", "submit the job again later"),
    (2056, "unknown_job", "check the job's id"),
    (2057, "not_job_owner", "use the key of the job's owner"),
    (2058, "job_closed", "nothing is to be done: the job has ended and what was left of its budget came back"),
    (2070, "unknown_lease", "check the lease's id"),
    (2071, "not_lease_machine", "sign with the key of the machine that serves the lease"),
    (2072, "receipt_mismatch", "state the lease's own job and rank"),
    (2073, "receipt_exists", "nothing is to be done: it was counted"),
    (2074, "receipt_equivocates", "run one worker per machine key, and keep its state when it restarts"),
    (2075, "receipt_superseded", "send the next receipt with a higher number"),
    (2076, "receipt_shrinks", "state totals since the lease began"),
    (2077, "lease_closed", "stop working for this lease"),
    (2078, "receipt_blames_stranger", "name another lease of the same job, or none"),
    (2079, "receipt_contradicts", "state the rounds of the job that the worker took part in, as they were"),
    (2080, "not_member", "send a receipt that says that the worker is running, and wait until it is a member"),
    (2090, "price_not_due", "nothing is to be done: validators set prices by themselves"),
    (2100, "unknown_audit", "check the audit's id"),
    (2101, "audit_elsewhere", "ask what the audit waits for; what comes too late isn't heard any more"),
    (2102, "not_audit_party", "sign with the key of the machine that the audit asks"),
    (2103, "already_said", "nothing is to be done: it was heard"),
    (2104, "bad_opening", "open the commitment at the index that the audit names, with proofs for its receipt's tree"),
    (2105, "not_what_was_hidden", "show the outcome and the salt that were hidden"),
    (2106, "bad_trace", "show the steps of the outcome that was committed to, or shown"),
    (2107, "not_validator", "nothing is to be done: validators judge"),
    (2110, "barred", "nothing is to be done: the account can still borrow"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_every_one_has_a_name_and_a_hint() {
        let mut codes: Vec<u16> = TABLE.iter().map(|e| e.0).collect();
        let mut names: Vec<&str> = TABLE.iter().map(|e| e.1).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        names.sort_unstable();
        names.dedup();
        assert_eq!((codes.len(), names.len()), (TABLE.len(), TABLE.len()));
        assert!(TABLE.iter().all(|e| !e.1.is_empty() && !e.2.is_empty()));
        assert_eq!(Rejection::describe(2023), Some(("not_enough_earned", "send less, or earn more by lending a machine")));
        assert_eq!(Rejection::describe(1), None);
    }

    #[test]
    fn a_message_says_what_why_and_what_to_do() {
        let rejection = Rejection::NotEnoughEarned { have: Credits::from_credits(1), need: Credits::from_credits(2) };
        assert_eq!((rejection.code(), rejection.name()), (2023, "not_enough_earned"));
        assert_eq!(
            rejection.message(),
            "2 credits are to be sent, but only 1 are earned ones; starting credits can't be transferred; send less, or earn \
             more by lending a machine"
        );
    }
}
