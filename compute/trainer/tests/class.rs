//! What names a determinism class, and what doesn't: the program in other surroundings.
#![cfg(target_os = "linux")]

use std::{
    path::Path,
    process::{Command, Output},
};

use burn::tensor::{Device, Tensor, TensorData};
use deepmarket_job::protocol::{Reply, Request};
use deepmarket_types::Hash;

mod common;

const TRAINER: &str = env!("CARGO_BIN_EXE_deepmarket-trainer");

fn class(command: &mut Command) -> String {
    said(command.output().expect("it starts"))
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn version() -> Command {
    let mut command = Command::new(TRAINER);
    command.arg("--version");
    command
}

#[test]
fn the_class_is_the_same_in_every_process_with_any_number_of_threads_and_any_allocator_setting() {
    let expected = class(&mut version());
    for (name, value) in [
        ("RAYON_NUM_THREADS", "1"),
        ("RAYON_NUM_THREADS", "2"),
        ("RAYON_NUM_THREADS", "4"),
        ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
        ("MIMALLOC_PAGE_RESET", "1"),
        ("MIMALLOC_LARGE_OS_PAGES", "1"),
        ("MALLOC_PERTURB_", "165"),
        ("LANG", "tr_TR.UTF-8"),
    ] {
        assert_eq!(class(version().env(name, value)), expected, "{name}={value}");
    }
    let one_core = class(Command::new("taskset").args(["-c", "0", TRAINER, "--version"]));
    assert_eq!(one_core, expected);
}

#[test]
fn a_confined_trainer_with_limited_memory_tells_the_same_class_as_a_free_one() {
    let expected = class(&mut version());
    for arguments in [&[][..], &["--ram-mib", "512"]] {
        let mut process = common::Process::start(Path::new(TRAINER), arguments);
        let Reply::Probed { class } = process.ask(&Request::Probe) else { panic!("not probed") };
        assert_eq!(class, expected);
        let Reply::Measured { trainer, .. } = process.ask(&Request::Measure { seed: 3 }) else { panic!("not measured") };
        assert_eq!(trainer, expected);
    }
}

/// A folder as `/sys/devices/system/cpu` is on a machine whose first cache has so many KiB and ways.
fn cpu_folder(kib: u32, ways: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let index = folder.path().join("cpu0/cache/index0");
    std::fs::create_dir_all(&index).expect("folders");
    let facts = [("type", "Data"), ("level", "1"), ("coherency_line_size", "64"), ("shared_cpu_list", "0")];
    let facts = facts.map(|(name, text)| (name, text.to_owned())).into_iter();
    for (name, text) in facts.chain([("size", format!("{kib}K")), ("ways_of_associativity", ways.to_string())]) {
        std::fs::write(index.join(name), text).expect("a file");
    }
    folder
}

/// Runs a program where that folder lies over the system's; none where this machine doesn't allow it.
fn on_other_caches(folder: &Path, program: &[&str]) -> Option<String> {
    let script = "mount --bind \"$0\" /sys/devices/system/cpu || exit 77; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(folder).args(program);
    let output = command.output().ok()?;
    if output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).contains("unshare") {
        println!("skipped: this machine allows no other view of its caches: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(said(output))
}

/// What the library for matrices does by itself: its blocks follow the caches, and its bits with them.
#[test]
fn burn_by_itself() {
    if std::env::var_os("PRODUCT_OF_MATRICES").is_none() {
        return;
    }
    let matrix = |rows: usize, columns: usize| {
        let values = (0..rows * columns).map(|i| ((i * 7919) % 10_007) as f32 / 10_007.0 - 0.5).collect::<Vec<f32>>();
        Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
    };
    let product = matrix(80, 3000).matmul(matrix(3000, 80)).into_data();
    println!("product {}", Hash::of(product.as_bytes()));
}

#[test]
fn other_caches_change_the_bits_of_burn_by_itself_and_not_those_of_the_trainer() {
    let this_test = std::env::current_exe().expect("a path");
    let this_test = this_test.to_str().expect("text");
    let classes = |kib, ways| {
        let folder = cpu_folder(kib, ways);
        let trainer = on_other_caches(folder.path(), &[TRAINER, "--version"])?;
        let by_itself = ["env", "PRODUCT_OF_MATRICES=1", this_test, "--exact", "burn_by_itself", "--nocapture"];
        let said = on_other_caches(folder.path(), &by_itself)?;
        let product = said.lines().find_map(|line| line.split_once("product ")).expect("it was computed").1.to_owned();
        Some((trainer, product))
    };
    let (Some(small), Some(large)) = (classes(32, 8), classes(48, 12)) else { return };
    assert_eq!(small.0, large.0);
    assert_eq!(small.0, class(&mut version()));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        assert_ne!(small.1, large.1, "the sums are cut elsewhere");
    }
}
