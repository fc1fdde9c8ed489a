//! Changes to standard output: for trying things out, and for pipes.

use std::io::Write;

use highwater_plan::{Diagnostic, Field, OptionReader};

use super::lines::{LINE_FIELDS, Lines};
use super::{COMMON_FIELDS, Changes, SinkConnector, SinkError, SinkSpec, SinkTarget, SinkWriter};

/// `connector = 'stdout'`.
#[derive(Debug, Clone, Copy)]
pub struct Stdout;

struct Writer {
    lines: Lines,
    buffer: Vec<u8>,
}

impl SinkConnector for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn fields(&self) -> Vec<Field> {
        [LINE_FIELDS, COMMON_FIELDS].concat()
    }

    fn validate(&self, spec: &SinkSpec) -> Result<(), Diagnostic> {
        lines(spec).map(drop)
    }

    fn open(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        let lines = lines(spec)?;
        let mut buffer = Vec::new();
        lines.header(spec, &mut buffer);
        Ok(SinkTarget::Writer(Box::new(Writer { lines, buffer })))
    }
}

fn lines(spec: &SinkSpec) -> Result<Lines, Diagnostic> {
    let reader = OptionReader::new(&spec.options, "connector 'stdout'", &[LINE_FIELDS, COMMON_FIELDS])?;
    Lines::from_options(&reader, spec)
}

impl SinkWriter for Writer {
    fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError> {
        let failed = |error: &dyn std::fmt::Display| SinkError { message: format!("writing to standard output: {error}") };
        self.lines.write(epoch, changes, &mut self.buffer).map_err(|error| failed(&error))?;
        // An epoch is written under one lock: lines of others stand before or after it.
        std::io::stdout().lock().write_all(&self.buffer).map_err(|error| failed(&error))?;
        self.buffer.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        std::io::stdout().flush().map_err(|error| SinkError { message: format!("writing to standard output: {error}") })
    }
}
