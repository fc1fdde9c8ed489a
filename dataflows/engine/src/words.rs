//! Columns whose values are words in their own order: 64-bit integers and timestamps.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType};

/// Whether columns of this type can be read by [`words`].
pub(crate) fn are_words(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::Timestamp(_, _))
}

/// The values of a column that [are words](are_words); meaningless where they are NULL.
pub(crate) fn words(column: &ArrayRef) -> &[i64] {
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().values(),
        DataType::Timestamp(TimeUnit::Second, _) => column.as_primitive::<TimestampSecondType>().values(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => column.as_primitive::<TimestampMillisecondType>().values(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.as_primitive::<TimestampMicrosecondType>().values(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => column.as_primitive::<TimestampNanosecondType>().values(),
        other => unreachable!("whoever reads words asks before: {other}"),
    }
}

/// The largest rank of some values, `i64::MIN` if there are none. Several at a time: comparisons that wait for each other
/// are slow.
pub(crate) fn greatest(values: &[i64], rank: impl Fn(i64) -> i64) -> i64 {
    const LANES: usize = 4;
    let mut lanes = [i64::MIN; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].max(rank(chunk[lane]));
        }
    }
    rest.iter().map(|value| rank(*value)).chain(lanes).max().unwrap_or(i64::MIN)
}
