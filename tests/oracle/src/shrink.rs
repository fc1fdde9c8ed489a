//! Makes a failing case small: leaves out whatever it fails without.
//!
//! Greedy, largest pieces first: statements, feeds, steps, rows, options. Each attempt is a run of its own, a few times if
//! workers race for epochs. It stops when nothing can go any more, or after a while: a job that stalls is waited for in
//! every attempt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_plan::explain;

use crate::case::{Outcome, Wrong, compiled, run_alone};
use crate::generate::Text;
use crate::script::Script;

/// Attempts, in all.
const ATTEMPTS_MAX: usize = 600;

/// No attempt begins after this time.
const TIME_MAX: Duration = Duration::from_secs(120);

/// A case that fails.
#[derive(Debug, Clone)]
pub struct Failing {
    /// The job.
    pub text: Text,
    /// What its feeds give.
    pub script: Script,
    /// On how many workers.
    pub workers: usize,
    /// How it fails.
    pub wrong: Wrong,
}

impl Failing {
    /// A smaller case that fails in the same way.
    pub fn shrink(self) -> Failing {
        let mut shrinker = Shrinker { best: self, attempts: 0, until: Instant::now() + TIME_MAX };
        shrinker.pin_epochs();
        while shrinker.round() && !shrinker.is_over() {}
        shrinker.best
    }

    /// Text, plan, script and fault, for people.
    pub fn report(&self) -> String {
        let mut report = format!("{} workers\n\n{}\n", self.workers, self.text.sql());
        if let Ok(job) = compiled(&self.text.sql()) {
            let _ = writeln!(report, "{}", explain(&job));
        }
        let _ = writeln!(report, "{}{}", self.script, self.wrong.fault);
        report
    }

    /// Writes `job.sql`, `input` and `fault` into a folder under `parent`.
    pub fn write(&self, parent: &Path, name: &str) -> std::io::Result<PathBuf> {
        let folder = parent.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("job.sql"), self.text.sql())?;
        std::fs::write(folder.join("input"), self.script.to_string())?;
        std::fs::write(folder.join("fault"), self.report())?;
        Ok(folder)
    }
}

struct Shrinker {
    best: Failing,
    attempts: usize,
    until: Instant,
}

impl Shrinker {
    fn is_over(&self) -> bool {
        self.attempts >= ATTEMPTS_MAX || Instant::now() > self.until
    }

    /// Makes each epoch that the engine made a step, so that what depended on their coming apart does so always.
    fn pin_epochs(&mut self) {
        let Some(history) = &self.best.wrong.history else { return };
        let epochs = history.epochs();
        let mut script = Script { awaited: true, ..self.best.script.clone() };
        for (feed, taken) in script.feeds.iter_mut().zip(&history.feeds) {
            feed.batches.truncate(taken.batches.len());
            for (batch, taken) in feed.batches.iter_mut().zip(&taken.batches) {
                batch.step = epochs.partition_point(|epoch| *epoch < taken.epoch) - 1;
            }
        }
        self.attempt(self.best.text.clone(), script);
    }

    /// Tries to leave out each thing once; whether something went.
    fn round(&mut self) -> bool {
        let before = (self.best.text.statements.len(), size(&self.best.script));
        for statement in (0..self.best.text.statements.len()).rev() {
            let mut text = self.best.text.clone();
            text.statements.remove(statement);
            self.attempt(text, self.best.script.clone());
        }
        self.each(|script| script.feeds.len(), |script, feed| drop(script.feeds.remove(feed)));
        self.each(Script::steps, |script, step| {
            for feed in &mut script.feeds {
                feed.batches.retain(|batch| batch.step != step);
                feed.batches.iter_mut().filter(|batch| batch.step > step).for_each(|batch| batch.step -= 1);
            }
        });
        for feed in 0..self.best.script.feeds.len() {
            self.each(|script| script.feeds[feed].batches.len(), |script, batch| drop(script.feeds[feed].batches.remove(batch)));
            for batch in 0..self.best.script.feeds[feed].batches.len() {
                self.each(
                    |script| script.feeds[feed].batches[batch].rows.len(),
                    |script, row| drop(script.feeds[feed].batches[batch].rows.remove(row)),
                );
            }
        }
        let mut plain = self.best.script.clone();
        (plain.awaited, plain.finishes) = (true, true);
        plain.feeds.iter_mut().for_each(|feed| (feed.worker, feed.ends_with_rows) = (0, false));
        self.attempt(self.best.text.clone(), plain);
        before != (self.best.text.statements.len(), size(&self.best.script))
    }

    fn each(&mut self, count: impl Fn(&Script) -> usize, remove: impl Fn(&mut Script, usize)) {
        for place in (0..count(&self.best.script)).rev() {
            if place >= count(&self.best.script) {
                continue;
            }
            let mut script = self.best.script.clone();
            remove(&mut script, place);
            self.attempt(self.best.text.clone(), script);
        }
    }

    /// Takes the case if it still fails.
    fn attempt(&mut self, text: Text, mut script: Script) {
        if self.is_over() {
            return;
        }
        self.attempts += 1;
        let Ok(job) = compiled(&text.sql()) else { return };
        script.feeds.retain(|feed| job.sources.iter().any(|source| source.name == feed.source));
        script.feeds.iter_mut().for_each(|feed| feed.drop_invalid(&job));
        let covered = job.sources.iter().all(|source| script.feeds.iter().any(|feed| feed.source == source.name));
        if !covered {
            return;
        }
        let tries = if self.best.workers > 1 || !script.awaited { 3 } else { 1 };
        for _ in 0..tries {
            if let Outcome::Wrong(wrong) = run_alone(self.best.workers, &job, &script)
                && std::mem::discriminant(&wrong.fault) == std::mem::discriminant(&self.best.wrong.fault)
            {
                self.best = Failing { text, script, workers: self.best.workers, wrong: *wrong };
                return;
            }
        }
    }
}

fn size(script: &Script) -> usize {
    script.rows() + script.feeds.iter().map(|feed| feed.batches.len() + 1).sum::<usize>()
}
