//! The token vector: the one place where spelling is changed before parsing, with every place kept.

mod asof;
mod flink;
mod types;

use highwater_plan::Span;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};

use crate::diagnose::{Result, error, place};
pub(super) use flink::hints;

/// `ROW <a BIGINT, ..>` becomes `STRUCT <..>`, which sqlparser knows. The WITH of `WITH (..)` is no keyword: behind a FROM
/// sqlparser would read the options of a sink as hints for the table; nor is a TOP without a number.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut tokens = types::rewrite(tokens);
    flink::rewrite(&mut tokens);
    let solid: Vec<usize> = (0..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_))).collect();
    asof::rewrite(&mut tokens, &solid);
    for pair in solid.windows(2) {
        if is_word(&tokens[pair[0]], "ROW") && tokens[pair[1]].token == Token::Lt {
            tokens[pair[0]].token = Token::Word(Word { value: "STRUCT".into(), quote_style: None, keyword: Keyword::STRUCT });
        }
        // `SELECT top FROM t`: a column's name, unless a number follows.
        if is_word(&tokens[pair[0]], "TOP")
            && !matches!(tokens[pair[1]].token, Token::Number(..) | Token::LParen)
            && let Token::Word(word) = &mut tokens[pair[0]].token
        {
            word.keyword = Keyword::NoKeyword;
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

/// Takes `EXCLUDE NO OTHERS` out of frames, which is what they are without it; the other exclusions are errors.
pub(super) fn exclusions(tokens: &mut [TokenWithSpan]) -> Result<()> {
    let solid: Vec<usize> = (0..tokens.len()).filter(|index| is_solid(&tokens[*index])).collect();
    for three in solid.windows(3) {
        let (exclude, what, rest) = (&tokens[three[0]], &tokens[three[1]], &tokens[three[2]]);
        let closes = |token: &TokenWithSpan| token.token == Token::RParen;
        if !is_word(exclude, "EXCLUDE") {
            continue;
        }
        if is_word(what, "NO") && is_word(rest, "OTHERS") {
            for index in three {
                tokens[*index].token = Token::Whitespace(sqlparser::tokenizer::Whitespace::Space);
            }
        } else if (is_word(what, "CURRENT") && is_word(rest, "ROW"))
            || (closes(rest) && (is_word(what, "GROUP") || is_word(what, "TIES")))
        {
            return Err(error(
                "not-supported",
                format!("EXCLUDE {} in a frame is not supported", what.to_string().to_uppercase()),
            )
            .at(place(exclude.span))
            .help("take two frames, one that ends before the row and one that begins after it"));
        }
    }
    Ok(())
}

/// RisingWave's `WITH c AS CHANGELOG FROM t`, changes as rows, is refused.
pub(super) fn changelogs(tokens: &[TokenWithSpan]) -> Result<()> {
    let solid: Vec<&TokenWithSpan> = tokens.iter().filter(|token| is_solid(token)).collect();
    let found = solid.windows(5).find(|five| {
        let words = [(0, "WITH"), (2, "AS"), (3, "CHANGELOG"), (4, "FROM")];
        words.iter().all(|(index, word)| is_word(five[*index], word))
    });
    let Some(five) = found else { return Ok(()) };
    Err(error("not-supported", "AS CHANGELOG is not supported: a query reads rows, not the changes of them")
        .at(place(five[3].span))
        .help("GET /v1/views/{view}/changes gives the changes, and so does a sink with format = 'debezium'"))
}

/// `WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 10) a ...` becomes `WITH RECURSIVE "..." AS (SELECT 10, 'return'), a ...`:
/// a first table that holds the options.
pub(super) fn mutual(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if !is_word(&token, "MUTUALLY")
            || !out.iter().rev().find(|token| is_solid(token)).is_some_and(|with| is_word(with, "WITH"))
        {
            out.push(token);
            continue;
        }
        let span = token.span;
        let mut made: Vec<Token> = vec![Token::make_keyword("RECURSIVE"), Token::make_word(MUTUALLY, Some('"'))];
        made.extend([Token::make_keyword("AS"), Token::LParen, Token::make_keyword("SELECT")]);
        let mut next = || rest.find(is_solid);
        let recursive = next();
        let mut first = next();
        let mut number = "0".to_string();
        let mut returns = false;
        if first.as_ref().is_some_and(|token| token.token == Token::LParen) {
            while let Some(token) = next() {
                match &token.token {
                    Token::RParen => break,
                    Token::Number(digits, _) => number.clone_from(digits),
                    _ => returns |= is_word(&token, "RETURN"),
                }
            }
            first = next();
        }
        made.push(Token::Number(number, false));
        if returns {
            made.extend([Token::Comma, Token::SingleQuotedString("return".into())]);
        }
        made.extend([Token::RParen, Token::Comma]);
        // Without RECURSIVE the text stays as wrong as it is.
        if recursive.as_ref().is_some_and(|token| is_word(token, "RECURSIVE")) {
            out.extend(made.into_iter().map(|token| TokenWithSpan { token, span }));
        } else {
            out.push(token);
            out.extend(recursive);
        }
        out.extend(first);
    }
    out
}

fn is_solid(token: &TokenWithSpan) -> bool {
    !matches!(token.token, Token::Whitespace(_))
}

/// The name of the table that holds the options of `WITH MUTUALLY RECURSIVE`.
pub(crate) const MUTUALLY: &str = "(mutually recursive)";

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
