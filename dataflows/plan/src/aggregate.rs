//! Aggregate functions as a plan names them.

use arrow::datatypes::DataType;

use crate::OrderColumn;

/// One aggregate function over a group.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Which.
    pub function: AggregateFunction,
    /// Input column that is aggregated; `None` for `count(*)`.
    pub argument: Option<usize>,
    /// Further arguments: the `x` of functions of two columns, the other columns of `count(DISTINCT a, b)`.
    pub further: Vec<usize>,
    /// What the group's rows are ordered by, for functions that depend on an order. Rows that are equal in it are in the
    /// order of the argument.
    pub order: Vec<OrderColumn>,
    /// A constant that the function takes.
    pub constant: Option<AggregateConstant>,
    /// Input column of booleans: only rows where it is true count.
    pub filter: Option<usize>,
    /// `DISTINCT`: equal values count once.
    pub distinct: bool,
    /// Type of the result.
    pub data_type: DataType,
}

/// A constant argument of an aggregate function.
#[derive(Debug, Clone, PartialEq)]
pub enum AggregateConstant {
    /// Which part of the rows lies before the wanted one; 0 to 1.
    Fraction(f64),
    /// What stands between texts.
    Separator(String),
}

/// The aggregate functions.
///
/// NULL is the result of all but `Count` where no value counts. Where the argument is NULL a row does not count, except for
/// `First`, `Last` and `Array`, which keep NULLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// Rows, or rows none of whose arguments is NULL; Int64.
    Count,
    /// Sum of an integer, decimal or float; an integer overflow is an error in the row's group.
    Sum,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Mean of an integer (as Float64), float or decimal.
    Avg,
    /// Whether all booleans are true.
    BoolAnd,
    /// Whether some boolean is true.
    BoolOr,
    /// Bits that are set in all integers.
    BitAnd,
    /// Bits that are set in some integer.
    BitOr,
    /// Bits that are set in an odd number of integers.
    BitXor,
    /// A statistic of one Float64, or of pairs `(y, x)` of them of which none is NULL; Float64.
    Statistic(Statistic),
    /// The argument in the first row of [`AggregateCall::order`], which is not empty.
    First,
    /// The argument in the last row of [`AggregateCall::order`], which is not empty.
    Last,
    /// All values as a list, in the order of [`AggregateCall::order`], then of the values.
    Array,
    /// All texts, joined by [`AggregateConstant::Separator`], in the order of [`AggregateCall::order`], then of the texts.
    Text,
    /// The value at [`AggregateConstant::Fraction`] of the Float64s in order, interpolated between neighbours. Greatest
    /// first if the order says so (as for the two below).
    PercentileCont,
    /// The first value before or at which [`AggregateConstant::Fraction`] of the values in order lies.
    PercentileDisc,
    /// Like `PercentileCont` without interpolation, off by at most 1/256 of the value.
    ApproxPercentile,
    /// The most frequent value; of several the smallest, or the greatest if the order says so.
    Mode,
}

/// The statistics that come from sums of values and of their products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statistic {
    /// Variance of all values.
    VarPop,
    /// Variance estimated from a sample: NULL for fewer than two values.
    VarSamp,
    /// Root of `VarPop`.
    StddevPop,
    /// Root of `VarSamp`.
    StddevSamp,
    /// Covariance of all pairs.
    CovarPop,
    /// Covariance estimated from a sample: NULL for fewer than two pairs.
    CovarSamp,
    /// Correlation; NULL where one side does not vary.
    Corr,
    /// Slope of the line `y = slope * x + intercept` with the least squares; NULL where `x` does not vary.
    RegrSlope,
    /// Intercept of that line.
    RegrIntercept,
    /// Square of the correlation; 1 where only `y` does not vary, NULL where `x` does not.
    RegrR2,
    /// Mean of `x` over the pairs.
    RegrAvgX,
    /// Mean of `y` over the pairs.
    RegrAvgY,
    /// Sum of squares of `x` less its mean.
    RegrSxx,
    /// Sum of squares of `y` less its mean.
    RegrSyy,
    /// Sum of products of `y` less its mean with `x` less its mean.
    RegrSxy,
}

impl AggregateFunction {
    /// The name by which people know it.
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Count => "count",
            AggregateFunction::Sum => "sum",
            AggregateFunction::Min => "min",
            AggregateFunction::Max => "max",
            AggregateFunction::Avg => "avg",
            AggregateFunction::BoolAnd => "bool_and",
            AggregateFunction::BoolOr => "bool_or",
            AggregateFunction::BitAnd => "bit_and",
            AggregateFunction::BitOr => "bit_or",
            AggregateFunction::BitXor => "bit_xor",
            AggregateFunction::Statistic(statistic) => statistic.name(),
            AggregateFunction::First => "first_value",
            AggregateFunction::Last => "last_value",
            AggregateFunction::Array => "array_agg",
            AggregateFunction::Text => "string_agg",
            AggregateFunction::PercentileCont => "percentile_cont",
            AggregateFunction::PercentileDisc => "percentile_disc",
            AggregateFunction::ApproxPercentile => "approx_percentile_cont",
            AggregateFunction::Mode => "mode",
        }
    }

    /// Whether `DISTINCT` changes nothing.
    pub fn ignores_copies(self) -> bool {
        use AggregateFunction as F;
        matches!(self, F::Min | F::Max | F::BoolAnd | F::BoolOr | F::BitAnd | F::BitOr | F::First | F::Last)
    }
}

impl Statistic {
    /// The name by which people know it.
    pub fn name(self) -> &'static str {
        match self {
            Statistic::VarPop => "var_pop",
            Statistic::VarSamp => "var_samp",
            Statistic::StddevPop => "stddev_pop",
            Statistic::StddevSamp => "stddev_samp",
            Statistic::CovarPop => "covar_pop",
            Statistic::CovarSamp => "covar_samp",
            Statistic::Corr => "corr",
            Statistic::RegrSlope => "regr_slope",
            Statistic::RegrIntercept => "regr_intercept",
            Statistic::RegrR2 => "regr_r2",
            Statistic::RegrAvgX => "regr_avgx",
            Statistic::RegrAvgY => "regr_avgy",
            Statistic::RegrSxx => "regr_sxx",
            Statistic::RegrSyy => "regr_syy",
            Statistic::RegrSxy => "regr_sxy",
        }
    }

    /// Whether it is of pairs.
    pub fn of_pairs(self) -> bool {
        !matches!(self, Statistic::VarPop | Statistic::VarSamp | Statistic::StddevPop | Statistic::StddevSamp)
    }
}

impl AggregateCall {
    /// A function of one column (of none for `count(*)`), of all rows, without more.
    pub fn of(function: AggregateFunction, argument: Option<usize>, data_type: DataType) -> Self {
        let (further, order) = (Vec::new(), Vec::new());
        AggregateCall { function, argument, further, order, constant: None, filter: None, distinct: false, data_type }
    }
}
