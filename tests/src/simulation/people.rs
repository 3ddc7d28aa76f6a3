//! Who lends and who borrows: drawn from a seed, the same whatever the prices will be.

use deepmarket_types::{Availability, DailyHours, Hash};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// Everybody in one simulation.
#[derive(Clone)]
pub struct People {
    /// Tells these people from those of other seeds; their chain's id, and so what `random` draws prices from.
    pub name: Hash,
    /// Those who lend.
    pub lenders: Vec<Lender>,
    /// What is needed, by the hour in which the need arises: index 0 is the first day's first hour.
    pub needs: Vec<Vec<Need>>,
}

/// Somebody with one machine.
#[derive(Clone, Debug)]
pub struct Lender {
    /// Cores on offer.
    pub cores: u32,
    /// When.
    pub availability: Availability,
    /// What an hour of a core must pay at least, in microcredits.
    pub reserve: u64,
}

/// Somebody's wish to train a model.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Workers, all at once.
    pub workers: u32,
    /// Hours of each.
    pub hours: u32,
    /// What one worker's hour is worth, in microcredits.
    pub value: u64,
    /// Does the borrower choose the slot, or want it now?
    pub flexible: bool,
    /// Hours until it is too late to begin.
    pub patience: u64,
    /// What an hour of waiting costs of its worth, in thousandths: who can wait would rather not.
    pub haste_permille: u64,
}

impl Need {
    /// Workers times hours.
    pub fn worker_hours(&self) -> u64 {
        u64::from(self.workers) * u64::from(self.hours)
    }

    /// What all of it is worth, in microcredits.
    pub fn worth(&self) -> u64 {
        self.worker_hours() * self.value
    }
}

/// How many lenders there are.
const LENDERS: usize = 30;
/// Needs that arise on a working day, on average, at a demand of 1.
const NEEDS_A_DAY: f64 = 160.0;
/// How lively each hour of the day is.
const RHYTHM: [f64; 24] =
    [0.4, 0.3, 0.2, 0.2, 0.2, 0.3, 0.4, 0.6, 1.0, 1.4, 1.6, 1.6, 1.5, 1.8, 2.0, 2.0, 1.9, 1.7, 1.4, 1.2, 1.1, 1.0, 0.8, 0.6];
/// How lively a weekend is.
const WEEKEND: f64 = 0.5;

impl People {
    /// Draws everybody for some days. With a demand of 1 most machines that are on offer have something to do.
    pub fn draw(seed: u64, days: u64, demand: f64) -> People {
        let mut dice = Dice::new(seed, "lenders");
        let lenders = (0..LENDERS).map(|_| Lender::draw(&mut dice)).collect();
        let mut dice = Dice::new(seed, "needs");
        let mean: f64 = RHYTHM.iter().sum::<f64>() / 24.0;
        let needs = (0..days * 24).map(|hour| {
            let weekend = if hour / 24 % 7 >= 5 { WEEKEND } else { 1.0 };
            let expected = demand * NEEDS_A_DAY / 24.0 * RHYTHM[(hour % 24) as usize] / mean * weekend;
            (0..dice.poisson(expected)).map(|_| Need::draw(&mut dice)).collect()
        });
        People { name: Hash::tagged("people", &[&seed.to_le_bytes()]), lenders, needs: needs.collect() }
    }
}

impl Lender {
    fn draw(dice: &mut Dice) -> Lender {
        let hours = match dice.below(10) {
            0..5 => Some(DailyHours { from_minute: 18 * 60, to_minute: 9 * 60 }),
            5..8 => None,
            _ => Some(DailyHours { from_minute: 8 * 60, to_minute: 20 * 60 }),
        };
        Lender {
            cores: 1 + dice.below(4) as u32,
            availability: Availability { hours, ..Availability::default() },
            // From less than the floor of 0.4 credits to a little less than the ceiling of 1.5.
            reserve: dice.between(200_000, 1_300_000),
        }
    }
}

impl Need {
    fn draw(dice: &mut Dice) -> Need {
        let flexible = dice.below(2) == 0;
        let workers = match dice.below(10) {
            0..5 => 1,
            5..8 => 2,
            _ => 3,
        };
        let hours = [1, 1, 2, 2, 2, 3, 3, 4, 5, 6][dice.below(10) as usize];
        // A worker's hour costs 0.5 to 2 credits.
        let value = if flexible { dice.between(500_000, 2_000_000) } else { dice.between(800_000, 3_000_000) };
        let haste_permille = dice.between(0, 40);
        Need { workers, hours, value, flexible, patience: if flexible { 24 } else { 4 }, haste_permille }
    }
}

/// Numbers that follow from a seed and a purpose.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64, purpose: &str) -> Dice {
        Dice(ChaCha8Rng::from_seed(Hash::tagged("simulation", &[&seed.to_le_bytes(), purpose.as_bytes()]).0))
    }

    /// Uniform below a small bound (the bias of a modulo by it is below 2^-50).
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of many rare things happen where so many are expected (Knuth's method).
    fn poisson(&mut self, expected: f64) -> u64 {
        let limit = (-expected).exp();
        let (mut count, mut product) = (0, self.unit());
        while product > limit {
            (count, product) = (count + 1, product * self.unit());
        }
        count
    }
}
