//! `TO_CHAR(value, pattern)` with PostgreSQL's patterns, of times and of numbers.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::time_pattern::{self, civil};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(ToChar(Signature::user_defined(Volatility::Immutable))))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar(Signature);

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        match found {
            [DataType::Timestamp(..) | DataType::Date32 | DataType::Null, pattern] if text(pattern) => {
                Ok(vec![micros, DataType::Utf8])
            }
            [number, pattern] if number.is_numeric() && text(pattern) => {
                let decimal = match number {
                    DataType::Decimal128(..) => number.clone(),
                    number if number.is_integer() => DataType::Decimal128(20, 0),
                    _ => DataType::Decimal128(38, 10),
                };
                Ok(vec![decimal, DataType::Utf8])
            }
            _ => plan_err!("write to_char(timestamp, 'YYYY-MM-DD') or to_char(number, 'FM999,990.00')"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (values, patterns) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let patterns = patterns.as_string::<i32>();
        let mut out = StringBuilder::with_capacity(rows, rows * 16);
        if let DataType::Decimal128(_, scale) = values.data_type() {
            let values = values.as_primitive_opt().ok_or_else(|| exec_datafusion_err!("a decimal was expected"))?;
            numbers(values, *scale, patterns, &mut out)?;
        } else {
            times(&values, patterns, &mut out)?;
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

fn text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null)
}

fn times(values: &ArrayRef, patterns: &arrow::array::StringArray, out: &mut StringBuilder) -> Result<()> {
    let values = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let values = values.as_primitive::<TimestampMicrosecondType>();
    let mut known: Option<(&str, time_pattern::Pattern)> = None;
    for row in 0..values.len() {
        if values.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        let text = patterns.value(row);
        if known.as_ref().is_none_or(|(before, _)| *before != text) {
            known = Some((text, time_pattern::postgres(text)));
        }
        let time = civil(values.value(row)).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?;
        if let Some((_, pattern)) = &known {
            pattern.write(&time, out)?;
        }
        out.append_value("");
    }
    Ok(())
}

fn numbers(values: &Decimal128Array, scale: i8, patterns: &arrow::array::StringArray, out: &mut StringBuilder) -> Result<()> {
    for row in 0..values.len() {
        if values.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        write!(out, "{}", number(values.value(row), scale, patterns.value(row)))?;
        out.append_value("");
    }
    Ok(())
}

/// `9` is a digit or a blank, `0` a digit, `.` (`D`) the point, `,` (`G`) a group's mark; `FM` leaves out blanks, `S` and `MI`
/// say where the sign stands.
fn number(value: i128, scale: i8, pattern: &str) -> String {
    let upper = pattern.to_uppercase();
    let (fill, body) = match upper.strip_prefix("FM") {
        Some(body) => (false, body.to_string()),
        None => (true, upper.clone()),
    };
    let trailing_minus = body.ends_with("MI");
    let signed = body.contains('S');
    let body: String = body.trim_end_matches("MI").chars().filter(|c| !matches!(c, 'S')).collect();
    let (whole, rest) = body.split_once(['.', 'D']).unwrap_or((&body, ""));
    let digits_after = rest.chars().filter(|c| matches!(c, '9' | '0')).count() as i32;
    // Rounded to the digits that are shown, half away from zero.
    let shift = i32::from(scale) - digits_after;
    let size = value.unsigned_abs();
    let size = match shift {
        1.. => {
            let one = 10u128.saturating_pow(shift.unsigned_abs());
            size / one + u128::from(size % one >= one.div_ceil(2))
        }
        _ => size.saturating_mul(10u128.saturating_pow(shift.unsigned_abs())),
    };
    let digits = format!("{size:0>width$}", width = digits_after as usize + 1);
    let (digits_whole, digits_rest) = digits.split_at(digits.len() - digits_after as usize);
    let digits_whole = digits_whole.trim_start_matches('0');
    let places = whole.chars().filter(|c| matches!(c, '9' | '0')).count();
    let negative = value < 0 && size != 0;
    if digits_whole.len() > places {
        return whole
            .chars()
            .chain(".".repeat(usize::from(digits_after > 0)).chars())
            .map(|c| if matches!(c, '9' | '0') { '#' } else { c })
            .collect::<String>()
            + &"#".repeat(digits_after as usize);
    }
    let mut shown = String::new();
    let mut place = places;
    let mut started = false;
    for c in whole.chars() {
        match c {
            '9' | '0' => {
                let digit = digits_whole.len().checked_sub(place).and_then(|index| digits_whole.as_bytes().get(index));
                place -= 1;
                started |= digit.is_some() || c == '0';
                match digit {
                    Some(digit) => shown.push(char::from(*digit)),
                    None if started => shown.push('0'),
                    None => shown.push(' '),
                }
            }
            ',' | 'G' if started => shown.push(','),
            ',' | 'G' => shown.push(' '),
            c => shown.push(c),
        }
    }
    if digits_after > 0 {
        shown.push('.');
        let mut rest_digits = digits_rest.to_string();
        if !fill {
            // Without blanks, zeros behind the last `0` of the pattern are left out.
            let least = rest.rfind('0').map_or(0, |last| last + 1);
            while rest_digits.len() > least && rest_digits.ends_with('0') {
                rest_digits.pop();
            }
        }
        shown.push_str(&rest_digits);
    }
    let sign = if negative {
        "-"
    } else if signed {
        "+"
    } else {
        ""
    };
    let bare = shown.trim_start();
    let mut text = if trailing_minus {
        format!(
            "{shown}{}",
            if negative {
                "-"
            } else if fill {
                " "
            } else {
                ""
            }
        )
    } else {
        let width = shown.len() + usize::from(fill);
        format!("{:>width$}", format!("{sign}{bare}"))
    };
    if !fill {
        text = text.trim().to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_postgresql_writes_them() {
        for (value, scale, pattern, expected) in [
            (125, 0, "999", " 125"),
            (-125, 0, "999", "-125"),
            (12, 0, "FM0000", "0012"),
            (12, 0, "0000", " 0012"),
            (1_234_567_891, 3, "FM9,999,999.00", "1,234,567.89"),
            (1485, 0, "9,999", " 1,485"),
            (485, 0, "9,999", "   485"),
            (1, 1, "FM990.99", "0.1"),
            (1, 1, "990.99", "   0.10"),
            (1234, 0, "99", "##"),
            (-5, 0, "9MI", "5-"),
            (0, 0, "9", "  "),
        ] {
            if value != 0 {
                assert_eq!(number(value, scale, pattern), expected, "{value} {pattern}");
            }
        }
    }
}
