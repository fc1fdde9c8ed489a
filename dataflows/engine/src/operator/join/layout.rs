//! Which columns a join reads of either side, and how its pairs are put together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, NullArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use highwater_plan::{Join, JoinKind};

use crate::Delta;
use crate::operator::groups::state_batch;

/// Which columns are keys, kept and given.
pub(super) struct Layout {
    /// Key columns per side; the bound by which a windowed join's tables are kept apart is not among them.
    pub(super) on: [Vec<usize>; 2],
    /// Their types.
    pub(super) types: Vec<DataType>,
    pub(super) nulls_equal: bool,
    /// Columns of each side that the output reads.
    pub(super) kept: [Vec<usize>; 2],
    pub(super) kept_types: [Vec<DataType>; 2],
    /// Whether each side only grows.
    pub(super) append_only: [bool; 2],
    /// Columns of each side.
    widths: [usize; 2],
    /// Left then right columns; those that nothing reads have type Null.
    schema: SchemaRef,
    /// The columns of a row that is given alone.
    alone: SchemaRef,
    kind: JoinKind,
}

/// Per side the columns that are read, of a join of inputs so wide.
pub(super) fn kept_columns(read: &[bool], widths: [usize; 2]) -> [Vec<usize>; 2] {
    [(0..widths[0]).filter(|column| read[*column]).collect(), (0..widths[1]).filter(|column| read[widths[0] + column]).collect()]
}

/// The fields of pairs, left first; what is not read is NULL.
pub(super) fn pair_fields(inputs: [&SchemaRef; 2], read: &[bool]) -> Vec<Field> {
    let both = inputs[0].fields().iter().chain(inputs[1].fields());
    let field = |(field, read): (&FieldRef, &bool)| {
        let data_type = if *read { field.data_type().clone() } else { DataType::Null };
        Field::new(field.name(), data_type, true)
    };
    both.zip(read).map(field).collect()
}

impl Layout {
    /// The layout of a join of inputs with these schemas.
    pub(super) fn new(join: &Join, inputs: [&SchemaRef; 2], append_only: [bool; 2]) -> Self {
        let widths = [inputs[0].fields().len(), inputs[1].fields().len()];
        let read = join.read_columns(widths);
        let kept = kept_columns(&read, widths);
        let types = |side: usize, columns: &[usize]| {
            columns.iter().map(|column| inputs[side].field(*column).data_type().clone()).collect()
        };
        let fields = pair_fields(inputs, &read);
        let mut alone = fields.clone();
        if !join.kind.gives_pairs() {
            alone.truncate(widths[0]);
        }
        if join.kind == JoinKind::Mark {
            alone.push(Field::new("mark", DataType::Boolean, false));
        }
        // Rows of a window's table agree on its bound.
        let bound = join.window.as_ref().map(|window| window.on);
        let pairs = join.on.iter().enumerate().filter(|(index, _)| Some(*index) != bound).map(|(_, pair)| pair);
        let on = [pairs.clone().map(|pair| pair.0).collect::<Vec<_>>(), pairs.map(|pair| pair.1).collect::<Vec<_>>()];
        Layout {
            types: types(0, &on[0]),
            on,
            nulls_equal: join.nulls_equal,
            kept_types: [types(0, &kept[0]), types(1, &kept[1])],
            kept,
            append_only,
            widths,
            schema: Arc::new(Schema::new(fields)),
            alone: Arc::new(Schema::new(alone)),
            kind: join.kind,
        }
    }

    /// Rows that can match: NULL keys match nothing, unless NULLs are equal.
    pub(super) fn with_keys(&self, delta: Delta, side: usize) -> Delta {
        self.split_keys(delta, side).0
    }

    /// Rows that can match, and those that cannot, if there are some.
    pub(super) fn split_keys(&self, delta: Delta, side: usize) -> (Delta, Option<Delta>) {
        if self.nulls_equal || self.on[side].iter().all(|column| delta.rows.column(*column).null_count() == 0) {
            return (delta, None);
        }
        let mut valid = BooleanBuffer::new_set(delta.len());
        for nulls in self.on[side].iter().filter_map(|column| delta.rows.column(*column).nulls()) {
            valid = &valid & nulls.inner();
        }
        (delta.filter(&valid), Some(delta.filter(&!&valid)))
    }

    /// Rows of a side of which only keys, and if they are there the kept columns, were saved.
    pub(super) fn widened(&self, side: usize, saved: &Delta) -> Delta {
        let unread: ArrayRef = Arc::new(NullArray::new(saved.len()));
        let mut columns = vec![unread; self.widths[side]];
        for (column, values) in self.on[side].iter().chain(&self.kept[side]).zip(saved.rows.columns()) {
            columns[*column] = Arc::clone(values);
        }
        Delta::of(state_batch(columns, saved.len()), saved.diffs.clone())
    }

    /// A batch of pairs: `fresh` are rows of the changed side, `stored` of the other.
    pub(super) fn pairs(&self, side: usize, fresh: Vec<ArrayRef>, stored: Vec<ArrayRef>, rows: usize) -> RecordBatch {
        let unread: ArrayRef = Arc::new(NullArray::new(rows));
        let mut columns = vec![unread; self.widths[0] + self.widths[1]];
        let offsets = [0, self.widths[0]];
        for (of, values) in [(side, fresh), (1 - side, stored)] {
            for (column, values) in self.kept[of].iter().zip(values) {
                columns[offsets[of] + column] = values;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).expect("the layout's columns")
    }

    /// A batch of rows of one side, without the other's; `mark`: whether they have a match, where a mark join says it.
    pub(super) fn alone(&self, side: usize, values: Vec<ArrayRef>, rows: usize, mark: bool) -> RecordBatch {
        let unread: ArrayRef = Arc::new(NullArray::new(rows));
        let mut columns = vec![unread; self.alone.fields().len()];
        let offsets = [0, self.widths[0]];
        for (column, values) in self.kept[side].iter().zip(values) {
            columns[offsets[side] + column] = values;
        }
        if self.kind.gives_pairs() {
            for (column, data_type) in self.kept[1 - side].iter().zip(&self.kept_types[1 - side]) {
                columns[offsets[1 - side] + column] = new_null_array(data_type, rows);
            }
        }
        if self.kind == JoinKind::Mark {
            columns[self.widths[0]] = Arc::new(BooleanArray::from(vec![mark; rows]));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.alone), columns, &options).expect("the layout's columns")
    }
}
