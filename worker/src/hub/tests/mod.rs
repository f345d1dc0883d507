//! Models from a hub of the test's own.

mod server;

use std::fs::{self, File};
use std::path::Path;

use lapidary_engine::{Engine, EngineOptions, LoadOptions, ModelSource};
use sha2::{Digest, Sha256};

use super::*;
use crate::bundled;
use crate::hex::hex;
use server::{COMMIT, FakeHub, REPO, Seen, TOKEN, Trouble};

/// Large enough to be cut more than once on its way.
const WEIGHTS: &str = "model.safetensors";

/// A hub with the demonstration model, and an empty cache.
struct Setting {
    hub: FakeHub,
    home: tempfile::TempDir,
    limits: HubLimits,
}

impl Setting {
    async fn of(files: &[(&str, &[u8])]) -> Self {
        Self {
            hub: FakeHub::start(files).await,
            home: tempfile::tempdir().unwrap(),
            limits: HubLimits {
                pause: Duration::from_millis(1),
                silence: Duration::from_secs(20),
                ..HubLimits::default()
            },
        }
    }

    async fn demonstration() -> Self {
        let model = bundled::FILES.iter().map(|file| (file.name, file.bytes));
        let readme: (&str, &[u8]) = ("README.md", b"# Pictograms");
        Self::of(&model.chain([readme]).collect::<Vec<_>>()).await
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            endpoint: self.hub.endpoint.clone(),
            token: None,
            token_file: self.home.path().join("token"),
            cache: self.home.path().join("hub"),
            offline: false,
        }
    }

    fn folder(&self) -> PathBuf {
        let name = format!("models--{}", REPO.replace('/', "--"));
        self.home.path().join("hub").join(name)
    }

    async fn fetch_as(&self, options: &HubOptions, written: &str) -> Result<Fetched, HubError> {
        let wanted = RepoRef::parse(written).unwrap();
        let hub = Hub::new(options, self.limits.clone())?;
        hub.fetch(&wanted, true).await
    }

    async fn fetch(&self) -> Result<Fetched, HubError> {
        self.fetch_as(&self.options(), REPO).await
    }

    fn incomplete(&self) -> PathBuf {
        let name = format!("{}.incomplete", weights_blob());
        self.folder().join("blobs").join(name)
    }
}

/// The weights of that model.
fn weights() -> &'static [u8] {
    let file = bundled::FILES.iter().find(|file| file.name == WEIGHTS);
    file.unwrap().bytes
}

/// What a cache keeps them under.
fn weights_blob() -> String {
    hex(&Sha256::digest(weights()))
}

fn weights_sha256(source: impl Into<ModelSource>) -> String {
    let load = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    let engine = Engine::load(source, &load, &EngineOptions::default()).unwrap();
    assert!(engine.image_spec().is_some());
    engine.model().unwrap().weights_sha256.clone()
}

/// Ranges asked for of the weights.
fn ranges(seen: &[Seen]) -> Vec<Option<&str>> {
    let weights = format!("store {WEIGHTS}");
    let asked = seen.iter().filter(|seen| seen.what == weights);
    asked.map(|seen| seen.range.as_deref()).collect()
}

#[tokio::test]
async fn a_model_is_downloaded_once_to_where_others_find_it() {
    let setting = Setting::demonstration().await;
    let options = HubOptions {
        token: Some(Token::from(TOKEN)),
        ..setting.options()
    };
    let fetched = setting.fetch_as(&options, REPO).await.unwrap();
    let snapshot = setting.folder().join("snapshots").join(COMMIT);
    assert_eq!(
        (fetched.path.as_path(), &fetched.mmproj),
        (snapshot.as_path(), &None)
    );
    assert_eq!(
        weights_sha256(&fetched.path),
        weights_sha256(bundled::FILES)
    );

    let link = fs::read_link(snapshot.join(WEIGHTS)).unwrap();
    let blob = Path::new("../../blobs").join(weights_blob());
    assert_eq!(link, blob);
    let newest = fs::read_to_string(setting.folder().join("refs/main")).unwrap();
    assert_eq!(newest, COMMIT);
    assert!(!snapshot.join("README.md").exists());

    // The hub knows who asks, and the server that it leads to does not.
    let seen = setting.hub.seen();
    assert!(
        seen.iter()
            .any(|seen| seen.what == format!("store {WEIGHTS}"))
    );
    for seen in &seen {
        assert_eq!(seen.authorized, seen.what.starts_with("hub "), "{seen:?}");
    }
    assert_eq!(setting.fetch_as(&options, REPO).await.unwrap(), fetched);
    let seen = setting.hub.seen();
    assert_eq!(seen.len(), 1, "only what there is was asked: {seen:?}");
}

#[tokio::test]
async fn the_token_may_be_in_a_file_and_is_in_no_log() {
    let setting = Setting::demonstration().await;
    fs::write(setting.home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    setting.fetch().await.unwrap();
    assert!(setting.hub.seen()[0].authorized);
    let options = HubOptions {
        token: Some(Token::from(TOKEN)),
        ..setting.options()
    };
    let shown = format!("{options:?} {:?}", options.bearer().unwrap());
    assert!(!shown.contains(TOKEN), "{shown}");
    let broken = HubOptions {
        token: Some(Token::from("a\nb")),
        ..setting.options()
    };
    let error = setting.fetch_as(&broken, REPO).await.unwrap_err();
    assert!(matches!(error, HubError::Token), "{error}");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let mut setting = Setting::demonstration().await;
    setting.hub.trouble(Trouble {
        cuts: [1_000_000, 0, 2_000_000].into(),
        ..Trouble::default()
    });
    let fetched = setting.fetch().await.unwrap();
    let expected = [
        None,
        Some("bytes=1000000-"),
        Some("bytes=1000000-"),
        Some("bytes=3000000-"),
    ];
    assert_eq!(ranges(&setting.hub.seen()), expected);
    let whole = weights_sha256(bundled::FILES);
    assert_eq!(weights_sha256(&fetched.path), whole);

    // In another run, too; and from the beginning where the server knows no ranges.
    for whole_only in [false, true] {
        setting.home = tempfile::tempdir().unwrap();
        setting.limits.tries_max = 1;
        setting.hub.trouble(Trouble {
            cuts: [1_000_000].into(),
            ..Trouble::default()
        });
        let error = setting.fetch().await.unwrap_err();
        assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
        assert_eq!(fs::metadata(setting.incomplete()).unwrap().len(), 1_000_000);
        assert!(!setting.folder().join("refs").exists());
        setting.hub.seen();
        setting.hub.trouble(Trouble {
            whole_only,
            ..Trouble::default()
        });
        let fetched = setting.fetch().await.unwrap();
        assert_eq!(ranges(&setting.hub.seen()), [Some("bytes=1000000-")]);
        assert_eq!(weights_sha256(&fetched.path), whole);
        assert!(!setting.incomplete().exists());
    }
}

#[tokio::test]
async fn what_is_not_what_the_hub_has_is_not_kept() {
    let setting = Setting::demonstration().await;
    setting.hub.trouble(Trouble {
        corrupt: true,
        ..Trouble::default()
    });
    let error = setting.fetch().await.unwrap_err().to_string();
    let said = format!("`{WEIGHTS}` is damaged: its SHA-256 is ");
    assert!(error.starts_with(&said), "{error}");
    assert!(error.ends_with(&weights_blob()), "{error}");
    assert!(!setting.incomplete().exists());

    // What another left there is nobody's fault here.
    setting.hub.trouble(Trouble::default());
    setting.hub.seen();
    fs::write(setting.incomplete(), [7; 1_000]).unwrap();
    let fetched = setting.fetch().await.unwrap();
    assert_eq!(ranges(&setting.hub.seen()), [Some("bytes=1000-"), None]);
    assert_eq!(
        weights_sha256(&fetched.path),
        weights_sha256(bundled::FILES)
    );
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let mut setting = Setting::demonstration().await;
    setting.limits.tries_max = 2;
    let endpoint = setting.hub.endpoint.clone();
    let address = endpoint.trim_start_matches("http://");
    let listing = |status, code| Trouble {
        listing: Some((status, code)),
        ..Trouble::default()
    };
    let content = |status, code| Trouble {
        content: Some((status, code)),
        ..Trouble::default()
    };
    let no_repo = format!(
        "there is no file or folder `{REPO}` here, and no model of that name at {endpoint}, or it is \
         private: set HF_TOKEN to a token that may read it"
    );
    let gated = format!(
        "`{REPO}` is gated: accept its terms at {endpoint}/{REPO}, and set HF_TOKEN to a token of the \
         account that did"
    );
    for (trouble, said) in [
        (listing(401, Some("RepoNotFound")), &no_repo),
        (listing(404, None), &no_repo),
        (content(401, Some("GatedRepo")), &gated),
        (content(403, None), &gated),
        (
            listing(500, None),
            &format!("{address} answered 500 Internal Server Error to the request for `{REPO}`"),
        ),
    ] {
        setting.hub.trouble(trouble);
        let error = setting.fetch().await.unwrap_err().to_string();
        assert_eq!(&error, said);
    }
    setting.hub.trouble(Trouble::default());
    let other = format!("{REPO}@no-such-branch");
    let error = setting.fetch_as(&setting.options(), &other).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("`{REPO}` has no revision `no-such-branch` at {endpoint}")
    );
    setting.hub.trouble(listing(401, None));
    let known = HubOptions {
        token: Some(Token::from("hf_old")),
        ..setting.options()
    };
    let error = setting.fetch_as(&known, REPO).await.unwrap_err();
    assert!(matches!(error, HubError::TokenRefused { .. }), "{error}");
    let nowhere = HubOptions {
        endpoint: "hub.example".to_owned(),
        ..setting.options()
    };
    let error = setting.fetch_as(&nowhere, REPO).await.unwrap_err();
    assert!(matches!(error, HubError::Endpoint { .. }), "{error}");
}

#[tokio::test]
async fn without_a_network_what_is_there_serves() {
    let mut setting = Setting::demonstration().await;
    setting.limits.tries_max = 1;
    let offline = HubOptions {
        offline: true,
        ..setting.options()
    };
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cut_off = HubOptions {
        endpoint: format!("http://{}", nobody.local_addr().unwrap()),
        ..setting.options()
    };
    drop(nobody);
    let error = setting
        .fetch_as(&offline, REPO)
        .await
        .unwrap_err()
        .to_string();
    let said = format!("HF_HUB_OFFLINE is set, and `{REPO}` is not in ");
    assert!(error.starts_with(&said), "{error}");
    let error = setting.fetch_as(&cut_off, REPO).await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");

    let branch = format!("{REPO}@refs/pr/1");
    let pinned = format!("{REPO}@{COMMIT}");
    let fetched = setting.fetch_as(&setting.options(), &branch).await.unwrap();
    setting.hub.seen();
    for options in [&offline, &cut_off] {
        for written in [&branch, &pinned] {
            assert_eq!(setting.fetch_as(options, written).await.unwrap(), fetched);
        }
        assert!(
            setting.fetch_as(options, REPO).await.is_err(),
            "`main` was never asked for"
        );
    }
    assert_eq!(setting.hub.seen(), []);

    // What is there in part only does not serve.
    fs::remove_file(setting.folder().join("blobs").join(weights_blob())).unwrap();
    let error = setting
        .fetch_as(&offline, &branch)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("has no weights in safetensors"), "{error}");
}

#[tokio::test]
async fn downloads_have_limits() {
    let mut setting = Setting::demonstration().await;
    setting.limits.file_bytes_max = 1_000_000;
    let error = setting.fetch().await.unwrap_err().to_string();
    let size = weights().len();
    let said = format!("the size of `{WEIGHTS}` of `{REPO}` is {size}, the limit is 1000000");
    assert_eq!(error, said);
    setting.limits.file_bytes_max = u64::MAX;
    setting.limits.files_max = 4;
    let error = setting.fetch().await.unwrap_err().to_string();
    let said = format!("the number of files of `{REPO}` is 5, the limit is 4");
    assert_eq!(error, said);

    setting.limits.files_max = HubLimits::default().files_max;
    setting.limits.tries_max = 1;
    setting.hub.trouble(Trouble {
        size: Some(u64::MAX),
        ..Trouble::default()
    });
    let error = setting.fetch().await.unwrap_err();
    assert!(matches!(error, HubError::NoSpace { .. }), "{error}");
    // More than was announced is no more of it.
    setting.hub.trouble(Trouble {
        size: Some(10),
        ..Trouble::default()
    });
    let error = setting.fetch().await.unwrap_err().to_string();
    assert!(
        error.ends_with("larger than the 10 bytes it should have"),
        "{error}"
    );
    setting.hub.trouble(Trouble {
        silent: true,
        ..Trouble::default()
    });
    setting.limits.silence = Duration::from_millis(200);
    let error = setting.fetch().await.unwrap_err().to_string();
    assert!(error.ends_with("timed out"), "{error}");
}

#[tokio::test]
async fn a_file_comes_with_its_vision_tower() {
    let setting = Setting::of(&[
        ("x-Q8_0.gguf", b"text"),
        ("x-BF16.gguf", b"more text"),
        ("mmproj-BF16.gguf", b"pictures"),
        ("mmproj-F16.gguf", b"more pictures"),
    ])
    .await;
    let written = format!("{REPO}/x-Q8_0.gguf");
    let fetched = setting
        .fetch_as(&setting.options(), &written)
        .await
        .unwrap();
    let snapshot = setting.folder().join("snapshots").join(COMMIT);
    assert_eq!(fetched.path, snapshot.join("x-Q8_0.gguf"));
    assert_eq!(fetched.mmproj, Some(snapshot.join("mmproj-F16.gguf")));
    assert_eq!(fs::read_dir(&snapshot).unwrap().count(), 2);
    let error = setting.fetch().await.unwrap_err().to_string();
    let said =
        format!("`{REPO}` has no config.json; it has `{REPO}/x-BF16.gguf`, `{REPO}/x-Q8_0.gguf`");
    assert_eq!(error, said);
}

#[tokio::test]
async fn one_program_downloads_and_others_wait() {
    let mut setting = Setting::demonstration().await;
    let locks = setting.home.path().join("hub/.locks");
    let locks = locks.join(setting.folder().file_name().unwrap());
    fs::create_dir_all(&locks).unwrap();
    let path = locks.join(format!("{}.lock", weights_blob()));
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    setting.limits.lock_silence = Duration::from_millis(10);
    let error = setting.fetch().await.unwrap_err();
    assert!(
        matches!(&error, HubError::Locked { lock, .. } if *lock == path),
        "{error}"
    );

    setting.limits.lock_silence = Duration::from_mins(1);
    setting.hub.seen();
    let mut waiting = std::pin::pin!(setting.fetch());
    let asked = |seen: &[Seen]| ranges(seen).len();
    // It has asked what there is, and cannot go on.
    while setting.hub.seen().is_empty() {
        assert!(futures::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
    }
    held.unlock().unwrap();
    waiting.await.unwrap();
    assert_eq!(asked(&setting.hub.seen()), 1);
}
