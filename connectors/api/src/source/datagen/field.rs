//! The values of one column, each a function of the row's number.

use std::ops::Range;

use arrow::datatypes::TimeUnit;

use crate::format::column::{Column, Values};
use crate::format::text::{self, Rules};

/// Makes the values of one column.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    /// What values there are.
    pub(super) kind: Kind,
    /// How many of a row's values are null, from 0 to 1.
    pub(super) null_fraction: f64,
    /// Of this column: the seed of the stream and the column's place.
    pub(super) seed: u64,
    /// For a struct its fields, for a list its item.
    pub(super) children: Vec<Generator>,
}

/// What values there are.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// `start`, `start + step`, ...: a number, or a time in microseconds.
    Sequence { start: i64, step: i64, max_delay_us: i64 },
    /// A whole number from `min` to `max`, low ones more often if skewed.
    Integer { min: i64, max: i64, skew: f64 },
    /// A number from `min` to `max`.
    Real { min: f64, max: f64 },
    /// True half of the time.
    Boolean,
    /// So many letters.
    Letters { length: usize },
    /// One of these, the first ones more often if skewed.
    Choice { values: Vec<String>, skew: f64 },
    /// The clock on the wall, less a random delay.
    Now { max_delay_us: i64 },
    /// The fields of a struct.
    Row,
    /// So many items at most.
    Items { length: usize },
}

/// Random numbers of one value: a splitmix64 that starts at a hash of seed and row.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, row: u64) -> Dice {
        let mut dice = Dice(seed ^ row.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, but not including, `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 up to, but not including, 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 up to, but not including, `count`; rank r comes in proportion to `1 / (r + 1)^skew`.
    fn rank(&mut self, count: u64, skew: f64) -> u64 {
        if skew <= 0.0 {
            return self.below(count);
        }
        // The continuous law that has the same shape, cut to whole ranks: no table, whatever the count.
        let (end, at) = ((count + 1) as f64, self.fraction());
        let place = if (skew - 1.0).abs() < 1e-9 {
            end.powf(at)
        } else {
            ((end.powf(1.0 - skew) - 1.0) * at + 1.0).powf(1.0 / (1.0 - skew))
        };
        (place as u64).clamp(1, count) - 1
    }
}

impl Generator {
    /// Whether its values depend on when they are made.
    pub(super) fn follows_clock(&self) -> bool {
        matches!(self.kind, Kind::Now { .. }) || self.children.iter().any(Generator::follows_clock)
    }

    /// Appends the values of rows to a column of this generator's type.
    pub(super) fn append(&self, column: &mut Column, rows: Range<u64>, wall_us: i64) {
        for row in rows {
            self.push(column, row, wall_us);
        }
    }

    fn push(&self, column: &mut Column, row: u64, wall_us: i64) {
        let mut dice = Dice::new(self.seed, row);
        if self.null_fraction > 0.0 && dice.fraction() < self.null_fraction {
            column.push_nulls(1);
            return;
        }
        let number = match &self.kind {
            Kind::Sequence { start, step, max_delay_us } => {
                let at = start.wrapping_add(step.wrapping_mul(row as i64));
                at.wrapping_sub(delay(*max_delay_us, &mut dice))
            }
            Kind::Now { max_delay_us } => wall_us - delay(*max_delay_us, &mut dice),
            Kind::Integer { min, max, skew } => {
                let count = max.wrapping_sub(*min) as u64;
                let rank = if count == u64::MAX { dice.next() } else { dice.rank(count + 1, *skew) };
                min.wrapping_add(rank as i64)
            }
            Kind::Boolean => (dice.next() >> 63) as i64,
            Kind::Real { min, max } => return push_real(column, min + (max - min) * dice.fraction()),
            Kind::Letters { length } => {
                let letters: Vec<u8> = (0..*length).map(|_| b'a' + dice.below(26) as u8).collect();
                return push_bytes(column, &letters);
            }
            Kind::Choice { values, skew } => {
                let value = &values[dice.rank(values.len() as u64, *skew) as usize];
                return text::push(column, value.as_bytes(), &RULES).expect("checked when the options were read");
            }
            Kind::Row => {
                let at = column.len;
                let Values::Struct(fields) = &mut column.values else { unreachable!("checked when the options were read") };
                for (field, generator) in fields.columns.iter_mut().zip(&self.children) {
                    field.pad_to(at);
                    generator.push(field, row, wall_us);
                }
                return column.pushed();
            }
            Kind::Items { length } => {
                let count = dice.below(*length as u64 + 1);
                let Values::List { offsets, item } = &mut column.values else {
                    unreachable!("checked when the options were read")
                };
                for place in 0..count {
                    self.children[0].push(item, dice.next() ^ place, wall_us);
                }
                offsets.push(item.len as i32);
                return column.pushed();
            }
        };
        push_number(column, number);
    }
}

/// How texts of options are read.
pub(super) const RULES: Rules = Rules { epoch: TimeUnit::Millisecond, key_only: false, refuses_unknown: false };

fn delay(max_us: i64, dice: &mut Dice) -> i64 {
    if max_us > 0 { dice.below(max_us as u64 + 1) as i64 } else { 0 }
}

fn push_real(column: &mut Column, value: f64) {
    match &mut column.values {
        Values::F64(values) => values.push(value),
        Values::F32(values) => values.push(value as f32),
        Values::Decimal { values, scale, .. } => values.push((value * 10_f64.powi(i32::from(*scale))) as i128),
        _ => unreachable!("checked when the options were read"),
    }
    column.pushed();
}

fn push_bytes(column: &mut Column, value: &[u8]) {
    match &mut column.values {
        Values::Text(values) | Values::Bytes(values) => {
            assert!(values.push(value), "a batch of made-up texts stays below 2 GiB");
        }
        _ => unreachable!("checked when the options were read"),
    }
    column.pushed();
}

/// A whole number as what the column holds; for times it counts microseconds, for dates days.
fn push_number(column: &mut Column, number: i64) {
    match &mut column.values {
        Values::Bool(values) => values.append(number != 0),
        Values::I8(values) => values.push(number as i8),
        Values::I16(values) => values.push(number as i16),
        Values::I32(values) => values.push(number as i32),
        Values::I64(values) => values.push(number),
        Values::U8(values) => values.push(number as u8),
        Values::U16(values) => values.push(number as u16),
        Values::U32(values) => values.push(number as u32),
        Values::U64(values) => values.push(number as u64),
        Values::F32(values) => values.push(number as f32),
        Values::F64(values) => values.push(number as f64),
        Values::Decimal { values, scale, .. } => {
            values.push(i128::from(number) * 10_i128.pow(u32::try_from(*scale).unwrap_or(0)));
        }
        Values::Date(values) => values.push(number.div_euclid(DAY_US) as i32),
        Values::Timestamp(values, unit) => values.push(from_micros(number, *unit)),
        Values::Time64(values, unit) => values.push(from_micros(number.rem_euclid(DAY_US), *unit)),
        Values::Time32(values, unit) => values.push(from_micros(number.rem_euclid(DAY_US), *unit) as i32),
        Values::Text(values) => {
            assert!(values.push(number.to_string().as_bytes()), "a batch of made-up texts stays below 2 GiB");
        }
        _ => unreachable!("checked when the options were read"),
    }
    column.pushed();
}

const DAY_US: i64 = 86_400_000_000;

fn from_micros(micros: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => micros.div_euclid(1_000_000),
        TimeUnit::Millisecond => micros.div_euclid(1_000),
        TimeUnit::Microsecond => micros,
        TimeUnit::Nanosecond => micros.saturating_mul(1_000),
    }
}
