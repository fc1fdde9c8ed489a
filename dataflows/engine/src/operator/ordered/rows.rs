//! Rows as order-preserving bytes, each under a number.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use highwater_plan::OrderColumn;

use crate::{Delta, Diff};

/// How rows become bytes and back.
pub(crate) struct Layout {
    /// Columns that name the partition; they are not in the bytes.
    partition: Vec<usize>,
    order: Part,
    rest: Part,
    width: usize,
}

/// Columns that are encoded together.
struct Part {
    columns: Vec<usize>,
    converter: Option<RowConverter>,
}

impl Part {
    fn new(columns: Vec<usize>, fields: Vec<SortField>) -> Self {
        let converter = RowConverter::new(fields).expect("planners allow only columns that can be encoded");
        Part { converter: (!columns.is_empty()).then_some(converter), columns }
    }

    fn encode(&self, delta: &Delta) -> Option<arrow_row::Rows> {
        let converter = self.converter.as_ref()?;
        Some(converter.convert_columns(&delta.columns(&self.columns)).expect("the input has the layout's types"))
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        let Some(converter) = &self.converter else { return Vec::new() };
        let parser = converter.parser();
        converter.convert_rows(rows.map(|row| parser.parse(row))).expect("the bytes came from this converter")
    }
}

impl Layout {
    /// For rows of `input` in this order.
    pub(crate) fn new(input: &SchemaRef, partition: &[usize], order: &[OrderColumn]) -> Arc<Self> {
        let data_type = |column: usize| -> DataType { input.field(column).data_type().clone() };
        let mut ordered: Vec<usize> = Vec::new();
        let mut fields = Vec::new();
        for OrderColumn { column, descending, nulls_first } in order {
            if !ordered.contains(column) {
                ordered.push(*column);
                let options = SortOptions { descending: *descending, nulls_first: *nulls_first };
                fields.push(SortField::new_with_options(data_type(*column), options));
            }
        }
        let width = input.fields().len();
        let rest: Vec<usize> = (0..width).filter(|column| !ordered.contains(column) && !partition.contains(column)).collect();
        let rest_fields = rest.iter().map(|column| SortField::new(data_type(*column))).collect();
        Arc::new(Layout {
            partition: partition.to_vec(),
            order: Part::new(ordered, fields),
            rest: Part::new(rest, rest_fields),
            width,
        })
    }

    /// The bytes of a batch's order columns alone.
    pub(crate) fn encode_order(&self, delta: &Delta) -> Encoded {
        Encoded { order: self.order.encode(delta), rest: None }
    }

    /// The bytes of values of all order columns, of which there are some.
    pub(crate) fn encode_values(&self, columns: &[ArrayRef]) -> arrow_row::Rows {
        let converter = self.order.converter.as_ref().expect("there are order columns");
        converter.convert_columns(columns).expect("the values have the columns' types")
    }

    /// The bytes of a batch's rows.
    pub(crate) fn encode(&self, delta: &Delta) -> Encoded {
        Encoded { order: self.order.encode(delta), rest: self.rest.encode(delta) }
    }
}

/// Rows of a batch as bytes.
pub(crate) struct Encoded {
    order: Option<arrow_row::Rows>,
    rest: Option<arrow_row::Rows>,
}

impl Encoded {
    /// The bytes of a row.
    pub(crate) fn key(&self, row: usize) -> RowKey<'_> {
        RowKey {
            order: self.order.as_ref().map_or(&[], |rows| rows.row(row).data()),
            rest: self.rest.as_ref().map_or(&[], |rows| rows.row(row).data()),
        }
    }
}

/// A row as bytes: ordered by the order columns, then by the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowKey<'a> {
    pub(crate) order: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// Rows by number.
pub(crate) struct Rows {
    layout: Arc<Layout>,
    arena: Vec<u8>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Given up, but still readable until [`Rows::sweep`].
    dropped: Vec<u32>,
    garbage: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    order: u32,
    rest: u32,
    /// How many copies of the row there are.
    copies: Diff,
}

impl Rows {
    /// None yet.
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Rows { layout, arena: Vec::new(), slots: Vec::new(), free: Vec::new(), dropped: Vec::new(), garbage: 0 }
    }

    /// One more than the largest number ever given.
    pub(crate) fn bound(&self) -> usize {
        self.slots.len()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len() - self.dropped.len()
    }

    /// About how many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.capacity() + self.slots.capacity() * size_of::<Slot>() + self.free.capacity() * size_of::<u32>()
    }

    /// A row's bytes.
    #[inline]
    pub(crate) fn key(&self, number: u32) -> RowKey<'_> {
        let slot = &self.slots[number as usize];
        let border = slot.start + slot.order as usize;
        RowKey { order: &self.arena[slot.start..border], rest: &self.arena[border..border + slot.rest as usize] }
    }

    /// How a row stands to a key.
    #[inline]
    pub(crate) fn compare(&self, number: u32, key: RowKey<'_>) -> Ordering {
        self.key(number).cmp(&key)
    }

    /// Whether two rows agree on all order columns.
    pub(crate) fn peers(&self, one: u32, other: u32) -> bool {
        one == other || self.key(one).order == self.key(other).order
    }

    /// Keeps a row.
    pub(crate) fn add(&mut self, key: RowKey<'_>) -> u32 {
        let slot = Slot { start: self.arena.len(), order: key.order.len() as u32, rest: key.rest.len() as u32, copies: 1 };
        self.arena.extend_from_slice(key.order);
        self.arena.extend_from_slice(key.rest);
        match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Notes another copy of a row.
    pub(crate) fn copy(&mut self, number: u32) {
        self.slots[number as usize].copies += 1;
    }

    /// Gives up one copy of a row; the last one's bytes stay readable until [`Rows::sweep`].
    pub(crate) fn drop(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        slot.copies -= 1;
        if slot.copies == 0 {
            self.dropped.push(number);
        }
    }

    /// Whether a row, of which there is still something to be read, has copies.
    pub(crate) fn is_kept(&self, number: u32) -> bool {
        self.slots[number as usize].copies > 0
    }

    /// Frees what was given up.
    pub(crate) fn sweep(&mut self) {
        for number in self.dropped.drain(..) {
            let slot = &mut self.slots[number as usize];
            self.garbage += (slot.order + slot.rest) as usize;
            (slot.order, slot.rest) = (0, 0);
            self.free.push(number);
        }
        if self.garbage > 64 * 1024 && self.garbage > self.arena.len() / 2 {
            self.compact();
        }
    }

    /// The input's columns of these rows; `partition` are their partitions' columns.
    pub(crate) fn columns(&self, numbers: &[u32], partition: &[ArrayRef]) -> Vec<ArrayRef> {
        let layout = &self.layout;
        let order = layout.order.decode(numbers.iter().map(|number| self.key(*number).order));
        let rest = layout.rest.decode(numbers.iter().map(|number| self.key(*number).rest));
        let mut columns: Vec<Option<ArrayRef>> = vec![None; layout.width];
        let parts = [(&layout.order.columns, &order[..]), (&layout.rest.columns, &rest[..]), (&layout.partition, partition)];
        for (places, values) in parts {
            for (place, values) in places.iter().zip(values) {
                columns[*place] = Some(ArrayRef::clone(values));
            }
        }
        columns.into_iter().map(|column| column.expect("every column is in one part")).collect()
    }

    /// The order columns of these rows.
    pub(crate) fn order_columns(&self, numbers: &[u32]) -> Vec<ArrayRef> {
        self.layout.order.decode(numbers.iter().map(|number| self.key(*number).order))
    }

    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for slot in &mut self.slots {
            let start = arena.len();
            arena.extend_from_slice(&self.arena[slot.start..slot.start + (slot.order + slot.rest) as usize]);
            slot.start = start;
        }
        self.arena = arena;
        self.garbage = 0;
    }
}
