//! Chat templates: messages to the text a model was trained on.

use std::borrow::Cow;
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
    /// Whether it takes a system's turn.
    system_turn: bool,
}

/// The name the one template goes by in its environment.
const NAME: &str = "chat";

/// What stands between a system's words and the user's, where they share a turn.
const SYSTEM_BREAK: &str = "\n\n";

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
        let mut template = Self {
            environment,
            version,
            system_turn: true,
        };
        let trial = [Role::System, Role::User].map(|role| Message::text(role, "x"));
        let tried = template.render(&trial, &Context::default());
        template.system_turn = !matches!(tried, Err(TemplateError::Refused { .. }));
        Ok(template)
    }

    /// Whether what it makes of messages depends on a guideline, as a judge's template does.
    pub fn takes_guideline(&self) -> bool {
        let user = [Message::text(Role::User, "x")];
        let rendered = ["a", "b"].map(|guideline| {
            let context = Context {
                guideline: Some(guideline),
                ..Context::default()
            };
            self.render(&user, &context).ok()
        });
        rendered[0] != rendered[1]
    }

    /// Names this template's text: its SHA-256, in hexadecimal.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The prompt of `messages`, ending where the model's answer begins. A template that takes no
    /// system's turn gets its words at the beginning of the user's first.
    pub fn render(
        &self,
        messages: &[Message],
        context: &Context<'_>,
    ) -> Result<String, TemplateError> {
        let messages = if self.system_turn {
            Cow::Borrowed(messages)
        } else {
            without_system(messages)
        };
        let values = TemplateValues {
            messages: messages.iter().map(TemplateMessage::from).collect(),
            bos_token: context.bos,
            eos_token: context.eos,
            guideline: context.guideline,
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

/// What a template is given besides messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The text of the token that begins a sequence.
    pub bos: &'a str,
    /// The text of the token that ends one.
    pub eos: &'a str,
    /// The rule that a judge's template asks about.
    pub guideline: Option<&'a str>,
}

/// The same conversation, the system's words at the beginning of the turn behind.
fn without_system(messages: &[Message]) -> Cow<'_, [Message]> {
    let [system, user, rest @ ..] = messages else {
        return messages.into();
    };
    if (system.role, user.role) != (Role::System, Role::User) {
        return messages.into();
    }
    let words = system.parts.iter().filter_map(Part::text);
    let mut first: String = words.collect();
    first.truncate(first.trim_end().len());
    first.push_str(SYSTEM_BREAK);
    let mut user = user.clone();
    match user.parts.first_mut() {
        Some(Part::Text(text)) => text.insert_str(0, &first),
        _ => user.parts.insert(0, Part::Text(first)),
    }
    std::iter::once(user).chain(rest.iter().cloned()).collect()
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
    #[serde(skip_serializing_if = "Option::is_none")]
    guideline: Option<&'a str>,
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
        let rendered = template.render(&messages, &Context::default());
        assert_eq!(rendered.unwrap(), "a;\nb;\n");
    }

    #[test]
    fn what_a_template_raises_is_told_apart_from_its_faults() {
        let refusing = ChatTemplate::new("{{ raise_exception('no system turn') }}").unwrap();
        let error = refusing.render(&[], &Context::default()).unwrap_err();
        assert!(
            matches!(&error, TemplateError::Refused { message } if message == "no system turn")
        );
        let faulty = ChatTemplate::new("{{ nothing_here() }}").unwrap();
        assert!(matches!(
            faulty.render(&[], &Context::default()),
            Err(TemplateError::Broken(_))
        ));
    }

    /// The template of Gemma 2's instruction-tuned models.
    const GEMMA_2: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
        {{ raise_exception('System role not supported') }}{% endif %}\
        {% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\\n' \
        + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}";

    #[test]
    fn a_template_without_a_system_turn_gets_its_words_in_the_users() {
        let template = ChatTemplate::new(GEMMA_2).unwrap();
        let messages = [
            Message::text(Role::System, "Be brief.\n"),
            Message::text(Role::User, "Hello"),
        ];
        let rendered = template.render(&messages, &Context::default()).unwrap();
        assert_eq!(
            rendered,
            "<start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"
        );
        let alone = template.render(&messages[..1], &Context::default());
        assert!(matches!(alone, Err(TemplateError::Refused { .. })));
    }

    #[test]
    fn guidelines_are_told_apart_from_messages() {
        assert!(!ChatTemplate::new(GEMMA_2).unwrap().takes_guideline());
        let judge = ChatTemplate::new("{{ messages[0].content }}: {{ guideline }}").unwrap();
        assert!(judge.takes_guideline());
    }

    #[test]
    fn versions_follow_the_text() {
        let version = |source| ChatTemplate::new(source).unwrap().version().to_owned();
        assert_eq!(version("a"), version("a"));
        assert_ne!(version("a"), version("b"));
    }
}
