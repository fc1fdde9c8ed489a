//! `INTERSECT` and `EXCEPT`.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_expr::cast;
use highwater_plan::{NodeId, SetKind, StateBound};

use super::Lowerer;
use super::expr::at;
use super::graph::{Known, Op};
use super::leaf::common_time;
use crate::bind::SetOperationNode;
use crate::diagnose::Result;

impl Lowerer<'_> {
    pub(super) fn set_operation(&mut self, node: &SetOperationNode, names: &[String]) -> Result<NodeId> {
        let left = self.plan(&node.left)?;
        let right = self.plan(&node.right)?;
        let right = self.with_types_of(left, right, names)?;
        let operation = node.operation;
        let sides = [left, right].map(|side| &self.graph.nodes[side]);
        let fields = sides[0].schema.fields().iter().zip(names);
        let fields: Vec<Field> = fields.map(|(field, name)| field.as_ref().clone().with_name(name)).collect();
        let columns = 0..fields.len();
        let time = columns.clone().map(|column| common_time(sides.iter().map(|side| &side.known.time[column])));
        let mut keys = sides[0].known.keys.clone();
        if operation.kind == SetKind::Intersect {
            keys.extend(sides[1].known.keys.iter().cloned());
        }
        if !operation.all {
            keys.push(columns.collect());
        }
        let known = Known {
            // More rows on the right can only take away from what is left of the left ones.
            append_only: operation.kind == SetKind::Intersect && sides.iter().all(|side| side.known.append_only),
            time: time.collect(),
            keys,
            state: StateBound::Keys,
        };
        let schema = Arc::new(Schema::new(fields));
        self.graph.add(Op::SetOperation(operation), vec![left, right], schema, known, self.places.statement)
    }

    fn with_types_of(&mut self, left: NodeId, right: NodeId, names: &[String]) -> Result<NodeId> {
        let [wanted, found] = [left, right].map(|side| &self.graph.nodes[side].schema);
        let pairs: Vec<_> = wanted.fields().iter().zip(found.fields()).map(|(a, b)| (a.data_type(), b.data_type())).collect();
        if pairs.iter().all(|(wanted, found)| wanted == found) {
            return Ok(right);
        }
        let expr = |(column, (wanted, found)): (usize, &(&arrow::datatypes::DataType, &arrow::datatypes::DataType))| {
            if wanted == found { at(column) } else { cast(at(column), (*wanted).clone()) }
        };
        let exprs = pairs.iter().enumerate().map(expr).collect();
        self.project(right, exprs, names)
    }
}
