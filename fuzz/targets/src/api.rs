//! What gateways and their users send to each other.

use deepmarket_api::{
    AccountView, Assignment, BlockEvent, BlockView, ErrorBody, EvaluationRequest, HistoryEntry, JobEvent, JobView, MachineView,
    Network, Progress, ProgressBatch, Quote, QuoteRequest, Statement, Status, TransactionStatus, VoucherRequest, VoucherResponse,
    client::parse_pieces, progress_content,
};
use deepmarket_types::JobId;

use crate::check::{said, settles};

/// The JSON body of a request; the first byte says of which.
pub(crate) fn rest_body(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 5 {
        0 => drop(settles::<VoucherRequest>(data)),
        1 => drop(settles::<QuoteRequest>(data)),
        2 => {
            if let Some(EvaluationRequest { offer, config }) = settles(data) {
                offer.availability.check().err().iter().for_each(said);
                config.iter().for_each(|config| config.check().err().iter().for_each(said));
            }
        }
        3 => {
            if let Some(batch) = settles::<ProgressBatch>(data) {
                progress_content(JobId(1), &batch.entries);
                settles::<Vec<Progress>>(batch.entries.as_bytes());
            }
        }
        _ => drop(settles::<Vec<Progress>>(data)),
    }
}

/// A gateway's answer, which wallets and workers don't trust; the first byte says of which kind.
pub(crate) fn rest_answer(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 16 {
        0 => drop(settles::<Status>(data)),
        1 => drop(settles::<Network>(data)),
        2 => drop(settles::<TransactionStatus>(data)),
        3 => drop(settles::<BlockView>(data)),
        4 => drop(settles::<AccountView>(data)),
        5 => drop(settles::<HistoryEntry>(data)),
        6 => drop(settles::<MachineView>(data)),
        7 => drop(settles::<JobView>(data)),
        8 => drop(settles::<Assignment>(data)),
        9 => drop(settles::<Quote>(data)),
        10 => drop(settles::<Statement>(data)),
        11 => drop(settles::<VoucherResponse>(data)),
        12 => drop(settles::<JobEvent>(data)),
        13 => drop(settles::<BlockEvent>(data)),
        14 => drop(settles::<ErrorBody>(data)),
        _ => event_stream(data),
    }
}

/// Server-sent events are the same in whatever pieces they come.
fn event_stream(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = parse_pieces(std::iter::once(stream));
    let pieces = parse_pieces(stream.chunks(usize::from(*size).max(1)));
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Err(error), Err(_)) => said(error),
        _ => panic!("{whole:?} in one piece, and {pieces:?} in several"),
    }
}
