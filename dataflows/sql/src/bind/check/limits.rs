//! LIMIT, OFFSET and FETCH FIRST.

use sqlparser::ast::{Expr, LimitClause, Query, Spanned, Value};

use super::{Checker, later};
use crate::diagnose::{Construct, Result, error, known_place};

impl Checker<'_> {
    /// Limits are constant numbers; an offset needs a limit.
    pub(super) fn limits(&mut self, query: &Query) -> Result<()> {
        let (mut limit, mut skip) = (None, None);
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit: fetch, offset, limit_by }) => {
                if let Some(by) = limit_by.first() {
                    return Err(later("LIMIT BY", by.span()).help("number the rows: row_number() OVER (PARTITION BY ..) <= n"));
                }
                limit = fetch.as_ref();
                skip = offset.as_ref().map(|offset| &offset.value);
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit: fetch }) => (limit, skip) = (Some(fetch), Some(offset)),
        }
        let mut limited = limit.is_some();
        if let Some(fetch) = &query.fetch {
            let place = || fetch.quantity.as_ref().map_or_else(|| query.span(), |quantity| quantity.span());
            if fetch.percent {
                return Err(error(
                    "not-supported",
                    "FETCH FIRST n PERCENT cannot be maintained: each row changes how many that is",
                )
                .at(known_place(place()))
                .help("give a number of rows"));
            }
            if let Some(limit) = limit {
                return Err(error("syntax", "LIMIT and FETCH FIRST say the same")
                    .at(known_place(limit.span()))
                    .help("keep one of them"));
            }
            if fetch.with_ties && query.order_by.is_none() {
                return Err(error("syntax", "WITH TIES needs an ORDER BY")
                    .at(known_place(place()))
                    .help("add ORDER BY, or write ROWS ONLY"));
            }
            limit = fetch.quantity.as_ref();
            limited = true;
        }
        if let Some(skip) = skip
            && !limited
        {
            return Err(error(
                "not-supported",
                "OFFSET without LIMIT cannot be maintained: every change shifts all following rows",
            )
            .at(known_place(skip.span()))
            .help("remove it, or page when the view is read"));
        }
        for (word, count) in [("LIMIT", limit), ("OFFSET", skip)] {
            let Some(count) = count else { continue };
            number(word, count)?;
            self.places.constructs.extend(known_place(count.span()).map(|place| (Construct::Limit, place)));
        }
        Ok(())
    }
}

fn number(word: &str, count: &Expr) -> Result<()> {
    let is_number =
        matches!(count, Expr::Value(value) if matches!(&value.value, Value::Number(text, _) if text.parse::<i64>().is_ok()));
    if is_number {
        return Ok(());
    }
    Err(error("wrong-arguments", format!("{word} takes a constant number from 0 to {}", i64::MAX))
        .at(known_place(count.span()))
        .help("a number that comes from rows is a condition: row_number() OVER (ORDER BY ..) <= n"))
}
