//! Adds up what checkpoint after checkpoint changed in a table.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;
use highwater_plan::Micros;

use super::{Form, Piece, Spread, TableState};
use crate::equal::{Order, Parts, Place};
use crate::hash::rows_of_workers;
use crate::parallel::{cores, in_parallel};
use crate::{Delta, Diff};

/// What all these changes of a table come to, oldest first: of one form and schema. `complete`: nothing came before them, so
/// that what they come to is the table's content.
///
/// Shape: rows with multiplicities, each distinct row once; of entries one row per key, or, unless `complete`, its removal.
/// Cost:  a hash per row. Only rows that are changed again are compared, and only batches that have such are copied.
pub fn fold(changes: &[TableState], complete: bool) -> Vec<Delta> {
    added_up(&gather(changes), complete)
}

/// [`fold`] by pieces, as many as the newest changes came in that came in several and are spread as the newest are.
///
/// Cost:  another hash per row of changes that came in other pieces.
pub fn fold_pieces(changes: &[TableState], complete: bool) -> Vec<(Piece, Vec<Delta>)> {
    let Some(newest) = changes.last() else { return Vec::new() };
    let alike = changes.iter().rev().filter(|table| table.spread == newest.spread);
    let of = alike.map(|table| table.piece.of).find(|of| *of > 1).unwrap_or(1);
    let pieces = cut(changes, &newest.spread, of, 1).into_iter().enumerate();
    pieces.map(|(number, changes)| (Piece { number, of }, added_up(&changes, complete))).collect()
}

fn added_up(changes: &Changes, complete: bool) -> Vec<Delta> {
    in_larger(settle(changes, complete, true, 1).iter().map(Settled::whole).collect())
}

/// What a table has after all these changes, oldest first, which began with nothing, cut for so many workers: [`fold`] for those
/// who need not have each row only once, and who wait for it: all cores take part. Where rows were only added, nothing is
/// compared.
///
/// Shape: rows with positive multiplicities, an equal row perhaps again; of entries one row per key.
pub(super) fn content(changes: &[TableState], spread: &Spread, workers: usize) -> Vec<Vec<Delta>> {
    for_workers(changes, spread, workers, |changes, threads| {
        in_larger(in_parallel(&settle(changes, true, false, threads), threads, Settled::whole))
    })
}

/// All these changes of a table, oldest first, cut for so many workers; without rows that are no longer needed.
pub(super) fn changes_of(changes: &[TableState], spread: &Spread, workers: usize) -> Vec<Vec<Delta>> {
    for_workers(changes, spread, workers, |changes, threads| {
        let mut settled: Vec<_> = changes.deltas.iter().cloned().map(Settled::new).collect();
        if let Some((column, bound)) = changes.freed {
            settled.iter_mut().for_each(|settled| free(settled, column, bound));
        }
        in_larger(in_parallel(&settled, threads, Settled::whole))
    })
}

/// What `work` makes of each worker's changes, with at most so many threads each.
fn for_workers(
    changes: &[TableState],
    spread: &Spread,
    workers: usize,
    work: impl Fn(&Changes, usize) -> Vec<Delta> + Sync,
) -> Vec<Vec<Delta>> {
    if workers == 1 || matches!(spread, Spread::Everywhere | Spread::One) {
        return vec![work(&gather(changes), cores()); workers];
    }
    let parts = cut(changes, spread, workers, cores());
    in_parallel(&parts, cores(), |part| work(part, cores().div_ceil(workers)))
}

/// The workers' parts of changes. What is of one worker only is not looked at.
fn cut(changes: &[TableState], spread: &Spread, workers: usize, threads: usize) -> Vec<Changes> {
    let all = gather(changes);
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
    let Changes { deltas, form, freed } = changes;
    let (form, freed) = (*form, *freed);
    let Some(first) = deltas.first() else { return Vec::new() };
    let (columns, once, removals) = match form {
        Form::Rows => (first.rows.num_columns(), once, !once),
        Form::Entries { keys } => (keys, true, complete),
    };
    let nothing_goes = !once && deltas.iter().all(only_adds);
    let hashes = if nothing_goes { Vec::new() } else { in_parallel(deltas, threads, |delta| delta.hashes(columns)) };
    let keys: Vec<Vec<ArrayRef>> = deltas.iter().map(|delta| delta.rows.columns()[..columns].to_vec()).collect();
    let keys: Vec<&[ArrayRef]> = keys.iter().map(Vec::as_slice).collect();
    let mostly_go = !nothing_goes && form == Form::Rows && mostly_go(deltas);
    let contested = (!nothing_goes && !mostly_go).then(|| contested(deltas, &hashes, once, removals));
    let mut settled: Vec<_> = deltas.iter().cloned().map(Settled::new).collect();
    if mostly_go {
        let parts = Parts::new(&hashes, |_| true, Order::OldestFirst);
        let left = parts.sums(&keys, |place| settled[place.batch as usize].delta.diff(place.row as usize), threads);
        settled.iter_mut().for_each(|settled| settled.diffs = Some(vec![0; settled.delta.len()]));
        for (place, diff) in left {
            settled[place.batch as usize].diffs()[place.row as usize] = diff;
        }
    } else if let Some(contested) = contested {
        let order = if form == Form::Rows { Order::OldestFirst } else { Order::NewestFirst };
        let parts = Parts::new(&hashes, |hash| contested.has(hash), order);
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
struct Changes {
    deltas: Vec<Delta>,
    form: Form,
    /// Which rows are no longer needed.
    freed: Option<(usize, i64)>,
}

fn deltas(table: &TableState) -> impl Iterator<Item = &Delta> {
    table.changes.iter().filter(|delta| !delta.is_empty())
}

fn gather(changes: &[TableState]) -> Changes {
    let mut gathered = Changes { deltas: Vec::new(), form: Form::Rows, freed: None };
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

/// Puts small batches together, in their order: what a job got in many epochs, it is given back in few batches.
fn in_larger(deltas: Vec<Delta>) -> Vec<Delta> {
    const ROWS: usize = 8_192;
    // A column of text has 2 GiB at most.
    const BYTES: usize = 64 << 20;
    let (mut larger, mut small, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
        let size = if delta.len() < ROWS / 4 { bytes_of(&delta) } else { BYTES };
        let is_large = size >= BYTES / 4;
        if !small.is_empty() && (is_large || rows >= ROWS || bytes >= BYTES) {
            larger.push(together(&mut small));
            (rows, bytes) = (0, 0);
        }
        if is_large {
            larger.push(delta);
            continue;
        }
        (rows, bytes) = (rows + delta.len(), bytes + size);
        small.push(delta);
    }
    if !small.is_empty() {
        larger.push(together(&mut small));
    }
    larger
}

/// What a batch would take if it were copied: many are slices of one block.
fn bytes_of(delta: &Delta) -> usize {
    let sizes = delta.rows.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    sizes.map(|size| size.unwrap_or(usize::MAX / 1_024)).sum()
}

/// Empties a list that is not empty.
fn together(small: &mut Vec<Delta>) -> Delta {
    let one = if small.len() == 1 { small.pop() } else { None };
    let all = std::mem::take(small);
    one.unwrap_or_else(|| Delta::concat(&all))
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
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

    use super::*;

    fn table(form: Form, rows: &[(i64, i64, i64)], freed: Option<(usize, i64)>) -> TableState {
        let column = |of: fn(&(i64, i64, i64)) -> i64| Arc::new(rows.iter().map(of).collect::<Int64Array>()) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("k", column(|row| row.0)), ("v", column(|row| row.1))]).unwrap();
        let delta = Delta::with_diffs(batch, rows.iter().map(|row| row.2).collect());
        TableState { table: 0, form, spread: Spread::Anywhere, piece: Piece::WHOLE, changes: vec![delta], freed }
    }

    fn rows(deltas: Vec<Delta>) -> Vec<(i64, i64, i64)> {
        let mut rows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for delta in deltas {
            let column = |at: usize| delta.rows.column(at).as_primitive::<Int64Type>().clone();
            for row in 0..delta.len() {
                *rows.entry((column(0).value(row), column(1).value(row))).or_default() += delta.diff(row);
            }
        }
        rows.into_iter().map(|((key, value), diff)| (key, value, diff)).collect()
    }

    fn whole(changes: &[TableState]) -> Vec<Delta> {
        content(changes, &Spread::One, 1).remove(0)
    }

    /// What changes come to, which is also what the table has.
    fn folded(changes: &[TableState]) -> Vec<(i64, i64, i64)> {
        let folded = rows(fold(changes, true));
        assert_eq!(rows(whole(changes)), folded);
        assert_eq!(rows(content(changes, &Spread::Anywhere, 3).concat()), folded, "in parts");
        folded
    }

    #[test]
    fn rows_add_up_and_those_that_were_freed_are_gone() {
        let first = table(Form::Rows, &[(1, 10, 1), (2, 20, 2), (3, 30, 1)], Some((1, 5)));
        let second = table(Form::Rows, &[(1, 10, -1), (2, 20, 1), (4, 40, 1)], None);
        assert_eq!(folded(&[first.clone(), second.clone()]), [(2, 20, 3), (3, 30, 1), (4, 40, 1)]);
        let third = table(Form::Rows, &[], Some((1, 30)));
        assert_eq!(folded(&[first, second, third]), [(4, 40, 1)]);
    }

    #[test]
    fn of_entries_the_last_counts() {
        let form = Form::Entries { keys: 1 };
        let first = table(form, &[(1, 10, 1), (2, 20, 1)], None);
        let second = table(form, &[(1, 0, -1), (2, 21, 1), (3, 30, 1), (3, 0, -1), (3, 31, 1)], None);
        assert_eq!(folded(&[first, second.clone()]), [(2, 21, 1), (3, 31, 1)]);
        let rest = fold(&[second], false);
        assert_eq!((rest[0].len(), (0..3).map(|row| rest[0].diff(row)).sum::<i64>()), (3, 1), "a removal is kept");
        let unit = Form::Entries { keys: 0 };
        assert_eq!(folded(&[table(unit, &[(1, 1, 1)], None), table(unit, &[(1, 2, 1)], None)]), [(1, 2, 1)]);
    }

    #[test]
    fn the_content_is_what_changes_come_to() {
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as i64
        };
        for _ in 0..300 {
            let (mut kept, mut changes) = (BTreeMap::new(), Vec::new());
            let form = if random(2) == 0 { Form::Rows } else { Form::Entries { keys: 1 } };
            for _ in 0..1 + random(7) {
                let mut rows = Vec::new();
                for _ in 0..random(20) {
                    let (key, value) = (random(30), random(3));
                    let had: i64 = *kept.get(&(key, value)).unwrap_or(&0);
                    match random(3) {
                        0 if form == Form::Rows && had == 0 => continue,
                        0 => rows.push((key, value, -1)),
                        _ => rows.push((key, value, 1)),
                    }
                    *kept.entry((key, value)).or_default() += rows[rows.len() - 1].2;
                }
                let freed = (random(4) == 0).then_some((0, random(10)));
                changes.push(table(form, &rows, freed));
            }
            let content = folded(&changes);
            assert!(content.iter().all(|row| row.2 > 0), "{content:?}");
            if form == Form::Rows && changes.iter().all(|table| table.freed.is_none()) {
                kept.retain(|_, times| *times != 0);
                assert_eq!(content, kept.into_iter().map(|((key, value), times)| (key, value, times)).collect::<Vec<_>>());
            }
        }
    }

    /// What workers of a job on so many would have of a table, each its piece.
    fn in_pieces(table: &TableState, of: usize) -> Vec<TableState> {
        let parts = cut(std::slice::from_ref(table), &table.spread, of, 1).into_iter().enumerate();
        parts.map(|(number, part)| TableState { piece: Piece { number, of }, changes: part.deltas, ..table.clone() }).collect()
    }

    #[test]
    fn pieces_of_jobs_on_other_numbers_of_workers_come_to_the_same() {
        for form in [Form::Rows, Form::Entries { keys: 1 }] {
            let step = |from: i64, taken: i64| {
                let gone = (taken..from).map(|key| (key, key, -1));
                let came = (from..from + 300).map(|key| (key, key, 1));
                TableState { spread: Spread::ByColumns(vec![0]), ..table(form, &gone.chain(came).collect::<Vec<_>>(), None) }
            };
            let steps = [step(0, 0), step(300, 200), step(600, 550)];
            let whole = rows(fold(&steps, true));
            assert_eq!(whole.len(), 750, "{form:?}");
            for of in [[2, 2, 2], [1, 4, 4], [4, 2, 1], [2, 3, 1], [3, 2, 4]] {
                let changes: Vec<_> = steps.iter().zip(of).flat_map(|(step, of)| in_pieces(step, of)).collect();
                let folded = fold_pieces(&changes, true);
                let newest = of.into_iter().rev().find(|of| *of > 1).unwrap();
                assert_eq!(folded.iter().map(|(piece, _)| *piece).collect::<Vec<_>>(), {
                    (0..newest).map(|number| Piece { number, of: newest }).collect::<Vec<_>>()
                });
                for (piece, deltas) in &folded {
                    assert!(deltas.iter().all(|delta| rows_of(delta, &[0], piece.of)[piece.number].len() == delta.len()));
                }
                assert_eq!(rows(folded.into_iter().flat_map(|(_, deltas)| deltas).collect()), whole, "{of:?}");
                for workers in 1..=4 {
                    let parts = content(&changes, &Spread::ByColumns(vec![0]), workers);
                    for (worker, deltas) in parts.iter().enumerate() {
                        assert!(deltas.iter().all(|delta| rows_of(delta, &[0], workers)[worker].len() == delta.len()));
                    }
                    assert_eq!(rows(parts.concat()), whole, "{of:?} for {workers}");
                }
            }
        }
    }

    #[test]
    fn a_table_that_is_spread_anew_is_folded_as_it_is_spread_now() {
        let of = |first: i64, spread| {
            let rows: Vec<_> = (first..first + 300).map(|key| (key, key, 1)).collect();
            TableState { spread, ..table(Form::Rows, &rows, None) }
        };
        let by_columns = Spread::ByColumns(vec![0]);
        let folded = |changes: Vec<TableState>| {
            let (pieces, deltas): (Vec<Piece>, Vec<_>) = fold_pieces(&changes, true).into_iter().unzip();
            assert_eq!(rows(deltas.concat()), (0..600).map(|key| (key, key, 1)).collect::<Vec<_>>());
            pieces
        };
        let pieces = in_pieces(&of(0, by_columns.clone()), 4);
        assert_eq!(folded([pieces, vec![of(300, Spread::Anywhere)]].concat()), [Piece::WHOLE]);
        let pieces = in_pieces(&of(300, by_columns), 2);
        let both = [Piece { number: 0, of: 2 }, Piece { number: 1, of: 2 }];
        assert_eq!(folded([vec![of(0, Spread::Anywhere)], pieces].concat()), both);
    }

    #[test]
    fn what_is_of_one_worker_is_not_copied() {
        let many: Vec<(i64, i64, i64)> = (0..9_000).map(|key| (key, 1, 1)).collect();
        let table = TableState { spread: Spread::ByColumns(vec![0]), ..table(Form::Rows, &many, None) };
        let address = |delta: &Delta| delta.rows.column(0).to_data().buffers()[0].as_ptr();
        let pieces = in_pieces(&table, 4);
        let given = changes_of(&pieces, &table.spread, 2);
        for (worker, deltas) in given.iter().enumerate() {
            let of = pieces.iter().filter(|piece| piece.piece.number % 2 == worker).flat_map(|piece| &piece.changes);
            assert_eq!(deltas.iter().map(address).collect::<Vec<_>>(), of.map(address).collect::<Vec<_>>());
        }
    }

    #[test]
    fn batches_are_put_together_by_rows_and_bytes() {
        let of = |rows: usize, bytes: usize| {
            let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| "x".repeat(bytes / rows))));
            Delta::insert(RecordBatch::try_from_iter([("t", text)]).unwrap())
        };
        let sizes = |deltas: Vec<Delta>| in_larger(deltas).iter().map(Delta::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..100).map(|_| of(100, 1_000)).collect()), [8_200, 1_800]);
        assert_eq!(sizes(vec![of(10, 100), of(5_000, 50_000), of(10, 100)]), [10, 5_000, 10]);
        let together = sizes((0..20).map(|_| of(1, 9 << 20)).collect());
        assert!(together.iter().all(|rows| (4..=8).contains(rows)), "some 64 MiB each: {together:?}");
        assert_eq!(sizes(vec![of(10, 100), of(2, 40 << 20), of(10, 100)]), [10, 2, 10]);
        // Slices of a large batch are no larger for that.
        let block = of(10_000, 100 << 20).rows;
        assert_eq!(sizes((0..50).map(|at| Delta::insert(block.slice(at * 10, 10))).collect()), [500]);
    }

    #[test]
    fn batches_that_nothing_was_taken_from_are_not_copied() {
        let many: Vec<(i64, i64, i64)> = (0..9_000).map(|key| (key, 1, 1)).collect();
        let first = table(Form::Rows, &many, None);
        let second = table(Form::Rows, &[(9_001, 1, 1), (9_001, 1, -1), (9_002, 1, 1)], None);
        let had = whole(&[first.clone(), second]);
        assert_eq!(
            had[0].rows.column(0).to_data().buffers()[0].as_ptr(),
            first.changes[0].rows.column(0).to_data().buffers()[0].as_ptr()
        );
        assert_eq!(had.iter().map(Delta::len).sum::<usize>(), 9_001);
    }

    #[test]
    fn a_table_whose_rows_mostly_went_is_added_up_as_any_other() {
        let steps: Vec<_> = (0..40_i64)
            .map(|step| {
                let taken = (0..50).map(|key| (key, step * 50 + key - 50, -1)).filter(|_| step > 0);
                table(Form::Rows, &taken.chain((0..50).map(|key| (key, step * 50 + key, 1))).collect::<Vec<_>>(), None)
            })
            .collect();
        let deltas: Vec<Delta> = steps.iter().flat_map(|step| step.changes.clone()).collect();
        assert!(mostly_go(&deltas) && !mostly_go(&deltas[..1]));
        let last: Vec<_> = (0..50).map(|key| (key, 39 * 50 + key, 1)).collect();
        assert_eq!(rows(whole(&steps)), last);
        assert_eq!(rows(fold(&steps, true)), last);
        let later = rows(fold(&steps[1..], false));
        let taken = (0..50).map(|key| (key, key, -1));
        let mut expected: Vec<_> = taken.chain(last).collect();
        expected.sort_unstable();
        assert_eq!(later, expected, "of what nothing is known but that it went");
    }
}
