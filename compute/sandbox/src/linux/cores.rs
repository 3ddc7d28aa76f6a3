//! Which cores a child computes on, where there is no quota: as many as were lent, and others than its siblings where possible.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use rustix::thread::{CpuSet, sched_getaffinity};

/// How many children of this process compute on each core.
static TAKEN: Mutex<BTreeMap<usize, u32>> = Mutex::new(BTreeMap::new());

/// Cores that a child holds until this is dropped.
#[derive(Debug)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// The `count` cores with the fewest children; none where this process has no more than that anyway.
    pub fn take(count: u32) -> Option<Cores> {
        let ours = sched_getaffinity(None).ok()?;
        let ours: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| ours.is_set(*core)).collect();
        if ours.len() <= count as usize {
            return None;
        }
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = least(&ours, &taken, count.max(1) as usize);
        chosen.iter().for_each(|core| *taken.entry(*core).or_default() += 1);
        Some(Cores(chosen))
    }

    pub fn set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        set
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        for core in &self.0 {
            taken.entry(*core).and_modify(|children| *children = children.saturating_sub(1));
        }
    }
}

fn least(ours: &[usize], taken: &BTreeMap<usize, u32>, count: usize) -> Vec<usize> {
    let mut ours = ours.to_vec();
    ours.sort_by_key(|core| (taken.get(core).copied().unwrap_or(0), *core));
    ours.truncate(count);
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_compute_on_different_cores_while_there_are_some() {
        let taken = BTreeMap::from([(0, 1), (1, 2)]);
        assert_eq!(least(&[0, 1, 4], &taken, 2), [4, 0]);
        assert_eq!(least(&[0, 1, 4], &BTreeMap::new(), 2), [0, 1]);
        assert!(Cores::take(u32::MAX).is_none());
    }
}
