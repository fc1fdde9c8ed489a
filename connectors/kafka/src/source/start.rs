//! Where reading starts when no checkpoint says so.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use highwater_connectors::source::SourceError;
use highwater_plan::{Diagnostic, OptionReader};
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::{Place, Reading};
use crate::client::PATIENCE;

/// `start = '...'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
    /// Where the group stands; from the beginning where it has committed nothing.
    Committed,
    /// At the first message of this time or later, in milliseconds since 1970.
    Time(i64),
    /// At these offsets; the partitions that are not named, from the beginning. A topic is named if there are several.
    Offsets(Vec<(Option<String>, i32, i64)>),
}

const EXPECTED: &str = "earliest, latest, committed, a time such as 2026-01-31T12:00:00Z, or offsets such as 0:42,1:300";

impl Start {
    pub(super) fn read(reader: &OptionReader<'_>) -> Result<Start, Diagnostic> {
        match reader.optional("start") {
            None | Some("earliest") => Ok(Start::Earliest),
            Some("latest") => Ok(Start::Latest),
            Some("committed") => Ok(Start::Committed),
            Some(text) => {
                let start = time(text).map(Start::Time).or_else(|| offsets(text).map(Start::Offsets));
                start.ok_or_else(|| reader.invalid("start", EXPECTED))
            }
        }
    }

    /// Whether reading that starts now starts where it did before.
    pub(super) fn repeats(&self) -> bool {
        !matches!(self, Start::Latest | Start::Committed)
    }

    /// Whether the partitions that it names are there.
    pub(super) fn check(&self, reader: &OptionReader<'_>, topics: &[Arc<str>], places: &[Place]) -> Result<(), Diagnostic> {
        let Start::Offsets(offsets) = self else { return Ok(()) };
        for (named, number, _) in offsets {
            let topic = match (named, topics) {
                (Some(topic), _) => topic.as_str(),
                (None, [topic]) => topic,
                (None, _) => return Err(reader.invalid("start", "topic/partition:offset, because there are several topics")),
            };
            if !places.iter().any(|(other, partition)| **other == *topic && partition == number) {
                return Err(reader.invalid("start", format!("partitions that exist; '{topic}' has no partition {number}")));
            }
        }
        Ok(())
    }

    /// Where it is in each partition.
    pub(super) fn find(&self, consumer: &Reading, places: &[&Place]) -> Result<HashMap<Place, Offset>, SourceError> {
        let failed = |error| SourceError::passing(format!("looking where reading starts: {error}"));
        let asked = || {
            let mut list = TopicPartitionList::with_capacity(places.len());
            for (topic, number) in places {
                list.add_partition(topic, *number);
            }
            list
        };
        let all = |offset: Offset| places.iter().map(|place| ((*place).clone(), offset)).collect();
        let found = match self {
            Start::Earliest => return Ok(all(Offset::Beginning)),
            // As numbers: a job that stops before it has read anything goes on where it would have.
            Start::Latest => {
                let end = |place: &&Place| {
                    let ends = consumer.fetch_watermarks(&place.0, place.1, PATIENCE).map_err(failed)?;
                    Ok(((*place).clone(), Offset::Offset(ends.1)))
                };
                return places.iter().map(end).collect();
            }
            Start::Offsets(offsets) => {
                let mut starts: HashMap<Place, Offset> = all(Offset::Beginning);
                for ((topic, number), start) in &mut starts {
                    let named = |(named, partition, _): &&(Option<String>, i32, i64)| {
                        partition == number && named.as_ref().is_none_or(|named| **named == **topic)
                    };
                    if let Some((.., offset)) = offsets.iter().find(named) {
                        *start = Offset::Offset(*offset);
                    }
                }
                return Ok(starts);
            }
            Start::Committed => consumer.committed_offsets(asked(), PATIENCE).map_err(failed)?,
            Start::Time(millis) => {
                let mut list = asked();
                list.set_all_offsets(Offset::Offset(*millis)).map_err(failed)?;
                consumer.offsets_for_times(list, PATIENCE).map_err(failed)?
            }
        };
        let mut starts = HashMap::new();
        for element in found.elements() {
            element.error().map_err(failed)?;
            let place: Place = (element.topic().into(), element.partition());
            let offset = match element.offset() {
                Offset::Offset(offset) => Offset::Offset(offset),
                // No message is as late as that.
                Offset::End => Offset::Offset(consumer.fetch_watermarks(&place.0, place.1, PATIENCE).map_err(failed)?.1),
                _ => Offset::Beginning,
            };
            starts.insert(place, offset);
        }
        Ok(starts)
    }
}

/// A time as ISO text; without a zone it is UTC.
fn time(text: &str) -> Option<i64> {
    let zoned = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)).ok().map(|time| time.timestamp_millis());
    let plain = || {
        let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
        formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
    };
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    zoned.or_else(|| plain().or_else(day).map(|time| time.and_utc().timestamp_millis()))
}

/// `0:42,1:300`, `orders/0:42`.
fn offsets(text: &str) -> Option<Vec<(Option<String>, i32, i64)>> {
    let mut offsets: Vec<(Option<String>, i32, i64)> = Vec::new();
    for part in text.split(',') {
        let (partition, offset) = part.trim().rsplit_once(':')?;
        let (topic, number) = match partition.trim().rsplit_once('/') {
            Some((topic, number)) => (Some(topic.to_owned()), number),
            None => (None, partition.trim()),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (number, offset) = (number.trim(), offset.trim());
        if !digits(number) || !digits(offset) {
            return None;
        }
        let number = number.parse().ok()?;
        if offsets.iter().any(|(other, partition, _)| (other, *partition) == (&topic, number)) {
            return None;
        }
        offsets.push((topic, number, offset.parse().ok()?));
    }
    Some(offsets)
}

#[cfg(test)]
mod tests {
    use highwater_plan::{Field, Options};

    use super::*;

    fn read(text: &str) -> Result<Start, Diagnostic> {
        let options = Options::from_pairs([("start", text)]);
        Start::read(&OptionReader::new(&options, "connector 'kafka'", &[&[Field { key: "start", about: "" }]])?)
    }

    #[test]
    fn every_way_to_say_where_reading_starts() {
        assert_eq!(read("earliest"), Ok(Start::Earliest));
        assert_eq!(read("2026-01-31T12:00:00Z"), Ok(Start::Time(1_769_860_800_000)));
        assert_eq!(read("2026-01-31T13:00:00+01:00"), Ok(Start::Time(1_769_860_800_000)));
        assert_eq!(read("2026-01-31 12:00:00.5"), Ok(Start::Time(1_769_860_800_500)));
        assert_eq!(read("2026-01-31"), Ok(Start::Time(1_769_817_600_000)));
        assert_eq!(read("0:42, 1:300"), Ok(Start::Offsets(vec![(None, 0, 42), (None, 1, 300)])));
        assert_eq!(read("a/b/0:42"), Ok(Start::Offsets(vec![(Some("a/b".into()), 0, 42)])));
        for wrong in ["", "first", "0", "0:", "0:-1", ":3", "0:1,0:2", "0:1,", "2026-13-01", "0:99999999999999999999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
