//! Bodies that a checkpoint has, kept for epochs that are run again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::super::LogMode;
use super::kept::{all, files_of, read_after, send, with_log};
use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const LONG: (&str, &str) = ("row_bytes_max", "10000000");

/// A source whose bodies are kept for so long, as a process finds it that goes on from a checkpoint.
fn keeping(directory: &Path, keep: Duration) -> Box<dyn Source> {
    with_log(directory, LogMode::Accept { resumed: Some(100), keep }, &[LONG], false).expect("a log")
}

/// The same source, read once more.
fn again(directory: &Path) -> Box<dyn Source> {
    with_log(directory, LogMode::Again, &[LONG], false).expect("a log")
}

fn saved(directory: &Path) -> Vec<PathBuf> {
    files_of(directory, "saved")
}

/// Pushes seven bodies, three to a file, of which a checkpoint then has six.
fn seven(source: &dyn Source) {
    let mut reader = read_after(source, None);
    let push = source.push_handle().expect("it is pushed to");
    let large = "x".repeat(6 << 20);
    for id in 1..=7 {
        let body = format!("{{\"id\":{id},\"s\":\"{large}\"}}");
        push.push(request(PushFormat::Json, &body, Some(&format!("k{id}"))), tell(&Told::default())).expect("taken");
        all(&mut *reader);
    }
    source.committed(&[(PartitionId::new("0"), Offset::new(6))]);
}

fn rows_after(directory: &Path, offset: u64, count: usize) -> Vec<i64> {
    let source = again(directory);
    let (mut reader, mut rows) = (read_after(&*source, Some(offset)), Vec::new());
    while rows.len() < count {
        rows.extend(kept::ids(&poll(&mut *reader).expect("rows that are kept")));
    }
    rows
}

fn refused(directory: &Path, offset: u64) -> String {
    let source = again(directory);
    read_after(&*source, Some(offset)).poll(10).expect_err("it is not kept").message
}

#[test]
fn what_a_checkpoint_has_is_kept_for_as_long_as_is_said() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    let source = keeping(directory, HOUR);
    seven(&*source);
    assert_eq!((saved(directory).len(), files_of(directory, "bodies").len()), (2, 1));
    assert_eq!(source.push_handle().expect("it is pushed to").kept().expect("a log").rows, 1, "what no checkpoint has");
    for after in 0..7 {
        let rows: Vec<i64> = (after as i64 + 1..=7).collect();
        assert_eq!(rows_after(directory, after, rows.len()), rows);
    }
    // Whoever accepts goes on, and who reads once more accepts nothing.
    send(&*source, 8, None, &Told::default()).expect("taken");
    assert_eq!(rows_after(directory, 5, 3), [6, 7, 8]);
    assert!(matches!(send(&*again(directory), 9, None, &Told::default()), Err(PushError::Closed)));
    let said = refused(directory, 8);
    assert!(said.contains("rows after body 8 are no longer kept: "), "{said}");
    drop(source);

    // Those of one file were saved long ago.
    let oldest = std::fs::OpenOptions::new().write(true).open(&saved(directory)[0]).expect("a file");
    oldest.set_modified(SystemTime::now() - 2 * HOUR).expect("a time");
    let source = keeping(directory, HOUR);
    let _reader = read_after(&*source, Some(8));
    let name = |file: &PathBuf| file.file_stem().expect("a name").to_string_lossy().trim_start_matches('0').to_owned();
    let names = || saved(directory).iter().map(name).collect::<Vec<_>>();
    let (first, second) = ("1-00000000000000000003", "4-00000000000000000006");
    assert_eq!(names(), [first, second], "this start might have gone back");
    source.committed(&[(PartitionId::new("0"), Offset::new(8))]);
    assert_eq!(names(), [second, "7-00000000000000000008"]);
    assert_eq!(rows_after(directory, 3, 5), [4, 5, 6, 7, 8]);
    let said = refused(directory, 2);
    assert!(said.contains("rows after body 2 are no longer kept (the next is body 4)"), "{said}");
    drop((source, _reader));
    let source = keeping(directory, Duration::ZERO);
    let _reader = read_after(&*source, Some(8));
    source.committed(&[(PartitionId::new("0"), Offset::new(8))]);
    assert_eq!(saved(directory).len(), 0);
    // Its keys are still known.
    for id in 1..=7 {
        assert!(send(&*source, id, Some(&format!("k{id}")), &Told::default()).expect("known").duplicate, "{id}");
    }
}

#[test]
fn who_goes_back_to_an_older_checkpoint_has_what_came_after_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    seven(&*keeping(directory, HOUR));
    let source = keeping(directory, HOUR);
    let mut reader = read_after(&*source, Some(2));
    assert_eq!(all(&mut *reader), ((3..=7).collect(), 7));
    assert!(send(&*source, 3, Some("k3"), &Told::default()).expect("known").duplicate, "its rows came again");
    send(&*source, 8, None, &Told::default()).expect("taken");
    assert_eq!(all(&mut *reader), (vec![8], 8));
    source.committed(&[(PartitionId::new("0"), Offset::new(8))]);
    drop((source, reader));
    assert_eq!(rows_after(directory, 0, 8), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_write_that_goes_on_is_not_read_and_not_cut_off() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    let source = keeping(directory, HOUR);
    seven(&*source);
    let newest = files_of(directory, "bodies").pop().expect("a file");
    let whole = std::fs::read(&newest).expect("a file");
    let begun = [&whole[..], &whole[8..60]].concat();
    std::fs::write(&newest, &begun).expect("a file");
    assert_eq!(rows_after(directory, 5, 2), [6, 7]);
    assert!(refused(directory, 7).contains("rows after body 7 are no longer kept"));
    assert_eq!(std::fs::read(&newest).expect("a file"), begun);
    // What is damaged is not taken for that.
    let mut bytes = std::fs::read(&saved(directory)[1]).expect("a file");
    bytes[100] ^= 1;
    std::fs::write(&saved(directory)[1], bytes).expect("a file");
    let said = refused(directory, 3);
    assert!(said.contains("is damaged") && said.contains(".saved at byte"), "{said}");
}

#[test]
fn a_start_that_dies_while_it_goes_back_is_followed_by_one_that_does_not() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    seven(&*keeping(directory, HOUR));
    // As it is after the first of two renames.
    let newest = saved(directory).pop().expect("a file");
    std::fs::rename(&newest, directory.join("00000000000000000004.bodies")).expect("a file");
    let source = keeping(directory, HOUR);
    assert_eq!(all(&mut *read_after(&*source, Some(2))), ((3..=7).collect(), 7));
}

#[test]
fn what_was_deleted_by_hand_is_missed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    let source = keeping(directory, HOUR);
    seven(&*source);
    std::fs::remove_file(&saved(directory)[1]).expect("a file");
    assert!(refused(directory, 3).contains("rows after body 3 are no longer kept (the next is body 7)"));
    drop(source);
    let source = keeping(directory, HOUR);
    assert_eq!(all(&mut *read_after(&*source, Some(2))), (vec![7], 7), "what follows without a gap");
}

#[test]
fn a_file_that_is_set_aside_or_deleted_while_it_is_to_be_read_is_found_or_missed() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    seven(&*keeping(directory, HOUR));
    let (past, gone) = (again(directory), again(directory));
    let (mut past, mut gone) = (read_after(&*past, Some(0)), read_after(&*gone, Some(0)));
    // Whoever goes back has them as they were.
    let source = keeping(directory, HOUR);
    let _reader = read_after(&*source, Some(0));
    assert_eq!((saved(directory).len(), kept::ids(&poll(&mut *past).expect("rows"))[0]), (0, 1));
    files_of(directory, "bodies").iter().for_each(|file| std::fs::remove_file(file).expect("a file"));
    let said = gone.poll(10).expect_err("it is gone").message;
    assert!(said.contains("rows after body 0 are no longer kept: "), "{said}");
}

#[test]
fn rows_of_a_time_when_the_table_had_other_columns_go_by_names() {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = folder.path();
    let columns = |names: &[&str]| {
        let column =
            |name: &&str| -> (String, arrow::array::ArrayRef) { ((*name).to_owned(), Arc::new(Int64Array::from(vec![7]))) };
        RecordBatch::try_from_iter(names.iter().map(column)).expect("columns")
    };
    let source = keeping(directory, HOUR);
    let push = source.push_handle().expect("it is pushed to");
    drop(read_after(&*source, None));
    let refused = push.push_rows(columns(&["id", "s"]), Int64Array::from(vec![1]), tell(&Told::default())).expect_err("no text");
    assert!(refused.to_string().contains("a column s of type Utf8, which the rows had as Int64"), "{refused}");
    for names in [&["more", "id"][..], &["id"]] {
        push.push_rows(columns(names), Int64Array::from(vec![1]), tell(&Told::default())).expect("taken");
    }
    drop(source);
    let source = keeping(directory, HOUR);
    assert_eq!(all(&mut *read_after(&*source, None)), (vec![7, 7], 2));
}
