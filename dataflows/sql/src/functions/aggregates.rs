//! Aggregate functions that DataFusion lacks or types otherwise: here only their names, arguments and results.
//!
//! What they compute is in the engine. Percentiles and `median` are DOUBLE as in PostgreSQL, also over integers.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::{Result, not_impl_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// What arguments become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number, as DOUBLE.
    Number,
    Text,
    /// As it is.
    Any,
}

/// What a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    Double,
    Whole,
    Text,
    /// The type of the first argument.
    First,
}

/// An aggregate function with fixed kinds of arguments.
struct Aggregate {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    required: &'static [Kind],
    optional: &'static [Kind],
    gives: Gives,
    /// Takes `WITHIN GROUP (ORDER BY value)`; the value is the first argument then.
    within_group: bool,
    usage: &'static str,
}

fn aggregate(
    name: &'static str,
    aliases: &[&str],
    required: &'static [Kind],
    optional: &'static [Kind],
    gives: Gives,
    within_group: bool,
    usage: &'static str,
) -> Arc<AggregateUDF> {
    let aliases = aliases.iter().map(|alias| alias.to_string()).collect();
    let signature = Signature::user_defined(Volatility::Immutable);
    let aggregate = Aggregate { name, aliases, signature, required, optional, gives, within_group, usage };
    Arc::new(AggregateUDF::new_from_impl(aggregate))
}

/// All functions of this module.
pub(crate) fn all() -> Vec<Arc<AggregateUDF>> {
    use Kind::{Any, Number, Text};
    let percentile = "write percentile_cont(0.5) WITHIN GROUP (ORDER BY number), or percentile_cont(number, 0.5)";
    let discrete = "write percentile_disc(0.5) WITHIN GROUP (ORDER BY value), or percentile_disc(value, 0.5)";
    let approximate = "write approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY number), or approx_percentile_cont(number, 0.5)";
    vec![
        aggregate("percentile_cont", &["quantile_cont"], &[Number, Number], &[], Gives::Double, true, percentile),
        aggregate("percentile_disc", &["quantile_disc"], &[Any, Number], &[], Gives::First, true, discrete),
        aggregate("median", &[], &[Number], &[], Gives::Double, false, "write median(number)"),
        aggregate(
            "approx_percentile_cont",
            &["approx_percentile"],
            &[Number, Number],
            &[Number],
            Gives::Double,
            true,
            approximate,
        ),
        aggregate("approx_median", &[], &[Number], &[], Gives::Double, false, "write approx_median(number)"),
        aggregate("mode", &[], &[Any], &[], Gives::First, true, "write mode() WITHIN GROUP (ORDER BY value), or mode(value)"),
        aggregate("min_by", &["arg_min"], &[Any, Any], &[], Gives::First, false, "write min_by(value, ordered by)"),
        aggregate("max_by", &["arg_max"], &[Any, Any], &[], Gives::First, false, "write max_by(value, ordered by)"),
        aggregate("string_agg", &["listagg"], &[Text], &[Text], Gives::Text, false, "write string_agg(text, ', ' ORDER BY x)"),
        aggregate("regr_count", &[], &[Number, Number], &[], Gives::Whole, false, "write regr_count(y, x)"),
    ]
}

/// Names of DataFusion's functions under which people know them besides.
pub(crate) const ALIASES: [(&str, &str); 3] = [("every", "bool_and"), ("variance", "var"), ("stddev_sample", "stddev")];

/// Whether a function of this name (in lower case) aggregates.
pub(crate) fn is_aggregate(name: &str) -> bool {
    static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let stock = datafusion_functions_aggregate::all_default_aggregate_functions();
        let all = stock.into_iter().chain(all());
        let names = all.flat_map(|function| {
            std::iter::once(function.name().to_string()).chain(function.aliases().iter().cloned()).collect::<Vec<_>>()
        });
        names.chain(ALIASES.iter().map(|(alias, _)| alias.to_string())).collect()
    });
    NAMES.contains(name)
}

/// How a function of this module is called.
pub(super) fn usage(name: &str) -> Option<String> {
    let all = all();
    let function = all.iter().find(|function| function.name() == name || function.aliases().iter().any(|alias| alias == name))?;
    Some(function.inner().downcast_ref::<Aggregate>()?.usage.to_string())
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(match self.gives {
            Gives::Double => DataType::Float64,
            Gives::Whole => DataType::Int64,
            Gives::Text => DataType::Utf8,
            Gives::First => match args.first() {
                Some(first) => first.clone(),
                None => return plan_err!("{}", self.usage),
            },
        })
    }

    fn is_nullable(&self) -> bool {
        self.gives != Gives::Whole
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let kinds: Vec<Kind> = self.required.iter().chain(self.optional).copied().collect();
        let fits = (self.required.len()..=kinds.len()).contains(&found.len());
        let coerced: Option<Vec<DataType>> = found.iter().zip(&kinds).map(|(found, kind)| coerced(found, *kind)).collect();
        match coerced {
            Some(types) if fits => Ok(types),
            // DataFusion names the function and the types itself.
            _ => plan_err!("{}", self.usage),
        }
    }

    fn supports_within_group_clause(&self) -> bool {
        self.within_group
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{}() is computed by the engine", self.name)
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<arrow::datatypes::FieldRef>> {
        not_impl_err!("{}() is computed by the engine", self.name)
    }
}

fn coerced(found: &DataType, kind: Kind) -> Option<DataType> {
    match (kind, found) {
        (Kind::Number, found) if found.is_numeric() || found.is_null() => Some(DataType::Float64),
        (Kind::Text, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null) => Some(DataType::Utf8),
        (Kind::Any, DataType::Utf8View | DataType::LargeUtf8) => Some(DataType::Utf8),
        (Kind::Any, found) => Some(found.clone()),
        _ => None,
    }
}
