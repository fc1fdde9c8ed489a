//! How deep and how large a statement may be.
//!
//! Parser and planner walk trees by recursion, and a stack overflow cannot be caught; rules of the planner that look at all
//! below a node take the square of a chain's length. So a chain of `AND` or `OR`, which is as deep as it is long, becomes a
//! balanced tree of the same order, and everything else that is nested has a bound.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Query, Select, SetExpr, Spanned, VisitMut, VisitorMut};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::is_word;
use crate::diagnose::{Failure, Result, error, known_place, place};

/// Brackets and CASEs within each other; the parser tries several readings of each.
const NESTED: usize = 48;
/// Expressions within each other, as in `a + b + c + ..`: so many calls stand on the stack of a worker.
const DEPTH: usize = 200;
/// Queries of one chain of set operations.
const BRANCHES: usize = 500;
/// Relations of one FROM.
const RELATIONS: usize = 200;
/// Tokens of a text.
const TOKENS: usize = 1_000_000;
/// Expressions of a statement.
const EXPRESSIONS: usize = 500_000;

/// Errors: brackets that are nested too deeply, a text that is too long.
pub(super) fn of_tokens(tokens: &[TokenWithSpan]) -> Result<()> {
    let (mut open, mut negations) = (0_usize, 0_usize);
    for (index, token) in tokens.iter().enumerate() {
        if index == TOKENS {
            return Err(error("too-large", format!("the text has more than {TOKENS} words and signs"))
                .at(place(token.span))
                .help("send rows to a table when the job runs, and write a query over them"));
        }
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::SemiColon => open = 0,
            Token::LParen | Token::LBracket => open += 1,
            Token::RParen | Token::RBracket => open = open.saturating_sub(1),
            _ if is_word(token, "CASE") => open += 1,
            _ if is_word(token, "END") => open = open.saturating_sub(1),
            _ => {}
        }
        negations = if is_word(token, "NOT") { negations + 1 } else { 0 };
        if open > NESTED || negations > NESTED {
            return Err(too_deep(NESTED).at(place(token.span)));
        }
    }
    Ok(())
}

fn too_deep(levels: usize) -> Failure {
    error("too-deep", format!("the expression is nested more than {levels} levels deep")).help("split it over several views")
}

/// Balances chains of `AND` and `OR`. Errors: what stays deeper than it may be, or is too large.
pub(super) fn of_tree(tree: &mut impl VisitMut) -> Result<()> {
    match VisitMut::visit(tree, &mut Bounds::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(failure) => Err(failure),
    }
}

#[derive(Default)]
struct Bounds {
    depth: usize,
    expressions: usize,
}

impl VisitorMut for Bounds {
    type Break = Failure;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Failure> {
        let (mut branches, mut body) = (1, query.body.as_ref());
        while let SetExpr::SetOperation { left, .. } = body {
            branches += 1;
            body = left;
        }
        if branches > BRANCHES {
            let message = format!("{branches} queries are one set operation, at most {BRANCHES} can be planned");
            return ControlFlow::Break(error("too-large", message).at(first_place(body)).help("split them over several views"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Failure> {
        let relations: usize = select.from.iter().map(|table| 1 + table.joins.len()).sum();
        match select.from.first() {
            Some(table) if relations > RELATIONS => {
                let message = format!("{relations} relations are joined, at most {RELATIONS} can be planned");
                let place = known_place(table.relation.span());
                ControlFlow::Break(error("too-large", message).at(place).help("join them in several views"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Failure> {
        self.depth += 1;
        self.expressions += 1;
        if self.depth > DEPTH {
            let place = known_place(leftmost(expr).span());
            take_apart(expr);
            return ControlFlow::Break(too_deep(DEPTH).at(place));
        }
        if self.expressions > EXPRESSIONS {
            let message = format!("the statement has more than {EXPRESSIONS} expressions");
            let place = known_place(leftmost(expr).span());
            return ControlFlow::Break(error("too-large", message).at(place).help("split it over several views"));
        }
        balance(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<Failure> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Where the first query of a chain stands; only what is not deep is asked.
fn first_place(body: &SetExpr) -> Option<highwater_plan::Span> {
    match body {
        SetExpr::Select(select) => known_place(select.select_token.0.span),
        _ => None,
    }
}

/// What a chain begins with.
fn leftmost(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::BinaryOp { left, .. } => left,
            Expr::Nested(inner) | Expr::IsNull(inner) | Expr::IsNotNull(inner) | Expr::Cast { expr: inner, .. } => inner,
            Expr::UnaryOp { expr: inner, .. } => inner,
            _ => return expr,
        }
    }
}

/// Drops a chain from its end, without recursion.
fn take_apart(expr: &mut Expr) {
    let nothing = || Expr::Value(sqlparser::ast::Value::Null.with_empty_span());
    let mut rest = std::mem::replace(expr, nothing());
    loop {
        rest = match rest {
            Expr::BinaryOp { left, .. } => *left,
            Expr::Nested(inner) | Expr::IsNull(inner) | Expr::IsNotNull(inner) | Expr::Cast { expr: inner, .. } => *inner,
            Expr::UnaryOp { expr: inner, .. } => *inner,
            _ => return,
        }
    }
}

/// A chain of more than these is worth another shape.
const CHAIN: usize = 16;

/// Makes a chain of one of `AND` and `OR`, read from the left, as deep as the logarithm of its length.
fn balance(expr: &mut Expr) {
    let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = &*expr else { return };
    let op = op.clone();
    let is_link = |expr: &Expr| matches!(expr, Expr::BinaryOp { op: other, .. } if *other == op);
    let (mut length, mut first) = (1, &*expr);
    while let Expr::BinaryOp { left, .. } = first
        && is_link(first)
    {
        length += 1;
        first = left;
    }
    if length <= CHAIN {
        return;
    }
    let mut terms = VecDeque::with_capacity(length);
    let nothing = || Expr::Value(sqlparser::ast::Value::Null.with_empty_span());
    let mut rest = std::mem::replace(expr, nothing());
    loop {
        match rest {
            Expr::BinaryOp { left, op: other, right } if other == op => {
                terms.push_front(*right);
                rest = *left;
            }
            first => {
                terms.push_front(first);
                break;
            }
        }
    }
    // Neighbours are put together, level by level.
    while terms.len() > 1 {
        let mut level = VecDeque::with_capacity(terms.len() / 2 + 1);
        while let Some(left) = terms.pop_front() {
            level.push_back(match terms.pop_front() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                None => left,
            });
        }
        terms = level;
    }
    if let Some(balanced) = terms.pop_front() {
        *expr = balanced;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::expression;

    fn depth(expr: &Expr) -> usize {
        match expr {
            Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
            _ => 0,
        }
    }

    fn leaves(expr: &Expr) -> Vec<String> {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => [leaves(left), leaves(right)].concat(),
            other => vec![other.to_string()],
        }
    }

    #[test]
    fn a_long_chain_is_balanced_in_its_order() {
        let terms: Vec<String> = (0..5_000).map(|term| format!("x = {term}")).collect();
        let mut expr = expression(&terms.join(" OR ")).expect("the chain parses");
        of_tree(&mut expr).expect("a chain is not deep");
        assert_eq!(leaves(&expr), terms);
        assert_eq!(depth(&expr), 14);
    }

    #[test]
    fn a_short_chain_stays() {
        let mut expr = expression("a OR b OR c AND d").expect("the chain parses");
        let before = expr.clone();
        of_tree(&mut expr).expect("a chain is not deep");
        assert_eq!(expr, before);
    }
}
