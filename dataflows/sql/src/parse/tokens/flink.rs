//! Flink's spellings that are others of what sqlparser reads: `LATERAL TABLE (f(x))`, types such as `TIMESTAMP(3) WITH
//! LOCAL TIME ZONE`, comments of fields, and `/*+ hints */`.

use highwater_plan::Diagnostic;
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::{is_solid, is_word};
use crate::diagnose::{Result, error, place};
use crate::parse::statement::{Statement, StatementKind};

/// Rewrites the tokens in place; what is left out becomes white space.
pub(super) fn rewrite(tokens: &mut [TokenWithSpan]) {
    let solid: Vec<usize> = (0..tokens.len()).filter(|index| is_solid(&tokens[*index])).collect();
    for place in 0..solid.len() {
        let word = |tokens: &[TokenWithSpan], ahead: usize, word: &str| {
            solid.get(place + ahead).is_some_and(|at| is_word(&tokens[*at], word))
        };
        let opens = |tokens: &[TokenWithSpan], ahead: usize| {
            solid.get(place + ahead).is_some_and(|at| tokens[*at].token == Token::LParen)
        };
        if word(tokens, 0, "LATERAL") && word(tokens, 1, "TABLE") && opens(tokens, 2) {
            if let Some(end) = closing(tokens, &solid, place + 2) {
                [place + 1, place + 2, end].into_iter().for_each(|place| blank(&mut tokens[solid[place]]));
            }
        } else if word(tokens, 0, "WITH") && word(tokens, 1, "LOCAL") && word(tokens, 2, "TIME") && word(tokens, 3, "ZONE") {
            blank(&mut tokens[solid[place + 1]]);
        }
        if ["JSON_OBJECT", "JSON_OBJECTAGG"].iter().any(|name| word(tokens, 0, name)) && opens(tokens, 1) {
            plain_members(tokens, &solid[place + 2..]);
        }
        if (word(tokens, 0, "ROW") || word(tokens, 0, "STRUCT"))
            && solid.get(place + 1).is_some_and(|at| tokens[*at].token == Token::Lt)
        {
            plain_fields(tokens, &solid[place + 2..]);
        }
    }
}

/// The place among `solid` of the parenthesis that ends the one at `open`.
fn closing(tokens: &[TokenWithSpan], solid: &[usize], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (place, at) in solid.iter().enumerate().skip(open) {
        match tokens[*at].token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return Some(place),
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Leaves out comments in the fields of a row type; `rest` begins with its first.
fn plain_fields(tokens: &mut [TokenWithSpan], rest: &[usize]) {
    let mut depth = 1;
    for at in rest {
        match &tokens[*at].token {
            Token::Lt | Token::LParen => depth += 1,
            Token::Gt | Token::RParen => depth -= 1,
            Token::ShiftRight => depth -= 2,
            Token::SemiColon => return,
            Token::SingleQuotedString(_) => blank(&mut tokens[*at]),
            _ => {}
        }
        if depth <= 0 {
            return;
        }
    }
}

/// `KEY 'a' VALUE 1` and `'a': 1` in a JSON object become `'a' VALUE 1`; `rest` begins with its first member.
fn plain_members(tokens: &mut [TokenWithSpan], rest: &[usize]) {
    let (mut depth, mut first) = (0, true);
    for (place, at) in rest.iter().enumerate() {
        let begins = std::mem::replace(&mut first, false);
        match &tokens[*at].token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth == 0 => return,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Comma if depth == 0 => first = true,
            Token::Colon if depth == 0 => {
                let word = Word { value: "VALUE".into(), quote_style: None, keyword: Keyword::VALUE };
                tokens[*at].token = Token::Word(word);
            }
            Token::Word(_) if begins && is_word(&tokens[*at], "KEY") => {
                // A column that is called so is followed by what would end a name.
                let is_name = rest.get(place + 1).is_none_or(|next| match &tokens[*next].token {
                    Token::Word(_) => is_word(&tokens[*next], "VALUE"),
                    Token::SingleQuotedString(_) | Token::LParen | Token::Number(..) => false,
                    _ => true,
                });
                if !is_name {
                    blank(&mut tokens[*at]);
                }
            }
            _ => {}
        }
    }
}

fn blank(token: &mut TokenWithSpan) {
    token.token = Token::Whitespace(Whitespace::Space);
}

/// A remark on every `/*+ hint */`: none of them changes a plan here. One that changes what a source reads is an error,
/// because without it the job would read something else.
pub(in crate::parse) fn hints(text: &str) -> Result<Vec<Statement>> {
    if !text.contains("/*+") {
        return Ok(Vec::new());
    }
    // What cannot be tokenized is said when it is parsed.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else { return Ok(Vec::new()) };
    let mut remarks = Vec::new();
    for token in &tokens {
        let Token::Whitespace(Whitespace::MultiLineComment(comment)) = &token.token else { continue };
        let Some(hint) = comment.strip_prefix('+').map(str::trim) else { continue };
        let name = hint.split('(').next().unwrap_or(hint).trim().to_uppercase();
        let at = place(token.span);
        if name == "OPTIONS" {
            return Err(error("not-supported", "options of a table cannot be changed where it is read")
                .at(at)
                .help("write them in WITH (...) of the table, or declare it again under another name"));
        }
        let help = match name.as_str() {
            "STATE_TTL" => "SET state_ttl = '1 day' lets go of state, for all queries of the job",
            _ => "remove it: the plan does not depend on hints, and highwater explain shows it",
        };
        let remark = Diagnostic::warning("hint-ignored", format!("the hint {name} is ignored")).at(Some(at)).help(help);
        remarks.push(Statement { kind: StatementKind::Remark(Box::new(remark)), span: at });
    }
    Ok(remarks)
}
