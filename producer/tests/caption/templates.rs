//! Prompts that have names: listed, printed, asked and refused.

use crate::fake_worker::FakeWorker;
use crate::program::{Folder, Said};

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn refusal(said: &Said) -> &str {
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(2), ""),
        "{}",
        said.err
    );
    said.err.trim_end()
}

#[test]
fn templates_are_listed_and_printed() {
    let folder = Folder::new();
    insta::assert_snapshot!(folder.run(&["templates"]).whole());
    insta::assert_snapshot!(folder.run(&["templates", "caption"]).whole());
    folder.write(
        "config/lapidary/templates/ocr.picture.txt",
        "Read {name} aloud.\n",
    );
    folder.write("config/lapidary/templates/README.md", "no template");
    let listed = folder.run(&["templates"]).out;
    let line = listed
        .lines()
        .find(|line| line.starts_with("ocr "))
        .unwrap();
    assert!(line.ends_with("image        Read {name} aloud."), "{line}");
    assert_eq!(listed.lines().count(), 8);
    let other = folder.run(&["templates", "--template-dir", "config"]);
    assert_eq!(other.out.lines().count(), 8);
    assert!(!other.out.contains("aloud"));
}

#[test]
fn a_template_asks_what_it_says() {
    let folder = Folder::new();
    let _worker = FakeWorker::following(&folder.store());
    folder.write("a.png", PICTURE);
    folder.write("a.txt", "Alpha is the first letter.");
    let caption = |args: &[&str]| {
        let said = folder.caption(&[&["a.png", "a.txt", "--out", "out.jsonl"], args].concat());
        (said.code, folder.rows("out.jsonl"), said.err)
    };
    let (code, rows, err) = caption(&["--template", "tags", "--max-tokens", "16"]);
    assert_eq!(code, Some(0), "{err}");
    let asked = rows["a.png"].text.clone().unwrap();
    assert!(
        asked.starts_with("picture of 8 bytes: List the tags"),
        "{asked}"
    );
    let (code, rows, _) = caption(&["--template", "alt-text", "--overwrite"]);
    assert_eq!(code, Some(1));
    assert!(rows["a.png"].failure.is_none());
    assert_eq!(
        rows["a.txt"].failure.as_ref().unwrap().message,
        "a.txt: the prompt has no `{text}`, so the document would not be in it"
    );
    let notes = [
        "--overwrite",
        "--audience",
        "german,indian",
        "--tone",
        "formal",
        "--context",
        "Ads.",
    ];
    let (code, rows, err) = caption(&notes);
    assert_eq!(code, Some(0), "{err}");
    insta::assert_snapshot!(rows["a.png"].text.clone().unwrap(), @r"
    picture of 8 bytes: Context: Ads.
    For German readers: be exact and thorough, explain the details, and stay professional.
    For Indian readers: show respect for age and rank, mind the differences between regions, and leave nothing important out.
    Tone: formal. Choose professional words, correct grammar and respect.
    Keep to the facts.

    Write a caption for this image: one or two sentences that say what it shows. Answer with the caption alone.
    ");
}

#[test]
fn pictures_of_a_line_are_compared() {
    let folder = Folder::new();
    let _worker = FakeWorker::following(&folder.store());
    folder.write("a.png", PICTURE);
    folder.write("b.png", [PICTURE, b"b"].concat());
    folder.write("c.txt", "no picture");
    let lines = [
        r#"{"images": ["b.png", "a.png"], "name": "pair"}"#,
        r#"{"images": ["a.png", "c.txt"]}"#,
        "a.png",
    ];
    folder.write("list.jsonl", lines.join("\n"));
    let run = ["list.jsonl", "--template", "comparison", "--out", "o.jsonl"];
    let said = folder.caption(&[&run[..], &["--max-tokens", "16"]].concat());
    assert_eq!(said.code, Some(1), "{}", said.err);
    let rows = folder.rows("o.jsonl");
    let text = rows["pair"].text.clone().unwrap();
    let expected = "picture of 9 bytes: picture of 8 bytes: Compare these images";
    assert!(text.starts_with(expected), "{text}");
    let failures = ["a.png, c.txt", "a.png"].map(|name| rows[name].failure.clone().unwrap());
    insta::assert_snapshot!(failures.map(|failure| failure.to_string()).join("\n"), @r"
    MEDIA_INVALID: c.txt is no picture, and only pictures are shown together
    VALIDATION_ERROR: a.png: the template asks about several pictures together, and this is one; a list shows them together as `images`
    ");
}

#[test]
fn a_template_of_ones_own_decides_the_rows() {
    let folder = Folder::new();
    let worker = FakeWorker::following(&folder.store());
    folder.write("a.png", PICTURE);
    folder.write("own/mood.picture.txt", "What mood?\n");
    let run = [
        "a.png",
        "--out",
        "out.jsonl",
        "--template",
        "mood",
        "--template-dir",
        "own",
    ];
    assert_eq!(folder.caption(&run).code, Some(0));
    let row = &folder.rows("out.jsonl")["a.png"];
    assert_eq!(row.text.as_deref(), Some("picture of 8 bytes: What mood?"));
    assert_eq!(folder.caption(&run).code, Some(0));
    assert_eq!(worker.answered(), 1, "the second run has nothing to do");
    folder.write("own/mood.picture.txt", "What season?\n");
    let changed = folder.caption(&run);
    let why = refusal(&changed);
    assert!(
        why.contains("What mood?") && why.contains("What season?"),
        "{why}"
    );
}

#[test]
fn templates_that_do_not_suit_are_refused() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("a.txt", "Alpha");
    folder.write("half/alone.combine.txt", "Join {text}");
    let caption = |args: &[&str]| folder.caption(&[&["a.txt"], args].concat());
    let all = "alt-text, analysis, caption, comparison, detailed, document-summary, ocr, tags";
    assert_eq!(
        refusal(&caption(&["--template", "poem"])),
        format!("error: there is no template `poem`; there are {all}")
    );
    assert_eq!(
        refusal(&caption(&["--template", "alone", "--template-dir", "half"])),
        format!("error: there is no template `alone`; there are {all}")
    );
    assert_eq!(
        refusal(&caption(&[
            "--template",
            "tags",
            "--template-dir",
            "nowhere"
        ])),
        "error: cannot read nowhere: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal(&caption(&["--template", "tags"])),
        "error: the template `tags` needs a model that follows instructions; this one only \
         continues text"
    );
    assert_eq!(
        refusal(&caption(&["--tone", "casual"])),
        "error: --context, --audience and --tone need a model that follows instructions; this one \
         only continues text"
    );
    let both = caption(&["--template", "tags", "--prompt", "{text}"]);
    assert!(refusal(&both).contains("'--template <NAME>' cannot be used with '--prompt <PROMPT>'"));
}
