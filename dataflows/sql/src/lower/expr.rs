//! Expressions over positions: `#i` is the i-th column of an operator's input (of a join: left columns, then right).
//!
//! Names and aliases disappear here, so that equal computations are equal expressions. They stay DataFusion's logical
//! expressions until the graph is finished, because those can be substituted into each other.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, ScalarValue, Spans};
use datafusion_expr::expr::Cast;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator, Volatility};
use highwater_plan::{Position, Span};
use sqlparser::tokenizer::Location;

use crate::diagnose::{Result, error, place};
use crate::functions::is_proctime;
use crate::functions::plain_float;

/// The column at a position.
pub(super) fn at(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(format!("#{index}")))
}

/// The position of an expression that is a column.
pub(super) fn as_column(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => Some(position(column)),
        _ => None,
    }
}

fn position(column: &Column) -> usize {
    column.name[1..].parse().expect("columns of lowered expressions are named '#' and their position")
}

/// A planned expression over named columns, made positional; the schemas stand side by side.
pub(super) fn positional(expr: &Expr, schemas: &[&DFSchema]) -> Result<Expr> {
    let mut types: Option<DFSchema> = None;
    for schema in schemas {
        match &mut types {
            None => types = Some((*schema).clone()),
            Some(all) => all.merge(schema),
        }
    }
    let types = types.unwrap_or_else(DFSchema::empty);
    let find = |column: &Column| {
        let mut offset = 0;
        for schema in schemas {
            if let Some(index) = schema.maybe_index_of_column(column) {
                return Some(offset + index);
            }
            offset += schema.fields().len();
        }
        None
    };
    let checked = expr.clone().transform_up(|expr| Ok(Transformed::yes(hardened(expr, &types)))).map_err(internal)?.data;
    let positional = checked.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let index = find(&column)
                .ok_or_else(|| datafusion_common::internal_datafusion_err!("column {column} is not in the input"))?;
            let mut found = Column::new_unqualified(format!("#{index}"));
            found.spans = column.spans;
            Ok(Transformed::yes(Expr::Column(found)))
        }
        Expr::Alias(alias) => Ok(Transformed::yes(*alias.expr)),
        other => Ok(Transformed::no(other)),
    });
    Ok(folded(positional.map_err(internal)?.data))
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// A float as all that are equal to it are written, so that it can be compared by its bits; other expressions as they are.
pub(super) fn plain(expr: Expr, types: &DFSchema) -> Expr {
    let other_bits = match &expr {
        Expr::Literal(..) => false,
        Expr::ScalarFunction(call) if call.func.name() == plain_float::NAME => false,
        // Whole numbers made floats have no negative zero.
        Expr::Cast(cast) if cast.expr.get_type(types).is_ok_and(|from| !from.is_floating()) => false,
        other => other.get_type(types).is_ok_and(|found| found.is_floating()),
    };
    if other_bits { plain_float::call(expr) } else { expr }
}

/// Negation of integers as a checked subtraction; casts that do nothing fall away; floats that are compared are plain.
fn hardened(expr: Expr, types: &DFSchema) -> Expr {
    match expr {
        Expr::Negative(inner) => match inner.get_type(types).ok().filter(DataType::is_signed_integer) {
            Some(data_type) => match ScalarValue::new_zero(&data_type) {
                Ok(zero) => Expr::BinaryExpr(BinaryExpr::new(Box::new(Expr::Literal(zero, None)), Operator::Minus, inner)),
                Err(_) => Expr::Negative(inner),
            },
            None => Expr::Negative(inner),
        },
        Expr::Cast(Cast { expr, field }) if expr.get_type(types).is_ok_and(|found| found == *field.data_type()) => *expr,
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            let (left, right) = (Box::new(plain(*left, types)), Box::new(plain(*right, types)));
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        other => other,
    }
}

/// `get_field(named_struct('a', x, ..), 'a')` is `x`.
fn folded(expr: Expr) -> Expr {
    let fold = |expr: Expr| {
        let Expr::ScalarFunction(outer) = &expr else { return Ok(Transformed::no(expr)) };
        if outer.func.name() != "get_field" || outer.args.len() != 2 {
            return Ok(Transformed::no(expr));
        }
        let Expr::ScalarFunction(inner) = &outer.args[0] else { return Ok(Transformed::no(expr)) };
        if inner.func.name() != "named_struct" {
            return Ok(Transformed::no(expr));
        }
        match inner.args.chunks(2).find(|pair| pair[0] == outer.args[1]) {
            Some([_, value]) => Ok(Transformed::yes(value.clone())),
            _ => Ok(Transformed::no(expr)),
        }
    };
    expr.transform_up(fold).expect("folding does not fail").data
}

/// Positions that an expression reads, ascending.
pub(super) fn columns(expr: &Expr) -> Vec<usize> {
    let mut found: Vec<usize> = expr.column_refs().into_iter().map(position).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Moves every column.
pub(super) fn remap(expr: &Expr, to: impl Fn(usize) -> usize) -> Expr {
    let moved = expr.clone().transform_up(|expr| {
        Ok(match expr {
            Expr::Column(mut column) => {
                column.name = format!("#{}", to(position(&column)));
                Transformed::yes(Expr::Column(column))
            }
            other => Transformed::no(other),
        })
    });
    moved.expect("renaming columns does not fail").data
}

/// `outer`, which reads the outputs of `inner`, over what `inner` reads. `None` if something expensive or volatile would
/// be computed twice.
pub(super) fn substitute(outer: &[Expr], inner: &[Expr]) -> Option<Vec<Expr>> {
    let mut uses: HashMap<usize, usize> = HashMap::new();
    for expr in outer {
        let count = expr.apply(|expr| {
            if let Expr::Column(column) = expr {
                *uses.entry(position(column)).or_default() += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        count.expect("counting does not fail");
    }
    if uses.iter().any(|(index, count)| *count > 1 && !is_cheap(&inner[*index])) {
        return None;
    }
    Some(substituted(outer, inner))
}

/// As [`substitute`], whatever it costs.
pub(super) fn substituted(outer: &[Expr], inner: &[Expr]) -> Vec<Expr> {
    outer.iter().map(|expr| replaced(expr, inner)).collect()
}

fn replaced(expr: &Expr, inner: &[Expr]) -> Expr {
    let replaced = expr.clone().transform_up(|expr| {
        Ok(match &expr {
            Expr::Column(column) => Transformed::yes(with_spans(inner[position(column)].clone(), &column.spans)),
            _ => Transformed::no(expr),
        })
    });
    folded(replaced.expect("replacing columns does not fail").data)
}

/// Columns without a place of their own stand where their reader does.
fn with_spans(expr: Expr, spans: &Spans) -> Expr {
    let placed = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Column(mut column) if column.spans.0.is_empty() => {
                column.spans = spans.clone();
                Transformed::yes(Expr::Column(column))
            }
            other => Transformed::no(other),
        })
    });
    placed.expect("moving columns does not fail").data
}

/// Whether computing it twice costs next to nothing.
fn is_cheap(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::ScalarFunction(call) => matches!(call.func.name(), "get_field" | "named_struct") && call.args.iter().all(is_cheap),
        _ => false,
    }
}

/// The columns, and the functions and operators, that a planned expression mentions; lower case.
pub(super) fn mentions(expr: &Expr) -> (Vec<String>, Vec<String>) {
    let (mut names, mut words) = (Vec::new(), Vec::new());
    let walk = expr.apply(|expr| {
        match expr {
            Expr::Column(column) => names.push(column.name.to_lowercase()),
            Expr::BinaryExpr(binary) => words.push(binary.op.to_string().to_lowercase()),
            Expr::ScalarFunction(call) => words.push(call.func.name().to_lowercase()),
            Expr::Cast(_) | Expr::TryCast(_) => words.push("cast".into()),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walk.expect("walking does not fail");
    (names, words)
}

/// The same expression, whose columns stand at a place in the job's text.
pub(super) fn placed(expr: Expr, place: Option<Span>) -> Expr {
    let Some(place) = place else { return expr };
    let location = |at: Position| datafusion_common::Location { line: at.line, column: at.column };
    // Ends are exclusive there.
    let end = Position { line: place.end.line, column: place.end.column + 1 };
    let span = datafusion_common::Span::new(location(place.start), location(end));
    with_spans(expr, &Spans(vec![span]))
}

/// The first volatile function that an expression calls.
pub(super) fn volatile(expr: &Expr) -> Option<String> {
    let mut found = None;
    let search = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && call.func.signature().volatility == Volatility::Volatile
        {
            found = Some(call.func.name().to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    search.expect("searching does not fail");
    found
}

/// `PROCTIME()` replaced by a column.
pub(super) fn with_proctime(expr: Expr, column: usize) -> Expr {
    let replaced = expr.transform_up(|expr| match is_proctime(&expr) {
        true => Ok(Transformed::yes(at(column))),
        false => Ok(Transformed::no(expr)),
    });
    replaced.expect("replacing does not fail").data
}

/// From an expression's first column to its last, in the job's text.
pub(crate) fn span(expr: &Expr) -> Option<Span> {
    let mut all: Option<Span> = None;
    let search = expr.apply(|expr| {
        if let Expr::Column(column) = expr
            && let Some(found) = column.spans.first()
        {
            let location = |at: datafusion_common::Location| Location::new(at.line, at.column);
            let found = place(sqlparser::tokenizer::Span::new(location(found.start), location(found.end)));
            all = Some(match all {
                None => found,
                Some(all) => Span { start: all.start.min(found.start), end: all.end.max(found.end) },
            });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    search.expect("searching does not fail");
    all
}

/// A failure of ours, not of the job's text.
pub(super) fn internal(e: datafusion_common::DataFusionError) -> crate::diagnose::Failure {
    error("internal-planner-error", format!("the planner failed: {}", e.strip_backtrace().lines().next().unwrap_or_default()))
        .help("please report this together with the job's text")
}
#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_expr::lit;

    #[test]
    fn an_expensive_expression_is_not_computed_twice() {
        let product = at(0) * at(1);
        assert_eq!(substitute(&[at(0) + lit(1i64)], std::slice::from_ref(&product)), Some(vec![product.clone() + lit(1i64)]));
        assert_eq!(substitute(&[at(0) + at(0)], &[product]), None);
        assert_eq!(substitute(&[at(0) + at(0)], &[at(7)]), Some(vec![at(7) + at(7)]));
    }
}
