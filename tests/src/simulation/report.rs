//! The table of a comparison, as Markdown.

use deepmarket_ledger::DynamicPricing;

use super::{Outcome, Pair};

/// One row: what it is, how it is reckoned for one market, and its decimals.
type Row = (&'static str, fn(&Outcome) -> f64, usize);

const PERCENT: f64 = 100.0;
const MILLION: f64 = 1e6;

/// What is compared. Amounts are a day's, in credits.
const ROWS: &[Row] = &[
    ("utilisation: core-hours used of those on offer, %", |o| o.utilisation() * PERCENT, 1),
    ("demand served: worker-hours of those needed, %", |o| o.share_served() * PERCENT, 1),
    ("not served: too dear, %", |o| o.share_lost(super::outcome::Lost::TooDear) * PERCENT, 1),
    ("not served: no machine in time, %", |o| o.share_lost(super::outcome::Lost::NoMachine) * PERCENT, 1),
    ("not served: out of budget, %", |o| o.share_lost(super::outcome::Lost::OutOfBudget) * PERCENT, 1),
    ("hours from need to start: mean", Outcome::mean_wait, 2),
    ("hours from need to start: 95th percentile", |o| o.p95_wait() as f64, 1),
    ("hours that a job waited for machines: mean", Outcome::mean_queue, 2),
    ("hours that any need waited, served or not: mean", Outcome::mean_wait_of_all, 2),
    ("a worker's hour, 00-06: mean price", |o| o.mean_prices()[0], 2),
    ("a worker's hour, 06-12: mean price", |o| o.mean_prices()[1], 2),
    ("a worker's hour, 12-18: mean price", |o| o.mean_prices()[2], 2),
    ("a worker's hour, 18-24: mean price", |o| o.mean_prices()[3], 2),
    ("core-hours on offer, a day", |o| o.offered.iter().sum::<u64>() as f64 / o.days.len() as f64, 0),
    ("lenders' income, a day", |o| o.income as f64 / MILLION / o.days.len() as f64, 1),
    ("lenders' income over their reserves, a day", |o| (o.income as f64 - o.expense as f64) / MILLION / o.days.len() as f64, 1),
    ("borrowers' surplus (worth less payment), a day", |o| (o.worth as f64 - o.income as f64) / MILLION / o.days.len() as f64, 1),
    ("days with a price out of bounds", |o| o.days_out_of_bounds as f64, 0),
    ("largest change of a price in a day, %", |o| o.largest_change_permille as f64 / 10.0, 1),
];

/// The file that explains and shows a comparison, and some with another demand.
pub fn markdown(pairs: &[Pair], others: &[(f64, Vec<Pair>)], pricing: &DynamicPricing) -> String {
    let days = pairs[0].random.days.len();
    let mut text = format!(
        "# Prices: `random` against `dynamic`\n\n\
         {} simulated markets of {days} days ({} days under each policy), each with the same people under both. Shown are the\n\
         means over the markets and, in brackets, the least and the greatest. `make simulation` makes this file; what the\n\
         people are like and why is argued in `tests/src/simulation/mod.rs`.\n\n\
         `dynamic` here: target {} ‰, gain {} ‰, weight {} ‰, at most {} ‰ a day.\n\n\
         ![Prices, utilisation and waiting](prices.svg)\n\n",
        pairs.len(),
        pairs.len() * days,
        pricing.target_permille,
        pricing.gain_permille,
        pricing.weight_permille,
        pricing.max_change_permille,
    );
    text.push_str(&table(pairs, ROWS));
    text.push_str(
        "\nWhat `dynamic` does: it finds the price at which the machines on offer are used to its target (pressure counts what is\n\
         waited for too, so utilisation stays below it), slot by slot. A price drawn at random is too high on some days, and\n\
         machines stand idle while needs go away; and too low on others, when lenders stay away and jobs queue. The gain is\n\
         mostly the borrowers'. Lenders are paid about the same for more work: where machines are plentiful, their hour is cheaper.\n\n\
         The same people where less or more is needed. Where much more is needed than there is, `random` uses more of what is\n\
         on offer, because a long queue takes every machine at any price; `dynamic` keeps its target, has more on offer, serves\n\
         more, and queues stay short:\n",
    );
    for (demand, pairs) in others {
        text.push_str(&format!(
            "\n**{demand} times as many needs**, {} markets of {} days\n\n",
            pairs.len(),
            pairs[0].random.days.len()
        ));
        text.push_str(&table(pairs, &[ROWS[0], ROWS[1], ROWS[5], ROWS[15], ROWS[16]]));
    }
    text
}

fn table(pairs: &[Pair], rows: &[Row]) -> String {
    let mut text = String::from("| | random | dynamic |\n|---|---|---|\n");
    for (name, value, decimals) in rows {
        let decimals = *decimals;
        let cell = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            format!("{mean:.decimals$} ({least:.decimals$} to {most:.decimals$})")
        };
        let random = cell(pairs.iter().map(|pair| value(&pair.random)).collect());
        let dynamic = cell(pairs.iter().map(|pair| value(&pair.dynamic)).collect());
        text.push_str(&format!("| {name} | {random} | {dynamic} |\n"));
    }
    text
}
