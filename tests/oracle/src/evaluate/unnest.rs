//! Rows for the items of arrays.

use highwater_plan::Unnest;

use crate::multiset::Multiset;
use crate::value::{Row, Value};

/// A row for each item, with the multiplicity of the row that the array is in.
pub(super) fn items(rows: &Multiset, spec: &Unnest) -> Multiset {
    let mut all = Multiset::default();
    for (row, diff) in rows.iter() {
        let arrays: Vec<&[Value]> = spec.lists.iter().map(|column| row[*column].items()).collect();
        let longest = arrays.iter().map(|array| array.len()).max().unwrap_or(0);
        let kept: Vec<Value> = spec.keep.iter().map(|column| row[*column].clone()).collect();
        let mut add = |place: usize, number: Value| {
            let items = arrays.iter().map(|array| array.get(place).cloned().unwrap_or(Value::Null));
            let numbers = spec.ordinality.then_some(number);
            let row: Row = kept.iter().cloned().chain(items).chain(numbers).collect::<Vec<Value>>().into();
            all.add(row, diff);
        };
        for place in 0..longest {
            add(place, Value::Int(place as i64 + 1));
        }
        if longest == 0 && spec.outer {
            add(0, Value::Null);
        }
    }
    all
}
