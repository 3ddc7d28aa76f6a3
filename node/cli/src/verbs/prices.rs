use deepmarket_api::PricesView;
use deepmarket_types::{Credits, Resources, UnitPrices};

use crate::{
    error::Outcome,
    output::{self, aligned},
    settings::Settings,
    verbs::market::{self, slot_name},
};

/// What a small worker uses: the slots are compared by its price.
const WORKER: Resources = Resources { cores: 1, gpus: 0, ram_mib: 1024, disk_mib: 1024 };
const HOUR_MS: u64 = 3_600_000;

pub async fn run(settings: &Settings) -> Outcome {
    let client = settings.client()?;
    let (view, clock) = (client.prices().await?, market::clock(&client).await?);
    settings.output.show(&view, || {
        let left = output::duration(view.slot_ends.since(clock.now));
        format!("{}\nmarket's clock: {}, now {}; this slot ends in {left}", describe(&view), clock.zone(), clock.show(clock.now))
    })?;
    settings.output.next("deepmarket job quote FILE (what a job costs), deepmarket lend evaluate (what this machine earns)");
    Ok(())
}

fn worker_hour(prices: &UnitPrices) -> Credits {
    prices.cost(&WORKER, HOUR_MS)
}

fn describe(view: &PricesView) -> String {
    let hours = view.prices.slots.map(|prices| worker_hour(&prices));
    // Where all cost the same none is the cheapest.
    let cheapest = hours.iter().min().filter(|cheapest| hours.iter().any(|hour| hour > *cheapest));
    let rows = view.prices.slots.iter().enumerate().map(|(slot, prices)| {
        let mut name = view.slot_names.get(slot).cloned().unwrap_or_else(|| slot_name(slot as u8).to_owned());
        if slot == usize::from(view.current_slot) {
            name += " (now)";
        }
        if cheapest == Some(&hours[slot]) {
            name += " (cheapest)";
        }
        let units = [prices.core_hour, prices.gpu_hour, prices.ram_gib_hour, prices.disk_gib_hour, worker_hour(prices)];
        std::iter::once(name).chain(units.map(aligned)).collect()
    });
    let header = ["slot", "CPU core", "GPU", "GiB RAM", "GiB disk", "core + GiB + GiB"];
    format!("credits per hour\n{}", output::table(&header, &[1, 2, 3, 4, 5], rows))
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{SlotPrices, TimeMs};

    use super::*;

    #[test]
    fn the_running_slot_and_the_cheapest_one_are_marked() {
        let price = |micro| UnitPrices { core_hour: Credits::from_micro(micro), ..UnitPrices::default() };
        let view = PricesView {
            prices: SlotPrices { day: 1, slots: [price(900_000), price(400_000), price(800_000), price(500_000)] },
            current_slot: 2,
            slot_names: ["00-06", "06-12", "12-18", "18-24"].map(str::to_owned).into(),
            slot_ends: TimeMs(0),
        };
        let text = describe(&view);
        assert!(text.contains("06-12 (cheapest)") && text.contains("12-18 (now)"), "{text}");
        assert_eq!((text.matches("(cheapest)").count(), text.matches("(now)").count()), (1, 1));
        let same = PricesView { prices: SlotPrices { day: 1, slots: [price(900_000); 4] }, ..view };
        assert!(!describe(&same).contains("(cheapest)"));
    }
}
