//! `PRINTF(format, ...)` with Java's formats: `%s %d %x %X %o %f %e %E %c %b %n %%`, flags `- + 0 , (` and blank, width and
//! precision, `%2$s` for an argument by its number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion_common::{Result, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, cast, column, text};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Function::new("printf", &[Kind::Text], DataType::Utf8, printf).variadic(Kind::Any).build()]
}

/// Longest field, so that a format cannot ask for all memory.
const WIDTH_MAX: usize = 10_000;

/// `%` and what follows it.
#[derive(Debug, Default, PartialEq)]
struct Field {
    argument: Option<usize>,
    left: bool,
    plus: bool,
    blank: bool,
    zeros: bool,
    groups: bool,
    parentheses: bool,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

/// A format, taken apart.
enum Piece {
    Text(String),
    Field(Field),
}

fn pieces(format: &str) -> Result<Vec<Piece>> {
    let wrong = || exec_datafusion_err!("invalid format '{format}'");
    let (mut out, mut plain) = (Vec::new(), String::new());
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            plain.push(c);
            continue;
        }
        let mut field = Field::default();
        let mut number = String::new();
        loop {
            match rest.next().ok_or_else(wrong)? {
                '-' => field.left = true,
                '+' => field.plus = true,
                ' ' => field.blank = true,
                ',' => field.groups = true,
                '(' => field.parentheses = true,
                '0' if number.is_empty() => field.zeros = true,
                digit @ '0'..='9' => number.push(digit),
                '$' => field.argument = Some(std::mem::take(&mut number).parse().map_err(|_| wrong())?),
                '.' => {
                    let mut digits = String::new();
                    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                        digits.push(digit);
                    }
                    field.precision = Some(digits.parse().ok().filter(|digits| *digits <= WIDTH_MAX).ok_or_else(wrong)?);
                }
                conversion => {
                    field.conversion = conversion;
                    break;
                }
            }
        }
        if !number.is_empty() {
            field.width = number.parse().ok().filter(|width| *width <= WIDTH_MAX).ok_or_else(wrong)?;
        }
        match field.conversion {
            '%' => plain.push('%'),
            'n' => plain.push('\n'),
            's' | 'S' | 'd' | 'x' | 'X' | 'o' | 'f' | 'e' | 'E' | 'c' | 'b' => {
                out.push(Piece::Text(std::mem::take(&mut plain)));
                out.push(Piece::Field(field));
            }
            _ => return Err(wrong()),
        }
    }
    out.push(Piece::Text(plain));
    Ok(out)
}

/// An argument in the forms that formats ask for.
struct Argument {
    texts: StringArray,
    values: ArrayRef,
}

impl Argument {
    fn whole(&self, row: usize) -> Option<i64> {
        let numbers = arrow::compute::cast(&self.values.slice(row, 1), &DataType::Int64).ok()?;
        self.values.data_type().is_integer().then(|| numbers.as_primitive::<Int64Type>().value(0))
    }

    /// The digits of a number with so many behind the point.
    fn digits(&self, row: usize, precision: usize) -> Option<String> {
        match self.values.data_type() {
            DataType::Decimal128(_, scale) => {
                let scale = *scale as i32;
                let value = self.values.as_primitive::<Decimal128Type>().value(row);
                // Halves away from zero, as Java rounds a BigDecimal.
                let drop = (scale - precision as i32).max(0) as u32;
                let by = 10i128.checked_pow(drop)?;
                let half = if drop > 0 { by / 2 } else { 0 };
                let rounded = (value.checked_add(value.signum() * half)? / by).unsigned_abs().to_string();
                let kept = (scale - drop as i32).max(0) as usize;
                let rounded = format!("{rounded:0>width$}", width = kept + 1);
                let (whole, fraction) = rounded.split_at(rounded.len() - kept);
                let zeros = "0".repeat(precision - kept);
                let point = if precision > 0 { "." } else { "" };
                let sign = if value < 0 { "-" } else { "" };
                Some(format!("{sign}{whole}{point}{fraction}{zeros}"))
            }
            DataType::Float64 | DataType::Float32 => {
                let values = arrow::compute::cast(&self.values.slice(row, 1), &DataType::Float64).ok()?;
                let value = values.as_primitive::<Float64Type>().value(0);
                Some(match value {
                    value if value.is_nan() => "NaN".into(),
                    value if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
                    value => format!("{value:.precision$}"),
                })
            }
            other if other.is_integer() => {
                let zeros = "0".repeat(precision);
                let point = if precision > 0 { "." } else { "" };
                Some(format!("{}{point}{zeros}", self.whole(row)?))
            }
            _ => None,
        }
    }

    fn float(&self, row: usize) -> Option<f64> {
        let numeric = self.values.data_type().is_numeric();
        let values = arrow::compute::cast(&self.values.slice(row, 1), &DataType::Float64).ok().filter(|_| numeric)?;
        Some(values.as_primitive::<Float64Type>().value(0))
    }
}

fn printf(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let formats = text(args, 0, rows)?;
    let mut arguments = Vec::with_capacity(args.len() - 1);
    for index in 1..args.len() {
        let values = column(args, index, rows)?;
        let texts = cast::cast(&values, &DataType::Utf8, true)?.as_string::<i32>().clone();
        arguments.push(Argument { texts, values });
    }
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut known: Option<(&str, Vec<Piece>)> = None;
    let mut line = String::new();
    for row in 0..rows {
        if formats.is_null(row) {
            out.append_null();
            continue;
        }
        let format = formats.value(row);
        if known.as_ref().is_none_or(|(before, _)| *before != format) {
            known = Some((format, pieces(format)?));
        }
        let Some((_, pieces)) = &known else { continue };
        line.clear();
        let mut next = 0;
        for piece in pieces {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Field(field) => {
                    let index = field.argument.map_or(next, |number| number.wrapping_sub(1));
                    next += usize::from(field.argument.is_none());
                    let Some(argument) = arguments.get(index) else {
                        return exec_err!("the format '{format}' has no argument {}", index.wrapping_add(1));
                    };
                    put(field, argument, row, &mut line)?;
                }
            }
        }
        out.append_value(&line);
    }
    Ok(Arc::new(out.finish()))
}

fn put(field: &Field, argument: &Argument, row: usize, out: &mut String) -> Result<()> {
    let wrong = || exec_datafusion_err!("%{} does not take {}", field.conversion, argument.values.data_type());
    let null = argument.values.data_type().is_null() || argument.values.is_null(row);
    let number = matches!(field.conversion, 'd' | 'x' | 'X' | 'o' | 'f' | 'e' | 'E') && !null;
    let body = match field.conversion {
        'b' => match argument.values.as_boolean_opt() {
            Some(values) => (!null && values.value(row)).to_string(),
            None => (!null).to_string(),
        },
        _ if null => "null".to_string(),
        'd' => grouped(argument.whole(row).ok_or_else(wrong)?.to_string(), field.groups),
        'x' | 'X' | 'o' => {
            let value = argument.whole(row).ok_or_else(wrong)?;
            // Of a narrow type the bits of its own width.
            let bits: u64 = match argument.values.data_type() {
                DataType::Int64 => value as u64,
                _ => u64::from(value as u32),
            };
            match field.conversion {
                'x' => format!("{bits:x}"),
                'X' => format!("{bits:X}"),
                _ => format!("{bits:o}"),
            }
        }
        'f' => grouped(argument.digits(row, field.precision.unwrap_or(6)).ok_or_else(wrong)?, field.groups),
        'e' | 'E' => scientific(argument.float(row).ok_or_else(wrong)?, field.precision.unwrap_or(6), field.conversion == 'E'),
        'c' => match argument.whole(row) {
            Some(code) => u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(wrong)?.to_string(),
            None => argument.texts.value(row).chars().take(1).collect(),
        },
        conversion => {
            let text = argument.texts.value(row);
            let text: String = match field.precision {
                Some(precision) => text.chars().take(precision).collect(),
                None => text.to_string(),
            };
            if conversion == 'S' { text.to_uppercase() } else { text }
        }
    };
    let (negative, digits) = match body.strip_prefix('-') {
        Some(digits) if number => (true, digits),
        _ => (false, body.as_str()),
    };
    let (before, behind) = match (number, negative) {
        (true, true) if field.parentheses => ("(", ")"),
        (true, true) => ("-", ""),
        (true, false) if field.plus => ("+", ""),
        (true, false) if field.blank => (" ", ""),
        _ => ("", ""),
    };
    let missing = field.width.saturating_sub(before.len() + digits.chars().count() + behind.len());
    let (spaces, zeros) = if field.zeros && number && !field.left { (0, missing) } else { (missing, 0) };
    let pad = |out: &mut String, c: char, count: usize| out.extend(std::iter::repeat_n(c, count));
    if !field.left {
        pad(out, ' ', spaces);
    }
    out.push_str(before);
    pad(out, '0', zeros);
    out.push_str(digits);
    out.push_str(behind);
    if field.left {
        pad(out, ' ', spaces);
    }
    Ok(())
}

/// `1234567.5` as `1,234,567.5`.
fn grouped(digits: String, groups: bool) -> String {
    let start = usize::from(digits.starts_with('-'));
    let end = digits.find('.').unwrap_or(digits.len());
    if !groups || !digits[start..end].bytes().all(|byte| byte.is_ascii_digit()) {
        return digits;
    }
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, c) in digits.char_indices() {
        if index > start && index < end && (end - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1.500000e+02`.
fn scientific(value: f64, precision: usize, upper: bool) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into();
    }
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    let e = if upper { 'E' } else { 'e' };
    format!("{digits}{e}{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use datafusion_common::ScalarValue;

    use super::*;
    use crate::functions::tests::{call, constant};

    #[test]
    fn formats() {
        let decimal = ScalarValue::Decimal128(Some(-12_345), 10, 3);
        let args = |format: &str| {
            vec![
                constant(format),
                constant(1_234_567i64),
                constant("text"),
                constant(2.5),
                constant(decimal.clone()),
                constant(-1i32),
            ]
        };
        for (format, expected) in [
            ("%d|%s|%f", "1234567|text|2.500000"),
            ("%,d|%6s|%.1f|%.2f", "1,234,567|  text|2.5|-12.35"),
            ("%010d|%-6s|%08.2f|%(.1f", "0001234567|text  |00002.50|(12.3)"),
            ("%+d%% %S", "+1234567% TEXT"),
            ("%2$.2s %2$s %5$x %1$X", "te text ffffffff 12D687"),
            ("%3$e %3$E %2$c%n", "2.500000e+00 2.500000E+00 t\n"),
            ("no field", "no field"),
        ] {
            assert_eq!(call(printf, &args(format), 1), [Some(expected.to_string())], "{format}");
        }
        for format in ["%", "%q", "%s %s %s %s %s %s", "%2$d", "%99999999s"] {
            assert!(printf(&args(format), 1).is_err(), "{format}");
        }
        assert_eq!(
            call(
                printf,
                &[constant("%s %d %b"), constant(ScalarValue::Utf8(None)), constant(ScalarValue::Int64(None)), constant(true)],
                1
            ),
            [Some("null null true".to_string())]
        );
    }
}
