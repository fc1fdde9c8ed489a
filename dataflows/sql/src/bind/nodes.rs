//! The two logical operators that DataFusion does not have: rows into windows, and the place of a watermark.
//!
//! They are nodes and not projections because a window multiplies rows, because lowering must know that a group key is a
//! window's bound, and because they decide what may be pushed through them: filters on payload columns pass a window
//! assignment, none passes a watermark.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::{Column, DFSchema, DFSchemaRef, Result, TableReference};
use datafusion_expr::logical_plan::{Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion_expr::{Expr, ExprSchemable};
use highwater_plan::WindowKind;

use super::types::sql_type;
use crate::diagnose::error;

/// Names of the columns that a window assignment adds.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// What windows a row is put into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Windows {
    /// Those that hold its time.
    OfTime(WindowKind),
    /// The session that it makes with others of the same partition.
    Session {
        /// Longest distance between neighbours in microseconds.
        gap: i64,
        /// Expressions over the input.
        partition: Vec<Expr>,
    },
}

impl Windows {
    /// All lengths, in microseconds.
    fn lengths(&self) -> [i64; 3] {
        match self {
            Windows::OfTime(kind) => [kind.size(), kind.slide(), kind.offset()],
            Windows::Session { gap, .. } => [*gap, 0, 0],
        }
    }

    fn partition(&self) -> &[Expr] {
        match self {
            Windows::OfTime(_) => &[],
            Windows::Session { partition, .. } => partition,
        }
    }
}

/// Appends a window's start, end and time to each row, once per window the row falls in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowNode {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) time: Expr,
    pub(crate) windows: Windows,
    schema: DFSchemaRef,
}

impl WindowNode {
    /// The three columns are called `names`, qualified by `qualifier`.
    pub(crate) fn try_new(
        input: LogicalPlan,
        time: Expr,
        windows: Windows,
        names: [&str; 3],
        qualifier: Option<TableReference>,
    ) -> Result<Self> {
        let found = time.get_type(input.schema())?;
        let DataType::Timestamp(unit, zone) = found else {
            return Err(error(
                "window-argument",
                format!("the time column of a window must be a TIMESTAMP, {time} is {}", sql_type(&found)),
            )
            .help("compute one on the source, with its watermark: at AS to_timestamp_millis(ts), WATERMARK FOR at AS at - ...")
            .into());
        };
        let tick = match unit {
            TimeUnit::Second => 1_000_000,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
        };
        if windows.lengths().iter().any(|length| length % tick != 0) {
            return Err(error(
                "window-argument",
                format!(
                    "the lengths of a window are finer than its time column: {time} is {}",
                    sql_type(&time.get_type(input.schema())?)
                ),
            )
            .help("give the column more digits, such as TIMESTAMP(6), or the window whole ones")
            .into());
        }
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for name in names {
            if fields.iter().any(|(q, field)| field.name() == name && *q == qualifier) {
                return Err(error("duplicate-column", format!("the relation already has a column '{name}'"))
                    .help(format!("rename it first: SELECT {name} AS other_name, ... in a subquery"))
                    .into());
            }
            fields.push((qualifier.clone(), Arc::new(Field::new(name, DataType::Timestamp(unit, zone.clone()), false))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(WindowNode { input: Arc::new(input), time, windows, schema })
    }

    /// As a plan.
    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    fn own_columns(&self) -> Vec<String> {
        let count = self.schema.fields().len();
        self.schema.fields()[count - 3..].iter().map(|field| field.name().clone()).collect()
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(self.windows.partition()).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let Windows::Session { partition, .. } = &self.windows else { return self.own_columns().into_iter().collect() };
        // A row less may split a session: only whole partitions can be left out before.
        let keys: Vec<&Column> = partition.iter().filter_map(Expr::try_as_col).collect();
        let columns = self.schema.columns().into_iter().filter(|column| !keys.contains(&column));
        columns.map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {:?} on {}", self.windows, self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let names = self.own_columns();
        let qualifier = self.schema.qualified_field(self.schema.fields().len() - 1).0.cloned();
        let time = exprs.remove(0);
        let windows = match &self.windows {
            Windows::OfTime(kind) => Windows::OfTime(*kind),
            Windows::Session { gap, .. } => Windows::Session { gap: *gap, partition: exprs },
        };
        WindowNode::try_new(inputs.swap_remove(0), time, windows, [&names[0], &names[1], &names[2]], qualifier)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let count = self.input.schema().fields().len();
        let wanted = output.iter().copied().filter(|index| *index < count).collect();
        Some(vec![with_columns_of(wanted, &self.expressions(), self.input.schema())?])
    }
}

/// `WATERMARK FOR column`: stands directly above a source and its computed columns. Rows pass unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WatermarkNode {
    pub(crate) input: Arc<LogicalPlan>,
    /// The event-time column.
    pub(crate) column: Expr,
    /// The source's position in the job.
    pub(crate) source: usize,
}

impl PartialOrd for WatermarkNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.source.partial_cmp(&other.source)
    }
}

impl UserDefinedLogicalNodeCore for WatermarkNode {
    fn name(&self) -> &str {
        "Watermark"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.column.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watermark: {}", self.column)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(WatermarkNode { input: Arc::new(inputs.swap_remove(0)), column: exprs.swap_remove(0), source: self.source })
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![with_columns_of(output.to_vec(), &self.expressions(), self.input.schema())?])
    }
}

/// `wanted` plus the columns that `exprs` read, ascending.
pub(super) fn with_columns_of(mut wanted: Vec<usize>, exprs: &[Expr], schema: &DFSchema) -> Option<Vec<usize>> {
    for expr in exprs {
        for column in expr.column_refs() {
            wanted.push(schema.maybe_index_of_column(column)?);
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    Some(wanted)
}
