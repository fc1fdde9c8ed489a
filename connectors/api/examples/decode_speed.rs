//! Prints how fast this machine decodes: Nexmark's nested lines as JSON and as Avro, and a CSV file if one is given.
//!
//! Rates are per second of CPU time where the system tells it, so that a busy neighbour does not count.
//!
//! `cargo run --release -p highwater-connectors --example decode_speed [departures.csv]`

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use highwater_connectors::Registry;
use highwater_connectors::format::encode::{Encoding, Part, sink_message_fields};
use highwater_connectors::format::{Decoder, DecoderSpec, FORMAT_FIELDS, Format, encode, message_fields};
use highwater_connectors::source::{PartitionId, Polled, SourceSpec};
use highwater_plan::{Diagnostic, OptionReader, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (text, number) = (DataType::Utf8, DataType::Int64);
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let fields = |fields: &[(&str, &DataType)]| -> Fields {
        fields.iter().map(|(name, data_type)| Field::new(*name, (*data_type).clone(), true)).collect()
    };
    let bid = fields(&[
        ("auction", &number),
        ("bidder", &number),
        ("price", &number),
        ("channel", &text),
        ("url", &text),
        ("dateTime", &time),
        ("extra", &text),
    ]);
    let person = fields(&[
        ("id", &number),
        ("name", &text),
        ("emailAddress", &text),
        ("creditCard", &text),
        ("city", &text),
        ("state", &text),
        ("dateTime", &time),
        ("extra", &text),
    ]);
    let auction = fields(&[
        ("id", &number),
        ("itemName", &text),
        ("description", &text),
        ("initialBid", &number),
        ("reserve", &number),
        ("dateTime", &time),
        ("expires", &time),
        ("seller", &number),
        ("category", &number),
        ("extra", &text),
    ]);
    let schema = Schema::new(vec![
        Field::new("event_type", DataType::Int32, true),
        Field::new("person", DataType::Struct(person), true),
        Field::new("auction", DataType::Struct(auction), true),
        Field::new("bid", DataType::Struct(bid.clone()), true),
    ]);
    let all: Vec<usize> = (0..4).collect();
    for (name, used) in [("all", vec![0, 1, 2, 3]), ("bid", vec![3])] {
        generate(&format!("nexmark generator, {name}"), schema.clone(), used, "all")?;
    }
    generate("nexmark generator, type = 'bid', without extra", Schema::new(bid), vec![0, 1, 2, 3, 4, 5], "bid")?;

    for (name, used) in [("all columns", &[0, 1, 2, 3][..]), ("event_type and bid", &[0, 3]), ("event_type", &[0])] {
        avro(&format!("avro, nexmark, {name}"), &schema, used)?;
    }

    let lines = nexmark_lines(schema.clone())?;
    let lines = String::from_utf8(lines)?.replace("T", " ").into_bytes();
    for (name, used) in [("all columns", all), ("event_type and bid", vec![0, 3]), ("event_type", vec![0])] {
        decode(&format!("json, nexmark, {name}"), &lines, &schema, &used, &[])?;
    }
    if let Some(path) = std::env::args().nth(1) {
        let schema = Schema::new(fields(&[
            ("id", &number),
            ("scheduled_at", &time),
            ("left_at", &time),
            ("carrier", &text),
            ("flight", &number),
            ("tailnum", &text),
            ("origin", &text),
            ("dest", &text),
            ("dep_delay", &number),
            ("arr_delay", &number),
            ("distance", &number),
        ]));
        let body = fs::read(path)?;
        let body = &body[body.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1..];
        decode("csv, flights, all columns", body, &schema, &(0..11).collect::<Vec<_>>(), &[("format", "csv")])?;
    }
    Ok(())
}

fn spec(schema: Schema, used: Vec<usize>, kind: &str, events: &str) -> SourceSpec {
    SourceSpec {
        name: "events".into(),
        schema: Arc::new(schema),
        used,
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs([("connector", "nexmark"), ("events", events), ("type", kind)]),
        keeps_origin: false,
        workers: 1,
        log: None,
    }
}

fn generate(name: &str, schema: Schema, used: Vec<usize>, kind: &str) -> Result<(), Box<dyn std::error::Error>> {
    let source = Registry::builtin().open_source(&spec(schema, used, kind, "2000000"))?;
    let mut reader = source.read(&PartitionId::new("0"), None, Arc::new(|| {}))?;
    let (clock, mut rows) = (Clock::start(), 0);
    while let Polled::Batch(batch) = reader.poll(1_024)? {
        rows += black_box(batch.rows).num_rows();
    }
    report(name, rows, 0, clock.elapsed());
    Ok(())
}

fn nexmark_lines(schema: Schema) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let source = Registry::builtin().open_source(&spec(schema, vec![0, 1, 2, 3], "all", "200000"))?;
    let mut reader = source.read(&PartitionId::new("0"), None, Arc::new(|| {}))?;
    let mut lines = Vec::new();
    while let Polled::Batch(batch) = reader.poll(1_024)? {
        encode::ndjson(&batch.rows, &mut lines)?;
    }
    Ok(lines)
}

/// The same rows as messages of Avro.
fn avro(name: &str, schema: &Schema, used: &[usize]) -> Result<(), Box<dyn std::error::Error>> {
    let none = Options::default();
    let reader = OptionReader::new(&none, "the format", &[&sink_message_fields()])?;
    let encoding = Encoding::avro(&reader, &none, &schema.fields, "event", "events", Part::Row)?;
    let source = Registry::builtin().open_source(&spec(schema.clone(), vec![0, 1, 2, 3], "all", "200000"))?;
    let mut reader = source.read(&PartitionId::new("0"), None, Arc::new(|| {}))?;
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    while let Polled::Batch(batch) = reader.poll(1_024)? {
        let writer = encoding.writer(&batch.rows)?;
        for row in 0..batch.rows.num_rows() {
            writer.write(row, &mut bytes);
            ends.push(bytes.len());
        }
    }
    let text = encoding.schema().unwrap_or_default();
    let options = Options::from_pairs([("format", "avro"), ("avro.schema", text)]);
    let format = Format::of_messages(&OptionReader::new(&options, "the format", &[FORMAT_FIELDS, &message_fields()])?)?;
    let mut decoder = decoder(&format, &options, schema, used)?;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (clock, mut start) = (Clock::start(), 0);
        for end in &ends {
            decoder.decode(&bytes[start..*end])?;
            start = *end;
            if decoder.rows() == 1_024 || start == bytes.len() {
                black_box(decoder.take()?.rows);
            }
        }
        best = best.min(clock.elapsed());
    }
    report(name, ends.len(), bytes.len(), best);
    Ok(())
}

fn decode(
    name: &str,
    body: &[u8],
    schema: &Schema,
    used: &[usize],
    pairs: &[(&str, &str)],
) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::from_pairs(pairs.iter().copied());
    let format = Format::from_options(&OptionReader::new(&options, "the format", &[FORMAT_FIELDS])?)?;
    let mut decoder = decoder(&format, &options, schema, used)?;
    let mut best = Duration::MAX;
    let mut rows = 0;
    for _ in 0..5 {
        let clock = Clock::start();
        let mut rest = body;
        rows = 0;
        while !rest.is_empty() {
            let end = format.record_end(rest).unwrap_or(rest.len());
            decoder.decode(&rest[..end])?;
            rest = &rest[(end + 1).min(rest.len())..];
            if decoder.rows() == 1_024 || rest.is_empty() {
                rows += black_box(decoder.take()?.rows).num_rows();
            }
        }
        best = best.min(clock.elapsed());
    }
    report(name, rows, body.len(), best);
    Ok(())
}

fn decoder(format: &Format, options: &Options, schema: &Schema, used: &[usize]) -> Result<Decoder, Diagnostic> {
    let spec = DecoderSpec {
        schema: Arc::new(schema.clone()),
        used: used.to_vec(),
        primary_key: Vec::new(),
        keeps_origin: false,
        defaults: Vec::new(),
    };
    format.decoder(&spec, options)
}

/// Time that this thread has spent on a CPU.
struct Clock {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    fn start() -> Clock {
        Clock { wall: Instant::now(), cpu: Clock::cpu() }
    }

    fn elapsed(&self) -> Duration {
        match (self.cpu, Clock::cpu()) {
            (Some(start), Some(end)) => end - start,
            _ => self.wall.elapsed(),
        }
    }

    fn cpu() -> Option<Duration> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    }
}

#[allow(clippy::print_stdout, reason = "a tool's answer")]
fn report(name: &str, rows: usize, bytes: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    println!("{name:<52} {:>7.2} M rows/s {:>7.0} MB/s", rows as f64 / seconds / 1e6, bytes as f64 / seconds / 1e6);
}
