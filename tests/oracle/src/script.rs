//! What the feeds of a job give, step by step; as values and as text.
//!
//! ```text
//! feed bids @0          one feed of source `bids`, read by worker 0
//!   0 + 1 | 'a' | 500   in step 0 a row is added; rows of a step that stand together are one batch
//!   0 /                 another batch of the same step begins
//!   1 - 1 | 'a' | 500   in step 1 it is retracted
//!   2 idle              in step 2 the feed says that nothing comes for a while
//! restart 2 on 4        after two steps the job is saved, dropped, and restored on four workers
//! ```
//!
//! Times in a column called `due` are milliseconds from when the job begins: so what depends on the clock depends on it in
//! the same way whenever a script is run.

use std::fmt::{self, Write as _};

use highwater_plan::Job;

use crate::multiset::Multiset;
use crate::value::{Row, Value, show};

/// The feeds of a job.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Feeds, in the order the engine gets them.
    pub feeds: Vec<FeedScript>,
    /// Whether a step begins only when the step before is closed and was looked at.
    pub awaited: bool,
    /// Whether the feeds finish; otherwise the job is dropped while it runs.
    pub finishes: bool,
    /// After how many awaited steps, and for how many workers, the job is saved, dropped and restored.
    pub restarts: Vec<(usize, usize)>,
}

/// One feed.
#[derive(Debug, Clone)]
pub struct FeedScript {
    /// The source's name.
    pub source: String,
    /// Which worker reads it, modulo their number.
    pub worker: usize,
    /// What it gives, ascending by step.
    pub batches: Vec<Batch>,
    /// Whether it says that it has finished together with its last batch, and not in one of its own.
    pub ends_with_rows: bool,
}

/// What a feed gives at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// When.
    pub step: usize,
    /// Physical rows of the source and their multiplicities.
    pub rows: Vec<(Row, i64)>,
    /// Whether the feed is idle afterwards.
    pub idle: bool,
}

/// The column whose times a script counts from when the job begins; a TIMESTAMP(3).
pub const DUE: &str = "due";

impl Script {
    /// The script of a job that begins `millis` after the Unix epoch.
    pub fn begun_at(&self, millis: i64, job: &Job) -> Script {
        let mut script = self.clone();
        for feed in &mut script.feeds {
            let source = job.sources.iter().find(|source| source.name == feed.source);
            let Some(due) = source.and_then(|source| source.schema.index_of(DUE).ok()) else { continue };
            for (row, _) in feed.batches.iter_mut().flat_map(|batch| &mut batch.rows) {
                let mut values = row.to_vec();
                if let Value::Int(time) = &mut values[due] {
                    *time += millis;
                }
                *row = values.into();
            }
        }
        script
    }

    /// One more than the last step.
    pub fn steps(&self) -> usize {
        self.feeds.iter().flat_map(|feed| &feed.batches).map(|batch| batch.step + 1).max().unwrap_or(0)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.feeds.iter().flat_map(|feed| &feed.batches).map(|batch| batch.rows.len()).sum()
    }

    /// Reads a script as it is displayed. The job gives the columns' types.
    pub fn parse(text: &str, job: &Job) -> Result<Script, String> {
        let mut script = Script { feeds: Vec::new(), awaited: true, finishes: true, restarts: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let wrong = || format!("cannot read the script's line '{line}'");
            match line.split_once(' ') {
                None if line == "in-flight" => script.awaited = false,
                None if line == "dropped" => script.finishes = false,
                Some(("restart", rest)) => {
                    let (after, workers) = rest.split_once(" on ").ok_or_else(wrong)?;
                    let number = |text: &str| text.trim().parse().map_err(|_| wrong());
                    script.restarts.push((number(after)?, number(workers)?));
                }
                Some(("feed", rest)) => {
                    let (source, worker) = rest.split_once('@').ok_or_else(wrong)?;
                    let worker = worker.trim().parse().map_err(|_| wrong())?;
                    let source = source.trim().to_string();
                    script.feeds.push(FeedScript { source, worker, batches: Vec::new(), ends_with_rows: false });
                }
                Some((step, rest)) => {
                    let step = step.parse().map_err(|_| wrong())?;
                    let feed = script.feeds.last_mut().ok_or_else(wrong)?;
                    feed.line(step, rest, job).ok_or_else(wrong)?;
                }
                None => return Err(wrong()),
            }
        }
        Ok(script)
    }
}

impl FeedScript {
    /// Leaves out retractions of rows that are not there, which a real source would not give.
    pub fn drop_invalid(&mut self, job: &Job) {
        let Some(source) = job.sources.iter().find(|source| source.name == self.source) else { return };
        if !source.primary_key.is_empty() {
            return;
        }
        let mut held = Multiset::default();
        for batch in &mut self.batches {
            batch.rows.retain(|(row, diff)| {
                let there = *diff > 0 || held.count(row) > 0;
                held.add(row.clone(), if there { *diff } else { 0 });
                there
            });
        }
    }

    fn line(&mut self, step: usize, rest: &str, job: &Job) -> Option<()> {
        if self.batches.last().is_none_or(|batch| batch.step != step) || rest == "/" {
            self.batches.push(Batch { step, ..Batch::default() });
        }
        let batch = self.batches.last_mut()?;
        match rest {
            "/" => {}
            "idle" => batch.idle = true,
            rest => {
                let (sign, values) = rest.split_once(' ')?;
                let source = job.sources.iter().find(|source| source.name == self.source)?;
                let values: Vec<&str> = values.split('|').map(str::trim).collect();
                if values.len() != source.schema.fields().len() {
                    return None;
                }
                let types = source.schema.fields().iter().map(|field| field.data_type());
                let row: Option<Row> =
                    values.into_iter().zip(types).map(|(text, data_type)| Value::parse(text, data_type)).collect();
                batch.rows.push((row?, if sign == "+" { 1 } else { -1 }));
            }
        }
        Some(())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.awaited {
            writeln!(f, "in-flight")?;
        }
        if !self.finishes {
            writeln!(f, "dropped")?;
        }
        for (after, workers) in &self.restarts {
            writeln!(f, "restart {after} on {workers}")?;
        }
        for feed in &self.feeds {
            writeln!(f, "feed {} @{}", feed.source, feed.worker)?;
            let mut last = None;
            for batch in &feed.batches {
                let step = batch.step;
                if last == Some(step) || (batch.rows.is_empty() && !batch.idle) {
                    writeln!(f, "  {step} /")?;
                }
                last = Some(step);
                for (row, diff) in &batch.rows {
                    let sign = if *diff > 0 { '+' } else { '-' };
                    f.write_str("  ")?;
                    writeln!(f, "{step} {sign} {}", show(row))?;
                }
                if batch.idle {
                    writeln!(f, "  {step} idle")?;
                }
            }
        }
        f.write_char('\n')
    }
}
