//! Documents and archives as `lapidary caption` reads them.

use std::sync::OnceLock;

use lapidary_producer::sources::{self, Document, Pdf, Root, Wanted};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shows what is read of a file of this ending to `look`, one at a time: as many as are in memory at once
/// in the product.
pub fn documents(ending: &str, bytes: &[u8], mut look: impl FnMut(Document)) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).build();
        runtime.expect("a runtime")
    });
    let root = Root::File(crate::file(&format!("fuzzed.{ending}"), bytes));
    let wanted = Wanted {
        texts: false,
        pdf: Pdf::Pages,
    };
    runtime.block_on(async {
        let tasks = TaskTracker::new();
        let (mut documents, _) =
            sources::start(vec![root], wanted, &tasks, &CancellationToken::new());
        while let Some(document) = documents.recv().await {
            look(document);
        }
        tasks.close();
        tasks.wait().await;
    });
}
