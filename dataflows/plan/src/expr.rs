//! Expressions over the columns of one batch, evaluated a batch at a time.
//!
//! The planner's expression trees stay behind [`Scalar`]; what the rest of the house needs of them is their type, which
//! columns they read, whether they can fail, and where in the SQL text they stand (so that a row that fails names its
//! place).

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use crate::Span;

/// An expression could not be evaluated over a batch.
///
/// At least one row of the batch is at fault. Which one is found by evaluating parts of the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// Lower case, no full stop, names the operation: `division by zero`.
    pub message: String,
}

/// A vectorised expression over the columns of a batch.
///
/// `Display` prints it with positional columns (`#0 + 1`), without names or addresses: equal text over equal inputs is
/// the same computation.
pub trait Scalar: fmt::Debug + fmt::Display + Send + Sync {
    /// Evaluates over every row of `batch`: the result has `batch.num_rows()` rows of the expression's type.
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvalError>;

    /// Whether evaluating costs nothing per row: a column, or a field of a struct column. Such an expression is better
    /// evaluated before a filter than after, because then only what it gives has to be filtered.
    fn is_free(&self) -> bool {
        false
    }
}

/// An expression with what the planner knows of it.
///
/// `Debug` prints what it computes and its type, but not its place: see [`crate::fingerprints`].
#[derive(Clone)]
pub struct Expr {
    /// Evaluates it.
    pub scalar: Arc<dyn Scalar>,
    /// The type of its result.
    pub data_type: DataType,
    /// Whether its result can be NULL.
    pub nullable: bool,
    /// Positions of the input columns that it reads, ascending.
    pub columns: Vec<usize>,
    /// Whether some input can make it fail: overflow, division by zero, a cast.
    pub fallible: bool,
    /// Where it stands in the job's text.
    pub span: Option<Span>,
}

impl Expr {
    /// The input column at `index`, unchanged.
    pub fn column(index: usize, data_type: DataType, nullable: bool) -> Self {
        Expr { scalar: Arc::new(Column(index)), data_type, nullable, columns: vec![index], fallible: false, span: None }
    }

    /// The position of the input column that this expression is, if it is nothing more.
    pub fn as_column(&self) -> Option<usize> {
        let text = self.scalar.to_string();
        text.strip_prefix('#').and_then(|index| index.parse().ok())
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}: {:?}{})", self.scalar, self.data_type, if self.nullable { "" } else { " NOT NULL" })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scalar.fmt(f)
    }
}

/// A column of the input, by position.
#[derive(Debug)]
struct Column(usize);

impl Scalar for Column {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvalError> {
        Ok(Arc::clone(batch.column(self.0)))
    }

    fn is_free(&self) -> bool {
        true
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
