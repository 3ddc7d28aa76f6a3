//! The main job, from an empty folder to a trained and paid model, with every part real.

use std::{path::Path, time::Instant};

use deepmarket_api::{AccountView, HistoryEntry, JobView, LedgerView, ProgressKind};
use deepmarket_types::{AccountId, Event, Hash, SecretKey};
use serde::Serialize;

use crate::{
    args::Demo,
    error::{Failure, Outcome, io},
    keys,
    local_market::LocalMarket,
    output::{self, Output, credits},
    processes::stop_signal,
    settings::Settings,
    verbs::{account, data, follow, job, lend, result},
};

/// What the demo prints with `--json`.
#[derive(Serialize)]
struct Report {
    /// Correct share of the validation split, computed again on this machine from the fetched model.
    accuracy: Option<f64>,
    /// What the workers reported for the last epoch.
    reported_accuracy: Option<f64>,
    /// From submitting to the end of the job, in seconds.
    wall_s: f64,
    /// From an empty folder to the report, in seconds.
    total_s: f64,
    /// Quoted training time in seconds.
    quoted_s: Option<f64>,
    /// Sent between the workers.
    bytes_exchanged: u64,
    /// Balances in microcredits.
    accounts: Vec<AccountLine>,
    /// Every receipt that the chain accepted.
    receipts: Vec<Event>,
    /// Is what was minted the sum of all purses and escrows?
    conserved: bool,
    /// The ledger's totals.
    ledger: LedgerView,
    /// Time and memory of each worker.
    workers: Vec<ProgressKind>,
    /// Accuracy after each epoch.
    curve: Vec<f64>,
    job: JobView,
}

#[derive(Serialize)]
struct AccountLine {
    name: &'static str,
    id: AccountId,
    before: u64,
    after: u64,
}

pub async fn run(settings: &Settings, args: Demo) -> Outcome {
    // Before anything is started: is all there that the demo needs?
    if !args.dataset.is_dir() {
        return Err(Failure::user(format!("there is no dataset in {}", args.dataset.display()))
            .hint("`make mnist` puts MNIST's files there; another folder with IDX files: --dataset DIR"));
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
    // Parts that are killed are started again while the demo goes on.
    let outcome = perform(output, folder, args, &mut market).await;
    market.stop().await;
    let report = outcome?;
    output.show(&report, || describe(&report))?;
    if let Some(keep) = &args.keep {
        output.say(format!("the market's folder is kept: {}", keep.display()));
    }
    report.verdict()
}

async fn perform(output: Output, folder: &Path, args: &Demo, market: &mut LocalMarket) -> Outcome<Report> {
    let began = Instant::now();
    let client = market.client.clone();
    let (lender, borrower) = (new_key(folder, "lender")?, new_key(folder, "borrower")?);
    let opened = [
        account::open_if_new(&client, &lender, "lender@pdx.example").await?,
        account::open_if_new(&client, &borrower, "borrower@pdx.example").await?,
    ];
    output.say(format!("accounts opened: lender {}, borrower {}", balance(&opened[0]), balance(&opened[1])));
    market.lend(&lender, args.machines, lend::Offering::one_core(), output).await?;
    lend::wait_until_idle(&client, &lender, args.machines as usize).await?;
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
    let quote = job::quote(&client, &spec).await?;
    output.say(job::describe_quote(&spec, &quote));

    let submitted = Instant::now();
    let id = job::submit(&client, &borrower, &spec).await?;
    output.say(format!("{id} is submitted; {} are in escrow", credits(spec.budget.max)));
    let mut heard = follow::Heard::default();
    tokio::select! {
        followed = follow::listen(&client, id, output, &mut heard) => followed?,
        stopped = market.keep_running(true, output) => match stopped? {},
    }
    let wall_s = submitted.elapsed().as_secs_f64();
    let ended = job::fetch(&client, id).await?;
    if !follow::finished(&ended) {
        return Err(Failure::environment(format!("{id} did not finish: {}", ended.status))
            .hint("run again with --keep DIR and see the output.log files there"));
    }

    let out = folder.join("result");
    let fetched = result::fetch(&client, &ended, &out).await?;
    output.say(format!("model fetched: {} ({})", fetched.model_path.display(), output::bytes(fetched.model.len() as u64)));
    let evaluated = result::evaluate(&client, &spec, fetched.model.to_vec()).await?;
    let accounts = [("lender", &lender, &opened[0]), ("borrower", &borrower, &opened[1])];
    let mut lines = Vec::new();
    for (name, key, before) in accounts {
        let id = AccountId::from_key(&key.public());
        let after = account::fetch(&client, id).await?;
        lines.push(AccountLine { name, id, before: balance_micro(before), after: balance_micro(&after) });
    }
    let history = whole_history(market, &ended).await?;
    let receipts = history.into_iter().map(|entry| entry.event).filter(|e| matches!(e, Event::Receipt { .. })).collect();
    let ledger = client.ledger().await?;
    let curve: Vec<f64> =
        heard.epochs.values().filter_map(|(correct, samples, _)| correct.map(|c| follow::percent(c, *samples) / 100.0)).collect();
    Ok(Report {
        accuracy: evaluated.correct.map(|c| follow::percent(c, evaluated.samples) / 100.0),
        reported_accuracy: curve.last().copied(),
        wall_s,
        total_s: began.elapsed().as_secs_f64(),
        quoted_s: quote.expected_ms.map(|ms| ms as f64 / 1000.0),
        bytes_exchanged: sent(heard.done.values()),
        accounts: lines,
        receipts,
        conserved: ledger.conserved,
        ledger,
        workers: heard.done.into_values().collect(),
        curve,
        job: ended,
    })
}

impl Report {
    /// Did all hold that must hold? Exit status 0 only then.
    fn verdict(&self) -> Outcome {
        let earned = self.accounts.iter().any(|a| a.name == "lender" && a.after > a.before);
        let paid_by_receipts: u64 =
            self.receipts.iter().map(|event| if let Event::Receipt { payout, .. } = event { payout.micro() } else { 0 }).sum();
        let moved: u64 = self.accounts.iter().map(|a| a.after.saturating_sub(a.before)).sum();
        let checks = [
            (self.conserved, "the ledger's totals don't agree"),
            (earned, "the lender earned nothing"),
            (paid_by_receipts == self.job.paid.micro(), "the receipts' payouts are not what the job paid"),
            (moved == self.job.paid.micro(), "the lender's gain is not what the job paid"),
            (self.job.escrow.is_zero(), "the closed job still holds an escrow"),
            (self.accuracy == self.reported_accuracy, "the fetched model's accuracy is not what the workers reported"),
        ];
        match checks.iter().find(|(held, _)| !held) {
            Some((_, what)) => Err(Failure::bug(what)),
            None => Ok(()),
        }
    }
}

fn describe(report: &Report) -> String {
    let percent = |share: Option<f64>| share.map_or("not a classification".into(), |a| format!("{:.2} %", a * 100.0));
    let expected = report.quoted_s.map_or("unknown".into(), |s| output::duration((s * 1000.0) as u64));
    let summary = [
        ("test accuracy, computed here", percent(report.accuracy)),
        ("test accuracy, as reported", percent(report.reported_accuracy)),
        ("wall time of the job", format!("{} (quoted: {expected})", output::duration((report.wall_s * 1000.0) as u64))),
        ("bytes exchanged by workers", output::bytes(report.bytes_exchanged)),
        ("paid to lenders", credits(report.job.paid)),
        (
            "ledger",
            format!(
                "{} minted = {} in purses + {} in escrow: {}",
                report.ledger.minted,
                report.ledger.purses,
                report.ledger.escrow,
                if report.conserved { "conserved" } else { "NOT CONSERVED" }
            ),
        ),
    ];
    let accounts = report.accounts.iter().map(|a| {
        let show = |micro| credits(deepmarket_types::Credits::from_micro(micro));
        let sign = if a.after >= a.before { "+" } else { "-" };
        vec![a.name.to_owned(), show(a.before), show(a.after), format!("{sign}{}", show(a.after.abs_diff(a.before)))]
    });
    // What matters most stands last: that is where a terminal's reader looks.
    format!(
        "{}\n{}\n{}",
        job::receipts_table(report.receipts.iter()),
        output::table(&["account", "before", "after", "change"], &[1, 2, 3], accounts),
        output::table(&["the main job", ""], &[], summary.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
    )
}

/// All events of a job, oldest first.
async fn whole_history(market: &LocalMarket, ended: &JobView) -> Outcome<Vec<HistoryEntry>> {
    let mut all: Vec<HistoryEntry> = Vec::new();
    loop {
        let before = all.last().map(|entry| (entry.height, entry.index));
        let page = market.client.job_history(ended.id, before, 500).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    all.reverse();
    Ok(all)
}

fn sent<'a>(workers: impl Iterator<Item = &'a ProgressKind>) -> u64 {
    workers.map(|kind| if let ProgressKind::Done { sent_bytes, .. } = kind { *sent_bytes } else { 0 }).sum()
}

fn new_key(folder: &Path, name: &str) -> Outcome<SecretKey> {
    keys::read_or_make(&folder.join(format!("{name}.json")))
}

fn balance_micro(account: &AccountView) -> u64 {
    account.granted.micro() + account.earned.micro()
}

fn balance(account: &AccountView) -> String {
    credits(deepmarket_types::Credits::from_micro(balance_micro(account)))
}
