//! `sum` and `avg`: integers and decimals of few digits in 128 bits, floats exactly.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Decimal128Array, Float32Array, Float64Array, Int64Array, UInt64Array};
use arrow::compute;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};

use super::decimal::Decimals;
use super::{Accumulator, Output, Rows};
use crate::Diff;
use crate::operator::exact_sum::ExactSum;

/// The accumulator of `sum` over `argument` with result type `result`.
pub(super) fn sum(argument: DataType, result: DataType) -> Box<dyn Accumulator> {
    of(argument, result, false)
}

/// The accumulator of `avg` over `argument` with result type `result`.
pub(super) fn average(argument: DataType, result: DataType) -> Box<dyn Accumulator> {
    of(argument, result, true)
}

fn of(argument: DataType, result: DataType, average: bool) -> Box<dyn Accumulator> {
    match (&argument, &result) {
        (DataType::Decimal128(precision, scale), DataType::Decimal128(wide, fine)) if *precision > NARROW => {
            Box::new(Decimals::new(*scale, (*wide, *fine), average))
        }
        _ if argument.is_floating() => Box::new(Floats::new(result, average)),
        _ => Box::new(Integers::new(argument, result, average)),
    }
}

/// Digits of decimals whose sums stay within 128 bits, however many there are.
const NARROW: u8 = 18;

/// Sums of integers or of decimals of few digits, in 128 bits, which they do not leave.
struct Integers {
    argument: DataType,
    result: DataType,
    average: bool,
    sums: Vec<i128>,
    counts: Vec<Diff>,
}

impl Integers {
    fn new(argument: DataType, result: DataType, average: bool) -> Self {
        Integers { argument, result, average, sums: Vec::new(), counts: Vec::new() }
    }

    fn argument_scale(&self) -> i8 {
        match self.argument {
            DataType::Decimal128(_, scale) => scale,
            _ => 0,
        }
    }

    /// The result of a group as a decimal of `precision` and `scale`; `None` if it does not fit.
    fn decimal(&self, group: usize, precision: u8, scale: i8) -> Option<i128> {
        let shift = i32::from(scale) - i32::from(self.argument_scale());
        let factor = 10i128.checked_pow(shift.unsigned_abs())?;
        let scaled = if shift >= 0 { self.sums[group].checked_mul(factor)? } else { self.sums[group] / factor };
        let value = if self.average { divide_rounded(scaled, i128::from(self.counts[group])) } else { scaled };
        let limit = 10i128.checked_pow(u32::from(precision));
        limit.is_none_or(|limit| value.abs() < limit).then_some(value)
    }
}

/// Half away from zero, as PostgreSQL rounds numerics.
fn divide_rounded(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    let up = rest.unsigned_abs() * 2 >= by.unsigned_abs();
    quotient + if up { (value.signum() * by.signum()) * i128::from(rest != 0) } else { 0 }
}

impl Accumulator for Integers {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let argument = rows.argument.expect("sum has an argument");
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        macro_rules! add {
            ($values:expr) => {{
                let values = $values;
                rows.for_each(|row, group, diff| {
                    sums[group] = sums[group].wrapping_add(i128::from(values[row]).wrapping_mul(i128::from(diff)));
                    counts[group] += diff;
                });
            }};
        }
        match argument.data_type() {
            DataType::Int64 => add!(argument.as_primitive::<Int64Type>().values()),
            DataType::UInt64 => add!(argument.as_primitive::<UInt64Type>().values()),
            DataType::Decimal128(_, _) => add!(argument.as_primitive::<Decimal128Type>().values()),
            _ => {
                let widened = compute::cast(argument, &DataType::Int64).expect("smaller integers widen");
                add!(widened.as_primitive::<Int64Type>().values());
            }
        }
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Integers = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let (ours, theirs) = (*ours as usize, *theirs as usize);
            self.sums[ours] = self.sums[ours].wrapping_add(other.sums[theirs]);
            self.counts[ours] += other.counts[theirs];
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let mut failed = Vec::new();
        let present = |group: &u32| self.counts[*group as usize] > 0;
        let values: ArrayRef = match self.result {
            DataType::Decimal128(precision, scale) => {
                let values = groups.iter().enumerate().map(|(position, group)| {
                    present(group).then(|| self.decimal(*group as usize, precision, scale)).and_then(|value| {
                        if value.is_none() {
                            failed.push((position, "decimal overflow"));
                        }
                        value
                    })
                });
                let values: Decimal128Array = values.collect();
                Arc::new(values.with_precision_and_scale(precision, scale).expect("a type that the planner made"))
            }
            DataType::Float64 => {
                let scale = 10f64.powi(i32::from(self.argument_scale()));
                Arc::new(Float64Array::from_iter(groups.iter().map(|group| {
                    let sum = self.sums[*group as usize] as f64 / scale;
                    let divisor = if self.average { self.counts[*group as usize] as f64 } else { 1.0 };
                    present(group).then_some(sum / divisor)
                })))
            }
            DataType::UInt64 => Arc::new(UInt64Array::from_iter(groups.iter().enumerate().map(|(position, group)| {
                present(group).then(|| u64::try_from(self.sums[*group as usize]).ok()).and_then(|value| {
                    if value.is_none() {
                        failed.push((position, "sum does not fit an unsigned BIGINT"));
                    }
                    value
                })
            }))),
            _ => {
                let values = Int64Array::from_iter(groups.iter().enumerate().map(|(position, group)| {
                    present(group).then(|| i64::try_from(self.sums[*group as usize]).ok()).and_then(|value| {
                        if value.is_none() {
                            failed.push((position, "sum does not fit a BIGINT"));
                        }
                        value
                    })
                }));
                compute::cast(&values, &self.result).expect("sums of integers are integers")
            }
        };
        Output { values, failed }
    }

    fn clear(&mut self, group: u32) {
        self.sums[group as usize] = 0;
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.counts.capacity() * size_of::<Diff>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Decimal128(38, 0), DataType::Int64])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let sums = Decimal128Array::from_iter_values(groups.iter().map(|group| self.sums[*group as usize]));
        let sums = sums.with_precision_and_scale(38, 0).expect("the widest decimal");
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]));
        vec![Arc::new(sums), Arc::new(counts)]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let sums = columns[0].as_primitive::<Decimal128Type>().values();
        let counts = columns[1].as_primitive::<Int64Type>().values();
        for (row, group) in groups.iter().enumerate() {
            let group = *group as usize;
            self.sums[group] = self.sums[group].wrapping_add(sums[row]);
            self.counts[group] += counts[row];
        }
    }
}

/// Exact sums of floats.
struct Floats {
    result: DataType,
    average: bool,
    sums: Vec<ExactSum>,
    counts: Vec<Diff>,
}

impl Floats {
    fn new(result: DataType, average: bool) -> Self {
        Floats { result, average, sums: Vec::new(), counts: Vec::new() }
    }
}

impl Accumulator for Floats {
    fn resize(&mut self, groups: usize) {
        self.sums.resize_with(groups, ExactSum::default);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let argument = rows.argument.expect("sum has an argument");
        let widened = compute::cast(argument, &DataType::Float64).expect("floats widen");
        let values = widened.as_primitive::<Float64Type>().values();
        rows.for_each(|row, group, diff| {
            self.sums[group].add(values[row], diff);
            self.counts[group] += diff;
        });
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Floats = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.sums[*ours as usize].merge(&other.sums[*theirs as usize]);
            self.counts[*ours as usize] += other.counts[*theirs as usize];
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let value = |group: &u32| {
            let count = self.counts[*group as usize];
            let sum = self.sums[*group as usize].value();
            (count > 0).then_some(if self.average { sum / count as f64 } else { sum })
        };
        let values: ArrayRef = match self.result {
            DataType::Float32 => {
                Arc::new(Float32Array::from_iter(groups.iter().map(|group| value(group).map(|value| value as f32))))
            }
            _ => Arc::new(Float64Array::from_iter(groups.iter().map(value))),
        };
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.sums[group as usize] = ExactSum::default();
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        let parts: usize = self.sums.iter().map(ExactSum::bytes).sum();
        parts + self.sums.capacity() * size_of::<ExactSum>() + self.counts.capacity() * size_of::<Diff>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Binary, DataType::Int64])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let sums = BinaryArray::from_iter_values(groups.iter().map(|group| self.sums[*group as usize].to_bytes()));
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]));
        vec![Arc::new(sums), Arc::new(counts)]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let sums = columns[0].as_binary::<i32>();
        let counts = columns[1].as_primitive::<Int64Type>().values();
        for (row, group) in groups.iter().enumerate() {
            let group = *group as usize;
            self.sums[group].merge(&ExactSum::from_bytes(sums.value(row)));
            self.counts[group] += counts[row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::divide_rounded;

    #[test]
    fn means_of_decimals_round_half_away_from_zero() {
        assert_eq!(divide_rounded(5, 2), 3);
        assert_eq!(divide_rounded(-5, 2), -3);
        assert_eq!(divide_rounded(4, 3), 1);
        assert_eq!(divide_rounded(6, 3), 2);
        assert_eq!(divide_rounded(0, 7), 0);
    }
}
