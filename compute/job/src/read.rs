use deepmarket_types::{Credits, Hash, JobId};
use toml::de::DeTable;

use crate::{
    Budget, Data, DatasetManifest, Decimal, JobSpec, Kind, LearningRate, Loss, MAX_SPEC_BYTES, Mode, Optimizer, Outer, Recovery,
    Size, SpecError,
    SpecProblem::{BadValue, Missing, NotCanonical, Syntax, UnknownDataset},
    Training, Updates, Workers,
    read_model::model,
    spec::{SLOT_NAMES, defaults},
    toml_tree::{Lines, Node, Table},
};

/// A name in a job file that only its reader's surroundings know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A dataset, as `data add` named it: its manifest is wanted.
    Dataset(&'a str),
    /// An earlier job: its result is wanted.
    Job(JobId),
}

/// Turns a name into the hash of what it stands for, where it is known.
pub type Resolve<'a> = &'a dyn Fn(Name) -> Option<Hash>;

impl JobSpec {
    /// Reads and checks a spec in TOML (DESIGN section 5). `resolve` turns names into hashes; a `blake3:…` hash is taken as it
    /// is. Errors carry the line.
    pub fn from_toml(text: &str, resolve: Resolve) -> Result<JobSpec, SpecError> {
        Self::read(text, resolve, JobSpec::check)
    }

    /// The same, and checks that the dataset fits the model, see [`JobSpec::check_with`].
    pub fn from_toml_for(text: &str, resolve: Resolve, manifest: &DatasetManifest) -> Result<JobSpec, SpecError> {
        Self::read(text, resolve, |spec| spec.check_with(manifest))
    }

    fn read(text: &str, resolve: Resolve, check: impl Fn(&JobSpec) -> Result<Size, SpecError>) -> Result<JobSpec, SpecError> {
        if text.len() > MAX_SPEC_BYTES {
            let found = format!("the spec has {} bytes; at most {MAX_SPEC_BYTES} are allowed", text.len());
            return Err(SpecError::new(NotCanonical, "", found, "shorten it"));
        }
        let lines = Lines::new(text);
        let document = DeTable::parse(text).map_err(|e| {
            let mut error = SpecError::new(Syntax, "", e.message().to_owned(), "correct the TOML syntax");
            error.line = e.span().map(|span| lines.at(span.start));
            error
        })?;
        let known = &["name", "kind", "workers", "budget", "data", "model", "training", "recovery"];
        let root = Table::new(String::new(), document.get_ref(), &lines, known)?;
        let kind = kind(&root)?;
        let spec = JobSpec {
            name: root.required("name", "a name, for example name = \"mnist-cnn\"")?.text()?.to_owned(),
            kind,
            workers: workers(&root)?,
            budget: budget(&root)?,
            data: data(&root, resolve)?,
            model: model(&root, resolve)?,
            training: training(&root, kind)?,
            recovery: recovery(&root)?,
        };
        check(&spec).map_err(|error| lines.locate(error))?;
        Ok(spec)
    }
}

fn kind(root: &Table) -> Result<Kind, SpecError> {
    let Some(node) = root.optional("kind") else { return Ok(Kind::Train) };
    match node.text()? {
        "train" => Ok(Kind::Train),
        "evaluate" => Ok(Kind::Evaluate),
        "predict" => Ok(Kind::Predict),
        _ => Err(node.error(BadValue, "this kind is not known", "use \"train\", \"evaluate\" or \"predict\"")),
    }
}

fn workers(root: &Table) -> Result<Workers, SpecError> {
    let table = root.required("workers", "a section [workers] with min, max and ram_mib")?.table(&[
        "min",
        "max",
        "cores",
        "gpus",
        "ram_mib",
        "disk_mib",
        "share_machine",
    ])?;
    let min = table.u32_or("min", 1)?;
    Ok(Workers {
        min,
        max: table.u32_or("max", min)?,
        cores: table.u32_or("cores", 1)?,
        gpus: table.u32_or("gpus", 0)?,
        ram_mib: table.required("ram_mib", "the memory of each worker, for example ram_mib = 1024")?.u64()?,
        disk_mib: table.u64_or("disk_mib", defaults::DISK_MIB)?,
        share_machine: table.flag_or("share_machine", false)?,
    })
}

fn budget(root: &Table) -> Result<Budget, SpecError> {
    let example = "a section [budget] with max_credits, for example max_credits = 20";
    let table = root.required("budget", example)?.table(&["max_credits", "slots", "audit_percent"])?;
    let max = table.required("max_credits", "what the job may cost at most, for example max_credits = 20")?;
    let credits: Credits =
        max.number_text()?.parse().map_err(|e| max.error(BadValue, format!("{e}"), "write credits with at most six decimals"))?;
    let mut slots = Vec::new();
    for node in table.optional("slots").map_or(Ok(Vec::new()), |node| node.list())? {
        let name = node.text()?;
        let slot = SLOT_NAMES.iter().position(|known| *known == name);
        slots.push(slot.ok_or_else(|| {
            node.error(BadValue, format!("'{name}' is not a slot of the day"), format!("use {}", SLOT_NAMES.join(", ")))
        })? as u8);
    }
    slots.sort_unstable();
    // What doesn't fit is refused by the check, which knows the bounds.
    let audit_percent = u8::try_from(table.u32_or("audit_percent", 0)?).unwrap_or(u8::MAX);
    Ok(Budget { max: credits, slots, audit_percent })
}

fn data(root: &Table, resolve: Resolve) -> Result<Data, SpecError> {
    let example = "a section [data] with manifest, train and validate";
    let table = root.required("data", example)?.table(&["manifest", "train", "validate"])?;
    let node = table.required("manifest", "the dataset, for example manifest = \"mnist\"")?;
    let name = node.text()?;
    let manifest = match name.strip_prefix("blake3:") {
        Some(_) => {
            name.parse().map_err(|e| node.error(BadValue, format!("{e}"), "copy the hash that `deepmarket data ls` shows"))?
        }
        None => resolve(Name::Dataset(name)).ok_or_else(|| {
            let found = format!("there is no dataset '{}'", name.chars().take(64).collect::<String>());
            node.error(UnknownDataset, found, "import it with `deepmarket data add`, or see `deepmarket data ls`")
        })?,
    };
    Ok(Data {
        manifest,
        train: table.text_or("train", "train")?.to_owned(),
        validate: table.text_or("validate", "test")?.to_owned(),
    })
}

/// A job that doesn't train needs a loss to evaluate with, and nothing else here; what it doesn't say is [`defaults`].
fn training(root: &Table, kind: Kind) -> Result<Training, SpecError> {
    const KNOWN: &[&str] = &["loss", "optimizer", "schedule", "batch", "epochs", "seed", "mode", "updates"];
    let trains = kind == Kind::Train;
    let table = match (root.optional("training"), kind) {
        (Some(node), _) => Some(node.table(KNOWN)?),
        (None, Kind::Predict) => None,
        (None, Kind::Evaluate) => Some(root.required("training", "a section [training] with loss")?.table(KNOWN)?),
        (None, Kind::Train) => {
            Some(root.required("training", "a section [training] with loss, optimizer, batch and epochs")?.table(KNOWN)?)
        }
    };
    let optional = |key| table.as_ref().and_then(|table| table.optional(key));
    // A key that only training needs.
    let required = |key, example| match &table {
        Some(table) if trains => table.required(key, example).map(Some),
        _ => Ok(optional(key)),
    };
    let loss = match (&table, kind) {
        (Some(table), Kind::Train | Kind::Evaluate) => {
            Some(table.required("loss", "loss = \"cross_entropy\" or loss = \"mse\"")?)
        }
        _ => optional("loss"),
    };
    let loss = match loss {
        Some(loss) => match loss.choice(&["cross_entropy", "mse"], "\"cross_entropy\" or \"mse\"")?.0 {
            "mse" => Loss::Mse,
            _ => Loss::CrossEntropy,
        },
        None => Loss::CrossEntropy,
    };
    let number = |node: Option<Node>, default| node.map_or(Ok(default), |node| node.u32());
    Ok(Training {
        loss,
        optimizer: match required("optimizer", "optimizer = { adam = { lr = 1e-3 } }")? {
            Some(node) => optimizer(&node)?,
            None => defaults::EVALUATED_OPTIMIZER,
        },
        schedule: optional("schedule").map_or(Ok(LearningRate::Constant { warmup_steps: 0 }), |node| schedule(&node))?,
        batch: number(required("batch", "the samples of one step, for example batch = 64")?, defaults::EVALUATED_BATCH)?,
        epochs: number(required("epochs", "how often each sample is used, for example epochs = 5")?, defaults::EVALUATED_EPOCHS)?,
        seed: optional("seed").map_or(Ok(0), |node| node.u64())?,
        mode: optional("mode").map_or(Ok(Mode::Sync), |node| mode(&node))?,
        updates: match optional("updates") {
            Some(node) => match node.choice(&["f32", "bf16", "int8"], "\"f32\", \"bf16\" or \"int8\"")?.0 {
                "bf16" => Updates::Bf16,
                "int8" => Updates::Int8,
                _ => Updates::F32,
            },
            None => Updates::F32,
        },
    })
}

fn optimizer(node: &Node) -> Result<Optimizer, SpecError> {
    let example = "{ adam = { lr = 1e-3 } }";
    let (name, options) = node.choice(&["sgd", "adam", "adamw"], example)?;
    let Some(options) = options else {
        return Err(node.error(
            Missing,
            format!("{name} needs a learning rate"),
            format!("write {{ {name} = {{ lr = 1e-3 }} }}"),
        ));
    };
    let lr = |table: &Table| table.required("lr", "the learning rate, for example lr = 1e-3")?.decimal();
    if name == "sgd" {
        let table = options.table(&["lr", "momentum", "weight_decay", "nesterov"])?;
        return Ok(Optimizer::Sgd {
            lr: lr(&table)?,
            momentum: table.decimal_or("momentum", Decimal::ZERO)?,
            weight_decay: table.decimal_or("weight_decay", Decimal::ZERO)?,
            nesterov: table.flag_or("nesterov", false)?,
        });
    }
    let table = options.table(&["lr", "beta1", "beta2", "epsilon", "weight_decay"])?;
    let lr = lr(&table)?;
    let beta1 = table.decimal_or("beta1", defaults::BETA1)?;
    let beta2 = table.decimal_or("beta2", defaults::BETA2)?;
    let epsilon = table.decimal_or("epsilon", defaults::ADAM_EPSILON)?;
    let decay = |default| table.decimal_or("weight_decay", default);
    Ok(match name {
        "adam" => Optimizer::Adam { lr, beta1, beta2, epsilon, weight_decay: decay(Decimal::ZERO)? },
        _ => Optimizer::AdamW { lr, beta1, beta2, epsilon, weight_decay: decay(defaults::ADAMW_WEIGHT_DECAY)? },
    })
}

fn schedule(node: &Node) -> Result<LearningRate, SpecError> {
    let (name, options) = node.choice(&["constant", "step", "cosine"], "\"constant\" or { cosine = { warmup_steps = 100 } }")?;
    match name {
        "constant" => {
            let table = options.map(|options| options.table(&["warmup_steps"])).transpose()?;
            Ok(LearningRate::Constant { warmup_steps: table.map_or(Ok(0), |table| table.u32_or("warmup_steps", 0))? })
        }
        "step" => {
            let example = "{ step = { every_epochs = 2, factor = 0.5 } }";
            let options = options.ok_or_else(|| node.error(Missing, "step needs options", format!("write {example}")))?;
            let table = options.table(&["every_epochs", "factor", "warmup_steps"])?;
            Ok(LearningRate::Step {
                every_epochs: table.u32_or("every_epochs", 1)?,
                factor: table.required("factor", "the multiplier, for example factor = 0.5")?.decimal()?,
                warmup_steps: table.u32_or("warmup_steps", 0)?,
            })
        }
        _ => {
            let table = options.map(|options| options.table(&["final_lr", "warmup_steps"])).transpose()?;
            let (final_lr, warmup_steps) = match &table {
                Some(table) => (table.decimal_or("final_lr", Decimal::ZERO)?, table.u32_or("warmup_steps", 0)?),
                None => (Decimal::ZERO, 0),
            };
            Ok(LearningRate::Cosine { final_lr, warmup_steps })
        }
    }
}

fn mode(node: &Node) -> Result<Mode, SpecError> {
    let (name, options) = node.choice(&["sync", "local", "async"], "\"sync\" or { local = { steps = 64 } }")?;
    match name {
        "sync" => {
            options.map(|options| options.table(&[])).transpose()?;
            Ok(Mode::Sync)
        }
        "local" => {
            let example = "{ local = { steps = 64 } }";
            let options = options.ok_or_else(|| node.error(Missing, "local needs its steps", format!("write {example}")))?;
            let table = options.table(&["steps", "outer"])?;
            let steps = table.required("steps", "the steps between averages, for example steps = 64")?.u32()?;
            Ok(Mode::Local { steps, outer: table.optional("outer").map_or(Ok(Outer::Average), |node| outer(&node))? })
        }
        _ => {
            let table = options.map(|options| options.table(&["staleness"])).transpose()?;
            let staleness = table.map_or(Ok(defaults::STALENESS), |table| table.u32_or("staleness", defaults::STALENESS))?;
            Ok(Mode::Async { staleness })
        }
    }
}

fn outer(node: &Node) -> Result<Outer, SpecError> {
    let (name, options) = node.choice(&["average", "nesterov"], "\"average\" or { nesterov = { lr = 0.7, momentum = 0.9 } }")?;
    if name == "average" {
        options.map(|options| options.table(&[])).transpose()?;
        return Ok(Outer::Average);
    }
    let table = options.map(|options| options.table(&["lr", "momentum"])).transpose()?;
    let option = |key, default| table.as_ref().map_or(Ok(default), |table| table.decimal_or(key, default));
    Ok(Outer::Nesterov { lr: option("lr", defaults::OUTER_LR)?, momentum: option("momentum", defaults::OUTER_MOMENTUM)? })
}

fn recovery(root: &Table) -> Result<Recovery, SpecError> {
    let table = root.optional("recovery").map(|node| node.table(&["checkpoint_rounds", "restarts"])).transpose()?;
    let option = |key, default| table.as_ref().map_or(Ok(default), |table| table.u32_or(key, default));
    Ok(Recovery { checkpoint_rounds: option("checkpoint_rounds", 0)?, restarts: option("restarts", defaults::RESTARTS)? })
}
