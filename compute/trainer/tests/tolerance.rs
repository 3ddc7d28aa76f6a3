//! The agent's measure of two updates of one round, on updates of real training: what another machine's rounding does to them, and
//! what cheats do.

use deepmarket_dataset::shard_bytes;
use deepmarket_job::{DatasetManifest, Decimal, Features, JobSpec, Mode, Outer, Shard, Split, Targets, protocol::Part};
use deepmarket_trainer::Trainer;
use deepmarket_types::Hash;

#[path = "../../worker/src/tolerance.rs"]
mod tolerance;

use tolerance::{Closeness, SAME, closeness, distance};

const SAMPLES: usize = 640;

/// Ten classes of 14 × 14 images: a bright square at a place of the class's, on noise.
fn dataset() -> (DatasetManifest, Vec<u8>) {
    let classes: Vec<u8> = (0..SAMPLES).map(|i| (i % 10) as u8).collect();
    let pixel = |i: usize, class: u8, p: usize| {
        let (row, column) = (p / 14, p % 14);
        let (top, left) = (usize::from(class) / 5 * 7, usize::from(class) % 5 * 2);
        let noise = ((i * 7919 + p * 104_729) % 211) as u8;
        if (top..top + 6).contains(&row) && (left..left + 5).contains(&column) { 255 - noise / 2 } else { noise }
    };
    let pixels: Vec<u8> = classes.iter().enumerate().flat_map(|(i, class)| (0..196).map(move |p| pixel(i, *class, p))).collect();
    let shard = shard_bytes(&pixels, &classes, &[1, 14, 14]);
    let listed = Shard { hash: Hash::of(&shard), bytes: shard.len() as u64, samples: SAMPLES as u64 };
    let splits = vec![Split { name: "train".into(), samples: SAMPLES as u64, shards: vec![listed] }];
    let x = Features::U8 { mean: Decimal::from_nanos(400_000_000), std: Decimal::from_nanos(300_000_000) };
    (DatasetManifest { name: "squares".into(), shape: vec![1, 14, 14], x, y: Targets::Class { classes: 10 }, splits }, shard)
}

fn trainer(optimizer: &str, batch: u32, mode: &str) -> Trainer {
    let (manifest, shard) = dataset();
    let text = format!(
        "name = \"squares\"\n[workers]\nram_mib = 1024\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"squares\"\nvalidate = \"train\"\n\
         [model]\ninput = [1, 14, 14]\nlayers = [ {{ conv2d = {{ out = 8, kernel = 3, padding = 1 }} }}, {{ batch_norm = {{}} }}, \"relu\", \
         {{ max_pool2d = {{ kernel = 2 }} }}, {{ dropout = {{ rate = 0.25 }} }}, \"flatten\", {{ linear = {{ out = 10 }} }} ]\n\
         [training]\nloss = \"cross_entropy\"\noptimizer = {{ {optimizer} }}\nbatch = {batch}\nepochs = 100\nmode = {mode}\n"
    );
    let spec = JobSpec::from_toml(&text, &|_| Some(manifest.hash())).expect("a valid spec");
    let mut trainer = Trainer::new(spec, manifest, Hash::of(b"job"), 1, SAMPLES as u64).expect("a valid job");
    trainer.add_shard(Part::Train, 0, &shard).expect("a shard");
    trainer
}

/// A state whose numbers are all wrong by up to `relative` of themselves, as if another machine had rounded otherwise: more than one
/// that computes in f32 from the same state is.
fn shaken(state: &[u8], relative: f32, seed: usize) -> Vec<u8> {
    let header = 8 + u64::from_le_bytes(*state.first_chunk().expect("a header")) as usize;
    let (head, data) = state.split_at(header);
    let wrong = |(i, four): (usize, &[u8; 4])| {
        let random = ((i + 1) * (seed + 1) * 7919 % 10_007) as f32 / 5_003.5 - 1.0;
        (f32::from_le_bytes(*four) * (1.0 + relative * random)).to_le_bytes()
    };
    head.iter().copied().chain(data.as_chunks::<4>().0.iter().enumerate().flat_map(wrong)).collect()
}

const OPTIMIZERS: [&str; 2] = ["adam = { lr = 0.001 }", "sgd = { lr = 0.01, momentum = 0.9 }"];

/// How much room honest updates must leave.
const MARGIN: f64 = 10.0;

fn scaled(update: &[f32], by: f32) -> Vec<f32> {
    update.iter().map(|value| value * by).collect()
}

/// Uniform noise, of a thousandth of the update's length.
fn noisy(update: &[f32]) -> Vec<f32> {
    let deviation = 1e-3 * (update.iter().map(|value| value * value).sum::<f32>() / update.len() as f32).sqrt();
    let noise = |i: usize| ((i * 7919 % 10_007) as f32 / 5_003.5 - 1.0) * 3_f32.sqrt() * deviation;
    update.iter().enumerate().map(|(i, value)| value + noise(i)).collect()
}

/// The update of a round from a state.
fn update(trainer: &mut Trainer, state: &[u8], round: u64) -> Vec<f32> {
    trainer.restore(state).expect("a state");
    trainer.compute_round(round).expect("a round").values
}

#[test]
fn a_step_rounded_elsewhere_is_the_same_with_room_to_spare_and_cheats_are_not() {
    for optimizer in OPTIMIZERS {
        let mode = "\"sync\"";
        let (mut worker, mut auditor) = (trainer(optimizer, 64, mode), trainer(optimizer, 64, mode));
        let mut lazy = trainer(optimizer, 48, mode);
        let mut before = Vec::new();
        for round in 0..30 {
            let state = worker.save(0);
            let honest = update(&mut worker, &state, round);
            if round % 3 == 1 {
                for seed in 0..4 {
                    let elsewhere = update(&mut auditor, &shaken(&state, 1e-7, seed), round);
                    let found = distance(&elsewhere, &honest).expect("they can be compared");
                    assert!(found.relative * MARGIN <= SAME, "{optimizer}, round {round}: {found:?}");
                    assert_eq!(closeness(&elsewhere, &honest, &Mode::Sync), Closeness::Same);
                }
                // The parameters of the round before, as if its step had changed nothing.
                auditor.restore(&before).expect("a state");
                let unchanged = auditor.export();
                auditor.restore(&state).expect("a state");
                auditor.load_model(&unchanged).expect("a model");
                let older = auditor.compute_round(round).expect("a round").values;
                for (cheat, values) in [
                    ("the opposite", scaled(&honest, -1.0)),
                    ("a smaller batch", update(&mut lazy, &state, round)),
                    ("old parameters", older),
                    ("nothing", scaled(&honest, 0.0)),
                    ("scaled", scaled(&honest, 1.01)),
                    ("noise", noisy(&honest)),
                ] {
                    let found = distance(&values, &honest);
                    let verdict = closeness(&values, &honest, &Mode::Sync);
                    assert_eq!(verdict, Closeness::Other, "{optimizer}, round {round}, {cheat}: {found:?}");
                }
            }
            before = state;
            worker.restore(&before).expect("a state");
            worker.apply(&honest).expect("an average");
        }
    }
}

#[test]
fn local_steps_rounded_elsewhere_are_the_same_with_room_to_spare_and_cheats_are_not() {
    for optimizer in OPTIMIZERS {
        for steps in [1, 3, 10] {
            let (text, mode) = (format!("{{ local = {{ steps = {steps} }} }}"), Mode::Local { steps, outer: Outer::Average });
            let (mut worker, mut auditor) = (trainer(optimizer, 64, &text), trainer(optimizer, 64, &text));
            let mut lazy = trainer(optimizer, 48, &text);
            for round in 0..5 {
                let state = worker.save(0);
                let honest = update(&mut worker, &state, round);
                for seed in 0..2 {
                    let elsewhere = update(&mut auditor, &shaken(&state, 1e-7, seed), round);
                    let found = distance(&elsewhere, &honest).expect("they can be compared");
                    assert!(found.typical * MARGIN <= SAME, "{optimizer}, {steps} steps, round {round}: {found:?}");
                    assert_eq!(closeness(&elsewhere, &honest, &mode), Closeness::Same, "{found:?}");
                }
                let cheats = [
                    ("the opposite", scaled(&honest, -1.0)),
                    ("a smaller batch", update(&mut lazy, &state, round)),
                    ("nothing", scaled(&honest, 0.0)),
                    ("scaled", scaled(&honest, 1.01)),
                    ("noise", noisy(&honest)),
                ];
                for (cheat, values) in cheats {
                    let found = distance(&values, &honest);
                    let verdict = closeness(&values, &honest, &mode);
                    assert_eq!(verdict, Closeness::Other, "{optimizer}, {steps} steps, round {round}, {cheat}: {found:?}");
                }
                worker.apply(&honest).expect("an average");
            }
        }
    }
}
