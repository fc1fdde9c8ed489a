//! Joins in time as text.

use super::{list, map_text, micros};
use crate::{AsOf, Beside, Join, Nearest, TemporalJoin};

pub(super) fn temporal_text(temporal: &TemporalJoin) -> String {
    let as_of = match &temporal.as_of {
        AsOf::Processing => "as of processing time".to_string(),
        AsOf::Event { left, right, valid, .. } => {
            let valid = valid.map_or(String::new(), |valid| format!(" where #{valid}"));
            format!("as of #{left} in versions by #{right}{valid}")
        }
    };
    beside_text("temporal", &temporal.beside, &as_of)
}

pub(super) fn nearest_text(nearest: &Nearest) -> String {
    let condition = format!("nearest #{} {} #{}", nearest.left, nearest.comparison.symbol(), nearest.right);
    beside_text("asof", &nearest.beside, &condition)
}

/// The bounds of an interval join: left time less right time.
pub(super) fn interval_text(join: &Join) -> String {
    let Some(interval) = &join.interval else { return String::new() };
    let bound = |bound: Option<i64>| bound.map_or("..".to_string(), micros);
    let [left, right] = interval.columns;
    format!(" interval #{left} - #{right} in [{}, {}]", bound(interval.lower), bound(interval.upper))
}

fn beside_text(what: &str, beside: &Beside, condition: &str) -> String {
    let on: Vec<String> = beside.on.iter().map(|(left, right)| format!("#{left} = #{right}")).collect();
    let equal = if beside.nulls_equal { " nulls-equal" } else { "" };
    let outer = if beside.outer { "left " } else { "" };
    let residual = if beside.residual.is_empty() { String::new() } else { format!(" if [{}]", list(&beside.residual)) };
    map_text(&format!("{outer}{what} join on [{}]{equal} {condition}{residual}", on.join(", ")), &beside.map)
}
