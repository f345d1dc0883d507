//! Products alone, in company and on every tier.

use super::*;
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor};
use proptest::prelude::*;

/// Values of a cheap hash, in -1 ..= 1.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 32_767.5 - 1.0
    };
    (0..count).map(next).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A matrix `[n, k]` stored in `dtype`, and the values that stands for.
fn stored(dtype: GgmlDType, n: usize, k: usize) -> (Vec<u8>, Vec<f32>) {
    let source = Tensor::from_vec(values(n * k, 7), (n, k), &Device::Cpu).unwrap();
    let tensor = QTensor::quantize(&source, dtype).unwrap();
    let meant = tensor
        .dequantize(&Device::Cpu)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    (tensor.data().unwrap().into_owned(), meant)
}

fn linear(dtype: GgmlDType, n: usize, k: usize, storage: Storage, tier: Tier) -> Linear {
    let (bytes, _) = stored(dtype, n, k);
    let half = || RawTensor::new("w", n, k, dtype, &bytes);
    Linear::new(&[half(), half()], storage, tier).unwrap()
}

/// Largest distance from the product in f64, relative to the row's largest input times the sum of
/// the weights' magnitudes.
fn error(got: &[f32], x: &[f32], weights: &[f32], k: usize) -> f64 {
    let n = weights.len() / k;
    let mut largest = 0.0_f64;
    for (x, got) in x.chunks_exact(k).zip(got.chunks_exact(2 * n)) {
        let x_max = x
            .iter()
            .fold(0.0_f64, |most, x| most.max(f64::from(x.abs())));
        for (column, got) in got.iter().enumerate() {
            let row = &weights[column % n * k..][..k];
            let terms = x
                .iter()
                .zip(row)
                .map(|(x, w)| (f64::from(*x), f64::from(*w)));
            let (sum, size) = terms.fold((0.0, 1e-6), |(sum, size), (x, w)| {
                (sum + x * w, size + x_max * w.abs())
            });
            largest = largest.max((f64::from(*got) - sum).abs() / size);
        }
    }
    largest
}

/// Formats with the widths they can have.
fn matrix() -> impl Strategy<Value = (GgmlDType, usize, usize, Storage)> {
    let block = |dtype, width: usize, most: usize| {
        (
            Just(dtype),
            1..50_usize,
            (1..=most).prop_map(move |blocks| blocks * width),
        )
    };
    let stored = prop_oneof![
        block(GgmlDType::Q8_0, 32, 6),
        block(GgmlDType::Q5_0, 32, 6),
        block(GgmlDType::Q5_1, 32, 6),
        block(GgmlDType::Q4_0, 32, 6),
        block(GgmlDType::Q4K, 256, 2),
        block(GgmlDType::Q5K, 256, 2),
        block(GgmlDType::Q6K, 256, 2),
        block(GgmlDType::F32, 1, 200),
        block(GgmlDType::BF16, 1, 200),
    ];
    let storage = prop_oneof![
        Just(Storage::Int8),
        Just(Storage::Int4),
        Just(Storage::Bf16),
        Just(Storage::F32)
    ];
    (stored, storage).prop_map(|((dtype, n, k), storage)| (dtype, n, k, storage))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_row_is_the_same_alone_in_company_and_on_every_tier(
        (dtype, n, k, storage) in matrix(),
        rows in 1..70_usize,
        seed in any::<u32>(),
    ) {
        let x = values(rows * k, seed);
        let best = linear(dtype, n, k, storage, Tier::detect());
        let together = best.product(&x);
        prop_assert_eq!(together.len(), rows * 2 * n);
        for (x, expected) in x.chunks_exact(k).zip(together.chunks_exact(2 * n)) {
            prop_assert_eq!(bits(&best.product(x)), bits(expected));
        }
        for tier in Tier::available() {
            let product = linear(dtype, n, k, storage, tier).product(&x);
            prop_assert_eq!(bits(&product), bits(&together), "{}", tier.name());
        }
        // What is lost beyond the stored weights is the activations' rounding, to 8 bits of each.
        let tolerance = match storage {
            Storage::F32 => 1e-5,
            Storage::Bf16 => 1.0 / 512.0,
            Storage::Int8 | Storage::Int4 => 1.0 / 250.0,
        };
        let mut meant = vec![0.0; n * k];
        for (index, row) in meant.chunks_exact_mut(k).enumerate() {
            best.row(index, row);
        }
        let error = error(&together, &x, &meant, k);
        prop_assert!(error <= tolerance, "{error} off");
    }

    #[test]
    fn an_embedding_row_is_what_was_stored((dtype, n, k, _) in matrix(), index in 0..50_usize) {
        let (_, meant) = stored(dtype, n, k);
        let index = index % n;
        let expected = &meant[index * k..][..k];
        let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        for storage in [Storage::F32, Storage::Int8, Storage::Int4] {
            let mut row = vec![0.0; k];
            linear(dtype, n, k, storage, Tier::detect()).row(index, &mut row);
            let exact = storage == Storage::F32 || crate::weights::blocks::Form::exact(dtype).is_some();
            let tolerance = match storage {
                _ if exact => 0.0,
                Storage::Int4 => largest / 14.9,
                _ => largest / 250.0,
            };
            for (got, expected) in row.iter().zip(expected) {
                prop_assert!((got - expected).abs() <= tolerance, "{got}, stored {expected}");
            }
        }
    }
}

#[test]
fn a_block_at_the_limits_of_its_integers_is_exact() {
    // One block of the largest and one of the least quants of each format, under a scale of 1: the
    // largest sums a block can have, where 16-bit steps would saturate.
    let one = half::f16::ONE.to_le_bytes();
    let block = |parts: &[&[u8]]| parts.concat();
    // Low bits, high bits, a scale of 1 for each 16, and 1 for all.
    let q6_k = |quants: u8| block(&[&[quants; 192], &[1; 16], &one]);
    let cases = [
        (GgmlDType::Q6K, q6_k(0xFF), 31.0),
        (GgmlDType::Q6K, q6_k(0), -32.0),
        (GgmlDType::Q8_0, block(&[&one, &[127; 32]]), 127.0),
        (GgmlDType::Q8_0, block(&[&one, &[0x80; 32]]), -128.0),
        (GgmlDType::Q5_0, block(&[&one, &[0xFF; 20]]), 15.0),
        (GgmlDType::Q5_0, block(&[&one, &[0; 20]]), -16.0),
        (GgmlDType::Q5_1, block(&[&one, &[0, 0], &[0xFF; 20]]), 31.0),
        (GgmlDType::Q4_0, block(&[&one, &[0xFF; 16]]), 7.0),
        (GgmlDType::Q4_0, block(&[&one, &[0; 16]]), -8.0),
        (GgmlDType::Q4_1, block(&[&one, &[0, 0], &[0xFF; 16]]), 15.0),
    ];
    for (dtype, bytes, weight) in cases {
        for tier in Tier::available() {
            let k = dtype.block_size();
            let weights = [RawTensor::new("w", 1, k, dtype, &bytes)];
            let linear = Linear::new(&weights, Storage::Int8, tier).unwrap();
            for x in [127.0, -127.0] {
                let product = linear.product(&vec![x; k]);
                let expected = weight * x * f32::from(u16::try_from(k).unwrap());
                assert_eq!(product, [expected], "{dtype:?} {}", tier.name());
            }
        }
    }
}

#[test]
fn a_row_longer_than_the_nearest_cache_is_multiplied_too() {
    let (n, k) = (3, 32 * 512);
    let x = values(5 * k, 11);
    let (_, meant) = stored(GgmlDType::Q8_0, n, k);
    let linear = linear(GgmlDType::Q8_0, n, k, Storage::Int8, Tier::detect());
    let together = linear.product(&x);
    for (x, expected) in x.chunks_exact(k).zip(together.chunks_exact(2 * n)) {
        assert_eq!(bits(&linear.product(x)), bits(expected));
    }
    assert!(error(&together, &x, &meant, k) <= 1.0 / 250.0);
}

#[test]
fn many_rows_of_tiles_that_are_unpacked_in_turn_are_each_as_alone() {
    let (rows, n, k) = (50, 40, 32 * 512);
    let x = values(rows * k, 13);
    for dtype in [GgmlDType::Q5K, GgmlDType::Q6K] {
        for tier in Tier::available() {
            let linear = linear(dtype, n, k, Storage::Int8, tier);
            let together = linear.product(&x);
            for (x, expected) in x.chunks_exact(k).zip(together.chunks_exact(2 * n)) {
                let name = tier.name();
                assert_eq!(bits(&linear.product(x)), bits(expected), "{dtype:?} {name}");
            }
        }
    }
}

#[test]
fn matrices_of_unequal_width_are_refused() {
    let (narrow, wide) = ([0; 4], [0; 8]);
    let matrices = [
        RawTensor::new("w", 1, 1, GgmlDType::F32, &narrow),
        RawTensor::new("w", 1, 2, GgmlDType::F32, &wide),
    ];
    let error = Linear::new(&matrices, Storage::F32, Tier::detect()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `w` has shape [1, 2], the configuration says [1, 1]"
    );
}
