//! `HOUR(ts)`, `MINUTE(ts)`, ...: short for `date_part('hour', ts)`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::exec_err;
use datafusion_expr::{Expr, ScalarUDF, lit};

use super::{Function, Kind, Simplify};

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    macro_rules! parts {
        ($(($name:literal, $part:literal)),* $(,)?) => {
            vec![$(part($name, |args: Vec<Expr>| {
                let mut all = vec![lit($part)];
                all.extend(args);
                datafusion_functions::datetime::date_part().call(all)
            })),*]
        };
    }
    parts![
        ("year", "year"),
        ("quarter", "quarter"),
        ("month", "month"),
        ("week", "week"),
        ("dayofyear", "doy"),
        ("dayofmonth", "day"),
        ("day", "day"),
        ("hour", "hour"),
        ("minute", "minute"),
        ("second", "second"),
    ]
}

fn part(name: &'static str, simplify: Simplify) -> Arc<ScalarUDF> {
    let function =
        Function::new(name, &[Kind::Moment], DataType::Int32, |_, _| exec_err!("parts of times are planned as date_part"));
    Function { simplify: Some(simplify), ..function }.build()
}
