//! `NOW()` in the syntax tree: where it may stand, and the error about where it may not.

use std::ops::ControlFlow;

use highwater_plan::Span;
use sqlparser::ast::{Expr, Query, Spanned, Visit, Visitor};

use crate::diagnose::{Failure, error, is_clock, known_place};

/// The error about `NOW()` where it cannot be maintained; `why` is the particular reason.
pub(crate) fn changing(why: &str, place: Option<Span>) -> Failure {
    let message = format!("NOW() changes with time, so the result would have to be updated without any input change: {why}");
    error("changing-function", message).at(place).help(
        "use it only in a temporal filter, which compares it by <, <=, >, >=, = or BETWEEN: \
         WHERE ts > NOW() - INTERVAL '1' HOUR; the time when a row came is PROCTIME()",
    )
}

/// Refuses the clock in an expression that is a value of rows; its subqueries are looked at by themselves.
pub(super) fn refuse(expr: &Expr, what: &str) -> Result<(), Failure> {
    match expr.visit(&mut Finder { queries: 0 }) {
        ControlFlow::Break(place) => Err(changing(what, place)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Finds the first call that reads the clock outside of subqueries.
struct Finder {
    queries: usize,
}

impl Visitor for Finder {
    type Break = Option<Span>;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Option<Span>> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Option<Span>> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Option<Span>> {
        match expr {
            Expr::Function(function) if self.queries == 0 && is_clock(&function.name.to_string().to_lowercase()) => {
                ControlFlow::Break(known_place(function.name.span()))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
