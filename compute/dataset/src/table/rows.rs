use std::{
    cell::Cell as Counter,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};

use crate::{Format, ImportError, Options, files};

/// The most columns of a table.
const MAX_COLUMNS: usize = 65_536;
/// The most bytes of one row: without a bound, a file without line breaks would be one row in memory.
const MAX_ROW_BYTES: usize = 16 * 1024 * 1024;

/// Takes a row.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Place<'_>, &[Cell]) -> Result<(), ImportError>;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Nothing.
    Missing,
    /// A number.
    Number(f64),
    /// A text that may hold a number.
    Text(String),
    /// Something that is neither, for example a list.
    Other(&'static str),
}

impl Cell {
    /// The value as a finite number.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self {
            Cell::Number(number) => *number,
            Cell::Text(text) => text.trim().parse().ok()?,
            Cell::Missing | Cell::Other(_) => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value as people write it; categories are told apart by it.
    pub(crate) fn text(&self) -> String {
        match self {
            Cell::Missing => String::new(),
            Cell::Number(number) => number.to_string(),
            Cell::Text(text) => text.trim().to_owned(),
            Cell::Other(kind) => (*kind).to_owned(),
        }
    }
}

/// Where a row is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub path: &'a Path,
    /// Of CSV the line on which it begins, of Parquet the row, both from 1.
    pub row: u64,
    pub word: &'static str,
}

impl Place<'_> {
    /// An error about this row.
    pub(crate) fn error(&self, column: Option<&str>, why: impl Into<String>, hint: impl Into<String>) -> ImportError {
        let column = column.map(|name| format!(", column '{name}'")).unwrap_or_default();
        let place = format!("{} {}{column}", self.word, self.row);
        ImportError::Content { path: self.path.to_owned(), place, why: why.into(), hint: hint.into() }
    }
}

/// One file of a table.
pub(crate) struct Rows {
    pub path: PathBuf,
    pub columns: Vec<String>,
    kind: Kind,
}

enum Kind {
    Csv { delimiter: u8, no_header: bool },
    Parquet,
}

impl Rows {
    pub(crate) fn open(path: &Path, format: Format, options: &Options) -> Result<Rows, ImportError> {
        let (kind, columns) = match format {
            Format::Parquet => (Kind::Parquet, parquet_columns(path)?),
            _ => {
                let delimiter = delimiter(path)?;
                (Kind::Csv { delimiter, no_header: options.no_header }, csv_columns(path, delimiter, options.no_header)?)
            }
        };
        if columns.len() < 2 || columns.len() > MAX_COLUMNS {
            let why = format!("it has {} columns, and a table needs 2 to {MAX_COLUMNS}", columns.len());
            return Err(ImportError::Malformed { path: path.to_owned(), why });
        }
        if let Some(twice) = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name)) {
            let why = format!("two columns are named '{}'", twice.1);
            return Err(ImportError::Malformed { path: path.to_owned(), why });
        }
        Ok(Rows { path: path.to_owned(), columns, kind })
    }

    /// Gives each row, with one cell a column.
    pub(crate) fn each(&self, take: Take<'_>) -> Result<(), ImportError> {
        match self.kind {
            Kind::Csv { delimiter, no_header } => self.each_of_csv(delimiter, no_header, take),
            Kind::Parquet => self.each_of_parquet(take),
        }
    }

    fn each_of_csv(&self, delimiter: u8, no_header: bool, take: Take<'_>) -> Result<(), ImportError> {
        let (mut reader, since) = csv_reader(&self.path, delimiter, !no_header)?;
        let mut record = csv::ByteRecord::new();
        let mut cells = Vec::new();
        loop {
            since.set(0);
            let more = reader.read_byte_record(&mut record).map_err(|e| csv_error(&self.path, e))?;
            if !more {
                return Ok(());
            }
            let row = record.position().map_or(0, csv::Position::line);
            let place = Place { path: &self.path, row, word: "line" };
            if record.len() == 1 && record[0].is_empty() {
                continue;
            }
            if record.len() != self.columns.len() {
                let why = format!("it has {} values, and there are {} columns", record.len(), self.columns.len());
                return Err(place.error(None, why, "add or quote the values of this line"));
            }
            cells.clear();
            for (value, name) in record.iter().zip(&self.columns) {
                let text = std::str::from_utf8(value)
                    .map_err(|_| place.error(Some(name), "it isn't UTF-8", "save the table as UTF-8"))?;
                cells.push(if text.trim().is_empty() { Cell::Missing } else { Cell::Text(text.to_owned()) });
            }
            take(place, &cells)?;
        }
    }

    fn each_of_parquet(&self, take: Take<'_>) -> Result<(), ImportError> {
        let reader = parquet_reader(&self.path)?;
        let rows = reader.get_row_iter(None).map_err(|e| parquet_error(&self.path, &e))?;
        let mut cells = Vec::new();
        for (row, values) in (1..).zip(rows) {
            let values = values.map_err(|e| parquet_error(&self.path, &e))?;
            cells.clear();
            cells.extend(values.get_column_iter().map(|(_, field)| cell(field)));
            take(Place { path: &self.path, row, word: "row" }, &cells)?;
        }
        Ok(())
    }
}

fn cell(field: &Field) -> Cell {
    match field {
        Field::Null => Cell::Missing,
        Field::Bool(value) => Cell::Number(f64::from(u8::from(*value))),
        Field::Byte(value) => Cell::Number((*value).into()),
        Field::Short(value) => Cell::Number((*value).into()),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => Cell::Number((*value).into()),
        Field::UByte(value) => Cell::Number((*value).into()),
        Field::UShort(value) => Cell::Number((*value).into()),
        Field::UInt(value) => Cell::Number((*value).into()),
        Field::Long(value) | Field::TimeMicros(value) | Field::TimestampMillis(value) | Field::TimestampMicros(value) => {
            Cell::Number(*value as f64)
        }
        Field::ULong(value) => Cell::Number(*value as f64),
        Field::Float16(value) => Cell::Number(f64::from(value.to_f32())),
        Field::Float(value) => Cell::Number((*value).into()),
        Field::Double(value) => Cell::Number(*value),
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => bytes.as_utf8().map_or(Cell::Other("bytes"), |text| Cell::Text(text.to_owned())),
        // It prints as 12.34.
        decimal @ Field::Decimal(_) => Cell::Text(decimal.to_string()),
        Field::Group(_) => Cell::Other("a group of values"),
        Field::ListInternal(_) => Cell::Other("a list"),
        Field::MapInternal(_) => Cell::Other("a map"),
    }
}

/// Fails where a row has too many bytes: `since` counts those since the last one.
struct Bounded {
    inner: Box<dyn Read>,
    since: Rc<Counter<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > MAX_ROW_BYTES {
            return Err(io::Error::other(format!("a row has more than {} MiB: is a quote not closed?", MAX_ROW_BYTES >> 20)));
        }
        let read = self.inner.read(buffer)?;
        self.since.set(self.since.get() + read);
        Ok(read)
    }
}

fn csv_reader(path: &Path, delimiter: u8, header: bool) -> Result<(csv::Reader<Bounded>, Rc<Counter<usize>>), ImportError> {
    let since = Rc::new(Counter::new(0));
    let bounded = Bounded { inner: files::open(path)?, since: since.clone() };
    // Rows of another length are told by us, with the line.
    let reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(header).flexible(true).from_reader(bounded);
    Ok((reader, since))
}

/// The delimiter that the first line has most of.
fn delimiter(path: &Path) -> Result<u8, ImportError> {
    let mut line = Vec::new();
    let reader = BufReader::new(files::open(path)?).take(MAX_ROW_BYTES as u64);
    BufReader::new(reader).read_until(b'\n', &mut line).map_err(ImportError::unreadable(path))?;
    let count = |delimiter: u8| line.iter().filter(|byte| **byte == delimiter).count();
    let mut best = b',';
    for other in [b';', b'\t'] {
        if count(other) > count(best) {
            best = other;
        }
    }
    Ok(best)
}

fn csv_columns(path: &Path, delimiter: u8, no_header: bool) -> Result<Vec<String>, ImportError> {
    let (mut reader, _) = csv_reader(path, delimiter, false)?;
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(|e| csv_error(path, e))?;
    if no_header {
        return Ok((1..=record.len()).map(|number| number.to_string()).collect());
    }
    let names: Vec<String> =
        record.iter().map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_owned()).collect();
    if !names.is_empty() && names.iter().all(|name| name.parse::<f64>().is_ok()) {
        let why = "the first line holds numbers, not the columns' names".to_owned();
        let (place, hint) =
            ("line 1".to_owned(), "add a line of names, or use --no-header (columns are then 1, 2, …)".to_owned());
        return Err(ImportError::Content { path: path.to_owned(), place, why, hint });
    }
    Ok(names)
}

fn csv_error(path: &Path, error: csv::Error) -> ImportError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => ImportError::Unreadable { path: path.to_owned(), source, needed: "" },
        other => ImportError::Malformed { path: path.to_owned(), why: format!("it isn't a table: {other:?}") },
    }
}

fn parquet_reader(path: &Path) -> Result<SerializedFileReader<File>, ImportError> {
    let file = File::open(path).map_err(ImportError::unreadable(path))?;
    SerializedFileReader::new(file).map_err(|e| parquet_error(path, &e))
}

fn parquet_columns(path: &Path) -> Result<Vec<String>, ImportError> {
    let reader = parquet_reader(path)?;
    let schema = reader.metadata().file_metadata().schema();
    Ok(schema.get_fields().iter().map(|field| field.name().to_owned()).collect())
}

fn parquet_error(path: &Path, error: &parquet::errors::ParquetError) -> ImportError {
    ImportError::Malformed { path: path.to_owned(), why: format!("it isn't Parquet that can be read: {error}") }
}
