//! Joins in time: each left row beside one state of the right side, that of a moment or the nearest one.

use crate::{Expr, Map};

/// What joins in time have in common. Output before `map`: left columns, then right columns, which are NULL beside a left
/// row without a match.
#[derive(Debug, Clone)]
pub struct Beside {
    /// `(left column, right column)` pairs that must be equal. Types are equal. Empty: every right row is looked at.
    pub on: Vec<(usize, usize)>,
    /// Whether NULL equals NULL (`IS NOT DISTINCT FROM`).
    pub nulls_equal: bool,
    /// Whether left rows without a match are given, beside NULLs.
    pub outer: bool,
    /// Booleans over left then right columns; a pair matches when all are true.
    pub residual: Vec<Expr>,
    /// Conditions of the result and the columns that are kept.
    pub map: Map,
}

/// `FOR SYSTEM_TIME AS OF`: each left row beside the right rows of its moment. What was given is not changed when the right
/// side changes later.
#[derive(Debug, Clone)]
pub struct TemporalJoin {
    /// Which rows match.
    pub beside: Beside,
    /// Which moment.
    pub as_of: AsOf,
}

/// The moment at which a left row sees the right side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsOf {
    /// The end of the epoch in which the left row comes.
    Processing,
    /// The left row's event time. The right input is [`crate::Op::Versions`], perhaps behind maps, or grows: a row is valid
    /// from its time on, until the next of its key. Left rows wait until both watermarks have passed their time.
    Event {
        /// The left event time.
        left: usize,
        /// The right event time.
        right: usize,
        /// A boolean right column: the row says that the key has no version from its time on where this is not true.
        valid: Option<usize>,
        /// Of right rows with one key and one time: the first in the order of the columns that are kept counts, among those
        /// that are valid if there are some. Otherwise the one that came last, and then only one worker has rows of a key.
        first_of_equal: bool,
        /// Sources whose watermarks bound both times, ascending.
        sources: Vec<crate::TimeSource>,
    },
}

/// `ASOF JOIN`: each left row beside the right row of its key that is nearest in an order. Maintained when either side
/// changes. Of several right rows equally near, the one whose kept columns come first counts.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Which rows match; its residual is empty.
    pub beside: Beside,
    /// The left column that is compared: a number, date or timestamp.
    pub left: usize,
    /// The right column that is compared, of the same type.
    pub right: usize,
    /// How the left column stands to the right one in a match.
    pub comparison: Comparison,
}

/// How two columns are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `left < right`: the nearest right row after the left one.
    Less,
    /// `left <= right`.
    LessOrEqual,
    /// `left > right`: the nearest right row before the left one.
    Greater,
    /// `left >= right`.
    GreaterOrEqual,
}

impl Comparison {
    /// As in SQL.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}
