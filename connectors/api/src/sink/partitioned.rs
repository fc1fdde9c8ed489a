//! Changes appended to files in a directory, one file per value of some columns: `dt=2024-05-01/hm=12%3A05/part.jsonl`.
//!
//! The directories are named as Hive, Flink and Spark name them, so that they read the result as a partitioned table; the
//! columns stand in the path and not in the lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Int64Array, UInt32Array};
use arrow::compute;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::lines::Lines;
use super::{Changes, SinkError, SinkSpec, SinkWriter};

/// What stands in a path for NULL and for nothing.
const NOTHING: &str = "__HIVE_DEFAULT_PARTITION__";

/// Writes each row to the file of its partition.
pub(super) struct Partitioned {
    /// The directory of all.
    pub(super) directory: PathBuf,
    /// The columns whose values name partitions, in the order of the path.
    pub(super) by: Vec<usize>,
    /// The sink without these columns.
    pub(super) rest: SinkSpec,
    pub(super) lines: Lines,
}

impl Partitioned {
    /// The sink without the columns that stand in paths.
    pub(super) fn without(spec: &SinkSpec, by: &[usize]) -> SinkSpec {
        let kept: Vec<usize> = (0..spec.schema.fields().len()).filter(|column| !by.contains(column)).collect();
        let schema = spec.schema.project(&kept).expect("columns of the sink");
        SinkSpec { schema: Arc::new(schema), ..spec.clone() }
    }

    /// The changes of each partition, by its path.
    fn split(&self, changes: &Changes) -> Result<BTreeMap<String, Changes>, ArrowError> {
        let options = FormatOptions::default();
        let columns = self.by.iter().map(|column| changes.rows.column(*column));
        let values = columns.map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
        let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in 0..changes.rows.num_rows() {
            let mut path = String::new();
            for (column, value) in self.by.iter().zip(&values) {
                let name = changes.rows.schema_ref().field(*column).name().clone();
                let text = match changes.rows.column(*column).is_null(row) {
                    true => String::new(),
                    false => value.value(row).try_to_string()?,
                };
                let text = if text.is_empty() { NOTHING.into() } else { escaped(&text) };
                let slash = if path.is_empty() { "" } else { "/" };
                let _ = write!(path, "{slash}{}={text}", escaped(&name));
            }
            rows.entry(path).or_default().push(row as u32);
        }
        let kept: Vec<usize> = (0..changes.rows.num_columns()).filter(|column| !self.by.contains(column)).collect();
        let lines = changes.rows.project(&kept)?;
        let of = |(path, rows): (String, Vec<u32>)| {
            let rows = UInt32Array::from(rows);
            let diffs = changes.diffs.as_ref().map(|diffs| compute::take(diffs, &rows, None)).transpose()?;
            let diffs = diffs.map(|diffs| Int64Array::from(diffs.to_data()));
            Ok((path, Changes { rows: compute::take_record_batch(&lines, &rows)?, diffs }))
        };
        rows.into_iter().map(of).collect()
    }

    /// Appends the lines of an epoch to those of the files that they belong to.
    pub(super) fn encode(
        &self,
        epoch: u64,
        changes: &[Changes],
        files: &mut BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<(), ArrowError> {
        for changes in changes {
            for (partition, changes) in self.split(changes)? {
                let name = if self.lines.is_csv() { "part.csv" } else { "part.jsonl" };
                let lines = files.entry(self.directory.join(partition).join(name)).or_default();
                self.lines.write(epoch, &[changes], lines)?;
            }
        }
        Ok(())
    }

    /// The line that each file begins with, if there is one.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        self.lines.header(&self.rest, &mut header);
        header
    }

    fn append(&self, path: &Path, lines: &[u8]) -> Result<(), SinkError> {
        let failed = |error: std::io::Error| SinkError { message: format!("writing to '{}': {error}", path.display()) };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        let mut buffer = if file.metadata().map_err(failed)?.len() == 0 { self.header() } else { Vec::new() };
        buffer.extend_from_slice(lines);
        file.write_all(&buffer).map_err(failed)
    }
}

impl SinkWriter for Partitioned {
    fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError> {
        let mut files = BTreeMap::new();
        self.encode(epoch, changes, &mut files)
            .map_err(|error| SinkError { message: format!("encoding rows for '{}': {error}", self.directory.display()) })?;
        files.iter().try_for_each(|(path, lines)| self.append(path, lines))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A text as a part of a path: what means something to a file system or to readers of such paths is `%` and two digits.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '}' | '[' | ']' | '^' | '\u{7f}' => {
                let _ = write!(out, "%{:02X}", letter as u32);
            }
            letter if letter < ' ' => {
                let _ = write!(out, "%{:02X}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out
}
