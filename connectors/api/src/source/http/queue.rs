//! Bodies that wait for the worker.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_plan::Origin;

use crate::format::BatchOrigin;
use crate::source::{Backlog, Offset, Receipt, Reject, SourceBatch, SourceError, SourceSpec};

/// A decoded body.
#[derive(Debug)]
pub(super) struct Body {
    /// The used columns, or all of them if the spec keeps origins.
    pub(super) rows: RecordBatch,
    /// Per row +1 or -1.
    pub(super) diffs: Option<Int64Array>,
    /// Rows that did not decode.
    pub(super) rejects: Vec<Reject>,
    /// The body's length.
    pub(super) bytes: u64,
    /// Told when the rows are in the dataflow.
    pub(super) receipt: Option<Receipt>,
    /// Bodies are numbered in the order in which they were taken, from 1 on.
    pub(super) number: u64,
}

/// Bodies in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bodies: VecDeque<Body>,
    depth: Backlog,
}

/// Bodies that make up a batch.
#[derive(Debug)]
pub(super) struct Taken {
    bodies: Vec<Body>,
    offset: u64,
}

impl Taken {
    /// `None` of no bodies.
    pub(super) fn new(bodies: Vec<Body>) -> Option<Taken> {
        let offset = bodies.last()?.number;
        Some(Taken { bodies, offset })
    }
}

impl Queue {
    /// Counts a body that is about to be pushed.
    pub(super) fn expect(&mut self, body: &Body) {
        self.depth.rows += body.rows.num_rows() as u64;
        self.depth.bytes += body.bytes;
    }

    /// Counts a body no longer.
    pub(super) fn forgo(&mut self, body: &Body) {
        self.depth.rows -= body.rows.num_rows() as u64;
        self.depth.bytes -= body.bytes;
    }

    /// Appends a body that is expected.
    pub(super) fn push(&mut self, body: Body) {
        self.bodies.push_back(body);
    }

    /// What waits.
    pub(super) fn depth(&self) -> Backlog {
        self.depth
    }

    /// Takes bodies until there are about `rows_max` rows, at least one; none if nothing waits.
    pub(super) fn take(&mut self, rows_max: usize) -> Option<Taken> {
        let mut bodies: Vec<Body> = Vec::new();
        let mut rows = 0;
        while let Some(next) = self.bodies.front() {
            if !bodies.is_empty() && rows + next.rows.num_rows() > rows_max {
                break;
            }
            rows += next.rows.num_rows();
            bodies.extend(self.bodies.pop_front());
        }
        bodies.iter().for_each(|body| self.forgo(body));
        Taken::new(bodies)
    }
}

/// Makes one batch of bodies; the batch's receipt tells all of theirs.
pub(super) fn batch(taken: Taken, spec: &SourceSpec) -> Result<SourceBatch, SourceError> {
    let Taken { mut bodies, offset } = taken;
    let bytes = bodies.iter().map(|body| body.bytes).sum();
    let mut rejects = Vec::new();
    let mut receipts = Vec::new();
    for body in &mut bodies {
        rejects.append(&mut body.rejects);
        receipts.extend(body.receipt.take());
    }
    let (whole, diffs) =
        join(bodies).map_err(|error| SourceError::fatal(format!("joining pushed rows of source '{}': {error}", spec.name)))?;
    let project = |whole: &RecordBatch| whole.project(&spec.used);
    let (rows, origin) = if spec.keeps_origin {
        let rows =
            project(&whole).map_err(|error| SourceError::fatal(format!("pushed rows of source '{}': {error}", spec.name)))?;
        (rows, Some(Arc::new(BatchOrigin(whole)) as Arc<dyn Origin>))
    } else {
        (whole, None)
    };
    let tell = move |epoch| receipts.into_iter().for_each(|receipt| (receipt.0)(epoch));
    Ok(SourceBatch { rows, diffs, origin, rejects, offset: Offset::new(offset), bytes, receipt: Some(Receipt(Box::new(tell))) })
}

fn join(mut bodies: Vec<Body>) -> Result<(RecordBatch, Option<Int64Array>), ArrowError> {
    if bodies.len() == 1 {
        let Body { rows, diffs, .. } = bodies.remove(0);
        return Ok((rows, diffs));
    }
    let signed = bodies.iter().any(|body| body.diffs.is_some());
    let diffs = signed.then(|| {
        let all = bodies.iter().flat_map(|body| match &body.diffs {
            Some(diffs) => diffs.values().to_vec(),
            None => vec![1; body.rows.num_rows()],
        });
        Int64Array::from_iter_values(all)
    });
    let rows = concat_batches(bodies[0].rows.schema_ref(), bodies.iter().map(|body| &body.rows))?;
    Ok((rows, diffs))
}
