//! How fast messages are read, and how long publishing takes, on a broker that it starts: `cargo run --release --example speed`.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use highwater_broker::Broker;
use highwater_connectors::sink::{Changes, EpochChanges, SinkConnector, SinkSpec, SinkTarget};
use highwater_connectors::source::{PartitionId, Polled, SourceConnector, SourceSpec};
use highwater_kafka::{KafkaSink, KafkaSource};
use highwater_plan::{Emit, Options};

const ROWS: i64 = 1_000_000;
const EPOCHS: u64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let broker = Broker::start();
    let brokers = broker.bootstrap();
    // Written to once, a topic makes itself here: the broker's default.
    let client: rdkafka::consumer::BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &brokers).set("allow.auto.create.topics", "true").create()?;
    for topic in ["rows", "epochs"] {
        use rdkafka::consumer::Consumer;
        while client.fetch_metadata(Some(topic), std::time::Duration::from_secs(10))?.topics()[0].error().is_some() {}
    }
    let mut out = std::io::stdout().lock();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]));
    let sink = |topic: &str, delivery: &str| -> Result<_, Box<dyn Error>> {
        let pairs = [("brokers", brokers.as_str()), ("topic", topic), ("delivery", delivery), ("connector", "kafka")];
        let spec = SinkSpec {
            job: "speed".into(),
            name: topic.into(),
            schema: schema.clone(),
            key: None,
            append_only: true,
            emit: Emit::Changes,
            options: Options::from_pairs(pairs),
            resumes: false,
            checkpoints: true,
        };
        let SinkTarget::Publisher(mut publisher) = KafkaSink.open(&spec).map_err(|error| error.to_string())? else {
            return Err("a Kafka sink is published".into());
        };
        publisher.take_over()?;
        Ok(publisher)
    };
    let epoch = |epoch: u64, ids: std::ops::Range<i64>| -> Result<EpochChanges, Box<dyn Error>> {
        let names = StringArray::from_iter_values(ids.clone().map(|id| format!("somebody called {id}")));
        let columns: Vec<(&str, arrow::array::ArrayRef)> =
            vec![("id", Arc::new(Int64Array::from_iter_values(ids))), ("name", Arc::new(names))];
        Ok(EpochChanges { epoch, changes: vec![Changes { rows: RecordBatch::try_from_iter(columns)?, diffs: None }] })
    };

    let mut publisher = sink("rows", "at_least_once")?;
    let start = Instant::now();
    for number in 0..ROWS / 50_000 {
        publisher.publish(&[epoch(number as u64, number * 50_000..(number + 1) * 50_000)?], number as u64)?;
    }
    writeln!(out, "at_least_once: {:.0} rows/s", ROWS as f64 / start.elapsed().as_secs_f64())?;

    let mut publisher = sink("epochs", "exactly_once")?;
    let mut times = Vec::new();
    for number in 1..=EPOCHS {
        let changes = epoch(number, 0..100)?;
        let start = Instant::now();
        publisher.publish(&[changes], number)?;
        times.push(start.elapsed());
    }
    times.sort();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1_000.0;
    writeln!(out, "exactly_once, 100 rows a transaction: median {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99))?;

    let pairs = [("brokers", brokers.as_str()), ("topic", "rows"), ("until_end", "true"), ("connector", "kafka")];
    let spec = SourceSpec {
        name: "speed".into(),
        schema,
        used: vec![0, 1],
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs(pairs),
        keeps_origin: false,
        workers: 1,
        log: None,
    };
    let source = KafkaSource.open(&spec).map_err(|error| error.to_string())?;
    let thread = std::thread::current();
    let mut reader = source.read(&PartitionId::new("0"), None, Arc::new(move || thread.unpark()))?;
    let (start, mut rows) = (Instant::now(), 0);
    loop {
        match reader.poll(4_096)? {
            Polled::Batch(batch) => rows += batch.rows.num_rows(),
            Polled::Pending(_) | Polled::Waiting(_) => std::thread::park_timeout(std::time::Duration::from_millis(100)),
            Polled::Finished => break,
        }
    }
    writeln!(out, "read: {:.0} rows/s of {rows}", rows as f64 / start.elapsed().as_secs_f64())?;
    Ok(())
}
