//! The options of a source that are the runtime's and not its connector's.
//!
//! They stand in the same `WITH (...)`. A connector refuses what it does not know, so it is given the options
//! without these ([`SourceOptions::split`]).

use std::time::Duration;

use highwater_plan::{Diagnostic, Field, OptionReader, Options};

/// The options every source has, whatever its connector.
pub const SOURCE_FIELDS: &[Field] = &[
    Field {
        key: "max_ahead",
        about: "how far a row's event time may be ahead of the wall clock, or 'none'; rows beyond go to $rejects (default 1 day)",
    },
    Field {
        key: "idle_timeout",
        about: "after how long at its log's end a partition no longer holds back the watermark, or 'none' (default none)",
    },
    Field {
        key: "epoch_rows_max",
        about: "how many rows one worker reads from this source into one epoch (default: SET epoch_rows_max)",
    },
];

/// What [`SOURCE_FIELDS`] say for one source.
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
        let (ours, _) = Self::split(options);
        let what = format!("source '{name}'");
        let reader = OptionReader::new(&ours, &what, &[SOURCE_FIELDS])?;
        let max_ahead = match duration_or_none(&reader, "max_ahead")? {
            Some(length) => {
                length.map(|length| MaxAhead { length, text: ours.get("max_ahead").unwrap_or_default().trim().to_owned() })
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

    /// The runtime's options and the connector's.
    pub(crate) fn split(options: &Options) -> (Options, Options) {
        let is_ours = |key: &str| SOURCE_FIELDS.iter().any(|field| field.key == key);
        let (ours, theirs) = options.entries.iter().cloned().partition(|entry| is_ours(&entry.key));
        (Options { entries: ours, span: options.span }, Options { entries: theirs, span: options.span })
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

    #[test]
    fn the_connector_sees_the_rest() {
        let options = Options::from_pairs([("connector", "file"), ("max_ahead", "1 h"), ("path", "x")]);
        let (ours, theirs) = SourceOptions::split(&options);
        assert_eq!(ours.entries.len(), 1);
        assert_eq!(theirs.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["connector", "path"]);
    }
}
