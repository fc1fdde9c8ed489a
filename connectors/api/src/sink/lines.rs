//! Changes as lines of text: what the file and the stdout sink have in common.
//!
//! An append-only sink writes plain rows. One whose rows may be taken back adds `"op":"+"` or `"-"` and the epoch to each
//! line, so that the lines can be read as a changelog (`format = 'changelog'`). A row that changed n times is n lines.

use arrow::array::Array;
use arrow::error::ArrowError;
use highwater_plan::{Diagnostic, Field, OptionReader};

use super::{Changes, SinkSpec};
use crate::format::encode::{CsvWriter, RowWriter, csv_header};

/// The options of line formats.
pub(super) const LINE_FIELDS: &[Field] = &[Field { key: "format", about: "json (one object a line) or csv; default json" }];

/// Encodes changes as lines.
#[derive(Debug)]
pub(super) struct Lines {
    csv: bool,
    append_only: bool,
}

impl Lines {
    /// Reads the options; `reader` knows [`LINE_FIELDS`].
    pub(super) fn from_options(reader: &OptionReader<'_>, spec: &SinkSpec) -> Result<Lines, Diagnostic> {
        let csv = reader.choice("format", &[("json", false), ("csv", true)])?.unwrap_or(false);
        Ok(Lines { csv, append_only: spec.append_only })
    }

    /// Whether the lines are CSV.
    pub(super) fn is_csv(&self) -> bool {
        self.csv
    }

    /// The line before all others, if there is one.
    pub(super) fn header(&self, spec: &SinkSpec, out: &mut Vec<u8>) {
        if self.csv {
            let signs: &[&str] = if self.append_only { &[] } else { &["op", "epoch"] };
            csv_header(signs.iter().copied().chain(spec.schema.fields().iter().map(|field| field.name().as_str())), out);
        }
    }

    /// Appends the lines of the changes of an epoch; gives their number.
    pub(super) fn write(&self, epoch: u64, changes: &[Changes], out: &mut Vec<u8>) -> Result<u64, ArrowError> {
        let mut lines = 0;
        for changes in changes {
            let batch = &changes.rows;
            let (json, csv) = if self.csv { (None, Some(CsvWriter::new(batch)?)) } else { (Some(RowWriter::new(batch)?), None) };
            for row in 0..batch.num_rows() {
                let diff = changes.diffs.as_ref().filter(|diffs| diffs.is_valid(row)).map_or(1, |diffs| diffs.value(row));
                let op = if diff < 0 { '-' } else { '+' };
                for _ in 0..diff.unsigned_abs() {
                    if let Some(json) = &json {
                        out.push(b'{');
                        if !self.append_only {
                            out.extend_from_slice(format!("\"op\":\"{op}\",\"epoch\":{epoch}").as_bytes());
                        }
                        json.write_fields(row, self.append_only, out);
                        out.push(b'}');
                    }
                    if let Some(csv) = &csv {
                        if !self.append_only {
                            out.extend_from_slice(format!("{op},{epoch},").as_bytes());
                        }
                        csv.write_row(row, out);
                    }
                    out.push(b'\n');
                    lines += 1;
                }
            }
        }
        Ok(lines)
    }
}
