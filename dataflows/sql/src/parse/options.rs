//! `WITH (key = value, ...)`: names plain, quoted or dotted; values strings, numbers, booleans or words.

use highwater_plan::{OptionEntry, Span};
use sqlparser::tokenizer::Token;

use super::{JobParser, quoted, unexpected};
use crate::diagnose::{Result, error, from_parser, place};

impl JobParser<'_> {
    /// The options after WITH.
    pub(super) fn options(&mut self) -> Result<Vec<OptionEntry>> {
        self.expect(&Token::LParen)?;
        let mut entries: Vec<OptionEntry> = Vec::new();
        while !self.parser.consume_token(&Token::RParen) {
            let (key, key_span) = self.option_name()?;
            self.expect(&Token::Eq)?;
            let (value, value_span) = self.option_value()?;
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                return Err(error("duplicate-option", format!("option '{key}' is given twice"))
                    .at(key_span)
                    .note("first given here", first.key_span)
                    .help("remove one of them"));
            }
            entries.push(OptionEntry { key, value, key_span: Some(key_span), value_span: Some(value_span) });
            if !self.parser.consume_token(&Token::Comma) {
                self.expect(&Token::RParen)?;
                break;
            }
        }
        Ok(entries)
    }

    /// `topic`, `'topic'`, `"topic"` or `properties.bootstrap.servers`.
    pub(super) fn option_name(&mut self) -> Result<(String, Span)> {
        let token = self.parser.next_token();
        let mut key = match &token.token {
            Token::SingleQuotedString(text) => text.clone(),
            Token::Word(word) => word.value.clone(),
            _ => return Err(unexpected(format!("expected a name, found {}", quoted(&token)), self.place_of(&token))),
        };
        let mut span = token.span;
        while self.parser.consume_token(&Token::Period) {
            let part = self.parser.parse_identifier().map_err(from_parser)?;
            span = span.union(&part.span);
            key = format!("{key}.{}", part.value);
        }
        Ok((key, place(span)))
    }

    /// A string, number, boolean or word.
    pub(super) fn option_value(&mut self) -> Result<(String, Span)> {
        let token = self.parser.next_token();
        let value = match &token.token {
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => text.clone(),
            Token::Number(number, _) => number.clone(),
            Token::Word(word) => word.value.clone(),
            Token::Minus => {
                let (number, span) = self.option_value()?;
                return Ok((format!("-{number}"), Span { start: place(token.span).start, end: span.end }));
            }
            _ => {
                let message = format!("expected a value (string, number or word), found {}", quoted(&token));
                return Err(unexpected(message, self.place_of(&token)));
            }
        };
        Ok((value, place(token.span)))
    }
}
