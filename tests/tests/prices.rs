//! `dynamic` prices against `random` ones, on the real ledger with imagined people: see `deepmarket_tests::simulation`.

use deepmarket_tests::simulation::{Pair, Plan, compare, dynamic_pricing};
use deepmarket_types::VerifiedTransaction;

/// Fewer and shorter markets than `make simulation` lives through.
const MARKETS: u64 = 5;
const DAYS: u64 = 50;

#[test]
fn dynamic_prices_raise_utilisation_and_shorten_waiting_in_every_market_and_never_leave_their_bounds() {
    let pricing = dynamic_pricing();
    let plan = Plan { seeds: 0..MARKETS, days: DAYS, demand: 1.0 };
    let pairs = compare(&plan, pricing, VerifiedTransaction::assume_verified);
    assert_eq!(pairs.len(), MARKETS as usize);
    for (seed, Pair { random, dynamic }) in pairs.iter().enumerate() {
        let [of_random, of_dynamic] = [random, dynamic].map(|o| (o.utilisation(), o.mean_wait(), o.share_served()));
        let told = format!("market {seed}: utilisation, waiting, served: random {of_random:?}, dynamic {of_dynamic:?}");
        assert!(dynamic.utilisation() > random.utilisation(), "{told}");
        assert!(dynamic.mean_wait() < random.mean_wait(), "{told}");
        assert!(dynamic.share_served() > random.share_served(), "{told}");
        assert_eq!((random.days_out_of_bounds, dynamic.days_out_of_bounds), (0, 0));
        let limit = u64::from(pricing.max_change_permille);
        assert!(dynamic.largest_change_permille <= limit, "moved by {} of {limit} ‰", dynamic.largest_change_permille);
    }
}
