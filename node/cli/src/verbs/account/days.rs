use deepmarket_api::{DayEntry, DayLine};
use deepmarket_types::Credits;
use deepmarket_wallet::accounts;
use serde::Serialize;

use super::{job_label, machine_label};
use crate::{
    error::Outcome,
    output::{self, aligned},
    settings::Settings,
    verbs::market,
    when::MarketClock,
};

/// What `account days` prints with `--json`.
#[derive(Serialize)]
struct Days {
    days: Vec<DayEntry>,
    profit: Credits,
    cost: Credits,
}

pub async fn run(settings: &Settings, who: Option<&str>, days: u32) -> Outcome {
    let id = settings.accounts.resolve(who, settings.account_name())?;
    let client = settings.client()?;
    accounts::fetch(&client, id).await?;
    let entries = client.days(id, days).await?;
    let is_profit = |entry: &&DayEntry| matches!(entry.line, DayLine::Profit(_));
    let profit = entries.iter().filter(is_profit).map(|entry| entry.credits).sum();
    let cost = entries.iter().filter(|entry| !is_profit(entry)).map(|entry| entry.credits).sum();
    let list = Days { days: entries, profit, cost };
    let clock = market::clock(&client).await?;
    settings.output.show(&list, || describe(&list, days, &clock))?;
    settings.output.next("deepmarket account statement, deepmarket account history");
    Ok(())
}

/// The paper's figure 2: machine or job, date, hours, credits.
fn describe(list: &Days, days: u32, clock: &MarketClock) -> String {
    if list.days.is_empty() {
        return format!("nothing was earned or spent in the last {days} day(s)");
    }
    let rows = list.days.iter().map(|entry| {
        let (what, sign) = match entry.line {
            DayLine::Profit(machine) => (machine_label(machine, &entry.name), '+'),
            DayLine::Cost(job) => (job_label(job, &entry.name), '-'),
        };
        vec![
            what,
            clock.date(entry.begins),
            format!("{:.4}", entry.paid_ms as f64 / 3_600_000.0),
            format!("{sign}{}", aligned(entry.credits)),
            entry.receipts.to_string(),
        ]
    });
    format!(
        "{}\n{days} days: profit {}, cost {}",
        output::table(&["machine or job", "date", "hours", "credits", "receipts"], &[2, 3, 4], rows),
        output::credits(list.profit),
        output::credits(list.cost)
    )
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{JobId, MachineId, SlotClock, TimeMs};

    use super::*;

    #[test]
    fn profit_and_cost_are_listed_by_day_and_summed() {
        let clock = MarketClock { slots: SlotClock { slot_ms: 21_600_000, utc_offset_ms: 0 }, now: TimeMs(1_795_613_460_000) };
        let entry = |line, name: &str, micro| DayEntry {
            day: 20_782,
            begins: TimeMs(20_782 * 86_400_000),
            line,
            name: name.into(),
            paid_ms: 5_400_000,
            credits: Credits::from_micro(micro),
            receipts: 9,
        };
        let list = Days {
            days: vec![
                entry(DayLine::Profit(MachineId([1; 20])), "lab", 1_500_000),
                entry(DayLine::Cost(JobId(3)), "mnist", 250_000),
            ],
            profit: Credits::from_micro(1_500_000),
            cost: Credits::from_micro(250_000),
        };
        let text = describe(&list, 30, &clock);
        for part in [
            "lab (dmm1",
            "job-3 'mnist'",
            "2026-11-25",
            "1.50",
            "+1.500000",
            "-0.250000",
            "30 days: profit 1.5 credits, cost 0.25 credits",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }
}
