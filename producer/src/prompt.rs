//! Prompts: a template in which `{text}` and `{name}` stand for the document. A picture stands
//! before its prompt.

use lapidary_schemas::limits::INLINE_MEDIA_BYTES_MAX;
use lapidary_schemas::request::{Content, FileRef, ImageUrl};
use lapidary_schemas::{MediaRef, Part};

use crate::templates::{self, ANSWER_TOKENS_DEFAULT, Form, Named, Notes};

/// Where the document's text goes.
const TEXT: &str = "{text}";
/// Where the document's name goes.
const NAME: &str = "{name}";

/// For a model that only continues text.
const BASE: &str = "{text}\n\nIn one sentence, the text above is about";
/// The same for the captions of a document's parts.
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
    /// Asked of several pictures together.
    pub pictures: Template,
    /// Whether pictures are asked about together only.
    pub together_only: bool,
    /// Asked of the captions of a document's parts.
    pub combine: Template,
    /// Strings that end the answer.
    pub stop: Vec<String>,
}

/// What a user says of the prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// What to ask; otherwise what suits the model.
    pub template: Option<Named>,
    /// How to combine captions; otherwise as the template says.
    pub combine: Option<Template>,
    /// What stands before every prompt.
    pub notes: Notes,
}

impl Prompts {
    /// The prompts that a user wishes for, or the ones that suit the kind of model. What a template
    /// does not ask about gets its other prompt, in which it is then found missing by name.
    pub fn choose(wish: &Wish, chat: bool) -> Result<Self, String> {
        if !chat {
            wish.suits_base()?;
        }
        let default = templates::default();
        let named = wish.template.as_ref().unwrap_or(&default);
        let (mut document, picture) = (named.prompt(Form::Document), named.prompt(Form::Picture));
        let pictures = named.prompt(Form::Pictures);
        // A prompt that is for pictures only combines nothing.
        let of_texts = document.filter(|prompt| prompt.contains(TEXT));
        let usual = if chat {
            default.prompt(Form::Combine)
        } else {
            Some(BASE_COMBINE)
        };
        let mut combine = named.prompt(Form::Combine).or(of_texts).or(usual);
        let mut stop = Vec::new();
        if !chat && wish.template.is_none() {
            (document, combine) = (Some(BASE), Some(BASE_COMBINE));
            stop.push(BASE_STOP.to_owned());
        }
        let own_combine = wish.combine.as_ref().map(Template::as_str);
        let noted = |prompt: Option<&str>| {
            Template::new([wish.notes.as_str(), prompt.unwrap_or_default()].concat())
        };
        Ok(Self {
            document: noted(document.or(picture).or(pictures)),
            picture: noted(picture.or(document).or(pictures)),
            pictures: noted(pictures.or(picture).or(document)),
            together_only: picture.or(document).is_none(),
            combine: noted(own_combine.or(combine)),
            stop,
        })
    }
}

impl Prompts {
    /// What is asked of so many pictures together, whether it suits them or not.
    pub fn shown(&self, count: usize) -> &Template {
        if count == 1 {
            &self.picture
        } else {
            &self.pictures
        }
    }

    /// The same, or why it does not suit them.
    pub fn of_pictures(&self, count: usize) -> Result<&Template, String> {
        if count == 1 && self.together_only {
            return Err(
                "the template asks about several pictures together, and this is one; a list shows \
                 them together as `images`"
                    .to_owned(),
            );
        }
        self.shown(count).for_picture()
    }
}

impl Wish {
    /// Tokens an answer may have if the user does not say: what the template needs, as far as a
    /// context of `context_tokens` has room for it beside a prompt.
    pub fn max_tokens(&self, context_tokens: u32) -> u32 {
        let needed = self.template.as_ref().map(|named| named.max_tokens);
        needed
            .unwrap_or(ANSWER_TOKENS_DEFAULT)
            .min(context_tokens / 2)
    }

    /// Refuses what only a model that follows instructions can do.
    fn suits_base(&self) -> Result<(), String> {
        if !self.notes.is_empty() {
            return Err(
                "--context, --audience and --tone need a model that follows \
                 instructions; this one only continues text"
                    .to_owned(),
            );
        }
        match &self.template {
            Some(named) if named.built_in => Err(format!(
                "the template `{}` needs a model that follows instructions; this one only \
                 continues text",
                named.name
            )),
            _ => Ok(()),
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

    /// The prompt for pictures at `urls`: in the media store, or at an address.
    pub fn with_pictures(&self, name: &str, urls: Vec<String>) -> Content {
        let image = |url| Part::ImageUrl {
            image_url: ImageUrl { url },
        };
        let text = self.0.replace(NAME, name);
        let words = std::iter::once(Part::Text { text });
        Content::Parts(urls.into_iter().map(image).chain(words).collect())
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
    fn pictures_stand_before_their_prompt() {
        let urls = ["media:a".to_owned(), "media:b".to_owned()];
        let content = template("What is {name}?").with_pictures("a.png", urls.to_vec());
        let Content::Parts(parts) = content else {
            panic!("parts expected");
        };
        for (part, expected) in parts.iter().zip(&urls) {
            assert!(matches!(part, Part::ImageUrl { image_url } if image_url.url == *expected));
        }
        let text = "What is a.png?".to_owned();
        assert_eq!(parts[2..], [Part::Text { text }]);
    }

    #[test]
    fn a_comparison_is_of_several_pictures() {
        let prompts = |name: &str| {
            let wish = Wish {
                template: Some(templates::find(name, None).unwrap()),
                ..Wish::default()
            };
            Prompts::choose(&wish, true).unwrap()
        };
        let comparison = prompts("comparison");
        assert_eq!(
            comparison.of_pictures(1).unwrap_err(),
            "the template asks about several pictures together, and this is one; a list shows them \
             together as `images`"
        );
        assert_eq!(comparison.of_pictures(2), Ok(&comparison.pictures));
        let tags = prompts("tags");
        assert_eq!(tags.of_pictures(1), Ok(&tags.picture));
        assert_eq!(tags.of_pictures(2), Ok(&tags.picture));
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
        let own = Prompts::choose(&Wish::default(), true).unwrap();
        assert!(own.document.for_text().is_ok() && own.picture.for_picture().is_ok());
    }

    #[test]
    fn defaults_suit_the_model() {
        let choose = |template: Option<Named>, chat| {
            let wish = Wish {
                template,
                ..Wish::default()
            };
            Prompts::choose(&wish, chat).unwrap()
        };
        let base = choose(None, false);
        assert_eq!(
            (base.document.as_str(), &*base.stop),
            (BASE, &["\n".to_owned()][..])
        );
        let chat = choose(None, true);
        assert!(chat.stop.is_empty() && chat.combine.as_str().contains("captions"));
        let own = choose(Some(Named::own("{text}".to_owned())), false);
        assert_eq!((own.combine.as_str(), own.stop.len()), ("{text}", 0));
    }

    #[test]
    fn notes_stand_before_every_prompt() {
        let wish = Wish {
            template: Some(Named::own("Read {text}".to_owned())),
            combine: Some(template("Join {text}")),
            notes: Notes::new(Some("ships"), &[], None),
        };
        let prompts = Prompts::choose(&wish, true).unwrap();
        assert_eq!(prompts.document.as_str(), "Context: ships\n\nRead {text}");
        assert_eq!(prompts.combine.as_str(), "Context: ships\n\nJoin {text}");
        assert_eq!(
            Prompts::choose(&wish, false).unwrap_err(),
            "--context, --audience and --tone need a model that follows instructions; this one \
             only continues text"
        );
    }

    #[test]
    fn built_in_templates_need_a_model_that_follows_instructions() {
        let wish = Wish {
            template: Some(templates::find("ocr", None).unwrap()),
            ..Wish::default()
        };
        assert_eq!(
            Prompts::choose(&wish, false).unwrap_err(),
            "the template `ocr` needs a model that follows instructions; this one only continues \
             text"
        );
        let prompts = Prompts::choose(&wish, true).unwrap();
        assert!(prompts.document.for_text().is_err() && prompts.picture.for_picture().is_ok());
    }
}
