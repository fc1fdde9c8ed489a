//! `array_agg` and `string_agg`: all values of a group, in order.
//!
//! Values are kept in their order, so a change costs the logarithm of the group's size; the result is as long as the group.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};

use super::codec::Tuple;
use super::{Accumulator, Output, Rows};
use crate::Diff;

/// Per group its values behind what they are ordered by, with their multiplicities.
pub(super) struct Gathered {
    codec: Tuple,
    finish: Finish,
    groups: Vec<BTreeMap<Box<[u8]>, Diff>>,
    bytes: usize,
}

enum Finish {
    List(FieldRef),
    Text(String),
}

impl Gathered {
    /// `array_agg`, with NULLs.
    pub(super) fn list(order: &[(DataType, SortOptions)], argument: &DataType, result: DataType) -> Self {
        let DataType::List(field) = result else { unreachable!("array_agg gives a list") };
        Self::new(order, argument, Finish::List(field))
    }

    /// `string_agg`, without NULLs.
    pub(super) fn text(order: &[(DataType, SortOptions)], argument: &DataType, separator: String) -> Self {
        Self::new(order, argument, Finish::Text(separator))
    }

    fn new(order: &[(DataType, SortOptions)], argument: &DataType, finish: Finish) -> Self {
        Gathered { codec: Tuple::new(order, argument), finish, groups: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, group: usize, key: &[u8], diff: Diff) {
        add(&mut self.groups[group], &mut self.bytes, key, diff);
    }
}

fn add(values: &mut BTreeMap<Box<[u8]>, Diff>, bytes: &mut usize, key: &[u8], diff: Diff) {
    match values.get_mut(key) {
        Some(count) if *count == -diff => {
            values.remove(key);
            *bytes = bytes.saturating_sub(key.len() + 40);
        }
        Some(count) => *count += diff,
        None if diff != 0 => {
            values.insert(Box::from(key), diff);
            *bytes += key.len() + 40;
        }
        None => {}
    }
}

impl Accumulator for Gathered {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, BTreeMap::new);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let encoded = self.codec.encoded(rows);
        let nulls = match self.finish {
            Finish::List(_) => None,
            Finish::Text(_) => rows.argument.and_then(|argument| argument.nulls()),
        };
        let (groups, bytes) = (&mut self.groups, &mut self.bytes);
        rows.for_each_of(nulls, |row, group, diff| add(&mut groups[group], bytes, encoded.row(row).data(), diff));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Gathered = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            for (key, diff) in &other.groups[*theirs as usize] {
                self.add(*ours as usize, key, *diff);
            }
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        // What is taken back before it is there has a negative multiplicity: it is not there.
        let copies = |count: &Diff| usize::try_from(*count).unwrap_or(0);
        let lengths: Vec<usize> = groups.iter().map(|group| self.groups[*group as usize].values().map(copies).sum()).collect();
        let keys = groups.iter().flat_map(|group| &self.groups[*group as usize]);
        let keys = keys.flat_map(|(key, count)| std::iter::repeat_n(&**key, copies(count)));
        let values = self.codec.values(keys);
        let result: ArrayRef = match &self.finish {
            Finish::List(field) => {
                let present = NullBuffer::from_iter(lengths.iter().map(|length| *length > 0));
                let offsets = OffsetBuffer::from_lengths(lengths);
                Arc::new(ListArray::new(Arc::clone(field), offsets, values, Some(present)))
            }
            Finish::Text(separator) => {
                let mut values = values.as_string::<i32>().iter().flatten();
                let mut texts = StringBuilder::new();
                for length in lengths {
                    if length == 0 {
                        texts.append_null();
                        continue;
                    }
                    let parts: Vec<&str> = values.by_ref().take(length).collect();
                    texts.append_value(parts.join(separator));
                }
                Arc::new(texts.finish())
            }
        };
        result.into()
    }

    fn clear(&mut self, group: u32) {
        for key in std::mem::take(&mut self.groups[group as usize]).keys() {
            self.bytes = self.bytes.saturating_sub(key.len() + 40);
        }
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<BTreeMap<Box<[u8]>, Diff>>() + self.bytes
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::Field;

    #[test]
    fn values_stand_in_their_order_and_go_again() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), Some("c")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 1, 3, 3]));
        let order = [(DataType::Int32, SortOptions { descending: true, nulls_first: true })];
        let rows = |diffs| Rows { order: vec![Arc::clone(&numbers)], diffs, ..Rows::of(&[0; 5], Some(&texts)) };
        let mut text = Gathered::text(&order, &DataType::Utf8, ", ".into());
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let mut list = Gathered::list(&order, &DataType::Utf8, DataType::List(item));
        for gathered in [&mut text, &mut list] {
            gathered.resize(2);
            gathered.update(&rows(None));
            gathered.update(&rows(Some(&[1, 0, 0, 0, -1])));
        }
        let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("b, a, b, b"), None]));
        assert_eq!(&text.output(&[0, 1]).values, &expected);
        let lists = list.output(&[0, 1]).values;
        let lists = lists.as_list::<i32>();
        let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), Some("b")]));
        assert_eq!(&lists.value(0), &expected);
        assert!(lists.is_null(1));
        let mut other = Gathered::text(&order, &DataType::Utf8, ", ".into());
        other.resize(1);
        other.merge(&[0], &text, &[0]);
        other.merge(&[0], &text, &[0]);
        let expected: ArrayRef = Arc::new(StringArray::from(vec!["b, b, a, a, b, b, b, b"]));
        assert_eq!(&other.output(&[0]).values, &expected);
    }
}
