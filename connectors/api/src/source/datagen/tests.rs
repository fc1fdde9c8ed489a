//! Made-up rows: that they repeat, and what options say.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field as Column_, Fields, Int32Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType};

use super::*;
use crate::format::encode;

fn spec(columns: &[(&str, DataType)], pairs: &[(&str, &str)]) -> SourceSpec {
    let columns: Vec<Column_> = columns.iter().map(|(name, data_type)| Column_::new(*name, data_type.clone(), true)).collect();
    SourceSpec {
        name: "rows".into(),
        used: (0..columns.len()).collect(),
        schema: Arc::new(Schema::new(columns)),
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs(pairs.iter().copied().chain([("connector", "datagen"), ("rate", "max")])),
        keeps_origin: false,
        workers: 4,
        log: None,
    }
}

fn read(spec: &SourceSpec, offset: Option<&Offset>, rows_max: usize) -> Vec<SourceBatch> {
    let source = Datagen.open(spec).expect("good options");
    let mut reader = source.read(&PartitionId::new("0"), offset, Arc::new(|| {})).expect("a reader");
    let mut batches = Vec::new();
    while let Polled::Batch(batch) = reader.poll(rows_max).expect("no errors") {
        batches.push(batch);
    }
    batches
}

fn text(batches: &[SourceBatch]) -> String {
    let mut text = Vec::new();
    batches.iter().for_each(|batch| encode::ndjson(&batch.rows, &mut text).expect("JSON"));
    String::from_utf8(text).expect("UTF-8")
}

fn error(columns: &[(&str, DataType)], pairs: &[(&str, &str)]) -> String {
    Datagen.open(&spec(columns, pairs)).err().expect("a mistake").to_string()
}

#[test]
fn rows_are_a_function_of_seed_and_number() {
    let inner =
        DataType::Struct(Fields::from(vec![Column_::new("x", DataType::Int16, true), Column_::new("y", DataType::Utf8, true)]));
    let columns = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("price", DataType::Decimal128(6, 2)),
        ("ok", DataType::Boolean),
        ("ratio", DataType::Float64),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("tags", DataType::List(Arc::new(Column_::new("item", DataType::Utf8, true)))),
        ("inner", inner),
    ];
    let pairs = [
        ("rows", "100"),
        ("seed", "7"),
        ("fields.id.kind", "sequence"),
        ("fields.at.start", "2024-05-01"),
        ("fields.at.step", "10 ms"),
        ("fields.at.max_delay", "1 s"),
        ("fields.inner.x.min", "-5"),
        ("fields.inner.x.max", "5"),
        ("fields.name.null_fraction", "0.5"),
    ];
    let spec = spec(&columns, &pairs);
    let all = read(&spec, None, 1_000);
    assert_eq!(text(&all), text(&read(&spec, None, 7)));
    let tens = read(&spec, None, 10);
    assert_eq!(text(&tens[4..]), text(&read(&spec, Some(&tens[3].offset), 10)));
    let rows = &all[0].rows;
    assert_eq!(rows.num_rows(), 100);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values().to_vec(), (0..100).collect::<Vec<_>>());
    assert!((20..80).contains(&rows.column(1).null_count()));
    let times = rows.column(5).as_primitive::<TimestampMillisecondType>().values();
    let base = 1_714_521_600_000;
    assert!(times.iter().enumerate().all(|(row, at)| (base + 10 * row as i64 - 1_000..=base + 10 * row as i64).contains(at)));
    assert!(times.windows(2).any(|pair| pair[0] > pair[1]), "rows come out of order");

    let mut other = spec.clone();
    other.options = Options::from_pairs([("rows", "100"), ("seed", "8"), ("rate", "max")]);
    assert_ne!(text(&all), text(&read(&other, None, 1_000)));
}

#[test]
fn choices_and_numbers_are_skewed() {
    let columns = [("video", DataType::Utf8), ("n", DataType::Int32)];
    let pairs = [
        ("rows", "20000"),
        ("fields.video.values", "cat, dog,cow"),
        ("fields.video.skew", "1.5"),
        ("fields.n.skew", "1"),
        ("fields.n.max", "99"),
    ];
    let batches = read(&spec(&columns, &pairs), None, 100_000);
    let mut videos = BTreeMap::new();
    batches[0].rows.column(0).as_string::<i32>().iter().flatten().for_each(|video| *videos.entry(video).or_insert(0) += 1);
    assert!(videos["cat"] > 2 * videos["dog"] && videos["dog"] > videos["cow"] && videos["cow"] > 500, "{videos:?}");
    let numbers = batches[0].rows.column(1).as_primitive::<Int32Type>().values();
    let low = numbers.iter().filter(|number| **number < 10).count();
    assert!(numbers.iter().all(|number| (0..100).contains(number)) && (9_000..12_000).contains(&low), "{low}");
}

#[test]
fn mistakes_in_fields_are_named() {
    let columns = [("id", DataType::Int8), ("at", DataType::Timestamp(TimeUnit::Millisecond, None)), ("s", DataType::Utf8)];
    let check = |pair: (&str, &str), expected: &str| {
        let error = error(&columns, &[pair]);
        assert!(error.contains(expected), "{error}");
    };
    check(
        ("fields.ix.kind", "random"),
        "unknown option 'fields.ix.kind' for connector 'datagen'; fields.<column>.<property>, where <column> is one of id, at, s",
    );
    check(("fields.id.knd", "random"), "unknown option 'fields.id.knd'");
    check(("fields.id.kind", "rnd"), "expected sequence, random, choice or now");
    check(("fields.id.max", "128"), "expected a whole number up to 127");
    check(("fields.id.min", "1000"), "expected a whole number from -128 to");
    check(("fields.id.kind", "now"), "column 'id' is TINYINT");
    check(("fields.at.kind", "random"), "expected now, sequence or choice");
    check(("fields.at.max_delay", "soon"), "expected a length of time");
    check(("fields.at.start", "noon"), "expected a time such as");
    check(("fields.id.values", "1,x"), "expected TINYINT, found 'x'");
    check(("fields.s.kind", "choice"), "needs the option 'fields.s.values'");
    check(("fields.s.null_fraction", "2"), "expected a number from 0 to 1");
    check(("rate", "-1"), "expected rows per second");
    check(("rowz", "1"), "unknown option 'rowz'");
}

#[test]
fn now_is_now_and_origins_hold_all_columns() {
    let columns = [("at", DataType::Timestamp(TimeUnit::Millisecond, None)), ("id", DataType::Int64)];
    let mut spec = spec(&columns, &[("rows", "5"), ("fields.at.max_delay", "2 s")]);
    spec.used = vec![0];
    spec.keeps_origin = true;
    let batches = read(&spec, None, 100);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let times = batches[0].rows.column(0).as_primitive::<TimestampMillisecondType>().values();
    assert!(times.iter().all(|at| (now - 60_000..=now).contains(at)));
    let whole = batches[0].origin.as_ref().expect("asked for").rows(&[4]).expect("rows");
    assert_eq!((whole.num_columns(), whole.num_rows()), (2, 1));
}

#[test]
fn by_default_a_thousand_rows_a_second() {
    let mut spec = spec(&[("id", DataType::Int64)], &[]);
    spec.options = Options::default();
    let source = Datagen.open(&spec).expect("good options");
    let mut reader = source.read(&PartitionId::new("0"), None, Arc::new(|| {})).expect("a reader");
    match reader.poll(1_000).expect("no errors") {
        Polled::Pending(Some(wait)) => assert!(wait.as_millis() <= 10),
        Polled::Batch(batch) => assert!(batch.rows.num_rows() < 1_000),
        other => panic!("unexpected {other:?}"),
    }
}
