//! Operators over partitions whose rows stand in an order.
//!
//! The order is total: rows that agree on all order columns are ordered by all columns from left to right, each ascending
//! with NULLs first. So results depend on the rows alone, never on when they came.

use arrow::datatypes::DataType;

use crate::{AggregateCall, Emit, TimeKind};

/// A column that rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderColumn {
    /// Input column.
    pub column: usize,
    /// Largest first.
    pub descending: bool,
    /// NULLs before all values.
    pub nulls_first: bool,
}

/// How rows of a partition are numbered; numbers begin with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ranking {
    /// By position.
    RowNumber,
    /// By position; peers (rows equal in all order columns) have the number of the first of them.
    Rank,
    /// By peers: the next ones have the next number.
    DenseRank,
}

/// A partition column that holds the bound of a window: the partition is freed when the window closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionWindow {
    /// Position in the partition's columns.
    pub key: usize,
    /// How to find the window's end from the bound.
    pub kind: TimeKind,
}

/// The rows of each partition whose number is within bounds; one input.
///
/// Output columns: the input's, then the number (Int64) if `numbered`. `LIMIT` and `DISTINCT ON` are this, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopN {
    /// Input columns that name the partition; without any there is one partition.
    pub partition: Vec<usize>,
    /// What the rows are ordered by, before all columns.
    pub order: Vec<OrderColumn>,
    /// Which number.
    pub ranking: Ranking,
    /// The smallest number kept, at least 1.
    pub first: u64,
    /// The largest number kept.
    pub last: u64,
    /// Whether the number is an output column.
    pub numbered: bool,
    /// Set if the partitions belong to windows that close.
    pub window: Option<PartitionWindow>,
    /// When results are given; `Final` only with windows that close.
    pub emit: Emit,
}

/// Adds to each row what functions say of the rows around it in its partition; one input.
///
/// Output columns: the input's, then one per call.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    /// Input columns that name the partition; without any there is one partition.
    pub partition: Vec<usize>,
    /// What the rows are ordered by, before all columns.
    pub order: Vec<OrderColumn>,
    /// What is computed per row.
    pub calls: Vec<OverCall>,
    /// What makes results final and frees rows, if something does.
    pub closing: Option<OverClosing>,
    /// When results are given; `Final` only with `closing`.
    pub emit: Emit,
}

/// What makes the results of [`Over`] final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverClosing {
    /// Partitions belong to windows: they are final, and freed, when the window closes.
    Window(PartitionWindow),
    /// The first order column is an event time, smallest first: a row is final when the watermark has passed the rows of
    /// its frames, and is kept as long as rows that are to come need it. Rows before the watermark are late.
    Time,
}

/// One function of an [`Over`].
#[derive(Debug, Clone, PartialEq)]
pub struct OverCall {
    /// Which.
    pub function: OverFunction,
    /// The rows it looks at; functions that ignore frames have the whole partition.
    pub frame: Frame,
    /// Type of the result.
    pub data_type: DataType,
}

/// The functions of [`Over`].
#[derive(Debug, Clone, PartialEq)]
pub enum OverFunction {
    /// `row_number()`, `rank()` and `dense_rank()`; Int64.
    Ranking(Ranking),
    /// Share of the other rows that rank before; Float64.
    PercentRank,
    /// Share of the rows that do not rank behind; Float64.
    CumeDist,
    /// The partition cut into so many nearly equal buckets, the larger ones first; Int64.
    Ntile(u64),
    /// The value so many rows behind (negative: before).
    Shift {
        /// Input column.
        argument: usize,
        /// Rows to go.
        offset: i64,
        /// Input column that is taken where there is no such row; otherwise NULL.
        default: Option<usize>,
    },
    /// The value of the frame's n-th row, from its begin (1, 2, ..) or its end (-1, -2, ..); NULL where there is none.
    Nth {
        /// Input column.
        argument: usize,
        /// Which row; not 0.
        position: i64,
    },
    /// An aggregate over the frame.
    Aggregate(AggregateCall),
}

/// The rows around a row that a function looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// What bounds count.
    pub units: FrameUnits,
    /// Where it begins.
    pub start: FrameBound,
    /// Where it ends, included.
    pub end: FrameBound,
}

/// What the bounds of a [`Frame`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameUnits {
    /// Rows.
    Rows,
    /// Groups of peers: rows equal in all order columns.
    Groups,
    /// Differences from the row's value in the only order column.
    Range,
}

/// A bound of a [`Frame`], from the current row on; behind it is positive, whatever the direction of the order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FrameBound {
    /// The partition's begin or end.
    Unbounded,
    /// So many rows, groups, or units of the order column as it is stored (a decimal's last digit, a timestamp's unit).
    Offset(i128),
    /// A difference of floats.
    Float(f64),
}

impl Frame {
    /// The whole partition.
    pub const WHOLE: Frame = Frame { units: FrameUnits::Rows, start: FrameBound::Unbounded, end: FrameBound::Unbounded };
}
