//! `WITH (key = 'value', ...)`: read once by the connector that understands them, every mistake named with its place.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::{Diagnostic, Span, is_reference, is_secret};

/// One option as written.
#[derive(Clone, PartialEq, Eq)]
pub struct OptionEntry {
    /// Its name.
    pub key: String,
    /// Its value, unquoted.
    pub value: String,
    /// Where the name stands.
    pub key_span: Option<Span>,
    /// Where the value stands.
    pub value_span: Option<Span>,
}

/// Without the values of secrets.
impl fmt::Debug for OptionEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if is_secret(&self.key) && !is_reference(&self.value) { "***" } else { &self.value };
        write!(f, "{} = {value:?}", self.key)
    }
}

/// The options of one statement, names unique.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// As written, in order.
    pub entries: Vec<OptionEntry>,
    /// Where the statement's name stands: the place for what is missing.
    pub span: Option<Span>,
}

impl Options {
    /// Options without places, for tests and programs.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entry =
            |(key, value): (&str, &str)| OptionEntry { key: key.into(), value: value.into(), key_span: None, value_span: None };
        Options { entries: pairs.into_iter().map(entry).collect(), span: None }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entry(key).map(|entry| entry.value.as_str())
    }

    /// The entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&OptionEntry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// An option that a connector knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub key: &'static str,
    /// What it does, with its unit and default; one line.
    pub about: &'static str,
}

/// Reads options against the list of those that exist.
///
/// [`OptionReader::new`] refuses unknown names at once; the getters refuse missing and malformed values. Every error
/// lists the valid options.
#[derive(Debug)]
pub struct OptionReader<'a> {
    options: &'a Options,
    what: &'a str,
    known: Vec<Field>,
}

impl<'a> OptionReader<'a> {
    /// Starts reading the options of `what` ("connector 'file'").
    pub fn new(options: &'a Options, what: &'a str, known: &[&[Field]]) -> Result<Self, Diagnostic> {
        let known: Vec<Field> = known.iter().flat_map(|fields| fields.iter().copied()).collect();
        let reader = OptionReader { options, what, known };
        for entry in &options.entries {
            if !reader.known.iter().any(|field| field.key == entry.key) {
                return Err(Diagnostic::error("unknown-option", format!("unknown option '{}' for {what}", entry.key))
                    .at(entry.key_span.or(options.span))
                    .help(reader.valid()));
            }
        }
        Ok(reader)
    }

    /// The value of an option that need not be given.
    pub fn optional(&self, key: &str) -> Option<&'a str> {
        self.options.get(key)
    }

    /// An option that need not be given, with its places.
    pub fn entry(&self, key: &str) -> Option<&'a OptionEntry> {
        self.options.entry(key)
    }

    /// The value of an option that must be given.
    pub fn required(&self, key: &str) -> Result<&'a str, Diagnostic> {
        self.options.get(key).ok_or_else(|| {
            Diagnostic::error("missing-option", format!("{} needs the option '{key}'", self.what))
                .at(self.options.span)
                .help(self.valid())
        })
    }

    /// A number, or whatever else parses, within what `expected` says.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, Diagnostic> {
        let Some(value) = self.options.get(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.invalid(key, expected))
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, Diagnostic> {
        match self.options.get(key) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(self.invalid(key, "true or false")),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, Diagnostic> {
        let Some(value) = self.options.get(key) else { return Ok(None) };
        match choices.iter().find(|(word, _)| *word == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                Err(self.invalid(key, words.join(", ")))
            }
        }
    }

    /// A length of time: `500 ms`, `10s`, `5 minutes`, `1 hour`, `1 day`.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Diagnostic> {
        let Some(value) = self.options.get(key) else { return Ok(None) };
        parse_duration(value)
            .map(Some)
            .ok_or_else(|| self.invalid(key, "a length of time such as '500 ms', '10 s', '5 minutes' or '1 day'"))
    }

    /// An error about the value of `key`, at its place.
    pub fn invalid(&self, key: &str, expected: impl Display) -> Diagnostic {
        let entry = self.options.entry(key);
        let value = match entry {
            Some(entry) if is_secret(key) && !is_reference(&entry.value) => "what it is".into(),
            entry => format!("'{}'", entry.map(|entry| entry.value.as_str()).unwrap_or_default()),
        };
        Diagnostic::error("invalid-option", format!("option '{key}' of {} cannot be {value}", self.what))
            .at(entry.and_then(|entry| entry.value_span).or(self.options.span))
            .help(format!("expected {expected}"))
    }

    fn valid(&self) -> String {
        let keys: Vec<&str> = self.known.iter().map(|field| field.key).collect();
        format!("valid options of {}: {}", self.what, keys.join(", "))
    }
}

/// `500 ms`, `10s`, `5 minutes`, `1 hour`, `2 days`; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit.trim().to_ascii_lowercase().as_str() {
        "us" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[Field { key: "path", about: "file to read" }, Field { key: "rate", about: "rows per second" }];

    #[test]
    fn an_unknown_option_lists_the_valid_ones() {
        let options = Options::from_pairs([("pth", "x")]);
        let error = OptionReader::new(&options, "connector 'file'", &[FIELDS]).expect_err("'pth' is unknown");
        assert_eq!(error.message, "unknown option 'pth' for connector 'file'");
        assert_eq!(error.help.as_deref(), Some("valid options of connector 'file': path, rate"));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("1.5 s"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("10ms"), Some(Duration::from_millis(10)));
        assert_eq!(parse_duration("2 days"), Some(Duration::from_secs(172_800)));
        assert_eq!(parse_duration("10"), None);
        assert_eq!(parse_duration("-1 s"), None);
    }
}
