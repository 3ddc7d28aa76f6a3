use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{Credits, Hash, Resources};

use crate::{Decimal, SpecError, SpecProblem};

/// The most canonical bytes of a spec.
pub const MAX_SPEC_BYTES: usize = 64 * 1024;

/// The format version that precedes a spec's canonical bytes.
const SPEC_VERSION: u8 = 1;

/// A job as a borrower describes it. [`JobSpec::check`] says whether it can run and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct JobSpec {
    /// A name for people.
    pub name: String,
    /// What to do.
    pub kind: Kind,
    /// How many workers, and what each of them needs.
    pub workers: Workers,
    /// What it may cost, and when it may run.
    pub budget: Budget,
    /// The dataset.
    pub data: Data,
    /// The model.
    pub model: Model,
    /// How to train it.
    pub training: Training,
    /// How to survive faults.
    pub recovery: Recovery,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Kind {
    /// Trains a model.
    Train,
    /// Evaluates a model on the validation split.
    Evaluate,
    /// Computes a model's outputs for the validation split.
    Predict,
}

/// How many workers, and what each of them needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Workers {
    /// The job starts with at least so many.
    pub min: u32,
    /// It never has more.
    pub max: u32,
    /// CPU cores of each.
    pub cores: u32,
    /// GPUs of each.
    pub gpus: u32,
    /// Memory of each, in MiB.
    pub ram_mib: u64,
    /// Disk of each, in MiB.
    pub disk_mib: u64,
    /// May two workers of this job share a machine?
    pub share_machine: bool,
}

/// What the job may cost, and when it may run.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Budget {
    /// The most it may cost; put into escrow when it is submitted.
    pub max: Credits,
    /// The slots of the day in which it may run, ascending; empty: now, whatever the slot.
    pub slots: Vec<u8>,
    /// How many of a hundred receipts are audited at least; 0: as many as the market does anyway. More costs more.
    pub audit_percent: u8,
}

/// The dataset and its two splits.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Data {
    /// Hash of the dataset's manifest.
    pub manifest: Hash,
    /// The split to train on.
    pub train: String,
    /// The split to evaluate on.
    pub validate: String,
}

/// Layers from input to output. Each takes what the one before put out; with names, a layer can also take what an earlier one
/// put out, so that values can go around some layers (residual networks).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Model {
    /// The shape of one sample: `[features]` (or `[length]` tokens), `[length, features]`, or `[channels, height, width]`.
    pub input: Vec<u32>,
    /// From input to output.
    pub layers: Vec<Layer>,
    /// Names of what layers put out, in the order of the layers. [`INPUT`] names the model's input without being here.
    pub names: Vec<Named>,
    /// The model to start from, or to evaluate or predict with: the blob of an earlier job's result.
    pub parameters: Option<Hash>,
}

/// The name of the model's input, for [`Layer::Add`], [`Layer::Concat`] and [`Layer::Take`].
pub const INPUT: &str = "input";

/// A name for what a layer puts out.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The layer's index.
    pub layer: u32,
}

impl Model {
    /// A plain stack with fresh parameters.
    pub fn stack(input: Vec<u32>, layers: Vec<Layer>) -> Model {
        Model { input, layers, names: Vec::new(), parameters: None }
    }

    /// The name of what a layer puts out, if it has one.
    pub fn name_of(&self, layer: usize) -> Option<&str> {
        self.names.iter().find(|named| named.layer as usize == layer).map(|named| named.name.as_str())
    }

    /// What a name stands for: 0 is the model's input, *i* + 1 what layer *i* puts out.
    pub fn value_of(&self, name: &str) -> Option<usize> {
        match name {
            INPUT => Some(0),
            _ => self.names.iter().find(|named| named.name == name).map(|named| named.layer as usize + 1),
        }
    }
}

/// One layer. Kernels, strides and paddings of images are square. `docs/models.md` lists shapes, options, and the modules of
/// PyTorch that compute the same.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Layer {
    /// The last dimension → `out`, with bias: `[features]` → `[out]`, `[length, features]` → `[length, out]`.
    Linear {
        /// Output features.
        out: u32,
    },
    /// `[channels, height, width]` → `[out, height', width']`, with bias.
    Conv2d {
        /// Output channels.
        out: u32,
        /// Side of the kernel.
        kernel: u32,
        /// Step of the kernel.
        stride: u32,
        /// Zeros around the image.
        padding: u32,
    },
    /// `[length, features]` → `[length', out]`, along the length, with bias.
    Conv1d {
        /// Output features.
        out: u32,
        /// Positions under the kernel.
        kernel: u32,
        /// Step of the kernel.
        stride: u32,
        /// Zeros at both ends.
        padding: u32,
    },
    /// The greatest value under the kernel.
    MaxPool2d {
        /// Side of the kernel.
        kernel: u32,
        /// Step of the kernel.
        stride: u32,
        /// Border around the image, at most half the kernel; never the greatest.
        padding: u32,
    },
    /// The mean under the kernel (zeros of the padding included).
    AvgPool2d {
        /// Side of the kernel.
        kernel: u32,
        /// Step of the kernel.
        stride: u32,
        /// Zeros around the image, at most half the kernel.
        padding: u32,
    },
    /// The mean over all positions: `[channels, height, width]` → `[channels]`, `[length, features]` → `[features]`.
    GlobalAvgPool,
    /// The greatest value over all positions, as [`Layer::GlobalAvgPool`].
    GlobalMaxPool,
    /// The last position: `[length, features]` → `[features]`.
    Last,
    /// Normalises each channel (or feature) over the batch; keeps running statistics for evaluation.
    BatchNorm {
        /// Weight of the new batch in the running statistics.
        momentum: Decimal,
        /// Added to the variance.
        epsilon: Decimal,
    },
    /// Normalises the features of each sample (of each position).
    LayerNorm {
        /// Added to the variance.
        epsilon: Decimal,
    },
    /// Drops values at random while training.
    Dropout {
        /// The share that is dropped.
        rate: Decimal,
    },
    /// Any shape → `[features]`.
    Flatten,
    /// The same values in another shape.
    Reshape {
        /// The new shape.
        to: Vec<u32>,
    },
    /// max(x, 0).
    Relu,
    /// Gaussian error linear unit (the exact one, with erf).
    Gelu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Exponentials over their sum, over the last dimension.
    Softmax,
    /// `[length]` tokens → `[length, out]`: a vector for each token. Takes the model's input.
    Embedding {
        /// How many tokens there are.
        vocabulary: u32,
        /// Features of a token's vector.
        out: u32,
    },
    /// Adds a vector for each position to `[length, features]`.
    PositionEmbedding {
        /// Where the vectors come from.
        kind: Positions,
    },
    /// Long short-term memory over `[length, features]`.
    Lstm {
        /// Features of its state.
        hidden: u32,
        /// Puts out all positions, `[length, hidden]`; else the last one, `[hidden]`.
        sequence: bool,
    },
    /// Gated recurrent unit over `[length, features]`.
    Gru {
        /// Features of its state.
        hidden: u32,
        /// Puts out all positions, `[length, hidden]`; else the last one, `[hidden]`.
        sequence: bool,
    },
    /// Multi-head self-attention over `[length, features]`.
    Attention {
        /// Heads; they share the features.
        heads: u32,
        /// Each position sees itself and earlier ones only.
        causal: bool,
    },
    /// A transformer's encoder block over `[length, features]`: attention and a feed-forward network (GELU), each after a layer
    /// norm and around which the values go (pre-norm).
    TransformerEncoder {
        /// Heads of the attention.
        heads: u32,
        /// Features inside the feed-forward network.
        feed_forward: u32,
        /// Each position sees itself and earlier ones only.
        causal: bool,
        /// The share that is dropped: of both branches' results, and inside the feed-forward network.
        dropout: Decimal,
    },
    /// The sum of what comes in and of what named layers put out, all of one shape.
    Add {
        /// Names of earlier layers.
        with: Vec<String>,
    },
    /// Features (or channels) of what comes in, followed by those of what named layers put out.
    Concat {
        /// Names of earlier layers.
        with: Vec<String>,
    },
    /// Goes on from what a named layer put out. What comes in goes on by its own name only.
    Take {
        /// Name of an earlier layer.
        from: String,
    },
}

/// Where the vectors of positions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Positions {
    /// They are learnt.
    Learned,
    /// Sines and cosines of falling frequencies (Vaswani et al. 2017, section 3.5).
    Sinusoidal,
}

impl Layer {
    /// The layer's name in TOML.
    pub fn name(&self) -> &'static str {
        match self {
            Layer::Linear { .. } => "linear",
            Layer::Conv2d { .. } => "conv2d",
            Layer::Conv1d { .. } => "conv1d",
            Layer::MaxPool2d { .. } => "max_pool2d",
            Layer::AvgPool2d { .. } => "avg_pool2d",
            Layer::GlobalAvgPool => "global_avg_pool",
            Layer::GlobalMaxPool => "global_max_pool",
            Layer::Last => "last",
            Layer::BatchNorm { .. } => "batch_norm",
            Layer::LayerNorm { .. } => "layer_norm",
            Layer::Dropout { .. } => "dropout",
            Layer::Flatten => "flatten",
            Layer::Reshape { .. } => "reshape",
            Layer::Relu => "relu",
            Layer::Gelu => "gelu",
            Layer::Sigmoid => "sigmoid",
            Layer::Tanh => "tanh",
            Layer::Softmax => "softmax",
            Layer::Embedding { .. } => "embedding",
            Layer::PositionEmbedding { .. } => "position_embedding",
            Layer::Lstm { .. } => "lstm",
            Layer::Gru { .. } => "gru",
            Layer::Attention { .. } => "attention",
            Layer::TransformerEncoder { .. } => "transformer_encoder",
            Layer::Add { .. } => "add",
            Layer::Concat { .. } => "concat",
            Layer::Take { .. } => "take",
        }
    }

    /// The names of earlier layers that it takes from.
    pub fn takes(&self) -> &[String] {
        match self {
            Layer::Add { with } | Layer::Concat { with } => with,
            Layer::Take { from } => std::slice::from_ref(from),
            _ => &[],
        }
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Training {
    /// What is minimised.
    pub loss: Loss,
    /// By which rule.
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    pub schedule: LearningRate,
    /// Samples in one optimizer step: of all ranks together in `sync`, of each rank in `local`.
    pub batch: u32,
    /// How often each sample is used.
    pub epochs: u32,
    /// Decides the initial parameters.
    pub seed: u64,
    /// How ranks work together.
    pub mode: Mode,
    /// How updates travel between ranks.
    pub updates: Updates,
}

/// How the values of an update travel between ranks. What a narrower type cuts off is added to the next update (error feedback).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Updates {
    /// As they are: four bytes a value.
    #[default]
    F32,
    /// Two bytes a value.
    Bf16,
    /// About one byte a value: blocks share a scale.
    Int8,
}

/// What is minimised: the mean over a step's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Loss {
    /// Negative log-likelihood of the class under the softmax of the outputs.
    CrossEntropy,
    /// Mean squared error, against values or against classes as one-hot vectors.
    Mse,
}

/// The rule by which gradients change parameters (PyTorch's formulas and defaults).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate.
        lr: Decimal,
        /// Share of the last update that is kept; 0: none.
        momentum: Decimal,
        /// Added to the gradient as `weight_decay · parameter`.
        weight_decay: Decimal,
        /// Looks ahead along the momentum.
        nesterov: bool,
    },
    /// Adam.
    Adam {
        /// Learning rate.
        lr: Decimal,
        /// Decay of the mean.
        beta1: Decimal,
        /// Decay of the mean square.
        beta2: Decimal,
        /// Added to the root of the mean square.
        epsilon: Decimal,
        /// Added to the gradient as `weight_decay · parameter`.
        weight_decay: Decimal,
    },
    /// Adam with weight decay apart from the gradient.
    AdamW {
        /// Learning rate.
        lr: Decimal,
        /// Decay of the mean.
        beta1: Decimal,
        /// Decay of the mean square.
        beta2: Decimal,
        /// Added to the root of the mean square.
        epsilon: Decimal,
        /// Share of a parameter that a step takes away, times the learning rate.
        weight_decay: Decimal,
    },
}

impl Optimizer {
    /// The learning rate before its schedule.
    pub fn lr(&self) -> Decimal {
        match self {
            Optimizer::Sgd { lr, .. } | Optimizer::Adam { lr, .. } | Optimizer::AdamW { lr, .. } => *lr,
        }
    }
}

/// How the learning rate changes; each after a linear warm-up over the first steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LearningRate {
    /// It doesn't.
    Constant {
        /// Steps of warm-up.
        warmup_steps: u32,
    },
    /// It is multiplied every few epochs.
    Step {
        /// Epochs between changes.
        every_epochs: u32,
        /// The multiplier.
        factor: Decimal,
        /// Steps of warm-up.
        warmup_steps: u32,
    },
    /// It falls along half a cosine wave until the last step.
    Cosine {
        /// Where it ends.
        final_lr: Decimal,
        /// Steps of warm-up.
        warmup_steps: u32,
    },
}

/// How ranks work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Mode {
    /// They average gradients at each step.
    Sync,
    /// They average what changed after some steps of their own.
    Local {
        /// Steps between averages.
        steps: u32,
        /// What is done with the average.
        outer: Outer,
    },
    /// As [`Mode::Sync`], but a round's average is taken over some rounds later: exchanging goes on while they compute.
    Async {
        /// The rounds that an average is late.
        staleness: u32,
    },
}

/// What is done with the average of all ranks' changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outer {
    /// It is taken over: the parameters become the ranks' mean.
    Average,
    /// It is a gradient for an outer optimizer with Nesterov momentum (DiLoCo, Douillard et al. 2023).
    Nesterov {
        /// Learning rate.
        lr: Decimal,
        /// Share of the last change that is kept.
        momentum: Decimal,
    },
}

/// How a job survives faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Recovery {
    /// Rounds between checkpoints; 0: none.
    pub checkpoint_rounds: u32,
    /// Failures of workers that the job survives (out of memory, a crash). Machines that leave or lose contact aren't failures.
    pub restarts: u32,
}

impl JobSpec {
    /// The canonical bytes: format version ‖ borsh.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![SPEC_VERSION];
        bytes.extend(deepmarket_types::encode(self));
        bytes
    }

    /// Reads and checks a spec. Strict: one spec has one encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<JobSpec, SpecError> {
        let refuse =
            |message: String| SpecError::new(SpecProblem::NotCanonical, "", message, "make the bytes with this release's tools");
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(refuse(format!("the spec has {} bytes; at most {MAX_SPEC_BYTES} are allowed", bytes.len())));
        }
        match bytes.split_first() {
            Some((&SPEC_VERSION, body)) => {
                let spec: JobSpec = deepmarket_types::decode(body).map_err(|e| refuse(e.to_string()))?;
                spec.check()?;
                Ok(spec)
            }
            Some((version, _)) => Err(refuse(format!("spec format version {version} is not known to this release"))),
            None => Err(refuse("the spec is empty".into())),
        }
    }

    /// What one worker uses.
    pub fn demand(&self) -> Resources {
        let Workers { cores, gpus, ram_mib, disk_mib, .. } = self.workers;
        Resources { cores, gpus, ram_mib, disk_mib }
    }
}

/// Names of the four slots of the day in TOML, on a market of six-hour slots.
pub(crate) const SLOT_NAMES: [&str; 4] = ["00-06", "06-12", "12-18", "18-24"];

/// What a spec means where it doesn't say (PyTorch's defaults where PyTorch has one).
pub(crate) mod defaults {
    use crate::{Decimal, Optimizer};

    pub(crate) const DISK_MIB: u64 = 1024;
    /// Of jobs that don't train: they have no steps; this says how many samples a worker takes at once.
    pub(crate) const EVALUATED_BATCH: u32 = 64;
    pub(crate) const EVALUATED_EPOCHS: u32 = 1;
    /// Of jobs that don't train: there is none.
    pub(crate) const EVALUATED_OPTIMIZER: Optimizer =
        Optimizer::Sgd { lr: Decimal::ONE, momentum: Decimal::ZERO, weight_decay: Decimal::ZERO, nesterov: false };
    pub(crate) const FEED_FORWARD_TIMES: u32 = 4;
    pub(crate) const RESTARTS: u32 = 3;
    pub(crate) const STALENESS: u32 = 1;
    pub(crate) const OUTER_LR: Decimal = Decimal::from_nanos(700_000_000);
    pub(crate) const OUTER_MOMENTUM: Decimal = Decimal::from_nanos(900_000_000);
    pub(crate) const BETA1: Decimal = Decimal::from_nanos(900_000_000);
    pub(crate) const BETA2: Decimal = Decimal::from_nanos(999_000_000);
    pub(crate) const ADAM_EPSILON: Decimal = Decimal::from_nanos(10);
    pub(crate) const ADAMW_WEIGHT_DECAY: Decimal = Decimal::from_nanos(10_000_000);
    pub(crate) const BATCH_NORM_MOMENTUM: Decimal = Decimal::from_nanos(100_000_000);
    pub(crate) const NORM_EPSILON: Decimal = Decimal::from_nanos(10_000);
}
