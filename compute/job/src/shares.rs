/// Which shards each rank works on: all of them, each once, in proportion to speeds (in any unit; 0 where one isn't known yet).
///
/// `shards` are their samples, `held` what each rank works on now: a rank keeps what it holds as far as its share goes, so that
/// little is fetched anew when ranks come and go. Where all speeds are unknown the shares are equal. The same inputs give the same
/// answer on every rank.
pub fn share_out(shards: &[u64], speeds: &[u64], held: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let world = speeds.len();
    let mut shares = vec![Vec::new(); world];
    if world == 0 {
        return shares;
    }
    let known: Vec<u64> = speeds.iter().copied().filter(|speed| *speed > 0).collect();
    let mean = known.iter().map(|speed| u128::from(*speed)).sum::<u128>() / known.len().max(1) as u128;
    let speeds: Vec<u128> = speeds.iter().map(|speed| if *speed > 0 { u128::from(*speed) } else { mean.max(1) }).collect();
    let (samples, speed): (u128, u128) = (shards.iter().map(|n| u128::from(*n)).sum(), speeds.iter().sum());
    // Doubled, so that half a shard is a number.
    let quota: Vec<i128> = speeds.iter().map(|own| (2 * samples * own / speed) as i128).collect();
    let mut load = vec![0_i128; world];
    let mut is_given = vec![false; shards.len()];
    for (rank, held) in held.iter().enumerate().take(world) {
        for &shard in held {
            let Some(n) = shards.get(shard as usize).map(|n| i128::from(*n)) else { continue };
            // A shard that sticks out by at most its half stays.
            if !is_given[shard as usize] && load[rank] + n <= quota[rank] {
                is_given[shard as usize] = true;
                load[rank] += 2 * n;
                shares[rank].push(shard);
            }
        }
    }
    let mut rest: Vec<u32> = (0..shards.len() as u32).filter(|shard| !is_given[*shard as usize]).collect();
    rest.sort_by_key(|shard| (std::cmp::Reverse(shards[*shard as usize]), *shard));
    for shard in rest {
        let missing = |rank: &usize| (quota[*rank] - load[*rank], std::cmp::Reverse(*rank));
        let rank = (0..world).max_by_key(missing).expect("there is a rank");
        load[rank] += 2 * i128::from(shards[shard as usize]);
        shares[rank].push(shard);
    }
    shares.iter_mut().for_each(|share| share.sort_unstable());
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples_of(share: &[u32], shards: &[u64]) -> u64 {
        share.iter().map(|shard| shards[*shard as usize]).sum()
    }

    proptest! {
        #[test]
        fn each_shard_belongs_to_exactly_one_rank_and_shares_follow_speeds(
            shards in proptest::collection::vec(1_u64..500, 0..80),
            speeds in proptest::collection::vec(1_u64..1000, 1..9),
            seed: u64,
        ) {
            // Anything may be held, also what isn't there or what two hold.
            let held: Vec<Vec<u32>> = (0..speeds.len() as u64)
                .map(|rank| (0..seed.rotate_left(rank as u32 * 7) % 40).map(|i| (seed.wrapping_mul(i + rank + 1) >> 7) as u32 % 90).collect())
                .collect();
            let shares = share_out(&shards, &speeds, &held);
            let mut all: Vec<u32> = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..shards.len() as u32).collect::<Vec<_>>());
            let (total, largest) = (shards.iter().sum::<u64>() as f64, shards.iter().max().copied().unwrap_or(0) as f64);
            for (share, speed) in shares.iter().zip(&speeds) {
                let quota = total * *speed as f64 / speeds.iter().sum::<u64>() as f64;
                prop_assert!(samples_of(share, &shards) as f64 <= quota + largest, "{share:?} of {quota}");
            }
        }
    }

    #[test]
    fn equal_machines_share_equally_and_a_slow_one_gets_less() {
        let shards = [1000; 60];
        let none = vec![Vec::new(); 3];
        let sizes = |speeds: &[u64]| share_out(&shards, speeds, &none).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[0, 0, 0]), [20, 20, 20]);
        assert_eq!(sizes(&[10, 10, 5]), [24, 24, 12]);
        assert_eq!(sizes(&[10, 0, 10]), [20, 20, 20]);
    }

    #[test]
    fn when_a_rank_is_lost_the_others_keep_what_they_hold() {
        let shards = [1000; 60];
        let three = share_out(&shards, &[1, 1, 1], &[vec![], vec![], vec![]]);
        let two = share_out(&shards, &[1, 1], &[three[0].clone(), three[2].clone()]);
        assert!(three[0].iter().all(|shard| two[0].contains(shard)) && three[2].iter().all(|shard| two[1].contains(shard)));
        let again = share_out(&shards, &[1, 1, 1], &[two[0].clone(), two[1].clone(), vec![]]);
        assert_eq!(again.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 20]);
        assert!(again[..2].iter().zip(&two).all(|(now, before)| now.iter().all(|shard| before.contains(shard))));
    }
}
