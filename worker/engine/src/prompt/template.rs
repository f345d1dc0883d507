//! Chat templates: messages to the text a model was trained on.

use std::fmt::Write;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::image::Image;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that precede the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(Arc<Image>),
}

impl Part {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image(_) => None,
        }
    }

    /// The picture, if it is one.
    pub fn image(&self) -> Option<&Arc<Image>> {
        match self {
            Self::Text(_) => None,
            Self::Image(image) => Some(image),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            parts: vec![Part::Text(text.into())],
        }
    }
}

/// Why messages could not be put into a template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template refuses this conversation, in its own words.
    #[error("the model's chat template refuses these messages: {message}")]
    Refused {
        /// What the template says.
        message: String,
    },
    /// The template itself does not work.
    #[error("chat template is not usable")]
    Broken(#[source] Error),
}

/// A refusal inside the template engine, told apart from a fault of the template.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RaisedByTemplate(String);

/// A model's chat template (Jinja), compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    version: String,
}

/// The name the one template goes by in its environment.
const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles a template with the settings of `transformers`: `trim_blocks` and
    /// `lstrip_blocks`, and a `raise_exception` function.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(TemplateError::Broken)?);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message.clone())
                    .with_source(RaisedByTemplate(message)))
            },
        );
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(TemplateError::Broken)?;
        let digest = Sha256::digest(source.as_bytes());
        let version = digest.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Ok(Self {
            environment,
            version,
        })
    }

    /// Names this template's text: its SHA-256, in hexadecimal.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The prompt of `messages`, ending where the model's answer begins.
    pub fn render(
        &self,
        messages: &[Message],
        bos: &str,
        eos: &str,
    ) -> Result<String, TemplateError> {
        let messages: Vec<_> = messages.iter().map(TemplateMessage::from).collect();
        let values = TemplateValues {
            messages,
            bos_token: bos,
            eos_token: eos,
            add_generation_prompt: true,
        };
        let template = self
            .environment
            .get_template(NAME)
            .map_err(TemplateError::Broken)?;
        template
            .render(Serde(values))
            .map_err(|error| match raised(&error) {
                Some(message) => TemplateError::Refused { message },
                None => TemplateError::Broken(error),
            })
    }
}

/// What `raise_exception` said, if that is what went wrong.
fn raised(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(RaisedByTemplate(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}

/// The names that templates may use.
#[derive(Serialize)]
struct TemplateValues<'a> {
    messages: Vec<TemplateMessage<'a>>,
    bos_token: &'a str,
    eos_token: &'a str,
    add_generation_prompt: bool,
}

/// A message as templates expect it: one text is a string, anything else a list of parts.
#[derive(Serialize)]
struct TemplateMessage<'a> {
    role: Role,
    content: TemplateContent<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TemplateContent<'a> {
    Text(&'a str),
    Parts(Vec<TemplatePart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum TemplatePart<'a> {
    Text { text: &'a str },
    Image,
}

impl<'a> From<&'a Message> for TemplateMessage<'a> {
    fn from(message: &'a Message) -> Self {
        let content = match message.parts.as_slice() {
            [Part::Text(text)] => TemplateContent::Text(text),
            parts => {
                let parts = parts.iter().map(|part| match part {
                    Part::Text(text) => TemplatePart::Text { text },
                    Part::Image(_) => TemplatePart::Image,
                });
                TemplateContent::Parts(parts.collect())
            }
        };
        Self {
            role: message.role,
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_template_is_refused_when_it_is_compiled() {
        let error = ChatTemplate::new("{% if %}").unwrap_err();
        assert!(matches!(error, TemplateError::Broken(_)), "{error}");
    }

    #[test]
    fn blocks_leave_no_lines_of_their_own() {
        let source = "{% for m in messages %}\n  {% if true %}\n{{ m.content }};\n  {% endif %}\n{% endfor %}\n";
        let template = ChatTemplate::new(source).unwrap();
        let messages = [
            Message::text(Role::User, "a"),
            Message::text(Role::Assistant, "b"),
        ];
        assert_eq!(template.render(&messages, "", "").unwrap(), "a;\nb;\n");
    }

    #[test]
    fn what_a_template_raises_is_told_apart_from_its_faults() {
        let refusing = ChatTemplate::new("{{ raise_exception('no system turn') }}").unwrap();
        let error = refusing.render(&[], "", "").unwrap_err();
        assert!(
            matches!(&error, TemplateError::Refused { message } if message == "no system turn")
        );
        let faulty = ChatTemplate::new("{{ nothing_here() }}").unwrap();
        assert!(matches!(
            faulty.render(&[], "", ""),
            Err(TemplateError::Broken(_))
        ));
    }

    #[test]
    fn versions_follow_the_text() {
        let version = |source| ChatTemplate::new(source).unwrap().version().to_owned();
        assert_eq!(version("a"), version("a"));
        assert_ne!(version("a"), version("b"));
    }
}
