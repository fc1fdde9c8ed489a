//! `highwater bench`: benchmarks for people to run on their own machine.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use highwater::bench::checkpoints::{
    CHECKPOINTS_MIN, COST_MAX_PERCENT, CheckpointsBench, CheckpointsResult, DISK_SHARE_MIN, RestoreBench, RestoreResult,
};
use highwater::bench::nexmark::{EventSource, Layout, NexmarkBench, NexmarkResult};
use highwater::bench::recompute::{RecomputeBench, RecomputeResult};
use highwater::bench::sharing::{SharingBench, SharingResult};
use highwater::bench::state::{StateBench, StateResult};

use super::Failure;

/// Arguments of `highwater bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Nexmark queries at full speed: events/s, state, peak memory, epoch latency.
    Nexmark(NexmarkArgs),
    /// What checkpoints cost, and how long a restore takes.
    Checkpoints(CheckpointsArgs),
    /// The time to apply a change against the time to compute everything again.
    Recompute(RecomputeArgs),
    /// What it saves that the views of a job keep a table that they all join only once.
    Sharing(SharingArgs),
    /// What windowed jobs keep while events come without end: state and memory over the events, as figures and as a drawing.
    State(StateArgs),
}

#[derive(Debug, Args)]
struct NexmarkArgs {
    /// Queries, separated by commas; all if absent.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// Events per query.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Where events come from.
    #[arg(long, value_enum, default_value_t = SourceArg::Memory)]
    source: SourceArg,
    /// How events come: one interleaved stream, or a stream for each kind. Default: interleaved, but streams from memory.
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
    /// Print one JSON object per query.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutArg {
    /// Persons, auctions and bids in one stream, as the ready-made jobs read them.
    Interleaved,
    /// Three streams; not for a file of JSON lines.
    Streams,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SourceArg {
    /// Arrow batches that are ready before the clock starts.
    Memory,
    /// A file of JSON lines, written before the clock starts.
    Json,
    /// The generator.
    Generator,
}

#[derive(Debug, Args)]
struct CheckpointsArgs {
    /// Queries, separated by commas; q3, q4, q5, q7, q8 and a tumbling count if absent.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// Events that are made ready before the clock starts; they are given again and again, as events that go on.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// From one checkpoint to the next.
    #[arg(long, default_value = "1s", value_parser = super::interval, value_name = "TIME")]
    interval: Duration,
    /// How many intervals a run without checkpoints lasts, about.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    intervals: u32,
    /// How often each query runs without checkpoints and with them, in turn, and how often the job is restored.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    repeats: usize,
    /// A directory to keep checkpoints in while this runs; default the system's for temporary files.
    #[arg(long, value_name = "DIR")]
    location: Option<PathBuf>,
    /// Megabytes of state of the job that is restored, as columns.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    state_mb: u64,
    /// Bytes of text that each of its rows has which does not compress well.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    text_bytes: u32,
    /// Measure only the one or the other.
    #[arg(long, value_enum)]
    only: Option<CheckpointsPart>,
    /// Print one JSON object per query, then one per restore.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckpointsPart {
    /// What checkpoints cost.
    Cost,
    /// How long a restore takes, on one worker and on two.
    Restore,
}

#[derive(Debug, Args)]
struct RecomputeArgs {
    /// Rows loaded, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000], value_parser = positive)]
    rows: Vec<usize>,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Print one JSON object per result.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SharingArgs {
    /// Numbers of views, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8], value_parser = positive)]
    views: Vec<usize>,
    /// Rows of the table.
    #[arg(long, default_value_t = 200_000, value_parser = positive)]
    rows: usize,
    /// Orders that are joined with it.
    #[arg(long, default_value_t = 500_000, value_parser = positive)]
    orders: usize,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Print one JSON object per result.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

#[derive(Debug, Args)]
struct StateArgs {
    /// Queries, separated by commas; q7, q8, q11 and an interval join if absent.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// Events per query; a window of ten seconds has 100,000.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Draw the figures into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object per query, with all samples.
    #[arg(long)]
    json: bool,
}

/// Runs a benchmark.
pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match &args.bench {
        Bench::Nexmark(args) => nexmark(args, &mut out),
        Bench::Checkpoints(args) => checkpoints(args, &mut out),
        Bench::Recompute(args) => recompute(args, &mut out),
        Bench::Sharing(args) => sharing(args, &mut out),
        Bench::State(args) => state(args, &mut out),
    }
}

fn nexmark(args: &NexmarkArgs, out: &mut impl Write) -> Result<(), Failure> {
    let known = NexmarkBench::all();
    if let Some(unknown) = args.queries.iter().find(|query| !known.contains(&query.as_str())) {
        return Err(Failure::Usage(format!("unknown query '{unknown}'; there are {}", known.join(", "))));
    }
    let source = match args.source {
        SourceArg::Memory => EventSource::Memory,
        SourceArg::Json => EventSource::Json,
        SourceArg::Generator => EventSource::Generator,
    };
    let layout = match (args.layout, source) {
        (Some(LayoutArg::Streams), EventSource::Json) => {
            return Err(Failure::Usage(
                "--layout streams: a file of JSON lines is interleaved; use --source memory or generator".into(),
            ));
        }
        (Some(LayoutArg::Streams), _) | (None, EventSource::Memory) => Layout::Streams,
        (Some(LayoutArg::Interleaved), _) | (None, _) => Layout::Interleaved,
    };
    let bench =
        NexmarkBench { queries: args.queries.clone(), events: args.events, workers: usize::from(args.workers), source, layout };
    if !args.json {
        let _ = writeln!(
            out,
            "{:<8}{:>14}{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "query", "events/s", "seconds", "source s", "output", "state MB", "peak+ MB", "epoch p50", "epoch p99"
        );
    }
    let results = bench.run(|result| {
        let _ = if args.json { print_json(out, result) } else { print_nexmark(out, result) };
    });
    results.map(drop).map_err(|error| Failure::Job(error.to_string()))
}

fn print_nexmark(out: &mut impl Write, result: &NexmarkResult) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<8}{:>14.0}{:>10.3}{:>10.3}{:>12}{:>12.1}{:>12.1}{:>10.2}ms{:>10.2}ms",
        result.query,
        result.events_per_second,
        result.seconds,
        result.source_seconds,
        result.output_rows,
        result.state_bytes_max as f64 / 1e6,
        result.peak_bytes_added as f64 / 1e6,
        result.epoch_us_p50 as f64 / 1e3,
        result.epoch_us_p99 as f64 / 1e3,
    )
}

fn checkpoints(args: &CheckpointsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let known = NexmarkBench::all();
    if let Some(unknown) = args.queries.iter().find(|query| !known.contains(&query.as_str())) {
        return Err(Failure::Usage(format!("unknown query '{unknown}'; there are {}", known.join(", "))));
    }
    if args.only != Some(CheckpointsPart::Restore) {
        checkpoints_cost(args, out)?;
    }
    if args.only != Some(CheckpointsPart::Cost) {
        checkpoints_restore(args, out)?;
    }
    Ok(())
}

fn checkpoints_cost(args: &CheckpointsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let bench = CheckpointsBench {
        queries: args.queries.clone(),
        events: args.events,
        length: args.interval.saturating_mul(args.intervals),
        workers: usize::from(args.workers),
        interval: args.interval,
        repeats: args.repeats,
        location: args.location.clone(),
    };
    if !args.json {
        let _ = writeln!(
            out,
            "{:<8}{:>14}{:>14}{:>9}{:>9}{:>7}{:>12}{:>12}{:>10}{:>10}{:>14}{:>10}",
            "query",
            "events/s",
            "with",
            "cost",
            "seconds",
            "saved",
            "rows",
            "changed MB",
            "file MB",
            "took ms",
            "file/changed",
            "ms/MB"
        );
    }
    let results = bench.run(|result| {
        let _ = if args.json { print_json(out, result) } else { print_checkpoints(out, result) };
    });
    results.map(drop).map_err(|error| Failure::Job(error.to_string()))
}

fn print_checkpoints(out: &mut impl Write, result: &CheckpointsResult) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<8}{:>14.0}{:>14.0}{:>8.1}%{:>9.2}{:>7.1}{:>12.0}{:>12.3}{:>10.3}{:>10.2}{:>14.2}{:>10.2}",
        result.query,
        result.without,
        result.with,
        result.cost_percent,
        result.seconds,
        result.checkpoints,
        result.changed_rows,
        result.changed_bytes / 1e6,
        result.file_bytes / 1e6,
        result.took_ms,
        result.bytes_per_byte(),
        result.ms_per_mb(),
    )?;
    writeln!(
        out,
        "{:<8}{:>14}{:>14}{:>8}  million events/s of the slowest and the fastest run, least and most cost of a pair",
        "",
        span(result.without_range),
        span(result.with_range),
        format!("{:.0}..{:.0}%", result.cost_range.0, result.cost_range.1),
    )?;
    if result.cost_percent > COST_MAX_PERCENT {
        writeln!(out, "{:<8}MORE than the {COST_MAX_PERCENT}% that checkpoints may cost", "")?;
    }
    if result.checkpoints < CHECKPOINTS_MIN {
        writeln!(out, "{:<8}too few checkpoints to say much: give it more --intervals", "")?;
    }
    Ok(())
}

fn span((least, most): (f64, f64)) -> String {
    format!("{:.2}-{:.2}", least / 1e6, most / 1e6)
}

fn checkpoints_restore(args: &CheckpointsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let bench = RestoreBench {
        state_bytes: args.state_mb * 1_000_000,
        address_bytes: args.text_bytes as usize,
        workers: vec![1, 2],
        repeats: args.repeats,
        interval: args.interval,
        location: args.location.clone(),
    };
    if !args.json {
        let _ = writeln!(
            out,
            "{:<8}{:>12}{:>10}{:>11}{:>10}{:>10}{:>10}{:>12}{:>11}{:>11}{:>10}{:>11}{:>11}",
            "workers",
            "rows",
            "state MB",
            "memory MB",
            "file MB",
            "seconds",
            "CPU s",
            "state MB/s",
            "file MB/s",
            "disk MB/s",
            "of disk",
            "once MB/s",
            "peak+ MB"
        );
    }
    let results = bench.run(|result| {
        let _ = if args.json { print_json(out, result) } else { print_restore(out, result) };
    });
    results.map_err(|error| Failure::Job(error.to_string()))?;
    if !args.json {
        let _ = writeln!(
            out,
            "state: columns of all rows, each once; CPU: of all threads together; disk: one thread that reads the same files, which, \
             as in restores, the system does not have in memory; of disk: state MB/s in disk MB/s; once: the disk if the system does not keep what was read"
        );
    }
    Ok(())
}

fn print_restore(out: &mut impl Write, result: &RestoreResult) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<8}{:>12}{:>10.1}{:>11.1}{:>10.1}{:>10.3}{:>10.2}{:>12.1}{:>11.1}{:>11.1}{:>10}{:>11.1}{:>11.1}",
        result.workers,
        result.rows,
        result.state_bytes as f64 / 1e6,
        result.memory_bytes as f64 / 1e6,
        result.file_bytes as f64 / 1e6,
        result.seconds,
        result.cpu_seconds,
        result.state_bytes_per_second / 1e6,
        result.file_bytes_per_second / 1e6,
        result.disk_bytes_per_second / 1e6,
        format!("{:.0}%", result.disk_share() * 100.0),
        result.disk_once_bytes_per_second / 1e6,
        result.peak_bytes_added as f64 / 1e6,
    )?;
    if result.disk_share() < DISK_SHARE_MIN {
        writeln!(out, "        LESS than {:.0}% of the disk's speed", DISK_SHARE_MIN * 100.0)?;
    }
    Ok(())
}

fn recompute(args: &RecomputeArgs, out: &mut impl Write) -> Result<(), Failure> {
    let bench = RecomputeBench { sizes: args.rows.clone(), workers: usize::from(args.workers), ..RecomputeBench::default() };
    if !args.json {
        let _ = writeln!(out, "{:>10}{:>10}{:>16}{:>18}{:>12}", "rows", "changed", "update us", "recompute us", "ratio");
    }
    let results = bench.run(|result| {
        let _ = if args.json { print_json(out, result) } else { print_recompute(out, result) };
    });
    results.map(drop).map_err(|error| Failure::Job(error.to_string()))
}

fn print_recompute(out: &mut impl Write, result: &RecomputeResult) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>10}{:>10}{:>16.0}{:>18.0}{:>12.0}",
        result.rows, result.changed, result.update_us, result.recompute_us, result.ratio
    )
}

fn sharing(args: &SharingArgs, out: &mut impl Write) -> Result<(), Failure> {
    let bench =
        SharingBench { views: args.views.clone(), rows: args.rows, orders: args.orders, workers: usize::from(args.workers) };
    if !args.json {
        let _ =
            writeln!(out, "{:>6}{:>14}{:>14}{:>14}{:>14}{:>14}", "views", "", "load ms", "change ms", "orders ms", "state MB");
    }
    let results = bench.run(|result| {
        let _ = if args.json { print_json(out, result) } else { print_sharing(out, result) };
    });
    results.map(drop).map_err(|error| Failure::Job(error.to_string()))
}

fn print_sharing(out: &mut impl Write, result: &SharingResult) -> std::io::Result<()> {
    let (one, each) = (&result.together, &result.apart);
    for (label, cost) in [("one job", one), ("a job each", each)] {
        writeln!(
            out,
            "{:>6}{label:>14}{:>14.1}{:>14.2}{:>14.1}{:>14.1}",
            result.views,
            cost.load_seconds * 1e3,
            cost.change_seconds * 1e3,
            cost.orders_seconds * 1e3,
            cost.state_bytes as f64 / 1e6
        )?;
    }
    writeln!(
        out,
        "{:>6}{:>14}{:>14.2}{:>14.2}{:>14.2}{:>14.2}",
        result.views,
        "ratio",
        one.load_seconds / each.load_seconds,
        one.change_seconds / each.change_seconds,
        one.orders_seconds / each.orders_seconds,
        one.state_bytes as f64 / each.state_bytes as f64
    )
}

fn state(args: &StateArgs, out: &mut impl Write) -> Result<(), Failure> {
    let known = NexmarkBench::all();
    if let Some(unknown) = args.queries.iter().find(|query| !known.contains(&query.as_str())) {
        return Err(Failure::Usage(format!("unknown query '{unknown}'; there are {}", known.join(", "))));
    }
    // Opened before the run: a drawing that cannot be written should not cost a long one.
    let plot = args.plot.as_ref().map(|path| {
        let file = std::fs::File::create(path);
        file.map(|file| (path, file)).map_err(|error| Failure::Usage(format!("cannot write {}: {error}", path.display())))
    });
    let plot = plot.transpose()?;
    let bench = StateBench { queries: args.queries.clone(), events: args.events, workers: usize::from(args.workers) };
    if !args.json {
        let _ = writeln!(
            out,
            "{:<10}{:>14}{:>10}{:>14}{:>14}{:>16}",
            "query", "events", "seconds", "state rows", "state kB", "resident MB"
        );
    }
    let results = bench.run(|result| {
        let _ = if args.json { print_json(out, result) } else { print_state(out, result) };
    });
    let results = results.map_err(|error| Failure::Job(error.to_string()))?;
    if let Some((path, mut file)) = plot {
        let written = file.write_all(highwater::bench::state::plot(&results).as_bytes());
        written.map_err(|error| Failure::Job(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}

fn print_state(out: &mut impl Write, result: &StateResult) -> std::io::Result<()> {
    for sample in result.at_parts(10) {
        writeln!(
            out,
            "{:<10}{:>14}{:>10.2}{:>14}{:>14.2}{:>16.1}",
            result.query,
            sample.events,
            sample.seconds,
            sample.state_rows,
            sample.state_bytes as f64 / 1e3,
            sample.resident_bytes as f64 / 1e6,
        )?;
    }
    let verdict = if result.flat { "flat" } else { "NOT FLAT" };
    writeln!(
        out,
        "{:<10}{verdict}: at most {:.1} kB in the first half, {:.1} kB in the second",
        result.query,
        result.early_state_bytes as f64 / 1e3,
        result.late_state_bytes as f64 / 1e3,
    )
}

fn print_json(out: &mut impl Write, result: &impl serde::Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, result)?;
    writeln!(out)
}
