//! What a perfect kernel would reach: 8-bit dot products with operands in registers, and reading memory
//! once.
#![expect(unsafe_code, reason = "measured with bare instructions")]

use std::arch::asm;
use std::arch::is_x86_feature_detected;
use std::time::Instant;

/// Rounds of one measurement, of ten instructions or sequences each.
const ROUNDS: u64 = 20_000_000;

/// Operations (multiply and add count as two) a second on so many threads.
pub(crate) fn int8(threads: usize) -> f64 {
    let (run, operations): (fn(), u64) = if is_x86_feature_detected!("avx512vnni") {
        (vnni, 128)
    } else {
        (avx2, 64)
    };
    let best = (0..3).map(|_| {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(run);
            }
        });
        (10 * operations * ROUNDS * threads as u64) as f64 / started.elapsed().as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

/// Bytes each thread reads: far more than caches hold.
const READ_BYTES: usize = 512 << 20;

/// Bytes a second that so many threads read from memory.
pub(crate) fn bandwidth(threads: usize) -> f64 {
    let memory: Vec<Vec<u64>> = (0..threads)
        .map(|_| vec![1; READ_BYTES / size_of::<u64>()])
        .collect();
    let best = (0..3).map(|_| {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for words in &memory {
                scope.spawn(|| {
                    // So many sums that none waits for another.
                    let mut sums = [0_u64; 16];
                    for words in words.as_chunks::<16>().0 {
                        for (sum, word) in sums.iter_mut().zip(words) {
                            *sum = sum.wrapping_add(*word);
                        }
                    }
                    std::hint::black_box(sums);
                });
            }
        });
        (READ_BYTES * threads) as f64 / started.elapsed().as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

/// `vpdpbusd` on 512 bits.
fn vnni() {
    // SAFETY: called where the processor has the instruction; registers are named as changed.
    unsafe {
        asm!(
            "2:",
            "vpdpbusd zmm0, zmm30, zmm31",
            "vpdpbusd zmm1, zmm30, zmm31",
            "vpdpbusd zmm2, zmm30, zmm31",
            "vpdpbusd zmm3, zmm30, zmm31",
            "vpdpbusd zmm4, zmm30, zmm31",
            "vpdpbusd zmm5, zmm30, zmm31",
            "vpdpbusd zmm6, zmm30, zmm31",
            "vpdpbusd zmm7, zmm30, zmm31",
            "vpdpbusd zmm8, zmm30, zmm31",
            "vpdpbusd zmm9, zmm30, zmm31",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) ROUNDS => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
            out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
            options(nomem, nostack),
        );
    }
}

/// What stands for it on AVX2: `vpmaddubsw`, `vpmaddwd`, `vpaddd`.
fn avx2() {
    macro_rules! dot {
        ($sum:literal, $part:literal) => {
            concat!(
                "vpmaddubsw ",
                $part,
                ", ymm14, ymm15\n",
                "vpmaddwd ",
                $part,
                ", ",
                $part,
                ", ymm13\n",
                "vpaddd ",
                $sum,
                ", ",
                $sum,
                ", ",
                $part,
            )
        };
    }
    // SAFETY: called where the processor has AVX2; registers are named as changed.
    unsafe {
        asm!(
            "2:",
            dot!("ymm0", "ymm11"),
            dot!("ymm1", "ymm12"),
            dot!("ymm2", "ymm11"),
            dot!("ymm3", "ymm12"),
            dot!("ymm4", "ymm11"),
            dot!("ymm5", "ymm12"),
            dot!("ymm6", "ymm11"),
            dot!("ymm7", "ymm12"),
            dot!("ymm8", "ymm11"),
            dot!("ymm9", "ymm12"),
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) ROUNDS => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
            out("ymm11") _, out("ymm12") _,
            options(nomem, nostack),
        );
    }
}
