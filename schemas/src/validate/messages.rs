//! Rules of the conversation: how many turns, who speaks, and what each turn may hold.

use super::media::{check_audio, check_document, check_image};
use super::{Policy, invalid};
use crate::failure::Failure;
use crate::limits::MESSAGES_MAX;
use crate::request::{Content, Message, Part, Request, Role};

/// Checks all turns.
pub(super) fn check(messages: &[Message], policy: &Policy) -> Result<(), Failure> {
    if messages.is_empty() {
        return Err(invalid(
            "request has no messages, it needs at least 1".to_owned(),
        ));
    }
    if messages.len() > MESSAGES_MAX {
        return Err(invalid(format!(
            "request has {} messages, the limit is {MESSAGES_MAX}",
            messages.len()
        )));
    }
    check_roles(messages)?;
    messages
        .iter()
        .enumerate()
        .try_for_each(|(index, message)| check_content(index, &message.content, policy))
}

/// Checks how much text every turn has. Part of [`super::validate`]; by itself for who puts long texts
/// into the media store, after which they are counted no more.
pub fn validate_text(request: &Request, policy: &Policy) -> Result<(), Failure> {
    request
        .messages
        .iter()
        .enumerate()
        .try_for_each(|(index, message)| check_chars(index, &message.content, policy))
}

fn check_chars(index: usize, content: &Content, policy: &Policy) -> Result<(), Failure> {
    let chars = match content {
        Content::Text(text) => text.chars().count(),
        Content::Parts(parts) => parts.iter().map(chars_of).sum(),
    };
    check_count(index, chars, "characters of text", policy.message_chars_max)
}

fn chars_of(part: &Part) -> usize {
    match part {
        Part::Text { text } => text.chars().count(),
        Part::ImageUrl { .. } | Part::InputAudio { .. } | Part::File { .. } => 0,
    }
}

/// An optional system turn first, then user and assistant in turn, the user last. The chat
/// templates of the served models know no other order.
fn check_roles(messages: &[Message]) -> Result<(), Failure> {
    let system = usize::from(messages[0].role == Role::System);
    for (index, message) in messages.iter().enumerate().skip(system) {
        let expected = if (index - system).is_multiple_of(2) {
            Role::User
        } else {
            Role::Assistant
        };
        if message.role == Role::System {
            return Err(invalid(format!(
                "message {index} has the role `system`, only message 0 may have it"
            )));
        }
        if message.role != expected {
            return Err(invalid(format!(
                "message {index} has the role `{}`, its turn is the role `{}`",
                message.role.as_str(),
                expected.as_str()
            )));
        }
    }
    let last = &messages[messages.len() - 1];
    if last.role != Role::User {
        return Err(invalid(format!(
            "the last message has the role `{}`, it must have the role `user`",
            last.role.as_str()
        )));
    }
    Ok(())
}

fn check_content(index: usize, content: &Content, policy: &Policy) -> Result<(), Failure> {
    let (mut images, mut says_something) = (0, false);
    match content {
        Content::Text(text) => says_something = !text.trim().is_empty(),
        Content::Parts(parts) => {
            for (position, part) in parts.iter().enumerate() {
                check_media(index, position, part, policy)?;
                match part {
                    Part::Text { text } => says_something |= !text.trim().is_empty(),
                    Part::ImageUrl { .. } => {
                        images += 1;
                        says_something = true;
                    }
                    Part::InputAudio { .. } | Part::File { .. } => says_something = true,
                }
            }
        }
    }
    if !says_something {
        return Err(invalid(format!("message {index} is empty")));
    }
    check_chars(index, content, policy)?;
    check_count(index, images, "images", policy.images_per_message_max)
}

fn check_media(index: usize, position: usize, part: &Part, policy: &Policy) -> Result<(), Failure> {
    let place = format!("part {position} of message {index}");
    match part {
        Part::Text { .. } => Ok(()),
        Part::ImageUrl { image_url } => check_image(&place, &image_url.url, policy),
        Part::InputAudio { input_audio } => check_audio(&place, input_audio, policy),
        Part::File { file } => check_document(&place, &file.file_data),
    }
}

fn check_count(index: usize, count: usize, what: &str, limit: usize) -> Result<(), Failure> {
    if count <= limit {
        return Ok(());
    }
    Err(invalid(format!(
        "message {index} has {count} {what}, the limit is {limit}"
    )))
}
