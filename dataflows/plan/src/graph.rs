//! The plan: a graph of operators, each with what is known of its output.
//!
//! Columns are positions. A node's `schema` gives their types and, for people, names. Inputs stand before the nodes that
//! read them, so a plan is walked front to back. Equal sub-plans are one node: the graph is where work is shared.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{
    AggregateCall, Expr, JoinInterval, Nearest, Over, Recursion, Span, TemporalFilter, TemporalJoin, TimeColumn, TimeKind,
    TimeSource, TopN, WindowKind,
};

/// Position of a node in [`Plan::nodes`].
pub type NodeId = usize;

/// A graph of operators.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The operators, inputs before their readers.
    pub nodes: Vec<Node>,
}

impl Plan {
    /// Appends a node and gives its position.
    pub fn push(&mut self, node: Node) -> NodeId {
        debug_assert!(node.inputs.iter().all(|input| *input < self.nodes.len()), "inputs stand before their readers");
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// `node` and every node that it reads, directly or not, ascending.
    pub fn upstream_of(&self, node: NodeId) -> Vec<NodeId> {
        let mut seen = vec![false; self.nodes.len()];
        let mut todo = vec![node];
        while let Some(id) = todo.pop() {
            if !std::mem::replace(&mut seen[id], true) {
                todo.extend(&self.nodes[id].inputs);
            }
        }
        (0..self.nodes.len()).filter(|id| seen[*id]).collect()
    }

    /// Whether a node gives the versions of a table, perhaps mapped: rows as they came, of which a negative one says that its
    /// key has no row any more.
    pub fn gives_versions(&self, node: NodeId) -> bool {
        let node = &self.nodes[node];
        match node.op {
            Op::Versions { .. } => true,
            Op::Map(_) => self.gives_versions(node.inputs[0]),
            _ => false,
        }
    }
}

/// One operator.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    /// Its output columns.
    pub schema: SchemaRef,
    /// What is known of its output.
    pub properties: Properties,
    /// Where it stands in the job's text.
    pub span: Option<Span>,
}

/// What is known of an operator's output before it runs.
#[derive(Debug, Clone)]
pub struct Properties {
    /// No row is ever retracted.
    pub append_only: bool,
    /// Per column: whether a watermark bounds its values.
    pub time: Vec<Option<TimeColumn>>,
    /// Columns that identify a row, if some do: at any epoch no two rows agree on all of them.
    pub unique_key: Option<Vec<usize>>,
    /// What bounds the operator's state.
    pub state: StateBound,
}

/// What bounds an operator's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateBound {
    /// It keeps nothing.
    Stateless,
    /// Open windows: freed when the watermark passes their end.
    Window,
    /// Rows that may still have a match: freed when the watermark has passed all times that they could match.
    Watermark,
    /// Rows whose condition on the clock has not turned for good.
    Clock,
    /// The changes of the interval at hand.
    Interval,
    /// One entry per distinct key.
    Keys,
    /// One entry per distinct key, and what the watermark has not passed yet.
    Versions,
    /// Every row is kept for ever.
    Unbounded,
}

/// What an operator does.
#[derive(Debug, Clone)]
pub enum Op {
    /// The rows of a source or table, decoded. For a table with a primary key: the upserts resolved, so that each key
    /// has at most one row.
    Source {
        /// Index into [`crate::Job::sources`].
        source: usize,
        /// Physical columns of the source that are read, in this order.
        projection: Vec<usize>,
    },
    /// The rows of a table with a primary key as they came, every version of a row: an insertion is valid from its event
    /// time on, a retraction says that its key has no row from its event time on. Only [`TemporalJoin`] reads it.
    Versions {
        /// Index into [`crate::Job::sources`].
        source: usize,
        /// Physical columns of the source that are read, in this order.
        projection: Vec<usize>,
    },
    /// Constant rows, present from the first epoch.
    Constant {
        /// The rows; their schema is the node's.
        rows: RecordBatch,
    },
    /// Filters, then projects; one input.
    Map(Map),
    /// Adds `window_start`, `window_end` and `window_time` to each row, once per window the row falls in; one input.
    /// Rows whose time is NULL fall in no window.
    Window(WindowAssign),
    /// Adds `window_start`, `window_end` and `window_time` of the session that each row is in; one input. Rows are
    /// retracted and given anew when their session's bounds change. Rows whose time is NULL are in no session.
    Session(SessionAssign),
    /// A row per item of array columns; one input.
    Unnest(Unnest),
    /// Appends the epoch in which each row came, as a TIMESTAMP(3) that is never NULL; one input, which only grows.
    Stamp,
    /// Holds changes back; one input.
    Hold(Hold),
    /// Groups rows and aggregates each group; one input. `SELECT DISTINCT` is a grouping without aggregates.
    Aggregate(Aggregate),
    /// Pairs of rows with equal keys, and what becomes of rows without a match; two inputs.
    Join(Join),
    /// Left rows beside the right rows of their moment; two inputs.
    TemporalJoin(TemporalJoin),
    /// Left rows beside the nearest right row; two inputs.
    Nearest(Nearest),
    /// All rows of all inputs, which have equal column types.
    Union,
    /// Rows while their conditions on the clock hold; one input.
    Temporal(TemporalFilter),
    /// The rows of each partition whose number in an order is within bounds; one input.
    TopN(TopN),
    /// Adds to each row what functions say of the rows around it; one input.
    Over(Over),
    /// `INTERSECT` or `EXCEPT`: arithmetic on how often each row is in either of two inputs, which have equal column
    /// types. NULLs are equal.
    SetOperation(SetOperation),
    /// One binding of a recursion. Nodes that give other bindings of the same one share it, and have the same inputs.
    Recursion {
        /// The recursion.
        recursion: Arc<Recursion>,
        /// Index into [`Recursion::bindings`].
        output: usize,
    },
    /// In the body of a recursion: an input of the nodes that give its bindings.
    Entry(usize),
    /// In the body of a recursion: a binding, as of the step before.
    Binding(usize),
}

/// How often a row is in the result, from how often it is in either input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetOperation {
    /// Which.
    pub kind: SetKind,
    /// `ALL`: copies count. Otherwise a row is there or not.
    pub all: bool,
}

/// The set operations that compare two relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Rows that both have.
    Intersect,
    /// Rows that the right one does not have, or has fewer of.
    Except,
}

impl SetOperation {
    /// How many copies of a row there are in the result, with so many on the left and right; fewer than none are none.
    pub fn copies(self, left: i64, right: i64) -> i64 {
        let (left, right) = (left.max(0), right.max(0));
        match (self.kind, self.all) {
            (SetKind::Intersect, true) => left.min(right),
            (SetKind::Intersect, false) => left.min(right).min(1),
            (SetKind::Except, true) => (left - right).max(0),
            (SetKind::Except, false) => i64::from(left > 0 && right == 0),
        }
    }
}

/// Filters, then projects.
#[derive(Debug, Clone)]
pub struct Map {
    /// Booleans over the input; a row passes when all are true.
    pub filters: Vec<Expr>,
    /// Output columns over the input; `None` keeps the input's.
    pub exprs: Option<Vec<Expr>>,
}

/// A row per item of array columns: `UNNEST`.
///
/// Output columns: those that are kept, then an item of each array, then the item's number. Arrays of one row may differ
/// in length: the shorter ones give NULL. A NULL array has no items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnest {
    /// Input columns that are repeated for each item.
    pub keep: Vec<usize>,
    /// Input columns of arrays, at least one, that are gone through side by side.
    pub lists: Vec<usize>,
    /// Whether the number of the item, from 1, is a last column (BIGINT).
    pub ordinality: bool,
    /// Whether a row without items stays, with NULL for the item (and its number).
    pub outer: bool,
}

/// How rows are put into windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowAssign {
    /// The windows.
    pub kind: WindowKind,
    /// The input's timestamp column. Windows close only if it is an event time with a watermark.
    pub time: usize,
}

/// How rows are put into sessions: the rows of a partition, in order of time, are one session for as long as neighbours are
/// at most `gap` apart. A session is `[first, last + gap)`.
///
/// In epoch `e` new rows are cut into runs in the same way. A run that neither touches a session that is kept nor ends
/// (plus the allowed lateness) after the watermark of the epoch before is late. A session is kept until the watermark
/// reaches its end plus the allowed lateness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionAssign {
    /// Longest distance between two neighbours in microseconds.
    pub gap: i64,
    /// The input's timestamp column. Sessions close only if it is an event time with a watermark.
    pub time: usize,
    /// Input columns whose values have sessions of their own.
    pub partition: Vec<usize>,
}

/// How long changes are held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// A row is given once, when the watermark passes its time. Rows whose time had passed, together with the allowed
    /// lateness, in the epoch before are late.
    UntilPassed {
        /// The input's column that has the time.
        column: usize,
        /// What it is: the row's time has passed when the watermark reaches the end of its window; an event time has
        /// passed when the watermark is after it.
        kind: TimeKind,
    },
    /// Changes of one interval are given together, in the first epoch of a later one; the end of all input gives the rest.
    /// Intervals are aligned to the Unix epoch.
    Every {
        /// Length of an interval in milliseconds.
        millis: u64,
    },
}

/// When the results of windows are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emit {
    /// At every epoch, what changed.
    Changes,
    /// Each window once, when the watermark closes it.
    Final,
}

/// Groups rows and aggregates each group.
///
/// Output columns: the keys in order, then `window_start` and `window_end` if the grouping assigns windows
/// ([`Grouping::Assign`], [`Grouping::Session`]), then one column per call.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Input columns that name the group. Empty and without windows: one group that exists even without rows.
    pub keys: Vec<usize>,
    /// What is computed per group.
    pub calls: Vec<AggregateCall>,
    /// Whether the groups belong to windows.
    pub grouping: Grouping,
    /// When results are given; `Final` only with windows that close.
    pub emit: Emit,
}

/// Whether groups belong to windows, which the watermark closes and frees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// Groups live as long as they have rows.
    Keys,
    /// The operator puts each row into windows by its time column; groups are (keys, window).
    Assign(WindowAssign),
    /// The operator puts each row into a session by its time column; the keys are the sessions' partition, so a group is a
    /// session.
    Session(SessionAssign),
    /// The rows carry their window's bound in a key column.
    Column {
        /// Position in [`Aggregate::keys`] of the bound.
        key: usize,
        /// [`TimeKind::WindowStart`] or [`TimeKind::WindowEnd`]: how to find the window's end from it.
        kind: TimeKind,
    },
}

/// Matches rows of two inputs: a pair matches when its keys are equal and `residual` is true.
///
/// Output before `map`: what [`JoinKind::columns`] says.
#[derive(Debug, Clone)]
pub struct Join {
    /// What is given of matches, and of rows without one.
    pub kind: JoinKind,
    /// `(left column, right column)` pairs that must be equal. Types are equal. Empty: all pairs are compared.
    pub on: Vec<(usize, usize)>,
    /// Whether NULL equals NULL (`IS NOT DISTINCT FROM`).
    pub nulls_equal: bool,
    /// Booleans over left then right columns; a pair matches when all are true. Empty for an inner join, where a
    /// condition of the match is a condition of the result: it stands in `map`.
    pub residual: Vec<Expr>,
    /// Conditions of the result and the columns that are kept, over the join's output.
    pub map: Map,
    /// Set if both keys hold the same window's bound: rows of a window are freed when both watermarks have passed it.
    pub window: Option<JoinWindow>,
    /// Set, and `window` not, if the times of matching rows are near each other: rows are freed when the watermark has
    /// passed all that they could match.
    pub interval: Option<JoinInterval>,
    /// `Final`: that a row has no match is said only when its window is closed, or when no match can come any more; only
    /// with `window` or `interval`.
    pub emit: Emit,
}

impl Join {
    /// Per column, left then right, whether the conditions or the output read it. `widths`: columns of each side.
    pub fn read_columns(&self, widths: [usize; 2]) -> Vec<bool> {
        let columns = widths[0] + widths[1];
        // The mark of a mark join is no column of either side.
        let given = if self.kind.gives_pairs() { columns } else { widths[0] };
        let mut read: Vec<bool> = (0..columns).map(|column| self.map.exprs.is_none() && column < given).collect();
        let output = self.map.filters.iter().chain(self.map.exprs.iter().flatten()).flat_map(|expr| &expr.columns);
        let output = output.filter(|column| **column < given);
        for column in output.chain(self.residual.iter().flat_map(|expr| &expr.columns)) {
            read[*column] = true;
        }
        read
    }
}

/// What a join gives of matches, and of rows without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// Matching pairs.
    Inner,
    /// Matching pairs, and left rows without a match beside NULLs.
    Left,
    /// Matching pairs, and right rows without a match beside NULLs.
    Right,
    /// Matching pairs, and rows of either side without a match beside NULLs.
    Full,
    /// Left rows that have a match.
    Semi,
    /// Left rows that have no match.
    Anti,
    /// Left rows, each with a boolean column at the end: whether it has a match. Never NULL.
    Mark,
}

impl JoinKind {
    /// Whether matching pairs are given: left columns, then right columns.
    pub fn gives_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full)
    }

    /// Whether each side's rows are given, in some form, when they have no match.
    pub fn keeps(self) -> [bool; 2] {
        let left = matches!(self, JoinKind::Left | JoinKind::Full | JoinKind::Anti | JoinKind::Mark);
        [left, matches!(self, JoinKind::Right | JoinKind::Full)]
    }

    /// Whether each side's columns can be NULL where there is no match.
    pub fn pads(self) -> [bool; 2] {
        [matches!(self, JoinKind::Right | JoinKind::Full), matches!(self, JoinKind::Left | JoinKind::Full)]
    }

    /// The output's columns before `map`: those of both sides, of which some may be NULL; or the left side's, with a
    /// boolean after them for [`JoinKind::Mark`].
    pub fn columns<'a>(self, left: &'a Schema, right: &'a Schema) -> Vec<Field> {
        let padded = |side: &'a Schema, pads: bool| {
            side.fields().iter().map(move |field| field.as_ref().clone().with_nullable(pads || field.is_nullable()))
        };
        let [pads_left, pads_right] = self.pads();
        let mut columns: Vec<Field> = padded(left, pads_left).collect();
        match self {
            JoinKind::Semi | JoinKind::Anti => {}
            JoinKind::Mark => columns.push(Field::new("mark", DataType::Boolean, false)),
            _ => columns.extend(padded(right, pads_right)),
        }
        columns
    }
}

/// The pair of window bounds in a join's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinWindow {
    /// Position in [`Join::on`].
    pub on: usize,
    /// How to find the window's end from the bound.
    pub kind: TimeKind,
    /// Sources whose watermarks bound the left column.
    pub left: Vec<TimeSource>,
    /// Sources whose watermarks bound the right column.
    pub right: Vec<TimeSource>,
}

impl Aggregate {
    /// The input column whose watermark closes this grouping's windows, if it has windows.
    pub fn time_column(&self) -> Option<usize> {
        match &self.grouping {
            Grouping::Keys => None,
            Grouping::Assign(assign) => Some(assign.time),
            Grouping::Session(assign) => Some(assign.time),
            Grouping::Column { key, .. } => Some(self.keys[*key]),
        }
    }
}
