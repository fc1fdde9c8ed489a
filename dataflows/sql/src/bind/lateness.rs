//! Feldera's declarations in our terms: the `LATENESS` of a column as a watermark, the options of its tables.

use arrow::datatypes::DataType;
use datafusion_expr::LogicalPlan;
use highwater_plan::{Diagnostic, OptionEntry, SourceKind};
use sqlparser::ast::{BinaryOperator, Expr};

use super::{Binder, types};
use crate::diagnose::{Result, error};
use crate::parse::{Lateness, WatermarkClause};

impl Binder {
    /// The watermark that columns' lateness stands for: that of the first timestamp, else of the first integer. Of the others
    /// a warning says that they bound nothing, which costs memory and no row.
    pub(super) fn by_lateness(&mut self, all: &[Lateness], plan: &LogicalPlan) -> Option<WatermarkClause> {
        let found = |one: &Lateness| {
            let name = self.ident(&one.column);
            let field = plan.schema().fields().iter().find(|field| *field.name() == name)?;
            Some(field.data_type().clone())
        };
        let types: Vec<Option<DataType>> = all.iter().map(found).collect();
        let timestamp = |found: &Option<DataType>| matches!(found, Some(DataType::Timestamp(..)));
        let integer = |found: &Option<DataType>| found.as_ref().is_some_and(DataType::is_integer);
        let chosen = types.iter().position(timestamp).or_else(|| types.iter().position(integer));
        for (index, one) in all.iter().enumerate().filter(|(index, _)| Some(*index) != chosen) {
            let name = &one.column.value;
            let why = match (&types[index], chosen) {
                (found, Some(_)) if timestamp(found) || integer(found) => {
                    "a relation has one event time, and it is another column".into()
                }
                (Some(found), _) => format!("{} is no event time", types::sql_type(found)),
                (None, _) => "it is no column of this relation".into(),
            };
            self.bound.warnings.push(
                Diagnostic::warning("unused-lateness", format!("the lateness of '{name}' has no effect: {why}"))
                    .at(Some(one.span))
                    .help("results are the same; what is kept is bounded by the relation's one event time"),
            );
        }
        let Lateness { column, bound, span } = all.get(chosen?)?;
        let left = Box::new(Expr::Identifier(column.clone()));
        let expr = Expr::BinaryOp { left, op: BinaryOperator::Minus, right: Box::new(Expr::Nested(Box::new(bound.clone()))) };
        Some(WatermarkClause { column: column.clone(), expr, span: *span })
    }
}

/// What Feldera says of its tables and what it means here; `None` for a table that says nothing else.
pub(super) fn plain_options(kind: SourceKind, given: Option<Vec<OptionEntry>>) -> Result<Option<Vec<OptionEntry>>> {
    let Some(mut entries) = given else { return Ok(None) };
    if let Some(entry) = entries.iter().find(|entry| entry.key == "connectors") {
        return Err(error("not-supported", "connectors as a JSON text are Feldera's and are not read here")
            .at(entry.key_span)
            .help(
                "write WITH (connector = 'file', path = '...', format = 'json'); a table without WITH takes its rows over HTTP",
            ));
    }
    // A table is kept anyway; what follows the others decide is how Feldera stores it.
    const HINTS: [&str; 5] = ["materialized", "append_only", "skip_unused_columns", "expected_size", "case_sensitive"];
    let before = entries.len();
    if kind == SourceKind::Table && !entries.iter().any(|entry| entry.key == "connector") {
        entries.retain(|entry| !HINTS.contains(&entry.key.as_str()));
    }
    Ok(if entries.is_empty() && before > 0 { None } else { Some(entries) })
}
