//! What only Feldera's programs declare: `LATENESS` of columns and of views, types and functions of one's own, views that read
//! themselves.

use std::collections::HashMap;
use std::ops::ControlFlow;

use highwater_plan::Diagnostic;
use sqlparser::ast::{
    ArrayElemTypeDef, CastKind, Cte, DataType, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, Query, Select, SelectItem, SetExpr, Spanned, StructBracketKind, StructField, TableAlias, TableAliasColumnDef,
    TableFactor, VisitMut, VisitorMut,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::depth::of_tree;
use super::dialect::JobDialect;
use super::statement::{Column, ColumnKind, CreateView, Lateness, StatementKind};
use super::tokens::{MUTUALLY, is_word};
use super::{JobParser, unexpected};
use crate::diagnose::{Result, error, from_parser, known_place, place};

/// What a text has declared for the statements below.
#[derive(Default)]
pub(super) struct Declared {
    /// By name in lower case.
    types: HashMap<String, DataType>,
    functions: HashMap<String, Inline>,
    recursive: Vec<RecursiveView>,
    /// Said of the statement that is parsed.
    pub(super) warnings: Vec<Diagnostic>,
}

/// A function whose body is an expression.
struct Inline {
    parameters: Vec<(Ident, DataType)>,
    result: DataType,
    body: Expr,
}

/// `DECLARE RECURSIVE VIEW`, and its query once it is there.
struct RecursiveView {
    name: Ident,
    columns: Vec<TableAliasColumnDef>,
    query: Option<(Box<Query>, CreateView)>,
}

impl JobParser<'_> {
    /// The `LATENESS` and `WATERMARK` of a column, and other words that only Feldera puts behind its type.
    pub(super) fn feldera_option(&mut self, column: &Ident, lateness: &mut Vec<Lateness>) -> Result<bool> {
        let token = self.parser.peek_token();
        if self.word("LATENESS") || self.word("WATERMARK") {
            // Binds as an operand of IS would: `LATENESS INTERVAL 1 HOUR NOT NULL` ends before NOT.
            let bound = self.parser.parse_subexpr(17).map_err(from_parser)?;
            let span = place(token.span.union(&self.parser.get_current_token().span));
            lateness.push(Lateness { column: column.clone(), bound, span });
            return Ok(true);
        }
        if is_word(&token, "FOREIGN") || is_word(&token, "REFERENCES") {
            let _ = self.parser.parse_keywords(&[Keyword::FOREIGN, Keyword::KEY]);
            self.parser.parse_optional_column_option().map_err(from_parser)?;
            self.unchecked_key(place(token.span));
            return Ok(true);
        }
        Ok(self.word("INTERNED"))
    }

    /// Says that a foreign key is not looked at.
    pub(super) fn unchecked_key(&mut self, span: highwater_plan::Span) {
        self.declared.warnings.push(
            Diagnostic::warning("unchecked-key", "a FOREIGN KEY is not checked")
                .at(Some(span))
                .help("join the two relations: rows without a match are then seen"),
        );
    }

    /// `LATENESS view.column bound`.
    pub(super) fn view_lateness(&mut self) -> Result<StatementKind> {
        let start = self.parser.next_token().span;
        let column = self.parser.parse_object_name(false).map_err(from_parser)?;
        self.parser.parse_expr().map_err(from_parser)?;
        let span = place(start.union(&self.parser.get_current_token().span));
        self.declared.warnings.push(
            Diagnostic::warning(
                "unused-lateness",
                format!("the lateness of '{column}' has no effect: it is no column of a source"),
            )
            .at(Some(span))
            .help("what bounds state are the event times of sources; views know theirs by themselves"),
        );
        Ok(StatementKind::Nothing)
    }

    /// `CREATE TYPE name AS (field type, ...)` or `AS type`, from behind TYPE on.
    pub(super) fn create_type(&mut self) -> Result<StatementKind> {
        let name = self.parser.parse_identifier().map_err(from_parser)?;
        self.parser.expect_keyword_is(Keyword::AS).map_err(from_parser)?;
        let data_type = if self.parser.consume_token(&Token::LParen) {
            let mut fields = Vec::new();
            loop {
                let field = self.parser.parse_identifier().map_err(from_parser)?;
                let field_type = self.parser.parse_data_type().map_err(from_parser)?;
                let _ = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) || self.parser.parse_keyword(Keyword::NULL);
                fields.push(StructField { field_name: Some(field), field_type: self.resolved(field_type), options: None });
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.expect(&Token::RParen)?;
            DataType::Struct(fields, StructBracketKind::AngleBrackets)
        } else {
            let data_type = self.parser.parse_data_type().map_err(from_parser)?;
            self.resolved(data_type)
        };
        if self.declared.types.insert(name.value.to_lowercase(), data_type).is_some() {
            let message = format!("type '{}' is declared twice", name.value);
            return Err(error("duplicate-name", message).at(place(name.span)).help("remove one of the declarations"));
        }
        Ok(StatementKind::Nothing)
    }

    /// `CREATE FUNCTION name(parameter type, ...) RETURNS type AS expr`, from behind FUNCTION on.
    pub(super) fn create_function(&mut self) -> Result<StatementKind> {
        let start = self.parser.peek_token();
        let refuse = |what: &str| {
            error("not-supported", what.to_string())
                .at(place(start.span))
                .help("a function whose body is an expression can be declared: CREATE FUNCTION f(x INT) RETURNS INT AS x + 1")
        };
        let name = self.parser.parse_identifier().map_err(from_parser)?;
        if !self.parser.consume_token(&Token::LParen) {
            return Err(refuse("functions in other languages are not supported"));
        }
        let mut parameters = Vec::new();
        while !self.parser.consume_token(&Token::RParen) {
            let parameter = self.parser.parse_identifier().map_err(from_parser)?;
            let data_type = self.parser.parse_data_type().map_err(from_parser)?;
            let _ = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]);
            parameters.push((parameter, self.resolved(data_type)));
            if !self.parser.consume_token(&Token::Comma) {
                self.expect(&Token::RParen)?;
                break;
            }
        }
        if !self.parser.parse_keyword(Keyword::RETURNS) {
            return Err(refuse("a function needs the type that it RETURNS"));
        }
        let result = self.parser.parse_data_type().map_err(from_parser)?;
        let result = self.resolved(result);
        let _ = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]);
        let body = match self.parser.parse_keyword(Keyword::AS) {
            true if !matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_)) => {
                self.parser.parse_expr().map_err(from_parser)?
            }
            _ => return Err(refuse("functions in other languages are not supported")),
        };
        let mut body = body;
        self.expand(&mut body)?;
        self.declared.functions.insert(name.value.to_lowercase(), Inline { parameters, result, body });
        Ok(StatementKind::Nothing)
    }

    /// `DECLARE RECURSIVE VIEW name (column type, ...)`.
    pub(super) fn declare_view(&mut self) -> Result<StatementKind> {
        self.parser.next_token();
        if !(self.parser.parse_keyword(Keyword::RECURSIVE) && self.parser.parse_keyword(Keyword::VIEW)) {
            let token = self.parser.peek_token();
            return Err(unexpected("expected DECLARE RECURSIVE VIEW name (column type, ...)", self.place_of(&token)));
        }
        let name = self.parser.parse_identifier().map_err(from_parser)?;
        self.expect(&Token::LParen)?;
        let mut columns = Vec::new();
        loop {
            let column = self.parser.parse_identifier().map_err(from_parser)?;
            let data_type = self.parser.parse_data_type().map_err(from_parser)?;
            let _ = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) || self.word("INTERNED");
            columns.push(TableAliasColumnDef { name: column, data_type: Some(self.resolved(data_type)) });
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen)?;
        self.declared.recursive.push(RecursiveView { name, columns, query: None });
        Ok(StatementKind::Nothing)
    }

    /// A view whose name was declared to be recursive is held until all of them are there; each is then a query
    /// `WITH MUTUALLY RECURSIVE` over all, of distinct rows. Others are what they are.
    pub(super) fn recursive_view(&mut self, view: CreateView) -> Result<StatementKind> {
        let declared = &mut self.declared.recursive;
        let named = |one: &RecursiveView| view.name.0.len() == 1 && is_named(&view.name, &one.name);
        let Some(place) = declared.iter().position(named) else { return Ok(StatementKind::View(view)) };
        let query = view.query.clone();
        declared[place].query = Some((query, view));
        if declared.iter().any(|one| one.query.is_none()) {
            return Ok(StatementKind::Nothing);
        }
        let all = std::mem::take(declared);
        let mut ctes: Vec<Cte> = Vec::with_capacity(all.len());
        for one in &all {
            let Some((query, _)) = &one.query else { continue };
            ctes.push(binding(one, query)?);
        }
        let views = all.into_iter().filter_map(|one| {
            let (query, view) = one.query?;
            let query = recursive_query(&ctes, &one.name, query.span())?;
            Some(CreateView { query: Box::new(query), ..view })
        });
        Ok(StatementKind::Views(views.collect()))
    }

    /// Errors: a recursive view without its query.
    pub(super) fn all_defined(&self) -> Result<()> {
        let Some(one) = self.declared.recursive.iter().find(|one| one.query.is_none()) else { return Ok(()) };
        Err(error("invalid-query", format!("the recursive view '{}' is declared and has no query", one.name.value))
            .at(known_place(one.name.span))
            .help(format!("add CREATE VIEW {} AS SELECT ...", one.name.value)))
    }

    /// A type with those that the text declares put in.
    pub(super) fn resolved(&self, data_type: DataType) -> DataType {
        resolved(data_type, &self.declared.types)
    }

    /// The types and functions of a tree that the text declares, put in.
    pub(super) fn expand(&self, tree: &mut impl VisitMut) -> Result<()> {
        of_tree(tree)?;
        if self.declared.types.is_empty() && self.declared.functions.is_empty() {
            return Ok(());
        }
        match VisitMut::visit(tree, &mut Expander(&self.declared)) {
            ControlFlow::Continue(()) => of_tree(tree),
            ControlFlow::Break(failure) => Err(failure),
        }
    }

    /// The same, of all that a statement holds.
    pub(super) fn expand_statement(&self, kind: &mut StatementKind) -> Result<()> {
        match kind {
            StatementKind::Relation(relation) => {
                relation.watermark.as_mut().map_or(Ok(()), |watermark| of_tree(&mut watermark.expr))?;
                self.expand_columns(&mut relation.columns)
            }
            StatementKind::View(view) => self.expand(&mut *view.query),
            StatementKind::Views(views) => views.iter_mut().try_for_each(|view| self.expand(&mut *view.query)),
            StatementKind::Sink(sink) => {
                self.expand_columns(&mut sink.columns)?;
                sink.query.as_mut().map_or(Ok(()), |query| self.expand(&mut **query))
            }
            StatementKind::Insert { statement, .. } => self.expand(&mut **statement),
            StatementKind::Set { .. } | StatementKind::Nothing | StatementKind::Remark(_) => Ok(()),
        }
    }

    fn expand_columns(&self, columns: &mut [Column]) -> Result<()> {
        for column in columns {
            column.default.as_mut().map_or(Ok(()), of_tree)?;
            match &mut column.kind {
                ColumnKind::Physical(data_type) => *data_type = self.resolved(data_type.clone()),
                ColumnKind::Computed(expr) => self.expand(&mut **expr)?,
            }
        }
        Ok(())
    }
}

fn is_named(name: &ObjectName, ident: &Ident) -> bool {
    name.0.last().and_then(|part| part.as_ident()).is_some_and(|part| part.value.eq_ignore_ascii_case(&ident.value))
}

/// `name (column type, ..) AS (SELECT DISTINCT * FROM (query) AS name)`.
fn binding(one: &RecursiveView, query: &Query) -> Result<Cte> {
    let empty = || error("invalid-query", "a recursive view needs a query").at(known_place(one.name.span));
    let mut cte = part_of("WITH rows AS (SELECT DISTINCT * FROM (SELECT 1) AS step) SELECT 1").ok_or_else(empty)?;
    if let SetExpr::Select(select) = &mut *cte.query.body
        && let Some(from) = select.from.first_mut()
        && let TableFactor::Derived { subquery, .. } = &mut from.relation
    {
        **subquery = query.clone();
        select.distinct = Some(Distinct::Distinct);
    }
    cte.alias = TableAlias { name: one.name.clone(), columns: one.columns.clone(), ..cte.alias };
    Ok(cte)
}

/// The first common table expression of a text.
fn part_of(text: &str) -> Option<Cte> {
    let dialect = JobDialect::default();
    let tokens = Tokenizer::new(&dialect, text).tokenize().ok()?;
    let query = Parser::new(&dialect).with_tokens(tokens).parse_query().ok()?;
    query.with?.cte_tables.into_iter().next()
}

/// `WITH MUTUALLY RECURSIVE ctes SELECT * FROM name`.
fn recursive_query(ctes: &[Cte], name: &Ident, span: sqlparser::tokenizer::Span) -> Option<Query> {
    let dialect = JobDialect::default();
    let text = format!("WITH RECURSIVE \"{MUTUALLY}\" AS (SELECT 0) SELECT * FROM step");
    let tokens = Tokenizer::new(&dialect, &text).tokenize().ok()?;
    let mut query = *Parser::new(&dialect).with_tokens(tokens).parse_query().ok()?;
    let with = query.with.as_mut()?;
    with.with_token.0.span = span;
    with.cte_tables.extend(ctes.iter().cloned());
    if let SetExpr::Select(select) = &mut *query.body {
        let select: &mut Select = select;
        if let Some(TableFactor::Table { name: read, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
            *read = ObjectName::from(vec![name.clone()]);
        }
        select.projection.retain(|item| matches!(item, SelectItem::Wildcard(_)));
    }
    Some(query)
}

fn resolved(data_type: DataType, types: &HashMap<String, DataType>) -> DataType {
    let inner = |inner: Box<DataType>| Box::new(resolved(*inner, types));
    match data_type {
        DataType::Custom(name, modifiers) => {
            let known = match &name.0[..] {
                [part] => part.as_ident().and_then(|part| types.get(&part.value.to_lowercase())),
                _ => None,
            };
            known.cloned().unwrap_or(DataType::Custom(name, modifiers))
        }
        DataType::Array(ArrayElemTypeDef::AngleBracket(item)) => DataType::Array(ArrayElemTypeDef::AngleBracket(inner(item))),
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, size)) => {
            DataType::Array(ArrayElemTypeDef::SquareBracket(inner(item), size))
        }
        DataType::Map(key, value) => DataType::Map(inner(key), inner(value)),
        DataType::Struct(fields, brackets) => {
            let fields = fields.into_iter().map(|field| {
                let field_type = resolved(field.field_type, types);
                StructField { field_type, ..field }
            });
            DataType::Struct(fields.collect(), brackets)
        }
        other => other,
    }
}

/// Puts declared types and functions into expressions.
struct Expander<'a>(&'a Declared);

impl VisitorMut for Expander<'_> {
    type Break = crate::diagnose::Failure;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Cast { data_type, .. } => *data_type = resolved(data_type.clone(), &self.0.types),
            Expr::Function(function) => match self.inlined(function) {
                Ok(Some(inlined)) => *expr = inlined,
                Ok(None) => {}
                Err(failure) => return ControlFlow::Break(failure),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Expander<'_> {
    fn inlined(&self, call: &Function) -> Result<Option<Expr>> {
        let [name] = &call.name.0[..] else { return Ok(None) };
        let Some(name) = name.as_ident() else { return Ok(None) };
        let args: Vec<Expr> = match &call.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(argument).collect(),
            _ => Vec::new(),
        };
        let lower = name.value.to_lowercase();
        // A type's name makes a row of its fields.
        if let Some(row @ DataType::Struct(..)) = self.0.types.get(&lower) {
            let values = super::ast_function("row", args.into_iter().map(unnamed).collect(), name.span);
            return Ok(Some(cast(values, row)));
        }
        let Some(function) = self.0.functions.get(&lower) else { return Ok(None) };
        if args.len() != function.parameters.len() {
            let message =
                format!("{}() takes another number of arguments: {}, not {}", name.value, function.parameters.len(), args.len());
            return Err(error("wrong-arguments", message).at(known_place(name.span)).help("see its CREATE FUNCTION above"));
        }
        let args = args.into_iter().zip(&function.parameters).map(|(arg, (name, found))| (name.value.clone(), cast(arg, found)));
        let mut body = function.body.clone();
        let _ = VisitMut::visit(&mut body, &mut Parameters(args.collect()));
        Ok(Some(cast(Expr::Nested(Box::new(body)), &function.result)))
    }
}

fn cast(expr: Expr, data_type: &DataType) -> Expr {
    let (kind, expr, data_type) = (CastKind::Cast, Box::new(expr), data_type.clone());
    Expr::Cast { kind, expr, data_type, array: false, format: None }
}

fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn argument(arg: &FunctionArg) -> Option<Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

/// Puts arguments in place of a function's parameters.
struct Parameters(HashMap<String, Expr>);

impl VisitorMut for Parameters {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some((_, value)) = self.0.iter().find(|(parameter, _)| parameter.eq_ignore_ascii_case(&name.value))
        {
            *expr = value.clone();
        }
        ControlFlow::Continue(())
    }
}
