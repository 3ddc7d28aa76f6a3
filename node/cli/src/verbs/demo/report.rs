//! What the demo shows at its end, and whether all held that must hold.

use deepmarket_api::{JobView, LedgerView, ProgressKind, Quote, Statement, StatementCause};
use deepmarket_types::{AccountId, Credits, Event};
use deepmarket_wallet::verification::Verification;
use serde::Serialize;

use crate::{
    error::{Failure, Outcome},
    output::{self, credits},
    verbs::job::{self, record::WorkerTimes},
};

/// How far the quote of the second run may be from what came, in percent. The first run is quoted by a benchmark of each
/// machine alone, and its quote may be wrong by what the machines share; the second is quoted by what the first one showed.
const MAX_DEVIATION_PERCENT: f64 = 25.0;

/// What the demo prints with `--json`.
#[derive(Serialize)]
pub struct Report {
    /// Correct share of the validation split, computed again on this machine from the fetched model.
    pub accuracy: Option<f64>,
    /// What the workers reported for the last epoch.
    pub reported_accuracy: Option<f64>,
    /// From submitting to the end of the first job, in seconds.
    pub wall_s: f64,
    /// From an empty folder to the report, in seconds.
    pub total_s: f64,
    /// Sent between the workers of the first job.
    pub bytes_exchanged: u64,
    /// Balances in microcredits, before the jobs and after.
    pub accounts: Vec<AccountLine>,
    /// Every receipt that the chain accepted.
    pub receipts: Vec<Event>,
    /// Is what was minted the sum of all purses and escrows?
    pub conserved: bool,
    /// The ledger's totals.
    pub ledger: LedgerView,
    /// Time and memory of each worker of the first job.
    pub workers: Vec<ProgressKind>,
    /// Where each worker's time of the first job went.
    pub times: Vec<WorkerTimes>,
    /// Accuracy after each epoch of the first job.
    pub curve: Vec<f64>,
    /// The first job.
    pub job: JobView,
    /// The second job, unless one was enough.
    pub second: Option<JobView>,
    /// What audits found about each of the jobs until the report was written.
    pub verified: Vec<Verification>,
    /// What was quoted for each of the jobs, and what came.
    pub quoted: Vec<Quoted>,
    /// Why the borrower's balance is what it is.
    pub statement: Statement,
}

/// Before and after.
#[derive(Serialize)]
pub struct AccountLine {
    /// The account's part in the demo.
    pub name: String,
    /// The account.
    pub id: AccountId,
    /// Microcredits.
    pub before: u64,
    /// Microcredits.
    pub after: u64,
    /// What of it came for auditing others' work, in microcredits.
    pub audits: u64,
}

/// A job's quote beside what came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quoted {
    /// Epochs of the job.
    pub epochs: u32,
    /// Quoted time from the start to the end, in milliseconds; none without a measured machine.
    pub quoted_ms: Option<u64>,
    /// The time that it took.
    pub real_ms: u64,
    /// Quoted cost.
    pub quoted_cost: Credits,
    /// What it cost.
    pub real_cost: Credits,
}

impl Quoted {
    /// Of a job that has ended.
    pub fn of(epochs: u32, quote: &Quote, ended: &JobView) -> Quoted {
        let real_ms = ended.started.zip(ended.ended).map_or(0, |(started, ended)| ended.since(started));
        let real_cost = [ended.paid, ended.fees].into_iter().sum();
        Quoted { epochs, quoted_ms: quote.expected_ms, real_ms, quoted_cost: quote.expected_cost, real_cost }
    }

    /// How far the quoted time is from the real one, in percent of that.
    fn time_off(&self) -> Option<f64> {
        self.quoted_ms.and_then(|quoted| off(quoted, self.real_ms))
    }

    /// How far the quoted cost is from the real one, in percent of that.
    fn cost_off(&self) -> Option<f64> {
        off(self.quoted_cost.micro(), self.real_cost.micro())
    }

    fn is_close(&self) -> bool {
        let close = |off: Option<f64>| off.is_some_and(|percent| percent.abs() <= MAX_DEVIATION_PERCENT);
        close(self.time_off()) && close(self.cost_off())
    }
}

fn off(quoted: u64, real: u64) -> Option<f64> {
    (real > 0).then(|| (quoted as f64 / real as f64 - 1.0) * 100.0)
}

impl Report {
    /// Did all hold that must hold? Exit status 0 only then. How close a quote came isn't part of it: that depends on what
    /// else the machine does while the demo runs.
    pub fn verdict(&self) -> Outcome {
        let lenders = || self.accounts.iter().filter(|account| account.name.starts_with("lender"));
        let gained: u64 = lenders().map(|account| account.after.saturating_sub(account.before)).sum();
        let by_audits: u64 = lenders().map(|account| account.audits).sum();
        let paid_by_receipts: u64 =
            self.receipts.iter().map(|event| if let Event::Receipt { payout, .. } = event { payout.micro() } else { 0 }).sum();
        let paid = self.paid();
        let (held, treasury, fees) = (self.ledger.held.micro(), self.ledger.treasury.micro(), self.fees().micro());
        let borrower = self.accounts.iter().find(|account| account.name == "borrower");
        let (borrowers, spent) =
            (borrower.map(|account| account.after), borrower.map(|account| account.before.saturating_sub(account.after)));
        let checks = [
            (self.conserved, "the ledger's totals don't agree"),
            (gained + held > 0, "the lenders earned nothing"),
            (paid_by_receipts == paid.micro(), "the receipts' payouts are not what the jobs paid"),
            (gained + held == paid.micro() + by_audits, "the lenders' gain, with what is held, is not what the jobs paid"),
            (treasury + by_audits == fees, "the treasury and the auditors' pay are not what the jobs paid for audits"),
            (spent == Some(paid.micro() + fees), "the borrower's loss is not what the jobs paid"),
            (self.verified.iter().all(|job| job.counts.wrong + job.counts.silent == 0), "honest work was found false"),
            (self.jobs().all(|job| job.escrow.is_zero()), "a closed job still holds an escrow"),
            (self.accuracy == self.reported_accuracy, "the fetched model's accuracy is not what the workers reported"),
            (self.statement.balanced && adds_up(&self.statement, borrowers), "the borrower's statement doesn't add up"),
        ];
        match checks.iter().find(|(held, _)| !held) {
            Some((_, what)) => Err(Failure::bug(what)),
            None => Ok(()),
        }
    }

    fn paid(&self) -> Credits {
        self.jobs().map(|job| job.paid).sum()
    }

    fn fees(&self) -> Credits {
        self.jobs().map(|job| job.fees).sum()
    }

    fn jobs(&self) -> impl Iterator<Item = &JobView> {
        std::iter::once(&self.job).chain(&self.second)
    }

    /// The report for people. What matters most stands last: that is where a terminal's reader looks.
    pub fn describe(&self) -> String {
        let percent = |share: Option<f64>| share.map_or("not a classification".into(), |a| format!("{:.2} %", a * 100.0));
        let LedgerView { minted, purses, escrow, held, treasury, .. } = &self.ledger;
        let kept = if self.conserved { "conserved" } else { "NOT CONSERVED" };
        let mut summary = vec![
            ("test accuracy, computed here", percent(self.accuracy)),
            ("test accuracy, as reported", percent(self.reported_accuracy)),
            ("wall time of the job", output::duration((self.wall_s * 1000.0) as u64)),
            ("bytes exchanged by workers", output::bytes(self.bytes_exchanged)),
            ("paid to lenders", credits(self.paid())),
        ];
        for job in self.verified.iter().filter(|job| job.is_audited()) {
            let open = if job.is_open() { " (goes on; the demo doesn't wait for it)" } else { "" };
            summary.push(("work computed again", format!("{}: {}{open}", job.job, job.sentence())));
        }
        if !held.is_zero() {
            let last = self.verified.iter().filter_map(|job| job.vests).max();
            let last = last.map(|last| format!(": the last of it vests at {}", output::time(last)));
            summary.push(("held of the lenders' pay", format!("{}{}", credits(*held), last.unwrap_or_default())));
        }
        let others = match (held.is_zero(), treasury.is_zero()) {
            (true, true) => String::new(),
            _ => format!(" + {held} held + {treasury} in the treasury"),
        };
        summary.extend([
            ("the borrower's balance", sentence(&self.statement)),
            ("ledger", format!("{minted} minted = {purses} in purses + {escrow} in escrow{others}: {kept}")),
        ]);
        let accounts = self.accounts.iter().map(|a| {
            let show = |micro| credits(Credits::from_micro(micro));
            let sign = if a.after >= a.before { "+" } else { "-" };
            vec![a.name.clone(), show(a.before), show(a.after), format!("{sign}{}", show(a.after.abs_diff(a.before)))]
        });
        format!(
            "{}\n{}\n{}\n{}\n{}",
            job::receipts_table(self.receipts.iter()),
            job::record::times_table(&self.times, &self.job.leases),
            output::table(&["account", "before", "after", "change"], &[1, 2, 3], accounts),
            quotes_table(&self.quoted),
            output::table(&["the main job", ""], &[], summary.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
        )
    }
}

fn quotes_table(quoted: &[Quoted]) -> String {
    let sources = ["by its benchmark", "by the first run"];
    let off = |percent: Option<f64>| percent.map_or("?".into(), |percent| format!("{percent:+.0} %"));
    let rows = quoted.iter().zip(sources).enumerate().flat_map(|(number, (run, source))| {
        let name = format!("run {}, {} epochs, quoted {source}", number + 1, run.epochs);
        let time = run.quoted_ms.map_or("unknown".into(), output::duration);
        [
            vec![format!("{name}: time"), time, output::duration(run.real_ms), off(run.time_off())],
            vec![
                format!("{name}: credits"),
                output::aligned(run.quoted_cost),
                output::aligned(run.real_cost),
                off(run.cost_off()),
            ],
        ]
    });
    let table = output::table(&["quoted and real", "quoted", "real", "off by"], &[1, 2, 3], rows);
    match quoted.get(1).is_none_or(Quoted::is_close) {
        true => table,
        false => format!(
            "{table}\nthe second run's quote is more than {MAX_DEVIATION_PERCENT} % off: the machine was busier or idler than in the first"
        ),
    }
}

/// Are the lines the balance, and is it the account's?
fn adds_up(statement: &Statement, balance: Option<u64>) -> bool {
    let micro = |amount: Credits| i128::from(amount.micro());
    let sum: i128 = statement.lines.iter().map(|line| micro(line.incoming) - micro(line.outgoing)).sum();
    sum == micro(statement.granted) + micro(statement.earned) && balance.map(i128::from) == Some(sum)
}

/// `50 starting credits - 0.07 for job-1 = 49.93 credits`: every line of a statement, and their sum.
fn sentence(statement: &Statement) -> String {
    let mut text = String::new();
    for line in &statement.lines {
        let (comes, amount) = match line.incoming.checked_sub(line.outgoing) {
            Some(amount) => (true, amount),
            None => (false, line.outgoing.saturating_sub(line.incoming)),
        };
        text += match (comes, text.is_empty()) {
            (true, true) => "",
            (true, false) => " + ",
            (false, true) => "-",
            (false, false) => " - ",
        };
        text += &match line.cause {
            StatementCause::StartingCredits => format!("{amount} starting credits"),
            StatementCause::Account(other) => format!("{amount} {} {other}", if comes { "from" } else { "to" }),
            StatementCause::Job(job) => format!("{amount} for {job}"),
            StatementCause::Machine(machine) => format!("{amount} earned by {machine}"),
            StatementCause::Audits => format!("{amount} for audits"),
        };
    }
    let balance: Credits = [statement.granted, statement.earned].into_iter().sum();
    format!("{text} = {}", credits(balance))
}

#[cfg(test)]
mod tests {
    use deepmarket_api::StatementLine;
    use deepmarket_types::{Height, JobId};

    use super::*;

    fn run(quoted_ms: Option<u64>, real_ms: u64, quoted_micro: u64, real_micro: u64) -> Quoted {
        let [quoted_cost, real_cost] = [quoted_micro, real_micro].map(Credits::from_micro);
        Quoted { epochs: 2, quoted_ms, real_ms, quoted_cost, real_cost }
    }

    #[test]
    fn a_quote_is_close_where_time_and_cost_are_within_a_quarter_of_what_came() {
        assert!(run(Some(125), 100, 75, 100).is_close());
        assert!(!run(Some(126), 100, 100, 100).is_close());
        assert!(!run(Some(100), 100, 74, 100).is_close());
        assert!(!run(None, 100, 100, 100).is_close());
        assert!(!run(Some(100), 0, 100, 0).is_close(), "a run that took and cost nothing shows nothing");
    }

    #[test]
    fn a_statement_reads_as_a_sum_and_is_checked_as_one() {
        let line = |cause, incoming: u64, outgoing: u64| {
            let [incoming, outgoing] = [incoming, outgoing].map(Credits::from_micro);
            StatementLine { cause, incoming, outgoing, entries: 2 }
        };
        let lines = vec![
            line(StatementCause::StartingCredits, 50_000_000, 0),
            line(StatementCause::Job(JobId(1)), 19_925_000, 20_000_000),
            line(StatementCause::Job(JobId(2)), 19_970_000, 20_000_000),
        ];
        let (granted, earned) = (Credits::from_micro(49_895_000), Credits::ZERO);
        let mut statement = Statement { height: Height(9), granted, earned, lines, balanced: true };
        assert_eq!(sentence(&statement), "50 starting credits - 0.075 for job-1 - 0.03 for job-2 = 49.895 credits");
        assert!(adds_up(&statement, Some(49_895_000)));
        assert!(!adds_up(&statement, Some(49_895_001)));
        statement.lines.pop();
        assert!(!adds_up(&statement, Some(49_895_000)));
    }
}
