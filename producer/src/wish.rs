//! What the options say of the prompts.

use std::path::PathBuf;

use crate::cli::{Caption, TemplateArgs};
use crate::exit::Stop;
use crate::prompt::{Template, Wish};
use crate::templates::{self, Named, Notes, read_prompt};

/// What the user says of the prompts.
pub fn wish(args: &Caption) -> Result<Wish, Stop> {
    Ok(Wish {
        template: template(args)?,
        combine: combine_prompt(args)?,
        notes: Notes::new(args.context.as_deref(), &args.audience, args.tone),
    })
}

/// The user's own prompt, or the template that the user names.
fn template(args: &Caption) -> Result<Option<Named>, Stop> {
    if let Some(name) = &args.template {
        let folder = template_folder(&args.templates);
        return templates::find(name, folder.as_deref()).map(Some);
    }
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => read_prompt(file)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(Named::own(prompt)))
}

/// The folder of the user's own templates, if there is one. A folder that was named must exist.
pub fn template_folder(args: &TemplateArgs) -> Option<PathBuf> {
    if args.template_dir.is_some() {
        return args.template_dir.clone();
    }
    let config = args
        .config_home
        .clone()
        .filter(|config| config.is_absolute());
    let config = config.or_else(|| Some(std::env::home_dir()?.join(".config")))?;
    let folder = config.join("lapidary/templates");
    folder.is_dir().then_some(folder)
}

/// The user's own prompt for combining captions, if any.
fn combine_prompt(args: &Caption) -> Result<Option<Template>, Stop> {
    let Some(prompt) = args.combine_prompt.clone().map(Template::new) else {
        return Ok(None);
    };
    prompt
        .for_text()
        .map_err(|reason| Stop::usage(format!("--combine-prompt: {reason}")))?;
    Ok(Some(prompt))
}
