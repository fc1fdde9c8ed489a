//! What names mean: relations of the job, functions, and DataFusion's hooks to ask for both.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Constraints, Result as PlanResult, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, TableType, WindowUDF};
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use highwater_plan::Span;

use super::group_window::WindowMarker;
use super::operators::Operators;
use super::set_operation::SetOperations;
use super::timed::TimedJoins;
use super::tvf::WindowFunctions;
use super::types::JobTypes;
use super::unnest::ArrayItems;
use crate::diagnose::{Failure, did_you_mean, error};

/// What kind of relation a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A source or table, by position: its physical columns.
    Source(usize),
    /// A view whose own result is read, by position: not inlined.
    View(usize),
    /// A sink: written, never read.
    Sink(usize),
    /// A relation that is defined by itself.
    Binding {
        /// Index into the job's recursions.
        recursion: usize,
        /// Index into the recursion's bindings.
        binding: usize,
    },
}

/// A relation of the job.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) schema: SchemaRef,
    pub(crate) constraints: Constraints,
    /// Its definition, if readers inline it.
    pub(crate) inline: Option<LogicalPlan>,
    /// Where it was declared.
    pub(crate) span: Span,
    /// What an INSERT puts into columns that it does not name.
    pub(crate) defaults: Vec<(String, Expr)>,
    /// A source whose rows are not kept by a key.
    pub(crate) is_stream: bool,
    /// How many rows it has, where somebody knows.
    pub(crate) rows: Option<u64>,
}

impl TableSource for Relation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        if self.inline.is_some() { TableType::View } else { TableType::Base }
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.iter().find(|(name, _)| name == column).map(|(_, expr)| expr)
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        self.inline.as_ref().map(Cow::Borrowed)
    }
}

/// Relations and functions by name.
pub(crate) struct Catalog {
    relations: HashMap<String, Arc<Relation>>,
    /// How many rows sources and tables have, where that is known.
    rows: BTreeMap<String, u64>,
    config: Arc<ConfigOptions>,
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    windows: HashMap<String, Arc<WindowUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    types: Arc<dyn TypePlanner>,
}

impl Catalog {
    /// The same where sources and tables have so many rows.
    pub(crate) fn with_rows(self, rows: BTreeMap<String, u64>) -> Self {
        Catalog { rows, ..self }
    }

    /// How many rows a source or table has, where that is known.
    pub(crate) fn rows_of(&self, name: &str) -> Option<u64> {
        self.rows.get(name).copied()
    }

    /// No relations, every function.
    pub(crate) fn new(lower_identifiers: bool) -> Self {
        let mut config = ConfigOptions::default();
        config.sql_parser.collect_spans = true;
        config.sql_parser.parse_float_as_decimal = true;
        config.sql_parser.enable_ident_normalization = lower_identifiers;
        config.sql_parser.map_string_types_to_utf8view = false;
        config.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let mut scalars: HashMap<String, Arc<ScalarUDF>> = HashMap::new();
        let stock = datafusion_functions::all_default_functions();
        for function in stock.into_iter().chain(datafusion_functions_nested::all_default_nested_functions()) {
            for alias in function.aliases() {
                scalars.entry(alias.clone()).or_insert_with(|| Arc::clone(&function));
            }
            scalars.insert(function.name().to_string(), function);
        }
        // Ours come last: DataFusion's `date_format` is an alias of `to_char` and means something else.
        for function in crate::functions::all().into_iter().chain(WindowMarker::all()) {
            scalars.insert(function.name().to_string(), function);
        }
        let mut aggregates = HashMap::new();
        let stock = datafusion_functions_aggregate::all_default_aggregate_functions();
        for function in stock.into_iter().chain(crate::functions::aggregates()) {
            for alias in function.aliases() {
                aggregates.insert(alias.clone(), Arc::clone(&function));
            }
            aggregates.insert(function.name().to_string(), function);
        }
        for (alias, name) in crate::functions::AGGREGATE_ALIASES {
            if let Some(function) = aggregates.get(name).cloned() {
                aggregates.insert(alias.to_string(), function);
            }
        }
        // Ours come last here, too: they count in BIGINT.
        let windows = datafusion_functions_window::all_default_window_functions().into_iter().chain(crate::functions::windows());
        let higher_order = datafusion_functions_nested::all_default_higher_order_functions();
        Catalog {
            relations: HashMap::new(),
            rows: BTreeMap::new(),
            config: Arc::new(config),
            scalars,
            aggregates,
            windows: windows.map(|function| (function.name().to_string(), function)).collect(),
            higher_order: higher_order.into_iter().map(|function| (function.name().to_string(), function)).collect(),
            expr_planners: vec![
                Arc::new(Operators),
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
                Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
                Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
            ],
            relation_planners: vec![
                Arc::new(SetOperations),
                Arc::new(ArrayItems),
                Arc::new(WindowFunctions),
                Arc::new(TimedJoins),
            ],
            types: Arc::new(JobTypes),
        }
    }

    /// DataFusion's planner over this catalog.
    pub(crate) fn planner(&self) -> SqlToRel<'_, Catalog> {
        SqlToRel::new_with_options(self, ParserOptions::from(&self.config.sql_parser))
    }

    /// The planner's configuration.
    pub(crate) fn config(&self) -> &Arc<ConfigOptions> {
        &self.config
    }

    /// Declares a relation; names are unique in a job.
    pub(crate) fn declare(&mut self, relation: Relation) -> Result<(), Failure> {
        if let Some(other) = self.relations.get(&relation.name) {
            return Err(error("duplicate-name", format!("relation '{}' is declared twice", relation.name))
                .at(relation.span)
                .note("first declared here", Some(other.span))
                .help("rename one of them"));
        }
        self.relations.insert(relation.name.clone(), Arc::new(relation));
        Ok(())
    }

    /// Declares a relation under a name that nobody can write, or declares it anew.
    pub(crate) fn declare_hidden(&mut self, relation: Relation) {
        self.relations.insert(relation.name.clone(), Arc::new(relation));
    }

    /// The relation of this name: exactly, else the only one that differs by case.
    pub(crate) fn relation(&self, name: &str) -> Option<&Arc<Relation>> {
        if let Some(relation) = self.relations.get(name) {
            return Some(relation);
        }
        let mut found = self.relations.values().filter(|relation| relation.name.eq_ignore_ascii_case(name));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The error about an unknown relation.
    pub(crate) fn unknown_relation(&self, name: &str) -> Failure {
        let readable =
            self.relations.values().filter(|relation| !matches!(relation.target, Target::Sink(_) | Target::Binding { .. }));
        // Side relations are known by the relation that they stand beside.
        let names = readable.map(|relation| relation.name.clone()).filter(|known| !known.contains('$') || name.contains('$'));
        let mut names: Vec<String> = names.collect();
        names.sort();
        let help = did_you_mean(name, "relations declared before this", &names)
            .unwrap_or_else(|| "declare it first: CREATE SOURCE, CREATE TABLE or CREATE VIEW".into());
        error("unknown-relation", format!("unknown relation '{name}'")).help(help)
    }
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> PlanResult<Arc<dyn TableSource>> {
        match self.relation(name.table()) {
            Some(relation) => Ok(Arc::clone(relation) as Arc<dyn TableSource>),
            None => Err(self.unknown_relation(name.table()).into()),
        }
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        sorted(self.scalars.keys())
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        sorted(self.higher_order.keys())
    }

    fn udaf_names(&self) -> Vec<String> {
        sorted(self.aggregates.keys())
    }

    fn udwf_names(&self) -> Vec<String> {
        sorted(self.windows.keys())
    }
}

/// Names in one order, so that of two equally near ones always the same is suggested.
fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = names.cloned().collect();
    names.sort();
    names
}
