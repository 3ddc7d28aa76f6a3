//! Whether two machines of different determinism classes computed the same round (DESIGN section 7).
//!
//! Inside a class updates are equal to the bit and compared by hash. Across classes they are rounded in other ways, and are compared as
//! vectors, from the same state. Measured (`compute/trainer/examples/calibrate.rs`, `compute/trainer/tests/tolerance.rs`; distances as
//! in [`Distance`]):
//!
//! | what differs | one shared step, `relative` | up to 10 local steps, `typical` |
//! |---|---|---|
//! | sums cut by other caches (48 KiB in 12 ways against 32 in 8): convolutional nets | 0 | 0 |
//! | the same: a perceptron on MNIST, Adam, batch 64 (and 64 local steps) | 7.5e-7 | below 5.1e-6 |
//! | all parameters, statistics and moments wrong by 1e-7 of themselves: convolution, batch norm, dropout | 1.5e-6 | 8.2e-7 |
//! | noise of 1e-3 of the update | 9.8e-4 | 9.8e-4 |
//! | the update times 1.01 | 1e-2 | 1e-2 |
//! | parameters older by one step | 2e-2 and more | |
//! | three quarters of the batch | 0.66 and more | |
//! | no update; the update's opposite | 1; 2 | 1; 2 |
//!
//! After local steps of Adam a few values may be quite different: where a gradient is zero but for rounding (a bias before a batch
//! norm), Adam makes whole steps of the rounding. They are 0.2 % of the values in the measured net, and 2 % of the update's length
//! after ten steps; so the hundredth part of the values that differ most is left out there.

use deepmarket_job::Mode;

/// Up to here two updates are of the same round: twenty times what was measured of honest ones, and a thirtieth of the smallest cheat.
pub const SAME: f64 = 3e-5;
/// From here on they are not: a third of the smallest cheat, two hundred times what was measured of honest ones.
pub const OTHER: f64 = 3e-4;
/// How far a single value may be after local steps, in the update's largest: ten times what was measured.
pub const LARGEST: f64 = 1.5;

/// How far an update is from another one of the same round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Euclidean length of the difference, in lengths of the own update.
    pub relative: f64,
    /// The same without the hundredth part of the values that differ most.
    pub typical: f64,
    /// The largest difference of two values, in the own update's largest value.
    pub largest: f64,
}

/// What two updates say of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// They are of the same round: they differ as rounding differs.
    Same,
    /// Nobody can say: further apart than was ever measured of honest machines, and closer than any cheat.
    Unclear,
    /// They aren't of the same round.
    Other,
}

/// Compares a worker's update with the own one of the same round, computed from the same state. In `local` all of a round's steps lie
/// between state and update.
pub fn closeness(theirs: &[f32], own: &[f32], mode: &Mode) -> Closeness {
    let Some(distance) = distance(theirs, own) else { return Closeness::Other };
    let measure = match mode {
        Mode::Sync | Mode::Async { .. } => distance.relative,
        Mode::Local { .. } if distance.largest > LARGEST => return Closeness::Other,
        Mode::Local { .. } => distance.typical,
    };
    match measure {
        measure if measure <= SAME => Closeness::Same,
        measure if measure < OTHER => Closeness::Unclear,
        _ => Closeness::Other,
    }
}

/// How far `theirs` is from `own`; none where they can't be compared: of different lengths, or with numbers that are not finite.
pub fn distance(theirs: &[f32], own: &[f32]) -> Option<Distance> {
    if theirs.len() != own.len() || theirs.iter().chain(own).any(|value| !value.is_finite()) {
        return None;
    }
    let difference = |(theirs, own): (&f32, &f32)| (f64::from(*theirs) - f64::from(*own)).abs();
    let mut differences: Vec<f64> = theirs.iter().zip(own).map(difference).collect();
    differences.sort_unstable_by(f64::total_cmp);
    let own: Vec<f64> = own.iter().map(|value| f64::from(*value).abs()).collect();
    let largest = own.iter().copied().fold(0.0, f64::max);
    let typical = &differences[..differences.len() - differences.len() / 100];
    Some(Distance {
        relative: ratio(length(&differences), length(&own)),
        typical: ratio(length(typical), length(&own)),
        largest: ratio(differences.last().copied().unwrap_or(0.0), largest),
    })
}

fn length(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// A round that did nothing may be compared with another one that did nothing.
fn ratio(part: f64, whole: f64) -> f64 {
    if part == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use deepmarket_job::Outer;

    use super::*;

    const LOCAL: Mode = Mode::Local { steps: 8, outer: Outer::Average };

    fn update() -> Vec<f32> {
        (0..1_000).map(|i| ((i * 7919 % 10_007) as f32 - 5_000.0) * 1e-5).collect()
    }

    fn changed(change: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        update().into_iter().enumerate().map(|(i, value)| change(i, value)).collect()
    }

    #[test]
    fn rounding_is_the_same_and_a_thousandth_is_another_round() {
        for mode in [Mode::Sync, Mode::Async { staleness: 2 }, LOCAL] {
            let of = |change: &dyn Fn(usize, f32) -> f32| closeness(&changed(change), &update(), &mode);
            let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
            assert_eq!(of(&|_, value| value), Closeness::Same);
            assert_eq!(of(&|i, value| value * (1.0 + 1e-6 * sign(i))), Closeness::Same);
            assert_eq!(of(&|i, value| value * (1.0 + 1e-4 * sign(i))), Closeness::Unclear);
            assert_eq!(of(&|i, value| value * (1.0 + 1e-3 * sign(i))), Closeness::Other);
            assert_eq!(of(&|_, value| value * 1.01), Closeness::Other);
            assert_eq!(of(&|_, value| -value), Closeness::Other);
            assert_eq!(of(&|_, _| 0.0), Closeness::Other);
        }
    }

    #[test]
    fn after_local_steps_a_few_values_may_differ_but_not_beyond_measure() {
        let few = changed(|i, value| if i < 9 { value + 0.05 } else { value });
        assert_eq!(closeness(&few, &update(), &LOCAL), Closeness::Same);
        assert_eq!(closeness(&few, &update(), &Mode::Sync), Closeness::Other);
        let beyond = changed(|i, value| if i < 9 { value + 0.5 } else { value });
        assert_eq!(closeness(&beyond, &update(), &LOCAL), Closeness::Other);
        let many = changed(|i, value| if i < 30 { value + 0.05 } else { value });
        assert_eq!(closeness(&many, &update(), &LOCAL), Closeness::Other);
    }

    #[test]
    fn what_can_not_be_compared_is_another_round_and_nothing_is_nothing() {
        let own = update();
        assert_eq!(closeness(&own[1..], &own, &Mode::Sync), Closeness::Other);
        for wrong in [f32::NAN, f32::INFINITY] {
            assert_eq!(closeness(&changed(|i, value| if i == 5 { wrong } else { value }), &own, &Mode::Sync), Closeness::Other);
        }
        assert_eq!(closeness(&[0.0; 3], &[0.0; 3], &LOCAL), Closeness::Same);
        assert_eq!(closeness(&[0.0, 1e-9], &[0.0; 2], &Mode::Sync), Closeness::Other);
        assert_eq!(closeness(&[], &[], &Mode::Sync), Closeness::Same);
    }
}
