//! Rows as bytes: a view's columns, key columns first, in arrow-row's order-preserving encoding.
//!
//! The bytes of equal rows are equal, the bytes of a row begin with those of its leading columns, and their order is
//! the order of the values. So rows are stored, merged, deduplicated, sorted and searched by memcmp, without looking at
//! types; types are looked at once per batch, here. The hash is that of the key columns alone, the one that the exchange
//! uses: a key is on one worker, and in one place of each batch.

use arrow::array::ArrayRef;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_row::{RowConverter, Rows, SortField};

use crate::hash::hash_columns;

/// Encodes and decodes the rows of one relation. Shared by its workers and its readers.
#[derive(Debug)]
pub(crate) struct RowCodec {
    schema: SchemaRef,
    key: usize,
    /// The relation's column at each stored position.
    order: Vec<usize>,
    rows: RowConverter,
    keys: RowConverter,
}

/// Rows that were encoded, and the hashes of their keys; reused from epoch to epoch.
pub(crate) struct Encoded {
    rows: Rows,
    hashes: Vec<u64>,
    /// Of the batch that is being added.
    scratch: Vec<u64>,
}

impl Encoded {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Bytes of the rows.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.lengths().sum()
    }

    /// The hash of a row's key.
    #[inline]
    pub(crate) fn hash(&self, index: usize) -> u64 {
        self.hashes[index]
    }

    /// The bytes of a row.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        self.rows.row(index).data()
    }

    /// Forgets the rows; keeps their memory if it is not much.
    pub(crate) fn clear(&mut self, codec: &RowCodec) {
        const KEPT_BYTES_MAX: usize = 8 << 20;
        self.hashes.clear();
        self.rows.clear();
        if self.rows.size() > KEPT_BYTES_MAX {
            *self = codec.buffer();
        }
    }
}

impl RowCodec {
    /// A codec for rows of `schema` that are found by the columns of `key`, all of types that have an order.
    pub(crate) fn new(schema: SchemaRef, key: &[usize]) -> Self {
        let mut order = key.to_vec();
        order.extend((0..schema.fields().len()).filter(|column| !key.contains(column)));
        let converter = |columns: &[usize]| {
            let fields = columns.iter().map(|column| SortField::new(schema.field(*column).data_type().clone()));
            RowConverter::new(fields.collect()).expect("planners allow only types that have an order")
        };
        let (rows, keys) = (converter(&order), converter(key));
        RowCodec { key: key.len(), order, rows, keys, schema }
    }

    /// The relation's columns in the order they are stored in, key first.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Number of key columns.
    pub(crate) fn key_len(&self) -> usize {
        self.key
    }

    /// Room for rows.
    pub(crate) fn buffer(&self) -> Encoded {
        Encoded { rows: self.rows.empty_rows(0, 0), hashes: Vec::new(), scratch: Vec::new() }
    }

    /// Adds the rows of a batch with the relation's columns.
    ///
    /// Cost: 5 to 50 ns a row; no allocation once `into` has grown.
    pub(crate) fn encode(&self, batch: &RecordBatch, into: &mut Encoded) {
        let columns: Vec<ArrayRef> = self.order.iter().map(|column| batch.column(*column).clone()).collect();
        hash_columns(&columns[..self.key], batch.num_rows(), &mut into.scratch);
        into.hashes.extend_from_slice(&into.scratch);
        self.rows.append(&mut into.rows, &columns).expect("a batch has its relation's types");
    }

    /// The hash and the bytes of a key, from one value per key column.
    pub(crate) fn encode_key(&self, values: &[ArrayRef]) -> (u64, Vec<u8>) {
        let mut hash = Vec::with_capacity(1);
        hash_columns(values, 1, &mut hash);
        (hash[0], encode_one(&self.keys, values))
    }

    /// What the bytes of all rows with these values of the leading stored columns begin with.
    pub(crate) fn encode_prefix(&self, values: &[ArrayRef]) -> Vec<u8> {
        let fields = values.iter().map(|value| SortField::new(value.data_type().clone())).collect();
        let converter = RowConverter::new(fields).expect("planners allow only types that have an order");
        encode_one(&converter, values)
    }

    /// The rows as a batch, in the relation's column order.
    pub(crate) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> RecordBatch {
        let parser = self.rows.parser();
        let mut length = 0;
        let parsed = rows.inspect(|_| length += 1).map(|bytes| parser.parse(bytes));
        let stored = self.rows.convert_rows(parsed).expect("the bytes came from this encoding");
        let mut columns: Vec<Option<ArrayRef>> = vec![None; stored.len()];
        for (column, array) in self.order.iter().zip(stored) {
            let wanted = self.schema.field(*column).data_type();
            // Dictionaries come back as their values.
            let same = array.data_type() == wanted;
            let array = if same { array } else { compute::cast(&array, wanted).expect("values fit their dictionary") };
            columns[*column] = Some(array);
        }
        let columns = columns.into_iter().map(|column| column.expect("every column is stored")).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).expect("rows have their relation's types")
    }
}

fn encode_one(converter: &RowConverter, values: &[ArrayRef]) -> Vec<u8> {
    if values.is_empty() {
        return Vec::new();
    }
    let rows = converter.convert_columns(values).expect("a value has its column's type");
    rows.row(0).data().to_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;

    fn batch() -> RecordBatch {
        let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y"), Some("x")].into_iter().collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("b"), None, Some(""), Some("b")])),
            Arc::new(Int64Array::from(vec![Some(1), Some(-1), None, Some(1)])),
            Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, 0.0])),
            Arc::new(BooleanArray::from(vec![true, false, true, true])),
            Arc::new(dictionary),
        ];
        let field = |index: usize| Field::new(format!("c{index}"), columns[index].data_type().clone(), true);
        let schema = Schema::new((0..columns.len()).map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns).expect("columns fit")
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let batch = batch();
        let codec = RowCodec::new(batch.schema(), &[3, 1]);
        assert_eq!(codec.order(), [3, 1, 0, 2, 4]);
        let mut encoded = codec.buffer();
        codec.encode(&batch, &mut encoded);
        codec.encode(&batch, &mut encoded);
        assert_eq!(encoded.len(), 8);
        assert_eq!(encoded.row(0), encoded.row(3));
        assert_eq!((encoded.hash(0), encoded.row(2)), (encoded.hash(7), encoded.row(6)));
        let decoded = codec.decode((4..8).map(|index| encoded.row(index)));
        encoded.clear(&codec);
        assert_eq!(encoded.len(), 0);
        assert_eq!(decoded.num_rows(), 4);
        for (column, was) in decoded.columns().iter().zip(batch.columns()) {
            match column.data_type() {
                DataType::Dictionary(..) => {
                    let values = |array: &ArrayRef| compute::cast(array, &DataType::Utf8).expect("strings");
                    assert_eq!(values(column).as_string::<i32>(), values(was).as_string::<i32>());
                }
                _ => assert_eq!(format!("{column:?}"), format!("{was:?}")),
            }
        }
    }

    #[test]
    fn a_row_begins_with_its_key_and_its_leading_columns() {
        let batch = batch();
        let codec = RowCodec::new(batch.schema(), &[3, 1]);
        let mut encoded = codec.buffer();
        codec.encode(&batch, &mut encoded);
        for row in 0..batch.num_rows() {
            let value = |column: usize| batch.column(column).slice(row, 1);
            let (hash, key) = codec.encode_key(&[value(3), value(1)]);
            assert_eq!(hash, encoded.hash(row));
            assert!(encoded.row(row).starts_with(&key));
            assert!(encoded.row(row).starts_with(&codec.encode_prefix(&[value(3), value(1), value(0)])));
            assert!(encoded.row(row).starts_with(&codec.encode_prefix(&[])));
        }
        let (_, other) = codec.encode_key(&[batch.column(3).slice(0, 1), batch.column(1).slice(1, 1)]);
        assert!((0..batch.num_rows()).all(|row| !encoded.row(row).starts_with(&other)));
    }
}
