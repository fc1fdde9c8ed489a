//! Changes to nowhere: for measuring what comes before the sink.

use highwater_plan::{Diagnostic, Field, OptionReader};
use tracing::info;

use super::{COMMON_FIELDS, Changes, SinkConnector, SinkError, SinkSpec, SinkTarget, SinkWriter};

/// `connector = 'blackhole'`.
#[derive(Debug, Clone, Copy)]
pub struct Blackhole;

struct Writer {
    name: String,
    rows: u64,
}

impl SinkConnector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn fields(&self) -> Vec<Field> {
        COMMON_FIELDS.to_vec()
    }

    fn validate(&self, spec: &SinkSpec) -> Result<(), Diagnostic> {
        OptionReader::new(&spec.options, "connector 'blackhole'", &[COMMON_FIELDS]).map(drop)
    }

    fn open(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        self.validate(spec)?;
        Ok(SinkTarget::Writer(Box::new(Writer { name: spec.name.clone(), rows: 0 })))
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, _epoch: u64, changes: &[Changes]) -> Result<(), SinkError> {
        self.rows += changes.iter().map(|changes| changes.rows.num_rows() as u64).sum::<u64>();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        info!(sink = %self.name, rows = self.rows, "blackhole closed");
    }
}
