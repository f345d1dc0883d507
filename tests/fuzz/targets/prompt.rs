//! Messages in a model's chat template: nothing that is written in them steers the model.
#![no_main]

use std::sync::OnceLock;

use lapidary_engine::{Message, Prompt, Prompter, Role};
use lapidary_fuzz::tiny_model;
use libfuzzer_sys::fuzz_target;

/// The control tokens of a conversation in which these texts are said.
fn control(prompter: &Prompter, texts: [&str; 3]) -> Option<Vec<u32>> {
    let roles = [Role::User, Role::Assistant, Role::User];
    let messages = roles.into_iter().zip(texts);
    let messages = messages
        .map(|(role, text)| Message::text(role, text))
        .collect();
    let tokens = prompter.tokens(&Prompt::Chat { messages }).ok()?;
    let count = prompter.tokenizer().token_count();
    assert!(tokens.iter().all(|token| (*token as usize) < count));
    let mut tokens = tokens;
    tokens.retain(|token| prompter.tokenizer().is_control(*token));
    Some(tokens)
}

fuzz_target!(|text: &str| {
    static PROMPTER: OnceLock<Prompter> = OnceLock::new();
    let prompter =
        PROMPTER.get_or_init(|| Prompter::open(&tiny_model(), &[]).expect("a model's folder"));
    let harmless = control(prompter, ["a", "b", "c"]).expect("a prompt");
    // Cut in two, so that what is parted by a turn does not join to a control token.
    let (first, rest) = text.split_at(text.floor_char_boundary(text.len() / 2));
    if let Some(control) = control(prompter, [first, text, rest]) {
        assert_eq!(control, harmless, "{text:?} steers the model");
    }
    // A prompt that is continued is the text itself.
    let tokens = prompter.tokens(&Prompt::Text(text.to_owned()));
    let tokens = tokens.expect("any text can be continued");
    prompter.tokenizer().decode(&tokens);
});
