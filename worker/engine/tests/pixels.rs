//! Pictures against the reference image processor: see `reference/make_images.py`.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::alloc::System;
use std::path::PathBuf;

use lapidary_engine::image::{
    Image, ImageError, ImageLimits, ImageSpec, View, memory_bytes, prepare,
};
use lapidary_engine::memory::Counted;
use safetensors::SafeTensors;

#[global_allocator]
static ALLOCATOR: Counted<System> = Counted(System);

/// Side of the views that are compared whole.
const SMALL: u32 = 80;
/// Side of the views of which every [`STRIDE`]th value is compared.
const LARGE: u32 = 896;
const STRIDE: usize = 293;
/// Most that a value may differ where the file's pixels are exact.
const LOSSLESS_DIFFERENCE: u8 = 2;
/// Most that nearly all values may differ where the decoder has a say.
const LOSSY_DIFFERENCE: u8 = 4;
/// One in so many values may differ by more.
const LOSSY_OUTLIERS: usize = 1_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn prepared(name: &str, side: u32, pan_and_scan: bool) -> Image {
    let spec = ImageSpec { side, pan_and_scan };
    let prepared = prepare(&read(name), &spec, &ImageLimits::default());
    prepared.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Values that differ by more than `most`, and the largest difference.
fn difference(ours: &[u8], reference: &[u8], most: u8) -> (usize, u8) {
    assert_eq!(ours.len(), reference.len());
    let differences = ours.iter().zip(reference).map(|(a, b)| a.abs_diff(*b));
    differences.fold((0, 0), |(count, max), difference| {
        (count + usize::from(difference > most), max.max(difference))
    })
}

#[test]
fn views_are_those_of_the_reference() {
    let file = read("views.safetensors");
    let reference = SafeTensors::deserialize(&file).unwrap();
    let mut failed = Vec::new();
    let (mut pictures, mut values) = (0, 0);
    for key in reference.names() {
        let (name, way) = key.split_once('/').unwrap();
        let expected = reference.tensor(key).unwrap();
        let ours: Vec<u8> = match way {
            "896" => {
                pictures += 1;
                let image = prepared(name, LARGE, false);
                image.views()[0]
                    .rgb()
                    .iter()
                    .copied()
                    .step_by(STRIDE)
                    .collect()
            }
            way => {
                let image = prepared(name, SMALL, way.ends_with("/crops"));
                assert_eq!(image.views().len(), expected.shape()[0], "{key}");
                image.views().iter().flat_map(View::rgb).copied().collect()
            }
        };
        let lossy = name.contains(".jpg") || name.starts_with("lossy");
        let (most, outliers_max) = if lossy {
            (LOSSY_DIFFERENCE, ours.len() / LOSSY_OUTLIERS)
        } else {
            (LOSSLESS_DIFFERENCE, 0)
        };
        let (outliers, max) = difference(&ours, expected.data(), most);
        values += ours.len();
        if outliers > outliers_max {
            failed.push(format!(
                "{key}: {outliers} of {} values differ by more than {most}, at most by {max}",
                ours.len()
            ));
        }
    }
    assert!(pictures >= 40 && values > 1_000_000, "{pictures}, {values}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_picture_knows_its_upright_size_and_its_file() {
    let image = prepared("turned-6.jpg", SMALL, true);
    assert_eq!((image.width(), image.height()), (360, 900));
    assert_eq!(image.views().len(), 4);
    let again = prepared("turned-6.jpg", SMALL, false);
    assert_eq!(image.sha256(), again.sha256());
    assert_eq!(image.views()[0].sha256(), again.views()[0].sha256());
    assert_ne!(image.views()[0].sha256(), image.views()[1].sha256());
}

fn refused(bytes: &[u8]) -> ImageError {
    let spec = ImageSpec {
        side: SMALL,
        pan_and_scan: true,
    };
    prepare(bytes, &spec, &ImageLimits::default()).unwrap_err()
}

/// A PNG whose header claims this size.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut png = read("grain.png");
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    })
}

#[test]
fn what_is_no_picture_is_named() {
    for (bytes, said) in [
        (&b""[..], "it is empty"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "it is an SVG drawing",
        ),
        (b"<?xml version='1.0'?><svg/>", "it is an SVG drawing"),
        (b"<!DOCTYPE html><title>404</title>", "it is an HTML page"),
        (b"%PDF-1.7", "it is a PDF document"),
        (b"\0\0\0\x1cftypavif", "it is an AVIF picture"),
        (b"\0\0\0\x1cftypheic", "it is a HEIC picture"),
        (b"hello", "it is text"),
        (b"\x01\x02\x03", "it is no known kind of picture"),
    ] {
        let error = refused(bytes);
        assert!(!error.is_too_large());
        let error = error.to_string();
        assert!(error.starts_with(said), "{error}");
        assert!(error.ends_with("read are JPEG, PNG, WebP, GIF, BMP and TIFF") || bytes.is_empty());
    }
}

#[test]
fn what_is_cut_off_is_broken_in_every_format() {
    for name in [
        "photo.jpg",
        "progressive.jpg",
        "grain.png",
        "lossy.webp",
        "lossless.webp",
        "moving.gif",
        "plain.bmp",
        "lzw.tif",
    ] {
        let whole = read(name);
        for kept in [whole.len() / 2, whole.len() / 10, 40] {
            let error = refused(&whole[..kept]);
            assert!(
                matches!(&error, ImageError::Broken { .. }),
                "{name} cut at {kept}: {error:?}"
            );
        }
    }
}

#[test]
fn bombs_are_refused_from_their_headers() {
    for (bytes, said) in [
        (
            claiming(50_000, 50_000),
            "it is 50000x50000 pixels, the limit is 100000000 in all",
        ),
        (
            claiming(100_000, 1),
            "it is 100000x1 pixels, the limit is 65535 on a side",
        ),
    ] {
        let error = refused(&bytes);
        assert!(error.is_too_large());
        assert_eq!(error.to_string(), said);
    }
    let limits = ImageLimits {
        memory_bytes_max: 200_000,
        ..ImageLimits::default()
    };
    let said = memory_bytes(&read("grain.png"), &limits).unwrap_err();
    assert!(
        matches!(
            said,
            ImageError::Memory {
                bytes: 4_693_624,
                ..
            }
        ),
        "{said:?}"
    );
    let small = ImageLimits {
        bytes_max: 100,
        ..ImageLimits::default()
    };
    let said = memory_bytes(&read("grain.png"), &small).unwrap_err();
    assert!(said.is_too_large(), "{said}");
}

/// A compressed profile of a gigabyte of zeros stays within the decoder's bound: its chunk is a
/// megabyte.
#[test]
fn a_chunk_that_swells_is_bounded() {
    use std::io::Write;
    let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        zeros.write_all(&vec![0; 1 << 24]).unwrap();
    }
    let mut chunk = b"iCCPp\0\0".to_vec();
    chunk.extend(zeros.finish().unwrap());
    let length = u32::try_from(chunk.len() - 4).unwrap();
    let mut png = read("grain.png");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&chunk);
    bytes.extend(crc32(&chunk).to_be_bytes());
    png.splice(33..33, bytes);
    let before = peak_memory_bytes();
    let spec = ImageSpec {
        side: SMALL,
        pan_and_scan: false,
    };
    let limits = ImageLimits {
        memory_bytes_max: 64 << 20,
        ..ImageLimits::default()
    };
    // Profiles are not applied, so it may as well be passed over.
    let _ = prepare(&png, &spec, &limits);
    let grown = peak_memory_bytes() - before;
    assert!(grown < 256 << 20, "{grown}");
}

/// A lossless WebP of one pixel, whose 65,536 groups of code tables are 67 KB each in memory and 10 bytes in the file.
fn tables_without_end() -> Vec<u8> {
    const GROUPS: u64 = 65_536;
    let mut bits = Vec::new();
    let mut push =
        |value: u64, count: u32| bits.extend((0..count).map(|bit| value >> bit & 1 == 1));
    push(0x2F, 8);
    // One by one pixel, without alpha, version 0, no transform.
    push(0, 14 + 14 + 1 + 3 + 1);
    // A cache of 2,048 colours: their codes are in the first table.
    push(0b1_0111, 5);
    // Groups are chosen by blocks of four pixels; that picture has a table a channel, of one symbol each.
    push(1, 1);
    push(0, 3 + 1);
    let last = GROUPS - 1;
    for symbol in [last & 0xFF, last >> 8, 0, 0, 0] {
        push(0b101, 3);
        push(symbol, 8);
    }
    for _ in 0..GROUPS {
        // All lengths of codes are 11: said in no bits, since there is no other length; of 15 lengths of lengths.
        push(0, 1);
        push(15 - 4, 4);
        push(0, 14 * 3);
        push(1, 3);
        // 2,048 symbols, as a number of 12 bits.
        push(0b1011, 4);
        push(2_048 - 2, 12);
        // Four tables of one symbol.
        (0..4).for_each(|_| push(0b0001, 4));
    }
    let byte = |bits: &[bool]| {
        bits.iter()
            .rev()
            .fold(0, |byte, bit| byte << 1 | u8::from(*bit))
    };
    let mut data: Vec<u8> = bits.chunks(8).map(byte).collect();
    data.resize(data.len().next_multiple_of(2), 0);
    let size = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    let chunk = [b"VP8L", &size(data.len())[..], &data].concat();
    [b"RIFF", &size(4 + chunk.len())[..], b"WEBP", &chunk].concat()
}

/// What the head of a WebP cannot foretell ends when it takes more than a picture of its size may.
#[test]
fn tables_without_end_are_refused() {
    let bytes = tables_without_end();
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
    let foretold = memory_bytes(&bytes, &ImageLimits::default()).unwrap();
    let before = peak_memory_bytes();
    let error = refused(&bytes);
    let grown = peak_memory_bytes() - before;
    assert!(
        matches!(error, ImageError::Memory { format: "WebP", .. }),
        "{error:?}"
    );
    assert!(
        foretold < 256 << 20 && grown < foretold,
        "{grown} {foretold}"
    );
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}
