//! Conditions on the clock: filters with `NOW()`, which is the epoch.
//!
//! What is maintained is a condition that turns once as the clock goes on: from true to false, or from false to true. So a
//! row has one moment for each of its conditions, which depends on the row alone, and a filter of several conditions lets
//! it through from the latest moment at which one becomes true until the earliest at which one becomes false.

use crate::Expr;

/// Lets each row through while all of its conditions hold; the columns are the input's.
#[derive(Debug, Clone)]
pub struct TemporalFilter {
    /// All must hold.
    pub conditions: Vec<TemporalCondition>,
}

/// A condition that turns once.
#[derive(Debug, Clone)]
pub struct TemporalCondition {
    /// Which way.
    pub turns: Turns,
    /// When.
    pub moment: Moment,
}

/// Which way a condition turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turns {
    /// It becomes true.
    True,
    /// It becomes false.
    False,
}

/// When a condition turns.
#[derive(Debug, Clone)]
pub enum Moment {
    /// At the first epoch that is not before this time. A row without a time (NULL) never passes.
    At(Expr),
    /// At the first epoch that is after this time. A row without a time (NULL) never passes.
    After(Expr),
    /// At the first epoch at which this boolean is another than before. It reads the input's columns and, as the last
    /// column, the epoch as a timestamp in microseconds. A row for which it is never true never passes.
    Search(Expr),
}
