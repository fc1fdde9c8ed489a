//! `ASOF [LEFT] JOIN`, or `LEFT ASOF JOIN`, which sqlparser knows only as Snowflake writes it.
//!
//! ASOF becomes the word GLOBAL, which sqlparser allows in front of every kind of join and keeps in the tree; it means
//! nothing here, so the word is taken from those who write it themselves. `MATCH_CONDITION (a) ON b` becomes `ON (a) AND b`:
//! then all spellings are one.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::is_word;

/// Rewrites all `ASOF` joins; `solid` are the positions of tokens that are not white space.
pub(super) fn rewrite(tokens: &mut [TokenWithSpan], solid: &[usize]) {
    for (place, at) in solid.iter().enumerate() {
        if let Token::Word(word) = &mut tokens[*at].token
            && word.keyword == Keyword::GLOBAL
        {
            word.keyword = Keyword::NoKeyword;
        }
        if !is_word(&tokens[*at], "ASOF") {
            continue;
        }
        let rest = &solid[place + 1..];
        let kinds = rest.iter().take_while(|at| ["LEFT", "OUTER", "INNER"].iter().any(|word| is_word(&tokens[**at], word)));
        let kinds = kinds.count();
        if !rest.get(kinds).is_some_and(|at| is_word(&tokens[*at], "JOIN")) {
            continue;
        }
        tokens[*at].token = word("GLOBAL", Keyword::GLOBAL);
        // `LEFT ASOF JOIN` is Calcite's order of the words.
        if let Some(before) = place.checked_sub(1).map(|before| solid[before])
            && is_word(&tokens[before], "LEFT")
        {
            let left = std::mem::replace(&mut tokens[before].token, word("GLOBAL", Keyword::GLOBAL));
            tokens[*at].token = left;
        }
        match_condition(tokens, &rest[kinds + 1..]);
    }
}

/// Rewrites the match condition of the join that `rest` follows, if it has one.
fn match_condition(tokens: &mut [TokenWithSpan], rest: &[usize]) {
    let mut depth = 0;
    for (place, at) in rest.iter().enumerate() {
        match &tokens[*at].token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return,
            Token::RParen => depth -= 1,
            Token::SemiColon => return,
            Token::Comma if depth == 0 => return,
            Token::Word(_) if depth == 0 && is_word(&tokens[*at], "MATCH_CONDITION") => {
                tokens[*at].token = word("ON", Keyword::ON);
                return conjunction(tokens, &rest[place + 1..]);
            }
            Token::Word(found) if depth == 0 => match found.keyword {
                Keyword::ON | Keyword::USING | Keyword::WHERE | Keyword::JOIN | Keyword::GROUP | Keyword::UNION => return,
                _ => {}
            },
            _ => {}
        }
    }
}

/// Makes the ON behind a parenthesised condition an AND.
fn conjunction(tokens: &mut [TokenWithSpan], rest: &[usize]) {
    let mut depth = 0;
    for (place, at) in rest.iter().enumerate() {
        match &tokens[*at].token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            if let Some(next) = rest.get(place + 1).filter(|next| is_word(&tokens[**next], "ON")) {
                tokens[*next].token = word("AND", Keyword::AND);
            }
            return;
        }
    }
}

fn word(value: &str, keyword: Keyword) -> Token {
    Token::Word(Word { value: value.into(), quote_style: None, keyword })
}
