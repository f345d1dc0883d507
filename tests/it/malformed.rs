//! Files that are damaged in every way that a seed knows, through the programs that read them: each is
//! answered or refused by a code, and nothing crashes or takes the machine's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use fastrand::Rng;
use image::ImageFormat;
use lapidary_schemas::worker::DEMONSTRATION;
use lapidary_tests::own;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;
use tempfile::TempDir;

use crate::boards::below_root;
use crate::place::{MODEL, Place, RUN_MAX, requests};

const SEED: u64 = 20_250_806;
/// Address space of a program, in KiB: allocators reserve far more than they use.
const SPACE_KIB_MAX: u64 = 8 << 20;
/// Memory that a worker may ever have had while it looked at what is damaged, in KiB.
const WORKER_KIB_MAX: u64 = 2 << 20;
/// Damaged ones of each kind of picture and document.
const EACH: usize = 14;
const FORMATS: [(&str, ImageFormat); 6] = [
    ("png", ImageFormat::Png),
    ("jpg", ImageFormat::Jpeg),
    ("gif", ImageFormat::Gif),
    ("bmp", ImageFormat::Bmp),
    ("tiff", ImageFormat::Tiff),
    ("webp", ImageFormat::WebP),
];

/// What wear, transmission and ill will do to a file.
fn damaged(bytes: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..4) {
        // Heads say how large things are: they are hit as often as all the rest.
        let near = if random.bool() { 256 } else { usize::MAX };
        let at = random.usize(0..bytes.len().min(near).max(1));
        let end = (at + random.usize(1..64)).min(bytes.len());
        match random.u8(0..7) {
            0 => bytes.truncate(at),
            1 => bytes[at..end].fill(0xff),
            2 => bytes[at..end].fill(0),
            3 => bytes[at..end]
                .iter_mut()
                .for_each(|byte| *byte = random.u8(..)),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].repeat(random.usize(1..8));
                bytes.splice(at..at, piece);
            }
            _ => bytes[at] ^= 1 << random.u8(0..8),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// A program with bounded address space; it says what it wants and ends by itself.
#[track_caller]
fn bounded(command: &Command) -> Output {
    let mut shell = Command::new("/bin/sh");
    let limit = format!("ulimit -v {SPACE_KIB_MAX}; exec \"$@\"");
    shell.args(["-c", &limit, "sh"]).arg(command.get_program());
    let output = shell.args(command.get_args()).output().unwrap();
    let code = output.status.code();
    let said = String::from_utf8_lossy(&output.stderr);
    // 101 is a panic, none is a signal.
    let sound = matches!(code, Some(0..=3));
    assert!(
        sound,
        "{:?} ended with {code:?}: {said}",
        command.get_args()
    );
    output
}

fn pictures(folder: &Path, random: &mut Rng) -> Vec<PathBuf> {
    let scene = image::open(below_root("tests/fixtures/pictures/00.png"))
        .unwrap()
        .to_rgb8();
    let mut made = Vec::new();
    for (ending, format) in FORMATS {
        let mut whole = Cursor::new(Vec::new());
        scene.write_to(&mut whole, format).unwrap();
        for number in 0..EACH {
            let path = folder.join(format!("{number}.{ending}"));
            fs::write(&path, damaged(whole.get_ref(), random)).unwrap();
            made.push(path);
        }
    }
    made
}

fn documents(folder: &Path, random: &mut Rng) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for source in [
        "tests/fixtures/documents/two-pages.pdf",
        "tests/fixtures/documents/scan.pdf",
        "samples/documents/gettysburg-address.pdf",
    ] {
        let source = below_root(source);
        let (whole, name) = (fs::read(&source).unwrap(), source.file_stem().unwrap());
        for number in 0..EACH / 2 {
            let path = folder.join(format!("{}-{number}.pdf", name.display()));
            fs::write(&path, damaged(&whole, random)).unwrap();
            made.push(path);
        }
    }
    let page = fs::read(below_root("samples/documents/alice.html")).unwrap();
    for number in 0..EACH / 2 {
        let path = folder.join(format!("{number}.html"));
        fs::write(&path, damaged(&page, random)).unwrap();
        made.push(path);
    }
    made
}

/// Archives and tables of two pictures.
fn archives(folder: &Path, random: &mut Rng) -> Vec<PathBuf> {
    let scenes = below_root("tests/fixtures/pictures");
    let tar = folder.join("whole.tar");
    let packed = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&scenes)
        .args(["01.png", "02.png"])
        .status();
    assert!(packed.unwrap().success());
    let archive = fs::read(&tar).unwrap();
    let table = table(&[scenes.join("01.png"), scenes.join("02.png")]);
    let mut made = Vec::new();
    for number in 0..EACH {
        for (ending, whole) in [("tar", &archive), ("parquet", &table)] {
            let path = folder.join(format!("{number}.{ending}"));
            fs::write(&path, damaged(whole, random)).unwrap();
            made.push(path);
        }
    }
    made
}

fn table(pictures: &[PathBuf]) -> Vec<u8> {
    let schema = parse_message_type("message pictures { required binary image; }").unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = pictures
        .iter()
        .map(|picture| ByteArray::from(fs::read(picture).unwrap()))
        .collect();
    let typed = column.typed::<ByteArrayType>();
    typed.write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn damaged_documents_pictures_archives_and_tables_are_captioned_or_refused() {
    let (folder, mut random) = (TempDir::new().unwrap(), Rng::with_seed(SEED));
    let place = Place::on_file(folder.path());
    let mut worker = place.demonstration();
    worker.wait_for("serving", RUN_MAX);
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    let mut paths = pictures(&files, &mut random);
    paths.extend(documents(&files, &mut random));
    paths.extend(archives(&files, &mut random));
    assert!(paths.len() >= 130, "{} files", paths.len());
    let out = folder.path().join("rows.jsonl");
    let mut caption = own("lapidary");
    caption
        .arg("caption")
        .args(&paths)
        .args(["--model", DEMONSTRATION]);
    caption.args(["--max-tokens", "8", "--out"]).arg(&out);
    let said = bounded(caption.args(place.arguments()));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let rows = fs::read_to_string(&out).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mut codes: BTreeMap<String, u32> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        named.insert(
            row["name"]
                .as_str()
                .unwrap()
                .split('#')
                .next()
                .unwrap()
                .to_owned(),
        );
        let code = row["failure"]["code"].as_str().unwrap_or("");
        *codes.entry(code.to_owned()).or_default() += 1;
    }
    // A damaged archive may have nothing in it, and a page no text; of all else there is a row.
    let with_row = |path: &&PathBuf| {
        let ending = path.extension().unwrap().to_str().unwrap();
        !["tar", "parquet", "html"].contains(&ending)
    };
    for path in paths.iter().filter(with_row) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let spoken_of = named.iter().any(|row| row.contains(name));
        assert!(spoken_of, "no row speaks of {name}: {said}");
    }
    let known = [
        "",
        "MEDIA_INVALID",
        "MEDIA_TOO_LARGE",
        "VALIDATION_ERROR",
        "PROMPT_TOO_LONG",
    ];
    let strange = codes.keys().find(|code| !known.contains(&code.as_str()));
    assert_eq!(strange, None, "{codes:?}: {rows}");
    assert!(codes["MEDIA_INVALID"] > 30, "{codes:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(peak < WORKER_KIB_MAX, "the worker had {peak} KiB");
}

#[test]
fn damaged_requests_are_refused_by_line() {
    let (folder, mut random) = (TempDir::new().unwrap(), Rng::with_seed(SEED + 1));
    let place = Place::on_file(folder.path());
    let mut worker = place.worker(&["--threads", "1"]);
    worker.wait_for("serving", RUN_MAX);
    let whole = fs::read(requests(folder.path(), 4)).unwrap();
    let mut refused = 0;
    for number in 0..40 {
        let path = folder.path().join(format!("{number}.jsonl"));
        fs::write(&path, damaged(&whole, &mut random)).unwrap();
        let mut submit = own("lapidary");
        submit.args(["submit", "--model", MODEL]).arg(&path);
        let output = bounded(submit.args(place.arguments()));
        refused += u32::from(!output.status.success());
    }
    assert!(refused > 20, "{refused} of 40 were refused");
}

/// A file of the format with an architecture, a list of words, and a tensor that is not there.
fn gguf() -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    for (key, value) in [
        ("general.architecture", "gemma3"),
        ("general.name", "damaged"),
    ] {
        bytes.extend(text(key));
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(text(value));
    }
    bytes.extend(text("tokenizer.ggml.tokens"));
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(4_u64.to_le_bytes());
    for word in ["<pad>", "<eos>", "<bos>", "a"] {
        bytes.extend(text(word));
    }
    bytes.extend(text("token_embd.weight"));
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend(64_u64.to_le_bytes());
    bytes.extend(4_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 1_024, 0);
    bytes
}

#[test]
fn damaged_models_are_refused() {
    let (folder, mut random) = (TempDir::new().unwrap(), Rng::with_seed(SEED + 2));
    let load = |model: &Path| {
        let mut bench = own("lapidary-worker");
        bench.arg("bench").arg("--model").arg(model);
        bench.args([
            "--batch",
            "1",
            "--prompt",
            "4",
            "--generate",
            "1",
            "--threads",
            "1",
        ]);
        bounded(&bench)
    };
    let mut refused = 0;
    let whole = gguf();
    for number in 0..30 {
        let path = folder.path().join(format!("{number}.gguf"));
        fs::write(&path, damaged(&whole, &mut random)).unwrap();
        refused += u32::from(!load(&path).status.success());
    }
    assert_eq!(refused, 30, "a model without tensors was loaded");
    let fixture = below_root("tests/fixtures/tiny-gemma");
    for (file, count) in [
        ("model.safetensors", 30),
        ("config.json", 12),
        ("tokenizer.json", 12),
    ] {
        for number in 0..count {
            let copy = folder.path().join(format!("{file}-{number}"));
            fs::create_dir(&copy).unwrap();
            for entry in fs::read_dir(&fixture).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
            let whole = fs::read(copy.join(file)).unwrap();
            fs::write(copy.join(file), damaged(&whole, &mut random)).unwrap();
            // Damage within the numbers is not seen: then it computes.
            load(&copy);
        }
    }
}
