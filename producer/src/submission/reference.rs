//! Long texts and inline pictures travel by reference, through the media store.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapidary_schemas::limits::INLINE_MEDIA_BYTES_MAX;
use lapidary_schemas::request::{Content, FileRef, ImageUrl};
use lapidary_schemas::validate::validate_text;
use lapidary_schemas::{Failure, MediaRef, Part, Policy, Request};
use lapidary_transport::media::MediaError;
use lapidary_transport::{AnyMedia, Media as _};

use crate::digest::sha256_hex;

/// Bytes of a request as it is written, over which its texts and pictures travel by reference.
pub(crate) const INLINE_REQUEST_BYTES_MAX: usize = INLINE_MEDIA_BYTES_MAX / 2;
/// Bytes of a text from which it does.
const REFERENCED_TEXT_BYTES_MIN: usize = 4 << 10;

/// Keeps what travels by reference.
#[derive(Debug)]
pub(crate) struct Keeper<'a> {
    /// `None`: the references are made, and nothing is stored.
    media: Option<&'a AnyMedia>,
    tenant: &'a str,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(media: Option<&'a AnyMedia>, tenant: &'a str) -> Self {
        Self { media, tenant }
    }

    /// The same request with references in place of long texts and inline pictures. Its texts are
    /// counted first, because nobody can do so afterwards; the inner error is that they are too long.
    pub(crate) async fn lighten(
        &self,
        mut request: Request,
        policy: &Policy,
    ) -> Result<Result<Request, Failure>, MediaError> {
        if let Err(failure) = validate_text(&request, policy) {
            return Ok(Err(failure));
        }
        for message in &mut request.messages {
            let parts = match std::mem::replace(&mut message.content, Content::Parts(Vec::new())) {
                Content::Text(text) => vec![Part::Text { text }],
                Content::Parts(parts) => parts,
            };
            let mut lighter = Vec::with_capacity(parts.len());
            for part in parts {
                lighter.push(self.part(part).await?);
            }
            message.content = Content::Parts(lighter);
        }
        Ok(Ok(request))
    }

    async fn part(&self, part: Part) -> Result<Part, MediaError> {
        match part {
            Part::Text { text } if text.len() > REFERENCED_TEXT_BYTES_MIN => {
                let file = FileRef {
                    filename: None,
                    file_data: self.keep(text.into_bytes()).await?,
                };
                Ok(Part::File { file })
            }
            Part::ImageUrl { image_url } => match inline_picture(&image_url.url) {
                Some(bytes) => {
                    let url = self.keep(bytes).await?;
                    Ok(Part::ImageUrl {
                        image_url: ImageUrl { url },
                    })
                }
                None => Ok(Part::ImageUrl { image_url }),
            },
            part => Ok(part),
        }
    }

    /// The written reference of these bytes.
    async fn keep(&self, bytes: Vec<u8>) -> Result<String, MediaError> {
        let media = match self.media {
            Some(store) => store.put(self.tenant, bytes).await?,
            None => MediaRef {
                sha256: sha256_hex(&bytes),
                bytes: bytes.len() as u64,
            },
        };
        Ok(media.to_string())
    }
}

/// What a request names that rests in the media store.
pub(crate) fn named_media(request: &Request) -> impl Iterator<Item = MediaRef> + '_ {
    let parts = request
        .messages
        .iter()
        .flat_map(|message| match &message.content {
            Content::Text(_) => &[][..],
            Content::Parts(parts) => parts,
        });
    parts.filter_map(|part| {
        let written = match part {
            Part::Text { .. } => return None,
            Part::ImageUrl { image_url } => &image_url.url,
            Part::InputAudio { input_audio } => &input_audio.data,
            Part::File { file } => &file.file_data,
        };
        written.parse().ok()
    })
}

/// The bytes of a well-formed `data:` URL of a picture; validation has the words for any other.
fn inline_picture(url: &str) -> Option<Vec<u8>> {
    let (header, payload) = url.strip_prefix("data:image/")?.split_once(',')?;
    header.strip_suffix(";base64")?;
    let bytes = STANDARD.decode(payload).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::Message;
    use lapidary_schemas::request::Role;

    use super::*;

    #[test]
    fn only_well_formed_pictures_are_taken_out() {
        assert_eq!(
            inline_picture("data:image/png;base64,aGk="),
            Some(b"hi".to_vec())
        );
        for other in [
            "data:image/png;base64,",
            "data:image/png,aGk=",
            "data:image/png;base64,a",
            "data:text/plain;base64,aGk=",
            "https://a.example/x.png",
            "media:",
        ] {
            assert_eq!(inline_picture(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn references_take_the_place_of_what_is_long() {
        let text = |text: &str| Part::Text {
            text: text.to_owned(),
        };
        let image_url = ImageUrl {
            url: "data:image/png;base64,aGk=".to_owned(),
        };
        let long = "x".repeat(REFERENCED_TEXT_BYTES_MIN + 1);
        let message = Message {
            role: Role::User,
            content: Content::Parts(vec![
                Part::ImageUrl { image_url },
                text("short"),
                text(&long),
            ]),
        };
        let request = Request {
            messages: vec![message],
            ..Request::default()
        };
        let policy = Policy::text("m");
        let keeper = Keeper::new(None, "t");
        let lighter = keeper.lighten(request.clone(), &policy).await;
        let lighter = lighter.unwrap().unwrap();
        let kept: Vec<_> = named_media(&lighter).collect();
        let [picture, words] = kept.as_slice() else {
            panic!("{kept:?}")
        };
        assert_eq!((picture.bytes, words.bytes), (2, long.len() as u64));
        let Content::Parts(parts) = &lighter.messages[0].content else {
            panic!("{lighter:?}")
        };
        let image_url = ImageUrl {
            url: picture.to_string(),
        };
        let file = FileRef {
            filename: None,
            file_data: words.to_string(),
        };
        let expected = [
            Part::ImageUrl { image_url },
            text("short"),
            Part::File { file },
        ];
        assert_eq!(parts.as_slice(), expected);

        let strict = Policy {
            message_chars_max: 100,
            ..policy
        };
        let refused = keeper.lighten(request, &strict).await.unwrap();
        assert_eq!(
            refused.unwrap_err().message,
            "message 0 has 4102 characters of text, the limit is 100"
        );
    }
}
