//! A sink that remembers.

use std::sync::{Arc, Mutex};

use highwater_engine::{Delta, EpochSink, Time};

use super::Change;
use crate::value::rows_of;

/// Keeps all that is written to it.
pub(super) struct Written {
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Written {
    pub(super) fn new(changes: Arc<Mutex<Vec<Change>>>) -> Self {
        Written { changes }
    }
}

impl EpochSink for Written {
    fn write(&mut self, epoch: Time, changes: &[Delta]) -> Result<(), String> {
        let rows = changes.iter().flat_map(|delta| {
            rows_of(&delta.rows).into_iter().enumerate().map(|(row, values)| (values, delta.diff(row))).collect::<Vec<_>>()
        });
        let rows = rows.collect();
        self.changes.lock().expect("sinks do not panic").push(Change { epoch, rows });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}
