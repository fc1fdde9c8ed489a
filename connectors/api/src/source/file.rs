//! Files of records: read to their end, or followed as they grow.
//!
//! One partition per file. Offsets are bytes, so reading goes on exactly where a checkpoint left it. A followed file may
//! grow, be truncated, be replaced by another (rotation), vanish and come back; see [`tail`]. A directory or a pattern that
//! is followed gets new partitions as files appear, so it must not match the names that rotation gives to old files.

mod paths;
mod records;
mod tail;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_plan::{Diagnostic, Field, OptionReader};

use self::paths::Paths;
use self::records::{Next, Records};
use self::tail::{Place, Tail};
use super::{
    Backlog, COMMON_FIELDS, Offset, PartitionId, PartitionReader, Polled, Reject, Source, SourceBatch, SourceConnector,
    SourceError, SourceSpec, Waker,
};
use crate::format::{Decoder, FORMAT_FIELDS, Format};

/// `connector = 'file'`, in.
#[derive(Debug, Clone, Copy)]
pub struct FileSource;

const FIELDS: &[Field] = &[
    Field {
        key: "path",
        about: "a file, a directory, or a pattern with '*' in its last part; files that end in .gz are unpacked",
    },
    Field { key: "follow", about: "whether to wait for more at the end, like tail -F; default false" },
];

/// How often a followed file is looked at when it does not grow.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes that one batch takes at most.
const BATCH_BYTES_MAX: u64 = 8 << 20;

#[derive(Debug)]
struct Files {
    spec: SourceSpec,
    format: Format,
    paths: Paths,
    follow: bool,
}

impl SourceConnector for FileSource {
    fn name(&self) -> &'static str {
        "file"
    }

    fn fields(&self) -> Vec<Field> {
        [FIELDS, FORMAT_FIELDS, COMMON_FIELDS].concat()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let reader = OptionReader::new(&spec.options, "connector 'file'", &[FIELDS, FORMAT_FIELDS, COMMON_FIELDS])?;
        let path = reader.required("path")?;
        let follow = reader.flag("follow", false)?;
        let format = Format::from_options(&reader)?;
        format.decoder(&spec.decoder_spec(), &spec.options)?;
        let place = spec.options.entry("path").and_then(|entry| entry.value_span).or(spec.options.span);
        let paths = Paths::new(path);
        let unreadable = |what: String| Diagnostic::error("source-unreadable", what).at(place);
        let files = paths.list().map_err(|error| {
            unreadable(format!("reading '{path}': {error}"))
                .help("check the path; it is taken from the directory where highwater runs")
        })?;
        if follow && let Some(packed) = files.iter().find(|file| is_packed(file)) {
            let message = format!("'{}' is packed and cannot be followed", packed.display());
            return Err(unreadable(message).help("set follow = 'false', or follow the file before it is packed"));
        }
        if !follow {
            if files.is_empty() {
                return Err(unreadable(format!("no file matches '{path}'"))
                    .help("check the path, or wait for files with follow = 'true'"));
            }
            for file in &files {
                File::open(file).map_err(|error| unreadable(format!("opening '{}': {error}", file.display())))?;
            }
        }
        Ok(Box::new(Arc::new(Files { spec: spec.clone(), format, paths, follow })))
    }
}

impl Source for Arc<Files> {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        let files = self.paths.list().map_err(|error| SourceError::passing(format!("listing '{}': {error}", self.paths)))?;
        Ok(files.iter().map(|file| PartitionId::new(file.to_string_lossy())).collect())
    }

    fn read(&self, partition: &PartitionId, offset: Option<&Offset>, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let path = PathBuf::from(&*partition.0);
        let place = offset.map(|offset| self.place_of(offset, &path)).transpose()?.unwrap_or_default();
        let decoder = self.format.decoder(&self.spec.decoder_spec(), &self.spec.options);
        let decoder = decoder.map_err(|error| SourceError::fatal(error.to_string()))?;
        let input =
            if self.follow { Input::Followed(Tail::new(path.clone(), place)) } else { Input::Unopened(path.clone(), place) };
        let records = Records::new(self.format.clone(), place.byte, place.line);
        Ok(Box::new(Reader {
            files: self.clone(),
            path,
            input,
            records,
            decoder,
            wants_header: true,
            end: u64::MAX,
            finished: false,
        }))
    }

    fn repeats(&self) -> bool {
        true
    }

    fn again(&self, partition: &PartitionId, until: &Offset, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let path = PathBuf::from(&*partition.0);
        let place = self.place_of(until, &path)?;
        let gone = |what: String| SourceError::fatal(format!("file '{}' cannot be read again: {what}", path.display()));
        let metadata = fs::metadata(&path).map_err(|error| gone(error.to_string()))?;
        if place.inode.is_some_and(|inode| inode != metadata.ino()) {
            return Err(gone("it is another file by now".into()));
        }
        if !is_packed(&path) && metadata.len() < place.byte {
            return Err(gone(format!("it has {} bytes, but was read up to byte {}", metadata.len(), place.byte)));
        }
        let decoder = self.format.decoder(&self.spec.decoder_spec(), &self.spec.options);
        let decoder = decoder.map_err(|error| SourceError::fatal(error.to_string()))?;
        Ok(Box::new(Reader {
            files: self.clone(),
            input: Input::Unopened(path.clone(), Place::default()),
            path,
            records: Records::new(self.format.clone(), 0, 0),
            decoder,
            wants_header: true,
            end: place.byte,
            finished: place.byte == 0,
        }))
    }

    fn bounded(&self) -> bool {
        !self.follow
    }

    fn rows(&self) -> Option<u64> {
        if self.follow {
            return None;
        }
        // A pipe can be read only once.
        let size = |file: &PathBuf| file.metadata().ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len());
        let files = self.paths.list().ok()?;
        let bytes: u64 = files.iter().map(size).sum::<Option<u64>>()?;
        let (read, lines) = lines_at_start(files.first()?).ok()?;
        Some(bytes.saturating_mul(lines.max(1)) / read.max(1))
    }
}

impl Files {
    fn place_of(&self, offset: &Offset, path: &Path) -> Result<Place, SourceError> {
        let wrong = || SourceError::fatal(format!("'{}' is no position in file '{}'", offset.0, path.display()));
        Place::parse(&offset.0).ok_or_else(wrong)
    }
}

/// How many bytes of a file the first records take, as they lie on disk, and how many records these are.
fn lines_at_start(path: &Path) -> io::Result<(u64, u64)> {
    const BYTES: u64 = 64 << 10;
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    unpacked(path, &mut file)?.take(BYTES).read_to_end(&mut start)?;
    let lines = memchr::memchr_iter(b'\n', &start).count() as u64;
    // Rows of text are packed to about a fifth.
    let on_disk = if is_packed(path) { start.len() as u64 / 5 } else { start.len() as u64 };
    Ok((on_disk, lines))
}

enum Input {
    Unopened(PathBuf, Place),
    Bounded(Box<dyn Read + Send>, u64),
    Followed(Tail),
}

struct Reader {
    files: Arc<Files>,
    path: PathBuf,
    input: Input,
    records: Records,
    decoder: Decoder,
    /// The header of the file at hand has not been read.
    wants_header: bool,
    /// Records from this byte on are not read.
    end: u64,
    finished: bool,
}

impl Reader {
    /// Opens the file if that is still to be done; for a followed file, finds out whether it was replaced.
    fn prepare(&mut self) -> Result<bool, SourceError> {
        let failed =
            |path: &PathBuf, error: io::Error| SourceError::passing(format!("reading file '{}': {error}", path.display()));
        match &mut self.input {
            Input::Unopened(path, place) => {
                let place = *place;
                let mut file = File::open(&*path)
                    .map_err(|error| SourceError::fatal(format!("opening file '{}': {error}", path.display())))?;
                let size = file.metadata().map_err(|error| failed(path, error))?.len();
                if !is_packed(path) && size < place.byte {
                    let message = format!("file '{}' has {size} bytes, but was read up to byte {}", path.display(), place.byte);
                    return Err(SourceError::fatal(message));
                }
                if place.byte > 0 && self.files.format.has_header() {
                    let mut input = unpacked(path, &mut file).map_err(|error| failed(path, error))?;
                    self.decoder_header(&mut *input)?;
                }
                let Input::Unopened(path, _) = &self.input else { unreachable!("matched above") };
                file.seek(SeekFrom::Start(0)).map_err(|error| failed(path, error))?;
                let input: Box<dyn Read + Send> = if is_packed(path) {
                    let mut input = flate2::read::MultiGzDecoder::new(BufReader::new(file));
                    // A packed file cannot be entered in the middle: what was read before is unpacked again.
                    let skipped =
                        io::copy(&mut (&mut input).take(place.byte), &mut io::sink()).map_err(|error| failed(path, error))?;
                    if skipped < place.byte {
                        return Err(SourceError::fatal(format!("file '{}' is shorter than it was", path.display())));
                    }
                    Box::new(input)
                } else {
                    file.seek(SeekFrom::Start(place.byte)).map_err(|error| failed(path, error))?;
                    Box::new(file)
                };
                self.input = Input::Bounded(input, size);
                Ok(true)
            }
            Input::Bounded(..) => Ok(true),
            Input::Followed(tail) => {
                let Some(opened) = tail.open()? else { return Ok(false) };
                if let Some(place) = opened {
                    self.records = Records::new(self.files.format.clone(), place.byte, place.line);
                    self.wants_header = true;
                    if place.byte > 0 && self.files.format.has_header() {
                        let mut head = tail.head().map_err(|error| failed(&self.path, error))?;
                        self.decoder_header(&mut head)?;
                    }
                }
                Ok(true)
            }
        }
    }

    /// Reads a header from the start of a file.
    fn decoder_header(&mut self, input: &mut dyn Read) -> Result<(), SourceError> {
        let mut records = Records::new(self.files.format.clone(), 0, 0);
        let next = records.next(input, true);
        let next = next.map_err(|error| SourceError::passing(format!("reading file '{}': {error}", self.path.display())))?;
        if let Next::Record { range, .. } = next {
            let header = records.bytes(&range);
            self.decoder
                .set_header(header)
                .map_err(|what| SourceError::fatal(format!("file '{}': {what}", self.path.display())))?;
            self.wants_header = false;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        let failed = |error: io::Error| SourceError::fatal(format!("reading file '{}': {error}", self.path.display()));
        match &mut self.input {
            Input::Unopened(..) => unreachable!("prepared before"),
            Input::Bounded(input, _) => self.records.next(&mut **input, true).map_err(failed),
            Input::Followed(tail) => {
                let last = tail.replaced();
                self.records.next(tail.file(), last).map_err(failed)
            }
        }
    }

    fn place(&self) -> Place {
        let inode = match &self.input {
            Input::Followed(tail) => tail.inode(),
            _ => None,
        };
        Place { byte: self.records.position(), line: self.records.line(), inode }
    }
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        if self.finished {
            return Ok(Polled::Finished);
        }
        if !self.prepare()? {
            return Ok(Polled::Pending(Some(FOLLOW_INTERVAL)));
        }
        let start = self.records.position();
        let mut rejects = Vec::new();
        let mut dry = false;
        while self.decoder.rows() + rejects.len() < rows_max.max(1) && self.records.position() - start < BATCH_BYTES_MAX {
            if self.records.position() >= self.end {
                dry = true;
                break;
            }
            match self.next()? {
                Next::Record { range, line, position } => {
                    let record = self.records.bytes(&range);
                    if self.wants_header && self.files.format.has_header() {
                        let header = self.decoder.set_header(record);
                        header.map_err(|what| SourceError::fatal(format!("file '{}': {what}", self.path.display())))?;
                        self.wants_header = false;
                    } else if let Err(reason) = self.decoder.decode(record) {
                        rejects.push(Reject::new(record, Offset::new(position), format!("line {line}: {reason}")));
                    }
                }
                Next::TooLong { head, bytes, line, position } => {
                    let max = self.files.format.row_bytes_max();
                    let reason = format!("line {line}: longer than row_bytes_max = {max} bytes");
                    rejects.push(Reject { raw: head, raw_bytes: bytes, offset: Offset::new(position), reason });
                }
                Next::Dry => {
                    dry = true;
                    break;
                }
            }
        }
        let read = self.records.position() - start;
        let end_of_file = dry
            && match &mut self.input {
                Input::Followed(tail) => {
                    tail.ran_dry(self.records.read_to());
                    false
                }
                _ => true,
            };
        self.finished = end_of_file;
        if self.decoder.rows() == 0 && rejects.is_empty() && read == 0 {
            return Ok(if end_of_file { Polled::Finished } else { Polled::Pending(Some(FOLLOW_INTERVAL)) });
        }
        let decoded = self.decoder.take();
        let decoded = decoded.map_err(|error| SourceError::fatal(format!("decoding file '{}': {error}", self.path.display())))?;
        Ok(Polled::Batch(SourceBatch {
            rows: decoded.rows,
            diffs: decoded.diffs,
            origin: decoded.origin,
            rejects,
            offset: Offset::new(self.place()),
            bytes: read,
            receipt: None,
        }))
    }

    fn backlog(&self) -> Option<Backlog> {
        let size = match &self.input {
            Input::Bounded(_, size) if !is_packed(&self.path) => *size,
            Input::Followed(tail) => tail.size()?,
            _ => return None,
        };
        Some(Backlog { rows: 0, bytes: size.saturating_sub(self.records.position()) })
    }
}

fn is_packed(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

fn unpacked<'a>(path: &std::path::Path, file: &'a mut File) -> io::Result<Box<dyn Read + 'a>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(if is_packed(path) { Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
}

#[cfg(test)]
mod tests;
