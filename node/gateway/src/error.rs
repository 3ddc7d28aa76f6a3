//! Why a request is refused, and the body that says so. Codes 5xxx are the gateway's own; those of form, ledger, jobs and
//! mempool pass through.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use deepmarket_api::ErrorBody;
use deepmarket_job::SpecError;
use deepmarket_types::FormError;

use crate::registrar::BadIdentity;

/// What one address may have too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    #[error("your address asks for more than {0} things a second")]
    Reads(u32),
    #[error("your address sends more than {0} things a second")]
    Writes(u32),
    #[error("your address asks for more than {0} vouchers a minute")]
    Vouchers(u32),
    #[error("your address has {0} connections to this gateway already")]
    Connections(u32),
    #[error("your address follows {0} streams of events already")]
    Streams(u32),
}

/// A refused request. The codes are stable: a retired number is never used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("there is no {0} here")]
    UnknownRoute(String),
    #[error("{0} is not possible here")]
    BadMethod(String),
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the gateway has as many requests as it can serve at once")]
    Busy,
    #[error("the request took longer than {seconds} s")]
    Timeout { seconds: u64 },
    #[error("the gateway failed: {0}")]
    Internal(String),
    #[error("the gateway is shutting down")]
    Stopping,
    #[error("{0}; try again in {1} s")]
    TooMany(TooMany, u64),

    #[error("this gateway never saw the transaction {0}")]
    UnknownTransaction(String),
    #[error("there is no block {0}")]
    UnknownBlock(String),
    #[error("there is no account {0}")]
    UnknownAccount(String),
    #[error("there is no machine {0}")]
    UnknownMachine(String),
    #[error("there is no job {0}")]
    UnknownJob(String),
    #[error("the blob {0} is not here")]
    UnknownBlob(String),
    #[error("no open invitation has the code of the key {0}: it was used, is void, or was mistyped")]
    UnknownInvite(String),
    #[error("the explorer has no file {0}")]
    UnknownFile(String),
    #[error("there is no audit {0}")]
    UnknownAudit(String),

    #[error("the request needs the header {0}")]
    MissingHeader(&'static str),
    #[error("the key {0} belongs to no account and no machine of this market")]
    UnknownKey(String),
    #[error("the bytes have the hash {got}, not {expected}")]
    WrongBlob { expected: String, got: String },
    #[error("the machine {machine} doesn't work for {job}")]
    NotItsJob { machine: String, job: String },
    #[error("the progress is refused: {0}")]
    BadProgress(String),
    #[error("{job} has {limit} progress entries already")]
    ProgressFull { job: String, limit: usize },
    #[error("this gateway's store of blobs is full")]
    StorageFull,

    #[error("this gateway has no registrar")]
    NoRegistrar,
    #[error("{0}")]
    BadIdentity(#[from] BadIdentity),

    /// Of another part of the system, with its own code.
    #[error("{0}")]
    Form(FormError),
    #[error("{0}")]
    Spec(SpecError),
    #[error("{}", .0.message)]
    Passed(Box<ErrorBody>),
}

impl From<FormError> for Refusal {
    fn from(error: FormError) -> Self {
        Refusal::Form(error)
    }
}

impl From<SpecError> for Refusal {
    fn from(error: SpecError) -> Self {
        Refusal::Spec(error)
    }
}

impl Refusal {
    /// HTTP status, code, name, hint, and whether the same request may succeed later.
    fn entry(&self) -> (StatusCode, u16, &'static str, &'static str, bool) {
        use StatusCode as S;
        match self {
            Refusal::BadRequest(_) => (S::BAD_REQUEST, 5001, "bad_request", "see /v1/openapi.json for what is expected", false),
            Refusal::UnknownRoute(_) => (S::NOT_FOUND, 5002, "unknown_route", "see /v1/openapi.json for what there is", false),
            Refusal::BadMethod(_) => {
                (S::METHOD_NOT_ALLOWED, 5003, "bad_method", "see /v1/openapi.json for the methods of each path", false)
            }
            Refusal::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, 5004, "too_large", "send less", false),
            Refusal::Busy => (S::SERVICE_UNAVAILABLE, 5005, "busy", "try again in a moment, or at another gateway", true),
            Refusal::Timeout { .. } => (S::SERVICE_UNAVAILABLE, 5006, "timeout", "try again, or at another gateway", true),
            Refusal::Internal(_) => {
                (S::INTERNAL_SERVER_ERROR, 5007, "internal", "try another gateway; its operator finds more in its log", true)
            }
            Refusal::Stopping => (S::SERVICE_UNAVAILABLE, 5008, "stopping", "use another gateway", true),
            Refusal::TooMany(..) => (S::TOO_MANY_REQUESTS, 5009, "too_many", "ask less often, or another gateway", true),

            Refusal::UnknownTransaction(_) => {
                (S::NOT_FOUND, 5010, "unknown_transaction", "check the id, or submit the transaction", false)
            }
            Refusal::UnknownBlock(_) => (S::NOT_FOUND, 5011, "unknown_block", "`latest` names the newest block", false),
            Refusal::UnknownAccount(_) => {
                (S::NOT_FOUND, 5012, "unknown_account", "check the id; `deepmarket account open` opens an account", false)
            }
            Refusal::UnknownMachine(_) => {
                (S::NOT_FOUND, 5013, "unknown_machine", "check the id; `deepmarket lend start` registers a machine", false)
            }
            Refusal::UnknownJob(_) => (S::NOT_FOUND, 5014, "unknown_job", "check the id; `deepmarket job ls` lists jobs", false),
            Refusal::UnknownBlob(_) => (S::NOT_FOUND, 5015, "unknown_blob", "ask another gateway, or upload it", false),
            Refusal::UnknownInvite(_) => {
                (S::NOT_FOUND, 5016, "unknown_invite", "check what was typed, or ask the owner for a new code", false)
            }
            Refusal::UnknownFile(_) => (S::NOT_FOUND, 5017, "unknown_file", "the explorer begins at /", false),
            Refusal::UnknownAudit(_) => {
                (S::NOT_FOUND, 5018, "unknown_audit", "check the id; `deepmarket job verify` lists a job's audits", false)
            }

            Refusal::MissingHeader(_) => {
                (S::UNAUTHORIZED, 5020, "missing_header", "uploads are signed; see /v1/openapi.json", false)
            }
            Refusal::UnknownKey(_) => {
                (S::FORBIDDEN, 5021, "unknown_key", "open an account with this key, or register its machine, first", false)
            }
            Refusal::WrongBlob { .. } => {
                (S::UNPROCESSABLE_ENTITY, 5022, "wrong_blob", "send the bytes that the hash in the path is of", false)
            }
            Refusal::NotItsJob { .. } => {
                (S::FORBIDDEN, 5023, "not_its_job", "only machines with a lease of the job report its progress", false)
            }
            Refusal::BadProgress(_) => {
                (S::UNPROCESSABLE_ENTITY, 5024, "bad_progress", "see ProgressBatch in /v1/openapi.json", false)
            }
            Refusal::ProgressFull { .. } => {
                (S::INSUFFICIENT_STORAGE, 5025, "progress_full", "nothing is to be done: the job itself goes on", false)
            }
            Refusal::StorageFull => {
                (S::INSUFFICIENT_STORAGE, 5026, "storage_full", "use another gateway, or ask its operator for room", true)
            }

            Refusal::NoRegistrar => {
                (S::NOT_IMPLEMENTED, 5030, "no_registrar", "ask one of the market's registrars for a voucher", false)
            }
            Refusal::BadIdentity(_) => (S::BAD_REQUEST, 5031, "bad_identity", "for example a mail address", false),

            Refusal::Form(error) => (S::BAD_REQUEST, error.code(), form_name(error), form_hint(error), false),
            Refusal::Spec(error) => (S::UNPROCESSABLE_ENTITY, error.code(), "bad_spec", "", false),
            Refusal::Passed(_) => unreachable!("a passed body is its own entry"),
        }
    }

    /// The seconds after which the same request may be answered, where time is all that is missing.
    fn retry_after(&self, status: StatusCode) -> Option<u64> {
        match self {
            Refusal::TooMany(_, seconds) => Some(*seconds),
            _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// The whole answer as bytes, for a connection that nothing is read from.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let (status, body) = self.body();
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let retry = self.retry_after(status).map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
            json.len()
        );
        [head.into_bytes(), json].concat()
    }

    /// What is sent.
    pub(crate) fn body(&self) -> (StatusCode, ErrorBody) {
        match self {
            Refusal::Passed(body) => (passed_status(body), (**body).clone()),
            Refusal::Spec(error) => {
                let (status, code, name, _, retryable) = self.entry();
                let place = if error.place.is_empty() { String::new() } else { format!("{}: ", error.place) };
                let message = format!("{place}{}", error.message);
                (status, ErrorBody { code, name: name.into(), message, hint: error.hint.clone(), retryable })
            }
            _ => {
                let (status, code, name, hint, retryable) = self.entry();
                (status, ErrorBody { code, name: name.into(), message: self.to_string(), hint: hint.into(), retryable })
            }
        }
    }
}

/// The HTTP status of a refusal by ledger or mempool.
fn passed_status(body: &ErrorBody) -> StatusCode {
    match (body.code, body.retryable) {
        (1000..2000, _) => StatusCode::BAD_REQUEST,
        (4000..5000, true) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn form_name(error: &FormError) -> &'static str {
    match error {
        FormError::NotCanonical(_) => "not_canonical",
        FormError::TooLong { .. } => "too_long",
        FormError::UnknownVersion(_) => "unknown_version",
        FormError::BadPublicKey => "bad_public_key",
        FormError::BadSignature => "bad_signature",
        FormError::BadText { .. } => "bad_text",
        FormError::BadAvailability(_) => "bad_availability",
    }
}

fn form_hint(error: &FormError) -> &'static str {
    match error {
        FormError::NotCanonical(_) => "send the canonical bytes that this release's client makes",
        FormError::TooLong { .. } | FormError::BadText { .. } => "shorten it",
        FormError::UnknownVersion(_) => "",
        FormError::BadPublicKey => "a key has 64 hex digits",
        FormError::BadAvailability(_) => "name at least one weekday, and hours like 18:00-08:00",
        FormError::BadSignature => "sign for this market's chain id with the key that is named",
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Refusal::Internal(why) = &self {
            tracing::error!(why, "a request failed");
        }
        let (status, body) = self.body();
        match self.retry_after(status) {
            Some(seconds) => (status, [(header::RETRY_AFTER, seconds.to_string())], Json(body)).into_response(),
            None => (status, Json(body)).into_response(),
        }
    }
}
