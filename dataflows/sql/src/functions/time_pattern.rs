//! Patterns of times, PostgreSQL's (`YYYY-MM-DD HH24:MI:SS`) and Java's (`yyyy-MM-dd HH:mm:ss`), to write and to read.

use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Field(Field),
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    what: What,
    /// Digits or letters that are written at least.
    width: usize,
    case: Case,
    /// `1st`, `2ND`.
    ordinal: Option<Case>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Year,
    YearOfCentury,
    Quarter,
    Month,
    MonthName,
    MonthShort,
    Day,
    DayOfYear,
    /// 1 is Sunday.
    DayOfWeek,
    /// 1 is Monday.
    IsoDayOfWeek,
    DayName,
    DayShort,
    IsoWeek,
    IsoYear,
    Hour24,
    Hour12,
    Minute,
    Second,
    SecondOfDay,
    Millis,
    Micros,
    HalfDay,
    Zone,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Case {
    Upper,
    Title,
    Lower,
}

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern(Vec<Part>);

/// Which letters a pattern has: those of PostgreSQL if some part is written as only PostgreSQL does.
pub(super) fn any(pattern: &str) -> Option<Pattern> {
    let postgres = ["YYYY", "HH24", "HH12", "MI", "DD", "Mon", "MON"].iter().any(|part| pattern.contains(part));
    if postgres { Some(self::postgres(pattern)) } else { java(pattern) }
}

/// `YYYY-MM-DD HH24:MI:SS`; what is no part is text.
pub(super) fn postgres(pattern: &str) -> Pattern {
    use What::{
        Day, DayName, DayOfWeek, DayOfYear, DayShort, HalfDay, Hour12, Hour24, IsoDayOfWeek, IsoWeek, IsoYear, Micros, Millis,
        Minute, Month, MonthName, MonthShort, Quarter, Second, SecondOfDay, Year, YearOfCentury, Zone,
    };
    // Longer ones first.
    const NAMES: [(&str, What, usize); 32] = [
        ("HH24", Hour24, 2),
        ("HH12", Hour12, 2),
        ("MONTH", MonthName, 9),
        ("SSSSS", SecondOfDay, 1),
        ("SSSS", SecondOfDay, 1),
        ("YYYY", Year, 4),
        ("IYYY", IsoYear, 4),
        ("Y,YYY", Year, 4),
        ("A.M.", HalfDay, 4),
        ("P.M.", HalfDay, 4),
        ("IDDD", DayOfYear, 3),
        ("DDD", DayOfYear, 3),
        ("DAY", DayName, 9),
        ("MON", MonthShort, 3),
        ("HH", Hour12, 2),
        ("MI", Minute, 2),
        ("SS", Second, 2),
        ("MS", Millis, 3),
        ("US", Micros, 6),
        ("FF3", Millis, 3),
        ("FF6", Micros, 6),
        ("AM", HalfDay, 2),
        ("PM", HalfDay, 2),
        ("YY", YearOfCentury, 2),
        ("MM", Month, 2),
        ("DY", DayShort, 3),
        ("DD", Day, 2),
        ("ID", IsoDayOfWeek, 1),
        ("IW", IsoWeek, 2),
        ("TZ", Zone, 0),
        ("D", DayOfWeek, 1),
        ("Q", Quarter, 1),
    ];
    let mut parts = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        if let Some(text) = rest.strip_prefix('"') {
            let end = text.find('"').unwrap_or(text.len());
            literal(&mut parts, &text[..end]);
            rest = text.get(end + 1..).unwrap_or("");
            continue;
        }
        let (fill, tail) = match rest.get(..2).filter(|two| two.eq_ignore_ascii_case("FM")) {
            Some(_) => (false, &rest[2..]),
            None => (true, rest),
        };
        let starts = |name: &str| tail.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let Some((name, what, width)) = NAMES.iter().find(|(name, ..)| starts(name)) else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            literal(&mut parts, &rest[..next]);
            rest = &rest[next..];
            continue;
        };
        let written = &tail[..name.len()];
        rest = &tail[name.len()..];
        let ordinal = match rest.get(..2) {
            Some("th") => Some(Case::Lower),
            Some("TH") => Some(Case::Upper),
            _ => None,
        };
        if ordinal.is_some() {
            rest = &rest[2..];
        }
        let mut letters = written.chars().filter(|c| c.is_ascii_alphabetic());
        let case = match (letters.next(), letters.next()) {
            (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => Case::Title,
            (Some(first), _) if first.is_lowercase() => Case::Lower,
            _ => Case::Upper,
        };
        let width = if fill { *width } else { 0 };
        parts.push(Part::Field(Field { what: *what, width, case, ordinal }));
    }
    Pattern(parts)
}

/// `yyyy-MM-dd HH:mm:ss`; `None` for letters that mean something else in Java.
pub(super) fn java(pattern: &str) -> Option<Pattern> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut parts = Vec::new();
    let mut index = 0;
    while index < letters.len() {
        let letter = letters[index];
        let count = letters[index..].iter().take_while(|other| **other == letter).count();
        if letter == '\'' {
            if letters.get(index + 1) == Some(&'\'') {
                literal(&mut parts, "'");
                index += 2;
                continue;
            }
            let length = letters[index + 1..].iter().position(|letter| *letter == '\'')?;
            literal(&mut parts, &letters[index + 1..index + 1 + length].iter().collect::<String>());
            index += length + 2;
            continue;
        }
        let (what, width) = match (letter, count) {
            ('y' | 'u', 2) => (What::YearOfCentury, 2),
            ('y' | 'u', _) => (What::Year, count),
            ('Q', _) => (What::Quarter, 1),
            ('M' | 'L', 1 | 2) => (What::Month, count),
            ('M' | 'L', 3) => (What::MonthShort, 3),
            ('M' | 'L', 4) => (What::MonthName, 0),
            ('d', 1 | 2) => (What::Day, count),
            ('D', _) => (What::DayOfYear, count),
            ('H', 1 | 2) => (What::Hour24, count),
            ('h', 1 | 2) => (What::Hour12, count),
            ('m', 1 | 2) => (What::Minute, count),
            ('s', 1 | 2) => (What::Second, count),
            ('S', 3) => (What::Millis, 3),
            ('S', 6) => (What::Micros, 6),
            ('a', _) => (What::HalfDay, 2),
            ('E', 1..=3) => (What::DayShort, 3),
            ('E', _) => (What::DayName, 0),
            (letter, _) if letter.is_ascii_alphabetic() => return None,
            (letter, _) => {
                literal(&mut parts, &letter.to_string().repeat(count));
                index += count;
                continue;
            }
        };
        let case = if what == What::HalfDay { Case::Upper } else { Case::Title };
        parts.push(Part::Field(Field { what, width, case, ordinal: None }));
        index += count;
    }
    Some(Pattern(parts))
}

fn literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Literal(before)) => before.push_str(text),
        _ => parts.push(Part::Literal(text.to_string())),
    }
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Pattern {
    /// Appends the time.
    pub(super) fn write(&self, time: &NaiveDateTime, out: &mut impl Write) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Literal(text) => out.write_str(text),
            Part::Field(field) => field.write(time, out),
        })
    }

    /// The time that a text says; what the pattern leaves out is the start of 1970, months and days from 1.
    pub(super) fn read(&self, text: &str) -> Option<NaiveDateTime> {
        let mut found = Found { year: 1970, month: 1, day: 1, ..Found::default() };
        let mut rest = text.trim();
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Literal(text) => {
                    for expected in text.chars() {
                        rest = match (expected.is_whitespace(), rest.strip_prefix(expected)) {
                            (true, _) => rest.trim_start(),
                            (false, Some(rest)) => rest,
                            (false, None) => return None,
                        };
                    }
                }
                Part::Field(field) => {
                    let next_is_number = matches!(self.0.get(index + 1), Some(Part::Field(next)) if next.what.is_number());
                    rest = field.read(rest, next_is_number, &mut found)?;
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        found.time()
    }
}

impl What {
    fn is_number(self) -> bool {
        !matches!(self, What::MonthName | What::MonthShort | What::DayName | What::DayShort | What::HalfDay | What::Zone)
    }
}

impl Field {
    fn write(&self, time: &NaiveDateTime, out: &mut impl Write) -> std::fmt::Result {
        let hour12 = if time.hour().is_multiple_of(12) { 12 } else { time.hour() % 12 };
        let number: i64 = match self.what {
            What::Year => time.year().into(),
            What::YearOfCentury => time.year().rem_euclid(100).into(),
            What::Quarter => (time.month0() / 3 + 1).into(),
            What::Month => time.month().into(),
            What::Day => time.day().into(),
            What::DayOfYear => time.ordinal().into(),
            What::DayOfWeek => time.weekday().number_from_sunday().into(),
            What::IsoDayOfWeek => time.weekday().number_from_monday().into(),
            What::IsoWeek => time.iso_week().week().into(),
            What::IsoYear => time.iso_week().year().into(),
            What::Hour24 => time.hour().into(),
            What::Hour12 => hour12.into(),
            What::Minute => time.minute().into(),
            What::Second => time.second().into(),
            What::SecondOfDay => time.num_seconds_from_midnight().into(),
            What::Millis => (time.nanosecond() / 1_000_000).into(),
            What::Micros => (time.nanosecond() / 1_000).into(),
            What::MonthName => return self.word(MONTHS[time.month0() as usize], out),
            What::MonthShort => return self.word(&MONTHS[time.month0() as usize][..3], out),
            What::DayName => return self.word(DAYS[time.weekday().num_days_from_sunday() as usize], out),
            What::DayShort => return self.word(&DAYS[time.weekday().num_days_from_sunday() as usize][..3], out),
            What::HalfDay => {
                let half = match (time.hour() < 12, self.width) {
                    (true, 4) => "A.M.",
                    (false, 4) => "P.M.",
                    (true, _) => "AM",
                    (false, _) => "PM",
                };
                return out.write_str(&if self.case == Case::Lower { half.to_lowercase() } else { half.to_string() });
            }
            What::Zone => return Ok(()),
        };
        write!(out, "{number:0width$}", width = self.width)?;
        let Some(case) = self.ordinal else { return Ok(()) };
        let suffix = match (number % 10, number % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        out.write_str(&if case == Case::Upper { suffix.to_uppercase() } else { suffix.to_string() })
    }

    fn word(&self, word: &str, out: &mut impl Write) -> std::fmt::Result {
        let width = self.width;
        match self.case {
            Case::Upper => write!(out, "{:width$}", word.to_uppercase()),
            Case::Title => write!(out, "{word:width$}"),
            Case::Lower => write!(out, "{:width$}", word.to_lowercase()),
        }
    }

    fn read<'a>(&self, text: &'a str, next_is_number: bool, found: &mut Found) -> Option<&'a str> {
        let text = text.trim_start();
        let name = |names: &[&str]| {
            // Whole names first, then their first three letters.
            let whole =
                names.iter().position(|name| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
            let short =
                || names.iter().position(|name| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(&name[..3])));
            match whole {
                Some(index) => Some((index, names[index].len())),
                None => short().map(|index| (index, 3)),
            }
        };
        match self.what {
            What::MonthName | What::MonthShort => {
                let (index, length) = name(&MONTHS)?;
                found.month = index as u32 + 1;
                return Some(&text[length..]);
            }
            What::DayName | What::DayShort => {
                let (_, length) = name(&DAYS)?;
                return Some(&text[length..]);
            }
            What::HalfDay => {
                let length = if self.width == 4 { 4 } else { 2 };
                let half = text.get(..length)?;
                found.afternoon = Some(half.starts_with(['p', 'P']));
                return Some(&text[length..]);
            }
            What::Zone => return Some(text),
            _ => {}
        }
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) if self.what == What::Year => (-1, rest),
            _ => (1, text),
        };
        let most = match self.what {
            What::Year | What::IsoYear if !next_is_number => 9,
            What::Year | What::IsoYear => 4,
            What::Millis | What::DayOfYear => 3,
            What::Micros => 6,
            What::SecondOfDay => 5,
            What::Quarter | What::DayOfWeek | What::IsoDayOfWeek => 1,
            _ => 2,
        };
        let length = digits.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let number: i64 = digits[..length].parse().ok()?;
        let number = sign * number;
        let unsigned = || u32::try_from(number).ok();
        match self.what {
            What::Year | What::IsoYear => found.year = number as i32,
            What::YearOfCentury => found.year = if number < 70 { 2000 + number as i32 } else { 1900 + number as i32 },
            What::Month => found.month = unsigned()?,
            What::Day => found.day = unsigned()?,
            What::DayOfYear => found.day_of_year = Some(unsigned()?),
            What::Hour24 => found.hour = unsigned()?,
            What::Hour12 => {
                found.hour = unsigned()?;
                found.afternoon = found.afternoon.or(Some(false));
                found.twelve = true;
            }
            What::Minute => found.minute = unsigned()?,
            What::Second => found.second = unsigned()?,
            What::SecondOfDay => found.second_of_day = Some(unsigned()?),
            What::Millis => found.nanos = fraction(&digits[..length])?,
            What::Micros => found.nanos = fraction(&digits[..length])?,
            _ => {}
        }
        Some(&digits[length..])
    }
}

/// `.5` is 500 milliseconds, also where three digits are asked for.
fn fraction(digits: &str) -> Option<u32> {
    digits.parse::<u32>().ok()?.checked_mul(10u32.checked_pow(9u32.checked_sub(digits.len() as u32)?)?)
}

#[derive(Default)]
struct Found {
    year: i32,
    month: u32,
    day: u32,
    day_of_year: Option<u32>,
    hour: u32,
    minute: u32,
    second: u32,
    second_of_day: Option<u32>,
    nanos: u32,
    /// Whether the hour counts to twelve.
    twelve: bool,
    afternoon: Option<bool>,
}

impl Found {
    fn time(self) -> Option<NaiveDateTime> {
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(self.year, day)?,
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day)?,
        };
        if let Some(second) = self.second_of_day {
            return date.and_hms_nano_opt(second / 3_600, second / 60 % 60, second % 60, self.nanos);
        }
        let hour = match (self.twelve, self.afternoon) {
            (true, _) if !(1..=12).contains(&self.hour) => return None,
            (true, Some(true)) => self.hour % 12 + 12,
            (true, _) => self.hour % 12,
            (false, _) => self.hour,
        };
        date.and_hms_nano_opt(hour, self.minute, self.second, self.nanos)
    }
}

/// A time of microseconds since 1970.
pub(super) fn civil(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let time = civil(1_709_212_455_678_000).expect("a time of our century");
        for pattern in
            ["YYYY-MM-DD HH24:MI:SS.MS", "DD Mon YYYY HH12:MI:SS.US AM", "YYYYMMDDHH24MISSMS", "FMMonth FMDD, YYYY SSSSS.MS"]
        {
            let pattern = postgres(pattern);
            let mut text = String::new();
            pattern.write(&time, &mut text).expect("writing to memory");
            assert_eq!(pattern.read(&text), Some(time), "{text}");
        }
        let java = java("dd/MM/yyyy 'at' HH:mm:ss.SSS").expect("a pattern");
        assert_eq!(java.read("29/02/2024 at 13:14:15.678"), Some(time));
        assert_eq!(java.read("30/02/2024 at 13:14:15.678"), None);
        assert_eq!(java.read("29/02/2024 at 13:14:15.678 x"), None);
    }
}
