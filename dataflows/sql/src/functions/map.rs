//! Maps: a value by its key, maps from arrays and from text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, MapArray, StringBuilder, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::{Function, Gives, Kind, column, text};
use crate::bind::map_type;

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let from_arrays = |found: &[DataType]| match found {
        [DataType::List(keys), DataType::List(values)] => Some(map_type(keys.data_type().clone(), values.data_type().clone())),
        _ => None,
    };
    let by_key = |contains| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(ByKey { contains, signature }))
    };
    let text_map = map_type(DataType::Utf8, DataType::Utf8);
    vec![
        by_key(false),
        by_key(true),
        Function::typed("map_from_arrays", &[Kind::Any, Kind::Any], Gives::From(from_arrays), map_from_arrays).build(),
        Function::new("str_to_map", &[Kind::Text], text_map, str_to_map).optional(&[Kind::Text, Kind::Text]).build(),
    ]
}

/// `map_item(map, key)` and `map_contains_key(map, key)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByKey {
    contains: bool,
    signature: Signature,
}

pub(super) fn types(map: &DataType) -> Option<(&DataType, &DataType)> {
    match map {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => Some((entry[0].data_type(), entry[1].data_type())),
            _ => None,
        },
        _ => None,
    }
}

impl ScalarUDFImpl for ByKey {
    fn name(&self) -> &str {
        if self.contains { "map_contains_key" } else { "map_item" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, found: &[DataType]) -> Result<DataType> {
        match types(&found[0]) {
            Some(_) if self.contains => Ok(DataType::Boolean),
            Some((_, value)) => Ok(value.clone()),
            None => plan_err!("{} takes a map and a key", self.name()),
        }
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        match found {
            [map, key] if let Some((known, _)) = types(map) => match comparison_coercion(known, key) {
                Some(_) => Ok(vec![map.clone(), known.clone()]),
                None => plan_err!("the map's keys are of another type"),
            },
            _ => plan_err!("{} takes a map and a key", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (maps, keys) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let maps = maps.as_map();
        let found = places(maps, &keys)?;
        if !self.contains {
            return Ok(ColumnarValue::Array(take(maps.values(), &found, None)?));
        }
        let mut out = BooleanBuilder::with_capacity(rows);
        for row in 0..rows {
            out.append_option((maps.is_valid(row) && keys.is_valid(row)).then(|| found.is_valid(row)));
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// Per row the place among all entries of the key's.
fn places(maps: &MapArray, keys: &ArrayRef) -> Result<UInt32Array> {
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    let (known, wanted) =
        (converter.convert_columns(&[Arc::clone(maps.keys())])?, converter.convert_columns(&[Arc::clone(keys)])?);
    let offsets = maps.value_offsets();
    let place = |row: usize| {
        if maps.is_null(row) || keys.is_null(row) {
            return None;
        }
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        // Of a key that comes twice the last entry counts.
        entries.rev().find(|entry| known.row(*entry) == wanted.row(row)).map(|entry| entry as u32)
    };
    Ok(UInt32Array::from_iter((0..maps.len()).map(place)))
}

fn map_from_arrays(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (keys, values) = (column(args, 0, rows)?, column(args, 1, rows)?);
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let (mut key_places, mut value_places) = (Vec::new(), Vec::new());
    let (mut lengths, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for row in 0..rows {
        let there = keys.is_valid(row) && values.is_valid(row);
        let length = if there { keys.value_length(row) } else { 0 };
        if there && length != values.value_length(row) {
            return exec_err!("a map has as many keys as values");
        }
        for place in 0..length {
            let key = (keys.value_offsets()[row] + place) as u32;
            if keys.values().is_null(key as usize) {
                return exec_err!("a map's keys cannot be NULL");
            }
            key_places.push(key);
            value_places.push((values.value_offsets()[row] + place) as u32);
        }
        lengths.push(length as usize);
        valid.push(there);
    }
    let keys = take(keys.values(), &UInt32Array::from(key_places), None)?;
    let values = take(values.values(), &UInt32Array::from(value_places), None)?;
    map_of(keys, values, lengths, valid)
}

pub(super) fn map_of(keys: ArrayRef, values: ArrayRef, lengths: Vec<usize>, valid: Vec<bool>) -> Result<ArrayRef> {
    let DataType::Map(field, _) = map_type(keys.data_type().clone(), values.data_type().clone()) else {
        return exec_err!("not a map");
    };
    let DataType::Struct(entry) = field.data_type().clone() else { return exec_err!("not a map") };
    let entries = StructArray::try_new(entry, vec![keys, values], None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(field, offsets, entries, Some(NullBuffer::from(valid)), false)?))
}

/// `a=1,b=2`, with other separators if they are given.
fn str_to_map(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let separators = [1, 2].map(|index| if args.len() > index { text(args, index, rows).map(Some) } else { Ok(None) });
    let [between, within] = separators;
    let (between, within) = (between?, within?);
    let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
    let (mut lengths, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for row in 0..rows {
        let separator = |given: &Option<arrow::array::StringArray>, default: &str| match given {
            None => Some(default.to_string()),
            Some(given) => given.is_valid(row).then(|| given.value(row).to_string()),
        };
        let parts = (texts.is_valid(row), separator(&between, ","), separator(&within, "="));
        let (true, Some(between), Some(within)) = parts else {
            lengths.push(0);
            valid.push(false);
            continue;
        };
        let mut length = 0;
        for pair in texts.value(row).split(between.as_str()).filter(|pair| !pair.is_empty()) {
            let (key, value) = match pair.split_once(within.as_str()) {
                Some((key, value)) => (key, Some(value)),
                None => (pair, None),
            };
            keys.append_value(key);
            values.append_option(value);
            length += 1;
        }
        lengths.push(length);
        valid.push(true);
    }
    map_of(Arc::new(keys.finish()), Arc::new(values.finish()), lengths, valid)
}
