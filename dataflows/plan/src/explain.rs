//! A job's plan as text: one node a line, inputs indented below the operator that reads them.
//!
//! The same job always gives the same text: no addresses, no hash order, no versions. It is what `highwater explain`
//! prints and what the golden `plan.txt` of each ready-made job holds.

mod ordered;
mod timed;

use std::fmt::Write;
use std::time::Duration;

use crate::sharing::{SharedSide, shared_sides};
use crate::{
    Aggregate, AggregateConstant, AtLimit, Emit, Grouping, Hold, Job, Join, JoinKind, Lifetime, Map, Moment, NodeId, Op,
    OrderColumn, Plan, Recursion, SessionAssign, SetKind, SourceKind, StateBound, TemporalFilter, TimeColumn, TimeKind,
    TimeSource, Turns, Unnest, WindowAssign, WindowKind,
};

/// Renders a job's views and sinks, each with the operators below it.
///
/// A node that several operators read is printed once, with `(shared as @n)`; its other readers show `@n`. One that is
/// arranged once for several joins says by which columns, and those joins say which of their sides it is.
pub fn explain(job: &Job) -> String {
    let mut out = String::new();
    let mut readers = vec![0usize; job.plan.nodes.len()];
    let roots = job.views.iter().map(|view| view.node).chain(job.sinks.iter().map(|sink| sink.node));
    for root in roots {
        readers[root] += 1;
    }
    let reachable: std::collections::BTreeSet<NodeId> = job
        .views
        .iter()
        .map(|view| view.node)
        .chain(job.sinks.iter().map(|sink| sink.node))
        .flat_map(|root| job.plan.upstream_of(root))
        .collect();
    for id in &reachable {
        for input in &job.plan.nodes[*id].inputs {
            readers[*input] += 1;
        }
    }
    let (printed, arranged) = (vec![false; job.plan.nodes.len()], shared_sides(job));
    let mut printer = Printer { job, readers, arranged, printed, out: &mut out };
    for view in &job.views {
        let key: Vec<&str> = view.key.iter().map(|index| view.schema.field(*index).name().as_str()).collect();
        let emit = emit(view.emit);
        let _ = writeln!(printer.out, "view {} key=[{}] emit={emit}", view.name, key.join(", "));
        printer.node(view.node, 1);
    }
    for sink in &job.sinks {
        let connector = sink.options.get("connector").unwrap_or("?");
        let _ = writeln!(printer.out, "sink {} connector={connector} emit={}", sink.name, emit(sink.emit));
        printer.node(sink.node, 1);
    }
    out
}

struct Printer<'a> {
    job: &'a Job,
    readers: Vec<usize>,
    arranged: Vec<SharedSide>,
    printed: Vec<bool>,
    out: &'a mut String,
}

impl Printer<'_> {
    fn node(&mut self, id: NodeId, depth: usize) {
        let node = &self.job.plan.nodes[id];
        let indent = "  ".repeat(depth);
        let shared = self.readers[id] > 1;
        if shared && std::mem::replace(&mut self.printed[id], true) {
            let _ = writeln!(self.out, "{indent}@{id}");
            return;
        }
        let tag = self.tag(id, shared);
        let _ = writeln!(self.out, "{indent}{}{tag} -- {}", operator(self.job, &self.job.plan, id), properties(self.job, id));
        if let Op::Recursion { recursion, .. } = &node.op {
            for binding in &recursion.bindings {
                let _ = writeln!(self.out, "{indent}  step of {}", binding.name);
                self.body(recursion, binding.root, depth + 2);
            }
        }
        for input in &node.inputs {
            self.node(*input, depth + 1);
        }
    }

    /// What other lines say of this node, and which arrangement it reads.
    fn tag(&self, id: NodeId, shared: bool) -> String {
        let of_key = |key: &[usize]| key.iter().map(|column| format!("#{column}")).collect::<Vec<_>>().join(", ");
        let mut tags = Vec::new();
        if shared || self.arranged.iter().any(|side| side.node == id) {
            tags.push(format!("shared as @{id}"));
        }
        for side in &self.arranged {
            if side.node == id {
                tags.push(format!("arranged by [{}] for {} joins", of_key(&side.key), side.readers.len()));
            }
            if let Some(reader) = side.readers.iter().find(|reader| reader.join == id) {
                let which = if reader.side == 0 { "left" } else { "right" };
                tags.push(format!("{which} side: @{} arranged by [{}]", side.node, of_key(&side.key)));
            }
        }
        if tags.is_empty() { String::new() } else { format!(" ({})", tags.join("; ")) }
    }

    /// What computes a binding of a recursion.
    fn body(&mut self, recursion: &Recursion, id: NodeId, depth: usize) {
        let node = &recursion.body.nodes[id];
        let text = match &node.op {
            Op::Binding(binding) => format!("{} of the step before", recursion.bindings[*binding].name),
            _ => operator(self.job, &recursion.body, id),
        };
        let _ = writeln!(self.out, "{}{text}", "  ".repeat(depth));
        for input in &node.inputs {
            self.body(recursion, *input, depth + 1);
        }
    }
}

fn emit(emit: Emit) -> &'static str {
    match emit {
        Emit::Changes => "changes",
        Emit::Final => "final",
    }
}

fn operator(job: &Job, plan: &Plan, id: NodeId) -> String {
    let node = &plan.nodes[id];
    match &node.op {
        Op::Source { source, .. } => {
            let source = &job.sources[*source];
            let names: Vec<&str> = node.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let what = match source.kind {
                SourceKind::Source => "source",
                SourceKind::Table => "table",
            };
            let watermark = source.watermark.as_ref().map(|w| format!(" watermark={} AS {}", w.column, w.expr));
            format!("{what} {} [{}]{}", source.name, names.join(", "), watermark.unwrap_or_default())
        }
        Op::Versions { source, .. } => {
            let names: Vec<&str> = node.schema.fields().iter().map(|field| field.name().as_str()).collect();
            format!("versions of table {} [{}]", job.sources[*source].name, names.join(", "))
        }
        Op::Constant { rows } => format!("constant rows={}", rows.num_rows()),
        Op::Map(map) => map_text("map", map),
        Op::Window(assign) => format!("window {}", assign_text(assign)),
        Op::Session(assign) => format!("window {}", session_text(assign)),
        Op::Unnest(unnest) => unnest_text(unnest),
        Op::Stamp => "stamp".into(),
        Op::Hold(Hold::UntilPassed { column, kind }) => format!("hold until {} #{column} has passed", bound(*kind)),
        Op::Hold(Hold::Every { millis }) => format!("hold every {}", micros(i64::try_from(millis * 1_000).unwrap_or(i64::MAX))),
        Op::Aggregate(aggregate) => aggregate_text(aggregate),
        Op::Join(join) => join_text(join),
        Op::TemporalJoin(temporal) => timed::temporal_text(temporal),
        Op::Nearest(nearest) => timed::nearest_text(nearest),
        Op::Union => "union".into(),
        Op::Temporal(filter) => temporal_text(filter),
        Op::SetOperation(operation) => {
            let kind = match operation.kind {
                SetKind::Intersect => "intersect",
                SetKind::Except => "except",
            };
            format!("{kind}{}", if operation.all { " all" } else { "" })
        }
        Op::TopN(topn) => ordered::topn(topn),
        Op::Over(over) => ordered::over(over),
        Op::Recursion { recursion, output } => {
            let limit = match recursion.at_limit {
                AtLimit::Fail => "limit",
                AtLimit::Return => "return at",
            };
            format!("recursion {} {limit}={}", recursion.bindings[*output].name, recursion.limit)
        }
        Op::Entry(input) => format!("input {input} of the recursion"),
        Op::Binding(binding) => format!("binding {binding}"),
    }
}

fn map_text(label: &str, map: &Map) -> String {
    let mut text = String::from(label);
    if !map.filters.is_empty() {
        let _ = write!(text, " where [{}]", list(&map.filters));
    }
    if let Some(exprs) = &map.exprs {
        let _ = write!(text, " select [{}]", list(exprs));
    }
    text
}

fn unnest_text(unnest: &Unnest) -> String {
    let columns = |columns: &[usize]| columns.iter().map(|column| format!("#{column}")).collect::<Vec<_>>().join(", ");
    let outer = if unnest.outer { "outer " } else { "" };
    let ordinality = if unnest.ordinality { " with ordinality" } else { "" };
    format!("{outer}unnest [{}]{ordinality} keep [{}]", columns(&unnest.lists), columns(&unnest.keep))
}

fn assign_text(assign: &WindowAssign) -> String {
    let kind = match assign.kind {
        WindowKind::Tumble { size, offset } => format!("tumble(size={}{})", micros(size), shift(offset)),
        WindowKind::Hop { slide, size, offset } => {
            format!("hop(slide={}, size={}{})", micros(slide), micros(size), shift(offset))
        }
        WindowKind::Cumulate { step, max, offset } => {
            format!("cumulate(step={}, max={}{})", micros(step), micros(max), shift(offset))
        }
    };
    format!("{kind} on #{}", assign.time)
}

fn session_text(assign: &SessionAssign) -> String {
    let partition: Vec<String> = assign.partition.iter().map(|column| format!("#{column}")).collect();
    let partition = if partition.is_empty() { String::new() } else { format!(" by [{}]", partition.join(", ")) };
    format!("session(gap={}) on #{}{partition}", micros(assign.gap), assign.time)
}

fn shift(offset: i64) -> String {
    if offset == 0 { String::new() } else { format!(", offset={}", micros(offset)) }
}

fn micros(micros: i64) -> String {
    match micros {
        m if m % 1_000_000 == 0 => format!("{}s", m / 1_000_000),
        m if m % 1_000 == 0 => format!("{}ms", m / 1_000),
        m => format!("{m}us"),
    }
}

fn aggregate_text(aggregate: &Aggregate) -> String {
    let keys: Vec<String> = aggregate.keys.iter().map(|key| format!("#{key}")).collect();
    let mut text = if aggregate.calls.is_empty() { String::from("distinct") } else { String::from("aggregate") };
    let _ = write!(text, " by [{}]", keys.join(", "));
    match &aggregate.grouping {
        Grouping::Keys => {}
        Grouping::Assign(assign) => {
            let _ = write!(text, " window {}", assign_text(assign));
        }
        Grouping::Session(assign) => {
            let keys = SessionAssign { partition: Vec::new(), ..assign.clone() };
            let _ = write!(text, " window {}", session_text(&keys));
        }
        Grouping::Column { key, kind } => {
            let _ = write!(text, " window {} #{}", bound(*kind), aggregate.keys[*key]);
        }
    }
    if !aggregate.calls.is_empty() {
        let calls: Vec<String> = aggregate.calls.iter().map(call_text).collect();
        let _ = write!(text, " compute [{}]", calls.join(", "));
    }
    let _ = write!(text, " emit={}", emit(aggregate.emit));
    text
}

fn call_text(call: &crate::AggregateCall) -> String {
    let distinct = if call.distinct { "distinct " } else { "" };
    let columns: Vec<String> = call.argument.iter().chain(&call.further).map(|column| format!("#{column}")).collect();
    let mut text = if columns.is_empty() { "*".to_string() } else { columns.join(", ") };
    match &call.constant {
        Some(AggregateConstant::Fraction(fraction)) => text += &format!(", {fraction}"),
        Some(AggregateConstant::Separator(separator)) => text += &format!(", {separator:?}"),
        None => {}
    }
    if !call.order.is_empty() {
        let keys: Vec<String> = call.order.iter().map(sort_key_text).collect();
        text += &format!(" order by {}", keys.join(", "));
    }
    let filter = call.filter.map_or(String::new(), |filter| format!(" where #{filter}"));
    format!("{}({distinct}{text}){filter}", call.function.name())
}

/// Only what differs from PostgreSQL's ascending order with NULLs last, and descending with NULLs first.
fn sort_key_text(key: &OrderColumn) -> String {
    let direction = if key.descending { " desc" } else { "" };
    let nulls = match (key.descending, key.nulls_first) {
        (false, true) => " nulls first",
        (true, false) => " nulls last",
        _ => "",
    };
    format!("#{}{direction}{nulls}", key.column)
}

fn join_text(join: &Join) -> String {
    let on: Vec<String> = join.on.iter().map(|(left, right)| format!("#{left} = #{right}")).collect();
    let equal = if join.nulls_equal { " nulls-equal" } else { "" };
    let window = join.window.as_ref().map_or(String::new(), |window| format!(" window on [{}]", window.on));
    let kind = match join.kind {
        JoinKind::Inner => "join",
        JoinKind::Left => "left join",
        JoinKind::Right => "right join",
        JoinKind::Full => "full join",
        JoinKind::Semi => "semi join",
        JoinKind::Anti => "anti join",
        JoinKind::Mark => "mark join",
    };
    let residual = if join.residual.is_empty() { String::new() } else { format!(" if [{}]", list(&join.residual)) };
    let last = if join.emit == Emit::Final { " emit=final" } else { "" };
    map_text(&format!("{kind} on [{}]{equal}{window}{}{residual}{last}", on.join(", "), timed::interval_text(join)), &join.map)
}

fn temporal_text(filter: &TemporalFilter) -> String {
    let conditions = filter.conditions.iter().map(|condition| {
        let turns = match condition.turns {
            Turns::True => "from",
            Turns::False => "until",
        };
        match &condition.moment {
            Moment::At(time) => format!("{turns} {time}"),
            Moment::After(time) => format!("{turns} after {time}"),
            Moment::Search(condition) => format!("{turns} turn of {condition}"),
        }
    });
    format!("temporal [{}]", conditions.collect::<Vec<_>>().join(", "))
}

fn bound(kind: TimeKind) -> &'static str {
    match kind {
        TimeKind::Event => "time",
        TimeKind::WindowStart { .. } => "start",
        TimeKind::WindowEnd { .. } => "end",
    }
}

fn properties(job: &Job, id: NodeId) -> String {
    let properties = &job.plan.nodes[id].properties;
    let updates = if properties.append_only { "append" } else { "update" };
    let state = match properties.state {
        StateBound::Stateless => "none",
        StateBound::Window => "window",
        StateBound::Clock => "clock",
        StateBound::Interval => "interval",
        StateBound::Watermark => "watermark",
        StateBound::Keys => "keys",
        StateBound::Versions => "keys+watermark",
        StateBound::Unbounded => "unbounded",
    };
    let times: Vec<String> = properties
        .time
        .iter()
        .enumerate()
        .filter_map(|(index, time)| time.as_ref().map(|time| format!("#{index} {}", time_text(job, time))))
        .collect();
    let time = if times.is_empty() { String::new() } else { format!(" time=[{}]", times.join(", ")) };
    let lifetime = match (job.lifetime(id), job.settings.state_ttl) {
        (Lifetime::Expires, Some(ttl)) => format!(" expires after {}: lossy", length(ttl)),
        _ => String::new(),
    };
    format!("{updates} state={state}{lifetime}{time}")
}

/// A length of time in the largest unit that it is a whole number of.
fn length(length: Duration) -> String {
    let millis = length.as_millis();
    let units = [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1)];
    let (name, unit) = units.into_iter().find(|(_, unit)| millis.is_multiple_of(*unit)).unwrap_or(("millisecond", 1));
    let count = millis / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

fn time_text(job: &Job, time: &TimeColumn) -> String {
    let name = |time: &TimeSource| {
        let name = job.sources.get(time.source).map_or("processing time", |source| source.name.as_str());
        if time.delay == 0 { name.to_string() } else { format!("{name}-{}", micros(time.delay)) }
    };
    let sources: Vec<String> = time.sources.iter().map(name).collect();
    format!("{} of {}", bound(time.kind), sources.join("+"))
}

fn list(exprs: &[crate::Expr]) -> String {
    let texts: Vec<String> = exprs.iter().map(|expr| expr.to_string()).collect();
    texts.join(", ")
}
