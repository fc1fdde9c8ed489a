//! Types as Calcite spells them, which sqlparser does not know: `INT ARRAY`, `ROW (a INT)`, `ROW<a INT NOT NULL>`, and
//! intervals with units in the plural, plain numbers or a sign in front.

use std::collections::HashSet;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace, Word};

use super::{is_solid, is_word};

const TYPES: [&str; 39] = [
    "BIGINT",
    "BINARY",
    "BOOL",
    "BOOLEAN",
    "BYTEA",
    "BYTES",
    "CHAR",
    "CHARACTER",
    "DATE",
    "DATETIME",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "INT",
    "INT2",
    "INT4",
    "INT8",
    "INTEGER",
    "MAP",
    "NUMERIC",
    "PRECISION",
    "REAL",
    "ROW",
    "SMALLINT",
    "STRING",
    "STRUCT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TINYINT",
    "UNSIGNED",
    "UUID",
    "VARBINARY",
    "VARCHAR",
    "VARIANT",
];

const UNITS: [&str; 8] = ["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"];

/// Rewrites the types and intervals of a text.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let solid: Vec<usize> = (0..tokens.len()).filter(|index| is_solid(&tokens[*index])).collect();
    let declared: HashSet<String> = solid
        .windows(3)
        .filter(|three| is_word(&tokens[three[0]], "CREATE") && is_word(&tokens[three[1]], "TYPE"))
        .filter_map(|three| word(&tokens[three[2]]))
        .collect();
    let is_type =
        |token: &TokenWithSpan| word(token).is_some_and(|word| declared.contains(&word) || TYPES.contains(&word.as_str()));
    rows(&mut tokens, &solid, is_type);
    not_nulls(&mut tokens, &solid);
    intervals(&mut tokens, &solid);
    arrays(tokens, &solid, is_type)
}

/// An unquoted word, in upper case.
fn word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    }
}

fn keyword(word: &str) -> Token {
    Token::make_keyword(word)
}

/// `ROW (a INT, ..)` becomes `STRUCT <a INT, ..>`: in a row of values no name stands before a type's.
fn rows(tokens: &mut [TokenWithSpan], solid: &[usize], is_type: impl Fn(&TokenWithSpan) -> bool) {
    for (place, at) in solid.iter().enumerate() {
        let Some([open, name, first]) = solid.get(place + 1..place + 4) else { return };
        let names_type = is_word(&tokens[*at], "ROW")
            && tokens[*open].token == Token::LParen
            && matches!(tokens[*name].token, Token::Word(_))
            && is_type(&tokens[*first]);
        if !names_type {
            continue;
        }
        let mut depth = 0;
        let close = solid[place + 1..].iter().find(|at| {
            match tokens[**at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        if let Some(close) = close {
            tokens[*at].token = Token::Word(Word { value: "STRUCT".into(), quote_style: None, keyword: Keyword::STRUCT });
            tokens[*open].token = Token::Lt;
            tokens[*close].token = Token::Gt;
        }
    }
}

/// What the positions of types' angle brackets enclose; true for each position that stands between some.
fn within_angles(tokens: &[TokenWithSpan], solid: &[usize]) -> Vec<bool> {
    let (mut depth, mut within) = (0usize, Vec::with_capacity(solid.len()));
    for (place, at) in solid.iter().enumerate() {
        let opens = tokens[*at].token == Token::Lt
            && place > 0
            && ["STRUCT", "ROW", "ARRAY", "MAP"].iter().any(|word| is_word(&tokens[solid[place - 1]], word));
        within.push(depth > 0);
        match tokens[*at].token {
            Token::Lt if opens => depth += 1,
            Token::Gt => depth = depth.saturating_sub(1),
            Token::ShiftRight => depth = depth.saturating_sub(2),
            Token::SemiColon => depth = 0,
            _ => {}
        }
    }
    within
}

/// Fields and items may always be NULL here: a NULL or NOT NULL of theirs says nothing.
fn not_nulls(tokens: &mut [TokenWithSpan], solid: &[usize]) {
    let within = within_angles(tokens, solid);
    for (at, _) in solid.iter().zip(within).filter(|(_, within)| *within) {
        if is_word(&tokens[*at], "NOT") || is_word(&tokens[*at], "NULL") {
            tokens[*at].token = Token::Whitespace(Whitespace::Space);
        }
    }
}

/// `INTERVAL 5 MINUTES` is one of `MINUTE`, `INTERVAL -'1' DAY` the negative of `INTERVAL '1' DAY`.
fn intervals(tokens: &mut [TokenWithSpan], solid: &[usize]) {
    for (place, at) in solid.iter().enumerate() {
        if !is_word(&tokens[*at], "INTERVAL") {
            continue;
        }
        let mut rest = solid[place + 1..].iter().copied().peekable();
        if let Some(sign) = rest.next_if(|at| matches!(tokens[*at].token, Token::Minus)) {
            tokens.swap(*at, sign);
            let (one, other) = (tokens[*at].span, tokens[sign].span);
            (tokens[*at].span, tokens[sign].span) = (other, one);
        }
        let length = rest.next_if(|at| matches!(tokens[*at].token, Token::SingleQuotedString(_) | Token::Number(..)));
        if let Some(at) = length
            && let Token::Number(number, _) = &tokens[at].token
        {
            tokens[at].token = Token::SingleQuotedString(number.clone());
        }
        for _ in 0..2 {
            let Some(unit) = rest.peek().copied() else { break };
            let Some(written) = word(&tokens[unit]) else { break };
            if let Some(singular) = written.strip_suffix('S').filter(|singular| UNITS.contains(singular)) {
                tokens[unit].token = keyword(singular);
            } else if !UNITS.contains(&written.as_str()) {
                break;
            }
            rest.next();
            if rest.next_if(|at| is_word(&tokens[*at], "TO")).is_none() {
                break;
            }
        }
    }
}

/// `INT ARRAY` becomes `INT []`.
fn arrays(tokens: Vec<TokenWithSpan>, solid: &[usize], is_type: impl Fn(&TokenWithSpan) -> bool) -> Vec<TokenWithSpan> {
    let mut suffixes: HashSet<usize> = HashSet::new();
    let mut after = vec![false; solid.len()];
    let mut angles = 0usize;
    let mut opened: Vec<bool> = Vec::new();
    for (place, at) in solid.iter().enumerate() {
        let before = place.checked_sub(1).map(|before| &tokens[solid[before]]);
        // Whether a type may end here.
        after[place] = match &tokens[*at].token {
            Token::LParen => {
                opened.push(before.is_some_and(&is_type));
                false
            }
            Token::RParen => opened.pop().unwrap_or(false),
            Token::Lt if before.is_some_and(|word| ["STRUCT", "ROW", "ARRAY", "MAP"].iter().any(|name| is_word(word, name))) => {
                angles += 1;
                false
            }
            Token::Gt if angles > 0 => {
                angles -= 1;
                true
            }
            Token::ShiftRight if angles > 1 => {
                angles -= 2;
                true
            }
            Token::RBracket => place > 0,
            _ => is_type(&tokens[*at]),
        };
        let ends = solid.get(place + 1).is_none_or(|next| ends_type(&tokens[*next]));
        if is_word(&tokens[*at], "ARRAY") && place > 0 && after[place - 1] && ends {
            suffixes.insert(*at);
            after[place] = true;
        }
    }
    if suffixes.is_empty() {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + suffixes.len());
    for (index, token) in tokens.into_iter().enumerate() {
        if suffixes.contains(&index) {
            out.push(TokenWithSpan { token: Token::LBracket, span: token.span });
            out.push(TokenWithSpan { token: Token::RBracket, span: token.span });
        } else {
            out.push(token);
        }
    }
    out
}

/// Whether a token may stand behind a type.
fn ends_type(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Comma | Token::RParen | Token::Gt | Token::ShiftRight | Token::SemiColon | Token::EOF => true,
        _ => word(token).is_some_and(|word| {
            ["NOT", "NULL", "DEFAULT", "LATENESS", "PRIMARY", "ARRAY", "AS", "INTERNED", "COMMENT"].contains(&word.as_str())
        }),
    }
}
