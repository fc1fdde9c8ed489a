//! The token vector: the one place where spelling is changed before parsing, with every place kept.

mod asof;

use highwater_plan::Span;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};

use crate::diagnose::place;

/// `ROW <a BIGINT, ..>` becomes `STRUCT <..>`, which sqlparser knows. The WITH of `WITH (..)` is no keyword: behind a FROM
/// sqlparser would read the options of a sink as hints for the table.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let solid: Vec<usize> = (0..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_))).collect();
    asof::rewrite(&mut tokens, &solid);
    for pair in solid.windows(2) {
        if is_word(&tokens[pair[0]], "ROW") && tokens[pair[1]].token == Token::Lt {
            tokens[pair[0]].token = Token::Word(Word { value: "STRUCT".into(), quote_style: None, keyword: Keyword::STRUCT });
        }
        if is_word(&tokens[pair[0]], "WITH")
            && tokens[pair[1]].token == Token::LParen
            && let Token::Word(word) = &mut tokens[pair[0]].token
        {
            word.keyword = Keyword::NoKeyword;
        }
    }
    tokens
}

/// Whether a token is this word, unquoted.
pub(super) fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Where the text's last token stands.
pub(super) fn last_place(tokens: &[TokenWithSpan]) -> Span {
    let last = tokens.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    match last {
        Some(token) => place(token.span),
        None => place(sqlparser::tokenizer::Span::new(Location::new(1, 1), Location::new(1, 2))),
    }
}

/// sqlparser's message in the house's style: lower case, no "Expected:".
pub(crate) fn friendly(message: &str) -> String {
    let message = message
        .trim()
        .trim_end_matches('.')
        .replace("Expected: ", "expected ")
        .replace(", found: EOF", ", found the end of the text");
    let message = match message.split_once(", found: ") {
        Some((expected, found)) => format!("{expected}, found '{found}'"),
        None => message,
    };
    let mut chars = message.chars();
    match chars.next() {
        Some(first) if !message.chars().nth(1).is_some_and(char::is_uppercase) => first.to_lowercase().chain(chars).collect(),
        _ => message,
    }
}
