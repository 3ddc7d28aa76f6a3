//! A job file: what its form shows of it, and how the form writes into it. The file is the truth; comments stay.

use std::collections::BTreeSet;

use deepmarket_job::{DatasetManifest, JobSpec, Name, SpecError, SpecProblem as Kind};
use deepmarket_types::{Credits, Hash};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use crate::{
    error::{Answer, BAD_INPUT, without_commands},
    view::{CommandError, JobFields, SpecProblem},
};

/// What is wrong with a job file, if anything. `datasets` are the names that can be used; does the data of `manifest` fit?
pub fn flaw(text: &str, datasets: &BTreeSet<String>, manifest: Option<&DatasetManifest>) -> Option<SpecProblem> {
    let resolve = |name: Name| match name {
        Name::Dataset(name) => datasets.contains(name).then(Hash::default),
        // Whether that job has a model is the market's to say.
        Name::Job(_) => Some(Hash::default()),
    };
    let read = match manifest {
        Some(manifest) => JobSpec::from_toml_for(text, &resolve, manifest),
        None => JobSpec::from_toml(text, &resolve),
    };
    read.err().map(|error| problem(&error, datasets))
}

fn problem(error: &SpecError, datasets: &BTreeSet<String>) -> SpecProblem {
    let names: Vec<&str> = datasets.iter().map(String::as_str).collect();
    let hint = match (error.problem, names.is_empty()) {
        (Kind::UnknownDataset, true) => "import it first".to_owned(),
        (Kind::UnknownDataset, false) => format!("import it first, or use {}", names.join(", ")),
        _ => without_commands(&error.hint),
    };
    let parts = [error.place.as_str(), error.message.as_str()];
    let what = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    let message = if hint.is_empty() { what } else { format!("{what}; {hint}") };
    SpecProblem { line: error.line.and_then(|line| u32::try_from(line).ok()), message }
}

/// What the form shows; none where the text isn't TOML. What isn't there has the value that a job without it has.
pub fn fields(text: &str) -> Option<JobFields> {
    let document: DocumentMut = text.parse().ok()?;
    let root: &dyn TableLike = document.as_table();
    let min = number(root, "workers", "min").unwrap_or(1);
    let trains = text_at(root, "kind").is_none_or(|kind| kind == "train");
    let slots = section(root, "budget").and_then(|budget| budget.get("slots")).and_then(Item::as_array);
    Some(JobFields {
        name: text_at(root, "name").unwrap_or_default(),
        dataset: section(root, "data").and_then(|data| text_at(data, "manifest")).unwrap_or_default(),
        workers_min: narrow(min),
        workers_max: narrow(number(root, "workers", "max").unwrap_or(min)),
        cores: narrow(number(root, "workers", "cores").unwrap_or(1)),
        ram_mib: number(root, "workers", "ram_mib").unwrap_or(0),
        slots: slots.into_iter().flatten().filter_map(|slot| slot.as_str().map(str::to_owned)).collect(),
        max_credits: section(root, "budget").and_then(|budget| budget.get("max_credits")).map(as_typed).unwrap_or_default(),
        epochs: if trains { narrow(number(root, "training", "epochs").unwrap_or(0)) } else { 0 },
    })
}

/// The file with these fields. What is as it was isn't touched.
pub fn edit(text: &str, wanted: &JobFields) -> Answer<String> {
    let no_toml = || CommandError::new(BAD_INPUT, "the job file isn't TOML", "mend the line that is marked first");
    let mut document: DocumentMut = text.parse().map_err(|_| no_toml())?;
    let present = fields(text).ok_or_else(no_toml)?;
    let credits = wanted.max_credits.trim();
    let cap: Value = match credits.parse::<Credits>() {
        Ok(_) => credits.parse().map_err(|_| not_a_cap(credits))?,
        Err(_) => return Err(not_a_cap(credits)),
    };
    let root: &mut dyn TableLike = document.as_table_mut();
    if wanted.name != present.name {
        set(root, "name", wanted.name.as_str().into());
    }
    let mut put = |table: &str, key: &str, differs: bool, value: Value| match differs {
        true => section_mut(root, table).map(|section| set(section, key, value)),
        false => Ok(()),
    };
    put("data", "manifest", wanted.dataset != present.dataset, wanted.dataset.as_str().into())?;
    put("workers", "min", wanted.workers_min != present.workers_min, i64::from(wanted.workers_min).into())?;
    // Without a `max` of its own the most follows the least.
    let max_differs = wanted.workers_max != present.workers_max || wanted.workers_min != present.workers_min;
    put("workers", "max", max_differs, i64::from(wanted.workers_max).into())?;
    put("workers", "cores", wanted.cores != present.cores, i64::from(wanted.cores).into())?;
    let ram =
        i64::try_from(wanted.ram_mib).map_err(|_| CommandError::new(BAD_INPUT, "so much memory can't be written down", ""))?;
    put("workers", "ram_mib", wanted.ram_mib != present.ram_mib, ram.into())?;
    put("budget", "max_credits", credits != present.max_credits, cap)?;
    put("budget", "slots", wanted.slots != present.slots, Value::Array(wanted.slots.iter().collect::<Array>()))?;
    // A job that doesn't train has no epochs.
    put("training", "epochs", wanted.epochs != present.epochs && wanted.epochs > 0, i64::from(wanted.epochs).into())?;
    Ok(document.to_string())
}

fn not_a_cap(typed: &str) -> CommandError {
    CommandError::new(
        BAD_INPUT,
        format!("'{typed}' is not an amount of credits"),
        "write digits with at most six decimals, like 12.5",
    )
}

/// Sets a value; the comment behind the old one stays.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

fn section<'a>(root: &'a dyn TableLike, name: &str) -> Option<&'a dyn TableLike> {
    root.get(name)?.as_table_like()
}

/// A section, which is made where it isn't there.
fn section_mut<'a>(root: &'a mut dyn TableLike, name: &str) -> Answer<&'a mut dyn TableLike> {
    if root.get(name).is_none() {
        root.insert(name, Item::Table(Table::new()));
    }
    let section = root.get_mut(name).and_then(Item::as_table_like_mut);
    section.ok_or_else(|| {
        CommandError::new(BAD_INPUT, format!("'{name}' is no section of this job file"), format!("write [{name}]"))
    })
}

fn text_at(table: &dyn TableLike, key: &str) -> Option<String> {
    table.get(key)?.as_str().map(str::to_owned)
}

fn number(root: &dyn TableLike, table: &str, key: &str) -> Option<u64> {
    section(root, table)?.get(key)?.as_integer().and_then(|number| u64::try_from(number).ok())
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A number as it stands in the file: a float would round it.
fn as_typed(item: &Item) -> String {
    match item.as_value() {
        Some(Value::Integer(number)) => number.display_repr().into_owned(),
        Some(Value::Float(number)) => number.display_repr().into_owned(),
        Some(Value::String(text)) => text.value().clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::presets;

    const MNIST: &str = include_str!("../../examples/mnist.toml");

    fn known(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_form_shows_what_the_file_says() {
        let fields = fields(MNIST).unwrap();
        assert_eq!((fields.name.as_str(), fields.dataset.as_str(), fields.max_credits.as_str()), ("mnist-cnn", "mnist", "20"));
        assert_eq!((fields.workers_min, fields.workers_max, fields.cores, fields.ram_mib, fields.epochs), (2, 3, 1, 1024, 5));
        assert!(fields.slots.is_empty() && super::fields("[workers").is_none());
    }

    #[test]
    fn an_edit_changes_what_it_means_and_keeps_every_comment() {
        let present = fields(MNIST).unwrap();
        assert_eq!(edit(MNIST, &present).unwrap(), MNIST, "nothing changes where nothing is changed");
        let wanted = JobFields {
            name: "mine".into(),
            dataset: "digits".into(),
            workers_max: 5,
            slots: vec!["00-06".into(), "18-24".into()],
            max_credits: "0.500001".into(),
            epochs: 2,
            ..present
        };
        let edited = edit(MNIST, &wanted).unwrap();
        assert_eq!(fields(&edited).unwrap(), wanted);
        for line in [
            "# The demo's job: a small convolutional network learns MNIST on three lenders' machines.",
            "max_credits = 0.500001",
            "slots = [\"00-06\", \"18-24\"]                          # now, whatever the slot",
            "manifest = \"digits\"                  # the name that `deepmarket data add` gave, or blake3:…",
            "batch = 192                         # of all workers together: 64 each",
        ] {
            assert!(edited.lines().any(|found| found == line), "'{line}' is not in:\n{edited}");
        }
        assert_eq!(flaw(&edited, &known(&["digits"]), None), None);
        assert_eq!(edited.lines().count(), MNIST.lines().count());
    }

    #[test]
    fn a_short_file_gets_the_keys_that_it_lacks() {
        let text = "name = \"a\"\nworkers = { min = 1, ram_mib = 512 }\n";
        let wanted = JobFields { workers_max: 4, max_credits: "7".into(), ..fields(text).unwrap() };
        let edited = edit(text, &wanted).unwrap();
        assert_eq!(fields(&edited).unwrap(), wanted, "{edited}");
        // The most follows the least, unless it has a value of its own.
        let wanted = JobFields { workers_min: 2, max_credits: "7".into(), ..fields(text).unwrap() };
        assert_eq!(fields(&edit(text, &wanted).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn a_cap_that_is_no_amount_is_refused() {
        let present = fields(MNIST).unwrap();
        for bad in ["", "1e3", "-1", "1.0000001", "20 # x", "\"20\""] {
            assert!(edit(MNIST, &JobFields { max_credits: bad.into(), ..present.clone() }).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_problem_is_found_at_its_line() {
        let line_of = |text: &str, part: &str| Some(text.lines().position(|line| line.contains(part)).unwrap() as u32 + 1);
        let found = |text: &str, datasets: &[&str]| flaw(text, &known(datasets), None).unwrap();
        let unknown = found(MNIST, &["iris"]);
        assert_eq!(unknown.line, line_of(MNIST, "manifest"));
        assert!(unknown.message.contains("'mnist'") && unknown.message.ends_with("or use iris"), "{}", unknown.message);
        for (from, to, part) in [("ram_mib = 1024", "ram_mib = \"much\"", "ram_mib"), ("epochs = 5", "epochz = 5", "epochz")] {
            let text = MNIST.replace(from, to);
            assert_eq!(found(&text, &["mnist"]).line, line_of(&text, part));
        }
        let text = MNIST.replace("[training]", "[training");
        assert_eq!(found(&text, &["mnist"]).line, line_of(&text, "[training"));
    }

    #[test]
    fn every_preset_can_be_started_once_its_data_is_there() {
        let datasets = known(&["mnist", "text", "regression"]);
        for preset in presets() {
            assert_eq!(flaw(&preset.toml, &datasets, None), None, "{}", preset.id);
            assert!(datasets.contains(&preset.dataset) && !preset.about.is_empty(), "{}", preset.id);
        }
    }
}
