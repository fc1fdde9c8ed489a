//! Counts over many jobs, and what they must come to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use highwater_plan::Job;

use super::{Meetings, Met, WHOLE, functions, kinds, known, operators};

/// How many jobs were of each kind, and in how many the operators of a family met what.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    jobs: usize,
    kinds: BTreeMap<String, usize>,
    families: BTreeMap<&'static str, usize>,
    met: BTreeMap<(&'static str, Met), usize>,
}

/// Of ten thousand jobs so many are of each kind at least.
const OF_KIND: usize = 3;

/// Of ten thousand jobs so many have an operator of a family that meets what it can meet.
const MEETING: usize = 4;

/// Of a hundred jobs so many give rows, take rows back, have rows that are late or that fail.
const SHARES: [(Met, usize); 4] = [(Met::Rows, 75), (Met::Corrections, 35), (Met::Late, 12), (Met::Errors, 12)];

impl Counts {
    /// Counts a job that did what it must.
    pub fn add(&mut self, job: &Job, met: &Meetings) {
        self.jobs += 1;
        kinds(job).into_iter().for_each(|kind| *self.kinds.entry(kind).or_default() += 1);
        for (family, met) in met {
            *self.families.entry(family).or_default() += 1;
            met.iter().for_each(|met| *self.met.entry((family, *met)).or_default() += 1);
        }
    }

    fn of(&self, family: &'static str, met: Met) -> usize {
        self.met.get(&(family, met)).copied().unwrap_or(0)
    }

    /// What too few of the jobs are or meet; minima are for ten thousand and grow with their number.
    pub fn lacking(&self) -> Vec<String> {
        let of_ten_thousand = |least: usize| (least * self.jobs).div_ceil(10_000);
        let mut lacking = Vec::new();
        let mut at_least = |wanted: usize, found: usize, what: &str| {
            if found < wanted {
                lacking.push(format!("{what}: {found} of {} jobs, and should be {wanted}", self.jobs));
            }
        };
        for kind in known() {
            at_least(of_ten_thousand(OF_KIND), self.kinds.get(&kind).copied().unwrap_or(0), &kind);
        }
        for family in operators::FAMILIES {
            for met in operators::can_meet(family) {
                at_least(of_ten_thousand(MEETING), self.of(family, met), &format!("{family} and {met:?}"));
            }
        }
        for (met, percent) in SHARES {
            at_least(percent * self.jobs / 100, self.of(WHOLE, met), &format!("{WHOLE} and {met:?}"));
        }
        let known: BTreeSet<String> = known().into_iter().chain(operators::seldom()).chain(functions::seldom()).collect();
        let unknown = self.kinds.iter().filter(|(kind, _)| !known.contains(*kind));
        lacking.extend(unknown.map(|(kind, count)| format!("{kind}: {count} jobs, but no such kind is known")));
        lacking
    }

    /// All counts, for people.
    pub fn report(&self) -> String {
        let mut report = format!("{:5} jobs\n", self.jobs);
        for kind in known() {
            let _ = writeln!(report, "{:5} {kind}", self.kinds.get(&kind).copied().unwrap_or(0));
        }
        for (family, count) in &self.families {
            let met = Met::ALL.map(|met| format!("{met:?} {}", self.of(family, met)));
            let _ = writeln!(report, "{count:5} {family}: {}", met.join(", "));
        }
        report
    }
}
