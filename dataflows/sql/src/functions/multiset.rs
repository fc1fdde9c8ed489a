//! Maps put together: `MULTISET(list)` counts the items of a list, which is what `COLLECT` gives, and `MAP_UNION(a, b, ...)`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, MapArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, exec_err};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::map::{map_of, types};
use super::{Function, Gives, Kind, column};
use crate::bind::map_type;

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let counts = |found: &[DataType]| match found {
        [DataType::List(item)] => Some(map_type(item.data_type().clone(), DataType::Int32)),
        _ => None,
    };
    vec![
        Function::typed("multiset", &[Kind::Any], Gives::From(counts), multiset).build(),
        Function::typed("map_union", &[Kind::Any], Gives::From(union_type), map_union).variadic(Kind::Any).build(),
    ]
}

/// Keys and values in the types that all maps have in common.
fn union_type(found: &[DataType]) -> Option<DataType> {
    let mut all = found.iter().map(map_types);
    let (mut key, mut value) = all.next()??;
    for next in all {
        let (next_key, next_value) = next?;
        key = comparison_coercion(&key, &next_key)?;
        value = comparison_coercion(&value, &next_value)?;
    }
    Some(map_type(key, value))
}

fn map_types(map: &DataType) -> Option<(DataType, DataType)> {
    types(map).map(|(key, value)| (key.clone(), value.clone()))
}

/// Each item with how often it is there, in the order in which they come first; NULLs are left out. No list is empty.
fn multiset(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let lists = column(args, 0, rows)?;
    let Some(lists) = lists.as_list_opt::<i32>() else { return exec_err!("a multiset is made of a list") };
    let items = lists.values();
    let converter = RowConverter::new(vec![SortField::new(items.data_type().clone())])?;
    let bytes = converter.convert_columns(&[Arc::clone(items)])?;
    let (mut places, mut counts): (Vec<u32>, Vec<i32>) = (Vec::new(), Vec::new());
    let mut lengths = Vec::with_capacity(rows);
    let offsets = lists.value_offsets();
    for row in 0..rows {
        let begin = places.len();
        if lists.is_valid(row) {
            let mut order: Vec<usize> = (offsets[row] as usize..offsets[row + 1] as usize).collect();
            order.retain(|item| items.is_valid(*item));
            order.sort_by(|a, b| bytes.row(*a).cmp(&bytes.row(*b)).then(a.cmp(b)));
            for item in order {
                match places[begin..].last() {
                    Some(before) if bytes.row(*before as usize) == bytes.row(item) => {
                        *counts.last_mut().expect("each place has a count") += 1;
                    }
                    _ => {
                        places.push(item as u32);
                        counts.push(1);
                    }
                }
            }
        }
        lengths.push(places.len() - begin);
    }
    let keys = take(items, &UInt32Array::from(places), None)?;
    map_of(keys, Arc::new(Int32Array::from(counts)), lengths, vec![true; rows])
}

/// All entries; of a key that is in several maps the last one's value.
fn map_union(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let found: Vec<DataType> = args.iter().map(|arg| arg.data_type()).collect();
    let Some(common) = union_type(&found) else { return exec_err!("map_union takes maps") };
    let one = |index: usize| Ok(arrow::compute::cast(&column(args, index, rows)?, &common)?);
    let maps = (0..args.len()).map(one).collect::<Result<Vec<ArrayRef>>>()?;
    let maps: Vec<&MapArray> = maps.iter().filter_map(|map| map.as_map_opt()).collect();
    if maps.len() != args.len() {
        return exec_err!("map_union takes maps");
    }
    let keys = concat(&maps.iter().map(|map| map.keys().as_ref()).collect::<Vec<_>>())?;
    let values = concat(&maps.iter().map(|map| map.values().as_ref()).collect::<Vec<_>>())?;
    let mut begins = vec![0usize];
    begins.extend(maps.iter().scan(0, |sum, map| {
        *sum += map.keys().len();
        Some(*sum)
    }));
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    let bytes = converter.convert_columns(&[Arc::clone(&keys)])?;
    let mut entries: Vec<u32> = Vec::new();
    let (mut key_places, mut lengths, mut valid) = (Vec::new(), Vec::with_capacity(rows), Vec::with_capacity(rows));
    for row in 0..rows {
        let begin = entries.len();
        let there = maps.iter().all(|map| map.is_valid(row));
        if there {
            let mut known = std::collections::HashMap::new();
            for (map, start) in maps.iter().zip(&begins) {
                let offsets = map.value_offsets();
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    let entry = start + entry;
                    match known.entry(bytes.row(entry).owned()) {
                        std::collections::hash_map::Entry::Occupied(place) => entries[*place.get()] = entry as u32,
                        std::collections::hash_map::Entry::Vacant(place) => {
                            place.insert(entries.len());
                            entries.push(entry as u32);
                            key_places.push(entry as u32);
                        }
                    }
                }
            }
        }
        lengths.push(entries.len() - begin);
        valid.push(there);
    }
    let keys = take(&keys, &UInt32Array::from(key_places), None)?;
    let values = take(&values, &UInt32Array::from(entries), None)?;
    map_of(keys, values, lengths, valid)
}
