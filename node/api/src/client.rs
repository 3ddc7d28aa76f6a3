//! A typed client for `/v1` that knows several gateways.
//!
//! ```text
//! call ─▶ gateway that answered last ─▶ (refused connection, silence, 5xx) ─▶ the next ─▶ … ─▶ Unreachable, all named
//! ```
//!
//! Reads and writes are tried once at each gateway; [`Client::submit`] and the streams go on until their deadline or their
//! end. A refusal that every gateway would repeat is returned at once. Answers are bounded in size and time.

mod blobs;
mod error;
mod events;
#[doc(hidden)]
pub use events::parse_pieces;
mod submit;
mod transport;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use deepmarket_types::{AccountId, AuditId, ChainId, Hash, Height, JobId, MachineId, PublicKey, Voucher};
use futures::{Stream, StreamExt as _, future};

pub use blobs::{BlobEntry, DownloadError};
pub use error::{ApiError, Attempt};
pub use transport::IDLE;
use transport::{Ask, Failures, Transport};

use crate::{
    AccountView, Assignment, AuditDuty, AuditView, BlockEvent, BlockView, DayEntry, EstimateView, EvaluationRequest,
    EvaluationView, HistoryEntry, InviteView, JobEvent, JobView, LedgerView, MAX_CHAIN_BYTES, MachineView, Network, PricesView,
    Progress, ProgressBatch, Quote, QuoteRequest, RawBlock, ReceiptView, Statement, Status, TransactionStatus, VoucherRequest,
    VoucherResponse, read_chain_bytes,
};

/// Audits and receipts that a gateway gives at once.
const AUDITS_PAGE: usize = 500;
const RECEIPTS_PAGE: usize = 100;
/// The most bytes of a genesis document.
const MAX_GENESIS_BYTES: usize = 1024 * 1024;
/// How long a report of progress may take: it is not worth waiting for.
const PROGRESS: Duration = Duration::from_secs(3);

/// A place in a history: the block and the event's number in it. Histories are read from the newest back.
pub type Place = (Height, u32);

/// A client of one market. Cloning shares connections and the memory of which gateway answered last.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    chain: Option<ChainId>,
}

impl Client {
    /// A client that uses some gateways (`http://host:port`), the first one first. Connects to none yet.
    pub fn new(gateways: Vec<String>) -> Result<Client, ApiError> {
        Ok(Client { transport: Arc::new(Transport::new(gateways)?), chain: None })
    }

    /// The same for one market only: it signs nothing for another one, whichever of its gateways answers.
    pub fn only(self, chain: ChainId) -> Client {
        Client { chain: Some(chain), ..self }
    }

    /// A client that also knows the gateways that this market's genesis document names.
    pub async fn discover(&self) -> Result<Client, ApiError> {
        let named = self.network().await?.gateways;
        let client = Client::new(self.gateways().iter().cloned().chain(named).collect())?;
        Ok(Client { chain: self.chain, ..client })
    }

    /// The gateways' addresses.
    pub fn gateways(&self) -> &[String] {
        self.transport.gateways()
    }

    /// The address of the gateway that answered last; before any did, the first one.
    pub fn answering(&self) -> &str {
        let gateways = self.gateways();
        self.transport.order().next().map_or("", |gateway| &gateways[gateway])
    }

    fn transport(&self) -> &Transport {
        &self.transport
    }

    /// How the market stands.
    pub async fn status(&self) -> Result<Status, ApiError> {
        self.transport.json(&Ask::get("/v1/status")).await
    }

    /// The genesis document, as TOML.
    pub async fn genesis(&self) -> Result<String, ApiError> {
        let (gateway, response) = self.transport.ask(&Ask::get("/v1/genesis")).await?;
        let bytes = self.transport.bounded(gateway, response, MAX_GENESIS_BYTES, &|_| {}).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.transport.bad_answer(gateway, "genesis isn't UTF-8".into()))
    }

    /// Where data is to be had: of the gateway that answered.
    pub async fn network(&self) -> Result<Network, ApiError> {
        self.transport.json(&Ask::get("/v1/network")).await
    }

    /// Where data is to be had: of every gateway that answers.
    pub async fn networks(&self) -> Vec<Network> {
        let each = self.transport.order().map(|gateway| async move {
            let response = self.transport.once(gateway, &Ask::get("/v1/network")).await?;
            self.transport.parse(gateway, response).await
        });
        future::join_all(each).await.into_iter().flatten().collect()
    }

    /// What became of a transaction; `None` where the gateway never saw it.
    pub async fn transaction(&self, id: Hash) -> Result<Option<TransactionStatus>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/transactions/{}", id.to_hex()))).await
    }

    /// A block; without a height the latest one.
    pub async fn block(&self, height: Option<Height>) -> Result<Option<BlockView>, ApiError> {
        let name = height.map_or("latest".to_owned(), |height| height.to_string());
        self.transport.known(&Ask::get(format!("/v1/blocks/{name}"))).await
    }

    /// Blocks below `before` (or from the latest), newest first.
    pub async fn blocks(&self, before: Option<Height>, limit: usize) -> Result<Vec<BlockView>, ApiError> {
        self.transport.json(&Ask::get("/v1/blocks").maybe("before", before).query("limit", limit)).await
    }

    /// An account.
    pub async fn account(&self, id: AccountId) -> Result<Option<AccountView>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/accounts/{id}"))).await
    }

    /// Accounts after one of them (or: from the first on) by id, at most 100.
    pub async fn accounts(&self, after: Option<AccountId>, limit: usize) -> Result<Vec<AccountView>, ApiError> {
        self.transport.json(&Ask::get("/v1/accounts").maybe("after", after).query("limit", limit)).await
    }

    /// The account of a key.
    pub async fn account_by_key(&self, key: &PublicKey) -> Result<Option<AccountView>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/accounts/by-key/{key}"))).await
    }

    /// What happened to an account before a place (or: lately), newest first.
    pub async fn account_history(
        &self,
        id: AccountId,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, ApiError> {
        self.history(format!("/v1/accounts/{id}/history"), before, limit).await
    }

    async fn history(&self, path: String, before: Option<Place>, limit: usize) -> Result<Vec<HistoryEntry>, ApiError> {
        let before = before.map(|(height, index)| format!("{height}-{index}"));
        self.transport.json(&Ask::get(path).maybe("before", before).query("limit", limit)).await
    }

    /// Machines, of one owner or all, by id, at most 1000.
    pub async fn machines(&self, owner: Option<AccountId>) -> Result<Vec<MachineView>, ApiError> {
        self.transport.json(&Ask::get("/v1/machines").maybe("owner", owner)).await
    }

    /// A machine.
    pub async fn machine(&self, id: MachineId) -> Result<Option<MachineView>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/machines/{id}"))).await
    }

    /// The active leases of a machine, with all that serving them needs.
    pub async fn assignments(&self, machine: MachineId) -> Result<Vec<Assignment>, ApiError> {
        self.transport.json(&Ask::get(format!("/v1/machines/{machine}/leases"))).await
    }

    /// What a machine has to do in audits now: as a worker, and as an auditor.
    pub async fn duties(&self, machine: MachineId) -> Result<Vec<AuditDuty>, ApiError> {
        self.transport.json(&Ask::get(format!("/v1/machines/{machine}/audits"))).await
    }

    /// What any validator's helper has to do in audits now: the steps in dispute.
    pub async fn judging(&self) -> Result<Vec<AuditDuty>, ApiError> {
        self.transport.json(&Ask::get("/v1/audits/duties")).await
    }

    /// All audits of a job, in the order in which they were drawn.
    pub async fn audits(&self, job: JobId) -> Result<Vec<AuditView>, ApiError> {
        let mut audits: Vec<AuditView> = Vec::new();
        loop {
            let ask = Ask::get(format!("/v1/jobs/{job}/audits")).maybe("after", audits.last().map(|audit| audit.id));
            let page: Vec<AuditView> = self.transport.json(&ask.query("limit", AUDITS_PAGE)).await?;
            let is_last = page.len() < AUDITS_PAGE;
            audits.extend(page);
            if is_last {
                return Ok(audits);
            }
        }
    }

    /// The newest audits of the whole market that are not closed, at most 500.
    pub async fn open_audits(&self) -> Result<Vec<AuditView>, ApiError> {
        self.transport.json(&Ask::get("/v1/audits").query("state", "open")).await
    }

    /// An audit.
    pub async fn audit(&self, id: AuditId) -> Result<Option<AuditView>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/audits/{id}"))).await
    }

    /// All receipts of a job, oldest first.
    pub async fn receipts(&self, job: JobId) -> Result<Vec<ReceiptView>, ApiError> {
        let mut receipts: Vec<ReceiptView> = Vec::new();
        loop {
            let before = receipts.last().map(|receipt| format!("{}-{}", receipt.height, receipt.index));
            let ask = Ask::get(format!("/v1/jobs/{job}/receipts")).maybe("before", before);
            let page: Vec<ReceiptView> = self.transport.json(&ask.query("limit", RECEIPTS_PAGE)).await?;
            let is_last = page.len() < RECEIPTS_PAGE;
            receipts.extend(page);
            if is_last {
                receipts.reverse();
                return Ok(receipts);
            }
        }
    }

    /// Blocks from a height on with their certificates, as many as fit into one answer; none from above the tip on.
    pub async fn raw_blocks(&self, from: Height) -> Result<Vec<RawBlock>, ApiError> {
        let ask = Ask::get("/v1/blocks/raw").query("from", from).timeout(None);
        let (gateway, response) = self.transport.ask(&ask).await?;
        let bytes = self.transport.bounded(gateway, response, 2 * MAX_CHAIN_BYTES, &|_| {}).await?;
        read_chain_bytes(&bytes).map_err(|error| self.transport.bad_answer(gateway, format!("its blocks: {error}")))
    }

    /// Jobs, of one owner or all, newest first, at most 100.
    pub async fn jobs(&self, owner: Option<AccountId>) -> Result<Vec<JobView>, ApiError> {
        self.transport.json(&Ask::get("/v1/jobs").maybe("owner", owner)).await
    }

    /// A job.
    pub async fn job(&self, id: JobId) -> Result<Option<JobView>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/jobs/{id}"))).await
    }

    /// What happened to a job before a place (or: lately), newest first.
    pub async fn job_history(&self, id: JobId, before: Option<Place>, limit: usize) -> Result<Vec<HistoryEntry>, ApiError> {
        self.history(format!("/v1/jobs/{id}/history"), before, limit).await
    }

    /// What a job's workers reported to the gateway that answers, from its entry number `after` on. Gateways number
    /// entries each in their own order; [`Client::progress_stream`] hides that.
    pub async fn progress(&self, job: JobId, after: usize) -> Result<Vec<Progress>, ApiError> {
        self.transport.json(&Ask::get(format!("/v1/jobs/{job}/progress")).query("after", after)).await
    }

    /// What a job's workers reported to any of the gateways that answer, each report once, by the workers' clocks: one that was
    /// away for a while has not got all of them. Fails only where none answers.
    pub async fn all_progress(&self, job: JobId) -> Result<Vec<Progress>, ApiError> {
        let ask = &Ask::get(format!("/v1/jobs/{job}/progress"));
        let each = self.transport.order().map(|gateway| async move {
            let response = self.transport.once(gateway, ask).await?;
            self.transport.parse::<Vec<Progress>>(gateway, response).await
        });
        let (mut entries, mut answered, mut failures) = (BTreeMap::new(), false, Failures::default());
        for outcome in future::join_all(each).await {
            match outcome {
                Ok(list) => {
                    answered = true;
                    entries.extend(list.into_iter().map(|entry| ((entry.rank, entry.sequence), entry)));
                }
                Err(error) => failures.push(error),
            }
        }
        if !answered {
            return Err(failures.into_error());
        }
        let mut entries: Vec<Progress> = entries.into_values().collect();
        entries.sort_by_key(|entry| (entry.time, entry.rank, entry.sequence));
        Ok(entries)
    }

    /// Reports progress to every gateway. Fails only where none took it.
    pub async fn post_progress(&self, job: JobId, batch: &ProgressBatch) -> Result<(), ApiError> {
        let ask = &Ask::post_json(format!("/v1/jobs/{job}/progress"), batch).timeout(Some(PROGRESS));
        let posts = self.transport.order().map(|gateway| self.transport.once(gateway, ask));
        let mut failures = Failures::default();
        for outcome in future::join_all(posts).await {
            match outcome {
                Ok(_) => return Ok(()),
                Err(error) => failures.push(error),
            }
        }
        Err(failures.into_error())
    }

    /// Everything that a job's workers report and how its state changes, from the beginning until the job is closed: the
    /// last item is [`JobEvent::End`].
    ///
    /// Reconnects and fails over by itself, and drops what it already gave. An error that is [`ApiError::retryable`] means
    /// that no gateway answers just now: poll on to keep trying. After another error the stream ends.
    pub fn progress_stream(&self, job: JobId) -> impl Stream<Item = Result<JobEvent, ApiError>> + Send + Unpin + use<> {
        events::job_events(self.clone(), job, None).boxed()
    }

    /// Every block after `after` (or: from now on), each once and in order. Never ends by itself; errors as with
    /// [`Client::progress_stream`].
    pub fn block_stream(&self, after: Option<Height>) -> impl Stream<Item = Result<BlockEvent, ApiError>> + Send + Unpin + use<> {
        events::block_events(self.clone(), after).boxed()
    }

    /// What a job would cost. Promises nothing and costs nothing.
    pub async fn quote(&self, request: &QuoteRequest) -> Result<Quote, ApiError> {
        self.transport.json(&Ask::post_json("/v1/quotes", request)).await
    }

    /// Whether an offer is legitimate, and what it would earn in the next four slots.
    pub async fn evaluate(&self, request: &EvaluationRequest) -> Result<EvaluationView, ApiError> {
        self.transport.json(&Ask::post_json("/v1/evaluations", request)).await
    }

    /// What an account may expect of the next 24 hours.
    pub async fn estimate(&self, id: AccountId) -> Result<EstimateView, ApiError> {
        self.transport.json(&Ask::get(format!("/v1/accounts/{id}/estimate"))).await
    }

    /// What an account's machines earned and its jobs cost on each of the last days, newest first.
    pub async fn days(&self, id: AccountId, days: u32) -> Result<Vec<DayEntry>, ApiError> {
        self.transport.json(&Ask::get(format!("/v1/accounts/{id}/days")).query("days", days)).await
    }

    /// Why an account's balance is what it is.
    pub async fn statement(&self, id: AccountId) -> Result<Statement, ApiError> {
        self.transport.json(&Ask::get(format!("/v1/accounts/{id}/statement"))).await
    }

    /// An open invitation, by its code's public key.
    pub async fn invite(&self, code: &PublicKey) -> Result<Option<InviteView>, ApiError> {
        self.transport.known(&Ask::get(format!("/v1/invites/{code}"))).await
    }

    /// Today's prices.
    pub async fn prices(&self) -> Result<PricesView, ApiError> {
        self.transport.json(&Ask::get("/v1/prices")).await
    }

    /// The ledger's totals and whether they agree.
    pub async fn ledger(&self) -> Result<LedgerView, ApiError> {
        self.transport.json(&Ask::get("/v1/ledger")).await
    }

    /// Asks for a voucher at the first gateway that has a registrar.
    pub async fn voucher(&self, request: &VoucherRequest) -> Result<Voucher, ApiError> {
        let next = |error: &ApiError| error.retryable() || matches!(error, ApiError::Status(b) if b.name == "no_registrar");
        let (gateway, response) = self.transport.ask_unless(&Ask::post_json("/v1/vouchers", request), next).await?;
        Ok(self.transport.parse::<VoucherResponse>(gateway, response).await?.voucher)
    }
}
