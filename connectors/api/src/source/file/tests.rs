//! Files that are read to their end, followed, rotated, truncated and resumed.

use std::fs;
use std::io::Write;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field as Column, Int64Type, Schema};
use highwater_plan::Options;

use super::*;

fn spec(path: &Path, pairs: &[(&str, &str)]) -> SourceSpec {
    let path = path.to_string_lossy();
    let options = Options::from_pairs(pairs.iter().copied().chain([("connector", "file"), ("path", &*path)]));
    SourceSpec {
        name: "rows".into(),
        schema: Arc::new(Schema::new(vec![Column::new("id", DataType::Int64, true), Column::new("s", DataType::Utf8, true)])),
        used: vec![0],
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options,
        keeps_origin: true,
        workers: 1,
        log: None,
    }
}

fn reader(source: &dyn Source, offset: Option<&Offset>) -> Box<dyn PartitionReader> {
    let partitions = source.partitions().expect("partitions");
    source.read(&partitions[0], offset, Arc::new(|| {})).expect("a reader")
}

/// What comes until nothing comes: ids, and rejects as `line: ..`.
struct Got {
    ids: Vec<i64>,
    rejects: Vec<String>,
    offset: Option<Offset>,
    bytes: u64,
    finished: bool,
}

fn drain(reader: &mut dyn PartitionReader) -> Got {
    let mut got = Got { ids: Vec::new(), rejects: Vec::new(), offset: None, bytes: 0, finished: false };
    let mut pending = 0;
    // A followed file may need a few looks until it has been seen to be replaced.
    while pending < 3 {
        match reader.poll(3).expect("no errors") {
            Polled::Batch(batch) => {
                let ids = batch.rows.column(0).as_primitive::<Int64Type>();
                got.ids.extend(ids.values());
                got.rejects.extend(batch.rejects.into_iter().map(|reject| format!("{}@{}", reject.reason, reject.offset.0)));
                got.offset = Some(batch.offset);
                got.bytes += batch.bytes;
                pending = 0;
            }
            Polled::Pending(_) | Polled::Waiting(_) => pending += 1,
            Polled::Finished => {
                got.finished = true;
                break;
            }
        }
    }
    got
}

fn append(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("writing a test's file");
}

fn rows(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"s\":\"x{id}\"}}\n")).collect()
}

#[test]
fn a_file_is_read_to_its_end_with_rejects_and_origins() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.jsonl");
    fs::write(&path, "{\"id\":1,\"s\":\"a\"}\n\nnonsense\n{\"id\":2,\"s\":5}\n\u{0}\u{1}\n{\"id\":3}").expect("writing");
    let source = FileSource.open(&spec(&path, &[])).expect("good options");
    assert!(source.bounded());
    let mut reader = reader(&*source, None);
    assert_eq!(reader.backlog(), None);
    let Polled::Batch(batch) = reader.poll(100).expect("no errors") else { panic!("there are rows") };
    assert_eq!(batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec(), [1, 2, 3]);
    let reasons: Vec<&str> = batch.rejects.iter().map(|reject| reject.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "line 3: not valid JSON: expected an object, found 'n' at byte 0",
            "line 5: not valid JSON: expected an object, found '\\0' at byte 0",
        ]
    );
    assert_eq!((batch.rejects[0].offset.0.as_ref(), batch.rejects[0].raw.as_slice()), ("18", &b"nonsense"[..]));
    assert_eq!((batch.bytes, batch.offset.0.as_ref()), (53, "byte 53 line 6"));
    let whole = batch.origin.expect("asked for").rows(&[2, 0, 1]).expect("rows");
    let mut text = Vec::new();
    crate::format::encode::ndjson(&whole, &mut text).expect("JSON");
    assert_eq!(String::from_utf8_lossy(&text), "{\"id\":3,\"s\":null}\n{\"id\":1,\"s\":\"a\"}\n{\"id\":2,\"s\":\"5\"}\n");
    assert!(matches!(reader.poll(100), Ok(Polled::Finished)));
    assert!(matches!(reader.poll(100), Ok(Polled::Finished)));
}

#[test]
fn reading_goes_on_at_any_offset() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, pairs, text) in [
        ("a.jsonl", &[][..], rows(0..10)),
        (
            "a.csv",
            &[("format", "csv")][..],
            "s,id\n".to_string() + &(0..10).map(|id| format!("\"x\n\",{id}\n")).collect::<String>(),
        ),
    ] {
        let plain = directory.path().join(name);
        fs::write(&plain, &text).expect("writing");
        let packed = directory.path().join(format!("{name}.gz"));
        let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&packed).expect("a file"), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).and_then(|()| encoder.try_finish()).expect("writing");
        for path in [&plain, &packed] {
            let source = FileSource.open(&spec(path, pairs)).expect("good options");
            let mut first = reader(&*source, None);
            let mut seen = 0;
            while let Polled::Batch(batch) = first.poll(3).expect("no errors") {
                seen += batch.rows.num_rows() as i64;
                let rest = drain(&mut *reader(&*source, Some(&batch.offset)));
                assert_eq!(rest.ids, (seen..10).collect::<Vec<_>>(), "{path:?} at {}", batch.offset.0);
                assert!(rest.finished && rest.rejects.is_empty());
            }
            assert_eq!(seen, 10);
        }
    }
    let source = FileSource.open(&spec(&directory.path().join("a.jsonl"), &[])).expect("good options");
    fs::write(directory.path().join("a.jsonl"), "").expect("writing");
    let error = reader(&*source, Some(&Offset::new("byte 20 line 1"))).poll(1).expect_err("it has become shorter");
    assert!(error.fatal && error.message.contains("has 0 bytes, but was read up to byte 20"));
}

#[test]
fn a_directory_and_a_pattern_are_partitions_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["b.jsonl", "a.jsonl", "c.txt", ".hidden"] {
        fs::write(directory.path().join(name), "").expect("writing");
    }
    let names = |path: &Path| {
        let partitions = FileSource.open(&spec(path, &[])).expect("good options").partitions().expect("partitions");
        partitions.iter().map(|id| id.0.rsplit('/').next().unwrap_or_default().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(directory.path()), ["a.jsonl", "b.jsonl", "c.txt"]);
    assert_eq!(names(&directory.path().join("*.jsonl")), ["a.jsonl", "b.jsonl"]);
    let error = FileSource.open(&spec(&directory.path().join("*.csv"), &[])).err().expect("nothing there");
    assert!(error.message.contains("no file matches"));
}

#[test]
fn about_how_many_rows_a_file_has_is_told_by_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let text = rows(0..50_000);
    let plain = folder.path().join("rows.jsonl");
    append(&plain, &text);
    let told = |path: &Path, pairs: &[(&str, &str)]| FileSource.open(&spec(path, pairs)).unwrap().rows();
    let near = |rows: Option<u64>, factor: u64| rows.is_some_and(|rows| (50_000 / factor..50_000 * factor).contains(&rows));
    assert!(near(told(&plain, &[]), 2), "{:?}", told(&plain, &[]));
    assert_eq!(told(&plain, &[("follow", "true")]), None, "nobody knows when it ends");
    let packed = folder.path().join("rows.jsonl.gz");
    let mut packer = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), flate2::Compression::default());
    std::io::Write::write_all(&mut packer, text.as_bytes()).unwrap();
    packer.finish().unwrap();
    assert!(near(told(&packed, &[]), 8), "{:?}", told(&packed, &[]));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let error = FileSource.open(&spec(Path::new("/nowhere/at/all.jsonl"), &[])).err().expect("no such file");
    assert!(error.message.contains("opening '/nowhere/at/all.jsonl'"), "{error}");
    let error = FileSource.open(&spec(Path::new("/nowhere/x.gz"), &[("follow", "true")])).err().expect("packed");
    assert!(error.message.contains("cannot be followed"));
    let error = FileSource.open(&spec(Path::new("/x"), &[("format", "xml")])).err().expect("no such format");
    assert!(error.help.expect("help").contains("json, csv, debezium, changelog"));
    let error = FileSource.open(&spec(Path::new("/x"), &[("formt", "csv")])).err().expect("no such option");
    assert!(error.help.expect("help").contains("row_bytes_max"));
}

#[test]
fn a_followed_file_grows_rotates_and_is_truncated() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.jsonl");
    let source = FileSource.open(&spec(&path, &[("follow", "true")])).expect("the file may come later");
    assert!(!source.bounded());
    let mut reader = reader(&*source, None);
    let error = reader.poll(1).expect_err("told once");
    assert!(!error.fatal && error.message.contains("is missing"));
    assert!(matches!(reader.poll(1), Ok(Polled::Pending(Some(_)))));

    append(&path, &rows(0..4));
    append(&path, "{\"id\":4");
    assert_eq!(drain(&mut *reader).ids, [0, 1, 2, 3]);
    append(&path, "}\n");
    assert_eq!(drain(&mut *reader).ids, [4]);

    // Rotated: what the old file still gets before the new one is there, and its last line without an end, are read.
    let rotated = directory.path().join("log.1");
    fs::rename(&path, &rotated).expect("renaming");
    append(&rotated, &rows(5..6));
    assert_eq!(drain(&mut *reader).ids, [5]);
    append(&rotated, "{\"id\":6}");
    append(&path, &rows(7..9));
    let got = drain(&mut *reader);
    assert_eq!(got.ids, [6, 7, 8]);
    assert_eq!(
        got.offset,
        Some(Offset::new(format_args!("byte 36 line 2 inode {}", fs::metadata(&path).expect("a file").ino())))
    );

    // Truncated and written again.
    fs::write(&path, rows(9..10)).expect("writing");
    assert_eq!(drain(&mut *reader).ids, [9]);

    // Gone, and back.
    fs::remove_file(&path).expect("removing");
    assert!(drain(&mut *reader).ids.is_empty());
    append(&path, &rows(10..12));
    assert_eq!(drain(&mut *reader).ids, [10, 11]);
    assert_eq!(reader.backlog(), Some(Backlog { rows: 0, bytes: 0 }));
}

use std::os::unix::fs::MetadataExt;

#[test]
fn a_file_that_was_rotated_meanwhile_is_read_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.csv");
    let pairs = [("follow", "true"), ("format", "csv")];
    append(&path, "s,id\na,1\nb,2\n");
    let source = FileSource.open(&spec(&path, &pairs)).expect("good options");
    let offset = drain(&mut *reader(&*source, None)).offset.expect("rows");
    append(&path, "c,3\n");
    let got = drain(&mut *reader(&*source, Some(&offset)));
    assert_eq!(got.ids, [3]);
    fs::rename(&path, directory.path().join("log.csv.1")).expect("renaming");
    append(&path, "id,s\n4,d\n");
    assert_eq!(drain(&mut *reader(&*source, Some(&offset))).ids, [3, 4]);
    // Without the rotated file only the new one is left.
    fs::remove_file(directory.path().join("log.csv.1")).expect("removing");
    assert_eq!(drain(&mut *reader(&*source, Some(&offset))).ids, [4]);
}

#[test]
fn an_over_long_line_is_one_reject() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.jsonl");
    append(&path, &rows(0..1));
    append(&path, &format!("{{\"id\":1,\"s\":\"{}\"}}\n", "y".repeat(5_000_000)));
    append(&path, &rows(2..3));
    let source = FileSource.open(&spec(&path, &[("row_bytes_max", "100000")])).expect("good options");
    let mut reader = reader(&*source, None);
    let Polled::Batch(batch) = reader.poll(100).expect("no errors") else { panic!("there are rows") };
    assert_eq!(batch.rows.num_rows(), 2);
    let reject = &batch.rejects[0];
    assert_eq!((reject.raw.len(), reject.raw_bytes), (Reject::RAW_BYTES_MAX, 5_000_015));
    assert_eq!(reject.reason, "line 2: longer than row_bytes_max = 100000 bytes");
}

#[test]
fn csv_rejects_name_line_and_column() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.csv");
    append(&path, "id;s;more\r\n1;a;\r\nx;\"b\nb\";\r\n2;c\r\n3;d;\r\n");
    let source = FileSource.open(&spec(&path, &[("format", "csv"), ("csv.delimiter", ";")])).expect("good options");
    let got = drain(&mut *reader(&*source, None));
    assert_eq!(got.ids, [1, 3]);
    assert_eq!(got.rejects, ["line 3: column 'id': expected BIGINT, found 'x'@17", "line 5: 2 fields, expected 3@27"]);
    assert_eq!(got.bytes, 38);
    let source = FileSource.open(&spec(&path, &[("format", "csv"), ("csv.header", "false"), ("csv.delimiter", "tab")]));
    let got = drain(&mut *reader(&*source.expect("good options"), None));
    // A quote in the middle of a field is a letter, so the quoted line feed is one too.
    assert_eq!((got.ids.len(), got.rejects.len()), (0, 6));
}
