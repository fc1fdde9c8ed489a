//! `LIKE relation (INCLUDING ... EXCLUDING ...)` behind a table.

use super::statement::{LikeClause, Part};
use super::{JobParser, quoted};
use crate::diagnose::{Result, error, from_parser, place};
use highwater_plan::Span;
use sqlparser::tokenizer::Token;

const ALL: [(&str, Part); 5] = [
    ("CONSTRAINTS", Part::Constraints),
    ("GENERATED", Part::Generated),
    ("OPTIONS", Part::Options),
    ("PARTITIONS", Part::Partitions),
    ("WATERMARKS", Part::Watermarks),
];

impl JobParser<'_> {
    /// The clause, from behind LIKE on.
    pub(super) fn like(&mut self) -> Result<LikeClause> {
        let start = place(self.parser.get_current_token().span).start;
        let name = self.parser.parse_object_name(false).map_err(from_parser)?;
        let mut parts: Vec<Part> = ALL.iter().map(|(_, part)| *part).collect();
        if self.parser.consume_token(&Token::LParen) {
            while !self.parser.consume_token(&Token::RParen) {
                let included = self.word("INCLUDING") || self.word("OVERWRITING");
                if !included && !self.word("EXCLUDING") {
                    return Err(self.strange("INCLUDING, EXCLUDING or OVERWRITING"));
                }
                let token = self.parser.next_token();
                let word = token.to_string().to_uppercase();
                let named: Vec<Part> = match word.as_str() {
                    "ALL" => ALL.iter().map(|(_, part)| *part).collect(),
                    // There is nothing of the kind to take over.
                    "METADATA" | "DISTRIBUTION" => Vec::new(),
                    word => match ALL.iter().find(|(name, _)| *name == word) {
                        Some((_, part)) => vec![*part],
                        None => {
                            let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
                            return Err(error("syntax", format!("expected a part of a table, found {}", quoted(&token)))
                                .at(self.place_of(&token))
                                .help(format!("parts are ALL, {}", names.join(", "))));
                        }
                    },
                };
                parts.retain(|part| !named.contains(part));
                if included {
                    parts.extend(named);
                }
            }
        }
        let end = place(self.parser.get_current_token().span).end;
        Ok(LikeClause { name, parts, span: Span { start, end } })
    }

    fn strange(&self, expected: &str) -> crate::diagnose::Failure {
        let token = self.parser.peek_token();
        error("syntax", format!("expected {expected}, found {}", quoted(&token))).at(self.place_of(&token))
    }
}
