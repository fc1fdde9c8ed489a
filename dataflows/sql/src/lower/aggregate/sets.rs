//! `GROUPING SETS`, `ROLLUP` and `CUBE`: one grouping for each set, and all their rows together.
//!
//! Where a key is not in a set it is NULL; which keys are not is in the bits of the grouping's number, from which
//! `GROUPING(..)` is computed.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use datafusion_expr::expr::GroupingSet;
use datafusion_expr::logical_plan::Aggregate;
use highwater_plan::NodeId;

use super::super::Lowerer;
use super::super::expr::{at, internal};
use super::call::CallExpr;
use crate::diagnose::Result;

impl Lowerer<'_> {
    pub(super) fn grouping_sets(
        &mut self,
        aggregate: &Aggregate,
        set: &GroupingSet,
        input: NodeId,
        calls: &[CallExpr],
        names: &[String],
    ) -> Result<NodeId> {
        let keys: Vec<Expr> = set.distinct_expr().into_iter().cloned().collect();
        let fields = aggregate.schema.fields();
        let mut branches = Vec::new();
        for chosen in sets(set, &keys) {
            let exprs: Vec<Expr> = chosen.iter().map(|key| keys[*key].clone()).collect();
            let exprs = self.positional(&exprs, &[&aggregate.input])?;
            let branch_names: Vec<String> =
                chosen.iter().map(|key| names[*key].clone()).chain(names[keys.len() + 1..].iter().cloned()).collect();
            let node = self.grouped(input, exprs, calls.to_vec(), &branch_names)?;
            let mut outputs = Vec::with_capacity(fields.len());
            let mut absent = 0u64;
            for key in 0..keys.len() {
                absent <<= 1;
                outputs.push(match chosen.iter().position(|other| *other == key) {
                    Some(position) => at(position),
                    None => {
                        absent |= 1;
                        Expr::Literal(ScalarValue::try_from(fields[key].data_type()).map_err(internal)?, None)
                    }
                });
            }
            let number = ScalarValue::UInt64(Some(absent)).cast_to(fields[keys.len()].data_type()).map_err(internal)?;
            outputs.push(Expr::Literal(number, None));
            outputs.extend((0..calls.len()).map(|call| at(chosen.len() + call)));
            branches.push(self.project(node, outputs, names)?);
        }
        let fields: Vec<Field> =
            names.iter().zip(fields).map(|(name, field)| Field::new(name, field.data_type().clone(), true)).collect();
        self.all_rows(branches, Arc::new(arrow::datatypes::Schema::new(fields)))
    }
}

/// The sets, as positions among all keys, each once.
fn sets(set: &GroupingSet, keys: &[Expr]) -> Vec<Vec<usize>> {
    let position = |expr: &Expr| keys.iter().position(|key| key == expr).expect("the keys are those of all sets");
    let mut sets: Vec<Vec<usize>> = match set {
        GroupingSet::Rollup(exprs) => {
            (0..=exprs.len()).rev().map(|length| exprs[..length].iter().map(position).collect()).collect()
        }
        GroupingSet::Cube(exprs) => {
            let has = |subset: u64, index: usize| subset >> (exprs.len() - 1 - index) & 1 == 0;
            let chosen = |subset: u64| (0..exprs.len()).filter(move |index| has(subset, *index));
            (0..1u64 << exprs.len()).map(|subset| chosen(subset).map(|index| position(&exprs[index])).collect()).collect()
        }
        GroupingSet::GroupingSets(sets) => sets.iter().map(|set| set.iter().map(position).collect()).collect(),
    };
    for set in &mut sets {
        set.sort_unstable();
        set.dedup();
    }
    sets
}
