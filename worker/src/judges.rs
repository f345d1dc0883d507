//! Loads the models that judge for a policy: those that are named, or the served one.

use lapidary_engine::{Engine, EngineError, EngineOptions, LoadOptions};

use crate::filter::{Filters, Judge, Judges, UnfitJudge};
use crate::hub::HubOptions;
use crate::model::{ModelError, ModelRef};

/// Models that judge, where they are not the served one.
#[derive(Debug, Clone, Default)]
pub struct JudgeModels {
    /// Texts.
    pub texts: Option<ModelRef>,
    /// Pictures.
    pub pictures: Option<ModelRef>,
}

/// How models are loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loading<'a> {
    /// How the engine loads them.
    pub load: &'a LoadOptions,
    /// Where they come from, if they are on the hub.
    pub hub: &'a HubOptions,
    /// Bounds of each engine.
    pub engine: &'a EngineOptions,
}

/// Why a policy has no judges.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A detector asks a model, and there is none.
    #[error("`{detector}` of the policy asks a model: name one with {option}")]
    Unnamed {
        /// The detector.
        detector: String,
        /// The option that names one.
        option: &'static str,
    },
    /// A model is named that no detector asks.
    #[error(
        "{option} names a model, and no detector of the policy `{policy}` is of the kind `{kind}`"
    )]
    Unasked {
        /// The option.
        option: &'static str,
        /// The policy.
        policy: String,
        /// The kind of detectors that would ask it.
        kind: &'static str,
    },
    /// Its files are not there.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It was not loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It cannot judge.
    #[error("the model of {option} cannot judge: {unfit}")]
    Unfit {
        /// The option that names it, or would.
        option: &'static str,
        /// Why.
        unfit: UnfitJudge,
    },
}

/// The option that names the model that judges texts.
const TEXTS: &str = "--judge";
/// The option that names the model that judges pictures.
const PICTURES: &str = "--judge-images";

impl JudgeModels {
    /// Refuses a model that nobody would ask.
    pub fn check(&self, filters: &Filters) -> Result<(), JudgeError> {
        for (model, asked, option, kind) in [
            (&self.texts, filters.judge_of_texts(), TEXTS, "judge"),
            (
                &self.pictures,
                filters.judge_of_pictures(),
                PICTURES,
                "judge_image",
            ),
        ] {
            if model.is_some() && asked.is_none() {
                let policy = filters.policy().0.to_owned();
                return Err(JudgeError::Unasked {
                    option,
                    policy,
                    kind,
                });
            }
        }
        Ok(())
    }

    /// Loads what the policy asks. `served`: the model that the worker serves, which judges where no
    /// other is named. Takes as long as that takes.
    pub fn load(
        &self,
        filters: Filters,
        served: Option<&Engine>,
        loading: Loading<'_>,
    ) -> Result<Filters, JudgeError> {
        self.check(&filters)?;
        let own = |model: &Option<ModelRef>| -> Result<Option<Engine>, JudgeError> {
            match model {
                Some(model) => Ok(Some(loading.engine(model)?)),
                None => Ok(served.cloned()),
            }
        };
        let mut judges = Judges::default();
        let mut texts = None;
        if let Some(detector) = filters.judge_of_texts() {
            texts = own(&self.texts)?;
            let engine = texts.clone().ok_or_else(|| unnamed(detector, TEXTS))?;
            let judge = Judge::new(engine).map_err(|unfit| JudgeError::Unfit {
                option: TEXTS,
                unfit,
            })?;
            judges.texts = Some(judge);
        }
        // A model that reads text only is never shown a picture.
        let seen = served.is_none_or(|served| served.image_spec().is_some());
        if let Some(detector) = filters.judge_of_pictures().filter(|_| seen) {
            let same = self.pictures.is_some() && self.pictures == self.texts;
            let engine = match texts.filter(|_| same) {
                Some(engine) => Some(engine),
                None => own(&self.pictures)?,
            };
            let engine = engine.ok_or_else(|| unnamed(detector, PICTURES))?;
            let spec = served.unwrap_or(&engine).image_spec();
            let side = spec.map_or(0, |spec| spec.side);
            let judge = Judge::of_pictures(engine, side).map_err(|unfit| JudgeError::Unfit {
                option: PICTURES,
                unfit,
            })?;
            judges.pictures = Some(judge);
        }
        Ok(filters.with_judges(judges))
    }
}

impl Loading<'_> {
    fn engine(&self, model: &ModelRef) -> Result<Engine, JudgeError> {
        let (source, load) = model.files(self.load.clone(), self.hub)?;
        Ok(Engine::load(source, &load, self.engine)?)
    }
}

fn unnamed(detector: &str, option: &'static str) -> JudgeError {
    JudgeError::Unnamed {
        detector: detector.to_owned(),
        option,
    }
}
