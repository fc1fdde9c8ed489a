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
        checkpoints: true,
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
    assert!(validate(&new, &[("delivery", "exactly_once")]).is_err());
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
