//! What sinks write, and what they say when they cannot.

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field as Column, Schema};
use highwater_plan::Options;

use super::*;
use crate::Registry;

fn spec(append_only: bool, pairs: &[(&str, &str)]) -> SinkSpec {
    SinkSpec {
        job: "job".into(),
        name: "out".into(),
        schema: Arc::new(Schema::new(vec![Column::new("id", DataType::Int64, true), Column::new("s", DataType::Utf8, true)])),
        key: None,
        append_only,
        emit: Emit::Changes,
        options: Options::from_pairs(pairs.iter().copied()),
        checkpoints: false,
        resumes: false,
    }
}

fn open(append_only: bool, pairs: &[(&str, &str)]) -> Box<dyn SinkWriter> {
    match Registry::builtin().open_sink(&spec(append_only, pairs)).expect("good options") {
        SinkTarget::Writer(writer) => writer,
        SinkTarget::Publisher(_) => panic!("a writer"),
    }
}

fn changes(diffs: Option<Vec<i64>>) -> [Changes; 1] {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c,d")]));
    let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("s", texts, true)]).expect("equal lengths");
    [Changes { rows, diffs: diffs.map(Int64Array::from) }]
}

#[test]
fn a_file_has_rows_or_signed_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("out");
    let name = path.to_string_lossy();
    let check = |append_only, pairs: &[(&str, &str)], expected: &str| {
        let pairs = [&[("connector", "file"), ("path", &*name)], pairs].concat();
        let mut writer = open(append_only, &pairs);
        let diffs = (!append_only).then(|| vec![2, -1, 0]);
        writer.write(9, &changes(diffs)).expect("there is room");
        writer.flush().expect("there is room");
        assert_eq!(fs::read_to_string(&path).expect("written"), expected);
    };
    let plain = "{\"id\":1,\"s\":\"a\"}\n{\"id\":2,\"s\":null}\n{\"id\":3,\"s\":\"c,d\"}\n";
    check(true, &[], plain);
    check(true, &[("append", "true")], &plain.repeat(2));
    check(
        false,
        &[],
        "{\"op\":\"+\",\"epoch\":9,\"id\":1,\"s\":\"a\"}\n{\"op\":\"+\",\"epoch\":9,\"id\":1,\"s\":\"a\"}\n{\"op\":\"-\",\"epoch\":9,\"id\":2,\"s\":null}\n",
    );
    check(true, &[("format", "csv")], "id,s\n1,a\n2,\n3,\"c,d\"\n");
    check(false, &[("format", "csv")], "op,epoch,id,s\n+,9,1,a\n+,9,1,a\n-,9,2,\n");
}

#[test]
fn what_cannot_be_written_is_named() {
    let open = |pairs: &[(&str, &str)]| {
        let said = Registry::builtin().open_sink(&spec(true, pairs)).err().expect("a mistake").to_string();
        let foreseen = Registry::builtin().validate_sink(&spec(true, pairs)).expect_err("a mistake").to_string();
        assert_eq!(said, foreseen, "what opening says is known before");
        said
    };
    assert!(open(&[("connector", "file"), ("path", "/nowhere/out")]).contains("'/nowhere/out' for writing"));
    assert!(open(&[("connector", "file"), ("path", "/nowhere/out")]).contains("create the directory first"));
    assert!(open(&[("connector", "file")]).contains("needs the option 'path'"));
    assert!(open(&[("connector", "fil")]).contains("connectors: file, stdout, blackhole"));
    assert!(open(&[("connector", "stdout"), ("format", "xml")]).contains("expected json, csv"));
    assert!(open(&[]).contains("needs the option 'connector'"));
}

#[test]
fn validating_a_sink_leaves_no_trace() {
    let directory = tempfile::tempdir().expect("a directory");
    let (kept, new) = (directory.path().join("kept"), directory.path().join("new"));
    fs::write(&kept, "as it was").expect("there is room");
    let validate = |path: &std::path::Path, more: &[(&str, &str)]| {
        let path = path.to_string_lossy();
        let pairs = [&[("connector", "file"), ("path", &*path)], more].concat();
        Registry::builtin().validate_sink(&spec(true, &pairs)).map_err(|error| error.to_string())
    };
    assert_eq!(validate(&kept, &[]), Ok(()));
    assert_eq!(validate(&new, &[]), Ok(()));
    assert_eq!(fs::read_to_string(&kept).expect("it is there"), "as it was");
    assert!(!new.exists());
    assert!(validate(directory.path(), &[]).expect_err("a directory").contains("it is a directory"));
    assert!(validate(&kept.join("below"), &[]).expect_err("no directory").contains("create the directory first"));
    assert!(validate(&new, &[("appendix", "true")]).expect_err("a typing error").contains("unknown option 'appendix'"));
    assert!(validate(&new, &[("append", "perhaps")]).expect_err("no flag").contains("append"));
    assert!(validate(&new, &[("delivery", "exactly_once")]).expect_err("it has none").contains("needs checkpoints"));
    assert!(validate(&new, &[("delivery", "twice")]).expect_err("no such thing").contains("cannot be 'twice'"));
}

#[test]
fn partitions_are_directories_and_their_columns_are_not_in_the_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("out");
    let name = path.to_string_lossy();
    let pairs = [("connector", "file"), ("path", &*name), ("partition_by", "s")];
    let with = |more: &[(&str, &str)]| spec(false, &[&pairs[..], more].concat());
    let registry = Registry::builtin();
    registry.validate_sink(&with(&[])).expect("good options");
    assert!(!path.exists(), "looking makes nothing");
    let mut writer = open(false, &pairs);
    writer.write(9, &changes(Some(vec![2, 1, 1]))).expect("there is room");
    writer.write(10, &changes(Some(vec![-1, 0, 0]))).expect("there is room");
    let read = |partition: &str| fs::read_to_string(path.join(partition).join("part.jsonl")).expect("written");
    let line = |op: &str, epoch: u64, id: i64| format!("{{\"op\":\"{op}\",\"epoch\":{epoch},\"id\":{id}}}\n");
    assert_eq!(read("s=a"), [line("+", 9, 1), line("+", 9, 1), line("-", 10, 1)].concat());
    assert_eq!(read("s=__HIVE_DEFAULT_PARTITION__"), line("+", 9, 2));
    assert_eq!(read("s=c,d"), line("+", 9, 3));

    let refused = |more: &[(&str, &str)]| registry.validate_sink(&with(more)).expect_err("a mistake").to_string();
    assert!(refused(&[]).contains("the directory is not empty"));
    registry.validate_sink(&with(&[("append", "true")])).expect("it is added to");
    let by = |columns: &str| {
        let pairs = [("connector", "file"), ("path", &*name), ("append", "true"), ("partition_by", columns)];
        registry.validate_sink(&spec(true, &pairs)).expect_err("a mistake").to_string()
    };
    assert!(by("t").contains("there is no 't'"));
    assert!(by("s, s").contains("each column once"));
    assert!(by("s, id").contains("fewer columns"));
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let mut writer = open(true, &[("connector", "file"), ("path", "/dev/full")]);
    let error = writer.write(1, &changes(None)).expect_err("no space left");
    assert!(error.message.contains("writing to '/dev/full'"), "{error}");
}

#[test]
fn a_blackhole_takes_everything() {
    let mut writer = open(true, &[("connector", "blackhole")]);
    writer.write(1, &changes(None)).and_then(|()| writer.flush()).expect("it takes everything");
}

/// A sink of a job with checkpoints.
fn once(resumes: bool, pairs: &[(&str, &str)]) -> Box<dyn Publisher> {
    let spec = SinkSpec { checkpoints: true, resumes, ..spec(false, pairs) };
    match Registry::builtin().open_sink(&spec).expect("good options") {
        SinkTarget::Publisher(publisher) => publisher,
        SinkTarget::Writer(_) => panic!("a publisher"),
    }
}

fn epoch(epoch: u64) -> EpochChanges {
    EpochChanges { epoch, changes: changes(Some(vec![1, 0, 0])).to_vec() }
}

#[test]
fn a_file_is_published_exactly_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("out");
    let name = path.to_string_lossy();
    for (pairs, file) in [
        (vec![("connector", "file"), ("path", &*name), ("format", "csv")], path.clone()),
        (
            vec![("connector", "file"), ("path", &*name), ("format", "csv"), ("partition_by", "s")],
            path.join("s=a").join("part.csv"),
        ),
    ] {
        let is_directory = pairs.len() > 3;
        let mut sink = once(false, &pairs);
        assert_eq!(sink.take_over(), Ok(None));
        sink.publish(&[epoch(3), epoch(5)], 5).expect("there is room");
        let written = fs::read_to_string(&file).expect("written");
        assert_eq!(written.lines().count(), 3, "{written}");

        // Another process waits for the first one to end.
        let mut next = once(true, &pairs);
        assert!(next.take_over().is_err_and(|error| !error.fatal && error.message.contains("another process")));
        drop(sink);
        assert_eq!(next.take_over(), Ok(Some(5)));
        drop(next);

        // A crash while epoch 8 is written: the record was saved before, the lines are half there.
        let record = published::record_of(&path, is_directory);
        let saved = fs::read_to_string(&record).expect("a record");
        let writing = format!("\"writing\":[[{:?},{}]]", file.to_string_lossy(), written.len());
        fs::write(&record, saved.replace("\"writing\":[]", &writing)).expect("there is room");
        fs::write(&file, format!("{written}+,8,1")).expect("there is room");
        let mut next = once(true, &pairs);
        assert_eq!(next.take_over(), Ok(Some(5)));
        assert_eq!(fs::read_to_string(&file).expect("written"), written);
        next.publish(&[epoch(8)], 8).expect("there is room");
        assert_eq!(fs::read_to_string(&file).expect("written").lines().count(), 4);
        drop(next);

        // What cannot be trusted is said, and nothing is done.
        fs::write(&record, "{").expect("there is room");
        assert!(once(true, &pairs).take_over().is_err_and(|error| error.fatal && error.message.contains("is damaged")));
        let other = saved.replace("\"out\"", "\"other\"");
        fs::write(&record, other).expect("there is room");
        assert!(once(true, &pairs).take_over().is_err_and(|error| error.fatal && error.message.contains("sink 'other'")));
        fs::write(&record, saved.replace("\"writing\":[]", &writing.replace("]]", "00]]"))).expect("there is room");
        assert!(once(true, &pairs).take_over().is_err_and(|error| error.fatal && error.message.contains("has cut it")));
        if !is_directory {
            // A job that begins anew writes anew.
            drop(once(false, &pairs));
            assert_eq!(fs::read_to_string(&file).expect("emptied"), "");
            fs::remove_file(&path).expect("it is there");
        }
    }
}
