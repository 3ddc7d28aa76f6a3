//! Tables: rows of numbers, and one column to learn. Read three times, so that memory doesn't grow with the rows: to count,
//! to measure (classes, categories, mean and deviation of the training split), and to write.

mod columns;
mod rows;

use std::path::PathBuf;

use crate::{
    Format, ImportError, Input, Options, Task,
    collect::{Chooser, Collector, Part, X, Y},
    files::Parts,
    table::{
        columns::{Columns, Measured},
        rows::{Cell, Place, Rows},
    },
};

/// What a table gives beside its samples.
pub(crate) struct Table {
    pub collector: Collector,
    /// The classes' names in order of their numbers; empty for values.
    pub classes: Vec<String>,
    /// The features' names in order.
    pub features: Vec<String>,
}

/// Reads CSV or Parquet files.
pub(crate) fn read(input: &Input, format: Format, options: &Options) -> Result<Table, ImportError> {
    let parts = Parts::of(input, format)?;
    let files: Vec<(Option<Part>, Rows)> =
        parts.all().map(|(part, path)| Ok((part, Rows::open(path, format, options)?))).collect::<Result<_, ImportError>>()?;
    let columns = Columns::choose(&files[0].1, options)?;
    for (_, rows) in &files[1..] {
        same_columns(&files[0].1, rows)?;
    }

    let mut counts = Vec::new();
    for (_, rows) in &files {
        let mut count = 0_u64;
        rows.each(&mut |_, _| {
            count += 1;
            Ok(())
        })?;
        counts.push(count);
    }
    let whole: u64 = files.iter().zip(&counts).filter(|((part, _), _)| part.is_none()).map(|(_, count)| count).sum();
    if whole == 1 {
        return Err(ImportError::unclear("the table has one row, and both splits need one", "bring more rows"));
    }

    let mut measured = Measured::new(&columns);
    each(&files, options, whole, &mut |part, place, cells| measured.row(part, place, cells, &columns))?;
    let target = measured.target(options, &columns)?;
    let y = match target.task {
        Task::Classification => Y::Class { at_least: target.classes.len() as u32 },
        Task::Regression => Y::Values { shape: vec![1] },
    };
    let features = measured.names(&columns);
    let mut collector = Collector::new(vec![features.len() as u32], X::Floats, y)?;
    let (mut x, mut number) = (Vec::new(), [0; 4]);
    each(&files, options, whole, &mut |part, place, cells| {
        x.clear();
        measured.features(place, cells, &columns, options.raw, &mut x)?;
        match target.task {
            Task::Classification => number = target.class(&cells[columns.target]).to_le_bytes(),
            Task::Regression => number = (columns.number(place, cells, columns.target)? as f32).to_le_bytes(),
        }
        collector.push(part, &x, &number)
    })?;
    Ok(Table { collector, classes: target.classes, features })
}

/// Takes a row and the split that it belongs to.
type TakeOfPart<'a> = &'a mut dyn FnMut(Part, Place<'_>, &[Cell]) -> Result<(), ImportError>;

/// All rows with the split that each belongs to: the same at each call.
fn each(files: &[(Option<Part>, Rows)], options: &Options, whole: u64, take: TakeOfPart<'_>) -> Result<(), ImportError> {
    let mut chooser = Chooser::new(options, whole);
    for (part, rows) in files {
        rows.each(&mut |place, cells| take(part.unwrap_or_else(|| chooser.next()), place, cells))?;
    }
    Ok(())
}

fn same_columns(first: &Rows, other: &Rows) -> Result<(), ImportError> {
    if first.columns == other.columns {
        return Ok(());
    }
    let why =
        format!("its columns are {}, and those of {} are {}", shown(&other.columns), first.path.display(), shown(&first.columns));
    Err(ImportError::Mismatch { path: PathBuf::from(&other.path), why })
}

/// Column names for people, not too many.
fn shown(columns: &[String]) -> String {
    const MANY: usize = 12;
    let mut text = columns.iter().take(MANY).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if columns.len() > MANY {
        text += &format!(" and {} more", columns.len() - MANY);
    }
    text
}
