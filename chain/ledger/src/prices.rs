use deepmarket_types::{Credits, Hash, Resources, SlotPrices, TimeMs, UnitPrices};

use crate::{DynamicPricing, Ledger, PricePolicy, StateKey, change::Change};

/// The four units in the order of [`Params::price_bounds`](crate::Params).
fn unit_prices([core_hour, gpu_hour, ram_gib_hour, disk_gib_hour]: [Credits; 4]) -> UnitPrices {
    UnitPrices { core_hour, gpu_hour, ram_gib_hour, disk_gib_hour }
}

impl Ledger {
    /// The prices that a block of this time and parent must open with: those of its day, where the chain has none of that day
    /// yet. `None` where no prices are due, and a `Price` transaction would be wrong.
    pub fn price_due(&self, time: TimeMs, parent: &Hash) -> Option<SlotPrices> {
        let (day, _) = self.params().slots.slot_at(time);
        let due = self.prices.today.is_none_or(|today| today.day < day);
        due.then(|| match self.params().price_policy {
            PricePolicy::Random => self.random_prices(day, parent),
            PricePolicy::Dynamic(pricing) => self.dynamic_prices(&pricing, day, time),
        })
    }

    /// The paper's policy: each unit price of each slot is uniform between floor and ceiling. 128 bits of a hash are reduced
    /// modulo the number of prices (at most 2^40), so that no price is likelier than another by more than 2^-88.
    ///
    /// A proposer knows the parent's hash and could wait for the next proposer's turn: it can't choose prices, but it can pass.
    fn random_prices(&self, day: u64, parent: &Hash) -> SlotPrices {
        let bounds = self.params().price_bounds();
        let draw = |slot: u8, unit: usize| {
            let (name, floor, ceiling) = bounds[unit];
            let parts: [&[u8]; 4] = [&parent.0, &day.to_le_bytes(), &[slot], name.as_bytes()];
            let hash = Hash::tagged("deepmarket/v1/price", &parts);
            let random = u128::from_le_bytes(hash.0[..16].try_into().expect("16 of 32 bytes"));
            let span = u128::from(ceiling.micro() - floor.micro()) + 1;
            let above = u64::try_from(random % span).expect("below the span, which fits");
            Credits::from_micro(floor.micro() + above)
        };
        let slots = [0, 1, 2, 3].map(|slot| unit_prices([0, 1, 2, 3].map(|unit| draw(slot, unit))));
        SlotPrices { day, slots }
    }

    /// Prices by demand and supply, see [`DynamicPricing`]: from the last day's prices and what its slots saw up to `time`.
    fn dynamic_prices(&self, pricing: &DynamicPricing, day: u64, time: TimeMs) -> SlotPrices {
        let bounds = self.params().price_bounds();
        let Some(last) = &self.prices.today else {
            let middle = bounds.map(|(_, floor, ceiling)| Credits::from_micro(floor.micro().midpoint(ceiling.micro())));
            return SlotPrices { day, slots: pricing.first.unwrap_or([unit_prices(middle); 4]) };
        };
        let flows = self.flows_until(time);
        let (seen, means) = (flows.map(|flow| flow.pressure()), self.pressure_after(&flows));
        let move_price = |slot: usize, unit: usize, price: Credits| {
            // What the day didn't see tells nothing new about the price.
            let (Some(_), Some(pressure)) = (seen[slot][unit], means[slot][unit]) else { return price };
            let distance = i64::from(pressure) - i64::from(pricing.target_permille);
            let limit = i64::from(pricing.max_change_permille);
            let change = (distance * i64::from(pricing.gain_permille) / 1_000).clamp(-limit, limit);
            let factor = u128::try_from(1_000 + change).expect("a price falls by a thousand thousandths at most");
            let (_, floor, ceiling) = bounds[unit];
            let moved = u64::try_from(u128::from(price.micro()) * factor / 1_000).unwrap_or(u64::MAX);
            Credits::from_micro(moved.clamp(floor.micro(), ceiling.micro()))
        };
        let slots = [0, 1, 2, 3].map(|slot| {
            let UnitPrices { core_hour, gpu_hour, ram_gib_hour, disk_gib_hour } = last.slots[slot];
            let prices = [core_hour, gpu_hour, ram_gib_hour, disk_gib_hour];
            unit_prices([0, 1, 2, 3].map(|unit| move_price(slot, unit, prices[unit])))
        });
        SlotPrices { day, slots }
    }

    /// The unit prices of a moment: those of its day, else of the last day before that had any (a chain that stood still over
    /// midnight), else the floor (before the first block).
    pub fn unit_prices_at(&self, time: TimeMs) -> UnitPrices {
        self.prices.at(time, &self.constitution)
    }

    /// The price of resources from one moment to a later one, each slot's part at its own price, or the lease's minimum where
    /// that is more, and rounded down. Slots of a later day than the prices are reckoned with today's, and the whole days of a
    /// time of many days, as a quote may have, all at once.
    pub(crate) fn cost_between(&self, resources: &Resources, minimum: &UnitPrices, from: TimeMs, to: TimeMs) -> Credits {
        let clock = self.params().slots;
        let days = to.since(from) / clock.day_ms();
        let day: u64 = match days {
            0 => 0,
            _ => (0..4).fold(0, |sum: u64, slot| {
                let one = self.slot_prices(slot).at_least(minimum).cost(resources, clock.slot_ms);
                sum.saturating_add(one.micro())
            }),
        };
        let mut cost = Credits::from_micro(day.saturating_mul(days));
        let to = TimeMs(to.0 - days * clock.day_ms());
        let mut from = from;
        while from < to {
            let end = clock.slot_end(from).min(to);
            let part = self.unit_prices_at(from).at_least(minimum).cost(resources, end.since(from));
            cost = Credits::from_micro(cost.micro().saturating_add(part.micro()));
            from = end;
        }
        cost
    }
}

impl Change<'_> {
    /// Sets the prices of a day. That they are the due ones was checked with the block.
    pub fn set_prices(&mut self, prices: SlotPrices) {
        self.ledger.statistics = self.ledger.statistics_of_next_day();
        self.touch(StateKey::Statistics);
        self.ledger.prices.before = self.ledger.prices.today.replace(prices);
        self.touch(StateKey::Prices);
        self.events.push(deepmarket_types::Event::Prices(prices));
    }
}
