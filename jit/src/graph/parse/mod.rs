//! Reads the text that a graph prints as.
//!
//! Text comes in, a graph goes out, or an error with the number of the line at fault. Values may be called anything
//! (`%0`, `%x`) and are renumbered in order, inputs first; `//` starts a comment. The types on the lines are checked
//! against what [`infer()`] says, so a graph that parses verifies. Source lines are not restored, and constants that
//! were printed as a hash cannot be.

mod cursor;

use cursor::Cursor;
use hashbrown::HashMap;

use super::literal::Literal;
use super::op::Op;
use super::parameter::Functions;
use super::{Graph, Node, Operands, ValueId};
use crate::error::{Error, Result};
use crate::types::TensorType;

/// The graph that `text` describes: its first function. The others are what its ops name (`body=@f1`); a function names
/// only those that come after it.
///
/// # Errors
/// Text that is not a graph: with the line and the reason. It never panics.
pub fn parse(text: &str) -> Result<Graph> {
    read(text, Check::All)
}

/// As [`parse`], without the checks of the graph's invariants, for tests of [`verify`](super::verify()): types are what
/// the lines say, `%7` without a definition is value 7, `param 3` is an op, and a literal may have any bits
/// (`bits:0x2`). Values have to be numbered in order, as they are printed.
///
/// # Errors
/// Text in another syntax.
#[doc(hidden)]
pub fn parse_unchecked(text: &str) -> Result<Graph> {
    read(text, Check::Syntax)
}

/// What a reader checks.
#[derive(Clone, Copy, PartialEq)]
enum Check {
    /// That the text is a graph that verifies.
    All,
    /// Its syntax.
    Syntax,
}

fn read(text: &str, check: Check) -> Result<Graph> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| Cursor::new(line.split("//").next().unwrap_or("").trim(), i + 1))
        .filter(|cursor| cursor.end().is_err());
    let mut texts: Vec<Vec<Cursor<'_>>> = Vec::new();
    for line in lines {
        match texts.last_mut() {
            Some(text) if !line.at_function() => text.push(line),
            _ => texts.push(vec![line]),
        }
    }
    let mut functions = Functions::default();
    while let Some(lines) = texts.pop() {
        let head = lines[0];
        let (name, graph) = function(lines, &functions, check)?;
        if texts.is_empty() {
            return Ok(graph);
        }
        if !functions.define(name, graph) {
            return Err(head.error(format!("@{name} is defined twice")));
        }
    }
    Err(Error::new("graph text: there is none"))
}

/// A function, and what it is called.
fn function<'a>(lines: Vec<Cursor<'a>>, functions: &Functions, check: Check) -> Result<(&'a str, Graph)> {
    let mut lines = lines.into_iter();
    let mut reader = Reader { graph: Graph::new(), names: HashMap::new(), functions, check };
    let head = lines.next().ok_or_else(|| Error::new("graph text: there is none"))?;
    let (name, results) = reader.head(head)?;
    loop {
        let Some(cursor) = lines.next() else {
            return Err(Error::new("graph text: it ends without `return`"));
        };
        if reader.body(cursor, &results)? {
            break;
        }
    }
    let mut close = lines.next().ok_or_else(|| Error::new("graph text: it ends without `}`"))?;
    close.expect("}")?;
    close.end()?;
    match lines.next() {
        Some(cursor) => Err(cursor.expected("nothing after the function")),
        None => Ok((name, reader.graph)),
    }
}

/// The graph so far, and what its values are called in the text.
struct Reader<'a, 'f> {
    graph: Graph,
    names: HashMap<&'a str, ValueId>,
    functions: &'f Functions,
    check: Check,
}

impl<'a> Reader<'a, '_> {
    /// `fn main(%0: f32[4], %1: f32[]) -> (f32[4]) {`; gives its name and the types of the results.
    fn head(&mut self, mut cursor: Cursor<'a>) -> Result<(&'a str, Vec<TensorType>)> {
        cursor.expect("fn")?;
        let name = cursor.word()?;
        cursor.expect("(")?;
        let params = cursor.list(")", |cursor| {
            let name = cursor.name()?;
            cursor.expect(":")?;
            Ok((name, cursor.ty()?))
        })?;
        for (name, ty) in params {
            let id = self.graph.param(ty);
            self.define(name, id, &cursor)?;
        }
        cursor.expect("->")?;
        cursor.expect("(")?;
        let results = cursor.list(")", Cursor::ty)?;
        cursor.expect("{")?;
        cursor.end()?;
        Ok((name, results))
    }

    /// A value, or `return`, which ends the graph (`true`).
    fn body(&mut self, mut cursor: Cursor<'a>, results: &[TensorType]) -> Result<bool> {
        if cursor.at_name() {
            self.value(cursor)?;
            return Ok(false);
        }
        cursor.expect("return")?;
        let names = cursor.names()?;
        cursor.end()?;
        for name in names {
            let id = self.find(name, &cursor)?;
            if self.check == Check::All && self.graph.node(id).results() > 1 {
                return Err(cursor.error(format!("{name} has several results, and is none")));
            }
            self.graph.outputs.push(id);
        }
        if self.check == Check::Syntax {
            return Ok(true);
        }
        let actual = self.graph.output_types();
        if actual != results {
            let [actual, results] = [&actual[..], results].map(|types| crate::types::join(types, ", "));
            return Err(cursor.error(format!("returns ({actual}), but the head says ({results})")));
        }
        Ok(true)
    }

    /// `%3: f32[4] = add %0, %2`
    fn value(&mut self, mut cursor: Cursor<'a>) -> Result<()> {
        let name = cursor.name()?;
        cursor.expect(":")?;
        let ty = cursor.ty()?;
        cursor.expect("=")?;
        let op_name = cursor.word()?;
        let (op, operands) = match op_name {
            "param" if self.check == Check::Syntax => (Op::Param(cursor.number()?), Operands::new()),
            "literal" if self.check == Check::Syntax => {
                let bits = cursor.bits().map_or_else(|| cursor.element(ty.dtype).map(|x| x.bits), Ok)?;
                (Op::Literal(Literal { dtype: ty.dtype, bits }), Operands::new())
            }
            "literal" => (Op::Literal(cursor.element(ty.dtype)?), Operands::new()),
            "constant" => (Op::Constant(cursor.constant(&ty)?), Operands::new()),
            _ => {
                let names = cursor.names()?;
                let mut parameters = cursor.parameters(self.functions)?;
                let op = Op::read(op_name, &mut parameters)?
                    .ok_or_else(|| parameters.error(format!("there is no op called `{op_name}`")))?;
                parameters.none_left()?;
                let operands: Result<Operands> = names.into_iter().map(|name| self.find(name, &cursor)).collect();
                (op, operands?)
            }
        };
        cursor.end()?;
        if self.check == Check::All {
            self.check_value(&op, &operands, &ty, &cursor)?;
        }
        let id = self.graph.push(Node { op, operands, ty, location: None });
        self.define(name, id, &cursor)
    }

    /// Can the op be applied to the operands, and is its result of this type?
    fn check_value(&self, op: &Op, operands: &[ValueId], ty: &TensorType, cursor: &Cursor<'_>) -> Result<()> {
        let op_name = op.name();
        if let (Some(&several), false) =
            (operands.iter().find(|&&x| self.graph.node(x).results() > 1), matches!(op, Op::Result(_)))
        {
            let what = self.graph.node(several).op.name();
            return Err(cursor.error(format!("{op_name}: of {what}, only its results can be used")));
        }
        let inferred = self.graph.infer(op, operands).map_err(|why| cursor.error(format!("{op_name}: {why}")))?;
        if inferred != *ty {
            return Err(cursor.error(format!("{op_name} gives {inferred}, but the line says {ty}")));
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, id: ValueId, at: &Cursor<'_>) -> Result<()> {
        match self.names.insert(name, id) {
            Some(_) => Err(at.error(format!("{name} is defined twice"))),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str, at: &Cursor<'_>) -> Result<ValueId> {
        let number = || match self.check {
            Check::All => None,
            Check::Syntax => name.trim_start_matches('%').parse().ok().map(ValueId),
        };
        self.names.get(name).copied().or_else(number).ok_or_else(|| at.error(format!("{name} is not defined")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::graph::{Constant, infer, samples, verify};
    use crate::types::DType;

    /// One op applied to inputs.
    fn graph_of(op: &Op, operands: &[TensorType]) -> Graph {
        let mut graph = Graph::new();
        let params: Operands = operands.iter().map(|ty| graph.param(ty.clone())).collect();
        let types: Vec<&TensorType> = operands.iter().collect();
        let ty = infer(op, &types).unwrap();
        let id = graph.push(Node { op: op.clone(), operands: params, ty, location: None });
        graph.outputs.push(id);
        graph
    }

    #[test]
    fn every_sample_reads_back() {
        for sample in samples() {
            let graph = sample.graph();
            let text = graph.to_string();
            let again = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            verify(&again, "parse").unwrap();
            assert_eq!(again.to_string(), text);
            assert_eq!(again, graph, "{text}");
        }
    }

    #[test]
    fn odd_elements_read_back() {
        let f32s = [0, 1, 0x8000_0000, 0x7fc0_0000, 0x7fc0_0001, 0xffc0_0000, 0x7f80_0001, 0x7f7f_ffff, 0x7f80_0000];
        for bits in f32s {
            for (dtype, bits) in [(DType::F32, bits), (DType::F64, bits << 32 | 1)] {
                let op = Op::Literal(Literal { dtype, bits });
                let text = graph_of(&op, &[]).to_string();
                assert_eq!(parse(&text).unwrap().nodes[0].op, op, "{text}");
            }
        }
        let ty = TensorType::new(DType::Bool, &[0, 3]);
        let op = Op::Constant(Constant::new(&Array::zeros(&ty).unwrap()).unwrap());
        assert_eq!(parse(&graph_of(&op, &[]).to_string()).unwrap().nodes[0].op, op);
    }

    #[test]
    fn values_may_have_names_and_lines_comments() {
        let text = "// a comment\nfn f(%x: f32[2]) -> (f32[2], f32[2]) {\n\n %y_1: f32[2] = neg %x // why\n return %y_1, %x\n}";
        let expected = "fn main(%0: f32[2]) -> (f32[2], f32[2]) {\n  %1: f32[2] = neg %0\n  return %1, %0\n}\n";
        assert_eq!(parse(text).unwrap().to_string(), expected);
        assert_eq!(parse("fn f() -> () {\nreturn\n}").unwrap().to_string(), "fn main() -> () {\n  return\n}\n");
    }

    #[test]
    fn errors_name_the_line() {
        let with = |body: &str| {
            parse(&format!("fn f(%0: f32[2]) -> (f32[2]) {{\n{body}\nreturn %1\n}}")).unwrap_err().to_string()
        };
        let cases = [
            ("%1: f32[2] = neg %7", "line 2: %7 is not defined"),
            ("%0: f32[2] = neg %0", "line 2: %0 is defined twice"),
            ("%1: f32[3] = neg %0", "line 2: neg gives f32[2], but the line says f32[3]"),
            ("%1: f32[2] = nag %0", "line 2: there is no op called `nag`"),
            ("%1: f32[2] = param 0", "line 2: there is no op called `param`"),
            ("%1: f32[2] = add %0", "line 2: add: takes 2 operands, not 1"),
            ("%1: f32[2] = rev %0", "line 2: parameter `axes` is missing"),
            ("%1: f32[2] = rev %0 [axes=0, b=1]", "line 2: there is no parameter `b`"),
            ("%1: f32[2] = rev %0 [axes=-1]", "line 2: `axes=-1` is no such number"),
            ("%1: f32[2] = rev %0 [0]", "line 2: expected a parameter such as"),
            ("%1: f32[2] = rev %0 [axes=0", "line 2: expected parameters up to `]`"),
            ("%1: f99[2] = neg %0", "line 2: there is no element type `f99`"),
            ("%1: f32[2147483647,2147483647,9] = neg %0", "line 2: f32[2147483647,2147483647,9] is larger than"),
            (
                "%1: f32[2] = reshape %0 [shape=2147483647,2147483647,9]",
                "line 2: reshape: f32[2147483647,2147483647,9] is larger than",
            ),
            ("%1: i32[] = literal 1.5", "line 2: `1.5` is no element of type i32"),
            ("%1: f32[2] = constant {1.0}", "line 2: 1 elements do not fill f32[2]"),
            (
                "%1: f32[2] = constant {…4096 bytes, hash 1234abcd}",
                "line 2: the elements of this f32[2] were not printed",
            ),
            ("%1: f32[2] = neg %0 %0", "line 2: expected the end of the line, found `%0`"),
            ("%1: f32[2] neg %0", "line 2: expected `=`, found `neg %0`"),
            (
                "%2: u32[] = literal 1\n%1: u32[] = threefry %2, %2, %2, %2",
                "line 4: %1 has several results, and is none",
            ),
            (
                "%2: u32[] = literal 1\n%3: u32[] = threefry %2, %2, %2, %2\n%1: u32[] = not %3",
                "line 4: not: of threefry, only its results can be used",
            ),
            (
                "%2: u32[] = literal 1\n%3: u32[] = threefry %2, %2, %2, %2\n%1: u32[] = result %3 [index=2]",
                "line 4: result: threefry has 2 results, not a number 2",
            ),
            ("%1: f32[2] = result %0 [index=0]", "line 2: result: param has one result, which is itself"),
            ("%1: f32[] = literal 1.0", "line 3: returns (f32[]), but the head says (f32[2])"),
        ];
        for (body, expected) in cases {
            let error = with(body);
            assert!(error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn damaged_text_is_an_error() {
        // Every prefix, and every sample with one character taken out or changed, must not panic.
        let whole = "fn main(%0: f32[2,3], %1: u32[]) -> (f32[3]) {\n  %2: f32[3] = reduce_sum %0 [axes=0]\n  \
                     %3: f32[3] = constant {1.0, nan, bits:0x7fc00001}\n  %4: f32[3] = add %2, %3\n  return %4\n}\n";
        assert!(parse(whole).is_ok());
        for end in 0..whole.len() - 2 {
            assert!(parse(&whole[..end]).is_err(), "{end}");
        }
        for i in 0..whole.len() {
            for with in ["", "…", "9", "]", "%", ","] {
                let _ = parse(&format!("{}{with}{}", &whole[..i], &whole[i + 1..]));
            }
        }
    }
}
