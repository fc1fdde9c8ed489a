//! Statements that are run once: queries, and changes of tables.

use std::ops::ControlFlow;

use highwater_plan::Span;
use sqlparser::ast::{
    AssignmentTarget, Expr, FromTable, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query, Spanned,
    Statement as SqlStatement, TableFactor, TableObject, TableWithJoins, Visit, Visitor,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::depth::of_tree;
use super::dialect::TABLE_ARGUMENT;
use super::{JobParser, place_end, place_start, statements};
use crate::diagnose::{Result, error, from_parser, place};

/// One statement of a script.
#[derive(Debug, Clone)]
pub(crate) struct ScriptStatement {
    pub(crate) kind: ScriptKind,
    pub(crate) span: Span,
}

/// What it says.
#[derive(Debug, Clone)]
pub(crate) enum ScriptKind {
    /// `SELECT`, `WITH`, `VALUES`.
    Query(Box<Query>),
    /// `INSERT INTO table ...`.
    Insert { target: ObjectName, statement: Box<SqlStatement> },
    /// `UPDATE table SET column = expr, ... [WHERE ..]`.
    Update { target: ObjectName, table: TableWithJoins, assignments: Vec<(ObjectName, Expr)>, selection: Option<Expr> },
    /// `DELETE FROM table [WHERE ..]`.
    Delete { target: ObjectName, table: TableWithJoins, selection: Option<Expr> },
}

/// Parses a script.
pub(crate) fn parse_script(text: &str) -> Result<Vec<ScriptStatement>> {
    statements(text, |parser| parser.script_statement().map(Some))
}

const STATEMENTS: &str = "statements are SELECT, WITH, VALUES, INSERT INTO, UPDATE and DELETE FROM";

impl JobParser<'_> {
    fn script_statement(&mut self) -> Result<ScriptStatement> {
        let first = self.parser.peek_token();
        let kind = match &first.token {
            Token::LParen => self.script_query()?,
            Token::Word(word) => {
                match word.keyword {
                    Keyword::SELECT | Keyword::WITH | Keyword::VALUES => self.script_query()?,
                    Keyword::INSERT | Keyword::UPDATE | Keyword::DELETE => self.change()?,
                    Keyword::CREATE | Keyword::DROP | Keyword::ALTER | Keyword::SET => {
                        let word = word.value.to_uppercase();
                        return Err(error("not-a-query", format!("{word} is no statement that is run once"))
                        .at(place(first.span))
                        .help("a job is made of CREATE and SET statements: POST them to /v1/jobs; DELETE /v1/jobs/{name} drops it"));
                    }
                    _ => return Err(unexpected(&first)),
                }
            }
            _ => return Err(unexpected(&first)),
        };
        let last = self.parser.get_current_token().span;
        Ok(ScriptStatement { kind, span: Span { start: place_start(first.span), end: place_end(last) } })
    }

    fn script_query(&mut self) -> Result<ScriptKind> {
        let mut query = self.parser.parse_query().map_err(from_parser)?;
        of_tree(&mut *query)?;
        Ok(ScriptKind::Query(query))
    }

    fn change(&mut self) -> Result<ScriptKind> {
        let start = self.parser.peek_token().span;
        let mut statement = self.parser.parse_statement().map_err(from_parser)?;
        of_tree(&mut statement)?;
        let refuse = |what: &str| Err(error("not-supported", format!("{what} is not supported")).at(place(start)));
        match statement {
            SqlStatement::Insert(insert) => {
                if insert.on.is_some() || insert.or.is_some() || insert.ignore || insert.overwrite {
                    return refuse("INSERT with a rule for conflicts")
                        .map_err(|failure| failure.help("a row replaces the one of its primary key, always"));
                }
                if insert.returning.is_some() || insert.output.is_some() {
                    return refuse("RETURNING");
                }
                let TableObject::TableName(target) = insert.table.clone() else {
                    return refuse("INSERT into what is no table");
                };
                if insert.source.is_none() {
                    return refuse("INSERT without VALUES or SELECT");
                }
                Ok(ScriptKind::Insert { target, statement: Box::new(SqlStatement::Insert(insert)) })
            }
            SqlStatement::Update(update) => {
                if update.from.is_some() {
                    return refuse("UPDATE ... FROM").map_err(|failure| failure.help("use a subquery in SET or WHERE"));
                }
                if update.returning.is_some() || update.output.is_some() {
                    return refuse("RETURNING");
                }
                if !update.order_by.is_empty() || update.limit.is_some() {
                    return refuse("UPDATE with ORDER BY or LIMIT");
                }
                let target = target(&update.table).ok_or_else(|| error("syntax", "UPDATE names one table").at(place(start)))?;
                let mut assignments = Vec::new();
                for assignment in update.assignments {
                    match assignment.target {
                        AssignmentTarget::ColumnName(name) => assignments.push((name, assignment.value)),
                        AssignmentTarget::Tuple(_) => return refuse("SET (a, b) = ..."),
                    }
                }
                Ok(ScriptKind::Update { target, table: update.table, assignments, selection: update.selection })
            }
            SqlStatement::Delete(delete) => {
                if delete.returning.is_some() || delete.output.is_some() {
                    return refuse("RETURNING");
                }
                if delete.using.is_some() || !delete.tables.is_empty() {
                    return refuse("DELETE with further tables").map_err(|failure| failure.help("use a subquery in WHERE"));
                }
                if !delete.order_by.is_empty() || delete.limit.is_some() {
                    return refuse("DELETE with ORDER BY or LIMIT");
                }
                let (FromTable::WithFromKeyword(mut from) | FromTable::WithoutKeyword(mut from)) = delete.from;
                let table = from.pop().filter(|_| from.is_empty());
                let named = table.and_then(|table| Some((target(&table)?, table)));
                let Some((target, table)) = named else {
                    return Err(error("syntax", "DELETE FROM names one table").at(place(start)));
                };
                Ok(ScriptKind::Delete { target, table, selection: delete.selection })
            }
            _ => Err(unexpected_text(place(start))),
        }
    }
}

/// The table's name, if this is one table.
fn target(table: &TableWithJoins) -> Option<ObjectName> {
    match &table.relation {
        TableFactor::Table { name, args: None, .. } if table.joins.is_empty() => Some(name.clone()),
        _ => None,
    }
}

fn unexpected(token: &sqlparser::tokenizer::TokenWithSpan) -> crate::diagnose::Failure {
    error("syntax", format!("expected a statement, found '{token}'")).at(place(token.span)).help(STATEMENTS)
}

fn unexpected_text(at: Span) -> crate::diagnose::Failure {
    error("syntax", "expected a statement").at(at).help(STATEMENTS)
}

impl ScriptStatement {
    /// The names of all relations that it may read or change, some of which it may define itself.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Names(Vec::new());
        let _ = match &self.kind {
            ScriptKind::Query(query) => query.visit(&mut names),
            ScriptKind::Insert { statement, .. } => statement.visit(&mut names),
            ScriptKind::Update { table, assignments, selection, .. } => {
                let _ = table.visit(&mut names);
                assignments.iter().for_each(|(_, value)| {
                    let _ = value.visit(&mut names);
                });
                selection.visit(&mut names)
            }
            ScriptKind::Delete { table, selection, .. } => {
                let _ = table.visit(&mut names);
                selection.visit(&mut names)
            }
        };
        names.0
    }

    /// The table that it changes.
    pub(crate) fn target(&self) -> Option<(String, Span)> {
        let (ScriptKind::Insert { target, .. } | ScriptKind::Update { target, .. } | ScriptKind::Delete { target, .. }) =
            &self.kind
        else {
            return None;
        };
        let ident = target.0.last().and_then(|part| part.as_ident())?;
        Some((ident.value.clone(), place(target.span())))
    }
}

/// The names of all relations that a query may read, some of which it may define itself.
pub(crate) fn relation_names(tree: &impl Visit) -> Vec<String> {
    let mut names = Names(Vec::new());
    let _ = tree.visit(&mut names);
    names.0
}

/// Collects names in FROM, and tables that window functions are given.
struct Names(Vec<String>);

impl Names {
    fn argument(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(ident) => self.0.push(ident.value.clone()),
            Expr::CompoundIdentifier(idents) => self.0.extend(idents.last().map(|ident| ident.value.clone())),
            _ => {}
        }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.0.extend(name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { args: Some(args), .. } = factor
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) = args.args.first()
        {
            self.argument(expr);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr
            && call.name.to_string() == TABLE_ARGUMENT
            && let FunctionArguments::List(list) = &call.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) = list.args.first()
        {
            self.argument(expr);
        }
        ControlFlow::Continue(())
    }
}
