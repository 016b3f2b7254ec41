//! `ldmatrix` and `mma.sync`, by the layouts of the manual.

use super::*;

/// The element of a 16-bit matrix at row `i` and column `j`.
fn number(i: u32, j: u32) -> u32 {
    16 * i + j
}

#[test]
fn ldmatrix_gives_rows_or_columns() {
    for n in [1, 2, 4_u32] {
        for transposed in [false, true] {
            let mut k = Kernel::new(2).shared(512);
            // Each lane copies 16 bytes: row `lane % 8` of matrix `lane / 8`.
            k.op(mov(Type::U32, r(0), Operand::Shared))
                .op(InstOp::Ternary {
                    op: TernaryOp::Mad,
                    ty: Type::U32,
                    flush: false,
                    d: r(1),
                    a: TID,
                    b: imm(16),
                    c: r(0).into(),
                })
                .op(element(rd(2), TID, 16, rd(1)))
                .op(InstOp::Ld {
                    space: Space::Global,
                    cache: Cache::Default,
                    ty: Type::B32,
                    d: (10..14).map(r).collect(),
                    address: at(rd(2)),
                })
                .op(InstOp::St {
                    space: Space::Shared,
                    cache: Cache::Default,
                    ty: Type::B32,
                    address: at(r(1)),
                    a: (10..14).map(|i| r(i).into()).collect(),
                })
                .op(InstOp::Bar)
                .op(InstOp::LdMatrix { transposed, d: (20..20 + n).map(r).collect(), address: at(r(1)) })
                .op(element(rd(3), TID, 4 * u64::from(n), rd(0)))
                .op(InstOp::St {
                    space: Space::Global,
                    cache: Cache::Default,
                    ty: Type::B32,
                    address: at(rd(3)),
                    a: (20..20 + n).map(|i| r(i).into()).collect(),
                });
            let data: Vec<u8> = (0..4)
                .flat_map(|m| (0..64).map(move |e| 256 * m + number(e / 8, e % 8)))
                .flat_map(|x| (x as u16).to_le_bytes())
                .collect();
            let mut memory = Memory::new();
            let (out, input) = (memory.alloc_unwritten(128 * n as usize), memory.alloc(&data));
            k.launch(&mut memory, (1, 32), &[out, input]).unwrap();
            let expected: Vec<u32> = (0..32)
                .flat_map(|lane| {
                    (0..n).map(move |m| {
                        let (i, j) = (lane / 4, lane % 4 * 2);
                        let pair = if transposed {
                            (number(j, i), number(j + 1, i))
                        } else {
                            (number(i, j), number(i, j + 1))
                        };
                        (256 * m + pair.0) | (256 * m + pair.1) << 16
                    })
                })
                .collect();
            assert_eq!(u32s(&memory, out, 32 * n as usize), expected);
        }
    }
}

/// Loads `n` registers of each lane from `[base + lane * 4 n]`.
fn load_registers(k: &mut Kernel, base: Reg, d: Vec<Reg>) {
    let n = d.len() as u64;
    k.op(element(rd(10), TID, 4 * n, base)).op(InstOp::Ld {
        space: Space::Global,
        cache: Cache::Default,
        ty: Type::B32,
        d,
        address: at(rd(10)),
    });
}

fn product(shape: MmaShape, ty: Type, a: &[u32], b: &[u32], c: &[f32]) -> Vec<f32> {
    let mut k = Kernel::new(4);
    load_registers(&mut k, rd(1), (0..4).map(r).collect());
    load_registers(&mut k, rd(2), (4..6).map(r).collect());
    load_registers(&mut k, rd(3), (0..4).map(f).collect());
    k.op(InstOp::Mma {
        shape,
        ty,
        d: [f(4), f(5), f(6), f(7)],
        a: [r(0), r(1), r(2), r(3)],
        b: [r(4), r(5)],
        c: [f(0), f(1), f(2), f(3)],
    })
    .op(element(rd(10), TID, 16, rd(0)))
    .op(InstOp::St {
        space: Space::Global,
        cache: Cache::Default,
        ty: Type::F32,
        address: at(rd(10)),
        a: (4..8).map(|i| f(i).into()).collect(),
    });
    let mut memory = Memory::new();
    let c: Vec<u32> = c.iter().map(|x| x.to_bits()).collect();
    let params = [
        memory.alloc_unwritten(512),
        memory.alloc(&bytes_of(a)),
        memory.alloc(&bytes_of(b)),
        memory.alloc(&bytes_of(&c)),
    ];
    let counts = k.launch(&mut memory, (1, 32), &params).unwrap();
    assert_eq!(counts.mma, 1);
    u32s(&memory, params[0], 128).into_iter().map(f32::from_bits).collect()
}

/// The result of 16 x 8 at the places of the fragments: lane by lane, four registers each.
fn fragments_of_c(at: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut values = Vec::new();
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        values.extend([at(g, 2 * t), at(g, 2 * t + 1), at(g + 8, 2 * t), at(g + 8, 2 * t + 1)]);
    }
    values
}

#[test]
fn mma_of_16_bits() {
    for (ty, encode) in [
        (Type::Bf16, (|x: f32| x.to_bits() >> 16) as fn(f32) -> u32),
        // Small integers: 2^e (1 + m) as f16.
        (Type::F16, |x: f32| {
            if x == 0.0 {
                0
            } else {
                x.to_bits() >> 16 & 0x8000 | ((x.to_bits() >> 13 & 0x3_ffff) - (112 << 10)) & 0x7fff
            }
        }),
    ] {
        let a = |m: usize, k: usize| ((m * 7 + k * 3) % 11) as f32 - 5.0;
        let b = |k: usize, n: usize| ((k * 5 + n * 2) % 13) as f32 - 6.0;
        let c = |m: usize, n: usize| (m * 8 + n) as f32 / 8.0;
        let (mut fa, mut fb) = (Vec::new(), Vec::new());
        let pair = |x: f32, y: f32| encode(x) | encode(y) << 16;
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            for (m, k) in [(g, 2 * t), (g + 8, 2 * t), (g, 2 * t + 8), (g + 8, 2 * t + 8)] {
                fa.push(pair(a(m, k), a(m, k + 1)));
            }
            for k in [2 * t, 2 * t + 8] {
                fb.push(pair(b(k, g), b(k + 1, g)));
            }
        }
        let d = product(MmaShape::M16N8K16, ty, &fa, &fb, &fragments_of_c(c));
        let exact = |m: usize, n: usize| c(m, n) + (0..16).map(|k| a(m, k) * b(k, n)).sum::<f32>();
        assert_eq!(d, fragments_of_c(exact), "{ty:?}");
    }
}

#[test]
fn mma_of_tf32() {
    let a = |m: usize, k: usize| (m as f32 - 7.5) * (k as f32 + 0.25);
    let b = |k: usize, n: usize| (k as f32 - 3.0) * 0.5 + n as f32;
    let c = |m: usize, n: usize| (m + n) as f32;
    let (mut fa, mut fb) = (Vec::new(), Vec::new());
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        // The last 13 bits do not count.
        fa.extend([a(g, t), a(g + 8, t), a(g, t + 4), a(g + 8, t + 4)].map(|x| x.to_bits() | 0x1fff));
        fb.extend([b(t, g), b(t + 4, g)].map(f32::to_bits));
    }
    let d = product(MmaShape::M16N8K8, Type::Tf32, &fa, &fb, &fragments_of_c(c));
    let exact = |m: usize, n: usize| c(m, n) + (0..8).map(|k| a(m, k) * b(k, n)).sum::<f32>();
    assert_eq!(d, fragments_of_c(exact));
}

#[test]
fn matrices_need_the_whole_warp() {
    let mut k = Kernel::new(0).shared(512);
    k.op(mov(Type::U32, r(0), Operand::Shared)).op(InstOp::LdMatrix {
        transposed: false,
        d: vec![r(1)],
        address: at(r(0)),
    });
    assert!(k.error((1, 16)).contains("the warp has less than 32 threads"));
    assert!(k.error((1, 32)).contains("it reads the byte at 0x400, which was never written"));
}

#[test]
fn sums_of_products_round_once() {
    // 1 + 16 * 2^-25: each product alone is lost beside 1 in f32.
    let fa: Vec<u32> = vec![0x3f80_3f80; 128];
    let fb: Vec<u32> = vec![0x3300_3300; 64];
    let d = product(MmaShape::M16N8K16, Type::Bf16, &fa, &fb, &[1.0; 128]);
    assert_eq!(d, [1.0 + 16.0 * 2_f32.powi(-25); 128]);
    let d = product(MmaShape::M16N8K16, Type::Bf16, &fa, &fb, &[f32::NAN; 128]);
    assert!(d.iter().all(|x| x.to_bits() == 0x7fff_ffff));
}
