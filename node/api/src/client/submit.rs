//! Submitting: the same transaction goes to gateway after gateway until it is in a block. Its id makes that safe.

use std::time::{Duration, Instant};

use bytes::Bytes;
use deepmarket_types::{Action, Hash, Height, MachineId, SecretKey, Transaction, encode};

use super::{
    Client,
    error::ApiError,
    transport::{ANSWER, Ask},
};
use crate::{MAX_WAIT_MS, Status, TransactionStatus};

/// How long [`Client::act`] waits for a block.
const ACT: Duration = Duration::from_secs(60);
/// How many blocks a transaction of [`Client::act`] stays valid.
const VALID_BLOCKS: u64 = 1_000;
/// The longest that one gateway is waited for before the transaction is given to the next one too.
const ONE_GATEWAY: Duration = Duration::from_secs(15);
/// The pause after all gateways failed; doubles up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Rejections that mean "another nonce": used, ahead (ledger), taken by a waiting one (mempool).
const NONCE_CODES: [u16; 3] = [2003, 2004, 4003];
/// How long the ledger's word "not yet" (an account that a gateway doesn't see yet) is taken for a gateway that lags.
const LAG: Duration = Duration::from_secs(3);

impl Client {
    /// Submits a transaction and waits until it is in a block, at most for `wait`. With a `wait` of zero it returns as soon
    /// as a gateway accepted it (its status then has no height).
    ///
    /// Errors: [`ApiError::Rejected`] where a gateway's checks or the ledger refused it, [`ApiError::Undecided`] where the
    /// time ran out after a gateway took it, [`ApiError::Unreachable`] where none ever did.
    pub async fn submit(&self, transaction: &Transaction, wait: Duration) -> Result<TransactionStatus, ApiError> {
        let (id, bytes) = (transaction.id(), Bytes::from(encode(transaction)));
        let (began, transport) = (Instant::now(), self.transport());
        let (mut last, mut pause, mut accepted, mut posts) = (None, PAUSE.0, false, 0_u64);
        loop {
            for gateway in transport.order() {
                let left = wait.saturating_sub(began.elapsed());
                if posts > 0 && left.is_zero() {
                    return Err(give_up(id, began.elapsed(), accepted, last));
                }
                posts += 1;
                match self.offer(gateway, id, &bytes, left.min(ONE_GATEWAY)).await {
                    Ok(status) if status.height.is_some() || wait.is_zero() => {
                        transport.answered(gateway);
                        return settle(status);
                    }
                    Ok(_) => accepted = true,
                    Err(error) if error.retryable() && !(is_ledgers(&error) && began.elapsed() > LAG) => last = Some(error),
                    // Given to several gateways, it may have been decided through another one meanwhile: then this
                    // one refuses it as used up, and the block's result is the truth.
                    Err(error) if posts > 1 => {
                        return match self.transaction(id).await {
                            Ok(Some(status)) if status.height.is_some() => settle(status),
                            _ => Err(rejected(id, error)),
                        };
                    }
                    Err(error) => return Err(rejected(id, error)),
                }
            }
            tokio::time::sleep(pause.min(wait.saturating_sub(began.elapsed()))).await;
            pause = (pause * 2).min(PAUSE.1);
            if wait.is_zero() {
                return Err(give_up(id, began.elapsed(), accepted, last));
            }
        }
    }

    /// Gives the transaction to one gateway and asks that one until it is decided or the time is up.
    async fn offer(&self, gateway: usize, id: Hash, bytes: &Bytes, wait: Duration) -> Result<TransactionStatus, ApiError> {
        let (began, transport) = (Instant::now(), self.transport());
        let mut ask = Ask::new(reqwest::Method::POST, "/v1/transactions").body("application/octet-stream", bytes.clone());
        loop {
            let left = wait.saturating_sub(began.elapsed());
            let wait_ms = left.as_millis().min(u128::from(MAX_WAIT_MS)) as u64;
            let ask_now = ask.query("wait_ms", wait_ms).timeout(Some(ANSWER + left));
            let response = match transport.once(gateway, &ask_now).await {
                // A gateway that took it and was then restarted: not a verdict on the transaction.
                Err(ApiError::Status(body)) if body.name == "unknown_transaction" => {
                    return Err(transport.unreachable(gateway, "it forgot the transaction".into()));
                }
                answer => answer?,
            };
            let status: TransactionStatus = transport.parse(gateway, response).await?;
            if status.height.is_some() || began.elapsed() >= wait {
                return Ok(status);
            }
            ask = Ask::get(format!("/v1/transactions/{}", id.to_hex()));
        }
    }

    /// Signs an action with a caller's key and submits it: fetches chain and nonce, waits until it is in a block, and tries
    /// again where another transaction of the same key took the nonce meanwhile.
    ///
    /// The key may be an account's, or a machine's for `Heartbeat`, `Receipt` and `Join`.
    pub async fn act(&self, key: &SecretKey, action: Action) -> Result<TransactionStatus, ApiError> {
        let mut tries = 0;
        loop {
            let transaction = self.prepare(key, action.clone()).await?;
            tries += 1;
            match self.submit(&transaction, ACT).await {
                Err(ApiError::Rejected { code, .. }) if NONCE_CODES.contains(&code) && tries < 3 => {}
                done => return done,
            }
        }
    }

    /// The signed transaction that [`Client::act`] would submit.
    pub async fn prepare(&self, key: &SecretKey, action: Action) -> Result<Transaction, ApiError> {
        let Status { chain, height, .. } = self.status().await?;
        if self.chain.is_some_and(|expected| expected != chain) {
            return Err(ApiError::OtherMarket(chain));
        }
        let none = || ApiError::NoAccount(key.public().to_string());
        let nonce = match &action {
            Action::OpenAccount { .. } | Action::Receipt(_) | Action::Price(_) | Action::Join { .. } => 0,
            Action::Heartbeat { .. } => self.machine(MachineId::from_key(&key.public())).await?.ok_or_else(none)?.nonce,
            _ => self.account_by_key(&key.public()).await?.ok_or_else(none)?.nonce,
        };
        Ok(Transaction::sign(key, &chain, nonce, Height(height.0.saturating_add(VALID_BLOCKS)), action))
    }
}

/// The result of a decided (or, without a height, an accepted) transaction.
fn settle(status: TransactionStatus) -> Result<TransactionStatus, ApiError> {
    match status.code {
        None | Some(0) => Ok(status),
        Some(code) => {
            let (name, hint) = ("rejected".into(), String::new());
            Err(ApiError::Rejected { code, name, message: status.message, hint, id: status.id })
        }
    }
}

/// A gateway's refusal of a transaction.
fn rejected(id: Hash, error: ApiError) -> ApiError {
    match error {
        ApiError::Status(body) => {
            ApiError::Rejected { code: body.code, name: body.name, message: body.message, hint: body.hint, id }
        }
        other => other,
    }
}

/// Is it the ledger's verdict (codes 2xxx)?
fn is_ledgers(error: &ApiError) -> bool {
    (2000..3000).contains(&error.code())
}

fn give_up(id: Hash, waited: Duration, accepted: bool, last: Option<ApiError>) -> ApiError {
    match last {
        Some(error) if !accepted && error.code() < 5000 => rejected(id, error),
        Some(error) if !accepted => error,
        last => ApiError::Undecided { id, waited, last: last.map(|e| e.to_string()).unwrap_or_default() },
    }
}
