//! Lists of documents in, captions out.

use crate::fake_worker::FakeWorker;
use crate::pictures::{failures, png};
use crate::program::{Folder, in_order};

fn names(folder: &Folder, file: &str) -> Vec<String> {
    let rows = in_order(&folder.path(file)).into_iter();
    rows.map(|row| row.name).collect()
}

#[test]
fn a_list_on_standard_input() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("a.png", png("a"));
    folder.write("deep/b.txt", "Beta.");
    let list = "a.png\ndeep/b.txt\n\na.png\n";
    let said = folder.caption_of(list, &["-", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(names(&folder, "out.jsonl"), ["a.png", "deep/b.txt"]);
    assert_eq!(worker.answered(), 2);
    let said = folder.caption_of(list, &["--from-list", "-", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 2);
    assert!(said.err.contains("2 documents done before"), "{}", said.err);
}

#[test]
fn a_list_of_objects_names_its_rows() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("a.png", png("a"));
    folder.write("b.png", png("b"));
    let list = concat!(
        r#"{"image": "a.png", "id": 17, "split": "train"}"#,
        "\n",
        r#"{"image": "b.png", "name": "bee"}"#,
        "\n",
        r#"{"image": "b.png", "id": 17}"#,
        "\n",
        r#"{"image": "gone.png"}"#,
        "\n",
        r#"{"picture": "a.png"}"#,
        "\n",
    );
    folder.write("list.jsonl", list);
    let said = folder.caption(&["list.jsonl", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(worker.answered(), 2);
    assert_eq!(
        names(&folder, "out.jsonl"),
        ["17", "bee", "b.png", "gone.png", "list.jsonl:5"]
    );
    insta::assert_snapshot!(failures(&folder, "out.jsonl"), @r"
    MEDIA_UNREACHABLE: cannot read gone.png: it does not exist
    VALIDATION_ERROR: b.png shall be named `17`, which is another document's name
    VALIDATION_ERROR: line 5 of list.jsonl names no document: it has neither `image` nor `images`
    ");
}

#[test]
fn an_address_is_refused_where_no_worker_fetches() {
    let folder = Folder::new();
    let _worker = FakeWorker::seeing(&folder.store());
    folder.write("list.txt", "https://example.org/a.png\n");
    let said = folder.caption(&["--from-list", "list.txt", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    insta::assert_snapshot!(failures(&folder, "out.jsonl"), @"VALIDATION_ERROR: https://example.org/a.png: part 0 of message 0 is at a remote address, remote media is not served by `pretender`");
    let said = folder.caption(&["--from-list", "nowhere.txt"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err
            .contains("there is no file or folder `nowhere.txt`"),
        "{}",
        said.err
    );
}
