//! Changes appended to a file, one line each.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use highwater_plan::{Diagnostic, Field, OptionReader};

use super::lines::{LINE_FIELDS, Lines};
use super::{COMMON_FIELDS, Changes, SinkConnector, SinkError, SinkSpec, SinkWriter};

/// `connector = 'file'`, out.
///
/// The file is emptied when the sink opens unless `append = 'true'`. An epoch is one write: a reader that follows the file
/// sees whole epochs unless the disk fills up in between.
#[derive(Debug, Clone, Copy)]
pub struct FileSink;

const FIELDS: &[Field] = &[
    Field { key: "path", about: "the file to write" },
    Field { key: "append", about: "whether to keep what the file already has; default false" },
];

struct Writer {
    path: PathBuf,
    file: File,
    lines: Lines,
    buffer: Vec<u8>,
}

impl SinkConnector for FileSink {
    fn name(&self) -> &'static str {
        "file"
    }

    fn fields(&self) -> Vec<Field> {
        [FIELDS, LINE_FIELDS, COMMON_FIELDS].concat()
    }

    fn open(&self, spec: &SinkSpec) -> Result<Box<dyn SinkWriter>, Diagnostic> {
        let reader = OptionReader::new(&spec.options, "connector 'file'", &[FIELDS, LINE_FIELDS, COMMON_FIELDS])?;
        let path = PathBuf::from(reader.required("path")?);
        let append = reader.flag("append", false)?;
        let lines = Lines::from_options(&reader, spec)?;
        let place = spec.options.entry("path").and_then(|entry| entry.value_span).or(spec.options.span);
        let failed = |error: std::io::Error| {
            let missing = path.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.is_dir());
            let diagnostic =
                Diagnostic::error("sink-unwritable", format!("opening '{}' for writing: {error}", path.display())).at(place);
            if missing { diagnostic.help("create the directory first") } else { diagnostic }
        };
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append);
        let file = options.open(&path).map_err(failed)?;
        let mut buffer = Vec::new();
        if file.metadata().map_err(failed)?.len() == 0 {
            lines.header(spec, &mut buffer);
        }
        Ok(Box::new(Writer { path, file, lines, buffer }))
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError> {
        let encoded = self.lines.write(epoch, changes, &mut self.buffer);
        let path = self.path.display();
        encoded.map_err(|error| SinkError { message: format!("encoding rows for '{path}': {error}") })?;
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| SinkError { message: format!("writing to '{path}': {error}") })
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let written = self.file.write_all(&self.buffer).and_then(|()| self.file.flush());
        self.buffer.clear();
        written.map_err(|error| SinkError { message: format!("writing to '{}': {error}", self.path.display()) })
    }
}
