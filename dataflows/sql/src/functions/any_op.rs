//! `x = ANY(array)`, `x > ALL(array)`: a comparison with each item, joined by OR or AND with SQL's three values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, UInt32Array};
use arrow::compute::kernels::cmp;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// `any_op(x, array, operator)` and `all_op(..)`, which the pre-pass makes.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |all| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Quantified { all, signature }))
    };
    vec![function(false), function(true)]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantified {
    all: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Quantified {
    fn name(&self) -> &str {
        if self.all { "all_op" } else { "any_op" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let [left, DataType::List(item), operator] = found else {
            return plan_err!("the right side of ANY or ALL is an array: x = ANY(ARRAY[1, 2])");
        };
        let Some(common) = comparison_coercion(left, item.data_type()) else {
            return plan_err!("the items of the array cannot be compared with the left side");
        };
        let list = DataType::List(Arc::new(Field::new_list_field(common.clone(), true)));
        Ok(vec![common, list, operator.clone()])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (left, lists) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let operator = args.args[2].to_array(rows)?;
        let operator = if rows == 0 { "=".to_string() } else { operator.as_string::<i32>().value(0).to_string() };
        compare(&left, &lists, &operator, self.all).map(|found| ColumnarValue::Array(Arc::new(found)))
    }
}

fn compare(left: &ArrayRef, lists: &ArrayRef, operator: &str, all: bool) -> Result<BooleanArray> {
    let lists = lists.as_list::<i32>();
    let offsets = lists.value_offsets();
    let first = offsets.first().copied().unwrap_or(0) as usize;
    let count = offsets.last().copied().unwrap_or(0) as usize - first;
    let items = lists.values().slice(first, count);
    let owners = (0..lists.len()).flat_map(|row| std::iter::repeat_n(row as u32, (offsets[row + 1] - offsets[row]) as usize));
    let left_items = take(left, &UInt32Array::from_iter_values(owners), None)?;
    let compared = match operator {
        "=" => cmp::eq(&left_items, &items),
        "<>" | "!=" => cmp::neq(&left_items, &items),
        "<" => cmp::lt(&left_items, &items),
        "<=" => cmp::lt_eq(&left_items, &items),
        ">" => cmp::gt(&left_items, &items),
        ">=" => cmp::gt_eq(&left_items, &items),
        other => return Err(exec_datafusion_err!("'{other}' cannot be used with ANY or ALL")),
    }?;
    let mut out = BooleanBuilder::with_capacity(lists.len());
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.append_null();
            continue;
        }
        let range = offsets[row] as usize - first..offsets[row + 1] as usize - first;
        // One item decides; without it a NULL leaves it open.
        let decided = range.clone().any(|item| compared.is_valid(item) && compared.value(item) != all);
        let open = range.clone().any(|item| compared.is_null(item));
        out.append_option(if decided {
            Some(!all)
        } else if open {
            None
        } else {
            Some(all)
        });
    }
    Ok(out.finish())
}
