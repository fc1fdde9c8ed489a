//! Kinds of calls: aggregates in groups and over frames, rankings, frames.

use highwater_plan::{AggregateCall, AggregateFunction, Frame, FrameBound, FrameUnits, Op, OverFunction, Ranking, Statistic};

use AggregateFunction as F;

const AGGREGATES: [AggregateFunction; 33] = [
    F::Count,
    F::Sum,
    F::Min,
    F::Max,
    F::Avg,
    F::BoolAnd,
    F::BoolOr,
    F::BitAnd,
    F::BitOr,
    F::BitXor,
    F::First,
    F::Last,
    F::Array,
    F::Text,
    F::PercentileCont,
    F::PercentileDisc,
    F::ApproxPercentile,
    F::Mode,
    F::Statistic(Statistic::VarPop),
    F::Statistic(Statistic::VarSamp),
    F::Statistic(Statistic::StddevPop),
    F::Statistic(Statistic::StddevSamp),
    F::Statistic(Statistic::CovarPop),
    F::Statistic(Statistic::CovarSamp),
    F::Statistic(Statistic::Corr),
    F::Statistic(Statistic::RegrSlope),
    F::Statistic(Statistic::RegrIntercept),
    F::Statistic(Statistic::RegrR2),
    F::Statistic(Statistic::RegrAvgX),
    F::Statistic(Statistic::RegrAvgY),
    F::Statistic(Statistic::RegrSxx),
    F::Statistic(Statistic::RegrSyy),
    F::Statistic(Statistic::RegrSxy),
];

/// How a call of an aggregate function is.
fn manners(call: &AggregateCall) -> Vec<&'static str> {
    let all = [
        (true, ""),
        (call.distinct && !call.function.ignores_copies(), ", distinct"),
        (call.filter.is_some(), ", filter"),
        (!call.order.is_empty() && is_ordered(call.function), ", ordered"),
        (call.argument.is_none() && call.function == F::Count, ", rows"),
    ];
    all.into_iter().filter(|(is, _)| *is).map(|(_, manner)| manner).collect()
}

/// Whether an order is a choice.
fn is_ordered(function: AggregateFunction) -> bool {
    matches!(function, F::Array | F::Text)
}

/// Whether copies can be left out of what it counts.
fn takes_distinct(function: AggregateFunction) -> bool {
    let of_pairs = matches!(function, F::Statistic(statistic) if statistic.of_pairs());
    let percentile = matches!(function, F::PercentileCont | F::PercentileDisc | F::ApproxPercentile);
    !function.ignores_copies() && !of_pairs && !percentile
}

pub(super) fn kinds(op: &Op) -> Vec<String> {
    let mut kinds = Vec::new();
    match op {
        Op::Aggregate(aggregate) => {
            for call in &aggregate.calls {
                kinds.extend(manners(call).into_iter().map(|manner| format!("{}{manner}", call.function.name())));
            }
        }
        Op::Over(over) => {
            for call in &over.calls {
                kinds.push(format!("over {}", name(&call.function)));
                if let OverFunction::Shift { default: Some(_), .. } = call.function {
                    kinds.push("over lag or lead, with default".into());
                }
                if let OverFunction::Aggregate(aggregate) = &call.function {
                    kinds.extend(manners(aggregate).into_iter().map(|manner| format!("over an aggregate{manner}")));
                }
                if matches!(call.function, OverFunction::Aggregate(_) | OverFunction::Nth { .. }) {
                    kinds.push(frame(&call.frame));
                }
            }
        }
        _ => {}
    }
    kinds
}

fn name(function: &OverFunction) -> &'static str {
    match function {
        OverFunction::Ranking(ranking) => ranking_name(*ranking),
        OverFunction::PercentRank => "percent_rank",
        OverFunction::CumeDist => "cume_dist",
        OverFunction::Ntile(_) => "ntile",
        OverFunction::Shift { offset: ..0, .. } => "lag",
        OverFunction::Shift { offset: 0, .. } => "lag or lead by none",
        OverFunction::Shift { .. } => "lead",
        OverFunction::Nth { position: 1, .. } => "first_value of a frame",
        OverFunction::Nth { position: -1, .. } => "last_value of a frame",
        OverFunction::Nth { .. } => "nth_value of a frame",
        OverFunction::Aggregate(call) => call.function.name(),
    }
}

pub(super) fn ranking_name(ranking: Ranking) -> &'static str {
    match ranking {
        Ranking::RowNumber => "row_number",
        Ranking::Rank => "rank",
        Ranking::DenseRank => "dense_rank",
    }
}

const UNITS: [(FrameUnits, &str); 3] = [(FrameUnits::Rows, "rows"), (FrameUnits::Groups, "groups"), (FrameUnits::Range, "range")];

/// Bounds of frames, as they are told apart here.
const BOUNDS: [(&str, &str); 6] = [
    ("unbounded", "current"),
    ("current", "unbounded"),
    ("preceding", "following"),
    ("current", "following"),
    ("unbounded", "following"),
    ("preceding", "current"),
];

fn frame(frame: &Frame) -> String {
    let units = UNITS.iter().find(|(units, _)| *units == frame.units).expect("all are listed").1;
    let bound = |bound: FrameBound| match bound {
        FrameBound::Unbounded => "unbounded",
        FrameBound::Offset(..0) => "preceding",
        FrameBound::Offset(0) => "current",
        FrameBound::Offset(_) => "following",
        FrameBound::Float(by) if by < 0.0 => "preceding",
        FrameBound::Float(0.0) => "current",
        FrameBound::Float(_) => "following",
    };
    let (start, end) = (bound(frame.start), bound(frame.end));
    if (start, end) == ("unbounded", "unbounded") {
        return "frame of the whole partition".into();
    }
    format!("frame of {units} from {start} to {end}")
}

/// Kinds that there are but that random queries need not be of, or that planners make into others.
pub(super) fn seldom() -> Vec<String> {
    // Over frames the last value is a position, and RANGE without a distance is GROUPS.
    let over = ["last_value", "array_agg", "percentile_cont", "percentile_disc", "approx_percentile_cont"];
    let frames = ["from unbounded to current", "from current to unbounded"].map(|bounds| format!("frame of range {bounds}"));
    over.map(|name| format!("over {name}")).into_iter().chain(frames).chain(["array_agg, filter".into()]).collect()
}

pub(super) fn known() -> Vec<String> {
    let mut known = Vec::new();
    for function in AGGREGATES {
        let name = function.name();
        let distinct = takes_distinct(function).then(|| format!("{name}, distinct"));
        let ordered = is_ordered(function).then(|| format!("{name}, ordered"));
        known.extend([Some(name.to_string()), distinct, ordered, Some(format!("{name}, filter"))].into_iter().flatten());
        known.push(format!("over {name}"));
    }
    known.push("count, rows".into());
    known.push("over lag or lead by none".into());
    known.extend(["", ", distinct", ", filter", ", rows"].map(|manner| format!("over an aggregate{manner}")));
    let functions = [
        "row_number",
        "rank",
        "dense_rank",
        "percent_rank",
        "cume_dist",
        "ntile",
        "lag",
        "lead",
        "lag or lead, with default",
        "first_value of a frame",
        "last_value of a frame",
        "nth_value of a frame",
    ];
    known.extend(functions.map(|function| format!("over {function}")));
    known.push("frame of the whole partition".into());
    for (_, units) in UNITS {
        known.extend(BOUNDS.map(|(start, end)| format!("frame of {units} from {start} to {end}")));
        known.push(format!("frame of {units} from current to current"));
    }
    let seldom = seldom();
    known.retain(|kind| !seldom.contains(kind));
    known
}
