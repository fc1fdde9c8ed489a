//! What a sink would have been given, as lines: `{"op":"+","epoch":17,"a":1}`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use highwater_connectors::format::encode::RowWriter;
use highwater_engine::{Delta, EpochSink, Time};

/// Writes the lines of a sink.
pub(super) struct Lines {
    file: Option<(BufWriter<File>, PathBuf)>,
    from: Time,
    line: Vec<u8>,
}

impl Lines {
    /// To a new file in a directory, if there is one; of epochs from `from` on.
    pub(super) fn new(into: Option<&Path>, sink: &str, from: Time) -> Result<Lines, String> {
        let open = |directory: &Path| {
            let name = highwater_store::to_part(sink, "sink").unwrap_or_else(|_| "sink".into());
            let path = directory.join(format!("{name}.jsonl"));
            let made = fs::create_dir_all(directory).and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path));
            match made {
                Ok(file) => Ok((BufWriter::new(file), path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    Err(format!("{} exists: choose another directory for what sinks would write", path.display()))
                }
                Err(error) => Err(format!("{} cannot be written: {error}", path.display())),
            }
        };
        Ok(Lines { file: into.map(open).transpose()?, from, line: Vec::new() })
    }

    /// Its file, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path)| path.as_path())
    }
}

impl EpochSink for Lines {
    fn write(&mut self, epoch: Time, changes: &[Delta]) -> Result<(), String> {
        let Some((file, path)) = self.file.as_mut().filter(|_| epoch >= self.from) else { return Ok(()) };
        for delta in changes {
            let rows = RowWriter::new(&delta.rows).map_err(|error| error.to_string())?;
            for row in 0..delta.len() {
                let diff = delta.diff(row);
                self.line.clear();
                let op = if diff < 0 { '-' } else { '+' };
                // Writing into a vector does not fail.
                let _ = write!(self.line, "{{\"op\":\"{op}\",\"epoch\":{epoch}");
                rows.write_fields(row, false, &mut self.line);
                self.line.extend(b"}\n");
                for _ in 0..diff.unsigned_abs() {
                    file.write_all(&self.line).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}
