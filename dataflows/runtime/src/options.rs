//! The options of a source that are the runtime's and not its connector's: how far ahead its rows may be, when a partition
//! is idle, how much one epoch takes.
//!
//! They stand in the same `WITH (...)`; a connector accepts them ([`COMMON_FIELDS`]) and leaves them alone.

use std::time::Duration;

use highwater_connectors::source::COMMON_FIELDS;
use highwater_plan::{Diagnostic, OptionReader, Options};

/// What the common options say for one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceOptions {
    /// The far-future guard's limit; `None`: no guard.
    pub(crate) max_ahead: Option<MaxAhead>,
    /// After how long at the log's end a partition is idle; `None`: never.
    pub(crate) idle_timeout: Option<Duration>,
    /// Rows per worker and epoch, at least 1; `None`: the job's setting.
    pub(crate) epoch_rows_max: Option<usize>,
}

/// How far an event time may be ahead of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MaxAhead {
    /// The length.
    pub(crate) length: Duration,
    /// The length as a person wrote it.
    pub(crate) text: String,
}

impl SourceOptions {
    /// Reads the runtime's options of the source `name`; malformed ones are errors at their place.
    pub(crate) fn read(name: &str, options: &Options) -> Result<Self, Diagnostic> {
        let is_common = |key: &str| COMMON_FIELDS.iter().any(|field| field.key == key);
        let common = options.entries.iter().filter(|entry| is_common(&entry.key)).cloned().collect();
        let common = Options { entries: common, span: options.span };
        let what = format!("source '{name}'");
        let reader = OptionReader::new(&common, &what, &[COMMON_FIELDS])?;
        let max_ahead = match duration_or_none(&reader, "max_ahead")? {
            Some(length) => {
                length.map(|length| MaxAhead { length, text: common.get("max_ahead").unwrap_or_default().trim().to_owned() })
            }
            None => Some(MaxAhead { length: Duration::from_secs(86_400), text: "1 day".to_owned() }),
        };
        let idle_timeout = duration_or_none(&reader, "idle_timeout")?.flatten();
        let epoch_rows_max: Option<usize> = reader.parsed("epoch_rows_max", "a whole number of rows, at least 1")?;
        if epoch_rows_max == Some(0) {
            return Err(reader.invalid("epoch_rows_max", "a whole number of rows, at least 1"));
        }
        Ok(SourceOptions { max_ahead, idle_timeout, epoch_rows_max })
    }
}

/// `None` if the option is absent, `Some(None)` if it is `none`.
fn duration_or_none(reader: &OptionReader<'_>, key: &str) -> Result<Option<Option<Duration>>, Diagnostic> {
    match reader.optional(key) {
        Some("none") => Ok(Some(None)),
        _ => Ok(reader.duration(key)?.map(Some)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<SourceOptions, String> {
        SourceOptions::read("bid", &Options::from_pairs(pairs.iter().copied())).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_a_day_never_and_the_jobs_setting() {
        let options = read(&[("connector", "file")]).unwrap();
        assert_eq!(options.max_ahead.map(|ahead| ahead.length), Some(Duration::from_secs(86_400)));
        assert_eq!((options.idle_timeout, options.epoch_rows_max), (None, None));
    }

    #[test]
    fn none_switches_off() {
        let options = read(&[("max_ahead", "none"), ("idle_timeout", "none")]).unwrap();
        assert_eq!((options.max_ahead, options.idle_timeout), (None, None));
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_expected() {
        assert_eq!(
            read(&[("epoch_rows_max", "0")]).unwrap_err(),
            "option 'epoch_rows_max' of source 'bid' cannot be '0'; expected a whole number of rows, at least 1"
        );
        assert!(read(&[("idle_timeout", "10")]).unwrap_err().starts_with("option 'idle_timeout' of source 'bid' cannot be '10'"));
    }
}
