//! `CREATE SOURCE | TABLE | VIEW | MATERIALIZED VIEW | SINK`.

use highwater_plan::Emit;
use sqlparser::ast::{ColumnOption, DataType, Expr, Ident, Spanned, TableConstraint};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::statement::{
    Column, ColumnKind, CreateRelation, CreateSink, CreateView, Lateness, Metadata, RelationKind, StatementKind, WatermarkClause,
};
use super::tokens::is_word;
use super::{EmitClause, JobParser, quoted, unexpected};
use crate::diagnose::{Result, error, from_parser, place};
use highwater_plan::OptionEntry;

/// What stands between the parentheses of a relation.
#[derive(Default)]
struct Columns {
    columns: Vec<Column>,
    primary_key: Vec<Ident>,
    watermark: Option<WatermarkClause>,
    lateness: Vec<Lateness>,
}

impl JobParser<'_> {
    /// A statement, from behind CREATE on.
    pub(super) fn create(&mut self) -> Result<StatementKind> {
        let _ = self.parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
        let _ = self.parser.parse_one_of_keywords(&[Keyword::TEMPORARY, Keyword::TEMP, Keyword::LOCAL]);
        let materialized = self.parser.parse_keyword(Keyword::MATERIALIZED);
        if self.parser.parse_keyword(Keyword::VIEW) {
            return self.create_view(materialized);
        }
        let token = self.parser.next_token();
        if is_word(&token, "SOURCE") {
            let _ = self.parser.parse_keyword(Keyword::TABLE);
            return self.create_relation(RelationKind::Source);
        }
        if is_word(&token, "TABLE") && materialized {
            return Err(error("not-supported", "CREATE MATERIALIZED TABLE is not supported")
                .at(place(token.span))
                .help("CREATE MATERIALIZED VIEW name AS SELECT ... is always fresh"));
        }
        if is_word(&token, "TABLE") {
            return self.create_relation(RelationKind::Table);
        }
        if is_word(&token, "SINK") {
            return self.create_sink();
        }
        if is_word(&token, "TYPE") {
            return self.create_type();
        }
        if is_word(&token, "FUNCTION") {
            return self.create_function();
        }
        if is_word(&token, "DATABASE") || is_word(&token, "CATALOG") || is_word(&token, "SCHEMA") {
            return Err(error("not-supported", format!("a job has no {token}"))
                .at(place(token.span))
                .help("leave it out: all relations of a job stand in one namespace"));
        }
        if is_word(&token, "INDEX") || (is_word(&token, "UNIQUE") && is_word(self.parser.peek_token_ref(), "INDEX")) {
            return Err(error("not-supported", "a job has no indexes").at(place(token.span)).help(
                "leave it out: joins and views keep the indexes that they need, and a view is read by its key, which CREATE \
                       MATERIALIZED VIEW v AS SELECT ... GROUP BY key gives it",
            ));
        }
        let what = error("syntax", format!("cannot create {}", quoted(&token)));
        Err(what
            .at(self.place_of(&token))
            .help("what can be created: SOURCE, TABLE, VIEW, MATERIALIZED VIEW, SINK, TYPE, FUNCTION"))
    }

    fn create_view(&mut self, materialized: bool) -> Result<StatementKind> {
        self.if_not_exists();
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let mut columns = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            columns = self.parser.parse_comma_separated(|parser| parser.parse_identifier()).map_err(from_parser)?;
            self.expect(&Token::RParen)?;
        }
        self.comment()?;
        let options = if self.word("WITH") { self.options()? } else { Vec::new() };
        self.parser.expect_keyword(Keyword::AS).map_err(from_parser)?;
        let query = self.parser.parse_query().map_err(from_parser)?;
        let mut emit = self.emit()?;
        for option in options {
            match (option.key.as_str(), &emit) {
                // The column that is named is one that the watermark reaches: which is found.
                ("emit_final", None) => emit = Some(EmitClause { emit: Emit::Final, every: None }),
                ("emit_final" | "materialized" | "expected_size", _) => {}
                _ => {
                    return Err(error("not-supported", format!("option '{}' of a view is not supported", option.key))
                        .at(option.key_span)
                        .help(format!("what leaves a view goes through a sink: CREATE SINK s FROM {name} WITH (...)")));
                }
            }
        }
        self.recursive_view(CreateView { materialized, name, columns, query, emit })
    }

    fn create_relation(&mut self, kind: RelationKind) -> Result<StatementKind> {
        self.if_not_exists();
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let Columns { columns, primary_key, watermark, lateness } = self.columns()?;
        let (mut options, mut partitioned, mut like) = (None, Vec::new(), None);
        let (mut append_only, mut format) = (false, None);
        loop {
            let token = self.parser.peek_token();
            if self.word("WITH") {
                options = Some(self.options()?);
            } else if self.comment()? {
            } else if self.word("LIKE") {
                like = Some(self.like()?);
            } else if self.word("PARTITIONED") {
                partitioned = self.partitioned_by()?;
            } else if self.word("DISTRIBUTED") {
                return Err(error("not-supported", "DISTRIBUTED is not supported here")
                    .at(place(token.span))
                    .help("leave it out: rows go to workers by the keys that operators need"));
            } else if self.parser.parse_keyword(Keyword::AS) {
                if options.is_some() && columns.is_empty() && like.is_none() {
                    let (query, options) = (Some(self.parser.parse_query().map_err(from_parser)?), options.unwrap_or_default());
                    let emit = self.emit()?;
                    let sink = CreateSink { name, columns, primary_key, from: None, query, options, emit };
                    return Ok(StatementKind::Sink(Box::new(sink)));
                }
                return Err(error("not-supported", "CREATE TABLE ... AS SELECT is not supported").at(place(token.span)).help(
                    "CREATE MATERIALIZED VIEW name AS SELECT ... keeps a query's result, CREATE TABLE name WITH (connector = \
                         '...') AS SELECT ... writes it out",
                ));
            } else if is_word(&token, "APPEND") {
                self.parser.next_token();
                if !self.word("ONLY") {
                    return Err(unexpected("expected ONLY after APPEND", place(token.span)));
                }
                append_only = true;
            } else if is_word(&token, "FORMAT") {
                format = Some(self.format()?);
            } else if is_word(&token, "ON") {
                self.on_conflict()?;
            } else if is_word(&token, "INCLUDE") {
                return Err(error(
                    "not-supported",
                    "INCLUDE is not supported: what a record brings besides its value is not read",
                )
                .at(place(token.span))
                .help("put what the column would have into the records"));
            } else {
                break;
            }
        }
        if let Some(format) = format {
            let options = options.get_or_insert_default();
            if let Some(other) = options.iter().find(|entry| entry.key == "format") {
                return Err(error("duplicate-option", "the format is given twice")
                    .at(format.value_span)
                    .note("given here as an option", other.key_span));
            }
            options.push(format);
        }
        let relation =
            CreateRelation { kind, name, columns, primary_key, watermark, lateness, options, partitioned, like, append_only };
        Ok(StatementKind::Relation(Box::new(relation)))
    }

    /// `COMMENT 'text'`, which is left out; whether it stood here.
    fn comment(&mut self) -> Result<bool> {
        if !self.parser.parse_keyword(Keyword::COMMENT) {
            return Ok(false);
        }
        self.parser.parse_literal_string().map_err(from_parser)?;
        Ok(true)
    }

    /// `PARTITIONED BY (a, b)`, from behind its first word on.
    fn partitioned_by(&mut self) -> Result<Vec<Ident>> {
        self.parser.expect_keyword(Keyword::BY).map_err(from_parser)?;
        self.expect(&Token::LParen)?;
        let columns = self.parser.parse_comma_separated(|parser| parser.parse_identifier()).map_err(from_parser)?;
        self.expect(&Token::RParen)?;
        Ok(columns)
    }

    /// `FORMAT PLAIN | UPSERT | DEBEZIUM ENCODE JSON | CSV | ...`, as the option it stands for.
    fn format(&mut self) -> Result<OptionEntry> {
        let start = self.parser.next_token().span;
        let row = self.parser.next_token();
        if !self.word("ENCODE") {
            let token = self.parser.peek_token();
            return Err(error("syntax", format!("expected ENCODE, found {}", quoted(&token)))
                .at(self.place_of(&token))
                .help("for example FORMAT PLAIN ENCODE JSON"));
        }
        let encoding = self.parser.next_token();
        let span = place(start.union(&encoding.span));
        let (row_word, encoding) = (row.token.to_string().to_lowercase(), encoding.token.to_string().to_lowercase());
        let value = match (row_word.as_str(), encoding.as_str()) {
            ("plain", _) => encoding,
            ("debezium", "json") => "debezium".into(),
            _ => {
                let message = format!("FORMAT {} ENCODE {} is not supported", row_word.to_uppercase(), encoding.to_uppercase());
                return Err(error("not-supported", message).at(place(row.span)).help(
                    "FORMAT is PLAIN, or DEBEZIUM with ENCODE JSON; rows of a table with a PRIMARY KEY replace each other as they are",
                ));
            }
        };
        if self.parser.peek_token_ref().token == Token::LParen {
            let token = self.parser.peek_token();
            return Err(error("not-supported", "options of an encoding are not supported")
                .at(place(token.span))
                .help("give options of the format between the parentheses of WITH"));
        }
        Ok(OptionEntry { key: "format".into(), value, key_span: Some(span), value_span: Some(span) })
    }

    /// `ON CONFLICT ...`: a row that comes for a key replaces the one that is there, and nothing else.
    fn on_conflict(&mut self) -> Result<()> {
        let start = self.parser.next_token().span;
        if !self.word("CONFLICT") {
            let token = self.parser.peek_token();
            return Err(unexpected(format!("expected CONFLICT after ON, found {}", quoted(&token)), self.place_of(&token)));
        }
        if self.word("OVERWRITE") {
            return Ok(());
        }
        let place = place(start.union(&self.parser.peek_token().span));
        Err(error("not-supported", "of two rows of one key the later one counts: this ON CONFLICT is not supported")
            .at(place)
            .help("remove it; or append all rows, and take the one that counts in a view: DISTINCT ON (key) ... ORDER BY key, version"))
    }

    fn create_sink(&mut self) -> Result<StatementKind> {
        self.if_not_exists();
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let at = self.parser.peek_token();
        let Columns { columns, primary_key, watermark, .. } = self.columns()?;
        if let Some(watermark) = watermark {
            return Err(error("watermark-on-sink", "a sink has no watermark").at(watermark.span));
        }
        let (mut from, mut query, mut options, mut emit) = (None, None, Vec::new(), None);
        loop {
            if self.parser.parse_keyword(Keyword::FROM) {
                from = Some(self.parser.parse_object_name(false).map_err(from_parser)?);
            } else if self.parser.parse_keyword(Keyword::AS) {
                query = Some(self.parser.parse_query().map_err(from_parser)?);
            } else if self.word("WITH") {
                options = self.options()?;
            } else if is_word(self.parser.peek_token_ref(), "EMIT") {
                emit = self.emit()?;
            } else {
                break;
            }
        }
        let forms = usize::from(from.is_some()) + usize::from(query.is_some()) + usize::from(!columns.is_empty());
        if forms != 1 {
            let what = if forms == 0 { "a sink needs rows" } else { "a sink takes its rows from one place" };
            return Err(error("syntax", what).at(self.place_of(&at)).help(
                "CREATE SINK s FROM view WITH (...), CREATE SINK s WITH (...) AS SELECT ..., \
                 or CREATE SINK s (columns) WITH (...) and INSERT INTO s SELECT ...",
            ));
        }
        Ok(StatementKind::Sink(Box::new(CreateSink { name, columns, primary_key, from, query, options, emit })))
    }

    fn if_not_exists(&mut self) {
        let _ = self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    }

    /// `(column type ..., PRIMARY KEY (..), WATERMARK FOR ...)`, if it stands here.
    fn columns(&mut self) -> Result<Columns> {
        let mut columns = Columns::default();
        if !self.parser.consume_token(&Token::LParen) || self.parser.consume_token(&Token::RParen) {
            return Ok(columns);
        }
        loop {
            self.column_or_constraint(&mut columns)?;
            if !self.parser.consume_token(&Token::Comma) {
                self.expect(&Token::RParen)?;
                return Ok(columns);
            }
            if self.parser.consume_token(&Token::RParen) {
                return Ok(columns);
            }
        }
    }

    fn column_or_constraint(&mut self, columns: &mut Columns) -> Result<()> {
        let [first, second] = self.parser.peek_tokens_with_location::<2>();
        if is_word(&first, "WATERMARK") && is_word(&second, "FOR") {
            return self.watermark(columns);
        }
        let constraint = is_word(&first, "CONSTRAINT")
            || (is_word(&first, "PRIMARY") && is_word(&second, "KEY"))
            || (is_word(&first, "FOREIGN") && is_word(&second, "KEY"))
            || ((is_word(&first, "UNIQUE") || is_word(&first, "CHECK")) && second.token == Token::LParen);
        if constraint {
            return self.constraint(columns);
        }
        let column = self.column(&mut columns.primary_key, &mut columns.lateness)?;
        if let Some(other) = columns.columns.iter().find(|other| other.name.value == column.name.value) {
            return Err(error("duplicate-column", format!("column '{}' is declared twice", column.name.value))
                .at(place(column.name.span))
                .note("first declared here", Some(place(other.name.span))));
        }
        columns.columns.push(column);
        Ok(())
    }

    fn watermark(&mut self, columns: &mut Columns) -> Result<()> {
        let start = self.parser.next_token().span;
        self.parser.next_token();
        let column = self.parser.parse_identifier().map_err(from_parser)?;
        let expr = if self.parser.parse_keyword(Keyword::AS) {
            self.parser.parse_expr().map_err(from_parser)?
        } else {
            Expr::Identifier(column.clone())
        };
        let span = place(start.union(&self.parser.get_current_token().span));
        if let Some(other) = &columns.watermark {
            return Err(error("duplicate-watermark", "a relation has one WATERMARK clause")
                .at(span)
                .note("first given here", Some(other.span)));
        }
        columns.watermark = Some(WatermarkClause { column, expr, span });
        Ok(())
    }

    fn constraint(&mut self, columns: &mut Columns) -> Result<()> {
        let start = self.parser.peek_token().span;
        let constraint = self.parser.parse_optional_table_constraint().map_err(from_parser)?;
        let span = place(start.union(&self.parser.get_current_token().span));
        if let Some(TableConstraint::ForeignKey(_)) = constraint {
            self.unchecked_key(span);
            return Ok(());
        }
        let Some(TableConstraint::PrimaryKey(key)) = constraint else {
            return Err(error("not-supported", "the only constraint that is supported is PRIMARY KEY")
                .at(span)
                .help("leave it out: a job checks no other"));
        };
        if !columns.primary_key.is_empty() {
            return Err(error("primary-key", "PRIMARY KEY is given twice").at(span));
        }
        for column in key.columns {
            match column.column.expr {
                Expr::Identifier(name) => columns.primary_key.push(name),
                other => {
                    let message = format!("a PRIMARY KEY is made of columns, found '{other}'");
                    return Err(error("primary-key", message).at(place(other.span())));
                }
            }
        }
        self.not_enforced();
        Ok(())
    }

    fn metadata(&mut self, column: &Ident) -> Result<Metadata> {
        let start = self.parser.next_token().span;
        let mut key = column.value.clone();
        if self.parser.parse_keyword(Keyword::FROM) {
            let token = self.parser.next_token();
            let Token::SingleQuotedString(text) = token.token else {
                return Err(unexpected("expected the metadata's name in quotes: METADATA FROM 'timestamp'", place(token.span)));
            };
            key = text;
        }
        let is_virtual = self.word("VIRTUAL");
        Ok(Metadata { key, is_virtual, span: place(start.union(&self.parser.get_current_token().span)) })
    }

    fn not_enforced(&mut self) {
        if self.word("NOT") {
            self.word("ENFORCED");
        }
    }

    fn column(&mut self, primary_key: &mut Vec<Ident>, lateness: &mut Vec<Lateness>) -> Result<Column> {
        let name = self.parser.parse_identifier().map_err(from_parser)?;
        let start = self.parser.peek_token();
        if self.parser.parse_keyword(Keyword::AS) {
            let first = self.parser.peek_token().span;
            let expr = self.parser.parse_expr().map_err(from_parser)?;
            let span = place(first.union(&self.parser.get_current_token().span));
            return Ok(Column {
                name,
                kind: ColumnKind::Computed(Box::new(expr)),
                not_null: false,
                default: None,
                metadata: None,
                span,
            });
        }
        if matches!(start.token, Token::Comma | Token::RParen | Token::EOF) {
            return Err(unexpected(format!("column '{}' needs a type", name.value), place(name.span)));
        }
        let data_type: DataType = self.parser.parse_data_type().map_err(from_parser)?;
        let span = place(start.span.union(&self.parser.get_current_token().span));
        let mut column =
            Column { name, kind: ColumnKind::Physical(data_type), not_null: false, default: None, metadata: None, span };
        loop {
            let at = self.parser.peek_token();
            if is_word(&at, "METADATA") {
                column.metadata = Some(self.metadata(&column.name)?);
                continue;
            }
            if self.feldera_option(&column.name, lateness)? {
                continue;
            }
            if is_word(&at, "AS") {
                self.parser.next_token();
                let expr = self.parser.parse_expr().map_err(from_parser)?;
                generated(&mut column, expr, place(at.span))?;
                continue;
            }
            match self.parser.parse_optional_column_option().map_err(from_parser)? {
                None => return Ok(column),
                Some(ColumnOption::NotNull) => column.not_null = true,
                Some(ColumnOption::Null | ColumnOption::Comment(_)) => {}
                Some(ColumnOption::Default(expr)) => column.default = Some(expr),
                Some(ColumnOption::PrimaryKey(_)) => {
                    self.not_enforced();
                    if !primary_key.is_empty() {
                        return Err(error("primary-key", "PRIMARY KEY is given twice")
                            .at(place(at.span))
                            .help("for a key of several columns write PRIMARY KEY (a, b) after them"));
                    }
                    primary_key.push(column.name.clone());
                    column.not_null = true;
                }
                Some(ColumnOption::Generated { generation_expr: Some(expr), .. }) => {
                    generated(&mut column, expr, place(at.span))?;
                }
                Some(other) => {
                    let message = format!("column option '{other}' is not supported");
                    return Err(error("not-supported", message).at(place(at.span)));
                }
            }
        }
    }
}

/// Makes a column that has a type one whose values are computed.
fn generated(column: &mut Column, expr: Expr, span: highwater_plan::Span) -> Result<()> {
    let ColumnKind::Physical(data_type) = &column.kind else {
        return Err(unexpected("a column is generated once", span));
    };
    let (kind, data_type) = (sqlparser::ast::CastKind::Cast, data_type.clone());
    let expr = Expr::Cast { kind, expr: Box::new(expr), data_type, array: false, format: None };
    column.kind = ColumnKind::Computed(Box::new(expr));
    Ok(())
}
