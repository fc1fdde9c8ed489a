//! Functions that give rows in FROM: `t CROSS JOIN UNNEST(t.items) [WITH ORDINALITY] AS i(item, number)`.
//!
//! The arrays may be columns of what stands left of the function, which DataFusion's hook for relations does not see. So
//! the pre-pass moves what stands left into a call that holds both, and the hook makes of that one node over the left
//! relation. Functions that give rows are written as `UNNEST` of those that give an array.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_common::{DFSchema, DFSchemaRef, Result, TableReference};
use datafusion_expr::logical_plan::{Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, ExprSchemable, lit};
use sqlparser::ast::{
    self, BinaryOperator, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, SelectItem, Spanned,
    TableAlias, TableFactor, TableWithJoins, Value,
};

use super::nodes::with_columns_of;
use super::rewrite::arguments;
use super::types::sql_type;
use crate::diagnose::{error, known_place};
use crate::parse::ast_function;

/// Name of the call that holds a relation and the arrays that are gone through beside it.
const ITEMS: &str = "__items";

/// The function (of an array) behind a function (lower case) that gives rows.
pub(super) fn array_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "unnest" => "unnest",
        "generate_series" => "generate_series",
        "regexp_split_to_table" => "regexp_split_to_array",
        "string_to_table" => "string_to_array",
        "json_array_elements" | "jsonb_array_elements" => "json_array_elements",
        "json_array_elements_text" | "jsonb_array_elements_text" => "json_array_elements_text",
        "json_object_keys" | "jsonb_object_keys" => "json_object_keys",
        _ => return None,
    })
}

/// A function in FROM that gives rows.
struct Call {
    arrays: Vec<ast::Expr>,
    alias: Option<TableAlias>,
    /// What a column is called without an alias.
    name: String,
    ordinality: bool,
}

fn call_of(factor: &TableFactor) -> Option<Call> {
    let (name, args, alias, ordinality) = match factor {
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
            let (arrays, alias) = (array_exprs.clone(), alias.clone());
            return Some(Call { arrays, alias, name: "unnest".into(), ordinality: *with_ordinality });
        }
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => (name, &args.args, alias, *with_ordinality),
        TableFactor::Function { name, args, alias, with_ordinality, .. } => (name, args, alias, *with_ordinality),
        _ => return None,
    };
    let [name] = &name.0[..] else { return None };
    let name = name.as_ident()?;
    let written = name.value.to_lowercase();
    let function = array_function(&written)?;
    let arrays = match function {
        "unnest" => args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?,
        function => vec![ast_function(function, args.clone(), name.span)],
    };
    Some(Call { arrays, alias: alias.clone(), name: written, ordinality })
}

/// Moves what stands left of each function that gives rows into one relation with it.
pub(super) fn array_items(from: &mut Vec<TableWithJoins>) {
    let mut done: Vec<TableWithJoins> = Vec::with_capacity(from.len());
    for table in from.drain(..) {
        let mut table = match call_of(&table.relation) {
            Some(call) => {
                let left = done.drain(..).map(nested).reduce(|left, right| {
                    let join =
                        Join { relation: right, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) };
                    nested(TableWithJoins { relation: left, joins: vec![join] })
                });
                TableWithJoins { relation: items(left, call, false, None), joins: table.joins }
            }
            None => table,
        };
        while let Some(index) = table.joins.iter().position(|join| call_of(&join.relation).is_some()) {
            let rest = table.joins.split_off(index + 1);
            let join = table.joins.pop().expect("it was found");
            let (outer, condition) = match &join.join_operator {
                JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => (false, on.clone()),
                JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (true, on.clone()),
                // Left as it is: the hook says that it cannot be.
                _ => (true, JoinConstraint::Natural),
            };
            let call = call_of(&join.relation).expect("it was found");
            table = TableWithJoins { relation: items(Some(nested(table)), call, outer, Some(condition)), joins: rest };
        }
        done.push(table);
    }
    *from = done;
}

/// In a SELECT list functions that give rows are written as `UNNEST` of those that give an array, as in FROM.
pub(super) fn rows_of_items(select: &mut ast::Select) {
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        let ast::Expr::Function(function) = expr else { continue };
        let [name] = &function.name.0[..] else { continue };
        let Some(name) = name.as_ident() else { continue };
        let span = name.span;
        let array = array_function(&name.value.to_lowercase()).filter(|array| *array != "unnest");
        let (Some(array), Some(args)) = (array, arguments(function)) else { continue };
        let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
        let items = ast_function(array, args.into_iter().map(argument).collect(), span);
        *expr = ast_function("unnest", vec![argument(items)], span);
    }
}

fn nested(table: TableWithJoins) -> TableFactor {
    if table.joins.is_empty() {
        return table.relation;
    }
    TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None }
}

/// The call: `__items(left?, arrays.., how)`, with the alias inside, because it names only the items.
fn items(left: Option<TableFactor>, call: Call, outer: bool, condition: Option<JoinConstraint>) -> TableFactor {
    let argument = |expr: ast::Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let text = |text: String| ast::Expr::Value(Value::SingleQuotedString(text).with_empty_span());
    let flag = |flag: bool| ast::Expr::Value(Value::Boolean(flag).with_empty_span());
    let span = call.arrays.first().map_or_else(sqlparser::tokenizer::Span::empty, Spanned::span);
    let mut names = vec![call.alias.as_ref().map_or(String::new(), |alias| alias.name.value.clone()), call.name];
    names.extend(call.alias.iter().flat_map(|alias| &alias.columns).map(|column| column.name.value.clone()));
    // What is neither TRUE nor a filter of an inner join is refused where the call is planned.
    let (outer, condition) = match condition {
        Some(JoinConstraint::On(condition)) => (outer, condition),
        Some(JoinConstraint::Using(_) | JoinConstraint::Natural) => (true, flag(false)),
        None | Some(JoinConstraint::None) => (outer, flag(true)),
    };
    let tuple = |exprs: Vec<ast::Expr>| argument(ast::Expr::Tuple(exprs));
    let args = vec![
        tuple(call.arrays),
        tuple(names.into_iter().map(text).collect()),
        tuple(vec![flag(call.ordinality), flag(outer), condition]),
    ];
    let expr = ast_function(ITEMS, args, span);
    // The relation on the left rides in the alias-free derived table's place.
    match left {
        None => TableFactor::TableFunction { expr, alias: None },
        Some(left) => {
            let holder = TableWithJoins {
                relation: left,
                joins: vec![Join {
                    relation: TableFactor::TableFunction { expr, alias: None },
                    global: false,
                    join_operator: JoinOperator::CrossApply,
                }],
            };
            TableFactor::NestedJoin { table_with_joins: Box::new(holder), alias: None }
        }
    }
}

/// What the call says.
struct Items {
    arrays: Vec<ast::Expr>,
    alias: String,
    function: String,
    columns: Vec<String>,
    ordinality: bool,
    outer: bool,
    condition: ast::Expr,
}

fn items_of(factor: &TableFactor) -> Option<Items> {
    let TableFactor::TableFunction { expr: ast::Expr::Function(function), .. } = factor else { return None };
    if function.name.to_string() != ITEMS {
        return None;
    }
    let mut parts = arguments(function)?.into_iter().map(|arg| match arg {
        ast::Expr::Tuple(exprs) => exprs,
        other => vec![other],
    });
    let (arrays, names, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let text = |expr: ast::Expr| match expr {
        ast::Expr::Value(value) => value.value.into_string(),
        _ => None,
    };
    let mut names = names.into_iter().filter_map(text);
    let is_true = |expr: &ast::Expr| matches!(expr, ast::Expr::Value(value) if value.value == Value::Boolean(true));
    Some(Items {
        arrays,
        alias: names.next()?,
        function: names.next()?,
        columns: names.collect(),
        ordinality: is_true(flags.first()?),
        outer: is_true(flags.get(1)?),
        condition: flags.into_iter().nth(2)?,
    })
}

/// Plans functions in FROM that give rows.
#[derive(Debug)]
pub(crate) struct ArrayItems;

impl RelationPlanner for ArrayItems {
    fn plan_relation(&self, relation: TableFactor, cx: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let planned = |plan| RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None)));
        if let Some(items) = items_of(&relation) {
            let nothing = LogicalPlanBuilder::empty(true).build()?;
            return Ok(planned(plan_items(nothing, items, cx)?));
        }
        let TableFactor::NestedJoin { table_with_joins, alias: None } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let held = match &table_with_joins.joins[..] {
            [join] if matches!(join.join_operator, JoinOperator::CrossApply) => items_of(&join.relation),
            _ => None,
        };
        let Some(items) = held else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let left = cx.plan(table_with_joins.relation.clone())?;
        Ok(planned(plan_items(left, items, cx)?))
    }
}

fn plan_items(left: LogicalPlan, items: Items, cx: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let place = items.arrays.first().and_then(|expr| known_place(expr.span()));
    let schema = Arc::clone(left.schema());
    let mut lists = Vec::with_capacity(items.arrays.len());
    for array in items.arrays {
        let expr = cx.sql_to_expr(array, &schema)?;
        let expr = match expr.get_type(schema.as_ref())? {
            DataType::Map(..) => datafusion_functions_nested::map_entries::map_entries_udf().call(vec![expr]),
            _ => expr,
        };
        lists.push(expr);
    }
    let types = lists.iter().map(|list| item_type(list, &schema).map_err(|failure| failure.or_at(place).into()));
    let types: Vec<DataType> = types.collect::<Result<_>>()?;
    let qualifier = (!items.alias.is_empty()).then(|| TableReference::bare(cx.normalize_ident(Ident::new(items.alias.clone()))));
    let qualifier = qualifier.or_else(|| Some(TableReference::bare(items.function.clone())));
    let own = types.len() + usize::from(items.ordinality);
    // An array of rows gives their fields, unless the alias names one column.
    let fields = match &types[..] {
        [DataType::Struct(fields)] if items.columns.len() != own => Some(fields.clone()),
        _ => None,
    };
    let written: Vec<String> = items.columns.iter().map(|name| cx.normalize_ident(Ident::new(name.clone()))).collect();
    let width = fields.as_ref().map_or(types.len(), |fields| fields.len()) + usize::from(items.ordinality);
    if written.len() > width {
        return Err(error("column-count", format!("{} columns are named, but there are {width}", written.len()))
            .at(place)
            .into());
    }
    let single = if items.alias.is_empty() { items.function.clone() } else { items.alias.clone() };
    let name = |index: usize, default: &str| written.get(index).cloned().unwrap_or_else(|| default.to_string());
    let mut names: Vec<String> = match &fields {
        Some(_) => vec!["__item".into()],
        None if types.len() == 1 => vec![name(0, &single)],
        None => (0..types.len()).map(|index| name(index, &format!("{single}{}", index + 1))).collect(),
    };
    if items.ordinality {
        names.push(name(width - 1, "ordinality"));
    }
    let node = UnnestNode::try_new(left, lists, names, qualifier.clone(), items.ordinality, items.outer)?;
    let mut plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    if let Some(fields) = fields {
        let columns = plan.schema().columns();
        let mut exprs: Vec<Expr> = columns[..schema.fields().len()].iter().cloned().map(Expr::Column).collect();
        let item = Expr::Column(columns[schema.fields().len()].clone());
        for (index, field) in fields.iter().enumerate() {
            let value = datafusion_functions::core::get_field().call(vec![item.clone(), lit(field.name().as_str())]);
            exprs.push(value.alias_qualified(qualifier.clone(), name(index, field.name())));
        }
        exprs.extend(columns[schema.fields().len() + 1..].iter().cloned().map(Expr::Column));
        plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
    }
    condition(plan, items.condition, items.outer, cx)
}

/// `JOIN UNNEST(..) ON condition`: an inner join's is a filter, an outer one's has to be true.
fn condition(plan: LogicalPlan, condition: ast::Expr, outer: bool, cx: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    match &condition {
        ast::Expr::Value(value) if value.value == Value::Boolean(true) => return Ok(plan),
        ast::Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if left == right && matches!(**left, ast::Expr::Value(_)) => {
            return Ok(plan);
        }
        _ => {}
    }
    if outer {
        return Err(error("not-supported", "an outer join with a function that gives rows can only be LEFT JOIN ... ON TRUE")
            .at(known_place(condition.span()))
            .help("filter the items in a subquery first")
            .into());
    }
    let filter = cx.sql_to_expr(condition, plan.schema())?;
    LogicalPlanBuilder::from(plan).filter(filter)?.build()
}

fn item_type(list: &Expr, schema: &DFSchema) -> std::result::Result<DataType, crate::diagnose::Failure> {
    let found = list.get_type(schema).map_err(|e| crate::diagnose::from_datafusion(&e, &Default::default()))?;
    match &found {
        DataType::List(item) => Ok(item.data_type().clone()),
        other => Err(error("wrong-arguments", format!("UNNEST takes an array or a map, found {}", sql_type(other)))),
    }
}

/// Appends an item of each array, once per item, to each row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UnnestNode {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) lists: Vec<Expr>,
    pub(crate) ordinality: bool,
    pub(crate) outer: bool,
    names: Vec<String>,
    qualifier: Option<TableReference>,
    schema: DFSchemaRef,
}

impl UnnestNode {
    fn try_new(
        input: LogicalPlan,
        lists: Vec<Expr>,
        names: Vec<String>,
        qualifier: Option<TableReference>,
        ordinality: bool,
        outer: bool,
    ) -> Result<Self> {
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for (list, name) in lists.iter().zip(&names) {
            let item = item_type(list, input.schema())?;
            fields.push((qualifier.clone(), Arc::new(Field::new(name, item, true))));
        }
        if ordinality {
            let name = names.last().cloned().unwrap_or_default();
            fields.push((qualifier.clone(), Arc::new(Field::new(name, DataType::Int64, outer))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(UnnestNode { input: Arc::new(input), lists, ordinality, outer, names, qualifier, schema })
    }
}

impl PartialOrd for UnnestNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for UnnestNode {
    fn name(&self) -> &str {
        "UnnestItems"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.lists.clone()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.names.iter().cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists: Vec<String> = self.lists.iter().map(Expr::to_string).collect();
        write!(f, "UnnestItems: {}", lists.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (names, qualifier) = (self.names.clone(), self.qualifier.clone());
        UnnestNode::try_new(inputs.swap_remove(0), exprs, names, qualifier, self.ordinality, self.outer)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let count = self.input.schema().fields().len();
        let wanted = output.iter().copied().filter(|index| *index < count).collect();
        Some(vec![with_columns_of(wanted, &self.lists, self.input.schema())?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_give_rows() {
        assert_eq!(array_function("regexp_split_to_table"), Some("regexp_split_to_array"));
        assert_eq!(array_function("tumble"), None);
    }
}
