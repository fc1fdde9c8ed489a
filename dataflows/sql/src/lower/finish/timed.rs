//! Joins in time, finished.

use highwater_plan as plan;

use crate::lower::graph::{How, Timed};

/// The operator, with its compiled expressions.
pub(super) fn finished(timed: &Timed, residual: Vec<plan::Expr>, map: plan::Map) -> plan::Op {
    let beside = plan::Beside {
        on: timed.beside.on.clone(),
        nulls_equal: timed.beside.nulls_equal,
        outer: timed.beside.outer,
        residual,
        map,
    };
    match &timed.how {
        How::Temporal(as_of) => plan::Op::TemporalJoin(plan::TemporalJoin { beside, as_of: as_of.clone() }),
        How::Nearest { left, right, comparison } => {
            plan::Op::Nearest(plan::Nearest { beside, left: *left, right: *right, comparison: *comparison })
        }
    }
}

/// Sources whose rows can come too late for a join.
pub(super) fn late_sources(temporal: &plan::TemporalJoin) -> Vec<usize> {
    match &temporal.as_of {
        plan::AsOf::Processing => Vec::new(),
        plan::AsOf::Event { sources, .. } => sources.iter().map(|time| time.source).collect(),
    }
}
