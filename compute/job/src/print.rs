use std::fmt::Write as _;

use crate::{JobSpec, Kind, Layer, LearningRate, Loss, Mode, Optimizer, Outer, Positions, Updates, spec::SLOT_NAMES};

impl JobSpec {
    /// The spec as TOML, every option spelled out; [`JobSpec::from_toml`] reads it back to the same spec.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        self.print(&mut text).expect("writing to a string doesn't fail");
        text
    }

    fn print(&self, out: &mut String) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Train => "train",
            Kind::Evaluate => "evaluate",
            Kind::Predict => "predict",
        };
        writeln!(out, "name = {}\nkind = \"{kind}\"", quoted(&self.name))?;

        let w = &self.workers;
        writeln!(out, "\n[workers]\nmin = {}\nmax = {}\ncores = {}\ngpus = {}", w.min, w.max, w.cores, w.gpus)?;
        writeln!(out, "ram_mib = {}\ndisk_mib = {}\nshare_machine = {}", w.ram_mib, w.disk_mib, w.share_machine)?;

        let slots: Vec<String> =
            self.budget.slots.iter().filter_map(|slot| SLOT_NAMES.get(usize::from(*slot))).map(|name| quoted(name)).collect();
        let audit_percent = self.budget.audit_percent;
        writeln!(out, "\n[budget]\nmax_credits = {}\nslots = [{}]", self.budget.max, slots.join(", "))?;
        writeln!(out, "audit_percent = {audit_percent}")?;

        let d = &self.data;
        writeln!(out, "\n[data]\nmanifest = \"{}\"", d.manifest)?;
        writeln!(out, "train = {}\nvalidate = {}", quoted(&d.train), quoted(&d.validate))?;

        writeln!(out, "\n[model]\ninput = {:?}\nlayers = [", self.model.input)?;
        for (index, layer) in self.model.layers.iter().enumerate() {
            let name = self.model.name_of(index).map_or_else(String::new, |name| format!(", name = {}", quoted(name)));
            writeln!(out, "  {{ {} = {}{name} }},", layer.name(), options(layer))?;
        }
        writeln!(out, "]")?;
        if let Some(parameters) = self.model.parameters {
            writeln!(out, "parameters = \"{parameters}\"")?;
        }

        let t = &self.training;
        let loss = match t.loss {
            Loss::CrossEntropy => "cross_entropy",
            Loss::Mse => "mse",
        };
        writeln!(out, "\n[training]\nloss = \"{loss}\"\noptimizer = {}", optimizer(&t.optimizer))?;
        writeln!(out, "schedule = {}\nbatch = {}\nepochs = {}", schedule(&t.schedule), t.batch, t.epochs)?;
        let mode = match t.mode {
            Mode::Sync => "\"sync\"".to_owned(),
            Mode::Local { steps, outer: Outer::Average } => format!("{{ local = {{ steps = {steps} }} }}"),
            Mode::Local { steps, outer: Outer::Nesterov { lr, momentum } } => {
                format!("{{ local = {{ steps = {steps}, outer = {{ nesterov = {{ lr = {lr}, momentum = {momentum} }} }} }} }}")
            }
            Mode::Async { staleness } => format!("{{ async = {{ staleness = {staleness} }} }}"),
        };
        let updates = match t.updates {
            Updates::F32 => "f32",
            Updates::Bf16 => "bf16",
            Updates::Int8 => "int8",
        };
        writeln!(out, "seed = {}\nmode = {mode}\nupdates = \"{updates}\"", t.seed)?;
        writeln!(out, "\n[recovery]\ncheckpoint_rounds = {}", self.recovery.checkpoint_rounds)?;
        writeln!(out, "restarts = {}", self.recovery.restarts)
    }
}

fn options(layer: &Layer) -> String {
    match layer {
        Layer::Linear { out } => format!("{{ out = {out} }}"),
        Layer::Conv2d { out, kernel, stride, padding } | Layer::Conv1d { out, kernel, stride, padding } => {
            format!("{{ out = {out}, kernel = {kernel}, stride = {stride}, padding = {padding} }}")
        }
        Layer::MaxPool2d { kernel, stride, padding } | Layer::AvgPool2d { kernel, stride, padding } => {
            format!("{{ kernel = {kernel}, stride = {stride}, padding = {padding} }}")
        }
        Layer::BatchNorm { momentum, epsilon } => format!("{{ momentum = {momentum}, epsilon = {epsilon} }}"),
        Layer::LayerNorm { epsilon } => format!("{{ epsilon = {epsilon} }}"),
        Layer::Dropout { rate } => format!("{{ rate = {rate} }}"),
        Layer::Reshape { to } => format!("{{ to = {to:?} }}"),
        Layer::Embedding { vocabulary, out } => format!("{{ vocabulary = {vocabulary}, out = {out} }}"),
        Layer::PositionEmbedding { kind: Positions::Learned } => "{ kind = \"learned\" }".to_owned(),
        Layer::PositionEmbedding { kind: Positions::Sinusoidal } => "{ kind = \"sinusoidal\" }".to_owned(),
        Layer::Lstm { hidden, sequence } | Layer::Gru { hidden, sequence } => {
            format!("{{ hidden = {hidden}, return_sequence = {sequence} }}")
        }
        Layer::Attention { heads, causal } => format!("{{ heads = {heads}, causal = {causal} }}"),
        Layer::TransformerEncoder { heads, feed_forward, causal, dropout } => {
            format!("{{ heads = {heads}, feed_forward = {feed_forward}, causal = {causal}, dropout = {dropout} }}")
        }
        Layer::Add { with } | Layer::Concat { with } => {
            let names: Vec<String> = with.iter().map(|name| quoted(name)).collect();
            format!("{{ with = [{}] }}", names.join(", "))
        }
        Layer::Take { from } => format!("{{ from = {} }}", quoted(from)),
        Layer::GlobalAvgPool
        | Layer::GlobalMaxPool
        | Layer::Last
        | Layer::Flatten
        | Layer::Relu
        | Layer::Gelu
        | Layer::Sigmoid
        | Layer::Tanh
        | Layer::Softmax => "{}".to_owned(),
    }
}

fn optimizer(optimizer: &Optimizer) -> String {
    match optimizer {
        Optimizer::Sgd { lr, momentum, weight_decay, nesterov } => {
            format!("{{ sgd = {{ lr = {lr}, momentum = {momentum}, weight_decay = {weight_decay}, nesterov = {nesterov} }} }}")
        }
        Optimizer::Adam { lr, beta1, beta2, epsilon, weight_decay } => format!(
            "{{ adam = {{ lr = {lr}, beta1 = {beta1}, beta2 = {beta2}, epsilon = {epsilon}, weight_decay = {weight_decay} }} }}"
        ),
        Optimizer::AdamW { lr, beta1, beta2, epsilon, weight_decay } => format!(
            "{{ adamw = {{ lr = {lr}, beta1 = {beta1}, beta2 = {beta2}, epsilon = {epsilon}, weight_decay = {weight_decay} }} }}"
        ),
    }
}

fn schedule(schedule: &LearningRate) -> String {
    match schedule {
        LearningRate::Constant { warmup_steps } => format!("{{ constant = {{ warmup_steps = {warmup_steps} }} }}"),
        LearningRate::Step { every_epochs, factor, warmup_steps } => {
            format!("{{ step = {{ every_epochs = {every_epochs}, factor = {factor}, warmup_steps = {warmup_steps} }} }}")
        }
        LearningRate::Cosine { final_lr, warmup_steps } => {
            format!("{{ cosine = {{ final_lr = {final_lr}, warmup_steps = {warmup_steps} }} }}")
        }
    }
}

/// A basic TOML string. Control characters can't be in a checked spec; they are dropped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars().filter(|c| !c.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}
