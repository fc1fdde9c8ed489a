//! Adds up what checkpoint after checkpoint changed in a table.

mod larger;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;
use highwater_plan::Micros;

use self::larger::in_larger;
use super::{Form, Piece, Spread, TableState};
use crate::equal::{Order, Parts, Place, Weight};
use crate::hash::{hash_columns, rows_of_workers};
use crate::parallel::{cores, in_parallel};
use crate::{Delta, Diff};

/// What all these changes of a table come to, oldest first: of one form and schema. `complete`: nothing came before them, so
/// that what they come to is the table's content.
///
/// Shape: rows with multiplicities, each distinct row once; of entries one row per key, or, unless `complete`, its removal.
/// Cost:  a hash per row. Only rows that are changed again are compared, and only batches that have such are copied.
pub fn fold(changes: &[TableState], complete: bool) -> Vec<Delta> {
    added_up(&gather(changes, None), complete)
}

/// [`fold`] by pieces, as many as the newest changes came in that came in several and are spread as the newest are.
///
/// Cost:  another hash per row of changes that came in other pieces.
pub fn fold_pieces(changes: &[TableState], complete: bool) -> Vec<(Piece, Vec<Delta>)> {
    let Some(newest) = changes.last() else { return Vec::new() };
    let alike = changes.iter().rev().filter(|table| table.spread == newest.spread);
    let of = alike.map(|table| table.piece.of).find(|of| *of > 1).unwrap_or(1);
    let pieces = cut(changes, None, &newest.spread, of, 1).into_iter().enumerate();
    pieces.map(|(number, changes)| (Piece { number, of }, added_up(&changes, complete))).collect()
}

fn added_up(changes: &Changes, complete: bool) -> Vec<Delta> {
    in_larger(settle(changes, complete, true, 1).iter().map(Settled::whole).collect())
}

/// What a table has after all these changes, oldest first, which began with nothing, cut for so many workers: [`fold`] for those
/// who need not have each row only once, and who wait for it: all cores take part. Where rows were only added, nothing is
/// compared; where many were taken back, of a table with a unique key ([`KeptOperator::unique_key`](super::KeptOperator::unique_key)),
/// only that, for another hash per row.
///
/// Shape: rows with positive multiplicities, an equal row perhaps again; of entries one row per key.
pub(super) fn content(changes: &[TableState], unique_key: Option<&[usize]>, spread: &Spread, workers: usize) -> Vec<Vec<Delta>> {
    for_workers(changes, unique_key, spread, workers, |changes, threads| {
        in_larger(in_parallel(&settle(changes, true, false, threads), threads, Settled::whole))
    })
}

/// All these changes of a table, oldest first, cut for so many workers; without rows that are no longer needed.
pub(super) fn changes_of(changes: &[TableState], spread: &Spread, workers: usize) -> Vec<Vec<Delta>> {
    for_workers(changes, None, spread, workers, |changes, threads| {
        let mut settled: Vec<_> = changes.deltas.iter().cloned().map(Settled::new).collect();
        if let Some((column, bound)) = changes.freed {
            settled.iter_mut().for_each(|settled| free(settled, column, bound));
        }
        in_larger(in_parallel(&settled, threads, Settled::whole))
    })
}

/// What `work` makes of each worker's part of these changes, with at most so many threads each.
fn for_workers(
    changes: &[TableState],
    unique_key: Option<&[usize]>,
    spread: &Spread,
    workers: usize,
    work: impl Fn(&Changes, usize) -> Vec<Delta> + Sync,
) -> Vec<Vec<Delta>> {
    if workers == 1 || matches!(spread, Spread::Everywhere | Spread::One) {
        return vec![work(&gather(changes, unique_key), cores()); workers];
    }
    let parts = cut(changes, unique_key, spread, workers, cores());
    in_parallel(&parts, cores(), |part| work(part, cores().div_ceil(workers)))
}

/// The workers' parts of these changes. What is of one worker only is not looked at.
fn cut<'a>(
    changes: &[TableState],
    unique_key: Option<&'a [usize]>,
    spread: &Spread,
    workers: usize,
    threads: usize,
) -> Vec<Changes<'a>> {
    let all = gather(changes, unique_key);
    // What was spread by other columns is of no piece here.
    let piece = |table: &TableState| if table.spread == *spread { table.piece } else { Piece::WHOLE };
    let pieces = changes.iter().flat_map(|table| deltas(table).map(move |_| piece(table)));
    let pieces: Vec<(Piece, &Delta)> = pieces.zip(&all.deltas).collect();
    let none = || Changes { deltas: Vec::new(), ..all };
    let mut parts: Vec<Changes> = (0..workers).map(|_| none()).collect();
    let by = match (spread, all.form) {
        (Spread::ByColumns(columns), _) => columns.clone(),
        // Changes of an entry stay together.
        (_, Form::Entries { keys }) => (0..keys).collect(),
        (_, Form::Rows) => all.deltas.first().map_or(Vec::new(), |delta| (0..delta.rows.num_columns()).collect()),
    };
    let cut = in_parallel(&pieces, threads, |(piece, delta)| match piece.worker(workers) {
        Some(worker) => vec![(worker, Delta::clone(delta))],
        None => parts_of(delta, &by, workers),
    });
    for (worker, delta) in cut.into_iter().flatten() {
        debug_assert!(workers == 1 || rows_of(&delta, &by, workers)[worker].len() == delta.len(), "{spread:?} {worker}");
        parts[worker].deltas.push(delta);
    }
    parts
}

/// Per worker that has any, its rows: those whose hash of these columns is its.
fn parts_of(delta: &Delta, by: &[usize], workers: usize) -> Vec<(usize, Delta)> {
    let part = |(worker, rows): (usize, Vec<u32>)| match rows.len() {
        0 => None,
        all if all == delta.len() => Some((worker, delta.clone())),
        _ => Some((worker, delta.take(&rows.into()))),
    };
    rows_of(delta, by, workers).into_iter().enumerate().filter_map(part).collect()
}

fn rows_of(delta: &Delta, by: &[usize], workers: usize) -> Vec<Vec<u32>> {
    rows_of_workers(&delta.columns(by), delta.len(), workers, &mut Vec::new())
}

/// Some changes, and what became of them.
struct Settled {
    delta: Delta,
    /// Per row the multiplicity that is left of it; `None`: all are as they were.
    diffs: Option<Vec<Diff>>,
}

impl Settled {
    fn new(delta: Delta) -> Self {
        Settled { delta, diffs: None }
    }

    fn diffs(&mut self) -> &mut Vec<Diff> {
        self.diffs.get_or_insert_with(|| self.delta.to_diffs())
    }

    /// What is left.
    fn whole(&self) -> Delta {
        let Some(diffs) = &self.diffs else { return self.delta.clone() };
        let rows = match diffs.contains(&0) {
            false => self.delta.rows.clone(),
            true => {
                let kept = BooleanBuffer::collect_bool(diffs.len(), |row| diffs[row] != 0);
                Delta::insert(self.delta.rows.clone()).filter(&kept).rows
            }
        };
        of_diffs(rows, diffs.iter().copied().filter(|diff| *diff != 0))
    }
}

fn of_diffs(rows: RecordBatch, diffs: impl Iterator<Item = Diff> + Clone) -> Delta {
    let adds_one = diffs.clone().all(|diff| diff == 1);
    Delta::of(rows, (!adds_one).then(|| Int64Array::from_iter_values(diffs)))
}

/// Adds changes up, with at most so many threads. `once`: each distinct row is given once.
fn settle(changes: &Changes, complete: bool, once: bool, threads: usize) -> Vec<Settled> {
    let Changes { ref deltas, form, freed, .. } = *changes;
    let Some(first) = deltas.first() else { return Vec::new() };
    let (columns, once, removals) = match form {
        Form::Rows => (first.rows.num_columns(), once, !once),
        Form::Entries { keys } => (keys, true, complete),
    };
    let nothing_goes = !once && deltas.iter().all(only_adds);
    let mostly_go = !nothing_goes && form == Form::Rows && mostly_go(deltas);
    let newest = if mostly_go { newest(changes, threads) } else { None };
    let needs_hashes = !nothing_goes && newest.is_none();
    let hashes = if needs_hashes { in_parallel(deltas, threads, |delta| delta.hashes(columns)) } else { Vec::new() };
    let keys: Vec<Vec<ArrayRef>> = deltas.iter().map(|delta| delta.rows.columns()[..columns].to_vec()).collect();
    let keys: Vec<&[ArrayRef]> = keys.iter().map(Vec::as_slice).collect();
    let contested = (!nothing_goes && !mostly_go).then(|| contested(deltas, &hashes, once, removals));
    let mut settled: Vec<_> = deltas.iter().cloned().map(Settled::new).collect();
    if mostly_go {
        let left = newest.unwrap_or_else(|| {
            let diff = |batch: usize, row: usize| deltas[batch].diff(row);
            Parts::new(&hashes, |_| true, Order::OldestFirst, diff).sums(&keys, threads)
        });
        settled.iter_mut().for_each(|settled| settled.diffs = Some(vec![0; settled.delta.len()]));
        for (place, diff) in left {
            settled[place.batch as usize].diffs()[place.row as usize] = diff;
        }
    } else if let Some(contested) = contested {
        let order = if form == Form::Rows { Order::OldestFirst } else { Order::NewestFirst };
        let parts = Parts::new(&hashes, |hash| contested.has(hash), order, |_, _| ());
        let mut replace = |place: Place, diff: &dyn Fn(Diff) -> Diff| {
            let of = &mut settled[place.batch as usize].diffs()[place.row as usize];
            std::mem::replace(of, diff(*of))
        };
        for (place, first) in parts.equal(&keys, threads) {
            let diff = replace(place, &|_| 0);
            if form == Form::Rows {
                replace(first, &|sum| sum + diff);
            }
        }
    }
    for settled in &mut settled {
        if !only_adds(&settled.delta) {
            // Rows that are there no times are nothing, and neither are removals of what nothing is left of.
            let diffs = settled.diffs();
            if form != Form::Rows && complete {
                diffs.iter_mut().for_each(|diff| *diff = (*diff).max(0));
            }
        }
        if let Some((column, bound)) = freed {
            free(settled, column, bound);
        }
    }
    settled
}

/// Of a table with a [unique key](Changes::unique_key) what is left, each row once: a key's newest, for which others need not be
/// compared. `None` if there is no such key, or if it does not hold.
fn newest(changes: &Changes, threads: usize) -> Option<Vec<(Place, Diff)>> {
    let key = changes.unique_key?;
    let hashes = in_parallel(&changes.deltas, threads, |delta| {
        let mut hashes = Vec::new();
        hash_columns(&delta.columns(key), delta.len(), &mut hashes);
        let prints: Vec<u32> = delta.hashes(delta.rows.num_columns()).iter().map(|hash| *hash as u32).collect();
        (hashes, prints)
    });
    let (hashes, prints): (Vec<_>, Vec<_>) = hashes.into_iter().unzip();
    let diffs: Vec<Option<&[Diff]>> = changes.deltas.iter().map(Delta::diff_values).collect();
    let weight = |batch: usize, row: usize| Weight::new(diffs[batch].map_or(1, |diffs| diffs[row]), prints[batch][row]);
    let parts = Parts::new(&hashes, |_| true, Order::NewestFirst, weight);
    drop((hashes, prints));
    let keys: Vec<Vec<ArrayRef>> = changes.deltas.iter().map(|delta| delta.columns(key)).collect();
    let keys: Vec<&[ArrayRef]> = keys.iter().map(Vec::as_slice).collect();
    let newest = parts.newest(&keys, threads)?;
    Some(newest.into_iter().map(|place| (place, 1)).collect())
}

/// Whether so many are taken back that it is not worth asking which of the others are.
fn mostly_go(deltas: &[Delta]) -> bool {
    let rows: usize = deltas.iter().map(Delta::len).sum();
    let gone = |diffs: &[Diff]| diffs.iter().filter(|diff| **diff < 0).count();
    4 * deltas.iter().filter_map(Delta::diff_values).map(gone).sum::<usize>() >= rows
}

/// The hashes of rows that say what became of others, and some more; all rows of such a hash are compared.
fn contested(deltas: &[Delta], hashes: &[Vec<u64>], once: bool, removals: bool) -> Hashes {
    let rows: usize = hashes.iter().map(Vec::len).sum();
    let says = |diff: Diff| diff == 0 || (removals && diff < 0);
    let count = match once {
        true => rows,
        false => deltas.iter().flat_map(Delta::diff_values).flatten().filter(|diff| says(**diff)).count(),
    };
    let (mut contested, mut seen) = (Hashes::of(count), Hashes::of(if once { rows } else { 0 }));
    for (delta, hashes) in deltas.iter().zip(hashes) {
        if let Some(diffs) = delta.diff_values() {
            for (hash, _) in hashes.iter().zip(diffs).filter(|(_, diff)| says(**diff)) {
                contested.insert(*hash);
            }
        }
        if once {
            for hash in hashes {
                if !seen.insert(*hash) {
                    contested.insert(*hash);
                }
            }
        }
    }
    contested
}

/// What is to be added up.
struct Changes<'a> {
    deltas: Vec<Delta>,
    form: Form,
    /// Which rows are no longer needed.
    freed: Option<(usize, i64)>,
    /// Of rows, some columns: at the end of each epoch no two rows agreed in all of them. As in
    /// [`KeptOperator::unique_key`](super::KeptOperator::unique_key).
    unique_key: Option<&'a [usize]>,
}

fn deltas(table: &TableState) -> impl Iterator<Item = &Delta> {
    table.changes.iter().filter(|delta| !delta.is_empty())
}

fn gather<'a>(changes: &[TableState], unique_key: Option<&'a [usize]>) -> Changes<'a> {
    let mut gathered = Changes { deltas: Vec::new(), form: Form::Rows, freed: None, unique_key };
    for table in changes {
        gathered.deltas.extend(deltas(table).cloned());
        gathered.form = table.form;
        gathered.freed = later(gathered.freed, table.freed);
    }
    gathered
}

/// Takes away the rows whose value in a column is at most `bound`.
fn free(settled: &mut Settled, column: usize, bound: i64) {
    let column = settled.delta.rows.column(column);
    let freed = |value: &dyn Fn(usize) -> i64| -> Vec<usize> {
        (0..column.len()).filter(|row| column.is_valid(*row) && value(*row) <= bound).collect()
    };
    let freed = match column.as_primitive_opt::<Int64Type>() {
        Some(integers) => freed(&|row| integers.value(row)),
        None => {
            let times = Micros::new(column).expect("operators free rows by integers and timestamps");
            freed(&|row| times.value(row))
        }
    };
    if !freed.is_empty() {
        let diffs = settled.diffs();
        freed.into_iter().for_each(|row| diffs[row] = 0);
    }
}

fn only_adds(delta: &Delta) -> bool {
    delta.diff_values().is_none_or(|diffs| diffs.iter().all(|diff| *diff > 0))
}

/// A set of hashes that may have some more than were put into it: a Bloom filter of which each hash reads one word.
///
/// Source: Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007.
struct Hashes(Vec<u64>);

impl Hashes {
    /// For so many: of others it has one in a hundred, about.
    fn of(count: usize) -> Self {
        Hashes(vec![0; (count / 4).next_power_of_two()])
    }

    /// The word and three of its bits.
    fn place(&self, hash: u64) -> (usize, u64) {
        let bits = 1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63);
        // Some bits in the middle are the same in all rows of a worker.
        (((hash >> 18) ^ (hash >> 40)) as usize & (self.0.len() - 1), bits)
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.0[word] & bits == bits
    }

    /// Whether it was not there.
    fn insert(&mut self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        let is_new = self.0[word] & bits != bits;
        self.0[word] |= bits;
        is_new
    }
}

/// Workers free at the same watermark, and a later checkpoint has freed what an earlier one did.
fn later(one: Option<(usize, i64)>, other: Option<(usize, i64)>) -> Option<(usize, i64)> {
    match (one, other) {
        (Some((column, one)), Some((_, other))) => Some((column, one.max(other))),
        (one, other) => other.or(one),
    }
}

#[cfg(test)]
mod tests;
