//! `JSON_VALUE`, `JSON_QUERY` and `JSON_EXISTS` with their clauses, which sqlparser does not read.
//!
//! A call without clauses stays what it was. The clauses become further arguments: words for the behaviour, and defaults as
//! text; RETURNING stays a clause, because it is a cast around the whole call.

use sqlparser::ast::{
    CastKind, CharacterLength, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    JsonReturningClause, Value,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::ast_function;
use super::tokens::is_word;

/// The call that begins here, if it is one of these.
pub(super) fn json_call(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let [name, open] = parser.peek_tokens_ref::<2>();
    if open.token != Token::LParen {
        return None;
    }
    let known = ["JSON_VALUE", "JSON_QUERY", "JSON_EXISTS"].into_iter().find(|known| is_word(name, known))?;
    Some(parse(parser, known))
}

fn parse(parser: &mut Parser, name: &str) -> Result<Expr, ParserError> {
    let span = parser.next_token().span;
    parser.expect_token(&Token::LParen)?;
    let mut args = parser.parse_comma_separated(Parser::parse_expr)?;
    let returning = match parser.parse_keyword(Keyword::RETURNING) {
        true => Some(parser.parse_data_type()?),
        false => None,
    };
    let mut clauses = Clauses::default();
    if name == "JSON_QUERY" {
        clauses.wrapper = wrapper(parser)?;
    }
    while parser.peek_token_ref().token != Token::RParen {
        clauses.behaviour(parser, name)?;
    }
    parser.expect_token(&Token::RParen)?;
    args.extend(clauses.arguments(name));
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    let mut call = ast_function(&name.to_lowercase(), args, span);
    if let (Some(data_type), Expr::Function(function)) = (returning, &mut call)
        && let FunctionArguments::List(list) = &mut function.args
    {
        list.clauses.push(FunctionArgumentClause::JsonReturningClause(JsonReturningClause { data_type }));
    }
    Ok(call)
}

/// `WITH [CONDITIONAL | UNCONDITIONAL] [ARRAY] WRAPPER`, `WITHOUT [ARRAY] WRAPPER`.
fn wrapper(parser: &mut Parser) -> Result<Option<&'static str>, ParserError> {
    let wrapper = if take(parser, "WITHOUT") {
        "without"
    } else if take(parser, "WITH") {
        if take(parser, "CONDITIONAL") {
            "conditional"
        } else {
            take(parser, "UNCONDITIONAL");
            "unconditional"
        }
    } else {
        return Ok(None);
    };
    take(parser, "ARRAY");
    match take(parser, "WRAPPER") {
        true => Ok(Some(wrapper)),
        false => parser.expected_ref("WRAPPER", parser.peek_token_ref()),
    }
}

/// What ON EMPTY and ON ERROR say.
#[derive(Default)]
struct Clauses {
    wrapper: Option<&'static str>,
    empty: Option<(&'static str, Option<Expr>)>,
    wrong: Option<(&'static str, Option<Expr>)>,
}

impl Clauses {
    fn behaviour(&mut self, parser: &mut Parser, name: &str) -> Result<(), ParserError> {
        let mut default = None;
        let words: &[(&str, &'static str)] = match name {
            "JSON_EXISTS" => &[("TRUE", "true"), ("FALSE", "false"), ("UNKNOWN", "unknown"), ("ERROR", "error")],
            "JSON_QUERY" => &[("NULL", "null"), ("ERROR", "error")],
            _ => &[("NULL", "null"), ("ERROR", "error")],
        };
        let word = if let Some((_, word)) = words.iter().find(|(word, _)| take(parser, word)) {
            word
        } else if name == "JSON_QUERY" && take(parser, "EMPTY") {
            if take(parser, "OBJECT") {
                "object"
            } else {
                take(parser, "ARRAY");
                "array"
            }
        } else if name == "JSON_VALUE" && take(parser, "DEFAULT") {
            default = Some(parser.parse_expr()?);
            "default"
        } else {
            let expected = match name {
                "JSON_EXISTS" => "TRUE, FALSE, UNKNOWN or ERROR ON ERROR",
                "JSON_QUERY" => "NULL, ERROR, EMPTY ARRAY or EMPTY OBJECT",
                _ => "NULL, ERROR or DEFAULT value",
            };
            return parser.expected_ref(expected, parser.peek_token_ref());
        };
        if !take(parser, "ON") {
            return parser.expected_ref("ON EMPTY or ON ERROR", parser.peek_token_ref());
        }
        let place = if take(parser, "ERROR") {
            &mut self.wrong
        } else if name != "JSON_EXISTS" && take(parser, "EMPTY") {
            &mut self.empty
        } else {
            return parser.expected_ref("EMPTY or ERROR", parser.peek_token_ref());
        };
        if place.is_some() {
            return parser.expected_ref("each clause once", parser.get_current_token());
        }
        *place = Some((word, default));
        Ok(())
    }

    fn arguments(self, name: &str) -> Vec<Expr> {
        if self.wrapper.is_none() && self.empty.is_none() && self.wrong.is_none() {
            return Vec::new();
        }
        let null = || ("null", None);
        let (empty, wrong) = (self.empty.unwrap_or_else(null), self.wrong.unwrap_or_else(null));
        let default = |default: Option<Expr>| match default {
            Some(expr) => Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(expr),
                data_type: DataType::Varchar(None::<CharacterLength>),
                array: false,
                format: None,
            },
            None => Expr::Value(Value::Null.with_empty_span()),
        };
        match name {
            "JSON_EXISTS" => vec![text(wrong.0)],
            "JSON_QUERY" => vec![text(self.wrapper.unwrap_or("without")), text(empty.0), text(wrong.0)],
            _ => vec![text(empty.0), text(wrong.0), default(empty.1), default(wrong.1)],
        }
    }
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_empty_span())
}

fn take(parser: &mut Parser, word: &str) -> bool {
    let found = is_word(parser.peek_token_ref(), word);
    if found {
        parser.next_token();
    }
    found
}
