//! Aggregate functions over all values of a group at once.

use std::cmp::Ordering;

use highwater_plan::{AggregateCall, AggregateConstant, AggregateFunction, OrderColumn, Statistic};

use super::super::exact::{UNIT, Whole};
use crate::value::{Row, Value};

/// One row that counts, as a call sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    /// What it is ordered by.
    pub(super) order: Vec<Value>,
    /// The arguments; empty for `count(*)`.
    pub(super) arguments: Vec<Value>,
}

/// The rows of a group that count for a call, with their multiplicities, which are positive.
pub(super) fn counted(call: &AggregateCall, rows: &[(&Row, i64)]) -> Vec<(Counted, i64)> {
    use AggregateFunction as F;
    let keeps_nulls = matches!(call.function, F::First | F::Last | F::Array);
    let mut all: std::collections::BTreeMap<Counted, i64> = std::collections::BTreeMap::new();
    for (row, diff) in rows {
        let arguments: Vec<Value> = call.argument.iter().chain(&call.further).map(|column| row[*column].clone()).collect();
        let passes = call.filter.is_none_or(|column| row[column].is_true());
        if passes && (keeps_nulls || !arguments.iter().any(Value::is_null)) {
            let order = call.order.iter().map(|key| row[key.column].clone()).collect();
            *all.entry(Counted { order, arguments }).or_default() += diff;
        }
    }
    let copies = |(counted, diff): (Counted, i64)| (counted, if call.distinct { diff.min(1) } else { diff });
    all.into_iter().filter(|(_, diff)| *diff > 0).map(copies).collect()
}

/// The result of one of the functions that are neither counted nor summed; there is at least one value.
pub(super) fn result(call: &AggregateCall, values: &[(Counted, i64)]) -> Value {
    use AggregateFunction as F;
    let firsts = || values.iter().map(|(counted, diff)| (&counted.arguments[0], *diff));
    match call.function {
        F::BoolAnd => Value::Bool(firsts().all(|(value, _)| value.is_true())),
        F::BoolOr => Value::Bool(firsts().any(|(value, _)| value.is_true())),
        F::BitAnd => Value::Int(firsts().fold(-1, |all, (value, _)| all & value.int())),
        F::BitOr => Value::Int(firsts().fold(0, |all, (value, _)| all | value.int())),
        F::BitXor => Value::Int(firsts().filter(|(_, diff)| diff % 2 == 1).fold(0, |all, (value, _)| all ^ value.int())),
        F::Statistic(statistic) => statistic_of(statistic, values).map_or(Value::Null, Value::Float),
        F::First => sorted(call, values).first().expect("there is a value").clone(),
        F::Last => sorted(call, values).last().expect("there is a value").clone(),
        F::Array => Value::List(sorted(call, values).into()),
        F::Text => {
            let Some(AggregateConstant::Separator(separator)) = &call.constant else { panic!("the plan has no separator") };
            let texts = sorted(call, values).into_iter().map(|value| match value {
                Value::Text(text) => text.to_string(),
                other => panic!("{other} is no text"),
            });
            Value::text(&texts.collect::<Vec<_>>().join(separator))
        }
        F::PercentileCont | F::PercentileDisc | F::ApproxPercentile => percentile(call, values),
        F::Mode => {
            let most = firsts().map(|(_, diff)| diff).max().expect("there is a value");
            let mut modes = firsts().filter(|(_, diff)| *diff == most).map(|(value, _)| value.clone());
            let last = call.order.first().is_some_and(|key| key.descending);
            if last { modes.max() } else { modes.next() }.expect("there is a value")
        }
        F::Count | F::Sum | F::Min | F::Max | F::Avg => unreachable!("they are not told here"),
    }
}

/// All values in order, copies included.
fn sorted(call: &AggregateCall, values: &[(Counted, i64)]) -> Vec<Value> {
    let mut rows: Vec<&Counted> =
        values.iter().flat_map(|(counted, diff)| std::iter::repeat_n(counted, *diff as usize)).collect();
    rows.sort_by(|one, other| {
        let by_key = |(place, key): (usize, &OrderColumn)| {
            let order = nulls(&one.order[place], &other.order[place], key.nulls_first);
            order.unwrap_or_else(|| {
                let order = one.order[place].cmp(&other.order[place]);
                if key.descending { order.reverse() } else { order }
            })
        };
        let by_order = call.order.iter().enumerate().map(by_key).find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
        let (one, other) = (&one.arguments[0], &other.arguments[0]);
        by_order.then_with(|| nulls(one, other, false).unwrap_or_else(|| one.cmp(other)))
    });
    rows.into_iter().map(|row| row.arguments[0].clone()).collect()
}

/// The order of two values of which one is NULL.
fn nulls(one: &Value, other: &Value, first: bool) -> Option<Ordering> {
    let order = match (one.is_null(), other.is_null()) {
        (false, false) => return None,
        (true, true) => return Some(Ordering::Equal),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    };
    Some(if first { order } else { order.reverse() })
}

fn percentile(call: &AggregateCall, values: &[(Counted, i64)]) -> Value {
    let Some(AggregateConstant::Fraction(fraction)) = call.constant else { panic!("the plan has no fraction") };
    let plain = AggregateCall { order: Vec::new(), ..call.clone() };
    let mut all = sorted(&plain, values);
    if call.order.first().is_some_and(|key| key.descending) {
        all.reverse();
    }
    let float = |place: usize| match &all[place] {
        Value::Float(value) => *value,
        other => panic!("{other} is no float"),
    };
    let place = fraction * (all.len() - 1) as f64;
    let below = place.floor() as usize;
    match call.function {
        AggregateFunction::PercentileDisc => {
            // The first value of which the share up to it is not less than wanted.
            let reaches = |count: &usize| *count as f64 >= fraction * all.len() as f64;
            let count = (1..=all.len()).find(reaches).unwrap_or(all.len());
            all[count - 1].clone()
        }
        AggregateFunction::PercentileCont => {
            let (low, high) = (float(below), float(place.ceil() as usize));
            Value::Float(if low == high { low } else { low + (high - low) * (place - below as f64) })
        }
        _ => Value::Float(middle(float(below))),
    }
}

/// The middle of the floats that agree with this one in sign, exponent and seven bits of the fraction.
fn middle(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value + 0.0;
    }
    assert!(value.is_normal(), "the oracle's floats are not that small");
    let exponent = (value.to_bits() >> 52 & 0x7FF) as i32 - 1023;
    let step = 2f64.powi(exponent - 7);
    let low = (value.abs() / step).floor() * step;
    let high = low + (step - 2f64.powi(exponent - 52));
    value.signum() * (low + (high - low) / 2.0)
}

/// Sums in units of 2^-1074, of products in the square of that.
#[derive(Default)]
struct Sums {
    count: i64,
    x: Whole,
    y: Whole,
    xx: Whole,
    yy: Whole,
    xy: Whole,
}

/// From exact sums; NaN if a value is not finite.
fn statistic_of(statistic: Statistic, values: &[(Counted, i64)]) -> Option<f64> {
    let float = |value: &Value| match value {
        Value::Float(value) => *value,
        other => panic!("{other} is no float"),
    };
    let mut sums = Sums::default();
    let mut finite = true;
    for (counted, diff) in values {
        let first = float(&counted.arguments[0]);
        let second = counted.arguments.get(1).map(&float);
        finite &= first.is_finite() && second.is_none_or(f64::is_finite);
        let (x, y) = match second {
            Some(x) => (Whole::of_float(x), Whole::of_float(first)),
            None => (Whole::of_float(first), Whole::default()),
        };
        let times = Whole::of(*diff);
        sums.count += diff;
        sums.x = sums.x.plus(&x.times(&times));
        sums.y = sums.y.plus(&y.times(&times));
        sums.xx = sums.xx.plus(&x.times(&x).times(&times));
        sums.yy = sums.yy.plus(&y.times(&y).times(&times));
        sums.xy = sums.xy.plus(&x.times(&y).times(&times));
    }
    let count = sums.count as f64;
    let number = Whole::of(sums.count);
    let deviations =
        |product: &Whole, one: &Whole, other: &Whole| product.times(&number).minus(&one.times(other)).to_float(2 * UNIT);
    let (xx, yy, xy) =
        (deviations(&sums.xx, &sums.x, &sums.x), deviations(&sums.yy, &sums.y, &sums.y), deviations(&sums.xy, &sums.x, &sums.y));
    let sample = matches!(statistic, Statistic::VarSamp | Statistic::StddevSamp | Statistic::CovarSamp);
    if sample && sums.count < 2 {
        return None;
    }
    if !finite {
        return Some(f64::NAN);
    }
    let (all, some) = (count * count, count * (count - 1.0));
    Some(match statistic {
        Statistic::VarPop => xx / all,
        Statistic::VarSamp => xx / some,
        Statistic::StddevPop => (xx / all).sqrt(),
        Statistic::StddevSamp => (xx / some).sqrt(),
        Statistic::CovarPop => xy / all,
        Statistic::CovarSamp => xy / some,
        Statistic::Corr if xx == 0.0 || yy == 0.0 => return None,
        Statistic::Corr => (xy / xx.sqrt() / yy.sqrt()).clamp(-1.0, 1.0),
        Statistic::RegrSlope | Statistic::RegrIntercept | Statistic::RegrR2 if xx == 0.0 => return None,
        Statistic::RegrSlope => xy / xx,
        Statistic::RegrIntercept => (sums.y.to_float(UNIT) - xy / xx * sums.x.to_float(UNIT)) / count,
        Statistic::RegrR2 if yy == 0.0 => 1.0,
        Statistic::RegrR2 => (xy / xx * (xy / yy)).clamp(0.0, 1.0),
        Statistic::RegrAvgX => sums.x.to_float(UNIT) / count,
        Statistic::RegrAvgY => sums.y.to_float(UNIT) / count,
        Statistic::RegrSxx => xx / count,
        Statistic::RegrSyy => yy / count,
        Statistic::RegrSxy => xy / count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;

    fn call(function: AggregateFunction) -> AggregateCall {
        AggregateCall::of(function, Some(0), DataType::Float64)
    }

    fn values(values: &[f64]) -> Vec<(Counted, i64)> {
        let rows: Vec<Row> = values.iter().map(|value| Row::from([Value::Float(*value)])).collect();
        let rows: Vec<(&Row, i64)> = rows.iter().map(|row| (row, 1)).collect();
        counted(&call(AggregateFunction::Mode), &rows)
    }

    #[test]
    fn statistics_and_percentiles_by_hand() {
        let four = values(&[2.0, 4.0, 4.0, 6.0]);
        let of = |statistic| result(&call(AggregateFunction::Statistic(statistic)), &four);
        assert_eq!(of(Statistic::VarPop), Value::Float(2.0));
        assert_eq!(of(Statistic::VarSamp), Value::Float(8.0 / 3.0));
        assert_eq!(result(&call(AggregateFunction::Mode), &four), Value::Float(4.0));
        let at = |function, fraction| {
            result(&AggregateCall { constant: Some(AggregateConstant::Fraction(fraction)), ..call(function) }, &four)
        };
        assert_eq!(at(AggregateFunction::PercentileCont, 0.1), Value::Float(2.0 + 0.3 * 2.0));
        assert_eq!(at(AggregateFunction::PercentileDisc, 0.25), Value::Float(2.0));
        assert_eq!(at(AggregateFunction::PercentileDisc, 0.26), Value::Float(4.0));
    }
}
