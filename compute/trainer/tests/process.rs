//! The trainer as workers see it: a process at the end of a pipe.

mod common;

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Dataset, Process, Round, evaluate, round};
use deepmarket_dataset::shard_bytes;
use deepmarket_job::{
    DatasetManifest, Decimal, Features, JobSpec, Shard, Split, Targets,
    protocol::{EXIT_OUT_OF_MEMORY, Part, Reply, Request},
};
use deepmarket_types::{FailureReason, Hash, steps_root};

const LAYERS: &str = "{ conv2d = { out = 4, kernel = 3, padding = 1 } }, { batch_norm = {} }, \"relu\", { max_pool2d = { kernel = 2 } }, \
                      { dropout = { rate = 0.25 } }, \"flatten\", { linear = { out = 4 } }";

fn trainer() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_deepmarket-trainer"))
}

/// Four classes of 12 × 12 images, each bright in another corner, in shards of 20.
fn dataset() -> Dataset {
    let mut splits = Vec::new();
    let mut shards = Vec::new();
    for (name, count) in [("train", 6), ("test", 2)] {
        let mut listed = Vec::new();
        for shard in 0..count {
            let classes: Vec<u8> = (0..20).map(|i| ((i + shard) % 4) as u8).collect();
            let pixel = |i: usize, class: u8, p: usize| {
                let corner = (p / 12 / 6 * 2 + p % 12 / 6) as u8;
                let noise = (i * 31 + p * 17 + shard * 7) % 90;
                if corner == class { 255 - noise as u8 } else { noise as u8 }
            };
            let pixels: Vec<u8> =
                classes.iter().enumerate().flat_map(|(i, class)| (0..144).map(move |p| pixel(i, *class, p))).collect();
            let bytes = shard_bytes(&pixels, &classes, &[1, 12, 12]);
            listed.push(Shard { hash: Hash::of(&bytes), bytes: bytes.len() as u64, samples: 20 });
            shards.push((Hash::of(&bytes), bytes));
        }
        splits.push(Split { name: name.into(), samples: 20 * count as u64, shards: listed });
    }
    let x = Features::U8 { mean: Decimal::from_nanos(300_000_000), std: Decimal::from_nanos(300_000_000) };
    let y = Targets::Class { classes: 4 };
    Dataset { manifest: DatasetManifest { name: "corners".into(), shape: vec![1, 12, 12], x, y, splits }, shards }
}

fn spec(mode: &str, dataset: &Dataset) -> JobSpec {
    let text = format!(
        "name = \"corners\"\n[workers]\nmin = 1\nmax = 3\nram_mib = 512\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"corners\"\n\
         [model]\ninput = [1, 12, 12]\nlayers = [ {LAYERS} ]\n[training]\nloss = \"cross_entropy\"\n\
         optimizer = {{ adam = {{ lr = 0.01 }} }}\nschedule = {{ cosine = {{ warmup_steps = 5 }} }}\nbatch = 12\nepochs = 6\nmode = {mode}\n"
    );
    JobSpec::from_toml(&text, &|_| Some(dataset.manifest.hash())).expect("a valid spec")
}

fn start(world: u32, spec: &JobSpec, dataset: &Dataset) -> Vec<Process> {
    let mut ranks: Vec<Process> = (0..world).map(|_| Process::start(trainer(), &["--ram-mib", "512"])).collect();
    let hashes: Vec<Hash> =
        ranks.iter_mut().enumerate().map(|(rank, process)| process.join(spec, dataset, rank as u32, world)).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "all ranks begin with the same parameters");
    ranks
}

fn export(process: &mut Process) -> Vec<u8> {
    match process.ask(&Request::Export) {
        Reply::Model { safetensors } => safetensors,
        other => panic!("{other:?}"),
    }
}

/// What must be equal of two runs.
fn essence(rounds: &[Round]) -> Vec<(Hash, Vec<[Hash; 3]>, u64)> {
    rounds.iter().map(|round| (round.parameters, round.outcomes.clone(), round.loss.to_bits())).collect()
}

#[test]
fn the_same_job_gives_the_same_bytes_in_other_processes_and_learns() {
    let dataset = dataset();
    for (mode, world, rounds) in [("\"sync\"", 3, 60), ("{ local = { steps = 2 } }", 2, 15)] {
        let spec = spec(mode, &dataset);
        let run = || {
            let mut ranks = start(world, &spec, &dataset);
            let done: Vec<Round> = (0..rounds).map(|number| round(&mut ranks, number)).collect();
            let (samples, correct, _) = evaluate(&mut ranks);
            assert_eq!(samples, 40);
            assert!(correct >= 36, "{mode}: {correct} of 40 are right");
            let models: Vec<Vec<u8>> = ranks.iter_mut().map(export).collect();
            assert!(models.windows(2).all(|pair| pair[0] == pair[1]), "all ranks export the same file");
            for mut process in ranks {
                assert_eq!(process.ask(&Request::Stop), Reply::Bye);
                assert!(process.end().success());
            }
            (essence(&done), models[0].clone())
        };
        assert!(run() == run(), "{mode}");
    }
}

#[test]
fn a_job_that_moves_to_new_processes_half_way_gives_the_same_bytes() {
    let dataset = dataset();
    let spec = spec("\"sync\"", &dataset);
    let mut straight = start(2, &spec, &dataset);
    let expected: Vec<Round> = (0..20).map(|number| round(&mut straight, number)).collect();

    let mut first = start(2, &spec, &dataset);
    let mut moved: Vec<Round> = (0..10).map(|number| round(&mut first, number)).collect();
    let Reply::Saved { state, round: 10, .. } = first[1].ask(&Request::Save { trained: 3 }) else { panic!("not saved") };
    drop(first);
    let mut second = start(2, &spec, &dataset);
    for process in &mut second {
        let reply = process.ask(&Request::Restore { state: state.clone() });
        assert!(
            matches!(reply, Reply::Restored { round: 10, parameters, trained: 3 } if parameters == moved[9].parameters),
            "{reply:?}"
        );
    }
    moved.extend((10..20).map(|number| round(&mut second, number)));
    assert_eq!(essence(&moved), essence(&expected));
}

/// Inputs, steps and output of a round.
fn outcome(process: &mut Process, round: u64) -> [Hash; 3] {
    match process.ask(&Request::Round { round }) {
        Reply::Update { inputs, steps, output, .. } => [inputs, steps, output],
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_auditor_and_a_judge_in_other_processes_get_what_the_worker_got() {
    let dataset = dataset();
    for (mode, kept_at) in [("\"sync\"", 3), ("{ local = { steps = 4 } }", 6)] {
        let spec = spec(mode, &dataset);
        let mut ranks = start(2, &spec, &dataset);
        let (mut state, mut averages) = (Vec::new(), Vec::new());
        for number in 0..6 {
            if number == kept_at {
                state = save(&mut ranks[1]);
            }
            averages.push(round(&mut ranks, number).average);
        }
        if kept_at == 6 {
            state = save(&mut ranks[1]);
        }
        let expected = outcome(&mut ranks[1], 6);

        let mut others = start(2, &spec, &dataset);
        let [_, auditor] = &mut others[..] else { panic!("two ranks") };
        assert!(matches!(auditor.ask(&Request::Restore { state }), Reply::Restored { .. }));
        for values in &averages[kept_at as usize..] {
            assert!(matches!(auditor.ask(&Request::Apply { values: values.clone() }), Reply::Applied { .. }));
        }
        assert_eq!(outcome(auditor, 6), expected, "{mode}");
        let Reply::Traced { inputs, output, steps, .. } = auditor.ask(&Request::Trace { round: 6 }) else { panic!("no trace") };
        assert_eq!([inputs, steps_root(&steps), output], expected);

        let mut judges = start(2, &spec, &dataset);
        let mut last: Option<Hash> = None;
        for (step, hash) in (0..).zip(&steps) {
            let Reply::Saved { state, .. } = auditor.ask(&Request::SaveStep { round: 6, step }) else { panic!("not saved") };
            match judges[1].ask(&Request::Step { round: 6, step, state }) {
                Reply::Stepped { inputs: of_step, before, after } => {
                    assert_eq!((of_step, after), ((step == 0).then_some(inputs), *hash), "{mode}, step {step}");
                    assert!(last.is_none_or(|last| last == before));
                    last = Some(after);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn save(process: &mut Process) -> Vec<u8> {
    match process.ask(&Request::Save { trained: 0 }) {
        Reply::Saved { state, .. } => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exported_model_is_evaluated_by_another_process() {
    let dataset = dataset();
    let spec = spec("{ local = { steps = 5 } }", &dataset);
    let mut ranks = start(1, &spec, &dataset);
    (0..6).for_each(|number| {
        round(&mut ranks, number);
    });
    let expected = evaluate(&mut ranks);
    let safetensors = export(&mut ranks[0]);
    let mut other = start(1, &spec, &dataset);
    assert_ne!(evaluate(&mut other), expected);
    assert!(matches!(other[0].ask(&Request::LoadModel { safetensors }), Reply::Restored { .. }));
    assert_eq!(evaluate(&mut other), expected);
}

#[test]
fn requests_that_can_not_be_done_are_answered_and_change_nothing() {
    let dataset = dataset();
    let mut process = Process::start(trainer(), &[]);
    let reason = |reply: Reply| match reply {
        Reply::Failed { reason, message } => {
            assert!(!message.is_empty());
            reason
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(process.ask(&Request::Evaluate)), FailureReason::TrainerCrashed);
    let data = dataset.manifest.to_bytes();
    let start = |spec: Vec<u8>, data: Vec<u8>| Request::Start { spec, seed: Hash::default(), world: 1, train_samples: 120, data };
    let spec = spec("\"sync\"", &dataset);
    assert_eq!(reason(process.ask(&start(vec![1, 2, 3], data.clone()))), FailureReason::TrainerCrashed);
    assert_eq!(reason(process.ask(&start(spec.to_bytes(), vec![1]))), FailureReason::DataUnavailable);
    process.join(&spec, &dataset, 0, 1);
    let broken = Request::Shard { part: Part::Train, index: 0, bytes: vec![7; 50] };
    assert_eq!(reason(process.ask(&broken)), FailureReason::DataUnavailable);
    assert_eq!(reason(process.ask(&Request::Round { round: 5 })), FailureReason::TrainerCrashed);
    assert_eq!(reason(process.ask(&Request::Apply { values: vec![0; 3] })), FailureReason::TrainerCrashed);
    assert!(matches!(process.ask(&Request::Round { round: 0 }), Reply::Update { .. }));
}

#[test]
fn a_trainer_that_needs_more_memory_than_was_lent_ends_with_a_status_of_its_own() {
    let mut dataset = dataset();
    // 2.9 MB each.
    let bytes = shard_bytes(&vec![0; 20_000 * 144], &vec![0; 20_000], &[1, 12, 12]);
    let listed = Shard { hash: Hash::of(&bytes), bytes: bytes.len() as u64, samples: 20_000 };
    let large = Split { name: "large".into(), samples: 100 * listed.samples, shards: vec![listed; 100] };
    dataset.manifest.splits.push(large);
    let mut process = Process::start(trainer(), &["--ram-mib", "128"]);
    let mut large = spec("\"sync\"", &dataset);
    large.data.train = "large".into();
    let (spec, data) = (large.to_bytes(), dataset.manifest.to_bytes());
    let start = Request::Start { spec, seed: Hash::default(), world: 1, train_samples: 100 * 20_000, data };
    assert!(matches!(process.ask(&start), Reply::Started { .. }));
    let shard = |index| Request::Shard { part: Part::Train, index, bytes: bytes.clone() };
    // The 128 MiB are used up long before the hundredth.
    let ended = (0..100).any(|index| process.try_ask(&shard(index)).is_none());
    assert!(ended, "the limit holds");
    let status = process.end();
    assert_eq!(status.code(), Some(EXIT_OUT_OF_MEMORY), "{status}");
}

#[test]
fn a_machine_is_measured_within_seconds() {
    let mut process = Process::start(trainer(), &[]);
    let clock = Instant::now();
    match process.ask(&Request::Measure { seed: 5 }) {
        Reply::Measured { mega_multiply_adds_per_s, cores, trainer } => {
            assert!(mega_multiply_adds_per_s > 0 && cores > 0 && trainer.contains(std::env::consts::ARCH), "{trainer}");
        }
        other => panic!("{other:?}"),
    }
    assert!(clock.elapsed() < Duration::from_secs(20));
}

#[cfg(target_os = "linux")]
#[test]
fn a_trainer_dies_with_its_parent() {
    // The pipe stays open longer than the test: only the parent's death can end the trainer.
    let script = "sleep 20 | \"$0\" & echo $!; wait";
    let mut shell = Command::new("sh").args(["-c", script]).arg(trainer()).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut text = String::new();
    let mut out = shell.stdout.take().expect("piped");
    while !text.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).expect("the trainer's id");
        text.push(byte[0] as char);
    }
    let stat = format!("/proc/{}/stat", text.trim());
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains("(deepmarket-trai") && !stat.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(15);
    while !alive() {
        assert!(Instant::now() < deadline, "the trainer starts");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Started, but perhaps not yet confined: the kernel tells.
    let status = format!("/proc/{}/status", text.trim());
    while !std::fs::read_to_string(&status).is_ok_and(|status| status.contains("Seccomp:\t2")) {
        assert!(Instant::now() < deadline, "the trainer confines itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    shell.kill().expect("the shell is ours");
    shell.wait().expect("the shell ended");
    while alive() {
        assert!(Instant::now() < deadline, "the trainer outlived its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
}
