//! Judges' prompts: does a text, or a picture, break a rule? Yes or No.
//!
//! A judge's own chat template makes them, where the model is a judge: `ShieldGemma`'s takes the rule as
//! `guideline`, `ShieldGemma` 2's as the text beside the picture, which it puts between marks of its own.
//! Other models get the same words. Sources: <https://arxiv.org/abs/2407.21772>, and the template that
//! `transformers` `models/shieldgemma2` ships.

use std::sync::{Arc, LazyLock};

use super::{ChatTemplate, Context, Message, Part, Prepared, PromptError, Prompter, Role};
use crate::batch::TokenId;
use crate::image::Image;

/// What is judged.
#[derive(Debug, Clone)]
pub enum Judged {
    /// What somebody asks.
    Question(String),
    /// What somebody is answered.
    Answer {
        /// To what.
        question: String,
        /// With what.
        answer: String,
    },
    /// A picture; the whole of it, without crops.
    Picture(Arc<Image>),
}

/// Of what a picture's rule stands between in the template of a judge of pictures.
const PICTURE_MARK: &str = "SAFETY_POLICY";

static TEXT: LazyLock<ChatTemplate> = LazyLock::new(|| built_in(include_str!("judge_text.jinja")));
static PICTURE: LazyLock<ChatTemplate> =
    LazyLock::new(|| built_in(include_str!("judge_picture.jinja")));

fn built_in(source: &str) -> ChatTemplate {
    ChatTemplate::new(source).expect("it is part of the program, and compiled by every test")
}

impl Prompter {
    /// The prompt that asks whether `judged` breaks `rule`; the answer begins with one of
    /// [`Prompter::yes_and_no`]. All prompts about the same thing begin alike. CPU-bound.
    pub fn judgement(&self, judged: &Judged, rule: &str) -> Result<Prepared, PromptError> {
        let said = |role, text: &String| Message::text(role, text.clone());
        match judged {
            Judged::Question(question) => self.judge_text(&[said(Role::User, question)], rule),
            Judged::Answer { question, answer } => {
                let turns = [said(Role::User, question), said(Role::Assistant, answer)];
                self.judge_text(&turns, rule)
            }
            Judged::Picture(image) => {
                let own = self.template.as_ref().filter(|own| judges_pictures(own));
                let parts = vec![
                    Part::Image(Arc::new(image.whole())),
                    Part::Text(rule.to_owned()),
                ];
                let message = Message {
                    role: Role::User,
                    parts,
                };
                self.prepare_in(own.unwrap_or(&PICTURE), &[message], None)
            }
        }
    }

    fn judge_text(&self, turns: &[Message], rule: &str) -> Result<Prepared, PromptError> {
        let own = self.template.as_ref().filter(|own| own.takes_guideline());
        self.prepare_in(own.unwrap_or(&TEXT), turns, Some(rule))
    }

    /// The tokens that a judge's answer begins with; `None` for a model that has no such tokens.
    pub fn yes_and_no(&self) -> Option<[TokenId; 2]> {
        Some([self.tokenizer.id("Yes")?, self.tokenizer.id("No")?])
    }
}

/// Whether a template puts what is asked of a picture between a judge's marks.
fn judges_pictures(template: &ChatTemplate) -> bool {
    let parts = vec![Part::Text("a".to_owned()), Part::Text("b".to_owned())];
    let role = Role::User;
    let rendered = template.render(&[Message { role, parts }], &Context::default());
    rendered.is_ok_and(|text| text.contains(PICTURE_MARK))
}
