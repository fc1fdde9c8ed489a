//! Recursive queries.

use std::sync::Arc;

use differential_dataflow::operators::iterate::Variable;
use highwater_plan::{Node, NodeId, Op, Recursion};
use timely::order::Product;

use super::Renderer;
use crate::Diff;
use crate::operator::DeltaStream;
use crate::operator::map::Mapper;
use crate::operator::recursion::entry::saved;
use crate::operator::recursion::keyed::{aggregate, distinct, join};
use crate::operator::recursion::limit::limited;
use crate::operator::recursion::rows::{Codec, decoded, encoded, mapped};
use crate::operator::recursion::{Held, Row, Rows, Step};

/// A recursion that was rendered.
pub(super) struct Recursed<'scope> {
    recursion: Arc<Recursion>,
    inputs: Vec<NodeId>,
    /// Per binding.
    outputs: Vec<DeltaStream<'scope>>,
}

impl<'scope> Renderer<'scope, '_> {
    pub(super) fn recursion(
        &mut self,
        id: NodeId,
        node: &Node,
        recursion: &Arc<Recursion>,
        output: usize,
    ) -> DeltaStream<'scope> {
        let known = |known: &&Recursed<'scope>| Arc::ptr_eq(&known.recursion, recursion) && known.inputs == node.inputs;
        if let Some(known) = self.recursions.iter().find(known) {
            return known.outputs[output].clone();
        }
        let outputs = self.recursed(id, node, recursion);
        let stream = outputs[output].clone();
        self.recursions.push(Recursed { recursion: Arc::clone(recursion), inputs: node.inputs.clone(), outputs });
        stream
    }

    fn recursed(&mut self, id: NodeId, node: &Node, recursion: &Arc<Recursion>) -> Vec<DeltaStream<'scope>> {
        let job = Arc::clone(&self.shared.job);
        let entering = node.inputs.iter().enumerate().map(|(place, input)| {
            let schema = &job.plan.nodes[*input].schema;
            let stats = self.stats(id, format!("recursive input {place}"));
            encoded(saved(self.stream(*input), schema.fields().len(), stats), Codec::new(schema))
        });
        let entering: Vec<_> = entering.collect();
        let held = Held::default();
        let outer = self.scope;
        let this = &*self;
        let left = outer.iterative::<u64, _, _>(|inner| {
            let step = Product::new(Default::default(), 1);
            let (variables, bindings): (Vec<_>, Vec<Rows<'_>>) =
                recursion.bindings.iter().map(|_| Variable::new(inner, step)).unzip();
            let entered: Vec<Rows<'_>> = entering.into_iter().map(|rows| rows.enter(inner)).collect();
            let mut nodes: Vec<Rows<'_>> = Vec::new();
            for (position, node) in recursion.body.nodes.iter().enumerate() {
                let input = |place: usize| nodes[node.inputs[place]].clone();
                let schema = |place: usize| &recursion.body.nodes[node.inputs[place]].schema;
                let codec = || Codec::new(&node.schema);
                let stats = |name: &str| this.stats(id, format!("recursive {name}"));
                let rows = match &node.op {
                    Op::Entry(entry) => entered[*entry].clone(),
                    Op::Binding(binding) => bindings[*binding].clone(),
                    Op::Map(map) => {
                        let mapper = Mapper::new(map.clone(), Arc::clone(&node.schema), this.errors(id, "recursive map"));
                        let from = Codec::new(schema(0));
                        let decode = move |rows: &[(Row, Step, Diff)]| {
                            from.batch(from.columns(rows.iter().map(|(row, _, _)| &row[..])), rows.len())
                        };
                        mapped(input(0), decode, mapper, codec(), stats("map"))
                    }
                    Op::Join(declared) => {
                        let errors = this.errors(id, "recursive join");
                        let mapper = Mapper::new(declared.map.clone(), Arc::clone(&node.schema), errors);
                        let schemas = [schema(0), schema(1)];
                        join([input(0), input(1)], declared, schemas, mapper, codec(), stats("join"), &held)
                    }
                    Op::Union => {
                        let inputs: Vec<Rows<'_>> = (0..node.inputs.len()).map(input).collect();
                        let mut inputs = inputs.into_iter();
                        let first = inputs.next().expect("a union has inputs");
                        first.concatenate(inputs)
                    }
                    Op::Aggregate(declared) if is_distinct(&recursion.body, position) => {
                        debug_assert!(declared.calls.is_empty(), "a distinct has no aggregates");
                        distinct(input(0), &held)
                    }
                    Op::Aggregate(declared) => {
                        aggregate(input(0), declared, schema(0), codec(), this.fail(), stats("aggregate"), &held)
                    }
                    _ => unreachable!("planners put nothing else into the body of a recursion"),
                };
                nodes.push(rows);
            }
            let mut left = Vec::new();
            for (binding, variable) in recursion.bindings.iter().zip(variables) {
                let rows = nodes[binding.root].clone();
                // Changes that cancel would go round for ever.
                let settled = if is_settled(&recursion.body, binding.root) { rows } else { rows.consolidate() };
                let rows = limited(settled, recursion, &binding.name, this.fail());
                variable.set(rows.clone());
                left.push(rows.leave(outer));
            }
            left
        });
        let outputs = left.into_iter().zip(&recursion.bindings).map(|(rows, binding)| {
            let stats = self.stats(id, format!("recursive query {}", binding.name));
            decoded(rows, Codec::new(&binding.schema), Arc::clone(&binding.schema), stats, held.clone())
        });
        outputs.collect()
    }
}

/// Whether a grouping gives whole rows once each.
fn is_distinct(body: &highwater_plan::Plan, node: NodeId) -> bool {
    let Op::Aggregate(aggregate) = &body.nodes[node].op else { return false };
    let width = body.nodes[body.nodes[node].inputs[0]].schema.fields().len();
    aggregate.calls.is_empty() && aggregate.keys.iter().copied().eq(0..width)
}

/// Whether an operator gives each change once.
fn is_settled(body: &highwater_plan::Plan, node: NodeId) -> bool {
    matches!(body.nodes[node].op, Op::Aggregate(_))
}
