//! The installation that `docker-compose.yml` describes is made of what there is.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use lapidary_tests::own;

use crate::boards::below_root;

fn read(path: &str) -> String {
    fs::read_to_string(below_root(path)).unwrap()
}

/// What `docker-compose` says, with every password of the example set to `secret`.
fn compose(arguments: &[&str], secret: Option<&str>) -> Output {
    let mut command = Command::new("docker-compose");
    command.args(["--file", "docker-compose.yml", "--env-file", ".env.example"]);
    command.args(arguments).current_dir(below_root(""));
    for name in passwords() {
        match secret {
            Some(secret) => command.env(name, secret),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap_or_else(|error| {
        panic!("`docker-compose` does not start ({error}): run tests/setup")
    })
}

fn passwords() -> Vec<String> {
    let example = read(".env.example");
    let names = example
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name);
    names
        .filter(|name| name.ends_with("_PASSWORD"))
        .map(str::to_owned)
        .collect()
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn the_file_is_sound_and_has_no_secrets() {
    assert_eq!(passwords().len(), 3);
    let resolved = compose(&["config"], Some("opensesame"));
    assert!(resolved.status.success(), "{}", said(&resolved));
    assert!(said(&resolved).contains("amqp://lapidary:opensesame@rabbitmq/%2f"));
    // Without them it says so, and starts nothing.
    let without = compose(&["config"], None);
    assert!(!without.status.success());
    assert!(
        said(&without).contains("set it in .env"),
        "{}",
        said(&without)
    );
}

#[test]
fn variables_are_those_of_the_example_and_of_the_programs() {
    let (file, example) = (read("docker-compose.yml"), read(".env.example"));
    let used: BTreeSet<&str> = file
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split([':', '}']).next())
        .collect();
    let written: BTreeSet<&str> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split('=').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(used, written);
    let help = |program: &str, command: &str| {
        let output = own(program).args([command, "--help"]).output().unwrap();
        said(&output)
    };
    let options = [help("lapidary", "serve"), help("lapidary-worker", "run")].concat();
    let names = file
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name);
    let ours: BTreeSet<&str> = names.filter(|name| name.starts_with("LAPIDARY_")).collect();
    assert!(ours.len() >= 4, "{ours:?}");
    for name in ours {
        assert!(
            options.contains(&format!("[env: {name}")),
            "no option reads {name}"
        );
    }
}

#[test]
fn what_is_mounted_and_copied_is_there() {
    let (file, image) = (read("docker-compose.yml"), read("Dockerfile"));
    let mounted = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next());
    let mounted: Vec<&str> = mounted.collect();
    assert!(mounted.len() >= 5, "{mounted:?}");
    for path in mounted {
        assert!(
            below_root(path).exists(),
            "{path} is mounted, and is not there"
        );
    }
    for target in file
        .lines()
        .filter_map(|line| line.split("target: ").nth(1))
    {
        let stage = format!("AS {}\n", target.trim_end_matches('}'));
        assert!(image.contains(&stage), "the Dockerfile has no {target}");
    }
    // What the images listen on is what is published, scraped and asked for its health.
    let scraped = read("dashboards/prometheus/prometheus.yml");
    for port in ["9464", "9465"] {
        assert!(
            image.contains(&format!("0.0.0.0:{port}"))
                && scraped.contains(&format!("port: {port}"))
        );
        assert!(file.contains(&format!("http://localhost:{port}/health")));
    }
    assert!(image.contains("0.0.0.0:8080") && file.contains("127.0.0.1:8080:8080"));
}

#[test]
fn services_are_bounded_healthy_local_and_documented() {
    let services = compose(&["config", "--services"], Some("x"));
    let services = String::from_utf8(services.stdout).unwrap();
    let services: BTreeSet<&str> = services.lines().collect();
    let page = read("docs/DEPLOY.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(services, rows.collect());
    let file = read("docker-compose.yml");
    let (_, file) = file.split_once("\nservices:\n").unwrap();
    let (file, _) = file.split_once("\nvolumes:\n").unwrap();
    for service in services {
        let (_, of) = file.split_once(&format!("  {service}:\n")).unwrap();
        let lines = of
            .lines()
            .take_while(|line| line.is_empty() || line.starts_with("    "));
        let of: Vec<&str> = lines.collect();
        let has = |key: &str| of.iter().any(|line| line.trim().starts_with(key));
        for key in ["mem_limit:", "healthcheck:", "image:", "volumes:"] {
            assert!(has(key), "{service} has no `{key}`");
        }
        for ports in of
            .iter()
            .filter_map(|line| line.trim().strip_prefix("ports: ["))
        {
            assert!(
                ports.starts_with("\"127.0.0.1:"),
                "{service} is open to others: {ports}"
            );
        }
    }
}
