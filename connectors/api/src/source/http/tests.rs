//! Pushed bodies: what is taken, refused, and told.

mod kept;
mod past;

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field as Column, Int64Type, Schema};
use highwater_plan::Options;

use super::*;

fn spec(pairs: &[(&str, &str)], keeps_origin: bool) -> SourceSpec {
    SourceSpec {
        name: "rows".into(),
        schema: Arc::new(Schema::new(vec![Column::new("id", DataType::Int64, false), Column::new("s", DataType::Utf8, true)])),
        used: vec![0],
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs(pairs.iter().copied().chain([("connector", "http")])),
        keeps_origin,
        workers: 2,
        log: None,
    }
}

fn open(pairs: &[(&str, &str)], keeps_origin: bool) -> Box<dyn Source> {
    HttpSource.open(&spec(pairs, keeps_origin)).expect("good options")
}

fn read(source: &dyn Source, waker: Waker) -> Box<dyn PartitionReader> {
    source.read(&source.partitions().expect("partitions")[0], None, waker).expect("a reader")
}

fn request(format: PushFormat, body: &str, key: Option<&str>) -> PushRequest {
    PushRequest { format, body: body.into(), idempotency_key: key.map(str::to_string) }
}

type Told = Arc<Mutex<Vec<u64>>>;

fn tell(told: &Told) -> Receipt {
    let told = told.clone();
    Receipt(Box::new(move |epoch| told.lock().expect("a test's lock").push(epoch)))
}

fn poll(reader: &mut dyn PartitionReader) -> Option<SourceBatch> {
    match reader.poll(1_000).expect("no errors") {
        Polled::Batch(batch) => Some(batch),
        Polled::Pending(None) => None,
        other => panic!("unexpected {other:?}"),
    }
}

use crate::source::SourceBatch;

#[test]
fn bodies_become_one_batch_and_everyone_is_told() {
    for keeps_origin in [false, true] {
        let source = open(&[], keeps_origin);
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        let mut reader = read(
            &*source,
            Arc::new(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            }),
        );
        let push = source.push_handle().expect("it is pushed to");
        assert!(poll(&mut *reader).is_none());
        let told = Told::default();
        let summary =
            push.push(request(PushFormat::Ndjson, "{\"id\":1,\"s\":\"a\"}\r\n\nx\n{\"s\":\"b\"}\n{\"id\":2}", None), tell(&told));
        assert_eq!(
            summary,
            Ok(PushSummary {
                accepted: 2,
                rejected: 2,
                reasons: vec![
                    "line 3: not valid JSON: expected an object, found 'x' at byte 0".into(),
                    "line 4: column 'id': missing, but the column is NOT NULL at byte 0".into(),
                ],
                duplicate: false,
            })
        );
        push.push(request(PushFormat::Json, "[{\"id\":3}, {\"id\":4}]", None), tell(&told)).expect("taken");
        push.push(request(PushFormat::Csv, "s,id\nq,5\n", None), tell(&told)).expect("taken");
        assert_eq!(push.depth().rows, 5);
        assert_eq!(woken.load(Ordering::Relaxed), 3);
        let batch = poll(&mut *reader).expect("rows wait");
        assert_eq!(batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec(), [1, 2, 3, 4, 5]);
        assert_eq!((batch.rows.num_columns(), batch.rejects.len(), batch.diffs.is_none()), (1, 2, true));
        if keeps_origin {
            let whole = batch.origin.expect("asked for").rows(&[4, 0]).expect("rows");
            let texts = whole.column(1).as_string::<i32>();
            assert_eq!((texts.value(0), texts.value(1)), ("q", "a"));
        }
        assert!(told.lock().expect("a test's lock").is_empty());
        (batch.receipt.expect("someone waits").0)(77);
        assert_eq!(*told.lock().expect("a test's lock"), [77, 77, 77]);
        assert_eq!(push.depth(), Backlog::default());
        assert!(poll(&mut *reader).is_none());
    }
}

#[test]
fn a_full_queue_refuses_and_empties() {
    let source = open(&[("queue_rows_max", "3")], false);
    let mut reader = read(&*source, Arc::new(|| {}));
    let push = source.push_handle().expect("it is pushed to");
    let told = Told::default();
    let two = "{\"id\":1}\n{\"id\":2}";
    let five = [two, two, "{\"id\":5}"].join("\n");
    push.push(request(PushFormat::Ndjson, &five, None), tell(&told)).expect("larger than the queue, but alone");
    assert_eq!(push.push(request(PushFormat::Ndjson, two, Some("k")), tell(&told)), Err(PushError::Full { rows: 5 }));
    poll(&mut *reader).expect("rows wait");
    let taken = push.push(request(PushFormat::Ndjson, two, Some("k")), tell(&told)).expect("room again");
    assert!(!taken.duplicate);
    assert_eq!(push.push(request(PushFormat::Ndjson, two, None), tell(&told)), Err(PushError::Full { rows: 2 }));
}

#[test]
fn the_same_key_is_taken_once() {
    let source = open(&[("idempotency_keys_max", "2")], false);
    let mut reader = read(&*source, Arc::new(|| {}));
    let push = source.push_handle().expect("it is pushed to");
    let told = Told::default();
    let send = |key: &str| push.push(request(PushFormat::Json, "{\"id\":1}", Some(key)), tell(&told)).expect("taken").duplicate;
    assert!(!send("a"));
    assert!(send("a"));
    let batch = poll(&mut *reader).expect("rows wait");
    assert_eq!(batch.rows.num_rows(), 1);
    (batch.receipt.expect("someone waits").0)(5);
    assert_eq!(*told.lock().expect("a test's lock"), [5, 5]);
    assert!(send("a"));
    assert_eq!(*told.lock().expect("a test's lock"), [5, 5, 5]);
    assert!(!send("b"));
    assert!(!send("c"));
    assert!(!send("a"), "only the last two keys are remembered");
}

#[test]
fn keys_are_forgotten_with_time() {
    let mut keys = Keys::new(10, std::time::Duration::from_secs(60));
    keys.insert("a", PushSummary::default(), 1_000, Kept::default());
    assert!(keys.find("a", 60_999).is_some());
    assert!(keys.find("a", 61_000).is_none());
}

#[test]
fn malformed_bodies_and_ended_sources() {
    let source = open(&[], false);
    let push = source.push_handle().expect("it is pushed to");
    let told = Told::default();
    for (format, body) in [(PushFormat::Json, "[{\"id\":1}"), (PushFormat::Csv, "a,b\n1,2\n")] {
        assert!(matches!(push.push(request(format, body, None), tell(&told)), Err(PushError::Malformed(_))), "{body}");
    }
    let summary = push.push(request(PushFormat::Ndjson, "", None), tell(&told)).expect("an empty body is fine");
    assert_eq!(summary, PushSummary::default());
    drop(source);
    assert_eq!(push.push(request(PushFormat::Json, "{\"id\":1}", None), tell(&told)), Err(PushError::Closed));
}

#[test]
fn changes_are_pushed_with_their_signs() {
    let source = open(&[("format", "changelog")], false);
    let mut reader = read(&*source, Arc::new(|| {}));
    let push = source.push_handle().expect("it is pushed to");
    let told = Told::default();
    push.push(request(PushFormat::Csv, "id\n9\n", None), tell(&told)).expect("taken");
    push.push(request(PushFormat::Ndjson, "{\"op\":\"-\",\"id\":9}\n{\"id\":1}", None), tell(&told)).expect("taken");
    let batch = poll(&mut *reader).expect("rows wait");
    assert_eq!(batch.diffs.expect("signs").values().to_vec(), [1, -1, 1]);
}
