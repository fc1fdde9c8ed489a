//! The SQL dialect: sqlparser's generic one, plus what streaming SQL needs, without a fork.
//!
//! Two hooks do the work. `dialect()` answers "generic" so that sqlparser's own checks for that dialect hold here, and
//! `parse_prefix` makes `TABLE bid [PARTITION BY k]` legal as a function argument: it becomes a call of [`TABLE_ARGUMENT`]
//! that the window functions look for.

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, UnaryOperator, Value};
use sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};

use super::ast_function;
use super::json_call::json_call;

/// Name of the call that `TABLE x [PARTITION BY a, b]` becomes.
pub(crate) const TABLE_ARGUMENT: &str = "__table_argument";

/// Where `^` binds: tighter than products.
const POWER: u8 = 45;
/// Where operators bind that only PostgreSQL has: looser than sums, tighter than comparisons.
const BESIDE_SUMS: u8 = 25;

/// The dialect of job files.
#[derive(Debug, Default)]
pub(crate) struct JobDialect(GenericDialect);

macro_rules! supports {
    ($($flag:ident),* $(,)?) => { $(fn $flag(&self) -> bool { true })* };
}

impl Dialect for JobDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.0.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.0.is_identifier_part(ch)
    }

    supports!(
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_left_associative_joins_without_parens,
        supports_window_function_null_treatment_arg,
        supports_dictionary_syntax,
        supports_window_clause_named_window_reference,
        supports_select_wildcard_except,
        support_map_literal_syntax,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_extract_comma_syntax,
        supports_parens_around_table_factor,
        supports_values_as_table_factor,
        supports_try_convert,
        supports_bitwise_shift_operators,
        supports_struct_literal,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_array_typedef_with_brackets,
        supports_filter_during_aggregation,
        supports_select_wildcard_exclude,
        supports_select_wildcard_replace,
        supports_select_wildcard_rename,
        supports_interval_options,
        supports_table_versioning,
        supports_named_fn_args_with_rarrow_operator,
        supports_order_by_all,
        supports_match_recognize,
        supports_map_literal_with_angle_brackets,
        supports_comma_separated_trim,
    );

    /// `FROM bid EMIT FINAL`: EMIT is not an alias, nor is the WITH before options.
    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        (explicit || !ends_query(&parser.get_current_token().token)) && self.0.is_table_factor_alias(explicit, keyword, parser)
    }

    fn is_select_item_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        (explicit || !ends_query(&parser.get_current_token().token)) && self.0.is_select_item_alias(explicit, keyword, parser)
    }

    /// As in PostgreSQL: `doc ->> 'a' = 'b'` compares, as do other operators of its own.
    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::PgOther => BESIDE_SUMS,
            other => self.0.prec_value(other),
        }
    }

    /// As in PostgreSQL: `2 * 3 ^ 2` is 18, `1 + 2 || 'a'` is `3a`.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::Caret => Some(Ok(POWER)),
            Token::StringConcat => Some(Ok(BESIDE_SUMS)),
            _ => None,
        }
    }

    /// What sqlparser leaves out: `IS [NOT] DISTINCT FROM` whose right side ends where a comparison's would, `BETWEEN
    /// SYMMETRIC`, `IS [NOT] JSON`.
    fn parse_infix(&self, parser: &mut Parser, left: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        use Keyword::{DISTINCT, FROM, IS, NOT};
        if let Some(between) = self.between_symmetric(parser, left) {
            return Some(between);
        }
        if let Some(is_json) = is_json(parser, left) {
            return Some(Ok(is_json));
        }
        let not = parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]);
        if !not && !parser.parse_keywords(&[IS, DISTINCT, FROM]) {
            return None;
        }
        let left = Box::new(left.clone());
        let right = parser.parse_subexpr(self.prec_value(Precedence::Is)).map(Box::new);
        Some(right.map(|right| match not {
            true => Expr::IsNotDistinctFrom(left, right),
            false => Expr::IsDistinctFrom(left, right),
        }))
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        // The sign of a power's base: `-2 ^ 2` is 4.
        if parser.consume_token(&Token::Minus) {
            let operand = parser.parse_subexpr(POWER);
            return Some(operand.map(|expr| Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(expr) }));
        }
        if let Some(call) = json_call(parser) {
            return Some(call);
        }
        if parser.peek_nth_token_ref(1).token == Token::LBracket && word_at(parser, 0, "MAP") {
            return Some(map_literal(parser));
        }
        let [first, second] = parser.peek_tokens_ref::<2>();
        let is_table = matches!(&first.token, Token::Word(word) if word.keyword == Keyword::TABLE && word.quote_style.is_none());
        if !is_table || !matches!(&second.token, Token::Word(_) | Token::LParen) {
            return None;
        }
        if second.token == Token::LParen && !["SELECT", "WITH", "VALUES"].iter().any(|word| word_at(parser, 2, word)) {
            return None;
        }
        let span = first.span;
        Some(table_argument(parser, span))
    }
}

impl JobDialect {
    /// `x [NOT] BETWEEN SYMMETRIC a AND b`: between a and b, or between b and a. ASYMMETRIC is the default.
    fn between_symmetric(&self, parser: &mut Parser, left: &Expr) -> Option<Result<Expr, ParserError>> {
        let negated = word_at(parser, 0, "NOT");
        let at = usize::from(negated);
        let symmetric = word_at(parser, at + 1, "SYMMETRIC");
        if !word_at(parser, at, "BETWEEN") || !(symmetric || word_at(parser, at + 1, "ASYMMETRIC")) {
            return None;
        }
        for _ in 0..at + 2 {
            parser.next_token();
        }
        let mut bounds = || {
            let low = parser.parse_subexpr(self.prec_value(Precedence::Between))?;
            parser.expect_keyword_is(Keyword::AND)?;
            Ok((low, parser.parse_subexpr(self.prec_value(Precedence::Between))?))
        };
        let (low, high) = match bounds() {
            Ok(bounds) => bounds,
            Err(e) => return Some(Err(e)),
        };
        let between = |low: &Expr, high: &Expr| Expr::Between {
            expr: Box::new(left.clone()),
            negated,
            low: Box::new(low.clone()),
            high: Box::new(high.clone()),
        };
        if !symmetric {
            return Some(Ok(between(&low, &high)));
        }
        let op = if negated { BinaryOperator::And } else { BinaryOperator::Or };
        let (left, right) = (Box::new(between(&low, &high)), Box::new(between(&high, &low)));
        Some(Ok(Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }))))
    }
}

fn word_at(parser: &Parser, index: usize, word: &str) -> bool {
    let token = parser.peek_nth_token_ref(index);
    matches!(&token.token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// `x IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]`.
fn is_json(parser: &mut Parser, left: &Expr) -> Option<Expr> {
    if !word_at(parser, 0, "IS") {
        return None;
    }
    let negated = word_at(parser, 1, "NOT");
    let at = 1 + usize::from(negated);
    if !word_at(parser, at, "JSON") {
        return None;
    }
    let span = parser.peek_token().span;
    let kind = ["VALUE", "SCALAR", "ARRAY", "OBJECT"].into_iter().find(|kind| word_at(parser, at + 1, kind));
    for _ in 0..at + 1 + usize::from(kind.is_some()) {
        parser.next_token();
    }
    let kind = kind.unwrap_or("VALUE").to_lowercase();
    let kind = Expr::Value(Value::SingleQuotedString(kind).with_empty_span());
    let args = [left.clone(), kind].into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    let call = ast_function("is_json", args, span);
    Some(match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(call) },
        false => call,
    })
}

/// Whether a word stands behind a query.
fn ends_query(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none()
        && (word.value.eq_ignore_ascii_case("emit") || word.value.eq_ignore_ascii_case("with")))
}

/// `MAP[key, value, ...]`.
fn map_literal(parser: &mut Parser) -> Result<Expr, ParserError> {
    let span = parser.next_token().span;
    parser.expect_token(&Token::LBracket)?;
    let args = parser.parse_comma_separated(Parser::parse_expr)?;
    parser.expect_token(&Token::RBracket)?;
    Ok(ast_function("map", args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(), span))
}

/// `TABLE name [PARTITION BY a | PARTITION BY (a, b)]` or `TABLE (SELECT ..) ..`, from the word TABLE on.
fn table_argument(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    parser.next_token();
    let relation = if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Expr::Subquery(query)
    } else {
        let name = parser.parse_object_name(true)?;
        Expr::CompoundIdentifier(name.0.into_iter().filter_map(|part| part.as_ident().cloned()).collect())
    };
    let mut args = vec![relation];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        let parenthesised = parser.consume_token(&Token::LParen);
        loop {
            args.push(parser.parse_expr()?);
            if !(parenthesised && parser.consume_token(&Token::Comma)) {
                break;
            }
        }
        if parenthesised {
            parser.expect_token(&Token::RParen)?;
        }
    }
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Ok(ast_function(TABLE_ARGUMENT, args, span))
}
