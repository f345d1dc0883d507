//! Questions as requests, and the key by which a document's work is known again.

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::ManifestItem;
use lapidary_schemas::limits::CUSTOM_ID_BYTES_MAX;
use lapidary_schemas::request::{Content, Message, Role};
use lapidary_schemas::resume::{resume_key, seed_from};
use lapidary_schemas::validate::validate;
use lapidary_schemas::{Failure, JobId, MediaRef, ModelInfo, Policy, Request, Work as Kind};
use lapidary_transport::Media as _;

use crate::config::Stores;
use crate::digest::sha256_hex;
use crate::exit::Stop;
use crate::plan::{Question, Rules, Work};
use crate::prompt::{Template, travels_by_reference};

/// How the documents of a run are asked about.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The model that answers.
    pub model: ModelInfo,
    /// Prompts and what to do with long documents.
    pub rules: Rules,
    /// Tokens an answer may have.
    pub max_tokens: u32,
    /// As the user gave it.
    pub temperature: Option<f32>,
    /// As the user gave it.
    pub seed: Option<u64>,
    /// Whose jobs they are.
    pub tenant: String,
}

impl Asking {
    /// The key of a document's work: its text, and everything that decides its caption. Its name
    /// only where a prompt shows it to the model.
    pub fn key(&self, name: &str, text: &str) -> Result<String, Failure> {
        let prompts = &self.rules.prompts;
        let named = prompts.document.has_name() || prompts.combine.has_name();
        let way = format!(
            "long {}\ncontext {}\ncombine {}\nname {}\n",
            self.rules.long.as_str(),
            self.model.context_tokens_max,
            prompts.combine.as_str(),
            if named { name } else { "" },
        );
        let template = Content::Text(prompts.document.as_str().to_owned());
        let request = self.request(template, self.seed);
        let valid = validate(&request, &Policy::of_model(&self.model))?;
        let content = [sha256_hex(text.as_bytes()), sha256_hex(way.as_bytes())];
        Ok(resume_key(&valid, &[&content[0], &content[1]], &self.model))
    }

    /// A question as an item of a manifest, and the media it names. The inner error is the
    /// document's, the outer one the store's.
    pub(super) async fn item(
        &self,
        place: &Stores,
        work: &Work,
        question: &Question<'_>,
        now: DateTime<Utc>,
    ) -> Result<Result<(ManifestItem, Option<MediaRef>), Failure>, Stop> {
        let template = self.template(question);
        let (content, media) = if travels_by_reference(&question.text) {
            let bytes = question.text.as_bytes().to_vec();
            let media = place.media.put(&self.tenant, bytes).await?;
            (template.with_media(work.name(), &media), Some(media))
        } else {
            (template.with_text(work.name(), &question.text), None)
        };
        let seed = self.seed.unwrap_or_else(|| seed(work.key(), question));
        let request = self.request(content, Some(seed));
        if let Err(failure) = validate(&request, &Policy::of_model(&self.model)) {
            let message = format!("{}: {}", work.name(), failure.message);
            return Ok(Err(Failure { message, ..failure }));
        }
        let custom_id = custom_id(work.name(), &question.label);
        Ok(Ok((
            ManifestItem {
                id: JobId::new(now),
                custom_id,
                work: Kind::Chat,
                request,
            },
            media,
        )))
    }

    fn template(&self, question: &Question<'_>) -> &Template {
        if question.combine {
            &self.rules.prompts.combine
        } else {
            &self.rules.prompts.document
        }
    }

    fn request(&self, content: Content, seed: Option<u64>) -> Request {
        Request {
            messages: vec![Message {
                role: Role::User,
                content,
            }],
            max_tokens: Some(self.max_tokens),
            temperature: self.temperature,
            seed,
            stop: self.rules.prompts.stop.clone(),
            ..Request::default()
        }
    }
}

/// Made of the document's key and, for a part, of its text: the same in every run.
fn seed(key: &str, question: &Question<'_>) -> u64 {
    if question.label.is_empty() {
        seed_from(key)
    } else {
        seed_from(&format!("{key} {}", sha256_hex(question.text.as_bytes())))
    }
}

/// The document's name and the question's, within the limit.
fn custom_id(name: &str, label: &str) -> String {
    let end = name.floor_char_boundary(CUSTOM_ID_BYTES_MAX - label.len() - 1);
    let name = &name[..end];
    if label.is_empty() {
        name.to_owned()
    } else {
        format!("{name}#{label}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Long;
    use crate::prompt::Prompts;

    fn asking(prompt: Option<&str>) -> Asking {
        let prompt = prompt.map(|prompt| Template::parse(prompt.to_owned()).unwrap());
        Asking {
            model: ModelInfo {
                name: "m".to_owned(),
                weights_sha256: "0".repeat(64),
                quantization: "q8".to_owned(),
                template_sha256: "0".repeat(64),
                chat: false,
                context_tokens_max: 1_000,
                modalities: Vec::new(),
                pan_and_scan: false,
                tier: "t".to_owned(),
            },
            rules: Rules {
                prompts: Prompts::choose(prompt, None, false),
                long: Long::Split,
                prompt_tokens_max: 900,
            },
            max_tokens: 100,
            temperature: None,
            seed: None,
            tenant: "t".to_owned(),
        }
    }

    #[test]
    fn the_key_is_of_content_and_way_not_of_names_unless_shown() {
        let key = asking(None).key("a", "text").unwrap();
        assert_eq!(key, asking(None).key("b", "text").unwrap());
        assert_ne!(key, asking(None).key("a", "other").unwrap());
        assert_ne!(
            key,
            Asking {
                seed: Some(1),
                ..asking(None)
            }
            .key("a", "text")
            .unwrap()
        );
        assert_ne!(
            key,
            Asking {
                max_tokens: 99,
                ..asking(None)
            }
            .key("a", "text")
            .unwrap()
        );
        let mut longer = asking(None);
        longer.rules.long = Long::Truncate;
        assert_ne!(key, longer.key("a", "text").unwrap());
        let named = asking(Some("{name} {text}"));
        assert_ne!(
            named.key("a", "text").unwrap(),
            named.key("b", "text").unwrap()
        );
    }

    #[test]
    fn what_the_model_cannot_do_is_refused_before_anything_travels() {
        let failure = Asking {
            max_tokens: 2_000,
            ..asking(None)
        }
        .key("a", "x")
        .unwrap_err();
        assert_eq!(
            failure.message,
            "`max_tokens` is 2000, the limit for `m` is 1 to 1000"
        );
    }

    #[test]
    fn custom_ids_stay_within_the_limit() {
        assert_eq!(custom_id("a.txt", ""), "a.txt");
        assert_eq!(custom_id("a.txt", "part 2"), "a.txt#part 2");
        assert_eq!(
            custom_id(&"é".repeat(5_000), "part 2").len(),
            CUSTOM_ID_BYTES_MAX - 1
        );
    }
}
