//! Bodies that are kept in a log: what a restart finds of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::super::{LogMode, SourceLog};
use super::*;

/// A source that keeps its bodies, as a process finds it that goes on from the checkpoint of epoch 100.
fn keeping(directory: &Path, pairs: &[(&str, &str)], keeps_origin: bool) -> Result<Box<dyn Source>, Diagnostic> {
    with_log(directory, LogMode::Accept { resumed: Some(100), keep: Duration::ZERO }, pairs, keeps_origin)
}

pub(super) fn with_log(
    directory: &Path,
    mode: LogMode,
    pairs: &[(&str, &str)],
    keeps_origin: bool,
) -> Result<Box<dyn Source>, Diagnostic> {
    let log = Some(SourceLog { directory: directory.to_path_buf(), mode });
    HttpSource.open(&SourceSpec { log, ..spec(pairs, keeps_origin) })
}

pub(super) fn read_after(source: &dyn Source, offset: Option<u64>) -> Box<dyn PartitionReader> {
    let offset = offset.map(Offset::new);
    source.read(&PartitionId::new("0"), offset.as_ref(), Arc::new(|| {})).expect("a reader")
}

pub(super) fn ids(batch: &SourceBatch) -> Vec<i64> {
    batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

pub(super) fn send(source: &dyn Source, id: u64, key: Option<&str>, told: &Told) -> Result<PushSummary, PushError> {
    let push = source.push_handle().expect("it is pushed to");
    push.push(request(PushFormat::Json, &format!("{{\"id\":{id},\"s\":\"x\"}}"), key), tell(told))
}

/// All that a reader gives, and the last offset.
pub(super) fn all(reader: &mut dyn PartitionReader) -> (Vec<i64>, u64) {
    let (mut rows, mut offset) = (Vec::new(), 0);
    while let Some(mut batch) = poll(reader) {
        rows.extend(ids(&batch));
        offset = batch.offset.0.parse().expect("a number");
        (batch.receipt.take().expect("someone waits").0)(200);
    }
    (rows, offset)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    files_of(directory, "bodies")
}

pub(super) fn files_of(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort_unstable();
    files
}

#[test]
fn what_was_accepted_after_the_checkpoint_comes_again_and_once() {
    for keeps_origin in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let told = Told::default();
        {
            let source = keeping(directory.path(), &[], keeps_origin).expect("an empty log");
            let mut reader = read_after(&*source, None);
            for id in 1..=3 {
                assert!(!send(&*source, id, Some(&format!("k{id}")), &told).expect("taken").duplicate);
            }
            assert_eq!(all(&mut *reader), (vec![1, 2, 3], 3));
            let push = source.push_handle().expect("it is pushed to");
            let text = "id,s\n4,a\nx,b\n";
            assert_eq!(push.push(request(PushFormat::Csv, text, Some("k4")), tell(&told)).expect("taken").rejected, 1);
            let schema = spec(&[], false).schema;
            let columns: Vec<arrow::array::ArrayRef> =
                vec![Arc::new(Int64Array::from(vec![5, 6])), Arc::new(arrow::array::StringArray::from(vec![Some("p"), None]))];
            let rows = RecordBatch::try_new(schema, columns).expect("columns of the schema");
            push.push_rows(rows, Int64Array::from(vec![1, -1]), tell(&told)).expect("taken");
            assert_eq!(push.kept().expect("a log").rows, 5);
        }
        let source = keeping(directory.path(), &[], keeps_origin).expect("a log");
        let mut reader = read_after(&*source, Some(2));
        // What is new comes after what is old.
        send(&*source, 7, None, &told).expect("taken");
        let told = Told::default();
        let again = send(&*source, 2, Some("k2"), &told).expect("known");
        assert!(again.duplicate && again.accepted == 1);
        assert_eq!(*told.lock().expect("a test's lock"), [100], "it is in the restored state");
        assert!(send(&*source, 3, Some("k3"), &told).expect("known").duplicate);
        let again = send(&*source, 4, Some("k4"), &told).expect("known");
        assert!(again.duplicate && again.rejected == 1 && again.reasons[0].starts_with("line 3: "), "{again:?}");
        assert_eq!(*told.lock().expect("a test's lock"), [100], "the others have no epoch yet");

        let mut batch = poll(&mut *reader).expect("what was accepted");
        assert_eq!(ids(&batch), [3, 4, 5, 6]);
        assert_eq!((batch.rejects.len(), batch.offset.0.as_ref()), (1, "5"));
        assert_eq!(batch.diffs.as_ref().expect("signs").values().to_vec(), [1, 1, 1, -1]);
        if keeps_origin {
            let whole = batch.origin.as_ref().expect("asked for").rows(&[0, 2]).expect("rows");
            let texts = whole.column(1).as_string::<i32>();
            assert_eq!((texts.value(0), texts.value(1)), ("x", "p"));
        }
        (batch.receipt.take().expect("someone waits").0)(150);
        assert_eq!(*told.lock().expect("a test's lock"), [100, 150, 150]);
        assert_eq!(all(&mut *reader), (vec![7], 6));
    }
}

#[test]
fn bodies_are_let_go_of_and_their_keys_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let told = Told::default();
    let large = "x".repeat(6 << 20);
    let long = ("row_bytes_max", "10000000");
    let source = keeping(directory.path(), &[long], false).expect("an empty log");
    let mut reader = read_after(&*source, None);
    let push = source.push_handle().expect("it is pushed to");
    for id in 1..=7 {
        let body = format!("{{\"id\":{id},\"s\":\"{large}\"}}");
        push.push(request(PushFormat::Json, &body, Some(&format!("k{id}"))), tell(&told)).expect("taken");
        all(&mut *reader);
    }
    assert_eq!(files(directory.path()).len(), 3);
    source.committed(&[(PartitionId::new("0"), Offset::new(6))]);
    assert_eq!((files(directory.path()).len(), push.kept().expect("a log").rows), (1, 1));
    drop((source, reader));

    let source = keeping(directory.path(), &[long], false).expect("a log");
    let mut reader = read_after(&*source, Some(6));
    for id in 1..=7 {
        assert!(send(&*source, id, Some(&format!("k{id}")), &told).expect("known").duplicate, "{id}");
    }
    assert!(!send(&*source, 8, Some("k8"), &told).expect("taken").duplicate);
    assert_eq!(all(&mut *reader), (vec![7, 8], 8));
    drop((source, reader));

    // From an older savepoint: what is gone is not known either, and what is there comes.
    let source = keeping(directory.path(), &[("idempotency_keys_max", "4"), long], false).expect("a log");
    let mut reader = read_after(&*source, Some(2));
    assert!(!send(&*source, 3, Some("k3"), &told).expect("taken").duplicate, "its rows are not there");
    assert!(send(&*source, 7, Some("k7"), &told).expect("known").duplicate);
    assert_eq!(all(&mut *reader), (vec![7, 8, 3], 9));
    // The log of nothing that is needed is deleted whole, and numbers go on.
    drop((source, reader));
    let source = keeping(directory.path(), &[long], false).expect("a log");
    let mut reader = read_after(&*source, Some(20));
    assert_eq!(files(directory.path()).len(), 0);
    send(&*source, 1, None, &told).expect("taken");
    assert_eq!(all(&mut *reader), (vec![1], 21));
}

#[test]
fn many_clients_at_a_time_are_all_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    {
        let source = keeping(directory.path(), &[], false).expect("an empty log");
        let _reader = read_after(&*source, None);
        std::thread::scope(|scope| {
            for client in 0..8 {
                let source = &source;
                scope.spawn(move || {
                    let told = Told::default();
                    for body in 0..25 {
                        // Two clients send the same: one of them is the first.
                        let id = client / 2 * 25 + body;
                        send(&**source, id, Some(&format!("k{id}")), &told).expect("taken or known");
                    }
                });
            }
        });
    }
    let source = keeping(directory.path(), &[], false).expect("a log");
    let (mut rows, last) = all(&mut *read_after(&*source, None));
    rows.sort_unstable();
    assert_eq!((rows, last), ((0..100).collect(), 100));
}

#[test]
fn a_write_that_was_cut_off_is_dropped_and_damage_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let told = Told::default();
    {
        let source = keeping(directory.path(), &[], false).expect("an empty log");
        let _reader = read_after(&*source, None);
        (1..=3).for_each(|id| drop(send(&*source, id, None, &told).expect("taken")));
    }
    let file = files(directory.path()).remove(0);
    let whole = std::fs::read(&file).expect("a file");
    let third = whole.len() - (whole.len() - 8) / 3;
    for end in [vec![], vec![0; 4_096], whole[third..whole.len() - 1].to_vec()] {
        std::fs::write(&file, [&whole[..third], &end].concat()).expect("a file");
        let source = keeping(directory.path(), &[], false).expect("a log");
        assert_eq!(all(&mut *read_after(&*source, None)), (vec![1, 2], 2), "{}", end.len());
        drop(source);
        let left = std::fs::read(&file).expect("a file");
        assert!(left.starts_with(&whole[..third]) && whole.starts_with(&left), "the head of the group may stay");
    }
    for at in [9, 60, third - 20] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&file, bytes).expect("a file");
        let error = keeping(directory.path(), &[], false).err().expect("damage").to_string();
        assert!(error.contains("is damaged") && error.contains("00000001.bodies at byte"), "{at}: {error}");
    }
    let mut bytes = whole.clone();
    bytes[7] = 9;
    std::fs::write(&file, bytes).expect("a file");
    let error = keeping(directory.path(), &[], false).err().expect("another version").to_string();
    assert!(error.contains("version 9, and 1 is the newest known") && error.contains(".bodies"), "{error}");
}

#[test]
fn who_opens_the_log_takes_it_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let told = Told::default();
    let old = keeping(directory.path(), &[], false).expect("an empty log");
    let _reader = read_after(&*old, None);
    send(&*old, 1, None, &told).expect("taken");
    let new = keeping(directory.path(), &[], false).expect("a log");
    let mut reader = read_after(&*new, None);
    let Err(PushError::NotKept(why)) = send(&*old, 2, Some("k"), &told) else { panic!("it is not its log any more") };
    assert!(why.contains("another process has taken over"), "{why}");
    assert_eq!(old.push_handle().expect("it is pushed to").depth(), {
        // The first body still waits there.
        Backlog { rows: 1, bytes: 16 }
    });
    send(&*new, 3, Some("k"), &told).expect("taken");
    assert_eq!(all(&mut *reader), (vec![1, 3], 2));
}

#[test]
fn nothing_is_accepted_before_the_job_is_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let mode = LogMode::Accept { resumed: None, keep: Duration::ZERO };
    let source = with_log(directory.path(), mode, &[], false).expect("an empty log");
    let mut reader = read_after(&*source, None);
    let told = Told::default();
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| send(&*source, 1, None, &told));
        while Arc::strong_count(&told) == 1 {
            std::thread::yield_now();
        }
        assert!(poll(&mut *reader).is_none() && files(directory.path()).is_empty());
        source.saved();
        pushed.join().expect("no panic").expect("taken");
    });
    assert_eq!(all(&mut *reader), (vec![1], 1));
}
