//! Windows in FROM: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size))`, `TUMBLE(t, ts, size)`, named arguments, subqueries.
//!
//! DataFusion's table functions only take scalar arguments; a [`RelationPlanner`] sees the syntax tree and can plan a
//! table argument. It also sees what DataFusion would ignore without a word (versions, samples, hints).

use std::sync::Arc;

use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use highwater_plan::{Span, WindowKind};
use sqlparser::ast::{
    Expr as AstExpr, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Spanned,
    TableFactor,
};

use super::nodes::{WINDOW_COLUMNS, WindowNode, Windows};
use crate::diagnose::{Failure, error, known_place};
use crate::parse::TABLE_ARGUMENT;

/// Whether a function (lower case) puts rows into windows.
pub(crate) fn is_window_function(name: &str) -> bool {
    matches!(name, "tumble" | "hop" | "cumulate" | "session")
}

/// Plans window functions in FROM.
#[derive(Debug)]
pub(crate) struct WindowFunctions;

impl RelationPlanner for WindowFunctions {
    fn plan_relation(&self, relation: TableFactor, cx: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let span = known_place(relation.span());
        let (name, args, alias) = match relation {
            TableFactor::TableFunction { expr: AstExpr::Function(function), alias } => (function.name, function.args, alias),
            TableFactor::Table { name, args: Some(args), alias, .. } => {
                let list = FunctionArgumentList { duplicate_treatment: None, args: args.args, clauses: vec![] };
                (name, FunctionArguments::List(list), alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = plan_window(&name, args, span, cx)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn plan_window(
    name: &ObjectName,
    args: FunctionArguments,
    span: Option<Span>,
    cx: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let function = name.to_string().to_lowercase();
    let mut args = arguments(&function, args, span)?.into_iter();
    let Some(table) = args.next() else { return Err(usage(&function, span).into()) };
    let Some(time) = args.next() else { return Err(usage(&function, span).into()) };
    let (table, mut keys) = table_argument(table, &function, span)?;
    let input = cx.plan(table)?;
    let schema = Arc::clone(input.schema());
    let time_span = known_place(time.span()).or(span);
    let time = cx.sql_to_expr(descriptor(time, span)?, &schema)?;
    let mut args: Vec<AstExpr> = args.collect();
    if function == "session" {
        // SESSION(t, ts, key, .., gap), and Calcite's SESSION(t, ts, DESCRIPTOR(key, ..), gap)
        let gap = args.pop().ok_or_else(|| usage(&function, span))?;
        for key in std::mem::replace(&mut args, vec![gap]) {
            match key {
                AstExpr::Function(call) if is_descriptor(&call.name) => keys.extend(arguments("descriptor", call.args, span)?),
                key => keys.push(key),
            }
        }
    }
    let partition = keys.into_iter().map(|key| cx.sql_to_expr(key, &schema)).collect::<Result<Vec<Expr>>>()?;
    let lengths = args
        .into_iter()
        .map(|arg| {
            let arg_span = known_place(arg.span()).or(span);
            interval_micros(&cx.sql_to_expr(arg, &DFSchema::empty())?).map_err(|e| e.or_at(arg_span).into())
        })
        .collect::<Result<Vec<i64>>>()?;
    let windows = windows(&function, &lengths, partition).map_err(|e| e.or_at(span))?;
    let qualifier = schema.iter().next().and_then(|(qualifier, _)| qualifier.cloned());
    let node = WindowNode::try_new(input, time, windows, WINDOW_COLUMNS, qualifier)
        .map_err(|e| crate::diagnose::from_datafusion(&e, &Default::default()).or_at(time_span))?;
    Ok(node.into_plan())
}

/// The arguments in their positional order, named ones (`SIZE => ..`) put in their places.
fn arguments(function: &str, args: FunctionArguments, span: Option<Span>) -> std::result::Result<Vec<AstExpr>, Failure> {
    const ORDER: [&str; 7] = ["data", "timecol", "slide", "step", "gap", "size", "offset"];
    let args = match args {
        FunctionArguments::List(list) => list.args,
        FunctionArguments::None => Vec::new(),
        FunctionArguments::Subquery(query) => {
            vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(AstExpr::Subquery(query)))]
        }
    };
    let mut placed: Vec<(usize, AstExpr)> = Vec::new();
    for (index, arg) in args.into_iter().enumerate() {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => placed.push((index, expr)),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                let place = ORDER.iter().position(|order| name.value.eq_ignore_ascii_case(order)).ok_or_else(|| {
                    error("window-argument", format!("{} has no argument '{}'", function.to_uppercase(), name.value))
                        .at(known_place(name.span))
                        .help("arguments are DATA, TIMECOL, SLIDE, STEP, GAP, SIZE and OFFSET")
                })?;
                placed.push((place, expr));
            }
            _ => return Err(usage(function, span)),
        }
    }
    placed.sort_by_key(|(place, _)| *place);
    Ok(placed.into_iter().map(|(_, expr)| expr).collect())
}

/// `TABLE bid [PARTITION BY ..]`, bare `bid` or `(SELECT ..)` as a relation and what it is partitioned by.
fn table_argument(arg: AstExpr, function: &str, span: Option<Span>) -> std::result::Result<(TableFactor, Vec<AstExpr>), Failure> {
    match arg {
        AstExpr::Identifier(name) => Ok((named(vec![name]), Vec::new())),
        AstExpr::CompoundIdentifier(name) => Ok((named(name), Vec::new())),
        AstExpr::Subquery(subquery) => {
            Ok((TableFactor::Derived { lateral: false, subquery, alias: None, sample: None }, Vec::new()))
        }
        AstExpr::Function(call) if call.name.to_string() == TABLE_ARGUMENT => {
            let mut args = arguments(function, call.args, span)?;
            if args.len() > 1 && function != "session" {
                let message = format!("{} takes no PARTITION BY: its windows are the same for all rows", function.to_uppercase());
                return Err(error("window-argument", message)
                    .at(known_place(args[1].span()).or(span))
                    .help("remove it, and GROUP BY the column"));
            }
            if args.is_empty() {
                return Err(usage(function, span));
            }
            let keys = args.split_off(1);
            let (table, _) = table_argument(args.remove(0), function, span)?;
            Ok((table, keys))
        }
        other => Err(error(
            "window-argument",
            format!("the first argument of {} is a relation, found '{other}'", function.to_uppercase()),
        )
        .at(known_place(other.span()).or(span))
        .help(usage_text(function))),
    }
}

fn named(parts: Vec<Ident>) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(parts),
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

fn is_descriptor(name: &ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case("descriptor")
}

/// `DESCRIPTOR(ts)` or `ts`.
fn descriptor(arg: AstExpr, span: Option<Span>) -> std::result::Result<AstExpr, Failure> {
    match arg {
        AstExpr::Function(call) if is_descriptor(&call.name) => {
            let place = known_place(call.name.span()).or(span);
            let mut columns = arguments("descriptor", call.args, span)?;
            match (columns.pop(), columns.is_empty()) {
                (Some(column), true) => Ok(column),
                _ => Err(error("window-argument", "DESCRIPTOR takes exactly one column").at(place)),
            }
        }
        other => Ok(other),
    }
}

/// A constant INTERVAL in microseconds.
pub(crate) fn interval_micros(expr: &Expr) -> std::result::Result<i64, Failure> {
    let context = SimplifyContext::builder().with_schema(Arc::new(DFSchema::empty())).build();
    let simple = ExprSimplifier::new(context).simplify(expr.clone()).unwrap_or_else(|_| expr.clone());
    const DAY: i64 = 86_400_000_000;
    match &simple {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) if value.months == 0 => {
            if value.nanoseconds % 1_000 != 0 {
                return Err(error("window-argument", "a window's length is a whole number of microseconds"));
            }
            Ok(i64::from(value.days) * DAY + value.nanoseconds / 1_000)
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(value)), _) => {
            Ok(i64::from(value.days) * DAY + i64::from(value.milliseconds) * 1_000)
        }
        Expr::Literal(ScalarValue::IntervalMonthDayNano(_) | ScalarValue::IntervalYearMonth(_), _) => {
            Err(error("window-argument", "a window's length cannot be in months or years")
                .help("their length varies: give days or less"))
        }
        other => Err(error("window-argument", format!("a window's length must be a constant INTERVAL, found {other}"))
            .help("for example INTERVAL '10' SECOND")),
    }
}

/// The windows of a function call with these lengths; a session's rows are partitioned.
pub(crate) fn windows(function: &str, lengths: &[i64], partition: Vec<Expr>) -> std::result::Result<Windows, Failure> {
    if let ("session", [gap]) = (function, lengths) {
        if *gap <= 0 {
            return Err(error("window-argument", "the gap of SESSION must be positive"));
        }
        return Ok(Windows::Session { gap: *gap, partition });
    }
    window_kind(function, lengths).map(Windows::OfTime)
}

fn window_kind(function: &str, lengths: &[i64]) -> std::result::Result<WindowKind, Failure> {
    let sizes = if function == "tumble" { 1 } else { 2 };
    if lengths.iter().take(sizes).any(|length| *length <= 0) {
        return Err(error("window-argument", format!("the lengths of {} must be positive", function.to_uppercase())));
    }
    let kind = match (function, lengths) {
        ("tumble", [size]) => WindowKind::Tumble { size: *size, offset: 0 },
        ("tumble", [size, offset]) => WindowKind::Tumble { size: *size, offset: *offset },
        ("hop", [slide, size]) => WindowKind::Hop { slide: *slide, size: *size, offset: 0 },
        ("hop", [slide, size, offset]) => WindowKind::Hop { slide: *slide, size: *size, offset: *offset },
        ("cumulate", [step, max]) => WindowKind::Cumulate { step: *step, max: *max, offset: 0 },
        ("cumulate", [step, max, offset]) => WindowKind::Cumulate { step: *step, max: *max, offset: *offset },
        _ => return Err(usage(function, None)),
    };
    if let WindowKind::Cumulate { step, max, .. } = kind
        && max % step != 0
    {
        return Err(error("window-argument", "the longest window of CUMULATE must be a whole number of steps")
            .help("write CUMULATE(TABLE t, DESCRIPTOR(ts), step, size), for example INTERVAL '1' HOUR, INTERVAL '1' DAY"));
    }
    if kind.size() / kind.slide() > 10_000 {
        let (shift, size) = if function == "hop" { ("slide", "size") } else { ("step", "size") };
        return Err(error("window-argument", format!("each row would fall in {} windows", kind.size() / kind.slide()))
            .help(format!("give {} a longer {shift} or a shorter {size}", function.to_uppercase())));
    }
    Ok(kind)
}

fn usage(function: &str, span: Option<Span>) -> Failure {
    if !is_window_function(function) {
        return error("unknown-function", format!("unknown table function '{function}'"))
            .at(span)
            .help("table functions are TUMBLE, HOP, CUMULATE and SESSION");
    }
    error("window-argument", format!("wrong number of arguments for {}", function.to_uppercase()))
        .at(span)
        .help(usage_text(function))
}

fn usage_text(function: &str) -> String {
    match function {
        "hop" => "write HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset])".into(),
        "cumulate" => "write CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset])".into(),
        "session" => "write SESSION(TABLE t [PARTITION BY key], DESCRIPTOR(ts), gap)".into(),
        _ => "write TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset])".into(),
    }
}
