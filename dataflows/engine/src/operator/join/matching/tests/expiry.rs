//! Keys that expire: against nested loops over what is there by the same rule, and what was given of keys that are not.

use super::*;
use crate::operator::join::HashJoin;
use crate::operator::lives::tests::{counted, ttl};

/// What should be there: the sides, when each key was touched, and what was given of keys that are forgotten.
#[derive(Default)]
struct Model {
    sides: [BTreeMap<Row, i64>; 2],
    touched: BTreeMap<i64, u64>,
    given: Output,
    expired: u64,
    ignored: u64,
}

impl Model {
    /// With 80 milliseconds to live a generation is ten.
    fn epoch(&mut self, epoch: u64, changes: &[Vec<(Row, i64)>; 2], kind: JoinKind, residual: bool) {
        let old: Vec<i64> =
            self.touched.iter().filter(|(_, touched)| *touched / 10 + 8 < epoch / 10).map(|(key, _)| *key).collect();
        for key in old {
            self.touched.remove(&key);
            let of_key = |rows: &mut BTreeMap<Row, i64>| rows.extract_if(.., |row, _| row.0 == Some(key)).collect();
            let sides: [BTreeMap<Row, i64>; 2] = self.sides.each_mut().map(of_key);
            self.expired += sides.iter().map(|rows| rows.len() as u64).sum::<u64>();
            for (row, count) in expected(kind, residual, false, &sides) {
                *self.given.entry(row).or_default() += count;
            }
        }
        for (side, changes) in changes.iter().enumerate() {
            let mut net: BTreeMap<Row, i64> = BTreeMap::new();
            for (row, diff) in changes {
                self.touched.insert(row.0.unwrap(), epoch);
                *net.entry(*row).or_default() += diff;
            }
            for (row, diff) in net {
                let held = self.sides[side].entry(row).or_default();
                self.ignored += (-(*held + diff)).max(0).unsigned_abs();
                *held = (*held + diff).max(0);
            }
            self.sides[side].retain(|_, count| *count > 0);
        }
    }

    fn content(&self, kind: JoinKind, residual: bool) -> Output {
        let mut content = expected(kind, residual, false, &self.sides);
        for (row, count) in &self.given {
            *content.entry(row.clone()).or_default() += count;
        }
        content
    }
}

#[test]
fn every_kind_forgets_keys_and_ignores_what_it_forgot() {
    for kind in KINDS.into_iter().chain([JoinKind::Inner]) {
        for residual in [false, true] {
            if kind == JoinKind::Inner && residual {
                continue;
            }
            for growing in [false, true] {
                check(kind, residual, growing);
            }
        }
    }
}

fn check(kind: JoinKind, residual: bool, growing: bool) {
    let (ttl, stats) = ttl(80);
    let (join, mapper, condition) = parts(kind, residual, false);
    let (schemas, only) = ([&schema(), &schema()], [growing; 2]);
    let mut logic: Box<dyn EpochLogic> = match kind {
        JoinKind::Inner => Box::new(HashJoin::new(&join, schemas, only, mapper, None).that_expires(ttl)),
        _ => Box::new(MatchingJoin::new(&join, schemas, only, mapper, condition, None).that_expires(ttl)),
    };
    // Of a side that is only counted, rows of a key are not told apart; without one they are counted when they expire.
    let counts_only = !kind.gives_pairs() && !residual;
    let (mut model, mut output, mut seed, mut epoch) = (Model::default(), Output::new(), 7, 1_000);
    for step in 0..400 {
        epoch += 1 + next(&mut seed, 30);
        let changes = [0, 1].map(|side| {
            let row = |seed: &mut u64| {
                let value = if side == 1 && counts_only { 0 } else { next(seed, 3) as i64 };
                let diff = if growing || next(seed, 3) > 0 { 1 } else { -1 };
                ((Some(next(seed, 12) as i64), value), diff)
            };
            (0..next(&mut seed, 3)).map(|_| row(&mut seed)).collect::<Vec<(Row, i64)>>()
        });
        model.epoch(epoch, &changes, kind, residual);
        let mut inputs: Vec<Vec<Delta>> = changes.iter().map(|rows| rows.iter().map(|row| delta(&[*row])).collect()).collect();
        let mut given = Vec::new();
        logic.apply(epoch, &mut inputs, None, &mut given);
        take(given, &mut output);
        assert_eq!(output, model.content(kind, residual), "{kind:?} residual={residual} growing={growing} step {step}");
    }
    let (expired, ignored) = counted(&stats);
    assert_eq!(ignored, model.ignored, "{kind:?} residual={residual}");
    assert!(expired > 100, "{kind:?}: {expired} rows expired");
    if !growing && !counts_only {
        assert_eq!(expired, model.expired, "{kind:?} residual={residual}");
    }
    logic.apply(epoch + 1_000, &mut [vec![], vec![]], None, &mut Vec::new());
    assert_eq!(logic.state().0, 0, "{kind:?}: all keys have expired");
}

#[test]
fn restored_keys_expire_as_if_nothing_had_been() {
    use crate::checkpoint::testing::{Life, Twins};
    use crate::operator::exchange::Route;
    for kind in KINDS.into_iter().chain([JoinKind::Inner]) {
        for (residual, growing) in [(false, false), (true, false), (false, true)] {
            if kind == JoinKind::Inner && residual {
                continue;
            }
            let make = || -> Box<dyn EpochLogic> {
                let (join, mapper, condition) = parts(kind, residual, false);
                let (schemas, only, ttl) = ([&schema(), &schema()], [growing; 2], ttl(80).0);
                match kind {
                    JoinKind::Inner => Box::new(HashJoin::new(&join, schemas, only, mapper, None).that_expires(ttl)),
                    _ => Box::new(MatchingJoin::new(&join, schemas, only, mapper, condition, None).that_expires(ttl)),
                }
            };
            let mut twins = Twins::new(vec![Route::ByColumns(vec![0]), Route::ByColumns(vec![0])], &make);
            let life = Life { retracts: vec![!growing; 2], keys: 12, values: 3, apart: 30, saved_max: 12 * 3 * 2 + 12 * 9 };
            let rows = |rows: &[(i64, i64, i64)]| {
                delta(&rows.iter().map(|(key, value, diff)| ((Some(*key), *value), *diff)).collect::<Vec<_>>())
            };
            assert!(life.live(&mut twins, &rows) > 100, "{kind:?}");
        }
    }
}
