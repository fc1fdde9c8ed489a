//! Aggregate calls: which function of ours, over which expressions.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction as Planned, NullTreatment, Sort};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, and, cast};
use highwater_plan::{
    AggregateCall, AggregateConstant, AggregateFunction, Diagnostic, NodeId, OrderColumn, Span, Statistic, TimeKind,
};

use super::super::Lowerer;
use super::super::expr::at;
use super::Slots;
use crate::bind::{is_event_order, sql_type};
use crate::diagnose::{Failure, Result, error};

/// One aggregate function with its arguments as expressions.
#[derive(Clone)]
pub(in crate::lower) struct CallExpr {
    pub(in crate::lower) function: AggregateFunction,
    argument: Option<Expr>,
    further: Vec<Expr>,
    order: Vec<OrderExpr>,
    constant: Option<AggregateConstant>,
    filter: Option<Expr>,
    distinct: bool,
    data_type: DataType,
}

/// What a call's rows are ordered by.
#[derive(Clone)]
struct OrderExpr {
    expr: Expr,
    descending: bool,
    nulls_first: bool,
}

impl CallExpr {
    /// Everything that it reads.
    pub(in crate::lower) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let order = self.order.iter().map(|order| &order.expr);
        self.argument.iter().chain(&self.further).chain(order).chain(&self.filter)
    }

    /// The same call over other expressions, in the order of [`CallExpr::exprs`].
    pub(super) fn over(mut self, others: &mut impl Iterator<Item = Expr>) -> Self {
        let order = self.order.iter_mut().map(|order| &mut order.expr);
        let all = self.argument.iter_mut().chain(&mut self.further).chain(order).chain(&mut self.filter);
        for (expr, other) in all.zip(others) {
            *expr = other;
        }
        self
    }

    /// The call over columns, which hold [`CallExpr::exprs`].
    pub(in crate::lower) fn placed(self, columns: &[usize]) -> AggregateCall {
        let slots = self.exprs().count();
        let mut own = (0..slots).map(at);
        moved(self.over(&mut own).lowered(&mut Slots { exprs: (0..slots).map(at).collect() }), columns)
    }

    /// The call over slots.
    pub(super) fn lowered(self, slots: &mut Slots) -> AggregateCall {
        let key = |slots: &mut Slots, order: OrderExpr| OrderColumn {
            column: slots.of(order.expr),
            descending: order.descending,
            nulls_first: order.nulls_first,
        };
        AggregateCall {
            function: self.function,
            argument: self.argument.map(|argument| slots.of(argument)),
            further: self.further.into_iter().map(|argument| slots.of(argument)).collect(),
            order: self.order.into_iter().map(|order| key(slots, order)).collect(),
            constant: self.constant,
            filter: self.filter.map(|filter| slots.of(filter)),
            distinct: self.distinct,
            data_type: self.data_type,
        }
    }
}

/// The call with its slots where they stand in the input.
pub(super) fn moved(call: AggregateCall, slots: &[usize]) -> AggregateCall {
    AggregateCall {
        argument: call.argument.map(|slot| slots[slot]),
        further: call.further.into_iter().map(|slot| slots[slot]).collect(),
        order: call.order.into_iter().map(|key| OrderColumn { column: slots[key.column], ..key }).collect(),
        filter: call.filter.map(|slot| slots[slot]),
        ..call
    }
}

/// What a planned call becomes, before its expressions are positional.
struct Draft<'a> {
    function: AggregateFunction,
    arguments: Vec<Expr>,
    order: Vec<Sort>,
    constant: Option<AggregateConstant>,
    /// Arguments that must not be NULL for a row to count, besides what the function says.
    required: Vec<&'a Expr>,
}

impl Lowerer<'_> {
    /// A call over `input`, whose node is `node`.
    pub(in crate::lower) fn call(
        &mut self,
        expr: &Expr,
        input: &LogicalPlan,
        node: NodeId,
        data_type: DataType,
    ) -> Result<CallExpr> {
        let call = match expr {
            Expr::Alias(alias) => return self.call(&alias.expr, input, node, data_type),
            Expr::AggregateFunction(call) => call,
            _ => return Err(self.unsupported("this aggregate expression")),
        };
        let name = call.func.name();
        let place = self.written(call);
        let mut draft = self.draft(call, input, place)?;
        let function = draft.function;
        let mut distinct = call.params.distinct && !function.ignores_copies();
        let counts_rows = function == AggregateFunction::Count && !distinct;
        if counts_rows {
            // `count(1)` counts rows, `count(a, b)` those without NULLs.
            let every_row = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if !value.is_null());
            draft.arguments.retain(|argument| !every_row(argument));
            if draft.arguments.len() > 1 {
                draft.required = call.params.args.iter().filter(|argument| !every_row(argument)).collect();
                draft.arguments.clear();
            }
        }
        // What is NULL by its type has no bits that say so.
        let no_row = |expr: &Expr| expr.get_type(input.schema()).is_ok_and(|found| found.is_null());
        if function == AggregateFunction::Count && draft.arguments.iter().any(no_row) {
            draft.required = call.params.args.iter().collect();
            draft.arguments.clear();
        }
        distinct &= !draft.arguments.is_empty();
        if call.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
            draft.required.extend(call.params.args.first());
        }
        self.check_call(call, function, &draft, input, distinct, place)?;
        if distinct {
            self.check_distinct_order(&draft, place)?;
        }
        let mut filter = call.params.filter.as_deref().cloned();
        for required in draft.required {
            let present = required.clone().is_not_null();
            filter = Some(match filter {
                Some(filter) => and(filter, present),
                None => present,
            });
        }
        let filter = match filter {
            Some(filter) => Some(self.positional(&[filter], &[input])?.remove(0)),
            None => None,
        };
        let mut arguments = self.positional(&draft.arguments, &[input])?.into_iter();
        let argument = arguments.next();
        let sorts: Vec<Expr> = draft.order.iter().map(|sort| sort.expr.clone()).collect();
        let sorts = self.positional(&sorts, &[input])?;
        let order = sorts.into_iter().zip(&draft.order);
        let order = order.map(|(expr, sort)| OrderExpr { expr, descending: !sort.asc, nulls_first: sort.nulls_first });
        let mut order: Vec<OrderExpr> = order.collect();
        if matches!(function, AggregateFunction::First | AggregateFunction::Last) && order.is_empty() {
            let expr = at(self.event_time_order(name, node, place)?);
            order.push(OrderExpr { expr, descending: false, nulls_first: function == AggregateFunction::Last });
        }
        let further = arguments.collect();
        self.warn_of_long_results(name, function, node, place);
        Ok(CallExpr { function, argument, further, order, constant: draft.constant, filter, distinct, data_type })
    }

    fn draft<'a>(&self, call: &'a Planned, input: &LogicalPlan, place: Option<Span>) -> Result<Draft<'a>> {
        use AggregateFunction as F;
        let (name, args, sorts) = (call.func.name(), &call.params.args, &call.params.order_by);
        let mut draft =
            Draft { function: F::Count, arguments: args.clone(), order: Vec::new(), constant: None, required: Vec::new() };
        // Of functions over an order of their own argument only the direction matters.
        let direction = |draft: &mut Draft<'_>| {
            let descending = sorts.first().is_some_and(|sort| !sort.asc);
            draft.order = if descending { vec![Sort::new(args[0].clone(), false, true)] } else { Vec::new() };
        };
        draft.function = match name {
            "count" | "regr_count" => F::Count,
            "sum" => F::Sum,
            "min" => F::Min,
            "max" => F::Max,
            "avg" => F::Avg,
            "bool_and" => F::BoolAnd,
            "bool_or" => F::BoolOr,
            "bit_and" => F::BitAnd,
            "bit_or" => F::BitOr,
            "bit_xor" => F::BitXor,
            // Any value will do, so it is one that does not depend on who came first.
            "any_value" => F::Min,
            "first_value" | "last_value" | "array_agg" => {
                draft.order = if is_event_order(sorts) { Vec::new() } else { sorts.clone() };
                match name {
                    "first_value" => F::First,
                    "last_value" => F::Last,
                    _ => F::Array,
                }
            }
            "string_agg" => {
                draft.order = sorts.clone();
                let separator = args.get(1).map_or(Ok(",".to_string()), |separator| self.separator(separator, place))?;
                draft.constant = Some(AggregateConstant::Separator(separator));
                draft.arguments.truncate(1);
                F::Text
            }
            "min_by" | "max_by" => {
                let [value, by] = &args[..] else { return Err(self.unsupported("this aggregate expression")) };
                draft.arguments = vec![value.clone()];
                let ascending = name == "min_by";
                draft.order = vec![Sort::new(by.clone(), ascending, !ascending)];
                draft.required = vec![by];
                F::First
            }
            "median" | "approx_median" => {
                draft.constant = Some(AggregateConstant::Fraction(0.5));
                if name == "median" { F::PercentileCont } else { F::ApproxPercentile }
            }
            "percentile_cont" | "percentile_disc" | "approx_percentile_cont" => {
                direction(&mut draft);
                if literal(&args[1]).is_some_and(|fraction| fraction.is_null()) {
                    // Of no fraction there is no value.
                    let gives = if name == "percentile_disc" { args[0].get_type(input.schema()) } else { Ok(DataType::Float64) };
                    let nothing = gives.and_then(|found| ScalarValue::try_from(&found));
                    let nothing = nothing.map_err(|_| self.unsupported("this percentile"))?;
                    (draft.arguments, draft.order) = (vec![Expr::Literal(nothing, None)], Vec::new());
                    draft.function = F::Max;
                    return Ok(draft);
                }
                let fraction = self.fraction(name, &args[1], place)?;
                draft.constant = Some(AggregateConstant::Fraction(fraction));
                if let Some(error) = args.get(2) {
                    self.check_relative_error(name, error, place)?;
                }
                draft.arguments.truncate(1);
                match name {
                    "percentile_cont" => F::PercentileCont,
                    "percentile_disc" => F::PercentileDisc,
                    _ => F::ApproxPercentile,
                }
            }
            "mode" => {
                direction(&mut draft);
                F::Mode
            }
            _ => match statistic(name) {
                Some(statistic) => {
                    for argument in &mut draft.arguments {
                        if argument.get_type(input.schema()).is_ok_and(|data_type| data_type != DataType::Float64) {
                            *argument = cast(argument.clone(), DataType::Float64);
                        }
                    }
                    F::Statistic(statistic)
                }
                None => return Err(self.unknown_aggregate(name, place)),
            },
        };
        if draft.function == F::Avg {
            draft.arguments = draft.arguments.iter().map(|argument| super::uncast(argument, input).clone()).collect();
        }
        Ok(draft)
    }

    fn unknown_aggregate(&self, name: &str, place: Option<Span>) -> Failure {
        let help = match name {
            "nth_value" => "use ROW_NUMBER() OVER (ORDER BY ..) and keep the row of that number",
            "approx_percentile_cont_with_weight" => "use approx_percentile_cont over a row per unit of weight",
            _ => "docs/sql.md lists the aggregate functions",
        };
        error("not-supported", format!("aggregate function {name}() is not supported yet")).at(place).help(help)
    }

    /// Where the call stands: it may be written under another name than the planner's.
    fn written(&self, call: &Planned) -> Option<Span> {
        let aliases = crate::functions::AGGREGATE_ALIASES.iter().filter(|(_, name)| *name == call.func.name());
        let names = std::iter::once(call.func.name()).chain(call.func.aliases().iter().map(String::as_str));
        let names: Vec<&str> = names.chain(aliases.map(|(alias, _)| *alias)).collect();
        let found = self.places.functions.iter().find(|(function, _)| names.contains(&function.as_str()));
        found.map(|(_, span)| *span).or(self.places.statement)
    }

    fn fraction(&self, name: &str, expr: &Expr, place: Option<Span>) -> Result<f64> {
        match literal(expr) {
            Some(ScalarValue::Float64(Some(fraction))) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
            _ => Err(error("wrong-arguments", format!("{name}() takes a constant fraction between 0 and 1"))
                .at(place)
                .maybe_help(crate::functions::usage(name))),
        }
    }

    fn separator(&self, expr: &Expr, place: Option<Span>) -> Result<String> {
        match literal(expr) {
            Some(ScalarValue::Utf8(separator)) => Ok(separator.unwrap_or_default()),
            Some(ScalarValue::Null) => Ok(String::new()),
            _ => Err(error("wrong-arguments", "the separator of string_agg() must be a constant")
                .at(place)
                .help("put what varies into the text: string_agg(separator || x, '')")),
        }
    }

    /// RisingWave's second argument: the error that the caller can bear.
    fn check_relative_error(&self, name: &str, expr: &Expr, place: Option<Span>) -> Result<()> {
        match literal(expr) {
            Some(ScalarValue::Float64(Some(error))) if (1.0 / 256.0..1.0).contains(&error) => Ok(()),
            _ => Err(error("not-supported", format!("the relative error of {name}() is 1/256, whatever its last argument"))
                .at(place)
                .help("leave the argument out, write an error from 0.004 to 1, or use percentile_cont, which is exact")),
        }
    }

    fn check_call(
        &self,
        call: &Planned,
        function: AggregateFunction,
        draft: &Draft<'_>,
        input: &LogicalPlan,
        distinct: bool,
        place: Option<Span>,
    ) -> Result<()> {
        use AggregateFunction as F;
        let name = call.func.name();
        let type_of = |expr: &Expr| expr.get_type(input.schema()).unwrap_or(DataType::Null);
        let refused = |data_type: &DataType, what: &str| {
            error("wrong-arguments", format!("{name}() {what} of type ({})", sql_type(data_type))).at(place)
        };
        let first = draft.arguments.first().map(&type_of);
        match (function, &first) {
            (F::Min | F::Max, Some(found)) if found.is_nested() && name != "any_value" => {
                return Err(refused(found, "does not take arguments"));
            }
            (F::Sum | F::Avg, Some(found)) if !found.is_numeric() => {
                let message = format!("{name}() of type {} is not supported yet", sql_type(found));
                return Err(error("not-supported", message).at(place));
            }
            (F::Sum | F::Avg, Some(found @ DataType::Decimal256(..))) => {
                return Err(refused(found, "does not take arguments").help("CAST them to DECIMAL(38, s)"));
            }
            _ => {}
        }
        let ordered = matches!(function, F::Min | F::Max | F::First | F::Last | F::Array | F::Text | F::PercentileDisc | F::Mode);
        let keys = draft.arguments.iter().filter(|_| ordered || distinct);
        for expr in keys.chain(draft.order.iter().map(|sort| &sort.expr)) {
            let found = type_of(expr);
            if !has_order(&found) {
                return Err(refused(&found, "needs an order, and there is none among values"));
            }
        }
        Ok(())
    }

    /// As in PostgreSQL: which of several equal values stands for them must not matter.
    fn check_distinct_order(&self, draft: &Draft<'_>, place: Option<Span>) -> Result<()> {
        if draft.order.iter().all(|sort| draft.arguments.contains(&sort.expr)) {
            return Ok(());
        }
        Err(error("distinct-order", "in an aggregate with DISTINCT, ORDER BY takes only the aggregate's arguments")
            .at(place)
            .help("order by the argument, or remove DISTINCT"))
    }

    /// Rows come in no order that a result could depend on; their event times are one.
    fn event_time_order(&self, name: &str, node: NodeId, place: Option<Span>) -> Result<usize> {
        let times = &self.graph.nodes[node].known.time;
        let kind = |column: &usize| times[*column].as_ref().map(|time| time.kind);
        let events: Vec<usize> = (0..times.len()).filter(|column| kind(column) == Some(TimeKind::Event)).collect();
        let windowed = times.iter().flatten().any(|time| time.kind != TimeKind::Event);
        match events[..] {
            [only] => Ok(only),
            // Windows add their own time behind the input's columns.
            [first, _] if windowed => Ok(first),
            _ => Err(error(
                "no-order",
                match events[..] {
                    [] => format!("{name}() without ORDER BY needs an event time, which its input does not have"),
                    _ => format!("{name}() without ORDER BY needs one event time, and its input has several"),
                },
            )
            .at(place)
            .note("rows that arrive together have no first and no last", None)
            .help(format!("say by what: {name}(x ORDER BY y)"))),
        }
    }

    fn warn_of_long_results(&mut self, name: &str, function: AggregateFunction, node: NodeId, place: Option<Span>) {
        let long = matches!(function, AggregateFunction::Array | AggregateFunction::Text);
        if !long || self.graph.nodes[node].known.append_only {
            return;
        }
        let message = format!("{name}() over rows that change: every change of a group gives its whole result again");
        let warning =
            Diagnostic::warning("whole-result", message).at(place).help("keep groups small, or aggregate when the view is read");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// The value of a constant, cast or not.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => literal(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

/// Whether values of a type can be sorted and told apart as row bytes.
fn has_order(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) | DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => has_order(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| has_order(field.data_type())),
        _ => true,
    }
}

fn statistic(name: &str) -> Option<Statistic> {
    Some(match name {
        "var" => Statistic::VarSamp,
        "var_pop" => Statistic::VarPop,
        "stddev" => Statistic::StddevSamp,
        "stddev_pop" => Statistic::StddevPop,
        "covar_samp" => Statistic::CovarSamp,
        "covar_pop" => Statistic::CovarPop,
        "corr" => Statistic::Corr,
        "regr_slope" => Statistic::RegrSlope,
        "regr_intercept" => Statistic::RegrIntercept,
        "regr_r2" => Statistic::RegrR2,
        "regr_avgx" => Statistic::RegrAvgX,
        "regr_avgy" => Statistic::RegrAvgY,
        "regr_sxx" => Statistic::RegrSxx,
        "regr_syy" => Statistic::RegrSyy,
        "regr_sxy" => Statistic::RegrSxy,
        _ => return None,
    })
}
