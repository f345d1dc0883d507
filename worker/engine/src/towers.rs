//! Vision towers that models of one process have in common: where the weights are the same they are loaded
//! once, and a picture that one of the models reads is encoded for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::image::View;
use crate::models::gemma3::vision::VisionTower;
use crate::sequence::Contents;

/// The soft tokens of a view, `[S, D]`.
pub(crate) type Soft = Arc<[f32]>;

/// Towers of models that are loaded, by what they compute. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Towers {
    known: Arc<Mutex<HashMap<[u8; 32], Weak<Tower>>>>,
}

impl Towers {
    /// The tower that computes what this hash names, loaded unless one of the models has it.
    pub(crate) fn get_or_load<E>(
        &self,
        computed: [u8; 32],
        load: impl FnOnce() -> Result<VisionTower, E>,
    ) -> Result<Arc<Tower>, E> {
        let mut known = lock(&self.known);
        if let Some(tower) = known.get(&computed).and_then(Weak::upgrade) {
            return Ok(tower);
        }
        let tower = Arc::new(Tower::new(load()?));
        known.retain(|_, tower| tower.strong_count() > 0);
        known.insert(computed, Arc::downgrade(&tower));
        Ok(tower)
    }
}

/// A vision tower, and where the soft tokens are that some model holds of what it encoded.
#[derive(Debug)]
pub(crate) struct Tower {
    tower: VisionTower,
    encoded: Mutex<HashMap<Contents, Weak<[f32]>>>,
}

impl Tower {
    pub(crate) fn new(tower: VisionTower) -> Self {
        Self {
            tower,
            encoded: Mutex::default(),
        }
    }

    pub(crate) fn tower(&self) -> &VisionTower {
        &self.tower
    }

    /// Soft tokens of each view, and how many views had to be encoded.
    pub(crate) fn encode(&self, views: &[&View]) -> candle_core::Result<(Vec<Soft>, usize)> {
        let known: Vec<Option<Soft>> = {
            let encoded = lock(&self.encoded);
            let known = views
                .iter()
                .map(|view| encoded.get(view.sha256())?.upgrade());
            known.collect()
        };
        let missing = views.iter().zip(&known).filter(|(_, soft)| soft.is_none());
        let missing: Vec<&View> = missing.map(|(view, _)| *view).collect();
        let made = if missing.is_empty() {
            Vec::new()
        } else {
            self.tower.encode(&missing)?
        };
        let mut made = made.into_iter().map(Soft::from);
        let soft = known
            .into_iter()
            .filter_map(|soft| soft.or_else(|| made.next()));
        let soft: Vec<Soft> = soft.collect();
        let mut encoded = lock(&self.encoded);
        encoded.retain(|_, soft| soft.strong_count() > 0);
        let held = views.iter().zip(&soft);
        encoded.extend(held.map(|(view, soft)| (*view.sha256(), Arc::downgrade(soft))));
        Ok((soft, missing.len()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
