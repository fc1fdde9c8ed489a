//! Text to statements.
//!
//! Everything below the level of a statement (queries, expressions, types) is sqlparser's; the statements themselves are
//! ours, because no stock dialect knows `CREATE SOURCE`, `WATERMARK FOR`, computed columns, dotted option names or
//! `EMIT`. Tokens keep their places throughout.

mod create;
mod depth;
mod dialect;
mod feldera;
mod json_call;
mod like;
mod options;
mod script;
mod statement;
mod statement_set;
mod tokens;

use highwater_plan::{Diagnostic, Emit, Span};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Spanned, Statement as SqlStatement,
    TableObject,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::diagnose::{Failure, Result, error, from_parser, place};
use dialect::JobDialect;
pub(crate) use dialect::TABLE_ARGUMENT;
use feldera::Declared;
pub(crate) use script::{ScriptKind, ScriptStatement, parse_script, relation_names};
pub(crate) use statement::{
    Column, ColumnKind, CreateRelation, CreateSink, CreateView, EmitClause, Lateness, Part, RelationKind, Statement,
    StatementKind, WatermarkClause,
};
pub(crate) use tokens::{MUTUALLY, friendly};

/// Parses a job's text; what is to be said of it is pushed to `warnings`.
pub(crate) fn parse(text: &str, warnings: &mut Vec<Diagnostic>) -> Result<Vec<Statement>> {
    let mut found = tokens::hints(text)?;
    found.extend(statements(text, |parser| {
        let statement = parser.statement()?;
        warnings.append(&mut parser.declared.warnings);
        Ok(statement)
    })?);
    Ok(found)
}

/// Parses a text's statements one by one; what `statement` gives nothing for is only a bracket around others.
fn statements<S>(text: &str, mut statement: impl FnMut(&mut JobParser<'_>) -> Result<Option<S>>) -> Result<Vec<S>> {
    let dialect = JobDialect::default();
    let mut tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|e| {
        let at = sqlparser::tokenizer::Span::new(e.location, e.location);
        error("syntax", tokens::friendly(&e.message)).at(place(at))
    })?;
    depth::of_tokens(&tokens)?;
    tokens::exclusions(&mut tokens)?;
    tokens::changelogs(&tokens)?;
    let end = tokens::last_place(&tokens);
    let parser = Parser::new(&dialect).with_tokens_with_locations(tokens::mutual(tokens::rewrite(tokens)));
    let mut parser = JobParser { parser, end, declared: Declared::default(), set: None };
    let mut statements = Vec::new();
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {}
        if parser.parser.peek_token_ref().token == Token::EOF {
            parser.all_defined()?;
            parser.no_open_set()?;
            return Ok(statements);
        }
        if let Some(statement) = statement(&mut parser).map_err(|failure| failure.or_at(end))? {
            statements.push(statement);
            parser.end_of_statement()?;
        }
    }
}

/// An expression of the house's own, without places.
pub(crate) fn expression(text: &str) -> Option<Expr> {
    let dialect = JobDialect::default();
    let tokens = Tokenizer::new(&dialect, text).tokenize().ok()?;
    Parser::new(&dialect).with_tokens(tokens).parse_expr().ok()
}

/// A call as the parser would have made it.
pub(crate) fn ast_function(name: &str, args: Vec<FunctionArg>, span: sqlparser::tokenizer::Span) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(span, name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// The parser of statements.
struct JobParser<'a> {
    parser: Parser<'a>,
    /// Place of the text's last token, for errors at its end.
    end: Span,
    declared: Declared,
    /// Where the statement set that is open begins.
    set: Option<Span>,
}

impl JobParser<'_> {
    fn statement(&mut self) -> Result<Option<Statement>> {
        if self.statement_set()? {
            return Ok(None);
        }
        let start = self.parser.peek_token().span;
        let mut kind = self.statement_kind()?;
        self.expand_statement(&mut kind)?;
        let mut end = self.parser.get_current_token().span;
        if end.end < start.end {
            end = start;
        }
        Ok(Some(Statement { kind, span: Span { start: place_start(start), end: place_end(end) } }))
    }

    fn statement_kind(&mut self) -> Result<StatementKind> {
        let token = self.parser.peek_token();
        if self.parser.parse_keyword(Keyword::CREATE) {
            return self.create();
        }
        if self.parser.peek_keyword(Keyword::INSERT) {
            return self.insert(&token);
        }
        if self.parser.parse_keyword(Keyword::SET) {
            return self.set();
        }
        if tokens::is_word(&token, "LATENESS") {
            return self.view_lateness();
        }
        if tokens::is_word(&token, "DECLARE") {
            return self.declare_view();
        }
        if let Token::Word(word) = &token.token {
            let word = word.value.to_ascii_uppercase();
            let query = matches!(word.as_str(), "SELECT" | "WITH" | "VALUES");
            if query {
                return Err(error("not-supported", "a job has no place to show the rows of a bare query")
                    .at(place(token.span))
                    .help("name it: CREATE MATERIALIZED VIEW name AS SELECT ..."));
            }
            let no_statement = |help: &str| {
                Err(error("not-supported", format!("{word} is not a statement of a job")).at(place(token.span)).help(help))
            };
            match word.as_str() {
                "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" | "COPY" | "BEGIN" | "COMMIT" => return no_statement(STATEMENTS),
                "USE" => return no_statement("leave it out: all relations of a job stand in one namespace"),
                "DROP" | "ALTER" => {
                    return no_statement("leave it out: a job's text says what there is, and replacing the job changes it");
                }
                "EXPLAIN" | "DESCRIBE" | "DESC" => return no_statement("highwater explain job.sql shows the plan"),
                "SHOW" => {
                    return no_statement("GET /v1/jobs lists jobs with their views, highwater explain job.sql shows the plan");
                }
                "ADD" | "REMOVE" | "LOAD" | "UNLOAD" | "CALL" | "ANALYZE" => {
                    return no_statement("leave it out: functions and connectors are built in, and there is no code to load");
                }
                "SUBSCRIBE" | "FETCH" | "TAIL" => {
                    return no_statement(
                        "GET /v1/views/{view}/changes follows a view that runs, CREATE SINK writes its changes out",
                    );
                }
                "RESET" => return no_statement("leave out the SET statement instead"),
                _ => {}
            }
        }
        Err(error("syntax", format!("expected a statement, found '{token}'")).at(place(token.span)).help(STATEMENTS))
    }

    fn set(&mut self) -> Result<StatementKind> {
        let start = self.parser.peek_token().span;
        let name = match self.parser.peek_token().token {
            Token::SingleQuotedString(text) => {
                self.parser.next_token();
                text
            }
            _ => self.option_name()?.0,
        };
        let name_span = start.union(&self.parser.get_current_token().span);
        if !self.parser.parse_keyword(Keyword::TO) {
            self.expect(&Token::Eq)?;
        }
        let (value, value_span) = self.option_value()?;
        Ok(StatementKind::Set { name, name_span: place(name_span), value, value_span })
    }

    fn insert(&mut self, start: &TokenWithSpan) -> Result<StatementKind> {
        let statement = self.parser.parse_statement().map_err(from_parser)?;
        let emit = self.emit()?;
        let SqlStatement::Insert(insert) = &statement else {
            return Err(error("syntax", "expected INSERT INTO sink SELECT ...").at(place(start.span)));
        };
        let TableObject::TableName(target) = insert.table.clone() else {
            return Err(error("syntax", "expected the name of a sink after INSERT INTO").at(place(start.span)));
        };
        if insert.overwrite || insert.partitioned.is_some() {
            let what = if insert.overwrite { "INSERT OVERWRITE" } else { "INSERT INTO ... PARTITION" };
            return Err(error("not-supported", format!("{what} is not supported"))
                .at(place(target.span()))
                .help("write INSERT INTO sink SELECT ... with all columns; a file sink is emptied when the job starts, and its option partition_by divides it"));
        }
        let values = insert.source.as_ref().map(|query| matches!(&*query.body, sqlparser::ast::SetExpr::Values(_)));
        if values != Some(false) {
            return Err(error("not-supported", "INSERT of VALUES is not part of a job: it would happen again with every start")
                .at(place(target.span()))
                .help("send it to POST /v1/query when the job runs, or insert a query: INSERT INTO sink SELECT ... FROM view"));
        }
        Ok(StatementKind::Insert { statement: Box::new(statement), target, emit })
    }

    /// `EMIT CHANGES | FINAL | ON WINDOW CLOSE | EVERY interval`, if it stands here.
    fn emit(&mut self) -> Result<Option<EmitClause>> {
        let clause = |emit| Ok(Some(EmitClause { emit, every: None }));
        if !self.word("EMIT") {
            return Ok(None);
        }
        if self.word("CHANGES") {
            return clause(Emit::Changes);
        }
        if self.word("FINAL") || (self.word("ON") && self.word("WINDOW") && self.word("CLOSE")) {
            return clause(Emit::Final);
        }
        if self.word("EVERY") {
            let start = place(self.parser.peek_token().span);
            let interval = self.parser.parse_expr().map_err(from_parser)?;
            let end = place(self.parser.get_current_token().span);
            let every = Some((interval, Span { start: start.start, end: end.end }));
            return Ok(Some(EmitClause { emit: Emit::Changes, every }));
        }
        let token = self.parser.peek_token();
        Err(error("syntax", format!("expected CHANGES, FINAL, ON WINDOW CLOSE or EVERY after EMIT, found '{token}'"))
            .at(self.place_of(&token)))
    }

    fn end_of_statement(&mut self) -> Result<()> {
        let token = self.parser.peek_token();
        if matches!(token.token, Token::EOF | Token::SemiColon) {
            return Ok(());
        }
        if token.to_string().starts_with('?') {
            return Err(error("not-supported", format!("the JSON operator {token} is not supported"))
                .at(self.place_of(&token))
                .help("write JSON_EXISTS(json, '$.key')"));
        }
        Err(error("syntax", format!("expected the end of the statement, found '{token}'"))
            .at(self.place_of(&token))
            .help("statements are separated by ';'"))
    }

    /// Takes the next token if it is this word, unquoted.
    fn word(&mut self, word: &str) -> bool {
        let found = tokens::is_word(self.parser.peek_token_ref(), word);
        if found {
            self.parser.next_token();
        }
        found
    }

    fn expect(&mut self, expected: &Token) -> Result<()> {
        if self.parser.consume_token(expected) {
            return Ok(());
        }
        let token = self.parser.peek_token();
        Err(error("syntax", format!("expected '{expected}', found {}", quoted(&token))).at(self.place_of(&token)))
    }

    fn place_of(&self, token: &TokenWithSpan) -> Span {
        if token.token == Token::EOF { self.end } else { place(token.span) }
    }
}

const STATEMENTS: &str = "statements are CREATE SOURCE, CREATE TABLE, CREATE [MATERIALIZED] VIEW, CREATE SINK, \
                          INSERT INTO sink SELECT and SET name = value";

fn quoted(token: &TokenWithSpan) -> String {
    if token.token == Token::EOF { "the end of the text".into() } else { format!("'{token}'") }
}

fn place_start(span: sqlparser::tokenizer::Span) -> highwater_plan::Position {
    place(span).start
}

fn place_end(span: sqlparser::tokenizer::Span) -> highwater_plan::Position {
    place(span).end
}

/// An error in a statement's own syntax.
fn unexpected(message: impl Into<String>, span: Span) -> Failure {
    error("syntax", message).at(span)
}
