//! Lines of MLIR's generic form: names of values, types, attributes.

use std::fmt::Write;

use crate::types::{DType, TensorType, join};

/// A value: its name, and its type.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) ty: TensorType,
}

/// The text of a function so far.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) text: String,
    values: usize,
}

impl Writer {
    /// A name that no other value has.
    pub(super) fn fresh(&mut self, ty: TensorType) -> Value {
        self.values += 1;
        Value { name: format!("%v{}", self.values), ty }
    }

    pub(super) fn line(&mut self, text: &str) {
        self.text += text;
        self.text += "\n";
    }

    /// A line `results = "op"(operands) <{attributes}> (regions) : types`; `regions` is their text, or empty.
    pub(super) fn several(
        &mut self,
        op: &str,
        operands: &[&Value],
        attributes: &str,
        regions: &str,
        results: Vec<TensorType>,
    ) -> Vec<Value> {
        let results: Vec<Value> = results.into_iter().map(|ty| self.fresh(ty)).collect();
        let names = |values: &[&Value]| values.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ");
        let types = |values: &[&Value]| values.iter().map(|v| tensor(&v.ty)).collect::<Vec<_>>().join(", ");
        let all: Vec<&Value> = results.iter().collect();
        let attributes = if attributes.is_empty() { String::new() } else { format!(" <{{{attributes}}}>") };
        let regions = if regions.is_empty() { String::new() } else { format!(" ({regions})") };
        let (operand_types, result_types) = (types(operands), types(&all));
        let line = format!(
            "{} = \"{op}\"({}){attributes}{regions} : ({operand_types}) -> ({result_types})",
            names(&all),
            names(operands)
        );
        self.line(&line);
        results
    }

    /// As [`Writer::several`], of an op with one result and no region.
    pub(super) fn op(&mut self, op: &str, operands: &[&Value], attributes: &str, result: TensorType) -> Value {
        self.several(op, operands, attributes, "", vec![result]).swap_remove(0)
    }

    /// A constant of these bytes: the elements, row-major, little-endian.
    pub(super) fn constant(&mut self, ty: &TensorType, bytes: &[u8]) -> Value {
        // Bits are packed in MLIR; bytes are not.
        let stored = if ty.dtype == DType::Bool { "ui8" } else { element(ty.dtype) };
        let mut hex = String::new();
        for byte in bytes {
            write!(hex, "{byte:02X}").expect("a string");
        }
        let shape = extents(ty);
        let value = if ty.elements() == 0 { "dense<>".into() } else { format!("dense<\"0x{hex}\">") };
        let result = self.fresh(ty.clone());
        let as_stored = format!("tensor<{shape}{stored}>");
        let name = if ty.dtype == DType::Bool { format!("{}_byte", result.name) } else { result.name.clone() };
        self.line(&format!(
            "{name} = \"stablehlo.constant\"() <{{value = {value} : {as_stored}}}> : () -> {as_stored}"
        ));
        if ty.dtype == DType::Bool {
            self.line(&format!("{} = \"stablehlo.convert\"({name}) : ({as_stored}) -> {}", result.name, tensor(ty)));
        }
        result
    }

    /// A scalar of these bits, broadcast to the type.
    pub(super) fn splat(&mut self, bits: u64, ty: &TensorType) -> Value {
        let scalar = TensorType::scalar(ty.dtype);
        let value = self.constant(&scalar, &bits.to_le_bytes()[..ty.dtype.size()]);
        if ty.rank() == 0 {
            return value;
        }
        self.op("stablehlo.broadcast_in_dim", &[&value], "broadcast_dimensions = array<i64>", ty.clone())
    }
}

/// The name of an element type.
pub(super) fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "i1",
        DType::I8 => "i8",
        DType::U8 => "ui8",
        DType::I16 => "i16",
        DType::U16 => "ui16",
        DType::I32 => "i32",
        DType::U32 => "ui32",
        DType::I64 => "i64",
        DType::U64 => "ui64",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        DType::F32 => "f32",
        DType::F64 => "f64",
    }
}

fn extents(ty: &TensorType) -> String {
    ty.shape.iter().map(|extent| format!("{extent}x")).collect()
}

/// A type: `tensor<2x3xf32>`.
pub(super) fn tensor(ty: &TensorType) -> String {
    format!("tensor<{}{}>", extents(ty), element(ty.dtype))
}

/// An attribute of integers: `name = array<i64: 1, 2>`.
pub(super) fn array<T: std::fmt::Display>(name: &str, items: &[T]) -> String {
    let colon = if items.is_empty() { "" } else { ": " };
    format!("{name} = array<i64{colon}{}>", join(items, ", "))
}

/// An entry of a list of axes: `name = [1, 2]`.
pub(super) fn list(name: &str, items: &[usize]) -> String {
    format!("{name} = [{}]", join(items, ", "))
}
