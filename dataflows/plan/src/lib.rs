//! The words that every part of Highwater shares, and nothing that runs.
//!
//! A job's SQL becomes a [`Job`]: its sources, a [`Plan`] (a graph of operators over Arrow schemas), and what leaves it
//! (views and sinks). `sql` writes these values, `engine` reads them, connectors and the service speak of the same
//! [`Options`] and [`Diagnostic`]s. Nothing here knows DataFusion, timely, Kafka or HTTP: expressions are behind the
//! [`Scalar`] trait, so the planner's types end where the plan begins.
//!
//! Event times and watermarks are `i64` microseconds since the Unix epoch throughout; logical times ([`Epoch`]) are
//! `u64` milliseconds.

mod aggregate;
mod diagnostic;
mod expr;
mod fingerprint;
mod graph;
mod interval;
mod job;
mod lifetime;
mod options;
mod ordered;
mod origin;
mod recursion;
mod secret;
mod settings;
pub mod sharing;
mod temporal;
mod time;
mod timed;

mod explain;

pub use aggregate::{AggregateCall, AggregateConstant, AggregateFunction, Statistic};
pub use diagnostic::{Diagnostic, Note, Position, Severity, Span};
pub use explain::explain;
pub use expr::{EvalError, Expr, Scalar};
pub use fingerprint::fingerprints;
pub use graph::{
    Aggregate, Emit, Grouping, Hold, Join, JoinKind, JoinWindow, Map, Node, NodeId, Op, Plan, Properties, SessionAssign, SetKind,
    SetOperation, StateBound, Unnest, WindowAssign,
};
pub use interval::JoinInterval;
pub use job::{Job, OutputNames, Sink, Source, SourceKind, View, Watermark};
pub use lifetime::Lifetime;
pub use options::{Field, OptionEntry, OptionReader, Options, parse_duration};
pub use ordered::{
    Frame, FrameBound, FrameUnits, OrderColumn, Over, OverCall, OverClosing, OverFunction, PartitionWindow, Ranking, TopN,
};
pub use origin::Origin;
pub use recursion::{AtLimit, Binding, Recursion};
pub use secret::{is_reference, is_secret, masked};
pub use settings::{OnError, Settings};
pub use temporal::{Moment, TemporalCondition, TemporalFilter, Turns};
pub use time::{
    Micros, PROCESSING_TIME, TimeColumn, TimeKind, TimeSource, WindowKind, max_micros, micros_from_column, timestamp_from_micros,
};
pub use timed::{AsOf, Beside, Comparison, Nearest, TemporalJoin};

/// The logical time of an update: milliseconds since the Unix epoch, made strictly increasing.
pub type Epoch = u64;
