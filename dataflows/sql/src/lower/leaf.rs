//! Operators without inputs: sources, views read as relations, constant rows; and unions.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::ScalarValue;
use datafusion_expr::logical_plan::{EmptyRelation, TableScan, Union, Values};
use datafusion_expr::{Expr, cast};
use highwater_plan::{NodeId, StateBound, TimeColumn, TimeKind, TimeSource};

use super::Lowerer;
use super::expr::{at, internal, mentions};
use super::graph::{Known, Op, typed};
use super::scalar::compile;
use crate::bind::{Relation, Target, WatermarkNode};
use crate::diagnose::{Item, Result, error};

/// Whether a watermark bounds a column of this type; numbers order rows as times do.
fn is_time(found: &DataType) -> bool {
    matches!(found, DataType::Timestamp(..)) || found.is_signed_integer()
}

impl Lowerer<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<NodeId> {
        let Some(relation) = scan.source.downcast_ref::<Relation>() else {
            return Err(self.unsupported("this relation"));
        };
        let mut node = match relation.target {
            Target::Source(source) => self.source(source)?,
            Target::View(view) => self.view(view, self.emit)?,
            Target::Binding { recursion, binding } => self.binding(recursion, binding)?,
            Target::Sink(_) => {
                return Err(
                    error("sink-read", format!("'{}' is a sink and cannot be read", relation.name)).at(self.places.statement)
                );
            }
        };
        if let Some(columns) = &scan.projection {
            node = self.select(node, columns)?;
        }
        let filters = scan.filters.iter().map(|filter| super::expr::positional(filter, &[&scan.projected_schema]));
        let filters = filters.collect::<Result<Vec<Expr>>>()?;
        self.filter(node, filters)
    }

    /// The one node of a source: all its physical columns. What is not used is dropped when the graph is finished.
    pub(super) fn source(&mut self, index: usize) -> Result<NodeId> {
        let source = &self.bound.sources[index];
        let event = source.watermark.as_ref().map(|watermark| watermark.column.as_str());
        let time = |field: &Arc<Field>| {
            (is_time(field.data_type()) && Some(field.name().as_str()) == event)
                .then(|| TimeColumn { kind: TimeKind::Event, sources: vec![TimeSource::of(index)] })
        };
        let known = Known {
            append_only: source.append_only,
            time: source.schema.fields().iter().map(time).collect(),
            keys: if source.primary_key.is_empty() { Vec::new() } else { vec![source.primary_key.clone()] },
            state: if source.primary_key.is_empty() { StateBound::Stateless } else { StateBound::Keys },
        };
        self.graph.add(Op::Source(index), Vec::new(), Arc::clone(&source.schema), known, Some(source.span))
    }

    /// Rows pass; the event-time column is known to be one.
    pub(super) fn watermark(&mut self, watermark: &WatermarkNode) -> Result<NodeId> {
        let input = self.plan(&watermark.input)?;
        let column = match &watermark.column {
            Expr::Column(column) => watermark.input.schema().maybe_index_of_column(column),
            _ => None,
        };
        let Some(column) = column else { return Ok(input) };
        let node = &self.graph.nodes[input];
        if !is_time(node.schema.field(column).data_type()) || node.known.time[column].is_some() {
            return Ok(input);
        }
        let (op, inputs, schema, span) = (node.op.clone(), node.inputs.clone(), Arc::clone(&node.schema), node.span);
        let mut known = node.known.clone();
        known.time[column] = Some(TimeColumn { kind: TimeKind::Event, sources: vec![TimeSource::of(watermark.source)] });
        self.graph.add(op, inputs, schema, known, span)
    }

    pub(super) fn values(&mut self, values: &Values) -> Result<NodeId> {
        let types = typed([&Schema::empty()])?;
        let one_row = one_empty_row()?;
        let fields = values.schema.fields();
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(values.values.len()); fields.len()];
        for row in &values.values {
            for (column, expr) in columns.iter_mut().zip(row) {
                let value = compile(expr, &types, None)?.scalar.evaluate(&one_row).map_err(|e| {
                    let (names, words) = mentions(expr);
                    let place = Item::find(&self.places.items, &names, &words).or(self.places.statement);
                    error("constant-error", format!("a constant expression fails: {}", e.message)).at(place)
                })?;
                column.push(ScalarValue::try_from_array(&value, 0).map_err(internal)?);
            }
        }
        let arrays = columns.into_iter().map(ScalarValue::iter_to_array).collect::<datafusion_common::Result<Vec<ArrayRef>>>();
        let arrays = arrays.map_err(internal)?;
        let fields: Vec<Field> =
            fields.iter().zip(&arrays).map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|e| internal(e.into()))?;
        self.constant(rows)
    }

    pub(super) fn empty(&mut self, empty: &EmptyRelation) -> Result<NodeId> {
        if empty.produce_one_row {
            return self.constant(one_empty_row()?);
        }
        self.constant(RecordBatch::new_empty(Arc::new(empty.schema.as_arrow().clone())))
    }

    fn constant(&mut self, rows: RecordBatch) -> Result<NodeId> {
        let time = vec![None; rows.num_columns()];
        let known = Known { append_only: true, time, keys: Vec::new(), state: StateBound::Stateless };
        let schema = rows.schema();
        self.graph.add(Op::Constant(rows), Vec::new(), schema, known, self.places.statement)
    }

    pub(super) fn union(&mut self, union: &Union, names: &[String]) -> Result<NodeId> {
        let mut inputs = Vec::new();
        for input in &union.inputs {
            let node = self.plan(input)?;
            let found = &self.graph.nodes[node].schema;
            let fields = union.schema.fields();
            if fields.is_empty() {
                // Nothing is read of the rows but their number: every branch has the same one column.
                inputs.push(self.select(node, &[])?);
                continue;
            }
            let same = found.fields().iter().zip(fields).all(|(found, wanted)| found.data_type() == wanted.data_type());
            let node = if same {
                node
            } else {
                let cast = |(index, wanted): (usize, &Arc<Field>)| match found.field(index).data_type() == wanted.data_type() {
                    true => at(index),
                    false => cast(at(index), wanted.data_type().clone()),
                };
                let exprs = fields.iter().enumerate().map(cast).collect();
                self.project(node, exprs, names)?
            };
            inputs.push(node);
        }
        if union.schema.fields().is_empty() {
            let schema = Arc::clone(&self.graph.nodes[inputs[0]].schema);
            return self.all_rows(inputs, schema);
        }
        let fields = names.iter().zip(union.schema.fields());
        let fields: Vec<Field> = fields.map(|(name, field)| Field::new(name, field.data_type().clone(), true)).collect();
        self.all_rows(inputs, Arc::new(Schema::new(fields)))
    }

    /// The rows of all inputs, whose columns have the types of `schema`.
    pub(super) fn all_rows(&mut self, inputs: Vec<NodeId>, schema: SchemaRef) -> Result<NodeId> {
        if let [only] = inputs[..] {
            return Ok(only);
        }
        let nodes = || inputs.iter().map(|input| &self.graph.nodes[*input]);
        let width = schema.fields().len();
        let nullable = |index: usize| nodes().any(|node| node.schema.field(index).is_nullable());
        let fields = schema.fields().iter().enumerate();
        let fields: Vec<Field> = fields.map(|(index, field)| field.as_ref().clone().with_nullable(nullable(index))).collect();
        let time = (0..width).map(|index| common_time(nodes().map(|node| &node.known.time[index]))).collect();
        let append_only = nodes().all(|node| node.known.append_only);
        let known = Known { append_only, time, keys: Vec::new(), state: StateBound::Stateless };
        self.graph.add(Op::Union, inputs, Arc::new(Schema::new(fields)), known, self.places.statement)
    }
}

/// The time of a column that comes from several inputs: the same kind in all, bounded by the slowest.
pub(super) fn common_time<'a>(times: impl Iterator<Item = &'a Option<TimeColumn>>) -> Option<TimeColumn> {
    let mut common: Option<TimeColumn> = None;
    for time in times {
        let time = time.as_ref()?;
        match &mut common {
            None => common = Some(time.clone()),
            Some(common) if common.kind == time.kind => {
                common.sources = TimeSource::merged(common.sources.iter().chain(&time.sources));
            }
            Some(_) => return None,
        }
    }
    common
}

fn one_empty_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).map_err(|e| internal(e.into()))
}
