use deepmarket_types::Height;

use crate::{
    args::Chain,
    error::{Failure, Outcome},
    output::{self, credits},
    settings::Settings,
};

pub async fn run(settings: &Settings, verb: Chain) -> Outcome {
    let client = settings.client()?;
    match verb {
        Chain::Status => {
            let (status, ledger) = (client.status().await?, client.ledger().await?);
            settings.output.show(&serde_json::json!({ "status": status, "ledger": ledger }), || {
                let rows = [
                    ("market", status.name.clone()),
                    ("chain", status.chain.to_string()),
                    ("height", status.height.to_string()),
                    ("time", output::time(status.time)),
                    ("state root", status.state_root.to_string()),
                    ("validators", format!("{} (asked: {})", status.validators, status.validator)),
                    ("waiting transactions", status.mempool.to_string()),
                    ("minted", credits(ledger.minted)),
                    ("in purses", credits(ledger.purses)),
                    ("in escrow", credits(ledger.escrow)),
                    ("conserved", if ledger.conserved { "yes" } else { "NO" }.to_owned()),
                ];
                output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
            })
        }
        Chain::Block { height } => {
            let block = client.block(height.map(Height)).await?.ok_or_else(|| {
                Failure::user(format!("there is no block {}", height.unwrap_or_default()))
                    .hint("deepmarket chain status shows the tip")
            })?;
            settings.output.show(&block, || {
                let rows = block.transactions.iter().map(|t| {
                    let result = if t.code == 0 { "ok".to_owned() } else { format!("{} {}", t.code, t.message) };
                    vec![t.action.clone(), t.id.to_string(), result]
                });
                format!(
                    "block {} of {}\nhash       {}\nstate root {} (before)\nproposer   {}\nround {}, signed by {} validators\n{}",
                    block.header.height,
                    output::time(block.header.time),
                    block.hash,
                    block.header.state_root,
                    block.header.proposer,
                    block.round,
                    block.signers.len(),
                    output::table(&["transaction", "id", "result"], &[], rows)
                )
            })
        }
        Chain::Tx { id } => {
            let status = client.transaction(id).await?.ok_or_else(|| {
                Failure::user(format!("no transaction {id} is known"))
                    .hint("it may have expired, or another gateway may still hold it: ask again in a moment")
            })?;
            settings.output.show(&status, || {
                let place = match (status.height, status.index) {
                    (Some(height), Some(index)) => format!("block {height}, number {index}"),
                    _ => "waiting".to_owned(),
                };
                let result = match status.code {
                    None => "not decided yet".to_owned(),
                    Some(0) => "ok".to_owned(),
                    Some(code) => format!("rejected: {code} {}", status.message),
                };
                let body =
                    status.transaction.as_ref().and_then(|t| serde_json::to_string_pretty(&t.body).ok()).unwrap_or_default();
                format!("transaction {id}\n{place}\n{result}\n{body}")
            })
        }
    }
}
