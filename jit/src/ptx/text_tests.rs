//! Text and data are each other's inverse, no text makes the parser panic, and `ptxas` takes what is printed.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use super::inst::*;
use super::parse::{mnemonics, parse};
use super::print::mnemonic;

fn reg(class: RegClass, id: u32) -> Reg {
    Reg { class, id }
}

/// The number of an instruction's variant: the compiler asks for a line here when one is added, and
/// `every_variant_is_there` for an instruction.
fn variant(op: &InstOp) -> usize {
    match op {
        InstOp::Label(_) => 0,
        InstOp::Comment(_) => 1,
        InstOp::Mov { .. } => 2,
        InstOp::Pack { .. } => 3,
        InstOp::Unpack { .. } => 4,
        InstOp::Unary { .. } => 5,
        InstOp::Binary { .. } => 6,
        InstOp::Ternary { .. } => 7,
        InstOp::Setp { .. } => 8,
        InstOp::Selp { .. } => 9,
        InstOp::Cvt { .. } => 10,
        InstOp::Ld { .. } => 11,
        InstOp::St { .. } => 12,
        InstOp::ToGlobal { .. } => 13,
        InstOp::Bra { .. } => 14,
        InstOp::Bar => 15,
        InstOp::BarWarp { .. } => 16,
        InstOp::MembarGl => 17,
        InstOp::Shfl { .. } => 18,
        InstOp::Vote { .. } => 19,
        InstOp::Atom { .. } => 20,
        InstOp::CpAsync { .. } => 21,
        InstOp::CpAsyncCommit => 22,
        InstOp::CpAsyncWait { .. } => 23,
        InstOp::LdMatrix { .. } => 24,
        InstOp::Mma { .. } => 25,
        InstOp::Ret => 26,
        InstOp::CvtPair { .. } => 27,
        InstOp::NoUnroll => 28,
    }
}
const VARIANTS: usize = 29;

/// Every instruction that has a name, and more for operands, addresses, guards, labels and comments.
fn instructions() -> Vec<Inst> {
    let mut all: Vec<Inst> = Vec::new();
    for text in ["", "a comment", "  of spaces // ; } and \"marks\" "] {
        all.push(InstOp::Comment(text.into()).into());
    }
    all.push(InstOp::Label(Label(0)).into());
    all.push(InstOp::Label(Label(u32::MAX)).into());
    // A return in the middle would let ptxas drop the rest.
    all.extend(mnemonics::instructions().into_iter().filter(|op| *op != InstOp::Ret).map(Inst::from));
    all.extend(sources().map(Inst::from));
    all.extend(immediates().map(Inst::from));
    all.extend(addresses().map(Inst::from));
    let (p, q) = (reg(RegClass::Pred, 0), reg(RegClass::Pred, 1));
    let vote = |negate| InstOp::Vote { mode: Vote::Any, d: q, p, negate, mask: Operand::Imm(0xff) };
    all.extend([vote(false), vote(true)].map(Inst::from));
    for value in [false, true] {
        let op = InstOp::Bra { target: Label(u32::MAX) };
        all.push(Inst { guard: Some((q, value)), op });
        let (d, a) = (reg(RegClass::F32, 1), Operand::Reg(reg(RegClass::F32, 2)));
        all.push(Inst { guard: Some((p, value)), op: InstOp::Mov { ty: Type::F32, d, a } });
    }
    all.push(InstOp::Ret.into());
    all
}

/// What only `mov` reads.
fn sources() -> impl Iterator<Item = InstOp> {
    let (r, rd) = (reg(RegClass::B32, 0), reg(RegClass::B64, 0));
    let special = [Type::B32, Type::U32, Type::S32].into_iter().flat_map(move |ty| {
        Special::ALL.iter().map(move |&special| InstOp::Mov { ty, d: r, a: Operand::Special(special) })
    });
    let variables = [(Type::B32, r), (Type::U32, r), (Type::B64, rd), (Type::U64, rd)];
    let variable = variables
        .into_iter()
        .flat_map(|(ty, d)| [Operand::Shared, Operand::Local].into_iter().map(move |a| InstOp::Mov { ty, d, a }));
    special.chain(variable)
}

/// Constants of every type, wherever an instruction takes one.
fn immediates() -> impl Iterator<Item = InstOp> {
    let values = [0, 1, 5, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x3f80_0000, 0x7fff_ffff, 0x8000_0000];
    let large = [0xffff_ffff, 0x3ff0_0000_0000_0000, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, u64::MAX];
    let values: Vec<u64> = values.into_iter().chain(large).collect();
    mnemonics::instructions().into_iter().flat_map(move |op| {
        let is_mov = matches!(op, InstOp::Mov { .. });
        let mut all = Vec::new();
        for &value in if is_mov { &values[..] } else { &values[2..3] } {
            let imm = |ty: Type| Operand::Imm(value & (u64::MAX >> (64 - ty.bits())));
            let mut op = op.clone();
            match &mut op {
                // Not all of them: `ptxas` has no constants of f16.
                InstOp::Mov { ty, a, .. } => *a = imm(*ty),
                InstOp::Binary { op, ty, b, .. } if !small_float(*ty) => *b = imm(op.second(*ty)),
                InstOp::Ternary { op, ty, b, c, .. } if !small_float(*ty) => (*b, *c) = (imm(*ty), imm(op.third(*ty))),
                InstOp::Setp { ty, b, .. } if !small_float(*ty) => *b = imm(*ty),
                InstOp::Selp { ty, a, b, .. } => (*a, *b) = (imm(*ty), imm(*ty)),
                InstOp::Unary { ty, a, .. } if !small_float(*ty) => *a = imm(*ty),
                InstOp::St { ty, a, .. } => *a = vec![imm(*ty); a.len()],
                InstOp::Atom { ty, b, c, .. } => {
                    *b = imm(*ty);
                    *c = c.map(|_| imm(*ty));
                }
                InstOp::Shfl { a, b, c, .. } => (*a, *b, *c) = (imm(Type::B32), imm(Type::U32), imm(Type::U32)),
                InstOp::CpAsync { from: Some(from), .. } => *from = Operand::Reg(reg(RegClass::B32, 3)),
                InstOp::BarWarp { mask } | InstOp::Vote { mask, .. } => *mask = Operand::Reg(reg(RegClass::B32, 3)),
                _ => continue,
            }
            all.push(op);
        }
        all
    })
}

fn small_float(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2)
}

fn addresses() -> impl Iterator<Item = InstOp> {
    let (r, rd) = (reg(RegClass::B32, 1), reg(RegClass::B64, 1));
    [0, 16, -16, i32::MAX - 15, i32::MIN].into_iter().flat_map(move |offset| {
        let all = [
            (Space::Global, Address::Reg(rd, offset)),
            (Space::Shared, Address::Reg(rd, offset)),
            (Space::Shared, Address::Reg(r, offset)),
            (Space::Shared, Address::Shared(offset)),
            (Space::Local, Address::Reg(r, offset)),
            (Space::Local, Address::Local(offset)),
        ];
        all.into_iter().map(|(space, address)| {
            let d = vec![reg(RegClass::F32, 3)];
            InstOp::Ld { space, cache: Cache::Default, ty: Type::F32, d, address }
        })
    })
}

/// An entry with this code, and some of everything declared.
fn entry(name: &str, body: Vec<Inst>) -> Entry {
    let params = vec![Type::U64, Type::F32, Type::U8, Type::S64, Type::B16];
    let registers = [4, 5, 6, 7, 8, 9];
    Entry { name: name.into(), params, max_threads: 256, min_blocks: 2, shared: 1024, local: 64, registers, body }
}

fn module(body: Vec<Inst>) -> PtxModule {
    PtxModule { version: 70, target: 80, entries: vec![entry("first", body.clone()), entry("second_2$", body)] }
}

#[track_caller]
fn reads_back(module: &PtxModule) {
    let text = module.to_string();
    match parse(&text) {
        Ok(read) => assert!(read == *module, "{text}\nreads back as\n{read}"),
        Err(e) => panic!("{e}\n{text}"),
    }
}

#[test]
fn every_variant_is_there() {
    let all = instructions();
    for i in 0..VARIANTS {
        assert!(all.iter().any(|inst| variant(&inst.op) == i), "no instruction of variant {i}");
    }
}

/// Instructions of one name differ in nothing but their operands: the parser finds them by their names.
#[test]
fn names_are_of_one_variant() {
    let mut names = HashMap::new();
    for op in mnemonics::instructions() {
        let name = mnemonic(&op);
        let first = *names.entry(name.clone()).or_insert(variant(&op));
        assert!(first == variant(&op) || name == "mov.b64", "{name}");
    }
    assert!(names.len() > 1000, "{}", names.len());
}

#[test]
fn every_instruction_reads_back() {
    for inst in instructions() {
        // A branch wants its label.
        let mut body = vec![inst];
        if let InstOp::Bra { target } = body[0].op {
            body.push(InstOp::Label(target).into());
        }
        reads_back(&module(body));
    }
    reads_back(&module(instructions()));
}

#[test]
fn every_head_reads_back() {
    reads_back(&PtxModule { version: 63, target: 70, entries: vec![] });
    reads_back(&PtxModule { version: u32::MAX, target: u32::MAX, entries: vec![] });
    let mut entry = entry("_k", vec![]);
    reads_back(&PtxModule { version: 70, target: 70, entries: vec![entry.clone()] });
    (entry.params, entry.min_blocks, entry.shared, entry.local) = (vec![], 0, 0, 0);
    for class in 0..6 {
        entry.registers = [0; 6];
        entry.registers[class] = u32::MAX;
        reads_back(&PtxModule { version: 70, target: 70, entries: vec![entry.clone()] });
    }
}

/// The text itself, so that a change of it is seen.
#[test]
fn text_is_as_expected() {
    let (p, r, rd, f) = (reg(RegClass::Pred, 0), reg(RegClass::B32, 0), reg(RegClass::B64, 0), reg(RegClass::F32, 0));
    let rd1 = reg(RegClass::B64, 1);
    let r1 = Operand::Imm(8);
    let a = Operand::Reg(f);
    let body: Vec<Inst> = vec![
        InstOp::Comment("x[i] = fma(x[i], 1.5, x[i])".into()).into(),
        InstOp::Ld {
            space: Space::Param,
            cache: Cache::Default,
            ty: Type::U64,
            d: vec![rd],
            address: Address::Param(0),
        }
        .into(),
        InstOp::Mov { ty: Type::U32, d: r, a: Operand::Special(Special::Tid) }.into(),
        InstOp::Setp { cmp: Cmp::Ge, ty: Type::U32, flush: false, d: p, a: Operand::Reg(r), b: r1 }.into(),
        Inst { guard: Some((p, true)), op: InstOp::Bra { target: Label(0) } },
        InstOp::Binary {
            op: BinaryOp::MulWide,
            ty: Type::U32,
            flush: true,
            d: rd1,
            a: Operand::Reg(r),
            b: Operand::Imm(4),
        }
        .into(),
        InstOp::Ld {
            space: Space::Global,
            cache: Cache::NonCoherent,
            ty: Type::F32,
            d: vec![f, reg(RegClass::F32, 1)],
            address: Address::Reg(rd, -8),
        }
        .into(),
        InstOp::Ternary {
            op: TernaryOp::Fma,
            ty: Type::F32,
            flush: true,
            d: f,
            a,
            b: Operand::Imm(u64::from(1.5f32.to_bits())),
            c: a,
        }
        .into(),
        InstOp::Binary { op: BinaryOp::Add, ty: Type::F64, flush: true, d: rd, a: r1, b: r1 }.into(),
        Inst { guard: Some((p, false)), op: InstOp::Bar },
        InstOp::Label(Label(0)).into(),
        InstOp::Ret.into(),
    ];
    let entry = Entry {
        name: "k".into(),
        params: vec![Type::U64, Type::F32],
        max_threads: 128,
        min_blocks: 0,
        shared: 0,
        local: 16,
        registers: [1, 0, 1, 2, 2, 0],
        body,
    };
    let text = PtxModule { version: 70, target: 70, entries: vec![entry] }.to_string();
    let expected = "\
.version 7.0
.target sm_70
.address_size 64

.visible .entry k(
  .param .u64 k_p0,
  .param .f32 k_p1
)
.maxntid 128, 1, 1
{
  .reg .pred %p<1>;
  .reg .b32 %r<1>;
  .reg .b64 %rd<2>;
  .reg .f32 %f<2>;
  .local .align 16 .b8 local[16];
  // x[i] = fma(x[i], 1.5, x[i])
  ld.param.u64 %rd0, [k_p0];
  mov.u32 %r0, %tid.x;
  setp.ge.u32 %p0, %r0, 8;
  @%p0 bra L0;
  mul.wide.u32 %rd1, %r0, 4;
  ld.global.nc.v2.f32 {%f0, %f1}, [%rd0+-8];
  fma.rn.ftz.f32 %f0, %f0, 0f3FC00000, %f0;
  add.rn.f64 %rd0, 0d0000000000000008, 0d0000000000000008;
  @!%p0 bar.sync 0;
L0:
  ret;
}
";
    assert_eq!(text, expected);
}

/// White space, comments and the other spellings of numbers are free.
#[test]
fn free_form_reads() {
    let text = "// a module\r\n\r\n.version 7.0 .target\tsm_70 // here\n.address_size\n64\n.visible .entry k ( .param\n\
                .u64 k_p0 ) .maxntid 1,1 , 1 { // not kept\n// kept\n.reg .b32 %r < 2 > ; L0 : add.s32 %r0 , %r1 , \
                0xFFFFFFFF; // no\n   //kept too\nadd.s32 %r0, // no\n // nor this\n %r1, -1; @ ! %p0 bra L0;}";
    let error = parse(text).unwrap_err();
    assert_eq!(error.to_string(), "PTX text, line 13: expected a declared predicate, found `%p0`");
    let module = parse(&text.replace("@ ! %p0 ", "")).unwrap();
    let expected = "  // kept\nL0:\n  add.s32 %r0, %r1, -1;\n  // kept too\n  add.s32 %r0, %r1, -1;\n  bra L0;\n}\n";
    assert!(module.to_string().ends_with(expected), "{module}");
}

#[test]
fn what_the_text_cannot_hold_is_written_in_a_line() {
    let comment = |text: &str| Inst::from(InstOp::Comment(text.into())).to_string();
    assert_eq!(comment("two\nlines\r of µs\t"), "// two?lines? of ?s?");
    assert_eq!(comment("goes on\\"), "// goes on\\.");
}

/// Errors say the line and what is expected.
#[test]
fn mistakes_are_named() {
    let code = |code: &str| {
        format!(
            ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry k(.param .u64 k_p0)\n.maxntid 32, 1, 1\n{{\n\
             .reg .b32 %r<2>;\n.reg .pred %p<1>;\n.reg .f32 %f<1>; .reg .b64 %rd<1>;\n.shared .align 16 .b8 shared[16];\n{code}\n}}\n"
        )
    };
    let cases = [
        ("add.rn.f32 %f0, %f0, 1.0;", "line 11: expected a value of f32, found `1.0`"),
        ("add.f32 %f0, %f0, %f0;", "line 11: expected an instruction, found `add.f32`"),
        ("add.u32 %r0, %r2, %r1;", "line 11: expected a declared register or a value of u32, found `%r2`"),
        ("add.u32 %r0, %tid.x, %r1;", "line 11: expected a declared register or a value of u32, found `%tid.x`"),
        ("add.u32 %r0, %r1, 4294967296;", "line 11: expected a value of u32, found `4294967296`"),
        ("add.u32 %r0, %r1, 010;", "line 11: expected a value of u32, found `010`"),
        ("add.u32 %r0, %r1, %r1\nret;", "line 12: expected `;`, found `ret`"),
        ("add.u32 %f0, %r0, %r1;", "line 11: expected a declared register of u32, found `%f0`"),
        ("add.u32 %r0, %f0, %r1;", "line 11: expected a declared register or a value of u32, found `%f0`"),
        ("bra L1;", "line 11: expected a label of the entry, found `L1`"),
        ("L1:\nL1:", "line 12: expected a new label, found a second `L1`"),
        ("x1:", "line 11: expected an instruction, found `x1`"),
        ("@%p0 L1:", "line 11: expected an instruction, found `L1`"),
        ("ret;\n.reg .b16 %h<1>;", "line 12: expected an instruction, found `.reg`"),
        (".reg .b32 %r<1>;", "line 11: expected a type that is not declared before, found `.b32`"),
        ("ld.param.u32 %r0, [k_p1];", "line 11: expected an address in param memory, found `k_p1`"),
        ("ld.global.u32 %r0, [shared];", "line 11: expected an address in global memory, found `shared`"),
        ("ld.local.u32 %r0, [local];", "line 11: expected an address in local memory, found `local`"),
        ("ld.shared.u32 %r0, [shared+2147483648];", "line 11: expected an offset of 32 bits, found `2147483648`"),
        ("ld.shared.v2.u32 {%r0, %r1, %r0}, [shared];", "line 11: expected `}`, found `,`"),
        ("ld.shared.v2.u8 {%r0, %rd0}, [shared];", "line 11: expected registers of one width, found `%rd0`"),
        ("cp.async.cg.shared.global [shared], [%r0], 8;", "line 11: expected 16 bytes, found `8`"),
        ("selp.b32 %r0, %r0, %r1, %r1;", "line 11: expected a declared predicate, found `%r1`"),
        ("ret; /* no */", "line 11: expected PTX, found '/'"),
        ("ret; é", "line 11: expected PTX, found 'é'"),
        ("ret;}", "line 12: expected `.visible`, found `}`"),
        ("ret;}\n.visible .entry k() .maxntid 1, 1, 1 {", "line 12: expected a new name, found a second entry `k`"),
    ];
    for (text, message) in cases {
        let error = parse(&code(text)).expect_err(text).to_string();
        assert_eq!(error, format!("PTX text, {message}"), "{text}");
    }
    assert_eq!(parse("").unwrap_err().to_string(), "PTX text, line 1: expected `.version`, found the end of the text");
}

/// Numbers for tests, by xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Reads a damaged text: it is an error, or a module that reads back.
fn survives(text: &str) {
    if let Ok(module) = parse(text) {
        let again = parse(&module.to_string());
        // Comments of characters that are not written may differ.
        assert!(again.is_ok_and(|again| again.to_string() == module.to_string()), "{text}");
    }
}

#[test]
fn damaged_text_does_not_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // A text short enough for all of its prefixes.
    let every = instructions();
    let few: Vec<Inst> = every.iter().step_by(41).filter(|inst| variant(&inst.op) != 14).cloned().collect();
    let short = module(few).to_string();
    for end in 0..short.len() {
        survives(&short[..end]);
    }
    let bytes = b" \t\n\r;,:%$_.{}()[]<>@!+-/0123456789abcdefpr\\\"\0\x7f\xff\xc3";
    for _ in 0..20_000 {
        let mut damaged = short.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len());
            match random.below(4) {
                0 => drop(damaged.remove(at)),
                1 => damaged.insert(at, bytes[random.below(bytes.len())]),
                2 => damaged[at] = bytes[random.below(bytes.len())],
                _ => {
                    let from = random.below(damaged.len());
                    let piece = damaged[from..].iter().copied().take(random.below(40)).collect::<Vec<_>>();
                    damaged.splice(at..at, piece);
                }
            }
        }
        survives(&String::from_utf8_lossy(&damaged));
    }
}

#[test]
fn noise_does_not_panic() {
    let mut random = Random(7);
    for _ in 0..2_000 {
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        survives(&String::from_utf8_lossy(&noise));
    }
    survives(&"{".repeat(100_000));
    survives(&"//\n".repeat(100_000));
    survives(&format!(".version {}", "9".repeat(100_000)));
}

/// The architecture and the version of PTX that an instruction needs, from sm_70 and 7.0 on.
fn needs(op: &InstOp) -> (u32, u32) {
    let ampere = match op {
        InstOp::CpAsync { .. } | InstOp::CpAsyncCommit | InstOp::CpAsyncWait { .. } | InstOp::Mma { .. } => true,
        InstOp::LdMatrix { .. } => return (75, 70),
        InstOp::Cvt { from: Type::Bf16, .. } => return (80, 71),
        InstOp::CvtPair { .. } => true,
        InstOp::Cvt { to, .. } => matches!(to, Type::Bf16 | Type::Tf32),
        InstOp::Binary { op: BinaryOp::Min | BinaryOp::Max, ty, .. } => small_float(*ty),
        InstOp::Unary { ty, .. } | InstOp::Ternary { ty, .. } => matches!(ty, Type::Bf16 | Type::Bf16x2),
        _ => false,
    };
    (if ampere { 80 } else { 70 }, 70)
}

/// What `ptxas` says about a module, or `None` where there is no `ptxas`.
fn ptxas(module: &PtxModule) -> Option<Result<(), String>> {
    let program = std::env::var_os("FULGURITE_PTXAS")?;
    let mut command = Command::new(program);
    command.arg(format!("-arch=sm_{}", module.target)).args(["-o", "/dev/null", "/dev/stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(module.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

/// The line that a message of `ptxas` is about.
fn message_line(message: &str) -> Option<usize> {
    message.split_once("line ")?.1.split(';').next()?.parse().ok()
}

/// The messages of `ptxas`, each with its line of the text.
fn with_lines(module: &PtxModule, messages: &str) -> String {
    let text = module.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let annotate = |message: &str| {
        let at = message_line(message).and_then(|n| lines.get(n - 1)).unwrap_or(&"");
        format!("{message} | {at}\n")
    };
    messages.lines().map(annotate).collect()
}

#[test]
fn ptxas_takes_every_instruction() {
    // Volta, Turing, Ampere, bf16 to f32, Hopper.
    for (target, version) in [(70, 70), (75, 70), (80, 70), (80, 71), (90, 80)] {
        let allowed = |inst: &Inst| {
            let (t, v) = needs(&inst.op);
            t <= target && v <= version
        };
        let body: Vec<Inst> = instructions().into_iter().filter(allowed).collect();
        let module = PtxModule { version, target, ..module(body) };
        match ptxas(&module) {
            None => return println!("skipped: FULGURITE_PTXAS names no ptxas"),
            Some(Ok(())) => {}
            Some(Err(messages)) => panic!("sm_{target}, PTX {version}:\n{}", with_lines(&module, &messages)),
        }
    }
}

/// Instructions with a register of each class as result and as an operand.
fn of_all_classes() -> Vec<InstOp> {
    let classes = || RegClass::ALL.iter().map(|&class| reg(class, 1));
    let mut all = Vec::new();
    for op in mnemonics::instructions() {
        for r in classes() {
            let (mut result, mut source) = (op.clone(), op.clone());
            match (&mut result, &mut source) {
                (InstOp::Mov { d, .. }, InstOp::Mov { a, .. })
                | (InstOp::Unary { d, .. }, InstOp::Unary { a, .. })
                | (InstOp::Binary { d, .. }, InstOp::Binary { b: a, .. })
                | (InstOp::Ternary { d, .. }, InstOp::Ternary { c: a, .. })
                | (InstOp::Selp { d, .. }, InstOp::Selp { a, .. })
                | (InstOp::Shfl { d, .. }, InstOp::Shfl { a, .. })
                | (InstOp::Atom { d, .. }, InstOp::Atom { b: a, .. }) => (*d, *a) = (r, Operand::Reg(r)),
                (InstOp::Setp { a, .. }, InstOp::Setp { b, .. }) => (*a, *b) = (Operand::Reg(r), Operand::Reg(r)),
                (InstOp::Cvt { d, .. }, InstOp::Cvt { a, .. })
                | (InstOp::ToGlobal { d, .. }, InstOp::ToGlobal { a, .. })
                | (InstOp::Pack { d, .. }, InstOp::Pack { a, .. })
                | (InstOp::Unpack { d, .. }, InstOp::Unpack { a, .. }) => (*d, *a) = (r, r),
                (InstOp::CvtPair { d, .. }, InstOp::CvtPair { b, .. }) => (*d, *b) = (r, r),
                (InstOp::Vote { d, .. }, InstOp::Vote { p, .. }) => (*d, *p) = (r, r),
                (InstOp::Ld { d, .. }, InstOp::Ld { address, .. })
                | (InstOp::LdMatrix { d, .. }, InstOp::LdMatrix { address, .. }) => {
                    d[0] = r;
                    *address = Address::Reg(r, 0);
                }
                (InstOp::St { a, .. }, InstOp::St { address, .. }) => {
                    a[0] = Operand::Reg(r);
                    *address = Address::Reg(r, 0);
                }
                (InstOp::Mma { d, .. }, InstOp::Mma { a, .. }) => (d[0], a[0]) = (r, r),
                _ => continue,
            }
            all.extend([result, source]);
            let mut vector = op.clone();
            match &mut vector {
                InstOp::Ld { d, .. } => d.iter_mut().zip(0..).for_each(|(d, id)| *d = Reg { id, ..r }),
                InstOp::St { a, .. } => a.fill(Operand::Reg(r)),
                _ => continue,
            }
            all.push(vector);
        }
    }
    all
}

/// The parser takes no register that `ptxas` rejects, and of arithmetic it takes all others. Of memory, vectors and
/// conversions `ptxas` takes more than the manual has, such as a predicate in a vector of b32.
#[test]
fn ptxas_takes_the_same_registers() {
    let all = of_all_classes();
    let mut differ = String::new();
    for piece in all.chunks(500) {
        let mut module = module(vec![]);
        module.version = 71;
        module.entries.truncate(1);
        let ours = piece.iter().map(|op| {
            module.entries[0].body = vec![op.clone().into()];
            parse(&module.to_string()).err().map(|e| e.to_string())
        });
        let ours: Vec<Option<String>> = ours.collect();
        module.entries[0].body = piece.iter().cloned().map(Inst::from).collect();
        let messages = match ptxas(&module) {
            None => return println!("skipped: FULGURITE_PTXAS names no ptxas"),
            Some(result) => result.err().unwrap_or_default(),
        };
        // The code is the last of the text, before the brace.
        let first = module.to_string().lines().count() - piece.len();
        for (i, (op, ours)) in piece.iter().zip(ours).enumerate() {
            let theirs = messages.lines().find(|message| message_line(message) == Some(first + i));
            let strict = matches!(
                op,
                InstOp::Mov { .. }
                    | InstOp::Unary { .. }
                    | InstOp::Binary { .. }
                    | InstOp::Ternary { .. }
                    | InstOp::Setp { .. }
                    | InstOp::Selp { .. }
                    | InstOp::Shfl { .. }
                    | InstOp::Vote { .. }
                    | InstOp::Atom { .. }
                    | InstOp::ToGlobal { .. }
            );
            if ours.is_none() && theirs.is_some() || strict && ours.is_some() && theirs.is_none() {
                differ += &format!("{}\n  ours: {ours:?}\n  ptxas: {theirs:?}\n", Inst::from(op.clone()));
            }
        }
    }
    assert!(differ.is_empty(), "{differ}");
}
