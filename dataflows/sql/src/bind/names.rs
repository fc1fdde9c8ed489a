//! Names of columns that the query does not name: `count(*)` is called `count`, as in PostgreSQL.

use std::collections::HashSet;

use sqlparser::ast::{Expr, Ident, Select, SelectItem, SetExpr};

use super::rewrite::{is_field_access, relation_names};
use crate::diagnose::{Result, error, known_place};

/// Gives every unnamed expression of a SELECT a readable name; the second `sum` is `sum_1`.
pub(super) fn name_items(select: &mut Select) {
    let relations = relation_names(select);
    if let Some(relations) = &relations {
        for item in &mut select.projection {
            if let Some(field) = is_field_access(item, relations)
                && let SelectItem::UnnamedExpr(expr) = item
            {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new(field.value) };
            }
        }
    }
    let names: Vec<Option<String>> = select.projection.iter().enumerate().map(|(index, item)| item_name(item, index)).collect();
    // A plain column keeps its name, and one that is written keeps it above all.
    let plain = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
        _ => true,
    };
    let kept = select.projection.iter().zip(&names).filter(|(item, _)| plain(item)).filter_map(|(_, name)| name.clone());
    let mut taken: HashSet<String> = kept.collect();
    let mut columns: Vec<Expr> = Vec::new();
    for (item, name) in select.projection.iter_mut().zip(names) {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if plain(&SelectItem::UnnamedExpr(expr.clone())) && !columns.contains(expr) {
            columns.push(expr.clone());
            continue;
        }
        let Some(name) = name else { continue };
        let name = untaken(&name, &taken);
        taken.insert(name.clone());
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
    }
}

/// Errors: two items that the SELECT itself calls the same.
pub(super) fn names_differ(select: &Select) -> Result<()> {
    let mut named: Vec<&str> = Vec::new();
    for item in &select.projection {
        let SelectItem::ExprWithAlias { alias, .. } = item else { continue };
        if named.contains(&alias.value.as_str()) {
            return Err(error("duplicate-column", format!("two columns are called '{}'", alias.value))
                .at(known_place(alias.span))
                .help(format!("give one of them another name: ... AS other_{}", alias.value)));
        }
        named.push(&alias.value);
    }
    Ok(())
}

/// The name, or with a number behind it if it is taken.
pub(super) fn untaken(name: &str, taken: &HashSet<String>) -> String {
    let numbered = (1..).map(|number| format!("{name}_{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).expect("numbers do not end")
}

/// Names columns that stand in a query's SELECT twice: DataFusion takes no two of one name, though a list such as `t (a, b)`
/// gives them others.
pub(super) fn name_twins(body: &mut SetExpr, columns: &[Ident]) {
    match body {
        SetExpr::Query(query) => name_twins(&mut query.body, columns),
        SetExpr::SetOperation { left, right, .. } => {
            name_twins(left, columns);
            name_twins(right, columns);
        }
        SetExpr::Select(select) if select.projection.len() == columns.len() => {
            let exprs: Vec<Option<Expr>> = select.projection.iter().map(unnamed).collect();
            for (index, (item, column)) in select.projection.iter_mut().zip(columns).enumerate() {
                let Some(expr) = &exprs[index] else { continue };
                if exprs.iter().filter(|other| other.as_ref() == Some(expr)).count() > 1 {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: column.clone() };
                }
            }
        }
        _ => {}
    }
}

fn unnamed(item: &SelectItem) -> Option<Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(expr.clone()),
        _ => None,
    }
}

/// The name an item has, or would have.
pub(super) fn item_name(item: &SelectItem, index: usize) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(expr) => Some(readable(expr).unwrap_or_else(|| format!("column{}", index + 1))),
        _ => None,
    }
}

fn readable(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        Expr::Function(function) => Some(function.name.0.last()?.as_ident()?.value.to_lowercase()),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => readable(expr),
        Expr::Case { .. } => Some("case".into()),
        Expr::Extract { .. } => Some("extract".into()),
        Expr::Substring { .. } => Some("substring".into()),
        Expr::Trim { .. } => Some("trim".into()),
        Expr::Position { .. } => Some("position".into()),
        Expr::Floor { .. } => Some("floor".into()),
        Expr::Ceil { .. } => Some("ceil".into()),
        _ => None,
    }
}
