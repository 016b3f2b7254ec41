//! The interpreter against an outsider's answers: the tests of ZLUDA, whose kernels have expected outputs that its
//! authors also compare with NVIDIA's driver.
//!
//! `FULGURITE_ZLUDA_PTX` names the folder `ptx/src/test/spirv_run` of its repository; without it the test is skipped.
//! A kernel is rewritten as the parser reads it: registers and variables by number, and what PTX leaves out is said.
//! Those that need more than the subset of `ptx::inst` are named, with what is missing.

use std::collections::HashMap;
use std::path::PathBuf;

use fulgurite::compiler::ptx::parse::parse;
use fulgurite::compiler::ptx::simt::{Launch, Memory, Options, run_with};

/// A result, or why there is none.
type Outcome<T> = std::result::Result<T, String>;

/// A test: a kernel, and what it makes of some bytes.
struct Case {
    input: Option<Vec<u8>>,
    output: Vec<u8>,
}

#[test]
fn kernels_have_the_outputs_that_zluda_expects() {
    let Some(folder) = std::env::var_os("FULGURITE_ZLUDA_PTX").map(PathBuf::from) else {
        println!("skipped: FULGURITE_ZLUDA_PTX names no folder");
        return;
    };
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{}: {e}", folder.join(name).display()))
    };
    let (mut right, mut missing, mut faults) = (0, 0, Vec::new());
    for (name, case) in cases(&read("mod.rs")) {
        let module = case.and_then(|case| {
            let text = rewritten(&read(&format!("{name}.ptx")))?;
            parse(&text).map(|module| (case, module)).map_err(|e| format!("{e}"))
        });
        match module.and_then(|(case, module)| run(&case, &module.entries[0])) {
            Err(why) => {
                missing += 1;
                println!("{name}: {why}");
            }
            Ok(None) => right += 1,
            Ok(Some(difference)) => faults.push(format!("{name}: {difference}")),
        }
    }
    println!("{right} kernels have the expected outputs, {missing} are not in the subset");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(right > 0, "there are kernels in the subset");
}

/// Runs a kernel; a difference, if there is one. What the interpreter has no type for is not in the subset, nor are
/// registers that have no value.
fn run(case: &Case, entry: &fulgurite::compiler::ptx::inst::Entry) -> Outcome<Option<String>> {
    let mut memory = Memory::new();
    // One kernel has more threads than it has outputs that are compared.
    let output = memory.alloc(&vec![0; 2 * case.output.len()]);
    let (block, params) = match &case.input {
        Some(input) => (1, vec![memory.alloc(input), output]),
        None => (64, vec![output]),
    };
    let launch = Launch { entry, grid: 1, block, cooperative: false, params: &params };
    if let Err(error) = run_with(&mut memory, &launch, &Options::default()) {
        let error = error.to_string();
        return if ["does not fit", "has no value"].iter().any(|text| error.contains(text)) {
            Err(error)
        } else {
            Ok(Some(error))
        };
    }
    let mut got = vec![0; case.output.len()];
    memory.read(output, &mut got).map_err(|e| e.to_string())?;
    Ok((got != case.output).then(|| format!("{got:02x?}, expected {:02x?}", case.output)))
}

/// The text without comments.
fn uncommented(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |all, line| all + line + "\n")
}

/// The parts between commas that are in no bracket.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                all.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(text[start..].trim());
    all.retain(|part| !part.is_empty());
    all
}

/// The tests that have outputs, as macros of a Rust file.
fn cases(text: &str) -> Vec<(String, Outcome<Case>)> {
    let text = uncommented(text);
    let mut all = Vec::new();
    for (which, _) in text.match_indices("test_ptx") {
        let rest = &text[which..];
        let Some((head, rest)) = rest.split_once('(') else { continue };
        let takes_input = match head {
            "test_ptx!" | "test_ptx_with_32!" => true,
            "test_ptx_warp!" => false,
            _ => continue,
        };
        let Some(end) = rest.find(");") else { continue };
        let parts = parts(&rest[..end]);
        let (name, values) = (parts[0].to_owned(), &parts[1..]);
        if values.is_empty() {
            continue;
        }
        let lists = values.iter().map(|list| bytes(list)).collect::<Outcome<Vec<_>>>();
        let case = lists.map(|mut lists| {
            let output = lists.pop().unwrap_or_default();
            Case { input: takes_input.then(|| lists.remove(0)), output }
        });
        all.push((name, case));
    }
    all
}

/// The bytes of a list of Rust's literals.
fn bytes(list: &str) -> Outcome<Vec<u8>> {
    let inside = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).ok_or("no list")?;
    let values = parts(inside).into_iter().map(|text| value(text).ok_or(format!("a value `{text}`")));
    let values = values.collect::<Outcome<Vec<_>>>()?;
    let is_float = values.iter().any(|(value, _)| matches!(value, Value::Float(_)));
    let ty = values.iter().find_map(|(_, ty)| *ty).unwrap_or(if is_float { "f64" } else { "i32" });
    let size = ty[1..].parse::<usize>().map_err(|e| e.to_string())? / 8;
    let bits = values.into_iter().map(|(value, _)| match (value, ty) {
        (Value::Int(x), "f32") => u64::from((x as f32).to_bits()),
        (Value::Int(x), "f64") => (x as f64).to_bits(),
        (Value::Int(x), _) => x as u64,
        (Value::Float(x), "f32") => u64::from((x as f32).to_bits()),
        (Value::Float(x), _) => x.to_bits(),
    });
    Ok(bits.flat_map(|bits| bits.to_le_bytes()[..size].to_vec()).collect())
}

enum Value {
    Int(i128),
    Float(f64),
}

const TYPES: [&str; 10] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64"];

/// The value of a literal or constant, and its type if it is said.
fn value(text: &str) -> Option<(Value, Option<&'static str>)> {
    if let Some((x, y)) = text.split_once('/') {
        let ((Value::Float(x), ty), (Value::Float(y), _)) = (value(x.trim())?, value(y.trim())?) else { return None };
        return Some((Value::Float(x / y), ty));
    }
    if let Some(rest) = text.strip_prefix('-') {
        return Some(match value(rest)? {
            (Value::Int(x), ty) => (Value::Int(-x), ty),
            (Value::Float(x), ty) => (Value::Float(-x), ty),
        });
    }
    let constant = match text {
        "i32::MIN" => Some((Value::Int(i32::MIN.into()), "i32")),
        "i32::MAX" => Some((Value::Int(i32::MAX.into()), "i32")),
        "u32::MAX" => Some((Value::Int(u32::MAX.into()), "u32")),
        "u64::max_value()" => Some((Value::Int(u64::MAX.into()), "u64")),
        "f32::NAN" => Some((Value::Float(f64::NAN), "f32")),
        "f32::INFINITY" => Some((Value::Float(f64::INFINITY), "f32")),
        "std::f32::consts::PI" => Some((Value::Float(std::f32::consts::PI.into()), "f32")),
        _ => None,
    };
    if let Some((value, ty)) = constant {
        return Some((value, Some(ty)));
    }
    let text = text.replace('_', "");
    let (radix, digits) = match text.get(..2) {
        Some("0x") => (16, &text[2..]),
        Some("0b") => (2, &text[2..]),
        _ => (10, &text[..]),
    };
    let ty = TYPES.into_iter().find(|ty| digits.ends_with(ty) && (radix != 16 || !ty.starts_with('f')));
    let digits = digits.strip_suffix(ty.unwrap_or_default())?;
    let is_float = radix == 10 && (digits.contains('.') || ty.is_some_and(|ty| ty.starts_with('f')));
    let value = match is_float {
        true => Value::Float(digits.parse().ok()?),
        false => Value::Int(i128::from_str_radix(digits, radix).ok()?),
    };
    Some((value, ty))
}

/// The words and marks of a text.
fn tokens(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_ascii_alphanumeric() || "._$%".contains(c);
        match (is_word, in_word) {
            (true, true) => all.last_mut().expect("a word").push(c),
            (false, _) if c.is_whitespace() => {}
            _ => all.push(c.into()),
        }
        in_word = is_word;
    }
    all
}

/// A kernel as the parser reads it.
fn rewritten(text: &str) -> Outcome<String> {
    let tokens = tokens(&uncommented(text).replace(".reg.", ".reg ."));
    let mut rewriter = Rewriter { tokens: &tokens, at: 0, ..Rewriter::default() };
    rewriter.entry()?;
    let Rewriter { name, params, body, registers, bytes, .. } = rewriter;
    let params: Vec<String> =
        params.iter().enumerate().map(|(i, (ty, _))| format!(".param {ty} {name}_p{i}")).collect();
    let mut out =
        format!(".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry {name}({})\n", params.join(", "));
    out += ".maxntid 64, 1, 1\n{\n";
    for ((class, declared), count) in CLASSES.iter().zip(registers) {
        out += &if count > 0 { format!(".reg .{declared} {class}<{count}>;\n") } else { String::new() };
    }
    for (space, bytes) in ["shared", "local"].iter().zip(bytes) {
        out += &if bytes > 0 { format!(".{space} .align 16 .b8 {space}[{bytes}];\n") } else { String::new() };
    }
    Ok(out + &body + "}\n")
}

/// The classes of registers, and the types that they are declared with.
const CLASSES: [(&str, &str); 6] =
    [("%p", "pred"), ("%h", "b16"), ("%r", "b32"), ("%rd", "b64"), ("%f", "f32"), ("%fd", "f64")];

/// What a name stands for.
#[derive(Clone)]
enum Meaning {
    Register(String),
    Variable(&'static str, usize),
}

#[derive(Default)]
struct Rewriter<'a> {
    tokens: &'a [String],
    at: usize,
    name: String,
    params: Vec<(String, String)>,
    names: HashMap<String, Meaning>,
    labels: HashMap<String, usize>,
    registers: [usize; 6],
    /// Of shared and of local memory.
    bytes: [usize; 2],
    body: String,
}

impl<'a> Rewriter<'a> {
    fn next(&mut self) -> Outcome<&'a str> {
        self.at += 1;
        self.tokens.get(self.at - 1).map(String::as_str).ok_or_else(|| "an end within an entry".into())
    }

    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn expect(&mut self, words: &[&str]) -> Outcome<()> {
        for word in words {
            let found = self.next()?;
            if found != *word {
                return Err(format!("`{found}`, not `{word}`"));
            }
        }
        Ok(())
    }

    fn entry(&mut self) -> Outcome<()> {
        self.expect(&[".version"])?;
        self.next()?;
        self.expect(&[".target"])?;
        self.next()?;
        self.expect(&[".address_size", "64", ".visible", ".entry"])?;
        self.name = self.next()?.into();
        self.expect(&["("])?;
        while self.peek() != ")" {
            self.expect(&[".param"])?;
            let (ty, name) = (self.next()?.into(), self.next()?.into());
            self.params.push((ty, name));
            if self.peek() == "," {
                self.at += 1;
            }
        }
        self.at += 1;
        while self.peek() != "{" {
            self.next()?;
        }
        self.at += 1;
        self.scope()?;
        if self.peek().is_empty() { Ok(()) } else { Err(format!("`{}` behind an entry", self.peek())) }
    }

    /// Statements up to the brace.
    fn scope(&mut self) -> Outcome<()> {
        loop {
            match self.next()? {
                "}" => return Ok(()),
                "{" => {
                    let outside = self.names.clone();
                    self.scope()?;
                    self.names = outside;
                }
                ".reg" => self.declare_registers()?,
                ".shared" => self.declare_variable(0, "shared")?,
                ".local" => self.declare_variable(1, "local")?,
                word if self.peek() == ":" => {
                    self.at += 1;
                    let label = self.label(word);
                    self.body += &format!("{label}:\n");
                }
                word => self.instruction(word)?,
            }
        }
    }

    fn label(&mut self, name: &str) -> String {
        let count = self.labels.len();
        format!("L{}", self.labels.entry(name.into()).or_insert(count))
    }

    fn declare_registers(&mut self) -> Outcome<()> {
        let ty = self.next()?;
        let class = match ty {
            ".pred" => 0,
            ".b16" | ".u16" | ".s16" | ".f16" => 1,
            ".b32" | ".u32" | ".s32" | ".f16x2" => 2,
            ".b64" | ".u64" | ".s64" => 3,
            ".f32" => 4,
            ".f64" => 5,
            _ => return Err(format!("registers of `{ty}`")),
        };
        loop {
            let name = self.next()?;
            let mut names = vec![name.to_owned()];
            if self.peek() == "<" {
                self.at += 1;
                let count = self.next()?.parse::<usize>().map_err(|e| e.to_string())?;
                names = (0..count).map(|i| format!("{name}{i}")).collect();
                self.expect(&[">"])?;
            }
            for name in names {
                let register = format!("{}{}", CLASSES[class].0, self.registers[class]);
                self.registers[class] += 1;
                self.names.insert(name, Meaning::Register(register));
            }
            match self.next()? {
                "," => {}
                ";" => return Ok(()),
                other => return Err(format!("`{other}` in a declaration")),
            }
        }
    }

    fn declare_variable(&mut self, space: usize, name: &'static str) -> Outcome<()> {
        let mut align = 1;
        if self.peek() == ".align" {
            self.at += 1;
            align = self.next()?.parse::<usize>().map_err(|e| e.to_string())?;
        }
        let ty = self.next()?;
        let size = ty[2..].parse::<usize>().map_err(|_| format!("a variable of `{ty}`"))? / 8;
        let variable = self.next()?.to_owned();
        let mut bytes = size;
        if self.peek() == "[" {
            self.at += 1;
            bytes *= self.next()?.parse::<usize>().map_err(|e| e.to_string())?;
            self.expect(&["]"])?;
        }
        self.expect(&[";"])?;
        let start = self.bytes[space].next_multiple_of(align.max(size));
        self.bytes[space] = start + bytes;
        self.names.insert(variable, Meaning::Variable(name, start));
        Ok(())
    }

    fn instruction(&mut self, first: &str) -> Outcome<()> {
        let mut out = String::new();
        let mut mnemonic = first;
        if first == "@" {
            out += "@";
            if self.peek() == "!" {
                self.at += 1;
                out += "!";
            }
            let predicate = self.next()?;
            out += &self.operand(predicate, "", false)?;
            mnemonic = self.next()?;
        }
        let full = named(mnemonic);
        out += &format!(" {full} ");
        let mut in_square = false;
        loop {
            let token = self.next()?;
            match token {
                ";" => break,
                "[" | "]" => in_square = token == "[",
                _ => {}
            }
            if token == "-" && in_square && !out.ends_with('+') {
                out += "+-";
            } else if token.starts_with(|c: char| c.is_ascii_alphanumeric() || "_$%".contains(c)) {
                let word = if full == "bra" { self.label(token) } else { self.operand(token, &full, in_square)? };
                out += &word;
            } else {
                out += token;
            }
        }
        self.body += &format!("{out};\n");
        Ok(())
    }

    /// A word among the operands of an instruction.
    fn operand(&mut self, word: &str, mnemonic: &str, in_square: bool) -> Outcome<String> {
        if let Some(i) = self.params.iter().position(|(_, name)| name == word)
            && in_square
        {
            return Ok(format!("{}_p{i}", self.name));
        }
        match self.names.get(word) {
            Some(Meaning::Register(register)) => return Ok(register.clone()),
            Some(&Meaning::Variable(space, start)) if in_square => {
                let mut offset = start;
                if self.peek() == "+" {
                    self.at += 1;
                    offset += self.next()?.parse::<usize>().map_err(|e| e.to_string())?;
                }
                return Ok(if offset == 0 { space.into() } else { format!("{space}+{offset}") });
            }
            Some(&Meaning::Variable(space, 0)) => return Ok(space.into()),
            Some(Meaning::Variable(..)) => return Err(format!("the address of `{word}`")),
            None => {}
        }
        if let (true, Ok(x)) = (word.contains('.') && !word.starts_with('%'), word.parse::<f64>()) {
            let bits = (x as f32).to_bits();
            return Ok(if mnemonic.ends_with("f32") {
                format!("0f{bits:08X}")
            } else {
                format!("0d{:016X}", x.to_bits())
            });
        }
        Ok(if word.starts_with(|c: char| c.is_ascii_digit()) { word.trim_end_matches('U').into() } else { word.into() })
    }
}

/// The name of an instruction with what PTX lets a program leave out: the space, which is then that of its arrays, and
/// the rounding.
fn named(mnemonic: &str) -> String {
    let (op, rest) = mnemonic.split_once('.').unwrap_or((mnemonic, ""));
    let second = rest.split('.').next().unwrap_or_default();
    let is_float = ["f16", "f32", "f64"].iter().any(|ty| rest.ends_with(ty));
    match op {
        "exit" => "ret".into(),
        "bra" => op.into(),
        "div" => mnemonic.replace(".ftz.rn.", ".rn.ftz."),
        "ld" | "st" | "atom" if !["global", "shared", "local", "param", "volatile"].contains(&second) => {
            format!("{op}.global.{rest}")
        }
        "add" | "sub" | "mul" if is_float && !["rn", "rz", "rm", "rp"].contains(&second) => format!("{op}.rn.{rest}"),
        _ => mnemonic.into(),
    }
}

#[test]
fn kernels_are_rewritten() -> Outcome<()> {
    let text =
        ".version 6.5 .target sm_30 .address_size 64 .visible .entry add(.param .u64 input, .param .u64 output) {
        .shared .align 4 .b8 first[8]; .shared .align 4 .b8 second[8]; // memory
        .reg .u64 in_addr; .reg .f32 x<2>; .reg .pred p;
        ld.param.u64 in_addr, [input]; ld.f32 x0, [in_addr+4]; { .reg .u64 in_addr; mov.u64 in_addr, 1; }
        @!p bra END; add.f32 x1, x0, 0.5; st.shared.f32 [second+4], x1; END: ret; }";
    let got = rewritten(text)?;
    assert!(got.contains(".reg .b64 %rd<2>;") && got.contains(".shared .align 16 .b8 shared[16];"), "{got}");
    for line in [
        "ld.global.f32 %f0,[%rd0+4];",
        "mov.u64 %rd1,1;",
        "@!%p0 bra L0;",
        "add.rn.f32 %f1,%f0,0f3F000000;",
        "st.shared.f32 [shared+12],%f1;",
        "L0:",
    ] {
        assert!(got.lines().any(|found| found.trim() == line), "{line}\n{got}");
    }
    parse(&got).map_err(|e| e.to_string())?;
    assert_eq!(bytes("[-1i16, 0x1_0]")?, [0xff, 0xff, 0x10, 0]);
    assert_eq!(bytes("[1f32, std::f32::consts::PI / 2f32]")?[..4], 1f32.to_le_bytes());
    assert!(bytes("[half::f16::NAN]").is_err());
    Ok(())
}
