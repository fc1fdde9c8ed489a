//! Changes appended to a file, one line each.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use highwater_plan::{Diagnostic, Field, OptionReader, Span};

use super::lines::{LINE_FIELDS, Lines};
use super::partitioned::Partitioned;
use super::published::{Layout, Published, record_of};
use super::{COMMON_FIELDS, Changes, Delivery, SinkConnector, SinkError, SinkSpec, SinkTarget, SinkWriter};

/// `connector = 'file'`, out.
///
/// The file is emptied when the sink opens unless `append = 'true'`, or the job goes on from a checkpoint. An epoch is one write: a reader that follows the file
/// sees whole epochs unless the disk fills up in between. With `partition_by` the path is a directory with a file for each
/// value of the columns: see [`super::partitioned`].
#[derive(Debug, Clone, Copy)]
pub struct FileSink;

const FIELDS: &[Field] = &[
    Field { key: "path", about: "the file to write" },
    Field { key: "partition_by", about: "columns, separated by commas, whose values name directories below the path" },
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

    fn publishes_exactly_once(&self) -> bool {
        true
    }

    fn validate(&self, spec: &SinkSpec) -> Result<(), Diagnostic> {
        let target = Target::read(spec)?;
        if !target.by.is_empty() {
            return target.check_directory();
        }
        let path = &target.path;
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(target.unwritable("it is a directory")),
            // Opened for writing and nothing else, a file stays as it is; what is no file might wait for a reader.
            Ok(found) if found.is_file() => {
                OpenOptions::new().write(true).open(path).map(drop).map_err(|error| target.unwritable(error))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => match path.parent().map(std::fs::metadata) {
                _ if path.file_name().is_none() => Err(target.unwritable("it names no file")),
                Some(Ok(directory)) if directory.permissions().readonly() => Err(target.unwritable("its directory is read-only")),
                Some(Err(_)) if !target.in_directory() => Err(target.unwritable(error)),
                _ => Ok(()),
            },
            Err(error) => Err(target.unwritable(error)),
        }
    }

    fn open(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        let mut target = Target::read(spec)?;
        target.append |= spec.resumes;
        let once = spec.delivery(true)? == Delivery::ExactlyOnce;
        if !target.by.is_empty() {
            target.check_directory()?;
            std::fs::create_dir_all(&target.path).map_err(|error| target.unwritable(error))?;
            let rest = Partitioned::without(spec, &target.by);
            let partitioned = Partitioned { directory: target.path, by: target.by, rest, lines: target.lines };
            return Ok(match once {
                true => SinkTarget::Publisher(Box::new(Published::new(spec.clone(), Layout::Partitioned(partitioned)))),
                false => SinkTarget::Writer(Box::new(partitioned)),
            });
        }
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(target.append).truncate(!target.append);
        let file = options.open(&target.path).map_err(|error| target.unwritable(error))?;
        if once {
            let record = record_of(&target.path, false);
            if !spec.resumes && record.exists() {
                // What it says is of a job that this one is not.
                std::fs::remove_file(&record).map_err(|error| target.unwritable(error))?;
            }
            let layout = Layout::One(target.path, target.lines);
            return Ok(SinkTarget::Publisher(Box::new(Published::new(spec.clone(), layout))));
        }
        let mut buffer = Vec::new();
        if file.metadata().map_err(|error| target.unwritable(error))?.len() == 0 {
            target.lines.header(spec, &mut buffer);
        }
        Ok(SinkTarget::Writer(Box::new(Writer { path: target.path, file, lines: target.lines, buffer })))
    }
}

/// What a statement's options say.
struct Target {
    path: PathBuf,
    append: bool,
    lines: Lines,
    /// The columns of `partition_by`.
    by: Vec<usize>,
    /// Where the path stands in the statement.
    place: Option<Span>,
}

impl Target {
    fn read(spec: &SinkSpec) -> Result<Self, Diagnostic> {
        let reader = OptionReader::new(&spec.options, "connector 'file'", &[FIELDS, LINE_FIELDS, COMMON_FIELDS])?;
        let path = PathBuf::from(reader.required("path")?);
        let append = reader.flag("append", false)?;
        let lines = Lines::from_options(&reader, spec)?;
        let place = spec.options.entry("path").and_then(|entry| entry.value_span).or(spec.options.span);
        let by = partition_columns(&reader, spec)?;
        Ok(Target { path, append, lines, by, place })
    }

    /// Whether the path can be a directory of partitions. One that has something in it is only added to: nothing that others
    /// may have put there is deleted.
    fn check_directory(&self) -> Result<(), Diagnostic> {
        match std::fs::read_dir(&self.path).map(|mut entries| entries.next().is_some()) {
            Ok(true) if !self.append => {
                Err(self.unwritable("the directory is not empty").help("empty it, or say append = 'true'"))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound && self.in_directory() => Ok(()),
            Err(error) => Err(self.unwritable(error)),
        }
    }

    /// Whether the directory that the file is to be in is there.
    fn in_directory(&self) -> bool {
        self.path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir())
    }

    fn unwritable(&self, why: impl std::fmt::Display) -> Diagnostic {
        let message = format!("opening '{}' for writing: {why}", self.path.display());
        let diagnostic = Diagnostic::error("sink-unwritable", message).at(self.place);
        if self.in_directory() { diagnostic } else { diagnostic.help("create the directory first") }
    }
}

/// The columns that `partition_by` names.
fn partition_columns(reader: &OptionReader<'_>, spec: &SinkSpec) -> Result<Vec<usize>, Diagnostic> {
    let Some(names) = reader.optional("partition_by") else { return Ok(Vec::new()) };
    let mut by: Vec<usize> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let column = spec.schema.fields().iter().position(|field| field.name() == name);
        by.push(column.ok_or_else(|| reader.invalid("partition_by", format!("columns of the sink; there is no '{name}'")))?);
    }
    if (1..by.len()).any(|place| by[..place].contains(&by[place])) {
        return Err(reader.invalid("partition_by", "each column once"));
    }
    if by.len() == spec.schema.fields().len() {
        return Err(reader.invalid("partition_by", "fewer columns than the sink has: the others are its lines"));
    }
    Ok(by)
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
