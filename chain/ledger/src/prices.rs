use deepmarket_types::{Credits, Hash, Resources, SlotPrices, TimeMs, UnitPrices};

use crate::{Ledger, PricePolicy, StateKey, change::Change};

impl Ledger {
    /// The prices that a block of this time and parent must open with: those of its day, where the chain has none of that day
    /// yet. `None` where no prices are due, and a `Price` transaction would be wrong.
    pub fn price_due(&self, time: TimeMs, parent: &Hash) -> Option<SlotPrices> {
        let (day, _) = self.params().slots.slot_at(time);
        let due = self.prices.today.is_none_or(|today| today.day < day);
        due.then(|| match self.params().price_policy {
            PricePolicy::Random => self.random_prices(day, parent),
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
        let slots = [0, 1, 2, 3].map(|slot| UnitPrices {
            core_hour: draw(slot, 0),
            gpu_hour: draw(slot, 1),
            ram_gib_hour: draw(slot, 2),
            disk_gib_hour: draw(slot, 3),
        });
        SlotPrices { day, slots }
    }

    /// The unit prices of a moment: those of its day, else of the last day before that had any (a chain that stood still over
    /// midnight), else the floor (before the first block).
    pub fn unit_prices_at(&self, time: TimeMs) -> UnitPrices {
        let (day, slot) = self.params().slots.slot_at(time);
        let of_day = self.prices.today.filter(|today| today.day <= day);
        let prices = of_day.or(self.prices.before).or(self.prices.today);
        prices.map_or(self.params().price_floor, |prices| prices.slots[slot])
    }

    /// The price of resources from one moment to a later one, each slot's part at its own price and rounded down.
    pub(crate) fn cost_between(&self, resources: &Resources, from: TimeMs, to: TimeMs) -> Credits {
        let mut cost = Credits::ZERO;
        let mut from = from;
        while from < to {
            let end = self.params().slots.slot_end(from).min(to);
            let part = self.unit_prices_at(from).cost(resources, end.since(from));
            cost = Credits::from_micro(cost.micro().saturating_add(part.micro()));
            from = end;
        }
        cost
    }
}

impl Change<'_> {
    /// Sets the prices of a day. That they are the due ones was checked with the block.
    pub fn set_prices(&mut self, prices: SlotPrices) {
        self.ledger.prices.before = self.ledger.prices.today.replace(prices);
        self.touch(StateKey::Prices);
        self.events.push(deepmarket_types::Event::Prices(prices));
    }
}
