use crate::{
    Decimal, JobSpec, Kind, Layer, LearningRate, Loss, Mode, Optimizer, Outer, Positions, SpecError, SpecProblem,
    SpecProblem::{BadValue, Missing, NotInRelease, Shape, TooLarge},
    layer_shapes,
};

/// The most workers of one job.
pub const MAX_WORKERS: u32 = 64;
/// The most layers of a model.
pub const MAX_LAYERS: usize = 256;
/// The most trainable parameters of a model.
pub const MAX_PARAMETERS: u64 = 50_000_000;
/// The most of any dimension: features, channels, height, width.
pub const MAX_DIMENSION: u32 = 65_536;
/// The most multiply-adds of one sample's forward pass.
pub const MAX_MULTIPLY_ADDS: u64 = 1_000_000_000_000;
/// The most samples in one step.
pub const MAX_BATCH: u32 = 65_536;
/// The most epochs.
pub const MAX_EPOCHS: u32 = 10_000;
/// The most steps of a local round.
pub const MAX_LOCAL_STEPS: u32 = 100_000;
/// The most rounds that an average may be late.
pub const MAX_STALENESS: u32 = 16;
/// The most failures of workers that a job may survive.
pub const MAX_RESTARTS: u32 = 1000;
/// The most memory or disk that one worker may ask for, in MiB: 4 TiB.
pub const MAX_RAM_MIB: u64 = 4 * 1024 * 1024;
/// The most CPU cores or GPUs that one worker may ask for.
const MAX_CORES: u32 = 1024;
/// The most characters of names.
const MAX_NAME_CHARS: usize = 64;

/// Memory of a trainer before it holds a model or data, in MiB (measured: `deepmarket-trainer bench` prints it as
/// `baseline_mib`, 7; the rest is for frames, blocks of patches and what the allocator holds back).
pub const BASELINE_MIB: u64 = 32;
/// Memory for one trainable parameter, in bytes: value, gradient and two moments (16, DESIGN section 8), a local round's
/// second set of them, and the vectors that are exchanged, saved and restored. Measured by `tests/memory.rs` of the trainer.
pub const PARAMETER_BYTES: u64 = 16 + 32;
/// Memory for one activation of one sample in a training step, in bytes: value, gradient, and copies between layouts.
/// Measured by `tests/memory.rs` of the trainer.
pub const ACTIVATION_BYTES: u64 = 16;
/// A model must fit in this share of the lent memory (DESIGN section 8); the rest is for data.
const RAM_SHARE_PERCENT: u128 = 80;

/// What a checked job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Trainable parameters.
    pub parameters: u64,
    /// Running statistics of batch norms.
    pub buffers: u64,
    /// Values that a training step keeps of one sample: the input, what all layers put out, and what some keep inside (gates,
    /// attention).
    pub activations: u64,
    /// Multiply-adds of one sample's forward pass; training costs about three times as much.
    pub multiply_adds: u64,
    /// Memory that each worker must be given, in MiB.
    pub ram_mib: u64,
    /// Shape of the model's output.
    pub output: Vec<u32>,
    /// Layers.
    pub depth: u32,
}

impl JobSpec {
    /// Checks everything that can be known without the data, in checked integers and without allocating what the spec asks
    /// for. Errors name the key.
    pub fn check(&self) -> Result<Size, SpecError> {
        check_name("name", &self.name)?;
        if self.kind != Kind::Train && self.model.parameters.is_none() {
            let found = "a job that doesn't train needs a trained model";
            let hint = "add parameters = \"job-12\", the job that trained it";
            return Err(SpecError::new(Missing, "model.parameters", found, hint));
        }
        self.check_workers()?;
        self.check_budget()?;
        check_name("data.train", &self.data.train)?;
        check_name("data.validate", &self.data.validate)?;
        self.check_training()?;
        let size = self.check_model()?;
        within("recovery.restarts", self.recovery.restarts.into(), 0, MAX_RESTARTS.into())?;
        Ok(size)
    }

    fn check_workers(&self) -> Result<(), SpecError> {
        let w = &self.workers;
        within("workers.min", w.min.into(), 1, MAX_WORKERS.into())?;
        within("workers.max", w.max.into(), w.min.into(), MAX_WORKERS.into())?;
        within("workers.cores", w.cores.into(), 1, MAX_CORES.into())?;
        within("workers.ram_mib", w.ram_mib, 1, MAX_RAM_MIB)?;
        within("workers.disk_mib", w.disk_mib, 0, MAX_RAM_MIB)?;
        if w.gpus > 0 {
            return Err(later("workers.gpus", "training on GPUs is not in this release"));
        }
        Ok(())
    }

    fn check_budget(&self) -> Result<(), SpecError> {
        if self.budget.max.is_zero() {
            return Err(bad("budget.max_credits", "a budget of 0 pays nobody", "say what the job may cost at most"));
        }
        if self.budget.slots.iter().any(|slot| *slot > 3) || self.budget.slots.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(bad(
                "budget.slots",
                "slots are ascending numbers from 0 to 3",
                "name each of the day's four slots at most once",
            ));
        }
        within("budget.audit_percent", self.budget.audit_percent.into(), 0, 100)
    }

    fn check_training(&self) -> Result<(), SpecError> {
        let t = &self.training;
        within("training.batch", t.batch.into(), 1, MAX_BATCH.into())?;
        within("training.epochs", t.epochs.into(), 1, MAX_EPOCHS.into())?;
        let (name, rates) = match t.optimizer {
            Optimizer::Sgd { momentum, weight_decay, .. } => {
                ("sgd", vec![("momentum", momentum, true), ("weight_decay", weight_decay, false)])
            }
            Optimizer::Adam { beta1, beta2, epsilon, weight_decay, .. }
            | Optimizer::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
                let name = if matches!(t.optimizer, Optimizer::Adam { .. }) { "adam" } else { "adamw" };
                let rates = vec![
                    ("beta1", beta1, true),
                    ("beta2", beta2, true),
                    ("epsilon", epsilon, false),
                    ("weight_decay", weight_decay, false),
                ];
                (name, rates)
            }
        };
        let place = |key: &str| format!("training.optimizer.{name}.{key}");
        if t.optimizer.lr() <= Decimal::ZERO || t.optimizer.lr() > Decimal::from_nanos(1_000_000_000_000) {
            let found = format!("a learning rate of {} can't train", t.optimizer.lr());
            return Err(bad(place("lr"), found, "use more than 0 and at most 1000, for example 0.001"));
        }
        for (key, rate, below_one) in rates {
            if rate < Decimal::ZERO || (below_one && rate >= Decimal::ONE) || rate > Decimal::from_nanos(1_000_000_000_000) {
                let range = if below_one { "at least 0 and less than 1" } else { "at least 0 and at most 1000" };
                return Err(bad(place(key), format!("{rate} is out of range"), format!("use {range}")));
            }
        }
        if let Optimizer::Sgd { momentum: Decimal::ZERO, nesterov: true, .. } = t.optimizer {
            return Err(bad(
                place("nesterov"),
                "nesterov looks ahead along a momentum, and there is none",
                "give a momentum, for example 0.9",
            ));
        }
        match t.schedule {
            LearningRate::Constant { .. } => {}
            LearningRate::Step { every_epochs, factor, .. } => {
                within("training.schedule.step.every_epochs", every_epochs.into(), 1, MAX_EPOCHS.into())?;
                if factor <= Decimal::ZERO || factor > Decimal::ONE {
                    return Err(bad(
                        "training.schedule.step.factor",
                        format!("{factor} is out of range"),
                        "use more than 0 and at most 1",
                    ));
                }
            }
            LearningRate::Cosine { final_lr, .. } => {
                if final_lr < Decimal::ZERO || final_lr > t.optimizer.lr() {
                    let found = format!("{final_lr} is out of range");
                    return Err(bad("training.schedule.cosine.final_lr", found, "use at least 0 and at most the optimizer's lr"));
                }
            }
        }
        match t.mode {
            Mode::Sync => Ok(()),
            Mode::Local { steps, outer } => {
                within("training.mode.local.steps", steps.into(), 1, MAX_LOCAL_STEPS.into())?;
                check_outer(outer)
            }
            Mode::Async { staleness } => within("training.mode.async.staleness", staleness.into(), 1, MAX_STALENESS.into()),
        }
    }

    fn check_model(&self) -> Result<Size, SpecError> {
        let shapes = layer_shapes(&self.model)?;
        let mut size = Size {
            parameters: 0,
            buffers: 0,
            activations: 0,
            multiply_adds: 0,
            ram_mib: 0,
            output: shapes.last().cloned().unwrap_or_default(),
            depth: self.model.layers.len() as u32,
        };
        size.activations = shapes.iter().map(|shape| values(shape)).fold(0, u64::saturating_add);
        for (index, (layer, input)) in self.model.layers.iter().zip(&shapes).enumerate() {
            let Cost { parameters, buffers, multiply_adds, inner } = cost(layer, input, &shapes[index + 1]);
            let place = || format!("model.layers[{index}].{}", layer.name());
            size.parameters = add(size.parameters, parameters, MAX_PARAMETERS).ok_or_else(|| {
                let found = format!("this layer has {parameters} parameters; a model may have {MAX_PARAMETERS} in all");
                SpecError::new(TooLarge, place(), found, "make it narrower, or pool the image before it")
            })?;
            size.buffers += buffers as u64; // At most twice a dimension for each layer.
            size.multiply_adds = add(size.multiply_adds, multiply_adds, MAX_MULTIPLY_ADDS).ok_or_else(|| {
                let found =
                    format!("this layer takes {multiply_adds} multiply-adds a sample; a model may take {MAX_MULTIPLY_ADDS}");
                SpecError::new(TooLarge, place(), found, "make it narrower, or pool the image before it")
            })?;
            size.activations = size.activations.saturating_add(u64::try_from(inner).unwrap_or(u64::MAX));
        }
        if size.parameters == 0 {
            let hint = "add a layer with weights, for example { linear = { out = 10 } }";
            return Err(SpecError::new(Shape, "model.layers", "no layer has parameters: there is nothing to train", hint));
        }
        self.check_output(&size.output)?;
        size.ram_mib = self.check_memory(&size)?;
        Ok(size)
    }

    fn check_output(&self, output: &[u32]) -> Result<(), SpecError> {
        let last = format!("model.layers[{}]", self.model.layers.len().saturating_sub(1));
        if self.training.loss == Loss::CrossEntropy {
            if output.len() > 2 || output.last().is_none_or(|classes| *classes < 2) {
                let found = format!(
                    "the model puts out {output:?}, and cross_entropy needs [classes] or [length, classes] with at least 2 classes"
                );
                return Err(SpecError::new(Shape, last, found, "end with { flatten = {} }, { linear = { out = CLASSES } }"));
            }
            if self.model.layers.last() == Some(&Layer::Softmax) {
                let found = "cross_entropy applies softmax itself, so the model must not end with it";
                return Err(SpecError::new(Shape, last, found, "remove the last layer"));
            }
        }
        if output.len() > 2 {
            let found = format!("the model puts out {output:?}, and losses need [features] or [length, features]");
            return Err(SpecError::new(Shape, last, found, "end with { flatten = {} } or a linear layer"));
        }
        Ok(())
    }

    /// The memory that each worker must be given, in MiB.
    fn check_memory(&self, size: &Size) -> Result<u64, SpecError> {
        let samples = u128::from(match self.training.mode {
            Mode::Sync | Mode::Async { .. } => self.training.batch.div_ceil(self.workers.min),
            _ => self.training.batch,
        });
        let mib = |bytes: u128| bytes.div_ceil(1024 * 1024);
        let parameters = mib(u128::from(size.parameters + size.buffers) * u128::from(PARAMETER_BYTES));
        let activations = mib(u128::from(size.activations) * samples * u128::from(ACTIVATION_BYTES));
        let needed = u128::from(BASELINE_MIB) + parameters + activations;
        let lent = (needed * 100).div_ceil(RAM_SHARE_PERCENT);
        if lent > u128::from(self.workers.ram_mib) {
            let found = format!(
                "{} MiB are too little: a worker needs {lent} MiB ({BASELINE_MIB} to run, {parameters} for parameters, {activations} \
                 for {samples} samples of a step, and a fifth of it all for data)",
                self.workers.ram_mib
            );
            let hint = match u64::try_from(lent) {
                Ok(lent) if lent <= MAX_RAM_MIB => format!("set ram_mib = {lent}, or lower training.batch"),
                _ => "no machine has that much: lower training.batch or make the layers smaller".into(),
            };
            return Err(SpecError::new(TooLarge, "workers.ram_mib", found, hint));
        }
        Ok(lent as u64)
    }
}

/// What a layer costs, a sample where it depends on samples. In 128 bits: the largest product is of five dimensions of 16 bits
/// each.
#[derive(Default)]
struct Cost {
    parameters: u128,
    buffers: u128,
    multiply_adds: u128,
    /// Values that a training step keeps beside the layer's output.
    inner: u128,
}

fn cost(layer: &Layer, input: &[u32], output: &[u32]) -> Cost {
    let first = |shape: &[u32]| u128::from(shape.first().copied().unwrap_or(0));
    let last = |shape: &[u32]| u128::from(shape.last().copied().unwrap_or(0));
    let positions = u128::from(values(input)) / last(input).max(1);
    let of = |parameters, multiply_adds, inner| Cost { parameters, multiply_adds, inner, buffers: 0 };
    match layer {
        Layer::Linear { .. } => {
            let weights = last(input) * last(output);
            of(weights + last(output), weights * positions, 0)
        }
        Layer::Conv2d { kernel, .. } => {
            let weights = first(input) * first(output) * u128::from(*kernel) * u128::from(*kernel);
            let positions: u128 = output[1..].iter().map(|d| u128::from(*d)).product();
            of(weights + first(output), weights.saturating_mul(positions), 0)
        }
        Layer::Conv1d { kernel, .. } => {
            let patch = last(input) * u128::from(*kernel);
            let weights = patch * last(output);
            // The patches of all positions lie side by side.
            of(weights + last(output), weights * first(output), 2 * patch * first(output))
        }
        Layer::BatchNorm { .. } => Cost { parameters: 2 * first(input), buffers: 2 * first(input), ..Cost::default() },
        Layer::LayerNorm { .. } => of(2 * last(input), 0, 0),
        Layer::Embedding { vocabulary, out } => of(u128::from(*vocabulary) * u128::from(*out), 0, 0),
        Layer::PositionEmbedding { kind: Positions::Learned } => of(positions * last(input), 0, 0),
        Layer::Lstm { hidden, .. } => recurrent_cost(4, 1, positions, last(input), (*hidden).into()),
        Layer::Gru { hidden, .. } => recurrent_cost(3, 1, positions, last(input), (*hidden).into()),
        Layer::Attention { heads, .. } => attention_cost(positions, last(input), (*heads).into()),
        Layer::TransformerEncoder { heads, feed_forward, .. } => {
            let (features, inner) = (last(input), u128::from(*feed_forward));
            let attention = attention_cost(positions, features, (*heads).into());
            let weights = 2 * features * inner;
            of(
                attention.parameters + weights + inner + features + 4 * features,
                attention.multiply_adds + weights * positions,
                // Two norms, what goes around, masks; and the feed-forward network before and after GELU and dropout.
                attention.inner + positions * (6 * features + 4 * inner),
            )
        }
        _ => Cost::default(),
    }
}

/// A recurrent layer's: at each position, its gates and `states` more values of its hidden size.
fn recurrent_cost(gates: u128, states: u128, length: u128, inputs: u128, hidden: u128) -> Cost {
    let weights = gates * hidden * (inputs + hidden);
    Cost {
        parameters: weights + 2 * gates * hidden,
        multiply_adds: weights * length,
        inner: length * (inputs + (gates + states + 1) * hidden),
        buffers: 0,
    }
}

/// Multi-head attention's: queries, keys and values, and for each head a square of positions.
fn attention_cost(length: u128, features: u128, heads: u128) -> Cost {
    let (weights, square) = (4 * features * features, length * length);
    Cost {
        parameters: weights + 4 * features,
        multiply_adds: weights * length + 2 * square * features,
        inner: 8 * length * features + 3 * square * heads,
        buffers: 0,
    }
}

/// The number of values of a shape of at most three dimensions.
pub(crate) fn values(shape: &[u32]) -> u64 {
    shape.iter().map(|d| u64::from(*d)).product()
}

fn check_outer(outer: Outer) -> Result<(), SpecError> {
    let Outer::Nesterov { lr, momentum } = outer else { return Ok(()) };
    let place = |key: &str| format!("training.mode.local.outer.nesterov.{key}");
    if lr <= Decimal::ZERO || lr > Decimal::from_nanos(10_000_000_000) {
        return Err(bad(place("lr"), format!("{lr} is out of range"), "use more than 0 and at most 10, for example 0.7"));
    }
    if momentum < Decimal::ZERO || momentum >= Decimal::ONE {
        return Err(bad(place("momentum"), format!("{momentum} is out of range"), "use at least 0 and less than 1"));
    }
    Ok(())
}

fn add(sum: u64, more: u128, limit: u64) -> Option<u64> {
    let total = u128::from(sum).checked_add(more)?;
    u64::try_from(total).ok().filter(|total| *total <= limit)
}

pub(crate) fn check_name(place: &str, name: &str) -> Result<(), SpecError> {
    let characters = name.chars().count();
    if characters == 0 || characters > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        let found = "it must be a printable name";
        return Err(bad(place, found, format!("use 1 to {MAX_NAME_CHARS} printable characters")));
    }
    Ok(())
}

pub(crate) fn within(place: &str, value: u64, least: u64, most: u64) -> Result<(), SpecError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let problem = if value > most { SpecProblem::TooLarge } else { BadValue };
    Err(SpecError::new(problem, place, format!("{value} is out of range"), format!("use {least} to {most}")))
}

pub(crate) fn bad(place: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> SpecError {
    SpecError::new(BadValue, place, message, hint)
}

fn later(place: &str, message: &str) -> SpecError {
    SpecError::new(NotInRelease, place, message, "change it, or wait for a release that has it")
}
