//! Recursive queries: at every epoch, steps from nothing until one changes nothing.

use std::cell::{Cell, RefCell};

use highwater_plan::{AtLimit, Job, Op, Recursion};

use super::{Context, Evaluated, Unfit, evaluate_node};
use crate::multiset::Multiset;

/// Steps that are tried.
const STEPS_MAX: u64 = 300;

/// How often a row may be there: what is counted on has room for more.
const DIFF_MAX: i64 = 1 << 20;

/// The content of a binding after each epoch.
pub(super) fn content(
    context: &Context<'_>,
    recursion: &Recursion,
    output: usize,
    inputs: &[&Vec<Multiset>],
) -> Result<Evaluated, Unfit> {
    // The body as a job of its own, looked at in one epoch.
    let job = Job { plan: recursion.body.clone(), ..context.job.clone() };
    let mut evaluated = Evaluated::of(Vec::new());
    for epoch in 0..context.epochs {
        let entries: Vec<&Multiset> = inputs.iter().map(|input| &input[epoch]).collect();
        let step = Context {
            job: &job,
            history: context.history,
            epochs: 1,
            times: vec![context.times[epoch]],
            watermarks: vec![context.watermarks[epoch].clone()],
            at: Cell::default(),
            allowed: RefCell::default(),
        };
        let (content, errors) = fixpoint(&step, recursion, &entries)?;
        evaluated.content.push(content[output].clone());
        evaluated.errors.push(errors);
        evaluated.late.push(0);
    }
    Ok(evaluated)
}

/// What the bindings hold when a step changes nothing, and how many rows fail in that step.
fn fixpoint(step: &Context<'_>, recursion: &Recursion, entries: &[&Multiset]) -> Result<(Vec<Multiset>, i64), Unfit> {
    let mut bindings = vec![Multiset::default(); recursion.bindings.len()];
    for number in 1.. {
        let mut nodes: Vec<Evaluated> = Vec::new();
        for (id, node) in recursion.body.nodes.iter().enumerate() {
            let evaluated = match node.op {
                Op::Entry(entry) => Evaluated::of(vec![entries[entry].clone()]),
                Op::Binding(binding) => Evaluated::of(vec![bindings[binding].clone()]),
                _ => evaluate_node(step, id, &nodes)?,
            };
            nodes.push(evaluated);
        }
        let next: Vec<Multiset> = recursion.bindings.iter().map(|binding| nodes[binding.root].content[0].clone()).collect();
        let settled = next == bindings;
        bindings = next;
        if settled || (number == recursion.limit && recursion.at_limit == AtLimit::Return) {
            return Ok((bindings, nodes.iter().map(|node| node.errors[0]).sum()));
        }
        if number >= STEPS_MAX || bindings.iter().any(|rows| rows.iter().any(|(_, diff)| diff.abs() > DIFF_MAX)) {
            return Err(Unfit::TooLarge);
        }
    }
    unreachable!("the steps are numbered without end")
}
