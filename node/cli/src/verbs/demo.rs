//! The main job, from an empty folder to a trained and paid model, with every part real.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use deepmarket_api::{AccountView, Client, JobView, LedgerView, ProgressKind, Statement};
use deepmarket_job::JobSpec;
use deepmarket_types::{AccountId, Event, Hash, JobId, SecretKey};
use deepmarket_wallet::{accounts, jobs, keys};

use crate::{
    args::Demo,
    error::{Failure, Outcome, io},
    local_market::{LocalMarket, lender_identity, lender_keys},
    output::{self, Output, credits},
    processes::stop_signal,
    settings::Settings,
    verbs::{
        data, follow,
        job::{self, record::Record},
        lend, result,
    },
};

mod report;

use report::{AccountLine, Quoted, Report};

/// The second run has as many epochs as this time gives, by what the first run took: it shows how good a quote is, and need not
/// be as long.
const SECOND_RUN_MS: u64 = 40_000;
/// How long the first run's audits are waited for. What is open then goes on, and the report says so.
const AUDITS_PATIENCE: Duration = Duration::from_secs(20);
/// The same for the second run.
const SECOND_AUDITS_PATIENCE: Duration = Duration::from_secs(10);
/// How often the balances are read until no block changed them meanwhile.
const BALANCE_TRIES: u32 = 20;

pub async fn run(settings: &Settings, args: Demo) -> Outcome {
    // Before anything is started: is all there that the demo needs?
    if !args.dataset.is_dir() {
        return Err(Failure::user(format!("there is no dataset in {}", args.dataset.display()))
            .with_hint("`make mnist` puts MNIST's files there; another folder with IDX files: --dataset DIR"));
    }
    job::parse_spec(&args.job, &|_| Some(Hash::default()))?;
    let stop = stop_signal(false)?;
    let temporary = tempfile::tempdir().map_err(io("making a temporary folder"))?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    tokio::select! {
        outcome = play(settings.output, &folder, &args) => outcome,
        () = stop.cancelled() => Err(Failure::user("the demo was stopped; its processes are ended")),
    }
}

async fn play(output: Output, folder: &Path, args: &Demo) -> Outcome {
    let mut market = LocalMarket::start(folder, None, output).await?;
    let outcome = perform(output, folder, args, &mut market).await;
    market.stop().await;
    let report = outcome?;
    output.show(&report, || report.describe())?;
    if let Some(keep) = &args.keep {
        output.say(format!("the market's folder is kept: {}", keep.display()));
    }
    report.verdict()
}

async fn perform(output: Output, folder: &Path, args: &Demo, market: &mut LocalMarket) -> Outcome<Report> {
    let began = Instant::now();
    let client = market.client.clone();
    let (lenders, borrower) = (lender_keys(folder, args.machines)?, keys::read_or_make(&folder.join("borrower.json"))?);
    let mut people = Vec::new();
    for (number, lender) in lenders.iter().enumerate() {
        let opened = accounts::open(&client, lender, &lender_identity(number, "pdx.example")).await?;
        let name = if number == 0 { "lender".to_owned() } else { format!("lender {}", number + 1) };
        people.push((name, opened));
    }
    people.push(("borrower".to_owned(), accounts::open(&client, &borrower, "borrower@pdx.example").await?));
    let opened: Vec<String> = people.iter().map(|(name, opened)| format!("{name} {}", balance(opened))).collect();
    output.say(format!("accounts opened: {}", opened.join(", ")));
    market.lend(&lenders, args.machines, lend::Offering::one_core(), output).await?;
    lend::wait_until_idle(&client, &lenders, args.machines as usize).await?;
    let prices = client.prices().await?;
    let slot = usize::from(prices.current_slot);
    let now = prices.prices.slots[slot];
    output.say(format!(
        "prices now (slot {}): {} per core-hour, {} per GiB-hour",
        prices.slot_names.get(slot).map_or("?", String::as_str),
        credits(now.core_hour),
        credits(now.ram_gib_hour)
    ));

    let dataset = data::add(&client, &market.chain, &borrower, &args.dataset, "demo", output).await?;
    output.say(format!("dataset stored: {}, manifest {}", output::bytes(dataset.bytes), dataset.manifest));
    // The job may call the demo's dataset as it likes.
    let spec = job::parse_spec(&args.job, &|_| Some(dataset.manifest))?;
    let quote = jobs::quote(&client, &spec).await?;
    output.say(job::describe_quote(&spec, &quote));

    let Run { id, record, wall_s, ended } = train(output, market, &borrower, &spec).await?;
    let out = folder.join("result");
    let fetched = result::fetch(&client, &ended, &out).await?;
    output.say(format!("model fetched: {} ({})", fetched.model_path.display(), output::bytes(fetched.model.len() as u64)));
    let evaluated = result::evaluate(&client, &spec, fetched.model.to_vec()).await?;
    let mut verified = vec![job::wait_for_audits(&client, id, Some(AUDITS_PATIENCE), output).await?];

    // Now the machines have shown how fast they are together: how good is the next quote?
    let (mut quoted, mut second) = (vec![Quoted::of(spec.training.epochs, &quote, &ended)], None);
    if !args.once {
        let mut again = spec.clone();
        again.training.epochs = second_epochs(spec.training.epochs, quoted[0].real_ms);
        output.say(format!("{id} is done; the same job once more, with {} epochs:", again.training.epochs));
        lend::wait_until_idle(&client, &lenders, args.machines as usize).await?;
        let quote = jobs::quote(&client, &again).await?;
        output.say(job::describe_quote(&again, &quote));
        let ended = train(output, market, &borrower, &again).await?.ended;
        quoted.push(Quoted::of(again.training.epochs, &quote, &ended));
        verified.push(job::wait_for_audits(&client, ended.id, Some(SECOND_AUDITS_PATIENCE), output).await?);
        second = Some(jobs::fetch(&client, ended.id).await?);
    }
    // What audits changed since: fees are paid with receipts, and lost pay is told with its lease.
    let ended = jobs::fetch(&client, id).await?;

    let Balances { ledger, statements } = balances(&client, people.iter().map(|(_, opened)| opened.id)).await?;
    let line = |((name, before), after): ((String, AccountView), &Statement)| AccountLine {
        name,
        id: before.id,
        before: balance_micro(&before),
        after: after.granted.micro() + after.earned.micro(),
        audits: incoming_by_audits(after),
    };
    let lines: Vec<AccountLine> = people.into_iter().zip(&statements).map(line).collect();
    let mut receipts = Vec::new();
    for ran in std::iter::once(&ended).chain(&second) {
        let history = jobs::history(&client, ran.id).await?.into_iter().map(|entry| entry.event);
        receipts.extend(history.filter(|event| matches!(event, Event::Receipt { .. })));
    }
    let statement = statements.into_iter().next_back().expect("the borrower's is the last");
    let shares = record.epochs().into_iter().filter_map(|epoch| epoch.correct.map(|correct| (correct, epoch.samples)));
    let curve: Vec<f64> = shares.map(|(correct, samples)| follow::percent(correct, samples) / 100.0).collect();
    let totals = record.totals();
    Ok(Report {
        accuracy: evaluated.correct.map(|c| follow::percent(c, evaluated.samples) / 100.0),
        reported_accuracy: curve.last().copied(),
        wall_s,
        total_s: began.elapsed().as_secs_f64(),
        bytes_exchanged: sent(totals.iter()),
        accounts: lines,
        receipts,
        conserved: ledger.conserved,
        ledger,
        times: record.times(),
        workers: totals,
        curve,
        job: ended,
        second,
        verified,
        quoted,
        statement,
    })
}

/// A job that finished.
struct Run {
    id: JobId,
    record: Record,
    /// From submitting to the end, in seconds.
    wall_s: f64,
    ended: JobView,
}

/// Submits a job and follows it to its end.
async fn train(output: Output, market: &mut LocalMarket, borrower: &SecretKey, spec: &JobSpec) -> Outcome<Run> {
    let client = market.client.clone();
    let submitted = Instant::now();
    let id = jobs::submit(&client, borrower, spec).await?;
    output.say(format!("{id} is submitted; {} are in escrow", credits(spec.budget.max)));
    let mut record = Record::default();
    // Parts that are killed are started again while the demo goes on.
    tokio::select! {
        followed = follow::listen(&client, id, output, &mut record) => followed?,
        stopped = market.keep_running(true, output) => match stopped? {},
    }
    let wall_s = submitted.elapsed().as_secs_f64();
    let ended = jobs::fetch(&client, id).await?;
    if !follow::finished(&ended) {
        return Err(Failure::environment(format!("{id} did not finish: {}", ended.status))
            .with_hint("run again with --keep DIR and see the output.log files there"));
    }
    Ok(Run { id, record, wall_s, ended })
}

/// Two epochs at least: one alone is hardly more than the start.
fn second_epochs(epochs: u32, first_ms: u64) -> u32 {
    let fit = u64::from(epochs) * SECOND_RUN_MS / first_ms.max(1);
    u32::try_from(fit).unwrap_or(epochs).clamp(2.min(epochs), epochs)
}

fn sent<'a>(workers: impl Iterator<Item = &'a ProgressKind>) -> u64 {
    workers.map(|kind| if let ProgressKind::Done { sent_bytes, .. } = kind { *sent_bytes } else { 0 }).sum()
}

/// Balances of one moment.
struct Balances {
    ledger: LedgerView,
    statements: Vec<Statement>,
}

/// Reads them until nothing was paid out in between.
async fn balances(client: &Client, accounts: impl Iterator<Item = AccountId> + Clone) -> Outcome<Balances> {
    let of = |ledger: &LedgerView| (ledger.purses, ledger.held, ledger.treasury);
    let mut before = client.ledger().await?;
    for _ in 0..BALANCE_TRIES {
        let mut statements = Vec::new();
        for account in accounts.clone() {
            statements.push(client.statement(account).await?);
        }
        let ledger = client.ledger().await?;
        if of(&ledger) == of(&before) {
            return Ok(Balances { ledger, statements });
        }
        before = ledger;
    }
    Err(Failure::environment("the balances changed whenever they were read").with_hint("run the demo again"))
}

fn incoming_by_audits(statement: &Statement) -> u64 {
    let of_audits = statement.lines.iter().filter(|line| line.cause == deepmarket_api::StatementCause::Audits);
    of_audits.map(|line| line.incoming.micro()).sum()
}

fn balance_micro(account: &AccountView) -> u64 {
    account.granted.micro() + account.earned.micro()
}

fn balance(account: &AccountView) -> String {
    credits(deepmarket_types::Credits::from_micro(balance_micro(account)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_is_short_where_the_first_was_long() {
        assert_eq!(second_epochs(5, 82_000), 2);
        assert_eq!(second_epochs(5, 62_000), 3);
        assert_eq!(second_epochs(5, 9_000), 5);
        assert_eq!(second_epochs(5, 900_000), 2);
        assert_eq!(second_epochs(1, 0), 1);
    }
}
