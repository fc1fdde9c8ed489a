//! The content of every view after every epoch, from all rows so far.
//!
//! Each operator is a function from its inputs' content to its own, applied anew at every epoch. Two remember something.
//! An operator with windows refuses rows of closed windows, so it has to know *when* a row came: it keeps the rows that it
//! accepted, and its content is a function of those. A table with a primary key goes through its rows in order.
//!
//! In epoch `e` a window takes rows if its end, plus the allowed lateness, is after `W(e-1)`. With `EMIT FINAL` a window
//! is in the content from the first epoch on whose `W(e)` has reached its end. The result of a window that has closed stays.

mod aggregate;
mod exact;
mod expression;
mod hold;
mod join;
mod met;
mod ordered;
mod over;
mod recursion;
mod session;
mod set_operation;
mod source;
mod temporal;
mod timed;
mod unnest;
mod window;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use highwater_engine::Time;
use highwater_plan::{AsOf, Hold, Job, NodeId, OnError, Op, PROCESSING_TIME, Plan, TimeSource};

use self::expression::RowMap;
use self::met::met;
use crate::census::Meetings;
use crate::history::History;
use crate::multiset::Multiset;

/// What must be seen of a job.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The epochs, ascending, the first is 0.
    pub epochs: Vec<Time>,
    /// Per view its content after each epoch.
    pub views: Vec<Vec<Multiset>>,
    /// Per view the net number of rows in `$errors` after each epoch.
    pub view_errors: Vec<Vec<i64>>,
    /// Per sink the sum of all changes through each epoch.
    pub sinks: Vec<Vec<Multiset>>,
    /// The net number of rows in all `$late` relations after each epoch.
    pub late: Vec<i64>,
    /// What the operators met.
    pub met: Meetings,
}

impl Expected {
    /// The position of the last epoch that is not after `time`.
    pub fn at(&self, time: Time) -> usize {
        self.epochs.partition_point(|epoch| *epoch <= time) - 1
    }
}

/// Why there is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The plan says something of an operator that is not so.
    #[error("{0}")]
    PlanIsWrong(String),
    /// All feeds of a source are idle at once, or an operator asks in which epoch the clock did something.
    #[error("the content follows the clock")]
    NeedsClock,
    /// It would take too long.
    #[error("too many rows")]
    TooLarge,
}

/// Distinct rows that an operator may have.
const ROWS_MAX: usize = 2_000;

/// Rows, copies counted, that an operator may have that looks at each copy.
const COPIES_MAX: i64 = 20_000;

/// An operator's content after each epoch, and what it did not let through.
#[derive(Debug, Clone, Default)]
struct Evaluated {
    content: Vec<Multiset>,
    /// Net number of rows that failed, after each epoch.
    errors: Vec<i64>,
    /// Net number of rows that were late, after each epoch.
    late: Vec<i64>,
}

impl Evaluated {
    fn of(content: Vec<Multiset>) -> Self {
        let epochs = content.len();
        Evaluated { content, errors: vec![0; epochs], late: vec![0; epochs] }
    }
}

/// What operators may look at.
struct Context<'a> {
    job: &'a Job,
    history: &'a History,
    epochs: usize,
    /// What the epochs are called: the milliseconds of the clock.
    times: Vec<Time>,
    /// Per epoch and source.
    watermarks: Vec<Vec<i64>>,
    /// The operator that is looked at.
    at: Cell<NodeId>,
    /// Operators that took a row for a closed window, because of the allowed lateness.
    allowed: RefCell<BTreeSet<NodeId>>,
}

impl<'a> Context<'a> {
    fn new(job: &'a Job, history: &'a History) -> Result<Self, Unfit> {
        let times = history.epochs();
        let watermarks = history.watermarks(job).ok_or(Unfit::NeedsClock)?;
        Ok(Context { job, history, epochs: times.len(), times, watermarks, at: Cell::default(), allowed: RefCell::default() })
    }

    /// How many late rows a change in a closed window is. What tables take back themselves is none.
    fn late(&self, sources: &[TimeSource], diff: i64) -> i64 {
        let tables = sources.iter().all(|time| self.job.sources.get(time.source).is_some_and(|source| source.upserts()));
        if diff < 0 && tables && !sources.is_empty() { 0 } else { diff }
    }

    /// The smallest watermark of these sources after an epoch; nothing is known of no sources.
    fn watermark(&self, epoch: usize, sources: &[TimeSource]) -> i64 {
        let of = |time: &TimeSource| {
            let watermark = match time.source {
                PROCESSING_TIME => self.clock(epoch),
                source => self.watermarks[epoch][source],
            };
            if watermark == i64::MAX || watermark == i64::MIN { watermark } else { watermark - time.delay }
        };
        sources.iter().map(of).min().unwrap_or(i64::MIN)
    }

    /// Rows to come are of a later epoch, so of a later millisecond.
    fn clock(&self, epoch: usize) -> i64 {
        match self.times[epoch] {
            0 => i64::MIN,
            time if self.history.finished().is_some_and(|last| last <= time) => i64::MAX,
            time => (time as i64 + 1) * 1_000,
        }
    }

    /// The smallest watermark of these sources before an epoch.
    fn watermark_before(&self, epoch: usize, sources: &[TimeSource]) -> i64 {
        if epoch == 0 { i64::MIN } else { self.watermark(epoch - 1, sources) }
    }

    /// Whether a window takes rows in this epoch.
    fn is_open(&self, epoch: usize, sources: &[TimeSource], end: i64) -> bool {
        let lateness = i128::try_from(self.job.settings.allowed_lateness.as_micros()).unwrap_or(i128::MAX);
        let watermark = i128::from(self.watermark_before(epoch, sources));
        let is_open = i128::from(end) + lateness > watermark;
        if is_open && i128::from(end) <= watermark {
            self.allowed.borrow_mut().insert(self.at.get());
        }
        is_open
    }

    /// Whether a window that ends then takes no more rows after this epoch.
    fn is_over(&self, epoch: usize, sources: &[TimeSource], end: i64) -> bool {
        let lateness = i128::try_from(self.job.settings.allowed_lateness.as_micros()).unwrap_or(i128::MAX);
        let watermark = self.watermark(epoch, sources);
        i128::from(end) + lateness <= i128::from(watermark) && watermark > i64::MIN
    }
}

/// Evaluates a job over what it was given.
pub fn evaluate(job: &Job, history: &History) -> Result<Expected, Unfit> {
    let context = Context::new(job, history)?;
    let (nodes, live) = nodes(&context)?;
    let met = met(&context, &nodes, &live);
    let epochs = context.times;
    let sum = |within: &[bool], of: fn(&Evaluated) -> &[i64]| -> Vec<i64> {
        let counted = || nodes.iter().zip(within).filter(|(_, within)| **within);
        (0..epochs.len()).map(|epoch| counted().map(|(node, _)| of(node)[epoch]).sum()).collect()
    };
    let errors = |root: NodeId| sum(&upstream(&job.plan, &[root]), |node| &node.errors);
    Ok(Expected {
        views: job.views.iter().map(|view| nodes[view.node].content.clone()).collect(),
        view_errors: job.views.iter().map(|view| errors(view.node)).collect(),
        sinks: job.sinks.iter().map(|sink| nodes[sink.node].content.clone()).collect(),
        late: sum(&live, |node| &node.late),
        met,
        epochs,
    })
}

/// All operators, and which of them give something to views or sinks; the others are empty.
fn nodes(context: &Context<'_>) -> Result<(Vec<Evaluated>, Vec<bool>), Unfit> {
    let job = context.job;
    let roots: Vec<NodeId> = job.views.iter().map(|view| view.node).chain(job.sinks.iter().map(|sink| sink.node)).collect();
    let live = upstream(&job.plan, &roots);
    if hides_the_clock(&job.plan, &live) {
        return Err(Unfit::NeedsClock);
    }
    let mut nodes: Vec<Evaluated> = Vec::new();
    for (id, live) in live.iter().enumerate() {
        context.at.set(id);
        let evaluated = if *live { evaluate_node(context, id, &nodes)? } else { Evaluated::default() };
        if *live {
            check_properties(&job.plan, id, &evaluated)?;
        }
        nodes.push(evaluated);
    }
    Ok((nodes, live))
}

fn evaluate_node(context: &Context<'_>, id: NodeId, nodes: &[Evaluated]) -> Result<Evaluated, Unfit> {
    let node = &context.job.plan.nodes[id];
    let input = |place: usize| &nodes[node.inputs[place]].content;
    let input_schema = |place: usize| &context.job.plan.nodes[node.inputs[place]].schema;
    let evaluated = match &node.op {
        Op::Source { source, projection } => Evaluated::of(source::content(context, *source, projection)),
        Op::Versions { source, projection } => Evaluated::of(source::versions(context, *source, projection)),
        Op::Constant { rows } => {
            let rows: Multiset = crate::value::rows_of(rows).into_iter().map(|row| (row, 1)).collect();
            Evaluated::of(vec![rows; context.epochs])
        }
        Op::Map(_) if context.job.plan.gives_versions(id) => timed::versions(context, id)?,
        Op::Map(map) => {
            let mut map = RowMap::new(map, input_schema(0), &node.schema, keeps_failed(context));
            let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
            for (epoch, rows) in input(0).iter().enumerate() {
                for (row, diff) in rows.iter() {
                    map.apply(row, diff, &mut evaluated.content[epoch], &mut evaluated.errors[epoch])
                        .map_err(|e| wrong(id, &e))?;
                }
            }
            evaluated
        }
        Op::Window(assign) => {
            let content = input(0).iter().map(|rows| window::assigned(rows, assign, &node.schema)).collect();
            let errors = input(0).iter().map(|rows| window::without_time(rows, assign)).collect();
            Evaluated { errors, ..Evaluated::of(content) }
        }
        Op::Session(assign) => session::rows(context, id, assign, input(0)),
        Op::Unnest(spec) => Evaluated::of(input(0).iter().map(|rows| unnest::items(rows, spec)).collect()),
        Op::Stamp => Evaluated::of(hold::stamped(context, input(0))),
        Op::Hold(held) => hold::content(context, id, held, input(0)),
        Op::Aggregate(aggregate) => aggregate::content(context, id, aggregate, input(0)),
        Op::Join(join) => join::content(context, id, join, [input(0), input(1)])?,
        Op::SetOperation(operation) => Evaluated::of(set_operation::content(*operation, [input(0), input(1)])),
        Op::TopN(_) if input(0).iter().any(|rows| rows.net() > COPIES_MAX) => return Err(Unfit::TooLarge),
        Op::TopN(topn) => ordered::topn(context, id, topn, input(0)),
        Op::TemporalJoin(temporal) => timed::temporal(context, id, temporal, [input(0), input(1)])?,
        Op::Nearest(nearest) => timed::nearest(context, id, nearest, [input(0), input(1)])?,
        Op::Over(over) if ordered::too_large(input(0), &over.partition, over.calls.len()) => return Err(Unfit::TooLarge),
        Op::Over(over) => over::content(context, id, over, input(0)),
        Op::Union => {
            let mut content = vec![Multiset::default(); context.epochs];
            for place in 0..node.inputs.len() {
                content.iter_mut().zip(input(place)).for_each(|(all, rows)| all.add_all(rows, 1));
            }
            Evaluated::of(content)
        }
        Op::Recursion { recursion, output } => {
            let inputs: Vec<&Vec<Multiset>> = (0..node.inputs.len()).map(input).collect();
            recursion::content(context, recursion, *output, &inputs)?
        }
        Op::Entry(_) | Op::Binding(_) => return Err(wrong(id, "it stands outside of a recursion")),
        Op::Temporal(filter) => temporal::content(filter, &node.schema, &context.times, input(0)).map_err(|e| wrong(id, &e))?,
    };
    if evaluated.content.iter().any(|rows| rows.distinct() > ROWS_MAX) {
        return Err(Unfit::TooLarge);
    }
    Ok(evaluated)
}

/// Which nodes are among these or read by them.
fn upstream(plan: &Plan, roots: &[NodeId]) -> Vec<bool> {
    let mut live = vec![false; plan.nodes.len()];
    roots.iter().for_each(|root| live[*root] = true);
    for id in (0..plan.nodes.len()).rev() {
        if live[id] {
            plan.nodes[id].inputs.iter().for_each(|input| live[*input] = true);
        }
    }
    live
}

/// Whether something depends on the epoch in which the clock made an operator give rows. Of such an epoch no more is known
/// than what it changes in views and sinks.
fn hides_the_clock(plan: &Plan, live: &[bool]) -> bool {
    let of_processing = |id: &NodeId| {
        let times = plan.nodes[*id].properties.time.iter().flatten();
        times.flat_map(|time| &time.sources).any(|source| source.source == PROCESSING_TIME)
    };
    let clocked = |id: NodeId| match plan.nodes[id].op {
        Op::Temporal(_) | Op::Hold(Hold::Every { .. }) => true,
        Op::Hold(_) | Op::Aggregate(_) | Op::Session(_) | Op::Join(_) | Op::TopN(_) | Op::Over(_) => {
            plan.nodes[id].inputs.iter().any(of_processing)
        }
        _ => false,
    };
    let behind = |id: NodeId| plan.upstream_of(id).iter().any(|other| *other != id && clocked(*other));
    let asks = |op: &Op| match op {
        Op::Stamp | Op::Hold(Hold::Every { .. }) => true,
        Op::TemporalJoin(join) => join.as_of == AsOf::Processing,
        _ => false,
    };
    (0..plan.nodes.len()).any(|id| live[id] && asks(&plan.nodes[id].op) && behind(id))
}

/// Holds what the plan says of an operator against its content.
fn check_properties(plan: &Plan, id: NodeId, evaluated: &Evaluated) -> Result<(), Unfit> {
    let node = &plan.nodes[id];
    let fields = node.schema.fields();
    for (epoch, rows) in evaluated.content.iter().enumerate() {
        // Versions are a sequence: a deletion there need not take back a row, and of what it says only the key counts.
        let sequence = plan.gives_versions(id);
        if let Some((row, _)) = rows.iter().find(|(_, diff)| *diff < 0 && !sequence) {
            return Err(wrong(id, &format!("after epoch {epoch} it has a row less than none: {}", crate::value::show(row))));
        }
        if let Some((row, _)) = rows
            .iter()
            .filter(|(_, diff)| *diff > 0)
            .find(|(row, _)| row.iter().zip(fields).any(|(value, field)| value.is_null() && !field.is_nullable()))
        {
            return Err(wrong(id, &format!("a column that is not nullable has a NULL in {}", crate::value::show(row))));
        }
        if let Some((row, _)) = rows.iter().find(|(row, _)| row.len() != fields.len()) {
            return Err(wrong(id, &format!("{} columns are declared, a row is {}", fields.len(), crate::value::show(row))));
        }
        if node.properties.append_only && epoch > 0 {
            let change = rows.minus(&evaluated.content[epoch - 1]);
            if let Some((row, _)) = change.iter().find(|(_, diff)| *diff < 0) {
                return Err(wrong(id, &format!("it is said to be append-only but retracts {}", crate::value::show(row))));
            }
        }
        if let Some(key) = &node.properties.unique_key {
            let mut seen = std::collections::BTreeSet::new();
            for (row, diff) in rows.iter() {
                let values: Vec<_> = key.iter().map(|column| row[*column].clone()).collect();
                if diff != 1 || !seen.insert(values) {
                    return Err(wrong(
                        id,
                        &format!("{key:?} is said to be a unique key but is not that of {}", crate::value::show(row)),
                    ));
                }
            }
        }
    }
    Ok(())
}

fn wrong(id: NodeId, what: &str) -> Unfit {
    Unfit::PlanIsWrong(format!("operator {id} of the plan: {what}"))
}

/// Whether results that cannot be represented are given as NULL.
fn keeps_failed(context: &Context<'_>) -> bool {
    context.job.settings.on_error == OnError::Null
}

#[cfg(test)]
mod tests;
