//! Decimals as text, exactly: number text or string to an `i128` of a scale, and back.

/// A number's value times `10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scaled {
    /// The value, rounded half away from zero.
    pub(crate) value: i128,
    /// Whether nothing was rounded away.
    pub(crate) exact: bool,
}

/// Reads `[+-]digits[.digits][e[+-]digits]`; `None` if it is no number or does not fit 38 digits.
pub(crate) fn parse(text: &[u8], scale: i32) -> Option<Scaled> {
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Digits with a place at or above `10^-scale` are kept, the first one below rounds.
    let places = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let (mut value, mut exact, mut round_up) = (0_i128, true, false);
    for (place, digit) in whole.iter().chain(fraction).enumerate() {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i128::from(digit - b'0');
        if (place as i64) < places {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if digit != 0 {
            exact = false;
            round_up |= place as i64 == places && digit >= 5;
        }
    }
    if value != 0 {
        for _ in (whole.len() + fraction.len()) as i64..places {
            value = value.checked_mul(10)?;
        }
    }
    value = value.checked_add(i128::from(round_up))?;
    Some(Scaled { value: if negative { -value } else { value }, exact })
}

fn parse_exponent(text: &[u8]) -> Option<i32> {
    let digits = text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Far beyond what any decimal holds, the exact exponent does not matter.
    let magnitude = digits.iter().fold(0_i32, |sum, digit| (sum * 10 + i32::from(digit - b'0')).min(100_000));
    Some(if text.starts_with(b"-") { -magnitude } else { magnitude })
}

/// Whether `value` has at most `precision` digits.
pub(crate) fn fits(value: i128, precision: u8) -> bool {
    10_u128.checked_pow(u32::from(precision)).is_none_or(|limit| value.unsigned_abs() < limit)
}

/// Writes all `scale` digits after the point.
pub(crate) fn write(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = value.unsigned_abs().to_string();
    if scale <= 0 {
        if value != 0 {
            digits.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let scale = scale as usize;
    if digits.len() <= scale {
        digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
    }
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let check = |text: &str, scale, value, exact| {
            assert_eq!(parse(text.as_bytes(), scale), Some(Scaled { value, exact }), "{text} at {scale}");
        };
        check("12.34", 2, 1234, true);
        check("-12.3", 2, -1230, true);
        check("1e3", 0, 1000, true);
        check("1.5e-1", 2, 15, true);
        check("0.125", 2, 13, false);
        check("-0.125", 2, -13, false);
        check("0.06", 0, 0, false);
        check(".5", 1, 5, true);
        check("0e999999999", 2, 0, true);
        check("1e-999999999", 2, 0, false);
        check("99999999999999999999999999999999999999", 0, 10_i128.pow(38) - 1, true);
    }

    #[test]
    fn what_is_no_number_or_too_long_is_refused() {
        for text in ["", "-", ".", "1x", "1e", "1e+", "--1", "1.2.3", "1e40", " 1", "NaN"] {
            assert_eq!(parse(text.as_bytes(), 0), None, "{text}");
        }
        assert!(fits(999, 3) && !fits(1000, 3) && fits(-999, 3));
    }

    #[test]
    fn written_with_all_digits_of_the_scale() {
        let check = |value, scale, expected: &str| {
            let mut out = Vec::new();
            write(value, scale, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(1234, 2, "12.34");
        check(-5, 2, "-0.05");
        check(0, 3, "0.000");
        check(7, 0, "7");
        check(7, -2, "700");
    }
}
