//! `EXECUTE STATEMENT SET BEGIN INSERT ...; INSERT ...; END;`, Flink's bracket around the INSERTs of one job.
//!
//! All statements of a text are one job here, so the bracket says nothing; it is only checked.

use highwater_plan::Span;

use super::JobParser;
use super::tokens::is_word;
use crate::diagnose::{Result, error, place};

impl JobParser<'_> {
    /// Takes the begin or the end of a statement set if one stands here.
    pub(super) fn statement_set(&mut self) -> Result<bool> {
        let [first, second, third, fourth] = self.parser.peek_tokens_with_location::<4>();
        let execute = is_word(&first, "EXECUTE");
        let words = if execute { [&second, &third, &fourth] } else { [&first, &second, &third] };
        let order = if execute { ["STATEMENT", "SET", "BEGIN"] } else { ["BEGIN", "STATEMENT", "SET"] };
        if words.iter().zip(order).all(|(token, word)| is_word(token, word)) {
            if let Some(before) = self.set {
                return Err(error("syntax", "a statement set cannot stand in another")
                    .at(place(first.span))
                    .note("the first begins here", Some(before)));
            }
            for _ in 0..3 + usize::from(execute) {
                self.parser.next_token();
            }
            self.set = Some(Span { start: place(first.span).start, end: place(self.parser.get_current_token().span).end });
            return Ok(true);
        }
        if self.set.is_some() && is_word(&first, "END") {
            self.parser.next_token();
            self.set = None;
            return Ok(true);
        }
        // EXECUTE INSERT INTO ... is INSERT INTO ...
        if execute && is_word(&second, "INSERT") {
            self.parser.next_token();
        }
        let token = self.parser.peek_token();
        if self.set.is_some() && !is_word(&token, "INSERT") {
            return Err(error("syntax", format!("expected INSERT INTO or END, found '{token}'"))
                .at(self.place_of(&token))
                .note("the statement set begins here", self.set)
                .help("a statement set has only INSERT statements: put others before it"));
        }
        Ok(false)
    }

    /// At the end of the text: every set has been ended.
    pub(super) fn no_open_set(&self) -> Result<()> {
        match self.set {
            None => Ok(()),
            Some(begin) => Err(error("syntax", "the statement set has no END").at(begin).help("add END; behind its last INSERT")),
        }
    }
}
