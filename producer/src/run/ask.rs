//! Questions as requests, and the key by which a document's work is known again.

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::ManifestItem;
use lapidary_schemas::limits::CUSTOM_ID_BYTES_MAX;
use lapidary_schemas::request::{Content, Message, Role};
use lapidary_schemas::resume::{resume_key, seed_from};
use lapidary_schemas::validate::{ValidRequest, validate};
use lapidary_schemas::{
    Failure, FailureCode, JobId, MediaRef, ModelInfo, Policy, Request, Work as Kind,
};
use lapidary_transport::Media as _;

use crate::digest::sha256_hex;
use crate::exit::Stop;
use crate::plan::{PictureAt, Question, Rules, Subject, Work};
use crate::prompt::{Template, travels_by_reference};
use crate::sources::{Body, Shown};
use crate::stores::Stores;

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
    /// Refuses settings that no document can pass.
    pub fn check(&self) -> Result<(), Failure> {
        self.valid(Content::Text(
            self.rules.prompts.document.as_str().to_owned(),
        ))
        .map(drop)
    }

    /// Whether a text can be asked about.
    pub fn takes_texts(&self) -> bool {
        self.text_key("", "").is_ok()
    }

    /// Whether a picture can be asked about: the prompt may, and the model sees it.
    pub fn takes_pictures(&self) -> bool {
        let any = MediaRef {
            sha256: sha256_hex(b""),
            bytes: 1,
        };
        self.pictures_key("", vec![any.to_string()]).is_ok()
    }

    /// The key of a document's work: its content, and everything that decides its caption. Its name
    /// only where a prompt shows it to the model.
    pub fn key(&self, name: &str, body: &Body) -> Result<String, Failure> {
        match body {
            Body::Text(text) => self.text_key(name, text),
            Body::Pictures(pictures) => {
                self.pictures_key(name, pictures.iter().map(Shown::url).collect())
            }
        }
    }

    /// The request names pictures by their content or address, so the request says it all.
    fn pictures_key(&self, name: &str, urls: Vec<String>) -> Result<String, Failure> {
        let prompts = &self.rules.prompts;
        let template = prompts.of_pictures(urls.len()).map_err(unsuited)?;
        let valid = self.valid(template.with_pictures(name, urls))?;
        Ok(resume_key(&valid, &[], &self.model))
    }

    fn text_key(&self, name: &str, text: &str) -> Result<String, Failure> {
        let prompts = &self.rules.prompts;
        prompts.document.for_text().map_err(unsuited)?;
        let named = prompts.document.has_name() || prompts.combine.has_name();
        let way = format!(
            "long {}\ncontext {}\ncombine {}\nname {}\n",
            self.rules.long.as_str(),
            self.model.context_tokens_max,
            prompts.combine.as_str(),
            if named { name } else { "" },
        );
        let valid = self.valid(Content::Text(prompts.document.as_str().to_owned()))?;
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
    ) -> Result<Result<(ManifestItem, Vec<MediaRef>), Failure>, Stop> {
        let (content, media) = self.content(place, work.name(), &question.subject).await?;
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

    /// What is asked, and the media it names. Long texts are stored here; pictures are already.
    async fn content(
        &self,
        place: &Stores,
        name: &str,
        subject: &Subject<'_>,
    ) -> Result<(Content, Vec<MediaRef>), Stop> {
        let prompts = &self.rules.prompts;
        let (template, text): (&Template, &str) = match subject {
            Subject::Pictures(pictures) => {
                let urls = pictures.iter().map(PictureAt::url).collect();
                let content = prompts.shown(pictures.len()).with_pictures(name, urls);
                let media = pictures.iter().filter_map(PictureAt::media).cloned();
                return Ok((content, media.collect()));
            }
            Subject::Text(text) => (&prompts.document, text),
            Subject::Captions(captions) => (&prompts.combine, captions),
        };
        if !travels_by_reference(text) {
            return Ok((template.with_text(name, text), Vec::new()));
        }
        let bytes = text.as_bytes().to_vec();
        let media = place.media.put(&self.tenant, bytes).await?;
        Ok((template.with_media(name, &media), vec![media]))
    }

    fn valid(&self, content: Content) -> Result<ValidRequest, Failure> {
        let request = self.request(content, self.seed);
        validate(&request, &Policy::of_model(&self.model))
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
    let text = match &question.subject {
        _ if question.label.is_empty() => return seed_from(key),
        Subject::Text(text) => text.as_bytes(),
        Subject::Captions(captions) => captions.as_bytes(),
        // Never in parts.
        Subject::Pictures(_) => return seed_from(key),
    };
    seed_from(&format!("{key} {}", sha256_hex(text)))
}

/// A prompt that cannot be asked of this kind of document.
fn unsuited(message: String) -> Failure {
    Failure::new(FailureCode::ValidationError, message)
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
    use crate::prompt::{Prompts, Wish};
    use crate::templates::Named;

    fn asking(prompt: Option<&str>) -> Asking {
        let wish = Wish {
            template: prompt.map(|prompt| Named::own(prompt.to_owned())),
            ..Wish::default()
        };
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
                fetch: Vec::new(),
                tier: "t".to_owned(),
            },
            rules: Rules {
                prompts: Prompts::choose(&wish, false).unwrap(),
                long: Long::Split,
                prompt_tokens_max: 900,
            },
            max_tokens: 100,
            temperature: None,
            seed: None,
            tenant: "t".to_owned(),
        }
    }

    fn key(asking: &Asking, name: &str, text: &str) -> String {
        asking.key(name, &Body::Text(text.to_owned())).unwrap()
    }

    fn picture_key(asking: &Asking, name: &str, content: char) -> Result<String, Failure> {
        let media = MediaRef {
            sha256: content.to_string().repeat(64),
            bytes: 7,
        };
        asking.pictures_key(name, vec![media.to_string()])
    }

    #[test]
    fn the_key_of_a_picture_is_of_its_content_and_what_is_asked() {
        let blind = picture_key(&asking(None), "a.png", '1').unwrap_err();
        assert_eq!(
            blind.to_string(),
            "VALIDATION_ERROR: part 0 of message 0 is image, which `m` does not read"
        );
        let seeing = |prompt: Option<&str>| {
            let mut asking = asking(prompt);
            asking.model.modalities = vec!["image".to_owned()];
            asking
        };
        let key = |asking: &Asking, name, content| picture_key(asking, name, content).unwrap();
        let own = key(&seeing(None), "a.png", '1');
        assert_eq!(own, key(&seeing(None), "b.png", '1'));
        assert_ne!(own, key(&seeing(None), "a.png", '2'));
        assert_ne!(own, key(&seeing(Some("What?")), "a.png", '1'));
        let mut longer = seeing(None);
        longer.rules.long = Long::Refuse;
        assert_eq!(own, key(&longer, "a.png", '1'));
        let named = seeing(Some("What is {name}?"));
        assert_ne!(key(&named, "a.png", '1'), key(&named, "b.png", '1'));
        let unsuited = picture_key(&seeing(Some("{text}")), "a.png", '1').unwrap_err();
        assert_eq!(
            unsuited.message,
            "the prompt has `{text}`, but a picture has no text"
        );
    }

    #[test]
    fn the_key_is_of_content_and_way_not_of_names_unless_shown() {
        let plain = asking(None);
        let first = key(&plain, "a", "text");
        assert_eq!(first, key(&plain, "b", "text"));
        assert_ne!(first, key(&plain, "a", "other"));
        let seeded = Asking {
            seed: Some(1),
            ..asking(None)
        };
        assert_ne!(first, key(&seeded, "a", "text"));
        let shorter = Asking {
            max_tokens: 99,
            ..asking(None)
        };
        assert_ne!(first, key(&shorter, "a", "text"));
        let mut longer = asking(None);
        longer.rules.long = Long::Truncate;
        assert_ne!(first, key(&longer, "a", "text"));
        let named = asking(Some("{name} {text}"));
        assert_ne!(key(&named, "a", "text"), key(&named, "b", "text"));
    }

    #[test]
    fn what_the_model_cannot_do_is_refused_before_anything_travels() {
        let asking = Asking {
            max_tokens: 2_000,
            ..asking(None)
        };
        assert_eq!(
            asking.check().unwrap_err().message,
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
