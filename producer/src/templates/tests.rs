//! What the templates keep.

use super::*;
use crate::prompt::Template;

#[test]
fn built_in_prompts_suit_what_they_are_asked_about() {
    for named in built_in::all() {
        assert!(!named.takes().is_empty(), "{}", named.name);
        for form in Form::ALL {
            let Some(prompt) = named.prompt(form) else {
                continue;
            };
            assert_eq!(prompt.trim(), prompt, "{}", named.name);
            let prompt = Template::new(prompt);
            let suits = match form {
                Form::Document | Form::Combine => prompt.for_text(),
                Form::Picture | Form::Pictures => prompt.for_picture(),
            };
            assert!(suits.is_ok(), "{} {form:?}", named.name);
        }
    }
}

#[test]
fn every_file_of_a_built_in_template_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(
        built_in::all()
            .map(|named| named.files().count())
            .sum::<usize>(),
        files
    );
}

#[test]
fn a_folder_of_ones_own_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let write =
        |file: &str, prompt: &str| std::fs::write(folder.path().join(file), prompt).unwrap();
    write("ocr.picture.txt", "Read it.\n\n");
    write("v1.2.document.txt", "Read {text}");
    write("v1.2.combine.txt", "Join {text}");
    write("alone.combine.txt", "Join {text}");
    write(".picture.txt", "No name.");
    write("notes.txt", "No form.");
    let all = all(Some(folder.path())).unwrap();
    assert_eq!(all["ocr"].prompt(Form::Picture), Some("Read it."));
    assert!(!all["ocr"].built_in && all["tags"].built_in);
    assert_eq!(all["v1.2"].takes(), "text");
    assert_eq!(all.len(), 9);
}

#[test]
fn a_prompt_has_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.picture.txt"), "x".repeat(65_537)).unwrap();
    let refused = find("ocr", Some(folder.path())).unwrap_err().message;
    assert!(
        refused.ends_with("a.picture.txt is 65537 bytes, the limit of a prompt is 65536"),
        "{refused}"
    );
}

#[test]
fn summaries_are_short() {
    assert_eq!(Named::own("One\nTwo".to_owned()).summary(), "One");
    let long = Named::own("é".repeat(71)).summary();
    assert_eq!(long, "é".repeat(70) + "…");
}

#[test]
fn notes_in_order() {
    let notes = Notes::new(
        Some("Adverts of 1974."),
        &[Audience::Japanese, Audience::American],
        Some(Tone::Educational),
    );
    insta::assert_snapshot!(notes.as_str(), @r"
    Context: Adverts of 1974.
    For Japanese readers: be courteous and use honorifics, put criticism gently, and value the harmony of the group.
    For American readers: come to the point, be practical, say what it means for each of them, and sound relaxed.
    Tone: educational. Explain every concept plainly, with an example or its background.
    Keep to the facts.
    ");
    assert!(Notes::new(None, &[], None).is_empty());
    assert_eq!(
        Notes::new(Some("Ads."), &[], None).as_str(),
        "Context: Ads.\n\n"
    );
}
