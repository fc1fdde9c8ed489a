//! Changes of an epoch as messages: key, value, headers.

use std::collections::HashMap;
use std::io::Write;

use arrow::array::Array;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_connectors::format::encode::{Encoding, MessageWriter, SchemaError};
use highwater_connectors::sink::{Changes, EpochChanges};
use rdkafka::message::{Header, OwnedHeaders};

/// What values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows; nothing is ever taken back.
    Rows,
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
    /// The columns of keys, and how these are written.
    key: Option<(Vec<usize>, Encoding)>,
    /// The columns of values, if these are not all, and how they are written.
    value: (Option<Vec<usize>>, Encoding),
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
    pub(super) fn new(
        form: Form,
        key: Option<(Vec<usize>, Encoding)>,
        value: (Option<Vec<usize>>, Encoding),
        (job, sink): (&str, &str),
        idempotency: bool,
    ) -> Encoder {
        Encoder { form, key, value, job: job.to_owned(), sink: sink.to_owned(), idempotency }
    }

    /// Looks whether the registry would take the schemas; changes nothing.
    pub(super) fn check(&self) -> Result<(), SchemaError> {
        self.encodings().try_for_each(Encoding::check)
    }

    /// Registers the schemas: asks the registry, and waits for it. Not before that is anything encoded.
    pub(super) fn register(&self) -> Result<(), SchemaError> {
        self.encodings().try_for_each(Encoding::register)
    }

    fn encodings(&self) -> impl Iterator<Item = &Encoding> {
        self.key.iter().map(|(_, encoding)| encoding).chain([&self.value.1])
    }

    /// Gives each message of an epoch to `send`; stops at the first that it refuses.
    pub(super) fn encode<E: From<ArrowError>>(
        &self,
        epoch: &EpochChanges,
        mut send: impl FnMut(Outgoing<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let parts = epoch.changes.iter().map(|changes| self.parts(&changes.rows)).collect::<Result<Vec<_>, _>>()?;
        let (mut keys, mut rows) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for (key, value) in &parts {
            keys.push(match (key, &self.key) {
                (Some(batch), Some((_, encoding))) => Some(encoding.writer(batch)?),
                _ => None,
            });
            rows.push(self.value.1.writer(value)?);
        }
        let by_key = self.form == Form::Upsert || (self.form == Form::Debezium && self.key.is_some());
        if by_key && keys.iter().flatten().any(MessageWriter::has_absent) {
            let message = "the key of a row is NULL, and a raw key cannot be; say key.format = 'json', or COALESCE it";
            return Err(ArrowError::InvalidArgumentError(message.to_owned()).into());
        }
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

    /// The columns of keys and those of values.
    fn parts(&self, rows: &RecordBatch) -> Result<(Option<RecordBatch>, RecordBatch), ArrowError> {
        let key = self.key.as_ref().map(|(key, _)| rows.project(key)).transpose()?;
        let value = self.value.0.as_ref().map_or_else(|| Ok(rows.clone()), |columns| rows.project(columns))?;
        Ok((key, value))
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
    keys: &'a [Option<MessageWriter<'a>>],
    rows: &'a [MessageWriter<'a>],
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
                        self.rows[batch].write_fields(row, &mut value);
                        value.push(b'}');
                    }
                    Form::Rows | Form::Upsert => self.rows[batch].write(row, &mut value),
                }
                let key = self.keys[batch].as_ref().filter(|keys| !keys.is_absent(row)).map(|_| key.as_slice());
                let value = (!self.rows[batch].is_absent(row)).then_some(value.as_slice());
                for _ in 0..diff.unsigned_abs() {
                    emit(key, value)?;
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
            let after = fate.after.filter(|(batch, row)| !self.rows[*batch].is_absent(*row));
            let row = after.map(|(batch, row)| self.rows[batch].write(row, &mut value));
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
            key.write(row, out);
        }
    }

    fn change(&self, epoch: u64, fate: Fate, out: &mut Vec<u8>) {
        let op = match (fate.before, fate.after) {
            (Some(_), Some(_)) => 'u',
            (None, _) => 'c',
            (Some(_), None) => 'd',
        };
        let part = |at: Option<At>| at.map(|(batch, row)| (&self.rows[batch], row));
        if let Some(writer) = self.rows.first() {
            writer.write_change(part(fate.before), part(fate.after), op, epoch, out);
        }
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
        let key = Some((vec![0], Encoding::Json));
        let encoder = Encoder::new(Form::Changelog, key, (None, Encoding::Json), ("job", "out"), true);
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
        let key = key.map(|key| (key, Encoding::Json));
        let encoder = Encoder::new(form, key, (None, Encoding::Json), ("j", "s"), true);
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
        assert_eq!(messages(Form::Rows, None, &[rows]), [r#"- {"id":1,"name":"a"} 7/0/"#, r#"- {"id":1,"name":"a"} 7/1/"#]);
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
