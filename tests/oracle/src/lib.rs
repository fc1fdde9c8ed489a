//! What a job's views must hold, worked out the slow way, and the engine compared with it.
//!
//! The pieces, in the order a case goes through them:
//!
//! ```text
//!  seed ──► generate: SQL text and a script of rows ──► drive: the engine runs both, and tells which epoch each batch got
//!                              │                                │ what views held after every epoch
//!                              ▼                                ▼
//!                     evaluate: every operator from all rows so far ──► compare ──► shrink, if they differ
//! ```
//!
//! The oracle shares the plan with the engine and nothing else: expressions are evaluated one row at a time, groups are
//! made anew at every epoch, a join is two nested loops. Epochs are the engine's own, because it opens them by the clock;
//! what is in them is known from the receipts of each batch, and everything else follows.
//!
//! What is not checked here: that a query was planned to the right operators (`tests/slt` and the golden jobs do that).
//! But what a plan *says* of its operators (append-only, unique keys, columns without NULL) is held against every epoch.

pub mod case;
pub mod census;
pub mod compare;
pub mod drive;
pub mod evaluate;
pub mod generate;
pub mod history;
pub mod multiset;
pub mod script;
pub mod shrink;
pub mod value;
