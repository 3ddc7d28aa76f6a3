use deepmarket_types::{Credits, Hash};
use toml::de::DeTable;

use crate::{
    Budget, Data, Decimal, JobSpec, Kind, Layer, LearningRate, Loss, MAX_LAYERS, MAX_SPEC_BYTES, Mode, Model, Optimizer,
    Outer, Recovery, SpecError, Updates,
    SpecProblem::{BadValue, Missing, NotCanonical, Syntax, UnknownDataset},
    Training, Workers,
    spec::{SLOT_NAMES, defaults},
    toml_tree::{Lines, Node, Table},
};

impl JobSpec {
    /// Reads and checks a spec in TOML (DESIGN section 5). `resolve` turns a dataset's name into the hash of its manifest; a
    /// `blake3:…` hash is taken as it is. Errors carry the line.
    pub fn from_toml(text: &str, resolve: &dyn Fn(&str) -> Option<Hash>) -> Result<JobSpec, SpecError> {
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
        let spec = JobSpec {
            name: root.required("name", "a name, for example name = \"mnist-cnn\"")?.text()?.to_owned(),
            kind: kind(&root)?,
            workers: workers(&root)?,
            budget: budget(&root)?,
            data: data(&root, resolve)?,
            model: model(&root)?,
            training: training(&root)?,
            recovery: recovery(&root)?,
        };
        spec.check().map_err(|error| lines.locate(error))?;
        Ok(spec)
    }
}

fn kind(root: &Table) -> Result<Kind, SpecError> {
    let Some(node) = root.optional("kind") else { return Ok(Kind::Train) };
    match node.text()? {
        "train" => Ok(Kind::Train),
        "evaluate" => Ok(Kind::Evaluate),
        "predict" => Ok(Kind::Predict),
        _ => Err(node.error(BadValue, "this kind is not known", "use \"train\"")),
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
    let table = root.required("budget", example)?.table(&["max_credits", "slots"])?;
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
    Ok(Budget { max: credits, slots })
}

fn data(root: &Table, resolve: &dyn Fn(&str) -> Option<Hash>) -> Result<Data, SpecError> {
    let example = "a section [data] with manifest, train and validate";
    let table = root.required("data", example)?.table(&["manifest", "train", "validate"])?;
    let node = table.required("manifest", "the dataset, for example manifest = \"mnist\"")?;
    let name = node.text()?;
    let manifest = match name.strip_prefix("blake3:") {
        Some(_) => {
            name.parse().map_err(|e| node.error(BadValue, format!("{e}"), "copy the hash that `deepmarket data ls` shows"))?
        }
        None => resolve(name).ok_or_else(|| {
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

fn model(root: &Table) -> Result<Model, SpecError> {
    let table = root.required("model", "a section [model] with input and layers")?.table(&["input", "layers", "parameters"])?;
    let input = table.required("input", "the shape of a sample, for example input = [1, 28, 28]")?;
    let mut shape = Vec::new();
    for dimension in input.list()?.iter().take(8) {
        shape.push(dimension.u32()?);
    }
    let layers = table.required("layers", "the layers, for example layers = [ { flatten = {} }, { linear = { out = 10 } } ]")?;
    let nodes = layers.list()?;
    if nodes.len() > MAX_LAYERS {
        return Err(layers.error(BadValue, format!("there are {} layers", nodes.len()), format!("use 1 to {MAX_LAYERS}")));
    }
    Ok(Model { input: shape, layers: nodes.iter().map(layer).collect::<Result<_, _>>()?, parameters: None })
}

const LAYERS: &[&str] = &[
    "linear",
    "conv2d",
    "max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "layer_norm",
    "dropout",
    "flatten",
    "relu",
    "gelu",
    "sigmoid",
    "tanh",
    "softmax",
];

fn layer(node: &Node) -> Result<Layer, SpecError> {
    let (name, options) = node.choice(LAYERS, "{ relu = {} } or { linear = { out = 10 } }")?;
    let table = |known: &'static [&'static str]| match &options {
        Some(options) => options.table(known).map(Some),
        None => Ok(None),
    };
    let missing = |example: &str| node.error(Missing, format!("{name} needs options"), format!("write {example}"));
    let pool = || {
        let example = format!("{{ {name} = {{ kernel = 2 }} }}");
        let table = table(&["kernel", "stride", "padding"])?.ok_or_else(|| missing(&example))?;
        let kernel = table.required("kernel", "the side of the window, for example kernel = 2")?.u32()?;
        Ok((kernel, table.u32_or("stride", kernel)?, table.u32_or("padding", 0)?))
    };
    let plain = |layer| table(&[]).map(|_| layer);
    match name {
        "linear" => {
            let table = table(&["out"])?.ok_or_else(|| missing("{ linear = { out = 10 } }"))?;
            Ok(Layer::Linear { out: table.required("out", "the number of outputs, for example out = 10")?.u32()? })
        }
        "conv2d" => {
            let example = "{ conv2d = { out = 16, kernel = 3, padding = 1 } }";
            let table = table(&["out", "kernel", "stride", "padding"])?.ok_or_else(|| missing(example))?;
            Ok(Layer::Conv2d {
                out: table.required("out", "the number of output channels, for example out = 16")?.u32()?,
                kernel: table.required("kernel", "the side of the kernel, for example kernel = 3")?.u32()?,
                stride: table.u32_or("stride", 1)?,
                padding: table.u32_or("padding", 0)?,
            })
        }
        "max_pool2d" => pool().map(|(kernel, stride, padding)| Layer::MaxPool2d { kernel, stride, padding }),
        "avg_pool2d" => pool().map(|(kernel, stride, padding)| Layer::AvgPool2d { kernel, stride, padding }),
        "batch_norm" => {
            let table = table(&["momentum", "epsilon"])?;
            let option = |key, default| table.as_ref().map_or(Ok(default), |table| table.decimal_or(key, default));
            let momentum = option("momentum", defaults::BATCH_NORM_MOMENTUM)?;
            Ok(Layer::BatchNorm { momentum, epsilon: option("epsilon", defaults::NORM_EPSILON)? })
        }
        "layer_norm" => {
            let table = table(&["epsilon"])?;
            let epsilon =
                table.map_or(Ok(defaults::NORM_EPSILON), |table| table.decimal_or("epsilon", defaults::NORM_EPSILON))?;
            Ok(Layer::LayerNorm { epsilon })
        }
        "dropout" => {
            let table = table(&["rate"])?.ok_or_else(|| missing("{ dropout = { rate = 0.5 } }"))?;
            Ok(Layer::Dropout { rate: table.required("rate", "the share to drop, for example rate = 0.5")?.decimal()? })
        }
        "flatten" => plain(Layer::Flatten),
        "relu" => plain(Layer::Relu),
        "gelu" => plain(Layer::Gelu),
        "sigmoid" => plain(Layer::Sigmoid),
        "tanh" => plain(Layer::Tanh),
        _ => plain(Layer::Softmax),
    }
}

fn training(root: &Table) -> Result<Training, SpecError> {
    let table = root.required("training", "a section [training] with loss, optimizer, batch and epochs")?.table(&[
        "loss",
        "optimizer",
        "schedule",
        "batch",
        "epochs",
        "seed",
        "mode",
    ])?;
    let loss = table.required("loss", "loss = \"cross_entropy\" or loss = \"mse\"")?;
    let loss = match loss.choice(&["cross_entropy", "mse"], "\"cross_entropy\" or \"mse\"")?.0 {
        "mse" => Loss::Mse,
        _ => Loss::CrossEntropy,
    };
    Ok(Training {
        loss,
        optimizer: optimizer(&table.required("optimizer", "optimizer = { adam = { lr = 1e-3 } }")?)?,
        schedule: table.optional("schedule").map_or(Ok(LearningRate::Constant { warmup_steps: 0 }), |node| schedule(&node))?,
        batch: table.required("batch", "the samples of one step, for example batch = 64")?.u32()?,
        epochs: table.required("epochs", "how often each sample is used, for example epochs = 5")?.u32()?,
        seed: table.u64_or("seed", 0)?,
        mode: table.optional("mode").map_or(Ok(Mode::Sync), |node| mode(&node))?,
        updates: Updates::F32,
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
            let table = options.table(&["steps"])?;
            Ok(Mode::Local { outer: Outer::Average, steps: table.required("steps", "the steps between averages, for example steps = 64")?.u32()? })
        }
        _ => {
            let table = options.map(|options| options.table(&["staleness"])).transpose()?;
            Ok(Mode::Async { staleness: table.map_or(Ok(defaults::STALENESS), |table| table.u32_or("staleness", defaults::STALENESS))? })
        }
    }
}

fn recovery(root: &Table) -> Result<Recovery, SpecError> {
    let Some(node) = root.optional("recovery") else { return Ok(Recovery { checkpoint_rounds: 0, restarts: defaults::RESTARTS }) };
    let table = node.table(&["checkpoint_rounds", "restarts"])?;
    let restarts = table.u32_or("restarts", defaults::RESTARTS)?;
    Ok(Recovery { checkpoint_rounds: table.u32_or("checkpoint_rounds", 0)?, restarts })
}
