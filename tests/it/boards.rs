//! What operators look at is about what the programs export: rules, their tests, boards, runbooks.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lapidary_schemas::metrics::{ALL, Kind};
use serde_json::Value;

/// The boards, by the names of their files.
const BOARDS: [&str; 6] = ["engine", "filter", "latency", "overview", "queue", "worker"];

pub(crate) fn below_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    let path = below_root(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a key of a YAML file in which each stands on a line.
fn named(yaml: &str, key: &str) -> Vec<String> {
    let key = format!("- {key}: ");
    let lines = yaml
        .lines()
        .filter_map(|line| line.trim().strip_prefix(&key));
    lines.map(|name| name.trim().to_owned()).collect()
}

/// The names of all alerts.
pub(crate) fn alerts() -> Vec<String> {
    named(&read("dashboards/prometheus/rules/alerts.yml"), "alert")
}

/// A panel of a board: what it is called, and its expressions.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) expressions: Vec<String>,
    json: Value,
}

/// The panels of all boards.
pub(crate) fn panels() -> Vec<Panel> {
    let mut panels = Vec::new();
    for name in BOARDS {
        let board = read(&format!("dashboards/grafana/boards/{name}.json"));
        let board: Value = serde_json::from_str(&board).unwrap();
        for json in board["panels"].as_array().unwrap() {
            let expression = |target: &Value| target["expr"].as_str().unwrap().to_owned();
            panels.push(Panel {
                title: format!("{name}: {}", json["title"].as_str().unwrap()),
                expressions: json["targets"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(expression)
                    .collect(),
                json: json.clone(),
            });
        }
    }
    panels
}

/// The words of a text that name series of ours.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_part(c));
    let ours = ["lapidary_", "lapidary:", "instance:"];
    words
        .filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// The names of all series that there are: of the table's metrics, and of the rules' records.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for metric in ALL {
        if matches!(metric.kind, Kind::Histogram(_)) {
            for part in ["_bucket", "_sum", "_count"] {
                known.insert(format!("{}{part}", metric.name));
            }
        } else {
            known.insert(metric.name.to_owned());
        }
    }
    for file in ["thresholds", "recording"] {
        let rules = read(&format!("dashboards/prometheus/rules/{file}.yml"));
        known.extend(named(&rules, "record"));
    }
    known
}

/// Runs a program of Prometheus or of the repository, which ends well.
fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(below_root(""))
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "`{}` does not start ({error}): run tests/setup",
                program.display()
            )
        });
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn rules_are_sound_and_fire_when_they_should() {
    let promtool = Path::new("promtool");
    run(
        promtool,
        &["check", "config", "dashboards/prometheus/prometheus.yml"],
    );
    let tests =
        ["limits", "conditions"].map(|file| format!("dashboards/prometheus/tests/{file}.yml"));
    run(promtool, &["test", "rules", &tests[0], &tests[1]]);
}

#[test]
fn every_alert_has_a_test_and_a_runbook() {
    let tests = ["limits", "conditions"]
        .map(|file| read(&format!("dashboards/prometheus/tests/{file}.yml")));
    let (tests, operating) = (tests.concat(), read("docs/OPERATING.md"));
    let rules = read("dashboards/prometheus/rules/alerts.yml");
    let sections = operating
        .lines()
        .filter_map(|line| line.strip_prefix("### "));
    let sections: Vec<&str> = sections
        .filter(|name| name.starts_with("Lapidary"))
        .collect();
    assert_eq!(
        sections,
        alerts(),
        "sections of docs/OPERATING.md, in the order of alerts.yml"
    );
    for alert in alerts() {
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tests.contains(&fires), "no test makes {alert} fire");
        let runbook = format!("runbook: docs/OPERATING.md#{}\n", alert.to_lowercase());
        assert!(
            rules.contains(&runbook),
            "{alert} does not lead to its section"
        );
    }
}

#[test]
fn rules_name_only_what_is_exported() {
    let known = known();
    for file in ["recording", "alerts"] {
        let rules = read(&format!("dashboards/prometheus/rules/{file}.yml"));
        // Names of groups are no series.
        let expressions = rules
            .lines()
            .filter(|line| !line.trim().starts_with("- name:"));
        let text: Vec<&str> = expressions.collect();
        for name in names(&text.join("\n")) {
            assert!(
                known.contains(&name),
                "{file}.yml names {name}, which nobody exports"
            );
        }
    }
}

#[test]
fn what_scales_workers_goes_by_what_is_exported() {
    let (known, page) = (known(), read("docs/DEPLOY.md"));
    let queries = page
        .lines()
        .filter_map(|line| line.trim().strip_prefix("query: "));
    let mut count = 0;
    for query in queries {
        let names = names(query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(known.contains(&name), "nobody exports {name}: {query}");
        }
        // A rule of it parses if the expression does.
        let rule = format!("groups: [{{name: t, rules: [{{record: t, expr: '{query}'}}]}}]");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(rule.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        run(Path::new("promtool"), &["check", "rules", path]);
        count += 1;
    }
    assert!(count >= 2, "{count} queries");
}

#[test]
fn boards_are_those_of_their_program() {
    run(&below_root("dashboards/grafana/make.py"), &["--check"]);
    let folder = fs::read_dir(below_root("dashboards/grafana/boards")).unwrap();
    let there: BTreeSet<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, BOARDS.map(|name| format!("{name}.json")).into());
}

#[test]
fn panels_say_what_they_show_and_name_only_what_is_exported() {
    let known = known();
    let panels = panels();
    assert!(panels.len() > 50, "{} panels", panels.len());
    for Panel {
        title,
        expressions,
        json,
    } in panels
    {
        let about = json["description"].as_str().unwrap();
        assert!(about.ends_with('.'), "{title} is described by `{about}`");
        let unit = [
            &json["fieldConfig"]["defaults"]["unit"],
            &json["options"]["yAxis"]["unit"],
        ];
        assert!(
            unit.iter().any(|unit| unit.is_string()),
            "{title} has no unit"
        );
        assert_eq!(json["datasource"]["uid"], "${datasource}", "{title}");
        for expression in expressions {
            for name in names(&expression) {
                assert!(
                    known.contains(&name),
                    "{title} names {name}, which nobody exports"
                );
                let counts = name.ends_with("_total") || name.ends_with("_bucket");
                let rated = expression.contains(&format!("rate({name}{{"));
                assert!(!counts || rated, "{title} shows {name} since the start");
                assert!(
                    !rated || expression.contains("[$__rate_interval]"),
                    "{title}: {expression}"
                );
            }
        }
    }
}
