//! Rows with multiplicities.

use std::collections::BTreeMap;

use crate::value::{Row, show};

/// Rows, each with a multiplicity that is not zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Multiset(BTreeMap<Row, i64>);

impl Multiset {
    /// Adds a row `diff` times.
    pub fn add(&mut self, row: Row, diff: i64) {
        use std::collections::btree_map::Entry;
        match self.0.entry(row) {
            Entry::Vacant(entry) if diff != 0 => drop(entry.insert(diff)),
            Entry::Vacant(_) => {}
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    /// Adds another multiset `times` times.
    pub fn add_all(&mut self, other: &Multiset, times: i64) {
        for (row, diff) in other.iter() {
            self.add(row.clone(), diff * times);
        }
    }

    /// Each row once, with its multiplicity, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Row, i64)> {
        self.0.iter().map(|(row, diff)| (row, *diff))
    }

    /// A row's multiplicity.
    pub fn count(&self, row: &Row) -> i64 {
        self.0.get(row).copied().unwrap_or(0)
    }

    /// Number of distinct rows.
    pub fn distinct(&self) -> usize {
        self.0.len()
    }

    /// The sum of all multiplicities.
    pub fn net(&self) -> i64 {
        self.0.values().sum()
    }

    /// What has to be added to `other` to get this.
    pub fn minus(&self, other: &Multiset) -> Multiset {
        let mut rest = self.clone();
        rest.add_all(other, -1);
        rest
    }

    /// Whether they hold the same rows, floats up to a small relative error.
    pub fn is_near(&self, other: &Multiset) -> bool {
        let rest = self.minus(other);
        let (more, fewer): (Vec<_>, Vec<_>) = rest.iter().partition(|(_, diff)| *diff > 0);
        if more.is_empty() && fewer.is_empty() {
            return true;
        }
        let repeat = |rows: Vec<(&Row, i64)>| -> Vec<Row> {
            rows.into_iter().flat_map(|(row, diff)| std::iter::repeat_n(row.clone(), diff.unsigned_abs() as usize)).collect()
        };
        let (more, mut fewer) = (repeat(more), repeat(fewer));
        more.len() == fewer.len()
            && more.iter().all(|row| {
                let near = |other: &Row| row.iter().zip(other.iter()).all(|(one, other)| one.is_near(other));
                fewer.iter().position(near).map(|place| fewer.swap_remove(place)).is_some()
            })
    }

    /// One line per distinct row: multiplicity and values.
    pub fn show(&self) -> String {
        let line = |(row, diff): (&Row, i64)| format!("  {diff:+} {}\n", show(row));
        self.iter().map(line).collect()
    }
}

impl FromIterator<(Row, i64)> for Multiset {
    fn from_iter<I: IntoIterator<Item = (Row, i64)>>(rows: I) -> Self {
        let mut all = Multiset::default();
        rows.into_iter().for_each(|(row, diff)| all.add(row, diff));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn row(number: i64, float: f64) -> Row {
        Row::from([Value::Int(number), Value::Float(float)])
    }

    #[test]
    fn floats_are_near_whatever_their_order() {
        let one: Multiset = [(row(1, 0.1 + 0.2), 2), (row(1, 7.0), 1)].into_iter().collect();
        let other: Multiset = [(row(1, 0.3), 2), (row(1, 7.0), 1)].into_iter().collect();
        assert_ne!(one, other);
        assert!(one.is_near(&other));
        let third: Multiset = [(row(1, 0.3), 1), (row(1, 7.0), 2)].into_iter().collect();
        assert!(!one.is_near(&third));
    }
}
