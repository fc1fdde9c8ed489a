//! Changes of an epoch as messages: key, value, headers.

use std::collections::HashMap;
use std::io::Write;

use arrow::array::Array;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_connectors::format::encode::RowWriter;
use highwater_connectors::sink::{Changes, EpochChanges};
use rdkafka::message::{Header, OwnedHeaders};

/// What values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows; nothing is ever taken back.
    Json,
    /// Rows with `"op":"+"` or `"-"` and the epoch.
    Changelog,
    /// The row of a key as it is after the epoch; no value if there is none any more.
    Upsert,
    /// `before`, `after` and `op`, as Debezium has them.
    Debezium,
}

/// Makes messages.
#[derive(Debug)]
pub(super) struct Encoder {
    form: Form,
    /// The columns of keys.
    key: Option<Vec<usize>>,
    job: String,
    sink: String,
    /// Whether each message says which it is, so that a reader knows those it has seen.
    idempotency: bool,
}

/// A message to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: OwnedHeaders,
}

/// A row of an epoch: batch and position.
type At = (usize, usize);

/// What an epoch did to a key: a row that was there before, a row that is there after.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    before: Option<At>,
    after: Option<At>,
}

impl Encoder {
    pub(super) fn new(form: Form, key: Option<Vec<usize>>, job: &str, sink: &str, idempotency: bool) -> Encoder {
        Encoder { form, key, job: job.to_owned(), sink: sink.to_owned(), idempotency }
    }

    /// Gives each message of an epoch to `send`; stops at the first that it refuses.
    pub(super) fn encode<E: From<ArrowError>>(
        &self,
        epoch: &EpochChanges,
        mut send: impl FnMut(Outgoing<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let keys = epoch.changes.iter().map(|changes| self.keys(&changes.rows)).collect::<Result<Vec<_>, _>>()?;
        let keys = keys.iter().map(|batch| batch.as_ref().map(RowWriter::new).transpose()).collect::<Result<Vec<_>, _>>()?;
        let rows = epoch.changes.iter().map(|changes| RowWriter::new(&changes.rows)).collect::<Result<Vec<_>, _>>()?;
        let batches = Batches { keys: &keys, rows: &rows };
        let headers = self.headers(epoch.epoch);
        if !self.idempotency {
            let mut emit = |key: Option<&[u8]>, value: Option<&[u8]>| send(Outgoing { key, value, headers: headers.clone() });
            return self.messages(&batches, epoch, &mut emit);
        }
        let mut messages: Vec<Message> = Vec::new();
        let mut keep = |key: Option<&[u8]>, value: Option<&[u8]>| {
            messages.push((key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec)));
            Ok::<(), E>(())
        };
        self.messages(&batches, epoch, &mut keep)?;
        let mut identity = Vec::new();
        for ((key, value), number) in messages.iter().zip(numbers(&messages)) {
            identity.clear();
            // Writing into a vector does not fail.
            let _ = write!(identity, "{}/{number}/", epoch.epoch);
            identity.extend_from_slice(key.as_deref().unwrap_or_default());
            let headers = headers.clone().insert(Header { key: "highwater-idempotency-key", value: Some(&identity) });
            send(Outgoing { key: key.as_deref(), value: value.as_deref(), headers })?;
        }
        Ok(())
    }

    fn messages<E>(
        &self,
        batches: &Batches<'_>,
        epoch: &EpochChanges,
        emit: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        match (self.form, &self.key) {
            (Form::Upsert, _) => batches.upsert(&epoch.changes, emit),
            (Form::Debezium, Some(_)) => batches.keyed_changes(epoch, emit),
            (form, _) => batches.each_change(form, epoch, emit),
        }
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
        self.key.as_ref().map(|key| rows.project(key)).transpose()
    }

    fn headers(&self, epoch: u64) -> OwnedHeaders {
        let epoch = epoch.to_string();
        let headers = OwnedHeaders::new_with_capacity(4);
        let headers = headers.insert(Header { key: "highwater-job", value: Some(&self.job) });
        let headers = headers.insert(Header { key: "highwater-sink", value: Some(&self.sink) });
        headers.insert(Header { key: "highwater-epoch", value: Some(&epoch) })
    }
}

/// Key and value.
type Message = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The number of each message within its epoch: its rank among them, so that it does not hang on the order in which workers have
/// made them, which is another one when the epoch is made again.
fn numbers(messages: &[Message]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..messages.len()).collect();
    // Of equal keys the value with the larger text comes first: "-" before "+".
    order.sort_by(|one, other| messages[*one].0.cmp(&messages[*other].0).then_with(|| messages[*other].1.cmp(&messages[*one].1)));
    let mut numbers = vec![0; messages.len()];
    order.into_iter().zip(0..).for_each(|(at, number)| numbers[at] = number);
    numbers
}

struct Batches<'a> {
    keys: &'a [Option<RowWriter<'a>>],
    rows: &'a [RowWriter<'a>],
}

impl Batches<'_> {
    fn each_change<E>(
        &self,
        form: Form,
        epoch: &EpochChanges,
        emit: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (batch, changes) in epoch.changes.iter().enumerate() {
            for row in 0..changes.rows.num_rows() {
                let diff = diff(changes, row);
                key.clear();
                value.clear();
                self.key((batch, row), &mut key);
                match form {
                    Form::Debezium => self.change(epoch.epoch, Fate::of((batch, row), diff), &mut value),
                    Form::Changelog => {
                        let op = if diff < 0 { '-' } else { '+' };
                        let _ = write!(value, "{{\"op\":\"{op}\",\"epoch\":{}", epoch.epoch);
                        self.rows[batch].write_fields(row, false, &mut value);
                        value.push(b'}');
                    }
                    Form::Json | Form::Upsert => self.rows[batch].write_object(row, &mut value),
                }
                let key = self.keys[batch].is_some().then_some(key.as_slice());
                for _ in 0..diff.unsigned_abs() {
                    emit(key, Some(&value))?;
                }
            }
        }
        Ok(())
    }

    /// One message per key: its row, or nothing.
    fn upsert<E>(
        &self,
        changes: &[Changes],
        emit: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut value = Vec::new();
        for (key, fate) in self.fates(changes) {
            value.clear();
            let row = fate.after.map(|(batch, row)| self.rows[batch].write_object(row, &mut value));
            emit(Some(&key), row.map(|()| value.as_slice()))?;
        }
        Ok(())
    }

    /// One change per key.
    fn keyed_changes<E>(
        &self,
        epoch: &EpochChanges,
        emit: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut value = Vec::new();
        for (key, fate) in self.fates(&epoch.changes) {
            value.clear();
            self.change(epoch.epoch, fate, &mut value);
            emit(Some(&key), Some(&value))?;
        }
        Ok(())
    }

    /// What becomes of each key, in the order in which the keys come.
    fn fates(&self, changes: &[Changes]) -> Vec<(Vec<u8>, Fate)> {
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut fates: Vec<(Vec<u8>, Fate)> = Vec::new();
        let mut key = Vec::new();
        for (batch, changes) in changes.iter().enumerate() {
            for row in 0..changes.rows.num_rows() {
                let diff = diff(changes, row);
                if diff == 0 {
                    continue;
                }
                key.clear();
                self.key((batch, row), &mut key);
                let place = match places.get(&key) {
                    Some(place) => *place,
                    None => {
                        places.insert(key.clone(), fates.len());
                        fates.push((key.clone(), Fate::default()));
                        fates.len() - 1
                    }
                };
                let fate = &mut fates[place].1;
                if diff > 0 {
                    fate.after = Some((batch, row));
                } else {
                    fate.before = fate.before.or(Some((batch, row)));
                }
            }
        }
        fates
    }

    fn key(&self, (batch, row): At, out: &mut Vec<u8>) {
        if let Some(key) = &self.keys[batch] {
            key.write_object(row, out);
        }
    }

    fn change(&self, epoch: u64, fate: Fate, out: &mut Vec<u8>) {
        let op = match (fate.before, fate.after) {
            (Some(_), Some(_)) => 'u',
            (None, _) => 'c',
            (Some(_), None) => 'd',
        };
        let part = |at: Option<At>, out: &mut Vec<u8>| match at {
            Some((batch, row)) => self.rows[batch].write_object(row, out),
            None => out.extend_from_slice(b"null"),
        };
        out.extend_from_slice(b"{\"before\":");
        part(fate.before, out);
        out.extend_from_slice(b",\"after\":");
        part(fate.after, out);
        let _ = write!(out, ",\"op\":\"{op}\",\"ts_ms\":{epoch}}}");
    }
}

impl Fate {
    fn of(at: At, diff: i64) -> Fate {
        if diff < 0 { Fate { before: Some(at), after: None } } else { Fate { before: None, after: Some(at) } }
    }
}

fn diff(changes: &Changes, row: usize) -> i64 {
    changes.diffs.as_ref().filter(|diffs| diffs.is_valid(row)).map_or(1, |diffs| diffs.value(row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn the_number_of_a_message_does_not_hang_on_the_order_in_which_the_epoch_comes() {
        let encoder = Encoder::new(Form::Changelog, Some(vec![0]), "job", "out", true);
        let keys = |rows: &[(i64, &str, i64)]| {
            let mut keys: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let epoch = EpochChanges { epoch: 7, changes: vec![changes(rows)] };
            let sent = encoder.encode::<ArrowError>(&epoch, |sent| {
                let header = sent.headers.iter().find(|header| header.key == "highwater-idempotency-key").unwrap();
                keys.push((header.value.unwrap().to_vec(), sent.value.unwrap().to_vec()));
                Ok(())
            });
            sent.unwrap();
            keys.sort_unstable();
            keys
        };
        let one = keys(&[(2, "b", 1), (1, "a", -1), (1, "c", 2)]);
        assert_eq!(one, keys(&[(1, "c", 2), (2, "b", 1), (1, "a", -1)]));
        assert_eq!(one.iter().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>().len(), 4);
    }

    fn changes(rows: &[(i64, &str, i64)]) -> Changes {
        let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let names = StringArray::from_iter_values(rows.iter().map(|row| row.1));
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("name", Arc::new(names) as _)]);
        let diffs = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
        Changes { rows: batch.expect("a batch"), diffs: Some(diffs) }
    }

    fn messages(form: Form, key: Option<Vec<usize>>, all: &[&[(i64, &str, i64)]]) -> Vec<String> {
        let encoder = Encoder::new(form, key, "j", "s", true);
        let epoch = EpochChanges { epoch: 7, changes: all.iter().map(|rows| changes(rows)).collect() };
        let mut out = Vec::new();
        let text = |bytes: Option<&[u8]>| bytes.map_or("-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let sent = encoder.encode::<ArrowError>(&epoch, |message| {
            let last = message.headers.get(message.headers.count() - 1);
            out.push(format!("{} {} {}", text(message.key), text(message.value), text(last.value)));
            Ok(())
        });
        sent.expect("rows of JSON");
        out
    }

    #[test]
    fn rows_and_signed_rows() {
        let rows: &[(i64, &str, i64)] = &[(1, "a", 2)];
        assert_eq!(messages(Form::Json, None, &[rows]), [r#"- {"id":1,"name":"a"} 7/0/"#, r#"- {"id":1,"name":"a"} 7/1/"#]);
        let rows: &[(i64, &str, i64)] = &[(1, "a", -1), (1, "b", 1)];
        assert_eq!(
            messages(Form::Changelog, Some(vec![0]), &[rows]),
            [
                r#"{"id":1} {"op":"-","epoch":7,"id":1,"name":"a"} 7/0/{"id":1}"#,
                r#"{"id":1} {"op":"+","epoch":7,"id":1,"name":"b"} 7/1/{"id":1}"#,
            ]
        );
    }

    #[test]
    fn one_message_per_key_has_the_last_state() {
        let first: &[(i64, &str, i64)] = &[(1, "a", -1), (2, "b", -1), (3, "c", 1)];
        let second: &[(i64, &str, i64)] = &[(1, "x", 1), (3, "d", 1), (4, "e", 0)];
        assert_eq!(
            messages(Form::Upsert, Some(vec![0]), &[first, second]),
            [
                r#"{"id":1} {"id":1,"name":"x"} 7/0/{"id":1}"#,
                r#"{"id":2} - 7/1/{"id":2}"#,
                r#"{"id":3} {"id":3,"name":"d"} 7/2/{"id":3}"#,
            ]
        );
        assert_eq!(
            messages(Form::Debezium, Some(vec![0]), &[first, second])[..2],
            [
                r#"{"id":1} {"before":{"id":1,"name":"a"},"after":{"id":1,"name":"x"},"op":"u","ts_ms":7} 7/0/{"id":1}"#,
                r#"{"id":2} {"before":{"id":2,"name":"b"},"after":null,"op":"d","ts_ms":7} 7/1/{"id":2}"#,
            ]
        );
        let bag: &[(i64, &str, i64)] = &[(2, "b", -1), (3, "c", 1)];
        assert_eq!(
            messages(Form::Debezium, None, &[bag]),
            [
                r#"- {"before":{"id":2,"name":"b"},"after":null,"op":"d","ts_ms":7} 7/0/"#,
                r#"- {"before":null,"after":{"id":3,"name":"c"},"op":"c","ts_ms":7} 7/1/"#,
            ]
        );
    }
}
