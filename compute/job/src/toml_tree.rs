//! Walks a parsed TOML document by key, remembering lines, so that every error can say where.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    Decimal, SpecError,
    SpecProblem::{self, BadValue, Missing, Unknown, WrongType},
};

/// Which line each key of the document is on.
pub(crate) struct Lines<'t> {
    text: &'t str,
    of_place: RefCell<BTreeMap<String, usize>>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Lines { text, of_place: RefCell::default() }
    }

    /// The line of a byte, counted from 1.
    pub(crate) fn at(&self, byte: usize) -> usize {
        self.text.as_bytes()[..byte.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1
    }

    fn remember(&self, place: &str, byte: usize) {
        self.of_place.borrow_mut().insert(place.to_owned(), self.at(byte));
    }

    /// Fills in the line of an error that only knows its key: the key's own, or that of the closest table around it.
    pub(crate) fn locate(&self, mut error: SpecError) -> SpecError {
        let of_place = self.of_place.borrow();
        let mut place = error.place.as_str();
        while error.line.is_none() && !place.is_empty() {
            error.line = of_place.get(place).copied();
            place = &place[..place.rfind(['.', '[']).unwrap_or(0)];
        }
        error
    }
}

/// One value of the document with its place.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) place: String,
    value: &'a DeValue<'a>,
    lines: &'a Lines<'a>,
}

impl<'a> Node<'a> {
    fn new(place: String, value: &'a Spanned<DeValue<'a>>, lines: &'a Lines<'a>) -> Self {
        lines.remember(&place, value.span().start);
        Node { place, value: value.get_ref(), lines }
    }

    pub(crate) fn error(&self, problem: SpecProblem, message: impl Into<String>, hint: impl Into<String>) -> SpecError {
        self.lines.locate(SpecError::new(problem, &self.place, message, hint))
    }

    fn wrong(&self, expected: &str) -> SpecError {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(WrongType, format!("{expected} is expected, and this is {found}"), format!("write {expected}"))
    }

    pub(crate) fn text(&self) -> Result<&'a str, SpecError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong("a text in quotes")),
        }
    }

    pub(crate) fn flag(&self) -> Result<bool, SpecError> {
        match self.value {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub(crate) fn u64(&self) -> Result<u64, SpecError> {
        match self.value {
            DeValue::Integer(integer) => {
                let text = integer.as_str();
                u64::from_str_radix(text, integer.radix()).map_err(|_| {
                    self.error(
                        BadValue,
                        format!("{text} is not a number from 0 to 2^64"),
                        "write a whole number that is not negative",
                    )
                })
            }
            _ => Err(self.wrong("a whole number")),
        }
    }

    pub(crate) fn u32(&self) -> Result<u32, SpecError> {
        let value = self.u64()?;
        u32::try_from(value)
            .map_err(|_| self.error(SpecProblem::TooLarge, format!("{value} is out of range"), "use a smaller number"))
    }

    /// The digits of a number that may have decimals, as written.
    pub(crate) fn number_text(&self) -> Result<&'a str, SpecError> {
        match self.value {
            DeValue::Float(float) => Ok(float.as_str()),
            DeValue::Integer(integer) if integer.radix() == 10 => Ok(integer.as_str()),
            _ => Err(self.wrong("a number")),
        }
    }

    pub(crate) fn decimal(&self) -> Result<Decimal, SpecError> {
        let text = self.number_text()?;
        text.parse().map_err(|why| {
            self.error(
                BadValue,
                format!("{text} can't be used: {why}"),
                "write a number with at most nine decimals, for example 0.001",
            )
        })
    }

    pub(crate) fn list(&self) -> Result<Vec<Node<'a>>, SpecError> {
        match self.value {
            DeValue::Array(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, item)| Node::new(format!("{}[{index}]", self.place), item, self.lines))
                .collect()),
            _ => Err(self.wrong("a list in [brackets]")),
        }
    }

    /// A table with some of `known`'s keys and no others.
    pub(crate) fn table(&self, known: &'static [&'static str]) -> Result<Table<'a>, SpecError> {
        match self.value {
            DeValue::Table(table) => Table::new(self.place.clone(), table, self.lines, known),
            _ => Err(self.wrong("a table in {braces}")),
        }
    }

    /// A choice with options: `"name"`, or `{ name = { … } }` with a table of exactly one key.
    pub(crate) fn choice(&self, known: &'static [&'static str], example: &str) -> Result<(&'a str, Option<Node<'a>>), SpecError> {
        self.choice_beside("", known, example).map(|(name, options, _)| (name, options))
    }

    /// As [`Self::choice`]; a table may have one more key, whose value comes third.
    #[allow(clippy::type_complexity)]
    pub(crate) fn choice_beside(
        &self,
        beside: &str,
        known: &'static [&'static str],
        example: &str,
    ) -> Result<(&'a str, Option<Node<'a>>, Option<Node<'a>>), SpecError> {
        let (name, options, beside) = match self.value {
            DeValue::String(name) => (name.as_ref(), None, None),
            DeValue::Table(table) => {
                let node = |name: &str, value| Node::new(format!("{}.{name}", self.place), value, self.lines);
                let (besides, choices): (Vec<_>, Vec<_>) =
                    table.iter().map(|(name, value)| (name.get_ref().as_ref(), value)).partition(|(name, _)| *name == beside);
                let [(name, options)] = choices[..] else {
                    let found = format!("a table with one key is expected, and this one has {}", choices.len());
                    return Err(self.error(WrongType, found, format!("write {example}")));
                };
                (name, Some(node(name, options)), besides.first().map(|(name, value)| node(name, value)))
            }
            _ => return Err(self.wrong(example)),
        };
        match known.contains(&name) {
            true => Ok((name, options, beside)),
            false => Err(self.error(Unknown, format!("'{}' is not known", shorten(name)), suggest(name, known))),
        }
    }
}

/// A table whose keys were checked.
pub(crate) struct Table<'a> {
    place: String,
    table: &'a DeTable<'a>,
    lines: &'a Lines<'a>,
}

impl<'a> Table<'a> {
    /// `place` is empty for the document itself.
    pub(crate) fn new(
        place: String,
        table: &'a DeTable<'a>,
        lines: &'a Lines<'a>,
        known: &'static [&'static str],
    ) -> Result<Self, SpecError> {
        let known_set: BTreeSet<&str> = known.iter().copied().collect();
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known_set.contains(name) {
                let mut error =
                    SpecError::new(Unknown, &place, format!("'{}' is not known here", shorten(name)), suggest(name, known));
                error.line = Some(lines.at(key.span().start));
                return Err(error);
            }
        }
        Ok(Table { place, table, lines })
    }

    pub(crate) fn optional(&self, key: &str) -> Option<Node<'a>> {
        let (name, value) = self.table.get_key_value(key)?;
        let place = if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) };
        let node = Node::new(place.clone(), value, self.lines);
        // A section's own span starts at its header; a plain key is where its name stands.
        self.lines.remember(&place, name.span().start);
        Some(node)
    }

    pub(crate) fn required(&self, key: &str, example: &str) -> Result<Node<'a>, SpecError> {
        self.optional(key).ok_or_else(|| {
            let error = SpecError::new(Missing, &self.place, format!("'{key}' is missing"), format!("add {example}"));
            self.lines.locate(error)
        })
    }

    pub(crate) fn u32_or(&self, key: &str, default: u32) -> Result<u32, SpecError> {
        self.optional(key).map_or(Ok(default), |node| node.u32())
    }

    pub(crate) fn u64_or(&self, key: &str, default: u64) -> Result<u64, SpecError> {
        self.optional(key).map_or(Ok(default), |node| node.u64())
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool, SpecError> {
        self.optional(key).map_or(Ok(default), |node| node.flag())
    }

    pub(crate) fn decimal_or(&self, key: &str, default: Decimal) -> Result<Decimal, SpecError> {
        self.optional(key).map_or(Ok(default), |node| node.decimal())
    }

    pub(crate) fn text_or(&self, key: &str, default: &'a str) -> Result<&'a str, SpecError> {
        self.optional(key).map_or(Ok(default), |node| node.text())
    }
}

/// What may have been meant: the nearest known name if it is near, and all of them.
fn suggest(name: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    let nearest = known.iter().map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 1 + nearest.len() / 3 => format!("did you mean '{nearest}'? Known: {all}"),
        _ => format!("known: {all}"),
    }
}

/// Levenshtein distance of two short names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn shorten(name: &str) -> String {
    name.chars().take(40).collect()
}
