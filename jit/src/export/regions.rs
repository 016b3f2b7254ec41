//! The regions of ops that take a function: what reduces, sorts, combines.

use super::writer::{Value, Writer, tensor};
use crate::types::{DType, TensorType};

impl Writer {
    /// The text of a region with a block of these arguments, whose body writes lines and gives the results.
    pub(super) fn region(
        &mut self,
        arguments: Vec<TensorType>,
        body: impl FnOnce(&mut Writer, &[Value]) -> Vec<Value>,
    ) -> String {
        let arguments: Vec<Value> = arguments.into_iter().map(|ty| self.fresh(ty)).collect();
        let outer = std::mem::take(&mut self.text);
        let results = body(self, &arguments);
        let names: Vec<&str> = results.iter().map(|v| v.name.as_str()).collect();
        let types: Vec<String> = results.iter().map(|v| tensor(&v.ty)).collect();
        self.line(&format!("\"stablehlo.return\"({}) : ({}) -> ()", names.join(", "), types.join(", ")));
        let inner = std::mem::replace(&mut self.text, outer);
        let header: Vec<String> = arguments.iter().map(|v| format!("{}: {}", v.name, tensor(&v.ty))).collect();
        let header = if header.is_empty() { String::new() } else { format!("^bb0({}):\n", header.join(", ")) };
        format!("{{\n{header}{inner}}}")
    }

    /// A region that applies an op to two scalars.
    pub(super) fn combine(&mut self, op: &str, dtype: DType) -> String {
        let scalar = || TensorType::scalar(dtype);
        self.region(vec![scalar(), scalar()], |w, x| vec![w.op(op, &[&x[0], &x[1]], "", scalar())])
    }

    pub(super) fn compare(&mut self, direction: &str, x: &Value, y: &Value) -> Value {
        let attribute = format!("comparison_direction = #stablehlo<comparison_direction {direction}>");
        self.op("stablehlo.compare", &[x, y], &attribute, x.ty.with_dtype(DType::Bool))
    }

    pub(super) fn logical(&mut self, op: &str, x: &Value, y: &Value) -> Value {
        self.op(&format!("stablehlo.{op}"), &[x, y], "", x.ty.clone())
    }

    /// Whether `x` comes before `y`, and whether they are equal: NaN is equal to NaN, and comes last (or first).
    fn order(&mut self, x: &Value, y: &Value, direction: &str, nan_first: bool) -> (Value, Value) {
        let (before, equal) = (self.compare(direction, x, y), self.compare("EQ", x, y));
        if !x.ty.dtype.is_float() {
            return (before, equal);
        }
        let (x_nan, y_nan) = (self.compare("NE", x, x), self.compare("NE", y, y));
        let (one, other) = if nan_first { (&x_nan, &y_nan) } else { (&y_nan, &x_nan) };
        let number = self.op("stablehlo.not", &[other], "", other.ty.clone());
        let by_nan = self.logical("and", one, &number);
        let both = self.logical("and", &x_nan, &y_nan);
        (self.logical("or", &before, &by_nan), self.logical("or", &equal, &both))
    }

    /// The comparator of a sort of operands of these types, by the first `keys` of them.
    pub(super) fn comparator(&mut self, dtypes: &[DType], keys: usize) -> String {
        let arguments = dtypes.iter().flat_map(|&dtype| [TensorType::scalar(dtype), TensorType::scalar(dtype)]);
        self.region(arguments.collect(), |w, x| {
            let mut pairs = x.chunks(2).take(keys).rev();
            let last = pairs.next().expect("a sort has a key");
            let mut before = w.order(&last[0], &last[1], "LT", false).0;
            for pair in pairs {
                let (first, equal) = w.order(&pair[0], &pair[1], "LT", false);
                let then = w.logical("and", &equal, &before);
                before = w.logical("or", &first, &then);
            }
            vec![before]
        })
    }

    /// The region that keeps the extreme value and its position: the first NaN, else the first of equals.
    pub(super) fn extreme(&mut self, direction: &str, dtype: DType) -> String {
        let (value, position) = (TensorType::scalar(dtype), TensorType::scalar(DType::I32));
        let arguments = vec![value.clone(), position.clone(), value.clone(), position.clone()];
        self.region(arguments, |w, x| {
            let (before, equal) = w.order(&x[0], &x[2], direction, true);
            let earlier = w.compare("LT", &x[1], &x[3]);
            let tied = w.logical("and", &equal, &earlier);
            let first = w.logical("or", &before, &tied);
            let pick = |w: &mut Writer, a: usize, b: usize, ty: TensorType| {
                w.op("stablehlo.select", &[&first, &x[a], &x[b]], "", ty)
            };
            vec![pick(w, 0, 2, value.clone()), pick(w, 1, 3, position.clone())]
        })
    }
}
