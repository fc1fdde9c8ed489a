//! `DEFAULT expr` of a column: a constant, as the text that stands in a record which does not have the column.
//!
//! Text, because that is what decoders read: a default takes the same way as the value it stands for.

use std::sync::Arc;

use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, cast};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

use super::{Binder, types};
use crate::diagnose::{Places, Result, error, from_datafusion, known_place};
use crate::parse::{Column, ColumnKind};
use sqlparser::ast::Spanned;

impl Binder {
    /// Per physical column of `schema` its default, if it has one.
    pub(super) fn defaults(&self, columns: &[Column], schema: &SchemaRef, places: &Places) -> Result<Vec<Option<String>>> {
        let mut defaults = Vec::with_capacity(schema.fields().len());
        for column in columns {
            let computed = matches!(column.kind, ColumnKind::Computed(_));
            match &column.default {
                Some(_) if computed => {
                    return Err(
                        error("invalid-default", "a computed column has no DEFAULT: it is always computed").at(column.span)
                    );
                }
                _ if computed => {}
                None => defaults.push(None),
                Some(expr) => {
                    let field = schema.field(defaults.len());
                    let at = known_place(expr.span()).unwrap_or(column.span);
                    let places = &Places { statement: Some(at), ..places.clone() };
                    let bound = self.expr(expr, &DFSchema::empty(), places).map_err(|failure| failure.or_at(at))?;
                    let value = constant(bound, field.data_type()).map_err(|e| from_datafusion(&e, places).or_at(at))?;
                    let Some(value) = value else {
                        return Err(error("invalid-default", format!("the DEFAULT of '{}' is not a constant", field.name()))
                            .at(at)
                            .help("give a literal, or an expression of literals"));
                    };
                    let text = text(&value).map_err(|e| from_datafusion(&e, places).or_at(at))?;
                    match text {
                        Text::Null if !field.is_nullable() => {
                            return Err(error(
                                "invalid-default",
                                format!("'{}' is NOT NULL: its DEFAULT cannot be NULL", field.name()),
                            )
                            .at(at));
                        }
                        Text::Null => defaults.push(None),
                        Text::Value(text) => defaults.push(Some(text)),
                        Text::Unwritable => {
                            let data_type = types::sql_type(field.data_type());
                            return Err(error("not-supported", format!("a DEFAULT of type {data_type} is not supported"))
                                .at(at)
                                .help("leave it out, and use COALESCE in the query"));
                        }
                    }
                }
            }
        }
        Ok(defaults)
    }
}

enum Text {
    Null,
    Value(String),
    Unwritable,
}

/// The value of an expression, if it is always the same.
fn constant(expr: Expr, data_type: &DataType) -> datafusion_common::Result<Option<ScalarValue>> {
    let schema = Arc::new(DFSchema::empty());
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&schema)).build());
    let expr = simplifier.coerce(cast(expr, data_type.clone()), &schema)?;
    match simplifier.simplify(expr)? {
        Expr::Literal(value, _) => Ok(Some(value)),
        _ => Ok(None),
    }
}

fn text(value: &ScalarValue) -> datafusion_common::Result<Text> {
    if value.is_null() {
        return Ok(Text::Null);
    }
    if let ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) = value {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return Ok(Text::Value(format!("\\x{}", digits.concat())));
    }
    if value.data_type().is_nested() || matches!(value.data_type(), DataType::Interval(_)) {
        return Ok(Text::Unwritable);
    }
    let array = cast_array(&value.to_array()?, &DataType::Utf8)?;
    Ok(match ScalarValue::try_from_array(&array, 0)? {
        ScalarValue::Utf8(Some(text)) => Text::Value(text),
        _ => Text::Unwritable,
    })
}
