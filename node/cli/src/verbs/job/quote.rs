use std::path::Path;

use deepmarket_api::{Quote, SlotQuote};
use deepmarket_job::JobSpec;
use deepmarket_types::{Credits, TimeMs};
use deepmarket_wallet::jobs;

use crate::{
    error::Outcome,
    output::{self, aligned, credits},
    settings::Settings,
    verbs::market::slot_name,
};

pub async fn run(settings: &Settings, file: &Path, audit: Option<u8>) -> Outcome {
    let client = settings.client()?;
    let spec = super::read_spec(&client, file, &settings.datasets(), audit).await?;
    let quote = jobs::quote(&client, &spec).await?;
    settings.output.show(&quote, || describe(&spec, &quote))?;
    settings.output.next(format!("deepmarket job submit {} --follow", file.display()));
    Ok(())
}

/// A quote for people: the four slots, then what would happen.
pub fn describe(spec: &JobSpec, quote: &Quote) -> String {
    let now = quote.slots.iter().find(|slot| slot.slot == quote.current_slot).map_or(TimeMs(0), |slot| slot.begins);
    let mut slots: Vec<&SlotQuote> = quote.slots.iter().collect();
    slots.sort_by_key(|slot| slot.begins);
    let rows = slots.into_iter().map(|slot| {
        let begins = if slot.slot == quote.current_slot {
            " (now)".to_owned()
        } else {
            format!(" (in {})", output::duration(slot.begins.since(now)))
        };
        vec![
            format!("{}{begins}", slot_name(slot.slot)),
            aligned(slot.prices.core_hour),
            aligned(slot.prices.ram_gib_hour),
            if slot.allowed { "yes" } else { "no" }.to_owned(),
            format!("{}, {}", slot.workers, if slot.enough { "enough" } else { "too few" }),
            if slot.allowed { start(slot.expected_start, now, "?") } else { "-".to_owned() },
            aligned(slot.cost_per_hour),
            aligned(slot.expected_cost),
        ]
    });
    let header = ["slot", "core-hour", "GiB-hour", "allowed", "workers on offer", "start", "cost per hour", "expected cost"];
    let slots = output::table(&header, &[1, 2, 6, 7], rows);
    let summary = [
        ("job", spec.name.clone()),
        ("model", format!("{} parameters; a worker needs {} MiB", quote.parameters, quote.ram_mib)),
        ("workers", workers(spec, quote)),
        ("expected start", start(quote.expected_start, now, "when enough machines are free")),
        ("expected time", quote.expected_ms.map_or("unknown (no measured machine)".into(), output::duration)),
        ("audits", audits(quote)),
        ("expected cost", credits(expected_cost(quote))),
        ("budget (the most it can cost)", budget(quote)),
    ];
    let summary = output::table(&["quote", ""], &[], summary.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    format!("credits\n{slots}\n{summary}")
}

/// How much of the work other machines compute again, and what that costs.
fn audits(quote: &Quote) -> String {
    match quote.audit_permille {
        0 => "none: this work isn't computed again by others".into(),
        rate => format!(
            "{} of the receipts at least; costs {} on top of the workers' pay (all costs here include it)",
            output::permille(rate),
            output::permille(quote.fee_permille)
        ),
    }
}

fn start(at: Option<TimeMs>, now: TimeMs, unknown: &str) -> String {
    match at {
        Some(at) if at <= now => "now".into(),
        Some(at) => format!("in {}", output::duration(at.since(now))),
        None => unknown.into(),
    }
}

fn workers(spec: &JobSpec, quote: &Quote) -> String {
    let wanted = format!("{} to {} wanted", spec.workers.min, spec.workers.max);
    let on_offer = format!("on offer and large enough: {} machine(s)", quote.machines);
    match (quote.enough, quote.workers) {
        (false, _) => format!("not enough now: the job waits ({wanted}; {on_offer})"),
        (true, 0) => format!("{wanted}; {on_offer}"),
        (true, now) => format!("{now} now ({wanted}; {on_offer})"),
    }
}

/// Also where the budget is less: of the slot that the job would start in.
fn expected_cost(quote: &Quote) -> Credits {
    let starts = |slot: &&SlotQuote| slot.allowed && slot.expected_start.is_some() && slot.expected_start == quote.expected_start;
    let current = |slot: &&SlotQuote| slot.slot == quote.current_slot;
    match quote.covered {
        true => quote.expected_cost,
        false => {
            let slot = quote.slots.iter().find(starts).or_else(|| quote.slots.iter().find(current));
            slot.map_or(quote.expected_cost, |slot| slot.expected_cost)
        }
    }
}

fn budget(quote: &Quote) -> String {
    match quote.covered {
        true => format!("{}: covers it", credits(quote.budget)),
        false => format!("{}: NOT ENOUGH; the job would stop when it is spent: raise budget.max_credits", credits(quote.budget)),
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Hash, UnitPrices};

    use super::*;

    #[test]
    fn a_quote_shows_every_slot_what_would_happen_and_whether_the_budget_covers_it() {
        let text = include_str!("../../../../../examples/mnist.toml");
        let spec = JobSpec::from_toml(text, &|_| Some(Hash::default())).unwrap();
        let now = TimeMs(1_795_613_460_000);
        let slot = |slot: u8, ahead_ms: u64, enough| SlotQuote {
            slot,
            begins: now.plus(ahead_ms),
            allowed: slot != 1,
            prices: UnitPrices { core_hour: Credits::from_micro(700_000), ..UnitPrices::default() },
            workers: 3,
            enough,
            expected_start: enough.then_some(now.plus(ahead_ms)),
            cost_per_hour: Credits::from_micro(2_100_000),
            expected_cost: Credits::from_micro(24_000_000 + u64::from(slot)),
        };
        let mut quote = Quote {
            workers: 3,
            machines: 3,
            enough: true,
            expected_start: Some(now),
            expected_ms: Some(90_000),
            expected_cost: Credits::from_micro(500_000),
            budget: Credits::from_credits(20),
            covered: true,
            current_slot: 2,
            slots: vec![slot(0, 43_200_000, false), slot(1, 64_800_000, true), slot(2, 0, true), slot(3, 21_600_000, true)],
            parameters: 20_490,
            ram_mib: 100,
            audit_permille: 500,
            fee_permille: 112,
        };
        let text = describe(&spec, &quote);
        for part in [
            "12-18 (now)",
            "18-24 (in 6 h 0 min)",
            "3, enough",
            "3, too few",
            "2.100000",
            "3 now (2 to 3 wanted",
            "90 s",
            "20 credits: covers it",
            "50.0 % of the receipts at least; costs 11.2 % on top",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        assert!(text.find("12-18").unwrap() < text.find("18-24").unwrap(), "the running slot is first");
        quote.audit_permille = 0;
        assert!(describe(&spec, &quote).contains("isn't computed again"));
        (quote.covered, quote.enough, quote.expected_start) = (false, false, Some(now.plus(21_600_000)));
        let text = describe(&spec, &quote);
        for part in ["24.000003 credits", "20 credits: NOT ENOUGH", "not enough now: the job waits", "in 6 h 0 min"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }
}
