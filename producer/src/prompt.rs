//! Prompts: a template in which `{text}` and `{name}` stand for the document. A picture stands
//! before its prompt.

use lapidary_schemas::limits::INLINE_MEDIA_BYTES_MAX;
use lapidary_schemas::request::{Content, FileRef, ImageUrl};
use lapidary_schemas::{MediaRef, Part};

/// Where the document's text goes.
const TEXT: &str = "{text}";
/// Where the document's name goes.
const NAME: &str = "{name}";

/// For a model that follows instructions.
const CHAT: &str = "Write a caption for the document below: one or two sentences that say what it is \
and what it is about. Answer with the caption alone.\n\n{text}";
/// For a model that only continues text.
const BASE: &str = "{text}\n\nIn one sentence, the text above is about";
/// For a picture, which stands before it.
const PICTURE: &str = "Write a caption for this image: one or two sentences that say what it shows. \
Answer with the caption alone.";
/// The captions of a long document's parts to one caption.
const CHAT_COMBINE: &str = "Below are captions of the consecutive parts of one document. Write one \
caption for the whole document: one or two sentences that say what it is and what it is about. \
Answer with the caption alone.\n\n{text}";
/// The same for a model that only continues text.
const BASE_COMBINE: &str =
    "Parts of a document, in order:\n\n{text}\n\nIn one sentence, the whole document is about";
/// A base model goes on for ever; one line is a caption.
const BASE_STOP: &str = "\n";

/// The prompts of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// Asked of a document or of a part of one.
    pub document: Template,
    /// Asked of a picture.
    pub picture: Template,
    /// Asked of the captions of a document's parts.
    pub combine: Template,
    /// Strings that end the answer.
    pub stop: Vec<String>,
}

impl Prompts {
    /// The user's own prompts, or the ones that suit the kind of model. Without a `combine` of its
    /// own, a user's prompt is asked of the parts' captions too.
    pub fn choose(document: Option<Template>, combine: Option<Template>, chat: bool) -> Self {
        let (own, own_combine) = if chat {
            (CHAT, CHAT_COMBINE)
        } else {
            (BASE, BASE_COMBINE)
        };
        let stop = if chat || document.is_some() {
            Vec::new()
        } else {
            vec![BASE_STOP.to_owned()]
        };
        // Captions are combined as texts, whatever they are captions of.
        let asked_of_texts = document.clone().filter(|own| own.for_text().is_ok());
        let combine = combine.or(asked_of_texts);
        let picture = document.clone();
        Self {
            picture: picture.unwrap_or_else(|| Template::new(PICTURE)),
            document: document.unwrap_or_else(|| Template(own.to_owned())),
            combine: combine.unwrap_or_else(|| Template(own_combine.to_owned())),
            stop,
        }
    }
}

/// A prompt, with `{text}` in it unless it is for pictures, and perhaps `{name}`. Other braces mean
/// themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// A prompt as it was written.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self(prompt.into())
    }

    /// Refuses a prompt in which a text would not appear.
    pub fn for_text(&self) -> Result<&Self, String> {
        if self.0.contains(TEXT) {
            Ok(self)
        } else {
            Err("the prompt has no `{text}`, so the document would not be in it".to_owned())
        }
    }

    /// Refuses a prompt that asks for the text of a picture.
    pub fn for_picture(&self) -> Result<&Self, String> {
        if self.0.contains(TEXT) {
            Err("the prompt has `{text}`, but a picture has no text".to_owned())
        } else {
            Ok(self)
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether answers depend on the document's name.
    pub fn has_name(&self) -> bool {
        self.0.contains(NAME)
    }

    /// Bytes of the prompt around the text.
    pub fn bytes(&self, name: &str) -> usize {
        self.around(name).iter().map(String::len).sum()
    }

    /// The prompt for a text short enough to travel in it; nothing in the text is a template.
    pub fn with_text(&self, name: &str, text: &str) -> Content {
        let mut prompt = String::with_capacity(self.0.len() + text.len());
        for (index, literal) in self.around(name).iter().enumerate() {
            if index > 0 {
                prompt.push_str(text);
            }
            prompt.push_str(literal);
        }
        Content::Text(prompt)
    }

    /// The prompt for a text in the media store.
    pub fn with_media(&self, name: &str, media: &MediaRef) -> Content {
        let mut parts = Vec::new();
        for (index, literal) in self.around(name).into_iter().enumerate() {
            if index > 0 {
                parts.push(Part::File {
                    file: FileRef {
                        filename: None,
                        file_data: media.to_string(),
                    },
                });
            }
            if !literal.is_empty() {
                parts.push(Part::Text { text: literal });
            }
        }
        Content::Parts(parts)
    }

    /// The prompt for a picture in the media store.
    pub fn with_picture(&self, name: &str, picture: &MediaRef) -> Content {
        let image_url = ImageUrl {
            url: picture.to_string(),
        };
        let text = self.0.replace(NAME, name);
        Content::Parts(vec![Part::ImageUrl { image_url }, Part::Text { text }])
    }

    /// What stands before, between and behind the places of the text.
    fn around(&self, name: &str) -> Vec<String> {
        self.0
            .split(TEXT)
            .map(|literal| literal.replace(NAME, name))
            .collect()
    }
}

/// Whether a text is too long to travel inside a request.
pub fn travels_by_reference(text: &str) -> bool {
    text.len() > INLINE_MEDIA_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::new(text)
    }

    #[test]
    fn the_text_alone_is_verbatim() {
        let text = "  {name} {text}\r\n\t";
        assert_eq!(
            template("{text}").with_text("n", text),
            Content::Text(text.to_owned())
        );
    }

    #[test]
    fn names_and_other_braces() {
        assert_eq!(
            template("{name}: {text} {x} {text}").with_text("a.txt", "T"),
            Content::Text("a.txt: T {x} T".to_owned())
        );
        assert!(template("{name}{text}").has_name());
        assert_eq!(template("ab{text}{name}").bytes("xyz"), 5);
    }

    #[test]
    fn long_text_stands_as_a_file_between_the_words() {
        let media = MediaRef {
            sha256: "a".repeat(64),
            bytes: 70_000,
        };
        let Content::Parts(parts) = template("Read: {text}").with_media("n", &media) else {
            panic!("parts expected");
        };
        assert_eq!(parts.len(), 2);
        assert_eq!(
            parts[0],
            Part::Text {
                text: "Read: ".to_owned()
            }
        );
        assert!(matches!(&parts[1], Part::File { file } if file.file_data == media.to_string()));
    }

    #[test]
    fn a_picture_stands_before_its_prompt() {
        let media = MediaRef {
            sha256: "a".repeat(64),
            bytes: 7,
        };
        let Content::Parts(parts) = template("What is {name}?").with_picture("a.png", &media)
        else {
            panic!("parts expected");
        };
        assert!(
            matches!(&parts[0], Part::ImageUrl { image_url } if image_url.url == media.to_string())
        );
        let text = "What is a.png?".to_owned();
        assert_eq!(parts[1..], [Part::Text { text }]);
    }

    #[test]
    fn a_prompt_suits_texts_or_pictures() {
        let refused = |refused: Result<&Template, String>| refused.unwrap_err();
        assert_eq!(
            refused(template("Summarise").for_text()),
            "the prompt has no `{text}`, so the document would not be in it"
        );
        assert_eq!(
            refused(template("Look: {text}").for_picture()),
            "the prompt has `{text}`, but a picture has no text"
        );
        let own = Prompts::choose(None, None, true);
        assert!(own.document.for_text().is_ok() && own.picture.for_picture().is_ok());
    }

    #[test]
    fn defaults_suit_the_model() {
        assert_eq!(Prompts::choose(None, None, false).stop, ["\n"]);
        assert!(Prompts::choose(None, None, true).stop.is_empty());
        let own = Prompts::choose(Some(template("{text}")), None, false);
        assert_eq!((own.combine.as_str(), own.stop.len()), ("{text}", 0));
    }
}
