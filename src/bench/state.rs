//! `highwater bench state`: what windowed jobs keep while events come without end.
//!
//! A window's state is freed when the watermark closes it, and so are the sides of an interval join: after the first windows
//! the state of such a job stays where it is, however many events have come. This runs jobs over a long generated stream,
//! looks every so often at what the operators say they keep and at the process's resident set, and draws both.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use highwater_connectors::Registry;
use highwater_engine::JobState;
use highwater_runtime::{CreateOptions, Runtime, RuntimeConfig};
use serde::Serialize;

use super::nexmark::{Layout, compile, failed, into_blackhole, sql, with_source};
use super::{BenchError, process};

/// How much higher than in the first half the state may be in the second.
const FLAT: f64 = 1.25;

/// Bytes by which it may be higher in any case: a job that keeps a dozen rows may keep two dozen.
const SLACK: u64 = 64 * 1024;

/// What to run.
#[derive(Debug, Clone)]
pub struct StateBench {
    /// Names of queries of [`super::nexmark::NexmarkBench::all`]; empty: those whose windows close.
    pub queries: Vec<String>,
    /// Events per run.
    pub events: u64,
    /// Worker threads.
    pub workers: usize,
}

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// About how many looks of a run are kept.
const SAMPLES: u64 = 400;

/// What a look saw.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StateSample {
    /// Seconds since the job was created.
    pub seconds: f64,
    /// Events read by then.
    pub events: u64,
    /// Bytes that the operators say they keep.
    pub state_bytes: u64,
    /// Rows, groups or batches that they keep.
    pub state_rows: u64,
    /// The process's resident set in bytes.
    pub resident_bytes: u64,
}

/// What one query came to.
#[derive(Debug, Clone, Serialize)]
pub struct StateResult {
    /// The query.
    pub query: String,
    /// Events that were read.
    pub events: u64,
    /// Seconds that took.
    pub seconds: f64,
    /// The most state in the first half of the events, without their first twentieth.
    pub early_state_bytes: u64,
    /// The most state in the second half.
    pub late_state_bytes: u64,
    /// Resident set half way and at the end.
    pub resident_bytes: (u64, u64),
    /// Whether the state of the second half stays within a quarter of that of the first, and 64 KiB.
    pub flat: bool,
    /// Everything that was seen, in order.
    pub samples: Vec<StateSample>,
}

impl StateResult {
    /// What was seen last before each of `parts` equal parts of the events was over.
    pub fn at_parts(&self, parts: u64) -> Vec<StateSample> {
        let before = |end: u64| self.samples.iter().rev().find(|sample| sample.events * parts <= self.events * end).copied();
        (1..=parts).filter_map(before).collect()
    }
}

impl StateBench {
    /// The queries that are run if none are named.
    pub const QUERIES: [&'static str; 4] = ["q7", "q8", "q11", "interval"];

    /// Runs the queries one after another; `report` is called after each.
    pub fn run(&self, mut report: impl FnMut(&StateResult)) -> Result<Vec<StateResult>, BenchError> {
        let names: Vec<&str> = match self.queries.is_empty() {
            true => Self::QUERIES.to_vec(),
            false => self.queries.iter().map(String::as_str).collect(),
        };
        let mut results = Vec::new();
        for name in names {
            let result = self.query(name)?;
            report(&result);
            results.push(result);
        }
        Ok(results)
    }

    fn query(&self, name: &str) -> Result<StateResult, BenchError> {
        // One stream of all kinds: three would be read at paces of their own, and the one ahead would wait as state.
        let text = sql(name, Layout::Interleaved)?;
        let job = into_blackhole(with_source(compile(&text)?, self.events, None));
        let config = RuntimeConfig { workers: self.workers, registry: Registry::builtin(), checkpoints: None };
        let runtime = Runtime::start(config).map_err(failed)?;
        let started = Instant::now();
        let running =
            runtime.create(name, &text, job, CreateOptions { until_end: true, ..CreateOptions::default() }).map_err(failed)?;
        let stats = running.handle().stats();
        let mut samples: Vec<StateSample> = Vec::new();
        let state = loop {
            let state = running.wait_over(Some(LOOK));
            // At the end every window is closed and nothing is kept: that says nothing.
            if state != JobState::Running {
                break state;
            }
            let events = stats.sources.iter().map(|source| source.rows.load(Ordering::Relaxed)).sum();
            let before = samples.last().map_or(0, |sample| sample.events);
            if events < before + self.events / SAMPLES || events == before {
                continue;
            }
            let operators = stats.operators();
            samples.push(StateSample {
                seconds: started.elapsed().as_secs_f64(),
                events,
                state_bytes: operators.iter().map(|operator| operator.state_bytes.load(Ordering::Relaxed)).sum(),
                state_rows: operators.iter().map(|operator| operator.state_rows.load(Ordering::Relaxed)).sum(),
                resident_bytes: process::resident_bytes(),
            });
        };
        let seconds = started.elapsed().as_secs_f64();
        let events = stats.sources.iter().map(|source| source.rows.load(Ordering::Relaxed)).sum();
        runtime.shutdown();
        if state != JobState::Finished {
            return Err(BenchError(format!("query {name} did not finish: {state:?}")));
        }
        if samples.len() < 10 {
            return Err(BenchError(format!("query {name} was over after {} looks: give it more events", samples.len())));
        }
        Ok(judged(name, events, seconds, samples))
    }
}

fn judged(name: &str, events: u64, seconds: f64, samples: Vec<StateSample>) -> StateResult {
    let most = |from: f64, to: f64| {
        let within = samples.iter().filter(|sample| {
            let part = sample.events as f64 / events as f64;
            part >= from && part < to
        });
        within.map(|sample| sample.state_bytes).max().unwrap_or(0)
    };
    let (early, late) = (most(0.05, 0.5), most(0.5, 1.01));
    let resident = (samples[samples.len() / 2].resident_bytes, samples[samples.len() - 1].resident_bytes);
    StateResult {
        query: name.to_owned(),
        events,
        seconds,
        early_state_bytes: early,
        late_state_bytes: late,
        resident_bytes: resident,
        flat: late as f64 <= early as f64 * FLAT + SLACK as f64,
        samples,
    }
}

/// A drawing of the results as SVG: for each query its state and the resident set over the events.
pub fn plot(results: &[StateResult]) -> String {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 180.0;
    const LEFT: f64 = 80.0;
    const TOP: f64 = 40.0;
    type Of = fn(&StateSample) -> u64;
    let height = results.len() as f64 * (HEIGHT + TOP * 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + LEFT * 2.0
    );
    for (index, result) in results.iter().enumerate() {
        let top = index as f64 * (HEIGHT + TOP * 2.0) + TOP;
        let bottom = top + HEIGHT;
        let lines: [(&str, &str, Of); 2] =
            [("state", "#1f6feb", |sample| sample.state_bytes), ("resident set", "#b0b0b0", |sample| sample.resident_bytes)];
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\">{}: {:.1} M events</text>\n\
             <path d=\"M{LEFT} {top} V{bottom} H{}\" fill=\"none\" stroke=\"black\"/>",
            top - 10.0,
            result.query,
            result.events as f64 / 1e6,
            LEFT + WIDTH
        );
        for (row, (name, colour, of)) in lines.into_iter().enumerate() {
            let most = result.samples.iter().map(of).max().unwrap_or(0).max(1);
            let mut points = String::new();
            for sample in &result.samples {
                let x = LEFT + WIDTH * sample.events as f64 / result.events.max(1) as f64;
                let y = bottom - HEIGHT * of(sample) as f64 / most as f64;
                let _ = write!(points, "{x:.1},{y:.1} ");
            }
            let (scale, unit) = if most < 1_000_000 { (1e3, "kB") } else { (1e6, "MB") };
            let _ = writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
                 <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}, at most {:.1} {unit}</text>",
                LEFT + WIDTH / 2.0 + row as f64 * 190.0,
                top - 10.0,
                most as f64 / scale
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(state: impl Fn(u64) -> u64) -> Vec<StateSample> {
        let sample =
            |events: u64| StateSample { seconds: 0.0, events, state_bytes: state(events), state_rows: events, resident_bytes: 1 };
        (1..=100).map(sample).collect()
    }

    #[test]
    fn what_grows_is_not_flat() {
        assert!(judged("q7", 100, 1.0, samples(|events| 1_000 + events % 10)).flat);
        assert!(
            judged("q7", 100, 1.0, samples(|events| if events < 5 { 90_000 } else { 1_000 })).flat,
            "the beginning is left out"
        );
        assert!(judged("q7", 100, 1.0, samples(|events| events)).flat, "a hundred bytes are nothing");
        assert!(!judged("q7", 100, 1.0, samples(|events| events * 10_000)).flat);
    }

    #[test]
    fn parts_end_where_they_should() {
        let events: Vec<u64> = judged("q7", 100, 1.0, samples(|_| 1)).at_parts(4).iter().map(|sample| sample.events).collect();
        assert_eq!(events, [25, 50, 75, 100]);
    }

    #[test]
    fn a_plot_has_two_lines_per_query() {
        let result = judged("q8", 100, 1.0, samples(|events| events));
        assert_eq!(plot(&[result.clone(), result]).matches("<polyline").count(), 4);
    }
}
