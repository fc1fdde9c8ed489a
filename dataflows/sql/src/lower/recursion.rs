//! Recursive queries.
//!
//! While a recursion is lowered, its relations are leaves of the same graph, so that what does not depend on them is shared and
//! fused as everywhere. When the graph is finished, what does depend becomes the recursion's body, and what it reads
//! besides becomes its inputs: that is computed outside, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion_expr::{Expr, cast};
use highwater_plan::{self as plan, Emit, Grouping, JoinKind, NodeId, Plan, Properties, StateBound};

use super::Lowerer;
use super::expr::{at, volatile};
use super::finish::finished_reader;
use super::graph::{Graph, Known, Op};
use crate::bind::{BoundRecursion, Form};
use crate::diagnose::{Failure, Result, error};

/// How far the lowering of a recursion is.
#[derive(Clone)]
pub(super) enum Recursing {
    /// Not begun.
    Not,
    /// The nodes of the bindings that are lowered; the others are leaves.
    Within(Vec<NodeId>),
    /// Nodes that give the bindings.
    Done(Vec<NodeId>),
}

impl Lowerer<'_> {
    /// The rows of a relation that is defined by itself: for readers within its recursion, those of the step before, or of
    /// this step if they are computed before the reader.
    pub(super) fn binding(&mut self, recursion: usize, binding: usize) -> Result<NodeId> {
        match &self.recursions[recursion] {
            Recursing::Done(nodes) => return Ok(nodes[binding]),
            Recursing::Within(roots) => {
                return match roots.get(binding) {
                    Some(root) => Ok(*root),
                    None => self.leaf(recursion, binding),
                };
            }
            Recursing::Not => {}
        }
        let bound = self.bound.recursions[recursion].as_ref().expect("statements that read it are bound after it");
        self.recursions[recursion] = Recursing::Within(Vec::new());
        for bound in &bound.bindings {
            let node = self.query(&bound.query, Emit::Changes)?;
            let root = self.with_declared_types(node, &bound.schema)?;
            if let Recursing::Within(roots) = &mut self.recursions[recursion] {
                roots.push(root);
            }
        }
        let Recursing::Within(roots) = self.recursions[recursion].clone() else { unreachable!("it was begun above") };
        self.check_body(recursion, bound, &roots)?;
        let mut nodes = Vec::new();
        for (output, root) in roots.iter().enumerate() {
            let node = &self.graph.nodes[*root];
            let distinct = matches!(&node.op, Op::Aggregate(aggregate) if aggregate.calls.is_empty());
            let known = Known {
                append_only: roots.iter().all(|root| self.graph.nodes[*root].known.append_only),
                time: vec![None; bound.bindings[output].schema.fields().len()],
                keys: node.known.keys.clone(),
                state: if distinct { StateBound::Keys } else { StateBound::Unbounded },
            };
            let schema = Arc::clone(&bound.bindings[output].schema);
            let op = Op::Recursion { recursion, output };
            nodes.push(self.graph.add(op, roots.clone(), schema, known, bound.span)?);
        }
        self.recursions[recursion] = Recursing::Done(nodes.clone());
        Ok(nodes[binding])
    }

    fn leaf(&mut self, recursion: usize, binding: usize) -> Result<NodeId> {
        let bound = self.bound.recursions[recursion].as_ref().expect("it is being lowered");
        let schema = Arc::clone(&bound.bindings[binding].schema);
        // It is what it is defined by: if that only ever gives rows, given that this does, then both do.
        let known =
            Known { append_only: true, time: vec![None; schema.fields().len()], keys: Vec::new(), state: StateBound::Stateless };
        self.graph.add(Op::Binding { recursion, binding }, Vec::new(), schema, known, bound.span)
    }

    fn with_declared_types(&mut self, node: NodeId, declared: &arrow::datatypes::Schema) -> Result<NodeId> {
        let schema = Arc::clone(&self.graph.nodes[node].schema);
        let same = |index: usize| schema.field(index).data_type() == declared.field(index).data_type();
        if (0..schema.fields().len()).all(same) {
            return Ok(node);
        }
        let value =
            |index: usize| if same(index) { at(index) } else { cast(at(index), declared.field(index).data_type().clone()) };
        self.project(node, (0..schema.fields().len()).map(value).collect(), &super::names_of(declared))
    }

    /// Whether all that depends on the recursion can be maintained in it.
    fn check_body(&self, recursion: usize, bound: &BoundRecursion, roots: &[NodeId]) -> Result<()> {
        let dependencies = dependencies(&self.graph, roots);
        let name = &bound.bindings[0].name;
        let refuse = |what: &str, node: NodeId| -> Failure {
            error(
                "recursion-not-supported",
                format!("{what} of what recursive query '{name}' gives cannot be maintained inside it"),
            )
            .at(self.graph.nodes[node].span.or(bound.span))
            .help("do it outside: in the query that reads the recursive one")
        };
        let only_mutual = |what: &str, node: NodeId| {
            refuse(what, node).help(
                "do it outside, or write WITH MUTUALLY RECURSIVE, which computes all of the relation anew in each step until \
                 nothing changes",
            )
        };
        for (id, on) in dependencies.iter().filter(|(_, on)| on.contains(&recursion)) {
            let node = &self.graph.nodes[*id];
            let depends = |place: usize| dependencies[&node.inputs[place]].contains(&recursion);
            if on.len() > 1 {
                return Err(refuse("a recursion", *id));
            }
            let exprs: Vec<&Expr> = match &node.op {
                Op::Map(map) => map.filters.iter().chain(map.exprs.iter().flatten()).collect(),
                Op::Join(join) => join.map.filters.iter().chain(join.map.exprs.iter().flatten()).collect(),
                _ => Vec::new(),
            };
            if let Some(function) = exprs.iter().find_map(|expr| volatile(expr)) {
                return Err(refuse(&format!("{function}()"), *id));
            }
            match &node.op {
                Op::Binding { .. } | Op::Map(_) | Op::Union => {}
                Op::Join(join) => {
                    let negates = join.kind != JoinKind::Inner && (join.kind != JoinKind::Semi || join.nulls_equal);
                    if !matches!(join.kind, JoinKind::Inner | JoinKind::Semi | JoinKind::Anti)
                        || !join.residual.is_empty()
                        || join.window.is_some()
                        || join.interval.is_some()
                    {
                        return Err(refuse("this kind of join", *id));
                    }
                    if negates && bound.form != Form::Mutual {
                        return Err(only_mutual("the absence", *id));
                    }
                    if bound.form == Form::UnionAll && depends(0) && depends(1) {
                        return Err(refuse("with UNION ALL, a join with itself", *id).help("write UNION"));
                    }
                }
                Op::Aggregate(aggregate) if aggregate.grouping == Grouping::Keys => {
                    if aggregate.calls.is_empty() {
                        if bound.form == Form::UnionAll {
                            return Err(refuse("with UNION ALL, the distinct rows", *id).help("write UNION"));
                        }
                    } else if bound.form != Form::Mutual {
                        return Err(only_mutual("an aggregate", *id));
                    } else if aggregate.keys.is_empty() {
                        return Err(refuse("an aggregate without GROUP BY", *id)
                            .help("group by a constant column: a group without rows is none"));
                    }
                }
                _ => return Err(refuse("this construct", *id)),
            }
        }
        Ok(())
    }
}

/// Per node at or above `roots`: the recursions within which it is computed.
pub(super) fn dependencies(graph: &Graph, roots: &[NodeId]) -> BTreeMap<NodeId, BTreeSet<usize>> {
    let mut all: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
    for id in graph.upstream(roots.iter().copied()) {
        let node = &graph.nodes[id];
        let mut on: BTreeSet<usize> = node.inputs.iter().flat_map(|input| all[input].iter().copied()).collect();
        match node.op {
            Op::Binding { recursion, .. } => drop(on.insert(recursion)),
            Op::Recursion { recursion, .. } => drop(on.remove(&recursion)),
            _ => {}
        }
        all.insert(id, on);
    }
    all
}

/// The recursions of a job, as they are finished.
#[derive(Default)]
pub(super) struct Finished(BTreeMap<usize, (Arc<plan::Recursion>, Vec<NodeId>)>);

impl Finished {
    /// A recursion and its inputs; `ids` are the finished nodes of what it reads.
    pub(super) fn recursion(
        &mut self,
        lowerer: &Lowerer<'_>,
        number: usize,
        roots: &[NodeId],
        ids: &BTreeMap<NodeId, NodeId>,
        done: &Plan,
        used: &[Vec<usize>],
    ) -> Result<(Arc<plan::Recursion>, Vec<NodeId>)> {
        if let Some(known) = self.0.get(&number) {
            return Ok(known.clone());
        }
        let bound = lowerer.bound.recursions[number].as_ref().expect("it was lowered");
        let graph = &lowerer.graph;
        let dependencies = dependencies(graph, roots);
        let mut body = Plan::default();
        let mut inside: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut inputs: Vec<NodeId> = Vec::new();
        for (id, on) in &dependencies {
            let is_read = || {
                roots.contains(id)
                    || graph.nodes.iter().enumerate().any(|(reader, node)| {
                        node.inputs.contains(id) && dependencies.get(&reader).is_some_and(|on| on.contains(&number))
                    })
            };
            if on.contains(&number) {
                let node = &graph.nodes[*id];
                let finished = match node.op {
                    Op::Binding { binding, .. } => leaf(plan::Op::Binding(binding), Arc::clone(&node.schema)),
                    _ => {
                        let inputs = node.inputs.iter().map(|input| inside[input]).collect();
                        finished_reader(lowerer, *id, inputs, &body, used)?
                    }
                };
                inside.insert(*id, body.push(finished));
            } else if is_read() {
                let outside = ids[id];
                let entry = leaf(plan::Op::Entry(inputs.len()), Arc::clone(&done.nodes[outside].schema));
                inputs.push(outside);
                inside.insert(*id, body.push(entry));
            }
        }
        let bindings = bound.bindings.iter().zip(roots).map(|(bound, root)| plan::Binding {
            name: bound.name.clone(),
            root: inside[root],
            schema: Arc::clone(&bound.schema),
        });
        let recursion = plan::Recursion {
            bindings: bindings.collect(),
            body,
            limit: bound.limit.unwrap_or(lowerer.bound.decisions.settings.recursion_limit),
            at_limit: bound.at_limit,
        };
        let finished = (Arc::new(recursion), inputs);
        self.0.insert(number, finished.clone());
        Ok(finished)
    }
}

fn leaf(op: plan::Op, schema: arrow::datatypes::SchemaRef) -> plan::Node {
    let time = vec![None; schema.fields().len()];
    let properties = Properties { append_only: false, time, unique_key: None, state: StateBound::Stateless };
    plan::Node { op, inputs: Vec::new(), schema, properties, span: None }
}
