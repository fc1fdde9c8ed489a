//! What changes concern is computed anew, and compared with what was given.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow_row::RowConverter;
use highwater_plan::Emit;

use super::{Change, Changes, Given, Moment, Partition, Table};
use crate::Diff;
use crate::operator::over::evaluate::{Prepared, Results, Source, Stretch, Way};
use crate::operator::over::frames::{Ranges, concerned};

impl Table {
    /// Computes anew what changes concern and what has become final, and gives the differences.
    pub(super) fn renew(&mut self, touched: &BTreeSet<u32>, moment: Option<Moment>) -> Changes {
        let finals = self.finals(touched, moment);
        let mut counts: HashMap<u32, (usize, usize)> = HashMap::new();
        for change in self.changed.iter().filter(|change| change.row != u32::MAX) {
            let (came, went) = counts.entry(change.partition).or_default();
            *(if change.came { came } else { went }) += 1;
        }
        let stretches = self.stretches(&finals, &counts);
        let mut listed = Listed::default();
        // What went.
        let mut gone: HashSet<u32> = HashSet::new();
        for change in self.changed.iter().filter(|change| !change.came && change.row != u32::MAX) {
            if gone.insert(change.row)
                && let Some(given) = self.given[change.row as usize].take()
            {
                listed.give(change.partition, change.row, given.output, -1, self.failing.remove(&change.row));
            }
        }
        // What is no more final.
        for (partition, finals) in &finals {
            let Partition { list, given, .. } = &self.partitions[*partition as usize];
            let came = counts.get(partition).map_or(0, |counts| counts.0);
            if moment.is_some() && self.shared.plan.emit == Emit::Final && given + came > *finals {
                let rows: Vec<u32> = list.iter_from(*finals).take(given + came - finals).collect();
                for row in rows {
                    self.note_change(*partition, row);
                    if let Some(given) = self.given[row as usize].take() {
                        listed.give(*partition, row, given.output, -1, self.failing.remove(&row));
                    }
                }
            }
        }
        self.compute(&stretches, &mut listed);
        for (partition, finals) in &finals {
            self.partitions[*partition as usize].given = *finals;
        }
        let changes = self.gathered(&listed);
        if let Some(moment) = moment.filter(|_| self.shared.by_time()) {
            finals.iter().for_each(|(partition, _)| self.forget(*partition, moment));
        }
        self.changed.clear();
        self.finish(touched.iter().copied().collect());
        changes
    }

    /// Of each partition how many of its first rows are to be given.
    pub(super) fn finals(&self, touched: &BTreeSet<u32>, moment: Option<Moment>) -> Vec<(u32, usize)> {
        let of = |partition: &u32| {
            let list = &self.partitions[*partition as usize].list;
            let count = match moment.filter(|_| self.shared.by_time() && self.shared.plan.emit == Emit::Final) {
                Some(moment) => self.final_at(*partition, moment.watermark),
                None => list.len(),
            };
            (*partition, count)
        };
        touched.iter().map(of).collect()
    }

    /// The rows whose results are to be computed.
    fn stretches(&self, finals: &[(u32, usize)], counts: &HashMap<u32, (usize, usize)>) -> Vec<Stretch> {
        let changes: Vec<Change> = self.changed.iter().copied().filter(|change| change.row != u32::MAX).collect();
        let rows: Vec<u32> = changes.iter().map(|change| change.row).collect();
        let calls = &self.shared.plan.calls;
        let ranges: Vec<Option<Ranges>> = calls.iter().map(|call| self.shared.ranges(call, &self.rows, &rows, true)).collect();
        let mut parts: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
        for (index, change) in changes.iter().enumerate() {
            let of = self.ordered(change.partition);
            let key = self.rows.key(change.row);
            // Copies stand beside each other: the last ones come and go, and what is behind all of them moves.
            let end = of.list.partition_point(|row| self.rows.compare(row, key).is_le());
            let position = match change.came {
                true => of.list.partition_point(|row| self.rows.compare(row, key).is_lt()),
                false => end,
            };
            let part = parts.entry(change.partition).or_default();
            for (call, ranges) in calls.iter().zip(&ranges) {
                let ranges = ranges.as_ref().map(|ranges| (ranges, index));
                let first = concerned(call, of, position, ranges);
                let last = concerned(call, of, end, ranges);
                part.push((first.0, last.1.max(first.1)));
            }
            if change.came {
                part.push((position, end));
            }
        }
        let mut stretches = Vec::new();
        let mut at = 0;
        for (partition, finals) in finals {
            let mut part = parts.remove(partition).unwrap_or_default();
            let went = counts.get(partition).map_or(0, |counts| counts.1);
            let Partition { given, closed, .. } = &self.partitions[*partition as usize];
            let before = given.saturating_sub(went);
            if self.shared.plan.emit == Emit::Final && before < *finals {
                part.push((before, *finals));
            }
            part.sort_unstable();
            let mut last: Option<(usize, usize)> = None;
            let mut add = |(lo, hi): (usize, usize)| {
                let from = lo.saturating_sub(1);
                stretches.push(Stretch { partition: *partition, from, lo, hi, at });
                at += hi - from;
            };
            for (lo, hi) in part {
                let (lo, hi) = (lo.max(*closed), hi.min(*finals));
                if lo >= hi {
                    continue;
                }
                last = Some(match last {
                    Some((first, end)) if lo <= end => (first, end.max(hi)),
                    Some(done) => {
                        add(done);
                        (lo, hi)
                    }
                    None => (lo, hi),
                });
            }
            last.into_iter().for_each(&mut add);
        }
        stretches
    }

    /// Computes stretches and lists what differs from what was given.
    fn compute(&mut self, stretches: &[Stretch], listed: &mut Listed) {
        if stretches.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let flat: Vec<(u32, u32)> = stretches
            .iter()
            .flat_map(|stretch| {
                let list = &self.partitions[stretch.partition as usize].list;
                list.iter_from(stretch.from).take(stretch.hi - stretch.from).map(|row| (stretch.partition, row))
            })
            .collect();
        let rows: Vec<u32> = flat.iter().map(|(_, row)| *row).collect();
        let leading: Vec<u32> = stretches.iter().filter(|stretch| stretch.leads()).map(|stretch| rows[stretch.at]).collect();
        let seeds = self.seeds(&leading);
        let mut pool = std::mem::take(&mut self.pool);
        let lists = |partition: u32| &self.partitions[partition as usize].list;
        let source = Source { lists: &lists, rows: &self.rows, stretches };
        let reads: Vec<_> = shared
            .calls
            .iter()
            .map(|call| {
                let ranges = shared.ranges(&call.call, &self.rows, &rows, false);
                source.reads(call, ranges.as_ref(), &mut pool)
            })
            .collect();
        let read: HashSet<usize> = shared.calls.iter().flat_map(Prepared::columns).collect();
        let pooled = match read.is_empty() {
            true => Vec::new(),
            false => self.rows.columns(&pool.rows, &self.keys.columns(&pool.partitions)),
        };
        let columns = |column: usize| ArrayRef::clone(&pooled[column]);
        let (mut outputs, mut states, mut failed) = (Vec::new(), Vec::new(), HashMap::<usize, Vec<&'static str>>::new());
        let mut from = 0;
        for (call, reads) in shared.calls.iter().zip(&reads) {
            // A ranking goes on from its result, too.
            let mut seed: Vec<ArrayRef> = seeds.1[from..from + call.states.len()].to_vec();
            if call.way == Way::Ranked {
                seed.push(ArrayRef::clone(&seeds.0[outputs.len()]));
            }
            from += call.states.len();
            let Results { values, states: kept, failed: wrong } = source.results(call, reads, &columns, &shared.input, &seed);
            outputs.push(values);
            states.extend(kept);
            wrong.into_iter().for_each(|(row, reason)| failed.entry(row).or_default().push(reason));
        }
        pool.clear();
        self.pool = pool;
        let outputs = shared.outputs.convert_columns(&outputs).expect("results have the types that the planner gave them");
        let states = shared.states.as_ref().map(|converter| converter.convert_columns(&states).expect("states have their types"));
        for stretch in stretches {
            let places = stretch.at + stretch.lo - stretch.from..stretch.at + stretch.hi - stretch.from;
            for (place, (partition, row)) in places.clone().zip(flat[places].iter().copied()) {
                let output = outputs.row(place).data();
                let state: Box<[u8]> = states.as_ref().map_or(Box::from([]), |states| Box::from(states.row(place).data()));
                let wrong = failed.remove(&place);
                self.note_change(partition, row);
                let old = self.given[row as usize].take();
                if let Some(mut given) = old {
                    if *given.output == *output && self.failing.get(&row) == wrong.as_ref() {
                        given.state = state;
                        self.given[row as usize] = Some(given);
                        continue;
                    }
                    listed.give(partition, row, given.output, -1, self.failing.remove(&row));
                }
                listed.give(partition, row, Box::from(output), 1, wrong.clone());
                if let Some(wrong) = wrong {
                    self.failing.insert(row, wrong);
                }
                self.given[row as usize] = Some(Given { output: Box::from(output), state });
            }
        }
    }

    /// What was kept with these rows: results, and states of all calls.
    fn seeds(&self, leading: &[u32]) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
        let given = |row: &u32| self.given[*row as usize].as_ref().expect("what stands before a stretch was given");
        let decoded = |converter: &RowConverter, bytes: &dyn Fn(&Given) -> &[u8]| {
            let parser = converter.parser();
            let rows: Vec<&[u8]> = leading.iter().map(|row| bytes(given(row))).collect();
            converter.convert_rows(rows.iter().map(|row| parser.parse(row))).expect("the bytes came from this converter")
        };
        let outputs = decoded(&self.shared.outputs, &|given| &given.output);
        (outputs, self.shared.states.as_ref().map_or(Vec::new(), |states| decoded(states, &|given| &given.state)))
    }

    fn gathered(&self, listed: &Listed) -> Changes {
        let mut changes = Changes::default();
        let columns = |rows: &[u32], partitions: &[u32]| self.rows.columns(rows, &self.keys.columns(partitions));
        for (partition, row, diff, reason) in &listed.failed {
            changes.failed.push((columns(&[*row], &[*partition]), *diff, reason));
        }
        let kept: Vec<usize> = (0..listed.rows.len()).filter(|place| self.shared.keep_failed || !listed.wrong[*place]).collect();
        if kept.is_empty() {
            return changes;
        }
        let of = |values: &[u32]| -> Vec<u32> { kept.iter().map(|place| values[*place]).collect() };
        changes.columns = columns(&of(&listed.rows), &of(&listed.partitions));
        let parser = self.shared.outputs.parser();
        let outputs = self.shared.outputs.convert_rows(kept.iter().map(|place| parser.parse(&listed.outputs[*place])));
        changes.columns.extend(outputs.expect("the bytes came from this converter"));
        changes.diffs = kept.iter().map(|place| listed.diffs[*place]).collect();
        changes
    }
}

/// Results to give and to take back.
#[derive(Default)]
struct Listed {
    partitions: Vec<u32>,
    rows: Vec<u32>,
    outputs: Vec<Box<[u8]>>,
    diffs: Vec<Diff>,
    /// Whether a result of the row cannot be represented.
    wrong: Vec<bool>,
    failed: Vec<(u32, u32, Diff, &'static str)>,
}

impl Listed {
    fn give(&mut self, partition: u32, row: u32, output: Box<[u8]>, diff: Diff, failed: Option<Vec<&'static str>>) {
        self.wrong.push(failed.is_some());
        self.failed.extend(failed.into_iter().flatten().map(|reason| (partition, row, diff, reason)));
        self.partitions.push(partition);
        self.rows.push(row);
        self.outputs.push(output);
        self.diffs.push(diff);
    }
}
