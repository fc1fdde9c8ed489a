//! What was seen of a job against what must be seen.

use std::collections::BTreeSet;

use highwater_engine::Time;
use highwater_plan::Job;

use crate::drive::{Change, Observed};
use crate::evaluate::Expected;
use crate::multiset::Multiset;

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which relation, and how it was looked at.
    pub relation: String,
    /// After which epoch.
    pub epoch: Time,
    /// What should have been seen.
    pub expected: String,
    /// What was seen.
    pub got: String,
}

/// The first difference, if there is one.
pub fn compare(job: &Job, expected: &Expected, observed: &Observed) -> Option<Mismatch> {
    let contents = job.views.iter().enumerate().find_map(|(view, declared)| {
        let name = format!("changes of view {}", declared.name);
        let content = &expected.views[view];
        // Changes at 0, before the first epoch, can only be seen in what the first read gives.
        compare_changes(&name, &expected.epochs, content, &content[0], &observed.views[view], observed.closed)
    });
    let reads = || {
        observed.reads.iter().filter(|read| read.epoch > 0).find_map(|read| {
            job.views.iter().zip(&read.views).enumerate().find_map(|(view, (declared, got))| {
                let wanted = &expected.views[view][expected.at(read.epoch)];
                (!got.is_near(wanted)).then(|| Mismatch {
                    relation: format!("view {}, read while it runs", declared.name),
                    epoch: read.epoch,
                    expected: wanted.show(),
                    got: got.show(),
                })
            })
        })
    };
    let sinks = || {
        job.sinks.iter().enumerate().find_map(|(sink, declared)| {
            let name = format!("sink {}", declared.name);
            let changes: Vec<Change> =
                observed.sinks[sink].iter().filter(|change| change.epoch <= observed.closed).cloned().collect();
            let retracts = declared.append_only && changes.iter().flat_map(|change| &change.rows).any(|(_, diff)| *diff < 0);
            if retracts {
                let show = changes.iter().map(|change| format!("{change:?}\n")).collect();
                return Some(Mismatch { relation: name, epoch: 0, expected: "no retraction".into(), got: show });
            }
            compare_changes(&name, &expected.epochs, &expected.sinks[sink], &Multiset::default(), &changes, observed.closed)
        })
    };
    contents.or_else(reads).or_else(sinks).or_else(|| compare_counts(job, expected, observed))
}

/// Adds up changes and compares the sum after every epoch in which something happened.
fn compare_changes(
    relation: &str,
    epochs: &[Time],
    expected: &[Multiset],
    start: &Multiset,
    changes: &[Change],
    closed: Time,
) -> Option<Mismatch> {
    let mut current = start.clone();
    let mut last = 0;
    let at = |time: Time| epochs.partition_point(|epoch| *epoch <= time) - 1;
    let times: BTreeSet<Time> = epochs.iter().copied().chain(changes.iter().map(|change| change.epoch)).collect();
    let mut changes = changes.iter().peekable();
    for epoch in times.into_iter().filter(|epoch| *epoch <= closed) {
        while let Some(change) = changes.next_if(|change| change.epoch <= epoch) {
            if change.epoch < last {
                let got = format!("epoch {} after {last}", change.epoch);
                return Some(Mismatch { relation: relation.into(), epoch, expected: "epochs in order".into(), got });
            }
            last = change.epoch;
            change.rows.iter().for_each(|(row, diff)| current.add(row.clone(), *diff));
        }
        let wanted = &expected[at(epoch)];
        if !current.is_near(wanted) {
            return Some(Mismatch { relation: relation.into(), epoch, expected: wanted.show(), got: current.show() });
        }
    }
    None
}

/// Compares the net numbers of failed rows at last, and of failed and of late rows after every epoch.
fn compare_counts(job: &Job, expected: &Expected, observed: &Observed) -> Option<Mismatch> {
    let through = |changes: &[Change], epoch: Time| -> i64 {
        let changes = changes.iter().filter(|change| change.epoch <= epoch);
        changes.flat_map(|change| &change.rows).map(|(_, diff)| diff).sum()
    };
    for (view, declared) in job.views.iter().enumerate() {
        let (wanted, got) = (expected.view_errors[view][expected.at(observed.closed)], observed.failed[view]);
        if wanted != got {
            return Some(Mismatch {
                relation: format!("number of rows in {}$errors, read at last", declared.name),
                epoch: observed.closed,
                expected: wanted.to_string(),
                got: got.to_string(),
            });
        }
    }
    let epochs = expected.epochs.iter().enumerate().filter(|(_, epoch)| **epoch <= observed.closed);
    for (index, epoch) in epochs {
        for (view, declared) in job.views.iter().enumerate() {
            // Changes before the first epoch are only in what is read at last.
            let wanted = expected.view_errors[view][index] - expected.view_errors[view][0];
            let got = through(&observed.errors[view], *epoch);
            if wanted != got {
                let seen = observed.errors[view].iter().map(|change| format!("{change:?}\n")).collect::<String>();
                return Some(Mismatch {
                    relation: format!("number of rows in {}$errors", declared.name),
                    epoch: *epoch,
                    expected: wanted.to_string(),
                    got: format!("{got}\n{seen}"),
                });
            }
        }
        let got: i64 = observed.late.iter().map(|late| through(late, *epoch)).sum();
        if expected.late[index] != got {
            let seen = observed.late.iter().flatten().map(|change| format!("{change:?}\n")).collect::<String>();
            return Some(Mismatch {
                relation: "number of rows in all $late".into(),
                epoch: *epoch,
                expected: expected.late[index].to_string(),
                got: format!("{got}\n{seen}"),
            });
        }
    }
    None
}
