//! Kinds of operators.

use highwater_plan::{
    Aggregate, AsOf, AtLimit, Comparison, Emit, Grouping, Hold, Join, JoinKind, Moment, NodeId, Op, Over, OverClosing,
    PROCESSING_TIME, Plan, Ranking, SetKind, TimeKind, TopN, Turns, WindowKind,
};

use super::Met;
use super::functions::ranking_name;

/// All families that [`family`] knows.
pub(super) const FAMILIES: [&str; 22] = [
    "unnest",
    "one group",
    "groups",
    "session groups",
    "window groups",
    "groups with windows among the keys",
    "sessions of rows",
    "window join",
    "interval join",
    "join by conditions",
    "join by keys",
    "join as of the moment",
    "join as of a time",
    "nearest join",
    "filter by the clock",
    "top-n",
    "over by time",
    "over in windows",
    "over",
    "set operation",
    "recursion",
    "rows held until passed",
];

/// What operators of a family can meet in many jobs.
pub(super) fn can_meet(family: &str) -> Vec<Met> {
    let timed = matches!(
        family,
        "session groups"
            | "window groups"
            | "groups with windows among the keys"
            | "sessions of rows"
            | "window join"
            | "interval join"
    );
    let can = |met: &Met| match (family, met) {
        (_, Met::Late | Met::Allowed) => timed,
        // They are expressions' and those of rows without a time.
        (_, Met::Errors) => false,
        // What they give is final.
        ("join as of a time", Met::Corrections) => false,
        ("rows held until passed", met) => matches!(met, Met::Rows | Met::Nulls | Met::Copies),
        // Tables seldom have event times that they keep when they take rows back.
        ("over by time" | "over in windows", Met::Emptied | Met::Refilled | Met::Replaced) => false,
        _ => true,
    };
    Met::ALL.into_iter().filter(can).collect()
}

/// What is counted together when it comes to what operators meet.
pub(super) fn family(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Unnest(_) => "unnest",
        Op::Aggregate(aggregate) => match (&aggregate.grouping, aggregate.keys.is_empty()) {
            (Grouping::Keys, true) => "one group",
            (Grouping::Keys, false) => "groups",
            (Grouping::Session(_), _) => "session groups",
            (Grouping::Assign(_), _) => "window groups",
            (Grouping::Column { .. }, _) => "groups with windows among the keys",
        },
        Op::Session(_) => "sessions of rows",
        Op::Join(join) => match (&join.window, &join.interval, join.on.is_empty()) {
            (Some(_), ..) => "window join",
            (_, Some(_), _) => "interval join",
            (_, _, true) => "join by conditions",
            (_, _, false) => "join by keys",
        },
        Op::TemporalJoin(temporal) => match temporal.as_of {
            AsOf::Processing => "join as of the moment",
            AsOf::Event { .. } => "join as of a time",
        },
        Op::Nearest(_) => "nearest join",
        Op::Temporal(_) => "filter by the clock",
        Op::TopN(_) => "top-n",
        Op::Over(over) => match over.closing {
            Some(OverClosing::Time) => "over by time",
            Some(OverClosing::Window(_)) => "over in windows",
            None => "over",
        },
        Op::SetOperation(_) => "set operation",
        Op::Recursion { .. } => "recursion",
        Op::Hold(Hold::UntilPassed { .. }) => "rows held until passed",
        Op::Hold(Hold::Every { .. }) => "changes held for an interval",
        Op::Source { .. }
        | Op::Versions { .. }
        | Op::Constant { .. }
        | Op::Map(_)
        | Op::Window(_)
        | Op::Stamp
        | Op::Union
        | Op::Entry(_)
        | Op::Binding(_) => return None,
    })
}

pub(super) fn kinds(plan: &Plan, id: NodeId) -> Vec<String> {
    let node = &plan.nodes[id];
    let of_processing = |column: usize| {
        let time = node.inputs.first().and_then(|input| plan.nodes[*input].properties.time[column].as_ref());
        time.is_some_and(|time| time.sources.iter().any(|source| source.source == PROCESSING_TIME))
    };
    let retracts = || node.inputs.first().is_some_and(|input| !plan.nodes[*input].properties.append_only);
    match &node.op {
        Op::Source { .. } if node.properties.append_only => vec!["stream".into()],
        Op::Source { .. } if node.properties.unique_key.is_some() => vec!["table with a key".into()],
        Op::Source { .. } => vec!["table".into()],
        Op::Versions { .. } => vec!["versions of a table".into()],
        Op::Constant { .. } => vec!["constant".into()],
        Op::Map(_) => vec!["map".into()],
        Op::Window(assign) => vec![format!("rows in {}", window(&assign.kind, of_processing(assign.time)))],
        Op::Session(_) => vec!["rows in sessions".into()],
        Op::Unnest(unnest) => {
            let outer = if unnest.outer { ", outer" } else { "" };
            let numbered = if unnest.ordinality { ", with numbers" } else { "" };
            vec![format!("unnest{outer}{numbered}")]
        }
        Op::Stamp => vec!["stamp of the clock".into()],
        Op::Hold(Hold::UntilPassed { kind: TimeKind::Event, .. }) => vec!["hold until an event time has passed".into()],
        Op::Hold(Hold::UntilPassed { .. }) => vec!["hold until a window has passed".into()],
        Op::Hold(Hold::Every { .. }) => vec!["emit every".into()],
        Op::Aggregate(aggregate) => groupings(aggregate, of_processing),
        Op::Join(join) => joins(join),
        Op::TemporalJoin(temporal) => {
            let outer = if temporal.beside.outer { "left " } else { "" };
            vec![match &temporal.as_of {
                AsOf::Processing => format!("{outer}join as of the moment"),
                AsOf::Event { first_of_equal: false, .. } => format!("{outer}join as of a time, with a table"),
                AsOf::Event { first_of_equal: true, .. } => format!("{outer}join as of a time, with a stream"),
            }]
        }
        Op::Nearest(nearest) => {
            let outer = if nearest.beside.outer { "left " } else { "" };
            vec![format!("{outer}nearest join by {}", nearest.comparison.symbol())]
        }
        Op::Union => vec!["union all".into()],
        Op::Temporal(filter) => {
            let conditions = filter.conditions.iter().map(|condition| {
                let moment = match condition.moment {
                    Moment::At(_) => "at",
                    Moment::After(_) => "after",
                    Moment::Search(_) => "searched for",
                };
                let turns = if condition.turns == Turns::True { "true" } else { "false" };
                format!("filter by the clock: {turns} {moment}")
            });
            let several = (filter.conditions.len() > 1).then(|| "filter by the clock: several".to_string());
            conditions.chain(several).collect()
        }
        Op::TopN(topn) => tops(topn, retracts()),
        Op::Over(over) => overs(over, retracts()),
        Op::SetOperation(operation) => {
            let kind = if operation.kind == SetKind::Intersect { "intersect" } else { "except" };
            vec![format!("{kind}{}", if operation.all { " all" } else { "" })]
        }
        Op::Recursion { recursion, .. } => {
            let mut kinds = vec!["recursion".to_string()];
            let body = &recursion.body.nodes;
            let met = [
                (recursion.bindings.len() > 1, "recursion of several"),
                (body.iter().any(|node| matches!(node.op, Op::Recursion { .. })), "recursion in a recursion"),
                (
                    body.iter().any(|node| matches!(&node.op, Op::Aggregate(a) if !a.calls.is_empty())),
                    "recursion, aggregates inside",
                ),
                (recursion.at_limit == AtLimit::Return, "recursion that returns at a limit"),
            ];
            kinds.extend(met.into_iter().filter(|(is, _)| *is).map(|(_, kind)| kind.to_string()));
            kinds
        }
        Op::Entry(_) | Op::Binding(_) => Vec::new(),
    }
}

fn window(kind: &WindowKind, of_processing: bool) -> String {
    let name = match kind {
        WindowKind::Tumble { .. } => "tumbling windows",
        WindowKind::Hop { .. } => "hopping windows",
        WindowKind::Cumulate { .. } => "growing windows",
    };
    let shifted = if kind.offset() != 0 { ", shifted" } else { "" };
    format!("{name}{shifted}{}", if of_processing { ", of the clock" } else { "" })
}

fn emit(emit: Emit) -> &'static str {
    if emit == Emit::Final { ", final" } else { "" }
}

fn groupings(aggregate: &Aggregate, of_processing: impl Fn(usize) -> bool) -> Vec<String> {
    let emit = emit(aggregate.emit);
    let mut kinds = vec![match &aggregate.grouping {
        Grouping::Keys if aggregate.calls.is_empty() => "distinct".to_string(),
        Grouping::Keys if aggregate.keys.is_empty() => "one group".to_string(),
        Grouping::Keys => "groups".to_string(),
        Grouping::Assign(assign) => format!("groups in {}{emit}", window(&assign.kind, of_processing(assign.time))),
        Grouping::Session(assign) => {
            format!("groups in sessions{}{emit}", if of_processing(assign.time) { ", of the clock" } else { "" })
        }
        Grouping::Column { kind: TimeKind::WindowStart { .. }, .. } => format!("groups by a window's start{emit}"),
        Grouping::Column { .. } => format!("groups by a window's end{emit}"),
    }];
    if aggregate.calls.len() > 1 {
        kinds.push("several aggregates".into());
    }
    kinds
}

const JOINS: [(JoinKind, &str); 7] = [
    (JoinKind::Inner, "join"),
    (JoinKind::Left, "left join"),
    (JoinKind::Right, "right join"),
    (JoinKind::Full, "full join"),
    (JoinKind::Semi, "semi join"),
    (JoinKind::Anti, "anti join"),
    (JoinKind::Mark, "mark join"),
];

fn joins(join: &Join) -> Vec<String> {
    let kind = JOINS.iter().find(|(kind, _)| *kind == join.kind).expect("all are listed").1;
    let by = match (&join.window, &join.interval, join.on.is_empty()) {
        (Some(_), ..) => "in windows",
        (_, Some(interval), _) if !interval.is_bounded() => "within a half open interval",
        (_, Some(_), _) => "within an interval",
        (_, _, true) => "by conditions",
        (_, _, false) => "by keys",
    };
    let mut kinds = vec![format!("{kind} {by}{}", emit(join.emit))];
    if join.nulls_equal {
        kinds.push(format!("{kind}, nulls equal"));
    }
    if !join.residual.is_empty() && !join.on.is_empty() {
        kinds.push(format!("{kind} by keys and conditions"));
    }
    kinds
}

fn tops(topn: &TopN, retracts: bool) -> Vec<String> {
    let ranking = ranking_name(topn.ranking);
    let over = if retracts { "of changing rows" } else { "of growing rows" };
    let mut kinds = vec![format!("top-n by {ranking} {over}")];
    let bounds = [
        (topn.numbered, "numbered"),
        (topn.partition.is_empty(), "of all rows"),
        (topn.first > 1, "behind the first"),
        (topn.first == 1 && topn.last == 1, "of one"),
        (topn.window.is_some() && topn.emit == Emit::Changes, "in windows"),
        (topn.window.is_some() && topn.emit == Emit::Final, "in windows, final"),
    ];
    kinds.extend(bounds.into_iter().filter(|(is, _)| *is).map(|(_, how)| format!("top-n {how}")));
    kinds
}

fn overs(over: &Over, retracts: bool) -> Vec<String> {
    let closing = match over.closing {
        Some(OverClosing::Window(_)) => "in windows",
        Some(OverClosing::Time) => "by event time",
        None => "without end",
    };
    let rows = if retracts { "changing" } else { "growing" };
    let mut kinds = vec![format!("over {rows} rows {closing}{}", emit(over.emit))];
    if over.partition.is_empty() {
        kinds.push("over all rows".into());
    }
    kinds
}

/// Kinds that there are but that random queries need not be of, or that planners make into others.
pub(super) fn seldom() -> Vec<String> {
    let mut seldom: Vec<String> = ["recursion in a recursion", "over changing rows by event time"].map(str::to_string).to_vec();
    for (_, name) in JOINS {
        seldom.extend(["", ", final"].map(|emit| format!("{name} within a half open interval{emit}")));
    }
    seldom.extend(["in windows", "in windows, final", "within an interval, final"].map(|by| format!("mark join {by}")));
    seldom
}

pub(super) fn known() -> Vec<String> {
    let plain = [
        "stream",
        "table with a key",
        "table",
        "versions of a table",
        "constant",
        "map",
        "rows in sessions",
        "unnest",
        "unnest, outer",
        "unnest, with numbers",
        "unnest, outer, with numbers",
        "stamp of the clock",
        "hold until an event time has passed",
        "hold until a window has passed",
        "emit every",
        "distinct",
        "one group",
        "groups",
        "groups in sessions",
        "groups in sessions, final",
        "groups in sessions, of the clock",
        "groups in sessions, of the clock, final",
        "groups by a window's start",
        "groups by a window's start, final",
        "groups by a window's end",
        "groups by a window's end, final",
        "several aggregates",
        "union all",
        "intersect",
        "intersect all",
        "except",
        "except all",
        "recursion",
        "recursion of several",
        "recursion in a recursion",
        "recursion, aggregates inside",
        "recursion that returns at a limit",
        "filter by the clock: several",
        "over all rows",
    ];
    let mut known: Vec<String> = plain.map(str::to_string).to_vec();
    for windows in ["tumbling windows", "hopping windows", "growing windows"] {
        for manner in ["", ", shifted", ", of the clock"] {
            known.push(format!("rows in {windows}{manner}"));
            known.extend(["", ", final"].map(|emit| format!("groups in {windows}{manner}{emit}")));
        }
    }
    for (kind, name) in JOINS {
        known.extend(["by keys", "by conditions"].map(|by| format!("{name} {by}")));
        known.extend(["in windows", "within an interval"].map(|by| format!("{name} {by}")));
        if kind.keeps() != [false, false] {
            known.extend(["in windows", "within an interval"].map(|by| format!("{name} {by}, final")));
        }
        known.push(format!("{name}, nulls equal"));
        if kind != JoinKind::Inner {
            known.push(format!("{name} by keys and conditions"));
        }
    }
    for outer in ["", "left "] {
        let joins = ["join as of the moment", "join as of a time, with a table", "join as of a time, with a stream"];
        known.extend(joins.map(|join| format!("{outer}{join}")));
        let comparisons = [Comparison::Less, Comparison::LessOrEqual, Comparison::Greater, Comparison::GreaterOrEqual];
        known.extend(comparisons.map(|comparison| format!("{outer}nearest join by {}", comparison.symbol())));
    }
    for turns in ["true", "false"] {
        known.extend(["at", "after", "searched for"].map(|moment| format!("filter by the clock: {turns} {moment}")));
    }
    for rows in ["growing", "changing"] {
        let rankings = [Ranking::RowNumber, Ranking::Rank, Ranking::DenseRank];
        known.extend(rankings.map(|ranking| format!("top-n by {} of {rows} rows", ranking_name(ranking))));
        let closings = ["in windows", "in windows, final", "by event time", "by event time, final", "without end"];
        known.extend(closings.map(|closing| format!("over {rows} rows {closing}")));
    }
    let tops = ["numbered", "of all rows", "behind the first", "of one", "in windows", "in windows, final"];
    known.extend(tops.map(|how| format!("top-n {how}")));
    let seldom = seldom();
    known.retain(|kind| !seldom.contains(kind));
    known
}
