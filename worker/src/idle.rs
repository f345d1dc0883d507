//! Notices that there is nothing to do for this model, and that nothing will come by itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lapidary_schemas::{BatchId, Class};
use lapidary_transport::results::ResultsError;
use lapidary_transport::{Lane, Queue, Results};

use crate::line::Line;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);
/// Open batches it looks at; with more than that there is work for long.
const BATCHES_MAX: usize = 1_000;

/// Waits until there has been no job under way or waiting and no open batch for this model for
/// `idle_max`. What cannot be asked counts as work.
pub(crate) async fn idle(line: &Line, idle_max: Duration) {
    let mut models = HashMap::new();
    let mut last_work = Instant::now();
    let mut received = line.running.entered();
    let mut ticks = tokio::time::interval(LOOK.min(idle_max.max(Duration::from_millis(50))));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let entered = line.running.entered();
        let worked = entered != received || line.running.count() > 0;
        received = entered;
        if worked || jobs_wait(line).await || !batches_ended(line, &mut models).await {
            last_work = Instant::now();
        } else if last_work.elapsed() >= idle_max {
            return;
        }
    }
}

async fn jobs_wait(line: &Line) -> bool {
    for class in Class::ALL {
        let source = Lane::Jobs {
            model: line.model.name.clone(),
            class,
        };
        if !matches!(line.stores.queue.depth(&source).await, Ok(0)) {
            return true;
        }
    }
    false
}

async fn batches_ended(line: &Line, models: &mut HashMap<BatchId, String>) -> bool {
    open_models(line, models).await.is_ok_and(|open| !open)
}

/// Whether a batch for this model is open. `models`: the models of batches seen before.
async fn open_models(
    line: &Line,
    models: &mut HashMap<BatchId, String>,
) -> Result<bool, ResultsError> {
    let open = line.stores.results.open_batches(BATCHES_MAX).await?;
    models.retain(|batch, _| open.contains(batch));
    for batch in open {
        if !models.contains_key(&batch)
            && let Some(record) = line.stores.results.batch(batch).await?
        {
            models.insert(batch, record.model);
        }
        if models.get(&batch) == Some(&line.model.name) {
            return Ok(true);
        }
    }
    Ok(false)
}
