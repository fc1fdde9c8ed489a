//! `SET state_ttl`: which keys of an operator no row touched for so long that they are forgotten.
//!
//! Time is the epoch, so a replay forgets the same. It goes in generations of an eighth of the setting; a key remembers the
//! generation in which it was touched last. With an epoch of a new generation all keys that are more than eight generations
//! old go at once, before the epoch's rows are applied: none lives for less than the setting, nor an eighth longer once its
//! operator is given an epoch. What is forgotten depends on the epochs of a key's own rows alone, so on any number of workers
//! it is the same.
//!
//! Operators give no result of it: what was given of a key stays, and a later row of the key begins anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, UInt32Array};
use arrow::datatypes::Int64Type;
use arrow_row::{RowConverter, Rows, SortField};

use super::groups::state_batch;
use super::sink::consolidate;
use crate::checkpoint::{Saved, Spread};
use crate::keys::{ABSENT, Keys};
use crate::stats::OperatorStats;
use crate::{Delta, Diff, Time};

/// Generations for which a key is kept.
const GENERATIONS: u64 = 8;

/// How long what is known of a key is kept.
#[derive(Debug, Clone)]
pub(crate) struct TimeToLive {
    ttl: Duration,
    stats: Arc<OperatorStats>,
}

impl TimeToLive {
    /// What expires is counted in `stats`.
    pub(crate) fn new(ttl: Duration, stats: Arc<OperatorStats>) -> Self {
        TimeToLive { ttl, stats }
    }

    /// Counts rows or groups that were dropped.
    pub(crate) fn expired(&self, rows: usize) {
        self.stats.expired_rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Counts retractions of rows that are not there any more.
    pub(crate) fn ignored(&self, retractions: Diff) {
        self.stats.expired_retractions.fetch_add(retractions.unsigned_abs(), Ordering::Relaxed);
    }
}

/// When each key was touched last.
pub(crate) struct Lives {
    pub(crate) ttl: TimeToLive,
    /// Milliseconds of a generation.
    span: u64,
    /// The generation of the epoch at hand.
    now: u64,
    /// By the keys' numbers.
    touched: Vec<u64>,
    /// No epoch has come yet: what there is was given at time 0, before any input.
    early: bool,
    /// What was touched since the last checkpoint, if that is to be in the next one.
    log: Option<Log>,
}

/// Touched keys that are in no checkpoint yet.
#[derive(Default)]
struct Log {
    /// Of the epoch at hand.
    numbers: Vec<u32>,
    /// Key columns and the generation in which they were touched.
    touched: Vec<Delta>,
}

impl Lives {
    /// No keys yet.
    pub(crate) fn new(ttl: TimeToLive) -> Self {
        let span = u64::try_from(ttl.ttl.as_millis()).unwrap_or(u64::MAX).div_ceil(GENERATIONS).max(1);
        Lives { ttl, span, now: 0, touched: Vec::new(), early: true, log: None }
    }

    /// From here on it is remembered what is touched.
    pub(crate) fn log(&mut self) {
        self.log = Some(Log::default());
    }

    /// All rows of an epoch were noted; its keys are still known.
    pub(crate) fn noted(&mut self, keys: &Keys) {
        let Some(log) = self.log.as_mut().filter(|log| !log.numbers.is_empty()) else { return };
        let mut numbers = std::mem::take(&mut log.numbers);
        numbers.sort_unstable();
        numbers.dedup();
        let mut columns = keys.columns(&numbers);
        columns.push(Arc::new(Int64Array::from(vec![self.now as i64; numbers.len()])));
        log.touched.push(Delta::insert(state_batch(columns, numbers.len())));
    }

    /// Puts what was touched since the last checkpoint into a table, where keys are spread as `spread` says. A key may be there
    /// once per generation; those in which nothing that is kept was touched last are freed.
    pub(crate) fn save(&mut self, table: u32, spread: Spread, saved: &mut Saved) {
        let touched = self.log.as_mut().map(|log| std::mem::take(&mut log.touched)).unwrap_or_default();
        let Some(schema) = touched.first().map(|delta| delta.rows.schema()) else { return };
        let generation = schema.fields().len() - 1;
        let over = (self.now as i64).saturating_sub(GENERATIONS as i64 + 1);
        saved.rows(table, spread, consolidate(touched, &schema), Some((generation, over)));
    }

    /// Takes back when keys were touched, as of an epoch; those that are not there are forgotten.
    pub(crate) fn load(&mut self, epoch: Time, touched: &[Delta], keys: &Keys) {
        (self.now, self.early) = (epoch / self.span, false);
        self.touched = vec![0; keys.bound()];
        let mut numbers = Vec::new();
        for delta in touched {
            let (generations, columns) = delta.rows.columns().split_last().expect("keys and a generation");
            keys.find(columns, delta.len(), &mut numbers);
            let generations = generations.as_primitive::<Int64Type>().values();
            for (number, generation) in numbers.iter().zip(generations).filter(|(number, _)| **number != ABSENT) {
                let touched = &mut self.touched[*number as usize];
                *touched = (*touched).max(*generation as u64);
            }
        }
    }

    /// Goes on to an epoch, and gives the keys that it finds expired, if there may be new ones.
    pub(crate) fn begin(&mut self, epoch: Time, keys: &Keys) -> Vec<u32> {
        let generation = epoch / self.span;
        if generation == self.now {
            self.early &= epoch == 0;
            return Vec::new();
        }
        self.now = generation;
        if std::mem::replace(&mut self.early, epoch == 0) {
            // It was made when the job began, not in 1970.
            self.touched.fill(generation);
            if let Some(log) = &mut self.log {
                log.numbers = keys.numbers();
            }
            self.noted(keys);
            return Vec::new();
        }
        let old = |number: &u32| self.touched.get(*number as usize).is_some_and(|touched| touched + GENERATIONS < generation);
        keys.numbers().into_iter().filter(old).collect()
    }

    /// Notes that rows of these keys came.
    pub(crate) fn touch(&mut self, numbers: &[u32]) {
        if let Some(log) = &mut self.log {
            log.numbers.extend(numbers);
        }
        for number in numbers {
            let number = *number as usize;
            if self.touched.len() <= number {
                self.touched.resize(number + 1, 0);
            }
            self.touched[number] = self.now;
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.touched.capacity() * size_of::<u64>()
    }
}

/// The changes of an epoch with equal rows of a key added up, without retractions of rows that are not there, and how many
/// those were. `columns` tell rows apart; `held`: of the row at this position, how many copies there are before the epoch.
pub(crate) fn netted(
    deltas: &[Delta],
    numbers: &[Vec<u32>],
    columns: &[usize],
    held: impl Fn(usize, usize) -> Diff,
) -> (Vec<(Delta, Vec<u32>)>, Diff) {
    let fields = deltas.first().map(|delta| {
        let schema = delta.rows.schema();
        columns.iter().map(|column| SortField::new(schema.field(*column).data_type().clone())).collect::<Vec<_>>()
    });
    if fields.as_ref().is_some_and(|fields| !RowConverter::supports_fields(fields)) {
        return (deltas.iter().cloned().zip(numbers.iter().cloned()).collect(), 0);
    }
    let converter = fields.filter(|fields| !fields.is_empty()).map(|fields| RowConverter::new(fields).expect("just asked for"));
    let encode = |delta: &Delta| -> Option<Rows> {
        let converter = converter.as_ref()?;
        Some(converter.convert_columns(&delta.columns(columns)).expect("the columns of the first batch"))
    };
    let encoded: Vec<Option<Rows>> = deltas.iter().map(encode).collect();
    let bytes = |(delta, row): (usize, usize)| encoded[delta].as_ref().map_or(&[][..], |rows| rows.row(row).data());
    let key = |at: (usize, usize)| (numbers[at.0][at.1], bytes(at));
    let mut places: Vec<(usize, usize)> =
        deltas.iter().enumerate().flat_map(|(index, delta)| (0..delta.len()).map(move |row| (index, row))).collect();
    places.sort_by(|one, other| key(*one).cmp(&key(*other)));
    let mut ignored = 0;
    let mut kept: Vec<Vec<(u32, Diff)>> = vec![Vec::new(); deltas.len()];
    for equal in places.chunk_by(|one, other| key(*one) == key(*other)) {
        let (delta, row) = equal[0];
        let net: Diff = equal.iter().map(|(delta, row)| deltas[*delta].diff(*row)).sum();
        let there = net.max(-held(delta, row).max(0));
        ignored += there - net;
        if there != 0 {
            kept[delta].push((row as u32, there));
        }
    }
    let rebuilt = kept.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).map(|(index, mut rows)| {
        rows.sort_unstable_by_key(|(row, _)| *row);
        let (positions, diffs): (Vec<u32>, Vec<Diff>) = rows.into_iter().unzip();
        let of_rows = positions.iter().map(|row| numbers[index][*row as usize]).collect();
        let delta = deltas[index].take(&UInt32Array::from(positions));
        (Delta { diffs: Some(Int64Array::from(diffs)), ..delta }, of_rows)
    });
    (rebuilt.collect(), ignored)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use arrow::array::ArrayRef;
    use arrow::datatypes::DataType;

    /// A time to live with its counters.
    pub(crate) fn ttl(millis: u64) -> (TimeToLive, Arc<OperatorStats>) {
        let stats = Arc::new(OperatorStats::default());
        (TimeToLive::new(Duration::from_millis(millis), Arc::clone(&stats)), stats)
    }

    /// Dropped rows and ignored retractions.
    pub(crate) fn counted(stats: &OperatorStats) -> (u64, u64) {
        (stats.expired_rows.load(Ordering::Relaxed), stats.expired_retractions.load(Ordering::Relaxed))
    }

    #[test]
    fn a_key_lives_for_the_setting_and_at_most_an_eighth_longer() {
        for offset in 0..100 {
            let (mut keys, mut numbers) = (Keys::new(&[DataType::Int64]), Vec::new());
            let mut lives = Lives::new(ttl(800).0);
            let begin = 1_000_000 + offset;
            assert!(lives.begin(begin, &keys).is_empty());
            keys.intern(&[Arc::new(Int64Array::from(vec![7])) as ArrayRef], 1, &mut numbers);
            lives.touch(&numbers);
            assert!(lives.begin(begin + 800, &keys).is_empty(), "it is not older than the setting");
            assert_eq!(lives.begin(begin + 901, &keys), [0]);
        }
    }

    #[test]
    fn what_is_there_before_any_input_lives_from_the_first_epoch_on() {
        let (mut keys, mut numbers) = (Keys::new(&[DataType::Int64]), Vec::new());
        let mut lives = Lives::new(ttl(800).0);
        assert!(lives.begin(0, &keys).is_empty());
        keys.intern(&[Arc::new(Int64Array::from(vec![7])) as ArrayRef], 1, &mut numbers);
        lives.touch(&numbers);
        assert!(lives.begin(1_000_000, &keys).is_empty(), "the job began just now");
        assert!(lives.begin(1_000_800, &keys).is_empty());
        assert_eq!(lives.begin(1_000_901, &keys), [0]);
    }
}
