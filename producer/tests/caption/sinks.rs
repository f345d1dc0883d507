//! Rows in other shapes than JSON lines.

use crate::fake_worker::FakeWorker;
use crate::pictures::png;
use crate::program::Folder;

/// A text file's lines, sorted: rows come in order of completion.
#[expect(clippy::unwrap_used, reason = "helper of tests")]
fn sorted_lines(folder: &Folder, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path(file)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn comma_separated_values() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("pics/a, \"b\".png", png("a"));
    folder.write("pics/bad.png", "");
    let args = ["pics", "--out", "out.csv", "--prompt", "What?"];
    let said = folder.caption(&args);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let text = std::fs::read_to_string(folder.path("out.csv")).unwrap();
    assert!(text.starts_with(
        "name,text,status,finish_reason,same_as,parts,truncated,prompt_tokens,image_tokens,\
         cached_tokens,completion_tokens,seed,failure_code,failure_message,key\n"
    ));
    let lines = sorted_lines(&folder, "out.csv");
    assert!(
        lines[0].starts_with(
            "\"pics/a, \"\"b\"\".png\",picture of 9 bytes: What?,succeeded,stop,,1,false,5,16,0,4,"
        ),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[2],
        "pics/bad.png,,failed,,,0,false,0,0,0,0,,MEDIA_INVALID,pics/bad.png is empty,"
    );
    // It goes on where it was, and the table is made anew.
    folder.write("pics/bad.png", png("mended"));
    let said = folder.caption(&args);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 2);
    let lines = sorted_lines(&folder, "out.csv");
    assert_eq!(lines.len(), 3);
    assert!(lines[2].starts_with("pics/bad.png,picture of 14 bytes"));
}

#[test]
fn a_foreign_table_is_not_written_over() {
    let folder = Folder::new();
    let _worker = FakeWorker::seeing(&folder.store());
    folder.write("a.png", png("a"));
    folder.write("out.csv", "precious\n");
    let said = folder.caption(&["a.png", "--out", "out.csv"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(
        said.err
            .contains("out.csv exists and out.csv.rows.jsonl, which it would be made of, does not"),
        "{}",
        said.err
    );
    assert_eq!(sorted_lines(&folder, "out.csv"), ["precious"]);
    let said = folder.caption(&["a.png", "--format", "csv"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(
        said.err.contains("standard output takes JSON lines only"),
        "{}",
        said.err
    );
}

#[test]
fn an_image_folder() {
    let folder = Folder::new();
    let _worker = FakeWorker::seeing(&folder.store());
    folder.write("data/train/a.png", png("a"));
    folder.write("data/b.png", png("b"));
    folder.write("other/c.png", png("c"));
    folder.write("data/bad.png", "");
    let said = folder.caption(&[
        "data",
        "other",
        "--out",
        "data/metadata.jsonl",
        "--format",
        "imagefolder",
        "--prompt",
        "What?",
    ]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(
        sorted_lines(&folder, "data/metadata.jsonl"),
        [
            r#"{"file_name":"b.png","text":"picture of 9 bytes: What?"}"#,
            r#"{"file_name":"train/a.png","text":"picture of 9 bytes: What?"}"#,
        ]
    );
    assert!(
        said.err.contains(
            "1 captioned documents are no files below the folder of the file and not in it"
        ),
        "{}",
        said.err
    );
}

#[test]
fn captions_beside_their_pictures() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    let sidecar = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    folder.write("pics/a.png", png("a"));
    folder.write("pics/deep/b.jpg", png("bb"));
    folder.write("pics/c.png", png("ccc"));
    folder.write("pics/c.txt", "precious");
    let args = [
        "pics",
        "--out",
        "out.jsonl",
        "--sidecar",
        "--prompt",
        "What?",
    ];
    let said = folder.caption(&args);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(
        said.err.contains(
            "1 captioned documents have a text file beside them that holds something else"
        ),
        "{}",
        said.err
    );
    assert_eq!(sidecar("pics/a.txt"), "picture of 9 bytes: What?");
    assert_eq!(sidecar("pics/deep/b.txt"), "picture of 10 bytes: What?");
    assert_eq!(sidecar("pics/c.txt"), "precious");
    assert_eq!(worker.answered(), 3, "texts are not captioned");
    // A picture that changed gets a new one, because the old one was ours.
    folder.write("pics/a.png", png("changed"));
    std::fs::remove_file(folder.path("pics/c.txt")).unwrap();
    let said = folder.caption(&args);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 4);
    assert_eq!(sidecar("pics/a.txt"), "picture of 15 bytes: What?");
    assert_eq!(sidecar("pics/c.txt"), "picture of 11 bytes: What?");
}
