//! What was committed is what is read: every type that SQL has, every shape of a table.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;

use super::*;

/// Columns of all types, with nulls, empty values and extremes among four rows.
fn all_types() -> RecordBatch {
    let text = |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(-7); 3]),
    ]);
    let entries = StructArray::from(vec![
        (Arc::new(Field::new("keys", DataType::Utf8, false)), text(&[Some("a"), Some("b"), Some("c")])),
        (
            Arc::new(Field::new("values", DataType::Float64, true)),
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])) as ArrayRef,
        ),
    ]);
    let map_field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(
        map_field,
        OffsetBuffer::new(vec![0, 1, 1, 3, 3].into()),
        entries,
        Some(vec![true, true, true, false].into()),
        false,
    );
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("a", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(i64::MIN)])) as ArrayRef,
        ),
        (Arc::new(Field::new("b", list.data_type().clone(), true)), Arc::new(list.clone()) as ArrayRef),
    ]);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y"), Some("x")].into_iter().collect();
    let decimal =
        Decimal128Array::from(vec![Some(i128::MAX / 10), None, Some(-1), Some(0)]).with_precision_and_scale(38, 10).unwrap();
    let wide =
        Decimal256Array::from(vec![Some(i256::MAX.wrapping_div(i256::from(10))), None, Some(i256::MINUS_ONE), Some(i256::ZERO)]);
    let micros = vec![Some(i64::MIN), None, Some(0), Some(1_700_000_000_000_000)];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("null", Arc::new(NullArray::new(4))),
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]))),
        ("int8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX), Some(0)]))),
        ("int16", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX), Some(0)]))),
        ("int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX), Some(0)]))),
        ("int64", Arc::new(Int64Array::from(micros.clone()))),
        ("uint64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0), Some(1)]))),
        ("float32", Arc::new(Float32Array::from(vec![Some(f32::MIN_POSITIVE), None, Some(f32::INFINITY), Some(-0.0)]))),
        ("float64", Arc::new(Float64Array::from(vec![Some(f64::MIN_POSITIVE), None, Some(f64::NEG_INFINITY), Some(-0.0)]))),
        ("decimal", Arc::new(decimal)),
        ("decimal256", Arc::new(wide.with_precision_and_scale(76, 20).unwrap())),
        ("text", text(&[Some(""), None, Some("größe ∑"), Some("x")])),
        ("large_text", Arc::new(LargeStringArray::from(vec![Some(""), None, Some("long"), Some("y")]))),
        (
            "text_view",
            Arc::new(StringViewArray::from(vec![Some("short"), None, Some("longer than twelve bytes, so kept apart"), Some("")])),
        ),
        ("binary", Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None, Some(b""), Some(b"z")]))),
        (
            "fixed",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some([1u8; 16]), None, Some([0; 16]), Some([9; 16])].into_iter(),
                    16,
                )
                .unwrap(),
            ),
        ),
        ("date", Arc::new(Date32Array::from(vec![Some(i32::MIN), None, Some(0), Some(20_000)]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999), Some(1)]))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(micros.clone()))),
        ("timestamp_zone", Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("Europe/Berlin"))),
        (
            "timestamp_ns",
            Arc::new(TimestampNanosecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX)]).with_timezone("+05:30")),
        ),
        (
            "interval",
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                Some(IntervalMonthDayNano::new(1, -2, 3)),
                None,
                Some(IntervalMonthDayNano::ZERO),
                Some(IntervalMonthDayNano::new(i32::MAX, i32::MIN, i64::MAX)),
            ])),
        ),
        ("interval_year", Arc::new(IntervalYearMonthArray::from(vec![Some(14), None, Some(-1), Some(0)]))),
        (
            "interval_day",
            Arc::new(IntervalDayTimeArray::from(vec![
                Some(IntervalDayTime::new(1, -2)),
                None,
                Some(IntervalDayTime::ZERO),
                Some(IntervalDayTime::MAX),
            ])),
        ),
        ("duration", Arc::new(DurationMicrosecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX)]))),
        ("list", Arc::new(list)),
        ("map", Arc::new(map)),
        ("struct", Arc::new(structs)),
        ("dictionary", Arc::new(dictionary)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn read_back(sections: Vec<Section>) -> Vec<Section> {
    let (job, writer) = fresh("types");
    writer.commit(increment(7, sections)).unwrap();
    let manifest = job.latest().unwrap().unwrap();
    assert_eq!((manifest.epoch, &manifest.meta), (7, &serde_json::json!({ "epoch": 7 })));
    let rows: u64 = manifest.files.iter().map(|file| file.rows).sum();
    let read: Vec<Section> = job.read(&manifest, ReadOptions::default()).unwrap().map(|section| section.unwrap()).collect();
    assert_eq!(rows, read.iter().map(Section::rows).sum::<u64>());
    read
}

#[test]
fn every_type_comes_back_as_it_was() {
    let batch = all_types();
    // Slices too: their columns begin within buffers, and within bytes of bitmaps.
    let batches = vec![batch.clone(), batch.slice(1, 2), batch.slice(3, 1), batch.slice(2, 0), batch.clone()];
    let meta = serde_json::json!({ "from": u64::MAX, "to": [null, true, "x\u{0}"] });
    let written = vec![Section::new("all", batch.schema(), batches).with_meta(meta)];
    let read = read_back(written.clone());
    // NaN is not equal to itself, and prints the same.
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
    assert_eq!(read[0].batches[0].column_by_name("map").unwrap().data_type(), batch.column_by_name("map").unwrap().data_type());
}

#[test]
fn tables_without_rows_columns_or_batches_come_back_as_they_were() {
    let empty = RecordBatch::new_empty(all_types().schema());
    let no_columns: SchemaRef = Arc::new(Schema::empty());
    let count = |rows| {
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(no_columns.clone(), vec![], &options).unwrap()
    };
    let tagged =
        Schema::new_with_metadata(vec![Field::new("a", DataType::Int8, true)], [("k".to_string(), "v".to_string())].into());
    let written = vec![
        Section::new("no batches", all_types().schema(), vec![]),
        Section::new("no rows", empty.schema(), vec![empty.clone(), empty]),
        Section::new("no columns", no_columns.clone(), vec![count(3), count(0), count(1_000_000)]),
        Section::new("neither", no_columns, vec![]),
        Section::new("schema with notes", Arc::new(tagged), vec![]),
        section("", [("a key may be empty", 1)]),
    ];
    let read = read_back(written.clone());
    assert_eq!(read, written);
    assert_eq!(read[2].rows(), 1_000_003);
}

#[test]
fn large_sections_take_many_blocks_and_parts() {
    // Numbers that do not compress, 24 MiB of them, in one batch that is larger than a block's usual size and in small ones.
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed as i64
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..3 << 20).map(|_| random())));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let small: Vec<RecordBatch> = (0..100).map(|index| batch.slice(index * 10_000, 10_000)).collect();
    let repeated = Int64Array::from(vec![42; 1 << 20]);
    let repeated = RecordBatch::try_from_iter([("n", Arc::new(repeated) as ArrayRef)]).unwrap();
    let written = vec![
        Section::new("one", batch.schema(), vec![batch.clone()]),
        Section::new("small", batch.schema(), small),
        Section::new("repeated", repeated.schema(), vec![repeated.clone(), repeated]),
    ];
    let directory = tempfile::tempdir().unwrap();
    let job = highwater_store::Store::create(directory.path().to_str().unwrap()).unwrap().job("large").unwrap();
    let writer = job.claim(options(1)).unwrap();
    let manifest = writer.commit(increment(1, written.clone())).unwrap();
    assert!(manifest.files[0].bytes > 31 << 20 && manifest.files[0].bytes < 33 << 20, "{:?}", manifest.files);
    for ahead_bytes in [0, 1 << 20, u64::MAX] {
        let mut sections = job.read(&manifest, ReadOptions::default().threads(3).ahead_bytes(ahead_bytes)).unwrap();
        let read: Vec<Section> = sections.by_ref().map(|section| section.unwrap()).collect();
        assert_eq!(read, written);
        let progress = sections.progress();
        assert!(progress.bytes_done == progress.bytes_total && progress.bytes_total > 31 << 20, "{progress:?}");
    }
}

#[test]
fn single_sections_can_be_read_in_their_order() {
    let (job, writer) = fresh("filter");
    for epoch in 1..=3 {
        let text =
            |key: &str| format!("{epoch}{}", if key.starts_with("join") { ", at length".repeat(100) } else { String::new() });
        let sections = ["join/left/0", "view/0", "view/1", "view/0"].map(|key| section(key, [(text(key).as_str(), 1)]));
        writer.commit(increment(epoch, sections.into())).unwrap();
    }
    let manifest = job.latest().unwrap().unwrap();
    let read = job.read(&manifest, ReadOptions::default().only(|key| key == "view/0")).unwrap();
    let epochs: Vec<String> = read.map(|section| format!("{:?}", section.unwrap().batches[0].column(0))).collect();
    assert_eq!(epochs.len(), 6);
    assert!(epochs.is_sorted() && epochs[0] == epochs[1] && epochs[1] != epochs[2], "{epochs:?}");
    assert_eq!(job.read(&manifest, ReadOptions::default().only(|_| false)).unwrap().count(), 0);
    let grouped = |group: fn(&str) -> Option<String>| ReadOptions::default().in_groups(group);
    let in_groups = |group| -> Vec<Section> { job.read(&manifest, grouped(group)).unwrap().map(|read| read.unwrap()).collect() };
    let keys_of = |read: &[Section]| -> Vec<String> { read.iter().map(|section| section.key.clone()).collect() };
    let [join, view, other] = [["join/left/0"; 3].as_slice(), &["view/0"; 6], &["view/1"; 3]];
    let by_name = in_groups(|key| key.split('/').next().map(str::to_owned));
    assert_eq!(keys_of(&by_name), [view, other, join].concat(), "the group with the shortest rows is first");
    let views_first = in_groups(|key| (key == "join/left/0").then(|| key.to_owned()));
    assert_eq!(keys_of(&views_first), [view, other, join].concat());
    let join_first = in_groups(|key| key.strip_prefix("view").map(|_| "views".to_owned()));
    assert_eq!(keys_of(&join_first), [join, view, other].concat(), "what is of no group is before all groups");
    let in_order: Vec<String> = join_first[3..9].iter().map(|section| format!("{:?}", section.batches[0].column(0))).collect();
    assert_eq!(in_order, epochs, "of one key the oldest is first");
    let by_key = || ReadOptions::default().in_groups(|key| Some(key.to_owned()));
    let mut unopened = job.read(&manifest, by_key().unopened(|key| key.starts_with("view"))).unwrap();
    assert_eq!(unopened.keys().into_iter().collect::<Vec<_>>(), ["join/left/0"]);
    assert_eq!(unopened.by_ref().map(|section| section.unwrap().key).collect::<Vec<_>>(), ["join/left/0"; 3]);
    let progress = unopened.progress();
    assert_eq!(progress.bytes_done, progress.bytes_total, "all of it was read");
    // Whoever stops in the middle leaves no thread waiting for them; the store can be used further.
    let mut sections = job.read(&manifest, ReadOptions::default().threads(2).ahead_bytes(0)).unwrap();
    sections.next().unwrap().unwrap();
    drop(sections);
    assert_eq!(keys(&job, &manifest).len(), 12);
}

#[test]
fn what_cannot_be_read_again_is_refused_before_it_is_written() {
    let (job, writer) = fresh("refused");
    let refused = |checkpoint| match writer.commit(checkpoint) {
        Err(StoreError::Refused { what }) => what,
        other => panic!("{other:?}"),
    };
    let deep = (0..100).fold(serde_json::json!(1), |value, _| serde_json::json!([value]));
    assert!(refused(Checkpoint { meta: deep.clone(), ..increment(1, vec![]) }).contains("the meta of a checkpoint is nested"));
    assert!(refused(increment(1, vec![section("k", [("a", 1)]).with_meta(deep)])).contains("the meta of section `k` is nested"));
    let other = all_types();
    let mixed = Section::new("k", schema(), vec![other]);
    assert!(refused(increment(1, vec![mixed])).contains("section `k` is declared as"));
    writer.commit(increment(5, vec![section("k", [("a", 1)])])).unwrap();
    assert!(refused(increment(4, vec![])).contains("as of epoch 4 cannot follow one as of 5"));
    assert!(
        refused(Checkpoint { keep: Keep::Files(vec!["data/x".into()]), ..increment(6, vec![]) }).contains("data/x is no file of")
    );
    // None of it left anything behind, and the writer goes on.
    writer.commit(increment(6, vec![section("k", [("b", 1)])])).unwrap();
    let (epoch, state) = newest(&job).unwrap();
    assert_eq!((epoch, state["k"].len()), (6, 2));
}
