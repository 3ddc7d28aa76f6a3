//! One blocking of matrix products on every machine.
//!
//! The crate that multiplies matrices for burn (`gemm`) cuts long sums into blocks that fit the CPU's first cache, and a sum that is
//! cut at another place is rounded in another way: 32 KiB in 8 ways (AMD up to Zen 4, Intel up to Skylake) give blocks of 512,
//! 48 KiB in 12 ways (Intel from Ice Lake on, Zen 5) give 1,024. It learns the caches once in a process, from the entries of
//! `/sys/devices/system/cpu`, offers no way to set them, and takes 32 KiB in 8 ways where the folder is empty.

use std::sync::Once;

/// Makes sums of matrix products the same whatever the CPU's caches, if it is called before the first product and before files can't
/// be opened any more. Where it isn't possible (outside Linux, or in a sandbox that allows no filter) the caches decide, and the
/// probe's digest tells ([`determinism_class`](crate::determinism_class)).
pub fn fix_blocking() {
    static FIXED: Once = Once::new();
    FIXED.call_once(fix);
}

/// On a thread of its own, for which every folder is empty, multiplies the smallest matrices for which caches matter.
#[cfg(target_os = "linux")]
fn fix() {
    use burn::tensor::{Device, Tensor};
    let in_empty_folders = || {
        if empty_folders().is_ok() {
            let device = Device::flex();
            let product = Tensor::<2>::zeros([80, 3], &device).matmul(Tensor::zeros([3, 80], &device));
            drop(product.into_data());
        }
    };
    // Without a thread it is as where there can be no filter.
    if let Ok(thread) = std::thread::Builder::new().name("blocking".into()).spawn(in_empty_folders) {
        let _ = thread.join();
    }
}

#[cfg(not(target_os = "linux"))]
fn fix() {}

/// Lets this thread see no entries in any folder from now on: the kernel answers "no more entries" without looking.
#[cfg(target_os = "linux")]
fn empty_folders() -> Result<(), seccompiler::Error> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = [(libc::SYS_getdents64, Vec::new())].into_iter().collect();
    let architecture = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(0), architecture)?.try_into()?;
    seccompiler::apply_filter(&program)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn folders_are_empty_for_the_thread_that_asks_for_it_and_for_no_other() {
        let entries = || std::fs::read_dir("/proc/self").expect("it can be opened").count();
        let seen = std::thread::spawn(move || {
            super::empty_folders().expect("filters are allowed");
            entries()
        });
        assert_eq!(seen.join().unwrap(), 0);
        assert!(entries() > 0);
    }
}
