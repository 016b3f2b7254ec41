//! One line of a graph's text, from which the parser takes what it expects next. Everything that can be wrong with a
//! line's pieces (names, types, elements, parameters) is an error here, with the line's number.

use crate::array::Array;
use crate::error::{Error, Result};
use crate::graph::literal::{Constant, Literal};
use crate::graph::parameter::{Functions, Parameters, bounded, line_error};
use crate::types::scalar::Scalar;
use crate::types::{DType, Kind, TensorType};

/// The rest of a line.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a str, line: usize) -> Self {
        Cursor { rest, line }
    }

    pub(super) fn error(&self, why: impl std::fmt::Display) -> Error {
        line_error(self.line, why)
    }

    pub(super) fn expected(&self, what: &str) -> Error {
        let found = if self.rest.is_empty() { "the end of the line".into() } else { format!("`{}`", self.rest) };
        self.error(format!("expected {what}, found {found}"))
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }

    /// The longest start of the rest that consists of these characters.
    pub(super) fn take(&mut self, what: &str, belongs: impl Fn(char) -> bool) -> Result<&'a str> {
        let (taken, rest) = self.rest.split_at(self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len()));
        if taken.is_empty() {
            return Err(self.expected(what));
        }
        self.rest = rest.trim_start();
        Ok(taken)
    }

    pub(super) fn word(&mut self) -> Result<&'a str> {
        self.take("a name", |c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// Does a value such as `%12` come next?
    pub(super) fn at_name(&self) -> bool {
        self.rest.starts_with('%')
    }

    /// Does a function begin here?
    pub(super) fn at_function(&self) -> bool {
        self.rest.strip_prefix("fn").is_some_and(|rest| rest.starts_with(char::is_whitespace))
    }

    /// `%12`, with its `%`.
    pub(super) fn name(&mut self) -> Result<&'a str> {
        if !self.at_name() {
            return Err(self.expected("a value such as `%0`"));
        }
        self.take("a value such as `%0`", |c| c.is_ascii_alphanumeric() || c == '_' || c == '%')
    }

    /// `%0, %1, …`, or nothing.
    pub(super) fn names(&mut self) -> Result<Vec<&'a str>> {
        let mut names = Vec::new();
        if self.at_name() {
            names.push(self.name()?);
            while self.eat(",") {
                names.push(self.name()?);
            }
        }
        Ok(names)
    }

    /// Items with commas between them up to `close`.
    pub(super) fn list<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    /// `f32[128,784]`
    pub(super) fn ty(&mut self) -> Result<TensorType> {
        let name = self.word()?;
        let dtype = DType::parse(name).ok_or_else(|| self.error(format!("there is no element type `{name}`")))?;
        self.expect("[")?;
        let extents = self.list("]", |cursor| {
            let text = cursor.word()?;
            bounded(text).ok_or_else(|| cursor.error(format!("`{text}` is no extent")))
        })?;
        let ty = TensorType::new(dtype, &extents);
        ty.check_size().map_err(|why| self.error(why))?;
        Ok(ty)
    }

    /// An element as it is printed: `1.5`, `-inf`, `bits:0x7fc00001`, `true`.
    pub(super) fn element(&mut self, dtype: DType) -> Result<Literal> {
        let text = self.take("an element", |c| !matches!(c, ',' | '}' | ' '))?;
        let float = |text: &str| {
            // Rounded once where it can be: the text of a number is that of the f32 or the f64 of its value.
            if DType::F32.represents(dtype) { text.parse().ok().map(|x: f32| x.into()) } else { text.parse().ok() }
        };
        let bits = match (dtype.kind(), text.strip_prefix("bits:0x")) {
            (Kind::Bool, _) => text.parse::<bool>().ok().map(u64::from),
            (Kind::Int { .. }, _) => text.parse::<i128>().ok().map(Scalar::Int).and_then(|x| {
                let (least, greatest) = dtype.range();
                (least <= x && x <= greatest).then(|| dtype.bits(x))
            }),
            (Kind::Float(_), Some(bits)) => u64::from_str_radix(bits, 16).ok().filter(|&bits| bits <= dtype.ones()),
            // The usual NaN is written out: which bits `parse` gives for it is not promised.
            (Kind::Float(format), None) if text == "nan" => Some(format.nan()),
            (Kind::Float(format), None) => float(text).map(|x| format.encode(x)),
        };
        let bits = bits.ok_or_else(|| self.error(format!("`{text}` is no element of type {dtype}")))?;
        Ok(Literal { dtype, bits })
    }

    /// `3`
    pub(super) fn number(&mut self) -> Result<usize> {
        let text = self.word()?;
        bounded(text).ok_or_else(|| self.error(format!("`{text}` is no number")))
    }

    /// `bits:0x2`, of any element type.
    pub(super) fn bits(&mut self) -> Option<u64> {
        let bits = u64::from_str_radix(self.rest.strip_prefix("bits:0x")?, 16).ok()?;
        self.rest = "";
        Some(bits)
    }

    /// `{1.0, 2.0}`
    pub(super) fn constant(&mut self, ty: &TensorType) -> Result<Constant> {
        self.expect("{")?;
        if self.rest.starts_with('…') {
            return Err(self.error(format!(
                "the elements of this {ty} were not printed (only their hash), so it cannot be read back"
            )));
        }
        let elements = self.list("}", |cursor| cursor.element(ty.dtype))?;
        let bits: Vec<u64> = elements.iter().map(|element| element.bits).collect();
        if elements.len() != ty.elements() {
            return Err(self.error(format!("{} elements do not fill {ty}", elements.len())));
        }
        Array::from_bits(ty, &bits).and_then(|array| Constant::new(&array)).map_err(|e| self.error(e))
    }

    /// `[shape=4,5, dims=]`, or nothing. A piece between commas with `=` in it starts the next parameter, any other
    /// continues the last one's list.
    pub(super) fn parameters<'p>(&mut self, functions: &'p Functions) -> Result<Parameters<'p>>
    where
        'a: 'p,
    {
        let mut parameters = Parameters::new(self.line, functions);
        if !self.eat("[") {
            return Ok(parameters);
        }
        let (inside, rest) = self.rest.split_once(']').ok_or_else(|| self.expected("parameters up to `]`"))?;
        if !parameters.split(inside) {
            return Err(self.expected("a parameter such as `axis=0`"));
        }
        self.rest = rest.trim_start();
        Ok(parameters)
    }
}
