use std::collections::{BTreeSet, HashMap};

use crate::{
    ImportError, Options, Task,
    collect::Part,
    files::{agree, needs_task},
    table::{
        rows::{Cell, Place, Rows},
        shown,
    },
};

/// The most categories of a column that becomes features of 0 or 1.
const MAX_CATEGORIES: usize = 256;
/// The most classes.
const MAX_CLASSES: usize = 65_536;

/// Which columns of a table are used, and how.
pub(crate) struct Columns {
    pub target: usize,
    /// Features: the column, and whether it holds categories.
    features: Vec<(usize, bool)>,
    names: Vec<String>,
}

impl Columns {
    pub(crate) fn choose(rows: &Rows, options: &Options) -> Result<Columns, ImportError> {
        let names = rows.columns.clone();
        let find = |name: &String| {
            names.iter().position(|column| column == name).ok_or_else(|| {
                let what = format!("{} has no column '{name}'", rows.path.display());
                ImportError::unclear(what, format!("its columns are {}", shown(&names)))
            })
        };
        let Some(target) = &options.target else {
            let hint = format!("name the one to learn with --target: {}", shown(&names));
            return Err(ImportError::unclear(format!("{} has {} columns", rows.path.display(), names.len()), hint));
        };
        let target = find(target)?;
        let dropped = options.drop.iter().map(find).collect::<Result<BTreeSet<_>, _>>()?;
        let one_hot = options.one_hot.iter().map(find).collect::<Result<BTreeSet<_>, _>>()?;
        let used = (0..names.len()).filter(|column| *column != target && !dropped.contains(column));
        let features: Vec<(usize, bool)> = used.map(|column| (column, one_hot.contains(&column))).collect();
        if features.is_empty() {
            return Err(ImportError::unclear("no column is left as a feature", "drop fewer columns"));
        }
        Ok(Columns { target, features, names })
    }

    /// A row's number in a column.
    pub(crate) fn number(&self, place: Place<'_>, cells: &[Cell], column: usize) -> Result<f64, ImportError> {
        if let Some(number) = cells[column].number() {
            // A shard holds 32-bit floats.
            if (number as f32).is_finite() {
                return Ok(number);
            }
        }
        let name = self.names[column].as_str();
        Err(match &cells[column] {
            Cell::Missing => place.error(Some(name), "it is empty", format!("fill it, leave the row out, or --drop {name}")),
            other => {
                let why = format!("'{}' isn't a number", other.text().chars().take(40).collect::<String>());
                let hint = if column == self.target {
                    "use --task classification, or name another --target".to_owned()
                } else {
                    format!("make a feature of each category with --one-hot {name}, or --drop {name}")
                };
                place.error(Some(name), why, hint)
            }
        })
    }
}

/// What a table's rows tell before they are written.
pub(crate) struct Measured {
    /// Of each feature that is a number, over the training split.
    moments: Vec<Moments>,
    /// Of each feature that is a category.
    categories: Vec<BTreeSet<String>>,
    /// The target's values, as long as they may be classes.
    classes: BTreeSet<String>,
    all_numbers: bool,
    too_many_classes: bool,
}

/// Mean and sum of squared deviations so far (Welford).
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count;
        self.squares += from_mean * (value - self.mean);
    }

    /// A column that never changes has deviation 1: it becomes 0.
    fn standardise(&self, value: f64) -> f64 {
        let deviation = (self.squares / self.count.max(1.0)).sqrt();
        (value - self.mean) / if deviation > 0.0 { deviation } else { 1.0 }
    }
}

/// What is learnt.
pub(crate) struct Target {
    pub task: Task,
    /// In order of their numbers.
    pub classes: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Target {
    /// The number of a row's class.
    pub(crate) fn class(&self, cell: &Cell) -> u32 {
        *self.numbers.get(&cell.text()).expect("all rows were measured")
    }
}

impl Measured {
    pub(crate) fn new(columns: &Columns) -> Measured {
        let number = columns.features.len();
        Measured {
            moments: vec![Moments::default(); number],
            categories: vec![BTreeSet::new(); number],
            classes: BTreeSet::new(),
            all_numbers: true,
            too_many_classes: false,
        }
    }

    /// Takes a row in.
    pub(crate) fn row(&mut self, part: Part, place: Place<'_>, cells: &[Cell], columns: &Columns) -> Result<(), ImportError> {
        for (index, (column, category)) in columns.features.iter().enumerate() {
            if *category {
                let seen = &mut self.categories[index];
                seen.insert(cells[*column].text());
                if seen.len() > MAX_CATEGORIES {
                    let name = &columns.names[*column];
                    let why = format!("it has more than {MAX_CATEGORIES} categories");
                    return Err(place.error(Some(name), why, format!("group them first, or --drop {name}")));
                }
            } else {
                let number = columns.number(place, cells, *column)?;
                if part == Part::Train {
                    self.moments[index].add(number);
                }
            }
        }
        let target = &cells[columns.target];
        if matches!(target, Cell::Missing | Cell::Other(_)) {
            let why = if *target == Cell::Missing { "it is empty".to_owned() } else { format!("it is {}", target.text()) };
            let hint = "fill it or leave the row out: it is what is to be learnt";
            return Err(place.error(Some(&columns.names[columns.target]), why, hint));
        }
        self.all_numbers &= target.number().is_some();
        if !self.too_many_classes {
            self.classes.insert(target.text());
            if self.classes.len() > MAX_CLASSES {
                self.too_many_classes = true;
                self.classes.clear();
            }
        }
        Ok(())
    }

    /// What is learnt, after all rows.
    pub(crate) fn target(&self, options: &Options, columns: &Columns) -> Result<Target, ImportError> {
        let name = &columns.names[columns.target];
        let task = match (options.task, self.all_numbers) {
            (Some(Task::Regression), false) => {
                agree(options.task, Task::Classification, &format!("column '{name}' holds texts"))?
            }
            (Some(task), _) => task,
            (None, false) => Task::Classification,
            (None, true) => return Err(needs_task(&format!("column '{name}' holds numbers, which may be classes or values"))),
        };
        if task == Task::Regression {
            return Ok(Target { task, classes: Vec::new(), numbers: HashMap::new() });
        }
        if self.too_many_classes || self.classes.len() < 2 {
            let count = if self.too_many_classes { format!("more than {MAX_CLASSES}") } else { self.classes.len().to_string() };
            let what = format!("column '{name}' has {count} different values, and there must be 2 to {MAX_CLASSES} classes");
            return Err(ImportError::unclear(what, "use --task regression, or name another --target"));
        }
        let mut classes: Vec<String> = self.classes.iter().cloned().collect();
        if self.all_numbers {
            let number = |class: &String| class.parse::<f64>().unwrap_or_default();
            classes.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
        }
        let numbers = classes.iter().cloned().zip(0..).collect();
        Ok(Target { task, classes, numbers })
    }

    /// The features' names, categories as `colour=red`.
    pub(crate) fn names(&self, columns: &Columns) -> Vec<String> {
        let names = columns.features.iter().zip(&self.categories).flat_map(|((column, category), categories)| {
            let name = &columns.names[*column];
            match category {
                true => categories.iter().map(|value| format!("{name}={value}")).collect(),
                false => vec![name.clone()],
            }
        });
        names.collect()
    }

    /// Appends a row's features as floats.
    pub(crate) fn features(
        &self,
        place: Place<'_>,
        cells: &[Cell],
        columns: &Columns,
        raw: bool,
        x: &mut Vec<u8>,
    ) -> Result<(), ImportError> {
        for (index, (column, category)) in columns.features.iter().enumerate() {
            if *category {
                let own = cells[*column].text();
                x.extend(self.categories[index].iter().flat_map(|value| f32::from(u8::from(*value == own)).to_le_bytes()));
            } else {
                let number = columns.number(place, cells, *column)?;
                let number = if raw { number } else { self.moments[index].standardise(number) };
                x.extend((number as f32).to_le_bytes());
            }
        }
        Ok(())
    }
}
