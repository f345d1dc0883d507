//! How much of the processor's integer peak the packed matrix products reach.
//!
//! `cargo run --release --example kernels`
#![expect(clippy::print_stdout, reason = "its figures are its output")]
#![expect(clippy::cast_precision_loss, reason = "figures to be read")]

#[cfg(target_arch = "x86_64")]
mod peak;
#[cfg(not(target_arch = "x86_64"))]
mod peak {
    /// Not measured on this processor.
    pub(crate) fn int8(_: usize) -> f64 {
        f64::NAN
    }
}

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use lapidary_engine::device::Cpu;
use lapidary_engine::ops::linear::{Linear, Storage};
use lapidary_engine::weights::RawTensor;
use std::error::Error;
use std::time::{Duration, Instant};

/// Width and height of each matrix: a feed-forward layer and a part of the output head of Gemma 3
/// 270M, and a feed-forward layer of 4B. Several matrices are used in turn, as in a model, so that
/// weights come from memory.
const SHAPES: [(usize, usize, GgmlDType); 5] = [
    (640, 4096, GgmlDType::Q5_0),
    (2048, 640, GgmlDType::Q4K),
    (640, 65_536, GgmlDType::Q8_0),
    (2560, 20_480, GgmlDType::Q4K),
    (10_240, 2560, GgmlDType::Q6K),
];
const ROWS: [usize; 4] = [1, 8, 32, 256];
/// Each figure is the best of so many runs.
const RUNS: usize = 3;
/// Weights that are used in turn.
const WEIGHTS_MIN: usize = 200_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let cpu = Cpu::new(None, None)?;
    let tier = cpu.tier();
    let peak = peak::int8(cpu.threads());
    println!(
        "{tier}, {} threads: peak {:.0} Gop/s, memory {:.1} GB/s",
        cpu.threads(),
        peak / 1e9,
        peak::bandwidth(cpu.threads()) / 1e9,
    );
    println!("format      k      n   rows   Gop/s of peak    GB/s");
    for (k, n, dtype) in SHAPES {
        let source = Tensor::rand(-1.0_f32, 1.0, (n, k), &Device::Cpu)?;
        let stored = QTensor::quantize(&source, dtype)?;
        let bytes = stored.data()?;
        let copies = (WEIGHTS_MIN / (n * k)).max(1);
        let layers = (0..copies)
            .map(|_| {
                let raw = RawTensor::new("w", n, k, dtype, &bytes);
                Linear::new(&[raw], Storage::Int8, tier)
            })
            .collect::<Result<Vec<_>, _>>()?;
        for rows in ROWS {
            let x: Vec<f32> = (0..rows * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let best = (0..RUNS).map(|_| cpu.run(|| once(&layers, &x))).min();
            let each = best.unwrap_or_default().as_secs_f64() / copies as f64;
            let rate = 2.0 * (rows * n * k) as f64 / each;
            println!(
                "{:<6} {k:>6} {n:>6} {rows:>6} {:>7.0} {:>6.0}% {:>7.1}",
                format!("{dtype:?}"),
                rate / 1e9,
                100.0 * rate / peak,
                bytes.len() as f64 / each / 1e9,
            );
        }
    }
    Ok(())
}

/// One pass through all layers.
fn once(layers: &[Linear], x: &[f32]) -> Duration {
    let mut out = Vec::new();
    let started = Instant::now();
    for layer in layers {
        layer.product_into(x, &mut out);
        std::hint::black_box(&out);
    }
    started.elapsed()
}
