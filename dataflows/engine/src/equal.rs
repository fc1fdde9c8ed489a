//! Which rows of some batches are equal: by hash first, then by comparing, in parts that fit a core's cache.
//!
//! Equal is what is the same value for value: NULL is equal to NULL, -0.0 is not 0.0.

use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, DynComparator, make_comparator};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{self, SortOptions};
use arrow::datatypes::DataType;
use arrow::downcast_primitive_array;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::Diff;
use crate::parallel::in_parallel;

/// About how many rows are compared at a time.
const PART_ROWS: usize = 8_192;

/// How many parts a thread takes at a time.
const PARTS_AT_ONCE: usize = 16;

/// A row of some batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// In which order rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Rows in parts: those that are equal are in the same one.
pub(crate) struct Parts<T> {
    /// Part after part.
    rows: Vec<Row<T>>,
    /// Where each part ends.
    ends: Vec<usize>,
}

/// What is looked at of a row: what it carries need not be fetched from its batch, one miss of the cache each.
#[derive(Clone, Copy)]
struct Row<T> {
    /// Its lower half: all hashes of a part begin alike.
    hash: u32,
    place: Place,
    carries: T,
}

/// What a row adds to those of its key: how often it is there, and half the hash of all of its columns as often, for which -0.0 is 0.0.
/// See [`Parts::newest`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weight {
    diff: i32,
    print: u32,
}

impl Weight {
    /// Of a row that is added so often, or taken back; `print`: of its hash, always the same half.
    pub(crate) fn new(diff: Diff, print: u32) -> Self {
        // None is so large where keys are unique.
        Weight { diff: i32::try_from(diff).unwrap_or(i32::MAX), print: print.wrapping_mul(diff as u32) }
    }
}

impl<T: Copy + Default + Send + Sync> Parts<T> {
    /// The rows with these hashes, by batch, that are `wanted`; each carries what `carries` gives for its batch and row.
    pub(crate) fn new(
        hashes: &[Vec<u64>],
        wanted: impl Fn(u64) -> bool,
        order: Order,
        carries: impl Fn(usize, usize) -> T,
    ) -> Self {
        let count: usize = hashes.iter().flatten().filter(|hash| wanted(**hash)).count();
        let bits = count.div_ceil(PART_ROWS).next_power_of_two().trailing_zeros();
        let part = |hash: u64| hash.checked_shr(64 - bits).unwrap_or(0) as usize;
        let mut ends = vec![0; 1 << bits];
        hashes.iter().flatten().filter(|hash| wanted(**hash)).for_each(|hash| ends[part(*hash)] += 1);
        let mut before = 0;
        for end in &mut ends {
            // Where the part begins: putting its rows there moves it to the end.
            before += std::mem::replace(end, before);
        }
        let mut rows = vec![Row { hash: 0, place: Place { batch: 0, row: 0 }, carries: T::default() }; count];
        let mut put = |batch: usize, row: usize| {
            let hash = hashes[batch][row];
            if wanted(hash) {
                let end = &mut ends[part(hash)];
                rows[*end] = Row {
                    hash: hash as u32,
                    place: Place { batch: batch as u32, row: row as u32 },
                    carries: carries(batch, row),
                };
                *end += 1;
            }
        };
        match order {
            Order::OldestFirst => {
                (0..hashes.len()).for_each(|batch| (0..hashes[batch].len()).for_each(|row| put(batch, row)));
            }
            Order::NewestFirst => {
                (0..hashes.len()).rev().for_each(|batch| (0..hashes[batch].len()).rev().for_each(|row| put(batch, row)));
            }
        }
        Parts { rows, ends }
    }

    /// Of each row that is equal, in these columns of its batch, to one that was looked at before, which that was; found by as
    /// many threads as there are cores, but at most `threads`.
    ///
    /// Shape: the row, then the first that equals it; in no order.
    /// Cost:  a look into a table of one part per row; columns are gathered and compared where hashes are equal.
    pub(crate) fn equal(&self, columns: &[&[ArrayRef]], threads: usize) -> Vec<(Place, Place)> {
        self.each_part(columns, threads, |rows, firsts, equal: &mut Vec<(Place, Place)>| {
            let others = rows.iter().zip(firsts).enumerate().filter(|(index, (_, first))| *index as u32 != **first);
            equal.extend(others.map(|(_, (row, first))| (row.place, rows[*first as usize].place)));
        })
    }

    /// What `take` finds in the parts, given a part's rows and of each the index of the first that equals it.
    fn each_part<F: Send + Sync + Clone>(
        &self,
        columns: &[&[ArrayRef]],
        threads: usize,
        take: impl Fn(&[Row<T>], &[u32], &mut Vec<F>) + Sync,
    ) -> Vec<F> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let parts: Vec<_> = starts.zip(&self.ends).map(|(start, end)| &self.rows[start..*end]).collect();
        let several: Vec<_> = parts.chunks(PARTS_AT_ONCE).collect();
        let mut found = in_parallel(&several, threads, |parts| {
            let (mut found, mut firsts) = (Vec::new(), Vec::new());
            let mut table = HashTable::with_capacity(parts.iter().map(|rows| rows.len()).max().unwrap_or(0));
            for rows in *parts {
                find_firsts(rows, columns, &mut table, &mut firsts);
                take(rows, &firsts, &mut found);
            }
            found
        });
        if found.len() == 1 { found.remove(0) } else { found.concat() }
    }
}

impl Parts<Diff> {
    /// The sums of what equal rows carry, other than zero, with the first of these rows that was looked at; otherwise as
    /// [`Parts::equal`].
    pub(crate) fn sums(&self, columns: &[&[ArrayRef]], threads: usize) -> Vec<(Place, Diff)> {
        self.each_part(columns, threads, |rows, firsts, sums: &mut Vec<(Place, Diff)>| {
            let start = sums.len();
            // One for each row, until it is known which of them are of no use.
            sums.extend(rows.iter().map(|row| (row.place, 0)));
            for (row, first) in rows.iter().zip(firsts) {
                sums[start + *first as usize].1 += row.carries;
            }
            let mut end = start;
            for index in start..sums.len() {
                if sums[index].1 != 0 {
                    sums.swap(end, index);
                    end += 1;
                }
            }
            sums.truncate(end);
        })
    }
}

impl Parts<Weight> {
    /// The rows that are left of those of each key, of which there is never more than one, if rows are looked at newest first:
    /// the last that was added, or none. `None` if that is not so: if what all rows of a key add up to, as numbers and as hashes,
    /// is neither nothing nor that row.
    ///
    /// Cost:  only `keys`, by batch, are gathered and compared; otherwise as [`Parts::equal`].
    pub(crate) fn newest(&self, keys: &[&[ArrayRef]], threads: usize) -> Option<Vec<Place>> {
        let is_unique = AtomicBool::new(true);
        let newest = self.each_part(keys, threads, |rows, firsts, newest: &mut Vec<Place>| {
            // By the index of a key's first row: what all of its rows come to, and the last that was added.
            let mut sums: Vec<(Weight, Option<&Row<Weight>>)> = vec![Default::default(); rows.len()];
            for (row, first) in rows.iter().zip(firsts) {
                let (sum, added) = &mut sums[*first as usize];
                sum.diff = sum.diff.saturating_add(row.carries.diff);
                sum.print = sum.print.wrapping_add(row.carries.print);
                if row.carries.diff == 1 && added.is_none() {
                    *added = Some(row);
                }
            }
            for (sum, added) in sums {
                match (sum.diff, added) {
                    (0, _) if sum.print == 0 => {}
                    (1, Some(row)) if sum.print == row.carries.print => newest.push(row.place),
                    _ => return is_unique.store(false, Ordering::Relaxed),
                }
            }
        });
        is_unique.into_inner().then_some(newest)
    }
}

/// Of each row of a part the index of the first that equals it, perhaps its own, into `firsts`, which is overwritten.
fn find_firsts<T>(rows: &[Row<T>], columns: &[&[ArrayRef]], table: &mut HashTable<u32>, firsts: &mut Vec<u32>) {
    firsts.clear();
    let mut comparators: Option<Vec<DynComparator>> = None;
    for (index, row) in rows.iter().enumerate() {
        let hash = row.hash;
        let same = |other: &u32| {
            let other = *other as usize;
            let equal = |compare: &DynComparator| compare(index, other).is_eq();
            rows[other].hash == hash && comparators.get_or_insert_with(|| compare(columns, rows)).iter().all(equal)
        };
        let spread = |hash: u32| u64::from(hash) << 32 | u64::from(hash);
        match table.entry(spread(hash), same, |other| spread(rows[*other as usize].hash)) {
            Entry::Occupied(first) => firsts.push(*first.get()),
            Entry::Vacant(entry) => {
                entry.insert(index as u32);
                firsts.push(index as u32);
            }
        }
    }
    table.clear();
}

/// What compares the columns of these rows.
fn compare<T>(columns: &[&[ArrayRef]], rows: &[Row<T>]) -> Vec<DynComparator> {
    let places: Vec<(usize, usize)> = rows.iter().map(|row| (row.place.batch as usize, row.place.row as usize)).collect();
    let count = columns.first().map_or(0, |columns| columns.len());
    let compare = |column: usize| {
        let arrays: Vec<&dyn Array> = columns.iter().map(|columns| columns[column].as_ref()).collect();
        let gathered = compute::interleave(&arrays, &places).expect("rows of the batches, which are of one schema");
        make_comparator(&gathered, &gathered, SortOptions::default()).expect("columns that can be encoded can be compared")
    };
    (0..count).map(compare).collect()
}

/// Which values are equal, row by row.
pub(crate) fn same_values(left: &ArrayRef, right: &ArrayRef) -> BooleanArray {
    if !left.data_type().is_nested() {
        return not_distinct(left, right).expect("planners allow only columns that can be compared");
    }
    let compare = make_comparator(left, right, SortOptions::default()).expect("planners allow only columns that can be compared");
    BooleanArray::from_iter((0..left.len()).map(|row| Some(compare(row, row).is_eq())))
}

/// Whether two values of columns of one type are equal.
pub(crate) fn same_value(one: &ArrayRef, row: usize, other: &ArrayRef, other_row: usize) -> bool {
    let (one, other) = (one.as_ref(), other.as_ref());
    let valid = || match (one.is_valid(row), other.is_valid(other_row)) {
        (true, true) => None,
        (first, second) => Some(first == second),
    };
    match one.data_type() {
        DataType::Utf8 => {
            valid().unwrap_or_else(|| one.as_string::<i32>().value(row) == other.as_string::<i32>().value(other_row))
        }
        DataType::Boolean => valid().unwrap_or_else(|| one.as_boolean().value(row) == other.as_boolean().value(other_row)),
        _ => downcast_primitive_array! {
            (one, other) => valid().unwrap_or_else(|| one.value(row).is_eq(other.value(other_row))),
            _ => {
                let compare = make_comparator(one, other, SortOptions::default());
                compare.expect("planners allow only columns that can be compared")(row, other_row).is_eq()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;
    use crate::hash::hash_columns;

    fn equal(batches: &[Vec<ArrayRef>], hashes: &[Vec<u64>], order: Order) -> Vec<(Place, Place)> {
        let columns: Vec<&[ArrayRef]> = batches.iter().map(Vec::as_slice).collect();
        Parts::new(hashes, |_| true, order, |_, _| ()).equal(&columns, 3)
    }

    fn hashes(batches: &[Vec<ArrayRef>]) -> Vec<Vec<u64>> {
        let of = |columns: &Vec<ArrayRef>| {
            let mut hashes = Vec::new();
            hash_columns(columns, columns[0].len(), &mut hashes);
            hashes
        };
        batches.iter().map(of).collect()
    }

    #[test]
    fn rows_of_many_parts_find_the_first_or_the_last_that_equals_them() {
        let value = |batch: usize, row: usize| ((batch * 7_919 + row * 31) % 20_011) as i64;
        let column = |batch: usize| (0..9_000).map(|row| value(batch, row)).collect::<Int64Array>();
        let text = |batch: usize| (0..9_000).map(move |row| (value(batch, row) % 3 > 0).then(|| value(batch, row).to_string()));
        let batch =
            |batch: usize| -> Vec<ArrayRef> { vec![Arc::new(column(batch)), Arc::new(text(batch).collect::<StringArray>())] };
        let batches: Vec<_> = (0..7).map(batch).collect();
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let mut firsts: HashMap<i64, (u32, u32)> = HashMap::new();
            let mut places: Vec<(u32, u32)> = (0..7).flat_map(|batch| (0..9_000).map(move |row| (batch, row))).collect();
            if order == Order::NewestFirst {
                places.reverse();
            }
            let mut expected = HashMap::new();
            for (batch, row) in places {
                let first = *firsts.entry(value(batch as usize, row as usize)).or_insert((batch, row));
                if first != (batch, row) {
                    expected.insert((batch, row), first);
                }
            }
            let pair = |place: Place| (place.batch, place.row);
            let told: HashMap<_, _> =
                equal(&batches, &hashes(&batches), order).into_iter().map(|(place, first)| (pair(place), pair(first))).collect();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn of_a_key_the_newest_of_many_parts_is_found() {
        const KEYS: usize = 20_011;
        let key = |batch: usize, row: usize| (batch * 7_919 + row * 31) % KEYS;
        let numbers = |batch| (0..9_000).map(move |row| (key(batch, row) % 5 > 0).then_some(key(batch, row) as i64));
        let texts = |batch| (0..9_000).map(move |row| (key(batch, row) % 3 > 0).then(|| key(batch, row).to_string()));
        // One key in five has no number, one in three no text: together they tell keys apart, but for those that have neither.
        let columns = |batch| -> Vec<ArrayRef> {
            let whole = Int64Array::from_iter_values(
                (0..9_000).map(|row| if key(batch, row) % 15 == 0 { key(batch, row) as i64 } else { 0 }),
            );
            vec![
                Arc::new(numbers(batch).collect::<Int64Array>()),
                Arc::new(texts(batch).collect::<StringArray>()),
                Arc::new(whole),
            ]
        };
        let batches: Vec<_> = (0..20).map(columns).collect();
        let hashes = hashes(&batches);
        // Each row takes back the one before it of its key; one key in seven is gone in the end.
        let print = |batch: usize, row: usize| (batch * 10_000 + row) as u32;
        let mut places: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
        (0..20).for_each(|batch| (0..9_000).for_each(|row| places.entry(key(batch, row)).or_default().push((batch, row))));
        let mut weights = HashMap::new();
        let mut expected = Vec::new();
        for (key, of_key) in &places {
            // Added, taken back, added, ...: with an even number of rows none is left.
            let rows = if key % 7 == 0 { of_key.len() / 2 * 2 } else { (of_key.len() - 1) / 2 * 2 + 1 };
            for (number, at) in of_key[..rows].iter().enumerate() {
                let last = of_key[number / 2 * 2];
                weights.insert(*at, Weight::new(1 - 2 * (number as i64 % 2), print(last.0, last.1)));
            }
            // The rows beyond that are added and taken back at once.
            weights.extend(of_key[rows..].iter().map(|at| (*at, Weight::default())));
            expected.extend((rows % 2 == 1).then(|| of_key[rows - 1]));
        }
        let columns: Vec<&[ArrayRef]> = batches.iter().map(Vec::as_slice).collect();
        let newest = |weights: &HashMap<(usize, usize), Weight>, threads| {
            let parts = Parts::new(&hashes, |_| true, Order::NewestFirst, |batch, row| weights[&(batch, row)]);
            assert!(parts.ends.len() > PARTS_AT_ONCE);
            let newest = parts.newest(&columns, threads)?;
            let mut places: Vec<_> = newest.iter().map(|place| (place.batch as usize, place.row as usize)).collect();
            places.sort_unstable();
            Some(places)
        };
        expected.sort_unstable();
        assert_eq!(newest(&weights, 1), Some(expected.clone()));
        assert_eq!(newest(&weights, 3), Some(expected));
        // A single row that is there twice, or less than not at all, in any part.
        for diff in [2, -1, i64::MAX] {
            let mut weights = weights.clone();
            let (batch, row) = places[&(KEYS - 1)][0];
            weights.insert((batch, row), Weight::new(diff, print(batch, row)));
            assert_eq!(newest(&weights, 3), None, "{diff}");
        }
    }

    #[test]
    fn all_rows_are_of_the_key_of_no_columns() {
        let newest = |weights: &[Weight]| {
            let columns: &[ArrayRef] = &[];
            let hashes = [vec![5; weights.len()]];
            let parts = Parts::new(&hashes, |_| true, Order::NewestFirst, |_, row| weights[row]);
            parts.newest(&[columns], 1).map(|newest| newest.iter().map(|place| place.row).collect::<Vec<_>>())
        };
        let (one, other) = (|diff| Weight::new(diff, 7), |diff| Weight::new(diff, 9));
        assert_eq!(newest(&[one(1), one(-1), other(1)]), Some(vec![2]));
        assert_eq!(newest(&[one(1), other(1), one(-1)]), Some(vec![1]));
        assert_eq!(newest(&[one(1), one(-1)]), Some(vec![]));
        assert_eq!(newest(&[one(1), other(1), other(-1)]), None, "the newest is not what is left");
        assert_eq!(newest(&[one(1), other(-1)]), None);
    }

    #[test]
    fn a_hash_that_two_rows_share_does_not_make_them_equal() {
        let batch: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), None, Some(0.0), None]))];
        let told = equal(&[batch], &[vec![1; 5]], Order::OldestFirst);
        let rows: Vec<(u32, u32)> = told.iter().map(|(place, first)| (place.row, first.row)).collect();
        assert_eq!(rows, [(3, 0), (4, 2)]);
    }

    #[test]
    fn rows_without_columns_are_all_equal() {
        assert_eq!(equal(&[Vec::new()], &[vec![1; 3]], Order::OldestFirst).len(), 2);
        assert!(equal(&[], &[], Order::OldestFirst).is_empty());
    }
}
