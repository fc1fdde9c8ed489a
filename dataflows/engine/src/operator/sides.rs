//! The side relations a job's operators write to: `$late`, `$rejects`, `$errors`.
//!
//! They need no stream of their own: an operator of a worker appends to the worker's part of the relation at the epoch it
//! is applying, and readers see that only once the epoch is closed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use highwater_plan::{OnError, Span};

use crate::checkpoint::is_replaying;
use crate::view::ViewHandle;
use crate::{Delta, Diff, Time};

/// Columns of `<view>$errors`.
pub(crate) fn errors_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("operator", DataType::Utf8, false),
        Field::new("message", DataType::Utf8, false),
        Field::new("line", DataType::Int64, true),
        Field::new("column", DataType::Int64, true),
        Field::new("row", DataType::Utf8, false),
    ]))
}

/// Columns of `<source>$rejects`: where the row stood, why it was refused, its text and how many bytes it had.
pub fn rejects_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("partition", DataType::Utf8, false),
        Field::new("offset", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("raw", DataType::Utf8, false),
        Field::new("raw_bytes", DataType::Int64, false),
    ]))
}

/// Columns of `<source>$late`: the source's physical columns, then which operator refused the row, the watermark then,
/// the missed windows (start of the first, end of the last, how many), and, for rows that are no source rows any more
/// (behind a join or an aggregate), the operator's input row as JSON in place of the columns.
pub fn late_schema(source: &Schema) -> SchemaRef {
    let mut fields: Vec<Field> = source.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    fields.extend([
        Field::new("late_operator", DataType::Utf8, false),
        Field::new("late_watermark", micros.clone(), false),
        Field::new("late_from", micros.clone(), false),
        Field::new("late_to", micros, false),
        Field::new("late_windows", DataType::Int64, false),
        Field::new("late_row", DataType::Utf8, true),
    ]);
    Arc::new(Schema::new(fields))
}

/// Where an operator's failing rows go: the `$errors` of every view and sink that reads it.
#[derive(Clone)]
pub(crate) struct Errors {
    pub(crate) worker: usize,
    pub(crate) operator: String,
    pub(crate) relations: Vec<Arc<ViewHandle>>,
    pub(crate) policy: OnError,
    /// Stops the job.
    pub(crate) fail: Arc<dyn Fn(String) + Send + Sync>,
}

impl Errors {
    /// Keeps rows of `delta` (positions) for which `message` was given, or stops the job if that is its policy.
    pub(crate) fn report(&self, epoch: Time, delta: &Delta, rows: &[u32], message: &str, span: Option<Span>) {
        let taken = delta.take(&UInt32Array::from(rows.to_vec()));
        self.report_rows(epoch, &taken, message, span);
    }

    /// Keeps all rows of `delta`.
    pub(crate) fn report_rows(&self, epoch: Time, delta: &Delta, message: &str, span: Option<Span>) {
        if is_replaying() {
            return;
        }
        let texts = json_rows(&delta.rows);
        if self.policy == OnError::Fail {
            let place = span.map_or(String::new(), |span| format!(" at {span}"));
            let row = texts.first().map(String::as_str).unwrap_or_default();
            (self.fail)(format!("{message} in {}{place}, row {row} (on_error = fail)", self.operator));
            return;
        }
        let rows = texts.len();
        let line = span.map(|span| span.start.line as i64);
        let column = span.map(|span| span.start.column as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.operator, rows))),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(message, rows))),
            Arc::new(Int64Array::from(vec![line; rows])),
            Arc::new(Int64Array::from(vec![column; rows])),
            Arc::new(StringArray::from(texts)),
        ];
        let batch = RecordBatch::try_new(errors_schema(), columns).expect("columns of the errors relation");
        for relation in &self.relations {
            relation.append(self.worker, epoch, batch.clone(), delta.diffs.clone());
        }
    }
}

/// Each row as a JSON object.
pub(crate) fn json_rows(rows: &RecordBatch) -> Vec<String> {
    let mut bytes = Vec::new();
    let mut writer = arrow::json::writer::LineDelimitedWriter::new(&mut bytes);
    let written = writer.write(rows).and_then(|()| writer.finish());
    if let Err(error) = written {
        return vec![format!("(cannot be shown as JSON: {error})"); rows.num_rows()];
    }
    drop(writer);
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// Where rows that came too late go.
#[derive(Clone)]
pub(crate) struct LateRows {
    pub(crate) worker: usize,
    pub(crate) operator: String,
    /// Per source of the job its `$late` relation and number of physical columns.
    pub(crate) relations: Vec<Option<Arc<ViewHandle>>>,
    /// Where rows go that are no source rows any more.
    pub(crate) fallback: usize,
    /// Retractions are what tables' rows were before they were replaced: nothing came that could be late, so they are not
    /// kept. What a closed window says of such a row stays.
    pub(crate) before_images: bool,
}

/// One late row's missed windows.
pub(crate) struct Missed {
    pub(crate) row: u32,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) windows: i64,
}

impl LateRows {
    /// Of rows whose windows are closed those that are late rows: of tables not what was there before an update, nor what an
    /// update left as it was in all that is read here.
    pub(crate) fn rows_that_came(&self, delta: &Delta, missed: Vec<Missed>) -> Vec<Missed> {
        let retracts = |missed: &Missed| delta.diff(missed.row as usize) < 0;
        if !self.before_images || !missed.iter().any(retracts) {
            return missed;
        }
        let texts = json_rows(&delta.take(&missed.iter().map(|missed| missed.row).collect()).rows);
        let mut came: HashMap<&str, Diff> = HashMap::new();
        for (missed, text) in missed.iter().zip(&texts) {
            *came.entry(text).or_default() += delta.diff(missed.row as usize);
        }
        let mut is_late = |missed: &Missed, text: &String| match came.get_mut(text.as_str()) {
            Some(net) if *net > 0 && !retracts(missed) => {
                *net -= delta.diff(missed.row as usize);
                true
            }
            _ => false,
        };
        missed.into_iter().zip(&texts).filter_map(|(missed, text)| is_late(&missed, text).then_some(missed)).collect()
    }

    /// Keeps the missed rows of `delta`; gives the source they are counted for.
    pub(crate) fn keep(&self, epoch: Time, delta: &Delta, missed: &[Missed], watermark: i64) -> usize {
        let rows: Vec<u32> = missed.iter().map(|missed| missed.row).collect();
        let source = delta.origin.as_ref().map_or(self.fallback, |origin| origin.source);
        let Some(relation) = &self.relations[source] else { return source };
        let schema = relation.schema();
        let physical = schema.fields().len() - 6;
        let whole = delta.origin.as_ref().and_then(|origin| origin.origin.rows(&origin.positions(&rows)).ok());
        let (mut columns, text): (Vec<ArrayRef>, ArrayRef) = match whole {
            Some(batch) => (batch.columns().to_vec(), new_null_array(&DataType::Utf8, rows.len())),
            None => {
                let nulls = schema.fields()[..physical].iter().map(|field| new_null_array(field.data_type(), rows.len()));
                let taken = delta.take(&UInt32Array::from(rows.clone()));
                (nulls.collect(), Arc::new(StringArray::from(json_rows(&taken.rows))))
            }
        };
        let micros = |value: &dyn Fn(&Missed) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(missed.iter().map(value)))
        };
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.operator, rows.len()))));
        columns.push(micros(&|_| watermark));
        columns.push(micros(&|missed| missed.from));
        columns.push(micros(&|missed| missed.to));
        columns.push(Arc::new(Int64Array::from_iter_values(missed.iter().map(|missed| missed.windows))));
        columns.push(text);
        let batch = RecordBatch::try_new(Arc::clone(schema), columns).expect("columns of the late relation");
        let diffs =
            delta.diffs.as_ref().map(|diffs| Int64Array::from_iter_values(rows.iter().map(|row| diffs.value(*row as usize))));
        relation.append(self.worker, epoch, batch, diffs);
        source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tables_rows_only_what_came_is_late() {
        let late = |before_images: bool| LateRows {
            worker: 0,
            operator: "test".into(),
            relations: Vec::new(),
            fallback: 0,
            before_images,
        };
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 2, 3, 4]));
        let rows = RecordBatch::try_from_iter([("x", column)]).unwrap();
        // 1 went, 2 was updated where nobody looks, 3 came, 4 came.
        let delta = Delta::with_diffs(rows, Int64Array::from(vec![-1, -1, 1, 1, 1]));
        let missed = || (0..5).map(|row| Missed { row, from: 0, to: 1, windows: 1 }).collect::<Vec<_>>();
        let came = |late: LateRows| late.rows_that_came(&delta, missed()).iter().map(|missed| missed.row).collect::<Vec<_>>();
        assert_eq!(came(late(true)), [3, 4]);
        assert_eq!(came(late(false)), [0, 1, 2, 3, 4], "of a changelog retractions are late as well");
    }
}
